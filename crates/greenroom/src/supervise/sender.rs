//! Decides whether a notify datagram comes from the backend.
//!
//! The socket can be written by anyone on the machine (mode 0666: the child may
//! have changed its user), so the kernel's word about the sender decides:
//!
//! - the child, or a process whose parents lead up to it: accepted;
//! - a process whose parents lead up to *us* beside the child, i.e. an orphan
//!   that the subreaper took in (a daemonised server): accepted if the topmost of
//!   them was not there before us and started no earlier than the child. So what
//!   an earlier generation left behind cannot speak for this one;
//! - a process that is gone (`systemd-notify` from a script): accepted if its uid
//!   is the child's;
//! - anybody else: ignored.
//!
//! *Pid reuse.* Between the send and our look the sender may end and its number
//! may go to another process. To gain a foreign READY from that, an attacker's
//! pid would have to go to one of the child's own descendants within the
//! microseconds until we look; the kernel hands out numbers in a circle, so that
//! takes a whole round. The reverse (a legitimate sender's number taken by a
//! stranger) costs one message that is ignored, and said. The child itself is
//! known by number *and* start time. Bounded by [`limits::ANCESTORS_MAX`].

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use greenroom_core::limits;

use super::datagram::Sender;
use super::procfs::Process;

/// Why a datagram was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    /// It came from a process that is no descendant of the child.
    #[error("its sender is no process of the backend")]
    Foreign,
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
#[derive(Clone, Debug)]
pub(super) struct Kin {
    /// Our own pid.
    pub(super) us: i32,
    /// The child of this generation.
    pub(super) child: Process,
    /// The user that the child was started as.
    pub(super) uid: u32,
    /// Children that were there before us (pid, start).
    pub(super) spared: Arc<HashSet<(i32, u64)>>,
}

impl Kin {
    /// Whether the backend sent it.
    pub(super) fn judge(&self, sender: Sender) -> Result<(), Ignored> {
        if sender.pid <= 0 {
            return Err(Ignored::Foreign); // of another pid namespace
        }
        match Process::read(sender.pid) {
            Some(process) => self.judge_living(process),
            None if sender.uid == self.child_uid() => Ok(()),
            None => Err(Ignored::GoneAndForeign),
        }
    }

    /// Whether `pid` is a living process of the backend.
    pub(super) fn has(&self, pid: i32) -> bool {
        Process::read(pid).is_some_and(|process| self.judge_living(process).is_ok())
    }

    fn judge_living(&self, sender: Process) -> Result<(), Ignored> {
        let mut process = sender;
        for _ in 0..limits::ANCESTORS_MAX {
            if process.pid == self.child.pid && process.start == self.child.start {
                return Ok(());
            }
            if process.pid == self.us {
                return Err(Ignored::Foreign); // we do not notify ourselves
            }
            if process.parent == self.us {
                return self.judge_topmost(process);
            }
            match Process::read(process.parent) {
                Some(parent) => process = parent,
                None => return Err(Ignored::Foreign), // 0: above the first process
            }
        }
        Err(Ignored::Foreign)
    }

    fn judge_topmost(&self, orphan: Process) -> Result<(), Ignored> {
        if self.spared.contains(&(orphan.pid, orphan.start)) {
            Err(Ignored::Foreign)
        } else if orphan.start < self.child.start {
            Err(Ignored::EarlierGeneration)
        } else {
            Ok(())
        }
    }

    /// The child's user now (it may have changed it), else the one it started as.
    fn child_uid(&self) -> u32 {
        let now = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.pid)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        self.child.is_same().then(now).flatten().unwrap_or(self.uid)
    }
}
