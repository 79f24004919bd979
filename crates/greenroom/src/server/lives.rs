//! Which life of a backend's process a look belongs to.
//!
//! A look that began in one life and ended in the next has seen the old one, and must not speak
//! for the new one; the same with lines of the output. A few numbers under locks that are held for a comparison.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_core::event::Generation;
use tokio::sync::watch;

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

/// For each `log` check, in order, whether its line was seen in the present life.
///
/// Output and process are watched side by side, so a line may come before its life is said to have begun, and
/// one of a life that is over after its end.
#[derive(Debug)]
pub(super) struct SeenLines {
    seen: Box<[watch::Sender<bool>]>,
    of: Mutex<Whose>,
}

/// Whose lines are seen.
#[derive(Debug, Default)]
struct Whose {
    life: Generation,
    is_over: bool,
}

impl SeenLines {
    /// Of so many checks.
    pub(super) fn new(checks: usize) -> Self {
        Self {
            seen: (0..checks).map(|_| watch::Sender::new(false)).collect(),
            of: Mutex::default(),
        }
    }

    /// One receiver for each check, in order.
    pub(super) fn subscribe(&self) -> impl Iterator<Item = watch::Receiver<bool>> {
        self.seen.iter().map(watch::Sender::subscribe)
    }

    /// This life has begun.
    pub(super) fn begin(&self, life: Generation) {
        self.turn_to(life, &mut self.of());
    }

    /// The line of this check was seen in this life.
    pub(super) fn see(&self, life: Generation, check: usize) {
        let mut of = self.of();
        self.turn_to(life, &mut of);
        if of.life == life
            && !of.is_over
            && let Some(seen) = self.seen.get(check)
        {
            seen.send_replace(true);
        }
    }

    /// This life is over: nothing that it has shown holds for the next one.
    pub(super) fn end(&self, life: Generation) {
        let mut of = self.of();
        if of.life == life {
            of.is_over = true;
            self.forget();
        }
    }

    fn turn_to(&self, life: Generation, of: &mut Whose) {
        if life > of.life {
            *of = Whose { life, is_over: false };
            self.forget();
        }
    }

    fn forget(&self) {
        for seen in &self.seen {
            seen.send_replace(false);
        }
    }

    fn of(&self) -> MutexGuard<'_, Whose> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_for_its_own_life_whenever_that_is_said_to_begin_and_end() {
        let (one, two) = (Generation(1), Generation(2));
        let lines = SeenLines::new(2);
        let seen: Vec<_> = lines.subscribe().collect();
        let seen = || [*seen[0].borrow(), *seen[1].borrow()];
        lines.see(one, 0);
        lines.begin(one);
        assert_eq!(
            seen(),
            [true, false],
            "it was quicker than the word that it was started"
        );
        lines.end(one);
        assert_eq!(seen(), [false, false], "nothing of it holds for the next life");
        lines.see(one, 1);
        assert_eq!(seen(), [false, false], "the last of its output comes after its end");
        lines.see(two, 1);
        lines.begin(two);
        lines.end(one);
        lines.see(one, 0);
        assert_eq!(seen(), [false, true]);
    }

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
