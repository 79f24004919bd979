//! Decides what becomes of an accepted client's bytes until its backend is ready.
//!
//! An accepted client has a 101 of greenroom's own, and speaks. Its messages are kept as they came, still masked,
//! and handed to the relay once the backend's 101 was validated; control frames are answered here and are not
//! kept. What breaks the protocol shows before it is kept (RFC 6455 §5, §8.1): no extension was agreed, so text
//! can be looked into.
//!
//! ```text
//!   bytes ──▶ scanner ──┬─ data frame ──▶ kept, in order
//!                       ├─ Ping ────────▶ the last of those that come together is answered
//!                       ├─ Pong ────────▶ dropped
//!                       └─ Close, violation, no UTF-8, too many pings ──▶ the end
//! ```
//!
//! **Bounds.** `max` bytes and [`EARLY_FRAMES_MAX`] frames: then [`Early::room`] is 0, and the client is read only as
//! far as control frames come next. A control frame is gathered in a place of its own, of 131 bytes and only until it is
//! whole, so that it takes no room. Which bytes may be read is said before, by a look at them: [`Early::takes`]. Nothing is
//! allocated from a declared length. An [`Early`] that was sent nothing has no buffer.

mod budget;

use core::time::Duration;

pub use budget::Budget;

use crate::event::Refusal;
use crate::limits::{EARLY_FRAMES_MAX, EARLY_PIECE, HOLD_PINGS_MAX, HOLD_PINGS_WINDOW};
use crate::time::Time;
use crate::wire::{CloseSeen, ControlFrame, Opcode, Scanner, Sender, Stop, Violation, pong_frame};

/// The longest control frame of a client: two bytes, the mask and 125 of payload (RFC 6455 §5.2, §5.5).
const CONTROL_FRAME_MAX: usize = 131;

/// How many of some bytes may be read and taken now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Of the first ones, so many.
    pub all: usize,
    /// Of these, so many are of data frames and will be kept.
    pub data: usize,
}

/// What follows from some bytes of an accepted client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// To be written to the client: the answer to its last Ping.
    pub pong: Option<ControlFrame>,
    /// Nothing more is to be read.
    pub end: Option<End>,
}

/// Why an accepted client is heard no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It said Close: to be answered with [`close_reply`](crate::wire::close_reply).
    Closed(CloseSeen),
    /// It broke the protocol: 1002.
    Violation(Violation),
    /// A text is no UTF-8: 1007 (RFC 6455 §8.1).
    NotUtf8,
    /// A limit of this hold.
    Refused(Refusal),
}

/// What one accepted client has sent so far. See the module's head.
#[derive(Debug)]
pub struct Early {
    scanner: Scanner,
    /// Whole data frames, then the frame in progress.
    bytes: Vec<u8>,
    /// Where the data frame in progress begins.
    begun: usize,
    /// What has come of the control frame in progress; no memory between two of them.
    control: Vec<u8>,
    /// The frame in progress is a control frame. Its first byte tells.
    is_control: bool,
    frames: usize,
    /// What was kept when it ended.
    unheard: usize,
    text: Text,
    pings: Pings,
    max: usize,
}

