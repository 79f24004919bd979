//! Telling what happens: sentences on a terminal, JSON lines otherwise.
//!
//! An [`Event`] is a documented interface (`docs/events.md`): tests and tools
//! wait on them. Events are written to standard error by a thread of their own
//! through a bounded queue, so that a slow or closed pipe never holds up a
//! connection; what does not fit is dropped, counted, and said with the next line.
//! Whatever a peer chose is escaped: no line break or control byte of a client
//! reaches the log as such.

mod sentence;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use greenroom_core::limits::{LOG_FLUSH, LOG_GATHER, LOG_QUEUE, LOG_WRITE};
use serde::Serialize;

use crate::clock;

/// What happened. The names of the fields are those of the JSON lines.
#[derive(Clone, Debug, Serialize)]
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
    /// A client waits at the gate.
    Held {
        /// Its sequence number.
        session: u64,
        /// How many wait now.
        count: usize,
    },
    /// A client that waits has a 101 of greenroom's own.
    Accepted {
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
        /// `open`, `limited`, `shut`.
        gate: &'static str,
        /// Why.
        why: &'static str,
        /// How many wait now.
        held: usize,
    },
    /// A session was let in: its head is written to the backend.
    Released {
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
        /// Its sequence number.
        session: u64,
        /// What the backend did.
        answer: &'static str,
    },
    /// A client was refused.
    Refused {
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

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970, for people and log stores.
    ts: f64,
    /// Seconds since greenroom started, monotonic, for arithmetic.
    at: f64,
    /// Of which backend, where there are several.
    #[serde(skip_serializing_if = "Option::is_none", rename = "backend")]
    of: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

/// An event on its way to the writer.
struct Told {
    ts: f64,
    at: f64,
    of: Option<Arc<str>>,
    event: Event,
}

enum Message {
    Event(Told),
    Flush(SyncSender<()>),
}

/// Where events go. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Log {
    of: Option<Arc<str>>,
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Log {
    /// Starts the writer thread.
    #[must_use]
    pub fn start(format: Format) -> Self {
        let (sender, receiver) = sync_channel(LOG_QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let writer = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write(format, &receiver, &counter, &mut std::io::stderr()));
        Self {
            of: None,
            sender,
            lost,
            writer: Arc::new(Mutex::new(writer.ok())),
        }
    }

    /// The same log, for what happens with one of several backends.
    #[must_use]
    pub fn of(&self, backend: &str) -> Self {
        Self {
            of: Some(backend.into()),
            ..self.clone()
        }
    }

    /// The backend that it names, if there are several.
    #[must_use]
    pub fn label(&self) -> Option<Arc<str>> {
        self.of.clone()
    }

    /// Says what happened. Never waits: a line that does not fit is counted as lost.
    pub fn say(&self, event: Event) {
        self.say_of(self.of.clone(), event);
    }

    /// The same of the backend that is named.
    pub(crate) fn say_of(&self, of: Option<Arc<str>>, event: Event) {
        let ts = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |d| d.as_secs_f64());
        let at = clock::now().since(greenroom_core::time::Time::ZERO).as_secs_f64();
        let told = Message::Event(Told { ts, at, of, event });
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.sender.try_send(told) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped, as standard error was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
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

    /// Waits (bounded) until what was said is written: the last act of the program.
    pub fn flush(&self) {
        if self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        let until = Instant::now() + LOG_FLUSH;
        let (done, wait) = sync_channel(1);
        // The queue may be full: room comes with the next write.
        while let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Flush(done.clone())) {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(LOG_GATHER);
        }
        let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes for ever: what has gathered goes out in one piece.
fn write(format: Format, receiver: &Receiver<Message>, lost: &AtomicU64, to: &mut impl Write) {
    let mut out = Vec::new();
    let mut told = 0;
    let mut stories = sentence::Stories::default();
    let mut last = (0.0, 0.0);
    // What is said after `stopped` is not told: it is the last line.
    let mut over = false;
    while let Ok(first) = receiver.recv() {
        out.clear();
        if let Message::Event(told) = &first {
            last = (told.ts, told.at);
        }
        let missing = lost.load(Ordering::Relaxed);
        if missing > told && !over {
            let message = format!("{} log lines were dropped: standard error is too slow", missing - told);
            told = missing;
            let event = Event::Warning { message };
            let ((ts, at), of) = (last, None);
            append(format, &mut stories, &mut out, &Told { ts, at, of, event });
        }
        let mut flush = None;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Event(_) if over => {}
                Message::Event(told) => {
                    last = (told.ts, told.at);
                    over = matches!(told.event, Event::Stopped { .. });
                    append(format, &mut stories, &mut out, &told);
                }
                Message::Flush(done) => flush = Some(done),
            }
            next = if out.len() < LOG_WRITE {
                receiver.try_recv().ok()
            } else {
                None
            };
        }
        if format == Format::Text {
            stories.pause(&mut out, last.1);
        }
        let _ = to.write_all(&out); // a closed pipe must not end the program
        match flush {
            Some(done) => {
                let _ = done.send(());
            }
            // A crowd that goes in says much at once: gathering spares it a wake-up of this thread for each word.
            None => std::thread::sleep(LOG_GATHER),
        }
    }
}

