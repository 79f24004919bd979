//! `tcp`, `http` and `websocket` against servers that answer well, badly, much
//! too much, or not at all; and how `watch` looks at them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use greenroom::config::Address;
use greenroom::head::Nonsense;
use greenroom::probe::{Of, Probe, Verdict, Why, watch};
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Notify, Semaphore, mpsc};

const UP: Verdict = Verdict::Up;

fn at(address: SocketAddr) -> Address {
    address.to_string().parse().unwrap()
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends");
    }
    String::from_utf8(request).unwrap()
}

/// A server that answers every request with these bytes and then closes.
async fn answering(answer: impl Into<Vec<u8>>) -> (Address, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = at(listener.local_addr().unwrap());
    let (answer, count) = (answer.into(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            read_request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    (address, count)
}

async fn http_verdict(answer: impl Into<Vec<u8>>) -> Verdict {
    let (address, _) = answering(answer).await;
    Probe::http(&address, "/health", None).once().await
}

#[tokio::test]
async fn http_is_up_from_200_to_399_and_down_else() {
    for (status, verdict) in [
        (200, UP),
        (204, UP),
        (399, UP),
        (400, Verdict::Down(Why::Status(400))),
        (404, Verdict::Down(Why::Status(404))),
        (500, Verdict::Down(Why::Status(500))),
        (503, Verdict::Down(Why::Status(503))),
        (101, Verdict::Down(Why::Head(Nonsense::NotAsked))),
    ] {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(http_verdict(answer).await, verdict, "{status}");
    }
    assert_eq!(http_verdict("HTTP/1.0 200 OK\r\n\r\n").await, UP);
}

/// Node and Vite listen on `::1` alone where `localhost` is that first.
#[tokio::test]
async fn localhost_is_looked_at_in_both_families() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // a machine without IPv6
    };
    let port = listener.local_addr().unwrap().port();
    let address: Address = format!("localhost:{port}").parse().unwrap();
    for ready in ["tcp", "listen"] {
        let mut probe = Probe::for_ready(&ready.parse().unwrap(), &address, Of::Anyone).unwrap();
        assert_eq!(probe.once().await, UP, "{ready}");
    }
}

