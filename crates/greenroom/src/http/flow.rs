//! The bodies of a plain request and its answer: from one socket to the other.
//!
//! Pieces go through the thread's scratch buffer and are written at once; only
//! what a slow reader does not take is kept, and nothing more is read until it
//! is written: backpressure, in both directions. Bodies pass verbatim, chunks and
//! trailer fields included; for a client of HTTP/1.0 the chunks are taken off.
//!
//! Of a client never a byte more is taken than its body: what follows is its next
//! request and stays in the kernel. Bounded by `RELAY_BUFFER` for a piece, by
//! `READS_PER_TURN` pieces in a turn, and by `HTTP_IDLE` for the silence between two.

use std::io;
use std::time::Duration;

use greenroom_core::limits::{HTTP_IDLE, READS_PER_TURN};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::head::{BodyFault, BodyReader};
use crate::scratch::with_scratch;
use crate::stream::Stream;

/// Why a body did not come to its end.
#[derive(Debug)]
pub(super) enum Cut {
    /// The client ended too early, or its connection failed.
    Client,
    /// The client's body is malformed.
    Malformed(BodyFault),
    /// The body is longer than its route allows.
    TooLong,
    /// The client was silent for too long, or took nothing for too long.
    ClientSilent,
    /// The backend ended too early, its connection failed, or its body is malformed.
    Backend(String),
    /// The backend was silent for too long.
    BackendSilent,
}

/// A request on its way to the backend: what of its head is not written, then its body.
/// Given up half-way, it remembers how far it came.
#[derive(Debug)]
pub(super) struct Upload {
    /// Bytes that the backend did not take yet.
    pub(super) unsent: Vec<u8>,
    pub(super) reader: BodyReader,
    /// Bytes of data that may still come, where the route has a limit.
    pub(super) left: Option<u64>,
    /// How long the backend may take nothing of it.
    pub(super) patience: Duration,
    /// Nothing of the body was taken from the client yet.
    pub(super) is_untouched: bool,
    /// All that lay there before was taken: the poller tells of what comes.
    pub(super) is_polled: bool,
}

/// What one look at the client brought.
enum Taken {
    /// Bytes of the body: written, or among the unsent.
    Some,
    End,
    Cut(Cut),
}

impl Upload {
    /// Whether all of it is with the backend.
    pub(super) fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.reader.is_done()
    }

    /// Carries the request on until it is complete.
    pub(super) async fn run(&mut self, client: &TcpStream, backend: &Stream) -> Result<(), Cut> {
        let mut turn = Turn::default();
        loop {
            self.flush(backend).await?;
            if self.reader.is_done() {
                return Ok(());
            }
            match self.look(client, backend).await {
                Ok(Taken::Some) => turn.next().await,
                Ok(Taken::Cut(cut)) => return Err(cut),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Taken::End) | Err(_) => return Err(Cut::Client),
            }
        }
    }

    /// Waits for more of the body and takes it. What lies there at first is taken past the poller: while
    /// the request waited for its turn, its edge was used up.
    async fn look(&mut self, client: &TcpStream, backend: &Stream) -> io::Result<Taken> {
        if !self.is_polled {
            match self.take(client, backend) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_polled = true,
                taken => return taken,
            }
        }
        match tokio::time::timeout(HTTP_IDLE, client.readable()).await {
            Ok(ready) => ready?,
            Err(_) => return Ok(Taken::Cut(Cut::ClientSilent)),
        }
        client.try_io(Interest::READABLE, || self.take(client, backend))
    }

    async fn flush(&mut self, backend: &Stream) -> Result<(), Cut> {
        while !self.unsent.is_empty() {
            match backend.try_write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match tokio::time::timeout(self.patience, backend.writable()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(Cut::Backend(error.to_string())),
                        Err(_) => return Err(Cut::BackendSilent),
                    }
                }
                Err(error) => return Err(Cut::Backend(error.to_string())),
            }
        }
        self.unsent = Vec::new(); // a body that flows owns no buffer
        Ok(())
    }

    /// One look: what belongs to the body is taken, and written as far as it goes.
    fn take(&mut self, client: &TcpStream, backend: &Stream) -> io::Result<Taken> {
        with_scratch(|scratch| {
            // Where it is sure that all belongs to the body it need not be looked at before.
            let sure = self.reader.sure_bytes().min(scratch.len());
            let (room, flags) = match sure {
                0 => (scratch.len(), RecvFlags::PEEK | RecvFlags::DONTWAIT),
                sure => (sure, RecvFlags::DONTWAIT),
            };
            let (seen, _) = rustix::net::recv(client, &mut scratch[..room], flags)?;
            if seen == 0 {
                return Ok(Taken::End);
            }
            self.is_untouched = false;
            let belongs = match self.judge(&scratch[..seen]) {
                Ok(belongs) => belongs,
                Err(cut) => return Ok(Taken::Cut(cut)),
            };
            if sure == 0 {
                // The same bytes once more, this time taken away.
                rustix::net::recv(client, &mut scratch[..belongs], RecvFlags::DONTWAIT)?;
            }
            let written = backend.try_write(&scratch[..belongs]).unwrap_or(0); // an error shows again at the next write
            self.unsent.extend_from_slice(&scratch[written..belongs]);
            Ok(Taken::Some)
        })
    }

    /// How many of these bytes belong to the body, if it may have them.
    fn judge(&mut self, seen: &[u8]) -> Result<usize, Cut> {
        let mut belongs = 0;
        while belongs < seen.len() {
            let run = self.reader.run(&seen[belongs..]).map_err(Cut::Malformed)?;
            if run.bytes == 0 {
                break;
            }
            if let (true, Some(left)) = (run.is_data, &mut self.left) {
                *left = left.checked_sub(run.bytes as u64).ok_or(Cut::TooLong)?;
            }
            belongs += run.bytes;
        }
        Ok(belongs)
    }
}

