//! A client's way from accept to its end: head, route, gate, dial, answer.
//!
//! One task per connection. While it waits it holds a socket, its head and
//! little else: the head is read with the socket peeked at, so that what a client
//! sent behind it stays in the kernel: early messages until a validated 101 is
//! passed on, a body until its request is let in. No path leads from a WebSocket
//! client's bytes to a backend but through `relay::begin`, which takes a
//! `Switched101`, and that is only made from such an answer.
//!
//! ```text
//!   head ──▶ admit ──▶ arrive ──▶ held ──Dialled──▶ answer ──Forward──▶ relay
//!    ▲         │                   ▲                  │  └─other status: passed on, closed
//!    │         ▼                   └────Requeued──────┘
//!    └────── http (plain requests, one after the other)
//! ```
//!
//! Bounds: the head by `head_max` and `head_timeout` of the configuration, the wait for a next request by
//! `HTTP_KEEP_ALIVE`, the wait at the gate by the gate, the backend's answer by
//! `BACKEND_HEAD_MAX` and `INTERIM_MAX`.

mod accepted;
mod admit;
mod answer;
mod away;
mod guest;
mod hold;
mod parting;
pub(crate) mod refuse;
mod template;
mod traced;
mod watched;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{HTTP_KEEP_ALIVE, LINGER};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::config::Limits;
use crate::front::Front;
use crate::head::{Fault, Kind, With, head_end, parse_head};
use crate::http;
use crate::listener::Door;
use crate::registry::{Entry, Registry};
use crate::relay;
use crate::scratch::with_scratch;

pub(crate) use accepted::Before;
pub(crate) use answer::{NoHead, Switched101, next_head};
pub(crate) use away::turn_away;
pub(crate) use hold::Place;
pub(crate) use refuse::{linger, say};
pub(crate) use watched::Watched;

/// Serves one accepted client. Each stage is a future of its own, made when it is
/// entered: a held client carries neither the reading of its head nor the relay.
///
/// Every client has one of it.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice: where they came, and where they are used"
)]
pub fn serve(door: Arc<Door>, client: std::net::TcpStream, mut entry: Entry) -> impl Future<Output = ()> + Send {
    async move {
        let Ok(client) = TcpStream::from_std(client) else {
            return entry.ends(CloseCause::ClientLost); // the kernel has no memory to watch it
        };
        let peer = entry.record().peer;
        let Some((front, client, request, route)) = Box::pin(requests(door, client, peer, &mut entry)).await else {
            return;
        };
        let peer = entry.record().peer; // asked for again, as every client would carry it
        entry.enter(State::Held);
        let Some((client, switched, before)) = hold::wait(&front, client, peer, (request, route), &mut entry).await
        else {
            return;
        };
        entry.enter(State::Relaying);
        let mut relay = relay::begin(front, route, client, (switched, before), entry);
        let end = (&mut relay).await;
        Box::pin(relay::over(relay, end)).await;
    }
}

/// Reads one head after the other and serves the plain requests among them, until one is an opening
/// handshake. `None`: the connection is over; all is done.
///
/// Each goes by what stands behind the door when its head is complete. From then until the connection is with a backend
/// (`Entry::asks`) nothing is waited for: a reload relies on that (`Threads::settle`), as before it nobody would know that
/// the backend is needed.
async fn requests(
    door: Arc<Door>,
    mut client: TcpStream,
    peer: IpAddr,
    entry: &mut Entry,
) -> Option<(Arc<Front>, TcpStream, Kind, usize)> {
    loop {
        let limits = door.front().config.limits;
        let (again, request) = open(&limits, client, entry).await?;
        let front = door.front();
        if door.is_shut() {
            entry.refused(Refusal::Draining, Some("the listener is gone".to_owned()));
            entry.enter(State::Closing);
            refuse::plain(again, Refusal::Draining, With::default()).await;
            return None;
        }
        if let Some(question) = http::asks_health(&front, &request) {
            entry.enter(State::Http);
            http::tell_health(&front, again, &request, question, entry).await;
            return None;
        }
        let route = match admit::admit(&front, peer, &request, entry) {
            Ok(route) => route,
            Err(denied) => {
                Box::pin(admit::deny(&front, again, denied, &request, entry)).await;
                return None;
            }
        };
        match request {
            Kind::Upgrade(_) => return Some((front, again, request, route)),
            Kind::Http(_) => {
                entry.enter(State::Http);
                client = http::serve(&front, again, peer, (request, route), entry).await?;
                entry.enter(State::Opening);
            }
        }
        let (drain, registry) = (front.drain.clone(), Arc::clone(&front.registry));
        drop(front); // it waits by no configuration
        let record = Arc::clone(entry.record());
        let more = tokio::select! {
            biased;
            // An idle connection is closed without a word, as HTTP/1.1 allows at any time (RFC 9112 §9.5).
            close = record.mailbox.to_close() => {
                entry.ends_with(close.cause, close.detail.map(String::from));
                return None;
            }
            () = door.is_taken_away() => false,
            more = wants_more(drain, &registry, &client) => more,
        };
        if !more {
            entry.ends(CloseCause::Served);
            return None;
        }
    }
}

