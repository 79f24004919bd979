//! What a look showed, why it was bad, and what the user should hear once.
//!
//! Every cause is a sentence a user understands, and none holds a secret: of what a server
//! says only [`Said`] is kept, a short printable piece of its own error codes.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use greenroom_core::limits;

use crate::head::Nonsense;

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
    /// The connection ended before the answer was complete.
    #[error("closed the connection without an answer")]
    NoAnswer,
    /// The answer is not the protocol that it should be.
    #[error("the answer is not valid: {0}")]
    Nonsense(&'static str),
    /// More was answered than a look reads.
    #[error("the answer is longer than {} KiB", limits::CHECK_BODY_MAX / limits::KIB)]
    TooLong,

    // ── http and websocket ──
    /// The path or the Host cannot be sent.
    #[error("the path or the host cannot stand in a request")]
    Unaskable,
    /// An answer whose head is not valid, by the rules for all answers of backends.
    #[error("{0}")]
    Head(Nonsense),
    /// An answer with a status that does not count.
    #[error("answered with status {0}")]
    Status(u16),
    /// The pattern was not found.
    #[error("the body does not match")]
    NoMatch,
    /// The JSON pointer leads to no name.
    #[error("the body has no name of a phase where the JSON pointer says")]
    NoPhase,
    /// A WebSocket was opened and closed at once with 1011, 1012 or 1013.
    #[error("closed the WebSocket at once with {0}")]
    ClosedEarly(u16),
    /// A WebSocket was opened and cut off at once, or closed before it answered a ping.
    #[error("ended the WebSocket at once")]
    LostEarly,

    // ── grpc ──
    /// The health service says something else than SERVING.
    #[error("the gRPC health service says {0}")]
    Health(&'static str),
    /// The call failed.
    #[error("the gRPC health service answered with status {0}")]
    GrpcStatus(u32),
    /// Status NOT_FOUND.
    #[error("the gRPC health service does not know the service (NOT_FOUND)")]
    UnknownService,
    /// Status UNIMPLEMENTED.
    #[error("the gRPC server has no health service (UNIMPLEMENTED)")]
    NoHealthService,

    // ── postgres ──
    /// SQLSTATE 57P03.
    #[error("PostgreSQL takes no connections now: it is starting up or shutting down (57P03)")]
    NotNow,
    /// It is a standby.
    #[error("PostgreSQL is in recovery: it is a standby")]
    InRecovery,
    /// Any other error.
    #[error("PostgreSQL refused with SQLSTATE {0}")]
    Postgres(Said),

    // ── redis ──
    /// -LOADING.
    #[error("Redis is loading its data")]
    Loading,
    /// Any other error.
    #[error("Redis answered {0}")]
    Redis(Said),

    // ── nats ──
    /// -ERR.
    #[error("NATS answered: {0}")]
    Nats(Said),

    // ── logins ──
    /// The user or the password is wrong.
    #[error("the login was refused: is the user or the password wrong?")]
    Login,
    /// Kerberos and the like.
    #[error("the server asks for a kind of login that checks do not have")]
    LoginKind,
    /// It talks to nobody without TLS.
    #[error("the server demands TLS, which checks do not speak")]
    NeedsTls,

    // ── exec ──
    /// The command could not be started.
    #[error("the command could not be started: {0}")]
    NotStarted(io::ErrorKind),
    /// It ended with another code than 0.
    #[error("the command ended with exit code {0}")]
    Exit(u8),
    /// It was ended by a signal.
    #[error("the command was ended by signal {0}")]
    Signal(i32),

    // ── log and file ──
    /// No line of this life's output has matched yet.
    #[error("no line of the output has matched yet")]
    NoLine,
    /// There is no file.
    #[error("the file is not there")]
    NoFile,
}

/// A short piece of what a server said: printable ASCII, cut at [`Said::MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Said {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Said {
    /// The longest piece that is kept.
    pub const MAX: usize = 32;

    /// What can be shown of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut said = Self {
            bytes: [0; Self::MAX],
            len: 0,
        };
        let shown = bytes.iter().filter(|b| b.is_ascii_graphic() || **b == b' ');
        for (to, from) in said.bytes.iter_mut().zip(shown) {
            *to = *from;
            said.len += 1;
        }
        said
    }

    /// The piece.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let kept = self.bytes.get(..self.len.into()).unwrap_or_default();
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
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
    /// No password for PostgreSQL.
    #[error(
        "PostgreSQL asks for a password and the check has none: that it asks counts as ready, and whether it is in recovery cannot be seen"
    )]
    RecoveryUnseen,
    /// No password for Redis.
    #[error(
        "Redis asks for a password and the check has none: that it asks counts as ready, and whether it is loading cannot be seen"
    )]
    LoadingUnseen,
    /// No login for NATS.
    #[error("NATS asks for a login and the check has none: that it asks counts as ready")]
    NatsLogin,
}

/// One look.
#[derive(Debug)]
pub struct Look {
    /// What it showed.
    pub verdict: Verdict,
    /// The last finished phase, as the answer to an `http` check with a JSON pointer names it,
    /// also beside a bad verdict: who answers 503 while starting may well say how far it has come.
    pub phase: Option<Box<str>>,
    /// When it began: what happened later it may not have seen.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Something to tell the user, once.
    pub note: Option<Note>,
}

/// Tells each [`Note`] once in a probe's life.
#[derive(Debug, Default)]
pub(super) struct Once {
    told: bool,
    note: Option<Note>,
}

impl Once {
    pub(super) fn tell(&mut self, note: Note) {
        if !self.told {
            self.told = true;
            self.note = Some(note);
        }
    }

    pub(super) fn take(&mut self) -> Option<Note> {
        self.note.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_server_says_a_short_printable_piece_is_kept() {
        assert_eq!(Said::new(b"28P01").as_str(), "28P01");
        assert_eq!(Said::new(b"a\x1b[2J\r\nb\xff").as_str(), "a[2Jb");
        assert_eq!(Said::new(&[b'x'; 999]).as_str().len(), Said::MAX);
        assert_eq!(
            Why::Redis(Said::new(b"MASTERDOWN")).to_string(),
            "Redis answered MASTERDOWN"
        );
    }

    #[test]
    fn a_note_is_told_once() {
        let mut once = Once::default();
        once.tell(Note::NatsLogin);
        assert!(once.take().is_some() && once.take().is_none());
        once.tell(Note::NatsLogin);
        assert!(once.take().is_none());
    }
}
