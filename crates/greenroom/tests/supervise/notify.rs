//! What the backend says, and what others say in its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::helper::{Helper, Lines, backend_that, need_root, send, until};

const STAY: &str = "echo socket $NOTIFY_SOCKET; exec sleep 1000";

fn started(script: &str) -> (Helper, PathBuf) {
    let mut helper = Helper::of(script);
    helper.spawn(1);
    let socket = PathBuf::from(helper.expect("socket "));
    (helper, socket)
}

fn descriptors(helper: &Helper) -> usize {
    fs::read_dir(format!("/proc/{}/fd", helper.pid())).unwrap().count()
}

#[test]
fn ready_counts_from_the_child_a_grandchild_and_a_daemon_of_its() {
    let ready = backend_that("ready");
    for script in [
        format!("exec env {ready}"),
        format!("{ready}; exec sleep 1000"),
        format!("sh -c '{ready}; true' & wait; exec sleep 1000"),
        format!("(setsid sh -c '{ready}; true' &); exec sleep 1000"),
    ] {
        let mut helper = Helper::of(&script);
        helper.spawn(1);
        assert!(helper.expect("@notified 1 ").starts_with("ready=true"), "{script}");
    }
}

#[test]
fn ready_of_a_process_that_is_not_the_childs_is_ignored_said_once_and_counted() {
    let (mut helper, socket) = started(STAY);
    for _ in 0..3 {
        send(&socket, b"READY=1", 0); // this process is the supervisor's parent
    }
    let said = helper.expect("@ignored 1 ");
    assert!(
        said.starts_with(&std::process::id().to_string()) && said.ends_with("Foreign"),
        "{said}"
    );
    let counted = |helper: &mut Helper| {
        helper.order("counts");
        helper.expect("@counts ")
    };
    while counted(&mut helper) != "orphans=0 ignored=3" {}
}

/// Another user may not enter our build directory: what he sends with is on the system.
const SEND: &str = "python3 -c 'import os, socket, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.sendto(b\"READY=1\", os.environ[\"NOTIFY_SOCKET\"])
print(\"sent\", os.getpid(), flush=True)
sys.stdin.read()'";
const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/// Sends READY from a process that is not the child's; gives its pid, and ends it if `gone`.
fn outsider(socket: &Path, as_user: &str, gone: bool) -> (i32, std::process::Child) {
    let mut process = Command::new("sh")
        .args(["-c", &format!("exec {as_user} {SEND}")])
        .env("NOTIFY_SOCKET", socket)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Lines::of(process.stdout.take().unwrap())
        .expect("sent ")
        .parse()
        .unwrap();
    if gone {
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success());
    }
    (pid, process)
}

#[test]
fn ready_of_another_user_is_ignored_and_of_a_child_that_changed_its_user_believed() {
    need_root();
    let (helper, socket) = started(STAY);
    let (pid, mut process) = outsider(&socket, NOBODY, false);
    assert_eq!(helper.expect("@ignored 1 "), format!("{pid} 65534 Foreign"));
    drop(process.stdin.take());
    process.wait().unwrap();

    // It stays: of a sender that is gone only its user is known, and that is not the child's.
    let child = format!("exec {NOBODY} env PATH=/usr/bin:/bin {SEND}");
    let mut helper = Helper::of(&child);
    helper.spawn(1);
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
}

/// `systemd-notify` in a script has ended before anybody looks: then its user decides.
#[test]
fn of_a_sender_that_is_gone_the_user_decides() {
    need_root();
    for (as_user, expected) in [(NOBODY, "@ignored 1 "), ("", "@notified 1 ")] {
        let (helper, socket) = started(STAY);
        helper.signal(Signal::STOP); // it looks only when the sender is gone
        let (pid, _) = outsider(&socket, as_user, true);
        helper.signal(Signal::CONT);
        let said = helper.expect(expected);
        let ignored = format!("{pid} 65534 GoneAndForeign");
        assert!(said == ignored || said.starts_with("ready=true"), "{said}");
    }
}

/// A22. Between the send and the look the sender's number goes to a process of the child.
#[test]
fn a_number_that_came_to_the_child_does_not_make_its_former_owner_believed() {
    need_root();
    let file = std::env::temp_dir().join(format!("greenroom-number-{}", std::process::id()));
    let script = format!(
        r#"echo socket $NOTIFY_SOCKET; while [ ! -s {f} ]; do sleep 0.01; done; want=$(cat {f})
        until [ "$got" = "$want" ]; do
            echo $((want - 1)) > /proc/sys/kernel/ns_last_pid
            sleep 1000 & got=$!
            [ "$got" = "$want" ] || kill $got
        done
        echo took $got; wait"#,
        f = file.display()
    );
    let (helper, socket) = started(&script);
    helper.signal(Signal::STOP);
    let (pid, _) = outsider(&socket, NOBODY, true);
    fs::write(&file, pid.to_string()).unwrap();
    assert_eq!(helper.expect("took "), pid.to_string(), "the kernel gave it the number");
    fs::remove_file(&file).unwrap();
    helper.signal(Signal::CONT);
    assert_eq!(helper.expect("@ignored 1 "), format!("{pid} 65534 GoneAndForeign"));
}

