//! Wakes when a socket file comes, goes or changes: inotify on its directory.
//!
//! Only wakes; what the file is worth is for [`super::listen`] to find out.
//! Events of other files in the directory are read and passed over, one buffer
//! of 4 KiB at a time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use greenroom_core::limits;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// inotify on the directory of a socket file.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Begins to watch the directory of `path`, which must be there.
    pub(super) fn on_directory_of(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ATTRIB // servers often chmod between bind and listen
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, directory, events)?;
        Ok(Self { inotify: register(fd)? })
    }

    /// Ends at the next event for `name`; with an error when the directory is gone.
    pub(super) async fn changed(&mut self, name: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|fd| read_events(fd.get_ref(), name)) {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// Reads the events that are there, one buffer of them: whether one was for `name`.
fn read_events(fd: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let mut room = [MaybeUninit::uninit(); 4 * limits::KIB];
    let mut events = inotify::Reader::new(fd, &mut room);
    let mut ours = false;
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) if ours => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let gone = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if event.events().intersects(gone) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let named = event.file_name().is_some_and(|file| file.to_bytes() == name);
        ours |= named || event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        if events.is_buffer_empty() {
            return Ok(ours);
        }
    }
}

/// Lets the runtime wait for the descriptor.
#[allow(unsafe_code)]
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as
    // it lives; it is moved into the `AsyncFd`, and nobody takes it out again.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
