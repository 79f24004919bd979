//! Promises of the whole module: tables of requests and answers, and what holds for any bytes.
//!
//! Each row names the exact fault, so that a row cannot pass because another guard caught it.

mod answers;
mod any_bytes;
mod backend_head;
mod clients;
mod lanes;
mod requests;

use crate::config::NO_EDITS;

use super::{Fault, Forward, Kind, Request, Upgrade, parse_request};
use greenroom_core::event::SessionId;
use std::net::{IpAddr, Ipv4Addr};

/// The lines of a plain valid upgrade after its request line.
const VALID: &str = "Host: example.org\nUpgrade: websocket\nConnection: Upgrade\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n";
/// What a backend answers to [`VALID`].
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A head from lines that end with LF here, for the eye.
fn crlf(lines: &str) -> Vec<u8> {
    (lines.replace('\n', "\r\n") + "\r\n").into_bytes()
}

/// `GET /` with the valid lines and `more`.
fn valid_and(more: &str) -> Vec<u8> {
    crlf(&format!("GET / HTTP/1.1\n{VALID}{more}"))
}

/// `GET /` with the valid lines, of which one is replaced.
fn valid_but(line: &str, by: &str) -> Vec<u8> {
    assert!(VALID.contains(line), "{line}");
    crlf(&format!("GET / HTTP/1.1\n{}", VALID.replace(line, by)))
}

/// What a request is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Upgrade,
    Http,
    Partial,
    Bad(Fault),
}

fn is(bytes: &[u8]) -> Is {
    match parse_request(bytes) {
        Request::Partial => Is::Partial,
        Request::Bad(fault) => Is::Bad(fault),
        Request::Complete {
            kind: Kind::Upgrade(_), ..
        } => Is::Upgrade,
        Request::Complete {
            kind: Kind::Http(_), ..
        } => Is::Http,
    }
}

fn upgrade(bytes: &[u8]) -> Upgrade {
    match parse_request(bytes) {
        Request::Complete {
            kind: Kind::Upgrade(upgrade),
            ..
        } => upgrade,
        other => panic!("not an upgrade: {other:?}: {}", bytes.escape_ascii()),
    }
}

fn forward() -> Forward<'static> {
    Forward {
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        proto: "http",
        session: SessionId(42),
        attempt: 1,
        trusted_peer: false,
        edits: &NO_EDITS,
        is_accepted: false,
        degraded: None,
        trace: None,
        target: None,
        authority: "127.0.0.1:8000",
    }
}

fn to_backend(upgrade: &Upgrade, forward: &Forward<'_>) -> String {
    let mut out = Vec::new();
    upgrade.to_backend(forward, &mut out);
    String::from_utf8(out).unwrap()
}
