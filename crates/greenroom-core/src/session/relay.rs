//! Decides which bytes of a relay pass, and how a relay ends.
//!
//! A [`Relay`] follows both directions of one session with a frame scanner each.
//! The shell reads, asks, writes what it is told to, and keeps the rest:
//!
//! - From the client, bytes pass as they come, up to a violation.
//! - From the backend, a frame of up to `RELAY_BUFFER` passes only when it is
//!   complete, and the shell keeps its beginning; a larger one cuts through. So
//!   a backend that dies in the middle of a frame does not ruin the client's
//!   stream, and greenroom's own Close has a frame boundary to stand at.
//!
//! ```text
//!            Close ──▶ other side's Close ──▶ FIN ──▶ Done
//!   open ──▶ client's FIN: half-closed, passed on ──▶ backend's FIN ──▶ Done
//!            backend's FIN, reset, Close 1001/1012/1013 ──▶ Lost
//!            a broken rule ──▶ Violation
//! ```
//!
//! Pure; a few dozen bytes a session, no buffer.

use super::Answer;
use crate::event::CloseCause;
use crate::limits::RELAY_BUFFER;
use crate::wire::{CloseCode, Scanner, Sender, Stop, Violation};

/// What to do with the bytes of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// So many bytes may be written to the other side: of what is kept, then of this read.
    pub forward: usize,
    /// So many more are kept until their frame is complete. What is in neither is dropped.
    pub keep: usize,
    /// What comes after the forwarded bytes.
    pub then: Then,
}

/// How a relay goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// As before.
    Continue,
    /// Both Closes have passed: the connections end within `CLOSE_HANDSHAKE`.
    BothClosed,
    /// Pass the FIN on to the other side; the rest must end within `HALF_CLOSED`.
    HalfClose,
    /// The backend is lost: the client is closed with 1012, or cut in the middle of a frame.
    Lost {
        /// A frame over `RELAY_BUFFER` had begun: no Close can stand there.
        mid_frame: bool,
        /// The backend said that it restarts (1012).
        restarting: bool,
    },
    /// Somebody broke the protocol: 1002 to it, 1001 to the other.
    Violation(Sender, Violation),
    /// Over: flush, and close both.
    Done(CloseCause),
}

/// How a side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// End of stream: it will send no more.
    Fin,
    /// Reset, or timed out: it will not read either.
    Reset,
}

/// What has come from one side so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    closed: bool,
    ended: bool,
}

/// One session's relay. See the module's head.
#[derive(Debug)]
pub struct Relay {
    from_client: Scanner,
    from_backend: Scanner,
    /// Bytes of the backend's frame in progress that the shell keeps.
    kept: usize,
    /// The backend's frame in progress is larger than that, and cuts through.
    cutting: bool,
    client: Side,
    backend: Side,
    /// Who began to end it.
    cause: Option<CloseCause>,
}

impl Relay {
    /// A relay that has just been opened. `rsv1`: permessage-deflate was agreed.
    #[must_use]
    pub fn new(rsv1: bool) -> Self {
        Self {
            from_client: Scanner::new(Sender::Client, rsv1),
            from_backend: Scanner::new(Sender::Backend, rsv1),
            kept: 0,
            cutting: false,
            client: Side::default(),
            backend: Side::default(),
            cause: None,
        }
    }

    /// Takes what one read from the client gave.
    pub fn client_bytes(&mut self, bytes: &[u8]) -> Pass {
        if self.client.closed {
            return Pass {
                forward: 0,
                keep: 0,
                then: Then::Continue,
            }; // nothing counts after a Close (RFC 6455 §5.5.1)
        }
        let scan = self.from_client.scan(bytes);
        let then = match scan.stop {
            None => Then::Continue,
            Some(Stop::Violation(violation)) => Then::Violation(Sender::Client, violation),
            Some(Stop::Close(_)) => {
                self.client.closed = true;
                self.closed_by(CloseCause::Client)
            }
        };
        Pass {
            forward: scan.consumed,
            keep: 0,
            then,
        }
    }

