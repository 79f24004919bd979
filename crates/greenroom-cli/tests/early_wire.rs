//! Clients that are accepted while they wait, byte by byte: what greenroom's own 101 says, and what becomes of what they send before
//! their server is ready. Client and server are the test's own, the program and its configuration file are real.
//!
//! The server says READY when its test wants it to (`greenroom phase ready`), so no test waits for a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{
    raw::{ACCEPT, Raw, SOON, Stub, close, field, frame, masked, switching, upgrade},
    rig::Rig,
};

/// How long it is looked for what must not come.
const NOTHING: Duration = Duration::from_millis(300);

/// greenroom before a server of which the test writes every byte.
struct Stage {
    stub: Stub,
    rig: Rig,
}

impl Stage {
    /// The server listens, and has not said READY; its clients wait by `route`.
    fn new(route: &str) -> Self {
        let stub = Stub::listen();
        let config = format!(
            "[backend.app]\naddress = \"{}\"\nready = \"notify\"\n\n\
             [backend.app.process]\ncommand = [\"tail\", \"-f\", \"/dev/null\"]\n\n[[route]]\n{route}\n",
            stub.address()
        );
        let rig = Rig::start("run", &config);
        rig.greenroom.wait_for_event("started", SOON); // a READY before is nobody's
        Self { stub, rig }
    }

    /// A client with a 101 of greenroom's own, and that; `extra` are lines of its request.
    fn accepted(&self, extra: &str) -> (Raw, String) {
        let mut client = self.knock(extra);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, head)
    }

    /// A client that has sent its request.
    fn knock(&self, extra: &str) -> Raw {
        let mut client = Raw::connect(&self.rig.address);
        client.send(upgrade(extra));
        client
    }

    /// READY.
    fn ready(&self) {
        self.rig.tell(&["phase", "ready"]);
    }

    /// The next client at the backend, and its request.
    fn request(&self) -> (Raw, String) {
        let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stub.request()));
        came.unwrap_or_else(|_| panic!("nobody is let in:\n{}", self.rig.greenroom.stderr()))
    }

    /// The same, with a 101 of the backend's; `extra` are lines of that.
    fn let_in(&self, extra: &str) -> (Raw, String) {
        let (mut backend, head) = self.request();
        backend.send(switching(extra));
        (backend, head)
    }
}

/// The default mode, with a time that tests can wait for.
const SOON_ACCEPTED: &str = "accept_after = \"50ms\"";

/// Waits until greenroom has read all that the client has sent: it answers a Ping behind it, with its payload.
fn is_read(client: &mut Raw) {
    let payload = b"is all of it there?";
    client.send(masked(0x89, payload));
    assert_eq!(client.frame(), (0x8a, payload.to_vec()));
}

/// A head has this subprotocol.
fn selects(head: &str, protocol: &str) {
    assert_eq!(
        field(head, "sec-websocket-protocol").as_deref(),
        Some(protocol),
        "{head}"
    );
}

#[test]
fn who_waits_gets_a_101_of_greenrooms_own_that_agrees_on_nothing() {
    let stage = Stage::new(SOON_ACCEPTED);
    let offer =
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: http://example.test\r\n";
    let (mut client, head) = stage.accepted(offer);
    assert_eq!(field(&head, "sec-websocket-accept").as_deref(), Some(ACCEPT), "{head}");
    assert_eq!(field(&head, "upgrade").as_deref(), Some("websocket"), "{head}");
    assert_eq!(field(&head, "connection").as_deref(), Some("Upgrade"), "{head}");
    assert_eq!(field(&head, "sec-websocket-extensions"), None, "{head}");
    assert_eq!(field(&head, "sec-websocket-protocol"), None, "{head}");
    assert!(stage.stub.nobody_came(), "it was accepted before anybody was asked");
    assert_eq!(stage.rig.status()["held"]["websocket"], 1, "it keeps its place");

    stage.ready();
    let (mut backend, head) = stage.let_in("");
    assert_eq!(
        field(&head, "sec-websocket-extensions"),
        None,
        "none could be agreed on: {head}"
    );
    assert_eq!(field(&head, "origin").as_deref(), Some("http://example.test"), "{head}");
    assert_eq!(field(&head, "greenroom-session").as_deref(), Some("1"), "{head}");
    backend.send(frame(0x81, b"welcome"));
    assert_eq!(client.frame(), (0x81, b"welcome".to_vec()), "and no second 101");
}

