//! What tells how far a backend's start has come: phases, checks, and what routes need of them.
//!
//! Part of the checked model: to have one of these is proof that it is valid. What the
//! phases, the counting of verdicts and the needs mean is decided in `greenroom_core`
//! (`phase`, `check`, `readiness`). Bounds: `limits.rs`, sections Readiness and Configuration.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use greenroom_core::check;
use regex::Regex;

use super::Address;
use super::words::{Kind, Word as _};

/// A probe with a name, asked for ever on its grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name, `rise`, `fall`, the phase it proves, criticality and weight.
    pub rule: check::Rule,
    /// What is asked.
    pub probe: ProbeKind,
    /// How often it is asked, on a grid without drift.
    pub interval: Duration,
    /// How long one look may take; longer is a bad verdict.
    pub timeout: Duration,
}

/// What a check asks. Where an address is `None`, it is the backend's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Somebody listens there, as the kernel's socket table tells; for a child, only its own processes count.
    Listen(Option<Address>),
    /// A connection is accepted.
    Tcp(Option<Address>),
    /// `GET` is answered as expected.
    Http(HttpProbe),
    /// An opening handshake gets a valid 101, and a ping its pong if asked for.
    WebSocket {
        /// Where.
        address: Option<Address>,
        /// The request's path.
        path: String,
        /// Its Host; `None`: the address.
        host: Option<String>,
        /// Whether a ping is sent, and its pong waited for.
        ping: bool,
    },
    /// `grpc.health.v1.Health/Check` says SERVING.
    Grpc {
        /// Where.
        address: Option<Address>,
        /// The service asked for; empty: the whole server.
        service: String,
    },
    /// PostgreSQL takes connections.
    Postgres {
        /// Where.
        address: Address,
        /// The user, and the database of the same name unless given.
        user: String,
        /// The database.
        database: String,
        /// The password, if the server asks for one (SCRAM-SHA-256, MD5 or in the clear).
        password: Option<Secret>,
        /// Whether a server in recovery (a standby) is good too.
        recovery: bool,
    },
    /// Redis answers PING, and is not loading.
    Redis {
        /// Where.
        address: Address,
        /// For AUTH.
        password: Option<Secret>,
    },
    /// NATS greets with INFO and answers PING.
    Nats {
        /// Where.
        address: Address,
        /// `user` and `pass` of CONNECT, if the server asks for them.
        login: Option<(String, Secret)>,
    },
    /// A command ends with exit code 0. It is killed at the end of the look's time.
    Exec {
        /// Program and arguments, at least the program.
        command: Vec<OsString>,
    },
    /// A line of the child's output matches. Once seen, it is good for that life of the child.
    Log {
        /// What the line must match anywhere.
        line: Pattern,
    },
    /// A file is there.
    File {
        /// Its path.
        path: PathBuf,
    },
}

impl ProbeKind {
    /// The word for its kind, as in `probe`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let kind = match self {
            Self::Listen(_) => Kind::Listen,
            Self::Tcp(_) => Kind::Tcp,
            Self::Http(_) => Kind::Http,
            Self::WebSocket { .. } => Kind::WebSocket,
            Self::Grpc { .. } => Kind::Grpc,
            Self::Postgres { .. } => Kind::Postgres,
            Self::Redis { .. } => Kind::Redis,
            Self::Nats { .. } => Kind::Nats,
            Self::Exec { .. } => Kind::Exec,
            Self::Log { .. } => Kind::Log,
            Self::File { .. } => Kind::File,
        };
        kind.word()
    }
}

/// As `status` shows it: the kind, and where it looks.
impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self {
            Self::Listen(address) | Self::Tcp(address) => address.as_ref(),
            Self::Http(http) => http.address.as_ref(),
            Self::WebSocket { address, .. } | Self::Grpc { address, .. } => address.as_ref(),
            Self::Postgres { address, .. } | Self::Redis { address, .. } | Self::Nats { address, .. } => Some(address),
            Self::Exec { .. } | Self::Log { .. } | Self::File { .. } => None,
        };
        f.write_str(self.word())?;
        if let Some(address) = address {
            write!(f, " {address}")?;
        }
        match self {
            Self::Http(HttpProbe { path, .. }) | Self::WebSocket { path, .. } => write!(f, " {path}"),
            // A command's words may be secrets; its program is enough to tell it.
            Self::Exec { command } => write!(
                f,
                " {}",
                command.first().map_or_else(Default::default, |p| p.to_string_lossy())
            ),
            Self::Log { line } => write!(f, " {}", line.0.as_str()),
            Self::File { path } => write!(f, " {}", path.display()),
            Self::Grpc { service, .. } if !service.is_empty() => write!(f, " {service}"),
            Self::Listen(_)
            | Self::Tcp(_)
            | Self::Grpc { .. }
            | Self::Postgres { .. }
            | Self::Redis { .. }
            | Self::Nats { .. } => Ok(()),
        }
    }
}

/// What an `http` check asks and expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Where.
    pub address: Option<Address>,
    /// The request's path.
    pub path: String,
    /// Its Host; `None`: the address.
    pub host: Option<String>,
    /// The statuses that are good, first and last.
    pub status: (u16, u16),
    /// What the body must match anywhere.
    pub body: Option<Pattern>,
    /// A JSON pointer (RFC 6901) into the body, where the name of the last finished phase stands.
    pub pointer: Option<String>,
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Whether a client that will hardly make it by its deadline is refused at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shed {
    /// It waits to its deadline.
    #[default]
    Late,
    /// It is refused on arrival, with a Retry-After by which it will make it.
    Early,
}

/// How clients of a route hear that their backend is degraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TellClients {
    /// Not at all.
    #[default]
    No,
    /// The field `Greenroom-Degraded` in the 101, and in the answers to plain requests.
    Header,
    /// A text message after the 101. `{level}` and `{missing}` in it are replaced.
    Message(String),
}

/// Where greenroom itself is asked and told things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket; `None`: one of its own in the runtime folder (`greenroom status` finds it).
    pub socket: Option<PathBuf>,
    /// A TCP address as well, never that of a listener.
    pub address: Option<Address>,
    /// What requests at the TCP address must bring as `Authorization: Bearer`. The health paths need none.
    pub token: Option<Secret>,
    /// The file that it was read from, if it was.
    pub token_file: Option<PathBuf>,
    /// Serve the health paths below this prefix at all listeners too, for platforms with one port only.
    pub health_prefix: Option<String>,
    /// Whether `/readyz` waits for the backends as `/startupz` does.
    pub readyz_waits: bool,
}
