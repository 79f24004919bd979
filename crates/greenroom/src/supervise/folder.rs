//! The folder of a notify socket: made, removed, and removed for those who died.
//!
//! ```text
//!  /run/greenroom-notify-<128 random bits>/   0711: can be passed, not listed
//!      notify                                 0666: the child may have changed its user
//! ```
//!
//! *Whose it is* shows a lock: the maker holds an exclusive `flock` on the folder
//! itself from before it gets its mode 0711 until it removes it. The kernel drops
//! the lock with its holder, however that ends. So a folder of this name, of our
//! own user, with mode 0711 and *without* a lock was left by somebody who is dead,
//! and [`remove_stale`] may take it away. A folder that is just being made has mode
//! 0700 and is let alone. Nobody of another user can hold the lock (0711 lets them
//! not open it) nor make such a folder in our name; nothing is followed through a
//! symlink, and every name is compared with what was opened before it is removed.
//!
//! Bounded: [`limits::STALE_LOOKS_MAX`] names are looked at in each place.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use greenroom_core::limits;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};

/// The name of the socket within its folder.
pub(super) const SOCKET: &str = "notify";
/// What each folder's name begins with; 32 hexadecimal digits follow. Whoever makes
/// folders of this name locks them: one that did not would be taken for dead.
const PREFIX: &str = "greenroom-notify-";
/// The mode of a folder that is locked.
const MADE: u32 = 0o711;
const OPEN: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Device and inode: what a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u64, pub(super) u64);

impl Identity {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn of(stat: &Stat) -> Self {
        Self(stat.st_dev as u64, stat.st_ino as u64)
    }
}

/// A locked folder of our own.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    parent: OwnedFd,
    /// Holds the lock.
    own: OwnedFd,
}

impl Folder {
    /// Makes `name` in `place`, if that is no place where others could rename what is ours.
    pub(super) fn new(place: &Path, name: &str) -> io::Result<Self> {
        let parent = open_place(place)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
        let own = rustix::fs::openat(&parent, name, OPEN | OFlags::NOFOLLOW, Mode::empty())?;
        let path = place.join(name);
        let made = Self { path, parent, own }; // from here on drop tidies up
        rustix::fs::flock(&made.own, FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::fchmod(&made.own, Mode::from_raw_mode(MADE))?;
        Ok(made)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What `name` in it stands for.
    pub(super) fn identity(&self, name: &str) -> io::Result<Identity> {
        let stat = rustix::fs::statat(&self.own, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Identity::of(&stat))
    }

    pub(super) fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        rustix::fs::chmodat(&self.own, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok(())
    }

    /// What the folder itself is, for whoever removes it in our stead.
    pub(super) fn own_identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&rustix::fs::fstat(&self.own)?))
    }

    /// Removes the socket in it, if it is still the one that was made.
    pub(super) fn remove_socket(&self, made: Identity) {
        remove_socket(&self.own, Some(made));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(name) = self.path.file_name() {
            remove_folder(&self.parent, name, &self.own);
        }
    }
}

/// Removes the folder at `path` and the socket in it, when the one who made them
/// is gone: what `path` names must be what he made.
pub(super) fn remove_of_dead(path: &Path, made: Identity) {
    let (Some(place), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let Ok(parent) = open_place(place) else { return };
    let Ok(own) = rustix::fs::openat(&parent, name, OPEN | OFlags::NOFOLLOW, Mode::empty()) else {
        return;
    };
    if rustix::fs::fstat(&own).is_ok_and(|now| Identity::of(&now) == made) {
        remove_socket(&own, None);
        remove_folder(&parent, name, &own);
    }
}

/// Removes what greenrooms that were killed have left in `places`; says how many.
pub(super) fn remove_stale(places: &[PathBuf]) -> usize {
    places.iter().map(|place| remove_stale_in(place).unwrap_or(0)).sum()
}

fn remove_stale_in(place: &Path) -> io::Result<usize> {
    let parent = open_place(place)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(place)?.take(limits::STALE_LOOKS_MAX) {
        let Ok(entry) = entry else { break };
        let name = entry.file_name();
        removed += usize::from(is_our_name(&name) && remove_if_stale(&parent, &name).unwrap_or(false));
    }
    Ok(removed)
}

fn is_our_name(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.iter().all(|d| d.is_ascii_hexdigit() && !d.is_ascii_uppercase())
    })
}

/// Whether it was stale, and is gone now.
fn remove_if_stale(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let own = rustix::fs::openat(parent, name, OPEN | OFlags::NOFOLLOW, Mode::empty())?;
    let stat = rustix::fs::fstat(&own)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o7777 != MADE {
        return Ok(false); // another's, or just being made
    }
    rustix::fs::flock(&own, FlockOperation::NonBlockingLockExclusive)?; // refused: its maker lives
    remove_socket(&own, None);
    Ok(remove_folder(parent, name, &own))
}

/// Removes the socket in the folder `own`; anything else of that name stays.
fn remove_socket(own: &OwnedFd, made: Option<Identity>) {
    let is_it = rustix::fs::statat(own, SOCKET, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|now| {
        FileType::from_raw_mode(now.st_mode) == FileType::Socket && made.is_none_or(|made| Identity::of(&now) == made)
    });
    if is_it {
        let _ = rustix::fs::unlinkat(own, SOCKET, AtFlags::empty());
    }
}

