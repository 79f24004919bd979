//! What stands behind a listener: the routes, and the backends that they lead to.
//!
//! A [`Front`] is shared by all connections of one listener. It owns nothing that
//! moves: each [`Backend`] has an owner task, to which its `inbox` leads, and a
//! pool of connections for plain requests at the open gate.
//!
//! A request's route is decided by its Host and its path. A path that another
//! reader could take for a different one is judged by all readings: where they
//! lead to different routes the request is refused, as nobody can tell which one
//! its backend would see (`/public/..%2fadmin`).

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::drain::{retry_after_ms, seed_for};
use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::gate::Who;
use greenroom_core::limits::{OFFERS_KEPT, RETRY_AFTER_SECONDS};
use greenroom_core::wire::text_message;
use tokio::sync::watch;

use crate::clock;
use crate::config::{Config, Fair, Route, RouteOf, TellClients};
use crate::driver::{Degraded, Inbox, Standing};
use crate::early::EarlyRoom;
use crate::head::{Forward, Kind, With, other_readings};
use crate::http::Pool;
use crate::registry::Registry;
use crate::relay::Drain;
use crate::resolve::Names;
use crate::visitors::Visitors;

/// One backend, as its clients see it.
#[derive(Debug)]
pub struct Backend {
    /// Its name in the configuration.
    pub name: String,
    /// Its name in the log, where there are several.
    pub(crate) label: Option<Arc<str>>,
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
    /// What it selected of what clients offered.
    pub(crate) learned: Mutex<Learned>,
    /// Who is with it.
    pub(crate) visitors: Arc<Visitors>,
    /// What its accepted clients have sent before it was ready.
    pub(crate) early: Arc<EarlyRoom>,
}

/// Which subprotocols a backend selected of which offers, by the route's name: a few offers for each, the latest.
#[derive(Debug, Default)]
pub(crate) struct Learned(BTreeMap<Box<str>, VecDeque<(Offer, Box<str>)>>);

/// What a client offers, in its order.
type Offer = Box<[String]>;

impl Learned {
    fn selected(&self, route: &str, offer: &[String]) -> Option<&str> {
        let known = self.0.get(route)?;
        known
            .iter()
            .find(|(known, _)| **known == *offer)
            .map(|(_, selected)| &**selected)
    }

    fn learn(&mut self, route: &str, offer: &[String], selected: Option<&str>) {
        if self.selected(route, offer) == selected {
            return; // as nearly always
        }
        let known = self.0.entry(route.into()).or_default();
        known.retain(|(known, _)| **known != *offer);
        if let Some(selected) = selected {
            if known.len() == OFFERS_KEPT {
                known.pop_front();
            }
            known.push_back((offer.into(), selected.into()));
        }
    }
}

impl Backend {
    /// The subprotocol that it selected last of just this offer at this route.
    pub(crate) fn learned_protocol(&self, route: &str, offer: &[String]) -> Option<Box<str>> {
        self.learned().selected(route, offer).map(Into::into)
    }

    /// It has given a 101 to who offered this.
    pub(crate) fn learn_protocol(&self, route: &str, offer: &[String], selected: Option<&str>) {
        if !offer.is_empty() {
            self.learned().learn(route, offer, selected);
        }
    }

    /// Forgets what it selected at routes that are not there any more.
    pub(crate) fn forget_routes(&self, are_there: impl Fn(&str) -> bool) {
        self.learned().0.retain(|route, _| are_there(route));
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Tells clients apart without keeping what they are told apart by.
    pub hash: RandomState,
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
        route(&self.config, self.listener, request.host(), request.path())
    }

    /// A route of this configuration.
    #[must_use]
    pub fn route_of(&self, route: usize) -> RouteOf {
        RouteOf::new(&self.config, route)
    }

    /// The backend of a route.
    #[must_use]
    pub fn backend(&self, route: usize) -> &Arc<Backend> {
        &self.backends[self.config.routes[route].backend]
    }
}

