//! Every kind that asks a server, against one that hangs, lies, says half of it, says it without end, or is gone.

use std::io;
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use greenroom::config::{Address, Check, HttpProbe, Pattern, ProbeKind};
use greenroom::head::Nonsense;
use greenroom::probe::{Of, Probe, Said, Verdict, Why};
use greenroom_core::{check::Rule, limits};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::servers::{PATIENCE, UP, secret, within};

const SHORT: Duration = Duration::from_millis(300);
const KINDS: [&str; 8] = [
    "tcp",
    "http",
    "pointer",
    "websocket",
    "grpc",
    "postgres",
    "redis",
    "nats",
];

/// The check of a kind that asks the server at `address`, through the model that a configuration gives.
fn probe(kind: &str, address: &Address, timeout: Duration) -> Probe {
    let http = |body: Option<&str>, pointer: Option<&str>| {
        ProbeKind::Http(HttpProbe {
            address: Some(address.clone()),
            path: "/".into(),
            host: None,
            status: (200, 399),
            body: body.map(|text| Pattern(regex::Regex::new(text).unwrap())),
            pointer: pointer.map(str::to_owned),
        })
    };
    let (own, address) = ("127.0.0.1:1".parse().unwrap(), address.clone());
    let kind = match kind {
        "tcp" => ProbeKind::Tcp(Some(address)),
        "http" => http(Some("never"), None),
        "pointer" => http(None, Some("/phase")),
        "websocket" => ProbeKind::WebSocket {
            address: Some(address),
            path: "/".into(),
            host: None,
            ping: true,
        },
        "grpc" => ProbeKind::Grpc {
            address: Some(address),
            service: String::new(),
        },
        "postgres" => ProbeKind::Postgres {
            address,
            user: "joe".into(),
            database: "shop".into(),
            password: Some(secret("swordfish")),
            recovery: false,
        },
        "redis" => ProbeKind::Redis {
            address,
            password: None,
        },
        "nats" => ProbeKind::Nats { address, login: None },
        other => panic!("{other}"),
    };
    let rule = Rule {
        name: "x".into(),
        rise: 1,
        fall: 1,
        phase: None,
        critical: true,
        weight: 1,
    };
    let interval = Duration::from_secs(1);
    let check = Check {
        rule,
        probe: kind,
        interval,
        timeout,
    };
    Probe::for_check(&check, &own, Of::Anyone).unwrap()
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, address)
}

/// One look at a server that says `first`, then `rest` again and again until the probe has enough, or at once closes
/// if there is no rest.
async fn look_at(kind: &str, first: &[u8], rest: &[u8]) -> Verdict {
    let (listener, address) = listen().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        say(&mut stream, kind, first, rest).await
    };
    let mut probe = probe(kind, &address, PATIENCE);
    let (verdict, _) = tokio::join!(within(&mut probe, Duration::ZERO), server);
    verdict
}