    /// Takes what one read from the backend gave, behind what is kept.
    pub fn backend_bytes(&mut self, bytes: &[u8]) -> Pass {
        if self.backend.closed {
            return Pass {
                forward: 0,
                keep: 0,
                then: Then::Continue,
            };
        }
        let scan = self.from_backend.scan(bytes);
        let complete = if scan.boundary > 0 {
            self.kept + scan.boundary
        } else {
            0
        };
        let all = self.kept + scan.consumed;
        match scan.stop {
            None => {
                self.cutting = self
                    .from_backend
                    .frame_len()
                    .is_some_and(|len| len > RELAY_BUFFER as u64);
                let forward = if self.cutting { all } else { complete };
                self.kept = all - forward;
                Pass {
                    forward,
                    keep: self.kept,
                    then: Then::Continue,
                }
            }
            Some(Stop::Violation(violation)) => {
                // A frame that cuts through is legal to its end, so what violates begins behind it.
                self.kept = 0;
                self.cutting = false;
                Pass {
                    forward: complete,
                    keep: 0,
                    then: Then::Violation(Sender::Backend, violation),
                }
            }
            Some(Stop::Close(close)) => {
                self.kept = 0;
                self.cutting = false;
                let code = close.code.map(CloseCode::get);
                let lost = matches!(code, Some(1001 | 1012 | 1013)) && self.cause.is_none();
                if lost {
                    let forward = all - scan.close_len.min(all);
                    let then = Then::Lost {
                        mid_frame: false,
                        restarting: code == Some(1012),
                    };
                    return Pass { forward, keep: 0, then };
                }
                self.backend.closed = true;
                Pass {
                    forward: all,
                    keep: 0,
                    then: self.closed_by(CloseCause::Backend),
                }
            }
        }
    }

    /// The client's stream ended.
    pub fn client_ended(&mut self, how: Ended) -> Then {
        self.client.ended = true;
        let was_orderly = self.cause.is_some();
        let cause = *self.cause.get_or_insert(CloseCause::Client);
        match how {
            Ended::Reset if was_orderly => Then::Done(cause),
            Ended::Reset => Then::Done(CloseCause::ClientLost),
            Ended::Fin if self.backend.ended || (self.client.closed && self.backend.closed) => Then::Done(cause),
            Ended::Fin => Then::HalfClose,
        }
    }

    /// The backend's stream ended.
    pub fn backend_ended(&mut self, how: Ended) -> Then {
        self.backend.ended = true;
        match (self.cause, how) {
            (None, Ended::Fin | Ended::Reset) => Then::Lost {
                mid_frame: self.cutting,
                restarting: false,
            },
            (Some(cause), Ended::Fin | Ended::Reset) => Then::Done(cause),
        }
    }

    /// Whether greenroom's own Close may be written to the client here.
    #[must_use]
    pub fn may_close_client(&self) -> bool {
        !self.cutting && !self.backend.closed
    }

    /// Whether greenroom's own Close may be written to the backend here.
    #[must_use]
    pub fn may_close_backend(&self) -> bool {
        self.from_client.at_frame_boundary() && !self.client.closed
    }

    /// Whether the client's Close has come.
    #[must_use]
    pub fn client_has_closed(&self) -> bool {
        self.client.closed
    }

    /// The scanner of the client's bytes, for whoever waits for the client's
    /// answer to greenroom's own Close: nothing passes any more.
    #[must_use]
    pub fn client_scanner(&self) -> Scanner {
        self.from_client.clone()
    }

    /// Who began to end it, if anybody did.
    #[must_use]
    pub fn cause(&self) -> Option<CloseCause> {
        self.cause
    }

    fn closed_by(&mut self, cause: CloseCause) -> Then {
        self.cause.get_or_insert(cause);
        if self.client.closed && self.backend.closed {
            Then::BothClosed
        } else {
            Then::Continue
        }
    }
}

/// Judges what a backend sent after its 101 while the session settles: all bytes so far.
/// `None`: nothing yet that proves anything.
#[must_use]
pub fn settling(bytes: &[u8], rsv1: bool) -> Option<Answer> {
    let mut scanner = Scanner::new(Sender::Backend, rsv1);
    let scan = scanner.scan(bytes);
    if scan.data {
        return Some(Answer::Spoke);
    }
    match scan.stop {
        Some(Stop::Close(close)) if matches!(close.code.map(CloseCode::get), Some(1011..=1013)) => {
            Some(Answer::LostEarly)
        }
        Some(Stop::Close(_) | Stop::Violation(_)) => Some(Answer::Spoke), // its own word, or the relay's to judge
        None => None,
    }
}
