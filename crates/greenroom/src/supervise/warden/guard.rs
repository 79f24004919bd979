//! The warden's own process: starts the child, waits, reports, and outlives greenroom.
//!
//! One thread (a second one while the child is started), one loop over two descriptors: signals (SIGCHLD, and the terminal's
//! SIGINT, SIGQUIT and SIGWINCH) and the socket to greenroom, whose end means that greenroom is
//! gone. Bounded: after that end it lives for [`limits::SWEEP_MAX`] at the most.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Instant;

use greenroom_core::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal};

use super::report::Report;
use super::spec::Spec;
use crate::supervise::reap::{self, Change, News};
use crate::supervise::spawn::{self, Step};
use crate::supervise::{folder, sweep};

/// Exit code when it was called by nobody who knows how.
const USAGE: u8 = 2;

/// Blocks all signals of the new process and keeps the two descriptors of
/// `kept` open in it, and no other beyond 0, 1 and 2.
pub(super) fn prepare(command: &mut process::Command, kept: [RawFd; 2]) {
    let prepare = move || {
        block_signals();
        spawn::close_on_exec();
        for fd in kept {
            // SAFETY: the descriptor is open; this clears its close-on-exec flag.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: all of it are system calls that are async-signal-safe; nothing
    // allocates or locks.
    unsafe { command.pre_exec(prepare) };
}

/// See the module. `call` are the numbers of the two descriptors.
pub(super) fn main(call: &OsStr) -> u8 {
    block_signals();
    let _ = rustix::thread::set_name(c"room-warden"); // else `ps` and `top` show the name of the link: exe
    let Some((socket, told)) = descriptors(call) else {
        let _ = writeln!(io::stderr(), "error: greenroom starts its wardens itself");
        return USAGE;
    };
    let reports = Reports(socket);
    match begin(&reports, told) {
        Ok(mut guard) => guard.run(),
        Err(error) => reports.tell(Report::Failed {
            step: Step::Warden,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }),
    }
    0
}

/// Takes the two descriptors over, if they are what a caller of ours gives.
fn descriptors(call: &OsStr) -> Option<(OwnedFd, File)> {
    let (socket, told) = call.to_str()?.split_once(',')?;
    let take = |number: &str, kind: libc::mode_t| {
        let number: RawFd = number.parse().ok().filter(|number| *number > 2)?;
        // SAFETY: fstat on any number is sound, and fills `about` when it says 0. What is
        // open beyond 2 was made for us and is nobody else's: nothing has been opened yet.
        unsafe {
            let mut about: libc::stat = std::mem::zeroed();
            let open = libc::fstat(number, &raw mut about) == 0 && about.st_mode & libc::S_IFMT == kind;
            (open && libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0).then(|| OwnedFd::from_raw_fd(number))
        }
    };
    Some((take(socket, libc::S_IFSOCK)?, File::from(take(told, libc::S_IFREG)?)))
}

fn block_signals() {
    // SAFETY: the set is filled before it is used; both calls are async-signal-safe.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// The way to greenroom.
struct Reports(OwnedFd);

impl Reports {
    /// Says something that must arrive. greenroom may be stopped: then this waits.
    fn tell(&self, report: Report) {
        let _ = rustix::net::send(&self.0, &report.encode(), SendFlags::NOSIGNAL); // it is gone: seen elsewhere
    }

    /// Says something that is not worth waiting for.
    fn mention(&self, report: Report) {
        let _ = rustix::net::send(&self.0, &report.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

struct Guard<'a> {
    reports: &'a Reports,
    signals: OwnedFd,
    spec: Spec,
    child: Pid,
    /// Not waited for yet.
    child_is_there: bool,
    /// Whether we are a member of its group.
    joined: bool,
}

fn begin(reports: &Reports, mut told: File) -> io::Result<Guard<'_>> {
    let mut bytes = Vec::new();
    told.rewind()?;
    told.read_to_end(&mut bytes)?;
    let spec = Spec::decode(&bytes).ok_or(Errno::INVAL)?;
    drop(told);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let signals = signals()?;
    let socket = reports.0.as_raw_fd();
    let tell_step = move |step, errno| {
        let record = Report::Failed { step, errno }.encode();
        // SAFETY: the socket is open until exec, the record is a living array.
        unsafe { libc::send(socket, record.as_ptr().cast(), record.len(), libc::MSG_NOSIGNAL) };
    };
    let (child, joined) = match spawn::spawn(&spec, tell_step) {
        Ok((child, joined)) => (Pid::from_child(&child), joined), // the handle is not needed: we wait for all
        Err(error) => {
            // Behind what `tell_step` may have said; the first counts.
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            reports.tell(Report::Failed {
                step: Step::Exec,
                errno,
            });
            return Err(error);
        }
    };
    let_go_of_stdio();
    reports.tell(Report::Started {
        pid: child.as_raw_nonzero().get(),
        joined,
    });
    Ok(Guard {
        reports,
        signals,
        spec,
        child,
        child_is_there: true,
        joined,
    })
}

/// Whoever reads the child's output must see its end, and the terminal is not ours.
fn let_go_of_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// The signals that are read; they are blocked, so they wait.
fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used; a descriptor that signalfd
    // gives is new and ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH] {
            libc::sigaddset(&raw mut set, signal);
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Guard<'_> {
    /// Until greenroom is gone, or until it kills us: the usual end.
    fn run(&mut self) {
        loop {
            let signals = PollFd::new(&self.signals, PollFlags::IN);
            let mut both = [signals, PollFd::new(&self.reports.0, PollFlags::IN)];
            match poll(&mut both, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.outlive(), // cannot be; blind, it could guard nothing
            }
            let [told, gone] = both.map(|fd| !fd.revents().is_empty());
            // The terminal before the child's end: Ctrl-C was the cause, and is told first.
            if told {
                self.take_signals();
            }
            if gone && self.is_greenroom_gone() {
                return self.outlive();
            }
        }
    }

    fn take_signals(&mut self) {
        let mut children = false;
        while let Some(info) = next_signal(&self.signals) {
            match info.ssi_signo.cast_signed() {
                libc::SIGCHLD => children = true,
                // Of the kernel, so of the terminal; of a process it means nothing to us.
                key if info.ssi_code == libc::SI_KERNEL => self.reports.mention(Report::Key(key)),
                _ => {}
            }
        }
        if children {
            self.reap();
        }
    }

    fn reap(&mut self) {
        let mut orphans = 0;
        while let News::Of(pid, change) = reap::next() {
            match change {
                Change::Ended(end) if pid == self.child && self.child_is_there => {
                    self.child_is_there = false;
                    self.reports.tell(Report::Ended(end));
                }
                Change::Ended(_) => orphans += 1,
                Change::Stopped(signal) if pid == self.child => self.reports.tell(Report::Stopped(signal)),
                Change::Continued if pid == self.child => self.reports.tell(Report::Continued),
                Change::Stopped(_) | Change::Continued => {}
            }
        }
        if orphans > 0 {
            self.reports.mention(Report::Orphans(orphans));
        }
    }

    fn is_greenroom_gone(&self) -> bool {
        // greenroom says nothing to us: what can be read is the end, or a reset.
        let mut byte = [0];
        !matches!(
            rustix::net::recv(&self.reports.0, &mut byte, RecvFlags::DONTWAIT),
            Err(Errno::AGAIN | Errno::INTR)
        )
    }

    /// greenroom was killed: nothing of this child may stay.
    fn outlive(&mut self) {
        if let Some((path, made)) = &self.spec.folder {
            folder::remove_of_dead(path, *made);
        }
        let until = Instant::now() + limits::SWEEP_MAX;
        loop {
            let left = sweep::below(rustix::process::getpid());
            for process in &left {
                sweep::signal_one(process, Signal::KILL);
            }
            while let News::Of(..) = reap::next() {}
            if left.is_empty() || Instant::now() >= until {
                break;
            }
            self.rest();
        }
        if self.joined {
            // Whoever is born faster than they are found, and we with them: the kernel
            // lets nobody fork out of this.
            let _ = rustix::process::kill_current_process_group(Signal::KILL);
        }
    }

    /// Until a child has ended, or it is time for the next look.
    fn rest(&self) {
        let time = Timespec::try_from(limits::SWEEP_EVERY).ok();
        let _ = poll(&mut [PollFd::new(&self.signals.as_fd(), PollFlags::IN)], time.as_ref());
        while next_signal(&self.signals).is_some() {}
    }
}

fn next_signal(signals: &OwnedFd) -> Option<libc::signalfd_siginfo> {
    // SAFETY: signalfd_siginfo is plain numbers; all zero is valid.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: the kernel writes whole records only, and one fits.
    let read = unsafe { libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size) };
    (usize::try_from(read) == Ok(size)).then_some(info)
}
