//! Heartbeats, idle, old and slow connections, on the wire: who is pinged, who never sees it, who is closed and when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    house::House,
    process::until,
    raw::{Raw, close, frame, header, masked, switching, upgrade},
};
use greenroom::registry::{Closed, Record};
use greenroom_core::{
    event::{CloseCause, State},
    limits::{CLOSE_HANDSHAKE, WATCH_EVERY},
    watch::{Ping, PingBackend, Rule, Slow},
};

const SECOND: Duration = Duration::from_secs(1);
/// Silence after which is pinged, in tests that wait for many pings.
const QUICK: Duration = Duration::from_millis(1);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn ping(interval: Duration, timeout: Duration, backend: PingBackend) -> Option<Ping> {
    Some(Ping {
        interval,
        timeout,
        backend,
    })
}

fn house(rule: Rule) -> House {
    let house = House::pushed(|config| config.routes[0].watch = rule);
    house.ready();
    house
}

/// A client and its backend, both past their 101.
fn relayed(house: &House) -> (Raw, Raw) {
    let before = house.registry.count(State::Relaying);
    let mut client = house.client_with(upgrade(""));
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    client.head();
    house.wait_for(State::Relaying, before + 1);
    (client, backend)
}

/// The line of the last that was accepted.
fn record(house: &House) -> Arc<Record> {
    house.registry.all().pop().unwrap()
}

/// How the last that ended has ended.
fn ended(house: &House, count: u64) -> Arc<Closed> {
    house.wait_for(State::Closed, count);
    until("it is in the books", || {
        house.registry.last_closed().len() as u64 == count
    });
    Arc::clone(&house.registry.last_closed()[0])
}

/// The payload of greenroom's next ping.
fn pinged(peer: &mut Raw) -> Vec<u8> {
    let (first, payload) = peer.frame();
    assert_eq!((first, payload.len()), (0x89, 8), "a ping of greenroom's own");
    payload
}

#[test]
fn a_silent_client_that_answers_stays_and_its_backend_sees_no_pong_of_it() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let record = record(&house);
    let mut payloads = Vec::new();
    for round in 0..6_usize {
        let payload = pinged(&mut client);
        let pong = masked(0x8a, &payload);
        // Whole, at any split, between messages and between fragments.
        match round {
            0 => client.send(&pong),
            1 => client.send_by_bytes(&pong),
            2 => client.send([masked(0x81, b"before"), pong, masked(0x81, b"behind")].concat()),
            3 => client.send([masked(0x01, b"be"), pong, masked(0x80, b"gun")].concat()),
            _ => {
                let at = 3 * (round - 3);
                client.send([&masked(0x82, b"x")[..], &pong[..at]].concat());
                assert_eq!(
                    backend.frame(),
                    (0x82, b"x".to_vec()),
                    "it does not wait for what is half there"
                );
                client.send([&pong[at..], &masked(0x82, b"y")[..]].concat());
                assert_eq!(backend.frame(), (0x82, b"y".to_vec()));
            }
        }
        match round {
            2 => assert_eq!([backend.frame().1, backend.frame().1], [b"before", b"behind"]),
            3 => assert_eq!(
                [backend.frame(), backend.frame()],
                [(1, b"be".to_vec()), (0x80, b"gun".to_vec())]
            ),
            _ => {}
        }
        until("it is told how long that took", || {
            record.ping().is_some_and(|took| took < SECOND)
        });
        payloads.push(payload);
    }
    payloads.dedup();
    assert_eq!(payloads.len(), 6, "each is another");
    // What only looks like an answer passes, and is a sign of life as well.
    let payload = pinged(&mut client);
    client.send(masked(0x8a, b"12345678"));
    assert_eq!(backend.frame(), (0x8a, b"12345678".to_vec()), "an unsolicited pong");
    client.send(masked(0x8a, &payload));
    client.send(masked(0x81, b"end"));
    assert_eq!(backend.frame(), (0x81, b"end".to_vec()));
    assert_eq!(house.registry.count(State::Relaying), 1);
}

