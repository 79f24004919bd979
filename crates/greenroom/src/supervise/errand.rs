//! Commands of a moment, which `exec` checks start: waited for by exactly one.
//!
//! The supervisor's thread waits for *all* children of this process, and would take the end
//! of a command from whoever asked for it; without a supervisor nobody else waits. So there is one
//! table of commands under one lock, and nobody waits without it: the supervisor, coming
//! first, writes the end into it ([`note_end`]); the [`Errand`] itself waits for its own number
//! only, and reads the table when that is gone. It works as the first process of a
//! container as well, and beside children that a program around us has of its own.
//!
//! *Starting* happens without the lock, as an exec on a dead file system may take for ever and the
//! supervisor must not wait for it: ends that the supervisor meets meanwhile are kept for the
//! commands that are being started.
//!
//! *A group of its own* is killed as a whole when the command ends, when its time is over, and
//! when the errand is dropped; what has left the group stays. Its number is safe while the
//! command is not waited for. Where the supervisor came first, it kills the group with the same lock still held.
//!
//! Bounds: one per check. A command outlives a greenroom that is killed with KILL until its own end.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_core::limits;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::command::is_withheld;
use super::reap::{self, End};

/// All of this process: waiting for children is a matter of the whole process.
static TABLE: Mutex<Table> = Mutex::new(Table {
    closed: false,
    starting: 0,
    early: Vec::new(),
    running: None,
});

struct Table {
    /// greenroom ends: whatever is started now is killed at once.
    closed: bool,
    /// Commands that are being started.
    starting: usize,
    /// Ends of children that nobody knew while one was being started.
    early: Vec<(i32, End)>,
    /// The started ones, and how those ended that the supervisor has waited for.
    running: Option<HashMap<i32, Option<End>>>,
}

impl Table {
    fn running(&mut self) -> &mut HashMap<i32, Option<End>> {
        self.running.get_or_insert_default()
    }
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for children with `wait`, which says whose end it met, and keeps the end if it is a command's.
pub(super) fn wait_with<T>(wait: impl FnOnce() -> (T, Option<(Pid, End)>)) -> (T, bool) {
    let mut table = table();
    let (news, ended) = wait();
    let Some((pid, end)) = ended else { return (news, false) };
    let number = pid.as_raw_nonzero().get();
    if let Some(there) = table.running().get_mut(&number) {
        *there = Some(end);
        // Its last members, if any, keep the number taken; nobody else can have got it since.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        return (news, true);
    }
    if table.starting > 0 && table.early.len() < limits::EARLY_ENDS_MAX {
        table.early.push((number, end));
    }
    (news, false)
}

/// Whether this is the number of a command that was started and not given up.
pub(super) fn is_one(pid: i32) -> bool {
    table().running().contains_key(&pid)
}

/// Kills all, for good: greenroom ends, and nobody may be left to drop them.
pub(crate) fn end_all() {
    let mut table = table();
    table.closed = true;
    let running = table.running().iter().filter(|(_, end)| end.is_none());
    // Not waited for, so the numbers are their own.
    for pid in running.filter_map(|(&number, _)| Pid::from_raw(number)) {
        kill(pid);
    }
}

/// A command and its group, which it may have left.
fn kill(pid: Pid) {
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

/// A command that runs. Dropped, it is killed with its group.
#[derive(Debug)]
pub(crate) struct Errand {
    pid: Pid,
    /// Its end makes this readable; `None` where there are no pidfds.
    pidfd: Option<AsyncFd<OwnedFd>>,
    over: bool,
}

/// A command that was started, on its way to the event loop.
pub(crate) struct Started(Errand, Option<OwnedFd>);

impl Errand {
    /// Starts a command, without input and output, with our environment less what is meant
    /// for greenroom alone. Blocks until exec has succeeded or failed.
    ///
    /// # Errors
    /// When it could not be started.
    pub(crate) fn start(command: &[std::ffi::OsString]) -> io::Result<Started> {
        let (program, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(args).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Taken out one by one: with a whole new environment, or with anything between fork and exec, the
        // library forks and so copies our page tables at each look, and waits for a failed exec itself.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_withheld(name)) {
            command.env_remove(name);
        }
        table().starting += 1;
        let spawned = command.spawn();
        let mut table = table();
        table.starting -= 1;
        let early = if table.starting == 0 {
            std::mem::take(&mut table.early)
        } else {
            table.early.clone()
        };
        let pid = Pid::from_child(&spawned?);
        let number = pid.as_raw_nonzero().get();
        let ended = early.iter().rev().find(|(pid, _)| *pid == number).map(|(_, end)| *end);
        table.early.retain(|(pid, _)| *pid != number);
        table.running().insert(number, ended);
        if table.closed && ended.is_none() {
            kill(pid);
        }
        let pidfd = match ended {
            Some(_) => {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                None
            }
            // Nobody has waited for it, and nobody does while we hold the lock: it is the right one.
            None => rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)
                .or_else(|_| rustix::process::pidfd_open(pid, PidfdFlags::empty())) // before Linux 5.10
                .ok(),
        };
        let errand = Self {
            pid,
            pidfd: None,
            over: false,
        };
        Ok(Started(errand, pidfd))
    }

    /// Waits for its end, and kills what is left of its group.
    ///
    /// # Errors
    /// When somebody else has waited for it, who is none of ours.
    pub(crate) async fn ended(&mut self) -> io::Result<End> {
        loop {
            if let Some(end) = take_end(self.pid)? {
                self.over = true;
                if !collect_group(self.pid) {
                    tokio::spawn(collect_group_in_time(self.pid)); // the verdict does not wait for it
                }
                return Ok(end);
            }
            wait_for(self.pidfd.as_ref()).await;
        }
    }
}

impl Started {
    /// To be waited for. Within a tokio runtime.
    #[allow(unsafe_code)]
    pub(crate) fn errand(self) -> Errand {
        let Self(mut errand, pidfd) = self;
        errand.pidfd = pidfd.and_then(|pidfd| {
            // SAFETY: an `OwnedFd` is open and the same descriptor until it is dropped, which the `AsyncFd` that owns it does.
            unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.ok()
        });
        errand
    }
}

async fn wait_for(pidfd: Option<&AsyncFd<OwnedFd>>) {
    match pidfd {
        Some(pidfd) => {
            // It stays readable once the end is there, and then is not asked again.
            let _ = pidfd.readable().await.map(|mut guard| guard.clear_ready());
        }
        None => tokio::time::sleep(limits::SWEEP_EVERY).await,
    }
}

/// How it ended, if it has; then its number is free.
fn take_end(pid: Pid) -> io::Result<Option<End>> {
    let number = pid.as_raw_nonzero().get();
    let mut table = table();
    match table.running().get(&number) {
        Some(None) => {}
        Some(&Some(end)) => {
            table.running().remove(&number);
            return Ok(Some(end));
        }
        None => return Err(io::ErrorKind::NotFound.into()),
    }
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::Pid(pid), look) {
        Ok(None) | Err(Errno::INTR) => return Ok(None),
        Ok(Some(_)) => {}
        Err(error) => {
            table.running().remove(&number);
            return Err(error.into()); // ECHILD: SIGCHLD is ignored, and the kernel has thrown the end away
        }
    }
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let waited = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    table.running().remove(&number);
    let end = waited?
        .and_then(|(_, status)| reap::end_of(status))
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(Some(end))
}

