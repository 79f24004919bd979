//! Decides which sessions wait, which is dialled next, and which are sent away.
//!
//! One [`Gate`] stands before each backend. It is shut while the backend starts,
//! opens when the backend is ready, and is limited while its readiness is only
//! inferred: then one session at a time, the *canary*, tries the way alone.
//!
//! ```text
//!              Ready(Pushed)                      trial passed
//!   Shut ────────────────────────▶ Open(doubt) ─────────────────▶ Open
//!    │ ▲                              │   first dial failed        ▲
//!    │ │ NotReady, dial refused       ▼                            │ 2 s without
//!    │ └───────────────────────── Limited ──────▶ Open(proving) ───┘ a rejection
//!    └───────────────────────────────▲   proof       │
//!              Ready(Inferred)       └───────────────┘ rejection
//! ```
//!
//! Two ways to fail: a dial that never reached an application (refused, reset)
//! sends the session back to its place and shuts the gate, and an application
//! that says "not ready" in its own words (502 to 504, Close 1011 to 1013) sends
//! it back while the gate is on trial, and is passed on once it is not.
//!
//! Order is arrival order, or round-robin over keys (`fair`): a session has a [`Place`], and going
//! back to it is an insertion. A session that was rejected three times sits on the *bench*, so that one poisoned request
//! blocks nobody: nobody else's canary waits for it. When another has proved the gate, it goes in its turn; rejected then too, it
//! is excused, and waits there until the trial is over. Two that are make a doubt, as any other does at once.
//!
//! Pure: the shell calls [`Gate::handle`] and [`Gate::handle_timeout`], then
//! drains [`Gate::poll_output`] to `None`, and comes back at [`Gate::poll_timeout`].
//! Bounded by [`GateLimits`]; the sockets live in the shell.

mod accept;
mod answer;
mod away;
mod bounds;
mod crowd;
mod deaths;
mod fair;
mod hand;
mod needs;
mod pace;
mod places;
mod release;
mod settle;
#[cfg(test)]
mod tests;

use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use accept::Period;
pub use accept::{Accept, Who};
use bounds::Excess;
use crowd::Crowd;
use deaths::Suspect;
pub use fair::Place;
use fair::Turns;
pub use hand::Hand;
use hand::{ByHand, Heard};
pub use needs::Held;
use pace::Pace;
use settle::{Lessons, Way};

use crate::event::{Refusal, SessionId};
use crate::limits::GateLimits;
use crate::readiness::Needs;
use crate::session::Answer;
use crate::time::Time;

/// How far a ready signal is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The backend said so: notify, or a verdict of `http` or `websocket`. Opens at once.
    Pushed,
    /// Somebody listens, or accepts: nothing is known of the application. Opens to limited.
    Inferred,
}

/// What a session is, as far as the gate cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A WebSocket's opening handshake: it may be tried again, and its 101 settles.
    WebSocket,
    /// A plain request. Once it is let in the gate waits for no answer of it, but on trial.
    Http {
        /// A GET or HEAD without a body: it may go first on trial, and may be tried again.
        is_safe: bool,
    },
}

impl Class {
    /// Whether it may be sent to the backend again, and so may go first on trial.
    #[must_use]
    pub const fn repeats(self) -> bool {
        matches!(self, Self::WebSocket | Self::Http { is_safe: true })
    }

    const fn is_http(self) -> bool {
        matches!(self, Self::Http { .. })
    }
}

/// What the gate is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client's head is complete. Ids arrive in increasing order.
    Arrived {
        /// Its sequence number: its place.
        id: SessionId,
        /// When its hold is over.
        deadline: Time,
        /// Whether it may wait at all, or is refused unless the gate is open (`hold = "refuse"`).
        may_wait: bool,
        /// What it is.
        class: Class,
        /// What it needs of the backend: an index into the backend's needs.
        need: u8,
        /// When it is accepted, if it has to wait.
        accept: Accept,
        /// Who it is.
        who: Who,
    },
    /// The client left while held or dialled.
    Left(SessionId),
    /// What became of a dial.
    Answered(SessionId, Answer),
    /// A plain request that went past the open gate did not reach the backend.
    Unreached,
    /// This one, which arrived just now, went past the open gate before and was dropped there without an answer.
    DroppedPast(SessionId),
    /// The backend's process died by itself. Told after whatever shuts the gate for that.
    Died,
    /// A session was lost by its backend soon after its 101 was passed on: so long after the backend gave it.
    LostEarly(Duration),
    /// For whom the backend is ready, and who is refused as it is degraded.
    Needs {
        /// Those that may go.
        met: Needs,
        /// Those that are refused.
        refused: Needs,
    },
    /// The backend is ready.
    Ready(Trust),
    /// The backend is not, or no longer.
    NotReady,
    /// The start-up failed and nothing starts it again: nobody waits in vain.
    Failed,
    /// Somebody who may says what the gate is to do, whatever the backend's readiness is; until when, if that was said.
    Hand(Hand, Option<Time>),
    /// greenroom is stopping: everybody is sent away, for good.
    Drain,
    /// How many dials the free file descriptors allow.
    Spare(usize),
    /// Whether another accepted client may say anything: the house has room for it. Until it is told so, it has.
    Room(bool),
}

