//! Every row of "Refusals and closes" on real sockets: what a client hears before its 101, and what after one of greenroom's own.
//!
//! | situation | before the 101 | after it |
//! |---|---|---|
//! | hold time over | `heads::whose_hold_time_is_over_gets_503_with_its_bytes_still_unread`; spread, and a browser's delay, in `greenroom::opening::tests::timed` | here: [`a_hold_that_is_over_is_1013`]; to the millisecond in `greenroom::opening::tests::timed` |
//! | not going to make it | here: [`who_comes_too_late_or_as_one_too_many_is_503`] | never: it is refused on arrival |
//! | queue full | here: the same; plain requests: `http_hold::too_many_held_requests_are_refused_and_websockets_still_wait` | never: as above |
//! | byte budget full | here: [`a_budget_that_is_used_up_closes_the_newest_and_refuses_who_comes`] | the same |
//! | Origin, Host | `limits::only_pages_of_allowed_origins_open_a_websocket`, `limits::only_hosts_of_the_listener_come_in_whatever_they_ask_for` | never: it is asked before a place is taken |
//! | limits of an address, of a tenant | `limits::connections_of_one_address_*`, `limits::handshakes_of_one_address_*`, `fairness::as_many_of_one_*_wait_as_may_and_one_more_is_429` | never: as above |
//! | start-up failed | `start_fails::who_waits_for_a_start_that_overruns_for_good_hears_its_phase_and_reason` | here: [`a_start_that_fails_is_1013`]; spread in `greenroom::opening::tests::timed` |
//! | buffered messages over the limit | – | here: [`who_sends_more_than_is_kept_is_stopped_by_tcp_and_loses_nothing`]; 1009 in `greenroom::opening::tests::timed` |
//! | backend lost | – | `relay_wire::a_backend_that_goes_away_is_1012_to_the_client_however_it_says_so`, here: [`a_backend_that_is_lost_is_1012_to_who_was_accepted_too`] |
//! | backend refused the handshake | here: [`a_backends_refusal_is_passed_on_before_the_101_and_1008_after`] | the same |
//! | greenroom stops | `stopping::at_term_the_held_hear_503_at_once_the_relayed_1001_and_nothing_is_left` | here: [`at_term_who_was_accepted_hears_1001`]; each at its seeded instant in `greenroom::opening::tests::timed` |
//! | fault of the client | `heads`, `smuggling` | `violations`, `hold_attacks` |
//! | nonsense of the backend, or no answer | `smuggling::a4_a_101_that_is_none_is_502`, `heads::an_unanswering_backend_is_504_at_the_clients_deadline` | here: [`nonsense_and_no_answer_are_1011_to_who_was_accepted`] |
//! | another subprotocol than promised | – | here: [`another_subprotocol_than_the_promised_one_is_1002`] |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::{ErrorKind, Write as _},
    process::Command,
    time::{Duration, Instant},
};

use common::{
    house::House,
    process::until,
    python,
    raw::{Raw, SOON, close, field, frame, masked, nobody, switching, upgrade},
    rig::Rig,
};
use greenroom::config::{Config, Hold, Shed};
use greenroom_core::{
    backend::Input,
    event::{Generation, State},
    limits::FIRST_SECOND,
};
use rustix::process::Signal;

/// A house that accepts whoever waits.
fn accepting(edit: impl FnOnce(&mut Config)) -> House {
    House::pushed(|config| {
        config.routes[0].hold = Hold::Accept;
        edit(config);
    })
}

