//! Where greenroom itself is asked and told things: HTTP on a Unix socket, and on an address if configured.
//!
//! ```text
//!  greenroom status ──▶ socket (0600, own user or root) ──▶ GET  /v1/status
//!  greenroom phase  ──▶                                     POST /v1/backends/NAME/phases
//!  a platform       ──▶ address, or a prefix of a listener ─▶ GET /livez /readyz /startupz
//! ```
//!
//! At the address everything but health wants the token, and what a browser sends on behalf of
//! another site is refused: `Host` must be the address itself or a loopback name, and an `Origin` must not be there.
//!
//! Bounded: `ADMIN_CONNECTIONS_MAX` connections at each door, `ADMIN_PUSH_MAX` bytes of a body,
//! `HEAD_TIMEOUT` for a head, `ADMIN_IDLE` for a connection that reads no events. Nothing here touches a gate: it sends messages to the owner
//! tasks, as everybody does.

mod about;
mod act;
mod api;
mod audited;
pub(crate) mod by;
pub mod client;
mod connections;
mod counted;
mod drain;
mod events;
mod exposition;
mod filter;
mod gate;
mod guard;
pub mod health;
mod metrics;
pub mod openapi;
pub mod platform;
mod process;
mod reload;
pub mod report;
mod said;
pub mod socket;
mod stay;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use axum::{Extension, Router};
use greenroom_core::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_REST, ADMIN_WRITE_MAX, HEAD_TIMEOUT};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::{Address, Admin, Config};
use crate::drains::Drains;
use crate::front::Backend;
use crate::registry::{Record, Registry};
use crate::relay::Drain;
use crate::telemetry::Log;
use by::By;
use stay::Stay;

pub use counted::Ended;
pub use metrics::Requests;
pub(crate) use reload::Order;
pub use reload::{Configurations, Outcome, Reload, Reloads};
pub use socket::Socket;

/// What is asked about, and told.
#[derive(Debug)]
pub struct Asked {
    /// The house as it stands; a reload puts another in its place.
    pub house: ArcSwap<Standing>,
    /// The books.
    pub registry: Arc<Registry>,
    /// Says that greenroom stops.
    pub drain: watch::Receiver<Option<Drain>>,
    /// Drains by command.
    pub drains: Arc<Drains>,
    /// Where it is said who has changed what.
    pub log: Log,
    /// Where another configuration is asked for.
    pub reloads: Reloads,
    /// Those that somebody still goes by.
    pub configurations: Configurations,
    /// What was asked and told here, counted.
    pub requests: Requests,
    /// Where that is, once it is open.
    pub doors: OnceLock<Doors>,
}

/// Where greenroom is asked and told things.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// The admin socket, if there is one.
    pub socket: Option<String>,
    /// The admin address, if there is one, as bound.
    pub address: Option<String>,
}

/// What a configuration has made of the house.
#[derive(Debug)]
pub struct Standing {
    /// The configuration.
    pub config: Arc<Config>,
    /// The backends, in its order.
    pub backends: Arc<[Arc<Backend>]>,
    /// Those that have no place in it any more, while somebody is with them.
    pub old: Vec<Arc<Backend>>,
    /// What was counted of backends that are over.
    pub ended: Arc<Ended>,
    /// Where clients come to, as bound.
    pub listeners: Vec<String>,
}

impl Standing {
    /// Whether a backend has this name: one of the configuration, or one that somebody is still with.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// All backends of this name: that of the configuration first, and those that somebody is still with.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Backend>> {
        let all = self.backends.iter().chain(&self.old);
        all.filter(move |backend| backend.name == name)
    }
}

impl Asked {
    /// The house as it stands now.
    #[must_use]
    pub fn house(&self) -> Arc<Standing> {
        self.house.load_full()
    }

    /// Those whose route or backend is not there any more, by name: they stay until they end, or are drained.
    pub(crate) fn orphans(&self) -> Vec<Arc<Record>> {
        let config = &self.house().config;
        let is_orphan = |record: &Arc<Record>| {
            record.asks_for().is_some_and(|asked| {
                let route = config.routes.iter().find(|route| route.name == asked.route.name);
                let backend = route.and_then(|route| config.backends.get(route.backend));
                backend.is_none_or(|backend| backend.name != asked.route.backend().name)
            })
        };
        let mut all = self.registry.all();
        all.retain(is_orphan);
        all
    }
}

/// Opens the doors that the configuration asks for. The socket is removed when what is returned is dropped.
pub fn open(asked: &Arc<Asked>, socket: Option<Socket>, log: &Log) -> io::Result<Option<Socket>> {
    let house = asked.house();
    let settings = &house.config.admin;
    let mut doors = Doors {
        socket: socket.as_ref().map(|socket| socket.path().display().to_string()),
        address: None,
    };
    if let Some(address) = &settings.address {
        let router = metrics::counted(api::at_address(asked, settings), asked, metrics::Door::Address);
        let listener = bind(address)?;
        doors.address = Some(listener.local_addr()?.to_string());
        tokio::spawn(serve_tcp(listener, router, log.clone()));
    }
    let _ = asked.doors.set(doors); // they are opened once
    let Some(socket) = socket else {
        return Ok(None);
    };
    let listener = UnixListener::from_std(socket.listener()?)?;
    let router = metrics::counted(api::at_socket(asked), asked, metrics::Door::Socket);
    tokio::spawn(serve_unix(listener, router, log.clone()));
    Ok(Some(socket))
}

