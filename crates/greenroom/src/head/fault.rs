//! What can be wrong with a head, one word per cause.
//!
//! A [`Fault`] is the client's and is answered by its [`Refusal`]; a
//! [`Nonsense`] is the backend's and is answered 502. Both say what is wrong
//! without repeating a byte of the head: they go to logs, and heads hold secrets.

use greenroom_core::event::Refusal;
use greenroom_core::limits::{BACKEND_HEAD_MAX, HEADERS_MAX, NEGOTIATION_MAX, TOKENS_MAX};

/// What is wrong with a client's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    // ── Over a limit: 431 ──
    /// No end of the head within the bound.
    #[error("the head is longer than it may be")]
    TooLong,
    /// Too many header fields.
    #[error("the head has more than {HEADERS_MAX} fields")]
    TooManyFields,
    /// Too many tokens in Connection, in Upgrade, or in what is negotiated.
    #[error("a list in the head has more than {TOKENS_MAX} tokens")]
    TooManyTokens,
    /// Sec-WebSocket-Protocol and -Extensions together are too long.
    #[error("Sec-WebSocket-Protocol and Sec-WebSocket-Extensions are longer than {NEGOTIATION_MAX} bytes")]
    NegotiationTooLong,

    // ── Not HTTP/1: 400 ──
    /// A first byte that begins no method (TLS, an empty line, …).
    #[error("the first byte begins no HTTP request")]
    FirstByte,
    /// A CR without LF or an LF without CR.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// A control byte other than HT.
    #[error("the head holds a control byte")]
    ControlByte,
    /// A line that continues the one before it.
    #[error("a field is folded over two lines")]
    Folded,
    /// No method, target and version with one space between.
    #[error("the request line is malformed")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    HttpVersion,
    /// A name that is no token (a space before the colon, …) or an illegal value.
    #[error("a header field is malformed")]
    Field,

    // ── Where the request goes ──
    /// HTTP/1.1 without Host.
    #[error("Host is missing")]
    HostMissing,
    /// More than one Host.
    #[error("Host is there twice")]
    HostTwice,
    /// Empty, with user information, or not `host` or `host:port`.
    #[error("Host is not a host and an optional port")]
    HostIllegal,
    /// A target that is none of the forms its method may have.
    #[error("the request target is illegal")]
    Target,
    /// An absolute target whose authority is not the Host.
    #[error("the request target names another host than Host does")]
    OtherHost,

    // ── Where the request ends ──
    /// Not a plain number, or more than one.
    #[error("Content-Length is not one plain number")]
    ContentLength,
    /// Other than `chunked`, on HTTP/1.0, or beside Content-Length.
    #[error("Transfer-Encoding is other than chunked, or beside a Content-Length, or in HTTP/1.0")]
    TransferEncoding,
    /// Connection or Upgrade is no list of tokens.
    #[error("Connection or Upgrade is not a list of tokens")]
    List,
    /// Connection nominates a field that is meant for the server.
    #[error("Connection names a field that is meant for the server")]
    Nominated,

    /// CONNECT: greenroom stands in front of its own backends, and leads nowhere else.
    #[error("CONNECT is not served: this is no forward proxy")]
    Connect,

    // ── A WebSocket opening handshake that is none ──
    /// `websocket` beside another protocol, twice, or with a version.
    #[error("Upgrade names more than websocket")]
    UpgradeOther,
    /// Not GET.
    #[error("a WebSocket upgrade must be GET")]
    UpgradeMethod,
    /// HTTP/1.0.
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    UpgradeHttp10,
    /// Connection does not hold `upgrade`.
    #[error("Connection does not hold upgrade")]
    UpgradeConnection,
    /// With a body.
    #[error("a WebSocket upgrade must have no body")]
    UpgradeBody,
    /// Not exactly one key of 16 bytes in base64.
    #[error("Sec-WebSocket-Key is not one key of 16 bytes in base64")]
    Key,
    /// Not exactly one version that is a number.
    #[error("Sec-WebSocket-Version is not one number")]
    VersionIllegal,
    /// A version other than 13: 426.
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
    /// Not tokens, or one of them twice.
    #[error("Sec-WebSocket-Protocol is not a list of different tokens")]
    Protocols,
    /// Not extensions with parameters, or permessage-deflate with illegal ones.
    #[error("Sec-WebSocket-Extensions is malformed")]
    Extensions,
}

impl Fault {
    /// How the client is answered.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::TooLong | Self::TooManyFields | Self::TooManyTokens | Self::NegotiationTooLong => {
                Refusal::HeadTooLarge
            }
            Self::Version => Refusal::Version,
            Self::Connect => Refusal::Method,
            Self::FirstByte
            | Self::LineEnd
            | Self::ControlByte
            | Self::Folded
            | Self::RequestLine
            | Self::HttpVersion
            | Self::Field
            | Self::HostMissing
            | Self::HostTwice
            | Self::HostIllegal
            | Self::Target
            | Self::OtherHost
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::List
            | Self::Nominated
            | Self::UpgradeOther
            | Self::UpgradeMethod
            | Self::UpgradeHttp10
            | Self::UpgradeConnection
            | Self::UpgradeBody
            | Self::Key
            | Self::VersionIllegal
            | Self::Protocols
            | Self::Extensions => Refusal::BadRequest,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        fault.refusal()
    }
}

/// What is wrong with a backend's answer. The client gets 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Nonsense {
    /// No end of the head within the bound.
    #[error("the backend's answer has a head of more than {BACKEND_HEAD_MAX} bytes")]
    TooLong,
    /// Too many header fields.
    #[error("the backend's answer has more than {HEADERS_MAX} header fields")]
    TooManyFields,
    /// It does not begin with `HTTP/1.` and a status.
    #[error("the backend's answer does not begin with an HTTP/1 status line: does it speak HTTP on this port?")]
    StatusLine,
    /// A line end, a control byte, a folded line, or a field that is none.
    #[error("the backend's answer has a malformed head")]
    Malformed,
    /// Content-Length and Transfer-Encoding contradict each other, or are illegal.
    #[error(
        "the backend's answer leaves open where its body ends: Content-Length and Transfer-Encoding disagree or are illegal"
    )]
    Framing,
    /// Connection is no token list, or nominates a field that must pass.
    #[error("the backend's answer has an illegal Connection field")]
    Connection,
    /// A 101 for a plain request.
    #[error("the backend answered 101 to a request that asks for no upgrade")]
    NotAsked,
    /// A 101 that does not switch to `websocket`, or not in HTTP/1.1.
    #[error("the backend answered 101 without switching to websocket")]
    NotSwitched,
    /// A 101 without the one right Sec-WebSocket-Accept.
    #[error("the backend answered 101 without the right Sec-WebSocket-Accept")]
    Accept,
    /// A subprotocol that the client did not offer, or more than one.
    #[error("the backend chose a subprotocol that the client did not offer")]
    Protocol,
    /// An extension that the client did not offer, or with illegal parameters.
    #[error("the backend chose an extension that the client did not offer, or with illegal parameters")]
    Extensions,
}