async fn say(stream: &mut TcpStream, kind: &str, first: &[u8], rest: &[u8]) -> io::Result<()> {
    let mut asked = Vec::with_capacity(4096); // a whole request
    if kind != "nats" {
        stream.read_buf(&mut asked).await?; // who closes with unread bytes resets, and the answer is lost
    }
    let asked = String::from_utf8_lossy(&asked);
    let key = asked.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    if let Some(key) = key {
        let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let accept = base64::engine::general_purpose::STANDARD.encode(accept);
        let head = String::from_utf8_lossy(first).replace("ACCEPT", &accept);
        stream.write_all(head.as_bytes()).await?;
    } else {
        stream.write_all(first).await?;
    }
    while !rest.is_empty() {
        stream.write_all(rest).await?;
    }
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

#[tokio::test]
async fn a_server_that_hangs_is_down_when_the_time_of_the_check_is_over() {
    let (_listener, address) = listen().await; // the kernel accepts, nobody answers
    for kind in KINDS.into_iter().filter(|kind| *kind != "tcp") {
        let began = Instant::now();
        let mut probe = probe(kind, &address, SHORT);
        assert_eq!(within(&mut probe, SHORT).await, Verdict::Down(Why::TimedOut), "{kind}");
        assert!(began.elapsed() >= SHORT, "{kind}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_refuses() {
    let (listener, address) = listen().await;
    drop(listener);
    for kind in KINDS {
        let mut probe = probe(kind, &address, PATIENCE);
        assert_eq!(within(&mut probe, SHORT).await, Verdict::Down(Why::Refused), "{kind}");
    }
}

#[tokio::test]
async fn a_server_that_closes_at_once_gives_no_answer() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "tcp") {
        assert_eq!(look_at(kind, b"", b"").await, Verdict::Down(Why::NoAnswer), "{kind}");
    }
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";

#[tokio::test]
async fn half_an_answer_is_none() {
    for (kind, half, why) in [
        (
            "http",
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnever"[..],
            Why::NoAnswer,
        ),
        (
            "http",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nnever\r\n",
            Why::NoAnswer,
        ),
        (
            "pointer",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"phase\":\"cache\"}",
            Why::NoAnswer,
        ),
        ("websocket", b"HTTP/1.1 101 Switching Protocols\r\nUpg", Why::NoAnswer),
        ("websocket", SWITCHED.as_bytes(), Why::LostEarly),
        ("grpc", &[0, 0, 6, 4, 0, 0, 0], Why::NoAnswer),
        ("postgres", b"R\0\0\0\x08\0\0", Why::NoAnswer),
        (
            "postgres",
            b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16in_hot_standby\0off\0",
            Why::NoAnswer,
        ),
        ("redis", b"+PON", Why::NoAnswer),
        ("nats", b"INFO {\"server_id\":", Why::NoAnswer),
        ("nats", b"INFO {}\r\n", Why::NoAnswer),
    ] {
        assert_eq!(
            look_at(kind, half, b"").await,
            Verdict::Down(why),
            "{kind}: {}",
            half.escape_ascii()
        );
    }
}

#[tokio::test]
async fn another_protocol_is_nonsense() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "tcp") {
        for lie in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"220 mail ESMTP\r\n",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\r\n",
            b"\r\n\r\n\r\n\r\n\r\n\r\n",
        ] {
            let verdict = look_at(kind, lie, b"").await;
            let nonsense = matches!(verdict, Verdict::Down(Why::Nonsense(_) | Why::Head(_)));
            assert!(nonsense, "{kind}: {} is {verdict:?}", lie.escape_ascii());
        }
    }
    let web = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for kind in ["grpc", "postgres", "redis", "nats"] {
        let verdict = look_at(kind, web, b"").await;
        assert!(
            matches!(verdict, Verdict::Down(Why::Nonsense(_))),
            "{kind}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_its_bound_and_no_further() {
    let noise = [b'x'; 4096];
    let close = b"HTTP/1.1 200 OK\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"1000\r\n", &noise[..], b"\r\n"].concat();
    let frame = [&[0x82, 126, 0x10, 0][..], &noise].concat();
    // The ping cannot be answered behind frames without end: it is not looked for for ever.
    let notice = [&b"N\0\0\x10\x04"[..], &noise].concat();
    for (kind, first, rest, why) in [
        ("http", &close[..], &noise[..], Why::NoMatch),
        ("http", chunked, &chunk, Why::NoMatch),
        ("http", b"HTTP/1.1 200 OK\r\nA: ", &noise, Why::Head(Nonsense::TooLong)),
        ("pointer", close, &noise, Why::TooLong),
        ("websocket", SWITCHED.as_bytes(), &frame, Why::TooLong),
        ("postgres", b"", &notice, Why::TooLong),
        ("postgres", b"R\x7f\xff\xff\xff", &noise, Why::TooLong),
        ("redis", b"+", &noise, Why::TooLong),
        ("nats", b"INFO {\"a\":\"", &noise, Why::TooLong),
        ("nats", b"INFO {}\r\n", b"+OK\r\n", Why::TooLong),
    ] {
        let what = format!("{kind}: {}…", first.escape_ascii());
        assert_eq!(look_at(kind, first, rest).await, Verdict::Down(why), "{what}");
    }
}

/// One gRPC answer: head, data again and again if `endless`, else once, then trailers.
async fn grpc_look(fields: &[(&str, &str)], data: &[u8], endless: bool, trailers: &[(&'static str, &str)]) -> Verdict {
    let (listener, address) = listen().await;
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut head = http::Response::builder();
        for (name, value) in fields {
            head = head.header(*name, *value);
        }
        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::copy_from_slice(data), false).unwrap();
        if endless {
            body.send_data(vec![0; 1 << 20].into(), false).unwrap(); // more than will ever be taken
        } else {
            let fields = trailers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            body.send_trailers(fields.collect()).unwrap();
        }
        while connection.accept().await.is_some() {}
    };
    let mut probe = probe("grpc", &address, PATIENCE);
    let (verdict, ()) = tokio::join!(within(&mut probe, Duration::ZERO), server);
    verdict
}

#[tokio::test]
async fn grpc_believes_only_a_whole_call_that_ended_well() {
    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    let serving = [0, 0, 0, 0, 2, 8, 1];
    assert_eq!(grpc_look(GRPC, &serving, false, OK).await, UP);
    for (fields, data, trailers, why) in [
        (GRPC, &serving[..], &[][..], Why::NoAnswer),
        (GRPC, &serving, &[("grpc-status", "14")], Why::GrpcStatus(14)),
        (
            GRPC,
            &serving,
            &[("grpc-status", "x")],
            Why::Nonsense("its grpc-status is no number"),
        ),
        (GRPC, &serving[..6], OK, Why::Nonsense("not a HealthCheckResponse")),
        (
            GRPC,
            &[0, 0, 0, 0, 2, 8, 9],
            OK,
            Why::Nonsense("not a HealthCheckResponse"),
        ),
        (
            &[("content-type", "text/html")],
            &serving,
            OK,
            Why::Nonsense("an HTTP/2 server, but not one of gRPC"),
        ),
    ] {
        let verdict = grpc_look(fields, data, false, trailers).await;
        assert_eq!(verdict, Verdict::Down(why), "{fields:?} {data:?} {trailers:?}");
    }
    assert_eq!(grpc_look(GRPC, &serving, true, OK).await, Verdict::Down(Why::TooLong));
}

/// A PostgreSQL that answers the startup message, and then the query, if it gets one.
async fn postgres_look(startup: &[u8], query: &[u8]) -> Verdict {
    let (listener, address) = listen().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::with_capacity(4096); // a whole message
        stream.read_buf(&mut asked).await.unwrap();
        stream.write_all(startup).await.unwrap();
        asked.clear();
        let _ = stream.read_buf(&mut asked).await;
        if asked.starts_with(b"Q") {
            assert_eq!(&asked[5..], b"SELECT pg_is_in_recovery()\0");
            stream.write_all(query).await.unwrap();
        }
        let _ = stream.read_to_end(&mut asked).await;
    };
    let mut probe = probe("postgres", &address, PATIENCE);
    let (verdict, ()) = tokio::join!(within(&mut probe, Duration::ZERO), server);
    verdict
}

