//! Tells the service manager outside how greenroom is.
//!
//! When greenroom itself runs under systemd (or another greenroom), NOTIFY_SOCKET
//! names a datagram socket, by a path or, with a leading `@`, by an abstract
//! name. Nothing here can fail loudly or block: a manager that does not listen
//! is no reason not to serve.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager outside, if there is one.
#[derive(Debug, Default)]
pub struct Outer {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Outer {
    /// The manager that NOTIFY_SOCKET names.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn new(name: Option<&OsStr>) -> Self {
        Self {
            manager: name.and_then(Self::reach),
        }
    }

    fn reach(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
            [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
            _ => return None, // empty, relative, or vsock, which no local manager uses
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((socket, address))
    }

    /// Whether somebody outside wants to know.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.manager.is_some()
    }

    /// greenroom serves.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// greenroom takes another configuration; [`Outer::ready`] is said when it has, or has refused it (sd_notify(3)).
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// What greenroom is doing, one line for `systemctl status`.
    pub fn status(&self, text: &str) {
        // A line break would begin a new assignment.
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    /// greenroom is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.manager {
            let _ = socket.send_to_addr(text.as_bytes(), address); // see the module: never loudly
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_with_an_abstract_name_hears_ready_status_and_stopping() {
        let name = format!("greenroom-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let outer = Outer::new(Some(format!("@{name}").as_ref()));
        outer.ready();
        outer.reloading();
        outer.status("holding\nREADY=0");
        outer.stopping();
        let mut buffer = [0; 100];
        let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mut said = String::new();
        for _ in 0..2 {
            let length = manager.recv(&mut buffer).unwrap();
            said = std::str::from_utf8(&buffer[..length]).unwrap().to_owned();
        }
        let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let micros: i64 = micros.parse().unwrap();
        let off = before.tv_sec * 1_000_000 + before.tv_nsec / 1_000 - micros;
        assert!((0..5_000_000).contains(&off), "{off}");
        for expected in ["STATUS=holding READY=0", "STOPPING=1"] {
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]), Ok(expected));
        }
    }

    #[test]
    fn a_manager_that_is_not_there_is_no_trouble() {
        for name in [
            None,
            Some(""),
            Some("relative"),
            Some("/no/such/socket"),
            Some("@nobody"),
            Some("vsock:2:1"),
        ] {
            let outer = Outer::new(name.map(OsStr::new));
            outer.ready();
            outer.stopping();
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(!Outer::new(Some(long.as_ref())).is_there());
    }
}
