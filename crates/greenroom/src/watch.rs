//! The watch over relayed connections whose routes ask for it: who is silent, idle, old or slow; and over those who are
//! held with a 101 of greenroom's own (`held`).
//!
//! One task of the house looks at all of them once per [`WATCH_EVERY`], so that no connection has a timer and no
//! message costs anything for it. It reads what the books know of a connection and its `Pulse`, asks core
//! ([`greenroom_core::watch`]), and leaves what is to be done in the connection's mailbox; the relay does it
//! (`relay::beat`). While nobody asks for anything the task sleeps.
//!
//! ```text
//!   relay ── joins ──▶ newcomers ──▶ lines: pulse + machine ── each 500 ms ──▶ mailbox ──▶ relay
//!     └──── pinged, answered, waits: pulse, record ───────────────▲
//! ```
//!
//! Bounded by the connections that there can be; each costs some 300 bytes here. A look is made in pieces of
//! [`WATCH_PIECE`], between which others have their turn.

mod held;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use greenroom_core::event::State;
use greenroom_core::limits::{WATCH_EVERY, WATCH_PIECE};
use greenroom_core::time::Time;
use greenroom_core::watch::{Asks, Over, Peer, Rule, Seen, Watch, lifetime};
use greenroom_core::wire::Sender;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use held::Held;

use crate::clock;
use crate::config::RouteOf;
use crate::registry::{Notice, Record, Registry};

/// What a relay is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Ping this side.
    Ping(Sender),
    /// Close.
    Close(Over),
}

/// What a relay and the watch share. The relay alone writes it.
#[derive(Debug)]
pub(crate) struct Pulse {
    record: Arc<Record>,
    route: RouteOf,
    /// When it must end by its age.
    ends: Time,
    client: Beat,
    backend: Beat,
    /// Since when something has waited for the client; 0: nothing does.
    waits_since: AtomicU64,
}

/// Of the pings to one side.
#[derive(Debug, Default)]
struct Beat {
    /// When the last was written, if it is unanswered; else 0.
    pinged: AtomicU64,
    /// How many were answered.
    pongs: AtomicU32,
    /// How often something came that may become an answer.
    parts: AtomicU32,
}

impl Pulse {
    /// Of a relay that begins now, if its route asks for anything.
    pub(crate) fn of(record: &Arc<Record>, route: RouteOf, now: Time, seed: u64) -> Option<Arc<Self>> {
        let rule = route.watch;
        (!rule.is_empty()).then(|| {
            Arc::new(Self {
                record: Arc::clone(record),
                route,
                ends: (rule.lifetime).map_or(Time::NEVER, |most| now + lifetime(most, seed)),
                client: Beat::default(),
                backend: Beat::default(),
                waits_since: AtomicU64::new(0),
            })
        })
    }

    /// What its route asks for.
    pub(crate) fn rule(&self) -> &Rule {
        &self.route.watch
    }

