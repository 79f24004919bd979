//! Decides whether a client's request is a WebSocket opening handshake, and what a plain one asks for.
//!
//! Everything that leaves open where a request goes, where it ends, or whether
//! it upgrades is refused here, before a place at the gate is taken, so that no
//! later part has to judge a head again. In order: form, authority, length,
//! Connection; then, for an upgrade, RFC 6455 §4.2.1, the version last, as 426
//! tells the client that all but that was right.

use super::body::BodyFraming;
use super::fault::Fault;
use super::fields::{self, ListFault, Several, Slots};
use super::{negotiation, scan, target};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greenroom_core::limits::{HEAD_MAX, HEAD_MAX_RANGE};
use httparse::Header;
use sha1::{Digest as _, Sha1};
use std::fmt;
use std::ops::Range;

/// What is appended to the key before it is hashed (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A key: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// The longest head that the configuration may allow.
#[allow(clippy::cast_possible_truncation, reason = "see the next line")]
const HEAD_MOST: usize = HEAD_MAX_RANGE.1 as usize;
// The indices of `Upgrade` are 16 bits wide.
const _: () = assert!(HEAD_MAX_RANGE.1 <= u16::MAX as u64 && HEAD_MAX <= HEAD_MOST);

/// What the bytes of a client are so far.
#[derive(Debug)]
pub enum Request {
    /// The head is not complete.
    Partial,
    /// A legal request.
    Complete {
        /// The length of its head; what follows is not the head's.
        len: usize,
        /// What it asks for.
        kind: Kind,
    },
    /// Not a legal request: answer with [`Fault::refusal`] and close.
    Bad(Fault),
}

/// What a legal request asks for.
#[derive(Debug)]
pub enum Kind {
    /// A WebSocket.
    Upgrade(Upgrade),
    /// Anything else.
    Http(Http),
}

/// The head of a legal request, exactly as it came, and where things are in it.
struct Kept {
    bytes: Box<[u8]>,
    path: Span,
    host: Span,
}

/// A valid opening handshake.
pub struct Upgrade {
    kept: Kept,
    key: u16,
    has_origin: bool,
    offers_protocols: bool,
}

/// A plain request.
pub struct Http {
    kept: Kept,
    body: BodyFraming,
    traits: Traits,
}

/// What decides how a plain request is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts about one head
struct Traits {
    http11: bool,
    is_head: bool,
    persists: bool,
    is_safe: bool,
    navigates: bool,
}

/// Where something is in a head.
#[derive(Clone, Copy)]
struct Span {
    at: u16,
    len: u16,
}

impl Span {
    fn range(self) -> Range<usize> {
        usize::from(self.at)..usize::from(self.at) + usize::from(self.len)
    }
}

/// Reads what has arrived of a client, from the beginning, with the bound [`HEAD_MAX`].
///
/// A caller that is fed in pieces uses [`head_end`](super::head_end) and then
/// [`parse_head`], so that each byte is looked at once.
#[must_use]
pub fn parse_request(bytes: &[u8]) -> Request {
    let len = match scan::head_end(bytes, 0, HEAD_MAX) {
        Ok(Some(len)) => len,
        Ok(None) => return Request::Partial,
        Err(fault) => return Request::Bad(fault),
    };
    match parse_head(&bytes[..len]) {
        Ok(kind) => Request::Complete { len, kind },
        Err(fault) => Request::Bad(fault),
    }
}

/// Reads one complete head: the bytes up to where [`head_end`](super::head_end) said.
pub fn parse_head(head: &[u8]) -> Result<Kind, Fault> {
    // Whoever calls this with another cut gets the same verdict as from the wire.
    if scan::head_end(head, 0, HEAD_MOST)? != Some(head.len()) {
        return Err(Fault::LineEnd);
    }
    let mut slots = fields::slots();
    let request = parse(head, &mut slots)?;
    let host = check_host(&request)?;
    let path = target::check(request.method, request.target, host)?;
    let body = check_length(&request)?;
    check_connection(request.fields)?;
    let is_upgrade = fields::elements(request.fields, "upgrade").any(is_websocket);
    let key = if is_upgrade {
        Some(check_upgrade(&request, body)?)
    } else {
        check_plain(&request)?;
        None
    };
    let kept = Kept {
        path: span(head, &request.target.as_bytes()[path..]),
        host: span(head, host.unwrap_or_default().as_bytes()),
        bytes: head.into(),
    };
    Ok(match key {
        Some(key) => Kind::Upgrade(Upgrade {
            kept,
            key: span(head, key).at,
            has_origin: fields::values(request.fields, "origin").next().is_some(),
            offers_protocols: fields::values(request.fields, "sec-websocket-protocol")
                .next()
                .is_some(),
        }),
        None => Kind::Http(Http {
            kept,
            body,
            traits: traits(&request, body),
        }),
    })
}

