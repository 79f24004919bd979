//! Several children under one supervisor, and where and as whom a child runs.

use std::fs;
use std::path::PathBuf;

use super::helper::{Helper, backend_that, is_alive, kill, need_root, parent_of, until};

/// A child with somebody in its group and a daemon that left it, which ignores what it can.
const FAMILY: &str = r#"sleep 1000 & echo $NAME-group $!
    (setsid sh -c 'trap "" TERM; echo $NAME-daemon $$; sleep 1000; sleep 1000' &)
    echo $NAME-socket $NOTIFY_SOCKET; wait"#;

fn family(name: &str) -> String {
    format!("export NAME={name}; {FAMILY}")
}

fn pid(text: &str) -> i32 {
    text.parse().unwrap()
}

/// Two families; gives all their processes.
fn two() -> (Helper, [[i32; 3]; 2]) {
    let (one, two) = (family("one"), family("two"));
    let mut helper = Helper::with(&[&["/bin/sh", "-c", &one], &["/bin/sh", "-c", &two]]);
    let first = helper.spawn(1);
    let second = helper.spawn_of(1, 1);
    let of = |name: &str| ["group", "daemon"].map(|who| pid(&helper.expect(&format!("{name}-{who} "))));
    let ([a, b], [c, d]) = (of("one"), of("two"));
    (helper, [[first, a, b], [second, c, d]])
}

#[test]
fn to_end_one_child_ends_all_of_it_and_nobody_of_the_other() {
    let (mut helper, [first, second]) = two();
    assert_eq!(helper.terminate(50), "killed=true left=0");
    assert!(first.into_iter().all(|pid| !is_alive(pid)), "{first:?}");
    assert!(second.into_iter().all(is_alive), "{second:?}");
    helper.spawn(2); // beside the other, which goes on
    assert!(second.into_iter().all(is_alive), "{second:?}");
    helper.order("terminate_all 50");
    assert_eq!(helper.expect("@terminated "), "killed=true left=0");
    assert!(second.into_iter().all(|pid| !is_alive(pid)), "{second:?}");
}

#[test]
fn what_a_child_left_behind_is_swept_while_the_other_goes_on() {
    let (mut helper, [first, second]) = two();
    kill(first[0]);
    helper.expect("@ended 1 137");
    assert!(is_alive(first[1]) && is_alive(first[2]));
    assert_eq!(helper.terminate(50), "killed=true left=0");
    assert!(first.into_iter().all(|pid| !is_alive(pid)), "{first:?}");
    assert!(second.into_iter().all(is_alive), "{second:?}");
}

#[test]
fn a_killed_warden_costs_its_own_child_alone() {
    let (mut helper, [first, second]) = two();
    kill(parent_of(first[0]));
    helper.expect("@ended 1 137"); // PDEATHSIG
    until("the child is dead", || !is_alive(first[0]));
    helper.terminate(50);
    assert!(first.into_iter().all(|pid| !is_alive(pid)), "its strays too: {first:?}");
    assert!(second.into_iter().all(is_alive), "{second:?}");
    helper.spawn(2);
}

