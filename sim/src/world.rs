//! The world of the gate: a queue of events in virtual time, and what each one does.
//!
//! The shell's part (timers, sessions, what goes over the wire) is in `shell`, `hearing` and `dials`,
//! the backend's in `lives`.
//! Delays between shell, core and backend are drawn from the seed, so that an
//! answer meets a client that left, and a READY a later generation.

use core::time::Duration;
use std::collections::BTreeMap;

use greenroom_core::backend;
use greenroom_core::event::{Generation, Refusal, SessionId};
use greenroom_core::gate::{self, Accept, Class, Gate, Hand, Who};
use greenroom_core::limits::GateLimits;
use greenroom_core::look::LastLook;
use greenroom_core::readiness::{Plan, Readiness};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use crate::backend::{Poison, Truth};
use crate::dependency::Dependency;
use crate::ledger::{Arrival, At, Ledger};
use crate::lives::Word;
use crate::model::Model;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::{Bug, Report, STEPS_MAX, Violation, judge, plan};

/// From the last life's readiness on, whoever is sound is in after this long.
const IN_AFTER: Duration = Duration::from_secs(15);
/// When the world ends.
pub(crate) const HORIZON: Duration = Duration::from_secs(60);
/// After so long the notifications that come late, and the descriptors that come last, are in.
const CALM: Duration = Duration::from_millis(9_500);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Arrives,
    Leaves(usize),
    Sends(usize),
    DialReaches(usize, u32),
    Answer(usize, u32, Answer),
    Looks(usize, u32),
    Accepts(usize),
    Start,
    Becomes(Generation),
    Says(Generation, Word),
    Ends(Generation),
    Exited(Generation, bool),
    Tick,
    Verdict(Generation, bool),
    CheckLooks(usize),
    Checked(usize, Generation, bool),
    Spare(usize),
    Hand(Hand, Option<Duration>),
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
    /// When the world began: nothing may depend on it.
    pub(crate) origin: Time,
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) gate: Gate,
    pub(crate) readiness: Readiness,
    pub(crate) plan: Plan,
    pub(crate) model: Model,
    pub(crate) seen_phases: judge::Seen,
    /// The readiness was told something since it was judged.
    pub(crate) is_told: bool,
    pub(crate) truth: Truth,
    pub(crate) dependencies: Vec<Dependency>,
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
    pub(crate) lives: u64,
    hold_refuse: bool,
    hold_max: u64,
    accept_after: Duration,
    pub(crate) probe_every: Duration,
    pub(crate) last_look: LastLook,
    drains: bool,
    /// Its backend takes its time for handshakes.
    pub(crate) is_slow: bool,
    pub(crate) fails: bool,
    /// What happened, for the report.
    pub(crate) sum: Report,
}

pub(crate) fn run(seed: u64, bug: Option<Bug>, origin: Time, trace: &mut Trace) -> Result<Report, Violation> {
    let mut world = World::new(seed, bug, origin, trace);
    let steps = world.live()?;
    let count = |pred: fn(&At) -> bool| world.ledger.entries.iter().filter(|e| pred(&e.at)).count() as u64;
    Ok(Report {
        steps,
        clients: world.clients.len() as u64,
        let_in: count(|at| matches!(at, At::LetIn(_))),
        refused: count(|at| matches!(at, At::Refused(_))),
        degraded: count(|at| matches!(at, At::Refused(Refusal::Degraded))),
        culprits: count(|at| matches!(at, At::Refused(Refusal::BadAnswer))),
        requeued: world.ledger.requeued,
        accepted: world.ledger.accepted,
        hands: world.ledger.hands,
        fair_turns: world.ledger.fair_turns,
        old_doubts: world.ledger.old_doubts,
        canaries: world.ledger.canaries,
        ..world.sum
    })
}

