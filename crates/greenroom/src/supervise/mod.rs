//! A good parent: starts the backends' processes, hears, signals and waits for them.
//!
//! ```text
//!  house ── spawn, forward, terminate ──▶ Keeper (one thread, for ever)
//!    ▲                                      │ fork, kill, wait: only here
//!    │                                      ▼
//!    │◀── Happening ◀── reports ◀───────── warden ──▶ child, its group, its orphans
//!    └─── Happening ◀── notify task ◀─────────────────┘
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`command`] | what is started, where, with which environment |
//! | `account` | as which user |
//! | [`warden`] | the process that stands between us and a child, and outlives us |
//! | [`spawn`] | how a child is started: group, terminal, limits, descriptors, death signal |
//! | `keeper`, `life` | the one thread that starts, signals and waits; where each child has got to |
//! | [`reap`] | how a child ended |
//! | `errand` | the commands of checks, which are children beside the children |
//! | `sweep` | who belongs to a child, and is signalled when all must go |
//! | `terminal` | who has the terminal |
//! | `output`, `lines` | how a child's output is passed on, and what is found in it |
//! | `watchdog` | whether it has gone silent |
//! | `ending` | how a life ends that is to end |
//! | [`notify`], `folder`, [`message`], [`sender`] | what the backend says, and whether it is the backend |
//! | [`port`] | the backend's port, kept |
//! | [`outer`] | what the service manager outside is told |
//! | [`procfs`] | the process table |
//!
//! # Several children
//!
//! A [`Supervisor`] is given all its [`Command`]s at once and knows each by its place
//! among them, a [`ChildId`]. Each has lives of its own, numbered by the caller
//! ([`Generation`]), and with each life a warden, a process group and a notify
//! socket. For each child by itself:
//!
//! 1. [`Supervisor::spawn`] starts a life. [`What::Started`] is told before anything
//!    that it says.
//! 2. [`What::Ended`] tells its end, by itself or by force. Exactly one for each
//!    `Started`.
//! 3. [`Supervisor::terminate`] ends what is there of it, the child's orphans
//!    included: always call it after an end, as what it left behind may hold its port.
//!    Then the next life may be spawned. Whether and when is not decided here but by
//!    `greenroom_core::backoff`.
//!
//! No call for one child waits for another child. Orphans are told apart by their
//! warden (see `sweep`). [`Supervisor::terminate_all`] ends all at the same time.
//!
//! *The terminal* is lent to an only child. With several, it stays with us: Ctrl-C
//! comes to greenroom as SIGINT, and children have nothing to read on stdin (a
//! background process that reads a terminal would be stopped).

mod account;
pub mod command;
mod datagram;
mod ending;
pub(crate) mod errand;
mod folder;
mod keeper;
mod life;
mod lines;
pub mod message;
pub mod notify;
pub mod outer;
mod output;
pub mod port;
pub mod procfs;
pub mod reap;
pub mod sender;
pub mod spawn;
mod sweep;
mod terminal;
pub mod warden;
mod watchdog;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use greenroom_core::event::Generation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

pub use account::AccountError;
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
use output::Outlets;

/// One of the children: the place of its [`Command`] among those that
/// [`Supervisor::start`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub usize);

/// What happened to a child, or was said by it. Those of one child come in order.
#[derive(Debug)]
pub struct Happening {
    /// Which child.
    pub child: ChildId,
    /// Which of its lives. One of an earlier life may still come late.
    pub generation: Generation,
    /// What.
    pub what: What,
}

