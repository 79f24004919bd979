//! A session in the gate's care, as its owner task knows it.
//!
//! Its own task makes it, before it arrives: so all that a wait takes is allocated on the client's thread, side by side,
//! and is one free piece when the wait is over. A crowd that was let in leaves no holes behind. Bounded by those who may be held.

use std::sync::Arc;

use greenroom_core::gate::{Accept, Place};
use greenroom_core::time::Time;

use super::orders::Teller;
use super::tally::Stay;
use crate::config::RouteOf;
use crate::head::Kind;
use crate::registry::Record;
use crate::trace::Sent;

/// See the module's head.
#[derive(Debug)]
pub struct Client {
    /// Its connection's line in the books.
    pub(super) record: Arc<Record>,
    pub(super) request: Arc<Kind>,
    pub(super) route: RouteOf,
    pub(super) arrived: Time,
    /// It had to wait at the gate.
    pub(super) waited: bool,
    /// When it is accepted, if it has to wait.
    pub(super) accept: Accept,
    pub(super) orders: Teller,
    /// Its dial under way: which one, and whether it is a canary.
    pub(super) dial: (u32, bool),
    /// Its place when that was ordered.
    pub(super) place: Option<Place>,
    /// For what is counted of it.
    pub(super) stay: Stay,
    /// What its backend hears of its trace.
    pub(super) trace: Option<Box<Sent>>,
}

impl Client {
    /// One that arrives for this route with this request, and is told by `orders`.
    pub(crate) fn new(
        record: &Arc<Record>,
        request: &Arc<Kind>,
        route: RouteOf,
        accept: Accept,
        orders: Teller,
    ) -> Box<Self> {
        Box::new(Self {
            record: Arc::clone(record),
            request: Arc::clone(request),
            route,
            arrived: Time::ZERO, // the owner task says when
            waited: false,
            accept,
            orders,
            dial: (0, false),
            place: None,
            stay: Stay::default(),
            trace: None,
        })
    }

    /// The same, with what its backend hears of its trace.
    pub(crate) fn traced(mut self: Box<Self>, trace: Option<Sent>) -> Box<Self> {
        self.trace = trace.map(Box::new);
        self
    }
}
