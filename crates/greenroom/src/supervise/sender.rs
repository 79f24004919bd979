//! Decides whether a notify datagram comes from the backend.
//!
//! The socket can be written by anyone on the machine (mode 0666: the child may
//! have changed its user), so the kernel's word about the sender decides:
//!
//! - a process whose parents lead up to the child's *warden*: accepted. That is the
//!   child, what it started, and what it made a daemon of, as the warden is the
//!   reaper of them all;
//! - a process that is gone (`systemd-notify` from a script): accepted if its uid
//!   is the child's;
//! - anybody else: ignored. What an earlier generation left behind has another
//!   warden, or none any more, and cannot speak for this one.
//!
//! *Pid reuse.* Between the send and our look the sender may end and its number
//! may go to another process, even to one of the child's. Where the kernel attaches
//! the sender's pidfd (Linux 6.5), it is asked *after* the parents were read
//! whether the sender still lives: then the number was its own all the while;
//! else it is gone, and its uid decides. Before that the uid must be the one that
//! the process of this number has now, so a stranger of another user gains nothing
//! from a number; a stranger of the child's own user could as well trace the child.
//! Bounded by [`limits::ANCESTORS_MAX`].

use std::fs;

use greenroom_core::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::datagram::{PidFd, Sender};
use super::procfs::Process;
use super::sweep::Family;

/// Why a datagram was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    /// It came from a process that is no descendant of the child.
    #[error("its sender is no process of the backend")]
    Foreign,
    /// It came from a process of another child of ours.
    #[error("its sender is a process of another backend")]
    OtherChild,
    /// Its sender is gone, and was of another user than the child.
    #[error("its sender is gone and was of another user than the backend")]
    GoneAndForeign,
    /// Its sender belongs to an earlier generation.
    #[error("its sender belongs to an earlier start of the backend")]
    EarlierGeneration,
    /// It had more than [`limits::NOTIFY_MAX`] bytes.
    #[error("it is longer than {} bytes", limits::NOTIFY_MAX)]
    TooLong,
}

/// What a sender is compared with.
#[derive(Debug)]
pub(super) struct Kin {
    /// We, all wardens, and who was there before us.
    pub(super) family: Family,
    /// The warden of this generation. Not waited for while this is used, so its
    /// number is nobody else's.
    pub(super) warden: i32,
    /// The child of this generation.
    pub(super) child: Process,
    /// The user that the child was started as.
    pub(super) uid: u32,
}

impl Kin {
    /// Whether the backend sent it.
    pub(super) fn judge(&self, sender: Sender, identity: &PidFd) -> Result<(), Ignored> {
        if sender.pid <= 0 {
            return Err(Ignored::Foreign); // of another pid namespace
        }
        let judged = Process::read(sender.pid).map(|process| self.judge_living(process));
        let was_it = match identity {
            PidFd::Of(pidfd) => lives(pidfd),
            PidFd::Gone => false,
            PidFd::Unknown => uid_of(sender.pid).is_none_or(|uid| uid == sender.uid),
        };
        match judged {
            Some(judged) if was_it => judged,
            Some(_) | None if sender.uid == self.child_uid() => Ok(()),
            Some(_) | None => Err(Ignored::GoneAndForeign),
        }
    }

    /// Whether `pid` is a living process of the backend.
    pub(super) fn has(&self, pid: i32) -> bool {
        Process::read(pid).is_some_and(|process| self.judge_living(process).is_ok())
    }

    fn judge_living(&self, sender: Process) -> Result<(), Ignored> {
        let mut process = sender;
        for _ in 0..limits::ANCESTORS_MAX {
            if process.parent == self.warden {
                return Ok(());
            }
            if process.pid == self.family.us() || self.family.is_warden(process.pid) {
                return Err(Ignored::Foreign); // neither we nor a warden notifies
            }
            if process.parent == self.family.us() {
                return Err(self.without_warden(process));
            }
            if self.family.is_warden(process.parent) {
                return Err(Ignored::OtherChild);
            }
            match Process::read(process.parent) {
                Some(parent) => process = parent,
                None => return Err(Ignored::Foreign), // 0: above the first process
            }
        }
        Err(Ignored::Foreign)
    }

    /// Its warden is gone, or it never had one.
    fn without_warden(&self, orphan: Process) -> Ignored {
        if orphan.start < self.child.start && !self.family.was_there_before(&orphan) {
            Ignored::EarlierGeneration
        } else {
            Ignored::Foreign
        }
    }

    /// The child's user now (it may have changed it), else the one it started as.
    fn child_uid(&self) -> u32 {
        let now = self.child.is_same().then(|| uid_of(self.child.pid));
        now.flatten().unwrap_or(self.uid)
    }
}

/// Whether the process has not ended.
fn lives(pidfd: &impl std::os::fd::AsFd) -> bool {
    // A pidfd is readable from the moment its process has ended.
    poll(
        &mut [PollFd::new(pidfd, PollFlags::IN)],
        Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
    )
    .is_ok_and(|ended| ended == 0)
}

/// The real user of a process.
fn uid_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
