//! Heads and refusals on the wire: attacks A27, A28 and A29, and each answer that greenroom gives by itself.
//!
//! The limit of a head's time is 10 s, so the tests of it take that long, beside
//! each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use common::{
    Greenroom,
    raw::{Front, Raw, SOON, field, masked, nobody, serve, switching, upgrade},
};

/// A27. Dribblers get 408 after 10 s in total, not per read, and are in nobody's way.
#[test]
fn a27_dribblers_are_408_in_ten_seconds_and_others_pass() {
    let front = Front::open();
    let began = Instant::now();
    let mut dribblers: Vec<Raw> = (0..200).map(|_| front.client_with("GET /ws HTTP/1.1\r\nX: ")).collect();
    front.relayed("", "");
    // One of them writes a byte whenever nothing has come for a quarter of a second.
    let first = &mut dribblers[0];
    while first.silent_for(Duration::from_millis(250)) && began.elapsed() < SOON {
        first.try_send("x");
    }
    for dribbler in &mut dribblers {
        let (head, _) = dribbler.answer();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"));
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    front.relayed("", "");
}

/// A27. Who never said a word is not answered.
#[test]
fn a27_a_connection_without_a_byte_is_closed_silently() {
    let front = Front::open();
    let mut waits = front.client();
    let leaves = front.client();
    leaves.fin();
    drop(leaves);
    assert_eq!(waits.rest(), b"");
    let told = front.greenroom.events().iter().any(|event| event["event"] == "refused");
    assert!(!told, "{}", front.greenroom.stderr());
}

/// A28. Too many or too large: 431, at once.
#[test]
fn a28_a_head_over_its_limits_is_431() {
    let front = Front::open();
    for request in [
        upgrade(&"X: y\r\n".repeat(2000)),
        upgrade(&"X: y\r\n".repeat(96)),
        upgrade(&format!("X: {}\r\n", "y".repeat(16_384))),
        upgrade("").replacen("/ws", &format!("/{}", "y".repeat(17_000)), 1),
        "G".repeat(20_000),
        format!("GET /ws HTTP/1.1\r\n{}", "y".repeat(1_000_000)),
    ] {
        let mut client = front.client();
        client.try_send(&request);
        let got = String::from_utf8(client.rest_or_reset()).unwrap();
        // Of a megabyte no more is read than a bound says, so that one may end with a reset.
        let large = request.len() > 256 * 1024 && got.is_empty();
        assert!(large || got.starts_with("HTTP/1.1 431 "), "{got}");
    }
    assert!(front.stub.nobody_came());
    let _client = front.client_with(upgrade(&"X: y\r\n".repeat(95)));
    front.stub.request();
    let room = 16_384 - upgrade("X: \r\n").len();
    let _client = front.client_with(upgrade(&format!("X: {}\r\n", "y".repeat(room))));
    front.stub.request();
}

/// One token too many, each another.
fn tokens() -> String {
    (0..33).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",")
}

/// A29. What is negotiated is bounded in tokens and bytes.
#[test]
fn a29_what_is_negotiated_is_bounded() {
    let front = Front::open();
    for (lines, status) in [
        (format!("Sec-WebSocket-Protocol: {}\r\n", tokens()), "431"),
        (format!("Sec-WebSocket-Protocol: {}\r\n", "p".repeat(4097)), "431"),
        (format!("Sec-WebSocket-Extensions: x{}\r\n", "; a".repeat(1500)), "431"),
        (format!("Sec-WebSocket-Extensions: {}\r\n", tokens()), "431"),
        (format!("Connection: {}\r\n", tokens()), "431"),
        ("Sec-WebSocket-Protocol: a b\r\n".to_owned(), "400"),
        ("Sec-WebSocket-Extensions: x; a=\"\r\n".to_owned(), "400"),
    ] {
        let (head, _) = front.client_with(upgrade(&lines)).answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}\n{head}");
    }
    assert!(front.stub.nobody_came());
}

/// 503 with a Retry-After of 1 to 5, which a client gets whole, also one with unread data on its way.
fn unavailable(client: &mut Raw, refusal: &str) {
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    let after: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&after), "{head}");
    assert_eq!(field(&head, "connection").as_deref(), Some("close"));
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(refusal));
    assert_eq!(body.lines().count(), 1, "{body}");
}

