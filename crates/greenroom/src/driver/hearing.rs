//! What the owner task hears of its backend, and what follows from it.
//!
//! `greenroom_core::readiness` decides; here its words are carried to the gate, the log,
//! the prober, the child and whoever looks on ([`Standing`]).

use std::sync::Arc;
use std::time::Duration;

use greenroom_core::backend::{self, Condition};
use greenroom_core::check::{self, Check, Level, State};
use greenroom_core::gate::{self, Stage};
use greenroom_core::limits::{FLAPS_TOLD, FLAPS_WINDOW, LOST_GATHER};
use greenroom_core::phase::Step;
use greenroom_core::readiness::{Input, Output};
use greenroom_core::time::Time;

use super::flaps::Told;
use super::standing::{Degraded, LastVerdict};
use super::{Driver, EndLife, bounds};
use crate::config::Config;
use crate::telemetry::Event;

impl Driver {
    /// Something about the backend's readiness; `by` is what told it.
    pub(super) fn hear(&mut self, now: Time, input: Input, by: &'static str) {
        let died = self.is_death(&input);
        let is_away = matches!(
            input,
            Input::Backend(backend::Input::Verdict(_, false) | backend::Input::Unreachable)
        );
        self.readiness.handle(now, input);
        self.was_seen_away |= is_away;
        self.follow(now, by);
        self.show_lacks();
        if died {
            self.gate.handle(now, gate::Input::Died);
            self.carry_out(now);
        }
    }

    /// Goes by another configuration from now on. Who waits keeps its place, and goes by the one under which it came.
    pub(super) fn adopt(&mut self, now: Time, config: Arc<Config>, index: usize) {
        (self.config, self.index) = (config, index);
        let (limits, needs) = (bounds::of(self.settings()), self.settings().needs.clone());
        self.gate.set_limits(now, limits);
        self.carry_out(now);
        self.readiness.set_needs(needs.into());
        self.follow(now, "reload");
        self.show_lacks();
    }

    /// Whether the backend's process died by itself, and was not ended for a start that failed.
    fn is_death(&self, input: &Input) -> bool {
        let current = self.readiness.generation();
        matches!(input, Input::Backend(backend::Input::Exited { generation, .. }) if *generation == current)
            && self.readiness.phases().failure().is_none()
    }

    /// Time has passed: a phase may have lasted too long. Asked at each turn, so as a rule it does nothing.
    pub(super) fn hear_timeout(&mut self, now: Time) {
        if self.readiness.poll_timeout().is_some_and(|due| due <= now) {
            self.readiness.handle_timeout(now);
            self.follow(now, "timeout");
            self.show_lacks();
        }
    }

    /// A verdict of a check, which is kept to be shown.
    pub(super) fn hear_check(&mut self, now: Time, input: Input, verdict: LastVerdict) {
        if let Input::Check { index, .. } = input
            && let Some(last) = self.verdicts.get_mut(index)
        {
            *last = Some(verdict);
        }
        self.hear(now, input, "check");
    }

    /// What a backend says of its start in its own words.
    pub(super) fn hear_words(&mut self, words: &str) {
        self.standing
            .send_modify(|standing| standing.phase = Some(words.into()));
    }

