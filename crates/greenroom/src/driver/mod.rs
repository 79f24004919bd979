//! The owner task of one backend: carries things between the world and the gate.
//!
//! ```text
//!  sessions ──arrived, answered, left──▶ ┌───────┐ ──dial──▶ launcher ──head──▶ backend
//!  child, probe ──ready, exited────────▶ │ inbox │ ──order─▶ sessions
//!  clock ──deadlines───────────────────▶ └───────┘
//! ```
//!
//! It alone touches the gate, the backend machine and the launcher of its
//! backend, so there is no lock to hold and no order to lose. It decides nothing:
//! each turn takes what was told, lets the clock in, and does what core says.
//! A pushed ready signal costs one wake-up and then dials at once: no timer lies
//! in the path.

mod inbox;
mod standing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greenroom_core::backend::{self, Backend, Phase, Source};
use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::gate::{Change, Gate, Input, Output, Stage, Trial};
use greenroom_core::limits::{ACCEPT_REST, DIALS_PER_TURN, GateLimits};
use greenroom_core::look::LastLook;
use greenroom_core::session::Answer;
use greenroom_core::time::Time;
use tokio::sync::{Notify, oneshot, watch};

pub use inbox::{Arrival, Inbox, Message, Order};
pub use standing::{Gateway, Standing};

use crate::clock;
use crate::config::{Address, Config};
use crate::dial::{Dialled, Launcher};
use crate::front;
use crate::head::Kind;
use crate::http::Pool;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::telemetry::{Event, Log};

use standing::Starts;

/// Entries for which room is kept when nobody needs it.
const ROOM_KEPT: usize = 64;

/// A session in the gate's care.
#[derive(Debug)]
struct Client {
    request: Arc<Kind>,
    route: usize,
    peer: std::net::IpAddr,
    arrived: Time,
    order: oneshot::Sender<Order>,
    /// Its dial under way: which one, and whether it is a canary.
    dial: (u32, bool),
}

/// See the module's head.
#[derive(Debug)]
pub struct Driver {
    inbox: Arc<Inbox>,
    registry: Arc<Registry>,
    log: Log,
    backend: Backend,
    gate: Gate,
    launcher: Launcher,
    clients: HashMap<SessionId, Client>,
    /// Dials that the gate has ordered and that are not begun, in order: which dial, and whether it is a canary.
    due: BTreeMap<SessionId, (u32, bool)>,
    /// When the present start-up began.
    starting_since: Time,
    /// The kernel refused a descriptor: no dials before this.
    resting: Option<Time>,
    /// Whether a probe's verdict is wanted: the prober listens.
    wanted: watch::Sender<bool>,
    /// How things stand, for whoever shows it.
    standing: watch::Sender<Standing>,
    starts: Starts,
    /// The routes, for what they change in a head.
    config: Arc<Config>,
    /// Host for requests that have none.
    authority: String,
    pool: Arc<Pool>,
    /// When it is to look once more, as a hold ends.
    last_look: LastLook,
    look_now: Arc<Notify>,
}

/// What the prober is told.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Whether a verdict is wanted.
    pub verdict: watch::Receiver<bool>,
    /// Told when a look is wanted now, out of turn.
    pub look_now: Arc<Notify>,
}

/// What a driver is made of.
#[derive(Debug)]
pub struct Parts {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// Which backend of it.
    pub backend: usize,
    /// Where that listens: configured, or chosen.
    pub address: Address,
    /// What that leads to.
    pub names: Names,
    /// Whose word counts.
    pub source: Source,
    /// The books.
    pub registry: Arc<Registry>,
    /// The log.
    pub log: Log,
}

