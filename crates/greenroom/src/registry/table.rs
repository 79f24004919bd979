//! All lines of the books: of open connections by number, and of the last that were closed.
//!
//! Open ones are in shards, so that accepting on one thread hardly ever waits for another, and a look at all of them
//! holds one shard at a time, for as long as it takes to count references. The closed ones are behind one lock, held to
//! push a line or to count references. Bounded by the connections that
//! there can be, and by `CLOSES_KEPT`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{BOOK_SHARDS, CLOSES_KEPT};
use greenroom_core::time::Time;

use super::record::Record;
use super::traffic::Sums;
use crate::known::Known;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table {
    open: [Mutex<Shard>; BOOK_SHARDS],
    closed: Mutex<VecDeque<Arc<Closed>>>,
}

/// A part of the open ones.
#[derive(Debug, Default)]
struct Shard {
    open: HashMap<u64, Arc<Record>>,
    /// What went over connections of this part that are over, by backend. Behind the same lock, so that whoever adds
    /// up finds each connection in one of the two: none twice, and none not at all.
    over: Sums,
}

/// A connection that is over.
#[derive(Debug)]
pub struct Closed {
    /// What was known of it.
    pub record: Arc<Record>,
    /// When it ended.
    pub at: Time,
    /// Where it was before its end, and since when.
    pub from: (State, Time),
    /// Why.
    pub cause: CloseCause,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What else is known of the end.
    pub detail: Option<Box<str>>,
    /// What it asked for, by name: the configuration may be another by now.
    pub asked: Option<Names>,
}

/// What a connection that is over had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The backend.
    pub backend: Box<str>,
    /// The route.
    pub route: Box<str>,
    /// The path, as in [`super::Asked`].
    pub path: Box<str>,
    /// What its client was known by.
    pub(crate) known: Option<Box<Known>>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            open: std::array::from_fn(|_| Mutex::default()),
            closed: Mutex::default(),
        }
    }

    pub(super) fn open(&self, record: &Arc<Record>) {
        self.shard(record.number).open.insert(record.number, Arc::clone(record));
    }

    /// It is over. `is_kept`: it is worth a line among the last.
    pub(super) fn close(&self, closed: Closed, is_kept: bool) {
        let record = Arc::clone(&closed.record);
        if is_kept {
            // In before out: whoever asks for it in between finds it.
            let mut last = self.last();
            if last.len() == CLOSES_KEPT {
                last.pop_front();
            }
            last.push_back(Arc::new(closed));
        }
        let mut shard = self.shard(record.number);
        shard.over.add(&record);
        let open = &mut shard.open;
        open.remove(&record.number);
        if open.len() < open.capacity() / 4 {
            let room = open.len() * 2;
            open.shrink_to(room); // a crowd that has gone leaves no room kept for it
        }
    }

    /// All that are open, in the order of their numbers.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        let mut all = Vec::new();
        for shard in &self.open {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.open.values().cloned());
        }
        all.sort_unstable_by_key(|record| record.number);
        all
    }

    pub(super) fn find(&self, number: u64) -> Option<Arc<Record>> {
        self.shard(number).open.get(&number).cloned()
    }

    /// What went over connections to this backend since greenroom began. Never less than the last time: what is over
    /// stays counted.
    pub(super) fn traffic(&self) -> Sums {
        let mut sums = Sums::default();
        for shard in &self.open {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            sums.extend(&shard.over);
            for record in shard.open.values() {
                sums.add(record);
            }
        }
        sums
    }

    /// Keeps what went over connections that are over under these names only.
    pub(super) fn fold_traffic(&self, is_known: impl Fn(&str) -> bool) {
        for shard in &self.open {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.over.fold(&is_known);
        }
    }

    /// The last that were closed, the latest first.
    pub(super) fn all_closed(&self) -> Vec<Arc<Closed>> {
        self.last().iter().rev().cloned().collect()
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(number % BOOK_SHARDS as u64).unwrap_or(0); // less than the length
        self.open[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<Arc<Closed>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
