//! Signals the child's group, and what left it.
//!
//! *The group* is signalled by its number. That is safe as long as the child
//! that leads it is not waited for: its pid, and so the group's number, cannot be
//! given to anybody else before that, and only the calling thread waits.
//!
//! *What left the group*, or outlived its leader, is found in the process table
//! as a descendant of ours (we are the subreaper), and signalled one by one: a
//! pidfd is opened, then the start time is compared, so that the signal goes to
//! the process that was seen or to none. Children that were there before us (of
//! the shell script that became greenroom) are spared.

use std::collections::HashSet;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::procfs::{self, Process};

/// Our descendants, and those that are none of our business.
#[derive(Clone, Debug)]
pub(super) struct Family {
    us: i32,
    spared: Arc<HashSet<(i32, u64)>>,
}

impl Family {
    /// Who is there now was there before us and is spared.
    pub(super) fn new() -> Self {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        let before = procfs::descendants(us, &HashSet::new());
        Self {
            us,
            spared: Arc::new(before.iter().map(|process| (process.pid, process.start)).collect()),
        }
    }

    pub(super) fn us(&self) -> i32 {
        self.us
    }

    pub(super) fn spared(&self) -> Arc<HashSet<(i32, u64)>> {
        Arc::clone(&self.spared)
    }

    /// The living ones.
    pub(super) fn members(&self) -> Vec<Process> {
        procfs::descendants(self.us, &self.spared)
    }

    /// Signals the group of `leader` (not yet waited for), and everyone else one by one.
    pub(super) fn signal(&self, leader: Option<Pid>, signal: Signal) {
        let members = self.members(); // before the signal: afterwards the tree changes
        if let Some(leader) = leader {
            signal_group(leader, signal);
        }
        let group = leader.map(|leader| leader.as_raw_nonzero().get());
        for process in members.iter().filter(|process| Some(process.group) != group) {
            signal_one(process, signal);
        }
    }
}

/// Signals all members of `leader`'s group. `leader` must not have been waited for.
pub(super) fn signal_group(leader: Pid, signal: Signal) {
    // ESRCH: all have ended. EPERM: all have another user; nothing we could do.
    let _ = rustix::process::kill_process_group(leader, signal);
}

fn signal_one(process: &Process, signal: Signal) {
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
