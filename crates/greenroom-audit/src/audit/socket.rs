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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::new(Wire::new(stream)), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_cannot_write_any_more_still_reads_what_came_before() {
        let close = [0x88, 2, 0x03, 0xf3]; // 1011
        let closed = Ending::Closed {
            code: Some(1011),
            reason: String::new(),
        };
        for (came, expected) in [(&close[..], closed), (&[], Ending::Reset(Stage::Open))] {
            let (mut socket, mut server) = pair().await;
            server.write_all(came).await.unwrap();
            server.set_zero_linger().unwrap();
            drop(server);
            socket.say(Words::default()).await;
            socket.sink.flush().await.ok(); // before anything is read
            let ending = loop {
                if let Err(ending) = socket.hear().await {
                    break ending;
                }
            };
            assert_eq!(ending, expected);
        }
    }

    #[tokio::test]
    async fn what_comes_over_one_connection_has_its_bound_which_is_ours() {
        let (mut socket, mut server) = pair().await;
        let flooding = tokio::spawn(async move {
            let mut message = vec![0x82, 127]; // binary, with a length of 64 bits
            message.extend_from_slice(&1_000_000_u64.to_be_bytes());
            message.resize(message.len() + 1_000_000, 0);
            for _ in 0..2 * limits::AUDIT_BYTES / message.len() {
                server.write_all(&message).await.ok();
            }
        });
        let mut came = 0;
        let ending = loop {
            match socket.hear().await {
                Ok(message) => came += message.map_or(0, |message| message.as_payload().len()),
                Err(ending) => break ending,
            }
        };
        flooding.abort();
        assert_eq!(ending, Ending::Failed(TooMuch.to_string()));
        assert!(
            came <= limits::AUDIT_BYTES && came > limits::AUDIT_BYTES - 2_000_000,
            "{came}"
        );
    }
}
