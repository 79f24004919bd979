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

mod bounds;
mod change;
mod client;
mod flaps;
mod guests;
mod hand;
mod hearing;
mod inbox;
mod launching;
mod orders;
mod standing;
mod status;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greenroom_core::drain::Together;
use greenroom_core::event::{Generation, Refusal, SessionId};
use greenroom_core::gate::{Gate, Hand, Input, Output, Place};
use greenroom_core::limits::{ACCEPT_REST, CROWD_LEAST};
use greenroom_core::look::LastLook;
use greenroom_core::phase::Reason;
use greenroom_core::readiness::{Needs, Plan, Readiness};
use greenroom_core::session::Answer;
use greenroom_core::starts::Starts;
use greenroom_core::time::Time;
use tokio::sync::{Notify, watch};

pub use client::Client;
pub use hand::{HandStatus, SetBy};
pub(crate) use inbox::RELAY;
pub use inbox::{Arrival, Inbox, Message};
pub use orders::Order;
pub(crate) use orders::{Orders, line};
pub use standing::{Degraded, Gateway, LastVerdict, Standing};
pub use status::{CheckStatus, HeldStatus, Measured, PhaseStatus, StartsStatus, Status};
pub use tally::{Tally, WaitEnd};

use flaps::Flaps;
use guests::{Room, Telling};
use tally::Stay;

use crate::clock;
use crate::config::{self, Address, Config};
use crate::dial::Launcher;
use crate::front;
use crate::head::Kind;
use crate::http::Pool;
use crate::memory::Crowd;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::telemetry::{Event, Log};

/// Entries for which room is kept when nobody needs it.
const ROOM_KEPT: usize = 64;

/// See the module's head.
#[derive(Debug)]
pub struct Driver {
    inbox: Arc<Inbox>,
    registry: Arc<Registry>,
    log: Log,
    tally: Tally,
    readiness: Readiness,
    /// The last verdict of each check.
    verdicts: Box<[Option<LastVerdict>]>,
    /// How often each check has changed of late.
    flaps: Box<[Flaps]>,
    /// Why the backend's own probe does not find it ready.
    unready: Option<String>,
    /// Relays that were lost and not told of yet, and when they are.
    lost: (usize, Option<Time>),
    /// Those who are refused in this turn.
    sent_away: Vec<(Box<Client>, Refusal)>,
    /// How many are refused at about the same time.
    together: Together,
    room: Room,
    /// When accepted clients hear again how long they will wait, and what they heard last.
    waiting: Telling,
    /// It is ready: whoever has no wish of their own is let in.
    is_whole: bool,
    /// It was seen away in its present start.
    was_seen_away: bool,
    gate: Gate,
    /// Who has set the gate by hand, and the hand that was told last.
    by_hand: Option<hand::Set>,
    hand_told: Hand,
    wishes: hand::Wishes,
    /// Who has its place now.
    heir: Option<Arc<Inbox>>,
    launcher: Launcher,
    /// Each by itself: a table that holds them has room for half as many again.
    clients: HashMap<SessionId, Box<Client>>,
    /// How many of them there were, so that their memory is given back when they have gone in.
    crowd: Crowd,
    /// Dials that the gate has ordered and that are not begun, in order: which dial, and whether it is a canary.
    due: BTreeMap<Place, (u32, bool)>,
    /// Since when nobody may be let in, and since when somebody may.
    away_since: Time,
    ready_since: Time,
    /// The backend starts, rather than lacks something for a while.
    is_start: bool,
    /// The user knows that the backend reports phases which are not its own.
    strange_phase_told: bool,
    /// The life of the process that is to be ended, as its start has failed.
    end: watch::Sender<Option<EndLife>>,
    /// The kernel refused a descriptor: no dials before this.
    resting: Option<Time>,
    /// Whether a probe's verdict is wanted: the prober listens.
    wanted: watch::Sender<bool>,
    /// How things stand, for whoever shows it.
    standing: watch::Sender<Standing>,
    /// What its starts took.
    starts: watch::Sender<Starts>,
    /// The routes, for what they change in a head.
    config: Arc<Config>,
    /// Host for requests that have none.
    authority: String,
    pool: Arc<Pool>,
    /// When it is to look once more, as a hold ends.
    last_look: LastLook,
    look_now: Arc<Notify>,
    /// The same for each check.
    check_now: Arc<[Notify]>,
    index: usize,
    /// Nobody is with the backend any more.
    is_over: bool,
}

