//! Decides whether the first bytes of a frame are legal, and how long the frame is.
//!
//! [`judge`] is a function of these bytes alone: it is asked again with more of them
//! until it knows. Each rule is checked as soon as its byte is there and before any
//! rule about a later byte, so the verdict is the same however the bytes were split.

use super::close::{CloseCode, CloseSeen};
use super::scanner::Sender;
use core::fmt;

/// Bytes that [`judge`] needs at the most: the longest header (RFC 6455 §5.2). A
/// Close is judged with its code, but has a short header: 8 bytes together.
pub(super) const HEADER_MAX: usize = 14;
/// The largest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_MAX: usize = 125;

/// How a frame breaks the protocol. Each is 1002 to the one who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// RSV2 or RSV3 is set: no extension that greenroom lets through uses them (RFC 6455 §5.2).
    Reserved,
    /// RSV1 is set and permessage-deflate was not agreed (RFC 6455 §5.2, RFC 7692 §6).
    Rsv1NotAgreed,
    /// RSV1 is set on a continuation or control frame (RFC 7692 §6.1, §5).
    Rsv1Misplaced,
    /// Opcode 3 to 7 or 11 to 15 (RFC 6455 §5.2).
    Opcode,
    /// A Close, Ping or Pong without FIN (RFC 6455 §5.5).
    ControlFragmented,
    /// A continuation frame, and no message is open (RFC 6455 §5.4).
    NothingToContinue,
    /// A text or binary frame inside a fragmented message (RFC 6455 §5.4).
    MessageInMessage,
    /// A client's frame without a mask (RFC 6455 §5.1).
    Unmasked,
    /// A backend's frame with a mask (RFC 6455 §5.1).
    Masked,
    /// A control frame of more than 125 bytes, or one whose length is not in the short
    /// form, the only one that it can need (RFC 6455 §5.5, §5.2).
    ControlTooLong,
    /// A Close frame with a payload of one byte: half a code (RFC 6455 §5.5.1).
    CloseHalfCode,
    /// A Close frame with a code that may not be sent (RFC 6455 §7.4; [`CloseCode::new`]).
    CloseBadCode,
    /// A 64-bit length with its first bit set (RFC 6455 §5.2).
    LengthSign,
}

impl Violation {
    /// All of them, in the order of their declaration.
    pub const ALL: &'static [Self] = &[
        Self::Reserved,
        Self::Rsv1NotAgreed,
        Self::Rsv1Misplaced,
        Self::Opcode,
        Self::ControlFragmented,
        Self::NothingToContinue,
        Self::MessageInMessage,
        Self::Unmasked,
        Self::Masked,
        Self::ControlTooLong,
        Self::CloseHalfCode,
        Self::CloseBadCode,
        Self::LengthSign,
    ];

    /// The word for it in logs and counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reserved => "reserved_bits",
            Self::Rsv1NotAgreed => "rsv1_not_agreed",
            Self::Rsv1Misplaced => "rsv1_misplaced",
            Self::Opcode => "reserved_opcode",
            Self::ControlFragmented => "control_fragmented",
            Self::NothingToContinue => "nothing_to_continue",
            Self::MessageInMessage => "message_in_message",
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::ControlTooLong => "control_too_long",
            Self::CloseHalfCode => "close_half_code",
            Self::CloseBadCode => "close_bad_code",
            Self::LengthSign => "length_sign",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl core::error::Error for Violation {}

/// The opcodes that RFC 6455 §5.2 defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_first(first: u8) -> Option<Self> {
        match first & 0x0f {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    pub(super) const fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// What a frame is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) sender: Sender,
    /// permessage-deflate was agreed.
    pub(super) rsv1: bool,
    /// A fragmented message is open.
    pub(super) fragmented: bool,
}

/// A frame that was found legal. Nothing that follows can make it illegal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) opcode: Opcode,
    pub(super) fin: bool,
    /// Bytes that were judged: the header, and a Close's code.
    pub(super) judged: u8,
    /// Header and payload. Cannot overflow: the payload is below 2^63.
    pub(super) total: u64,
    /// Set for a Close.
    pub(super) close: Option<CloseSeen>,
}

impl Head {
    /// Bytes of its header and payload.
    pub(crate) const fn len(&self) -> u64 {
        self.total
    }

