//! One direction of a relay: read, ask, write, keep.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use greenroom_core::limits::READS_PER_TURN;
use greenroom_core::session::relay::{Ended, Pass, Then};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::scratch::with_scratch;

/// One direction. Idle, it owns no buffer.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Bytes to write, then bytes that are kept until their frame is complete.
    buffer: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    /// How much of it may be written.
    ready: usize,
    /// The sender has ended; nothing more is read.
    ended: bool,
    /// The FIN is to be passed on when all is written.
    fin: Fin,
    /// A write failed.
    broken: bool,
    /// How often something that was kept was written to its end.
    taken: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    No,
    Due,
    Sent,
}

/// What was read: bytes, or how the sender's stream ended.
pub(super) type Input<'a> = Result<&'a [u8], Ended>;

/// What follows from an end, as if from bytes.
pub(super) fn ended(then: Then) -> Pass {
    Pass {
        forward: 0,
        keep: 0,
        then,
    }
}

impl Pipe {
    /// Carries bytes as far as they go now. `Pending` when it waits for a peer;
    /// otherwise what core said, after all that came before it is written or kept.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        mut ask: impl FnMut(Input<'_>) -> Pass,
    ) -> Poll<Then>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..READS_PER_TURN {
            // Nothing is read while something waits to be written: backpressure.
            if let Err(end) = ready!(self.poll_flush(cx, to)) {
                return Poll::Ready(end);
            }
            if self.ended {
                return Poll::Pending;
            }
            let then = ready!(self.poll_read(cx, from, to, &mut ask));
            if then != Then::Continue {
                return Poll::Ready(then);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read, and at once the write of what of it may pass.
    fn poll_read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        ask: &mut impl FnMut(Input<'_>) -> Pass,
    ) -> Poll<Then>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            let pass = match ready!(Pin::new(from).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    let bytes = buf.filled();
                    let pass = ask(Ok(bytes));
                    let direct = if self.buffer.is_empty() {
                        self.write_now(cx, to, bytes, pass.forward)
                    } else {
                        0
                    };
                    self.add_from(bytes, &pass, direct);
                    pass
                }
                Ok(()) => self.end(ask(Err(Ended::Fin))),
                Err(_) => self.end(ask(Err(Ended::Reset))),
            };
            Poll::Ready(pass.then)
        })
    }

    /// Carries bytes on by one read, of which `take` itself adds what passes: where something is to go between them.
    pub(super) fn poll_once<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        take: impl FnOnce(&mut Self, &mut Context<'_>, &mut W, Input<'_>) -> Then,
    ) -> Poll<Then>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if let Err(end) = ready!(self.poll_flush(cx, to)) {
            return Poll::Ready(end);
        }
        if self.ended {
            return Poll::Pending;
        }
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            let end = match ready!(Pin::new(from).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => return Poll::Ready(take(self, cx, to, Ok(buf.filled()))),
                Ok(()) => Ended::Fin,
                Err(_) => Ended::Reset,
            };
            let then = take(self, cx, to, Err(end));
            Poll::Ready(self.end(ended(then)).then)
        })
    }

    fn end(&mut self, pass: Pass) -> Pass {
        self.ended = true;
        if pass.then == Then::HalfClose {
            self.fin = Fin::Due;
        }
        pass
    }

    /// Tries to write without keeping: what goes through costs no copy.
    fn write_now<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
        forward: usize,
    ) -> usize {
        let bytes = &bytes[..forward.min(bytes.len())];
        if bytes.is_empty() {
            return 0;
        }
        match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) | Poll::Pending => 0, // an error shows again at the flush
        }
    }

    /// Keeps what a read brought and was not written.
    pub(super) fn add(&mut self, bytes: &[u8], pass: &Pass) {
        self.add_from(bytes, pass, 0);
    }

    fn add_from(&mut self, bytes: &[u8], pass: &Pass, written: usize) {
        // `forward` and `keep` count from what was kept before, which stands behind `ready`.
        let kept = self.buffer.len() - self.ready;
        let total = (pass.forward + pass.keep).saturating_sub(kept).min(bytes.len());
        if written < total {
            self.buffer.extend_from_slice(&bytes[written..total]);
        }
        self.ready += pass.forward - written.min(pass.forward);
        if self.buffer.len() > self.ready + pass.keep {
            self.buffer.truncate(self.ready + pass.keep); // kept bytes that core dropped
        }
        self.ready = self.ready.min(self.buffer.len());
    }

    /// Writes what may be written, then a FIN that is due.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Then>> {
        while self.written < self.ready {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[self.written..self.ready])) {
                Ok(written) => self.written += written,
                // The reader is gone: its own direction ends the relay.
                Err(_) => {
                    self.broken = true;
                    self.discard();
                }
            }
        }
        if self.written > 0 {
            self.buffer.drain(..self.written);
            self.ready -= self.written;
            self.written = 0;
            self.taken = self.taken.wrapping_add(1);
        }
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = Vec::new(); // an idle connection owns no buffer
        }
        if self.fin == Fin::Due {
            let _ = ready!(Pin::new(to).poll_shutdown(cx)); // an error: it is closed already
            self.fin = Fin::Sent;
        }
        Poll::Ready(Ok(()))
    }

    fn discard(&mut self) {
        self.buffer = Vec::new();
        self.written = 0;
        self.ready = 0;
    }

    /// Drops what is kept of an incomplete frame, and appends bytes of greenroom's own behind what may be written.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.ready);
        self.buffer.extend_from_slice(bytes);
        self.ready = self.buffer.len();
    }

    /// Puts bytes of greenroom's own behind what may be written, in front of what is kept.
    pub(super) fn insert(&mut self, bytes: &[u8]) {
        self.buffer.splice(self.ready..self.ready, bytes.iter().copied());
        self.ready += bytes.len();
    }

    /// Writes what may be written, as far as it goes now; what does not go is for the next flush.
    pub(super) fn write_ready<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) {
        let _ = self.poll_flush(cx, to);
    }

    /// Bytes that may be written and were not.
    pub(super) fn unwritten(&self) -> usize {
        self.ready - self.written
    }

    /// Bytes that may be written and are not, and how often all such were.
    #[inline]
    pub(super) fn waiting(&self) -> (u32, u32) {
        ((self.ready - self.written) as u32, self.taken) // a few times what is read at once
    }

    /// Writes all that may be written. Given up half-way it remembers how far it
    /// came, so that the next attempt writes no byte twice.
    pub(super) async fn flush<W: AsyncWrite + Unpin>(&mut self, to: &mut W) -> io::Result<()> {
        while self.written < self.ready {
            match to.write(&self.buffer[self.written..self.ready]).await {
                Ok(written) if written > 0 => self.written += written,
                result => {
                    self.discard();
                    return result.and(Err(io::ErrorKind::WriteZero.into()));
                }
            }
        }
        self.discard();
        Ok(())
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether the sender has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether a write has failed: the reader is gone, whatever its own stream says.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(forward: usize, keep: usize) -> Pass {
        Pass {
            forward,
            keep,
            then: Then::Continue,
        }
    }

    #[test]
    fn what_is_not_written_is_kept_in_order_and_a_frames_beginning_waits() {
        let mut pipe = Pipe::default();
        pipe.add_from(b"abcdef", &pass(4, 2), 3); // "abc" went through, "d" did not, "ef" waits for its frame
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"def"[..], 1));
        pipe.add(b"gh", &pass(3, 1)); // "efg" is complete, "h" begins another
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"defgh"[..], 4));
        pipe.add(b"xyz", &pass(1, 0)); // "h" may pass; the rest is not to be passed
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"defgh"[..], 5));
    }

    #[test]
    fn own_bytes_stand_behind_what_may_be_written_and_replace_what_is_kept() {
        let mut pipe = Pipe::default();
        pipe.add(b"abcd", &pass(2, 2));
        pipe.append(b"!");
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"ab!"[..], 3));
    }

    #[test]
    fn a_message_between_stands_in_front_of_a_frame_that_is_not_complete() {
        let mut pipe = Pipe::default();
        pipe.add(b"abcd", &pass(2, 2));
        pipe.insert(b"!!");
        assert_eq!((&pipe.buffer[..], pipe.ready, pipe.unwritten()), (&b"ab!!cd"[..], 4, 4));
        pipe.add(b"ef", &pass(4, 0)); // "cdef" is complete
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"ab!!cdef"[..], 8));
    }

    #[test]
    fn an_own_frame_stands_before_the_beginning_of_another_and_nothing_is_dropped() {
        let mut pipe = Pipe::default();
        pipe.add(b"abcd", &pass(2, 2));
        pipe.insert(b"!");
        assert_eq!(
            (&pipe.buffer[..], pipe.ready, pipe.waiting()),
            (&b"ab!cd"[..], 3, (3, 0))
        );
        pipe.add(b"e", &pass(3, 0)); // the frame is complete
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b"ab!cde"[..], 6));
        let mut idle = Pipe::default();
        idle.insert(b"!");
        assert_eq!((&idle.buffer[..], idle.ready), (&b"!"[..], 1));
    }

    #[tokio::test]
    async fn a_flush_that_is_given_up_writes_no_byte_twice() {
        use tokio::io::AsyncReadExt;
        let (mut to, mut reader) = tokio::io::duplex(4);
        let mut pipe = Pipe::default();
        pipe.add(b"abcdefgh", &pass(8, 0));
        let given_up = std::future::poll_fn(|cx| {
            let mut flush = std::pin::pin!(pipe.flush(&mut to));
            assert!(flush.as_mut().poll(cx).is_pending(), "only four bytes have room");
            Poll::Ready(())
        });
        given_up.await;
        let mut seen = [0; 8];
        let (flushed, read) = tokio::join!(pipe.flush(&mut to), reader.read_exact(&mut seen));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(&seen, b"abcdefgh");
    }

    #[test]
    fn bytes_of_a_violation_are_not_kept() {
        let mut pipe = Pipe::default();
        pipe.add(b"ab", &pass(0, 2));
        pipe.add(b"cd", &pass(0, 0));
        assert_eq!((&pipe.buffer[..], pipe.ready), (&b""[..], 0));
    }
}
