//! Pings to clients that are held with a 101 of greenroom's own: each is told every [`HOLD_PING_EVERY`], whatever its route says.
//!
//! The watch keeps a line of 16 bytes for each of them, and no client a timer. One whose relay has begun, or that is gone, is
//! dropped at the next look. What a ping means, and who leaves too many unanswered, the client's own task knows
//! (`opening::accepted`). Bounded by the clients that can be held.

use std::sync::Arc;

use greenroom_core::event::State;
use greenroom_core::limits::HOLD_PING_EVERY;
use greenroom_core::time::Time;
use greenroom_core::wire::Sender;

use super::Word;
use crate::registry::{Notice, Record};

/// A client that is held with a 101, and when it is pinged next.
#[derive(Debug)]
pub(super) struct Held {
    record: Arc<Record>,
    next: Time,
}

impl Held {
    pub(super) fn new(record: &Arc<Record>, accepted: Time) -> Self {
        Self {
            record: Arc::clone(record),
            next: accepted + HOLD_PING_EVERY,
        }
    }

    /// One look. False: nobody waits for its pings any more.
    pub(super) fn look(&mut self, now: Time) -> bool {
        if !matches!(self.record.state().0, State::Held | State::Dialing) {
            return false;
        }
        if now >= self.next {
            self.next = self.next + HOLD_PING_EVERY;
            let ping = Notice::Watch(Word::Ping(Sender::Client));
            let _ = self.record.mailbox.tell(ping); // full: it is pinged the next time
        }
        true
    }
}