/// Pieces carried since the others of this thread had their turns. Where both sockets are always ready
/// nothing else makes a body stop for them: readiness alone is no turn in the runtime's eyes.
#[derive(Debug, Default)]
struct Turn(usize);

impl Turn {
    async fn next(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(READS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }
}

/// Writes all of `bytes` to the client. Given up half-way, what is left of them is what is not written.
pub(super) async fn write_to_client(client: &TcpStream, bytes: &mut Vec<u8>) -> Result<(), Cut> {
    while !bytes.is_empty() {
        match client.try_write(bytes) {
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match tokio::time::timeout(HTTP_IDLE, client.writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(Cut::Client),
                    Err(_) => return Err(Cut::ClientSilent),
                }
            }
            Err(_) => return Err(Cut::Client),
        }
    }
    Ok(())
}

/// A backend's body on its way to the client.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) reader: BodyReader,
    /// The client knows no chunks: only the data passes.
    pub(super) dechunk: bool,
    /// The backend said something behind its answer: nobody knows what it would answer next.
    pub(super) has_surplus: bool,
}

impl Download {
    /// Judges `piece`, and appends what of it the client gets to `out`.
    pub(super) fn judge(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
        let mut at = 0;
        while at < piece.len() {
            let run = self
                .reader
                .run(&piece[at..])
                .map_err(|fault| Cut::Backend(fault.to_string()))?;
            if run.bytes == 0 {
                self.has_surplus = true; // nobody gets it
                break;
            }
            if run.is_data || !self.dechunk {
                out.extend_from_slice(&piece[at..at + run.bytes]);
            }
            at += run.bytes;
        }
        Ok(())
    }

    /// Carries the body on until it is complete.
    pub(super) async fn run(&mut self, backend: &Stream, client: &TcpStream) -> Result<(), Cut> {
        let mut turn = Turn::default();
        while !self.reader.is_done() {
            match tokio::time::timeout(HTTP_IDLE, backend.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Cut::Backend(error.to_string())),
                Err(_) => return Err(Cut::BackendSilent),
            }
            let piece = with_scratch(|scratch| {
                let read = backend.try_read(scratch)?;
                io::Result::Ok((read, self.pass(client, &scratch[..read])))
            });
            match piece {
                Ok((0, _)) if self.reader.may_end() => return Ok(()),
                Ok((0, _)) => return Err(Cut::Backend("it ended within its answer".into())),
                Ok((_, rest)) => {
                    write_to_client(client, &mut rest?).await?;
                    turn.next().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Cut::Backend(error.to_string())),
            }
        }
        Ok(())
    }

    /// Writes what of a piece passes as far as it goes now, and gives the rest.
    fn pass(&mut self, client: &TcpStream, piece: &[u8]) -> Result<Vec<u8>, Cut> {
        let mut kept = Vec::new();
        let passes = if self.dechunk {
            self.judge(piece, &mut kept)?;
            &kept[..]
        } else {
            let taken = self
                .reader
                .take(piece)
                .map_err(|fault| Cut::Backend(fault.to_string()))?;
            self.has_surplus |= taken.bytes < piece.len();
            &piece[..taken.bytes]
        };
        let written = client.try_write(passes).unwrap_or(0); // an error shows again at the next write
        Ok(passes[written..].to_vec())
    }
}
