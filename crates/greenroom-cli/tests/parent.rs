//! A good parent: what `greenroom run` owes to its child, to its own parent, and to whoever reads its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{
    Greenroom, Ledger,
    process::{MARK, environment, is_there, mark, marked, until, wardens},
    python,
    wire::Wire,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// The child's end is the end.
const NEVER: [&str; 2] = ["--restart", "never"];

fn command(flags: &[&str], cmd: &[&str]) -> Command {
    let args = [&["run", "--listen", "127.0.0.1:0"], flags, &["--"], cmd].concat();
    Greenroom::command(&args)
}

fn run(flags: &[&str], cmd: &[&str]) -> Greenroom {
    Greenroom::spawn(&mut command(flags, cmd))
}

/// Runs a shell script as the child, until it has said `up`.
fn up(flags: &[&str], script: &str, mark: &str) -> Greenroom {
    let greenroom = Greenroom::spawn(command(flags, &["sh", "-c", script]).env(MARK, mark));
    until("the child says up", || greenroom.stdout().contains("up"));
    greenroom
}

/// The fatal event; that it is the only one, and that no warning beside it says the same.
fn fatal(greenroom: &Greenroom, code: i32) -> String {
    let events = greenroom.events();
    let said = events
        .iter()
        .filter(|event| ["fatal", "warning"].contains(&event["event"].as_str().unwrap()));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "one clear line: {said:?}");
    assert_eq!(
        (&said[0]["event"], &said[0]["code"]),
        (&"fatal".into(), &code.into()),
        "{said:?}"
    );
    said[0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn stopped_by_a_signal_while_the_child_ends_in_time_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mark = mark();
        let mut greenroom = up(&[], "echo up; sleep 1000", &mark);
        until("greenroom, sh and sleep run", || marked(&mark).len() >= 3);
        greenroom.signal(signal);
        assert_eq!(greenroom.wait_exit_code(PATIENCE), 0, "{}", greenroom.stderr());
        assert_eq!(marked(&mark), []);
    }
}

#[test]
fn a_child_that_does_not_end_within_the_grace_is_killed_and_that_is_1() {
    let mark = mark();
    let mut greenroom = up(
        &["--grace", "300ms"],
        "trap '' TERM; echo up; while :; do sleep 1000; done",
        &mark,
    );
    let told = Instant::now();
    greenroom.signal(Signal::TERM);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 1, "{}", greenroom.stderr());
    assert!(told.elapsed() >= Duration::from_millis(300), "it had its grace");
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_child_that_ends_and_is_not_started_again_gives_its_code_after_503_to_the_held() {
    for (script, code) in [
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("exit 0", 0),
    ] {
        // It waits for a signal before it ends, so that somebody can be held meanwhile.
        // Nothing is started after `up`: dash forgets a trap's signal that comes while it starts a command (vfork).
        let script = format!("trap '{script}' USR1; sleep 1000 & echo up; wait $!");
        let mark = mark();
        let mut greenroom = up(&NEVER, &script, &mark);
        let mut held = Wire::knock(&greenroom.address());
        greenroom.wait_for_event("held", PATIENCE);
        greenroom.signal(Signal::USR1);
        assert_eq!(held.status(), 503);
        drop(held);
        assert_eq!(greenroom.wait_exit_code(PATIENCE), code, "{}", greenroom.stderr());
        assert_eq!(marked(&mark), [], "what the child left behind is ended too");
    }
}

#[test]
fn arguments_that_cannot_be_used_are_2_and_start_nothing() {
    for args in [
        &["run", "--hold-timeout", "5", "--", "true"][..],
        &["run"],
        &["run", "--listen", "nonsense", "--", "true"],
        &["serve"],
    ] {
        let mut greenroom = Greenroom::spawn(&mut Greenroom::command(args));
        assert_eq!(greenroom.wait_exit_code(PATIENCE), 2, "{args:?}");
        until("it says why", || greenroom.stderr().contains("error"));
        assert_eq!(greenroom.events(), Vec::<Value>::new(), "{args:?}");
    }
}