fn bind(address: &Address) -> io::Result<TcpListener> {
    let listener = crate::listener::bind(address).map_err(io::Error::other)?;
    TcpListener::from_std(listener)
}

/// The socket that `admin.socket` names, or one in the runtime folder.
pub fn socket(settings: &Admin) -> io::Result<Socket> {
    match &settings.socket {
        Some(path) => Socket::at(path),
        None => Socket::in_runtime_folder(),
    }
}

async fn serve_unix(listener: UnixListener, router: Router, log: Log) {
    let mut door = Door::new(router, log);
    loop {
        match listener.accept().await {
            Ok((stream, _)) if guard::is_ours(&stream) => {
                let by = By::at_socket(&stream);
                door.serve(stream, by).await;
            }
            Ok(_) => door.log.warn("refused a process of another user at the admin socket"),
            Err(error) => door.rest(&error).await,
        }
    }
}

async fn serve_tcp(listener: TcpListener, router: Router, log: Log) {
    let mut door = Door::new(router, log);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                crate::stream::set_up(&stream, peer.ip().is_loopback()); // a reader of events may vanish without a word
                door.serve(stream, By::Address(peer)).await;
            }
            Err(error) => door.rest(&error).await,
        }
    }
}

/// One place to come in by, with its bound.
struct Door {
    router: Router,
    /// Who is served, in the order in which they came.
    served: VecDeque<Served>,
    log: Log,
}

/// Somebody who is served.
struct Served {
    task: AbortHandle,
    stay: Stay,
    /// From where it comes; `None` at the socket.
    from: Option<IpAddr>,
    /// Told when it was looked at: what it had asked by then is answered.
    looked_at: oneshot::Receiver<()>,
}

impl Door {
    fn new(router: Router, log: Log) -> Self {
        Self {
            router,
            served: VecDeque::new(),
            log,
        }
    }

    /// Serves one more. Where there are too many, one gives way ([`gives_way`]), but not before it was looked at: a platform
    /// that asks for health has its answer at once, whoever else comes, and does not wait behind those who ask nothing.
    async fn serve(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, by: By) {
        self.served.retain(|served| !served.task.is_finished());
        if self.served.len() >= ADMIN_CONNECTIONS_MAX {
            // Event streams are bounded by themselves, and stay.
            let all = self
                .served
                .iter()
                .map(|served| (served.from, !served.stay.is_streaming()));
            if let Some(first) = gives_way(all).and_then(|first| self.served.remove(first)) {
                let _ = first.looked_at.await; // or it has ended
                first.task.abort();
            }
        }
        let stay = Stay::default();
        let from = match by {
            By::Address(peer) => Some(guard::network(peer)),
            By::Socket { .. } | By::Signal(_) | By::Unknown => None,
        };
        let (looks, looked_at) = oneshot::channel();
        let router = self.router.clone().layer(Extension(by)).layer(Extension(stay.clone()));
        let service = TowerToHyperService::new(router);
        let (stays, places) = (stay.clone(), stay.until_dropped());
        let serving = tokio::spawn(async move {
            let _until_then = places;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(ADMIN_WRITE_MAX);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            // Whoever is slow or breaks off has chosen so; nobody waits for it.
            let serving = async {
                tokio::select! {
                    biased; // it is looked at first
                    _ = connection => {}
                    () = stays.over() => {}
                }
            };
            let first_look = async {
                let _ = looks.send(()); // who waits for it may have gone
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = serving => {}
                () = first_look => {}
            }
        });
        self.served.push_back(Served {
            task: serving.abort_handle(),
            stay,
            from,
            looked_at,
        });
    }

    async fn rest(&self, error: &io::Error) {
        self.log.warn(format!("the admin door rests for a moment: {error}"));
        tokio::time::sleep(ADMIN_REST).await;
    }
}

/// Whose turn it is to give way, of all in the order in which they came: from where, and whether it may be. It is the first from
/// where most come, so that nobody from elsewhere loses its place to them.
fn gives_way(all: impl Iterator<Item = (Option<IpAddr>, bool)>) -> Option<usize> {
    let mut from: BTreeMap<Option<IpAddr>, (usize, usize)> = BTreeMap::new();
    for (index, (from_where, _)) in all.enumerate().filter(|(_, (_, may))| *may) {
        from.entry(from_where).or_insert((0, index)).0 += 1;
    }
    let most = from
        .into_values()
        .max_by_key(|(count, first)| (*count, Reverse(*first)));
    most.map(|(_, first)| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_from_where_most_come_gives_way() {
        let at = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let gives_way = |all: &[(Option<IpAddr>, bool)]| gives_way(all.iter().copied());
        assert_eq!(gives_way(&[]), None);
        assert_eq!(
            gives_way(&[(None, true), (None, true)]),
            Some(0),
            "at the socket all are alike"
        );
        assert_eq!(gives_way(&[(at(1), true), (at(2), true), (at(2), true)]), Some(1));
        assert_eq!(
            gives_way(&[(at(1), true), (at(2), true)]),
            Some(0),
            "else who came first"
        );
        let streams = [(at(2), false), (at(2), false), (at(1), true), (at(2), true)];
        assert_eq!(gives_way(&streams), Some(2), "streams stay, and do not count");
        assert_eq!(gives_way(&streams[..2]), None);
    }
}
