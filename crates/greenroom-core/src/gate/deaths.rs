//! Whose request it is that the backend's process dies of.
//!
//! A request that crashes the server would be sent again to each new life of it, until
//! nothing starts it again: one such request would take the service from everybody. So a death counts
//! for the session that was alone with the backend: on its way and nobody else, or dropped
//! alone just before, with nobody dialled since. After `deaths_max` of them it is refused.
//!
//! One is not enough, as an unlucky moment happens once. A backend that drops
//! connections and lives (a port forwarder while its container starts) counts for nobody.
//! Where several were there, nobody is to blame; but the gate is *wary* then: whatever the next life
//! says of itself, one session goes first, until one came through. So whose request it is comes to light.

use super::{Gate, Output};
use crate::event::{Refusal, SessionId};
use crate::session::Answer;

/// Who was dropped by the backend last, while nobody was answered or dialled afresh since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspect {
    Nobody,
    /// This one, alone.
    One(SessionId),
    /// Several.
    Crowd,
}

impl Gate {
    /// This one was dropped. Its own dial counts as the same one; another's makes a crowd.
    pub(super) fn suspect(&mut self, id: SessionId) {
        let others = self.dialing.keys().any(|&other| other != id);
        self.suspect = match self.suspect {
            Suspect::Crowd => Suspect::Crowd,
            Suspect::One(other) if other != id && self.has(other) => Suspect::Crowd,
            Suspect::Nobody | Suspect::One(_) if others => Suspect::Crowd,
            Suspect::Nobody | Suspect::One(_) => Suspect::One(id),
        };
    }

    /// An answer came of this one's dial, before it is acted on.
    pub(super) fn notes(&mut self, id: SessionId, answer: Answer) {
        match answer {
            Answer::Dropped | Answer::LostEarly => self.suspect(id),
            // The backend has seen nothing of it, or says nothing of its life.
            Answer::Refused
            | Answer::ConnectTimeout
            | Answer::NoRoute
            | Answer::NoDescriptor
            | Answer::Recalled
            | Answer::GivenUp
            | Answer::Sent => {}
            Answer::Switched
            | Answer::Status(_)
            | Answer::Nonsense
            | Answer::Served
            | Answer::Spoke
            | Answer::Stood => self.suspect = Suspect::Nobody,
        }
    }

    /// This one is dialled now: whoever was dropped before it is not alone any more.
    pub(super) fn clears(&mut self, id: SessionId) {
        if self.dialing.is_empty() && self.suspect != Suspect::One(id) {
            self.suspect = Suspect::Nobody;
        }
    }

    /// Those whose head was not written are back in their places already: they had no part in it.
    pub(super) fn died(&mut self) {
        let suspect = std::mem::replace(&mut self.suspect, Suspect::Nobody);
        let mut ways = self.dialing.keys();
        let alone = match (ways.next(), ways.next(), suspect) {
            (None, _, Suspect::One(id)) => Some(id),
            (Some(&id), None, Suspect::Nobody) => Some(id),
            (Some(&id), None, Suspect::One(other)) if id == other => Some(id),
            (None | Some(_), _, _) => None,
        };
        let Some(id) = alone else {
            self.wary |= suspect != Suspect::Nobody || !self.dialing.is_empty();
            return;
        };
        // Its answer may be on the way: what it is, it gets.
        if let Some(dialing) = self.dialing.get_mut(&id) {
            dialing.waiting.deaths = dialing.waiting.deaths.saturating_add(1);
            return;
        }
        let (line, bench, aside) = (&mut self.waiting, &mut self.bench, &mut self.aside);
        let held = line.get_mut(&id).or_else(|| bench.get_mut(&id));
        let Some(waiting) = held.or_else(|| aside.get_mut(&id)) else {
            return; // it left
        };
        waiting.deaths = waiting.deaths.saturating_add(1);
        if waiting.deaths >= self.limits.deaths_max {
            self.forget(id);
            self.outputs.push_back(Output::Refuse(id, Refusal::BadAnswer));
        }
    }

    fn has(&self, id: SessionId) -> bool {
        let held = [&self.waiting, &self.bench, &self.aside];
        self.dialing.contains_key(&id) || held.iter().any(|map| map.contains_key(&id))
    }
}
