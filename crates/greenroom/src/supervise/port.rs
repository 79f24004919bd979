//! Keeps a loopback port for the backend, for as long as greenroom lives.
//!
//! The port is held by a socket that is bound with SO_REUSEADDR and never
//! listens. The kernel then gives the number to nobody who asks for any free
//! port, while a backend that sets SO_REUSEADDR itself (as nearly all servers
//! do: asyncio, uvicorn, gunicorn, Node, Go, Rust's std, the JVM) can bind and listen there,
//! any number of lives in a row. A server that does not set it gets EADDRINUSE,
//! just as it would after its own restart, with connections in TIME_WAIT;
//! so after a life that ended without having listened the socket is given up ([`ReservedPort::give_up`]).
//! From then on the number is only as safe as any that is not in use: the kernel may give it away.
//!
//! No guard against a process of the same machine that asks for this very
//! number on purpose: what a listener belongs to is checked by the probes.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// A loopback port that is ours until this is dropped, or given up.
#[derive(Debug)]
pub struct ReservedPort {
    socket: Mutex<Option<Socket>>,
}

impl ReservedPort {
    /// Reserves a free port of 127.0.0.1 and says which.
    ///
    /// # Errors
    /// When the kernel has no free port or no descriptor.
    pub fn new() -> io::Result<(Self, u16)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?; // close-on-exec
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let port = socket.local_addr()?.as_socket_ipv4().map(|address| address.port());
        let socket = Mutex::new(Some(socket));
        Ok((Self { socket }, port.ok_or(io::ErrorKind::AddrNotAvailable)?))
    }

    /// Whether it is still kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Keeps it no longer: whoever asks for this number may have it. False if that was so already.
    pub fn give_up(&self) -> bool {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        socket.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn socket(reuse: bool) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(reuse).unwrap();
        socket
    }

    #[test]
    fn a_reserved_port_can_be_listened_on_again_and_again_and_refuses_in_between() {
        let (_reserved, port) = ReservedPort::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for any in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
            assert_eq!(
                TcpStream::connect(address).unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
            let listener = TcpListener::bind((any, port)).unwrap(); // std sets SO_REUSEADDR
            let client = TcpStream::connect(address).unwrap();
            drop((listener.accept().unwrap(), client, listener));
        }
    }

    #[test]
    fn a_server_without_reuseaddr_is_told_that_the_address_is_in_use_until_it_is_given_up() {
        let (reserved, port) = ReservedPort::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
        assert_eq!(
            socket(false).bind(&address).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        socket(true).bind(&address).unwrap();
        assert!(reserved.is_kept() && reserved.give_up());
        assert!(!reserved.is_kept() && !reserved.give_up());
        socket(false).bind(&address).unwrap();
    }

    #[test]
    fn no_port_is_given_twice() {
        let reserved: Vec<_> = (0..300).map(|_| ReservedPort::new().unwrap()).collect();
        let ports: HashSet<_> = reserved.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports.len(), reserved.len());
        let others: Vec<_> = (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        assert!(
            others
                .iter()
                .all(|other| !ports.contains(&other.local_addr().unwrap().port()))
        );
    }
}