/// See [`Happening`].
#[derive(Debug)]
pub enum What {
    /// It runs: exec has succeeded.
    Started {
        /// Its process, and its group.
        pid: i32,
    },
    /// It said something.
    Notified {
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
        /// The process that said it; 0 if it is of another pid namespace.
        pid: i32,
        /// Its user.
        uid: u32,
        /// The cause.
        why: Ignored,
    },
    /// More was said than is read in a second: the rest waits, unread, in the socket.
    /// Told once per life; each time is counted.
    NotifyFlooded,
    /// It starts without NOTIFY_SOCKET.
    NotifyUnavailable {
        /// The cause.
        error: NotifyError,
    },
    /// It has been silent for so long after it promised not to be; `None`: it asked for help
    /// itself (`WATCHDOG=trigger`). Nothing has been done about it yet: see [`Supervisor::fail`].
    Watchdog {
        /// How long.
        silence: Option<Duration>,
    },
    /// A line of its output is what was looked for. Told once for each pattern and life; it
    /// may come after the end of that life.
    Line {
        /// The pattern, by its place in [`Command::watch_output`].
        pattern: usize,
        /// The line, as it was looked at: not fit for a terminal.
        line: String,
    },
    /// Somebody pressed a key at the terminal that it has. It has got the signal too.
    Key(Key),
    /// It was stopped. If the terminal did it, greenroom stops too.
    Stopped {
        /// By this signal.
        signal: i32,
    },
    /// It goes on.
    Continued,
    /// It ended. What it left behind may still run.
    Ended {
        /// How.
        end: End,
        /// It had the terminal, and ended as programs do that were interrupted there: the user
        /// wants to stop, not to restart. [`What::Key`] has been told before, unless it reads
        /// the keys itself.
        interrupted: bool,
    },
}

/// A key that means a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Ctrl-C, SIGINT.
    Interrupt,
    /// Ctrl-\, SIGQUIT.
    Quit,
}

/// How [`Supervisor::terminate`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    /// Somebody was still there when the grace was over.
    pub killed: bool,
    /// So many are there even after KILL.
    pub left: usize,
}

impl Termination {
    /// There was nobody to be ended.
    const NOBODY: Self = Self { killed: false, left: 0 };
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
    floods: AtomicU64,
}

impl Tell {
    fn tell(&self, happening: Happening) {
        (self.0.tell)(happening);
    }

    fn count_orphans(&self, count: u64) {
        self.0.orphans.fetch_add(count, Ordering::Relaxed);
    }

    fn count_ignored(&self) {
        self.0.ignored.fetch_add(1, Ordering::Relaxed);
    }

    fn count_flood(&self) {
        self.0.floods.fetch_add(1, Ordering::Relaxed);
    }
}

/// Signals that wait to be acted on: one request each at a time, however many come.
#[derive(Debug, Default)]
struct Pending {
    reap: AtomicBool,
    continued: AtomicBool,
}

impl Pending {
    fn reap(&self) -> &AtomicBool {
        &self.reap
    }

    fn continued(&self) -> &AtomicBool {
        &self.continued
    }
}

/// Owns the children. One per process: it waits for all children of this process.
/// See the module for what to call when.
#[derive(Clone)]
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
    tell: Tell,
    children: usize,
    outlets: Arc<Outlets>,
}

impl Supervisor {
    /// Starts the supervisor's thread, and no child yet. Call it within a tokio
    /// runtime, once per process, in a program that begins with
    /// [`warden::main_if_called`].
    ///
    /// `tell` is called from the supervisor's thread and from the notify tasks. It
    /// must not block: hand the happening on and return.
    ///
    /// # Errors
    /// When the system lacks what a parent needs.
    pub fn start(
        commands: Vec<Command>,
        tell: impl Fn(Happening) + Send + Sync + 'static,
    ) -> Result<Self, SuperviseError> {
        Self::start_with(warden::Call::default(), commands, tell)
    }

