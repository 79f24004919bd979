//! What the owner task of a backend is told: one queue, in order.
//!
//! A session's sequence number is drawn under the same lock as its message is
//! put in, so the owner meets arrivals in the order of their numbers, and a
//! ready signal takes its place between them. The lock is held for a push or a
//! swap, never across an await.
//!
//! Bounded by the connections: each has at most four messages on the way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_core::backend;
use greenroom_core::event::SessionId;
use greenroom_core::gate::{Class, Hand, Who};
use greenroom_core::readiness::{Input, Needs};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;
use tokio::sync::{Notify, oneshot};

use super::client::Client;
use super::hand::{Inherited, SetBy};
use super::standing::LastVerdict;
use super::status::{Measured, Status};
use crate::config::Config;

/// Who tells that a relay was lost.
pub(crate) const RELAY: &str = "relay";

/// A client at the gate, as it arrives.
#[derive(Debug)]
pub struct Arrival {
    /// When its hold is over.
    pub deadline: Time,
    /// Whether it may wait at all.
    pub may_wait: bool,
    /// What it is, for the gate.
    pub class: Class,
    /// Who it is, for the gate.
    pub who: Who,
    /// The rest of it.
    pub client: Box<Client>,
}

/// One message to the owner task.
#[derive(Debug)]
pub enum Message {
    /// A client's head is complete.
    Arrived(SessionId, Time, Arrival),
    /// A session left the gate's care.
    Left(SessionId),
    /// What became of its dial.
    Answered(SessionId, Answer),
    /// A plain request that went past the open gate did not reach the backend.
    Unreached(Answer),
    /// This one, which has just arrived, went past the open gate before, and the backend dropped it without an answer.
    DroppedPast(SessionId),
    /// What the backend says of its start-up in its own words.
    Said(String),
    /// What was seen last of a backend that is not ready, in words; `None`: nothing that is bad.
    Unready(Option<String>),
    /// What a check found.
    Checked(Input, LastVerdict),
    /// How do things stand?
    Ask(oneshot::Sender<Box<Status>>),
    /// The same, and what was counted?
    Measure(oneshot::Sender<Box<Measured>>),
    /// A relay was lost by its backend within `settle` after its beginning: so long after the backend's 101.
    LostEarly(Duration),
    /// Something about the backend's readiness, and what told it.
    Backend(Input, &'static str),
    /// Another backend takes its place, under its name: what is set by hand goes over to that one now, and what is said of
    /// it later too. Told when that is done.
    Bequeath(Arc<Inbox>, oneshot::Sender<()>),
    /// What was set by hand at the backend whose place this one takes.
    Inherit(Inherited),
    /// Who of these is in the gate's care, by the numbers of their connections?
    CaresFor(u64, oneshot::Sender<bool>),
    /// The gate is set by hand, or the hand is taken back.
    Hand {
        /// What it is to do.
        hand: Hand,
        /// Until when.
        until: Option<Time>,
        /// Who says so.
        by: SetBy,
    },
    /// Go by another configuration, in which it is this backend: it stays, and its bounds may be others.
    Adopt(Arc<Config>, usize),
    /// Nobody is with this backend any more, and nobody will be: the owner task ends.
    End,
    /// greenroom stops.
    Drain,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    messages: Vec<Message>,
    /// Somebody among the messages has just arrived for a WebSocket.
    arriving: bool,
    /// The owner task has ended: nothing is kept for it.
    is_shut: bool,
    /// Who hears then what is set by hand.
    heir: Option<Arc<Inbox>>,
    /// As the owner task saw it at the end of its last turn, while nobody has arrived for a
    /// WebSocket since: for whom the gate is open and sure.
    free: Needs,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
    told: Notify,
}

impl Message {
    /// Something about the backend's own signal, or its process.
    #[must_use]
    pub fn signal(input: backend::Input, by: &'static str) -> Self {
        Self::Backend(Input::Backend(input), by)
    }

    /// A connection was lost without a word: the backend may be gone.
    pub(crate) fn lost() -> Self {
        Self::signal(backend::Input::RelayLost, "dial")
    }
}

impl Inbox {
    /// A client arrives: draws its sequence number.
    pub fn arrive(&self, now: Time, arrival: Arrival) -> SessionId {
        let id = {
            let mut queue = self.queue();
            queue.last += 1;
            // Not for a plain request: see `Driver::publish`.
            if arrival.class == Class::WebSocket {
                queue.arriving = true;
                queue.free = Needs::default();
            }
            let id = SessionId(queue.last);
            if !queue.is_shut {
                queue.messages.push(Message::Arrived(id, now, arrival));
            }
            id
        };
        self.told.notify_one();
        id
    }

    /// A sequence number for a request that goes past the gate whatever it says.
    pub(crate) fn draw(&self) -> SessionId {
        let mut queue = self.queue();
        queue.last += 1;
        SessionId(queue.last)
    }

    /// A sequence number for a plain request with this need that may go past the gate: it is open and sure for
    /// it, and nobody is in line, nor has arrived for a WebSocket without the owner task knowing of it yet. Else
    /// it has to arrive too.
    pub(crate) fn draw_past(&self, need: usize) -> Option<SessionId> {
        let mut queue = self.queue();
        queue.free.has(need).then(|| {
            queue.last += 1;
            SessionId(queue.last)
        })
    }

