//! Which connections are meant: the filter that lists, closes, messages and drains share.
//!
//! It looks at the records as they are, and copies nothing. Names are those of the configuration, and those under which
//! connections came before a reload. Between `RECORDS_AT_ONCE` records others have their turn.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use greenroom_core::event::{CloseCause, Refusal, State as Where};
use greenroom_core::limits::{CONNECTIONS_SHOWN, CONNECTIONS_SHOWN_MAX, RECORDS_AT_ONCE};
use greenroom_core::time::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::task::yield_now;

use super::Asked;
use super::api::{Refused, refuse};
use crate::config::units;
use crate::known::Known;
use crate::registry::{Closed, Record};

/// Which connections are meant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Where they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(schema_with = "states")]
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
    #[schemars(schema_with = "address")]
    pub address: Option<IpAddr>,
    /// Their session's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(range(max = "u64::MAX"))]
    pub session: Option<u64>,
    /// How old they are at least, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(regex(pattern = "^[1-9][0-9]{0,5}(ms|s|m|h)$"))]
    pub older_than: Option<String>,
    /// Why they ended; of closed ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(schema_with = "causes")]
    pub cause: Option<String>,
    /// Those behind this number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(range(max = "u64::MAX"))]
    pub after: Option<u64>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(range(max = "CONNECTIONS_SHOWN_MAX"))]
    pub limit: Option<usize>,
}

/// The same of those that ended; without `after`, as they are in the order of their ends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct OfClosed(pub(super) Filter);

impl JsonSchema for OfClosed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OfClosed".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let mut schema = Filter::json_schema(schemas);
        let parameters = schema
            .get_mut("properties")
            .and_then(|properties| properties.as_object_mut());
        if let Some(parameters) = parameters {
            parameters.remove("after");
        }
        schema
    }
}

fn states(_: &mut SchemaGenerator) -> Schema {
    let words: Vec<_> = Where::ALL.iter().map(|state| state.word()).collect();
    json_schema!({ "description": "Those in this state.", "type": "string", "enum": words })
}

fn causes(_: &mut SchemaGenerator) -> Schema {
    let causes = CloseCause::ALL.iter().map(|cause| cause.word());
    let words: Vec<_> = causes
        .chain(Refusal::ALL.iter().map(|refusal| refusal.word()))
        .collect();
    let about = "Those that ended for this cause, or were refused by this name.";
    json_schema!({ "description": about, "type": "string", "enum": words })
}

fn address(_: &mut SchemaGenerator) -> Schema {
    let of = |format: &str| json_schema!({ "type": "string", "format": format });
    json_schema!({ "description": "Those of this address.", "anyOf": [of("ipv4"), of("ipv6")] })
}

/// A filter whose words were looked at.
pub(super) struct Wanted {
    filter: Filter,
    older_than: Duration,
    limit: usize,
}

impl Filter {
    /// Whether it chooses somebody. `after` goes on behind a number, and says nothing of whom: all are behind 0.
    pub(super) fn is_choice(&self) -> bool {
        let after = self.after;
        *self
            != Self {
                after,
                ..Self::default()
            }
    }

    /// Its conditions, as `name=value`; in quotes where two could look like one.
    pub(super) fn words(&self) -> Vec<String> {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else {
            return Vec::new(); // it is an object
        };
        let text = |value: serde_json::Value| match value.as_str() {
            Some(text) if !text.contains([' ', '"']) => text.into(),
            Some(_) | None => value.to_string(),
        };
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
        known(
            "state",
            self.state.as_ref(),
            Where::ALL.iter().map(|state| state.word()).collect(),
        )?;
        known("cause", self.cause.as_ref(), causes)?;
        for (part, name) in [(Part::Backend, &self.backend), (Part::Route, &self.route)] {
            if let Some(name) = name {
                part.known(asked, name)?;
            }
        }
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

/// What the configuration names, and connections are told apart by.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Backend,
    Route,
}

impl Part {
    /// Whether there is one of this name: in the configuration, or of a connection that came before a reload.
    pub(super) fn known(self, asked: &Asked, name: &str) -> Result<(), Refused> {
        let house = asked.house();
        let (what, names): (_, Vec<_>) = match self {
            Self::Backend => (
                "backend",
                house.config.backends.iter().map(|one| one.name.as_str()).collect(),
            ),
            Self::Route => (
                "route",
                house.config.routes.iter().map(|one| one.name.as_str()).collect(),
            ),
        };
        if names.contains(&name) || self.is_left(asked, name) {
            return Ok(());
        }
        refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("there is no {what} {name:?}"),
            format!("the {what}s are {}", names.join(", ")),
        )
    }

