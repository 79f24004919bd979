//! The wait at the gate, and what the orders of the owner task mean to the client.
//!
//! The client is watched all the while: a FIN or a reset before the 101 counts as
//! leaving, also behind bytes that nobody has read, and frees its place at once.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::gate::{Accept, Class};
use greenroom_core::session::Answer;
use tokio::net::TcpStream;

use super::accepted::{Accepted, Before, Gone};
use super::answer::{self, Outcome, Received};
use super::guest::Guest;
use super::parting::Parting;
use super::template::{self, Selected};
use super::watched::Watched;
use super::{Switched101, refuse, traced};
use crate::clock;
use crate::config::Hold;
use crate::dial::Dialled;
use crate::driver::{Arrival, Client, Inbox, Message, Order, Orders, line};
use crate::front::Front;
use crate::head::{Edits, Kind};
use crate::registry::{Entry, Record};
use crate::trace::Begun;

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
pub(super) enum Done {
    /// The client may have what the backend said.
    Answered(Received),
    /// It is sent away.
    Refused(Refusal, Option<String>, usize),
    /// It left, may not stay for what it sent, or was told to go.
    Left(Gone),
}

/// A client that is let in: its socket, its backend's answer, and what it was held with after a 101 of greenroom's own.
pub(super) type Relayed = (TcpStream, Switched101, Option<Before>);

/// A client at the gate.
struct Waiting {
    place: Place,
    guest: Guest,
    /// What a 101 of greenroom's own would select; `None`: there can be none.
    selected: Option<Selected>,
    request: Arc<Kind>,
    route: usize,
    /// Where the gate's words come.
    orders: Orders,
    /// Its span, if it is traced.
    trace: Option<Box<Begun>>,
}

/// What ends a wait at the gate, or goes on with it.
enum Word {
    /// The gate's; `None`: there is nobody who would say another.
    Order(Option<Order>),
    /// The client is gone, or told to go.
    Gone(Gone),
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
) -> impl Future<Output = Option<Relayed>> + use<'a> {
    let settings = &front.config.routes[route];
    let selected = match &request {
        Kind::Upgrade(upgrade) => template::select(upgrade, settings, front.backend(route)),
        Kind::Http(_) => None,
    };
    // Before it arrives: the owner task may tell of it from then on.
    entry.asks(Some((front.backend(route), front.route_of(route))), &request);
    let trace = front.registry.tracer().and_then(|tracer| tracer.begin(&request));
    let accept = match settings.hold {
        Hold::Accept if selected.is_some() => Accept::AtOnce,
        Hold::Auto if selected.is_some() => Accept::After(settings.accept_after),
        Hold::Accept | Hold::Auto | Hold::Handshake | Hold::Refuse => Accept::Never,
    };
    let who = front.who(&request, peer, route);
    // From here on all that is allocated is free again when the wait is over: one piece.
    let request = Arc::new(request);
    let (teller, orders) = line();
    let of_route = front.route_of(route);
    let arrival = Arrival {
        deadline: clock::now() + settings.hold_timeout,
        may_wait: settings.hold != Hold::Refuse,
        class: Class::WebSocket,
        who,
        client: Client::new(entry.record(), &request, of_route, accept, teller)
            .traced(trace.as_ref().map(|begun| begun.sent())),
    };
    let place = Place::take(&front.backend(route).inbox, arrival);
    entry.set_session(place.id);
    let waiting = Waiting {
        place,
        guest: Guest::Unanswered(Watched::new(client)),
        selected,
        request,
        route,
        orders,
        trace,
    };
    Box::pin(finish(front, waiting, entry))
}

