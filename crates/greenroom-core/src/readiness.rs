//! Decides for whom a backend is ready: its own signal, its phases and its checks, put together.
//!
//! ```text
//!  notify, verdicts, exits ──▶ backend ──signal──┐
//!  reports ──────────────────▶ phases ──────────┼─▶ needs ──▶ gate: ready for these, not for those
//!  verdicts of checks ───────▶ checks ── level ──┘
//! ```
//!
//! A *need* is what a route asks of its backend. By itself it is the backend's signal
//! and all its critical checks. A route that names what it requires gets in as soon as
//! that is there: with checks only, also the signal; with a phase among them, that phase
//! is the backend's word that it can be talked to.
//!
//! A start fails when a phase overruns, or the backend, or its end, says so. Where the process
//! is ours it is ended, and who is held stays until it is known whether another life follows.
//!
//! Pure: the shell calls [`Readiness::handle`] and [`Readiness::handle_timeout`], then drains
//! [`Readiness::poll_output`], and comes back at [`Readiness::poll_timeout`]. Bounded by
//! `PHASES_MAX`, `CHECKS_MAX` and `NEEDS_MAX`; outputs by what one input can change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{self, Backend, Condition, Source};
use crate::check::{self, Check, Level};
use crate::event::Generation;
use crate::gate::Trust;
use crate::limits::STOPPING_MAX;
use crate::phase::{self, Failure, Phases, Reason, Step};
use crate::time::Time;

/// What happens to clients of a route while its backend is ready but degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenDegraded {
    /// They are let in.
    #[default]
    Serve,
    /// They wait.
    Hold,
    /// They are refused at once.
    Refuse,
}

/// One thing that a route requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// A check is good.
    Check(usize),
    /// A phase is past.
    Phase(usize),
}

/// What a route needs to let somebody in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Need {
    /// These; `None`: the backend's signal and all its critical checks.
    pub require: Option<Vec<Item>>,
    /// While optional checks are bad.
    pub degraded: WhenDegraded,
}

/// A set of needs, by index: at most `NEEDS_MAX` of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs(pub u64);

impl Needs {
    /// All there can be.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether this one is in it.
    #[must_use]
    pub const fn has(self, need: usize) -> bool {
        need < 64 && self.0 & (1 << need) != 0
    }

    /// With this one in it.
    #[must_use]
    pub const fn with(self, need: usize) -> Self {
        if need < 64 { Self(self.0 | 1 << need) } else { self }
    }

    /// Whether there is none in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// How a backend is to be judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its signal comes from.
    pub source: Source,
    /// Whether its process is started, and ended, by us.
    pub is_ours: bool,
    /// Its phases, in order.
    pub phases: Arc<[phase::Rule]>,
    /// Its checks.
    pub checks: Arc<[check::Rule]>,
    /// What its routes need; the first is the need of routes without a wish.
    pub needs: Arc<[Need]>,
}

impl Plan {
    /// A backend with the default phases and nothing else.
    #[must_use]
    pub fn plain(source: Source, is_ours: bool) -> Self {
        Self {
            source,
            is_ours,
            phases: phase::Rule::defaults().into(),
            checks: Arc::new([]),
            needs: Arc::new([Need::default()]),
        }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something about the signal itself, or about the process.
    Backend(backend::Input),
    /// The phase of this name is finished; `ready`, `complete`, `failed` and `stopping` mean what they say.
    Phase(Generation, Box<str>),
    /// The start has failed.
    Failed(Generation, Reason),
    /// The current phase may last so much longer.
    Extend(Generation, Duration),
    /// A verdict of a check, from a look that began in this generation.
    Check {
        /// Which check.
        index: usize,
        /// In which life of the backend the look began; counts only where the check proves a phase.
        generation: Generation,
        /// What it showed.
        good: bool,
    },
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The gate is to be told for whom the backend is ready, and whom it refuses meanwhile.
    Needs {
        /// Those that may be let in.
        met: Needs,
        /// Those that are refused, as the backend is degraded.
        refused: Needs,
    },
    /// The gate is to be told that the backend is ready, as far as this is believed.
    Ready(Trust),
    /// The gate is to be told that it is not.
    NotReady,
    /// The gate is to be told that it is gone for good, or its start has failed.
    Failed,
    /// A new start begins.
    Begun,
    /// A phase was reported or proved.
    Phase {
        /// Which.
        index: usize,
        /// What that has changed.
        step: Step,
    },
    /// A phase was reported that the backend does not have.
    NoSuchPhase(Box<str>),
    /// The start has failed.
    StartFailed(Failure),
    /// The process is ours, and is to be ended for that.
    EndProcess,
    /// A check has become good or bad.
    Check {
        /// Which.
        index: usize,
        /// What it is now.
        state: check::State,
    },
    /// More or less is missing than before.
    Level(Level),
}

/// See the module's head.
#[derive(Debug)]
pub struct Readiness {
    plan: Plan,
    backend: Backend,
    phases: Phases,
    checks: Box<[Check]>,
    /// The backend's signal, as far as it is believed.
    signal: Option<Trust>,
    /// It was found away, or said that it stops, and reached no phase since: those that it reached are no
    /// word to go by.
    away: bool,
    /// It said that it stops, and was not seen away since: until then good looks at it are of who stops.
    stopping_until: Time,
    /// What the gate was told last.
    told: Option<Trust>,
    met: Needs,
    refused: Needs,
    /// The first need is met, which is that of routes without a wish.
    whole: bool,
    level: Level,
    outputs: VecDeque<Output>,
}

impl Readiness {
    /// Of a backend of which nothing is known yet.
    #[must_use]
    pub fn new(plan: Plan, now: Time) -> Self {
        let checks = vec![Check::default(); plan.checks.len()].into();
        let mut readiness = Self {
            backend: Backend::new(plan.source),
            phases: Phases::new(Arc::clone(&plan.phases), now),
            checks,
            signal: None,
            away: false,
            stopping_until: Time::ZERO,
            told: None,
            met: Needs::default(),
            refused: Needs::default(),
            whole: false,
            level: Level::None,
            outputs: VecDeque::new(),
            plan,
        };
        readiness.level = readiness.level_now();
        readiness
    }

