//! From READY to the head at the backend, many times.
//!
//! Each time greenroom is started anew, with a stub that listens at once, and
//! one client that is held. After 20 to 120 ms the stub stamps the time, sends
//! READY=1, and stamps again when the client's whole head has arrived: that is
//! *signal → head received*, which includes waking the stub, so it is an upper
//! bound of *signal → head written*. The client stamps its 101. A thousand
//! starts take some three minutes.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use greenroom_audit::clock;
use hdrhistogram::Histogram;

use crate::frames::{is_101, request};
use crate::process::{Process, Stream};
use crate::site::{PATIENCE, address, greenroom};
use crate::stub::{SOCKET_PATIENCE, read_head};
use crate::table::Budgets;
use crate::{Failure, Options};

/// READY comes this long after listening, in microseconds.
const READY_AFTER: std::ops::Range<u64> = 20_000..120_000;

/// All starts, and their percentiles.
pub(crate) fn run(options: &Options, budgets: &mut Budgets) -> Result<(), Failure> {
    println!(
        "\nFrom READY to the head at the backend, {} starts with one held client each",
        options.starts
    );
    let mut heads = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut opens = heads.clone();
    let (mut seed, mut late) = (1_u64, 0);
    for _ in 0..options.starts {
        // Knuth's linear congruential generator; its high bits are good enough to spread a delay.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ready_after = READY_AFTER.start + (seed >> 33) % (READY_AFTER.end - READY_AFTER.start);
        let start = one(options, ready_after)?;
        if start.sent < start.ready {
            heads.saturating_record(start.head.saturating_sub(start.ready).max(1));
            opens.saturating_record(start.open.saturating_sub(start.ready).max(1));
        } else {
            late += 1;
        }
    }
    println!("                              p50 µs     p99 µs    p999 µs     max µs");
    for (name, histogram) in [("signal → head received", &heads), ("signal → 101", &opens)] {
        let [p50, p99, p999, max] = percentiles(histogram);
        println!("  {name:<24} {p50:>10.1} {p99:>10.1} {p999:>10.1} {max:>10.1}");
    }
    if late > 0 {
        println!("  ({late} starts not counted: READY came before the client's head was sent)");
    }
    let p99 = if heads.is_empty() {
        f64::NAN
    } else {
        percentiles(&heads)[1] / 1e3
    };
    budgets.at_most("pushed ready signal to head received, p99", p99, 1.0, "ms");
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn percentiles(histogram: &Histogram<u64>) -> [f64; 4] {
    [0.5, 0.99, 0.999, 1.0].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

/// Moments of one start.
struct Start {
    sent: u64,
    ready: u64,
    head: u64,
    open: u64,
}

fn one(options: &Options, ready_after: u64) -> Result<Start, Failure> {
    let part = ["stub".to_owned(), "--ready-after".into(), ready_after.to_string()];
    let mut greenroom: Process = greenroom(&options.greenroom, "notify", &part)?;
    let address = address(&greenroom.event(Stream::Err, "listening", PATIENCE)?)?;
    let mut client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(SOCKET_PATIENCE))?;
    client.write_all(&request(&address.to_string()))?;
    let sent = clock::now();
    let head = read_head(&mut client)?;
    let open = clock::now();
    if !is_101(&head) {
        return Err(format!("no 101: {}", String::from_utf8_lossy(&head)).into());
    }
    let stub = greenroom.event(Stream::Out, "stub", PATIENCE)?;
    drop(client);
    // The stub ends with its client, and greenroom with the stub.
    greenroom.ended(Duration::from_secs(2));
    let moment = |name: &str| stub[name].as_u64().ok_or_else(|| format!("no {name} in {stub}"));
    Ok(Start {
        sent,
        ready: moment("ready")?,
        head: moment("head")?,
        open,
    })
}
