//! What follows from what the machine was told, worked out a second time.
//!
//! A model keeps facts, and no states: which phases were named in this start, how many verdicts
//! of a check came in a row, whose word counts. From these it says for whom the backend is ready.
//! It shares nothing with the core but the words for what is told and for what is asked; the core
//! must come to the same after each step (see `judge`).

use std::sync::Arc;

use greenroom_core::backend::{self, Source};
use greenroom_core::check::State;
use greenroom_core::event::Generation;
use greenroom_core::gate::Trust;
use greenroom_core::limits::STOPPING_MAX;
use greenroom_core::readiness::{Input, Item, Need, Needs, Plan, WhenDegraded};
use greenroom_core::time::Time;

/// The verdicts of one check.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    last: Option<bool>,
    in_a_row: u32,
    state: State,
}

impl Run {
    fn add(&mut self, good: bool, rise: u32, fall: u32) {
        self.in_a_row = if self.last == Some(good) { self.in_a_row + 1 } else { 1 };
        self.last = Some(good);
        let is_first_bad = !good && self.state == State::Unknown;
        if good && self.in_a_row >= rise {
            self.state = State::Good;
        } else if !good && self.in_a_row >= fall || is_first_bad {
            self.state = State::Bad;
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Model {
    plan: Plan,
    pub(crate) generation: Generation,
    /// Its process is there, or may be: somebody else's always may.
    pub(crate) there: bool,
    /// It is given up: nothing follows, or its start has failed and is not ours.
    pub(crate) failed: bool,
    /// This start has failed.
    pub(crate) start_failed: bool,
    /// A process of ours is to be ended, and nobody was asked to yet.
    pub(crate) to_end: bool,
    /// What it is believed to be ready on.
    signal: Option<Trust>,
    notifies: bool,
    doubted: bool,
    /// One verdict counts although it is ready.
    looking: bool,
    /// It was not seen away since it failed.
    stale: bool,
    /// It was found away, or said that it stops, and has said nothing new since.
    away: bool,
    /// It said that it stops, and was not seen away since.
    stops_until: Time,
    /// How many starts there were.
    pub(crate) starts: u64,
    /// The phases that somebody has named in this start.
    named: Vec<bool>,
    /// The backend itself has named one, and the last.
    reported: bool,
    named_last: bool,
    /// All are over: as it said READY, or as it seems to be.
    whole: Option<Trust>,
    /// The first that is not over, since when, and how long it may at least last.
    current: usize,
    since: Time,
    extended: Time,
    runs: Vec<Run>,
}

impl Model {
    pub(crate) fn new(plan: Plan, now: Time) -> Self {
        Self {
            generation: Generation(0),
            there: !plan.is_ours,
            failed: false,
            start_failed: false,
            to_end: false,
            signal: None,
            notifies: plan.source == Source::Notify,
            doubted: false,
            looking: false,
            stale: false,
            away: false,
            stops_until: Time::ZERO,
            starts: 0,
            named: vec![false; plan.phases.len()],
            reported: false,
            named_last: false,
            whole: None,
            current: 0,
            since: now,
            extended: Time::ZERO,
            runs: vec![Run::default(); plan.checks.len()],
            plan,
        }
    }

    /// The machine is told this.
    pub(crate) fn tell(&mut self, now: Time, input: &Input) {
        self.notifies |= self.is_ending() && self.is_its_word(input);
        match input {
            Input::Backend(input) => self.hear(now, *input),
            Input::Phase(generation, name) if self.hears(*generation) => match &**name {
                "ready" | "complete" => self.says_ready(now),
                "stopping" => self.says_stopping(now),
                "failed" => self.fails(),
                name => {
                    if let Some(index) = self.plan.phases.iter().position(|rule| &*rule.name == name) {
                        self.reports(now, index);
                    }
                }
            },
            Input::Failed(generation, _) if self.hears(*generation) => self.fails(),
            Input::Extend(generation, by) if self.hears(*generation) => self.extended = self.extended.max(now + *by),
            Input::Check {
                index,
                generation,
                good,
            } => self.verdict(*index, *generation, *good),
            Input::Phase(..) | Input::Failed(..) | Input::Extend(..) => {} // of an earlier life, or too late
        }
        self.moved(now);
    }

    /// Time has passed.
    pub(crate) fn pass(&mut self, now: Time) {
        if self.overruns().is_some_and(|at| at <= now) {
            self.fails();
        }
    }

    /// When the current phase has lasted too long.
    pub(crate) fn overruns(&self) -> Option<Time> {
        let timeout = self.plan.phases.get(self.current)?.timeout?;
        let runs = self.there && !self.start_failed && self.stops_until == Time::ZERO;
        runs.then_some((self.since + timeout).max(self.extended))
    }

    /// Whether a word of that life counts now.
    pub(crate) fn hears(&self, generation: Generation) -> bool {
        generation == self.generation && self.there && !self.is_ending()
    }

    /// The process speaks, whatever it says: from then on its word counts, also in its next life.
    fn is_its_word(&self, input: &Input) -> bool {
        use backend::Input::{NotifiedReady, NotifiedStopping};
        let is_known = |name: &str| self.plan.phases.iter().any(|rule| &*rule.name == name);
        let generation = match input {
            Input::Backend(NotifiedReady(generation) | NotifiedStopping(generation)) => *generation,
            Input::Phase(generation, name) if matches!(&**name, "ready" | "complete" | "stopping") => *generation,
            Input::Phase(generation, name) if is_known(name) && self.speaks_for_itself() => *generation,
            _ => return false,
        };
        self.there && generation == self.generation
    }

    fn speaks_for_itself(&self) -> bool {
        !matches!(self.plan.source, Source::Probe(_))
    }

    /// It is ours, and ends because its start has failed.
    fn is_ending(&self) -> bool {
        self.plan.is_ours && self.start_failed
    }

    fn hear(&mut self, now: Time, input: backend::Input) {
        let away = self.failed && self.there;
        match input {
            backend::Input::Started(generation) if generation > self.generation => {
                self.generation = generation;
                (self.there, self.failed, self.doubted) = (true, false, false);
                self.stops_until = Time::ZERO;
                self.loses();
                self.begins(now);
            }
            backend::Input::Exited {
                generation, restarts, ..
            } if generation == self.generation => {
                self.there = false;
                self.stops_until = Time::ZERO;
                self.loses();
                self.failed = !restarts;
                self.start_failed |= !restarts;
            }
            backend::Input::NotifiedReady(generation) if self.hears(generation) => self.says_ready(now),
            backend::Input::NotifiedStopping(generation) if self.hears(generation) => self.says_stopping(now),
            backend::Input::Verdict(generation, good) if self.hears(generation) => self.looked_at(now, good),
            backend::Input::RelayLost if away => self.stale = false,
            backend::Input::Unreachable | backend::Input::Restarting if away => self.stale = false,
            backend::Input::RelayLost => self.looking |= self.signal.is_some(),
            backend::Input::Unreachable if self.hears(self.generation) => self.is_doubted(now),
            backend::Input::Restarting if self.signal.is_some() => self.is_doubted(now),
            _ => {} // of an earlier life, too late, or known
        }
    }

    fn looked_at(&mut self, now: Time, good: bool) {
        if good && now < self.stops_until {
            return; // of who stops
        }
        if !good {
            self.is_away(now);
        }
        self.stops_until = Time::ZERO;
        let counts = self.looking || self.worth().is_some();
        match (self.signal, good) {
            (None, false) => self.stale = false,
            (None, true) => {
                if let Some(trust) = self.worth().filter(|_| !self.failed || !self.stale) {
                    self.is_ready(now, trust);
                }
            }
            (Some(_), true) => self.looking = false,
            (Some(_), false) if counts => self.is_doubted(now),
            (Some(_), false) => {}
        }
    }

    /// What a good look is worth: nothing, where the backend speaks for itself and its word held.
    fn worth(&self) -> Option<Trust> {
        match self.plan.source {
            Source::Probe(trust) => Some(if self.doubted { Trust::Inferred } else { trust }),
            Source::Auto | Source::Notify => (!self.notifies || self.doubted).then_some(Trust::Inferred),
        }
    }

    /// Whether somebody has to look, or it is never found.
    pub(crate) fn wants_look(&self) -> bool {
        let looks = self.signal.is_none() && self.worth().is_some() || self.looking;
        self.hears(self.generation) && looks
    }

    fn is_ready(&mut self, now: Time, trust: Trust) {
        if self.failed {
            self.begins(now);
        }
        (self.failed, self.looking, self.away) = (false, false, false);
        self.signal = Some(trust);
        match trust {
            Trust::Pushed => self.whole = Some(Trust::Pushed),
            Trust::Inferred if !self.reported => self.whole = self.whole.or(Some(Trust::Inferred)),
            Trust::Inferred => {}
        }
    }

    fn says_ready(&mut self, now: Time) {
        self.stops_until = Time::ZERO;
        (self.notifies, self.doubted) = (true, false);
        self.is_ready(now, Trust::Pushed);
    }

    fn says_stopping(&mut self, now: Time) {
        (self.notifies, self.doubted) = (true, false);
        self.loses();
        self.failed = false;
        self.stops_until = now + STOPPING_MAX;
        if !self.plan.is_ours {
            self.begins(now); // what follows is a new start, as nobody says more
        }
    }

    /// What somebody else starts begins to start when it was seen away.
    fn is_away(&mut self, now: Time) {
        let stopped = std::mem::take(&mut self.stops_until) != Time::ZERO;
        if stopped && !self.plan.is_ours && !self.failed {
            self.begins(now);
        }
    }

    fn is_doubted(&mut self, now: Time) {
        self.is_away(now);
        self.doubted = true;
        let was_ready = self.signal.is_some();
        self.loses();
        if !self.plan.is_ours && was_ready {
            self.begins(now);
        }
    }

    fn loses(&mut self) {
        (self.signal, self.looking, self.away) = (None, false, true);
    }

    fn reports(&mut self, now: Time, index: usize) {
        self.stops_until = Time::ZERO;
        let speaks = self.speaks_for_itself();
        if self.failed {
            (self.failed, self.signal) = (false, None);
            self.begins(now); // it tries again
        } else if self.signal == Some(Trust::Inferred) && speaks {
            (self.signal, self.looking) = (None, false);
            if !self.plan.is_ours {
                self.begins(now);
            }
        }
        self.notifies |= speaks;
        if self.whole == Some(Trust::Inferred) {
            self.whole = None; // it only seemed so
        }
        self.reported = true;
        let is_last = index + 1 == self.named.len() && !self.named_last && self.whole.is_none();
        self.named_last |= is_last;
        self.names(index);
        if is_last && speaks {
            self.says_ready(now);
        }
    }

    /// A phase is named; where the start goes on by that, the backend is there.
    fn names(&mut self, index: usize) {
        self.away &= self.is_past(index);
        self.named[index] = true;
    }

    fn fails(&mut self) {
        if self.failed || self.start_failed {
            return;
        }
        self.stops_until = Time::ZERO;
        self.start_failed = true;
        if self.plan.is_ours {
            self.to_end = true;
            self.loses();
        } else {
            (self.failed, self.stale, self.signal, self.looking) = (true, true, None, false);
        }
    }

    fn begins(&mut self, now: Time) {
        self.starts += 1;
        self.named.fill(false);
        (self.reported, self.named_last) = (false, false);
        (self.whole, self.start_failed) = (None, false);
        (self.current, self.since, self.extended) = (0, now, Time::ZERO);
        for (rule, run) in self.plan.checks.iter().zip(&mut self.runs) {
            if rule.phase.is_some() {
                *run = Run::default();
            }
        }
    }

    fn verdict(&mut self, index: usize, generation: Generation, good: bool) {
        let checks = Arc::clone(&self.plan.checks);
        let rule = &checks[index];
        // A look of another life, or at a dead one, proves no phase.
        if rule.phase.is_some() && (generation != self.generation || !self.there) {
            return;
        }
        let before = self.runs[index].state;
        self.runs[index].add(good, rule.rise, rule.fall);
        if let (State::Good, Some(phase)) = (self.runs[index].state, rule.phase)
            && before != State::Good
            && !self.start_failed
        {
            self.names(phase);
        }
    }

    /// The first phase that is not over has another time than the last one.
    fn moved(&mut self, now: Time) {
        let current = (0..self.named.len()).find(|&index| !self.is_past(index));
        let current = current.unwrap_or(self.named.len());
        if current != self.current {
            (self.current, self.since, self.extended) = (current, now, Time::ZERO);
        }
    }

    /// Whoever named a later one is past it.
    pub(crate) fn is_past(&self, index: usize) -> bool {
        self.whole.is_some() || self.named[index..].contains(&true)
    }

    /// It only seems to be past all of them.
    pub(crate) fn is_assumed(&self) -> bool {
        self.whole == Some(Trust::Inferred)
    }

    fn is_whole(&self) -> bool {
        self.named.is_empty() || self.is_past(self.named.len() - 1)
    }

    pub(crate) fn state(&self, check: usize) -> State {
        self.runs[check].state
    }

    /// Whether something optional is not good.
    pub(crate) fn is_degraded(&self) -> bool {
        let mut all = self.plan.checks.iter().zip(&self.runs);
        all.any(|(rule, run)| !rule.critical && run.state != State::Good)
    }

    /// How far the gate may believe it.
    pub(crate) fn trust(&self) -> Trust {
        self.signal.unwrap_or(Trust::Pushed)
    }

    /// Whom it is ready for, and who is refused meanwhile.
    pub(crate) fn needs(&self) -> (Needs, Needs) {
        let (mut met, mut refused) = (Needs::default(), Needs::default());
        for (index, need) in self.plan.needs.iter().enumerate() {
            let served = !self.is_degraded() || need.degraded == WhenDegraded::Serve;
            if !self.has(need) {
            } else if served {
                met = met.with(index);
            } else if need.degraded == WhenDegraded::Refuse && self.knows_all() {
                refused = refused.with(index);
            }
        }
        (met, refused)
    }

    fn knows_all(&self) -> bool {
        let mut all = self.plan.checks.iter().zip(&self.runs);
        all.all(|(rule, run)| rule.critical || run.state != State::Unknown)
    }

    fn has(&self, need: &Need) -> bool {
        if self.failed || !self.there || self.is_ending() {
            return false;
        }
        let is_up = match self.signal {
            Some(Trust::Pushed) => true,
            Some(Trust::Inferred) => !self.reported || self.is_whole(),
            None => false,
        };
        let good = |index: usize| self.runs[index].state == State::Good;
        match &need.require {
            None => is_up && (0..self.runs.len()).all(|index| !self.plan.checks[index].critical || good(index)),
            Some(items) => {
                let by_phase = items.iter().any(|item| matches!(item, Item::Phase(_)));
                let by_its_word = by_phase && !self.start_failed && !self.away;
                let has = |item: &Item| match *item {
                    Item::Check(index) => good(index),
                    Item::Phase(index) => self.is_past(index),
                };
                (is_up || by_its_word) && items.iter().all(has)
            }
        }
    }
}
