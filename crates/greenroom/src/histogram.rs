//! A histogram of durations, as metrics have it: how many were at most so long.
//!
//! Owned by one task, so a count is an addition. Its bounds come from `limits`; memory is one number for each.

use std::time::Duration;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// In milliseconds, in order.
    bounds: &'static [u64],
    /// One for each bound, and one for what is over all of them.
    counts: Box<[u64]>,
    sum: Duration,
}

impl Histogram {
    /// With these upper bounds, in milliseconds and in order.
    #[must_use]
    pub fn new(bounds_ms: &'static [u64]) -> Self {
        debug_assert!(bounds_ms.is_sorted_by(|a, b| a < b));
        Self {
            bounds: bounds_ms,
            counts: vec![0; bounds_ms.len() + 1].into(),
            sum: Duration::ZERO,
        }
    }

    /// One took so long. What took just as long as a bound is within it.
    pub fn observe(&mut self, took: Duration) {
        let index = self.bounds.partition_point(|&ms| Duration::from_millis(ms) < took);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// With what another of the same bounds has observed.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Each bound in milliseconds, and how many were within it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut within = 0;
        self.bounds.iter().zip(&self.counts).map(move |(&bound, &count)| {
            within += count;
            (bound, within)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_within_its_bound_and_all_above_and_none_is_lost_over_the_last() {
        let mut histogram = Histogram::new(&[1, 10, 100]);
        for micros in [0, 1_000, 1_001, 10_000, 100_001, u64::MAX] {
            histogram.observe(Duration::from_micros(micros));
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1, 2), (10, 4), (100, 4)]);
        assert_eq!(histogram.count(), 6);
        assert!(histogram.sum() > Duration::from_micros(u64::MAX));
        let mut both = Histogram::new(&[1, 10, 100]);
        both.observe(Duration::from_millis(5));
        both.add(&histogram);
        assert_eq!(both.cumulative().collect::<Vec<_>>(), [(1, 2), (10, 5), (100, 5)]);
        assert_eq!(both.sum(), histogram.sum() + Duration::from_millis(5));
    }
}
