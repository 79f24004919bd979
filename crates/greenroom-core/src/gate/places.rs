//! Places at the [`Gate`]: who has one, and the counts and deadlines that go with it.
//!
//! A session is in one map at a time: waiting, on the bench, aside, or on its way. Whatever
//! takes it out of a map takes it out of the counts too. Bounded by `held_max` and
//! `http_held_max`; those on their way count, as each of them may come back.

use super::settle::Way;
use super::{Class, Dialing, Gate, Output, Stage, Trial, Waiting};
use crate::event::{Refusal, SessionId};
use crate::limits::REJECTIONS_FACTOR;
use crate::session::Answer;
use crate::time::Time;

impl Gate {
    /// Gives a session a place: in the line, on the bench, or aside.
    pub(super) fn hold(&mut self, id: SessionId, mut waiting: Waiting, benched: bool) {
        self.deadlines.insert((waiting.deadline, id));
        self.http_held += usize::from(waiting.class.is_http());
        self.crowd.enters(&self.limits, &waiting);
        self.wants_accept(id, &mut waiting);
        match (self.met.has(waiting.need.into()), benched) {
            (false, _) => drop(self.aside.insert(id, Box::new(waiting))),
            (true, true) => drop(self.bench.insert(id, Box::new(waiting))),
            (true, false) => self.line_up(id, waiting),
        }
    }

    /// Into the line.
    pub(super) fn line_up(&mut self, id: SessionId, mut waiting: Waiting) {
        self.turns.join(id, waiting.who.key, waiting.turn.take());
        self.waiting.insert(id, Box::new(waiting));
    }

    /// Takes a session out of its place, to be let in or not.
    pub(super) fn take_held(&mut self, id: SessionId, is_let_in: bool) -> Option<Waiting> {
        let in_line = self.waiting.remove(&id).map(|mut waiting| {
            let key = waiting.who.key;
            waiting.turn = if is_let_in {
                self.turns.let_in(id, key)
            } else {
                self.turns.leave(id, key)
            };
            waiting
        });
        let mut waiting = in_line
            .or_else(|| self.bench.remove(&id))
            .or_else(|| self.aside.remove(&id))
            .map(|waiting| *waiting)?;
        self.deadlines.remove(&(waiting.deadline, id));
        self.http_held -= usize::from(waiting.class.is_http());
        self.crowd.leaves(&self.limits, &waiting);
        self.period.forget(id, &mut waiting);
        Some(waiting)
    }

    /// Those on their way count too, as each of them may come back to its place.
    pub(super) fn is_full(&self, class: Class) -> bool {
        let (held, dialing, most) = if class.is_http() {
            (self.http_held, self.http_dialing, self.limits.http_held_max)
        } else {
            let dialing = self.dialing.len() - self.http_dialing;
            (self.held() - self.http_held, dialing, self.limits.held_max)
        };
        held >= most || held + dialing >= most + self.limits.dials_max
    }

    /// Frees whatever place a session has. Nothing is said of it: the shell knows.
    pub(super) fn forget(&mut self, id: SessionId) {
        if self.take_held(id, false).is_none() {
            self.take_dialing(id);
        }
    }

    pub(super) fn take_dialing(&mut self, id: SessionId) -> Option<Dialing> {
        let dialing = self.dialing.remove(&id)?;
        self.deadlines.remove(&(dialing.waiting.deadline, id));
        self.http_dialing -= usize::from(dialing.waiting.class.is_http());
        match dialing.way {
            Way::Settling { until, .. } => drop(self.settling.remove(&(until, id))),
            Way::LookedAt { .. } => self.looked_at -= 1,
            Way::Asked | Way::Sent => drop(self.asked.remove(&(dialing.since, id))),
        }
        Some(dialing)
    }

