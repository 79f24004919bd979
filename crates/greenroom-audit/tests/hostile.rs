//! Clients of the audit at servers that read nothing, never stop, or say more than is usual: each client ends by its times
//! and within its bounds, and a bound of the audit's own is no fault of the server's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_audit::audit::client::{Visit, visit};
use greenroom_audit::audit::judge::{Outcome, Patience, judge};
use greenroom_audit::audit::record::{ClientRecord, Ending, Stage};
use greenroom_audit::audit::target::{Expect, Target, Words};
use greenroom_audit::limits;
use greenroom_core::wire::{Data, message};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_millis(600);

/// Reads an opening request, and gives the 101 for it, with `more` fields.
async fn opened(stream: &mut TcpStream, more: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await.unwrap();
    }
    let head = String::from_utf8(head).unwrap();
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{more}\r\n",
        BASE64.encode(hash)
    )
}

/// One client at a server that does this with its connection.
async fn meet<F, S>(words: Words, serve: F) -> (ClientRecord, Duration)
where
    F: FnOnce(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    meet_and_expect(Expect::Echo, words, serve).await
}

async fn meet_and_expect<F, S>(expect: Expect, words: Words, serve: F) -> (ClientRecord, Duration)
where
    F: FnOnce(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    // More than both sockets hold, where messages are long.
    let count = if words.bytes().len() < 1_000 {
        3
    } else {
        limits::AUDIT_MESSAGES
    };
    let client = Visit {
        target: Target::parse("ws://127.0.0.1:{port}/ws?a=b").unwrap(),
        port: address.port(),
        words,
        expect,
        run: 0,
        sends: (0..count as u64).map(Duration::from_millis).collect(),
        patience: PATIENCE,
        linger: Duration::from_millis(100),
    };
    let began = Instant::now();
    let visiting = timeout(3 * SLACK, visit(&client, 0, |_| {}));
    let record = visiting.await.expect("a client that never ends");
    let took = began.elapsed();
    server.abort();
    (record, took)
}

fn outcome(record: &ClientRecord) -> Outcome {
    let patience = Patience {
        whole_ns: 600_000_000,
        answer_ns: 300_000_000,
        late_ns: 1_000_000_000,
        answers: true,
    };
    judge(record, patience)
}