impl Front {
    /// Who a client is, for the gate of its route's backend.
    pub(crate) fn who(&self, request: &Kind, peer: IpAddr, route: usize) -> Who {
        let backend = &self.config.backends[self.config.routes[route].backend];
        let address = self
            .hash
            .hash_one(address_prefix(peer, self.config.limits.address_bits));
        let key = match &backend.fair {
            Fair::No => 0,
            Fair::Address => address,
            Fair::Header(name) => request.with_field(name, |value| self.hash.hash_one(value)),
        };
        let is_browser = matches!(request, Kind::Upgrade(upgrade) if upgrade.has_origin());
        Who {
            address,
            key,
            is_browser,
        }
    }

    /// What is said with a refusal at this route.
    pub(crate) fn saying(&self, route: usize, refusal: Refusal, session: SessionId) -> Saying {
        let standing = self.backend(route).standing.borrow();
        let seed = seed_for(self.seed, session.0);
        Saying {
            retry_after_seconds: standing.retry_after(clock::now(), seed),
            failure: (standing.failure.clone()).filter(|_| refusal == Refusal::StartFailed),
        }
    }

    /// When a client that is sent away after its 101 may come back, in milliseconds: within the last of the seconds
    /// that a Retry-After would say, and never sooner than that may be.
    pub(crate) fn retry_after_ms(&self, route: usize, session: SessionId) -> u32 {
        let seed = seed_for(self.seed, session.0);
        let seconds = self.backend(route).standing.borrow().retry_after(clock::now(), seed);
        let whole = (seconds.saturating_sub(1)).max(RETRY_AFTER_SECONDS.0);
        retry_after_ms(seed, (whole, whole.saturating_add(1)))
    }

    /// What an accepted client of this route is told of its wait, if it is told anything.
    pub(crate) fn waiting_message(&self, route: usize, position: usize) -> Option<String> {
        let template = self.config.routes[route].waiting_message.as_ref()?;
        let standing = self.backend(route).standing.borrow();
        let elapsed = clock::now().since(standing.since);
        // A start that takes longer than is usual ends at a time that nobody knows.
        let left = (standing.usual).and_then(|usual| usual.p50.checked_sub(elapsed));
        let left = left.map(|left| left.as_secs().to_string());
        Some(waiting_text(
            template,
            standing.phase.as_deref(),
            position,
            left.as_deref(),
        ))
    }

    /// What is missing of the route's backend, if its clients are told so in a field.
    pub(crate) fn degraded_field(&self, route: usize) -> Option<Arc<Degraded>> {
        match self.config.routes[route].tell_clients {
            TellClients::Header => self.backend(route).standing.borrow().degraded.clone(),
            TellClients::No | TellClients::Message(_) => None,
        }
    }

    /// Adds what is missing of the route's backend to a 101, if its clients are told so in a message:
    /// nothing of the backend's follows yet, so it stands at a message boundary.
    pub(crate) fn tell_degraded(&self, route: usize, head: &mut Vec<u8>) {
        if let TellClients::Message(message) = &self.config.routes[route].tell_clients
            && let Some(degraded) = &self.backend(route).standing.borrow().degraded
        {
            let text = message
                .replace("{level}", degraded.level.word())
                .replace("{missing}", &degraded.missing);
            text_message(&text, head);
        }
    }
}

/// See [`Front::saying`].
pub(crate) struct Saying {
    retry_after_seconds: u32,
    failure: Option<Arc<str>>,
}

impl Saying {
    pub(crate) fn with(&self) -> With<'_> {
        With {
            retry_after_seconds: Some(self.retry_after_seconds),
            detail: self.failure.as_deref(),
            ..With::default()
        }
    }
}

