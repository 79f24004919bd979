//! Looks from outside whether a backend is ready: one module for each kind of check.
//!
//! A [`Probe`] is asked with [`Probe::look`] and answers with a [`Look`]; [`watch()`] asks it on a
//! fixed grid, and at once when it is nudged or when something happened that makes a look worth
//! while (inotify saw the socket file appear, a line of the log matched). It reports every
//! look: who decides how many in a row count is not decided here.
//!
//! | module | good is |
//! |---|---|
//! | `listen` | somebody listens, as the kernel's socket table tells |
//! | `dial` | `tcp`: a connection is accepted; connects all the others |
//! | `http` | an answer with the right status, body, JSON |
//! | `websocket` | an opening handshake, and the pong to a ping |
//! | `grpc` | SERVING |
//! | `postgres` | a login, and no recovery |
//! | `redis` | PONG |
//! | `nats` | INFO and PONG |
//! | `exec` | exit code 0 |
//! | `file` | something is there |
//! | `talk` | no kind: reads what a server says, in bounds |
//! | `unready` | no kind: when to say why a backend is not ready |
//! | `verdict` | no kind: what a look showed, and why it was bad |
//!
//! Bounds: one look at a time, and at most its probe's timeout for it; one
//! connection (and one that is being closed), one name lookup in flight, heads
//! of at most [`limits::BACKEND_HEAD_MAX`], answers of at most [`limits::CHECK_BODY_MAX`]. Nothing
//! outlives a dropped probe but a question that the system is busy with: for a name, a file, or a program to be started.
//!
//! Absent on purpose: hysteresis (`rise`, `fall`), redirects, TLS.

mod dial;
mod directory;
mod elsewhere;
mod exec;
mod family;
mod file;
mod grpc;
mod http;
mod listen;
mod nats;
mod postgres;
mod redis;
mod sock_diag;
mod table;
mod talk;
mod unready;
mod verdict;
mod websocket;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use greenroom_core::limits;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep_until, timeout};

use crate::config::{Address, Check, HttpProbe, ProbeKind, Ready, Secret};
use dial::{Dialed, Dialer};
use listen::Listen;

pub(crate) use directory::register;
pub use elsewhere::{Elsewhere, Place, elsewhere};
pub use unready::{Unready, reason};
pub use verdict::{Look, Note, Said, Verdict, Why};

/// Whose listeners count for `listen`.
#[derive(Clone, Debug)]
pub enum Of {
    /// Those of the child and of what it started. Holds the pid of the current child; 0 is none.
    Children(Arc<AtomicU32>),
    /// Anybody's.
    Anyone,
}

/// A way to see whether a backend is ready. See the module's head.
#[derive(Debug)]
pub struct Probe {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Listen(Box<Listen>),
    Tcp(Dialer),
    Http(Box<http::Http>),
    WebSocket(Box<websocket::WebSocket>),
    Grpc(grpc::Grpc),
    Postgres(Box<postgres::Postgres>),
    Redis(redis::Redis),
    Nats(Box<nats::Nats>),
    Exec(exec::Exec),
    Log(watch::Receiver<bool>),
    File(file::File),
}

impl Probe {
    fn new(kind: Kind) -> Self {
        let timeout = limits::PROBE_TIMEOUT;
        Self { kind, timeout }
    }

    /// Up while somebody listens at `address`, as the kernel's socket table tells; connects to nobody.
    #[must_use]
    pub fn listen(address: &Address, of: Of) -> Self {
        Self::new(Kind::Listen(Box::new(Listen::new(address, of))))
    }

    /// Up when a connection to `address` is accepted. A Unix socket whose
    /// backlog is full (EAGAIN) is up: somebody listens and is busy.
    #[must_use]
    pub fn tcp(address: &Address) -> Self {
        Self::new(Kind::Tcp(Dialer::new(address)))
    }

    /// Up when `GET path` is answered with 200 to 399; redirects are not followed. `host` is the address if not given.
    #[must_use]
    pub fn http(address: &Address, path: &str, host: Option<&str>) -> Self {
        let expected = HttpProbe {
            address: None,
            path: path.to_owned(),
            host: host.map(str::to_owned),
            status: (200, 399),
            body: None,
            pointer: None,
        };
        Self::http_as(address, &expected)
    }