fn append(format: Format, stories: &mut sentence::Stories, out: &mut Vec<u8>, told: &Told) {
    match format {
        Format::Json => {
            let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
            let line = Line {
                ts: round(told.ts),
                at: round(told.at),
                of: told.of.as_deref(),
                event: &told.event,
            };
            if serde_json::to_writer(&mut *out, &line).is_ok() {
                out.push(b'\n');
            }
        }
        Format::Text => stories.tell(out, told.at, told.of.as_ref(), &told.event),
    }
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
    fn a_json_line_is_flat_and_says_event_and_time() {
        let mut out = Vec::new();
        let event = Event::Held { session: 7, count: 3 };
        let (ts, at) = (1.5, 0.25);
        let mut stories = sentence::Stories::default();
        let of = None;
        append(Format::Json, &mut stories, &mut out, &Told { ts, at, of, event });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"ts\":1.5,\"at\":0.25,\"event\":\"held\",\"session\":7,\"count\":3}\n"
        );
    }

    #[test]
    fn nothing_is_told_after_stopped() {
        let (sender, receiver) = sync_channel(8);
        let say = |event| {
            let (ts, at, of) = (1.0, 1.0, None);
            sender.send(Message::Event(Told { ts, at, of, event })).unwrap();
        };
        let gate = || Event::Gate {
            gate: "shut",
            why: "",
            held: 0,
        };
        say(gate());
        say(Event::Stopped {
            code: 0,
            accepted: 0,
            closed: Default::default(),
            refused: Default::default(),
        });
        say(gate());
        let (done, flushed) = sync_channel(1);
        sender.send(Message::Flush(done)).unwrap();
        drop(sender);
        let mut out = Vec::new();
        write(Format::Json, &receiver, &AtomicU64::new(0), &mut out);
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.lines().last().unwrap().contains("\"stopped\""), "{lines}");
        assert!(flushed.recv().is_ok(), "it is still waited for");
    }

    #[test]
    fn dropped_lines_are_told_once_and_with_a_time() {
        let lines = |events: Vec<Event>| {
            let (sender, receiver) = sync_channel(8);
            for event in events {
                let (ts, at, of) = (1.5, 0.5, None);
                sender.send(Message::Event(Told { ts, at, of, event })).unwrap();
                sender.send(Message::Flush(sync_channel(1).0)).unwrap();
            }
            drop(sender);
            let mut out = Vec::new();
            write(Format::Json, &receiver, &AtomicU64::new(3), &mut out);
            String::from_utf8(out).unwrap()
        };
        let message = String::new();
        let told = lines(vec![Event::Warning { message }]);
        let first = told.lines().next().unwrap();
        assert!(
            first.starts_with("{\"ts\":1.5,\"at\":0.5,") && first.contains("3 log lines were dropped"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 2, "once: {told}");
    }

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