    /// For whom the gate is open and sure, while nobody of whom it knows is in line.
    pub(super) fn set_free(&self, free: Needs) {
        let mut queue = self.queue();
        queue.free = if queue.arriving || queue.is_shut {
            Needs::default()
        } else {
            free
        };
    }

    /// Whether a plain request may go past the gate.
    #[cfg(test)]
    pub(crate) fn is_free(&self, need: usize) -> bool {
        self.queue().free.has(need)
    }

    /// How things stand; `None` when the owner task is gone.
    pub async fn status(&self) -> Option<Box<Status>> {
        let (answer, status) = oneshot::channel();
        self.tell(Message::Ask(answer));
        status.await.ok()
    }

    /// How things stand, and what was counted until then; `None` when the owner task is gone.
    pub(crate) async fn measured(&self) -> Option<Box<Measured>> {
        let (answer, measured) = oneshot::channel();
        self.tell(Message::Measure(answer));
        measured.await.ok()
    }

    /// Whether this connection is in the care of its gate.
    pub(crate) async fn cares_for(&self, connection: u64) -> bool {
        let (answer, cares) = oneshot::channel();
        self.tell(Message::CaresFor(connection, answer));
        cares.await.unwrap_or(false)
    }

    /// This one takes its place, under its name. Ends when it has heard what is set by hand.
    pub(crate) async fn bequeath(&self, heir: &Arc<Inbox>) {
        let (done, is_done) = oneshot::channel();
        self.tell(Message::Bequeath(Arc::clone(heir), done));
        let _ = is_done.await; // the owner task is gone: nothing is set
    }

    /// Any other message.
    pub fn tell(&self, message: Message) {
        let mut queue = self.queue();
        if !queue.is_shut {
            queue.messages.push(message);
            drop(queue);
            return self.told.notify_one();
        }
        let heir = queue.heir.clone();
        drop(queue);
        pass_on(heir.as_deref(), vec![message]);
    }

    /// The owner task ends. Who waits for an answer of it hears that there is none.
    pub(super) fn shut(&self, heir: Option<&Arc<Self>>) {
        let mut queue = self.queue();
        queue.is_shut = true;
        queue.heir = heir.cloned();
        queue.free = Needs::default();
        let unheard = std::mem::take(&mut queue.messages);
        drop(queue);
        pass_on(heir.map(|heir| &**heir), unheard);
    }

    /// Takes all that was told, into an empty `into`.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        let mut queue = self.queue();
        queue.arriving = false;
        std::mem::swap(&mut queue.messages, into);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was told.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

/// What is set by hand is for whoever has its place now: a drain may know only the backend that it began with.
fn pass_on(heir: Option<&Inbox>, unheard: Vec<Message>) {
    let is_hand = |message: &Message| matches!(message, Message::Hand { .. });
    for message in unheard.into_iter().filter(is_hand) {
        if let Some(heir) = heir {
            heir.tell(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_core::gate::Accept;

    use super::*;
    use crate::config::RouteOf;
    use crate::driver::line;
    use crate::head::parse_head;
    use crate::registry::Registry;
    use crate::telemetry::{Format, Log};

    fn config() -> Arc<crate::config::Config> {
        let layers = crate::config::Layers {
            file: None,
            variables: Vec::new(),
            flags: crate::config::Flags::default(),
            purpose: crate::config::Purpose::Serve,
        };
        let text = b"[backend.app]\naddress = \"127.0.0.1:1\"\n".to_vec();
        Arc::new(crate::config::load_bytes("test.toml", text, &layers).unwrap().config)
    }

    fn arrival() -> Arrival {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let registry = Registry::new(Log::start(Format::Json), 64, &config().limits);
        let entry = registry.accept([127, 0, 0, 1].into()).unwrap();
        let request = Arc::new(parse_head(head).unwrap());
        let route = RouteOf::new(&config(), 0);
        Arrival {
            deadline: Time::NEVER,
            may_wait: true,
            class: Class::WebSocket,
            who: Who::default(),
            client: Client::new(entry.record(), &request, route, Accept::Never, line().0),
        }
    }

    #[test]
    fn nobody_goes_past_one_who_has_arrived_and_of_whom_the_owner_task_has_not_heard() {
        let inbox = Inbox::default();
        inbox.set_free(Needs::ALL);
        assert_eq!(inbox.draw_past(0), Some(SessionId(1)));
        inbox.arrive(Time::ZERO, arrival());
        assert_eq!(inbox.draw_past(0), None);

        // The owner task says how its last turn ended, which that one was no part of.
        inbox.set_free(Needs::ALL);
        assert_eq!(inbox.draw_past(0), None);

        inbox.take(&mut Vec::new());
        assert_eq!(inbox.draw_past(0), None, "it is on its way");
        inbox.set_free(Needs::ALL);
        assert_eq!(inbox.draw_past(0), Some(SessionId(3)));
        inbox.tell(Message::Drain);
        assert_eq!(inbox.draw_past(0), Some(SessionId(4)), "that is nobody");
        let class = Class::Http { is_safe: true };
        inbox.arrive(Time::ZERO, Arrival { class, ..arrival() });
        assert!(
            inbox.draw_past(0).is_some(),
            "plain requests have no order of their own"
        );
    }
}
