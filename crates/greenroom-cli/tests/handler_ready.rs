//! Servers that attach their message handler a little after they have accepted, and lose what comes before: what
//! `forward_after` does for them, with a real Node server (`node_late_handler.js`).
//!
//! Whether a first message was lost shows without waiting for it: the server says when its handler is there, then a
//! second message is sent, and its echo comes with or without the first one's before it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{
    process,
    raw::{Raw, masked, upgrade},
    rig::Rig,
};
use greenroom_core::limits::FORWARD_AFTER;
use serde_json::Value;

const FIRST: &[u8] = b"as soon as I am open";
const SECOND: &[u8] = b"later";

/// The server, under greenroom, whose gate stays shut until the test says READY for it.
fn server(route: &str, environment: &[(&str, &str)]) -> Rig {
    let config = format!(
        "[backend.app]\nready = \"notify\"\n\n[backend.app.process]\ncommand = [\"node\", \"{}\"]\n\n\
         [[route]]\nhold = \"accept\"\n{route}\n",
        common::fixture("node_late_handler.js")
    );
    let variables = environment.iter().copied();
    let rig = Rig::with(
        "run",
        &config,
        |_| {},
        |command| {
            command.envs(variables);
        },
    );
    process::until("the server listens", || !rig.ledger.of("listening").is_empty());
    rig
}

/// Clients that send their first message right behind their 101.
fn open(address: &str, count: usize) -> Vec<Raw> {
    let one = |_| {
        let mut client = Raw::connect(address);
        client.send(upgrade(""));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client.send(masked(0x81, FIRST));
        client
    };
    (0..count).map(one).collect()
}

/// Waits until the handlers of so many are attached, with or without greenroom before them.
fn handlers(rig: &Rig, count: usize, through: bool) -> Vec<Value> {
    let is_its = |line: &Value| line["session"].is_string() == through;
    let of = || -> Vec<Value> { rig.ledger.of("handler").into_iter().filter(is_its).collect() };
    process::until("their handlers", || of().len() == count);
    of()
}

/// Whether the first message is lost; what is sent by the server before any echo stands in `before`.
fn has_lost(client: &mut Raw, before: &[&[u8]]) -> bool {
    client.send(masked(0x81, SECOND));
    for said in before {
        assert_eq!(client.frame(), (0x81, said.to_vec()));
    }
    let (_, echo) = client.frame();
    if echo == SECOND {
        return true;
    }
    assert_eq!(echo, FIRST);
    assert_eq!(client.frame(), (0x81, SECOND.to_vec()));
    false
}

/// How many have lost it.
fn lost_of(clients: &mut [Raw], before: &[&[u8]]) -> usize {
    let lost = clients.iter_mut().map(|client| has_lost(client, before));
    lost.filter(|&lost| lost).count()
}

#[test]
fn no_first_message_is_lost_at_a_server_whose_handler_comes_5_ms_late() {
    const COUNT: usize = 100;
    let rig = server("", &[]);
    // The same server without greenroom before it.
    let backend = rig.greenroom.wait_for_event("listening", Duration::from_secs(10));
    let mut direct = open(backend["backend"].as_str().unwrap(), COUNT);
    handlers(&rig, COUNT, false);
    let lost = lost_of(&mut direct, &[]);
    println!("directly {lost} of {COUNT} first messages were lost");
    assert!(lost > 0, "the server loses nothing: this test tests nothing");

    let mut clients = open(&rig.address, COUNT);
    assert_eq!(rig.ledger.of("handler").len(), COUNT, "nobody was let in yet");
    rig.tell(&["phase", "ready"]);
    let handlers = handlers(&rig, COUNT, true);
    let lost: Vec<usize> = (0..COUNT).filter(|&index| has_lost(&mut clients[index], &[])).collect();
    println!("through greenroom {} of {COUNT} were lost", lost.len());
    // Sessions are numbered from 1 in the order in which they came. On a busy machine a handler can be later than
    // what greenroom waits: that is not in its hands.
    let on_time = |index: &usize| {
        let session = (index + 1).to_string();
        let handler = handlers
            .iter()
            .find(|line| line["session"] == session)
            .expect("waited for");
        handler["after_ms"].as_f64().unwrap() < FORWARD_AFTER.as_secs_f64() * 1000.0
    };
    let lost: Vec<_> = lost.into_iter().filter(on_time).collect();
    assert!(
        lost.is_empty(),
        "lost though their handler was on time: {lost:?} of {handlers:#?}"
    );
}

#[test]
fn a_server_that_greets_first_gets_nothing_before_its_greeting_with_first_frame() {
    const COUNT: usize = 20;
    // Much later than the default would wait.
    let rig = server(
        "forward_after = \"first-frame\"",
        &[("HANDLER_AFTER_MS", "200"), ("GREETING", "hello")],
    );
    let mut clients = open(&rig.address, COUNT);
    rig.tell(&["phase", "ready"]);
    handlers(&rig, COUNT, true);
    assert_eq!(lost_of(&mut clients, &[b"hello"]), 0);
}

#[test]
fn messages_go_at_once_with_handshake_and_a_late_handler_misses_them() {
    const COUNT: usize = 20;
    let rig = server("forward_after = \"handshake\"", &[("HANDLER_AFTER_MS", "200")]);
    let mut clients = open(&rig.address, COUNT);
    rig.tell(&["phase", "ready"]);
    handlers(&rig, COUNT, true);
    assert!(lost_of(&mut clients, &[]) > 0, "nothing went at once");
}
