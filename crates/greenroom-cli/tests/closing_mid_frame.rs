//! A drain or a close by hand inside a backend's frame over 64 KiB that has begun to go through: the client gets the whole
//! frame and then its Close; where the frame has no end it is cut, and the ledger says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Instant;

use common::{
    process::until,
    raw::{Raw, Stub, close, header, masked},
    rig::Rig,
};
use greenroom_core::limits::CLOSE_HANDSHAKE;
use serde_json::json;

/// With its header of ten bytes the frame is 200,010 bytes long.
const PAYLOAD: usize = 200_000;
const HALF: usize = PAYLOAD / 2;

/// A relay in the middle of a large frame of its backend.
fn begun() -> (Rig, Stub, Raw, Raw) {
    let stub = Stub::listen();
    let config = format!("[backend.app]\naddress = \"{}\"\nready = \"listen\"\n", stub.address());
    let rig = Rig::start("serve", &config);
    let (mut client, mut backend) = rig.relayed(&stub);
    let head = header(0x82, PAYLOAD as u64, false);
    backend.send([&head[..], &[7; HALF]].concat());
    assert_eq!(client.exactly(head.len() + HALF), [&head[..], &[7; HALF]].concat());
    (rig, stub, client, backend)
}

fn by_hand(rig: &Rig) {
    let (status, done) = rig.post(
        "/v1/connections/close",
        &json!({"all": true, "code": 4001, "reason": "bye"}),
    );
    assert_eq!((status, &done["closed"]), (200, &1.into()), "{done}");
}

fn by_drain(rig: &Rig) {
    rig.told(&["drain", "--all", "--window", "0s"]);
    until("it is told", || {
        rig.told(&["drain", "--list"])["drains"][0]["told"] == 1
    });
}

/// What the client sends still comes to the backend: nothing has ended, and whoever told it to end was heard before.
fn goes_on(client: &mut Raw, backend: &mut Raw) {
    client.send(masked(0x81, b"still here"));
    assert_eq!(backend.frame(), (0x81, b"still here".to_vec()));
}

/// The frame is completed, and another large one begins behind it at once.
fn gets_it_whole(client: &mut Raw, backend: &mut Raw) -> (u16, String) {
    goes_on(client, backend);
    let next = header(0x82, PAYLOAD as u64, false);
    backend.send([&[7; HALF], &next[..], &[8; 1_000]].concat());
    assert_eq!(client.exactly(HALF), [7; HALF]);
    let close_frame = client.close_frame();
    assert_eq!(backend.close_frame().0, 1001);
    client.send(masked(0x88, &close(close_frame.0, "")));
    assert_eq!(client.rest(), b"");
    close_frame
}

/// The line of the connection in the ledger: its cause, and more.
fn end(rig: &Rig) -> (String, String) {
    let end = rig.last_end();
    let text = |name: &str| end[name].as_str().unwrap_or_default().to_owned();
    (text("cause"), text("detail"))
}

#[test]
fn closed_by_hand_inside_a_large_frame_a_client_gets_the_frame_and_then_its_close() {
    let (rig, _stub, mut client, mut backend) = begun();
    by_hand(&rig);
    assert_eq!(gets_it_whole(&mut client, &mut backend), (4001, "bye".into()));
    assert_eq!(end(&rig), ("admin".into(), "code 4001, \"bye\"".into()));
}

#[test]
fn drained_inside_a_large_frame_a_client_gets_the_frame_and_then_its_close_with_the_hint() {
    let (rig, _stub, mut client, mut backend) = begun();
    by_drain(&rig);
    let (code, reason) = gets_it_whole(&mut client, &mut backend);
    assert!(code == 1012 && reason.contains("retry-after-ms="), "{code} {reason}");
    assert_eq!(end(&rig), ("drained".into(), "drain 1 (deploy)".into()));
}

/// Whose frame has no end is cut after the time of a close handshake, and no answer is waited for to a Close that was
/// never written.
fn is_cut(rig: &Rig, mut client: Raw, mut backend: Raw) -> String {
    let since = Instant::now();
    goes_on(&mut client, &mut backend);
    assert_eq!(client.rest_or_reset(), b"", "no Close can stand there");
    let lasted = since.elapsed();
    assert!(lasted < CLOSE_HANDSHAKE * 2, "{lasted:?}");
    assert_eq!(backend.close_frame().0, 1001);
    assert_eq!(backend.rest(), b"");
    drop((client, backend));
    let (cause, detail) = end(rig);
    assert_eq!(cause, "lost_mid_frame");
    detail
}

#[test]
fn closed_by_hand_inside_a_large_frame_without_end_a_client_is_cut_and_the_ledger_says_so() {
    let (rig, _stub, client, backend) = begun();
    by_hand(&rig);
    assert_eq!(
        is_cut(&rig, client, backend),
        "told to end (admin, code 4001, \"bye\") inside a frame that had no end within 5s"
    );
}

#[test]
fn drained_inside_a_large_frame_without_end_a_client_is_cut_and_the_ledger_says_so() {
    let (rig, _stub, client, backend) = begun();
    by_drain(&rig);
    assert_eq!(
        is_cut(&rig, client, backend),
        "told to end (drained, drain 1 (deploy)) inside a frame that had no end within 5s"
    );
}

/// The backend that ends inside the frame is lost, whatever was waiting for the frame's end.
#[test]
fn a_backend_that_is_lost_inside_the_frame_ends_the_wait_for_it() {
    let (rig, _stub, mut client, mut backend) = begun();
    by_hand(&rig);
    goes_on(&mut client, &mut backend);
    drop(backend);
    assert_eq!(client.rest_or_reset(), b"");
    assert_eq!(end(&rig), ("lost_mid_frame".into(), String::new()));
}
