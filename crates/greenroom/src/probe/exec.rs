//! `exec`: a command ends with exit code 0.
//!
//! It runs in a process group of its own, which is killed when the look's time is over, when
//! the command has ended, and when the look is dropped (see `supervise::errand`). It has no input, and
//! its output goes nowhere: none of it is kept, and a command that says much is not held up.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Why;
use crate::supervise::End;
use crate::supervise::errand::Errand;

/// The probe `exec`.
#[derive(Debug)]
pub(super) struct Exec {
    command: Arc<[OsString]>,
    /// The start of the last look's command; one that hangs (on a dead file system) keeps others from starting.
    start: Option<JoinHandle<()>>,
    /// Where greenroom was started with SIGCHLD ignored, the kernel would throw each end away.
    _children: Option<Signal>,
}

impl Exec {
    pub(super) fn new(command: &[OsString]) -> Self {
        Self {
            command: command.into(),
            start: None,
            _children: None,
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        if self._children.is_none() {
            self._children = signal(SignalKind::child()).ok();
        }
        if let Some(start) = &mut self.start {
            let _ = start.await; // its look is gone, and so is its command: dropped on arrival
            self.start = None;
        }
        let (tell, told) = oneshot::channel();
        let command = Arc::clone(&self.command);
        self.start = Some(tokio::task::spawn_blocking(move || {
            // Nobody there any more: the command is killed with the value.
            let _ = tell.send(Errand::start(&command));
        }));
        let started = told.await.map_err(|_| Why::Failed(io::ErrorKind::Other))?; // the runtime is ending
        let mut errand = started.map_err(|error| Why::NotStarted(error.kind()))?.errand();
        match errand.ended().await {
            Ok(End::Exited(0)) => Ok(()),
            Ok(End::Exited(code)) => Err(Why::Exit(code)),
            Ok(End::Signalled(signal)) => Err(Why::Signal(signal)),
            Err(error) => Err(Why::Failed(error.kind())),
        }
    }
}
