//! How fast the [`Gate`] lets in: how many dials may be out, and how many may begin in a second.
//!
//! The *window* of dials shrinks by half when a dial fails, and when a handshake is answered late, and widens by one with
//! each other answer; silence leaves it as it is. It shrinks once for all dials that began before it shrank last: those
//! were dialled at the old pace, and say nothing of the new one (as TCP halves once per round trip). After a restart it
//! begins small, and so doubles with each round: the backend's caches are cold, and everybody is there at once.
//!
//! A `release_rate` is kept by exact arithmetic (the generic cell rate algorithm, on whole numbers): nobody goes early,
//! the error does not add up, and what was not used in `RELEASE_BURST` is lost. Nothing grows here.

use core::time::Duration;

use super::settle::Way;
use super::{Dialing, Gate, Stage, Trial};
use crate::limits::{DIALS_MIN, DIALS_START, RELEASE_BURST};
use crate::session::Verdict;
use crate::time::Time;

const SECOND: u128 = Duration::from_secs(1).as_nanos(); // tidy: allow-duration a unit: nanoseconds of a second

/// See the module's head.
#[derive(Debug)]
pub(super) struct Pace {
    /// Dials at one time.
    pub(super) window: usize,
    /// How many dials have begun: the number of the last one.
    pub(super) begun: u64,
    /// How many had, when the window shrank last.
    shrunk_after: u64,
    rate: Option<Rate>,
}

/// So many a second. Times are in units of one nanosecond by `per_second`: so each dial takes `SECOND` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_second: u128,
    /// How far ahead of an even pace it may be.
    ahead: u128,
    /// When the next one would go at an even pace.
    due: u128,
}

impl Rate {
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = per_second.max(1) as u128; // no usize is wider
        let burst = (per_second * RELEASE_BURST.as_nanos() / SECOND).max(1);
        Self {
            per_second,
            ahead: (burst - 1) * SECOND,
            due: 0,
        }
    }

    /// The same with another pace: what was let in ahead of the old one counts.
    fn at(self, per_second: usize) -> Self {
        let new = Self::new(per_second);
        Self {
            due: self.due * new.per_second / self.per_second,
            ..new
        }
    }

    /// When the next one may go.
    pub(super) fn next(&self) -> Time {
        let at = self.due.saturating_sub(self.ahead).div_ceil(self.per_second);
        Time::from_nanos(u64::try_from(at).unwrap_or(u64::MAX))
    }

    /// One goes.
    pub(super) fn take(&mut self, now: Time) {
        let now = u128::from(now.as_nanos()) * self.per_second;
        // Less than a nanosecond late is on time: no clock tells it.
        let late = now >= self.due + self.per_second;
        self.due = if late { now } else { self.due } + SECOND;
    }
}

impl Pace {
    pub(super) fn new(window: usize, rate: Option<usize>) -> Self {
        Self {
            window,
            begun: 0,
            shrunk_after: 0,
            rate: rate.map(Rate::new),
        }
    }

    /// Other bounds: a window that was whole is so again, one that had shrunk goes on from where it is.
    pub(super) fn change(&mut self, most: usize, was: usize, rate: Option<usize>) {
        self.window = if self.window >= was {
            most
        } else {
            self.window.min(most)
        };
        self.rate = match (self.rate, rate) {
            (_, None) => None,
            (None, Some(rate)) => Some(Rate::new(rate)),
            (Some(before), Some(rate)) => Some(before.at(rate)),
        };
    }

    /// The gate opens: what was dialled before says nothing of this window.
    fn restart(&mut self, window: usize) {
        self.window = window;
        self.shrunk_after = self.begun;
    }

    /// A dial begins; its number.
    pub(super) fn begin(&mut self, now: Time) -> u64 {
        self.begun += 1;
        if let Some(rate) = &mut self.rate {
            rate.take(now);
        }
        self.begun
    }

    /// When the next dial may begin, as far as the rate goes; `None`: at any time.
    pub(super) fn next(&self) -> Option<Time> {
        self.rate.map(|rate| rate.next())
    }

    pub(super) fn may_begin(&self, now: Time) -> bool {
        self.next().is_none_or(|at| at <= now)
    }
}

