//! Messages of greenroom's own among those of a backend: where they may stand, and that nothing else moves; and a
//! client's messages where they are measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use greenroom_core::event::Unsent;
use greenroom_core::limits::RELAY_BUFFER;
use greenroom_core::session::relay::{Ended, MaySend, Pass, Relay, Then};
use greenroom_core::session::{MessageLimits, Over};
use greenroom_core::time::Time;
use greenroom_core::wire::{Data, Scanner, Sender, message};
use proptest::prelude::*;

/// A frame of a backend, or with a mask of zeros one of a client.
fn frame(first: u8, len: usize, masked: bool) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => out.push(bit | short),
        (_, Ok(middle)) => {
            out.push(bit | 126);
            out.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend([0; 4]);
    }
    out.resize(out.len() + len, 0x55);
    out
}

fn back(first: u8, len: usize) -> Vec<u8> {
    frame(first, len, false)
}

#[test]
fn where_a_message_of_ones_own_may_stand() {
    let large = RELAY_BUFFER + 1;
    let cases: [(&str, Vec<u8>, MaySend); 12] = [
        ("nothing yet", vec![], MaySend::Now),
        ("a whole message", back(0x81, 3), MaySend::Now),
        ("the first byte of a header", vec![0x81], MaySend::Now),
        (
            "half of a first frame: it is kept",
            back(0x81, 9)[..5].to_vec(),
            MaySend::Now,
        ),
        (
            "half of a message in two frames, its first is kept",
            back(0x01, 9)[..5].to_vec(),
            MaySend::Now,
        ),
        ("a first of several frames", back(0x01, 3), MaySend::Later),
        (
            "the header of the next of them",
            [back(0x01, 3), vec![0x00]].concat(),
            MaySend::Later,
        ),
        (
            "half of the last of them",
            [back(0x01, 3), back(0x80, 9)[..5].to_vec()].concat(),
            MaySend::Later,
        ),
        (
            "a ping within a message",
            [back(0x01, 3), back(0x89, 2)].concat(),
            MaySend::Later,
        ),
        (
            "half of a ping between messages",
            [back(0x81, 3), back(0x89, 9)[..5].to_vec()].concat(),
            MaySend::Now,
        ),
        (
            "half of a large frame: it has passed",
            back(0x82, large)[..99].to_vec(),
            MaySend::Later,
        ),
        ("a large frame", back(0x82, large), MaySend::Now),
    ];
    for (what, bytes, expected) in cases {
        let mut relay = Relay::new(false);
        assert_eq!(relay.backend_bytes(&bytes).then, Then::Continue, "{what}");
        assert_eq!(relay.may_send(10, 0), expected, "{what}");
    }
}

#[test]
fn nothing_is_sent_to_who_ends() {
    let never = MaySend::Never(Unsent::NotRelaying);
    let ends: [fn(&mut Relay); 5] = [
        |relay| _ = relay.client_bytes(&frame(0x88, 0, true)),
        |relay| _ = relay.backend_bytes(&back(0x88, 0)),
        |relay| _ = relay.client_ended(Ended::Fin),
        |relay| _ = relay.client_ended(Ended::Reset),
        |relay| _ = relay.backend_ended(Ended::Fin),
    ];
    for end in ends {
        let mut relay = Relay::new(false);
        end(&mut relay);
        assert_eq!(relay.may_send(10, 0), never);
    }
}

#[test]
fn what_waits_never_grows_by_own_messages_beyond_the_buffer() {
    let mut relay = Relay::new(false);
    let slow = MaySend::Never(Unsent::Slow);
    assert_eq!(relay.may_send(RELAY_BUFFER, 0), MaySend::Now);
    assert_eq!(relay.may_send(RELAY_BUFFER, 1), slow);
    assert_eq!(relay.may_send(10, RELAY_BUFFER - 10), MaySend::Now);
    assert_eq!(relay.may_send(10, RELAY_BUFFER - 9), slow);
    assert_eq!(relay.backend_bytes(&back(0x82, 60_000)[..50_000]).keep, 50_000);
    assert_eq!(
        relay.may_send(RELAY_BUFFER - 50_000, 0),
        MaySend::Now,
        "with what is kept"
    );
    assert_eq!(
        relay.may_send(RELAY_BUFFER - 49_999, 0),
        MaySend::Later,
        "its frame will go"
    );
    assert_eq!(relay.may_send(10, RELAY_BUFFER), slow);
}

