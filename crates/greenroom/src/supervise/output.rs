//! Passes a child's stdout and stderr on, and looks through them on the way.
//!
//! ```text
//!  child ──▶ pipe, or terminal ──▶ reader (a task) ──▶ [at most OUTPUT_AHEAD] ──▶ writer (a thread) ──▶ our own
//!                                    └──▶ `lines`                                   one for each of the two
//! ```
//!
//! Only for a child of which something is looked for in its output; any other has our
//! own stdout and stderr. Byte for byte, as soon as it is read. Where our own two are
//! the same thing (`2>&1`, a terminal), so are the child's, and their order stays.
//!
//! *Who does not read.* What was read is looked through before it is passed on. A
//! reader of ours that stands still keeps only the writer waiting, until
//! [`limits::OUTPUT_AHEAD`] bytes are under way; then the child waits for him, later
//! than it would without us. A reader that is gone (EPIPE), or a full disk, loses the
//! piece, and neither ends greenroom nor hides the output from the look.
//!
//! *At a terminal* the child gets one too, so that it writes as for a person: of the
//! same size, and with everything switched off that would change a byte on its way, as
//! our own terminal does all that. It is for output only: stdin, Ctrl-C, Ctrl-Z and who
//! is in the foreground stay with our own terminal, which stays the controlling one. A
//! new size is passed on, and the child told once more ([`Screen`]). The one thing that
//! it cannot do through this is to set our terminal's modes by its *stdout*.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use greenroom_core::limits;
use regex::Regex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::account::Account;
use super::lines::Lines;
use super::spawn::with_ttou_blocked;

/// One of our own two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Stdout,
    Stderr,
}

impl Own {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }
}

/// A terminal that stands for one of ours.
#[derive(Debug)]
pub(super) struct Screen {
    /// The side that we hold.
    ours: OwnedFd,
    stands_for: Own,
}

impl Screen {
    /// Gives it the size of ours. True if it had another.
    pub(super) fn take_size(&self) -> bool {
        let (Ok(size), Ok(before)) = (tcgetwinsize(self.stands_for.fd()), tcgetwinsize(&self.ours)) else {
            return false;
        };
        let is_other = (size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel)
            != (before.ws_row, before.ws_col, before.ws_xpixel, before.ws_ypixel);
        is_other && tcsetwinsize(&self.ours, size).is_ok()
    }
}

/// What is read for one life, before anything is.
#[derive(Debug)]
pub(super) struct Output {
    streams: Vec<(OwnedFd, Own)>,
    screens: Vec<Screen>,
}

impl Output {
    /// Also gives the child's two ends. They are `account`'s, who may want to open them anew (`/dev/stdout`).
    pub(super) fn new(account: Option<&Account>) -> io::Result<(Self, [OwnedFd; 2])> {
        let mut output = Self {
            streams: Vec::new(),
            screens: Vec::new(),
        };
        let stdout = output.stream(Own::Stdout, account)?;
        let stderr = match are_the_same() {
            true => stdout.try_clone()?,
            false => output.stream(Own::Stderr, account)?,
        };
        Ok((output, [stdout, stderr]))
    }

    /// Gives the child's end.
    fn stream(&mut self, own: Own, account: Option<&Account>) -> io::Result<OwnedFd> {
        let (ours, theirs) = if isatty(own.fd()) {
            let (ours, theirs) = terminal(own.fd())?;
            let screen = Screen {
                ours: ours.try_clone()?,
                stands_for: own,
            };
            screen.take_size();
            self.screens.push(screen);
            (ours, theirs)
        } else {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?
        };
        rustix::io::ioctl_fionbio(&ours, true)?;
        if let Some(account) = account {
            let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
            let _ = rustix::fs::fchown(&theirs, Some(uid), Some(gid)); // refused: we are not root, nor is it another user
        }
        self.streams.push((ours, own));
        Ok(theirs)
    }

    /// Begins to read; gives the screens. `found` hears of each pattern once, with its line.
    pub(super) fn pass_on(
        self,
        runtime: &Handle,
        outlets: &Arc<Outlets>,
        patterns: &[Regex],
        found: impl Fn(usize, String) + Send + Sync + 'static,
    ) -> Vec<Screen> {
        let found = Arc::new(Once::new(patterns.len(), found));
        for (source, own) in self.streams {
            let (outlet, lines, found) = (outlets.of(own), Lines::new(patterns), Arc::clone(&found));
            let reading = outlets.reading();
            runtime.spawn(async move {
                read(source, &outlet, lines, &found).await;
                drop(reading);
            });
        }
        self.screens
    }
}

/// Tells each number once, whichever stream it is found in.
struct Once<F> {
    seen: Mutex<Vec<bool>>,
    tell: F,
}

impl<F: Fn(usize, String)> Once<F> {
    fn new(count: usize, tell: F) -> Self {
        Self {
            seen: Mutex::new(vec![false; count]),
            tell,
        }
    }

    fn tell(&self, number: usize, line: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(number).filter(|seen| !**seen) {
            *seen = true;
            (self.tell)(number, line);
        }
    }
}

