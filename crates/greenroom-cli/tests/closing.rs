//! Connections that somebody closes by hand, in every state: what the client hears, what the backend does, and what the
//! ledger says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    process::until,
    raw::{Raw, Stub, close, field, frame, masked, nobody, upgrade},
    rig::Rig,
};
use serde_json::{Value, json};

/// The last that ended: its cause, its refusal, its detail, and where it was before.
fn end(rig: &Rig) -> [Value; 4] {
    let end = rig.last_end();
    ["cause", "refusal", "detail", "from"].map(|name| end[name].clone())
}

/// Closes all in this state by the API, of which there must be one.
fn shut(rig: &Rig, state: &str) {
    let asked = json!({"filter": {"state": state}, "code": 4001, "reason": "bye"});
    let (status, done) = rig.post("/v1/connections/close", &asked);
    assert_eq!(
        (status, &done["matched"], &done["closed"]),
        (200, &1.into(), &1.into()),
        "{done}"
    );
}

/// A refusal by hand, on the wire.
fn refused(client: &mut Raw) {
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("by_hand"));
    assert!(field(&head, "retry-after").is_some(), "{head}");
}

/// What the ledger says of one that had no 101 and of one that had, by what [`shut`] has said.
fn by_hand(from: &str) -> [Value; 4] {
    ["refused", "by_hand", "code 4001, \"bye\"", from].map(Value::from)
}

fn admin(from: &str) -> [Value; 4] {
    ["admin".into(), Value::Null, "code 4001, \"bye\"".into(), from.into()]
}

#[test]
fn who_waits_for_a_101_is_refused_by_name() {
    let rig = Rig::before(&nobody(), "hold = \"handshake\"");
    let mut client = rig.knock("/ws");
    rig.held(1);
    shut(&rig, "held");
    refused(&mut client);
    assert_eq!(end(&rig), by_hand("held"));
    let place = rig.knock("/ws");
    rig.held(1); // its place is free
    drop(place);
}

/// A list in the place of the filter would be read by the order of its fields; `after` alone lets everybody through.
#[test]
fn what_chooses_nobody_changes_nobody() {
    let rig = Rig::before(&nobody(), "hold = \"handshake\"");
    let mut client = rig.knock("/ws");
    rig.held(1);
    for (filter, word) in [
        (json!(["held"]), "`filter` is a list"),
        (json!([]), "`filter` is a list"),
        (json!([null, "app"]), "`filter` is a list"),
        (json!("held"), "`filter` is \"held\""),
        (json!(null), "`filter` is null"),
        (json!({}), "nothing says"),
        (json!({"after": 0}), "nothing says"),
    ] {
        for (path, more) in [
            ("/v1/connections/close", json!({})),
            ("/v1/connections/close", json!({"dry_run": true})),
            ("/v1/connections/send", json!({"text": "x"})),
            ("/v1/drain", json!({"window": "0s"})),
        ] {
            let mut body = more;
            body["filter"] = filter.clone();
            let (status, problem) = rig.post(path, &body);
            assert_eq!(status, 422, "{path} {body}: {problem}");
            assert!(
                problem["error"].as_str().unwrap().contains(word),
                "{path} {body}: {problem}"
            );
        }
    }
    for args in [
        &["close", "--after", "0", "-y"][..],
        &["close", "-y"],
        &["send", "--after", "0", "--text", "x"],
        &["drain"],
    ] {
        assert_eq!(rig.say(args).status.code(), Some(2), "{args:?}");
    }
    rig.are(1, "held");
    // Beside what chooses it goes on behind a number.
    for (body, matched) in [
        (json!({"all": true, "filter": {"after": 0}, "dry_run": true}), 1),
        (json!({"all": true, "filter": {"after": 1}, "dry_run": true}), 0),
        (json!({"filter": {"state": "held", "after": 1}, "dry_run": true}), 0),
        (json!({"all": true, "filter": {"after": 0}}), 1),
    ] {
        let (status, done) = rig.post("/v1/connections/close", &body);
        assert_eq!((status, &done["matched"]), (200, &matched.into()), "{body}: {done}");
    }
    refused(&mut client);
}

#[test]
fn who_was_accepted_gets_the_close_and_what_it_said_is_told_of() {
    let rig = Rig::before(&nobody(), "hold = \"accept\"");
    let mut client = rig.knock("/ws");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let early = masked(0x81, b"hello");
    client.send(&early);
    rig.are(1, "held");
    // What it said is kept before it is told: a Pong behind it says so.
    client.send(masked(0x89, b"?"));
    assert_eq!(client.frame(), (0x8a, b"?".to_vec()));
    shut(&rig, "held");
    assert_eq!(client.close_frame(), (4001, "bye".into()));
    client.send(masked(0x88, &close(4001, "")));
    assert_eq!(client.rest(), b"");
    let [cause, refusal, detail, from] = end(&rig);
    assert_eq!(
        [cause, refusal, from],
        ["admin".into(), Value::Null, Value::from("held")]
    );
    let unheard = format!(
        "code 4001, \"bye\"; {} bytes that it had sent went to nobody",
        early.len()
    );
    assert_eq!(detail, unheard);
}

