//! When the exit code is 1: the conditions of `--fail-on` and `--budget`, judged on everything that was measured. Pure.
//!
//! Each condition is judged on the server by itself, with `--compare` on the server behind greenroom too, and with `--restart`
//! on what the restarts did; each reason names its place. What is not measured meets no condition; but a
//! budget whose wait nobody had is broken: nothing shows that it is kept.
//!
//! *race*, which is meant without `--fail-on`, is any finding on either side. At a restart everybody who is connected is dropped: every
//! server does that, so by itself it is no race, as *cold* is none. What is one there: a client that never came back, and a message
//! that was lost on a connection that stood, as nobody told the client.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::launcher::Way;
use super::plan::nanos;
use super::restarted::RestartReport;
use super::side::Side;
use super::stats::Quantiles;
use super::text::{count, span};

/// One condition of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Any finding: what is meant without `--fail-on`.
    Race,
    /// Somebody was refused before anybody listened.
    Cold,
    /// A client that a listener took had this outcome.
    Outcome(Outcome),
}

/// What a condition that is met was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`FailOn::Race`].
    Race,
    /// [`FailOn::Cold`].
    Cold,
    /// [`FailOn::Outcome`].
    Outcome(Outcome),
    /// A [`Budget`].
    Budget,
}

/// Where a condition was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// At the starts, on this side.
    Starts(Way),
    /// At the restart, on this side.
    Restart(Way),
}

/// A condition that is met: a reason for exit code 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is about.
    pub kind: Kind,
    /// Where it was met.
    pub place: Place,
    /// Why, in words that name the place.
    pub reason: String,
}

impl Condition {
    fn new(kind: Kind, place: Place, why: &str) -> Self {
        let place_told = match place {
            Place::Starts(Way::Plain) => "",
            Place::Starts(Way::Greenroom) => "behind greenroom: ",
            Place::Restart(Way::Plain) => "at the restart: ",
            Place::Restart(Way::Greenroom) => "at the restart behind greenroom: ",
        };
        Self {
            kind,
            place,
            reason: format!("{place_told}{why}"),
        }
    }
}

/// What conditions are judged on.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// Each side, with the number of its findings.
    pub sides: &'a [(Way, &'a Side, usize)],
    /// The restarts.
    pub restarts: &'a [RestartReport],
}

/// All that are met, in the order in which they were asked for.
#[must_use]
pub fn met(fail_on: &[FailOn], budgets: &[Budget], measured: Measured<'_>) -> Vec<Condition> {
    let mut met = Vec::new();
    for fail in fail_on {
        for &(way, side, findings) in measured.sides {
            let why = fail.at_starts(side, findings);
            met.extend(why.map(|why| Condition::new(fail.kind(), Place::Starts(way), &why)));
        }
        for restart in measured.restarts {
            let why = fail.at_restart(restart);
            met.extend(why.map(|why| Condition::new(fail.kind(), Place::Restart(restart.way), &why)));
        }
    }
    for budget in budgets {
        for &(way, side, _) in measured.sides {
            let why = budget.broken(side);
            met.extend(why.map(|why| Condition::new(Kind::Budget, Place::Starts(way), &why)));
        }
    }
    met
}

fn told(count: u64, name: &str, what: &str) -> Option<String> {
    (count > 0).then(|| format!("{name}: {count} {what}"))
}

impl FailOn {
    /// `race`, `cold`, or the name of an outcome that is none that one wants, and that says something.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim() {
            "race" => Some(Self::Race),
            "cold" => Some(Self::Cold),
            other => Outcome::parse(other)
                .filter(|outcome| !matches!(outcome, Outcome::Answered | Outcome::Unknown))
                .map(Self::Outcome),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Race => "race".into(),
            Self::Cold => "cold".into(),
            Self::Outcome(outcome) => outcome.name(),
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Race => Kind::Race,
            Self::Cold => Kind::Cold,
            Self::Outcome(outcome) => Kind::Outcome(outcome),
        }
    }

    /// Why it is met at the starts of this side, if it is.
    fn at_starts(self, side: &Side, findings: usize) -> Option<String> {
        match self {
            Self::Race => (findings > 0).then(|| format!("race: {}", count(findings as u64, "finding"))),
            Self::Cold => told(
                side.count(Zone::Cold, |outcome| outcome == Outcome::Refused),
                "cold",
                "clients",
            ),
            Self::Outcome(wanted) => {
                // Who was never answered anything has lost a message too.
                let fits = |outcome: Outcome| outcome == wanted || wanted == Outcome::Lost && outcome.is_loss();
                let of = |zone| side.count(zone, fits);
                told(of(Zone::Race) + of(Zone::Ready), &wanted.name(), "clients")
            }
        }
    }

    /// Why it is met at this restart, if it is.
    fn at_restart(self, restart: &RestartReport) -> Option<String> {
        let of = |all: &[(Outcome, u64)], wanted: Outcome| {
            let found = all.iter().filter(|(outcome, _)| *outcome == wanted);
            found.map(|(_, count)| count).sum::<u64>()
        };
        match self {
            Self::Race => {
                let never = told(restart.never_back.len() as u64, "race", "clients never came back");
                let what = "messages were lost on connections that stood";
                never.or_else(|| told(restart.lost_silently, "race", what))
            }
            Self::Cold => told(of(&restart.attempts, Outcome::Refused), "cold", "attempts to come back"),
            Self::Outcome(Outcome::Lost) => told(restart.lost.hits, "lost", "messages"),
            Self::Outcome(wanted) => {
                let name = wanted.name();
                let ended = told(of(&restart.endings, wanted), &name, "connections");
                // Where nobody listened, that is *cold*.
                let tried = if wanted == Outcome::Refused {
                    0
                } else {
                    of(&restart.attempts, wanted)
                };
                ended.or_else(|| told(tried, &name, "attempts to come back"))
            }
        }
    }
}

