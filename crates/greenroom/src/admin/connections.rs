//! What is told of connections: all that are open, one of them, or why one ended.
//!
//! All of it is read from the registry at that moment; nothing here keeps a copy. Who is meant `filter.rs` says, of the records
//! as they are: only those that are listed are told of. Bounded by `CONNECTIONS_SHOWN_MAX` in one answer; `after` goes on
//! behind a number.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use greenroom_core::limits::CONNECTIONS_SHOWN_MAX;
use greenroom_core::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::api::{Refused, refuse};
use super::filter::{Filter, OfClosed, breath};
use super::openapi::Api;
use super::report;
use super::said::{InPath, Parameters};
use crate::clock;
use crate::known::Known;
use crate::registry::{Closed, Record};

pub(super) fn routes(api: Api) -> Api {
    api.get("/v1/connections", "Connections that are open", &[], list)
        .get(
            "/v1/connections/{number}",
            "One connection, open or among the last that ended",
            &[404],
            one,
        )
        .get(
            "/v1/closed",
            "The last connections that ended, the latest first",
            &[],
            list_closed,
        )
}

/// Several connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Connections {
    /// In the order of their numbers; closed ones the latest first.
    pub connections: Vec<Connection>,
    /// How many fit the filter: more than are listed, where the limit cut them off.
    pub total: usize,
}

/// One connection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Connection {
    /// Its number, in the order of accepting.
    pub number: u64,
    /// Its session's number, as the log and `Greenroom-Session` have it; of a connection for plain HTTP that of its last request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<u64>,
    /// Where it comes from.
    pub address: IpAddr,
    /// Where it is: `opening`, `http`, `held`, `dialing`, `relaying`, `parked`, `closing`, `closed`.
    pub state: String,
    /// For how long it is there.
    pub since_ms: u64,
    /// How long ago it was accepted; of a closed one, how long it lasted.
    pub age_ms: u64,
    /// For how long it has had a 101 of greenroom's own, if it got one while it waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted_ms: Option<u64>,
    /// Its backend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<String>,
    /// Its route.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<String>,
    /// What it asks for, without the query.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Who its user is, where its route says by which header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Its tags, each `name=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// How often its head was written to the backend by the gate.
    pub dials: u32,
    /// In which life of the backend's process last; 0 where greenroom starts none.
    pub generation: u64,
    /// Bytes from the client, of WebSockets.
    pub bytes_up: u64,
    /// Whole messages from the client.
    pub messages_up: u64,
    /// Bytes from the backend, of WebSockets.
    pub bytes_down: u64,
    /// Whole messages from the backend.
    pub messages_down: u64,
    /// Bytes of messages that greenroom was told to send it; they are in no other count.
    #[serde(default)]
    pub bytes_own: u64,
    /// Such messages.
    #[serde(default)]
    pub messages_own: u64,
    /// Bytes that greenroom keeps for the backend, as it takes none now; of a closed one, when its end began.
    pub buffered_up: u64,
    /// The same for the client.
    pub buffered_down: u64,
    /// How long the client's answer to the last ping of greenroom's own took, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ping_ms: Option<u64>,
    /// Pings of greenroom's own that the backend left unanswered (`ping_backend = "count"`).
    #[serde(skip_serializing_if = "is_none", default)]
    pub pongs_missed: u32,
    /// What it waits for, while it is held; told of one connection that is asked for by its number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits_for: Option<String>,
    /// How it ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct End {
    /// Why, by the words of the close ledger.
    pub cause: String,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    /// What else is known of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// Where it was before.
    pub from: String,
    /// For how long it had been there.
    pub after_ms: u64,
    /// How long ago it ended.
    pub ago_ms: u64,
}

pub(super) async fn list(
    State(asked): State<Arc<Asked>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Connections>, Refused> {
    let wanted = filter.checked(&asked)?;
    let now = clock::now();
    let fitting = wanted.of_open(asked.registry.all(), now).await;
    let total = fitting.len();
    let mut connections = Vec::new();
    for (index, record) in fitting.iter().take(wanted.limit()).enumerate() {
        breath(index).await;
        connections.push(open(record, now));
    }
    Ok(Json(Connections { connections, total }))
}

pub(super) async fn list_closed(
    State(asked): State<Arc<Asked>>,
    Parameters(OfClosed(filter)): Parameters<OfClosed>,
) -> Result<Json<Connections>, Refused> {
    if filter.after.is_some() {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "those that ended are in the order of their ends, and `after` is a number",
            format!("leave it out, and ask for up to {CONNECTIONS_SHOWN_MAX} with limit"),
        );
    }
    let wanted = filter.checked(&asked)?;
    let now = clock::now();
    let fitting = wanted.of_closed(asked.registry.last_closed()).await;
    let total = fitting.len();
    let mut connections = Vec::new();
    for (index, closed) in fitting.iter().take(wanted.limit()).enumerate() {
        breath(index).await;
        connections.push(over(closed, now));
    }
    Ok(Json(Connections { connections, total }))
}