impl Kept {
    /// The target in origin-form, with its query.
    fn target(&self) -> &str {
        self.text(self.path)
    }

    fn path(&self) -> &str {
        let target = self.target();
        &target[..target.find('?').unwrap_or(target.len())]
    }

    fn host(&self) -> &str {
        self.text(self.host)
    }

    /// Method and fields, found again.
    fn parts<'h, 's>(&'h self, slots: &'s mut Slots<'h>) -> (&'h str, &'s [Header<'h>]) {
        // It parsed before, so it does again: the bytes have not changed.
        let request = parse(&self.bytes, slots);
        debug_assert!(request.is_ok());
        request.map_or(("GET", &[]), |request| (request.method, request.fields))
    }

    fn text(&self, span: Span) -> &str {
        // Both spans were cut out of checked ASCII.
        std::str::from_utf8(&self.bytes[span.range()]).unwrap_or_default()
    }
}

/// What both kinds of request can be asked.
macro_rules! asks_its_head {
    ($name:ident) => {
        impl $name {
            /// The head, exactly as it came.
            #[must_use]
            pub fn head(&self) -> &[u8] {
                &self.kept.bytes
            }

            /// The target in origin-form, with its query: `/ws?room=1`. May hold secrets.
            #[must_use]
            pub fn target(&self) -> &str {
                self.kept.target()
            }

            /// The path without its query: fit for a log.
            #[must_use]
            pub fn path(&self) -> &str {
                self.kept.path()
            }

            /// Host, as it came; empty where an HTTP/1.0 request has none.
            #[must_use]
            pub fn host(&self) -> &str {
                self.kept.host()
            }

            /// Method and fields, found again.
            pub(super) fn parts<'h, 's>(&'h self, slots: &'s mut Slots<'h>) -> (&'h str, &'s [Header<'h>]) {
                self.kept.parts(slots)
            }
        }

        /// Says nothing of the head but its path: heads hold cookies and tokens.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("path", &self.path())
                    .field("head_bytes", &self.kept.bytes.len())
                    .finish_non_exhaustive()
            }
        }
    };
}

asks_its_head!(Upgrade);
asks_its_head!(Http);

impl Kind {
    fn kept(&self) -> &Kept {
        match self {
            Self::Upgrade(upgrade) => &upgrade.kept,
            Self::Http(http) => &http.kept,
        }
    }

    /// The target in origin-form, with its query. May hold secrets.
    #[must_use]
    pub fn target(&self) -> &str {
        self.kept().target()
    }

    /// The path without its query: fit for a log.
    #[must_use]
    pub fn path(&self) -> &str {
        self.kept().path()
    }

    /// Host, as it came; empty where an HTTP/1.0 request has none.
    #[must_use]
    pub fn host(&self) -> &str {
        self.kept().host()
    }
}

impl Kind {
    /// Looks at the first field of this name.
    pub(crate) fn with_field<T>(&self, name: &str, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let mut slots = fields::slots();
        let (_, all) = self.kept().parts(&mut slots);
        look(fields::values(all, name).next())
    }

    /// Looks at a field of which there must be one, for all who read the request.
    pub(crate) fn with_only<T>(&self, name: &str, look: impl FnOnce(Only<'_>) -> T) -> T {
        let mut slots = fields::slots();
        let (_, all) = self.kept().parts(&mut slots);
        look(match fields::single(all, name) {
            _ if fields::is_nominated(all, name) => Only::Ends,
            Ok(Some(value)) => Only::Value(value),
            Ok(None) => Only::Absent,
            Err(_) => Only::Several,
        })
    }
}

/// A field that says the same to all who read the request, or does not.
pub(crate) enum Only<'b> {
    /// It is not there.
    Absent,
    /// It is there once.
    Value(&'b [u8]),
    /// It is there several times.
    Several,
    /// Connection names it: whoever is behind does not see it.
    Ends,
}

impl Http {
    /// How its body ends.
    #[must_use]
    pub fn body(&self) -> BodyFraming {
        self.body
    }

    /// HEAD: its answer has no body.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.traits.is_head
    }

    /// HTTP/1.1, so that it may be answered with interim answers and in chunks.
    #[must_use]
    pub fn is_http11(&self) -> bool {
        self.traits.http11
    }

