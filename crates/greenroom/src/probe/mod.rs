//! Looks from outside whether a backend is ready: `listen`, `tcp`,
//! `http:/path`, `websocket:/path`.
//!
//! A [`Probe`] is asked with [`Probe::once`] and answers with a [`Verdict`];
//! [`watch`] asks it on a fixed grid, and at once when it is nudged or when
//! inotify saw the socket file appear. It reports every verdict: who decides how
//! many in a row count is not decided here.
//!
//! Bounds: one look at a time and at most [`limits::PROBE_TIMEOUT`] for it, one
//! connection (and one that is being closed), one name lookup in flight, heads
//! of at most [`limits::BACKEND_HEAD_MAX`]. Nothing outlives a dropped probe but
//! a name lookup that the system's resolver is busy with.
//!
//! Absent on purpose: hysteresis (`rise`, `fall`), redirects, TLS.

mod dial;
mod directory;
mod elsewhere;
mod family;
mod http;
mod listen;
mod sock_diag;
mod table;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use greenroom_core::limits;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Address, Ready};
use dial::{Dialed, Dialer};
use listen::Listen;

pub use elsewhere::{Elsewhere, Place, elsewhere};

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As far as this probe can tell, the backend is ready.
    Up,
    /// It is not.
    Down(Why),
}

/// Why a look was bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is no child at present.
    #[error("CMD is not running")]
    NoChild,
    /// Nobody listens at the address.
    #[error("nobody listens there")]
    NobodyListens,
    /// Somebody listens there, but no process of CMD.
    #[error("another process than CMD listens there")]
    NotOurs,
    /// There is no file at the path of the Unix socket.
    #[error("the socket file is not there")]
    NoSocketFile,
    /// What is there is no socket.
    #[error("the file at the socket's path is not a socket")]
    NotASocket,
    /// The name has no address, or the lookup failed or took too long.
    #[error("the host name could not be resolved")]
    Unresolved,
    /// The connection was refused.
    #[error("the connection was refused")]
    Refused,
    /// The connect, or the whole look, took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The connection, or the question to the kernel, failed in another way.
    #[error("failed: {0}")]
    Failed(io::ErrorKind),
    /// An answer with a status that does not count.
    #[error("answered with status {0}")]
    Status(u16),
    /// The connection ended before the answer was complete.
    #[error("closed the connection without an answer")]
    NoAnswer,
    /// The answer is not the protocol that it should be.
    #[error("the answer is not valid: {0}")]
    Nonsense(&'static str),
    /// A WebSocket was opened and closed at once with 1011, 1012 or 1013.
    #[error("closed the WebSocket at once with {0}")]
    ClosedEarly(u16),
    /// A WebSocket was opened and cut off at once.
    #[error("cut the WebSocket off at once")]
    LostEarly,
}

/// Whose listeners count for `listen`.
#[derive(Clone, Debug)]
pub enum Of {
    /// Those of the child and of what it started. Holds the pid of the current child; 0 is none.
    Children(Arc<AtomicU32>),
    /// Anybody's.
    Anyone,
}

/// Something the user should hear once about how the probe works here.
#[derive(Debug, thiserror::Error)]
pub enum Note {
    /// The fast way to the kernel's socket table is not to be had.
    #[error("the kernel's socket table cannot be asked directly ({0}); reading /proc/net instead")]
    NoSockDiag(io::Error),
    /// Whose listener it is cannot be told.
    #[error(
        "cannot see whose sockets are open in /proc (it needs the same user or CAP_SYS_PTRACE): any listener at the address counts as CMD's"
    )]
    OwnersUnknown,
}

/// One look of [`watch`].
#[derive(Debug)]
pub struct Look {
    /// What it showed.
    pub verdict: Verdict,
    /// When it began: what happened later it may not have seen.
    pub began: Instant,
    /// Something to tell the user, once.
    pub note: Option<Note>,
}

/// A way to see whether a backend is ready. See the module's head.
#[derive(Debug)]
pub struct Probe {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Listen(Box<Listen>),
    Tcp(Dialer),
    Http(http::Http),
    WebSocket(http::WebSocket),
}

impl Probe {
    /// Up while somebody listens at `address`, as the kernel's socket table tells; connects to nobody.
    #[must_use]
    pub fn listen(address: &Address, of: Of) -> Self {
        let kind = Kind::Listen(Box::new(Listen::new(address, of)));
        Self { kind }
    }

    /// Up when a connection to `address` is accepted. A Unix socket whose
    /// backlog is full (EAGAIN) is up: somebody listens and is busy.
    #[must_use]
    pub fn tcp(address: &Address) -> Self {
        let kind = Kind::Tcp(Dialer::new(address));
        Self { kind }
    }

    /// Up when `GET path` is answered with 200 to 399; redirects are not followed. `host` is the address if not given.
    #[must_use]
    pub fn http(address: &Address, path: &str, host: Option<&str>) -> Self {
        let kind = Kind::Http(http::Http::new(address, path, host));
        Self { kind }
    }

