//! One process with a warden and without a supervisor.
//!
//! For a program that starts one process after the other, wants to know when it ends, and must leave nothing of it behind,
//! however it ends itself: `greenroom audit`. The warden is the same, and does the same; what a
//! [`Supervisor`](crate::supervise::Supervisor) does besides (restarts, the terminal, READY by notify, the output) is the
//! caller's business. A command's user, group and watchdog are not looked at.
//!
//! Bounds: the child has [`WARDEN_START`](greenroom_core::limits::WARDEN_START) to be executed; of what the warden says the last is kept.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;

use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use super::report::{self, Report};
use super::{Call, spec::Spec};
use crate::supervise::command::Command;
use crate::supervise::notify::NotifySocket;
use crate::supervise::procfs::Process;
use crate::supervise::reap::End;
use crate::supervise::spawn::{SpawnError, Step};
use crate::supervise::sweep;

/// A process that runs under a warden. Dropping it lets the warden kill all that is left of it.
#[derive(Debug)]
pub struct Guarded {
    warden: Child,
    /// The way to the warden, whose end means to it that we are gone.
    line: UnixStream,
    pid: i32,
    /// `None`: it had ended before it could be looked at.
    process: Option<Process>,
    /// The warden is a member of its group.
    joined: bool,
    ended: watch::Receiver<Option<End>>,
}

impl Guarded {
    /// Starts it; returns when its exec has succeeded or failed. Call it within a tokio runtime, in a program that begins
    /// with [`main_if_called`](super::main_if_called). `notify` is where its NOTIFY_SOCKET is: the warden removes the folder
    /// when we are gone. `output` becomes its stdout and stderr.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        call: &Call,
        command: &Command,
        notify: Option<&NotifySocket>,
        output: [OwnedFd; 2],
    ) -> Result<Self, SpawnError> {
        let spec = Spec {
            program: command.program.clone(),
            args: command.args.clone(),
            env: command.environment(std::env::vars_os(), &[], notify.map(NotifySocket::path)),
            cwd: command.cwd.clone(),
            account: None,
            nofile: command.nofile.map(|limit| (limit.current, limit.maximum)),
            foreground: false,
            stdin_null: true,
            folder: notify.and_then(NotifySocket::folder),
        };
        let wrong = |step, error| SpawnError::new(command, step, error);
        let (mut warden, line) = super::start(call, &spec, Some(output)).map_err(|error| wrong(Step::Warden, error))?;
        let begun = match report::first(&line) {
            Ok(Report::Started { pid, joined }) => Ok((pid, joined)),
            Ok(Report::Failed { step, errno }) => Err(wrong(step, std::io::Error::from_raw_os_error(errno))),
            Ok(_) => Err(wrong(Step::Warden, rustix::io::Errno::PROTO.into())),
            Err(error) => Err(wrong(Step::Warden, error)),
        };
        let started = begun.and_then(|begun| match heard(&line) {
            Ok(ended) => Ok((begun, ended)),
            Err(error) => Err(wrong(Step::Warden, error)),
        });
        match started {
            Ok(((pid, joined), ended)) => Ok(Self {
                warden,
                line,
                pid,
                process: Process::read(pid),
                joined,
                ended,
            }),
            Err(error) => {
                drop(line); // it sees the end, kills what there is, and goes
                warden.wait().ok();
                Err(error)
            }
        }
    }

    /// Its number.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end. What it left behind may still run.
    pub async fn ended(&mut self) -> End {
        let ended = self.ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
        ended.unwrap_or(KILLED)
    }

    /// Sends a signal to it alone.
    pub fn signal_one(&self, signal: Signal) {
        if let Some(process) = &self.process {
            sweep::signal_one(process, signal);
        }
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        // The warden is a member, and not waited for before this is dropped: the number is the group's own.
        match Pid::from_raw(self.pid).filter(|_| self.joined) {
            Some(group) => sweep::signal_group(group, signal),
            None => self.signal_one(signal),
        }
    }

    /// All that still runs of it: the process itself and all that it started, whatever these did to get away.
    #[must_use]
    pub fn below(&self) -> Vec<Process> {
        let mut below = sweep::below(Pid::from_child(&self.warden));
        below.retain(|process| !process.ended);
        below
    }

    /// Sends a signal to one of [`Guarded::below`], if it is still the same.
    pub fn signal_other(process: &Process, signal: Signal) {
        sweep::signal_one(process, signal);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.below().is_empty() {
            self.warden.kill().ok();
        } else {
            self.line.shutdown(std::net::Shutdown::Both).ok(); // the task that listens has a copy
        }
        self.warden.wait().ok();
    }
}

/// What is told when the warden was killed: its child went with it.
const KILLED: End = End::Signalled(Signal::KILL.as_raw());

/// Listens to the warden; gives where the end is told.
fn heard(line: &UnixStream) -> std::io::Result<watch::Receiver<Option<End>>> {
    let reports = line.try_clone()?;
    reports.set_nonblocking(true)?;
    let mut reports = tokio::net::UnixStream::from_std(reports)?;
    let (tell, ended) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            match report::read(&mut reports).await {
                Ok(Report::Ended(end)) => {
                    tell.send_replace(Some(end));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        tell.send_if_modified(|told| told.is_none() && told.replace(KILLED).is_none());
    });
    Ok(ended)
}
