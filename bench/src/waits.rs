//! From *ready* to *released*: what a way of waiting costs, for the same ready times.
//!
//! Two polls as they were in use before (`polls`), then greenroom: probing every
//! 100 ms, every 10 ms, and told. greenroom's part is the real program, one for
//! each ready time, with a backend that it started (`stub`) and one client that is
//! held. They run in batches (smaller ones of `listen`, which takes more CPU). A batch is
//! started whole, then each stub is told its moment, so that nothing starts or ends while
//! something is measured; the ways take turns, so that whatever else the machine does
//! meets all of them.
//!
//! Three things show whether the machine kept up: how late the stubs were woken
//! for their own moments, and the CPU that these processes and the machine used meanwhile.

use std::io::Write;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use greenroom_audit::clock;
use greenroom_core::drain::seed_for;
use greenroom_core::starts::nearest_rank;

use crate::frames::request;
use crate::polls::{self, Poll};
use crate::process::{Process, Stream, cpu, machine};
use crate::site::{PATIENCE, address, greenroom_command};
use crate::table::Budgets;
use crate::{Failure, Options};

/// Ready comes this long after the waiting began, in nanoseconds.
const READY_AFTER: std::ops::Range<u64> = 500_000_000..8_000_000_000;
/// From the last start of a batch to the moment from which its ready times count.
const RUN_UP: u64 = 300_000_000;

/// A way to wait.
#[derive(Clone, Copy, Debug)]
enum Way {
    Poll(Poll),
    /// greenroom with this `--ready`, and the stub that goes with it.
    Greenroom {
        ready: &'static str,
        by: &'static str,
        /// In how many parts a batch is run: what needs more CPU while it waits must not be its own load.
        parts: usize,
    },
}

/// A line of the table: its name, the way, and what is expected of it.
struct Line {
    name: &'static str,
    way: Way,
    /// Which figure is expected to be in `range`, in milliseconds.
    figure: fn(&Quantiles) -> f64,
    range: RangeInclusive<f64>,
    /// The same in words.
    expected: &'static str,
}

const LINES: [Line; 5] = [
    Line {
        name: "growing poll, 0.05 to 2 s",
        way: Way::Poll(Poll::Growing),
        figure: Quantiles::spread,
        range: 1_895.0..=2_095.0,
        expected: "max − min as the original's 1,995 ms (± 5 %)",
    },
    Line {
        name: "fixed poll, 0.1 s",
        way: Way::Poll(Poll::Fixed),
        figure: Quantiles::spread,
        range: 95.0..=105.0,
        expected: "max − min as the original's 100 ms (± 5 %)",
    },
    Line {
        name: "greenroom, http each 100 ms",
        way: Way::Greenroom {
            ready: "http:/ready",
            by: "http",
            parts: 1,
        },
        figure: |quantiles| quantiles.p99,
        range: 0.0..=101.0,
        expected: "p99 ≤ one interval + 1 ms",
    },
    Line {
        name: "greenroom, listen each 10 ms",
        way: Way::Greenroom {
            ready: "listen",
            by: "listen",
            parts: 2,
        },
        figure: |quantiles| quantiles.p99,
        range: 0.0..=11.0,
        expected: "p99 ≤ one interval + 1 ms",
    },
    Line {
        name: "greenroom, pushed (READY=1)",
        way: Way::Greenroom {
            ready: "notify",
            by: "notify",
            parts: 1,
        },
        figure: Quantiles::near_spread,
        range: 0.0..=1.0,
        expected: "p99 − min < 1 ms (an event in one process: 0.15)",
    },
];

/// What was measured of one way, in nanoseconds and CPU seconds.
#[derive(Default)]
pub(crate) struct Measured {
    /// From ready to released.
    pub(crate) delays: Vec<u64>,
    /// How late the machine woke who was to become ready.
    pub(crate) late: Vec<u64>,
    /// When that was measured: between these moments nobody was started or ended.
    pub(crate) windows: Vec<(u64, u64)>,
    wall: f64,
    ours: f64,
    machine: f64,
}

/// The table, and what holds.
pub(crate) fn run(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let times = ready_times(options.seed, options.waits);
    println!(
        "\nFrom ready to released: {} random ready times between 0.5 and 8 s, the same for all (--seed {}), \
         up to {} greenrooms at once",
        times.len(),
        options.seed,
        options.at_once
    );
    let mut measured: [Measured; LINES.len()] = Default::default();
    for (line, measured) in LINES.iter().zip(&mut measured) {
        if let Way::Poll(poll) = line.way {
            measured.poll(poll, &times)?;
        }
    }
    for times in times.chunks(usize::from(options.at_once)) {
        for (line, measured) in LINES.iter().zip(&mut measured) {
            if let Way::Greenroom { ready, by, parts } = line.way {
                for times in times.chunks(times.len().div_ceil(parts)) {
                    measured.batch(&options.greenroom, ready, by, times)?;
                }
            }
        }
    }
    print(measured, budgets)
}

