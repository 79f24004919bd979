//! What must not get past greenroom: attacks A1 to A9, A11 and A14, each on the wire,
//! for the WebSocket lane; `http_smuggling` is about plain requests.
//!
//! The program stands before a backend of which the test writes every byte. That
//! something does *not* reach the backend is seen at the end of its connection:
//! all that ever came is then known, so nothing is guessed from silence.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::raw::{ACCEPT, Front, KEY, field, frame, masked, switching, upgrade};

/// What a smuggler sends behind an upgrade: a message, and a second request.
fn early() -> Vec<u8> {
    let mut bytes = masked(0x82, &[b'x'; 20_000]);
    bytes.extend(b"GET /admin HTTP/1.1\r\nHost: example.test\r\n\r\n");
    bytes
}

/// A1. Whatever is not a 101 is passed on with `Connection: close`, and nothing follows it to the backend.
#[test]
fn a1_early_bytes_never_reach_a_backend_that_does_not_switch() {
    let front = Front::open();
    for (status, extra) in [
        ("200 OK", ""),
        (
            "200 OK",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        ),
        ("403 Forbidden", "Connection: keep-alive\r\nKeep-Alive: timeout=60\r\n"),
        ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"),
    ] {
        let mut client = front.client_with([upgrade("").into_bytes(), early()].concat());
        let (mut backend, _) = front.stub.request();
        backend.send(format!(
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\n{extra}\r\nbodyHTTP/1.1 200 OK\r\n\r\n"
        ));
        let (head, body) = client.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
        assert_eq!(body, "body", "what stands behind the answer is not the client's");
        assert_eq!(backend.rest_or_reset(), b"", "{status}");
    }
    assert!(front.stub.nobody_came());
}

/// A1. A 503 on trial means "not ready": the client stays, and its bytes go to nobody but who switches.
#[test]
fn a1_early_bytes_wait_for_the_dial_that_switches() {
    let front = Front::new(&[]);
    let early = masked(0x82, &[b'x'; 20_000]);
    let mut client = front.client_with([upgrade("").into_bytes(), early.clone()].concat());
    let (mut first, _) = front.stub.request();
    first.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(first.rest_or_reset(), b"");
    let (mut second, head) = front.stub.request();
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("2"));
    second.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(second.exactly(early.len()), early);
}

/// A1. The answer is not destroyed by a reset, however much of the client is unread.
#[test]
fn a1_a_passed_on_answer_reaches_a_client_that_is_still_sending() {
    let front = Front::open();
    let mut client = front.client_with([upgrade("").into_bytes(), early()].concat());
    let (mut backend, _) = front.stub.request();
    // More than the client's socket holds, so that the end of it is still greenroom's to send when the backend is done.
    let body = "x".repeat(12_000_000);
    let all = format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let writer = std::thread::spawn(move || backend.send(all));
    client.try_send(vec![b'y'; 100_000]);
    let (head, got) = client.answer();
    assert!(head.starts_with("HTTP/1.1 403 No\r\n"), "{head}");
    assert!(got == body, "{} of {} bytes", got.len(), body.len());
    writer.join().unwrap();
}

/// A2. They wait for the validated 101, and are the first that the backend gets.
#[test]
fn a2_early_bytes_come_first_and_only_after_the_101() {
    let front = Front::new(&[]);
    let early = early();
    for interim in [
        "",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    ] {
        let mut client = front.client_with([upgrade("").into_bytes(), early.clone()].concat());
        let (mut backend, _) = front.stub.request();
        backend.send(interim);
        assert!(backend.silent_for(Duration::from_millis(300)), "before the 101");
        let answer = switching("");
        let (most, last) = answer.split_at(answer.len() - 1);
        backend.send(most);
        assert!(backend.silent_for(Duration::from_millis(100)), "before its last byte");
        backend.send(last);
        assert_eq!(client.head().lines().next(), Some("HTTP/1.1 101 Switching Protocols"));
        // The smuggled request is no frame: what stands before it passes, and nothing of it.
        let frame = masked(0x82, &[b'x'; 20_000]);
        assert_eq!(backend.exactly(frame.len()), frame);
        assert!(!backend.rest_or_reset().windows(5).any(|bytes| bytes == b"admin"));
    }
}

