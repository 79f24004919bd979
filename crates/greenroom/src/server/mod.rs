//! The house as a whole: what `greenroom run` and `greenroom serve` start, and how they end.
//!
//! ```text
//!  listeners ──▶ opening (a task per client) ──▶ drivers (an owner task per backend) ──▶ backends
//!                                                    ▲            ▲
//!                       children (of processes) ─────┘            └──── probers
//! ```
//!
//! What the configuration makes of it is `estate`; a reload puts another in its place (`reload`).
//! The doors are bound before the runtime exists and before any child is started.
//! Every way out leads through `stop`: the held are refused at once, the relayed
//! closed at their pace, then the children are ended.

mod checker;
mod child;
mod estate;
mod lives;
mod lookout;
mod places;
mod prober;
mod reload;
mod state;
mod station;
mod stop;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use greenroom_core::limits::HOUSE_THREADS;
use tokio::sync::watch;

use crate::admin;
use crate::clock;
use crate::config::{Config, Loaded, LogFormat, Mark, Recipe};
use crate::drains::Drains;
use crate::listener;
use crate::memory;
use crate::registry::Registry;
use crate::relay::Drain;
use crate::supervise::{Outer, Rlimit};
use crate::telemetry::{Format, Log};
use crate::threads::Threads;
use crate::trace::Tracer;

use estate::{Estate, Ground};
use reload::Reloader;
use state::StartsFile;

/// The program cannot listen (`EX_UNAVAILABLE` of sysexits).
pub const CANNOT_LISTEN: u8 = 69;

/// A fault of greenroom itself (`EX_SOFTWARE`).
pub const FAULT: u8 = 70;

/// Runs until it is told to stop, or until all its children have ended for good. Returns the exit code.
/// Its notes are said as warnings first; the recipe is what it was made of, to be made again.
#[must_use]
pub fn run(loaded: Loaded, recipe: Recipe) -> u8 {
    let Loaded {
        config, notes, mark, ..
    } = loaded;
    let _ = clock::now(); // moment zero
    let nofile = raise_descriptors();
    make_room(); // before there is a second thread
    let log = Log::start(format(config.log_format));
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
    let site = Site {
        recipe,
        mark,
        doors,
        socket,
        nofile,
    };
    let code = runtime.block_on(house(Arc::new(config), site, log.clone()));
    crate::supervise::errand::end_all();
    log.flush();
    runtime.shutdown_background();
    code
}

fn format(configured: LogFormat) -> Format {
    match configured {
        LogFormat::Auto => Format::auto(),
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
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
    registry: Arc<Registry>,
    /// What the configuration has made.
    estate: Arc<Estate>,
    drain: watch::Sender<Option<Drain>>,
    /// Drains by command.
    drains: Arc<Drains>,
    /// Seeds what is spread over clients.
    seed: u64,
    outer: Arc<Outer>,
    log: Log,
    nofile: Option<Rlimit>,
    /// Where greenroom is asked and told things.
    admin: Option<admin::Socket>,
}

/// What was there before the runtime.
struct Site {
    recipe: Recipe,
    /// The file that was read.
    mark: Option<Mark>,
    doors: Vec<std::net::TcpListener>,
    socket: Option<admin::Socket>,
    nofile: Option<Rlimit>,
}

async fn house(config: Arc<Config>, site: Site, log: Log) -> u8 {
    let house = match open(&config, site, log.clone()) {
        Ok(house) => house,
        Err(message) => return fail(&log, &message, CANNOT_LISTEN),
    };
    drop(config); // another may take its place
    let has_children = house
        .estate
        .stations()
        .iter()
        .any(|station| station.process().is_some());
    let code = if has_children {
        child::live(&house).await
    } else {
        stop::serve(&house).await
    };
    stop::cut(&house).await;
    if let Some(tracer) = house.registry.tracer() {
        tracer.flush().await;
    }
    house.log.say(house.registry.ledger(code));
    code
}

/// Opens the doors for clients, then that for who asks about greenroom itself.
fn open(config: &Arc<Config>, site: Site, log: Log) -> Result<House, String> {
    let registry = Registry::new(log.clone(), descriptor_limit(), &config.limits);
    registry.trace_to(Tracer::start(config, &log));
    tokio::spawn(memory::give_back(Arc::clone(&registry.crowd_gone)));
    tokio::spawn(crate::watch::run(Arc::clone(&registry)));
    if let Some(folder) = &config.state_dir {
        StartsFile::make_room(folder, &log);
    }
    let (drain, draining) = watch::channel(None);
    let (reloads, orders) = reload::orders(&site.recipe);
    let seed = random_seed();
    let drains = Drains::new(&registry, &log, seed);
    let ground = Ground {
        registry: Arc::clone(&registry),
        threads: Arc::new(Threads::start().map_err(|error| format!("cannot start: {error}"))?),
        draining,
        log: log.clone(),
        seed,
        drains: Arc::clone(&drains),
        hash: std::hash::RandomState::new(),
    };
    let estate = Estate::open(ground, config, site.doors, reloads)?;
    let admin = admin::open(estate.asked(), site.socket, &log);
    let admin = admin.map_err(|error| format!("cannot open the admin address: {error}"))?;
    let outer = Arc::new(Outer::from_env());
    let reloader = Reloader {
        estate: Arc::clone(&estate),
        recipe: Arc::new(site.recipe),
        loaded: watch::Sender::new(site.mark),
        outer: Arc::clone(&outer),
        log: log.clone(),
    };
    tokio::spawn(reloader.run(orders));
    Ok(House {
        registry,
        estate,
        drain,
        drains,
        seed,
        outer,
        log,
        nofile: site.nofile,
        admin,
    })
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
