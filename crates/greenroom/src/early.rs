//! What all accepted clients together have sent before their backends were ready: one budget for the house.
//!
//! Core's [`Budget`] decides; here are its lock, held for a few instructions when a client's memory grows, and
//! the ears of those who are told to make room or who wait for some. A client that is relayed is not told, and has no
//! part in it once its backend has taken what was kept. Bounded by `early_budget`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::buffer::Budget;
use greenroom_core::limits::CROWD_LEAST_BYTES;
use tokio::sync::Notify;

use crate::memory::Crowd;

/// What the clients of one backend take of it. See the module's head.
#[derive(Debug)]
pub struct EarlyRoom {
    house: Arc<House>,
    /// Bytes that clients of this part keep: added to and taken from with the house's own figure.
    bytes: AtomicUsize,
}

#[derive(Debug)]
struct House {
    books: Mutex<Books>,
    tickets: AtomicU64,
    /// Tells one of those who wait for memory, the first, that some came free; who got some tells the next. Were all told at
    /// once, thousands would look for what is enough for a few, and other clients of their thread would wait.
    freed: Notify,
    /// How much there was, so that it is given back when it is gone.
    crowd: Crowd,
}

#[derive(Debug)]
struct Books {
    budget: Budget,
    /// Those who keep something, and how they are told to go.
    holders: HashMap<u64, Arc<Notify>>,
}

impl EarlyRoom {
    /// For `max` bytes; `gone` is told when most of many bytes are free again.
    #[must_use]
    pub fn new(max: usize, gone: &Arc<Notify>) -> Arc<Self> {
        let house = House {
            books: Mutex::new(Books {
                budget: Budget::new(max),
                holders: HashMap::new(),
            }),
            tickets: AtomicU64::new(1),
            freed: Notify::new(),
            crowd: Crowd::new(CROWD_LEAST_BYTES, gone),
        };
        Arc::new(Self {
            house: Arc::new(house),
            bytes: AtomicUsize::new(0),
        })
    }

    /// A part of the same budget whose bytes can be told apart.
    #[must_use]
    pub fn part(&self) -> Arc<Self> {
        Arc::new(Self {
            house: Arc::clone(&self.house),
            bytes: AtomicUsize::new(0),
        })
    }

    /// For `max` bytes from now on. Where more is kept, some are told to make room, as ever.
    pub(crate) fn set_max(&self, max: usize) {
        let mut books = self.books();
        books.budget.set_max(max);
        Self::tell(&mut books);
        drop(books);
        self.house.freed.notify_one(); // there may be more: one tells the next
    }

