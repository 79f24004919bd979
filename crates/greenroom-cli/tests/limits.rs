//! Each limit that acts before a place at the gate is taken: at the limit, one past it, and when a place is free again.
//! What the refused client reads, what is counted, and that nothing of it is left at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Greenroom,
    house::House,
    raw::{Raw, SOON, Stub, field, switching, upgrade},
};
use greenroom::config::{AllowedOrigin, HostPattern};
use greenroom_core::event::State;
use rustix::process::Signal;
use serde_json::Value;

/// A refusal as it is on the wire: its status, its word, one line, and when to come back where that makes sense.
fn refused(client: &mut Raw, status: &str, word: &str) {
    let (head, body) = client.answer();
    assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
    assert_eq!(field(&head, "greenroom-refusal").as_deref(), Some(word), "{head}");
    assert_eq!(field(&head, "connection").as_deref(), Some("close"), "{head}");
    let after = field(&head, "retry-after").map(|text| text.parse::<u32>().unwrap());
    let comes_back = status.starts_with("429") || status.starts_with("503");
    assert_eq!(after.is_some(), comes_back, "{head}");
    assert!(after.is_none_or(|after| (1..=5).contains(&after)), "{head}");
    assert_eq!(body.lines().count(), 1, "{body}");
}

/// What became of one more client, beside so many that are held and so many that were refused: whether it is held.
fn is_held(house: &House, held: u64, word: &str, refused: u64) -> bool {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        match (house.registry.count(State::Held) > held, house.refused(word) > refused) {
            (true, _) => return true,
            (_, true) => return false,
            _ => std::thread::yield_now(),
        }
    }
    panic!("it is neither held nor refused");
}

/// All are gone, and each has been counted once: as many refused as that, and all closed.
fn all_gone(house: &House, accepted: u64) {
    house.wait_for(State::Closed, accepted);
    assert_eq!(house.registry.accepted(), accepted);
    for state in [
        State::Opening,
        State::Http,
        State::Held,
        State::Dialing,
        State::Relaying,
        State::Closing,
    ] {
        house.wait_for(state, 0);
    }
}

#[test]
fn connections_in_all_are_as_many_as_may_be_and_one_more_is_503() {
    let house = House::pushed(|config| config.limits.connections_max = Some(3));
    let held = house.client_with(upgrade(""));
    let silent = house.client();
    let other = Raw::connect_from(2, &house.address);
    house.wait_for(State::Held, 1);
    house.wait_for(State::Opening, 2);
    refused(&mut house.client(), "503 Service Unavailable", "connections");
    refused(
        &mut Raw::connect_from(3, &house.address),
        "503 Service Unavailable",
        "connections",
    );
    assert_eq!(house.refused("connections"), 2);
    drop(held);
    house.wait_for(State::Closed, 3);
    let again = house.client_with(upgrade(""));
    house.wait_for(State::Held, 1);
    refused(&mut house.client(), "503 Service Unavailable", "connections");
    drop((silent, other, again));
    all_gone(&house, 7);
    assert_eq!(house.refused("connections"), 3);
}

/// The address is counted until the relay is over, and only that address.
#[test]
fn connections_of_one_address_are_as_many_as_may_be_and_one_more_is_429() {
    let house = House::pushed(|config| config.limits.connections_per_address = Some(2));
    house.ready();
    let mut relayed = house.client_with(upgrade(""));
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    relayed.head();
    let silent = house.client();
    house.wait_for(State::Relaying, 1);
    house.wait_for(State::Opening, 1);
    refused(&mut house.client(), "429 Too Many Requests", "connections_of_address");
    let other = Raw::connect_from(2, &house.address);
    house.wait_for(State::Opening, 2);
    assert_eq!(house.refused("connections_of_address"), 1);
    drop((relayed, backend));
    house.wait_for(State::Closed, 2);
    let again = house.client();
    house.wait_for(State::Opening, 3);
    refused(&mut house.client(), "429 Too Many Requests", "connections_of_address");
    drop((silent, other, again));
    all_gone(&house, 6);
    assert_eq!(house.refused("connections_of_address"), 2);
}

