//! `file`: something is at a path, of whatever kind; a symbolic link counts if it leads somewhere.
//!
//! One question to the file system at a time: one that hangs (a dead network file system)
//! keeps its thread, and the looks meanwhile are down.

use std::io;
use std::path::PathBuf;

use tokio::task::JoinHandle;

use super::Why;

/// The probe `file`.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    flight: Option<JoinHandle<io::Result<()>>>,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, flight: None }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        if let Some(late) = &mut self.flight {
            let _ = late.await; // of a look whose time was over: it may have seen what is no longer so
            self.flight = None;
        }
        let path = self.path.clone();
        let flight = self
            .flight
            .insert(tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|_| ())));
        let landed = flight.await;
        self.flight = None;
        match landed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Why::NoFile,
                other => Why::Failed(other),
            }),
            Err(_) => Err(Why::Failed(io::ErrorKind::Other)), // the runtime is ending
        }
    }
}
