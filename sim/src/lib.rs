//! A world from a seed that drives `greenroom-core` and checks its invariants after each step.
//!
//! [`run`] builds two worlds from one seed. In `world`, clients come, send and
//! leave while a backend starts, fails, accepts too early, lags and dies, tells its
//! phases in any order, and lacks what it depends on; the gate and the readiness of
//! the core decide. `ledger`, which keeps its own books from what it sees, and `model`,
//! which works out once more what follows from what is told, judge each decision. In `pipe`, one relay
//! passes frames under random splits of reads and writes, slow peers, and every
//! kind of end. Time is a number that jumps to the next event.
//!
//! The numbers of the invariants are those of the reliability catalogue: 1 no
//! early forward, 2 exact prefix, 3 at most once, 4 frame atomicity, 5 one outcome, 6
//! conservation, 7 FIFO, 8 deadlines, 9 progress, 10 limits, 11 pacing, 12
//! generations, phases and checks, 13 no dial at a shut gate or without what it needs, 14
//! back-pressure.
//!
//! A simulator that finds nothing may be blind: [`Bug`] plants known
//! mistakes, and each must be found. Bounded by
//! [`STEPS_MAX`] events a seed.

mod backend;
mod bug;
mod dependency;
mod dials;
mod hearing;
mod judge;
mod ledger;
mod lives;
mod model;
mod pipe;
mod plan;
mod rng;
mod shell;
mod trace;
mod world;

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use bug::Bug;
use greenroom_core::time::Time;
pub use rng::Rng;

/// Events of one world at the most: a world that needs more runs in circles.
pub const STEPS_MAX: u64 = 50_000;

/// What a clean run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash of every event: the same seed gives the same.
    pub hash: u64,
    /// Events.
    pub steps: u64,
    /// Clients that came.
    pub clients: u64,
    /// … and were let in.
    pub let_in: u64,
    /// … or refused.
    pub refused: u64,
    /// Sessions that went back to their place.
    pub requeued: u64,
    /// … because the backend was degraded.
    pub degraded: u64,
    /// Steps of starts from phase to phase.
    pub phases: u64,
    /// Starts that failed.
    pub failed_starts: u64,
    /// Checks that became good or bad.
    pub checks: u64,
    /// Deaths that a client's request caused.
    pub crashes: u64,
    /// Sessions that were refused for them.
    pub culprits: u64,
    /// Clients that were given a 101 while they waited.
    pub accepted: u64,
    /// Times that the gate was set by hand, or the hand taken back.
    pub hands: u64,
    /// Clients that were let in where turns are shared, at an open gate.
    pub fair_turns: u64,
    /// Hold periods that began with a doubt of long ago.
    pub old_doubts: u64,
    /// Canaries.
    pub canaries: u64,
    /// Bytes that passed the relay.
    pub relayed: u64,
}

impl Report {
    /// Sums up; the hashes are folded.
    pub fn add(&mut self, other: &Self) {
        self.hash = self.hash.rotate_left(7) ^ other.hash;
        self.steps += other.steps;
        self.clients += other.clients;
        self.let_in += other.let_in;
        self.refused += other.refused;
        self.requeued += other.requeued;
        self.degraded += other.degraded;
        self.phases += other.phases;
        self.failed_starts += other.failed_starts;
        self.checks += other.checks;
        self.crashes += other.crashes;
        self.culprits += other.culprits;
        self.accepted += other.accepted;
        self.hands += other.hands;
        self.fair_turns += other.fair_turns;
        self.old_doubts += other.old_doubts;
        self.canaries += other.canaries;
        self.relayed += other.relayed;
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub invariant: u8,
    /// What was seen.
    pub what: String,
}

/// A seed under which an invariant breaks.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What broke.
    pub violation: Violation,
    /// The last events before it.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(
            f,
            "seed {}: invariant {}: {}",
            self.seed, self.violation.invariant, self.violation.what
        )?;
        write!(f, "replay: GREENROOM_SEED={} cargo test -p sim", self.seed)
    }
}

/// Runs the worlds of one seed, with a mistake planted or none.
///
/// # Errors
/// When an invariant is broken.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Report, Box<Failure>> {
    run_from(seed, bug, Time::ZERO)
}

/// The same in a world that begins at another time, which must make no difference.
///
/// # Errors
/// When an invariant is broken.
pub fn run_from(seed: u64, bug: Option<Bug>, origin: Time) -> Result<Report, Box<Failure>> {
    let mut trace = trace::Trace::default();
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let report = world::run(seed, bug, origin, &mut trace)?;
        let relayed = pipe::run(seed, &mut trace)?;
        Ok(Report { relayed, ..report })
    }));
    // The core asserts its own invariants in debug builds: that too must name the seed.
    let what = || "a panic, printed above".to_owned();
    let judged = judged.unwrap_or_else(|_| {
        Err(Violation {
            invariant: 0,
            what: what(),
        })
    });
    match judged {
        Ok(report) => Ok(Report {
            hash: trace.hash(),
            ..report
        }),
        Err(violation) => {
            let trace = trace.last();
            Err(Box::new(Failure { seed, violation, trace }))
        }
    }
}
