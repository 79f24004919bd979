//! How a backend's start-up goes, for whoever shows it to people.
//!
//! The owner task publishes it; readers never wait for the owner task. What costs more to
//! gather is told on request: see `status`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::check::Level;
use greenroom_core::drain;
use greenroom_core::gate::Stage;
use greenroom_core::limits::RETRY_AFTER_SECONDS;
use greenroom_core::readiness::Needs;
use greenroom_core::starts::Usual;
use greenroom_core::time::Time;

/// Whether somebody who asks now may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Everybody waits.
    Shut,
    /// One at a time goes in.
    Limited,
    /// Everybody goes in.
    Open,
    /// Nobody will be let in: the start-up failed.
    Failed,
    /// Nobody is let in any more: greenroom stops.
    Draining,
    /// Nobody is let in, and all are refused, by hand.
    Refusing,
}

impl Gateway {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Shut,
        Self::Limited,
        Self::Open,
        Self::Failed,
        Self::Refusing,
        Self::Draining,
    ];

    /// The word for it in `status` and its JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shut => "shut",
            Self::Limited => "limited",
            Self::Open => "open",
            Self::Failed => "failed",
            Self::Draining => "draining",
            Self::Refusing => "refusing",
        }
    }
}

impl From<Stage> for Gateway {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Shut => Self::Shut,
            Stage::Limited { .. } => Self::Limited,
            Stage::Open(_) => Self::Open,
            Stage::Failed => Self::Failed,
            Stage::Draining => Self::Draining,
            Stage::Refusing => Self::Refusing,
        }
    }
}

/// How things stand with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its gate.
    pub gate: Gateway,
    /// For whose needs it is open or limited; the first is that of routes without a wish.
    pub met: Needs,
    /// The critical checks without which it is not ready, where it is otherwise.
    pub lacks: Option<Arc<str>>,
    /// The phase that it is in, or what it said last of its start-up.
    pub phase: Option<Box<str>>,
    /// Since when it is not ready, while it is not.
    pub since: Time,
    /// What its start-ups usually take, once one was seen.
    pub usual: Option<Usual>,
    /// Why its last start failed.
    pub failure: Option<Arc<str>>,
    /// What is missing of it, if anything is.
    pub degraded: Option<Arc<Degraded>>,
}

impl Standing {
    /// Of a backend of which nothing is known yet.
    #[must_use]
    pub fn new(since: Time, usual: Option<Usual>) -> Self {
        Self {
            gate: Gateway::Shut,
            met: Needs::default(),
            lacks: None,
            phase: None,
            since,
            usual,
            failure: None,
            degraded: None,
        }
    }

    /// Whether who needs this is let in, or may try.
    #[must_use]
    pub fn lets_in(&self, need: usize) -> bool {
        self.met.has(need)
    }

    /// When who is refused now may come back, in whole seconds. `seed` spreads those that are refused together.
    #[must_use]
    pub fn retry_after(&self, now: Time, seed: u64) -> u32 {
        let known = match self.gate {
            Gateway::Shut => self
                .usual
                .and_then(|usual| usual.retry_after(now.since(self.since), seed)),
            Gateway::Limited | Gateway::Open | Gateway::Failed | Gateway::Refusing | Gateway::Draining => None,
        };
        known.unwrap_or_else(|| drain::retry_after(seed, RETRY_AFTER_SECONDS))
    }
}

/// What is missing of a backend, in the words of the field `Greenroom-Degraded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The level.
    pub level: Level,
    /// The names of the optional checks that are not good, with commas between them.
    pub missing: String,
    /// The field's value: the level, and the names as a parameter (RFC 8941: an item with a parameter).
    pub field: String,
}

impl Degraded {
    /// Of these checks. Names are words of the configuration: letters, digits, `-`, `_` and `.`.
    #[must_use]
    pub fn new(level: Level, missing: &[String]) -> Self {
        let mut field = String::new();
        // Writing to a String cannot fail.
        let _ = write!(field, "{level};missing=\"{}\"", missing.join(" "));
        Self {
            level,
            missing: missing.join(","),
            field,
        }
    }
}

/// The last verdict of a check.
#[derive(Clone, Debug)]
pub struct LastVerdict {
    /// Whether it was good.
    pub good: bool,
    /// If not, why.
    pub reason: Option<String>,
    /// How long the look took.
    pub took: Duration,
    /// When it ended.
    pub at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_structured_field() {
        let degraded = Degraded::new(Level::Moderate, &["cache".into(), "search".into()]);
        assert_eq!(degraded.field, "moderate;missing=\"cache search\"");
        assert_eq!(degraded.missing, "cache,search");
    }

    #[test]
    fn retry_after_is_one_to_five_seconds_until_more_is_known() {
        let second = Duration::from_secs(1);
        let usual = |seconds| Usual {
            p10: second,
            p50: second * seconds,
            p90: second * seconds,
            of: 9,
        };
        let mut standing = Standing::new(Time::ZERO, None);
        for seed in 0..50 {
            assert!((1..=5).contains(&standing.retry_after(Time::ZERO, seed)));
        }
        standing.usual = Some(usual(40));
        assert!((30..=40).contains(&standing.retry_after(Time::ZERO + second * 10, 3)));
        standing.gate = Gateway::Open;
        assert!((1..=5).contains(&standing.retry_after(Time::ZERO + second * 10, 3)));
    }
}
