//! The one clock of all measurements: CLOCK_MONOTONIC, the same for every
//! process of the machine, which `std::time::Instant` does not let one compare.

use std::time::Duration;

/// Nanoseconds on the machine's monotonic clock.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// From `earlier` to `later`; zero when it is not later.
#[must_use]
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}
