//! Attacks on the hold of accepted clients, and their like on a relay: A29 to A33, A36, A38, A39 and A43 on the wire.
//!
//! Where each attack of the catalogue is tested, A29 to A43:
//!
//! | attack | tests |
//! |---|---|
//! | A29 quadratic negotiation | `heads::a29_what_is_negotiated_is_bounded`, `greenroom::head::tests::requests` (bounds, and cost by length) |
//! | A30 window bits | here; `greenroom::head::tests::{requests, answers}` |
//! | A31 deflate bomb | here |
//! | A32 flood of fragments | here; `greenroom_core::buffer::tests::a32_*` |
//! | A33 length of 2^63-1 | here; `violations`; `greenroom_core::buffer::tests::a_declared_length_takes_no_memory` |
//! | A34, A35, A37 broken frames | `violations`, of a client, of a backend, and of a client that was accepted |
//! | A36 control frames, pings | `violations`; here; `greenroom::opening::tests::timed::a36_*`; `greenroom_core::buffer::tests` |
//! | A38 text that is no UTF-8 | here |
//! | A39 flood of accepted clients | here; core's `buffer::budget` |
//! | A40 one address hogs the queue | `fairness::with_fair_address_one_with_many_connections_keeps_nobody_waiting_for_more_than_one_of_them`, `fairness::as_many_of_one_address_wait_as_may_and_one_more_is_429` |
//! | A41 descriptors | `descriptors`; `greenroom::opening::tests::where_descriptors_are_few_*` |
//! | A42 half-open peers | `greenroom::opening::tests::timed::a42_*` |
//! | A43 slow reader, slow backend | `relay_wire::a_slow_reader_stops_its_sender_and_costs_no_memory`; here; `greenroom::opening::accepted::tests::a43_*` |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{io::Write as _, process::Command, time::Duration};

use common::{
    Greenroom,
    house::House,
    process::until,
    python,
    raw::{Front, Raw, close, frame, header, masked, nobody, serve, switching, upgrade},
    rig::Rig,
};
use greenroom::config::{Config, Hold};
use greenroom_core::{
    event::State,
    limits::{EARLY_FRAMES_MAX, KIB},
};

/// Before a backend that listens and has not said that it is ready.
fn accepting(edit: impl FnOnce(&mut Config)) -> House {
    House::pushed(|config| {
        config.routes[0].hold = Hold::Accept;
        edit(config);
    })
}

