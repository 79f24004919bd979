//! `greenroom audit -- CMD`: starts a server again and again, lets clients come all through its start, and
//! says what they saw, what is wrong, and what to do.
//!
//! ```text
//!  plan ──▶ run (launcher, process, observe, client, stall) ──▶ record ──▶ judge, edges ──▶ side ──▶ finding ──▶ report
//!   ▲                                                                     │
//!   └───────────────────── where the edges are ◀──────────────────────────┘
//! ```
//!
//! | module | decides |
//! |---|---|
//! | `auditor` | which starts are made, one after the other |
//! | [`plan`] | when clients come and speak |
//! | [`target`] | where they go, what they say and expect |
//! | [`run`], [`client`], `wire`, `socket`, [`process`], [`launcher`], [`observe`], [`stall`] | nothing: they do, and measure |
//! | [`record`] | what is written down |
//! | [`judge`] | what became of one client |
//! | [`edges`] | when the server listened and was ready |
//! | [`stats`] | what may be said of a share |
//! | [`side`] | what all runs show |
//! | [`finding`] | what is wrong; [`sentence`] says it, [`advice`] what to do |
//! | [`strategy`] | how late ways of waiting would let clients in |
//! | [`restart`] | nothing: it restarts, and writes down |
//! | [`restarted`] | what a restart does |
//! | [`condition`] | when the exit code is 1 |
//! | [`rejected`] | whether rejecting stops, and whether it is a matter of how many are connected |
//! | [`control`] | whether clients are failed because many come: control starts tell |
//! | [`losses`] | what is counted as lost |
//! | [`unmeasured`] | why nothing could be measured |
//! | [`report`] | the whole, as data |
//! | [`words`], [`tables`], [`diagram`], [`text`] | how it is told, once |
//! | [`terminal`], [`markdown`], [`html`] (with [`svg`]), [`junit`], [`sarif`] | nothing: they write it |

pub mod advice;
mod auditor;
pub mod censored;
pub mod client;
pub mod condition;
pub mod control;
pub mod crosstalk;
pub mod diagram;
pub mod edges;
pub mod finding;
pub mod html;
pub mod judge;
pub mod junit;
pub mod lateness;
pub mod launcher;
pub mod losses;
pub mod markdown;
pub mod observe;
pub mod plan;
pub mod process;
pub mod record;
pub mod rejected;
pub mod report;
pub mod restart;
pub mod restarted;
pub mod run;
#[cfg(test)]
mod sample;
pub mod sarif;
pub mod sentence;
pub mod side;
mod socket;
pub mod source;
pub mod stall;
pub mod stats;
pub mod strategy;
pub mod svg;
pub mod tables;
pub mod target;
pub mod terminal;
pub mod text;
pub mod unanswered;
pub mod unmeasured;
mod wire;
pub mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use greenroom::supervise::Signal;
use tokio::sync::watch;

use crate::{clock, limits};
use auditor::{Auditor, Kept};
use condition::{Budget, FailOn};
use judge::Outcome;
use launcher::{Launcher, PortError, Way};
use process::StartError;
use record::RunRecord;
use report::{Machine, Report, Settings, Verdict};
use restarted::RestartRecord;
use run::Manner;
use stall::StallWatch;
use strategy::Strategy;

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// CMD; `{port}` in it becomes the port.
    pub command: Vec<OsString>,
    /// Starts of each side.
    pub runs: u32,
    /// Clients of each start.
    pub clients: u32,
    /// What clients do.
    pub manner: Manner,
    /// Whether the same is done behind greenroom.
    pub compare: bool,
    /// Whether, and with which signal, a restart is measured.
    pub restart: Option<Signal>,
    /// The program greenroom, for what stands in front.
    pub gateway: PathBuf,
    /// What `greenroom run` is given there beside CMD.
    pub greenroom: Vec<String>,
    /// What all that is random comes from.
    pub seed: u64,
    /// When the exit code is 1.
    pub fail_on: Vec<FailOn>,
    /// Waits that must not be longer.
    pub budgets: Vec<Budget>,
    /// Ways of waiting that are compared for its starts.
    pub strategies: Vec<Strategy>,
    /// As it is shown: URL, message, expectation.
    pub told: [String; 3],
}

impl Options {
    /// As a report tells them.
    fn settings(&self) -> Settings {
        let [url, message, expect] = self.told.clone();
        Settings {
            runs: self.runs,
            clients: self.clients,
            url,
            message,
            expect,
            patience_ns: self.manner.judged_by().whole_ns,
            seed: self.seed,
            fail_on: self.fail_on.iter().map(|fail| fail.name()).collect(),
            greenroom: self.greenroom.clone(),
        }
    }
}

