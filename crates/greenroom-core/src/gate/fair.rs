//! Whose turn it is at the [`Gate`], where turns are shared fairly (`fair`).
//!
//! Clients take turns by their key, round-robin, and in order of arrival within one key, so that one with a thousand
//! connections cannot keep the others waiting. A turn is a number, counted up. A key draws one when the
//! first of it comes into line, and when one of it is let in and others of it wait: behind every key that waits at that
//! moment. So between two turns of one key every key that waits all the while has one; nobody is in debt
//! for what it had before, nor for those who waited and left; and keys that keep coming overtake nobody.
//!
//! A session takes its turn with it when it is let in, and back when it comes back to its place: places do not change.
//! Of those of one key in line, the first have its turns, in order, and the others none yet. Whoever goes without having
//! used the only turn of its key leaves it to the next of them.
//!
//! Without `fair` nothing is kept here, and a place is the order of arrival. Bounded by those in line. Arriving, being
//! let in and leaving cost O(log n); so does coming back in order, and else as many steps as the key has turns.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use super::{Gate, Waiting};
use crate::event::SessionId;

/// No turn: behind all turns, in order of arrival.
const NONE: u64 = u64::MAX;

/// A place in the line: whoever has the lesser one goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its turn; the same for all where turns are not shared.
    pub(super) turn: u64,
    /// Who.
    pub id: SessionId,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.turn {
            NONE => write!(f, "{:?}", self.id),
            turn => write!(f, "turn {turn} of {:?}", self.id),
        }
    }
}

impl Place {
    pub(super) fn of(turn: Option<u64>, id: SessionId) -> Self {
        let turn = turn.unwrap_or(NONE);
        Self { turn, id }
    }

    /// The first place that can be behind this one.
    fn next(self) -> Self {
        let id = SessionId(self.id.0.saturating_add(1));
        Self { id, ..self }
    }
}

/// The turns of those in line. See the module's head.
#[derive(Debug, Default)]
pub(super) struct Turns {
    is_fair: bool,
    /// The last turn that was drawn.
    last: u64,
    order: BTreeMap<u64, SessionId>,
    keys: BTreeMap<u64, Key>,
}

/// Those of one key in line.
#[derive(Debug, Default)]
struct Key {
    /// Who has a turn: in order of arrival, and so are the turns.
    turned: BTreeMap<SessionId, u64>,
    /// Who has none yet: all behind those.
    behind: BTreeSet<SessionId>,
}

impl Key {
    fn is_empty(&self) -> bool {
        self.turned.is_empty() && self.behind.is_empty()
    }

    /// Whether the turns stay in order if this one joins with this turn, or with none.
    fn fits(&self, id: SessionId, turn: Option<u64>) -> bool {
        let before = self.turned.range(..id).next_back().map(|(_, &turn)| turn);
        let after = self.turned.range(id..).next().map(|(_, &turn)| turn);
        match turn {
            Some(turn) => {
                let is_first = self.behind.first().is_none_or(|&first| id < first);
                is_first && before < Some(turn) && after.is_none_or(|after| turn < after)
            }
            None => after.is_none(),
        }
    }
}

impl Turns {
    pub(super) fn new(is_fair: bool) -> Self {
        Self {
            is_fair,
            ..Self::default()
        }
    }

    /// Begins anew, with nobody in line; turns that are drawn come behind all that were.
    pub(super) fn begin(&mut self, is_fair: bool) {
        *self = Self {
            is_fair,
            last: self.last,
            ..Self::default()
        };
    }

