//! What the shell tells the readiness of the backend, and what follows for the gate.
//!
//! Each input goes to the model first, as it is true; the planted mistakes of this part lie
//! between that and the core, and between the core and the gate.

use greenroom_core::backend::{self, Condition};
use greenroom_core::event::Generation;
use greenroom_core::gate::{self, Hand};
use greenroom_core::phase::{self, Step};
use greenroom_core::readiness::{Input, Needs, Output, Readiness};

use crate::Bug;
use crate::ledger::At;
use crate::world::{Event, World};

impl World<'_> {
    pub(crate) fn tell_backend(&mut self, input: backend::Input) {
        self.tell_readiness(&Input::Backend(input));
    }

    /// Whether a good verdict would let in who waits.
    pub(crate) fn wants_look(&self) -> bool {
        self.readiness.condition() == Condition::Starting && self.readiness.wants_verdict()
    }

    pub(crate) fn tell_readiness(&mut self, input: &Input) {
        let before = self.readiness.generation();
        let died = matches!(input, Input::Backend(backend::Input::Exited { generation, .. }) if *generation == before)
            && self.readiness.phases().failure().is_none();
        let is_old = life_of(input).is_some_and(|generation| generation != self.told);
        self.is_told = true;
        self.model.tell(self.now, input);
        let (met, refused) = self.model.needs();
        self.ledger.is_true(met, refused, self.model.failed);
        let told = self.mistaken(input);
        self.readiness.handle(self.now, told);
        let after = self.readiness.generation();
        let counts = self.follow();
        if died {
            self.ledger.told_died();
            self.tell_gate(gate::Input::Died);
        }
        self.ledger.demand(!is_old || !counts, 12, || {
            format!("{input:?} of an earlier life counts")
        });
        let forward = after == before || after > before && matches!(input, Input::Backend(backend::Input::Started(_)));
        self.ledger.demand(forward && after == self.told, 12, || {
            format!("generation {after} after {before}")
        });
        self.rearm();
    }

    /// Time has passed for the readiness.
    pub(crate) fn pass_readiness(&mut self) {
        self.is_told = true;
        self.model.pass(self.now);
        let (met, refused) = self.model.needs();
        self.ledger.is_true(met, refused, self.model.failed);
        if self.bug != Some(Bug::OverrunMissed) {
            self.readiness.handle_timeout(self.now);
            self.follow();
        }
    }

    /// What is told instead where a mistake is planted.
    fn mistaken(&mut self, input: &Input) -> Input {
        let now = self.told;
        match (self.bug, input.clone()) {
            (Some(Bug::CheckOfOldLifeCounts), Input::Check { index, good, .. }) => Input::Check {
                index,
                generation: now,
                good,
            },
            (Some(Bug::PhaseOfOldLifeCounts), Input::Phase(_, name)) => Input::Phase(now, name),
            (Some(Bug::PhaseGoesBack), Input::Phase(generation, name)) => {
                let phases = self.readiness.phases();
                if generation == now && phases.find(&name).is_some_and(|index| phases.is_past(index)) {
                    self.begin_anew(generation);
                }
                Input::Phase(generation, name)
            }
            (_, input) => input,
        }
    }

    /// The planted mistake of a late report: it is taken for a new start.
    fn begin_anew(&mut self, generation: Generation) {
        self.readiness = Readiness::new(self.plan.clone(), self.now);
        let started = Input::Backend(backend::Input::Started(generation));
        self.readiness.handle(self.now, started);
        while self.readiness.poll_output().is_some() {}
    }

    /// Does what the readiness says; whether it said anything.
    pub(crate) fn follow(&mut self) -> bool {
        let mut counts = false;
        while let Some(output) = self.readiness.poll_output() {
            counts = true;
            self.trace.note(format_args!("{} readiness: {output:?}", self.clock()));
            match output {
                Output::Needs { met, refused } => self.tell_needs(met, refused),
                Output::Ready(trust) => {
                    self.ledger.told_ready(Some(trust));
                    if self.bug == Some(Bug::HandEndsAtReady) {
                        self.tell_gate(gate::Input::Hand(Hand::Auto, None));
                    }
                    self.tell_gate(gate::Input::Ready(trust));
                }
                Output::NotReady => self.tell_not_ready(),
                Output::Failed => {
                    self.ledger.told_failed(self.now);
                    self.tell_gate(gate::Input::Failed);
                }
                Output::StartFailed(failure) => self.start_failed(&failure),
                Output::EndProcess => self.end_process(),
                Output::Phase {
                    step: Step::Forward { .. },
                    ..
                } => self.sum.phases += 1,
                Output::Check { .. } => self.sum.checks += 1,
                Output::Begun | Output::Phase { .. } | Output::NoSuchPhase(_) | Output::Level(_) => {}
            }
        }
        counts
    }

    fn tell_needs(&mut self, met: Needs, refused: Needs) {
        let more = met.0 & !self.ledger.told_met().0 != 0;
        self.ledger.told_needs(met, refused);
        let (met, refused) = match self.bug {
            Some(Bug::LostWakeUpOnNeed) if more && self.rng.one_in(4) => return,
            Some(Bug::NeedIgnored) => (Needs::ALL, Needs::default()),
            Some(Bug::DegradedRefusesAll) if !refused.is_empty() => (Needs::default(), Needs::ALL),
            _ => (met, refused),
        };
        self.tell_gate(gate::Input::Needs { met, refused });
    }

    fn tell_not_ready(&mut self) {
        self.ledger.told_ready(None);
        self.ledger.told_again();
        self.tell_gate(gate::Input::NotReady);
        if self.bug == Some(Bug::FlapDrops) {
            let first = self.ledger.entries.iter().position(|entry| entry.at == At::Waiting);
            if let Some(client) = first {
                let id = self.clients[client].id;
                self.tell_gate(gate::Input::Left(id));
            }
        }
    }

    fn start_failed(&mut self, failure: &phase::Failure) {
        self.sum.failed_starts += 1;
        let known = self.model.start_failed;
        self.ledger.demand(known, 12, || {
            format!("a start is said to have failed that did not: {failure}")
        });
        if self.bug == Some(Bug::RefusedBeforeRestart) {
            self.tell_gate(gate::Input::Failed);
        }
    }

    /// The process is ours: it ends soon.
    fn end_process(&mut self) {
        let due = core::mem::take(&mut self.model.to_end);
        self.ledger
            .demand(due, 12, || "a process is to be ended without a reason".into());
        let after = self.delay() * 20;
        self.at(after, Event::Ends(self.told));
    }
}

/// In which life that was said or seen, if it was in one.
fn life_of(input: &Input) -> Option<Generation> {
    match *input {
        Input::Backend(
            backend::Input::NotifiedReady(generation)
            | backend::Input::NotifiedStopping(generation)
            | backend::Input::NotifiedPhase(generation)
            | backend::Input::StartFailed(generation)
            | backend::Input::Verdict(generation, _)
            | backend::Input::Exited { generation, .. },
        )
        | Input::Phase(generation, _)
        | Input::Failed(generation, _)
        | Input::Extend(generation, _) => Some(generation),
        // What a backend depends on outlives it.
        Input::Check { .. }
        | Input::Backend(
            backend::Input::Started(_)
            | backend::Input::Unreachable
            | backend::Input::RelayLost
            | backend::Input::Restarting,
        ) => None,
    }
}
