//! Broken protocol on the wire: attacks A34 to A37. 1002 to the offender, 1001 to the other side, and the ledger says whose fault it was.
//!
//! Every case runs through the program, with a legal frame before it that must
//! pass whole, and nothing of the bad frame behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::raw::{Front, Raw, SOON, close, frame, header, masked, nobody, serve, upgrade};

/// The bad bytes, and greenroom's word for what is wrong with them.
type Case = (Vec<u8>, &'static str);

/// The same rules hold for both sides; only the mask differs.
fn cases(framed: fn(u8, &[u8]) -> Vec<u8>, is_masked: bool) -> Vec<Case> {
    let mut cases = vec![
        // A35
        (framed(0xc1, b"rsv1"), "rsv1_not_agreed"),
        (framed(0xa1, b"rsv2"), "reserved_bits"),
        (framed(0x91, b"rsv3"), "reserved_bits"),
        (framed(0xf1, b"all"), "reserved_bits"),
        (framed(0x83, b"op"), "reserved_opcode"),
        (framed(0x87, b"op"), "reserved_opcode"),
        (framed(0x8b, b"op"), "reserved_opcode"),
        (framed(0x8f, b"op"), "reserved_opcode"),
        (framed(0x80, b"of nothing"), "nothing_to_continue"),
        ([framed(0x01, b"a"), framed(0x81, b"b")].concat(), "message_in_message"),
        // A36
        (framed(0x09, b"half a ping"), "control_fragmented"),
        (framed(0x0a, b"half a pong"), "control_fragmented"),
        (framed(0x08, b""), "control_fragmented"),
        (framed(0x89, &[0; 126]), "control_too_long"),
        (header(0x89, 1 << 40, is_masked), "control_too_long"),
        (framed(0x88, &close(1000, &"x".repeat(124))), "control_too_long"),
        // A37
        (framed(0x88, b"x"), "close_half_code"),
        // A33
        (header(0x82, 1 << 63, is_masked), "length_sign"),
        (header(0x82, u64::MAX, is_masked), "length_sign"),
    ];
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        cases.push((framed(0x88, &close(code, "")), "close_bad_code"));
    }
    cases
}

/// A34, A35, A36, A37 of a client: 1002 to it, 1001 to the backend.
#[test]
fn a34_a35_a36_a37_a_clients_violation_is_1002_to_it_and_1001_to_the_backend() {
    let front = Front::open();
    let mut cases = cases(masked, true);
    cases.push((frame(0x81, b"not masked"), "unmasked"));
    cases.push((frame(0x88, &close(1000, "")), "unmasked"));
    for (bad, word) in cases {
        let (mut client, mut backend) = front.relayed("", "");
        let from = front.greenroom.events().len();
        client.send([masked(0x81, b"good"), bad].concat());
        assert_eq!(client.close_frame().0, 1002, "{word}");
        assert_eq!(backend.frame(), (0x81, b"good".to_vec()), "{word}");
        let (first, payload) = backend.frame();
        if word == "message_in_message" {
            assert_eq!((first, &payload[..]), (0x01, &b"a"[..]));
            assert_eq!(backend.close_frame().0, 1001);
        } else {
            assert_eq!((first, payload), (0x88, close(1001, "")), "{word}");
        }
        assert_eq!(backend.rest(), b"", "{word}");
        drop(client);
        let closed = |event: &serde_json::Value| event["cause"] == "client_violation" && event["detail"] == word;
        front.greenroom.wait_for_from(from, closed, SOON);
    }
}

/// A34, A35, A36, A37 of a client that was accepted: 1002, at once, whatever was kept of it before.
#[test]
fn a34_a35_a36_a37_an_accepted_clients_violation_is_1002() {
    let greenroom = serve(&nobody(), &["--hold", "accept"]);
    let address = greenroom.address();
    let mut cases = cases(masked, true);
    cases.push((frame(0x81, b"not masked"), "unmasked"));
    cases.push((frame(0x88, &close(1000, "")), "unmasked"));
    for (bad, word) in cases {
        for by_bytes in [false, true] {
            let mut client = Raw::connect(&address);
            client.send(upgrade(""));
            assert!(client.head().starts_with("HTTP/1.1 101 "));
            let from = greenroom.events().len();
            client.send(masked(0x81, b"good"));
            if by_bytes {
                bad.iter().take_while(|byte| client.try_send([**byte])).count();
            } else {
                client.send(&bad);
            }
            assert_eq!(client.frame(), (0x88, close(1002, "")), "{word}");
            drop(client);
            let closed = |event: &serde_json::Value| event["cause"] == "client_violation" && event["detail"] == word;
            greenroom.wait_for_from(from, closed, SOON);
        }
    }
}

