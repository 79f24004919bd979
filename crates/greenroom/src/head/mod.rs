//! Heads: what a client's opening request and a backend's answer may look like,
//! and the only places that write heads, in either direction.
//!
//! Pure functions over byte slices; no socket, no clock. Their place is between
//! the listener and the gate ([`parse_request`]), at the dial
//! ([`Upgrade::to_backend`]) and at the backend's answer ([`parse_response`]).
//!
//! | file | decides |
//! |---|---|
//! | `scan` | where a head ends, and that its lines are lines |
//! | `fields` | what a token list is, and which fields end at this hop |
//! | `target` | which request targets and hosts are legal |
//! | `negotiation` | subprotocols and extensions, offered and agreed |
//! | `request` | whether a request is an opening handshake, and what a plain one asks for |
//! | `forward` | the head that the backend gets |
//! | `response` | whether the backend's answer is an upgrade, and where its body ends |
//! | `switched` | the heads that the client gets from the backend |
//! | `accept` | greenroom's own 101 |
//! | `body` | where a body ends |
//! | `refusal` | the bytes of greenroom's own answers |
//!
//! # What `httparse` tolerates, and what is done about it
//!
//! `httparse` 1.10 without options refuses folded lines, a space before the
//! colon, NUL and other control bytes, two spaces in the request line, and
//! versions other than 1.0 and 1.1. It *accepts* a bare LF as the end of any
//! line, empty lines before the request line, raw UTF-8 in the target, and
//! bytes from 0x80 up in values. `scan` refuses the first two before `httparse`
//! sees them, `target` the third. The last is let through unchanged: cookies in
//! UTF-8 exist, and no parser takes such a byte for a delimiter.
//!
//! # Bounds
//!
//! [`HEAD_MAX`](greenroom_core::limits::HEAD_MAX), or what `head_max` says up to
//! [`HEAD_MAX_RANGE`](greenroom_core::limits::HEAD_MAX_RANGE), and
//! [`BACKEND_HEAD_MAX`](greenroom_core::limits::BACKEND_HEAD_MAX) bytes,
//! [`HEADERS_MAX`](greenroom_core::limits::HEADERS_MAX) fields,
//! [`TOKENS_MAX`](greenroom_core::limits::TOKENS_MAX) tokens. All parsing is
//! linear in the head. A held client costs its head and [`Upgrade`]'s few
//! indices: fields are found again at the dial rather than kept.

mod accept;
mod body;
mod fault;
mod fields;
mod forward;
mod negotiation;
mod refusal;
mod request;
mod response;
mod scan;
mod switched;
mod target;

pub use body::{BodyFault, BodyFraming, BodyReader, Run, Taken};
pub use fault::{Fault, Nonsense};
pub(crate) use fields::{is_hop_by_hop, is_token};
pub use forward::Forward;
pub use refusal::{With, fault, refusal};
pub(crate) use request::Only;
pub use request::{Http, Kind, Request, Upgrade, parse_head, parse_request};
pub use response::{Answer, Asked, Interim, Status, Switched, parse_answer, parse_response};
pub use scan::{answer_end, head_end};
pub use switched::{After, Edits, UNCHANGED};
pub use target::other_readings;

#[cfg(test)]
mod tests;
