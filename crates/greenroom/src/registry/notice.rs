//! What a connection's own task is told from outside: its mailbox.
//!
//! Whoever has something to say to a connection (the admin API, a drain, the watch over silent ones) finds its line in
//! the books and leaves a notice there; the connection's task takes it at its next turn, and is woken for it. Nobody
//! else touches its sockets. A relay asks with each turn whether something was left: one load, as nearly always nothing was.
//!
//! Bounded by `NOTICES_MAX` that wait, and one Close besides, which a full mailbox takes too: to end a connection must not depend on
//! what else it was told. A connection that is over takes none.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use greenroom_core::event::{CloseCause, Refusal, Unsent};
use greenroom_core::limits::NOTICES_MAX;
use greenroom_core::wire::CloseCode;

use super::own::OwnMessage;

use crate::watch::Word;

/// What a connection is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// It is to be closed.
    Close(Close),
    /// A message of the house's own is to be sent to its client.
    Send(OwnMessage),
    /// What the watch has found.
    Watch(Word),
}

impl Notice {
    fn is_close(&self) -> bool {
        matches!(self, Self::Close(_))
    }
}

/// How a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// Why, for the ledger.
    pub(crate) cause: CloseCause,
    /// What a client hears that has no 101 yet.
    pub(crate) refusal: Refusal,
    /// What one hears that has.
    pub(crate) code: CloseCode,
    /// With these words, of at most 123 bytes (RFC 6455 §5.5).
    pub(crate) reason: Box<str>,
    /// What else the ledger says.
    pub(crate) detail: Option<Box<str>>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Something lies there.
    told: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The task to wake.
    waker: Option<Waker>,
    /// What waits, the first first; `None`: nothing, as nearly always.
    #[allow(
        clippy::box_collection,
        reason = "every connection has this, and hardly any ever uses it"
    )]
    notices: Option<Box<VecDeque<Notice>>>,
    is_shut: bool,
}

impl Mailbox {
    /// Leaves a notice. It comes back where nobody would take it: the connection is over, or has not taken so many before.
    /// A Close comes back only where the connection is over; where one waits already, that one counts.
    pub(crate) fn tell(&self, notice: Notice) -> Result<(), Notice> {
        let waker = {
            let mut inner = self.inner();
            if inner.is_shut {
                return Err(notice);
            }
            let waiting = || inner.notices.iter().flat_map(|notices| notices.iter());
            if notice.is_close() {
                if waiting().any(Notice::is_close) {
                    return Ok(());
                }
            } else if waiting().filter(|other| !other.is_close()).count() >= NOTICES_MAX {
                return Err(notice);
            }
            inner.notices.get_or_insert_default().push_back(notice);
            self.told.store(true, Ordering::Release);
            inner.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// This task is woken from now on.
    pub(crate) fn listen(&self, waker: &Waker) {
        let mut inner = self.inner();
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
    }

    /// The next notice, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> Option<Notice> {
        if !self.told.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.inner();
        let notice = inner.notices.as_mut().and_then(|notices| notices.pop_front());
        if inner.notices.as_ref().is_none_or(|notices| notices.is_empty()) {
            inner.notices = None;
            self.told.store(false, Ordering::Release);
        }
        notice
    }

    /// Waits for the next notice. Given up, it loses none.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Notice> {
        self.listen(cx.waker()); // before looking, so that none is missed
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until it is to be closed, in a state in which nothing can be sent. Given up, it loses nothing.
    pub(crate) async fn to_close(&self) -> Close {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    /// The same for who waits for several things.
    pub(crate) fn poll_close(&self, cx: &Context<'_>) -> Poll<Close> {
        self.listen(cx.waker());
        self.take_close().map_or(Poll::Pending, Poll::Ready)
    }

    /// How it is to be closed, if it is, in a state in which nothing can be sent.
    pub(crate) fn take_close(&self) -> Option<Close> {
        loop {
            match self.take()? {
                Notice::Close(close) => return Some(close),
                Notice::Send(message) => message.refuse(Unsent::NotRelaying),
                Notice::Watch(_) => {} // relays only are watched
            }
        }
    }

    /// Takes no more, and drops what was not taken: the connection is over.
    pub(super) fn shut(&self) {
        let mut inner = self.inner();
        inner.is_shut = true;
        inner.waker = None;
        let unread = inner.notices.take();
        drop(inner);
        drop(unread); // whoever waits for an answer hears that there is none
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use greenroom_core::wire::Sender;

    use super::*;

    fn close(detail: &str) -> Notice {
        Notice::Close(Close {
            cause: CloseCause::Admin,
            refusal: Refusal::ByHand,
            code: CloseCode::GOING_AWAY,
            reason: "".into(),
            detail: Some(detail.into()),
        })
    }

    fn detail(notice: Option<Notice>) -> Option<String> {
        match notice? {
            Notice::Close(close) => close.detail.map(String::from),
            Notice::Watch(word) => Some(format!("{word:?}")),
            Notice::Send(_) => None,
        }
    }

    const PING: Word = Word::Ping(Sender::Client);

    #[tokio::test]
    async fn notices_come_in_order_and_wake_who_waits() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        assert!(mailbox.take().is_none());
        let waits = tokio::spawn({
            let mailbox = std::sync::Arc::clone(&mailbox);
            async move {
                let next = || poll_fn(|cx| mailbox.poll_next(cx));
                (detail(Some(next().await)), detail(Some(next().await)))
            }
        });
        tokio::task::yield_now().await;
        mailbox.tell(Notice::Watch(PING)).unwrap();
        mailbox.tell(close("b")).unwrap();
        assert_eq!(waits.await.unwrap(), (Some(format!("{PING:?}")), Some("b".into())));
        assert!(mailbox.take().is_none());
    }

    #[test]
    fn who_takes_nothing_is_told_no_more_than_the_bound_and_who_is_over_nothing() {
        let mailbox = Mailbox::default();
        for _ in 0..NOTICES_MAX {
            mailbox.tell(Notice::Watch(PING)).unwrap();
        }
        assert!(mailbox.tell(Notice::Watch(PING)).is_err());
        assert!(mailbox.take().is_some());
        mailbox.tell(Notice::Watch(PING)).unwrap();
        mailbox.shut();
        assert!(mailbox.tell(Notice::Watch(PING)).is_err());
        assert!(mailbox.tell(close("")).is_err());
    }

    /// Full or not: one Close waits, the first, and takes no place from the others.
    #[test]
    fn a_full_mailbox_still_takes_a_close_and_a_second_one_changes_nothing() {
        let mailbox = Mailbox::default();
        mailbox.tell(close("early")).unwrap();
        mailbox.tell(close("ignored")).unwrap();
        assert_eq!(detail(mailbox.take()).as_deref(), Some("early"));
        for _ in 0..NOTICES_MAX {
            mailbox.tell(Notice::Watch(PING)).unwrap();
        }
        mailbox.tell(close("first")).unwrap();
        mailbox.tell(close("second")).unwrap();
        assert!(mailbox.tell(Notice::Watch(PING)).is_err());
        assert_eq!(mailbox.take_close().unwrap().detail.as_deref(), Some("first"));
        assert!(mailbox.take().is_none());
        mailbox.tell(close("another")).unwrap();
        for _ in 0..NOTICES_MAX {
            mailbox.tell(Notice::Watch(PING)).unwrap();
        }
        assert!(mailbox.tell(Notice::Watch(PING)).is_err());
        mailbox.shut();
        assert!(mailbox.tell(close("")).is_err(), "it is over");
    }
}