impl<'t> World<'t> {
    fn new(seed: u64, bug: Option<Bug>, origin: Time, trace: &'t mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let limits = GateLimits {
            held_max: rng.pick(&[3, 10, 1000, 1000]),
            http_held_max: rng.pick(&[2, 10, 1000, 1000]),
            dials_max: rng.pick(&[4, 9, 12, 64]),
            fair: rng.one_in(2),
            held_per_address: rng.pick(&[None, None, Some(2), Some(6)]),
            held_per_key: rng.pick(&[None, None, None, Some(3)]),
            release_rate: rng.pick(&[None, None, None, Some(7), Some(30), Some(300)]),
            ..GateLimits::default()
        };
        let truth = Truth::new(&mut rng);
        let plan = plan::draw(&truth, &mut rng);
        let dependencies = (plan.checks.iter())
            .map(|rule| Dependency::new(rule, origin, &mut rng))
            .collect();
        let mut world = World {
            origin,
            now: origin,
            bug,
            gate: Gate::new(Self::mistaken_limits(bug, limits), origin),
            readiness: Readiness::new(plan.clone(), origin),
            model: Model::new(plan.clone(), origin),
            seen_phases: judge::Seen::default(),
            is_told: true,
            plan,
            truth,
            dependencies,
            ledger: Ledger::new(limits, origin),
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
            accept_after: Duration::from_millis(rng.pick(&[50, 400, 4_000])),
            probe_every: Duration::from_millis(rng.pick(&[10, 20, 100])),
            last_look: LastLook::default(),
            drains: rng.one_in(8),
            is_slow: rng.one_in(4),
            fails: rng.one_in(8),
            sum: Report::default(),
            rng,
        };
        world.fill();
        world
    }

    fn fill(&mut self) {
        let crowd = self.rng.pick(&[1, 3, 8, 20, 40]);
        let within = self.rng.pick(&[50, 2_000, 8_000]);
        for _ in 0..crowd {
            let at = self.rng.range(0, within);
            self.at(Duration::from_millis(at), Event::Arrives);
        }
        self.at(Duration::ZERO, Event::Start);
        self.at(Duration::ZERO, Event::Tick);
        for index in 0..self.dependencies.len() {
            self.at(self.dependencies[index].every, Event::CheckLooks(index));
        }
        if self.rng.one_in(4) {
            for _ in 0..5 {
                let (at, spare) = (self.rng.range(0, 9_000), self.rng.size(0, 4));
                self.at(Duration::from_millis(at), Event::Spare(spare));
            }
            self.at(CALM, Event::Spare(1_000));
        }
        if self.rng.one_in(5) {
            for _ in 0..self.rng.range(1, 5) {
                let at = self.rng.range(0, 9_000);
                let hand = self
                    .rng
                    .pick(&[Hand::Hold, Hand::Hold, Hand::Open, Hand::Refuse, Hand::Auto]);
                let lasts = Duration::from_millis(self.rng.range(1, 3_000));
                let lasts = Some(lasts).filter(|_| hand != Hand::Auto && self.rng.one_in(2));
                self.at(Duration::from_millis(at), Event::Hand(hand, lasts));
            }
            self.at(CALM, Event::Hand(Hand::Auto, None));
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

    /// What a trace shows as the time.
    pub(crate) fn clock(&self) -> Time {
        Time::ZERO + self.now.since(self.origin)
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
                    if !matches!(event, Event::Tick | Event::CheckLooks(_)) {
                        self.trace.note(format_args!("{} {event:?}", self.clock()));
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
        self.judge_readiness();
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
            Event::Accepts(client) => self.ledger.is_accepted(self.now, client),
            Event::Start => self.start(),
            Event::Becomes(generation) => self.becomes_ready(generation),
            Event::Says(life, word) => self.hears(life, word),
            Event::Ends(generation) => self.ends(generation),
            Event::Exited(generation, restarts) => self.exited(generation, restarts),
            Event::Tick => self.tick(),
            Event::Verdict(generation, up) => self.tell_backend(backend::Input::Verdict(generation, up)),
            Event::CheckLooks(index) => self.check_looks(index),
            Event::Checked(index, generation, good) => self.checked(index, generation, good),
            Event::Spare(spare) => {
                self.ledger.told_spare(spare);
                self.tell_gate(gate::Input::Spare(spare));
            }
            Event::Hand(hand, lasts) => self.take_hand(hand, lasts),
            Event::Drain => {
                self.ledger.told_end(self.now, crate::ledger::Seen::Draining);
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
            Poison::Crashes,
            Poison::Closes,
        ]);
        let poison = Some(poison).filter(|p| self.rng.one_in(8) && (*p != Poison::Hangs || hangs < 2));
        let class = match self.rng.range(0, 10) {
            0..=1 => Class::Http { is_safe: false },
            2..=4 => Class::Http { is_safe: true },
            _ => Class::WebSocket,
        };
        let need = self.rng.size(0, self.plan.needs.len()) as u8; // there are few
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
        let (accept, who) = self.person(class);
        let arrival = Arrival {
            deadline,
            may_wait,
            poisoned: poison.is_some(),
            class,
            need,
            accept,
            who,
        };
        self.ledger.arrived(self.now, arrival);
        self.tell_arrival(id, arrival);
    }

    /// Who comes, and whether greenroom may accept it.
    fn person(&mut self, class: Class) -> (Accept, Who) {
        let who = Who {
            address: self.rng.range(0, 4),
            key: self.rng.pick(&[1, 1, 1, 2, 3, 4]),
            is_browser: class == Class::WebSocket && self.rng.one_in(2),
        };
        let accept = match class {
            Class::Http { .. } => Accept::Never,
            Class::WebSocket => self.rng.pick(&[
                Accept::Never,
                Accept::AtOnce,
                Accept::After(self.accept_after),
                Accept::After(self.accept_after),
            ]),
        };
        (accept, who)
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
        let calm = ready.max(self.origin + CALM) + Duration::from_secs(1);
        // A poisoned request may keep the gate limited, and there who may not wait is sent away.
        let poison = self.ledger.entries.iter().any(|entry| entry.poisoned);
        for client in 0..self.clients.len() {
            let entry = self.ledger.entries[client].clone();
            let due = entry.arrived.max(calm) + IN_AFTER;
            let sound = !entry.poisoned && entry.deadline > due && (entry.may_wait || !poison);
            let in_time = match entry.at {
                At::LetIn(_) => entry.ended.is_some_and(|at| at <= due),
                At::Left => true,
                // Whether so many were there was judged when it came.
                At::Refused(Refusal::HeldFull | Refusal::HeldOfAddress | Refusal::HeldOfKey) => true,
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
