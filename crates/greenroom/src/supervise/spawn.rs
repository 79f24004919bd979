//! Starts the child, in its warden: own group, own terminal, nothing of ours but 0, 1 and 2.
//!
//! The standard library forks, resets SIGPIPE, makes the process group and reports
//! what exec said. Between fork and exec, in the
//! child, `Plan::prepare` adds what it does not know of, and lets signals through
//! that the warden blocks. What was *ignored* when
//! greenroom was started stays ignored, as a shell would have it.
//!
//! Descriptors: all ours are close-on-exec; those that greenroom itself was
//! given beyond 0, 1 and 2 are made so (`close_range`, Linux 5.11; before that
//! they pass on, as from any shell).
//!
//! *Its group has the warden in it* before the child may take the terminal and exec, so
//! no Ctrl-C is missed: between fork and exec it says that its group is there, and waits
//! until a thread of the warden, which itself waits for exec, has joined.
//!
//! *Dying with its warden.* PDEATHSIG follows the *thread* that forked: the warden's
//! first one, which lives as long as it. It is set after the user was changed, as the
//! kernel forgets it then. It is the net for a warden that is killed; the orderly end is
//! [`super::Supervisor::terminate`].
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::account::{Account, AccountError};
use super::command::{Command, WATCHDOG_PID};
use super::warden::spec::Spec;

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
    /// It was to run in a folder that cannot be entered.
    #[error("cannot start `{program}` in {}: {error}", cwd.display())]
    Cwd {
        /// The name or path.
        program: String,
        /// The folder.
        cwd: PathBuf,
        /// What the kernel said; part of the message, so no `source`.
        error: io::Error,
    },
    /// Its user or group is not known.
    #[error("cannot start `{program}`: {error}")]
    Account {
        /// The name or path.
        program: String,
        /// Which; part of the message, so no `source`.
        error: AccountError,
    },
    /// greenroom may not make it another user.
    #[error(
        "cannot start `{program}` as another user: greenroom runs as user {uid} and the system said {error}; \
         start greenroom as root (or with CAP_SETUID and CAP_SETGID), or leave out `user` and `group`"
    )]
    NotRoot {
        /// The name or path.
        program: String,
        /// Who we are.
        uid: u32,
        /// What the kernel said; part of the message, so no `source`.
        error: io::Error,
    },
    /// Its warden, which is this very program once more, could not be started.
    #[error("cannot start `{program}`: no warden for it ({error}); greenroom needs /proc and its own program file")]
    Warden {
        /// The name or path.
        program: String,
        /// What the kernel said; part of the message, so no `source`.
        error: io::Error,
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
    /// It was ended before it had begun.
    #[error("`{program}` was ended before it had begun")]
    Ended {
        /// The name or path.
        program: String,
    },
    /// There is no such child, or the supervisor's thread is gone.
    #[error("cannot start anything: the supervisor has ended")]
    Gone,
}

impl SpawnError {
    /// What `step` met, said for a person.
    pub(super) fn new(command: &Command, step: Step, error: io::Error) -> Self {
        let program = command.program.to_string_lossy().into_owned();
        match step {
            Step::Exec => Self::exec(command, program, error),
            Step::Cwd => Self::Cwd {
                program,
                cwd: command.cwd.clone().unwrap_or_default(),
                error,
            },
            Step::Account => Self::NotRoot {
                program,
                uid: rustix::process::geteuid().as_raw(),
                error,
            },
            Step::Warden => Self::Warden { program, error },
            Step::Other => Self::Other { program, error },
        }
    }

    fn exec(command: &Command, program: String, error: io::Error) -> Self {
        let is_path = command.program.as_encoded_bytes().contains(&b'/');
        let from = command.cwd.as_deref().unwrap_or(Path::new(""));
        let there = is_path && from.join(&command.program).exists();
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
            | Self::Cwd { .. }
            | Self::Account { .. }
            | Self::NotRoot { .. }
            | Self::Warden { .. }
            | Self::Other { .. }
            | Self::Busy { .. }
            | Self::Ended { .. }
            | Self::Gone => 126,
        }
    }
}

