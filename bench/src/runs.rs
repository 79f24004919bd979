//! The measurements: throughput, latency, memory, release.

use std::time::Duration;

use greenroom_audit::clock;
use serde_json::Value;

use crate::process::{Memory, Stream, memory as memory_of, quiet};
use crate::site::{PATIENCE, Site, Target, targets};
use crate::table::Budgets;
use crate::{Failure, Options, rivals};

/// Connections of the echo runs.
const CONNECTIONS: usize = 100;
/// Messages per second of the latency run.
const RATE: u32 = 5_000;
/// Handshakes under way when clients connect directly: what greenroom's gate allows (`DIALS_MAX`).
const CONCURRENCY: usize = 64;

/// Echoes per second, and what they cost the gateway.
pub(crate) fn throughput(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    println!(
        "\nEcho throughput, {CONNECTIONS} connections, {} s each",
        options.seconds
    );
    println!("  in flight  bytes   through         echoes/s    CPU µs/echo  echoes/CPU s");
    let rivals = rivals::present(options);
    let (mut ours, mut best) = (f64::NAN, f64::NAN);
    for target in targets(options, &rivals) {
        let site = Site::start(target, false)?;
        for (in_flight, size) in [(1, 125), (16, 125), (1, 16_384), (16, 16_384)] {
            let arguments = [
                ("connections", CONNECTIONS.to_string()),
                ("in-flight", in_flight.to_string()),
                ("size", size.to_string()),
            ];
            let echoed = site.echo(&arguments, options.seconds)?;
            let per_cpu = echoed.gateway_cpu.map(|cpu| echoed.messages / cpu);
            let (each, per_cpu_text) = per_cpu.map_or(("–".into(), "–".into()), |n| {
                (format!("{:.2}", 1e6 / n), format!("{n:.0}"))
            });
            let (name, rate) = (target.name(), echoed.per_second);
            println!("  {in_flight:>9}  {size:>5}   {name:<12} {rate:>11.0}  {each:>13}  {per_cpu_text:>12}");
            if let (1, 125, Some(per_cpu)) = (in_flight, size, per_cpu) {
                match target {
                    Target::Direct => {}
                    Target::Greenroom(_) => ours = per_cpu,
                    Target::Rival(_) => best = per_cpu.max(best),
                }
            }
        }
    }
    if !best.is_nan() && !ours.is_nan() {
        budgets.at_least(
            "echoes per gateway CPU second, against the best other",
            ours / best,
            1.5,
            "×",
        );
    }
    Ok(())
}

