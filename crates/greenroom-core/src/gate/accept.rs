//! Who is given a 101 of greenroom's own while it waits at the [`Gate`], and when.
//!
//! Clients give up a handshake that hangs, and a browser opens one WebSocket to an address at a time: so whoever
//! has waited for some time of the backend's *hold period* is accepted, and keeps its place. The period begins when
//! the gate shuts after it was open, and with the gate itself; that a trial fails begins none.
//!
//! A browser whose address has been accepted in this period is accepted on arrival, as its sockets come one
//! after the other. Nobody is accepted at an open gate: there the 101 is the server's.
//!
//! Bounded by those who wait, and by `ACCEPTED_ADDRESSES_MAX`.

use core::time::Duration;
use std::collections::{BTreeSet, HashSet};

use super::{Gate, Output, Stage, Waiting};
use crate::event::SessionId;
use crate::limits::ACCEPTED_ADDRESSES_MAX;
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
}

impl Period {
    pub(super) fn first_due(&self) -> Option<Time> {
        self.due.first().map(|&(at, _)| at)
    }

    pub(super) fn forget(&mut self, id: SessionId, accept: Accept) {
        if let Some(at) = self.due_of(accept) {
            self.due.remove(&(at, id));
        }
    }

    fn due_of(&self, accept: Accept) -> Option<Time> {
        match accept {
            Accept::Never | Accept::Done => None,
            Accept::AtOnce => Some(self.since),
            Accept::After(time) => Some(self.since + time),
        }
    }
}

impl Gate {
    /// The backend is away from now on.
    pub(super) fn begin_period(&mut self, now: Time) {
        self.period = Period {
            since: now,
            ..Period::default()
        };
        self.remember_due();
    }

    /// Whoever waits and was passed over at an open gate is to be accepted after all.
    pub(super) fn remember_due(&mut self) {
        let all = (self.waiting.iter()).chain(&self.bench).chain(&self.aside);
        let due = all.filter_map(|(&id, waiting)| Some((self.period.due_of(waiting.accept)?, id)));
        self.period.due = due.collect();
    }

    /// A session has a place, and will be accepted if it has it for long.
    pub(super) fn wants_accept(&mut self, now: Time, id: SessionId, waiting: Waiting) {
        let Some(mut at) = self.period.due_of(waiting.accept) else {
            return;
        };
        let follows = waiting.who.is_browser && self.period.addresses.contains(&waiting.who.address);
        if follows && at > now {
            at = self.period.since; // at once, by a rule that `forget` knows too
            if let Some(waiting) = self.waiting_mut(id) {
                waiting.accept = Accept::AtOnce;
            }
        }
        self.period.due.insert((at, id));
    }

    /// Accepts those whose time it is. Whoever stands in line at an open gate is about to go, and is not.
    pub(super) fn accept_due(&mut self, now: Time) {
        while let Some(&(at, id)) = self.period.due.first()
            && at <= now
        {
            self.period.due.pop_first();
            let is_open = matches!(self.stage, Stage::Open(_));
            if is_open && !self.aside.contains_key(&id) {
                continue; // back at its place at a shut gate it is asked again
            }
            let Some(waiting) = self.waiting_mut(id) else {
                continue;
            };
            waiting.accept = Accept::Done;
            let address = waiting.who.address;
            if self.period.addresses.len() < ACCEPTED_ADDRESSES_MAX {
                self.period.addresses.insert(address);
            }
            self.outputs.push_back(Output::Accept(id));
        }
    }

    pub(super) fn check_due(&self) {
        debug_assert!(self.period.due.len() <= self.held());
    }

    fn waiting_mut(&mut self, id: SessionId) -> Option<&mut Waiting> {
        (self.waiting.get_mut(&id))
            .or_else(|| self.bench.get_mut(&id))
            .or_else(|| self.aside.get_mut(&id))
    }
}