/// What prober and child are told, and who keeps the start-up times.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Whether a verdict is wanted.
    pub verdict: watch::Receiver<bool>,
    /// Told when a look is wanted now, out of turn.
    pub look_now: Arc<Notify>,
    /// The same for each check.
    pub check_now: Arc<[Notify]>,
    /// The life of the process that is to be ended.
    pub end: watch::Receiver<Option<EndLife>>,
    /// What its starts took until now.
    pub learned: watch::Receiver<Starts>,
}

/// A life of a process that has failed, and is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndLife {
    /// Which life.
    pub generation: Generation,
    /// Why.
    pub reason: Reason,
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
    /// How its readiness is judged.
    pub plan: Plan,
    /// What its starts took until now.
    pub starts: Starts,
    /// The books.
    pub registry: Arc<Registry>,
    /// The log.
    pub log: Log,
}

impl Parts {
    /// The backend, as its clients see it.
    fn seen(&self, inbox: &Arc<Inbox>, pool: &Arc<Pool>, standing: watch::Receiver<Standing>) -> front::Backend {
        front::Backend {
            name: self.config.backends[self.backend].name.clone(),
            label: self.log.label(),
            authority: self.address.to_string(),
            inbox: Arc::clone(inbox),
            names: self.names.clone(),
            pool: Arc::clone(pool),
            standing,
            learned: Default::default(),
            visitors: Arc::default(),
            early: self.registry.early.part(),
        }
    }
}

