//! Signals a child's group, and what left it.
//!
//! Who belongs to a child is decided by the kernel: each child has a *warden* for
//! a parent, which is a subreaper, so all that the child ever started is below its
//! warden in the process tree, whatever it does (`setsid`, a double fork, another
//! user, a cleared environment). Nobody of another child ever is. With this,
//! several children are swept each for itself. Only when a warden was killed do
//! its people come up to us: *strays*, which are below no living warden.
//!
//! *The group* is signalled by its number. That is safe while its warden, a member
//! of the group, is not waited for: the number cannot go to anybody else before
//! that, and only the calling thread waits.
//!
//! *What left the group* is signalled one by one: a pidfd is opened, then the start
//! time is compared, so that the signal goes to the process that was seen or to
//! none. Children that were there before us (of the shell script that became
//! greenroom) are spared.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::errand;
use super::procfs::{self, Process};

/// Us, our wardens, and those that are none of our business. Bounded by the
/// children that there are, and by those that were there before us.
#[derive(Clone, Debug)]
pub(super) struct Family {
    us: i32,
    before: Arc<HashSet<(i32, u64)>>,
    wardens: Arc<Mutex<HashSet<i32>>>,
}

impl Family {
    /// Who is there now was there before us and is spared.
    pub(super) fn new() -> Self {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        let before = procfs::descendants(us, |_| false);
        Self {
            us,
            before: Arc::new(before.iter().map(|process| (process.pid, process.start)).collect()),
            wardens: Arc::default(),
        }
    }

    pub(super) fn us(&self) -> i32 {
        self.us
    }

    /// From its fork until it is waited for.
    pub(super) fn is_warden(&self, pid: i32) -> bool {
        self.wardens().contains(&pid)
    }

    pub(super) fn was_there_before(&self, process: &Process) -> bool {
        self.before.contains(&(process.pid, process.start))
    }

    pub(super) fn add_warden(&self, pid: Pid) {
        self.wardens().insert(pid.as_raw_nonzero().get());
    }

    /// It has been waited for. True if it was one.
    pub(super) fn remove_warden(&self, pid: Pid) -> bool {
        self.wardens().remove(&pid.as_raw_nonzero().get())
    }

    fn wardens(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.wardens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody below no living warden: what killed wardens have left to us. The commands of
    /// checks are no child's.
    pub(super) fn strays(&self) -> Vec<Process> {
        let wardens = self.wardens().clone();
        procfs::descendants(self.us, |process| {
            wardens.contains(&process.pid) || errand::is_one(process.pid) || self.was_there_before(process)
        })
    }
}

/// All below the warden: the child, and all that it started.
pub(super) fn below(warden: Pid) -> Vec<Process> {
    procfs::descendants(warden.as_raw_nonzero().get(), |_| false)
}

/// Signals `group` as a whole, and those of `members` that are not in it one by one.
/// The group's warden must not have been waited for.
pub(super) fn signal(group: Option<Pid>, members: &[Process], signal: Signal) {
    if let Some(group) = group {
        signal_group(group, signal);
    }
    let group = group.map(|group| group.as_raw_nonzero().get());
    for process in members.iter().filter(|process| Some(process.group) != group) {
        signal_one(process, signal);
    }
}

/// Signals all members of `group`, whose warden must not have been waited for.
pub(super) fn signal_group(group: Pid, signal: Signal) {
    // ESRCH: all have ended. EPERM: all have another user; nothing we could do.
    let _ = rustix::process::kill_process_group(group, signal);
}

/// Signals one process that was seen, if it is still the same.
pub(super) fn signal_one(process: &Process, signal: Signal) {
    let Some(pid) = process.id() else { return };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // The number names the same process before and after the pidfd was opened,
        // so it did in between.
        Ok(pidfd) if process.is_same() => {
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
        // No pidfd in this sandbox: the window between look and signal is all that is left.
        Err(Errno::NOSYS | Errno::PERM) if process.is_same() => {
            let _ = rustix::process::kill_process(pid, signal);
        }
        Ok(_) | Err(_) => {} // it has ended
    }
}