/// A bound for a wait, as `p99-open=500ms`. Clients that were failed have waited their patience at the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// 50, 90, 99, or 100 for the greatest.
    percent: u8,
    /// To the 101 from the client's start, or to the first answer from when it could have been in.
    open: bool,
    most_ns: u64,
}

impl Budget {
    /// Reads `p50|p90|p99|max` `-open|-answer` `=` a time such as `500ms`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, time) = text.split_once('=')?;
        let (percent, what) = name.trim().split_once('-')?;
        let percent = match percent {
            "p50" => 50,
            "p90" => 90,
            "p99" => 99,
            "max" => 100,
            _ => return None,
        };
        let open = match what {
            "open" => true,
            "answer" => false,
            _ => return None,
        };
        let time = greenroom::config::units::duration(time.trim()).ok()?;
        Some(Self {
            percent,
            open,
            most_ns: nanos(time),
        })
    }

    /// Why it is broken, if it is.
    #[must_use]
    pub fn broken(self, side: &Side) -> Option<String> {
        let waits = if self.open {
            side.all_waits.open
        } else {
            side.all_waits.answer
        };
        let times = waits.times;
        let Quantiles {
            p50_ns,
            p90_ns,
            p99_ns,
            max_ns,
            ..
        } = times;
        let (name, found) = match self.percent {
            50 => ("p50", p50_ns),
            90 => ("p90", p90_ns),
            99 => ("p99", p99_ns),
            _ => ("max", max_ns),
        };
        let (what, nobody) = if self.open {
            ("open", "nobody was opened and served")
        } else {
            ("answer", "nobody was answered")
        };
        if times.count == 0 {
            return Some(format!("{name}-{what}: {nobody}"));
        }
        (found > self.most_ns).then(|| {
            let least = if waits.is_at_least(found) { "at least " } else { "" };
            let vain = match waits.in_vain {
                0 => String::new(),
                vain => format!(", of which {vain} waited in vain"),
            };
            format!(
                "{name}-{what} is {least}{}, over the budget of {} (of {}{vain})",
                span(found),
                span(self.most_ns),
                count(times.count, "client")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::censored::Censored;
    use crate::audit::judge::Patience;
    use crate::audit::side::Count;
    use crate::audit::stats::Share;

    #[test]
    fn conditions_and_budgets_are_read() {
        assert_eq!(FailOn::parse("1006"), Some(FailOn::Outcome(Outcome::Cut)));
        assert_eq!(FailOn::parse("1011"), Some(FailOn::Outcome(Outcome::Closed(1011))));
        assert_eq!((FailOn::parse("cold"), FailOn::parse("x")), (Some(FailOn::Cold), None));
        assert!(Budget::parse("p99-open=500ms").is_some() && Budget::parse("max-answer=1s").is_some());
        for wrong in ["p99-open", "p98-open=1s", "p99-close=1s", "p99-open=fast", "p99-open=5"] {
            assert_eq!(Budget::parse(wrong), None, "{wrong}");
        }
    }

    /// A side with these clients of the race zone.
    fn side(counts: &[(Outcome, u64)]) -> Side {
        let patience = Patience {
            whole_ns: 1,
            answer_ns: 1,
            late_ns: 1,
            answers: true,
        };
        let zone = |outcome| match outcome {
            Outcome::Refused => Zone::Cold,
            _ => Zone::Race,
        };
        let count = |&(outcome, clients): &(Outcome, u64)| Count {
            zone: zone(outcome),
            outcome,
            clients,
        };
        Side {
            counts: counts.iter().map(count).collect(),
            ..Side::of(&[], patience)
        }
    }

    fn restart(way: Way) -> RestartReport {
        RestartReport {
            way,
            signal: "KILL".into(),
            dropped: Share::new(20, 20),
            lost: Share::new(7, 90),
            codes: vec![(None, 20)],
            away: Quantiles::default(),
            last_back_ns: Some(1),
            never_back: Vec::new(),
            lost_silently: 0,
            endings: vec![(Outcome::Cut, 18), (Outcome::Reset, 2)],
            attempts: vec![(Outcome::Refused, 60), (Outcome::Status(503), 4)],
            answers: true,
        }
    }

    fn reasons(asked: &[&str], sides: &[(Way, &Side, usize)], restarts: &[RestartReport]) -> Vec<String> {
        let fail_on: Vec<FailOn> = asked.iter().map(|name| FailOn::parse(name).unwrap()).collect();
        let met = met(&fail_on, &[], Measured { sides, restarts });
        met.into_iter().map(|condition| condition.reason).collect()
    }

    #[test]
    fn both_sides_and_the_restart_are_judged_and_each_reason_names_its_place() {
        let (plain, behind) = (side(&[(Outcome::Cut, 3)]), side(&[(Outcome::Closed(1011), 54)]));
        let deaf = side(&[(Outcome::Lost, 3), (Outcome::Unanswered, 4)]);
        let sides = [(Way::Plain, &deaf, 0)];
        let told = ["lost: 7 clients", "unanswered: 4 clients"];
        assert_eq!(reasons(&["lost", "unanswered"], &sides, &[]), told);
        let sides = [(Way::Plain, &plain, 0), (Way::Greenroom, &behind, 1)];
        assert_eq!(reasons(&["race"], &sides, &[]), ["behind greenroom: race: 1 finding"]);
        assert_eq!(
            reasons(&["1006", "1011"], &sides, &[]),
            ["1006: 3 clients", "behind greenroom: 1011: 54 clients"]
        );
        let none = side(&[]);
        let sides = [(Way::Plain, &none, 0)];
        let restarts = [restart(Way::Plain), restart(Way::Greenroom)];
        assert_eq!(
            reasons(&["lost", "1006", "reset"], &sides, &restarts[..1]),
            [
                "at the restart: lost: 7 messages",
                "at the restart: 1006: 18 connections",
                "at the restart: reset: 2 connections"
            ]
        );
        assert_eq!(
            reasons(&["503", "cold", "hung", "refused"], &sides, &restarts[1..]),
            [
                "at the restart behind greenroom: HTTP 503: 4 attempts to come back",
                "at the restart behind greenroom: cold: 60 attempts to come back"
            ]
        );
    }

    #[test]
    fn a_restart_that_drops_is_no_race_and_one_that_leaves_somebody_behind_is() {
        let none = side(&[]);
        let sides = [(Way::Plain, &none, 0)];
        let mut one = restart(Way::Plain);
        assert!(reasons(&["race"], &sides, std::slice::from_ref(&one)).is_empty());
        one.lost_silently = 2;
        let told = ["at the restart: race: 2 messages were lost on connections that stood"];
        assert_eq!(reasons(&["race"], &sides, std::slice::from_ref(&one)), told);
        one.never_back = vec![3];
        let told = ["at the restart: race: 1 clients never came back"];
        assert_eq!(reasons(&["race"], &sides, &[one]), told);
    }

    #[test]
    fn a_budget_is_judged_on_both_sides_and_one_without_a_sample_is_broken() {
        let budget = Budget::parse("p99-open=500ms").unwrap();
        let (mut slow, quick, nobody) = (side(&[]), side(&[]), side(&[]));
        assert_eq!(
            budget.broken(&nobody).unwrap(),
            "p99-open: nobody was opened and served"
        );
        let answer = Budget::parse("max-answer=1s").unwrap();
        assert_eq!(answer.broken(&nobody).unwrap(), "max-answer: nobody was answered");
        slow.all_waits.open = Censored {
            times: Quantiles::of(vec![900_000_000]),
            in_vain: 1,
            vain_from_ns: 800_000_000,
        };
        let mut quick = quick;
        quick.all_waits.open.times = Quantiles::of(vec![1_000]);
        assert_eq!(budget.broken(&quick), None);
        let sides = [(Way::Plain, &quick, 0), (Way::Greenroom, &slow, 0)];
        let met = met(
            &[],
            &[budget],
            Measured {
                sides: &sides,
                restarts: &[],
            },
        );
        let [condition] = &met[..] else { panic!("{met:?}") };
        assert_eq!(
            (condition.kind, condition.place),
            (Kind::Budget, Place::Starts(Way::Greenroom))
        );
        let reason = &condition.reason;
        assert!(
            reason.starts_with("behind greenroom: p99-open is at least 900 ms")
                && reason.ends_with("(of 1 client, of which 1 waited in vain)"),
            "{reason}"
        );
    }
}
