//! The worlds of 2,000 seeds are clean, and each planted mistake is found within as many.
//!
//! `GREENROOM_SEED=n` runs that one seed instead, with its last events.

#![allow(clippy::panic)] // a test says so by a panic, in helpers too

use std::time::Duration;

use greenroom_core::time::Time;
use sim::{Bug, Report, run, run_from};

const SEEDS: u64 = 2_000;

fn one_seed() -> Option<u64> {
    let seed = std::env::var("GREENROOM_SEED").ok()?;
    Some(
        seed.parse()
            .unwrap_or_else(|_| panic!("GREENROOM_SEED is a number, not {seed}")),
    )
}

#[test]
fn no_invariant_breaks() {
    let seeds = one_seed().map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut sum = Report::default();
    for seed in seeds {
        match run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(failure) => panic!("\n{failure}"),
        }
    }
    println!("{sum:?}");
    // A world in which nothing happens proves nothing.
    if one_seed().is_none() {
        assert!(
            sum.let_in > 5_000 && sum.refused > 5_000 && sum.requeued > 5_000,
            "{sum:?}"
        );
        assert!(sum.accepted > 3_000 && sum.fair_turns > 2_000, "{sum:?}");
        assert!(sum.old_doubts > 0 && sum.hands > 500, "{sum:?}");
        assert!(sum.crashes > 0 && sum.culprits > 0, "{sum:?}");
        assert!(sum.canaries > 5_000 && sum.relayed > 1_000_000, "{sum:?}");
        assert!(
            sum.phases > 2_000 && sum.failed_starts > 200 && sum.checks > 20_000 && sum.degraded > 200,
            "{sum:?}"
        );
    }
}

#[test]
fn each_planted_mistake_is_found_by_the_invariant_that_it_breaks() {
    for bug in Bug::ALL {
        let expected: &[u8] = match bug {
            Bug::EarlyForward | Bug::CanarySeen | Bug::LearnedSettleIgnored | Bug::LastLookSkipped => &[1],
            Bug::LostWakeUp => &[8, 9],
            Bug::ReorderedRequeue => &[5, 7],
            Bug::LeakedPlace => &[6],
            Bug::DeadlineLookSkipped => &[8],
            Bug::BodyOverlooked => &[3, 7],
            Bug::SentUntold => &[9],
            Bug::NeedIgnored | Bug::HandEndsAtReady => &[13],
            Bug::LostWakeUpOnNeed => &[7, 9], // or another goes before who could go
            Bug::DegradedRefusesAll | Bug::RefusedBeforeRestart => &[8],
            Bug::FlapDrops => &[6],
            Bug::OverrunMissed => &[9],
            Bug::DropTakenForDeath => &[8],
            Bug::KeyOverlooked => &[7, 8], // or as one key too many
            Bug::AddressLimitIgnored | Bug::KeyLimitIgnored => &[10],
            Bug::RateIgnored | Bug::LateAnswerIgnored => &[11],
            Bug::AcceptedAgain => &[5],
            Bug::AcceptedLate => &[5, 8, 9],
            Bug::AcceptedEarly => &[8],
            Bug::BrowserOverlooked => &[9],
            Bug::CheckOfOldLifeCounts | Bug::PhaseOfOldLifeCounts | Bug::PhaseGoesBack | Bug::OneVerdictFlips => &[12],
        };
        let found = (0..SEEDS).find_map(|seed| run(seed, Some(bug)).err());
        let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {SEEDS} seeds"));
        println!(
            "{bug:?}: seed {}, invariant {}: {}",
            found.seed, found.violation.invariant, found.violation.what
        );
        assert!(expected.contains(&found.violation.invariant), "{bug:?}\n{found}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        run(seed, None)
            .map(|report| report.hash)
            .unwrap_or_else(|failure| panic!("\n{failure}"))
    };
    for seed in 0..50 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}

/// The core has no clock: it is given each moment, and a moment counts only by its distance from
/// others. So whatever a clock shows at the beginning, the same happens, at the same distances. What
/// a wall clock does meanwhile can then matter only to who reads the clock, and the shell reads
/// a monotonic one.
#[test]
fn an_hour_later_all_is_the_same() {
    let seeds = one_seed().map_or(0..200, |seed| seed..seed + 1);
    for seed in seeds {
        let reports = [0, 1, 3600, 24 * 3600 * 365].map(|seconds| {
            let origin = Time::ZERO + Duration::from_secs(seconds);
            match run_from(seed, None, origin) {
                Ok(report) => report,
                Err(failure) => panic!("from {origin} on: \n{failure}"),
            }
        });
        assert!(
            reports.iter().all(|report| *report == reports[0]),
            "seed {seed}: {reports:?}"
        );
    }
}
