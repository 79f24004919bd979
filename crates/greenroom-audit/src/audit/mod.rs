//! `greenroom audit -- CMD`: starts a server again and again, lets clients come all through its start, and
//! says what they saw, what is wrong, and what to do.
//!
//! ```text
//!  plan ──▶ run (stage, process, observe, client, stall) ──▶ record ──▶ judge, edges ──▶ side ──▶ finding ──▶ report
//!   ▲                                                                     │
//!   └───────────────────── where the edges are ◀──────────────────────────┘
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`plan`] | when clients come and speak |
//! | [`target`] | where they go, what they say and expect |
//! | [`run`], [`client`], [`process`], [`stage`], [`observe`], [`stall`] | nothing: they do, and measure |
//! | [`record`] | what is written down |
//! | [`judge`] | what became of one client |
//! | [`edges`] | when the server listened and was ready |
//! | [`stats`] | what may be said of a share |
//! | [`side`] | what all runs show |
//! | [`finding`] | what is wrong |
//! | [`strategy`] | how late ways of waiting would let clients in |
//! | [`restart`] | what a restart does |
//! | [`report`] | the whole, as data; [`terminal`], [`markdown`], [`html`] (with [`svg`]), [`junit`] and [`sarif`] only write it |

pub mod client;
pub mod diagram;
pub mod edges;
pub mod finding;
pub mod html;
pub mod judge;
pub mod junit;
pub mod markdown;
pub mod observe;
pub mod plan;
pub mod process;
pub mod record;
pub mod rejected;
pub mod report;
pub mod restart;
pub mod run;
#[cfg(test)]
mod sample;
pub mod sarif;
pub mod side;
pub mod stage;
pub mod stall;
pub mod stats;
pub mod strategy;
pub mod svg;
pub mod tables;
pub mod target;
pub mod terminal;
pub mod text;
pub mod unmeasured;
pub mod words;

use std::ffi::OsString;
use std::path::PathBuf;

use greenroom::supervise::Signal;
use rustix::process::{getpid, set_child_subreaper};
use tokio::sync::watch;

use crate::{clock, limits};
use edges::Zone;
use judge::Outcome;
use plan::{Dice, Scale};
use process::StartError;
use record::{Cause, Interval, RunRecord};
use report::{Budget, FailOn, Machine, Report, SCHEMA, Said, Settings, Verdict};
use restart::{RestartError, RestartReport};
use run::{Arrivals, Manner, Run};
use side::Side;
use stage::{PortError, Stage, Way};
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
    /// Something else takes its time.
    Doing(String),
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
    /// See [`RestartError`].
    #[error(transparent)]
    Restart(#[from] RestartError),
}

/// Runs the whole audit, or until `stop` is true: then the report is of what there is.
///
/// # Errors
/// When CMD could not be executed at all.
pub async fn audit(
    options: Options,
    mut stop: watch::Receiver<bool>,
    show: Show<'_>,
) -> Result<(Report, Vec<RunRecord>), AuditError> {
    let began = clock::now();
    let machine = Machine::here();
    // What CMD leaves behind comes to us and is ended; without it, what leaves its parent is found by its mark all the same.
    set_child_subreaper(Some(getpid())).ok();
    let mut stage = Stage::new(options.command.clone(), options.gateway.clone());
    stage.gateway_flags = options.greenroom.iter().map(OsString::from).collect();
    let auditor = Auditor {
        options: &options,
        stage,
        stalls: StallWatch::start(),
        show,
    };
    let mut kept = Kept::default();
    auditor.runs(&mut kept, &mut stop).await?;
    let mut restarts = Vec::new();
    let goes_on = !*stop.borrow() && kept.not_measured.is_none();
    if let Some(signal) = options.restart.filter(|_| goes_on) {
        restarts = auditor.restarts(signal, &mut stop).await?;
    }
    let interrupted = *stop.borrow();
    let report = auditor.report(&kept, restarts, machine, interrupted, began);
    kept.plain.extend(kept.greenroom);
    Ok((report, kept.plain))
}

/// The runs so far.
#[derive(Debug, Default)]
struct Kept {
    plain: Vec<RunRecord>,
    greenroom: Vec<RunRecord>,
    /// A start with hardly any clients became ready, where those with many did not.
    quiet_ready: bool,
    not_measured: Option<String>,
}

struct Auditor<'a> {
    options: &'a Options,
    stage: Stage,
    stalls: StallWatch,
    show: Show<'a>,
}

