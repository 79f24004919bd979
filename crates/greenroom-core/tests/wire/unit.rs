//! Hand-made frames: one per violation, and the answers a relay acts on.

use super::property::frame;
use super::split::check_split;
use greenroom_core::wire::{CloseCode, CloseSeen, Scan, Scanner, Sender, Stop, Violation};
use std::collections::BTreeSet;

#[test]
fn a_scanner_is_at_most_40_bytes() {
    assert!(size_of::<Scanner>() <= 40, "{}", size_of::<Scanner>());
}

/// (what, sender, RSV1 agreed, legal frames before, the bad frame's bytes up to the one that shows it)
type Case = (Violation, Sender, bool, &'static [u8], &'static [u8]);

const CASES: &[Case] = {
    use Sender::{Backend, Client};
    use Violation as V;
    &[
        (V::Reserved, Backend, true, b"", b"\xa2"),
        (V::Reserved, Backend, true, b"\x82\x00", b"\x92"),
        (V::Reserved, Client, false, b"", b"\xf3"),
        (V::Rsv1NotAgreed, Backend, false, b"\x89\x00", b"\xc2"),
        (V::Rsv1NotAgreed, Backend, false, b"", b"\xc9"),
        (V::Rsv1Misplaced, Backend, true, b"", b"\xc8"),
        (V::Rsv1Misplaced, Backend, true, b"", b"\xc9"),
        (V::Rsv1Misplaced, Backend, true, b"\x42\x01x", b"\xc0"),
        (V::Opcode, Backend, false, b"", b"\x83"),
        (V::Opcode, Backend, false, b"\x02\x00", b"\x87"),
        (V::Opcode, Backend, false, b"", b"\x8b"),
        (V::Opcode, Client, false, b"", b"\x8f"),
        (V::ControlFragmented, Backend, false, b"", b"\x08"),
        (V::ControlFragmented, Backend, false, b"\x02\x00", b"\x09"),
        (V::ControlFragmented, Client, false, b"", b"\x0a"),
        (V::NothingToContinue, Backend, false, b"", b"\x80"),
        (V::NothingToContinue, Backend, false, b"\x02\x00\x80\x00", b"\x00"),
        (V::MessageInMessage, Backend, false, b"\x02\x00", b"\x82"),
        (
            V::MessageInMessage,
            Backend,
            false,
            b"\x01\x00\x00\x00\x89\x00",
            b"\x01",
        ),
        (V::Unmasked, Client, false, b"\x82\x80\0\0\0\0", b"\x82\x00"),
        (V::Unmasked, Client, false, b"", b"\x88\x02"),
        (V::Masked, Backend, false, b"\x82\x01x", b"\x82\x80"),
        (V::Masked, Backend, false, b"", b"\x88\xff"),
        (V::ControlTooLong, Backend, false, b"", b"\x89\x7e"),
        (V::ControlTooLong, Backend, false, b"", b"\x8a\x7f"),
        (V::ControlTooLong, Client, false, b"", b"\x88\xfe"),
        (V::CloseHalfCode, Backend, false, b"\x82\x01x", b"\x88\x01"),
        (V::CloseHalfCode, Client, false, b"", b"\x88\x81"),
        (V::CloseBadCode, Backend, false, b"", b"\x88\x02\x03\xed"), // 1005
        (V::CloseBadCode, Backend, false, b"\x8a\x00", b"\x88\x7d\x00\x00"),
        (V::CloseBadCode, Client, false, b"", b"\x88\x82\x10\x20\x30\x40\x13\xc7"), // 999
        (V::LengthSign, Backend, false, b"", b"\x82\x7f\x80"),
        (V::LengthSign, Client, false, b"", b"\x82\xff\xff"),
    ]
};

#[test]
fn every_violation_shows_at_its_byte_and_none_of_its_frame_is_passed() {
    let mut seen = BTreeSet::new();
    for &(violation, sender, rsv1, before, bad) in CASES {
        let what = format!("{violation} {sender:?} {before:02x?} {bad:02x?}");
        let bytes = [before, bad, &[0; 20]].concat();
        let whole = Scanner::new(sender, rsv1).scan(&bytes);
        assert_eq!(whole.stop, Some(Stop::Violation(violation)), "{what}");
        assert_eq!((whole.consumed, whole.boundary), (before.len(), before.len()), "{what}");
        check_split(sender, rsv1, &bytes, &[before.len(), 1]);

        // One byte earlier nobody could know, and the scanner says how much may turn out bad.
        let mut scanner = Scanner::new(sender, rsv1);
        let known = before.len() + bad.len() - 1;
        assert_eq!(scanner.scan(&bytes[..known]).stop, None, "{what}");
        assert_eq!(scanner.unjudged(), bad.len() - 1, "{what}");
        let last = scanner.scan(&bytes[known..]);
        assert_eq!(
            last,
            Scan {
                stop: Some(Stop::Violation(violation)),
                ..Scan::default()
            },
            "{what}"
        );
        assert_eq!(scanner.unjudged(), bad.len() - 1, "{what}");
        assert_eq!(scanner.at_frame_boundary(), bad.len() == 1, "{what}");
        seen.insert(violation);
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        Violation::ALL,
        "a violation has no case"
    );
}

