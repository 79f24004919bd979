//! greenroom's own health at the doors of clients, below a prefix, for platforms that know one port only.
//!
//! Decided before the routes, so no backend is asked. The answer ends its connection: whoever
//! asks comes again in seconds, and must not keep a place.

use std::sync::Arc;

use greenroom_core::event::{CloseCause, State};
use tokio::net::TcpStream;

use crate::admin::health::{self, Question};
use crate::front::Front;
use crate::head::Kind;
use crate::opening::say;
use crate::registry::Entry;

/// What a request asks of greenroom itself, if it does.
pub(crate) fn asks_health(front: &Front, request: &Kind) -> Option<Question> {
    let prefix = front.config.admin.health_prefix.as_deref()?;
    match request {
        Kind::Http(http) if http.is_safe() => Question::of(prefix.trim_end_matches('/'), http.path()),
        Kind::Http(_) | Kind::Upgrade(_) => None,
    }
}

/// Answers it.
pub(crate) async fn tell_health(
    front: &Front,
    client: TcpStream,
    request: &Kind,
    question: Question,
    entry: &mut Entry,
) {
    let backends = front.backends.iter().map(Arc::as_ref);
    let waits = front.config.admin.readyz_waits;
    let (status, body) = health::answer(question, waits, backends, &front.drain);
    let reason = if status == 200 { "OK" } else { "Service Unavailable" };
    let is_head = matches!(request, Kind::Http(http) if http.is_head());
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !is_head {
        answer.push_str(&body);
    }
    entry.ends(CloseCause::Served);
    entry.enter(State::Closing);
    say(client, answer.as_bytes()).await;
}
