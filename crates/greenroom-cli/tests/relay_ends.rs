//! How relays end where it is easy to end them wrongly: resets that look like FINs,
//! backends that wait for their Close to be answered, doors that stay open behind
//! the last client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use common::raw::{Front, Raw, SOON, close, frame, masked};
use rustix::process::Signal;

/// Closes with unread bytes and SO_LINGER as they are: a reset while the backend writes.
fn reset_while_the_backend_writes(client: Raw, backend: &mut Raw) {
    let piece = frame(0x82, &[7; 1000]);
    backend.send(&piece);
    client.0.peek(&mut [0]).unwrap();
    drop(client); // unread bytes: a reset
    while backend.try_send(&piece) {} // until greenroom ends it
}

#[test]
fn a_client_that_is_reset_while_its_backend_writes_is_lost_and_not_half_closed() {
    let front = Front::open();
    let (client, mut backend) = front.relayed("", "");
    backend.0.set_write_timeout(Some(SOON)).unwrap();
    let began = Instant::now();
    reset_while_the_backend_writes(client, &mut backend);
    front.closed("client_lost");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_backend_that_restarts_has_its_close_answered_before_its_clients_had_their_turn() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    backend.send(frame(0x88, &close(1012, "restart")));
    let began = Instant::now();
    assert_eq!(backend.rest()[0], 0x88);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(client.close_frame().0, 1012);
    assert!(began.elapsed() > Duration::from_millis(500), "its first second is over");
}

#[test]
fn a_client_that_broke_the_protocol_hears_1002_and_is_not_waited_for() {
    let front = Front::open();
    let (mut client, _backend) = front.relayed("", "");
    client.send(frame(0x81, b"unmasked"));
    assert_eq!(client.close_frame().0, 1002);
    client.send(masked(0x88, &close(1002, "")));
    let began = Instant::now();
    assert!(client.rest().is_empty());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_silent_connection_does_not_keep_a_stopped_greenroom_waiting() {
    let mut front = Front::open();
    let (mut client, _backend) = front.relayed("", "");
    let _silent = front.client();
    let began = Instant::now();
    front.greenroom.signal(Signal::TERM);
    assert_eq!(client.close_frame().0, 1001);
    client.send(masked(0x88, &close(1001, "")));
    drop(client);
    assert_eq!(front.greenroom.wait_exit_code(SOON), 0);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[test]
fn a_backend_that_reads_nothing_does_not_delay_its_clients_1001() {
    let front = Front::open();
    let (mut client, _backend) = front.relayed("", "");
    client.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let message = masked(0x82, &[0; 65_000]);
    let mut at = 0;
    while let Ok(written) = client.0.write(&message[at..]) {
        at = (at + written) % message.len();
    }
    let began = Instant::now();
    front.greenroom.signal(Signal::TERM);
    assert_eq!(client.close_frame().0, 1001);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