/// A3. Another version is answered by greenroom itself.
#[test]
fn a3_another_version_is_426_and_the_backend_is_not_asked() {
    let front = Front::open();
    for version in ["8", "0", "255", "14", "013", "256"] {
        let request = upgrade("").replace("Version: 13", &format!("Version: {version}"));
        let mut client = front.client_with([request.into_bytes(), early()].concat());
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{head}");
        assert_eq!(field(&head, "sec-websocket-version").as_deref(), Some("13"));
        assert!(field(&head, "connection").is_some_and(|value| value.contains("close")));
    }
    for version in ["+13", "13, 8", "", "x"] {
        let request = upgrade("").replace("Version: 13", &format!("Version: {version}"));
        let (head, _) = front.client_with(request).answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{version:?}: {head}");
    }
    assert!(front.stub.nobody_came());
}

/// A4. A 101 that proves nothing is 502, and its connection is closed.
#[test]
fn a4_a_101_that_is_none_is_502() {
    let front = Front::open();
    let head = |lines: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
    let (up, con) = ("Upgrade: websocket\r\n", "Connection: Upgrade\r\n");
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    for answer in [
        head(&format!("{up}{con}")),
        head(&format!("{up}{con}Sec-WebSocket-Accept: {}\r\n", ACCEPT.to_lowercase())),
        head(&format!("{up}{con}Sec-WebSocket-Accept: {KEY}\r\n")),
        head(&format!("{up}{con}{accept}{accept}")),
        head(&format!("{con}{accept}")),
        head(&format!("{up}{accept}")),
        head(&format!("Upgrade: h2c\r\n{con}{accept}")),
        head(&format!("Upgrade: websocket, h2c\r\n{con}{accept}")),
        head(&format!("{up}{con}{accept}Content-Length: 5\r\n")),
        head(&format!("{up}{con}{accept}Transfer-Encoding: chunked\r\n")),
        head(&format!("{up}{con}{accept}Sec-WebSocket-Protocol: never-asked-for\r\n")),
        head(&format!(
            "{up}{con}{accept}Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )),
        switching("").replace("HTTP/1.1", "HTTP/1.0"),
        switching("").replace("\r\n", "\n"),
        switching("X: a\r\n folded\r\n"),
        switching("X : a\r\n"),
        "SSH-2.0-OpenSSH_9.2\r\n".into(),
        "HTTP/2 101\r\n\r\n".into(),
        switching(&"X: y\r\n".repeat(101)),
        switching(&format!("X: {}\r\n", "y".repeat(17_000))),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9) + &switching(""),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".into(),
    ] {
        let mut client = front.client_with([upgrade("").into_bytes(), early()].concat());
        let (mut backend, _) = front.stub.request();
        backend.send(&answer);
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}\n{head}");
        assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("bad_answer"));
        assert_eq!(field(&head, "connection").as_deref(), Some("close"));
        assert_eq!(
            backend.rest_or_reset(),
            b"",
            "closed, and not a byte of the client: {answer}"
        );
    }
    // Eight interim answers are no reason to refuse.
    let mut client = front.client_with(upgrade(""));
    let (mut backend, _) = front.stub.request();
    backend.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8) + &switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
}

/// A5. Who asked for no WebSocket gets none, whatever the backend says, and nothing of it is passed on.
#[test]
fn a5_a_plain_request_cannot_be_switched() {
    let front = Front::open();
    for request in [
        "GET /ssrf?to=evil HTTP/1.1\r\nHost: example.test\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        upgrade("").replace("Upgrade: websocket\r\n", ""),
        "GET / HTTP/1.1\r\nHost: example.test\r\n\r\n".to_owned() + &upgrade(""),
    ] {
        let mut client = front.client_with(&request);
        let (mut backend, _) = front.stub.request();
        backend.send(switching(""));
        backend.send(frame(0x81, b"switched"));
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{request}\n{head}");
        assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("bad_answer"));
        assert_eq!(body.lines().count(), 1, "one line that says so: {body}");
        assert!(!body.contains("HTTP/1.1"), "one answer, whatever was pipelined: {body}");
        let rest = backend.rest_or_reset();
        assert!(rest.is_empty() || rest == b"hello", "{rest:?}");
    }
    assert!(front.stub.nobody_came());
}

