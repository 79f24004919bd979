//! The load generator: one thread, frames made beforehand, nothing but counting.
//!
//! Speaks with who started it in lines: prints `open` when all
//! connections are there, begins at a line on its standard input, prints
//! `result`, and keeps its connections until its standard input ends, so that
//! the gateway can be looked at before, between and after.
//!
//! Latency without `--rate` is from the moment a message was due to be written
//! (closed loop). With `--rate` messages are due at fixed moments, whatever
//! became of the earlier ones, and latency is from the moment each was due: a
//! gateway that stalls is charged for everything it kept waiting.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use greenroom_audit::clock;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::clients::read_101;
use crate::frames::{BINARY, client_frame, request, server_frame};
use crate::process::cpu;

/// Bytes read at once, for all connections together.
pub(crate) const SCRATCH: usize = 64 * 1024;
/// Connects under way at one time: well below any backlog.
pub(crate) const CONNECTS: usize = 64;
/// How long the last echoes of an open loop may take, in nanoseconds.
pub(crate) const ECHO_PATIENCE: u64 = 5_000_000_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to.
    #[arg(long)]
    addr: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages under way per connection.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 125)]
    size: usize,
    /// How long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Messages per second, over all connections, at fixed moments.
    #[arg(long)]
    rate: Option<u32>,
}

/// What all connections count together.
pub(crate) struct Tally {
    latency: RefCell<Histogram<u64>>,
    messages: Cell<u64>,
    /// Echoes of messages due before this are counted, but their latency is not: warming up.
    warm: Cell<u64>,
    /// After this nothing is sent.
    end: Cell<u64>,
    failures: Cell<u64>,
}

/// The lines of standard input; the channel closes when it ends.
pub(crate) fn lines() -> tokio::sync::mpsc::Receiver<String> {
    let (told, lines) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        io::stdin()
            .lock()
            .lines()
            .map_while(Result::ok)
            .all(|line| told.blocking_send(line).is_ok())
    });
    lines
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    let mut lines = lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let streams = open(arguments).await?;
        println!("{}", json!({"event": "open", "connections": streams.len()}));
        if lines.recv().await.is_none() {
            return Ok(());
        }
        let (began, used) = (clock::now(), cpu(std::process::id())?);
        let tally = Rc::new(Tally::new(began, Duration::from_secs_f64(arguments.seconds))?);
        let streams = match arguments.rate {
            None => closed_loop(arguments, streams, &tally).await,
            Some(rate) => open_loop(arguments, streams, &tally, rate).await?,
        };
        let seconds = clock::between(began, clock::now()).as_secs_f64();
        println!("{}", result(&tally, seconds, cpu(std::process::id())? - used));
        lines.recv().await;
        drop(streams);
        Ok(())
    })
}

pub(crate) fn result(tally: &Tally, seconds: f64, cpu: f64) -> serde_json::Value {
    let latency = tally.latency.borrow();
    #[allow(clippy::cast_precision_loss)]
    let micros = |nanos: u64| nanos as f64 / 1e3;
    json!({
        "event": "result",
        "messages": tally.messages.get(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "failures": tally.failures.get(),
        "latency_us": {
            "p50": micros(latency.value_at_quantile(0.5)),
            "p99": micros(latency.value_at_quantile(0.99)),
            "p999": micros(latency.value_at_quantile(0.999)),
            "max": micros(latency.max()),
        },
    })
}

// ── Opening ────────────────────────────────────────────────────────────────

/// Opens all connections, a few at a time.
async fn open(arguments: &Arguments) -> Result<Vec<TcpStream>, Failure> {
    let places = Rc::new(Semaphore::new(CONNECTS));
    let mut opening = JoinSet::new();
    for _ in 0..arguments.connections {
        let (places, address) = (Rc::clone(&places), arguments.addr);
        opening.spawn_local(async move {
            let _place = places.acquire().await.map_err(io::Error::other)?;
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&request(&address.to_string())).await?;
            read_101(&mut stream).await?;
            io::Result::Ok(stream)
        });
    }
    let mut streams = Vec::new();
    while let Some(opened) = opening.join_next().await {
        streams.push(opened??);
    }
    Ok(streams)
}