/// The route by all readings of the path.
fn route(config: &Config, listener: usize, host: &str, path: &str) -> Result<usize, Astray> {
    let route = config.route(listener, host, path);
    if other_readings(path)
        .iter()
        .any(|other| config.route(listener, host, other) != route)
    {
        return Err(Astray::Ambiguous);
    }
    route.ok_or(Astray::NoRoute)
}

/// Puts the values into a `waiting_message`. Where that is JSON, what the backend calls its phase is put in as a part
/// of a JSON string, whatever is in it, and a time that nobody knows is `null`.
fn waiting_text(template: &str, phase: Option<&str>, position: usize, seconds: Option<&str>) -> String {
    let fill = |phase: &str, position: &str, seconds: &str| {
        let text = template.replace("{position}", position).replace("{seconds}", seconds);
        text.replace("{phase}", phase)
    };
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&fill("x", "0", "0")).is_ok();
    let phase = phase.unwrap_or("starting");
    let position = position.to_string();
    if is_json {
        let quoted = serde_json::to_string(phase).unwrap_or_default();
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        fill(inner, &position, seconds.unwrap_or("null"))
    } else {
        fill(phase, &position, seconds.unwrap_or("?"))
    }
}

/// The leading bits of an address, by which clients are told apart: of IPv4, of IPv6.
pub(crate) fn address_prefix(peer: IpAddr, (v4, v6): (u8, u8)) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(peer) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(peer.to_bits() & mask))
        }
        IpAddr::V6(peer) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() & mask))
        }
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
    degraded: Option<&'r Degraded>,
) -> Forward<'r> {
    Forward {
        peer,
        proto: "http",
        session,
        attempt,
        trusted_peer: false,
        is_accepted: false,
        edits: &route.request_headers,
        target: route.rewrite.is_some().then(|| route.target(request.target())),
        authority,
        degraded: degraded.map(|degraded| degraded.field.as_str()),
        trace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Layers, Purpose, load_bytes};

    /// The pages, an admin's part of them at another backend, and a host of its own.
    fn config() -> Config {
        let text = "[backend.pages]\naddress = \"127.0.0.1:1\"\n[backend.admin]\naddress = \"127.0.0.1:2\"\n\
            [[route]]\nbackend = \"pages\"\n[[route]]\npath = \"/admin\"\nbackend = \"admin\"\n\
            [[route]]\nhost = \"ws.test\"\npath = \"/ws\"\nbackend = \"pages\"\n";
        let layers = Layers {
            file: None,
            variables: Vec::new(),
            flags: Flags::default(),
            purpose: Purpose::Serve,
        };
        load_bytes("test.toml", text.as_bytes().to_vec(), &layers)
            .unwrap()
            .config
    }

    fn leads(config: &Config, host: &str, path: &str) -> Result<String, Astray> {
        let route = route(config, 0, host, path)?;
        Ok(config.backends[config.routes[route].backend].name.clone())
    }

    /// A46. Whoever reads the path as its backend might, comes to the same route, or the request is refused.
    #[test]
    fn no_path_leads_elsewhere_than_it_seems_to() {
        let config = config();
        for path in [
            "/ws/../admin",
            "/ws/%2e%2e/admin",
            "/ws/%2E./admin",
            "/ws%2f..%2fadmin",
            "/ws/..%5cadmin",
            "/ws\\..\\admin",
            "//admin",
            "/./admin",
            "/x/..;/admin",
            "/admin;x=1",
            "/admin;/x",
            "/%61dmin",
            "/%41dmin/../admin",
            "/admin/../ws",
            "/admin/%2e%2e/ws",
            "/admin%2f",
            "/admin%2Fusers",
            "/admin/..",
            "/x/../admin//..", // Node's URL keeps the empty segment
            "/x%2fy/../admin", // and does not decode the slash
            "/x%5cy/../admin",
            "/x/%2e%2e/admin/a%2f..%2f..",
            "/x;/../y/../admin",
        ] {
            assert_eq!(leads(&config, "h", path), Err(Astray::Ambiguous), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_readings_passes_where_both_lead_to_one_backend() {
        let config = config();
        for (path, backend) in [
            ("/a/../b", "pages"),
            ("/a//b", "pages"),
            ("/caf%C3%A9;v=1", "pages"),
            ("/a%20b", "pages"),
            ("/administration", "pages"),
            ("/admin", "admin"),
            ("/admin/", "admin"),
            ("/admin//x", "admin"),
            ("/admin/a%2fb", "admin"),
            ("/admin/./x/../y", "admin"),
            ("*", "pages"),
        ] {
            assert_eq!(leads(&config, "h", path).as_deref(), Ok(backend), "{path}");
        }
    }

    #[test]
    fn what_was_selected_of_one_offer_says_nothing_of_another_and_is_forgotten_when_it_is_not_so_any_more() {
        let mut learned = Learned::default();
        let offer = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        let (old, both) = (offer(&["old"]), offer(&["new", "old"]));
        learned.learn("0", &old, Some("old"));
        assert_eq!(
            (
                learned.selected("0", &old),
                learned.selected("0", &both),
                learned.selected("1", &old)
            ),
            (Some("old"), None, None)
        );
        learned.learn("0", &both, Some("new"));
        learned.learn("0", &old, None);
        assert_eq!(
            (learned.selected("0", &old), learned.selected("0", &both)),
            (None, Some("new"))
        );
        for n in 0..2 * OFFERS_KEPT {
            learned.learn("0", &[n.to_string()], Some("x"));
        }
        assert_eq!(learned.0["0"].len(), OFFERS_KEPT);
    }

    #[test]
    fn what_a_backend_calls_its_phase_cannot_break_a_json_message() {
        let json = r#"{"phase":"{phase}","position":{position},"seconds":{seconds}}"#;
        let text = waiting_text(json, Some("a \"{position}\"\n"), 3, None);
        assert_eq!(text, r#"{"phase":"a \"{position}\"\n","position":3,"seconds":null}"#);
        assert_eq!(
            waiting_text("{phase}: {seconds} s, {position}", None, 0, Some("4")),
            "starting: 4 s, 0"
        );
    }

    #[test]
    fn addresses_are_told_apart_by_their_leading_bits() {
        let prefix = |text: &str, bits| address_prefix(text.parse().unwrap(), bits).to_string();
        assert_eq!(prefix("10.1.2.3", (32, 64)), "10.1.2.3");
        assert_eq!(prefix("10.1.2.3", (24, 64)), "10.1.2.0");
        assert_eq!(prefix("10.1.2.3", (0, 0)), "0.0.0.0");
        assert_eq!(prefix("::ffff:10.1.2.3", (16, 64)), "10.1.0.0");
        assert_eq!(prefix("2001:db8:1:2:3:4:5:6", (32, 64)), "2001:db8:1:2::");
        assert_eq!(prefix("2001:db8:1:2:3:4:5:6", (32, 128)), "2001:db8:1:2:3:4:5:6");
        assert_eq!(prefix("2001:db8::1", (32, 0)), "::");
    }

    #[test]
    fn a_host_with_some_routes_of_its_own_has_the_others_too() {
        let config = config();
        assert_eq!(leads(&config, "ws.test:80", "/ws/x").as_deref(), Ok("pages"));
        assert_eq!(leads(&config, "ws.test", "/admin").as_deref(), Ok("admin"));
        let only = Config {
            routes: config
                .routes
                .iter()
                .filter(|route| route.path == "/ws")
                .cloned()
                .collect(),
            ..config
        };
        assert_eq!(leads(&only, "ws.test", "/"), Err(Astray::NoRoute));
        assert_eq!(leads(&only, "other.test", "/ws"), Err(Astray::NoRoute));
        assert_eq!(leads(&only, "ws.test", "/x/../ws"), Err(Astray::Ambiguous));
    }
}
