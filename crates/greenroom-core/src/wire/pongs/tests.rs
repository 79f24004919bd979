//! Own Pongs are taken out of a stream at any split, and nothing else is.

use super::super::{ping_frame, pong_frame};
use super::*;
use proptest::prelude::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SEED: u64 = 0x0123_4567_89ab_cdef;

/// The key that this side's frames have.
fn mask(sender: Sender) -> Option<[u8; 4]> {
    match sender {
        Sender::Client => Some(KEY),
        Sender::Backend => None,
    }
}

fn own(sender: Sender) -> OwnPongs {
    OwnPongs::new(Scanner::new(sender, false), sender, SEED)
}

fn pong(sender: Sender, payload: &[u8]) -> Vec<u8> {
    pong_frame(payload, mask(sender)).unwrap().to_vec()
}

/// A frame of this first byte.
fn frame(sender: Sender, first: u8, payload: &[u8]) -> Vec<u8> {
    let bit = if sender == Sender::Client { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        short @ ..=125 => out.push(bit | short as u8),
        middle => {
            out.push(bit | 126);
            out.extend((middle as u16).to_be_bytes());
        }
    }
    let key = mask(sender);
    out.extend(key.iter().flatten());
    let key = key.unwrap_or_default();
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// What passes of pieces, each read behind what was held.
fn passes<'a>(pongs: &mut OwnPongs, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, u32) {
    let (mut passed, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut bytes = [pongs.held(), piece].concat();
        let out = pongs.take_out(&mut bytes);
        passed.extend_from_slice(&bytes[..out.len]);
        taken += out.pongs;
    }
    (passed, taken)
}

#[test]
fn its_own_pong_is_taken_out_at_any_split_and_all_else_passes() {
    for sender in [Sender::Client, Sender::Backend] {
        let payload = own(sender).ping();
        let before = frame(sender, 0x81, b"before");
        let behind = [frame(sender, 0x82, &[9; 300]), pong(sender, b"theirs")].concat();
        let all = [before.clone(), pong(sender, &payload), behind.clone()].concat();
        for at in 0..all.len() {
            for second in [at, (at + 1).min(all.len()), (at + 7).min(all.len())] {
                let mut pongs = own(sender);
                pongs.ping();
                let pieces = [&all[..at], &all[at..second], &all[second..]];
                let (passed, taken) = passes(&mut pongs, pieces);
                assert_eq!((taken, pongs.is_waiting()), (1, false), "{sender:?} {at}");
                assert_eq!(passed, [&before[..], &behind[..]].concat(), "{sender:?} {at}");
                assert_eq!(pongs.held(), b"");
            }
        }
    }
}

#[test]
fn what_only_looks_like_it_passes() {
    for sender in [Sender::Client, Sender::Backend] {
        let mut pongs = own(sender);
        let payload = pongs.ping();
        let mut other = payload;
        other[0] ^= 1;
        let mut later = payload;
        later[7] += 1; // a Ping that was not sent
        let all = [
            pong(sender, b""),
            pong(sender, &payload[..7]),
            pong(sender, &[&payload[..], b"x"].concat()),
            pong(sender, &other),
            pong(sender, &later),
            frame(sender, 0x89, &payload),                // a Ping
            frame(sender, 0x82, &pong(sender, &payload)), // inside of a message
            frame(sender, 0x02, &payload),
            frame(sender, 0x80, &payload),
        ]
        .concat();
        let (passed, taken) = passes(&mut pongs, all.chunks(1));
        assert_eq!((taken, passed), (0, all), "{sender:?}");
        assert!(pongs.is_waiting());
        // Between the fragments of a message it may stand.
        let begun = frame(sender, 0x01, b"be");
        let (passed, taken) = passes(&mut pongs, [&begun[..], &pong(sender, &payload)]);
        assert_eq!((taken, passed), (1, begun));
    }
}

#[test]
fn the_answer_to_a_ping_counts_for_those_before_it_and_is_taken_out_once() {
    let mut pongs = own(Sender::Client);
    let [first, second, third] = [pongs.ping(), pongs.ping(), pongs.ping()];
    assert_ne!(first, second);
    let mut bytes = pong(Sender::Client, &second);
    let out = pongs.take_out(&mut bytes);
    assert_eq!((out.len, out.pongs, out.is_last), (0, 1, false));
    let again = [pong(Sender::Client, &first), pong(Sender::Client, &second)].concat();
    assert_eq!(passes(&mut pongs, [&again[..]]), (again, 0));
    let mut bytes = pong(Sender::Client, &third);
    assert!(pongs.take_out(&mut bytes).is_last && !pongs.is_waiting());
}