    /// A ping was written to this side.
    pub(crate) fn pinged(&self, side: Sender, now: Time) {
        self.beat(side).pinged.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// So many pings to this side were answered. `is_last`: the last of them too, which is noted for the books.
    pub(crate) fn answered(&self, side: Sender, count: u32, is_last: bool, now: Time) {
        let beat = self.beat(side);
        let pongs = beat.pongs.load(Ordering::Relaxed).wrapping_add(count);
        beat.pongs.store(pongs, Ordering::Relaxed);
        if is_last && let Some(pinged) = moment(&beat.pinged) {
            beat.pinged.store(0, Ordering::Relaxed);
            if side == Sender::Client {
                self.record.set_ping(now.since(pinged));
            }
        }
    }

    /// A part of what may become an answer has come from this side.
    pub(crate) fn heard(&self, side: Sender) {
        let parts = &self.beat(side).parts;
        parts.store(parts.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Since when something has waited for the client without interruption, if it has.
    pub(crate) fn waits(&self, since: Option<Time>) {
        let since = since.map_or(0, |at| at.as_nanos().max(1));
        self.waits_since.store(since, Ordering::Relaxed);
    }

    fn beat(&self, side: Sender) -> &Beat {
        match side {
            Sender::Client => &self.client,
            Sender::Backend => &self.backend,
        }
    }

    /// What is known of it now.
    pub(crate) fn seen(&self) -> Seen {
        let ((up, messages_up), (down, messages_down)) = (self.record.up.get(), self.record.down.get());
        let (for_backend, for_client) = self.record.buffered();
        let peer = |beat: &Beat, bytes, unwritten| Peer {
            bytes,
            pongs: (beat.pongs.load(Ordering::Relaxed)).wrapping_add(beat.parts.load(Ordering::Relaxed)),
            pinged: moment(&beat.pinged),
            unwritten,
        };
        Seen {
            client: peer(&self.client, up, for_client),
            backend: peer(&self.backend, down, for_backend),
            messages: messages_up.wrapping_add(messages_down),
            waits_since: moment(&self.waits_since),
        }
    }
}

fn moment(at: &AtomicU64) -> Option<Time> {
    Some(at.load(Ordering::Relaxed))
        .filter(|&at| at > 0)
        .map(Time::from_nanos)
}

/// Those who want to be watched and were not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    pulses: Mutex<Vec<Arc<Pulse>>>,
    held: Mutex<Vec<Held>>,
    came: Notify,
}

impl Newcomers {
    /// It is watched from now on, until its relay ends.
    pub(crate) fn join(&self, pulse: &Arc<Pulse>) {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.push(Arc::clone(pulse));
        drop(pulses);
        self.came.notify_one();
    }

    /// It has a 101 of greenroom's own, and is pinged from now on, until it is let in or gone.
    pub(crate) fn join_held(&self, record: &Arc<Record>, accepted: Time) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(Held::new(record, accepted));
        drop(held);
        self.came.notify_one();
    }

    fn take(&self) -> (Vec<Arc<Pulse>>, Vec<Held>) {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *pulses), std::mem::take(&mut *held))
    }
}

/// One connection that is watched.
struct Line {
    pulse: Arc<Pulse>,
    watch: Watch,
}

impl Line {
    fn new(pulse: Arc<Pulse>, now: Time) -> Self {
        let watch = Watch::new(now, pulse.ends, pulse.seen());
        Self { pulse, watch }
    }

    /// One look. False: its relay is over.
    fn look(&mut self, now: Time) -> bool {
        let record = &self.pulse.record;
        if record.state().0 != State::Relaying {
            return false;
        }
        let asks = self.watch.look(self.pulse.rule(), now, self.pulse.seen());
        if asks != Asks::default() {
            self.tell(asks);
        }
        true
    }

    fn tell(&self, asks: Asks) {
        let record = &self.pulse.record;
        if asks.missed {
            record.miss_pong();
        }
        let pings = [(asks.ping_client, Sender::Client), (asks.ping_backend, Sender::Backend)];
        let pings = pings.into_iter().filter(|(is_asked, _)| *is_asked);
        let words = pings.map(|(_, side)| Word::Ping(side));
        for word in words.chain(asks.close.map(Word::Close)) {
            let _ = record.mailbox.tell(Notice::Watch(word)); // full: it is asked for again at the next look
        }
    }
}

/// Watches for ever.
pub async fn run(registry: Arc<Registry>) {
    loop {
        registry.newcomers.came.notified().await;
        let mut grid = interval_at(Instant::now() + WATCH_EVERY, WATCH_EVERY);
        grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut lines, mut held) = (Vec::<Line>::new(), Vec::new());
        loop {
            grid.tick().await;
            let now = clock::now();
            let (pulses, accepted) = registry.newcomers.take();
            lines.extend(pulses.into_iter().map(|pulse| Line::new(pulse, now)));
            held.extend(accepted);
            if lines.is_empty() && held.is_empty() {
                break;
            }
            look(&mut lines, Line::look).await;
            look(&mut held, Held::look).await;
        }
    }
}

/// Looks at all, and drops those that need no more.
async fn look<L>(lines: &mut Vec<L>, at_one: impl Fn(&mut L, Time) -> bool) {
    let mut at = 0;
    while at < lines.len() {
        let now = clock::now();
        for _ in 0..WATCH_PIECE.min(lines.len() - at) {
            if at_one(&mut lines[at], now) {
                at += 1;
            } else {
                lines.swap_remove(at);
            }
        }
        tokio::task::yield_now().await;
    }
    if lines.len() < lines.capacity() / 4 {
        lines.shrink_to(lines.len() * 2); // a crowd that has gone leaves no room kept for it
    }
}

#[cfg(test)]
mod tests;
