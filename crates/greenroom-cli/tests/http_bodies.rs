//! Bodies of plain requests and answers: carried as they come, in both directions, whoever is slow or leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{net::Shutdown, thread, time::Duration};

use common::house::House;
use common::raw::{Front, Raw, SOON, field};
use greenroom_core::event::State;

const BIG: usize = 10_000_000;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.test\r\n\r\n")
}

fn post(length: usize, extra: &str) -> String {
    format!("POST /up HTTP/1.1\r\nHost: example.test\r\nContent-Length: {length}\r\n{extra}\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn sure() -> (House, Raw, Raw) {
    let house = House::pushed(|_| {});
    let (client, backend) = house.sure();
    (house, client, backend)
}

/// Bytes of which each piece can be told from its neighbours.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Writes until the other end takes no more for a while; gives what was written.
fn fill(raw: &mut Raw, bytes: &[u8]) -> usize {
    use std::io::Write as _;
    raw.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    while written < bytes.len() {
        match raw.0.write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    raw.0.set_write_timeout(Some(SOON)).unwrap();
    written
}

#[test]
fn ten_megabytes_up_wait_for_a_slow_backend_in_the_clients_socket() {
    let front = Front::open();
    let (body, pid) = (pattern(4 * BIG), front.greenroom.pid());
    let mut client = front.client_with(post(body.len(), ""));
    let (mut backend, _) = front.stub.request();
    let before = resident(pid);
    let written = fill(&mut client, &body);
    assert!(written < body.len(), "the client is held back by TCP");
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more");
    let rest = body[written..].to_vec();
    let sender = thread::spawn(move || {
        client.send(rest);
        client
    });
    assert!(backend.exactly(body.len()) == body, "not what was sent");
    let mut client = sender.join().unwrap();
    backend.send(ok("done"));
    assert_eq!(client.answer_with_length().1, "done");
}

#[test]
fn ten_megabytes_down_wait_for_a_slow_client_in_the_backends_socket() {
    let front = Front::open();
    let (body, pid) = (pattern(4 * BIG), front.greenroom.pid());
    let mut client = front.client_with(get("/down"));
    let (mut backend, _) = front.stub.request();
    backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
    let head = client.head();
    assert_eq!(field(&head, "content-length"), Some(body.len().to_string()));
    let before = resident(pid);
    let written = fill(&mut backend, &body);
    assert!(written < body.len(), "the backend is held back by TCP");
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more");
    let rest = body[written..].to_vec();
    let sender = thread::spawn(move || {
        backend.send(rest);
        backend
    });
    assert!(client.exactly(body.len()) == body, "not what was sent");
    sender.join().unwrap();
}

#[test]
fn both_directions_flow_at_one_time() {
    let (_house, mut client, mut backend) = sure();
    let body = pattern(BIG);
    client.send(post(BIG, ""));
    backend.head();
    backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"));
    client.head();
    // An echo: each side only goes on when the other does.
    let mut out = Raw::new(client.0.try_clone().unwrap());
    let sent = body.clone();
    let sender = thread::spawn(move || out.send(sent));
    let echo = thread::spawn(move || {
        for _ in 0..BIG / 10_000 {
            let piece = backend.exactly(10_000);
            backend.send(piece);
        }
    });
    assert!(client.exactly(BIG) == body, "not what was sent");
    sender.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn interim_answers_pass_to_who_knows_them() {
    let (house, mut client, mut backend) = sure();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    client.send(get("/"));
    backend.head();
    backend.send(hints);
    assert_eq!(client.head(), hints, "before the answer is there");
    backend.send(hints.repeat(7) + &ok("page"));
    for _ in 0..7 {
        assert_eq!(client.head(), hints);
    }
    assert_eq!(client.answer_with_length().1, "page");

    let mut old = house.client_with("GET / HTTP/1.0\r\n\r\n");
    backend.head();
    backend.send(hints.to_owned() + &ok("page"));
    let (head, body) = old.answer();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, "page");
}

#[test]
fn a_body_waits_for_the_100_of_the_backend() {
    let (_house, mut client, mut backend) = sure();
    for _ in 0..2 {
        client.send(post(5, "Expect: 100-continue\r\n"));
        let head = backend.head();
        assert_eq!(field(&head, "expect").as_deref(), Some("100-continue"), "{head}");
        assert!(!client.has_bytes(), "greenroom gives no 100 of its own");
        backend.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        assert_eq!(backend.exactly(5), b"hello");
        backend.send(ok("thanks"));
        let (head, body) = client.answer_with_length();
        assert_eq!((field(&head, "connection"), body.as_str()), (None, "thanks"));
    }
}

#[test]
fn a_backend_that_refuses_an_expectation_is_heard_at_once_and_both_connections_end() {
    for status in ["417 Expectation Failed", "401 Unauthorized"] {
        let (house, mut client, mut backend) = sure();
        client.send(post(5, "Expect: 100-continue\r\n"));
        backend.head();
        backend.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
        let (head, body) = client.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert_eq!(
            (field(&head, "connection").as_deref(), body.as_str()),
            (Some("close"), "no")
        );
        backend.closed();
        // What it would send now belongs to nobody.
        client.try_send("hello");
        assert!(house.stub.nobody_came());
    }
}

#[test]
fn a_backend_that_knows_no_expectation_gets_the_body_when_the_client_sends_it() {
    let (_house, mut client, mut backend) = sure();
    client.send(post(5, "Expect: 100-continue\r\n"));
    backend.head();
    client.send("hello"); // it has waited long enough
    assert_eq!(backend.exactly(5), b"hello");
    backend.send(ok("thanks"));
    assert_eq!(client.answer_with_length().1, "thanks");
}

#[test]
fn an_answer_that_comes_before_the_whole_body_reaches_a_client_that_still_sends() {
    let (_house, mut client, mut backend) = sure();
    client.send(post(BIG, ""));
    client.send(vec![b'x'; 1000]);
    backend.head();
    backend.exactly(1000);
    backend.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much");
    client.try_send(vec![b'x'; 1000]);
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(
        (field(&head, "connection").as_deref(), body.as_str()),
        (Some("close"), "too much")
    );
    backend.rest_or_reset();
}

#[test]
fn a_backend_that_answers_and_resets_while_the_body_comes_is_heard() {
    let (_house, mut client, mut backend) = sure();
    client.send(post(BIG, ""));
    backend.head();
    backend.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    backend.0.shutdown(Shutdown::Both).unwrap();
    client.try_send(vec![b'x'; 200_000]);
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(body, "no");
}

#[test]
fn a_malformed_body_is_400_and_its_backend_hears_no_end() {
    let (_house, mut client, mut backend) = sure();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    backend.head();
    assert_eq!(backend.exactly(7), b"2\r\nok\r\n");
    client.send("0x\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let rest = String::from_utf8(backend.rest_or_reset()).unwrap();
    assert!(!rest.contains("admin") && !rest.contains("\r\n\r\n"), "{rest:?}");
}

#[test]
fn a_client_that_leaves_takes_its_backend_connection_with_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    let first = [post(1000, ""), "x".repeat(10)].concat();
    for (request, begun) in [
        (get("/wait"), ""),
        (get("/events"), answer),
        (first.clone(), ""),
        (first, answer),
    ] {
        for way in ["fin", "reset"] {
            let (house, mut client, mut backend) = sure();
            client.send(&request);
            backend.head();
            if request.starts_with("POST") {
                backend.exactly(10);
            }
            backend.send(begun);
            if !begun.is_empty() {
                client.head();
                client.exactly(9);
            }
            match way {
                "fin" => drop(client),
                _ => client.reset(),
            }
            backend.closed();
            house.wait_for(State::Http, 0);
        }
    }
}

#[test]
fn a_client_that_leaves_is_seen_behind_a_pipelined_request() {
    let (_house, mut client, mut backend) = sure();
    client.send([get("/wait"), get("/next")].concat());
    backend.head();
    drop(client);
    backend.closed();
}

#[test]
fn a_backend_that_dies_within_its_answer_never_looks_like_an_end() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n";
    for begun in [length, chunked] {
        let (_house, mut client, mut backend) = sure();
        client.send(get("/"));
        backend.head();
        backend.send(begun);
        client.head();
        drop(backend);
        let rest = client.rest_or_reset();
        assert!(rest.len() < 11 && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    }
    // Where the end of the connection would be the end of the answer, only a reset says otherwise.
    let until_close = "HTTP/1.1 200 OK\r\n\r\nsome";
    for (request, begun) in [(get("/"), until_close), ("GET / HTTP/1.0\r\n\r\n".to_owned(), chunked)] {
        let (house, _client, mut backend) = sure();
        let mut client = house.client_with(request);
        backend.head();
        backend.send(begun);
        client.head();
        assert_eq!(client.exactly(4), b"some");
        backend.reset();
        let read = std::io::Read::read(&mut client.0, &mut [0]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_backend_that_closes_before_it_has_answered_is_502() {
    for (part, request) in [
        ("", post(2, "") + "hi"),
        ("HTTP/1.1 200 OK\r\nConte", get("/")),
        ("HTTP/1.1 100 Continue\r\n\r\n", get("/")),
    ] {
        let (_house, mut client, mut backend) = sure();
        client.send(request);
        backend.head();
        backend.send(part);
        backend.fin();
        let mut head = client.head();
        if head.starts_with("HTTP/1.1 100 ") {
            head = client.head();
        }
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{part}: {head}");
    }
}

#[test]
fn events_and_long_polls_flow_at_once() {
    let (house, _client, mut backend) = sure();
    let mut events = house.client_with(get("/events"));
    backend.head();
    backend.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    events.head();
    for number in 0..20 {
        let event = format!("9\r\ndata: {}\n\n\r\n", number % 10);
        backend.send(&event);
        assert_eq!(events.exactly(event.len()), event.as_bytes(), "before the next is sent");
    }
    // A long poll, and an answer that comes byte by byte.
    let mut poll = house.client_with(get("/poll"));
    let (mut other, _) = house.stub.request();
    assert!(poll.silent_for(Duration::from_millis(200)));
    other.send_by_bytes(ok("now"));
    assert_eq!(poll.answer_with_length().1, "now");
}

#[test]
fn an_answer_that_ends_the_connection_is_not_ended_by_a_clock() {
    let (house, mut client, mut backend) = sure();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    backend.head();
    backend.send(ok("bye"));
    assert_eq!(client.answer().1, "bye");
    // It ended while greenroom still takes what the client may have sent: else the first would be answered by a
    // reset, and the second could not be sent.
    client.send("more");
    client.send("and more");
    assert_eq!(house.registry.count(State::Closing), 1);
    drop(client);
    house.wait_for(State::Closing, 0);
}

#[test]
fn a_length_over_its_bound_is_413_before_anybody_is_asked() {
    let house = House::pushed(|config| config.routes[0].body_max = Some(1000));
    let (mut client, mut backend) = house.sure();
    client.send(post(1000, ""));
    client.send(vec![b'x'; 1000]);
    backend.head();
    backend.exactly(1000);
    backend.send(ok("fits"));
    client.answer_with_length();
    client.send(post(1001, ""));
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{head}");
    assert!(!backend.has_bytes());

    let mut client = house.client_with("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    backend.head();
    client.send(format!("3E8\r\n{}\r\n", "x".repeat(1000)));
    backend.exactly(1007);
    client.send("1\r\nx\r\n0\r\n\r\n");
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    let rest = backend.rest_or_reset();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
}
