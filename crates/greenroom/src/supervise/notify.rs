//! The sd_notify socket of one generation, and the task that reads it.
//!
//! A generation has its own socket in a folder of its own (`folder`), so a late
//! READY of an earlier life cannot reach the next one's. Both names are removed
//! with the [`NotifySocket`], if they are still the ones we made; when greenroom is
//! killed the warden removes them, and if that is killed too, the next greenroom.
//!
//! The way of a READY is short on purpose: readable, `recvmsg`, who sent it, told.
//! No timer, no queue of our own. Bounds: [`limits::NOTIFY_MAX`] bytes per
//! datagram; [`limits::NOTIFY_PER_SECOND`], beyond which the rest waits in the
//! kernel's queue, where it slows down the sender and not us. Descriptors that
//! come along are closed at once, but for that of a [`Barrier`].

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use greenroom_core::limits;
use tokio::io::Interest;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::datagram::{self, Received, Sender};
use super::folder::{self, Folder, Identity, SOCKET};
use super::message::Message;
use super::sender::{Ignored, Kin};
use super::watchdog::Watchdog;
use super::{ChildId, Happening, Tell, What};

/// `sockaddr_un.sun_path`, with its closing zero.
const SUN_PATH: usize = 108;

/// Why a generation has no notify socket.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// No directory took it.
    #[error("no notify socket could be made in any of {tried:?}; the backend starts without NOTIFY_SOCKET")]
    NoPlace {
        /// Where.
        tried: Vec<PathBuf>,
        /// What the last of them answered.
        #[source]
        last: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes for the name of the notify socket")]
    Random(#[source] getrandom::Error),
}

/// A sender waits until this is dropped (`sd_notify_barrier`): drop it when all
/// that was told before is taken in.
#[derive(Debug)]
pub struct Barrier(#[allow(dead_code, reason = "its closing is the message")] OwnedFd);

/// A bound socket in a folder of its own.
#[derive(Debug)]
pub struct NotifySocket {
    socket: Option<UnixDatagram>,
    path: PathBuf,
    made: Option<Identity>,
    folder: Folder,
}

impl NotifySocket {
    /// Makes the folder and the socket in the first place that takes them.
    ///
    /// # Errors
    /// When none does.
    pub fn new() -> Result<Self, NotifyError> {
        Self::new_in(&folder::places())
    }

    fn new_in(places: &[PathBuf]) -> Result<Self, NotifyError> {
        let name = folder::random_name().map_err(NotifyError::Random)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            match Self::new_at(place, &name) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(NotifyError::NoPlace {
            tried: places.to_vec(),
            last,
        })
    }

    fn new_at(place: &Path, name: &str) -> io::Result<Self> {
        let path = place.join(name).join(SOCKET);
        if path.as_os_str().as_bytes().len() >= SUN_PATH {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let mut made = Self {
            socket: None,
            path,
            made: None,
            folder: Folder::new(place, name)?,
        }; // from here on drop tidies up
        let socket = UnixDatagram::bind(&made.path)?;
        made.made = Some(made.folder.identity(SOCKET)?);
        made.folder.set_mode(SOCKET, 0o666)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        datagram::ask_for_pidfds(&socket);
        socket.set_nonblocking(true)?;
        made.socket = Some(socket);
        Ok(made)
    }

    /// The socket itself, for the task that reads it; the names stay with this. `None`: it has been taken.
    pub fn take(&mut self) -> Option<UnixDatagram> {
        self.socket.take()
    }

    /// What NOTIFY_SOCKET is set to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, and what it is: for whoever has to remove it when we are killed.
    pub(super) fn folder(&self) -> Option<(PathBuf, Identity)> {
        Some((self.folder.path().to_owned(), self.folder.own_identity().ok()?))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Some(made) = self.made {
            self.folder.remove_socket(made);
        }
    }
}

/// Whom the task reads for, and what it is told of them.
pub(super) struct Life {
    pub(super) child: ChildId,
    pub(super) generation: Generation,
    pub(super) kin: Kin,
    pub(super) tell: Tell,
    /// How long the child may be silent.
    pub(super) watchdog: Option<Duration>,
    /// Whether its silence does not count now.
    pub(super) held: watch::Receiver<bool>,
    /// Called when it asks for more time.
    pub(super) extend: Box<dyn Fn(Duration) + Send>,
}

/// How much may still be read in this second.
struct Pace {
    budget: u32,
    second: tokio::time::Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            budget: limits::NOTIFY_PER_SECOND,
            second: tokio::time::Instant::now() + limits::NOTIFY_WINDOW,
        }
    }

    /// One was read. True when it was the last for this second.
    fn spend(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        if tokio::time::Instant::now() >= self.second {
            *self = Self::new();
        }
        self.budget == 0
    }

    fn left(&self) -> Duration {
        self.second.saturating_duration_since(tokio::time::Instant::now())
    }
}

/// Reads `socket` for as long as the task lives, and tells what the backend says, and
/// when it has been silent for too long.
pub(super) async fn listen(socket: UnixDatagram, life: Life) {
    // Fails only when the runtime is shutting down.
    let Ok(socket) = tokio::net::UnixDatagram::from_std(socket) else {
        return;
    };
    let mut held = life.held.clone();
    let mut reader = Reader::new(life);
    let mut pace = Pace::new();
    // One timer for all of it, set anew when what it is for has changed.
    let mut alarm = std::pin::pin!(sleep_until(pace.second));
    loop {
        let resting = pace.budget == 0;
        let due = reader.watchdog.due().map(tokio::time::Instant::from_std);
        let wake = [due, resting.then_some(pace.second)].into_iter().flatten().min();
        if let Some(wake) = wake.filter(|wake| *wake != alarm.deadline()) {
            alarm.as_mut().reset(wake);
        }
        tokio::select! {
            biased;
            received = next(&socket, &mut reader.buffer), if !resting => match received {
                Ok(received) => {
                    reader.take(received);
                    if pace.spend() {
                        reader.flooded();
                        reader.watchdog.put_off(pace.left());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A socket that is bound and never connected has no other error; not a reason to spin.
                Err(_) => return,
            },
            Ok(()) = held.changed() => {
                let now_held = *held.borrow_and_update();
                reader.watchdog.hold(Instant::now(), now_held);
            }
            () = &mut alarm, if wake.is_some() => {
                // Never while resting: then it is put off until after that.
                if due.is_some_and(|due| due <= tokio::time::Instant::now()) {
                    reader.catch_up(&socket);
                    reader.check_silence();
                }
                if resting && pace.second <= tokio::time::Instant::now() {
                    pace = Pace::new(); // the rest waited in the kernel's queue
                }
            }
        }
    }
}

async fn next(socket: &tokio::net::UnixDatagram, buffer: &mut [u8]) -> io::Result<Received> {
    let receive = || datagram::receive(socket.as_fd(), buffer);
    socket.async_io(Interest::READABLE, receive).await
}

struct Reader {
    child: ChildId,
    generation: Generation,
    kin: Kin,
    tell: Tell,
    watchdog: Watchdog,
    extend: Box<dyn Fn(Duration) + Send>,
    /// Each cause is said once per generation and user, and counted in [`Tell`] always.
    said: HashSet<(Ignored, u32)>,
    /// Said once, too.
    flooded: bool,
    buffer: Vec<u8>,
}

impl Reader {
    fn new(life: Life) -> Self {
        Self {
            child: life.child,
            generation: life.generation,
            kin: life.kin,
            tell: life.tell,
            watchdog: Watchdog::new(life.watchdog),
            extend: life.extend,
            said: HashSet::new(),
            flooded: false,
            buffer: vec![0; limits::NOTIFY_MAX],
        }
    }

    /// Takes what waits in the socket, at the most what a second may bring: a sign of life that
    /// was sent in time must not be missed because we were late, or stopped, ourselves.
    fn catch_up(&mut self, socket: &tokio::net::UnixDatagram) {
        for _ in 0..limits::NOTIFY_PER_SECOND {
            match datagram::receive(socket.as_fd(), &mut self.buffer) {
                Ok(received) => self.take(received),
                Err(_) => return, // there is none; a fault is met by whoever reads next
            }
        }
    }

    fn check_silence(&mut self) {
        if let Some(silence) = self.watchdog.silent(Instant::now()) {
            self.say(What::Watchdog { silence: Some(silence) });
        }
    }

    fn take(&mut self, received: Received) {
        let at_ns = now_ns();
        let Received {
            length,
            cut,
            sender,
            identity,
            mut descriptors,
        } = received;
        let sender = sender.unwrap_or(Sender { pid: 0, uid: u32::MAX });
        let judged = if cut {
            Err(Ignored::TooLong)
        } else {
            self.kin.judge(sender, &identity)
        };
        if let Err(why) = judged {
            drop(descriptors); // before anybody hears of it
            return self.ignore(sender, why);
        }
        let mut message = Message::parse(&self.buffer[..length]);
        // One descriptor belongs to a barrier; all others end here.
        let barrier = (message.barrier && descriptors.len() == 1)
            .then(|| descriptors.pop().map(Barrier))
            .flatten();
        drop(descriptors);
        if message.main_pid.is_some_and(|pid| !self.kin.has(pid)) {
            message.main_pid = None;
        }
        let asks_for_help = self.watchdog.hear(Instant::now(), &message);
        if let Some(by) = message.extend_timeout {
            (self.extend)(by);
        }
        if !message.is_empty() {
            self.say(What::Notified {
                from: sender.pid,
                message,
                at_ns,
                barrier,
            });
        }
        if asks_for_help {
            self.say(What::Watchdog { silence: None });
        }
    }

    fn ignore(&mut self, sender: Sender, why: Ignored) {
        self.tell.count_ignored();
        // A cap, as an attacker may have many users.
        if self.said.len() < 64 && self.said.insert((why, sender.uid)) {
            self.say(What::NotifyIgnored {
                pid: sender.pid,
                uid: sender.uid,
                why,
            });
        }
    }

    fn flooded(&mut self) {
        self.tell.count_flood();
        if !std::mem::replace(&mut self.flooded, true) {
            self.say(What::NotifyFlooded);
        }
    }

    fn say(&self, what: What) {
        self.tell.tell(Happening {
            child: self.child,
            generation: self.generation,
            what,
        });
    }
}

/// CLOCK_MONOTONIC, in nanoseconds: comparable between processes.
#[must_use]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::{env, fs};

    fn left_in(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    fn place() -> PathBuf {
        let name: u64 = getrandom::u64().unwrap();
        let place = env::temp_dir().join(format!("t{name:x}"));
        fs::create_dir(&place).unwrap();
        place
    }

    #[test]
    fn the_directory_is_0711_the_socket_0666_and_both_go_with_it() {
        let place = place();
        let socket = NotifySocket::new_in(std::slice::from_ref(&place)).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(socket.path()), 0o666);
        assert_eq!(mode(socket.path().parent().unwrap()), 0o711);
        drop(socket);
        assert_eq!(left_in(&place), 0);
        fs::remove_dir(place).unwrap();
    }

    #[test]
    fn a_place_that_is_too_long_missing_or_open_to_renames_is_passed_over() {
        let (place, open) = (place(), place());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let long = place.join("x".repeat(80));
        fs::create_dir(&long).unwrap();
        let places = [long.clone(), "/no/such/place".into(), open.clone()];
        assert!(matches!(NotifySocket::new_in(&places), Err(NotifyError::NoPlace { tried, .. }) if tried == places));
        assert_eq!((left_in(&long), left_in(&open)), (0, 0));
        let socket = NotifySocket::new_in(&[long, place.clone()]).unwrap();
        assert!(socket.path().starts_with(&place));
        drop(socket);
        fs::remove_dir_all(place).unwrap();
        fs::remove_dir(open).unwrap();
    }

    #[test]
    fn what_took_the_place_of_our_socket_or_directory_is_not_removed() {
        let place = place();
        let victim = place.join("victim");
        fs::write(&victim, "kept").unwrap();
        let socket = NotifySocket::new_in(std::slice::from_ref(&place)).unwrap();
        let path = socket.path().to_owned();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        drop(socket);
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");

        let socket = NotifySocket::new_in(std::slice::from_ref(&place)).unwrap();
        let ours = socket.path().parent().unwrap().to_owned();
        fs::rename(&ours, place.join("moved")).unwrap();
        fs::create_dir(&ours).unwrap();
        let other = fs::metadata(&ours).unwrap().ino();
        drop(socket);
        assert_eq!(fs::metadata(&ours).unwrap().ino(), other);
        fs::remove_dir_all(place).unwrap();
    }
}