/// A client that has a 101 of greenroom's own.
fn accepted(address: &str) -> Raw {
    let mut client = Raw::connect(address);
    client.send(upgrade(""));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// Waits until all that the client has sent was read: a Ping behind it is answered.
fn is_read(client: &mut Raw) {
    client.send(masked(0x89, b"is it?"));
    assert_eq!(client.frame(), (0x8a, b"is it?".to_vec()));
}

fn is_over(house: &House) {
    until("nobody is left", || house.registry.is_idle());
    assert_eq!(house.registry.early.used(), 0);
}

/// Resident memory of the program, in KiB.
fn rss(greenroom: &Greenroom) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", greenroom.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// A30. A window that no server can have is asked for, or promised.
#[test]
fn a30_window_bits_out_of_range_are_400_and_502() {
    let offer = |value: &str| format!("Sec-WebSocket-Extensions: permessage-deflate{value}\r\n");
    let front = Front::open();
    for bits in [
        "server_max_window_bits=16",
        "server_max_window_bits=7",
        "client_max_window_bits=99999999999",
    ] {
        let (head, _) = front.client_with(upgrade(&offer(&format!("; {bits}")))).answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{bits}: {head}");
        let mut client = front.client_with(upgrade(&offer("; client_max_window_bits")));
        let (mut backend, _) = front.stub.request();
        backend.send(switching(&offer(&format!("; {bits}"))));
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 502 "), "{bits}: {head}");
    }
}

/// 6 MiB of zeros, deflated as permessage-deflate wants it, fit into a frame of 6 KiB.
fn bomb() -> Vec<u8> {
    let script = "import sys, zlib\nc = zlib.compressobj(9, zlib.DEFLATED, -15)\n\
        sys.stdout.buffer.write((c.compress(bytes(6 << 20)) + c.flush(zlib.Z_SYNC_FLUSH))[:-4])";
    let said = Command::new(python("python")).args(["-c", script]).output().unwrap();
    assert!(said.status.success() && said.stdout.len() < 8 * KIB, "{said:?}");
    said.stdout
}

/// A31. A relay never inflates: a bomb passes as the few bytes that it is. In a hold no extension is agreed, so it is 1002.
#[test]
fn a31_a_deflate_bomb_passes_a_relay_as_it_is_and_is_1002_in_a_hold() {
    let bomb = bomb();
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let front = Front::open();
    let (mut client, mut backend) = front.relayed(deflate, deflate);
    let before = rss(&front.greenroom);
    for _ in 0..100 {
        client.send(masked(0xc2, &bomb));
        assert!(backend.frame() == (0xc2, bomb.clone()));
        backend.send(frame(0xc2, &bomb));
        assert!(client.frame() == (0xc2, bomb.clone()));
    }
    let grown = rss(&front.greenroom).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB more");

    let house = accepting(|_| {});
    let mut client = house.client_with(upgrade(deflate));
    assert!(!client.head().to_lowercase().contains("extensions"));
    client.send(masked(0xc2, &bomb));
    assert_eq!(client.close_frame().0, 1002);
    assert_eq!(client.rest(), b"");
    drop(client);
    is_over(&house);
}

/// A32, as Autobahn's 9.3.1: a message of 4 MiB in 65,536 frames passes a relay whole, there and back.
#[test]
fn a32_a_message_of_65536_frames_passes_a_relay() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let message = |framed: fn(u8, &[u8]) -> Vec<u8>| {
        let (first, last) = (framed(0x02, &[1; 64]), framed(0x80, &[3; 64]));
        [first, framed(0x00, &[2; 64]).repeat(65_534), last].concat()
    };
    let before = rss(&front.greenroom);
    let (up, down) = (message(masked), message(frame));
    let expected = (up.len(), down.len());
    std::thread::scope(|scope| {
        let (mut to_backend, mut to_client) = (client.0.try_clone().unwrap(), backend.0.try_clone().unwrap());
        let (up, down) = (&up, &down);
        scope.spawn(move || to_backend.write_all(up).unwrap());
        scope.spawn(move || to_client.write_all(down).unwrap());
        scope.spawn(|| assert!(backend.exactly(expected.0) == *up));
        assert!(client.exactly(expected.1) == *down);
    });
    let grown = rss(&front.greenroom).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB more");
}

/// A32. In a hold so many frames are kept and no more; the rest waits outside, and all of it arrives.
#[test]
fn a32_a_flood_of_empty_frames_is_left_unread_in_a_hold_and_arrives_whole() {
    let house = accepting(|config| config.limits.early_max = 1024 * KIB);
    let mut client = accepted(&house.address);
    let flood = [masked(0x01, b""), masked(0x00, b"").repeat(65_534), masked(0x80, b"")].concat();
    client.send(&flood[..6]);
    is_read(&mut client);
    let (most, all) = (EARLY_FRAMES_MAX * 6, flood.len());
    let reads = std::thread::spawn(move || {
        client.send(&flood[6..]);
        (client, flood)
    });
    until("as many are kept as may be", || house.registry.early.used() >= most);
    assert_eq!(house.registry.count(State::Held), 1);
    // By half more each time, and never for more than there is room for.
    assert!(
        house.registry.early.used() < 2 * most,
        "{}",
        house.registry.early.used()
    );
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    let seen = backend.exactly(all);
    let (mut client, flood) = reads.join().unwrap();
    assert!(seen == flood);
    backend.send(frame(0x81, b"heard"));
    assert_eq!(client.frame(), (0x81, b"heard".to_vec()));
    drop((client, backend));
    is_over(&house);
}

