//! Clients of one route that send as much as they may, and what clients of another, ready route notice of it.
//!
//! Both routes are of one greenroom. The backend of the first never gets ready, its clients are accepted at once
//! (`flooder`); the other is an echo (`backend`), of which messages at a fixed rate are measured. In each round it is
//! measured three times: quiet, while another greenroom on the same machine is flooded, and while this one is. What the
//! second shows is the machine's part: flooders elsewhere take no core from the gateway. Memory is asked for
//! all the while, and in the end all gauges must be 0.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::process::{Process, Stream, anonymous, cpu, kernel_memory, quiet};
use crate::rivals::Files;
use crate::runs::median;
use crate::site::{PATIENCE, address};
use crate::table::Budgets;
use crate::{Failure, Options, admin};

/// Where the flooders go.
const PATH: &str = "/flood";
/// Of the measured route: connections, and messages a second over all of them.
const CONNECTIONS: usize = 20;
const RATE: usize = 2_000;
/// How long it may take until greenroom has let go of all who are gone: of those whose FIN stays behind what it does
/// not read, it hears only that they do not answer its Close (`EARLY_PATIENCE`, the spread, `CLOSE_HANDSHAKE`, `LINGER`).
const GONE: Duration = Duration::from_secs(30 + 5 + 5 + 2 + 3);
const MIB: f64 = 1_048_576.0;

/// A greenroom with both routes.
struct Gateway {
    process: Process,
    address: SocketAddr,
    files: Files,
}

impl Gateway {
    fn start(program: &Path, name: &str, echo: SocketAddr, options: &Options) -> Result<Self, Failure> {
        let files = Files::new(&format!("flood-{name}"))?;
        let (config, socket) = (files.path("greenroom.toml"), files.path("admin"));
        std::fs::write(&config, config_text(&socket, &files.path("nobody"), echo, options))?;
        let mut command = Command::new(program);
        command.args(["serve", "--log-format", "json", "--config"]).arg(config);
        let process = Process::start("greenroom", command)?;
        let address = address(&process.event(Stream::Err, "listening", PATIENCE)?)?;
        Ok(Self {
            process,
            address,
            files,
        })
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Echoes at the fixed rate: p50 and p99 in microseconds.
    fn echo(&self, seconds: f64) -> Result<[f64; 2], Failure> {
        let mut load = self.part(
            "load",
            &[("connections", CONNECTIONS), ("rate", RATE)],
            &["--seconds".into(), seconds.to_string()],
        )?;
        load.event(Stream::Out, "open", PATIENCE)?;
        load.tell("go")?;
        let result = load.event(Stream::Out, "result", PATIENCE + Duration::from_secs_f64(seconds))?;
        if result["failures"] != 0 {
            return Err(format!("messages of the ready route were lost: {result}").into());
        }
        Ok(["p50", "p99"].map(|name| result["latency_us"][name].as_f64().unwrap_or(f64::NAN)))
    }

    fn part(&self, name: &str, numbers: &[(&str, usize)], more: &[String]) -> Result<Process, Failure> {
        self.part_under(&[], name, numbers, more)
    }

    fn part_under(
        &self,
        under: &[&str],
        name: &str,
        numbers: &[(&str, usize)],
        more: &[String],
    ) -> Result<Process, Failure> {
        let mut words = vec![name.to_owned(), "--addr".into(), self.address.to_string()];
        for (name, number) in numbers {
            words.extend([format!("--{name}"), number.to_string()]);
        }
        words.extend_from_slice(more);
        Process::part_under(under, &words)
    }

    fn flooders(&self, options: &Options, reset: bool) -> Result<Process, Failure> {
        let mut more = vec!["--path".into(), PATH.into()];
        more.extend(reset.then(|| "--reset".into()));
        // Without the priority that this program may have been given (`chrt`, `nice`): flooders are elsewhere, and share no core.
        self.part_under(
            &["chrt", "--other", "0", "nice", "-n", "20"],
            "flooder",
            &[("connections", options.flooders)],
            &more,
        )
    }

    /// How many were refused or closed, by cause.
    fn ends(&self) -> Result<String, Failure> {
        let samples = admin::metrics(&self.files.path("admin"))?;
        let ends = samples.iter().filter(|(name, value)| {
            **value > 0.0
                && ["greenroom_closed", "greenroom_refused"]
                    .iter()
                    .any(|total| name.starts_with(total))
        });
        let told: Vec<String> = ends.map(|(name, value)| format!("{name} {value}")).collect();
        Ok(told.join(", "))
    }

    /// Waits until no trace of a client is left.
    fn emptied(&self) -> Result<Duration, Failure> {
        admin::emptied(&self.files.path("admin"), GONE)
    }
}

fn config_text(socket: &Path, nobody: &Path, echo: SocketAddr, options: &Options) -> String {
    let (socket, nobody) = (socket.display(), nobody.display());
    let (budget, held) = (options.early_budget_mib, options.flooders + 1);
    format!(
        "[admin]\nsocket = \"{socket}\"\n\
         [limits]\nearly_budget = \"{budget}MiB\"\n\
         [listener.main]\naddress = \"127.0.0.1:0\"\n\
         [backend.echo]\naddress = \"{echo}\"\nready = \"tcp\"\n\
         [backend.nobody]\naddress = \"unix:{nobody}\"\nready = \"listen\"\nheld_max = {held}\n\
         [[route]]\nbackend = \"echo\"\n\
         [[route]]\npath = \"{PATH}\"\nbackend = \"nobody\"\nhold = \"accept\"\n"
    )
}

/// What one flood showed.
struct Flooded {
    /// p50 and p99 while the flood comes, and while all send.
    comes: [f64; 2],
    sends: [f64; 2],
    /// Bytes: at the most, and what the kernel kept in TCP's buffers and in its small objects beyond what it did before.
    peak: u64,
    buffers: u64,
    slab: u64,
    cpu: f64,
    result: Value,
    emptied: Duration,
}

impl Flooded {
    /// Everything but the latency; `before`: bytes of a quiet greenroom.
    #[allow(clippy::cast_precision_loss)]
    fn print(&self, before: f64) {
        println!(
            "  anonymous memory {:.1} MiB at the most ({:.1} before); TCP buffers {:+.1} MiB, slab {:+.1} MiB (with the clients' \
             side); CPU of greenroom {:.1} s; gauges 0 after {:.2} s",
            self.peak as f64 / MIB,
            before / MIB,
            self.buffers as f64 / MIB,
            self.slab as f64 / MIB,
            self.cpu,
            self.emptied.as_secs_f64()
        );
    }
}

/// Floods `flooded` and measures `measured`; the flooders leave with a reset, or with a FIN that nobody sees.
fn flood(flooded: &Gateway, measured: &Gateway, options: &Options, reset: bool) -> Result<Flooded, Failure> {
    let pid = flooded.pid();
    let (peak, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (buffers_before, slab_before) = kernel_memory()?;
    let used = cpu(pid)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let flooded = (|| {
            let mut flooders = flooded.flooders(options, reset)?;
            let comes = measured.echo(options.seconds)?;
            flooders.event(Stream::Out, "open", PATIENCE)?;
            flooders.tell("go")?;
            let sends = measured.echo(options.seconds)?;
            let (buffers, slab) = kernel_memory()?;
            let cpu = cpu(pid)? - used;
            flooders.tell("stop")?;
            let result = flooders.event(Stream::Out, "result", PATIENCE)?;
            drop(flooders);
            Ok(Flooded {
                comes,
                sends,
                peak: 0,
                buffers: buffers.saturating_sub(buffers_before),
                slab: slab.saturating_sub(slab_before),
                cpu,
                result,
                emptied: flooded.emptied()?,
            })
        })();
        over.store(true, Ordering::Relaxed);
        flooded
    })
    .map(|flooded: Flooded| Flooded {
        peak: peak.into_inner(),
        ..flooded
    })
}

