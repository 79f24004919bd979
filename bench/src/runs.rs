//! The measurements: throughput, latency, memory, release.

use std::time::Duration;

use greenroom_audit::clock;
use serde_json::Value;

use crate::process::{Stream, memory as memory_of, quiet};
use crate::site::{PATIENCE, Site, Target, targets};
use crate::table::Budgets;
use crate::{Failure, Options, rivals};

/// Connections of the echo runs.
const CONNECTIONS: usize = 100;
/// Messages per second of the latency run.
const RATE: u32 = 5_000;
/// Handshakes under way when clients connect directly: what greenroom's gate allows (`DIALS_MAX`).
const CONCURRENCY: usize = 64;

/// Ways to hold.
pub(crate) const HOLDS: [&str; 2] = ["handshake", "accept"];
/// How long an accepted client's messages wait for the handler of a server that says nothing (`FORWARD_AFTER`).
const DEFAULT_WAIT: &str = "20ms";
/// The releases that are measured: a name, `hold`, `forward_after`.
const RELEASES: [(&str, &str, Option<&str>); 3] = [
    ("handshake", "handshake", None),
    ("accept", "accept", Some("handshake")),
    ("… + 20 ms", "accept", Some(DEFAULT_WAIT)),
];

/// In flight and bytes of the echo runs.
const ECHOES: [(usize, usize); 4] = [(1, 125), (16, 125), (1, 16_384), (16, 16_384)];

/// Echoes per second, and what they cost the gateway.
///
/// All targets take turns, round by round, so that a busy moment of the machine does
/// not meet always the same one; the medians of the rounds are printed. What a
/// gateway costs depends on how much it finds to do at each wake-up, so the ratio
/// of each round is taken before the median.
pub(crate) fn throughput(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let (rounds, seconds) = (options.rounds.max(1), options.seconds);
    println!("\nEcho throughput, {CONNECTIONS} connections, {rounds} rounds of {seconds} s each, medians");
    println!("  in flight  bytes   through         echoes/s    CPU µs/echo  × greenroom's CPU");
    let rivals = rivals::present(options);
    let targets = targets(options, &rivals);
    let mut measured = vec![Vec::new(); targets.len() * ECHOES.len()];
    for _ in 0..rounds {
        for (target, of_target) in targets.iter().zip(measured.chunks_mut(ECHOES.len())) {
            let site = Site::start(*target, false)?;
            for ((in_flight, size), of_run) in ECHOES.into_iter().zip(of_target) {
                let arguments = [
                    ("connections", CONNECTIONS.to_string()),
                    ("in-flight", in_flight.to_string()),
                    ("size", size.to_string()),
                ];
                let echoed = site.echo(&arguments, seconds)?;
                let each = echoed.gateway_cpu.map_or(f64::NAN, |cpu| 1e6 * cpu / echoed.messages);
                of_run.push((echoed.per_second, each));
            }
        }
    }
    let ours = targets.iter().position(|target| matches!(target, Target::Greenroom(_)));
    let mut best = f64::NAN; // the least CPU of another for a small echo, in ours
    for (run, (in_flight, size)) in ECHOES.into_iter().enumerate() {
        for (index, target) in targets.iter().enumerate() {
            let here: &[(f64, f64)] = &measured[index * ECHOES.len() + run];
            let ratios = ours.into_iter().flat_map(|ours| {
                let ours = &measured[ours * ECHOES.len() + run];
                here.iter().zip(ours).map(|((_, here), (_, ours))| here / ours)
            });
            let ratio = median(ratios);
            let rate = median(here.iter().map(|(rate, _)| *rate));
            let each = median(here.iter().map(|(_, each)| *each));
            let name = target.name();
            let [each, ratio_text] = [each, ratio].map(|n| if n.is_nan() { "–".into() } else { format!("{n:.2}") });
            println!("  {in_flight:>9}  {size:>5}   {name:<12} {rate:>11.0}  {each:>13}  {ratio_text:>16}");
            if let (Target::Rival(_), (1, 125)) = (target, (in_flight, size)) {
                best = ratio.min(best);
            }
        }
    }
    if !best.is_nan() {
        budgets.at_least("echoes per gateway CPU second, against the best other", best, 1.5, "×");
    }
    Ok(())
}

