//! What the machine did beside each part of a measurement: who else used its processors, and whether it stood still.
//!
//! Of the time of all processors, what was idle and what this program and all that it started have used is taken off; the rest is of
//! others: other programs, the kernel on nobody's behalf, and the host of a virtual machine. Stalls are found as `greenroom audit` finds
//! them. Each part is tried at most twice, and is bounded by what it does.

use std::process::Command;
use std::time::{Duration, Instant};

use greenroom_audit::audit::report::Machine;
use greenroom_audit::audit::stall::StallWatch;
use greenroom_audit::clock;

use super::data::{Part, What};
use super::origin::shown;
use super::rounded;
use crate::{Failure, process};

/// How long a quiet machine is waited for: what has just been built is still being written, for example.
const SETTLE: Duration = Duration::from_secs(60);
/// One look at who uses the processors, and how many of these in a row must be quiet.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 3;
/// Quiet is below this, in percent of all processors.
pub(crate) const QUIET: f64 = 10.0;
/// How often a part is tried.
const TRIES: u32 = 2;

/// What a part tells of itself while it is measured.
#[derive(Default)]
pub(crate) struct Note {
    commands: Vec<String>,
    /// When it measured; the whole of it where nothing is given.
    windows: Vec<(u64, u64)>,
}

impl Note {
    /// It runs this.
    pub(crate) fn runs(&mut self, command: &Command) {
        let shown = shown(command);
        if !self.commands.contains(&shown) {
            self.commands.push(shown);
        }
    }

    pub(crate) fn measured(&mut self, from: u64, to: u64) {
        self.windows.push((from, to));
    }
}

/// Watches the machine until it is dropped.
pub(crate) struct Watch {
    stalls: StallWatch,
    parts: Vec<Part>,
    _runtime: tokio::runtime::Runtime,
}

impl Watch {
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()?;
        let entered = runtime.enter();
        let stalls = StallWatch::start();
        drop(entered);
        Ok(Self {
            stalls,
            parts: Vec::new(),
            _runtime: runtime,
        })
    }

    pub(crate) fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Measures a part; once again where that fails, which is told.
    pub(crate) fn part<T>(
        &mut self,
        what: What,
        mut work: impl FnMut(&mut Note) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        for attempt in 1.. {
            eprintln!("evidence: {}", what.name());
            let (mut note, load, began) = (Note::default(), Machine::here().load, Usage::now()?);
            match work(&mut note) {
                Ok(done) => {
                    self.parts.push(self.seen(what, note, load, &began, attempt)?);
                    return Ok(done);
                }
                Err(error) if attempt == TRIES => return Err(format!("{}: {error}", what.name()).into()),
                Err(error) => eprintln!("evidence: {}: {error}; once more", what.name()),
            }
        }
        Err("nothing was tried".into())
    }

    fn seen(&self, what: What, note: Note, load: String, began: &Usage, tries: u32) -> Result<Part, Failure> {
        let ended = Usage::now()?;
        let windows = match note.windows.as_slice() {
            [] => vec![(began.at, ended.at)],
            windows => windows.to_vec(),
        };
        let within = |from: u64, to: u64| windows.iter().any(|window| from < window.1 && window.0 < to);
        let stalls = self.stalls.since(began.at);
        let stalls = stalls.iter().filter(|stall| within(stall.from, stall.to));
        let long: Vec<u64> = stalls.map(|stall| stall.to.saturating_sub(stall.from)).collect();
        #[allow(clippy::cast_precision_loss)]
        let longest = long.iter().copied().max().unwrap_or(0) as f64 / 1e6;
        Ok(Part {
            what,
            commands: note.commands,
            took_s: rounded(clock::between(began.at, ended.at).as_secs_f64()),
            load,
            load_after: Machine::here().load,
            others_percent: rounded(began.others(&ended)),
            stalls: long.len() as u64,
            longest_stall_ms: rounded(longest),
            tries,
        })
    }
}

/// Waits until the machine is quiet; what others still used, in percent of all processors, where it never is.
pub(crate) fn settle() -> Result<Option<f64>, Failure> {
    let deadline = Instant::now() + SETTLE;
    let mut quiet = 0;
    loop {
        let before = Usage::now()?;
        std::thread::sleep(LOOK);
        let others = before.others(&Usage::now()?);
        quiet = if others < QUIET { quiet + 1 } else { 0 };
        if quiet == LOOKS {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(others));
        }
    }
}

/// CPU seconds up to a moment.
struct Usage {
    at: u64,
    /// Of this program, and of all that it started and that has ended.
    ours: f64,
    idle: f64,
    processors: usize,
}

impl Usage {
    fn now() -> Result<Self, Failure> {
        let (idle, processors) = process::idle()?;
        Ok(Self {
            at: clock::now(),
            ours: process::cpu_of_all()?,
            idle,
            processors,
        })
    }

    /// What others used up to `later`, in percent of all processors.
    #[allow(clippy::cast_precision_loss)]
    fn others(&self, later: &Self) -> f64 {
        let wall = clock::between(self.at, later.at).as_secs_f64() * self.processors.max(1) as f64;
        let others = wall - (later.idle - self.idle) - (later.ours - self.ours);
        (others / wall * 100.0).clamp(0.0, 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_and_its_children_used_is_not_of_others() {
        let usage = |at, ours, idle| Usage {
            at,
            ours,
            idle,
            processors: 2,
        };
        let before = usage(0, 1.0, 10.0);
        let others = |later: &Usage| before.others(later);
        // Of two processors for a second: one second ours, half a one idle, half a one of others.
        assert!((others(&usage(1_000_000_000, 2.0, 10.5)) - 25.0).abs() < 1e-9);
        assert!(
            others(&usage(1_000_000_000, 2.0, 11.1)) <= 0.0,
            "the kernel counts in steps"
        );
        let of_children = || process::cpu_of_all().unwrap() - process::cpu(std::process::id()).unwrap();
        let used = of_children();
        let mut child = Command::new("sh");
        child.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"]);
        assert!(child.status().unwrap().success());
        assert!(of_children() > used + 0.015, "a child that has ended counts");
    }

    #[test]
    fn a_part_is_tried_twice_and_has_its_commands_and_its_stalls() {
        let mut watch = Watch::start().unwrap();
        let mut left = 1;
        let done = watch.part(What::Gate, |note| {
            note.runs(&Command::new("/bin/true"));
            note.runs(&Command::new("/bin/true"));
            left -= 1;
            if left == 0 { Err("not yet".into()) } else { Ok(7) }
        });
        assert_eq!(done.unwrap(), 7);
        let failed = watch.part(What::Away, |_| Err::<(), _>("never".into()));
        assert_eq!(failed.unwrap_err().to_string(), format!("{}: never", What::Away.name()));
        let parts = watch.into_parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(
            (parts[0].tries, parts[0].commands.as_slice()),
            (2, &["true".to_owned()][..])
        );
    }
}
