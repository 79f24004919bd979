//! Every first byte in every state, and every second byte for each kind of frame, as
//! tables that a reviewer can read: a change of a verdict shows in the snapshot.

use greenroom_core::wire::{Scanner, Sender, Stop};
use std::fmt::Write as _;

/// States between frames: no message open, and inside a fragmented message.
const STATES: [(&str, &[u8]); 2] = [("no message open", b""), ("message open", b"\x02\x00")];

/// The verdict on `bytes` after `before`, in words.
fn verdict(sender: Sender, rsv1: bool, before: &[u8], bytes: &[u8]) -> String {
    let mut scanner = Scanner::new(sender, rsv1);
    assert_eq!(scanner.scan(before).stop, None);
    let scan = scanner.scan(bytes);
    match (scan.stop, scanner.frame_len()) {
        (Some(Stop::Violation(violation)), _) => violation.to_string(),
        (Some(Stop::Close(_)), _) => "whole close".into(),
        (None, Some(len)) => format!("in a frame of {len}"),
        (None, None) if scan.frames > 0 && scanner.at_message_boundary() => "whole, no message open".into(),
        (None, None) if scan.frames > 0 => "whole, message open".into(),
        (None, None) => "more".into(),
    }
}

/// First bytes in classes: FIN × RSV × opcode.
fn classes() -> Vec<(String, Vec<u8>)> {
    let opcodes = [
        ("continuation", 0..=0),
        ("text", 1..=1),
        ("binary", 2..=2),
        ("3 to 7", 3..=7),
        ("close", 8..=8),
        ("ping", 9..=9),
        ("pong", 10..=10),
        ("11 to 15", 11..=15),
    ];
    let mut classes = Vec::new();
    for (rsv, bits) in [
        ("", &[0x00][..]),
        ("rsv1 ", &[0x40]),
        ("rsv2,3 ", &[0x10, 0x20, 0x30, 0x50, 0x60, 0x70]),
    ] {
        for (name, range) in &opcodes {
            for (fin, fin_bit) in [("", 0x00), ("fin ", 0x80)] {
                let bytes = range
                    .clone()
                    .flat_map(|op| bits.iter().map(move |bit| fin_bit | bit | op))
                    .collect();
                classes.push((format!("{fin}{rsv}{name}"), bytes));
            }
        }
    }
    assert_eq!(
        classes
            .iter()
            .map(|(_, bytes): &(_, Vec<u8>)| bytes.len())
            .sum::<usize>(),
        256
    );
    classes
}

#[test]
fn verdicts_on_every_first_byte() {
    let mut table = format!("{:<24}", "first byte");
    for (state, _) in STATES {
        write!(table, "{:<24}{:<24}", state, format!("{state}, rsv1")).unwrap();
    }
    for (class, firsts) in classes() {
        write!(table, "\n{class:<24}").unwrap();
        for (_, before) in STATES {
            for rsv1 in [false, true] {
                // An empty frame of the backend, so that the state after it shows.
                let of = |&first: &u8| verdict(Sender::Backend, rsv1, before, &[first, 0]);
                let word = of(&firsts[0]);
                assert!(firsts.iter().all(|first| of(first) == word), "{class} is no class");
                write!(table, "{word:<24}").unwrap();
            }
        }
    }
    let table: Vec<_> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn verdicts_on_every_second_byte() {
    let lengths = [
        ("0", 0..=0),
        ("1", 1..=1),
        ("2 to 125", 2..=125),
        ("126", 126..=126),
        ("127", 127..=127),
    ];
    let mut table = format!("{:<20}{:<12}", "sender, mask", "length");
    for kind in ["data", "close", "ping", "pong"] {
        write!(table, "{kind:<24}").unwrap();
    }
    for sender in [Sender::Client, Sender::Backend] {
        for (mask, bit) in [("unmasked", 0x00), ("masked", 0x80)] {
            for (length, range) in &lengths {
                write!(table, "\n{:<20}{length:<12}", format!("{sender:?}, {mask}")).unwrap();
                for first in [0x82, 0x88, 0x89, 0x8a] {
                    let of =
                        |second: u8| verdict(sender, false, b"", &[first, bit | second]).replace(char::is_numeric, "");
                    let word = of(*range.start());
                    assert!(range.clone().all(|second| of(second) == word), "{length} is no class");
                    write!(table, "{:<24}", word.trim_end_matches(" of ")).unwrap();
                }
            }
        }
    }
    let table: Vec<_> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(table.join("\n"));
}
