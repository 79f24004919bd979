//! Starts CMD, or greenroom in front of it, and ends it with all that it started.
//!
//! Each start carries a mark in its environment. Its kin are its descendants, its process group, and
//! whoever carries the mark: so one that left its parent is found too. They get TERM, and KILL what is left
//! after the grace. What CMD writes is read and its last lines are kept: it must not spoil the report.
//!
//! Not covered: a process that clears its environment and leaves group and parent; and when the audit itself is
//! killed by SIGKILL, CMD is left behind. The warden of `greenroom run` would end it: but a supervisor has its commands from the
//! start, passes their output on, and waits for every child of the process; here each start has a port and a notify socket
//! of its own, its last lines are kept, and the exec of a warden would stand between *exec* and CMD's own.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use greenroom::supervise::{Signal, procfs};
use rustix::process::{Pid, WaitOptions, getpid, kill_process, kill_process_group, waitpid};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::record::Interval;
use crate::{clock, limits};

/// The variable that marks all processes of one start.
const MARK: &str = "AUDIT_START";

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(OsString, OsString)>,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?}: {why}; give the server's command line behind --")]
pub struct StartError {
    program: OsString,
    /// In the message already, and so no source of the error: who shows both would say it twice.
    why: io::Error,
}

/// A start of CMD. Dropping it kills the process itself; [`Running::stop`] ends all.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: i32,
    mark: String,
    exec: Interval,
    output: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(program: &Program) -> Result<Self, StartError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let fail = |why| StartError {
            program: program.words.first().cloned().unwrap_or_default(),
            why,
        };
        let (first, rest) = program
            .words
            .split_first()
            .ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
        let mut command = Command::new(first);
        command.args(rest);
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "LISTEN_PID",
            "LISTEN_FDS",
        ] {
            command.env_remove(name); // a surrounding service manager is not part of this
        }
        command
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let before = clock::now();
        // Returns when exec has succeeded or failed.
        let mut child = command.spawn().map_err(fail)?;
        let exec = Interval::new(before, clock::now());
        let output = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|out| keep(out, &output)));
        readers.extend(child.stderr.take().map(|out| keep(out, &output)));
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        Ok(Self {
            child,
            pid,
            mark,
            exec,
            output,
            readers,
        })
    }

    /// When it was executed.
    #[must_use]
    pub const fn exec(&self) -> Interval {
        self.exec
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => told(status),
            Err(error) => format!("could not be waited for: {error}"),
        }
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.iter().cloned().collect()
    }

    /// Its number.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the process that was started, and to nobody else.
    pub fn signal_one(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            kill_process(pid, signal).ok(); // not yet waited for, so the number is still its own
        }
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // Not yet waited for, so the number is still its own; gone is as good as told.
            kill_process_group(pid, signal).ok();
        }
    }

    /// Ends it and its kin. Gives how many had to be killed.
    pub async fn stop(&mut self, grace: Duration) -> u32 {
        let deadline = Instant::now() + grace;
        self.signal(Signal::TERM);
        timeout(grace, self.child.wait()).await.ok();
        let (mut told, mut killed) = (BTreeSet::new(), 0);
        loop {
            let kin = self.kin();
            if kin.is_empty() {
                break;
            }
            let late = Instant::now() >= deadline;
            for process in kin {
                if late {
                    killed += u32::from(process.id().is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok()));
                } else if told.insert(process.pid) && process.pid != self.pid {
                    process.id().map(|pid| kill_process(pid, Signal::TERM));
                }
            }
            if Instant::now() >= deadline + limits::AUDIT_KILL {
                break; // not even KILL: it hangs in the kernel
            }
            tokio::select! {
                _ = self.child.wait(), if late => {}
                () = sleep(limits::AUDIT_SWEEP) => {}
            }
        }
        if timeout(limits::AUDIT_KILL, self.child.wait()).await.is_err() {
            self.child.start_kill().ok();
        }
        for reader in &self.readers {
            reader.abort();
        }
        killed
    }

    /// Who belongs to it and still runs. Those that ended and are ours to wait for are waited for.
    fn kin(&self) -> Vec<procfs::Process> {
        let own = getpid().as_raw_nonzero().get();
        let below: BTreeSet<i32> = procfs::descendants(self.pid, |_| false).iter().map(|p| p.pid).collect();
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for process in procfs::all().unwrap_or_default() {
            let near = process.pid == self.pid || process.group == self.pid || below.contains(&process.pid);
            if process.ended {
                if near && process.parent == own && process.pid != self.pid {
                    waitpid(process.id(), WaitOptions::NOHANG).ok();
                }
            } else if near || carries(process.pid, &mark) {
                found.push(process);
            }
        }
        found
    }
}

