//! Reads the process table: who is whose parent, and who is still the same.
//!
//! A pid alone names nobody for long, as numbers are used again. A [`Process`]
//! is a pid *and* its start time, which together name one process as long as
//! the machine is up. Bounded by the kernel's own process limit: a walk reads
//! `/proc` once and keeps 32 bytes per process. With a `/proc` mounted with
//! `hidepid`, processes of other users are not seen.

use std::collections::HashMap;
use std::{fs, io};

use rustix::process::Pid;

/// One line of the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// Ended, and not yet waited for.
    pub ended: bool,
}

impl Process {
    /// Reads `/proc/PID/stat`; `None` when there is no such process (any more).
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        // A name that is no UTF-8 must not hide its process.
        let stat =
            stat.or_else(|| Some(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?).into_owned()))?;
        Self::parse(pid, &stat)
    }

    /// The name (field 2) may hold anything, blanks and parentheses included:
    /// everything after the *last* closing one is ours.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let start = fields.nth(15)?.parse().ok()?; // field 22; 6 is the last one read
        Some(Self {
            pid,
            parent,
            group,
            session,
            start,
            ended: matches!(state, "Z" | "X"),
        })
    }

    /// Whether this process is still there, and no other has its number.
    #[must_use]
    pub fn is_same(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start)
    }

    /// Its number as the kernel's interfaces want it.
    #[must_use]
    pub fn id(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

/// All processes that can be seen.
///
/// # Errors
/// When there is no `/proc`.
pub fn all() -> io::Result<Vec<Process>> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Process::read).collect())
}

/// The descendants of `root`, without it, and without those that `spared` names and
/// theirs. Those that ended but were not waited for are left out; their children are in.
#[must_use]
pub fn descendants(root: i32, spared: impl Fn(&Process) -> bool) -> Vec<Process> {
    family(&all().unwrap_or_default(), root, spared)
}

fn family(all: &[Process], root: i32, spared: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(parent) = next.pop() {
        // Taking the list out makes an endless walk impossible, whatever a torn reading shows.
        for process in children.remove(&parent).unwrap_or_default() {
            if !spared(process) {
                next.push(process.pid);
                found.extend((!process.ended).then_some(*process));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) S 1 (b)) R 5 7 3 34816 7 4194304 1 0 0 0 2 3 0 0 20 0 1 0 987 1 1";
        let found = Process::parse(7, stat);
        assert_eq!(
            found,
            Some(Process {
                pid: 7,
                parent: 5,
                group: 7,
                session: 3,
                start: 987,
                ended: false
            })
        );
        assert_eq!(Process::parse(7, "7 (a) Z"), None);
        assert_eq!(Process::parse(7, ""), None);
    }

    #[test]
    fn this_process_is_found_and_is_the_same() {
        let us = Process::read(std::process::id().cast_signed()).unwrap();
        assert!(us.is_same());
        assert!(
            !Process {
                start: us.start + 1,
                ..us
            }
            .is_same()
        );
        assert!(all().unwrap().iter().any(|process| process.pid == us.pid));
    }

    #[test]
    fn a_family_holds_all_generations_but_not_the_spared_or_the_ended() {
        let process = |pid, parent, ended| Process {
            pid,
            parent,
            group: pid,
            session: 1,
            start: 9,
            ended,
        };
        let all = [
            process(2, 1, false),
            process(3, 2, true),
            process(4, 3, false),
            process(5, 1, false),
            process(6, 5, false),
        ];
        let family = family(&all, 1, |process| (process.pid, process.start) == (5, 9));
        assert_eq!(family.iter().map(|p| p.pid).collect::<Vec<_>>(), [2, 4]);
    }
}
