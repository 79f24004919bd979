//! How `greenroom audit` ends: by signals of every kind it leaves nothing of CMD behind, and what cannot be written is said
//! with code 2, before CMD is started where that can be seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Greenroom, one_at_a_time, python};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("greenroom-audit-ends-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn audit(flags: &[&str], cmd: &[&str]) -> Command {
    let template: Command = Greenroom::command(&["run"]);
    let mut command = Command::new(template.get_program());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .arg("audit")
        .args(flags)
        .args(["--format", "json", "--"])
        .args(cmd);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The numbers that CMD has written: its own, and that of one that left its group and session.
fn pids(file: &str) -> Vec<i32> {
    until("CMD was not started", || {
        let text = std::fs::read_to_string(file).ok()?;
        let pids: Vec<i32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        (pids.len() == 2).then_some(pids)
    })
}

/// A CMD that never listens, with somebody who has left it. Their numbers go into `file`.
fn stubborn(file: &str, trap: &str) -> String {
    format!(
        "trap '' {trap}; setsid sleep 600 & echo $! $$ >{file}.new; mv {file}.new {file}; while :; do sleep 600; done"
    ) // tidy: allow-sleep they are the processes to be ended
}

fn send(audit: &Child, signal: Signal) {
    kill_process(Pid::from_child(audit), signal).unwrap();
}

fn all_gone(pids: &[i32]) {
    for pid in pids {
        until(&format!("process {pid} is left behind"), || {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .map_or(true, |words| words.is_empty())
                .then_some(())
        });
    }
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The notify sockets of this user.
fn notify_folders() -> Vec<PathBuf> {
    let places = ["/run", "/tmp"].map(Path::new);
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let all = places
        .into_iter()
        .map(Path::to_owned)
        .chain(own)
        .chain([std::env::temp_dir()]);
    let entries = all.filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().contains("greenroom-notify-"))
        .collect()
}

#[test]
fn an_audit_that_is_killed_leaves_nothing_of_cmd_behind() {
    let _alone = one_at_a_time();
    let folder = Folder::new("killed");
    let file = folder.path("pids");
    let before = notify_folders();
    let mut audit = audit(&[], &["sh", "-c", &stubborn(&file, "TERM HUP INT")])
        .spawn()
        .unwrap();
    let pids = pids(&file);
    let made: Vec<_> = notify_folders()
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    send(&audit, Signal::KILL);
    audit.wait().unwrap();
    all_gone(&pids);
    for path in made {
        until(&format!("{} is left behind", path.display()), || {
            (!path.exists()).then_some(())
        });
    }
}

#[test]
fn a_hang_up_and_a_term_that_comes_twice_at_once_end_with_a_report() {
    let _alone = one_at_a_time();
    for signals in [
        &[Signal::HUP][..],
        &[Signal::TERM, Signal::TERM],
        &[Signal::INT, Signal::TERM],
    ] {
        let folder = Folder::new("twice");
        let file = folder.path("pids");
        let audit = audit(&[], &["sh", "-c", &stubborn(&file, "USR1")]).spawn().unwrap();
        let pids = pids(&file);
        for signal in signals {
            send(&audit, *signal);
        }
        let output = audit.wait_with_output().unwrap();
        assert_eq!(report(&output)["interrupted"], true, "{signals:?}");
        assert_eq!(output.status.code(), Some(130), "no run has come to its end");
        all_gone(&pids);
    }
}

#[test]
fn another_signal_ends_it_at_once_and_cmd_with_it() {
    let _alone = one_at_a_time();
    let folder = Folder::new("again");
    let file = folder.path("pids");
    let mut audit = audit(&[], &["sh", "-c", &stubborn(&file, "TERM")]).spawn().unwrap();
    let pids = pids(&file);
    let began = Instant::now();
    until("it did not end", || {
        send(&audit, Signal::INT); // until it has been a second since the first
        audit.try_wait().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(8), "CMD had its whole grace");
    assert_eq!(audit.wait().unwrap().code(), Some(130));
    all_gone(&pids);
}

/// CMD makes a daemon of itself, and that takes clients and answers nobody.
#[test]
fn a_signal_ends_the_wait_for_clients_of_a_cmd_that_has_ended() {
    let _alone = one_at_a_time();
    let folder = Folder::new("daemon");
    let file = folder.path("pids");
    let script = "import os,socket,sys,time\n\
        s=socket.socket();s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
        s.bind(('127.0.0.1',int(os.environ['PORT'])));s.listen(100)\n\
        own=os.getpid();asked,told=os.pipe()\n\
        if os.fork():\n\
        \x20os.read(asked,1)\n\
        \x20os._exit(0)\n\
        c=s.accept()\n\
        open(sys.argv[1]+'.new','w').write(f'{own} {os.getpid()}');os.rename(sys.argv[1]+'.new',sys.argv[1])\n\
        os.write(told,b'x')\n\
        time.sleep(600)"; // tidy: allow-sleep it is the process to be ended
    let python = python("python");
    let flags = ["--runs", "1", "--clients", "10", "--patience", "2m"];
    let audit = audit(&flags, &[&python, "-c", script, &file]).spawn().unwrap();
    let pids = pids(&file);
    all_gone(&pids[..1]); // and so the audit is told of it
    let began = Instant::now();
    send(&audit, Signal::TERM);
    let output = audit.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(report(&output)["interrupted"], true);
    all_gone(&pids);
}

#[test]
fn where_there_is_no_terminal_it_is_told_how_far_it_is() {
    let _alone = one_at_a_time();
    let flags = ["--start-timeout", "1s", "--runs", "7"];
    let output = audit(&flags, &["sleep", "600"]).output().unwrap(); // tidy: allow-sleep it never listens
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("greenroom audit: start 1 of 7, 0 %\n"), "{err}");
}

/// A pipe that is full already, and stays so.
#[test]
fn who_does_not_read_how_far_it_is_has_the_report_all_the_same() {
    let _alone = one_at_a_time();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    let flags = ["--start-timeout", "1s"];
    let output = audit(&flags, &["sleep", "600"]).stderr(writer).output().unwrap(); // tidy: allow-sleep it never listens
    assert!(report(&output)["verdict"]["not_measured"].is_string(), "{output:?}");
    drop(reader);
}

#[test]
fn what_cannot_be_written_is_said_with_code_2_and_before_cmd_is_started_where_it_can_be_seen() {
    let _alone = one_at_a_time();
    let folder = Folder::new("out");
    let started = folder.path("started");
    let file = folder.path("file");
    std::fs::write(&file, "").unwrap();
    let touch = ["touch", started.as_str()];
    let long = folder.path("long");
    std::fs::write(&long, "{n}".repeat(300_000)).unwrap();
    for (flags, said) in [
        (["--out", &file], file.as_str()),
        (["--out", "/proc/audit"], "/proc/audit"),
        (["--message", &format!("@{long}")], "a message has at most"),
        (["--url", "ws://127.0.0.1:{port}/a#b"], "fragment"),
        (["--header", "Sec-WebSocket-Key: x"], "Sec-WebSocket-Key"),
    ] {
        let output = audit(&flags, &touch).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && err.contains(said),
            "{flags:?}: {err}"
        );
        assert!(!Path::new(&started).exists(), "{flags:?}: CMD was started");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = audit(&[], &["false"]).stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && err.contains("standard output"),
        "{err}"
    );
}