/// Who is turned away at the door may send its request all the same, and reads its answer.
#[test]
fn a_refusal_at_the_door_is_not_lost_however_late_the_request_comes() {
    let house = House::pushed(|config| config.limits.connections_per_address = Some(1));
    let held = house.client_with(upgrade(""));
    house.wait_for(State::Held, 1);
    let mut late = house.client();
    house.wait_for(State::Closed, 1);
    late.head(); // it is said already
    late.send(&upgrade("")[..40]);
    late.send(&upgrade("")[40..]);
    assert_eq!(late.rest().iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
    assert!(late.0.take_error().unwrap().is_none());
    drop((held, late));
    all_gone(&house, 2);
}

#[test]
fn with_fewer_bits_a_network_is_one_address() {
    let house = House::pushed(|config| {
        config.limits.connections_per_address = Some(1);
        config.limits.address_bits.0 = 31;
    });
    let two = Raw::connect_from(2, &house.address);
    house.wait_for(State::Opening, 1);
    refused(
        &mut Raw::connect_from(3, &house.address),
        "429 Too Many Requests",
        "connections_of_address",
    );
    let four = Raw::connect_from(4, &house.address);
    house.wait_for(State::Opening, 2);
    drop((two, four));
    all_gone(&house, 3);
}

/// Those of two seconds come at once; what is no handshake is not counted, nor what is sent away for its Origin.
#[test]
fn handshakes_of_one_address_come_at_its_rate_and_one_more_is_429() {
    let house = House::pushed(|config| {
        config.limits.handshakes_per_address = Some(1);
        config.routes[0].origins = Some(vec![AllowedOrigin::Same]);
    });
    for _ in 0..3 {
        let mut page = house.client_with(upgrade("Origin: https://evil.example\r\n"));
        refused(&mut page, "403 Forbidden", "origin");
    }
    let plain = house.client_with("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n");
    house.wait_for(State::Held, 1);
    let began = Instant::now();
    let mut held = Vec::new();
    loop {
        let mut client = house.client_with(upgrade(""));
        if is_held(&house, 1 + held.len() as u64, "handshake_rate", 0) {
            held.push(client);
            continue;
        }
        refused(&mut client, "429 Too Many Requests", "handshake_rate");
        break;
    }
    let most = 2 + began.elapsed().as_secs(); // a busy machine takes its time, and the bucket fills
    assert!((2..=most).contains(&(held.len() as u64)), "{} came in", held.len());
    assert_eq!(house.refused("handshake_rate"), 1);
    let mut other = Raw::connect_from(2, &house.address);
    other.send(upgrade(""));
    let before = 1 + held.len() as u64;
    house.wait_for(State::Held, before + 1);
    // One is refused and refused, and in after a second at the most.
    let (mut last, mut tried) = (house.client(), 1);
    loop {
        last.silent_for(Duration::from_millis(50)); // no more tries than are needed
        last.send(upgrade(""));
        if is_held(&house, before + 1, "handshake_rate", tried) {
            break;
        }
        refused(&mut last, "429 Too Many Requests", "handshake_rate");
        assert!(began.elapsed() < SOON);
        (last, tried) = (house.client(), tried + 1);
    }
    assert_eq!(house.refused("handshake_rate"), tried);
    drop((plain, held, other, last));
    all_gone(&house, 3 + before + 2 + tried);
}

#[test]
fn a_head_of_just_the_bytes_that_it_may_have_passes_and_one_more_is_431() {
    let house = House::pushed(|config| config.limits.head_max = 20_000);
    let of = |bytes: usize| {
        let rest = bytes - upgrade("X: \r\n").len();
        upgrade(&format!("X: {}\r\n", "y".repeat(rest)))
    };
    let fits = house.client_with(of(20_000));
    house.wait_for(State::Held, 1);
    let mut over = house.client_with(of(20_001));
    refused(&mut over, "431 Request Header Fields Too Large", "head_too_large");
    house.ready();
    let (_, head) = house.stub.request();
    assert!(head.len() > 19_000, "the whole of it is sent on");
    drop((fits, over));
    all_gone(&house, 2);
    assert_eq!(house.refused("head_too_large"), 1);
}

#[test]
fn a_head_that_takes_longer_than_it_may_is_408() {
    let house = House::pushed(|config| config.limits.head_timeout = Duration::from_millis(300));
    let began = Instant::now();
    let mut slow = house.client_with("GET /ws HTTP/1.1\r\nX: ");
    let mut quick = house.client_with(&upgrade("")[..10]);
    quick.send(&upgrade("")[10..]);
    house.wait_for(State::Held, 1);
    refused(&mut slow, "408 Request Timeout", "head_timeout");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(house.refused("head_timeout"), 1);
    assert!(
        quick.silent_for(Duration::from_millis(50)),
        "who waits has sent its head"
    );
    drop((slow, quick));
    all_gone(&house, 2);
}

/// A request to this Host: an opening handshake, or a plain one.
fn to_host(host: &str, target: &str, is_upgrade: bool) -> String {
    let whole = if is_upgrade {
        upgrade("")
    } else {
        "GET /ws HTTP/1.1\r\nHost: example.test\r\n\r\n".to_owned()
    };
    let whole = whole.replacen("Host: example.test\r\n", host, 1);
    whole.replacen("/ws", target, 1)
}

#[test]
fn only_hosts_of_the_listener_come_in_whatever_they_ask_for() {
    let house = House::pushed(|config| {
        config.listeners[0].hosts = Some(vec![
            HostPattern::Exact("example.test".into()),
            HostPattern::Wildcard(".below.test".into()),
            HostPattern::Exact("[::1]".into()),
        ]);
    });
    let mut refusals = 0;
    for is_upgrade in [true, false] {
        for (host, target) in [
            ("Host: evil.example\r\n", "/ws"),
            ("Host: below.test\r\n", "/ws"),
            ("Host: xbelow.test\r\n", "/ws"),
            ("Host: example.test.evil.example\r\n", "/ws"),
            ("Host: example.testx\r\n", "/ws"),
            ("Host: 127.0.0.1:8080\r\n", "/ws"),
            ("Host: [::2]\r\n", "/ws"),
            ("Host: evil.example\r\n", "http://evil.example/ws"),
        ] {
            let mut client = house.client_with(to_host(host, target, is_upgrade));
            refused(&mut client, "403 Forbidden", "host");
            refusals += 1;
        }
        // Nor can one name one host and mean another.
        for (host, target, is) in [
            ("Host: example.test\r\n", "http://evil.example/ws", "400"),
            ("Host: example.test\r\nHost: evil.example\r\n", "/ws", "400"),
            ("Host: example.test@evil.example\r\n", "/ws", "400"),
        ] {
            let (head, _) = house.client_with(to_host(host, target, is_upgrade)).answer();
            assert!(head.starts_with(&format!("HTTP/1.1 {is} ")), "{host}{head}");
        }
    }
    let mut old = house.client_with("GET / HTTP/1.0\r\n\r\n");
    refused(&mut old, "403 Forbidden", "host");
    let (head, body) = house
        .client_with("HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .answer();
    assert!(
        head.starts_with("HTTP/1.1 403 Forbidden\r\n") && body.is_empty(),
        "{head}{body}"
    );
    assert_eq!(house.refused("host"), refusals + 2);
    assert!(house.stub.nobody_came());
    assert_eq!(house.registry.count(State::Held), 0, "nobody has taken a place");
    let mut held = Vec::new();
    for is_upgrade in [true, false] {
        for (host, target) in [
            ("Host: example.test\r\n", "/ws"),
            ("Host: EXAMPLE.test:8080\r\n", "/ws"),
            ("Host: example.test.\r\n", "/ws"),
            ("Host: a.b.below.test\r\n", "/ws"),
            ("Host: [::1]:80\r\n", "/ws"),
            ("Host: example.test\r\n", "http://example.test/ws"),
        ] {
            held.push(house.client_with(to_host(host, target, is_upgrade)));
            house.wait_for(State::Held, held.len() as u64);
        }
    }
}

#[test]
fn only_pages_of_allowed_origins_open_a_websocket() {
    let house = House::pushed(|config| {
        config.routes[0].origins = Some(vec![
            AllowedOrigin::Exact("https://example.org".into()),
            AllowedOrigin::Below("https".into(), ".below.org".into()),
            AllowedOrigin::Same,
        ]);
    });
    let evil = [
        "https://evil.example",
        "null",
        "",
        "http://example.org",
        "https://example.org.",
        "https://example.org:8443",
        "https://example.org.evil.example",
        "https://example.org@evil.example",
        "https://evil.example/.below.org",
        "https://below.org",
        "http://example.test:8080",
        "file://",
        "https://example.org https://evil.example",
    ];
    let of = |lines: &str| house.client_with(upgrade(lines));
    let mut refusals: Vec<Raw> = evil.iter().map(|origin| of(&format!("Origin: {origin}\r\n"))).collect();
    refusals.push(of("Origin: https://example.org\r\nOrigin: https://evil.example\r\n"));
    refusals.push(of("Origin: https://example.org\r\norigin: https://example.org\r\n"));
    for client in &mut refusals {
        refused(client, "403 Forbidden", "origin");
    }
    drop(refusals);
    assert_eq!(house.refused("origin"), evil.len() as u64 + 2);
    assert_eq!(house.registry.count(State::Held), 0, "nobody has taken a place");
    let mut held = Vec::new();
    for lines in [
        "",
        "Origin: https://example.org\r\n",
        "Origin: HTTPS://Example.ORG:443\r\n",
        "Origin: https://a.b.below.org\r\n",
        "Origin: http://example.test\r\n",
        "Origin: https://example.test\r\n",
    ] {
        held.push(house.client_with(upgrade(lines)));
        house.wait_for(State::Held, held.len() as u64);
    }
    // A page may ask for pages and pictures from anywhere: the browser itself looks after those.
    held.push(house.client_with("GET / HTTP/1.1\r\nHost: example.test\r\nOrigin: https://evil.example\r\n\r\n"));
    house.wait_for(State::Held, held.len() as u64);
    assert!(house.stub.nobody_came());
    drop(held);
    all_gone(&house, evil.len() as u64 + 2 + 7);
}

/// `null` is allowed where it is said, and not elsewhere.
#[test]
fn a_page_without_an_origin_comes_in_where_null_is_allowed() {
    let house = House::pushed(|config| config.routes[0].origins = Some(vec![AllowedOrigin::Null]));
    refused(
        &mut house.client_with(upgrade("Origin: https://null\r\n")),
        "403 Forbidden",
        "origin",
    );
    let _held = house.client_with(upgrade("Origin: null\r\n"));
    house.wait_for(State::Held, 1);
}

/// The program itself, with its settings from the environment.
struct Program {
    greenroom: Greenroom,
    front: String,
    _stub: Stub,
}

impl Program {
    fn start(settings: &[(&str, &str)]) -> Self {
        let stub = Stub::listen();
        let address = stub.address();
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--backend",
            &address,
            "--ready",
            "http:/",
        ];
        let mut command = Greenroom::command(&arguments);
        let greenroom = Greenroom::spawn(command.envs(settings.iter().copied()));
        let front = greenroom.address();
        Self {
            greenroom,
            front,
            _stub: stub,
        }
    }

    /// A client, and how many events there were before it.
    fn client(&self, bytes: &str) -> (Raw, usize) {
        let at = self.greenroom.events().len();
        let mut client = Raw::connect(&self.front);
        client.send(bytes);
        (client, at)
    }

    /// The event from `at` on that says so.
    fn told(&self, at: usize, name: &str) -> Value {
        self.greenroom.wait_for_from(at, |event| event["event"] == name, SOON)
    }

    fn gone(&self, (client, at): (Raw, usize)) {
        drop(client);
        self.told(at, "closed");
    }

    /// How many were refused for each reason, and how many in all.
    fn ledger(mut self) -> (Value, Value) {
        self.greenroom.signal(Signal::TERM);
        self.greenroom.wait_exit(SOON);
        let stopped = self.greenroom.wait_for_event("stopped", SOON);
        (stopped["refused"].clone(), stopped["closed"]["refused"].clone())
    }
}

#[test]
fn the_log_and_the_ledger_tell_who_was_refused_and_why() {
    let program = Program::start(&[
        ("GREENROOM__LIMITS__CONNECTIONS_PER_ADDRESS", "1"),
        ("GREENROOM__LISTENER__MAIN__HOSTS", "[\"example.test\"]"),
        ("GREENROOM__ROUTE__0__ORIGINS", "[\"https://example.org\"]"),
    ]);
    let (first, at) = program.client(&upgrade("Origin: https://example.org\r\n"));
    program.told(at, "held");
    let (mut second, before) = program.client("");
    refused(&mut second, "429 Too Many Requests", "connections_of_address");
    assert_eq!(program.told(before, "refused")["detail"], "the address is 127.0.0.1/32");
    program.told(before, "closed");
    program.gone((first, program.greenroom.events().len()));

    let (mut evil, at) = program.client(&upgrade("Origin: https://evil.exämple\r\n"));
    refused(&mut evil, "403 Forbidden", "origin");
    let told = program.told(at, "refused");
    assert_eq!((&told["host"], &told["path"]), (&"example.test".into(), &"/ws".into()));
    assert!(
        told["detail"].as_str().unwrap().contains("https://evil.exämple"),
        "{told}"
    );
    program.gone((evil, at));

    let (mut astray, at) = program.client(&upgrade("").replace("example.test", "evil.example"));
    refused(&mut astray, "403 Forbidden", "host");
    assert_eq!(program.told(at, "refused")["host"], "evil.example");
    program.gone((astray, at));

    let (refusals, closed) = program.ledger();
    let each = serde_json::json!({ "connections_of_address": 1, "origin": 1, "host": 1 });
    assert_eq!((refusals, closed), (each, 3.into()));
}

#[test]
fn the_log_and_the_ledger_tell_whose_handshakes_were_too_many() {
    let program = Program::start(&[("GREENROOM__LIMITS__HANDSHAKES_PER_ADDRESS", "1")]);
    // Those of two seconds, and one more; a busy machine takes its time meanwhile.
    let is_over = (0..50).any(|_| {
        let (mut client, at) = program.client(&upgrade(""));
        let told = |event: &Value| event["event"] == "held" || event["event"] == "refused";
        let told = program.greenroom.wait_for_from(at, told, SOON);
        let is_over = told["event"] == "refused";
        if is_over {
            refused(&mut client, "429 Too Many Requests", "handshake_rate");
            assert_eq!(told["detail"], "the address is 127.0.0.1/32");
        }
        program.gone((client, at));
        is_over
    });
    assert!(is_over, "{}", program.greenroom.stderr());
    let (refusals, closed) = program.ledger();
    assert_eq!((&refusals["handshake_rate"], closed), (&1.into(), 1.into()));
}