/// A6. `Upgrade: h2c` is plain HTTP; beside a WebSocket upgrade, HTTP2-Settings is not passed on.
#[test]
fn a6_h2c_is_never_passed_on() {
    let front = Front::open();
    let request = "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    let mut client = front.client_with(request);
    let (mut backend, head) = front.stub.request();
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));

    for settings in [
        "HTTP2-Settings: AAMAAABk\r\n",
        "Connection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    ] {
        let _client = front.client_with(upgrade(settings));
        let (_, head) = front.stub.request();
        assert!(!head.to_lowercase().contains("http2-settings"), "{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("Upgrade"));
    }
}

/// A7. `websocket` alone, once, on HTTP/1.1.
#[test]
fn a7_only_websocket_alone_is_an_upgrade() {
    let front = Front::open();
    for (bad, good) in [
        ("Upgrade: websocket, h2c\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: h2c, websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: websocket, websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: websocket\r\nUpgrade: websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: websocket\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n"),
        ("HTTP/1.0", "HTTP/1.1"),
        ("Connection: keep-alive\r\n", "Connection: Upgrade\r\n"),
        ("", "Connection: Upgrade\r\n"),
        ("", "Host: example.test\r\n"),
        ("Host: example.test\r\nHost: example.test\r\n", "Host: example.test\r\n"),
        ("Host: user@example.test\r\n", "Host: example.test\r\n"),
        ("GET http://other.test/ws", "GET /ws"),
        ("Key: c2hvcnQ=", &format!("Key: {KEY}")),
        ("Key: dGhlIHNhbXBsZSBub25jZQ=", &format!("Key: {KEY}")),
    ] {
        let request = upgrade("").replacen(good, bad, 1);
        assert_ne!(request, upgrade(""), "{good}");
        let (head, _) = front.client_with(&request).answer();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request}\n{head}");
    }
    assert!(front.stub.nobody_came());
    for (real, good) in [
        ("Upgrade: WebSocket\r\n", "Upgrade: websocket\r\n"),
        ("Connection: keep-alive, Upgrade\r\n", "Connection: Upgrade\r\n"),
        ("Connection: upgrade\r\n", "Connection: Upgrade\r\n"),
        ("GET http://example.test/ws", "GET /ws"),
    ] {
        let mut client = front.client_with(upgrade("").replacen(good, real, 1));
        let (mut backend, head) = front.stub.request();
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "), "{real}");
    }
}