impl Driver {
    /// For one backend. Gives what its clients need to know of it; the receiver tells the
    /// prober when a verdict is wanted.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, front::Backend, Wants) {
        let settings = &parts.config.backends[parts.backend];
        let limits = GateLimits {
            held_max: settings.held_max,
            http_held_max: settings.http_held_max,
            dials_max: settings.dials_max,
            ..GateLimits::default()
        };
        let backend = Backend::new(parts.source);
        let (wanted, verdict) = watch::channel(backend.wants_verdict());
        let (standing, stands) = watch::channel(Standing {
            gate: Gateway::Shut,
            phase: None,
            since: clock::now(),
            usual: None,
        });
        let pool = Arc::new(Pool::default());
        let inbox = Arc::new(Inbox::default());
        let authority = parts.address.to_string();
        let look_now = Arc::new(Notify::new());
        let seen = front::Backend {
            name: settings.name.clone(),
            authority: authority.clone(),
            inbox: Arc::clone(&inbox),
            names: parts.names.clone(),
            pool: Arc::clone(&pool),
            standing: stands,
        };
        let driver = Self {
            inbox,
            launcher: Launcher::new(parts.names, Arc::clone(&parts.registry)),
            registry: parts.registry,
            log: parts.log,
            backend,
            gate: Gate::new(limits),
            clients: HashMap::new(),
            due: BTreeMap::new(),
            starting_since: clock::now(),
            resting: None,
            wanted,
            standing,
            starts: Starts::default(),
            config: parts.config,
            authority,
            pool,
            last_look: LastLook::default(),
            look_now: Arc::clone(&look_now),
        };
        (driver, seen, Wants { verdict, look_now })
    }

    /// With a last look so long before a hold ends, whatever the machine does meanwhile.
    #[cfg(test)]
    pub(crate) fn look_ahead(&mut self, ahead: std::time::Duration) {
        self.last_look = LastLook::ahead(ahead);
    }

    /// Drives the backend for ever.
    pub async fn run(mut self) {
        let mut messages = Vec::new();
        loop {
            let due = self.due_at();
            // Dials whose backend's name is being looked up wait; nothing else does.
            let dials = !self.due.is_empty() && !self.launcher.is_resolving();
            {
                // Created before looking, so that a descriptor freed in between is not missed.
                let freed = self.registry.changed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                let starved = self.gate.starved() && self.resting.is_none();
                if starved {
                    self.registry.want_descriptor();
                }
                if !(dials || starved && self.spare() > 0) {
                    tokio::select! {
                        biased;
                        () = self.inbox.told() => {}
                        () = self.launcher.wait() => {}
                        () = clock::until(due) => {}
                        () = clock::until(self.resting) => {}
                        () = freed, if starved => {}
                    }
                }
            }
            self.inbox.take(&mut messages);
            self.turn(&mut messages);
            if !self.due.is_empty() && !self.launcher.is_resolving() {
                tokio::task::yield_now().await; // those let in already get their turn between the dials
            }
        }
    }

    /// When time alone makes a turn worth while.
    fn due_at(&self) -> Option<Time> {
        let look = self
            .wants_look()
            .then(|| self.last_look.due(|after| self.gate.first_deadline(after)));
        [self.gate.poll_timeout(), look.flatten()].into_iter().flatten().min()
    }

    /// Descriptors for further dials: what is ordered and not begun has its own promised already.
    fn spare(&self) -> usize {
        self.registry.spare().saturating_sub(self.due.len())
    }

    /// Whether a good verdict would let in who waits.
    fn wants_look(&self) -> bool {
        self.backend.phase() == Phase::Starting && self.backend.wants_verdict()
    }

    fn turn(&mut self, messages: &mut Vec<Message>) {
        let now = clock::now();
        if self.resting.is_some_and(|until| now >= until) {
            self.resting = None;
        }
        if self.resting.is_none() {
            self.gate.handle(now, Input::Spare(self.spare()));
            self.carry_out(now);
        }
        for message in messages.drain(..) {
            self.take(now, message);
            self.carry_out(now);
        }
        self.gate.handle_timeout(now);
        self.carry_out(now);
        self.dial(now);
        self.give_back(messages);
        self.publish();
        if self.wants_look() && self.last_look.take(now, |after| self.gate.first_deadline(after)) {
            self.look_now.notify_one();
        }
        self.wanted.send_if_modified(|wanted| {
            let wants = self.backend.wants_verdict();
            std::mem::replace(wanted, wants) != wants
        });
    }

    /// What others may know without asking.
    fn publish(&mut self) {
        // Whoever goes past the gate must not overtake sessions that it has let in and whose heads are not
        // written. Plain requests have no order among themselves that anybody could see; where each waited for
        // those before it, a backend whose connects take time would be dialled for all of them, for ever.
        let mut unwritten = self.due.keys().copied().chain(self.launcher.unwritten());
        let is_session = |id| {
            let client = self.clients.get(&id);
            client.is_some_and(|client| matches!(*client.request, Kind::Upgrade(_)))
        };
        let is_free = self.gate.is_free() && !unwritten.any(is_session);
        self.inbox.set_free(is_free);
        let gate = Gateway::from(self.gate.stage());
        let (since, usual) = (self.starting_since, self.starts.usual());
        self.standing.send_if_modified(|standing| {
            let changed = (standing.gate, standing.since, standing.usual) != (gate, since, usual);
            (standing.gate, standing.since, standing.usual) = (gate, since, usual);
            changed
        });
    }

    /// A crowd that has gone in leaves no room kept for it.
    fn give_back(&mut self, messages: &mut Vec<Message>) {
        messages.shrink_to(ROOM_KEPT);
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to(self.clients.len().max(ROOM_KEPT));
        }
    }

    fn take(&mut self, now: Time, message: Message) {
        match message {
            Message::Arrived(id, arrived, arrival) => {
                let Arrival {
                    deadline,
                    may_wait,
                    class,
                    request,
                    route,
                    peer,
                    order,
                } = arrival;
                self.clients.insert(
                    id,
                    Client {
                        request,
                        route,
                        peer,
                        arrived,
                        order,
                        dial: (0, false),
                    },
                );
                let arrived = Input::Arrived {
                    id,
                    deadline,
                    may_wait,
                    class,
                };
                self.gate.handle(now, arrived);
            }
            Message::Left(id) => {
                if self.clients.remove(&id).is_some() {
                    self.forget(id);
                    self.gate.handle(now, Input::Left(id));
                }
            }
            Message::Answered(id, answer) => {
                if answer == Answer::NoDescriptor {
                    self.resting = Some(now + ACCEPT_REST);
                }
                self.gate.handle(now, Input::Answered(id, answer));
            }
            Message::Unreached(answer) => {
                if answer != Answer::NoDescriptor {
                    self.gate.handle(now, Input::Unreached);
                }
            }
            Message::Phase(phase) => self
                .standing
                .send_modify(|standing| standing.phase = Some(phase.into())),
            Message::LostEarly(delay) => self.gate.handle(now, Input::LostEarly(delay)),
            Message::Backend(input, by) => self.hear(now, input, by),
            Message::Drain => self.gate.handle(now, Input::Drain),
        }
    }

    /// Something about the backend's readiness.
    fn hear(&mut self, now: Time, input: backend::Input, by: &'static str) {
        let before = self.backend.phase();
        let output = self.backend.handle(input);
        if matches!(input, backend::Input::Started(_))
            || (before != Phase::Starting && self.backend.phase() == Phase::Starting)
        {
            self.starting_since = now;
            self.standing.send_modify(|standing| standing.phase = None);
            self.pool.clear();
        }
        match output {
            Some(backend::Output::Ready(trust)) => {
                let held = self.gate.held();
                self.gate.handle(now, Input::Ready(trust));
                if before != Phase::Ready {
                    let took = now.since(self.starting_since);
                    self.starts.took(took);
                    let after = took.as_secs_f64();
                    self.log.say(Event::Ready {
                        by: by.into(),
                        held,
                        after,
                    });
                }
            }
            Some(backend::Output::NotReady) => self.gate.handle(now, Input::NotReady),
            Some(backend::Output::Failed) => self.gate.handle(now, Input::Failed),
            None => {}
        }
    }

    /// Does what the gate says, until it says nothing more. Dials are only put in line.
    fn carry_out(&mut self, now: Time) {
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Dial { id, attempt, canary } => {
                    self.due.insert(id, (attempt, canary));
                }
                Output::Held(id, count) => self.log.say(Event::Held { session: id.0, count }),
                Output::Look(id) => self.order(id, |next| Order::Look { next }),
                Output::Forward(id) => {
                    if let Some(client) = self.clients.remove(&id) {
                        let _ = client.order.send(Order::Forward); // it may have left: then it is gone anyway
                    }
                }
                Output::Requeue(id, answer) => {
                    self.log.say(Event::Requeued {
                        session: id.0,
                        answer: answer.word(),
                    });
                    self.order(id, |next| Order::Requeued { next });
                }
                Output::Refuse(id, refusal) => {
                    let begun = !self.forget(id);
                    // A backend that was never reached has left nothing unanswered.
                    let refusal = match refusal {
                        Refusal::Unanswered if !begun => Refusal::HoldTimeout,
                        other => other,
                    };
                    if let Some(client) = self.clients.remove(&id) {
                        let _ = client.order.send(Order::Refuse(refusal));
                    }
                }
                Output::Changed(change) => self.changed(now, change),
            }
        }
    }

    /// Begins the next dials in line, and writes the heads whose connections are there.
    fn dial(&mut self, now: Time) {
        if !self.due.is_empty() && !self.launcher.resolve() {
            return; // whoever is to go is held until the name is looked up
        }
        for _ in 0..DIALS_PER_TURN {
            let Some((id, (attempt, canary))) = self.due.pop_first() else {
                break;
            };
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            client.dial = (attempt, canary);
            let route = &self.config.routes[client.route];
            let forward = front::forward(route, &client.request, &self.authority, client.peer, id, attempt);
            let mut head = Vec::new();
            client.request.to_backend(&forward, &mut head);
            self.launcher.begin(id, head);
            self.launch(now);
        }
        self.launch(now);
    }

    /// Writes heads as far as connections are there, in order.
    fn launch(&mut self, now: Time) {
        while let Some((id, result)) = self.launcher.advance() {
            match result {
                Ok(dialled) => self.let_in(now, id, dialled),
                Err(answer) => {
                    if answer == Answer::NoDescriptor {
                        self.resting = Some(now + ACCEPT_REST);
                    }
                    self.gate.handle(now, Input::Answered(id, answer));
                    self.recall(now);
                }
            }
            self.carry_out(now);
        }
    }

    fn let_in(&mut self, now: Time, id: SessionId, dialled: Dialled) {
        if let Some(client) = self.clients.get(&id) {
            let (attempt, canary) = client.dial;
            let held_ms = u64::try_from(now.since(client.arrived).as_millis()).unwrap_or(u64::MAX);
            self.log.say(Event::Released {
                session: id.0,
                attempt,
                held_ms,
                canary,
            });
        }
        let is_http = self
            .clients
            .get(&id)
            .is_some_and(|client| matches!(*client.request, Kind::Http(_)));
        self.order(id, |next| Order::Dialled { dialled, next });
        if is_http {
            self.gate.handle(now, Input::Answered(id, Answer::Sent));
        }
    }

    /// A dial failed, or the gate is shut: whoever stands in line behind it goes
    /// back to its place too, as no head may overtake another, nor be sent to a
    /// backend that is not ready.
    fn recall(&mut self, now: Time) {
        let behind = self.launcher.recall();
        let due = std::mem::take(&mut self.due).into_keys();
        for id in behind.into_iter().chain(due) {
            self.gate.handle(now, Input::Answered(id, Answer::Recalled));
        }
    }

    /// Takes a session out of the line. `false`: it is not there, as its head was written, or no dial ordered.
    fn forget(&mut self, id: SessionId) -> bool {
        self.due.remove(&id).is_some() | self.launcher.forget(id)
    }

    /// Tells a session that stays at the gate, and keeps the line open.
    fn order(&mut self, id: SessionId, order: impl FnOnce(oneshot::Receiver<Order>) -> Order) {
        if let Some(client) = self.clients.get_mut(&id) {
            let (sender, next) = oneshot::channel();
            let _ = std::mem::replace(&mut client.order, sender).send(order(next)); // gone: its Left is on the way
        }
    }

    fn changed(&mut self, now: Time, change: Change) {
        let why = match change {
            Change::Opened => "the backend says that it is ready",
            Change::Limited => "the backend listens; one client goes first to see whether it answers",
            Change::Proved(_) => "the first client came through",
            Change::Trusted => return,
            Change::Doubted => "READY came too early: the backend does not answer yet; one client at a time goes first",
            Change::Lagging => "a part of the backend is not ready yet; one client at a time goes first",
            Change::Shut => "the backend is not ready",
            Change::Unreachable => "the backend cannot be reached",
        };
        let gate = match self.gate.stage() {
            Stage::Open(Trial::Over | Trial::Doubt { .. } | Trial::Proving { .. }) => "open",
            Stage::Limited { .. } => "limited",
            Stage::Shut | Stage::Failed | Stage::Draining => "shut",
        };
        match change {
            Change::Unreachable => {
                self.recall(now);
                self.hear(now, backend::Input::Unreachable, "dial");
            }
            Change::Shut | Change::Doubted | Change::Lagging => self.recall(now),
            Change::Opened | Change::Limited | Change::Proved(_) | Change::Trusted => {}
        }
        self.log.say(Event::Gate {
            gate,
            why,
            held: self.gate.held(),
        });
    }
}