/// Waits, and only then carries what it takes to follow an order, or to part.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice: where they came, and where they are used"
)]
fn finish<'a>(
    front: &'a Front,
    mut waiting: Waiting,
    entry: &'a mut Entry,
) -> impl Future<Output = Option<Relayed>> + use<'a> {
    async move {
        let done = loop {
            let record = entry.record();
            let word = poll_fn(|cx| waiting.poll_word(cx, record)).await;
            if let Some(done) = Box::pin(waiting.follow(word, front, entry)).await {
                break done;
            }
        };
        if let (Some(begun), Some(tracer)) = (waiting.trace.take(), front.registry.tracer()) {
            traced::end(tracer, &begun, &done, &front.route_of(waiting.route), entry.record());
        }
        Box::pin(part(front, waiting, done, entry)).await
    }
}

/// How the hold of a client ends.
async fn part(front: &Front, waiting: Waiting, done: Box<Done>, entry: &mut Entry) -> Option<Relayed> {
    let Waiting {
        mut place,
        guest,
        request,
        route,
        ..
    } = waiting;
    let id = place.id;
    if !matches!(*done, Done::Left(_)) {
        place.settle(); // the gate has let go of it
    }
    drop(place); // else it hears that the client left: the place is free before anything is said
    let backend = front.backend(route);
    if let (Done::Answered(Received::Switched { said, .. }), Kind::Upgrade(upgrade)) = (&*done, &*request) {
        backend.learn_protocol(
            &front.config.routes[route].name,
            &upgrade.protocols(),
            said.protocol.as_deref(),
        );
    }
    match guest {
        Guest::Unanswered(watched) => Box::pin(unanswered(front, watched, *done, (id, route, request), entry)).await,
        Guest::Accepted(accepted) => {
            let parting = Parting {
                front,
                entry,
                id,
                route,
                request: &request,
            };
            let parting = async {
                match *done {
                    Done::Answered(received) => return parting.answered(accepted, received).await,
                    Done::Refused(refusal, why, together) => parting.refused(accepted, refusal, why, together).await,
                    Done::Left(gone) => parting.gone(accepted, gone).await,
                }
                None
            };
            Box::pin(parting).await
        }
        Guest::Away => {
            entry.ends(CloseCause::Internal); // only while it changes hands
            None
        }
    }
}

/// How the hold of a client ends that has no 101 yet.
async fn unanswered(
    front: &Front,
    watched: Watched,
    done: Done,
    (id, route, request): (SessionId, usize, Arc<Kind>),
    entry: &mut Entry,
) -> Option<Relayed> {
    if let Done::Left(gone) = done {
        let Gone::Told(close) = gone else {
            entry.ends(CloseCause::LeftHeld);
            return None;
        };
        // By hand: at once, and not at its own time as when many are refused together.
        entry.refused_for(close.refusal, close.detail.map(String::from), Some(&request));
        entry.enter(State::Closing);
        let saying = front.saying(route, close.refusal, id);
        refuse::plain(watched.into_inner()?, close.refusal, saying.with()).await;
        return None;
    }
    if let Done::Refused(refusal, why, together) = done {
        entry.refused_for(refusal, why, Some(&request));
        entry.enter(State::Closing);
        let is_browser = matches!(&*request, Kind::Upgrade(upgrade) if upgrade.has_origin());
        let held_back = refuse::hold_back(front, (refusal, id), together, is_browser);
        tokio::select! {
            () = held_back => {}
            () = watched.gone() => return None,
        }
        let saying = front.saying(route, refusal, id);
        refuse::plain(watched.into_inner()?, refusal, saying.with()).await;
        return None;
    }
    let Some(client) = watched.into_inner() else {
        entry.ends(CloseCause::ClientLost);
        return None;
    };
    match done {
        Done::Answered(mut received) => {
            if let Received::Switched { head, .. } = &mut received {
                front.tell_degraded(route, head);
            }
            let (client, switched) = answer::pass_on(client, received, entry).await?;
            Some((client, switched, None))
        }
        Done::Refused(..) | Done::Left(_) => None,
    }
}

