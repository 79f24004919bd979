//! The connection of one client, up to the first frame: who was met, what the handshake's answer is, how much may come,
//! and that a failed write takes nothing away from what may still be read.
//!
//! Answers are read as greenroom itself reads them (`greenroom::head`): interim ones (103) are passed over, up to
//! [`greenroom_core::limits::INTERIM_MAX`] of them, and heads have the same bounds. Where such a bound, or one of the
//! audit, ends it, that is [`Ending::Failed`], of which nothing is concluded: it is ours, and no fault of the server.
//!
//! Bounds: [`limits::AUDIT_BYTES`] of one connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom::head::{Answer, Kind, Nonsense, Request, answer_end, parse_answer, parse_request};
use greenroom_core::limits::{BACKEND_HEAD_MAX, INTERIM_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::record::{Ending, Stage};
use super::socket::{Socket, of_io};
use super::source;
use super::target::Target;
use crate::{clock, limits};

/// Connects and asks for a WebSocket, until `deadline`. `connected_at` is when there was a connection.
pub(super) async fn open(
    target: &Target,
    port: u16,
    deadline: Instant,
    connected_at: &mut Option<u64>,
) -> Result<Socket, Ending> {
    let stream = match timeout_at(deadline, source::connect(target.address(port))).await {
        Err(_late) => return Err(Ending::TimedOut(Stage::Connecting)),
        Ok(Err(error)) => return Err(of_io(&error, Stage::Connecting)),
        Ok(Ok(stream)) => stream,
    };
    *connected_at = Some(clock::now());
    stream.set_nodelay(true).ok();
    let opening = timeout_at(deadline, shake(Wire::new(stream), target, port));
    let shaken = opening.await.unwrap_or(Err(Ending::TimedOut(Stage::Opening)));
    shaken.map(Socket::new)
}

/// Asks for a WebSocket.
async fn shake(mut wire: Wire, target: &Target, port: u16) -> Result<Wire, Ending> {
    let failed = |error: String| Ending::Failed(error);
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|error| failed(error.to_string()))?;
    let (request, asked) = asked(target, port, key).map_err(failed)?;
    let lost = |error| of_io(&error, Stage::Opening);
    wire.write_all(&request).await.map_err(lost)?;
    let (mut read, mut scanned, mut interim) = (Vec::new(), 0, 0);
    loop {
        let Some(length) = answer_end(&read, scanned).map_err(of_nonsense)? else {
            if read.len() > BACKEND_HEAD_MAX {
                return Err(of_nonsense(Nonsense::TooLong));
            }
            scanned = read.len();
            if wire.read_buf(&mut read).await.map_err(lost)? == 0 {
                return Err(Ending::Cut(Stage::Opening));
            }
            continue;
        };
        match parse_answer(&read[..length], &asked) {
            Answer::Switched(_) => {
                read.drain(..length);
                wire.before = read;
                return Ok(wire);
            }
            Answer::Interim(_) if interim == INTERIM_MAX => {
                return Err(Ending::Failed(format!("more than {INTERIM_MAX} interim answers came")));
            }
            Answer::Interim(_) => {
                read.drain(..length);
                (scanned, interim) = (0, interim + 1);
            }
            Answer::Status(status) => return Err(Ending::Status(status.status())),
            Answer::Nonsense(nonsense) => return Err(of_nonsense(nonsense)),
            Answer::Partial => return Err(of_nonsense(Nonsense::Malformed)), // its end was found
        }
    }
}

/// Bytes of a handshake's key.
const KEY: usize = 16;

/// The opening handshake, and what greenroom understands by it: what it would refuse makes no sense to send.
fn asked(target: &Target, port: u16, key: [u8; KEY]) -> Result<(Vec<u8>, Kind), String> {
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n",
        target.path(),
        target.authority(port),
        BASE64.encode(key)
    )
    .into_bytes();
    for (name, value) in &target.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    request.extend_from_slice(b"\r\n");
    match parse_request(&request) {
        Request::Complete { len, kind } if len == request.len() && matches!(kind, Kind::Upgrade(_)) => {
            Ok((request, kind))
        }
        Request::Bad(fault) => Err(fault.to_string()),
        Request::Complete { .. } | Request::Partial => Err("it makes no opening handshake".into()),
    }
}

/// Whether this can be asked for; else why not.
pub(super) fn check(target: &Target) -> Result<(), String> {
    asked(target, u16::MAX, [0; KEY]).map(|_| ())
}

/// What is over our bounds is not the server's fault.
fn of_nonsense(nonsense: Nonsense) -> Ending {
    match nonsense {
        Nonsense::TooLong | Nonsense::TooManyFields => Ending::Failed(nonsense.to_string()),
        nonsense => Ending::Broken(nonsense.to_string()),
    }
}

/// A connection. After the handshake it gives first what came behind that, and fails with [`TooMuch`] beyond its bound.
///
/// A write that fails is told only by the read that finds nothing more: what explains it, a status or a Close, may
/// already have come, and who is told of the failure first reads no further.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// Why nothing more can be written.
    unwritten: Option<io::Error>,
    /// What came with the head of the answer, and how much of it was given.
    before: Vec<u8>,
    given: usize,
    /// Bytes that may still come.
    left: usize,
}

/// More came than a client takes.
#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB came over one connection", limits::AUDIT_BYTES >> 20)]
pub(super) struct TooMuch;

impl Wire {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unwritten: None,
            before: Vec::new(),
            given: 0,
            left: limits::AUDIT_BYTES,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.before.get(this.given..).unwrap_or_default();
        if !rest.is_empty() {
            let length = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..length]);
            this.given += length;
            return Poll::Ready(Ok(()));
        }
        let was = buffer.filled().len();
        let read = std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        let came = buffer.filled().len() - was;
        if came == 0
            && let Some(error) = this.unwritten.take()
        {
            return Poll::Ready(Err(error));
        }
        read?;
        let Some(left) = this.left.checked_sub(came) else {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        };
        this.left = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unwritten.is_none() {
            match std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => self.unwritten = Some(error),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
