//! How a relay ends: who is told which code, and when.
//!
//! | end | to the client | to the backend |
//! |---|---|---|
//! | orderly | what is left, FIN | what is left, FIN |
//! | backend lost | 1012 with `retry-after-ms`, spread | 1001, FIN, at once |
//! | told to end while its Close waits for its turn, as the backend is lost | as it was told; the cause stays the first | – |
//! | backend lost inside a frame over 64 KiB | cut | – |
//! | client broke the protocol | 1002 | 1001 |
//! | backend broke the protocol | 1001 | 1002 |
//! | client sent more than its route allows | 1009 `message_max=N`, 1008 `message_rate=N` | 1001 |
//! | told to end (a drain, the admin API, a limit), once a frame over 64 KiB that has begun is whole | as it was told | 1001 |
//! | the same, where such a frame has no end within `CLOSE_HANDSHAKE` | cut | 1001 |
//!
//! What a client sends after its backend was lost goes to nobody. One that does so hears of the loss ahead of those that are silent,
//! as fast as the spread allows; what it sent until its Close is counted, for the ledger and for `/metrics`.
//!
//! After its own Close greenroom waits for the client's, for `CLOSE_HANDSHAKE`; where it could write none, for nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use greenroom_core::drain::{close_at, seed_for, splitmix64};
use greenroom_core::event::{CloseCause, SessionId, State};
use greenroom_core::limits::{CLOSE_HANDSHAKE, FIRST_SECOND, SPREAD_MAX};
use greenroom_core::session::Over;
use greenroom_core::session::relay::{Dropped, Then};
use greenroom_core::time::Time;
use greenroom_core::wire::{CloseCode, ControlFrame, Sender, Violation, close_frame};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::{End, Session, told};
use crate::clock;
use crate::front::Front;
use crate::opening::linger;
use crate::registry::Close;
use crate::scratch::with_scratch;

/// Ends the relay as it has to be ended, and names the cause.
pub(super) async fn finish(front: &Front, mut session: Box<Session>, end: End) {
    session.refuse_own();
    let established = session.established;
    let seed = seed_for(front.seed, session.entry.session().map_or(0, |id| id.0));
    match end {
        End::Then(Then::Done(cause)) => {
            session.entry.ends(cause);
            session.entry.enter(State::Closing);
            session.end_orderly().await;
        }
        End::Then(Then::Lost { mid_frame: true, .. }) => {
            session.entry.ends(CloseCause::LostMidFrame);
            session.entry.enter(State::Closing);
        }
        End::Then(Then::Lost { mid_frame: false, .. }) => {
            let lost = usize::try_from(session.entry.peers(State::Relaying)).unwrap_or(usize::MAX);
            let at = close_at(clock::now(), established, seed, lost, SPREAD_MAX, None);
            let id = session.entry.session().unwrap_or(SessionId(0));
            let reason = format!("retry-after-ms={}", front.retry_after_ms(session.route, id));
            session.entry.ends(CloseCause::BackendLost);
            session.close_backend(CloseCode::GOING_AWAY, seed).await;
            let mut dropped = Dropped::default();
            let told = session.wait_for_turn((at, lost), front, &mut dropped).await;
            session.entry.enter(State::Closing);
            let (code, reason) = match told {
                Some(close) => (close.code, close.reason.into()),
                None if front.drain.borrow().is_some() => (CloseCode::GOING_AWAY, reason),
                None => (CloseCode::RESTART, reason),
            };
            session.close_client(code, &reason, &mut dropped).await;
            session.entry.dropped(dropped, "after its backend was lost");
        }
        End::Then(Then::Violation(sender, violation)) => session.violated(sender, violation, seed).await,
        End::Then(Then::Over(over)) => session.over(front, over, seed).await,
        End::Close(close) => {
            session.entry.ends_with(close.cause, close.detail.map(String::from));
            session.entry.enter(State::Closing);
            session.close_backend(CloseCode::GOING_AWAY, seed).await;
            session.close_client_and_count(close.code, &close.reason).await;
            session.end_backend().await;
        }
        End::Cut(close) => {
            let (cause, detail) = told::why_cut(&close);
            session.entry.ends_with(cause, detail);
            session.entry.enter(State::Closing);
            session.close_backend(CloseCode::GOING_AWAY, seed).await;
            let _ = session.client.shutdown().await;
            session.end_backend().await;
        }
        End::Limit => {
            session.entry.ends(session.cause());
            session.entry.enter(State::Closing);
        }
        End::Then(Then::Continue | Then::BothClosed | Then::HalfClose) => session.entry.ends(CloseCause::Internal),
    }
}

