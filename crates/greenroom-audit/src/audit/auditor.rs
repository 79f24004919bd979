//! The order of an audit: which starts are made, one after the other, and with what in mind; then the restarts, and the report.
//!
//! It begins with a start of which nothing is known. Where nobody was answered in it, a *quiet* one follows, with hardly any
//! clients; where clients were failed as by load, [`super::control`] starts follow in the end.
//!
//! Bounds: the runs that are asked for, the first of them twice, a quiet start, and [`limits::AUDIT_CONTROL_STARTS`] of each side with one
//! more behind them.

use std::ffi::OsString;
use std::time::Duration;

use greenroom::config::units;
use greenroom::supervise::Signal;
use tokio::sync::watch;

use super::condition::{self, Measured};
use super::control::{self, Control, Next, Starts};
use super::edges::Zone;
use super::judge::is_served;
use super::launcher::{Launcher, Way};
use super::plan::{self, Dice, Scale};
use super::record::{Cause, Interval, RunRecord};
use super::report::{Machine, Report, SCHEMA, Said, Verdict};
use super::restart;
use super::restarted::{RestartRecord, RestartReport};
use super::run::{Arrivals, Run};
use super::side::Side;
use super::stall::StallWatch;
use super::{AuditError, Options, Progress, Show, finding, strategy, unmeasured};
use crate::{clock, limits};

/// What there is so far.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) plain: Vec<RunRecord>,
    pub(super) greenroom: Vec<RunRecord>,
    /// A start with hardly any clients, and whether it became ready, where those with many did not.
    pub(super) quiet: Option<RunRecord>,
    quiet_ready: bool,
    pub(super) plain_control: Controls,
    pub(super) greenroom_control: Controls,
    pub(super) not_measured: Option<String>,
    pub(super) not_done: Vec<String>,
    pub(super) restarts: Vec<RestartRecord>,
}

/// The control starts of one side, and what they show.
#[derive(Debug, Default)]
pub(super) struct Controls {
    runs: Vec<RunRecord>,
    /// With as many clients as before.
    again: Option<RunRecord>,
    told: Option<Control>,
}

/// Whether all was done that may tell something.
enum Known {
    Yes,
    No,
}

impl Controls {
    /// That some of these starts ended by themselves: they tell less.
    fn ended(&self) -> Option<String> {
        let how = |run: &RunRecord| match &run.cause {
            Cause::Ended(how) => Some(how.clone()),
            Cause::Finished | Cause::NeverReady | Cause::Interrupted => None,
        };
        let last = self.runs.iter().chain(&self.again).filter_map(how).next_back()?;
        Some(format!("a start that was made to tell ended by itself, {last}"))
    }

    pub(super) fn all(self) -> impl Iterator<Item = RunRecord> {
        self.runs.into_iter().chain(self.again)
    }
}

pub(super) struct Auditor<'a> {
    pub(super) options: &'a Options,
    pub(super) launcher: Launcher,
    pub(super) stalls: StallWatch,
    pub(super) show: Show<'a>,
}

/// A start that is to be made.
struct Asked {
    number: u32,
    clients: u32,
    arrivals: Arrivals,
    /// Where a handler was seen to be attached late.
    late: Option<Interval>,
}