    /// Up when `GET` is answered as `expected`: with a good status, and a body that matches. With a
    /// JSON pointer (RFC 6901) the body must be JSON, of at most [`limits::CHECK_BODY_MAX`], with a text or `null` there: the name of the last
    /// finished phase, which the look then holds, also beside a bad status. `address` is where, if `expected` does not say.
    #[must_use]
    pub fn http_as(address: &Address, expected: &HttpProbe) -> Self {
        Self::new(Kind::Http(Box::new(http::Http::new(address, expected))))
    }

    /// Up when an opening handshake for `path` gets a valid 101 and the WebSocket is not lost, nor closed with 1011
    /// to 1013, within [`limits::SETTLE`].
    #[must_use]
    pub fn websocket(address: &Address, path: &str, host: Option<&str>) -> Self {
        Self::new(Kind::WebSocket(Box::new(websocket::WebSocket::new(
            address, path, host, false,
        ))))
    }

    /// The same, and a ping is answered with its pong.
    #[must_use]
    pub fn websocket_ping(address: &Address, path: &str, host: Option<&str>) -> Self {
        Self::new(Kind::WebSocket(Box::new(websocket::WebSocket::new(
            address, path, host, true,
        ))))
    }

    /// Up when `grpc.health.v1.Health/Check` of `service` (empty: of the whole server) says SERVING, over HTTP/2
    /// in the clear.
    #[must_use]
    pub fn grpc(address: &Address, service: &str) -> Self {
        Self::new(Kind::Grpc(grpc::Grpc::new(address, service)))
    }

    /// Up when PostgreSQL lets `user` into `database`, and is not in recovery unless `recovery` allows it. A server that
    /// asks for a password that is not given is up: it takes connections.
    #[must_use]
    pub fn postgres(address: &Address, user: &str, database: &str, password: Option<&Secret>, recovery: bool) -> Self {
        let postgres = postgres::Postgres::new(address, user, database, password, recovery);
        Self::new(Kind::Postgres(Box::new(postgres)))
    }

    /// Up when Redis answers PING with PONG. A server that asks for a password that is not given is up: it answers.
    #[must_use]
    pub fn redis(address: &Address, password: Option<&Secret>) -> Self {
        Self::new(Kind::Redis(redis::Redis::new(address, password)))
    }

    /// Up when NATS greets with INFO and answers PING. A server that asks for a login that is not given is up: it
    /// answers.
    #[must_use]
    pub fn nats(address: &Address, login: Option<&(String, Secret)>) -> Self {
        Self::new(Kind::Nats(Box::new(nats::Nats::new(address, login))))
    }

    /// Up when `command`, a program and its arguments, ends with exit code 0 in time. It and its process group are
    /// killed at the end of the time, and when the look is dropped.
    #[must_use]
    pub fn exec(command: &[OsString]) -> Self {
        Self::new(Kind::Exec(exec::Exec::new(command)))
    }

    /// Up while `matched` is true: a line of the child's output has matched in its present life. Who reads the
    /// output sends it, and false when a life begins. A change wakes [`watch()`]. When the sender is gone its last word stays.
    #[must_use]
    pub fn log(matched: watch::Receiver<bool>) -> Self {
        Self::new(Kind::Log(matched))
    }

