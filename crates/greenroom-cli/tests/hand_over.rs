//! A gate by hand, and those who are held by it, when a reload replaces the backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    process::until,
    raw::{Raw, SOON, Stub, nobody, switching},
    reloading::{outcome, write},
    rig::Rig,
};
use greenroom_core::limits::AUDIT_REFUSED_MAX;
use serde_json::Value;

fn settings(stub: &Stub, more: &str) -> String {
    format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n{more}[[route]]\nhold = \"handshake\"\nhold_timeout = \"30s\"\n",
        stub.address()
    )
}

fn report(rig: &Rig) -> Value {
    serde_json::from_slice(&rig.say(&["status", "--json"]).stdout).unwrap()
}

#[test]
fn a_gate_by_hand_goes_over_to_the_backend_that_replaces_another_and_all_are_let_out() {
    let stub = Stub::listen();
    let rig = Rig::start("serve", &settings(&stub, ""));
    rig.tell(&["hold"]);
    let mut first = rig.knock("/ws");
    rig.held(1);
    // Another check: the backend is replaced, and the first waits at the old one.
    write(
        &rig,
        &settings(
            &stub,
            "[backend.app.check.cache]\nprobe = \"file:/nothing\"\ncritical = false\n",
        ),
    );
    assert_eq!(outcome(&rig, &[]), "reloaded");
    assert_eq!(rig.status()["by_hand"]["gate"], "hold");
    let mut second = rig.knock("/ws");
    rig.until("it is held too", |status| status["held"]["websocket"] == 1);
    let now = report(&rig);
    assert_eq!(now["old"][0]["held"]["websocket"], 1, "{now}");
    let why = String::from_utf8(rig.say(&["why", "1"]).stdout).unwrap();
    assert!(why.contains("before a reload") && why.contains("held by hand"), "{why}");
    let said = String::from_utf8(rig.say(&["open"]).stdout).unwrap();
    assert!(said.starts_with("app: gate "), "{said}");
    // In which order the two gates dial is not said.
    let mut backends = [stub.request().0, stub.request().0];
    for backend in &mut backends {
        backend.send(switching(""));
    }
    for client in [&mut first, &mut second] {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn a_change_that_nobody_can_make_sense_of_is_audited() {
    let stub = Stub::listen();
    let rig = Rig::start("serve", &settings(&stub, ""));
    assert_eq!(
        rig.post("/v1/backends/nope/gate", &serde_json::json!({ "gate": "open" }))
            .0,
        404
    );
    assert_eq!(rig.post("/v1/drain", &serde_json::json!({ "x": 1 })).0, 422);
    for (action, path) in [("gate", "/v1/backends/nope/gate"), ("drain", "/v1/drain")] {
        let told = rig
            .greenroom
            .wait_for(|event| event["event"] == "admin" && event["action"] == action, SOON);
        assert_eq!(told["result"], "refused", "{told}");
        assert!(told["what"].as_str().unwrap().contains(path), "{told}");
    }
    let (status, _) = rig.post("/v1/backends/app/gate", &serde_json::json!({ "gate": "hold" }));
    assert_eq!(status, 200);
}

/// A flood of changes that are refused is told of in bounds, and the next that is told says how many were not.
#[test]
fn how_many_refused_changes_are_told_of_is_bounded() {
    const MORE: usize = 7;
    let stub = Stub::listen();
    let rig = Rig::start("serve", &settings(&stub, ""));
    let refuse = || assert_eq!(rig.post("/v1/drain", &serde_json::json!({ "x": 1 })).0, 422);
    (0..AUDIT_REFUSED_MAX + MORE).for_each(|_| refuse());
    let told = || -> Vec<String> {
        let events = rig.greenroom.events();
        let refused = events
            .iter()
            .filter(|event| event["event"] == "admin" && event["result"] == "refused");
        refused
            .map(|event| event["detail"].as_str().unwrap().to_owned())
            .collect()
    };
    rig.tell(&["hold"]); // behind them in the log
    (rig.greenroom).wait_for(|event| event["event"] == "admin" && event["action"] == "gate", SOON);
    assert_eq!(told().len(), AUDIT_REFUSED_MAX);
    until("another is told of", || {
        refuse();
        told().len() > AUDIT_REFUSED_MAX
    });
    let last = &told()[AUDIT_REFUSED_MAX];
    let untold = last.split("(and ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(
        untold.is_some_and(|count| count.parse::<usize>().unwrap() >= MORE),
        "{last}"
    );
}

/// What is said of a backend's name is heard by the one that a reload has replaced, too: clients wait there.
#[test]
fn a_phase_that_is_said_of_a_name_reaches_the_backend_that_a_reload_has_replaced() {
    let stub = Stub::listen();
    let settings = |more: &str| {
        let address = stub.address();
        format!(
            "[backend.app]\naddress = \"{address}\"\nready = \"listen\"\nphases = [\"warm\"]\n{more}\
             [[route]]\nhold = \"handshake\"\nhold_timeout = \"30s\"\n"
        )
    };
    let rig = Rig::start("serve", &settings(""));
    rig.tell(&["hold"]);
    let _held = rig.knock("/ws");
    rig.held(1);
    write(
        &rig,
        &settings("[backend.app.check.cache]\nprobe = \"file:/nothing\"\ncritical = false\n"),
    );
    assert_eq!(outcome(&rig, &[]), "reloaded");
    rig.tell(&["phase", "failed", "--reason", "no disk"]);
    until("both have heard it", || {
        let now = report(&rig);
        let failed = |status: &Value| status["failure"].as_str().is_some_and(|why| why.contains("no disk"));
        failed(&now["backends"][0]) && failed(&now["old"][0])
    });
}

/// The token is that of the configuration that is in effect.
#[test]
fn a_token_that_a_reload_has_taken_is_the_one_that_counts() {
    let (stub, door) = (Stub::listen(), nobody());
    let with = |token: &str| {
        let address = stub.address();
        format!(
            "[admin]\naddress = \"{door}\"\ntoken = \"{token}\"\n[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n"
        )
    };
    let (old, new) = ("0123456789abcdef", "fedcba9876543210");
    let rig = Rig::start("serve", &with(old));
    rig.until("it is there", |status| status["backend"] == "app");
    let ask = |token: &str| {
        let mut client = Raw::connect(&door);
        client.send(format!(
            "GET /v1/status HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        client.head().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((ask(old), ask(new)), ("200".into(), "401".into()));
    write(&rig, &with(new));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    assert_eq!((ask(old), ask(new)), ("401".into(), "200".into()));
}
