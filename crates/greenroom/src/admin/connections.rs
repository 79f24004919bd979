//! What is told of connections: all that are open, one of them, or why one ended.
//!
//! | | |
//! |---|---|
//! | `GET /v1/connections?state=…&backend=…&route=…&user=…&tag=…&address=…&session=…&older_than=…&after=…&limit=…` | [`Connections`] |
//! | `GET /v1/connections/NUMBER` | [`Connection`], open or among the last that ended |
//! | `GET /v1/closed?cause=…` and the filters above | [`Connections`] that ended, the latest first; without `after` |
//!
//! All of it is read from the registry at that moment; nothing here keeps a copy. Bounded by `CONNECTIONS_SHOWN_MAX` in
//! one answer; `after` goes on behind a number.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use greenroom_core::event::{CloseCause, Refusal, State as Where};
use greenroom_core::limits::{CONNECTIONS_SHOWN, CONNECTIONS_SHOWN_MAX};
use greenroom_core::time::Time;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::api::{Refused, refuse};
use crate::clock;
use crate::config::units;
use crate::known::Known;
use crate::registry::{Closed, Record};

/// Several connections.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Connections {
    /// In the order of their numbers; closed ones the latest first.
    pub connections: Vec<Connection>,
    /// How many fit the filter: more than are listed, where the limit cut them off.
    pub total: usize,
}

/// One connection.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
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
    /// How it ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
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

/// What is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Where they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<String>,
    /// Their backend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<String>,
    /// Their route.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<String>,
    /// Their user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Their tag: `name=value`, or a name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tag: Option<String>,
    /// Where they come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    /// Their session's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<u64>,
    /// How old they are at least, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub older_than: Option<String>,
    /// Why they ended; of closed ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Those behind this number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<usize>,
}

/// A filter whose words were looked at.
pub(super) struct Wanted {
    filter: Filter,
    older_than: Duration,
    limit: usize,
}

impl Filter {
    /// Whether it lets all through.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Its conditions, as `name=value`.
    pub(super) fn words(&self) -> Vec<String> {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else {
            return Vec::new(); // it is an object
        };
        let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
        let set = fields.into_iter().filter(|(_, value)| !value.is_null());
        set.map(|(name, value)| format!("{name}={}", text(value))).collect()
    }

    /// The same for who changes those that it lets through: they are open, and all of them are meant.
    pub(super) fn chosen(self, asked: &Asked) -> Result<Wanted, Refused> {
        if self.cause.is_some() || self.limit.is_some() {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "`cause` and `limit` are for lists, and here connections are changed",
                "leave them out; `dry_run` counts how many are meant",
            );
        }
        self.checked(asked)
    }

    pub(super) fn checked(self, asked: &Asked) -> Result<Wanted, Refused> {
        let known = |what: &str, word: Option<&String>, known: Vec<&str>| match word {
            Some(word) if !known.contains(&word.as_str()) => {
                let error = format!("there is no {what} {word:?}");
                refuse(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    error,
                    format!("there are {}", known.join(", ")),
                )
            }
            Some(_) | None => Ok(()),
        };
        let refusals = Refusal::ALL.iter().map(|refusal| refusal.word());
        let causes = CloseCause::ALL
            .iter()
            .map(|cause| cause.word())
            .chain(refusals)
            .collect();
        let house = asked.house();
        let (backends, routes) = (&house.config.backends, &house.config.routes);
        known(
            "state",
            self.state.as_ref(),
            Where::ALL.iter().map(|state| state.word()).collect(),
        )?;
        known("cause", self.cause.as_ref(), causes)?;
        known(
            "backend",
            self.backend.as_ref(),
            backends.iter().map(|one| one.name.as_str()).collect(),
        )?;
        known(
            "route",
            self.route.as_ref(),
            routes.iter().map(|one| one.name.as_str()).collect(),
        )?;
        let older_than = match self.older_than.as_deref().map(units::duration) {
            None => Duration::ZERO,
            Some(Ok(time)) => time,
            Some(Err(error)) => {
                return refuse(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    format!("older_than: {error}"),
                    "write a time such as 30s",
                );
            }
        };
        let limit = self.limit.unwrap_or(CONNECTIONS_SHOWN);
        if limit > CONNECTIONS_SHOWN_MAX {
            let error = format!("limit is {limit}");
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                error,
                format!("ask for at most {CONNECTIONS_SHOWN_MAX}, and with after=NUMBER for the next"),
            );
        }
        Ok(Wanted {
            filter: self,
            older_than,
            limit,
        })
    }
}

impl Wanted {
    /// Whether an open connection fits.
    pub(super) fn takes_open(&self, record: &Record, now: Time) -> bool {
        self.filter.is_empty() || self.takes(&open(record, now))
    }