#[test]
fn violations_have_words_of_their_own() {
    let words: BTreeSet<_> = Violation::ALL.iter().map(|v| v.word()).collect();
    assert_eq!(words.len(), Violation::ALL.len());
}

#[test]
fn every_close_code_is_judged_as_the_rfc_says_masked_or_not() {
    for code in 0..=u16::MAX {
        for sender in [Sender::Client, Sender::Backend] {
            let scan = Scanner::new(sender, false).scan(&frame(sender, 0x88, &code.to_be_bytes()));
            let expected = match CloseCode::new(code) {
                Some(code) => Stop::Close(CloseSeen { code: Some(code) }),
                None => Stop::Violation(Violation::CloseBadCode),
            };
            assert_eq!(scan.stop, Some(expected), "{code} {sender:?}");
        }
    }
}

#[test]
fn a_close_stops_at_its_last_byte_not_at_its_code() {
    let close = frame(Sender::Backend, 0x88, b"\x03\xe8bye");
    let bytes = [&b"\x82\x01x"[..], &close, b"\x82\x00"].concat();
    let mut scanner = Scanner::new(Sender::Backend, false);
    let all_but_one = scanner.scan(&bytes[..3 + close.len() - 1]);
    assert_eq!(
        (all_but_one.stop, all_but_one.boundary, scanner.frame_left()),
        (None, 3, 1)
    );
    assert!(!scanner.at_frame_boundary());
    let rest = scanner.scan(&bytes[3 + close.len() - 1..]);
    assert_eq!((rest.consumed, rest.boundary), (1, 1));
    assert_eq!(
        rest.stop,
        Some(Stop::Close(CloseSeen {
            code: Some(CloseCode::NORMAL)
        }))
    );
    assert!(scanner.at_frame_boundary());

    let empty = Scanner::new(Sender::Backend, false).scan(b"\x88\x00\x82");
    assert_eq!(
        (empty.consumed, empty.stop),
        (2, Some(Stop::Close(CloseSeen { code: None })))
    );
}

#[test]
fn a_message_boundary_is_not_between_fragments() {
    let mut scanner = Scanner::new(Sender::Backend, false);
    assert!(scanner.at_frame_boundary() && scanner.at_message_boundary());
    for (bytes, frame, message) in [
        (&b"\x02"[..], false, false),
        (b"\x01", false, false),
        (b"x", true, false),
        (b"\x89", false, false),
        (b"\x00", true, false),
        (b"\x80\x00", true, true),
    ] {
        scanner.scan(bytes);
        assert_eq!(
            (scanner.at_frame_boundary(), scanner.at_message_boundary()),
            (frame, message),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn the_length_is_known_with_the_header_and_counts_down() {
    let mut scanner = Scanner::new(Sender::Client, false);
    scanner.scan(b"\x82\xfe\x01\x00\0\0\0");
    assert_eq!(
        (scanner.frame_len(), scanner.frame_left(), scanner.unjudged()),
        (None, 0, 7)
    );
    assert!(scanner.scan(b"\0").data);
    assert_eq!(
        (scanner.frame_len(), scanner.frame_left(), scanner.unjudged()),
        (Some(8 + 256), 256, 0)
    );
    scanner.scan(&[0; 100]);
    assert_eq!((scanner.frame_len(), scanner.frame_left()), (Some(8 + 256), 156));
    assert_eq!(scanner.scan(&[0; 156]).boundary, 156);
    assert_eq!((scanner.frame_len(), scanner.frame_left()), (None, 0));
}

#[test]
fn the_greatest_length_is_only_counted() {
    let mut scanner = Scanner::new(Sender::Client, false);
    let scan = scanner.scan(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0abc");
    assert_eq!((scan.consumed, scan.stop), (17, None));
    assert_eq!(scanner.frame_len(), Some(i64::MAX as u64 + 14));
    assert_eq!(scanner.frame_left(), i64::MAX as u64 - 3);
}

#[test]
fn a_longer_length_form_than_needed_passes_in_data_frames() {
    for bytes in [
        &b"\x82\x7e\x00\x01x"[..],
        b"\x82\x7e\x00\x00",
        b"\x82\x7f\0\0\0\0\0\0\x00\x02xy",
    ] {
        let story = check_split(Sender::Backend, false, bytes, &[3]);
        assert_eq!(
            (story.boundary, story.messages, story.stop),
            (bytes.len(), 1, None),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn pings_and_pongs_are_counted_between_fragments() {
    let scan =
        Scanner::new(Sender::Backend, true).scan(b"\x41\x01a\x89\x01p\x8a\x00\x8a\x00\x00\x01b\x80\x00\x82\x05x");
    let expected = Scan {
        consumed: 18,
        boundary: 15,
        frames: 6,
        messages: 1,
        pings: 1,
        pongs: 2,
        message_end: 15,
        data: true,
        close_len: 0,
        stop: None,
    };
    assert_eq!(scan, expected);
}

#[test]
fn only_a_data_frame_counts_as_data() {
    let mut scanner = Scanner::new(Sender::Backend, false);
    assert!(
        !scanner.scan(b"\x89\x00\x8a\x01x\x82").data,
        "a header that is not complete is no frame yet"
    );
    assert!(scanner.scan(b"\x02").data);
    assert!(!scanner.scan(b"xy\x88\x00").data, "it began before");
}
