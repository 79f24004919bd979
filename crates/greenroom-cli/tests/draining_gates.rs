//! Several drains that want something of the same gate, and a person's hand on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    process::until,
    raw::{Raw, Stub, switching},
    rig::Rig,
};
use serde_json::{Value, json};

/// The same is what has the same filter, not what reads the same.
#[test]
fn two_drains_are_the_same_by_their_filters_and_not_by_their_words() {
    let stub = Stub::listen();
    let rig = Rig::ready(
        &stub,
        "",
        "[[route]]\nuser = \"header:X-User\"\ntags = [\"header:X-B\"]",
    );
    let come = |fields: &str| {
        let mut client = Raw::connect(&rig.address);
        client.send(common::raw::upgrade(fields));
        let (mut backend, _) = stub.request();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        (client, backend)
    };
    let _clients = (come("X-User: a\r\nX-B: 1\r\n"), come("X-User: a tag=x-b\r\n"));
    until("both are relayed", || {
        rig.told(&["ps", "--state", "relaying"])["total"] == 2
    });
    let drain = |filter: Value| {
        let (status, drain) = rig.post("/v1/drain", &json!({"filter": filter, "window": "1h"}));
        assert_eq!(drain["matching"], 1, "{filter}: {drain}");
        (status, drain["id"].as_u64().unwrap(), drain["of"].clone())
    };
    let (one, two) = (json!({"user": "a", "tag": "x-b"}), json!({"user": "a tag=x-b"}));
    let first = drain(one.clone());
    let second = drain(two.clone());
    assert_eq!((first.0, second.0), (201, 201));
    assert_ne!(first.1, second.1);
    assert_ne!(first.2, second.2, "for people they read otherwise too");
    assert_eq!(drain(one), (200, first.1, first.2));
    assert_eq!(drain(two), (200, second.1, second.2));
    rig.tell(&["drain", "--cancel", &first.1.to_string()]);
    let again = drain(json!({"user": "a", "tag": "x-b"}));
    assert!(
        again.0 == 201 && again.1 > second.1,
        "one that is over is no more the same: {again:?}"
    );
}

/// Two drains that want something of the same gate: the last holds, and at its end the one before.
#[test]
fn of_two_drains_with_the_same_gate_both_get_it_and_by_hand_they_lose_it_and_say_so() {
    let stub = Stub::listen();
    let rig = Rig::ready(&stub, "", "");
    let clients = rig.crowd(&stub, 2);
    let drain =
        |percent: &str, new: &str| rig.told(&["drain", "--all", "--window", "1h", "--percent", percent, "--new", new]);
    let gate = |hand: &str, by: &str| {
        rig.until(&format!("{hand} by {by}"), |status| {
            status["by_hand"]["gate"] == hand && status["by_hand"]["by"] == by
        });
    };
    assert_eq!(drain("10", "hold")["left_alone"], Value::Null);
    gate("hold", "drain 1");
    assert_eq!(drain("20", "refuse")["left_alone"], Value::Null);
    gate("refuse", "drain 2");
    assert_eq!(drain("30", "hold")["left_alone"], Value::Null);
    gate("hold", "drain 3");
    rig.tell(&["drain", "--cancel", "2"]);
    rig.tell(&["drain", "--cancel", "3"]);
    gate("hold", "drain 1");
    rig.tell(&["open"]);
    let listed = rig.told(&["drain", "--list"]);
    assert_eq!(listed["drains"][0]["left_alone"], json!(["app"]), "{listed}");
    assert_eq!(listed["drains"][1]["left_alone"], Value::Null, "it is over: {listed}");
    assert!(rig.status()["by_hand"].is_null());
    rig.tell(&["refuse"]);
    let text = rig.say(&["drain", "--all", "--window", "1h", "--new", "hold"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("set by hand, and left as it is: the gate of app"),
        "{text}"
    );
    assert_eq!(rig.status()["by_hand"]["gate"], "refuse");
    drop(clients);
}

#[test]
fn a_gate_is_opened_by_hand_before_a_backend_that_never_says_that_it_is_ready() {
    let stub = Stub::listen();
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"http:/never\"\n",
            stub.address()
        ),
    );
    let mut client = rig.knock("/ws");
    rig.held(1);
    rig.tell(&["open", "--force"]);
    // Its probe asks all the time, and gets no answer.
    let (mut backend, _probes) = {
        let mut probes = Vec::new();
        loop {
            let (one, head) = stub.request();
            if head.contains("Greenroom-Session: 1\r\n") {
                break (one, probes);
            }
            probes.push(one);
        }
    };
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let status = rig.status();
    assert_eq!(
        (&status["condition"], &status["by_hand"]["gate"]),
        (&"starting".into(), &"open".into()),
        "{status}"
    );
    rig.tell(&["open"]);
    rig.until("its readiness decides again", |status| status["gate"] == "shut");
}