/// The middle one; not a number when there is none, or when they are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

/// greenroom gives memory of a mass release back a second later; this is enough on a busy machine.
const GIVEN_BACK: Duration = Duration::from_secs(3);
/// A crowd of the memory benchmark is so many times the small one.
const LARGE: usize = 3;

/// Memory of greenroom per client, held with a 101 of greenroom's own and without, and then relayed and idle.
///
/// Of two crowds, one [`LARGE`] times the other, each before a greenroom of its own: their difference is what clients take, and
/// the rest is what greenroom takes once for any number of them, such as the last events that it keeps.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn memory(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let (small, large) = (options.clients, options.clients * LARGE);
    println!(
        "\nAnonymous memory of greenroom, in bytes per client of {small} and of {large}, per further one, and fixed"
    );
    println!("                        of {small:>5}   of {large:>5}   each more     fixed");
    for hold in HOLDS {
        let of_small = of_crowd(options, hold, small)?;
        let of_large = of_crowd(options, hold, large)?;
        let head = of_small.head;
        for (index, name) in ["held", "then relayed"].into_iter().enumerate() {
            let (few, many) = (of_small.bytes[index], of_large.bytes[index]);
            let each = (many - few) / (large - small) as f64;
            let (of_few, of_many, fixed) = (few / small as f64, many / large as f64, few - each * small as f64);
            println!("  {hold:<10} {name:<12} {of_few:>8.0}   {of_many:>8.0}   {each:>9.0}  {fixed:>8.0}");
            let (name, bytes, most) = match index {
                0 => ("held client, without its head", each - head, 2.0),
                _ => ("idle relayed client", each, 2.5),
            };
            budgets.at_most(format!("memory per {name} ({hold})"), bytes / 1024.0, most, "KiB");
        }
        println!("  (the head of each is {head} bytes as the client sends it)");
    }
    Ok(())
}

/// What a crowd takes: while it is held, and when it is relayed and idle.
struct OfCrowd {
    bytes: [f64; 2],
    head: f64,
}

#[allow(clippy::cast_precision_loss)]
fn of_crowd(options: &Options, hold: &str, clients: usize) -> Result<OfCrowd, Failure> {
    let settings = [
        ("ROUTE__0__HOLD", hold.to_owned()),
        ("BACKEND__APP__HELD_MAX", clients.to_string()),
    ];
    let mut site = Site::start_with(Target::Greenroom(&options.greenroom), true, &settings)?;
    let pid = site.gateway().ok_or("no gateway")?;
    quiet(pid)?;
    let before = memory_of(pid)?.anonymous;
    let more = || Ok::<f64, Failure>(memory_of(pid)?.anonymous as f64 - before as f64);
    let mut words = vec![("connections", clients.to_string())];
    if hold == "accept" {
        words.extend([("accepted", String::new()), ("silent", String::new())]);
    }
    let mut load = site.part("clients", &words)?;
    let head = load.event(Stream::Out, "sent", PATIENCE)?["head_bytes"]
        .as_f64()
        .unwrap_or(0.0);
    quiet(pid)?;
    let held = more()?;
    site.tell("ready")?;
    if hold == "accept" {
        load.tell("go")?;
    }
    check_all_in(&load.event(Stream::Out, "result", PATIENCE)?, clients)?;
    quiet(pid)?;
    std::thread::sleep(GIVEN_BACK);
    Ok(OfCrowd {
        bytes: [held, more()?],
        head,
    })
}