impl Session {
    /// Somebody broke the protocol.
    async fn violated(&mut self, sender: Sender, violation: Violation, seed: u64) {
        let (cause, to_client, to_backend) = match sender {
            Sender::Client => (
                CloseCause::ClientViolation,
                CloseCode::PROTOCOL_ERROR,
                CloseCode::GOING_AWAY,
            ),
            Sender::Backend => (
                CloseCause::BackendViolation,
                CloseCode::GOING_AWAY,
                CloseCode::PROTOCOL_ERROR,
            ),
        };
        self.entry.ends_with(cause, violation.to_string());
        self.entry.enter(State::Closing);
        self.close_backend(to_backend, seed).await;
        match sender {
            Sender::Client => {
                if self.fail_client(to_client, "").await {
                    linger(&mut self.client).await;
                }
            }
            Sender::Backend => self.close_client_and_count(to_client, "").await,
        }
        self.end_backend().await;
    }

    /// The client sends more than its route allows.
    async fn over(&mut self, front: &Front, over: Over, seed: u64) {
        let limit = limit(front, self.route, over);
        self.entry.ends_with(over.cause(), limit.clone());
        self.entry.enter(State::Closing);
        self.close_backend(CloseCode::GOING_AWAY, seed).await;
        if self.fail_client(over.close_code(), &limit).await {
            self.drain_client().await;
        }
        self.end_backend().await;
    }

    /// Both sides have ended, or one is gone: what is left goes out, then the FINs.
    async fn end_orderly(&mut self) {
        let both = async {
            let (client, backend) = (&mut self.client, &mut self.backend);
            let down = async {
                let _ = self.down.flush(client).await;
                let _ = client.shutdown().await;
            };
            let up = async {
                let _ = self.up.flush(backend).await;
                let _ = backend.shutdown().await;
            };
            tokio::join!(down, up);
        };
        // A peer that takes nothing is cut; a client that still sends must not lose what it has not read yet.
        if timeout(CLOSE_HANDSHAKE, both).await.is_ok() {
            linger(&mut self.client).await;
        }
    }

    /// The same as [`Session::close_client`], where nobody has counted so far what the client sends to nobody.
    async fn close_client_and_count(&mut self, code: CloseCode, reason: &str) {
        let mut dropped = Dropped::default();
        self.close_client(code, reason, &mut dropped).await;
        self.entry.dropped(dropped, "after its end had begun");
    }

    /// greenroom's own Close to the client, and its answer, or that to the backend's that was passed on already. Where no
    /// frame may stand, only what is left and a FIN.
    async fn close_client(&mut self, code: CloseCode, reason: &str, dropped: &mut Dropped) {
        let may_close = self.relay.may_close_client();
        if may_close {
            self.down.append(&close_frame(code, reason, None));
        }
        let is_asked = may_close || self.relay.backend_has_closed();
        let _ = timeout(CLOSE_HANDSHAKE, async {
            self.down.flush(&mut self.client).await?;
            let answered = !is_asked || self.relay.client_has_closed() || self.await_close(dropped).await;
            if answered {
                self.client.shutdown().await?;
            }
            std::io::Result::Ok(())
        })
        .await; // a client that does not answer is cut: RFC 6455 §7.1.1 allows it
    }

    /// The Close of a client that broke the protocol. What it says from here on is
    /// not understood, its answer neither: the FIN follows at once (RFC 6455 §7.1.7). Whether all of it was written.
    async fn fail_client(&mut self, code: CloseCode, reason: &str) -> bool {
        if self.relay.may_close_client() {
            self.down.append(&close_frame(code, reason, None));
        }
        let written = timeout(CLOSE_HANDSHAKE, async {
            self.down.flush(&mut self.client).await?;
            self.client.shutdown().await
        });
        matches!(written.await, Ok(Ok(())))
    }

    /// Reads and drops what a client still sends that is in the middle of a large message: it may read its Close only
    /// when it has sent all of it, and a reset would destroy that Close.
    async fn drain_client(&mut self) {
        let _ = timeout(CLOSE_HANDSHAKE, async {
            while poll_fn(|cx| {
                with_scratch(|scratch| {
                    let mut buf = ReadBuf::new(scratch);
                    let read = Pin::new(&mut self.client).poll_read(cx, &mut buf);
                    read.map(|result| result.is_ok() && !buf.filled().is_empty())
                })
            })
            .await
            {}
        })
        .await;
    }

