//! The process that supervises in a test, the backend that notifies, and how a test talks to them.
//!
//! A helper takes commands as lines on stdin (`spawn 1`, `terminate 100`,
//! `forward HUP`) and says what happens as lines that begin with `@`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use greenroom::probe::Probe;
use greenroom::supervise::{
    self, ChildId, Happening, Rlimit, Signal, Supervisor, What, notify, procfs::Process, warden,
};
use greenroom_core::event::Generation;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

const ROLE: &str = "SUPERVISE_ROLE";
const CHILD: &str = "SUPERVISE_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test: the other processes of the tests.
#[test]
fn helper() {
    match std::env::var(ROLE).as_deref() {
        Ok("supervisor") => supervisor(),
        Ok("backend") => backend(),
        Ok("warden") => std::process::exit(warden::main_if_called().unwrap().into()),
        _ => {}
    }
}

/// This binary in another role, as words of a shell command.
pub(crate) fn backend_that(does: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    format!(
        "{ROLE}=backend SUPERVISE_DOES={does} {} helper::helper --exact --nocapture >/dev/null",
        exe.display()
    )
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Says what happened: of the first child by its generation alone, of others as `child/generation`.
fn happening(happening: Happening) {
    let Happening {
        child,
        generation,
        what,
    } = happening;
    let life = match child {
        ChildId(0) => generation.to_string(),
        ChildId(n) => format!("{n}/{generation}"),
    };
    match what {
        What::Started { pid } => say(&format!("@started {life} {pid}")),
        What::Notified {
            message: m,
            at_ns,
            barrier,
            ..
        } => {
            assert!(at_ns > 0);
            let status = m.status.unwrap_or_default();
            say(&format!(
                "@notified {life} ready={} status={status:?} barrier={}",
                m.ready,
                barrier.is_some()
            ));
            say(&format!("@main_pid {:?}", m.main_pid));
        }
        What::NotifyIgnored { pid, uid, why } => say(&format!("@ignored {life} {pid} {uid} {why:?}")),
        What::NotifyFlooded => say(&format!("@flooded {life}")),
        What::NotifyUnavailable { error } => say(&format!("@unavailable {life} {error}")),
        What::Watchdog { silence } => say(&format!("@watchdog {life} {silence:?} {}", notify::now_ns())),
        What::Line { pattern, line } => say(&format!("@line {life} {pattern} {line}")),
        What::Key(key) => say(&format!("@key {life} {key:?}")),
        What::Stopped { signal } => say(&format!("@stopped {life} {signal}")),
        What::Continued => say(&format!("@continued {life}")),
        What::Ended { end, interrupted } => {
            say(&format!("@ended {life} {} interrupted={interrupted}", end.exit_code()));
            if std::env::var_os("SUPERVISE_TTY").is_some() {
                std::process::exit(0);
            }
        }
    }
}

/// How this binary is a warden.
fn warden_call() -> warden::Call {
    warden::Call {
        args: ["helper::helper", "--exact", "--nocapture"].map(OsString::from).into(),
        env: vec![(ROLE.into(), "warden".into())],
        ..warden::Call::default()
    }
}

/// What may stand before the program in the words of a child.
const SETTINGS: [&str; 5] = ["cwd=", "user=", "group=", "watchdog_ms=", "pattern="];

/// One of the children, out of its words: settings before the program.
fn command(words: &str) -> supervise::Command {
    let mut words = words.split('\u{1f}').peekable();
    let mut settings = Vec::new();
    while let Some(setting) = words.next_if(|word| SETTINGS.iter().any(|s| word.starts_with(s))) {
        settings.push(setting.split_once('=').unwrap());
    }
    let mut command = supervise::Command::new(words.next().unwrap());
    command.args = words.map(OsString::from).collect();
    command.env = vec![("PORT".into(), "4711".into())];
    command.remove_env = vec![CHILD.into(), ROLE.into()];
    for (name, value) in settings {
        match name {
            "cwd" => command.cwd = Some(value.into()),
            "user" => command.user = Some(value.into()),
            "watchdog_ms" => command.watchdog = Some(Duration::from_millis(value.parse().unwrap())),
            "pattern" => command.watch_output.push(regex::Regex::new(value).unwrap()),
            _ => command.group = Some(value.into()),
        }
    }
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    command.nofile = Some(Rlimit {
        current: Some(123),
        maximum: hard,
    });
    command
}

fn supervisor() {
    let children = std::env::var(CHILD).unwrap();
    let commands = children.split('\u{1e}').map(command).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let supervisor = Supervisor::start_with(warden_call(), commands, happening).unwrap();
        if std::env::var_os("SUPERVISE_TTY").is_some() {
            supervisor.spawn(ChildId(0), Generation(1)).await.unwrap();
            return std::future::pending().await;
        }
        let (lines, mut orders) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            std::io::stdin()
                .lines()
                .for_each(|line| lines.send(line.unwrap()).unwrap());
        });
        while let Some(order) = orders.recv().await {
            obey(&supervisor, &order).await;
        }
    });
    std::process::exit(0);
}

