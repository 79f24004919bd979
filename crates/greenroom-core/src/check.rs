//! Decides what the verdicts of one check mean, and how much is missing of a backend.
//!
//! A *check* is a probe with a name, asked for ever. It counts as good after `rise`
//! good verdicts in a row and as bad after `fall` bad ones, so that one slow answer
//! of a database moves nobody. What is missing of the optional checks makes a backend
//! *degraded*, by weight: the [`Level`].
//!
//! Pure; one check is two counters.

use core::fmt;

use crate::limits::WEIGHT_MAX;

/// One check, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, by which routes require it.
    pub name: Box<str>,
    /// Good verdicts in a row that make it good; at least 1.
    pub rise: u32,
    /// Bad verdicts in a row that make it bad; at least 1.
    pub fall: u32,
    /// The phase that is finished when it is good.
    pub phase: Option<usize>,
    /// Whether the backend is not ready without it.
    pub critical: bool,
    /// How much is missing without it, beside the other optional ones.
    pub weight: u32,
}

/// Whether a check is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known yet: counts as bad.
    #[default]
    Unknown,
    /// Good.
    Good,
    /// Bad.
    Bad,
}

impl State {
    /// The word for it in `status` and its JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// The verdicts of one check so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check {
    state: State,
    /// Verdicts in a row that speak against the state.
    against: u32,
}

impl Check {
    /// Takes a verdict; says whether the state changed.
    pub fn take(&mut self, rule: &Rule, good: bool) -> bool {
        let (there, needed) = if good {
            (State::Good, rule.rise)
        } else {
            (State::Bad, rule.fall)
        };
        // Of what is unknown the first bad verdict is enough: it counts as bad already.
        let needed = match (self.state, good) {
            (State::Unknown, false) => 1,
            (State::Unknown | State::Good | State::Bad, _) => needed,
        };
        if self.state == there {
            self.against = 0;
            return false;
        }
        if self.state == State::Unknown && !good {
            self.against = 0;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return false;
        }
        *self = Self {
            state: there,
            against: 0,
        };
        true
    }

    /// Whether it is good.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }
}

/// How much is missing of a backend's optional checks, by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// At most a quarter.
    Minimal,
    /// At most half.
    Moderate,
    /// At most three quarters.
    Severe,
    /// More.
    Emergency,
}

impl Level {
    /// The level at which `missing` of `all` is missing.
    #[must_use]
    pub const fn of(missing: u64, all: u64) -> Self {
        // Weights are at most `WEIGHT_MAX` each, so four times a sum of them is far from the end of a u64.
        match missing * 4 {
            0 => Self::None,
            quarters if quarters <= all => Self::Minimal,
            quarters if quarters <= 2 * all => Self::Moderate,
            quarters if quarters <= 3 * all => Self::Severe,
            _ => Self::Emergency,
        }
    }

    /// The level of these checks.
    pub fn of_checks<'a>(checks: impl Iterator<Item = (&'a Rule, &'a Check)>) -> Self {
        let (mut missing, mut all) = (0, 0);
        for (rule, check) in checks.filter(|(rule, _)| !rule.critical) {
            let weight = u64::from(rule.weight.min(WEIGHT_MAX));
            all += weight;
            if check.state() != State::Good {
                missing += weight;
            }
        }
        Self::of(missing, all)
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
            Self::Emergency => "emergency",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(rise: u32, fall: u32) -> Rule {
        Rule {
            name: "database".into(),
            rise,
            fall,
            phase: None,
            critical: false,
            weight: 1,
        }
    }

    fn states(rule: &Rule, verdicts: &str) -> String {
        let mut check = Check::default();
        let state = |verdict| {
            check.take(rule, verdict == '+');
            match check.state() {
                State::Unknown => '?',
                State::Good => '+',
                State::Bad => '-',
            }
        };
        verdicts.chars().map(state).collect()
    }

    #[test]
    fn recovery_needs_rise_good_verdicts_in_a_row_and_loss_fall_bad_ones() {
        let rule = rule(2, 3);
        assert_eq!(states(&rule, "+++"), "?++");
        assert_eq!(states(&rule, "++--+---+-++"), "?++++++----+");
        assert_eq!(states(&rule, "-++"), "--+");
        assert_eq!(
            states(&rule, "+-++"),
            "?--+",
            "the first bad verdict of what is unknown is enough"
        );
    }

    #[test]
    fn one_of_each_follows_every_verdict() {
        assert_eq!(states(&rule(1, 1), "+-+--+"), "+-+--+");
    }

    #[test]
    fn levels_have_their_edges_at_quarters() {
        use Level::{Emergency, Minimal, Moderate, None, Severe};
        let levels: Vec<_> = (0..=8).map(|missing| Level::of(missing, 8)).collect();
        assert_eq!(
            levels,
            [
                None, Minimal, Minimal, Moderate, Moderate, Severe, Severe, Emergency, Emergency
            ]
        );
        assert_eq!(Level::of(0, 0), None);
    }

    proptest! {
        #[test]
        fn flapping_faster_than_rise_and_fall_changes_nothing(rise in 2..5_u32, fall in 2..5_u32, flaps in 1..50_usize) {
            let rule = rule(rise, fall);
            let mut check = Check { state: State::Good, against: 0 };
            for _ in 0..flaps {
                prop_assert!(!check.take(&rule, false));
                prop_assert!(!check.take(&rule, true));
            }
        }
    }
}