#[test]
fn a_port_in_use_is_69_and_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut greenroom = Greenroom::start(&["run", "--listen", &address, "--", "echo", "started"]);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 69);
    let message = fatal(&greenroom, 69);
    assert!(
        message.contains(&address) && message.contains("--listen"),
        "what, where, what to do: {message}"
    );
    assert_eq!(greenroom.stderr().trim().lines().count(), 1, "{}", greenroom.stderr());
    assert_eq!(greenroom.stdout(), "", "CMD was not started");
}

#[test]
fn a_command_that_does_not_exist_is_127_and_one_that_cannot_be_executed_126() {
    let ledger = Ledger::new(); // its file is no program
    let path = ledger.path();
    for (cmd, code) in [
        ("no-such-command-anywhere", 127),
        ("/no/such/file", 127),
        (path.to_str().unwrap(), 126),
    ] {
        let mut greenroom = run(&[], &[cmd]);
        assert_eq!(greenroom.wait_exit_code(PATIENCE), code, "{}", greenroom.stderr());
        let message = fatal(&greenroom, code);
        assert!(message.contains(cmd), "{message}");
        assert_eq!(greenroom.events().last().unwrap()["event"], "stopped", "the last line");
    }
}

#[test]
fn hup_usr1_usr2_and_winch_reach_the_child_and_not_greenroom() {
    let script = "import signal, sys\n\
        say = lambda number, _: print('got', signal.Signals(number).name, flush=True)\n\
        for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'): signal.signal(getattr(signal, name), say)\n\
        print('up', flush=True)\n\
        while True: signal.pause()";
    let mut greenroom = run(&[], &[&python("python"), "-c", script]);
    until("the child is up", || greenroom.stdout().contains("up"));
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::WINCH, "SIGWINCH"),
    ] {
        greenroom.signal(signal);
        until(name, || greenroom.stdout().contains(&format!("got {name}")));
    }
    greenroom.signal(Signal::TERM);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0);
}

#[test]
fn what_the_child_made_a_daemon_of_ends_with_it() {
    let mark = mark();
    // Two levels: a session of its own, and a parent that is gone.
    let script = "(setsid sh -c 'sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 &); echo up; exec sleep 1000";
    let mut greenroom = up(&[], script, &mark);
    let daemons = || marked(&mark).iter().filter(|(_, line)| line == "sleep 1000").count();
    until("the daemon is up", || daemons() == 3);
    greenroom.signal(Signal::TERM);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0, "{}", greenroom.stderr());
    assert_eq!(marked(&mark), []);
}

#[test]
fn nothing_that_the_child_started_and_no_file_outlives_a_killed_greenroom() {
    let mark = mark();
    // One in its group, one with a session of its own, one that ignores all it can.
    let script =
        "sleep 1000 & (setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 &)
        echo up $NOTIFY_SOCKET; trap '' TERM HUP INT; while :; do sleep 1000; done";
    let mut greenroom = up(&[], script, &mark);
    let sleepers = || marked(&mark).iter().filter(|(_, line)| line == "sleep 1000").count();
    until("all are there", || sleepers() == 4);
    let wardens = wardens(greenroom.pid());
    assert_eq!(wardens.len(), 1);
    let stdout = greenroom.stdout();
    let socket = Path::new(stdout.trim().strip_prefix("up ").unwrap());
    assert!(socket.exists());
    greenroom.signal(Signal::KILL);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 137);
    until("all are gone", || marked(&mark).is_empty());
    until("the warden too", || !is_there(wardens[0]));
    assert!(
        !socket.parent().unwrap().exists(),
        "no file is left: {}",
        socket.display()
    );
}

