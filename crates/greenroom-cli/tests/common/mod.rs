//! What the end-to-end tests share: the program under test, the real clients, and what a backend saw.
//!
//! [`Greenroom`] runs the program and reads its events, [`Clients`] runs
//! `tests/e2e/clients.py`, [`Ledger`] is the file in which the backends of
//! `tests/e2e` write down each WebSocket. All waiting is for a line or an exit, with
//! a deadline; a wait that fails shows every line so far. A missing package is a
//! failure and never a skipped test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod api;
pub mod browser;
pub mod collector;
pub mod crowd;
pub mod early;
pub mod firefox;
pub mod house;
pub mod process;
pub mod reloading;
pub mod rig;
pub mod scraping;
pub mod script;
pub mod traffic;
pub mod truth;
pub mod wire;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr},
};
use serde_json::Value;

pub mod raw;

/// Where `cargo xtask setup` has put the packages, or `GREENROOM_E2E`.
pub fn e2e() -> PathBuf {
    let folder = e2e_folder();
    assert!(
        folder.join("stamp").is_file(),
        "{} is not set up: run `cargo xtask setup` first",
        folder.display()
    );
    folder
}

/// The same folder, there or not: the tests on the wire need no package.
fn e2e_folder() -> PathBuf {
    let target = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("e2e");
    std::env::var_os("GREENROOM_E2E").map_or_else(target, PathBuf::from)
}

/// A program of the Python environment, such as `python`, `uvicorn` or `gunicorn`, as an argument.
pub fn python(program: &str) -> String {
    text(e2e().join("venv/bin").join(program))
}

/// Held by each heavy test: the tests of one binary run side by side, and two cores are few.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner) // another test that failed is no reason
}

/// A file of `tests/e2e`, as an argument; `""` is the folder.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/e2e")
        .canonicalize()
        .unwrap()
        .join(name);
    assert!(path.exists(), "no fixture {}", path.display());
    text(path)
}

fn text(path: PathBuf) -> String {
    path.into_os_string()
        .into_string()
        .expect("the project's path is UTF-8")
}

/// The lines of a process, read as they come; JSON objects among them are events.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Gathered>, Condvar)>);

#[derive(Default)]
struct Gathered {
    all: Vec<String>,
    events: Vec<Value>,
    ended: bool,
}

impl Lines {
    /// Reads to the end on a thread of its own.
    fn of(source: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        // Not joined: the source ends when its last holder does, which may be a grandchild.
        thread::spawn(move || {
            let (read, changed) = &*shared;
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                // At a terminal what CMD prints may stand before it on the same line.
                let json = &line[line.find("{\"ts\":").unwrap_or(0)..];
                let event = serde_json::from_str::<Value>(json)
                    .ok()
                    .filter(|value| value["event"].is_string());
                let mut read = read.lock().unwrap();
                read.events.extend(event);
                read.all.push(line);
                changed.notify_all();
            }
            read.lock().unwrap().ended = true;
            changed.notify_all();
        });
        lines
    }

    /// The first event from number `from` on that fits; panics with all lines if there is none in time.
    fn wait_for(&self, from: usize, within: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + within;
        let (read, changed) = &*self.0;
        let mut read = read.lock().unwrap();
        loop {
            if let Some(event) = read.events.iter().skip(from).find(|event| fits(event)) {
                return event.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = if read.ended {
                "its output ended"
            } else {
                "the deadline passed"
            };
            if read.ended || left.is_zero() {
                let all = read.all.join("\n");
                drop(read); // a poisoned lock would hide the message from the next who looks
                panic!("{why} without the event that was waited for; all lines:\n{all}");
            }
            read = changed.wait_timeout(read, left).unwrap().0;
        }
    }

    fn events(&self) -> Vec<Value> {
        self.0.0.lock().unwrap().events.clone()
    }

    fn all(&self) -> String {
        self.0.0.lock().unwrap().all.join("\n")
    }

    /// Waits until all that was written has been read, or for a moment: a grandchild may hold it open.
    fn settle(&self) {
        let (read, changed) = &*self.0;
        let gathered = read.lock().unwrap();
        drop(changed.wait_timeout_while(gathered, Duration::from_secs(1), |read| !read.ended));
    }
}

