//! The supervisor's thread: the only one that starts, signals and waits.
//!
//! One thread for all three, as then nothing happens in between: no pid is
//! waited for while a signal to it is on its way, and the library, which waits for
//! a child whose exec failed, finds it. It never ends, as the kernel kills the
//! child (PDEATHSIG) with the *thread* that forked it.
//!
//! ```text
//!            spawn            TERM, or the child's own end
//!   Nobody ─────────▶ Child ───────────────────────────────▶ Nobody
//!      │                │ terminate                             ▲
//!      └──────────────▶ Ending: TERM to all ── grace ──▶ KILL to all ── SWEEP_MAX
//! ```
//!
//! Requests come over a channel; SIGCHLD and SIGCONT come as requests too, each
//! at most once at a time, so the channel is as short as its callers are few.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use greenroom_core::limits;
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::command::Command;
use super::notify::{self, NotifySocket};
use super::procfs::Process;
use super::reap::{self, Change, End, News};
use super::sender::Kin;
use super::spawn::{self, SpawnError};
use super::sweep::{self, Family};
use super::terminal::{self, Terminal};
use super::{Happening, Pending, Tell, Termination};

/// What the thread is asked for.
pub(super) enum Request {
    Spawn {
        generation: Generation,
        reply: oneshot::Sender<Result<i32, SpawnError>>,
    },
    Forward(Signal),
    Terminate {
        grace: Duration,
        reply: oneshot::Sender<Termination>,
    },
    /// SIGCHLD came.
    Reap,
    /// SIGCONT came.
    Continued,
}

/// A child that has not been waited for.
struct Living {
    generation: Generation,
    pid: Pid,
    /// Keeps nothing alive; the library's handle, never waited on.
    _handle: Child,
    /// The names of its notify socket, removed with this, and the task that reads it.
    _socket: Option<NotifySocket>,
    reader: Option<AbortHandle>,
}

/// An end that was asked for.
struct Ending {
    deadline: Instant,
    killed: bool,
    next_look: Option<Instant>,
    replies: Vec<oneshot::Sender<Termination>>,
}

/// See the module.
pub(super) struct Keeper {
    pub(super) command: Command,
    pub(super) tell: Tell,
    pub(super) pending: Arc<Pending>,
    pub(super) runtime: tokio::runtime::Handle,
    family: Family,
    terminal: Option<Terminal>,
    child: Option<Living>,
    ending: Option<Ending>,
}

impl Keeper {
    pub(super) fn new(command: Command, tell: Tell, pending: Arc<Pending>, runtime: tokio::runtime::Handle) -> Self {
        let (family, terminal) = (Family::new(), Terminal::at_stdin());
        Self {
            command,
            tell,
            pending,
            runtime,
            family,
            terminal,
            child: None,
            ending: None,
        }
    }

