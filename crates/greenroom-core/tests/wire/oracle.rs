//! Compares the scanner with tungstenite's protocol machine. Runs in tests and in the
//! fuzz target `scanner_oracle`.
//!
//! Both must see the same messages, pings, pongs and closes in the same order, and
//! refuse the same frame. The differences that are meant, all of them:
//!
//! | difference | why |
//! |---|---|
//! | the scanner refuses at the header, tungstenite after the payload | a relay must stop before it passes the frame on |
//! | tungstenite refuses text and close reasons that are not UTF-8 | the two ends look into payload, the relay does not |
//! | tungstenite takes a control frame's short length in a long form | RFC 6455 §5.2; no known program sends it |
//! | tungstenite refuses close code 1014 | registered with IANA since |
//! | tungstenite takes a 64-bit length with its first bit set, as a number | RFC 6455 §5.2 |
//!
//! RSV1 is always refused here: tungstenite knows no extension.

use greenroom_core::wire::{CloseSeen, Scanner, Sender, Stop, Violation};
use std::io::{self, Cursor, Read, Write};
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, OpCode};
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

/// What an end of a connection hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Message,
    Ping,
    Pong,
    Close(Option<u16>),
}

/// How the hearing ended.
#[derive(Debug)]
enum End {
    /// The bytes did, or a frame was announced that is longer than they are.
    Bytes,
    /// A Close was heard.
    Close,
    /// The scanner: violation, and where the frame begins.
    Refused(Violation, usize),
    /// tungstenite: the protocol was broken.
    Broken(#[expect(dead_code, reason = "printed when the two disagree")] ProtocolError),
    /// tungstenite: not UTF-8.
    Utf8,
}

/// Panics if the two disagree about these bytes in a way that is not meant.
pub(super) fn check_oracle(sender: Sender, bytes: &[u8]) {
    // Zeros behind, so that a small frame that is cut off at the end comes to its end.
    let bytes = &[bytes, &[0; 160]].concat()[..];
    let (ours, our_end) = scanner(sender, bytes);
    let (theirs, their_end) = tungstenite(sender, bytes);
    let both = format!("{sender:?} {bytes:02x?}\n ours: {ours:?} {our_end:?}\n theirs: {theirs:?} {their_end:?}");
    let agreed = ours
        .iter()
        .zip(&theirs)
        .take_while(|(ours, theirs)| ours == theirs)
        .count();
    let (ours_more, theirs_more) = (&ours[agreed..], &theirs[agreed..]);

    match (&our_end, &their_end) {
        (_, End::Refused(..)) | (End::Broken(_) | End::Utf8, _) => unreachable!("{both}"),
        (End::Refused(violation, at), _) => {
            let refused_too = match &their_end {
                End::Broken(_) => ours_more.is_empty() && theirs_more.is_empty(),
                // Somewhere before our refusal.
                End::Utf8 => theirs_more.is_empty(),
                // An illegal code is answered, not refused, and told as 1002 with a fixed reason.
                End::Close => {
                    *violation == Violation::CloseBadCode
                        && ours_more.is_empty()
                        && matches!(theirs_more, [Heard::Close(Some(1002))])
                }
                End::Bytes | End::Refused(..) => false,
            };
            assert!(
                refused_too || (ours_more.is_empty() && is_meant(*violation, &bytes[*at..])),
                "{both}"
            );
        }
        (End::Bytes | End::Close, End::Utf8) => assert!(theirs_more.is_empty(), "{both}"),
        (End::Close, End::Close) => {
            let is_1014 = matches!(
                (ours_more, theirs_more),
                ([Heard::Close(Some(1014))], [Heard::Close(Some(1002))])
            );
            assert!(is_1014 || (ours_more.is_empty() && theirs_more.is_empty()), "{both}");
        }
        (End::Bytes, End::Bytes) => assert!(ours_more.is_empty() && theirs_more.is_empty(), "{both}"),
        (End::Bytes, End::Broken(_) | End::Close) | (End::Close, End::Broken(_) | End::Bytes) => panic!("{both}"),
    }
}

/// Whether a frame that only the scanner refuses is one of the differences above, by
/// tungstenite's own reading of the header.
fn is_meant(violation: Violation, frame: &[u8]) -> bool {
    let mut cursor = Cursor::new(frame);
    match FrameHeader::parse(&mut cursor) {
        Err(_) => false,  // refused by its header, so it must have said so
        Ok(None) => true, // the header is cut off
        Ok(Some((header, len))) => {
            let here = frame.len() as u64 - cursor.position();
            let long_form = violation == Violation::ControlTooLong
                && matches!(header.opcode, OpCode::Control(_))
                && frame[1] & 0x7f >= 126
                && len <= 125;
            len > here || long_form
        }
    }
}

fn scanner(sender: Sender, bytes: &[u8]) -> (Vec<Heard>, End) {
    let mut scanner = Scanner::new(sender, false);
    let mut heard = Vec::new();
    for (at, byte) in bytes.chunks(1).enumerate() {
        let scan = scanner.scan(byte);
        heard.extend((0..scan.messages).map(|_| Heard::Message));
        heard.extend((0..scan.pings).map(|_| Heard::Ping));
        heard.extend((0..scan.pongs).map(|_| Heard::Pong));
        match scan.stop {
            None => {}
            Some(Stop::Close(CloseSeen { code })) => {
                heard.push(Heard::Close(code.map(|code| code.get())));
                return (heard, End::Close);
            }
            Some(Stop::Violation(violation)) => return (heard, End::Refused(violation, at - scanner.unjudged())),
        }
    }
    (heard, End::Bytes)
}

fn tungstenite(sender: Sender, bytes: &[u8]) -> (Vec<Heard>, End) {
    let role = match sender {
        Sender::Client => Role::Server,
        Sender::Backend => Role::Client,
    };
    // It reserves what a header announces: so no more than could come.
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .write_buffer_size(0)
        .max_frame_size(Some(bytes.len()))
        .max_message_size(None);
    let mut socket = WebSocket::from_raw_socket(Peer(Cursor::new(bytes)), role, Some(config));
    let mut heard = Vec::new();
    loop {
        let end = match socket.read() {
            Ok(Message::Text(_) | Message::Binary(_)) => {
                heard.push(Heard::Message);
                continue;
            }
            Ok(Message::Ping(_)) => {
                heard.push(Heard::Ping);
                continue;
            }
            Ok(Message::Pong(_)) => {
                heard.push(Heard::Pong);
                continue;
            }
            Ok(Message::Close(close)) => {
                heard.push(Heard::Close(close.map(|close| CloseCode::into(close.code))));
                End::Close
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Bytes,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => End::Bytes,
            Err(Error::Protocol(broken)) => End::Broken(broken),
            Err(Error::Utf8(_)) => End::Utf8,
            Err(error) => panic!("{error}"),
        };
        return (heard, end);
    }
}

/// The other end: says these bytes and then nothing, listens to nobody.
struct Peer<'a>(Cursor<&'a [u8]>);

impl Read for Peer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
