//! Decides what a backend's answer is: an upgrade, another answer, or nonsense.
//!
//! An answer is an upgrade only if it is a 101 in HTTP/1.1 that switches to
//! `websocket`, proves by Sec-WebSocket-Accept that it read this request, and
//! agrees on nothing that was not offered. Only such a value lets a client's
//! early bytes through (Pingora CVE-2026-2833, Envoy CVE-2024-23326). Any other
//! answer is passed on, and its body ends where [`BodyFraming`] says.
//!
//! Lenient in one thing: `Content-Length: 0` in a 101, 204 or 304 is dropped,
//! as some servers write it everywhere.

use super::body::BodyFraming;
use super::fault::Nonsense;
use super::fields::{self, Several, Slots};
use super::request::{Http, Kind, Upgrade, is_websocket_field, plain_number};
use super::{negotiation, scan};
use httparse::Header;

/// What the bytes of a backend are so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'b> {
    /// The head is not complete.
    Partial,
    /// A 1xx other than 101: another answer follows, after at most
    /// [`INTERIM_MAX`](greenroom_core::limits::INTERIM_MAX) of these.
    Interim(Interim<'b>),
    /// A valid 101.
    Switched(Switched<'b>),
    /// Any other answer.
    Status(Status<'b>),
    /// Not an answer: the client gets 502.
    Nonsense(Nonsense),
}

/// A valid 101: to have one is the proof that the backend switched for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched<'b> {
    pub(super) head: &'b [u8],
    deflate: bool,
    other_extension: bool,
    protocol: Option<&'b str>,
    sets_cookie: bool,
}

/// An interim answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interim<'b> {
    pub(super) head: &'b [u8],
}

/// An answer other than an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'b> {
    pub(super) head: &'b [u8],
    status: u16,
    body: BodyFraming,
    persists: bool,
}

/// What was asked: it decides which answers are legal.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'r> {
    /// An opening handshake.
    Upgrade(&'r Upgrade),
    /// An opening handshake of a client that was accepted before: no extension was offered for it.
    Accepted(&'r Upgrade),
    /// A plain request.
    Http(&'r Http),
}

impl<'r> From<&'r Kind> for Asked<'r> {
    fn from(kind: &'r Kind) -> Self {
        match kind {
            Kind::Upgrade(upgrade) => Self::Upgrade(upgrade),
            Kind::Http(http) => Self::Http(http),
        }
    }
}

impl<'r> From<&'r Upgrade> for Asked<'r> {
    fn from(upgrade: &'r Upgrade) -> Self {
        Self::Upgrade(upgrade)
    }
}

impl<'r> From<&'r Http> for Asked<'r> {
    fn from(http: &'r Http) -> Self {
        Self::Http(http)
    }
}

/// Reads what has arrived of a backend, from the beginning of a head.
#[must_use]
pub fn parse_response<'b, 'r>(bytes: &'b [u8], asked: impl Into<Asked<'r>>) -> Answer<'b> {
    match scan::answer_end(bytes, 0) {
        Ok(Some(len)) => parse_answer(&bytes[..len], asked),
        Ok(None) => Answer::Partial,
        Err(nonsense) => Answer::Nonsense(nonsense),
    }
}

/// Reads one complete head: the bytes up to where [`answer_end`](super::answer_end) said.
#[must_use]
pub fn parse_answer<'b, 'r>(head: &'b [u8], asked: impl Into<Asked<'r>>) -> Answer<'b> {
    read(head, asked.into()).unwrap_or_else(Answer::Nonsense)
}

impl<'b> Switched<'b> {
    /// The length of the head; what follows are frames.
    #[must_use]
    pub fn head_len(&self) -> usize {
        self.head.len()
    }

    /// permessage-deflate was agreed: RSV1 is legal.
    #[must_use]
    pub fn deflate(&self) -> bool {
        self.deflate
    }

    /// The subprotocol that the backend selected.
    #[must_use]
    pub fn protocol(&self) -> Option<&'b str> {
        self.protocol
    }

    /// It sets a cookie, which a client that has its 101 already never sees.
    #[must_use]
    pub fn sets_cookie(&self) -> bool {
        self.sets_cookie
    }

    /// An extension was agreed that greenroom does not know: nothing is known about RSV bits.
    #[must_use]
    pub fn other_extension(&self) -> bool {
        self.other_extension
    }
}

impl<'b> Status<'b> {
    /// The length of the head; what follows is the body.
    #[must_use]
    pub fn head_len(&self) -> usize {
        self.head.len()
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Where the body ends.
    #[must_use]
    pub fn body(&self) -> BodyFraming {
        self.body
    }

    /// Whether the backend's connection may carry another request after this answer (RFC 9112 §9.3). Not
    /// where a body is spoken of that may not come: some servers send it.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.persists
    }
}

/// An answer in its parts.
pub(super) struct Parts<'s, 'b> {
    pub(super) code: u16,
    pub(super) http11: bool,
    /// The reason phrase, which may be empty.
    pub(super) reason: &'b [u8],
    pub(super) fields: &'s [Header<'b>],
}

/// Finds the parts of a head that [`scan`] has passed.
pub(super) fn parse<'s, 'b>(head: &'b [u8], slots: &'s mut Slots<'b>) -> Result<Parts<'s, 'b>, Nonsense> {
    let mut response = httparse::Response::new(slots);
    let status = response.parse(head).map_err(|error| match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine => Nonsense::Malformed,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => Nonsense::StatusLine,
        httparse::Error::TooManyHeaders => Nonsense::TooManyFields,
    })?;
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(Nonsense::StatusLine);
    };
    if status != httparse::Status::Complete(head.len()) {
        return Err(Nonsense::Malformed);
    }
    // `httparse` gives no reason phrase with bytes over 0x7f; it begins after "HTTP/1.1 200 ".
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Ok(Parts {
        code,
        http11: version == 1,
        reason: line.get(13..).unwrap_or_default(),
        fields: response.headers,
    })
}

