//! Letting in, and what time brings: the moving part of the [`Gate`].
//!
//! `release` dials whoever may go now; the others take a deadline and a
//! trial that is over. Bounded by the dial window and the spare descriptors.

use super::settle::Way;
use super::{Change, Dialing, Gate, Output, Stage, Trial};
use crate::event::{Refusal, SessionId};
use crate::time::Time;

impl Gate {
    /// Lets in as many as may go now, in order.
    pub(super) fn release(&mut self, now: Time) {
        match self.stage {
            Stage::Open(_) => {
                while self.has_room() && self.spare > 0 {
                    let Some(id) = self.next_at_open_gate() else {
                        break;
                    };
                    self.dial(now, id, false);
                }
            }
            Stage::Limited { next, after } => {
                if self.may_send_canary(now, next)
                    && let Some(id) = self.next_canary(after)
                {
                    self.canary_after = now + self.limits.canary_every;
                    self.stage = Stage::Limited {
                        next: self.canary_after,
                        after: Some(id),
                    };
                    self.dial(now, id, true);
                }
            }
            Stage::Shut | Stage::Failed | Stage::Draining => {}
        }
    }

    /// Whether another dial may be out. While the gate proves itself, those who
    /// settle count too, and each that has settled makes room for one more: a
    /// crowd that meets a worker which lags would all have their 101 before the
    /// first of them is closed.
    fn has_room(&self) -> bool {
        let out = match self.stage {
            Stage::Open(Trial::Proving { .. }) => self.dialing.len(),
            Stage::Open(Trial::Over | Trial::Doubt { .. })
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Draining => self.unanswered(),
        };
        out < self.window
    }

    /// The first in order; one from the bench only where a doubt has nobody else to end it.
    fn next_at_open_gate(&self) -> Option<SessionId> {
        let first = self.waiting.first_key_value();
        let benched = || match self.stage {
            Stage::Open(Trial::Doubt { answered: None, .. }) if self.dialing.is_empty() => self.bench.first_key_value(),
            Stage::Open(_) | Stage::Limited { .. } | Stage::Shut | Stage::Failed | Stage::Draining => None,
        };
        first.or_else(benched).map(|(&id, _)| id)
    }

    fn dial(&mut self, now: Time, id: SessionId, canary: bool) {
        let Some(mut waiting) = self.waiting.remove(&id).or_else(|| self.bench.remove(&id)) else {
            return;
        };
        waiting.attempts = waiting.attempts.saturating_add(1);
        self.spare = self.spare.saturating_sub(1);
        self.dialled_at = now;
        self.dialing.insert(
            id,
            Dialing {
                waiting,
                since: now,
                way: Way::Asked,
            },
        );
        self.outputs.push_back(Output::Dial {
            id,
            attempt: waiting.attempts,
            canary,
        });
    }

    /// The next in order that was not tried in this round; at its end a new round begins at the front.
    /// Those on the bench only go when nobody else is there: somebody has to find out.
    fn next_canary(&self, after: Option<SessionId>) -> Option<SessionId> {
        let later = after.and_then(|SessionId(last)| self.waiting.range(SessionId(last.saturating_add(1))..).next());
        let first = || self.waiting.first_key_value();
        let benched = || {
            let later = after.and_then(|SessionId(last)| self.bench.range(SessionId(last.saturating_add(1))..).next());
            later.or_else(|| self.bench.first_key_value())
        };
        later.or_else(first).or_else(benched).map(|(&id, _)| id)
    }

    /// When the next canary may go, if one waits.
    pub(super) fn canary_due(&self, next: Time) -> Option<Time> {
        if self.held() == 0 || self.spare == 0 || self.unanswered() >= self.limits.dials_max {
            return None;
        }
        let patience = if self.dialing.is_empty() {
            Time::ZERO
        } else {
            self.dialled_at + self.limits.canary_patience
        };
        Some(next.max(patience))
    }

    /// Whether a canary may go now: the pause is over, and nobody is on the way
    /// unless it has been unanswered for `canary_patience`.
    pub(super) fn may_send_canary(&self, now: Time, next: Time) -> bool {
        let alone = self.dialing.is_empty() || now >= self.dialled_at + self.limits.canary_patience;
        now >= next && alone && self.spare > 0 && self.unanswered() < self.limits.dials_max.max(1)
    }

    /// Deadlines: whoever waits is refused, and so is whoever has no answer.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            let refusal = if self.dialing.contains_key(&id) {
                Refusal::Unanswered
            } else {
                Refusal::HoldTimeout
            };
            self.forget(id);
            self.outputs.push_back(Output::Refuse(id, refusal));
        }
    }

    /// Ends a doubt or a trial whose time is over.
    pub(super) fn end_trial(&mut self, now: Time) {
        let over = match self.stage {
            Stage::Open(Trial::Doubt { answered: Some(at), .. }) => now >= at + self.limits.settle,
            Stage::Open(Trial::Proving { until }) => now >= until,
            Stage::Open(Trial::Doubt { opened, answered: None }) => {
                if self.doubt_due(opened).is_some_and(|due| now >= due) {
                    self.limit(now, Change::Doubted);
                }
                false
            }
            Stage::Open(Trial::Over) | Stage::Limited { .. } | Stage::Shut | Stage::Failed | Stage::Draining => false,
        };
        if over {
            self.stage = Stage::Open(Trial::Over);
            self.waiting.append(&mut self.bench);
            self.lessons.turn_over();
            self.outputs.push_back(Output::Changed(Change::Trusted));
        }
    }
}
