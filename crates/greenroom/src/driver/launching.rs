//! Dials that the gate has ordered: begun in line, their heads written in order, and taken back together.
//!
//! No head may overtake another, so one that fails takes those behind it back to their places. Bounded by the gate's window of dials, and in
//! one turn by `DIALS_PER_TURN`.

use greenroom_core::event::SessionId;
use greenroom_core::gate::{Accept, Place};
use greenroom_core::limits::{ACCEPT_REST, DIALS_PER_TURN};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use super::{Driver, Order};
use crate::dial::Dialled;
use crate::front;
use crate::head::Kind;
use crate::telemetry::Event;

impl Driver {
    /// Begins the next dials in line, and writes the heads whose connections are there.
    pub(super) fn dial(&mut self, now: Time) {
        if !self.due.is_empty() && !self.launcher.resolve() {
            return; // whoever is to go is held until the name is looked up
        }
        for _ in 0..DIALS_PER_TURN {
            let Some((Place { id, .. }, (attempt, canary))) = self.due.pop_first() else {
                break;
            };
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            client.dial = (attempt, canary);
            let (route, request, peer) = (&client.route, &client.request, client.record.peer);
            let degraded = self.standing.borrow().degraded.clone();
            let mut forward = front::forward(route, request, &self.authority, peer, id, attempt, degraded.as_deref());
            (forward.is_accepted, forward.trace) = (client.accept == Accept::Done, client.trace.as_deref().copied());
            let mut head = Vec::new();
            client.request.to_backend(&forward, &mut head);
            self.launcher.begin(id, head);
            self.launch(now);
        }
        self.launch(now);
    }

    /// Writes heads as far as connections are there, in order.
    pub(super) fn launch(&mut self, now: Time) {
        while let Some((id, result)) = self.launcher.advance() {
            match result {
                Ok(dialled) => self.let_in(now, id, dialled),
                Err(answer) => {
                    if answer == Answer::NoDescriptor {
                        self.resting = Some(now + ACCEPT_REST);
                    }
                    self.answered(now, id, answer);
                    self.recall(now);
                }
            }
            self.carry_out(now);
        }
    }

    pub(super) fn let_in(&mut self, now: Time, id: SessionId, mut dialled: Dialled) {
        dialled.generation = self.readiness.generation().0;
        if let Some(client) = self.clients.get_mut(&id) {
            let (attempt, canary) = client.dial;
            self.tally.released(&mut client.stay, now, canary);
            let held_ms = u64::try_from(now.since(client.arrived).as_millis()).unwrap_or(u64::MAX);
            self.log.say(Event::Released {
                connection: client.record.number,
                session: id.0,
                attempt,
                held_ms,
                canary,
                waited: client.waited,
            });
        }
        let is_http = self
            .clients
            .get(&id)
            .is_some_and(|client| matches!(*client.request, Kind::Http(_)));
        self.order(id, Order::Dialled(dialled));
        if is_http {
            self.answered(now, id, Answer::Sent);
        }
    }

    /// A dial failed, or the gate is shut: whoever stands in line behind it goes
    /// back to its place too, as no head may overtake another, nor be sent to a
    /// backend that is not ready.
    pub(super) fn recall(&mut self, now: Time) {
        let behind = self.launcher.recall();
        let due = std::mem::take(&mut self.due).into_keys().map(|place| place.id);
        for id in behind.into_iter().chain(due) {
            self.answered(now, id, Answer::Recalled);
        }
    }

    /// Takes a session out of the line. `false`: it is not there, as its head was written, or no dial ordered.
    pub(super) fn forget(&mut self, id: SessionId, place: Option<Place>) -> bool {
        place.is_some_and(|place| self.due.remove(&place).is_some()) | self.launcher.forget(id)
    }
}
