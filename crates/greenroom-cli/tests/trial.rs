//! The gate on the wire: what a backend shows behind its 101 counts for those who come next, and what
//! a dial may meet without the gate being shut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use common::raw::{Front, Raw, SOON, close, frame, serve, switching, upgrade};

/// `greenroom serve` that was told by its probe that the backend is ready.
fn believed() -> Front {
    let front = Front::new(&["--ready", "http:/ready"]);
    let (mut probe, head) = front.stub.request();
    assert!(head.starts_with("GET /ready "), "{head}");
    probe.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    front.greenroom.wait_for_event("ready", SOON);
    front
}

/// The next opening request at the backend; a probe that was on its way is let go.
fn dialled(front: &Front) -> Raw {
    loop {
        let (raw, head) = front.stub.request();
        if head.starts_with("GET /ws ") {
            return raw;
        }
    }
}

fn too_early() -> Vec<u8> {
    frame(0x88, &close(1011, "not ready"))
}

#[test]
fn a_close_that_comes_with_the_101_on_trial_is_not_shown_to_the_client() {
    let front = believed();
    let mut client = front.client_with(upgrade(""));
    dialled(&front).send([switching("").into_bytes(), too_early()].concat());
    let requeued = front.greenroom.wait_for_event("requeued", SOON);
    assert_eq!(requeued["answer"], "lost_early");
    let mut backend = dialled(&front);
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_ready_is_doubted_when_the_first_relay_behind_it_is_closed_with_1011_at_once() {
    // "At once" is within 25 ms, and a busy machine may take longer: then once more.
    let doubted = (0..10).any(|_| {
        let front = believed();
        let mut client = front.client_with(upgrade(""));
        let mut backend = dialled(&front);
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        backend.send(too_early());
        assert_eq!(client.close_frame().0, 1011, "its own word passes");
        drop((client, backend));
        front.closed("backend");
        let events = front.greenroom.events();
        events
            .iter()
            .any(|event| event["event"] == "gate" && event["gate"] == "limited")
    });
    assert!(doubted, "READY came too early, and greenroom does not see it");
}

#[test]
fn a_close_behind_a_101_that_settles_sends_the_client_back_unseen() {
    let front = Front::new(&["--ready", "listen"]);
    let mut client = front.client_with(upgrade(""));
    let mut backend = dialled(&front);
    backend.send(switching(""));
    backend.send(too_early());
    let requeued = front.greenroom.wait_for_event("requeued", SOON);
    assert_eq!(requeued["answer"], "lost_early");
    let mut backend = dialled(&front);
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "), "it stood");
    backend.send(frame(0x81, b"hello"));
    assert_eq!(client.frame(), (0x81, b"hello".to_vec()));
}

/// Whether a connection to this port waits for the answer to its SYN.
fn is_knocking(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(2);
        let (remote, state) = (words.next(), words.next());
        state == Some("02") && remote.is_some_and(|at| at.ends_with(&format!(":{port:04X}")))
    })
}

/// The next connection, its request read.
fn accept(listener: &TcpListener) -> (Raw, String) {
    let mut raw = Raw::new(listener.accept().unwrap().0);
    let head = raw.head();
    (raw, head)
}

#[test]
fn one_lost_packet_does_not_shut_the_gate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let greenroom = serve(&address.to_string(), &["--ready", "http:/ready"]);
    let (mut probe, _) = accept(&listener);
    probe.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    greenroom.wait_for_event("ready", SOON);
    let mut first = Raw::connect(&greenroom.address());
    first.send(upgrade(""));
    let (mut backend, _) = accept(&listener);
    backend.send(switching(""));
    first.head();

    // Where the backlog is full the kernel drops a SYN, as a network may.
    rustix::net::listen(&listener, 0).unwrap();
    let mut full = Vec::new();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        full.push(filler);
    }
    let mut second = Raw::connect(&greenroom.address());
    second.send(upgrade(""));
    let began = Instant::now();
    while !is_knocking(address.port()) {
        assert!(began.elapsed() < SOON, "no dial");
        std::thread::yield_now();
    }
    for _ in &full {
        drop(listener.accept().unwrap());
    }
    let (mut backend, head) = accept(&listener);
    assert!(
        head.contains("Greenroom-Attempt: 1\r\n"),
        "the SYN was sent again: {head}"
    );
    backend.send(switching(""));
    assert!(second.head().starts_with("HTTP/1.1 101 "));
    let events = greenroom.events();
    let shut = events
        .iter()
        .find(|event| event["event"] == "gate" && event["gate"] != "open");
    assert_eq!(shut, None);
}
