//! Children that go silent, and lives that are ended as failed.

use std::time::Duration;

use rustix::process::Signal;

use super::helper::{Helper, until};
use super::terminal::session_of;

/// Says things: `notify("READY=1")`.
const NOTIFY: &str = "import os, signal, socket, sys, time
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ['NOTIFY_SOCKET'])
notify = lambda text: sender.send(text.encode())
say = lambda *words: os.write(1, (' '.join(map(str, words)) + '\\n').encode()) # each line in one piece
";

/// One that will start this Python program, with these settings.
fn of(settings: &[&str], program: &str) -> Helper {
    let program = format!("{NOTIFY}{program}");
    Helper::new(&[settings, &["python3", "-c", &program]].concat(), &[], "")
}

#[test]
fn whoever_is_silent_for_as_long_as_its_watchdog_bears_is_told_of_when_it_is_due() {
    let program = "notify('STATUS=a start may last'); time.sleep(0.4)
notify('READY=1'); say('ready', time.monotonic_ns()); signal.pause()";
    let mut helper = of(&["watchdog_ms=300"], program);
    helper.spawn(1);
    let said = helper.expect("@watchdog 1 Some(300ms) ");
    let (told, ready): (u64, u64) = (said.parse().unwrap(), helper.expect("ready ").parse().unwrap());
    let silence = Duration::from_nanos(told - ready);
    // Its READY was received a little before it says so. Late by what a busy machine is late.
    assert!(
        silence > Duration::from_millis(290) && silence < Duration::from_millis(450),
        "{silence:?}"
    );
    assert!(!helper.has("@ended"), "what follows is not decided here");
    helper.order("fail ABRT,10000,1");
    assert_eq!(helper.expect("@ended 1 "), "134 interrupted=false");
}

#[test]
fn a_sign_of_life_that_waits_while_greenroom_stands_still_is_not_missed() {
    // Fewer than the kernel keeps for us, for longer than the watchdog bears.
    let program = "notify('READY=1'); say('up')
for n in range(1000): time.sleep(0.06); notify('WATCHDOG=1'); say('sign', n)";
    let mut helper = of(&["watchdog_ms=300"], program);
    helper.spawn(1);
    helper.expect("sign 0");
    helper.signal(Signal::STOP);
    helper.expect("sign 8");
    helper.signal(Signal::CONT);
    helper.expect("sign 20");
    assert!(!helper.has("@watchdog"));
}

/// Nor one that waits because more was said in this second than is read.
#[test]
fn a_sign_of_life_in_a_flood_is_not_missed() {
    let program = "notify('READY=1')
while True:
    for n in range(200): notify('STATUS=flood')
    notify('WATCHDOG=1')";
    let mut helper = of(&["watchdog_ms=300"], program);
    helper.spawn(1);
    helper.expect("@flooded 1");
    until("the rest of two seconds is over", || {
        helper.order("floods");
        helper.expect("@floods ").parse::<u32>().unwrap() >= 3
    });
    assert!(!helper.has("@watchdog"));
}

#[test]
fn a_cry_for_help_is_told_with_or_without_a_watchdog() {
    for settings in [&[][..], &["watchdog_ms=3600000"]] {
        let mut helper = of(settings, "notify('WATCHDOG=trigger'); signal.pause()");
        helper.spawn(1);
        helper.expect("@watchdog 1 None");
    }
}

#[test]
fn the_child_is_told_its_watchdog_and_its_own_number_and_without_one_neither() {
    let script = "echo told $WATCHDOG_USEC,$WATCHDOG_PID,$$,$PORT";
    let mut helper = Helper::new(&["watchdog_ms=1500", "/bin/sh", "-c", script], &[], "");
    let pid = helper.spawn(1);
    assert_eq!(helper.expect("told "), format!("1500000,{pid},{pid},4711"));
    let mut helper = Helper::of(script);
    let pid = helper.spawn(1);
    assert_eq!(helper.expect("told "), format!(",,{pid},4711"));
}

