//! Telling what happens: sentences on a terminal, JSON lines otherwise.
//!
//! An [`Event`] is a documented interface (`docs/events.md`): tests and tools
//! wait on them. The last of them are kept in a `ring`, each with a number. A thread of its
//! own writes them to standard error, and event streams read them, each at its own pace: so a slow or closed
//! pipe never holds up a connection. What a reader does not take in time is gone, counted, and said with the next line.
//! Whatever a peer chose is escaped: no line break or control byte of a client
//! reaches the log as such.

mod reload;
pub(crate) mod ring;
mod sentence;
pub(crate) mod streamed;
mod writer;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_core::limits::{EVENT_STREAMS_FLUSH, LOG_FLUSH};
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock;
use ring::Ring;

pub use reload::{ReloadFailed, Reloaded};

/// What happened. The names of the fields are those of the JSON lines.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// greenroom takes connections.
    Listening {
        /// `host:port`.
        address: String,
        /// The backend's address.
        backend: String,
        /// Clients that can be held, by limit and descriptors.
        held_max: usize,
        /// Sessions that can be relayed, by descriptors.
        relayed_max: usize,
    },
    /// A child was started.
    Started {
        /// Its process id.
        pid: u32,
        /// Which life of the backend.
        generation: u64,
    },
    /// The backend's start-up went on: what it said of itself.
    Phase {
        /// `status`, `stopping`, `reloading`, or the name of a phase.
        phase: String,
        /// The backend's own words, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
    },
    /// The start has failed.
    StartFailed {
        /// The phase that was current, if there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        /// Why.
        reason: String,
    },
    /// A check has become good or bad.
    Check {
        /// Its name.
        check: String,
        /// `good` or `bad`.
        state: &'static str,
        /// Whether the backend is not ready without it.
        critical: bool,
        /// Why it is bad.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// More or less is missing of the optional checks than before.
    Degraded {
        /// `none`, `minimal`, `moderate`, `severe` or `emergency`.
        level: &'static str,
        /// The names of those that are not good.
        missing: Vec<String>,
    },
    /// A client's first head is complete, and its route is known. In event streams alone.
    Opened {
        /// The connection's number.
        connection: u64,
        /// Where it comes from.
        address: std::net::IpAddr,
        /// `websocket` or `http`.
        kind: &'static str,
        /// Its route, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        route: Option<String>,
        /// What it asks for, without the query.
        path: String,
    },
    /// A client waits at the gate.
    Held {
        /// The connection's number.
        connection: u64,
        /// Its sequence number.
        session: u64,
        /// How many wait now.
        count: usize,
    },
    /// A client that waits has a 101 of greenroom's own.
    Accepted {
        /// The connection's number.
        connection: u64,
        /// Its sequence number.
        session: u64,
    },
    /// The backend is not ready, and that lasts: what was seen of it.
    Probe {
        /// The probe, or `notify`.
        by: &'static str,
        /// What it found.
        reason: String,
    },
    /// The backend is ready.
    Ready {
        /// `notify`, or the probe that found it.
        by: String,
        /// How many wait now.
        held: usize,
        /// Seconds since its start-up began.
        after: f64,
    },
    /// The gate changed.
    Gate {
        /// `open`, `limited`, `shut`, `failed`, `refusing` by hand, or `draining` while greenroom stops.
        gate: &'static str,
        /// Why.
        why: &'static str,
        /// How many wait now.
        held: usize,
    },
    /// A session was let in: its head is written to the backend.
    Released {
        /// The connection's number.
        connection: u64,
        /// Its sequence number.
        session: u64,
        /// Which dial.
        attempt: u32,
        /// Milliseconds since it arrived.
        held_ms: u64,
        /// Whether it went alone, on trial.
        canary: bool,
        /// Whether it had to wait before: for the text, which tells of nobody else.
        #[serde(skip)]
        waited: bool,
    },
    /// A session is back in its place, unseen by its client.
    Requeued {
        /// The connection's number.
        connection: u64,
        /// Its sequence number.
        session: u64,
        /// What the backend did.
        answer: &'static str,
    },
    /// A client has its 101 of the backend, and bytes go to and fro. In event streams alone.
    Relaying {
        /// The connection's number.
        connection: u64,
        /// Its sequence number.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u64>,
        /// Milliseconds since it was accepted from the network.
        after_ms: u64,
    },
    /// A client was refused.
    Refused {
        /// The connection's number.
        connection: u64,
        /// Its sequence number, if it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u64>,
        /// The refusal.
        refusal: &'static str,
        /// The HTTP status, before the 101.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The close code, after a 101 of greenroom's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
        /// Whom it asked for, where its head was read: its Host.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The path, without its query.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// What was wrong, where more is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A connection is over.
    Closed {
        /// The connection's number.
        connection: u64,
        /// Its sequence number, if it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u64>,
        /// The close cause.
        cause: &'static str,
        /// What was wrong, where more is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// Milliseconds since it was accepted.
        lasted_ms: u64,
    },
    /// Relayed clients whose backend connection was lost, together: they are closed with 1012.
    RelaysLost {
        /// How many.
        count: usize,
    },
    /// The child ended.
    Exited {
        /// Which life of the backend.
        generation: u64,
        /// Its exit code, or 128 + the signal.
        code: i32,
        /// The signal that ended it, if one did.
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why greenroom has ended it, if it has.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Box<str>>,
        /// Whether it is started again, and after how many milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        restart_ms: Option<u64>,
    },
    /// Somebody has changed something from outside, or wanted to: through the admin API, by a signal.
    Admin {
        /// What: one word, such as `phase`.
        action: &'static str,
        /// Who: `socket uid=1000 pid=42`, `address 10.0.0.7:41234`, `signal HUP`.
        by: String,
        /// To what: `backend app`, `connection 17`, a filter.
        what: String,
        /// To how many, where it may be several.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// `done` or `refused`.
        result: &'static str,
        /// What else is known of it; why it was refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Something a person should know or do.
    Warning {
        /// One sentence.
        message: String,
    },
    /// greenroom cannot go on, and ends with this code.
    Fatal {
        /// The exit code.
        code: u8,
        /// What, where, and what to do: one sentence.
        message: String,
    },
    /// Another configuration is in effect, or the same again.
    Reloaded(Reloaded),
    /// A reload was refused: everything is as it was.
    ReloadFailed(ReloadFailed),
    /// greenroom was told to stop.
    Stopping {
        /// The signal.
        signal: &'static str,
        /// How many wait.
        held: usize,
        /// How many are relayed.
        relayed: usize,
    },
    /// A drain by command begins.
    Draining {
        /// Its number.
        drain: u64,
        /// `deploy`, `reload`, `scale-down` or `evict`.
        kind: &'static str,
        /// Whose connections: the filter.
        of: String,
        /// How many are to be closed.
        connections: usize,
        /// Seconds until the last is told.
        within: f64,
    },
    /// A drain by command is over.
    Drained {
        /// Its number.
        drain: u64,
        /// Its kind.
        kind: &'static str,
        /// How many were told to close.
        told: usize,
        /// How many of them are closed.
        closed: usize,
        /// Whether it was ended before its time.
        cancelled: bool,
    },
    /// What a reader of the event stream has missed; in event streams alone.
    Missed {
        /// The id behind which it is missing.
        after: String,
        /// How many events; unknown where that id is of another life of greenroom.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
    /// The last line: the close ledger.
    Stopped {
        /// The exit code.
        code: u8,
        /// Connections accepted.
        accepted: u64,
        /// Connections closed, by cause.
        closed: std::collections::BTreeMap<&'static str, u64>,
        /// Connections refused, by refusal.
        refused: std::collections::BTreeMap<&'static str, u64>,
    },
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Sentences for a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Sentences on a terminal, JSON lines otherwise.
    #[must_use]
    pub fn auto() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// An event, when it happened, and of which backend.
#[derive(Debug)]
pub(crate) struct Told {
    ts: f64,
    at: f64,
    of: Option<Arc<str>>,
    /// Whether the backend is named where the event is shown.
    is_named: bool,
    event: Event,
}

impl Told {
    /// The backend, where it is named.
    fn named(&self) -> Option<&Arc<str>> {
        self.of.as_ref().filter(|_| self.is_named)
    }
}

/// Where events go. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Log {
    of: Option<Arc<str>>,
    held: Arc<Held>,
}

/// What all clones of a log share; with the last of them the writer ends.
#[derive(Debug)]
struct Held {
    ring: Arc<Ring>,
    is_written: bool,
    /// How it is written: as JSON, or in sentences.
    is_json: Arc<AtomicBool>,
    /// Whether there are several backends, so that they are named.
    names_backends: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ring.close();
    }
}

impl Log {
    /// Starts the writer thread.
    #[must_use]
    pub fn start(format: Format) -> Self {
        let ring = Arc::new(Ring::new());
        let is_json = Arc::new(AtomicBool::new(format == Format::Json));
        let is_written = writer::start(&is_json, &ring);
        Self {
            of: None,
            held: Arc::new(Held {
                ring,
                is_written,
                is_json,
                names_backends: AtomicBool::default(),
            }),
        }
    }

    /// The same log, for what happens with one backend: it is named where there are several.
    #[must_use]
    pub fn of(&self, backend: &str) -> Self {
        Self {
            of: Some(backend.into()),
            ..self.clone()
        }
    }

    /// The backend that it names where there are several.
    #[must_use]
    pub fn label(&self) -> Option<Arc<str>> {
        self.of.clone()
    }

    /// What was said last, for event streams.
    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.held.ring
    }

    /// There are several backends, or were under a name that is gone: they are named from now on.
    pub(crate) fn name_backends(&self) {
        self.held.names_backends.store(true, Ordering::Relaxed);
    }

    /// Writes otherwise from now on.
    pub(crate) fn set_format(&self, format: Format) {
        self.held.is_json.store(format == Format::Json, Ordering::Relaxed);
    }

    /// Says what happened. Never waits.
    pub fn say(&self, event: Event) {
        self.say_of(self.of.clone(), event);
    }

    /// The same of the backend that is named.
    pub(crate) fn say_of(&self, of: Option<Arc<str>>, event: Event) {
        let (ts, at) = (now(), elapsed());
        let is_named = self.held.names_backends.load(Ordering::Relaxed);
        self.held.ring.push(Told {
            ts,
            at,
            of,
            is_named,
            event,
        });
    }

    /// How many lines were dropped, as standard error was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.held.ring.dropped()
    }

    /// A sentence for a person.
    pub fn warn(&self, message: impl Into<String>) {
        self.say(Event::Warning {
            message: message.into(),
        });
    }

    /// A sentence for a person, and the exit code: it ends here.
    pub fn fatal(&self, code: u8, message: impl Into<String>) {
        let message = message.into();
        self.say(Event::Fatal { code, message });
    }

    /// Waits (bounded) until what was said is written, and streams have heard the last word: the last act of the program.
    pub fn flush(&self) {
        if self.held.is_written {
            self.held.ring.flush(LOG_FLUSH);
        }
        self.held.ring.flush_streams(EVENT_STREAMS_FLUSH);
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Seconds since greenroom started.
fn elapsed() -> f64 {
    clock::now().since(greenroom_core::time::Time::ZERO).as_secs_f64()
}

/// Whether a character writes over no terminal and turns no line around: no control character, no line break, no
/// direction mark.
#[must_use]
pub fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes text of a peer or a child fit for a log: control characters, line
/// breaks and direction marks are escaped, and it is cut at `max` characters.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(max) {
        if is_safe(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_every_refusal_and_every_close_cause() {
        let docs = include_str!("../../../docs/events.md");
        let refusals = greenroom_core::event::Refusal::ALL.iter().map(|r| r.word());
        let causes = greenroom_core::event::CloseCause::ALL.iter().map(|c| c.word());
        for word in refusals.chain(causes) {
            assert!(
                docs.contains(&format!("`{word}`")),
                "docs/events.md does not name `{word}`"
            );
        }
    }

    #[test]
    fn nothing_of_a_peer_can_break_a_line_or_move_the_cursor() {
        assert_eq!(
            printable("a\r\nb\u{1b}[2J\u{202e}c", 99),
            "a\\u{d}\\u{a}b\\u{1b}[2J\\u{202e}c"
        );
        assert_eq!(printable("abcdef", 3), "abc");
    }
}
