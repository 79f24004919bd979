//! A client at the gate: without an answer yet, or with a 101 of greenroom's own.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::accepted::{Accepted, Gone};
use super::watched::Watched;
use crate::head::{Asked, Kind};
use crate::registry::Record;

/// See the module's head.
#[derive(Debug)]
pub(super) enum Guest {
    /// It waits for its 101; what it has sent behind its head lies unread.
    Unanswered(Watched),
    /// It has one, and speaks.
    Accepted(Box<Accepted>),
    /// Its socket is with somebody else.
    Away,
}

impl Guest {
    /// Keeps the client until it is gone, or is told to go. Before the 101 a FIN counts as leaving. Given up, it goes on when
    /// it is called again.
    pub(super) fn gone<'g>(&'g mut self, record: &'g Record) -> impl Future<Output = Gone> + use<'g> {
        poll_fn(|cx| self.poll_gone(cx, record))
    }

    /// The same for who waits for several things.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, record: &Record) -> Poll<Gone> {
        match self {
            Self::Unanswered(watched) => match watched.poll_gone(cx) {
                Poll::Ready(()) => Poll::Ready(Gone::Left),
                Poll::Pending => record.mailbox.poll_close(cx).map(|close| Gone::Told(Box::new(close))),
            },
            Self::Accepted(accepted) => accepted.poll_gone(cx, record),
            Self::Away => Poll::Ready(Gone::Left),
        }
    }

    /// What its request asks of a backend.
    pub(super) fn asked<'r>(&self, request: &'r Kind) -> Asked<'r> {
        match (request, self) {
            (Kind::Upgrade(upgrade), Self::Accepted(_)) => Asked::Accepted(upgrade),
            (Kind::Upgrade(_) | Kind::Http(_), _) => request.into(),
        }
    }
}