/// What happens, for who shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A run begins.
    Run {
        /// Of which side.
        way: Way,
        /// Its number, from 0.
        number: u32,
        /// Of how many.
        of: u32,
    },
    /// A client is done.
    Client(Way, Outcome),
    /// Nobody was answered in the first run: a start with hardly any clients begins.
    Quiet {
        /// It takes no longer.
        at_most: Duration,
    },
    /// Clients were failed as by load: a start with few of them begins, to tell whether it is their number.
    Control {
        /// Of which side.
        way: Way,
        /// So many were before it.
        done: u32,
        /// Its clients: few, or, in the last one, as many as before.
        clients: u32,
    },
    /// A restart goes on; told again and again.
    Restart {
        /// Of which side.
        way: Way,
        /// How far it is.
        step: restart::Step,
        /// Clients that were answered in this step.
        there: u32,
        /// Of how many.
        of: u32,
        /// Since it began.
        spent: Duration,
        /// How long all of it takes, as far as is known.
        expected: Duration,
    },
}

/// Shows progress.
pub type Show<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// CMD could not be executed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What a start is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is one of `--runs`.
    Planned,
    /// With hardly any clients: whether anybody is ever answered.
    Quiet,
    /// With few clients: whether those who are failed are failed because many come.
    Control,
}

/// One start, for who wants all of it.
#[derive(Debug)]
pub struct Played {
    /// Of which side.
    pub way: Way,
    /// What for.
    pub purpose: Purpose,
    /// What was seen.
    pub run: RunRecord,
}

/// An audit, with all that it was made of.
#[derive(Debug)]
pub struct Audited {
    /// What it says.
    pub report: Report,
    /// The starts: of the server by itself, then behind greenroom.
    pub runs: Vec<Played>,
    /// The restarts.
    pub restarts: Vec<RestartRecord>,
}

/// Runs the whole audit, or until `stop` is true: then the report is of what there is. So it is where something fails
/// after the first start: the reason stands in the report.
///
/// # Errors
/// When CMD could not be executed at all.
pub async fn audit(options: Options, mut stop: watch::Receiver<bool>, show: Show<'_>) -> Result<Audited, AuditError> {
    let began = clock::now();
    let machine = Machine::here();
    let mut launcher = Launcher::new(options.command.clone(), options.gateway.clone());
    launcher.gateway_flags = options.greenroom.iter().map(OsString::from).collect();
    let auditor = Auditor {
        options: &options,
        launcher,
        stalls: StallWatch::start(),
        show,
    };
    let mut kept = Kept::default();
    if let Err(error) = auditor.runs(&mut kept, &mut stop).await {
        if kept.plain.is_empty() {
            return Err(error);
        }
        kept.not_done.push(format!("not all starts could be made: {error}"));
    }
    let is_measured = kept.not_measured.is_none();
    if is_measured {
        auditor.controls(&mut kept, &mut stop).await;
    }
    let goes_on = !*stop.borrow() && is_measured;
    if let Some(signal) = options.restart.filter(|_| goes_on) {
        auditor.restarts(signal, &mut kept, &mut stop).await;
    }
    let interrupted = *stop.borrow();
    let report = auditor.report(&kept, machine, interrupted, began);
    let played = |way, purpose| move |run| Played { way, purpose, run };
    let plain = kept.plain.into_iter().map(played(Way::Plain, Purpose::Planned));
    let quiet = kept.quiet.into_iter().map(played(Way::Plain, Purpose::Quiet));
    let behind = kept.greenroom.into_iter();
    let behind = behind.map(played(Way::Greenroom, Purpose::Planned));
    let control = |way| played(way, Purpose::Control);
    let controls = kept.plain_control.all().map(control(Way::Plain));
    let behind_controls = kept.greenroom_control.all().map(control(Way::Greenroom));
    let plain = plain.chain(quiet).chain(controls);
    Ok(Audited {
        report,
        runs: plain.chain(behind).chain(behind_controls).collect(),
        restarts: kept.restarts,
    })
}

impl Report {
    /// The exit code: 0; 1 where a condition is met; 2 where nothing was measured; 130 where it was stopped
    /// before the end and no condition was met by then.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Sound | Verdict::Race if !self.failed_by.is_empty() => 1,
            _ if self.interrupted => limits::AUDIT_STOPPED,
            Verdict::NotMeasured(_) => 2,
            Verdict::Sound | Verdict::Race => 0,
        }
    }
}