/// Where starting a child can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The program itself.
    Exec,
    /// Its folder.
    Cwd,
    /// Its user and groups.
    Account,
    /// The warden.
    Warden,
    /// Anything else.
    Other,
}

impl Step {
    const ALL: [Self; 5] = [Self::Exec, Self::Cwd, Self::Account, Self::Warden, Self::Other];

    pub(super) fn number(self) -> i32 {
        self as i32
    }

    pub(super) fn of(number: i32) -> Self {
        let known = Self::ALL.into_iter().find(|step| step.number() == number);
        known.unwrap_or(Self::Other)
    }
}

/// What the child does between fork and exec: plain data, made before the fork.
struct Plan {
    warden: Pid,
    nofile: Option<Rlimit>,
    foreground: bool,
    account: Option<Account>,
    cwd: Option<CString>,
    env: Environment,
    /// To the thread that joins.
    line: UnixStream,
}

/// Starts what `spec` describes, as a child of the calling process.
/// `tell` hears of a step between fork and exec that failed, in the new process,
/// where it may neither allocate nor lock; what the library reports comes as an error.
/// Says also whether the caller is a member of the child's group now.
pub(super) fn spawn(spec: &Spec, tell: impl Fn(Step, i32) + Send + Sync + 'static) -> io::Result<(Child, bool)> {
    let (line, joiner) = UnixStream::pair()?;
    let joiner = std::thread::Builder::new().spawn(move || join_group(joiner))?;
    let mut plan = Plan {
        warden: rustix::process::getpid(),
        nofile: spec.rlimit(),
        foreground: spec.foreground,
        account: spec.account.clone().filter(|account| !account.is_ours()),
        cwd: spec.cwd.as_deref().map(|cwd| c_string(cwd.as_os_str())).transpose()?,
        env: Environment::new(&spec.env)?,
        line,
    };
    let mut child = process::Command::new(&spec.program);
    child.args(&spec.args).process_group(0); // and no word of variables: see `Environment`
    if spec.stdin_null {
        child.stdin(Stdio::null());
    }
    let prepare = move || {
        plan.prepare()
            .inspect_err(|(step, error)| tell(*step, error.raw_os_error().unwrap_or(libc::EIO)))
            .map_err(|(_, error)| error)
    };
    // SAFETY: `prepare` only makes system calls that are async-signal-safe, and
    // neither allocates nor locks; what it captures was made before the fork.
    unsafe { child.pre_exec(prepare) };
    let spawned = child.spawn();
    drop(child); // and with it our copy of the line, whose end is the joiner's
    let joined = joiner.join().unwrap_or(false);
    spawned.map(|child| (child, joined))
}