    /// Back to its place, with its old deadline. What the backend may have acted on is not sent
    /// twice: such a request gets what came of it.
    pub(super) fn requeue(&mut self, now: Time, id: SessionId, answer: Answer, rejected: bool) {
        // Once its head is written even a lack of greenroom's own comes too late.
        let is_final = |dialing: &Dialing| {
            !dialing.waiting.class.repeats() && (answer.may_have_acted() || dialing.way == Way::Sent)
        };
        if self.dialing.get(&id).is_some_and(is_final) {
            return self.forward(id);
        }
        let Some(mut waiting) = self.take_dialing(id).map(|dialing| dialing.waiting) else {
            return;
        };
        let refusal = match self.stage {
            Stage::Failed => Some(Refusal::StartFailed),
            Stage::Refusing => Some(Refusal::ByHand),
            Stage::Draining => Some(Refusal::Draining),
            Stage::Shut | Stage::Limited { .. } | Stage::Open(_) if waiting.deaths >= self.limits.deaths_max => {
                Some(Refusal::BadAnswer)
            }
            // Its deadline passed while its 101 settled.
            Stage::Shut | Stage::Limited { .. } | Stage::Open(_) if waiting.deadline <= now => {
                Some(Refusal::HoldTimeout)
            }
            Stage::Shut | Stage::Limited { .. } if !waiting.may_wait => Some(Refusal::NotReady),
            Stage::Shut | Stage::Limited { .. } | Stage::Open(_) => self.refusal_aside(&waiting),
        };
        if let Some(refusal) = refusal {
            self.outputs.push_back(Output::Refuse(id, refusal));
            return;
        }
        waiting.rejections = self.rejections_of(&waiting, rejected);
        let benched = waiting.rejections >= self.limits.rejections_max && self.stage != Stage::Open(Trial::Over);
        self.hold(id, waiting, benched);
        self.outputs.push_back(Output::Requeue(id, answer));
    }

    /// How often it was rejected now. As a canary that nobody else could be it is tried again and again: this makes it no worse than
    /// who was rejected too often.
    fn rejections_of(&self, waiting: &Waiting, rejected: bool) -> u8 {
        let most = match self.stage {
            Stage::Shut | Stage::Limited { .. } => waiting.rejections.max(self.limits.rejections_max),
            Stage::Open(_) | Stage::Failed | Stage::Refusing | Stage::Draining => u8::MAX,
        };
        waiting.rejections.saturating_add(u8::from(rejected)).min(most)
    }

    /// Another has proved the gate: those on the bench have their turn in the order in which they came. Not so who had as many turns
    /// like that as it takes to get there: it is the one that is poisoned.
    pub(super) fn call_from_bench(&mut self) {
        self.excused = None;
        let most = self.limits.rejections_max.saturating_mul(REJECTIONS_FACTOR);
        let able = self.bench.iter().filter(|(_, waiting)| waiting.rejections < most);
        for id in able.map(|(&id, _)| id).collect::<Vec<_>>() {
            if let Some(waiting) = self.bench.remove(&id) {
                self.line_up(id, *waiting);
            }
        }
    }

    pub(super) fn forward(&mut self, id: SessionId) {
        self.take_dialing(id);
        self.outputs.push_back(Output::Forward(id));
    }

    /// Asserted after each step of a debug build; the ledger of `sim` judges in any build.
    pub fn check_invariants(&self) {
        self.check_bounds();
        let asked = |d: &&Dialing| matches!(d.way, Way::Asked | Way::Sent);
        debug_assert_eq!(self.unanswered(), self.dialing.values().filter(asked).count());
        debug_assert_eq!(
            self.deadlines.len(),
            self.held() + self.unanswered() - self.http_dialing
        );
        self.check_due();
        self.turns.check(self.waiting.len());
        self.crowd.check(self.held() - self.http_held);
        debug_assert!(self.http_held <= self.held() && self.http_dialing <= self.unanswered());
        debug_assert!(self.bench.is_empty() || self.stage != Stage::Open(Trial::Over));
        debug_assert!(!matches!(self.stage, Stage::Failed | Stage::Refusing | Stage::Draining) || self.held() == 0);
    }

    /// How many are dialled and have no answer.
    pub(super) fn unanswered(&self) -> usize {
        self.dialing.len() - self.settling.len() - self.looked_at
    }
}