/// What the shell does with a relay's way down: bytes that may be written, then those that are kept.
#[derive(Default)]
struct Down {
    buffer: Vec<u8>,
    ready: usize,
}

impl Down {
    fn add(&mut self, bytes: &[u8], pass: Pass) {
        self.buffer.extend_from_slice(bytes);
        self.ready += pass.forward;
        self.buffer.truncate(self.ready + pass.keep);
    }

    /// Puts in as many of the waiting ones as may stand here.
    fn place(&mut self, relay: &Relay, waiting: &mut usize, own: &[u8]) {
        while *waiting > 0 && relay.may_send(own.len(), 0) == MaySend::Now {
            self.buffer.splice(self.ready..self.ready, own.iter().copied());
            self.ready += own.len();
            *waiting -= 1;
        }
    }
}

/// A message of a backend: its frames, with pings between them.
fn backend_message() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![8 => 0..300_usize, 1 => 65_000..66_000_usize];
    (prop::collection::vec((frame, any::<bool>()), 1..4), any::<bool>()).prop_map(|(frames, text)| {
        let last = frames.len() - 1;
        let mut out = Vec::new();
        for (index, (len, ping)) in frames.into_iter().enumerate() {
            let opcode = match (index, text) {
                (0, true) => 1,
                (0, false) => 2,
                _ => 0,
            };
            let fin = if index == last { 0x80 } else { 0 };
            out.extend(back(fin | opcode, len));
            if ping {
                out.extend(back(0x89, 4));
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the backend's bytes are split, and whenever somebody asks.
    #[test]
    fn own_messages_stand_between_messages_only_and_nothing_else_moves(
        messages in prop::collection::vec(backend_message(), 1..6),
        cuts in prop::collection::vec((1..400_usize, 0..3_usize), 1..60),
        tail in 0..4_usize,
    ) {
        let count = messages.len();
        let stream = messages.concat();
        let mut own = Vec::new();
        message(Data::Binary, b"OWN-OWN-OWN", &mut own);
        let (mut relay, mut down) = (Relay::new(false), Down::default());
        let (mut waiting, mut asked, mut rest) = (0, 0, &stream[..]);
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let (len, more) = cuts.next().unwrap();
            // Large frames come in large pieces, else it takes for ever.
            let len = if rest.len() > 10_000 { len * 100 } else { len };
            waiting += more;
            asked += more;
            down.place(&relay, &mut waiting, &own);
            let (piece, after) = rest.split_at(len.min(rest.len()));
            let (whole, behind) = if waiting > 0 {
                piece.split_at(relay.message_end(piece).unwrap_or(0))
            } else {
                piece.split_at(0)
            };
            for piece in [whole, behind].into_iter().filter(|piece| !piece.is_empty()) {
                let pass = relay.backend_bytes(piece);
                prop_assert_eq!(pass.then, Then::Continue);
                down.add(piece, pass);
                if piece == whole && !behind.is_empty() {
                    prop_assert_eq!(relay.may_send(own.len(), 0), MaySend::Now, "a message has just ended");
                }
                down.place(&relay, &mut waiting, &own);
            }
            rest = after;
        }
        waiting += tail;
        asked += tail;
        down.place(&relay, &mut waiting, &own);
        prop_assert_eq!((waiting, down.ready), (0, down.buffer.len()), "at the end nothing waits");
        let scan = Scanner::new(Sender::Backend, false).scan(&down.buffer);
        prop_assert_eq!(scan.stop, None, "a client finds it legal");
        prop_assert_eq!(scan.messages as usize, count + asked);
        let mut without = down.buffer.clone();
        while let Some(at) = without.windows(own.len()).position(|part| part == own) {
            without.drain(at..at + own.len());
        }
        prop_assert!(without == stream, "what the backend said is as it was");
    }
}

fn limited(size: Option<u64>, rate: Option<usize>) -> Relay {
    Relay::new(true).limited(MessageLimits { size, rate }, Time::ZERO)
}

#[test]
fn a_route_without_limits_measures_nothing() {
    assert!(!limited(None, None).is_limited());
    assert!(limited(Some(1), None).is_limited() && limited(None, Some(1)).is_limited());
}

#[test]
fn a_message_may_be_as_large_as_said_over_all_its_frames_and_is_stopped_at_a_header() {
    let frames =
        |parts: &[(u8, usize)]| -> Vec<u8> { parts.iter().flat_map(|&(first, len)| frame(first, len, true)).collect() };
    let header = |first: u8, len: usize| frame(first, len, true)[..if len > 125 { 8 } else { 6 }].to_vec();
    let fits: [&[(u8, usize)]; 4] = [
        &[(0x82, 100)],
        &[(0x01, 40), (0x89, 90), (0x00, 60), (0x80, 0)],
        &[(0x82, 100), (0x82, 100), (0xc1, 100)],
        &[(0x02, 100), (0x00, 0), (0x80, 0), (0x81, 100)],
    ];
    for parts in fits {
        let bytes = frames(parts);
        let pass = limited(Some(100), None).client_bytes_at(Some(Time::ZERO), &bytes);
        assert_eq!((pass.forward, pass.then), (bytes.len(), Then::Continue), "{parts:?}");
    }
    let too_much: [(&[(u8, usize)], (u8, usize)); 4] = [
        (&[], (0x82, 101)),
        (&[(0x82, 100), (0x8a, 10)], (0x81, 101)),
        (&[(0x01, 40), (0x00, 60)], (0x80, 1)),
        (&[(0x02, 1)], (0x00, 0xffff_ffff)),
    ];
    for (before, (first, len)) in too_much {
        let before = frames(before);
        let over = if len < 1000 {
            header(first, len)
        } else {
            [&[first, 0xff][..], &(len as u64).to_be_bytes(), &[0; 4]].concat()
        };
        let bytes = [&before[..], &over].concat();
        // Its header is enough, and its first bytes may come one by one.
        let mut relay = limited(Some(100), None);
        let pass = relay.client_bytes_at(Some(Time::ZERO), &bytes);
        assert_eq!((pass.forward, pass.then), (before.len(), Then::Over(Over::Size)));
        assert!(relay.may_close_backend(), "nothing of that frame has passed");
        assert_eq!(relay.client_bytes_at(Some(Time::ZERO), b"more").forward, 0);
        let mut relay = limited(Some(100), None);
        relay.client_bytes_at(None, &before);
        for (index, byte) in over.iter().enumerate() {
            let is_last = index + 1 == over.len();
            let pass = relay.client_bytes_at(None, &[*byte]);
            let expected = if is_last {
                Then::Over(Over::Size)
            } else {
                Then::Continue
            };
            assert_eq!((pass.forward, pass.then), (usize::from(!is_last), expected));
        }
        assert!(!relay.may_close_backend(), "a part of its header has passed");
    }
    assert_eq!(
        (Over::Size.close_code().get(), Over::Rate.close_code().get()),
        (1009, 1008)
    );
}

#[test]
fn messages_of_two_seconds_come_at_once_and_then_at_the_rate() {
    let mut relay = limited(None, Some(3));
    let one = [frame(0x01, 1, true), frame(0x89, 0, true), frame(0x80, 1, true)].concat();
    let at = |millis| Some(Time::from_millis(millis));
    let six = one.repeat(6);
    assert_eq!(
        relay.client_bytes_at(at(0), &six).then,
        Then::Continue,
        "a message has one token, its frames none"
    );
    assert_eq!(relay.client_bytes_at(at(334), &one).then, Then::Continue);
    assert_eq!(
        relay.client_bytes_at(None, &one.repeat(9)).then,
        Then::Continue,
        "nobody knows when these came"
    );
    assert_eq!(
        relay.client_bytes_at(at(335), &frame(0x89, 0, true)).then,
        Then::Continue,
        "a ping is no message"
    );
    let pass = relay.client_bytes_at(at(335), &one);
    assert_eq!((pass.forward, pass.then), (0, Then::Over(Over::Rate)));
}
