//! Decides what past starts of a backend tell of the present one.
//!
//! Of the last `STARTS_KEPT` start-up times there are quantiles: half of the starts took
//! no longer than `p50`, nine of ten no longer than `p90`. They say how far the waiting page
//! has come, when a refused client is to come back, and whether one that arrives now can
//! make it at all. With fewer than `STARTS_NEEDED` of them nothing is said of the future.
//!
//! Pure; a ring of `STARTS_KEPT` durations.

use core::time::Duration;
use std::collections::VecDeque;

use crate::limits::{RETRY_AFTER_MAX_SECONDS, RETRY_AFTER_SECONDS, STARTS_KEPT, STARTS_NEEDED};

/// The last start-up times of one backend, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts(VecDeque<Duration>);

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// One of ten starts was at least as quick.
    pub p10: Duration,
    /// The median.
    pub p50: Duration,
    /// One of ten took at least as long.
    pub p90: Duration,
    /// Of how many starts.
    pub of: usize,
}

impl Starts {
    /// Those of earlier lives of greenroom; of too many the last count.
    pub fn known(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut starts = Self::default();
        for time in times {
            starts.took(time);
        }
        starts
    }

    /// A start took so long.
    pub fn took(&mut self, time: Duration) {
        if self.0.len() == STARTS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// All of them, oldest first.
    pub fn times(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    /// What is usual, once one start was seen.
    #[must_use]
    pub fn usual(&self) -> Option<Usual> {
        let mut sorted: Vec<_> = self.times().collect();
        sorted.sort_unstable();
        let rank = |percent| nearest_rank(&sorted, percent);
        Some(Usual {
            p10: rank(10)?,
            p50: rank(50)?,
            p90: rank(90)?,
            of: sorted.len(),
        })
    }
}

/// The quantile of these, which are sorted, by nearest rank: so many of 100 are at most that, and it is one of them. `None` of nothing.
#[must_use]
pub fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl Usual {
    /// Whether enough is known to say something of the future.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.of >= STARTS_NEEDED
    }

    /// Whether who arrives now and waits for `hold` is lost by all that is known: nine of ten starts took
    /// longer than until then.
    #[must_use]
    pub fn is_hopeless(&self, elapsed: Duration, hold: Duration) -> bool {
        self.is_known() && elapsed.saturating_add(hold) < self.p10
    }

    /// When who is refused now may come back, in whole seconds: when nine of ten starts were over, and a
    /// little later for some than for others. `chance` is any number.
    #[must_use]
    pub fn retry_after(&self, elapsed: Duration, chance: u64) -> Option<u32> {
        let left = self.p90.checked_sub(elapsed).filter(|_| self.is_known())?;
        let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let (least, most) = RETRY_AFTER_SECONDS;
        let spread = u64::from(most - least + 1).max(u64::from(seconds / 4));
        let jitter = u32::try_from(chance % spread).unwrap_or(0);
        Some(seconds.saturating_add(jitter).clamp(least, RETRY_AFTER_MAX_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn starts(seconds: impl IntoIterator<Item = u32>) -> Starts {
        Starts::known(seconds.into_iter().map(|s| SECOND * s))
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank_and_of_the_last_starts() {
        assert_eq!(Starts::default().usual(), None);
        let usual = starts(1..=10).usual().unwrap();
        assert_eq!((usual.p10, usual.p50, usual.p90), (SECOND, 5 * SECOND, 9 * SECOND));
        let usual = starts([7]).usual().unwrap();
        assert_eq!((usual.p10, usual.p50, usual.p90), (7 * SECOND, 7 * SECOND, 7 * SECOND));
        let many = starts((1..=3).chain(std::iter::repeat_n(9, STARTS_KEPT)));
        assert_eq!(many.usual().unwrap().p10, 9 * SECOND);
        assert_eq!(many.times().count(), STARTS_KEPT);
    }

    #[test]
    fn nobody_is_hopeless_who_may_make_it() {
        let usual = starts([20, 30, 40]).usual().unwrap();
        assert!(usual.is_hopeless(5 * SECOND, 14 * SECOND));
        assert!(!usual.is_hopeless(5 * SECOND, 15 * SECOND));
        assert!(
            !usual.is_hopeless(100 * SECOND, SECOND),
            "this one is late already: who knows"
        );
        assert!(!starts([20, 30]).usual().unwrap().is_hopeless(Duration::ZERO, SECOND));
    }

    #[test]
    fn who_is_refused_comes_back_when_nine_of_ten_starts_were_over() {
        let usual = starts([20, 20, 20]).usual().unwrap();
        for chance in 0..100 {
            let seconds = usual.retry_after(4500 * Duration::from_millis(1), chance).unwrap();
            assert!((16..21).contains(&seconds), "{seconds}");
        }
        assert_eq!(usual.retry_after(21 * SECOND, 0), None, "it is late: nothing is known");
        let long = starts([3600, 3600, 3600]).usual().unwrap();
        assert_eq!(long.retry_after(Duration::ZERO, 7), Some(RETRY_AFTER_MAX_SECONDS));
    }
}
