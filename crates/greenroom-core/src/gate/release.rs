//! Letting in, and what time brings: the moving part of the [`Gate`].
//!
//! `release` dials whoever may go now, as `pace` allows; the others take a
//! trial that is over. Bounded by the dial window and the spare descriptors.

use super::settle::Way;
use super::{Change, Dialing, Gate, Output, Place, Stage, Trial, Waiting};
use crate::event::SessionId;
use crate::time::Time;

impl Gate {
    /// Lets in as many as may go now, in order.
    pub(super) fn release(&mut self, now: Time) {
        match self.stage {
            Stage::Open(_) => {
                while self.has_room() && self.spare > 0 && self.pace.may_begin(now) {
                    let Some(id) = self.next_at_open_gate() else {
                        break;
                    };
                    self.dial(now, id, false);
                }
            }
            Stage::Limited { next, after } => {
                if self.may_send_canary(now, next)
                    && let Some(id) = self.next_canary(now, after)
                {
                    self.canary_after = now + self.limits.canary_every;
                    self.dial(now, id, true);
                    self.stage = Stage::Limited {
                        next: self.canary_after,
                        after: Some(self.place(id)),
                    };
                }
            }
            Stage::Shut | Stage::Failed | Stage::Refusing | Stage::Draining => {}
        }
    }

    /// The first in order; one from the bench only where a doubt has nobody else to end it.
    pub(super) fn next_at_open_gate(&self) -> Option<SessionId> {
        let benched = || match self.stage {
            Stage::Open(Trial::Doubt { answered: None, .. }) if self.dialing.is_empty() => {
                self.bench.first_key_value().map(|(&id, _)| id)
            }
            Stage::Open(_)
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => None,
        };
        self.first_in_line().or_else(benched)
    }

    fn dial(&mut self, now: Time, id: SessionId, canary: bool) {
        let Some(mut waiting) = self.take_held(id, true) else {
            return;
        };
        self.clears(id);
        if waiting.class.is_http() {
            self.http_dialing += 1; // how long its answer may take is nothing to the gate
        } else {
            self.deadlines.insert((waiting.deadline, id));
        }
        waiting.attempts = waiting.attempts.saturating_add(1);
        self.spare = self.spare.saturating_sub(1);
        self.dialled_at = now;
        self.asked.insert((now, id));
        let number = self.pace.begin(now);
        self.dialing.insert(
            id,
            Dialing {
                waiting,
                number,
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
    /// Those on the bench only go when nobody else is there who can: somebody has to find out. A request
    /// that cannot be sent twice goes after `http_alone`, if only such wait, or once all those on the bench
    /// have had their turn: rejected for ever, they must not keep it waiting for ever.
    fn next_canary(&self, now: Time, after: Option<Place>) -> Option<SessionId> {
        let benched = |from: u64| {
            let mut able = (self.bench.range(SessionId(from)..)).filter(|(_, waiting)| waiting.class.repeats());
            able.next().map(|(&id, _)| id)
        };
        let begin = after.map_or(0, |last| last.id.0.saturating_add(1));
        let alone = || {
            let due = now >= self.limited_at + self.limits.http_alone;
            self.first_in_line().filter(|_| due)
        };
        self.first_able(after)
            .or_else(|| self.first_able(None))
            .or_else(|| benched(begin))
            .or_else(alone)
            .or_else(|| benched(0))
    }

    /// Whether nobody waits who can go first on trial.
    fn only_unable_wait(&self) -> bool {
        let able = |waiting: &Box<Waiting>| waiting.class.repeats();
        !self.waiting.values().any(able) && !self.bench.values().any(able)
    }

    /// When the next canary may go, if one waits.
    pub(super) fn canary_due(&self, next: Time) -> Option<Time> {
        if !self.is_wanted() || self.spare == 0 || self.asked.len() >= self.limits.dials_max.max(1) {
            return None;
        }
        let patience = if self.dialing.is_empty() {
            Time::ZERO
        } else {
            self.dialled_at + self.limits.canary_patience
        };
        let alone = if self.only_unable_wait() {
            self.limited_at + self.limits.http_alone
        } else {
            Time::ZERO
        };
        let rate = self.pace.next().unwrap_or(Time::ZERO);
        Some(next.max(patience).max(alone).max(rate))
    }

    /// Whether a canary may go now: the pause is over, and nobody is on the way
    /// unless it has been unanswered for `canary_patience`.
    pub(super) fn may_send_canary(&self, now: Time, next: Time) -> bool {
        let alone = self.dialing.is_empty() || now >= self.dialled_at + self.limits.canary_patience;
        now >= next
            && alone
            && self.pace.may_begin(now)
            && self.spare > 0
            && self.asked.len() < self.limits.dials_max.max(1)
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
            Stage::Open(Trial::Over)
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => false,
        };
        if over {
            self.stage = Stage::Open(Trial::Over);
            for (id, waiting) in std::mem::take(&mut self.bench) {
                self.line_up(id, *waiting);
            }
            self.lessons.turn_over();
            self.outputs.push_back(Output::Changed(Change::Trusted));
            self.let_go(|_| true);
        }
    }

    /// The gate waits no longer for the answers of these plain requests: their clients get whatever comes.
    pub(super) fn let_go(&mut self, which: impl Fn(&Dialing) -> bool) {
        let sent = |dialing: &Dialing| dialing.way == Way::Sent && which(dialing);
        let ids: Vec<_> = self
            .dialing
            .iter()
            .filter(|(_, d)| sent(d))
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.forward(id);
        }
    }

    /// When the oldest plain request at the open gate has been unanswered for `canary_patience`. Long polls
    /// answer when they like: on trial each may take that long from the dial window, and not more.
    pub(super) fn impatient_at(&self) -> Option<Time> {
        if self.http_dialing == 0 || !matches!(self.stage, Stage::Open(_)) {
            return None;
        }
        let sent = self.dialing.values().filter(|dialing| dialing.way == Way::Sent);
        Some(sent.map(|dialing| dialing.since).min()? + self.limits.canary_patience)
    }

    /// Waits no longer for those.
    pub(super) fn lose_patience(&mut self, now: Time) {
        if self.impatient_at().is_some_and(|at| at <= now) {
            let patience = self.limits.canary_patience;
            self.let_go(|dialing| dialing.since + patience <= now);
        }
    }

    /// The head of a plain request is written. At the sure gate that is all; on trial its answer is
    /// waited for, where it can show something that the client need not see, or where nobody else can:
    /// of requests that cannot be repeated, one is enough to end a doubt.
    pub(super) fn sent(&mut self, now: Time, id: SessionId) {
        let is_alone = self.dialing.len() == 1;
        let Some(dialing) = self.dialing.get_mut(&id) else {
            return;
        };
        if self.asked.remove(&(dialing.since, id)) {
            self.asked.insert((now, id));
        }
        dialing.since = now; // what the connect took is no silence of the application
        match self.stage {
            Stage::Open(Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining => self.forward(id),
            Stage::Open(Trial::Doubt { answered: None, .. }) if is_alone => dialing.way = Way::Sent,
            Stage::Open(Trial::Doubt { .. } | Trial::Proving { .. }) if !dialing.waiting.class.repeats() => {
                self.forward(id);
            }
            Stage::Open(Trial::Doubt { .. } | Trial::Proving { .. }) | Stage::Limited { .. } | Stage::Shut => {
                dialing.way = Way::Sent;
            }
        }
    }
}
