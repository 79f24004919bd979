//! What can be asked and told, as JSON over HTTP. The paths and fields are an interface: names and
//! meanings under `/v1` stay, new ones may come (docs/readiness.md).
//!
//! | | |
//! |---|---|
//! | `GET /v1/status` | [`Report`]: greenroom and all backends |
//! | `GET /v1/backends/NAME` | one backend |
//! | `GET /v1/connections`, `/v1/connections/NUMBER`, `/v1/closed` | see `connections` |
//! | `POST /v1/connections/close`, `/v1/connections/NUMBER/close`, `/v1/connections/send` | see `act` |
//! | `GET /metrics` | see `metrics` |
//! | `POST /v1/drain`, `GET /v1/drains`, `GET` and `DELETE /v1/drains/ID` | see `drain` |
//! | `POST /v1/backends/NAME/gate` | see `gate` |
//! | `POST /v1/backends/NAME/phases` | [`Push`]: how far its start has come; answers with the backend |
//! | `GET /livez`, `/readyz`, `/startupz` | see `health` |
//!
//! Every refusal is a [`Problem`], which says what to do. To push the same twice changes nothing.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use greenroom_core::event::Generation;
use greenroom_core::limits::{ACT_BODY_MAX, ADMIN_PUSH_MAX, PHASE_NAME_MAX, REASON_MAX};
use greenroom_core::phase::Reason;
use greenroom_core::readiness::Input;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::act;
use super::by::By;
use super::connections;
use super::drain;
use super::exposition::Format;
use super::gate;
use super::guard::{self, Rule};
use super::health::{self, Question};
use super::metrics;
use super::platform::platform;
use crate::clock;
use crate::config::Admin;
use crate::driver::{Message, Status};
use crate::front::Backend;
use crate::telemetry::is_safe;

/// greenroom and all its backends.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Report {
    /// greenroom itself.
    pub greenroom: Own,
    /// The backends, in the order of the configuration.
    pub backends: Vec<Status>,
}

/// greenroom itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Own {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Where clients come to.
    pub listeners: Vec<String>,
    /// The profile in effect.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
    /// The platform that was recognised. It changes nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<String>,
    /// Whether it is stopping.
    pub stopping: bool,
}

/// How far a backend's start has come, as somebody who may says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// A phase that is finished; or `ready`, `complete`, `failed`, `stopping`.
    pub phase: String,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Which life of the process is meant; without it, the present one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
}

/// Why something is refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub help: String,
}

pub(super) type Refused = (StatusCode, Json<Problem>);

pub(super) fn refuse<T>(status: StatusCode, error: impl Into<String>, help: impl Into<String>) -> Result<T, Refused> {
    let problem = Problem {
        error: error.into(),
        help: help.into(),
    };
    Err((status, Json(problem)))
}

/// Everything, for who comes to the socket.
pub(super) fn at_socket(asked: &Arc<Asked>) -> Router {
    let router = api().merge(health()).fallback(nothing);
    router
        .method_not_allowed_fallback(other_method)
        .with_state(Arc::clone(asked))
}

/// Everything for who brings the token; health for everybody.
pub(super) fn at_address(asked: &Arc<Asked>, settings: &Admin) -> Router {
    let rule = Rule {
        token: settings.token.clone(),
        address: settings.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        guesses: Arc::default(),
        log: asked.log.clone(),
    };
    let asks_health = middleware::from_fn_with_state(rule.clone(), guard::health_at_address);
    let guarded = api()
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(rule, guard::at_address));
    let all = health().layer(asks_health).merge(guarded);
    all.layer(middleware::from_fn(guard::fenced))
        .with_state(Arc::clone(asked))
}

fn api() -> Router<Arc<Asked>> {
    Router::new()
        .route("/v1/status", get(report))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/{number}", get(connections::one))
        .route("/v1/closed", get(connections::list_closed))
        .route("/metrics", get(scrape))
        .route("/v1/backends/{name}", get(one))
        .route("/v1/backends/{name}/phases", post(push))
        .merge(drain::routes())
        .merge(gate::routes())
        .layer(DefaultBodyLimit::max(ADMIN_PUSH_MAX))
        .merge(acts())
}

/// What changes connections.
fn acts() -> Router<Arc<Asked>> {
    Router::new()
        .route("/v1/connections/close", post(act::close))
        .route("/v1/connections/{number}/close", post(act::close_one))
        .route("/v1/connections/send", post(act::send))
        .layer(DefaultBodyLimit::max(ACT_BODY_MAX))
}

fn health() -> Router<Arc<Asked>> {
    Router::new()
        .route("/livez", get(|asked| async { well(asked, Question::Live) }))
        .route("/readyz", get(|asked| async { well(asked, Question::Ready) }))
        .route("/startupz", get(|asked| async { well(asked, Question::Started) }))
}

fn well(State(asked): State<Arc<Asked>>, question: Question) -> Response {
    let house = asked.house();
    let waits = house.config.admin.readyz_waits;
    let backends = house.backends.iter().map(|backend| &**backend);
    let (status, body) = health::answer(question, waits, backends, &asked.drain);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, body).into_response()
}

