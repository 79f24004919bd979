//! Bounds of what is done to connections through the admin API, and of a client's messages.

use core::time::Duration;

use super::{BODY_MAX_MOST, KIB};

/// Connections that one request of the admin API may change; for more it is asked again.
pub const ACT_MATCHED_MAX: usize = 10_000;
/// Numbers of connections in such a request.
pub const ACT_NUMBERS_MAX: usize = 1_000;
/// Connections that its answer names, each with what became of it.
pub const ACT_OUTCOMES_MAX: usize = 100;
/// Such requests at one time: one that sends waits for up to [`SEND_PATIENCE`].
pub const ACTS_MAX: usize = 32;
/// Bytes of a message of the house's own. With its header, and a few small ones, it fits into [`RELAY_BUFFER`](super::RELAY_BUFFER).
pub const SEND_MAX: usize = 60 * KIB;
/// How long such a message waits for the end of one of the backend's that is not complete; then it is not sent.
pub const SEND_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that changes connections: its message, each character of it escaped (six bytes), and its numbers.
pub const ACT_BODY_MAX: usize = 6 * SEND_MAX + 64 * KIB;
/// The least and the most that `message_max` may be: no limit at all is said by leaving it out.
pub const MESSAGE_MAX_RANGE: (u64, u64) = (1, BODY_MAX_MOST);
/// The most that `message_rate` may be, in a second.
pub const MESSAGE_RATE_MAX: usize = 100_000;
