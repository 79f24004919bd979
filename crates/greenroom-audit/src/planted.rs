//! A server with planted faults that stamps them, so that the audit can be held against the truth.
//!
//! Each [`Stamp`] holds the moments just before and just after the thing happened, on the clock of
//! the measurements; it is written as a line of JSON. Faults of messages come from a seed. What it does is what real
//! servers do; see `examples/zoo` and `tests/e2e` for those.
//!
//! Bounded by [`limits`].

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as Turn, Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

use crate::audit::plan::Dice;
use crate::audit::record::Interval;
use crate::backend::{BackendError, bind};
use crate::misdeeds::{self, Misdeed, Shared};
use crate::{clock, limits};

/// See [`Planted::fails`].
const FAILS_AFTER: Duration = Duration::from_millis(100);

/// What a client meets that comes before the server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Early {
    /// It waits, and is served when the server is ready: no fault.
    Waits,
    /// 101, and a Close with this code so long after it.
    Close(u16, Duration),
    /// An HTTP status.
    Status(u16),
    /// The end of the connection.
    Cut,
    /// A reset of the connection, its head unread.
    Reset,
    /// Nothing, for ever.
    Silence,
    /// 101, and its messages are read and thrown away until the server is ready.
    Deaf,
    /// Nothing, for ever, and the start-up never ends: a deadlock of the first client and it.
    Deadlock,
}

/// How the server is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planted {
    /// From the start to listening.
    pub listen_after: Duration,
    /// From the start to ready.
    pub ready_after: Duration,
    /// What a client meets in between.
    pub early: Early,
    /// From the 101 to the handler: messages that come meanwhile are lost.
    pub handler_after: Duration,
    /// The probability with which the first message of a connection is lost.
    pub loses_first: f64,
    /// The probability with which a message is answered twice.
    pub doubles: f64,
    /// The probability with which an answer waits for the one behind it.
    pub reorders: f64,
    /// The probability with which a client is answered with 502 that comes a tenth of a second, or more, after it became ready:
    /// others have been answered then.
    pub fails: f64,
    /// What each client costs at its first message: so long nobody else is answered for the first time.
    pub works: Duration,
    /// Starts behind this one, of those that left a stamp, cost nothing: what was read from a disk is in a cache by then.
    pub warm_after: Option<usize>,
    /// What else it does to messages.
    pub misdeed: Option<Misdeed>,
    /// The start with this number, from 1, never becomes ready; stamps tell which it is.
    pub never_ready: Option<usize>,
    /// Chooses those.
    pub seed: u64,
    /// It ends with exit code 3 so long after it became ready.
    pub ends_after: Option<Duration>,
    /// Where stamps go.
    pub stamps: Option<PathBuf>,
}

impl Planted {
    /// A good one: it listens when it is ready.
    #[must_use]
    pub const fn good(ready_after: Duration) -> Self {
        Self {
            listen_after: ready_after,
            ready_after,
            early: Early::Waits,
            handler_after: Duration::ZERO,
            loses_first: 0.0,
            doubles: 0.0,
            reorders: 0.0,
            fails: 0.0,
            works: Duration::ZERO,
            warm_after: None,
            misdeed: None,
            never_ready: None,
            seed: 1,
            ends_after: None,
            stamps: None,
        }
    }
}

/// One thing that happened; moments of [`crate::clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// It began to listen.
    Listening(Interval),
    /// It became ready.
    Ready(Interval),
    /// A handler was attached so long after its 101 began to be written: from, at the least, to, at the most.
    Handler(Interval),
    /// A first message was lost on purpose.
    Lost,
    /// A connection was handled without that.
    Kept,
}