    /// Reads and drops what the client sends until its Close. False: it ended without one.
    async fn await_close(&mut self, dropped: &mut Dropped) -> bool {
        self.read_to_nobody(dropped, |_| false).await;
        self.relay.client_has_closed()
    }

    /// The same, until it says anything else. Whether it did.
    async fn await_word(&mut self, dropped: &mut Dropped) -> bool {
        self.read_to_nobody(dropped, |dropped| !dropped.is_nothing()).await;
        !dropped.is_nothing() && !self.relay.client_has_closed()
    }

    /// Reads and drops what the client sends until its Close or its end, or until that is `enough`.
    async fn read_to_nobody(&mut self, dropped: &mut Dropped, enough: impl Fn(&Dropped) -> bool) {
        self.let_go_of_beats();
        poll_fn(|cx| {
            loop {
                if self.relay.client_has_closed() || enough(dropped) {
                    return Poll::Ready(());
                }
                let read = with_scratch(|scratch| {
                    let mut buf = ReadBuf::new(scratch);
                    Pin::new(&mut self.client).poll_read(cx, &mut buf).map(|result| {
                        dropped.add(self.relay.client_dropped(buf.filled()));
                        result.is_ok() && !buf.filled().is_empty()
                    })
                });
                if !ready!(read) {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// greenroom's own Close to the backend, masked, where it may stand, and the end
    /// of its side, as far as they go without waiting: a client does not wait for its
    /// own Close until a backend reads, and a server that restarts waits for its
    /// connections to end, and not until it is each client's turn.
    async fn close_backend(&mut self, code: CloseCode, seed: u64) {
        if self.relay.may_close_backend() {
            let frame: ControlFrame = close_frame(code, "", Some(mask(seed)));
            self.up.append(&frame);
        }
        let mut once = Box::pin(self.flush_backend());
        poll_fn(|cx| {
            let _ = once.as_mut().poll(cx); // what is left is for `end_backend`
            Poll::Ready(())
        })
        .await;
    }

    /// The rest of it: a backend that takes nothing is cut.
    async fn end_backend(&mut self) {
        let _ = timeout(CLOSE_HANDSHAKE, self.flush_backend()).await;
    }

    async fn flush_backend(&mut self) -> std::io::Result<()> {
        self.up.flush(&mut self.backend).await?;
        self.backend.shutdown().await
    }

    /// Waits for this connection's turn, one of so many that were lost. The client may close or leave before, a drain makes it
    /// the turn of all, and whoever is told to close does so at once: how, is returned.
    async fn wait_for_turn(&mut self, turn: (Time, usize), front: &Front, dropped: &mut Dropped) -> Option<Close> {
        let _ = timeout(CLOSE_HANDSHAKE, self.down.flush(&mut self.client)).await;
        let mut drain = front.drain.clone();
        let record = Arc::clone(self.entry.record());
        tokio::select! {
            biased; // who was told to hears that it was done as it was asked
            close = record.mailbox.to_close() => Some(close),
            _ = drain.wait_for(Option::is_some) => None,
            () = self.own_turn(turn, dropped) => None,
        }
    }

    /// The same, by the client alone: one that says something goes ahead, once its first second is over.
    async fn own_turn(&mut self, (own, lost): (Time, usize), dropped: &mut Dropped) {
        let has_spoken = tokio::select! {
            biased;
            () = clock::until(Some(own)) => false,
            has_spoken = self.await_word(dropped) => has_spoken,
        };
        if !has_spoken {
            return;
        }
        let free = own.min(self.established + FIRST_SECOND);
        if self.is_there_until(free, dropped).await {
            let ahead = self.entry.goes_ahead(own, lost);
            self.is_there_until(ahead, dropped).await;
        }
    }

    /// Reads and drops what the client sends until then. False: it has closed, or is gone.
    async fn is_there_until(&mut self, at: Time, dropped: &mut Dropped) -> bool {
        tokio::select! {
            biased;
            () = clock::until(Some(at)) => true,
            _ = self.await_close(dropped) => false,
        }
    }
}

/// Which limit of its route a client is over: for the client and the ledger.
fn limit(front: &Front, route: usize, over: Over) -> String {
    let settings = &front.config.routes[route];
    match over {
        Over::Size => format!("message_max={}", settings.message_max.unwrap_or_default()),
        Over::Rate => format!("message_rate={}", settings.message_rate.unwrap_or_default()),
    }
}

/// A mask for a frame of greenroom's own. It hides nothing; it only has to differ.
pub(super) fn mask(seed: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = splitmix64(seed ^ clock::now().as_nanos()).to_ne_bytes();
    [a, b, c, d]
}
