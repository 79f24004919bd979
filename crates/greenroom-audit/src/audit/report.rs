//! Everything that an audit found, as data: what `--format json` prints and what every other format is made of.
//!
//! An interface: fields are added, never renamed, while [`SCHEMA`] stays. Times are nanoseconds, moments those of the
//! machine's monotonic clock. Bounded by the runs and their clients; single clients are not in it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::finding::Finding;
use super::judge::Outcome;
use super::restart::RestartReport;
use super::side::Side;
use super::stats::Quantiles;
use super::strategy::Waited;
use super::text::span;

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
    /// What is wrong with the server by itself, the gravest first.
    pub findings: Vec<Said>,
    /// The server by itself.
    pub plain: Side,
    /// What is wrong behind greenroom.
    pub greenroom_findings: Vec<Said>,
    /// The server behind greenroom, with `--compare`.
    pub greenroom: Option<Side>,
    /// What a restart did, with `--restart`: of the server by itself, then behind greenroom.
    pub restarts: Vec<RestartReport>,
    /// Ways of waiting for the server by itself, with `--strategy`.
    #[serde(default)]
    pub waits: Vec<Waited>,
    /// Why the exit code is 1: the conditions that are met.
    pub failed_by: Vec<String>,
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

impl From<Finding> for Said {
    fn from(finding: Finding) -> Self {
        Self {
            code: finding.code().to_owned(),
            sentence: finding.sentence(),
            advice: finding.advice(),
            finding,
        }
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

impl FailOn {
    /// `race`, `cold`, or the name of an outcome.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim() {
            "race" => Some(Self::Race),
            "cold" => Some(Self::Cold),
            other => Outcome::parse(other).map(Self::Outcome),
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

    /// Why it fails, if it does.
    #[must_use]
    pub fn met(self, side: &Side, findings: usize) -> Option<String> {
        let told = |clients: u64, name: &str| (clients > 0).then(|| format!("{name}: {clients} clients"));
        match self {
            Self::Race => (findings > 0).then(|| format!("race: {findings} found")),
            Self::Cold => told(side.count(Zone::Cold, |outcome| outcome == Outcome::Refused), "cold"),
            Self::Outcome(wanted) => {
                let of = |zone| side.count(zone, |outcome| outcome == wanted);
                told(of(Zone::Race) + of(Zone::Ready), &wanted.name())
            }
        }
    }
}

/// A bound for a wait, as `p99-open=500ms`.
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
            most_ns: super::plan::nanos(time),
        })
    }

    /// Why it is broken, if it is.
    #[must_use]
    pub fn broken(self, side: &Side) -> Option<String> {
        let times = if self.open { side.open } else { side.after_ready };
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
        let what = if self.open { "open" } else { "answer" };
        (found > self.most_ns).then(|| {
            format!(
                "{name}-{what} is {}, over the budget of {}",
                span(found),
                span(self.most_ns)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_795_695_299), "2026-11-26T12:14:59Z");
    }

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
}