/// A client that has a 101 of greenroom's own.
fn accepted(house: &House, extra: &str) -> Raw {
    let mut client = house.client_with(upgrade(extra));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// Its Close, answered, and then the end of the connection, on both sides.
fn closed(mut client: Raw) -> (u16, String) {
    let (code, reason) = client.close_frame();
    client.send(masked(0x88, &close(code, "")));
    assert_eq!(client.rest(), b"");
    (code, reason)
}

fn retry_after_ms(reason: &str) -> u32 {
    let ms = reason.strip_prefix("retry-after-ms=");
    let ms = ms.unwrap_or_else(|| panic!("{reason}")).parse().unwrap();
    assert!((1000..=5000).contains(&ms), "{reason}");
    ms
}

/// All is over: one was refused for this, and nothing of anybody is left in the books.
fn is_refused(house: &House, refusal: &str, count: u64) {
    all_is_over(house);
    let counted = house.registry.refused().find(|&(word, _)| word == refusal);
    assert_eq!(counted.unwrap().1, count, "{refusal}");
}

fn all_is_over(house: &House) {
    until("nobody is left", || house.registry.is_idle());
    for &state in State::ALL {
        assert!(state == State::Closed || house.registry.count(state) == 0, "{state}");
    }
    assert_eq!(house.registry.early.used(), 0);
}

fn ended_by(house: &House, cause: &str) -> u64 {
    house.registry.closed().find(|&(word, _)| word == cause).unwrap().1
}

#[test]
fn a_hold_that_is_over_is_1013() {
    let house = accepting(|config| config.routes[0].hold_timeout = Duration::from_millis(300));
    let began = Instant::now();
    let mut client = accepted(&house, "");
    client.send(masked(0x81, b"never to be seen"));
    let (code, reason) = closed(client);
    assert!(
        began.elapsed() >= FIRST_SECOND,
        "who is closed within its first second comes back at once: {:?}",
        began.elapsed()
    );
    assert_eq!(code, 1013);
    retry_after_ms(&reason);
    is_refused(&house, "hold_timeout", 1);
    assert!(house.stub.nobody_came());
}

#[test]
fn who_comes_too_late_or_as_one_too_many_is_503() {
    let unavailable = |house: &House, refusal: &str, most: u32| {
        let (head, _) = house.client_with(upgrade("")).answer();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(refusal));
        let after: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
        assert!((1..=most).contains(&after), "{head}");
    };
    let house = accepting(|config| config.backends[0].held_max = 1);
    let first = accepted(&house, "");
    unavailable(&house, "held_full", 5);
    assert_eq!(house.registry.count(State::Held), 1);
    drop(first);
    house.wait_for(State::Held, 0);
    drop(accepted(&house, "")); // its place is free again
    is_refused(&house, "held_full", 1);

    // Its starts take two minutes, and its clients wait for one.
    let house = House::slow(Duration::from_secs(120), |config| {
        config.routes[0].hold = Hold::Accept;
        config.routes[0].shed = Shed::Early;
    });
    unavailable(&house, "shed", 240);
    is_refused(&house, "shed", 1);
}

/// The code and the reason reach a program that knows nothing of greenroom.
#[test]
fn python_websockets_sees_the_code_and_the_reason() {
    let house = accepting(|config| config.routes[0].hold_timeout = Duration::from_millis(300));
    let script = "import sys, websockets\nfrom websockets.sync.client import connect\n\
        with connect(sys.argv[1], proxy=None) as ws:\n    ws.send('early')\n    try:\n        ws.recv()\n    \
        except websockets.ConnectionClosed as closed:\n        print(closed.rcvd.code, closed.rcvd.reason, closed.rcvd_then_sent)";
    let said = Command::new(python("python"))
        .args(["-c", script, &format!("ws://{}/ws", house.address)])
        .output()
        .unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    let words: Vec<_> = out.split_whitespace().collect();
    assert_eq!(
        (words.first(), words.get(2)),
        (Some(&"1013"), Some(&"True")),
        "{out}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    retry_after_ms(words[1]);
    is_refused(&house, "hold_timeout", 1);
}

#[test]
fn a_start_that_fails_is_1013() {
    let house = accepting(|_| {});
    let mut client = accepted(&house, "");
    client.send(masked(0x81, b"never to be seen"));
    house.tell(Input::StartFailed(Generation(0)));
    let (code, reason) = closed(client);
    assert_eq!(code, 1013);
    retry_after_ms(&reason);
    // Who comes now has no 101 yet, and none is given to it.
    let (head, _) = house.client_with(upgrade("")).answer();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("start_failed"));
    is_refused(&house, "start_failed", 2);
}

