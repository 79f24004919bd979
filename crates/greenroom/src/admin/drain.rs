//! Drains by command.
//!
//! | | |
//! |---|---|
//! | `POST /v1/drain` | [`DrainOrder`]: begins one, 201; the same again while it is under way changes nothing, 200 |
//! | `GET /v1/drains` | [`DrainList`]: those under way, and the last that were |
//! | `GET /v1/drains/ID` | [`DrainReport`] |
//! | `DELETE /v1/drains/ID` | ends it: who was not told stays, and the gates go back |
//!
//! Whose connections is decided once, when it begins, of those that are relayed or dialled then. Bounded by `DRAINS_MAX`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use greenroom_core::drain::Pace;
use greenroom_core::gate::Hand;
use greenroom_core::limits::{DRAIN_RATE_MAX, DRAIN_WINDOW_MAX, DRAINS_KEPT, DRAINS_MAX, LOG_TEXT_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::Asked;
use super::act::close_code;
use super::api::{Refused, refuse};
use super::by::{By, over, to_the_end};
use super::filter::{Filter, object};
use super::openapi::Api;
use super::said::{Body, InPath, Sent};
use crate::clock;
use crate::config::{self, DrainKind, Manner, units};
use crate::drains::{Ask, Course, TooMany};
use crate::telemetry::printable;

/// What is to be drained, and how: `all`, or those that fit a filter.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct DrainOrder {
    /// Those that fit this filter.
    #[serde(deserialize_with = "object")]
    pub filter: Filter,
    /// All; of the filter only `after` may stand beside it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// `deploy` (unless it is said), `reload`, `scale-down` or `evict`: what is not said below is as `[drain.KIND]` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Over how long the closes are spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// So many closes in a second, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Only so many hundredths of them; who is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The close code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Words in the Close, before the hint when to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What becomes of those who come while it lasts: `serve` (unless it is said), `hold`, `refuse`. The last two are for
    /// `all` or a `backend` alone, as a gate is a backend's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Sent for DrainOrder {
    const EXAMPLE: &'static str = r#"{"filter": {"backend": "app"}, "kind": "deploy", "window": "30s"}"#;
}

/// One drain.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct DrainReport {
    /// Its number.
    pub id: u64,
    /// `draining`, `drained` or `cancelled`.
    pub state: String,
    /// `deploy`, `reload`, `scale-down` or `evict`.
    pub kind: String,
    /// Whose connections: `all`, or the filter.
    pub of: String,
    /// What becomes of those who come: `serve`, `hold` or `refuse`.
    pub new: String,
    /// The close code.
    pub code: u16,
    /// How many fit, when it began.
    pub matching: usize,
    /// How many of them are closed.
    pub connections: usize,
    /// How many were told to close.
    pub told: usize,
    /// How many of those are over.
    pub closed: usize,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds until the last is told.
    pub left_ms: u64,
    /// While it lasts: the backends whose gates do not as `new` says, as somebody has set them by hand, or taken them back since.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub left_alone: Vec<String>,
}

/// Several drains.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct DrainList {
    /// The oldest first.
    pub drains: Vec<DrainReport>,
}

pub(super) fn routes(api: Api) -> Api {
    api.post("/v1/drain", "Close connections at a pace", &[404, 409, 429, 503], begin)
        .get(
            "/v1/drains",
            "Drains that are under way, and the last that were",
            &[],
            list,
        )
        .get("/v1/drains/{id}", "One drain", &[404], one)
        .delete("/v1/drains/{id}", "End a drain: who was not told stays", &[404], end)
}

async fn begin(
    State(asked): State<Arc<Asked>>,
    by: By,
    Body(order): Body<DrainOrder>,
) -> Result<(StatusCode, Json<DrainReport>), Refused> {
    to_the_end(begins(asked, by, order)).await
}