#[tokio::test]
async fn a_redirect_is_up_and_not_followed() {
    let (other, asked) = answering("HTTP/1.1 503 X\r\n\r\n").await;
    let (address, count) = answering(format!("HTTP/1.1 302 Found\r\nLocation: http://{other}/\r\n\r\n")).await;
    assert_eq!(Probe::http(&address, "/", None).once().await, UP);
    assert_eq!((count.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn interim_answers_are_passed_over_in_bounds() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(http_verdict(interim.repeat(8) + last).await, UP);
    let nine = http_verdict(interim.repeat(9) + last).await;
    assert_eq!(nine, Verdict::Down(Why::Nonsense("too many interim answers")));
}

#[tokio::test]
async fn what_is_no_answer_is_down() {
    assert_eq!(http_verdict("").await, Verdict::Down(Why::NoAnswer));
    assert_eq!(
        http_verdict("HTTP/1.1 200 OK\r\nA: b\r\n").await,
        Verdict::Down(Why::NoAnswer)
    );
    for (odd, nonsense) in [
        ("SSH-2.0-x\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/1.1 2x0 OK\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/2 200\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/1.1 200 OK\r\nA b\r\n\r\n", Nonsense::Malformed),
    ] {
        assert_eq!(http_verdict(odd).await, Verdict::Down(Why::Head(nonsense)), "{odd}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(http_verdict(long).await, Verdict::Down(Why::Head(Nonsense::TooLong)));
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = Probe::http(&at(listener.local_addr().unwrap()), "/", None);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut sent = 0;
        while let Ok(more) = stream.write(&[b'x'; 65536]).await {
            sent += more;
        }
        sent // ends only when the probe closes
    };
    let (verdict, sent) = tokio::join!(probe.once(), server);
    assert_eq!(verdict, UP);
    assert!(sent < 32 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn the_request_says_who_asks_and_for_what() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = at(listener.local_addr().unwrap());
    for (given, host) in [
        (None, address.to_string()),
        (Some("app.example"), "app.example".to_owned()),
    ] {
        let mut probe = Probe::http(&address, "/health?x=1", given);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            request
        };
        let (_, request) = tokio::join!(probe.once(), server);
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{request}");
        for field in [
            format!("Host: {host}"),
            "User-Agent: greenroom-probe".into(),
            "Connection: close".into(),
        ] {
            assert!(request.contains(&format!("\r\n{field}\r\n")), "{field} in {request}");
        }
    }
}

/// Waits out the real limit, for all kinds side by side.
#[tokio::test]
async fn a_server_that_hangs_is_down_within_the_probe_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap(); // the kernel accepts, nobody answers
    let address = at(listener.local_addr().unwrap());
    let began = std::time::Instant::now();
    let (mut http, mut websocket) = (Probe::http(&address, "/", None), Probe::websocket(&address, "/", None));
    let (http, websocket) = tokio::join!(http.once(), websocket.once());
    assert_eq!([http, websocket], [Verdict::Down(Why::TimedOut); 2]);
    let took = began.elapsed();
    let limit = greenroom_core::limits::PROBE_TIMEOUT;
    assert!(took >= limit && took < limit * 2, "{took:?}");
}

#[tokio::test]
async fn tcp_is_up_when_somebody_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = at(listener.local_addr().unwrap());
    let mut probe = Probe::tcp(&address);
    assert_eq!(probe.once().await, UP);
    drop(listener);
    assert_eq!(probe.once().await, Verdict::Down(Why::Refused));
    let mut nowhere = Probe::tcp(&"no-such-host.invalid:1".parse().unwrap());
    assert_eq!(nowhere.once().await, Verdict::Down(Why::Unresolved));
}

#[tokio::test]
async fn a_busy_unix_socket_is_up_for_tcp_and_waited_for_by_http() {
    let directory = std::env::temp_dir().join(format!("greenroom-probe-http-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("app.sock");
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    assert_eq!(Probe::tcp(&address).once().await, Verdict::Down(Why::NoSocketFile));

    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(
        Probe::tcp(&address).once().await,
        Verdict::Down(Why::Refused),
        "bound, not listening"
    );
    socket.listen(0).unwrap();
    socket.set_nonblocking(true).unwrap();
    let filler = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    filler.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    let full = tokio::net::UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "the backlog is full");
    assert_eq!(Probe::tcp(&address).once().await, UP);

    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket)).unwrap();
    let mut probe = Probe::http(&address, "/", None);
    let server = async {
        let _filler = listener.accept().await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        assert!(String::from_utf8(request).unwrap().contains("\r\nHost: localhost\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    };
    let (verdict, ()) = tokio::join!(probe.once(), server);
    assert_eq!(verdict, UP);
    std::fs::remove_dir_all(directory).unwrap();
}

/// The 101 to a request.
fn upgrade(request: &str) -> Vec<u8> {
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(key).unwrap().len(), 16);
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// One look at a server that upgrades, then sends `after`, and keeps the connection if told so.
/// Answers with the verdict and what the server read after its 101, until the end.
async fn websocket_look(after: &[u8], keep: bool) -> (Verdict, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = Probe::websocket(&at(listener.local_addr().unwrap()), "/ws", None);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        assert!(request.starts_with("GET /ws HTTP/1.1\r\n") && request.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        stream
            .write_all(&[upgrade(&request), after.to_vec()].concat())
            .await
            .unwrap();
        let mut read = vec![0; 8];
        if !keep {
            return Vec::new();
        }
        let length = stream.read(&mut read).await.unwrap_or(0);
        read.truncate(length);
        read
    };
    tokio::join!(probe.once(), server)
}

#[tokio::test]
async fn a_websocket_that_stays_is_up_and_is_closed_politely() {
    let (verdict, read) = websocket_look(b"", true).await;
    assert_eq!(verdict, UP);
    let &[0x88, 0x82, m0, m1, _, _, high, low] = read.as_slice() else {
        panic!("no masked Close: {read:x?}")
    };
    assert_eq!(u16::from_be_bytes([high ^ m0, low ^ m1]), 1000);
}

#[tokio::test]
async fn a_websocket_that_speaks_is_up() {
    for after in [
        &b"\x81\x02hi"[..],
        b"\x89\x00\x82\x00",
        b"\x88\x02\x03\xf0",
        b"\x88\x02\x0f\xa0",
    ] {
        assert_eq!(websocket_look(after, true).await.0, UP, "{after:x?}");
    }
}

#[tokio::test]
async fn a_websocket_that_shows_its_unreadiness_is_down() {
    for code in [1011_u16, 1012, 1013] {
        let after = [&[0x89, 0, 0x88, 2][..], &code.to_be_bytes()].concat();
        assert_eq!(
            websocket_look(&after, true).await.0,
            Verdict::Down(Why::ClosedEarly(code))
        );
    }
    assert_eq!(websocket_look(b"", false).await.0, Verdict::Down(Why::LostEarly));
    assert_eq!(
        websocket_look(b"\x81\x81", true).await.0,
        Verdict::Down(Why::Nonsense("not a WebSocket frame"))
    );
    let (refusing, _) = answering("HTTP/1.1 503 X\r\n\r\n").await;
    assert_eq!(
        Probe::websocket(&refusing, "/", None).once().await,
        Verdict::Down(Why::Status(503))
    );
    let wrong = upgrade("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    let (wrong, _) = answering(wrong).await;
    let verdict = Probe::websocket(&wrong, "/", None).once().await;
    assert_eq!(verdict, Verdict::Down(Why::Head(Nonsense::Accept)));
}

#[tokio::test]
async fn a_dropped_probe_leaves_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = Probe::websocket(&at(listener.local_addr().unwrap()), "/ws", None);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(&upgrade(&request)).await.unwrap();
        stream // never answers the Close
    };
    let (verdict, mut stream) = tokio::join!(probe.once(), server);
    assert_eq!(verdict, UP);
    let began = std::time::Instant::now();
    drop(probe);
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert!(
        began.elapsed() < greenroom_core::limits::PROBE_CLOSE,
        "closed by the drop, not by time"
    );
}

#[tokio::test]
async fn a_nudge_looks_at_once_also_when_it_comes_during_a_look() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probe = Probe::http(&at(listener.local_addr().unwrap()), "/", None);
    let (tell, mut looks) = mpsc::unbounded_channel();
    let nudge = Notify::new();
    let watching = watch(probe, Duration::from_secs(3600), &nudge, |look| {
        tell.send(look.verdict).unwrap();
    });
    let story = async {
        for status in [503, 200, 503] {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            nudge.notify_one(); // while the look waits for its answer
            stream
                .write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let verdict = if status == 200 {
                UP
            } else {
                Verdict::Down(Why::Status(status))
            };
            assert_eq!(looks.recv().await, Some(verdict));
        }
    };
    tokio::select! {
        _ = watching => {}
        done = tokio::time::timeout(Duration::from_secs(20), story) => done.unwrap(),
    }
}

#[tokio::test]
async fn looks_never_overlap_and_those_missed_are_left_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probe = Probe::http(&at(listener.local_addr().unwrap()), "/", None);
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let answers = Arc::new(Semaphore::new(0));
    let (now_open, most_open, may_answer) = (Arc::clone(&open), Arc::clone(&most), Arc::clone(&answers));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            most_open.fetch_max(now_open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            read_request(&mut stream).await;
            may_answer.acquire().await.unwrap().forget();
            now_open.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        }
    });
    let (tell, mut looks) = mpsc::unbounded_channel();
    let nudge = Notify::new();
    let every = Duration::from_millis(4);
    let watching = watch(probe, every, &nudge, |look| tell.send(look.began).unwrap());
    let story = async {
        // The first look takes ten intervals; then it goes on, one look at a time.
        // tidy: allow-sleep it is the length of a look, and waits for no condition
        tokio::time::sleep(every * 10).await;
        answers.add_permits(5);
        let mut began = Vec::new();
        for _ in 0..5 {
            began.push(looks.recv().await.unwrap());
        }
        assert!(began[1] - began[0] >= every * 9, "the second look came after the first");
        // Left out, not made up for: four more looks take at least three intervals (less the timer's grain).
        assert!(began[4] - began[1] >= every * 2, "{:?}", began[4] - began[1]);
    };
    tokio::select! {
        _ = watching => {}
        done = tokio::time::timeout(Duration::from_secs(20), story) => done.unwrap(),
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn listen_and_tcp_of_anyone_agree_on_a_server_in_this_process() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = at(listener.local_addr().unwrap());
    assert_eq!(Probe::listen(&address, Of::Anyone).once().await, UP);
    drop(listener);
    assert_ne!(Probe::listen(&address, Of::Anyone).once().await, UP);
}
