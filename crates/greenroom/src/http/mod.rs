//! Plain HTTP/1.1 beside the WebSocket lane: one request, one answer, and again.
//!
//! ```text
//!   request ──gate free──▶ pool or fresh dial ──▶ exchange ──▶ pool
//!      │                        │ refused             ▲
//!      └──otherwise──▶ arrive ◀─┘                     │
//!                        │ held, in order ──Dialled───┘
//!                        └─ a browser's page, after a second: see `page`
//! ```
//!
//! While the gate is open, sure, and nobody is held, a request goes past it: no
//! wake-up of the owner task. Otherwise it arrives and waits in the same line as the
//! WebSocket clients, with its body unread in the kernel, and is let in by the
//! owner task. Whatever of a body has been sent is never sent again: only a GET or
//! HEAD without one is tried a second time.
//!
//! This is our own framing over the strict heads of [`crate::head`], not hyper:
//! hyper writes heads by other rules than the fast lane, cannot pass interim
//! answers on, and takes from the socket what may still have to wait in it.
//!
//! | file | decides |
//! |---|---|
//! | `exchange` | one request and its answer on one backend connection |
//! | `flow` | how bodies are carried |
//! | `gate` | the wait at the gate |
//! | `page` | what a browser shows meanwhile |
//! | `pool` | which backend connections are kept |

mod exchange;
mod flow;
mod gate;
mod health;
mod page;
mod pool;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::session::Answer;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::config::{HttpMode, Route};
use crate::dial;
use crate::driver::Message;
use crate::front::{self, Backend, Front};
use crate::head::{self, BodyFraming, Http, Kind, With};
use crate::opening::{Watched, say};
use crate::registry::{Descriptor, Entry, Record};
use crate::stream::Stream;

use exchange::{Exchange, Outcome};
use gate::{Gated, Wait};
pub(crate) use health::{asks_health, tell_health};
pub(crate) use pool::Pool;

/// One plain request, and all that decides what becomes of it.
pub(crate) struct Request<'f> {
    front: &'f Front,
    backend: &'f Arc<Backend>,
    route: &'f Route,
    route_index: usize,
    peer: IpAddr,
    kind: Arc<Kind>,
    client: Watched,
    /// Its connection's line in the books.
    record: Arc<Record>,
}

/// A backend connection for one request.
struct Connection {
    stream: Stream,
    descriptor: Descriptor,
    /// It carried a request before, so its backend may have closed it meanwhile.
    is_reused: bool,
    era: u64,
}

/// How a request ended, for its client.
enum End {
    /// It was answered to its end. Whether its connection may carry another.
    Answered { persists: bool },
    /// It is refused; nothing of an answer was sent.
    Refused(Refusal, Option<String>),
    /// Its connection is over, and nothing more is to be said on it.
    Over(CloseCause, Option<String>),
    /// As [`End::Over`], within an answer of which the end of the connection is the end: only a reset
    /// tells its client that it is not whole.
    Torn(CloseCause, Option<String>),
}

/// Serves one request. The client's connection, if it may carry another.
pub(crate) async fn serve(
    front: &Front,
    client: TcpStream,
    peer: IpAddr,
    (kind, route): (Kind, usize),
    entry: &mut Entry,
) -> Option<TcpStream> {
    let request = Request {
        front,
        backend: front.backend(route),
        route: &front.config.routes[route],
        route_index: route,
        peer,
        kind: Arc::new(kind),
        client: Watched::new(client),
        record: Arc::clone(entry.record()),
    };
    entry.asks(Some((request.backend, front.route_of(route))), &request.kind);
    let end = Box::pin(request.run(entry)).await;
    request.finish(end, entry).await
}

