//! `listen`: whether somebody listens at an address, without a connection.
//!
//! The kernel's table decides. Where only a child's own listener counts, the
//! processes of its family are searched for the socket, once: while the same
//! socket stays there, so does its owner. What could not be told for sure is
//! looked at again each [`limits::PROBE_EVERY`], not at each look.
//!
//! For a Unix socket inotify on its directory wakes the look; a file that is
//! there but that nobody listens on (left by a crash, or bound too early) counts
//! for nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use greenroom_core::limits;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::dial::Resolver;
use super::directory::Watch;
use super::family::{Sockets, inodes_of, sockets_of};
use super::sock_diag::UnixListener;
use super::table::Table;
use super::{Note, Of, Why};
use crate::config::Address;

/// The probe `listen`.
#[derive(Debug)]
pub(super) struct Listen {
    place: Place,
    of: Of,
    table: Table,
    owner: Option<Owner>,
    owners_unknown: Said,
    /// Looks in a row that found no listener.
    misses: u32,
}

#[derive(Debug)]
enum Place {
    Tcp(Resolver),
    Unix {
        path: PathBuf,
        watch: Option<Watch>,
        listening: Option<Listening>,
    },
}

/// What is known of the socket that was there at the last look.
#[derive(Clone, Copy, Debug)]
struct Owner {
    child: u32,
    inode: u64,
    ours: bool,
    /// Whether it stays so while child and socket are the same.
    sure: bool,
    at: Instant,
}

/// Whether a note was made, and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    No,
    Due,
    Done,
}

impl Listen {
    pub(super) fn new(address: &Address, of: Of) -> Self {
        Self::with_table(address, of, Table::open())
    }

    fn with_table(address: &Address, of: Of, table: Table) -> Self {
        let place = match address {
            Address::Unix(path) => Place::Unix {
                path: path.clone(),
                watch: None,
                listening: None,
            },
            Address::Tcp { .. } => Place::Tcp(Resolver::new(address)),
        };
        Self {
            place,
            of,
            table,
            owner: None,
            owners_unknown: Said::No,
            misses: 0,
        }
    }

    pub(super) fn is_of_child(&self) -> bool {
        matches!(self.of, Of::Children(_))
    }

    pub(super) fn take_note(&mut self) -> Option<Note> {
        if let Some(why) = self.table.take_fallback() {
            return Some(Note::NoSockDiag(why));
        }
        if self.owners_unknown == Said::Due {
            self.owners_unknown = Said::Done;
            return Some(Note::OwnersUnknown);
        }
        None
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let child = match &self.of {
            Of::Anyone => None,
            Of::Children(pid) => match pid.load(Ordering::Acquire) {
                0 => return Err(Why::NoChild),
                pid => Some(pid),
            },
        };
        // The socket that a connection would reach, and all others that could be meant.
        let (first, all) = match &mut self.place {
            Place::Tcp(resolver) => {
                let targets: Vec<SocketAddr> = resolver.addresses().await?.iter().copied().map(reachable).collect();
                tcp_listener(&mut self.table, &targets, &mut self.misses)?
            }
            Place::Unix { path, watch, listening } => {
                if watch.is_none() {
                    *watch = Watch::on_directory_of(path).ok(); // none while the directory is not there
                }
                unix_listener(&mut self.table, path, listening)?
            }
        };
        match child {
            None => Ok(()),
            Some(child) if self.owns(child, first, &all).await => Ok(()),
            Some(_) => Err(Why::NotOurs),
        }
    }

    /// Whether the socket `first`, or at least one of `all`, is open in the child's family.
    async fn owns(&mut self, child: u32, first: u64, all: &All) -> bool {
        if let Some(known) = self.owner
            && (known.child, known.inode) == (child, first)
            && (known.sure || known.at.elapsed() < limits::PROBE_EVERY)
        {
            return known.ours;
        }
        let at = Instant::now();
        let (ours, sure) = if inodes_of(child).is_ok_and(|inodes| inodes.contains(&first)) {
            (true, true)
        } else {
            // Reads the whole process table: not on the threads that move messages.
            let family = tokio::task::spawn_blocking(move || sockets_of(child));
            let family = family.await.unwrap_or_default();
            self.decide(&family, first, all)
        };
        self.owner = Some(Owner {
            child,
            inode: first,
            ours,
            sure,
            at,
        });
        ours
    }

