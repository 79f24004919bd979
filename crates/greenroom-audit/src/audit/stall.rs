//! Whether the machine lets us run: what a client waited while nobody ran says nothing of the server.
//!
//! A thread sleeps again and again and looks how late it woke; so does a task of the runtime, whose
//! threads may be busy while the machine is not. Of a virtual machine the time that its host
//! kept from it (steal) counts too. Bounded: [`limits::AUDIT_STALLS`] are kept; the newest always, as a client is failed
//! wrongly whose stall is forgotten.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::plan::nanos;
use super::record::Stall;
use crate::{clock, limits};

/// Watches until it is dropped.
#[derive(Debug)]
pub struct StallWatch {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    stalls: Mutex<VecDeque<Stall>>,
}

impl Shared {
    /// A sleep that was due at `due` ended now.
    fn woke(&self, due: u64) {
        let now = clock::now();
        if now.saturating_sub(due) >= nanos(limits::AUDIT_STALL) {
            self.add(Stall { from: due, to: now });
        }
    }

    fn add(&self, stall: Stall) {
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut stalls, stall, limits::AUDIT_STALLS);
    }
}

/// Adds one. Where there is no room, the two oldest become one that holds both: that may make a client `unknown`, but
/// none that was kept from running a failed one.
fn keep(stalls: &mut VecDeque<Stall>, stall: Stall, most: usize) {
    if stalls.len() >= most
        && let (Some(oldest), Some(next)) = (stalls.pop_front(), stalls.front_mut())
    {
        (next.from, next.to) = (next.from.min(oldest.from), next.to.max(oldest.to));
    }
    stalls.push_back(stall);
}

impl StallWatch {
    /// Begins. Within a runtime.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        // Without a thread the task alone watches: that is less, and not nothing.
        std::thread::Builder::new()
            .name("stall".into())
            .spawn(move || watch(&watching))
            .ok();
        let watching = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let due = clock::now() + nanos(limits::AUDIT_PULSE);
                tokio::time::sleep(limits::AUDIT_PULSE).await;
                watching.woke(due);
            }
        });
        Self { shared, task }
    }

    /// All since `from`.
    #[must_use]
    pub fn since(&self, from: u64) -> Vec<Stall> {
        let stalls = self.shared.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.iter().filter(|stall| stall.to >= from).copied().collect()
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

fn watch(shared: &Shared) {
    let mut looked = (clock::now(), stolen());
    while !shared.over.load(Ordering::Relaxed) {
        let due = clock::now() + nanos(limits::AUDIT_PULSE);
        std::thread::sleep(limits::AUDIT_PULSE);
        shared.woke(due);
        let now = clock::now();
        if clock::between(looked.0, now) < limits::AUDIT_STEAL_EVERY {
            continue;
        }
        let steal = stolen();
        if let (Some(before), Some(after)) = (looked.1, steal)
            && after.saturating_sub(before) >= nanos(clock::between(looked.0, now)) / 2
        {
            shared.add(Stall {
                from: looked.0,
                to: now,
            });
        }
        looked = (now, steal);
    }
}

/// What the host has kept from one processor of this machine so far, in nanoseconds.
fn stolen() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: u64 = stat.lines().next()?.split_ascii_whitespace().nth(8)?.parse().ok()?;
    let processors = stat
        .lines()
        .filter(|line| line.starts_with("cpu"))
        .count()
        .saturating_sub(1);
    // USER_HZ is 100 on every Linux that runs this.
    Some(ticks * 10_000_000 / u64::try_from(processors.max(1)).ok()?)
}

/// How much of the time between `from` and `to` is within one of these, each moment counted once.
#[must_use]
pub fn overlap(stalls: &[Stall], from: u64, to: u64) -> u64 {
    let mut within: Vec<(u64, u64)> = stalls
        .iter()
        .map(|stall| (stall.from.max(from), stall.to.min(to)))
        .filter(|(from, to)| from < to)
        .collect();
    within.sort_unstable();
    let (mut total, mut reached) = (0, from);
    for (from, to) in within {
        total += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    total
}

/// The longest of these.
#[must_use]
pub fn longest(stalls: &[Stall]) -> Duration {
    let longest = stalls.iter().map(|stall| stall.to.saturating_sub(stall.from)).max();
    Duration::from_nanos(longest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_runtime_that_is_kept_busy_is_a_stall() {
        let watch = StallWatch::start();
        let began = clock::now();
        tokio::task::yield_now().await;
        // The one thread of this runtime does nothing else meanwhile.
        while clock::between(began, clock::now()) < limits::AUDIT_STALL * 2 {
            std::hint::spin_loop();
        }
        let deadline = tokio::time::Instant::now() + limits::AUDIT_STALL * 20;
        while watch.since(began).is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "the stall was not seen");
            tokio::task::yield_now().await;
        }
        assert!(longest(&watch.since(began)) >= limits::AUDIT_STALL);
    }

    #[test]
    fn the_newest_is_always_kept_and_nothing_that_stood_still_is_forgotten() {
        let mut stalls = VecDeque::new();
        let all: Vec<Stall> = (0..9)
            .map(|n| Stall {
                from: n * 10,
                to: n * 10 + 5,
            })
            .collect();
        for stall in &all {
            keep(&mut stalls, *stall, 3);
        }
        assert_eq!(stalls.len(), 3);
        assert_eq!(stalls.back(), all.last());
        let kept: Vec<Stall> = stalls.into_iter().collect();
        for stall in all {
            assert_eq!(overlap(&kept, stall.from, stall.to), 5, "{stall:?}");
        }
    }

    proptest! {
        #[test]
        fn each_stalled_moment_counts_once(
            stalls in prop::collection::vec((0_u64..200, 0_u64..60), 0..8), from in 0_u64..100, length in 0_u64..200,
        ) {
            let stalls: Vec<Stall> = stalls.iter().map(|&(from, long)| Stall { from, to: from + long }).collect();
            let within = |at: &u64| stalls.iter().any(|stall| stall.from <= *at && *at < stall.to);
            let counted = (from..from + length).filter(within).count() as u64;
            prop_assert_eq!(overlap(&stalls, from, from + length), counted);
        }
    }
}
