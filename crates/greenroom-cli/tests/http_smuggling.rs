//! What must not get past greenroom in a plain request: attacks A3 and A7 to A14, each on the wire.
//!
//! The gate is sure, so a request would go to the backend at once, on the connection that is there; that nothing
//! came is seen there before the next sound request comes on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::house::House;
use common::raw::{Raw, field, upgrade};

/// A plain request with these lines.
fn get(extra: &str) -> String {
    format!("GET /page HTTP/1.1\r\nHost: example.test\r\n{extra}\r\n")
}

/// One with a body that is itself a request.
fn post(extra: &str) -> String {
    format!("POST /form HTTP/1.1\r\nHost: example.test\r\n{extra}\r\n{SMUGGLED}")
}

const SMUGGLED: &str = "GET /admin HTTP/1.1\r\nHost: example.test\r\n\r\n";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// All of these are refused with this status and their connections closed, also byte by byte, and the backend hears nothing.
fn refused(status: &str, requests: &[String]) {
    let house = House::pushed(|_| {});
    let (mut sound, mut backend) = house.sure();
    for request in requests {
        let (head, body) = house.client_with(request).answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}\n{head}");
        assert!(field(&head, "connection").is_some_and(|value| value.contains("close")));
        assert_eq!(body.lines().count(), 1, "one answer, whatever stands behind: {body}");
        let mut client = house.client();
        for byte in request.bytes() {
            if !client.try_send([byte]) {
                break; // answered already: at the byte that gave it away
            }
        }
        let got = String::from_utf8(client.rest_or_reset()).unwrap();
        assert!(
            got.is_empty() || got.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}\n{got}"
        );
    }
    sound.send(get(""));
    assert!(
        backend.head().starts_with("GET /page "),
        "the first that comes is the sound one"
    );
    backend.send(ok("sound"));
    sound.answer_with_length();
    assert!(house.stub.nobody_came());
}

/// The head that the backend gets of a request, answered.
fn passed(house: &House, backend: &mut Raw, request: &str, answer: &str) -> (String, String) {
    let mut client = house.client_with(request);
    let head = backend.head();
    backend.send(answer);
    (head, client.head())
}

/// A3, A7. Who asks for a WebSocket wrongly is not served as if it had asked for a page.
#[test]
fn a7_a_wrong_upgrade_is_no_plain_request() {
    refused(
        "400",
        &[
            upgrade("").replace("Upgrade: websocket", "Upgrade: websocket, h2c"),
            upgrade("").replace("Upgrade: websocket", "Upgrade: h2c, websocket"),
            upgrade("").replace("HTTP/1.1", "HTTP/1.0"),
            upgrade("").replace("Connection: Upgrade", "Connection: close"),
            upgrade("Content-Length: 5\r\n") + "hello",
            upgrade("").replacen("GET", "POST", 1),
        ],
    );
    refused("426", &[upgrade("").replace("Version: 13", "Version: 8") + SMUGGLED]);
}