#[test]
fn pings_of_the_backend_and_their_answers_pass_among_those_of_greenroom() {
    let house = house(Rule {
        ping: ping(QUICK, LONG, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let own = pinged(&mut client);
    backend.send(frame(0x89, b"theirs"));
    assert_eq!(client.frame(), (0x89, b"theirs".to_vec()));
    // RFC 6455 §5.5.3: only the last may be answered, and that is the backend's.
    client.send(masked(0x8a, b"theirs"));
    assert_eq!(backend.frame(), (0x8a, b"theirs".to_vec()));
    let again = pinged(&mut client);
    assert_ne!(own, again);
    client.send([masked(0x8a, &again), masked(0x8a, &own)].concat());
    assert_eq!(
        backend.frame(),
        (0x8a, own),
        "it was answered with the other, and this is unsolicited"
    );
}

#[test]
fn a_ping_stands_between_the_frames_of_the_backend_and_not_in_one() {
    let house = house(Rule {
        ping: ping(QUICK, LONG, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    // The beginning of a small frame is kept, and the ping goes before it.
    backend.send(&frame(0x82, &[7; 100])[..50]);
    pinged(&mut client);
    backend.send(&frame(0x82, &[7; 100])[50..]);
    assert_eq!(client.frame(), (0x82, vec![7; 100]));
    // A large one cuts through: the ping waits for its end.
    let (mut client, mut backend) = relayed(&house);
    let large = 80_000;
    backend.send(header(0x82, large, false));
    backend.send([7; 1_000]);
    client.exactly(10 + 1_000);
    assert!(client.silent_for(3 * WATCH_EVERY), "nothing stands inside of a frame");
    backend.send(vec![7; usize::try_from(large).unwrap() - 1_000]);
    assert!(
        client
            .exactly(usize::try_from(large).unwrap() - 1_000)
            .iter()
            .all(|&byte| byte == 7)
    );
    pinged(&mut client);
}

#[test]
fn a_client_that_answers_no_ping_is_lost_and_its_backend_hears_1001() {
    let timeout = SECOND;
    let house = house(Rule {
        ping: ping(SECOND, timeout, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let began = Instant::now();
    client.send(masked(0x81, b"the last that is heard of it"));
    backend.frame();
    pinged(&mut client);
    let silent = began.elapsed();
    assert!(silent >= SECOND, "{silent:?}");
    assert_eq!(client.close_frame(), (1001, "no pong".into()));
    assert!(began.elapsed() >= silent + timeout, "{:?}", began.elapsed());
    assert_eq!(backend.close_frame(), (1001, String::new()));
    drop(client);
    let closed = ended(&house, 1);
    assert_eq!(closed.cause, CloseCause::ClientLost);
    assert_eq!(closed.detail.as_deref(), Some("no pong for 1s"));
}

/// A message, even a part of one, is as good as a pong.
#[test]
fn any_byte_is_life() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let message = masked(0x82, &[0; 20]);
    let began = Instant::now();
    for byte in &message[..6] {
        assert!(!client.silent_for(4 * WATCH_EVERY), "it is pinged");
        pinged(&mut client);
        client.send([*byte]);
        backend.exactly(1);
    }
    assert!(began.elapsed() > 2 * SECOND);
    assert_eq!(house.registry.count(State::Relaying), 1);
}

/// Nor does it matter how the pong itself comes: what is kept back of it, until it is known for one, was heard.
#[test]
fn a_pong_that_comes_byte_by_byte_is_life() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::No),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let pong = masked(0x8a, &pinged(&mut client));
    let began = Instant::now();
    for byte in &pong[..6] {
        client.send([*byte]);
        pinged(&mut client); // not a Close
    }
    assert!(began.elapsed() > 2 * SECOND);
    client.send(&pong[6..]);
    client.send(masked(0x81, b"here"));
    assert_eq!(backend.exactly(10)[0], 0x81, "nothing of it comes to the backend");
}

/// While a client cannot be heard, as its backend takes nothing, or has not got its ping yet, it is not dead.
#[test]
fn who_is_backed_up_is_not_pinged_and_not_dead() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::Close),
        ..Rule::default()
    });
    let (mut client, backend) = relayed(&house);
    let record = record(&house);
    client.0.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let piece = masked(0x82, &[0; 60_000]);
    let mut at = 0;
    while let Ok(written) = client.0.write(&piece[at..]) {
        at = (at + written) % piece.len();
    }
    until("bytes wait for the backend", || record.buffered().0 > 0);
    let began = Instant::now();
    until("it has had time enough to be taken for dead", || {
        began.elapsed() > 3 * SECOND
    });
    assert_eq!(house.registry.count(State::Relaying), 1);
    drop((client, backend));
}

#[test]
fn a_backend_is_pinged_if_told_and_its_client_sees_no_pong_of_it() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::Close),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let answer = |client: &mut Raw, backend: &mut Raw| {
        let (to_client, to_backend) = (pinged(client), pinged(backend));
        client.send(masked(0x8a, &to_client));
        backend.send(frame(0x8a, &to_backend));
    };
    for _ in 0..3 {
        answer(&mut client, &mut backend);
    }
    backend.send(frame(0x81, b"hello"));
    assert_eq!(client.frame(), (0x81, b"hello".to_vec()));
    // From here on it is silent, and not its client.
    let payload = pinged(&mut client);
    client.send(masked(0x8a, &payload));
    loop {
        let (first, payload) = client.frame();
        if first == 0x88 {
            assert_eq!(payload[..2], 1012_u16.to_be_bytes());
            break;
        }
        client.send(masked(0x8a, &payload));
    }
    drop(client);
    let closed = ended(&house, 1);
    assert_eq!(closed.cause, CloseCause::BackendLost);
    assert_eq!(closed.detail.as_deref(), Some("no pong for 1s"));
}