/// The table, and what holds.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let rounds = options.rounds.max(1);
    println!(
        "\nA flood of {} clients that are accepted and never let in, beside {RATE} echoes/s of {CONNECTIONS} \
         clients of another route; budget {} MiB, {rounds} rounds",
        options.flooders, options.early_budget_mib
    );
    let echo = Process::part(&["backend".into()])?;
    let echo = (address(&echo.event(Stream::Out, "listening", PATIENCE)?)?, echo);
    let ours = Gateway::start(&options.greenroom, "ours", echo.0, options)?;
    let beside = Gateway::start(&options.greenroom, "beside", echo.0, options)?;
    for gateway in [&ours, &beside] {
        gateway.echo(1.0)?; // its first clients come while it is still starting
        quiet(gateway.pid())?;
    }
    let before = anonymous(ours.pid())? as f64;
    println!("  µs              p50       p99   × quiet p99");
    let (mut comes, mut sends, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let quiet = ours.echo(options.seconds)?;
        let line = |name: &str, [p50, p99]: [f64; 2]| {
            println!("  {name:<15} {p50:>7.0}  {p99:>8.0}  {:>12.2}", p99 / quiet[1]);
        };
        line("quiet", quiet);
        let other = flood(&beside, &ours, options, true)?;
        line("beside, comes", other.comes);
        line("beside, sends", other.sends);
        let flooded = flood(&ours, &ours, options, round + 1 < rounds)?;
        line("flood comes", flooded.comes);
        line("flood sends", flooded.sends);
        flooded.print(before);
        println!("  flooders: {}", flooded.result["ends"]);
        println!("  greenroom: {}", ours.ends()?);
        comes.push(flooded.comes[1] / quiet[1]);
        sends.push(flooded.sends[1] / quiet[1]);
        peaks.push(flooded.peak as f64);
    }
    println!(
        "  after all of them: {:.1} MiB anonymous",
        anonymous(ours.pid())? as f64 / MIB
    );
    let budget = options.early_budget_mib as f64;
    let peak = peaks.into_iter().fold(f64::NAN, f64::max);
    budgets.at_most(
        "a flood: memory beyond the quiet one",
        (peak - before) / MIB,
        budget * 1.1,
        "MiB",
    );
    budgets.at_most(
        "a flood that comes: p99 of another route",
        median(comes.into_iter()),
        2.0,
        "× quiet",
    );
    budgets.at_most(
        "a flood that sends: p99 of another route",
        median(sends.into_iter()),
        2.0,
        "× quiet",
    );
    Ok(())
}
