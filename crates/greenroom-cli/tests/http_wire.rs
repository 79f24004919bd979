//! Plain HTTP, each byte of it: connections that carry one request after the other, and how answers are framed.
//!
//! The gate is open and sure in all of these, so requests go past it; `http_hold` is about waiting.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::house::House;
use common::raw::{Raw, field, frame, masked, switching, upgrade};
use greenroom_core::event::State;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.test\r\n\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The gate is sure, a client and its backend connection carried requests and are idle.
fn sure() -> (House, Raw, Raw) {
    let house = House::pushed(|_| {});
    let (client, backend) = house.sure();
    (house, client, backend)
}

#[test]
fn both_connections_carry_one_request_after_the_other() {
    let (house, mut client, mut backend) = sure();
    for number in 0..50 {
        client.send(get(&format!("/{number}")));
        let head = backend.head();
        assert!(head.starts_with(&format!("GET /{number} HTTP/1.1\r\n")), "{head}");
        backend.send(ok(&format!("this is {number}")));
        let (head, body) = client.answer_with_length();
        assert_eq!(field(&head, "connection"), None, "{head}");
        assert_eq!(body, format!("this is {number}"));
    }
    // Another client's request takes the same connection.
    let mut other = house.client_with(get("/other"));
    assert!(backend.head().starts_with("GET /other "));
    backend.send(ok("x"));
    other.answer_with_length();
    assert!(house.stub.nobody_came());
}

#[test]
fn each_request_has_a_number_that_grows() {
    let (_house, mut client, mut backend) = sure();
    let mut last = 0;
    for _ in 0..5 {
        client.send(get("/"));
        let head = backend.head();
        let number: u64 = field(&head, "greenroom-session").unwrap().parse().unwrap();
        assert!(number > last, "{number} after {last}");
        assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("1"));
        assert_eq!(field(&head, "via").as_deref(), Some("1.1 greenroom"));
        last = number;
        backend.send(ok(""));
        client.answer_with_length();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    let (house, mut client, mut backend) = sure();
    let post = "POST /2 HTTP/1.1\r\nHost: example.test\r\nContent-Length: 5\r\n\r\nhello";
    client.send([get("/1"), post.to_owned(), get("/3")].concat());
    assert!(backend.head().starts_with("GET /1 "));
    assert!(!backend.has_bytes(), "nothing of the next before this one is answered");
    backend.send(ok("one"));
    assert!(backend.head().starts_with("POST /2 "));
    assert_eq!(backend.exactly(5), b"hello");
    backend.send(ok("two"));
    assert!(backend.head().starts_with("GET /3 "));
    backend.send(ok("three"));
    for expected in ["one", "two", "three"] {
        assert_eq!(client.answer_with_length().1, expected);
    }
    assert!(house.stub.nobody_came());
}

