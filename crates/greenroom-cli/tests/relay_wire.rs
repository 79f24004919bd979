//! The relay on the wire: verbatim bytes, backpressure, half-close, and backends that are lost.
//!
//! What a peer sees is compared byte for byte with what the other wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{io::Write as _, time::Duration};

use common::raw::{Front, Raw, SOON, close, frame, header, masked, switching, upgrade};

/// Resident memory of the program, in KiB.
fn rss(front: &Front) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", front.greenroom.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Frames of all shapes: empty, short, with each form of length, fragmented, with pings between.
fn shapes(framed: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    [
        framed(0x81, b""),
        framed(0x81, b"text"),
        framed(0x02, b"be"),
        framed(0x89, b"between"),
        framed(0x00, b""),
        framed(0x80, b"gun"),
        framed(0x82, &[1; 125]),
        framed(0x82, &[2; 126]),
        framed(0x8a, b"unasked"),
        framed(0x82, &[3; 1000]),
        framed(0x81, b"\xff no UTF-8 \xc0"),
    ]
    .concat()
}

#[test]
fn frames_split_at_every_byte_arrive_as_the_same_bytes() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let (up, down) = (shapes(masked), shapes(frame));
    client.send_by_bytes(&up);
    assert_eq!(backend.exactly(up.len()), up);
    backend.send_by_bytes(&down);
    assert_eq!(client.exactly(down.len()), down);
    let large = frame(0x82, &vec![4; 300_000]);
    let expected = large.clone();
    let writer = std::thread::spawn(move || {
        backend.send(large);
        backend
    });
    assert!(client.exactly(expected.len()) == expected);
    drop(writer.join().unwrap());
}

#[test]
fn what_a_backend_says_right_behind_its_101_comes_first() {
    let front = Front::open();
    let mut client = front.client_with(upgrade(""));
    let (mut backend, _) = front.stub.request();
    let large = frame(0x82, &vec![5; 200_000]);
    let down = [shapes(frame), large].concat();
    let all = [switching("").into_bytes(), down.clone()].concat();
    let writer = std::thread::spawn(move || {
        backend.send(all);
        backend
    });
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert!(client.exactly(down.len()) == down);
    drop(writer.join().unwrap());
}

/// Writes into one frame until its reader's side takes nothing for a second; says what was written.
fn fill(writer: &mut Raw, head: Vec<u8>) -> Vec<u8> {
    let mut written = head;
    writer.send(&written);
    writer.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut next = 0_u32;
    while written.len() < 256 << 20 {
        let chunk: Vec<u8> = (0..16_384).flat_map(|n| (next + n).to_le_bytes()).collect();
        next += 16_384;
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            match writer.0.write(rest) {
                Ok(count) => {
                    written.extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                }
                Err(_) => return written,
            }
        }
    }
    panic!("no backpressure within 256 MiB")
}

#[test]
fn a_slow_reader_stops_its_sender_and_costs_no_memory() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let before = rss(&front);
    let down = fill(&mut backend, header(0x82, 1 << 40, false));
    let up = fill(&mut client, [&header(0x82, 1 << 40, true)[..], &[0; 4]].concat());
    let grown = rss(&front).saturating_sub(before);
    assert!(
        grown < 4096,
        "{grown} KiB more while {} bytes waited",
        down.len() + up.len()
    );
    assert!(client.exactly(down.len()) == down, "down");
    assert!(backend.exactly(up.len()) == up, "up");
}

#[test]
fn many_small_frames_to_a_slow_reader_cost_no_memory_either() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let before = rss(&front);
    let piece = frame(0x82, &[6; 60_000]);
    backend.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    'full: loop {
        let mut at = 0;
        while at < piece.len() {
            match backend.0.write(&piece[at..]) {
                Ok(count) => (at, written) = (at + count, written + count),
                Err(_) => break 'full,
            }
        }
        assert!(written < 256 << 20, "no backpressure");
    }
    let grown = rss(&front).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB more while {written} bytes waited");
    for _ in 0..written / piece.len() {
        assert!(client.exactly(piece.len()) == piece);
    }
}

