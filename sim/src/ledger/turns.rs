//! Whose turn it is, worked out once more and in the plainest way, and what fair turns promise.
//!
//! - *Turns* (7): of each key those in line are sorted by arrival, its turns by number, and the first ones have them. A
//!   turn is drawn when the first of a key comes into line, and when one is let in and others wait. Who is let in
//!   takes its turn along, and whoever else goes, unless its key would be left without.
//! - *Round-robin* (7): while a gate is open, between two turns of one key each other key that waits all the
//!   while has one; and within a key nobody is overtaken.

use std::collections::{BTreeMap, BTreeSet};

use super::{At, Entry, Ledger, Seen};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: u64,
    keys: BTreeMap<u64, Key>,
    /// Dials of this open gate.
    dials: u64,
}

#[derive(Debug, Default)]
struct Key {
    line: BTreeSet<usize>,
    turns: BTreeSet<u64>,
    /// At which dial of the open gate it had its last turn, and since which somebody of it has been in line.
    had: Option<u64>,
    waits_since: u64,
    /// It had one turn then, and nobody of it came back with another since: so the next one was drawn after that.
    had_one: bool,
}

/// Behind all who have a turn.
const NONE: u64 = u64::MAX;

impl Ledger {
    /// By which the lesser goes first.
    pub(super) fn place(&self, client: usize) -> (u64, usize) {
        let key = self.turns.keys.get(&self.entries[client].who.key);
        let turn = key.filter(|_| self.limits.fair).and_then(|key| {
            let mut those = key.line.iter().zip(&key.turns);
            those.find(|&(&other, _)| other == client).map(|(_, &turn)| turn)
        });
        (turn.unwrap_or(NONE), client)
    }

    /// Those in line who are meant, the first first.
    pub(super) fn in_order(&self, pred: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let mut those: Vec<usize> = self.all(|e| self.is_in_line(e) && pred(e)).collect();
        those.sort_by_key(|&client| self.place(client));
        those
    }

    /// It comes into line.
    pub(super) fn joins(&mut self, client: usize) {
        let carried = self.entries[client].turn.take();
        let (dials, is_back) = (self.turns.dials, self.entries[client].attempts > 0 || carried.is_some());
        let last = &mut self.turns.last;
        let key = self.turns.keys.entry(self.entries[client].who.key).or_default();
        let turn = carried.or_else(|| {
            key.line.is_empty().then(|| {
                *last += 1;
                *last
            })
        });
        if key.line.is_empty() {
            key.waits_since = dials;
        }
        key.had_one &= !is_back;
        key.line.insert(client);
        key.turns.extend(turn);
    }

    /// It goes out of line, let in or not.
    pub(super) fn parts(&mut self, client: usize, is_let_in: bool) {
        let (turn, _) = self.place(client);
        let turn = Some(turn).filter(|&turn| turn != NONE);
        let Some(key) = self.turns.keys.get_mut(&self.entries[client].who.key) else {
            return;
        };
        if !key.line.remove(&client) {
            return; // it was on the bench, or aside
        }
        let wants = turn.is_some() && key.turns.len() == 1 && !key.line.is_empty();
        let kept = turn.filter(|_| is_let_in || !wants);
        if let Some(turn) = kept {
            key.turns.remove(&turn);
        }
        if is_let_in && wants {
            self.turns.last += 1;
            key.turns.insert(self.turns.last);
        }
        self.entries[client].turn = kept;
    }

    /// In line, or not any more, as its need is met or not.
    pub(super) fn moves(&mut self) {
        let of = |ledger: &Self, client: usize| {
            let entry = &ledger.entries[client];
            let key = ledger.turns.keys.get(&entry.who.key);
            let was = key.is_some_and(|key| key.line.contains(&client));
            (was, ledger.is_in_line(entry) && !entry.benched)
        };
        for client in 0..self.entries.len() {
            if of(self, client) == (false, true) {
                self.joins(client);
            }
        }
        for client in 0..self.entries.len() {
            if of(self, client) == (true, false) && self.entries[client].at == At::Waiting {
                self.parts(client, false);
            }
        }
    }

    /// Another time of the gate: what was promised of turns begins anew.
    pub(super) fn begin_turns(&mut self) {
        self.turns.dials = 0;
        for key in self.turns.keys.values_mut() {
            (key.had, key.waits_since) = (None, 0);
        }
    }

    /// A client is let in at an open gate, before that is in the books.
    pub(super) fn judge_turn(&mut self, client: usize) {
        let is_open = matches!(self.seen, Seen::Doubt | Seen::Proving | Seen::Sure);
        if !self.limits.fair || !is_open || self.entries[client].benched {
            return;
        }
        let of = self.entries[client].who.key;
        let Some(key) = self.turns.keys.get(&of) else { return };
        let overtaken = key.line.iter().next().copied().filter(|&first| first != client);
        let passed_over = (self.turns.keys.iter()).find(|&(&other, those)| {
            let waited = |had: u64| those.waits_since < had && those.had.is_none_or(|at| at < had);
            other != of && !those.line.is_empty() && key.had.is_some_and(waited)
        });
        let passed_over = passed_over.map(|(other, _)| *other).filter(|_| key.had_one);
        self.demand(overtaken.is_none(), 7, || {
            format!("client {client} overtakes client {overtaken:?} of its key")
        });
        self.demand(passed_over.is_none(), 7, || {
            format!("client {client} has the second turn of its key, and key {passed_over:?} waited and had none")
        });
        self.fair_turns += 1;
        self.turns.dials += 1;
        let dials = self.turns.dials;
        if let Some(key) = self.turns.keys.get_mut(&of) {
            (key.had, key.had_one) = (Some(dials), key.turns.len() == 1);
        }
    }
}
