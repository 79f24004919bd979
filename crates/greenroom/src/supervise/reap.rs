//! Waits for children, all of them, in one place.
//!
//! greenroom is a subreaper (or the first process of a container), so what its
//! child leaves behind becomes its own child. Only the supervisor's thread waits;
//! as it also starts and signals, a pid that it has not waited for cannot come
//! to name another process in between. The commands of checks are the one exception:
//! see `errand`.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::errand;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Signalled(i32),
}

impl End {
    /// Its exit code as shells say it: 128 + n for signal n.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// Exit code 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Ended(End),
    Stopped(i32),
    Continued,
}

/// The next child of which there is news.
pub(super) enum News {
    /// Of this one.
    Of(Pid, Change),
    /// Of none, for now.
    NoneYet,
    /// There are no children.
    NoChildren,
}

/// Asks the kernel, without waiting. The end of a check's command is for whoever started it.
pub(super) fn next() -> News {
    loop {
        let ask = || {
            let news = ask();
            let ended = match news {
                News::Of(pid, Change::Ended(end)) => Some((pid, end)),
                News::Of(..) | News::NoneYet | News::NoChildren => None,
            };
            (news, ended)
        };
        if let (news, false) = errand::wait_with(ask) {
            return news;
        }
    }
}

fn ask() -> News {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Ok(Some((pid, status))) => {
                if let Some(change) = change(status) {
                    return News::Of(pid, change);
                }
            }
            Ok(None) => return News::NoneYet,
            Err(Errno::INTR) => {}
            Err(_) => return News::NoChildren, // ECHILD is all that is left
        }
    }
}

/// How a child ended, if it did.
pub(super) fn end_of(status: WaitStatus) -> Option<End> {
    match change(status) {
        Some(Change::Ended(end)) => Some(end),
        Some(Change::Stopped(_) | Change::Continued) | None => None,
    }
}

fn change(status: WaitStatus) -> Option<Change> {
    if let Some(code) = status.exit_status() {
        return Some(Change::Ended(End::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))));
    }
    if let Some(signal) = status.terminating_signal() {
        return Some(Change::Ended(End::Signalled(signal)));
    }
    if let Some(signal) = status.stopping_signal() {
        return Some(Change::Stopped(signal));
    }
    status.continued().then_some(Change::Continued)
}