#[test]
fn what_was_sent_while_held_arrives_once_whole_and_in_order_behind_the_backends_101() {
    let stage = Stage::new(SOON_ACCEPTED);
    let (mut client, _) = stage.accepted("");
    let large: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).take(40_000).collect();
    let messages = [
        masked(0x81, b"first"),
        masked(0x82, &large),
        masked(0x82, b""),
        // A message in three frames, with a Ping in between.
        masked(0x01, "gr\u{f6}".as_bytes()),
        masked(0x00, "\u{df}".as_bytes()),
        masked(0x80, b"er"),
        masked(0x81, b"last"),
    ];
    for (number, frame) in messages.iter().enumerate() {
        client.send(frame);
        if number == 4 {
            is_read(&mut client);
        }
    }
    client.send(masked(0x8a, b"a pong that nobody asked for"));
    is_read(&mut client);
    assert!(stage.stub.nobody_came() && !client.has_bytes());

    stage.ready();
    let (mut backend, _) = stage.request();
    assert!(
        backend.silent_for(NOTHING),
        "before its 101 it gets a head and nothing more"
    );
    backend.send(switching(""));
    let all = messages.concat();
    assert!(
        backend.exactly(all.len()) == all,
        "byte by byte what the client sent, still masked"
    );
    client.send(masked(0x81, b"now"));
    assert_eq!(backend.frame(), (0x81, b"now".to_vec()), "nothing came twice");
    backend.send(frame(0x89, b"own"));
    assert_eq!(
        client.frame(),
        (0x89, b"own".to_vec()),
        "and pings are the backend's again"
    );
    client.send(masked(0x8a, b"own"));
    assert_eq!(backend.frame(), (0x8a, b"own".to_vec()));
}

#[test]
fn a_frame_that_is_half_sent_at_the_release_arrives_whole() {
    let stage = Stage::new(SOON_ACCEPTED);
    let frame = masked(0x82, &[7; 300]);
    // Within its first bytes, its length, its mask and its payload; and with nothing of it missing.
    let cuts = [1, 2, 3, 5, 8, 9, 150, frame.len() - 1, frame.len()];
    let mut clients: Vec<_> = (cuts.iter())
        .map(|&cut| {
            let (mut client, _) = stage.accepted("");
            client.send(masked(0x81, b"whole"));
            is_read(&mut client);
            client.send(&frame[..cut]);
            client
        })
        .collect();
    stage.ready();
    let whole = masked(0x81, b"whole");
    let mut backends: Vec<_> = (cuts.iter())
        .map(|cut| {
            let (mut backend, head) = stage.let_in("");
            let session: usize = field(&head, "greenroom-session").unwrap().parse().unwrap();
            assert!(backend.exactly(whole.len()) == whole, "cut after {cut}");
            (session, backend)
        })
        .collect();
    backends.sort_by_key(|&(session, _)| session);
    for ((client, (_, backend)), cut) in clients.iter_mut().zip(&mut backends).zip(cuts) {
        client.send(&frame[cut..]);
        client.send(masked(0x81, b"behind"));
        let all = [&frame[..], &masked(0x81, b"behind")].concat();
        assert!(backend.exactly(all.len()) == all, "cut after {cut}");
    }
}