    /// The next turn.
    pub(super) fn draw(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Comes into line, or back with the turn that it had.
    pub(super) fn join(&mut self, id: SessionId, key: u64, carried: Option<u64>) {
        if !self.is_fair {
            return;
        }
        let is_first = self.keys.get(&key).is_none_or(Key::is_empty);
        let turn = carried.or_else(|| is_first.then(|| self.draw()));
        let key = self.keys.entry(key).or_default();
        match turn {
            Some(turn) if key.fits(id, Some(turn)) => {
                key.turned.insert(id, turn);
                self.order.insert(turn, id);
            }
            None if key.fits(id, None) => drop(key.behind.insert(id)),
            // Among those of its key it is not where its turn is: the turns are dealt out anew, to the first of them.
            Some(_) | None => {
                let turns: BTreeSet<u64> = key.turned.values().copied().chain(turn).collect();
                key.behind.extend(key.turned.keys());
                key.behind.insert(id);
                key.turned.clear();
                for turn in turns {
                    if let Some(first) = key.behind.pop_first() {
                        key.turned.insert(first, turn);
                        self.order.insert(turn, first);
                    }
                }
            }
        }
    }

    /// Is let in, with its turn: the next of its key draws another.
    pub(super) fn let_in(&mut self, id: SessionId, key: u64) -> Option<u64> {
        let turn = self.take(id, key);
        if self.wants_turn(key) {
            let next = self.draw();
            self.pass_on(key, next);
        }
        turn
    }

    /// Goes out of line. Its turn goes with it, unless it is the only one of its key and others of it wait.
    pub(super) fn leave(&mut self, id: SessionId, key: u64) -> Option<u64> {
        let turn = self.take(id, key)?;
        if self.wants_turn(key) {
            self.pass_on(key, turn);
            return None;
        }
        Some(turn)
    }

    fn take(&mut self, id: SessionId, key: u64) -> Option<u64> {
        let those = self.keys.get_mut(&key)?;
        let turn = those.turned.remove(&id);
        match turn {
            Some(turn) => drop(self.order.remove(&turn)),
            None => drop(those.behind.remove(&id)),
        }
        if those.is_empty() {
            self.keys.remove(&key);
        }
        turn
    }

    fn wants_turn(&self, key: u64) -> bool {
        self.keys.get(&key).is_some_and(|those| those.turned.is_empty())
    }

    fn pass_on(&mut self, key: u64, turn: u64) {
        if let Some(those) = self.keys.get_mut(&key)
            && let Some(next) = those.behind.pop_first()
        {
            those.turned.insert(next, turn);
            self.order.insert(turn, next);
        }
    }

    pub(super) fn turn_of(&self, id: SessionId, key: u64) -> Option<u64> {
        self.keys.get(&key)?.turned.get(&id).copied()
    }

    /// Those with a turn, in order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = SessionId> {
        self.order.values().copied()
    }

    /// All those in line, in the order in which they go if nobody else comes.
    pub(super) fn forecast(&self) -> Vec<SessionId> {
        let (mut order, mut all) = (BTreeMap::new(), Vec::new());
        for key in self.keys.values() {
            for (&id, &turn) in &key.turned {
                // Those behind follow the last who has a turn.
                let follow = Some(&id) == key.turned.keys().next_back();
                order.insert(turn, (id, follow.then(|| key.behind.iter())));
            }
        }
        let mut last = self.last;
        while let Some((_, (id, follow))) = order.pop_first() {
            all.push(id);
            if let Some(mut follow) = follow
                && let Some(&next) = follow.next()
            {
                last += 1;
                order.insert(last, (next, Some(follow)));
            }
        }
        all
    }

    pub(super) fn check(&self, in_line: usize) {
        debug_assert!(self.order.len() <= in_line && self.keys.len() <= self.order.len());
        debug_assert!(self.is_fair && (in_line == 0) == self.order.is_empty() || self.keys.is_empty());
    }
}

impl Gate {
    /// The first in line.
    pub(super) fn first_in_line(&self) -> Option<SessionId> {
        let turned = self.turns.in_order().next();
        turned.or_else(|| self.waiting.first_key_value().map(|(&id, _)| id))
    }

    /// The first in line who may be sent twice, behind this place.
    pub(super) fn first_able(&self, after: Option<Place>) -> Option<SessionId> {
        let begin = after.map_or(Place::of(Some(0), SessionId(0)), Place::next);
        let (behind, turn) = if begin.turn == NONE {
            (begin.id, NONE)
        } else {
            (SessionId(0), begin.turn)
        };
        let has_turn = |id, key| self.turns.turn_of(id, key).is_some();
        let turned = self.turns.order.range(turn..).filter_map(|(&turn, &id)| {
            let waiting = self.waiting.get(&id)?;
            (Place::of(Some(turn), id) >= begin).then_some((id, waiting))
        });
        let others = (self.waiting.range(behind..).map(|(&id, waiting)| (id, waiting)))
            .filter(|&(id, waiting)| !has_turn(id, waiting.who.key));
        turned
            .chain(others)
            .find(|(_, waiting)| waiting.class.repeats())
            .map(|(id, _)| id)
    }

    /// The place of a session in line or on its way, by which whoever lets them in keeps the order.
    #[must_use]
    pub fn place(&self, id: SessionId) -> Place {
        let in_line = |waiting: &Waiting| self.turns.turn_of(id, waiting.who.key);
        let carried = || self.dialing.get(&id).and_then(|dialing| dialing.waiting.turn);
        let turn = self.waiting.get(&id).map_or_else(carried, |waiting| in_line(waiting));
        Place::of(turn, id)
    }
}
