//! The world of the gate: a queue of events in virtual time, and what each one does.
//!
//! The shell's part (timers, sessions, what goes over the wire) is in `shell`.
//! Delays between shell, core and backend are drawn from the seed, so that an
//! answer meets a client that left, and a READY a later generation.

use core::time::Duration;
use std::collections::BTreeMap;

use greenroom_core::backend::{self, Backend};
use greenroom_core::event::{Generation, SessionId};
use greenroom_core::gate::{self, Class, Gate};
use greenroom_core::limits::GateLimits;
use greenroom_core::look::LastLook;
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::backend::{Poison, Reaction, Truth};
use crate::ledger::{At, Ledger};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::{Bug, Report, STEPS_MAX, Violation};

/// From the last life's readiness on, whoever is sound is in after this long.
const IN_AFTER: Duration = Duration::from_secs(15);
/// When the world ends.
const HORIZON: Time = Time::from_millis(60_000);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Arrives,
    Leaves(usize),
    Sends(usize),
    DialReaches(usize, u32),
    Answer(usize, u32, Answer),
    Looks(usize, u32),
    Start,
    Becomes(Generation),
    Says(Generation, bool),
    Ends(Generation),
    Exited(Generation, bool),
    Tick,
    Verdict(Generation, bool),
    Spare(usize),
    Drain,
}

/// A client, as the shell and the backend know it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: SessionId,
    pub(crate) poison: Option<Poison>,
    pub(crate) class: Class,
    /// Bytes that it has sent.
    pub(crate) sent: Vec<u8>,
    /// The current dial; 0 before the first.
    pub(crate) dial: u32,
    pub(crate) canary: bool,
    /// What the backend got on the current dial.
    pub(crate) got: Vec<u8>,
    /// The life that took the current dial, if it is connected.
    pub(crate) connected: Option<Generation>,
    /// It has a dial without an answer, to be answered when the backend is ready.
    pub(crate) waits: bool,
    /// What the backend did after its 101 or instead of it, from this moment on in the shell's socket: not told yet.
    pub(crate) unread: Option<(Time, Answer)>,
    /// When the shell read the 101.
    pub(crate) switched: Time,
    /// When its 101 was passed on.
    pub(crate) relaying: Option<Time>,
    pub(crate) gone: bool,
}

pub(crate) struct World<'t> {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) gate: Gate,
    pub(crate) backend: Backend,
    pub(crate) truth: Truth,
    pub(crate) ledger: Ledger,
    pub(crate) limits: GateLimits,
    pub(crate) clients: Vec<Client>,
    pub(crate) numbers: BTreeMap<SessionId, usize>,
    pub(crate) next_id: u64,
    /// The shell's one timer.
    pub(crate) armed: Option<Time>,
    pub(crate) told: Generation,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    pub(crate) trace: &'t mut Trace,
    lives: u64,
    hold_refuse: bool,
    hold_max: u64,
    probe_every: Duration,
    pub(crate) last_look: LastLook,
    drains: bool,
    fails: bool,
}

pub(crate) fn run(seed: u64, bug: Option<Bug>, trace: &mut Trace) -> Result<Report, Violation> {
    let mut world = World::new(seed, bug, trace);
    let steps = world.live()?;
    let count = |pred: fn(&At) -> bool| world.ledger.entries.iter().filter(|e| pred(&e.at)).count() as u64;
    Ok(Report {
        hash: 0,
        steps,
        clients: world.clients.len() as u64,
        let_in: count(|at| matches!(at, At::LetIn(_))),
        refused: count(|at| matches!(at, At::Refused(_))),
        requeued: world.ledger.requeued,
        canaries: world.ledger.canaries,
        relayed: 0,
    })
}

