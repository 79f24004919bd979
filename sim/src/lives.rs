//! The lives of the backend in the world: when one begins and ends, what it says meanwhile, and
//! what looks at it and at what it depends on find.

use core::time::Duration;

use greenroom_core::backend;
use greenroom_core::event::Generation;
use greenroom_core::gate::Class;
use greenroom_core::phase::Reason;
use greenroom_core::readiness::Input;
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::Bug;
use crate::backend::Life;
use crate::dependency::SETTLED;
use crate::ledger::At;
use crate::plan::TIMEOUT_LEAST;
use crate::world::{Event, HORIZON, World};

/// What a backend says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Ready,
    Stopping,
    /// This phase is finished.
    Phase(usize),
    /// A phase that it does not have.
    Unknown,
    Errno,
    Failed,
    Extend(Duration),
}

impl World<'_> {
    pub(crate) fn start(&mut self) {
        let last = self.truth.generation.0 + 1 >= self.lives;
        let timed = self.plan.phases.iter().any(|rule| rule.timeout.is_some());
        let longest = if last && timed {
            TIMEOUT_LEAST / 2
        } else {
            Duration::from_secs(3)
        };
        let life = self.truth.start(self.now, last, longest, &mut self.rng);
        let generation = self.truth.generation;
        self.at(life.ready.since(self.now), Event::Becomes(generation));
        for (at, word) in [(life.notifies, Word::Ready), (life.stops, Word::Stopping)] {
            if let Some(at) = at {
                self.says(at, word, last && timed);
            }
        }
        self.tells_phases(&life, last);
        if let Some(at) = life.ends {
            self.at(at.since(self.now), Event::Ends(generation));
        }
        if self.plan.is_ours {
            self.told = generation;
            self.tell_backend(backend::Input::Started(generation));
        }
    }

    /// A word may be read late, even when the next life has begun.
    fn says(&mut self, at: Time, word: Word, in_time: bool) {
        let may = self.lives > 1 && self.plan.is_ours && !in_time;
        let late = Duration::from_millis(if may && self.rng.one_in(8) { 900 } else { 0 });
        let after = at.since(self.now) + self.delay() + late;
        self.at(after, Event::Says(self.truth.generation, word));
    }

    /// In order or not, twice, not all of them, and with a failure among them; the last life tells all in order.
    fn tells_phases(&mut self, life: &Life, last: bool) {
        let count = self.plan.phases.len();
        if !self.truth.reports || count == 0 {
            return;
        }
        let mut order: Vec<usize> = (0..count).collect();
        if !last && self.rng.one_in(3) {
            let (one, other) = (self.rng.size(0, count), self.rng.size(0, count));
            order.swap(one, other);
        }
        let told = if !last && self.rng.one_in(5) {
            self.rng.size(0, count)
        } else {
            count
        };
        let generation = self.truth.generation;
        let (begins, span) = (self.now, life.ready.since(self.now));
        for (place, &phase) in order.iter().enumerate().take(told) {
            let at = begins + span * (place as u32 + 1) / count as u32; // five at the most
            let also = [
                self.rng.one_in(4).then_some(Word::Phase(phase)),
                self.rng.one_in(6).then_some(Word::Unknown),
                self.rng
                    .one_in(5)
                    .then_some(Word::Extend(Duration::from_millis(self.rng.range(1, 3_000)))),
            ];
            for word in [Some(Word::Phase(phase))].into_iter().chain(also).flatten() {
                if last {
                    self.at(at.since(begins), Event::Says(generation, word));
                } else {
                    self.says(at, word, false);
                }
            }
        }
        if last {
            return;
        }
        for word in [Word::Errno, Word::Failed, Word::Phase(0)] {
            if self.rng.one_in(8) {
                let at = begins + Duration::from_millis(self.rng.range(0, 4_000));
                self.says(at, word, false);
            }
        }
    }

    /// The word reaches the shell. Of what is not ours nobody tells the lives apart; and the dead say nothing.
    pub(crate) fn hears(&mut self, life: Generation, word: Word) {
        let generation = if self.plan.is_ours { life } else { Generation(0) };
        let is_dead = life != self.truth.generation || self.truth.life.is_none();
        if !self.plan.is_ours && is_dead {
            return;
        }
        let phase = |name: &str| Input::Phase(generation, name.into());
        let input = match word {
            Word::Ready if self.plan.is_ours => Input::Backend(backend::Input::NotifiedReady(generation)),
            Word::Stopping if self.plan.is_ours => Input::Backend(backend::Input::NotifiedStopping(generation)),
            Word::Ready => phase("ready"),
            Word::Stopping => phase("stopping"),
            Word::Phase(index) => phase(&self.plan.phases[index].name),
            Word::Unknown => phase("warmup"),
            Word::Errno => Input::Failed(generation, Reason::Errno(2)),
            Word::Failed => phase("failed"),
            Word::Extend(by) => Input::Extend(generation, by),
        };
        self.tell_readiness(&input);
    }

    pub(crate) fn becomes_ready(&mut self, generation: Generation) {
        if generation != self.truth.generation || self.truth.life.is_none() {
            return;
        }
        for client in 0..self.clients.len() {
            if core::mem::take(&mut self.clients[client].waits) {
                let (dial, after) = (self.clients[client].dial, self.delay());
                let answer = match self.clients[client].class {
                    Class::WebSocket => Answer::Switched,
                    Class::Http { .. } => Answer::Served,
                };
                self.at(after, Event::Answer(client, dial, answer));
            }
        }
    }

    pub(crate) fn ends(&mut self, generation: Generation) {
        if generation != self.truth.generation || self.truth.life.take().is_none() {
            return; // it was ended before its time
        }
        for client in 0..self.clients.len() {
            let c = &mut self.clients[client];
            if c.connected.take().is_none() || c.gone {
                continue;
            }
            c.waits = false;
            let (dial, after) = (c.dial, self.delay());
            let switched = match self.ledger.entries[client].at {
                At::OnItsWay(None) | At::LetIn(Answer::Sent) => Answer::Dropped,
                At::OnItsWay(Some(_)) | At::LetIn(_) | At::Waiting | At::Refused(_) | At::Left => Answer::LostEarly,
            };
            if switched == Answer::LostEarly {
                self.lies_unread(client, self.now, switched);
            }
            self.at(after, Event::Answer(client, dial, switched));
        }
        let restarts = !(self.fails && generation.0 + 1 == self.lives);
        let after = self.delay();
        if self.plan.is_ours {
            self.at(after, Event::Exited(generation, restarts));
        } else if restarts {
            self.starts_again();
        }
    }

    pub(crate) fn exited(&mut self, generation: Generation, restarts: bool) {
        self.tell_backend(backend::Input::Exited {
            generation,
            restarts,
            code: 1,
        });
        if restarts {
            self.starts_again();
        }
    }

    fn starts_again(&mut self) {
        let longest = self.rng.pick(&[20, 700]);
        let after = Duration::from_millis(self.rng.range(1, longest));
        self.at(after, Event::Start);
    }

    pub(crate) fn tick(&mut self) {
        if self.now < self.origin + HORIZON {
            let wanted = self.readiness.wants_verdict();
            let idle = Duration::from_millis(100); // nobody asks; the next look is soon enough
            self.at(if wanted { self.probe_every } else { idle }, Event::Tick);
        }
        if self.readiness.wants_verdict() {
            self.look();
        }
    }

    /// The probe looks; its verdict is told a little later.
    pub(crate) fn look(&mut self) {
        let (generation, up, after) = (self.told, self.truth.verdict(self.now), self.delay());
        self.ledger.probed_at = Some(self.now);
        self.at(after, Event::Verdict(generation, up));
    }

    /// A check looks, unless its last look hangs.
    pub(crate) fn check_looks(&mut self, index: usize) {
        let dependency = self.dependencies[index];
        let is_calm = self.now > self.origin + SETTLED + Duration::from_secs(2);
        if self.now < self.origin + HORIZON {
            // Nothing changes any more but what a new start has to prove.
            let every = if is_calm {
                Duration::from_secs(1)
            } else {
                dependency.every
            };
            self.at(every, Event::CheckLooks(index));
        }
        if dependency.busy {
            return;
        }
        self.dependencies[index].busy = true;
        let look = dependency.look(self.now, self.truth.life.as_ref(), &mut self.rng);
        self.at(look.takes, Event::Checked(index, self.told, look.good));
    }

    pub(crate) fn checked(&mut self, index: usize, generation: Generation, good: bool) {
        self.dependencies[index].busy = false;
        let verdict = |generation| Input::Check {
            index,
            generation,
            good,
        };
        self.tell_readiness(&verdict(generation));
        if self.bug == Some(Bug::OneVerdictFlips) {
            // A verdict is taken for as many as it needs.
            for _ in 0..3 {
                self.readiness.handle(self.now, verdict(generation));
                self.follow();
            }
        }
    }
}