#[test]
fn a_half_closed_client_still_hears_the_rest() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    client.send(masked(0x81, b"last"));
    client.fin();
    assert_eq!(backend.frame(), (0x81, b"last".to_vec()));
    assert_eq!(backend.rest(), b"", "the FIN is passed on");
    backend.send(frame(0x81, b"after your FIN"));
    assert_eq!(client.frame(), (0x81, b"after your FIN".to_vec()));
    drop(backend);
    assert_eq!(client.rest(), b"");
    front.closed("client");
}

#[test]
fn a_client_that_is_reset_takes_its_backend_connection_with_it() {
    let front = Front::open();
    let (client, mut backend) = front.relayed("", "");
    client.reset();
    assert_eq!(backend.rest_or_reset(), b"");
    front.closed("client_lost");
}

#[test]
fn the_end_of_an_orderly_close_is_not_destroyed_by_what_the_client_still_sends() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    client.send(masked(0x81, b"hi"));
    assert_eq!(backend.frame(), (0x81, b"hi".to_vec()));
    let last = frame(0x82, &vec![8; 300_000]);
    backend.send([&last[..], &frame(0x88, &close(1000, "done"))].concat());
    backend.fin();
    assert_eq!(backend.rest(), b"", "greenroom has all of it, and ends its side");
    client.try_send(masked(0x82, &[1; 50_000]));
    client.try_send(masked(0x82, &[2; 50_000]));
    assert!(client.exactly(last.len()) == last);
    assert_eq!(client.close_frame(), (1000, "done".to_owned()));
    assert_eq!(client.rest(), b"");
}

/// A Close of greenroom's own: 1012, and when to come back.
fn restart(client: &mut Raw) {
    let (code, reason) = client.close_frame();
    assert_eq!(code, 1012, "{reason}");
    let ms: u32 = reason.strip_prefix("retry-after-ms=").unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&ms), "{reason}");
    client.send(masked(0x88, &close(1012, "")));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_backend_that_dies_within_a_frame_of_up_to_64_kib_leaves_whole_frames_and_1012() {
    let front = Front::open();
    for (size, sent) in [(60_000, 59_999), (65_000, 1), (10, 0)] {
        let (mut client, mut backend) = front.relayed("", "");
        let whole = shapes(frame);
        backend.send([whole.clone(), header(0x82, size, false), vec![0; sent]].concat());
        drop(backend);
        assert_eq!(client.exactly(whole.len()), whole);
        restart(&mut client);
        front.closed("backend_lost");
    }
}

#[test]
fn a_backend_that_dies_within_a_larger_frame_cuts_its_client() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let begun = [header(0x82, 100_000, false), vec![3; 50_000]].concat();
    backend.send(&begun);
    assert!(client.exactly(begun.len()) == begun, "it cuts through");
    drop(backend);
    assert_eq!(client.rest_or_reset(), b"", "no Close inside of a frame");
    front.closed("lost_mid_frame");
}

#[test]
fn a_backend_that_goes_away_is_1012_to_the_client_however_it_says_so() {
    let front = Front::open();
    for code in [1001, 1012, 1013] {
        let (mut client, mut backend) = front.relayed("", "");
        backend.send([frame(0x81, b"last"), frame(0x88, &close(code, "internals: 10.0.0.7"))].concat());
        assert_eq!(client.frame(), (0x81, b"last".to_vec()));
        restart(&mut client);
        drop(backend);
        // Code 1012 says that it restarts: the next client is let in when it is found again.
    }
    let (mut client, backend) = front.relayed("", "");
    backend.reset();
    restart(&mut client);
    front.closed("backend_lost");
}

#[test]
fn clients_of_a_lost_backend_are_not_closed_all_at_once() {
    let front = Front::open();
    let pairs: Vec<_> = (0..20).map(|_| front.relayed("", "")).collect();
    let (mut clients, backends): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    drop(backends);
    clients.iter_mut().for_each(restart);
    for session in 2..22 {
        let its = |event: &serde_json::Value| event["event"] == "closed" && event["session"] == session;
        let event = front.greenroom.wait_for(its, SOON);
        assert_eq!(event["cause"], "backend_lost", "{event}");
        let lasted = event["lasted_ms"].as_u64().unwrap();
        assert!(lasted >= 1000, "not in its first second: {event}");
    }
}