impl<'t> World<'t> {
    fn new(seed: u64, bug: Option<Bug>, trace: &'t mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let limits = GateLimits {
            held_max: rng.pick(&[3, 10, 1000, 1000]),
            http_held_max: rng.pick(&[2, 10, 1000, 1000]),
            dials_max: rng.pick(&[4, 9, 12, 64]),
            ..GateLimits::default()
        };
        let truth = Truth::new(&mut rng);
        let learns = bug != Some(Bug::LearnedSettleIgnored);
        let known = GateLimits {
            settle_warned: if learns { limits.settle_warned } else { limits.settle },
            settle_max: if learns { limits.settle_max } else { limits.settle },
            ..limits
        };
        let mut world = World {
            now: Time::ZERO,
            bug,
            gate: Gate::new(known),
            backend: Backend::new(truth.source),
            truth,
            ledger: Ledger::new(limits),
            limits,
            clients: Vec::new(),
            numbers: BTreeMap::new(),
            next_id: 0,
            armed: None,
            told: Generation(0),
            queue: BTreeMap::new(),
            queued: 0,
            trace,
            lives: rng.range(1, 6),
            hold_refuse: rng.one_in(6),
            hold_max: rng.pick(&[500, 5_000, 30_000]),
            probe_every: Duration::from_millis(rng.pick(&[10, 20, 100])),
            last_look: LastLook::default(),
            drains: rng.one_in(8),
            fails: rng.one_in(8),
            rng,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        let crowd = self.rng.pick(&[1, 3, 8, 20, 40]);
        let within = self.rng.pick(&[50, 2_000, 8_000]);
        for _ in 0..crowd {
            let at = self.rng.range(0, within);
            self.at(Duration::from_millis(at), Event::Arrives);
        }
        self.at(Duration::ZERO, Event::Start);
        self.at(Duration::ZERO, Event::Tick);
        if self.rng.one_in(4) {
            for _ in 0..5 {
                let (at, spare) = (self.rng.range(0, 9_000), self.rng.size(0, 4));
                self.at(Duration::from_millis(at), Event::Spare(spare));
            }
            self.at(Duration::from_millis(9_500), Event::Spare(1_000));
        }
        if self.drains {
            let at = self.rng.range(0, 9_000);
            self.at(Duration::from_millis(at), Event::Drain);
        }
    }