#[test]
fn a_backends_refusal_is_passed_on_before_the_101_and_1008_after() {
    for status in [302, 401, 403, 404, 500] {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 6\r\nX-Why: secret\r\n\r\nthe IP");
        let house = House::pushed(|_| {});
        let mut held = house.client_with([upgrade("").into_bytes(), masked(0x81, b"early")].concat());
        house.wait_for(State::Held, 1);
        house.ready();
        let (mut backend, _) = house.stub.request();
        backend.send(&answer);
        let (head, body) = held.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(
            (field(&head, "x-why").as_deref(), &body[..]),
            (Some("secret"), "the IP")
        );
        assert_eq!(backend.rest_or_reset(), b"");

        let house = accepting(|_| {});
        let began = Instant::now();
        let mut client = accepted(&house, "");
        client.send(masked(0x81, b"early"));
        house.ready();
        let (mut backend, _) = house.stub.request();
        backend.send(&answer);
        assert_eq!(closed(client), (1008, format!("upstream-status={status}")));
        assert!(
            began.elapsed() >= FIRST_SECOND,
            "some clients come back at once, without end"
        );
        assert_eq!(backend.rest_or_reset(), b"", "nothing of an accepted client's");
        all_is_over(&house);
        assert_eq!(ended_by(&house, "backend_refused"), 1);
    }
}

#[test]
fn nonsense_and_no_answer_are_1011_to_who_was_accepted() {
    let wrong_key = switching("").replace("s3pP", "xxxx");
    for answer in ["SSH-2.0-backend\r\n\r\n", &wrong_key] {
        let house = accepting(|_| {});
        let began = Instant::now();
        let mut client = accepted(&house, "");
        client.send(masked(0x81, b"early"));
        house.ready();
        let (mut backend, _) = house.stub.request();
        backend.send(answer);
        let (code, reason) = closed(client);
        assert_eq!((code, &reason[..]), (1011, "the server gave an invalid answer"));
        assert!(began.elapsed() >= FIRST_SECOND);
        assert_eq!(backend.rest_or_reset(), b"");
        is_refused(&house, "bad_answer", 1);
    }
    // Taken, and not answered until the client's time is over.
    let house = accepting(|config| config.routes[0].hold_timeout = Duration::from_secs(2));
    let client = accepted(&house, "");
    house.ready();
    let (mut backend, _) = house.stub.request();
    let (code, reason) = closed(client);
    assert_eq!((code, &reason[..]), (1011, "the server did not answer in time"));
    assert_eq!(backend.rest_or_reset(), b"");
    is_refused(&house, "unanswered", 1);
}

#[test]
fn another_subprotocol_than_the_promised_one_is_1002() {
    for selects in ["Sec-WebSocket-Protocol: b\r\n", ""] {
        let house = accepting(|config| config.routes[0].subprotocols = vec!["a".into()]);
        let mut client = house.client_with(upgrade("Sec-WebSocket-Protocol: b, a\r\n"));
        let head = client.head();
        assert_eq!(field(&head, "sec-websocket-protocol").as_deref(), Some("a"), "{head}");
        client.send(masked(0x81, b"in a"));
        house.ready();
        let (mut backend, _) = house.stub.request();
        backend.send(switching(selects));
        // The backend hears at once that nobody comes, and nothing of what was meant for another language.
        assert_eq!(backend.rest_or_reset(), b"");
        house.wait_for(State::Closing, 1); // its client hears of it later
        let (code, reason) = closed(client);
        assert_eq!(
            (code, &reason[..]),
            (1002, "the server selected another subprotocol than was promised")
        );
        is_refused(&house, "subprotocol", 1);
    }
}

#[test]
fn a_backend_that_is_lost_is_1012_to_who_was_accepted_too() {
    let house = accepting(|_| {});
    let mut client = accepted(&house, "");
    client.send(masked(0x81, b"early"));
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    assert_eq!(backend.frame(), (0x81, b"early".to_vec()));
    drop(backend);
    let (code, reason) = closed(client);
    assert_eq!(code, 1012);
    retry_after_ms(&reason);
    all_is_over(&house);
    assert_eq!(ended_by(&house, "backend_lost"), 1);
}