/// Waits for the first byte of another request. False: there is none, and the connection may be closed.
async fn wants_more(mut drain: watch::Receiver<Option<relay::Drain>>, registry: &Registry, client: &TcpStream) -> bool {
    let next = async {
        loop {
            client.readable().await?;
            match client.try_io(Interest::READABLE, || peek(client, &mut [0])) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                seen => return seen,
            }
        }
    };
    tokio::select! {
        biased;
        seen = next => seen.is_ok_and(|seen| seen > 0),
        () = tokio::time::sleep(HTTP_KEEP_ALIVE) => false,
        _ = drain.wait_for(Option::is_some) => false,
        () = registry.sent_away() => false,
    }
}

/// Reads a head. `None`: it was no request, or did not come; all is done.
async fn open(limits: &Limits, client: TcpStream, entry: &mut Entry) -> Option<(TcpStream, Kind)> {
    let mut head = Vec::new();
    let record = Arc::clone(entry.record());
    let read = tokio::select! {
        biased;
        close = record.mailbox.to_close() => {
            entry.ends_with(close.cause, close.detail.map(String::from)); // there is no request to answer
            return None;
        }
        read = tokio::time::timeout(limits.head_timeout, read_head(&client, limits.head_max, &mut head)) => read,
    };
    match read {
        Ok(Head::Request(request)) => return Some((client, request)),
        Ok(Head::Bad(fault)) => {
            let why = match fault {
                Fault::TooLong => format!("{fault}: {} bytes", limits.head_max),
                fault => fault.to_string(),
            };
            entry.refused(fault.refusal(), Some(why));
            entry.enter(State::Closing);
            refuse::fault(client, fault).await;
        }
        // Never a byte: never a word.
        Ok(Head::Gone) | Err(_) if head.is_empty() => entry.ends(CloseCause::Silent),
        Ok(Head::Gone) => entry.ends(CloseCause::LeftOpening),
        Err(_) => {
            entry.refused(Refusal::HeadTimeout, None);
            entry.enter(State::Closing);
            refuse::plain(client, Refusal::HeadTimeout, With::default()).await;
        }
    }
    None
}

/// What a client's first bytes were.
enum Head {
    Request(Kind),
    Bad(Fault),
    Gone,
}

