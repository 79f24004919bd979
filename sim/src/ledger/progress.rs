//! What must hold after each step: conservation, limits, deadlines, and that things go on.

use greenroom_core::limits::DIALS_MIN;
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use super::{At, Entry, Ledger, Seen};

impl Ledger {
    /// After each step, with what the gate says of itself.
    pub(crate) fn check(&mut self, now: Time, held: usize, dialing: usize, timeout: Option<Time>) {
        let (books, way) = (self.held(), self.on_its_way());
        self.demand((held, dialing) == (books, way), 6, || {
            format!("the gate counts {held} held and {dialing} on their way; there are {books} and {way}")
        });
        let most = self.limits.held_max + self.limits.http_held_max + 2 * self.limits.dials_max;
        self.demand(books + way <= most, 10, || {
            format!("{books} held and {way} on their way")
        });
        let late = self.all(|e| e.has_deadline() && e.deadline < now).next();
        self.demand(late.is_none(), 8, || format!("client {late:?} waits past its deadline"));
        self.demand(books == 0 || timeout.is_some(), 9, || {
            format!("{books} wait and no timer is wanted")
        });
        let settled = |e: &Entry| e.at == At::OnItsWay(Some(Answer::Switched)) && e.settles.is_some_and(|at| at < now);
        let stuck = self
            .all(|e| settled(e) && e.looked.is_none_or(|(_, stood)| stood))
            .next();
        self.demand(stuck.is_none(), 9, || {
            format!("the 101 of client {stuck:?} has settled and is neither looked at nor passed on")
        });
        self.demand(!self.unproved, 9, || {
            "a canary came through and the gate does not open".into()
        });
        self.check_hand(now);
        self.check_let_go(now);
        self.check_accepted(now);
        self.check_progress(now);
    }

    fn check_progress(&mut self, now: Time) {
        if self.spare == 0 || self.all(|e| self.is_in_line(e)).next().is_none() {
            return;
        }
        let (least, unanswered) = (DIALS_MIN.min(self.limits.dials_max), self.unanswered(now));
        let next = self.first_unbenched();
        match self.seen {
            Seen::Doubt | Seen::Proving | Seen::Sure => {
                let out = if self.seen == Seen::Proving {
                    self.on_its_way() - self.slow(now)
                } else {
                    unanswered
                };
                let waits = now <= self.rate_due();
                self.demand(next.is_none() || out >= least || waits, 9, || {
                    format!("client {next:?} could go: {out} dials are out")
                });
            }
            Seen::Limited if unanswered < self.limits.dials_max => {
                let pause = self.last_canary.unwrap_or(Time::ZERO).max(self.seen_since) + self.limits.canary_every;
                let patience = match self.last_dial {
                    Some(last) if self.on_its_way() > 0 => last + self.limits.canary_patience,
                    Some(_) | None => Time::ZERO,
                };
                let due = pause.max(patience).max(self.alone_from()).max(self.rate_due());
                self.demand(now <= due, 9, || "a canary is overdue".into());
            }
            Seen::Limited | Seen::Shut | Seen::Failed | Seen::Refusing | Seen::Draining => {}
        }
    }
}
