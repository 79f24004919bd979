//! `--ready`: how greenroom learns that a backend is ready.

use std::fmt;
use std::str::FromStr;

use greenroom_core::limits::{CHECK_TEXT_MAX, ROUTE_PATH_MAX};

/// How a backend's readiness is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A child that notifies is believed; until it does, and for a backend that
    /// greenroom did not start, `listen` for a local address, else `tcp`.
    Auto,
    /// The child sends `READY=1` (the sd_notify protocol).
    Notify,
    /// Somebody listens at the address, as the kernel's socket table tells.
    Listen,
    /// A TCP (or Unix) connection is accepted.
    Tcp,
    /// `GET path` is answered with 200 to 399.
    Http(String),
    /// An opening handshake for `path` is answered with a valid 101.
    WebSocket(String),
    /// `grpc.health.v1.Health/Check` of this service (empty: of the whole server) says SERVING.
    Grpc(String),
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Notify => f.write_str("notify"),
            Self::Listen => f.write_str("listen"),
            Self::Tcp => f.write_str("tcp"),
            Self::Http(path) => write!(f, "http:{path}"),
            Self::WebSocket(path) => write!(f, "websocket:{path}"),
            Self::Grpc(service) if service.is_empty() => f.write_str("grpc"),
            Self::Grpc(service) => write!(f, "grpc:{service}"),
        }
    }
}

/// Why a readiness could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadyError {
    /// Not one of the words.
    #[error(
        "{0:?} is no way to learn readiness: use auto, notify, listen, tcp, http:/path, websocket:/path or grpc:service"
    )]
    Unknown(String),
    /// A path that cannot stand in a request line.
    #[error("{0:?} is not a path: it must begin with / and hold only visible ASCII characters")]
    Path(String),
    /// A URL, of which only the path is chosen here.
    #[error("{found:?} names an address, and that is the backend's: write {meant}")]
    Url {
        /// As it was written.
        found: String,
        /// The same without the address.
        meant: String,
    },
    /// What cannot be the name of a service.
    #[error(
        "{0:?} is no name of a service: write it in full, such as \"chat.v1.Chat\", or \"grpc\" alone for the whole server"
    )]
    Service(String),
}

/// Of a URL, from the two slashes on, the path is meant.
fn url(found: &str, kind: &str, rest: &str) -> ReadyError {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.find('/').map_or("/", |at| path.get(at..).unwrap_or("/"));
    ReadyError::Url {
        found: found.to_owned(),
        meant: format!("{kind}:{path}"),
    }
}

/// A path, with or without a query, that can stand in a request line.
pub(super) fn request_path(text: &str) -> Result<String, ReadyError> {
    let legal = text.starts_with('/') && text.len() <= ROUTE_PATH_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    legal
        .then(|| text.to_owned())
        .ok_or_else(|| ReadyError::Path(text.into()))
}

/// The full name of a service of gRPC.
pub(super) fn grpc_service(text: &str) -> Result<String, ReadyError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let legal = (1..=CHECK_TEXT_MAX).contains(&text.len()) && text.bytes().all(legal);
    legal
        .then(|| text.to_owned())
        .ok_or_else(|| ReadyError::Service(text.into()))
}

impl FromStr for Ready {
    type Err = ReadyError;

    fn from_str(text: &str) -> Result<Self, ReadyError> {
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(Self::Auto),
                "notify" => Ok(Self::Notify),
                "listen" => Ok(Self::Listen),
                "tcp" => Ok(Self::Tcp),
                "grpc" => Ok(Self::Grpc(String::new())),
                _ => Err(ReadyError::Unknown(text.into())),
            },
            Some(("http" | "https", rest)) if rest.starts_with("//") => Err(url(text, "http", rest)),
            Some(("websocket" | "ws" | "wss", rest)) if rest.starts_with("//") => Err(url(text, "websocket", rest)),
            Some(("http", rest)) => request_path(rest).map(Self::Http),
            Some(("websocket", rest)) => request_path(rest).map(Self::WebSocket),
            Some(("grpc", rest)) => grpc_service(rest).map(Self::Grpc),
            Some(_) => Err(ReadyError::Unknown(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_same() {
        for text in [
            "auto",
            "notify",
            "listen",
            "tcp",
            "http:/health?x=1",
            "websocket:/ws",
            "grpc",
            "grpc:chat.v1.Chat",
        ] {
            assert_eq!(text.parse::<Ready>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn of_a_url_the_path_is_meant() {
        for (text, meant) in [
            ("http://127.0.0.1/health", "http:/health"),
            ("http://localhost:9000/health?x=1", "http:/health?x=1"),
            ("https://localhost", "http:/"),
            ("http:///health", "http:/health"),
            ("ws://localhost:9000/ws", "websocket:/ws"),
            ("websocket://localhost:9000/ws", "websocket:/ws"),
        ] {
            let said = text.parse::<Ready>().unwrap_err().to_string();
            let expected = format!("{text:?} names an address, and that is the backend's: write {meant}");
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn refuses_other_words_and_bad_paths() {
        for text in [
            "",
            "Auto",
            "http",
            "http:",
            "http:health",
            "grpc:",
            "grpc:a b",
            "grpcs",
            "websocket:/a b",
            "http:/\r\nHost: x",
        ] {
            assert!(text.parse::<Ready>().is_err(), "{text}");
        }
    }
}