/// greenroom with this `--ready` and the stub that goes with it, once for each of `times`, so many at once.
pub(crate) fn held(program: &Path, ready: &str, by: &str, times: &[u64], at_once: usize) -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    for times in times.chunks(at_once) {
        measured.batch(program, ready, by, times)?;
    }
    Ok(measured)
}

/// A greenroom whose backend becomes ready in one of the ways.
pub(crate) fn command(program: &Path, ready: &str, by: &str) -> Result<Command, Failure> {
    greenroom_command(program, ready, &["stub".to_owned(), "--by".into(), by.into()], &[])
}

/// The ready times, in nanoseconds from the begin of the waiting.
pub(crate) fn ready_times(seed: u64, count: u16) -> Vec<u64> {
    let span = READY_AFTER.end - READY_AFTER.start;
    let time = |number| READY_AFTER.start + seed_for(seed, number) % span;
    (0..u64::from(count)).map(time).collect()
}

impl Measured {
    fn poll(&mut self, poll: Poll, times: &[u64]) -> Result<(), Failure> {
        let meter = Meter::start(vec![std::process::id()])?;
        let waited = polls::run(poll, times)?;
        meter.stop(self)?;
        self.delays = waited.delays;
        self.late = waited.late;
        Ok(())
    }

    fn batch(&mut self, program: &Path, ready: &str, by: &str, times: &[u64]) -> Result<(), Failure> {
        let mut waits = Batch(Vec::with_capacity(times.len()));
        for _ in times {
            waits.0.push(Wait::start(program, ready, by)?);
        }
        let meter = Meter::start(waits.0.iter().flat_map(Wait::pids).collect())?;
        let start = clock::now() + RUN_UP;
        for (wait, after) in waits.0.iter_mut().zip(times) {
            wait.greenroom.tell(&(start + after).to_string())?;
        }
        for wait in &waits.0 {
            let (delay, late) = wait.released()?;
            self.delays.push(delay);
            self.late.push(late);
        }
        meter.stop(self)
    }
}

/// What runs at once.
struct Batch(Vec<Wait>);

impl Drop for Batch {
    /// A stub ends with its client and greenroom with its stub. So all clients go first, and
    /// who has to be stopped after a failure is stopped beside the others.
    fn drop(&mut self) {
        let greenrooms: Vec<Process> = self.0.drain(..).map(|wait| wait.greenroom).collect();
        std::thread::scope(|scope| {
            for greenroom in greenrooms {
                scope.spawn(move || drop(greenroom));
            }
        });
    }
}

/// One greenroom, its backend, and a client that is held.
struct Wait {
    greenroom: Process,
    stub: u32,
    /// The client, and when its head was sent.
    _client: TcpStream,
    sent: u64,
}

impl Wait {
    fn start(program: &Path, ready: &str, by: &str) -> Result<Self, Failure> {
        let greenroom = Process::start("greenroom", command(program, ready, by)?)?;
        let address = address(&greenroom.event(Stream::Err, "listening", PATIENCE)?)?;
        let begun = greenroom.event(Stream::Out, "begun", PATIENCE)?;
        let stub = begun["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let mut client = TcpStream::connect(address)?;
        client.write_all(&request(&address.to_string()))?;
        Ok(Self {
            greenroom,
            stub: stub.ok_or_else(|| format!("no pid in {begun}"))?,
            _client: client,
            sent: clock::now(),
        })
    }

    fn pids(&self) -> [u32; 2] {
        [self.greenroom.id(), self.stub]
    }

    /// From ready to released, and how late ready itself came.
    fn released(&self) -> Result<(u64, u64), Failure> {
        let stub = self.greenroom.event(Stream::Out, "stub", PATIENCE)?;
        let moment = |name: &str| stub[name].as_u64().ok_or_else(|| format!("no {name} in {stub}"));
        let (planned, ready, head) = (moment("planned")?, moment("ready")?, moment("head")?);
        if ready == 0 || head < ready {
            return Err(format!("a client was let in before its backend was ready: {stub}").into());
        }
        if self.sent > ready {
            return Err("a client came only after its backend was ready: the machine is too busy for this".into());
        }
        Ok((head - ready, ready.saturating_sub(planned)))
    }
}

/// Counts the CPU of some processes, and of the machine, over a time.
struct Meter {
    pids: Vec<u32>,
    began: u64,
    ours: f64,
    machine: f64,
}

impl Meter {
    fn start(pids: Vec<u32>) -> Result<Self, Failure> {
        Ok(Self {
            ours: all(&pids)?,
            pids,
            began: clock::now(),
            machine: machine()?.0,
        })
    }