impl Early {
    /// For a client of which at most `max` bytes are kept.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            scanner: Scanner::new(Sender::Client, false),
            bytes: Vec::new(),
            begun: 0,
            control: Vec::new(),
            is_control: false,
            frames: 0,
            unheard: 0,
            text: Text::default(),
            pings: Pings::default(),
            max,
        }
    }

    /// How many bytes of data frames may still come.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.frames >= EARLY_FRAMES_MAX {
            return 0;
        }
        self.max.saturating_sub(self.bytes.len())
    }

    /// How many bytes of a data frame's payload come next: what they are makes no difference to [`Early::takes`].
    #[must_use]
    pub fn payload_left(&self) -> usize {
        if self.is_control {
            return 0;
        }
        usize::try_from(self.scanner.frame_left()).unwrap_or(usize::MAX)
    }

    /// How many of the bytes that come next may be taken: up to the first for which there is no room.
    #[must_use]
    pub fn takes(&self, next: &[u8]) -> Takes {
        self.takes_into(next, self.room())
    }

    /// The same, if there is no more memory to be had.
    #[must_use]
    pub fn takes_without_memory(&self, next: &[u8]) -> Takes {
        let spare = self.bytes.capacity() - self.bytes.len();
        self.takes_into(next, self.room().min(spare))
    }

    fn takes_into(&self, next: &[u8], room: usize) -> Takes {
        let (mut scanner, mut is_control, mut frames) = (self.scanner.clone(), self.is_control, self.frames);
        let mut takes = Takes::default();
        while let Some(piece) = piece_of(&scanner, &mut is_control, &next[takes.all..]) {
            let mut here = piece.len();
            if !is_control {
                here = here.min(if frames < EARLY_FRAMES_MAX {
                    room - takes.data
                } else {
                    0
                });
                takes.data += here;
            }
            if here == 0 {
                break;
            }
            takes.all += here;
            let scan = scanner.scan(&piece[..here]);
            if scan.stop.is_some() {
                takes.all = next.len(); // what follows is only looked at
                break;
            }
            if scan.frames > 0 && !is_control {
                frames += 1;
            }
        }
        takes
    }

    /// Bytes of memory for what is kept.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// How much more memory it takes to keep `more` bytes of data frames: asked before they are read.
    #[must_use]
    pub fn growth(&self, more: usize) -> usize {
        self.capacity_for(more) - self.bytes.capacity()
    }

    /// At least what is needed, and by half more each time, but never beyond the limit.
    fn capacity_for(&self, more: usize) -> usize {
        let (needed, capacity) = (self.bytes.len() + more, self.bytes.capacity());
        if needed <= capacity {
            return capacity;
        }
        let ample = capacity.saturating_add(capacity / 2).max(EARLY_PIECE).min(self.max);
        needed.max(ample)
    }

    /// Bytes that are kept, or were when it ended: nobody hears them then.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.bytes.len().max(self.unheard)
    }

    /// Takes what one read gave: not more than [`Early::takes`] says.
    pub fn take(&mut self, now: Time, bytes: &[u8]) -> Taken {
        let takes = self.takes(bytes);
        debug_assert!(takes.all == bytes.len());
        let capacity = self.capacity_for(takes.data);
        self.bytes.reserve_exact(capacity - self.bytes.len());
        let mut taken = Taken::default();
        let mut rest = bytes;
        while taken.end.is_none()
            && let Some(piece) = piece_of(&self.scanner, &mut self.is_control, rest)
        {
            rest = &rest[piece.len()..];
            self.gather(piece);
            let scan = self.scanner.scan(piece);
            match scan.stop {
                Some(Stop::Violation(violation)) => taken.end = Some(End::Violation(violation)),
                Some(Stop::Close(seen)) => taken.end = Some(End::Closed(seen)),
                None if scan.frames > 0 => self.ended(now, &mut taken),
                None => {}
            }
        }
        if taken.end.is_some() {
            self.unheard = self.begun;
            self.forget();
            self.scanner.scan(rest); // `closes` goes on behind it
        }
        taken
    }

    fn gather(&mut self, piece: &[u8]) {
        if !self.is_control {
            self.bytes.extend_from_slice(piece);
            return;
        }
        let room = CONTROL_FRAME_MAX - self.control.len();
        self.control.reserve_exact(room);
        self.control.extend_from_slice(&piece[..piece.len().min(room)]); // all: what is longer is a violation by its second byte
    }

    /// Drops what is kept: its client is not let in any more. See [`Early::closes`].
    pub fn forget(&mut self) {
        self.bytes = Vec::new();
        self.begun = 0;
        self.control = Vec::new();
    }

    /// Looks for the client's Close in what is not taken any more. Without bytes: whether it was seen already.
    pub fn closes(&mut self, bytes: &[u8]) -> Option<CloseSeen> {
        match self.scanner.scan(bytes).stop {
            Some(Stop::Close(seen)) => Some(seen),
            Some(Stop::Violation(_)) | None => None,
        }
    }

    /// What is kept, for the relay: whole messages, then what has come of the next frame.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The frame in progress is whole.
    fn ended(&mut self, now: Time, taken: &mut Taken) {
        if !self.is_control {
            let is_text = self.scanner.is_in(Opcode::Text);
            let is_start = is_text || self.scanner.is_in(Opcode::Binary);
            let is_last = self.scanner.at_message_boundary();
            let frame = Frame::of(&self.bytes[self.begun..]);
            if !self.text.takes(&frame, (is_start, is_text, is_last)) {
                taken.end = Some(End::NotUtf8);
            }
            self.begun = self.bytes.len();
            self.frames += 1;
            return;
        }
        if self.scanner.is_in(Opcode::Ping) {
            let payload: Vec<u8> = Frame::of(&self.control).unmasked().collect();
            taken.pong = pong_frame(&payload, None);
            if !self.pings.admits(now) {
                taken.end = Some(End::Refused(Refusal::EarlyPings));
            }
        }
        self.control = Vec::new();
    }
}

