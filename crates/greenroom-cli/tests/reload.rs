//! Reload: who is held and who is relayed is not touched by another configuration, and nothing is left of the old ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    sync::atomic::Ordering,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use common::{
    process::until,
    raw::{ACCEPT, Raw, Stub, masked, switching},
    reloading::{Named, get, holdings, kib_in_memory, outcome, own, reload, write},
    rig::Rig,
    traffic::Traffic,
};

/// All that the hundred reloads change back and forth. `round` decides what is there; the relayed, the held and their routes stay.
fn variant(round: usize, places: &Places) -> String {
    let is = |every: usize| round.is_multiple_of(every);
    let line = |is: bool, text: &str| if is { format!("{text}\n") } else { String::new() };
    let mut text = line(is(2), "grace = \"7s\"");
    text += "[limits]\n";
    text += &line(is(3), "connections_max = 500");
    text += &line(is(2), "handshakes_per_address = 1000");
    text += &line(is(5), "connections_per_address = 400\naddress_bits_v4 = 24");
    text += &line(is(2), "early_budget = \"4MiB\"");
    text += &line(is(4), "[admin]\nhealth_prefix = \"/own\"");
    text += &format!("[backend.app]\naddress = \"{}\"\nready = \"listen\"\n", places.app);
    text += &line(is(2), "held_max = 3\ndials_max = 2");
    text += &line(is(3), "fair = \"address\"\nheld_per_address = 50");
    text += &line(is(5), "release_rate = 1000");
    text += &format!("[backend.slow]\naddress = \"{}\"\nready = \"listen\"\n", places.slow);
    text += &line(is(2), "held_max = 2");
    text += &line(is(3), "fair = \"address\"");
    // Comes, goes, and is replaced by another at the same name.
    let other = if is(2) { &places.one } else { &places.two };
    text += &line(
        !is(7),
        &format!(
            "[backend.other]\naddress = \"{other}\"\nready = \"listen\"\n[[route]]\npath = \"/other\"\nbackend = \"other\""
        ),
    );
    text += &line(
        is(3),
        "[[route]]\npath = \"/more\"\nbackend = \"app\"\nhold = \"refuse\"",
    );
    text += "[[route]]\npath = \"/ws\"\nbackend = \"app\"\n[[route]]\npath = \"/slow\"\nbackend = \"slow\"\n";
    text += &line(
        true,
        if is(2) {
            "hold_timeout = \"60s\""
        } else {
            "hold_timeout = \"50s\""
        },
    );
    text += "[[route]]\npath = \"/short\"\nbackend = \"slow\"\nhold = \"handshake\"\n";
    text += &line(
        true,
        if round == 0 {
            "hold_timeout = \"4s\""
        } else {
            "hold_timeout = \"60s\""
        },
    );
    text += &line(is(2) && round > 0, "[listener.extra]\naddress = \"127.0.0.1:0\"");
    text
}

/// A file that is wrong, each time in another way.
fn wrong(round: usize, places: &Places) -> (String, &'static str) {
    let good = variant(round, places);
    match round % 5 {
        0 => (good[..good.len() - 20].to_owned() + "\n[[rou", "problems"),
        1 => (good.replace("[limits]", "[limits]\nconections_max = 7"), "problems"),
        2 => (format!("state_dir = \"/tmp\"\n{good}"), "restart_needed"),
        3 => (
            format!("{good}\n[listener.taken]\naddress = \"{}\"", places.app),
            "error",
        ),
        _ => (
            good.replace("[backend.app]\n", "[backend.app]\nready = \"notify\"\n"),
            "problems",
        ),
    }
}

struct Places {
    app: String,
    slow: String,
    one: String,
    two: String,
}

/// Held for longer than its route's time: it was promised this time when it came, whatever its route says since.
struct Short(Option<JoinHandle<(String, Duration)>>);

impl Short {
    fn knock(rig: &Rig) -> Self {
        let mut client = rig.knock("/short");
        let since = Instant::now();
        Self(Some(thread::spawn(move || (client.head(), since.elapsed()))))
    }

    fn ends_in_time(&mut self) {
        let (head, after) = self.0.take().unwrap().join().unwrap();
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert!((4.0..8.0).contains(&after.as_secs_f64()), "{after:?}");
    }
}

/// Clients that are relayed, with traffic.
fn relayed(rig: &Rig, app: &Stub) -> Vec<Traffic> {
    let one = |salt| {
        let mut client = rig.knock("/ws");
        let (mut backend, _) = app.request();
        backend.send(switching(""));
        assert!(client.head().contains(ACCEPT));
        Traffic::over(client, backend, salt)
    };
    (0..6).map(one).collect()
}

/// One good file and one bad one: new clients see the new routes at once, and nothing of the bad file.
fn round(rig: &Rig, places: &Places, round: usize) {
    write(rig, &variant(round, places));
    let (answer, code) = reload(rig, &[]);
    assert_eq!(
        (answer["outcome"].as_str(), code),
        (Some("reloaded"), 0),
        "{round}: {answer}"
    );
    let expected = match (round % 7, round % 2) {
        (0, _) => ("404", ""),
        (_, 0) => ("200", "one"),
        (_, _) => ("200", "two"),
    };
    let check = || {
        let (status, body) = get(&rig.address, "/other");
        let body = if status == "200" { body } else { String::new() };
        assert_eq!((status.as_str(), body.as_str()), expected, "{round}");
    };
    check();
    let (file, how) = wrong(round, places);
    write(rig, &file);
    let (answer, code) = reload(rig, &[]);
    assert_eq!(
        (answer["outcome"].as_str(), code),
        (Some("refused"), 1),
        "{round}: {answer}"
    );
    let said = &answer[how];
    let is_said = said.as_str().is_some_and(|text| !text.is_empty()) || said[0].is_string();
    assert!(is_said, "{round}: {answer}");
    check();
}

