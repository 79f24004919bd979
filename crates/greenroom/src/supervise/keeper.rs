//! The supervisor's thread: the only one that starts, signals and waits.
//!
//! One thread for all three, as then nothing happens in between: no pid is
//! waited for while a signal to it is on its way, and the library, which waits for
//! a warden whose exec failed, finds it. It never ends.
//!
//! It keeps each child in a slot of its own (`life`): one end does not wait for
//! another. Requests come over a channel; SIGCHLD and SIGCONT come as requests too,
//! each at most once at a time, and so do the reports of the wardens, a few in a
//! life. So the channel is as short as its callers are few.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use rustix::process::{Pid, Signal, getuid};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::account::Account;
use super::life::{Ending, Life, Phase, Slot};
use super::notify::{self, NotifySocket};
use super::output::{Outlets, Output, Screen};
use super::procfs::Process;
use super::reap::{self, Change, End, News};
use super::sender::Kin;
use super::spawn::{self, SpawnError, Step};
use super::sweep::{self, Family};
use super::terminal::{self, Terminal};
use super::warden::{self, Call, Report, spec::Spec};
use super::{ChildId, Command, Happening, Key, Pending, Tell, Termination, What};

/// What the thread is asked for.
pub(super) enum Request {
    Spawn {
        child: ChildId,
        generation: Generation,
        reply: oneshot::Sender<Result<i32, SpawnError>>,
    },
    Forward(ChildId, Signal),
    Terminate {
        child: ChildId,
        grace: Duration,
        reply: oneshot::Sender<Termination>,
    },
    /// This life has failed, and is to end.
    Fail {
        child: ChildId,
        generation: Generation,
        signal: Signal,
        grace: Duration,
    },
    /// The child asks for more time.
    Extend(ChildId, Generation, Duration),
    /// A warden said something; `None`: it says nothing more.
    Report(ChildId, Generation, Option<Report>),
    /// SIGCHLD came.
    Reap,
    /// SIGCONT came.
    Continued,
}

/// See the module.
pub(super) struct Keeper {
    pub(super) slots: Vec<Slot>,
    tell: Tell,
    pending: Arc<Pending>,
    runtime: tokio::runtime::Handle,
    /// For the tasks that read what wardens say.
    requests: Sender<Request>,
    call: Call,
    pub(super) family: Family,
    terminal: Option<Terminal>,
    outlets: Arc<Outlets>,
}

impl Keeper {
    pub(super) fn new(
        commands: Vec<Command>,
        call: Call,
        tell: Tell,
        pending: Arc<Pending>,
        requests: Sender<Request>,
        outlets: Arc<Outlets>,
    ) -> Self {
        // Two cannot read from one terminal: it is lent to an only child.
        let terminal = (commands.len() == 1).then(Terminal::at_stdin).flatten();
        Self {
            slots: commands.into_iter().map(Slot::new).collect(),
            tell,
            pending,
            runtime: tokio::runtime::Handle::current(),
            requests,
            call,
            family: Family::new(),
            terminal,
            outlets,
        }
    }

