//! Decides when a probe looks once more before a hold ends.
//!
//! A probe looks on a grid. A backend that became ready since its last point would
//! be found at the next one; a client whose hold ends in between must not be
//! refused for that. So `LAST_LOOK` before the first deadline there is a look out
//! of turn. It serves every hold that ends within the same time, and the next one
//! is at least half of it later: 10,000 deadlines in one second are 40 looks.
//!
//! Pure; one number.

use core::time::Duration;

use crate::limits::LAST_LOOK;
use crate::time::Time;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct LastLook {
    ahead: Duration,
    /// Holds that end up to this moment had theirs.
    served: Time,
}

impl Default for LastLook {
    fn default() -> Self {
        Self::ahead(LAST_LOOK)
    }
}

impl LastLook {
    /// Looks so long before a hold ends.
    #[must_use]
    pub fn ahead(ahead: Duration) -> Self {
        let served = Time::ZERO;
        Self { ahead, served }
    }

    /// When the next one is due. `first_after` says when the first hold ends that ends later than a moment.
    #[must_use]
    pub fn due(&self, first_after: impl FnOnce(Time) -> Option<Time>) -> Option<Time> {
        let deadline = first_after(self.served)?;
        Some(deadline.before(self.ahead).max(self.served.before(self.ahead / 2)))
    }

    /// Whether to look now; asked again it says no, until another hold comes near its end.
    pub fn take(&mut self, now: Time, first_after: impl FnOnce(Time) -> Option<Time>) -> bool {
        let due = self.due(first_after).is_some_and(|at| now >= at);
        if due {
            self.served = now + self.ahead;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DEADLINE: Time = Time::from_millis(60_000);

    #[test]
    fn one_look_a_little_before_the_first_deadline() {
        let mut look = LastLook::default();
        let first = |after| Some(DEADLINE).filter(|&at| at > after);
        assert_eq!(look.due(|_| None), None);
        assert_eq!(look.due(first), Some(DEADLINE.before(LAST_LOOK)));
        assert!(!look.take(DEADLINE.before(LAST_LOOK + MS), first));
        assert!(look.take(DEADLINE.before(LAST_LOOK), first));
        assert_eq!(look.due(first), None, "it had its look");
        assert!(!look.take(DEADLINE, first));
    }

    #[test]
    fn who_came_for_less_than_that_is_looked_for_at_once() {
        let mut look = LastLook::default();
        let now = DEADLINE.before(MS);
        assert!(look.take(now, |_| Some(DEADLINE)));
    }

    #[test]
    fn ten_thousand_deadlines_are_a_few_looks() {
        let (mut look, mut looks) = (LastLook::default(), Vec::new());
        let mut waiting: std::collections::BTreeSet<Time> = (0..10_000_u32).map(|n| DEADLINE + MS * n / 10).collect();
        let all = waiting.clone();
        for at in (59_000..62_000).map(Time::from_millis) {
            if look.take(at, |after| {
                waiting
                    .range((Bound::Excluded(after), Bound::Unbounded))
                    .next()
                    .copied()
            }) {
                looks.push(at);
            }
            waiting.retain(|&deadline| deadline > at);
        }
        let served = |deadline: &&Time| {
            let (from, to) = (deadline.before(LAST_LOOK), deadline.before(LAST_LOOK / 2 - MS));
            looks.iter().any(|&at| from <= at && at <= to)
        };
        assert_eq!(
            all.iter().filter(served).count(),
            all.len(),
            "near its end, and in time for an answer"
        );
        assert!(looks.len() <= 41, "{}", looks.len());
    }
}
