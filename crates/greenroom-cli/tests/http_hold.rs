//! Plain requests that come too early: held in one line with the WebSocket clients, and let in by the same gate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::{ErrorKind, Write as _},
    time::{Duration, Instant},
};

use common::house::House;
use common::raw::{Raw, SOON, field, nobody, serve, switching, upgrade};
use greenroom::config::HttpMode;
use greenroom_core::backend::Input;
use greenroom_core::event::{Generation, State};
use greenroom_core::limits::HTTP_HOLD;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.test\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: example.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const NOT_YET: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\n\r\nnot yet";

/// A client that is held, the last of so many.
fn held(house: &House, request: impl AsRef<[u8]>, count: u64) -> Raw {
    let client = house.client_with(request);
    house.wait_for(State::Held, count);
    client
}

fn session(head: &str) -> u64 {
    field(head, "greenroom-session").unwrap().parse().unwrap()
}

fn refused(client: &mut Raw, word: &str) -> String {
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(word), "{head}");
    let after: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&after), "{head}");
    head
}

#[test]
fn plain_requests_and_websockets_are_let_in_in_one_order() {
    let house = House::pushed(|_| {});
    let mut clients = Vec::new();
    for number in 0..42 {
        let request = match number % 3 {
            0 => get("/page"),
            1 => upgrade(""),
            _ => post("/form", "body"),
        };
        clients.push(held(&house, request, number + 1));
    }
    house.ready();
    let mut last = 0;
    for number in 0..42 {
        let (mut backend, head) = house.stub.request();
        let path = ["/page", "/ws", "/form"][number % 3];
        assert!(head.contains(&format!(" {path} HTTP/1.1\r\n")), "{number}: {head}");
        assert!(session(&head) > last, "{} after {last}", session(&head));
        last = session(&head);
        match number % 3 {
            0 => backend.send(ok("page")),
            1 => backend.send(switching("")),
            _ => {
                assert_eq!(backend.exactly(4), b"body");
                backend.send(ok("form"));
            }
        }
        std::mem::forget(backend); // open until the process ends
    }
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 3 {
            0 => assert_eq!(client.answer_with_length().1, "page"),
            1 => assert!(client.head().starts_with("HTTP/1.1 101 ")),
            _ => assert_eq!(client.answer_with_length().1, "form"),
        }
    }
}

#[test]
fn nothing_of_a_body_is_read_before_its_request_is_let_in() {
    let greenroom = serve(&nobody(), &[]);
    let address = greenroom.address();
    // Without the program's own pages, which come when they are first run.
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", greenroom.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = rss();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Raw::connect(&address);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n");
        client.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let piece = vec![b'x'; 1_000_000];
        let stopped = (0..40).find_map(|_| client.0.write_all(&piece).err());
        let stopped = stopped.expect("the sender is held back by TCP");
        assert_eq!(stopped.kind(), ErrorKind::WouldBlock);
        clients.push(client);
    }
    let grown = rss().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more");
}

#[test]
fn no_byte_of_a_post_reaches_a_backend_before_it_is_let_in_and_then_all_of_it() {
    let house = House::pushed(|_| {});
    let body = "x".repeat(100_000);
    let mut client = held(&house, post("/form", &body), 1);
    let mut expects = held(
        &house,
        "POST /2 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        2,
    );
    assert!(client.silent_for(Duration::from_millis(300)));
    assert!(!expects.has_bytes(), "no 100 while it is held");
    assert!(house.stub.nobody_came());
    house.ready();
    let (mut backend, head) = house.stub.request();
    assert!(head.starts_with("POST /form "), "{head}");
    assert!(backend.exactly(body.len()) == body.as_bytes());
    backend.send(ok("done"));
    assert_eq!(client.answer_with_length().1, "done");
    let (mut backend, head) = house.stub.request();
    assert_eq!(field(&head, "expect").as_deref(), Some("100-continue"));
    backend.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(expects.head().starts_with("HTTP/1.1 100 "));
    expects.send("hi");
    assert_eq!(backend.exactly(2), b"hi");
    backend.send(ok("done"));
    assert_eq!(expects.answer_with_length().1, "done");
}

