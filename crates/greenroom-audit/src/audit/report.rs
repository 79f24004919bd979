//! Everything that an audit found, as data: what `--format json` prints and what every other format is made of.
//!
//! An interface: fields are added, never renamed, while [`SCHEMA`] stays. Times are nanoseconds, moments those of the
//! machine's monotonic clock. Bounded by the runs, and of each side the last [`limits::AUDIT_POINTS`] single clients.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::control::Control;
use super::finding::Finding;
use super::launcher::Way;
use super::restarted::RestartReport;
use super::side::{RunSummary, Side};
use super::strategy::Waited;
use crate::limits;

/// The version of the report's form.
pub const SCHEMA: u32 = 1;

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of greenroom.
    pub version: String,
    /// CMD, as it was given.
    pub command: Vec<String>,
    /// Where it was measured.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// In short.
    pub verdict: Verdict,
    /// What is wrong with the server by itself.
    pub findings: Vec<Said>,
    /// The server by itself.
    pub plain: Side,
    /// What is wrong behind greenroom.
    pub greenroom_findings: Vec<Said>,
    /// The server behind greenroom, with `--compare`.
    pub greenroom: Option<Side>,
    /// That in short; `None` where the server by itself was not measured.
    #[serde(default)]
    pub greenroom_verdict: Option<Verdict>,
    /// A start with hardly any clients, where nobody was answered in the first one.
    #[serde(default)]
    pub quiet: Option<RunSummary>,
    /// What the control starts of the server by itself showed, if there were any.
    #[serde(default)]
    pub control: Option<Control>,
    /// The same behind greenroom.
    #[serde(default)]
    pub greenroom_control: Option<Control>,
    /// What a restart did, with `--restart`: of the server by itself, then behind greenroom.
    pub restarts: Vec<RestartReport>,
    /// Ways of waiting for the server by itself, with `--strategy`.
    #[serde(default)]
    pub waits: Vec<Waited>,
    /// Why the exit code is 1: the conditions that are met, in words.
    pub failed_by: Vec<String>,
    /// The same, for programs.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What was asked for and could not be measured, each with its reason.
    #[serde(default)]
    pub not_done: Vec<String>,
    /// It was interrupted: there are fewer runs than were asked for.
    pub interrupted: bool,
    /// How long all of it took.
    pub took_ns: u64,
}

impl Report {
    /// When it ended, UTC.
    #[must_use]
    pub fn ended(&self) -> String {
        date(self.machine.seconds.saturating_add(self.took_ns / 1_000_000_000))
    }
}

/// The whole in one word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody whom a listener took was failed.
    Sound,
    /// Something is wrong.
    Race,
    /// It could not be measured, for this reason.
    NotMeasured(String),
}

impl Verdict {
    /// Of one side with so many findings. `why`: why it could not be measured.
    #[must_use]
    pub fn of(side: &Side, findings: usize, why: Option<&str>) -> Self {
        if let Some(why) = why {
            return Self::NotMeasured(why.to_owned());
        }
        if findings > 0 {
            return Self::Race; // each was seen for certain, whatever is not known beside it
        }
        if side.is_unsure() {
            return Self::NotMeasured(format!(
                "{} of {} clients are unknown: this machine stood still while they waited, or they could not connect for reasons of their own; nothing is concluded where more than {:.0} % are. Run it on a machine with less load, or with fewer --clients or a longer --patience",
                side.unknown,
                side.clients,
                limits::AUDIT_UNKNOWN * 100.0
            ));
        }
        match side.ready {
            Some(_) => Self::Sound,
            None => Self::NotMeasured("no start came to its end".into()),
        }
    }
}

/// A finding with its words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// A stable name.
    pub code: String,
    /// What is wrong; its subject is the server.
    pub sentence: String,
    /// What to do.
    pub advice: String,
    /// The figures.
    pub finding: Finding,
}

impl Said {
    /// Each in words, for a server that was met this way.
    #[must_use]
    pub fn all(findings: Vec<Finding>, way: Way) -> Vec<Self> {
        let said = |finding: Finding| Self {
            code: finding.code().to_owned(),
            sentence: finding.sentence_for(way),
            advice: finding.advice(way),
            finding,
        };
        findings.into_iter().map(said).collect()
    }
}

/// The machine of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its kernel.
    pub kernel: String,
    /// Its processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Load average of a minute at the start.
    pub load: String,
    /// When it began, UTC.
    pub date: String,
    /// The same, in seconds since 1970.
    #[serde(default)]
    pub seconds: u64,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            processor: model.map_or_else(String::new, |(_, name)| name.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            date: date(seconds),
            seconds,
        }
    }
}

/// Seconds since 1970 as `2026-11-26T12:00:00Z` (Howard Hinnant's days-to-civil).
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Starts of each side.
    pub runs: u32,
    /// Clients of each start but the first.
    pub clients: u32,
    /// Where the clients go; `{port}` is the port that CMD got.
    pub url: String,
    /// What they say.
    pub message: String,
    /// What they expect.
    pub expect: String,
    /// Their patience.
    pub patience_ns: u64,
    /// What all that is random comes from.
    pub seed: u64,
    /// What `--fail-on` counts.
    #[serde(default)]
    pub fail_on: Vec<String>,
    /// What `greenroom run` is given beside CMD, with `--compare`.
    #[serde(default)]
    pub greenroom: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_race_is_said_only_of_what_was_seen() {
        let patience = super::super::judge::Patience {
            whole_ns: 1,
            answer_ns: 1,
            late_ns: 1,
            answers: true,
        };
        let mut side = Side::of(&[], patience);
        assert!(matches!(Verdict::of(&side, 0, None), Verdict::NotMeasured(_)));
        side.ready = super::super::side::Edge::of(vec![super::super::record::Interval::new(1, 2)]);
        assert_eq!(Verdict::of(&side, 0, None), Verdict::Sound);
        (side.clients, side.unknown) = (100, 20);
        assert_eq!(Verdict::of(&side, 0, None), Verdict::Sound);
        side.unknown = 21;
        let Verdict::NotMeasured(why) = Verdict::of(&side, 0, None) else {
            panic!("a fifth is unknown")
        };
        assert!(
            why.contains("21 of 100 clients") && why.contains("fewer --clients"),
            "{why}"
        );
        assert_eq!(
            Verdict::of(&side, 1, None),
            Verdict::Race,
            "what was seen for certain stays"
        );
        assert_eq!(Verdict::of(&side, 1, Some("x")), Verdict::NotMeasured("x".into()));
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_795_695_299), "2026-11-26T12:14:59Z");
    }
}
