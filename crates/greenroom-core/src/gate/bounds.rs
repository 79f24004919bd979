//! Other bounds for a [`Gate`] that is at work: what a reload of the configuration changes of it.
//!
//! Nobody is thrown out, and nobody loses a place: where more are there than may be from now on, there is no growth
//! until it is less. [`Excess`] remembers how many more, so that the invariants hold at every step. Where turns are
//! shared from now on, those who are there already keep the order of their arrival, before whoever comes later; where
//! they are not any more, the order is that of arrival again.

use std::collections::BTreeMap;

use super::{Gate, Waiting};
use crate::event::SessionId;
use crate::limits::GateLimits;
use crate::time::Time;

/// How many there are of what there is too much of; 0: not too much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excess {
    /// Dials without an answer that take a slot.
    asked: usize,
    /// WebSocket clients that wait or are on their way.
    websocket: usize,
    /// Plain requests that do.
    http: usize,
}

impl Gate {
    /// Takes other bounds, from now on. Drain [`Gate::poll_output`] after it.
    pub fn set_limits(&mut self, now: Time, limits: GateLimits) {
        let before = std::mem::replace(&mut self.limits, limits);
        if before.fair != limits.fair {
            self.turn_over(limits.fair);
        }
        self.recount();
        let (most, was) = (limits.dials_max.max(1), before.dials_max.max(1));
        self.pace.change(most, was, limits.release_rate);
        self.excess = Excess::default();
        self.note_excess(true);
        self.free_slots(now);
        self.release(now);
        self.note_excess(false);
        self.check_invariants();
    }

    /// What there is too much of, after a step that may have made it less.
    pub(super) fn note_excess(&mut self, is_new: bool) {
        let Excess { asked, websocket, http } = self.excess;
        if !is_new && asked + websocket + http == 0 {
            return; // as nearly always
        }
        let above = |count: usize, most: usize| if count > most { count } else { 0 };
        let (websocket, http) = self.totals();
        let (most_websocket, most_http) = self.most();
        self.excess = Excess {
            asked: above(self.asked.len(), self.limits.dials_max.max(1)),
            websocket: above(websocket, most_websocket),
            http: above(http, most_http),
        };
    }

    /// Asserted after each step of a debug build.
    pub(super) fn check_bounds(&self) {
        let dials_max = self.limits.dials_max.max(1).max(self.excess.asked);
        debug_assert!(self.asked.len() <= dials_max.min(self.unanswered().max(1)));
        let ((websocket, http), (most_websocket, most_http)) = (self.totals(), self.most());
        debug_assert!(websocket <= most_websocket.max(self.excess.websocket));
        debug_assert!(http <= most_http.max(self.excess.http));
    }

    /// Those who wait or are on their way: for a WebSocket, and plain requests.
    fn totals(&self) -> (usize, usize) {
        let http = self.http_held + self.http_dialing;
        (self.held() + self.dialing.len() - http, http)
    }

    /// How many of these there may be.
    fn most(&self) -> (usize, usize) {
        let of = |held_max: usize| held_max + self.limits.dials_max;
        (of(self.limits.held_max), of(self.limits.http_held_max))
    }

    /// Turns are shared from now on, or are no more.
    fn turn_over(&mut self, is_fair: bool) {
        self.turns.begin(is_fair);
        let Self {
            turns,
            waiting,
            bench,
            aside,
            dialing,
            ..
        } = self;
        let mut all: BTreeMap<SessionId, (&mut Waiting, bool)> = BTreeMap::new();
        all.extend(waiting.iter_mut().map(|(&id, waiting)| (id, (&mut **waiting, true))));
        let others = bench.iter_mut().chain(aside.iter_mut());
        all.extend(others.map(|(&id, waiting)| (id, (&mut **waiting, false))));
        let away = dialing.iter_mut();
        all.extend(away.map(|(&id, dialing)| (id, (&mut dialing.waiting, false))));
        for (id, (waiting, is_in_line)) in all {
            let turn = is_fair.then(|| turns.draw());
            waiting.turn = turn.filter(|_| !is_in_line);
            if is_in_line {
                turns.join(id, waiting.who.key, turn);
            }
        }
    }

    /// Those of each address and key, where there is a limit now.
    fn recount(&mut self) {
        self.crowd = super::Crowd::default();
        for map in [&self.waiting, &self.bench, &self.aside] {
            for waiting in map.values() {
                self.crowd.enters(&self.limits, waiting);
            }
        }
    }
}
