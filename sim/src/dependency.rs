//! What a backend depends on, as it really is, and what a look at it shows.
//!
//! A dependency comes and goes, in long outages or so fast that it flaps; a look at it may
//! lie, in either direction, or hang. From [`SETTLED`] on all are there and all looks are honest,
//! so that everybody can get in.

use core::time::Duration;

use greenroom_core::check;
use greenroom_core::time::Time;

use crate::backend::Life;
use crate::rng::Rng;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// So long after the beginning of the world nothing goes wrong any more.
pub(crate) const SETTLED: Duration = ms(9_000);

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dependency {
    /// It is the backend itself, looked at from outside: each life has to prove it.
    own: bool,
    /// When it goes or comes; and what it is before the first time.
    period: Duration,
    up_first: bool,
    settles: Time,
    began: Time,
    lies: bool,
    hangs: bool,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    /// A look is under way: the next one waits for it.
    pub(crate) busy: bool,
}

/// What a look finds, and how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) good: bool,
    pub(crate) takes: Duration,
}

impl Dependency {
    pub(crate) fn new(rule: &check::Rule, now: Time, rng: &mut Rng) -> Self {
        Self {
            own: rule.phase.is_some(),
            period: ms(rng.pick(&[15, 60, 300, 1_500, 4_000, 20_000])),
            up_first: rng.one_in(2),
            settles: now + SETTLED,
            began: now,
            lies: rng.one_in(3),
            hangs: rng.one_in(3),
            every: ms(rng.pick(&[20, 50, 100, 200])),
            timeout: ms(rng.pick(&[50, 300, 2_000])),
            busy: false,
        }
    }

    fn is_there(&self, now: Time, life: Option<&Life>) -> bool {
        if self.own {
            return life.is_some_and(|life| now >= life.proves);
        }
        let turns = now.since(self.began).as_nanos() / self.period.as_nanos();
        now >= self.settles || turns.is_multiple_of(2) == self.up_first
    }

    pub(crate) fn look(&self, now: Time, life: Option<&Life>, rng: &mut Rng) -> Look {
        let honest = self.is_there(now, life);
        let wild = now < self.settles;
        if now + self.timeout < self.settles && self.hangs && rng.one_in(6) {
            // Either it is cut off, which is a bad verdict, or it comes that late.
            let good = honest && rng.one_in(2);
            return Look {
                good,
                takes: self.timeout,
            };
        }
        Look {
            good: honest != (wild && self.lies && rng.one_in(6)),
            takes: Duration::from_micros(rng.range(1, 5_000)),
        }
    }
}