#[test]
fn who_hangs_is_ended_though_it_is_stopped_and_killed_after_the_grace() {
    let program = "signal.signal(signal.SIGABRT, lambda *_: say('aborted')); notify('READY=1'); say('up')
while True: signal.pause()";
    let mut helper = of(&["watchdog_ms=200"], program);
    helper.spawn(1);
    helper.expect("up");
    helper.order("forward STOP"); // by somebody, not by a terminal: it is silent
    helper.expect("@watchdog 1 ");
    helper.order("fail ABRT,200,1");
    helper.expect("aborted");
    assert_eq!(helper.expect("@ended 1 "), "137 interrupted=false");
}

#[test]
fn only_the_life_that_failed_is_ended_and_the_next_may_begin() {
    let mut helper = Helper::of("trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.01; done");
    helper.spawn(1);
    helper.expect("up");
    helper.order("fail TERM,10000,1");
    helper.order("fail TERM,0,1"); // it is being ended: nothing is added to that
    helper.expect("term");
    assert_eq!(helper.expect("@ended 1 "), "0 interrupted=false");
    helper.terminate(10_000);
    helper.spawn(2);
    helper.expect("up");
    helper.order("fail TERM,0,1"); // late: of the life before
    helper.order("counts");
    helper.expect("@counts ");
    assert!(!helper.has("@ended 2"));
    helper.order("fail TERM,10000,2");
    helper.expect("@ended 2 0");
}

#[test]
fn whoever_asks_for_more_time_at_its_end_has_it() {
    let program = "def end(*_):
    notify('EXTEND_TIMEOUT_USEC=60000000'); say('asked'); time.sleep(0.5); sys.exit(3)
signal.signal(signal.SIGTERM, end); say('up')
while True: signal.pause()";
    let mut helper = of(&[], program);
    helper.spawn(1);
    helper.expect("up");
    assert_eq!(helper.terminate(250), "killed=false left=0");
    assert_eq!(helper.expect("@ended 1 "), "3 interrupted=false");

    // Whoever hurries is heard all the same.
    let mut helper = of(&[], &program.replace("time.sleep(0.5)", "time.sleep(1000)"));
    helper.spawn(1);
    helper.expect("up");
    helper.order("terminate 3600000");
    helper.expect("asked");
    helper.order("terminate 0");
    helper.expect("@terminated killed=true");
}

#[test]
fn whoever_is_being_ended_is_not_silent() {
    let program = "signal.signal(signal.SIGTERM, lambda *_: say('term')); notify('READY=1'); say('up')
while True: signal.pause()";
    let mut helper = of(&["watchdog_ms=300"], program);
    helper.spawn(1);
    helper.expect("up");
    assert_eq!(helper.terminate(600), "killed=true left=0");
    assert!(!helper.has("@watchdog"));
}

#[test]
fn whoever_is_stopped_with_ctrl_z_is_not_silent_and_has_its_whole_time_after_fg() {
    let leader = r#"set -m; "$0" helper::helper --exact --nocapture; echo the shell sees $?; sleep 1; fg >/dev/null; echo after fg $?"#;
    let program = format!("{NOTIFY}notify('READY=1'); say('up'); say('heard', input()); notify('STOPPING=1')");
    let mut session = session_of(leader, &["watchdog_ms=700", "python3", "-c", &program]);
    session.see("up");
    session.press(b"\x1a");
    session.see("the shell sees ");
    session.press(b"hello\n");
    assert_eq!(session.see("heard "), "hello");
    session.see("after fg ");
    assert!(!session.has("@watchdog"));
}

#[test]
fn a_watchdog_dies_with_its_life() {
    let mut helper = of(&["watchdog_ms=200"], "notify('READY=1'); say('up', os.getpid())");
    helper.spawn(1);
    helper.expect("@ended 1 ");
    helper.terminate(0);
    helper.spawn(2);
    helper.expect("@ended 2 ");
    until("its time is over", || {
        helper.order("counts");
        helper.expect("@counts ");
        true
    });
    assert!(!helper.has("@watchdog"));
}