#[test]
fn a_killed_warden_takes_the_child_with_it_and_the_next_life_begins() {
    let mark = mark();
    let script = "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &); sleep 1000 & echo up; exec sleep 1000";
    let mut greenroom = up(&["--restart", "always"], script, &mark);
    let sleepers = || marked(&mark).iter().filter(|(_, line)| line == "sleep 1000").count();
    until("all are there", || sleepers() == 3);
    let first: Vec<_> = marked(&mark)
        .into_iter()
        .filter(|(_, line)| line == "sleep 1000")
        .collect();
    let warden = wardens(greenroom.pid())[0];
    let warden = rustix::process::Pid::from_raw(warden.cast_signed()).unwrap();
    rustix::process::kill_process(warden, Signal::KILL).unwrap();
    let exited = greenroom.wait_for_event("exited", PATIENCE);
    assert_eq!(exited["code"], 137, "{exited}");
    greenroom.wait_for(
        |event| event["event"] == "started" && event["generation"] == 2,
        PATIENCE,
    );
    until("the next life is there", || sleepers() == 3);
    for (pid, _) in first {
        assert!(
            !is_there(pid),
            "{pid} of the first life was swept before the second began"
        );
    }
    greenroom.signal(Signal::TERM);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0, "{}", greenroom.stderr());
    assert_eq!(marked(&mark), []);
}

#[test]
fn the_warden_holds_nothing_open_and_goes_with_its_generation() {
    let mark = mark();
    let mut greenroom = up(&["--restart", "always"], "echo up; exec sleep 1000", &mark);
    let warden = wardens(greenroom.pid())[0];
    let open = || {
        let links = std::fs::read_dir(format!("/proc/{warden}/fd")).unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok()); // one may be closed just now
        let mut open: Vec<_> = targets.map(|target| target.display().to_string()).collect();
        open.sort();
        open
    };
    // The child may be up before its warden has let go of its output.
    until("only what it needs is open", || {
        let others: Vec<_> = open()
            .into_iter()
            .filter(|target| !target.starts_with("socket:"))
            .collect();
        others == ["/dev/null", "/dev/null", "/dev/null", "anon_inode:[signalfd]"]
    });
    let sockets: Vec<_> = open()
        .into_iter()
        .filter(|target| target.starts_with("socket:"))
        .collect();
    assert_eq!(sockets.len(), 1, "its line to greenroom: {sockets:?}");
    assert_eq!(
        std::fs::read(format!("/proc/{warden}/environ"))
            .unwrap()
            .split(|b| *b == 0)
            .count(),
        2,
        "its call"
    );
    // The child's life ends, and the warden's with it.
    let child = greenroom.wait_for_event("started", PATIENCE)["pid"].as_i64().unwrap();
    let child = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::KILL).unwrap();
    greenroom.wait_for(
        |event| event["event"] == "started" && event["generation"] == 2,
        PATIENCE,
    );
    assert!(!is_there(warden));
    let next = wardens(greenroom.pid());
    assert_eq!(next.len(), 1);
    greenroom.signal(Signal::TERM);
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0);
    assert!(!is_there(next[0]));
}

#[test]
fn what_a_killed_greenroom_and_its_killed_warden_left_is_removed_by_the_next() {
    let mark = mark();
    let mut first = up(&[], "echo up $NOTIFY_SOCKET; exec sleep 1000", &mark);
    let living = up(&[], "echo up $NOTIFY_SOCKET; exec sleep 1000", &mark);
    let folder = |greenroom: &Greenroom| {
        let stdout = greenroom.stdout();
        Path::new(stdout.trim().strip_prefix("up ").unwrap())
            .parent()
            .unwrap()
            .to_owned()
    };
    let warden = rustix::process::Pid::from_raw(wardens(first.pid())[0].cast_signed()).unwrap();
    first.signal(Signal::STOP); // it must not see its warden's end and tidy up
    let child = first.wait_for_event("started", PATIENCE)["pid"].as_u64().unwrap();
    let child = u32::try_from(child).unwrap();
    assert!(!environment(child).is_empty());
    rustix::process::kill_process(warden, Signal::KILL).unwrap();
    // A zombie, while greenroom stands still, has no environment.
    until("the child dies with its warden", || environment(child).is_empty());
    first.signal(Signal::KILL);
    assert_eq!(first.wait_exit_code(PATIENCE), 137);
    assert!(folder(&first).exists(), "nobody was left to remove it");
    let next = up(&[], "echo up $NOTIFY_SOCKET; exec sleep 1000", &mark);
    until("the next removes it", || !folder(&first).exists());
    assert!(
        folder(&living).exists() && folder(&next).exists(),
        "those that live keep theirs"
    );
}