#[test]
fn a_hold_that_is_over_is_503_with_a_time_to_come_back() {
    let house = House::pushed(|config| config.routes[0].http_hold = Duration::from_millis(200));
    let mut page = held(&house, get("/"), 1);
    let mut form = house.client_with(post("/", &"x".repeat(100_000)));
    let head = refused(&mut page, "hold_timeout");
    assert!(field(&head, "greenroom-session").is_some(), "{head}");
    assert_eq!(field(&head, "connection").as_deref(), Some("close"));
    refused(&mut form, "hold_timeout");
    house.wait_for(State::Held, 0);
    assert!(house.stub.nobody_came());
}

#[test]
fn a_client_that_leaves_frees_its_place_and_reaches_no_backend() {
    // Longer than anything is waited for here: it is the leaving that frees the place, not the end of the hold.
    let house = House::pushed(|config| config.routes[0].http_hold = 3 * SOON);
    for request in [
        get("/"),
        post("/", "body"),
        post("/", &"x".repeat(50_000)),
        get("/") + &get("/2"),
    ] {
        drop(held(&house, &request, 1));
        house.wait_for(State::Held, 0);
        held(&house, &request, 1).reset();
        house.wait_for(State::Held, 0);
        let client = held(&house, &request, 1);
        client.fin();
        house.wait_for(State::Held, 0);
    }
    let mut last = held(&house, get("/last"), 1);
    house.ready();
    let (mut backend, head) = house.stub.request();
    assert!(head.starts_with("GET /last "), "{head}");
    backend.send(ok("last"));
    assert_eq!(last.answer_with_length().1, "last");
    assert!(house.stub.nobody_came());
}

#[test]
fn too_many_held_requests_are_refused_and_websockets_still_wait() {
    let house = House::pushed(|config| config.backends[0].http_held_max = 2);
    let first = held(&house, get("/1"), 1);
    let _second = held(&house, post("/2", "x"), 2);
    refused(&mut house.client_with(get("/3")), "held_full");
    let _websocket = held(&house, upgrade(""), 3);
    refused(&mut house.client_with(post("/4", "x")), "held_full");
    first.fin();
    house.wait_for(State::Held, 2);
    let _again = held(&house, get("/5"), 3);
}

#[test]
fn a_get_may_go_first_on_trial_and_a_not_ready_is_not_its_clients() {
    let house = House::inferred(|_| {});
    let mut form = held(&house, post("/form", "body"), 1);
    let mut page = held(&house, get("/page"), 2);
    house.ready();
    for attempt in 1..=2 {
        let (mut backend, head) = house.stub.request();
        assert!(head.starts_with("GET /page "), "the POST waits for a proof: {head}");
        assert_eq!(field(&head, "greenroom-attempt"), Some(attempt.to_string()));
        match attempt {
            1 => backend.send(NOT_YET),
            _ => drop(backend), // dropped without a word: the same
        }
    }
    let (mut backend, head) = house.stub.request();
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("3"));
    assert!(!page.has_bytes() && !form.has_bytes());
    backend.send(ok("page"));
    assert_eq!(page.answer_with_length().1, "page");
    let (mut backend, head) = house.stub.request();
    assert!(head.starts_with("POST /form "), "{head}");
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("1"));
    assert_eq!(backend.exactly(4), b"body");
    backend.send(ok("form"));
    assert_eq!(form.answer_with_length().1, "form");
}

#[test]
fn an_answer_that_says_nothing_of_readiness_is_passed_on_from_trial() {
    let house = House::inferred(|_| {});
    let mut page = held(&house, get("/page"), 1);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
    let (head, body) = page.answer_with_length();
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, "none");
}