/// What the shell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The session stays at the gate; so many do now.
    Held(SessionId, usize),
    /// Give the client a 101 of greenroom's own; it keeps its place. Said once of a session.
    Accept(SessionId),
    /// Let in: connect, and write the head, in the order of these outputs.
    Dial {
        /// Who.
        id: SessionId,
        /// Which dial of this session: 1 for the first.
        attempt: u32,
        /// Whether it goes alone, on trial.
        canary: bool,
    },
    /// Its 101 has settled: look once more at the connection, past what was read of it, and
    /// answer [`Answer::Stood`] if nothing lies there that was not told yet.
    Look(SessionId),
    /// Give the client what the backend said: its 101 or any other answer.
    Forward(SessionId),
    /// Drop the backend connection; the session is back in its place, unseen by its client.
    Requeue(SessionId, Answer),
    /// Send the client away.
    Refuse(SessionId, Refusal),
    /// The gate changed.
    Changed(Change),
}

/// A change of the gate, for the log and for the backend machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Open, on the backend's word.
    Opened,
    /// Limited: a canary goes first.
    Limited,
    /// A canary came through: open, on trial for `prove_for`.
    Proved(SessionId),
    /// The trial is over.
    Trusted,
    /// Limited whatever the backend says, as it died under several clients.
    Wary,
    /// A pushed ready signal came too early: limited.
    Doubted,
    /// During the trial a dial was rejected (another worker lags): limited again.
    Lagging,
    /// Shut, as the backend is not ready.
    Shut,
    /// Shut by hand.
    Held,
    /// Shut, as a dial at the open gate did not reach the backend: look again. Limited, where it is open by hand.
    Unreachable,
}

/// Where the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Everybody waits.
    Shut,
    /// One canary at a time.
    Limited {
        /// The next canary is not dialled before this.
        next: Time,
        /// The last one that was tried in this round: the next comes after it.
        after: Option<Place>,
    },
    /// Everybody goes, `dials_max` at a time.
    Open(Trial),
    /// Start-up failed: everybody is refused.
    Failed,
    /// By hand: everybody is refused.
    Refusing,
    /// greenroom stops: everybody is refused, for good.
    Draining,
}

/// How sure an open gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Sure: what the backend says is passed on.
    Over,
    /// Opened on a pushed signal; the first dial has to confirm it.
    Doubt {
        /// When it opened.
        opened: Time,
        /// When a first dial was answered; the doubt ends one `settle` later.
        answered: Option<Time>,
    },
    /// Opened by a canary; each session still settles, as other workers may lag.
    Proving {
        /// When the trial is over.
        until: Time,
    },
}

/// A session that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    deadline: Time,
    attempts: u32,
    rejections: u8,
    /// Deaths of the backend while it was there alone.
    deaths: u8,
    may_wait: bool,
    class: Class,
    need: u8,
    accept: Accept,
    /// When it is accepted, if that is still to come.
    accept_at: Option<Time>,
    /// It is a browser, and another of its address was accepted before it had to wait.
    follows: bool,
    who: Who,
    /// Its turn, while it is not in line.
    turn: Option<u64>,
}

/// A session whose dial is under way.
#[derive(Clone, Copy, Debug)]
struct Dialing {
    waiting: Waiting,
    /// Which dial of the gate's it is.
    number: u64,
    since: Time,
    way: Way,
}

/// Who waits, who goes, who is sent away. See the module's head.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    stage: Stage,
    /// Each by itself: of a tree that grows at its end nearly half the places stay empty.
    waiting: BTreeMap<SessionId, Box<Waiting>>,
    /// Rejected too often: they wait until another has proved the gate, or until the trial is over.
    bench: BTreeMap<SessionId, Box<Waiting>>,
    /// Who was rejected in this trial, and too often before to make a doubt of it.
    excused: Option<SessionId>,
    /// The backend is not ready for what they need.
    aside: BTreeMap<SessionId, Box<Waiting>>,
    met: Needs,
    refused: Needs,
    dialing: BTreeMap<SessionId, Dialing>,
    /// How many plain requests there are among those that wait, and among those that are dialled.
    http_held: usize,
    http_dialing: usize,
    /// Deadlines of all that wait and of all opening handshakes without an answer.
    deadlines: BTreeSet<(Time, SessionId)>,
    /// Dials without an answer that take a slot, by their beginning: all but those of `dial_patience`.
    asked: BTreeSet<(Time, SessionId)>,
    /// When the settling ones are looked at.
    settling: BTreeSet<(Time, SessionId)>,
    /// How many are looked at by the shell at this moment.
    looked_at: usize,
    lessons: Lessons,
    period: Period,
    turns: Turns,
    crowd: Crowd,
    pace: Pace,
    excess: Excess,
    /// It was open before, and shut since.
    is_restart: bool,
    /// Dials that the free descriptors allow.
    spare: usize,
    /// The last session that was dropped at the open gate, while nobody else was answered since.
    last_dropped: Option<SessionId>,
    suspect: Suspect,
    by_hand: ByHand,
    /// The backend died under several: one goes first, whatever its next life says.
    wary: bool,
    /// When the youngest dial began.
    dialled_at: Time,
    /// The next canary is not dialled before this, however often the gate shuts in between.
    canary_after: Time,
    /// When the gate became limited.
    limited_at: Time,
    outputs: VecDeque<Output>,
}

