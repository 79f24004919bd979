//! The load generator for plain HTTP: one thread, the same request again and again, nothing but counting.
//!
//! Speaks in the same lines as `load`: `open` when each connection has had one answer,
//! then at a line on its standard input it begins, prints `result`, and keeps its
//! connections until its standard input ends. With `--close` each request has a
//! connection of its own.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use greenroom_audit::clock;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::frames::head_end;
use crate::load::{CONNECTS, ECHO_PATIENCE, SCRATCH, Tally, lines, result, write_at};
use crate::process::cpu;

/// Bytes of an answer's head at the most.
const HEAD_MAX: usize = 4 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to.
    #[arg(long)]
    addr: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of an answer.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Requests per second, over all connections, at fixed moments.
    #[arg(long)]
    rate: Option<u32>,
    /// A connection for each request.
    #[arg(long)]
    close: bool,
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
        let kept = match arguments.rate {
            Some(rate) => open_loop(arguments, streams, &tally, rate).await?,
            None => closed_loop(arguments, streams, &tally).await,
        };
        let seconds = clock::between(began, clock::now()).as_secs_f64();
        println!("{}", result(&tally, seconds, cpu(std::process::id())? - used));
        lines.recv().await;
        drop(kept);
        Ok(())
    })
}

fn request(arguments: &Arguments) -> Rc<[u8]> {
    let connection = if arguments.close { "Connection: close\r\n" } else { "" };
    format!(
        "GET /{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nAccept: */*\r\n{connection}\r\n",
        arguments.size, arguments.addr
    )
    .into_bytes()
    .into()
}

/// Opens all connections, a few at a time, and has one answer on each.
async fn open(arguments: &Arguments) -> Result<Vec<TcpStream>, Failure> {
    if arguments.close {
        return Ok(Vec::new());
    }
    let places = Rc::new(Semaphore::new(CONNECTS));
    let mut opening = JoinSet::new();
    for _ in 0..arguments.connections {
        let (places, request) = (Rc::clone(&places), request(arguments));
        let (address, mut answers) = (arguments.addr, Answers::new(arguments.size));
        opening.spawn_local(async move {
            let _place = places.acquire().await.map_err(io::Error::other)?;
            let mut stream = connect(address).await?;
            ask(&mut stream, &request, &mut answers).await?;
            io::Result::Ok(stream)
        });
    }
    let mut streams = Vec::new();
    while let Some(opened) = opening.join_next().await {
        streams.push(opened??);
    }
    Ok(streams)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request, and its answer to the end.
async fn ask(stream: &mut TcpStream, request: &[u8], answers: &mut Answers) -> io::Result<()> {
    stream.write_all(request).await?;
    while answers.read(stream).await? == 0 {}
    Ok(())
}

/// Each answer lets the next request go.
async fn closed_loop(arguments: &Arguments, streams: Vec<TcpStream>, tally: &Rc<Tally>) -> Vec<TcpStream> {
    let mut streams = streams.into_iter();
    let mut running = JoinSet::new();
    for _ in 0..arguments.connections {
        let (tally, request, address) = (Rc::clone(tally), request(arguments), arguments.addr);
        let (mut stream, mut answers) = (streams.next(), Answers::new(arguments.size));
        running.spawn_local(async move {
            while !tally.is_over() {
                let due = clock::now();
                match &mut stream {
                    Some(stream) => ask(stream, &request, &mut answers).await?,
                    None => ask_alone(address, &request, &mut answers).await?,
                }
                tally.count(Some(due), clock::now());
            }
            io::Result::Ok(stream)
        });
    }
    let mut kept = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(stream)) => kept.extend(stream),
            Ok(Err(error)) => tally.failed(&error),
            Err(error) => tally.failed(&error),
        }
    }
    kept
}

