//! greenroom's own health, for platforms that ask: `/livez`, `/readyz`, `/startupz`.
//!
//! | path | 200 while |
//! |---|---|
//! | `/livez` | the process answers at all |
//! | `/readyz` | greenroom takes clients and can hold them, so also while a backend starts; with `readyz = "backends"` as `/startupz` |
//! | `/startupz` | all backends are ready |
//!
//! Else 503, and the body says of which backend what is missing. Decided from what the owner tasks
//! have published: no task is asked, so the answer comes whatever else happens.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::Asked;
use super::openapi::{Answer, Api, Operation};
use crate::driver::Gateway;
use crate::front::Backend;
use crate::relay::Drain;

pub(super) fn routes(api: Api) -> Api {
    api.get_open("/livez", "Whether the process answers", |asked| async {
        well(asked, Question::Live)
    })
    .get_open("/readyz", "Whether clients may come", |asked| async {
        well(asked, Question::Ready)
    })
    .get_open("/startupz", "Whether all backends are ready", |asked| async {
        well(asked, Question::Started)
    })
}

/// How well greenroom is.
struct Health(StatusCode, String);

impl IntoResponse for Health {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl Answer for Health {
    fn describe(operation: &mut Operation<'_>) {
        let text = || serde_json::json!({ "type": "string" });
        operation.answer(200, "It is so", "text/plain", &text());
        operation.answer(
            503,
            "It is not so: what is missing, a backend a line",
            "text/plain",
            &text(),
        );
    }
}

fn well(State(asked): State<Arc<Asked>>, question: Question) -> Health {
    let house = asked.house();
    let waits = house.config.admin.readyz_waits;
    let backends = house.backends.iter().map(|backend| &**backend);
    let (status, body) = answer(question, waits, backends, &asked.drain);
    Health(
        StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        body,
    )
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/startupz`
    Started,
}

impl Question {
    /// The question at the end of a path, below `prefix`.
    #[must_use]
    pub fn of(prefix: &str, path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or(path);
        match path.strip_prefix(prefix)? {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/startupz" => Some(Self::Started),
            _ => None,
        }
    }
}

/// The status and the body of an answer.
#[must_use]
pub fn answer<'a>(
    question: Question,
    readyz_waits: bool,
    backends: impl IntoIterator<Item = &'a Backend>,
    drain: &watch::Receiver<Option<Drain>>,
) -> (u16, String) {
    let waits = match question {
        Question::Live => return (200, "live\n".into()),
        Question::Ready if drain.borrow().is_some() => return (503, "greenroom is stopping\n".into()),
        Question::Ready => readyz_waits,
        Question::Started => true,
    };
    let mut missing = String::new();
    for backend in backends.into_iter().filter(|_| waits) {
        let standing = backend.standing.borrow();
        let how = match standing.gate {
            Gateway::Open | Gateway::Limited if standing.lets_in(0) => continue,
            Gateway::Shut | Gateway::Open | Gateway::Limited => "is not ready",
            Gateway::Failed => "could not start",
            Gateway::Draining => "is let go, as greenroom stops",
            Gateway::Refusing => "refuses all clients by hand",
        };
        // Writing to a String cannot fail.
        let _ = write!(missing, "{} {how}", backend.name);
        let _ = match (&standing.failure, &standing.lacks, &standing.phase) {
            (Some(failure), _, _) => write!(missing, ": {failure}"),
            (None, Some(checks), _) => write!(missing, " without {checks}"),
            (None, None, Some(words)) => write!(missing, ": {words}"),
            (None, None, None) => Ok(()),
        };
        missing.push('\n');
    }
    match missing.is_empty() {
        true => (200, "ready\n".into()),
        false => (503, missing),
    }
}
