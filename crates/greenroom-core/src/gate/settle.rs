//! How long a fresh 101 has to stand on trial, and what the gate learns of that.
//!
//! A backend that is not ready shows it some time after its 101, by a Close of
//! 1011 to 1013 or an end. A 101 therefore *settles* before its client may have
//! it; then the shell takes a *last look* at the connection, as a Close may lie
//! there that nobody has read yet, and says whether the 101 *stood*.
//!
//! ```text
//!   asked ──101──▶ settling ──time over──▶ looked at ──stood──▶ passed on, a proof
//!                   ▲   │                     │ │
//!                   │   └──── lost early ─────┼─┴──▶ back to its place: the delay is learned
//!                   └─ another is rejected ───┘
//! ```
//!
//! Each delay that is seen is a lesson: a timer that was late once is late
//! again, so the settle is then `SETTLE_FACTOR` times the longest one, between
//! `settle_warned` and `settle_max`. A lesson counts in the trial in which it was
//! seen and in the next one, also over a restart, as it is the same command; what
//! neither of the two has seen is forgotten. Without a lesson a 101 has `settle`,
//! and a canary, the first to find out, `SETTLE_FACTOR` times that. A refusal or a
//! 503 teaches nothing: it comes before the 101.

use core::time::Duration;

use super::{Change, Dialing, Gate, Output, Stage, Trial};
use crate::event::SessionId;
use crate::limits::{GateLimits, SETTLE_FACTOR};
use crate::time::Time;

/// How far a dial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// No answer yet.
    Asked,
    /// A plain request on trial: its head is written, and there is no answer yet.
    Sent,
    /// The backend said 101 at this moment, on trial.
    Settling {
        /// When it said so.
        since: Time,
        /// When the settle is over.
        until: Time,
    },
    /// The settle is over, and the shell takes its last look.
    LookedAt {
        /// When the backend said 101.
        since: Time,
    },
}

/// The longest delays between a 101 and its loss; `None` where there was none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lessons {
    /// In the trial before this one.
    before: Option<Duration>,
    /// In this one, or since the last.
    now: Option<Duration>,
}

impl Lessons {
    pub(super) fn learn(&mut self, delay: Duration) {
        self.now = self.now.max(Some(delay));
    }

    /// A trial is over.
    pub(super) fn turn_over(&mut self) {
        self.before = self.now.take();
    }

    pub(super) fn settle(&self, limits: &GateLimits) -> Duration {
        match self.before.max(self.now) {
            Some(longest) => longest
                .saturating_mul(SETTLE_FACTOR)
                .min(limits.settle_max)
                .max(limits.settle_warned),
            None => limits.settle,
        }
    }
}

impl Gate {
    /// How long a 101 on trial has to stand now: `settle`, or more where the backend was seen to close.
    #[must_use]
    pub fn settle_time(&self) -> Duration {
        self.lessons.settle(&self.limits)
    }

    /// What a canary has to stand at the least: nobody else tells how late this backend may be.
    fn first_canary(&self) -> Duration {
        match self.stage {
            Stage::Limited { .. } => self.limits.settle.saturating_mul(SETTLE_FACTOR),
            Stage::Shut | Stage::Open(_) | Stage::Failed | Stage::Refusing | Stage::Draining => Duration::ZERO,
        }
    }

    /// The 101 waits its own settle; the slot is free.
    pub(super) fn begin_settling(&mut self, now: Time, id: SessionId, mut dialing: Dialing) {
        if dialing.way != Way::Asked {
            return;
        }
        let until = now + self.settle_time().max(self.first_canary());
        self.deadlines.remove(&(dialing.waiting.deadline, id));
        self.asked.remove(&(dialing.since, id));
        self.settling.insert((until, id));
        dialing.way = Way::Settling { since: now, until };
        self.dialing.insert(id, dialing);
    }

    /// Those whose settle is over are looked at once more.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some(&(at, id)) = self.settling.first() {
            if at > now {
                break;
            }
            self.settling.remove(&(at, id));
            if let Some(dialing) = self.dialing.get_mut(&id)
                && let Way::Settling { since, .. } = dialing.way
            {
                dialing.way = Way::LookedAt { since };
                self.looked_at += 1;
                self.outputs.push_back(Output::Look(id));
            }
        }
    }

    /// The last look showed nothing: the 101 is passed on, and is a proof. One that
    /// was made to settle again meanwhile is looked at again in its time.
    pub(super) fn stood(&mut self, now: Time, id: SessionId, dialing: Dialing) {
        match dialing.way {
            Way::LookedAt { .. } => {
                self.forward(id);
                self.widen();
                self.proved(now, id);
            }
            Way::Asked | Way::Sent | Way::Settling { .. } => {}
        }
    }

    /// A dial was lost after its 101: so long may it take until this backend shows that it is not ready.
    pub(super) fn learn_from(&mut self, now: Time, dialing: Dialing) {
        match dialing.way {
            Way::Settling { since, .. } | Way::LookedAt { since } => self.lessons.learn(now.since(since)),
            Way::Asked => self.lessons.learn(Duration::ZERO), // in one piece with its 101
            Way::Sent => {}                                   // never of a plain request
        }
    }

    /// A session was lost so long after its 101, which was passed on already. That
    /// client is lost; the next ones need not be.
    pub(super) fn lost_early(&mut self, now: Time, delay: Duration) {
        match self.stage {
            Stage::Open(Trial::Doubt { .. }) => {
                self.lessons.learn(delay);
                self.limit(now, Change::Doubted);
            }
            Stage::Open(Trial::Proving { .. }) => {
                self.lessons.learn(delay);
                self.limit(now, Change::Lagging);
            }
            Stage::Limited { .. } | Stage::Shut => self.lessons.learn(delay),
            Stage::Open(Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining => {}
        }
        self.settle_again(now);
    }

    /// Somebody was rejected while the gate is on trial: the silence of those
    /// who settle proves less than it did, as a backend that says no to many says
    /// it to one after the other. Each of them waits its settle once more.
    pub(super) fn settle_again(&mut self, now: Time) {
        match self.stage {
            Stage::Limited { .. } | Stage::Shut | Stage::Open(Trial::Proving { .. }) => {}
            Stage::Open(Trial::Doubt { .. } | Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining => {
                return;
            }
        }
        let again = now + self.settle_time();
        self.settling.clear();
        self.looked_at = 0;
        for (&id, dialing) in &mut self.dialing {
            match dialing.way {
                Way::Settling { since, until } => {
                    let until = until.max(again);
                    dialing.way = Way::Settling { since, until };
                    self.settling.insert((until, id));
                }
                Way::LookedAt { since } => {
                    dialing.way = Way::Settling { since, until: again };
                    self.settling.insert((again, id));
                }
                Way::Asked | Way::Sent => {}
            }
        }
    }

    pub(super) fn proved(&mut self, now: Time, id: SessionId) {
        match self.stage {
            Stage::Limited { .. } => {
                self.wary = false;
                self.stage = Stage::Open(Trial::Proving {
                    until: now + self.limits.prove_for,
                });
                self.begin_small();
                self.call_from_bench();
                self.outputs.push_back(Output::Changed(Change::Proved(id)));
            }
            Stage::Open(Trial::Doubt { opened, answered: None }) => {
                let answered = Some(now);
                self.stage = Stage::Open(Trial::Doubt { opened, answered });
            }
            // Already open; or the backend was found not ready since: that is newer.
            Stage::Open(Trial::Doubt { answered: Some(_), .. } | Trial::Proving { .. } | Trial::Over)
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => {}
        }
    }
}