    fn follow(&mut self, now: Time, by: &'static str) {
        while let Some(output) = self.readiness.poll_output() {
            // Told behind what has led to it, and before what follows from it.
            if matches!(
                output,
                Output::Needs { .. } | Output::Ready(_) | Output::NotReady | Output::Failed
            ) {
                self.take_in(now, by);
            }
            match output {
                Output::Needs { met, refused } => self.gate.handle(now, gate::Input::Needs { met, refused }),
                Output::Ready(trust) => self.gate.handle(now, gate::Input::Ready(trust)),
                Output::NotReady => {
                    self.standing.send_modify(|standing| standing.phase = None);
                    self.gate.handle(now, gate::Input::NotReady);
                }
                Output::Failed => self.gate.handle(now, gate::Input::Failed),
                Output::Begun => self.begun(now),
                Output::Phase { index, step } => self.phase(index, step),
                Output::NoSuchPhase(name) => self.strange_phase(&name),
                Output::StartFailed(failure) => {
                    self.tally.start_failures += 1;
                    let words = failure.to_string();
                    self.log.say(Event::StartFailed {
                        phase: failure.phase.as_deref().map(str::to_owned),
                        reason: failure.reason.to_string(),
                    });
                    // Before the gate hears of it, so that whoever it refuses can say why.
                    self.standing
                        .send_modify(|standing| standing.failure = Some(words.as_str().into()));
                }
                Output::EndProcess => drop(self.end.send_replace(self.end_life())),
                Output::Check { index, state } => self.check_changed(now, index, state),
                Output::Level(_) => self.level_changed(),
            }
            self.carry_out(now);
        }
        self.take_in(now, by);
    }

    /// Whether it is ready may have changed.
    fn take_in(&mut self, now: Time, by: &'static str) {
        let was_whole = std::mem::replace(&mut self.is_whole, self.readiness.is_whole());
        match (was_whole, self.is_whole) {
            (false, true) => self.became_ready(now, by),
            (true, false) => self.away_since = now,
            (true, true) | (false, false) => {}
        }
    }

    /// Which critical checks a backend lacks that is ready but for them.
    fn show_lacks(&self) {
        let is_ready_but = self.readiness.condition() == Condition::Ready && !self.is_whole;
        let bad = |(rule, check): &(&check::Rule, &Check)| rule.critical && check.state() != State::Good;
        let names = self.readiness.checks().filter(|each| is_ready_but && bad(each));
        let names: Vec<&str> = names.map(|(rule, _)| &*rule.name).collect();
        let lacks = (!names.is_empty()).then(|| names.join(", "));
        self.standing.send_if_modified(|standing| {
            let changed = standing.lacks.as_deref() != lacks.as_deref();
            standing.lacks = lacks.map(Into::into);
            changed
        });
    }

    pub(super) fn misses_signal(&self) -> bool {
        self.readiness.condition() == Condition::Starting && self.readiness.wants_verdict()
    }

    pub(super) fn misses_check(&self) -> bool {
        !self.is_whole && self.readiness.checks().any(|(_, check)| check.state() != State::Good)
    }

    /// A hold is about to end.
    pub(super) fn look_once_more(&self) {
        if self.misses_signal() {
            self.look_now.notify_one();
        }
        for ((_, check), now) in self.readiness.checks().zip(self.check_now.iter()) {
            if check.state() != State::Good {
                now.notify_one();
            }
        }
    }

    /// It is ready for all who have no wish of their own. For others the gate may have been open before.
    fn became_ready(&mut self, now: Time, by: &'static str) {
        self.ready_since = now;
        let took = now.since(self.away_since);
        // What somebody else starts was ready all the time, for all that is known, unless it was seen away.
        let is_seen = self.readiness.generation().0 > 0 || self.was_seen_away;
        self.was_seen_away = false;
        if std::mem::take(&mut self.is_start) && is_seen {
            self.tally.started(took);
            self.starts.send_modify(|starts| starts.took(took));
        }
        self.log.say(Event::Ready {
            by: by.into(),
            held: self.gate.held(),
            after: took.as_secs_f64(),
        });
        if self.readiness.level() != Level::None {
            self.tell_level();
        }
    }

    /// A new start: nothing of the old one holds any more.
    fn begun(&mut self, now: Time) {
        (self.away_since, self.is_start, self.was_seen_away) = (now, true, false);
        self.standing.send_modify(|standing| {
            standing.phase = None;
            standing.failure = None;
        });
        self.pool.clear();
    }

    fn phase(&mut self, index: usize, step: Step) {
        match step {
            Step::Forward { .. } => {}
            Step::Late | Step::Repeated | Step::TooLate => return,
        }
        let phases = self.readiness.phases();
        if let Some((name, _)) = phases.marks().nth(index) {
            self.log.say(Event::Phase {
                phase: name.into(),
                status: None,
            });
        }
        let next = phases.current().map(|rule| rule.name.clone());
        self.standing.send_modify(|standing| standing.phase = next);
    }

