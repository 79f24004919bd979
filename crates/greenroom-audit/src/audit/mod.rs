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
//! | [`plan`] | when clients come and speak |
//! | [`target`] | where they go, what they say and expect |
//! | [`run`], [`client`], `wire`, [`process`], [`launcher`], [`observe`], [`stall`] | nothing: they do, and measure |
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
//! | [`unmeasured`] | why nothing could be measured |
//! | [`report`] | the whole, as data |
//! | [`words`], [`tables`], [`diagram`], [`text`] | how it is told, once |
//! | [`terminal`], [`markdown`], [`html`] (with [`svg`]), [`junit`], [`sarif`] | nothing: they write it |

pub mod advice;
pub mod censored;
pub mod client;
pub mod condition;
pub mod crosstalk;
pub mod crowd;
pub mod diagram;
pub mod edges;
pub mod finding;
pub mod html;
pub mod judge;
pub mod junit;
pub mod lateness;
pub mod launcher;
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

use greenroom::config::units;
use greenroom::supervise::Signal;
use tokio::sync::watch;

use crate::{clock, limits};
use condition::{Budget, FailOn, Measured};
use edges::Zone;
use judge::{Outcome, is_served};
use launcher::{Launcher, PortError, Way};
use plan::{Dice, Scale};
use process::StartError;
use record::{Cause, Interval, RunRecord};
use report::{Machine, Report, SCHEMA, Said, Settings, Verdict};
use restarted::{RestartRecord, RestartReport};
use run::{Arrivals, Manner, Run};
use side::Side;
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

/// One start, for who wants all of it.
#[derive(Debug)]
pub struct Played {
    /// Of which side.
    pub way: Way,
    /// With hardly any clients.
    pub quiet: bool,
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
    let goes_on = !*stop.borrow() && kept.not_measured.is_none();
    if let Some(signal) = options.restart.filter(|_| goes_on) {
        auditor.restarts(signal, &mut kept, &mut stop).await;
    }
    let interrupted = *stop.borrow();
    let report = auditor.report(&kept, machine, interrupted, began);
    let played = |way, quiet| move |run| Played { way, quiet, run };
    let plain = kept.plain.into_iter().map(played(Way::Plain, false));
    let quiet = kept.quiet.into_iter().map(played(Way::Plain, true));
    let behind = kept.greenroom.into_iter().map(played(Way::Greenroom, false));
    Ok(Audited {
        report,
        runs: plain.chain(quiet).chain(behind).collect(),
        restarts: kept.restarts,
    })
}

/// What there is so far.
#[derive(Debug, Default)]
struct Kept {
    plain: Vec<RunRecord>,
    greenroom: Vec<RunRecord>,
    /// A start with hardly any clients, and whether it became ready, where those with many did not.
    quiet: Option<RunRecord>,
    quiet_ready: bool,
    not_measured: Option<String>,
    not_done: Vec<String>,
    restarts: Vec<RestartRecord>,
}

struct Auditor<'a> {
    options: &'a Options,
    launcher: Launcher,
    stalls: StallWatch,
    show: Show<'a>,
}

