//! The relay: bytes to and fro between a client and its backend.
//!
//! Core's [`Relay`] says which bytes pass and how it ends; this task reads,
//! writes, and keeps what must be kept. A message costs one read and one write:
//! it is read into the thread's scratch buffer and written from there. Only what
//! a slow peer does not take, or the beginning of a backend's frame, is kept, in a
//! buffer that exists no longer than there is something in it. While a direction
//! has bytes unwritten nothing more is read for it: backpressure to the sender.
//!
//! Bounds: `RELAY_BUFFER` per direction for what is kept, and as much again for
//! what one read brought; `HALF_CLOSED` and `CLOSE_HANDSHAKE` for a relay that is
//! ending. The endings themselves are in `relay::ending`.

mod beat;
mod ending;
mod own;
mod pipe;
mod told;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use greenroom_core::backend::Input;
use greenroom_core::event::CloseCause;
use greenroom_core::limits::{CLOSE_HANDSHAKE, FORWARD_AFTER, FORWARD_AFTER_MAX, HALF_CLOSED, SETTLE};
use greenroom_core::session::MessageLimits;
use greenroom_core::session::relay::{Ended, Relay, Then};
use greenroom_core::time::Time;
use greenroom_core::wire::{CloseCode, Sender};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::clock;
use crate::config::ForwardAfter;
use crate::driver::{Message, RELAY};
use crate::early::Share;
use crate::front::Front;
use crate::opening::{Before, Switched101};
use crate::registry::{Close, Descriptor, Entry, Notice};
use crate::stream::Stream;
use crate::watch::Pulse;

use beat::{Answers, Beats};
use pipe::{Input as Read, Pipe};

/// greenroom stops: relays are told to close by `drains`, and all others see it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Over how long at the most the closes of those are spread that wait with a 101 of greenroom's own.
    pub spread: Duration,
    /// When the last of them must be closed. A second signal brings it nearer.
    pub deadline: Time,
    /// When greenroom waits no longer for those that are left.
    pub ends: Time,
    /// With which code.
    pub code: CloseCode,
}

/// One session's relay.
pub(crate) struct Session {
    front: Arc<Front>,
    route: usize,
    /// What followed from what there was before.
    begun: Then,
    /// Its mailbox knows its task.
    is_listening: bool,
    relay: Relay,
    client: TcpStream,
    backend: Stream,
    /// Frees the backend connection's place in the books, at the end.
    _descriptor: Descriptor,
    /// Client to backend.
    up: Pipe,
    /// Backend to client.
    down: Pipe,
    /// Messages of greenroom's own that wait for their turn.
    own: own::Waiting,
    /// It was told to end, and waits for the end of a frame.
    told: told::Told,
    /// What the client sent before waits until the backend speaks, or for this time.
    waits: Option<Pin<Box<Sleep>>>,
    /// Its part of the house's budget, until the backend has taken that.
    share: Option<Box<Share>>,
    /// The moment by which an ending relay must be over.
    limit: Option<Pin<Box<Sleep>>>,
    /// When the backend gave its 101, and when the client had it.
    switched: Time,
    established: Time,
    /// What the watch looks at, and what finds answers to own pings.
    pulse: Option<Arc<Pulse>>,
    beats: Option<Box<Beats>>,
    /// What was told to the books: bytes for the backend, for the client, and how often the client took all.
    kept: [u32; 3],
    entry: Entry,
}

/// What ended the carrying of bytes.
pub(crate) enum End {
    /// Core said so.
    Then(Then),
    /// The limit of an ending relay was reached.
    Limit,
    /// It was told to end.
    Close(Close),
    /// The same, inside a frame that does not end.
    Cut(Close),
}