    /// Up when something is at `path`, of any kind; a symbolic link that leads nowhere is not.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::new(Kind::File(file::File::new(path.to_owned())))
    }

    /// With this time for a look, instead of [`limits::PROBE_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
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
            Ready::Grpc(service) => Some(Self::grpc(address, service)),
        }
    }

    /// The probe of `check`; none for `log`, which is fed: see [`Probe::log`]. Where the check
    /// names no address it is `own_address`, the backend's.
    #[must_use]
    pub fn for_check(check: &Check, own_address: &Address, of: Of) -> Option<Self> {
        let at = |address: &'_ Option<Address>| address.clone().unwrap_or_else(|| own_address.clone());
        let probe = match &check.probe {
            ProbeKind::Listen(address) => Self::listen(&at(address), of),
            ProbeKind::Tcp(address) => Self::tcp(&at(address)),
            ProbeKind::Http(expected) => Self::http_as(own_address, expected),
            ProbeKind::WebSocket {
                address,
                path,
                host,
                ping: false,
            } => Self::websocket(&at(address), path, host.as_deref()),
            ProbeKind::WebSocket {
                address,
                path,
                host,
                ping: true,
            } => Self::websocket_ping(&at(address), path, host.as_deref()),
            ProbeKind::Grpc { address, service } => Self::grpc(&at(address), service),
            ProbeKind::Postgres {
                address,
                user,
                database,
                password,
                recovery,
            } => Self::postgres(address, user, database, password.as_ref(), *recovery),
            ProbeKind::Redis { address, password } => Self::redis(address, password.as_ref()),
            ProbeKind::Nats { address, login } => Self::nats(address, login.as_ref()),
            ProbeKind::Exec { command } => Self::exec(command),
            ProbeKind::Log { .. } => return None,
            ProbeKind::File { path } => Self::file(path),
        };
        Some(probe.with_timeout(check.timeout))
    }

    /// How often to look, unless told otherwise: [`limits::LISTEN_EVERY`] for `listen` on a child, else [`limits::PROBE_EVERY`].
    #[must_use]
    pub fn every(&self) -> Duration {
        match &self.kind {
            Kind::Listen(listen) if listen.is_of_child() => limits::LISTEN_EVERY,
            _ => limits::PROBE_EVERY,
        }
    }

    /// Looks once, within the probe's timeout. Dropping the future is safe.
    pub async fn look(&mut self) -> Look {
        let began = Instant::now();
        let verdict = self.once().await;
        Look {
            verdict,
            phase: match &mut self.kind {
                Kind::Http(http) => http.phase.take(),
                _ => None,
            },
            began,
            took: began.elapsed(),
            note: self.take_note(),
        }
    }

    /// The verdict of [`Probe::look`] alone.
    pub async fn once(&mut self) -> Verdict {
        let look = async {
            match &mut self.kind {
                Kind::Listen(listen) => listen.look().await,
                Kind::Tcp(dialer) => match dialer.connect().await? {
                    Dialed::Connected(_) | Dialed::Busy => Ok(()),
                },
                Kind::Http(http) => http.look().await,
                Kind::WebSocket(websocket) => websocket.look().await,
                Kind::Grpc(grpc) => grpc.look().await,
                Kind::Postgres(postgres) => postgres.look().await,
                Kind::Redis(redis) => redis.look().await,
                Kind::Nats(nats) => nats.look().await,
                Kind::Exec(exec) => exec.look().await,
                Kind::Log(matched) => {
                    if *matched.borrow_and_update() {
                        Ok(())
                    } else {
                        Err(Why::NoLine)
                    }
                }
                Kind::File(file) => file.look().await,
            }
        };
        match timeout(self.timeout, look).await {
            Ok(Ok(())) => Verdict::Up,
            Ok(Err(why)) => Verdict::Down(why),
            Err(_) => Verdict::Down(Why::TimedOut),
        }
    }

    /// Something to tell the user; each is answered once.
    pub fn take_note(&mut self) -> Option<Note> {
        match &mut self.kind {
            Kind::Listen(listen) => listen.take_note(),
            Kind::Postgres(postgres) => postgres.notes.take(),
            Kind::Redis(redis) => redis.notes.take(),
            Kind::Nats(nats) => nats.notes.take(),
            Kind::Tcp(_)
            | Kind::Http(_)
            | Kind::WebSocket(_)
            | Kind::Grpc(_)
            | Kind::Exec(_)
            | Kind::Log(_)
            | Kind::File(_) => None,
        }
    }

    /// Ends when something happened that makes a look worth while now; for most probes never.
    async fn woken(&mut self) {
        match &mut self.kind {
            Kind::Listen(listen) => listen.woken().await,
            Kind::Log(matched) => {
                if matched.changed().await.is_err() {
                    std::future::pending::<()>().await; // nobody feeds it any more
                }
            }
            _ => std::future::pending().await,
        }
    }
}

/// Never returned: [`watch()`] ends by being dropped.
pub enum Never {}

