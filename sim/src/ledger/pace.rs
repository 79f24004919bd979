//! How many dials may be out and how many may begin, worked out once more.
//!
//! - *Window* (11): whole at the first opening, small after a canary and after a restart; half of it for what fails or
//!   is late, once for all that were dialled before; one more for each other answer, none by silence.
//! - *Rate* (11): in any time no more dials than the rate gives, and a burst.

use greenroom_core::gate::Class;
use greenroom_core::limits::{DIALS_MIN, DIALS_START, RELEASE_BURST};
use greenroom_core::session::{Answer, Verdict};
use greenroom_core::time::Time;

use super::{At, Ledger, Seen};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Pace {
    window: usize,
    dials: Vec<Time>,
    /// How many dials there were when the window shrank or the gate opened.
    shrunk_after: usize,
}

impl Pace {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            dials: Vec::new(),
            shrunk_after: 0,
        }
    }
}

impl Ledger {
    fn least_window(&self) -> usize {
        DIALS_MIN.min(self.limits.dials_max)
    }

    /// The gate opens.
    pub(super) fn opens(&mut self, by_canary: bool) {
        self.pace.window = match (by_canary, self.was_open) {
            // The canary's own answer may count already.
            (true, _) => self.limits.dials_max.min(self.least_window() + 1),
            (false, true) => DIALS_START.min(self.limits.dials_max),
            (false, false) => self.limits.dials_max,
        };
        self.pace.shrunk_after = self.pace.dials.len();
    }

    fn widens(&mut self) {
        self.pace.window = (self.pace.window + 1).min(self.limits.dials_max);
    }

    /// An answer of a client that is on its way is told, and is not in the books yet.
    pub(super) fn judge_pace(&mut self, now: Time, client: usize, answer: Answer) {
        let entry = &self.entries[client];
        let At::OnItsWay(before) = entry.at else { return };
        let took = entry.waited_from.map(|from| now.since(from));
        let late = before.is_none()
            && entry.class == Class::WebSocket
            && took.is_some_and(|took| took >= self.limits.slow_handshake);
        let shrinks = match answer.verdict() {
            Verdict::NotReady | Verdict::Dropped | Verdict::Unreachable => true,
            Verdict::Switched | Verdict::Neutral => late,
            Verdict::Proved | Verdict::Stood | Verdict::Sent | Verdict::Starved | Verdict::Recalled => false,
        };
        let settles = !matches!(self.seen, Seen::Doubt | Seen::Sure);
        let widens = match answer.verdict() {
            Verdict::Switched => !settles && !late,
            Verdict::Neutral => !late,
            Verdict::Proved | Verdict::Stood => true,
            Verdict::NotReady
            | Verdict::Dropped
            | Verdict::Unreachable
            | Verdict::Sent
            | Verdict::Starved
            | Verdict::Recalled => false,
        };
        if shrinks && entry.number > self.pace.shrunk_after {
            self.pace.shrunk_after = self.pace.dials.len();
            self.pace.window = (self.pace.window / 2).max(self.least_window());
        } else if widens {
            self.widens();
        }
    }

    /// Another dial begins; its number.
    pub(super) fn judge_dial(&mut self, now: Time, client: usize, canary: bool) -> usize {
        let (out, window) = (self.unanswered(now), self.pace.window);
        self.demand(canary || out < window, 11, || {
            format!("client {client} is dialled, {out} are out, and {window} may be")
        });
        self.pace.dials.push(now);
        if let Some(rate) = self.limits.release_rate {
            let too_many = self.too_many(now, rate);
            self.demand(too_many.is_none(), 11, || {
                format!("{too_many:?} at {rate} a second: so many dials since then")
            });
        }
        self.pace.dials.len()
    }

    /// The times of dials are whole nanoseconds: one is room for that.
    fn too_many(&self, now: Time, rate: usize) -> Option<(usize, Time)> {
        let burst = (rate as u128 * RELEASE_BURST.as_millis() / 1_000).max(1);
        let dials = self.pace.dials.iter().rev().enumerate();
        let mut windows = dials.map(|(before, &from)| (before + 1, from));
        windows.find(|&(count, from)| {
            let may = rate as u128 * (now.since(from).as_nanos() + 1) + burst * 1_000_000_000;
            count as u128 * 1_000_000_000 > may
        })
    }

    /// When the rate lets in another: by trying, from the oldest dial that still counts.
    pub(super) fn rate_due(&self) -> Time {
        let Some(rate) = self.limits.release_rate else {
            return Time::ZERO;
        };
        let burst = (rate as u128 * RELEASE_BURST.as_millis() / 1_000).max(1);
        let dials = self.pace.dials.iter().rev().enumerate();
        let due = dials.map(|(before, &from)| {
            let over = (before as u128 + 2).saturating_sub(burst);
            let wait = (over * 1_000_000_000).div_ceil(rate as u128);
            from + core::time::Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
        });
        due.max().unwrap_or(Time::ZERO)
    }
}