/// `verb value` (of `fail`: `SIGNAL,grace,generation`), for the first child, or `verb value child`.
async fn obey(supervisor: &Supervisor, order: &str) {
    let mut words = order.split(' ');
    let (verb, value) = (words.next().unwrap(), words.next().unwrap_or_default());
    let child = ChildId(words.next().map_or(0, |n| n.parse().unwrap()));
    match verb {
        "spawn" => {
            if let Err(error) = supervisor.spawn(child, Generation(value.parse().unwrap())).await {
                say(&format!("@error {} {error}", error.exit_code()));
            }
        }
        // As `spawn`, and what is ordered next does not wait for it.
        "begin" => {
            let (supervisor, generation) = (supervisor.clone(), Generation(value.parse().unwrap()));
            let mut begun = Box::pin(async move { supervisor.spawn(child, generation).await.unwrap() });
            tokio::select! {
                biased; // it is asked for when this returns
                _ = &mut begun => {}
                () = std::future::ready(()) => drop(tokio::spawn(begun)),
            }
        }
        "forward" => supervisor.forward(child, if value == "HUP" { Signal::HUP } else { Signal::STOP }),
        "terminate" | "terminate_all" => {
            let (supervisor, all) = (supervisor.clone(), verb == "terminate_all");
            let grace = Duration::from_millis(value.parse().unwrap());
            tokio::spawn(async move {
                let ended = if all {
                    supervisor.terminate_all(grace).await
                } else {
                    supervisor.terminate(child, grace).await
                };
                say(&format!("@terminated killed={} left={}", ended.killed, ended.left));
            });
        }
        "counts" => {
            say(&format!(
                "@counts orphans={} ignored={}",
                supervisor.orphans_reaped(),
                supervisor.notify_ignored()
            ));
        }
        "fail" => {
            let (signal, grace) = value.split_once(',').unwrap();
            let signal = if signal == "ABRT" { Signal::ABORT } else { Signal::TERM };
            let mut words = grace.split(',');
            let grace = Duration::from_millis(words.next().unwrap().parse().unwrap());
            let generation = Generation(words.next().unwrap().parse().unwrap());
            supervisor.fail(child, generation, signal, grace);
        }
        "flush" => {
            let longest = Duration::from_millis(value.parse().unwrap());
            say(&format!("@flushed {}", supervisor.flush_output(longest).await));
        }
        "look" => look(value.parse().unwrap()).await,
        "look_beside" => drop(tokio::spawn(look(value.parse().unwrap()))),
        "floods" => say(&format!("@floods {}", supervisor.notify_floods())),
        _ => panic!("{order}"),
    }
}

/// So many looks of an `exec` check with `SUPERVISE_CHECK`, a script that is told the number of the look.
async fn look(count: u32) {
    let script = std::env::var("SUPERVISE_CHECK").unwrap();
    for number in 0..count {
        let words = ["/bin/sh", "-c", &script, "check", &number.to_string()].map(OsString::from);
        let verdict = Probe::exec(&words).once().await;
        say(&format!("@look {number} {verdict:?}."));
    }
    say("@looked");
}

/// A backend that sends one thing (`SUPERVISE_DOES`) to NOTIFY_SOCKET, and ends.
fn backend() {
    let path = PathBuf::from(std::env::var_os("NOTIFY_SOCKET").unwrap());
    let does = std::env::var("SUPERVISE_DOES").unwrap();
    match does.as_str() {
        "ready" => send(&path, b"READY=1", 0),
        "ready-and-stay" => {
            send(&path, b"READY=1", 0);
            loop {
                std::thread::park();
            }
        }
        "flood" => {
            // Until its test has seen it, and makes the file: how fast it is depends on the machine.
            let socket = UnixDatagram::unbound().unwrap();
            socket.connect(&path).unwrap();
            let enough = PathBuf::from(std::env::var_os("ENOUGH").unwrap());
            while !enough.exists() {
                for _ in 0..100 {
                    socket.send(b"STATUS=flood").unwrap();
                }
            }
            send(&path, b"READY=1", 0);
        }
        "giant" => send(&path, &[b'x'; 5000], 0),
        "fds" => send(&path, b"STATUS=bomb", 253),
        "mainpid" => send(&path, b"READY=1\nMAINPID=1", 0),
        "barrier" => {
            let (reader, writer) = std::io::pipe().unwrap();
            send(&path, b"READY=1", 0);
            send_with(&path, b"BARRIER=1", &[writer.as_fd()]);
            drop(writer);
            // Ends only when the supervisor has closed its copy.
            std::io::copy(&mut { reader }, &mut std::io::sink()).unwrap();
        }
        other => panic!("{other}"),
    }
    std::process::exit(0);
}

