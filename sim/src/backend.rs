//! The backend as it really is: what the core can only learn from signals and answers.
//!
//! Each life (generation) has a plan drawn from the seed: when it listens, when it
//! is ready, how it behaves before, what it says of itself, and how it ends.

use core::time::Duration;

use greenroom_core::backend::Source;
use greenroom_core::event::Generation;
use greenroom_core::gate::{Class, Trust};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::rng::Rng;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What it does with a client before it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Early {
    /// It does not listen.
    Refuses,
    /// 503.
    Says503,
    /// 101, and then a Close 1011 or an EOF after so long.
    Closes(Duration),
    /// 101, and then a Close so much later, or up to twice that: its timers are late.
    ClosesLate(Duration),
    /// Takes the connection, and answers all once it is ready.
    Silent,
    /// One worker of two is ready; the other says 503.
    OneWorker,
    /// Takes the connection and resets it.
    Drops,
}

/// A client whose request does something to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    Says500,
    Says503,
    Hangs,
    Drops,
    /// The process dies of it, but in its last life, where it is dropped.
    Crashes,
    /// 101, and lost within the time to settle.
    Closes,
}

/// One life of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) early: Early,
    pub(crate) listens: Time,
    pub(crate) ready: Time,
    /// When it says READY, if it does.
    pub(crate) notifies: Option<Time>,
    /// When it says STOPPING, if it does.
    pub(crate) stops: Option<Time>,
    /// When it ends; `None` for the last one.
    pub(crate) ends: Option<Time>,
    /// From when on a check of its own finds it good.
    pub(crate) proves: Time,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) source: Source,
    /// It is started by us.
    pub(crate) is_ours: bool,
    /// It notifies: the same command does so in each of its lives.
    speaks: bool,
    /// It tells its phases.
    pub(crate) reports: bool,
    pub(crate) generation: Generation,
    pub(crate) life: Option<Life>,
}

/// What becomes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// It answers.
    Answers(Answer),
    /// A 101, and then this so much later.
    Then(Duration, Answer),
    /// It answers once it is ready.
    Waits,
    /// It never answers.
    Never,
}

