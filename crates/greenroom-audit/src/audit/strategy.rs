//! How late each way of waiting lets clients in, for the starts that were measured. Pure.
//!
//! A way of waiting is what a client, a probe or a loop does until the server is ready: it looks, sleeps, and looks
//! again, or it is told. For each start the moment of ready is known; [`limits::AUDIT_WAITERS`] waiters begin at moments that
//! are spread evenly from exec to ready, and each looks in its way. What is told is from ready to the first
//! look that is not before it. It is computed and takes nothing but the looks into account: what a look costs, and how long
//! the delivery of an event takes, come on top, and are measured by `cargo xtask bench waits`.

use std::fmt;
use std::time::Duration;

use greenroom::config::units::{duration_in, show};
use serde::{Deserialize, Serialize};

use super::plan::nanos;
use super::side::{RunSummary, Side};
use super::stats::Quantiles;
use crate::limits;

/// A way of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// It is told.
    Event,
    /// It looks each so often.
    Poll(Duration),
    /// It looks, sleeps this long, and after each look twice as long as before, up to [`limits::AUDIT_BACKOFF_MAX`].
    Backoff(Duration),
}

impl Strategy {
    /// Reads `event`, `poll=TIME`, `backoff` or `backoff=TIME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time = |text: &str| duration_in(text, limits::AUDIT_LOOK, limits::AUDIT_POLL_MAX).ok();
        match text.trim().split_once('=') {
            None if text.trim() == "event" => Some(Self::Event),
            None if text.trim() == "backoff" => Some(Self::Backoff(limits::AUDIT_BACKOFF)),
            Some(("poll", every)) => Some(Self::Poll(time(every)?)),
            Some(("backoff", first)) => Some(Self::Backoff(time(first)?)),
            _ => None,
        }
    }

    /// From ready to the first look at or after it, where the first look is `before` ready.
    fn late(self, before: u64) -> u64 {
        match self {
            Self::Event => 0,
            Self::Poll(every) => (nanos(every) - before % nanos(every)) % nanos(every),
            Self::Backoff(first) => {
                let (mut looked, mut sleep) = (0_u64, nanos(first));
                while looked < before {
                    looked = looked.saturating_add(sleep);
                    sleep = sleep.saturating_mul(2).min(nanos(limits::AUDIT_BACKOFF_MAX));
                }
                looked - before
            }
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event => f.write_str("event"),
            Self::Poll(every) => write!(f, "poll={}", show(*every)),
            Self::Backoff(first) => write!(f, "backoff={}", show(*first)),
        }
    }
}

/// What one way of waiting comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// As it is written in `--strategy`.
    pub strategy: String,
    /// From ready to let in, of all waiters of all starts.
    pub late: Quantiles,
    /// The greatest less the least.
    pub spread_ns: u64,
}

/// Each way, for these starts; nothing where none became ready.
#[must_use]
pub fn compare(runs: &[RunSummary], ways: &[Strategy]) -> Vec<Waited> {
    let ready: Vec<u64> = runs
        .iter()
        .filter_map(|run| Some(run.edges.ready_after()?.high_ns))
        .collect();
    if ready.is_empty() {
        return Vec::new();
    }
    let of = |way: &Strategy| {
        let waiters = ready.iter().flat_map(|&ready| {
            (0..limits::AUDIT_WAITERS).map(move |waiter| ready - ready / limits::AUDIT_WAITERS * waiter)
        });
        let late = Quantiles::of(waiters.map(|before| way.late(before)).collect());
        Waited {
            strategy: way.to_string(),
            spread_ns: late.max_ns - late.min_ns,
            late,
        }
    };
    ways.iter().map(of).collect()
}

/// What a table of these is.
#[must_use]
pub fn told(side: &Side) -> String {
    let starts = side.ready.map_or(0, |ready| ready.runs);
    format!(
        "Ways of waiting, from ready to let in: a reckoning on the ready times of {starts} starts of the server by itself, not a measurement"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::edges::Edges;
    use crate::audit::record::{Cause, Interval};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    const MS: u64 = 1_000_000;

    fn start(ready_ms: u64) -> RunSummary {
        RunSummary {
            run: 0,
            edges: Edges {
                exec: Interval::new(0, 0),
                listen: None,
                ready: Some(Interval::new(ready_ms * MS, ready_ms * MS)),
            },
            notified_at: None,
            clients: 0,
            cause: Cause::Finished,
            longest_stall_ns: 0,
            killed: 0,
            output: Vec::new(),
        }
    }

    #[test]
    fn ways_are_read_and_written_back() {
        for text in ["event", "poll=100ms", "backoff=50ms"] {
            assert_eq!(Strategy::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Strategy::parse("backoff"), Strategy::parse("backoff=100ms"));
        for wrong in [
            "",
            "poll",
            "poll=fast",
            "poll=5",
            "event=1s",
            "sleep=1s",
            "poll=0s",
            "poll=1h",
        ] {
            assert_eq!(Strategy::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_poll_is_late_by_up_to_its_interval_a_back_off_by_up_to_its_last_sleep_and_an_event_is_not() {
        let ways = ["event", "poll=100ms", "backoff"].map(|text| Strategy::parse(text).unwrap());
        let found = compare(&[start(4_000)], &ways);
        let [event, poll, backoff] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((event.late.max_ns, event.spread_ns), (0, 0));
        assert!((45..=55).contains(&(poll.late.p50_ns / MS)), "{poll:?}");
        assert!((90..100).contains(&(poll.spread_ns / MS)), "{poll:?}");
        // Looks at 0, 100, 300, 700, 1,500, 3,100, 6,300 ms: who began 3.11 s before waits for the last.
        assert!((3_100..3_200).contains(&(backoff.late.max_ns / MS)), "{backoff:?}");
        assert!(compare(&[], &ways).is_empty());
        // Who looks at the very moment is let in at once.
        for way in ways {
            assert_eq!((way.late(0), way.late(300 * MS)), (0, 0), "{way}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_let_in_before_it_is_ready_nor_later_than_one_pause(before in 0_u64..100_000, every in 1_u64..2_000) {
            let every = Duration::from_millis(every);
            let (before, interval) = (before * MS, nanos(every));
            prop_assert!(Strategy::Poll(every).late(before) < interval);
            prop_assert_eq!((before + Strategy::Poll(every).late(before)) % interval, 0, "it looks on its grid");
            // A sleep of a back-off is one longer than all before it, or the longest that there is.
            let late = Strategy::Backoff(every).late(before);
            prop_assert!(late <= (before + interval).min(nanos(limits::AUDIT_BACKOFF_MAX)), "{late}");
        }
    }
}
