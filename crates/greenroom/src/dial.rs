//! Dialling a backend: connect, and write the head, one after the other.
//!
//! The owner task keeps a [`Launcher`]: dials in the order of the gate. Their
//! connects run side by side, their heads are written strictly in sequence:
//! a session is let in when its head is written, so nobody's head may overtake
//! another's. When the first in line fails, those behind it go back to their
//! places with it, and nothing of them reaches the backend.
//!
//! On loopback a connect is over before the call returns, although it says
//! "in progress": the head is tried at once, without a turn through the poller. The
//! connection goes to the client's thread unwatched; only one that takes time to be
//! made is watched here meanwhile.
//!
//! Bounded by the gate's dial window; each connect by `CONNECT_TIMEOUT`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use greenroom_core::event::SessionId;
use greenroom_core::limits::{BUSY_RETRY, CONNECT_TIMEOUT};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::clock;
use crate::registry::{Descriptor, Registry};
use crate::resolve::Names;
use crate::stream::{Fresh, Stream, set_up};

/// A backend connection on which a head was written.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: Fresh,
    /// What of the head did not fit into the socket yet.
    pub rest: Vec<u8>,
    /// Its place in the books.
    pub descriptor: Descriptor,
    /// The life of the backend's process; 0 where greenroom starts none.
    pub generation: u64,
}

/// One dial under way.
#[derive(Debug)]
struct Launch {
    id: SessionId,
    head: Vec<u8>,
    since: Time,
    /// Which of the backend's addresses is tried.
    candidate: usize,
    /// How the first of them failed: that is the answer if the others fail too.
    first_failure: Option<Answer>,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// Connecting, or connected.
    Socket(Fresh, Descriptor),
    /// Not connected at once: watched until it is.
    Watched(Stream, Descriptor),
    /// A Unix socket's backlog is full: tried again at this moment.
    Busy(Time),
    /// It failed; told when its turn comes, so that answers keep the order.
    Failed(Answer),
}

