//! `GET /v1/events`: what happens, as it happens, as server-sent events (WHATWG HTML §9.2), with ids and resume.
//!
//! A stream is a task that reads the log's ring at its own pace and hands on what fits the filter. It goes on behind
//! `Last-Event-ID` or `after`; what is not kept any more, or is of another life of greenroom, is said first as `missed`.
//! Nobody waits for it: a reader that is slow falls behind, and hears how many it has missed.
//!
//! Bounded: `EVENT_STREAMS_MAX` streams, `EVENTS_TAKEN` events at a time, a sign of life each `EVENTS_BEAT`; a reader that
//! takes nothing for `EVENTS_STALL` is dead, and its connection is closed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use greenroom_core::limits::{
    EVENT_STREAMS_MAX, EVENTS_AGAIN, EVENTS_BEAT, EVENTS_GATHER, EVENTS_KEPT, EVENTS_STALL, EVENTS_TAKEN, LOG_TEXT_MAX,
};
use hyper::body::Frame;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::Asked;
use super::api::{Refused, refuse};
use super::filter::Part;
use super::openapi::{self, Answer, Api, Input, Operation};
use super::said::Parameters;
use super::stay::Stay;
use crate::telemetry::ring::Ring;
use crate::telemetry::streamed::{EVENTS, Filter, Form, message, missed};
use crate::telemetry::{Event, printable};

pub(super) fn routes(api: Api) -> Api {
    api.get("/v1/events", "What happens, as server-sent events", &[503], stream)
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// These events only, with commas between them: `closed,refused`.
    #[serde(default)]
    #[schemars(schema_with = "names")]
    event: Option<String>,
    /// What is about this backend only.
    backend: Option<String>,
    /// What is about this session only; where there are several backends each counts its own.
    #[schemars(range(max = "u64::MAX"))]
    session: Option<u64>,
    /// What is about this connection only.
    #[schemars(range(max = "u64::MAX"))]
    connection: Option<u64>,
    /// Go on behind the event of this id, as `Last-Event-ID` says it, which wins.
    #[schemars(regex(pattern = "^[0-9a-f]{1,8}-[0-9]{1,18}$"))]
    after: Option<String>,
    /// Begin with the last so many that are kept, before the filter. Without it, and without `after`, with the next.
    #[schemars(range(max = "EVENTS_KEPT"))]
    last: Option<usize>,
    /// Whether the stream goes on with what happens from now on (`true`, unless it is said).
    follow: Option<bool>,
    /// How the data looks: `json` (unless it is said), or `text`, a sentence.
    #[serde(default)]
    #[schemars(schema_with = "forms")]
    form: Option<String>,
}

fn names(_: &mut SchemaGenerator) -> Schema {
    let word = EVENTS.join("|");
    json_schema!({
        "description": "These events only, with commas between them: `closed,refused`. `stopped` comes whatever is asked for.",
        "type": "string",
        "pattern": format!("^({word})(,({word}))*$"),
    })
}

fn forms(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "How the data looks: `json` (unless it is said), or `text`, a sentence.",
        "type": "string",
        "enum": ["json", "text"],
    })
}

/// The id behind which a reader goes on whose stream broke off.
pub(super) struct LastEventId(Option<String>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // One that is no text is not known either, and that is said.
        let value = parts
            .headers
            .get("last-event-id")
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(Self(
            value.filter(|id| !id.is_empty()).map(|id| printable(&id, LOG_TEXT_MAX)),
        ))
    }
}

impl Input for LastEventId {
    fn describe(operation: &mut Operation<'_>) {
        let schema = json!({ "type": "string", "description": "Go on behind the event of this id" });
        operation.parameter(openapi::parameter("Last-Event-ID", "header", false, schema));
    }
}

