//! The whole configuration, checked: to have a [`Config`] is proof that it is valid.
//!
//! Names are resolved to indices, defaults are filled in, and the routes stand in
//! the order in which they are tried ([`Config::route`]). Nothing in here remembers
//! where a value came from. Bounds: `limits.rs`, section Configuration.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use greenroom_core::backoff::RestartPolicy;

use greenroom_core::limits;
use greenroom_core::phase;
use greenroom_core::readiness::Need;
use greenroom_core::users;
use greenroom_core::watch;

use super::{Address, Admin, Check, Drain, Ready, Shed, TellClients, Tracing};

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients come to; at least one.
    pub listeners: Vec<Listener>,
    /// The servers behind; at least one.
    pub backends: Vec<Backend>,
    /// Which client goes to which backend, in the order in which they are tried; at least one.
    pub routes: Vec<Route>,
    /// Time for closing clients, and then between TERM and KILL.
    pub grace: Duration,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where greenroom itself is asked and told things.
    pub admin: Admin,
    /// Where start-up times are kept over greenroom's own life; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Whether a change of the file is taken without being told.
    pub reload_on_change: bool,
    /// The profile in effect, if one was asked for.
    pub profile: Option<String>,
    /// Bounds of the whole process, and of what one address may take of it.
    pub limits: Limits,
    /// Where traces are sent, and of how many handshakes.
    pub tracing: Tracing,
    /// How clients are closed when greenroom stops, or is told to drain.
    pub drain: Drain,
}

/// Bounds of the whole process, and of what one address may take of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at one time; `None`: as many as there are descriptors.
    pub connections_max: Option<usize>,
    /// Client connections of one address at one time; `None`: no limit.
    pub connections_per_address: Option<usize>,
    /// Opening handshakes of one address in a second; `None`: no limit.
    pub handshakes_per_address: Option<usize>,
    /// Leading bits by which addresses are told apart: of IPv4, of IPv6.
    pub address_bits: (u8, u8),
    /// Bytes of a client's head.
    pub head_max: usize,
    /// Time for a client's whole head.
    pub head_timeout: Duration,
    /// Bytes kept of what one accepted client sends before its backend is ready.
    pub early_max: usize,
    /// The same of all clients together.
    pub early_budget: usize,
    /// WebSockets that one user may have open at one time; `None`: any number.
    pub user: Option<users::Rule>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: None,
            connections_per_address: None,
            handshakes_per_address: None,
            address_bits: limits::ADDRESS_BITS,
            head_max: limits::HEAD_MAX,
            head_timeout: limits::HEAD_TIMEOUT,
            early_max: limits::EARLY_MAX,
            early_budget: limits::EARLY_BUDGET,
            user: None,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Sentences for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// One address that clients come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// Always TCP; port 0 is a free one.
    pub address: Address,
    /// The hosts that a request may name; `None`: all.
    pub hosts: Option<Vec<HostPattern>>,
}

/// One server behind greenroom, with a gate of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in the configuration.
    pub name: String,
    /// Where it listens. `None` only with a process: a free loopback port, told to it as `PORT` and `{port}`.
    pub address: Option<Address>,
    /// How its readiness is learned.
    pub ready: Ready,
    /// The phases of its start, in order.
    pub phases: Vec<phase::Rule>,
    /// What else is asked, about it or what it depends on.
    pub checks: Vec<Check>,
    /// What its routes need to let somebody in, each once; the first is what routes without a wish need.
    pub needs: Vec<Need>,
    /// WebSocket clients that wait for it at the most.
    pub held_max: usize,
    /// HTTP requests that wait for it at the most.
    pub http_held_max: usize,
    /// Dials without an answer at one time.
    pub dials_max: usize,
    /// Clients let in per second at the most; `None`: as fast as it answers.
    pub release_rate: Option<usize>,
    /// By what turns are shared among those who wait.
    pub fair: Fair,
    /// WebSocket clients of one address that wait for it at the most; `None`: no limit.
    pub held_per_address: Option<usize>,
    /// The same of one value of the header that `fair` names; `None`: no limit.
    pub held_per_key: Option<usize>,
    /// What greenroom starts for it; `None`: something else starts it.
    pub process: Option<Process>,
}

/// A process that greenroom starts and watches.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments, at least the program; `{port}` in them is replaced.
    pub command: Vec<OsString>,
    /// Added to its environment. The values may be secrets.
    pub env: Vec<(OsString, OsString)>,
    /// The folder it starts in; `None`: greenroom's own.
    pub cwd: Option<PathBuf>,
    /// The user it runs as; `None`: greenroom's own.
    pub user: Option<String>,
    /// The group it runs as; `None`: the user's first, or greenroom's own.
    pub group: Option<String>,
    /// Whether it is started again when it ends.
    pub restart: RestartPolicy,
    /// How long it may be silent once it is ready; `None`: as long as it likes.
    pub watchdog: Option<Duration>,
}

/// The values of the environment may be secrets: only their names are shown.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Process")
            .field("command", &self.command)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("group", &self.group)
            .field("restart", &self.restart)
            .field("watchdog", &self.watchdog)
            .finish()
    }
}