impl Request<'_> {
    fn http(&self) -> Option<&Http> {
        match &*self.kind {
            Kind::Http(http) => Some(http),
            Kind::Upgrade(_) => None,
        }
    }

    fn is_safe(&self) -> bool {
        self.http().is_some_and(Http::is_safe)
    }

    async fn run(&self, entry: &mut Entry) -> End {
        if let (Some(BodyFraming::Length(length)), Some(max)) = (self.http().map(Http::body), self.route.body_max)
            && length > max
        {
            return End::Refused(Refusal::BodyTooLarge, None); // before a place is taken
        }
        let passes = self.route.http == HttpMode::Pass;
        let (inbox, need) = (&self.backend.inbox, self.route.need);
        let drawn = if passes {
            Some(inbox.draw())
        } else {
            inbox.draw_past(need)
        };
        if let Some(id) = drawn {
            entry.set_session(id);
            match self.at_once(id).await {
                Tried::Ended(end) => return end,
                Tried::Unreached(answer) if passes => {
                    let detail = format!("the backend is not reached: {}", answer.word());
                    return End::Refused(Refusal::NotReady, Some(detail));
                }
                Tried::Dropped if passes => return self.end(Outcome::Dropped { untouched: true }),
                // It is not there: the gate hears so, shuts, and this request waits like everybody.
                Tried::Unreached(answer) => self.backend.inbox.tell(Message::Unreached(answer)),
                // Once more, from there: the gate sees whether others fare like this one.
                Tried::Dropped => return self.at_gate(entry, true).await,
            }
        }
        self.at_gate(entry, false).await
    }

    /// Past the gate: on a connection of the pool, or a fresh one.
    async fn at_once(&self, id: SessionId) -> Tried {
        let mut attempt = 1;
        loop {
            let connection = match self.backend.pool.take(self.is_safe()) {
                Some((stream, descriptor, era)) => Connection {
                    stream,
                    descriptor,
                    is_reused: true,
                    era,
                },
                None => match self.dial().await {
                    Ok(connection) => connection,
                    Err(answer) => return Tried::Unreached(answer),
                },
            };
            let is_reused = connection.is_reused;
            let mut head = Vec::new();
            let authority = &self.backend.authority;
            let degraded = self.backend.standing.borrow().degraded.clone();
            let degraded = degraded.as_deref();
            let forward = front::forward(self.route, &self.kind, authority, self.peer, id, attempt, degraded);
            self.kind.to_backend(&forward, &mut head);
            let exchange = Exchange::new(self, connection, head);
            match exchange.run(None).await {
                // A connection that was kept has been closed by its backend: that says nothing of the backend.
                Outcome::Dropped { untouched } if untouched && is_reused && self.is_safe() => attempt += 1,
                Outcome::Dropped { untouched } if untouched && self.is_safe() => return Tried::Dropped,
                outcome => return Tried::Ended(self.end(outcome)),
            }
        }
    }

    async fn dial(&self) -> Result<Connection, Answer> {
        let era = self.backend.pool.era();
        let registry = &self.front.registry;
        if registry.spare() == 0 {
            return Err(Answer::NoDescriptor); // the gate knows how to wait for one
        }
        let descriptor = registry.descriptor();
        let stream = dial::connect(&self.backend.names).await?;
        Ok(Connection {
            stream,
            descriptor,
            is_reused: false,
            era,
        })
    }

    /// Waits at the gate, as often as the gate wants.
    async fn at_gate(&self, entry: &mut Entry, was_dropped: bool) -> End {
        entry.enter(State::Held);
        let mut wait = Wait::arrive(self, entry);
        if was_dropped {
            let place = wait.place();
            place.tell(Message::DroppedPast(place.id));
        }
        loop {
            let dialled = match wait.next().await {
                Gated::Dialled(dialled) => {
                    entry.record().dialled(dialled.generation);
                    dialled
                }
                Gated::Refused(refusal, why) => return End::Refused(refusal, why),
                Gated::Left => return End::Over(CloseCause::LeftHeld, None),
                Gated::Told(close) => return End::Refused(close.refusal, close.detail.map(String::from)),
                Gated::ShowPage => {
                    wait.leave();
                    entry.enter(State::Http);
                    return self.show_page(entry).await;
                }
            };
            let Ok(stream) = dialled.stream.watched() else {
                // The kernel has no memory for it: as if there were no descriptor.
                let place = wait.place();
                place.tell(Message::Answered(place.id, Answer::NoDescriptor));
                continue;
            };
            entry.enter(State::Dialing);
            let connection = Connection {
                stream,
                descriptor: dialled.descriptor,
                is_reused: false,
                era: self.backend.pool.era(),
            };
            let exchange = Exchange::new(self, connection, dialled.rest);
            match exchange.run(Some(wait.trial(entry))).await {
                Outcome::Requeued => entry.enter(State::Held),
                outcome => {
                    wait.leave(); // where the gate waited for its answer, it need not any more
                    if entry.state() == State::Dialing {
                        entry.enter(State::Http);
                    }
                    return self.end(outcome);
                }
            }
        }
    }

    /// What the outcome of the last exchange means to the client.
    fn end(&self, outcome: Outcome) -> End {
        match outcome {
            Outcome::Answered { persists } => End::Answered { persists },
            Outcome::Cut(cause, detail) => End::Over(cause, detail),
            Outcome::Torn(cause, detail) => End::Torn(cause, detail),
            Outcome::Refused(refusal, detail) => End::Refused(refusal, detail),
            Outcome::Dropped { .. } => {
                self.backend.inbox.tell(Message::lost());
                let detail = "the backend closed the connection without an answer";
                End::Refused(Refusal::BadAnswer, Some(detail.into()))
            }
            Outcome::Left => End::Over(CloseCause::ClientLost, None),
            Outcome::Requeued => End::Refused(Refusal::Draining, None), // never past the gate
        }
    }

    /// Says to the client what is still to be said, and gives its connection back if it may carry another request.
    async fn finish(self, end: End, entry: &mut Entry) -> Option<TcpStream> {
        let is_head = self.http().is_some_and(Http::is_head);
        let client = self.client.into_inner();
        let Some(client) = client else {
            entry.ends(CloseCause::ClientLost);
            return None;
        };
        match end {
            End::Answered { persists } => {
                // Told to close while its request was under way: after the answer.
                match (self.record.mailbox.take_close(), persists) {
                    (None, true) => return Some(client),
                    (None, false) => entry.ends(CloseCause::Served),
                    (Some(close), _) => entry.ends_with(close.cause, close.detail.map(String::from)),
                }
                entry.enter(State::Closing);
                say(client, &[]).await; // all is said; it ends without a reset
            }
            End::Over(cause, detail) => entry.ends_with(cause, detail),
            End::Torn(cause, detail) => {
                entry.ends_with(cause, detail);
                let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO)); // else it looks whole: nothing to be done
            }
            End::Refused(refusal, detail) => {
                entry.refused_for(refusal, detail, Some(&self.kind));
                entry.enter(State::Closing);
                let id = entry.session().unwrap_or(SessionId(0));
                let saying = self.front.saying(self.route_index, refusal, id);
                let with = With {
                    session: entry.session(),
                    is_head,
                    ..saying.with()
                };
                let mut answer = Vec::new();
                head::refusal(refusal, with, &mut answer);
                say(client, &answer).await;
            }
        }
        None
    }
}

/// What came of trying at once.
enum Tried {
    Ended(End),
    /// No connection came about.
    Unreached(Answer),
    /// The backend took a fresh connection, and closed it without a byte.
    Dropped,
}
