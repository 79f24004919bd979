//! A good parent: starts the backend's process, hears it, signals it, waits for it.
//!
//! ```text
//!  main ── spawn, forward, terminate ──▶ Keeper (one thread, for ever)
//!    ▲                                     │ fork, kill, wait: only here
//!    │                                     ▼
//!    └── Happening ◀── notify task ◀── the child, its group, its orphans
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`command`] | what is started, with which environment |
//! | [`spawn`] | how: group, terminal, limits, descriptors, death signal |
//! | `keeper` | the one thread that starts, signals and waits |
//! | [`reap`] | how a child ended |
//! | `sweep` | who is signalled when all must go |
//! | `terminal` | who has the terminal |
//! | [`notify`], [`message`], [`sender`] | what the backend says, and whether it is the backend |
//! | [`port`] | the backend's port, kept |
//! | [`outer`] | what the service manager outside is told |
//! | [`procfs`] | the process table |
//!
//! Restarting is not decided here but by `greenroom_core::backoff`. After an
//! [`Happening::Ended`], [`Supervisor::terminate`] sweeps away what the child left
//! behind (it may still hold the port); then the next generation may be spawned.

pub mod command;
mod datagram;
mod keeper;
pub mod message;
pub mod notify;
pub mod outer;
pub mod port;
pub mod procfs;
pub mod reap;
pub mod sender;
pub mod spawn;
mod sweep;
mod terminal;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use greenroom_core::event::Generation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

pub use command::{Command, fill_port};
pub use message::Message;
pub use notify::{Barrier, NotifyError};
pub use outer::Outer;
pub use port::ReservedPort;
pub use reap::End;
pub use rustix::process::{Rlimit, Signal};
pub use sender::Ignored;
pub use spawn::SpawnError;

use keeper::{Keeper, Request};

/// What happened to the child, or was said by it, in order.
#[derive(Debug)]
pub enum Happening {
    /// It runs: exec has succeeded.
    Started {
        /// Which life.
        generation: Generation,
        /// Its process, and its group.
        pid: i32,
    },
    /// It said something.
    Notified {
        /// Whose socket it came to.
        generation: Generation,
        /// The process that said it.
        from: i32,
        /// What.
        message: Message,
        /// When it was received, on [`notify::now_ns`]'s clock.
        at_ns: u64,
        /// Somebody waits until this is dropped.
        barrier: Option<Barrier>,
    },
    /// Somebody else said something, or too much. Told once per cause and user; all are counted.
    NotifyIgnored {
        /// Whose socket it came to.
        generation: Generation,
        /// The process that said it; 0 if it is of another pid namespace.
        pid: i32,
        /// Its user.
        uid: u32,
        /// The cause.
        why: Ignored,
    },
    /// It starts without NOTIFY_SOCKET.
    NotifyUnavailable {
        /// Which life.
        generation: Generation,
        /// The cause.
        error: NotifyError,
    },
    /// It was stopped. If the terminal did it, greenroom stops too.
    Stopped {
        /// Which life.
        generation: Generation,
        /// By this signal.
        signal: i32,
    },
    /// It goes on.
    Continued {
        /// Which life.
        generation: Generation,
    },
    /// It ended. What it left behind may still run.
    Ended {
        /// Which life.
        generation: Generation,
        /// How.
        end: End,
        /// Ctrl-C or Ctrl-\ at its terminal did it: the user wants to stop, not to restart.
        interrupted: bool,
    },
}

/// How [`Supervisor::terminate`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    /// Somebody was still there when the grace was over.
    pub killed: bool,
    /// So many are there even after KILL.
    pub left: usize,
}

/// Why there can be no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A signal could not be subscribed to.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// What the child leaves behind could not be collected.
    #[error("cannot become the reaper of the child's orphans (PR_SET_CHILD_SUBREAPER)")]
    Subreaper(#[source] io::Error),
    /// No thread for it.
    #[error("cannot start the supervisor's thread")]
    Thread(#[source] io::Error),
}

/// Where happenings go, and what is only counted.
#[derive(Clone)]
struct Tell(Arc<Told>);

struct Told {
    tell: Box<dyn Fn(Happening) + Send + Sync>,
    orphans: AtomicU64,
    ignored: AtomicU64,
}

impl Tell {
    fn tell(&self, happening: Happening) {
        (self.0.tell)(happening);
    }

    fn count_orphan(&self) {
        self.0.orphans.fetch_add(1, Ordering::Relaxed);
    }

    fn count_ignored(&self) {
        self.0.ignored.fetch_add(1, Ordering::Relaxed);
    }
}

/// Signals that wait to be acted on: one request each at a time, however many come.
#[derive(Debug, Default)]
struct Pending {
    reap: AtomicBool,
    continued: AtomicBool,
}

/// Owns the child. One per process: it waits for all children of this process.
#[derive(Clone)]
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
    tell: Tell,
}

