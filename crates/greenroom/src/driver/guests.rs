//! What becomes of clients at the gate: how they arrive, when they are accepted, what they hear of the wait, and who
//! is sent away in one turn, together.
//!
//! The gate says when a client is to be accepted, and is told while the house's budget for what they say is used up. Clients of routes with a `waiting_message` are told
//! once they are accepted, when the phase changes, and every `WAITING_EVERY`; a turn without such a client does
//! nothing for this.

use std::collections::HashSet;

use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::gate::{Accept, Input};
use greenroom_core::limits::{ACCEPT_REST, WAITING_EVERY, WAITING_GATHER};
use greenroom_core::time::Time;

use super::inbox::Arrival;
use super::orders::Order;
use super::{Driver, Event, Stay, WaitEnd};
use crate::config::Shed;

/// When accepted clients hear again how long they will wait.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// When all accepted clients that are told something hear it again, while there are any.
    next: Option<Time>,
    /// Those who were accepted since the last look at the line.
    new: HashSet<SessionId>,
    /// When the line may be looked at again: not before.
    look_at: Time,
    /// The phase has changed since, and is told then.
    is_late: bool,
    /// The phase that they heard of last.
    phase: Option<Box<str>>,
}

/// Whether the house has room for what another accepted client says, as the gate was told.
#[derive(Debug)]
pub(super) struct Room {
    is: bool,
    /// That there is some again is not said before.
    rests_until: Time,
    /// While there is none: when it is looked again.
    look_at: Time,
}

impl Room {
    /// Until the gate is told, it believes that there is some.
    pub(super) fn new() -> Self {
        Self {
            is: true,
            rests_until: Time::ZERO,
            look_at: Time::ZERO,
        }
    }

    /// When it is to be looked again.
    pub(super) fn due(&self) -> Option<Time> {
        Some(self.look_at).filter(|_| !self.is)
    }
}

impl Telling {
    /// When it is time to tell them.
    pub(super) fn due(&self) -> Option<Time> {
        let new = Some(self.look_at).filter(|_| self.is_late || !self.new.is_empty());
        self.next.into_iter().chain(new).min()
    }
}

impl Driver {
    pub(super) fn arrived(&mut self, now: Time, id: SessionId, arrived: Time, arrival: Arrival) {
        let Arrival {
            deadline,
            may_wait,
            class,
            who,
            mut client,
        } = arrival;
        client.arrived = arrived;
        let (need, accept) = (client.route.need, client.accept);
        if client.route.shed == Shed::Early && !self.gate.is_open_for(need) && self.is_hopeless(now, deadline) {
            self.tally.over(Stay::default(), arrived, now, WaitEnd::Refused);
            client.orders.tell(Order::Refuse(Refusal::Shed, 1));
            return;
        }
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
    pub(super) fn accept(&mut self, id: SessionId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.accept = Accept::Done;
        let is_told = client.route.waiting_message.is_some();
        self.log.say(Event::Accepted {
            connection: client.record.number,
            session: id.0,
        });
        self.order(id, Order::Accept);
        if is_told {
            self.waiting.new.insert(id); // told with all who are accepted at about the same time
        }
    }

    /// Tells the gate whether the house has room for what another accepted client says. That there is some again is not
    /// said more often than each `ACCEPT_REST`: it makes the gate look at all who wait.
    pub(super) fn tell_room(&mut self, now: Time) {
        let is = self.registry.early.admits();
        self.room.look_at = now + ACCEPT_REST;
        if is == self.room.is || (is && now < self.room.rests_until) {
            return;
        }
        self.room.is = is;
        if is {
            self.room.rests_until = now + ACCEPT_REST;
        }
        self.gate.handle(now, Input::Room(is));
        self.carry_out(now);
    }

    /// Tells those who are refused in this turn. Who had to wait hears how many fare like it at about this time, so that
    /// the answers can be spread; who came just now is alone.
    pub(super) fn send_away(&mut self, now: Time) {
        let waited = self.sent_away.iter().filter(|(client, _)| client.waited).count();
        let together = self.together.add(now, waited);
        for (client, refusal) in self.sent_away.drain(..) {
            let together = if client.waited { together } else { 1 };
            client.orders.tell(Order::Refuse(refusal, together));
        }
    }

    /// Tells those who were accepted just now how long it will take, and all others too when it is time or the
    /// phase has changed: one look at the line for all of them.
    pub(super) fn tell_waiting(&mut self, now: Time) {
        if self.waiting.new.is_empty() && self.waiting.next.is_none() {
            return;
        }
        let phase = self.standing.borrow().phase.clone();
        self.waiting.is_late = now < self.waiting.look_at && self.waiting.phase != phase;
        if now < self.waiting.look_at {
            return;
        }
        let tells_all = self.waiting.next.is_some_and(|at| at <= now) || self.waiting.phase != phase;
        let new = std::mem::take(&mut self.waiting.new);
        if new.is_empty() && !tells_all {
            return;
        }
        self.waiting.look_at = now + WAITING_GATHER;
        let line: Vec<SessionId> = self.gate.line().collect();
        let mut are_there = false;
        for (position, id) in line.into_iter().enumerate() {
            let is_told = self
                .clients
                .get(&id)
                .is_some_and(|client| client.accept == Accept::Done && client.route.waiting_message.is_some());
            are_there |= is_told;
            if is_told && (tells_all || new.contains(&id)) {
                self.order(id, Order::Tell { position });
            }
        }
        self.waiting.phase = phase;
        let next = self.waiting.next.filter(|_| !tells_all).unwrap_or(now + WAITING_EVERY);
        self.waiting.next = are_there.then_some(next);
    }
}
