//! Asks a greenroom that runs: what `greenroom status` and `greenroom phase` are made of.
//!
//! Bounded: one request, `ADMIN_TIMEOUT` for its answer and `SEND_PATIENCE` for what it may wait for, `ADMIN_BODY_MAX` bytes of it.

mod events;

use std::path::{Path, PathBuf};
use std::{env, io};

use greenroom_core::limits::{ADMIN_BODY_MAX, ADMIN_TIMEOUT, SEND_PATIENCE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub use super::about::{Build, LimitsInEffect};
pub use super::act::{CloseOne, CloseThese, Closing, One, SendThese, Sending};
pub use super::api::{Orphaned, Own, Problem, Push, Report, StopStatus};
pub use super::connections::{Connection, Connections, End};
pub use super::drain::{DrainList, DrainOrder, DrainReport};
pub use super::filter::Filter;
pub use super::gate::GateOrder;
pub use super::reload::{Outcome, Reload};
use super::socket;
pub use crate::driver::Status;
pub use events::{Ended, Follow, Said};

/// Why greenroom could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None runs.
    #[error("no greenroom of this user is running (there is no socket in {0}); give its socket with --admin PATH")]
    None(PathBuf),
    /// Several run.
    #[error("several greenrooms are running; say which one with --admin PATH:{0}")]
    Several(String),
    /// It does not answer.
    #[error("cannot ask the greenroom at {}", .0.display())]
    Unreachable(PathBuf, #[source] io::Error),
    /// Its answer makes no sense.
    #[error("what answers at {} is no greenroom of this version: {}", .0.display(), .1)]
    Nonsense(PathBuf, String),
    /// It said no.
    #[error("{}; {}", .0.error, .0.help)]
    Refused(Problem),
}

/// A greenroom that runs.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The one that is named; else the one that started us (`GREENROOM_ADMIN`); else the only one of this user that runs.
    pub fn find(named: Option<&Path>) -> Result<Self, ClientError> {
        if let Some(socket) = named {
            return Ok(Self { socket: socket.into() });
        }
        if let Some(socket) = env::var_os("GREENROOM_ADMIN").filter(|path| !path.is_empty()) {
            return Ok(Self { socket: socket.into() });
        }
        match &*socket::running() {
            [] => Err(ClientError::None(socket::runtime_folder())),
            [only] => Ok(Self { socket: only.clone() }),
            all => {
                let list = all.iter().map(|path| format!("\n  --admin {}", path.display()));
                Err(ClientError::Several(list.collect()))
            }
        }
    }

    /// Everything.
    pub fn report(&self) -> Result<Report, ClientError> {
        self.ask(Method::GET, "/v1/status", Vec::new())
    }

    /// Its connections: those that are open, or the last that ended. `filter` are names and values as the admin API knows them.
    pub fn connections(&self, closed: bool, filter: &[(&str, String)]) -> Result<Connections, ClientError> {
        let query: Vec<_> = filter
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let path = if closed { "/v1/closed" } else { "/v1/connections" };
        self.ask(Method::GET, &format!("{path}?{}", query.join("&")), Vec::new())
    }

    /// The connection of this number, open or among the last that ended.
    pub fn connection(&self, number: u64) -> Result<Connection, ClientError> {
        self.ask(Method::GET, &format!("/v1/connections/{number}"), Vec::new())
    }

    /// Closes connections, or counts those that would be.
    pub fn close(&self, these: &CloseThese) -> Result<Closing, ClientError> {
        self.change("/v1/connections/close", these)
    }

    /// Sends clients a message, or counts those that would get it.
    pub fn send(&self, these: &SendThese) -> Result<Sending, ClientError> {
        self.change("/v1/connections/send", these)
    }

    fn change<T: DeserializeOwned>(&self, path: &str, change: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(change).map_err(|error| self.nonsense(&error))?;
        self.ask(Method::POST, path, body)
    }

    /// Says how far a backend's start has come. Without a name it is the only backend.
    pub fn push(&self, backend: Option<&str>, push: &Push) -> Result<Status, ClientError> {
        let name = match backend {
            Some(name) => name.to_owned(),
            None => self.only_backend("with --backend")?,
        };
        let body = serde_json::to_vec(push).map_err(|error| self.nonsense(&error))?;
        self.ask(Method::POST, &format!("/v1/backends/{}/phases", encoded(&name)), body)
    }

    /// Sets the gate of a backend by hand. Without a name it is the only backend.
    pub fn gate(&self, backend: Option<&str>, order: &GateOrder) -> Result<Status, ClientError> {
        let name = match backend {
            Some(name) => name.to_owned(),
            None => self.only_backend("as the argument BACKEND")?,
        };
        let body = serde_json::to_vec(order).map_err(|error| self.nonsense(&error))?;
        self.ask(Method::POST, &format!("/v1/backends/{}/gate", encoded(&name)), body)
    }

    /// Begins a drain, or gives the same one that is under way.
    pub fn drain(&self, order: &DrainOrder) -> Result<DrainReport, ClientError> {
        let body = serde_json::to_vec(order).map_err(|error| self.nonsense(&error))?;
        self.ask(Method::POST, "/v1/drain", body)
    }

    /// How far a drain has come.
    pub fn drain_report(&self, id: u64) -> Result<DrainReport, ClientError> {
        self.ask(Method::GET, &format!("/v1/drains/{id}"), Vec::new())
    }

    /// Those under way, and the last that were.
    pub fn drains(&self) -> Result<DrainList, ClientError> {
        self.ask(Method::GET, "/v1/drains", Vec::new())
    }

    /// Ends a drain: who was not told to close stays.
    pub fn cancel_drain(&self, id: u64) -> Result<DrainReport, ClientError> {
        self.ask(Method::DELETE, &format!("/v1/drains/{id}"), Vec::new())
    }

    /// Tells it to read its file again and to take it, or only to say what that would do. A refusal is an answer too.
    pub fn reload(&self, dry_run: bool) -> Result<Reload, ClientError> {
        let body = format!("{{\"dry_run\": {dry_run}}}").into_bytes();
        let (_, bytes) = self.answer(Method::POST, "/v1/reload", body)?;
        if let Ok(answer) = serde_json::from_slice(&bytes) {
            return Ok(answer);
        }
        match serde_json::from_slice(&bytes) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(error) => Err(self.nonsense(&error)),
        }
    }

    fn only_backend(&self, how: &str) -> Result<String, ClientError> {
        let mut names = self.report()?.backends.into_iter().map(|status| status.backend);
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (first, second) => Err(ClientError::Refused(Problem {
                error: "there are several backends".into(),
                help: format!(
                    "say which one {how}: {}",
                    first
                        .into_iter()
                        .chain(second)
                        .chain(names)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })),
        }
    }

    fn nonsense(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::Nonsense(self.socket.clone(), error.to_string())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let (status, bytes) = self.answer(method, path, body)?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes).map_err(|error| self.nonsense(&error));
        }
        match serde_json::from_slice(&bytes) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(_) => Err(self.nonsense(&format!("it answered with status {status}"))),
        }
    }

    /// Its answer, whatever its status.
    fn answer(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Bytes), ClientError> {
        let unreachable = |error| ClientError::Unreachable(self.socket.clone(), error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(unreachable)?;
        let exchange = self.exchange(method, path, body);
        runtime
            .block_on(async { tokio::time::timeout(ADMIN_TIMEOUT + SEND_PATIENCE, exchange).await })
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(unreachable)
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> io::Result<(u16, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "greenroom")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ADMIN_BODY_MAX).collect().await;
        connection.abort();
        Ok((status, body.map_err(io::Error::other)?.to_bytes()))
    }
}

/// A name as one segment of a path. Names of the configuration need none of it; what a user types may.
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
