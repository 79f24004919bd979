//! What is known of one connection: its line in the books, from accept to close.
//!
//! The connection's own task writes it, and alone: so a count is a load and a store, and costs the relay no more
//! than that. Whoever asks reads it as it is at that moment; figures of one line need not be of one instant.
//! What changes with each request (its route, its path) is behind a lock of its own, taken when a head is read.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_core::event::State;
use greenroom_core::time::Time;

use super::notice::Mailbox;
use crate::config::RouteOf;
use crate::known::Known;

/// See the module's head.
#[derive(Debug)]
pub struct Record {
    /// Its number in the order of accepting, over all listeners: 1 for the first.
    pub number: u64,
    /// Its address.
    pub peer: IpAddr,
    /// When it was accepted.
    pub accepted_at: Time,
    /// Where it is, and since when: in one, so that who reads it never has the time of another state.
    stage: AtomicU64,
    session: AtomicU64,
    attempts: AtomicU32,
    accepted: AtomicU64,
    generation: AtomicU64,
    /// Bytes that the relay keeps: for the backend, for the client.
    buffered: [AtomicU32; 2],
    /// The last round trip of an own ping to the client, in microseconds and one more; 0: there was none.
    ping_us: AtomicU32,
    /// Pings that the backend left unanswered.
    pongs_missed: AtomicU32,
    /// From the client.
    pub up: Traffic,
    /// From the backend.
    pub down: Traffic,
    /// Messages of greenroom's own to the client that it was told to send.
    pub own: Traffic,
    asked: Mutex<Option<Arc<Asked>>>,
    /// Where the connection's task is told things.
    pub(crate) mailbox: Mailbox,
}

/// What a connection asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its route.
    pub route: RouteOf,
    /// The path, without its query, cut at `LOG_TEXT_MAX` characters and printable.
    pub path: Box<str>,
    /// What its client is known by, where the route asks for that.
    pub known: Option<Box<Known>>,
}

/// Of the number that says where a connection is, these are the state; the rest is since when, in nanoseconds: 73 years.
const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
/// Each state at its own number; a build in which there are more than 8 fails here.
const STATES: [State; 1 << STATE_BITS] = {
    let mut states = [State::Closed; 1 << STATE_BITS];
    let mut index = 0;
    while index < State::ALL.len() {
        states[State::ALL[index] as usize] = State::ALL[index];
        index += 1;
    }
    states
};

/// A state, and since when.
fn stage(state: State, since: Time) -> u64 {
    since.as_nanos() << STATE_BITS | state as u64
}

/// What went one way.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Traffic {
    /// So much more. Only the connection's own task says so.
    #[inline]
    pub(crate) fn add(&self, bytes: usize, messages: u32) {
        let add = |count: &AtomicU64, more: u64| count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        add(&self.bytes, bytes as u64); // no usize is wider
        if messages > 0 {
            add(&self.messages, messages.into());
        }
    }

    /// Bytes, and whole messages.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.messages.load(Ordering::Relaxed),
        )
    }
}

impl Record {
    /// Of a connection that was just accepted.
    pub(super) fn new(number: u64, peer: IpAddr, now: Time) -> Self {
        Self {
            number,
            peer,
            accepted_at: now,
            stage: AtomicU64::new(stage(State::Opening, now)),
            session: AtomicU64::new(0),
            attempts: AtomicU32::new(0),
            accepted: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            buffered: Default::default(),
            ping_us: AtomicU32::new(0),
            pongs_missed: AtomicU32::new(0),
            up: Traffic::default(),
            down: Traffic::default(),
            own: Traffic::default(),
            asked: Mutex::default(),
            mailbox: Mailbox::default(),
        }
    }

    pub(super) fn enter(&self, state: State, now: Time) {
        // Who sees the state sees what was written of it before: its session, its dial.
        self.stage.store(stage(state, now), Ordering::Release);
    }

    /// Where it is, and since when.
    #[must_use]
    pub fn state(&self) -> (State, Time) {
        let stage = self.stage.load(Ordering::Acquire);
        let state = STATES[(stage & STATE_MASK) as usize]; // fewer than 8
        (state, Time::from_nanos(stage >> STATE_BITS))
    }

