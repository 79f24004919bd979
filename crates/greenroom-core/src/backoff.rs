//! Decides when a dead child is started again, and when no more.
//!
//! The delay is fixed ([`RESTART_DELAY`]), never growing: an earlier failure
//! must not slow down the next deploy. What is bounded instead is the count: at
//! most [`RESTARTS_MAX`] restarts in any [`RESTART_WINDOW`]. The child that
//! ends after that many ends greenroom too.
//!
//! ```text
//!                    never, or a success under on-failure ─▶ GiveUp
//!  ended(now, success) ┤ RESTARTS_MAX within the window ───▶ GiveUp
//!                    otherwise ────────────────────────────▶ Restart { at: now + delay }
//! ```
//!
//! Pure; remembers the moments of the last [`RESTARTS_MAX`] restarts and no more.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::limits::{RESTART_DELAY, RESTART_WINDOW, RESTARTS_MAX};
use crate::time::Time;

/// Which ends of the child are followed by another start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// None.
    Never,
    /// Any but exit code 0.
    #[default]
    OnFailure,
    /// All.
    Always,
}

impl RestartPolicy {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no restart policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy(String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restart is `{}`; it must be never, on-failure or always", self.0)
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for RestartPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Never, Self::OnFailure, Self::Always]
            .into_iter()
            .find(|policy| policy.word() == text)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// What follows the end of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it again, not before this moment.
    Restart {
        /// When.
        at: Time,
    },
    /// Do not start it again.
    GiveUp(GiveUp),
}

/// Why a child is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The policy is `never`.
    Never,
    /// The child ended with success, and the policy restarts failures only.
    Succeeded,
    /// It was started again [`RESTARTS_MAX`] times within [`RESTART_WINDOW`].
    TooOften,
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("it is never restarted (--restart never)"),
            Self::Succeeded => f.write_str("it ended with success (--restart on-failure)"),
            Self::TooOften => {
                write!(
                    f,
                    "it was restarted {RESTARTS_MAX} times within {} s",
                    RESTART_WINDOW.as_secs()
                )
            }
        }
    }
}

/// Counts restarts. See the module.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RestartPolicy,
    delay: Duration,
    /// The moments of the last restarts, a ring: `next` is the oldest once it is full.
    restarts: [Option<Time>; RESTARTS_MAX],
    next: usize,
}

impl Backoff {
    /// No restart has happened yet.
    #[must_use]
    pub const fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            delay: RESTART_DELAY,
            restarts: [None; RESTARTS_MAX],
            next: 0,
        }
    }

    /// The child ended at `now`, with exit code 0 (`success`) or otherwise.
    pub fn ended(&mut self, now: Time, success: bool) -> Next {
        match (self.policy, success) {
            (RestartPolicy::Never, _) => return Next::GiveUp(GiveUp::Never),
            (RestartPolicy::OnFailure, true) => return Next::GiveUp(GiveUp::Succeeded),
            (RestartPolicy::OnFailure, false) | (RestartPolicy::Always, _) => {}
        }
        let at = now + self.delay;
        // The slot to be overwritten holds the restart RESTARTS_MAX ago.
        if self.restarts[self.next].is_some_and(|oldest| at.since(oldest) < RESTART_WINDOW) {
            return Next::GiveUp(GiveUp::TooOften);
        }
        self.restarts[self.next] = Some(at);
        self.next = (self.next + 1) % RESTARTS_MAX;
        Next::Restart { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_policy_restarts_what_it_says() {
        let first = |policy, success| Backoff::new(policy).ended(Time::from_millis(1_000), success);
        let again = Next::Restart {
            at: Time::from_millis(1_500),
        };
        assert_eq!(first(RestartPolicy::Never, true), Next::GiveUp(GiveUp::Never));
        assert_eq!(first(RestartPolicy::Never, false), Next::GiveUp(GiveUp::Never));
        assert_eq!(first(RestartPolicy::OnFailure, true), Next::GiveUp(GiveUp::Succeeded));
        assert_eq!(first(RestartPolicy::OnFailure, false), again);
        assert_eq!(first(RestartPolicy::Always, true), again);
        assert_eq!(first(RestartPolicy::Always, false), again);
    }

    #[test]
    fn the_sixth_restart_within_the_window_does_not_happen_and_a_millisecond_later_it_does() {
        let mut backoff = Backoff::new(RestartPolicy::Always);
        for n in 0..5 {
            assert!(
                matches!(backoff.ended(Time::from_millis(n * 1_000), false), Next::Restart { .. }),
                "{n}"
            );
        }
        assert_eq!(
            backoff.clone().ended(Time::from_millis(59_999), false),
            Next::GiveUp(GiveUp::TooOften)
        );
        assert!(matches!(
            backoff.ended(Time::from_millis(60_000), false),
            Next::Restart { .. }
        ));
        // The second of the five is now the oldest, a second younger.
        assert_eq!(
            backoff.ended(Time::from_millis(60_999), false),
            Next::GiveUp(GiveUp::TooOften)
        );
    }

    #[test]
    fn a_refused_restart_does_not_count() {
        let mut backoff = Backoff::new(RestartPolicy::Always);
        for _ in 0..5 {
            backoff.ended(Time::ZERO, false);
        }
        for _ in 0..100 {
            assert_eq!(
                backoff.ended(Time::from_millis(30_000), false),
                Next::GiveUp(GiveUp::TooOften)
            );
        }
        assert!(matches!(
            backoff.ended(Time::from_millis(60_000), false),
            Next::Restart { .. }
        ));
    }

    #[test]
    fn a_policy_is_read_as_it_is_printed() {
        for policy in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!(
            "on_failure".parse::<RestartPolicy>().map_err(|e| e.to_string()),
            Err("restart is `on_failure`; it must be never, on-failure or always".into())
        );
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_restarts_than_the_limit(gaps in proptest::collection::vec(0_u64..40_000, 0..60)) {
            let mut backoff = Backoff::new(RestartPolicy::Always);
            let (mut now, mut restarts) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if let Next::Restart { at } = backoff.ended(Time::from_millis(now), false) {
                    restarts.push(at);
                }
            }
            for five_apart in restarts.windows(RESTARTS_MAX + 1) {
                prop_assert!(five_apart[RESTARTS_MAX].since(five_apart[0]) >= RESTART_WINDOW);
            }
        }
    }
}