/// A8, A9. One statement about the length, in one spelling, or none.
#[test]
fn a8_a_body_has_one_length() {
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let requests = [
        format!("{length}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".into(),
        format!("{length}{length}"),
        format!("Content-Length: 0\r\n{length}"),
        "Content-Length: 0, 0\r\n".into(),
        "Content-Length: +5\r\n".into(),
        "Content-Length: -5\r\n".into(),
        "Content-Length: 0x5\r\n".into(),
        "Content-Length: 5 5\r\n".into(),
        "Content-Length:\r\n".into(),
        "Content-Length: 18446744073709551616\r\n".into(),
        "Transfer-Encoding: xchunked\r\n".into(),
        "Transfer-Encoding: chunked, identity\r\n".into(),
        "Transfer-Encoding: identity, chunked\r\n".into(),
        "Transfer-Encoding: identity\r\n".into(),
        "Transfer-Encoding: gzip, chunked\r\n".into(),
        "Transfer-Encoding: \"chunked\"\r\n".into(),
        "Transfer-Encoding:\x0bchunked\r\n".into(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n".into(),
        "Transfer-Encoding:\r\n".into(),
        "Transfer-Encoding : chunked\r\n".into(),
        "Transfer-Encoding\r\n : chunked\r\n".into(),
        "Transfer-Encoding:\r\n chunked\r\n".into(),
        "Connection: Content-Length\r\nContent-Length: 5\r\n".into(),
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n".into(),
    ];
    refused("400", &requests.map(|lines| post(&lines)));
    refused(
        "400",
        &[post("Transfer-Encoding: chunked\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1)],
    );
}

/// A9. What two readers could read in two ways is refused.
#[test]
fn a9_an_ambiguous_head_is_400() {
    refused(
        "400",
        &[
            get("").replace("\r\n", "\n"),
            get("X: a\nSmuggled: b\r\n"),
            get("X: a\r b\r\n"),
            get("X: a\r\n folded\r\n"),
            get("X: a\r\n\tfolded\r\n"),
            get(" X: a\r\n"),
            get("X : a\r\n"),
            get("X\r\n"),
            get(": a\r\n"),
            get("X: a\0b\r\n"),
            get("X\0: a\r\n"),
            get("X: a\x7f\r\n"),
            get("X: \x1b[2J\r\n"),
            get("").replacen("GET /page", "GET  /page", 1),
            get("").replacen("GET /page", "GET\t/page", 1),
            get("").replacen("GET /page", "GET /pa ge", 1),
            get("").replacen("GET /page", "GET /page#f", 1),
            get("").replacen("HTTP/1.1", "HTTP/1.2", 1),
            get("").replacen("HTTP/1.1", "HTTP/2.0", 1),
            get("").replacen("HTTP/1.1\r\n", "HTTP/1.1 \r\n", 1),
            "GET /page HTTP/0.9\r\n\r\n".to_owned(),
            "GET /page\r\n\r\n".to_owned(),
            "\r\n".to_owned() + &get(""),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ],
    );
}

/// A10. One authority decides where a request goes.
#[test]
fn a10_there_is_one_host_and_it_is_one() {
    let host = |host: &str| get("").replacen("Host: example.test\r\n", host, 1);
    refused(
        "400",
        &[
            host(""),
            host("Host: example.test\r\nHost: example.test\r\n"),
            host("Host: example.test\r\nHost: evil.test\r\n"),
            host("Host: user@example.test\r\n"),
            host("Host: example.test:80@evil.test\r\n"),
            host("Host: example.test:x\r\n"),
            host("Host: example.test, evil.test\r\n"),
            host("Host: example.test/admin\r\n"),
            host("Host:\r\n"),
            get("").replacen("/page", "http://evil.test/page", 1),
            get("").replacen("/page", "http://user@example.test/page", 1),
            get("").replacen("/page", "https://example.test/page", 1),
            get("").replacen("/page", "page", 1),
            get("Connection: Host\r\n"),
        ],
    );
    let house = House::pushed(|_| {});
    let (_, mut backend) = house.sure();
    let absolute = get("").replacen("/page", "http://example.test/page", 1);
    let (head, _) = passed(&house, &mut backend, &absolute, &ok(""));
    assert!(head.starts_with("GET /page HTTP/1.1\r\n"), "{head}");
}

/// A body that is a request is a body; what follows it is the next request and has its own number.
#[test]
fn a_request_within_a_body_is_no_request() {
    let house = House::pushed(|_| {});
    let (mut client, mut backend) = house.sure();
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for (request, body) in [
        (post(&length), SMUGGLED.to_owned()),
        (
            post("Transfer-Encoding: chunked\r\n").replace(SMUGGLED, &chunked),
            chunked.clone(),
        ),
        (get(&length) + SMUGGLED, SMUGGLED.to_owned()), // a GET may have one too
    ] {
        client.send(request + &get("X: next\r\n"));
        backend.head();
        assert_eq!(String::from_utf8(backend.exactly(body.len())).unwrap(), body);
        assert!(!backend.has_bytes());
        backend.send(ok("1"));
        let head = backend.head();
        assert_eq!(field(&head, "x").as_deref(), Some("next"), "{head}");
        backend.send(ok("2"));
        assert_eq!(
            (client.answer_with_length().1, client.answer_with_length().1),
            ("1".into(), "2".into())
        );
    }
}

/// A14. A server that puts trailer fields among those of the head is told nothing there either.
#[test]
fn a14_what_only_the_head_may_say_in_a_trailer_is_400_and_never_whole() {
    let house = House::pushed(|_| {});
    for said in [
        "Greenroom-Session: 1",
        "X-Forwarded-For: 6.6.6.6",
        "Content-Length: 5",
        "X_Real-IP: 6.6.6.6",
    ] {
        let (mut client, mut backend) = house.sure();
        let body = format!("1\r\na\r\n0\r\n{said}\r\n\r\n");
        client.send(post("Transfer-Encoding: chunked\r\n").replace(SMUGGLED, &body));
        backend.head();
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{said}: {head}");
        let got = String::from_utf8(backend.rest_or_reset()).unwrap();
        assert!(!got.contains(':'), "{said}: {got}");
    }
}

/// A11 to A14. What is about one hop ends at it, and only greenroom says what only a proxy may say.
#[test]
fn a11_fields_of_one_hop_and_of_proxies_end_here_in_both_directions() {
    let house = House::pushed(|_| {});
    let (_, mut backend) = house.sure();
    let request = get(
        "Connection: X-Forwarded-For, X-Real-Auth, Greenroom-Session, keep-alive\r\nX-Real-Auth: admin\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTE: trailers\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\nGreenroom-Session: 1\r\nGREENROOM-ATTEMPT: 9\r\ngreenroom-in-doubt: 3\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-User: root\r\n\
         Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nGreenroom_Session: 1\r\n\
         Cookie: s=1\r\nAuthorization: Bearer t\r\nKept: yes\r\n",
    );
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         Upgrade: h2c\r\nGreenroom-Session: 77\r\nGreenroom-Refusal: draining\r\nProxy-Authenticate: Basic\r\n\
         Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n";
    let (sent, got) = passed(&house, &mut backend, &request, answer);
    let lower = sent.to_lowercase();
    for gone in ["6.6.6.6", "evil", "root", "_", "admin", "h2c"] {
        assert!(!lower.contains(gone), "{gone}: {sent}");
    }
    for gone in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
        "greenroom-in-doubt",
        "forwarded",
        "x-real-ip",
        "x-forwarded-user",
    ] {
        assert_eq!(field(&sent, gone), None, "{sent}");
    }
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "example.test"),
        ("x-forwarded-proto", "http"),
        ("greenroom-attempt", "1"),
        ("cookie", "s=1"),
        ("authorization", "Bearer t"),
        ("kept", "yes"),
    ] {
        assert_eq!(field(&sent, name).as_deref(), Some(value), "{sent}");
    }
    assert_ne!(field(&sent, "greenroom-session").as_deref(), Some("1"));
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "upgrade",
        "greenroom-session",
        "greenroom-refusal",
        "proxy-authenticate",
    ] {
        assert_eq!(field(&got, gone), None, "{got}");
    }
    assert!(got.contains("Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"), "{got}");
}