impl Waiting {
    /// The gate's next order, or how the client left.
    fn poll_word(&mut self, cx: &mut Context<'_>, record: &Record) -> Poll<Word> {
        if let Poll::Ready(order) = self.orders.poll_next(cx) {
            return Poll::Ready(Word::Order(order));
        }
        self.guest.poll_gone(cx, record).map(Word::Gone)
    }

    /// Does what the gate says; how the wait ended, if it has.
    async fn follow(&mut self, word: Word, front: &Front, entry: &mut Entry) -> Option<Box<Done>> {
        let order = match word {
            Word::Order(order) => order,
            Word::Gone(gone) => return Some(Box::new(Done::Left(gone))),
        };
        let done = match order {
            Some(Order::Dialled(dialled)) => return self.dialled(dialled, front, entry).await,
            Some(Order::Accept) => {
                self.accept(front);
                entry.accepted();
                return None;
            }
            Some(Order::Tell { position }) => {
                self.tell(front, position);
                return None;
            }
            Some(Order::Requeued) => return None, // its dial failed before it heard of it
            // Never without a 101; the gate would wait for the answer.
            Some(Order::Look) => {
                self.place.tell(Message::Answered(self.place.id, Answer::LostEarly));
                return None;
            }
            Some(Order::Refuse(refusal, together)) => Done::Refused(refusal, refuse::why(refusal), together),
            // The gate passes on what the backend said, and it said nothing: it dropped this request each time.
            Some(Order::Forward) => Done::Refused(Refusal::BadAnswer, Some(refuse::DROPPED_EACH_TIME.to_owned()), 1),
            None => Done::Refused(Refusal::Draining, None, 1), // the owner task is gone: greenroom ends
        };
        Some(Box::new(done))
    }

    /// Its head is with the backend: what becomes of that.
    async fn dialled(&mut self, dialled: Dialled, front: &Front, entry: &mut Entry) -> Option<Box<Done>> {
        entry.enter(State::Dialing);
        let record = Arc::clone(entry.record());
        record.dialled(dialled.generation);
        let route = &front.config.routes[self.route];
        let degraded = front.degraded_field(self.route);
        let edits = Edits {
            route: &route.response_headers,
            degraded: degraded.as_deref().map(|degraded| degraded.field.as_str()),
        };
        let asked = self.guest.asked(&self.request);
        let gate = (&self.place, &mut self.orders);
        let outcome = answer::receive(gate, (&mut self.guest, &record), asked, edits, dialled).await;
        Some(Box::new(match outcome {
            Outcome::Forward(received) => Done::Answered(received),
            Outcome::Requeued => {
                entry.enter(State::Held);
                return None;
            }
            Outcome::Refused(refusal, together) => Done::Refused(refusal, refuse::why(refusal), together),
            Outcome::Left(gone) => Done::Left(gone),
        }))
    }

    /// Gives the client its 101, and keeps it from now on.
    fn accept(&mut self, front: &Front) {
        let (Kind::Upgrade(upgrade), Some(selected)) = (&*self.request, self.selected.take()) else {
            return; // the gate was told that there can be none
        };
        let degraded = front.degraded_field(self.route);
        let edits = Edits {
            route: &front.config.routes[self.route].response_headers,
            degraded: degraded.as_deref().map(|degraded| degraded.field.as_str()),
        };
        let mut head = Vec::new();
        upgrade.accept(selected.as_deref(), edits, &mut head);
        self.guest = match std::mem::replace(&mut self.guest, Guest::Away) {
            Guest::Unanswered(watched) => {
                let max = front.config.limits.early_max;
                Guest::Accepted(Box::new(Accepted::new(
                    watched,
                    head,
                    selected,
                    max,
                    &front.backend(self.route).early,
                )))
            }
            other => other,
        };
    }

    /// Tells an accepted client how long it will take.
    fn tell(&mut self, front: &Front, position: usize) {
        if let Guest::Accepted(accepted) = &mut self.guest
            && let Some(text) = front.waiting_message(self.route, position)
        {
            accepted.tell(&text);
        }
    }
}
