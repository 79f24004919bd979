//! Keeps a check that flaps from filling the log.
//!
//! Its changes are told up to `FLAPS_TOLD` of them within `FLAPS_WINDOW`; of the rest it is said once in
//! that time that they are not told. What the changes do is not touched by that.

use greenroom_core::limits::{FLAPS_TOLD, FLAPS_WINDOW};
use greenroom_core::time::Time;

/// What is to be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The change.
    Change,
    /// That changes are not told for a while.
    Flaps,
    /// Nothing.
    Nothing,
}

/// The changes of one check in the present window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flaps {
    since: Time,
    count: u32,
}

impl Flaps {
    /// A change comes.
    pub(super) fn change(&mut self, now: Time) -> Told {
        if now >= self.since + FLAPS_WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        match self.count.cmp(&(FLAPS_TOLD + 1)) {
            std::cmp::Ordering::Less => Told::Change,
            std::cmp::Ordering::Equal => Told::Flaps,
            std::cmp::Ordering::Greater => Told::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_flaps_is_told_a_few_times_and_that_once() {
        let mut flaps = Flaps::default();
        let told = |flaps: &mut Flaps, ms| flaps.change(Time::from_millis(ms));
        let all: Vec<_> = (0..1_000).map(|ms| told(&mut flaps, ms)).collect();
        let count = |which| all.iter().filter(|told| **told == which).count();
        assert_eq!(count(Told::Change), usize::try_from(FLAPS_TOLD).unwrap());
        assert_eq!(count(Told::Flaps), 1);
        assert_eq!(flaps.change(Time::ZERO + FLAPS_WINDOW), Told::Change, "another window");
    }
}
