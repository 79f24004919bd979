//! The 101 that greenroom gives by itself, and whether it may.
//!
//! It agrees on no extension, as nobody knows yet what the server would. A subprotocol that the client asks for
//! must be known: configured for the route, or what the server selected last there of just the same offer. It is never guessed:
//! browsers fail a connection whose subprotocol is missing, and a server may fail one that it would not have
//! selected. Without one the client stays before the 101.

use crate::config::Route;
use crate::front::Backend;
use crate::head::Upgrade;

/// What the 101 selects: a subprotocol, or none where none is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected(Box<str>);

impl Selected {
    /// The subprotocol, if there is one.
    pub(super) fn protocol(&self) -> Option<&str> {
        Some(&*self.0).filter(|protocol| !protocol.is_empty()) // RFC 6455 §4.1: an element that is not empty
    }
}

/// The subprotocol of a 101 for this client; `None`: nobody knows which, so there can be no such 101.
pub(super) fn select(upgrade: &Upgrade, route: &Route, backend: &Backend) -> Option<Selected> {
    let offered = upgrade.protocols();
    if offered.is_empty() {
        return Some(Selected::default());
    }
    if route.subprotocols.is_empty() {
        return backend.learned_protocol(&route.name, &offered).map(Selected);
    }
    let known = |offer: &String| route.subprotocols.contains(offer);
    offered.into_iter().find(known).map(|offer| Selected(offer.into()))
}
