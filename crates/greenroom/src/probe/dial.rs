//! Connects a probe to its backend.
//!
//! A name is looked up at most once per [`limits::RESOLVE_EVERY`], with one
//! lookup in flight at the most however long the resolver takes; while lookups
//! fail, the last good addresses are used. Each connect is bounded by
//! [`limits::CONNECT_TIMEOUT`].

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use greenroom_core::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Why;
use crate::config::Address;

/// A connection of either family.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How a connect ended well.
pub(super) enum Dialed {
    /// The connection.
    Connected(Box<dyn Connection>),
    /// A Unix socket's backlog is full: somebody listens, and is busy.
    Busy,
}

/// Connects to one address.
#[derive(Debug)]
pub(super) struct Dialer {
    address: Address,
    resolver: Resolver,
}

impl Dialer {
    pub(super) fn new(address: &Address) -> Self {
        Self {
            address: address.clone(),
            resolver: Resolver::new(address),
        }
    }

    /// Tries each address once, in order.
    pub(super) async fn connect(&mut self) -> Result<Dialed, Why> {
        if let Address::Unix(path) = &self.address {
            return match timeout(limits::CONNECT_TIMEOUT, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => Ok(Dialed::Connected(Box::new(stream))),
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Dialed::Busy),
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(Why::NoSocketFile),
                Ok(Err(error)) => Err(why(&error)),
                Err(_) => Err(Why::TimedOut),
            };
        }
        let mut last = Why::Unresolved;
        for &at in self.resolver.addresses().await? {
            last = match timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(at)).await {
                Ok(Ok(stream)) if is_own(&stream) => Why::Refused,
                Ok(Ok(stream)) => return Ok(Dialed::Connected(Box::new(stream))),
                Ok(Err(error)) => why(&error),
                Err(_) => Why::TimedOut,
            };
        }
        Err(last)
    }

    /// Like [`Self::connect`], but a busy Unix socket is tried again; the caller bounds the time.
    pub(super) async fn connection(&mut self) -> Result<Box<dyn Connection>, Why> {
        loop {
            match self.connect().await? {
                Dialed::Connected(stream) => return Ok(stream),
                Dialed::Busy => tokio::time::sleep(limits::BUSY_RETRY).await,
            }
        }
    }
}

/// Whether a connection is one with itself: who connects to a free port of the
/// ephemeral range may be given that very port, and TCP then opens to itself.
fn is_own(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}

/// What an error of a connection means.
pub(super) fn why(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Why::Refused,
        io::ErrorKind::TimedOut => Why::TimedOut,
        other => Why::Failed(other),
    }
}

/// The addresses of a host.
#[derive(Debug)]
pub(super) struct Resolver {
    name: String,
    port: u16,
    known: Vec<SocketAddr>,
    /// When `known` was looked up; never for an IP address, which needs no lookup.
    looked_up: Option<Instant>,
    flight: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    /// For a Unix socket it has no addresses.
    pub(super) fn new(address: &Address) -> Self {
        let (name, port) = match address {
            Address::Tcp { host, port } => (host.clone(), *port),
            Address::Unix(_) => (String::new(), 0),
        };
        Self {
            name,
            port,
            known: address.numbers(),
            looked_up: None,
            flight: None,
        }
    }

    /// The addresses, in the resolver's order; never empty.
    pub(super) async fn addresses(&mut self) -> Result<&[SocketAddr], Why> {
        let fresh = match self.looked_up {
            Some(at) => at.elapsed() < limits::RESOLVE_EVERY,
            None => !self.known.is_empty(), // an IP address
        };
        if !fresh {
            self.look_up().await;
        }
        if self.known.is_empty() {
            return Err(Why::Unresolved);
        }
        Ok(&self.known)
    }

    async fn look_up(&mut self) {
        let (name, port) = (&self.name, self.port);
        let flight = self.flight.get_or_insert_with(|| {
            let name = name.clone();
            tokio::spawn(async move { Ok(lookup_host((name, port)).await?.collect()) })
        });
        let Ok(landed) = timeout(limits::RESOLVE_TIMEOUT, &mut *flight).await else {
            return; // still in flight: the next look takes its result
        };
        self.flight = None;
        if let Ok(Ok(found)) = landed
            && !found.is_empty()
        {
            self.known = found;
            self.looked_up = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_an_ip_address_is_not() {
        let mut resolver = Resolver::new(&"[::1]:7".parse().unwrap());
        assert_eq!(resolver.addresses().await.unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(resolver.looked_up.is_none());
        let mut resolver = Resolver::new(&"no-such-host.invalid:7".parse().unwrap());
        assert_eq!(resolver.addresses().await.unwrap_err(), Why::Unresolved);
    }

    #[tokio::test]
    async fn the_last_good_addresses_are_kept_while_lookups_fail() {
        let mut resolver = Resolver::new(&"no-such-host.invalid:7".parse().unwrap());
        let good: SocketAddr = "127.0.0.1:7".parse().unwrap();
        resolver.known = vec![good];
        resolver.looked_up = Instant::now().checked_sub(limits::RESOLVE_EVERY * 2);
        assert_eq!(resolver.addresses().await.unwrap(), [good]);
    }

    #[tokio::test]
    async fn a_connection_with_itself_is_nobody() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = socket.local_addr().unwrap();
        let stream = socket.connect(at).await.unwrap();
        assert!(is_own(&stream));
    }
}
