//! The house as a whole: what `greenroom run` and `greenroom serve` start, and how they end.
//!
//! ```text
//!  listeners ──▶ opening (a task per client) ──▶ drivers (an owner task per backend) ──▶ backends
//!                                                    ▲            ▲
//!                       children (of processes) ─────┘            └──── probers
//! ```
//!
//! The doors are bound before the runtime exists and before any child is started.
//! Every way out leads through `stop`: the held are refused at once, the relayed
//! closed at their pace, then the children are ended.

mod checker;
mod child;
mod lives;
mod places;
mod prober;
mod state;
mod station;
mod stop;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use greenroom_core::limits::HOUSE_THREADS;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin;
use crate::clock;
use crate::config::{Config, LogFormat};
use crate::drains::Drains;
use crate::front::{self, Front};
use crate::listener;
use crate::memory;
use crate::registry::Registry;
use crate::relay::Drain;
use crate::supervise::{Outer, Rlimit};
use crate::telemetry::{Event, Format, Log};
use crate::threads::Threads;
use crate::trace::Tracer;

use state::StartsFile;
use station::Station;

/// The program cannot listen (`EX_UNAVAILABLE` of sysexits).
pub const CANNOT_LISTEN: u8 = 69;

/// A fault of greenroom itself (`EX_SOFTWARE`).
pub const FAULT: u8 = 70;

/// Runs until it is told to stop, or until all its children have ended for good. Returns the exit code.
/// `notes` are said as warnings first.
#[must_use]
pub fn run(config: Config, notes: Vec<String>) -> u8 {
    let _ = clock::now(); // moment zero
    let nofile = raise_descriptors();
    make_room(); // before there is a second thread
    let log = Log::start(match config.log_format {
        LogFormat::Auto => Format::auto(),
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    });
    for note in notes.into_iter().chain(admin::platform::too_little_time(&config)) {
        log.warn(note);
    }
    let doors: Result<Vec<_>, _> = config.listeners.iter().map(|l| listener::bind(&l.address)).collect();
    let doors = match doors {
        Ok(doors) => doors,
        Err(error) => return fail(&log, &error.to_string(), CANNOT_LISTEN),
    };
    let socket = match admin_socket(&config, &log) {
        Ok(socket) => socket,
        Err(message) => return fail(&log, &message, CANNOT_LISTEN),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HOUSE_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&log, &format!("cannot start: {error}"), CANNOT_LISTEN),
    };
    let code = runtime.block_on(house(Arc::new(config), doors, socket, nofile, log.clone()));
    crate::supervise::errand::end_all();
    log.flush();
    // Connections that are left have had their time: the process ends with them.
    runtime.shutdown_background();
    code
}

/// Bound while there is one thread. One that the user has asked for must come about; without one of
/// our own choice greenroom serves as well, but cannot be asked.
fn admin_socket(config: &Config, log: &Log) -> Result<Option<admin::Socket>, String> {
    match (admin::socket(&config.admin), &config.admin.socket) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(error), Some(path)) => Err(format!("cannot open the admin socket {}: {error}", path.display())),
        (Err(error), None) => {
            log.warn(format!(
                "there is no admin socket, so `greenroom status` cannot ask: {error}"
            ));
            Ok(None)
        }
    }
}

fn fail(log: &Log, message: &str, code: u8) -> u8 {
    log.fatal(code, message);
    log.flush();
    code
}

/// Everything that the parts of the house share.
struct House {
    config: Arc<Config>,
    registry: Arc<Registry>,
    stations: Vec<Station>,
    drain: watch::Sender<Option<Drain>>,
    /// Drains by command.
    drains: Arc<Drains>,
    /// Seeds what is spread over clients.
    seed: u64,
    outer: Outer,
    log: Log,
    nofile: Option<Rlimit>,
    /// Where greenroom is asked and told things.
    admin: Option<admin::Socket>,
}

async fn house(
    config: Arc<Config>,
    doors: Vec<std::net::TcpListener>,
    socket: Option<admin::Socket>,
    nofile: Option<Rlimit>,
    log: Log,
) -> u8 {
    let registry = Registry::new(log.clone(), descriptor_limit(), &config.limits);
    registry.trace_to(Tracer::start(&config, &log));
    tokio::spawn(memory::give_back(Arc::clone(&registry.crowd_gone)));
    if let Some(folder) = &config.state_dir {
        StartsFile::make_room(folder, &log);
    }
    let stations = (0..config.backends.len()).map(|backend| Station::open(&config, backend, &registry, &log));
    let stations: Vec<Station> = match stations.collect() {
        Ok(stations) => stations,
        Err(error) => {
            let message = format!("cannot reserve a port for a backend: {error}");
            return fail(&log, &message, CANNOT_LISTEN);
        }
    };
    let (drain, draining) = watch::channel(None);
    let seed = random_seed();
    let drains = Drains::new(&registry, &log, seed);
    let parts = Parts {
        config: &config,
        registry: &registry,
        stations: &stations,
        draining,
        drains: &drains,
        seed,
        log: &log,
    };
    let admin = match parts.open(doors, socket) {
        Ok(admin) => admin,
        Err(message) => return fail(&log, &message, CANNOT_LISTEN),
    };
    let outer = Outer::from_env();
    outer.ready(); // what matters to whoever depends on us: clients may come
    let house = House {
        config,
        registry,
        stations,
        drain,
        drains,
        seed,
        outer,
        log,
        nofile,
        admin,
    };
    let code = if house.stations.iter().any(|station| station.process().is_some()) {
        child::live(&house).await
    } else {
        stop::serve(&house).await
    };
    if let Some(tracer) = house.registry.tracer() {
        tracer.flush().await;
    }
    house.log.say(house.registry.ledger(code));
    code
}

