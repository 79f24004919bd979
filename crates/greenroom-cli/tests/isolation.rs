//! Nobody sees what is another's. Two users' connections on one route of one backend, told apart by a header: messages to and fro (fragmented,
//! from the backend), messages sent and connections closed through the admin API, clients that close, break off and come
//! back, all at once. Each message carries its owner's mark, and whoever gets one looks at it.
//!
//! 10,000 rounds; a round is a message of a client that has come back from its own backend connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use common::{
    process::until,
    raw::{KEY, Raw, Stub, close, frame, masked, switching},
    rig::Rig,
};
use greenroom_core::drain::splitmix64;
use serde_json::{Value, json};

const ROUNDS: usize = 10_000;
const USERS: [&str; 2] = ["a", "b"];
/// Clients of each user, each with one connection after the other.
const CLIENTS: usize = 4;

/// What all of them count, and what went wrong.
#[derive(Default)]
struct Seen {
    rounds: AtomicUsize,
    /// Messages of the admin API that came.
    own: AtomicUsize,
    /// Connections that it closed.
    closed: AtomicUsize,
    reconnects: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.rounds.load(Ordering::Relaxed) >= ROUNDS || !self.wrong.lock().unwrap().is_empty()
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn count(count: &AtomicUsize) -> usize {
        count.fetch_add(1, Ordering::Relaxed)
    }
}

/// The next frame of one side, its mask taken off; `None` at its end.
fn next(raw: &mut Raw) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    raw.0.read_exact(&mut start).ok()?;
    let mut len = u64::from(start[1] & 0x7f);
    if len == 126 {
        let mut wide = [0; 2];
        raw.0.read_exact(&mut wide).ok()?;
        len = u16::from_be_bytes(wide).into();
    }
    let mut mask = [0; 4];
    if start[1] & 0x80 != 0 {
        raw.0.read_exact(&mut mask).ok()?;
    }
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    raw.0.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(b, m)| *b ^= m);
    Some((start[0], payload))
}