/// The done-when line: bytes and pings flow during 100 reloads, half of them refused.
#[test]
fn nobody_is_touched_by_a_hundred_reloads() {
    let app = Stub::listen();
    let (one, two) = (Named::start("one"), Named::start("two"));
    let places = Places {
        app: app.address(),
        // Nobody listens there until the end: its clients are held.
        slow: common::raw::nobody(),
        one: one.address.clone(),
        two: two.address.clone(),
    };
    let rig = Rig::start("serve", &variant(0, &places));
    rig.until("app is ready", |app| app["condition"] == "ready");
    let mut traffic = relayed(&rig, &app);
    let mut held: Vec<Raw> = Vec::new();
    for count in 1..=2 {
        held.push(rig.knock(&format!("/slow/{count}")));
        rig.held(count);
    }
    write(&rig, &variant(0, &places).replace("held_max = 2\n", ""));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    let mut short = Short::knock(&rig);
    rig.held(3);
    let before = holdings(&rig);
    (1..=50).for_each(|number| round(&rig, &places, number));
    short.ends_in_time();
    // Held and relayed clients go by the first and second configuration, and new ones by the last.
    until("old configurations are freed", || {
        own(&rig)["configurations"].as_u64() <= Some(3)
    });
    let count = |name: &str| {
        rig.greenroom
            .events()
            .iter()
            .filter(|event| event["event"] == name)
            .count()
    };
    assert_eq!((count("reloaded"), count("reload_failed")), (51, 50));
    // The extra listener comes with every second; the first one has its socket all the time.
    assert_eq!(count("listening"), 1 + 25);
    write(&rig, &variant(0, &places));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    // Who was held all the time is let in, in order.
    let slow = Stub::at(&places.slow);
    for (number, mut client) in (1..).zip(held) {
        let (mut backend, request) = slow.request();
        assert!(request.starts_with(&format!("GET /slow/{number} ")), "{request}");
        backend.send(switching(""));
        assert!(client.head().contains(ACCEPT));
        traffic.push(Traffic::over(client, backend, 100 + number));
    }
    let turns = || traffic.iter().map(|one| one.turns.load(Ordering::SeqCst));
    let then: Vec<u64> = turns().collect();
    until("traffic flows on all of them", || {
        turns().zip(&then).all(|(now, then)| now > then + 25)
    });
    traffic.into_iter().for_each(Traffic::end);
    until("nobody is left", || own(&rig)["configurations"] == 1);
    until("descriptors and threads are back", || {
        let (descriptors, threads) = holdings(&rig);
        descriptors <= before.0 && threads <= before.1
    });
}

/// Neither memory nor descriptors grow with reloads.
#[test]
fn a_hundred_and_twenty_reloads_leave_nothing_behind() {
    let (one, two) = (Named::start("one"), Named::start("two"));
    let text = |round: usize| {
        let other = if round.is_multiple_of(2) { &one } else { &two };
        let routes: String = (0..200)
            .map(|route| format!("[[route]]\npath = \"/{route}/{}\"\nbackend = \"app\"\n", round % 3))
            .collect();
        format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[backend.app.check.there]\nprobe = \"tcp\"\naddress = \"{}\"\ncritical = false\n{routes}",
            other.address, one.address
        )
    };
    let rig = Rig::start("serve", &text(0));
    let round = |round: usize| {
        write(&rig, &text(round));
        assert_eq!(outcome(&rig, &[]), "reloaded");
        assert_eq!(get(&rig.address, &format!("/7/{}", round % 3)).0, "200");
    };
    (1..=40).for_each(round);
    let (before, memory) = (holdings(&rig), kib_in_memory(&rig));
    (41..=120).for_each(round);
    until("old configurations are freed", || own(&rig)["configurations"] == 1);
    until("descriptors are back", || holdings(&rig).0 <= before.0 + 2);
    let grown = kib_in_memory(&rig).saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more after 80 reloads");
}

/// A backend that is asked elsewhere is another one: who is held at the old one stays there, in order, and goes in there.
#[test]
fn who_is_held_at_a_backend_that_is_replaced_is_let_in_there_and_new_clients_at_the_new_one() {
    let old = common::raw::nobody();
    let new = Stub::listen();
    let text = |address: &str| format!("[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n");
    let rig = Rig::start("serve", &text(&old));
    let mut held: Vec<Raw> = Vec::new();
    for count in 1..=3 {
        held.push(rig.knock(&format!("/held/{count}")));
        rig.held(count);
    }
    write(&rig, &text(&new.address()));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    let mut client = rig.knock("/new");
    let (mut backend, request) = new.request();
    assert!(request.starts_with("GET /new "), "{request}");
    backend.send(switching(""));
    assert!(client.head().contains(ACCEPT));
    let old = Stub::at(&old);
    for (index, client) in held.iter_mut().enumerate() {
        let (mut backend, request) = old.request();
        assert!(request.starts_with(&format!("GET /held/{} ", index + 1)), "{request}");
        backend.send(switching(""));
        assert!(client.head().contains(ACCEPT));
    }
    assert!(new.nobody_came());
    assert_eq!(own(&rig)["configurations"], 2);
    drop(held);
    until("the old one is ended", || own(&rig)["configurations"] == 1);
    client.send(masked(0x81, b"x"));
    assert_eq!(backend.frame().1.len(), 1, "the new one goes on");
}