/// Streams are read at this door's connection.
impl Input for Stay {
    fn describe(_: &mut Operation<'_>) {}
}

async fn stream(
    State(asked): State<Arc<Asked>>,
    stay: Stay,
    LastEventId(last_id): LastEventId,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Stream, Refused> {
    let nonsense = |error: String, help: String| refuse::<Stream>(StatusCode::UNPROCESSABLE_ENTITY, error, help);
    let filter = match filter(&asked, &wanted) {
        Ok(filter) => filter,
        Err((error, help)) => return nonsense(error, help),
    };
    let form = match wanted.form.as_deref() {
        None | Some("json") => Form::Json,
        Some("text") => Form::Text,
        Some(other) => return nonsense(format!("there is no form {other:?}"), "there are json and text".into()),
    };
    if wanted.last.is_some_and(|last| last > EVENTS_KEPT) {
        return nonsense(
            format!("last is {}", wanted.last.unwrap_or_default()),
            format!("the last {EVENTS_KEPT} are kept"),
        );
    }
    let ring = Arc::clone(asked.log.ring());
    let Some(place) = ring.watch() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{EVENT_STREAMS_MAX} event streams are open, as many as may be"),
            "end one of them, or ask without a stream: follow=false",
        );
    };
    let (sender, chunks) = mpsc::channel(1);
    let after = last_id.or(wanted.after);
    let last = u64::try_from(wanted.last.unwrap_or(0)).unwrap_or(u64::MAX);
    let follows = wanted.follow.unwrap_or(true);
    stay.streams(place);
    let telling = Telling {
        at: ring.last(),
        until: if follows { u64::MAX } else { ring.last() },
        ring,
        filter,
        form,
        sender,
    };
    tokio::spawn(async move {
        if telling.run(after, last).await == Err(Gone::Stalled) {
            stay.end();
        }
    });
    Ok(Stream(chunks))
}

/// What is to be told, if the words are known.
fn filter(asked: &Asked, wanted: &Wanted) -> Result<Filter, (String, String)> {
    let events: Vec<_> = wanted
        .event
        .iter()
        .flat_map(|all| all.split(','))
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = events.iter().find(|name| !EVENTS.contains(&name.as_str())) {
        return Err((
            format!("there is no event {unknown:?}"),
            format!("there are {}", EVENTS.join(", ")),
        ));
    }
    let house = asked.house();
    let backend = match &wanted.backend {
        None => None,
        Some(name) => {
            if let Err((_, Json(problem))) = Part::Backend.known(asked, name) {
                return Err((problem.error, problem.help));
            }
            let is_only = house.backends.len() == 1 && house.backends.iter().any(|backend| backend.name == *name);
            Some((name.clone(), is_only))
        }
    };
    Ok(Filter {
        events,
        backend,
        session: wanted.session,
        connection: wanted.connection,
    })
}

/// Why a stream ends before its time.
#[derive(Debug, PartialEq, Eq)]
enum Gone {
    /// Its reader has left.
    Left,
    /// Its reader takes nothing.
    Stalled,
}

/// One stream.
struct Telling {
    ring: Arc<Ring>,
    /// The number of the last event that was looked at.
    at: u64,
    /// The number of the last that is told.
    until: u64,
    filter: Filter,
    form: Form,
    sender: mpsc::Sender<Bytes>,
}

impl Telling {
    /// Until greenroom ends, or all that was asked for is told.
    async fn run(mut self, after: Option<String>, last: u64) -> Result<(), Gone> {
        let mut out = format!("retry: {}\n\n", EVENTS_AGAIN.as_millis()).into_bytes();
        match after {
            Some(id) => match self.ring.number(&id) {
                Some(number) => self.at = number,
                None => {
                    self.at = self.ring.read(0, 0).missed; // from the first that is kept
                    missed(&mut out, self.form, &self.ring, id, None, self.at + 1);
                }
            },
            None => self.at = self.at.saturating_sub(last).max(self.ring.read(0, 0).missed),
        }
        loop {
            let found = self.ring.read(self.at, EVENTS_TAKEN);
            if found.missed > 0 {
                let (after, next) = (self.ring.id(self.at), self.at + found.missed + 1);
                missed(&mut out, self.form, &self.ring, after, Some(found.missed), next);
                self.at += found.missed;
            }
            let is_all = found.events.is_empty();
            for (number, told) in found.events {
                if number <= self.until && self.filter.takes(&told) {
                    message(&mut out, self.form, &self.ring.id(number), &told);
                }
                self.at = number;
            }
            if !out.is_empty() {
                self.send(&mut out).await?;
            }
            if found.is_end || self.at >= self.until {
                return Ok(());
            }
            if is_all {
                self.rest(&mut out).await?;
            }
        }
    }

