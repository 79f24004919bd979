//! A connection to a backend, over TCP or a Unix socket, and how sockets are set up.
//!
//! Client and backend sockets get TCP_NODELAY (a relay writes whole messages),
//! keepalive and TCP_USER_TIMEOUT, so that a peer that fell silent for ever ends
//! by the kernel and not by a timer of each connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use greenroom_core::limits::{KEEPALIVE, TCP_USER_TIMEOUT};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a backend.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// A connection to a backend that no runtime watches yet: who dials it is not who uses it.
#[derive(Debug)]
pub enum Fresh {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix.
    Unix(std::os::unix::net::UnixStream),
}

impl Fresh {
    /// Has it watched by the runtime of this thread, from here on.
    pub(crate) fn watched(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

impl AsFd for Fresh {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self {
            Stream::Tcp($stream) => $body,
            Stream::Unix($stream) => $body,
        }
    };
}

impl Stream {
    /// Has it watched no longer.
    pub(crate) fn unwatched(self) -> io::Result<Fresh> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Fresh::Tcp),
            Self::Unix(stream) => stream.into_std().map(Fresh::Unix),
        }
    }

    /// Reads what is there.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        each!(self, s => s.try_read(into))
    }

    /// Writes what fits.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, s => s.try_write(bytes))
    }

    /// Waits until there is something to read, or an end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        each!(self, s => s.readable().await)
    }

    /// Waits until there is room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        each!(self, s => s.writable().await)
    }

    /// Whether an idle connection is still one: no end, and nothing said unasked. Costs
    /// a system call only where the poller has news.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let news = each!(self, s => s.poll_read_ready(&mut cx));
        if news.is_pending() {
            return true;
        }
        let news = each!(self, s => s.try_io(Interest::READABLE, || match self.is_silent() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }));
        news.is_err()
    }

    /// The same, past the poller: it may not have told yet.
    pub(crate) fn is_silent(&self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(self.as_fd(), &mut [0_u8; 1][..], flags);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, s => s.as_fd())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}

/// Sets up a TCP socket. None of it is worth refusing a client for. The user timeout also
/// ends a peer that takes nothing for so long (Linux 5.11 and newer). A peer on this
/// machine cannot vanish without the kernel knowing: it is spared the keepalive.
pub(crate) fn set_up<S: AsFd>(socket: &S, peer_is_local: bool) {
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    if peer_is_local {
        return;
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    let _ = socket.set_tcp_keepalive(&keepalive);
}