    /// Never returns.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let request = match self.next_wake() {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => requests.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match request {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => self.look(),
                // The runtime is gone, and the process is about to be. Until then
                // this thread must not end: see the module.
                Err(RecvTimeoutError::Disconnected) => loop {
                    std::thread::park();
                },
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let ending = self.ending.as_ref()?;
        Some(
            ending
                .next_look
                .map_or(ending.deadline, |look| look.min(ending.deadline)),
        )
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Spawn { generation, reply } => {
                let started = self.spawn(generation);
                let _ = reply.send(started); // nobody waits for it: Started was told
            }
            Request::Forward(signal) => {
                if let Some(child) = &self.child {
                    sweep::signal_group(child.pid, signal);
                }
            }
            Request::Terminate { grace, reply } => self.terminate(grace, reply),
            Request::Reap => {
                self.pending.reap.store(false, Ordering::Release);
                self.reap();
            }
            Request::Continued => {
                self.pending.continued.store(false, Ordering::Release);
                self.resume();
            }
        }
    }

    fn spawn(&mut self, generation: Generation) -> Result<i32, SpawnError> {
        if self.child.is_some() || self.ending.is_some() {
            return Err(SpawnError::Busy {
                program: self.command.program.to_string_lossy().into_owned(),
            });
        }
        let mut socket = self
            .command
            .notify
            .then(NotifySocket::new)
            .transpose()
            .unwrap_or_else(|error| {
                self.tell.tell(Happening::NotifyUnavailable { generation, error });
                None
            });
        let foreground = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        let handle = spawn::spawn(&self.command, socket.as_ref().map(NotifySocket::path), foreground);
        if handle.is_err() && foreground {
            self.take_terminal_from_nobody();
        }
        let handle = handle?;
        let number = handle.id().cast_signed();
        let pid = Pid::from_raw(number).ok_or(SpawnError::Gone)?; // a child has a number
        self.tell.tell(Happening::Started {
            generation,
            pid: number,
        });
        let reader = socket.as_mut().and_then(NotifySocket::take).and_then(|socket| {
            let kin = Kin {
                us: self.family.us(),
                child: Process::read(number)?, // not waited for, so it is there
                uid: rustix::process::getuid().as_raw(),
                spared: self.family.spared(),
            };
            Some(
                self.runtime
                    .spawn(notify::listen(socket, generation, kin, self.tell.clone()))
                    .abort_handle(),
            )
        });
        self.child = Some(Living {
            generation,
            pid,
            _handle: handle,
            _socket: socket,
            reader,
        });
        Ok(number)
    }

    /// A child whose exec failed had the terminal already.
    fn take_terminal_from_nobody(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.take_back_from_anyone();
        }
    }

    fn reap(&mut self) {
        loop {
            match reap::next() {
                News::Of(pid, change) if self.child.as_ref().is_some_and(|child| child.pid == pid) => {
                    self.child_changed(change);
                }
                News::Of(_, Change::Ended(_)) => self.tell.count_orphan(),
                News::Of(_, Change::Stopped(_) | Change::Continued) => {}
                News::NoneYet => break,
                News::NoChildren => return self.finish(0),
            }
        }
        self.look();
    }

    fn child_changed(&mut self, change: Change) {
        let Some((pid, generation)) = self.child.as_ref().map(|child| (child.pid, child.generation)) else {
            return;
        };
        match change {
            Change::Ended(end) => self.child_ended(pid, generation, end),
            Change::Stopped(signal) => {
                self.tell.tell(Happening::Stopped { generation, signal });
                self.stop_with_child(pid, signal);
            }
            Change::Continued => self.tell.tell(Happening::Continued { generation }),
        }
    }

    fn child_ended(&mut self, pid: Pid, generation: Generation, end: End) {
        // Its socket's names go here, before anybody hears of its end.
        if let Some(reader) = self.child.take().and_then(|child| child.reader) {
            reader.abort();
        }
        let held = self.terminal.as_ref().is_some_and(|terminal| terminal.take_back(pid));
        if let (true, Some(terminal), End::Signalled(_)) = (held, &self.terminal, end) {
            terminal.restore_modes(); // it had no time to do so itself
        }
        let by_key = match end {
            End::Signalled(signal) => [Signal::INT, Signal::QUIT].iter().any(|key| key.as_raw() == signal),
            End::Exited(code) => code == 130,
        };
        self.tell.tell(Happening::Ended {
            generation,
            end,
            interrupted: held && by_key,
        });
    }

    /// Ctrl-Z went to the child alone; the shell that waits for us must see it too.
    /// A SIGSTOP came from somebody who means the child: we go on serving.
    fn stop_with_child(&mut self, pid: Pid, signal: i32) {
        let by_terminal = [Signal::TSTP, Signal::TTIN, Signal::TTOU]
            .iter()
            .any(|stop| stop.as_raw() == signal);
        let Some(terminal) = self.terminal.as_ref().filter(|_| by_terminal && self.ending.is_none()) else {
            return;
        };
        terminal.take_back(pid);
        if terminal::is_own_group_orphaned() {
            return self.resume(); // nobody could continue us
        }
        spawn::stop_own_group(); // the SIGCONT that ends this comes as a request
    }

    fn resume(&mut self) {
        let Some(child) = &self.child else { return };
        if let Some(terminal) = &self.terminal {
            terminal.lend(child.pid);
        }
        sweep::signal_group(child.pid, Signal::CONT);
    }

    fn terminate(&mut self, grace: Duration, reply: oneshot::Sender<Termination>) {
        let deadline = Instant::now() + grace;
        if let Some(ending) = &mut self.ending {
            // Asked twice: the shorter grace counts. After KILL there is none.
            ending.replies.push(reply);
            if !ending.killed {
                ending.deadline = ending.deadline.min(deadline);
            }
        } else {
            self.ending = Some(Ending {
                deadline,
                killed: false,
                next_look: None,
                replies: vec![reply],
            });
            if !grace.is_zero() {
                let leader = self.child.as_ref().map(|child| child.pid);
                self.family.signal(leader, Signal::TERM);
                self.family.signal(leader, Signal::CONT); // a stopped one could not end
            }
        }
        self.reap();
    }

    /// Where an ending has got to.
    fn look(&mut self) {
        let Some(ending) = &mut self.ending else { return };
        let now = Instant::now();
        let members = self.family.members();
        if members.is_empty() && self.child.is_none() {
            return self.finish(0); // what is left was there before us
        }
        if now >= ending.deadline && ending.killed {
            return self.finish(members.len());
        }
        if now >= ending.deadline {
            ending.killed = true;
            ending.deadline = now + limits::SWEEP_MAX;
        }
        if ending.killed {
            // Again at each look: one may have been born while the others were killed.
            self.family
                .signal(self.child.as_ref().map(|child| child.pid), Signal::KILL);
            ending.next_look = Some(now + limits::SWEEP_EVERY);
        }
    }

    fn finish(&mut self, left: usize) {
        let Some(ending) = self.ending.take() else { return };
        for reply in ending.replies {
            let _ = reply.send(Termination {
                killed: ending.killed,
                left,
            });
        }
    }
}