impl Auditor<'_> {
    async fn runs(&self, kept: &mut Kept, stop: &mut watch::Receiver<bool>) -> Result<(), AuditError> {
        let patience = self.options.manner.judged_by();
        let mut runs = self.options.runs;
        let mut number = 0;
        while number < runs && !*stop.borrow() {
            let known = Side::of(&kept.plain, patience);
            let arrivals = match scale(&known) {
                Some(scale) => {
                    let mut dice = Dice::new(self.options.seed, u64::from(number));
                    let clients = usize::try_from(self.options.clients).unwrap_or(usize::MAX);
                    Arrivals::At(plan::offsets(clients, scale, &mut dice))
                }
                None => Arrivals::Coarse,
            };
            let late = known.late_handler.filter(|late| late.clients.seen() > 0.5);
            let late = late.map(|late| late.attached);
            let plain = self.start(Way::Plain, number, &arrivals, late, stop).await?;
            let cause = plain.cause.clone();
            if cause != Cause::Interrupted {
                kept.plain.push(plain);
            }
            if number == 0 {
                match self.first(kept, &cause, stop).await? {
                    First::Well => {}
                    First::Again => continue,
                    First::OnlySome => runs = runs.min(limits::AUDIT_HANGING_RUNS),
                    First::Over => return Ok(()),
                }
            }
            if self.options.compare && !*stop.borrow() {
                let behind = self.start(Way::Greenroom, number, &arrivals, late, stop).await?;
                if behind.cause != Cause::Interrupted {
                    kept.greenroom.push(behind);
                }
            }
            number += 1;
        }
        Ok(())
    }

    async fn start(
        &self,
        way: Way,
        number: u32,
        arrivals: &Arrivals,
        late: Option<Interval>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<RunRecord, AuditError> {
        let of = self.options.runs;
        (self.show)(Progress::Run { way, number, of });
        let manner = &self.options.manner;
        let port = self.stage.port(&manner.target, way).await?;
        let run = Run {
            number,
            program: self.stage.program(way, &manner.target, port.number),
            port: port.number,
            notify: way == Way::Plain,
            arrivals: arrivals.clone(),
            late,
            dice: Dice::new(self.options.seed, u64::from(number) + (1 << 32)),
            manner,
        };
        let tell = |outcome| (self.show)(Progress::Client(way, outcome));
        Ok(run.play(&self.stalls, stop, &tell).await?)
    }

    /// What the first run means for the others.
    async fn first(
        &self,
        kept: &mut Kept,
        cause: &Cause,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<First, AuditError> {
        let side = Side::of(&kept.plain, self.options.manner.judged_by());
        let listened = side.listen.is_some();
        let output = kept
            .plain
            .last()
            .map_or_else(String::new, |run| run.output.join("\n  "));
        match cause {
            Cause::Finished if side.ready.is_some() => Ok(First::Well),
            Cause::Interrupted => Ok(First::Over),
            Cause::Ended(how) if side.ready.is_none() => {
                if !listened && self.options.manner.target.port().is_none() && self.stage.give_up() {
                    kept.plain.clear();
                    return Ok(First::Again); // it may be one that cannot share a port that is kept for it
                }
                kept.not_measured = Some(format!(
                    "CMD ended {how} before anybody was answered; its last lines:\n  {output}"
                ));
                Ok(First::Over)
            }
            Cause::Ended(_) => Ok(First::Well),
            Cause::Finished | Cause::NeverReady if !listened => {
                let waited = self.options.manner.start_timeout;
                kept.not_measured = Some(format!(
                    "nobody listened within {waited:?}: CMD must listen at the port in $PORT, or at the one that {{port}} stands for in its words; its last lines:\n  {output}"
                ));
                Ok(First::Over)
            }
            Cause::Finished | Cause::NeverReady => self.quiet(kept, &side, stop).await,
        }
    }

    /// Nobody was answered: was it because they came early, or is nobody ever answered?
    async fn quiet(&self, kept: &mut Kept, side: &Side, stop: &mut watch::Receiver<bool>) -> Result<First, AuditError> {
        (self.show)(Progress::Doing(
            "nobody was answered: a start with hardly any clients".into(),
        ));
        let run = self.start(Way::Plain, u32::MAX, &Arrivals::Quiet, None, stop).await?;
        kept.quiet_ready = run.clients.iter().any(|client| client.first_answer().is_some());
        if kept.quiet_ready {
            return Ok(First::OnlySome);
        }
        if finding::never_answers(side) && run.clients.iter().all(|client| client.opened_at.is_none()) {
            return Ok(First::Over); // that is a finding
        }
        let seen = side.most(Zone::Race, |_| true);
        let seen: Vec<String> = seen
            .iter()
            .map(|(outcome, clients)| format!("{clients} × {}", outcome.name()))
            .collect();
        kept.not_measured = Some(format!(
            "no client was ever answered as expected ({}): check --url (its path), --message and --expect",
            text::list(&seen)
        ));
        Ok(First::Over)
    }

    async fn restarts(
        &self,
        signal: Signal,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Vec<RestartReport>, AuditError> {
        let manner = &self.options.manner;
        let count = self.options.clients.min(limits::AUDIT_RESTART_CLIENTS);
        (self.show)(Progress::Doing("a restart with clients connected".into()));
        let mut reports = Vec::new();
        reports.extend(restart::restart(&self.stage, manner, Way::Plain, signal, count, stop).await?);
        if self.options.compare && !*stop.borrow() {
            (self.show)(Progress::Doing("a restart behind greenroom".into()));
            let mut stage = Stage::new(self.stage.command.clone(), self.stage.gateway.clone());
            stage.gateway_flags.clone_from(&self.stage.gateway_flags);
            stage.gateway_flags.extend(["--restart", "always"].map(OsString::from));
            reports.extend(restart::restart(&stage, manner, Way::Greenroom, signal, count, stop).await?);
        }
        Ok(reports)
    }

    fn report(
        &self,
        kept: &Kept,
        restarts: Vec<RestartReport>,
        machine: Machine,
        interrupted: bool,
        began: u64,
    ) -> Report {
        let options = self.options;
        let patience = options.manner.judged_by();
        let plain = Side::of(&kept.plain, patience);
        let greenroom = options.compare.then(|| Side::of(&kept.greenroom, patience));
        let findings = match kept.not_measured {
            None => finding::findings(&plain, kept.quiet_ready),
            Some(_) => Vec::new(),
        };
        let behind = greenroom
            .as_ref()
            .map(|side| finding::findings(side, false))
            .unwrap_or_default();
        let verdict = match &kept.not_measured {
            Some(why) => Verdict::NotMeasured(why.clone()),
            None if plain.ready.is_none() && findings.is_empty() => {
                Verdict::NotMeasured("it was stopped before a run had come to its end".into())
            }
            None if findings.is_empty() => Verdict::Sound,
            None => Verdict::Race,
        };
        let met = options
            .fail_on
            .iter()
            .filter_map(|fail| fail.met(&plain, findings.len()));
        let measured = greenroom.as_ref().unwrap_or(&plain);
        let broken = options.budgets.iter().filter_map(|budget| budget.broken(measured));
        let failed_by = if matches!(verdict, Verdict::NotMeasured(_)) {
            Vec::new()
        } else {
            met.chain(broken).collect()
        };
        let [url, message, expect] = options.told.clone();
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: options
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            machine,
            settings: Settings {
                runs: options.runs,
                clients: options.clients,
                url,
                message,
                expect,
                patience_ns: patience.whole_ns,
                seed: options.seed,
                fail_on: options.fail_on.iter().map(|fail| fail.name()).collect(),
                greenroom: options.greenroom.clone(),
            },
            verdict,
            waits: strategy::compare(&plain.runs, &options.strategies),
            findings: findings.into_iter().map(Said::from).collect(),
            plain,
            greenroom_findings: behind.into_iter().map(Said::from).collect(),
            greenroom,
            restarts,
            failed_by,
            interrupted,
            took_ns: plan::nanos(clock::between(began, clock::now())),
        }
    }
}

/// What the first run means for the others.
enum First {
    /// Go on.
    Well,
    /// Do it once more.
    Again,
    /// It hangs when it is met: a few more show how often.
    OnlySome,
    /// There is nothing to be measured.
    Over,
}

/// Where to look in the next run: what the last ones showed.
fn scale(known: &Side) -> Option<Scale> {
    let last = known
        .runs
        .iter()
        .rev()
        .filter_map(|run| Some((run.edges.listen_after()?, run.edges.ready_after()?)));
    let last: Vec<(Interval, Interval)> = last.take(limits::AUDIT_SCALE_RUNS).collect();
    Scale::of(&last)
}

impl Report {
    /// The exit code: 0, 1 where a condition is met, 2 where nothing was measured.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::NotMeasured(_) => 2,
            Verdict::Sound | Verdict::Race => u8::from(!self.failed_by.is_empty()),
        }
    }
}
