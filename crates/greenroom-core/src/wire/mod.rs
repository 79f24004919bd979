//! Decides where WebSocket frames begin and end (RFC 6455 §5), and builds the
//! few control frames that greenroom says itself.
//!
//! A relay passes payload on as it came, still masked, and never assembles a
//! message. What it must know is only: is this the protocol at all; may I put a
//! control frame of my own in here ([`Scanner::at_frame_boundary`]), or a message
//! ([`Scanner::at_message_boundary`]); has a Close gone by. One [`Scanner`] per
//! direction says so:
//!
//! ```
//! use greenroom_core::wire::{Scanner, Sender, Stop, Violation};
//!
//! let mut backend = Scanner::new(Sender::Backend, false);
//! let scan = backend.scan(b"\x81\x02hi\x89\x00\x82"); // a text, a ping, the first byte of a third frame
//! assert_eq!((scan.consumed, scan.boundary, scan.messages, scan.pings), (7, 6, 1, 1));
//! assert!(!backend.at_frame_boundary());
//!
//! let scan = backend.scan(b"\x80"); // the backend masks: against RFC 6455 §5.1
//! assert_eq!((scan.consumed, scan.stop), (0, Some(Stop::Violation(Violation::Masked))));
//! ```
//!
//! | file | decides |
//! |---|---|
//! | `scanner` | where frames end in bytes that come in any pieces |
//! | `judge` | whether the first bytes of a frame are legal |
//! | `close` | which close codes may stand in a Close frame |
//! | `frame` | what greenroom's own frames look like |
//!
//! **Bounds.** A scanner is 40 bytes, allocates nothing, and works per frame, never
//! per payload byte; a declared length is only ever counted down. A control frame
//! is at most [`ControlFrame::MAX`] bytes, on the stack.
//!
//! **Absent on purpose.** UTF-8 of text and of close reasons, and the contents of
//! permessage-deflate: the two ends look into these. A length in a longer form than
//! needed passes in a data frame, although RFC 6455 §5.2 forbids it to the sender:
//! programs in use send such frames (paho.mqtt.python clients until 2018 for
//! 32 to 64 KiB, OvenMediaEngine for 125 bytes), most receivers take them, no two
//! receivers disagree about where such a frame ends, and greenroom must not break a
//! pair that works without it. Who refuses them (Chromium) still does.

mod close;
mod frame;
mod judge;
mod scanner;

pub use close::{CloseCode, CloseSeen};
pub use frame::{ControlFrame, Data, close_frame, close_reply, message, ping_frame, pong_frame, text_message};
pub use judge::Violation;
pub(crate) use judge::{Head, Opcode};
pub(crate) use scanner::Begins;
pub use scanner::{Scan, Scanner, Sender, Stop};