#[test]
fn requests_that_cannot_be_sent_twice_are_let_in_alone_after_a_second_if_nobody_else_waits() {
    let house = House::inferred(|_| {});
    let mut first = held(&house, post("/1", "one"), 1);
    let mut second = held(&house, post("/2", "two"), 2);
    let begun = Instant::now();
    house.ready();
    let (mut backend, head) = house.stub.request();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(head.starts_with("POST /1 "), "{head}");
    assert_eq!(backend.exactly(3), b"one");
    assert!(backend.silent_for(Duration::from_millis(200)));
    assert!(house.stub.nobody_came(), "one at a time");
    backend.send(ok("1"));
    assert_eq!(first.answer_with_length().1, "1");
    // Its answer is the proof: the other goes at once.
    let (mut backend, head) = house.stub.request();
    assert!(head.starts_with("POST /2 "), "{head}");
    assert_eq!(backend.exactly(3), b"two");
    backend.send(ok("2"));
    assert_eq!(second.answer_with_length().1, "2");
}

#[test]
fn what_a_post_on_trial_comes_to_is_its_clients_and_it_is_never_sent_twice() {
    for answer in [NOT_YET, ""] {
        let house = House::inferred(|_| {});
        let mut form = held(&house, post("/form", "body"), 1);
        house.ready();
        let (mut backend, _) = house.stub.request();
        assert_eq!(backend.exactly(4), b"body");
        backend.send(answer);
        drop(backend);
        let head = form.head();
        if answer.is_empty() {
            assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        } else {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert_eq!(form.exactly(7), b"not yet", "the backend's own words");
        }
        // Another proves the gate; the POST was over by then.
        let mut page = house.client_with(get("/page"));
        let (mut backend, head) = house.stub.request();
        assert!(head.starts_with("GET /page "), "{head}");
        backend.send(ok("page"));
        page.answer_with_length();
        assert!(house.stub.nobody_came());
    }
}

#[test]
fn a_ready_that_came_too_early_is_not_seen_by_who_can_be_asked_again() {
    let house = House::pushed(|_| {});
    let mut page = held(&house, get("/page"), 1);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(NOT_YET);
    let (mut backend, head) = house.stub.request();
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("2"));
    backend.send(ok("page"));
    assert_eq!(page.answer_with_length().1, "page");
}

#[test]
fn a_route_may_refuse_or_pass_instead() {
    let house = House::pushed(|config| config.routes[0].http = HttpMode::Refuse);
    refused(&mut house.client_with(get("/")), "not_ready");
    refused(&mut house.client_with(post("/", "body")), "not_ready");
    assert!(house.stub.nobody_came());

    let house = House::pushed(|config| config.routes[0].http = HttpMode::Pass);
    let mut client = house.client_with(get("/health"));
    let (mut backend, _) = house.stub.request();
    backend.send(NOT_YET);
    let (head, body) = client.answer_with_length();
    assert!(head.starts_with("HTTP/1.1 503 ") && body == "not yet", "{head}");
    let _websocket = held(&house, upgrade(""), 1);
}

/// It is neither held nor on its way any more, however long its answer takes.
#[test]
fn who_was_held_and_is_let_in_is_counted_as_a_plain_request_while_its_answer_streams() {
    for trial in [false, true] {
        let house = if trial {
            House::inferred(|_| {})
        } else {
            House::pushed(|_| {})
        };
        let mut page = held(&house, get("/events"), 1);
        house.ready();
        let (mut backend, _) = house.stub.request();
        backend.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        assert!(page.head().starts_with("HTTP/1.1 200 "));
        house.wait_for(State::Http, 1);
        backend.send("cd");
        assert_eq!(page.exactly(4), b"abcd");
    }
}

