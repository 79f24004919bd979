//! Who is given a 101 of greenroom's own, and when.
//!
//! - *Once* (5): nobody is accepted twice, nor whoever is not at its place, nor whose 101 is the server's.
//! - *Not early* (8): not before its time, and at an open gate only who waits aside.
//! - *Not late* (9): whoever waits at a gate that is not open, or aside, is accepted at its time.
//!
//! - *Given up* (5, 8): once of each, at a gate that is not open, whose time it is, and whose dial was unanswered for its patience.
//!
//! Its time goes by the hold period, which begins with the gate, when it is open no more, and with who comes to a limited one at which nobody is; a trial that fails
//! begins none, but where the backend's word was doubted later than a trial takes. A browser whose address was accepted in this period before it got its place follows at once.

use std::collections::BTreeSet;

use greenroom_core::gate::Accept;
use greenroom_core::time::Time;

use super::{At, Entry, Ledger, Seen};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Period {
    since: Time,
    addresses: BTreeSet<u64>,
}

impl Period {
    pub(super) fn new(since: Time) -> Self {
        let addresses = BTreeSet::new();
        Self { since, addresses }
    }
}

impl Ledger {
    /// A trial failed. Where the backend said READY so long ago it was believed, as nobody came to see.
    pub(super) fn fails_trial(&mut self, now: Time) {
        let is_old = now.since(self.seen_since) > self.limits.prove_for;
        if self.seen == Seen::Doubt && is_old {
            self.old_doubts += 1;
            self.begin_period(now);
        }
    }

    /// The gate is open no more: not where a trial failed.
    pub(super) fn begin_period(&mut self, now: Time) {
        self.period = Period::new(now);
        self.entries.iter_mut().for_each(|e| e.follows = false);
        self.was_open = true;
    }

    /// It comes to a limited gate at which nobody is: the hold period begins with it.
    pub(super) fn finds_nobody(&mut self, now: Time, client: usize) {
        let is_there = |e: &Entry| matches!(e.at, At::Waiting | At::OnItsWay(_));
        let is_alone = !self.entries[..client].iter().any(is_there);
        if self.seen == Seen::Limited && is_alone {
            self.period = Period::new(now);
        }
    }

    /// It gets a place.
    pub(super) fn gets_place(&mut self, client: usize) {
        let who = self.entries[client].who;
        self.entries[client].follows = who.is_browser && self.period.addresses.contains(&who.address);
    }

    fn accept_at(&self, entry: &Entry) -> Option<Time> {
        match entry.accept {
            Accept::Never | Accept::Done => None,
            Accept::AtOnce => Some(self.period.since),
            Accept::After(_) if entry.follows => Some(self.period.since),
            Accept::After(time) => Some(self.period.since + time),
        }
    }

    fn may_be_accepted(&self, entry: &Entry) -> bool {
        let shut = matches!(self.seen, Seen::Shut | Seen::Limited);
        entry.at == At::Waiting && (shut || !self.is_in_line(entry))
    }

    pub(crate) fn is_accepted(&mut self, now: Time, client: usize) {
        let entry = self.entries[client].clone();
        self.demand(entry.at == At::Waiting, 5, || {
            format!("client {client} is accepted, and it is {:?}", entry.at)
        });
        self.demand(entry.accept != Accept::Done, 5, || {
            format!("client {client} is accepted again")
        });
        let (at, seen) = (self.accept_at(&entry), self.seen);
        self.demand(
            entry.accept == Accept::Done || at.is_some_and(|at| at <= now),
            8,
            || format!("client {client} is accepted, and its time is {at:?}"),
        );
        let may = self.may_be_accepted(&entry);
        self.demand(may, 8, || {
            format!("client {client} is accepted in line at a gate that is {seen:?}")
        });
        self.entries[client].accept = Accept::Done;
        self.period.addresses.insert(entry.who.address);
        self.accepted += 1;
    }

    /// Its dial is given up, so that it can be accepted.
    pub(super) fn is_given_up(&mut self, now: Time, client: usize) {
        let entry = self.entries[client].clone();
        self.demand(!entry.gave_up, 5, || {
            format!("a dial of client {client} is given up again")
        });
        let shut = matches!(self.seen, Seen::Shut | Seen::Limited);
        let due = self.accept_at(&entry).is_some_and(|at| at <= now);
        let patience = self.limits.dial_patience;
        let waited = entry.waited_from.is_some_and(|from| from + patience <= now);
        self.demand(shut && due && waited, 8, || {
            format!("a dial of client {client} is given up: shut {shut}, due {due}, unanswered for long {waited}")
        });
        self.entries[client].gave_up = true;
    }

    pub(super) fn check_accepted(&mut self, now: Time) {
        let late = |e: &Entry| self.may_be_accepted(e) && self.accept_at(e).is_some_and(|at| at < now);
        let late = self.all(late).next();
        self.demand(late.is_none(), 9, || {
            format!("it is past the time to accept client {late:?}")
        });
    }
}
