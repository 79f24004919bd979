//! What a backend's gate keeps to, by its configuration; all else is `limits.rs`'s.

use greenroom_core::limits::GateLimits;

use crate::config::{Backend, Fair};

pub(super) fn of(settings: &Backend) -> GateLimits {
    GateLimits {
        held_max: settings.held_max,
        http_held_max: settings.http_held_max,
        held_per_address: settings.held_per_address,
        held_per_key: settings.held_per_key,
        fair: settings.fair != Fair::No,
        dials_max: settings.dials_max,
        release_rate: settings.release_rate,
        ..GateLimits::default()
    }
}
