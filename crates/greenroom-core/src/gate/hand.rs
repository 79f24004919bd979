//! The [`Gate`] by hand: what somebody has said who may, over what the backend's readiness says.
//!
//! | hand | the gate |
//! |---|---|
//! | auto | as readiness says |
//! | hold | shut: all wait, in order, for their hold time; also when the start has failed |
//! | open | as at a pushed READY, for all needs; what dials meet still counts, but it goes on trying, one at a time |
//! | refuse | all are refused, those who wait too |
//!
//! What readiness says meanwhile is kept, and holds from the moment at which the hand is taken back: a gate that was held opens on
//! trial, as it would have then. A hand may have its end, so that nobody forgets it. A stop is above all of it.
//!
//! Bounded: two words and a time.

use super::{Change, Gate, Output, Stage, Trust};
use crate::event::Refusal;
use crate::readiness::Needs;
use crate::time::Time;

/// What somebody has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hand {
    /// Nothing: readiness decides.
    #[default]
    Auto,
    /// Nobody is let in.
    Hold,
    /// All are let in.
    Open,
    /// All are refused.
    Refuse,
}

impl Hand {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Hold, Self::Open, Self::Refuse];

    /// The word for it on the command line, in the admin API and in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Hold => "hold",
            Self::Open => "open",
            Self::Refuse => "refuse",
        }
    }
}

/// What readiness said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heard {
    #[default]
    NotReady,
    Ready(Trust),
    Failed,
}

/// The hand, and what it keeps back.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByHand {
    hand: Hand,
    until: Option<Time>,
    heard: Heard,
    met: Needs,
    refused: Needs,
}

impl Default for ByHand {
    fn default() -> Self {
        Self {
            hand: Hand::Auto,
            until: None,
            heard: Heard::NotReady,
            met: Needs::ALL,
            refused: Needs::default(),
        }
    }
}

impl Gate {
    /// What somebody has said, and until when it holds.
    #[must_use]
    pub fn hand(&self) -> (Hand, Option<Time>) {
        (self.by_hand.hand, self.by_hand.until)
    }

    /// Readiness says so; the gate hears it now, or when the hand is taken back.
    pub(super) fn hears(&mut self, now: Time, heard: Heard) {
        self.by_hand.heard = heard;
        match (self.by_hand.hand, heard) {
            (Hand::Auto, _) => self.follow(now),
            // A dial that was refused has made it wary; the backend's own word is worth more than that.
            (Hand::Open, Heard::Ready(Trust::Pushed)) => self.ready(now, Trust::Pushed),
            (Hand::Open, Heard::Ready(Trust::Inferred) | Heard::NotReady | Heard::Failed)
            | (Hand::Hold | Hand::Refuse, _) => {}
        }
    }

    /// For whom the backend is ready, and who is refused, by its readiness.
    pub(super) fn hears_needs(&mut self, met: Needs, refused: Needs) {
        (self.by_hand.met, self.by_hand.refused) = (met, refused);
        if self.by_hand.hand != Hand::Open {
            self.needs(met, refused);
        }
    }

    /// What readiness has said, done.
    fn follow(&mut self, now: Time) {
        match self.by_hand.heard {
            Heard::NotReady => self.not_ready(now),
            Heard::Ready(trust) => self.ready(now, trust),
            Heard::Failed => self.turn_away(now, Stage::Failed, Refusal::StartFailed),
        }
    }

    /// Somebody says so. The same once more changes its end only.
    pub(super) fn take_hand(&mut self, now: Time, hand: Hand, until: Option<Time>) {
        let before = core::mem::replace(&mut self.by_hand.hand, hand);
        self.by_hand.until = until.filter(|_| hand != Hand::Auto);
        if before == hand || self.stage == Stage::Draining {
            return;
        }
        if before == Hand::Open {
            self.needs(self.by_hand.met, self.by_hand.refused);
        }
        match hand {
            Hand::Auto => {
                if self.stage == Stage::Refusing {
                    self.stage = Stage::Shut; // whoever comes may wait again, ready or not
                }
                self.follow(now);
            }
            Hand::Hold => match self.stage {
                Stage::Open(_) | Stage::Limited { .. } => self.shut(now, Change::Held),
                Stage::Failed | Stage::Refusing => self.stage = Stage::Shut,
                Stage::Shut | Stage::Draining => {}
            },
            Hand::Open => {
                self.needs(Needs::ALL, Needs::default());
                if self.stage == Stage::Refusing {
                    self.stage = Stage::Shut;
                }
                self.ready(now, Trust::Pushed);
            }
            Hand::Refuse => self.turn_away(now, Stage::Refusing, Refusal::ByHand),
        }
    }

    /// A hand whose time is over is taken back.
    pub(super) fn end_hand(&mut self, now: Time) {
        if self.by_hand.until.is_some_and(|until| until <= now) {
            self.take_hand(now, Hand::Auto, None);
        }
    }

    /// A dial met nobody at the open gate. By hand it stays open for one at a time: whoever opened it knows that readiness
    /// does not tell when the backend is there again.
    pub(super) fn meets_nobody(&mut self, now: Time) {
        if self.by_hand.hand != Hand::Open {
            return self.shut(now, Change::Unreachable);
        }
        if matches!(self.stage, Stage::Open(_)) {
            self.goes_away(now);
        }
        let next = now + self.limits.canary_every;
        self.stage = Stage::Limited { next, after: None };
        self.limited_at = now;
        self.refuse_impatient();
        self.outputs.push_back(Output::Changed(Change::Unreachable));
    }
}