/// N held clients from READY to the last echo, beside the same N that connect to a ready backend.
/// They take turns, round by round; the ratio of each round is taken before the median.
pub(crate) fn release(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    let rounds = options.rounds.max(1);
    println!("\nRelease of N held clients, beside N that connect directly to a ready backend, {CONCURRENCY} at a time");
    println!("Medians of {rounds} rounds; the most inversions of any");
    println!("      N   hold        direct ms   held ms   ratio   first echo ms   spread ms   inversions");
    for &clients in &options.release {
        let (mut direct, mut held) = (Vec::new(), RELEASES.map(|_| Vec::new()));
        for _ in 0..rounds {
            direct.push(connect(clients)?);
            if !options.direct_only {
                for ((_, hold, forward_after), held) in RELEASES.iter().zip(&mut held) {
                    held.push(let_in(options, clients, hold, *forward_after)?);
                }
            }
        }
        let direct_ms = median(direct.iter().copied());
        if options.direct_only {
            println!("  {clients:>5}   {:<10} {direct_ms:>10.2}", "");
            continue;
        }
        for ((name, _, forward_after), held) in RELEASES.iter().zip(held) {
            let last = median(held.iter().map(|held| held.last));
            let first = median(held.iter().map(|held| held.first));
            let spread = median(held.iter().map(|held| held.last - held.first));
            let ratio = median(held.iter().zip(&direct).map(|(held, direct)| held.last / direct));
            let inversions = held.iter().map(|held| held.inversions).fold(0.0, f64::max);
            println!(
                "  {clients:>5}   {name:<10} {direct_ms:>10.2} {last:>9.2}  {ratio:>6.2}  {first:>14.2}  {spread:>10.2}  {inversions:>11}"
            );
            let what = format!("{clients} held clients ({name})");
            budgets.at_most(format!("{what}, inversions"), inversions, 0.0, "");
            if *forward_after == Some(DEFAULT_WAIT) {
                continue; // it waits on purpose
            }
            budgets.at_most(format!("{what} against the same directly"), ratio, 1.3, "×");
            if clients == 200 {
                budgets.at_most(format!("{what}, ready to first echo: spread"), spread, 10.0, "ms");
            }
        }
    }
    Ok(())
}

/// Milliseconds in which so many clients connect to a ready backend and echo once.
fn connect(clients: usize) -> Result<f64, Failure> {
    let site = Site::start(Target::Direct, false)?;
    let words = [
        ("connections", clients.to_string()),
        ("concurrency", CONCURRENCY.to_string()),
    ];
    let load = site.part("clients", &words)?;
    let result = load.event(Stream::Out, "result", PATIENCE)?;
    check_all_in(&result, clients)?;
    Ok(millis(&result["began"], &result["last_echo"]))
}

/// What one release measured: milliseconds from READY, and who was overtaken.
struct LetIn {
    first: f64,
    last: f64,
    inversions: f64,
}

fn let_in(options: &Options, clients: usize, hold: &str, forward_after: Option<&str>) -> Result<LetIn, Failure> {
    let mut settings = vec![("ROUTE__0__HOLD", hold.to_owned())];
    settings.extend(forward_after.map(|wait| ("ROUTE__0__FORWARD_AFTER", wait.to_owned())));
    let mut site = Site::start_with(Target::Greenroom(&options.greenroom), true, &settings)?;
    let mut words = vec![("connections", clients.to_string())];
    words.extend((hold == "accept").then(|| ("accepted", String::new())));
    let load = site.part("clients", &words)?;
    load.event(Stream::Out, "sent", PATIENCE)?;
    quiet(site.gateway().ok_or("no gateway")?)?;
    let ready = site.tell("ready")?["at"].clone();
    let result = load.event(Stream::Out, "result", PATIENCE + Duration::from_secs(30))?;
    check_all_in(&result, clients)?;
    let report = site.tell("report")?;
    if report["numbered"] != clients {
        return Err(format!("not every opening had a Greenroom-Session: {report}").into());
    }
    Ok(LetIn {
        first: millis(&ready, &result["first_echo"]),
        last: millis(&ready, &result["last_echo"]),
        inversions: report["inversions"].as_f64().unwrap_or(f64::NAN),
    })
}

pub(crate) fn check_all_in(result: &Value, clients: usize) -> Result<(), Failure> {
    if result["in"] == clients {
        Ok(())
    } else {
        Err(format!("not all of {clients} clients got in: {result}").into())
    }
}

/// From one moment to another, in milliseconds.
pub(crate) fn millis(from: &Value, to: &Value) -> f64 {
    match (from.as_u64(), to.as_u64()) {
        (Some(from), Some(to)) => clock::between(from, to).as_secs_f64() * 1e3,
        _ => f64::NAN,
    }
}