#[test]
fn a_killed_greenroom_leaves_nobody_of_any_child() {
    let (mut helper, [first, second]) = two();
    helper.kill();
    let all = [first, second].concat();
    until("all are dead", || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn one_child_cannot_speak_for_another() {
    let speak = format!(
        "read socket; NOTIFY_SOCKET=$socket; export NOTIFY_SOCKET; {}",
        backend_that("ready-and-stay")
    );
    let file = std::env::temp_dir().join(format!("greenroom-fifo-{}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    let speak = format!("{{ {speak}; }} < {}", file.display());
    let mut helper = Helper::with(&[
        &["/bin/sh", "-c", "echo socket $NOTIFY_SOCKET; exec sleep 1000"],
        &["/bin/sh", "-c", &speak],
    ]);
    helper.spawn(1);
    helper.spawn_of(1, 1);
    fs::write(&file, helper.expect("socket ")).unwrap();
    assert!(helper.expect("@ignored 1 ").ends_with("OtherChild"));
    fs::remove_file(file).unwrap();
}

#[test]
fn of_several_children_none_has_anything_to_read() {
    let read = "read line; echo $NAME read $?; exec sleep 1000";
    let (one, two) = (format!("NAME=one; {read}"), format!("NAME=two; {read}"));
    let mut helper = Helper::with(&[&["/bin/sh", "-c", &one], &["/bin/sh", "-c", &two]]);
    helper.spawn(1);
    helper.spawn_of(1, 1);
    assert_eq!(
        (helper.expect("one read "), helper.expect("two read ")),
        ("1".into(), "1".into())
    );
}

#[test]
fn a_child_that_does_not_start_is_nobodys_trouble_but_its_own() {
    let mut helper = Helper::with(&[&["/no/such/file"], &["sleep", "1000"]]);
    let second = helper.spawn_of(1, 1);
    helper.order("spawn 1");
    assert_eq!(
        helper.expect("@error "),
        "127 cannot start `/no/such/file`: no such file"
    );
    helper.order("spawn 1 2");
    assert!(
        helper.expect("@error ").contains("the supervisor has ended"),
        "there is no third child"
    );
    assert!(is_alive(second));
}

#[test]
fn a_child_runs_where_it_is_told_to() {
    let folder = std::env::temp_dir().join(format!("greenroom-cwd-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::copy("/bin/sh", folder.join("shell")).unwrap();
    let cwd = format!("cwd={}", folder.display());
    let mut helper = Helper::new(&[&cwd, "./shell", "-c", "echo at $(pwd); exec sleep 1000"], &[], "");
    helper.spawn(1);
    assert_eq!(PathBuf::from(helper.expect("at ")), folder.canonicalize().unwrap());
    helper.terminate(10_000);
    fs::remove_dir_all(&folder).unwrap();
    helper.order("spawn 2");
    let said = helper.expect("@error ");
    assert!(
        said.starts_with(&format!(
            "126 cannot start `./shell` in {}: No such file",
            folder.display()
        )),
        "{said}"
    );
}

#[test]
fn a_child_of_another_user_has_his_numbers_groups_and_home_is_heard_and_dies_with_its_warden() {
    need_root();
    let script = "echo is $(id -u) $(id -g) $(id -G) $USER $LOGNAME $HOME; echo socket $NOTIFY_SOCKET; exec sleep 1000";
    // Ours are others, and must not stay.
    let groups = r#"exec setpriv --groups=4,24 "$0" helper::helper --exact --nocapture"#;
    let mut helper = Helper::new(&["user=nobody", "/bin/sh", "-c", script], &[], groups);
    let child = helper.spawn(1);
    let entry = String::from_utf8(
        std::process::Command::new("getent")
            .args(["passwd", "nobody"])
            .output()
            .unwrap()
            .stdout,
    );
    let entry = entry.unwrap();
    let field = |n| entry.trim().split(':').nth(n).unwrap();
    let expected = format!("{} {} {} nobody nobody {}", field(2), field(3), field(3), field(5));
    assert_eq!(helper.expect("is "), expected);
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");

    // Of a sender that is gone the user decides: his, though greenroom is root.
    let socket = PathBuf::from(helper.expect("socket "));
    helper.signal(rustix::process::Signal::STOP);
    send_as_nobody(&socket);
    helper.signal(rustix::process::Signal::CONT);
    assert!(helper.expect("@notified 1 ").starts_with("ready=true"));

    kill(parent_of(child)); // PDEATHSIG outlives the change of user
    until("the child is dead", || !is_alive(child));
}

fn send_as_nobody(socket: &std::path::Path) {
    let script = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', sys.argv[1])";
    let mut sender = std::process::Command::new("setpriv");
    sender.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "python3",
        "-c",
        script,
    ]);
    let sent = sender.arg(socket).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_group_alone_is_taken_and_unknown_ones_are_named() {
    need_root();
    let mut helper = Helper::new(
        &[
            "group=65534",
            "/bin/sh",
            "-c",
            "echo is $(id -u) $(id -g) $(id -G); exec sleep 1000",
        ],
        &[],
        "",
    );
    helper.spawn(1);
    assert_eq!(helper.expect("is "), "0 65534 65534");
    let mut helper = Helper::new(&["user=no-such-user", "sleep", "1000"], &[], "");
    helper.order("spawn 1");
    assert_eq!(
        helper.expect("@error "),
        "126 cannot start `sleep`: there is no user `no-such-user` on this machine (see getent passwd)"
    );
}

#[test]
fn who_may_not_change_the_user_is_told_what_to_do() {
    need_root(); // of which the right to change the user is taken away
    let without = r#"exec setpriv --bounding-set=-setuid,-setgid "$0" helper::helper --exact --nocapture"#;
    let mut helper = Helper::new(&["user=nobody", "sleep", "1000"], &[], without);
    helper.order("spawn 1");
    let said = helper.expect("@error ");
    assert!(
        said.starts_with("126 cannot start `sleep` as another user: greenroom runs as user 0")
            && said.contains("CAP_SETUID and CAP_SETGID"),
        "{said}"
    );
}
