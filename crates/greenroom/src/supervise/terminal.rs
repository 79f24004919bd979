//! Lends the terminal to the child and takes it back.
//!
//! A child in a process group of its own is a background job to the terminal:
//! it would be stopped when it reads. So its group is made the foreground group
//! while it runs, if ours is that now. Then Ctrl-C and Ctrl-Z reach the child
//! and not us, and we act on what became of it, as a shell does.
//!
//! | what happens | what we do |
//! |---|---|
//! | child started | lend (in the child, before exec) |
//! | child ended | take back; after an end by signal, put its modes back too |
//! | child stopped (Ctrl-Z) | take back, stop ourselves |
//! | we are continued (`fg`) | lend, continue the child |
//! | we are continued (`bg`) | continue the child |
//!
//! Without a terminal at stdin, or when it is not our controlling one, all of it
//! does nothing.

use rustix::process::Pid;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use super::procfs;
use super::spawn::with_ttou_blocked;

/// Our controlling terminal at stdin.
#[derive(Debug)]
pub(super) struct Terminal {
    modes: Termios,
}

impl Terminal {
    /// The terminal at stdin, if it is our controlling one.
    pub(super) fn at_stdin() -> Option<Self> {
        tcgetpgrp(stdin()).ok()?; // ENOTTY: no terminal, or not ours
        Some(Self {
            modes: tcgetattr(stdin()).ok()?,
        })
    }

    /// Whether our own group is in the foreground, so that we may lend it.
    pub(super) fn is_ours(&self) -> bool {
        self.is_held_by(rustix::process::getpgrp())
    }

    /// Whether `group` is in the foreground.
    pub(super) fn is_held_by(&self, group: Pid) -> bool {
        tcgetpgrp(stdin()).is_ok_and(|holder| holder == group)
    }

    /// Makes `group` the foreground group, if that is ours to give.
    pub(super) fn lend(&self, group: Pid) {
        if self.is_ours() {
            hand_to(group);
        }
    }

    /// Takes the terminal back from `group`, if it has it. True if it had.
    pub(super) fn take_back(&self, group: Pid) -> bool {
        let held = self.is_held_by(group);
        if held {
            hand_to(rustix::process::getpgrp());
        }
        held
    }

    /// Takes the terminal back from a group that has ended without ever running.
    pub(super) fn take_back_from_anyone(&self) {
        hand_to(rustix::process::getpgrp());
    }

    /// Puts the modes (echo, line editing) back to what they were at the start.
    pub(super) fn restore_modes(&self) {
        with_ttou_blocked(|| {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &self.modes);
        });
    }
}

fn hand_to(group: Pid) {
    // Taking it from the background would stop us with SIGTTOU. An error means that
    // the terminal is gone, or the group: nothing to hand, nobody to hand it to.
    with_ttou_blocked(|| {
        let _ = tcsetpgrp(stdin(), group);
    });
}

/// Whether nobody would continue our group if it stopped: no member has a parent
/// in another group of the same session (a job-control shell). So it is as the
/// first process of a container: the kernel ignores Ctrl-Z there.
pub(super) fn is_own_group_orphaned() -> bool {
    let all = procfs::all().unwrap_or_default();
    let own = rustix::process::getpgrp().as_raw_nonzero().get();
    !all.iter().filter(|member| member.group == own).any(|member| {
        all.iter()
            .any(|parent| parent.pid == member.parent && parent.group != own && parent.session == member.session)
    })
}
