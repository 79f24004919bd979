//! What becomes of clients at the gate: how they arrive, when they are accepted, what they hear of the wait, and who
//! is sent away in one turn, together.
//!
//! The gate says when a client is to be accepted; the house's budget may be used up: then who would have waited
//! before the 101 goes on so, and who would not is refused. Clients of routes with a `waiting_message` are told
//! once they are accepted, when the phase changes, and every `WAITING_EVERY`; a turn without such a client does
//! nothing for this.

use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::gate::{Accept, Input};
use greenroom_core::limits::WAITING_EVERY;
use greenroom_core::time::Time;

use super::inbox::{Arrival, Order};
use super::{Client, Driver, Event};
use crate::config::Shed;

/// When accepted clients hear again how long they will wait.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Accepted clients that are told something.
    next: Option<Time>,
    /// The phase that they heard of last.
    phase: Option<Box<str>>,
}

impl Telling {
    /// When it is time to tell them.
    pub(super) fn due(&self) -> Option<Time> {
        self.next
    }
}

impl Driver {
    pub(super) fn arrived(&mut self, now: Time, id: SessionId, arrived: Time, arrival: Arrival) {
        let Arrival {
            deadline,
            may_wait,
            class,
            request,
            route,
            peer,
            accept,
            who,
            order,
        } = arrival;
        let settings = &self.config.routes[route];
        let need = settings.need;
        if settings.shed == Shed::Early && !self.gate.is_open_for(need) && self.is_hopeless(now, deadline) {
            let _ = order.send(Order::Refuse(Refusal::Shed, 1)); // it may have left: then it is gone anyway
            return;
        }
        let client = Client {
            request,
            route,
            peer,
            arrived,
            waited: false,
            accept,
            order,
            dial: (0, false),
            place: None,
        };
        self.clients.insert(id, client);
        let arrived = Input::Arrived {
            id,
            deadline,
            may_wait,
            class,
            need: u8::try_from(need).unwrap_or(u8::MAX), // `NEEDS_MAX` is far less
            accept,
            who,
        };
        self.gate.handle(now, arrived);
    }

    /// Whether by all that is known of its starts the backend will not be ready in that time.
    fn is_hopeless(&self, now: Time, deadline: Time) -> bool {
        let elapsed = now.since(self.away_since);
        let usual = self.starts.borrow().usual();
        let usual = usual.filter(|_| self.is_start && !self.is_whole);
        usual.is_some_and(|usual| usual.is_hopeless(elapsed, deadline.since(now)))
    }

    /// A client is to have a 101 of greenroom's own.
    pub(super) fn accept(&mut self, now: Time, id: SessionId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !self.registry.early.admits() {
            if client.accept == Accept::AtOnce {
                self.gate.handle(now, Input::Left(id));
                if let Some(client) = self.clients.remove(&id) {
                    let _ = client.order.send(Order::Refuse(Refusal::EarlyBudget, 1)); // it may have left
                }
            }
            return;
        }
        client.accept = Accept::Done;
        let is_told = self.config.routes[client.route].waiting_message.is_some();
        self.log.say(Event::Accepted { session: id.0 });
        self.order(id, |next| Order::Accept { next });
        if is_told {
            self.waiting.next = Some(now); // at the end of this turn, with all who are accepted in it
        }
    }

    /// Tells those who are refused in this turn. Who had to wait hears how many fare like it, so that the answers can be
    /// spread; who came just now is alone.
    pub(super) fn send_away(&mut self) {
        let together = self.sent_away.iter().filter(|(client, _)| client.waited).count();
        for (client, refusal) in self.sent_away.drain(..) {
            let together = if client.waited { together } else { 1 };
            let _ = client.order.send(Order::Refuse(refusal, together)); // it may have left: then it is gone anyway
        }
    }

    /// Tells the accepted clients that wait, if it is time: one look at the line for all of them.
    pub(super) fn tell_waiting(&mut self, now: Time) {
        let Some(next) = self.waiting.next else {
            return;
        };
        let phase = self.standing.borrow().phase.clone();
        if now < next && phase == self.waiting.phase {
            return;
        }
        let line: Vec<SessionId> = self.gate.line().collect();
        let mut told = 0;
        for (position, id) in line.into_iter().enumerate() {
            let is_told = self.clients.get(&id).is_some_and(|client| {
                client.accept == Accept::Done && self.config.routes[client.route].waiting_message.is_some()
            });
            if is_told {
                told += 1;
                self.order(id, |next| Order::Tell { position, next });
            }
        }
        self.waiting.phase = phase;
        self.waiting.next = (told > 0).then(|| now + WAITING_EVERY);
    }
}