/// A34, A35, A36, A37 of a backend: 1002 to it, 1001 to the client.
#[test]
fn a34_a35_a36_a37_a_backends_violation_is_1002_to_it_and_1001_to_the_client() {
    let front = Front::open();
    let mut cases = cases(frame, false);
    cases.push((masked(0x81, b"masked"), "masked"));
    for (bad, word) in cases {
        let (mut client, mut backend) = front.relayed("", "");
        let from = front.greenroom.events().len();
        backend.send([frame(0x81, b"good"), bad].concat());
        assert_eq!(backend.close_frame().0, 1002, "{word}");
        assert_eq!(client.frame(), (0x81, b"good".to_vec()), "{word}");
        if word == "message_in_message" {
            assert_eq!(client.frame(), (0x01, b"a".to_vec()));
        }
        assert_eq!(client.close_frame().0, 1001, "{word}");
        client.send(masked(0x88, &close(1001, "")));
        assert_eq!(client.rest(), b"", "{word}");
        let closed = |event: &serde_json::Value| event["cause"] == "backend_violation" && event["detail"] == word;
        front.greenroom.wait_for_from(from, closed, SOON);
    }
}

/// A34. Split at every byte, a bad frame is still seen before a byte of it passes to the client.
#[test]
fn a34_a_bad_frame_that_comes_a_byte_at_a_time_never_reaches_the_client() {
    let front = Front::open();
    for (bad, word) in cases(frame, false) {
        let (mut client, mut backend) = front.relayed("", "");
        backend.send(frame(0x82, &[7; 200]));
        for byte in bad {
            if !backend.try_send([byte]) {
                break; // judged already
            }
        }
        assert_eq!(client.frame(), (0x82, vec![7; 200]), "{word}");
        if word == "message_in_message" {
            assert_eq!(client.frame(), (0x01, b"a".to_vec()));
        }
        assert_eq!(client.close_frame().0, 1001, "{word}");
    }
}

/// A35. A bad frame right behind a large one that cuts through: the large one is whole, and there is a Close.
#[test]
fn a35_a_violation_behind_a_large_frame_still_ends_with_a_close() {
    let front = Front::open();
    for size in [65_000, 65_530, 65_540, 100_000, 1_000_000] {
        let (mut client, mut backend) = front.relayed("", "");
        let large = frame(0x82, &vec![9; size]);
        let reader = std::thread::spawn(move || {
            let whole = client.frame();
            (whole, client.close_frame().0)
        });
        backend.send([&large[..], &frame(0x83, b"bad")].concat());
        let (whole, code) = reader.join().unwrap();
        assert!(whole == (0x82, vec![9; size]), "{size}");
        assert_eq!(code, 1001, "{size}");
        assert_eq!(backend.close_frame().0, 1002, "{size}");
    }
}

/// A35. RSV1 passes where permessage-deflate was agreed, on the first frame of a data message only.
#[test]
fn a35_rsv1_passes_only_as_negotiated() {
    let front = Front::open();
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (mut client, mut backend) = front.relayed(deflate, deflate);
    client.send([masked(0x41, b"zip"), masked(0x80, b"ped")].concat());
    assert_eq!(
        (backend.frame(), backend.frame()),
        ((0x41, b"zip".to_vec()), (0x80, b"ped".to_vec()))
    );
    backend.send(frame(0xc2, b"zipped"));
    assert_eq!(client.frame(), (0xc2, b"zipped".to_vec()));
    client.send(masked(0xc9, b"a ping is never"));
    assert_eq!(client.close_frame().0, 1002);

    let (mut client, _backend) = front.relayed(deflate, "");
    client.send(masked(0xc1, b"offered, not agreed"));
    assert_eq!(client.close_frame().0, 1002);
}

/// A36. A flood of pings is the backend's to answer: each passes once, nothing is kept, the program stays.
#[test]
fn a36_a_flood_of_pings_passes_verbatim() {
    let front = Front::open();
    let (mut client, mut backend) = front.relayed("", "");
    let pings = masked(0x89, b"ping").repeat(100_000);
    let expected = pings.clone();
    let writer = std::thread::spawn(move || {
        client.send(&pings);
        client
    });
    assert!(backend.exactly(expected.len()) == expected);
    let mut client = writer.join().unwrap();
    backend.send(frame(0x8a, b"ping"));
    assert_eq!(client.frame(), (0x8a, b"ping".to_vec()));
}

/// A37. Legal Closes pass as they are, in both directions, with their reasons, and end the connection.
#[test]
fn a37_a_legal_close_passes_as_it_is() {
    let front = Front::open();
    for code in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 4001, 4999] {
        let (mut client, mut backend) = front.relayed("", "");
        backend.send(frame(0x88, &close(code, "the reason")));
        assert_eq!(client.close_frame(), (code, "the reason".to_owned()));
        client.send(masked(0x88, &close(code, "")));
        assert_eq!(backend.close_frame().0, code);
        drop(backend);
        assert_eq!(client.rest(), b"", "{code}");
        front.closed("backend");

        let (mut client, mut backend) = front.relayed("", "");
        client.send(masked(0x88, &close(code, "goodbye")));
        assert_eq!(backend.close_frame(), (code, "goodbye".to_owned()));
        backend.send(frame(0x88, &close(code, "")));
        assert_eq!(client.close_frame().0, code);
        drop(backend);
        assert_eq!(client.rest(), b"", "{code}");
        front.closed("client");
    }
    let (mut client, mut backend) = front.relayed("", "");
    backend.send(frame(0x88, b""));
    assert_eq!(
        client.close_frame().0,
        1005,
        "a Close without a code has none behind greenroom"
    );
    client.send(masked(0x88, b""));
    assert_eq!(backend.close_frame().0, 1005);
}
