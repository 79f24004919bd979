//! Child processes that speak in lines of JSON, and what the kernel says of them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::Value;

use crate::Failure;

/// Lines kept to explain why a process ended.
const LOG_LINES: usize = 20;
/// Descriptors for which the kernel's table has room from the start.
const DESCRIPTOR_ROOM: u64 = 20_000;
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

/// A child; dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Receiver<Value>,
    err: Receiver<Value>,
    log: Arc<Mutex<VecDeque<String>>>,
}

/// Which of a child's streams an event is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output: the bench's own processes.
    Out,
    /// Standard error: greenroom.
    Err,
}

impl Process {
    /// Starts `command`, known as `name`.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self, Failure> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env_remove("PORT").env_remove("NOTIFY_SOCKET");
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let log = Arc::default();
        let out = events(
            child.stdout.take(),
            &log,
            &[
                "listening",
                "ready",
                "report",
                "open",
                "sent",
                "result",
                "begun",
                "stub",
            ],
        );
        // greenroom tells of each client; only where it listens is waited for.
        let err = events(child.stderr.take(), &log, &["listening"]);
        Ok(Self {
            name: name.into(),
            stdin: child.stdin.take(),
            child,
            out,
            err,
            log,
        })
    }

    /// This program again, as one of its parts.
    pub(crate) fn part(arguments: &[String]) -> Result<Self, Failure> {
        Self::part_under(&[], arguments)
    }

    /// The same, by a program that starts it, with its arguments, where this machine has that.
    pub(crate) fn part_under(under: &[&str], arguments: &[String]) -> Result<Self, Failure> {
        let this = std::env::current_exe()?;
        let mut command = match under {
            [program, rest @ ..] if Command::new(program).arg("--version").output().is_ok() => {
                let mut command = Command::new(program);
                command.args(rest).arg(this);
                command
            }
            _ => Command::new(this),
        };
        command.args(arguments);
        Self::start(
            &format!("bench {}", arguments.first().map_or("", String::as_str)),
            command,
        )
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the event `name`.
    pub(crate) fn event(&self, on: Stream, name: &str, patience: Duration) -> Result<Value, Failure> {
        let deadline = Instant::now() + patience;
        let events = if on == Stream::Out { &self.out } else { &self.err };
        loop {
            let why = match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) if event["event"] == name => return Ok(event),
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => format!("did not say {name:?} within {patience:?}"),
                Err(RecvTimeoutError::Disconnected) => format!("ended before it said {name:?}"),
            };
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let log: String = log.iter().map(|line| format!("\n  {line}")).collect();
            return Err(format!("{} {why}; its last words:{log}", self.name).into());
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let Some(stdin) = &mut self.stdin else {
            return Err("its standard input is closed".into());
        };
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Whether it ends by itself within `patience`.
    pub(crate) fn ended(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if !self.ended(Duration::from_millis(200)) {
            if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                rustix::process::kill_process(pid, Signal::TERM).ok();
            }
            if !self.ended(GRACE) {
                self.child.kill().ok();
                self.child.wait().ok();
            }
        }
    }
}

/// Reads lines on a thread; those that are one of the `wanted` events are passed on.
fn events(
    from: Option<impl Read + Send + 'static>,
    log: &Arc<Mutex<VecDeque<String>>>,
    wanted: &'static [&'static str],
) -> Receiver<Value> {
    let (send, receive) = mpsc::sync_channel(64);
    let log = Arc::clone(log);
    if let Some(from) = from {
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line)
                    && event["event"].as_str().is_some_and(|name| wanted.contains(&name))
                {
                    // Nobody waits for more than a few; what is over is only kept in the log.
                    send.try_send(event).ok();
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                if log.len() == LOG_LINES {
                    log.pop_front();
                }
                log.push_back(line);
            }
        });
    }
    receive
}

/// Raises the soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptors() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    // Without it only the largest runs fail, and say so.
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .ok();
    // The kernel's table grows now and not amid a measurement, where several threads would wait for it.
    if let Ok(any) = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC) {
        let highest = maximum
            .map_or(DESCRIPTOR_ROOM, |most| most.min(DESCRIPTOR_ROOM))
            .saturating_sub(1);
        rustix::io::fcntl_dupfd_cloexec(&any, i32::try_from(highest).unwrap_or(0)).ok();
    }
}

/// CPU seconds that a process used, user and system, without its children.
pub(crate) fn cpu(pid: u32) -> Result<f64, Failure> {
    used(pid, 2)
}