/// Removes the folder `own` by its `name`, if the name still means it and it is empty.
fn remove_folder(parent: &OwnedFd, name: &OsStr, own: &OwnedFd) -> bool {
    let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let same = match (named, rustix::fs::fstat(own)) {
        (Ok(now), Ok(made)) => Identity::of(&now) == Identity::of(&made),
        (Err(_), _) | (_, Err(_)) => false,
    };
    // Fails, as it should, when somebody has put something into it.
    same && rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok()
}

fn open_place(place: &Path) -> io::Result<OwnedFd> {
    let parent = rustix::fs::openat(CWD, place, OPEN, Mode::empty())?;
    let about = rustix::fs::fstat(parent.as_fd())?;
    if about.st_mode & 0o1002 == 0o002 {
        return Err(io::ErrorKind::PermissionDenied.into()); // anyone could rename what is ours
    }
    Ok(parent)
}

/// A name that nobody can guess.
pub(super) fn random_name() -> Result<String, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(format!("{PREFIX}{:032x}", u128::from_ne_bytes(bits)))
}

/// Where a folder may be made, best first. Root takes `/run` before its own
/// XDG_RUNTIME_DIR, which nobody else may pass: a child of root may change its user.
pub(super) fn places() -> Vec<PathBuf> {
    let of_user = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|place| place.is_absolute());
    let run = Some(PathBuf::from("/run"));
    let ordered = if rustix::process::geteuid().is_root() {
        [run, of_user]
    } else {
        [of_user, run]
    };
    let mut places: Vec<_> = ordered.into_iter().flatten().collect();
    for place in [env::temp_dir(), PathBuf::from("/tmp")] {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixDatagram;

    /// A place of the test's own.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let place = env::temp_dir().join(format!("t{:x}", getrandom::u64().unwrap()));
            fs::create_dir(&place).unwrap();
            Self(place)
        }

        /// What a killed greenroom leaves: the lock goes with its descriptor, the names stay.
        fn left_behind(&self) -> PathBuf {
            let path = self.0.join(random_name().unwrap());
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(MADE)).unwrap();
            drop(UnixDatagram::bind(path.join(SOCKET)).unwrap());
            path
        }

        fn sweep(&self) -> usize {
            remove_stale(std::slice::from_ref(&self.0))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_a_dead_greenroom_left_is_removed_and_what_a_living_one_holds_is_not() {
        let place = Place::new();
        let living = Folder::new(&place.0, &random_name().unwrap()).unwrap();
        let dead = place.left_behind();
        assert_eq!(place.sweep(), 1);
        assert!(living.path().exists() && !dead.exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists(), "its own end removes it");
    }

    #[test]
    fn a_folder_that_is_just_being_made_or_of_another_name_or_mode_stays() {
        let place = Place::new();
        let stays = [
            (random_name().unwrap(), 0o700),
            (PREFIX.to_owned(), MADE),
            (format!("greenroom-{}", "0".repeat(32)), MADE),
            (format!("{PREFIX}{}", "A".repeat(32)), MADE),
            (format!("{PREFIX}{}", "0".repeat(33)), MADE),
        ];
        for (name, mode) in &stays {
            fs::create_dir(place.0.join(name)).unwrap();
            fs::set_permissions(place.0.join(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        assert_eq!(place.sweep(), 0);
        assert!(stays.iter().all(|(name, _)| place.0.join(name).exists()));
    }

    #[test]
    fn nothing_is_followed_or_removed_that_no_greenroom_made() {
        let place = Place::new();
        let victim = place.0.join("victim");
        fs::create_dir(&victim).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(MADE)).unwrap();
        fs::write(victim.join(SOCKET), "kept").unwrap();
        symlink(&victim, place.0.join(random_name().unwrap())).unwrap();
        let with_file = place.left_behind();
        fs::remove_file(with_file.join(SOCKET)).unwrap();
        symlink(victim.join(SOCKET), with_file.join(SOCKET)).unwrap();
        assert_eq!(place.sweep(), 0);
        assert_eq!(fs::read_to_string(victim.join(SOCKET)).unwrap(), "kept");
        assert!(fs::symlink_metadata(with_file.join(SOCKET)).unwrap().is_symlink());
    }

    #[test]
    fn a_place_that_is_open_to_renames_is_not_swept() {
        let place = Place::new();
        let dead = place.left_behind();
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(place.sweep(), 0);
        assert!(dead.exists());
    }

    #[test]
    fn the_names_that_are_looked_at_are_bounded() {
        let place = Place::new();
        for n in 0..=limits::STALE_LOOKS_MAX {
            fs::write(place.0.join(n.to_string()), "").unwrap();
        }
        place.left_behind();
        assert!(place.sweep() <= 1, "it ends, and may have missed the one");
    }

    #[test]
    fn the_folder_of_a_dead_one_is_removed_by_what_it_was_and_not_by_its_name() {
        let place = Place::new();
        let path = place.left_behind();
        let made = Identity::of(&rustix::fs::stat(&path).unwrap());
        remove_of_dead(&path, Identity(made.0, made.1 + 1));
        assert!(path.exists(), "another folder took the name");
        remove_of_dead(&path, made);
        assert!(!path.exists());
    }
}