    /// Whether its connection may carry another request afterwards (RFC 9112 §9.3).
    #[must_use]
    pub fn persists(&self) -> bool {
        self.traits.persists
    }

    /// GET or HEAD without a body: it may be sent twice, and so it may also go first on trial.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.traits.is_safe
    }

    /// A person waits in front of a browser for the page that it asks for.
    #[must_use]
    pub fn navigates(&self) -> bool {
        self.traits.navigates
    }
}

impl Upgrade {
    /// Whether it has an Origin, as browsers' requests do.
    #[must_use]
    pub fn has_origin(&self) -> bool {
        self.has_origin
    }

    /// Looks at its Origin; `None` where it has none, or several.
    pub(crate) fn with_origin<T>(&self, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let mut slots = fields::slots();
        let (_, all) = self.parts(&mut slots);
        look(fields::single(all, "origin").ok().flatten())
    }

    /// Whether it offers subprotocols.
    pub(super) fn offers_protocols(&self) -> bool {
        self.offers_protocols
    }

    /// The Sec-WebSocket-Accept that proves that a backend understood this request.
    #[must_use]
    pub fn expected_accept(&self) -> [u8; 28] {
        let at = usize::from(self.key);
        let mut hash = Sha1::new();
        hash.update(&self.kept.bytes[at..at + KEY_LENGTH]);
        hash.update(ACCEPT_GUID);
        let mut accept = [0; 28];
        // 20 bytes are always 28 in base64; a wrong length would leave zeros, which match no answer.
        let written = STANDARD.encode_slice(hash.finalize(), &mut accept);
        debug_assert_eq!(written.ok(), Some(accept.len()));
        accept
    }
}

/// A request in its parts.
struct Parts<'s, 'b> {
    method: &'b str,
    target: &'b str,
    http11: bool,
    fields: &'s [Header<'b>],
}

fn parse<'s, 'b>(head: &'b [u8], slots: &'s mut Slots<'b>) -> Result<Parts<'s, 'b>, Fault> {
    let mut request = httparse::Request::new(slots);
    let status = request.parse(head).map_err(|error| match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Fault::Field,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => Fault::RequestLine,
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Version => Fault::HttpVersion,
    })?;
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Fault::RequestLine);
    };
    // The parser must see the head end where the scan did.
    if status != httparse::Status::Complete(head.len()) {
        return Err(Fault::LineEnd);
    }
    Ok(Parts {
        method,
        target,
        http11: version == 1,
        fields: request.headers,
    })
}

fn check_host<'b>(request: &Parts<'_, 'b>) -> Result<Option<&'b str>, Fault> {
    let host = fields::single(request.fields, "host").map_err(|Several| Fault::HostTwice)?;
    match host.map(std::str::from_utf8) {
        Some(Ok(host)) if target::is_host(host) => Ok(Some(host)),
        Some(_) => Err(Fault::HostIllegal),
        None if request.http11 => Err(Fault::HostMissing),
        None => Ok(None),
    }
}

/// How the body ends (RFC 9112 §6.3). More than one statement about its length is no statement.
fn check_length(request: &Parts<'_, '_>) -> Result<BodyFraming, Fault> {
    let length = fields::single(request.fields, "content-length")
        .map_err(|Several| Fault::ContentLength)?
        .map(|value| plain_number(value).ok_or(Fault::ContentLength))
        .transpose()?;
    let coding = fields::single(request.fields, "transfer-encoding").map_err(|Several| Fault::TransferEncoding)?;
    let Some(coding) = coding else {
        return Ok(match length {
            None | Some(0) => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
        });
    };
    if !request.http11 || length.is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::TransferEncoding);
    }
    Ok(BodyFraming::Chunked)
}

/// Digits and nothing else: not `+5`, `5, 5` or nothing at all.
pub(super) fn plain_number(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn check_connection(all: &[Header<'_>]) -> Result<(), Fault> {
    let fault = |fault| match fault {
        ListFault::NoToken => Fault::List,
        ListFault::TooMany => Fault::TooManyTokens,
    };
    fields::check_list(all, "connection", fields::is_token).map_err(fault)?;
    fields::check_list(all, "upgrade", fields::is_protocol).map_err(fault)?;
    if fields::elements(all, "connection").any(is_for_the_server) {
        return Err(Fault::Nominated);
    }
    Ok(())
}

/// Fields that Connection must not name (RFC 9110 §7.6.1: "intended for all
/// recipients"). To drop them would change what the request means, and to keep
/// them would break the rule: so such a request is refused.
fn is_for_the_server(name: &[u8]) -> bool {
    const NAMES: [&str; 6] = [
        "host",
        "origin",
        "cookie",
        "authorization",
        "content-length",
        "transfer-encoding",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) || is_websocket_field(name)
}

/// Whether `name` is one of the handshake's own fields.
pub(super) fn is_websocket_field(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"sec-websocket-";
    name.get(..PREFIX.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX))
}

/// Whether an element of Upgrade means WebSocket, also where it is written in a way that is refused.
fn is_websocket(element: &[u8]) -> bool {
    let name = element.split(|&byte| byte == b'/').next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"websocket")
}

