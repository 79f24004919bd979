//! One drain by command: its plan, its task, and how far it has come.
//!
//! Whose turn it is is decided once, when it begins: of those who are relayed then, or dialled. Who comes later is not its
//! business; `new` says what the gate does with them meanwhile. Bounded by those connections; what it keeps of them is
//! gone when it is over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::drain::{plan, share};
use greenroom_core::event::State;
use greenroom_core::gate::Hand;
use greenroom_core::limits::{CLOSE_HANDSHAKE, DRAIN_BURST, DRAIN_LOOK, FIRST_SECOND};
use greenroom_core::time::Time;
use tokio::sync::watch;

use super::close;
use super::stop::subject;
use crate::admin::client::Filter;
use crate::clock;
use crate::config::{DrainKind, Manner};
use crate::driver::{Message, SetBy};
use crate::front::Backend;
use crate::registry::{Record, Registry};
use crate::telemetry::{Event, Log};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Whose connections, in words for people.
    pub(crate) of: String,
    /// The same as it was said.
    pub(crate) filter: Filter,
    pub(crate) kind: DrainKind,
    pub(crate) manner: Manner,
    /// How many of them, in hundredths.
    pub(crate) percent: u8,
    /// What the gates of these do with those who come meanwhile.
    pub(crate) new: Hand,
    pub(crate) gates: Vec<Arc<Backend>>,
}

impl PartialEq for Ask {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (self, other);
        (&one.filter, one.kind, &one.manner, one.percent, one.new)
            == (&two.filter, two.kind, &two.manner, two.percent, two.new)
    }
}

/// Where a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Under way.
    Draining,
    /// All were told, and are over or had the time of a close handshake.
    Drained,
    /// It was ended before: who was not told stays.
    Cancelled,
}

impl Progress {
    /// The word for it in the admin API.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Cancelled => "cancelled",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
    pub(crate) begun: Time,
    /// When the last is told.
    pub(crate) last: Time,
    /// How many there were, and how many of them are closed.
    pub(crate) matching: usize,
    pub(crate) chosen: usize,
    told: AtomicUsize,
    /// Of those who were told: over by now.
    over: AtomicUsize,
    closing: Mutex<Vec<Arc<Record>>>,
    /// Of what was asked for: until it is over, so that no backend is kept longer.
    gates: Mutex<Vec<Arc<Backend>>>,
    seed: u64,
    progress: watch::Sender<Progress>,
}

/// Who is told, and when.
pub(super) type Plan = Vec<(Time, Arc<Record>)>;

impl Course {
    /// Of those that `takes` accepts.
    pub(super) fn plan(
        id: u64,
        seed: u64,
        mut ask: Ask,
        registry: &Registry,
        takes: impl Fn(&Record) -> bool,
    ) -> (Arc<Self>, Plan) {
        let now = clock::now();
        let is_there = |record: &Record| matches!(record.state().0, State::Relaying | State::Dialing);
        let mut all = registry.all();
        all.retain(|record| is_there(record) && takes(record));
        let subjects: Vec<_> = all.iter().map(|record| subject(record)).collect();
        let closes = plan(now, seed, &subjects, (ask.manner.pace, ask.percent), None);
        let last = closes.last().map_or(now, |&(at, _)| at);
        let find = |number: u64| {
            let index = all.binary_search_by_key(&number, |record| record.number).ok()?;
            Some(Arc::clone(&all[index]))
        };
        let closes: Plan = (closes.into_iter())
            .filter_map(|(at, number)| Some((at, find(number)?)))
            .collect();
        let course = Self {
            id,
            begun: now,
            last,
            matching: all.len(),
            chosen: share(all.len(), ask.percent),
            gates: Mutex::new(std::mem::take(&mut ask.gates)),
            ask,
            told: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            closing: Mutex::default(),
            seed,
            progress: watch::channel(Progress::Draining).0,
        };
        (Arc::new(course), closes)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.progress() == Progress::Draining
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// How many were told, and how many of them are over.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let closing = self.closing(); // so that nobody is counted twice
        let more = closing.iter().filter(|record| is_over(record)).count();
        let over = self.over.load(Ordering::Relaxed) + more;
        (self.told.load(Ordering::Relaxed), over)
    }

    /// Ends it, if it is under way: who was not told stays.
    pub(crate) fn cancel(&self) {
        self.progress.send_if_modified(|progress| {
            let is_under_way = *progress == Progress::Draining;
            if is_under_way {
                *progress = Progress::Cancelled;
            }
            is_under_way
        });
    }

