//! What the owner task of a backend is told: one queue, in order.
//!
//! A session's sequence number is drawn under the same lock as its message is
//! put in, so the owner meets arrivals in the order of their numbers, and a
//! ready signal takes its place between them. The lock is held for a push or a
//! swap, never across an await.
//!
//! Bounded by the connections: each has at most four messages on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use greenroom_core::backend;
use greenroom_core::event::{Refusal, SessionId};
use greenroom_core::gate::Class;
use greenroom_core::readiness::{Input, Needs};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;
use tokio::sync::{Notify, oneshot};

use super::standing::LastVerdict;
use super::status::Status;
use crate::dial::Dialled;
use crate::head::Kind;

/// What a session is told by the gate. Where it stays at the gate, it is given
/// the ear for the next word.
#[derive(Debug)]
pub enum Order {
    /// Let in: its head is written. Wait for the answer, and tell it.
    Dialled {
        /// The connection.
        dialled: Dialled,
        /// The next word.
        next: oneshot::Receiver<Order>,
    },
    /// The 101 has settled: look once more at the connection, and tell what lies there.
    Look {
        /// The next word.
        next: oneshot::Receiver<Order>,
    },
    /// Give the client what the backend said.
    Forward,
    /// Drop the backend connection and wait again.
    Requeued {
        /// The next word.
        next: oneshot::Receiver<Order>,
    },
    /// Send the client away.
    Refuse(Refusal),
}

/// A client at the gate, as it arrives.
#[derive(Debug)]
pub struct Arrival {
    /// When its hold is over.
    pub deadline: Time,
    /// Whether it may wait at all.
    pub may_wait: bool,
    /// What it is, for the gate.
    pub class: Class,
    /// Its request.
    pub request: Arc<Kind>,
    /// Its route.
    pub route: usize,
    /// Its address.
    pub peer: std::net::IpAddr,
    /// Where to tell it.
    pub order: oneshot::Sender<Order>,
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
    /// What the backend says of its start-up in its own words.
    Said(String),
    /// What a check found.
    Checked(Input, LastVerdict),
    /// How do things stand?
    Ask(oneshot::Sender<Box<Status>>),
    /// A relay was lost by its backend within `settle` after its beginning: so long after the backend's 101.
    LostEarly(Duration),
    /// Something about the backend's readiness, and what told it.
    Backend(Input, &'static str),
    /// greenroom stops.
    Drain,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    messages: Vec<Message>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
    told: Notify,
    /// See [`Inbox::is_free`].
    free: AtomicU64,
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
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.last += 1;
            let id = SessionId(queue.last);
            queue.messages.push(Message::Arrived(id, now, arrival));
            id
        };
        self.told.notify_one();
        id
    }

    /// A sequence number for a request that goes past the gate.
    pub(crate) fn draw(&self) -> SessionId {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.last += 1;
        SessionId(queue.last)
    }

    /// Whether the gate is open and sure for this need, and nobody is in line: then a plain request may go past it.
    pub(crate) fn is_free(&self, need: usize) -> bool {
        Needs(self.free.load(Ordering::Acquire)).has(need)
    }

    pub(super) fn set_free(&self, free: Needs) {
        self.free.store(free.0, Ordering::Release);
    }

    /// How things stand; `None` when the owner task is gone.
    pub async fn status(&self) -> Option<Box<Status>> {
        let (answer, status) = oneshot::channel();
        self.tell(Message::Ask(answer));
        status.await.ok()
    }

    /// Any other message.
    pub fn tell(&self, message: Message) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .messages
            .push(message);
        self.told.notify_one();
    }

    /// Takes all that was told, into an empty `into`.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(
            &mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).messages,
            into,
        );
    }

    /// Waits until something was told.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}
