//! Where a dial or a wait ends: back in its place, or with a refusal that has a reason.

use greenroom_core::event::Refusal;
use greenroom_core::gate::Hand;
use greenroom_core::limits::LAST_LOOK;
use greenroom_core::session::{Answer, Verdict};
use greenroom_core::time::Time;

use super::{At, Ledger, Seen};

impl Ledger {
    pub(super) fn requeued(&mut self, now: Time, client: usize, answer: Answer) {
        if answer == Answer::GivenUp {
            self.is_given_up(now, client);
        }
        let (seen, max) = (self.seen, u32::from(self.limits.rejections_max));
        let in_line = self.taken_met().has(self.entries[client].need.into());
        let entry = &mut self.entries[client];
        let was = entry.at;
        entry.at = At::Waiting;
        if matches!(answer.verdict(), Verdict::NotReady | Verdict::Dropped) {
            // As the only canary that there is it is tried for ever, and that is no fault of its own.
            let is_canary = matches!(seen, Seen::Shut | Seen::Limited);
            entry.rejections += u32::from(!is_canary || entry.rejections < max);
        }
        entry.benched = in_line && entry.rejections >= max && seen != Seen::Sure;
        self.requeued += 1;
        if matches!(answer, Answer::Dropped | Answer::LostEarly) {
            self.last_dropped = Some(client);
        }
        self.gets_place(client);
        if self.is_in_line(&self.entries[client]) && !self.entries[client].benched {
            self.joins(client);
        }
        let told = Some(answer).filter(|answer| *answer != Answer::GivenUp); // nobody told the gate of that
        self.demand(was == At::OnItsWay(told), 5, || {
            format!("client {client} is sent back, and was {was:?}")
        });
    }

    /// Who is refused at the end of its hold had a look of the probe shortly before.
    fn had_its_look(&mut self, client: usize) {
        let entry = &self.entries[client];
        let (from, at) = (entry.deadline.before(LAST_LOOK), entry.at);
        let waited = at == At::Waiting && entry.arrived <= from && self.wanted_since.is_some_and(|since| since <= from);
        let looked = self.probed_at;
        self.demand(!waited || looked.is_some_and(|at| at >= from), 8, || {
            format!("client {client} is refused, and the last look was at {looked:?}")
        });
    }

    /// The gate is told that the backend died: who was alone with it, then or just before, may have done it.
    pub(crate) fn told_died(&mut self) {
        let mut there = self.all(|e| matches!(e.at, At::OnItsWay(_)));
        let alone = match (there.next(), there.next()) {
            (Some(client), None) => Some(client),
            (None, _) => self.last_dropped,
            (Some(_), Some(_)) => None,
        };
        drop(there);
        self.last_dropped = None;
        if let Some(client) = alone {
            self.entries[client].deaths += 1;
        }
    }

    pub(super) fn refused(&mut self, now: Time, client: usize, refusal: Refusal) {
        let (seen, entry) = (self.seen, self.entries[client].clone());
        let live = matches!(entry.at, At::Waiting | At::OnItsWay(_));
        self.demand(live, 5, || {
            format!("client {client} is refused, and was {:?}", entry.at)
        });
        let due = now >= entry.deadline;
        if refusal == Refusal::HoldTimeout {
            self.had_its_look(client);
        }
        let named = match refusal {
            Refusal::HoldTimeout => due && entry.at != At::OnItsWay(None),
            Refusal::Unanswered => due && entry.at == At::OnItsWay(None) && !entry.is_http(),
            Refusal::HeldFull => entry.full,
            Refusal::HeldOfAddress => entry.over.0,
            Refusal::HeldOfKey => entry.over.1,
            // Said at the very step that shuts the gate, before the change is said.
            Refusal::NotReady => !entry.may_wait,
            Refusal::StartFailed => seen == Seen::Failed && self.is_lost(),
            Refusal::Degraded => self.is_refused(entry.need) && !self.is_met(entry.need),
            Refusal::Draining => seen == Seen::Draining,
            Refusal::ByHand => self.hand() == Hand::Refuse,
            Refusal::Shed
            | Refusal::Descriptors
            | Refusal::BadRequest
            | Refusal::HeadTimeout
            | Refusal::HeadTooLarge
            | Refusal::Version
            | Refusal::Method
            | Refusal::NoRoute
            | Refusal::BodyTooLarge
            | Refusal::BodyTimeout
            | Refusal::EarlyBudget
            | Refusal::EarlyTooMuch
            | Refusal::EarlyPings
            | Refusal::Subprotocol
            | Refusal::Origin
            | Refusal::Host
            | Refusal::Connections
            | Refusal::ConnectionsOfAddress
            | Refusal::ConnectionsOfUser
            | Refusal::HandshakeRate => false,
            Refusal::BadAnswer => entry.deaths >= u32::from(self.limits.deaths_max),
        };
        self.demand(named, 8, || {
            format!("client {client} ({:?}) is refused: {refusal} ({seen:?})", entry.at)
        });
        self.parts(client, false);
        let entry = &mut self.entries[client];
        entry.at = At::Refused(refusal);
        entry.ended = Some(now);
    }
}
