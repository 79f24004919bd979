//! The measurements of plain HTTP: what a request costs the gateway, what it adds, and what an idle connection keeps.

use serde_json::Value;

use crate::process::{Process, Stream, cpu, memory, quiet};
use crate::site::{PATIENCE, Site, Target, targets};
use crate::{Failure, Options, rivals};

/// Connections of all runs but the idle ones.
const CONNECTIONS: usize = 64;
/// Requests per second of the latency run.
const RATE: u32 = 2_000;
const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// One kind of load.
struct Case {
    name: &'static str,
    size: usize,
    close: bool,
}

const CASES: [Case; 3] = [
    Case {
        name: "1 KiB, keep-alive",
        size: KIB,
        close: false,
    },
    Case {
        name: "1 MiB, keep-alive",
        size: MIB,
        close: false,
    },
    Case {
        name: "1 KiB, close",
        size: KIB,
        close: true,
    },
];

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let rivals = rivals::present(options);
    let targets = targets(options, &rivals);
    cost(options, &targets)?;
    latency(options, &targets)?;
    idle(options, &targets)
}

/// Requests per second, and what they cost the gateway.
fn cost(options: &Options, targets: &[Target<'_>]) -> Result<(), Failure> {
    println!(
        "\nPlain HTTP, {CONNECTIONS} connections, one request at a time on each, {} s each",
        options.seconds
    );
    println!("  answer              through       requests/s  CPU µs/request  requests/CPU s");
    for case in CASES {
        for &target in targets {
            let site = Site::start(target, false)?;
            let mut arguments = vec![("size", case.size.to_string())];
            if case.close {
                arguments.push(("close", String::new()));
            }
            let asked = ask(&site, &arguments, options.seconds)?;
            let (each, per_cpu) = asked.cpu.map_or(("–".into(), "–".into()), |cpu| {
                let each = cpu / asked.requests;
                (format!("{:.1}", each * 1e6), format!("{:.0}", 1.0 / each))
            });
            println!(
                "  {:<18}  {:<12} {:>11.0}  {each:>14}  {per_cpu:>14}",
                case.name,
                target.name(),
                asked.per_second
            );
        }
    }
    Ok(())
}

/// Latency at a fixed rate, beside the direct one.
fn latency(options: &Options, targets: &[Target<'_>]) -> Result<(), Failure> {
    println!("\nLatency at {RATE} requests/s of 1 KiB, {CONNECTIONS} connections, from the moment each was due");
    println!("  through          p50 µs    p99 µs   p999 µs    max µs   added p50  added p99");
    let mut direct = None;
    for &target in targets {
        let site = Site::start(target, false)?;
        let asked = ask(&site, &[("rate", RATE.to_string())], options.seconds)?;
        let number = |name: &str| asked.latency[name].as_f64().unwrap_or(f64::NAN);
        let (p50, p99) = (number("p50"), number("p99"));
        let (base50, base99) = *direct.get_or_insert((p50, p99));
        println!(
            "  {:<12} {p50:>10.1} {p99:>9.1} {:>9.1} {:>9.1} {:>11.1} {:>10.1}",
            target.name(),
            number("p999"),
            number("max"),
            p50 - base50,
            p99 - base99,
        );
    }
    Ok(())
}

/// Memory of the gateway per connection that has had an answer and waits.
#[allow(clippy::cast_precision_loss)]
fn idle(options: &Options, targets: &[Target<'_>]) -> Result<(), Failure> {
    let clients = options.clients;
    println!("\nMemory of the gateway per idle keep-alive connection, {clients} of them (bytes)");
    println!("  through          resident  anonymous");
    for &target in targets {
        let site = Site::start(target, false)?;
        let Some(pid) = site.gateway() else { continue };
        // The first requests grow what is kept for all.
        drop(load(&site, &[("connections", CONNECTIONS.to_string())])?);
        quiet(pid)?;
        let before = memory(pid)?;
        let load = load(&site, &[("connections", clients.to_string())])?;
        quiet(pid)?;
        let after = memory(pid)?;
        drop(load);
        let each = |before: u64, after: u64| (after as f64 - before as f64) / clients as f64;
        println!(
            "  {:<12} {:>12.0}  {:>9.0}",
            target.name(),
            each(before.resident, after.resident),
            each(before.anonymous, after.anonymous)
        );
    }
    Ok(())
}

/// Opens a load's connections; each has had one answer.
fn load(site: &Site, arguments: &[(&str, String)]) -> Result<Process, Failure> {
    let load = site.part("requests", arguments)?;
    load.event(Stream::Out, "open", PATIENCE)?;
    Ok(load)
}

/// What a run measured.
struct Asked {
    requests: f64,
    per_second: f64,
    /// CPU seconds of the gateway, if there is one.
    cpu: Option<f64>,
    latency: Value,
}

fn ask(site: &Site, arguments: &[(&str, String)], seconds: f64) -> Result<Asked, Failure> {
    let mut arguments = arguments.to_vec();
    arguments.push(("connections", CONNECTIONS.to_string()));
    arguments.push(("seconds", seconds.to_string()));
    let mut load = load(site, &arguments)?;
    let used = |pid: Option<u32>| pid.map(cpu).transpose();
    let before = used(site.gateway())?;
    load.tell("go")?;
    let result = load.event(
        Stream::Out,
        "result",
        PATIENCE + std::time::Duration::from_secs_f64(seconds),
    )?;
    let after = used(site.gateway())?;
    let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
    if result["failures"] != 0 {
        return Err(format!("{} connections or requests failed: {result}", result["failures"]).into());
    }
    Ok(Asked {
        requests: number("messages"),
        per_second: number("messages") / number("seconds"),
        cpu: after.zip(before).map(|(after, before)| after - before),
        latency: result["latency_us"].clone(),
    })
}
