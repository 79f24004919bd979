//! What the gate was told, and what is true by the model.

use greenroom_core::gate::{Hand, Trust};
use greenroom_core::readiness::Needs;
use greenroom_core::time::Time;

use super::{Ledger, Seen};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Told {
    /// How far the gate was told to believe the backend, if it is ready.
    trust: Option<Trust>,
    /// Whom it was told that the backend is ready for, and who is refused meanwhile.
    met: Needs,
    refused: Needs,
    /// The same by the model.
    true_met: Needs,
    true_refused: Needs,
    /// The backend is given up by the model.
    lost: bool,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            trust: None,
            met: Needs::ALL, // until it is told a gate makes no difference
            refused: Needs::default(),
            true_met: Needs::default(),
            true_refused: Needs::default(),
            lost: false,
        }
    }
}

impl Ledger {
    pub(crate) fn told_spare(&mut self, spare: usize) {
        self.spare = spare;
    }

    pub(crate) fn told_wanted(&mut self, now: Time, wanted: bool) {
        self.wanted_since = wanted.then_some(self.wanted_since.unwrap_or(now));
    }

    pub(crate) fn told_ready(&mut self, trust: Option<Trust>) {
        self.told_ready = trust.is_some() || self.hand() == Hand::Open;
        self.told.trust = trust;
    }

    /// Who has to wait aside from now on is forgotten on the bench.
    pub(crate) fn told_needs(&mut self, met: Needs, refused: Needs) {
        (self.told.met, self.told.refused) = (met, refused);
        if self.hand() != Hand::Open {
            self.line_changes();
        }
    }

    /// The start has failed; by hand that changes nothing yet.
    pub(crate) fn told_failed(&mut self, now: Time) {
        self.told.trust = None;
        if self.hand() == Hand::Auto {
            self.told_end(now, Seen::Failed);
        }
    }

    /// Failed, refusing and draining have no word of their own among the changes.
    pub(crate) fn told_end(&mut self, now: Time, seen: Seen) {
        if matches!(self.seen, Seen::Doubt | Seen::Proving | Seen::Sure) {
            self.begin_period(now);
        }
        if self.seen != Seen::Draining {
            self.seen = seen;
        }
        self.told_ready = false;
        if seen == Seen::Failed {
            self.told.trust = None;
        }
    }

    /// A new start after a failure.
    pub(crate) fn told_again(&mut self) {
        if self.seen == Seen::Failed && self.hand() == Hand::Auto {
            self.seen = Seen::Shut;
        }
    }

    /// What the model says before the machine is told anything.
    pub(crate) fn is_true(&mut self, met: Needs, refused: Needs, lost: bool) {
        (self.told.true_met, self.told.true_refused, self.told.lost) = (met, refused, lost);
    }

    pub(super) fn is_met(&self, need: u8) -> bool {
        self.told.true_met.has(need.into())
    }

    pub(super) fn is_refused(&self, need: u8) -> bool {
        self.told.true_refused.has(need.into())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.told.lost
    }

    pub(crate) fn told_met(&self) -> Needs {
        self.told.met
    }

    pub(crate) fn told_refused(&self) -> Needs {
        self.told.refused
    }

    pub(crate) fn told_trust(&self) -> Option<Trust> {
        self.told.trust
    }
}