/// A33. A frame that says it has 2^63-1 bytes takes the memory of those that came; with the highest bit it is 1002.
#[test]
fn a33_a_declared_length_takes_no_memory_in_a_hold() {
    let house = accepting(|_| {});
    let mut client = accepted(&house.address);
    let begun = [&header(0x82, (1 << 63) - 1, true)[..], &[0; 4], b"and"].concat();
    client.send(&begun);
    until("that is kept", || house.registry.early.used() > 0);
    assert!(house.registry.early.used() <= KIB, "{}", house.registry.early.used());
    // It is a client like others: it is let in, with what it has sent of its frame.
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    assert_eq!(backend.exactly(begun.len()), begun);
    client.send(b" so on");
    assert_eq!(backend.exactly(6), b" so on");
    drop((client, backend));
    is_over(&house);

    let house = accepting(|_| {});
    let mut client = accepted(&house.address);
    client.send(header(0x82, 1 << 63, true));
    assert_eq!(client.close_frame().0, 1002);
    drop(client);
    is_over(&house);
}

/// A36. Of pings that come together the last is answered; a hundred thousand are 1008.
#[test]
fn a36_the_last_ping_of_many_is_answered_and_a_flood_is_1008() {
    let house = accepting(|_| {});
    let mut client = accepted(&house.address);
    let five: Vec<u8> = (b'1'..=b'5').flat_map(|number| masked(0x89, &[number])).collect();
    client.send(five);
    let mut last = Vec::new();
    while last != b"5" {
        let (first, payload) = client.frame();
        assert!(first == 0x8a && payload > last, "{payload:?} behind {last:?}");
        last = payload;
    }
    client.send(masked(0x89, b"flood").repeat(2_000));
    let mut flooder = client.0.try_clone().unwrap();
    let floods = std::thread::spawn(move || {
        let _ = flooder.write_all(&masked(0x89, b"flood").repeat(98_000)); // it is not heard to its end
    });
    let mut pongs = 0;
    let reason = loop {
        match client.frame() {
            (0x8a, payload) => assert_eq!(payload, b"flood"),
            (first, payload) => {
                assert_eq!((first, &payload[..2]), (0x88, &1008_u16.to_be_bytes()[..]));
                break String::from_utf8(payload[2..].to_vec()).unwrap();
            }
        }
        pongs += 1;
    };
    assert_eq!(reason, "too many pings");
    assert!(pongs <= 1_001, "{pongs}");
    drop(client);
    floods.join().unwrap();
    is_over(&house);
    let refused = house.registry.refused().find(|&(word, _)| word == "early_pings");
    assert_eq!(refused.unwrap().1, 1);
}

/// A38. Greenroom looks into a text only where it answers for the server; a relay looks into nothing.
#[test]
fn a38_a_text_that_is_no_utf8_is_1007_in_a_hold_and_passes_a_relay() {
    let greenroom = serve(&nobody(), &["--hold", "accept"]);
    let address = greenroom.address();
    for bad in [
        masked(0x81, b"\xff"),
        masked(0x81, b"\xed\xa0\x80"), // a surrogate
        masked(0x81, b"\xf4\x90\x80\x80"),
        masked(0x81, b"\xc0\xaf"), // too long a form
        [masked(0x01, b"\xce"), masked(0x80, b"\xff")].concat(),
        [masked(0x01, b"\xe2\x82"), masked(0x89, b""), masked(0x80, b"")].concat(),
    ] {
        let mut client = accepted(&address);
        client.send([masked(0x81, "gr\u{fc}n".as_bytes()), bad.clone()].concat());
        let closed = loop {
            match client.frame() {
                (0x8a, _) => {}
                other => break other,
            }
        };
        assert_eq!(closed, (0x88, 1007_u16.to_be_bytes().to_vec()), "{bad:?}");
        assert_eq!(client.rest(), b"");
    }
    let ended = |event: &serde_json::Value| event["cause"] == "client_violation" && event["detail"] == "not_utf8";
    greenroom.wait_for(ended, common::raw::SOON);

    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    client.send(masked(0x81, b"\xff"));
    assert_eq!(backend.frame(), (0x81, b"\xff".to_vec()));
    backend.send(frame(0x81, b"\xc0\xaf"));
    assert_eq!(client.frame(), (0x81, b"\xc0\xaf".to_vec()));
}

