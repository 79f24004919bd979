//! Who may go at an open [`Gate`], and who waits *aside*, as the backend is not ready for them yet.
//!
//! Routes to one backend may need different things of it. Whoever needs what is not there
//! keeps its place aside, so that it blocks nobody, and is back in line, at its old place, the
//! moment it is there: places are ids, so nothing is reordered however often that changes.
//! The cost of a change is linear in those held; of a look at the line it is nothing.

use std::collections::BTreeMap;

use super::{Gate, Output, Stage, Trial, Waiting};
use crate::event::{Refusal, SessionId};
use crate::readiness::Needs;

/// Who waits, by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Opening handshakes.
    pub websocket: usize,
    /// Plain requests.
    pub http: usize,
    /// Of all these, how many wait aside.
    pub aside: usize,
}

impl Gate {
    /// The backend is ready for these, and these are refused as it is degraded; all others wait.
    pub(super) fn needs(&mut self, met: Needs, refused: Needs) {
        (self.met, self.refused) = (met, refused);
        let is_met = |waiting: &Waiting| met.has(waiting.need.into());
        let those = |map: &BTreeMap<SessionId, Box<Waiting>>, met: bool| -> Vec<(SessionId, Waiting)> {
            let all = map.iter().filter(|(_, waiting)| is_met(waiting) == met);
            all.map(|(&id, waiting)| (id, **waiting)).collect()
        };
        // Those who come back come first: whoever goes aside then leaves them its turn.
        for (id, waiting) in those(&self.aside, true) {
            self.aside.remove(&id);
            self.line_up(id, waiting);
        }
        for (id, mut waiting) in those(&self.waiting, false) {
            self.waiting.remove(&id);
            waiting.turn = self.turns.leave(id, waiting.who.key);
            self.aside.insert(id, Box::new(waiting));
        }
        for (id, waiting) in those(&self.bench, false) {
            self.bench.remove(&id);
            self.aside.insert(id, Box::new(waiting));
        }
        self.remember_due();
        let sent_away: Vec<_> = (self.aside.iter())
            .filter_map(|(&id, waiting)| Some((id, self.refusal_aside(waiting)?)))
            .collect();
        for (id, refusal) in sent_away {
            self.forget(id);
            self.outputs.push_back(Output::Refuse(id, refusal));
        }
    }

    /// Why somebody who would have to wait aside is sent away instead.
    pub(super) fn refusal_aside(&self, waiting: &Waiting) -> Option<Refusal> {
        let need = waiting.need.into();
        if self.met.has(need) {
            None
        } else if self.refused.has(need) {
            Some(Refusal::Degraded)
        } else {
            (!waiting.may_wait).then_some(Refusal::NotReady)
        }
    }

    /// Whether somebody is in line or on the bench: whoever may go if the gate lets them.
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty() || !self.bench.is_empty()
    }

    /// Whose needs are met, as far as the gate was told.
    #[must_use]
    pub fn met(&self) -> Needs {
        self.met
    }

    /// For whom a plain request may go past the gate: it is sure, and nobody is in line.
    #[must_use]
    pub fn free(&self) -> Needs {
        match self.stage {
            Stage::Open(Trial::Over) if !self.is_wanted() => self.met,
            Stage::Open(_)
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => Needs::default(),
        }
    }

    /// Who waits, by what they are.
    #[must_use]
    pub fn held_by_class(&self) -> Held {
        Held {
            websocket: self.held() - self.http_held,
            http: self.http_held,
            aside: self.aside.len(),
        }
    }

    /// Those who wait, in the order in which they go as things stand.
    pub fn line(&self) -> impl Iterator<Item = SessionId> {
        let (turns, line) = (self.turns.forecast(), self.waiting.keys());
        let line = line.filter(|_| !self.limits.fair);
        let others = line.chain(self.bench.keys()).chain(self.aside.keys());
        turns.into_iter().chain(others.copied())
    }

    /// Who waits longest.
    #[must_use]
    pub fn first_held(&self) -> Option<SessionId> {
        let first = |map: &BTreeMap<SessionId, Box<Waiting>>| map.first_key_value().map(|(&id, _)| id);
        [first(&self.waiting), first(&self.bench), first(&self.aside)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether somebody with this need would go in, or at least in line, now.
    #[must_use]
    pub fn is_open_for(&self, need: usize) -> bool {
        matches!(self.stage, Stage::Open(_)) && self.met.has(need)
    }
}