/// A relay that begins now: a future that ends when it does, see [`over`]. What it is made of is put into one place, so
/// that no future carries a copy of it.
pub(crate) fn begin(
    front: Arc<Front>,
    route: usize,
    client: TcpStream,
    (switched, before): (Switched101, Option<Before>),
    entry: Entry,
) -> Box<Session> {
    let established = clock::now();
    let settings = &front.config.routes[route];
    let after = settings.forward_after;
    let limits = MessageLimits {
        size: settings.message_max,
        rate: settings.message_rate,
    };
    let Switched101 {
        stream,
        descriptor,
        rsv1,
        early,
        since,
    } = switched;
    let mut session = Box::new(Session {
        front,
        route,
        begun: Then::Continue,
        is_listening: false,
        relay: Relay::new(rsv1).limited(limits, established),
        client,
        backend: stream,
        _descriptor: descriptor,
        up: Pipe::default(),
        down: Pipe::default(),
        own: None,
        told: None,
        waits: forward_after(after, before.is_some())
            .map(|time| Box::pin(tokio::time::sleep_until(clock::instant(since + time)))),
        share: None,
        limit: None,
        switched: since,
        established,
        pulse: None,
        beats: None,
        kept: [0; 3],
        entry,
    });
    let before = before.map_or(Then::Continue, |before| session.take_before(before));
    session.begun = match (before, session.take_early(&early)) {
        (over @ Then::Over(_), Then::Continue) => over,
        (_, then) => then,
    };
    session.join_watch();
    session
}

/// Carries bytes until something ends it. By itself and not as a part of another future, so that its client's task has
/// nothing for it but a reference.
impl Future for Session {
    type Output = Box<End>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<End>> {
        let this = self.get_mut();
        // A task's waker stays the same, so it is left with the mailbox once.
        if !std::mem::replace(&mut this.is_listening, true) {
            this.entry.record().mailbox.listen(cx.waker());
        }
        let end = match this.begun {
            Then::Continue => ready!(this.poll_carry(cx)),
            then => End::Then(then),
        };
        this.tell_kept();
        Poll::Ready(Box::new(end))
    }
}

/// Tells the gate and all others of the end, and ends it.
pub(crate) async fn over(session: Box<Session>, end: Box<End>) {
    let front = Arc::clone(&session.front);
    if let End::Then(Then::Lost { restarting, .. }) = *end {
        session.tell_if_early();
        let input = if restarting {
            Input::Restarting
        } else {
            Input::RelayLost
        };
        front.backend(session.route).inbox.tell(Message::signal(input, RELAY));
    }
    ending::finish(&front, session, *end).await;
}

impl Session {
    /// The gate is told of a relay that its backend ended as soon as it began: a READY may have come too early.
    fn tell_if_early(&self) {
        let now = clock::now();
        if now < self.established + SETTLE {
            self.front
                .backend(self.route)
                .inbox
                .tell(Message::LostEarly(now.since(self.switched)));
        }
    }

    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while let Some(notice) = self.entry.record().mailbox.take() {
            match notice {
                Notice::Close(close) => {
                    if let Some(end) = self.told_to_end(close) {
                        return Poll::Ready(end);
                    }
                }
                Notice::Send(message) => self.send_unless_told(message),
                Notice::Watch(word) => {
                    if let Some(end) = self.heed(word) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
        if let Some(end) = self.end_as_told(cx) {
            return Poll::Ready(end);
        }
        for direction in [Self::poll_down, Self::poll_up] {
            if let Poll::Ready(then) = direction(self, cx) {
                match then {
                    Then::Continue => {}
                    Then::HalfClose => self.end_within(HALF_CLOSED),
                    // Nearer than any limit so far: the connections have only to end.
                    Then::BothClosed => self.limit = Some(Box::pin(tokio::time::sleep(CLOSE_HANDSHAKE))),
                    Then::Lost { .. } | Then::Violation(..) | Then::Over(_) | Then::Done(_) => {
                        return Poll::Ready(End::Then(then));
                    }
                }
                cx.waker().wake_by_ref(); // go on at once, with the timer just set
            }
        }
        self.tell_kept();
        if self.relay.cause().is_some() && self.limit.is_none() {
            self.end_within(HALF_CLOSED); // a Close has passed, and its answer must come
            if self.relay.was_rejected() {
                self.tell_if_early();
            }
            cx.waker().wake_by_ref();
        }
        if self.down.is_broken() && self.up.has_ended() {
            return Poll::Ready(End::Then(self.relay.client_ended(Ended::Reset))); // half-closed, and now gone
        }
        match &mut self.limit {
            Some(limit) => limit.as_mut().poll(cx).map(|()| End::Limit),
            None => Poll::Pending,
        }
    }

    /// Client to backend.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        if let Some(waits) = &mut self.waits {
            if !self.relay.backend_has_spoken() {
                ready!(waits.as_mut().poll(cx));
            }
            self.waits = None;
        }
        let polled = self.carry_up(cx);
        if self.share.is_some() && self.up.is_empty() {
            self.share = None;
        }
        polled
    }

