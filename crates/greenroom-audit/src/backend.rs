//! A WebSocket server that is slow to start, and bad at it as real servers are.
//!
//! It passes through its phases, listens at once or only at the end, and until
//! it is ready sends away who comes: with 101 and then Close 1011, as servers
//! that accept before they can serve, or with 503. Once ready it echoes. Each
//! opening is written to a [`Journal`] with the session that greenroom sent.
//!
//! The *order* of the openings is exact on a runtime with one thread (as
//! [`backend_main`] has): a socket is read only after the kernel reported it
//! readable, the kernel reports sockets in the order in which they became so,
//! and the tasks run in the order of the reports.
//!
//! Bounded by [`limits`].

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder};

use crate::journal::{Journal, Record};
use crate::notify::Notifier;
use crate::{clock, limits};

/// What a client meets before the backend is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowListen {
    /// It listens `listen_after` the start, says 101, and closes with 1011 `close_after` later.
    Close1011 {
        /// From the start to listening.
        listen_after: Duration,
        /// From the 101 to the Close.
        close_after: Duration,
    },
    /// It listens `listen_after` the start and answers 503.
    Answer503 {
        /// From the start to listening.
        listen_after: Duration,
    },
    /// Connections are refused until it is ready.
    OnlyWhenReady,
}

impl SlowListen {
    /// Listens at once, says 101 and closes with 1011 `close_after` later.
    #[must_use]
    pub const fn at_once_1011(close_after: Duration) -> Self {
        Self::Close1011 {
            listen_after: Duration::ZERO,
            close_after,
        }
    }

    /// Listens at once and answers 503.
    #[must_use]
    pub const fn at_once_503() -> Self {
        Self::Answer503 {
            listen_after: Duration::ZERO,
        }
    }

    const fn listen_after(self) -> Duration {
        match self {
            Self::Close1011 { listen_after, .. } | Self::Answer503 { listen_after } => listen_after,
            Self::OnlyWhenReady => Duration::MAX,
        }
    }
}

/// A step of the start-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it takes.
    pub takes: Duration,
}

/// How a slow backend behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowBackend {
    /// What a client meets before the end of the start-up.
    pub listen: SlowListen,
    /// The start-up; ready after the last.
    pub phases: Vec<Phase>,
    /// Whether it sends STATUS and READY to `$NOTIFY_SOCKET`.
    pub notify: bool,
}

impl SlowBackend {
    /// One with phases of these names and lengths.
    #[must_use]
    pub fn new(listen: SlowListen, phases: &[(&str, Duration)], notify: bool) -> Self {
        let phases = phases
            .iter()
            .map(|&(name, takes)| Phase {
                name: name.to_owned(),
                takes,
            })
            .collect();
        Self { listen, phases, notify }
    }

    /// How long the start-up takes.
    #[must_use]
    pub fn startup(&self) -> Duration {
        self.phases.iter().map(|phase| phase.takes).sum()
    }
}

/// All that a backend in a process of its own has to know; one argument of the
/// command line, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendProcess {
    /// How it behaves.
    pub backend: SlowBackend,
    /// Where it listens; without it, at `127.0.0.1:$PORT`.
    pub address: Option<SocketAddr>,
    /// Where records go; without it, to standard output.
    pub record: Option<PathBuf>,
    /// Whether it ends when its standard input does, so that it never outlives who started it.
    pub until_stdin_ends: bool,
}

/// Why a backend process could not run.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The argument is no [`BackendProcess`].
    #[error("the description of the backend is not valid: {0}")]
    Description(#[from] serde_json::Error),
    /// No address and no PORT.
    #[error("PORT is {0:?}: the backend needs an address in its description, or PORT from greenroom")]
    Port(Option<String>),
    /// The file for the records cannot be opened.
    #[error("cannot write records to {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot listen, or has no runtime.
    #[error("the backend cannot run: {0}")]
    Io(#[from] io::Error),
}

/// The whole of a backend process: `description` is a [`BackendProcess`] as
/// JSON. Returns only when it could not run, or when it was told to end with
/// its standard input. May be called from within a runtime: it has its own, on a thread of its own.
///
/// # Errors
///
/// When the description is not valid, or it cannot listen.
pub fn backend_main(description: &str) -> Result<(), BackendError> {
    let process: BackendProcess = serde_json::from_str(description)?;
    let address = match process.address {
        Some(address) => address,
        None => {
            let port = std::env::var("PORT").ok();
            let number = port.as_deref().and_then(|port| port.parse().ok());
            SocketAddr::from((Ipv4Addr::LOCALHOST, number.ok_or(BackendError::Port(port))?))
        }
    };
    let out: Box<dyn io::Write + Send> = match process.record {
        None => Box::new(io::stdout()),
        Some(path) => match std::fs::OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Box::new(file),
            Err(source) => return Err(BackendError::Record { path, source }),
        },
    };
    let journal = Arc::new(Journal::new(Some(out)));
    let (done, ended) = std::sync::mpsc::sync_channel(2);
    if process.until_stdin_ends {
        let done = done.clone();
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(io::stdin().read(&mut byte), Ok(1)) {}
            done.send(Ok(())).ok();
        });
    }
    std::thread::spawn(move || {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { serve(&process.backend, bind(address)?, journal).await })
        };
        let Err(error) = run();
        done.send(Err(BackendError::Io(error))).ok();
    });
    ended.recv().unwrap_or(Ok(()))
}

