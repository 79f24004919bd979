//! The WebSocket of one client, from its 101 on: it speaks and listens at one time, closes politely, and tells how it ended.
//!
//! It listens while it speaks: a server may write before it has read everything. A message that is said may not be
//! written at all; that shows, with what else there is, when it is listened.
//!
//! Bounds: [`limits::AUDIT_ANSWER_MAX`] bytes of one message, and those of `wire`. Nothing here ends by itself: how long
//! anything is waited for, and how many messages come, is bounded by whose socket it is.

use std::io;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, CloseCode, Error, Limits, Message, WebSocketStream};

use super::record::{Ending, Stage};
use super::target::Words;
use super::text;
use super::wire::{TooMuch, Wire};
use crate::limits;

/// A WebSocket of the audit.
pub(super) struct Socket {
    sink: SplitSink<WebSocketStream<Wire>, Message>,
    stream: SplitStream<WebSocketStream<Wire>>,
    /// What was said is not all written yet.
    is_speaking: bool,
}

impl Socket {
    /// Over a connection whose handshake is done.
    pub(super) fn new(wire: Wire) -> Self {
        let limits = Limits::default().max_payload_len(Some(limits::AUDIT_ANSWER_MAX));
        let (sink, stream) = ClientBuilder::new().limits(limits).take_over(wire).split();
        Self {
            sink,
            stream,
            is_speaking: false,
        }
    }

    /// Whether something was said and is not all written: nothing more is to be said then.
    pub(super) const fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// Says this. It is written while it is listened.
    pub(super) async fn say(&mut self, words: Words) {
        let message = match words {
            Words::Text(text) => Message::text(text),
            Words::Binary(bytes) => Message::binary(bytes),
        };
        self.is_speaking = true;
        self.sink.feed(message).await.ok(); // what is over is told to who listens
    }

    /// Writes what was said, and listens: the next message, or `None` when all is written. Whoever waits for it may give up
    /// and come again.
    pub(super) async fn hear(&mut self) -> Result<Option<Message>, Ending> {
        let message = tokio::select! {
            flushed = self.sink.flush(), if self.is_speaking => {
                self.is_speaking = false;
                return flushed.map(|()| None).map_err(|error| of_error(&error));
            }
            message = self.stream.next() => message,
        };
        match message {
            Some(Ok(message)) => of_close(&message).map_or(Ok(Some(message)), Err),
            Some(Err(error)) => Err(of_error(&error)),
            None => Err(Ending::Cut(Stage::Open)),
        }
    }

    /// Says Close, and waits so long at the most until the other side is done, too: what it still says is no concern any more.
    pub(super) async fn close(mut self, within: Duration) {
        let closing = async {
            let close = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
            if self.sink.send(close).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        timeout(within, closing).await.ok();
    }
}

fn of_close(message: &Message) -> Option<Ending> {
    let (code, reason) = message.as_close()?;
    let code = u16::from(code);
    Some(Ending::Closed {
        code: (code != 1005).then_some(code),
        reason: text::foreign(reason, limits::AUDIT_REASON),
    })
}

fn of_error(error: &Error) -> Ending {
    match error {
        Error::Io(error) => of_io(error, Stage::Open),
        Error::AlreadyClosed => Ending::Cut(Stage::Open),
        Error::PayloadTooLong { len, max_len } => Ending::Failed(format!(
            "a message of {len} bytes came; the audit takes {max_len} at the most"
        )),
        other => Ending::Broken(text::foreign(&other.to_string(), limits::AUDIT_REASON)),
    }
}

/// How a connection ended that failed so.
pub(super) fn of_io(error: &io::Error, stage: Stage) -> Ending {
    match error.kind() {
        _ if error.get_ref().is_some_and(|error| error.is::<TooMuch>()) => Ending::Failed(error.to_string()),
        io::ErrorKind::ConnectionRefused => Ending::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ending::Reset(stage),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => Ending::Cut(stage),
        io::ErrorKind::TimedOut => Ending::TimedOut(stage),
        _ if stage == Stage::Connecting => Ending::Failed(error.to_string()),
        _ => Ending::Broken(error.to_string()),
    }
}
