//! Who is given a 101 of greenroom's own while it waits at the [`Gate`], and when.
//!
//! Clients give up a handshake that hangs, and a browser opens one WebSocket to an address at a time: so whoever
//! has waited for some time of the backend's *hold period* is accepted, and keeps its place. The period begins when
//! the gate shuts after it was open, and with the gate itself; that a trial fails begins none, unless the gate was open
//! for longer than `prove_for`, as nobody came to end a doubt.
//!
//! A browser whose address has been accepted in this period is accepted as soon as it has to wait, as its sockets come
//! one after the other. Nobody is accepted at an open gate: there the 101 is the server's.
//!
//! Bounded by those who wait, and by `ACCEPTED_ADDRESSES_MAX`.

use core::time::Duration;
use std::collections::{BTreeSet, HashSet};

use super::settle::Way;
use super::{Dialing, Gate, Output, Stage, Trial, Waiting};
use crate::event::{Refusal, SessionId};
use crate::limits::ACCEPTED_ADDRESSES_MAX;
use crate::session::Answer;
use crate::time::Time;

/// When a client that waits is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accept {
    /// Never: the 101 is the server's.
    Never,
    /// As soon as it has to wait.
    AtOnce,
    /// So long after the beginning of the hold period.
    After(Duration),
    /// It was.
    Done,
}

/// Who a client is, as far as the gate tells clients apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Who {
    /// Its address, or what stands for it.
    pub address: u64,
    /// What its turn goes by, where turns are shared fairly.
    pub key: u64,
    /// Whether it is a browser: it sent an Origin.
    pub is_browser: bool,
}

/// The time since which the backend is away, and who is accepted in it.
#[derive(Debug, Default)]
pub(super) struct Period {
    since: Time,
    /// Those who wait and are not accepted yet, by when they will be.
    due: BTreeSet<(Time, SessionId)>,
    /// Addresses of those who were.
    addresses: HashSet<u64>,
    /// The house has no room for what another would say.
    is_crowded: bool,
}

impl Period {
    pub(super) fn new(since: Time) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    pub(super) fn first_due(&self) -> Option<Time> {
        self.due.first().map(|&(at, _)| at)
    }

    /// It has its place no more; it is asked again if it comes back.
    pub(super) fn forget(&mut self, id: SessionId, waiting: &mut Waiting) {
        if let Some(at) = waiting.accept_at.take() {
            self.due.remove(&(at, id));
        }
    }

    /// It is to be accepted, unless it was.
    fn remember(&mut self, id: SessionId, waiting: &mut Waiting) {
        waiting.accept_at = match waiting.accept {
            Accept::Never | Accept::Done => None,
            Accept::AtOnce => Some(self.since),
            Accept::After(_) if waiting.follows => Some(self.since),
            Accept::After(time) => Some(self.since + time),
        };
        self.due.extend(waiting.accept_at.map(|at| (at, id)));
    }
}

impl Gate {
    /// The backend of an open gate is away from now on: a hold period begins, and when it comes back it was restarted.
    pub(super) fn goes_away(&mut self, now: Time) {
        self.is_restart = true;
        self.begin_period(now);
    }

    /// That begins no hold period, as the gate opened on trial, and the trial goes on; unless nobody came to end a
    /// doubt for longer than a trial takes.
    pub(super) fn trial_fails(&mut self, now: Time) {
        if let Stage::Open(Trial::Doubt { opened, .. }) = self.stage
            && now.since(opened) > self.limits.prove_for
        {
            self.goes_away(now);
        }
    }

    /// Somebody comes to a gate at which nobody is. Where it is limited the backend may have been there for hours, and nobody
    /// came to prove it: the hold period is theirs who wait now, and begins with the first of them.
    pub(super) fn finds_nobody(&mut self, now: Time) {
        if matches!(self.stage, Stage::Limited { .. }) && self.held() == 0 && self.dialing.is_empty() {
            self.begin_period(now);
        }
    }