/// Which clients go to which backend, and how they are treated on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, given or derived from host and path; unique.
    pub name: String,
    /// The hosts it is for.
    pub host: HostPattern,
    /// The path prefix it is for, on segment boundaries: `/ws` is for `/ws`, `/ws/x` and
    /// `/ws?x`, not for `/wsx`; `/` is for all.
    pub path: String,
    /// Indices of the listeners it is for, ascending; `None`: all.
    pub listeners: Option<Vec<usize>>,
    /// Index of the backend.
    pub backend: usize,
    /// What happens to WebSocket clients that come too early.
    pub hold: Hold,
    /// How long after the beginning of the hold period its clients are accepted, with [`Hold::Auto`].
    pub accept_after: Duration,
    /// How long a WebSocket client waits at the most.
    pub hold_timeout: Duration,
    /// Subprotocols that its server is known to select, the first that a client offers; empty: learned from it.
    pub subprotocols: Vec<String>,
    /// How long a client's messages wait after the server's 101; `None`: [`limits::FORWARD_AFTER`] for a client that
    /// was accepted before, else not at all.
    pub forward_after: Option<ForwardAfter>,
    /// What it asks for of silent, idle, old and slow connections.
    pub watch: watch::Rule,
    /// A text message that accepted clients get while they wait.
    pub waiting_message: Option<String>,
    /// Origins whose pages may open WebSockets; `None`: all.
    pub origins: Option<Vec<AllowedOrigin>>,
    /// What its clients are known by.
    pub known_by: KnownBy,
    /// What happens to HTTP requests that come too early.
    pub http: HttpMode,
    /// How long an HTTP request waits at the most.
    pub http_hold: Duration,
    /// Whether a browser that waits for a page is shown a page meanwhile.
    pub waiting_page: bool,
    /// Changes to the fields of requests to the backend.
    pub request_headers: HeaderEdits,
    /// Changes to the fields of the backend's answers.
    pub response_headers: HeaderEdits,
    /// Replaces the matched path prefix towards the backend ([`Route::target`]).
    pub rewrite: Option<String>,
    /// Bytes of a request's body; `None`: no limit.
    pub body_max: Option<u64>,
    /// Bytes of one message of a WebSocket client; `None`: no limit.
    pub message_max: Option<u64>,
    /// Messages of one WebSocket client in a second; `None`: no limit.
    pub message_rate: Option<usize>,
    /// Index of what it needs among its backend's `needs`.
    pub need: usize,
    /// Whether who will hardly make it is refused at once.
    pub shed: Shed,
    /// How its clients hear that the backend is degraded.
    pub tell_clients: TellClients,
}

/// What the clients of a route are known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownBy {
    /// The header, in lower case, that says who the user is; `None`: nobody says so.
    pub user: Option<String>,
    /// The tags of its connections; no two have the same name.
    pub tags: Vec<Tag>,
}

/// A tag of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// All of the route have it: `name=value`.
    Fixed(String),
    /// `name=value` with the name, in lower case, and the value of this header.
    Header(String),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(tag) => f.write_str(tag),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// The hosts a route is for; compared without case and without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// All.
    Any,
    /// This one, in lower case, without port.
    Exact(String),
    /// Those that end with this, such as `.example.org`, in lower case; not `example.org` itself.
    Wildcard(String),
}

impl fmt::Display for Fair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(end) => write!(f, "*{end}"),
        }
    }
}

/// What happens to WebSocket clients that come too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// They wait for the backend's 101, and from `accept_after` on with one of greenroom's own.
    #[default]
    Auto,
    /// They get a 101 of greenroom's own at once, and wait with that.
    Accept,
    /// They wait; the 101 comes from the backend.
    Handshake,
    /// 503 at once.
    Refuse,
}

/// By what turns are shared among those who wait for a backend: round-robin over keys, in order of arrival within one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fair {
    /// All wait in one line.
    #[default]
    No,
    /// By address.
    Address,
    /// By the value of this header, in lower case; those without it share one key.
    Header(String),
}

/// How long a client's messages wait after the server's 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardAfter {
    /// Not at all.
    Handshake,
    /// Until the server's first frame, or [`limits::FORWARD_AFTER_MAX`].
    FirstFrame,
    /// For this time, or until the server's first frame.
    Time(Duration),
}

/// An origin, or many (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `scheme://host[:port]`, in lower case, without a default port.
    Exact(String),
    /// All hosts below one: the scheme, and what the host ends with, such as `.example.org`, with its port if it has one.
    Below(String, String),
    /// Pages of the same host as the request's.
    Same,
    /// `null`, which any sandboxed page sends.
    Null,
}

/// What happens to HTTP requests that come too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMode {
    /// They wait in the same gate.
    #[default]
    Hold,
    /// 503 at once.
    Refuse,
    /// They go to the backend at once, ready or not.
    Pass,
}

/// Changes to header fields. No name is one that greenroom itself sets or decides by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Set to this value, whatever was there; names in lower case, each once.
    pub set: Vec<(String, String)>,
    /// Taken away; names in lower case, each once, none of them in `set`.
    pub remove: Vec<String>,
}

/// No change.
pub static NO_EDITS: HeaderEdits = HeaderEdits {
    set: Vec::new(),
    remove: Vec::new(),
};

impl HeaderEdits {
    /// Whether the field `name` does not pass as it came.
    #[must_use]
    pub fn touches(&self, name: &str) -> bool {
        let is_name = |other: &String| other.eq_ignore_ascii_case(name);
        self.set.iter().any(|(set, _)| is_name(set)) || self.remove.iter().any(is_name)
    }
}
