//! Bounds of stops and drains, and of the gate by hand.

use core::time::Duration;

/// Bytes of a Close's reason (RFC 6455 §5.5: 125 bytes of payload, two of them the code).
pub const CLOSE_REASON_MAX: usize = 123;
/// Bytes of the words that a drain's Closes say, so that the hint when to come back has its room behind them.
pub const DRAIN_REASON_MAX: usize = CLOSE_REASON_MAX - " retry-after-ms=4294967295".len();
/// Drains by command under way at one time.
pub const DRAINS_MAX: usize = 16;
/// Drains that are over and still told of: whoever waits for the end of one asks for it by its number every `DRAIN_LOOK`.
pub const DRAINS_KEPT: usize = 256;
/// The longest window of a drain.
pub const DRAIN_WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most closes in a second that a drain may be told to make.
pub const DRAIN_RATE_MAX: usize = 100_000;
/// How often a stop looks for clients that were let in just before it and have begun to be relayed since, and a drain for those that are
/// closed but not over yet.
pub const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// Notices that a drain leaves in one go before it lets others run: those who are closed at one instant.
pub const DRAIN_BURST: usize = 256;
/// The longest that a gate may be told to be held, open or shut by hand for, if it is told how long.
pub const HAND_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest time that a platform may be said to wait before it kills.
pub const DRAIN_WITHIN_MIN: Duration = Duration::from_secs(1);
/// The shortest time that a gate may be set by hand for.
pub const HAND_MIN: Duration = Duration::from_millis(1);
/// What a second signal leaves for Closes to be written and answered.
pub const HURRY_MAX: Duration = Duration::from_secs(1);
/// How long cutting those takes who are left when a stop's time is over: their connections are dropped, and their entries told.
pub const CUT_MAX: Duration = Duration::from_secs(1);
/// How long platforms wait between TERM and KILL unless they are told otherwise.
pub mod platform_grace {
    use core::time::Duration;
    /// Google's Cloud Run.
    pub const CLOUD_RUN: Duration = Duration::from_secs(10);
    /// `terminationGracePeriodSeconds`.
    pub const KUBERNETES: Duration = Duration::from_secs(30);
    /// Heroku.
    pub const HEROKU: Duration = Duration::from_secs(30);
    /// `kill_timeout` of Fly.
    pub const FLY: Duration = Duration::from_secs(5);
    /// `docker stop`.
    pub const DOCKER: Duration = Duration::from_secs(10);
    /// `DefaultTimeoutStopSec`.
    pub const SYSTEMD: Duration = Duration::from_secs(90);
}
