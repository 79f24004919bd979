//! The closes of a stop: all relays, at the pace of `[drain]`, and at once when somebody hurries.
//!
//! Whoever was on the way in when the stop began is a relay a moment later, so the books are looked through every
//! `DRAIN_LOOK`, until the house is empty and this is dropped. A look takes the lock of one shard at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

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
            self.look(is_hurried);
            self.tell(is_hurried).await;
            let look = clock::now() + DRAIN_LOOK;
            let next = self.plan.front().map_or(look, |&(at, _)| at.min(look));
            tokio::select! {
                () = clock::until(Some(next)) => {}
                Ok(()) = self.hurry.changed() => {}
            }
        }
    }

    /// Plans those who are relayed and were not planned before: over what is left of the window, or at once.
    fn look(&mut self, is_hurried: bool) {
        let now = clock::now();
        let (pace, deadline) = match is_hurried {
            true => (Pace::Window(Duration::ZERO), now),
            false => (self.manner.pace, self.deadline.max(now)),
        };
        let all = self.registry.all().into_iter();
        let new = all.filter(|record| record.state().0 == State::Relaying && !self.known.contains_key(&record.number));
        let new: Vec<Arc<Record>> = new.collect();
        if new.is_empty() {
            return;
        }
        self.looks += 1;
        let subjects: Vec<Subject> = new.iter().map(|record| subject(record)).collect();
        let seed = seed_for(self.seed, self.looks);
        let closes = plan(now, seed, &subjects, (pace, 100), Some(deadline));
        self.plan.extend(closes);
        self.plan.make_contiguous().sort_unstable();
        self.known.extend(new.into_iter().map(|record| (record.number, record)));
    }

    /// Tells those whose turn it is, or all.
    async fn tell(&mut self, all: bool) {
        let now = clock::now();
        let mut told = 0;
        while let Some(&(at, number)) = self.plan.front()
            && (all || at <= now)
        {
            self.plan.pop_front();
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use greenroom_core::limits::FIRST_SECOND;
    use greenroom_core::wire::CloseCode;

    use super::*;
    use crate::config::Limits;
    use crate::registry::{Close, Entry, Notice};
    use crate::telemetry::{Format, Log};

    const WINDOW: Duration = Duration::from_secs(5);

    fn manner() -> Manner {
        Manner {
            pace: Pace::Window(WINDOW),
            code: CloseCode::RESTART,
            reason: "bye".into(),
        }
    }

    fn relay(registry: &Arc<Registry>) -> Entry {
        let mut entry = registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        for state in [State::Held, State::Dialing, State::Relaying] {
            entry.enter(state);
        }
        entry
    }

    /// When each is told, after now; and what.
    async fn told(entries: Vec<Entry>) -> Vec<(Duration, Close)> {
        let since = clock::now();
        let waits = entries.into_iter().map(|entry| {
            tokio::spawn(async move {
                let Notice::Close(close) = entry.record().mailbox.next().await;
                (clock::now().since(since), close)
            })
        });
        let mut told = Vec::new();
        for wait in waits.collect::<Vec<_>>() {
            told.push(wait.await.unwrap());
        }
        told.sort_by_key(|(at, _)| *at);
        told
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await; // tidy: allow-sleep the clock goes by itself here
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_told_evenly_over_the_window_and_who_comes_meanwhile_in_what_is_left_of_it() {
        let registry = Registry::new(Log::start(Format::Json), 4096, &Limits::default());
        let entries: Vec<Entry> = (0..500).map(|_| relay(&registry)).collect();
        pass(FIRST_SECOND).await;
        let (_hurry, hurries) = watch::channel(false);
        let deadline = clock::now() + WINDOW;
        tokio::spawn(Stop::new(&registry, &manner(), (7, deadline), hurries).run());
        let late = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move {
                pass(Duration::from_secs(2)).await;
                let late: Vec<Entry> = (0..100).map(|_| relay(&registry)).collect();
                told(late).await
            }
        });
        let early = told(entries).await;
        let mut fifths = [0; 5];
        for (at, close) in &early {
            fifths[usize::try_from(at.as_millis() / 1_000).unwrap().min(4)] += 1;
            assert!(
                close.reason.starts_with("bye retry-after-ms=") && close.code == CloseCode::RESTART,
                "{close:?}"
            );
        }
        assert!(fifths.iter().all(|count| (98..=102).contains(count)), "{fifths:?}");
        let late = late.await.unwrap();
        let (first, last) = (late[0].0, late[99].0);
        assert!(
            first >= FIRST_SECOND && last <= Duration::from_millis(3_002),
            "{first:?} to {last:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_hurries_has_all_told_at_once_and_who_comes_after_that_soon() {
        let registry = Registry::new(Log::start(Format::Json), 4096, &Limits::default());
        let entries: Vec<Entry> = (0..500).map(|_| relay(&registry)).collect();
        pass(FIRST_SECOND).await;
        let (hurry, hurries) = watch::channel(false);
        let deadline = clock::now() + WINDOW;
        tokio::spawn(Stop::new(&registry, &manner(), (7, deadline), hurries).run());
        tokio::task::yield_now().await;
        hurry.send_replace(true);
        let all = told(entries).await;
        assert!(
            all.iter().all(|(at, _)| *at <= Duration::from_millis(2)),
            "{:?}",
            all.last()
        );
        let late = told(vec![relay(&registry)]).await;
        assert!(late[0].0 <= DRAIN_LOOK * 2, "{:?}", late[0]);
    }
}
