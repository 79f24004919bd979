//! What greenroom says of itself on its admin socket: `GET /metrics`, read as numbers by name.
//!
//! Bounded: an answer of at most [`ANSWER_MAX`], within [`PATIENCE`].

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::site::PATIENCE;

/// Bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;
/// The gauges that are 0 when nobody is there.
const GAUGES: [&str; 3] = ["greenroom_held{", "greenroom_connections{", "greenroom_early_bytes"];

/// All samples of a scrape.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Asks greenroom for numbers.
pub(crate) fn metrics(socket: &Path) -> Result<Samples, Failure> {
    Ok(samples(&scrape(socket)?))
}

/// One scrape: the whole answer.
pub(crate) fn scrape(socket: &Path) -> Result<String, Failure> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        return Err(format!("no metrics: {answer}").into());
    }
    Ok(answer)
}

fn samples(text: &str) -> Samples {
    let lines = text.lines().filter(|line| line.starts_with("greenroom_"));
    lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// The gauges of clients that are not 0.
pub(crate) fn left(samples: &Samples) -> Vec<String> {
    let left = |(name, value): &(&String, &f64)| GAUGES.iter().any(|gauge| name.starts_with(gauge)) && **value != 0.0;
    let told = |(name, value): (&String, &f64)| format!("{name} {value}");
    samples.iter().filter(left).map(told).collect()
}

/// Waits until all of them are 0; how long that took.
pub(crate) fn emptied(socket: &Path, patience: Duration) -> Result<Duration, Failure> {
    let began = Instant::now();
    loop {
        let left = left(&metrics(socket)?);
        if left.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > patience {
            return Err(format!("{patience:?} after all clients have gone: {}", left.join(", ")).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gauges_of_clients_are_left_and_counters_are_not() {
        let samples = samples(
            "HTTP/1.1 200 OK\r\n\r\n# TYPE greenroom_held gauge\ngreenroom_held{backend=\"a\",kind=\"websocket\"} 0\n\
             greenroom_held{backend=\"b\",kind=\"websocket\"} 2\ngreenroom_connections{state=\"held\"} 0\n\
             greenroom_early_bytes 5\r\ngreenroom_accepted_total 9\n",
        );
        assert_eq!(samples["greenroom_accepted_total"], 9.0);
        assert_eq!(
            left(&samples),
            [
                "greenroom_early_bytes 5",
                "greenroom_held{backend=\"b\",kind=\"websocket\"} 2"
            ]
        );
    }
}