impl Gate {
    /// Whether another dial may be out. While the gate proves itself, those who
    /// settle count too, and each that has settled makes room for one more: a
    /// crowd that meets a worker which lags would all have their 101 before the
    /// first of them is closed.
    pub(super) fn has_room(&self) -> bool {
        let out = match self.stage {
            Stage::Open(Trial::Proving { .. }) => self.dialing.len() - self.slow(),
            Stage::Open(Trial::Over | Trial::Doubt { .. })
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => self.asked.len(),
        };
        out < self.pace.window
    }

    /// The window of a gate that opens on its backend's word: whole at first, small after a restart.
    pub(super) fn begin_window(&mut self) {
        let most = self.limits.dials_max.max(1);
        self.pace
            .restart(if self.is_restart { most.min(DIALS_START) } else { most });
    }

    /// The window of a gate that opens on what one canary showed.
    pub(super) fn begin_small(&mut self) {
        self.pace.restart(self.least_window());
    }

    fn least_window(&self) -> usize {
        DIALS_MIN.min(self.limits.dials_max).max(1)
    }

    /// Down by half on a failure or a late answer, up by one with each other answer.
    pub(super) fn adapt(&mut self, now: Time, dialing: &Dialing, verdict: Verdict) {
        match verdict {
            Verdict::NotReady | Verdict::Dropped | Verdict::Unreachable => self.shrink(dialing),
            Verdict::Switched | Verdict::Neutral if self.is_late(now, dialing) => {
                self.shrink(dialing);
                self.last_dropped = None;
            }
            // On trial a 101 says nothing yet: it widens when it has settled.
            Verdict::Switched if matches!(self.stage, Stage::Open(Trial::Proving { .. }) | Stage::Limited { .. }) => {}
            Verdict::Switched | Verdict::Proved | Verdict::Neutral => self.widen(),
            Verdict::Sent | Verdict::Stood | Verdict::Starved | Verdict::Recalled => {}
        }
    }

    /// A handshake that took long. How long a plain answer takes says nothing.
    fn is_late(&self, now: Time, dialing: &Dialing) -> bool {
        let asked = dialing.way == Way::Asked && !dialing.waiting.class.is_http();
        asked && now.since(dialing.since) >= self.limits.slow_handshake
    }

    fn shrink(&mut self, dialing: &Dialing) {
        if dialing.number > self.pace.shrunk_after {
            self.pace.shrunk_after = self.pace.begun;
            self.pace.window = (self.pace.window / 2).max(self.least_window());
        }
    }

    pub(super) fn widen(&mut self) {
        self.pace.window = (self.pace.window + 1).min(self.limits.dials_max.max(1));
        self.last_dropped = None;
    }

    /// When `release_rate` lets in the next, if somebody waits for nothing else.
    pub(super) fn rate_due(&self) -> Option<Time> {
        let at = self.pace.next()?;
        let waits = matches!(self.stage, Stage::Open(_)) && self.spare > 0 && self.has_room();
        (waits && self.next_at_open_gate().is_some()).then_some(at)
    }

    /// How many dials are unanswered for so long that they take no slot any more.
    fn slow(&self) -> usize {
        self.unanswered() - self.asked.len()
    }

    /// When the oldest dial has been unanswered for `dial_patience`, if anybody waits for its slot. The session
    /// keeps waiting on its connection: its deadline stays, its slot is another's. Else a handful of requests that
    /// are answered late, and any long poll can be asked as an opening handshake, would hold up everybody.
    pub(super) fn slot_due(&self) -> Option<Time> {
        let waits = self.held() > 0 && matches!(self.stage, Stage::Open(_) | Stage::Limited { .. });
        let &(since, _) = self.asked.first().filter(|_| waits)?;
        Some(since + self.limits.dial_patience)
    }

    /// Slots of those are free again. That they are slow is no failure, and silence is no answer: the window stays.
    pub(super) fn free_slots(&mut self, now: Time) {
        while let Some(&(since, _)) = self.asked.first()
            && since + self.limits.dial_patience <= now
        {
            self.asked.pop_first();
        }
    }
}
