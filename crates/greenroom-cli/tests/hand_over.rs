//! A gate by hand, and those who are held by it, when a reload replaces the backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    raw::{SOON, Stub, switching},
    reloading::{outcome, write},
    rig::Rig,
};
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
