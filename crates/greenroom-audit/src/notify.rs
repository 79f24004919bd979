//! Sends sd_notify messages: what any server that supports systemd does.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A connected notify socket.
#[derive(Debug)]
pub struct Notifier(UnixDatagram);

impl Notifier {
    /// The socket that `$NOTIFY_SOCKET` names, if it names one.
    ///
    /// # Errors
    ///
    /// When the socket cannot be reached.
    pub fn from_env() -> io::Result<Option<Self>> {
        std::env::var_os("NOTIFY_SOCKET")
            .map(|name| Self::connect(&name))
            .transpose()
    }

    /// The socket `name`: a path, or an abstract name behind an `@`.
    ///
    /// # Errors
    ///
    /// When the socket cannot be reached.
    pub fn connect(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Self(socket))
    }

    /// Sends `state`, lines of `KEY=value`, as one datagram.
    ///
    /// # Errors
    ///
    /// When nobody receives it.
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.0.send(state.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_whole_at_an_abstract_socket() {
        let name = format!("greenroom-audit-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::connect(OsStr::new(&format!("@{name}"))).unwrap();
        notifier.send("STATUS=database\nREADY=1").unwrap();
        let mut buffer = [0; 64];
        let len = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"STATUS=database\nREADY=1");
    }
}
