//! What the backend says, and what others say in its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::helper::{Helper, backend_that, send, until};

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

#[test]
fn ready_of_another_user_is_ignored_and_of_a_child_that_changed_its_user_believed() {
    let mut can = Command::new("setpriv");
    can.args(["--reuid=65534", "--clear-groups", "test", "-x"])
        .arg(std::env::current_exe().unwrap());
    if !can.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return; // not root, no setpriv, or a build directory that others may not enter
    }
    let (helper, socket) = started(STAY);
    let other = format!("setpriv --reuid=65534 --clear-groups env {}", backend_that("ready"));
    let status = Command::new("sh")
        .args(["-c", &other])
        .env("NOTIFY_SOCKET", &socket)
        .status()
        .unwrap();
    assert!(status.success());
    let said = helper.expect("@ignored 1 ");
    assert!(said.contains(" 65534 "), "{said}");

    // It stays: of a sender that is gone only its user is known, and that is not the child's.
    let other = format!(
        "setpriv --reuid=65534 --clear-groups env {}",
        backend_that("ready-and-stay")
    );
    let mut helper = Helper::of(&other);
    helper.spawn(1);
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));
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
