//! The door: one shared listening socket, and the loop that takes clients from it.
//!
//! It is bound before anything else is started, so that the first client finds it
//! open. There is one socket for all threads: SO_REUSEPORT would give each its own
//! queue, which breaks the order of arrival and loses backlog. Without a
//! descriptor for another client, accepting rests for a fixed time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use greenroom_core::limits::{ACCEPT_REST, LISTEN_BACKLOG};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::Address;
use crate::front::Front;
use crate::opening;
use crate::stream::set_up;
use crate::telemetry::Log;
use crate::threads::Threads;

/// Why greenroom cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("cannot listen on {address}: the name cannot be resolved ({source}); use an IP address")]
    Resolve {
        /// What was given.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the port is in use; stop what listens there, or choose another with --listen")]
    InUse {
        /// What was given.
        address: Address,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// What was given.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// A Unix path.
    #[error("cannot listen on {0}: clients come over TCP; use host:port")]
    Unix(Address),
}

/// Opens the door. Nobody is lost from here on: the kernel queues whom we do not take at once.
pub fn bind(address: &Address) -> Result<std::net::TcpListener, ListenError> {
    let Address::Tcp { host, port } = address else {
        return Err(ListenError::Unix(address.clone()));
    };
    let other = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse {
            address: address.clone(),
        },
        _ => ListenError::Other {
            address: address.clone(),
            source,
        },
    };
    let found = match address.ip() {
        Some(ip) => SocketAddr::new(ip, *port),
        None => std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port))
            .and_then(|mut found| found.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|source| ListenError::Resolve {
                address: address.clone(),
                source,
            })?,
    };
    let socket = Socket::new(Domain::for_address(found), Type::STREAM, Some(Protocol::TCP)).map_err(other)?;
    socket.set_reuse_address(true).map_err(other)?;
    socket.set_nonblocking(true).map_err(other)?;
    socket.bind(&found.into()).map_err(other)?;
    socket
        .listen(i32::try_from(LISTEN_BACKLOG).unwrap_or(i32::MAX))
        .map_err(other)?;
    Ok(socket.into())
}

/// Takes clients for ever, and gives each to a thread.
pub async fn accept(listener: TcpListener, threads: Arc<Threads>, front: Arc<Front>, log: Log) {
    let mut told = false;
    loop {
        let accepted = match listener.accept().await {
            Ok((client, peer)) => client.into_std().map(|client| (client, peer.ip().to_canonical())),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((client, peer)) => {
                set_up(&client, peer.is_loopback());
                match front.registry.accept(peer) {
                    Ok(entry) => threads.spawn(opening::serve(Arc::clone(&front), client, entry)),
                    Err(refusal) => opening::turn_away(&front, &threads, client, refusal),
                }
            }
            // The client was gone before we came; nothing is wrong with the door.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    log.warn(format!(
                        "cannot accept connections for the moment: {error}; clients wait in the kernel's queue"
                    ));
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}
