//! Decides what each answer of the backend means at each stage of the [`Gate`].
//!
//! One table, answer by stage, with no arm for "the rest": `tests.rs` prints it.
//! Bounded: one answer changes one session, and at most the stage.

use super::settle::Way;
use super::{Change, Dialing, Gate, Stage, Trial};
use crate::event::SessionId;
use crate::session::{Answer, Verdict};
use crate::time::Time;

impl Gate {
    /// What a dial came to, judged by what the gate believes at this moment.
    pub(super) fn answered(&mut self, now: Time, id: SessionId, answer: Answer) {
        let Some(dialing) = self.dialing.get(&id).copied() else {
            return; // it left, or its time was over, while the answer was on its way
        };
        if answer == Answer::LostEarly {
            self.learn_from(now, dialing);
        }
        self.notes(id, answer);
        let verdict = answer.verdict();
        match verdict {
            Verdict::Switched => self.switched(now, id, dialing),
            Verdict::Sent => self.sent(now, id),
            Verdict::Stood => self.stood(now, id, dialing),
            // The application works: it sent something of its own while settling.
            Verdict::Proved => {
                self.forward(id);
                self.proved(now, id);
            }
            // Any other word of the application is the client's, and proves nothing.
            Verdict::Neutral => {
                self.forward(id);
                if let Stage::Open(Trial::Doubt { opened, answered: None }) = self.stage {
                    self.stage = Stage::Open(Trial::Doubt {
                        opened,
                        answered: Some(now),
                    });
                }
            }
            Verdict::NotReady => self.not_ready_yet(now, id, dialing, answer),
            Verdict::Dropped | Verdict::Unreachable => self.unanswered_dial(now, id, dialing, answer),
            // Nothing is wrong with the backend: greenroom has no descriptor.
            Verdict::Starved => {
                self.spare = 0;
                self.requeue(now, id, answer, false);
            }
            // As if it had never been ordered.
            Verdict::Recalled => {
                if let Some(dialing) = self.dialing.get_mut(&id) {
                    dialing.waiting.attempts = dialing.waiting.attempts.saturating_sub(1);
                }
                self.requeue(now, id, answer, false);
            }
        }
        if matches!(verdict, Verdict::NotReady | Verdict::Dropped) {
            self.settle_again(now);
        }
        self.adapt(now, &dialing, verdict);
    }

    /// A 101. Where the gate is sure, or took the backend's word, it passes at once.
    fn switched(&mut self, now: Time, id: SessionId, dialing: Dialing) {
        match self.stage {
            Stage::Open(Trial::Over) => self.forward(id),
            Stage::Open(Trial::Doubt { opened, answered }) => {
                self.forward(id);
                self.stage = Stage::Open(Trial::Doubt {
                    opened,
                    answered: answered.or(Some(now)),
                });
            }
            Stage::Open(Trial::Proving { .. })
            | Stage::Limited { .. }
            | Stage::Shut
            | Stage::Failed
            | Stage::Refusing
            | Stage::Draining => {
                self.begin_settling(now, id, dialing);
            }
        }
    }

    /// "Not ready", in the application's words: believed while on trial. A 101 that
    /// still settles began on trial; its client has seen nothing, and need not see it lost.
    fn not_ready_yet(&mut self, now: Time, id: SessionId, dialing: Dialing, answer: Answer) {
        match self.stage {
            Stage::Open(Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining
                if matches!(dialing.way, Way::Settling { .. } | Way::LookedAt { .. }) =>
            {
                self.requeue(now, id, answer, true);
            }
            // Sure; or nobody starts it again, and its own words are the best that a client can get.
            Stage::Open(Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining => self.forward(id),
            Stage::Open(Trial::Doubt { .. }) => {
                self.requeue(now, id, answer, true);
                self.limit(now, Change::Doubted);
            }
            Stage::Open(Trial::Proving { .. }) => self.lags(now, id, dialing, answer),
            Stage::Limited { .. } | Stage::Shut => self.requeue(now, id, answer, true),
        }
    }

    /// The connection did not come about, or ended before a byte of the answer.
    fn unanswered_dial(&mut self, now: Time, id: SessionId, dialing: Dialing, answer: Answer) {
        let dropped = answer.verdict() == Verdict::Dropped;
        match self.stage {
            Stage::Open(Trial::Over) if dropped => self.dropped(now, id, dialing, answer),
            Stage::Open(Trial::Proving { .. }) if dropped => self.lags(now, id, dialing, answer),
            Stage::Open(Trial::Doubt { .. }) => {
                self.requeue(now, id, answer, dropped);
                self.limit(now, Change::Doubted);
            }
            Stage::Open(Trial::Over | Trial::Proving { .. }) => {
                self.requeue(now, id, answer, false);
                self.meets_nobody(now);
            }
            Stage::Limited { .. } | Stage::Shut | Stage::Failed | Stage::Refusing | Stage::Draining => {
                self.requeue(now, id, answer, dropped);
            }
        }
    }

    /// One was rejected after another had proved the gate: it is not ready yet, or not all of it. Where this one was rejected too
    /// often before, that may be its own fault: once that is no reason to keep all others waiting.
    fn lags(&mut self, now: Time, id: SessionId, dialing: Dialing, answer: Answer) {
        let is_excused = dialing.waiting.rejections >= self.limits.rejections_max
            && self.excused.replace(id).is_none_or(|first| first == id);
        self.requeue(now, id, answer, true);
        if !is_excused {
            self.limit(now, Change::Lagging);
        }
    }

    /// A dial at the sure gate was dropped without an answer. Once it is tried
    /// again at once; when another session meets the same, the backend is gone
    /// and the gate shuts; when only this one does, again and again, it is this
    /// request that the backend drops, and its client hears so. A lone request
    /// that makes its handler crash must not shut the gate for everybody.
    fn dropped(&mut self, now: Time, id: SessionId, dialing: Dialing, answer: Answer) {
        let another = self.last_dropped.replace(id).is_some_and(|last| last != id);
        if another {
            self.requeue(now, id, answer, true);
            self.meets_nobody(now);
        } else if dialing.waiting.rejections >= self.limits.rejections_max {
            self.forward(id);
        } else {
            self.requeue(now, id, answer, true);
        }
    }

    /// A plain request that went past the gate found nobody: as a dial of the gate's own would have.
    pub(super) fn unreached(&mut self, now: Time) {
        match self.stage {
            Stage::Open(Trial::Over | Trial::Proving { .. }) => self.meets_nobody(now),
            Stage::Open(Trial::Doubt { .. }) => self.limit(now, Change::Doubted),
            Stage::Limited { .. } | Stage::Shut | Stage::Failed | Stage::Refusing | Stage::Draining => {}
        }
    }
}
