//! The wait at the gate, and what the orders of the owner task mean to the client.
//!
//! The client is watched all the while: a FIN or a reset before the 101 counts as
//! leaving, also behind bytes that nobody has read, and frees its place at once.

use std::net::IpAddr;
use std::sync::Arc;

use greenroom_core::drain::{retry_after, seed_for};
use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::limits::RETRY_AFTER_SECONDS;
use greenroom_core::session::Answer;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::answer::{self, Outcome, Received};
use super::{Front, Switched101, refuse};
use crate::clock;
use crate::driver::{Arrival, Inbox, Message, Order};
use crate::head::Upgrade;
use crate::registry::Entry;

/// A session in the gate's care. Dropped before its time, it says that it left.
#[derive(Debug)]
pub(super) struct Place {
    inbox: Arc<Inbox>,
    pub(super) id: SessionId,
    settled: bool,
}

impl Place {
    #[cfg(test)]
    pub(super) fn of(inbox: &Arc<Inbox>) -> Self {
        let settled = true; // nobody waits for it to leave
        Self {
            inbox: Arc::clone(inbox),
            id: SessionId(1),
            settled,
        }
    }

    pub(super) fn tell(&self, message: Message) {
        self.inbox.tell(message);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.settled {
            self.inbox.tell(Message::Left(self.id));
        }
    }
}

/// How the wait ended.
enum Done {
    /// The client may have what the backend said.
    Answered(Received),
    /// It is sent away.
    Refused(Refusal),
    /// It left.
    Left,
}

/// A client at the gate.
struct Waiting {
    place: Place,
    watched: Watched,
    upgrade: Arc<Upgrade>,
    /// Where the gate's next word comes.
    next: oneshot::Receiver<Order>,
}

/// Waits at the gate until the client may be relayed. `None`: it was refused,
/// answered otherwise, or left; all is done. It arrives when this is called, not
/// when it is first polled.
pub(super) fn wait<'a>(
    front: &'a Front,
    client: TcpStream,
    peer: IpAddr,
    upgrade: Arc<Upgrade>,
    entry: &'a mut Entry,
) -> impl Future<Output = Option<(TcpStream, Switched101)>> + use<'a> {
    let (order, next) = oneshot::channel();
    let now = clock::now();
    let deadline = now + front.hold_timeout;
    let arrival = Arrival {
        deadline,
        may_wait: front.may_wait,
        upgrade: Arc::clone(&upgrade),
        peer,
        order,
    };
    let id = front.inbox.arrive(now, arrival);
    entry.set_session(id);
    let place = Place {
        inbox: Arc::clone(&front.inbox),
        id,
        settled: false,
    };
    let watched = Watched {
        client,
        disarmed: false,
    };
    let waiting = Waiting {
        place,
        watched,
        upgrade,
        next,
    };
    Box::pin(finish(front, Box::new(waiting), entry))
}

async fn finish(front: &Front, mut waiting: Box<Waiting>, entry: &mut Entry) -> Option<(TcpStream, Switched101)> {
    let done = waiting.done(entry).await;
    if matches!(done, Done::Left) {
        entry.ends(CloseCause::LeftHeld);
        return None;
    }
    waiting.place.settled = true; // the gate has let go of it by itself
    let id = waiting.place.id;
    let Some(client) = waiting.watched.into_inner() else {
        entry.ends(CloseCause::ClientLost);
        return None;
    };
    match done {
        Done::Answered(received) => Box::pin(answer::pass_on(client, received, entry)).await,
        Done::Refused(refusal) => {
            entry.refused(refusal, None);
            entry.enter(State::Closing);
            let after = retry_after(seed_for(front.seed, id.0), RETRY_AFTER_SECONDS);
            Box::pin(refuse::plain(client, refusal, Some(after))).await;
            None
        }
        Done::Left => None,
    }
}

impl Waiting {
    /// Follows the gate's orders until one of them is the last.
    async fn done(&mut self, entry: &mut Entry) -> Done {
        loop {
            let order = tokio::select! {
                biased;
                order = &mut self.next => order,
                () = self.watched.gone() => return Done::Left,
            };
            match order {
                Ok(Order::Dialled { dialled, next }) => {
                    entry.enter(State::Dialing);
                    let receive = answer::receive(&self.place, &mut self.watched, &self.upgrade, dialled, next);
                    match Box::pin(receive).await {
                        Outcome::Forward(received) => return Done::Answered(received),
                        Outcome::Requeued(next) => {
                            entry.enter(State::Held);
                            self.next = next;
                        }
                        Outcome::Refused(refusal) => return Done::Refused(refusal),
                        Outcome::Left => return Done::Left,
                    }
                }
                Ok(Order::Requeued { next }) => self.next = next, // its dial failed before it heard of it
                // Never without a 101; the gate would wait for the answer.
                Ok(Order::Look { next }) => {
                    self.next = next;
                    self.place.tell(Message::Answered(self.place.id, Answer::LostEarly));
                }
                Ok(Order::Refuse(refusal)) => return Done::Refused(refusal),
                // The gate passes on what the backend said, and it said nothing: it dropped this request each time.
                Ok(Order::Forward) => return Done::Refused(Refusal::BadAnswer),
                Err(_) => return Done::Refused(Refusal::Draining), // the owner task is gone: greenroom ends
            }
        }
    }
}

/// A client whose leaving is watched while its bytes stay unread.
#[derive(Debug)]
pub(super) struct Watched {
    client: TcpStream,
    /// Its readable edge was used up to watch for its end: it must be armed again before it is read.
    disarmed: bool,
}

impl Watched {
    /// Waits until the client has ended its side, or was reset.
    pub(super) async fn gone(&mut self) {
        loop {
            match self.client.ready(Interest::READABLE).await {
                Ok(ready) if ready.is_read_closed() || ready.is_error() => return,
                Ok(_) => {
                    // Bytes, or nothing since the head was taken. They stay where they are; the next edge is what matters.
                    let _ = self.client.try_io(Interest::READABLE, || -> std::io::Result<()> {
                        self.disarmed |= super::peek(&self.client, &mut [0])? > 0;
                        Err(std::io::ErrorKind::WouldBlock.into())
                    });
                }
                Err(_) => return,
            }
        }
    }

    /// The socket, fit to be read: registered again if its edge was used up.
    fn into_inner(self) -> Option<TcpStream> {
        if !self.disarmed {
            return Some(self.client);
        }
        self.client.into_std().and_then(TcpStream::from_std).ok()
    }
}