impl Gate {
    /// A gate that is shut, and whose hold period begins now.
    #[must_use]
    pub fn new(limits: GateLimits, now: Time) -> Self {
        Self {
            turns: Turns::new(limits.fair),
            crowd: Crowd::default(),
            excess: Excess::default(),
            pace: Pace::new(limits.dials_max.max(1), limits.release_rate),
            is_restart: false,
            limits,
            stage: Stage::Shut,
            waiting: BTreeMap::new(),
            bench: BTreeMap::new(),
            excused: None,
            aside: BTreeMap::new(),
            met: Needs::ALL,
            refused: Needs::default(),
            dialing: BTreeMap::new(),
            http_held: 0,
            http_dialing: 0,
            deadlines: BTreeSet::new(),
            asked: BTreeSet::new(),
            settling: BTreeSet::new(),
            looked_at: 0,
            lessons: Lessons::default(),
            period: Period::new(now),
            spare: usize::MAX,
            last_dropped: None,
            suspect: Suspect::Nobody,
            by_hand: ByHand::default(),
            wary: false,
            dialled_at: Time::ZERO,
            canary_after: Time::ZERO,
            limited_at: Time::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. Drain [`Gate::poll_output`] before the next.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Arrived {
                id,
                deadline,
                may_wait,
                class,
                need,
                accept,
                who,
            } => {
                let waiting = Waiting {
                    deadline,
                    attempts: 0,
                    rejections: 0,
                    deaths: 0,
                    may_wait,
                    class,
                    need,
                    accept,
                    accept_at: None,
                    follows: false,
                    who,
                    turn: None,
                };
                self.arrived(now, id, waiting);
            }
            Input::Left(id) => self.forget(id),
            Input::Answered(id, answer) => self.answered(now, id, answer),
            Input::Unreached => self.unreached(now),
            Input::DroppedPast(id) => self.suspect(id),
            Input::Died => self.died(),
            Input::LostEarly(delay) => self.lost_early(now, delay),
            Input::Needs { met, refused } => self.hears_needs(met, refused),
            Input::Ready(trust) => self.hears(now, Heard::Ready(trust)),
            Input::NotReady => self.hears(now, Heard::NotReady),
            Input::Failed => self.hears(now, Heard::Failed),
            Input::Hand(hand, until) => self.take_hand(now, hand, until),
            Input::Drain => self.turn_away(now, Stage::Draining, Refusal::Draining),
            Input::Spare(spare) => self.spare = spare,
            Input::Room(has_room) => self.has_room_for_words(has_room),
        }
        self.lose_patience(now);
        self.free_slots(now);
        self.give_up(now);
        self.release(now);
        self.accept_due(now);
        self.note_excess(false);
        self.check_invariants();
    }