/// The program under test. Killed, by its own process id, when dropped.
pub struct Greenroom {
    child: Child,
    stderr: Lines,
    stdout: Lines,
}

impl Greenroom {
    /// `greenroom ARGS` with JSON events; see [`Greenroom::command`].
    pub fn start<S: AsRef<OsStr>>(args: &[S]) -> Self {
        Self::spawn(&mut Self::command(args))
    }

    /// The command, to set its environment (`LOG`, `STARTUP_SECONDS`, `PORT`) before [`Greenroom::spawn`].
    /// What the machine's own supervisor or shell may have set is taken away.
    pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        let (subcommand, rest) = args.split_first().expect("a subcommand");
        // Before the rest: everything behind `--` belongs to CMD.
        command.arg(subcommand).args(["--log-format", "json"]).args(rest);
        for name in [
            "PORT",
            "LOG",
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "LISTEN_PID",
            "LISTEN_FDS",
        ] {
            command.env_remove(name);
        }
        command
            .env("NODE_PATH", e2e_folder().join("node/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Starts a command made by [`Greenroom::command`].
    pub fn spawn(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("greenroom starts");
        let stderr = Lines::of(child.stderr.take().unwrap());
        let stdout = Lines::of(child.stdout.take().unwrap());
        Self { child, stderr, stdout }
    }

    /// Starts a command made by [`Greenroom::command`] as the leader of a session at a terminal of its
    /// own, as a person would have it; gives the keyboard too. Standard output and error are one there.
    pub fn spawn_at_terminal(command: &Command) -> (Self, fs::File) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = OsStr::from_bytes(ptsname(&ours, Vec::new()).unwrap().as_bytes()).to_owned();
        let theirs = || Stdio::from(fs::File::options().read(true).write(true).open(&name).unwrap());
        // What is typed is not shown and flushes nothing: each line on the screen is a program's, and whole.
        let mut modes = tcgetattr(&ours).unwrap();
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::NOFLSH);
        tcsetattr(&ours, OptionalActions::Now, &modes).unwrap();
        // setsid(1) becomes the command: a session of its own, and the terminal with it.
        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.stdin(theirs()).stdout(theirs()).stderr(theirs());
        let child = leader.spawn().expect("setsid of util-linux");
        drop(leader); // or the terminal would never end
        let keyboard = fs::File::from(ours);
        let lines = Lines::of(keyboard.try_clone().unwrap());
        let greenroom = Self {
            child,
            stderr: lines.clone(),
            stdout: lines,
        };
        (greenroom, keyboard)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first event since the start that fits, within a deadline from now.
    pub fn wait_for(&self, fits: impl Fn(&Value) -> bool, within: Duration) -> Value {
        self.stderr.wait_for(0, within, fits)
    }

    /// As [`Greenroom::wait_for`], among the events from number `from` on; see [`Greenroom::events`].
    pub fn wait_for_from(&self, from: usize, fits: impl Fn(&Value) -> bool, within: Duration) -> Value {
        self.stderr.wait_for(from, within, fits)
    }

    /// The first event of this name.
    pub fn wait_for_event(&self, name: &str, within: Duration) -> Value {
        self.wait_for(|event| event["event"] == name, within)
    }

    /// The first warning that has these words. Others may come before it, as the machine or the configuration gives reason to.
    pub fn warns(&self, words: &str, within: Duration) -> String {
        let has = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains(words));
        let warning = self.wait_for(|event| event["event"] == "warning" && has(event), within);
        warning["message"].as_str().unwrap().to_owned()
    }

    /// The address it listens on, once it does.
    pub fn address(&self) -> String {
        let event = self.wait_for_event("listening", Duration::from_secs(10));
        event["address"]
            .as_str()
            .expect("`listening` has an address")
            .to_owned()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Value> {
        self.stderr.events()
    }

    /// Everything so far on standard error, CMD's lines included.
    pub fn stderr(&self) -> String {
        self.stderr.all()
    }

    /// Everything so far on standard output.
    pub fn stdout(&self) -> String {
        self.stdout.all()
    }

    /// Sends a signal to greenroom itself.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("greenroom still runs");
    }

