//! Where something listens: `host:port` or `unix:/path`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket (`sun_path`, with its closing NUL).
const UNIX_PATH_MAX: usize = 107;

/// An address that a backend (or greenroom itself) listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port`. The host is a name, an IPv4 address, or an IPv6 address (kept without brackets).
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// The IP address, when the host is one (`localhost` counts as 127.0.0.1).
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { host, .. } if host == "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            Self::Tcp { host, .. } => host.parse().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The socket addresses that it is, in the order in which they are tried, if no look-up is needed to know
    /// them; none for a Unix path. `localhost` is `::1` too: some servers listen there only.
    #[must_use]
    pub fn numbers(&self) -> Vec<SocketAddr> {
        let (Self::Tcp { host, port }, Some(ip)) = (self, self.ip()) else {
            return Vec::new();
        };
        let second = (host == "localhost").then(|| IpAddr::from(Ipv6Addr::LOCALHOST));
        let all = [Some(ip), second].into_iter().flatten();
        all.map(|ip| SocketAddr::new(ip, *port)).collect()
    }

    /// Whether what listens there is on this machine for sure: a Unix socket or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { .. } => self.ip().is_some_and(|ip| ip.is_loopback()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `host:port` nor `unix:/path`.
    #[error("{0:?} is not an address: write host:port, such as 127.0.0.1:8000, or unix:/path")]
    Unreadable(String),
    /// A URL.
    #[error("{0:?} is a URL: write host:port alone, such as 127.0.0.1:8000")]
    Url(String),
    /// A port alone.
    #[error(
        "{found:?} is a port alone: write host:port, such as 127.0.0.1:{port}, or 0.0.0.0:{port} to listen at all addresses of this machine"
    )]
    PortAlone {
        /// As it was written.
        found: String,
        /// The port.
        port: String,
    },
    /// A host without a port.
    #[error("{0:?} has no port: write host:port, such as {0}:8000")]
    HostAlone(String),
    /// The port is not a number from 0 to 65535.
    #[error("{port:?} in {found:?} is not a port: it must be a number from 0 to 65535")]
    Port {
        /// The whole address.
        found: String,
        /// What stands after the last colon.
        port: String,
    },
    /// An IPv6 address without brackets.
    #[error("{0:?} looks like an IPv6 address: put it in brackets, such as [::1]:8000")]
    Brackets(String),
    /// A Unix socket's path that the kernel would refuse.
    #[error(
        "{0:?} is not usable as the path of a Unix socket: it must be absolute and of at most {UNIX_PATH_MAX} bytes"
    )]
    Path(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > UNIX_PATH_MAX || path.contains('\0') {
                return Err(AddressError::Path(path.into()));
            }
            return Ok(Self::Unix(path.into()));
        }
        if text.contains("://") {
            return Err(AddressError::Url(text.into()));
        }
        let alone = text.strip_prefix(':').unwrap_or(text);
        if alone.parse::<u16>().is_ok() && alone.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AddressError::PortAlone {
                found: text.into(),
                port: alone.into(),
            });
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            let is_host = !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
            let error = if is_host {
                AddressError::HostAlone
            } else {
                AddressError::Unreadable
            };
            return Err(error(text.into()));
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(AddressError::Unreadable(text.into())),
            None if host.contains(':') => return Err(AddressError::Brackets(text.into())),
            None => host,
        };
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(legal) {
            return Err(AddressError::Unreadable(text.into()));
        }
        let bad_port = || AddressError::Port {
            found: text.into(),
            port: port.into(),
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad_port());
        }
        let port = port.parse().map_err(|_| bad_port())?;
        Ok(Self::Tcp {
            host: host.into(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_same() {
        for text in [
            "127.0.0.1:8000",
            "localhost:80",
            "[::1]:9000",
            "unix:/run/app.sock",
            "my-app.internal:0",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for text in [
            "8000",
            ":8000",
            "::1:80",
            "[::1:80",
            "host:",
            "host:70000",
            "host:+80",
            "unix:app.sock",
            "a b:1",
            "http://x:1",
            "localhost",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            insta::assert_snapshot!(
                format!("address {}", text.replace(['/', ':', ' ', '[', '+'], "_")),
                error
            );
        }
    }

    #[test]
    fn only_loopback_and_unix_are_local() {
        let local = |text: &str| text.parse::<Address>().unwrap().is_local();
        assert!(local("127.0.0.1:1") && local("[::1]:1") && local("localhost:1") && local("unix:/x"));
        assert!(!local("10.0.0.1:1") && !local("example.org:1"));
    }
}
