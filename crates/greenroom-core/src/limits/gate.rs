//! The bounds of one gate, with their defaults.

use core::time::Duration;

use super::{
    CANARY_EVERY, CANARY_PATIENCE, DEATHS_MAX, DIAL_PATIENCE, DIALS_MAX, HELD_MAX, HTTP_ALONE, HTTP_HELD_MAX,
    PROVE_FOR, READY_DOUBT, REJECTIONS_MAX, SETTLE, SETTLE_MAX, SETTLE_SLACK, SETTLE_WARNED, SLOW_HANDSHAKE,
};

/// The bounds that one gate keeps to; routes may set their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Clients that wait at the most.
    pub held_max: usize,
    /// Plain requests that wait at the most.
    pub http_held_max: usize,
    /// See [`HTTP_ALONE`].
    pub http_alone: Duration,
    /// WebSocket clients of one address that wait at the most; `None`: no limit.
    pub held_per_address: Option<usize>,
    /// The same of one key.
    pub held_per_key: Option<usize>,
    /// Whether those who wait take turns by their key.
    pub fair: bool,
    /// Dials without an answer at one time.
    pub dials_max: usize,
    /// Dials that begin in a second at the most; `None`: no limit.
    pub release_rate: Option<usize>,
    /// See [`SLOW_HANDSHAKE`].
    pub slow_handshake: Duration,
    /// See [`DIAL_PATIENCE`].
    pub dial_patience: Duration,
    /// [`SETTLE`] and [`SETTLE_SLACK`].
    pub settle: Duration,
    /// See [`SETTLE_WARNED`].
    pub settle_warned: Duration,
    /// See [`SETTLE_MAX`].
    pub settle_max: Duration,
    /// See [`PROVE_FOR`].
    pub prove_for: Duration,
    /// See [`CANARY_EVERY`].
    pub canary_every: Duration,
    /// See [`CANARY_PATIENCE`].
    pub canary_patience: Duration,
    /// See [`REJECTIONS_MAX`].
    pub rejections_max: u8,
    /// See [`DEATHS_MAX`].
    pub deaths_max: u8,
    /// See [`READY_DOUBT`].
    pub ready_doubt: Duration,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            held_max: HELD_MAX,
            http_held_max: HTTP_HELD_MAX,
            http_alone: HTTP_ALONE,
            held_per_address: None,
            held_per_key: None,
            fair: false,
            dials_max: DIALS_MAX,
            release_rate: None,
            slow_handshake: SLOW_HANDSHAKE,
            dial_patience: DIAL_PATIENCE,
            settle: SETTLE.saturating_add(SETTLE_SLACK),
            settle_warned: SETTLE_WARNED,
            settle_max: SETTLE_MAX,
            prove_for: PROVE_FOR,
            canary_every: CANARY_EVERY,
            canary_patience: CANARY_PATIENCE,
            rejections_max: REJECTIONS_MAX,
            deaths_max: DEATHS_MAX,
            ready_doubt: READY_DOUBT,
        }
    }
}
