//! What a configuration has made, and a reload changes: the doors, the stations, and what stands behind each door.
//!
//! ```text
//!  Config ──▶ a station per backend ──▶ a front per listener ──▶ put behind its door
//!               │ same name and settings: it stays                 │ same address: the socket stays
//!               └ else: a new one beside the old one               └ else: bound before anything is changed
//! ```
//!
//! A connection goes on by the front under which it came. A station that has no place any more (its backend is gone or
//! replaced) stays for those who are with it (`visitors`), and ends when the last of them has gone. One task changes this
//! at a time; whoever looks on takes what stands at that moment. Bounded by the configuration, and by the connections that
//! keep old stations.

use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use greenroom_core::limits::RELOAD_WARM_UP;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::station::Station;
use crate::admin::{self, Asked, Ended};
use crate::config::{Address, Config, Fate, Listener, fate};
use crate::drains::Drains;
use crate::driver::{Gateway, Measured, Message};
use crate::front::{self, Front};
use crate::listener::{self, Door};
use crate::registry::Registry;
use crate::relay::Drain;
use crate::telemetry::{Event, Log};
use crate::threads::Threads;

/// What does not change with the configuration.
pub(super) struct Ground {
    pub(super) registry: Arc<Registry>,
    pub(super) threads: Arc<Threads>,
    pub(super) draining: watch::Receiver<Option<Drain>>,
    pub(super) drains: Arc<Drains>,
    pub(super) log: Log,
    pub(super) seed: u64,
    /// One: a client has one address, whatever door it takes.
    pub(super) hash: RandomState,
}

/// See the module's head.
pub(super) struct Estate {
    ground: Ground,
    asked: Arc<Asked>,
    now: Mutex<Now>,
    watches_file: watch::Sender<bool>,
}

type Stations = Vec<Arc<Station>>;

/// What stands at this moment.
#[derive(Default)]
struct Now {
    /// In the order of the configuration.
    stations: Vec<Arc<Station>>,
    /// Those who have no place any more, while somebody is with them.
    old: Vec<Arc<Station>>,
    doors: Vec<Opened>,
}

/// A door, and where it is.
#[derive(Clone)]
struct Opened {
    name: String,
    /// As it was written.
    address: Address,
    /// As it is bound.
    bound: String,
    door: Arc<Door>,
}

/// Where the door of a listener comes from.
enum Source {
    Kept(Opened),
    Bound(TcpListener, String),
}

impl Estate {
    /// Makes all of it; the doors are bound already, in the order of the configuration.
    pub(super) fn open(
        ground: Ground,
        config: &Arc<Config>,
        doors: Vec<std::net::TcpListener>,
        reloads: admin::Reloads,
    ) -> Result<Arc<Self>, String> {
        let stations: Result<Vec<_>, _> = (0..config.backends.len())
            .map(|index| Station::open(config, index, &ground.registry, &ground.log).map(Arc::new))
            .collect();
        let stations = stations.map_err(|error| format!("cannot reserve a port for a backend: {error}"))?;
        if config.backends.len() > 1 {
            ground.log.name_backends();
        }
        let sources: Result<Vec<_>, _> = (doors.into_iter().zip(&config.listeners))
            .map(|(door, listener)| watched(door, &listener.address))
            .collect();
        let asked = Asked {
            house: ArcSwap::from_pointee(admin::Standing {
                config: Arc::clone(config),
                backends: [].into(),
                old: Vec::new(),
                ended: Arc::default(),
                listeners: Vec::new(),
            }),
            registry: Arc::clone(&ground.registry),
            drain: ground.draining.clone(),
            drains: Arc::clone(&ground.drains),
            log: ground.log.clone(),
            reloads,
            configurations: admin::Configurations::default(),
            requests: admin::Requests::default(),
            doors: std::sync::OnceLock::new(),
        };
        let estate = Arc::new(Self {
            ground,
            asked: Arc::new(asked),
            now: Mutex::default(),
            watches_file: watch::Sender::new(config.reload_on_change),
        });
        estate.put(config, stations, sources?);
        Ok(estate)
    }

    /// What is asked about.
    pub(super) fn asked(&self) -> &Arc<Asked> {
        &self.asked
    }