pub(super) async fn one(
    State(asked): State<Arc<Asked>>,
    InPath(number): InPath<u64>,
) -> Result<Json<Connection>, Refused> {
    let now = clock::now();
    let closed = || {
        let all = asked.registry.last_closed();
        let found = all.iter().find(|closed| closed.record.number == number)?;
        Some(over(found, now))
    };
    let found = asked.registry.find(number).map(|record| open(&record, now));
    match found.or_else(closed) {
        Some(mut one) => {
            one.waits_for = waits_for(&asked, &one).await;
            Ok(Json(one))
        }
        None => refuse(
            StatusCode::NOT_FOUND,
            format!("no connection {number} is open or among the last that ended"),
            "`greenroom ps` (GET /v1/connections) lists those that are open, `greenroom ps --closed` (GET /v1/closed) the last that ended",
        ),
    }
}

/// What the gate says that has it in its care: of the backends of its name one that a reload has replaced may have it still.
async fn waits_for(asked: &Asked, one: &Connection) -> Option<String> {
    if one.end.is_some() || one.state != greenroom_core::event::State::Held.word() {
        return None;
    }
    let house = asked.house();
    for backend in house.named(one.backend.as_deref()?) {
        if backend.inbox.cares_for(one.number).await {
            let is_old = house.old.iter().any(|old| Arc::ptr_eq(old, backend));
            let which = if is_old {
                "in the backend as it was before a reload: "
            } else {
                ""
            };
            let status = backend.inbox.status().await?;
            return Some(format!("{which}{}", report::why(&status)));
        }
    }
    None
}

fn open(record: &Record, now: Time) -> Connection {
    let (state, since) = record.state();
    let asks = record.asks_for();
    let ((bytes_up, messages_up), (bytes_down, messages_down)) = (record.up.get(), record.down.get());
    let (bytes_own, messages_own) = record.own.get();
    let (dials, generation) = record.dials();
    let (buffered_up, buffered_down) = record.buffered();
    let known = asks.as_ref().and_then(|asks| asks.known.as_deref());
    Connection {
        number: record.number,
        session: record.session(),
        address: record.peer,
        state: state.word().into(),
        since_ms: millis(now.since(since)),
        age_ms: millis(now.since(record.accepted_at)),
        accepted_ms: record.accepted().map(|at| millis(now.since(at))),
        backend: asks.as_ref().map(|asks| asks.route.backend().name.clone()),
        route: asks.as_ref().map(|asks| asks.route.name.clone()),
        user: user(known),
        tags: tags(known),
        path: asks.as_ref().map(|asks| asks.path.to_string()),
        dials,
        generation,
        bytes_up,
        messages_up,
        bytes_down,
        messages_down,
        bytes_own,
        messages_own,
        buffered_up: buffered_up as u64, // no usize is wider
        buffered_down: buffered_down as u64,
        ping_ms: record.ping().map(millis),
        pongs_missed: record.pongs_missed(),
        waits_for: None,
        end: None,
    }
}

fn user(known: Option<&Known>) -> Option<String> {
    known.and_then(|known| known.user.as_deref()).map(Into::into)
}

fn tags(known: Option<&Known>) -> Vec<String> {
    known.map_or_else(Vec::new, |known| known.tags.iter().map(|tag| tag.to_string()).collect())
}

fn over(closed: &Closed, now: Time) -> Connection {
    let (from, since) = closed.from;
    let asked = closed.asked.as_ref();
    let known = asked.and_then(|asked| asked.known.as_deref());
    Connection {
        end: Some(End {
            cause: closed.cause.word().into(),
            refusal: closed.refusal.map(|refusal| refusal.word().into()),
            detail: closed.detail.as_deref().map(Into::into),
            from: from.word().into(),
            after_ms: millis(closed.at.since(since)),
            ago_ms: millis(now.since(closed.at)),
        }),
        backend: asked.map(|asked| asked.backend.to_string()),
        route: asked.map(|asked| asked.route.to_string()),
        path: asked.map(|asked| asked.path.to_string()),
        user: user(known),
        tags: tags(known),
        ..open(&closed.record, closed.at)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
