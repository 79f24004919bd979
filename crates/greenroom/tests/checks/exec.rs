//! `exec` and `file`, with real programs and files.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use greenroom::probe::{Probe, Verdict, Why};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

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
async fn a_command_sees_our_environment_without_what_is_meant_for_us() {
    // Cargo sets this one for every test.
    assert_eq!(shell("test -n \"$CARGO_MANIFEST_DIR\"").once().await, UP);
    assert_eq!(shell("! env | grep -q ^GREENROOM_").once().await, UP);
}

#[tokio::test]
async fn looks_at_a_command_never_overlap_and_all_are_waited_for() {
    let folder = Folder::new();
    // mkdir fails while another one is in between.
    let lock = folder.path("lock").display().to_string();
    let mut probe = shell(&format!("mkdir {lock} && rmdir {lock}"));
    for _ in 0..50 {
        assert_eq!(probe.once().await, UP);
    }
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let us = format!(" Z {} ", std::process::id());
    let ours = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let zombies = ours.filter(|pid| stat(&pid.to_string_lossy()).contains(&us)).count();
    // Other tests of this process may have one each at this moment.
    assert!(zombies < 10, "{zombies} were not waited for");
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