/// The first of some bytes, as far as they are of one frame; `None` if there are none. A header goes byte by byte, so
/// that no look reaches beyond the end of a frame.
fn piece_of<'b>(scanner: &Scanner, is_control: &mut bool, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let first = *bytes.first()?;
    if scanner.at_frame_boundary() {
        *is_control = first & 0x08 != 0; // RFC 6455 §5.5
    }
    let here = match scanner.frame_len() {
        Some(_) => usize::try_from(scanner.frame_left()).unwrap_or(usize::MAX),
        None => 1,
    };
    Some(&bytes[..here.min(bytes.len())])
}

/// A client's whole frame.
struct Frame<'b> {
    key: [u8; 4],
    payload: &'b [u8],
}

impl<'b> Frame<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        let extended = match bytes.get(1).map(|byte| byte & 0x7f) {
            Some(126) => 2,
            Some(127) => 8,
            _ => 0,
        };
        let rest = bytes.get(2 + extended..).unwrap_or_default();
        let (key, payload) = rest.split_at(rest.len().min(4));
        Self {
            key: key.try_into().unwrap_or_default(),
            payload,
        }
    }

    fn unmasked(&self) -> impl Iterator<Item = u8> + use<'b> {
        let key = self.key;
        self.payload
            .iter()
            .enumerate()
            .map(move |(at, byte)| byte ^ key[at % 4])
    }
}

/// Follows the text of a message over its frames.
#[derive(Debug, Default)]
struct Text {
    /// The open message is a text.
    is_open: bool,
    /// The beginning of a character that the last frame cut.
    cut: [u8; 3],
    cut_len: usize,
}

impl Text {
    /// One frame; `false`: what has come of its message is no UTF-8.
    fn takes(&mut self, frame: &Frame<'_>, (is_start, is_text, is_last): (bool, bool, bool)) -> bool {
        if is_start {
            self.is_open = is_text;
            self.cut_len = 0;
        }
        if !self.is_open {
            return true;
        }
        let mut whole = self.cut[..self.cut_len].to_vec();
        whole.extend(frame.unmasked());
        let rest = match core::str::from_utf8(&whole) {
            Ok(_) => &[],
            Err(error) if error.error_len().is_none() && !is_last => &whole[error.valid_up_to()..],
            Err(_) => return false,
        };
        self.cut_len = rest.len(); // less than a character: at most 3
        self.cut[..rest.len()].copy_from_slice(rest);
        true
    }
}

/// Counts pings in windows of a fixed length.
#[derive(Debug, Default)]
struct Pings {
    since: Time,
    count: u32,
}

impl Pings {
    fn admits(&mut self, now: Time) -> bool {
        const WINDOW: Duration = HOLD_PINGS_WINDOW;
        if now.since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= HOLD_PINGS_MAX
    }
}

#[cfg(test)]
mod tests;
