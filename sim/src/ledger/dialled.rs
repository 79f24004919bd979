//! Who is dialled: whether that is the next in order, and may be now.
//!
//! - *FIFO* (7): an open gate lets in the first that waits, benched ones aside; a
//!   canary is the next after the last canary of this round, or else the first.
//!   Benched is who was rejected `rejections_max` times, until another has proved the gate, and who was rejected twice as often,
//!   until the trial is over.
//! - *Needs* (13): nobody is dialled for whom the backend is not ready by the model at that moment.
//!   Who waits aside is in nobody's way, and back in its old place when its need is met.
//! - *Alone* (11): canaries go one at a time, and not too soon one after the other.

use greenroom_core::gate::Hand;
use greenroom_core::time::Time;

use super::{At, Ledger, Seen};

impl Ledger {
    pub(super) fn dialled(&mut self, now: Time, client: usize, attempt: u32, canary: bool) {
        let entry = self.entries[client].clone();
        self.demand(entry.at == At::Waiting, 5, || {
            format!("client {client} is dialled, and was {:?}", entry.at)
        });
        self.demand(attempt == entry.attempts + 1, 5, || {
            format!("dial {attempt} of client {client} after {}", entry.attempts)
        });
        self.demand(entry.class.repeats() || entry.written.is_none(), 3, || {
            format!("request {client} cannot be sent twice, and is dialled again")
        });
        self.judge_whether(client);
        self.judge_order(now, client, canary);
        if canary {
            self.judge_canary(now, client);
        }
        self.judge_turn(client);
        let number = self.judge_dial(now, client, canary);
        let carried = (entry.turn.unwrap_or(u64::MAX), client);
        let place = if entry.benched { carried } else { self.place(client) };
        self.round = if canary { Some(place) } else { self.round };
        self.parts(client, true);
        if self.on_its_way() == 0 && self.last_dropped != Some(client) {
            self.last_dropped = None;
        }
        self.spare = self.spare.saturating_sub(1);
        self.last_dial = Some(now);
        let entry = &mut self.entries[client];
        entry.at = At::OnItsWay(None);
        entry.waited_from = Some(now);
        entry.number = number;
        entry.benched = false;
        (entry.switched, entry.settles, entry.looked, entry.lost_at) = (None, None, None, None);
        entry.attempts += 1;
    }

    /// Whether anybody may be dialled, and this one.
    fn judge_whether(&mut self, client: usize) {
        let (need, over) = (self.entries[client].need, self.entries[client].over);
        self.demand(self.told_ready, 13, || {
            format!("client {client} is dialled and the backend is not ready")
        });
        let hand = self.hand();
        self.demand(!matches!(hand, Hand::Hold | Hand::Refuse), 13, || {
            format!("client {client} is dialled, and the gate is by hand: {hand:?}")
        });
        let met = self.is_met(need) || hand == Hand::Open;
        self.demand(met, 13, || {
            format!("client {client} is dialled, and what it needs (need {need}) is not there")
        });
        self.demand(self.spare > 0, 10, || {
            format!("client {client} is dialled without a spare descriptor")
        });
        self.demand(!over.0 && !over.1, 10, || {
            format!("client {client} is let in where too many of its kind waited: {over:?}")
        });
    }

    fn judge_order(&mut self, now: Time, client: usize, canary: bool) {
        let seen = self.seen;
        let expected = match (seen, canary) {
            (Seen::Limited, true) => self.next_canary(now),
            (Seen::Proving | Seen::Sure, false) => self.first_unbenched(),
            (Seen::Doubt, false) => self
                .first_unbenched()
                .or_else(|| self.all(|e| self.is_in_line(e)).next()),
            (
                Seen::Limited
                | Seen::Shut
                | Seen::Failed
                | Seen::Refusing
                | Seen::Draining
                | Seen::Doubt
                | Seen::Proving
                | Seen::Sure,
                _,
            ) => None,
        };
        self.demand(expected == Some(client), 7, || {
            format!("client {client} is dialled (canary: {canary}, gate: {seen:?}), the next in order was {expected:?}")
        });
        self.demand(self.unanswered(now) < self.limits.dials_max, 11, || {
            "more dials than dials_max".into()
        });
    }

    fn judge_canary(&mut self, now: Time, client: usize) {
        let apart = self
            .last_canary
            .is_none_or(|last| now >= last + self.limits.canary_every);
        self.demand(apart, 11, || format!("canary {client} follows the last one too soon"));
        let patient = self
            .last_dial
            .is_none_or(|last| now >= last + self.limits.canary_patience);
        self.demand(self.on_its_way() == 0 || patient, 11, || {
            format!("canary {client} does not go alone")
        });
        self.last_canary = Some(now);
        self.canaries += 1;
    }

    fn next_canary(&self, now: Time) -> Option<usize> {
        let able = self.in_order(|e| e.class.repeats() && !e.benched);
        let benched: Vec<usize> = self
            .all(|e| self.is_in_line(e) && e.class.repeats() && e.benched)
            .collect();
        let behind = |&&client: &&usize| self.round.is_none_or(|last| self.place(client) > last);
        let behind_benched = |&&client: &&usize| self.round.is_none_or(|(_, last)| client > last);
        (able.iter().find(behind))
            .or(able.first())
            .or_else(|| benched.iter().find(behind_benched))
            .copied()
            .or_else(|| self.alone(now))
            .or(benched.first().copied())
    }
}
