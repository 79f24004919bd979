//! Bounds of what routes ask for of silent, idle, old and slow connections.

use core::time::Duration;

use super::KIB;

/// How often the connections are looked at whose routes ask for it. Half of the least time that may be asked for, and
/// a look at 100,000 connections takes some 1 % of it.
pub const WATCH_EVERY: Duration = Duration::from_millis(500);
/// A longer time between two looks means that greenroom itself did not run: times begin anew.
pub const WATCH_GAP: Duration = Duration::from_millis(1500);
/// Connections that are looked at in one go, before others of the house have their turn.
pub const WATCH_PIECE: usize = 1_024;
/// The least and the most of what a route may ask for: `ping_interval`, `ping_timeout`, `idle_timeout`, `slow_after`.
pub const WATCH_TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
/// How long a client may leave a ping unanswered: as long as in most WebSocket libraries.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The least and the most that `max_lifetime` may be.
pub const LIFETIME_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600));
/// Each connection lives from so many hundredths of its `max_lifetime` to all of it.
pub const LIFETIME_LEAST_PERCENT: u32 = 90;
/// How long a client may take too little before it is closed, with `slow = "close"`.
pub const SLOW_AFTER: Duration = Duration::from_secs(10);
/// So many bytes must wait for it then, with what the kernel has not delivered: who waits for less lacks nothing.
pub const SLOW_BYTES: usize = 16 * KIB;
/// The least and the most that may be configured for that: Linux keeps at most 4 MiB for a socket, if nobody changed it.
pub const SLOW_BYTES_RANGE: (u64, u64) = (1, 16 * 1024 * KIB as u64);
