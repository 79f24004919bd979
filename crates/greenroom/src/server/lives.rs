//! Which life of a backend's process a look belongs to.
//!
//! A look that began in one life and ended in the next has seen the old one, and must not speak
//! for the new one. Two numbers under a lock that is held for a comparison.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_core::event::Generation;

/// The present life; 0 where nothing is started.
#[derive(Debug)]
pub(super) struct Lives(Mutex<Present>);

#[derive(Clone, Copy, Debug)]
struct Present {
    life: Generation,
    began: Instant,
    /// It was seen to listen, somewhere.
    listened: bool,
    /// It said READY=1.
    spoke: bool,
}

impl Default for Lives {
    fn default() -> Self {
        Self(Mutex::new(Present::of(Generation(0))))
    }
}

impl Present {
    fn of(life: Generation) -> Self {
        Self {
            life,
            began: Instant::now(),
            listened: false,
            spoke: false,
        }
    }
}

impl Lives {
    /// A life begins.
    pub(super) fn begin(&self, generation: Generation) {
        *self.present() = Present::of(generation);
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever was seen in this life listens.
    pub(super) fn listens(&self, life: Generation) {
        let mut present = self.present();
        present.listened |= present.life == life;
    }

    /// This life said READY=1.
    pub(super) fn says_ready(&self, life: Generation) {
        let mut present = self.present();
        let is_this = present.life == life;
        present.listened |= is_this;
        present.spoke |= is_this;
    }

    /// Whether the present life said READY=1.
    pub(super) fn spoke(&self) -> bool {
        self.present().spoke
    }

    /// The present life ended so soon, and was never seen to listen.
    pub(super) fn never_listened(&self, soon: Duration) -> bool {
        let present = self.present();
        !present.listened && present.began.elapsed() <= soon
    }

    /// The life in which a look began: the present one, or one before.
    pub(super) fn of(&self, began: Instant) -> Generation {
        let present = *self.present();
        if began >= present.began {
            present.life
        } else {
            Generation(present.life.0.saturating_sub(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_before_a_life_does_not_belong_to_it() {
        let lives = Lives::default();
        assert_eq!(lives.of(Instant::now()), Generation(0));
        let began = Instant::now();
        lives.begin(Generation(1));
        lives.begin(Generation(2));
        assert_eq!(lives.of(began), Generation(1), "or earlier: not the present one");
        assert_eq!(lives.of(Instant::now()), Generation(2));
    }

    #[test]
    fn a_life_that_listened_is_told_from_one_that_never_did() {
        let (lives, soon) = (Lives::default(), Duration::from_secs(60));
        lives.begin(Generation(1));
        assert!(lives.never_listened(soon) && !lives.never_listened(Duration::ZERO));
        lives.listens(Generation(1));
        assert!(!lives.never_listened(soon));
        lives.begin(Generation(2));
        lives.listens(Generation(1));
        assert!(lives.never_listened(soon), "that was the one before");
    }
}
