//! The sd_notify libraries of Python, Node, C and Rust, as they come, through greenroom; and its watchdog.
//!
//! The Rust child is this test program itself, told by `NOTIFY_LIBRARY_CHILD` to be it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use common::{Greenroom, Ledger, fixture, python};
use rustix::process::Signal;
use sd_notify::NotifyState;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const CHILD: &str = "NOTIFY_LIBRARY_CHILD";

/// Not a test: the Rust child, when it is one.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let say = |states: &[NotifyState<'_>]| sd_notify::notify(states).unwrap();
    say(&[NotifyState::Custom("X_GREENROOM_PHASE=database")]);
    say(&[
        NotifyState::Custom("X_GREENROOM_PHASE=cache"),
        NotifyState::Status("all is there"),
    ]);
    say(&[NotifyState::Ready]);
    say(&[NotifyState::Stopping]);
    loop {
        std::thread::park();
    }
}

fn run(flags: &[&str], cmd: &[&str]) -> Command {
    let args = [
        &["run", "--listen", "127.0.0.1:0", "--ready", "notify"],
        flags,
        &["--"],
        cmd,
    ]
    .concat();
    Greenroom::command(&args)
}

/// The phases are told in order, then READY; gives greenroom.
fn says_how_far_it_is(mut command: Command) -> Greenroom {
    let greenroom = Greenroom::spawn(&mut command);
    greenroom.wait_for_event("ready", PATIENCE);
    let events = greenroom.events();
    let place = |fits: &dyn Fn(&Value) -> bool| {
        events
            .iter()
            .position(fits)
            .unwrap_or_else(|| panic!("{}", greenroom.stderr()))
    };
    let phase = |name: &'static str| place(&move |event| event["event"] == "phase" && event["phase"] == name);
    let ready = place(&|event| event["event"] == "ready");
    assert!(
        phase("database") < phase("cache") && phase("cache") < ready,
        "{}",
        greenroom.stderr()
    );
    place(&|event| event["status"] == "all is there");
    // What greenroom has to say of the machine or the configuration comes before there is a process.
    let started = place(&|event| event["event"] == "started");
    assert!(
        !events[started..].iter().any(|event| event["event"] == "warning"),
        "{}",
        greenroom.stderr()
    );
    greenroom
}

fn says_that_it_stops(greenroom: &Greenroom) {
    greenroom.wait_for(|event| event["event"] == "gate" && event["gate"] == "shut", PATIENCE);
}

#[test]
fn sdnotify_of_python_works_unchanged() {
    let greenroom = says_how_far_it_is(run(&[], &[&python("python"), &fixture("notify_python.py")]));
    greenroom.signal(Signal::USR2);
    says_that_it_stops(&greenroom);
}

#[test]
fn sd_notify_of_node_works_unchanged() {
    common::e2e();
    let greenroom = says_how_far_it_is(run(&[], &["node", &fixture("notify_node.js")]));
    greenroom.signal(Signal::USR2);
    says_that_it_stops(&greenroom);
}

#[test]
fn libsystemd_of_c_works_unchanged_its_barrier_included() {
    common::e2e();
    let ledger = Ledger::new(); // for its folder
    let program = ledger.beside("notify_c");
    let compiled = Command::new("cc")
        .args(["-Wall", "-o"])
        .arg(&program)
        .arg(fixture("notify_c.c"))
        .arg("-lsystemd")
        .status()
        .unwrap();
    assert!(compiled.success());
    let greenroom = says_how_far_it_is(run(&[], &[program.to_str().unwrap()]));
    greenroom.signal(Signal::USR2);
    says_that_it_stops(&greenroom);
}

#[test]
fn sd_notify_of_rust_works_unchanged() {
    let own = std::env::current_exe().unwrap();
    let mut command = run(&[], &[own.to_str().unwrap(), "--exact", "child", "--nocapture"]);
    command.env(CHILD, "1");
    says_that_it_stops(&says_how_far_it_is(command));
}

/// What a hung or sick server says before it is, and what it does at ABRT.
fn sick(says: &str, at_abort: &str) -> String {
    format!(
        "import os, signal, sys, sdnotify
say = sdnotify.SystemdNotifier().notify
signal.signal(signal.SIGABRT, {at_abort})
say('READY=1')
say('{says}')
while True: signal.pause()"
    )
}

/// A life that has failed is followed by the next, as the policy has it, though it ends with 0.
#[test]
fn who_goes_silent_or_cries_for_help_gets_abrt_and_is_started_again() {
    for (says, reason) in [
        ("WATCHDOG_USEC=300000", "no sign of life for 300ms"),
        ("WATCHDOG=trigger", "the server's own watchdog was triggered"),
    ] {
        for (at_abort, code) in [("signal.SIG_DFL", 134), ("lambda *_: os._exit(0)", 0)] {
            let program = sick(says, at_abort);
            let greenroom = Greenroom::spawn(&mut run(&[], &[&python("python"), "-c", &program]));
            let exited = greenroom.wait_for_event("exited", PATIENCE);
            assert_eq!(exited["code"], code, "{exited}");
            assert_eq!(exited["reason"], reason, "{exited}");
            greenroom.wait_for(
                |event| event["event"] == "started" && event["generation"] == 2,
                PATIENCE,
            );
        }
    }
}

#[test]
fn who_does_not_even_end_at_abrt_is_killed_after_the_grace_and_without_a_restart_that_is_the_end() {
    let program = sick("WATCHDOG=trigger", "signal.SIG_IGN");
    let flags = ["--restart", "never", "--grace", "200ms"];
    let began = Instant::now();
    let mut greenroom = Greenroom::spawn(&mut run(&flags, &[&python("python"), "-c", &program]));
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 137, "{}", greenroom.stderr());
    assert!(began.elapsed() >= Duration::from_millis(200), "it had its grace");

    // A failure is none the less for a code of 0.
    let program = sick("WATCHDOG=trigger", "lambda *_: os._exit(0)");
    let mut greenroom = Greenroom::spawn(&mut run(&flags, &[&python("python"), "-c", &program]));
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 1, "{}", greenroom.stderr());
}
