//! Decides where frames end in bytes that come in any pieces.
//!
//! ```text
//!                     header complete, legal
//!   between frames ──────────────────────────▶ in a frame ──┐
//!      │   ▲                                     │     ▲    │ payload goes by
//!      │   └─────────────────────────────────────┤     └────┘
//!      │               its last byte             │
//!      │ illegal                                 │ its last byte, of a Close
//!      ▼                                         ▼
//!   stopped: violation                        stopped: close
//! ```
//!
//! Both stops are final. A header that is not complete is kept (14 bytes); payload
//! is counted down, a whole slice at a time.

use super::close::CloseSeen;
use super::judge::{HEADER_MAX, Head, Opcode, Rules, Violation, judge};

/// Whose bytes these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A client: every frame must be masked (RFC 6455 §5.1).
    Client,
    /// A backend: no frame may be masked.
    Backend,
}

/// Why a scanner goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// A whole Close frame was scanned. Nothing may follow it (RFC 6455 §5.5.1).
    Close(CloseSeen),
    /// The next frame breaks the protocol.
    Violation(Violation),
}

/// What else decides whether a frame may begin, when its header is known to be legal.
pub(crate) trait Begins {
    /// Whether it may.
    fn may_begin(&mut self, head: &Head) -> bool;
}

/// Whatever is legal may.
impl Begins for () {
    #[inline]
    fn may_begin(&mut self, _: &Head) -> bool {
        true
    }
}

/// Why a frame does not begin.
enum Bad {
    Violation(Violation),
    Unwanted,
}

impl From<Violation> for Bad {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// What was found in one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes of the slice that may be passed on: all, unless stopped. At a Close up to
    /// its end; at a violation up to the frame that violates, 0 if that began before this slice.
    pub consumed: usize,
    /// Where the last frame that ended in this slice ended; 0 if none did.
    pub boundary: usize,
    /// Frames that ended in this slice.
    pub frames: u32,
    /// Data messages whose last frame ended in this slice.
    pub messages: u32,
    /// Pings that ended in this slice.
    pub pings: u32,
    /// Pongs that ended in this slice.
    pub pongs: u32,
    /// Where the last data message that ended in this slice ended; 0 if none did.
    pub message_end: usize,
    /// Whether the header of a data frame was completed in this slice.
    pub data: bool,
    /// Length of the Close frame that ended in this slice, header and payload; it may have begun before.
    pub close_len: usize,
    /// Why the scanner stopped, if it did.
    pub stop: Option<Stop>,
}

/// Follows the frames of one direction.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// Payload bytes to come of the frame in progress, once it was judged.
    left: u64,
    /// Whole length of the frame in progress; 0 while none is judged (a frame has at least 2 bytes).
    total: u64,
    /// The close that is going by (`total > 0`) or has gone by, or the violation.
    stop: Option<Stop>,
    /// First bytes of a frame that could not be judged by them alone.
    kept: [u8; HEADER_MAX],
    kept_len: u8,
    /// Of the frame in progress.
    opcode: Opcode,
    rules: Rules,
}

impl Scanner {
    /// A scanner for the bytes that follow the opening handshake. `rsv1`: permessage-deflate
    /// was agreed, so RSV1 may stand on the first frame of a data message (RFC 7692 §6).
    #[must_use]
    pub const fn new(sender: Sender, rsv1: bool) -> Self {
        Self {
            left: 0,
            total: 0,
            stop: None,
            kept: [0; HEADER_MAX],
            kept_len: 0,
            opcode: Opcode::Continuation,
            rules: Rules {
                sender,
                rsv1,
                fragmented: false,
            },
        }
    }