    /// Waits for the next event; gives a sign of life when there is none for a while.
    async fn rest(&self, out: &mut Vec<u8>) -> Result<(), Gone> {
        tokio::select! {
            () = self.ring.more(self.at) => tokio::time::sleep(EVENTS_GATHER).await,
            () = self.sender.closed() => return Err(Gone::Left),
            // With the id of the last event that was looked at: whoever comes again has not missed what it did not ask for.
            () = tokio::time::sleep(EVENTS_BEAT) => {
                out.extend_from_slice(format!(": still here\nid: {}\n\n", self.ring.id(self.at)).as_bytes());
            }
        }
        Ok(())
    }

    async fn send(&self, out: &mut Vec<u8>) -> Result<(), Gone> {
        let chunk = Bytes::from(std::mem::take(out));
        match tokio::time::timeout(EVENTS_STALL, self.sender.send(chunk)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Left),
            Err(_) => Err(Gone::Stalled),
        }
    }
}

/// A stream as an answer.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl IntoResponse for Stream {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            // Its place is free again with its connection.
            (header::CONNECTION, "close"),
            // nginx, where it stands in front, keeps nothing back.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (headers, Body::new(self)).into_response()
    }
}

impl Answer for Stream {
    fn describe(operation: &mut Operation<'_>) {
        let event = operation.schema::<Event>();
        let about = "Messages until greenroom ends; the schema is that of one of them";
        let json = json!({
            "description": "form=json: an event, with `id`, `ts`, `at` and, where there are several, `backend` (docs/events.md)",
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": event,
        });
        let text = json!({ "description": "form=text: a sentence", "type": "string", "pattern": "^greenroom +[0-9]" });
        let schema = json!({
            "type": "object",
            "properties": {
                "id": { "type": "string", "pattern": "^[0-9a-f]{8}-[0-9]+$" },
                "event": { "type": "string", "enum": EVENTS },
                "data": { "anyOf": [json, text] },
            },
            "required": ["id", "event", "data"],
        });
        operation.answer(200, about, "text/event-stream", &schema);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Format, Log};
    use tokio::time::Instant;

    fn telling(log: &Log) -> (Telling, mpsc::Receiver<Bytes>) {
        let (sender, chunks) = mpsc::channel(1);
        let telling = Telling {
            ring: Arc::clone(log.ring()),
            at: log.ring().last(),
            until: u64::MAX,
            filter: Filter::default(),
            form: Form::Json,
            sender,
        };
        (telling, chunks)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_events_gives_a_sign_of_life_with_the_id_that_it_has_come_to() {
        let log = Log::start(Format::Json);
        log.warn("something");
        let (telling, mut chunks) = telling(&log);
        let id = log.ring().id(1);
        let running = tokio::spawn(telling.run(None, 0));
        assert_eq!(chunks.recv().await.unwrap(), "retry: 1000\n\n");
        let began = Instant::now();
        let beat = chunks.recv().await.unwrap();
        assert_eq!(beat, format!(": still here\nid: {id}\n\n"));
        assert_eq!(began.elapsed(), EVENTS_BEAT);
        drop(chunks);
        assert_eq!(running.await.unwrap(), Err(Gone::Left));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let log = Log::start(Format::Json);
        let (telling, _chunks) = telling(&log);
        let began = Instant::now();
        assert_eq!(telling.run(None, 0).await, Err(Gone::Stalled));
        assert_eq!(
            began.elapsed(),
            EVENTS_BEAT + EVENTS_STALL,
            "the first piece fits, the next is not taken"
        );
    }
}