#[test]
fn who_is_dialled_loses_its_backend_connection_and_is_refused() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "hold = \"handshake\"");
    let mut client = rig.knock("/ws");
    let (mut backend, _) = stub.request();
    rig.are(1, "dialing");
    shut(&rig, "dialing");
    refused(&mut client);
    backend.closed();
    assert_eq!(end(&rig), by_hand("dialing"));
}

#[test]
fn who_was_accepted_and_is_dialled_gets_the_close() {
    let place = nobody();
    let rig = Rig::before(&place, "hold = \"accept\"");
    let mut client = rig.knock("/ws");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let stub = Stub::at(&place);
    let (mut backend, _) = stub.request();
    rig.are(1, "dialing");
    shut(&rig, "dialing");
    assert_eq!(client.close_frame(), (4001, "bye".into()));
    client.send(masked(0x88, &close(4001, "")));
    assert_eq!(client.rest(), b"");
    backend.closed();
    assert_eq!(end(&rig), admin("dialing"));
}

const GET: &str = "GET /page HTTP/1.1\r\nHost: example.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_connection_for_plain_http_is_closed_between_requests_at_once() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let mut client = Raw::connect(&rig.address);
    client.send(GET);
    let (mut backend, _) = stub.request();
    backend.send(OK);
    assert_eq!(client.answer_with_length().1, "ok");
    rig.are(1, "opening");
    shut(&rig, "opening");
    assert_eq!(client.rest(), b"");
    assert_eq!(end(&rig), admin("opening"));
}

#[test]
fn a_plain_request_that_is_under_way_is_answered_before() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let mut client = Raw::connect(&rig.address);
    client.send(GET);
    let (mut backend, _) = stub.request();
    backend.send(OK);
    assert_eq!(client.answer_with_length().1, "ok"); // the gate is sure from here on
    client.send(GET);
    let (mut backend, _) = stub.request(); // the first was on trial, and is not kept
    rig.are(1, "http");
    shut(&rig, "http");
    backend.send(OK);
    assert_eq!(client.answer().1, "ok", "and then its end");
    assert_eq!(end(&rig), admin("http"));
}

#[test]
fn a_plain_request_that_waits_is_refused_by_name() {
    let rig = Rig::before(&nobody(), "");
    let mut client = Raw::connect(&rig.address);
    client.send(GET);
    rig.are(1, "held");
    shut(&rig, "held");
    refused(&mut client);
    assert_eq!(end(&rig), by_hand("held"));
}

#[test]
fn a_page_that_waits_is_closed() {
    let rig = Rig::before(&nobody(), "");
    let mut client = Raw::connect(&rig.address);
    client.send("GET / HTTP/1.1\r\nHost: example.test\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n");
    assert!(client.head().contains("text/html"));
    rig.are(1, "http");
    shut(&rig, "http");
    assert!(client.rest_or_reset().starts_with(b"<!doctype html>"));
    assert_eq!(end(&rig), admin("http"));
}

#[test]
fn who_has_not_sent_its_head_is_closed_without_a_word() {
    let rig = Rig::before(&nobody(), "");
    for bytes in ["", "GET /ws HTTP/1.1\r\nHost: exa"] {
        let mut client = Raw::connect(&rig.address);
        client.send(bytes);
        rig.are(1, "opening");
        shut(&rig, "opening");
        client.closed();
        assert_eq!(end(&rig), admin("opening"));
    }
}

#[test]
fn a_relay_is_closed_with_the_code_and_its_backend_hears_that_it_goes() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, mut backend) = rig.relayed(&stub);
    let (status, counted) = rig.post("/v1/connections/close", &json!({"all": true, "dry_run": true}));
    assert_eq!(
        (status, &counted["matched"], &counted["closed"]),
        (200, &1.into(), &0.into())
    );
    rig.are(1, "relaying");
    shut(&rig, "relaying");
    assert_eq!(client.close_frame(), (4001, "bye".into()));
    assert_eq!(backend.close_frame().0, 1001);
    assert_eq!(backend.rest(), b"");
    let (status, again) = rig.post("/v1/connections/1/close", &json!({}));
    assert_eq!(
        (status, &again["already"], &again["closed"]),
        (200, &1.into(), &0.into()),
        "it is closing"
    );
    client.send(masked(0x88, &close(4001, "")));
    assert_eq!(client.rest(), b"");
    assert_eq!(end(&rig), admin("relaying"));
    let (status, again) = rig.post("/v1/connections/1/close", &json!({}));
    assert_eq!((status, &again["already"]), (200, &1.into()), "it is closed");
    let told = |event: &Value| event["event"] == "admin" && event["action"] == "close" && event["count"] == 1;
    let event = rig.greenroom.wait_for(told, common::raw::SOON);
    assert_eq!(
        (&event["what"], &event["result"]),
        (&"state=relaying".into(), &"done".into()),
        "{event}"
    );
}