/// The whole of a planted server at `127.0.0.1:$PORT`, for ever. `description` is a [`Planted`] as JSON.
///
/// # Errors
/// When the description is not valid, or it cannot listen.
pub fn planted_main(description: &str) -> Result<(), BackendError> {
    let mut planted: Planted = serde_json::from_str(description)?;
    let start = starts_before(&planted) + 1;
    if planted.never_ready == Some(start) {
        planted.ready_after = Duration::MAX;
    }
    if planted.warm_after.is_some_and(|cold| start > cold) {
        planted.works = Duration::ZERO;
    }
    let port = std::env::var("PORT").ok();
    let number: Option<u16> = port.as_deref().and_then(|port| port.parse().ok());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number.ok_or(BackendError::Port(port))?));
    let stamps = match &planted.stamps {
        None => None,
        Some(path) => match std::fs::OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(Mutex::new(file)),
            Err(source) => {
                let path = path.clone();
                return Err(BackendError::Record { path, source });
            }
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server {
        planted,
        stamps,
        ready: AtomicBool::new(false),
        ready_at: OnceLock::new(),
        stuck: AtomicBool::new(false),
        is_ready: Notify::new(),
        turn: Turn::new(()),
        shared: Shared::default(),
    };
    // One process, one server, until it is killed.
    runtime.block_on(serve(Box::leak(Box::new(server)), address))?;
    Ok(())
}

/// How many starts have left their stamp.
fn starts_before(planted: &Planted) -> usize {
    let stamps = planted
        .stamps
        .as_ref()
        .and_then(|path| std::fs::read_to_string(path).ok());
    stamps.map_or(0, |stamps| stamps.matches("listening").count())
}

struct Server {
    planted: Planted,
    stamps: Option<Mutex<std::fs::File>>,
    ready: AtomicBool,
    ready_at: OnceLock<Instant>,
    stuck: AtomicBool,
    is_ready: Notify,
    turn: Turn<()>,
    shared: Shared,
}

impl Server {
    fn stamp(&self, stamp: Stamp) {
        let (Some(file), Ok(mut line)) = (&self.stamps, serde_json::to_vec(&stamp)) else {
            return;
        };
        line.push(b'\n');
        if let Ok(mut file) = file.lock() {
            file.write_all(&line).ok(); // who reads the stamps misses it
        }
    }

    async fn until_ready(&self) {
        loop {
            let told = self.is_ready.notified();
            if self.ready.load(Ordering::Acquire) {
                return;
            }
            told.await;
        }
    }
}

async fn serve(server: &'static Server, address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    let socket = bind(address)?;
    sleep_until(began + server.planted.listen_after).await;
    // A good one is ready before it listens.
    let good = server.planted.listen_after >= server.planted.ready_after;
    if good {
        become_ready(server);
    }
    let before = clock::now();
    let listener = socket.listen(limits::BACKEND_BACKLOG)?;
    server.stamp(Stamp::Listening(Interval::new(before, clock::now())));
    if !good {
        tokio::spawn(async move {
            sleep(server.planted.ready_after.saturating_sub(began.elapsed())).await;
            if !server.stuck.load(Ordering::Acquire) {
                become_ready(server);
            }
        });
    }
    let places: &'static Semaphore = Box::leak(Box::new(Semaphore::new(limits::BACKEND_CONNECTIONS)));
    let mut dice = Dice::new(server.planted.seed, u64::from(std::process::id()));
    loop {
        let place = places.acquire().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        let (loses, fails) = (
            dice.unit() < server.planted.loses_first,
            dice.unit() < server.planted.fails,
        );
        let own = Dice::new(dice.next_u64(), 1);
        tokio::spawn(async move {
            let attended = async {
                if fails && server.ready_at.get().is_some_and(|at| at.elapsed() > FAILS_AFTER) {
                    return refuse(stream, Some(502)).await;
                }
                attend(server, stream, loses, own).await
            };
            attended.await.ok(); // errors are the other side's affair
            drop(place);
        });
    }
}

fn become_ready(server: &'static Server) {
    let before = clock::now();
    server.ready_at.set(Instant::now()).ok();
    server.ready.store(true, Ordering::Release);
    let after = clock::now();
    server.is_ready.notify_waiters();
    server.stamp(Stamp::Ready(Interval::new(before, after)));
    if let Some(Misdeed::StandsStill(after, long)) = server.planted.misdeed {
        tokio::spawn(async move {
            sleep(after).await;
            std::thread::sleep(long); // the only thread that there is
        });
    }
    if let Some(after) = server.planted.ends_after {
        tokio::spawn(async move {
            sleep(after).await;
            std::process::exit(3);
        });
    }
}

