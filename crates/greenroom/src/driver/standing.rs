//! How a backend's start-up goes, for whoever shows it to people.
//!
//! The owner task publishes it; readers never wait for the owner task. Bounded by
//! `STARTS_KEPT` start-up times, of which the median is what is usual.

use std::collections::VecDeque;
use std::time::Duration;

use greenroom_core::gate::Stage;
use greenroom_core::limits::STARTS_KEPT;
use greenroom_core::time::Time;

/// Whether somebody who asks now may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Everybody waits.
    Shut,
    /// One at a time goes in.
    Limited,
    /// Everybody goes in.
    Open,
    /// Nobody will be let in: the start-up failed, or greenroom stops.
    Failed,
}

impl From<Stage> for Gateway {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Shut => Self::Shut,
            Stage::Limited { .. } => Self::Limited,
            Stage::Open(_) => Self::Open,
            Stage::Failed | Stage::Draining => Self::Failed,
        }
    }
}

/// How things stand with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its gate.
    pub gate: Gateway,
    /// What it said last of its start-up.
    pub phase: Option<Box<str>>,
    /// When its present start-up began.
    pub since: Time,
    /// How long its start-ups usually take, once one was seen.
    pub usual: Option<Duration>,
}

/// The last start-up times.
#[derive(Debug, Default)]
pub(super) struct Starts(VecDeque<Duration>);

impl Starts {
    pub(super) fn took(&mut self, time: Duration) {
        if self.0.len() == STARTS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// The median.
    pub(super) fn usual(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_the_median_of_the_last_starts() {
        let mut starts = Starts::default();
        assert_eq!(starts.usual(), None);
        for seconds in 1..=3 {
            starts.took(Duration::from_secs(seconds));
        }
        assert_eq!(starts.usual(), Some(Duration::from_secs(2)));
        for _ in 0..2 * STARTS_KEPT {
            starts.took(Duration::from_secs(9));
        }
        assert_eq!(starts.usual(), Some(Duration::from_secs(9)));
        assert_eq!(starts.0.len(), STARTS_KEPT);
    }
}
