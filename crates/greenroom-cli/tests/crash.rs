//! A request that crashes the server does not take the service from everybody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, path::PathBuf};

use common::{
    Greenroom, Ledger, fixture, python,
    raw::{Raw, SOON, field, upgrade},
    wire::Wire,
};
use rustix::process::{Pid, Signal, kill_process};

const GET_CRASH: &str = "GET /crash HTTP/1.1\r\nHost: example.test\r\n\r\n";
const GET: &str = "GET /fine HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n";

fn crasher(ledger: &Ledger, notifies: bool) -> Greenroom {
    let args = ["run", "--listen", "127.0.0.1:0", "--"].map(str::to_owned);
    let args: Vec<String> = args
        .into_iter()
        .chain([python("python"), fixture("crasher.py")])
        .collect();
    let mut command = Greenroom::command(&args);
    command.env("LOG", ledger.path());
    if notifies {
        command.env("NOTIFY", "1");
    }
    Greenroom::spawn(&mut command)
}

fn executions(log: PathBuf) -> usize {
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.starts_with("/crash ")).count()
}

/// The culprit hears 502 after three executions at the most; three behind it get in, and greenroom lives on.
fn is_survived(greenroom: &Greenroom, ledger: &Ledger, culprit: impl AsRef<[u8]>) {
    let address = greenroom.address();
    let mut culprit_client = Raw::connect(&address);
    culprit_client.send(culprit);
    greenroom.wait_for_event("exited", SOON);
    let mut behind: Vec<Raw> = (0..3).map(|_| Raw::connect(&address)).collect();
    behind.iter_mut().for_each(|client| client.send(GET));
    let (head, _) = culprit_client.answer();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}\n{}", greenroom.stderr());
    assert_eq!(
        field(&head, "greenroom-refusal").as_deref(),
        Some("bad_answer"),
        "{head}"
    );
    for client in &mut behind {
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{}", greenroom.stderr());
    }
    let count = executions(ledger.path());
    assert!(count <= 3, "{count} executions\n{}", greenroom.stderr());
    let refused = greenroom.wait_for_event("refused", SOON);
    let detail = refused["detail"].as_str().expect("it says why");
    // Where others were answered meanwhile the gate is sure, and the request goes its way once: what came of that is said.
    let reasons = [
        "the backend died each time",
        "the backend closed the connection without an answer",
    ];
    assert!(reasons.iter().any(|reason| detail.contains(reason)), "{refused}");
    let mut later = Raw::connect(&address);
    later.send(GET);
    assert!(later.answer().0.starts_with("HTTP/1.1 200 "));
}

/// The gate is open and sure, as somebody was served.
fn warm(greenroom: &Greenroom) {
    let mut client = Raw::connect(&greenroom.address());
    client.send(GET);
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[test]
fn a_plain_request_that_crashes_a_cold_server() {
    let ledger = Ledger::new();
    let greenroom = crasher(&ledger, false);
    is_survived(&greenroom, &ledger, GET_CRASH);
}

#[test]
fn a_plain_request_that_crashes_a_server_that_says_when_it_is_ready() {
    let ledger = Ledger::new();
    let greenroom = crasher(&ledger, true);
    warm(&greenroom);
    is_survived(&greenroom, &ledger, GET_CRASH);
}

#[test]
fn a_handshake_that_crashes_a_server() {
    let ledger = Ledger::new();
    let greenroom = crasher(&ledger, false);
    warm(&greenroom);
    is_survived(&greenroom, &ledger, upgrade("").replace("/ws", "/crash"));
}

#[test]
fn the_relayed_who_lose_a_killed_server_are_one_line_and_the_signal_is_named() {
    let ledger = Ledger::new();
    let (python, server) = (python("python"), fixture("notifier.py"));
    let args = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--ready",
        "notify",
        "--",
        &python,
        &server,
    ];
    let greenroom = Greenroom::spawn(Greenroom::command(&args).env("LOG", ledger.path()).env("READY", "now"));
    let address = greenroom.address();
    let started = greenroom.wait_for_event("started", SOON);
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::knock(&address)).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    }
    let pid = i32::try_from(started["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let lost = greenroom.wait_for_event("relays_lost", SOON);
    assert_eq!(lost["count"], 3, "{lost}");
    let exited = greenroom.wait_for_event("exited", SOON);
    assert_eq!(
        (&exited["code"], &exited["signal"]),
        (&137.into(), &9.into()),
        "{exited}"
    );
}