impl Progress {
    fn into_connection(self) -> Option<(Fresh, Descriptor)> {
        match self {
            Self::Socket(fresh, descriptor) => Some((fresh, descriptor)),
            Self::Watched(stream, descriptor) => Some((stream.unwatched().ok()?, descriptor)),
            Self::Busy(_) | Self::Failed(_) => None,
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Launcher {
    names: Names,
    registry: Arc<Registry>,
    candidates: Arc<[SockAddr]>,
    /// They are not known yet.
    resolving: bool,
    queue: VecDeque<Launch>,
}

impl Launcher {
    /// For one backend.
    #[must_use]
    pub fn new(names: Names, registry: Arc<Registry>) -> Self {
        Self {
            names,
            registry,
            candidates: Arc::default(),
            resolving: false,
            queue: VecDeque::new(),
        }
    }

    /// Takes the backend's addresses as they are known now. `false`: its name is being
    /// looked up for the first time; nothing can be begun, and [`Launcher::wait`] ends when that changes.
    pub fn resolve(&mut self) -> bool {
        let known = self.names.get();
        self.resolving = known.is_none();
        self.candidates = known.unwrap_or_default();
        !self.resolving
    }

    /// Whether dials wait for the backend's name to be looked up.
    #[must_use]
    pub fn is_resolving(&self) -> bool {
        self.resolving
    }

    /// Begins a dial, behind those that were begun before.
    pub fn begin(&mut self, id: SessionId, head: Vec<u8>) {
        let progress = self.connect(0);
        self.queue.push_back(Launch {
            id,
            head,
            since: clock::now(),
            candidate: 0,
            first_failure: None,
            progress,
        });
    }

    /// Takes a session out that left before its head was written. `false`: it is not here.
    pub fn forget(&mut self, id: SessionId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|launch| launch.id != id);
        self.queue.len() < before
    }

    /// Writes the first head in line, if its connection is there. `None`: not yet.
    /// After a failure, [`Launcher::recall`] those behind it.
    pub fn advance(&mut self) -> Option<(SessionId, Result<Dialled, Answer>)> {
        loop {
            let now = clock::now();
            let front = self.queue.front()?;
            let next = match &front.progress {
                Progress::Failed(answer) => Err(*answer),
                Progress::Busy(at) if *at > now => return None,
                Progress::Busy(_) => Ok(None), // once more
                Progress::Socket(..) | Progress::Watched(..) if now >= front.since + CONNECT_TIMEOUT => front
                    .write()
                    .and_then(|written| written.ok_or(Answer::ConnectTimeout))
                    .map(Some),
                Progress::Socket(..) | Progress::Watched(..) => match front.write() {
                    Ok(None) => return None,
                    written => written,
                },
            };
            match next {
                Ok(Some(written)) => {
                    let launch = self.queue.pop_front()?;
                    let Some((stream, descriptor)) = launch.progress.into_connection() else {
                        return Some((launch.id, Err(Answer::Dropped)));
                    };
                    let rest = launch.head.get(written..).unwrap_or_default().to_vec();
                    let dialled = Dialled {
                        stream,
                        rest,
                        descriptor,
                        generation: 0, // the launcher knows of none
                    };
                    return Some((launch.id, Ok(dialled)));
                }
                Ok(None) => self.retry_front(0, None),
                Err(answer) => {
                    let candidate = front.candidate + 1;
                    // "No address" of the second is no lack of ours: `localhost` where there is no IPv6.
                    let answer = front.first_failure.unwrap_or(answer);
                    if candidate < self.candidates.len() && answer != Answer::NoDescriptor {
                        self.retry_front(candidate, Some(answer));
                        continue;
                    }
                    let launch = self.queue.pop_front()?;
                    return Some((launch.id, Err(answer)));
                }
            }
        }
    }

    fn retry_front(&mut self, candidate: usize, first_failure: Option<Answer>) {
        let progress = self.connect(candidate);
        if let Some(front) = self.queue.front_mut() {
            front.candidate = candidate;
            front.first_failure = first_failure;
            front.since = clock::now();
            front.progress = progress;
        }
    }

    /// Takes back all that are under way: none of their heads was written.
    pub fn recall(&mut self) -> Vec<SessionId> {
        self.queue.drain(..).map(|launch| launch.id).collect()
    }

    /// Those whose heads wait to be written.
    pub fn unwritten(&self) -> impl Iterator<Item = SessionId> {
        self.queue.iter().map(|launch| launch.id)
    }

    /// Waits until [`Launcher::advance`] may have something to do.
    pub async fn wait(&mut self) {
        let Some(front) = self.queue.front_mut() else {
            if self.resolving {
                return self.names.changed().await;
            }
            return std::future::pending().await;
        };
        front.watch();
        match &front.progress {
            Progress::Failed(_) | Progress::Socket(..) => {}
            Progress::Busy(at) => clock::until(Some(*at)).await,
            Progress::Watched(stream, _) => {
                let deadline = clock::until(Some(front.since + CONNECT_TIMEOUT));
                tokio::select! {
                    _ = stream.writable() => {} // an error shows in the next write
                    () = deadline => {}
                }
            }
        }
    }

    fn connect(&self, candidate: usize) -> Progress {
        let Some(address) = self.candidates.get(candidate) else {
            return Progress::Failed(Answer::NoRoute);
        };
        let descriptor = self.registry.descriptor();
        match open(address) {
            Ok(stream) => Progress::Socket(stream, descriptor),
            Err(error) if address.is_unix() && error.kind() == io::ErrorKind::WouldBlock => {
                Progress::Busy(clock::now() + BUSY_RETRY)
            }
            Err(error) => Progress::Failed(Errno::from_io_error(&error).map_or(Answer::NoRoute, answer_of)),
        }
    }
}

impl Launch {
    /// Writes the head if the connection is there, and says how much of it; `None`: not yet.
    fn write(&self) -> Result<Option<usize>, Answer> {
        let socket = match &self.progress {
            Progress::Socket(fresh, _) => fresh.as_fd(),
            Progress::Watched(stream, _) => stream.as_fd(),
            Progress::Busy(_) | Progress::Failed(_) => return Ok(None),
        };
        if is_own_echo(socket) {
            return Err(Answer::Refused);
        }
        match rustix::net::send(socket, &self.head, rustix::net::SendFlags::NOSIGNAL) {
            Ok(written) => Ok(Some(written)),
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS | Errno::ALREADY) => Ok(None),
            Err(errno) => Err(answer_of(errno)),
        }
    }

    /// Has a connection watched that was not there at once.
    fn watch(&mut self) {
        if !matches!(self.progress, Progress::Socket(..)) {
            return;
        }
        // What it is if the kernel has no memory to watch it.
        let progress = std::mem::replace(&mut self.progress, Progress::Failed(Answer::NoDescriptor));
        if let Some((fresh, descriptor)) = progress.into_connection()
            && let Ok(stream) = fresh.watched()
        {
            self.progress = Progress::Watched(stream, descriptor);
        }
    }
}

/// Connects past the gate: each address once, in order.
pub(crate) async fn connect(names: &Names) -> Result<Stream, Answer> {
    let candidates = names.get().unwrap_or_default();
    let mut failure = None;
    for address in candidates.iter() {
        match tokio::time::timeout(CONNECT_TIMEOUT, connect_one(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(answer)) => failure = failure.or(Some(answer)),
            Err(_) => failure = failure.or(Some(Answer::ConnectTimeout)),
        }
    }
    Err(failure.unwrap_or(Answer::NoRoute))
}

async fn connect_one(address: &SockAddr) -> Result<Stream, Answer> {
    loop {
        match open(address) {
            Ok(fresh) => {
                let stream = fresh.watched().map_err(|_| Answer::NoDescriptor)?;
                let _ = stream.writable().await; // an error shows in what follows
                return match rustix::net::sockopt::socket_error(&stream) {
                    Ok(Ok(())) if !is_own_echo(stream.as_fd()) => Ok(stream),
                    Ok(Ok(())) => Err(Answer::Refused),
                    Ok(Err(errno)) | Err(errno) => Err(answer_of(errno)),
                };
            }
            Err(error) if address.is_unix() && error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BUSY_RETRY).await; // busy, not gone; the caller's time is bounded
            }
            Err(error) => return Err(Errno::from_io_error(&error).map_or(Answer::NoRoute, answer_of)),
        }
    }
}

