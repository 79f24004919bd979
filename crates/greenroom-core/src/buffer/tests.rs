//! What an accepted client may send, whole and in any pieces.

use super::*;
use crate::limits::{EARLY_MAX, KIB};
use proptest::prelude::*;

const KEY: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A client's frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]));
    bytes
}

fn early() -> Early {
    Early::new(EARLY_MAX)
}

fn end_of(bytes: &[u8]) -> Option<End> {
    early().take(Time::ZERO, bytes).end
}

#[test]
fn messages_are_kept_as_they_came_and_control_frames_are_not() {
    let (hello, rest) = (frame(0x01, b"hel"), frame(0x80, b"lo"));
    let mut early = early();
    let taken = early.take(
        Time::ZERO,
        &[
            &hello[..],
            &frame(0x89, b"p1"),
            &frame(0x8a, b""),
            &frame(0x89, b"p2"),
            &rest,
        ]
        .concat(),
    );
    assert_eq!(
        taken.pong.as_deref(),
        Some(&b"\x8a\x02p2"[..]),
        "the last ping, unmasked"
    );
    assert!(taken.end.is_none());
    assert_eq!(early.into_bytes(), [hello, rest].concat());
}

#[test]
fn the_frame_in_progress_is_handed_over_with_the_others() {
    let whole = frame(0x82, &[7; 300]);
    let mut early = early();
    assert!(early.take(Time::ZERO, &whole[..20]).end.is_none());
    assert_eq!(early.into_bytes(), &whole[..20]);
}

#[test]
fn a_close_a_violation_and_bad_text_end_it_and_free_what_was_kept() {
    let mut early = early();
    early.take(Time::ZERO, &frame(0x81, b"kept"));
    assert!(early.memory() > 0);
    let taken = early.take(Time::ZERO, &frame(0x88, &[3, 0xe8]));
    let Some(End::Closed(seen)) = taken.end else {
        panic!("{taken:?}");
    };
    assert_eq!(seen.code.map(crate::wire::CloseCode::get), Some(1000));
    assert_eq!((early.memory(), early.kept()), (0, 10), "that much went to nobody");

    assert_eq!(end_of(b"\x81\x01a"), Some(End::Violation(Violation::Unmasked)));
    assert_eq!(
        end_of(&frame(0xc1, b"a")),
        Some(End::Violation(Violation::Rsv1NotAgreed))
    );
    assert_eq!(end_of(&frame(0x83, b"a")), Some(End::Violation(Violation::Opcode)));
    assert_eq!(
        end_of(&frame(0x80, b"a")),
        Some(End::Violation(Violation::NothingToContinue))
    );
    assert_eq!(
        end_of(&frame(0x89, &[0; 126])),
        Some(End::Violation(Violation::ControlTooLong))
    );
    assert_eq!(end_of(&frame(0x81, b"\xff")), Some(End::NotUtf8));
    assert_eq!(end_of(&frame(0x82, b"\xff")), None, "binary is anything");
}

#[test]
fn what_is_forgotten_takes_no_memory_and_a_close_behind_it_is_still_seen() {
    let mut early = early();
    let cut = frame(0x82, &[7; 2_000]);
    early.take(Time::ZERO, &cut[..1_000]);
    early.forget();
    assert_eq!(early.memory(), 0);
    assert!(
        early.closes(&cut[1_000..]).is_none(),
        "the rest of its frame is no Close"
    );
    assert!(early.closes(&frame(0x88, &[3, 0xe8])).is_some());
}

#[test]
fn a_character_may_be_cut_by_a_frame_and_not_by_the_end_of_its_message() {
    let euro = "€".as_bytes();
    let (first, last) = (frame(0x01, &euro[..1]), frame(0x80, &euro[1..]));
    assert_eq!(end_of(&[&first[..], &last].concat()), None);
    assert_eq!(
        end_of(&[&first[..], &frame(0x80, &euro[1..2])].concat()),
        Some(End::NotUtf8)
    );
    assert_eq!(end_of(&frame(0x81, &euro[..2])), Some(End::NotUtf8));
    assert_eq!(
        end_of(&[&first[..], &frame(0x00, b"x")].concat()),
        Some(End::NotUtf8),
        "at once"
    );
    // A binary message that follows knows nothing of it.
    assert_eq!(
        end_of(&[&frame(0x81, euro)[..], &frame(0x02, b"\xff"), &frame(0x80, b"\xff")].concat()),
        None
    );
}

