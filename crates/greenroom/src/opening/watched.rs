//! A client whose leaving is watched while its bytes stay unread.
//!
//! A FIN or a reset is seen through EPOLLRDHUP also behind bytes that nobody has
//! taken. To wait for it, the poller's readable edge has to be used up; a socket
//! whose edge is gone would never be readable again, so it is registered anew
//! before it is read.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Watched {
    client: TcpStream,
    /// The edge of bytes that lie there was used up.
    disarmed: AtomicBool,
}

impl Watched {
    pub(crate) fn new(client: TcpStream) -> Self {
        Self {
            client,
            disarmed: AtomicBool::new(false),
        }
    }

    /// Waits until the client has ended its side, or was reset.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| self.poll_gone(cx))
    }

    /// The same for who waits for several things. The socket's own place for a waker is used, so that a client who only
    /// waits carries no more than a reference for it.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        while let Ok(()) = ready!(self.client.poll_read_ready(cx)) {
            // It is ready, so the answer is there at once.
            let asked = pin!(self.client.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
            match asked {
                Poll::Ready(Ok(ready)) if !ready.is_read_closed() && !ready.is_error() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => continue, // not any more
            }
            // Bytes, or nothing since the last read. They stay where they are; the next edge is what matters.
            let _ = self.client.try_io(Interest::READABLE, || -> std::io::Result<()> {
                if super::peek(&self.client, &mut [0])? > 0 {
                    self.disarmed.store(true, Ordering::Relaxed);
                }
                Err(std::io::ErrorKind::WouldBlock.into())
            });
        }
        Poll::Ready(())
    }

    /// Uses up the poller's edge, before whoever reads past the poller looks at what lies there.
    pub(super) fn use_up(&self) {
        let spent: std::io::Result<()> =
            (self.client).try_io(Interest::READABLE, || Err(std::io::ErrorKind::WouldBlock.into()));
        debug_assert!(spent.is_err());
        self.disarmed.store(true, Ordering::Relaxed);
    }

    /// All that lay there since then was read: the next edge comes by itself.
    pub(super) fn is_drained(&self) {
        self.disarmed.store(false, Ordering::Relaxed);
    }

    /// The socket, to be written. It may be read as long as nobody has waited for its end.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.client
    }

    /// The socket, fit to be read: registered again if its edge was used up.
    pub(crate) fn into_inner(self) -> Option<TcpStream> {
        if !self.disarmed.into_inner() {
            return Some(self.client);
        }
        self.client.into_std().and_then(TcpStream::from_std).ok()
    }
}
