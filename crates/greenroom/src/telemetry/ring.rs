//! The last events, each with a number: what the log's writer and the event streams read, each at its own pace.
//!
//! ```text
//!  say() ──▶ [ 41 42 43 44 45 46 ]        numbers without gaps, in the order of saying
//!                  ▲        ▲
//!                  │        └─ the writer of standard error
//!                  └─ a stream that is slow
//! ```
//!
//! Whoever says something takes a lock for as long as a push takes, and waits for nobody: a reader that falls behind
//! what is kept hears how many it has missed, and goes on. Events that nobody has read yet are let go by who says
//! something only beyond `LOG_QUEUE`; else the writer does it, on its own thread.
//! Bounded by `EVENTS_KEPT`, by `LOG_QUEUE` while the writer is behind, and by `EVENT_STREAMS_MAX` streams.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_core::limits::{EVENT_STREAMS_MAX, EVENTS_KEPT, LOG_QUEUE};
use tokio::sync::Notify;

use super::{Event, Told};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Ring {
    inner: Mutex<Inner>,
    /// Told to the writer: something is there, or the log is closed.
    came: Condvar,
    /// Told to who waits for the log's end: something was written, or a stream has ended.
    went: Condvar,
    /// Streams that are open.
    streams: AtomicUsize,
    /// Told to them: something is there.
    told: Notify,
    /// This life of greenroom, in the ids of its events.
    boot: u32,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Arc<Told>>,
    /// How many were let go: the first that is kept has the number behind it.
    gone: u64,
    /// The last that the writer has taken, and has written.
    taken: u64,
    written: u64,
    /// How many the writer has never taken.
    dropped: u64,
    writer_waits: bool,
    /// Somebody waits until all is written.
    is_flushed: bool,
    /// `stopped` was said, which is the last word.
    is_over: bool,
    /// Nobody can say anything any more.
    is_closed: bool,
}

impl Inner {
    fn last(&self) -> u64 {
        self.gone + self.kept.len() as u64 // no usize is wider
    }
}

/// What one look has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// So many are gone that come before them.
    pub(crate) missed: u64,
    /// With their numbers.
    pub(crate) events: Vec<(u64, Arc<Told>)>,
    /// Nothing comes behind them, now or ever.
    pub(crate) is_end: bool,
}

impl Ring {
    pub(super) fn new() -> Self {
        let mut boot = [0; 4];
        let boot = match getrandom::fill(&mut boot) {
            Ok(()) => u32::from_ne_bytes(boot),
            Err(_) => std::process::id(),
        };
        Self {
            inner: Mutex::default(),
            came: Condvar::new(),
            went: Condvar::new(),
            streams: AtomicUsize::new(0),
            told: Notify::new(),
            boot,
        }
    }

    /// Something happened. Never waits for a reader.
    pub(super) fn push(&self, told: Told) {
        let is_last = matches!(told.event, Event::Stopped { .. });
        let told = Arc::new(told);
        let mut inner = self.inner();
        if inner.is_over {
            return; // the last word was said
        }
        inner.is_over = is_last;
        inner.kept.push_back(told);
        let too_old = if inner.kept.len() > LOG_QUEUE {
            inner.gone += 1;
            inner.kept.pop_front()
        } else {
            None
        };
        let wakes = std::mem::take(&mut inner.writer_waits);
        drop(inner);
        drop(too_old); // not under the lock
        if wakes {
            self.came.notify_one();
        }
        if self.streams.load(Ordering::Relaxed) > 0 {
            self.told.notify_waiters();
        }
    }

    /// Waits for what the writer has not taken yet: at most `most`, and how many were let go before them.
    /// `None`: nobody can say anything any more, and all is taken.
    pub(super) fn take(&self, most: usize) -> Option<(u64, Vec<Arc<Told>>)> {
        let mut inner = self.inner();
        while inner.last() == inner.taken {
            if inner.is_closed {
                return None;
            }
            inner.writer_waits = true;
            inner = self.came.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let missed = inner.gone.saturating_sub(inner.taken);
        inner.dropped += missed;
        let from = inner.taken.max(inner.gone);
        let events: Vec<_> = inner.behind(from).take(most).cloned().collect();
        inner.taken = from + events.len() as u64;
        Some((missed, events))
    }

    /// How many were let go before the writer took them.
    pub(super) fn dropped(&self) -> u64 {
        self.inner().dropped
    }

    /// What was taken is written. Whether the writer may rest a moment, as nobody waits for the end.
    pub(super) fn wrote(&self) -> bool {
        let mut inner = self.inner();
        inner.written = inner.taken;
        let most = inner.kept.len().saturating_sub(EVENTS_KEPT);
        let read = inner.taken.saturating_sub(inner.gone);
        let most = most.min(usize::try_from(read).unwrap_or(usize::MAX));
        let old: Vec<_> = inner.kept.drain(..most).collect();
        inner.gone += most as u64;
        let is_flushed = std::mem::take(&mut inner.is_flushed);
        drop(inner);
        drop(old); // not under the lock
        self.went.notify_all();
        !is_flushed
    }

    /// Waits (bounded) until all that was said is written.
    pub(super) fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut inner = self.inner();
        let last = inner.last();
        while inner.written < last {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner.is_flushed = true;
            inner = self.waited(inner, left);
        }
    }

