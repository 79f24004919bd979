//! After each step: the readiness of the core against the model, and the gate against both.
//!
//! - *Whom* (1, 13): the gate knows exactly those as let in whose needs are met by the model, and
//!   is shut while there are none; (9) it is not shut while there are some.
//! - *By hand* (13): then it is what somebody has said, whatever the model says.
//! - *Refused* (8): nobody is refused as degraded, or for a failed start, but who must be.
//! - *Phases* (12): past is what the model says; nothing goes back within one start.
//! - *Checks* (12): good and bad after so many verdicts in a row.
//! - *Overruns* (9): a phase that has lasted too long is noticed then, and a process of ours is ended.

use greenroom_core::check::Level;
use greenroom_core::gate::{Hand, Stage};

use crate::world::World;

/// What was past when it was looked at last, and in which start.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    start: u64,
    is_assumed: bool,
    past: Vec<bool>,
}

impl World<'_> {
    pub(crate) fn judge_readiness(&mut self) {
        // Nothing of this changes but by what is told. The causes come first.
        if core::mem::take(&mut self.is_told) {
            self.judge_phases();
            self.judge_checks();
            self.judge_whom();
        }
        self.judge_stage();
        let (now, overruns) = (self.now, self.model.overruns());
        self.ledger.demand(overruns.is_none_or(|at| at >= now), 9, || {
            format!("a phase was to be over by {overruns:?}")
        });
        let to_end = self.model.to_end;
        self.ledger
            .demand(!to_end, 9, || "the process of a failed start is not ended".into());
        let looks = self.readiness.wants_verdict() || !self.model.wants_look();
        self.ledger.demand(looks, 9, || {
            "nobody looks, and nothing else finds that the backend is ready".into()
        });
    }

    fn judge_whom(&mut self) {
        let ((met, refused), trust) = (self.model.needs(), self.model.trust());
        let (told_met, told_refused, told) = (
            self.ledger.told_met(),
            self.ledger.told_refused(),
            self.ledger.told_trust(),
        );
        let too_early = told.is_some() && met.is_empty();
        let expected = (!met.is_empty()).then_some(trust);
        self.ledger
            .demand(told == expected, if too_early { 13 } else { 9 }, || {
                format!("the gate is told {told:?}, and by all that is known it is {expected:?}")
            });
        let too_many = told_met.0 & !met.0 != 0;
        self.ledger
            .demand(met.is_empty() || told_met == met, if too_many { 13 } else { 9 }, || {
                format!("it is said to be ready for {told_met:?}, and is for {met:?}")
            });
        self.ledger.demand(told_refused == refused, 8, || {
            format!("{told_refused:?} are refused, and {refused:?} are to be")
        });
    }

    fn judge_stage(&mut self) {
        let (stage, failed, met) = (self.gate.stage(), self.model.failed, self.model.needs().0);
        if stage == Stage::Draining {
            return;
        }
        let hand = self.ledger.hand();
        let free = self.gate.free();
        if hand != Hand::Auto {
            let is_so = match hand {
                Hand::Hold => stage == Stage::Shut && free.is_empty(),
                Hand::Refuse => stage == Stage::Refusing && free.is_empty(),
                Hand::Open => matches!(stage, Stage::Limited { .. } | Stage::Open(_)),
                Hand::Auto => true,
            };
            return self.ledger.demand(is_so, 13, || {
                format!("the gate is {stage:?}, {free:?} may go past it, and by hand it is {hand:?}")
            });
        }
        self.ledger.demand((stage == Stage::Failed) == failed, 8, || {
            format!("the gate is {stage:?}, and that the start has failed for good is {failed}")
        });
        let is_shut = matches!(stage, Stage::Shut | Stage::Failed);
        self.ledger
            .demand(is_shut == met.is_empty(), if is_shut { 9 } else { 13 }, || {
                format!("the gate is {stage:?}, and the backend is ready for {met:?}")
            });
        self.ledger.demand(free.0 & !met.0 == 0, 13, || {
            format!("{free:?} may go past the gate, and the backend is ready for {met:?}")
        });
    }

    fn judge_phases(&mut self) {
        let past: Vec<bool> = self
            .readiness
            .phases()
            .marks()
            .map(|(_, mark)| mark.is_past())
            .collect();
        let start = self.model.starts;
        let before = core::mem::take(&mut self.seen_phases);
        let went_back = before.past.iter().zip(&past).any(|(&before, &now)| before && !now);
        let may = before.start != start || before.is_assumed;
        self.ledger.demand(!went_back || may, 12, || {
            format!("phases go back in one start, from {:?} to {past:?}", before.past)
        });
        let expected: Vec<bool> = (0..past.len()).map(|index| self.model.is_past(index)).collect();
        self.ledger.demand(past == expected, 12, || {
            format!("past are the phases {past:?}, and by all that was said {expected:?}")
        });
        let (failed, known) = (self.readiness.phases().failure().is_some(), self.model.start_failed);
        self.ledger.demand(failed == known, 12, || {
            format!("that the start has failed is {failed}, and by all that was said {known}")
        });
        self.seen_phases = Seen {
            start,
            is_assumed: self.model.is_assumed(),
            past,
        };
    }

    fn judge_checks(&mut self) {
        let model = &self.model;
        let wrong = (self.readiness.checks().enumerate())
            .find(|(index, (_, check))| check.state() != model.state(*index))
            .map(|(index, (_, check))| (index, check.state(), model.state(index)));
        self.ledger.demand(wrong.is_none(), 12, || {
            format!("a check and its state, and what its verdicts in a row make of it: {wrong:?}")
        });
        let (level, degraded) = (self.readiness.level(), self.model.is_degraded());
        self.ledger.demand((level != Level::None) == degraded, 12, || {
            format!("the level is {level}, and that something is missing is {degraded}")
        });
    }
}
