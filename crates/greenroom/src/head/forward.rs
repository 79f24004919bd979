//! Writes the head that the backend gets.
//!
//! Order matters (Apache CVE-2022-31813, Traefik CVE-2024-45410): first what
//! Connection nominates and what ends at this hop is dropped, then what only a
//! proxy may say, and only then greenroom says its own. So nothing that a client
//! writes can remove or fake a field of greenroom's.
//!
//! Everything else is kept as it came, in its order: Host, Origin, Cookie, the
//! key. The target goes out in origin-form. A route may set and remove fields and
//! replace the beginning of the path; what says where a request goes, where it ends
//! and whose it is, is not among them (the configuration sees to that).
//!
//! One function writes the heads of both kinds of request, so that nobody can tell
//! them apart but by the handshake's own two fields. The length is bounded by that of the
//! client's head, the route's fields and some 550 bytes.

use super::body::BodyFraming;
use super::fields;
use super::request::{Http, Kind, Upgrade};
use crate::config::HeaderEdits;
use crate::trace::Sent;
use greenroom_core::event::SessionId;
use httparse::Header;
use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

/// What greenroom says to the backend about a client, and what the route changes.
#[derive(Clone, Debug)]
pub struct Forward<'r> {
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
    /// Fields that the route sets and removes.
    pub edits: &'r HeaderEdits,
    /// The target that the backend sees, where it is not the client's.
    pub target: Option<Cow<'r, str>>,
    /// Host for a request of HTTP/1.0 that has none.
    pub authority: &'r str,
    /// The client has a 101 of greenroom's own, which agreed on no extension: none is offered.
    pub is_accepted: bool,
    /// The value of `Greenroom-Degraded`, while something is missing of the backend.
    pub degraded: Option<&'r str>,
    /// The place in a trace that the backend hears of instead of the client's; `None`: the client's passes.
    pub trace: Option<Sent>,
}

/// How a request goes on behind its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Upgrade,
    Plain(BodyFraming),
}

impl Kind {
    /// Appends the head for the backend to `out`.
    pub fn to_backend(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Upgrade(upgrade) => upgrade.to_backend(forward, out),
            Self::Http(http) => http.to_backend(forward, out),
        }
    }
}

impl Upgrade {
    /// Appends the head for the backend to `out`.
    pub fn to_backend(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let (method, all) = self.parts(&mut slots);
        out.reserve(self.head().len() + 550);
        write(method, self.target(), self.host(), all, Rest::Upgrade, forward, out);
    }
}

impl Http {
    /// Appends the head for the backend to `out`. The body follows as it comes.
    pub fn to_backend(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        let mut slots = fields::slots();
        let (method, all) = self.parts(&mut slots);
        let rest = Rest::Plain(self.body());
        out.reserve(self.head().len() + 550);
        write(method, self.target(), self.host(), all, rest, forward, out);
    }
}

fn write(
    method: &str,
    target: &str,
    host: &str,
    all: &[Header<'_>],
    rest: Rest,
    forward: &Forward<'_>,
    out: &mut Vec<u8>,
) {
    let target = forward.target.as_deref().unwrap_or(target);
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut has_host = false;
    for field in all {
        has_host |= field.name.eq_ignore_ascii_case("host");
        if passes(all, field, rest, forward) {
            fields::write(out, field.name, field.value);
        }
    }
    let host = if has_host { host } else { forward.authority };
    if !has_host {
        fields::write(out, "Host", host.as_bytes()); // HTTP/1.0; we speak HTTP/1.1, which must have one
    }
    write_own(all, host, forward, out);
    for (name, value) in &forward.edits.set {
        fields::write(out, name, value.as_bytes());
    }
    let end: &[u8] = match rest {
        Rest::Upgrade => b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Rest::Plain(BodyFraming::Chunked) => b"Transfer-Encoding: chunked\r\n\r\n",
        Rest::Plain(BodyFraming::None | BodyFraming::Length(_) | BodyFraming::UntilClose) => b"\r\n",
    };
    out.extend_from_slice(end);
}

fn write_own(all: &[Header<'_>], host: &str, forward: &Forward<'_>, out: &mut Vec<u8>) {
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
        fields::write(out, "X-Forwarded-Host", host.as_bytes());
    }
    let (session, attempt) = (forward.session, forward.attempt);
    let _ = write!(
        out,
        "Via: 1.1 greenroom\r\nGreenroom-Session: {session}\r\nGreenroom-Attempt: {attempt}\r\n"
    );
    if let Some(degraded) = forward.degraded {
        fields::write(out, "Greenroom-Degraded", degraded.as_bytes());
    }
    if let Some(Sent { context, .. }) = forward.trace.filter(|_| !forward.edits.touches("traceparent")) {
        let _ = write!(out, "traceparent: {context}\r\n");
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether a field of the client reaches the backend.
fn passes(all: &[Header<'_>], field: &Header<'_>, rest: Rest, forward: &Forward<'_>) -> bool {
    let name = field.name;
    // X-Forwarded-For of a trusted peer is written once, with the peer at its end.
    let replaced =
        name.eq_ignore_ascii_case(FORWARDED_FOR) || forward.edits.touches(name) || is_traced(name, forward.trace);
    // Where there is a length it is the one that was checked. An upgrade's can only be 0.
    let is_surplus = rest == Rest::Upgrade && name.eq_ignore_ascii_case("content-length");
    // A name with an underscore becomes the same CGI variable as one with a dash.
    // A trusted proxy need not have looked for them, so they are never passed.
    // `Proxy` is no field of HTTP: as the CGI variable HTTP_PROXY it names a proxy to the
    // backend's own requests (CVE-2016-5385).
    let is_trap = name.contains('_') || name.eq_ignore_ascii_case("proxy");
    let is_over = forward.is_accepted && name.eq_ignore_ascii_case("sec-websocket-extensions");
    let dropped = replaced || is_surplus || is_over || is_trap || fields::is_own(name) || fields::is_hop_by_hop(name);
    !dropped && (forward.trusted_peer || !is_proxys(name)) && !fields::is_nominated(all, name)
}

/// Whether a field speaks of a trace in which the backend hears of another place.
fn is_traced(name: &str, trace: Option<Sent>) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    trace.is_some_and(|trace| is("traceparent") || (trace.is_root && is("tracestate")))
}

/// Whether a field is one that only a trusted proxy may set.
fn is_proxys(name: &str) -> bool {
    fields::has_prefix(name, "x-forwarded-")
        || ["x-forwarded", "x-real-ip", "forwarded"]
            .iter()
            .any(|proxys| name.eq_ignore_ascii_case(proxys))
}
