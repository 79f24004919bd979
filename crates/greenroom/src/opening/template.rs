//! The 101 that greenroom gives by itself, and whether it may.
//!
//! It agrees on no extension, as nobody knows yet what the server would. A subprotocol that the client asks for
//! must be known: configured for the route, or the one that the server selected last there. It is never guessed:
//! browsers fail a connection whose subprotocol is missing, and a server may fail one that it would not have
//! selected. Without one the client stays before the 101.

use crate::config::Route;
use crate::front::Backend;
use crate::head::Upgrade;

/// What the 101 selects.
pub(super) type Selected = Option<Box<str>>;

/// The subprotocol of a 101 for this client; `None`: nobody knows which, so there can be no such 101.
pub(super) fn select(upgrade: &Upgrade, route: &Route, index: usize, backend: &Backend) -> Option<Selected> {
    let mut offered = upgrade.protocols().into_iter().peekable();
    if offered.peek().is_none() {
        return Some(None);
    }
    if route.subprotocols.is_empty() {
        let learned = backend.learned_protocol(index)?;
        return offered.any(|offer| *offer == *learned).then_some(Some(learned));
    }
    let known = |offer: &String| route.subprotocols.contains(offer);
    offered.find(known).map(|offer| Some(offer.into()))
}