    fn strange_phase(&mut self, name: &str) {
        self.log.say(Event::Phase {
            phase: name.into(),
            status: None,
        });
        self.hear_words(name);
        if !std::mem::replace(&mut self.strange_phase_told, true) {
            self.log.warn(format!(
                "the backend reports the phase {name:?}, which is none of its own: it counts for nothing; name all phases, in order, as `phases` of the backend"
            ));
        }
    }

    fn check_changed(&mut self, now: Time, index: usize, state: State) {
        let told = self
            .flaps
            .get_mut(index)
            .map_or(Told::Change, |flaps| flaps.change(now));
        self.tell_check(index, state, told);
        if self.readiness.level() != Level::None {
            self.show_degraded(); // the level may be the same, and the names others
        }
    }

    fn tell_check(&self, index: usize, state: State, told: Told) {
        let Some((rule, _)) = self.readiness.checks().nth(index) else {
            return;
        };
        match told {
            Told::Change => {}
            Told::Flaps => {
                let (name, seconds) = (&rule.name, FLAPS_WINDOW.as_secs());
                return self.log.warn(format!(
                    "the check {name} has changed more than {FLAPS_TOLD} times within {seconds} s: further changes in this time are not told; does it need a larger `rise` or `fall`?"
                ));
            }
            Told::Nothing => return,
        }
        let reason = match (state, self.verdicts.get(index)) {
            (State::Bad, Some(Some(last))) => last.reason.clone(),
            (State::Good | State::Bad | State::Unknown, _) => None,
        };
        self.log.say(Event::Check {
            check: rule.name.as_ref().into(),
            state: state.word(),
            critical: rule.critical,
            reason,
        });
    }

    fn level_changed(&mut self) {
        self.show_degraded();
        self.tell_level();
    }

    fn tell_level(&self) {
        let (level, missing) = (self.readiness.level(), self.missing());
        self.log.say(Event::Degraded {
            level: level.word(),
            missing,
        });
    }

    fn missing(&self) -> Vec<String> {
        let missing = self
            .readiness
            .checks()
            .filter(|(rule, check)| !rule.critical && check.state() != State::Good);
        missing.map(|(rule, _)| rule.name.as_ref().into()).collect()
    }

    /// What heads and messages say of it from now on.
    pub(super) fn show_degraded(&mut self) {
        let level = self.readiness.level();
        let degraded = (level != Level::None).then(|| Degraded::new(level, &self.missing()).into());
        self.standing.send_modify(|standing| standing.degraded = degraded);
    }

    /// A relay was lost. Those that are lost with it are told in one line.
    pub(super) fn loses(&mut self, now: Time) {
        self.lost.0 += 1;
        self.lost.1.get_or_insert(now + LOST_GATHER);
    }

    pub(super) fn tell_lost(&mut self, now: Time) {
        if self.lost.1.is_some_and(|at| now >= at) {
            let (count, _) = std::mem::take(&mut self.lost);
            if self.gate.stage() != Stage::Draining {
                self.log.say(Event::RelaysLost { count }); // else they are closed with 1001
            }
        }
    }

    fn end_life(&self) -> Option<EndLife> {
        let failure = self.readiness.phases().failure()?;
        Some(EndLife {
            generation: self.readiness.generation(),
            reason: failure.reason.clone(),
        })
    }

    /// A dial at the open gate found nobody.
    pub(super) fn unreachable(&mut self, now: Time) {
        self.hear(now, Input::Backend(backend::Input::Unreachable), "dial");
    }
}

impl LastVerdict {
    /// Of a look that has just ended.
    #[must_use]
    pub fn of(good: bool, reason: Option<String>, took: Duration) -> Self {
        Self {
            good,
            reason,
            took,
            at: crate::clock::now(),
        }
    }
}
