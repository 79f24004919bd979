//! Decides which Pongs of a stream answer greenroom's own Pings, and takes them out of it.
//!
//! The other side has not asked for them, and a relay is transparent: just these frames do not pass, at any split of
//! their bytes. An [`OwnPongs`] exists while a Ping of greenroom's is unanswered and follows the stream from the
//! frame boundary at which the Ping was written. A Pong is its own if it carries what the Ping did: six bytes that the
//! other side cannot know, as it was not told them, and the Ping's number. All others pass: answers to the other
//! side's Pings, and unsolicited ones (RFC 6455 §5.5.3).
//!
//! ```text
//!   … data │ Pong of ours │ data …      passes: … data │ data …
//!   … data │ half of one                passes: … data, and keeps the half until it shows what it is
//! ```
//!
//! A peer may answer only the last of several Pings (§5.5.3), so the answer to one counts for those before it.
//! Pure; some 70 bytes, of which [`OwnPongs::HELD_MAX`] for a frame's beginning.

use super::scanner::{Scanner, Sender};

/// FIN and the opcode of a Pong.
const PONG: u8 = 0x8a;
/// Bytes of what an own Ping carries.
const PAYLOAD: usize = 8;
const MASKED: u8 = 0x80;
const MASK: usize = 4;
/// Bytes of the payload that tell it from every other.
const MARK: usize = 6;

/// See the module's head.
#[derive(Debug)]
pub struct OwnPongs {
    scanner: Scanner,
    sender: Sender,
    mark: [u8; MARK],
    /// The number of the last Ping.
    sent: u16,
    /// That of the last that was answered.
    answered: u16,
    held: [u8; Self::HELD_MAX],
    held_len: u8,
}

/// What was found in a piece of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOut {
    /// So many bytes, at the beginning of the piece, are what passes.
    pub len: usize,
    /// Pongs of greenroom's own that were taken out.
    pub pongs: u32,
    /// The last Ping was answered.
    pub is_last: bool,
}

/// What the bytes at a frame boundary begin.
enum Frame {
    /// A Pong to the Ping of this number.
    Own(u16),
    /// It may still become one.
    Beginning,
    /// Another.
    Other,
}

impl OwnPongs {
    /// The longest beginning that is kept: a client's Pong without its last byte.
    pub const HELD_MAX: usize = 2 + MASK + PAYLOAD - 1;

    /// For a stream of `sender` that has come as far as `scanner` has followed it. `seed` is not to be guessed by
    /// the other side.
    #[must_use]
    pub const fn new(scanner: Scanner, sender: Sender, seed: u64) -> Self {
        let [a, b, c, d, e, f, ..] = seed.to_be_bytes();
        Self {
            scanner,
            sender,
            mark: [a, b, c, d, e, f],
            sent: 0,
            answered: 0,
            held: [0; Self::HELD_MAX],
            held_len: 0,
        }
    }

    /// What the next Ping carries. It is written where this is called.
    pub const fn ping(&mut self) -> [u8; PAYLOAD] {
        self.sent = self.sent.wrapping_add(1);
        let [a, b, c, d, e, f] = self.mark;
        let [g, h] = self.sent.to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Whether an answer is missing: while it is, all bytes go through [`OwnPongs::take_out`].
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.sent != self.answered
    }

    /// The beginning of a frame that was kept back: it stands before what is read next.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.held_len)]
    }

    /// The stream has ended: what was held is no Pong, and passes.
    pub const fn forget_held(&mut self) {
        self.held_len = 0;
    }

    /// Takes own Pongs out of `bytes`: what was held, and what was read behind it.
    pub fn take_out(&mut self, bytes: &mut [u8]) -> TakenOut {
        self.held_len = 0;
        let mut out = TakenOut::default();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if !self.is_waiting() {
                self.scanner.scan(rest); // another Ping may be written behind it
                out.len += keep(bytes, at, out.len, bytes.len() - at);
                return out;
            }
            if self.scanner.at_frame_boundary() && self.scanner.stop().is_none() {
                match self.begins(rest) {
                    Frame::Own(number) => {
                        self.answered = number;
                        out.pongs += 1;
                        out.is_last = !self.is_waiting();
                        at += self.pong_len();
                        continue;
                    }
                    Frame::Beginning => {
                        self.held[..rest.len()].copy_from_slice(rest); // shorter than a Pong
                        self.held_len = rest.len() as u8;
                        return out;
                    }
                    Frame::Other => {}
                }
            }
            let step = step(&mut self.scanner, rest);
            out.len += keep(bytes, at, out.len, step);
            at += step;
        }
        out
    }

    const fn pong_len(&self) -> usize {
        match self.sender {
            Sender::Client => 2 + MASK + PAYLOAD,
            Sender::Backend => 2 + PAYLOAD,
        }
    }

    /// What begins here. A byte that an own Pong could not have decides at once.
    fn begins(&self, bytes: &[u8]) -> Frame {
        let (second, mask) = match self.sender {
            Sender::Client => (MASKED | PAYLOAD as u8, MASK),
            Sender::Backend => (PAYLOAD as u8, 0),
        };
        if bytes[0] != PONG || bytes.get(1).is_some_and(|&byte| byte != second) {
            return Frame::Other;
        }
        let key = bytes.get(2..2 + mask).unwrap_or_default();
        let payload = bytes.get(2 + mask..).unwrap_or_default();
        let mut plain = [0; PAYLOAD];
        let mut len = 0;
        for (at, (to, &byte)) in plain.iter_mut().zip(payload).enumerate() {
            *to = byte ^ key.get(at % MASK).copied().unwrap_or(0);
            len = at + 1;
        }
        if plain.iter().zip(&self.mark).take(len).any(|(is, mark)| is != mark) {
            return Frame::Other;
        }
        if len < PAYLOAD {
            return Frame::Beginning;
        }
        let number = u16::from_be_bytes([plain[MARK], plain[MARK + 1]]);
        // Of those that wait, in numbers that begin anew after the last.
        let is_ours = number.wrapping_sub(self.answered).wrapping_sub(1) < self.sent.wrapping_sub(self.answered);
        if is_ours { Frame::Own(number) } else { Frame::Other }
    }
}

/// Moves `len` bytes from `from` to the end of what is kept at the front.
fn keep(bytes: &mut [u8], from: usize, to: usize, len: usize) -> usize {
    if from != to {
        bytes.copy_within(from..from + len, to);
    }
    len
}

/// Follows the stream to the end of the frame in progress, or of the bytes; how far that is.
fn step(scanner: &mut Scanner, bytes: &[u8]) -> usize {
    if scanner.stop().is_some() {
        return bytes.len(); // nothing behind it is understood
    }
    if scanner.frame_len().is_none() {
        // A header, byte by byte, as the scanner would go on behind its frame.
        for at in 0..bytes.len() {
            scanner.scan(&bytes[at..=at]);
            if scanner.frame_len().is_some() || scanner.at_frame_boundary() || scanner.stop().is_some() {
                return at + 1;
            }
        }
        return bytes.len();
    }
    let left = usize::try_from(scanner.frame_left())
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    scanner.scan(&bytes[..left]);
    left
}

#[cfg(test)]
mod tests;
