//! Measures greenroom beside a direct connection, in the same run.
//!
//! The load generator and the backend are processes of their own: this program
//! starts itself again with a subcommand (`backend`, `load`, `clients`), and reads
//! from them, and from greenroom, lines of JSON. What is printed is what was
//! measured; the budgets of the design stand beside it with *met* or *MISSED*.

mod admin;
mod backend;
mod bare;
mod clients;
mod crowd;
mod evidence;
mod flood;
mod flooder;
mod frames;
mod http;
mod load;
mod polls;
mod process;
mod requests;
mod rivals;
mod runs;
mod scrape;
mod signal;
mod site;
mod stub;
mod table;
mod waits;
mod web;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What any part of the bench may fail with: it is read by a person, and nothing decides on it.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Measures greenroom beside a direct connection.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Part {
    /// Measures what the founding report claims, and writes the pages of docs/evidence.
    Evidence(evidence::Arguments),
    /// (internal) Writes the page of what `cargo xtask audit-truth` has found.
    #[command(hide = true)]
    Truth(evidence::truth::Arguments),
    /// (internal) The reference algorithm: a server that polls its phase, and its queue.
    #[command(hide = true)]
    Reference(evidence::reference::Arguments),
    /// (internal) The echo backend.
    #[command(hide = true)]
    Backend(backend::Arguments),
    /// (internal) The load generator.
    #[command(hide = true)]
    Load(load::Arguments),
    /// (internal) The clients of an opening.
    #[command(hide = true)]
    Clients(clients::Arguments),
    /// (internal) Clients that send as much as they may.
    #[command(hide = true)]
    Flooder(flooder::Arguments),
    /// (internal) The load generator for plain HTTP.
    #[command(hide = true)]
    Requests(requests::Arguments),
    /// (internal) A relay that does nothing but relay.
    #[command(hide = true)]
    Bare(bare::Arguments),
    /// (internal) The backend of the signal and waits benchmarks: one client, then it ends.
    #[command(hide = true)]
    Stub(stub::Arguments),
}

/// What to measure, and with what.
#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; everything without it.
    what: Vec<What>,
    /// The program to measure.
    #[arg(long, default_value = "target/release/greenroom")]
    greenroom: PathBuf,
    /// Measures the direct connection only.
    #[arg(long)]
    direct_only: bool,
    /// HAProxy, measured beside greenroom (else the one in PATH, if there is one).
    #[arg(long)]
    haproxy: Option<PathBuf>,
    /// nginx, measured beside greenroom (else the one in PATH, if there is one).
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Caddy, measured beside greenroom (else the one in PATH, if there is one).
    #[arg(long)]
    caddy: Option<PathBuf>,
    /// Rounds of the throughput, release and flood measurements: all targets take turns, and medians are printed.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Seconds of each throughput, latency and flood measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Starts in the signal benchmark.
    #[arg(long, default_value_t = 1_000)]
    starts: usize,
    /// Seed of the ready times of the waits benchmark.
    #[arg(long, default_value_t = 1_171)]
    seed: u64,
    /// Ready times of the waits benchmark.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    waits: u16,
    /// How many of its greenrooms run at once.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Sizes of the release benchmark.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1_000, 9_000])]
    release: Vec<usize>,
    /// Clients of the memory benchmark.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Clients of the crowd benchmark: its greenroom may have 20,000 open files.
    #[arg(long, default_value_t = 19_000)]
    crowd: usize,
    /// Clients of the flood benchmark.
    #[arg(long, default_value_t = 10_000)]
    flooders: usize,
    /// Clients of the scrape benchmark.
    #[arg(long, default_value_t = 9_000)]
    scraped: usize,
    /// `early_budget` of the flood's greenroom, in MiB.
    #[arg(long, default_value_t = 256)]
    early_budget_mib: usize,
    /// Ends with code 1 if a budget was missed.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Echoes per second, and CPU per message.
    Throughput,
    /// Added latency at a fixed rate.
    Latency,
    /// Memory per held and per idle relayed client.
    Memory,
    /// Letting in N held clients.
    Release,
    /// As many held clients as the file limit lets there be.
    Crowd,
    /// Clients that send as much as they may, and what those of another route notice.
    Flood,
    /// What a Prometheus scrape costs, and what relayed clients notice of it.
    Scrape,
    /// From READY to the head at the backend.
    Signal,
    /// From ready to released: a growing poll, a fixed one, greenroom probing, and pushed.
    Waits,
    /// Plain HTTP: CPU per request, added latency, memory of an idle connection.
    Http,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::Evidence(arguments)) => evidence::main(&arguments).map(|()| true),
        Some(Part::Truth(arguments)) => evidence::truth::main(&arguments).map(|()| true),
        Some(Part::Reference(arguments)) => evidence::reference::main(&arguments).map(|()| true),
        Some(Part::Backend(arguments)) => backend::main(&arguments).map(|()| true),
        Some(Part::Load(arguments)) => load::main(&arguments).map(|()| true),
        Some(Part::Clients(arguments)) => clients::main(&arguments).map(|()| true),
        Some(Part::Flooder(arguments)) => flooder::main(&arguments).map(|()| true),
        Some(Part::Requests(arguments)) => requests::main(&arguments).map(|()| true),
        Some(Part::Bare(arguments)) => bare::main(&arguments).map(|()| true),
        Some(Part::Stub(arguments)) => stub::main(&arguments).map(|()| true),
        None => all(&arguments.options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Everything that was asked for; false if a budget was missed and that matters.
fn all(options: &Options) -> Result<bool, Failure> {
    process::raise_descriptors();
    if !options.direct_only && !options.greenroom.is_file() {
        let path = options.greenroom.display();
        return Err(format!(
            "{path} is not there: build it with `cargo build --release`, or give --greenroom PATH or --direct-only"
        )
        .into());
    }
    let asked = |what| options.what.is_empty() || options.what.contains(&what);
    let mut budgets = table::Budgets::default();
    if asked(What::Throughput) {
        runs::throughput(options, &mut budgets)?;
    }
    if asked(What::Latency) {
        runs::latency(options)?;
    }
    if asked(What::Memory) && !options.direct_only {
        runs::memory(options, &mut budgets)?;
    }
    if asked(What::Release) {
        runs::release(options, &mut budgets)?;
    }
    if asked(What::Crowd) && !options.direct_only {
        crowd::run(options, &mut budgets)?;
    }
    if asked(What::Flood) && !options.direct_only {
        flood::run(options, &mut budgets)?;
    }
    if asked(What::Scrape) && !options.direct_only {
        scrape::run(options)?;
    }
    if asked(What::Signal) && !options.direct_only {
        signal::run(options, &mut budgets)?;
    }
    if asked(What::Waits) && !options.direct_only {
        waits::run(options, &mut budgets)?;
    }
    if asked(What::Http) {
        http::run(options)?;
    }
    budgets.print();
    Ok(budgets.all_met() || !options.strict)
}

/// The loopback address with any free port.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0))
}
