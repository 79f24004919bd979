//! Who is with a backend: connections that have asked for it and are not over.
//!
//! A reload may take a backend away, or put another in its place. Whoever is with the old one stays with it, and it ends when
//! the last of them has gone. Counted when a request is for it; a connection that only waits for its next request is with nobody.
//! Bounded by the connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    count: AtomicUsize,
    /// Told when there are none.
    gone: Notify,
}

impl Visitors {
    /// One more, until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Visit {
        self.count.fetch_add(1, Ordering::SeqCst);
        Visit(Arc::clone(self))
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Ends when there are none.
    pub(crate) async fn gone(&self) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable(); // before looking, so that none is missed
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            gone.await;
        }
    }
}

/// One of them, until dropped.
#[derive(Debug)]
pub(crate) struct Visit(Arc<Visitors>);

impl Drop for Visit {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backend_is_left_when_the_last_has_gone() {
        let visitors = Arc::new(Visitors::default());
        visitors.gone().await;
        let (one, two) = (visitors.enter(), visitors.enter());
        let mut gone = std::pin::pin!(visitors.gone());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        drop(two);
        gone.await;
        assert_eq!(visitors.count(), 0);
    }
}