    fn is_left(self, asked: &Asked, name: &str) -> bool {
        let is_it = |(backend, route): (&str, &str)| match self {
            Self::Backend => backend == name,
            Self::Route => route == name,
        };
        let is_open = |record: &Arc<Record>| {
            let asks = record.asks_for();
            asks.is_some_and(|asks| is_it((&asks.route.backend().name, &asks.route.name)))
        };
        let is_over = |closed: &Arc<Closed>| {
            let names = closed.asked.as_ref();
            names.is_some_and(|names| is_it((&names.backend, &names.route)))
        };
        asked.registry.all().iter().any(is_open) || asked.registry.last_closed().iter().any(is_over)
    }
}

/// What a filter looks at, where it lies.
struct Seen<'r> {
    record: &'r Record,
    age: Duration,
    /// Its backend and its route.
    names: Option<(&'r str, &'r str)>,
    known: Option<&'r Known>,
    /// Why it ended, and why it was refused.
    ends: [Option<&'static str>; 2],
}

impl Wanted {
    /// How many are to be shown.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Of these, those that fit.
    pub(super) async fn of_open(&self, mut all: Vec<Arc<Record>>, now: Time) -> Vec<Arc<Record>> {
        let mut kept = 0;
        for index in 0..all.len() {
            breath(index).await;
            if self.takes_open(&all[index], now) {
                all.swap(kept, index);
                kept += 1;
            }
        }
        all.truncate(kept);
        all
    }

    /// The same of those that are over.
    pub(super) async fn of_closed(&self, mut all: Vec<Arc<Closed>>) -> Vec<Arc<Closed>> {
        all.retain(|closed| self.takes_closed(closed)); // they are few
        all
    }

    /// Whether an open connection fits.
    pub(super) fn takes_open(&self, record: &Record, now: Time) -> bool {
        let asks = record.asks_for();
        let asks = asks.as_deref();
        self.takes(&Seen {
            record,
            age: now.since(record.accepted_at),
            names: asks.map(|asks| (asks.route.backend().name.as_str(), asks.route.name.as_str())),
            known: asks.and_then(|asks| asks.known.as_deref()),
            ends: [None, None],
        })
    }

    /// Whether one fits that is over.
    fn takes_closed(&self, closed: &Closed) -> bool {
        let names = closed.asked.as_ref();
        self.takes(&Seen {
            record: &closed.record,
            age: closed.at.since(closed.record.accepted_at),
            names: names.map(|names| (&*names.backend, &*names.route)),
            known: names.and_then(|names| names.known.as_deref()),
            ends: [Some(closed.cause.word()), closed.refusal.map(Refusal::word)],
        })
    }

    fn takes(&self, seen: &Seen<'_>) -> bool {
        let filter = &self.filter;
        let is = |wanted: &Option<String>, word: Option<&str>| wanted.is_none() || wanted.as_deref() == word;
        is(&filter.state, Some(seen.record.state().0.word()))
            && is(&filter.backend, seen.names.map(|(backend, _)| backend))
            && is(&filter.route, seen.names.map(|(_, route)| route))
            && is(&filter.user, seen.known.and_then(|known| known.user.as_deref()))
            && (filter.tag.as_deref())
                .is_none_or(|tag| seen.known.is_some_and(|known| Known::has_tag(&known.tags, tag)))
            && seen.ends.iter().any(|word| is(&filter.cause, *word))
            && filter.address.is_none_or(|address| address == seen.record.peer)
            && (filter.session).is_none_or(|session| seen.record.session() == Some(session))
            && filter.after.is_none_or(|after| seen.record.number > after)
            && seen.age >= self.older_than
    }
}

/// Whoever goes through many gives others their turn.
pub(super) async fn breath(index: usize) {
    if index % RECORDS_AT_ONCE == RECORDS_AT_ONCE - 1 {
        yield_now().await;
    }
}

/// Reads an object, and nothing else. The parser takes a list for a struct too, by the order of its fields.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    value.deserialize_map(Object(PhantomData))
}
