//! Who changes something from outside, and that it is said: each change through the admin API or a signal, done or
//! refused, is one [`Event::Admin`] in the log and the event stream.
//!
//! ```text
//! async fn close(State(asked): State<Arc<Asked>>, by: By, …) -> Result<Json<…>, Refused> {
//!     let what = format!("connection {number}");
//!     let answer = try_close(…);
//!     by.change("close", what).of(&asked.log, &answer);   // `done`, or `refused` with the problem
//!     answer
//! }
//! By::Signal("HUP").change("reload", "the configuration").detail("2 routes changed").done(&log);
//! ```
//!
//! At the socket it is a process, by the kernel's word; at the address whoever has the token, by the peer's address.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use greenroom_core::limits::AUDIT_TEXT_MAX;
use tokio::net::UnixStream;
use tokio::task::JoinError;

use super::api::{Refused, refuse};
use super::audited;
use crate::telemetry::{Event, Log, printable};

/// Sees a change through. A handler is dropped where its peer hangs up; what was begun by then goes on here to its end, and to its
/// event. What it takes from a bound (a place, a queue) it keeps as long.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::spawn(audited::carried(change)).await {
        Ok(answer) => answer,
        Err(ended) => over(ended),
    }
}

/// What did not end by itself: its panic goes on here; else all ends.
pub(super) fn over<T>(ended: JoinError) -> Result<T, Refused> {
    match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "greenroom ends", "ask its successor"),
    }
}

/// Who changes something. In a handler it is an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A process, at the admin socket.
    Socket {
        /// Its user.
        uid: u32,
        /// Its number, where the kernel says it.
        pid: Option<i32>,
    },
    /// Somebody with the token, at the admin address.
    Address(SocketAddr),
    /// A signal to greenroom.
    Signal(&'static str),
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid, pid: Some(pid) } => write!(f, "socket uid={uid} pid={pid}"),
            Self::Socket { uid, pid: None } => write!(f, "socket uid={uid}"),
            Self::Address(peer) => write!(f, "address {peer}"),
            Self::Signal(name) => write!(f, "signal {name}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    /// What the door has put there with the connection.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Unknown))
    }
}

impl By {
    /// The process at the other end of the socket.
    pub(super) fn at_socket(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(peer) => Self::Socket {
                uid: peer.uid(),
                pid: peer.pid(),
            },
            Err(_) => Self::Unknown,
        }
    }

    /// It does, or wants to do, `action` (one word of docs/events.md) to `what` (`backend app`, `connection 17`, a filter).
    pub(crate) fn change(&self, action: &'static str, what: impl Into<String>) -> Change {
        Change {
            action,
            by: self.to_string(),
            what: what.into(),
            count: None,
            detail: None,
        }
    }
}

/// A change that is to be told. Nothing is said before [`Change::done`], [`Change::refused`] or [`Change::of`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Change {
    action: &'static str,
    by: String,
    what: String,
    count: Option<u64>,
    detail: Option<String>,
}

impl Change {
    /// How many it was done to.
    pub(crate) fn count(mut self, count: impl TryInto<u64>) -> Self {
        self.count = count.try_into().ok();
        self
    }

    /// What else is worth a word: which phase, which code.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says that it is done.
    pub(crate) fn done(self, log: &Log) {
        self.say(log, "done");
    }

    /// Says that it was refused, and why.
    pub(crate) fn refused(self, log: &Log, why: &str) {
        self.detail(why).say(log, "refused");
    }

    /// Says what became of it, by what is answered.
    pub(crate) fn of<T>(self, log: &Log, answer: &Result<T, Refused>) {
        match answer {
            Ok(_) => self.done(log),
            Err((_, problem)) => self.refused(log, &problem.error),
        }
    }

    fn say(self, log: &Log, result: &'static str) {
        audited::told();
        // Both may hold what somebody typed.
        let shown = |text: &str| printable(text, AUDIT_TEXT_MAX);
        log.say(Event::Admin {
            action: self.action,
            by: self.by,
            what: shown(&self.what),
            count: self.count,
            result,
            detail: self.detail.as_deref().map(shown),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_was_is_one_phrase() {
        let socket = |pid| By::Socket { uid: 1000, pid }.to_string();
        assert_eq!(socket(Some(7)), "socket uid=1000 pid=7");
        assert_eq!(socket(None), "socket uid=1000");
        let peer = "[::1]:9090".parse().unwrap();
        assert_eq!(By::Address(peer).to_string(), "address [::1]:9090");
        assert_eq!(By::Signal("HUP").to_string(), "signal HUP");
    }
}