#[test]
fn http_10_goes_on_only_if_it_asks_for_it() {
    let (house, _client, mut backend) = sure();
    let mut once = house.client_with("GET /a HTTP/1.0\r\n\r\n");
    let head = backend.head();
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        field(&head, "host"),
        Some(house.stub.address()),
        "HTTP/1.1 must have one"
    );
    backend.send(ok("once"));
    let (head, body) = once.answer();
    assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
    assert_eq!(body, "once");

    let mut more = house.client();
    for path in ["/b", "/c"] {
        more.send(format!(
            "GET {path} HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert!(backend.head().starts_with(&format!("GET {path} HTTP/1.1\r\n")));
        backend.send(ok("more"));
        let (head, _) = more.answer_with_length();
        assert_eq!(field(&head, "connection").as_deref(), Some("keep-alive"), "{head}");
    }
}

#[test]
fn a_client_that_says_close_is_answered_and_closed() {
    let (house, _client, mut backend) = sure();
    let mut client = house.client_with("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = backend.head();
    assert_eq!(
        field(&head, "connection"),
        None,
        "it is about that connection only: {head}"
    );
    backend.send(ok("bye"));
    let (head, body) = client.answer();
    assert_eq!(
        (field(&head, "connection").as_deref(), body.as_str()),
        (Some("close"), "bye")
    );
    house.wait_for(State::Http, 0);
}

#[test]
fn an_answer_without_a_body_ends_with_its_head() {
    let (_house, mut client, mut backend) = sure();
    for (request, answer, kept) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
        ("HEAD", "HTTP/1.1 404 No\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None),
    ] {
        client.send(format!("{request} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(backend.head().starts_with(request));
        backend.send(answer);
        let head = client.head();
        assert_eq!(head.lines().next(), answer.lines().next());
        assert_eq!(field(&head, "content-length").as_deref(), kept, "{head}");
        assert_eq!(field(&head, "connection"), None, "{head}");
    }
    // Both connections are where they should be: the next answer is the next request's.
    client.send(get("/last"));
    assert!(backend.head().starts_with("GET /last "));
    backend.send(ok("last"));
    assert_eq!(client.answer_with_length().1, "last");
}

/// A server may send the body that such an answer must not have: nobody else gets it.
#[test]
fn an_answer_without_a_body_that_speaks_of_one_ends_its_backend_connection() {
    let (house, mut client, mut backend) = sure();
    for (request, answer, kept) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n",
            Some("10000"),
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", None),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n",
            Some("77"),
        ),
    ] {
        client.send(format!("{request} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(backend.head().starts_with(request));
        backend.send(answer);
        let head = client.head();
        assert_eq!(head.lines().next(), answer.lines().next());
        assert_eq!(field(&head, "content-length").as_deref(), kept, "{head}");
        assert_eq!(field(&head, "connection"), None, "the client's goes on: {head}");
        client.send(get("/next"));
        let mut next = house.stub.accept();
        assert!(next.head().starts_with("GET /next "));
        backend.try_send(ok("evil"));
        backend.rest_or_reset();
        next.send(ok("next"));
        assert_eq!(client.answer_with_length().1, "next");
        backend = next;
    }
}

#[test]
fn chunks_extensions_and_trailer_fields_pass_as_they_came_both_ways() {
    let (house, mut client, mut backend) = sure();
    let body = "5;name=\"v\"\r\nhello\r\nA\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nX-Other:  two \r\n\r\n";
    for by_bytes in [false, true] {
        client.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        if by_bytes {
            client.send_by_bytes(body);
        } else {
            client.send([body, &get("/next")].concat());
        }
        let head = backend.head();
        assert_eq!(field(&head, "transfer-encoding").as_deref(), Some("chunked"), "{head}");
        assert_eq!(String::from_utf8(backend.exactly(body.len())).unwrap(), body);
        backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        if by_bytes {
            backend.send_by_bytes(body);
        } else {
            backend.send(body);
        }
        let head = client.head();
        assert_eq!(field(&head, "transfer-encoding").as_deref(), Some("chunked"), "{head}");
        assert_eq!(String::from_utf8(client.exactly(body.len())).unwrap(), body);
        if !by_bytes {
            assert!(
                backend.head().starts_with("GET /next "),
                "what followed the body is the next request"
            );
            backend.send(ok("next"));
            assert_eq!(client.answer_with_length().1, "next");
        }
    }
    assert!(house.stub.nobody_came());
}

#[test]
fn a_client_of_http_10_gets_a_chunked_answer_without_its_chunks() {
    let (house, _client, mut backend) = sure();
    for keep_alive in ["", "Connection: keep-alive\r\n"] {
        let mut client = house.client_with(format!("GET / HTTP/1.0\r\n{keep_alive}\r\n"));
        backend.head();
        backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhel");
        backend.send("lo\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n");
        let (head, body) = client.answer();
        assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
        assert_eq!(body, "hello world");
    }
    assert!(house.stub.nobody_came(), "the backend's connection went on");
}

#[test]
fn a_body_without_a_length_ends_with_the_backends_connection() {
    let (house, mut client, mut backend) = sure();
    client.send(get("/"));
    backend.head();
    backend.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nup to ");
    backend.send("the end");
    drop(backend);
    let (head, body) = client.answer();
    assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
    assert_eq!(body, "up to the end");
    let _other = house.client_with(get("/again"));
    house.stub.request();
}

#[test]
fn an_answer_of_http_10_closes_the_backends_connection_and_not_the_clients() {
    let (house, mut client, mut backend) = sure();
    client.send(get("/1"));
    backend.head();
    backend.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    let (head, body) = client.answer_with_length();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!((field(&head, "connection"), body.as_str()), (None, "old"));
    backend.closed();
    client.send(get("/2"));
    let (mut backend, _) = house.stub.request();
    backend.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nnew");
    client.answer_with_length();
    client.send(get("/3"));
    assert!(backend.head().starts_with("GET /3 "));
}

#[test]
fn a_backend_that_says_close_is_not_asked_again_on_that_connection() {
    let (house, mut client, mut backend) = sure();
    client.send(get("/1"));
    backend.head();
    backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye");
    let (head, _) = client.answer_with_length();
    assert_eq!(
        field(&head, "connection"),
        None,
        "that is the backend's own matter: {head}"
    );
    backend.closed();
    client.send(get("/2"));
    let (mut backend, _) = house.stub.request();
    backend.send(ok("2"));
    assert_eq!(client.answer_with_length().1, "2");
}

#[test]
fn what_a_backend_says_behind_its_answer_reaches_nobody() {
    for surplus in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "x"] {
        let (house, mut client, mut backend) = sure();
        client.send(get("/1"));
        backend.head();
        backend.send(ok("good") + surplus);
        assert_eq!(client.answer_with_length().1, "good");
        client.send(get("/2"));
        let (mut next, _) = house.stub.request();
        next.send(ok("2"));
        assert_eq!(client.answer_with_length().1, "2");
        backend.closed();
    }
    // Also when it comes later, while the connection is idle.
    let (house, mut client, mut backend) = sure();
    client.send(get("/1"));
    backend.head();
    backend.send(ok("good"));
    assert_eq!(client.answer_with_length().1, "good");
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    client.send(get("/2"));
    let (mut backend, _) = house.stub.request();
    backend.send(ok("2"));
    assert_eq!(client.answer_with_length().1, "2");
}

#[test]
fn a_kept_connection_that_its_backend_has_closed_is_not_used() {
    for request in [
        get("/"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
    ] {
        let (house, mut client, backend) = sure();
        drop(backend);
        client.send(&request);
        let (mut backend, head) = house.stub.request();
        assert_eq!(
            field(&head, "greenroom-attempt").as_deref(),
            Some("1"),
            "it never went out before: {head}"
        );
        backend.send(ok("ok"));
        assert_eq!(client.answer_with_length().1, "ok");
    }
}

#[test]
fn a_get_that_meets_a_closing_connection_is_tried_again_unseen() {
    let (house, mut client, mut backend) = sure();
    client.send(get("/"));
    let first = backend.head();
    drop(backend); // it took the request, and closed at that moment
    let (mut backend, second) = house.stub.request();
    assert_eq!(field(&second, "greenroom-session"), field(&first, "greenroom-session"));
    assert_eq!(field(&second, "greenroom-attempt").as_deref(), Some("2"));
    backend.send(ok("ok"));
    assert_eq!(client.answer_with_length().1, "ok");
}

#[test]
fn a_post_that_meets_a_closing_connection_is_502_and_never_sent_twice() {
    for body in ["", "hi"] {
        let (house, mut client, mut backend) = sure();
        let length = body.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let head = backend.head();
        backend.exactly(length);
        drop(backend);
        let (answer, _) = client.answer();
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        assert_eq!(field(&answer, "greenroom-session"), field(&head, "greenroom-session"));
        assert_eq!(field(&answer, "greenroom-refusal").as_deref(), Some("bad_answer"));
        assert!(house.stub.nobody_came());
    }
}

#[test]
fn connect_is_refused_and_h2c_is_not_spoken() {
    let (house, mut client, mut backend) = sure();
    let mut connect = house.client_with("CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n");
    let (head, _) = connect.answer();
    assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
    client.send(
        "GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    );
    let head = backend.head();
    assert!(head.starts_with("GET /h2c "), "{head}");
    for gone in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    backend.send(ok("plain"));
    assert_eq!(client.answer_with_length().1, "plain");
}

#[test]
fn a_websocket_may_follow_plain_requests_on_one_connection() {
    let (house, mut client, mut backend) = sure();
    client.send(get("/page"));
    backend.head();
    backend.send(ok("page"));
    client.answer_with_length();
    // Pipelined behind another request, and with a message behind it.
    let message = masked(0x81, b"early");
    client.send([get("/2").into_bytes(), upgrade("").into_bytes(), message.clone()].concat());
    backend.head();
    backend.send(ok("2"));
    client.answer_with_length();
    let (mut websocket, head) = house.stub.request();
    assert!(head.starts_with("GET /ws "), "{head}");
    websocket.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(websocket.exactly(message.len()), message);
    websocket.send(frame(0x81, b"late"));
    assert_eq!(client.frame(), (0x81, b"late".to_vec()));
    house.wait_for(State::Relaying, 1);
}

#[test]
fn a_101_to_a_plain_request_is_502_and_its_connection_is_closed() {
    for request in [
        get("/ssrf"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
    ] {
        let (_house, mut client, mut backend) = sure();
        client.send(&request);
        backend.head();
        backend.send(switching("") + "\u{1}\u{2}");
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(field(&head, "greenroom-session").is_some(), "{head}");
        assert_eq!(body.lines().count(), 1, "{body}");
        backend.rest_or_reset();
    }
}

#[test]
fn a_head_request_that_is_refused_gets_no_body() {
    let (_house, mut client, mut backend) = sure();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.head();
    backend.send("SSH-2.0-OpenSSH\r\n");
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(body, "");
}

/// A50. What a backend may send before its answer is bounded.
#[test]
fn a_malicious_backend_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\n".to_owned() + &"X: y\r\n".repeat(101) + "\r\n",
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(17_000)),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9) + &ok("late"),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".into(),
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n".into(),
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/2 200\r\n\r\n".into(),
        "<html>".into(),
    ] {
        let (_house, mut client, mut backend) = sure();
        client.send(get("/"));
        backend.head();
        backend.send(&answer);
        let mut head = client.head();
        while head.starts_with("HTTP/1.1 103 ") {
            head = client.head();
        }
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}\n{head}");
        assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
        backend.rest_or_reset();
    }
}
