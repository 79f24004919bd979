//! What a backend saw, in the order in which it saw it.
//!
//! A [`Journal`] keeps [`Record`]s in memory, lets others wait for one, and may
//! write each as a line of JSON for another process to read. Bounded by
//! [`limits::JOURNAL_MAX`]; what is over it is counted.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::limits;

/// One thing that happened at a backend. `at` is a moment of [`crate::clock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The process runs; this is where it will listen.
    Started {
        /// When.
        at: u64,
        /// Where it will listen.
        address: SocketAddr,
    },
    /// A phase of the start-up begins.
    Phase {
        /// When.
        at: u64,
        /// The phase.
        name: String,
    },
    /// It listens.
    Listening {
        /// When.
        at: u64,
    },
    /// The start-up is over; taken just before READY is sent.
    Ready {
        /// When.
        at: u64,
    },
    /// A client got in.
    Opening {
        /// When its head was complete.
        at: u64,
        /// `Greenroom-Session`, if it was sent.
        session: Option<u64>,
        /// `Greenroom-Attempt`, if it was sent.
        attempt: Option<u64>,
        /// The request target.
        target: String,
    },
    /// Somebody came before the backend was ready and was sent away.
    TooEarly {
        /// When.
        at: u64,
    },
}

/// Keeps records; see the head of this file.
pub struct Journal {
    inner: Mutex<Inner>,
    changed: watch::Sender<usize>,
}

struct Inner {
    records: Vec<Record>,
    not_kept: usize,
    out: Option<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("Journal")
            .field("records", &inner.records.len())
            .field("not_kept", &inner.not_kept)
            .finish()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Journal {
    /// An empty one that also writes each record to `out` as a line of JSON.
    #[must_use]
    pub fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        let inner = Mutex::new(Inner {
            records: Vec::new(),
            not_kept: 0,
            out,
        });
        Self {
            inner,
            changed: watch::Sender::new(0),
        }
    }

    /// Adds a record. A reader of the lines that went away is not an error of the writer.
    pub fn add(&self, record: Record) {
        let mut inner = self.lock();
        if let Some(out) = &mut inner.out
            && let Ok(mut line) = serde_json::to_vec(&record)
        {
            line.push(b'\n');
            if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                inner.out = None;
            }
        }
        if inner.records.len() < limits::JOURNAL_MAX {
            inner.records.push(record);
        } else {
            inner.not_kept += 1;
        }
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// All records so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// Records that were over the bound and are not kept.
    #[must_use]
    pub fn not_kept(&self) -> usize {
        self.lock().not_kept
    }

    /// `Greenroom-Session` of each opening, in the order of the openings.
    #[must_use]
    pub fn sessions(&self) -> Vec<Option<u64>> {
        let session = |record: &Record| match record {
            Record::Opening { session, .. } => Some(*session),
            Record::Started { .. }
            | Record::Phase { .. }
            | Record::Listening { .. }
            | Record::Ready { .. }
            | Record::TooEarly { .. } => None,
        };
        self.lock().records.iter().filter_map(session).collect()
    }

    /// Waits until `wanted` is true of the records; false if `patience` ends first.
    pub async fn wait_for(&self, patience: Duration, wanted: impl Fn(&[Record]) -> bool) -> bool {
        let mut changed = self.changed.subscribe();
        let waited = tokio::time::timeout(patience, async {
            while !wanted(&self.lock().records) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        });
        waited.await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is complete in itself, so a panic elsewhere spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
