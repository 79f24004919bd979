//! Memory that a crowd has used goes back to the system when the crowd has gone.
//!
//! The allocator keeps what was freed, in pieces between what is still used, and gives back little by itself: after ten
//! thousand clients a house of ten would look as large as one of ten thousand, and after a mass release those who are relayed
//! as large as those who waited. [`Crowd`] remembers how many there were;
//! when three quarters of them have gone, a task asks the allocator once to give back all that it can, a moment
//! later, away from the threads that clients live on. Costs an atomic maximum for each that comes, and no timer.
//!
//! Bounds: crowds of fewer than `CROWD_LEAST` leave nothing worth asking for; it is not asked more often than each `TRIM_AFTER`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenroom_core::limits::TRIM_AFTER;
use tokio::sync::Notify;

/// How many there are, and how many there were at the most since memory was given back last.
#[derive(Debug)]
pub(crate) struct Crowd {
    least: usize,
    most: AtomicUsize,
    gone: Arc<Notify>,
}

impl Crowd {
    /// One that counts as such from `least` on. Whoever waits for `gone` hears when it has gone.
    pub(crate) fn new(least: usize, gone: &Arc<Notify>) -> Self {
        Self {
            least,
            most: AtomicUsize::new(0),
            gone: Arc::clone(gone),
        }
    }

    /// So many are there now, after one has come.
    pub(crate) fn grows(&self, now: usize) {
        if now > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// So many are there now, after one has gone.
    pub(crate) fn shrinks(&self, now: usize) {
        let most = self.most.load(Ordering::Relaxed);
        let is_gone = most >= self.least && now <= most / 4;
        if is_gone
            && self
                .most
                .compare_exchange(most, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.gone.notify_one();
        }
    }
}

/// Gives memory back whenever a crowd has gone, for ever.
pub(crate) async fn give_back(gone: Arc<Notify>) {
    loop {
        gone.notified().await;
        tokio::time::sleep(TRIM_AFTER).await; // the last of them are still being let go
        // It walks the allocator's lists: no thread that others wait for does that.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: it takes a number and no pointer, and may be called from any thread at any time (malloc_trim(3), MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Whether somebody who waits for this is woken, once.
#[cfg(test)]
pub(crate) fn is_told(gone: &Notify) -> bool {
    let mut told = std::pin::pin!(gone.notified());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    told.as_mut().poll(&mut cx).is_ready()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_when_three_quarters_of_a_crowd_have_gone() {
        let gone = Arc::new(Notify::new());
        let crowd = Crowd::new(100, &gone);
        (1..=100).for_each(|now| crowd.grows(now));
        (26..100).rev().for_each(|now| crowd.shrinks(now));
        assert!(!is_told(&gone), "26 are left");
        crowd.shrinks(25);
        assert!(is_told(&gone));
        (0..25).rev().for_each(|now| crowd.shrinks(now));
        assert!(!is_told(&gone), "those who were left are no crowd");
        (1..=99).for_each(|now| crowd.grows(now));
        crowd.shrinks(0);
        assert!(!is_told(&gone), "nor are these");
    }
}
