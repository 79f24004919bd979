//! `exec` and `file`, with real programs and files.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use greenroom::probe::{Probe, Verdict, Why, watch};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};

use crate::servers::{Folder, PATIENCE, UP, becomes};

fn shell(script: &str) -> Probe {
    Probe::exec(&["/bin/sh", "-c", script].map(OsString::from)).with_timeout(PATIENCE)
}

#[tokio::test]
async fn a_command_is_up_with_exit_code_0_only() {
    assert_eq!(shell("exit 0").once().await, UP);
    assert_eq!(shell("exit 3").once().await, Verdict::Down(Why::Exit(3)));
    assert_eq!(shell("kill -TERM $$").once().await, Verdict::Down(Why::Signal(15)));
    let nowhere = Probe::exec(&[OsString::from("/no/such/program")]).once().await;
    assert_eq!(nowhere, Verdict::Down(Why::NotStarted(std::io::ErrorKind::NotFound)));
    assert_eq!(Probe::exec(&[OsString::from("true")]).once().await, UP, "found in PATH");
}

#[tokio::test]
async fn a_command_has_no_input_and_its_output_goes_nowhere() {
    assert_eq!(shell("read line").once().await, Verdict::Down(Why::Exit(1)));
    let noisy = shell("dd if=/dev/zero bs=1M count=64 2>/dev/null; exit 0");
    assert_eq!({ noisy }.once().await, UP, "nobody has to read it");
    let mut endless = shell("while :; do echo noise; done").with_timeout(Duration::from_millis(300));
    assert_eq!(endless.once().await, Verdict::Down(Why::TimedOut));
}

/// A fifo that is read until nobody holds it open for writing any more.
struct Held {
    _folder: Folder,
    reader: pipe::Receiver,
}

impl Held {
    fn new() -> (Self, String) {
        let folder = Folder::new();
        let path = folder.path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let held = Self {
            _folder: folder,
            reader,
        };
        (held, path.display().to_string())
    }

    /// Waits until somebody has written.
    async fn begun(&mut self) {
        let mut byte = [0];
        let begun = async {
            // As long as nobody has opened it, it reads as ended.
            while self.reader.read(&mut byte).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.unwrap();
    }

    /// Waits until all who hold it are gone.
    async fn let_go(&mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, self.reader.read_to_end(&mut rest)).await;
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_group_when_its_time_is_over() {
    let (mut held, fifo) = Held::new();
    // Nobody of them hears TERM; one is a grandchild.
    let script = format!("trap '' TERM; exec 9>{fifo}; (sh -c 'sleep 1000; :' & wait) & echo >&9; wait");
    let time = Duration::from_secs(1);
    let mut probe = shell(&script).with_timeout(time);
    let began = Instant::now();
    let (verdict, ()) = tokio::join!(probe.once(), held.begun());
    assert_eq!(verdict, Verdict::Down(Why::TimedOut));
    assert!(began.elapsed() >= time);
    held.let_go().await;
}

#[tokio::test]
async fn a_command_is_killed_with_its_group_when_the_look_is_dropped() {
    let (mut held, fifo) = Held::new();
    let mut probe = shell(&format!("exec 9>{fifo}; sleep 1000 & echo >&9; wait"));
    tokio::select! {
        verdict = probe.once() => panic!("{verdict:?}"),
        () = held.begun() => {}
    }
    held.let_go().await;
}

#[tokio::test]
async fn what_a_command_leaves_in_its_group_is_killed_when_it_ends() {
    let (mut held, fifo) = Held::new();
    let mut probe = shell(&format!("exec 9>{fifo}; sleep 1000 & exit 0"));
    assert_eq!(probe.once().await, UP);
    held.let_go().await;
}

#[tokio::test]
async fn looks_at_a_command_never_overlap() {
    let folder = Folder::new();
    // mkdir fails while another one is in between.
    let lock = folder.path("lock").display().to_string();
    let probe = shell(&format!("mkdir {lock} && sleep 0.02 && rmdir {lock}"));
    let (tell, mut told) = mpsc::unbounded_channel();
    let nudge = Notify::new();
    let watching = watch(probe, Duration::from_millis(1), &nudge, |look| {
        tell.send(look.verdict).unwrap();
    });
    let story = async {
        for _ in 0..20 {
            nudge.notify_one();
            assert_eq!(told.recv().await, Some(UP));
        }
    };
    tokio::select! {
        never = watching => match never {},
        done = tokio::time::timeout(PATIENCE, story) => done.unwrap(),
    }
}

/// Says that this test binary is the first process of a container.
const FIRST: &str = "CHECKS_FIRST_PROCESS";

/// Not a test by itself: see the next one.
#[tokio::test]
async fn first_process() {
    if std::env::var_os(FIRST).is_none() {
        return;
    }
    assert_eq!(std::process::id(), 1);
    // It sees our environment, without what was meant for greenroom alone.
    let seen = "test -n \"$CHECKS_FIRST_PROCESS\" -a -z \"$GREENROOM_TOKEN$NOTIFY_SOCKET\"";
    assert_eq!(shell(seen).once().await, UP);
    let mut probe = shell("(sleep 1000; :) & sleep 1000 & exit 0");
    for _ in 0..20 {
        assert_eq!(probe.once().await, UP);
    }
    let children = || {
        let tasks = std::fs::read_dir("/proc/1/task")
            .unwrap()
            .map(|task| task.unwrap().path().join("children"));
        tasks
            .map(|path| std::fs::read_to_string(path).unwrap_or_default())
            .collect::<String>()
    };
    let all_collected = async {
        while !children().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let collected = tokio::time::timeout(PATIENCE, all_collected).await;
    assert!(collected.is_ok(), "left: {}", children());
}

#[test]
fn as_the_first_process_of_a_container_nothing_of_a_command_is_left_not_even_a_zombie() {
    // A user namespace goes with it, so that no root is needed.
    let mut unshare = std::process::Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    unshare
        .arg(std::env::current_exe().unwrap())
        .args(["exec::first_process", "--exact", "--nocapture"]);
    let done = unshare
        .env(FIRST, "1")
        .env("GREENROOM_TOKEN", "a secret")
        .env("NOTIFY_SOCKET", "/x")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn a_file_of_any_kind_is_up_and_a_link_to_nowhere_is_not() {
    let folder = Folder::new();
    let path = folder.path("ready");
    let file = |path: &Path| Probe::file(path);
    assert_eq!(file(&path).once().await, Verdict::Down(Why::NoFile));
    let appears = becomes(file(&path), UP);
    let write = async { std::fs::write(&path, "").unwrap() };
    tokio::join!(appears, write);
    assert_eq!(
        file(&path.join("below")).once().await,
        Verdict::Down(Why::NoFile),
        "no folder"
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file(&path).once().await, Verdict::Down(Why::NoFile), "it can go again");
    std::os::unix::fs::symlink("ready", folder.path("loop")).unwrap();
    assert_eq!(file(&folder.path("loop")).once().await, Verdict::Down(Why::NoFile));
    std::fs::create_dir(&path).unwrap();
    assert_eq!(file(&folder.path("loop")).once().await, UP, "a folder, by a link");
}
