//! What `status`, `why` and drains tell where several things could be meant, or where greenroom stops.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    process::until,
    raw::{Raw, SOON, Stub, switching},
    rig::Rig,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn report(rig: &Rig) -> Value {
    serde_json::from_slice(&rig.say(&["status", "--json"]).stdout).unwrap()
}

/// A client that is relayed, and its backend's end.
fn relayed(rig: &Rig, stub: &Stub, path: &str) -> (Raw, Raw) {
    let mut client = rig.knock(path);
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    (client, backend)
}

#[test]
fn a_session_that_several_backends_have_is_asked_about_with_its_backend() {
    let (one, two) = (Stub::listen(), Stub::listen());
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.one]\naddress = \"{}\"\nready = \"listen\"\n[backend.two]\naddress = \"{}\"\nready = \"listen\"\n\
             [[route]]\npath = \"/one\"\nbackend = \"one\"\n[[route]]\npath = \"/two\"\nbackend = \"two\"\n",
            one.address(),
            two.address()
        ),
    );
    until("both are ready", || {
        let all = report(&rig)["backends"].clone();
        all.as_array().unwrap().iter().all(|one| one["condition"] == "ready")
    });
    let _clients = (relayed(&rig, &one, "/one"), relayed(&rig, &two, "/two"));
    rig.are(2, "relaying");
    for verb in ["why", "show"] {
        let said = rig.say(&[verb, "--session", "1"]);
        let error = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{error}");
        assert!(error.contains("one, two") && error.contains("--backend"), "{error}");
        let of_one = rig.say(&[verb, "--session", "1", "--backend", "two"]);
        assert!(of_one.status.success() && String::from_utf8(of_one.stdout).unwrap().contains("two"));
    }
}

#[test]
fn while_greenroom_stops_status_says_so_and_who_is_left() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address().to_string(), "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let before = report(&rig);
    assert!(before["greenroom"]["stop"].is_null(), "{before}");
    let socket = before["greenroom"]["admin_socket"].as_str().unwrap();
    assert_eq!(
        socket,
        rig.socket().to_str().unwrap(),
        "whoever asks with curl knows where"
    );
    let _client = relayed(&rig, &stub, "/ws");
    rig.greenroom.signal(Signal::TERM);
    rig.greenroom.wait_for_event("stopping", SOON);
    // It answers no Close: there is time to ask.
    let now = report(&rig);
    let stop = &now["greenroom"]["stop"];
    assert_eq!(stop["clients"], 1, "{now}");
    assert!(stop["left_ms"].as_u64() >= stop["closes_ms"].as_u64(), "{now}");
    assert_eq!(now["backends"][0]["gate"], "draining", "{now}");
    let text = String::from_utf8(rig.say(&["status"]).stdout).unwrap();
    assert!(text.contains("stop"), "{text}");
    rig.greenroom.signal(Signal::TERM);
    rig.greenroom.signal(Signal::TERM);
}

#[test]
fn a_drain_has_told_only_those_who_were_still_there() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address().to_string(), "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut clients: Vec<_> = (0..4).map(|_| relayed(&rig, &stub, "/ws")).collect();
    let (status, drain) = rig.post("/v1/drain", &json!({"all": true, "window": "2s"}));
    assert_eq!((status, &drain["matching"]), (201, &4.into()), "{drain}");
    // Closed by hand, all but those whose turn has come already.
    let closed = rig.told(&["close", "--all", "--yes"])["closed"].as_u64().unwrap();
    for (client, backend) in &mut clients {
        client.frame();
        client.fin();
        backend.fin();
    }
    rig.are(0, "relaying");
    let told = |drains: &Value| drains["drains"][0]["told"].as_u64().unwrap();
    until("it is over", || {
        rig.told(&["drain", "--list"])["drains"][0]["state"] != "draining"
    });
    let drains = rig.told(&["drain", "--list"]);
    assert_eq!(told(&drains) + closed, 4, "{drains}");
}