fn read<'b>(head: &'b [u8], asked: Asked<'_>) -> Result<Answer<'b>, Nonsense> {
    if scan::answer_end(head, 0)? != Some(head.len()) {
        return Err(Nonsense::Malformed);
    }
    let mut slots = fields::slots();
    let parts = parse(head, &mut slots)?;
    match (parts.code, asked) {
        (101, Asked::Upgrade(request)) => switched(head, &parts, request, true).map(Answer::Switched),
        (101, Asked::Accepted(request)) => switched(head, &parts, request, false).map(Answer::Switched),
        (101, Asked::Http(_)) => Err(Nonsense::NotAsked),
        (100..=199, _) => {
            check_connection(parts.fields)?;
            Ok(Answer::Interim(Interim { head }))
        }
        // Up to 999, as RFC 9110 §15 has clients treat what they do not know.
        (200..=999, asked) => {
            check_connection(parts.fields)?;
            let body = match (asked, framing(&parts)?) {
                (Asked::Http(http), _) if http.is_head() => BodyFraming::None,
                (_, body) => body,
            };
            let option = |option| fields::lists(parts.fields, "connection", option);
            let in_doubt = body == BodyFraming::None && speaks_of_a_body(&parts);
            Ok(Answer::Status(Status {
                head,
                status: parts.code,
                body,
                persists: body != BodyFraming::UntilClose
                    && !in_doubt
                    && !option("close")
                    && (parts.http11 || option("keep-alive")),
            }))
        }
        _ => Err(Nonsense::StatusLine),
    }
}

fn switched<'b>(
    head: &'b [u8],
    parts: &Parts<'_, 'b>,
    request: &Upgrade,
    offers_extensions: bool,
) -> Result<Switched<'b>, Nonsense> {
    check_connection(parts.fields)?;
    let upgrades = fields::only_websocket(parts.fields) && fields::lists(parts.fields, "connection", "upgrade");
    if !parts.http11 || !upgrades {
        return Err(Nonsense::NotSwitched);
    }
    match fields::single(parts.fields, "sec-websocket-accept") {
        Ok(Some(accept)) if accept == request.expected_accept() => {}
        Ok(_) | Err(Several) => return Err(Nonsense::Accept),
    }
    if framing(parts)? != BodyFraming::None {
        return Err(Nonsense::Framing);
    }
    let mut slots = fields::slots();
    let agreed = negotiation::check_choice(request.parts(&mut slots).1, parts.fields)?;
    if !offers_extensions
        && fields::elements(parts.fields, "sec-websocket-extensions")
            .next()
            .is_some()
    {
        return Err(Nonsense::Extensions);
    }
    let protocol = fields::single(parts.fields, "sec-websocket-protocol").ok().flatten();
    Ok(Switched {
        head,
        deflate: agreed.deflate,
        other_extension: agreed.other,
        protocol: protocol.and_then(|protocol| std::str::from_utf8(protocol).ok()),
        sets_cookie: fields::values(parts.fields, "set-cookie").next().is_some(),
    })
}

/// Connection must be a list of tokens, and must not name what has to pass.
fn check_connection(all: &[Header<'_>]) -> Result<(), Nonsense> {
    fields::check_list(all, "connection", fields::is_token).map_err(|_| Nonsense::Connection)?;
    let must_pass = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"content-length")
            || name.eq_ignore_ascii_case(b"transfer-encoding")
            || is_websocket_field(name)
    };
    if fields::elements(all, "connection").any(must_pass) {
        return Err(Nonsense::Connection);
    }
    Ok(())
}

/// Whether a head behind which no body may come has the fields of one. Servers are in use that send it all
/// the same, to HEAD as to GET: whoever asked next on that connection would take it for the answer.
fn speaks_of_a_body(parts: &Parts<'_, '_>) -> bool {
    let mut lengths = fields::values(parts.fields, "content-length");
    let has_coding = fields::values(parts.fields, "transfer-encoding").next().is_some();
    has_coding || lengths.any(|length| plain_number(length) != Some(0))
}

/// Where the body ends (RFC 9112 §6.3), strictly: what two readers could read in two ways is nonsense.
fn framing(parts: &Parts<'_, '_>) -> Result<BodyFraming, Nonsense> {
    let mut length = None;
    for value in fields::values(parts.fields, "content-length") {
        let number = plain_number(value).ok_or(Nonsense::Framing)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(Nonsense::Framing);
        }
    }
    let coding = fields::single(parts.fields, "transfer-encoding").map_err(|Several| Nonsense::Framing)?;
    if let Some(coding) = coding
        && (!parts.http11 || length.is_some() || !coding.eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Nonsense::Framing);
    }
    match (parts.code, coding, length) {
        (101, None, None | Some(0)) | (204 | 304, _, _) => Ok(BodyFraming::None),
        (101, _, _) => Err(Nonsense::Framing),
        (_, Some(_), _) => Ok(BodyFraming::Chunked),
        (_, None, Some(length)) => Ok(BodyFraming::Length(length)),
        (_, None, None) => Ok(BodyFraming::UntilClose),
    }
}
