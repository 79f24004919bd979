//! What stands behind a listener: the routes, and the backends that they lead to.
//!
//! A [`Front`] is shared by all connections of one listener. It owns nothing that
//! moves: each [`Backend`] has an owner task, to which its `inbox` leads, and a
//! pool of connections for plain requests at the open gate.
//!
//! A request's route is decided by its Host and its path. A path that another
//! reader could take for a different one is judged by both readings: where they
//! lead to different routes the request is refused, as nobody can tell which one
//! its backend would see (`/public/..%2fadmin`).

use std::net::IpAddr;
use std::sync::Arc;

use greenroom_core::event::SessionId;
use tokio::sync::watch;

use crate::config::{Config, Route};
use crate::driver::{Inbox, Standing};
use crate::head::{Forward, Kind, other_reading};
use crate::http::Pool;
use crate::registry::Registry;
use crate::relay::Drain;
use crate::resolve::Names;

/// One backend, as its clients see it.
#[derive(Debug)]
pub struct Backend {
    /// Its name in the configuration.
    pub name: String,
    /// Its address as text: Host for a request that has none.
    pub authority: String,
    /// The way to its owner task.
    pub inbox: Arc<Inbox>,
    /// Where it is dialled, past the gate.
    pub names: Names,
    /// Connections that wait for another plain request.
    pub(crate) pool: Arc<Pool>,
    /// How its start-up goes.
    pub standing: watch::Receiver<Standing>,
}

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Front {
    /// The books.
    pub registry: Arc<Registry>,
    /// The routes.
    pub config: Arc<Config>,
    /// The backends, in the order of the configuration.
    pub backends: Arc<[Arc<Backend>]>,
    /// Which listener it is.
    pub listener: usize,
    /// Seeds everything that is spread, so that a process's clients do not come back together.
    pub seed: u64,
    /// Says when relays are to be closed.
    pub drain: watch::Receiver<Option<Drain>>,
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Astray {
    /// No route is for its host and path.
    NoRoute,
    /// Its path can be read in two ways that lead to different routes.
    Ambiguous,
}

impl Front {
    /// Which route a request takes.
    pub fn route(&self, request: &Kind) -> Result<usize, Astray> {
        let (host, path) = (request.host(), request.path());
        let route = self.config.route(self.listener, host, path);
        if let Some(other) = other_reading(path)
            && self.config.route(self.listener, host, &other) != route
        {
            return Err(Astray::Ambiguous);
        }
        route.ok_or(Astray::NoRoute)
    }

    /// The backend of a route.
    #[must_use]
    pub fn backend(&self, route: usize) -> &Arc<Backend> {
        &self.backends[self.config.routes[route].backend]
    }
}

/// What the backend is told about a request beside its own head.
pub(crate) fn forward<'r>(
    route: &'r Route,
    request: &'r Kind,
    authority: &'r str,
    peer: IpAddr,
    session: SessionId,
    attempt: u32,
) -> Forward<'r> {
    Forward {
        peer,
        proto: "http",
        session,
        attempt,
        trusted_peer: false,
        edits: &route.request_headers,
        target: route.rewrite.is_some().then(|| route.target(request.target())),
        authority,
    }
}
