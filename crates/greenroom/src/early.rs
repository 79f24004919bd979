//! What all accepted clients together have sent before their backends were ready: one budget for the house.
//!
//! Core's [`Budget`] decides; here are its lock, held for a few instructions when a client's memory grows, and
//! the ears of those who are told to make room or who wait for some. A client that is relayed is not told, and has no
//! part in it once its backend has taken what was kept. Bounded by `early_budget`.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use greenroom_core::buffer::Budget;
use greenroom_core::limits::CROWD_LEAST_BYTES;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

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
    freed: Arc<Notify>,
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
            freed: Arc::default(),
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
            freed: None,
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
    /// How it is told to go, once it keeps something: most keep nothing, and carry nothing for this.
    leave: Option<Pin<Box<OwnedNotified>>>,
    /// Its place in the line of those who wait for memory, while it does.
    freed: Option<Pin<Box<OwnedNotified>>>,
    /// It heard that memory came free, and has not told the next.
    is_told: bool,
}

impl Share {
    /// Takes `more` bytes; `false`: there are none, see [`Share::poll_freed`].
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
            let leave: Arc<Notify> = Arc::default();
            self.leave = Some(Box::pin(Arc::clone(&leave).notified_owned()));
            books.holders.insert(self.ticket, leave);
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

    /// Ready when this client is to go, to make room.
    pub(crate) fn poll_told_to_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.leave {
            Some(leave) => leave.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Ready when memory may have come free, for one of those who wait at a time: it tries then, and says what came of it. One
    /// that leaves the line before, another is told.
    pub(crate) fn poll_freed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let house = &self.room.house;
        let line = || Box::pin(Arc::clone(&house.freed).notified_owned());
        ready!(self.freed.get_or_insert_with(line).as_mut().poll(cx));
        self.freed = None;
        self.is_told = true;
        Poll::Ready(())
    }

    /// It got what it wanted, or wants none any more: there may be some for the next.
    pub(crate) fn pass_on(&mut self) {
        self.freed = None;
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

    #[test]
    fn the_newest_is_told_to_leave_and_who_waits_for_memory_hears_that_some_is_free() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let room = EarlyRoom::new(1000, &Arc::default());
        let (mut old, mut new) = (room.share(), room.share());
        assert!(old.grow(500) && new.grow(399) && room.used() == 899);
        assert!(!room.admits());
        assert!(old.grow(1));
        assert!(new.poll_told_to_leave(cx).is_ready() && old.poll_told_to_leave(cx).is_pending());
        assert!(!old.grow(500));
        assert!(old.poll_freed(cx).is_pending());
        drop(new);
        assert!(old.poll_freed(cx).is_ready());
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

    #[test]
    fn one_who_waits_is_told_at_a_time_and_tells_the_next_unless_there_was_none() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let room = EarlyRoom::new(1000, &Arc::default());
        let (mut first, mut second, mut third) = (room.share(), room.share(), room.share());
        let mut holder = room.share();
        assert!(holder.grow(950) && !first.grow(100) && !second.grow(100));
        assert!(first.poll_freed(cx).is_pending() && second.poll_freed(cx).is_pending());
        drop(holder);
        assert!(
            first.poll_freed(cx).is_ready() && second.poll_freed(cx).is_pending(),
            "one"
        );
        assert!(first.grow(600));
        first.pass_on();
        assert!(second.poll_freed(cx).is_ready(), "there may be more");
        assert!(!second.grow(600));
        second.got_none();
        assert!(second.poll_freed(cx).is_pending(), "it waits anew");
        drop(second);
        assert!(third.poll_freed(cx).is_pending(), "there was none");
        room.house.freed.notify_one();
        assert!(third.poll_freed(cx).is_ready());
        drop(third);
        let mut fourth = room.share();
        assert!(fourth.poll_freed(cx).is_ready(), "who was told and left tells the next");
        fourth.got_none();
        let mut fifth = room.share();
        assert!(fourth.poll_freed(cx).is_pending() && fifth.poll_freed(cx).is_pending());
        room.house.freed.notify_one();
        fourth.pass_on(); // it was to hear of it, and wants none any more
        assert!(fifth.poll_freed(cx).is_ready(), "who leaves the line tells the next");
    }
}
