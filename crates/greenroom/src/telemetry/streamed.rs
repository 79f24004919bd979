//! Events as messages of a stream: their names, what they are about, and how they look there.
//!
//! In the stream each event is told by itself, as somebody who watches wants to see it; the log tells a story instead.

use std::fmt::Write as _;

use super::ring::Ring;
use super::{Event, Told, elapsed, now, sentence, writer};

/// How the data of a message looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The line of the log, with its id.
    #[default]
    Json,
    /// A sentence.
    Text,
}

/// What a reader asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// The names of events; none: all.
    pub(crate) events: Vec<String>,
    /// A backend, and whether it is the only one.
    pub(crate) backend: Option<(String, bool)>,
    /// A session.
    pub(crate) session: Option<u64>,
    /// A connection.
    pub(crate) connection: Option<u64>,
}

/// The names of all events, as they are told.
pub(crate) const EVENTS: [&str; 29] = [
    "listening",
    "started",
    "phase",
    "start_failed",
    "check",
    "degraded",
    "opened",
    "held",
    "accepted",
    "probe",
    "ready",
    "gate",
    "released",
    "requeued",
    "relaying",
    "refused",
    "closed",
    "relays_lost",
    "exited",
    "admin",
    "warning",
    "fatal",
    "stopping",
    "reloaded",
    "reload_failed",
    "draining",
    "drained",
    "stopped",
    "missed",
];

impl Event {
    /// Its name.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Listening { .. } => "listening",
            Self::Started { .. } => "started",
            Self::Phase { .. } => "phase",
            Self::StartFailed { .. } => "start_failed",
            Self::Check { .. } => "check",
            Self::Degraded { .. } => "degraded",
            Self::Opened { .. } => "opened",
            Self::Held { .. } => "held",
            Self::Accepted { .. } => "accepted",
            Self::Probe { .. } => "probe",
            Self::Ready { .. } => "ready",
            Self::Gate { .. } => "gate",
            Self::Released { .. } => "released",
            Self::Requeued { .. } => "requeued",
            Self::Relaying { .. } => "relaying",
            Self::Refused { .. } => "refused",
            Self::Closed { .. } => "closed",
            Self::RelaysLost { .. } => "relays_lost",
            Self::Exited { .. } => "exited",
            Self::Admin { .. } => "admin",
            Self::Warning { .. } => "warning",
            Self::Fatal { .. } => "fatal",
            Self::Stopping { .. } => "stopping",
            Self::Reloaded(_) => "reloaded",
            Self::ReloadFailed(_) => "reload_failed",
            Self::Draining { .. } => "draining",
            Self::Drained { .. } => "drained",
            Self::Stopped { .. } => "stopped",
            Self::Missed { .. } => "missed",
        }
    }

    /// Whether it is no line of the log: there it would say of each connection what others say as well.
    pub(super) fn is_for_streams_alone(&self) -> bool {
        matches!(self, Self::Opened { .. } | Self::Relaying { .. } | Self::Missed { .. })
    }

    /// What it is about. Each is named here, so that a new one cannot pass for something that it is not.
    fn about(&self) -> About {
        match self {
            Self::Listening { .. }
            | Self::Admin { .. }
            | Self::Warning { .. }
            | Self::Fatal { .. }
            | Self::Stopping { .. }
            | Self::Reloaded(_)
            | Self::ReloadFailed(_)
            | Self::Draining { .. }
            | Self::Drained { .. }
            | Self::Stopped { .. }
            | Self::Missed { .. } => About::House,
            Self::Started { .. }
            | Self::Phase { .. }
            | Self::StartFailed { .. }
            | Self::Check { .. }
            | Self::Degraded { .. }
            | Self::Probe { .. }
            | Self::Ready { .. }
            | Self::Gate { .. }
            | Self::RelaysLost { .. }
            | Self::Exited { .. } => About::Backend,
            Self::Opened { connection, .. } => About::Connection(*connection, None),
            Self::Held {
                connection, session, ..
            }
            | Self::Accepted { connection, session }
            | Self::Released {
                connection, session, ..
            }
            | Self::Requeued {
                connection, session, ..
            } => About::Connection(*connection, Some(*session)),
            Self::Relaying {
                connection, session, ..
            }
            | Self::Refused {
                connection, session, ..
            }
            | Self::Closed {
                connection, session, ..
            } => About::Connection(*connection, *session),
        }
    }

    /// Whether it ends the stream, and is told whoever asks for what: else who follows could not tell an end in good order from
    /// one that broke off.
    fn is_last_word(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// greenroom as a whole, and no backend.
    House,
    /// A backend.
    Backend,
    /// A connection, and its session, if it has one.
    Connection(u64, Option<u64>),
}

