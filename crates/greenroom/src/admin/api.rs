//! What can be asked and told, as JSON over HTTP. The paths and fields are an interface: names and
//! meanings under `/v1` stay, new ones may come (docs/readiness.md).
//!
//! [`table`] is the one list of it; docs/api.md and `GET /v1/openapi.json` tell the same to people and programs.
//!
//! Every refusal is a [`Problem`], which says what to do. To push the same twice changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use greenroom_core::event::{Generation, State as Where};
use greenroom_core::limits::{ACT_BODY_MAX, ADMIN_PUSH_MAX, PHASE_NAME_MAX, REASON_MAX};
use greenroom_core::phase::Reason;
use greenroom_core::readiness::Input;
use greenroom_core::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::audited::{Told, audited};
use super::by::By;
use super::exposition::Format;
use super::guard::{self, Rule};
use super::openapi::{self, Api};
use super::platform::platform;
use super::said::{Body, InPath, Sent};
use super::{about, act, connections, drain, events, gate, health, metrics, reload};
use crate::clock;
use crate::config::Admin;
use crate::driver::{Message, Status};
use crate::front::Backend;
use crate::telemetry::is_safe;

/// greenroom and all its backends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct Report {
    /// greenroom itself.
    pub greenroom: Own,
    /// The backends, in the order of the configuration.
    pub backends: Vec<Status>,
    /// Those that a reload has replaced or taken away, while clients are with them: each lets in, holds and counts its own.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub old: Vec<Status>,
}

/// greenroom itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
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
    /// Configurations that somebody goes by: 1 unless clients are left from before a reload.
    #[serde(default)]
    pub configurations: usize,
    /// How its stop goes, while it stops.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stop: Option<StopStatus>,
    /// Its admin socket, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub admin_socket: Option<String>,
    /// Its admin address, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub admin_address: Option<String>,
    /// Open connections whose route or backend is not in the configuration any more, by these.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub orphaned: Vec<Orphaned>,
}

/// How a stop goes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct StopStatus {
    /// Connections of clients that are still open.
    pub clients: u64,
    /// Milliseconds until the last of them is told to close.
    pub closes_ms: u64,
    /// Milliseconds until those that are left then are cut off.
    pub left_ms: u64,
}

/// Connections that a reload has left without their route or backend. They stay until they end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Orphaned {
    /// Their backend.
    pub backend: String,
    /// Their route.
    pub route: String,
    /// How many they are.
    pub connections: usize,
}

/// How far a backend's start has come, as somebody who may says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// A phase that is finished; or `ready`, `complete`, `failed`, `stopping`.
    #[schemars(extend("examples" = ["ready"]))]
    pub phase: String,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Which life of the process is meant; without it, the present one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
}

impl Sent for Push {
    const EXAMPLE: &'static str = r#"{"phase": "database"}"#;
}

/// Why something is refused.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
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

/// All that is served, and what the document tells of it. A module with routes of its own is one line here.
pub(super) fn table() -> Api {
    Api::new()
        .get("/v1/status", "greenroom and all its backends", &[], report)
        .get("/v1/backends/{name}", "One backend", &[404, 503], one)
        .post(
            "/v1/backends/{name}/phases",
            "Say how far its start has come. To say the same twice changes nothing",
            &[404, 409, 503],
            push,
        )
        .with(connections::routes)
        .with(act::routes)
        .with(drain::routes)
        .with(gate::routes)
        .with(reload::routes)
        .with(events::routes)
        .with(about::routes)
        .get("/metrics", "OpenMetrics for Prometheus", &[], scrape)
        .get("/v1/openapi.json", "This document", &[], openapi::this)
        .with(health::routes)
}

/// Everything, for who comes to the socket.
pub(super) fn at_socket(asked: &Arc<Asked>) -> Router {
    let table = table();
    let help = table.help();
    let router = table.open.merge(table.guarded);
    finished(router, help, asked).with_state(Arc::clone(asked))
}

/// Everything for who brings the token; health for everybody.
pub(super) fn at_address(asked: &Arc<Asked>, settings: &Admin) -> Router {
    let rule = Rule {
        address: settings.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        guesses: Arc::default(),
        log: asked.log.clone(),
    };
    let asks_health = middleware::from_fn_with_state(rule.clone(), guard::health_at_address);
    let table = table();
    let help = table.help();
    let guarded = finished(table.guarded, help, asked).layer(middleware::from_fn_with_state(
        (rule, Arc::clone(asked)),
        guard::at_address,
    ));
    let all = table.open.layer(asks_health).merge(guarded);
    all.layer(middleware::from_fn(guard::fenced))
        .with_state(Arc::clone(asked))
}

/// With an answer for what is not in the table.
fn finished(router: Router<Arc<Asked>>, help: String, asked: &Arc<Asked>) -> Router<Arc<Asked>> {
    let problem = move |status: StatusCode, error: &str| {
        let problem = Problem {
            error: error.into(),
            help: help.clone(),
        };
        (status, Json(problem))
    };
    let other = problem.clone();
    router
        .layer(DefaultBodyLimit::max(ADMIN_PUSH_MAX))
        .layer(middleware::from_fn(objects))
        .layer(middleware::from_fn_with_state(
            (Arc::clone(asked), Arc::<Told>::default()),
            audited,
        ))
        .fallback(move || std::future::ready(problem(StatusCode::NOT_FOUND, "nothing is at this path")))
        .method_not_allowed_fallback(move || {
            let error = "this path does not know the method";
            std::future::ready(other(StatusCode::METHOD_NOT_ALLOWED, error))
        })
}