/// What a busy machine may add to times of a second.
const SLACK: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_to_a_server_that_reads_nothing_ends_by_its_patience() {
    let words = Words::new(vec![b'a'; 900_000]);
    let (record, took) = meet(words, |mut stream| async move {
        let head = opened(&mut stream, "").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(record.ending, Ending::TimedOut(Stage::Open), "{took:?}");
    assert!(took < SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_flooded_ends_by_its_times_or_its_bounds() {
    let pings = [[0x89, 0]; 32 * 1024].concat();
    let texts = [[0x81, 0]; 32 * 1024].concat();
    let mut pieces = vec![0x01, 0];
    pieces.resize(64 * 1024, 0); // a message that goes on for ever in empty pieces
    for flood in [pings, texts, pieces] {
        let kind = flood[0];
        let (record, took) = meet(Words::default(), move |mut stream| async move {
            let head = opened(&mut stream, "").await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut first = true;
            while stream
                .write_all(if first || kind != 1 { &flood } else { &flood[2..] })
                .await
                .is_ok()
            {
                first = false;
            }
        })
        .await;
        let ended = matches!(record.ending, Ending::Failed(_) | Ending::TimedOut(Stage::Open));
        assert!(ended && took < SLACK, "{kind:#x}: {:?} {took:?}", record.ending);
        // Its patience, or a bound of ours, whichever is met first.
        let concluded = if matches!(record.ending, Ending::Failed(_)) {
            Outcome::Unknown
        } else {
            Outcome::Unanswered
        };
        assert_eq!(outcome(&record), concluded, "{kind:#x}: {:?}", record.ending);
    }
}

/// It writes back what it has read before it reads on: whoever speaks without listening never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_while_it_speaks_is_answered_by_a_server_that_writes_before_it_reads_on() {
    let (record, _) = meet(Words::new(vec![b'b'; 1_000_000]), |mut stream| async move {
        let head = opened(&mut stream, "").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        message(Data::Text, &vec![b'x'; 3_000_000], &mut answer);
        stream.write_all(&answer).await.unwrap(); // more than both sockets hold
        let mut bytes = vec![0; 64 * 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    assert!(record.others == 1 && record.messages.len() >= 3, "{:?}", record.ending);
}

#[tokio::test]
async fn a_greeting_of_two_megabytes_many_fields_and_an_interim_answer_are_no_fault() {
    let fields = (0..70).map(|n| format!("X-Field-{n}: {n}\r\n")).collect::<String>();
    let (record, _) = meet(Words::new(b"hello".to_vec()), move |mut stream| async move {
        let head = opened(&mut stream, &fields).await;
        let mut answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
        answer.extend_from_slice(head.as_bytes());
        message(Data::Text, &vec![b'x'; 2_000_000], &mut answer);
        for _ in 0..3 {
            message(Data::Text, b"hello", &mut answer);
        }
        stream.write_all(&answer).await.unwrap();
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    assert_eq!(record.ending, Ending::Done);
    // The greeting, and what may have come before anything was sent.
    assert!((1..=4).contains(&record.others), "{}", record.others);
}

#[tokio::test]
async fn a_bound_of_the_audits_own_is_told_as_such_and_a_broken_protocol_as_that() {
    let long = limits::AUDIT_ANSWER_MAX + 1;
    let (record, _) = meet(Words::default(), move |mut stream| async move {
        let head = opened(&mut stream, "").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        message(Data::Text, &vec![b'x'; long], &mut answer);
        let _ = stream.write_all(&answer).await;
    })
    .await;
    let Ending::Failed(why) = &record.ending else {
        panic!("{:?}", record.ending)
    };
    assert!(why.contains(&long.to_string()), "{why}");
    assert_eq!(outcome(&record), Outcome::Unknown);
    for (answer, ours) in [
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n".to_owned(), false),
        ("SSH-2.0-OpenSSH\r\n\r\n".into(), false),
        (format!("HTTP/1.1 101 x\r\n{}\r\n", "X-Field: 1\r\n".repeat(101)), true),
        (format!("HTTP/1.1 101 x\r\nX: {}\r\n\r\n", "x".repeat(20_000)), true),
        ("HTTP/1.1 103 x\r\n\r\n".repeat(9), true),
    ] {
        let shown = answer.chars().take(60).collect::<String>();
        let (record, _) = meet(Words::default(), move |mut stream| async move {
            opened(&mut stream, "").await;
            let _ = stream.write_all(answer.as_bytes()).await;
            std::future::pending::<()>().await;
        })
        .await;
        match &record.ending {
            Ending::Failed(why) => assert!(ours && !why.is_empty(), "{shown}: {why}"),
            Ending::Broken(why) => assert!(!ours && !why.is_empty(), "{shown}: {why}"),
            other => panic!("{shown}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_reason_to_close_is_text_of_others() {
    let (record, _) = meet(Words::default(), |mut stream| async move {
        let head = opened(&mut stream, "").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let reason = "::error::\u{202e}x";
        let length = u8::try_from(reason.len() + 2).unwrap();
        let frame = [&[0x88, length, 0x03, 0xf3], reason.as_bytes()].concat(); // 1011
        stream.write_all(&frame).await.unwrap();
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let Ending::Closed {
        code: Some(1011),
        reason,
    } = &record.ending
    else {
        panic!("{:?}", record.ending)
    };
    assert_eq!(reason, ": :error::\u{fffd}x");
}

#[tokio::test]
async fn who_has_no_end_of_an_answer_to_its_handshake_ends_by_its_patience() {
    for beginning in ["", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Sw"] {
        let (record, took) = meet(Words::default(), move |mut stream| async move {
            opened(&mut stream, "").await;
            stream.write_all(beginning.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        assert_eq!(record.ending, Ending::TimedOut(Stage::Opening), "{beginning}");
        assert!((PATIENCE..SLACK).contains(&took), "{took:?}");
        assert_eq!(outcome(&record), Outcome::Hung, "{beginning}");
    }
}

#[tokio::test]
async fn a_greeting_is_an_answer_where_any_message_is() {
    let greets = |mut stream: TcpStream| async move {
        let mut bytes = opened(&mut stream, "").await.into_bytes();
        // Three, one for each message, before anything is said.
        bytes.extend([0x81, 2, b'h', b'i'].repeat(3));
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok();
    };
    let (record, _) = meet_and_expect(Expect::Any, Words::default(), greets).await;
    assert_eq!((&record.ending, record.messages.len()), (&Ending::Done, 3));
    assert!(
        record.messages.iter().all(|sent| sent.answered_at.is_some()),
        "{record:?}"
    );
}