    pub(super) fn set_session(&self, id: u64) {
        self.session.store(id, Ordering::Relaxed);
    }

    /// The number of its session, or of its last request; `None` before the first has arrived.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        Some(self.session.load(Ordering::Relaxed)).filter(|&id| id > 0)
    }

    /// It has a 101 of greenroom's own now.
    pub(crate) fn accept(&self, now: Time) {
        self.accepted.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Since when it has a 101 of greenroom's own, if it has one.
    #[must_use]
    pub fn accepted(&self) -> Option<Time> {
        Some(self.accepted.load(Ordering::Relaxed))
            .filter(|&at| at > 0)
            .map(Time::from_nanos)
    }

    /// A head was written to the backend for it, in this life of its process.
    pub(crate) fn dialled(&self, generation: u64) {
        self.attempts.store(
            self.attempts.load(Ordering::Relaxed).saturating_add(1),
            Ordering::Relaxed,
        );
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// How often its head was written to a backend, and in which life of its process last (0 where greenroom starts none).
    #[must_use]
    pub fn dials(&self) -> (u32, u64) {
        (
            self.attempts.load(Ordering::Relaxed),
            self.generation.load(Ordering::Relaxed),
        )
    }

    /// So many bytes wait to be written: to the backend, to the client.
    pub(crate) fn buffers(&self, for_backend: u32, for_client: u32) {
        for (count, bytes) in self.buffered.iter().zip([for_backend, for_client]) {
            count.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that wait to be written: to the backend, to the client. Of a relay that is over, when its end began.
    #[must_use]
    pub fn buffered(&self) -> (usize, usize) {
        let [for_backend, for_client] = &self.buffered;
        let bytes = |count: &AtomicU32| count.load(Ordering::Relaxed) as usize; // no usize is less
        (bytes(for_backend), bytes(for_client))
    }

    /// The client has answered an own ping after this time.
    pub(crate) fn set_ping(&self, took: Duration) {
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.ping_us.store(us.saturating_add(1), Ordering::Relaxed);
    }

    /// How long the client's answer to the last own ping took, if there was one.
    #[must_use]
    pub fn ping(&self) -> Option<Duration> {
        let us = self.ping_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(us.into()))
    }

    /// The backend has left an own ping unanswered. Only the watch says so.
    pub(crate) fn miss_pong(&self) {
        self.pongs_missed.fetch_add(1, Ordering::Relaxed);
    }

    /// Own pings that the backend left unanswered.
    #[must_use]
    pub fn pongs_missed(&self) -> u32 {
        self.pongs_missed.load(Ordering::Relaxed)
    }

    pub(super) fn asks(&self, asked: Option<Asked>) {
        *self.asked() = asked.map(Arc::new);
    }

    /// What it asks for, or asked for last.
    #[must_use]
    pub fn asks_for(&self) -> Option<Arc<Asked>> {
        self.asked().clone()
    }

    /// Looks at its route, if it has one.
    pub(super) fn with_route(&self, look: impl FnOnce(&RouteOf)) {
        if let Some(asked) = &*self.asked() {
            look(&asked.route);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Option<Arc<Asked>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn whoever_reads_where_a_connection_is_has_the_time_of_that_state() {
        let record = Record::new(1, Ipv4Addr::LOCALHOST.into(), Time::ZERO);
        // Each state begins at times that are its own.
        let count = State::ALL.len() as u64;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for at in 0..2_000_000 {
                    let state = State::ALL[usize::try_from(at % count).unwrap()];
                    record.enter(state, Time::from_nanos(at));
                    record.set_session(at + 1);
                }
            });
            while !writer.is_finished() {
                let (state, since) = record.state();
                assert_eq!(since.as_nanos() % count, state as u64, "{state} since {since:?}");
                assert!(record.session().unwrap_or(0) >= since.as_nanos());
            }
        });
        let (state, since) = record.state();
        assert_eq!((state as u64, since.as_nanos()), (1_999_999 % count, 1_999_999));
    }
}