    /// The configuration that is in effect.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.asked.house().config)
    }

    /// Whether a change of the file is to be taken without being told.
    pub(super) fn watches_file(&self) -> watch::Receiver<bool> {
        self.watches_file.subscribe()
    }

    /// The stations of the configuration.
    pub(super) fn stations(&self) -> Vec<Arc<Station>> {
        self.now().stations.clone()
    }

    /// These, and those that have no place any more and still have visitors.
    pub(super) fn all_stations(&self) -> Vec<Arc<Station>> {
        let now = self.now();
        now.stations.iter().chain(&now.old).cloned().collect()
    }

    /// Takes another configuration: all of it, or nothing of it and why not. Nobody who is connected is touched.
    pub(super) async fn adopt(self: &Arc<Self>, config: Arc<Config>) -> Result<(), String> {
        let before = self.config();
        let sources = self.doors_for(&config).await?;
        let (stations, new) = self.stations_for(&before, &config)?;
        warm_up(&new).await;
        // All is there: from here on nothing can fail.
        self.ground.registry.set_limits(&config.limits);
        if before.log_format != config.log_format {
            self.ground.log.set_format(super::format(config.log_format));
        }
        self.bequeath(&stations).await;
        let is_there = |name: &str| config.backends.iter().any(|backend| backend.name == name);
        if config.backends.len() > 1 || !before.backends.iter().all(|backend| is_there(&backend.name)) {
            self.ground.log.name_backends(); // for as long as it runs: clients of one that goes may stay
        }
        for (index, station) in stations.iter().enumerate() {
            let is_new = new.iter().any(|new| Arc::ptr_eq(new, station));
            if !is_new {
                station.backend.inbox.tell(Message::Adopt(Arc::clone(&config), index));
                let is_there = |name: &str| config.routes.iter().any(|route| route.name == name);
                station.backend.forget_routes(is_there);
            }
        }
        let left = self.put(&config, stations, sources);
        self.watches_file.send_replace(config.reload_on_change);
        for station in left {
            tokio::spawn(Arc::clone(self).end_when_left(station));
        }
        self.stop_all_if_stopping();
        Ok(())
    }

    /// What is set by hand at a backend that is replaced goes over to the one that takes its place: whoever comes from now on is
    /// under it too.
    async fn bequeath(&self, stations: &[Arc<Station>]) {
        for old in self.stations() {
            let heir = stations.iter().find(|new| new.backend.name == old.backend.name);
            if let Some(heir) = heir.filter(|heir| !Arc::ptr_eq(heir, &old)) {
                old.backend.inbox.bequeath(&heir.backend.inbox).await;
            }
        }
    }

    /// The door of each listener: one that is there, or a new one, bound.
    async fn doors_for(&self, config: &Config) -> Result<Vec<Source>, String> {
        let mut there = self.now().doors.clone();
        let mut kept: Vec<Option<Opened>> = config.listeners.iter().map(|_| None).collect();
        // Who has the same name comes first: several may ask for a free port.
        for by_name in [true, false] {
            for (place, listener) in kept
                .iter_mut()
                .zip(&config.listeners)
                .filter(|(place, _)| place.is_none())
            {
                let fits = |opened: &Opened| opened.is_for(listener) && (!by_name || opened.name == listener.name);
                *place = there.iter().position(fits).map(|index| there.remove(index));
            }
        }
        let mut sources = Vec::new();
        for (place, listener) in kept.into_iter().zip(&config.listeners) {
            sources.push(match place {
                Some(opened) => Source::Kept(opened),
                None => {
                    let address = listener.address.clone();
                    // A name may be looked up.
                    let bound = tokio::task::spawn_blocking(move || listener::bind(&address)).await;
                    let bound = bound.map_err(|fault| fault.to_string())?;
                    watched(bound.map_err(|error| error.to_string())?, &listener.address)?
                }
            });
        }
        Ok(sources)
    }

    /// The station of each backend, and which of them are new.
    fn stations_for(&self, before: &Config, config: &Arc<Config>) -> Result<(Stations, Stations), String> {
        let there = self.stations();
        let (mut all, mut new) = (Stations::new(), Stations::new());
        for (index, backend) in config.backends.iter().enumerate() {
            let old = before.backends.iter().position(|old| old.name == backend.name);
            let stays = old.filter(|&old| fate(&before.backends[old], backend) == Fate::Stays);
            if let Some(station) = stays.and_then(|old| there.get(old)) {
                all.push(Arc::clone(station));
                continue;
            }
            match Station::open(config, index, &self.ground.registry, &self.ground.log) {
                Ok(station) => {
                    let station = Arc::new(station);
                    new.push(Arc::clone(&station));
                    all.push(station);
                }
                Err(error) => {
                    new.iter().for_each(|station| station.end());
                    return Err(format!("cannot begin with backend `{}`: {error}", backend.name));
                }
            }
        }
        Ok((all, new))
    }

    /// Puts it into effect. Gives the stations that have no place any more.
    fn put(&self, config: &Arc<Config>, stations: Vec<Arc<Station>>, sources: Vec<Source>) -> Vec<Arc<Station>> {
        let backends: Arc<[Arc<front::Backend>]> =
            stations.iter().map(|station| Arc::clone(&station.backend)).collect();
        let mut doors = Vec::new();
        let mut now = self.now();
        for (index, source) in sources.into_iter().enumerate() {
            let front = self.front(config, &backends, index);
            let Listener { name, address, .. } = config.listeners[index].clone();
            let (bound, door) = match source {
                Source::Kept(opened) => {
                    opened.door.put(front);
                    (opened.bound, opened.door)
                }
                Source::Bound(listener, bound) => {
                    let door = self.take_clients(listener, &bound, front);
                    (bound, door)
                }
            };
            doors.push(Opened {
                name,
                address,
                bound,
                door,
            });
        }
        let is_kept = |opened: &Opened| doors.iter().any(|other| Arc::ptr_eq(&other.door, &opened.door));
        for gone in now.doors.iter().filter(|opened| !is_kept(opened)) {
            gone.door.shut();
        }
        let listeners = doors.iter().map(|opened| opened.bound.clone()).collect();
        now.doors = doors;
        let mut left = std::mem::replace(&mut now.stations, stations);
        left.retain(|old| !now.stations.iter().any(|station| Arc::ptr_eq(station, old)));
        now.old.extend(left.iter().cloned());
        self.asked.configurations.add(config);
        self.stand(admin::Standing {
            config: Arc::clone(config),
            backends,
            old: now.old.iter().map(|old| Arc::clone(&old.backend)).collect(),
            ended: Arc::clone(&self.asked.house().ended),
            listeners,
        });
        left
    }

    fn front(&self, config: &Arc<Config>, backends: &Arc<[Arc<front::Backend>]>, listener: usize) -> Front {
        Front {
            registry: Arc::clone(&self.ground.registry),
            config: Arc::clone(config),
            backends: Arc::clone(backends),
            listener,
            hash: self.ground.hash.clone(),
            seed: self.ground.seed,
            drain: self.ground.draining.clone(),
        }
    }

    /// Takes clients from one door, and says so.
    fn take_clients(&self, listener: TcpListener, bound: &str, front: Front) -> Arc<Door> {
        let (held_max, relayed_max) = front.registry.capacity();
        let backends: Vec<&str> = match &*front.backends {
            [only] => vec![&only.authority],
            all => all.iter().map(|backend| backend.name.as_str()).collect(),
        };
        self.ground.log.say(Event::Listening {
            address: bound.to_owned(),
            backend: backends.join(", "),
            held_max,
            relayed_max,
        });
        let door = Door::new(front);
        let (threads, log) = (Arc::clone(&self.ground.threads), self.ground.log.clone());
        tokio::spawn(listener::accept(listener, threads, Arc::clone(&door), log));
        door
    }

    /// Where clients live.
    pub(super) fn threads(&self) -> &Threads {
        &self.ground.threads
    }

    /// A station without a place stays for those who are with it.
    async fn end_when_left(self: Arc<Self>, station: Arc<Station>) {
        // Whoever read the old routes just now is with it when this is over.
        self.ground.threads.settle().await;
        station.backend.visitors.gone().await;
        let counted = station.backend.inbox.measured().await;
        self.forget(&station, counted);
        station.end();
    }

    /// Nobody is with it any more. What it has counted is kept.
    fn forget(&self, station: &Arc<Station>, counted: Option<Box<Measured>>) {
        let mut now = self.now();
        now.old.retain(|old| !Arc::ptr_eq(old, station));
        let house = self.asked.house();
        let mut ended = Ended::clone(&house.ended);
        if let Some(counted) = counted {
            ended.add(&station.backend.name, &counted.tally);
        }
        self.stand(admin::Standing {
            config: Arc::clone(&house.config),
            backends: Arc::clone(&house.backends),
            old: now.old.iter().map(|old| Arc::clone(&old.backend)).collect(),
            ended: Arc::new(ended),
            listeners: house.listeners.clone(),
        });
    }

    /// So it stands now, for whoever asks. A name that nobody has any more is forgotten: else one for each deploy would be kept
    /// for ever. To be called with `now` locked.
    fn stand(&self, mut house: admin::Standing) {
        let mut ended = Ended::clone(&house.ended);
        ended.fold(|name| house.knows(name));
        house.ended = Arc::new(ended);
        let house = Arc::new(house);
        self.asked.house.store(Arc::clone(&house));
        self.ground.registry.fold_traffic(|name| house.knows(name));
    }

    /// A stop tells the stations that are there; those who came beside it hear of it here.
    fn stop_all_if_stopping(&self) {
        if self.ground.draining.borrow().is_some() {
            for station in self.all_stations() {
                station.backend.inbox.tell(Message::Drain);
            }
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// Whether its socket is what this listener asks for.
    fn is_for(&self, listener: &Listener) -> bool {
        self.address == listener.address || self.bound == listener.address.to_string()
    }
}

/// A bound socket, for the runtime, and where it is.
fn watched(door: std::net::TcpListener, address: &Address) -> Result<Source, String> {
    let bound = door.local_addr().map(|bound| bound.to_string());
    let listener = bound.and_then(|bound| Ok((TcpListener::from_std(door)?, bound)));
    let (listener, bound) = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    Ok(Source::Bound(listener, bound))
}

/// Waits for a moment until new stations know whether their backends serve: else whoever may not wait would be refused.
async fn warm_up(stations: &[Arc<Station>]) {
    let known = async {
        for station in stations {
            let mut standing = station.backend.standing.clone();
            let _ = standing.wait_for(|standing| standing.gate != Gateway::Shut).await; // gone: nothing to wait for
        }
    };
    let _ = tokio::time::timeout(RELOAD_WARM_UP, known).await; // its clients are held, as ever
}
