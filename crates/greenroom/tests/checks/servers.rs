//! Starts real servers, each in a folder of its own, and waits for what a probe sees of them.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use greenroom::config::{Address, Secret};
use greenroom::probe::{Look, Probe, Verdict, watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::sync::{Notify, mpsc};

pub(crate) const UP: Verdict = Verdict::Up;
/// For what a server does, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that anybody may enter, gone when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "greenroom-checks-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder); // of a killed run with the same number
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn socket(&self, name: &str) -> Address {
        unix(&self.path(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn unix(path: &Path) -> Address {
    format!("unix:{}", path.display()).parse().unwrap()
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret(text.into())
}

/// What `cargo xtask setup` has put below `target/e2e`, or `GREENROOM_E2E`.
pub(crate) fn e2e(path: &str) -> PathBuf {
    let target = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("e2e");
    let folder = std::env::var_os("GREENROOM_E2E").map_or_else(target, PathBuf::from);
    assert!(
        folder.join("stamp").is_file(),
        "{} is not set up: run `cargo xtask setup` first",
        folder.display()
    );
    folder.join(path)
}

/// A file of `tests/e2e`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e").join(name)
}

/// A process of a test; ended by this signal when dropped, and waited for.
pub(crate) struct Server {
    child: Child,
    signal: Signal,
    /// What it says goes on into here: a server that cannot speak may end.
    _told: Option<Box<dyn BufRead>>,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_to_end_by(Signal::KILL, command)
    }

    pub(crate) fn start_to_end_by(signal: Signal, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            signal,
            _told: None,
        }
    }

    pub(crate) fn of(child: Child, signal: Signal) -> Self {
        Self {
            child,
            signal,
            _told: None,
        }
    }

    /// Starts one that says lines on standard output; gives the first that `find` takes.
    pub(crate) fn start_and_read<T>(command: &mut Command, find: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let told: Box<dyn std::io::Read> = match child.stdout.take() {
            Some(out) => Box::new(out),
            None => Box::new(child.stderr.take().unwrap()),
        };
        let mut server = Self::of(child, Signal::KILL);
        let mut told = BufReader::new(told);
        let found = loop {
            let mut line = String::new();
            let read = told.read_line(&mut line).unwrap();
            assert!(read > 0, "{command:?} ended without its line");
            if let Some(found) = find(&line) {
                break found;
            }
        };
        server._told = Some(Box::new(told));
        (server, found)
    }

    /// Gone, and its sockets with it.
    pub(crate) fn end(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, self.signal).unwrap();
        let within = Timespec::try_from(PATIENCE).unwrap();
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&within)).unwrap();
        if ended == 0 {
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
    }
}

/// Watches until the verdict is `wanted`; gives that look, and the different verdicts before it.
pub(crate) async fn becomes(probe: Probe, wanted: Verdict) -> (Look, Vec<Verdict>) {
    let (tell, mut looks) = mpsc::unbounded_channel();
    let nudge = Notify::new();
    let watching = watch(probe, Duration::from_millis(20), &nudge, |look| {
        tell.send(look).unwrap();
    });
    let mut before: Vec<Verdict> = Vec::new();
    let story = async {
        loop {
            let look: Look = looks.recv().await.unwrap();
            if look.verdict == wanted {
                return look;
            }
            if before.last() != Some(&look.verdict) {
                before.push(look.verdict);
            }
        }
    };
    let deadline = tokio::time::timeout(PATIENCE, story);
    let look = tokio::select! {
        never = watching => match never {},
        look = deadline => look,
    };
    let look = look.unwrap_or_else(|_| panic!("never {wanted:?}, but {before:?}"));
    (look, before)
}

/// One look must not take much longer than this.
pub(crate) async fn within(probe: &mut Probe, time: Duration) -> Verdict {
    let began = Instant::now();
    let verdict = probe.once().await;
    assert!(
        began.elapsed() < time + Duration::from_secs(5),
        "took {:?}",
        began.elapsed()
    );
    verdict
}