/// Sends `text` with `descriptors` copies of one descriptor.
pub(crate) fn send(path: &std::path::Path, text: &[u8], descriptors: usize) {
    let null = std::fs::File::open("/dev/null").unwrap();
    send_with(path, text, &vec![null.as_fd(); descriptors]);
}

fn send_with(path: &std::path::Path, text: &[u8], descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
}

/// A supervisor in a process of its own.
pub(crate) struct Helper {
    process: Child,
    orders: Option<ChildStdin>,
    lines: Lines,
}

impl Helper {
    /// One that will start `/bin/sh -c script`, not started yet.
    pub(crate) fn of(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script], &[], "")
    }

    /// One with several children, each given by its words.
    pub(crate) fn with(children: &[&[&str]]) -> Self {
        let children: Vec<_> = children.iter().map(|words| words.join("\u{1f}")).collect();
        Self::new(&[&children.join("\u{1e}")], &[], "")
    }

    /// One that will start `child`; `before` runs in the shell that becomes the helper.
    pub(crate) fn new(child: &[&str], env: &[(&str, &str)], before: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            &format!("{before}\nexec \"$0\" helper::helper --exact --nocapture"),
        ]);
        command
            .arg(std::env::current_exe().unwrap())
            .env(ROLE, "supervisor")
            .env(CHILD, child.join("\u{1f}"));
        command
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = Lines::of(process.stdout.take().unwrap());
        Self {
            orders: process.stdin.take(),
            process,
            lines,
        }
    }

    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Waits for a line with `text` in it, and gives what follows.
    pub(crate) fn expect(&self, text: &str) -> String {
        self.lines.expect(text)
    }

    /// Whether a line with `text` has come and was not waited for.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.lines.has(text)
    }

    /// Starts generation `n`; gives the child's pid.
    pub(crate) fn spawn(&mut self, n: u64) -> i32 {
        self.order(&format!("spawn {n}"));
        self.expect(&format!("@started {n} ")).parse().unwrap()
    }

    /// As [`Helper::spawn`], of another child than the first.
    pub(crate) fn spawn_of(&mut self, child: usize, n: u64) -> i32 {
        self.order(&format!("spawn {n} {child}"));
        self.expect(&format!("@started {child}/{n} ")).parse().unwrap()
    }

    pub(crate) fn terminate(&mut self, grace_ms: u64) -> String {
        self.order(&format!("terminate {grace_ms}"));
        self.expect("@terminated ")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// Lets the helper stand still, or go on.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    /// Kills the helper alone, without a chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let runs = self.process.try_wait().is_ok_and(|ended| ended.is_none());
        if let Some(orders) = self.orders.as_mut().filter(|_| runs) {
            let _ = writeln!(orders, "terminate_all 0"); // leave nothing on the machine
            let _ = self.lines.find("@terminated", Duration::from_secs(5));
        }
        drop(self.orders.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process wrote. A line that was not waited for yet is kept, as two
/// writers (the helper and its child) have no order between them.
pub(crate) struct Lines {
    lines: Receiver<String>,
    kept: RefCell<VecDeque<String>>,
}

impl Lines {
    pub(crate) fn of(reader: impl std::io::Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            kept: RefCell::default(),
        }
    }

    /// Takes the first line with `text` in it, and gives what follows.
    pub(crate) fn expect(&self, text: &str) -> String {
        self.find(text, PATIENCE)
            .unwrap_or_else(|| panic!("{text:?} did not come; what came: {:#?}", self.kept.borrow()))
    }

    /// Whether a line with `text` has come and was not waited for.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.find(text, Duration::ZERO).is_some()
    }

    fn find(&self, text: &str, patience: Duration) -> Option<String> {
        let after = |line: &str| line.find(text).map(|at| line[at + text.len()..].trim().to_owned());
        let mut kept = self.kept.borrow_mut();
        if let Some(at) = kept.iter().position(|line| line.contains(text)) {
            return after(&kept.remove(at)?);
        }
        let deadline = Instant::now() + patience;
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if let Some(rest) = after(&line) {
                return Some(rest);
            }
            kept.push_back(line);
        }
        None
    }
}

/// Waits until `condition` holds; polls, as nobody tells.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        // tidy: allow-sleep between two looks at a condition that nobody tells of
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The parent of a process.
pub(crate) fn parent_of(pid: i32) -> i32 {
    Process::read(pid).unwrap().parent
}

pub(crate) fn kill(pid: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

/// What needs another user says so where there is none, and is not skipped.
pub(crate) fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it starts processes of another user (nobody)"
    );
}

/// Whether the process runs (a zombie does not).
pub(crate) fn is_alive(pid: i32) -> bool {
    Process::read(pid).is_some_and(|process| !process.ended)
}
