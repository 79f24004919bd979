//! The line on which the owner task tells a session what the gate says: in order, and each word once.
//!
//! One piece of memory for all of a session's time at the gate, however often it is told something. The session hears
//! `None` when nobody will say another word; what is said to a session that has gone is dropped, and a connection that was
//! dialled for it closes with that.
//!
//! Bounded: the gate waits for an answer to what asks for one; how long the wait is (`Tell`) is left out where a word lies unread.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use greenroom_core::event::Refusal;

use crate::dial::Dialled;

/// What a session is told by the gate.
#[derive(Debug)]
pub enum Order {
    /// Give the client a 101 of its own; it stays at the gate.
    Accept,
    /// Tell an accepted client how long it will take; it stays at the gate.
    Tell {
        /// How many go before it.
        position: usize,
    },
    /// Let in: its head is written. Wait for the answer, and tell it.
    Dialled(Dialled),
    /// The 101 has settled: look once more at the connection, and tell what lies there.
    Look,
    /// Give the client what the backend said.
    Forward,
    /// Drop the backend connection and wait again.
    Requeued,
    /// Send the client away, as one of so many that had to wait and are sent away together.
    Refuse(Refusal, usize),
}

#[derive(Debug, Default)]
struct Line {
    /// What was said and not heard, the first first. Nearly always empty, and then without memory of its own.
    words: VecDeque<Order>,
    /// The session's task, while it listens.
    waker: Option<Waker>,
    /// The owner task's end, or the session's, is gone.
    is_over: bool,
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner task's end.
#[derive(Debug)]
pub(crate) struct Teller(Arc<Mutex<Line>>);

/// The session's end.
#[derive(Debug)]
pub(crate) struct Orders(Arc<Mutex<Line>>);

/// A line to a session that arrives.
pub(crate) fn line() -> (Teller, Orders) {
    let line = Arc::default();
    (Teller(Arc::clone(&line)), Orders(line))
}

impl Teller {
    /// Tells it. It may have gone: then that is on its way to the owner task.
    pub(super) fn tell(&self, order: Order) {
        let mut line = lock(&self.0);
        let is_idle_word = matches!(order, Order::Tell { .. }) && !line.words.is_empty();
        if line.is_over || is_idle_word {
            drop(line); // what was dialled closes without the lock
            return drop(order);
        }
        line.words.push_back(order);
        let waker = line.waker.take();
        drop(line);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Orders {
    /// The next word; `None`: there will be none. Given up, it loses none.
    pub(crate) async fn next(&mut self) -> Option<Order> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for who waits for several things.
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Order>> {
        let mut line = lock(&self.0);
        if let Some(order) = line.words.pop_front() {
            if line.words.is_empty() {
                line.words = VecDeque::new(); // who only waits owns no buffer
            }
            return Poll::Ready(Some(order));
        }
        if line.is_over {
            return Poll::Ready(None);
        }
        if !line.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            line.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let waker = {
            let mut line = lock(&self.0);
            line.is_over = true;
            line.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let unheard = {
            let mut line = lock(&self.0);
            line.is_over = true;
            line.waker = None;
            std::mem::take(&mut line.words)
        };
        drop(unheard); // what was dialled for it closes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(orders: &mut Orders) -> Poll<Option<Order>> {
        orders.poll_next(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn words_are_heard_in_order_and_the_end_behind_them() {
        let (teller, mut orders) = line();
        assert!(hears(&mut orders).is_pending());
        teller.tell(Order::Accept);
        teller.tell(Order::Requeued);
        drop(teller);
        assert!(matches!(hears(&mut orders), Poll::Ready(Some(Order::Accept))));
        assert!(matches!(hears(&mut orders), Poll::Ready(Some(Order::Requeued))));
        assert!(matches!(hears(&mut orders), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_word_and_by_the_end() {
        let (teller, mut orders) = line();
        let waits = tokio::spawn(async move {
            let first = orders.next().await;
            (matches!(first, Some(Order::Look)), orders.next().await.is_none())
        });
        tokio::task::yield_now().await;
        teller.tell(Order::Look);
        tokio::task::yield_now().await;
        drop(teller);
        assert_eq!(waits.await.unwrap(), (true, true));
    }

    #[test]
    fn how_long_it_will_take_is_not_told_twice_to_who_does_not_listen() {
        let (teller, mut orders) = line();
        for position in 0..100 {
            teller.tell(Order::Tell { position });
        }
        assert!(matches!(
            hears(&mut orders),
            Poll::Ready(Some(Order::Tell { position: 0 }))
        ));
        assert!(hears(&mut orders).is_pending());
        teller.tell(Order::Tell { position: 7 });
        assert!(matches!(
            hears(&mut orders),
            Poll::Ready(Some(Order::Tell { position: 7 }))
        ));
    }

    #[test]
    fn what_is_said_to_who_has_gone_is_dropped() {
        let (teller, orders) = line();
        teller.tell(Order::Accept);
        let line = Arc::downgrade(&orders.0);
        drop(orders);
        teller.tell(Order::Forward);
        assert!(line.upgrade().is_some_and(|line| lock(&line).words.is_empty()));
    }
}