async fn begins(asked: Arc<Asked>, by: By, order: DrainOrder) -> Result<(StatusCode, Json<DrainReport>), Refused> {
    let said = by.change("drain", order.of());
    let begun = try_begin(&asked, &order).await;
    match &begun {
        Ok((course, true)) => said
            .count(course.chosen)
            .detail(format!("drain {} ({})", course.id, course.ask.kind.word()))
            .done(&asked.log),
        Ok((_, false)) => said.detail("it is under way").done(&asked.log),
        Err((_, problem)) => said.refused(&asked.log, &problem.error),
    }
    let (course, is_new) = begun?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(report(&course).await)))
}

async fn try_begin(asked: &Arc<Asked>, order: &DrainOrder) -> Result<(Arc<Course>, bool), Refused> {
    if asked.drain.borrow().is_some() {
        return refuse(
            StatusCode::CONFLICT,
            "greenroom stops: all are closed",
            "wait for its end",
        );
    }
    order.means_somebody()?;
    let wanted = order.filter.clone().chosen(asked)?;
    let ask = order.judge(asked)?;
    let drains = Arc::clone(&asked.drains);
    // To plan for all that are open may take a while, so others are served meanwhile.
    let begun = spawn_blocking(move || {
        let now = clock::now();
        drains.begin(ask, |record| wanted.takes_open(record, now))
    });
    match begun.await {
        Ok(Ok(begun)) => Ok(begun),
        Ok(Err(TooMany)) => refuse(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{DRAINS_MAX} drains are under way"),
            "wait for one of them, or end it: GET /v1/drains, DELETE /v1/drains/ID",
        ),
        Err(ended) => over(ended),
    }
}

impl DrainOrder {
    /// Whose, in words.
    fn of(&self) -> String {
        let first = self.all.then(|| "all".to_owned());
        let words: Vec<_> = first.into_iter().chain(self.filter.words()).collect();
        words.join(" ")
    }

    fn means_somebody(&self) -> Result<(), Refused> {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match (self.all, self.filter.is_choice()) {
            (false, false) => refuse(
                unprocessable,
                "nothing says whose connections are drained",
                "say \"all\": true, or choose them with `filter`: by backend, route, user, tag, address, older_than …",
            ),
            (true, true) => refuse(unprocessable, "`all` and a filter say two things", "leave one out"),
            (true, false) | (false, true) => Ok(()),
        }
    }

