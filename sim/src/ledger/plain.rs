//! What the books know of plain requests.
//!
//! - *At most once* (3): a request that cannot repeat is not dialled again once its head was written.
//! - *Letting go* (1): the gate passes an answer on unheard only where it is sure, where the answer could
//!   be nobody else's, or after `canary_patience`; and there it does (9).
//! - *Alone* (7): one that cannot repeat goes first on trial only if nobody else waits or all others were
//!   rejected too often and had their turn, and not at once.

use greenroom_core::gate::Class;
use greenroom_core::time::Time;

use super::{At, Entry, Ledger, Seen};

impl Entry {
    pub(super) fn is_http(&self) -> bool {
        self.class != Class::WebSocket
    }

    /// Held, or dialled for a WebSocket and without an answer: how long a plain answer takes is nothing to the gate.
    pub(super) fn has_deadline(&self) -> bool {
        self.at == At::Waiting || self.at == At::OnItsWay(None) && !self.is_http()
    }

    /// On its way, and its head is written.
    fn is_sent(&self) -> bool {
        self.written == Some(self.attempts) && self.at == At::OnItsWay(None)
    }
}

impl Ledger {
    /// The shell has written the head of a plain request.
    pub(crate) fn wrote(&mut self, now: Time, client: usize) {
        let entry = &mut self.entries[client];
        entry.waited_from = Some(now);
        entry.written = Some(entry.attempts);
    }

    pub(super) fn is_full(&self, class: Class) -> bool {
        let http = class != Class::WebSocket;
        let most = if http {
            self.limits.http_held_max
        } else {
            self.limits.held_max
        };
        let held = self.count(|e| e.at == At::Waiting && e.is_http() == http);
        let dialing = self.count(|e| matches!(e.at, At::OnItsWay(_)) && e.is_http() == http);
        held >= most || held + dialing >= most + self.limits.dials_max
    }

    /// Whether the gate may pass on what it has not heard.
    pub(super) fn may_let_go(&self, now: Time, client: usize) -> bool {
        let entry = &self.entries[client];
        let waited = entry
            .waited_from
            .is_some_and(|at| now >= at + self.limits.canary_patience);
        let nobodys = !entry.class.repeats() && matches!(self.seen, Seen::Doubt | Seen::Proving);
        let sure = matches!(self.seen, Seen::Sure | Seen::Failed | Seen::Refusing | Seen::Draining);
        entry.is_sent() && (sure || nobodys || waited)
    }

    /// The first in line, where no other may go first on trial.
    pub(super) fn alone(&self, now: Time) -> Option<usize> {
        let due = now >= self.seen_since + self.limits.http_alone;
        self.first_unbenched().filter(|_| due)
    }

    /// When such a one may go; at once where somebody else waits.
    pub(super) fn alone_from(&self) -> Time {
        let able = self.all(|e| self.is_in_line(e) && e.class.repeats()).next();
        match able {
            Some(_) => Time::ZERO,
            None => self.seen_since + self.limits.http_alone,
        }
    }

    /// Nobody waits at a sure gate for an answer that matters to nobody, nor for long at any open one.
    pub(super) fn check_let_go(&mut self, now: Time) {
        let patience = self.limits.canary_patience;
        let late = |e: &Entry| e.waited_from.is_some_and(|at| now > at + patience);
        let kept = match self.seen {
            Seen::Sure => self.all(Entry::is_sent).next(),
            Seen::Doubt | Seen::Proving => self.all(|e| e.is_sent() && late(e)).next(),
            Seen::Shut | Seen::Limited | Seen::Failed | Seen::Refusing | Seen::Draining => None,
        };
        self.demand(kept.is_none(), 9, || {
            format!("the gate waits for the answer of request {kept:?}")
        });
    }
}