impl Driver {
    /// For one backend. Gives what its clients need to know of it; the receiver tells the
    /// prober when a verdict is wanted.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, front::Backend, Wants) {
        let settings = &parts.config.backends[parts.backend];
        let (standing, stands) = watch::channel(Standing::new(clock::now(), parts.starts.usual()));
        let (pool, inbox) = (Arc::new(Pool::default()), Arc::new(Inbox::default()));
        let seen = parts.seen(&inbox, &pool, stands);
        let readiness = Readiness::new(parts.plan, clock::now());
        let (wanted, verdict) = watch::channel(readiness.wants_verdict());
        let (end, ends) = watch::channel(None);
        let (starts, learned) = watch::channel(parts.starts);
        let wants = Wants {
            verdict,
            look_now: Arc::default(),
            check_now: settings.checks.iter().map(|_| Notify::new()).collect(),
            end: ends,
            learned,
        };
        let crowd = Crowd::new(CROWD_LEAST, &parts.registry.crowd_gone);
        let mut driver = Self {
            inbox,
            launcher: Launcher::new(parts.names, Arc::clone(&parts.registry)),
            registry: parts.registry,
            log: parts.log,
            tally: Tally::new(),
            verdicts: vec![None; settings.checks.len()].into(),
            flaps: vec![Flaps::default(); settings.checks.len()].into(),
            unready: None,
            lost: (0, None),
            sent_away: Vec::new(),
            together: Together::default(),
            room: Room::new(),
            waiting: Telling::default(),
            readiness,
            is_whole: false,
            was_seen_away: false,
            gate: Gate::new(bounds::of(settings), clock::now()),
            by_hand: None,
            hand_told: Hand::Auto,
            wishes: hand::Wishes::default(),
            heir: None,
            clients: HashMap::new(),
            crowd,
            due: BTreeMap::new(),
            away_since: clock::now(),
            ready_since: Time::ZERO,
            is_start: true,
            strange_phase_told: false,
            end,
            resting: None,
            wanted,
            standing,
            starts,
            config: parts.config,
            authority: parts.address.to_string(),
            pool,
            last_look: LastLook::default(),
            look_now: Arc::clone(&wants.look_now),
            check_now: Arc::clone(&wants.check_now),
            index: parts.backend,
            is_over: false,
        };
        driver.show_degraded(); // what is not known yet is missing
        (driver, seen, wants)
    }

    /// With a last look so long before a hold ends, whatever the machine does meanwhile.
    #[cfg(test)]
    pub(crate) fn look_ahead(&mut self, ahead: std::time::Duration) {
        self.last_look = LastLook::ahead(ahead);
    }

    /// Drives the backend, until nobody is with it and nobody will be.
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
            if self.is_over {
                self.pool.clear();
                return self.inbox.shut(self.heir.as_ref());
            }
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
        [
            self.gate.poll_timeout(),
            self.readiness.poll_timeout(),
            look.flatten(),
            self.lost.1,
            self.waiting.due(),
            self.room.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Descriptors for further dials: what is ordered and not begun has its own promised already.
    fn spare(&self) -> usize {
        self.registry.spare().saturating_sub(self.due.len())
    }

    /// Whether a good verdict would let in who waits.
    fn wants_look(&self) -> bool {
        self.misses_signal() || self.misses_check()
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
        self.tell_room(now);
        for message in messages.drain(..) {
            self.take(now, message);
            self.carry_out(now);
        }
        self.tell_lost(now);
        self.tell_waiting(now);
        self.hear_timeout(now);
        self.gate.handle_timeout(now);
        self.tell_hand();
        self.carry_out(now);
        self.dial(now);
        self.send_away(now);
        self.give_back(messages);
        self.publish();
        if self.wants_look() && self.last_look.take(now, |after| self.gate.first_deadline(after)) {
            self.look_once_more();
        }
        self.wanted.send_if_modified(|wanted| {
            let wants = self.readiness.wants_verdict();
            std::mem::replace(wanted, wants) != wants
        });
    }

    /// What others may know without asking.
    fn publish(&mut self) {
        // Whoever goes past the gate must not overtake sessions that it has let in and whose heads are not
        // written. Plain requests have no order among themselves that anybody could see; where each waited for
        // those before it, a backend whose connects take time would be dialled for all of them, for ever.
        let mut unwritten = self.due.keys().map(|place| place.id).chain(self.launcher.unwritten());
        let is_session = |id| {
            let client = self.clients.get(&id);
            client.is_some_and(|client| matches!(*client.request, Kind::Upgrade(_)))
        };
        let is_blocked = unwritten.any(is_session);
        self.inbox
            .set_free(if is_blocked { Needs::default() } else { self.gate.free() });
        let (gate, met) = self.lets_in();
        let now = (gate, met, self.away_since, self.starts.borrow().usual());
        self.standing.send_if_modified(|standing| {
            let changed = (standing.gate, standing.met, standing.since, standing.usual) != now;
            (standing.gate, standing.met, standing.since, standing.usual) = now;
            changed
        });
    }

    /// Where the gate stands, and for whose needs it is open or limited.
    fn lets_in(&self) -> (Gateway, Needs) {
        let gate = Gateway::from(self.gate.stage());
        let met = match gate {
            Gateway::Open | Gateway::Limited => self.gate.met(),
            Gateway::Shut | Gateway::Failed | Gateway::Refusing | Gateway::Draining => Needs::default(),
        };
        (gate, met)
    }

    /// A crowd that has gone in leaves no room kept for it, nor memory of what it took to hold it.
    fn give_back(&mut self, messages: &mut Vec<Message>) {
        self.crowd.grows(self.clients.len());
        self.crowd.shrinks(self.clients.len());
        messages.shrink_to(ROOM_KEPT);
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to(self.clients.len().max(ROOM_KEPT));
        }
    }

    fn take(&mut self, now: Time, message: Message) {
        match message {
            Message::Arrived(id, arrived, arrival) => self.arrived(now, id, arrived, arrival),
            Message::Left(id) => {
                if let Some(client) = self.clients.remove(&id) {
                    self.tally.over(client.stay, client.arrived, now, WaitEnd::Left);
                    self.forget(id, client.place);
                    self.gate.handle(now, Input::Left(id));
                }
            }
            Message::Answered(id, answer) => {
                if answer == Answer::NoDescriptor {
                    self.resting = Some(now + ACCEPT_REST);
                }
                self.answered(now, id, answer);
            }
            Message::Unreached(answer) => {
                if answer != Answer::NoDescriptor {
                    self.gate.handle(now, Input::Unreached);
                }
            }
            Message::DroppedPast(id) => self.gate.handle(now, Input::DroppedPast(id)),
            Message::Said(words) => self.hear_words(&words),
            Message::Unready(reason) => self.unready = reason,
            Message::Checked(input, verdict) => self.hear_check(now, input, verdict),
            Message::Ask(answer) => {
                let _ = answer.send(self.status().into()); // whoever asked may have gone
            }
            Message::Measure(answer) => drop(answer.send(self.measured().into())),
            Message::LostEarly(delay) => self.gate.handle(now, Input::LostEarly(delay)),
            Message::Backend(input, by) => {
                if by == RELAY {
                    self.loses(now);
                }
                self.hear(now, input, by);
            }
            Message::Bequeath(heir, done) => {
                self.bequeath(heir);
                let _ = done.send(()); // whoever reloads may have gone
            }
            Message::Inherit(inherited) => self.inherit(now, inherited),
            Message::CaresFor(connection, answer) => {
                let mut all = self.clients.values();
                let _ = answer.send(all.any(|client| client.record.number == connection)); // as above
            }
            Message::Hand { hand, until, by } => self.hear_hand(now, hand, until, by),
            Message::Adopt(config, index) => self.adopt(now, config, index),
            Message::End => self.is_over = true,
            Message::Drain => self.gate.handle(now, Input::Drain),
        }
    }

    fn settings(&self) -> &config::Backend {
        &self.config.backends[self.index]
    }

    /// Does what the gate says, until it says nothing more. Dials are only put in line.
    fn carry_out(&mut self, now: Time) {
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Dial { id, attempt, canary } => {
                    let place = self.gate.place(id);
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.place = Some(place);
                        Tally::ordered(&mut client.stay);
                    }
                    self.due.insert(place, (attempt, canary));
                }
                Output::Held(id, count) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.waited = true;
                        self.log.say(Event::Held {
                            connection: client.record.number,
                            session: id.0,
                            count,
                        });
                    }
                    self.tally.holds += 1;
                }
                Output::Accept(id) => self.accept(id),
                Output::Look(id) => self.order(id, Order::Look),
                Output::Forward(id) => {
                    if let Some(client) = self.clients.remove(&id) {
                        self.tally.over(client.stay, client.arrived, now, WaitEnd::LetIn);
                        client.orders.tell(Order::Forward);
                    }
                }
                Output::Requeue(id, answer) => {
                    self.tally.requeued(answer);
                    let place = self.clients.get_mut(&id).and_then(|client| {
                        self.tally.answered(&mut client.stay, answer); // the gate may have given the dial up by itself
                        self.log.say(Event::Requeued {
                            connection: client.record.number,
                            session: id.0,
                            answer: answer.word(),
                        });
                        client.waited = true;
                        client.place
                    });
                    if answer == Answer::GivenUp {
                        self.forget(id, place); // its head may not be written yet
                    }
                    self.order(id, Order::Requeued);
                }
                Output::Refuse(id, refusal) => {
                    let client = self.clients.remove(&id);
                    let begun = !self.forget(id, client.as_ref().and_then(|client| client.place));
                    // A backend that was never reached has left nothing unanswered.
                    let refusal = match refusal {
                        Refusal::Unanswered if !begun => Refusal::HoldTimeout,
                        other => other,
                    };
                    if let Some(client) = &client {
                        self.tally.over(client.stay, client.arrived, now, WaitEnd::Refused);
                    }
                    self.sent_away.extend(client.map(|client| (client, refusal)));
                }
                Output::Changed(change) => self.changed(now, change),
            }
        }
    }

    /// Tells a session that stays at the gate.
    fn order(&self, id: SessionId, order: Order) {
        if let Some(client) = self.clients.get(&id) {
            client.orders.tell(order);
        }
    }
}

#[cfg(test)]
mod tests;