impl Filter {
    pub(crate) fn takes(&self, told: &Told) -> bool {
        let event = &told.event;
        let about = event.about();
        let (connection, session) = match about {
            About::House | About::Backend => (None, None),
            About::Connection(connection, session) => (Some(connection), session),
        };
        let is_of = |(name, is_only): &(String, bool)| match told.of.as_deref() {
            Some(of) => of == name,
            None => *is_only && about != About::House,
        };
        let is_one_of = |wanted: Option<u64>, one| wanted.is_none_or(|wanted| one == Some(wanted));
        event.is_last_word()
            || (self.events.is_empty() || self.events.iter().any(|name| name == event.word()))
                && self.backend.as_ref().is_none_or(is_of)
                && is_one_of(self.session, session)
                && is_one_of(self.connection, connection)
    }
}

/// Adds an event as a message of the stream.
pub(crate) fn message(out: &mut Vec<u8>, form: Form, id: &str, told: &Told) {
    out.extend_from_slice(format!("id: {id}\nevent: {}\ndata: ", told.event.word()).as_bytes());
    match form {
        Form::Json => writer::json(out, Some(id), told),
        Form::Text => {
            let mut line = format!("greenroom {:8.3}s  ", told.at);
            if let Some(of) = told.named() {
                // Writing to a String cannot fail.
                let _ = write!(line, "{of}: ");
            }
            line.push_str(&of_itself(&told.event));
            // Several lines are several of data (WHATWG HTML §9.2.6).
            out.extend_from_slice(line.trim_end().replace('\r', " ").replace('\n', "\ndata: ").as_bytes());
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

/// Adds the message that something is missing behind an id, before what has the number `next`.
pub(crate) fn missed(out: &mut Vec<u8>, form: Form, ring: &Ring, after: String, count: Option<u64>, next: u64) {
    let told = Told {
        ts: now(),
        at: elapsed(),
        of: None,
        is_named: false,
        event: Event::Missed { after, count },
    };
    // With the id of the last that is missing: whoever goes on behind it hears of it once.
    message(out, form, &ring.id(next.saturating_sub(1)), &told);
}

/// The sentence of one event, which the log's story may tell of many at once.
fn of_itself(event: &Event) -> String {
    let of = |connection: &u64, session: Option<&u64>| match session {
        Some(session) => format!("connection {connection} (session {session})"),
        None => format!("connection {connection}"),
    };
    let seconds = |ms: &u64| *ms as f64 / 1000.0;
    match event {
        Event::Opened {
            connection,
            address,
            kind,
            path,
            ..
        } => format!("{} of {address} asks for {path} ({kind})", of(connection, None)),
        Event::Held {
            connection,
            session,
            count,
        } => format!("{} waits at the gate; {count} do now", of(connection, Some(session))),
        Event::Accepted { connection, session } => {
            format!("{} has a 101 of greenroom's own", of(connection, Some(session)))
        }
        Event::Released {
            connection,
            session,
            attempt,
            held_ms,
            ..
        } => format!(
            "{} is let in after {:.3} s (dial {attempt})",
            of(connection, Some(session)),
            seconds(held_ms)
        ),
        Event::Requeued {
            connection,
            session,
            answer,
        } => format!("{} is back in its place ({answer})", of(connection, Some(session))),
        Event::Relaying {
            connection,
            session,
            after_ms,
        } => format!(
            "{} is relayed, {:.3} s after it came",
            of(connection, session.as_ref()),
            seconds(after_ms)
        ),
        Event::Closed {
            connection,
            session,
            cause,
            detail,
            lasted_ms,
        } => {
            let detail = detail.as_deref().map_or(String::new(), |detail| format!(": {detail}"));
            format!(
                "{} is closed ({cause}) after {:.3} s{detail}",
                of(connection, session.as_ref()),
                seconds(lasted_ms)
            )
        }
        Event::Missed { after, count } => match count {
            Some(1) => format!("1 event behind {after} is missing: it is not kept any more"),
            Some(count) => format!("{count} events behind {after} are missing: they are not kept any more"),
            None => format!("what came behind {after} is missing: that id is of no event of this greenroom's life"),
        },
        other => sentence::sentence(other).unwrap_or_else(|| other.word().replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::telemetry::{ReloadFailed, Reloaded};

    fn told(event: Event, of: Option<&str>) -> Told {
        Told {
            ts: 1.5,
            at: 0.25,
            of: of.map(Into::into),
            is_named: true,
            event,
        }
    }

    fn held(connection: u64, session: u64) -> Event {
        Event::Held {
            connection,
            session,
            count: 1,
        }
    }

    #[test]
    fn every_event_has_a_name_and_is_documented() {
        let schema = serde_json::to_value(schemars::schema_for!(Event)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        let mut tags: Vec<_> = variants
            .iter()
            .map(|variant| variant["properties"]["event"]["const"].as_str().unwrap())
            .collect();
        let mut names = EVENTS.to_vec();
        tags.sort_unstable();
        names.sort_unstable();
        assert_eq!(tags, names);
        let docs = include_str!("../../../../docs/events.md");
        for name in EVENTS {
            assert!(
                docs.contains(&format!("| `{name}` |")),
                "docs/events.md does not tell of `{name}`"
            );
        }
    }

    #[test]
    fn a_name_is_the_tag_of_its_event() {
        for event in [held(1, 2), Event::Warning { message: String::new() }] {
            let value = serde_json::to_value(&event).unwrap();
            assert_eq!(value["event"], event.word());
        }
    }

    fn reloaded() -> Event {
        Event::Reloaded(Reloaded {
            by: "signal",
            changed: Vec::new(),
            orphaned: 0,
        })
    }

    fn reload_failed() -> Event {
        Event::ReloadFailed(ReloadFailed {
            by: "signal",
            reason: String::new(),
            problems: None,
            restart_needed: Vec::new(),
        })
    }

    fn stopped() -> Event {
        Event::Stopped {
            code: 0,
            accepted: 0,
            closed: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    #[test]
    fn filters_take_what_is_asked_for() {
        let takes = |filter: &Filter, event, of| filter.takes(&told(event, of));
        let warning = || Event::Warning { message: String::new() };
        let names = Filter {
            events: vec!["held".into(), "closed".into()],
            ..Filter::default()
        };
        assert!(takes(&names, held(1, 2), None) && !takes(&names, warning(), None));
        let app = |is_only| Filter {
            backend: Some(("app".into(), is_only)),
            ..Filter::default()
        };
        assert!(takes(&app(false), held(1, 2), Some("app")) && !takes(&app(false), held(1, 2), Some("other")));
        assert!(takes(&app(true), held(1, 2), None) && !takes(&app(false), held(1, 2), None));
        assert!(!takes(&app(true), warning(), None), "that is about the house");
        for event in [reloaded(), reload_failed()] {
            assert!(!takes(&app(true), event, None), "that is about the house");
        }
        let one = Filter {
            connection: Some(1),
            session: Some(2),
            ..Filter::default()
        };
        assert!(takes(&one, held(1, 2), None));
        assert!(!takes(&one, held(1, 3), None) && !takes(&one, held(2, 2), None) && !takes(&one, warning(), None));
        for filter in [&names, &app(true), &app(false), &one] {
            assert!(
                takes(filter, stopped(), None),
                "the last word is for everybody: {filter:?}"
            );
        }
    }

    #[test]
    fn a_message_is_its_id_its_name_and_its_data() {
        let mut out = Vec::new();
        message(&mut out, Form::Json, "0-7", &told(held(9, 7), Some("app")));
        let message_text = String::from_utf8(std::mem::take(&mut out)).unwrap();
        assert_eq!(
            message_text,
            "id: 0-7\nevent: held\ndata: {\"id\":\"0-7\",\"ts\":1.5,\"at\":0.25,\"backend\":\"app\",\"event\":\"held\",\
             \"connection\":9,\"session\":7,\"count\":1}\n\n"
        );
        let nasty = Event::Warning {
            message: "a\nid: b\r\n\n".into(),
        };
        message(&mut out, Form::Text, "0-8", &told(nasty, None));
        let message_text = String::from_utf8(out).unwrap();
        assert_eq!(
            message_text.lines().collect::<Vec<_>>(),
            [
                "id: 0-8",
                "event: warning",
                "data: greenroom    0.250s  a",
                "data: id: b",
                ""
            ]
        );
    }

    #[test]
    fn each_event_is_told_by_itself() {
        assert_eq!(
            of_itself(&held(9, 7)),
            "connection 9 (session 7) waits at the gate; 1 do now"
        );
        let closed = Event::Closed {
            connection: 9,
            session: None,
            cause: "client",
            detail: Some("why".into()),
            lasted_ms: 1_500,
        };
        assert_eq!(of_itself(&closed), "connection 9 is closed (client) after 1.500 s: why");
    }
}
