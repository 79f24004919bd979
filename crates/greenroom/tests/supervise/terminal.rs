//! The child at the terminal, on a pseudo-terminal that the test holds.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::helper::Lines;

pub(super) struct Session {
    leader: Child,
    keyboard: File,
    screen: Lines,
}

/// `leader` (a shell script, `$0` the helper) leads a session at a new terminal.
fn session(leader: &str, child: &str) -> Session {
    session_of(leader, &["/bin/sh", "-c", child])
}

/// As [`session`], of a child given by its words.
pub(super) fn session_of(leader: &str, child: &[&str]) -> Session {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    // A key that means a signal makes the kernel throw away what is written and not read yet, and
    // it does so after the signal: whatever the child says to it at once could be lost.
    let mut modes = rustix::termios::tcgetattr(&theirs).unwrap();
    modes.local_modes |= rustix::termios::LocalModes::NOFLSH;
    rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &modes).unwrap();
    let stdio = || Stdio::from(theirs.try_clone().unwrap());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", leader]).arg(std::env::current_exe().unwrap());
    command.env("SUPERVISE_ROLE", "supervisor").env("SUPERVISE_TTY", "1");
    command.env("SUPERVISE_CHILD", child.join("\u{1f}"));
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    // SAFETY: two system calls, async-signal-safe, on plain data.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        });
    }
    let leader = command.spawn().unwrap();
    let keyboard = File::from(ours);
    let screen = Lines::of(keyboard.try_clone().unwrap());
    Session {
        leader,
        keyboard,
        screen,
    }
}

impl Session {
    /// Whether this has come and was not waited for.
    pub(super) fn has(&self, text: &str) -> bool {
        self.screen.has(text)
    }

    /// The window is drawn larger or smaller.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
    }

    pub(super) fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub(super) fn see(&self, text: &str) -> String {
        self.screen.expect(text)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.leader.kill(); // the terminal hangs up, and with it all that sit at it
        let _ = self.leader.wait();
    }
}

pub(super) const HELPER: &str = r#"exec "$0" helper::helper --exact --nocapture"#;
pub(super) const JOB: &str =
    r#"set -m; "$0" helper::helper --exact --nocapture; echo the shell sees $?; fg >/dev/null; echo after fg $?"#;

#[test]
fn the_child_is_in_the_foreground_and_may_read_the_terminal() {
    let mut session = session(HELPER, "echo up; read line; echo got $line; exit 3");
    session.see("up");
    session.press(b"hello\n");
    assert_eq!(session.see("got "), "hello");
    assert_eq!(session.see("@ended 1 "), "3 interrupted=false");
}

#[test]
fn ctrl_c_ends_the_child_and_is_told_as_a_wish_to_stop() {
    let mut session = session(HELPER, "echo up; exec sleep 1000");
    session.see("up");
    session.press(b"\x03");
    assert_eq!(session.see("@key 1 "), "Interrupt");
    assert_eq!(session.see("@ended 1 "), "130 interrupted=true");
}

#[test]
fn each_ctrl_c_and_ctrl_backslash_is_told_while_the_child_goes_on() {
    // It starts nothing meanwhile: dash forgets a trap's signal that comes while it starts a command (vfork).
    let script = "trap 'echo int' INT; trap 'echo quit' QUIT; echo up; while :; do read line; done";
    let mut session = session(HELPER, script);
    session.see("up");
    for (key, told, name) in [
        (b"\x03", "Interrupt", "int"),
        (b"\x1c", "Quit", "quit"),
        (b"\x03", "Interrupt", "int"),
    ] {
        session.press(key);
        assert_eq!(session.see("@key 1 "), told);
        session.see(name); // the child has got it too
    }
}

#[test]
fn ctrl_z_stops_greenroom_with_its_child_and_fg_continues_both() {
    let mut session = session(JOB, "echo up; read line; echo got $line; read line");
    session.see("up");
    session.press(b"\x1a");
    session.see("@stopped 1 ");
    let code: i32 = session.see("the shell sees ").parse().unwrap();
    assert!(code > 128, "{code}");
    session.press(b"hello\n");
    assert_eq!(session.see("got "), "hello");
    session.press(b"\n");
    session.see("@ended 1 ");
    assert_eq!(session.see("after fg "), "0");
}

#[test]
fn ctrl_z_without_a_shell_that_could_continue_us_stops_nobody() {
    let mut session = session(HELPER, "echo up; read line; echo got $line");
    session.see("up");
    session.press(b"\x1a");
    session.see("@stopped 1 ");
    session.press(b"hello\n");
    assert_eq!(session.see("got "), "hello");
    session.see("@ended 1 ");
}