#[test]
fn a_flood_is_read_at_its_pace_said_once_and_counted_and_what_comes_last_is_heard() {
    let enough = std::env::temp_dir().join(format!("greenroom-enough-{}", std::process::id()));
    let flood = format!("ENOUGH={} {}", enough.display(), backend_that("flood"));
    let mut helper = Helper::of(&format!("{flood}; exec sleep 1000"));
    helper.spawn(1);
    helper.expect("@flooded 1");
    let floods = |helper: &mut Helper| {
        helper.order("floods");
        helper.expect("@floods ").parse::<u32>().unwrap()
    };
    until("the next second has its own", || floods(&mut helper) >= 2);
    fs::write(&enough, "").unwrap();
    helper.expect("@notified 1 ready=true");
    fs::remove_file(enough).unwrap();
    assert!(!helper.has("@flooded"), "said once");
}

#[test]
fn passed_descriptors_are_closed_whoever_sends_them() {
    let bomb = backend_that("fds");
    let script = format!("for n in 1 2 3 4 5 6 7 8; do {bomb}; done; {STAY}");
    let mut helper = Helper::of(&script);
    helper.spawn(1);
    for _ in 0..8 {
        helper.expect("@notified 1 ready=false status=\"bomb\"");
    }
    let socket = PathBuf::from(helper.expect("socket "));
    let before = descriptors(&helper);
    for _ in 0..8 {
        send(&socket, b"READY=1", 253);
    }
    helper.expect("@ignored 1 ");
    let all_read = |helper: &mut Helper| {
        helper.order("counts");
        helper.expect("@counts ").ends_with("ignored=8")
    };
    while !all_read(&mut helper) {}
    assert!(descriptors(&helper) <= before, "{} > {before}", descriptors(&helper));
    assert!(before < 50, "{before}");
}

#[test]
fn a_barrier_ends_after_what_came_before_it() {
    let barrier = backend_that("barrier");
    let mut helper = Helper::of(&format!("{barrier}; echo barrier passed; exec sleep 1000"));
    helper.spawn(1);
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
    assert!(helper.expect("@notified 1 ").ends_with("barrier=true"));
    helper.expect("barrier passed");
}

#[test]
fn a_giant_datagram_is_ignored_and_the_next_is_heard() {
    let (giant, ready) = (backend_that("giant"), backend_that("ready"));
    let mut helper = Helper::of(&format!("{giant}; {ready}; exec sleep 1000"));
    helper.spawn(1);
    assert!(helper.expect("@ignored 1 ").ends_with("TooLong"));
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
}

#[test]
fn a_main_pid_that_is_not_the_childs_is_not_believed() {
    let mut helper = Helper::of(&format!("{}; exec sleep 1000", backend_that("mainpid")));
    helper.spawn(1);
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
    assert_eq!(helper.expect("@main_pid "), "None");
}

#[test]
fn socket_and_directory_go_with_their_generation_and_the_next_has_its_own() {
    let there =
        |path: &Path| fs::symlink_metadata(path).is_ok() || fs::symlink_metadata(path.parent().unwrap()).is_ok();
    let (mut helper, first) = started(STAY);
    assert!(there(&first));
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
    assert!(!there(&first));
    helper.spawn(2);
    let second = PathBuf::from(helper.expect("socket "));
    assert_ne!(first, second);
    assert!(there(&second));
    helper.terminate(10_000);
    assert!(!there(&second));
}

#[test]
fn what_an_earlier_generation_left_behind_cannot_speak_for_the_next() {
    // The daemon outlives its child and notifies whatever socket the file names.
    let file = std::env::temp_dir().join(format!("greenroom-socket-{}", std::process::id()));
    let ready = backend_that("ready-and-stay");
    let script = format!(
        r#"if [ ! -e {f} ]; then touch {f}; (setsid sh -c 'while [ ! -s {f} ]; do sleep 0.01; done; export NOTIFY_SOCKET=$(cat {f}); {ready}' &)
        sleep 0.02; exit 1; fi; echo $NOTIFY_SOCKET > {f}.new; mv {f}.new {f}; exec sleep 1000"#,
        f = file.display()
    );
    let mut helper = Helper::of(&script);
    helper.spawn(1);
    helper.expect("@ended 1 1");
    helper.spawn(2);
    assert!(helper.expect("@ignored 2 ").ends_with("EarlierGeneration"));
    until("the file is removed", || fs::remove_file(&file).is_ok());
}
