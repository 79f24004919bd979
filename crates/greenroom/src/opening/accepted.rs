//! A client that has a 101 of greenroom's own, and waits for its backend.
//!
//! ```text
//!  client ──frames──▶ core's Early: messages are kept, Pings answered, a Close ends it
//!  client ◀──────────  Pongs, a Ping every 25 s, what it is told of the wait
//! ```
//!
//! It is read as long as there is room for what it says, in its own bound and in the house's budget; control frames
//! need none. Where data comes next that has no room it is left unread, so that TCP stops it, and closed when it has
//! waited so for `EARLY_PATIENCE`. What is kept leaves
//! here in one way only: with a backend's validated 101 ([`Accepted::into_relay`]).
//!
//! Bounds: `early_max` and `early_budget`; own frames are one or two at a time, and none is added while one is
//! not written; messages that somebody sends it through the admin API only up to `RELAY_BUFFER` of them.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use greenroom_core::buffer::{Early, End};
use greenroom_core::event::{Refusal, Unsent};
use greenroom_core::limits::{
    CLOSE_HANDSHAKE, EARLY_LOOK, EARLY_PATIENCE, HOLD_PINGS_MISSED, READS_PER_TURN, RELAY_BUFFER,
};
use greenroom_core::time::Time;
use greenroom_core::wire::{
    CloseCode, CloseSeen, ControlFrame, Violation, close_frame, close_reply, ping_frame, text_message,
};
use rustix::net::RecvFlags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::refuse::linger;
use super::template::Selected;
use super::watched::Watched;
use crate::clock;
use crate::early::{EarlyRoom, Share};
use crate::registry::{Close, Notice, OwnMessage, Record};
use crate::scratch::with_scratch;
use crate::watch::Word;

/// Why an accepted client is held no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It ended its connection, or answers no Ping.
    Left,
    /// It said Close.
    Closed(CloseSeen),
    /// It broke the protocol.
    Violation(Violation),
    /// It sent a text that is none.
    NotUtf8,
    /// A limit.
    Refused(Refusal),
    /// It is to be closed.
    Told(Box<Close>),
}

/// What a relay begins with.
#[derive(Debug)]
pub(crate) struct Before {
    /// What the client has sent, for its backend.
    pub(crate) early: Vec<u8>,
    /// Its part of the budget, free when the backend has taken that.
    pub(crate) share: Option<Share>,
    /// What of greenroom's own frames is not written to the client yet.
    pub(crate) own: Vec<u8>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Accepted {
    client: Watched,
    early: Early,
    share: Share,
    /// The subprotocol that it was accepted with.
    selected: Selected,
    since: Time,
    /// Own frames that are being written.
    out: Vec<u8>,
    /// The answer to its last Ping, when `out` is written.
    pong: Option<Box<ControlFrame>>,
    /// Own Pings since it was last heard.
    missed: u32,
    /// It is not read, as data comes next and there is no room.
    full: Option<Box<Full>>,
}

#[derive(Debug)]
struct Full {
    /// When it has waited long enough.
    until: Pin<Box<Sleep>>,
    /// It is the house's budget that is used up, not its own.
    by_budget: bool,
}

/// What happened to the socket.
enum Turn {
    /// Nothing more lies there, or there is no room for it.
    Wait,
    /// More may lie there.
    More,
    Gone(Gone),
}

impl Accepted {
    /// Accepts a client: `head` is its 101.
    pub(super) fn new(client: Watched, head: Vec<u8>, selected: Selected, max: usize, room: &Arc<EarlyRoom>) -> Self {
        let now = clock::now();
        let mut accepted = Self {
            client,
            early: Early::new(max),
            share: room.share(),
            selected,
            since: now,
            out: head,
            pong: None,
            missed: 0,
            full: None,
        };
        accepted.write();
        accepted
    }

    /// When it was accepted.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// The subprotocol that it was accepted with.
    pub(super) fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// Tells it something. Not while an earlier word is on its way: it will hear the next.
    pub(super) fn tell(&mut self, text: &str) {
        if self.out.is_empty() {
            text_message(text, &mut self.out);
            self.write();
        }
    }

    /// Sends it a message of greenroom's own, at once: what is on its way to it are whole frames. Not where it takes too
    /// little of that.
    fn send(&mut self, message: OwnMessage, record: &Record) {
        if self.out.len() + message.len() > RELAY_BUFFER {
            return message.refuse(Unsent::Slow);
        }
        if let Some(frame) = message.commit() {
            record.own.add(frame.len(), 1);
            self.out.extend_from_slice(&frame);
            self.write();
        }
    }

