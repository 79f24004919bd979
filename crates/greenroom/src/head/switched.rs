//! Writes the heads that the client gets from the backend.
//!
//! Fields that end at this hop, those that Connection nominates, and
//! `Greenroom-*` are dropped; all others are kept as they came, Set-Cookie too.
//! A route may set and remove fields. Then greenroom says about this connection
//! what holds for it: it switches, closes after the answer, or goes on.

use super::body::BodyFraming;
use super::fields;
use super::response::{Interim, Parts, Status, Switched, parse};
use crate::config::{HeaderEdits, NO_EDITS};
use std::io::Write as _;

/// What becomes of the client's connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is closed.
    Close,
    /// It may carry another request: as HTTP/1.1 has it, unless it says otherwise.
    Persist,
    /// It may carry another request, and a client of HTTP/1.0 asked for that.
    PersistHttp10,
}

/// What is changed in an answer, and added to it.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    /// Fields that the route sets and removes.
    pub route: &'a HeaderEdits,
    /// The value of `Greenroom-Degraded`, where the client is told.
    pub degraded: Option<&'a str>,
}

/// Nothing is changed.
pub const UNCHANGED: Edits<'static> = Edits {
    route: &NO_EDITS,
    degraded: None,
};

impl Switched<'_> {
    /// Appends the 101 for the client to `out`.
    pub fn to_client(&self, edits: Edits<'_>, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let Ok(parts) = parse(self.head, &mut slots) else {
            debug_assert!(false, "it parsed before");
            return;
        };
        out.reserve(self.head.len() + 64);
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        // A 101 has no body, so also not the length of one.
        write_kept(&parts, edits, |_| false, out);
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    }
}

impl Interim<'_> {
    /// Appends the interim answer for the client to `out`.
    pub fn to_client(&self, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let Ok(parts) = parse(self.head, &mut slots) else {
            debug_assert!(false, "it parsed before");
            return;
        };
        write_status_line(&parts, out);
        write_kept(&parts, UNCHANGED, |_| false, out);
        out.extend_from_slice(b"\r\n");
    }
}

impl Status<'_> {
    /// Appends the head of the answer for the client to `out`. The body follows as it comes, up to where
    /// [`Status::body`] ends it; without its chunks if `dechunk`, for a client of HTTP/1.0.
    pub fn to_client(&self, edits: Edits<'_>, after: After, dechunk: bool, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let Ok(parts) = parse(self.head, &mut slots) else {
            debug_assert!(false, "it parsed before");
            return;
        };
        out.reserve(self.head.len() + 64);
        write_status_line(&parts, out);
        // Said once, even where the backend said it twice; a 204 must not say it, a 304 may.
        let mut length_said = self.status() == 204;
        let first_length =
            |name: &str| name.eq_ignore_ascii_case("content-length") && !std::mem::replace(&mut length_said, true);
        write_kept(&parts, edits, first_length, out);
        if self.body() == BodyFraming::Chunked && !dechunk {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        // A 426 must say to what (RFC 9110 §15.5.22); we speak only one.
        let upgrade = self.status() == 426 && fields::lists(parts.fields, "upgrade", "websocket");
        let end: &[u8] = match (upgrade, after) {
            (false, After::Close) => b"Connection: close\r\n\r\n",
            (false, After::Persist) => b"\r\n",
            (false, After::PersistHttp10) => b"Connection: keep-alive\r\n\r\n",
            (true, After::Close) => b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
            (true, After::Persist) => b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            (true, After::PersistHttp10) => b"Upgrade: websocket\r\nConnection: Upgrade, keep-alive\r\n\r\n",
        };
        out.extend_from_slice(end);
    }
}

fn write_status_line(parts: &Parts<'_, '_>, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {:03} ", parts.code);
    out.extend_from_slice(parts.reason);
    out.extend_from_slice(b"\r\n");
}

/// Writes all fields that pass, Content-Length as `length_passes` says, and what the route sets.
fn write_kept(parts: &Parts<'_, '_>, edits: Edits<'_>, mut length_passes: impl FnMut(&str) -> bool, out: &mut Vec<u8>) {
    for field in parts.fields {
        let name = field.name;
        let dropped = fields::is_hop_by_hop(name)
            || fields::is_own(name)
            || fields::is_nominated(parts.fields, name)
            || edits.route.touches(name);
        let is_length = name.eq_ignore_ascii_case("content-length");
        if !dropped && (!is_length || length_passes(name)) {
            fields::write(out, name, field.value);
        }
    }
    for (name, value) in &edits.route.set {
        fields::write(out, name, value.as_bytes());
    }
    if let Some(degraded) = edits.degraded {
        fields::write(out, "Greenroom-Degraded", degraded.as_bytes());
    }
}