/// Takes an address without listening there: connections are still refused,
/// and a client of the same process cannot be given the port.
///
/// # Errors
///
/// When the address cannot be taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Beside the reservation of whoever gave us the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Starts slowly at the address that `socket` has (see [`bind`]), then echoes for ever.
///
/// # Errors
///
/// When it cannot listen there.
pub async fn serve(config: &SlowBackend, socket: TcpSocket, journal: Arc<Journal>) -> io::Result<Infallible> {
    let began = tokio::time::Instant::now();
    let notifier = if config.notify { Notifier::from_env()? } else { None };
    let tell = |state: &str| notifier.as_ref().map_or(Ok(()), |notifier| notifier.send(state));
    journal.add(Record::Started {
        at: clock::now(),
        address: socket.local_addr()?,
    });

    let ready = Arc::new(AtomicBool::new(false));
    let startup = async {
        let mut until = began;
        for phase in &config.phases {
            journal.add(Record::Phase {
                at: clock::now(),
                name: phase.name.clone(),
            });
            tell(&format!("STATUS={}", phase.name))?;
            until += phase.takes;
            tokio::time::sleep_until(until).await;
            tell(&format!("X_GREENROOM_PHASE={}", phase.name))?;
        }
        io::Result::Ok(())
    };
    tokio::pin!(startup);

    // Before it listens: only the start-up runs.
    let listen_after = config.listen.listen_after();
    let mut started = false;
    if listen_after >= config.startup() {
        startup.as_mut().await?;
        started = true;
    } else if !listen_after.is_zero() {
        tokio::select! {
            result = &mut startup => { result?; started = true; }
            () = tokio::time::sleep_until(began + listen_after) => {}
        }
    }
    let listener = socket.listen(limits::BACKEND_BACKLOG)?;
    journal.add(Record::Listening { at: clock::now() });

    let accepting = accept(listener, config.listen, Arc::clone(&ready), Arc::clone(&journal));
    tokio::pin!(accepting);
    if !started {
        tokio::select! {
            result = &mut startup => result?,
            result = &mut accepting => return result,
        }
    }
    ready.store(true, Ordering::Release);
    journal.add(Record::Ready { at: clock::now() });
    tell("READY=1")?;
    accepting.await
}

async fn accept(
    listener: TcpListener,
    listen: SlowListen,
    ready: Arc<AtomicBool>,
    journal: Arc<Journal>,
) -> io::Result<Infallible> {
    let places = Arc::new(Semaphore::new(limits::BACKEND_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client gone again: neither ends the server.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (ready, journal) = (Arc::clone(&ready), Arc::clone(&journal));
        tokio::spawn(async move {
            attend(stream, listen, &ready, &journal).await.ok();
            drop(place);
        });
    }
}

/// One connection, from its head on. Errors are the other side's affair.
async fn attend(
    stream: TcpStream,
    listen: SlowListen,
    ready: &AtomicBool,
    journal: &Journal,
) -> Result<(), tokio_websockets::Error> {
    stream.set_nodelay(true)?;
    // Whether it is ready is asked when the head comes, as a handler would.
    match timeout(limits::BACKEND_HEAD, stream.readable()).await {
        Ok(readable) => readable?,
        Err(_late) => return Ok(()),
    }
    if !ready.load(Ordering::Acquire) {
        return match listen {
            SlowListen::Answer503 { .. } => answer_503(stream, journal).await,
            SlowListen::Close1011 { close_after, .. } => close_1011(stream, close_after, journal).await,
            // Unreachable in `serve`, which listens only when ready; silence is what it would be.
            SlowListen::OnlyWhenReady => Ok(()),
        };
    }
    let builder = ServerBuilder::new().limits(Limits::default().max_payload_len(Some(limits::MESSAGE_MAX)));
    let accepting = builder.accept(stream);
    let Ok(accepted) = timeout(limits::BACKEND_HEAD, accepting).await else {
        return Ok(());
    };
    let (request, mut socket) = accepted?;
    let number = |name: &str| request.headers().get(name)?.to_str().ok()?.parse().ok();
    journal.add(Record::Opening {
        at: clock::now(),
        session: number("greenroom-session"),
        attempt: number("greenroom-attempt"),
        target: request.uri().to_string(),
    });
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn answer_503(mut stream: TcpStream, journal: &Journal) -> Result<(), tokio_websockets::Error> {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") && head.len() < greenroom_core::limits::HEAD_MAX {
            if stream.read_buf(&mut head).await? == 0 {
                return io::Result::Ok(false);
            }
        }
        Ok(true)
    };
    if !timeout(limits::BACKEND_HEAD, reading).await.unwrap_or(Ok(false))? {
        return Ok(());
    }
    journal.add(Record::TooEarly { at: clock::now() });
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\nConnection: close\r\n\r\nstarting\n";
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn close_1011(
    stream: TcpStream,
    close_after: Duration,
    journal: &Journal,
) -> Result<(), tokio_websockets::Error> {
    let builder = ServerBuilder::new();
    let accepting = builder.accept(stream);
    let Ok(accepted) = timeout(limits::BACKEND_HEAD, accepting).await else {
        return Ok(());
    };
    let (_, mut socket) = accepted?;
    journal.add(Record::TooEarly { at: clock::now() });
    tokio::time::sleep(close_after).await;
    socket
        .send(Message::close(Some(CloseCode::INTERNAL_SERVER_ERROR), "starting"))
        .await?;
    // What the client had already sent is read, or the kernel would turn our end into a reset.
    let draining = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(limits::CLOSE_WAIT, draining).await.ok();
    Ok(())
}
