//! Writes the heads that the client gets from the backend.
//!
//! Fields that end at this hop, those that Connection nominates, and
//! `Greenroom-*` are dropped; all others are kept as they came, Set-Cookie too.
//! Then greenroom says about this connection what holds for it: it switches, or
//! it closes after the answer.

use super::body::BodyFraming;
use super::fields;
use super::response::{Parts, Status, Switched, parse};
use std::io::Write as _;

impl Switched<'_> {
    /// Appends the 101 for the client to `out`.
    pub fn to_client(&self, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let Ok(parts) = parse(self.head, &mut slots) else {
            debug_assert!(false, "it parsed before");
            return;
        };
        out.reserve(self.head.len() + 64);
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        // A 101 has no body, so also not the length of one.
        write_kept(&parts, |_| false, out);
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    }
}

impl Status<'_> {
    /// Appends the head of the answer for the client to `out`. The body follows as it comes, up to where
    /// [`Status::body`] ends it, and then the connection is closed.
    pub fn to_client(&self, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let Ok(parts) = parse(self.head, &mut slots) else {
            debug_assert!(false, "it parsed before");
            return;
        };
        out.reserve(self.head.len() + 64);
        // Writing to a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {:03} ", self.status());
        out.extend_from_slice(parts.reason);
        out.extend_from_slice(b"\r\n");
        // Said once, even where the backend said it twice; a 204 must not say it, a 304 may.
        let mut length_said = self.status() == 204;
        let first_length =
            |name: &str| name.eq_ignore_ascii_case("content-length") && !std::mem::replace(&mut length_said, true);
        write_kept(&parts, first_length, out);
        if self.body() == BodyFraming::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        // A 426 must say to what (RFC 9110 §15.5.22); we speak only one.
        if self.status() == 426 && fields::lists(parts.fields, "upgrade", "websocket") {
            out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n");
        } else {
            out.extend_from_slice(b"Connection: close\r\n\r\n");
        }
    }
}

/// Writes all fields that pass, and Content-Length as `length_passes` says.
fn write_kept(parts: &Parts<'_, '_>, mut length_passes: impl FnMut(&str) -> bool, out: &mut Vec<u8>) {
    for field in parts.fields {
        let name = field.name;
        let dropped = fields::is_hop_by_hop(name) || fields::is_own(name) || fields::is_nominated(parts.fields, name);
        let is_length = name.eq_ignore_ascii_case("content-length");
        if !dropped && (!is_length || length_passes(name)) {
            fields::write(out, name, field.value);
        }
    }
}