/// What the command line says, the API says by the same words, and no others.
#[test]
fn a_gate_is_told_by_the_words_of_the_command_line() {
    let stub = Stub::listen();
    let rig = Rig::ready(&stub, "", "");
    let told = |order: Value| rig.post("/v1/backends/app/gate", &order);
    for (order, by_hand) in [
        (json!({"gate": "hold"}), json!("hold")),
        (json!({"gate": "refuse"}), json!("refuse")),
        (json!({"gate": "open", "force": true}), json!("open")),
        (json!({"gate": "open"}), Value::Null),
    ] {
        let (status, backend) = told(order.clone());
        assert_eq!(
            (status, &backend["by_hand"]["gate"]),
            (200, &by_hand),
            "{order}: {backend}"
        );
    }
    for (order, error, help) in [
        (
            json!({"gate": "auto"}),
            "`gate` is \"auto\"",
            "write hold, refuse or open",
        ),
        (
            json!({"gate": "hold", "force": true}),
            "`gate` is \"hold\"",
            "leave it out",
        ),
        (
            json!({"gate": "open", "for": "5m"}),
            "`for` is \"5m\"",
            "\"force\": true",
        ),
        (json!({"gate": "hold", "for": "soon"}), "soon", "10m"),
        (json!({"gate": 5}), "`gate` is 5", "write a string"),
    ] {
        let (status, problem) = told(order.clone());
        assert_eq!(status, 422, "{order}");
        assert!(problem["error"].as_str().unwrap().contains(error), "{problem}");
        assert!(problem["help"].as_str().unwrap().contains(help), "{problem}");
    }
}

/// Whoever waits for a drain hears that greenroom has stopped meanwhile, and not that a socket is gone.
#[test]
fn who_waits_for_a_drain_hears_of_a_stop_and_ends_with_the_code_for_it() {
    let stub = Stub::listen();
    let mut rig = Rig::ready(&stub, "grace = \"1s\"", "");
    let clients = rig.crowd(&stub, 2);
    rig.are(2, "relaying");
    let folder = rig.folder.clone();
    let waits = std::thread::spawn(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(["drain", "--all", "--window", "1h", "--wait"])
            .env("XDG_RUNTIME_DIR", folder)
            .env_remove("GREENROOM_ADMIN");
        command.output().unwrap()
    });
    until("it drains", || {
        rig.told(&["drain", "--list"])["drains"][0]["state"] == "draining"
    });
    rig.greenroom.signal(rustix::process::Signal::TERM);
    let said = waits.join().unwrap();
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    let text = String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap();
    assert!(
        text.contains("greenroom has stopped before drain 1 was over") || text.contains(": cancelled;"),
        "{text}"
    );
    drop(clients);
    rig.greenroom.wait_exit_code(common::raw::SOON);
    let gone = rig.say(&["drain", "--all", "--wait"]);
    assert_eq!(gone.status.code(), Some(1));
    let error = String::from_utf8(gone.stderr).unwrap();
    assert!(error.contains("no greenroom of this user is running"), "{error}");
}
