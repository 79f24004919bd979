//! What a Prometheus scrape costs of a greenroom that has many clients, and what those notice of it.
//!
//! The same clients are held first and relayed then, and do nothing: scrapes one after the other, of which is told how long
//! they take and how much CPU each is. Then so many relayed connections echo at a fixed rate, once by themselves and once
//! while somebody scrapes ten times a second, which is far more often than anybody does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::process::{Stream, cpu, quiet};
use crate::rivals::Files;
use crate::runs::check_all_in;
use crate::site::{Echoed, PATIENCE, Site, Target};
use crate::{Failure, Options, admin};

/// Scrapes one after the other: so many that the kernel's ticks of 10 ms tell the CPU of one.
const SCRAPES: u32 = 200;
/// Messages a second, over all connections.
const RATE: usize = 2_000;
/// From one scrape to the next while messages flow.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long so many clients may take to come.
const CROWD_PATIENCE: Duration = Duration::from_secs(60);

/// The tables.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let clients = options.scraped;
    let files = Files::new("scrape")?;
    let socket = files.path("admin");
    let settings = [
        ("ADMIN__SOCKET", socket.display().to_string()),
        ("BACKEND__APP__HELD_MAX", clients.to_string()),
    ];
    let mut site = Site::start_with(Target::Greenroom(&options.greenroom), true, &settings)?;
    let pid = site.gateway().ok_or("no gateway")?;
    println!("\nScrapes of a greenroom with {clients} clients, {SCRAPES} one after the other");
    println!("  clients are     p50 ms    max ms   CPU ms each     bytes");
    one_after_the_other("none there", pid, &socket)?;
    let words = [("connections", clients.to_string())];
    let load = site.part("clients", &words)?;
    load.event(Stream::Out, "sent", CROWD_PATIENCE)?;
    one_after_the_other("held", pid, &socket)?;
    site.tell("ready")?;
    check_all_in(&load.event(Stream::Out, "result", CROWD_PATIENCE)?, clients)?;
    one_after_the_other("relayed", pid, &socket)?;
    drop(load);
    admin::emptied(&socket, PATIENCE)?;
    println!("  Echoes, {RATE} a second over as many connections, from the moment when each was due");
    println!("                  p50 µs    p99 µs   p999 µs    max µs   scrapes");
    for is_scraped in [false, true] {
        let (scrapes, over) = (AtomicUsize::new(0), AtomicBool::new(!is_scraped));
        let echoed: Result<Echoed, Failure> = std::thread::scope(|scope| {
            let scraping = scope.spawn(|| again_and_again(&socket, &scrapes, &over));
            let arguments = [("connections", clients.to_string()), ("rate", RATE.to_string())];
            let echoed = site.echo(&arguments, options.seconds);
            over.store(true, Ordering::Relaxed);
            scraping.join().map_err(|_| "the thread that scrapes has ended")??;
            echoed
        });
        let latency = echoed?.latency;
        let [p50, p99, p999, max] =
            ["p50", "p99", "p999", "max"].map(|name| latency[name].as_f64().unwrap_or(f64::NAN));
        let name = if is_scraped { "scraped" } else { "by themselves" };
        let scrapes = scrapes.into_inner();
        println!("  {name:<13} {p50:>8.0} {p99:>9.0} {p999:>9.0} {max:>9.0} {scrapes:>9}");
        admin::emptied(&socket, PATIENCE)?;
    }
    Ok(())
}

fn one_after_the_other(clients: &str, pid: u32, socket: &Path) -> Result<(), Failure> {
    quiet(pid)?;
    let before = cpu(pid)?;
    let (mut took, mut bytes) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        let began = Instant::now();
        bytes = admin::scrape(socket)?.len();
        took.push(began.elapsed());
    }
    let each = (cpu(pid)? - before) * 1e3 / f64::from(SCRAPES);
    took.sort_unstable();
    let [p50, max] = [took[took.len() / 2], took[took.len() - 1]].map(|time| time.as_secs_f64() * 1e3);
    println!("  {clients:<13} {p50:>8.2}  {max:>8.2}  {each:>12.2}  {bytes:>8}");
    Ok(())
}

fn again_and_again(socket: &Path, scrapes: &AtomicUsize, over: &AtomicBool) -> Result<(), Failure> {
    while !over.load(Ordering::Relaxed) {
        admin::scrape(socket)?;
        scrapes.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}
