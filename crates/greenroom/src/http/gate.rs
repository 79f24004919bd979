//! A plain request's wait at the gate: in the same line as the WebSocket clients.
//!
//! Its body stays in the kernel, and so does the answer to `Expect: 100-continue`,
//! which is the backend's to give. A client that leaves frees its place at once.
//! A person in front of a browser is shown a page after `PAGE_AFTER`.

use greenroom_core::event::Refusal;
use greenroom_core::gate::{Accept, Class};
use greenroom_core::limits::PAGE_AFTER;
use greenroom_core::time::Time;

use super::Request;
use super::exchange::Trial;
use crate::clock;
use crate::config::HttpMode;
use crate::dial::Dialled;
use crate::driver::{Arrival, Client, Order, Orders, line};
use crate::head::Http;
use crate::opening::{Place, refuse};
use crate::registry::{Close, Entry};

/// What the gate said, or the client did.
pub(super) enum Gated {
    Dialled(Dialled),
    Refused(Refusal, Option<String>),
    Left,
    /// It is to be closed.
    Told(Close),
    ShowPage,
}

/// A request at the gate.
pub(super) struct Wait<'r> {
    request: &'r Request<'r>,
    place: Place,
    /// Where the gate's words come.
    orders: Orders,
    /// When a browser is shown a page instead.
    page_at: Option<Time>,
}

impl<'r> Wait<'r> {
    /// Arrives: its place is behind all that arrived before.
    pub(super) fn arrive(request: &'r Request<'r>, entry: &mut Entry) -> Self {
        let now = clock::now();
        let (teller, orders) = line();
        let may_wait = request.route.http != HttpMode::Refuse;
        let arrival = Arrival {
            deadline: now + request.route.http_hold,
            may_wait,
            class: Class::Http {
                is_safe: request.is_safe(),
            },
            who: (request.front).who(&request.kind, request.peer, request.route_index),
            client: Client::new(
                entry.record(),
                &request.kind,
                request.front.route_of(request.route_index),
                Accept::Never,
                teller,
            ), // a trace of its own passes
        };
        let place = Place::take(&request.backend.inbox, arrival);
        entry.set_session(place.id);
        let shows_page = may_wait && request.route.waiting_page && request.http().is_some_and(Http::navigates);
        Self {
            request,
            place,
            orders,
            page_at: shows_page.then(|| now + PAGE_AFTER),
        }
    }

    /// Waits for the gate's next word that matters.
    pub(super) async fn next(&mut self) -> Gated {
        loop {
            let order = tokio::select! {
                biased;
                order = self.orders.next() => order,
                () = self.request.client.gone() => return Gated::Left,
                close = self.request.record.mailbox.to_close() => return Gated::Told(close),
                () = clock::until(self.page_at) => return Gated::ShowPage,
            };
            match order {
                Some(Order::Dialled(dialled)) => return Gated::Dialled(dialled),
                // Its dial failed before it heard of it; and only WebSockets are accepted and looked at.
                Some(Order::Requeued | Order::Look | Order::Accept | Order::Tell { .. }) => {}
                Some(Order::Refuse(refusal, together)) => {
                    self.place.settle();
                    let held_back = refuse::hold_back(self.request.front, (refusal, self.place.id), together, false);
                    tokio::select! {
                        () = held_back => {}
                        () = self.request.client.gone() => return Gated::Left,
                    }
                    return Gated::Refused(refusal, refuse::why(refusal));
                }
                // The gate passes on what the backend said, and it said nothing: it dropped this request each time.
                Some(Order::Forward) => {
                    self.place.settle();
                    return Gated::Refused(Refusal::BadAnswer, Some(refuse::DROPPED_EACH_TIME.to_owned()));
                }
                None => return Gated::Refused(Refusal::Draining, None), // the owner task is gone: greenroom ends
            }
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// What an exchange has of the gate while it is on trial.
    pub(super) fn trial<'t>(&'t mut self, entry: &'t mut Entry) -> Trial<'t> {
        Trial {
            place: &self.place,
            orders: &mut self.orders,
            entry,
        }
    }

    /// Gives its place up. Where the gate has let go of it already, this says nothing new.
    pub(super) fn leave(self) {
        drop(self.place);
    }
}
