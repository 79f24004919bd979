//! Starts the child: own group, own terminal, nothing of ours but 0, 1 and 2.
//!
//! The standard library forks, resets SIGPIPE and the signal mask, makes the
//! process group and reports what exec said. Between fork and exec, in the
//! child, `prepare` adds what it does not know of. Handlers that we installed
//! become default at exec; what was *ignored* when greenroom was started (HUP under
//! `nohup`, say) stays ignored, as a shell would have it.
//!
//! Descriptors: all ours are close-on-exec; those that greenroom itself was
//! given beyond 0, 1 and 2 are made so (`close_range`, Linux 5.11; before that
//! they pass on, as from any shell).
//!
//! *Dying with us.* PDEATHSIG follows the *thread* that forked, so this is only
//! called on the supervisor's thread, which never ends. It reaches the child
//! itself, not what the child started, and the kernel forgets it when the child
//! changes its user. It is the net for our own SIGKILL; the orderly end is
//! [`super::Supervisor::terminate`].
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::command::Command;

/// Why the child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A name without a slash is in no directory of PATH.
    #[error("cannot start `{program}`: no such program in PATH")]
    NotInPath {
        /// The name.
        program: String,
    },
    /// A path that leads nowhere.
    #[error("cannot start `{program}`: no such file")]
    NoSuchFile {
        /// The path.
        program: String,
    },
    /// The file is there, but its first line names a program that is not.
    #[error("cannot start `{program}`: its interpreter (the program after `#!`) does not exist")]
    NoInterpreter {
        /// The path.
        program: String,
    },
    /// It is there and may not be executed.
    #[error("cannot start `{program}`: it is no executable file (chmod +x?)")]
    NotExecutable {
        /// The path.
        program: String,
    },
    /// Anything else the kernel said.
    #[error("cannot start `{program}`: {error}")]
    Other {
        /// The name or path.
        program: String,
        /// What the kernel said; part of the message, so no `source`.
        error: io::Error,
    },
    /// A child is there already, or the last one is still being ended.
    #[error("cannot start `{program}`: the one before has not ended")]
    Busy {
        /// The name or path.
        program: String,
    },
    /// The supervisor's thread is gone.
    #[error("cannot start anything: the supervisor has ended")]
    Gone,
}

impl SpawnError {
    fn new(program: &std::ffi::OsStr, error: io::Error) -> Self {
        let is_path = program.as_encoded_bytes().contains(&b'/');
        let there = is_path && Path::new(program).exists();
        let program = program.to_string_lossy().into_owned();
        match error.kind() {
            io::ErrorKind::NotFound if !is_path => Self::NotInPath { program },
            io::ErrorKind::NotFound if there => Self::NoInterpreter { program },
            io::ErrorKind::NotFound => Self::NoSuchFile { program },
            io::ErrorKind::PermissionDenied => Self::NotExecutable { program },
            _ => Self::Other { program, error },
        }
    }

    /// What greenroom exits with, as shells do: 127 not found, 126 not started.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotInPath { .. } | Self::NoSuchFile { .. } => 127,
            Self::NoInterpreter { .. }
            | Self::NotExecutable { .. }
            | Self::Other { .. }
            | Self::Busy { .. }
            | Self::Gone => 126,
        }
    }
}

/// Starts `command`; `foreground`: its group becomes the terminal's.
pub(super) fn spawn(command: &Command, notify: Option<&Path>, foreground: bool) -> Result<Child, SpawnError> {
    let mut child = process::Command::new(&command.program);
    child.args(&command.args).process_group(0);
    for name in command.withheld(std::env::vars_os().map(|(name, _)| name)) {
        child.env_remove(name);
    }
    child.envs(command.env.iter().map(|(name, value)| (name, value)));
    if let Some(path) = notify {
        child.env("NOTIFY_SOCKET", path);
    }
    let (nofile, parent) = (command.nofile, rustix::process::getpid());
    // SAFETY: `prepare` only makes system calls that are async-signal-safe, and
    // neither allocates nor locks; what it captures is plain data.
    unsafe { child.pre_exec(move || prepare(parent, nofile, foreground)) };
    child.spawn().map_err(|error| SpawnError::new(&command.program, error))
}

/// Runs in the child, between fork and exec, in its new process group.
fn prepare(parent: Pid, nofile: Option<Rlimit>, foreground: bool) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends no signal any more.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    if let Some(limit) = nofile {
        rustix::process::setrlimit(Resource::Nofile, limit)?;
    }
    if foreground {
        take_terminal();
    }
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now; at exec everything from 3 on
    // goes, the library's own error pipe included, which is so already. An error
    // (ENOSYS, EINVAL on an old kernel) leaves things as they are: see the module.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// Makes the calling process's group the terminal's. From the background that
/// is answered with SIGTTOU, so it is blocked meanwhile. A terminal that is gone
/// (hung up) is no reason not to start.
fn take_terminal() {
    with_ttou_blocked(|| {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
    });
}

/// Does `act` while this thread does not take SIGTTOU.
pub(super) fn with_ttou_blocked(act: impl FnOnce()) {
    // SAFETY: the sets are initialised by sigemptyset before they are used, and
    // pthread_sigmask changes the calling thread's mask only. All three are
    // async-signal-safe.
    unsafe {
        let (mut ttou, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigemptyset(&raw mut ttou);
        libc::sigaddset(&raw mut ttou, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const ttou, &raw mut before);
        act();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

/// Stops the other processes of our group as the terminal's Ctrl-Z would have,
/// then ourselves; returns when somebody continued us.
///
/// Ours must be one stop only: one that came after the SIGCONT for another
/// would never be ended. So SIGTSTP, which goes to the whole group, is ignored
/// by us for the moment, and SIGSTOP goes to this very thread, which then cannot
/// run past it.
pub(super) fn stop_own_group() {
    // SAFETY: `ignore` and `before` are initialised; SIG_IGN runs no code of ours,
    // and the former disposition is put back. raise() signals the calling thread.
    unsafe {
        let (mut ignore, mut before): (libc::sigaction, libc::sigaction) = (std::mem::zeroed(), std::mem::zeroed());
        ignore.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(libc::SIGTSTP, &raw const ignore, &raw mut before);
        libc::kill(0, libc::SIGTSTP);
        libc::sigaction(libc::SIGTSTP, &raw const before, std::ptr::null_mut());
        libc::raise(libc::SIGSTOP);
    }
}
