//! Keeps the start-up times of a backend over greenroom's own life, in `state_dir`.
//!
//! ```text
//!  state_dir/starts-NAME    one time a line, in milliseconds, oldest first
//! ```
//!
//! Written anew after each start, beside the old file and then in its place: whoever reads sees
//! one or the other. What cannot be read or written is said once, and costs nothing but the
//! times. Bounded by `STARTS_KEPT` lines.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_core::limits::{STARTS_FILE_MAX, STARTS_KEPT};
use greenroom_core::starts::Starts;
use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use crate::telemetry::Log;

/// The file of one backend.
#[derive(Clone, Debug)]
pub(super) struct StartsFile(PathBuf);

impl StartsFile {
    /// Names of backends are words that are also names of files.
    pub(super) fn of(state_dir: &Path, backend: &str) -> Self {
        Self(state_dir.join(format!("starts-{backend}")))
    }

    /// Makes the folder, if it is not there.
    pub(super) fn make_room(state_dir: &Path, log: &Log) {
        if let Err(error) = std::fs::create_dir_all(state_dir) {
            let path = state_dir.display();
            log.warn(format!(
                "cannot make the folder {path} (state_dir): {error}; start-up times are not kept over greenroom's own life"
            ));
        }
    }

    /// The times that it has; none where there is no file yet, or none that makes sense.
    pub(super) fn read(&self, log: &Log) -> Starts {
        match self.try_read() {
            Ok(starts) => starts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Starts::default(),
            Err(error) => {
                let path = self.0.display();
                log.warn(format!(
                    "cannot read the start-up times in {path}: {error}; they are learned anew"
                ));
                Starts::default()
            }
        }
    }

    fn try_read(&self) -> io::Result<Starts> {
        // What is no file is not waited for, and what grows meanwhile is not read for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&self.0, flags, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() || about.len() > STARTS_FILE_MAX {
            return Err(io::Error::other("it is no file of start-up times"));
        }
        let mut text = String::new();
        file.take(STARTS_FILE_MAX).read_to_string(&mut text)?;
        let times: Result<Vec<u64>, _> = text.lines().map(str::parse).collect();
        let times = times.map_err(|_| io::Error::other("a line is no number of milliseconds"))?;
        Ok(Starts::known(times.into_iter().map(Duration::from_millis)))
    }

    fn write(&self, starts: &Starts) -> io::Result<()> {
        let lines = starts
            .times()
            .take(STARTS_KEPT)
            .map(|time| format!("{}\n", time.as_millis()));
        let beside = self.0.with_extension(format!("{}.new", std::process::id()));
        // What is there was left by a process of our number, or laid there by somebody: it is not written through.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&beside)?;
        file.write_all(lines.collect::<String>().as_bytes())?;
        std::fs::rename(&beside, &self.0)
    }

    /// Writes whenever a start was learned, for ever.
    pub(super) async fn keep(self, mut learned: watch::Receiver<Starts>, log: Log) {
        let mut has_failed = false;
        while learned.changed().await.is_ok() {
            let starts = learned.borrow_and_update().clone();
            let file = self.clone();
            let written = tokio::task::spawn_blocking(move || file.write(&starts)).await;
            if let Ok(Err(error)) = written
                && !std::mem::replace(&mut has_failed, true)
            {
                let path = self.0.display();
                log.warn(format!("cannot keep the start-up times in {path}: {error}; is `state_dir` a folder that greenroom may write to?"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Format;

    fn folder() -> PathBuf {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let folder = std::env::temp_dir().join(format!("greenroom-state-{:016x}", u64::from_ne_bytes(random)));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn what_was_learned_is_there_again_and_what_makes_no_sense_is_not() {
        let folder = folder();
        let file = StartsFile::of(&folder, "app");
        let log = Log::start(Format::Json);
        assert_eq!(file.read(&log), Starts::default());
        let starts = Starts::known((1..=100).map(Duration::from_millis));
        file.write(&starts).unwrap();
        assert_eq!(file.read(&log), starts);
        for nonsense in ["12\nsoon\n", "-1\n", "99999999999999999999999\n"] {
            std::fs::write(folder.join("starts-app"), nonsense).unwrap();
            assert_eq!(file.read(&log), Starts::default(), "{nonsense}");
        }
        std::fs::write(folder.join("starts-app"), "1\n".repeat(100_000)).unwrap();
        assert_eq!(file.read(&log), Starts::default(), "too large to be one of ours");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_somebody_else_laid_there_is_neither_waited_for_nor_written_through() {
        let folder = folder();
        let (file, log) = (StartsFile::of(&folder, "app"), Log::start(Format::Json));
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("starts-app"), fifo, 0o600.into(), 0).unwrap();
        assert_eq!(file.read(&log), Starts::default());
        std::fs::write(folder.join("victim"), "precious").unwrap();
        let beside = folder.join(format!("starts-app.{}.new", std::process::id()));
        std::os::unix::fs::symlink(folder.join("victim"), &beside).unwrap();
        let starts = Starts::known([Duration::from_millis(7)]);
        file.write(&starts).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("victim")).unwrap(), "precious");
        assert_eq!(file.read(&log), starts);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_costs_nothing_but_the_times() {
        let file = StartsFile::of(Path::new("/nonexistent/greenroom"), "app");
        let (learned, learns) = watch::channel(Starts::default());
        let keeping = tokio::spawn(file.keep(learns, Log::start(Format::Json)));
        learned.send_modify(|starts| starts.took(Duration::from_millis(5)));
        drop(learned);
        keeping.await.unwrap();
    }
}