    /// As [`Supervisor::start`], for a program that is a warden when it is called in another way.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        call: warden::Call,
        commands: Vec<Command>,
        tell: impl Fn(Happening) + Send + Sync + 'static,
    ) -> Result<Self, SuperviseError> {
        let tell = Tell(Arc::new(Told {
            tell: Box::new(tell),
            orphans: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            floods: AtomicU64::new(0),
        }));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| SuperviseError::Subreaper(error.into()))?;
        let (requests, taken) = mpsc::channel();
        let pending = Arc::new(Pending::default());
        let (child, cont) = (SignalKind::child(), SignalKind::from_raw(Signal::CONT.as_raw()));
        subscribe(child, &requests, &pending, Pending::reap, || Request::Reap)?;
        subscribe(cont, &requests, &pending, Pending::continued, || Request::Continued)?;
        let children = commands.len();
        let outlets = Arc::new(Outlets::new());
        let out = Arc::clone(&outlets);
        let keeper = Keeper::new(commands, call, tell.clone(), pending, requests.clone(), out);
        let thread = std::thread::Builder::new().name("supervise".into());
        thread
            .spawn(move || keeper.run(&taken))
            .map_err(SuperviseError::Thread)?;
        // What killed greenrooms have left, off the way of everything else.
        tokio::task::spawn_blocking(|| folder::remove_stale(&folder::places()));
        Ok(Self {
            requests,
            tell,
            children,
            outlets,
        })
    }

    /// All its children.
    pub fn children(&self) -> impl Iterator<Item = ChildId> + use<> {
        (0..self.children).map(ChildId)
    }

    /// Starts a life of `child`, one at a time. Gives its pid.
    ///
    /// # Errors
    /// When it cannot be started: see [`SpawnError::exit_code`].
    pub async fn spawn(&self, child: ChildId, generation: Generation) -> Result<i32, SpawnError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Spawn {
            child,
            generation,
            reply,
        };
        self.requests.send(request).map_err(|_| SpawnError::Gone)?;
        answer.await.map_err(|_| SpawnError::Gone)?
    }

    /// Sends `signal` to the child's group, if it runs.
    pub fn forward(&self, child: ChildId, signal: Signal) {
        let _ = self.requests.send(Request::Forward(child, signal)); // fails only when the thread has panicked
    }

    /// Ends the child and everything it started: TERM to all, and KILL to what is
    /// left after `grace` (at once if it is zero). Returns when nobody is there
    /// any more, or [`greenroom_core::limits::SWEEP_MAX`] after KILL. Asked again
    /// meanwhile, the shorter grace counts. Other children are not touched.
    pub async fn terminate(&self, child: ChildId, grace: Duration) -> Termination {
        self.ask_to_end(child, grace).await.unwrap_or(Termination::NOBODY)
    }

    /// [`Supervisor::terminate`] for all children at the same time. `killed`: at least
    /// one had to be; `left` is the sum.
    pub async fn terminate_all(&self, grace: Duration) -> Termination {
        // All are asked before the first answer is waited for.
        let answers: Vec<_> = self.children().map(|child| self.ask_to_end(child, grace)).collect();
        let mut all = Termination::NOBODY;
        for answer in answers {
            let one = answer.await.unwrap_or(Termination::NOBODY);
            all = Termination {
                killed: all.killed || one.killed,
                left: all.left + one.left,
            };
        }
        all
    }

    /// Ends this life of the child as one that has failed: `signal` to all of it (as a rule
    /// TERM, and ABRT for a watchdog), and KILL to what is left after `grace`. Its end is
    /// told as any other ([`What::Ended`]), whatever its code: the caller knows that it is a
    /// failure. Does nothing when that life is over, or is being ended already.
    pub fn fail(&self, child: ChildId, generation: Generation, signal: Signal, grace: Duration) {
        let _ = self.requests.send(Request::Fail {
            child,
            generation,
            signal,
            grace,
        }); // fails only when the thread has panicked
    }

    /// Waits until the output of children that are gone is passed on
    /// ([`Command::watch_output`]), for `longest` at the most. False if some of it is lost.
    pub async fn flush_output(&self, longest: Duration) -> bool {
        self.outlets.flush(longest).await
    }

    fn ask_to_end(&self, child: ChildId, grace: Duration) -> oneshot::Receiver<Termination> {
        let (reply, answer) = oneshot::channel();
        // Fails only when the thread has panicked: then the answer fails too.
        let _ = self.requests.send(Request::Terminate { child, grace, reply });
        answer
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

    /// How often more was said within a second than is read.
    #[must_use]
    pub fn notify_floods(&self) -> u64 {
        self.tell.0.floods.load(Ordering::Relaxed)
    }
}

/// Turns each `kind` into a request, at most one at a time.
fn subscribe(
    kind: SignalKind,
    requests: &mpsc::Sender<Request>,
    pending: &Arc<Pending>,
    flag: fn(&Pending) -> &AtomicBool,
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