    fn judge(&self, asked: &Asked) -> Result<Ask, Refused> {
        let word = self.kind.as_deref().unwrap_or("deploy");
        let Some(kind) = DrainKind::ALL.into_iter().find(|kind| kind.word() == word) else {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("`kind` is {:?}", printable(word, LOG_TEXT_MAX)),
                "write deploy, reload, scale-down or evict",
            );
        };
        let house = asked.house();
        let percent = self.percent.unwrap_or(100);
        if !(1..=100).contains(&percent) {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("`percent` is {percent}"),
                "write a number from 1 to 100",
            );
        }
        let (new, gates) = self.gates(asked)?;
        Ok(Ask {
            of: self.of(),
            filter: self.filter.clone(),
            kind,
            manner: self.manner(house.config.drain.of(kind))?,
            percent,
            new,
            gates,
        })
    }

    fn manner(&self, usual: &Manner) -> Result<Manner, Refused> {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        let pace = match (&self.window, self.rate) {
            (Some(_), Some(_)) => {
                return refuse(unprocessable, "`window` and `rate` both say how fast", "leave one out");
            }
            (None, None) => usual.pace,
            (None, Some(rate)) if rate == 0 || usize::try_from(rate).is_ok_and(|rate| rate > DRAIN_RATE_MAX) => {
                let help = format!("write a number from 1 to {DRAIN_RATE_MAX}");
                return refuse(unprocessable, format!("`rate` is {rate}"), help);
            }
            (None, Some(rate)) => Pace::Rate(rate),
            (Some(window), None) => match units::duration_in(window, Duration::ZERO, DRAIN_WINDOW_MAX) {
                Ok(window) => Pace::Window(window),
                Err(error) => return refuse(unprocessable, format!("`window`: {error}"), "write a time such as 30s"),
            },
        };
        let code = close_code(self.code, usual.code)?;
        let reason = self.reason.as_deref().unwrap_or(&usual.reason).to_owned();
        match config::words_fit(&reason) {
            Ok(()) => Ok(Manner { pace, code, reason }),
            Err(error) => refuse(unprocessable, format!("`reason`: {error}"), "write fewer words"),
        }
    }

    /// What the gates do meanwhile, and which.
    fn gates(&self, asked: &Asked) -> Result<(Hand, Vec<Arc<crate::front::Backend>>), Refused> {
        let hand = match self.new.as_deref() {
            None | Some("serve") => return Ok((Hand::Auto, Vec::new())),
            Some("hold") => Hand::Hold,
            Some("refuse") => Hand::Refuse,
            Some(other) => {
                return refuse(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    format!("`new` is {:?}", printable(other, LOG_TEXT_MAX)),
                    "write serve, hold or refuse",
                );
            }
        };
        let backend = self.filter.backend.as_deref();
        let alone = Filter {
            backend: self.filter.backend.clone(),
            ..Filter::default()
        };
        if self.filter != alone {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "`new` can hold or refuse at the gate of a whole backend only",
                "drain by `backend` alone or `all`, or leave `new` out",
            );
        }
        let house = asked.house();
        let is_meant = |name: &str| backend.is_none_or(|wanted| wanted == name);
        if !house.backends.iter().any(|backend| is_meant(&backend.name)) {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the backend has connections from before a reload, and no gate any more",
                "leave `new` out: nobody comes to it",
            );
        }
        // Who is held at an old one of the name is let out with the others.
        let all = house.backends.iter().chain(&house.old);
        let gates = all.filter(|backend| is_meant(&backend.name)).cloned();
        Ok((hand, gates.collect()))
    }
}

async fn report(course: &Course) -> DrainReport {
    let left_alone = course.left_alone().await;
    let (told, closed) = course.counts();
    let now = clock::now();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let ask = &course.ask;
    DrainReport {
        id: course.id,
        state: course.progress().word().into(),
        kind: ask.kind.word().into(),
        of: ask.of.clone(),
        new: match ask.new {
            Hand::Auto | Hand::Open => "serve".into(),
            Hand::Hold | Hand::Refuse => ask.new.word().into(),
        },
        code: ask.manner.code.get(),
        matching: course.matching,
        connections: course.chosen,
        told,
        closed,
        age_ms: ms(now.since(course.begun)),
        left_ms: if course.is_under_way() {
            ms(course.last.since(now))
        } else {
            0
        },
        left_alone,
    }
}

async fn list(State(asked): State<Arc<Asked>>) -> Json<DrainList> {
    let mut drains = Vec::new();
    for course in asked.drains.list() {
        drains.push(report(&course).await);
    }
    Json(DrainList { drains })
}

type Id = InPath<u64>;

fn find(asked: &Asked, InPath(id): &Id) -> Result<Arc<Course>, Refused> {
    let id = *id;
    match asked.drains.find(id) {
        Some(course) => Ok(course),
        None => refuse(
            StatusCode::NOT_FOUND,
            format!("there is no drain {id}"),
            format!("GET /v1/drains lists those that are under way, and the last {DRAINS_KEPT} that were"),
        ),
    }
}

async fn one(State(asked): State<Arc<Asked>>, id: Id) -> Result<Json<DrainReport>, Refused> {
    Ok(Json(report(&*find(&asked, &id)?).await))
}

async fn end(State(asked): State<Arc<Asked>>, by: By, id: Id) -> Result<Json<DrainReport>, Refused> {
    let found = find(&asked, &id);
    let what = found
        .as_ref()
        .map_or_else(|_| "a drain".into(), |course| format!("drain {}", course.id));
    by.change("cancel", what).of(&asked.log, &found);
    let course = found?;
    course.cancel();
    Ok(Json(report(&course).await))
}
