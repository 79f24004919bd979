//! `ps`, `show`, `why` and what is behind them: where a connection is, and why one is over. That all who tell of connections agree
//! is in `reconcile.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    process::until,
    raw::{Stub, masked, switching},
    rig::Rig,
};

fn said(rig: &Rig, args: &[&str]) -> String {
    let said = rig.say(args);
    assert!(said.status.success(), "{args:?}: {said:?}");
    String::from_utf8(said.stdout).unwrap()
}

fn behind(stub: &Stub, more: &str) -> Rig {
    Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n{more}\n",
            stub.address()
        ),
    )
}

#[test]
fn a_connection_is_shown_where_it_is_and_told_why_when_it_is_over() {
    let stub = Stub::listen();
    let rig = behind(&stub, "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut client = rig.knock("/chat?token=hidden");
    let (mut backend, request) = stub.request();
    assert!(request.contains("token=hidden"));
    backend.send(switching(""));
    client.head();
    client.send(masked(0x81, b"hello"));
    assert_eq!(backend.frame().1.len(), 5);
    until("it is relayed", || {
        rig.told(&["ps", "--state", "relaying"])["total"] == 1
    });
    let one = &rig.told(&["ps", "--backend", "app"])["connections"][0];
    let number = one["number"].to_string();
    assert_eq!(
        (
            &one["session"],
            &one["path"],
            &one["dials"],
            &one["messages_up"],
            &one["bytes_up"]
        ),
        (&1.into(), &"/chat".into(), &1.into(), &1.into(), &11.into()),
        "{one}"
    );
    assert!(
        said(&rig, &["why", &number]).contains("is relaying for"),
        "a number is enough"
    );
    assert!(said(&rig, &["show", "--session", "1"]).contains("messages"));
    client.fin();
    assert!(backend.rest().is_empty(), "its end is passed on");
    drop((client, backend));
    until("it is over", || rig.told(&["ps"])["total"] == 0);
    let why = said(&rig, &["why", "--session", "1"]);
    assert!(why.contains("as relaying: the client ended it (client"), "{why}");
    let all = ["ps", "show", "why"].map(|verb| match verb {
        "ps" => said(&rig, &["ps", "--closed"]),
        verb => said(&rig, &[verb, &number]),
    });
    assert!(!all.concat().contains("hidden"), "a query may be a secret: {all:?}");
    for (args, help) in [
        (&["why", "77777"][..], "/v1/closed"),
        (&["ps", "--state", "waiting"], "relaying"),
        (&["ps", "--backend", "other"], "app"),
        (&["ps", "--older-than", "5"], "30s"),
    ] {
        let refused = rig.say(args);
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(help), "{args:?}: {error}");
    }
}

#[test]
fn a_refusal_is_told_with_its_name() {
    let rig = Rig::start(
        "serve",
        "[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\npath = \"/ws\"\nhold = \"refuse\"\n",
    );
    let mut client = rig.knock("/ws");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    until("it is over", || {
        rig.told(&["ps", "--closed", "--cause", "refused"])["total"] == 1
    });
    let why = said(&rig, &["why", "--session", "1"]);
    assert!(why.contains("greenroom refused it (refused, not_ready)"), "{why}");
}