/// One backend connection: answers each message of its client with the same, in pieces.
fn answer(mut raw: Raw, seen: &Seen) {
    let head = raw.head();
    let mark = head
        .split(' ')
        .nth(1)
        .and_then(|path| path.strip_prefix('/'))
        .unwrap()
        .to_owned();
    raw.send(switching(""));
    let mut seed = mark.len() as u64;
    while let Some((first, payload)) = next(&mut raw) {
        if first == 0x88 {
            return; // a client that was closed, or has closed
        }
        if !payload.starts_with(mark.as_bytes()) {
            return seen.wrong(format!(
                "the backend of {mark} got {:?}",
                String::from_utf8_lossy(&payload)
            ));
        }
        seed = splitmix64(seed);
        let cut = usize::try_from(seed % 8).unwrap().min(payload.len());
        let (begin, end) = payload.split_at(cut);
        let pieces = match seed / 8 % 3 {
            0 => vec![frame(0x81, &payload)],
            1 => vec![frame(0x01, begin), frame(0x80, end)],
            _ => vec![frame(0x01, begin), frame(0x89, b""), frame(0x00, end), frame(0x80, b"")],
        };
        // In one write, or frame by frame.
        let together = (seed / 64).is_multiple_of(2);
        for bytes in if together { vec![pieces.concat()] } else { pieces } {
            if raw.0.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

/// What a client makes of one whole message or Close.
enum Got {
    Message(Vec<u8>),
    Closed(Vec<u8>),
    Ended,
}

/// The next message of a client, whose frames must not be mixed with others.
fn message(raw: &mut Raw, seen: &Seen) -> Got {
    let mut begun: Option<Vec<u8>> = None;
    while let Some((first, payload)) = next(raw) {
        match (first, &mut begun) {
            (0x89, _) => {}
            (0x88, _) => return Got::Closed(payload),
            (0x81, None) => return Got::Message(payload),
            (0x01, None) => begun = Some(payload),
            (0x00, Some(begun)) => begun.extend(payload),
            (0x80, Some(begun)) => {
                begun.extend(payload);
                return Got::Message(std::mem::take(begun));
            }
            (first, begun) => {
                seen.wrong(format!("a frame {first:02x} {payload:?} behind {begun:?}"));
                return Got::Ended;
            }
        }
    }
    Got::Ended
}

/// A client, one connection after the other.
fn client(address: &str, user: &str, number: usize, seen: &Seen) {
    let mut life = 0;
    while !seen.is_over() {
        life += 1;
        Seen::count(&seen.reconnects);
        let mark = format!("{user}/{number}/{life}");
        let mut raw = Raw::connect(address);
        raw.send(format!(
            "GET /{mark} HTTP/1.1\r\nHost: example.test\r\nX-User: {user}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ));
        let head = raw.head();
        if head.starts_with("HTTP/1.1 503 ") && head.contains("by_hand") {
            continue; // closed before its backend had answered
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        talk(raw, (user, &mark), life, seen);
    }
}

/// Some rounds on one connection, then its end: of one kind or another.
fn talk(mut raw: Raw, (user, mark): (&str, &str), life: u64, seen: &Seen) {
    let own = format!("own/{user}/");
    // The number by which the admin API knows this connection, once it has been called by it.
    let mut called: Option<Vec<u8>> = None;
    for round in 0..20 + splitmix64(life) % 60 {
        if seen.is_over() {
            break;
        }
        let said = format!("{mark}/{round}");
        if raw.0.write_all(&masked(0x81, said.as_bytes())).is_err() {
            return;
        }
        loop {
            match message(&mut raw, seen) {
                Got::Message(bytes) if bytes == said.as_bytes() => break,
                Got::Message(bytes) if bytes.starts_with(own.as_bytes()) => {
                    Seen::count(&seen.own);
                    if let Some(name) = bytes[own.len()..].strip_prefix(b"number ") {
                        let known = called.get_or_insert_with(|| name.to_vec());
                        if known != name {
                            return seen.wrong(format!("{mark} got {name:?}, and is {known:?}"));
                        }
                    }
                }
                Got::Closed(payload) => {
                    if payload != close(4001, user) {
                        seen.wrong(format!(
                            "{mark} was closed with {:?}",
                            String::from_utf8_lossy(&payload)
                        ));
                    }
                    Seen::count(&seen.closed);
                    let _ = raw.0.write_all(&masked(0x88, &close(4001, "")));
                    return;
                }
                Got::Ended => return,
                Got::Message(bytes) => {
                    return seen.wrong(format!("{mark} got {:?}", String::from_utf8_lossy(&bytes)));
                }
            }
        }
        Seen::count(&seen.rounds);
    }
    match life % 3 {
        0 => raw.reset(),
        1 => {
            let _ = raw.0.write_all(&masked(0x88, &close(1000, "")));
        }
        _ => {} // a FIN
    }
}

/// Whoever sends to one user's clients and closes some of them.
fn administer(rig: &Rig, user: &str, seen: &Seen) {
    let mut turn = 0;
    while !seen.is_over() {
        turn += 1;
        let filter = json!({"user": user});
        let sent = rig.post(
            "/v1/connections/send",
            &json!({"filter": filter, "text": format!("own/{user}/{turn}")}),
        );
        assert_eq!(sent.0, 200, "{}", sent.1);
        let list = rig.ask(&format!("/v1/connections?user={user}&state=relaying"));
        let list: Value = serde_json::from_str(list.split_once("\r\n\r\n").unwrap().1).unwrap();
        let open = list["connections"].as_array().unwrap();
        if open.is_empty() {
            continue;
        }
        let index = usize::try_from(splitmix64(turn) % open.len() as u64).unwrap();
        let number = &open[index]["number"];
        let named = format!("own/{user}/number {number}");
        let sent = rig.post("/v1/connections/send", &json!({"numbers": [number], "text": named}));
        assert_eq!(sent.0, 200, "{}", sent.1);
        if turn % 5 == 0 {
            let asked = json!({"numbers": [number], "code": 4001, "reason": user});
            assert_eq!(rig.post("/v1/connections/close", &asked).0, 200);
        }
    }
}

#[test]
fn nobody_ever_sees_what_is_anothers() {
    let stub = Stub::listen();
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\
             [[route]]\nuser = \"header:X-User\"\n",
            stub.address()
        ),
    );
    let seen = Arc::new(Seen::default());
    let backends = Arc::clone(&seen);
    stub.serve(move |raw| answer(raw, &backends));
    thread::scope(|scope| {
        for user in USERS {
            let (seen, rig) = (&*seen, &rig);
            for number in 0..CLIENTS {
                scope.spawn(move || client(&rig.address, user, number, seen));
            }
            scope.spawn(move || administer(rig, user, seen));
        }
    });
    assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new());
    let [rounds, own, closed, reconnects] =
        [&seen.rounds, &seen.own, &seen.closed, &seen.reconnects].map(|count| count.load(Ordering::Relaxed));
    println!("{rounds} rounds, {own} messages of the admin API, {closed} closes by it, {reconnects} connections");
    assert!(rounds >= ROUNDS && own > 100 && closed > 10 && reconnects > 50);
    let total = |path: &str| {
        let answer = rig.ask(path);
        let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        answer["total"].as_u64().unwrap()
    };
    until("nobody is left", || total("/v1/connections") == 0);
    assert_eq!(total("/v1/closed?limit=1"), reconnects as u64, "each has its line");
}