    /// Bytes of its payload.
    pub(crate) const fn payload(&self) -> u64 {
        match self.opcode {
            Opcode::Close => 0, // nobody asks, and its code is among the judged bytes
            Opcode::Continuation | Opcode::Text | Opcode::Binary | Opcode::Ping | Opcode::Pong => {
                self.total - self.judged as u64 // the judged bytes are the header
            }
        }
    }
}

/// Judges a frame by its first bytes, of which there may be too few (`None`) or more than needed.
#[inline]
pub(super) fn judge(bytes: &[u8], rules: Rules) -> Result<Option<Head>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let opcode = judge_first(first, rules)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let short = second & 0x7f;
    judge_second(second, opcode, rules.sender)?;

    let (length_end, payload) = match (short, bytes) {
        (126, &[_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, &[_, _, a, ..]) if a & 0x80 != 0 => return Err(Violation::LengthSign),
        (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (126 | 127, _) => return Ok(None),
        (_, _) => (2, u64::from(short)),
    };
    // By now the mask bit is as the sender must have it.
    let header: usize = match rules.sender {
        Sender::Client => length_end + 4,
        Sender::Backend => length_end,
    };
    if bytes.len() < header {
        return Ok(None);
    }

    let (judged, close) = match (opcode, payload) {
        (Opcode::Close, 0) => (header, Some(CloseSeen { code: None })),
        (Opcode::Close, _) => {
            let Some(code) = close_code(bytes, header, rules.sender) else {
                return Ok(None);
            };
            let code = CloseCode::new(code).ok_or(Violation::CloseBadCode)?;
            (header + 2, Some(CloseSeen { code: Some(code) }))
        }
        (Opcode::Continuation | Opcode::Text | Opcode::Binary | Opcode::Ping | Opcode::Pong, _) => (header, None),
    };
    let head = Head {
        opcode,
        fin: first & 0x80 != 0,
        judged: judged as u8,
        total: header as u64 + payload,
        close,
    };
    Ok(Some(head))
}

/// FIN, RSV and opcode: everything that the first byte can do wrong.
#[inline]
fn judge_first(first: u8, rules: Rules) -> Result<Opcode, Violation> {
    if first & 0x30 != 0 {
        return Err(Violation::Reserved);
    }
    let rsv1 = first & 0x40 != 0;
    if rsv1 && !rules.rsv1 {
        return Err(Violation::Rsv1NotAgreed);
    }
    let opcode = Opcode::from_first(first).ok_or(Violation::Opcode)?;
    let fin = first & 0x80 != 0;
    match (opcode, rules.fragmented) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) if !fin => Err(Violation::ControlFragmented),
        (Opcode::Continuation, false) => Err(Violation::NothingToContinue),
        (Opcode::Text | Opcode::Binary, true) => Err(Violation::MessageInMessage),
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) | (Opcode::Continuation, true) if rsv1 => {
            Err(Violation::Rsv1Misplaced)
        }
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _)
        | (Opcode::Continuation, true)
        | (Opcode::Text | Opcode::Binary, false) => Ok(opcode),
    }
}

/// Mask bit and short length.
#[inline]
fn judge_second(second: u8, opcode: Opcode, sender: Sender) -> Result<(), Violation> {
    let short = second & 0x7f;
    match (sender, second & 0x80 != 0) {
        (Sender::Client, false) => Err(Violation::Unmasked),
        (Sender::Backend, true) => Err(Violation::Masked),
        (Sender::Client, true) | (Sender::Backend, false) => {
            if opcode.is_control() && usize::from(short) > CONTROL_MAX {
                Err(Violation::ControlTooLong)
            } else if opcode == Opcode::Close && short == 1 {
                Err(Violation::CloseHalfCode)
            } else {
                Ok(())
            }
        }
    }
}

/// The code of a Close frame, unmasked; `None` while it is not there.
fn close_code(bytes: &[u8], header: usize, sender: Sender) -> Option<u16> {
    let &[a, b] = bytes.get(header..header + 2)? else {
        return None;
    };
    match sender {
        Sender::Backend => Some(u16::from_be_bytes([a, b])),
        Sender::Client => {
            let &[key_a, key_b] = bytes.get(header - 4..header - 2)? else {
                return None;
            };
            Some(u16::from_be_bytes([a ^ key_a, b ^ key_b]))
        }
    }
}