/// Opens a socket and begins to connect it.
fn open(address: &SockAddr) -> io::Result<Fresh> {
    let unix = address.is_unix();
    let socket = Socket::new(
        Domain::from(i32::from(address.family())),
        Type::STREAM.nonblocking(),
        None,
    )?;
    if !unix {
        set_up(&socket, address.as_socket().is_some_and(|at| at.ip().is_loopback()));
    }
    match socket.connect(address) {
        Ok(()) => {}
        Err(error) if !unix && Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(if unix {
        Fresh::Unix(socket.into())
    } else {
        Fresh::Tcp(socket.into())
    })
}

/// Whether the connection leads to itself: where nobody listens on a port of the
/// ephemeral range, the kernel may choose that very port for the connection to it.
fn is_own_echo(socket: BorrowedFd<'_>) -> bool {
    let socket = SockRef::from(&socket);
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local.as_socket().is_some() && local == peer,
        (Err(_), _) | (_, Err(_)) => false, // not connected yet, or no more
    }
}

fn answer_of(errno: Errno) -> Answer {
    match errno {
        Errno::CONNREFUSED | Errno::NOENT => Answer::Refused,
        Errno::TIMEDOUT => Answer::ConnectTimeout,
        Errno::CONNRESET | Errno::PIPE => Answer::Dropped,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL => Answer::NoDescriptor,
        _ => Answer::NoRoute,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::telemetry::{Format, Log};

    #[tokio::test]
    async fn a_second_address_that_this_machine_does_not_have_is_no_lack_of_descriptors() {
        let log = Log::start(Format::Json);
        let names = Names::new(&"localhost:1".parse().unwrap(), log.clone());
        let mut launcher = Launcher::new(names, Registry::new(log, 1024, &crate::config::Limits::default()));
        assert!(launcher.resolve());
        assert_eq!(launcher.candidates.len(), 2);
        launcher.queue.push_back(Launch {
            id: SessionId(1),
            head: Vec::new(),
            since: clock::now(),
            candidate: 1,
            first_failure: Some(Answer::Refused),
            progress: Progress::Failed(answer_of(Errno::ADDRNOTAVAIL)),
        });
        assert!(matches!(launcher.advance(), Some((SessionId(1), Err(Answer::Refused)))));
    }

    #[tokio::test]
    async fn a_connection_that_was_watched_while_it_was_made_is_given_to_another_runtime_unwatched() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log::start(Format::Json);
        let names = Names::new(&address.to_string().parse().unwrap(), log.clone());
        let mut launcher = Launcher::new(names, Registry::new(log, 1024, &crate::config::Limits::default()));
        assert!(launcher.resolve());
        launcher.begin(SessionId(1), b"head".to_vec());
        launcher.wait().await;
        let watched = launcher.queue.front().map(|launch| &launch.progress);
        assert!(matches!(watched, Some(Progress::Watched(..))), "{watched:?}");
        let Some((SessionId(1), Ok(dialled))) = launcher.advance() else {
            panic!("a backend that listens is there");
        };
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let mut stream = dialled.stream.watched().unwrap();
                let mut answer = [0; 6];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)
                    .await
                    .unwrap();
                answer
            })
        });
        let (mut backend, _) = listener.accept().unwrap();
        let mut head = [0; 4];
        std::io::Read::read_exact(&mut backend, &mut head).unwrap();
        std::io::Write::write_all(&mut backend, b"answer").unwrap();
        assert_eq!((&head, &other.join().unwrap()), (b"head", b"answer"));
    }

    #[tokio::test]
    async fn a_connection_that_leads_to_itself_is_nobody() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap(); // TCP's simultaneous open, with oneself
        assert!(is_own_echo(socket.as_fd()));
    }
}