async fn attend(
    server: &'static Server,
    stream: TcpStream,
    loses: bool,
    dice: Dice,
) -> Result<(), tokio_websockets::Error> {
    stream.set_nodelay(true)?;
    stream.readable().await?;
    if !server.ready.load(Ordering::Acquire) {
        match server.planted.early {
            Early::Waits => server.until_ready().await,
            Early::Silence => return silent(stream).await,
            Early::Deadlock => {
                server.stuck.store(true, Ordering::Release);
                return silent(stream).await;
            }
            Early::Cut => return refuse(stream, None).await,
            Early::Status(status) => return refuse(stream, Some(status)).await,
            Early::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Early::Close(code, after) => {
                let (_, socket) = ServerBuilder::new().accept(stream).await?;
                return close(socket, code, after).await;
            }
            Early::Deaf => {
                let (_, mut socket) = ServerBuilder::new().accept(stream).await?;
                let deaf = async { while let Some(Ok(_)) = socket.next().await {} };
                tokio::select! {
                    () = deaf => return Ok(()),
                    () = server.until_ready() => {}
                }
                return handle(server, socket, loses, dice).await;
            }
        }
    }
    let before = clock::now();
    let (_, mut socket) = ServerBuilder::new().accept(stream).await?;
    if !server.planted.handler_after.is_zero() {
        let opened = clock::now();
        let until = Instant::now() + server.planted.handler_after;
        // There is no handler: what comes is read from the socket, and nobody looks at it.
        loop {
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                message = socket.next() => match message {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Ok(()),
                }
            }
        }
        let attached = clock::now();
        server.stamp(Stamp::Handler(Interval::new(attached - opened, attached - before)));
    }
    handle(server, socket, loses, dice).await
}

/// Answers a head with this status and ends the connection, or only ends it.
async fn refuse(mut stream: TcpStream, status: Option<u16>) -> Result<(), tokio_websockets::Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < greenroom_core::limits::HEAD_MAX {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if let Some(status) = status {
        let answer = format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    stream.shutdown().await?;
    Ok(())
}

async fn silent(mut stream: TcpStream) -> Result<(), tokio_websockets::Error> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

async fn close(
    mut socket: WebSocketStream<TcpStream>,
    code: u16,
    after: Duration,
) -> Result<(), tokio_websockets::Error> {
    sleep(after).await;
    let code = CloseCode::try_from(code).unwrap_or(CloseCode::INTERNAL_SERVER_ERROR);
    socket.send(Message::close(Some(code), "starting")).await?;
    // What the client had already sent is read, or the kernel would turn our end into a reset.
    let draining = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(limits::CLOSE_WAIT, draining).await.ok();
    Ok(())
}

/// An echo, with the faults of messages.
async fn handle(
    server: &Server,
    mut socket: WebSocketStream<TcpStream>,
    mut loses: bool,
    mut dice: Dice,
) -> Result<(), tokio_websockets::Error> {
    server.stamp(if loses { Stamp::Lost } else { Stamp::Kept });
    if let Some(misdeed) = server.planted.misdeed {
        return misdeeds::attend(misdeed, &server.shared, socket, dice).await;
    }
    let mut works = server.planted.works;
    let mut held: Option<Message> = None;
    for number in 0_u64.. {
        let Some(message) = socket.next().await else { break };
        let message = message?;
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        // Also for who has gone meanwhile: it does not look.
        if !works.is_zero() {
            let _turn = server.turn.lock().await;
            sleep(std::mem::take(&mut works)).await;
        }
        if std::mem::take(&mut loses) {
            continue;
        }
        // The first and the last of an odd number of messages are never the ones that wait.
        if held.is_none() && number % 2 == 1 && dice.unit() < server.planted.reorders {
            held = Some(message); // it goes behind the next
            continue;
        }
        if dice.unit() < server.planted.doubles {
            socket.send(message.clone()).await?;
        }
        socket.send(message).await?;
        if let Some(held) = held.take() {
            socket.send(held).await?;
        }
    }
    Ok(())
}
