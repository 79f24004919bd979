//! Users and tags: what a connection is known by, who is found by it, and how many WebSockets a user may have.
//!
//! On the wire: at the limit, one past it, and when a place is free again; what the refused and the replaced client read, and
//! that nothing is left at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    house::House,
    process::until,
    raw::{Raw, SOON, Stub, field, masked, switching, upgrade},
    rig::Rig,
};
use greenroom::config::{Config, KnownBy, Tag};
use greenroom_core::event::State;
use greenroom_core::users::{OnLimit, Rule};
use serde_json::Value;

/// Who has this user, by a route that says so.
fn of(user: &str) -> String {
    upgrade(&format!("X-User: {user}\r\n"))
}

fn known(most: usize, on_limit: OnLimit) -> impl FnOnce(&mut Config) {
    move |config| {
        config.routes[0].known_by.user = Some("x-user".into());
        config.limits.user = Some(Rule { most, on_limit });
    }
}

/// A client that is relayed, and its backend.
fn relayed(house: &House, request: String) -> (Raw, Raw) {
    let before = house.registry.count(State::Relaying);
    let mut client = house.client_with(request);
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    client.head();
    house.wait_for(State::Relaying, before + 1);
    (client, backend)
}

fn refused(client: &mut Raw, status: &str, word: &str) {
    let (head, _) = client.answer();
    assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(word), "{head}");
    assert_eq!(
        field(&head, "retry-after").is_some(),
        status.starts_with("429"),
        "{head}"
    );
    assert!(!head.contains("ann"), "who it is stays among us: {head}");
}

#[test]
fn at_its_limit_a_users_next_websocket_is_429_until_one_has_gone() {
    let house = House::pushed(known(2, OnLimit::RefuseNew));
    house.ready();
    let first = relayed(&house, of("ann"));
    let second = relayed(&house, of("ann"));
    refused(
        &mut house.client_with(of("ann")),
        "429 Too Many Requests",
        "connections_of_user",
    );
    let others = (
        relayed(&house, of("bob")),
        relayed(&house, upgrade("")),
        relayed(&house, upgrade("")),
        relayed(&house, upgrade("")),
    );
    assert_eq!(house.refused("connections_of_user"), 1, "nobody is no user");
    drop(first);
    house.wait_for(State::Relaying, 5);
    let third = relayed(&house, of("ann"));
    refused(
        &mut house.client_with(of("ann")),
        "429 Too Many Requests",
        "connections_of_user",
    );
    drop((second, third, others));
    house.wait_for(State::Closed, 9);
    for state in [State::Held, State::Dialing, State::Relaying, State::Closing] {
        house.wait_for(state, 0);
    }
    assert_eq!(house.refused("connections_of_user"), 2);
    drop(relayed(&house, of("ann")));
}

/// Those that wait count too, so nobody can fill the line, and who leaves the line makes room.
#[test]
fn one_that_waits_counts_and_plain_requests_do_not() {
    let house = House::pushed(known(1, OnLimit::RefuseNew));
    let waits = house.client_with(of("ann"));
    house.wait_for(State::Held, 1);
    refused(
        &mut house.client_with(of("ann")),
        "429 Too Many Requests",
        "connections_of_user",
    );
    let plain = house.client_with("GET / HTTP/1.1\r\nHost: h\r\nX-User: ann\r\n\r\n");
    house.wait_for(State::Held, 2);
    drop(waits);
    house.wait_for(State::Held, 1);
    let again = house.client_with(of("ann"));
    house.wait_for(State::Held, 2);
    drop((plain, again));
    house.wait_for(State::Closed, 4);
}