    /// Keeps it until it is gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, record: &Record) -> Poll<Gone> {
        loop {
            // The poller may have told before, while nobody listened: its word is used up by the look itself.
            let turn = self.read();
            let is_starved = matches!(turn, Turn::Wait) && self.is_full_by_budget();
            if is_starved {
                self.share.got_none();
            } else {
                self.share.pass_on();
            }
            if let Turn::Gone(gone) = turn {
                return Poll::Ready(gone);
            }
            self.write();
            // Whoever never stops sending is told to leave, pinged and answered like all others.
            if self.share.poll_told_to_leave(cx).is_ready() {
                return Poll::Ready(Gone::Refused(Refusal::EarlyBudget));
            }
            match record.mailbox.poll_next(cx) {
                Poll::Ready(Notice::Close(close)) => return Poll::Ready(Gone::Told(Box::new(close))),
                Poll::Ready(Notice::Send(message)) => {
                    self.send(message, record);
                    continue;
                }
                Poll::Ready(Notice::Watch(Word::Ping(_))) => match self.ping() {
                    Some(gone) => return Poll::Ready(gone),
                    None => continue,
                },
                Poll::Ready(Notice::Watch(Word::Close(_))) => continue, // relays only are closed by the watch
                Poll::Pending => {}
            }
            if let Some(full) = &mut self.full
                && full.until.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Gone::Refused(if full.by_budget {
                    Refusal::EarlyBudget
                } else {
                    Refusal::EarlyTooMuch
                }));
            }
            if matches!(turn, Turn::More) {
                let _ = pin!(tokio::task::yield_now()).poll(cx); // others have their turn first
                return Poll::Pending;
            }
            let reads = self.full.is_none();
            match poll_readable(cx, &self.client, reads) {
                Poll::Ready(()) if reads => continue,
                Poll::Ready(()) => return Poll::Ready(Gone::Left),
                Poll::Pending => {}
            }
            let writes = !self.out.is_empty() && self.client.socket().poll_write_ready(cx).is_ready();
            // Its own bound is the same whatever others free.
            if !(writes || is_starved && self.share.poll_freed(cx).is_ready()) {
                return Poll::Pending;
            }
        }
    }

    fn is_full_by_budget(&self) -> bool {
        self.full.as_ref().is_some_and(|full| full.by_budget)
    }

    /// It is time for a Ping, or to take it for gone.
    fn ping(&mut self) -> Option<Gone> {
        if self.full.is_none() {
            self.missed += 1; // unread, its Pong may lie there
        }
        if self.missed > HOLD_PINGS_MISSED {
            return Some(Gone::Left);
        }
        if self.out.is_empty() {
            self.out.extend_from_slice(&ping_frame(b"greenroom", None));
        }
        None
    }

    /// Reads as long as there is something, and room for it.
    fn read(&mut self) -> Turn {
        self.client.use_up();
        for _ in 0..READS_PER_TURN {
            let now = clock::now();
            let read = match self.read_once(now) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = None;
                    self.client.is_drained();
                    return Turn::Wait;
                }
                Err(_) => return Turn::Gone(Gone::Left),
            };
            match read {
                Read::Taken(None) => {
                    self.missed = 0;
                    self.full = None;
                }
                Read::Taken(Some(end)) => {
                    return Turn::Gone(match end {
                        End::Closed(seen) => Gone::Closed(seen),
                        End::Violation(violation) => Gone::Violation(violation),
                        End::NotUtf8 => Gone::NotUtf8,
                        End::Refused(refusal) => Gone::Refused(refusal),
                    });
                }
                Read::End => return Turn::Gone(Gone::Left),
                Read::Full { by_budget } => {
                    // The reason stays the same until it is read on.
                    self.full.get_or_insert_with(|| {
                        let until = Box::pin(sleep_until(clock::instant(now + EARLY_PATIENCE)));
                        Box::new(Full { until, by_budget })
                    });
                    return Turn::Wait;
                }
            }
        }
        Turn::More
    }

    /// One read past the poller, of no more than can be taken.
    fn read_once(&mut self, now: Time) -> io::Result<Read> {
        with_scratch(|scratch| {
            // A look first, so that what has no room stays where it is, and memory is asked for by what is needed.
            // Of a payload only its length counts. TCP does not copy it (MSG_TRUNC): who floods is looked at often.
            let payload = self.early.payload_left();
            let (most, how) = match payload {
                0 => (EARLY_LOOK, RecvFlags::empty()),
                _ => (payload, RecvFlags::TRUNC),
            };
            let most = most.min(scratch.len());
            let how = how | RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let (seen, _) = rustix::net::recv(self.client.socket(), &mut scratch[..most], how)?;
            if seen == 0 {
                return Ok(Read::End);
            }
            let mut takes = self.early.takes(&scratch[..seen]);
            let by_budget = !self.share.grow(self.early.growth(takes.data));
            if by_budget {
                takes = self.early.takes_without_memory(&scratch[..seen]);
            }
            if takes.all == 0 {
                return Ok(Read::Full { by_budget });
            }
            let (read, _) = rustix::net::recv(self.client.socket(), &mut scratch[..takes.all], RecvFlags::DONTWAIT)?;
            let taken = self.early.take(now, &scratch[..read]);
            if let Some(pong) = taken.pong {
                self.pong = Some(Box::new(pong));
            }
            Ok(Read::Taken(taken.end))
        })
    }

    /// Writes what the socket takes now.
    fn write(&mut self) {
        while !self.out.is_empty() || self.pong.is_some() {
            if self.out.is_empty()
                && let Some(pong) = self.pong.take()
            {
                self.out.extend_from_slice(&pong);
            }
            match self.client.socket().try_write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.out.clear(), // its end is seen where it is read
            }
        }
        self.out = Vec::new(); // who only waits owns no buffer
    }

    /// It is let in: its socket, what it has said, and what is still to be written to it. `text`, whole frames, is told at last.
    pub(super) fn into_relay(mut self, text: &[u8]) -> Option<(TcpStream, Before)> {
        if let Some(pong) = self.pong.take() {
            self.out.extend_from_slice(&pong);
        }
        self.out.extend_from_slice(text);
        self.share.let_in();
        let before = Before {
            early: self.early.into_bytes(),
            share: Some(self.share),
            own: self.out,
        };
        Some((self.client.into_inner()?, before))
    }

    /// Bytes of messages that are kept.
    pub(super) fn kept(&self) -> usize {
        self.early.kept()
    }

    /// It is not let in any more: what it has said is dropped, and its part of the budget is another's.
    pub(super) fn forget(&mut self) {
        self.early.forget();
        self.share.free();
    }

    /// Waits until it says Close, or ends without one; drops all else that it says. Dropped and called again it goes on.
    pub(super) async fn leaves(&mut self) -> Option<CloseSeen> {
        loop {
            if let Some(seen) = self.early.closes(&[]) {
                return Some(seen); // behind what ended its hold, in the same read
            }
            poll_fn(|cx| poll_readable(cx, &self.client, true)).await;
            self.client.use_up();
            let mut reads = 0..READS_PER_TURN;
            while reads.next().is_some() {
                let read = with_scratch(|scratch| {
                    let (read, _) = rustix::net::recv(self.client.socket(), &mut *scratch, RecvFlags::DONTWAIT)?;
                    io::Result::Ok((read, self.early.closes(&scratch[..read])))
                });
                match read {
                    Ok((_, Some(seen))) => return Some(seen),
                    Ok((0, None)) => return None,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.client.is_drained();
                        break;
                    }
                    Err(_) => return None,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Closes it with a code and a reason, and waits for its answer (RFC 6455 §7.1.1).
    pub(super) async fn close(self: Box<Self>, code: CloseCode, reason: &str) {
        self.say_last(&close_frame(code, reason, None), true).await;
    }

    /// Answers its Close; the FIN follows at once (RFC 6455 §7.1.1).
    pub(super) async fn answer_close(self: Box<Self>, seen: CloseSeen) {
        self.say_last(&close_reply(seen, None), false).await;
    }

    /// Closes a client that broke the protocol: what it says from here on is not understood (RFC 6455 §7.1.7).
    pub(super) async fn fail(self: Box<Self>, code: CloseCode, reason: &str) {
        self.say_last(&close_frame(code, reason, None), false).await;
    }

    async fn say_last(self: Box<Self>, frame: &[u8], awaits_close: bool) {
        let Self {
            client,
            mut early,
            share,
            mut out,
            ..
        } = *self;
        early.forget(); // before its part of the budget is another's
        drop(share);
        out.extend_from_slice(frame);
        let Some(mut client) = client.into_inner() else {
            return;
        };
        let said = tokio::time::timeout(CLOSE_HANDSHAKE, async {
            client.write_all(&out).await?;
            if awaits_close {
                await_close(&client, &mut early).await?;
            }
            client.shutdown().await
        });
        if let Ok(Ok(())) = said.await {
            linger(&mut client).await;
        }
    }
}

enum Read {
    Taken(Option<End>),
    End,
    Full { by_budget: bool },
}

/// Reads and drops what comes until the client's Close, or its end. Between two looks others have their turn, as
/// has the time after which nobody waits any more: a client that never stops sending must not keep its thread.
async fn await_close(client: &TcpStream, early: &mut Early) -> io::Result<()> {
    while early.closes(&[]).is_none() {
        tokio::task::yield_now().await;
        client.readable().await?;
        let read = with_scratch(|scratch| {
            let read = client.try_read(scratch)?;
            early.closes(&scratch[..read]);
            Ok(read)
        });
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for bytes, or only for the client's end where they are not to be read.
fn poll_readable(cx: &mut Context<'_>, client: &Watched, reads: bool) -> Poll<()> {
    if reads {
        client.socket().poll_read_ready(cx).map(drop) // an error shows at the read
    } else {
        client.poll_gone(cx)
    }
}

#[cfg(test)]
mod tests;