#[test]
fn pongs_that_a_backend_leaves_out_are_counted_and_no_more() {
    let house = house(Rule {
        ping: ping(QUICK, SECOND, PingBackend::Count),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let record = record(&house);
    let answers = thread::spawn(move || {
        loop {
            match client.frame() {
                (0x89, payload) => client.send(masked(0x8a, &payload)),
                (_, payload) => return (client, payload),
            }
        }
    });
    until("two were missed", || record.pongs_missed() == 2);
    let late = pinged(&mut backend);
    backend.send(frame(0x8a, &late)); // late, and still no business of the client's
    backend.send(frame(0x81, b"hello"));
    let (client, said) = answers.join().unwrap();
    assert_eq!(said, b"hello");
    assert_eq!(house.registry.count(State::Relaying), 1);
    drop(client);
}

#[test]
fn who_sends_no_message_is_idle_whatever_is_pinged() {
    let idle = 2 * SECOND;
    let house = house(Rule {
        ping: ping(QUICK, LONG, PingBackend::No),
        idle: Some(idle),
        ..Rule::default()
    });
    let (mut lively, mut its) = relayed(&house);
    let (mut client, mut backend) = relayed(&house);
    let began = Instant::now();
    client.send(masked(0x81, b"the last"));
    backend.frame();
    loop {
        its.send(frame(0x81, b"on and on"));
        let payload = loop {
            match lively.frame() {
                (0x89, payload) => lively.send(masked(0x8a, &payload)),
                (_, message) => break message,
            }
        };
        assert_eq!(payload, b"on and on");
        match client.frame() {
            (0x89, payload) => {
                client.send([masked(0x8a, &payload), masked(0x89, b"")].concat()); // and one of its own
                if backend.frame().0 == 0x89 {
                    backend.send(frame(0x8a, b""));
                }
            }
            (0x8a, _) => {}
            (first, payload) => {
                assert_eq!((first, payload), (0x88, close(1001, "idle")));
                break;
            }
        }
    }
    let took = began.elapsed();
    assert!(took >= idle, "{took:?}");
    drop(client);
    let closed = ended(&house, 1);
    assert_eq!(
        (closed.cause, closed.detail.as_deref()),
        (CloseCause::Idle, Some("no message for 2s"))
    );
    assert_eq!(house.registry.count(State::Relaying), 1, "the lively one");
}

/// A message that takes longer than `idle_timeout` is no idleness, if it moves.
#[test]
fn a_long_message_that_is_under_way_is_not_idle_until_it_stops() {
    let idle = SECOND;
    let house = house(Rule {
        idle: Some(idle),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    client.send(header(0x82, 1_000_000, true));
    client.send([0; 4]);
    backend.exactly(14);
    let began = Instant::now();
    while began.elapsed() < 3 * idle {
        client.send([1; 10]);
        backend.exactly(10);
        assert!(client.silent_for(WATCH_EVERY / 5), "it goes on");
    }
    let stopped = Instant::now();
    assert_eq!(client.close_frame(), (1001, "idle".into()));
    assert!(stopped.elapsed() >= idle - WATCH_EVERY / 5, "{:?}", stopped.elapsed());
}

#[test]
fn lifetimes_end_spread_over_their_last_tenth_with_a_hint_to_each() {
    const COUNT: usize = 40;
    let lifetime = Duration::from_secs(4);
    let house = house(Rule {
        lifetime: Some(lifetime),
        ..Rule::default()
    });
    let began = Instant::now();
    let pairs: Vec<_> = (0..COUNT).map(|_| relayed(&house)).collect();
    let all_there = began.elapsed();
    let waits = pairs.into_iter().map(|(mut client, backend)| {
        thread::spawn(move || {
            let (code, reason) = client.close_frame();
            let at = began.elapsed();
            assert_eq!(code, 1001);
            drop(backend);
            (at, reason)
        })
    });
    let waits: Vec<_> = waits.collect();
    let mut told: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
    told.sort();
    let (first, last) = (told[0].0, told[COUNT - 1].0);
    assert!(first >= lifetime * 9 / 10, "{first:?}");
    assert!(
        last <= all_there + lifetime + 2 * WATCH_EVERY,
        "{last:?}, all there after {all_there:?}"
    );
    let mut hints: Vec<_> = told.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(
        hints.iter().all(|hint| hint.starts_with("retry-after-ms=")),
        "{hints:?}"
    );
    hints.sort_unstable();
    hints.dedup();
    assert!(hints.len() > COUNT / 2, "{hints:?}");
    assert_eq!(ended(&house, COUNT as u64).cause, CloseCause::Lifetime);
}

#[test]
fn a_slow_client_is_closed_with_1013_while_others_flow() {
    let house = house(Rule {
        slow: Some(Slow {
            after: SECOND,
            bytes: 16_384,
        }),
        ..Rule::default()
    });
    let (mut quick, mut its) = relayed(&house);
    let (mut slow, mut backend) = relayed(&house);
    let record = record(&house);
    let began = Instant::now();
    let floods = thread::spawn(move || {
        let piece = frame(0x82, &[7; 1_000]);
        while backend.try_send(&piece) {}
        backend
    });
    until("bytes wait for it", || record.buffered().1 > 0);
    let waits = Instant::now();
    let mut echoes = 0;
    while record.state().0 == State::Relaying {
        its.send(frame(0x81, b"tick"));
        assert_eq!(quick.frame().1, b"tick");
        echoes += 1;
        assert!(began.elapsed() < 10 * SECOND, "it is not found");
    }
    let took = waits.elapsed();
    assert!(took >= SECOND - Duration::from_millis(50), "{took:?}");
    assert!(echoes > 100, "{echoes}");
    // It reads on: all frames are whole, and then it is told why.
    let code = loop {
        match slow.frame() {
            (0x82, payload) => assert_eq!(payload.len(), 1_000),
            (first, payload) => {
                assert_eq!(first, 0x88);
                break payload;
            }
        }
    };
    assert_eq!(code[..2], 1013_u16.to_be_bytes());
    assert!(code[2..].starts_with(b"retry-after-ms="));
    slow.send(masked(0x88, &code[..2]));
    drop((slow, floods.join().unwrap()));
    let closed = ended(&house, 1);
    assert_eq!(closed.cause, CloseCause::Slow);
    assert!(
        closed
            .detail
            .as_deref()
            .unwrap()
            .ends_with("bytes waited for it for 1s"),
        "{:?}",
        closed.detail
    );
    assert!(closed.record.buffered().1 > 0, "what was pending is in the books");
    assert_eq!(house.registry.count(State::Relaying), 1);
}

/// Who takes what it gets, however much more comes, is not slow.
#[test]
fn a_client_that_reads_on_is_not_slow_however_much_waits_for_it() {
    let house = house(Rule {
        slow: Some(Slow {
            after: SECOND,
            bytes: 1,
        }),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let floods = thread::spawn(move || {
        let piece = frame(0x82, &[7; 60_000]);
        while backend.try_send(&piece) {}
    });
    let record = record(&house);
    let began = Instant::now();
    let mut buffer = vec![0; 32 * 1024];
    while began.elapsed() < 4 * SECOND {
        assert!(client.0.read(&mut buffer).unwrap() > 0, "it goes on");
        thread::sleep(Duration::from_millis(1)); // tidy: allow-sleep the client is slower than its backend
    }
    assert_eq!(record.state().0, State::Relaying);
    drop(client);
    floods.join().unwrap();
}

/// What is kept back of a client, as it may be an answer to greenroom's own ping, has not passed to the backend: that hears of
/// an end of greenroom's own as anybody does, and the client's Close is seen behind it.
#[test]
fn at_an_own_end_half_an_answer_keeps_neither_the_backends_close_back_nor_the_clients_from_being_seen() {
    let house = house(Rule {
        ping: ping(QUICK, LONG, PingBackend::No),
        lifetime: Some(4 * SECOND),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    let pong = masked(0x8a, &pinged(&mut client));
    client.send([&masked(0x82, b"x")[..], &pong[..9]].concat());
    assert_eq!(backend.frame(), (0x82, b"x".to_vec()));
    assert_eq!(backend.close_frame().0, 1001);
    let last = std::iter::repeat_with(|| client.frame()).find(|(first, _)| *first != 0x89);
    assert_eq!(
        last.map(|(first, payload)| (first, payload[..2].to_vec())),
        Some((0x88, close(1001, "")))
    );
    let since = Instant::now();
    client.send([&pong[9..], &masked(0x88, &close(1001, ""))[..]].concat());
    assert_eq!(client.rest(), b"");
    assert!(since.elapsed() < CLOSE_HANDSHAKE, "its Close was seen");
}

/// Who has said goodbye is ending, by limits of its own: that nothing goes to and fro meanwhile is no reason to end it otherwise.
#[test]
fn who_is_ending_is_not_idle() {
    let house = house(Rule {
        idle: Some(SECOND),
        ..Rule::default()
    });
    let (mut client, mut backend) = relayed(&house);
    client.send(masked(0x88, &close(1000, "")));
    assert_eq!(backend.frame().0, 0x88);
    assert!(backend.silent_for(3 * SECOND), "no other end");
    backend.send(frame(0x88, &close(1000, "")));
    assert_eq!(client.close_frame().0, 1000);
    drop((client, backend));
    assert_eq!(ended(&house, 1).cause, CloseCause::Client);
}