/// Joins the group that the new process says is its own, and says that it has.
/// False when there was no new process, or it could not be joined.
fn join_group(mut line: UnixStream) -> bool {
    let mut pid = [0; 4];
    if line.read_exact(&mut pid).is_err() {
        return false;
    }
    let group = Pid::from_raw(i32::from_ne_bytes(pid));
    let joined = group.is_some_and(|group| rustix::process::setpgid(None, Some(group)).is_ok());
    line.write_all(&[u8::from(joined)]).is_ok() && joined
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Plan {
    /// Runs in the child, between fork and exec, in its new process group.
    fn prepare(&mut self) -> Result<(), (Step, io::Error)> {
        let other = |error: rustix::io::Errno| (Step::Other, error.into());
        // Our group is there: nothing but the warden's word, or its end, is waited for.
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        rustix::io::write(&self.line, &pid.to_ne_bytes()).map_err(other)?;
        rustix::io::read(&self.line, &mut [0]).map_err(other)?;
        if self.foreground {
            take_terminal();
        }
        if let Some(limit) = self.nofile {
            rustix::process::setrlimit(Resource::Nofile, limit).map_err(other)?;
        }
        if let Some(account) = &self.account {
            account.take().map_err(|error| (Step::Account, error))?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(other)?;
        // A parent that died before the line above sends no signal any more.
        if rustix::process::getppid() != Some(self.warden) {
            return Err((Step::Warden, io::Error::from_raw_os_error(libc::ESRCH)));
        }
        if let Some(cwd) = &self.cwd {
            // As the user that it runs as, who may not enter what root may.
            rustix::process::chdir(cwd.as_c_str()).map_err(|error| (Step::Cwd, error.into()))?;
        }
        close_on_exec();
        self.env.enter(pid);
        take_signals();
        Ok(())
    }
}

/// The child's environment as exec takes it.
///
/// Not given to the library, which would copy it before the fork: the child's own number,
/// which systemd's WATCHDOG_PID holds, is known only after it. The library finds PATH in
/// it all the same, as it does with what it inherits.
struct Environment {
    strings: Vec<Box<[u8]>>,
    /// Room for a pointer to each, and the null at the end.
    pointers: Box<[*const c_char]>,
    /// The string that ends with the child's number.
    own_pid: Option<usize>,
}

// SAFETY: the pointers are null until `enter`, and then into `strings`, which nobody else has.
unsafe impl Send for Environment {}
// SAFETY: as above; what is written is written through `&mut`.
unsafe impl Sync for Environment {}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Digits of the largest process number there can be, and the zero behind them.
const PID_ROOM: usize = 11;

impl Environment {
    fn new(pairs: &[(OsString, OsString)]) -> io::Result<Self> {
        let mut strings: Vec<Box<[u8]>> = Vec::with_capacity(pairs.len());
        let mut own_pid = None;
        for (name, value) in pairs {
            let mut string = [name.as_bytes(), b"=", value.as_bytes()].concat();
            if string.contains(&0) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            string.push(0);
            if name == WATCHDOG_PID && value.is_empty() {
                own_pid = Some(strings.len());
                string.resize(string.len() + PID_ROOM, 0);
            }
            strings.push(string.into());
        }
        Ok(Self {
            pointers: vec![std::ptr::null(); strings.len() + 1].into(),
            strings,
            own_pid,
        })
    }

    /// Becomes the environment of the calling process, whose number is `pid`, for the time
    /// between fork and exec: neither allocates nor locks.
    fn enter(&mut self, pid: i32) {
        if let Some(string) = self.own_pid.and_then(|n| self.strings.get_mut(n)) {
            write_number(&mut string[WATCHDOG_PID.len() + 1..], pid);
        }
        for (pointer, string) in self.pointers.iter_mut().zip(&self.strings) {
            *pointer = string.as_ptr().cast();
        }
        // SAFETY: the process has one thread, as it was just forked; the strings end with
        // zeros and the list with null, and both live until exec.
        unsafe { environ = self.pointers.as_ptr() };
    }
}

/// Decimal digits and a zero; what has no room is left out.
fn write_number(into: &mut [u8], number: i32) {
    let mut digits = [0; PID_ROOM];
    let (mut rest, mut length) = (number.unsigned_abs(), 0);
    while (rest > 0 || length == 0) && length < digits.len() {
        digits[length] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        (rest, length) = (rest / 10, length + 1);
    }
    for (place, digit) in into.iter_mut().zip(digits[..length].iter().rev()) {
        *place = *digit;
    }
}

/// Lets all signals through; what has come meanwhile comes now.
fn take_signals() {
    // SAFETY: the set is initialised before it is used; both calls are async-signal-safe.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Marks everything from 3 on to be closed at exec, the library's own error pipe
/// included, which is so already.
pub(super) fn close_on_exec() {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now. An error (ENOSYS, EINVAL on an
    // old kernel) leaves things as they are: see the module.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_into_the_room_it_has() {
        for (number, text) in [(0, "0"), (7, "7"), (4_194_304, "4194304"), (i32::MAX, "2147483647")] {
            let mut room = [0; PID_ROOM + 1];
            write_number(&mut room, number);
            assert_eq!(&room[..text.len()], text.as_bytes());
            assert!(room[text.len()..].iter().all(|byte| *byte == 0));
        }
        write_number(&mut [0; 3], i32::MAX);
    }
}