/// Latency at a fixed rate, beside the direct one.
pub(crate) fn latency(options: &Options) -> Result<(), Failure> {
    println!("\nLatency at {RATE} messages/s of 125 bytes, {CONNECTIONS} connections, from the moment each was due");
    println!("  through          p50 µs    p99 µs   p999 µs    max µs   added p50  added p99");
    let rivals = rivals::present(options);
    let mut direct = None;
    for target in targets(options, &rivals) {
        let site = Site::start(target, false)?;
        let arguments = [("connections", CONNECTIONS.to_string()), ("rate", RATE.to_string())];
        let echoed = site.echo(&arguments, options.seconds)?;
        let number = |name: &str| echoed.latency[name].as_f64().unwrap_or(f64::NAN);
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

/// Memory of greenroom per held and per idle relayed client.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn memory(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let clients = options.clients;
    println!("\nMemory of greenroom per client, {clients} clients (bytes)");
    println!("               resident  anonymous     VmData");
    let mut site = Site::start(Target::Greenroom(&options.greenroom), true)?;
    let pid = site.gateway().ok_or("no gateway")?;
    quiet(pid)?;
    let before = memory_of(pid)?;
    let load = site.load(&[("connections", clients.to_string()), ("hold", String::new())])?;
    let head = load.event(Stream::Out, "sent", PATIENCE)?["head_bytes"]
        .as_f64()
        .unwrap_or(0.0);
    quiet(pid)?;
    let held = per_client(before, memory_of(pid)?, clients);
    site.tell("ready")?;
    check_all_in(&load.event(Stream::Out, "result", PATIENCE)?, clients)?;
    quiet(pid)?;
    let relayed = per_client(before, memory_of(pid)?, clients);
    for (name, [resident, anonymous, data]) in [("held", held), ("idle relayed", relayed)] {
        println!("  {name:<12} {resident:>9.0}  {anonymous:>9.0}  {data:>9.0}");
    }
    println!("  (the head of each is {head} bytes as the client sends it)");
    budgets.at_most(
        "memory per held client, without its head",
        (held[1] - head) / 1024.0,
        2.0,
        "KiB",
    );
    budgets.at_most("memory per idle relayed client", relayed[1] / 1024.0, 2.5, "KiB");
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn per_client(before: Memory, after: Memory, clients: usize) -> [f64; 3] {
    [
        (before.resident, after.resident),
        (before.anonymous, after.anonymous),
        (before.data, after.data),
    ]
    .map(|(before, after)| (after as f64 - before as f64) / clients as f64)
}

/// N held clients from READY to the last echo, beside the same N that connect to a ready backend.
pub(crate) fn release(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    println!("\nRelease of N held clients, beside N that connect directly to a ready backend, {CONCURRENCY} at a time");
    println!("      N   direct ms   held ms   ratio   first echo ms   spread ms   inversions");
    for &clients in &options.release {
        let direct = {
            let site = Site::start(Target::Direct, false)?;
            let concurrency = ("concurrency", CONCURRENCY.to_string());
            let load = site.load(&[
                ("connections", clients.to_string()),
                ("hold", String::new()),
                concurrency,
            ])?;
            let result = load.event(Stream::Out, "result", PATIENCE)?;
            check_all_in(&result, clients)?;
            millis(&result["began"], &result["last_echo"])
        };
        if options.direct_only {
            println!("  {clients:>5}  {direct:>10.2}");
            continue;
        }
        let mut site = Site::start(Target::Greenroom(&options.greenroom), true)?;
        let load = site.load(&[("connections", clients.to_string()), ("hold", String::new())])?;
        load.event(Stream::Out, "sent", PATIENCE)?;
        quiet(site.gateway().ok_or("no gateway")?)?;
        let ready = site.tell("ready")?["at"].clone();
        let result = load.event(Stream::Out, "result", PATIENCE + Duration::from_secs(30))?;
        check_all_in(&result, clients)?;
        let (first, last) = (
            millis(&ready, &result["first_echo"]),
            millis(&ready, &result["last_echo"]),
        );
        let report = site.tell("report")?;
        if report["numbered"] != clients {
            return Err(format!("not every opening had a Greenroom-Session: {report}").into());
        }
        let (ratio, spread) = (last / direct, last - first);
        let inversions = report["inversions"].as_f64().unwrap_or(f64::NAN);
        println!(
            "  {clients:>5}  {direct:>10.2} {last:>9.2}  {ratio:>6.2}  {first:>14.2}  {spread:>10.2}  {inversions:>11}"
        );
        budgets.at_most(
            format!("{clients} held clients against the same directly"),
            ratio,
            1.3,
            "×",
        );
        budgets.at_most(format!("{clients} held clients, inversions"), inversions, 0.0, "");
        if clients == 200 {
            budgets.at_most("200 held clients, ready to first echo: spread", spread, 10.0, "ms");
        }
    }
    Ok(())
}

fn check_all_in(result: &Value, clients: usize) -> Result<(), Failure> {
    if result["in"] == clients {
        Ok(())
    } else {
        Err(format!("not all of {clients} clients got in: {result}").into())
    }
}

/// From one moment to another, in milliseconds.
fn millis(from: &Value, to: &Value) -> f64 {
    match (from.as_u64(), to.as_u64()) {
        (Some(from), Some(to)) => clock::between(from, to).as_secs_f64() * 1e3,
        _ => f64::NAN,
    }
}