    fn begin_period(&mut self, now: Time) {
        self.period = Period {
            is_crowded: self.period.is_crowded,
            ..Period::new(now)
        };
        let line = self.waiting.values_mut();
        for waiting in line.chain(self.bench.values_mut()).chain(self.aside.values_mut()) {
            waiting.follows = false; // whom it followed was accepted in another period
        }
        self.remember_due();
    }

    /// Whoever waits and was passed over at an open gate is to be accepted after all.
    pub(super) fn remember_due(&mut self) {
        self.period.due.clear();
        let line = self.waiting.iter_mut();
        for (&id, waiting) in line.chain(&mut self.bench).chain(&mut self.aside) {
            self.period.remember(id, waiting);
        }
    }

    /// A session gets a place, and will be accepted if it has it for long.
    pub(super) fn wants_accept(&mut self, id: SessionId, waiting: &mut Waiting) {
        waiting.follows = waiting.who.is_browser && self.period.addresses.contains(&waiting.who.address);
        self.period.remember(id, waiting);
    }

    /// Whose dial is given up next, and when: where the gate is not open a server that took a connection and says nothing may
    /// be busy starting, and its client's patience ends meanwhile. Whoever should have been accepted goes back to its place for
    /// that, not before the dial was unanswered for `dial_patience`, and once: the server may act on each dial.
    pub(super) fn next_to_give_up(&self) -> Option<(Time, SessionId)> {
        if self.period.is_crowded
            || matches!(
                self.stage,
                Stage::Open(_) | Stage::Failed | Stage::Refusing | Stage::Draining
            )
        {
            return None;
        }
        let due = |dialing: &Dialing| {
            let at = match dialing.waiting.accept {
                Accept::Never | Accept::Done => return None,
                Accept::AtOnce => self.period.since,
                Accept::After(time) => self.period.since + time,
            };
            Some(at.max(dialing.since + self.limits.dial_patience))
        };
        let asked = self.dialing.iter().filter(|(_, d)| d.way == Way::Asked);
        asked.filter_map(|(&id, dialing)| Some((due(dialing)?, id))).min()
    }

    /// Gives up the dials of those whose time it is, and accepts them at their places, before they are dialled again.
    pub(super) fn give_up(&mut self, now: Time) {
        while let Some((at, id)) = self.next_to_give_up()
            && at <= now
        {
            self.requeue(now, id, Answer::GivenUp, false);
            self.accept_due(now); // so it is given up once: who is accepted is not any more
        }
    }

    /// Accepts those whose time it is. Whoever stands in line at an open gate is about to go, and is not.
    pub(super) fn accept_due(&mut self, now: Time) {
        while let Some(&(at, id)) = self.period.due.first()
            && at <= now
        {
            self.period.due.pop_first();
            let is_open = matches!(self.stage, Stage::Open(_));
            let (is_aside, is_crowded) = (self.aside.contains_key(&id), self.period.is_crowded);
            let Some(waiting) = self.waiting_mut(id) else {
                continue;
            };
            waiting.accept_at = None;
            if is_open && !is_aside {
                continue; // once the gate is shut or it waits aside it is asked again
            }
            if is_crowded {
                // Who waits before the 101 goes on so, and is asked again when there is room.
                if waiting.accept == Accept::AtOnce {
                    self.forget(id);
                    self.outputs.push_back(Output::Refuse(id, Refusal::EarlyBudget));
                }
                continue;
            }
            waiting.accept = Accept::Done;
            let address = waiting.who.address;
            if self.period.addresses.len() < ACCEPTED_ADDRESSES_MAX {
                self.period.addresses.insert(address);
            }
            self.outputs.push_back(Output::Accept(id));
        }
    }

    /// There is room for what another accepted client says, or none.
    pub(super) fn has_room_for_words(&mut self, has_room: bool) {
        self.period.is_crowded = !has_room;
        if has_room {
            self.remember_due();
        }
    }

    pub(super) fn check_due(&self) {
        debug_assert!(self.period.due.len() <= self.held());
    }

    fn waiting_mut(&mut self, id: SessionId) -> Option<&mut Waiting> {
        (self.waiting.get_mut(&id))
            .or_else(|| self.bench.get_mut(&id))
            .or_else(|| self.aside.get_mut(&id))
            .map(|waiting| &mut **waiting)
    }
}
