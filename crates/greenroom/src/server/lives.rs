//! Which life of a backend's process a look belongs to.
//!
//! A look that began in one life and ended in the next has seen the old one, and must not speak
//! for the new one. Two numbers under a lock that is held for a comparison.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use greenroom_core::event::Generation;

/// The present life, and when it began; 0 where nothing is started.
#[derive(Debug)]
pub(super) struct Lives(Mutex<(Generation, Instant)>);

impl Default for Lives {
    fn default() -> Self {
        Self(Mutex::new((Generation(0), Instant::now())))
    }
}

impl Lives {
    /// A life begins.
    pub(super) fn begin(&self, generation: Generation) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (generation, Instant::now());
    }

    /// The life in which a look began: the present one, or one before.
    pub(super) fn of(&self, began: Instant) -> Generation {
        let (present, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if began >= since {
            present
        } else {
            Generation(present.0.saturating_sub(1))
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
}
