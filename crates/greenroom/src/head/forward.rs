//! Writes the head that the backend gets.
//!
//! Order matters (Apache CVE-2022-31813, Traefik CVE-2024-45410): first what
//! Connection nominates and what ends at this hop is dropped, then what only a
//! proxy may say, and only then greenroom says its own. So nothing that a client
//! writes can remove or fake a field of greenroom's.
//!
//! Everything else is kept as it came, in its order: Host, Origin, Cookie, the
//! key. The target goes out in origin-form. `Content-Length: 0` is dropped. The
//! length is bounded by that of the client's head and some 400 bytes.

use super::fields;
use super::request::Upgrade;
use greenroom_core::event::SessionId;
use httparse::Header;
use std::io::Write as _;
use std::net::IpAddr;

/// What greenroom says to the backend about a client.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// The client's address.
    pub peer: IpAddr,
    /// `http`, or `https` where TLS ended here.
    pub proto: &'static str,
    /// The session.
    pub session: SessionId,
    /// How often this session has been dialled: 1 at the first dial.
    pub attempt: u32,
    /// The peer is a proxy whose `Forwarded`, `X-Forwarded-*` and `X-Real-IP` are believed.
    pub trusted_peer: bool,
}

impl Upgrade {
    /// Appends the head for the backend to `out`.
    pub fn to_backend(&self, forward: &Forward, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let all = self.fields(&mut slots);
        out.reserve(self.head().len() + 400);
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(self.target().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for field in all {
            if passes(all, field, forward.trusted_peer) {
                fields::write(out, field.name, field.value);
            }
        }
        self.write_own(all, forward, out);
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    }

    fn write_own(&self, all: &[Header<'_>], forward: &Forward, out: &mut Vec<u8>) {
        let said = |name: &str| {
            let mut values = fields::values(all, name);
            forward.trusted_peer && !fields::is_nominated(all, name) && values.next().is_some()
        };
        out.extend_from_slice(b"X-Forwarded-For: ");
        if said(FORWARDED_FOR) {
            for address in fields::elements(all, FORWARDED_FOR) {
                out.extend_from_slice(address);
                out.extend_from_slice(b", ");
            }
        }
        // Writing to a Vec cannot fail. An IPv4 client of a dual-stack listener is an IPv4 client.
        let _ = write!(out, "{}\r\n", forward.peer.to_canonical());
        if !said("x-forwarded-proto") {
            fields::write(out, "X-Forwarded-Proto", forward.proto.as_bytes());
        }
        if !said("x-forwarded-host") {
            fields::write(out, "X-Forwarded-Host", self.host().as_bytes());
        }
        let (session, attempt) = (forward.session, forward.attempt);
        let _ = write!(out, "Greenroom-Session: {session}\r\nGreenroom-Attempt: {attempt}\r\n");
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether a field of the client reaches the backend.
fn passes(all: &[Header<'_>], field: &Header<'_>, trusted_peer: bool) -> bool {
    let name = field.name;
    // X-Forwarded-For of a trusted peer is written once, with the peer at its end.
    let replaced = ["content-length", FORWARDED_FOR]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own));
    // A name with an underscore becomes the same CGI variable as one with a dash.
    // A trusted proxy need not have looked for them, so they are never passed.
    let dropped = replaced || fields::is_own(name) || name.contains('_') || fields::is_hop_by_hop(name);
    !dropped && (trusted_peer || !is_proxys(name)) && !fields::is_nominated(all, name)
}

/// Whether a field is one that only a trusted proxy may set.
fn is_proxys(name: &str) -> bool {
    fields::has_prefix(name, "x-forwarded-")
        || ["x-forwarded", "x-real-ip", "forwarded"]
            .iter()
            .any(|proxys| name.eq_ignore_ascii_case(proxys))
}