#[test]
fn whose_hold_time_is_over_gets_503_with_its_bytes_still_unread() {
    let greenroom = serve(&nobody(), &["--hold-timeout", "300ms"]);
    let address = greenroom.address();
    let mut plain = Raw::connect(&address);
    plain.send(upgrade(""));
    let mut early = Raw::connect(&address);
    early.send([upgrade("").into_bytes(), masked(0x82, &[1; 30_000])].concat());
    unavailable(&mut plain, "hold_timeout");
    // By now the answer is there; what still comes must not destroy it.
    early.try_send(masked(0x82, &[1; 30_000]));
    unavailable(&mut early, "hold_timeout");
    greenroom.wait_for(|event| event["event"] == "held", SOON);
}

#[test]
fn a_refusal_is_never_followed_by_a_reset_however_late_it_is_read() {
    let greenroom = serve(&nobody(), &["--hold-timeout", "100ms"]);
    let mut client = Raw::connect(&greenroom.address());
    client.send([upgrade("").into_bytes(), masked(0x82, &[1; 30_000])].concat());
    // It neither reads nor ends its side: greenroom closes in the end, with nothing of it unread.
    greenroom.wait_for_event("closed", SOON);
    let error = client.0.take_error().unwrap();
    assert!(error.is_none(), "{error:?}");
    unavailable(&mut client, "hold_timeout");
}

#[test]
fn with_hold_refuse_the_answer_is_503_at_once() {
    let greenroom = serve(&nobody(), &["--hold", "refuse"]);
    let mut client = Raw::connect(&greenroom.address());
    client.send(upgrade(""));
    unavailable(&mut client, "not_ready");
    assert!(!greenroom.stderr().contains("\"held\",\"session\""));
}

#[test]
fn an_unanswering_backend_is_504_at_the_clients_deadline() {
    let front = Front::new(&["--hold-timeout", "500ms"]);
    let mut client = front.client_with(upgrade(""));
    let (mut backend, _) = front.stub.request();
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert_eq!(backend.rest_or_reset(), b"");
}

#[test]
fn a_client_that_leaves_while_held_opens_no_backend_connection() {
    let address = nobody();
    let greenroom = serve(&address, &[]);
    let front = greenroom.address();
    let leave = |how: fn(Raw), early: &[u8]| {
        let from = greenroom.events().len();
        let mut client = Raw::connect(&front);
        client.send([upgrade("").as_bytes(), early].concat());
        greenroom.wait_for_from(from, |event| event["event"] == "held", SOON);
        how(client);
        greenroom.wait_for_from(from, |event| event["cause"] == "left_held", SOON);
    };
    leave(|client| client.fin(), b"");
    leave(|client| client.fin(), &masked(0x82, &[0; 1024]));
    leave(Raw::reset, b"");
    leave(Raw::reset, &masked(0x82, &[0; 1024]));
    let listener = TcpListener::bind(&address).unwrap();
    greenroom.wait_for_event("ready", SOON);
    let mut last = Raw::connect(&front);
    last.send(upgrade(""));
    let (backend, _) = listener.accept().unwrap();
    let mut backend = Raw::new(backend);
    assert_eq!(
        field(&backend.head(), "greenroom-session").as_deref(),
        Some("5"),
        "the first to be dialled"
    );
    backend.send(switching(""));
    assert!(last.head().starts_with("HTTP/1.1 101 "));
}

/// Runs to its end: the code, and what it said.
fn ends(args: &[&str]) -> (i32, String) {
    let mut greenroom = Greenroom::start(args);
    let code = greenroom.wait_exit_code(SOON);
    (code, greenroom.stderr())
}

#[test]
fn a_port_in_use_is_one_clear_line_and_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for args in [
        &["serve", "--listen", &address, "--backend", "127.0.0.1:1"][..],
        &["run", "--listen", &address, "--", "true"],
    ] {
        let (code, said) = ends(args);
        assert_eq!(code, 69, "{said}");
        assert_eq!(said.lines().filter(|line| !line.is_empty()).count(), 1, "{said}");
        assert!(said.contains(&address) && said.contains("in use"), "{said}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_127_and_one_that_cannot_run_126() {
    for (command, expected) in [
        ("no-such-command-here", 127),
        ("/no/such/file", 127),
        ("/etc/passwd", 126),
    ] {
        let (code, said) = ends(&["run", "--listen", "127.0.0.1:0", "--", command]);
        assert_eq!(code, expected, "{said}");
        let lines: Vec<_> = said.lines().filter(|line| line.contains(command)).collect();
        assert_eq!(lines.len(), 1, "one line names it: {said}");
    }
}
