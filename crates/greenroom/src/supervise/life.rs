//! One child as the supervisor's thread sees it: its life, and its end.
//!
//! ```text
//!            spawn             report            report
//!   nobody ─────────▶ Starting ───────▶ Running ────────▶ Over ──▶ nobody
//!      ▲                 │ failed                          ▲  │ swept, or spawned anew
//!      └─────────────────┴─────────────────────────────────┘  ▼
//!                                                     its warden is killed
//! ```
//!
//! A life lasts until its warden is waited for *and* has said its last word, as
//! the one comes from the kernel and the other through a socket. Pure but for the
//! signal that dismisses a warden, and the size of the child's screens.

use std::process::Child;
use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use greenroom_core::limits;
use rustix::process::{Pid, Signal};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::Termination;
use super::command::Command;
use super::notify::NotifySocket;
use super::output::Screen;
use super::spawn::SpawnError;
use super::sweep;

/// A child that can be started: at most one life at a time.
pub(super) struct Slot {
    pub(super) command: Command,
    pub(super) life: Option<Life>,
    pub(super) ending: Option<Ending>,
    /// Its warden was killed: what was below it is ours now.
    pub(super) lost: bool,
}

/// From the fork of a warden until it is gone.
pub(super) struct Life {
    pub(super) generation: Generation,
    pub(super) warden: Pid,
    pub(super) phase: Phase,
    /// The warden has been waited for: its number, and that of the group, may be another's.
    pub(super) reaped: bool,
    /// The warden says nothing more.
    pub(super) silent: bool,
    /// The warden was killed by us, as there is nothing left to guard.
    pub(super) dismissed: bool,
    /// It was given the terminal.
    pub(super) foreground: bool,
    /// The user that it runs as.
    pub(super) uid: u32,
    /// The names of its notify socket, removed with this, and the task that reads it.
    pub(super) socket: Option<NotifySocket>,
    pub(super) reader: Option<AbortHandle>,
    /// Signals that came for it before it was known to run: it gets each of them once, then.
    pub(super) missed: Vec<Signal>,
    /// Whether its silence does not count now.
    pub(super) held: watch::Sender<bool>,
    /// The terminals that stand for ours while its output is looked through.
    pub(super) screens: Vec<Screen>,
    /// Keeps nothing alive; the library's handle of the warden, never waited on.
    pub(super) _handle: Child,
}

/// How far a life has got.
pub(super) enum Phase {
    /// The warden was started.
    Starting(oneshot::Sender<Result<i32, SpawnError>>),
    /// The child runs. Its group, if the warden keeps its number.
    Running { pid: Pid, joined: bool },
    /// It has ended; what it left behind may still be below the warden, and in its group.
    Over { group: Option<Pid> },
}

impl Slot {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            life: None,
            ending: None,
            lost: false,
        }
    }

    /// Whether no other life may begin.
    pub(super) fn is_busy(&self) -> bool {
        self.ending.is_some() || self.life.as_ref().is_some_and(|life| !life.is_over())
    }

    pub(super) fn program(&self) -> String {
        self.command.program.to_string_lossy().into_owned()
    }

    /// The living life of this generation.
    pub(super) fn life_of(&mut self, generation: Generation) -> Option<&mut Life> {
        self.life.as_mut().filter(|life| life.generation == generation)
    }
}

impl Life {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// The child, while it runs.
    pub(super) fn child(&self) -> Option<Pid> {
        match self.phase {
            Phase::Running { pid, .. } => Some(pid),
            Phase::Starting(_) | Phase::Over { .. } => None,
        }
    }

    /// The group whose number cannot be another's now.
    pub(super) fn group(&self) -> Option<Pid> {
        let group = match self.phase {
            Phase::Running { pid, joined } => joined.then_some(pid),
            Phase::Over { group } => group,
            Phase::Starting(_) => None,
        };
        group.filter(|_| !self.reaped)
    }

    /// Kills the warden. What it guards, if anything, comes to us.
    pub(super) fn dismiss(&mut self) {
        if !self.reaped && !self.dismissed {
            let _ = rustix::process::kill_process(self.warden, Signal::KILL); // not waited for, so it is there
        }
        self.dismissed = true;
    }