/// Whether the environment of this process has the mark.
fn carries(pid: i32, mark: &str) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ
        .split(|&byte| byte == 0)
        .any(|variable| variable == mark.as_bytes())
}

fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Reads to the end and keeps the last lines.
fn keep(out: impl AsyncRead + Unpin + Send + 'static, output: &Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    tokio::spawn(async move {
        let mut out = BufReader::new(out);
        let mut line = Vec::new();
        let max = u64::try_from(limits::LINE_MAX).unwrap_or(u64::MAX);
        while let Ok(1..) = (&mut out).take(max).read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line);
            let safe = |c: char| if c.is_control() { ' ' } else { c };
            let text: String = text.trim_end().chars().map(safe).take(limits::AUDIT_LINE).collect();
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            if output.len() == limits::AUDIT_OUTPUT_LINES {
                output.pop_front();
            }
            output.push_back(text);
            line.clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            words: ["sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("PORT".into(), "4711".into())],
        }
    }

    #[tokio::test]
    async fn what_it_writes_is_kept_and_its_end_is_told() {
        let mut running = Running::start(&shell("echo port $PORT; exit 7")).unwrap();
        assert!(running.exec().low_ns <= running.exec().high_ns);
        assert_eq!(running.ended().await, "with exit code 7");
        let deadline = Instant::now() + Duration::from_secs(5);
        while running.output() != ["port 4711"] {
            assert!(Instant::now() < deadline, "{:?}", running.output());
            tokio::task::yield_now().await;
        }
        assert_eq!(running.stop(Duration::from_secs(1)).await, 0);
    }

    #[tokio::test]
    async fn a_process_that_left_its_parent_and_group_is_ended_too_and_one_that_ignores_term_is_killed() {
        let script = "trap '' TERM; setsid sh -c 'sleep 600 & echo here; wait' & while :; do sleep 600; done"; // tidy: allow-sleep they are the processes to be ended
        let mut running = Running::start(&shell(script)).unwrap();
        let mark = format!("{MARK}={}", running.mark);
        let deadline = Instant::now() + Duration::from_secs(10);
        while running.output() != ["here"] {
            assert!(Instant::now() < deadline, "{:?}", running.output());
            tokio::task::yield_now().await;
        }
        assert!(running.stop(Duration::from_millis(200)).await >= 1);
        let all = procfs::all().unwrap();
        let left: Vec<_> = all.iter().filter(|p| !p.ended && carries(p.pid, &mark)).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn a_process_whose_parent_is_gone_and_that_leads_a_session_of_its_own_is_found_by_its_mark() {
        let mut running = Running::start(&shell("setsid sh -c 'echo here; exec sleep 600' & exit 0")).unwrap(); // tidy: allow-sleep it is the process to be ended
        let mark = format!("{MARK}={}", running.mark);
        running.ended().await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while running.output() != ["here"] {
            assert!(Instant::now() < deadline, "{:?}", running.output());
            tokio::task::yield_now().await;
        }
        let there = || {
            let all = procfs::all().unwrap();
            all.iter().filter(|p| !p.ended && carries(p.pid, &mark)).count()
        };
        assert_eq!(there(), 1);
        assert_eq!(running.stop(Duration::from_secs(5)).await, 0, "TERM is enough");
        assert_eq!(there(), 0);
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let program = Program {
            words: vec!["/no/such/server".into()],
            env: vec![],
        };
        let error = Running::start(&program).unwrap_err();
        assert!(std::error::Error::source(&error).is_none(), "it would be told twice");
        let error = error.to_string();
        assert!(error.contains("/no/such/server"), "{error}");
    }
}
