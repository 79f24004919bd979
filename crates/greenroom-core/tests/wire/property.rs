//! Random streams: of legal frames, of nearly legal frames, of anything.

use super::oracle::check_oracle;
use super::split::{Story, check_split};
use greenroom_core::wire::{CloseCode, CloseSeen, Sender, Stop};
use proptest::collection::vec;
use proptest::prelude::*;

const KEY: [u8; 4] = [0xa5, 0x5a, 0x0f, 0xf0];

/// Writes one frame, legal or not: `first` as it is, the length in the shortest form.
pub(super) fn frame(sender: Sender, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = if sender == Sender::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len @ 126..=0xffff => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    match sender {
        Sender::Client => {
            bytes.extend(KEY);
            bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        Sender::Backend => bytes.extend(payload),
    }
    bytes
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![Just(Sender::Client), Just(Sender::Backend)]
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(
        prop_oneof![3 => 0..6_usize, 2 => 0..40_usize, 1 => 0..5000_usize],
        0..60,
    )
}

/// A message in fragments, with a ping or pong behind some of them.
#[derive(Clone, Debug)]
struct Fragment {
    len: usize,
    fin: bool,
    control: Option<(bool, usize)>,
}

fn fragments() -> impl Strategy<Value = Vec<Fragment>> {
    let len = prop_oneof![4 => 0..20_usize, 2 => 120..132_usize, 1 => 65530..65540_usize];
    let control = proptest::option::of((any::<bool>(), 0..126_usize));
    vec(
        (len, any::<bool>(), control).prop_map(|(len, fin, control)| Fragment { len, fin, control }),
        0..12,
    )
}

/// A header whose bytes are likely to be right, so that a stream gets far before it breaks.
fn likely_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        12 => Just(0x82_u8), 4 => Just(0x02), 4 => Just(0x00), 4 => Just(0x80),
        3 => Just(0x89), 3 => Just(0x8a), 2 => Just(0x88), 2 => Just(0x81), 1 => any::<u8>()
    ];
    let masked = prop_oneof![12 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let len = prop_oneof![
        12 => (0..8_u64).prop_map(|len| (0, len)), 2 => (120..140_u64).prop_map(|len| (0, len)),
        1 => (0..300_u64).prop_map(|len| (2, len)), 1 => (0..300_u64).prop_map(|len| (8, len)),
        1 => any::<u64>().prop_map(|len| (8, len))
    ];
    let code = prop_oneof![Just(1000_u16), 990..1030_u16, 2990..3010_u16, any::<u16>()];
    (first, masked, len, code).prop_map(|(first, masked, (form, len), code)| {
        let mut bytes = vec![first, u8::from(masked == Some(true)) << 7];
        // `None` is put right by `likely_stream`, which knows the sender.
        let short = match (form, len) {
            (0, len @ 0..126) => len as u8,
            (0 | 2, len) => {
                bytes.extend((len as u16).to_be_bytes());
                126
            }
            (_, len) => {
                bytes.extend(len.to_be_bytes());
                127
            }
        };
        bytes[1] |= short;
        bytes.push(masked.is_none().into()); // taken off again below
        bytes.extend(code.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0, (len.min(400) as usize).saturating_sub(2)));
        if len < 2 {
            bytes.truncate(bytes.len() - 2 + len as usize);
        }
        bytes
    })
}

fn likely_stream(sender: Sender, frames: Vec<Vec<u8>>) -> Vec<u8> {
    let mut stream = Vec::new();
    for mut frame in frames {
        let header = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let put_right = frame.remove(header) == 1;
        if put_right && sender == Sender::Client {
            frame[1] |= 0x80;
        }
        if frame[1] & 0x80 != 0 {
            frame.splice(header..header, [0; 4]); // a key of zeros leaves the payload readable
        }
        stream.extend(frame);
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn legal_frames_are_counted_and_passed_whole_at_any_split(
        sender in sender(), rsv1: bool, fragments in fragments(), close in proptest::option::of(any::<u16>()),
        pieces in pieces(),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Story { at_message_boundary: true, ..Story::default() };
        for fragment in &fragments {
            let fin = if fragment.fin { 0x80 } else { 0 };
            let opcode = match expected.at_message_boundary {
                true if rsv1 => 0x42,
                true => 0x02,
                false => 0x00,
            };
            bytes.extend(frame(sender, fin | opcode, &vec![0xee; fragment.len]));
            expected.frames += 1;
            expected.data = true;
            expected.messages += u32::from(fragment.fin);
            expected.at_message_boundary = fragment.fin;
            if fragment.fin {
                expected.message_end = bytes.len();
            }
            if let Some((ping, len)) = fragment.control {
                bytes.extend(frame(sender, if ping { 0x89 } else { 0x8a }, &vec![0xff; len]));
                expected.frames += 1;
                expected.pings += u32::from(ping);
                expected.pongs += u32::from(!ping);
            }
        }
        if let Some(code) = close.and_then(CloseCode::new) {
            bytes.extend(frame(sender, 0x88, &[&code.get().to_be_bytes()[..], b"reason"].concat()));
            expected.frames += 1;
            expected.stop = Some(Stop::Close(CloseSeen { code: Some(code) }));
        }
        expected.passed = bytes.len();
        expected.boundary = bytes.len();
        if expected.stop.is_some() {
            bytes.extend(b"what follows a Close is not looked at");
        }
        prop_assert_eq!(check_split(sender, rsv1, &bytes, &pieces), expected);
    }

    #[test]
    fn arbitrary_bytes_give_the_same_at_any_split(
        sender in sender(), rsv1: bool, bytes in vec(any::<u8>(), 0..300), pieces in pieces(),
    ) {
        check_split(sender, rsv1, &bytes, &pieces);
    }

    #[test]
    fn nearly_legal_frames_give_the_same_at_any_split(
        sender in sender(), rsv1: bool, frames in vec(likely_frame(), 0..8), pieces in pieces(),
    ) {
        check_split(sender, rsv1, &likely_stream(sender, frames), &pieces);
    }

    #[test]
    fn tungstenite_agrees_about_arbitrary_bytes(sender in sender(), bytes in vec(any::<u8>(), 0..300)) {
        check_oracle(sender, &bytes);
    }

    #[test]
    fn tungstenite_agrees_about_nearly_legal_frames(sender in sender(), frames in vec(likely_frame(), 0..8)) {
        check_oracle(sender, &likely_stream(sender, frames));
    }
}

/// The streams above must reach every part of the protocol, or their agreement says little.
#[test]
fn nearly_legal_frames_reach_every_verdict() {
    use greenroom_core::wire::Violation;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::collections::BTreeSet;

    let mut runner = TestRunner::deterministic();
    let strategy = (sender(), vec(likely_frame(), 0..8));
    let (mut violations, mut closes, mut messages) = (BTreeSet::new(), 0, 0);
    for _ in 0..4000 {
        let (sender, frames) = strategy.new_tree(&mut runner).unwrap().current();
        let story = check_split(sender, true, &likely_stream(sender, frames.clone()), &[]);
        let plain = check_split(sender, false, &likely_stream(sender, frames), &[]);
        messages += story.messages;
        for story in [story, plain] {
            match story.stop {
                Some(Stop::Violation(violation)) => {
                    violations.insert(violation);
                }
                Some(Stop::Close(_)) => closes += 1,
                None => {}
            }
        }
    }
    assert_eq!(violations.into_iter().collect::<Vec<_>>(), Violation::ALL);
    assert!(closes > 100 && messages > 1000, "{closes} closes, {messages} messages");
}