/// A33. A length is nothing but a number to count down.
#[test]
fn a_declared_length_takes_no_memory() {
    let mut early = early();
    let head = [&[0x82, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &KEY].concat();
    assert!(early.take(Time::ZERO, &head).end.is_none());
    assert!(early.memory() <= EARLY_PIECE);
    assert_eq!(end_of(&[0x82, 0xff, 0x80]), Some(End::Violation(Violation::LengthSign)));
}

#[test]
fn room_ends_at_the_limit_of_bytes_and_of_frames() {
    let mut early = Early::new(10);
    assert!(early.take(Time::ZERO, &frame(0x82, b"abcd")[..10]).end.is_none());
    assert_eq!((early.room(), early.memory()), (0, 10));
    let mut early = self::early();
    for _ in 0..EARLY_FRAMES_MAX {
        assert!(early.room() > 0);
        early.take(Time::ZERO, &frame(0x82, b""));
    }
    assert_eq!(early.room(), 0);
}

/// A32. Whoever sends more frames than are kept, in as few reads as may be, has no more of them kept.
#[test]
fn a32_a_flood_of_small_frames_ends_at_the_limit_of_frames() {
    for (first, next, payload) in [(0x82, 0x82, 0), (0x01, 0x00, 0), (0x02, 0x00, 1), (0x82, 0x82, 200)] {
        let flood = [
            frame(first, &vec![b'a'; payload]),
            frame(next, &vec![b'a'; payload]).repeat(2 * EARLY_FRAMES_MAX),
        ];
        let flood = flood.concat();
        let (mut early, mut rest) = (Early::new(16 * 1024 * KIB), &flood[..]);
        let mut reads = 0;
        while early.room() > 0 {
            let (piece, behind) = rest.split_at(early.takes(rest).all);
            assert!(early.take(Time::ZERO, piece).end.is_none());
            (rest, reads) = (behind, reads + 1);
        }
        assert_eq!(early.takes(rest), Takes::default());
        assert_eq!(early.frames, EARLY_FRAMES_MAX, "{payload}");
        assert_eq!(reads, 1);
        assert!(early.into_bytes().len() <= EARLY_FRAMES_MAX * (payload + 8));
    }
}

/// A36. The thousandth ping of a second is answered, one more ends it; a second later all is forgotten.
#[test]
fn pings_are_counted_by_the_second() {
    let ping = frame(0x89, b"x");
    let mut early = early();
    let at = |ms: u64| Time::from_millis(10_000 + ms);
    for _ in 0..HOLD_PINGS_MAX {
        assert!(early.take(at(0), &ping).end.is_none());
    }
    assert!(early.take(at(1000), &ping).end.is_none());
    for _ in 1..HOLD_PINGS_MAX {
        early.take(at(1001), &ping);
    }
    assert_eq!(early.take(at(1999), &ping).end, Some(End::Refused(Refusal::EarlyPings)));
}

/// What greenroom's own Pings bring back, and the client's Close, need neither room nor memory.
#[test]
fn who_may_send_no_more_data_is_heard_all_the_same() {
    let (pong, ping) = (frame(0x8a, b"greenroom"), frame(0x89, &[7; 125]));
    let close = frame(0x88, &[3, 0xe8]);
    let mut by_bytes = Early::new(106);
    by_bytes.take(Time::ZERO, &frame(0x82, &[7; 100]));
    let mut by_almost_all = Early::new(110);
    by_almost_all.take(Time::ZERO, &frame(0x82, &[7; 100]));
    let mut by_frames = early();
    by_frames.take(Time::ZERO, &frame(0x82, b"").repeat(EARLY_FRAMES_MAX));
    let mut in_a_message = Early::new(106);
    in_a_message.take(Time::ZERO, &frame(0x02, &[7; 100]));
    for mut early in [by_bytes, by_almost_all, by_frames, in_a_message] {
        let (room, kept) = (early.room(), early.bytes.clone());
        for one in [&pong, &ping] {
            assert_eq!(
                early.takes(one),
                Takes {
                    all: one.len(),
                    data: 0
                }
            );
            assert_eq!(early.takes_without_memory(one).all, one.len());
            for piece in one.chunks(50) {
                let taken = early.take(Time::ZERO, piece);
                assert!(taken.end.is_none());
            }
            assert_eq!((early.room(), &early.bytes), (room, &kept));
        }
        let first = if early.scanner.at_message_boundary() {
            0x82
        } else {
            0x80
        };
        let more = [&pong[..], &frame(first, &[7; 100])].concat();
        let takes = early.takes(&more);
        assert_eq!((takes.all, takes.data), (pong.len() + room, room));
        let seen = early.take(Time::ZERO, &close).end;
        assert!(matches!(seen, Some(End::Closed(_))), "{seen:?}");
    }
}

#[test]
fn who_only_answers_pings_and_sends_some_has_no_memory() {
    let mut early = early();
    for piece in [frame(0x8a, b"greenroom"), frame(0x89, &[1; 125])].concat().chunks(9) {
        let takes = early.takes(piece);
        assert_eq!((takes.all, early.growth(takes.data)), (piece.len(), 0));
        early.take(Time::ZERO, piece);
        assert_eq!(early.memory(), 0);
    }
}

/// What came in one read with the ping too many, or behind bad text, is gone through for the client's Close.
#[test]
fn behind_the_end_the_frames_are_still_followed() {
    let too_many = frame(0x89, b"x").repeat(HOLD_PINGS_MAX as usize + 1);
    for before in [too_many, frame(0x81, b"\xff")] {
        let mut early = early();
        let cut = frame(0x82, &[0x88; 600]);
        let taken = early.take(Time::ZERO, &[&before[..], &cut[..100]].concat());
        assert!(taken.end.is_some());
        assert!(early.closes(&[]).is_none() && early.closes(&cut[100..]).is_none());
        assert!(early.closes(&frame(0x88, &[])).is_some());

        let mut early = self::early();
        early.take(Time::ZERO, &[&before[..], &frame(0x88, &[])].concat());
        assert!(early.closes(&[]).is_some(), "it was in the same read");
    }
}

#[test]
fn what_it_will_take_is_said_before() {
    let mut early = Early::new(64 * KIB);
    let mut memory = 0;
    while early.room() > 0 {
        let some = frame(0x82, &[0; 700]);
        let takes = early.takes(&some);
        let some = &some[..takes.all];
        memory += early.growth(takes.data);
        early.take(Time::ZERO, some);
        assert_eq!(early.memory(), memory);
        assert!(memory <= 64 * KIB);
    }
}

proptest! {
    /// Whatever a client sends and however it is cut: what is kept is its data frames, in order.
    #[test]
    fn pieces_make_no_difference(
        frames in prop::collection::vec((prop::sample::select(vec![0x82_u8, 0x81, 0x89, 0x8a]), 0_usize..300), 0..20),
        cuts in prop::collection::vec(1_usize..200, 1..20),
    ) {
        let (mut all, mut data) = (Vec::new(), Vec::new());
        for (first, len) in frames {
            let len = if first & 8 == 0 { len } else { len.min(125) };
            let one = frame(first, &vec![b'a'; len]);
            all.extend(&one);
            if first & 8 == 0 {
                data.extend(&one);
            }
        }
        let mut early = early();
        let (mut rest, mut cuts) = (&all[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            prop_assert!(early.take(Time::ZERO, piece).end.is_none());
            rest = behind;
        }
        prop_assert_eq!(early.into_bytes(), data);
    }

    #[test]
    fn no_bytes_make_it_panic_or_pass_its_bound(bytes in prop::collection::vec(any::<u8>(), 0..400), max in 16_usize..200) {
        let mut early = Early::new(max);
        for piece in bytes.chunks(7) {
            let takes = early.takes(piece).all;
            if early.take(Time::ZERO, &piece[..takes]).end.is_some() {
                break;
            }
            prop_assert!(early.memory() <= max);
        }
    }

    /// However little is to be had, and however little of it is seen at a time: all is taken up to the first byte of
    /// data for which there is no room, what is kept is the data, and the memory is what was asked for.
    #[test]
    fn a_look_says_exactly_what_is_taken(
        frames in prop::collection::vec((prop::sample::select(vec![0x82_u8, 0x82, 0x89, 0x8a]), 0_usize..150), 0..30),
        looks in prop::collection::vec((1_usize..200, any::<bool>()), 1..20),
        max in 16_usize..2_000,
    ) {
        let (mut all, mut data, mut is_data) = (Vec::new(), Vec::new(), Vec::new());
        for (first, len) in frames {
            let one = frame(first, &vec![b'a'; if first & 8 == 0 { len } else { len.min(125) }]);
            is_data.extend(one.iter().map(|_| first & 8 == 0));
            all.extend(&one);
            if first & 8 == 0 {
                data.extend(&one);
            }
        }
        let (mut early, mut at, mut memory) = (Early::new(max), 0, 0);
        for &(seen, has_memory) in looks.iter().cycle().take(400) {
            let next = &all[at..(at + seen).min(all.len())];
            let kept = is_data[..at].iter().filter(|is_data| **is_data).count();
            let takes = if has_memory { early.takes(next) } else { early.takes_without_memory(next) };
            let most = if has_memory { max } else { memory };
            let so_many = is_data[at..at + takes.all].iter().filter(|is_data| **is_data).count();
            prop_assert_eq!(takes.data, so_many);
            prop_assert!(kept + takes.data <= most);
            if takes.all < next.len() {
                prop_assert!(is_data[at + takes.all] && kept + takes.data == most, "it stops for want of room only");
            }
            memory += early.growth(takes.data);
            prop_assert!(early.take(Time::ZERO, &next[..takes.all]).end.is_none());
            at += takes.all;
            prop_assert_eq!(early.memory(), memory);
            prop_assert!(memory <= max && (memory == 0) == is_data[..at].iter().all(|is_data| !is_data));
        }
        let kept = early.into_bytes();
        prop_assert_eq!(&kept[..], &data[..kept.len()]);
    }
}

#[test]
fn what_is_forgotten_takes_no_memory_and_a_close_is_still_found_behind_it() {
    let mut early = early();
    let (message, close) = (frame(0x82, &[7; 1000]), frame(0x88, b""));
    assert!(early.take(Time::ZERO, &message[..500]).end.is_none() && early.memory() >= 500);
    early.forget();
    assert!(early.memory() == 0);
    assert!(early.closes(&message[500..]).is_none() && early.closes(&close).is_some());
}
