//! One backend's place in the house: its address, its owner task, its probe, its log.
//!
//! Bounded by the configuration: one of these for each of its backends.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::backend::Source;
use greenroom_core::gate::Trust;
use greenroom_core::readiness::Plan;

use super::FAULT;
use super::checker::Checker;
use super::lives::{Lives, SeenLines};
use super::prober::Prober;
use super::state::StartsFile;

use crate::config::{self, Address, Config, Pattern, ProbeKind, Process, Ready};
use crate::driver::{Driver, Message, Parts, Wants};
use crate::front::Backend;
use crate::probe::Of;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::supervise::ReservedPort;
use crate::telemetry::Log;
use tokio::task::AbortHandle;

/// See the module's head.
pub(super) struct Station {
    /// As its clients see it.
    pub(super) backend: Arc<Backend>,
    /// Where it listens: configured, or chosen.
    pub(super) address: Address,
    /// Its process, while there is one; else 0.
    pub(super) pid: Arc<AtomicU32>,
    /// Which life of its process.
    pub(super) lives: Arc<Lives>,
    /// Says when a verdict is wanted, and when a look is.
    pub(super) wants: Wants,
    pub(super) lines: Arc<SeenLines>,
    /// The log, which names the backend where there are several.
    pub(super) log: Log,
    settings: config::Backend,
    /// What asks for ever.
    asking: Mutex<Vec<AbortHandle>>,
    /// A chosen port stays ours for as long as we live, or until it seems to be in its server's way.
    pub(super) reserved: Option<Arc<ReservedPort>>,
}

impl Station {
    /// Opens it: its owner task runs, its probe looks; its process is not started yet.
    pub(super) fn open(config: &Arc<Config>, index: usize, registry: &Arc<Registry>, log: &Log) -> io::Result<Self> {
        let settings = &config.backends[index];
        let log = log.of(&settings.name);
        let (address, reserved) = match &settings.address {
            Some(address) => (address.clone(), None),
            None => {
                let (reserved, port) = ReservedPort::new()?;
                let host = "127.0.0.1".into();
                (Address::Tcp { host, port }, Some(Arc::new(reserved)))
            }
        };
        let file = config
            .state_dir
            .as_ref()
            .map(|folder| StartsFile::of(folder, &settings.name));
        let (driver, backend, wants) = Driver::new(Parts {
            config: Arc::clone(config),
            backend: index,
            names: Names::new(&address, log.clone()),
            address: address.clone(),
            plan: plan(settings),
            starts: file.as_ref().map(|file| file.read(&log)).unwrap_or_default(),
            registry: Arc::clone(registry),
            log: log.clone(),
        });
        tokio::spawn(witness(tokio::spawn(driver.run()), log.clone()));
        let station = Self {
            backend: Arc::new(backend),
            address,
            pid: Arc::default(),
            lives: Arc::default(),
            wants,
            lines: Arc::new(SeenLines::new(log_lines(settings).count())),
            log,
            settings: settings.clone(),
            asking: Mutex::default(),
            reserved,
        };
        if let Some(file) = file {
            tokio::spawn(file.keep(station.wants.learned.clone(), station.log.clone()));
        }
        station.probe();
        station.check();
        Ok(station)
    }

    /// Its settings.
    pub(super) fn settings(&self) -> &config::Backend {
        &self.settings
    }

    /// Ends it: nobody is with it any more. It has no process; what looks at it ends with its owner task.
    pub(super) fn end(&self) {
        self.backend.inbox.tell(Message::End);
        for checker in self.asking().drain(..) {
            checker.abort();
        }
    }

    fn asking(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is started for it, if anything.
    pub(super) fn process(&self) -> Option<&Process> {
        self.settings().process.as_ref()
    }

    /// The port that was chosen for it, if one was.
    pub(super) fn chosen_port(&self) -> Option<u16> {
        match (&self.reserved, &self.address) {
            (Some(_), Address::Tcp { port, .. }) => Some(*port),
            (Some(_), Address::Unix(_)) | (None, _) => None,
        }
    }

    /// What its `log` checks look for, in order.
    pub(super) fn log_lines(&self) -> impl Iterator<Item = &Pattern> {
        log_lines(self.settings())
    }

    fn probe(&self) {
        let prober = Prober {
            ready: self.settings().ready.clone(),
            address: self.address.clone(),
            of: self.of(),
            lives: Arc::clone(&self.lives),
            inbox: Arc::clone(&self.backend.inbox),
            log: self.log.clone(),
        };
        tokio::spawn(prober.run(self.wants.clone()));
    }

    fn check(&self) {
        let mut lines = self.lines.subscribe();
        for (index, check) in self.settings().checks.iter().enumerate() {
            let line = match check.probe {
                ProbeKind::Log { .. } => lines.next(),
                _ => None,
            };
            let checker = Checker {
                index,
                check: check.clone(),
                address: self.address.clone(),
                of: self.of(),
                line,
                now: Arc::clone(&self.wants.check_now),
                lives: Arc::clone(&self.lives),
                inbox: Arc::clone(&self.backend.inbox),
                log: self.log.clone(),
            };
            self.asking().push(tokio::spawn(checker.run()).abort_handle());
        }
    }

    /// Whose listeners count.
    fn of(&self) -> Of {
        match self.process() {
            Some(_) => Of::Children(Arc::clone(&self.pid)),
            None => Of::Anyone,
        }
    }
}

fn log_lines(settings: &config::Backend) -> impl Iterator<Item = &Pattern> {
    settings.checks.iter().filter_map(|check| match &check.probe {
        ProbeKind::Log { line } => Some(line),
        _ => None,
    })
}

/// How its readiness is judged.
fn plan(settings: &config::Backend) -> Plan {
    Plan {
        source: source(settings),
        is_ours: settings.process.is_some(),
        phases: settings.phases.clone().into(),
        checks: settings.checks.iter().map(|check| check.rule.clone()).collect(),
        needs: settings.needs.clone().into(),
    }
}

/// Whose word counts.
fn source(settings: &config::Backend) -> Source {
    match (&settings.ready, settings.process.is_some()) {
        (Ready::Auto, true) => Source::Auto,
        (Ready::Notify, _) => Source::Notify,
        (Ready::Http(_) | Ready::WebSocket(_) | Ready::Grpc(_), _) => Source::Probe(Trust::Pushed),
        (Ready::Listen | Ready::Tcp, _) | (Ready::Auto, false) => Source::Probe(Trust::Inferred),
    }
}

/// Ends the program when an owner task has failed: nobody would ever be let in
/// or refused again, and to say so at once is the honest way. The children end with us.
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