/// 1008, and in the ledger `replaced`; but nobody is closed within its first second, so two clients that reconnect at once
/// do not drive each other out for ever.
#[test]
fn at_its_limit_a_users_oldest_websocket_gives_way_once_it_is_a_second_old() {
    let house = House::pushed(known(1, OnLimit::CloseOldest));
    house.ready();
    let since = Instant::now();
    let (mut first, mut behind) = relayed(&house, of("ann"));
    refused(
        &mut house.client_with(of("ann")),
        "429 Too Many Requests",
        "connections_of_user",
    );
    let mut second = None;
    until("the first is a second old", || {
        second = comes_in(&house);
        second.is_some()
    });
    let lasted = since.elapsed();
    assert!(lasted >= Duration::from_secs(1), "{lasted:?}");
    let (code, reason) = first.close_frame();
    assert_eq!(
        (code, reason.as_str()),
        (1008, "another connection of this user took its place")
    );
    assert_eq!(behind.close_frame().0, 1001);
    first.send(masked(0x88, &code.to_be_bytes()));
    house.wait_for(State::Relaying, 1);
    let replaced = || house.registry.closed().find(|(word, _)| *word == "replaced").unwrap().1;
    until("it is in the ledger", || replaced() == 1);
    assert!(comes_in(&house).is_none(), "the second is new now");
    assert_eq!(replaced(), 1);
}

/// The one that is open goes when the new one is let in, and not for one that its backend refuses.
#[test]
fn a_websocket_that_its_backend_refuses_closes_no_other_of_its_user() {
    let house = House::pushed(known(1, OnLimit::CloseOldest));
    house.ready();
    let (mut first, mut behind) = relayed(&house, of("ann"));
    let mut new = None;
    until("the first is a second old", || {
        let before = house.refused("connections_of_user");
        let client = house.client_with(of("ann"));
        let mut backend = None;
        until("it is dialled or refused", || {
            backend = house.stub.try_accept();
            backend.is_some() || house.refused("connections_of_user") > before
        });
        new = backend.map(|backend| (client, backend));
        new.is_some()
    });
    let (mut client, mut backend) = new.unwrap();
    backend.head();
    refused(
        &mut house.client_with(of("ann")),
        "429 Too Many Requests",
        "connections_of_user",
    );
    backend.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 403 "));
    drop(client);
    until("only the first is there", || house.registry.all().len() == 1);
    first.send(masked(0x81, b"still here"));
    assert_eq!(behind.frame(), (0x81, b"still here".to_vec()));
    behind.send([0x81, 1, b'x']);
    assert_eq!(first.frame(), (0x81, b"x".to_vec()), "and no Close");
    let third = comes_in(&house);
    assert!(third.is_some(), "there is room for another try");
    assert_eq!(first.close_frame().0, 1008);
}

/// One that waits gives way too, and as it has no 101 yet it hears what a refused one does.
#[test]
fn a_websocket_that_waits_gives_way_with_a_429() {
    let house = House::pushed(known(1, OnLimit::CloseOldest));
    let mut first = house.client_with(of("ann"));
    house.wait_for(State::Held, 1);
    let mut second = None;
    until("the first is a second old", || {
        let mut client = house.client_with(of("ann"));
        until("one of the two hears", || first.has_bytes() || client.has_bytes());
        if !first.has_bytes() {
            refused(&mut client, "429 Too Many Requests", "connections_of_user");
            return false;
        }
        second = Some(client);
        true
    });
    refused(&mut first, "429 Too Many Requests", "connections_of_user");
    house.wait_for(State::Held, 1);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    second.as_mut().unwrap().head();
}

/// Another client of the user; with its backend, if it was let in.
fn comes_in(house: &House) -> Option<(Raw, Raw)> {
    let before = house.refused("connections_of_user");
    let mut client = house.client_with(of("ann"));
    let mut backend = None;
    until("it is let in or refused", || {
        backend = house.stub.try_accept();
        backend.is_some() || house.refused("connections_of_user") > before
    });
    let mut backend = backend?;
    backend.head();
    backend.send(switching(""));
    client.head();
    Some((client, backend))
}

/// Two readers must agree who it is; nobody is let in of whom that is not sure.
#[test]
fn whose_user_or_tag_is_not_sure_is_refused_and_its_value_is_not_told() {
    let house = House::pushed(|config| {
        config.routes[0].known_by = KnownBy {
            user: Some("x-user".into()),
            tags: vec![Tag::Header("x-tenant".into())],
        };
    });
    house.ready();
    let long = format!("X-User: {}\r\n", "ann".repeat(43));
    let cases = [
        "X-User: ann\r\nX-USER: bob\r\n",
        "X-User: ann\r\nX-User: ann\r\n",
        "X-Tenant: ann\r\nX-Tenant: b\r\n",
        "X-User: ann\u{202e}\r\n",
        &long,
    ];
    for fields in cases {
        refused(
            &mut house.client_with(upgrade(fields)),
            "400 Bad Request",
            "bad_request",
        );
    }
    let nominated = upgrade("X-User: ann\r\n").replace("Connection: Upgrade", "Connection: Upgrade, X-User");
    refused(&mut house.client_with(nominated), "400 Bad Request", "bad_request");
    let plain = "GET / HTTP/1.1\r\nHost: h\r\nX-User: ann\r\nX-User: bob\r\n\r\n";
    refused(&mut house.client_with(plain), "400 Bad Request", "bad_request");
    assert_eq!(house.refused("bad_request"), cases.len() as u64 + 2);
    drop(relayed(
        &house,
        upgrade("X-User: ann\r\nX_User: bob\r\nX-Tenant: acme\r\n"),
    ));
}