    /// Never returns.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let next_wake = self.slots.iter().filter_map(|slot| slot.ending.as_ref());
            let request = match next_wake.map(Ending::next_wake).min() {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => requests.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match request {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => self.look_at_all(),
                // Cannot be: we hold a sender ourselves. The thread must not end all the same.
                Err(RecvTimeoutError::Disconnected) => std::thread::park(),
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Spawn {
                child,
                generation,
                reply,
            } => self.spawn(child, generation, reply),
            Request::Forward(child, signal) => self.forward(child, signal),
            Request::Terminate { child, grace, reply } => self.terminate(child, grace, reply),
            Request::Fail {
                child,
                generation,
                signal,
                grace,
            } => self.fail(child, generation, signal, grace),
            Request::Extend(child, generation, by) => self.extend(child, generation, by),
            Request::Report(child, generation, report) => self.hear(child, generation, report),
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

    // ── Starting ───────────────────────────────────────────────────────────

    fn spawn(&mut self, child: ChildId, generation: Generation, reply: oneshot::Sender<Result<i32, SpawnError>>) {
        let refused = match self.slots.get_mut(child.0) {
            None => Some(SpawnError::Gone),
            Some(slot) if slot.is_busy() => Some(SpawnError::Busy {
                program: slot.program(),
            }),
            Some(slot) => {
                if let Some(mut before) = slot.life.take() {
                    slot.lost |= !before.dismissed; // nobody has swept
                    before.dismiss();
                }
                None
            }
        };
        let started = match refused {
            Some(refused) => Err(refused),
            None => self.start(child, generation),
        };
        match started {
            Ok(begun) => {
                if let Some(slot) = self.slots.get_mut(child.0) {
                    slot.life = Some(begun(Phase::Starting(reply)));
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error)); // nobody waits for it
            }
        }
    }

    /// Starts a warden. Gives the life, which only lacks its phase.
    fn start(
        &mut self,
        child: ChildId,
        generation: Generation,
    ) -> Result<impl FnOnce(Phase) -> Life + use<>, SpawnError> {
        let many = self.slots.len() > 1;
        let Some(slot) = self.slots.get(child.0) else {
            return Err(SpawnError::Gone);
        };
        let command = &slot.command;
        let found = Account::find(command.user.as_deref(), command.group.as_deref());
        let (account, variables) = match found {
            Ok(found) => found.unzip(),
            Err(error) => {
                let program = slot.program();
                return Err(SpawnError::Account { program, error });
            }
        };
        let socket = command.notify.then(NotifySocket::new).transpose();
        let socket = socket.unwrap_or_else(|error| {
            let what = What::NotifyUnavailable { error };
            self.tell.tell(Happening {
                child,
                generation,
                what,
            });
            None
        });
        let foreground = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        let uid = account.as_ref().map_or(getuid().as_raw(), |account| account.uid);
        let path = socket.as_ref().map(NotifySocket::path);
        let spec = Spec {
            program: command.program.clone(),
            args: command.args.clone(),
            env: command.environment(std::env::vars_os(), &variables.unwrap_or_default(), path),
            cwd: command.cwd.clone(),
            account,
            nofile: command.nofile.map(|limit| (limit.current, limit.maximum)),
            foreground,
            stdin_null: many,
            folder: socket.as_ref().and_then(NotifySocket::folder),
        };
        let wrong = |step| move |error| SpawnError::new(command, step, error);
        let watched = !command.watch_output.is_empty();
        let output = watched.then(|| Output::new(spec.account.as_ref())).transpose();
        let (output, ends) = output.map_err(wrong(Step::Other))?.unzip();
        let (handle, reports) = warden::start(&self.call, &spec, ends).map_err(wrong(Step::Warden))?;
        let screens = output.map(|output| self.look_through(output, command, child, generation));
        let warden = Pid::from_child(&handle);
        self.family.add_warden(warden);
        self.runtime
            .spawn(listen(reports, child, generation, self.requests.clone()));
        Ok(move |phase| Life {
            generation,
            warden,
            phase,
            reaped: false,
            silent: false,
            dismissed: false,
            foreground,
            uid,
            socket,
            reader: None,
            missed: Vec::new(),
            held: watch::Sender::new(false),
            screens: screens.unwrap_or_default(),
            _handle: handle,
        })
    }

    /// Passes on what the child writes, and tells what is found in it; gives its screens.
    fn look_through(&self, output: Output, command: &Command, child: ChildId, generation: Generation) -> Vec<Screen> {
        let tell = self.tell.clone();
        output.pass_on(
            &self.runtime,
            &self.outlets,
            &command.watch_output,
            move |pattern, line| {
                let what = What::Line { pattern, line };
                tell.tell(Happening {
                    child,
                    generation,
                    what,
                });
            },
        )
    }

    // ── What the wardens say ───────────────────────────────────────────────

    fn hear(&mut self, child: ChildId, generation: Generation, report: Option<Report>) {
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        let is_ending = slot.ending.is_some();
        let Some(life) = slot.life_of(generation) else {
            return; // of a life that was given up
        };
        match report {
            Some(Report::Started { pid, joined }) => self.started(child, pid, joined),
            Some(Report::Failed { step, errno }) => self.failed(child, step, errno),
            Some(Report::Ended(end)) => self.ended(child, end),
            Some(Report::Stopped(signal)) => {
                if is_by_terminal(signal) {
                    life.hold_watchdog(true);
                }
                let what = What::Stopped { signal };
                self.tell.tell(Happening {
                    child,
                    generation,
                    what,
                });
                self.stop_with_child(child, signal);
            }
            Some(Report::Continued) => {
                life.hold_watchdog(is_ending);
                let what = What::Continued;
                self.tell.tell(Happening {
                    child,
                    generation,
                    what,
                });
            }
            Some(Report::Key(signal)) if signal == Signal::WINCH.as_raw() => life.take_size(true),
            Some(Report::Key(signal)) => {
                let what = What::Key(if signal == Signal::QUIT.as_raw() {
                    Key::Quit
                } else {
                    Key::Interrupt
                });
                self.tell.tell(Happening {
                    child,
                    generation,
                    what,
                });
            }
            Some(Report::Orphans(count)) => self.tell.count_orphans(count.max(0).unsigned_abs().into()),
            None => {
                life.silent = true;
                self.warden_gone(child);
            }
        }
        self.look_at(child);
    }

    fn started(&mut self, child: ChildId, number: i32, joined: bool) {
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        let (Some(life), Some(pid)) = (&mut slot.life, Pid::from_raw(number)) else {
            return;
        };
        let before = std::mem::replace(&mut life.phase, Phase::Running { pid, joined });
        let Phase::Starting(reply) = before else {
            life.phase = before; // said twice: no warden does
            return;
        };
        let generation = life.generation;
        let what = What::Started { pid: number };
        self.tell.tell(Happening {
            child,
            generation,
            what,
        });
        // Not before its start is told; what it has said meanwhile waits in the socket.
        let socket = life.socket.as_mut().and_then(NotifySocket::take);
        if let (Some(socket), Some(process)) = (socket, Process::read(number)) {
            let kin = Kin {
                family: self.family.clone(),
                warden: life.warden.as_raw_nonzero().get(),
                child: process,
                uid: life.uid,
            };
            let requests = self.requests.clone();
            let reader = notify::listen(
                socket,
                notify::Life {
                    child,
                    generation,
                    kin,
                    tell: self.tell.clone(),
                    watchdog: slot.command.watchdog,
                    held: life.held.subscribe(),
                    extend: Box::new(move |by| {
                        let _ = requests.send(Request::Extend(child, generation, by)); // the thread never ends
                    }),
                },
            );
            life.reader = Some(self.runtime.spawn(reader).abort_handle());
        }
        if let Some(ending) = &slot.ending {
            sweep::signal(life.group(), &sweep::below(life.warden), ending.signal); // it missed the first
        }
        let missed = std::mem::take(&mut life.missed);
        let _ = reply.send(Ok(number)); // nobody waits for it: Started was told
        for signal in missed {
            self.forward(child, signal);
        }
    }

    fn failed(&mut self, child: ChildId, step: Step, errno: i32) {
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        let Some(life) = &mut slot.life else { return };
        let before = std::mem::replace(&mut life.phase, Phase::Over { group: None });
        let Phase::Starting(reply) = before else {
            life.phase = before; // the first of several counts
            return;
        };
        life.stop_listening();
        if let (true, Some(terminal)) = (life.foreground, &self.terminal) {
            terminal.take_back_from_anyone(); // one whose exec failed had it already
        }
        let error = std::io::Error::from_raw_os_error(errno);
        let _ = reply.send(Err(SpawnError::new(&slot.command, step, error))); // nobody waits for it
    }

    fn ended(&mut self, child: ChildId, end: End) {
        let Some(life) = self.slots.get_mut(child.0).and_then(|slot| slot.life.as_mut()) else {
            return;
        };
        let (generation, Some(pid)) = (life.generation, life.child()) else {
            return;
        };
        life.phase = Phase::Over { group: life.group() };
        life.stop_listening(); // before anybody hears of its end
        let held = self.terminal.as_ref().is_some_and(|terminal| terminal.take_back(pid));
        if let (true, Some(terminal), End::Signalled(_)) = (held, &self.terminal, end) {
            terminal.restore_modes(); // it had no time to do so itself
        }
        let by_key = match end {
            End::Signalled(signal) => [Signal::INT, Signal::QUIT].iter().any(|key| key.as_raw() == signal),
            End::Exited(code) => code == 130,
        };
        let what = What::Ended {
            end,
            interrupted: held && by_key,
        };
        self.tell.tell(Happening {
            child,
            generation,
            what,
        });
    }

    // ── Waiting ────────────────────────────────────────────────────────────

    pub(super) fn reap(&mut self) {
        loop {
            match reap::next() {
                News::Of(pid, Change::Ended(_)) if self.family.remove_warden(pid) => {
                    let mut lives = self.slots.iter_mut().enumerate();
                    let found = lives.find_map(|(n, slot)| Some((n, slot.life.as_mut().filter(|l| l.warden == pid)?)));
                    if let Some((n, life)) = found {
                        life.reaped = true;
                        self.warden_gone(ChildId(n));
                    }
                }
                News::Of(_, Change::Ended(_)) => self.tell.count_orphans(1),
                // A SIGSTOP for the child's group: the warden has to tell of it.
                News::Of(pid, Change::Stopped(_)) if self.family.is_warden(pid.as_raw_nonzero().get()) => {
                    let _ = rustix::process::kill_process(pid, Signal::CONT);
                }
                News::Of(_, Change::Stopped(_) | Change::Continued) => {}
                News::NoneYet | News::NoChildren => break,
            }
        }
        self.look_at_all();
    }

    /// The life is over when its warden has been waited for and is silent.
    fn warden_gone(&mut self, child: ChildId) {
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        let Some(life) = slot.life.as_ref().filter(|life| life.reaped && life.silent) else {
            return;
        };
        slot.lost |= !life.dismissed; // somebody else killed it, or we with its whole group
        if life.child().is_some() {
            self.ended(child, End::Signalled(Signal::KILL.as_raw())); // by PDEATHSIG, or with its group
        }
        let Some(slot) = self.slots.get_mut(child.0) else {
            return;
        };
        if let Some(Life {
            phase: Phase::Starting(reply),
            ..
        }) = slot.life.take()
        {
            let _ = reply.send(Err(SpawnError::Ended {
                program: slot.program(),
            })); // nobody waits for it
        }
    }

    // ── Signals ────────────────────────────────────────────────────────────

    fn forward(&mut self, child: ChildId, signal: Signal) {
        let Some(life) = self.slots.get_mut(child.0).and_then(|slot| slot.life.as_mut()) else {
            return;
        };
        if signal == Signal::WINCH {
            life.take_size(false);
        }
        match (life.child(), life.group()) {
            (Some(_), Some(group)) => sweep::signal_group(group, signal),
            (Some(pid), None) => {
                if let Some(process) = Process::read(pid.as_raw_nonzero().get()) {
                    sweep::signal_one(&process, signal); // it left its own group
                }
            }
            // It may run already, and have said so to others, before its warden is heard.
            (None, _) if matches!(life.phase, Phase::Starting(_)) => {
                life.missed.retain(|missed| *missed != signal);
                life.missed.push(signal);
            }
            (None, _) => {}
        }
    }

    /// Ctrl-Z went to the child alone; the shell that waits for us must see it too.
    /// A SIGSTOP came from somebody who means the child: we go on serving.
    fn stop_with_child(&mut self, child: ChildId, signal: i32) {
        let Some(slot) = self.slots.get(child.0) else { return };
        let pid = slot.life.as_ref().and_then(Life::child);
        let may = is_by_terminal(signal) && slot.ending.is_none();
        let (Some(terminal), Some(pid)) = (self.terminal.as_ref().filter(|_| may), pid) else {
            return;
        };
        terminal.take_back(pid);
        if terminal::is_own_group_orphaned() {
            return self.resume(); // nobody could continue us
        }
        spawn::stop_own_group(); // the SIGCONT that ends this comes as a request
    }

    fn resume(&mut self) {
        for life in self.slots.iter().filter_map(|slot| slot.life.as_ref()) {
            if let (Some(terminal), Some(pid)) = (&self.terminal, life.child()) {
                terminal.lend(pid);
            }
            if let Some(group) = life.group() {
                sweep::signal_group(group, Signal::CONT);
            }
        }
    }
}

/// Whether the terminal stops with it: Ctrl-Z, or reading or writing from the background.
fn is_by_terminal(signal: i32) -> bool {
    [Signal::TSTP, Signal::TTIN, Signal::TTOU]
        .iter()
        .any(|stop| stop.as_raw() == signal)
}

/// Hands on what a warden says, until it says nothing more.
async fn listen(
    reports: std::os::unix::net::UnixStream,
    child: ChildId,
    generation: Generation,
    requests: Sender<Request>,
) {
    // Fails only when the runtime is shutting down.
    if let Ok(mut reports) = UnixStream::from_std(reports) {
        while let Ok(report) = warden::read(&mut reports).await {
            let _ = requests.send(Request::Report(child, generation, Some(report)));
        }
    }
    let _ = requests.send(Request::Report(child, generation, None));
}
