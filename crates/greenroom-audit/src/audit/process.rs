//! Starts CMD, or greenroom in front of it, and ends it with all that it started.
//!
//! Between us and it stands a warden, as between `greenroom run` and its child: whoever CMD started is below it in the
//! process tree, whatever they did to get away. They get TERM, and KILL what is left after the grace. When the audit itself
//! is gone, however it ended (SIGKILL, out of memory), the warden kills them. What CMD writes is read and its last lines are
//! kept: it must not spoil the report.
//!
//! Not covered: a CMD that kills its own warden, which is a member of its process group, and leaves somebody behind.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use greenroom::supervise::notify::NotifySocket;
use greenroom::supervise::warden::{Call, Guarded};
use greenroom::supervise::{self, End, Signal, SpawnError};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::record::Interval;
use super::text;
use crate::{clock, limits};

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
pub enum StartError {
    /// There is no command.
    #[error("there is nothing to start; give the server's command line behind --")]
    Nothing,
    /// No pipe for its output.
    #[error("cannot read what the server writes: {0}")]
    Output(io::Error),
    /// It cannot be executed.
    #[error("{0}; give the server's command line behind --")]
    Spawn(SpawnError),
}

// Their words are in these errors' own already: as sources they would be told twice.
impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

/// A start of CMD. Dropping it ends all at once; [`Running::stop`] gives them their grace.
#[derive(Debug)]
pub struct Running {
    child: Guarded,
    exec: Interval,
    output: Arc<Mutex<VecDeque<String>>>,
    readers: [JoinHandle<()>; 2],
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(program: &Program) -> Result<Self, StartError> {
        Self::start_with(program, None)
    }