    pub(super) fn takes(&self, one: &Connection) -> bool {
        let filter = &self.filter;
        let is =
            |wanted: &Option<String>, word: Option<&str>| wanted.as_deref().is_none_or(|wanted| word == Some(wanted));
        is(&filter.state, Some(&one.state))
            && is(&filter.backend, one.backend.as_deref())
            && is(&filter.route, one.route.as_deref())
            && is(&filter.user, one.user.as_deref())
            && (filter.tag.as_deref()).is_none_or(|tag| Known::has_tag(&one.tags, tag))
            && (is(&filter.cause, one.end.as_ref().map(|end| end.cause.as_str()))
                || is(&filter.cause, one.end.as_ref().and_then(|end| end.refusal.as_deref())))
            && filter.address.is_none_or(|address| address == one.address)
            && filter.session.is_none_or(|session| one.session == Some(session))
            && filter.after.is_none_or(|after| one.number > after)
            && u128::from(one.age_ms) >= self.older_than.as_millis()
    }

    /// Those that fit, counted, and as many as are to be shown.
    fn of(&self, all: impl Iterator<Item = Connection>) -> Connections {
        let mut found = Connections {
            connections: Vec::new(),
            total: 0,
        };
        for one in all.filter(|one| self.takes(one)) {
            found.total += 1;
            if found.connections.len() < self.limit {
                found.connections.push(one);
            }
        }
        found
    }
}

type Filtered = Result<Query<Filter>, QueryRejection>;

fn wanted(asked: &Asked, filter: Filtered) -> Result<Wanted, Refused> {
    match filter {
        Ok(Query(filter)) => filter.checked(asked),
        Err(rejection) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            rejection.body_text(),
            "filter by state, backend, route, user, tag, address, session, older_than, cause, after and limit",
        ),
    }
}

pub(super) async fn list(State(asked): State<Arc<Asked>>, filter: Filtered) -> Result<Json<Connections>, Refused> {
    let wanted = wanted(&asked, filter)?;
    let now = clock::now();
    let all = asked.registry.all();
    Ok(Json(wanted.of(all.iter().map(|record| open(record, now)))))
}

pub(super) async fn list_closed(
    State(asked): State<Arc<Asked>>,
    filter: Filtered,
) -> Result<Json<Connections>, Refused> {
    let wanted = wanted(&asked, filter)?;
    if wanted.filter.after.is_some() {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "those that ended are in the order of their ends, and `after` is a number",
            format!("leave it out, and ask for up to {CONNECTIONS_SHOWN_MAX} with limit"),
        );
    }
    let now = clock::now();
    let all = asked.registry.last_closed();
    Ok(Json(wanted.of(all.iter().map(|closed| over(closed, now)))))
}

type Number = Result<Path<u64>, PathRejection>;

pub(super) async fn one(State(asked): State<Arc<Asked>>, number: Number) -> Result<Json<Connection>, Refused> {
    let Path(number) = match number {
        Ok(number) => number,
        Err(rejection) => {
            return refuse(
                rejection.status(),
                rejection.body_text(),
                "write the number of a connection",
            );
        }
    };
    let now = clock::now();
    let closed = || {
        let all = asked.registry.last_closed();
        let found = all.iter().find(|closed| closed.record.number == number)?;
        Some(over(found, now))
    };
    let found = asked.registry.find(number).map(|record| open(&record, now));
    match found.or_else(closed) {
        Some(one) => Ok(Json(one)),
        None => refuse(
            StatusCode::NOT_FOUND,
            format!("no connection {number} is open or among the last that ended"),
            "`greenroom ps` (GET /v1/connections) lists those that are open, `greenroom ps --closed` (GET /v1/closed) the last that ended",
        ),
    }
}

pub(super) fn open(record: &Record, now: Time) -> Connection {
    let (state, since) = record.state();
    let asks = record.asks_for();
    let ((bytes_up, messages_up), (bytes_down, messages_down)) = (record.up.get(), record.down.get());
    let (bytes_own, messages_own) = record.own.get();
    let (dials, generation) = record.dials();
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
        user: known.and_then(|known| known.user.as_deref()).map(Into::into),
        tags: known.map_or_else(Vec::new, |known| known.tags.iter().map(|tag| tag.to_string()).collect()),
        path: asks.as_ref().map(|asks| asks.path.to_string()),
        dials,
        generation,
        bytes_up,
        messages_up,
        bytes_down,
        messages_down,
        bytes_own,
        messages_own,
        end: None,
    }
}

fn over(closed: &Closed, now: Time) -> Connection {
    let (from, since) = closed.from;
    Connection {
        end: Some(End {
            cause: closed.cause.word().into(),
            refusal: closed.refusal.map(|refusal| refusal.word().into()),
            detail: closed.detail.as_deref().map(Into::into),
            from: from.word().into(),
            after_ms: millis(closed.at.since(since)),
            ago_ms: millis(now.since(closed.at)),
        }),
        ..open(&closed.record, closed.at)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