impl Truth {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let is_ours = !rng.one_in(4);
        let probe = Source::Probe(rng.pick(&[Trust::Inferred, Trust::Pushed]));
        let source = match is_ours {
            true => rng.pick(&[Source::Auto, Source::Notify, probe, probe]),
            false => probe,
        };
        let reports = rng.one_in(3);
        let speaks = match source {
            Source::Notify => true,
            Source::Auto => !rng.one_in(3),
            // Nobody has to; a script may.
            Source::Probe(_) => reports && rng.one_in(2),
        };
        Self {
            source,
            is_ours,
            speaks,
            reports,
            generation: Generation(0),
            life: None,
        }
    }

    /// Begins the next life, which takes at most so long to be ready. The last one is sound in the
    /// end, so that everybody can get in.
    pub(crate) fn start(&mut self, now: Time, last: bool, longest: Duration, rng: &mut Rng) -> Life {
        self.generation.0 += 1;
        let closes = ms(rng.range(0, 25));
        let closes_late = ms(rng.range(10, 40));
        let early = rng.pick(&[
            Early::Refuses,
            Early::Says503,
            Early::Closes(closes),
            Early::ClosesLate(closes_late),
            Early::Silent,
            Early::OneWorker,
            Early::Drops,
        ]);
        let ready = now + ms(rng.range(20, longest.as_millis() as u64));
        let at_once = rng.one_in(3);
        let listens = match early {
            Early::Refuses => ready,

            Early::Says503
            | Early::Closes(_)
            | Early::ClosesLate(_)
            | Early::Silent
            | Early::OneWorker
            | Early::Drops => {
                now + ms(if at_once {
                    0
                } else {
                    rng.range(0, ready.since(now).as_millis() as u64)
                })
            }
        };
        let too_early = rng.one_in(3);
        let speaks = self.speaks;
        let notifies = speaks.then_some(if too_early { now + ms(10) } else { ready });
        let ends = (!last).then(|| {
            now + ms(if rng.one_in(3) {
                rng.range(10, 80)
            } else {
                rng.range(10, 5000)
            })
        });
        let stops = ends
            .filter(|_| speaks && rng.one_in(2))
            .map(|at| at.before(ms(300)).max(now));
        let life = Life {
            early,
            listens,
            ready,
            notifies,
            stops,
            ends,
            proves: now + ms(rng.range(0, ready.since(now).as_millis() as u64)),
        };
        self.life = Some(life);
        life
    }

    pub(crate) fn is_ready(&self, now: Time) -> bool {
        self.life.is_some_and(|life| now >= life.ready)
    }

    /// What a probe finds.
    pub(crate) fn verdict(&self, now: Time) -> bool {
        match self.source {
            Source::Probe(Trust::Pushed) => self.is_ready(now),
            Source::Probe(Trust::Inferred) | Source::Auto | Source::Notify => {
                self.life.is_some_and(|life| now >= life.listens)
            }
        }
    }

    /// As a WebSocket's dial, in the words of a plain answer: what would come after a 101 comes instead of it.
    fn plainly(reaction: Reaction, rng: &mut Rng) -> Reaction {
        match reaction {
            Reaction::Answers(Answer::Switched) if rng.one_in(4) => {
                Reaction::Then(ms(rng.range(0, 3_000)), Answer::Served) // long polls
            }
            Reaction::Answers(Answer::Switched) => Reaction::Answers(Answer::Served),
            Reaction::Then(after, Answer::Spoke) => Reaction::Then(after, Answer::Served),
            Reaction::Then(after, Answer::LostEarly) => {
                Reaction::Then(after, rng.pick(&[Answer::Status(503), Answer::Dropped]))
            }
            Reaction::Answers(_) | Reaction::Then(..) | Reaction::Waits | Reaction::Never => reaction,
        }
    }

    pub(crate) fn react(&self, now: Time, poison: Option<Poison>, class: Class, rng: &mut Rng) -> Reaction {
        let reaction = self.react_to_any(now, poison, rng);
        match class {
            Class::WebSocket => reaction,
            Class::Http { .. } => Self::plainly(reaction, rng),
        }
    }

    fn react_to_any(&self, now: Time, poison: Option<Poison>, rng: &mut Rng) -> Reaction {
        let Some(life) = self.life.filter(|life| now >= life.listens) else {
            return Reaction::Answers(rng.pick(&[Answer::Refused, Answer::Refused, Answer::ConnectTimeout]));
        };
        let sound = match rng.range(0, 10) {
            0 => Reaction::Answers(Answer::Status(404)),
            1..=4 => Reaction::Then(ms(rng.range(0, 40)), Answer::Spoke),
            _ => Reaction::Answers(Answer::Switched),
        };
        match (now >= life.ready, poison, life.early) {
            (true, Some(Poison::Says500), _) => Reaction::Answers(Answer::Status(500)),
            (true, Some(Poison::Says503), _) => Reaction::Answers(Answer::Status(503)),
            (true, Some(Poison::Drops | Poison::Crashes), _) => Reaction::Answers(Answer::Dropped),
            (_, Some(Poison::Hangs), _) => Reaction::Never,
            (true, Some(Poison::Closes), _) => Reaction::Then(ms(rng.range(0, 25)), Answer::LostEarly),
            (true, None, _) => sound,
            (false, _, Early::OneWorker) if rng.one_in(2) && poison.is_none() => sound,
            (false, _, Early::Says503 | Early::OneWorker) => Reaction::Answers(Answer::Status(503)),
            (false, _, Early::Closes(after)) => Reaction::Then(after, Answer::LostEarly),
            (false, _, Early::ClosesLate(after)) => {
                let late = ms(rng.range(0, after.as_millis() as u64 + 1));
                Reaction::Then(after + late, Answer::LostEarly)
            }
            (false, _, Early::Silent) => Reaction::Waits,
            (false, _, Early::Drops | Early::Refuses) => Reaction::Answers(Answer::Dropped),
        }
    }
}