async fn ask_alone(address: SocketAddr, request: &[u8], answers: &mut Answers) -> io::Result<()> {
    let mut stream = connect(address).await?;
    ask(&mut stream, request, answers).await?;
    match answers.read(&mut stream).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Ok(_) => Err(io::Error::other("more than an answer")),
        Err(error) => Err(error),
    }
}

/// Requests are due at fixed moments; see `load`.
async fn open_loop(
    arguments: &Arguments,
    streams: Vec<TcpStream>,
    tally: &Rc<Tally>,
    rate: u32,
) -> Result<Vec<TcpStream>, Failure> {
    let connections = u64::try_from(streams.len())?;
    let step = 1_000_000_000 / u64::from(rate.max(1));
    let (begin, end) = (clock::now(), tally.end());
    let mut writers = Vec::new();
    let mut readers = JoinSet::new();
    for (stream, index) in streams.into_iter().zip(0..) {
        let stream = stream.into_std()?;
        writers.push(stream.try_clone()?);
        let mut stream = TcpStream::from_std(stream)?;
        let (tally, mut answers) = (Rc::clone(tally), Answers::new(arguments.size));
        readers.spawn_local(async move {
            let mut due = begin + step * (1 + index);
            while let Ok(count) = answers.read(&mut stream).await {
                let now = clock::now();
                for _ in 0..count {
                    tally.count(Some(due), now);
                    due += step * connections;
                }
            }
        });
    }
    let request = request(arguments);
    let request = request.to_vec();
    let writing = tokio::task::spawn_blocking(move || write_at(&writers, &request, begin, step, end));
    let sent = writing.await??;
    let deadline = clock::now() + ECHO_PATIENCE;
    while tally.messages() < sent && clock::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tally.set_failures(sent.saturating_sub(tally.messages()));
    readers.shutdown().await;
    Ok(Vec::new())
}

/// Counts answers in what comes back: each is a 200 with `size` bytes.
struct Answers {
    size: usize,
    head: Vec<u8>,
    /// Bytes of the body that are still to come, behind a head.
    left: Option<usize>,
}

thread_local! {
    static IN: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

impl Answers {
    fn new(size: usize) -> Self {
        Self {
            size,
            head: Vec::new(),
            left: None,
        }
    }

    /// Waits, reads once, and says how many answers that completed.
    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<u64> {
        loop {
            stream.readable().await?;
            let read = IN.with_borrow_mut(|scratch| match stream.try_read(scratch) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.take(&scratch[..read]),
                Err(error) => Err(error),
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> io::Result<u64> {
        let mut count = 0;
        while !bytes.is_empty() {
            let Some(left) = &mut self.left else {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                match head_end(&self.head) {
                    Some(end) if self.head.starts_with(b"HTTP/1.1 200 ") => {
                        bytes = &bytes[end - before..];
                        self.head.clear();
                        self.left = Some(self.size);
                        count += self.end_of_body();
                    }
                    None if self.head.len() < HEAD_MAX => return Ok(count),
                    _ => return Err(io::Error::other(String::from_utf8_lossy(&self.head).into_owned())),
                }
                continue;
            };
            let part = bytes.len().min(*left);
            *left -= part;
            bytes = &bytes[part..];
            count += self.end_of_body();
        }
        Ok(count)
    }

    fn end_of_body(&mut self) -> u64 {
        let ended = self.left == Some(0);
        if ended {
            self.left = None;
        }
        u64::from(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_at_any_split_and_another_status_is_noticed() {
        for size in [0, 5] {
            let answer = format!("HTTP/1.1 200 OK\r\nX: y\r\n\r\n{}", "x".repeat(size)).repeat(3);
            for step in 1..answer.len() {
                let mut answers = Answers::new(size);
                let counts = answer.as_bytes().chunks(step).map(|chunk| answers.take(chunk).unwrap());
                assert_eq!(counts.sum::<u64>(), 3, "{size} {step}");
            }
        }
        assert!(Answers::new(5).take(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").is_err());
    }
}
