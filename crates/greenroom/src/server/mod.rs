//! The house as a whole: what `greenroom run` and `greenroom serve` start, and how they end.
//!
//! ```text
//!  listener ──▶ opening (a task per client) ──▶ driver (the owner task) ──▶ backend
//!                                                  ▲          ▲
//!                              child (run) ────────┘          └──── prober
//! ```
//!
//! The door is bound before the runtime exists and before the child is started.
//! Every way out leads through `stop`: the held are refused at once, the relayed
//! closed at their pace, then the child is ended.

mod child;
mod prober;
mod stop;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::backend::Source;
use greenroom_core::backoff::RestartPolicy;
use greenroom_core::gate::Trust;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::config::{Address, Ready};
use crate::driver::Driver;
use crate::listener;
use crate::opening::Front;
use crate::registry::Registry;
use crate::supervise::{Outer, ReservedPort, Rlimit};
use crate::telemetry::{Event, Format, Log};

/// The program cannot listen (`EX_UNAVAILABLE` of sysexits).
pub const CANNOT_LISTEN: u8 = 69;

/// A fault of greenroom itself (`EX_SOFTWARE`).
pub const FAULT: u8 = 70;

/// What `run` and `serve` do, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients come to.
    pub listen: Address,
    /// Where the backend listens; `None`: a free loopback port, told to the child as PORT.
    pub backend: Option<Address>,
    /// How its readiness is learned.
    pub ready: Ready,
    /// Whether clients wait (`--hold handshake`) or are refused (`--hold refuse`).
    pub may_wait: bool,
    /// How long a client waits at the most.
    pub hold_timeout: Duration,
    /// The child, for `run`.
    pub child: Option<Child>,
    /// Time between TERM and KILL, and for the closing of relays.
    pub grace: Duration,
    /// How the log is written.
    pub format: Format,
}

/// The child of `run`.
#[derive(Clone, Debug)]
pub struct Child {
    /// Program and arguments; `{port}` is replaced.
    pub command: Vec<OsString>,
    /// Whether it is started again when it ends.
    pub restart: RestartPolicy,
}

/// Runs until it is told to stop, or until the child ends for good. Returns the exit code.
#[must_use]
pub fn run(settings: Settings) -> u8 {
    let _ = clock::now(); // moment zero
    let log = Log::start(settings.format);
    let nofile = raise_descriptors();
    let listener = match listener::bind(&settings.listen) {
        Ok(listener) => listener,
        Err(error) => return fail(&log, &error.to_string(), CANNOT_LISTEN),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&log, &format!("cannot start: {error}"), CANNOT_LISTEN),
    };
    let code = runtime.block_on(house(settings, listener, nofile, log.clone()));
    log.flush();
    // Connections that are left have had their time: the process ends with them.
    runtime.shutdown_background();
    code
}

fn fail(log: &Log, message: &str, code: u8) -> u8 {
    log.fatal(code, message);
    log.flush();
    code
}

/// Everything that the parts of the house share.
struct House {
    settings: Settings,
    /// The backend's address, given or chosen.
    backend: Address,
    front: Arc<Front>,
    drain: watch::Sender<Option<crate::relay::Drain>>,
    outer: Outer,
    log: Log,
    nofile: Option<Rlimit>,
}

async fn house(settings: Settings, listener: std::net::TcpListener, nofile: Option<Rlimit>, log: Log) -> u8 {
    let (address, reserved) = match backend_address(&settings) {
        Ok(found) => found,
        Err(error) => {
            return fail(
                &log,
                &format!("cannot reserve a port for the backend: {error}"),
                CANNOT_LISTEN,
            );
        }
    };
    let listening = listener.local_addr();
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            return fail(
                &log,
                &format!("cannot listen on {}: {error}", settings.listen),
                CANNOT_LISTEN,
            );
        }
    };
    let registry = Registry::new(log.clone(), descriptor_limit());
    let (driver, wants) = Driver::new(address.clone(), source(&settings), Arc::clone(&registry), log.clone());
    let (drain, draining) = watch::channel(None);
    let front = Arc::new(Front {
        registry: Arc::clone(&registry),
        inbox: driver.inbox(),
        hold_timeout: settings.hold_timeout,
        may_wait: settings.may_wait,
        seed: random_seed(),
        drain: draining,
    });
    tokio::spawn(witness(tokio::spawn(driver.run()), log.clone()));
    tokio::spawn(listener::accept(listener, Arc::clone(&front), log.clone()));
    let (held_max, relayed_max) = registry.capacity();
    let shown = listening.map_or_else(|_| settings.listen.to_string(), |address| address.to_string());
    log.say(Event::Listening {
        address: shown,
        backend: address.to_string(),
        held_max,
        relayed_max,
    });
    let outer = Outer::from_env();
    outer.ready(); // what matters to whoever depends on us: clients may come
    let house = House {
        settings,
        backend: address,
        front,
        drain,
        outer,
        log,
        nofile,
    };
    let code = match &house.settings.child {
        Some(child) => child::live(&house, child, wants).await,
        None => stop::serve(&house, wants).await,
    };
    drop(reserved); // the port stays ours for as long as we live
    house.log.say(house.front.registry.ledger(code));
    code
}

/// Ends the program when its owner task has failed: nobody would ever be let in
/// or refused again, and to say so at once is the honest way. The child ends with us.
async fn witness(owner: tokio::task::JoinHandle<()>, log: Log) {
    if owner.await.is_err() {
        log.fatal(
            FAULT,
            "a fault of greenroom itself: its owner task has ended; please report it",
        );
        log.flush();
        std::process::exit(FAULT.into());
    }
}

/// The backend's address; without one, a loopback port that nobody else can take while we live.
fn backend_address(settings: &Settings) -> std::io::Result<(Address, Option<ReservedPort>)> {
    if let Some(address) = &settings.backend {
        return Ok((address.clone(), None));
    }
    let (reserved, port) = ReservedPort::new()?;
    Ok((
        Address::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
        Some(reserved),
    ))
}

/// Whose word counts.
fn source(settings: &Settings) -> Source {
    match (&settings.ready, settings.child.is_some()) {
        (Ready::Auto, true) => Source::Auto,
        (Ready::Notify, _) => Source::Notify,
        (Ready::Http(_) | Ready::WebSocket(_), _) => Source::Probe(Trust::Pushed),
        (Ready::Listen | Ready::Tcp, _) | (Ready::Auto, false) => Source::Probe(Trust::Inferred),
    }
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