#[test]
fn at_term_who_was_accepted_hears_1001() {
    const CLIENTS: usize = 50;
    let config = format!(
        "grace = \"6s\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[[route]]\nhold = \"accept\"\n",
        nobody()
    );
    let mut rig = Rig::start("serve", &config);
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| rig.knock("/ws")).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.send(masked(0x81, b"never to be seen"));
    }
    rig.held(CLIENTS);
    rig.greenroom.signal(Signal::TERM);
    for client in clients {
        let (code, reason) = closed(client);
        assert_eq!(code, 1001);
        retry_after_ms(&reason);
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0, "{}", rig.greenroom.stderr());
    let stopped = rig.greenroom.wait_for_event("stopped", SOON);
    assert_eq!(stopped["refused"]["draining"], CLIENTS, "{stopped}");
    assert_eq!(stopped["closed"]["refused"], CLIENTS, "{stopped}");
}

/// Writes until nothing more is taken for a while; what was taken.
fn fill(client: &Raw, bytes: &[u8]) -> usize {
    client.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut taken = 0;
    while taken < bytes.len() {
        match (&client.0).write(&bytes[taken..]) {
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {taken}"),
        }
    }
    client.0.set_write_timeout(Some(SOON)).unwrap();
    taken
}

#[test]
fn who_sends_more_than_is_kept_is_stopped_by_tcp_and_loses_nothing() {
    let house = accepting(|config| config.limits.early_max = 1024);
    let mut client = accepted(&house, "");
    let mut all = Vec::new();
    for number in 0..20_000_u32 {
        all.extend(masked(0x82, &number.to_le_bytes().repeat(250)));
    }
    let taken = fill(&client, &all);
    assert!(taken < all.len(), "its sends block: {taken} of {}", all.len());
    assert_eq!(house.registry.count(State::Held), 1, "it is not sent away for that");
    assert_eq!(house.registry.early.used(), 1024);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    let sends = std::thread::spawn(move || {
        client.send(&all[taken..]);
        (client, all)
    });
    let mut seen = 0;
    while seen < 20_000 * (1000 + 8) {
        let some = backend.exactly(1008);
        let expected = masked(0x82, &u32::try_from(seen / 1008).unwrap().to_le_bytes().repeat(250));
        assert!(some == expected, "once, whole, and in order: {seen}");
        seen += some.len();
    }
    let (mut client, _) = sends.join().unwrap();
    backend.send(frame(0x88, &close(1000, "")));
    assert_eq!(client.close_frame().0, 1000);
    drop((client, backend));
    all_is_over(&house);
}

#[test]
fn a_budget_that_is_used_up_closes_the_newest_and_refuses_who_comes() {
    let house = accepting(|config| {
        config.limits.early_max = 42_000;
        config.limits.early_budget = 100_000;
    });
    let mut clients: Vec<Raw> = (0..3).map(|_| accepted(&house, "")).collect();
    let full = masked(0x82, &[7; 42_000 - 8]);
    for client in &mut clients[..2] {
        client.send(&full);
    }
    until("84 % of it are kept", || house.registry.early.used() == 84_000);
    let (head, _) = house.client_with(upgrade("")).answer();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some("early_budget"));
    assert!(field(&head, "retry-after").is_some(), "{head}");
    house.wait_for(State::Held, 3);

    clients[2].send(masked(0x82, &[7; 8_000]));
    let (code, reason) = closed(clients.remove(2));
    assert_eq!(code, 1013);
    retry_after_ms(&reason);
    until("what it sent is free", || house.registry.early.used() == 84_000);
    house.wait_for(State::Held, 2);

    // Who came before loses nothing, and when it has gone on there is room again.
    house.ready();
    for _ in 0..2 {
        let (mut backend, _) = house.stub.request();
        backend.send(switching(""));
        assert!(backend.exactly(full.len()) == full);
    }
    drop(clients);
    is_refused(&house, "early_budget", 2);
}
