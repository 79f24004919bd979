//! Decides whether a client's next message is too large, or one too many: what a route asks for with `message_max` and
//! `message_rate`.
//!
//! Asked at the header of each data frame, before anything of it is passed on: a declared length is compared, and
//! nothing is ever allocated for it. Sizes are those on the wire, compressed where the two ends agreed to that. A message
//! takes a token of its bucket where it begins. Routes without limits have no [`Meter`].

use crate::bucket::Bucket;
use crate::event::CloseCause;
use crate::time::Time;
use crate::wire::{Begins, CloseCode, Head, Opcode};

/// What a route asks of a client's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of one message, over all its frames.
    pub size: Option<u64>,
    /// Messages in a second, of which those of two seconds may come together.
    pub rate: Option<usize>,
}

/// What a client's messages are too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// One is larger than it may be.
    Size,
    /// They are more than there may be.
    Rate,
}

impl Over {
    /// What the client is told (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Size => CloseCode::TOO_BIG,
            Self::Rate => CloseCode::POLICY,
        }
    }

    /// Why it ends, for the ledger.
    #[must_use]
    pub const fn cause(self) -> CloseCause {
        match self {
            Self::Size | Self::Rate => CloseCause::Limit,
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    size: u64,
    rate: Option<(usize, Bucket)>,
    /// Bytes that the message in progress may still have.
    left: u64,
    /// `None`: when these bytes came is not known, and they do not count.
    now: Option<Time>,
    over: Option<Over>,
}

impl Meter {
    /// `None`: nothing is to be measured.
    pub(super) fn of(limits: MessageLimits, now: Time) -> Option<Self> {
        (limits != MessageLimits::default()).then(|| Self {
            size: limits.size.unwrap_or(u64::MAX),
            rate: limits.rate.map(|rate| (rate, Bucket::full(now, rate))),
            left: 0,
            now: None,
            over: None,
        })
    }

    /// What comes next comes at this moment.
    pub(super) fn at(&mut self, now: Option<Time>) -> &mut Self {
        self.now = now;
        self
    }

    /// What was too much, if something was: nothing may begin any more.
    pub(super) fn over(&self) -> Option<Over> {
        self.over
    }

    fn begins_message(&mut self) -> bool {
        self.left = self.size;
        match (&mut self.rate, self.now) {
            (Some((rate, bucket)), Some(now)) => bucket.take(now, *rate),
            (None, _) | (_, None) => true,
        }
    }
}

impl Begins for Meter {
    fn may_begin(&mut self, head: &Head) -> bool {
        let is_in_rate = match head.opcode {
            Opcode::Text | Opcode::Binary => self.begins_message(),
            Opcode::Continuation => true,
            Opcode::Close | Opcode::Ping | Opcode::Pong => return true,
        };
        let left = self.left.checked_sub(head.payload());
        self.left = left.unwrap_or(0);
        self.over = match (left, is_in_rate) {
            (None, _) => Some(Over::Size),
            (Some(_), false) => Some(Over::Rate),
            (Some(_), true) => None,
        };
        self.over.is_none()
    }
}
