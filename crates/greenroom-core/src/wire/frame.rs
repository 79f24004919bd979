//! Decides what greenroom's own control frames look like: Close, Ping, Pong.
//!
//! `mask` is `None` towards a client, and a key towards a backend, as RFC 6455 §5.1
//! wants it. The key comes from outside and must not be guessable (§5.3): this crate
//! draws no random numbers.
//!
//! Bounded by [`ControlFrame::MAX`], on the stack; a frame that may not be sent
//! cannot be built.

use super::close::{CloseCode, CloseSeen};
use super::judge::CONTROL_MAX;
use core::fmt;
use core::ops::Deref;

const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A control frame, ready to be written.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl ControlFrame {
    /// The longest: two bytes, the mask key, 125 bytes of payload.
    pub const MAX: usize = 2 + 4 + CONTROL_MAX;

    /// `parts` together are at most [`CONTROL_MAX`] bytes; what is over is left out.
    fn new(first: u8, parts: [&[u8]; 2], mask: Option<[u8; 4]>) -> Self {
        let mut frame = Self {
            bytes: [0; Self::MAX],
            len: 0,
        };
        let payload = parts[0].len() + parts[1].len();
        debug_assert!(payload <= CONTROL_MAX);
        frame.push(first);
        frame.push(payload.min(CONTROL_MAX) as u8 | if mask.is_some() { 0x80 } else { 0 });
        let key = mask.unwrap_or_default();
        if mask.is_some() {
            key.into_iter().for_each(|byte| frame.push(byte));
        }
        for (at, &byte) in parts.into_iter().flatten().take(CONTROL_MAX).enumerate() {
            frame.push(byte ^ key[at % 4]);
        }
        frame
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for ControlFrame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFrame({:02x?})", &**self)
    }
}

/// A Close with a code and a reason; a reason of more than 123 bytes is cut between two characters.
#[must_use]
pub fn close_frame(code: CloseCode, reason: &str, mask: Option<[u8; 4]>) -> ControlFrame {
    let mut end = reason.len().min(CONTROL_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    ControlFrame::new(CLOSE, [&code.get().to_be_bytes(), &reason.as_bytes()[..end]], mask)
}

/// The answer to a Close: its code again, or none if it had none (RFC 6455 §5.5.1).
#[must_use]
pub fn close_reply(seen: CloseSeen, mask: Option<[u8; 4]>) -> ControlFrame {
    match seen.code {
        Some(code) => close_frame(code, "", mask),
        None => ControlFrame::new(CLOSE, [&[], &[]], mask),
    }
}

/// A Ping. That its payload fits is checked when this is compiled.
#[must_use]
pub fn ping_frame<const N: usize>(payload: &[u8; N], mask: Option<[u8; 4]>) -> ControlFrame {
    const { assert!(N <= CONTROL_MAX, "a Ping carries at most 125 bytes (RFC 6455 §5.5)") };
    ControlFrame::new(PING, [payload, &[]], mask)
}

/// The Pong that answers a Ping of this payload, already unmasked; `None` if no Ping can
/// have had it, because it is over 125 bytes.
#[must_use]
pub fn pong_frame(payload: &[u8], mask: Option<[u8; 4]>) -> Option<ControlFrame> {
    (payload.len() <= CONTROL_MAX).then(|| ControlFrame::new(PONG, [payload, &[]], mask))
}

/// What a message is of (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    /// Text, which is UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// Appends a whole text message of greenroom's own to a client; see [`message`].
pub fn text_message(text: &str, out: &mut Vec<u8>) {
    message(Data::Text, text.as_bytes(), out);
}

/// Appends a whole message of greenroom's own to a client, in one frame. It may stand at message boundaries
/// only (RFC 6455 §5.4), and is never compressed: RSV1 is not set (RFC 7692 §6).
pub fn message(data: Data, payload: &[u8], out: &mut Vec<u8>) {
    let len = payload.len();
    out.push(match data {
        Data::Text => 0x81, // FIN and the opcode
        Data::Binary => 0x82,
    });
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(middle)) => {
            out.push(126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::super::{Scan, Scanner, Sender, Stop};
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// Scans one frame that must be whole and legal.
    fn scan(frame: &ControlFrame, sender: Sender) -> Scan {
        let scan = Scanner::new(sender, false).scan(frame);
        assert_eq!(
            (scan.consumed, scan.boundary, scan.frames),
            (frame.len(), frame.len(), 1),
            "{frame:?}"
        );
        scan
    }

    #[test]
    fn frames_are_as_the_rfc_prints_them() {
        assert_eq!(&*ping_frame(b"Hello", None), b"\x89\x05Hello"); // RFC 6455 §5.7
        assert_eq!(
            &*pong_frame(b"Hello", Some(KEY)).unwrap(),
            b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
        assert_eq!(&*close_frame(CloseCode::RESTART, "bye", None), b"\x88\x05\x03\xf4bye");
    }

    #[test]
    fn a_text_message_is_one_whole_legal_frame_at_each_form_of_its_length() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frame = Vec::new();
            text_message(&"x".repeat(len), &mut frame);
            let scan = Scanner::new(Sender::Backend, false).scan(&frame);
            assert_eq!(
                (scan.consumed, scan.boundary, scan.frames),
                (frame.len(), frame.len(), 1),
                "{len}"
            );
            assert_eq!(scan.stop, None, "{len}");
        }
    }

    #[test]
    fn every_own_close_is_seen_as_it_was_meant() {
        for code in (0..=u16::MAX).filter_map(CloseCode::new) {
            for (mask, sender) in [(None, Sender::Backend), (Some(KEY), Sender::Client)] {
                let seen = CloseSeen { code: Some(code) };
                assert_eq!(
                    scan(&close_frame(code, "why", mask), sender).stop,
                    Some(Stop::Close(seen))
                );
                assert_eq!(scan(&close_reply(seen, mask), sender).stop, Some(Stop::Close(seen)));
            }
        }
        let none = CloseSeen { code: None };
        assert_eq!(
            scan(&close_reply(none, None), Sender::Backend).stop,
            Some(Stop::Close(none))
        );
        assert_eq!(
            scan(&close_reply(none, Some(KEY)), Sender::Client).stop,
            Some(Stop::Close(none))
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        for (reason, kept) in [
            ("x".repeat(123), 123),
            ("x".repeat(124), 123),
            ("ä".repeat(100), 122),
            ("🦀".repeat(40), 120),
        ] {
            for (mask, sender) in [(None, Sender::Backend), (Some([0; 4]), Sender::Client)] {
                let frame = close_frame(CloseCode::NORMAL, &reason, mask);
                let text = &frame[if mask.is_some() { 8 } else { 4 }..];
                assert_eq!(std::str::from_utf8(text).unwrap(), &reason[..kept]);
                scan(&frame, sender);
            }
        }
    }

    #[test]
    fn the_longest_frame_fits() {
        assert_eq!(ping_frame(&[7; 125], Some(KEY)).len(), ControlFrame::MAX);
        assert_eq!(scan(&ping_frame(&[7; 125], Some(KEY)), Sender::Client).pings, 1);
        assert_eq!(scan(&pong_frame(&[7; 125], None).unwrap(), Sender::Backend).pongs, 1);
        assert!(pong_frame(&[7; 126], None).is_none());
    }
}