    /// Up when an opening handshake for `path` gets a valid 101 and the WebSocket is not lost, nor closed with 1011
    /// to 1013, within [`limits::SETTLE`].
    #[must_use]
    pub fn websocket(address: &Address, path: &str, host: Option<&str>) -> Self {
        let kind = Kind::WebSocket(http::WebSocket::new(address, path, host));
        Self { kind }
    }

    /// The probe that `--ready` asks for; none for `notify`, which is pushed.
    ///
    /// `auto` is `listen` for a child or a local address, else `tcp`.
    #[must_use]
    pub fn for_ready(ready: &Ready, address: &Address, of: Of) -> Option<Self> {
        match ready {
            Ready::Notify => None,
            Ready::Auto if matches!(of, Of::Anyone) && !address.is_local() => Some(Self::tcp(address)),
            Ready::Auto | Ready::Listen => Some(Self::listen(address, of)),
            Ready::Tcp => Some(Self::tcp(address)),
            Ready::Http(path) => Some(Self::http(address, path, None)),
            Ready::WebSocket(path) => Some(Self::websocket(address, path, None)),
        }
    }

    /// How often to look: [`limits::LISTEN_EVERY`] for `listen` on a child, else [`limits::PROBE_EVERY`].
    #[must_use]
    pub fn every(&self) -> Duration {
        match &self.kind {
            Kind::Listen(listen) if listen.is_of_child() => limits::LISTEN_EVERY,
            Kind::Listen(_) | Kind::Tcp(_) | Kind::Http(_) | Kind::WebSocket(_) => limits::PROBE_EVERY,
        }
    }

    /// Looks once, within [`limits::PROBE_TIMEOUT`]. Dropping the future is safe.
    pub async fn once(&mut self) -> Verdict {
        let look = async {
            match &mut self.kind {
                Kind::Listen(listen) => listen.look().await,
                Kind::Tcp(dialer) => match dialer.connect().await? {
                    Dialed::Connected(_) | Dialed::Busy => Ok(()),
                },
                Kind::Http(http) => http.look().await,
                Kind::WebSocket(websocket) => websocket.look().await,
            }
        };
        match timeout(limits::PROBE_TIMEOUT, look).await {
            Ok(Ok(())) => Verdict::Up,
            Ok(Err(why)) => Verdict::Down(why),
            Err(_) => Verdict::Down(Why::TimedOut),
        }
    }

    /// Something to tell the user; each is answered once.
    pub fn take_note(&mut self) -> Option<Note> {
        match &mut self.kind {
            Kind::Listen(listen) => listen.take_note(),
            Kind::Tcp(_) | Kind::Http(_) | Kind::WebSocket(_) => None,
        }
    }

    /// Ends when something happened that makes a look worth while now; for most probes never.
    async fn woken(&mut self) {
        match &mut self.kind {
            Kind::Listen(listen) => listen.woken().await,
            Kind::Tcp(_) | Kind::Http(_) | Kind::WebSocket(_) => std::future::pending().await,
        }
    }
}

/// Never returned: [`watch`] ends by being dropped.
pub enum Never {}

impl fmt::Debug for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Looks at once, then on a grid of `every` without drift, and at once after
/// each `nudge.notify_one()`. Reports every look. Ends by being dropped.
///
/// Looks never overlap: those of the grid that fall into a long look are left
/// out, a nudge during a look makes one more after it.
pub async fn watch(mut probe: Probe, every: Duration, nudge: &Notify, mut report: impl FnMut(Look)) -> Never {
    let mut grid = interval(every);
    grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = grid.tick() => {}
            () = nudge.notified() => {}
            () = probe.woken() => {}
        }
        let began = Instant::now();
        let verdict = probe.once().await;
        let note = probe.take_note();
        report(Look { verdict, began, note });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_listens_where_the_kernel_can_tell_and_connects_elsewhere() {
        let kind = |ready: &str, address: &str, of: Of| {
            let probe = Probe::for_ready(&ready.parse().unwrap(), &address.parse().unwrap(), of)?;
            Some(match probe.kind {
                Kind::Listen(_) => "listen",
                Kind::Tcp(_) => "tcp",
                Kind::Http(_) => "http",
                Kind::WebSocket(_) => "websocket",
            })
        };
        let child = || Of::Children(Arc::new(AtomicU32::new(1)));
        assert_eq!(kind("auto", "127.0.0.1:1", child()), Some("listen"));
        assert_eq!(kind("auto", "10.0.0.1:1", Of::Anyone), Some("tcp"));
        assert_eq!(kind("auto", "localhost:1", Of::Anyone), Some("listen"));
        assert_eq!(kind("auto", "unix:/x", Of::Anyone), Some("listen"));
        assert_eq!(kind("notify", "127.0.0.1:1", child()), None);
        assert_eq!(kind("tcp", "127.0.0.1:1", child()), Some("tcp"));
        assert_eq!(kind("http:/x", "127.0.0.1:1", child()), Some("http"));
        assert_eq!(kind("websocket:/x", "127.0.0.1:1", child()), Some("websocket"));
    }
}
