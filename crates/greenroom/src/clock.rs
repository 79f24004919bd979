//! The one place that reads the monotonic clock.
//!
//! Core counts in nanoseconds since the process started; this module says what
//! that is now, and turns such a moment into one that tokio can wait for.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use greenroom_core::time::Time;

static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(first)
}

/// The present moment. The first call is moment zero: the program makes it as its first act.
#[must_use]
pub fn now() -> Time {
    Time::ZERO + read().saturating_duration_since(start())
}

#[cfg(not(test))]
fn read() -> Instant {
    Instant::now()
}

#[cfg(not(test))]
fn first() -> Instant {
    Instant::now()
}

/// Where a test stops tokio's clock, this one stands too.
#[cfg(test)]
fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Moment zero is before the first of the clocks that tests stop, each at its own moment.
#[cfg(test)]
fn first() -> Instant {
    let before = Duration::from_secs(60); // tidy: allow-duration tests begin together
    Instant::now().checked_sub(before).unwrap_or_else(read)
}

/// The moment as tokio's timer wants it; a moment too far to be represented is put a year away.
#[must_use]
pub fn instant(at: Time) -> tokio::time::Instant {
    let since = Duration::from_nanos(at.as_nanos());
    let far = Duration::from_secs(365 * 24 * 3600); // tidy: allow-duration "never", for a timer
    start()
        .checked_add(since)
        .unwrap_or_else(|| Instant::now() + far)
        .into()
}

/// Waits until the moment; for ever when there is none.
pub async fn until(at: Option<Time>) {
    match at {
        Some(at) => tokio::time::sleep_until(instant(at)).await,
        None => std::future::pending().await,
    }
}
