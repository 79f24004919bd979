//! Decides how many bytes all accepted clients together may have kept, and who makes room.
//!
//! | of the budget | what happens |
//! |---|---|
//! | 80 % | nobody new is accepted |
//! | 90 % | the newest who has sent something is closed, until it is less |
//! | 95 % | nobody is read any more, until it is less |
//!
//! A holder is known by its ticket: the later it was accepted, the higher. One that was let in makes no room: its bytes
//! count until its backend has read them. Bounded by the budget itself: who keeps nothing is not in here.

use std::collections::BTreeMap;

use crate::limits::{EARLY_CLOSES_AT, EARLY_REFUSES_AT, EARLY_STOPS_AT};

/// See the module's head.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: usize,
    /// Of that, what those keep who were told to go.
    leaving: usize,
    holders: BTreeMap<u64, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    bytes: usize,
    leaves: bool,
    is_in: bool,
}

impl Budget {
    /// For `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            used: 0,
            leaving: 0,
            holders: BTreeMap::new(),
        }
    }

    /// For so many bytes from now on. Ask [`Budget::next_to_leave`] after it.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Whether another client may be accepted.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.used < self.share(EARLY_REFUSES_AT)
    }

    /// A holder keeps `more` bytes; `false`: it may not, and is to ask again when others have freed theirs.
    pub fn grow(&mut self, ticket: u64, more: usize) -> bool {
        let fits = self.used.saturating_add(more) <= self.share(EARLY_STOPS_AT);
        if fits {
            self.used += more;
            let holder = self.holders.entry(ticket).or_default();
            holder.bytes += more;
            if holder.leaves {
                self.leaving += more;
            }
        }
        fits
    }

    /// A holder was let in: it is not to make room, even if it was told to. What it keeps counts until it is free.
    pub fn let_in(&mut self, ticket: u64) {
        if let Some(holder) = self.holders.get_mut(&ticket) {
            holder.is_in = true;
            if std::mem::take(&mut holder.leaves) {
                self.leaving -= holder.bytes;
            }
        }
    }

    /// A holder keeps nothing any more. What it has kept.
    pub fn free(&mut self, ticket: u64) -> usize {
        let Some(holder) = self.holders.remove(&ticket) else {
            return 0;
        };
        self.used -= holder.bytes;
        if holder.leaves {
            self.leaving -= holder.bytes;
        }
        holder.bytes
    }

    /// Who has to make room now: said of each once.
    pub fn next_to_leave(&mut self) -> Option<u64> {
        if self.used - self.leaving < self.share(EARLY_CLOSES_AT) {
            return None;
        }
        let may_leave = |holder: &Holder| !holder.leaves && !holder.is_in;
        let (&ticket, newest) = (self.holders.iter_mut().rev()).find(|(_, holder)| may_leave(holder))?;
        newest.leaves = true;
        self.leaving += newest.bytes;
        Some(ticket)
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    fn share(&self, hundredths: usize) -> usize {
        self.max / 100 * hundredths + self.max % 100 * hundredths / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_80_90_and_95_hundredths_and_one_below() {
        let mut budget = Budget::new(1000);
        assert!(budget.grow(1, 799) && budget.admits());
        assert!(budget.grow(2, 1) && !budget.admits());
        assert!(budget.grow(3, 99));
        assert_eq!(budget.next_to_leave(), None);
        assert!(budget.grow(2, 1));
        assert_eq!(
            budget.next_to_leave(),
            Some(3),
            "the newest, and with its bytes gone it is enough"
        );
        assert_eq!(budget.next_to_leave(), None);
        assert!(budget.grow(1, 50) && !budget.grow(1, 1), "950 and not more");
        assert_eq!(budget.next_to_leave(), None, "851 stay");
        budget.free(3);
        assert!(budget.grow(1, 1));
        assert_eq!(budget.used(), 852);
        budget.free(1);
        budget.free(2);
        budget.free(2);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_was_let_in_is_passed_over_and_makes_no_room() {
        let mut budget = Budget::new(1000);
        assert!(budget.grow(1, 100) && budget.grow(2, 100) && budget.grow(3, 300) && budget.grow(4, 399));
        budget.let_in(4);
        assert!(budget.grow(1, 1));
        assert_eq!(budget.next_to_leave(), Some(3));
        assert_eq!(budget.next_to_leave(), None);
        budget.let_in(3); // it was told, and did not go
        assert_eq!(budget.next_to_leave(), Some(2), "in its place");
        assert_eq!(budget.used(), 900);
        budget.free(3);
        budget.free(4);
        assert_eq!((budget.used(), budget.next_to_leave()), (201, None));
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_what_its_holders_keep(
            max in 0_usize..2_000,
            steps in prop::collection::vec((0_u64..8, 0_usize..400, prop::sample::select(vec![0_u8, 0, 0, 1, 2, 3])), 0..60),
        ) {
            let mut budget = Budget::new(max);
            let mut kept = BTreeMap::<u64, usize>::new();
            let (mut told, mut inside) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for (ticket, bytes, step) in steps {
                match step {
                    0 => {
                        if budget.grow(ticket, bytes) {
                            *kept.entry(ticket).or_default() += bytes;
                        }
                    }
                    1 => {
                        budget.free(ticket);
                        kept.remove(&ticket);
                        told.remove(&ticket);
                        inside.remove(&ticket);
                    }
                    2 => {
                        budget.let_in(ticket);
                        told.remove(&ticket);
                        if kept.contains_key(&ticket) {
                            inside.insert(ticket);
                        }
                    }
                    _ => {
                        let stays: usize = kept.iter().filter(|&(one, _)| !told.contains(one)).map(|(_, bytes)| bytes).sum();
                        let may_leave = |one: &&u64| !told.contains(*one) && !inside.contains(*one);
                        let newest = kept.keys().rev().find(may_leave).copied();
                        let share = max * 90 / 100;
                        let next = budget.next_to_leave();
                        prop_assert_eq!(next, newest.filter(|_| stays >= share));
                        told.extend(next);
                    }
                }
                let sum: usize = kept.values().sum();
                prop_assert_eq!(budget.used(), sum);
                prop_assert!(sum * 100 <= max * 95);
            }
        }
    }
}