    /// Whether the socket is the family's, and whether that is sure to stay.
    fn decide(&mut self, family: &Sockets, first: u64, all: &All) -> (bool, bool) {
        if family.inodes.contains(&first) {
            return (true, true);
        }
        if !family.complete {
            // Better a listener that may be another's (the canary will show it) than never ready.
            if self.owners_unknown == Said::No {
                self.owners_unknown = Said::Due;
            }
            return (true, false);
        }
        // Several may share the place (SO_REUSEPORT).
        let others = match all {
            All::These(inodes) => inodes.clone(),
            All::At(targets) => listeners_at(&mut self.table, targets).unwrap_or_default(),
        };
        (others.iter().any(|inode| family.inodes.contains(inode)), false)
    }

    /// Ends when the socket file came, went or changed. Without a watch, never.
    pub(super) async fn woken(&mut self) {
        let Place::Unix { path, watch, .. } = &mut self.place else {
            return std::future::pending().await;
        };
        let Some(watching) = watch else {
            return std::future::pending().await;
        };
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        if watching.changed(name).await.is_err() {
            *watch = None; // the directory went; the next look watches the new one
        }
    }
}

/// All listeners that a connection to the place may reach.
enum All {
    These(Vec<u64>),
    /// Not asked yet: the listeners at these addresses.
    At(Vec<SocketAddr>),
}

/// Where a connection to this address really goes: to an unspecified one, to loopback.
fn reachable(target: SocketAddr) -> SocketAddr {
    let ip = match target.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, target.port())
}

fn tcp_listener(table: &mut Table, targets: &[SocketAddr], misses: &mut u32) -> Result<(u64, All), Why> {
    let failed = |error: io::Error| Why::Failed(error.kind());
    for &target in targets {
        if let Some(found) = table.reached(target).map_err(failed)? {
            *misses = 0;
            return Ok((found.inode, All::At(targets.to_vec())));
        }
    }
    *misses = misses.wrapping_add(1);
    if misses.is_multiple_of(limits::WHOLE_TABLE_EACH) {
        let all = listeners_at(table, targets).map_err(failed)?;
        if let Some(&first) = all.first() {
            return Ok((first, All::These(all)));
        }
    }
    Err(Why::NobodyListens)
}

fn listeners_at(table: &mut Table, targets: &[SocketAddr]) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for &target in targets {
        let listeners = table.tcp(target.port())?;
        inodes.extend(listeners.iter().filter(|l| l.takes(target)).map(|l| l.inode));
    }
    Ok(inodes)
}

/// The Unix socket that the table showed to listen, and its file. It listens
/// until it is closed: while somebody has a stream socket on the very same file,
/// it is this one.
#[derive(Debug)]
struct Listening {
    inode: u64,
    /// Inode, device and time of change: inode numbers come back soon.
    file: (u64, u64, i64, i64),
}

fn unix_listener(table: &mut Table, path: &Path, listening: &mut Option<Listening>) -> Result<(u64, All), Why> {
    let known = listening.take();
    let file = match path.metadata() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Why::NoSocketFile),
        Err(error) => return Err(Why::Failed(error.kind())),
    };
    if !file.file_type().is_socket() {
        return Err(Why::NotASocket);
    }
    // The table of Unix sockets is read as a whole: milliseconds when there are 10,000. So it is
    // read only where the answer may have changed.
    let number = (file.ino(), file.dev(), file.ctime(), file.ctime_nsec());
    match (knock(path), known) {
        (Knock::Nobody, _) => return Err(Why::NobodyListens),
        (Knock::Stream, Some(known)) if known.file == number => {
            let inode = known.inode;
            *listening = Some(known);
            return Ok((inode, All::These(vec![inode])));
        }
        (Knock::Stream | Knock::Unclear, _) => {}
    }
    let listeners = table.unix().map_err(|error| Why::Failed(error.kind()))?;
    let here = listeners.iter().filter(|l| is_at(l, path, file.ino(), file.dev()));
    let inodes: Vec<u64> = here.map(|l| l.inode).collect();
    let inode = inodes.first().copied().ok_or(Why::NobodyListens)?;
    *listening = Some(Listening { inode, file: number });
    Ok((inode, All::These(inodes)))
}