/// A body is an object. The parser takes a list for one too, by the order of its fields: `[null]` would close a connection.
async fn objects(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let refusal: Result<(), Refused> = match axum::body::to_bytes(body, ACT_BODY_MAX).await {
        Err(_) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is over {ACT_BODY_MAX} bytes, or did not come whole"),
            "send less at a time",
        ),
        Ok(body) if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the body is a list",
            "send a JSON object such as {\"phase\": \"database\"}",
        ),
        Ok(body) => {
            // Who says that it is JSON and sends nothing, as one must at the address, sends no field.
            let says_nothing = body.is_empty() && parts.headers.contains_key(header::CONTENT_TYPE);
            let body = if says_nothing { "{}".into() } else { body.into() };
            return next.run(Request::from_parts(parts, body)).await;
        }
    };
    refusal.into_response()
}

/// A scrape.
struct Scrape(Format, String);

impl IntoResponse for Scrape {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, self.0.content_type()), (header::VARY, "Accept")];
        (kind, self.1).into_response()
    }
}

impl openapi::Answer for Scrape {
    fn describe(operation: &mut openapi::Operation<'_>) {
        let text = serde_json::json!({ "type": "string" });
        operation.answer(200, "OpenMetrics text", "application/openmetrics-text", &text);
        operation.answer(200, "OpenMetrics text", "text/plain", &text);
    }
}

async fn scrape(State(asked): State<Arc<Asked>>, headers: HeaderMap) -> Scrape {
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = Format::accepted(accept.filter_map(|field| field.to_str().ok()));
    Scrape(format, metrics::text(&asked, format).await)
}

async fn report(State(asked): State<Arc<Asked>>) -> Json<Report> {
    let house = asked.house();
    let (mut backends, mut old) = (Vec::new(), Vec::new());
    for backend in house.backends.iter() {
        backends.extend(backend.inbox.status().await.map(|status| *status));
    }
    for backend in &house.old {
        old.extend(backend.inbox.status().await.map(|status| *status));
    }
    let uptime_ms = clock::now().as_nanos() / 1_000_000;
    let doors = asked.doors.get().cloned().unwrap_or_default();
    Json(Report {
        greenroom: Own {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms,
            listeners: house.listeners.clone(),
            profile: house.config.profile.clone(),
            platform: platform(|name| std::env::var_os(name)),
            stopping: asked.drain.borrow().is_some(),
            configurations: asked.configurations.count(),
            stop: stop(&asked),
            admin_socket: doors.socket,
            admin_address: doors.address,
            orphaned: orphaned(&asked),
        },
        backends,
        old,
    })
}

fn stop(asked: &Asked) -> Option<StopStatus> {
    let drain = (*asked.drain.borrow())?;
    let now = clock::now();
    let ms = |at: Time| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
    let open = Where::ALL.iter().filter(|state| **state != Where::Closed);
    Some(StopStatus {
        clients: open.map(|state| asked.registry.count(*state)).sum(),
        closes_ms: ms(drain.deadline),
        left_ms: ms(drain.ends),
    })
}

fn orphaned(asked: &Asked) -> Vec<Orphaned> {
    let mut all: BTreeMap<(String, String), usize> = BTreeMap::new();
    for asks in asked.orphans().iter().filter_map(|record| record.asks_for()) {
        let names = (asks.route.backend().name.clone(), asks.route.name.clone());
        *all.entry(names).or_default() += 1;
    }
    let all = all.into_iter();
    all.map(|((backend, route), connections)| Orphaned {
        backend,
        route,
        connections,
    })
    .collect()
}

pub(super) type Name = InPath<String>;

pub(super) fn backend(asked: &Asked, InPath(name): &Name) -> Result<Arc<Backend>, Refused> {
    let house = asked.house();
    if let Some(found) = house.named(name).next() {
        return Ok(Arc::clone(found));
    }
    let names: Vec<_> = house.backends.iter().map(|backend| backend.name.as_str()).collect();
    refuse(
        StatusCode::NOT_FOUND,
        format!("there is no backend {name:?}"),
        format!("the backends are {}", names.join(", ")),
    )
}

/// All of its name, old ones too: who is held there hears what is said of the name.
pub(super) fn all_of(asked: &Asked, backend: &Backend) -> Vec<Arc<Backend>> {
    asked.house().named(&backend.name).cloned().collect()
}

pub(super) async fn status(backend: &Backend) -> Result<Json<Status>, Refused> {
    match backend.inbox.status().await {
        Some(status) => Ok(Json(*status)),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "greenroom ends", "ask its successor"),
    }
}

async fn one(State(asked): State<Arc<Asked>>, name: Name) -> Result<Json<Status>, Refused> {
    status(&*backend(&asked, &name)?).await
}

async fn push(
    State(asked): State<Arc<Asked>>,
    by: By,
    name: Name,
    Body(push): Body<Push>,
) -> Result<Json<Status>, Refused> {
    let backend = backend(&asked, &name)?;
    let now = status(&backend).await?.0;
    let input = judge(&asked, &backend, &push, &now);
    let said = by.change("phase", format!("backend {}", backend.name));
    match &input {
        Ok(_) => said.detail(&push.phase).done(&asked.log),
        Err(_) => said.of(&asked.log, &input),
    }
    let input = input?;
    // An old one with the same address is another view of the same server.
    let of_server = |each: &Arc<Backend>| each.authority == backend.authority;
    for each in all_of(&asked, &backend).into_iter().filter(of_server) {
        each.inbox.tell(Message::Backend(input.clone(), "admin"));
        if push.phase == "stopping" {
            each.inbox.tell(Message::Said(push.phase.clone()));
        }
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
