//! greenroom at a terminal: what Ctrl-C, Ctrl-\ and the keys of a program in raw mode do.
//!
//! The terminal is a real one (a pseudo-terminal that the test holds), and the signals are the
//! kernel's. Ctrl-Z and `fg` need a shell as well and are tested in `supervise`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use common::{
    Greenroom, Ledger, fixture,
    process::{MARK, mark, marked, until},
    python,
    wire::Wire,
};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CTRL_C: &[u8] = b"\x03";
const CTRL_BACKSLASH: &[u8] = b"\x1c";

struct Seat {
    greenroom: Greenroom,
    keyboard: File,
    mark: String,
    _ledger: Ledger,
}

impl Seat {
    /// greenroom at a terminal, with a server that does `int` at SIGINT.
    fn with_server(int: &str, flags: &[&str]) -> Self {
        let (python, server) = (python("python"), fixture("notifier.py"));
        Self::with(&[&["--ready", "notify"], flags].concat(), &[&python, &server], int)
    }

    fn with(flags: &[&str], cmd: &[&str], int: &str) -> Self {
        let args = [&["run", "--listen", "127.0.0.1:0"], flags, &["--"], cmd].concat();
        let (ledger, mark) = (Ledger::new(), mark());
        let mut command = Greenroom::command(&args);
        command.env(MARK, &mark).env("LOG", ledger.path()).env("INT", int);
        let (greenroom, keyboard) = Greenroom::spawn_at_terminal(&command);
        Self {
            greenroom,
            keyboard,
            mark,
            _ledger: ledger,
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// A relayed client and a held one.
    fn guests(&self) -> (Wire, Wire) {
        let address = self.greenroom.address();
        self.greenroom.wait_for_event("ready", PATIENCE);
        let mut relayed = Wire::knock(&address);
        assert_eq!(relayed.status(), 101);
        relayed.echo("here");
        self.greenroom.signal(Signal::USR1); // STOPPING=1: who comes now is held
        self.greenroom
            .wait_for(|e| e["event"] == "gate" && e["gate"] == "shut", PATIENCE);
        let held = Wire::knock(&address);
        self.greenroom.wait_for_event("held", PATIENCE);
        (relayed, held)
    }

    fn ends_with(&mut self, code: i32) {
        assert_eq!(
            self.greenroom.wait_exit_code(PATIENCE),
            code,
            "{}",
            self.greenroom.stderr()
        );
        assert_eq!(marked(&self.mark), [], "nothing is left");
    }

    fn stops_on(&self, key: &str) {
        let stopping = self.greenroom.wait_for_event("stopping", PATIENCE);
        assert_eq!(stopping["signal"], key, "{stopping}");
    }
}

#[test]
fn on_a_terminal_the_child_is_in_the_foreground_reads_from_it_and_ctrl_c_ends_all() {
    let child = "import os\n\
        print('foreground', os.tcgetpgrp(0) == os.getpgrp(), os.isatty(0), os.isatty(1), flush=True)\n\
        print('heard', input(), flush=True)\n\
        import signal\n\
        while True: signal.pause()";
    let mut seat = Seat::with(&[], &[&python("python"), "-c", child], "");
    let sees = |seat: &Seat, text: &str| until(text, || seat.greenroom.stdout().contains(text));
    sees(&seat, "foreground True True True");
    seat.press(b"hello\n");
    sees(&seat, "heard hello");
    seat.press(CTRL_C);
    seat.stops_on("Ctrl-C");
    seat.ends_with(0);
}

/// CMD has seen the key too, whatever it does then: it ends with 0 or 1, or not at all.
#[test]
fn ctrl_c_is_503_for_the_held_1001_for_the_relayed_and_0_whatever_the_child_makes_of_it() {
    for (int, restart) in [
        ("0", "always"),
        ("1", "on-failure"),
        ("1", "always"),
        ("ignore", "always"),
    ] {
        let mut seat = Seat::with_server(int, &["--restart", restart]);
        let (mut relayed, mut held) = seat.guests();
        seat.press(CTRL_C);
        assert_eq!(held.status(), 503, "{int} {restart}");
        assert_eq!(relayed.closed().0, 1001, "{int} {restart}");
        drop((relayed, held));
        seat.stops_on("Ctrl-C");
        seat.ends_with(0);
        let lines = seat.greenroom.stdout();
        assert!(
            lines.lines().any(|line| line.trim().starts_with("int")),
            "CMD saw it too: {lines}"
        );
        let started = seat
            .greenroom
            .events()
            .iter()
            .filter(|e| e["event"] == "started")
            .count();
        assert_eq!(started, 1, "it is not started again: {int} {restart}");
    }
}

#[test]
fn a_second_ctrl_c_cuts_the_grace_short() {
    let script = "trap '' INT TERM; echo up; while :; do sleep 1000; done";
    let mut seat = Seat::with(&["--grace", "1h"], &["sh", "-c", script], "");
    until("the child is up", || seat.greenroom.stdout().contains("up"));
    seat.press(CTRL_C);
    seat.stops_on("Ctrl-C");
    let again = Instant::now();
    seat.press(CTRL_C);
    seat.ends_with(1);
    assert!(again.elapsed() < PATIENCE, "not after an hour");
}

#[test]
fn ctrl_backslash_ends_all_without_grace() {
    let script = "trap '' QUIT TERM; echo up; while :; do sleep 1000; done";
    let mut seat = Seat::with(&["--grace", "1h"], &["sh", "-c", script], "");
    until("the child is up", || seat.greenroom.stdout().contains("up"));
    seat.press(CTRL_BACKSLASH);
    seat.stops_on("Ctrl-\\");
    seat.ends_with(1);
}

/// In raw mode Ctrl-C is a byte, and the program's. A SIGINT that it sends to its own group is no key.
#[test]
fn keys_of_a_program_in_raw_mode_and_its_own_signals_do_not_stop_greenroom() {
    let mut seat = Seat::with(&[], &[&python("python"), &fixture("typist.py")], "");
    let sees = |seat: &Seat, text: &str| until(text, || seat.greenroom.stdout().contains(text));
    sees(&seat, "up");
    seat.press(CTRL_C);
    sees(&seat, "key 3");
    seat.press(b"q");
    sees(&seat, "sent");
    seat.press(b"x");
    sees(&seat, "key 120");
    assert!(
        !seat.greenroom.events().iter().any(|event| event["event"] == "stopping"),
        "{}",
        seat.greenroom.stdout()
    );
    seat.greenroom.signal(Signal::TERM);
    seat.stops_on("TERM");
    seat.ends_with(0);
}