/// Checks a request that asks for `websocket`, and gives its key.
fn check_upgrade<'b>(request: &Parts<'_, 'b>, body: BodyFraming) -> Result<&'b [u8], Fault> {
    if !fields::only_websocket(request.fields) {
        return Err(Fault::UpgradeOther);
    }
    if request.method != "GET" {
        return Err(Fault::UpgradeMethod);
    }
    if !request.http11 {
        return Err(Fault::UpgradeHttp10);
    }
    if !fields::lists(request.fields, "connection", "upgrade") {
        return Err(Fault::UpgradeConnection);
    }
    if body != BodyFraming::None {
        return Err(Fault::UpgradeBody);
    }
    let key = match fields::single(request.fields, "sec-websocket-key") {
        Ok(Some(key)) if is_key(key) => key,
        Ok(_) | Err(Several) => return Err(Fault::Key),
    };
    negotiation::check_offer(request.fields)?;
    match fields::single(request.fields, "sec-websocket-version") {
        Ok(Some(b"13")) => Ok(key),
        Ok(Some(version)) if (1..=3).contains(&version.len()) && plain_number(version).is_some() => Err(Fault::Version),
        Ok(_) | Err(Several) => Err(Fault::VersionIllegal),
    }
}

/// Checks a request that asks for no WebSocket. Any other Upgrade is no fault: it
/// ends at this hop, and the request is answered as it stands (RFC 9110 §7.8).
fn check_plain(request: &Parts<'_, '_>) -> Result<(), Fault> {
    if request.method == "CONNECT" {
        return Err(Fault::Connect);
    }
    Ok(())
}

fn traits(request: &Parts<'_, '_>, body: BodyFraming) -> Traits {
    let is_get = request.method == "GET";
    let is_head = request.method == "HEAD";
    let connection = |option| fields::lists(request.fields, "connection", option);
    let mut mode = fields::values(request.fields, "sec-fetch-mode");
    // Browsers say it since 2019 to 2023; before that, who accepts HTML by name is one.
    let by_hand = mode.next().is_none_or(|mode| mode == b"navigate");
    let html = |accepted: &[u8]| accepted.len() >= 9 && accepted[..9].eq_ignore_ascii_case(b"text/html");
    Traits {
        http11: request.http11,
        is_head,
        persists: !connection("close") && (request.http11 || connection("keep-alive")),
        is_safe: (is_get || is_head) && body == BodyFraming::None,
        navigates: is_get && by_hand && fields::elements(request.fields, "accept").any(html),
    }
}

/// 16 bytes in base64: 22 characters and two of padding. The four spare bits of
/// the last character are not looked at, as no server does, and the accept value
/// is made of the text.
fn is_key(key: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_LENGTH && key.ends_with(b"==") && key[..KEY_LENGTH - 2].iter().all(legal)
}

/// Where `part`, which is a slice of `head`, is in it.
fn span(head: &[u8], part: &[u8]) -> Span {
    let at = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
    debug_assert!(part.is_empty() || at + part.len() <= head.len());
    Span {
        at: u16::try_from(at).unwrap_or_default(),
        len: u16::try_from(part.len()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_of_rfc_6455() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let Ok(Kind::Upgrade(upgrade)) = parse_head(head) else {
            panic!("not an upgrade");
        };
        assert_eq!(&upgrade.expected_accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_held_head_costs_its_bytes_and_few_more() {
        assert!(size_of::<Upgrade>() <= 40, "{}", size_of::<Upgrade>());
    }

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ==") && is_key(b"++++++++++++++++//////=="));
        for key in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQAA",
            b"dGhlIHNhbXBsZSBub25jZQ===",
            b"dGhlIHNhbXBsZSBub25j-_==",
            b"dGhlIHNhbXBsZSBub25jZ===",
            b"dGhlIHNhbXBsZSBub25j ZQ==",
        ] {
            assert!(!is_key(key), "{}", key.escape_ascii());
        }
    }
}