/// A39. 300 clients send as much as they can; twenty times more than may be kept in all. Memory stays, those who came
/// last are closed, those who came first lose nothing.
#[test]
fn a39_a_flood_of_accepted_clients_stays_within_its_budget() {
    const CLIENTS: usize = 300;
    const EACH: usize = 256 * KIB;
    let config = format!(
        "[limits]\nearly_max = \"256KiB\"\nearly_budget = \"4MiB\"\n[backend.app]\naddress = \"{}\"\n\
         ready = \"listen\"\n[[route]]\nhold = \"accept\"\n",
        nobody()
    );
    let rig = Rig::start("serve", &config);
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| rig.knock("/ws")).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    }
    let before = rss(&rig.greenroom);
    let message = masked(0x82, &[7; EACH - 14]);
    let mut most = 0;
    for client in &clients {
        client.0.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // As much as is taken now: what is kept unread is the kernel's, and bounded by it.
        while sent < message.len()
            && let Ok(written) = (&client.0).write(&message[sent..])
        {
            sent += written;
        }
        client.0.set_nonblocking(false).unwrap();
        most = most.max(rss(&rig.greenroom));
    }
    let is_early = |event: &serde_json::Value| event["event"] == "refused" && event["refusal"] == "early_budget";
    rig.greenroom.wait_for(is_early, common::raw::SOON);
    most = most.max(rss(&rig.greenroom));
    // 4 MiB, and what 300 connections that speak take in a debug build; without a bound it is 75 MiB.
    let grown = most.saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more");
    assert!(clients[0].silent_for(Duration::from_millis(50)), "who came first stays");
    let session = |event: &serde_json::Value| event["session"].as_u64().unwrap();
    let first = rig.greenroom.wait_for(is_early, common::raw::SOON);
    assert!(session(&first) > 4, "not one of the first: {first}");

    drop(clients);
    rig.until("all are gone", |status| status["held"]["websocket"] == 0);
    // The gate has let go of the last before its memory is free.
    until("nothing is kept", || {
        rig.ask("/metrics").contains("\ngreenroom_early_bytes 0\n")
    });
    let mut again = rig.knock("/ws");
    assert!(again.head().starts_with("HTTP/1.1 101 "), "and there is room again");
    let metrics = rig.ask("/metrics");
    let internal = metrics
        .lines()
        .find(|line| line.contains("internal"))
        .unwrap_or_default();
    assert!(internal.ends_with(" 0") || internal.is_empty(), "{internal}");
}

