//! Says each change that was refused before its handler could say so: a body that does not parse, a backend that is not there.
//!
//! A layer around every POST and DELETE, behind the token: who is not let in changes nothing. A handler that has told of its
//! change, or knows that it is none (a dry run), is not repeated. Bounded by `AUDIT_REFUSED_MAX` in `AUDIT_WINDOW`; the next that
//! is told says how many were not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_core::limits::{ADMIN_PUSH_MAX, AUDIT_REFUSED_MAX, AUDIT_WINDOW};
use greenroom_core::time::Time;

use super::Asked;
use super::api::Problem;
use super::by::By;
use crate::clock;

tokio::task_local! {
    /// Whether all is told of the change that is asked for.
    static TOLD: Arc<AtomicBool>;
}

/// The same request, for another task.
pub(super) fn carried<T>(change: impl Future<Output = T>) -> impl Future<Output = T> {
    let told = TOLD.try_with(Arc::clone).unwrap_or_default(); // where nobody asks, nobody is told
    TOLD.scope(told, change)
}

/// All is told of the change that is asked for, or it is none.
pub(super) fn told() {
    let _ = TOLD.try_with(|told| told.store(true, Ordering::SeqCst)); // a signal is no request
}

/// How many were told of late.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Time,
    told: usize,
    untold: usize,
}

impl Window {
    /// Whether one more may be told, and how many before it were not.
    fn take(&mut self, now: Time) -> Option<usize> {
        if now.since(self.since) >= AUDIT_WINDOW {
            (self.since, self.told) = (now, 0);
        }
        if self.told >= AUDIT_REFUSED_MAX {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

/// See the module's head.
pub(super) async fn audited(
    State((asked, window)): State<(Arc<Asked>, Arc<Told>)>,
    by: By,
    request: Request,
    next: Next,
) -> Response {
    let Some(action) = action(request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    let what = format!("{} {}", request.method(), request.uri().path());
    let told = Arc::<AtomicBool>::default();
    let answer = TOLD.scope(Arc::clone(&told), next.run(request)).await;
    let is_told = told.load(Ordering::SeqCst);
    let status = answer.status();
    if is_told || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let untold = window
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(clock::now());
    let Some(untold) = untold else {
        return answer;
    };
    let (parts, body) = answer.into_parts();
    let Ok(body) = to_bytes(body, ADMIN_PUSH_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response(); // a problem is a few words
    };
    let problem = serde_json::from_slice(&body).ok();
    let mut why = problem.map_or_else(|| status.to_string(), |problem: Problem| problem.error);
    if untold > 0 {
        why.push_str(&format!(" (and {untold} more before it that were not told)"));
    }
    by.change(action, what).refused(&asked.log, &why);
    Response::from_parts(parts, Body::from(body))
}

/// The word of docs/events.md for what a request changes; none: it changes nothing.
fn action(method: &Method, path: &str) -> Option<&'static str> {
    let last = path.rsplit('/').next().unwrap_or_default();
    match (method.as_str(), last) {
        ("DELETE", _) if path.starts_with("/v1/drains/") => Some("cancel"),
        ("POST", "phases") => Some("phase"),
        ("POST", "gate") => Some("gate"),
        ("POST", "close") => Some("close"),
        ("POST", "send") => Some("send"),
        ("POST", "drain") => Some("drain"),
        ("POST", "reload") => Some("reload"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_so_often_and_then_counted() {
        let mut window = Window::default();
        let now = Time::ZERO + AUDIT_WINDOW;
        for _ in 0..AUDIT_REFUSED_MAX {
            assert_eq!(window.take(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(window.take(now), None);
        }
        assert_eq!(window.take(now + AUDIT_WINDOW), Some(7));
        assert_eq!(window.take(now + AUDIT_WINDOW), Some(0));
    }

    /// Whoever adds a change adds its word.
    #[test]
    fn each_change_of_the_table_has_a_word() {
        let document: serde_json::Value = serde_json::from_str(super::super::openapi::document()).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, name) in [(Method::POST, "post"), (Method::DELETE, "delete")] {
                let word = action(&method, path);
                assert_eq!(operations.get(name).is_some(), word.is_some(), "{name} {path}");
            }
            assert_eq!(action(&Method::GET, path), None);
        }
    }
}