async fn nothing() -> Refused {
    let problem = Problem {
        error: "nothing is at this path".into(),
        help:
            "ask for /v1/status, /v1/backends/NAME, /v1/connections, /v1/closed, /metrics, /livez, /readyz or /startupz"
                .into(),
    };
    (StatusCode::NOT_FOUND, Json(problem))
}

async fn other_method() -> Refused {
    let problem = Problem {
        error: "this path does not know the method".into(),
        help: "GET what is asked for; POST to /v1/backends/NAME/phases, /v1/connections/close or /v1/connections/send"
            .into(),
    };
    (StatusCode::METHOD_NOT_ALLOWED, Json(problem))
}

async fn scrape(State(asked): State<Arc<Asked>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = Format::accepted(accept.filter_map(|field| field.to_str().ok()));
    let kind = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")];
    (kind, metrics::text(&asked, format).await).into_response()
}

async fn report(State(asked): State<Arc<Asked>>) -> Json<Report> {
    let house = asked.house();
    let mut backends = Vec::new();
    for backend in house.backends.iter() {
        backends.extend(backend.inbox.status().await.map(|status| *status));
    }
    let uptime_ms = clock::now().as_nanos() / 1_000_000;
    Json(Report {
        greenroom: Own {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms,
            listeners: house.listeners.clone(),
            profile: house.config.profile.clone(),
            platform: platform(|name| std::env::var_os(name)),
            stopping: asked.drain.borrow().is_some(),
        },
        backends,
    })
}

pub(super) type Name = Result<Path<String>, PathRejection>;

pub(super) fn backend(asked: &Asked, name: Name) -> Result<Arc<Backend>, Refused> {
    let house = asked.house();
    let Path(name) = match name {
        Ok(name) => name,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text(), "write the name of a backend"),
    };
    if let Some(found) = house.backends.iter().find(|backend| backend.name == name) {
        return Ok(Arc::clone(found));
    }
    let names: Vec<_> = house.backends.iter().map(|backend| backend.name.as_str()).collect();
    refuse(
        StatusCode::NOT_FOUND,
        format!("there is no backend {name:?}"),
        format!("the backends are {}", names.join(", ")),
    )
}

pub(super) async fn status(backend: &Backend) -> Result<Json<Status>, Refused> {
    match backend.inbox.status().await {
        Some(status) => Ok(Json(*status)),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "greenroom ends", "ask its successor"),
    }
}

async fn one(State(asked): State<Arc<Asked>>, name: Name) -> Result<Json<Status>, Refused> {
    status(&*backend(&asked, name)?).await
}

async fn push(
    State(asked): State<Arc<Asked>>,
    by: By,
    name: Name,
    push: Result<Json<Push>, JsonRejection>,
) -> Result<Json<Status>, Refused> {
    let backend = backend(&asked, name)?;
    let Json(push) = match push {
        Ok(push) => push,
        Err(rejection) => {
            return refuse(
                rejection.status(),
                rejection.body_text(),
                "send JSON such as {\"phase\": \"database\"}",
            );
        }
    };
    let now = status(&backend).await?.0;
    let input = judge(&asked, &backend, &push, &now);
    let said = by.change("phase", format!("backend {}", backend.name));
    match &input {
        Ok(_) => said.detail(&push.phase).done(&asked.log),
        Err(_) => said.of(&asked.log, &input),
    }
    backend.inbox.tell(Message::Backend(input?, "admin"));
    if push.phase == "stopping" {
        backend.inbox.tell(Message::Said(push.phase));
    }
    status(&backend).await
}

/// What a push means, if it makes sense.
fn judge(asked: &Asked, backend: &Backend, push: &Push, now: &Status) -> Result<Input, Refused> {
    let present = now.generation;
    let meant = push.generation.unwrap_or(present);
    if meant != present {
        return refuse(
            StatusCode::CONFLICT,
            format!("life {meant} of the backend is not the present one, which is {present}"),
            "leave `generation` out to mean the present one",
        );
    }
    let house = asked.house();
    let settings = house
        .config
        .backends
        .iter()
        .find(|settings| settings.name == backend.name);
    if present == 0 && settings.is_some_and(|settings| settings.process.is_some()) {
        return refuse(
            StatusCode::CONFLICT,
            format!("the process of the backend {} is not started yet", backend.name),
            "say it again in a moment: what is said of no life would count for none",
        );
    }
    let generation = Generation(present);
    let phase = push.phase.as_str();
    if phase == "failed" {
        let words = push.reason.as_deref().unwrap_or("the server said so");
        let words: String = words.chars().filter(|&c| is_safe(c)).take(REASON_MAX).collect();
        return Ok(Input::Failed(generation, Reason::Said(words.into())));
    }
    if push.reason.is_some() {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "a reason is said of a failed start only",
            "leave `reason` out, or push the phase `failed`",
        );
    }
    let own: Vec<_> = settings
        .iter()
        .flat_map(|settings| &settings.phases)
        .map(|rule| &*rule.name)
        .collect();
    if !matches!(phase, "ready" | "complete" | "stopping") && !own.contains(&phase) {
        let shown: String = phase.chars().take(PHASE_NAME_MAX).collect();
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{shown:?} is no phase of the backend {}", backend.name),
            format!("its phases are {}; or push ready, failed or stopping", own.join(", ")),
        );
    }
    Ok(Input::Phase(generation, phase.into()))
}