/// What is behind all doors.
struct Parts<'a> {
    config: &'a Arc<Config>,
    registry: &'a Arc<Registry>,
    stations: &'a [Station],
    draining: watch::Receiver<Option<Drain>>,
    drains: &'a Arc<Drains>,
    seed: u64,
    log: &'a Log,
}

impl Parts<'_> {
    /// Opens the doors for clients, then that for who asks about greenroom itself.
    fn open(
        self,
        doors: Vec<std::net::TcpListener>,
        socket: Option<admin::Socket>,
    ) -> Result<Option<admin::Socket>, String> {
        let threads = Arc::new(Threads::start().map_err(|error| format!("cannot start: {error}"))?);
        let backends: Arc<[Arc<front::Backend>]> = (self.stations.iter())
            .map(|station| Arc::clone(&station.backend))
            .collect();
        let hash = std::hash::RandomState::new(); // one: a client has one address, whatever door it takes
        let mut listeners = Vec::new();
        for (listener, door) in doors.into_iter().enumerate() {
            let front = Arc::new(Front {
                registry: Arc::clone(self.registry),
                config: Arc::clone(self.config),
                backends: Arc::clone(&backends),
                listener,
                hash: hash.clone(),
                seed: self.seed,
                drain: self.draining.clone(),
            });
            let opened = open(door, &threads, front, self.log);
            let address = &self.config.listeners[listener].address;
            listeners.push(opened.map_err(|error| format!("cannot listen on {address}: {error}"))?);
        }
        let asked = Arc::new(admin::Asked {
            house: ArcSwap::from_pointee(admin::Standing {
                config: Arc::clone(self.config),
                backends,
                listeners,
            }),
            registry: Arc::clone(self.registry),
            drain: self.draining,
            drains: Arc::clone(self.drains),
            log: self.log.clone(),
            requests: admin::Requests::default(),
        });
        admin::open(&asked, socket, self.log).map_err(|error| format!("cannot open the admin address: {error}"))
    }
}

/// Takes clients from one door, and says so.
fn open(door: std::net::TcpListener, threads: &Arc<Threads>, front: Arc<Front>, log: &Log) -> std::io::Result<String> {
    let address = door.local_addr()?.to_string();
    let listener = TcpListener::from_std(door)?;
    let (held_max, relayed_max) = front.registry.capacity();
    let backends: Vec<&str> = match &*front.backends {
        [only] => vec![&only.authority],
        all => all.iter().map(|backend| backend.name.as_str()).collect(),
    };
    log.say(Event::Listening {
        address: address.clone(),
        backend: backends.join(", "),
        held_max,
        relayed_max,
    });
    tokio::spawn(listener::accept(listener, Arc::clone(threads), front, log.clone()));
    Ok(address)
}

/// Raises the limit of open files to what we may have; says what it was, for the child.
fn raise_descriptors() -> Option<Rlimit> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, raised).ok().map(|()| before)
}

/// Makes the kernel's table of descriptors as large as it is likely to become, by opening one
/// with a high number for a moment; the table never shrinks. While there is one thread this costs
/// nothing: see `DESCRIPTOR_ROOM`. Where it cannot be done, the table grows when it must.
fn make_room() {
    use greenroom_core::limits::DESCRIPTOR_ROOM;
    let highest = DESCRIPTOR_ROOM.min(descriptor_limit()).saturating_sub(1);
    if let (Ok(any), Ok(highest)) = (
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC),
        highest.try_into(),
    ) {
        let _ = rustix::io::fcntl_dupfd_cloexec(&any, highest);
    }
}

/// How many files may be open. Without a limit, as many as a process of this size could use.
fn descriptor_limit() -> usize {
    use greenroom_core::limits::DESCRIPTORS_MAX;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(DESCRIPTORS_MAX)
        .min(DESCRIPTORS_MAX)
}

/// Seeds what is spread over clients. A weak one would do: it only has to differ between processes.
fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => u64::from(std::process::id()),
    }
}
