//! Attack A41: more clients than descriptors. What is connected stays, the doors that matter still open, and nothing spins.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use common::{
    Greenroom, Ledger,
    process::until,
    raw::{Front, Raw, SOON, field, frame, masked, switching, upgrade},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// A frame there and back.
fn echo((client, backend): &mut (Raw, Raw)) {
    client.send(masked(0x81, b"there"));
    assert_eq!(backend.frame(), (0x81, b"there".to_vec()));
    backend.send(frame(0x81, b"and back"));
    assert_eq!(client.frame(), (0x81, b"and back".to_vec()));
}

/// Processor time that it has used.
fn cpu(greenroom: &Greenroom) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", greenroom.pid())).unwrap();
    let behind_its_name = stat.rsplit(')').next().unwrap();
    let ticks = behind_its_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks) // proc(5): USER_HZ is 100 on every architecture that greenroom is for
}

/// A41. With 128 descriptors: 48 clients, half of those that are left for backends, the rest for all else.
#[test]
fn a41_at_the_limit_clients_are_told_so_and_the_admin_and_the_relays_go_on() {
    let folder = Ledger::new();
    let stub = common::raw::Stub::listen();
    let inner = Greenroom::command(&["serve", "--listen", "127.0.0.1:0", "--backend", &stub.address()]);
    let mut command = Command::new("prlimit");
    command
        .arg("--nofile=128:128")
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env("XDG_RUNTIME_DIR", folder.beside(""));
    let greenroom = Greenroom::spawn(&mut command);
    let address = greenroom.address();
    let front = Front {
        greenroom,
        stub,
        address,
    };
    let mut relays: Vec<_> = (0..10).map(|_| front.relayed("", "")).collect();

    // Clients that say nothing, more than there is room for: they are taken in order, so the last is refused last.
    let silent: Vec<Raw> = (0..60).map(|_| front.client()).collect();
    until("the last is refused", || silent[59].has_bytes());
    let (refused, mut silent): (Vec<Raw>, Vec<Raw>) = silent.into_iter().partition(Raw::has_bytes);
    assert_eq!(silent.len(), 28, "with the relays' 20 descriptors 48");
    for mut client in refused {
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("descriptors"));
        let after: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&after), "{head}");
    }

    // Many more come, and all hear it; who is there notices nothing.
    for _ in 0..200 {
        let (head, _) = front.client().answer();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    }
    relays.iter_mut().for_each(echo);
    let said = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(["status", "--json"])
        .env("XDG_RUNTIME_DIR", folder.beside(""))
        .env_remove("GREENROOM_ADMIN")
        .env_remove("GREENROOM_BACKEND")
        .output()
        .unwrap();
    assert!(said.status.success(), "the admin socket is open: {said:?}");

    // One leaves, and the next one gets in: there are descriptors for its backend too.
    silent.truncate(silent.len() - 2);
    until("there is room", || {
        let mut client = front.client_with(upgrade(""));
        let mut backend = None;
        until("it is refused or relayed", || {
            backend = front.stub.try_accept();
            backend.is_some() || client.has_bytes()
        });
        let Some(mut backend) = backend else {
            return false;
        };
        backend.head();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        echo(&mut (client, backend));
        true
    });
    relays.iter_mut().for_each(echo);
}

/// What is said once while no descriptor is left.
const RESTS: &str = "cannot accept connections for the moment";

/// A41. The kernel gives none at all: accepting rests, is told once, and goes on by itself.
#[test]
fn a41_without_any_descriptor_accepting_rests_and_goes_on_by_itself() {
    let front = Front::open();
    let mut relays: Vec<_> = (0..3).map(|_| front.relayed("", "")).collect();
    let pid = Pid::from_raw(i32::try_from(front.greenroom.pid()).unwrap());
    let had = rustix::process::getrlimit(Resource::Nofile);
    let set = |current| {
        let limit = Rlimit {
            current,
            maximum: had.maximum,
        };
        prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    let before = set(Some(4));
    let mut waits: Vec<Raw> = (0..5).map(|_| front.client_with(upgrade(""))).collect();
    front.greenroom.warns(RESTS, SOON);
    let used = cpu(&front.greenroom);
    let began = Instant::now();
    let mut times = 0;
    while began.elapsed() < Duration::from_secs(1) {
        assert!(
            waits[0].silent_for(Duration::from_millis(50)),
            "it waits in the kernel's queue"
        );
        relays.iter_mut().for_each(echo);
        times += 1;
    }
    let (used, whole) = (cpu(&front.greenroom) - used, began.elapsed());
    assert!(
        used < whole / 3,
        "{used:?} of {whole:?} for {times} x 3 echoes: accepting spins"
    );
    let is_told = |event: &serde_json::Value| event["message"].as_str().is_some_and(|message| message.contains(RESTS));
    let told = front.greenroom.events().into_iter().filter(is_told).count();
    assert_eq!(told, 1, "{}", front.greenroom.stderr());

    set(before.current);
    let mut backends: Vec<Raw> = (0..5).map(|_| front.stub.request().0).collect();
    for backend in &mut backends {
        backend.send(switching(""));
    }
    for client in &mut waits {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    }
    relays.iter_mut().for_each(echo);
}