#[tokio::test]
async fn an_old_postgres_is_asked_by_a_query_and_a_false_one_is_not_believed() {
    // Before version 14 there is no in_hot_standby.
    let login = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x12TimeZone\0UTC\0\0Z\0\0\0\x05I";
    let row = |value: u8| [&b"D\0\0\0\x0b\0\x01\0\0\0\x01"[..], &[value], b"Z\0\0\0\x05I"].concat();
    assert_eq!(postgres_look(login, &row(b'f')).await, UP);
    assert_eq!(postgres_look(login, &row(b't')).await, Verdict::Down(Why::InRecovery));
    let none = postgres_look(login, b"Z\0\0\0\x05I").await;
    assert_eq!(none, Verdict::Down(Why::Nonsense("not what PostgreSQL answers")));
    let error = postgres_look(login, b"E\0\0\0\x13SERROR\0C57P01\0\0").await;
    assert_eq!(error, Verdict::Down(Why::Postgres(Said::new(b"57P01"))));
    // Lets us in after it asked for SCRAM, without the proof that it knows the password.
    let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let unproved = postgres_look(sasl, b"").await;
    assert_eq!(
        unproved,
        Verdict::Down(Why::Nonsense("PostgreSQL lets us in without its SCRAM proof"))
    );
    let kerberos = postgres_look(b"R\0\0\0\x08\0\0\0\x07", b"").await;
    assert_eq!(kerberos, Verdict::Down(Why::LoginKind));
}

#[tokio::test]
async fn a_nats_that_demands_tls_and_one_that_refuses_are_named() {
    let tls = look_at("nats", b"INFO {\"tls_required\":true}\r\n", b"").await;
    assert_eq!(tls, Verdict::Down(Why::NeedsTls));
    let full = look_at("nats", b"INFO {}\r\n-ERR 'maximum connections exceeded'\r\n", b"").await;
    assert_eq!(
        full,
        Verdict::Down(Why::Nats(Said::new(b"maximum connections exceeded")))
    );
    let asked_back = look_at("nats", b"INFO {}\r\nPING\r\nINFO {}\r\n+OK\r\nPONG\r\n", b"").await;
    assert_eq!(asked_back, UP);
}

#[tokio::test]
async fn no_secret_is_in_any_sentence_or_debug_text() {
    let (_listener, address) = listen().await;
    let mut probe = probe("postgres", &address, SHORT);
    let look = probe.look().await;
    for text in [format!("{probe:?}"), format!("{look:?}")] {
        assert!(!text.contains("swordfish"), "{text}");
    }
    assert!(look.took >= SHORT && look.phase.is_none());
    assert_eq!(limits::CHECK_BODY_MAX, 65_536, "the sentence of TooLong");
    assert_eq!(Why::TooLong.to_string(), "the answer is longer than 64 KiB");
}
