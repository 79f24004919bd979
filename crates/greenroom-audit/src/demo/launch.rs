//! Starts the processes of the demo and listens to what they say.
//!
//! A backend writes its records to standard output, greenroom its events to
//! standard error; both as lines of JSON. The backend is told to end with its
//! standard input, which is a pipe from here: however the demo ends, it ends too.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backend::BackendProcess;
use crate::journal::{Journal, Record};
use crate::limits;

/// How the processes are started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program `greenroom`.
    pub program: PathBuf,
    /// Its arguments before the description of the backend (see [`BackendProcess`]).
    pub backend: Vec<OsString>,
    /// Its arguments before the `--` and the command of the backend.
    pub greenroom: Vec<OsString>,
}

/// Why a process of the demo is not there.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// What.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The description of the backend cannot be written.
    #[error("cannot describe the backend: {0}")]
    Description(#[from] serde_json::Error),
    /// greenroom ended, or was silent, instead of listening.
    #[error("greenroom {what} before it listened; its last words:\n{log}")]
    NotListening {
        /// What it did.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
}

impl Launch {
    /// With this very program: `demo-backend …`, and `run … -- … demo-backend …`.
    ///
    /// # Errors
    ///
    /// When the path of the program is not known.
    pub fn this_program() -> io::Result<Self> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        Ok(Self {
            program: std::env::current_exe()?,
            backend: words(&["demo-backend"]),
            greenroom: words(&["run", "--listen", "127.0.0.1:0", "--log-format", "json"]),
        })
    }

    /// Starts a backend.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn backend(&self, process: &BackendProcess) -> Result<Running, LaunchError> {
        let mut command = Command::new(&self.program);
        command.args(&self.backend).arg(serde_json::to_string(process)?);
        self.start(command)
    }

    /// Starts greenroom, which starts a backend.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn greenroom(&self, process: &BackendProcess) -> Result<Running, LaunchError> {
        let mut command = Command::new(&self.program);
        command.args(&self.greenroom).arg("--").arg(&self.program);
        command.args(&self.backend).arg(serde_json::to_string(process)?);
        self.start(command)
    }

    fn start(&self, mut command: Command) -> Result<Running, LaunchError> {
        // A surrounding systemd or platform is not part of the story.
        command.env_remove("NOTIFY_SOCKET").env_remove("PORT");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let start = |source| LaunchError::Start {
            program: self.program.clone(),
            source,
        };
        let mut child = command.spawn().map_err(start)?;
        let journal = Arc::new(Journal::default());
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (heard, address) = watch::channel(None);
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            let journal = Arc::clone(&journal);
            readers.push(tokio::spawn(lines(out, move |line| {
                // greenroom may one day say something there, too: only records are ours.
                if let Ok(record) = serde_json::from_str::<Record>(line) {
                    journal.add(record);
                }
            })));
        }
        if let Some(out) = child.stderr.take() {
            let log = Arc::clone(&log);
            readers.push(tokio::spawn(lines(out, move |line| {
                if let Some(address) = listening(line) {
                    heard.send_replace(Some(address));
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() == limits::DEMO_LOG_LINES {
                    log.pop_front();
                }
                log.push_back(line.to_owned());
            })));
        }
        Ok(Running {
            child,
            journal,
            log,
            address,
            readers,
        })
    }
}

/// The address in a `listening` event, if that is what the line is.
fn listening(line: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event.get("event")?.as_str()? == "listening").then(|| event.get("address")?.as_str()?.parse().ok())?
}

/// Calls `take` with each line. One that is too long ends the reading of it, not of the stream.
async fn lines(from: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    let max = u64::try_from(limits::LINE_MAX).unwrap_or(u64::MAX);
    while let Ok(1..) = (&mut from).take(max).read_until(b'\n', &mut line).await {
        take(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// A process of the demo; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    journal: Arc<Journal>,
    log: Arc<Mutex<VecDeque<String>>>,
    address: watch::Receiver<Option<SocketAddr>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// What the backend saw so far.
    #[must_use]
    pub const fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Waits for greenroom's `listening` event.
    ///
    /// # Errors
    ///
    /// When it ends first, or says nothing in time.
    pub async fn listening(&mut self) -> Result<SocketAddr, LaunchError> {
        let heard = timeout(limits::DEMO_PROCESS, self.address.wait_for(Option::is_some)).await;
        let what = match heard {
            Ok(Ok(address)) => match *address {
                Some(address) => return Ok(address),
                None => "said nothing",
            },
            Ok(Err(_closed)) => "ended",
            Err(_late) => "said nothing",
        };
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = log.iter().map(|line| format!("  {line}\n")).collect();
        Err(LaunchError::NotListening { what, log })
    }

    /// Ends it: TERM, the end of its standard input, and KILL if that does not do.
    pub async fn stop(mut self) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Not yet waited for, so the id is still its own.
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        drop(self.child.stdin.take());
        if timeout(limits::DEMO_PROCESS, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
        }
        for reader in &self.readers {
            reader.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_event_tells_an_address() {
        let line = r#"{"time":"x","event":"listening","address":"127.0.0.1:4711","pid":7}"#;
        assert_eq!(listening(line), Some("127.0.0.1:4711".parse().unwrap()));
        for line in [
            "",
            "listening",
            r#"{"event":"ready","address":"127.0.0.1:1"}"#,
            r#"{"event":"listening"}"#,
        ] {
            assert_eq!(listening(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_and_the_next_is_read() {
        let mut text = vec![b'x'; limits::LINE_MAX + 10];
        text.extend(b"\nsecond\nlast");
        let mut seen = Vec::new();
        lines(&text[..], |line| seen.push(line.len())).await;
        assert_eq!(seen, [limits::LINE_MAX, 10, 6, 4]);
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let launch = Launch {
            program: "/no/such/greenroom".into(),
            backend: vec![],
            greenroom: vec![],
        };
        let backend = crate::demo::demo_backend();
        let process = BackendProcess {
            backend,
            address: None,
            record: None,
            until_stdin_ends: true,
        };
        let error = launch.backend(&process).unwrap_err();
        assert!(error.to_string().contains("/no/such/greenroom"), "{error}");
    }
}
