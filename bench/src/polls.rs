//! Three ways to wait that were in use before greenroom: a loop that looks at a flag and sleeps.
//!
//! Real loops on real threads in real time, all side by side: each waiter has a
//! flag of its own and begins at a moment of its own, so that they wake one after
//! another and not all at once. One thread sets the flags, each with the moment at which
//! it does so as its value. What is measured is from that stamp to the look that sees it.
//!
//! Bounded: a waiter gives up when its budget is over, which is an error here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greenroom_audit::clock;

use crate::Failure;
use crate::stub::sleep_until;

/// How long a waiter waits at the most.
const BUDGET: Duration = Duration::from_secs(10);
/// A waiter needs little: a loop and a few numbers.
const STACK: usize = 64 * 1024;
/// From the first thread to the first look of the first waiter.
const RUN_UP: u64 = 200_000_000;
/// The waiters begin spread over so many nanoseconds: the interval that most looks have.
const SPREAD: u64 = 100_000_000;

/// How a loop sleeps between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// 0.05 s once, 0.1 s ten times, then 0.2, 0.5, 1.0, 1.5 s, then 2 s for ever; in the last 30 % of the budget at
    /// most 0.1 s.
    Growing,
    /// 0.05 s once, 0.1 s 20 times, 0.2 s 20 times, 0.5 s 20 times, then 1 s for ever; in the last 30 % of the budget at
    /// most 0.1 s.
    Stepped,
    /// 0.1 s.
    Fixed,
}

impl Poll {
    /// The sleep after `looks` looks, `elapsed` after the first, in milliseconds.
    fn interval(self, looks: u32, elapsed: Duration, budget: Duration) -> u64 {
        let grown = match (self, looks) {
            (Self::Fixed, _) | (Self::Growing, 2..=11) | (Self::Stepped, 2..=21) => 100,
            (Self::Growing | Self::Stepped, 0..=1) => 50,
            (Self::Growing, 12) | (Self::Stepped, 22..=41) => 200,
            (Self::Growing, 13) | (Self::Stepped, 42..=61) => 500,
            (Self::Growing, 14) | (Self::Stepped, 62..) => 1_000,
            (Self::Growing, 15) => 1_500,
            (Self::Growing, 16..) => 2_000,
        };
        if elapsed > budget * 7 / 10 {
            grown.min(100)
        } else {
            grown
        }
    }

    /// Looks at `flag` from `began` on; from the stamp in it to the look that saw it, in nanoseconds.
    fn wait(self, flag: &AtomicU64, began: u64) -> Option<u64> {
        sleep_until(began);
        for looks in 1.. {
            let stamp = flag.load(Ordering::Acquire);
            let now = clock::now();
            if stamp != 0 {
                return Some(now.saturating_sub(stamp));
            }
            let elapsed = clock::between(began, now);
            if elapsed > BUDGET {
                break;
            }
            std::thread::sleep(Duration::from_millis(self.interval(looks, elapsed, BUDGET)));
        }
        None
    }
}

/// What all waiters of one poll measured, in nanoseconds.
pub(crate) struct Waited {
    /// From the flag to the look that saw it.
    pub(crate) delays: Vec<u64>,
    /// From the planned moment to the flag: how late this machine wakes a thread.
    pub(crate) late: Vec<u64>,
}

/// One waiter for each of `ready_after` (nanoseconds from its first look), all at once.
pub(crate) fn run(poll: Poll, ready_after: &[u64]) -> Result<Waited, Failure> {
    let flags: Vec<AtomicU64> = ready_after.iter().map(|_| AtomicU64::new(0)).collect();
    let start = clock::now() + RUN_UP;
    let began = |waiter: usize| start + SPREAD * waiter as u64 / ready_after.len() as u64;
    let mut plan: Vec<(u64, usize)> = (0..).zip(ready_after).map(|(n, after)| (began(n) + after, n)).collect();
    plan.sort_unstable();
    std::thread::scope(|scope| {
        let mut waiters = Vec::with_capacity(flags.len());
        for (number, flag) in flags.iter().enumerate() {
            let thread = std::thread::Builder::new().stack_size(STACK);
            waiters.push(thread.spawn_scoped(scope, move || poll.wait(flag, began(number)))?);
        }
        if clock::now() > start {
            return Err("the waiters were not all there in time: the machine is too busy for this".into());
        }
        let mut late = Vec::with_capacity(plan.len());
        for (moment, waiter) in plan {
            sleep_until(moment);
            let now = clock::now();
            flags[waiter].store(now, Ordering::Release);
            late.push(now.saturating_sub(moment));
        }
        let mut delays = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            let seen = waiter.join().map_err(|_| "a waiter panicked")?;
            delays.push(seen.ok_or("a waiter's budget was over before it saw its flag")?);
        }
        Ok(Waited { delays, late })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The intervals of a wait that never ends well, as (milliseconds, how many in a row).
    fn schedule(poll: Poll, budget: u64) -> Vec<(u64, u32)> {
        let (mut runs, mut at) = (Vec::<(u64, u32)>::new(), 0);
        for looks in 1.. {
            if at >= budget {
                break;
            }
            let interval = poll.interval(looks, Duration::from_millis(at), Duration::from_millis(budget));
            at += interval;
            match runs.last_mut() {
                Some((last, count)) if *last == interval => *count += 1,
                Some(_) | None => runs.push((interval, 1)),
            }
        }
        runs
    }

    #[test]
    fn the_polls_sleep_as_the_originals_were_measured_to() {
        let steps = [(50, 1), (100, 10), (200, 1), (500, 1), (1_000, 1), (1_500, 1)];
        let growing = |twos, tenths| [&steps[..], &[(2_000, twos), (100, tenths)]].concat();
        assert_eq!(schedule(Poll::Growing, 10_000), growing(2, 18));
        assert_eq!(schedule(Poll::Growing, 30_000), growing(9, 78));
        let stepped = |halves, tail: &[(u64, u32)]| [&[(50, 1), (100, 20), (200, 20), (500, halves)], tail].concat();
        assert_eq!(schedule(Poll::Stepped, 10_000), stepped(2, &[(100, 30)]));
        assert_eq!(schedule(Poll::Stepped, 30_000), stepped(20, &[(1_000, 5), (100, 90)]));
        assert_eq!(schedule(Poll::Fixed, 10_000), [(100, 100)]);
    }

    #[test]
    fn a_waiter_sees_its_flag_within_one_interval() {
        let waited = run(Poll::Fixed, &[1_000_000, 130_000_000]).unwrap();
        assert_eq!((waited.delays.len(), waited.late.len()), (2, 2));
        assert!(waited.delays.iter().all(|&delay| delay > 0), "{:?}", waited.delays);
    }
}