    /// Takes one input. Drain [`Readiness::poll_output`] before the next.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Backend(input) => self.signal(now, input),
            Input::Phase(generation, name) => self.report(now, generation, &name),
            Input::Failed(generation, reason) => self.fail(generation, reason),
            Input::Extend(generation, by) => {
                if generation == self.backend.generation() {
                    self.phases.extend(now, by);
                }
            }
            Input::Check {
                index,
                generation,
                good,
            } => {
                if !self.verdict(now, index, generation, good) {
                    return; // as most of them: there may be thousands in a second
                }
            }
        }
        self.put_together();
    }

    /// Takes the passing of time: a phase may have lasted too long.
    pub fn handle_timeout(&mut self, now: Time) {
        let reason = self.phases.overrun(now).filter(|_| self.is_timed());
        if let Some(reason) = reason {
            self.fail(self.backend.generation(), reason);
            self.put_together();
        }
    }

    /// When [`Readiness::handle_timeout`] is next due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.phases.deadline().filter(|_| self.is_timed())
    }

    /// What follows, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Where the backend is in its life, as far as its own signal goes.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.backend.condition()
    }

    /// Which life of it.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.backend.generation()
    }

    /// Whether a verdict of the backend's own probe is wanted now.
    #[must_use]
    pub fn wants_verdict(&self) -> bool {
        self.backend.wants_verdict() && !self.is_ending()
    }

    /// Whether anybody may be let in.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.told.is_some()
    }

    /// Whether it is ready: its signal and all critical checks are there, so that whoever has no wish of their own is let in.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Its phases.
    #[must_use]
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Its checks, each with its rule.
    pub fn checks(&self) -> impl Iterator<Item = (&check::Rule, &Check)> {
        self.plan.checks.iter().zip(&self.checks)
    }

    /// How much is missing of its optional checks.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether its phases have their time: who still stops has not begun to start.
    fn is_timed(&self) -> bool {
        self.is_there() && self.stopping_until == Time::ZERO
    }

    /// Whether its process is there, or may be: that of somebody else always may.
    fn is_there(&self) -> bool {
        !self.plan.is_ours || self.backend.generation() > Generation(0) && !self.backend.is_over()
    }

    /// Whether its process is ours, and is ended as its start has failed: there is nothing to look for.
    fn is_ending(&self) -> bool {
        self.plan.is_ours && self.phases.failure().is_some()
    }

    fn signal(&mut self, now: Time, input: backend::Input) {
        let was_stopping = self.stopping_until != Time::ZERO;
        if self.is_of_who_stops(now, input) {
            return;
        }
        let before = self.backend.condition();
        let generation = self.backend.generation();
        let output = self.backend.handle(input);
        if let (backend::Input::Exited { code, .. }, Some(backend::Output::Failed)) = (input, output) {
            let is_news = self.phases.failure().is_none();
            let failure = self.phases.fail(Reason::Exited(code)).clone();
            if is_news {
                self.outputs.push_back(Output::StartFailed(failure));
            }
        }
        let is_new_life = self.backend.generation() != generation;
        let was_stopping = was_stopping && self.stopping_until == Time::ZERO;
        // Of what somebody else starts nothing says that it starts again but that it is away, or tries.
        let is_new_start = !self.plan.is_ours
            && self.backend.condition() == Condition::Starting
            && (before != Condition::Starting || matches!(input, backend::Input::NotifiedStopping(_)));
        let is_back = before == Condition::Failed && self.backend.condition() != Condition::Failed;
        if is_back {
            self.outputs.push_back(Output::NotReady); // whoever comes may wait again, ready or not
        }
        // The start of what somebody else starts begins when it was seen away.
        let is_away = was_stopping
            && !self.plan.is_ours
            && matches!(input, backend::Input::Verdict(_, false) | backend::Input::Unreachable);
        if is_new_life || is_new_start || is_back || is_away {
            self.begin(now);
        }
        match output {
            Some(backend::Output::Ready(trust)) => {
                self.signal = Some(trust);
                self.away = false;
                self.told = None; // said again: the gate knows whether it matters
                match trust {
                    Trust::Pushed => self.phases.complete(now),
                    Trust::Inferred if !self.phases.is_reported() => self.phases.assume(now),
                    Trust::Inferred => {}
                }
            }
            Some(backend::Output::NotReady) => {
                self.signal = None;
                self.away |= !matches!(input, backend::Input::NotifiedPhase(_));
            }
            Some(backend::Output::Failed) => {
                self.signal = None;
                self.told = None;
                self.outputs.push_back(Output::Failed);
            }
            None => {}
        }
    }

    /// Whether this is a good look at a backend that has just said it stops: it is there still, and will not be.
    fn is_of_who_stops(&mut self, now: Time, input: backend::Input) -> bool {
        match input {
            // Of an earlier life: it counts for nothing.
            backend::Input::NotifiedReady(generation)
            | backend::Input::NotifiedStopping(generation)
            | backend::Input::NotifiedPhase(generation)
            | backend::Input::StartFailed(generation)
            | backend::Input::Verdict(generation, _)
            | backend::Input::Exited { generation, .. }
                if generation != self.backend.generation() => {}
            backend::Input::Verdict(_, true) => return now < self.stopping_until,
            backend::Input::NotifiedStopping(_) => self.stopping_until = now + STOPPING_MAX,
            backend::Input::Started(_)
            | backend::Input::NotifiedReady(_)
            | backend::Input::NotifiedPhase(_)
            | backend::Input::StartFailed(_)
            | backend::Input::Verdict(_, false)
            | backend::Input::Unreachable
            | backend::Input::Exited { .. } => self.stopping_until = Time::ZERO,
            backend::Input::RelayLost | backend::Input::Restarting => {} // so do who stop
        }
        false
    }

    /// A new start: the phases, and the checks that prove one, begin anew.
    fn begin(&mut self, now: Time) {
        self.phases.begin(now);
        for (rule, check) in self.plan.checks.iter().zip(&mut self.checks) {
            if rule.phase.is_some() {
                *check = Check::default();
            }
        }
        self.outputs.push_back(Output::Begun);
        self.weigh();
    }

    fn report(&mut self, now: Time, generation: Generation, name: &str) {
        if generation != self.backend.generation() || !self.is_there() {
            return;
        }
        match name {
            "ready" | "complete" => self.signal(now, backend::Input::NotifiedReady(generation)),
            "stopping" => self.signal(now, backend::Input::NotifiedStopping(generation)),
            "failed" => self.fail(generation, Reason::Said("the server said so".into())),
            name => match self.phases.find(name) {
                Some(index) => self.reported(now, generation, index),
                None => self.outputs.push_back(Output::NoSuchPhase(name.into())),
            },
        }
    }

    fn reported(&mut self, now: Time, generation: Generation, index: usize) {
        self.signal(now, backend::Input::NotifiedPhase(generation));
        self.phases.take_back(now); // they were passed over because it listens
        let had_said_all = self.phases.has_said_all();
        let step = self.phases.report(now, index);
        self.stepped(index, step);
        // A check may have found the last phase finished before: that was not the backend's word.
        let was_last = !had_said_all && self.phases.has_said_all();
        let speaks_for_itself = match self.plan.source {
            Source::Auto | Source::Notify => true,
            Source::Probe(_) => false,
        };
        if was_last && speaks_for_itself {
            self.signal(now, backend::Input::NotifiedReady(generation));
        }
    }

    fn stepped(&mut self, index: usize, step: Step) {
        self.away &= !matches!(step, Step::Forward { .. });
        self.outputs.push_back(Output::Phase { index, step });
    }

    fn fail(&mut self, generation: Generation, reason: Reason) {
        let is_known = self.phases.failure().is_some() || self.backend.condition() == Condition::Failed;
        if generation != self.backend.generation() || !self.is_there() || is_known {
            return;
        }
        self.stopping_until = Time::ZERO;
        let failure = self.phases.fail(reason).clone();
        self.outputs.push_back(Output::StartFailed(failure));
        if self.plan.is_ours {
            // Whatever this life still says, nobody is let in to it; whether another follows is known when it is over.
            self.outputs.push_back(Output::EndProcess);
        } else if self.backend.handle(backend::Input::StartFailed(generation)).is_some() {
            self.signal = None;
            self.told = None;
            self.outputs.push_back(Output::Failed);
        }
    }

    /// Whether it has changed anything.
    fn verdict(&mut self, now: Time, index: usize, generation: Generation, good: bool) -> bool {
        let is_of_this_life = generation == self.backend.generation() && self.is_there();
        let (Some(rule), Some(check)) = (self.plan.checks.get(index), self.checks.get_mut(index)) else {
            return false;
        };
        // What an earlier life has shown, or one that is over, proves no phase of this one.
        if rule.phase.is_some() && !is_of_this_life {
            return false;
        }
        if !check.take(rule, good) {
            return false;
        }
        let (state, phase) = (check.state(), rule.phase);
        self.outputs.push_back(Output::Check { index, state });
        if let (check::State::Good, Some(phase)) = (state, phase) {
            match self.phases.finish(now, phase) {
                step @ Step::Forward { .. } => self.stepped(phase, step),
                Step::Late | Step::Repeated | Step::TooLate => {}
            }
        }
        self.weigh();
        true
    }

    /// What is missing of it now.
    fn weigh(&mut self) {
        let level = self.level_now();
        if level != self.level {
            self.level = level;
            self.outputs.push_back(Output::Level(level));
        }
    }

    fn level_now(&self) -> Level {
        Level::of_checks(self.checks())
    }

    /// What routes need from now on. The first ones are those of before, so that who waits is known by the same index.
    pub fn set_needs(&mut self, needs: Arc<[Need]>) {
        debug_assert!(needs.starts_with(&self.plan.needs));
        self.plan.needs = needs;
        self.put_together();
    }

    /// Tells the gate what has changed for it.
    fn put_together(&mut self) {
        let (mut met, mut refused) = (Needs::default(), Needs::default());
        if self.backend.condition() != Condition::Failed && self.phases.failure().is_none() {
            for (index, need) in self.plan.needs.iter().enumerate() {
                match self.judge(need) {
                    Some(true) => met = met.with(index),
                    Some(false) => refused = refused.with(index),
                    None => {}
                }
            }
        }
        self.whole = met.has(0);
        if met.is_empty() && self.told.take().is_some() {
            self.outputs.push_back(Output::NotReady);
        }
        // While it is ready for nobody the gate is shut: it keeps what it knew, and nobody moves for it.
        let is_worth_telling = !met.is_empty() || refused != self.refused;
        if is_worth_telling && (met, refused) != (self.met, self.refused) {
            (self.met, self.refused) = (met, refused);
            self.outputs.push_back(Output::Needs { met, refused });
        }
        // Without a signal it is the backend's own report of a phase that lets somebody in.
        let trust = self.signal.unwrap_or(Trust::Pushed);
        if !met.is_empty() && self.told != Some(trust) {
            self.told = Some(trust);
            self.outputs.push_back(Output::Ready(trust));
        }
    }

    /// Whether who needs this may go in (`true`), is refused (`false`), or waits.
    fn judge(&self, need: &Need) -> Option<bool> {
        let good = |check: &Check| check.state() == check::State::Good;
        // Who reports its phases has not finished because it listens already.
        let signal = match self.signal {
            Some(Trust::Pushed) => true,
            Some(Trust::Inferred) => !self.phases.is_reported() || self.phases.is_complete(),
            None => false,
        };
        let is_there = match &need.require {
            None => signal && self.checks().all(|(rule, check)| !rule.critical || good(check)),
            Some(items) => {
                let speaks = items.iter().any(|item| matches!(item, Item::Phase(_)));
                let has = |item: &Item| match *item {
                    Item::Check(index) => self.checks.get(index).is_some_and(good),
                    Item::Phase(index) => self.phases.is_past(index),
                };
                (signal || speaks && !self.away) && items.iter().all(has)
            }
        };
        if !is_there || self.level == Level::None {
            return is_there.then_some(true);
        }
        let is_known = |(rule, check): (&check::Rule, &Check)| rule.critical || check.state() != check::State::Unknown;
        match need.degraded {
            WhenDegraded::Serve => Some(true),
            WhenDegraded::Hold => None,
            // Who is refused does not come back soon: not before all is known.
            WhenDegraded::Refuse => self.checks().all(is_known).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests;
