//! Starting, signalling, ending, waiting.

use std::fs;
use std::path::PathBuf;

use super::helper::{Helper, is_alive, until};

const DAEMON: &str = r#"(setsid sh -c 'echo daemon $$; exec sleep 1000' &)"#;
const STUBBORN: &str = r#"(setsid sh -c 'trap "" TERM; echo daemon $$; sleep 1000; sleep 1000' &)"#;

fn pid(text: &str) -> i32 {
    text.parse().unwrap()
}

#[test]
fn terminate_ends_the_whole_group_within_the_grace() {
    let mut helper = Helper::of("sleep 1000 & echo one $!; sleep 1000 & echo two $!; wait");
    let child = helper.spawn(1);
    let (one, two) = (pid(&helper.expect("one ")), pid(&helper.expect("two ")));
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
    assert!([child, one, two].into_iter().all(|pid| !is_alive(pid)));
}

#[test]
fn a_child_that_ignores_term_is_killed_after_the_grace_and_that_is_said() {
    let mut helper = Helper::of(r#"trap "" TERM; echo up; while :; do sleep 1000; done"#);
    let child = helper.spawn(1);
    helper.expect("up");
    assert_eq!(helper.terminate(50), "killed=true left=0");
    assert!(!is_alive(child));
}

#[test]
fn a_second_terminate_shortens_the_grace_of_the_first() {
    let mut helper = Helper::of(r#"trap "" TERM; echo up; while :; do sleep 1000; done"#);
    helper.spawn(1);
    helper.expect("up");
    helper.order("terminate 3600000");
    assert_eq!(helper.terminate(0), "killed=true left=0");
    assert_eq!(helper.expect("@terminated "), "killed=true left=0");
}

#[test]
fn a_stopped_child_is_ended_within_the_grace() {
    let mut helper = Helper::of("exec sleep 1000");
    helper.spawn(1);
    helper.order("forward STOP");
    helper.expect("@stopped 1");
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
}

#[test]
fn a_signal_that_comes_before_the_child_is_known_to_run_is_not_lost() {
    let mut helper = Helper::new(&["sleep", "1000"], &[], "");
    helper.order("begin 1\nforward HUP\nforward HUP");
    assert_eq!(helper.expect("@ended 1 "), "129 interrupted=false");
}

#[test]
fn a_daemon_that_left_the_group_gets_term_and_the_grace() {
    let mut helper = Helper::of(&format!("{DAEMON}; exec sleep 1000"));
    helper.spawn(1);
    let daemon = pid(&helper.expect("daemon "));
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
    assert!(!is_alive(daemon));
}

#[test]
fn what_a_dead_child_left_behind_is_swept_before_the_next_start() {
    let mut helper = Helper::of(&format!("{STUBBORN}; exec sleep 0"));
    helper.spawn(1);
    let daemon = pid(&helper.expect("daemon "));
    helper.expect("@ended 1 0");
    assert!(is_alive(daemon));
    assert_eq!(helper.terminate(50), "killed=true left=0");
    assert!(!is_alive(daemon));
    helper.spawn(2);
}

#[test]
fn a_child_that_was_there_before_greenroom_is_spared() {
    let mut helper = Helper::new(&["sleep", "1000"], &[], "sleep 1000 >/dev/null & echo before $!");
    let before = pid(&helper.expect("before "));
    helper.spawn(1);
    assert_eq!(helper.terminate(10_000), "killed=false left=0");
    assert!(is_alive(before));
    let before = rustix::process::Pid::from_raw(before).unwrap();
    rustix::process::kill_process(before, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn orphans_are_waited_for() {
    let mut helper = Helper::of("(sleep 0 & echo orphan $!); exec sleep 1000");
    helper.spawn(1);
    let orphan = helper.expect("orphan ");
    until("the orphan is gone, not a zombie", || {
        fs::metadata(format!("/proc/{orphan}")).is_err()
    });
    // Its warden has waited for it, and tells so a moment later.
    until("it is counted", || {
        helper.order("counts");
        helper.expect("@counts ") == "orphans=1 ignored=0"
    });
}

#[test]
fn the_child_its_daemon_and_its_folder_go_with_a_killed_greenroom() {
    let mut helper = Helper::of(&format!("echo socket $NOTIFY_SOCKET; {STUBBORN}; exec sleep 1000"));
    let child = helper.spawn(1);
    let (socket, daemon) = (PathBuf::from(helper.expect("socket ")), pid(&helper.expect("daemon ")));
    assert!(is_alive(child) && is_alive(daemon) && socket.exists());
    helper.kill();
    until("all are dead", || !is_alive(child) && !is_alive(daemon));
    until("the folder is gone", || !socket.parent().unwrap().exists());
}

#[test]
fn the_end_of_a_child_has_the_exit_code_that_a_shell_would_say() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("exit 130", 130),
        ("kill -PIPE $$", 141),
    ] {
        let mut helper = Helper::of(script);
        helper.spawn(1);
        assert_eq!(
            helper.expect("@ended 1 "),
            format!("{code} interrupted=false"),
            "{script}"
        );
    }
}

#[test]
fn a_command_that_cannot_start_is_one_clear_line_and_the_code() {
    let here = env!("CARGO_MANIFEST_DIR");
    let script = std::env::temp_dir().join(format!("greenroom-interpreter-{}", std::process::id()));
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (plain, script) = (format!("{here}/Cargo.toml"), script.to_string_lossy().into_owned());
    let cases = [
        (
            "no-such-program",
            "127 cannot start `no-such-program`: no such program in PATH".to_owned(),
        ),
        (
            "/no/such/file",
            "127 cannot start `/no/such/file`: no such file".to_owned(),
        ),
        (
            &plain,
            format!("126 cannot start `{plain}`: it is no executable file (chmod +x?)"),
        ),
        (
            &script,
            format!("126 cannot start `{script}`: its interpreter (the program after `#!`) does not exist"),
        ),
    ];
    for (program, expected) in cases {
        let mut helper = Helper::new(&[program], &[], "");
        for generation in [1, 2] {
            helper.order(&format!("spawn {generation}")); // the first failure leaves no trace
            assert_eq!(helper.expect("@error "), expected);
        }
    }
    fs::remove_file(script).unwrap();
}

#[test]
fn a_second_child_is_not_started_beside_the_first() {
    let mut helper = Helper::new(&["sleep", "1000"], &[], "");
    helper.spawn(1);
    helper.order("spawn 2");
    assert_eq!(
        helper.expect("@error "),
        "126 cannot start `sleep`: the one before has not ended"
    );
}

#[test]
fn a_forwarded_signal_reaches_the_group() {
    // Nothing is started after `up`: dash forgets a trap's signal that comes while it starts a command (vfork).
    let mut helper = Helper::of(r#"trap "echo got hup; exit" HUP; sleep 1000 & echo up; wait"#);
    helper.spawn(1);
    helper.expect("up");
    helper.order("forward HUP");
    helper.expect("got hup");
}

#[test]
fn the_child_gets_only_0_1_and_2_the_old_limit_and_clean_signals() {
    let mut helper = Helper::new(&["sleep", "1000"], &[], "exec 9</dev/null");
    let child = helper.spawn(1);
    let stray = format!("/proc/{}/fd/9", helper.pid());
    assert!(
        fs::metadata(stray).is_ok(),
        "the helper itself has a descriptor that it could pass on"
    );
    let fds = || {
        let fds = fs::read_dir(format!("/proc/{child}/fd")).unwrap();
        let mut fds: Vec<_> = fds.map(|fd| fd.unwrap().file_name().into_string().unwrap()).collect();
        fds.sort();
        fds
    };
    // While it loads its libraries it has a few of its own.
    until("the child has 0, 1, 2 and no other descriptor", || {
        fds() == ["0", "1", "2"]
    });
    let read = |name| fs::read_to_string(format!("/proc/{child}/{name}")).unwrap();
    assert!(
        read("limits")
            .lines()
            .any(|line| line.starts_with("Max open files            123 "))
    );
    let mask = |name: &str| {
        let status = read("status");
        let hex = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(hex.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigIgn:") & (1 << 12), 0, "SIGPIPE is ignored");
}

#[test]
fn the_childs_environment_holds_what_is_meant_for_it_and_nothing_else_of_ours() {
    let names = [
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "GREENROOM_TOKEN",
    ];
    let mut env: Vec<_> = names.iter().map(|name| (*name, "ours")).collect();
    env.extend([("NOTIFY_SOCKET", "/ours"), ("PORT", "1"), ("ANYTHING", "else")]);
    let mut helper = Helper::new(&["sleep", "1000"], &env, "");
    let child = helper.spawn(1);
    let environ = fs::read_to_string(format!("/proc/{child}/environ")).unwrap();
    let of = |name: &str| {
        environ
            .split('\0')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    assert!(names.iter().all(|name| of(name).is_none()), "{environ:?}");
    assert_eq!((of("PORT"), of("ANYTHING")), (Some("4711"), Some("else")));
    assert!(of("NOTIFY_SOCKET").is_some_and(|path| path.ends_with("/notify")));
}