    pub(crate) fn at(&mut self, after: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), event);
    }

    /// A delay on the way: mostly short, in microseconds.
    pub(crate) fn delay(&mut self) -> Duration {
        let most = self.rng.pick(&[50, 500, 500, 5_000]);
        Duration::from_micros(self.rng.range(1, most))
    }

    fn live(&mut self) -> Result<u64, Violation> {
        for step in 0..STEPS_MAX {
            let event = self.queue.first_key_value().map(|(&key, &event)| (key, event));
            match (self.armed, event) {
                (None, None) => {
                    self.finish();
                    return self.ledger.broken.take().map_or(Ok(step), Err);
                }
                (Some(at), event) if event.is_none_or(|((due, _), _)| at <= due) => {
                    self.now = self.now.max(at);
                    self.wake();
                }
                (Some(_) | None, Some((key, event))) => {
                    self.queue.remove(&key);
                    self.now = self.now.max(key.0);
                    if !matches!(event, Event::Tick) {
                        self.trace.note(format_args!("{} {event:?}", self.now));
                    }
                    self.happen(event);
                }
                (Some(_), None) => {} // the guard above holds
            }
            self.check();
            if let Some(violation) = self.ledger.broken.take() {
                return Err(violation);
            }
        }
        let what = format!("{STEPS_MAX} events and no end: a loop without progress");
        Err(Violation { invariant: 9, what })
    }

    fn check(&mut self) {
        self.gate.check_invariants();
        let (held, dialing, timeout) = (self.gate.held(), self.gate.dialing(), self.gate.poll_timeout());
        self.ledger.check(self.now, held, dialing, timeout);
        let wanted = self.wants_look();
        self.ledger.told_wanted(self.now, wanted);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives => self.arrives(),
            Event::Leaves(client) => self.leaves(client),
            Event::Sends(client) => self.sends(client),
            Event::DialReaches(client, dial) => self.dial_reaches(client, dial),
            Event::Answer(client, dial, answer) => self.answer(client, dial, answer),
            Event::Looks(client, dial) => self.looks(client, dial),
            Event::Start => self.start(),
            Event::Becomes(generation) => self.becomes_ready(generation),
            Event::Says(generation, ready) => {
                let said = if ready {
                    backend::Input::NotifiedReady
                } else {
                    backend::Input::NotifiedStopping
                };
                self.tell_backend(said(generation));
            }
            Event::Ends(generation) => self.ends(generation),
            Event::Exited(generation, restarts) => {
                self.tell_backend(backend::Input::Exited {
                    generation,
                    restarts,
                    code: 1,
                });
                if restarts {
                    let longest = self.rng.pick(&[20, 700]);
                    let after = Duration::from_millis(self.rng.range(1, longest));
                    self.at(after, Event::Start);
                }
            }
            Event::Tick => self.tick(),
            Event::Verdict(generation, up) => self.tell_backend(backend::Input::Verdict(generation, up)),
            Event::Spare(spare) => {
                self.ledger.told_spare(spare);
                self.tell_gate(gate::Input::Spare(spare));
            }
            Event::Drain => {
                self.ledger.told_end(crate::ledger::Seen::Draining);
                self.tell_gate(gate::Input::Drain);
            }
        }
    }

    fn arrives(&mut self) {
        let hold = Duration::from_millis(self.rng.range(1, self.hold_max));
        let (deadline, may_wait) = (self.now + hold, !(self.hold_refuse && self.rng.one_in(2)));
        // So few hang that they cannot fill the dial window by themselves.
        let hangs = self.clients.iter().filter(|c| c.poison == Some(Poison::Hangs)).count();
        let poison = self.rng.pick(&[
            Poison::Says500,
            Poison::Says503,
            Poison::Hangs,
            Poison::Drops,
            Poison::Closes,
        ]);
        let poison = Some(poison).filter(|p| self.rng.one_in(8) && (*p != Poison::Hangs || hangs < 2));
        let class = match self.rng.range(0, 10) {
            0..=1 => Class::Http { is_safe: false },
            2..=4 => Class::Http { is_safe: true },
            _ => Class::WebSocket,
        };
        self.next_id += 1;
        let id = SessionId(self.next_id);
        let client = self.clients.len();
        self.numbers.insert(id, client);
        let early = self.rng.size(0, 4);
        self.clients.push(Client {
            id,
            poison,
            class,
            sent: (0..early as u8).collect(),
            dial: 0,
            canary: false,
            got: Vec::new(),
            connected: None,
            waits: false,
            unread: None,
            switched: Time::ZERO,
            relaying: None,
            gone: false,
        });
        let stays = Duration::from_millis(if self.rng.one_in(4) {
            self.rng.range(0, 3_000)
        } else {
            40_000
        });
        self.at(stays, Event::Leaves(client));
        for _ in 0..self.rng.range(0, 4) {
            let at = Duration::from_millis(self.rng.range(0, 6_000));
            self.at(at, Event::Sends(client));
        }
        self.ledger
            .arrived(self.now, deadline, may_wait, poison.is_some(), class);
        let class = match class {
            Class::Http { .. } if self.bug == Some(Bug::BodyOverlooked) => Class::Http { is_safe: true },
            class => class,
        };
        self.tell_gate(gate::Input::Arrived {
            id,
            deadline,
            may_wait,
            class,
            need: 0,
        });
    }

    fn start(&mut self) {
        let last = self.truth.generation.0 + 1 >= self.lives;
        let life = self.truth.start(self.now, last, &mut self.rng);
        let generation = self.truth.generation;
        let until = |at: Time, now: Time| at.since(now);
        self.at(until(life.ready, self.now), Event::Becomes(generation));
        for (at, ready) in [(life.notifies, true), (life.stops, false)] {
            if let Some(at) = at {
                // A notification may be read late, even when the next life has begun.
                let late = Duration::from_millis(if self.rng.one_in(8) { 900 } else { 0 });
                let after = until(at, self.now) + self.delay() + if self.lives > 1 { late } else { Duration::ZERO };
                self.at(after, Event::Says(generation, ready));
            }
        }
        if let Some(at) = life.ends {
            self.at(until(at, self.now), Event::Ends(generation));
        }
        self.told = generation;
        self.tell_backend(backend::Input::Started(generation));
    }

    fn becomes_ready(&mut self, generation: Generation) {
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

    fn ends(&mut self, generation: Generation) {
        self.truth.life = None;
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
        self.at(after, Event::Exited(generation, restarts));
    }

    fn tick(&mut self) {
        if self.now < HORIZON {
            let wanted = self.backend.wants_verdict();
            let idle = Duration::from_millis(100); // nobody asks; the next look is soon enough
            self.at(if wanted { self.probe_every } else { idle }, Event::Tick);
        }
        if self.backend.wants_verdict() {
            self.look();
        }
    }

    /// The probe looks; its verdict is told a little later.
    pub(crate) fn look(&mut self) {
        let (generation, up, after) = (self.told, self.truth.verdict(self.now), self.delay());
        self.ledger.probed_at = Some(self.now);
        self.at(after, Event::Verdict(generation, up));
    }

    fn dial_reaches(&mut self, client: usize, dial: u32) {
        let c = &self.clients[client];
        if c.dial != dial || c.gone || !matches!(self.ledger.entries[client].at, At::OnItsWay(None)) {
            return; // given up before it got there
        }
        let reaction = if self.rng.one_in(60) {
            Reaction::Answers(Answer::NoDescriptor)
        } else {
            self.truth.react(self.now, c.poison, c.class, &mut self.rng)
        };
        self.trace
            .note(format_args!("{} client {client}: {reaction:?}", self.now));
        let reached = !matches!(
            reaction,
            Reaction::Answers(Answer::Refused | Answer::ConnectTimeout | Answer::NoDescriptor)
        );
        if reached && self.clients[client].class != Class::WebSocket {
            return self.takes_plain(client, dial, reaction);
        }
        let after = self.delay();
        let c = &mut self.clients[client];
        let connected = Some(self.truth.generation);
        match reaction {
            Reaction::Answers(Answer::NoDescriptor) => {
                self.at(after, Event::Answer(client, dial, Answer::NoDescriptor));
                self.at(after + Duration::from_millis(50), Event::Spare(1_000));
            }
            Reaction::Answers(answer) => {
                c.connected = connected.filter(|_| answer == Answer::Switched);
                self.at(after, Event::Answer(client, dial, answer));
            }
            Reaction::Then(later, answer) => {
                c.connected = connected;
                self.at(after, Event::Answer(client, dial, Answer::Switched));
                // It is read when it comes, unless the shell is kept from running.
                let late = if self.rng.one_in(8) { self.rng.range(0, 60) } else { 0 };
                let comes = after + later;
                self.lies_unread(client, self.now + comes, answer);
                self.at(comes + Duration::from_millis(late), Event::Answer(client, dial, answer));
            }
            Reaction::Waits => (c.connected, c.waits) = (connected, true),
            Reaction::Never => c.connected = connected,
        }
    }

    /// A plain request's head is written; the backend answers when it likes.
    fn takes_plain(&mut self, client: usize, dial: u32, reaction: Reaction) {
        let c = &mut self.clients[client];
        c.connected = Some(self.truth.generation);
        let id = c.id;
        self.ledger.wrote(self.now, client);
        if self.bug != Some(Bug::SentUntold) {
            self.tell_gate(gate::Input::Answered(id, Answer::Sent));
        }
        let after = self.delay();
        match reaction {
            Reaction::Answers(answer) => self.at(after, Event::Answer(client, dial, answer)),
            Reaction::Then(later, answer) => self.at(after + later, Event::Answer(client, dial, answer)),
            Reaction::Waits => self.clients[client].waits = true,
            Reaction::Never => {}
        }
    }

    /// From then on it lies in the shell's socket, unless something else does already.
    fn lies_unread(&mut self, client: usize, at: Time, answer: Answer) {
        let c = &mut self.clients[client];
        if c.unread.is_none_or(|(before, _)| at < before) {
            c.unread = Some((at, answer));
            self.ledger.entries[client].lost_at = Some(at).filter(|_| answer == Answer::LostEarly);
        }
    }

    /// Nothing more happens: everybody has an outcome, and whoever was sound and there for long enough is in.
    fn finish(&mut self) {
        self.ledger.check_end();
        let (held, dialing) = (self.gate.held(), self.gate.dialing());
        self.ledger.demand((held, dialing) == (0, 0), 6, || {
            format!("{held} held, {dialing} dialling, and nobody there")
        });
        let Some(ready) = self
            .truth
            .life
            .filter(|l| l.ends.is_none())
            .map(|l| l.ready.max(l.listens))
        else {
            return;
        };
        if self.drains {
            return;
        }
        // The notifications that come late, and the descriptors that come last, are in by then.
        let calm = ready.max(Time::from_millis(9_500)) + Duration::from_secs(1);
        for client in 0..self.clients.len() {
            let entry = self.ledger.entries[client].clone();
            let due = entry.arrived.max(calm) + IN_AFTER;
            let sound = !entry.poisoned && entry.deadline > due;
            let in_time = match entry.at {
                At::LetIn(_) => entry.ended.is_some_and(|at| at <= due),
                At::Left => true,
                At::Refused(_) => !sound || entry.ended.is_some_and(|at| at < calm),
                At::Waiting | At::OnItsWay(_) => false,
            };
            self.ledger.demand(!sound || in_time, 9, || {
                format!(
                    "client {client} ({:?}) is not let in by {due}, and the backend is ready since {ready}",
                    entry.at
                )
            });
        }
    }
}