// ── Closed loop ────────────────────────────────────────────────────────────

async fn closed_loop(arguments: &Arguments, streams: Vec<TcpStream>, tally: &Rc<Tally>) -> Vec<TcpStream> {
    let frame = client_frame(arguments.size);
    let frames: Rc<[u8]> = frame.repeat(arguments.in_flight + 1).into();
    let mut running = JoinSet::new();
    for stream in streams {
        let mut connection = Connection {
            stream,
            frames: Rc::clone(&frames),
            frame: frame.len(),
            echo: Incoming::new(arguments.size),
            offset: 0,
            unsent: 0,
            due: VecDeque::with_capacity(arguments.in_flight),
        };
        for _ in 0..arguments.in_flight {
            connection.send();
        }
        let tally = Rc::clone(tally);
        running.spawn_local(async move {
            if poll_fn(|cx| connection.poll(cx, &tally)).await.is_err() {
                tally.failures.set(tally.failures.get() + 1);
            }
            connection.stream
        });
    }
    running.join_all().await
}

/// One connection of the closed loop: each echo lets the next message go.
struct Connection {
    stream: TcpStream,
    /// The same frame again and again, so that any unsent part is one slice.
    frames: Rc<[u8]>,
    frame: usize,
    echo: Incoming,
    /// Where in a frame the unsent part begins, and how long it is.
    offset: usize,
    unsent: usize,
    due: VecDeque<u64>,
}

impl Connection {
    fn send(&mut self) {
        self.due.push_back(clock::now());
        self.unsent += self.frame;
    }