    /// Whether another client may be accepted.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.books().budget.admits()
    }

    /// Bytes that are kept by clients of this part.
    #[must_use]
    pub fn used_here(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that are kept, by all parts.
    #[must_use]
    pub fn used(&self) -> usize {
        self.books().budget.used()
    }

    /// The part of a client that is accepted now.
    #[must_use]
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            room: Arc::clone(self),
            ticket: self.house.tickets.fetch_add(1, Ordering::Relaxed),
            leave: None,
            is_told: false,
        }
    }

    /// Tells those who are to make room.
    fn tell(books: &mut Books) {
        while let Some(ticket) = books.budget.next_to_leave() {
            if let Some(leave) = books.holders.get(&ticket) {
                leave.notify_one();
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.house.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's part. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<EarlyRoom>,
    ticket: u64,
    /// How it is told to go, once it keeps something.
    leave: Option<Arc<Notify>>,
    /// It heard that memory came free, and has not told the next.
    is_told: bool,
}

impl Share {
    /// Takes `more` bytes; `false`: there are none, see [`Share::freed`].
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let mut books = self.room.books();
        let granted = books.budget.grow(self.ticket, more);
        if granted {
            self.room.bytes.fetch_add(more, Ordering::Relaxed);
        }
        self.room.house.crowd.grows(books.budget.used());
        if granted && self.leave.is_none() {
            let leave = self.leave.insert(Arc::default());
            books.holders.insert(self.ticket, Arc::clone(leave));
        }
        EarlyRoom::tell(&mut books);
        granted
    }

    /// It keeps nothing any more.
    pub(crate) fn free(&mut self) {
        let held = self.leave.take().is_some();
        if held {
            let mut books = self.room.books();
            let kept = books.budget.free(self.ticket);
            self.room.bytes.fetch_sub(kept, Ordering::Relaxed);
            books.holders.remove(&self.ticket);
            self.room.house.crowd.shrinks(books.budget.used());
        }
        if std::mem::take(&mut self.is_told) || held {
            self.room.house.freed.notify_one(); // kept for the next who waits, if nobody does
        }
    }

    /// Its client is relayed: it keeps its part until that is dropped, and is not told to leave any more.
    pub(crate) fn let_in(&mut self) {
        if self.leave.is_some() {
            let mut books = self.room.books();
            books.budget.let_in(self.ticket);
            books.holders.remove(&self.ticket);
            EarlyRoom::tell(&mut books); // another, if it was to make room
        }
    }

    /// Ends when this client is to go, to make room.
    pub(crate) async fn told_to_leave(&self) {
        match &self.leave {
            Some(leave) => Box::pin(leave.notified()).await, // most keep nothing, and carry nothing for this
            None => std::future::pending().await,
        }
    }

    /// Ends when memory may have come free, for one of those who wait at a time: then it says [`Share::was_told`], tries, and
    /// says what came of it. Dropped before, another is told.
    pub(crate) async fn freed(&self) {
        self.room.house.freed.notified().await;
    }

    /// It will try.
    pub(crate) fn was_told(&mut self) {
        self.is_told = true;
    }

    /// It got what it wanted, or wants none any more: there may be some for the next.
    pub(crate) fn pass_on(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.room.house.freed.notify_one();
        }
    }

    /// There was none for it, so there is none for the next.
    pub(crate) fn got_none(&mut self) {
        self.is_told = false;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Freed<'s> = std::pin::Pin<Box<dyn Future<Output = ()> + 's>>;

    #[tokio::test]
    async fn the_newest_is_told_to_leave_and_who_waits_for_memory_hears_that_some_is_free() {
        let room = EarlyRoom::new(1000, &Arc::default());
        let (mut old, mut new) = (room.share(), room.share());
        assert!(old.grow(500) && new.grow(399) && room.used() == 899);
        assert!(!room.admits());
        assert!(old.grow(1));
        new.told_to_leave().await;
        assert!(!old.grow(500));
        let freed = {
            let mut freed = Box::pin(old.freed());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(freed.as_mut().poll(&mut cx).is_pending());
            drop(new);
            freed.as_mut().poll(&mut cx).is_ready()
        };
        assert!(freed);
        assert_eq!(room.used(), 501);
        drop(old);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn parts_are_of_one_budget_and_each_knows_its_own() {
        let room = EarlyRoom::new(1000, &Arc::default());
        let (one, other) = (room.part(), room.part());
        let (mut first, mut second, mut third) = (one.share(), one.share(), other.share());
        assert!(first.grow(100) && second.grow(200) && third.grow(400) && first.grow(50));
        assert!(!third.grow(500), "of one budget");
        assert_eq!((one.used_here(), other.used_here(), room.used_here()), (350, 400, 0));
        assert_eq!((one.used(), other.used(), room.used()), (750, 750, 750));
        first.let_in();
        first.free();
        first.free();
        assert_eq!((one.used_here(), room.used()), (200, 600));
        drop((second, third));
        assert_eq!((one.used_here(), other.used_here(), room.used()), (0, 0, 0));
    }

    #[tokio::test]
    async fn one_who_waits_is_told_at_a_time_and_tells_the_next_unless_there_was_none() {
        let room = EarlyRoom::new(1000, &Arc::default());
        let (mut first, mut second, mut third) = (room.share(), room.share(), room.share());
        let mut holder = room.share();
        assert!(holder.grow(950) && !first.grow(100) && !second.grow(100));
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        let is_told = |freed: &mut Freed<'_>, cx: &mut _| freed.as_mut().poll(cx).is_ready();
        {
            let mut of_first: Freed<'_> = Box::pin(first.freed());
            let mut of_second: Freed<'_> = Box::pin(second.freed());
            assert!(!is_told(&mut of_first, cx) && !is_told(&mut of_second, cx));
            drop(holder);
            assert!(is_told(&mut of_first, cx) && !is_told(&mut of_second, cx), "one");
        }
        let mut of_second: Freed<'_> = Box::pin(second.freed());
        assert!(!is_told(&mut of_second, cx));
        first.was_told();
        assert!(first.grow(600));
        first.pass_on();
        assert!(is_told(&mut of_second, cx), "there may be more");
        drop(of_second);
        second.was_told();
        assert!(!second.grow(600));
        second.got_none();
        drop(second);
        let mut of_third: Freed<'_> = Box::pin(third.freed());
        assert!(!is_told(&mut of_third, cx), "there was none");
        drop(of_third);
        third.was_told();
        drop(third);
        let fourth = room.share();
        let mut of_fourth: Freed<'_> = Box::pin(fourth.freed());
        assert!(is_told(&mut of_fourth, cx), "who was told and left tells the next");
    }
}