impl fmt::Debug for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Looks at once, then on a grid of `every` (at least 1 ms) without drift, and at once after
/// each `nudge.notify_one()`. Reports every look. Ends by being dropped.
///
/// Looks never overlap: those of the grid that fall into a long look are left
/// out, and the next is on the grid again; a nudge during a look makes one more after it.
pub async fn watch(mut probe: Probe, every: Duration, nudge: &Notify, mut report: impl FnMut(Look)) -> Never {
    let mut grid = Grid::new(every);
    loop {
        tokio::select! {
            () = sleep_until(grid.next) => {}
            () = nudge.notified() => {}
            () = probe.woken() => {}
        }
        report(probe.look().await);
        grid.pass(tokio::time::Instant::now());
    }
}

/// Points in time, all multiples of one interval after the first. (tokio's own interval makes up for the
/// last point missed at once, off the grid: a server that hangs would be asked without a pause.)
struct Grid {
    start: tokio::time::Instant,
    every: u64,
    next: tokio::time::Instant,
}

impl Grid {
    fn new(every: Duration) -> Self {
        let start = tokio::time::Instant::now();
        let every = every.max(limits::CHECK_EVERY.0);
        Self {
            start,
            every: nanoseconds(every),
            next: start,
        }
    }

    /// A look has ended: the next point is the first one not before `now` that has had no look.
    fn pass(&mut self, now: tokio::time::Instant) {
        let due = nanoseconds(self.next - self.start) / self.every;
        let passed = nanoseconds(now - self.start).div_ceil(self.every);
        // A look before the point was nudged, and leaves it as it is.
        let number = if now < self.next { due } else { passed.max(due + 1) };
        self.next = self.start + Duration::from_nanos(number.saturating_mul(self.every));
    }
}

/// Enough for 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
                _ => "another",
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

    /// When the looks of `watch` began, on tokio's own clock, which stands still until everybody waits.
    async fn looks(probe: Probe, every: Duration, count: usize) -> Vec<Duration> {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let start = tokio::time::Instant::now();
        let nudge = Notify::new();
        // `report` is called at the end of a look.
        let watching = watch(probe, every, &nudge, |_| tell.send(start.elapsed()).unwrap());
        let story = async {
            let mut ended = Vec::new();
            while ended.len() < count {
                ended.push(told.recv().await.unwrap());
            }
            ended
        };
        tokio::select! {
            never = watching => match never {},
            ended = story => ended,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_keep_to_the_grid_from_1_ms_to_60_s() {
        let (least, most) = limits::CHECK_EVERY;
        for every in [least, Duration::from_millis(7), limits::PROBE_EVERY, most] {
            let probe = Probe::log(tokio::sync::watch::channel(true).1);
            let looks = looks(probe, every, 1_001).await;
            let grid: Vec<_> = (0..=1_000).map(|n| every * n).collect();
            assert_eq!(
                looks, grid,
                "1000 looks in 1000 intervals of {every:?}, each on the grid"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_look_that_was_too_long_the_next_is_on_the_grid_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(); // the kernel accepts, nobody answers
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (every, long) = (Duration::from_millis(100), Duration::from_millis(250));
        let probe = Probe::http(&address, "/", None).with_timeout(long);
        let looks = looks(probe, every, 4).await;
        let grid: Vec<_> = (0..4).map(|n| every * 3 * n + long).collect();
        assert_eq!(looks, grid, "two of three are left out, and none is late");
    }

    #[tokio::test]
    async fn a_line_of_the_log_wakes_its_probe_and_a_new_life_takes_it_back() {
        let (line, matched) = tokio::sync::watch::channel(false);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let nudge = Notify::new();
        let report = |look: Look| tell.send(look.verdict).unwrap();
        let watching = watch(Probe::log(matched), Duration::from_secs(60), &nudge, report);
        let story = async {
            assert_eq!(told.recv().await, Some(Verdict::Down(Why::NoLine)));
            line.send_replace(true);
            assert_eq!(told.recv().await, Some(Verdict::Up));
            line.send_replace(false);
            assert_eq!(told.recv().await, Some(Verdict::Down(Why::NoLine)));
            line.send_replace(true);
            assert_eq!(told.recv().await, Some(Verdict::Up));
        };
        tokio::select! {
            never = watching => match never {},
            done = timeout(Duration::from_secs(20), story) => done.unwrap(),
        }
    }
}
