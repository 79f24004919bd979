//! The wait at the gate, and what the orders of the owner task mean to the client.
//!
//! The client is watched all the while: a FIN or a reset before the 101 counts as
//! leaving, also behind bytes that nobody has read, and frees its place at once.

use std::net::IpAddr;
use std::sync::Arc;

use greenroom_core::drain::{retry_after, seed_for};
use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::limits::RETRY_AFTER_SECONDS;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::answer::{self, Outcome};
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
    pub(super) fn tell(&self, message: Message) {
        self.inbox.tell(message);
    }

    /// The gate has let go of it by itself.
    fn settle(&mut self) {
        self.settled = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.settled {
            self.inbox.tell(Message::Left(self.id));
        }
    }
}

/// Waits at the gate until the client may be relayed. `None`: it was refused,
/// answered otherwise, or left; all is done.
pub(super) async fn wait(
    front: &Front,
    client: TcpStream,
    peer: IpAddr,
    upgrade: Arc<Upgrade>,
    entry: &mut Entry,
) -> Option<(TcpStream, Switched101)> {
    let (order, mut next) = oneshot::channel();
    let now = clock::now();
    let arrival = Arrival {
        deadline: now + front.hold_timeout,
        may_wait: front.may_wait,
        upgrade: Arc::clone(&upgrade),
        peer,
        order,
    };
    let id = front.inbox.arrive(now, arrival);
    entry.set_session(id);
    let mut place = Place {
        inbox: Arc::clone(&front.inbox),
        id,
        settled: false,
    };
    let mut watched = Watched {
        client,
        disarmed: false,
    };
    loop {
        let order = tokio::select! {
            biased;
            order = &mut next => order,
            () = watched.gone() => {
                entry.ends(CloseCause::LeftHeld);
                return None;
            }
        };
        match order {
            Ok(Order::Dialled { dialled, next: after }) => {
                entry.enter(State::Dialing);
                match answer::receive(&place, &mut watched, &upgrade, dialled, after).await {
                    Outcome::Forward(answer) => {
                        place.settle();
                        let client = watched.into_inner()?;
                        return answer::pass_on(front, client, answer, entry).await;
                    }
                    Outcome::Requeued(after) => {
                        entry.enter(State::Held);
                        next = after;
                    }
                    Outcome::Refused(refusal) => {
                        place.settle();
                        return say_no(front, watched, refusal, id, entry).await;
                    }
                    Outcome::Left => {
                        entry.ends(CloseCause::LeftHeld);
                        return None;
                    }
                }
            }
            Ok(Order::Refuse(refusal)) => {
                place.settle();
                return say_no(front, watched, refusal, id, entry).await;
            }
            Ok(Order::Requeued { next: after }) => next = after, // its dial failed before it heard of it
            Ok(Order::Forward) => {
                // The gate passes on what the backend said, and it said nothing: it dropped this request each time.
                place.settle();
                return say_no(front, watched, Refusal::BadAnswer, id, entry).await;
            }
            Err(_) => {
                place.settle(); // the owner task is gone: greenroom ends
                return say_no(front, watched, Refusal::Draining, id, entry).await;
            }
        }
    }
}

async fn say_no(
    front: &Front,
    watched: Watched,
    refusal: Refusal,
    id: SessionId,
    entry: &mut Entry,
) -> Option<(TcpStream, Switched101)> {
    entry.refused(refusal, None);
    entry.enter(State::Closing);
    let after = retry_after(seed_for(front.seed, id.0), RETRY_AFTER_SECONDS);
    // Fit to be read, or what the client sent before would lie there unread and make the close a reset.
    refuse::plain(watched.into_inner()?, refusal, Some(after)).await;
    None
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
                    // Bytes only. They stay where they are; the next edge is what matters.
                    self.disarmed = true;
                    let _ = self.client.try_io(Interest::READABLE, || -> std::io::Result<()> {
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
