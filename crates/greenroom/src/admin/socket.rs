//! The admin socket: where it is, whose it is, and how it is found.
//!
//! ```text
//!  $XDG_RUNTIME_DIR/greenroom/  ─┐
//!  /run/greenroom/ (root)        ├─ PID.sock, mode 0600; the folder 0700 and of our own user
//!  /tmp/greenroom-UID/          ─┘
//! ```
//!
//! A socket whose process is gone was left by a greenroom that was killed; the next one takes
//! it away. Nothing is followed through a symlink, and a folder of another user is not used.
//! Bounded: `STALE_LOOKS_MAX` names are looked at.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{env, fs};

use greenroom_core::limits::STALE_LOOKS_MAX;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A socket of our own, bound; removed when dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: another's that took its name is not removed.
    made: (u64, u64),
}

impl Socket {
    /// At a path of the user's. What is left there of a greenroom that was killed is replaced; what answers is not.
    pub fn at(path: &Path) -> io::Result<Self> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket {
            match knock(path) {
                Err(Errno::CONNREFUSED) => fs::remove_file(path)?,
                Err(Errno::NOENT) => {} // it went just now
                Ok(()) | Err(Errno::AGAIN) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "somebody answers there already; is another greenroom running?",
                    ));
                }
                // A socket of another kind, or of somebody who does not let us in: theirs.
                Err(error) => {
                    let error = io::Error::from(error);
                    return Err(io::Error::new(
                        error.kind(),
                        format!("there is a socket that greenroom has not made ({error}); say another place"),
                    ));
                }
            }
        }
        Self::bind(path)
    }

    /// In the runtime folder, under our process number.
    pub fn in_runtime_folder() -> io::Result<Self> {
        let folder = runtime_folder();
        make_folder(&folder)?;
        for (pid, path) in sockets(&folder) {
            if !is_alive(pid) || pid == std::process::id() {
                let _ = fs::remove_file(path); // whoever was faster has done it
            }
        }
        Self::bind(&folder.join(format!("{}.sock", std::process::id())))
    }

    fn bind(path: &Path) -> io::Result<Self> {
        // Nobody of another user could come in before the mode is set: the umask is narrowed for the bind.
        // There is one thread that binds sockets of files while greenroom starts.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            made: (file.dev(), file.ino()),
        })
    }

    /// The listener, once more.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.made);
        if is_ours {
            let _ = fs::remove_file(&self.path); // somebody was faster
        }
    }
}

/// Where the sockets of this user's greenrooms are.
#[must_use]
pub fn runtime_folder() -> PathBuf {
    folder_of(env::var_os("XDG_RUNTIME_DIR"), rustix::process::geteuid().as_raw())
}

fn folder_of(xdg: Option<OsString>, uid: u32) -> PathBuf {
    match xdg
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.is_dir())
    {
        Some(path) => path.join("greenroom"),
        None if uid == 0 => "/run/greenroom".into(),
        None => env::temp_dir().join(format!("greenroom-{uid}")),
    }
}

/// Makes the folder, or sees that the one there is ours and nobody else's to write to.
fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    if is_our_own(&fs::symlink_metadata(folder)?) {
        return Ok(());
    }
    let path = folder.display();
    let message = format!("{path} is no folder of our own that only we can write to; say where with admin.socket");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Whether it is a folder of our user, to which nobody else can write.
fn is_our_own(folder: &fs::Metadata) -> bool {
    folder.is_dir() && folder.uid() == rustix::process::geteuid().as_raw() && folder.mode() & 0o022 == 0
}

/// Whether somebody listens at a socket, without ever waiting: who listens may be too busy to take anybody (`AGAIN`).
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// The sockets in a folder, with the process that made each.
fn sockets(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let one = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
        Some((pid, path))
    };
    entries.take(STALE_LOOKS_MAX).filter_map(one).collect()
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    match pid.map(rustix::process::test_kill_process) {
        None | Some(Err(rustix::io::Errno::SRCH)) => false,
        Some(Ok(()) | Err(_)) => true, // it is there, if not ours
    }
}

/// The sockets of this user's greenrooms that run.
#[must_use]
pub fn running() -> Vec<PathBuf> {
    running_in(&runtime_folder())
}

/// In a folder that somebody else has made, such as one in `/tmp` under our name, is nothing that we speak to.
fn running_in(folder: &Path) -> Vec<PathBuf> {
    if !fs::symlink_metadata(folder).is_ok_and(|folder| is_our_own(&folder)) {
        return Vec::new();
    }
    let mut all = sockets(folder);
    // The number of one that was killed may be another process's by now.
    all.retain(|(pid, path)| is_alive(*pid) && matches!(knock(path), Ok(()) | Err(Errno::AGAIN)));
    all.sort_unstable();
    all.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> PathBuf {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let place = env::temp_dir().join(format!("greenroom-admin-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&place).unwrap();
        place
    }

    #[test]
    fn a_socket_is_its_makers_alone_and_gone_with_it() {
        let place = place();
        let path = place.join("admin.sock");
        let socket = Socket::at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let error = Socket::at(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(socket);
        assert!(!path.exists());
        fs::remove_dir(place).unwrap();
    }

    #[test]
    fn what_a_killed_greenroom_left_is_replaced_and_what_is_no_socket_is_not() {
        let place = place();
        let path = place.join("admin.sock");
        drop(UnixListener::bind(&path).unwrap()); // the file stays, and nobody answers
        drop(Socket::at(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(Socket::at(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_is_no_stream_socket_of_ours_is_kept_and_who_is_too_busy_answers() {
        let place = place();
        let path = place.join("notify");
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(Socket::at(&path).is_err(), "systemd's, say");
        assert!(path.exists());

        let path = place.join("busy");
        let flags = SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _waits = std::os::unix::net::UnixStream::connect(&path).unwrap(); // one has room, whatever was said
        let error = Socket::at(&path).unwrap_err(); // and does not wait for ever
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert!(path.exists());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn only_who_answers_in_a_folder_of_our_own_is_running() {
        let place = place();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        let path = place.join(format!("{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
        drop(UnixListener::bind(place.join(format!("{parent}.sock"))).unwrap()); // killed, and its number given anew
        assert_eq!(running_in(&place), [path]);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            running_in(&place),
            [""; 0].map(PathBuf::from),
            "anybody could have put it there"
        );
        drop(listener);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn one_that_took_the_name_meanwhile_is_not_removed() {
        let place = place();
        let path = place.join("admin.sock");
        let socket = Socket::at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn the_folder_is_our_own_or_not_used() {
        assert_eq!(folder_of(None, 0), Path::new("/run/greenroom"));
        assert!(folder_of(None, 1000).ends_with("greenroom-1000"));
        assert_eq!(folder_of(Some("relative".into()), 0), Path::new("/run/greenroom"));
        let place = place();
        assert_eq!(folder_of(Some(place.clone().into()), 7), place.join("greenroom"));
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make_folder(&place).is_err(), "others could write to it");
        fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink("/", &place).unwrap();
        assert!(make_folder(&place).is_err(), "a link");
        fs::remove_file(&place).unwrap();
    }
}
