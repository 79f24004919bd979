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
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{env, fs};

use greenroom_core::limits::STALE_LOOKS_MAX;

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
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "somebody answers there already; is another greenroom running?",
                ));
            }
            fs::remove_file(path)?;
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
    let there = fs::symlink_metadata(folder)?;
    let ours = there.is_dir() && there.uid() == rustix::process::geteuid().as_raw() && there.mode() & 0o022 == 0;
    if ours {
        return Ok(());
    }
    let path = folder.display();
    let message = format!("{path} is no folder of our own that only we can write to; say where with admin.socket");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
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
    let mut all = sockets(&runtime_folder());
    all.retain(|&(pid, _)| is_alive(pid));
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
