//! Which sockets belong to a child: those open in any process of its family.
//!
//! The family is all that is below the child's warden (`supervise::warden`): the
//! child, its descendants, and what left it (a daemon forks twice). Nothing of an
//! earlier life or of another child is below it. For a child without a warden, one
//! of our very own, it is the child, its descendants, and what was handed to us, the
//! subreaper, and was not started before the child.
//!
//! Read from `/proc`; its size is bounded by the machine's process table. A
//! process that may not be looked into (another user, without CAP_SYS_PTRACE)
//! makes the answer incomplete, and [`Sockets::complete`] says so.

use std::collections::HashSet;
use std::fs;
use std::io;

/// The sockets of a family, by inode.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Inodes of all of its sockets.
    pub(super) inodes: HashSet<u64>,
    /// False when a process could not be looked into, or `/proc` is not there.
    pub(super) complete: bool,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// In clock ticks since boot.
    started: u64,
}

/// The sockets of the family of `child`.
pub(super) fn sockets_of(child: u32) -> Sockets {
    let Ok(all) = processes() else {
        return Sockets::default();
    };
    let mut sockets = Sockets {
        complete: true,
        ..Sockets::default()
    };
    for pid in family(child, std::process::id(), &all) {
        match inodes_of(pid) {
            Ok(inodes) => sockets.inodes.extend(inodes),
            Err(error) if is_gone(&error) => {}
            Err(_) => sockets.complete = false,
        }
    }
    sockets
}

/// The sockets that one process has open.
pub(super) fn inodes_of(pid: u32) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = fs::read_link(entry?.path()) else {
            continue;
        }; // closed meanwhile
        let inode = link
            .to_str()
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|text| text.parse::<u64>().ok()));
    }
    Ok(inodes)
}

/// The process ended while it was looked at.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn processes() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        }; // ended meanwhile
        all.extend(read_stat(pid, &String::from_utf8_lossy(&stat)));
    }
    if all.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "/proc shows no processes"));
    }
    Ok(all)
}

fn read_stat(pid: u32, stat: &str) -> Option<Process> {
    // The second field is a name in parentheses that may hold anything, parentheses too.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, parent, started })
}

/// The pids of the family of `child`, when `own` is greenroom's.
fn family(child: u32, own: u32, all: &[Process]) -> Vec<u32> {
    let Some(root) = all.iter().find(|process| process.pid == child) else {
        return Vec::new();
    };
    let warden = all
        .iter()
        .find(|process| process.pid == root.parent && process.parent == own && root.parent != own);
    let adopted = |p: &&Process| match warden {
        Some(warden) => p.parent == warden.pid && p.pid != child,
        None => p.parent == own && p.started >= root.started && p.pid != child,
    };
    let mut pids = vec![child];
    pids.extend(all.iter().filter(adopted).map(|process| process.pid));
    let mut next = 0;
    while let Some(&parent) = pids.get(next) {
        next += 1;
        for process in all {
            if process.parent == parent && process.pid != own && !pids.contains(&process.pid) {
                pids.push(process.pid);
            }
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, started: u64) -> Process {
        Process { pid, parent, started }
    }

    #[test]
    fn the_family_is_the_child_its_descendants_and_what_left_it() {
        let all = [
            process(1, 0, 0),
            process(10, 1, 5),   // greenroom
            process(20, 10, 50), // the child
            process(22, 21, 52),
            process(21, 20, 51),
            process(30, 10, 40), // left over from an earlier child
            process(31, 30, 60), // and its own
            process(40, 10, 53), // a daemon of this child
            process(41, 40, 54),
            process(50, 1, 55), // a stranger
        ];
        let mut pids = family(20, 10, &all);
        pids.sort_unstable();
        assert_eq!(pids, [20, 21, 22, 40, 41]);
        assert!(family(99, 10, &all).is_empty(), "a child that ended has no family");
    }

    #[test]
    fn with_a_warden_the_family_is_below_it_and_no_other_childs_is_in_it() {
        let all = [
            process(10, 1, 5),   // greenroom
            process(19, 10, 49), // the warden
            process(20, 19, 50), // the child
            process(21, 20, 51),
            process(22, 19, 52), // a daemon of this child
            process(23, 22, 53),
            process(29, 10, 54), // the warden of another child, started later
            process(30, 29, 55), // and that one
            process(31, 29, 56), // and a daemon of it
            process(40, 10, 57), // what a killed warden left to us
        ];
        let mut pids = family(20, 10, &all);
        pids.sort_unstable();
        assert_eq!(pids, [20, 21, 22, 23]);
    }

    #[test]
    fn greenroom_as_pid_1_is_not_its_own_family() {
        let all = [process(1, 0, 0), process(7, 1, 3), process(8, 7, 4)];
        assert_eq!(family(7, 1, &all), [7, 8]);
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_over() {
        let stat = "42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2 3";
        assert_eq!(read_stat(42, stat), Some(process(42, 7, 12345)));
        assert_eq!(read_stat(42, "42 (x) S 7"), None);
        assert_eq!(read_stat(42, ""), None);
    }

    #[test]
    fn own_sockets_are_seen_in_proc() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        assert!(inodes_of(std::process::id()).unwrap().contains(&inode));
    }
}
