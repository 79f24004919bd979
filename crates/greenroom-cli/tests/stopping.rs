//! How it ends: for clients that leave while they are held, and for all when greenroom is told to stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    path::Path,
    time::{Duration, Instant},
};

use common::{
    Greenroom, Ledger, fixture, one_at_a_time,
    process::{MARK, environment, mark, marked},
    python,
    wire::Wire,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// `notifier.py` behind greenroom: it says when it is ready, and when not.
fn notifier(ready: &str, ledger: &Ledger, mark: &str) -> Greenroom {
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
    let mut command = Greenroom::command(&args);
    command.env("LOG", ledger.path()).env("READY", ready).env(MARK, mark);
    Greenroom::spawn(&mut command)
}

fn named(events: &[Value], name: &str) -> Vec<Value> {
    events.iter().filter(|event| event["event"] == name).cloned().collect()
}

#[test]
fn at_term_the_held_hear_503_at_once_the_relayed_1001_and_nothing_is_left() {
    let _alone = one_at_a_time();
    let (ledger, mark) = (Ledger::new(), mark());
    let mut greenroom = notifier("now", &ledger, &mark);
    let address = greenroom.address();
    let child = greenroom.wait_for_event("started", PATIENCE)["pid"].as_u64().unwrap();
    greenroom.wait_for_event("ready", PATIENCE);
    let environment = environment(u32::try_from(child).unwrap());
    let socket = environment
        .iter()
        .find_map(|word| word.strip_prefix("NOTIFY_SOCKET="))
        .unwrap();
    assert!(Path::new(socket).exists(), "{socket}");

    let mut relayed: Vec<Wire> = (0..100).map(|_| Wire::knock(&address)).collect();
    for client in &mut relayed {
        assert_eq!(client.status(), 101);
        client.echo("here");
    }
    // The child says that it stops: who was let in stays, who comes now is held.
    greenroom.signal(Signal::USR1);
    greenroom.wait_for(|e| e["event"] == "gate" && e["gate"] == "shut", PATIENCE);
    let mut held: Vec<Wire> = (0..100).map(|_| Wire::knock(&address)).collect();
    greenroom.wait_for(|e| e["event"] == "held" && e["count"] == 100, PATIENCE);

    let told = Instant::now();
    greenroom.signal(Signal::TERM);
    for client in &mut held {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        let after = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("retry-after: ").map(str::to_owned));
        assert!(
            (1..=5).contains(&after.expect("Retry-After").parse::<u32>().unwrap()),
            "{head}"
        );
    }
    let at_once = told.elapsed();
    for client in &mut relayed {
        assert_eq!(client.closed().0, 1001);
    }
    // The connections end too: no client is left hanging.
    for client in held.iter_mut().chain(&mut relayed) {
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest); // the body of the 503; a FIN, or a reset once greenroom is gone
    }
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0, "{}", greenroom.stderr());
    println!(
        "100 held refused within {at_once:.0?}; all over after {:.0?}",
        told.elapsed()
    );
    assert!(
        at_once < Duration::from_secs(2),
        "the held do not wait for the paced closes: {at_once:?}"
    );

    let events = greenroom.events();
    let stopping = &named(&events, "stopping")[0];
    assert_eq!(
        (&stopping["held"], &stopping["relayed"]),
        (&100.into(), &100.into()),
        "{stopping}"
    );
    let stopped = &named(&events, "stopped")[0];
    assert_eq!(stopped["closed"]["drained"], 100, "{stopped}");
    assert_eq!(stopped["refused"]["draining"], 100, "{stopped}");
    assert_eq!(stopped["closed"]["internal"], Value::Null, "{stopped}");
    assert_eq!(marked(&mark), [], "no process is left");
    assert!(
        !Path::new(socket).parent().unwrap().exists(),
        "no socket file is left: {socket}"
    );
    assert_eq!(ledger.of("open").len(), 100, "nobody who was held reached the backend");
}

#[test]
fn a_held_client_that_leaves_frees_its_place_at_once_and_never_reaches_the_backend() {
    let ledger = Ledger::new();
    let greenroom = notifier("later", &ledger, &mark());
    let address = greenroom.address();
    common::process::until("the child takes signals", || greenroom.stdout().contains("listening"));
    let held = |client: u64| greenroom.wait_for(|e| e["event"] == "held" && e["session"] == client, PATIENCE);
    let gone = |client: u64, how: &str| {
        let closed = greenroom.wait_for(|e| e["event"] == "closed" && e["session"] == client, PATIENCE);
        assert_eq!(closed["cause"], "left_held", "{how}: {closed}");
    };

    let fin = Wire::knock(&address);
    assert_eq!(held(1)["count"], 1);
    fin.0.shutdown(Shutdown::Write).unwrap();
    gone(1, "FIN");

    let reset = Wire::knock(&address);
    assert_eq!(held(2)["count"], 1, "the place is free again");
    socket2::SockRef::from(&reset.0)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(reset);
    gone(2, "RST");

    let mut behind_bytes = Wire::knock(&address);
    assert_eq!(held(3)["count"], 1, "the place is free again");
    behind_bytes.0.write_all(&[b'x'; 1024]).unwrap();
    behind_bytes.0.shutdown(Shutdown::Write).unwrap();
    gone(3, "FIN behind 1 KiB");

    // One who stays is let in, with what it sent early.
    let mut stays = Wire::knock(&address);
    assert_eq!(held(4)["count"], 1, "the place is free again");
    stays.send(1, b"early");
    greenroom.signal(Signal::USR2); // READY=1
    assert_eq!(stays.status(), 101);
    assert_eq!(stays.frame(), (1, b"early".to_vec()));
    let sessions: Vec<_> = ledger.of("open").iter().map(|line| line["session"].clone()).collect();
    assert_eq!(sessions, ["4"], "only the one who stayed");
}

#[test]
fn quit_ends_all_without_grace() {
    let mark = mark();
    // A child that would take its time, and does not get it.
    let args = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--grace",
        "1h",
        "--",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 100; done",
    ];
    let mut greenroom = Greenroom::spawn(Greenroom::command(&args).env(MARK, &mark));
    greenroom.wait_for_event("started", PATIENCE);
    common::process::until("the child is up", || greenroom.stdout().contains("up"));
    let mut held = Wire::knock(&greenroom.address());
    greenroom.wait_for_event("held", PATIENCE);
    greenroom.signal(Signal::QUIT);
    assert_eq!(held.status(), 503);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 1, "the child had to be killed");
    assert_eq!(marked(&mark), []);
}
