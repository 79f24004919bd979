//! The shell's part of the world: it tells the core what happened, does what the
//! core says, and keeps the timer. Here the mistakes are planted.

use core::time::Duration;

use greenroom_core::backend;
use greenroom_core::event::SessionId;
use greenroom_core::gate::{self, Accept, Change, Class, Hand, Output};
use greenroom_core::limits::GateLimits;
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::Bug;
use crate::ledger::{Arrival, At};
use crate::world::{Event, World};

impl World<'_> {
    /// One input to the gate, and all that follows from it.
    pub(crate) fn tell_gate(&mut self, input: gate::Input) {
        self.gate.handle(self.now, input);
        self.do_outputs();
        self.look_before_a_hold_ends();
        self.rearm();
    }

    /// Somebody sets the gate by hand.
    pub(crate) fn take_hand(&mut self, hand: Hand, lasts: Option<Duration>) {
        let until = lasts.map(|lasts| self.now + lasts);
        self.ledger.takes_hand(self.now, hand, until);
        self.tell_gate(gate::Input::Hand(hand, until));
    }

    /// What the gate is made to keep to.
    pub(crate) fn mistaken_limits(bug: Option<Bug>, limits: GateLimits) -> GateLimits {
        let mut known = limits;
        match bug {
            Some(Bug::LearnedSettleIgnored) => (known.settle_warned, known.settle_max) = (limits.settle, limits.settle),
            Some(Bug::AddressLimitIgnored) => known.held_per_address = None,
            Some(Bug::KeyLimitIgnored) => known.held_per_key = None,
            Some(Bug::RateIgnored) => known.release_rate = None,
            Some(Bug::LateAnswerIgnored) => known.slow_handshake = Duration::MAX,
            _ => {}
        }
        known
    }

    /// A client has come.
    pub(crate) fn tell_arrival(&mut self, id: SessionId, arrival: Arrival) {
        let Arrival {
            deadline,
            may_wait,
            mut class,
            need,
            mut accept,
            mut who,
            ..
        } = arrival;
        match (self.bug, class, accept) {
            (Some(Bug::BodyOverlooked), Class::Http { .. }, _) => class = Class::Http { is_safe: true },
            (Some(Bug::AcceptedEarly), _, Accept::After(_)) => accept = Accept::AtOnce,
            (Some(Bug::KeyOverlooked), ..) => who.key = 0,
            (Some(Bug::BrowserOverlooked), ..) => who.is_browser = false,
            _ => {}
        }
        self.tell_gate(gate::Input::Arrived {
            id,
            deadline,
            may_wait,
            class,
            need,
            accept,
            who,
        });
    }

    fn look_before_a_hold_ends(&mut self) {
        let gate = &self.gate;
        let now = self.wants_look() && self.last_look.take(self.now, |after| gate.first_deadline(after));
        if now && self.bug != Some(Bug::DeadlineLookSkipped) {
            self.look();
        }
    }

    pub(crate) fn wake(&mut self) {
        self.armed = None;
        if self.ledger.hand_is_over(self.now) {
            self.ledger.takes_hand(self.now, Hand::Auto, None);
        }
        self.pass_readiness();
        self.gate.handle_timeout(self.now);
        self.do_outputs();
        self.look_before_a_hold_ends();
        let again = self.next_timeout();
        self.ledger.demand(again.is_none_or(|at| at > self.now), 9, || {
            "a timer that is due again at once".into()
        });
        self.rearm();
    }

    pub(crate) fn rearm(&mut self) {
        if self.bug == Some(Bug::LostWakeUp) && self.rng.one_in(10) {
            return;
        }
        let look = self
            .wants_look()
            .then(|| self.last_look.due(|after| self.gate.first_deadline(after)));
        self.armed = [self.next_timeout(), look.flatten()].into_iter().flatten().min();
    }

    /// When the core wants to be woken.
    fn next_timeout(&self) -> Option<Time> {
        let overrun = self
            .readiness
            .poll_timeout()
            .filter(|_| self.bug != Some(Bug::OverrunMissed));
        [self.gate.poll_timeout(), overrun].into_iter().flatten().min()
    }

    fn do_outputs(&mut self) {
        let (mut unreachable, mut moved) = (false, Vec::new());
        while let Some(output) = self.gate.poll_output() {
            self.trace.note(format_args!("{} gate: {output:?}", self.clock()));
            let id = match output {
                Output::Held(id, _)
                | Output::Dial { id, .. }
                | Output::Accept(id)
                | Output::Look(id)
                | Output::Forward(id)
                | Output::Requeue(id, _)
                | Output::Refuse(id, _) => Some(id),
                Output::Changed(_) => None,
            };
            let client = id.and_then(|id| self.numbers.get(&id).copied());
            self.ledger.said(self.now, client, output);
            unreachable |= output == Output::Changed(Change::Unreachable);
            if matches!(output, Output::Changed(Change::Proved(_))) && self.rng.one_in(2) && self.clients.len() < 60 {
                // Somebody who is dialled when the trial is all but over.
                let before = Duration::from_millis(self.rng.range(0, 25));
                self.at(self.limits.prove_for.saturating_sub(before), Event::Arrives);
            }
            if output == Output::Changed(Change::Trusted) && self.is_slow && self.clients.len() < 60 {
                // A crowd at a gate that is sure, before a backend that takes its time.
                for _ in 0..40 {
                    let after = Duration::from_millis(self.rng.range(0, 1_000));
                    self.at(after, Event::Arrives);
                }
            }
            let Some(client) = client else { continue };
            match output {
                Output::Dial { canary, .. } => self.dial(client, canary),
                Output::Look(_) => {
                    let (dial, after) = (self.clients[client].dial, self.delay());
                    self.at(after, Event::Looks(client, dial));
                }
                Output::Forward(_) => self.forward(client),
                Output::Requeue(id, answer) => {
                    self.hang_up(client);
                    let was_accepted = self.ledger.entries[client].accept == Accept::Done;
                    if self.bug == Some(Bug::AcceptedAgain) && was_accepted {
                        self.ledger.is_accepted(self.now, client);
                    }
                    if self.bug == Some(Bug::CanarySeen) && self.clients[client].canary && self.rng.one_in(4) {
                        self.ledger.client_sees(client, answer);
                    }
                    if self.bug == Some(Bug::ReorderedRequeue) && self.rng.one_in(4) {
                        moved.push((id, client));
                    }
                }
                Output::Refuse(..) => {
                    self.hang_up(client);
                    self.clients[client].gone = true;
                }
                Output::Accept(_) if self.bug == Some(Bug::AcceptedLate) => {
                    self.at(Duration::from_millis(5), Event::Accepts(client));
                }
                Output::Accept(_) => self.ledger.is_accepted(self.now, client),
                Output::Held(..) | Output::Changed(_) => {}
            }
        }
        for (id, client) in moved {
            self.give_new_number(id, client);
        }
        if unreachable {
            self.tell_backend(backend::Input::Unreachable);
        }
    }

    /// The planted mistake of the re-queue.
    fn give_new_number(&mut self, old: SessionId, client: usize) {
        let entry = self.ledger.entries[client].clone();
        if entry.at != At::Waiting {
            return;
        }
        self.gate.handle(self.now, gate::Input::Left(old));
        self.next_id += 1;
        let id = SessionId(self.next_id);
        self.clients[client].id = id;
        self.numbers.insert(id, client);
        let (deadline, may_wait) = (entry.deadline, entry.may_wait);
        self.gate.handle(
            self.now,
            gate::Input::Arrived {
                id,
                deadline,
                may_wait,
                class: entry.class,
                need: entry.need,
                accept: entry.accept,
                who: entry.who,
            },
        );
        self.do_outputs();
    }

    fn dial(&mut self, client: usize, canary: bool) {
        let after = self.delay();
        let c = &mut self.clients[client];
        c.dial += 1;
        c.canary = canary;
        c.unread = None;
        c.got.clear();
        let dial = c.dial;
        self.at(after, Event::DialReaches(client, dial));
        if self.bug == Some(Bug::EarlyForward) && self.rng.one_in(4) {
            self.pass(client);
        }
    }

    fn hang_up(&mut self, client: usize) {
        let c = &mut self.clients[client];
        c.connected = None;
        c.waits = false;
        c.relaying = None;
    }

    /// The client gets the answer; after a 101 the relay begins with the early bytes.
    fn forward(&mut self, client: usize) {
        let At::LetIn(answer) = self.ledger.entries[client].at else {
            return; // the ledger has said what is wrong
        };
        self.ledger.client_sees(client, answer);
        if answer == Answer::Sent {
            return; // whatever comes is its client's
        }
        if matches!(answer, Answer::Switched | Answer::Spoke) {
            self.clients[client].relaying = Some(self.now);
            self.pass(client);
        } else {
            self.hang_up(client);
            self.clients[client].gone = true;
        }
    }

    /// Passes what the client has sent and the backend has not got.
    fn pass(&mut self, client: usize) {
        let c = &self.clients[client];
        let (from, to) = (c.got.len(), c.sent.len());
        if from == to {
            return;
        }
        self.ledger.bytes_to_backend(client);
        let cut = self.rng.size(from + 1, to + 1);
        for (low, high) in [(from, cut), (cut, to)] {
            let piece = self.clients[client].sent[low..high].to_vec();
            self.clients[client].got.extend(piece);
        }
        let c = &self.clients[client];
        self.ledger.demand(c.sent.starts_with(&c.got), 2, || {
            format!("the backend has {:?} of {:?}", c.got, c.sent)
        });
    }

    pub(crate) fn sends(&mut self, client: usize) {
        let c = &mut self.clients[client];
        if c.gone {
            return;
        }
        c.sent.push(c.sent.len() as u8);
        if c.relaying.is_some() {
            self.pass(client);
        }
    }

    pub(crate) fn leaves(&mut self, client: usize) {
        self.hang_up(client);
        if core::mem::replace(&mut self.clients[client].gone, true) {
            return;
        }
        let id = self.clients[client].id;
        let known = matches!(self.ledger.entries[client].at, At::Waiting | At::OnItsWay(_));
        self.ledger.left(client);
        if self.bug == Some(Bug::LeakedPlace) && self.rng.one_in(4) {
            return;
        }
        if known {
            self.tell_gate(gate::Input::Left(id));
        }
    }

    /// The last look: what lies in the socket, and is not read yet.
    pub(crate) fn looks(&mut self, client: usize, dial: u32) {
        let c = &mut self.clients[client];
        if c.dial != dial || !matches!(self.ledger.entries[client].at, At::OnItsWay(_)) {
            return;
        }
        let there = c.unread.filter(|&(at, _)| at <= self.now);
        match there {
            Some((_, answer)) if self.bug != Some(Bug::LastLookSkipped) => self.answer(client, dial, answer),
            Some(_) | None => self.answer(client, dial, Answer::Stood),
        }
    }

    /// What the backend did on a connection reaches the shell.
    pub(crate) fn answer(&mut self, client: usize, dial: u32, answer: Answer) {
        let c = &self.clients[client];
        if c.dial != dial {
            return; // that connection was dropped
        }
        let at = self.ledger.entries[client].at;
        match (at, answer) {
            (_, Answer::Switched) => self.clients[client].switched = self.now,
            (At::OnItsWay(_), Answer::Spoke | Answer::LostEarly) if self.clients[client].unread.take().is_none() => {
                return; // read already, by the last look
            }
            _ => {}
        }
        let c = &self.clients[client];
        match (at, answer) {
            (At::LetIn(Answer::Sent), _) => {
                self.hang_up(client);
                self.clients[client].gone = true;
                if answer == Answer::Dropped {
                    self.tell_backend(backend::Input::RelayLost);
                }
            }
            (At::LetIn(_), Answer::LostEarly | Answer::Dropped) => self.lost(client),
            // A session that left: its answer was on the way, and the gate must not mind.
            (At::OnItsWay(_) | At::Left | At::Refused(_), _) => {
                let id = c.id;
                self.ledger.answered(self.now, client, answer);
                self.tell_gate(gate::Input::Answered(id, answer));
                if self.bug == Some(Bug::DropTakenForDeath) && answer == Answer::Dropped {
                    self.tell_gate(gate::Input::Died);
                }
            }
            (At::LetIn(_) | At::Waiting, _) => {}
        }
    }

    /// A relay is lost.
    fn lost(&mut self, client: usize) {
        let Some(since) = self.clients[client].relaying.take() else {
            return;
        };
        self.hang_up(client);
        self.clients[client].gone = true;
        if self.now.since(since) <= self.limits.settle {
            let delay = self.now.since(self.clients[client].switched);
            self.ledger.told_lost_early(self.now, delay);
            self.tell_gate(gate::Input::LostEarly(delay));
        }
        let restarting = self.rng.one_in(4);
        self.tell_backend(if restarting {
            backend::Input::Restarting
        } else {
            backend::Input::RelayLost
        });
    }
}
