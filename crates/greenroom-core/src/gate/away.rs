//! Who is sent away from the [`Gate`] without having been let in: on arrival, at a deadline, or all at once.
//!
//! A refusal is said at the moment at which it is decided, and its place is free then. Those that are said in one
//! go fall together: `drain::refuse_at` spreads their answers. Bounded by those who wait.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Gate, Output, Stage, Waiting};
use crate::event::{Refusal, SessionId};
use crate::time::Time;

impl Gate {
    /// Why somebody who arrives is sent away at once.
    pub(super) fn refusal_on_arrival(&self, now: Time, waiting: &Waiting) -> Option<Refusal> {
        match self.stage {
            Stage::Draining => Some(Refusal::Draining),
            Stage::Refusing => Some(Refusal::ByHand),
            Stage::Failed => Some(Refusal::StartFailed),
            Stage::Shut if !waiting.may_wait => Some(Refusal::NotReady),
            Stage::Limited { next, .. } if !waiting.may_wait && !self.may_send_canary(now, next) => {
                Some(Refusal::NotReady)
            }
            Stage::Shut | Stage::Limited { .. } | Stage::Open(_) if self.is_full(waiting.class) => {
                Some(Refusal::HeldFull)
            }
            Stage::Shut | Stage::Limited { .. } | Stage::Open(_) => {
                (self.refusal_aside(waiting)).or_else(|| self.crowd.refusal(&self.limits, waiting))
            }
        }
    }

    /// Those who may not wait are refused as soon as they would have to.
    pub(super) fn refuse_impatient(&mut self) {
        let impatient = |map: &BTreeMap<SessionId, Box<Waiting>>| -> Vec<SessionId> {
            map.iter().filter(|(_, w)| !w.may_wait).map(|(&id, _)| id).collect()
        };
        for id in impatient(&self.waiting).into_iter().chain(impatient(&self.bench)) {
            self.forget(id);
            self.outputs.push_back(Output::Refuse(id, Refusal::NotReady));
        }
    }

    /// Everybody is refused: the start-up failed, somebody says so, or greenroom stops.
    pub(super) fn turn_away(&mut self, now: Time, stage: Stage, refusal: Refusal) {
        if self.stage == Stage::Draining {
            return; // for good
        }
        if matches!(self.stage, Stage::Open(_)) {
            self.goes_away(now);
        }
        let was_shut = matches!(self.stage, Stage::Shut | Stage::Failed | Stage::Refusing);
        self.stage = stage;
        let mut all: BTreeSet<SessionId> = (self.waiting.keys())
            .chain(self.bench.keys())
            .chain(self.aside.keys())
            .copied()
            .collect();
        if stage == Stage::Draining {
            // The backend may act on a plain request whose head is written: its client gets what comes of it.
            self.let_go(|_| true);
            all.extend(self.dialing.keys()); // no 101 was passed on yet: a refusal is still possible
        }
        for id in all {
            self.forget(id);
            self.outputs.push_back(Output::Refuse(id, refusal));
        }
        if !was_shut {
            self.outputs.push_back(Output::Changed(Change::Shut));
        }
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
}