    /// Scans bytes that follow those scanned before.
    ///
    /// Stops after a Close, and before a frame that violates. From then on every call
    /// takes nothing and gives the same stop.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        self.scan_with(bytes, &mut ())
    }

    /// The same, where more than the protocol decides whether a frame may begin. At one that may not it goes no
    /// further, as at a violation, but stays as it is: whoever said no remembers it, and asks no more.
    #[inline]
    pub(crate) fn scan_with<B: Begins>(&mut self, bytes: &[u8], begins: &mut B) -> Scan {
        let mut scan = Scan::default();
        if self.stopped() {
            scan.stop = self.stop;
            return scan;
        }
        let mut at = 0;
        while at < bytes.len() {
            if self.total == 0 {
                match self.begin(&bytes[at..], begins) {
                    Ok(Some(judged)) => at += judged,
                    Ok(None) => at = bytes.len(),
                    Err(Bad::Violation(violation)) => {
                        self.stop = Some(Stop::Violation(violation));
                        break;
                    }
                    Err(Bad::Unwanted) => break,
                }
                if self.total == 0 {
                    continue;
                }
                scan.data |= !self.opcode.is_control();
            }
            let here = self.left.min((bytes.len() - at) as u64);
            self.left -= here;
            at += here as usize; // at most the length of the slice
            if self.left == 0 {
                self.finish(at, &mut scan);
                if self.stop.is_some() {
                    break;
                }
            }
        }
        scan.consumed = at;
        if self.stopped() {
            scan.stop = self.stop;
        }
        self.check_invariants();
        scan
    }

    /// Whether what was scanned ends with a frame (or is nothing): a control frame may be put in here.
    ///
    /// After a violation: whether nothing of the bad frame was passed on.
    #[must_use]
    pub const fn at_frame_boundary(&self) -> bool {
        self.total == 0 && self.kept_len == 0
    }

    /// Whether, besides, no fragmented message is open: a data message may be put in here.
    #[must_use]
    pub const fn at_message_boundary(&self) -> bool {
        self.at_frame_boundary() && !self.rules.fragmented
    }

    /// Whether no fragmented message is open in front of the frame in progress: where nothing of that frame was passed
    /// on, a data message may be put in before it. Between frames the same as [`Scanner::at_message_boundary`].
    #[must_use]
    pub const fn is_message_boundary_before_frame(&self) -> bool {
        match self.opcode {
            _ if self.total == 0 => !self.rules.fragmented,
            Opcode::Text | Opcode::Binary => true,
            Opcode::Continuation => false,
            Opcode::Close | Opcode::Ping | Opcode::Pong => !self.rules.fragmented,
        }
    }

    /// Length of the frame in progress, header and payload, once it is known to be legal.
    #[must_use]
    pub const fn frame_len(&self) -> Option<u64> {
        if self.total == 0 { None } else { Some(self.total) }
    }

    /// Bytes to come of the frame in progress; 0 while [`Scanner::frame_len`] is `None`.
    #[must_use]
    pub const fn frame_left(&self) -> u64 {
        self.left
    }

    /// Whether the frame in progress, or the one that ended last, is of this kind.
    pub(crate) fn is_in(&self, opcode: Opcode) -> bool {
        self.opcode == opcode
    }

    /// How many of the last bytes taken begin a frame that may still turn out illegal: an
    /// incomplete header, or a Close's header without its code. At most 13.
    ///
    /// Who keeps so many back until they are judged never passes on a byte of a bad frame.
    /// After a violation: how many bytes of the bad frame were taken before it showed.
    #[must_use]
    pub const fn unjudged(&self) -> usize {
        self.kept_len as usize
    }

    /// Why the scanner stopped, if it did.
    #[must_use]
    pub const fn stop(&self) -> Option<Stop> {
        if self.stopped() { self.stop } else { None }
    }

    /// A Close is noted when it begins, and stops the scanner when it ends.
    const fn stopped(&self) -> bool {
        self.stop.is_some() && self.total == 0
    }

    /// Takes the first bytes of a frame; gives how many of `rest` were judged, `None` if all
    /// of them were too few.
    #[inline]
    fn begin<B: Begins>(&mut self, rest: &[u8], begins: &mut B) -> Result<Option<usize>, Bad> {
        if self.kept_len > 0 {
            return self.begin_kept(rest, begins);
        }
        let Some(head) = judge(rest, self.rules)? else {
            self.kept[..rest.len()].copy_from_slice(rest); // judge needs no more than fit
            self.kept_len = rest.len() as u8;
            return Ok(None);
        };
        if !begins.may_begin(&head) {
            return Err(Bad::Unwanted);
        }
        self.enter(head);
        Ok(Some(usize::from(head.judged)))
    }

    /// The same, behind first bytes that came before. On a violation these stay counted.
    #[cold]
    fn begin_kept<B: Begins>(&mut self, rest: &[u8], begins: &mut B) -> Result<Option<usize>, Bad> {
        let kept = usize::from(self.kept_len);
        let more = rest.len().min(HEADER_MAX - kept);
        self.kept[kept..kept + more].copy_from_slice(&rest[..more]);
        let Some(head) = judge(&self.kept[..kept + more], self.rules)? else {
            self.kept_len += more as u8;
            return Ok(None);
        };
        if !begins.may_begin(&head) {
            return Err(Bad::Unwanted);
        }
        self.kept_len = 0;
        self.enter(head);
        Ok(Some(usize::from(head.judged) - kept))
    }

    #[inline]
    fn enter(&mut self, head: Head) {
        self.total = head.total;
        self.left = head.total - u64::from(head.judged);
        self.opcode = head.opcode;
        self.stop = head.close.map(Stop::Close);
        if !head.opcode.is_control() {
            self.rules.fragmented = !head.fin;
        }
    }

    #[inline]
    fn finish(&mut self, at: usize, scan: &mut Scan) {
        let total = core::mem::take(&mut self.total);
        scan.boundary = at;
        scan.frames = scan.frames.saturating_add(1);
        match self.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                if !self.rules.fragmented {
                    scan.messages = scan.messages.saturating_add(1);
                    scan.message_end = at;
                }
            }
            Opcode::Ping => scan.pings = scan.pings.saturating_add(1),
            Opcode::Pong => scan.pongs = scan.pongs.saturating_add(1),
            Opcode::Close => scan.close_len = total as usize, // a control frame: a few bytes
        }
    }

    fn check_invariants(&self) {
        debug_assert!(self.left <= self.total);
        debug_assert!(
            self.total == 0 || self.kept_len == 0,
            "a judged frame needs no kept bytes"
        );
        debug_assert!(
            usize::from(self.kept_len) < HEADER_MAX,
            "that many bytes are always enough"
        );
    }
}
