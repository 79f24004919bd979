//! What becomes of a dial in the world: it reaches the backend or not, and is answered or not.

use core::time::Duration;

use greenroom_core::gate::{self, Class};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::Bug;
use crate::backend::{Poison, Reaction};
use crate::ledger::At;
use crate::world::{Event, World};

impl World<'_> {
    pub(crate) fn dial_reaches(&mut self, client: usize, dial: u32) {
        let c = &self.clients[client];
        if c.dial != dial || c.gone || !matches!(self.ledger.entries[client].at, At::OnItsWay(None)) {
            return; // given up before it got there
        }
        if c.poison == Some(Poison::Crashes) && self.may_crash() {
            return self.crashes(client, dial);
        }
        let reaction = if self.rng.one_in(60) {
            Reaction::Answers(Answer::NoDescriptor)
        } else {
            self.truth.react(self.now, c.poison, c.class, &mut self.rng)
        };
        self.trace
            .note(format_args!("{} client {client}: {reaction:?}", self.clock()));
        let reached = !matches!(
            reaction,
            Reaction::Answers(Answer::Refused | Answer::ConnectTimeout | Answer::NoDescriptor)
        );
        if reached && self.clients[client].class != Class::WebSocket {
            return self.takes_plain(client, dial, reaction);
        }
        let after = self.delay() + self.lag();
        let c = &mut self.clients[client];
        let connected = Some(self.truth.generation);
        match reaction {
            Reaction::Answers(Answer::NoDescriptor) => {
                self.at(after, Event::Answer(client, dial, Answer::NoDescriptor));
                self.at(after + Duration::from_millis(50), Event::Spare(1_000));
            }
            Reaction::Answers(answer) => {
                c.connected = connected.filter(|_| answer == Answer::Switched);
                self.at(after, Event::Answer(client, dial, answer));
            }
            Reaction::Then(later, answer) => {
                c.connected = connected;
                self.at(after, Event::Answer(client, dial, Answer::Switched));
                // It is read when it comes, unless the shell is kept from running.
                let late = if self.rng.one_in(8) { self.rng.range(0, 60) } else { 0 };
                let comes = after + later;
                self.lies_unread(client, self.now + comes, answer);
                self.at(comes + Duration::from_millis(late), Event::Answer(client, dial, answer));
            }
            Reaction::Waits => (c.connected, c.waits) = (connected, true),
            Reaction::Never => c.connected = connected,
        }
    }

    /// How much longer a handshake takes where the backend is slow at it.
    fn lag(&mut self) -> Duration {
        if !self.is_slow || self.rng.one_in(3) {
            return Duration::ZERO;
        }
        let most = self.rng.pick(&[150, 700, 1_500]);
        Duration::from_millis(self.rng.range(0, most))
    }

    /// In its last life everybody has to get in.
    fn may_crash(&self) -> bool {
        let ends = self.truth.life.is_some_and(|life| life.ends.is_some());
        self.truth.is_ours && ends && self.truth.is_ready(self.now)
    }

    /// The process dies of what this client asks of it.
    fn crashes(&mut self, client: usize, dial: u32) {
        if self.clients[client].class == Class::WebSocket {
            self.clients[client].connected = Some(self.truth.generation);
        } else {
            self.takes_plain(client, dial, Reaction::Never);
        }
        self.sum.crashes += 1;
        self.ends(self.truth.generation);
    }

    /// A plain request's head is written; the backend answers when it likes.
    pub(crate) fn takes_plain(&mut self, client: usize, dial: u32, reaction: Reaction) {
        let c = &mut self.clients[client];
        c.connected = Some(self.truth.generation);
        let id = c.id;
        self.ledger.wrote(self.now, client);
        if self.bug != Some(Bug::SentUntold) {
            self.tell_gate(gate::Input::Answered(id, Answer::Sent));
        }
        let after = self.delay();
        match reaction {
            Reaction::Answers(answer) => self.at(after, Event::Answer(client, dial, answer)),
            Reaction::Then(later, answer) => self.at(after + later, Event::Answer(client, dial, answer)),
            Reaction::Waits => self.clients[client].waits = true,
            Reaction::Never => {}
        }
    }

    /// From then on it lies in the shell's socket, unless something else does already.
    pub(crate) fn lies_unread(&mut self, client: usize, at: Time, answer: Answer) {
        let c = &mut self.clients[client];
        if c.unread.is_none_or(|(before, _)| at < before) {
            c.unread = Some((at, answer));
            self.ledger.entries[client].lost_at = Some(at).filter(|_| answer == Answer::LostEarly);
        }
    }
}
