//! What clients send after their backend was lost: it goes to nobody, so they hear of it first, and it is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    process::until,
    raw::{Raw, Stub, close, frame, masked, switching},
    rig::Rig,
    scraping::{text, value},
};

/// Clients and their backend's ends, each older than a second.
fn relayed(rig: &Rig, stub: &Stub, count: usize) -> (Vec<Raw>, Vec<Raw>) {
    let both = rig.crowd(stub, count).into_iter().unzip();
    rig.are(count, "relaying");
    until("their first second is over", || {
        let fit = rig.told(&["ps", "--state", "relaying", "--older-than", "1100ms"]);
        fit["total"] == count
    });
    both
}

/// What was dropped in all, by the page of metrics: bytes and messages.
fn dropped(rig: &Rig) -> (u64, u64) {
    let page = text(rig);
    let counted = |name| value(&page, name) as u64;
    (
        counted("greenroom_dropped_bytes_total"),
        counted("greenroom_dropped_messages_total"),
    )
}

/// The same, of one connection, by `why`.
fn why(rig: &Rig, number: usize) -> String {
    let said = rig.say(&["why", &number.to_string()]);
    String::from_utf8(said.stdout).unwrap()
}

/// 400 are closed within 0.8 s in an order that nobody chooses. Those that talk are closed first, and no faster than that.
#[test]
fn who_says_something_after_the_loss_hears_of_it_before_those_that_are_silent() {
    const ALL: usize = 400;
    const TALK: usize = 20;
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut clients, backends) = relayed(&rig, &stub, ALL);
    drop(backends);
    for client in clients.iter_mut().take(TALK) {
        client.send(masked(0x81, b"is anybody there?"));
    }
    let since = Instant::now();
    until("all who talk have heard", || {
        clients.iter().take(TALK).all(Raw::has_bytes)
    });
    let (silent, took) = (
        clients.iter().skip(TALK).filter(|client| client.has_bytes()).count(),
        since.elapsed(),
    );
    assert!(
        silent < (ALL - TALK) / 2,
        "{silent} of {} that were silent had heard of it when the last of {TALK} that talked had, after {took:?}",
        ALL - TALK
    );
    for client in &mut clients {
        assert_eq!(client.close_frame().0, 1012);
        client.send(masked(0x88, &close(1012, "")));
        assert_eq!(client.rest(), b"");
    }
    rig.are(0, "relaying");
    assert_eq!(dropped(&rig).1, TALK as u64);
}

/// Also what comes while the Close is on its way is in the sum; pings and the Close itself are not.
#[test]
fn what_went_to_nobody_is_told_of_each_and_of_all() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut clients, mut backends) = relayed(&rig, &stub, 3);
    let message = masked(0x81, b"hello");
    clients[0].send(&message);
    backends[0].frame();
    clients[2].send(&message[..7]); // its beginning reaches the backend
    backends[2].exactly(7);
    drop(backends);
    clients[0].send([&message[..], &masked(0x89, b"ping")].concat());
    clients[2].send(&message[7..]);
    for (client, late) in clients.iter_mut().zip([&message[..], b"", b""]) {
        assert_eq!(client.close_frame().0, 1012);
        client.send([late, &masked(0x88, &close(1012, "")), &message].concat());
        assert_eq!(client.rest_or_reset(), b"");
    }
    until("all have ended", || rig.told(&["ps", "--closed"])["total"] == 3);
    let told = |number| why(&rig, number);
    let nobody = "that the client sent after its backend was lost went to nobody";
    assert!(
        told(1).contains(&format!("22 bytes (2 messages) {nobody}")),
        "{}",
        told(1)
    );
    assert!(!told(2).contains("nobody"), "{}", told(2));
    assert!(
        told(3).contains(&format!("4 bytes (1 message) {nobody}")),
        "{}",
        told(3)
    );
    assert_eq!(dropped(&rig), (26, 3));
}

/// Somebody who is told to go may have said something by the time it hears so.
#[test]
fn what_a_client_says_while_it_is_closed_is_told_of_too() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let (mut clients, mut backends) = relayed(&rig, &stub, 1);
    let (client, backend) = (&mut clients[0], &mut backends[0]);
    rig.tell(&["close", "--all", "--yes", "--code", "4001"]);
    assert_eq!(client.close_frame().0, 4001);
    backend.send(frame(0x81, b"too late"));
    client.send([masked(0x82, &[7; 200]), masked(0x88, &close(4001, ""))].concat());
    assert_eq!(client.rest_or_reset(), b"");
    until("it has ended", || rig.told(&["ps", "--closed"])["total"] == 1);
    let told = why(&rig, 1);
    assert!(
        told.contains("code 4001; 208 bytes (1 message) that the client sent after its end had begun went to nobody"),
        "{told}"
    );
    assert_eq!(dropped(&rig), (208, 1));
}

/// One that is too young to be closed hears of it when its first second is over, whatever it says.
#[test]
fn who_talks_in_its_first_second_waits_for_the_end_of_it() {
    let stub = Stub::listen();
    let rig = Rig::before(&stub.address(), "");
    let began = Instant::now();
    let mut client = rig.knock("/ws");
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    client.head();
    drop(backend);
    client.send(masked(0x81, b"hello"));
    assert_eq!(client.close_frame().0, 1012);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}