    fn stop(self, into: &mut Measured) -> Result<(), Failure> {
        into.ours += all(&self.pids)? - self.ours;
        into.machine += machine()?.0 - self.machine;
        let now = clock::now();
        into.wall += clock::between(self.began, now).as_secs_f64();
        into.windows.push((self.began, now));
        Ok(())
    }
}

fn all(pids: &[u32]) -> Result<f64, Failure> {
    pids.iter().map(|&pid| cpu(pid)).sum()
}

/// Of one way, in milliseconds.
pub(crate) struct Quantiles {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// By nearest rank; NaN of nothing.
    pub(crate) fn of(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        #[allow(clippy::cast_precision_loss)]
        let at = |percent| nearest_rank(&nanos, percent).map_or(f64::NAN, |nanos| nanos as f64 / 1e6);
        Self {
            min: at(0),
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }

    fn spread(&self) -> f64 {
        self.max - self.min
    }

    fn near_spread(&self) -> f64 {
        self.p99 - self.min
    }
}

fn print(measured: [Measured; LINES.len()], budgets: &mut Budgets) -> Result<(), Failure> {
    println!(
        "  {:<29}{:>9}{:>9}{:>9}{:>9}{:>11}{:>11}  expected",
        "ms", "min", "p50", "p99", "max", "max − min", "p99 − min"
    );
    let mut loads = Vec::with_capacity(LINES.len());
    let (_, cores) = machine()?;
    for (line, measured) in LINES.iter().zip(measured) {
        let of = Quantiles::of(measured.delays);
        let what = format!("{}: {}", line.name, line.expected.split(" (").next().unwrap_or(""));
        let holds = budgets.within(what, (line.figure)(&of), line.range.clone(), "ms");
        println!(
            "  {:<29}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>11.2}{:>11.2}  {}: {}",
            line.name,
            of.min,
            of.p50,
            of.p99,
            of.max,
            of.spread(),
            of.near_spread(),
            line.expected,
            if holds { "holds" } else { "DOES NOT HOLD" }
        );
        let late = Quantiles::of(measured.late);
        let (ours, machine) = (
            measured.ours / measured.wall * 100.0,
            measured.machine / measured.wall * 100.0,
        );
        loads.push(format!(
            "  {:<29}{:>9.2}{:>9.2}{:>9.2}{ours:>14.1}{machine:>17.1}",
            line.name, late.p50, late.p99, late.max
        ));
    }
    println!(
        "\n  Did the machine keep up? How late it woke who was to become ready (ms), and CPU, % of one of {cores} cores"
    );
    println!(
        "  {:<29}{:>9}{:>9}{:>9}{:>14}{:>17}",
        "", "p50", "p99", "max", "measured ones", "whole machine"
    );
    for load in loads {
        println!("{load}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::READY_PATH;

    #[test]
    fn the_same_seed_gives_the_same_ready_times_and_another_gives_others() {
        let times = ready_times(1_171, 200);
        assert_eq!(times, ready_times(1_171, 200));
        assert_ne!(times, ready_times(1_172, 200));
        assert!(times.iter().all(|time| READY_AFTER.contains(time)));
        let early = times.iter().filter(|&&time| time < 4_250_000_000).count();
        assert!((70..130).contains(&early), "{early} of 200 in the first half");
    }

    #[test]
    fn quantiles_are_by_nearest_rank_in_milliseconds() {
        let of = Quantiles::of((1..=200).rev().map(|ms| ms * 1_000_000).collect());
        assert_eq!((of.min, of.p50, of.p99, of.max), (1.0, 100.0, 198.0, 200.0));
        assert_eq!((of.spread(), of.near_spread()), (199.0, 197.0));
        assert!(Quantiles::of(Vec::new()).spread().is_nan());
    }

    #[test]
    fn the_probe_asks_for_the_path_that_the_stub_answers() {
        let asked = LINES.iter().find_map(|line| match line.way {
            Way::Greenroom { ready, by: "http", .. } => ready.strip_prefix("http:"),
            Way::Greenroom { .. } | Way::Poll(_) => None,
        });
        assert_eq!(asked, Some(READY_PATH));
    }
}