    fn carry_up(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        let (relay, count) = (&mut self.relay, &self.entry.record().up);
        // A reset that a write has met looks like a FIN to the read behind it.
        let gone = self.down.is_broken();
        let ask = |input: Read<'_>| match input {
            Ok(bytes) => {
                let pass = if relay.is_limited() {
                    relay.client_bytes_at(Some(clock::now()), bytes)
                } else {
                    relay.client_bytes(bytes)
                };
                count.add(bytes.len(), relay.messages());
                pass
            }
            Err(_) if gone => pipe::ended(relay.client_ended(Ended::Reset)),
            Err(ended) => pipe::ended(relay.client_ended(ended)),
        };
        match Answers::of(Sender::Client, &mut self.client, &mut self.beats, self.pulse.as_deref()) {
            Ok(mut answers) => self.up.poll(cx, &mut answers, &mut self.backend, ask),
            Err(client) => self.up.poll(cx, client, &mut self.backend, ask),
        }
    }

    /// Backend to client.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        if self.told.is_some() {
            return self.poll_down_to_frame_end(cx);
        }
        if self.own.is_some() {
            return self.poll_down_between(cx);
        }
        let (relay, count) = (&mut self.relay, &self.entry.record().down);
        let ask = |input: Read<'_>| match input {
            Ok(bytes) => {
                let pass = relay.backend_bytes(bytes);
                count.add(bytes.len(), relay.messages());
                pass
            }
            Err(ended) => pipe::ended(relay.backend_ended(ended)),
        };
        match Answers::of(
            Sender::Backend,
            &mut self.backend,
            &mut self.beats,
            self.pulse.as_deref(),
        ) {
            Ok(mut answers) => self.down.poll(cx, &mut answers, &mut self.client, ask),
            Err(backend) => self.down.poll(cx, backend, &mut self.client, ask),
        }
    }

    /// What an accepted client has sent, and what is still to be written to it: both go first. The protocol was judged
    /// when it came, how large its messages are is judged now; how many they are is bounded by what is kept.
    fn take_before(&mut self, before: Before) -> Then {
        self.down.append(&before.own);
        let pass = self.relay.client_bytes_at(None, &before.early);
        (self.entry.record().up).add(before.early.len(), self.relay.messages());
        self.up.add(&before.early, &pass);
        self.share = before.share.map(Box::new);
        if matches!(pass.then, Then::Over(_)) {
            pass.then
        } else {
            Then::Continue
        }
    }

    /// What came behind the 101: judged like any other bytes of the backend.
    fn take_early(&mut self, early: &[u8]) -> Then {
        if early.is_empty() {
            return Then::Continue;
        }
        let pass = self.relay.backend_bytes(early);
        (self.entry.record().down).add(early.len(), self.relay.messages());
        self.down.add(early, &pass);
        match pass.then {
            then @ (Then::Lost { .. } | Then::Violation(..) | Then::Over(_) | Then::Done(_)) => then,
            Then::Continue | Then::BothClosed | Then::HalfClose => Then::Continue,
        }
    }

    /// It must be over by then; an earlier limit stays.
    fn end_within(&mut self, time: Duration) {
        if self.limit.is_none() {
            self.limit = Some(Box::pin(tokio::time::sleep(time)));
        }
    }

    /// Why it ended when only time ended it.
    fn cause(&self) -> CloseCause {
        self.relay.cause().unwrap_or(CloseCause::TimedOut)
    }
}

/// How long a client's messages wait after the backend's 101, if they do.
fn forward_after(asked: Option<ForwardAfter>, is_accepted: bool) -> Option<Duration> {
    match asked {
        None => is_accepted.then_some(FORWARD_AFTER),
        Some(ForwardAfter::Handshake) => None,
        Some(ForwardAfter::FirstFrame) => Some(FORWARD_AFTER_MAX),
        Some(ForwardAfter::Time(time)) => Some(time),
    }
}