    /// Starts it with a NOTIFY_SOCKET.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start_with(program: &Program, notify: Option<&NotifySocket>) -> Result<Self, StartError> {
        let (first, rest) = program.words.split_first().ok_or(StartError::Nothing)?;
        let mut command = supervise::Command::new(first);
        command.args = rest.to_vec();
        // It sees what we see, but for a surrounding service manager: settings of greenroom are meant for it, too.
        let settings = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GREENROOM_"));
        command.env = settings.chain(program.env.iter().cloned()).collect();
        let ((out, stdout), (err, stderr)) = (io::pipe()?, io::pipe()?);
        let before = clock::now();
        // Returns when exec has succeeded or failed.
        let child = Guarded::start(&call(), &command, notify, [stdout.into(), stderr.into()])?;
        let exec = Interval::new(before, clock::now());
        let output = Arc::new(Mutex::new(VecDeque::new()));
        let reader = |from: io::PipeReader| {
            let from = pipe::Receiver::from_owned_fd(OwnedFd::from(from))?;
            Ok::<_, io::Error>(keep(from, &output))
        };
        let readers = [reader(out)?, reader(err)?];
        Ok(Self {
            child,
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
        told(self.child.ended().await)
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
        self.child.pid()
    }

    /// Sends a signal to the process that was started, and to nobody else.
    pub fn signal_one(&self, signal: Signal) {
        self.child.signal_one(signal);
    }

    /// Ends it and its kin. Gives how many had to be killed, or are there even so.
    pub async fn stop(&mut self, grace: Duration) -> u32 {
        let deadline = Instant::now() + grace;
        self.child.signal(Signal::TERM);
        timeout(grace, self.child.ended()).await.ok();
        let (mut told, mut killed) = (BTreeSet::from([self.pid()]), BTreeSet::new());
        loop {
            let kin = self.child.below();
            let late = Instant::now() >= deadline;
            for process in &kin {
                if late {
                    Guarded::signal_other(process, Signal::KILL);
                    killed.insert(process.pid);
                } else if told.insert(process.pid) {
                    Guarded::signal_other(process, Signal::TERM);
                }
            }
            // Where not even KILL helps, it hangs in the kernel.
            if kin.is_empty() || Instant::now() >= deadline + limits::AUDIT_KILL {
                break;
            }
            sleep(limits::AUDIT_SWEEP).await;
        }
        for reader in &self.readers {
            reader.abort();
        }
        u32::try_from(killed.len()).unwrap_or(u32::MAX)
    }
}

/// How this program is called to be a warden: the tests of a library have a `main` of their own.
fn call() -> Call {
    #[cfg(test)]
    return Call {
        args: ["--exact", "audit::process::tests::warden", "--nocapture"]
            .map(OsString::from)
            .to_vec(),
        ..Call::default()
    };
    #[cfg(not(test))]
    Call::default()
}

fn told(end: End) -> String {
    match end {
        End::Exited(code) => format!("with exit code {code}"),
        End::Signalled(signal) => format!("by signal {signal}"),
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
            let text = text::foreign(String::from_utf8_lossy(&line).trim_end(), limits::AUDIT_LINE);
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
    use greenroom::supervise::{procfs::Process, warden};

    /// Not a test: the wardens of the others.
    #[test]
    fn warden() {
        if let Some(code) = warden::main_if_called() {
            std::process::exit(code.into());
        }
    }

    fn shell(script: &str) -> Program {
        Program {
            words: ["sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("PORT".into(), "4711".into())],
        }
    }

    /// Waits until it has written this line; the harness of the tests writes some of its own before.
    async fn written(running: &Running, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !running.output().iter().any(|written| written == line) {
            assert!(Instant::now() < deadline, "{:?}", running.output());
            tokio::task::yield_now().await;
        }
    }

    async fn gone(all: &[Process]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while all
            .iter()
            .any(|one| Process::read(one.pid).is_some_and(|now| now.start == one.start && !now.ended))
        {
            assert!(Instant::now() < deadline, "{all:?}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_it_writes_is_kept_and_its_end_is_told() {
        let mut running = Running::start(&shell("echo port $PORT; exit 7")).unwrap();
        assert!(running.exec().low_ns <= running.exec().high_ns);
        assert_eq!(running.ended().await, "with exit code 7");
        written(&running, "port 4711").await;
        assert_eq!(running.stop(Duration::from_secs(1)).await, 0);
    }

    #[tokio::test]
    async fn a_process_that_left_its_parent_and_group_is_ended_too_and_one_that_ignores_term_is_killed() {
        let script = "trap '' TERM; setsid sh -c 'sleep 600 & echo here; wait' & while :; do sleep 600; done"; // tidy: allow-sleep they are the processes to be ended
        let mut running = Running::start(&shell(script)).unwrap();
        written(&running, "here").await;
        let all = running.child.below();
        assert!(running.stop(Duration::from_millis(200)).await >= 1);
        gone(&all).await;
    }

    #[tokio::test]
    async fn a_process_whose_parent_is_gone_and_that_leads_a_session_with_no_environment_is_found() {
        let script = "setsid env -i sh -c 'echo here; exec sleep 600' & exit 0"; // tidy: allow-sleep it is the process to be ended
        let mut running = Running::start(&shell(script)).unwrap();
        running.ended().await;
        written(&running, "here").await;
        let all = running.child.below();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(running.stop(Duration::from_secs(5)).await, 0, "TERM is enough");
        gone(&all).await;
    }

    /// The warden sees the end of its line, as it does when the audit is killed.
    #[tokio::test]
    async fn who_is_dropped_is_ended_with_all_that_it_started() {
        let script = "trap '' TERM; setsid sh -c 'sleep 600 & echo here; wait' & while :; do sleep 600; done"; // tidy: allow-sleep they are the processes to be ended
        let running = Running::start(&shell(script)).unwrap();
        written(&running, "here").await;
        let all = running.child.below();
        assert!(all.len() >= 3, "{all:?}");
        drop(running);
        gone(&all).await;
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let program = Program {
            words: vec!["/no/such/server".into()],
            env: vec![],
        };
        let error = Running::start(&program).unwrap_err().to_string();
        assert!(error.contains("/no/such/server"), "{error}");
    }
}