/// Four that are relayed: three by a route that asks who they are.
fn known_clients(rig: &Rig, stub: &Stub) -> Vec<(Raw, Raw)> {
    let mut clients = Vec::new();
    for (user, tenant, path) in [
        ("ann", "acme", "/ws"),
        ("ann", "umbrella", "/ws"),
        ("b\u{fc} b", "acme", "/ws"),
        ("ann", "acme", "/plain"),
    ] {
        let request = upgrade(&format!("X-User: {user}\r\nX-Tenant: {tenant}\r\n")).replacen("/ws", path, 1);
        let mut client = Raw::connect(&rig.address);
        client.send(request);
        let (mut backend, request) = stub.request();
        assert!(
            request.contains(&format!("X-User: {user}")),
            "the backend sees it too: {request}"
        );
        backend.send(switching(""));
        client.head();
        clients.push((client, backend));
    }
    clients
}

#[test]
fn ps_finds_connections_by_user_and_tag() {
    let stub = Stub::listen();
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[limits]\nmax_connections_per_user = 2\n\
             [[route]]\npath = \"/plain\"\n[[route]]\nuser = \"header:X-User\"\ntags = [\"header:X-Tenant\", \"plan=free\"]\n",
            stub.address()
        ),
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let clients = known_clients(&rig, &stub);
    let ps = |args: &[&str]| -> Value {
        let said = rig.say(&[&["ps", "--json"], args].concat());
        assert!(said.status.success(), "{args:?}: {said:?}");
        serde_json::from_slice(&said.stdout).unwrap()
    };
    until("all are relayed", || ps(&["--state", "relaying"])["total"] == 4);
    for (args, total) in [
        (&["--user", "ann"][..], 2),
        (&["--user", "b\u{fc} b"], 1),
        (&["--user", "an"], 0),
        (&["--tag", "plan"], 3),
        (&["--tag", "plan=free"], 3),
        (&["--tag", "x-tenant=acme"], 2),
        (&["--tag", "x-tenant=acme", "--user", "ann"], 1),
        (&["--tag", "x-tenant=a"], 0),
    ] {
        assert_eq!(ps(args)["total"], total, "{args:?}");
    }
    let one = &ps(&["--user", "ann"])["connections"][0];
    assert_eq!(
        (&one["user"], &one["tags"]),
        (&"ann".into(), &serde_json::json!(["x-tenant=acme", "plan=free"]))
    );
    let plain = &ps(&["--route", "*/plain"])["connections"][0];
    assert!(plain.get("user").is_none() && plain.get("tags").is_none(), "{plain}");
    let listed = String::from_utf8(rig.say(&["ps"]).stdout).unwrap();
    assert!(
        listed.lines().next().unwrap().contains("USER") && listed.contains("ann"),
        "{listed}"
    );
    what_is_refused_is_told_of_its_user(&rig);
    drop(clients);
}

/// In the log and the books, and in no metric (A49).
fn what_is_refused_is_told_of_its_user(rig: &Rig) {
    let mut third = Raw::connect(&rig.address);
    third.send(of("ann"));
    refused(&mut third, "429 Too Many Requests", "connections_of_user");
    rig.greenroom.wait_for(
        |event| {
            event["event"] == "refused"
                && event["refusal"] == "connections_of_user"
                && event["detail"] == "the user is \"ann\""
        },
        SOON,
    );
    let metrics = rig.ask("/metrics");
    assert!(
        metrics.contains("connections_of_user") && !metrics.contains("ann") && !metrics.contains("acme"),
        "A49: {metrics}"
    );
}