#[test]
fn the_stream_is_followed_on_behind_the_last_answer() {
    let mut pongs = own(Sender::Client);
    let [begun, ended, next] = [(0x01, b"be"), (0x80, b"en"), (0x82, b"ne")].map(|(first, payload)| {
        frame(Sender::Client, first, payload) // two fragments of one message, and another message
    });
    let all = [&begun[..], &pong(Sender::Client, &pongs.ping()), &ended[..4]].concat();
    assert_eq!(passes(&mut pongs, [&all[..]]).1, 1);
    let all = [&ended[4..], &next[..], &pong(Sender::Client, &pongs.ping())].concat();
    let expected = [&ended[4..], &next[..]].concat();
    assert_eq!(passes(&mut pongs, all.chunks(1)), (expected, 1));
}

#[test]
fn numbers_go_round() {
    let mut pongs = own(Sender::Client);
    let mut last = [0; 8];
    for _ in 0..=u16::MAX {
        last = pongs.ping();
        let mut bytes = pong(Sender::Client, &last);
        assert_eq!(pongs.take_out(&mut bytes).pongs, 1);
    }
    let next = pongs.ping();
    assert_ne!(next, last);
    assert_eq!(passes(&mut pongs, [&pong(Sender::Client, &next)[..]]).1, 1);
}

#[test]
fn behind_a_violation_or_a_close_everything_passes() {
    for begins in [&b"\x81\x01x"[..], b"\x88\x80\0\0\0\0"] {
        let mut pongs = own(Sender::Client);
        let payload = pongs.ping();
        let all = [begins, &pong(Sender::Client, &payload)].concat();
        assert_eq!(passes(&mut pongs, all.chunks(1)), (all.clone(), 0));
    }
}

#[test]
fn a_stream_is_followed_from_where_it_was_in_the_middle_of_a_frame() {
    let message = frame(Sender::Client, 0x82, &[0; 40]);
    let mut scanner = Scanner::new(Sender::Client, false);
    scanner.scan(&message[..10]);
    let mut pongs = OwnPongs::new(scanner, Sender::Client, SEED);
    let own = pong(Sender::Client, &pongs.ping());
    let rest = [&message[10..], &own[..], &message[..]].concat();
    let expected = [&message[10..], &message[..]].concat();
    assert_eq!(passes(&mut pongs, [&rest[..]]), (expected, 1));
}

#[test]
fn a_ping_carries_what_a_frame_of_its_kind_may() {
    let payload = own(Sender::Client).ping();
    assert_eq!(&ping_frame(&payload, None)[..2], b"\x89\x08");
}

proptest! {
    /// Whatever a peer sends, in whatever pieces: all of it passes, in order, but for the Pongs that were asked for.
    #[test]
    fn nothing_is_lost_but_own_pongs(
        frames in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..12),
        cuts in prop::collection::vec(1..40_usize, 1..50),
        is_client: bool,
    ) {
        let sender = if is_client { Sender::Client } else { Sender::Backend };
        let mut pongs = own(sender);
        let payload = pongs.ping();
        let (mut all, mut expected, mut answered) = (Vec::new(), Vec::new(), 0);
        for (kind, bytes, is_own) in &frames {
            if *is_own {
                all.extend(pong(sender, &payload));
                if answered > 0 {
                    expected.extend(pong(sender, &payload)); // it was asked for once
                }
                answered += 1;
                continue;
            }
            let some = &bytes[..bytes.len().min(125)];
            let one = match kind {
                0 => frame(sender, 0x89, some),
                1 | 2 => frame(sender, 0x8a, some),
                _ => frame(sender, 0x82, bytes),
            };
            all.extend(&one);
            expected.extend(&one);
        }
        let mut pieces = Vec::new();
        let (mut rest, mut turn) = (&all[..], 0);
        while !rest.is_empty() {
            let cut = cuts[turn % cuts.len()].min(rest.len());
            pieces.push(&rest[..cut]);
            rest = &rest[cut..];
            turn += 1;
        }
        let (mut passed, taken) = passes(&mut pongs, pieces);
        passed.extend(pongs.held());
        prop_assert_eq!(taken, answered.min(1));
        prop_assert_eq!(passed, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        for sender in [Sender::Client, Sender::Backend] {
            let mut pongs = own(sender);
            pongs.ping();
            let (passed, taken) = passes(&mut pongs, pieces.iter().map(Vec::as_slice));
            prop_assert_eq!(taken, 0, "nobody guesses the mark");
            prop_assert_eq!([&passed[..], pongs.held()].concat(), pieces.concat());
        }
    }
}
