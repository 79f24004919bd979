//! `GET /v1/build` and `GET /v1/limits`: what this greenroom is, and the bounds in effect.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use greenroom_core::limits::{ADMIN_CONNECTIONS_MAX, CLOSES_KEPT, EVENT_STREAMS_MAX, EVENTS_KEPT, LOG_QUEUE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::openapi::Api;
use crate::clock;

pub(super) fn routes(api: Api) -> Api {
    api.get("/v1/build", "What this greenroom is", &[], build)
        .get("/v1/limits", "The bounds in effect", &[], limits)
}

/// What may be built in or left out, as it is here.
const FEATURES: &[&str] = if cfg!(feature = "otlp") { &["otlp"] } else { &[] };

/// What this greenroom is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// What is built into it of what can be left out: `otlp`, which sends traces.
    pub features: Vec<String>,
    /// Whether it was built with optimisations off and more checks.
    pub is_debug: bool,
    /// For which processor and system.
    pub target: String,
    /// Its process.
    pub pid: u32,
    /// When it was started, in seconds since 1970.
    pub started: f64,
}

/// The bounds in effect. `null` is none.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct LimitsInEffect {
    /// Descriptors that connections may use.
    pub descriptors: usize,
    /// Of these, in use now.
    pub descriptors_used: usize,
    /// `connections_max`: clients that may be connected, whatever descriptors there are.
    pub connections_max: Option<usize>,
    /// Clients that may be connected at one time: by descriptors and `connections_max`.
    pub clients_max: usize,
    /// Clients that can be held at one time.
    pub held_max: usize,
    /// Sessions that can be relayed at one time.
    pub relayed_max: usize,
    /// `early_budget`: bytes that are kept of all accepted clients together.
    pub early_budget: u64,
    /// Of these, in use now.
    pub early_used: u64,
    /// Closed connections of which it is kept why they ended.
    pub closes_kept: usize,
    /// Events that are kept for event streams.
    pub events_kept: usize,
    /// Event streams that may be open.
    pub event_streams_max: usize,
    /// Log lines that may wait for standard error.
    pub log_queue: usize,
    /// Connections that may be open at each admin door.
    pub admin_connections_max: usize,
}

async fn build() -> Json<Build> {
    let since = Duration::from_nanos(clock::now().as_nanos());
    let started = SystemTime::now()
        .checked_sub(since)
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Json(Build {
        version: env!("CARGO_PKG_VERSION").into(),
        features: FEATURES.iter().map(|&feature| feature.into()).collect(),
        is_debug: cfg!(debug_assertions),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        pid: std::process::id(),
        started: started.map_or(0.0, |started| (started.as_secs_f64() * 1e3).round() / 1e3),
    })
}

async fn limits(State(asked): State<Arc<Asked>>) -> Json<LimitsInEffect> {
    let (books, house) = (&asked.registry, asked.house());
    let (held_max, relayed_max) = books.capacity();
    let (descriptors, spare) = (books.descriptors_max(), books.spare());
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    Json(LimitsInEffect {
        descriptors,
        descriptors_used: descriptors.saturating_sub(spare),
        connections_max: books.connections_max(),
        clients_max: books.clients_max(),
        held_max,
        relayed_max,
        early_budget: bytes(house.config.limits.early_budget),
        early_used: bytes(books.early.used()),
        closes_kept: CLOSES_KEPT,
        events_kept: EVENTS_KEPT,
        event_streams_max: EVENT_STREAMS_MAX,
        log_queue: LOG_QUEUE,
        admin_connections_max: ADMIN_CONNECTIONS_MAX,
    })
}