/// Clients of a lost backend wait for their turn to be closed; by hand it is theirs at once, and they hear
/// what was asked for. That the backend was lost came first, and stays the cause.
#[test]
fn who_waits_for_its_turn_to_be_closed_has_it_at_once() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut client, backend) = rig.relayed(&stub);
    rig.are(1, "relaying");
    drop(backend); // 1012 comes after its first second
    until("it is lost", || {
        let events = rig.greenroom.events();
        events.iter().any(|event| event["event"] == "relays_lost")
    });
    let asked = json!({"numbers": [1, 1], "code": 4000, "reason": "mine"});
    let (_, done) = rig.post("/v1/connections/close", &asked);
    assert_eq!(done["matched"], 1, "who is named twice is one: {done}");
    assert_eq!(done["closed"], 1, "{done}");
    assert_eq!(client.close_frame(), (4000, "mine".into()));
    client.send(masked(0x88, &close(4000, "")));
    assert_eq!(client.rest(), b"");
    assert_eq!(end(&rig)[0], "backend_lost");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_do_and_changes_nothing() {
    let rig = Rig::before(&nobody(), "hold = \"handshake\"");
    let client = rig.knock("/ws");
    rig.held(1);
    for (body, status, help) in [
        (json!({}), 422, "\"all\": true"),
        (json!({"filter": {}}), 422, "\"all\": true"),
        (json!({"all": true, "numbers": [1]}), 422, "leave out"),
        (
            json!({"filter": {"backnd": "app"}}),
            422,
            "what can be said in `filter` is address",
        ),
        (json!({"filter": {"backend": "ap"}}), 422, "the backends are app"),
        (json!({"filter": {"cause": "admin"}}), 422, "dry_run"),
        (json!({"all": true, "code": 1005}), 422, "4000"),
        (json!({"all": true, "code": 70000}), 422, "send JSON such as"),
        (json!({"all": true, "reason": "x".repeat(124)}), 422, "123"),
        (json!({"numbers": [99]}), 404, "greenroom ps"),
        (json!({"numbers": (0..1001).collect::<Vec<_>>()}), 422, "1000"),
    ] {
        let (found, problem) = rig.post("/v1/connections/close", &body);
        assert_eq!(found, status, "{body}: {problem}");
        assert!(problem["help"].as_str().unwrap().contains(help), "{body}: {problem}");
    }
    assert_eq!(rig.told(&["ps"])["total"], 1);
    drop(client);
}

#[test]
fn the_command_closes_whom_it_names_and_nobody_by_mistake() {
    let rig = Rig::before(&nobody(), "hold = \"accept\"");
    let mut clients: Vec<Raw> = (0..3).map(|_| rig.knock("/ws")).collect();
    for client in &mut clients {
        client.head();
    }
    rig.are(3, "held");
    let usage = rig.say(&["close"]);
    assert_eq!(usage.status.code(), Some(2), "nobody is named: {usage:?}");
    assert_eq!(rig.say(&["close", "--all", "1"]).status.code(), Some(2));
    let counted = rig.say(&["close", "--all", "--dry-run"]);
    assert_eq!(
        String::from_utf8(counted.stdout).unwrap(),
        "would close 3 connections\n"
    );
    let done = rig.say(&["close", "1", "--code", "4000", "--reason", "out"]);
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "closed 1 connection\n");
    assert_eq!(clients[0].close_frame(), (4000, "out".into()));
    let done = rig.told(&["close", "--state", "held", "--yes"]);
    assert_eq!((&done["matched"], &done["closed"]), (&2.into(), &2.into()));
    for client in &mut clients[1..] {
        assert_eq!(client.close_frame().0, 1001);
    }
    // One who is upgraded later is not touched by what was said before.
    let mut later = Raw::connect(&rig.address);
    later.send(upgrade(""));
    assert!(later.head().starts_with("HTTP/1.1 101 "));
    later.send(frame(0x81, b"unmasked"));
    assert_eq!(later.close_frame().0, 1002);
}