/// A43. A backend that reads nothing stops its client; what the client was held with stays counted until it is taken.
#[test]
fn a43_what_a_slow_backend_has_not_taken_stays_in_the_budget_until_it_has() {
    const LEN: usize = 12 << 20;
    let house = accepting(|config| config.limits.early_max = LEN + KIB);
    let mut client = accepted(&house.address);
    let message = masked(
        0x82,
        &(0..(LEN / 4) as u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(),
    );
    client.send(&message);
    is_read(&mut client);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    house.wait_for(State::Relaying, 1);
    // A little of it is enough to see that it goes on, and that most of it is still there.
    assert!(backend.exactly(1000) == message[..1000]);
    assert!(house.registry.early.used() >= LEN);
    assert!(backend.exactly(message.len() - 1000) == message[1000..]);
    until("it has taken all", || house.registry.early.used() == 0);
    client.send(masked(0x81, b"next"));
    assert_eq!(backend.frame(), (0x81, b"next".to_vec()));
    drop((client, backend));
    is_over(&house);
}

/// Clients that end in the middle of something: each frees its place and its bytes, and no backend hears of it.
#[test]
fn a_client_that_ends_in_the_middle_of_a_message_frees_its_place_and_is_never_let_in() {
    let house = accepting(|_| {});
    let begun = masked(0x01, b"the beginning of ");

    let mut closes = accepted(&house.address);
    closes.send([&begun[..], &masked(0x88, &close(4001, "enough"))].concat());
    assert_eq!(
        closes.close_frame().0,
        4001,
        "a Close may stand between the frames of a message"
    );
    assert_eq!(closes.rest(), b"");

    let mut half = accepted(&house.address);
    half.send(&begun);
    half.fin();
    assert_eq!(half.rest(), b"");

    let mut in_a_frame = accepted(&house.address);
    in_a_frame.send(&begun[..9]);
    in_a_frame.fin();
    assert_eq!(in_a_frame.rest(), b"");

    let mut reset = accepted(&house.address);
    reset.send(&begun);
    is_read(&mut reset);
    reset.reset();

    let mut full = accepted(&house.address);
    full.send(masked(0x82, &[7; 100_000]));
    full.fin();
    assert_eq!(full.rest_or_reset(), b"");

    drop((closes, half, in_a_frame, full));
    is_over(&house);
    house.ready();
    let mut stays = house.client_with(upgrade(""));
    let (mut backend, head) = house.stub.request();
    assert!(head.contains("Greenroom-Session: 6\r\n"), "{head}");
    backend.send(switching(""));
    assert!(stays.head().starts_with("HTTP/1.1 101 "));
    let left = house.registry.closed().find(|&(word, _)| word == "left_held");
    assert_eq!(left.unwrap().1, 5);
}

/// No edge of the poller is lost however the wait is interrupted: what is said to the client, while it sends.
#[test]
fn what_comes_in_pieces_is_read_though_the_wait_is_interrupted_again_and_again() {
    let house = accepting(|config| config.routes[0].waiting_message = Some("{phase}".into()));
    let mut client = accepted(&house.address);
    let phases = ["init", "dependencies", "database", "cache", "services", "websocket"];
    for round in 0..600_u32 {
        let ping = masked(0x89, &round.to_le_bytes());
        let (one, two) = ping.split_at(1 + round as usize % (ping.len() - 1));
        client.send(one);
        if round % 100 == 50 {
            house.phase(phases[round as usize / 100]);
        }
        client.send(two);
        loop {
            match client.frame() {
                (0x8a, payload) if payload == round.to_le_bytes() => break,
                (0x8a, payload) => panic!("{payload:?} in round {round}"),
                (first, _) => assert_eq!(first, 0x81),
            }
        }
    }
    drop(client);
    is_over(&house);
}

/// Who comes is told how long it will take, and nobody else for that: else each one who comes costs as much as all who wait.
#[test]
fn who_is_accepted_is_told_of_the_wait_alone_and_all_are_when_the_phase_changes() {
    let house = accepting(|config| config.routes[0].waiting_message = Some("{position} {phase}".into()));
    let mut clients: Vec<Raw> = Vec::new();
    for position in 0..5 {
        let mut client = accepted(&house.address);
        assert_eq!(client.frame(), (0x81, format!("{position} starting").into_bytes()));
        clients.push(client);
    }
    for client in &mut clients {
        client.send(masked(0x89, b""));
        assert_eq!(client.frame(), (0x8a, Vec::new()), "nothing was said in between");
    }
    house.phase("init");
    for (position, client) in clients.iter_mut().enumerate() {
        let (first, text) = client.frame();
        let text = String::from_utf8(text).unwrap();
        assert!(first == 0x81 && text.starts_with(&format!("{position} ")), "{text}");
        assert!(!text.ends_with("starting"), "{text}");
    }
    drop(clients);
    is_over(&house);
}

/// What a client sends in one go with its head is its first message, whoever gives the 101: it lies there before anybody waits for it.
#[test]
fn what_comes_with_the_head_is_kept_like_what_comes_later() {
    let house = accepting(|_| {});
    let with_it = masked(0x81, b"with the head");
    let ping = masked(0x89, b"too");
    let mut client = house.client_with([upgrade("").into_bytes(), with_it.clone(), ping].concat());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.frame(), (0x8a, b"too".to_vec()));
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    assert!(backend.exactly(with_it.len()) == with_it);
    client.send(masked(0x81, b"later"));
    assert_eq!(backend.frame(), (0x81, b"later".to_vec()));
    drop((client, backend));
    is_over(&house);
}
