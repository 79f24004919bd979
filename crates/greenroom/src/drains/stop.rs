//! The closes of a stop: all relays, at the pace of `[drain]`, and at once when somebody hurries.
//!
//! Whoever was on the way in when the stop began is a relay a moment later, so the books are looked through every
//! `DRAIN_LOOK`, until the house is empty and this is dropped. A look takes the lock of one shard at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use greenroom_core::drain::{Pace, Subject, plan, seed_for};
use greenroom_core::event::State;
use greenroom_core::limits::{DRAIN_BURST, DRAIN_LOOK};
use greenroom_core::time::Time;
use tokio::sync::watch;

use super::close;
use crate::clock;
use crate::config::Manner;
use crate::registry::{Record, Registry};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Stop {
    registry: Arc<Registry>,
    manner: Manner,
    seed: u64,
    deadline: Time,
    hurry: watch::Receiver<bool>,
    /// Those who have been planned, by number: some are told, and none is planned again.
    known: HashMap<u64, Arc<Record>>,
    /// Who is still to be told, by when.
    plan: VecDeque<(Time, u64)>,
    /// How often it has looked, so that no two looks draw the same.
    looks: u64,
}

impl Stop {
    /// All must be told by the deadline.
    pub(crate) fn new(
        registry: &Arc<Registry>,
        manner: &Manner,
        (seed, deadline): (u64, Time),
        hurry: watch::Receiver<bool>,
    ) -> Self {
        Self {
            registry: Arc::clone(registry),
            manner: manner.clone(),
            seed,
            deadline,
            hurry,
            known: HashMap::new(),
            plan: VecDeque::new(),
            looks: 0,
        }
    }

    /// Closes whoever is there, and whoever still comes, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let is_hurried = *self.hurry.borrow_and_update();
            self.look(if is_hurried {
                Pace::Window(std::time::Duration::ZERO)
            } else {
                self.manner.pace
            });
            self.tell(is_hurried).await;
            let look = clock::now() + DRAIN_LOOK;
            let next = self.plan.front().map_or(look, |&(at, _)| at.min(look));
            tokio::select! {
                () = clock::until(Some(next)) => {}
                Ok(()) = self.hurry.changed() => {}
            }
        }
    }

    /// Plans those who are relayed and were not planned before: over what is left of the window.
    fn look(&mut self, pace: Pace) {
        let now = clock::now();
        let all = self.registry.all().into_iter();
        let new = all.filter(|record| record.state().0 == State::Relaying && !self.known.contains_key(&record.number));
        let new: Vec<Arc<Record>> = new.collect();
        if new.is_empty() {
            return;
        }
        self.looks += 1;
        let subjects: Vec<Subject> = new.iter().map(|record| subject(record)).collect();
        let deadline = Some(self.deadline.max(now));
        let closes = plan(now, seed_for(self.seed, self.looks), &subjects, (pace, 100), deadline);
        self.plan.extend(closes);
        self.plan.make_contiguous().sort_unstable();
        self.known.extend(new.into_iter().map(|record| (record.number, record)));
    }

    /// Tells those whose turn it is, or all.
    async fn tell(&mut self, all: bool) {
        let now = clock::now();
        let mut told = 0;
        while let Some((_, number)) = self.plan.pop_front_if(|(at, _)| all || *at <= now) {
            if let Some(record) = self.known.get(&number) {
                close(record, &self.manner, self.seed, None);
            }
            told += 1;
            if told % DRAIN_BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// What core needs to know of a connection.
pub(super) fn subject(record: &Record) -> Subject {
    Subject {
        number: record.number,
        since: record.state().1,
    }
}
