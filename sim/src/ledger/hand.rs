//! The gate by hand: whoever holds it lets nobody in, and whoever opens it asks nobody.
//!
//! - *Held* (13): while it is held or refuses by hand nobody is dialled, and nothing goes past it.
//! - *Refused* (8): by hand are refused only those who come or wait while it refuses by hand.
//! - *End* (9): a hand whose time is over is taken back then.

use greenroom_core::gate::Hand;
use greenroom_core::readiness::Needs;
use greenroom_core::time::Time;

use super::{At, Ledger, Seen};

impl Ledger {
    /// Somebody sets it, or takes it back. Said before the gate is told.
    pub(crate) fn takes_hand(&mut self, now: Time, hand: Hand, until: Option<Time>) {
        let before = core::mem::replace(&mut self.hand, (hand, until)).0;
        if before == hand || self.seen == Seen::Draining {
            return;
        }
        self.hands += 1;
        if hand == Hand::Open || before == Hand::Open {
            self.line_changes();
        }
        if matches!(self.seen, Seen::Failed | Seen::Refusing) && hand != Hand::Refuse {
            self.seen = Seen::Shut;
        }
        self.told_ready = hand == Hand::Open || self.told_trust().is_some();
        match hand {
            Hand::Refuse => self.told_end(now, Seen::Refusing),
            Hand::Auto if self.is_lost() => self.told_end(now, Seen::Failed),
            Hand::Auto | Hand::Hold | Hand::Open => {}
        }
    }

    pub(crate) fn hand(&self) -> Hand {
        self.hand.0
    }

    /// Whether its time is over.
    pub(crate) fn hand_is_over(&self, now: Time) -> bool {
        self.hand.1.is_some_and(|until| until <= now)
    }

    /// For whom the gate takes the backend for ready.
    pub(super) fn taken_met(&self) -> Needs {
        if self.hand.0 == Hand::Open {
            Needs::ALL
        } else {
            self.told_met()
        }
    }

    /// Others are in line than before: who has to wait aside is forgotten on the bench.
    pub(super) fn line_changes(&mut self) {
        let met = self.taken_met();
        let aside = |entry: &&mut super::Entry| entry.at == At::Waiting && !met.has(entry.need.into());
        self.entries.iter_mut().filter(aside).for_each(|e| e.benched = false);
        self.moves();
    }

    /// After each step.
    pub(super) fn check_hand(&mut self, now: Time) {
        let (hand, until) = self.hand;
        self.demand(until.is_none_or(|until| until >= now), 9, || {
            format!("the gate is by hand ({hand:?}) beyond {until:?}")
        });
    }
}