/// A8. An upgrade has no body, whoever says so.
#[test]
fn a8_an_upgrade_with_a_body_is_400() {
    let front = Front::open();
    for request in [
        upgrade("Content-Length: 5\r\n") + "hello",
        upgrade("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        upgrade("Transfer-Encoding: identity\r\n"),
        upgrade("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        upgrade("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        upgrade("Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n"),
        upgrade("").replacen("GET", "POST", 1),
        upgrade("Content-Length: 0\r\n").replacen("GET", "POST", 1),
        upgrade("").replacen("GET", "CONNECT", 1),
        upgrade("").replacen("GET", "get", 1),
    ] {
        let (head, _) = front.client_with(&request).answer();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request}\n{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"));
    }
    assert!(front.stub.nobody_came());
    let _client = front.client_with(upgrade("Content-Length: 0\r\n"));
    let (_, head) = front.stub.request();
    assert_eq!(field(&head, "content-length"), None, "{head}");
}

/// A9. What two readers could read in two ways is refused, also when it comes a byte at a time.
#[test]
fn a9_an_ambiguous_head_is_400() {
    let front = Front::open();
    for request in [
        upgrade("").replace("\r\n", "\n"),
        upgrade("X: a\nSmuggled: b\r\n"),
        upgrade("X: a\r b\r\n"),
        upgrade("X: a\r\n folded\r\n"),
        upgrade("X: a\r\n\tfolded\r\n"),
        upgrade(" X: a\r\n"),
        upgrade("X : a\r\n"),
        upgrade("X\r\n"),
        upgrade(": a\r\n"),
        upgrade("X: a\0b\r\n"),
        upgrade("X\0: a\r\n"),
        upgrade("X: a\x7f\r\n"),
        upgrade("X: \x1b[2J\r\n"),
        upgrade("Content-Length: +0\r\n"),
        upgrade("Content-Length: -0\r\n"),
        upgrade("Content-Length: 0x0\r\n"),
        upgrade("Content-Length: 0, 0\r\n"),
        upgrade("Content-Length:\r\n"),
        upgrade("Content-Length: 0\r\nContent-Length: 0\r\n"),
        upgrade("Content-Length: 0\r\nContent-Length: 5\r\n"),
        upgrade("").replacen("GET /ws", "GET  /ws", 1),
        upgrade("").replacen("GET /ws", "GET\t/ws", 1),
        upgrade("").replacen("GET /ws", "GET /w s", 1),
        upgrade("").replacen("GET /ws", "GET /ws#f", 1),
        upgrade("").replacen("HTTP/1.1", "HTTP/1.2", 1),
        upgrade("").replacen("HTTP/1.1", "HTTP/2.0", 1),
        upgrade("").replacen("HTTP/1.1\r\n", "HTTP/1.1 \r\n", 1),
        "\r\n".to_owned() + &upgrade(""),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01\0".to_owned(),
    ] {
        let (head, _) = front.client_with(&request).answer();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request:?}\n{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"));
        let mut client = front.client();
        for byte in request.bytes() {
            if !client.try_send([byte]) {
                break; // answered already: at the byte that gave it away
            }
        }
        let got = String::from_utf8(client.rest_or_reset()).unwrap();
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 400 "), "{request:?}\n{got}");
    }
    assert!(front.stub.nobody_came());
}

/// A11. What Connection nominates goes first; greenroom's own fields cannot be nominated away.
#[test]
fn a11_nominated_fields_are_removed_and_own_ones_are_not() {
    let front = Front::open();
    let _client = front.client_with(upgrade(
        "Connection: X-Forwarded-For, X-Real-Auth, Greenroom-Session, X-Forwarded-Host\r\n\
         X-Real-Auth: admin\r\nX-Forwarded-For: 6.6.6.6\r\nCookie: a=b\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
         TE: trailers\r\nTrailer: X\r\nKept: yes\r\n",
    ));
    let (_, head) = front.stub.request();
    for gone in ["x-real-auth", "keep-alive", "proxy-connection", "te", "trailer"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    assert_eq!(field(&head, "connection").as_deref(), Some("Upgrade"));
    assert_eq!(field(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-host").as_deref(), Some("example.test"));
    assert!(field(&head, "greenroom-session").is_some());
    assert_eq!(field(&head, "kept").as_deref(), Some("yes"));
    // What the handshake itself needs cannot be nominated at all.
    for needed in [
        "Host",
        "Upgrade, Sec-WebSocket-Key",
        "sec-websocket-version",
        "Content-Length",
    ] {
        let (head, _) = front
            .client_with(upgrade(&format!("Connection: {needed}\r\n")))
            .answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{needed}: {head}");
    }
    assert!(front.stub.nobody_came());
}

/// A14. What only greenroom or a trusted proxy may say is never taken from a client, nor from a backend.
#[test]
fn a14_spoofed_fields_are_replaced_in_both_directions() {
    let front = Front::open();
    let mut client = front.client_with(upgrade(
        "Greenroom-Session: 1\r\nGREENROOM-ATTEMPT: 9\r\nGreenroom-Degraded: none\r\ngreenroom-in-doubt: 3\r\n\
         X-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil.test\r\n\
         X-Forwarded-User: root\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
         Greenroom_Session: 1\r\nOrigin: https://page.test\r\nCookie: s=1\r\nAuthorization: Bearer t\r\n",
    ));
    let (mut backend, head) = front.stub.request();
    assert!(
        !head.contains("6.6.6.6") && !head.contains("evil") && !head.contains("root"),
        "{head}"
    );
    assert!(!head.contains('_'), "{head}");
    assert_ne!(field(&head, "greenroom-session").as_deref(), Some("1"));
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("1"));
    assert_eq!(field(&head, "greenroom-degraded"), None);
    assert_eq!(field(&head, "greenroom-in-doubt"), None);
    assert_eq!(field(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(field(&head, "x-forwarded-host").as_deref(), Some("example.test"));
    for kept in ["host", "origin", "cookie", "authorization", "sec-websocket-key"] {
        assert!(field(&head, kept).is_some(), "{kept}: {head}");
    }
    backend.send(switching(
        "Greenroom-Session: 77\r\nGreenroom-Refusal: draining\r\nSet-Cookie: a=b\r\nKeep-Alive: 5\r\n",
    ));
    let head = client.head();
    assert!(!head.to_lowercase().contains("greenroom-"), "{head}");
    assert_eq!(field(&head, "keep-alive"), None, "{head}");
    assert_eq!(field(&head, "set-cookie").as_deref(), Some("a=b"));
}
