//! greenroom as the first process of a container, in a pid namespace of its own.
//!
//! A user namespace goes with it, so that no root is needed; where the system forbids
//! that, the tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, process::Command, time::Duration};

use common::{
    Greenroom,
    process::{MARK, is_there, mark, marked, until, wardens},
};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// greenroom as pid 1, from outside.
struct Container {
    /// `unshare`, and what it and greenroom say.
    outer: Greenroom,
    /// greenroom's number out here.
    first: u32,
}

impl Container {
    fn start(script: &str, mark: &str) -> Self {
        let inner = Greenroom::command(&["run", "--listen", "127.0.0.1:0", "--", "sh", "-c", script]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env(MARK, mark).env_remove("NOTIFY_SOCKET").env_remove("PORT");
        let outer = Greenroom::spawn(&mut command);
        until("it is up (may this user make user and pid namespaces?)", || {
            outer.stdout().contains("up")
        });
        let children = format!("/proc/{0}/task/{0}/children", outer.pid());
        let first = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Self { outer, first }
    }

    /// Runs a script as `docker exec` would: its parent is not in here.
    fn exec(&self, script: &str) {
        let target = self.first.to_string();
        let status = Command::new("nsenter")
            .args([
                "--target",
                &target,
                "--user",
                "--pid",
                "--mount",
                "--preserve-credentials",
                "sh",
                "-c",
                script,
            ])
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.first.cast_signed()).unwrap(), signal).unwrap();
    }

    /// The ended ones below greenroom that nobody has waited for.
    fn zombies(&self) -> Vec<String> {
        // Each thread has children of its own.
        let below = |pid: &str| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten();
            let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
            children.collect::<Vec<_>>().join(" ")
        };
        let (mut all, mut next) = (Vec::new(), vec![self.first.to_string()]);
        while let Some(pid) = next.pop() {
            let children = below(&pid);
            next.extend(children.split_whitespace().map(str::to_owned));
            all.push(pid);
        }
        let state = |pid: &String| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        all.retain(|pid| {
            state(pid)
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim().starts_with('Z'))
        });
        all
    }
}

#[test]
fn as_pid_1_it_waits_for_all_orphans_and_term_ends_all() {
    let mark = mark();
    // Orphans of the child: some end by themselves, and a group of them at one moment.
    let script = "for n in 1 2 3 4 5; do (sleep 0.1 & sleep 0.2 &); done
        (setsid sh -c 'for n in 1 2 3 4 5 6 7 8 9; do sleep 0.9e9 & done; echo group $$; exec sleep 0.9e9' &)
        echo up; exec sleep 1000";
    let mut container = Container::start(script, &mark);
    let child = container.outer.wait_for_event("started", PATIENCE)["pid"]
        .as_u64()
        .unwrap();
    // Threads have numbers too: one for each core, and a few more.
    assert!(child < 1_000, "it is in a namespace of its own: {child}");
    // And some of nobody: `docker exec` ends before what it has started.
    container.exec("(sleep 0.1 & sleep 0.2 &); (setsid sleep 0.1 &)");
    until("the group is there", || container.outer.stdout().contains("group "));
    let stdout = container.outer.stdout();
    let group = stdout.lines().find_map(|line| line.strip_prefix("group ")).unwrap();
    // Both stand still while they end, so that one SIGCHLD stands for all of them.
    let warden = Pid::from_raw(wardens(container.first)[0].cast_signed()).unwrap();
    container.signal(Signal::STOP);
    kill_process(warden, Signal::STOP).unwrap();
    container.exec(&format!("kill -s KILL -- -{group}"));
    until("the group has ended", || container.zombies().len() >= 10);
    kill_process(warden, Signal::CONT).unwrap();
    container.signal(Signal::CONT);
    let sleepers = || {
        marked(&mark)
            .iter()
            .filter(|(_, line)| line.starts_with("sleep 0."))
            .count()
    };
    until("all have ended", || sleepers() == 0);
    until("and been waited for", || container.zombies().is_empty());
    let own = fs::read_to_string(format!("/proc/{}/status", container.first)).unwrap();
    assert!(
        own.lines()
            .any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")),
        "{own}"
    );

    container.signal(Signal::TERM);
    assert_eq!(
        container.outer.wait_exit_code(PATIENCE),
        0,
        "{}",
        container.outer.stderr()
    );
    assert!(!is_there(container.first));
    assert_eq!(marked(&mark), []);
}

/// What somebody else runs in the container is not the child's: its restart must not end it.
#[test]
fn as_pid_1_it_sweeps_its_child_and_not_what_others_run_beside_it() {
    let mark = mark();
    let mut container = Container::start("echo up; (setsid sleep 2000 &); read never; exec sleep 1000", &mark);
    container.exec(&format!("{MARK}={mark} setsid sleep 3000 </dev/null >/dev/null 2>&1 &"));
    let runs = |what: &str| marked(&mark).iter().any(|(_, line)| line == what);
    until("both are there", || runs("sleep 2000") && runs("sleep 3000"));
    let child = container.outer.wait_for_event("started", PATIENCE)["pid"]
        .as_u64()
        .unwrap();
    container.exec(&format!("kill -9 {child}"));
    container.outer.wait_for(
        |event| event["event"] == "started" && event["generation"] == 2,
        PATIENCE,
    );
    assert!(runs("sleep 3000"), "{:?}", marked(&mark));
    container.signal(Signal::TERM);
    assert_eq!(
        container.outer.wait_exit_code(PATIENCE),
        0,
        "{}",
        container.outer.stderr()
    );
    assert_eq!(marked(&mark), [], "the namespace ends with its first process");
}
