//! Decides when a silent peer is pinged, and when a connection is closed that is dead, idle, too old or too slow.
//!
//! A [`Watch`] belongs to one relayed connection of a route that asks for some of this ([`Rule`]). The shell shows it
//! what is known of the connection ([`Seen`]) once per [`WATCH_EVERY`], on a fixed grid, and does what it says
//! ([`Asks`]). No relay reads a clock for it: that somebody spoke shows by a count that is another than at the last
//! look, and counts from that look on. So nobody is closed before its time, and everybody at most one look after it
//! (two, where the time is no multiple of the grid).
//!
//! | closed as | when |
//! |---|---|
//! | dead | a ping was written, and for `timeout` from then on not a byte has come |
//! | slow | something has waited for the client all the time for `after`, and it is `bytes` or more |
//! | lifetime | it has been relayed for as long as it may |
//! | idle | no message has ended for `idle`, and none is under way |
//!
//! Three things keep it from calling somebody dead who had no chance:
//!
//! - While anything waits to be written, to either side, nobody is pinged and no time runs: a client whose bytes
//!   are not read, as its backend takes none, cannot be heard, and one that is backed up has not got the ping yet.
//! - After a gap between two looks of more than [`WATCH_GAP`] all times begin anew: greenroom itself did not run, and
//!   what was sent meanwhile lies unread.
//! - The shell looks into the socket before it believes it.
//!
//! Pure; some 150 bytes for each connection, no allocation.

use core::time::Duration;

use crate::drain::up_to;
use crate::limits::{FIRST_SECOND, LIFETIME_LEAST_PERCENT, WATCH_GAP};
use crate::time::Time;
use crate::wire::Sender;

#[cfg(doc)]
use crate::limits::WATCH_EVERY;

/// What a route asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Silent peers are pinged.
    pub ping: Option<Ping>,
    /// A connection may be without messages for so long.
    pub idle: Option<Duration>,
    /// It may be relayed for so long: see [`lifetime`].
    pub lifetime: Option<Duration>,
    /// A client that takes too little is closed.
    pub slow: Option<Slow>,
}

impl Rule {
    /// Whether it asks for nothing, so that nobody need look.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ping.is_none() && self.idle.is_none() && self.lifetime.is_none() && self.slow.is_none()
    }
}

/// How silent peers are pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// After so long a silence.
    pub interval: Duration,
    /// Then some byte must come within this time.
    pub timeout: Duration,
    /// Whether the backend is pinged too.
    pub backend: PingBackend,
}

/// Whether a backend is pinged, and what its silence means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PingBackend {
    /// It is not.
    #[default]
    No,
    /// Pings that it leaves unanswered are counted.
    Count,
    /// One that it leaves unanswered means that its connection is lost.
    Close,
}

/// When a client takes too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Something waits for it so long without interruption …
    pub after: Duration,
    /// … and so many bytes or more wait then, with what the kernel has not delivered.
    pub bytes: usize,
}

/// How long a connection of this seed may be relayed: from [`LIFETIME_LEAST_PERCENT`] to 100 % of `most`, so that those
/// that came together do not all end together; never less than its [`FIRST_SECOND`].
#[must_use]
pub fn lifetime(most: Duration, seed: u64) -> Duration {
    let least = most * LIFETIME_LEAST_PERCENT / 100;
    let room = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
    (least + Duration::from_nanos(up_to(seed, room))).max(FIRST_SECOND)
}

/// What is known of one side at a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Bytes that have come from it and were passed on.
    pub bytes: u64,
    /// Pongs that have come from it in answer to greenroom's own pings, and parts of what may become one.
    pub pongs: u32,
    /// When the last own ping to it was written, if that is unanswered.
    pub pinged: Option<Time>,
    /// Bytes that wait to be written to it.
    pub unwritten: usize,
}

/// What is known of a connection at a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The client.
    pub client: Peer,
    /// The backend.
    pub backend: Peer,
    /// Messages that have ended, both ways.
    pub messages: u64,
    /// Since when something has waited for the client without interruption.
    pub waits_since: Option<Time>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// The client is to be pinged.
    pub ping_client: bool,
    /// The backend is to be pinged.
    pub ping_backend: bool,
    /// The backend has left a ping unanswered, which is only counted.
    pub missed: bool,
    /// It is to be closed.
    pub close: Option<Over>,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// This side has answered no ping.
    Dead(Sender),
    /// It takes too little, if [`Slow::bytes`] or more wait: who has the socket knows.
    Slow,
    /// It is old enough.
    Lifetime,
    /// No message has ended for long enough. `moving`: but bytes went to or fro, so that it is not idle if a message
    /// is under way; who follows the frames knows.
    Idle {
        /// See above.
        moving: bool,
    },
}

/// What a side was heard to say.
#[derive(Clone, Copy, Debug)]
struct Heard {
    bytes: u64,
    pongs: u32,
    /// When that last grew.
    at: Time,
    /// The ping of this moment was missed, and that was counted.
    missed: Time,
}

