//! Processes that are not the test's own children: found by a mark in their environment.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The variable that marks a program and all that it starts. Its name must not begin with
/// `GREENROOM_`: such are not handed on to the child.
pub const MARK: &str = "MARK_OF_A_TEST";

/// A value for [`MARK`] that no other test has.
pub fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The living processes with this mark; what has ended and is not waited for does not live.
pub fn marked(mark: &str) -> Vec<(u32, String)> {
    let wanted = format!("{MARK}={mark}");
    pids()
        .into_iter()
        .filter(|pid| environment(*pid).contains(&wanted))
        .map(|pid| (pid, command_line(pid)))
        .collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The living wardens of this greenroom. They carry no mark, as they carry no environment.
pub fn wardens(greenroom: u32) -> Vec<u32> {
    let is_its = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent.is_some_and(|parent| parent == greenroom.to_string()) && command_line(*pid) == "room-warden"
    };
    pids().into_iter().filter(is_its).collect()
}

/// Whether this process lives, and has been waited for if not.
pub fn is_there(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// The environment with which a process was started; empty when it has ended.
pub fn environment(pid: u32) -> Vec<String> {
    words(&format!("/proc/{pid}/environ"))
}

fn command_line(pid: u32) -> String {
    words(&format!("/proc/{pid}/cmdline")).join(" ")
}

fn words(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Looks until it is so; panics with `what` at the deadline.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Removes the folder of a process that has ended. A helper of it that is just ending may still write there once.
pub fn remove_folder(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir_all(folder).is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
}