    /// Its silence does not count, or counts again, from anew.
    pub(super) fn hold_watchdog(&self, held: bool) {
        self.held.send_if_modified(|now| std::mem::replace(now, held) != held);
    }

    /// Our terminal may have another size: so have those that stand for it. The child may
    /// have `heard` of it already, and looked at theirs too early: it is told once more.
    pub(super) fn take_size(&self, heard: bool) {
        let changed = self.screens.iter().filter(|screen| screen.take_size()).count();
        if let (true, true, Some(group)) = (heard, changed > 0, self.group()) {
            sweep::signal_group(group, Signal::WINCH);
        }
    }

    /// Nothing more is read from its notify socket, and its names go.
    pub(super) fn stop_listening(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.abort();
        }
        self.socket = None;
    }
}

/// An end that was asked for.
pub(super) struct Ending {
    pub(super) stage: Stage,
    /// When the stage is over.
    pub(super) deadline: Instant,
    pub(super) next_look: Option<Instant>,
    pub(super) killed: bool,
    /// What it begins with.
    pub(super) signal: Signal,
    /// No extension goes beyond.
    latest: Instant,
    replies: Vec<oneshot::Sender<Termination>>,
}

/// How far an end has got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// TERM was sent.
    Grace,
    /// KILL is sent, again and again.
    Killing,
    /// Only the warden is left, and has been killed.
    Leaving,
}

impl Ending {
    pub(super) fn new(deadline: Instant, signal: Signal) -> Self {
        Self {
            stage: Stage::Grace,
            deadline,
            signal,
            latest: deadline + limits::EXTEND_TIMEOUT_MAX,
            next_look: None,
            killed: false,
            replies: Vec::new(),
        }
    }

    /// Asked once more: the shorter grace counts. After KILL there is none.
    pub(super) fn ask(&mut self, deadline: Instant, reply: oneshot::Sender<Termination>) {
        self.replies.push(reply);
        if self.stage == Stage::Grace {
            self.deadline = self.deadline.min(deadline);
        }
    }

    /// The child asks for time until then: EXTEND_TIMEOUT_USEC. Never shortens.
    pub(super) fn extend(&mut self, until: Instant) {
        if self.stage == Stage::Grace {
            self.deadline = self.deadline.max(until.min(self.latest));
        }
    }

    pub(super) fn enter(&mut self, stage: Stage, now: Instant, length: Duration) {
        self.stage = stage;
        self.deadline = now + length;
        self.killed |= stage == Stage::Killing;
    }

    pub(super) fn next_wake(&self) -> Instant {
        self.next_look.map_or(self.deadline, |look| look.min(self.deadline))
    }

    /// Tells all who asked.
    pub(super) fn finish(self, left: usize) {
        for reply in self.replies {
            let _ = reply.send(Termination {
                killed: self.killed,
                left,
            }); // nobody waits for it any more
        }
    }
}

/// What to do about an end now.
pub(super) enum Next {
    /// Wait.
    Nothing,
    /// KILL to all.
    Kill,
    /// It is over, with so many left.
    Finish(usize),
}

impl Slot {
    /// Where an ending has got to, when so many are left of the child.
    pub(super) fn look(&mut self, now: Instant, left: usize) -> Next {
        let Some(ending) = &mut self.ending else {
            return Next::Nothing;
        };
        if left == 0 && self.life.as_ref().is_none_or(Life::is_over) {
            let Some(life) = &mut self.life else {
                return Next::Finish(0); // what is left was there before us, or is another's
            };
            if ending.stage != Stage::Leaving {
                life.dismiss();
                ending.next_look = None;
                ending.enter(Stage::Leaving, now, limits::SWEEP_MAX);
            }
            // Its end comes as a signal; one that cannot end must not keep us.
            return if now >= ending.deadline {
                Next::Finish(0)
            } else {
                Next::Nothing
            };
        }
        if ending.stage == Stage::Killing && now >= ending.deadline {
            return Next::Finish(left);
        }
        if ending.stage == Stage::Leaving || now >= ending.deadline {
            ending.enter(Stage::Killing, now, limits::SWEEP_MAX);
        }
        if ending.stage != Stage::Killing {
            return Next::Nothing;
        }
        // Again at each look: one may have been born while the others were killed.
        ending.next_look = Some(now + limits::SWEEP_EVERY);
        Next::Kill
    }
}