impl Heard {
    fn new(now: Time, peer: Peer) -> Self {
        Self {
            bytes: peer.bytes,
            pongs: peer.pongs,
            at: now,
            missed: Time::ZERO,
        }
    }

    fn look(&mut self, now: Time, peer: Peer) {
        if (peer.bytes, peer.pongs) != (self.bytes, self.pongs) {
            (self.bytes, self.pongs, self.at) = (peer.bytes, peer.pongs, now);
        }
    }

    /// The ping that still waits for any sign of life.
    fn waits(&self, peer: Peer) -> Option<Time> {
        peer.pinged.filter(|&at| at >= self.at && at > self.missed)
    }
}

/// Something that is expected to change.
#[derive(Clone, Copy, Debug)]
struct Changing<T> {
    last: T,
    at: Time,
}

impl<T: PartialEq> Changing<T> {
    fn look(&mut self, now: Time, seen: T) {
        if seen != self.last {
            (self.last, self.at) = (seen, now);
        }
    }
}

/// One connection. See the module's head.
#[derive(Debug)]
pub struct Watch {
    client: Heard,
    backend: Heard,
    messages: Changing<u64>,
    /// Bytes that came, and bytes that wait: whatever moves changes one of them.
    moves: Changing<(u64, usize, usize)>,
    /// When it must end, by its age.
    ends: Time,
    /// When it was last looked at.
    looked: Time,
    /// When greenroom was last found not to have run.
    gap: Time,
    /// When something last waited to be written.
    blocked: Time,
}

impl Watch {
    /// Of a connection that is looked at from now on. `ends`: when it must end by its age; [`Time::NEVER`]: it need not.
    #[must_use]
    pub fn new(now: Time, ends: Time, seen: Seen) -> Self {
        Self {
            client: Heard::new(now, seen.client),
            backend: Heard::new(now, seen.backend),
            messages: Changing {
                last: seen.messages,
                at: now,
            },
            moves: Changing {
                last: moves(&seen),
                at: now,
            },
            ends,
            looked: now,
            gap: Time::ZERO,
            blocked: Time::ZERO,
        }
    }

    /// One look. What it asks for is asked for again at the next look, unless something was done about it.
    pub fn look(&mut self, rule: &Rule, now: Time, seen: Seen) -> Asks {
        if now.since(self.looked) > WATCH_GAP {
            self.gap = now;
        }
        self.looked = now;
        self.client.look(now, seen.client);
        self.backend.look(now, seen.backend);
        self.messages.look(now, seen.messages);
        self.moves.look(now, moves(&seen));
        let is_blocked = seen.client.unwritten > 0 || seen.backend.unwritten > 0;
        if is_blocked {
            self.blocked = now;
        }
        let mut asks = Asks::default();
        if let Some(ping) = rule.ping.filter(|_| !is_blocked) {
            self.beat(now, ping, &seen, &mut asks);
        }
        asks.close = asks
            .close
            .or_else(|| self.slow(rule.slow?, now, seen.waits_since?))
            .or((now >= self.ends).then_some(Over::Lifetime))
            .or_else(|| self.idle(rule.idle?, now, is_blocked));
        asks
    }

    fn beat(&mut self, now: Time, ping: Ping, seen: &Seen, asks: &mut Asks) {
        let since = |at: Time| at.max(self.gap).max(self.blocked);
        match self.client.waits(seen.client) {
            Some(at) if now >= since(at) + ping.timeout => asks.close = Some(Over::Dead(Sender::Client)),
            Some(_) => {}
            None => asks.ping_client = now >= self.client.at + ping.interval,
        }
        if ping.backend == PingBackend::No {
            return;
        }
        match self.backend.waits(seen.backend) {
            Some(at) if now >= since(at) + ping.timeout => match ping.backend {
                PingBackend::Close => asks.close = asks.close.or(Some(Over::Dead(Sender::Backend))),
                PingBackend::Count | PingBackend::No => {
                    asks.missed = true;
                    self.backend.missed = at;
                }
            },
            Some(_) => {}
            None => asks.ping_backend = now >= self.backend.at.max(self.backend.missed) + ping.interval,
        }
    }

    fn slow(&self, slow: Slow, now: Time, since: Time) -> Option<Over> {
        (now >= since.max(self.gap) + slow.after).then_some(Over::Slow)
    }

    fn idle(&self, idle: Duration, now: Time, is_blocked: bool) -> Option<Over> {
        let is_over = |at: Time| now >= at.max(self.gap) + idle;
        let moving = !is_over(self.moves.at);
        // What waits to be written, and goes bit by bit, is a message that is under way.
        (is_over(self.messages.at) && !(moving && is_blocked)).then_some(Over::Idle { moving })
    }
}

fn moves(seen: &Seen) -> (u64, usize, usize) {
    let bytes = seen.client.bytes.wrapping_add(seen.backend.bytes);
    (bytes, seen.client.unwritten, seen.backend.unwritten)
}

#[cfg(test)]
mod tests;
