//! Decides whether something that has a rate may happen once more.
//!
//! A bucket of tokens: it holds those of `RATE_BURST`, and fills at the rate, exactly. Sixteen bytes; the rate is the
//! caller's, as all buckets of one kind share it.

use core::time::Duration;

use crate::limits::RATE_BURST;
use crate::time::Time;

/// What one token is, in parts of which a bucket gets as many in a nanosecond as its rate is.
const TOKEN: u64 = 1_000_000_000;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// What is in it …
    tokens: u64,
    /// … at this moment.
    at: Time,
}

impl Bucket {
    /// A full one, of so many tokens a second.
    pub(crate) fn full(now: Time, rate: usize) -> Self {
        Self {
            tokens: most(wide(rate)),
            at: now,
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Time, rate: usize) -> bool {
        self.tokens = self.tokens_at(now, rate);
        self.at = self.at.max(now);
        let left = self.tokens.checked_sub(TOKEN);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// Whether it is as full as a new one.
    pub(crate) fn is_full(&self, now: Time, rate: usize) -> bool {
        self.tokens_at(now, rate) >= most(wide(rate))
    }

    fn tokens_at(&self, now: Time, rate: usize) -> u64 {
        let rate = wide(rate);
        let gained = nanoseconds(now.since(self.at)).saturating_mul(rate);
        self.tokens.saturating_add(gained).min(most(rate))
    }
}

/// What a full one holds.
fn most(rate: u64) -> u64 {
    rate.saturating_mul(nanoseconds(RATE_BURST))
}

fn wide(rate: usize) -> u64 {
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