/// Waits for those of a killed group that came to us, as they do to the first process of a container and to
/// a supervisor, which may be quicker. True when there are none left: who ends has left his own children to us before.
fn collect_group(group: Pid) -> bool {
    let mut table = table();
    if table.running().contains_key(&group.as_raw_nonzero().get()) {
        return true; // the number is another command's already, so the group is gone
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        match rustix::process::waitid(WaitId::Pgid(Some(group)), options) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true, // ECHILD
        }
    }
}

async fn collect_group_in_time(group: Pid) {
    let until = tokio::time::Instant::now() + limits::SWEEP_MAX;
    while !collect_group(group) && tokio::time::Instant::now() < until {
        tokio::time::sleep(limits::SWEEP_EVERY).await;
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        {
            let mut table = table();
            if let Some(None) = table.running().get(&self.pid.as_raw_nonzero().get()) {
                kill(self.pid); // not waited for, so both numbers are its own
            }
        }
        let (pid, pidfd) = (self.pid, self.pidfd.take());
        let collect = async move {
            while let Ok(None) = take_end(pid) {
                wait_for(pidfd.as_ref()).await;
            }
            collect_group_in_time(pid).await;
        };
        // Without a runtime the process is ending, and its children go to another's care.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(collect);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::time::Duration;

    fn shell(script: &str) -> Vec<OsString> {
        ["/bin/sh", "-c", script].map(OsString::from).to_vec()
    }

    async fn run(script: &str) -> End {
        Errand::start(&shell(script)).unwrap().errand().ended().await.unwrap()
    }

    #[tokio::test]
    async fn an_end_is_told_as_it_was() {
        assert_eq!(run("exit 0").await, End::Exited(0));
        assert_eq!(run("exit 7").await, End::Exited(7));
        assert_eq!(run("kill -KILL $$").await, End::Signalled(9));
        let missing = Errand::start(&[OsString::from("/no/such/program")]).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    /// Waits as the supervisor does, for one child.
    fn steal(pid: Pid) -> bool {
        let waited = || match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => (true, reap::end_of(status).map(|end| (pid, end))),
            Ok(None) | Err(_) => (false, None),
        };
        wait_with(waited).0
    }

    #[tokio::test]
    async fn an_end_that_the_supervisor_met_first_is_not_lost() {
        let mut errand = Errand::start(&shell("exit 3")).unwrap().errand();
        while !steal(errand.pid) {
            tokio::task::yield_now().await;
        }
        assert_eq!(errand.ended().await.unwrap(), End::Exited(3));
        assert!(!is_one(errand.pid.as_raw_nonzero().get()));
    }

    #[tokio::test]
    async fn a_dropped_one_is_killed_with_its_group_and_waited_for() {
        let folder = std::env::temp_dir().join(format!("greenroom-errand-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fifo = folder.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Both hold the fifo open for writing: its end is theirs.
        let script = format!("exec 9>{}; sleep 1000 & echo >&9; wait", fifo.display());
        let errand = Errand::start(&shell(&script)).unwrap().errand();
        let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let pid = errand.pid.as_raw_nonzero().get();
        let story = async {
            use tokio::io::AsyncReadExt;
            // The end of a fifo that nobody has opened yet reads as an end, too.
            let mut byte = [0];
            while reader.read(&mut byte).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
            drop(errand);
            while reader.read(&mut byte).await.unwrap() > 0 {}
            while is_one(pid) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), story).await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