#[test]
fn a_child_that_listens_elsewhere_is_told_of() {
    let script = "import socket, signal\n\
        taken = socket.create_server(('127.0.0.1', 0))\n\
        print('up', taken.getsockname()[1], flush=True)\n\
        signal.pause()";
    let greenroom = run(&[], &[&python("python"), "-c", script]);
    let listening = greenroom.wait_for_event("listening", PATIENCE);
    let expected = listening["backend"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let warning = greenroom.warns("CMD listens on", PATIENCE);
    let stdout = greenroom.stdout();
    let port = stdout.trim().strip_prefix("up ").unwrap();
    assert_eq!(
        warning,
        format!("CMD listens on 127.0.0.1:{port}, not on {expected}: add --backend 127.0.0.1:{port} or use {{port}}")
    );
}

#[test]
fn port_in_the_environment_is_where_to_listen_and_the_child_gets_another() {
    let script = "echo up $PORT $1; exec sleep 1000";
    let args = ["run", "--", "sh", "-c", script, "sh", "{port}"];
    // 0 is any free port: the rest of the contract can be seen as well with it.
    let greenroom = Greenroom::spawn(Greenroom::command(&args).env("PORT", "0"));
    let listening = greenroom.wait_for_event("listening", PATIENCE);
    let (host, port) = listening["address"].as_str().unwrap().rsplit_once(':').unwrap();
    assert_eq!(host, "0.0.0.0");
    let backend = listening["backend"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    until("the child is up", || greenroom.stdout().contains("up"));
    assert_eq!(greenroom.stdout().trim(), format!("up {backend} {backend}"));
    assert_ne!(port, backend);
    TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
}

#[test]
fn an_outer_service_manager_hears_ready_and_stopping_and_the_child_has_a_socket_of_its_own() {
    let ledger = Ledger::new(); // for its folder
    let path = ledger.beside("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let script = "echo up $NOTIFY_SOCKET,$WATCHDOG_USEC,$WATCHDOG_PID,$LISTEN_FDS,$LISTEN_PID; exec sleep 1000";
    let mut command = command(&[], &["sh", "-c", script]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1")
        .env("LISTEN_FDS", "0");
    let mut greenroom = Greenroom::spawn(&mut command);
    let hear = || {
        let mut bytes = [0; 4096];
        let read = manager.recv(&mut bytes).expect("the manager is told");
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    until("the child is up", || greenroom.stdout().contains("up"));
    let stdout = greenroom.stdout();
    let (socket, rest) = stdout.trim().strip_prefix("up ").unwrap().split_once(',').unwrap();
    assert!(socket.starts_with('/') && socket != path.to_str().unwrap(), "{stdout}");
    assert_eq!(rest, ",,,", "nothing that was meant for greenroom");
    greenroom.signal(Signal::TERM);
    assert!(hear().contains("STOPPING=1"));
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0);
}

#[test]
fn the_table_of_descriptors_has_its_room_before_the_first_client_comes() {
    let greenroom = Greenroom::start(&["serve", "--listen", "127.0.0.1:0", "--backend", "127.0.0.1:1"]);
    greenroom.address();
    let number = |file: &str, name: &str, word: usize| -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", greenroom.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let word = line.split_whitespace().nth(word).unwrap();
        word.parse().unwrap_or(usize::MAX) // "unlimited"
    };
    let expected = 20_000.min(number("limits", "Max open files", 0)); // 10,000 held, and their backend connections
    let room = number("status", "FDSize:", 0);
    assert!(room >= expected, "room for {room} descriptors, and not for {expected}");
}

#[test]
fn greenroom_listens_before_the_child_is_started() {
    let began = Instant::now();
    let greenroom = run(&[], &["sleep", "1000"]);
    let listening = greenroom.wait_for_event("listening", PATIENCE);
    let seen = began.elapsed();
    greenroom.wait_for_event("started", PATIENCE);
    let names: Vec<_> = greenroom.events().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(names[..2], ["listening", "started"]);
    // The budget is 20 ms after exec; a test on a busy machine only shows what it was.
    let own = listening["at"].as_f64().unwrap() * 1e3;
    println!(
        "listening {own:.1} ms after its own start, seen {:.1} ms after the spawn",
        seen.as_secs_f64() * 1e3
    );
}