fn peek(client: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let (read, _) = rustix::net::recv(client, &mut *into, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(read)
}

/// Reads exactly the head, each byte looked at once; what follows it stays in the kernel.
async fn read_head(client: &TcpStream, max: usize, head: &mut Vec<u8>) -> Head {
    loop {
        if client.readable().await.is_err() {
            return Head::Gone;
        }
        match client.try_io(Interest::READABLE, || take_head(client, max, head)) {
            Ok(Some(done)) => return done,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Head::Gone,
        }
    }
}

/// One look at the socket: takes what belongs to the head. `None`: more has to come.
fn take_head(client: &TcpStream, max: usize, head: &mut Vec<u8>) -> io::Result<Option<Head>> {
    with_scratch(|scratch| {
        let from = head.len();
        let room = (max + 1 - from).min(scratch.len());
        let seen = peek(client, &mut scratch[..room])?;
        if seen == 0 {
            return Ok(Some(Head::Gone));
        }
        head.extend_from_slice(&scratch[..seen]);
        let end = match head_end(head, from, max) {
            Ok(end) => end,
            Err(fault) => return Ok(Some(Head::Bad(fault))),
        };
        let belongs = end.map_or(seen, |end| end - from);
        let _ = rustix::net::recv(client, &mut scratch[..belongs], RecvFlags::DONTWAIT)?; // what was just seen
        let Some(end) = end else {
            return Ok(None);
        };
        Ok(Some(match parse_head(&head[..end]) {
            Ok(request) => Head::Request(request),
            Err(fault) => Head::Bad(fault),
        }))
    })
}

/// How long a refused client may take to read its answer.
const READ_ANSWER: Duration = LINGER;

#[cfg(test)]
mod tests {
    mod timed;

    use super::*;
    use crate::clock;
    use crate::config::Limits;
    use crate::telemetry::{Format, Log};
    use tokio::io::AsyncWriteExt as _;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    pub(super) fn registry(descriptors: usize) -> Arc<Registry> {
        Registry::new(Log::start(Format::Json), descriptors, &Limits::default())
    }

    /// Each client's task holds one of these for all its life. The runtime's part and this are 256 bytes; with a few more
    /// they would be 384, as its tasks are multiples of 128.
    #[tokio::test]
    async fn a_clients_future_fits_into_its_task() {
        let registry = registry(64);
        let entry = registry.accept(HERE).unwrap();
        let (_client, ours) = pair().await;
        let front = Arc::new(crate::http::tests::front());
        let future = serve(Door::new(front), ours.into_std().unwrap(), entry);
        assert!(size_of_val(&future) <= 144, "{}", size_of_val(&future));
    }

    /// A41. Whoever only waits for another request makes room for who has one.
    #[tokio::test]
    async fn where_descriptors_are_few_the_connection_that_was_idle_longest_makes_room() {
        let registry = registry(64);
        let (_stop, drain) = watch::channel(None);
        let mut entries = Vec::new();
        let crowd = registry.clients_max() - registry.clients_max() / greenroom_core::limits::CROWDED_SHARE;
        while entries.len() < crowd {
            entries.push(registry.accept(HERE).unwrap());
        }
        let idle = |registry: Arc<Registry>, drain: watch::Receiver<Option<relay::Drain>>| async move {
            let (_client, ours) = pair().await;
            wants_more(drain, &registry, &ours).await
        };
        let mut first = Box::pin(idle(Arc::clone(&registry), drain.clone()));
        let mut second = Box::pin(idle(Arc::clone(&registry), drain.clone()));
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut first).await.is_err(), "not yet");
        assert!(tokio::time::timeout(soon, &mut second).await.is_err());
        entries.push(registry.accept(HERE).unwrap());
        assert!(!first.await, "closed");
        assert!(tokio::time::timeout(soon, &mut second).await.is_err(), "one for one");
    }

    /// Time goes by itself where nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_its_time_and_not_longer() {
        let (_client, ours) = pair().await;
        let (_stop, drain) = watch::channel(None);
        let begun = tokio::time::Instant::now();
        assert!(!wants_more(drain, &registry(64), &ours).await);
        let kept = begun.elapsed();
        assert!(
            kept >= HTTP_KEEP_ALIVE && kept < HTTP_KEEP_ALIVE + Duration::from_millis(10),
            "{kept:?}"
        );
    }

    #[tokio::test]
    async fn an_idle_connection_wants_more_when_a_byte_comes_and_nothing_after_its_end_or_a_stop() {
        let (mut client, ours) = pair().await;
        let (stop, drain) = watch::channel(None);
        client.write_all(b"G").await.unwrap();
        assert!(wants_more(drain.clone(), &registry(64), &ours).await);
        assert!(
            wants_more(drain.clone(), &registry(64), &ours).await,
            "the byte stays where it is"
        );

        let (client, ours) = pair().await;
        drop(client);
        assert!(!wants_more(drain.clone(), &registry(64), &ours).await);

        let (_client, ours) = pair().await;
        let waits = tokio::spawn(async move { wants_more(drain, &registry(64), &ours).await });
        stop.send_replace(Some(relay::Drain {
            spread: Duration::ZERO,
            deadline: clock::now(),
            ends: clock::now(),
            code: greenroom_core::wire::CloseCode::GOING_AWAY,
        }));
        assert!(!waits.await.unwrap());
    }
}
