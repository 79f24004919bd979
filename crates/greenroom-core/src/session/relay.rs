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
//! A message of greenroom's own may be put between two messages of the backend ([`Relay::may_send`]); where a route
//! asks for it, a client's messages are measured ([`Relay::client_bytes_at`]).
//!
//! Pure; a few dozen bytes a session, no buffer.

mod beat;
mod dropped;

pub use dropped::Dropped;

use super::meter::Meter;
use super::{Answer, MessageLimits, Over};
use crate::event::{CloseCause, Unsent};
use crate::limits::RELAY_BUFFER;
use crate::time::Time;
use crate::wire::{CloseCode, Scan, Scanner, Sender, Stop, Violation};

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
    /// The client sends more than its route allows: its own code to it, 1001 to the backend.
    Over(Over),
    /// Over: flush, and close both.
    Done(CloseCause),
}

/// Whether a message of greenroom's own may go to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaySend {
    /// Behind all that may be written, before what is kept.
    Now,
    /// A message of the backend is not complete.
    Later,
    /// Not at all.
    Never(Unsent),
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
    /// The backend began it, with 1011.
    rejected: bool,
    /// A data frame of the backend has begun.
    backend_spoke: bool,
    /// Messages that ended in the bytes of the last call.
    messages: u32,
    /// What the route asks of the client's messages, if it does.
    meter: Option<Box<Meter>>,
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
            rejected: false,
            backend_spoke: false,
            messages: 0,
            meter: None,
        }
    }

    /// From now on the client's messages keep to this.
    #[must_use]
    pub fn limited(mut self, limits: MessageLimits, now: Time) -> Self {
        self.meter = Meter::of(limits, now).map(Box::new);
        self
    }

    /// Whether the client's messages are measured: then ask [`Relay::client_bytes_at`].
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.meter.is_some()
    }

    /// Takes what one read from the client gave.
    pub fn client_bytes(&mut self, bytes: &[u8]) -> Pass {
        self.messages = 0;
        if self.client.closed {
            return pass_nothing(); // nothing counts after a Close (RFC 6455 §5.5.1)
        }
        let scan = self.from_client.scan(bytes);
        self.client_scanned(&scan)
    }

    /// The same, where messages are measured. `None`: these came before, and count by their sizes only.
    pub fn client_bytes_at(&mut self, now: Option<Time>, bytes: &[u8]) -> Pass {
        let Some(meter) = self.meter.as_mut().filter(|_| !self.client.closed) else {
            return self.client_bytes(bytes);
        };
        if meter.over().is_some() {
            return pass_nothing(); // the header of the frame that is too much has come, and nothing counts behind it
        }
        let scan = self.from_client.scan_with(bytes, meter.at(now));
        let over = meter.over();
        let pass = self.client_scanned(&scan);
        match over {
            Some(over) => Pass {
                then: Then::Over(over),
                ..pass
            },
            None => pass,
        }
    }

    #[inline]
    fn client_scanned(&mut self, scan: &Scan) -> Pass {
        self.messages = scan.messages;
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
        self.messages = 0;
        if self.backend.closed {
            return pass_nothing();
        }
        let scan = self.from_backend.scan(bytes);
        self.backend_spoke |= scan.data;
        self.messages = scan.messages;
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
                // Frames are judged by their first bytes: all before this one are whole, a large one too.
                let then = Then::Violation(Sender::Backend, violation);
                let forward = complete;
                self.kept = 0;
                self.cutting = false;
                Pass { forward, keep: 0, then }
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
                self.rejected = code == Some(1011) && self.cause.is_none();
                Pass {
                    forward: all,
                    keep: 0,
                    then: self.closed_by(CloseCause::Backend),
                }
            }
        }
    }

    /// The backend closed it with 1011: its own word, which passes, and early in a relay the word
    /// of a backend that is not ready. With 1012 and 1013 it is lost anyway.
    #[must_use]
    pub fn was_rejected(&self) -> bool {
        self.rejected
    }

    /// Messages whose last byte was among those of the last call.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether the backend has begun to say anything: so its handler is there.
    #[must_use]
    pub fn backend_has_spoken(&self) -> bool {
        self.backend_spoke
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

    /// Whether greenroom's own Close to the client has to wait: a frame of the backend cuts through, and its end can still come.
    #[must_use]
    pub fn close_waits(&self) -> bool {
        self.cutting && !self.backend.ended
    }

    /// How many of the bytes that come next from the backend belong to the frame in progress: behind them the Close may stand
    /// that has to wait.
    #[must_use]
    pub fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let left = self.from_backend.frame_left();
        usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
    }

    /// Whether the backend's Close has passed on to the client.
    #[must_use]
    pub fn backend_has_closed(&self) -> bool {
        self.backend.closed
    }

    /// Whether greenroom's own Close may be written to the backend here.
    #[must_use]
    pub fn may_close_backend(&self) -> bool {
        self.from_client.at_frame_boundary() && !self.client.closed
    }

    /// Whether a whole message of greenroom's own, `len` bytes with its header, may go to the client. `unwritten`: bytes
    /// that the client has not taken of what it may have. It never grows what waits beyond `RELAY_BUFFER`.
    ///
    /// It stands between two messages of the backend. Where nothing of the backend's frame in progress has passed, and no
    /// message was open before it, that is in front of the frame.
    #[must_use]
    pub fn may_send(&self, len: usize, unwritten: usize) -> MaySend {
        let is_ending = self.cause.is_some() || self.client != Side::default() || self.backend != Side::default();
        let fits = unwritten.saturating_add(self.kept).saturating_add(len) <= RELAY_BUFFER;
        match () {
            () if is_ending => MaySend::Never(Unsent::NotRelaying),
            () if !fits && unwritten > 0 => MaySend::Never(Unsent::Slow),
            () if self.cutting || !self.from_backend.is_message_boundary_before_frame() => MaySend::Later,
            () if !fits => MaySend::Later, // the backend's frame takes the room until it is complete
            () => MaySend::Now,
        }
    }

    /// Where among bytes that come next from the backend its last whole message ends, if one does: there
    /// is room for a message of greenroom's own, also where another begins right behind.
    #[must_use]
    pub fn message_end(&self, bytes: &[u8]) -> Option<usize> {
        let scan = self.from_backend.clone().scan(bytes);
        (scan.message_end > 0 && !self.backend.closed).then_some(scan.message_end)
    }

    /// Whether the client's Close has come.
    #[must_use]
    pub fn client_has_closed(&self) -> bool {
        self.client.closed
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

fn pass_nothing() -> Pass {
    Pass {
        forward: 0,
        keep: 0,
        then: Then::Continue,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(forward: usize, keep: usize) -> Pass {
        Pass {
            forward,
            keep,
            then: Then::Continue,
        }
    }

    #[test]
    fn a_backend_frame_passes_only_when_it_is_complete() {
        let mut relay = Relay::new(false);
        assert_eq!(relay.backend_bytes(b"\x81\x05he"), pass(0, 4));
        assert_eq!(relay.backend_bytes(b"l"), pass(0, 5));
        assert_eq!(
            relay.backend_bytes(b"lo\x81"),
            pass(7, 1),
            "the kept ones, two more, and a beginning stays"
        );
        assert_eq!(relay.backend_bytes(b"\x00"), pass(2, 0));
    }

    #[test]
    fn a_backend_frame_over_the_buffer_cuts_through_from_its_header_on() {
        let mut relay = Relay::new(false);
        let over = (RELAY_BUFFER as u64).to_be_bytes();
        assert_eq!(relay.backend_bytes(&[0x82, 127]), pass(0, 2));
        assert_eq!(
            relay.backend_bytes(&over),
            pass(10, 0),
            "64 KiB of payload and its header are over"
        );
        assert!(!relay.may_close_client(), "no Close can stand in the middle of a frame");
        assert_eq!(relay.backend_bytes(&[0; 100]), pass(100, 0));
        let next = vec![0; RELAY_BUFFER];
        let rest = relay.rest_of_frame(&next);
        assert!(relay.close_waits() && rest == RELAY_BUFFER - 100, "{rest}");
        relay.backend_bytes(&next[..rest]);
        assert!(!relay.close_waits() && relay.may_close_client(), "behind it one can");
        relay.backend_bytes(&[0x82, 127]);
        relay.backend_bytes(&over);
        assert_eq!(
            relay.backend_ended(Ended::Reset),
            Then::Lost {
                mid_frame: true,
                restarting: false
            }
        );
        assert!(!relay.close_waits(), "its end cannot come any more");
    }

    #[test]
    fn a_backend_that_dies_in_a_small_frame_leaves_room_for_a_close() {
        let mut relay = Relay::new(false);
        relay.backend_bytes(b"\x81\x05he");
        assert!(relay.may_close_client());
        assert_eq!(
            relay.backend_ended(Ended::Fin),
            Then::Lost {
                mid_frame: false,
                restarting: false
            }
        );
    }

    #[test]
    fn a_backend_close_that_means_lost_does_not_pass_and_what_came_before_does() {
        for (code, lost) in [
            (1000_u16, false),
            (1001, true),
            (1008, false),
            (1011, false),
            (1012, true),
            (1013, true),
            (4000, false),
        ] {
            let [a, b] = code.to_be_bytes();
            let mut relay = Relay::new(false);
            assert_eq!(relay.backend_bytes(b"\x81\x05he"), pass(0, 4));
            let end = relay.backend_bytes(&[b'l', b'l', b'o', 0x88, 2, a, b, 0x81, 0]);
            let (forward, then) = if lost {
                let restarting = code == 1012;
                (
                    7,
                    Then::Lost {
                        mid_frame: false,
                        restarting,
                    },
                )
            } else {
                (11, Then::Continue)
            };
            assert_eq!(end, Pass { forward, keep: 0, then }, "{code}");
        }
    }

    #[test]
    fn a_close_of_the_backend_in_answer_to_the_clients_passes_whatever_its_code() {
        let mut relay = Relay::new(false);
        assert_eq!(relay.client_bytes(b"\x88\x82\0\0\0\0\x03\xe9more").forward, 8);
        assert!(!relay.may_close_backend());
        let end = relay.backend_bytes(b"\x88\x02\x03\xe9");
        assert_eq!((end.forward, end.then), (4, Then::BothClosed));
        assert_eq!(relay.client_bytes(b"x"), pass(0, 0), "nothing counts after a Close");
        assert_eq!(relay.client_ended(Ended::Fin), Then::Done(CloseCause::Client));
    }

    #[test]
    fn a_violation_is_charged_to_who_sent_it_and_stops_before_the_frame() {
        let mut relay = Relay::new(false);
        let pass = relay.client_bytes(b"\x81\x80\0\0\0\0\x81\x01a");
        assert_eq!(
            (pass.forward, pass.then),
            (6, Then::Violation(Sender::Client, Violation::Unmasked))
        );
        assert!(relay.may_close_backend());

        let mut relay = Relay::new(false);
        assert_eq!(relay.backend_bytes(b"\x81\x01a\x81").keep, 1);
        let pass = relay.backend_bytes(b"\x81");
        assert_eq!(
            (pass.forward, pass.keep, pass.then),
            (0, 0, Then::Violation(Sender::Backend, Violation::Masked))
        );
        assert!(relay.may_close_client());
    }

    #[test]
    fn a_violation_right_behind_a_large_frame_leaves_room_for_a_close() {
        let mut relay = Relay::new(false);
        let mut frame = vec![0x82, 127];
        frame.extend((RELAY_BUFFER as u64).to_be_bytes());
        relay.backend_bytes(&frame);
        let mut rest = vec![0; RELAY_BUFFER];
        rest.extend(b"\x82\x81");
        let pass = relay.backend_bytes(&rest);
        assert_eq!((pass.forward, pass.keep), (RELAY_BUFFER, 0));
        assert!(relay.may_close_client());
    }

    #[test]
    fn a_half_close_passes_and_ends_with_the_other_half() {
        let mut relay = Relay::new(false);
        assert_eq!(relay.client_ended(Ended::Fin), Then::HalfClose);
        assert_eq!(relay.backend_bytes(b"\x81\x01a"), pass(3, 0));
        assert_eq!(relay.backend_ended(Ended::Fin), Then::Done(CloseCause::Client));
        assert_eq!(
            Relay::new(false).client_ended(Ended::Reset),
            Then::Done(CloseCause::ClientLost)
        );
    }

    #[test]
    fn only_a_1011_that_the_backend_begins_with_is_a_rejection() {
        for (code, expected) in [(1011_u16, true), (1000, false), (1008, false), (4011, false)] {
            let [a, b] = code.to_be_bytes();
            let mut relay = Relay::new(false);
            relay.backend_bytes(&[0x88, 2, a, b]);
            assert_eq!(relay.was_rejected(), expected, "{code}");
        }
        let mut answered = Relay::new(false);
        answered.client_bytes(b"\x88\x80\x00\x00\x00\x00");
        answered.backend_bytes(&[0x88, 2, 3, 0xf3]);
        assert!(!answered.was_rejected());
    }

    #[test]
    fn while_settling_only_a_ping_and_1011_to_1013_say_nothing_good() {
        assert_eq!(settling(b"", false), None);
        assert_eq!(settling(b"\x89\x00", false), None);
        assert_eq!(settling(b"\x89\x00\x81\x01", false), Some(Answer::Spoke));
        for code in [1000_u16, 1001, 1008, 1011, 1012, 1013, 4001] {
            let [a, b] = code.to_be_bytes();
            let expected = if (1011..=1013).contains(&code) {
                Answer::LostEarly
            } else {
                Answer::Spoke
            };
            assert_eq!(settling(&[0x88, 2, a, b], false), Some(expected), "{code}");
            assert_eq!(settling(&[0x88, 2, a], false), None, "{code} half");
        }
    }
}