    /// Waits (bounded) until all streams have ended, if the last word was said: so they have heard it.
    pub(super) fn flush_streams(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut inner = self.inner();
        while inner.is_over && self.streams.load(Ordering::SeqCst) > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.waited(inner, left);
        }
    }

    fn waited<'a>(&'a self, inner: MutexGuard<'a, Inner>, left: Duration) -> MutexGuard<'a, Inner> {
        let waited = self.went.wait_timeout(inner, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Nobody can say anything any more.
    pub(super) fn close(&self) {
        self.inner().is_closed = true;
        self.came.notify_one();
    }

    /// The id of an event.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{:08x}-{number}", self.boot)
    }

    /// The number in an id, if it is one of this life that was given.
    pub(crate) fn number(&self, id: &str) -> Option<u64> {
        let (boot, number) = id.split_once('-')?;
        let number = number.parse().ok()?;
        (u32::from_str_radix(boot, 16) == Ok(self.boot) && number <= self.last()).then_some(number)
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.inner().last()
    }

    /// What is behind a number, at most `most`.
    pub(crate) fn read(&self, after: u64, most: usize) -> Found {
        let inner = self.inner();
        let from = after.max(inner.gone);
        let events: Vec<_> = (from + 1..).zip(inner.behind(from).take(most).cloned()).collect();
        let seen = from + events.len() as u64;
        Found {
            missed: from - after,
            events,
            is_end: seen == inner.last() && (inner.is_over || inner.is_closed),
        }
    }

    /// Waits until something is behind a number, or will never be.
    pub(crate) async fn more(&self, after: u64) {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable(); // before looking, so that nothing is overlooked
            {
                let inner = self.inner();
                if inner.last() > after || inner.is_over || inner.is_closed {
                    return;
                }
            }
            told.await;
        }
    }

    /// A place for one more stream; `None`: as many as may be are open.
    pub(crate) fn watch(self: &Arc<Self>) -> Option<Watching> {
        let more = |open: usize| (open < EVENT_STREAMS_MAX).then_some(open + 1);
        self.streams
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()
            .map(|_| Watching(Arc::clone(self)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Those behind a number that is not before the first.
    fn behind(&self, number: u64) -> impl Iterator<Item = &Arc<Told>> {
        let skipped = usize::try_from(number.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        self.kept.range(skipped.min(self.kept.len())..)
    }
}

/// The place of one stream; free again when dropped.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Ring>);

impl Drop for Watching {
    fn drop(&mut self) {
        let inner = self.0.inner(); // who waits for this has looked, or looks after it
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
        drop(inner);
        self.0.went.notify_all();
    }
}

impl std::ops::Deref for Watching {
    type Target = Arc<Ring>;

    fn deref(&self) -> &Arc<Ring> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: u64) -> Told {
        Told {
            ts: 0.0,
            at: 0.0,
            of: None,
            is_named: false,
            event: Event::Warning {
                message: message.to_string(),
            },
        }
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.events.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_reader_that_falls_behind_hears_how_many_it_has_missed_and_goes_on() {
        let ring = Ring::new();
        for number in 1..=EVENTS_KEPT as u64 + 10 {
            ring.push(told(number));
        }
        assert_eq!(
            numbers(&ring.read(0, 2)),
            [1, 2],
            "the writer has read none: all is kept"
        );
        let last = ring.last();
        while ring.inner().taken < last {
            assert_eq!(ring.take(100).unwrap().0, 0);
            ring.wrote();
        }
        let found = ring.read(3, 2);
        assert_eq!((found.missed, numbers(&found)), (7, vec![11, 12]));
        let found = ring.read(ring.last(), 2);
        assert_eq!((found.missed, found.events.len(), found.is_end), (0, 0, false));
    }

    #[test]
    fn a_writer_that_is_stuck_costs_the_oldest_lines_and_nobody_else() {
        let ring = Ring::new();
        for number in 1..=LOG_QUEUE as u64 + 5 {
            ring.push(told(number));
        }
        let (missed, events) = ring.take(1).unwrap();
        assert_eq!((missed, events.len()), (5, 1));
        assert!(matches!(&events[0].event, Event::Warning { message } if message == "6"));
        let found = ring.read(ring.last() - 1, 9);
        assert_eq!(numbers(&found), [LOG_QUEUE as u64 + 5], "streams have no part in it");
    }

    #[test]
    fn ids_are_of_one_life() {
        let (ring, other) = (Ring::new(), Ring::new());
        ring.push(told(1));
        assert_eq!(ring.number(&ring.id(1)), Some(1));
        assert_eq!(ring.number(&ring.id(2)), None, "it was never given");
        assert_eq!(ring.number("0-1"), None);
        assert_eq!(ring.number("nonsense"), None);
        if other.boot != ring.boot {
            assert_eq!(ring.number(&other.id(1)), None);
        }
    }

    #[test]
    fn streams_are_bounded_and_a_place_comes_free() {
        let ring = Arc::new(Ring::new());
        let mut all: Vec<_> = (0..EVENT_STREAMS_MAX).map(|_| ring.watch().unwrap()).collect();
        assert!(ring.watch().is_none());
        all.pop();
        assert!(ring.watch().is_some());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_event_and_by_the_last() {
        let ring = Arc::new(Ring::new());
        let place = ring.watch().unwrap();
        let waits = tokio::spawn(async move { place.more(0).await });
        tokio::task::yield_now().await;
        ring.push(told(1));
        waits.await.unwrap();
        ring.push(Told {
            event: Event::Stopped {
                code: 0,
                accepted: 0,
                closed: Default::default(),
                refused: Default::default(),
            },
            ..told(0)
        });
        ring.push(told(3));
        ring.more(2).await;
        let found = ring.read(1, 9);
        assert_eq!(
            (numbers(&found), found.is_end),
            (vec![2], true),
            "nothing is told after it"
        );
    }
}
