//! Judges what the core decides, with books of its own.
//!
//! A ledger sees the clients (numbered in the order in which they came), what
//! the core is told and what it says. It never asks the core why. The rules:
//!
//! - *Who is dialled*, in which order and when: see `dialled`.
//! - *Settling* (1): a 101 that comes on trial is passed on when it has settled, for as
//!   long as the losses that were seen demand, and when a last look has shown nothing.
//! - Plain requests: see `plain`.
//! - *Deadline* (8): nobody waits past it, held or dialled without an answer, and
//!   nobody is refused before it but by a limit with a name that holds; shortly before it
//!   a probe that is in use looks once more.
//! - *Deaths* (8): only who was alone with a backend that died, `deaths_max` times, is refused for that.
//! - Turns, acceptance and pacing: see `turns`, `accept` and `pace`.
//! - *Progress* (9): at an open gate with a spare descriptor either nobody waits
//!   or `DIALS_MIN` are on their way; at a limited one a canary is never overdue.

use core::time::Duration;

use greenroom_core::event::Refusal;
use greenroom_core::gate::{Accept, Change, Class, Hand, Output, Who};
use greenroom_core::limits::{GateLimits, REJECTIONS_FACTOR, SETTLE_FACTOR};
use greenroom_core::session::{Answer, Verdict};
use greenroom_core::time::Time;

mod accept;
mod dialled;
mod hand;
mod outcome;
mod pace;
mod plain;
mod progress;
mod told;
mod turns;

use crate::Violation;

/// What the gate is, as far as one can see from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Shut,
    Limited,
    Doubt,
    Proving,
    Sure,
    Failed,
    Refusing,
    Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Waiting,
    /// Dialled; its answer, once there is one.
    OnItsWay(Option<Answer>),
    LetIn(Answer),
    Refused(Refusal),
    Left,
}

/// What is known of a client when it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) deadline: Time,
    pub(crate) may_wait: bool,
    pub(crate) poisoned: bool,
    pub(crate) class: Class,
    pub(crate) need: u8,
    pub(crate) accept: Accept,
    pub(crate) who: Who,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) arrived: Time,
    pub(crate) deadline: Time,
    pub(crate) may_wait: bool,
    pub(crate) poisoned: bool,
    pub(crate) class: Class,
    pub(crate) need: u8,
    pub(crate) accept: Accept,
    /// It is a browser, and another of its address was accepted before it got its place.
    follows: bool,
    /// A dial of it was given up, unanswered.
    gave_up: bool,
    pub(crate) who: Who,
    /// Its turn, while it is not in line.
    turn: Option<u64>,
    /// The number of its last dial.
    number: usize,
    /// Too many of its address, or of its key, waited when it came.
    over: (bool, bool),
    /// The last dial of a plain request on which its head was written to a backend.
    written: Option<u32>,
    /// When its current dial began, or a plain request was written on it.
    waited_from: Option<Time>,
    pub(crate) at: At,
    /// When it was let in or refused.
    pub(crate) ended: Option<Time>,
    rejections: u32,
    /// Deaths of the backend that may be its own doing.
    deaths: u32,
    benched: bool,
    attempts: u32,
    full: bool,
    /// When its 101 came, where it came on trial.
    switched: Option<Time>,
    /// When that has settled.
    settles: Option<Time>,
    /// When the gate asked for the last look, and whether that showed nothing.
    looked: Option<(Time, bool)>,
    /// When the backend's loss of the current dial lay in the shell's socket, read or not.
    pub(crate) lost_at: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    limits: GateLimits,
    pub(crate) entries: Vec<Entry>,
    pub(crate) seen: Seen,
    seen_since: Time,
    /// When the answer that was told last was a rejection: when it was told.
    rejected_at: Option<Time>,
    told_ready: bool,
    /// What the gate is by hand, and until when.
    hand: (Hand, Option<Time>),
    told: told::Told,
    spare: usize,
    last_dial: Option<Time>,
    last_canary: Option<Time>,
    /// The place of the last canary of this round.
    round: Option<(u64, usize)>,
    turns: turns::Turns,
    period: accept::Period,
    pace: pace::Pace,
    /// The gate was open, and is not any more or was not since.
    was_open: bool,
    /// The longest time from a 101 to its loss: in the trial before this one, and in this one.
    slowest: (Option<Duration>, Option<Duration>),
    /// Since when a good verdict of the probe would let in who waits.
    wanted_since: Option<Time>,
    /// When the probe looked last.
    pub(crate) probed_at: Option<Time>,
    /// Who was dropped last, while nobody was dialled afresh since.
    last_dropped: Option<usize>,
    /// A 101 was passed on at a limited gate, and no proof was announced yet.
    unproved: bool,
    pub(crate) canaries: u64,
    pub(crate) requeued: u64,
    pub(crate) accepted: u64,
    /// How often the gate was set by hand, or the hand taken back.
    pub(crate) hands: u64,
    pub(crate) fair_turns: u64,
    /// Hold periods that began with a doubt of long ago.
    pub(crate) old_doubts: u64,
    pub(crate) broken: Option<Violation>,
}