/// Whether our stdout and stderr are one and the same file, pipe or terminal.
fn are_the_same() -> bool {
    match (rustix::fs::fstat(Own::Stdout.fd()), rustix::fs::fstat(Own::Stderr.fd())) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino, a.st_rdev) == (b.st_dev, b.st_ino, b.st_rdev),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// A terminal with the modes of `like`, but for all that changes bytes. Our side and theirs.
fn terminal(like: BorrowedFd<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let name = OsStr::from_bytes(name.as_bytes());
    let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = tcgetattr(like)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    Ok((ours, theirs))
}

/// Reads to the end: of a pipe 0, of a terminal EIO, when nobody holds the other side any more.
async fn read<F: Fn(usize, String)>(source: OwnedFd, outlet: &Outlet, mut lines: Lines, found: &Once<F>) {
    // Fails only when the runtime is shutting down.
    let Ok(mut source) = pipe::Receiver::from_owned_fd_unchecked(source) else {
        return;
    };
    let ahead = Arc::new(Semaphore::new(limits::OUTPUT_AHEAD));
    let mut buffer = vec![0; limits::OUTPUT_PIECE];
    let mut tell = |number, line| found.tell(number, line);
    loop {
        let most = u32::try_from(limits::OUTPUT_PIECE).unwrap_or(u32::MAX);
        let Ok(mut room) = Arc::clone(&ahead).acquire_many_owned(most).await else {
            return; // never closed
        };
        let length = match source.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        lines.take(&buffer[..length], &mut tell);
        // A piece costs more than its bytes.
        drop(room.split(limits::OUTPUT_PIECE - length.max(limits::OUTPUT_PIECE_LEAST)));
        outlet.put(Piece::Bytes(buffer[..length].into(), room));
    }
    lines.end(&mut tell);
}

/// What the writers are given.
enum Piece {
    /// To be written; the room that it takes until it is.
    Bytes(Box<[u8]>, OwnedSemaphorePermit),
    /// Answered when all before it is written.
    Mark(oneshot::Sender<()>),
}

/// The way to one of our own two.
#[derive(Clone, Debug)]
struct Outlet(mpsc::Sender<Piece>);

impl Outlet {
    fn new(own: Own) -> Self {
        let (pieces, taken) = mpsc::channel();
        let thread = std::thread::Builder::new().name("output".into());
        // No thread for it: what is put in is lost, as its other end is gone, and the child goes on.
        let _ = thread.spawn(move || with_ttou_blocked(|| write(own.fd(), &taken)));
        Self(pieces)
    }

    fn put(&self, piece: Piece) {
        let _ = self.0.send(piece);
    }
}

/// Both ways, each made when it is first needed, and who still reads for them.
#[derive(Debug)]
pub(super) struct Outlets {
    made: Mutex<[Option<Outlet>; 2]>,
    readers: watch::Sender<usize>,
}

/// One who reads; dropped when it is over.
struct Reading(Arc<Outlets>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.send_modify(|readers| *readers -= 1);
    }
}

impl Outlets {
    pub(super) fn new() -> Self {
        Self {
            made: Mutex::default(),
            readers: watch::Sender::new(0),
        }
    }

    fn of(&self, own: Own) -> Outlet {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let [stdout, stderr] = &mut *made;
        let outlet = match own {
            Own::Stdout => stdout,
            Own::Stderr => stderr,
        };
        outlet.get_or_insert_with(|| Outlet::new(own)).clone()
    }

    fn reading(self: &Arc<Self>) -> Reading {
        self.readers.send_modify(|readers| *readers += 1);
        Reading(Arc::clone(self))
    }

    /// Waits until all output of children that are gone is written, for `longest` at the most.
    /// True if it is.
    pub(super) async fn flush(&self, longest: Duration) -> bool {
        let mut readers = self.readers.subscribe();
        let all = async {
            let _ = readers.wait_for(|readers| *readers == 0).await; // fails never: the sender is ours
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for outlet in made.into_iter().flatten() {
                let (mark, written) = oneshot::channel();
                outlet.put(Piece::Mark(mark));
                let _ = written.await; // its thread could not be started: nothing waits
            }
        };
        tokio::time::timeout(longest, all).await.is_ok()
    }
}

/// Writes piece after piece.
fn write(own: BorrowedFd<'_>, pieces: &mpsc::Receiver<Piece>) {
    while let Ok(piece) = pieces.recv() {
        match piece {
            Piece::Bytes(bytes, _room) => write_all(own, &bytes),
            Piece::Mark(mark) => drop(mark.send(())),
        }
    }
}

/// Writes all, or what can be: a reader that is gone or a full disk loses the rest.
fn write_all(own: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(own, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody who shares it with us has made it so.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(own.as_fd(), PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_all_written_only_when_nobody_reads_any_more() {
        let outlets = Arc::new(Outlets::new());
        let short = Duration::from_millis(10);
        assert!(outlets.flush(short).await, "nobody ever wrote");
        let reading = outlets.reading();
        assert!(!outlets.flush(short).await, "more may come");
        drop(reading);
        assert!(outlets.flush(Duration::from_secs(10)).await);
    }
}
