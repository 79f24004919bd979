//! What a run of `evidence` measured: the committed `docs/evidence/evidence.json`, and all that the pages are made of.
//!
//! Milliseconds with three digits behind the point, so that the file can be read. No host names, no paths.

use std::collections::BTreeMap;

use greenroom_audit::audit::report::Machine;
use serde::{Deserialize, Serialize};

use super::origin::{Program, Revision};

/// The version of this form.
pub(crate) const SCHEMA: u32 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    pub(crate) schema: u32,
    /// A short run, which only shows that everything works.
    pub(crate) quick: bool,
    pub(crate) revision: Revision,
    /// The command that built the programs, where one did it for this run.
    pub(crate) built: Option<String>,
    pub(crate) programs: Vec<Program>,
    /// Of greenroom.
    pub(crate) version: String,
    pub(crate) seed: u64,
    pub(crate) took_s: f64,
    /// Where and when; its load is that of the beginning.
    pub(crate) machine: Machine,
    pub(crate) load_after: String,
    /// Measured although others used so much of the processors before it began, in percent.
    pub(crate) began_busy: Option<f64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) script: Vec<Script>,
    pub(crate) log_lines: Vec<Budget>,
    /// A start whose gate opens at the beginning of its last phase.
    pub(crate) gate: Sides<Crowd>,
    /// All come at once, long before that.
    pub(crate) queue: Sides<Crowd>,
    /// It never gets ready.
    pub(crate) away: Sides<Crowd>,
    pub(crate) registry: Registry,
    pub(crate) audit: Sides<Audited>,
    pub(crate) tests: Vec<Tested>,
}

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Waits,
    Script,
    Gate,
    Queue,
    Away,
    Audit,
    Tests,
}

impl What {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits for random ready times",
            Self::Script => "waits as the report measured them",
            Self::Gate => "clients all through a start",
            Self::Queue => "clients at once",
            Self::Away => "a server that never is ready",
            Self::Audit => "the audit",
            Self::Tests => "tests of the phases",
        }
    }
}

/// How a part was measured, and what the machine did beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) what: What,
    /// What was started for it, with its environment.
    pub(crate) commands: Vec<String>,
    pub(crate) took_s: f64,
    /// Load average of a minute, before and after.
    pub(crate) load: String,
    pub(crate) load_after: String,
    /// What others used of all processors meanwhile.
    pub(crate) others_percent: f64,
    /// How often the machine stood still for 20 ms or longer while something was measured, and the longest of these.
    pub(crate) stalls: u64,
    pub(crate) longest_stall_ms: f64,
    pub(crate) tries: u32,
}

/// A test of this repository that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tested {
    /// Of a start.
    pub(crate) phase: String,
    /// The crate or file that it is in, and its name.
    pub(crate) place: String,
    pub(crate) test: String,
    pub(crate) ended: Ended,
    pub(crate) took_s: f64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Passed,
    Failed,
    /// There is no test of that name.
    NotFound,
}

/// The same of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sides<T> {
    pub(crate) reference: T,
    pub(crate) greenroom: T,
}

/// A way to wait. The letters are those of the four versions of the reference, in the order of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    A,
    B,
    C,
    D,
    GreenroomHttp,
    GreenroomPushed,
}

/// From ready to released, for random ready times; milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wait {
    pub(crate) way: Way,
    pub(crate) times: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// How late the machine woke who was to become ready, at the most.
    pub(crate) late_max: f64,
}

impl Wait {
    /// What the report calls variance.
    pub(crate) fn spread(&self) -> f64 {
        self.max - self.min
    }
}

/// The report's own measurement: a few waits one after another, ready always at the same moment; milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) way: Way,
    pub(crate) runs: usize,
    pub(crate) ready_at: f64,
    pub(crate) mean: f64,
    pub(crate) spread: f64,
}

/// What the reference's formula gives for the longest wait for a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) share_percent: f64,
    pub(crate) seconds: f64,
}

/// What became of clients, by themselves and by what the server counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) clients: u64,
    /// They came evenly over so many milliseconds.
    pub(crate) over_ms: f64,
    /// The longest wait that the server, or greenroom, was set to.
    pub(crate) budget_ms: f64,
    /// Answers to the handshake, by status; `none` where there was none.
    pub(crate) statuses: BTreeMap<String, u64>,
    /// Refusals that say when to come again.
    pub(crate) retry_after: u64,
    /// Clients whose message came back.
    pub(crate) answered: u64,
    /// Clients that the server let in before it was ready, and how long before, at the most.
    pub(crate) early: u64,
    pub(crate) early_ms: f64,
    /// Clients that the server put into its queue, and those that were still there when it was ready.
    pub(crate) queued: u64,
    pub(crate) alive: u64,
    /// Clients that were overtaken, by the order in which the server saw them.
    pub(crate) inversions: u64,
    /// From a client's start to its answer, at the most.
    pub(crate) answer_ms: f64,
}

impl Crowd {
    /// Clients with another answer than 101, or none.
    pub(crate) fn refused(&self) -> u64 {
        self.clients - self.statuses.get("101").copied().unwrap_or(0).min(self.clients)
    }
}

/// How many clients greenroom's registry has, beside those that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registry {
    pub(crate) clients: u64,
    pub(crate) held: u64,
    pub(crate) at_the_server: u64,
    pub(crate) relayed: u64,
    pub(crate) afterwards: u64,
}

/// What `greenroom audit` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Audited {
    pub(crate) starts: u64,
    /// Codes of its findings.
    pub(crate) findings: Vec<String>,
    /// Clients whom a listener took, by what became of them.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Of these, those that got what they came for, and those of whom nothing is known.
    pub(crate) answered: u64,
    pub(crate) unknown: u64,
    /// Clients that came while nobody listened.
    pub(crate) cold: u64,
}

impl Audited {
    /// Clients of whom something is known.
    pub(crate) fn known(&self) -> u64 {
        self.outcomes.values().sum::<u64>() - self.unknown
    }
}

impl Evidence {
    pub(crate) fn part(&self, what: What) -> Option<&Part> {
        self.parts.iter().find(|part| part.what == what)
    }

    pub(crate) fn wait(&self, way: Way) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.way == way)
    }

    pub(crate) fn scripted(&self, way: Way) -> Option<&Script> {
        self.script.iter().find(|script| script.way == way)
    }
}
