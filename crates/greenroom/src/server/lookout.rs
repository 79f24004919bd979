//! Sees that the configuration's file has changed (`reload_on_change`), by inotify on its folder.
//!
//! Editors and deployments replace a file by rename, or what a link in its way leads to, so the folder is watched and not
//! the file, and where the file is a link, the folder that it leads to too. Whatever happens there, the file is looked at once it
//! was quiet for `RELOAD_QUIET`; only if it is another one then, or its size or time is, a reload is asked for. So a burst of writes
//! is one reload, other files in the folder cost a look, and one that is open and written all the time (a log) nothing. One descriptor while it is wanted, none else.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_core::limits::{KIB, RELOAD_QUIET, RELOAD_QUIET_MAX, RELOAD_WATCH_AGAIN};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::admin::Reloads;
use crate::probe::register;
use crate::telemetry::Log;

/// Watches whenever it is wanted, for ever.
pub(super) async fn watch(file: PathBuf, mut wanted: watch::Receiver<bool>, reloads: Reloads, log: Log) {
    let mut told = false;
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let error = tokio::select! {
            error = look_out(&file, &reloads) => error,
            left = wanted.wait_for(|wanted| !*wanted) => match left {
                Ok(_) => continue,
                Err(_) => return, // the house is gone
            },
        };
        if !std::mem::replace(&mut told, true) {
            let file = file.display();
            log.warn(format!(
                "cannot watch the folder of {file} (reload_on_change): {error}; it is tried again, and `greenroom reload` works as ever"
            ));
        }
        tokio::time::sleep(RELOAD_WATCH_AGAIN).await;
    }
}

/// Asks for a reload with each change of the file. Ends with an error where that cannot be seen.
async fn look_out(file: &Path, reloads: &Reloads) -> io::Error {
    let mut seen = None;
    loop {
        let folders = match Folders::of(file) {
            Ok(folders) => folders,
            Err(error) => return error,
        };
        // What changed before the folders were watched is seen here.
        let mut found = Found::of(file);
        if seen.get_or_insert(found) == &found {
            if let Err(error) = folders.settled().await {
                return error;
            }
            found = Found::of(file);
        }
        if seen != Some(found) {
            seen = Some(found);
            if found != Found::default() {
                reloads.tell("file"); // one that is away may be about to be replaced
            }
        }
    }
}

/// Which file it is, and what is known of what is in it without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found(Option<[i128; 6]>);

impl Found {
    fn of(file: &Path) -> Self {
        let about = std::fs::metadata(file).ok();
        Self(about.map(|about| {
            [
                about.dev().into(),
                about.ino().into(),
                about.size().into(),
                about.mtime().into(),
                about.mtime_nsec().into(),
                about.ctime_nsec().into(),
            ]
        }))
    }
}

/// The folder of the file, and that of what it leads to.
struct Folders(AsyncFd<OwnedFd>);

impl Folders {
    fn of(file: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, folder(file), events)?;
        if let Ok(real) = file.canonicalize() {
            let _ = inotify::add_watch(&fd, folder(&real), events); // the same again is the same watch
        }
        Ok(Self(register(fd)?))
    }

    /// Ends when something has happened and then nothing for a while.
    async fn settled(&self) -> io::Result<()> {
        self.stirred().await?;
        let until = Instant::now() + RELOAD_QUIET_MAX;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(RELOAD_QUIET);
            match timeout(left, self.stirred()).await {
                Ok(stirred) if left > Duration::ZERO => stirred?,
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// Ends when something has happened.
    async fn stirred(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| {
                let mut room = [0; 4 * KIB];
                Ok(rustix::io::read(fd.get_ref(), &mut room)?)
            });
            match read {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}
