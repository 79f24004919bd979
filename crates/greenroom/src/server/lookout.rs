//! Sees that the configuration's file has changed (`reload_on_change`), by inotify on its folder.
//!
//! Editors and deployments replace a file by rename, or what a link in its way leads to, so the folder is watched and not
//! the file, and where the file is a link, the folder that it leads to too. Whatever happens there, the file is looked at once it
//! was quiet for `RELOAD_QUIET`; only if it is another one then, or its size or time is, a reload is asked for. So a burst of writes
//! is one reload, other files in the folder cost a look, and one that is open and written all the time (a log) nothing. One descriptor while it is wanted, none else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_core::limits::{KIB, RELOAD_QUIET, RELOAD_QUIET_MAX, RELOAD_WATCH_AGAIN};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::admin::Reloads;
use crate::config::Mark;
use crate::probe::register;
use crate::telemetry::Log;

/// Watches whenever it is wanted, for ever. `loaded` is the file that was taken last.
pub(super) async fn watch(
    file: PathBuf,
    loaded: watch::Receiver<Option<Mark>>,
    mut wanted: watch::Receiver<bool>,
    reloads: Reloads,
    log: Log,
) {
    let mut told = false;
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let mut seen = *loaded.borrow();
        let left = loop {
            let error = tokio::select! {
                error = look_out(&file, &mut seen, &reloads) => error,
                left = wanted.wait_for(|wanted| !*wanted) => break left.is_ok(),
            };
            if !std::mem::replace(&mut told, true) {
                let file = file.display();
                log.warn(format!(
                    "cannot watch the folder of {file} (reload_on_change): {error}; it is tried again, and `greenroom reload` works as ever"
                ));
            }
            // What is there then and was not seen before is a change.
            tokio::time::sleep(RELOAD_WATCH_AGAIN).await;
        };
        if !left {
            return; // the house is gone
        }
    }
}

/// Asks for a reload with each file that is another than what was seen. Ends with an error where that cannot be seen.
async fn look_out(file: &Path, seen: &mut Option<Mark>, reloads: &Reloads) -> io::Error {
    loop {
        let folders = match Folders::of(file) {
            Ok(folders) => folders,
            Err(error) => return error,
        };
        // What changed before the folders were watched is seen here. One that is away may be about to be replaced.
        let is_another = |found: Option<Mark>, seen: Option<Mark>| found.is_some() && found != seen;
        let mut found = Mark::of(file);
        if !is_another(found, *seen) {
            if let Err(error) = folders.settled().await {
                return error;
            }
            found = Mark::of(file);
        }
        if is_another(found, *seen) {
            *seen = found;
            reloads.tell("file", None);
        }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;

    use super::*;
    use crate::admin::Order;
    use crate::telemetry::Format;

    /// A file in a folder of its own, which is gone when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("greenroom-lookout-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("greenroom.toml"), "as it was loaded").unwrap();
            Self(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("greenroom.toml")
        }

        /// Looks out for what is another than this.
        fn watched(&self, loaded: Option<Mark>) -> (mpsc::Receiver<Order>, impl Future<Output = ()> + use<>) {
            let (sender, orders) = mpsc::channel(1);
            let (loaded, wanted) = (watch::channel(loaded).1, watch::channel(true));
            let reloads = Reloads::new(sender, true);
            let file = self.file();
            let watches = async move {
                let _wanted = wanted.0;
                watch(file, loaded, wanted.1, reloads, Log::start(Format::Json)).await;
            };
            (orders, watches)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn by(orders: &mut mpsc::Receiver<Order>) -> Option<&'static str> {
        let order = timeout(3 * RELOAD_WATCH_AGAIN, orders.recv()).await.ok()?;
        order.map(|order| order.by)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_between_the_load_and_the_first_look_is_taken() {
        let place = Place::new("first");
        let loaded = Mark::of(&place.file());
        let (mut orders, watches) = place.watched(loaded);
        tokio::spawn(watches);
        assert_eq!(by(&mut orders).await, None, "it is what was loaded");
        fs::write(place.file(), "another, before anybody looked").unwrap();
        let (mut orders, watches) = place.watched(loaded);
        tokio::spawn(watches);
        assert_eq!(by(&mut orders).await, Some("file"));
        assert_eq!(by(&mut orders).await, None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_while_the_folder_was_away_is_taken_when_it_is_back() {
        let place = Place::new("away");
        let aside = place.0.with_extension("aside");
        let _ = fs::remove_dir_all(&aside);
        let (mut orders, watches) = place.watched(Mark::of(&place.file()));
        fs::rename(&place.0, &aside).unwrap();
        tokio::spawn(watches);
        assert_eq!(by(&mut orders).await, None, "there is nothing to read");
        fs::write(aside.join("greenroom.toml"), "another, while it was away").unwrap();
        fs::rename(&aside, &place.0).unwrap();
        assert_eq!(by(&mut orders).await, Some("file"));
    }
}
