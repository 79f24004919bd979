//! The clients of an opening: all of them come at once, and each echoes once when it is let in.
//!
//! Speaks with who started it in lines: prints `sent` when all have said what they can say before they are let in
//! (their heads; with `--accepted` their messages too), `result` when all are through. With `--close` each closes
//! after its echo, as RFC 6455 has it; else they are kept until standard input ends, so that the gateway can be
//! looked at. One thread. Bounded by `--connections`.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use greenroom_audit::clock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::frames::{CLIENT_CLOSE, client_frame, head_end, is_101, request, server_frame};
use crate::load::{CONNECTS, lines};

/// Clients of one address: an address has some 28,000 ports, and the kernel finds a free one quickly only
/// while less than half of them are taken.
const PER_ADDRESS: usize = 10_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to.
    #[arg(long)]
    addr: SocketAddr,
    /// Clients.
    #[arg(long)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 125)]
    size: usize,
    /// Handshakes under way at one time (without it: all).
    #[arg(long)]
    concurrency: Option<usize>,
    /// They get a 101 before they are let in, and send their message then.
    #[arg(long)]
    accepted: bool,
    /// They send nothing before `go` comes in a line, though they have a 101.
    #[arg(long)]
    silent: bool,
    /// Each closes after its echo.
    #[arg(long)]
    close: bool,
}

/// What all clients share.
struct Shared {
    address: SocketAddr,
    connects: Semaphore,
    handshakes: Semaphore,
    head: Vec<u8>,
    frame: Vec<u8>,
    echo: Vec<u8>,
    accepted: bool,
    silent: bool,
    close: bool,
    sent: Cell<usize>,
    told: Notify,
    /// Closed while messages are kept back.
    may_speak: Semaphore,
}

/// How one client fared.
struct Through {
    stream: Option<TcpStream>,
    opened: u64,
    echoed: u64,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    let mut lines = lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let _kept = open(arguments, &mut lines).await?;
        lines.recv().await;
        Ok(())
    })
}

/// All come, `sent` is printed, and each client that is let in echoes once.
async fn open(
    arguments: &Arguments,
    lines: &mut tokio::sync::mpsc::Receiver<String>,
) -> Result<Vec<TcpStream>, Failure> {
    let shared = Rc::new(Shared {
        address: arguments.addr,
        connects: Semaphore::new(CONNECTS),
        handshakes: Semaphore::new(arguments.concurrency.unwrap_or(Semaphore::MAX_PERMITS)),
        head: request(&arguments.addr.to_string()),
        frame: client_frame(arguments.size),
        echo: server_frame(arguments.size),
        accepted: arguments.accepted,
        silent: arguments.silent,
        close: arguments.close,
        sent: Cell::new(0),
        told: Notify::new(),
        may_speak: Semaphore::new(if arguments.silent { 0 } else { arguments.connections }),
    });
    let began = clock::now();
    let mut clients = JoinSet::new();
    for number in 0..arguments.connections {
        clients.spawn_local(client(Rc::clone(&shared), number));
    }
    while shared.sent.get() < arguments.connections && arguments.concurrency.is_none() {
        shared.told.notified().await;
    }
    println!(
        "{}",
        json!({"event": "sent", "began": began, "at": clock::now(), "head_bytes": shared.head.len()})
    );
    if arguments.silent {
        lines.recv().await;
        shared.may_speak.add_permits(arguments.connections);
    }
    let (mut streams, mut opened, mut echoed, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(client) = clients.join_next().await {
        match client? {
            Ok(through) => {
                streams.extend(through.stream);
                opened.push(through.opened);
                echoed.push(through.echoed);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    println!(
        "{}",
        json!({
            "event": "result", "began": began, "in": echoed.len(), "failures": failures.len(),
            "failure": failures.first(), "ended": clock::now(),
            "first_open": opened.iter().min(), "last_open": opened.iter().max(),
            "first_echo": echoed.iter().min(), "last_echo": echoed.iter().max(),
        })
    );
    Ok(streams)
}

/// Dropped when a client has said what it can say before it is let in, or fails.
struct Said(Rc<Shared>);

impl Drop for Said {
    fn drop(&mut self) {
        self.0.sent.set(self.0.sent.get() + 1);
        self.0.told.notify_one();
    }
}

async fn client(shared: Rc<Shared>, number: usize) -> io::Result<Through> {
    let said = Said(Rc::clone(&shared));
    let handshake = shared.handshakes.acquire().await.map_err(io::Error::other)?;
    let mut stream = {
        let _connect = shared.connects.acquire().await.map_err(io::Error::other)?;
        connect(shared.address, number).await?
    };
    stream.set_nodelay(true)?;
    stream.write_all(&shared.head).await?;
    let mut said = Some(said);
    if !shared.accepted {
        said = None;
    }
    read_101(&mut stream).await?;
    drop(handshake);
    let opened = clock::now();
    if shared.silent {
        said = None;
    }
    drop(shared.may_speak.acquire().await.map_err(io::Error::other)?);
    stream.write_all(&shared.frame).await?;
    drop(said);
    read_echo(&mut stream, &shared.echo).await?;
    let echoed = clock::now();
    if !shared.close {
        let stream = Some(stream);
        return Ok(Through { stream, opened, echoed });
    }
    stream.write_all(&CLIENT_CLOSE).await?;
    let mut closed = [0; 2];
    stream.read_exact(&mut closed).await?;
    if closed != [0x88, 0] {
        return Err(io::Error::other("a wrong answer to a Close"));
    }
    let stream = None;
    Ok(Through { stream, opened, echoed })
}

/// Reads the echo, and answers the Pings that come before it.
async fn read_echo(stream: &mut TcpStream, echo: &[u8]) -> io::Result<()> {
    loop {
        let mut frame = vec![0; 2];
        stream.read_exact(&mut frame).await?;
        let is_ping = frame[0] == 0x89;
        let len = if is_ping { 2 + usize::from(frame[1]) } else { echo.len() };
        frame.resize(len, 0);
        stream.read_exact(&mut frame[2..]).await?;
        if !is_ping {
            let wrong = || io::Error::other("a wrong echo");
            return if frame == echo { Ok(()) } else { Err(wrong()) };
        }
        let mut pong = vec![0x8a, 0x80 | frame[1], 0, 0, 0, 0];
        pong.extend_from_slice(&frame[2..]);
        stream.write_all(&pong).await?;
    }
}

/// Connects from one of several addresses of this machine where one has not ports enough.
pub(crate) async fn connect(to: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let more = u8::try_from(number / PER_ADDRESS).unwrap_or(u8::MAX);
    if more == 0 || !to.ip().is_loopback() {
        return TcpStream::connect(to).await;
    }
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((IpAddr::V4(Ipv4Addr::new(127, 0, 1, more)), 0)))?;
    socket.connect(to).await
}

/// Reads a 101, and not a byte more: nothing was sent that could be answered yet.
pub(crate) async fn read_101(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while head_end(&head).is_none() {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if is_101(&head) && head_end(&head) == Some(head.len()) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "no clean 101: {:?}",
        String::from_utf8_lossy(&head)
    )))
}
