//! `POST /v1/reload`: takes another configuration, or says what it would do and what is wrong with it.
//!
//! | | |
//! |---|---|
//! | `POST /v1/reload` | reads the file again and takes it, as a whole or not at all: [`Reload`] |
//! | the same with `{"dry_run": true}` | the same, and takes nothing |
//!
//! 200: taken, would be taken, or nothing is another. 422: the file is wrong (`problems`). 409: something in it needs a
//! restart, or cannot be had now. 503: others wait already. Whoever asks waits until it is done.
//! Bounded: `RELOADS_WAITING` wait, `RELOAD_CHANGES_MAX` changes are shown.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Asked;
use super::api::{Problem, Refused, refuse};
use super::audited;
use super::by::By;
use super::openapi::{Answer, Api, Operation};
use super::said::{Body, Sent};
use crate::config::{Change, Config};
use crate::telemetry::Log;

/// What came of a reload. The names are an interface: docs/reload.md.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Reload {
    /// What came of it.
    pub outcome: Outcome,
    /// The file that was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// What is another, with what that does; secrets are hidden.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// So many changes more there are.
    #[serde(default)]
    pub left_out: usize,
    /// The keys for which greenroom has to be restarted.
    #[serde(default)]
    pub restart_needed: Vec<String>,
    /// Connections whose route or backend is not there any more: they stay until they end.
    #[serde(default)]
    pub orphaned: usize,
    /// What is right and may not be meant.
    #[serde(default)]
    pub notes: Vec<String>,
    /// All that is wrong with the file, as `greenroom check` shows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problems: Option<String>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What to do then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in effect.
    Reloaded,
    /// Nothing is another.
    Unchanged,
    /// It would be in effect.
    WouldReload,
    /// Everything is as it was.
    Refused,
}

impl Reload {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            file: None,
            changes: Vec::new(),
            left_out: 0,
            restart_needed: Vec::new(),
            orphaned: 0,
            notes: Vec::new(),
            problems: None,
            error: None,
            help: None,
        }
    }

    pub(crate) fn refused(error: impl Into<String>, help: impl Into<String>) -> Self {
        Self::of(Outcome::Refused).refuse(error, help)
    }

    pub(crate) fn refuse(self, error: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            help: Some(help.into()),
            ..self.with(Outcome::Refused)
        }
    }

    pub(crate) fn with(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Says who has asked for it, and what came of it.
    pub(crate) fn say(&self, who: &By, log: &Log) {
        let change = who.change("reload", self.file.as_deref().unwrap_or("the configuration"));
        match &self.error {
            Some(error) => change.refused(log, error),
            None => change.done(log),
        }
    }

    fn status(&self) -> StatusCode {
        match (self.outcome, &self.problems) {
            (Outcome::Refused, Some(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            (Outcome::Refused, None) => StatusCode::CONFLICT,
            (Outcome::Reloaded | Outcome::Unchanged | Outcome::WouldReload, _) => StatusCode::OK,
        }
    }
}

/// An order to reload.
#[derive(Debug)]
pub(crate) struct Order {
    /// What is it that orders.
    pub(crate) by: &'static str,
    /// Who it is, if it is somebody from outside: that is told.
    pub(crate) who: Option<By>,
    /// Only look.
    pub(crate) dry_run: bool,
    answer: Option<oneshot::Sender<Reload>>,
}

impl Order {
    pub(crate) fn answer(self, answer: Reload) {
        if let Some(waits) = self.answer {
            let _ = waits.send(answer); // who asked may have gone
        }
    }
}

/// Where reloads are ordered.
#[derive(Clone, Debug)]
pub struct Reloads {
    orders: mpsc::Sender<Order>,
    has_file: bool,
}

impl Reloads {
    pub(crate) fn new(orders: mpsc::Sender<Order>, has_file: bool) -> Self {
        Self { orders, has_file }
    }

    /// Whether there is a file to read.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.has_file
    }

    /// Orders one, and waits for nothing. One that has not begun yet does for this one too.
    pub(crate) fn tell(&self, by: &'static str, who: Option<By>) {
        let _ = self.orders.try_send(Order {
            by,
            who,
            dry_run: false,
            answer: None,
        });
    }

    /// Orders one, and waits for what comes of it; `None`: others wait already.
    async fn ask(&self, who: By, dry_run: bool) -> Option<Reload> {
        let (answer, done) = oneshot::channel();
        let order = Order {
            by: "admin",
            who: Some(who),
            dry_run,
            answer: Some(answer),
        };
        self.orders.try_send(order).ok()?;
        done.await.ok()
    }
}

/// The configurations that somebody still goes by.
#[derive(Debug, Default)]
pub struct Configurations(Mutex<Vec<Weak<Config>>>);

impl Configurations {
    pub(crate) fn add(&self, config: &Arc<Config>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|config| config.strong_count() > 0);
        all.push(Arc::downgrade(config));
    }

    /// How many there are: 1 when nobody goes by an older one.
    #[must_use]
    pub fn count(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|config| config.strong_count() > 0).count()
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Only say what it would do, and what is wrong.
    #[serde(default)]
    dry_run: bool,
}

impl Sent for How {
    const EXAMPLE: &'static str = r#"{"dry_run": true}, or nothing"#;

    /// It is taken.
    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

/// An answer with its own status.
pub(super) struct Answered(Reload);

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        (self.0.status(), Json(self.0)).into_response()
    }
}

impl Answer for Answered {
    fn describe(operation: &mut Operation<'_>) {
        let (answer, problem) = (operation.schema::<Reload>(), operation.schema::<Problem>());
        let either = serde_json::json!({ "anyOf": [answer, problem] });
        for (status, about, schema) in [
            (200, "It is taken, would be taken, or nothing is another", &answer),
            (
                409,
                "Something in it needs a restart, or cannot be had now: everything is as it was",
                &answer,
            ),
            (
                422,
                "The file is wrong, or the body is: everything is as it was",
                &either,
            ),
        ] {
            operation.answer(status, about, "application/json", schema);
        }
    }
}

pub(super) fn routes(api: Api) -> Api {
    api.post(
        "/v1/reload",
        "Take the configuration file again: all of it, or nothing",
        &[503],
        post,
    )
}

async fn post(State(asked): State<Arc<Asked>>, by: By, Body(How { dry_run }): Body<How>) -> Result<Answered, Refused> {
    if dry_run {
        audited::told();
    }
    let Some(answer) = asked.reloads.ask(by, dry_run).await else {
        let help = "wait until the one under way and the one that waits are done; the file is read when that begins";
        let busy = "another reload is under way, and one waits already";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, busy, help);
    };
    audited::told(); // by whoever took the order
    Ok(Answered(answer))
}