    /// Its exit status, with all that it said read; panics with all lines if it does not end in time.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let status = wait_exit(&mut self.child, within)
            .unwrap_or_else(|| panic!("greenroom still runs; all lines:\n{}", self.stderr.all()));
        for lines in [&self.stderr, &self.stdout] {
            lines.settle(); // what it said last may not be read yet
        }
        status
    }

    /// As [`Greenroom::wait_exit`], as a shell would say it: 128+n for a signal.
    pub fn wait_exit_code(&mut self, within: Duration) -> i32 {
        let status = self.wait_exit(within);
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }
}

impl Drop for Greenroom {
    fn drop(&mut self) {
        // Ended already, or ends now; both are what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits on the process itself, not on a clock.
fn wait_exit(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    if let Some(status) = child.try_wait().unwrap() {
        return Some(status);
    }
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let deadline = Instant::now() + within;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return child.try_wait().unwrap(),
            Ok(_) => return Some(child.wait().unwrap()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll on a pidfd: {error}"),
        }
    }
}

/// A run of `tests/e2e/clients.py`; see its header for the results.
pub struct Clients {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Clients {
    /// `count` clients to `address`, spread over `seconds`; `flags` as `clients.py` takes them.
    pub fn start(address: &str, count: u32, seconds: f64, flags: &[&str]) -> Self {
        let mut command = Command::new(python("python"));
        command.arg(fixture("clients.py")).arg(format!("ws://{address}/ws"));
        command
            .args([count.to_string(), seconds.to_string()])
            .args(flags)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("clients.py starts");
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits until every client has its echo or has failed. With `--until-stdin-closes` they stay open then.
    pub fn settled(&self, within: Duration) -> Value {
        self.event("settled", within)
    }

    /// Lets clients with `--until-stdin-closes` close.
    pub fn close(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The result of the run.
    pub fn result(&mut self, within: Duration) -> Value {
        self.close();
        self.event("result", within)
    }

    /// The result, unless a client failed or had a wrong echo: then it panics with the reasons.
    pub fn all_right(&mut self, within: Duration) -> Value {
        let result = self.result(within);
        assert!(
            result["failed"] == 0 && result["echo_wrong"] == 0,
            "not every client got through: {result}"
        );
        result
    }

    fn event(&self, name: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        // The reasons for an early end stand on standard error: shown by the test's own output.
        let event = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.stdout
                .wait_for(0, deadline.saturating_duration_since(Instant::now()), |event| {
                    event["event"] == name
                })
        }));
        event.unwrap_or_else(|_| panic!("clients.py did not come to `{name}`:\n{}", self.stderr.all()))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file for the backends' `LOG`, in a folder of its own that any user may enter; gone when dropped.
pub struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not below target: a backend's worker may have changed to a user who may not go there.
        let folder = std::env::temp_dir().join(format!("greenroom-e2e-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let ledger = Self { folder };
        fs::write(ledger.path(), "").unwrap();
        fs::set_permissions(ledger.path(), fs::Permissions::from_mode(0o666)).unwrap();
        ledger
    }

    /// The value of `LOG`.
    pub fn path(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    /// A path beside it, for a backend's Unix socket.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Every whole line so far; see `tests/e2e/README.md`.
    ///
    /// The backend writes on while the test reads, and a line across two pages of the file is seen half: it is not
    /// there before its end is.
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read(self.path()).unwrap();
        text.split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| serde_json::from_slice(line).expect("one JSON object per line"))
            .collect()
    }

    /// The lines of one kind: `open`, `reject` or `close`.
    pub fn of(&self, event: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["event"] == event).collect()
    }

    /// Neighbours in the order of opening, per process, whose `Greenroom-Session` stands the wrong way round.
    pub fn inversions(&self) -> usize {
        self.inversions_among(|_| true)
    }

    /// As [`Ledger::inversions`], of those openings alone that count.
    pub fn inversions_among(&self, counts: impl Fn(&Value) -> bool) -> usize {
        let mut last = std::collections::BTreeMap::<u64, u64>::new();
        let mut inversions = 0;
        for line in self.of("open").into_iter().filter(|line| counts(line)) {
            let session = line["session"].as_str().and_then(|number| number.parse().ok());
            let session = session.unwrap_or_else(|| panic!("no Greenroom-Session number in {line}"));
            let before = last.insert(line["pid"].as_u64().unwrap(), session);
            inversions += usize::from(before.is_some_and(|before| before > session));
        }
        inversions
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