impl Auditor<'_> {
    pub(super) async fn runs(&self, kept: &mut Kept, stop: &mut watch::Receiver<bool>) -> Result<(), AuditError> {
        let mut runs = self.options.runs;
        let mut number = 0;
        while number < runs && !*stop.borrow() {
            let asked = self.asked(kept, number, self.options.clients);
            let plain = self.planned(Way::Plain, &asked, stop).await?;
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
                let behind = self.planned(Way::Greenroom, &asked, stop).await?;
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

    /// A start with so many clients, who come where the last ones say that something may be seen.
    fn asked(&self, kept: &Kept, number: u32, clients: u32) -> Asked {
        let known = self.known(kept);
        let arrivals = match scale(&known) {
            Some(scale) => {
                let mut dice = Dice::new(self.options.seed, u64::from(number));
                let count = usize::try_from(clients).unwrap_or(usize::MAX);
                Arrivals::At(plan::offsets(count, scale, &mut dice))
            }
            None => Arrivals::Coarse,
        };
        let late = known.late_handler;
        let late = late.filter(|late| late.clients.seen() > limits::AUDIT_OFTEN);
        Asked {
            number,
            clients,
            arrivals,
            late: late.map(|late| late.attached),
        }
    }

    async fn planned(
        &self,
        way: Way,
        asked: &Asked,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<RunRecord, AuditError> {
        let (number, of) = (asked.number, self.options.runs);
        (self.show)(Progress::Run { way, number, of });
        self.start(way, asked, stop).await
    }

    async fn start(&self, way: Way, asked: &Asked, stop: &mut watch::Receiver<bool>) -> Result<RunRecord, AuditError> {
        let manner = &self.options.manner;
        let port = self.launcher.port(&manner.target, way).await?;
        let run = Run {
            number: asked.number,
            clients: asked.clients,
            program: self.launcher.program(way, &manner.target, port.number),
            port: port.number,
            notify: way == Way::Plain,
            arrivals: asked.arrivals.clone(),
            late: asked.late,
            dice: Dice::new(self.options.seed, u64::from(asked.number) + (1 << 32)),
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
        (self.show)(Progress::Quiet {
            at_most: self.options.manner.start_timeout,
        });
        let asked = Asked {
            number: self.options.runs, // none of the planned ones
            clients: self.options.clients,
            arrivals: Arrivals::Quiet,
            late: None,
        };
        let run = match self.start(Way::Plain, &asked, stop).await {
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

    /// Where clients of a side were failed as by load: is it because many came?
    pub(super) async fn controls(&self, kept: &mut Kept, stop: &mut watch::Receiver<bool>) {
        for way in [Way::Plain, Way::Greenroom] {
            let mut controls = Controls::default();
            let not_done = match self.control(way, kept, &mut controls, stop).await {
                Err(error) => Some(error.to_string()),
                Ok(Known::No) => Some("it was stopped before that was known".into()),
                Ok(Known::Yes) => controls.ended(),
            };
            let whose = match way {
                Way::Plain => "",
                Way::Greenroom => "behind greenroom, ",
            };
            let what = "whether clients are failed because many come";
            kept.not_done
                .extend(not_done.map(|why| format!("{whose}{what}: {why}")));
            match way {
                Way::Plain => kept.plain_control = controls,
                Way::Greenroom => kept.greenroom_control = controls,
            }
        }
    }

    /// The control starts of one side, as long as they may tell something.
    async fn control(
        &self,
        way: Way,
        kept: &Kept,
        controls: &mut Controls,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Known, AuditError> {
        let runs = kept.of(way);
        let patience = self.options.manner.judged_by();
        let many = Starts::with_many(runs, patience);
        let is_measured = way == Way::Greenroom || Side::of(runs, patience).ready.is_some();
        let fewest = runs.iter().map(|run| run.clients.len()).min().unwrap_or(0);
        let fewest = u32::try_from(fewest).unwrap_or(u32::MAX).min(self.options.clients);
        let Some(each) = control::clients_of(fewest) else {
            return Ok(Known::Yes);
        };
        if !is_measured || runs.len() < limits::AUDIT_CONTROL_RUNS {
            return Ok(Known::Yes);
        }
        loop {
            let told = Control::of(&many, &Starts::with_few(&controls.runs, patience));
            let next = told.next(each);
            let done = u32::try_from(told.starts).unwrap_or(u32::MAX);
            controls.told = (done > 0).then_some(told);
            let clients = match next {
                Next::Few => each,
                Next::Again => self.options.clients,
                Next::Over => return Ok(Known::Yes),
            };
            if *stop.borrow() {
                return Ok(Known::No);
            }
            (self.show)(Progress::Control { way, done, clients });
            let number = self.options.runs.saturating_add(1).saturating_add(done);
            let asked = self.asked(kept, number, clients);
            let run = self.start(way, &asked, stop).await?;
            if run.cause == Cause::Interrupted {
                return Ok(Known::No);
            }
            if next == Next::Few {
                controls.runs.push(run);
                continue;
            }
            let again = Starts::with_few(std::slice::from_ref(&run), patience);
            controls.told = controls.told.take().map(|told| told.and_again(&again));
            controls.again = Some(run);
            return Ok(Known::Yes);
        }
    }

    /// Restarts each side. What fails is told, and takes nothing of what there is.
    pub(super) async fn restarts(&self, signal: Signal, kept: &mut Kept, stop: &mut watch::Receiver<bool>) {
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

    pub(super) fn report(&self, kept: &Kept, machine: Machine, interrupted: bool, began: u64) -> Report {
        let options = self.options;
        let patience = options.manner.judged_by();
        let plain = Side::of(&kept.plain, patience);
        let greenroom = options.compare.then(|| Side::of(&kept.greenroom, patience));
        let findings = match kept.not_measured {
            None => finding::findings(&plain, kept.quiet_ready, kept.plain_control.told.as_ref()),
            Some(_) => Vec::new(),
        };
        let verdict = Verdict::of(&plain, findings.len(), kept.not_measured.as_deref());
        let control = kept.greenroom_control.told.as_ref();
        let behind = greenroom.as_ref().map(|side| finding::behind(side, control));
        let behind = behind.unwrap_or_default();
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
            control: kept.plain_control.told.clone(),
            greenroom_control: kept.greenroom_control.told.clone(),
            restarts,
            failed_by: conditions.iter().map(|condition| condition.reason.clone()).collect(),
            conditions,
            not_done: kept.not_done.clone(),
            interrupted,
            took_ns: plan::nanos(clock::between(began, clock::now())),
        }
    }
}

impl Kept {
    fn of(&self, way: Way) -> &[RunRecord] {
        match way {
            Way::Plain => &self.plain,
            Way::Greenroom => &self.greenroom,
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