/// Who asked not to be held is told what the backend did, be it nothing, and does not wait at the gate for it.
#[test]
fn a_request_that_passes_is_not_held_when_the_backend_closes_without_a_word() {
    let house = House::pushed(|config| config.routes[0].http = HttpMode::Pass);
    let mut client = house.client_with(get("/health"));
    let (backend, _) = house.stub.request();
    drop(backend);
    let began = Instant::now();
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(began.elapsed() < HTTP_HOLD / 2, "{:?}", began.elapsed());
}

#[test]
fn a_backend_that_is_gone_is_waited_for_again() {
    let place = nobody();
    let house = House::before(&place, |_| {});
    house.ready(); // a word that does not hold
    let mut page = held(&house, get("/page"), 1);
    let mut websocket = held(&house, upgrade(""), 2);
    let stub = common::raw::Stub::at(&place);
    house.ready();
    let (mut backend, head) = stub.request();
    assert!(head.starts_with("GET /page "), "{head}");
    backend.send(ok("page"));
    assert_eq!(page.answer_with_length().1, "page");
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert!(websocket.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn who_is_held_hears_of_a_failed_start_and_of_a_stop() {
    let house = House::pushed(|_| {});
    let mut page = held(&house, get("/page"), 1);
    house.tell(Input::Exited {
        generation: Generation(0),
        restarts: false,
        code: 1,
    });
    refused(&mut page, "start_failed");

    let house = House::pushed(|_| {});
    let mut page = held(&house, get("/page"), 1);
    let mut form = held(&house, post("/form", "body"), 2);
    house.stop();
    refused(&mut page, "draining");
    refused(&mut form, "draining");
    refused(&mut house.client_with(get("/late")), "draining");
    assert!(house.stub.nobody_came());
}

#[test]
fn a_stop_lets_answers_end_and_closes_who_is_idle() {
    let house = House::pushed(|_| {});
    let (mut idle, mut backend) = house.sure();
    let mut busy = house.client_with(get("/slow"));
    backend.head();
    house.stop();
    idle.closed();
    backend.send(ok("done"));
    let (head, body) = busy.answer();
    assert_eq!(
        (field(&head, "connection").as_deref(), body.as_str()),
        (Some("close"), "done")
    );
}

/// A request that was let in may be acted on: a stop does not tell its client to send it once more.
#[test]
fn a_stop_waits_for_what_is_let_in_on_trial() {
    let house = House::inferred(|_| {});
    let mut form = held(&house, post("/form", "body"), 1);
    house.ready();
    let (mut backend, _) = house.stub.request();
    assert_eq!(backend.exactly(4), b"body");
    house.stop();
    refused(&mut house.client_with(get("/late")), "draining");
    backend.send(ok("done"));
    let (head, body) = form.answer();
    assert_eq!(
        (field(&head, "connection").as_deref(), body.as_str()),
        (Some("close"), "done"),
        "{head}"
    );
}

#[test]
fn the_program_holds_plain_requests_and_tells_so() {
    let place = nobody();
    let greenroom = serve(&place, &[]);
    let address = greenroom.address();
    let mut page = Raw::connect(&address);
    page.send(get("/page"));
    greenroom.wait_for_event("held", SOON);
    let stub = common::raw::Stub::at(&place);
    let (mut backend, head) = stub.request();
    let number = session(&head);
    backend.send("nonsense\r\n\r\n");
    let (head, _) = page.answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(session(&head), number);
    let said = greenroom.wait_for_event("refused", SOON);
    assert_eq!(
        (said["session"].as_u64(), said["status"].as_u64()),
        (Some(number), Some(502))
    );
}

#[test]
fn a_client_that_breaks_its_body_on_trial_blocks_nobody() {
    let house = House::inferred(|config| config.backends[0].dials_max = 1);
    house.ready();
    let mut broken = house.client_with("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n");
    let (_backend, _) = house.stub.request();
    let (head, _) = broken.answer();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    // Its place is free: else nobody could be dialled any more.
    let mut page = house.client_with(get("/page"));
    let (mut backend, _) = house.stub.request();
    backend.send(ok("page"));
    assert_eq!(page.answer_with_length().1, "page");
}