    /// Writes and reads what there is; ready when the time is over and all echoes are here.
    fn poll(&mut self, cx: &mut Context<'_>, tally: &Tally) -> Poll<io::Result<()>> {
        loop {
            let mut moved = false;
            if self.unsent > 0 {
                let unsent = &self.frames[self.offset..self.offset + self.unsent];
                if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, unsent) {
                    let written = written?;
                    self.unsent -= written;
                    self.offset = (self.offset + written) % self.frame;
                    moved = true;
                }
            }
            if let Poll::Ready(echoes) = self.echo.poll(&mut self.stream, cx) {
                let now = clock::now();
                for _ in 0..echoes? {
                    tally.count(self.due.pop_front(), now);
                    if now < tally.end.get() {
                        self.send();
                    }
                }
                moved = true;
            }
            if self.due.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

impl Tally {
    /// For a run that begins now, of which the first tenth warms up.
    pub(crate) fn new(began: u64, length: Duration) -> Result<Self, Failure> {
        let nanos = u64::try_from(length.as_nanos())?;
        Ok(Self {
            latency: RefCell::new(Histogram::new_with_bounds(1, 60_000_000_000, 3)?),
            messages: Cell::new(0),
            warm: Cell::new(began + nanos / 10),
            end: Cell::new(began + nanos),
            failures: Cell::new(0),
        })
    }

    pub(crate) fn count(&self, due: Option<u64>, now: u64) {
        self.messages.set(self.messages.get() + 1);
        if let Some(due) = due.filter(|due| *due >= self.warm.get()) {
            self.latency
                .borrow_mut()
                .saturating_record(now.saturating_sub(due).max(1));
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.get()
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.get()
    }

    /// Whether nothing more is to be sent.
    pub(crate) fn is_over(&self) -> bool {
        clock::now() >= self.end.get()
    }

    /// A connection that is of no use any more.
    pub(crate) fn failed(&self, error: &dyn std::fmt::Display) {
        eprintln!("bench load: {error}");
        self.failures.set(self.failures.get() + 1);
    }

    pub(crate) fn set_failures(&self, failures: u64) {
        self.failures.set(failures);
    }
}

/// Counts echoes in what comes back: all have one length, and each begins as it must.
struct Incoming {
    echo: usize,
    /// Bytes of the current echo that are here.
    have: usize,
}

thread_local! {
    static IN: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

impl Incoming {
    fn new(size: usize) -> Self {
        Self {
            echo: server_frame(size).len(),
            have: 0,
        }
    }

    /// How many echoes one read completed.
    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        IN.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            std::task::ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(self.take(buffer.filled()))
        })
    }

    fn take(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut echoes = 0;
        while let Some(&first) = bytes.first() {
            if self.have == 0 && first != BINARY {
                return Err(io::Error::other(format!(
                    "a frame that begins with {first:#x} is no echo"
                )));
            }
            let part = bytes.len().min(self.echo - self.have);
            bytes = &bytes[part..];
            self.have += part;
            if self.have == self.echo {
                self.have = 0;
                echoes += 1;
            }
        }
        Ok(echoes)
    }
}

// ── Open loop ──────────────────────────────────────────────────────────────

/// Message `k` is due at `begin + (k + 1) * step`, on connection `k % connections`: so
/// the reader of a connection knows when each of its messages was due.
///
/// A thread of its own writes: tokio's timer counts milliseconds, which is more
/// than what is measured here, and would wait for the readers besides.
async fn open_loop(
    arguments: &Arguments,
    streams: Vec<TcpStream>,
    tally: &Rc<Tally>,
    rate: u32,
) -> Result<Vec<TcpStream>, Failure> {
    let connections = u64::try_from(streams.len())?;
    let step = u64::try_from((Duration::from_secs(1) / rate.max(1)).as_nanos())?.max(1);
    let begin = clock::now();
    let mut writers = Vec::new();
    let mut readers = JoinSet::new();
    for (stream, connection) in streams.into_iter().zip(0..) {
        let stream = stream.into_std()?;
        writers.push(stream.try_clone()?);
        let mut stream = TcpStream::from_std(stream)?;
        let (tally, mut echo) = (Rc::clone(tally), Incoming::new(arguments.size));
        readers.spawn_local(async move {
            let mut dues = (0..).map(|turn| begin + (turn * connections + connection + 1) * step);
            while let Ok(echoes) = poll_fn(|cx| echo.poll(&mut stream, cx)).await {
                let now = clock::now();
                for _ in 0..echoes {
                    tally.count(dues.next(), now);
                }
            }
        });
    }
    let (frame, end) = (client_frame(arguments.size), tally.end.get());
    let writing = tokio::task::spawn_blocking(move || write_at(&writers, &frame, begin, step, end));
    let sent = writing.await??;
    let deadline = clock::now() + ECHO_PATIENCE;
    while tally.messages.get() < sent && clock::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tally.failures.set(sent.saturating_sub(tally.messages.get()));
    readers.shutdown().await;
    Ok(Vec::new())
}

/// Writes each frame at its moment, or at once when that is over; how many there were.
pub(crate) fn write_at(
    writers: &[std::net::TcpStream],
    frame: &[u8],
    begin: u64,
    step: u64,
    end: u64,
) -> io::Result<u64> {
    // Sleeping ends 50 µs late without this; where it is not allowed, direct and through suffer alike.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).ok();
    let mut sent = 0;
    let mut due = begin + step;
    for mut writer in writers.iter().cycle() {
        if due >= end {
            break;
        }
        std::thread::sleep(clock::between(clock::now(), due));
        // The sockets do not block, and at such rates one that does not take a small message at once is a failure.
        if writer.write(frame)? != frame.len() {
            return Err(io::Error::other("a connection does not keep up with the rate"));
        }
        sent += 1;
        due += step;
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes_are_counted_at_any_split_and_a_foreign_frame_is_noticed() {
        let bytes = server_frame(300).repeat(5);
        for step in [1, 7, 303, 304, 305, bytes.len()] {
            let mut incoming = Incoming::new(300);
            assert_eq!(
                bytes
                    .chunks(step)
                    .map(|chunk| incoming.take(chunk).unwrap())
                    .sum::<usize>(),
                5,
                "{step}"
            );
        }
        assert!(Incoming::new(300).take(&[0x88, 0]).is_err());
        assert!(Incoming::new(300).take(&[]).is_err());
    }
}