    /// Sees it through.
    pub(super) async fn run(self: Arc<Self>, plan: Plan, log: Log) {
        log.say(Event::Draining {
            drain: self.id,
            kind: self.ask.kind.word(),
            of: self.ask.of.clone(),
            connections: self.chosen,
            within: self.last.since(self.begun).as_secs_f64(),
        });
        let mut progress = self.progress.subscribe();
        tokio::select! {
            () = self.see_through(plan) => {}
            _ = progress.wait_for(|progress| *progress != Progress::Draining) => {}
        }
        self.progress.send_if_modified(|progress| {
            let is_done = *progress == Progress::Draining;
            if is_done {
                *progress = Progress::Drained;
            }
            is_done
        });
        let (told, closed) = self.counts();
        self.over.store(closed, Ordering::Relaxed);
        self.closing().clear();
        self.hand_gates(Hand::Auto);
        self.gates().clear();
        log.say(Event::Drained {
            drain: self.id,
            kind: self.ask.kind.word(),
            told,
            closed,
            cancelled: self.progress() == Progress::Cancelled,
        });
    }

    async fn see_through(&self, plan: Plan) {
        let detail = format!("drain {} ({})", self.id, self.ask.kind.word());
        let mut plan = VecDeque::from(plan);
        let mut index = 0;
        while let Some((at, record)) = plan.pop_front() {
            index += 1;
            if at > clock::now() {
                clock::until(Some(at)).await;
            } else if index % DRAIN_BURST == 0 {
                tokio::task::yield_now().await;
            }
            match record.state().0 {
                State::Held => continue, // its dial failed, and it waits: nobody has let it in
                State::Closing | State::Closed => continue, // it has left before its turn
                State::Opening | State::Http | State::Dialing | State::Relaying | State::Parked => {}
            }
            if let Some(free) = too_young(&record, clock::now()) {
                let at = plan.back().map_or(free, |&(last, _)| last.max(free));
                plan.push_back((at, record));
                continue;
            }
            self.told.fetch_add(1, Ordering::Relaxed);
            close(&record, &self.ask.manner, self.seed, Some(&detail));
            self.closing().push(record);
            if index % DRAIN_BURST == 0 {
                self.forget_over();
            }
        }
        // Who takes its time has that of a close handshake for each side, and as much for the end of a large frame.
        let deadline = clock::now() + CLOSE_HANDSHAKE * 3;
        while !self.forget_over() && clock::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Counts those who are over, and keeps no more of them; whether none is left.
    fn forget_over(&self) -> bool {
        let mut closing = self.closing();
        let before = closing.len();
        closing.retain(|record| !is_over(record));
        self.over.fetch_add(before - closing.len(), Ordering::Relaxed);
        closing.is_empty()
    }

    /// What the gates do with those who come. One that was set by hand meanwhile, or before, stays as it is.
    pub(super) fn hand_gates(&self, hand: Hand) {
        if self.ask.new != Hand::Auto {
            for backend in &*self.gates() {
                backend.inbox.tell(Message::Hand {
                    hand,
                    until: None,
                    by: SetBy::Drain(self.id),
                });
            }
        }
    }

    /// The backends whose gates do not what it wants, as a person has set them by hand, or taken them back since.
    pub(crate) async fn left_alone(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.ask.new == Hand::Auto || !self.is_under_way() {
            return left;
        }
        let gates = self.gates().clone();
        for backend in gates {
            let status = backend.inbox.status().await;
            let hand = status.and_then(|status| status.by_hand);
            if self.is_under_way() && !hand.is_some_and(|hand| hand.is_of_drain()) {
                left.push(backend.name.clone());
            }
        }
        left
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Arc<Backend>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closing(&self) -> MutexGuard<'_, Vec<Arc<Record>>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is dialled still, or has its 101 for less than a second: when it may be closed, as things stand. It was dialled when the
/// drain began, and a dial ends in a bounded time.
fn too_young(record: &Record, now: Time) -> Option<Time> {
    match record.state() {
        (State::Dialing, _) => Some(now + FIRST_SECOND),
        (State::Relaying, since) => Some(since + FIRST_SECOND).filter(|&free| free > now),
        (State::Opening | State::Http | State::Held | State::Parked | State::Closing | State::Closed, _) => None,
    }
}

fn is_over(record: &Record) -> bool {
    record.state().0 == State::Closed
}