#[test]
fn what_is_more_than_greenroom_keeps_waits_at_the_client_and_arrives_too() {
    let stage = Stage::new(SOON_ACCEPTED);
    let payload: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    // Too many bytes, in one frame and behind others; and too many frames.
    let large = [masked(0x81, b"first"), masked(0x82, &payload), masked(0x81, b"last")].concat();
    let many = (0..10_000_u32).flat_map(|number| masked(0x82, &number.to_le_bytes()));
    let messages = [large, many.collect()];
    let clients: Vec<_> = (messages.iter().cloned())
        .map(|bytes| {
            let (mut client, _) = stage.accepted("");
            std::thread::spawn(move || {
                client.send(bytes); // comes to its end only once the server takes it
                client
            })
        })
        .collect();
    stage.ready();
    let backends: Vec<_> = messages.iter().map(|_| stage.let_in("")).collect();
    for ((mut backend, head), bytes) in backends.into_iter().zip(&messages) {
        assert!(backend.exactly(bytes.len()) == *bytes, "byte by byte, of {head}");
    }
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_close_while_held_is_answered_at_once_and_nothing_of_it_reaches_the_backend() {
    let stage = Stage::new(SOON_ACCEPTED);
    let (mut leaving, _) = stage.accepted("");
    leaving.send(masked(0x81, b"said before"));
    leaving.send(masked(0x88, &close(1000, "bye")));
    assert_eq!(leaving.close_frame().0, 1000);
    assert_eq!(leaving.rest(), b"", "and the end of the connection behind it");
    drop(leaving);
    stage
        .rig
        .until("its place is free", |status| status["held"]["websocket"] == 0);

    let (mut staying, _) = stage.accepted("");
    staying.send(masked(0x81, b"from who stays"));
    stage.ready();
    let (mut backend, head) = stage.let_in("");
    assert_eq!(field(&head, "greenroom-session").as_deref(), Some("2"), "{head}");
    assert_eq!(backend.frame(), (0x81, b"from who stays".to_vec()));
    assert!(stage.stub.nobody_came(), "the first is unknown to the backend");
    let closed = stage.rig.greenroom.wait_for_event("closed", SOON);
    assert_eq!(closed["session"], 1, "{closed}");
    assert_eq!(closed["cause"], "left_held", "{closed}");
}

#[test]
fn a_subprotocol_that_is_configured_is_selected_early_and_another_one_waits_for_the_server() {
    let stage = Stage::new(&format!("{SOON_ACCEPTED}\nsubprotocols = [\"chat.v2\", \"chat.v1\"]"));
    let mut unknown = stage.knock("Sec-WebSocket-Protocol: chat.v9\r\n");
    stage.rig.held(1);
    // Of the client's own, the first that is known.
    let (mut known, head) = stage.accepted("Sec-WebSocket-Protocol: chat.v9, chat.v1, chat.v2\r\n");
    selects(&head, "chat.v1");
    let (mut misled, _) = stage.accepted("Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n");
    // Who came first has waited longer than those two.
    assert!(!unknown.has_bytes(), "a subprotocol is not guessed");

    stage.ready();
    let (_first, head) = stage.let_in("Sec-WebSocket-Protocol: chat.v9\r\n");
    selects(&head, "chat.v9");
    let head = unknown.head();
    selects(&head, "chat.v9");
    let (mut second, _) = stage.let_in("Sec-WebSocket-Protocol: chat.v1\r\n");
    known.send(masked(0x81, b"in chat.v1"));
    assert_eq!(second.frame(), (0x81, b"in chat.v1".to_vec()));
    // A server that selects another than was promised for it cannot be talked to.
    misled.send(masked(0x81, b"never to be seen"));
    let (mut third, _) = stage.let_in("Sec-WebSocket-Protocol: chat.v2\r\n");
    third.closed();
    let (code, reason) = misled.close_frame();
    assert_eq!(code, 1002, "{reason}");
    assert!(reason.contains("subprotocol"), "{reason}");
}

#[test]
fn a_subprotocol_that_the_server_selected_last_is_known_when_it_starts_again() {
    let stage = Stage::new(SOON_ACCEPTED);
    let asking = "Sec-WebSocket-Protocol: chat.v1, chat.v3\r\n";
    let mut first = stage.knock(asking);
    stage.rig.held(1);
    stage.ready();
    let (_backend, _) = stage.let_in("Sec-WebSocket-Protocol: chat.v3\r\n");
    let head = first.head();
    selects(&head, "chat.v3");

    stage.rig.tell(&["phase", "stopping"]);
    stage.rig.until("its gate is shut", |status| status["gate"] == "shut");
    let (mut second, head) = stage.accepted(asking);
    selects(&head, "chat.v3");
    second.send(masked(0x81, b"early"));
    assert!(stage.stub.nobody_came());
    stage.ready();
    let (mut backend, _) = stage.let_in("Sec-WebSocket-Protocol: chat.v3\r\n");
    assert_eq!(backend.frame(), (0x81, b"early".to_vec()));
}

#[test]
fn messages_wait_for_the_servers_first_frame_or_for_a_time_or_not_at_all() {
    let of = |path: &str, forward_after: &str| {
        format!("path = \"{path}\"\nhold = \"accept\"\nforward_after = \"{forward_after}\"\n")
    };
    let routes = [
        of("/frame", "first-frame"),
        of("/time", "10s"),
        of("/handshake", "handshake"),
    ];
    let stage = Stage::new(&routes.join("\n[[route]]\n"));
    let mut clients = ["/frame", "/time", "/handshake"].map(|path| {
        let mut client = stage.rig.knock(path);
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.send(masked(0x81, b"early"));
        client
    });
    stage.ready();
    let mut backends = ["/frame", "/time", "/handshake"].map(|path| {
        let (backend, head) = stage.let_in("");
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
        backend
    });
    assert_eq!(backends[2].frame(), (0x81, b"early".to_vec()), "at once");
    for (client, backend) in clients.iter_mut().zip(&mut backends).take(2) {
        assert!(backend.silent_for(NOTHING), "before its greeting");
        backend.send(frame(0x81, b"welcome"));
        assert_eq!(backend.frame(), (0x81, b"early".to_vec()), "behind it");
        assert_eq!(client.frame(), (0x81, b"welcome".to_vec()));
    }
}

#[test]
fn nothing_reaches_a_server_that_is_not_ready_after_all_and_then_it_comes_once() {
    let stub = Stub::listen();
    // That it listens proves nothing: it is tried with one client at a time.
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n\
         [backend.app.check.database]\nprobe = \"file:{{folder}}/database\"\ninterval = \"20ms\"\n\n\
         [[route]]\nhold = \"accept\"\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    let stage = Stage { stub, rig };
    let (mut client, _) = stage.accepted("");
    client.send(masked(0x81, b"early"));
    is_read(&mut client);
    stage.rig.create("database");

    let (mut backend, _) = stage.request();
    backend.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    backend.closed();
    let (mut backend, head) = stage.request();
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("2"), "{head}");
    // In one piece: what it shows later than `settle` would be the client's.
    backend.send([switching("").as_bytes(), &frame(0x88, &close(1011, "not ready"))].concat());
    let came = backend.rest_or_reset();
    let early = masked(0x81, b"early");
    let has_early = came.windows(early.len()).any(|window| window == early);
    assert!(!has_early, "it had not proved itself: {came:?}");
    client.send(masked(0x81, b"meanwhile"));
    is_read(&mut client);

    let (mut backend, head) = stage.let_in("");
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("3"), "{head}");
    assert_eq!(field(&head, "greenroom-session").as_deref(), Some("1"), "{head}");
    for text in ["early", "meanwhile"] {
        assert_eq!(backend.frame(), (0x81, text.as_bytes().to_vec()));
    }
    backend.send(frame(0x81, b"welcome"));
    assert_eq!(
        client.frame(),
        (0x81, b"welcome".to_vec()),
        "it has seen nothing of that"
    );
}

/// A server that listens and is busy takes the connection and says nothing: whoever is first in line is there, and its
/// patience ends as soon as that of the others.
#[test]
fn who_is_with_a_server_that_says_nothing_yet_is_accepted_too_and_asks_anew() {
    let stub = Stub::listen();
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n[[route]]\n{SOON_ACCEPTED}\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    let mut client = Raw::connect(&rig.address);
    client.send(upgrade("Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    let (mut first, head) = stub.request();
    assert!(field(&head, "sec-websocket-extensions").is_some(), "{head}");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}\n{}", rig.greenroom.stderr());
    client.send(masked(0x81, b"hello"));
    is_read(&mut client);

    first.closed(); // given up, with nothing of what was said
    let (mut second, head) = stub.request();
    assert_eq!(field(&head, "sec-websocket-extensions"), None, "{head}");
    assert_eq!(field(&head, "greenroom-attempt").as_deref(), Some("2"), "{head}");
    second.send(switching(""));
    assert_eq!(second.frame(), (0x81, b"hello".to_vec()));
    second.send(frame(0x81, b"welcome"));
    assert_eq!(client.frame(), (0x81, b"welcome".to_vec()));
}