    /// Takes the passing of time: deadlines, settling, trials, the next canary.
    pub fn handle_timeout(&mut self, now: Time) {
        self.end_hand(now);
        self.settle(now);
        self.expire(now);
        self.lose_patience(now);
        self.free_slots(now);
        self.end_trial(now);
        self.give_up(now);
        self.release(now);
        self.accept_due(now);
        self.note_excess(false);
        self.check_invariants();
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Gate::handle_timeout`] is next due; `None` when nothing can happen by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        let settled = self.settling.first().map(|&(at, _)| at);
        let trial = match self.stage {
            Stage::Open(Trial::Proving { until }) => Some(until),
            Stage::Open(Trial::Doubt { answered: Some(at), .. }) => Some(at + self.limits.settle),
            Stage::Open(Trial::Doubt { opened, answered: None }) => self.doubt_due(opened),
            Stage::Limited { next, .. } => self.canary_due(next),
            Stage::Shut | Stage::Open(Trial::Over) | Stage::Failed | Stage::Refusing | Stage::Draining => None,
        };
        let accept = self.period.first_due();
        let given_up = self.next_to_give_up().map(|(at, _)| at);
        let (impatient, slot, rate) = (self.impatient_at(), self.slot_due(), self.rate_due());
        let hand = self.hand().1;
        [deadline, settled, trial, accept, given_up, impatient, slot, rate, hand]
            .into_iter()
            .flatten()
            .min()
    }

    /// Where the gate stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.waiting.len() + self.bench.len() + self.aside.len()
    }

    /// When the first hold ends that ends later than `after`, of those who wait and of those dialled without an answer.
    #[must_use]
    pub fn first_deadline(&self, after: Time) -> Option<Time> {
        let later = (Bound::Excluded((after, SessionId(u64::MAX))), Bound::Unbounded);
        self.deadlines.range(later).next().map(|&(at, _)| at)
    }

    /// How many are on their way: dialled, and not yet passed on, sent back or gone.
    #[must_use]
    pub fn dialing(&self) -> usize {
        self.dialing.len()
    }

    /// How many dials may be out without an answer, as the backend's answers have it.
    #[must_use]
    pub fn window(&self) -> usize {
        self.pace.window
    }

    /// Whether the gate would dial if it had a free descriptor.
    #[must_use]
    pub fn starved(&self) -> bool {
        self.spare == 0 && self.is_wanted()
    }

    fn arrived(&mut self, now: Time, id: SessionId, waiting: Waiting) {
        let may_wait = waiting.may_wait;
        self.finds_nobody(now);
        if let Some(refusal) = self.refusal_on_arrival(now, &waiting) {
            self.outputs.push_back(Output::Refuse(id, refusal));
            return;
        }
        self.hold(id, waiting, false);
        self.release(now);
        if self.dialing.contains_key(&id) {
            return; // let in at once
        }
        if may_wait || matches!(self.stage, Stage::Open(_)) {
            self.outputs.push_back(Output::Held(id, self.held()));
        } else {
            self.forget(id); // the canary that went was somebody else
            self.outputs.push_back(Output::Refuse(id, Refusal::NotReady));
        }
    }

    fn ready(&mut self, now: Time, trust: Trust) {
        match (trust, self.stage) {
            (Trust::Pushed, Stage::Shut | Stage::Failed) if self.wary => self.go_one_by_one(now, Change::Wary),
            (Trust::Pushed, Stage::Limited { .. }) if self.wary => {}
            (Trust::Pushed, Stage::Shut | Stage::Limited { .. } | Stage::Failed) => {
                self.stage = Stage::Open(Trial::Doubt {
                    opened: now,
                    answered: None,
                });
                self.begin_window();
                self.outputs.push_back(Output::Changed(Change::Opened));
            }
            (Trust::Inferred, Stage::Shut | Stage::Failed) => self.go_one_by_one(now, Change::Limited),
            // A repeated or a weaker signal; and nothing opens a gate that drains.
            (Trust::Inferred, Stage::Limited { .. } | Stage::Open(_) | Stage::Refusing | Stage::Draining)
            | (Trust::Pushed, Stage::Open(_) | Stage::Refusing | Stage::Draining) => {}
        }
    }

    fn go_one_by_one(&mut self, now: Time, change: Change) {
        let next = now.max(self.canary_after);
        self.stage = Stage::Limited { next, after: None };
        self.limited_at = now;
        self.outputs.push_back(Output::Changed(change));
    }

    fn not_ready(&mut self, now: Time) {
        match self.stage {
            Stage::Limited { .. } | Stage::Open(_) => self.shut(now, Change::Shut),
            Stage::Failed => self.stage = Stage::Shut, // it is started again after all
            Stage::Shut | Stage::Refusing | Stage::Draining => {}
        }
    }

    fn shut(&mut self, now: Time, change: Change) {
        if matches!(self.stage, Stage::Open(_)) {
            self.goes_away(now);
        }
        self.stage = Stage::Shut;
        self.refuse_impatient();
        self.outputs.push_back(Output::Changed(change));
    }

    /// Falls back to one canary at a time, from the front, after a pause.
    fn limit(&mut self, now: Time, change: Change) {
        self.trial_fails(now);
        let next = now + self.limits.canary_every;
        self.stage = Stage::Limited { next, after: None };
        self.limited_at = now;
        self.remember_due();
        self.refuse_impatient();
        self.outputs.push_back(Output::Changed(change));
    }

    /// When a pushed ready signal is doubted, if an opening handshake waits for its answer. The first
    /// plain answers after a start are often slow, and say nothing by that.
    fn doubt_due(&self, opened: Time) -> Option<Time> {
        let oldest = self
            .dialing
            .values()
            .filter(|d| d.way == Way::Asked && !d.waiting.class.is_http())
            .map(|d| d.since)
            .min()?;
        Some(oldest.max(opened) + self.limits.ready_doubt)
    }
}