/// The same of this process, with all that it started and that has ended, and theirs.
pub(crate) fn cpu_of_all() -> Result<f64, Failure> {
    used(std::process::id(), 4)
}

/// The first of utime, stime, cutime and cstime.
fn used(pid: u32, fields_of_time: usize) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything; the fields begin behind its last parenthesis.
    let (_, fields) = stat.rsplit_once(')').ok_or("unreadable /proc stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(fields_of_time)
        .map_while(|field| field.parse::<u64>().ok())
        .sum();
    #[allow(clippy::cast_precision_loss)]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU seconds that the whole machine was busy since it started, and how many cores it has.
pub(crate) fn machine() -> Result<(f64, usize), Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().ok_or("unreadable /proc/stat")?;
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; what a guest uses is in user already.
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
    let cores = stat
        .lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .count();
    #[allow(clippy::cast_precision_loss)]
    Ok((busy as f64 / rustix::param::clock_ticks_per_second() as f64, cores))
}

/// CPU seconds that nobody used since the machine started, of all cores, and how many these are. The kernel counts idle time where a core
/// goes to sleep and wakes; what is busy it only samples, which is wrong by much where many wake for a moment.
pub(crate) fn idle() -> Result<(f64, usize), Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().ok_or("unreadable /proc/stat")?;
    let fields = first.split_whitespace().skip(1);
    // user nice system idle iowait
    let ticks: u64 = fields
        .skip(3)
        .take(2)
        .map_while(|field| field.parse::<u64>().ok())
        .sum();
    let (_, cores) = machine()?;
    #[allow(clippy::cast_precision_loss)]
    Ok((ticks as f64 / rustix::param::clock_ticks_per_second() as f64, cores))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
}

/// What the kernel says of a process's memory.
pub(crate) fn memory(pid: u32) -> Result<Memory, Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    Ok(Memory {
        resident: field(&rollup, "Rss"),
        anonymous: field(&rollup, "Anonymous"),
    })
}

/// Anonymous memory of a process that is resident, in bytes: cheap enough to be asked again and again.
pub(crate) fn anonymous(pid: u32) -> Result<u64, Failure> {
    number(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, "RssAnon:").map(|kib| kib * 1024)
}

/// Memory of the kernel's sockets, in bytes: what lies in the buffers of TCP, and all of its small objects (slab).
pub(crate) fn kernel_memory() -> Result<(u64, u64), Failure> {
    let sockets = std::fs::read_to_string("/proc/net/sockstat")?;
    let tcp = sockets
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .unwrap_or_default();
    let pages: u64 = tcp.rsplit(' ').next().unwrap_or_default().parse()?;
    let slab = number(&std::fs::read_to_string("/proc/meminfo")?, "Slab:")?;
    Ok((pages * rustix::param::page_size() as u64, slab * 1024))
}

/// The number behind a name in one of the kernel's texts.
fn number(text: &str, name: &str) -> Result<u64, Failure> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| format!("no {name} in what the kernel says").into())
}

/// Waits until a process used no CPU for 300 ms: whatever it was given, it has taken in.
pub(crate) fn quiet(pid: u32) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = (cpu(pid)?, Instant::now());
    while last.1.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
        let now = cpu(pid)?;
        #[allow(clippy::float_cmp)] // the same count of ticks
        if now != last.0 {
            last = (now, Instant::now());
        }
        if Instant::now() > deadline {
            return Err("the gateway does not come to rest".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let pid = std::process::id();
        let (began, (machine_began, cores)) = (cpu(pid).unwrap(), machine().unwrap());
        while cpu(pid).unwrap() - began < 0.02 {
            std::hint::black_box(0);
        }
        // The kernel counts for a core and for a process at different moments.
        let deadline = Instant::now() + Duration::from_secs(10);
        while machine().unwrap().0 - machine_began < 0.01 {
            assert!(Instant::now() < deadline, "the machine has worked too");
        }
        assert!(cores > 0);
        let memory = memory(pid).unwrap();
        assert!(
            anonymous(pid).unwrap() > 100_000 && memory.resident > 100_000 && memory.anonymous > 0,
            "{memory:?}"
        );
    }

    #[test]
    fn an_event_is_waited_for_and_an_end_is_explained() {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo noise; echo '{"event":"open","n":3}'; echo sorry >&2"#]);
        let process = Process::start("a shell", command).unwrap();
        let patience = Duration::from_secs(10);
        assert_eq!(process.event(Stream::Out, "open", patience).unwrap()["n"], 3);
        let error = process.event(Stream::Out, "result", patience).unwrap_err().to_string();
        assert!(error.contains("a shell ended before"), "{error}");
    }
}
