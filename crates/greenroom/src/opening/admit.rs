//! Decides whether a request may come in at all, before it takes a place anywhere.
//!
//! In order: its Host at this listener, its route, its Origin there, the handshakes of its address, who its user is and how
//! many WebSockets that has. What costs least and
//! says most is asked first; who is sent away for its page takes no handshake from its address. All of it is decided by
//! the head and the configuration, without waiting. Bounds: `ALLOWED_MAX` hosts and origins, `ROUTES_MAX` routes.

use std::net::IpAddr;

use greenroom_core::drain::{retry_after, seed_for};
use greenroom_core::event::{Refusal, SessionId, State};
use greenroom_core::limits::{LOG_TEXT_MAX, RETRY_AFTER_SECONDS};
use greenroom_core::users::Full;
use tokio::net::TcpStream;

use super::refuse;
use crate::clock;
use crate::config::{bare_host, is_allowed};
use crate::front::{Astray, Front};
use crate::head::{Kind, Upgrade, With};
use crate::known;
use crate::registry::Entry;
use crate::telemetry::printable;

/// Why a request does not come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    refusal: Refusal,
    detail: Option<String>,
    /// Its route, if it has one.
    route: Option<usize>,
}

impl Denied {
    fn new(refusal: Refusal, detail: Option<String>, route: Option<usize>) -> Self {
        Self { refusal, detail, route }
    }
}

/// The route of a request that may come in. This is the one door: who the peer is behind a trusted proxy belongs before
/// all of it, and who the client says it is (authentication) before its user is looked for.
pub(super) fn admit(front: &Front, peer: IpAddr, request: &Kind, entry: &mut Entry) -> Result<usize, Denied> {
    host_is_served(front, request)?;
    let route = front.route(request).map_err(astray)?;
    if let Kind::Upgrade(upgrade) = request {
        origin_is_allowed(front, route, upgrade)?;
        let addresses = &front.registry.addresses;
        let counted = addresses.handshake(peer);
        counted.map_err(|refusal| Denied::new(refusal, Some(addresses.name(peer)), Some(route)))?;
    }
    user_has_room(front, route, request, entry)?;
    Ok(route)
}

/// A WebSocket takes its place among those of its user. Whose request cannot be told for sure is refused, a plain one too.
fn user_has_room(front: &Front, route: usize, request: &Kind, entry: &mut Entry) -> Result<(), Denied> {
    let known = known::of(&front.config.routes[route].known_by, request)
        .map_err(|why| Denied::new(Refusal::BadRequest, Some(why), Some(route)))?;
    let (Kind::Upgrade(_), Some(user)) = (request, known.and_then(|known| known.user)) else {
        return Ok(());
    };
    let rule = front.config.limits.user;
    entry.of_user(&user, rule).map_err(|Full| {
        let detail = format!("the user is {user:?}");
        Denied::new(Refusal::ConnectionsOfUser, Some(detail), Some(route))
    })
}

fn host_is_served(front: &Front, request: &Kind) -> Result<(), Denied> {
    let Some(hosts) = front
        .config
        .listeners
        .get(front.listener)
        .and_then(|listener| listener.hosts.as_ref())
    else {
        return Ok(());
    };
    let host = bare_host(request.host());
    if !host.is_empty() && hosts.iter().any(|pattern| pattern.is_for(host)) {
        return Ok(());
    }
    Err(Denied::new(Refusal::Host, None, None))
}

fn origin_is_allowed(front: &Front, route: usize, upgrade: &Upgrade) -> Result<(), Denied> {
    let Some(allowed) = &front.config.routes[route].origins else {
        return Ok(());
    };
    if !upgrade.has_origin() {
        return Ok(()); // no browser
    }
    upgrade.with_origin(|origin| match origin {
        Some(origin) if is_allowed(allowed, origin, upgrade.host()) => Ok(()),
        Some(origin) => {
            let shown = printable(&String::from_utf8_lossy(origin), LOG_TEXT_MAX);
            let detail = format!("the Origin is {shown:?}");
            Err(Denied::new(Refusal::Origin, Some(detail), Some(route)))
        }
        None => {
            let detail = "there are several Origins".to_owned();
            Err(Denied::new(Refusal::Origin, Some(detail), Some(route)))
        }
    })
}

fn astray(astray: Astray) -> Denied {
    match astray {
        Astray::NoRoute => Denied::new(Refusal::NoRoute, None, None),
        Astray::Ambiguous => {
            let detail = "the path can be read in two ways that lead to different routes";
            Denied::new(Refusal::BadRequest, Some(detail.to_owned()), None)
        }
    }
}

/// Sends away who may not come in.
pub(super) async fn deny(front: &Front, client: TcpStream, denied: Denied, request: &Kind, entry: &mut Entry) {
    let Denied { refusal, detail, route } = denied;
    entry.asks(
        route.map(|route| (&**front.backend(route), front.route_of(route))),
        request,
    );
    entry.refused_for(refusal, detail, Some(request));
    entry.enter(State::Closing);
    if matches!(request, Kind::Upgrade(upgrade) if upgrade.has_origin()) {
        let id = SessionId(clock::now().as_nanos()); // it has no number: any will do as a seed
        refuse::hold_back(front, (refusal, id), 1, true).await;
    }
    let with = With {
        retry_after_seconds: Some(soon(front)),
        is_head: matches!(request, Kind::Http(http) if http.is_head()),
        ..With::default()
    };
    refuse::plain(client, refusal, with).await;
}

/// When somebody is to come back for whom nothing is known of: each at another time.
pub(super) fn soon(front: &Front) -> u32 {
    retry_after(seed_for(front.seed, clock::now().as_nanos()), RETRY_AFTER_SECONDS)
}
