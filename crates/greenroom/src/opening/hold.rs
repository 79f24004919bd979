//! The wait at the gate, and what the orders of the owner task mean to the client.
//!
//! The client is watched all the while: a FIN or a reset before the 101 counts as
//! leaving, also behind bytes that nobody has read, and frees its place at once.

use std::net::IpAddr;
use std::sync::Arc;

use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::gate::{Accept, Class};
use greenroom_core::session::Answer;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::answer::{self, Outcome, Received};
use super::watched::Watched;
use super::{Switched101, refuse};
use crate::clock;
use crate::config::Hold;
use crate::driver::{Arrival, Inbox, Message, Order};
use crate::front::Front;
use crate::head::{Edits, Kind};
use crate::registry::Entry;

/// A session in the gate's care. Dropped before its time, it says that it left.
#[derive(Debug)]
pub(crate) struct Place {
    inbox: Arc<Inbox>,
    pub(crate) id: SessionId,
    settled: bool,
}

impl Place {
    #[cfg(test)]
    pub(super) fn of(inbox: &Arc<Inbox>) -> Self {
        let settled = true; // nobody waits for it to leave
        Self {
            inbox: Arc::clone(inbox),
            id: SessionId(1),
            settled,
        }
    }

    /// A client arrives at the gate of `backend`.
    pub(crate) fn take(inbox: &Arc<Inbox>, arrival: Arrival) -> Self {
        Self {
            id: inbox.arrive(clock::now(), arrival),
            inbox: Arc::clone(inbox),
            settled: false,
        }
    }

    /// The gate has let go of it by itself: nothing more is to be said.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    pub(crate) fn tell(&self, message: Message) {
        self.inbox.tell(message);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.settled {
            self.inbox.tell(Message::Left(self.id));
        }
    }
}

/// How the wait ended.
enum Done {
    /// The client may have what the backend said.
    Answered(Received),
    /// It is sent away.
    Refused(Refusal, Option<String>),
    /// It left.
    Left,
}

/// A client at the gate.
struct Waiting {
    place: Place,
    watched: Watched,
    request: Arc<Kind>,
    route: usize,
    /// Where the gate's next word comes.
    next: oneshot::Receiver<Order>,
}

/// Waits at the gate until the client may be relayed. `None`: it was refused,
/// answered otherwise, or left; all is done. It arrives when this is called, not
/// when it is first polled.
pub(super) fn wait<'a>(
    front: &'a Front,
    client: TcpStream,
    peer: IpAddr,
    (request, route): (Kind, usize),
    entry: &'a mut Entry,
) -> impl Future<Output = Option<(TcpStream, Switched101)>> + use<'a> {
    let (order, next) = oneshot::channel();
    let settings = &front.config.routes[route];
    let request = Arc::new(request);
    let arrival = Arrival {
        deadline: clock::now() + settings.hold_timeout,
        may_wait: settings.hold != Hold::Refuse,
        class: Class::WebSocket,
        request: Arc::clone(&request),
        route,
        peer,
        accept: match settings.hold {
            Hold::Accept => Accept::AtOnce,
            Hold::Auto => Accept::After(settings.accept_after),
            Hold::Handshake | Hold::Refuse => Accept::Never,
        },
        who: front.who(&request, peer, route),
        order,
    };
    let place = Place::take(&front.backend(route).inbox, arrival);
    entry.set_session(place.id);
    entry.asks(Some(front.backend(route)));
    let waiting = Waiting {
        place,
        watched: Watched::new(client),
        request,
        route,
        next,
    };
    Box::pin(finish(front, Box::new(waiting), entry))
}

async fn finish(front: &Front, mut waiting: Box<Waiting>, entry: &mut Entry) -> Option<(TcpStream, Switched101)> {
    let done = waiting.done(front, entry).await;
    if matches!(done, Done::Left) {
        entry.ends(CloseCause::LeftHeld);
        return None;
    }
    waiting.place.settle();
    let id = waiting.place.id;
    let Some(client) = waiting.watched.into_inner() else {
        entry.ends(CloseCause::ClientLost);
        return None;
    };
    match done {
        Done::Answered(mut received) => {
            if let Received::Switched { head, .. } = &mut received {
                front.tell_degraded(waiting.route, head);
            }
            Box::pin(answer::pass_on(client, received, entry)).await
        }
        Done::Refused(refusal, why) => {
            entry.refused_for(refusal, why, Some(&waiting.request));
            entry.enter(State::Closing);
            let saying = front.saying(waiting.route, refusal, id);
            Box::pin(refuse::plain(client, refusal, saying.with())).await;
            None
        }
        Done::Left => None,
    }
}

impl Waiting {
    /// Follows the gate's orders until one of them is the last.
    async fn done(&mut self, front: &Front, entry: &mut Entry) -> Done {
        loop {
            let order = tokio::select! {
                biased;
                order = &mut self.next => order,
                () = self.watched.gone() => return Done::Left,
            };
            match order {
                Ok(Order::Dialled { dialled, next }) => {
                    entry.enter(State::Dialing);
                    let route = &front.config.routes[self.route];
                    let degraded = front.degraded_field(self.route);
                    let edits = Edits {
                        route: &route.response_headers,
                        degraded: degraded.as_deref().map(|degraded| degraded.field.as_str()),
                    };
                    let receive = answer::receive(
                        &self.place,
                        &self.watched,
                        (&*self.request).into(),
                        edits,
                        dialled,
                        next,
                    );
                    match Box::pin(receive).await {
                        Outcome::Forward(received) => return Done::Answered(received),
                        Outcome::Requeued(next) => {
                            entry.enter(State::Held);
                            self.next = next;
                        }
                        Outcome::Refused(refusal) => return Done::Refused(refusal, refuse::why(refusal)),
                        Outcome::Left => return Done::Left,
                    }
                }
                Ok(Order::Requeued { next } | Order::Accept { next }) => self.next = next, // its dial failed before it heard of it
                // Never without a 101; the gate would wait for the answer.
                Ok(Order::Look { next }) => {
                    self.next = next;
                    self.place.tell(Message::Answered(self.place.id, Answer::LostEarly));
                }
                Ok(Order::Refuse(refusal)) => return Done::Refused(refusal, refuse::why(refusal)),
                // The gate passes on what the backend said, and it said nothing: it dropped this request each time.
                Ok(Order::Forward) => {
                    return Done::Refused(Refusal::BadAnswer, Some(refuse::DROPPED_EACH_TIME.to_owned()));
                }
                Err(_) => return Done::Refused(Refusal::Draining, None), // the owner task is gone: greenroom ends
            }
        }
    }
}