impl Ledger {
    pub(crate) fn new(limits: GateLimits, now: Time) -> Self {
        Self {
            turns: turns::Turns::default(),
            period: accept::Period::new(now),
            pace: pace::Pace::new(limits.dials_max),
            was_open: false,
            limits,
            entries: Vec::new(),
            seen: Seen::Shut,
            seen_since: Time::ZERO,
            rejected_at: None,
            told_ready: false,
            hand: (Hand::Auto, None),
            told: told::Told::default(),
            spare: usize::MAX,
            last_dial: None,
            last_canary: None,
            round: None,
            slowest: (None, None),
            wanted_since: None,
            probed_at: None,
            last_dropped: None,
            unproved: false,
            canaries: 0,
            requeued: 0,
            accepted: 0,
            hands: 0,
            fair_turns: 0,
            old_doubts: 0,
            broken: None,
        }
    }

    /// The first one counts.
    pub(crate) fn demand(&mut self, holds: bool, invariant: u8, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            let what = what();
            self.broken = Some(Violation { invariant, what });
        }
    }

    fn all(&self, pred: impl Fn(&Entry) -> bool) -> impl Iterator<Item = usize> {
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, e)| pred(e))
            .map(|(client, _)| client)
    }

    fn count(&self, pred: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|e| pred(e)).count()
    }

    fn held(&self) -> usize {
        self.count(|e| e.at == At::Waiting)
    }

    fn on_its_way(&self) -> usize {
        self.count(|e| matches!(e.at, At::OnItsWay(_)))
    }

    /// Dials without an answer that take a slot.
    fn unanswered(&self, now: Time) -> usize {
        self.count(|e| e.at == At::OnItsWay(None)) - self.slow(now)
    }

    /// Dials without an answer for so long that their slots are free again.
    fn slow(&self, now: Time) -> usize {
        let patience = self.limits.dial_patience;
        let slow = |e: &Entry| e.waited_from.is_some_and(|from| from + patience <= now);
        self.count(|e| e.at == At::OnItsWay(None) && slow(e))
    }

    fn first_unbenched(&self) -> Option<usize> {
        self.in_order(|e| !e.benched).into_iter().next()
    }

    /// It waits, and not aside.
    fn is_in_line(&self, entry: &Entry) -> bool {
        entry.at == At::Waiting && self.taken_met().has(entry.need.into())
    }

    pub(crate) fn arrived(&mut self, now: Time, arrival: Arrival) {
        let Arrival {
            deadline,
            may_wait,
            poisoned,
            class,
            need,
            accept,
            who,
        } = arrival;
        let full = self.is_full(class);
        let waits = |e: &Entry| e.at == At::Waiting && e.class == Class::WebSocket && class == Class::WebSocket;
        let of_address = self.count(|e| waits(e) && e.who.address == who.address);
        let of_key = self.count(|e| waits(e) && e.who.key == who.key);
        let is_over = |count: usize, most: Option<usize>| most.is_some_and(|most| count >= most);
        self.entries.push(Entry {
            arrived: now,
            deadline,
            may_wait,
            poisoned,
            class,
            need,
            accept,
            follows: false,
            gave_up: false,
            who,
            turn: None,
            number: 0,
            over: (
                is_over(of_address, self.limits.held_per_address),
                is_over(of_key, self.limits.held_per_key),
            ),
            written: None,
            waited_from: None,
            at: At::Waiting,
            ended: None,
            rejections: 0,
            deaths: 0,
            benched: false,
            attempts: 0,
            full,
            switched: None,
            settles: None,
            looked: None,
            lost_at: None,
        });
        let client = self.entries.len() - 1;
        self.finds_nobody(now, client);
        self.gets_place(client);
        if self.is_in_line(&self.entries[client]) {
            self.joins(client);
        }
    }

    /// It is gone, by itself or for a reason.
    pub(crate) fn left(&mut self, client: usize) {
        if matches!(self.entries[client].at, At::Waiting | At::OnItsWay(_)) {
            self.parts(client, false);
            self.entries[client].at = At::Left;
        }
    }

    /// The gate is told an answer of this client's dial.
    pub(crate) fn answered(&mut self, now: Time, client: usize, answer: Answer) {
        let on_trial = !matches!(self.seen, Seen::Doubt | Seen::Sure);
        let rejected = matches!(answer.verdict(), Verdict::NotReady | Verdict::Dropped);
        let on_its_way = matches!(self.entries[client].at, At::OnItsWay(_));
        self.judge_pace(now, client, answer);
        if let (true, Answer::LostEarly, Some(at)) = (on_its_way, answer, self.entries[client].switched) {
            self.learn(now.since(at));
        }
        self.rejected_at = (rejected && on_its_way).then_some(now);
        if self.rejected_at.is_some() && matches!(self.seen, Seen::Limited | Seen::Shut | Seen::Proving | Seen::Doubt) {
            self.settle_again(now);
        }
        let canary = if self.seen == Seen::Limited {
            self.limits.settle * SETTLE_FACTOR
        } else {
            Duration::ZERO
        };
        let settle = self.settle().max(canary);
        let entry = &mut self.entries[client];
        if let (Answer::Stood, Some((_, stood))) = (answer, &mut entry.looked) {
            *stood = true; // a look: no answer of the backend
        } else if let (At::OnItsWay(seen), false) = (&mut entry.at, answer == Answer::Stood) {
            *seen = Some(answer);
            if answer == Answer::Switched && on_trial {
                (entry.switched, entry.settles) = (Some(now), Some(now + settle));
            }
            if answer == Answer::NoDescriptor {
                self.spare = 0;
            }
        }
    }

    /// What a fresh 101 has to stand: a multiple of the slowest loss of this trial and the last, in bounds;
    /// without one the usual.
    fn settle(&self) -> Duration {
        match self.slowest.0.max(self.slowest.1) {
            Some(slowest) => (slowest * SETTLE_FACTOR).clamp(self.limits.settle_warned, self.limits.settle_max),
            None => self.limits.settle,
        }
    }

    fn learn(&mut self, delay: Duration) {
        self.slowest.1 = self.slowest.1.max(Some(delay));
    }

    /// Somebody was rejected on trial: those who settle wait their settle once more.
    fn settle_again(&mut self, now: Time) {
        let settle = self.settle();
        for entry in &mut self.entries {
            if entry.at == At::OnItsWay(Some(Answer::Switched)) && entry.settles.is_some() {
                entry.settles = entry.settles.max(Some(now + settle));
                entry.looked = None;
            }
        }
    }

    /// The gate is told that a relay was lost so long after its 101.
    pub(crate) fn told_lost_early(&mut self, now: Time, delay: Duration) {
        if matches!(self.seen, Seen::Limited | Seen::Shut | Seen::Proving | Seen::Doubt) {
            self.learn(delay);
            self.settle_again(now);
        }
    }

    /// What the gate says, of a client where it is about one.
    pub(crate) fn said(&mut self, now: Time, client: Option<usize>, output: Output) {
        match (output, client) {
            (Output::Changed(change), _) => self.changed(now, change),
            (Output::Held(_, count), Some(client)) => {
                let (held, entry) = (self.held(), self.entries[client].clone());
                self.demand(entry.at == At::Waiting, 5, || {
                    format!("client {client} is held, and was {:?}", entry.at)
                });
                self.demand(count == held, 6, || {
                    format!("{count} held, says the gate; there are {held}")
                });
                let over = entry.over.0 || entry.over.1;
                self.demand(!entry.full && !over, 10, || {
                    format!("client {client} is held where too many are: {:?}", entry.over)
                });
            }
            (Output::Dial { attempt, canary, .. }, Some(client)) => self.dialled(now, client, attempt, canary),
            (Output::Accept(_), Some(_)) => {} // judged when the shell does it
            (Output::Look(_), Some(client)) => self.is_looked_at(now, client),
            (Output::Forward(_), Some(client)) => self.forwarded(now, client),
            (Output::Requeue(_, answer), Some(client)) => self.requeued(now, client, answer),
            (Output::Refuse(_, refusal), Some(client)) => self.refused(now, client, refusal),
            (
                Output::Held(..)
                | Output::Dial { .. }
                | Output::Accept(_)
                | Output::Look(_)
                | Output::Forward(_)
                | Output::Requeue(..)
                | Output::Refuse(..),
                None,
            ) => self.demand(false, 5, || format!("{output:?} is about nobody")),
        }
    }

    fn changed(&mut self, now: Time, change: Change) {
        let seen = match change {
            Change::Opened => Seen::Doubt,
            Change::Limited | Change::Wary | Change::Doubted | Change::Lagging => Seen::Limited,
            Change::Proved(_) => Seen::Proving,
            Change::Trusted => Seen::Sure,
            // By hand it stays open for one at a time.
            Change::Unreachable if self.hand.0 == Hand::Open => Seen::Limited,
            Change::Shut | Change::Held | Change::Unreachable => match self.seen {
                Seen::Failed | Seen::Refusing | Seen::Draining => self.seen,
                Seen::Shut | Seen::Limited | Seen::Doubt | Seen::Proving | Seen::Sure => Seen::Shut,
            },
        };
        let was_open = matches!(self.seen, Seen::Doubt | Seen::Proving | Seen::Sure);
        match seen {
            Seen::Shut if was_open => self.begin_period(now),
            Seen::Limited if was_open && change == Change::Unreachable => self.begin_period(now),
            Seen::Limited if was_open => self.fails_trial(now),
            Seen::Shut
            | Seen::Limited
            | Seen::Doubt
            | Seen::Proving
            | Seen::Sure
            | Seen::Failed
            | Seen::Refusing
            | Seen::Draining => {}
        }
        match change {
            Change::Opened => self.opens(false),
            Change::Proved(_) => {
                let turns_enough = u32::from(REJECTIONS_FACTOR) * u32::from(self.limits.rejections_max);
                let called = self.entries.iter_mut().filter(|e| e.rejections < turns_enough);
                called.for_each(|e| e.benched = false);
                self.moves();
                self.opens(true);
            }
            Change::Limited
            | Change::Trusted
            | Change::Wary
            | Change::Doubted
            | Change::Lagging
            | Change::Shut
            | Change::Held
            | Change::Unreachable => {}
        }
        if change != Change::Trusted {
            self.begin_turns();
        }
        match seen {
            Seen::Limited => self.round = None,
            Seen::Sure => {
                self.entries.iter_mut().for_each(|e| e.benched = false);
                self.moves();
                self.slowest = (self.slowest.1, None); // a trial is over
            }
            Seen::Shut | Seen::Doubt | Seen::Proving | Seen::Failed | Seen::Refusing | Seen::Draining => {}
        }
        if matches!(change, Change::Shut | Change::Held | Change::Unreachable) && self.hand.0 != Hand::Open {
            self.told_ready = false;
        }
        if change == Change::Unreachable && self.rejected_at == Some(now) {
            self.settle_again(now); // it was sure until this very drop
        }
        self.unproved = false;
        self.seen = seen;
        self.seen_since = now;
    }

    fn is_looked_at(&mut self, now: Time, client: usize) {
        let entry = self.entries[client].clone();
        let settled = entry.at == At::OnItsWay(Some(Answer::Switched)) && entry.settles.is_some_and(|at| now >= at);
        self.demand(settled && entry.looked.is_none(), 1, || {
            format!("client {client} is looked at, and its 101 has not settled: {entry:?}")
        });
        self.entries[client].looked = Some((now, false));
    }

    fn forwarded(&mut self, now: Time, client: usize) {
        let (seen, entry) = (self.seen, self.entries[client].clone());
        if entry.at == At::OnItsWay(None) && entry.is_http() {
            let may = self.may_let_go(now, client);
            self.demand(may, 1, || {
                format!("the gate does not wait for request {client} ({seen:?})")
            });
            self.entries[client].at = At::LetIn(Answer::Sent);
            self.entries[client].ended = Some(now);
            return;
        }
        let At::OnItsWay(Some(answer)) = entry.at else {
            self.demand(false, 5, || {
                format!("an answer for client {client} is passed on, and it is {:?}", entry.at)
            });
            return;
        };
        // On trial nobody sees that the backend is not ready. Once it failed for good, its own words are the best.
        let bad = match answer.verdict() {
            Verdict::NotReady => !matches!(seen, Seen::Sure | Seen::Failed | Seen::Refusing),
            Verdict::Dropped => seen != Seen::Sure || entry.rejections < u32::from(self.limits.rejections_max),
            Verdict::Unreachable | Verdict::Starved | Verdict::Recalled => true,
            Verdict::Switched | Verdict::Sent | Verdict::Stood | Verdict::Proved | Verdict::Neutral => false,
        };
        // What may have been acted on is its client's.
        let bad = bad && (entry.class.repeats() || !answer.may_have_acted());
        self.demand(!bad, 1, || {
            format!("client {client} sees {answer:?} of a backend on trial ({seen:?})")
        });
        self.demand(answer != Answer::LostEarly, 1, || {
            format!("client {client} sees a 101 that is lost already")
        });
        if answer == Answer::Switched {
            let settled = entry.settles.is_none_or(|at| now >= at);
            self.demand(settled, 1, || {
                format!("client {client} sees a 101 on trial that has not settled")
            });
            let stood = entry.settles.is_none() || entry.looked.is_some_and(|(_, stood)| stood);
            self.demand(stood, 1, || {
                format!("client {client} sees a 101 on trial without a last look")
            });
            let unread = |at| entry.looked.is_some_and(|(looked, _)| at <= looked);
            self.demand(!entry.lost_at.is_some_and(unread), 1, || {
                format!("client {client} sees a 101, and its loss lay in the socket when it had settled")
            });
        }
        self.unproved = seen == Seen::Limited && matches!(answer, Answer::Switched | Answer::Spoke | Answer::Served);
        let entry = &mut self.entries[client];
        entry.at = At::LetIn(answer);
        entry.ended = Some(now);
    }

    /// Bytes of the client go to the backend.
    pub(crate) fn bytes_to_backend(&mut self, client: usize) {
        let at = self.entries[client].at;
        let open = matches!(at, At::LetIn(Answer::Switched | Answer::Spoke));
        self.demand(open, 1, || {
            format!("bytes of client {client} go to the backend, and it is {at:?}")
        });
    }

    /// The client is shown an answer of the backend.
    pub(crate) fn client_sees(&mut self, client: usize, answer: Answer) {
        let at = self.entries[client].at;
        self.demand(matches!(at, At::LetIn(_)), 1, || {
            format!("client {client} is shown {answer:?}, and it is {at:?}")
        });
    }

    /// When nothing more can happen.
    pub(crate) fn check_end(&mut self) {
        let open = self.all(|e| matches!(e.at, At::Waiting | At::OnItsWay(_))).next();
        self.demand(open.is_none(), 5, || format!("client {open:?} has no outcome"));
    }
}