impl Auditor<'_> {
    async fn runs(&self, kept: &mut Kept, stop: &mut watch::Receiver<bool>) -> Result<(), AuditError> {
        let mut runs = self.options.runs;
        let mut number = 0;
        while number < runs && !*stop.borrow() {
            let known = self.known(kept);
            let arrivals = match scale(&known) {
                Some(scale) => {
                    let mut dice = Dice::new(self.options.seed, u64::from(number));
                    let clients = usize::try_from(self.options.clients).unwrap_or(usize::MAX);
                    Arrivals::At(plan::offsets(clients, scale, &mut dice))
                }
                None => Arrivals::Coarse,
            };
            let late = known.late_handler;
            let late = late.filter(|late| late.clients.seen() > limits::AUDIT_OFTEN);
            let late = late.map(|late| late.attached);
            let plain = self.start(Way::Plain, number, &arrivals, late, stop).await?;
            let cause = plain.cause.clone();
            // One that was cut short says little, and less than nothing beside whole ones; alone it is all that there is.
            if cause != Cause::Interrupted || kept.plain.is_empty() {
                kept.plain.push(plain);
            }
            if number == 0 {
                match self.first(kept, &cause, stop).await {
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

    /// What the last runs showed: enough to plan the next, and no more work the more there are.
    fn known(&self, kept: &Kept) -> Side {
        let from = kept.plain.len().saturating_sub(limits::AUDIT_SCALE_RUNS);
        Side::of(&kept.plain[from..], self.options.manner.judged_by())
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
        (self.show)(match arrivals {
            Arrivals::Quiet => Progress::Quiet {
                at_most: self.options.manner.start_timeout,
            },
            Arrivals::Coarse | Arrivals::At(_) => Progress::Run { way, number, of },
        });
        let manner = &self.options.manner;
        let port = self.launcher.port(&manner.target, way).await?;
        let run = Run {
            number,
            clients: self.options.clients,
            program: self.launcher.program(way, &manner.target, port.number),
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
    async fn first(&self, kept: &mut Kept, cause: &Cause, stop: &mut watch::Receiver<bool>) -> First {
        let side = Side::of(&kept.plain, self.options.manner.judged_by());
        let Some(run) = kept.plain.last() else {
            return First::Over;
        };
        let seen = side.most(Zone::Race, |_| true);
        let why = match cause {
            Cause::Finished if side.ready.is_some() => return First::Well,
            Cause::Interrupted if side.ready.is_some() => return First::Over,
            Cause::Interrupted => unmeasured::stopped(&seen),
            Cause::Ended(how) if side.ready.is_none() => {
                let shares = side.listen.is_some() || self.options.manner.target.port().is_some();
                if !shares && self.launcher.give_up() {
                    kept.plain.clear();
                    return First::Again; // it may be one that cannot share a port that is kept for it
                }
                unmeasured::ended(run, how)
            }
            Cause::Ended(_) => return First::Well,
            Cause::Finished | Cause::NeverReady if side.listen.is_none() => {
                unmeasured::nobody_listened(run, &units::show(self.options.manner.start_timeout))
            }
            Cause::Finished | Cause::NeverReady
                if self.options.manner.gives_up && unmeasured::always_the_same(&seen) =>
            {
                unmeasured::given_up(run, &seen)
            }
            // Whoever had an answer was another client: that is a finding.
            Cause::Finished | Cause::NeverReady if side.strays.is_some() => return First::Over,
            Cause::Finished | Cause::NeverReady => return self.quiet(kept, &side, stop).await,
        };
        kept.not_measured = Some(why);
        First::Over
    }

    /// Nobody was answered: was it because they came early, or is nobody ever answered?
    async fn quiet(&self, kept: &mut Kept, side: &Side, stop: &mut watch::Receiver<bool>) -> First {
        let number = self.options.runs; // none of the planned ones
        let run = match self.start(Way::Plain, number, &Arrivals::Quiet, None, stop).await {
            Ok(run) if run.cause != Cause::Interrupted => run,
            Ok(_) => {
                let why = "it was stopped before it was known whether anybody is ever answered";
                kept.not_measured = Some(why.into());
                return First::Over;
            }
            Err(error) => {
                kept.not_measured = Some(format!("nobody was answered, and there was no second start: {error}"));
                return First::Over;
            }
        };
        let patience = self.options.manner.judged_by();
        kept.quiet_ready = run.clients.iter().any(|client| is_served(client, patience));
        let nobody_opened = run.clients.iter().all(|client| client.opened_at.is_none());
        kept.quiet = Some(run);
        if kept.quiet_ready {
            return First::OnlySome;
        }
        if finding::never_answers(side) && nobody_opened {
            return First::Over; // that is a finding
        }
        let seen = side.most(Zone::Race, |_| true);
        kept.not_measured = kept.plain.last().map(|run| unmeasured::never_answered(run, &seen));
        First::Over
    }

    /// Restarts each side. What fails is told, and takes nothing of what there is.
    async fn restarts(&self, signal: Signal, kept: &mut Kept, stop: &mut watch::Receiver<bool>) {
        let mut behind = Launcher::new(self.launcher.command.clone(), self.launcher.gateway.clone());
        behind.gateway_flags.clone_from(&self.launcher.gateway_flags);
        behind.gateway_flags.extend(["--restart", "always"].map(OsString::from));
        let start = self
            .known(kept)
            .ready
            .map_or(Duration::ZERO, |ready| Duration::from_nanos(ready.typical.high_ns));
        let sides = [(Way::Plain, &self.launcher), (Way::Greenroom, &behind)];
        for (way, launcher) in sides.into_iter().take(1 + usize::from(self.options.compare)) {
            if *stop.borrow() {
                return;
            }
            let plan = restart::Plan {
                launcher,
                manner: &self.options.manner,
                way,
                signal,
                count: self.options.clients.min(limits::AUDIT_RESTART_CLIENTS),
                start,
            };
            match restart::restart(&plan, stop, self.show).await {
                Ok(record) => kept.restarts.extend(record),
                Err(error) => kept.not_done.push(match way {
                    Way::Plain => error.to_string(),
                    Way::Greenroom => format!("behind greenroom: {error}"),
                }),
            }
        }
    }

    fn report(&self, kept: &Kept, machine: Machine, interrupted: bool, began: u64) -> Report {
        let options = self.options;
        let patience = options.manner.judged_by();
        let plain = Side::of(&kept.plain, patience);
        let greenroom = options.compare.then(|| Side::of(&kept.greenroom, patience));
        let findings = match kept.not_measured {
            None => finding::findings(&plain, kept.quiet_ready),
            Some(_) => Vec::new(),
        };
        let verdict = Verdict::of(&plain, findings.len(), kept.not_measured.as_deref());
        let behind = greenroom.as_ref().map(finding::behind).unwrap_or_default();
        let measured = greenroom.as_ref().filter(|_| kept.not_measured.is_none());
        let greenroom_verdict = measured.map(|side| Verdict::of(side, behind.len(), None));
        let restarts: Vec<RestartReport> = kept
            .restarts
            .iter()
            .map(|record| RestartReport::of(record, patience))
            .collect();
        let mut sides = vec![(Way::Plain, &plain, findings.len())];
        sides.extend(greenroom.as_ref().map(|side| (Way::Greenroom, side, behind.len())));
        let measured = Measured {
            sides: &sides,
            restarts: &restarts,
        };
        let conditions = match verdict {
            Verdict::NotMeasured(_) => Vec::new(),
            Verdict::Sound | Verdict::Race => condition::met(&options.fail_on, &options.budgets, measured),
        };
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: options
                .command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            machine,
            settings: options.settings(),
            verdict,
            waits: strategy::compare(&plain.runs, &options.strategies),
            findings: Said::all(findings, Way::Plain),
            plain,
            greenroom_findings: Said::all(behind, Way::Greenroom),
            greenroom,
            greenroom_verdict,
            quiet: kept
                .quiet
                .as_ref()
                .and_then(|quiet| Side::of(std::slice::from_ref(quiet), patience).runs.pop()),
            restarts,
            failed_by: conditions.iter().map(|condition| condition.reason.clone()).collect(),
            conditions,
            not_done: kept.not_done.clone(),
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