impl Supervisor {
    /// Starts the supervisor's thread, and nothing else yet. Call it within a
    /// tokio runtime, once per process.
    ///
    /// `tell` is called from the supervisor's thread and from the notify task. It
    /// must not block: hand the happening on and return.
    ///
    /// # Errors
    /// When the system lacks what a parent needs.
    pub fn start(command: Command, tell: impl Fn(Happening) + Send + Sync + 'static) -> Result<Self, SuperviseError> {
        let told = Told {
            tell: Box::new(tell),
            orphans: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
        };
        let tell = Tell(Arc::new(told));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| SuperviseError::Subreaper(error.into()))?;
        let (requests, taken) = mpsc::channel();
        let pending = Arc::new(Pending::default());
        subscribe(
            SignalKind::child(),
            &requests,
            &pending,
            |pending| &pending.reap,
            || Request::Reap,
        )?;
        let cont = SignalKind::from_raw(Signal::CONT.as_raw());
        subscribe(
            cont,
            &requests,
            &pending,
            |pending| &pending.continued,
            || Request::Continued,
        )?;
        let keeper = Keeper::new(command, tell.clone(), pending, tokio::runtime::Handle::current());
        let thread = std::thread::Builder::new().name("supervise".into());
        thread
            .spawn(move || keeper.run(&taken))
            .map_err(SuperviseError::Thread)?;
        Ok(Self { requests, tell })
    }

    /// Starts the child: one at a time. Gives its pid.
    ///
    /// # Errors
    /// When it cannot be started: see [`SpawnError::exit_code`].
    pub async fn spawn(&self, generation: Generation) -> Result<i32, SpawnError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request::Spawn { generation, reply })
            .map_err(|_| SpawnError::Gone)?;
        answer.await.map_err(|_| SpawnError::Gone)?
    }

    /// Sends `signal` to the child's group, if there is a child.
    pub fn forward(&self, signal: Signal) {
        let _ = self.requests.send(Request::Forward(signal)); // fails only when the thread has panicked
    }

    /// Ends the child and everything it started: TERM to all, and KILL to what is
    /// left after `grace` (at once if it is zero). Returns when nobody is there
    /// any more, or [`greenroom_core::limits::SWEEP_MAX`] after KILL. Asked again
    /// meanwhile, the shorter grace counts.
    pub async fn terminate(&self, grace: Duration) -> Termination {
        let gone = Termination { killed: false, left: 0 };
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Terminate { grace, reply }).is_err() {
            return gone;
        }
        answer.await.unwrap_or(gone)
    }

    /// How many processes were waited for that others had left behind.
    #[must_use]
    pub fn orphans_reaped(&self) -> u64 {
        self.tell.0.orphans.load(Ordering::Relaxed)
    }

    /// How many notify datagrams were ignored.
    #[must_use]
    pub fn notify_ignored(&self) -> u64 {
        self.tell.0.ignored.load(Ordering::Relaxed)
    }
}

/// Turns each `kind` into a request, at most one at a time.
fn subscribe(
    kind: SignalKind,
    requests: &mpsc::Sender<Request>,
    pending: &Arc<Pending>,
    flag: impl Fn(&Pending) -> &AtomicBool + Send + 'static,
    request: impl Fn() -> Request + Send + 'static,
) -> Result<(), SuperviseError> {
    let mut signals = signal(kind).map_err(SuperviseError::Signals)?;
    let (requests, pending) = (requests.clone(), Arc::clone(pending));
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            // The thread clears the flag before it acts, so no signal is lost.
            if !flag(&pending).swap(true, Ordering::AcqRel) && requests.send(request()).is_err() {
                return;
            }
        }
    });
    Ok(())
}
