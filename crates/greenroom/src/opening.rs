//! A client's way from accept to relay: head, gate, dial, answer.
//!
//! One task per connection. While it waits it holds a socket, its head and
//! little else: the head is read with the socket peeked at, so that what a client
//! sent behind it stays in the kernel until a validated 101 is passed on. No
//! path leads from a client's bytes to a backend but through `relay::run`,
//! which takes a `Switched101`, and that is only made from such an answer.
//!
//! ```text
//!   head ──▶ arrive ──▶ held ──Dialled──▶ answer ──Forward──▶ relay
//!                        ▲                  │  └─other status: passed on, closed
//!                        └────Requeued──────┘
//! ```
//!
//! Bounds: the head by `HEAD_MAX` and `HEAD_TIMEOUT`, the wait by the gate, the
//! backend's answer by `BACKEND_HEAD_MAX` and `INTERIM_MAX`.

mod answer;
mod hold;
mod refuse;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{HEAD_MAX, HEAD_TIMEOUT, LINGER};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::clock;
use crate::driver::Inbox;
use crate::head::{Fault, Kind, Upgrade, head_end, parse_head};
use crate::registry::{Entry, Registry};
use crate::relay::{self, Drain};
use crate::scratch::with_scratch;

pub(crate) use answer::Switched101;
pub(crate) use refuse::linger;

/// What all connections of one front share.
#[derive(Debug)]
pub struct Front {
    /// The books.
    pub registry: Arc<Registry>,
    /// The owner task of the backend.
    pub inbox: Arc<Inbox>,
    /// How long a client is held.
    pub hold_timeout: Duration,
    /// Whether clients may wait at all.
    pub may_wait: bool,
    /// Seeds everything that is spread, so that a process's clients do not come back together.
    pub seed: u64,
    /// Says when relays are to be closed.
    pub drain: watch::Receiver<Option<Drain>>,
}

/// Serves one accepted client. Each stage is a future of its own, made when it is
/// entered: a held client carries neither the reading of its head nor the relay.
pub async fn serve(front: Arc<Front>, client: TcpStream, peer: IpAddr, mut entry: Entry) {
    let Some((client, upgrade)) = Box::pin(open(client, &mut entry)).await else {
        return;
    };
    entry.enter(State::Held);
    let Some((client, switched)) = hold::wait(&front, client, peer, upgrade, &mut entry).await else {
        return;
    };
    entry.enter(State::Relaying);
    relay::run(front, client, switched, entry).await;
}

/// Reads the head. `None`: it was no opening handshake, or did not come; all is done.
async fn open(client: TcpStream, entry: &mut Entry) -> Option<(TcpStream, Arc<Upgrade>)> {
    let mut head = Vec::new();
    let read = tokio::time::timeout(HEAD_TIMEOUT, read_head(&client, &mut head)).await;
    match read {
        Ok(Head::Upgrade(upgrade)) => return Some((client, upgrade)),
        Ok(Head::Http { is_head }) => {
            entry.enter(State::Http);
            entry.refused(Refusal::PlainHttp, None);
            entry.enter(State::Closing);
            refuse::http(client, is_head).await;
        }
        Ok(Head::Bad(fault)) => {
            entry.refused(fault.refusal(), Some(fault.to_string()));
            entry.enter(State::Closing);
            refuse::fault(client, fault).await;
        }
        // Never a byte: never a word.
        Ok(Head::Gone) | Err(_) if head.is_empty() => entry.ends(CloseCause::Silent),
        Ok(Head::Gone) => entry.ends(CloseCause::LeftOpening),
        Err(_) => {
            entry.refused(Refusal::HeadTimeout, None);
            entry.enter(State::Closing);
            refuse::plain(client, Refusal::HeadTimeout, None).await;
        }
    }
    None
}

/// What a client's first bytes were.
enum Head {
    Upgrade(Arc<Upgrade>),
    Http { is_head: bool },
    Bad(Fault),
    Gone,
}

fn peek(client: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let (read, _) = rustix::net::recv(client, &mut *into, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(read)
}

/// Reads exactly the head, each byte looked at once; what follows it stays in the kernel.
async fn read_head(client: &TcpStream, head: &mut Vec<u8>) -> Head {
    loop {
        if client.readable().await.is_err() {
            return Head::Gone;
        }
        match client.try_io(Interest::READABLE, || take_head(client, head)) {
            Ok(Some(done)) => return done,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Head::Gone,
        }
    }
}

/// One look at the socket: takes what belongs to the head. `None`: more has to come.
fn take_head(client: &TcpStream, head: &mut Vec<u8>) -> io::Result<Option<Head>> {
    with_scratch(|scratch| {
        let from = head.len();
        let room = (HEAD_MAX + 1 - from).min(scratch.len());
        let seen = peek(client, &mut scratch[..room])?;
        if seen == 0 {
            return Ok(Some(Head::Gone));
        }
        head.extend_from_slice(&scratch[..seen]);
        let end = match head_end(head, from) {
            Ok(end) => end,
            Err(fault) => return Ok(Some(Head::Bad(fault))),
        };
        let belongs = end.map_or(seen, |end| end - from);
        let _ = rustix::net::recv(client, &mut scratch[..belongs], RecvFlags::DONTWAIT)?; // what was just seen
        let Some(end) = end else {
            return Ok(None);
        };
        Ok(Some(match parse_head(&head[..end]) {
            Ok(Kind::Upgrade(upgrade)) => Head::Upgrade(Arc::new(upgrade)),
            Ok(Kind::Http(http)) => Head::Http { is_head: http.is_head },
            Err(fault) => Head::Bad(fault),
        }))
    })
}

/// Refuses a client for which there is no descriptor: at once, and without a task that waits.
pub(crate) fn turn_away(front: &Front, client: &TcpStream) {
    let mut answer = Vec::new();
    let seed = greenroom_core::drain::seed_for(front.seed, clock::now().as_nanos());
    let after = greenroom_core::drain::retry_after(seed, greenroom_core::limits::RETRY_AFTER_SECONDS);
    crate::head::refusal(Refusal::Descriptors, Some(after), &mut answer);
    let _ = rustix::net::send(
        client,
        &answer,
        rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT,
    );
    // The head that lies there unread would make the close a reset, which destroys the answer.
    let _ = rustix::net::shutdown(client, rustix::net::Shutdown::Write);
    with_scratch(|scratch| {
        let _ = rustix::net::recv(client, scratch, RecvFlags::DONTWAIT);
    });
}

/// How long a refused client may take to read its answer.
const READ_ANSWER: Duration = LINGER;