/// What is behind a socket file.
#[derive(Debug, PartialEq, Eq)]
enum Knock {
    /// No open socket: nobody can be listening.
    Nobody,
    /// A socket for streams; whether it listens is not known.
    Stream,
    /// Cannot be told.
    Unclear,
}

/// Asks with a datagram socket, which no stream server can take: the kernel finds
/// the socket behind the file and says that it is of another type. No connection is made.
fn knock(path: &Path) -> Knock {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None) else {
        return Knock::Unclear;
    };
    match SocketAddrUnix::new(path).and_then(|address| rustix::net::connect(&socket, &address)) {
        Err(Errno::CONNREFUSED) => Knock::Nobody,
        Err(Errno::PROTOTYPE) => Knock::Stream,
        Ok(()) | Err(_) => Knock::Unclear,
    }
}

/// Whether a listener's socket file is the one at `path`, whose inode and device these are.
///
/// The file decides: an old server may still listen on a socket of this name
/// whose file is gone. Only where the numbers cannot be compared (no numbers, or
/// a file system that shows other devices to programs) the name does.
fn is_at(listener: &UnixListener, path: &Path, inode: u64, device: u64) -> bool {
    let kernel_device = (rustix::fs::major(device) << 20) | rustix::fs::minor(device);
    match listener.file {
        Some((ino, dev)) if dev == kernel_device => u64::from(ino) == inode & u64::from(u32::MAX),
        Some(_) | None => listener.path.as_deref() == Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_sock_diag_proc_decides_and_it_is_said_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let table = Table::fallen_back(io::ErrorKind::PermissionDenied.into());
        let mut listen = Listen::with_table(&address, Of::Anyone, table);
        assert_eq!(listen.look().await, Ok(()));
        assert!(matches!(listen.take_note(), Some(Note::NoSockDiag(_))) && listen.take_note().is_none());
        drop(listener);
        assert_eq!(listen.look().await, Err(Why::NobodyListens));
    }

    #[test]
    fn an_incomplete_search_believes_the_listener_and_says_so_once() {
        let address = "127.0.0.1:1".parse().unwrap();
        let mut listen = Listen::new(&address, Of::Anyone);
        let (hidden, all) = (Sockets::default(), All::These(vec![5]));
        assert_eq!(listen.decide(&hidden, 5, &all), (true, false));
        assert_eq!(listen.decide(&hidden, 5, &all), (true, false));
        assert!(matches!(listen.take_note(), Some(Note::OwnersUnknown)) && listen.take_note().is_none());
        let seen = Sockets {
            inodes: [6].into(),
            complete: true,
        };
        assert_eq!(listen.decide(&seen, 5, &all), (false, false));
        assert_eq!(listen.decide(&seen, 6, &all), (true, true));
        let shared = All::These(vec![5, 6]);
        assert_eq!(
            listen.decide(&seen, 5, &shared),
            (true, false),
            "one of two at a shared port"
        );
    }

    #[test]
    fn the_file_decides_over_the_name() {
        let listener = |file| UnixListener {
            path: Some("/run/a.sock".into()),
            file,
            inode: 1,
        };
        let at = Path::new("/run/a.sock");
        let device = rustix::fs::makedev(8, 1);
        assert!(is_at(
            &listener(Some((7, 8 << 20 | 1))),
            Path::new("/other/name"),
            7,
            device
        ));
        assert!(
            !is_at(&listener(Some((8, 8 << 20 | 1))), at, 7, device),
            "a file of the same name that is gone"
        );
        assert!(
            is_at(&listener(Some((8, 99))), at, 7, device),
            "devices that cannot be compared"
        );
        assert!(is_at(&listener(None), at, 7, device));
        assert!(!is_at(&listener(None), Path::new("/other"), 7, device));
    }
}
