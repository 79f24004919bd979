//! The thread that writes the log to standard error, and how a line looks.
//!
//! What has gathered goes out in one piece. Bounded by `LOG_BATCH` lines at a time; what it does not write in time is
//! let go by the ring, and said with the next line.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greenroom_core::limits::{LOG_BATCH, LOG_GATHER};
use serde::Serialize;

use super::ring::Ring;
use super::sentence::Stories;
use super::{Event, Format, Told};

#[derive(Serialize)]
struct Line<'a> {
    /// In the event stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
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

/// Writes until nobody can say anything any more.
pub(super) fn write(is_json: &AtomicBool, ring: &Ring, to: &mut impl Write) {
    let mut out = Vec::new();
    let mut stories = Stories::default();
    while let Some((missed, events)) = ring.take(LOG_BATCH) {
        out.clear();
        let format = if is_json.load(Ordering::Relaxed) {
            Format::Json
        } else {
            Format::Text
        };
        if let Some(first) = events.first().filter(|_| missed > 0) {
            let message = format!("{missed} log lines were dropped: standard error is too slow");
            let event = Event::Warning { message };
            let (ts, at, of) = (first.ts, first.at, None);
            append(
                format,
                &mut stories,
                &mut out,
                &Told {
                    ts,
                    at,
                    of,
                    is_named: false,
                    event,
                },
            );
        }
        for told in &events {
            append(format, &mut stories, &mut out, told);
        }
        if let Some(last) = events.last().filter(|_| format == Format::Text) {
            stories.pause(&mut out, last.at);
        }
        drop(events);
        let _ = to.write_all(&out); // a closed pipe must not end the program
        if ring.wrote() {
            // A crowd that goes in says much at once: gathering spares it a wake-up of this thread for each word.
            std::thread::sleep(LOG_GATHER);
        }
    }
}

fn append(format: Format, stories: &mut Stories, out: &mut Vec<u8>, told: &Told) {
    match format {
        _ if told.event.is_for_streams_alone() => {}
        Format::Json => json(out, None, told),
        Format::Text => stories.tell(out, told.at, told.named(), &told.event),
    }
}

/// Adds an event as a line of JSON.
pub(super) fn json(out: &mut Vec<u8>, id: Option<&str>, told: &Told) {
    let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
    let line = Line {
        id,
        ts: round(told.ts),
        at: round(told.at),
        of: told.named().map(|of| &**of),
        event: &told.event,
    };
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}

/// Starts it. `None`: the system has no thread for it, and nothing is written.
pub(super) fn start(is_json: &Arc<AtomicBool>, ring: &Arc<Ring>) -> bool {
    let (is_json, ring) = (Arc::clone(is_json), Arc::clone(ring));
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&is_json, &ring, &mut std::io::stderr()))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_core::limits::LOG_QUEUE;

    fn told(event: Event) -> Told {
        let (ts, at, of) = (1.5, 0.25, None);
        Told {
            ts,
            at,
            of,
            is_named: false,
            event,
        }
    }

    fn gate() -> Event {
        Event::Gate {
            gate: "shut",
            why: "",
            held: 0,
        }
    }

    /// What is written of these.
    fn written(format: Format, events: impl IntoIterator<Item = Event>) -> String {
        let ring = Ring::new();
        for event in events {
            ring.push(told(event));
        }
        ring.close();
        let mut out = Vec::new();
        write(&AtomicBool::new(format == Format::Json), &ring, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_says_event_and_time() {
        let event = Event::Held {
            connection: 9,
            session: 7,
            count: 3,
        };
        assert_eq!(
            written(Format::Json, [event]),
            "{\"ts\":1.5,\"at\":0.25,\"event\":\"held\",\"connection\":9,\"session\":7,\"count\":3}\n"
        );
    }

    #[test]
    fn nothing_is_told_after_stopped() {
        let stopped = Event::Stopped {
            code: 0,
            accepted: 0,
            closed: Default::default(),
            refused: Default::default(),
        };
        let lines = written(Format::Json, [gate(), stopped, gate()]);
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.lines().last().unwrap().contains("\"stopped\""), "{lines}");
    }

    #[test]
    fn dropped_lines_are_told_once_and_with_a_time() {
        let lines = written(Format::Json, (0..LOG_QUEUE + 3).map(|_| gate()));
        let first = lines.lines().next().unwrap();
        assert!(
            first.starts_with("{\"ts\":1.5,\"at\":0.25,") && first.contains("3 log lines were dropped"),
            "{first}"
        );
        assert_eq!(lines.lines().count(), LOG_QUEUE + 1, "once");
    }

    #[test]
    fn what_is_for_streams_alone_is_no_line() {
        let relaying = || Event::Relaying {
            connection: 1,
            session: Some(1),
            after_ms: 2,
        };
        for format in [Format::Json, Format::Text] {
            assert_eq!(written(format, [relaying()]), "");
        }
    }
}
