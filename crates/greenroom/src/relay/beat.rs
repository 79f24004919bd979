//! What the watch asks of a relay: pings of greenroom's own, and ends for silence, age and slowness.
//!
//! An own ping is written where a frame may stand and nothing else waits; the answer to it is taken out of what is read
//! ([`Answers`]), so that the other side never sees it. Only while an answer is missing does what is read go this way.
//! Before somebody is called dead there is a look into the socket, past tokio's readiness: what lies there unread is a
//! sign of life, and that it is unread is greenroom's own doing.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use greenroom_core::drain::{seed_for, splitmix64};
use greenroom_core::event::{CloseCause, Refusal, SessionId};
use greenroom_core::session::relay::{Ended, Then};
use greenroom_core::watch::Over;
use greenroom_core::wire::{CloseCode, OwnPongs, Sender, ping_frame};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, ReadBuf};

use super::ending::mask;
use super::{End, Session};
use crate::clock;
use crate::config::RouteOf;
use crate::config::units::{count, show};
use crate::front::Front;
use crate::registry::Close;
use crate::watch::{Pulse, Word};

/// What finds the answers of each side, while some are missing.
#[derive(Debug, Default)]
pub(super) struct Beats {
    client: Option<OwnPongs>,
    backend: Option<OwnPongs>,
}

impl Beats {
    fn of(&mut self, side: Sender) -> &mut Option<OwnPongs> {
        match side {
            Sender::Client => &mut self.client,
            Sender::Backend => &mut self.backend,
        }
    }
}

/// One side, without its answers to own pings.
pub(super) struct Answers<'s, R> {
    from: &'s mut R,
    pongs: &'s mut OwnPongs,
    pulse: &'s Pulse,
    side: Sender,
}

impl<'s, R> Answers<'s, R> {
    /// `None`: no answer is missing, and it is read as it is.
    pub(super) fn of(
        side: Sender,
        from: &'s mut R,
        beats: &'s mut Option<Box<Beats>>,
        pulse: Option<&'s Pulse>,
    ) -> Result<Self, &'s mut R> {
        if let Some(some) = beats {
            for pongs in [&mut some.client, &mut some.backend] {
                *pongs = pongs.take().filter(OwnPongs::is_waiting);
            }
            if some.client.is_none() && some.backend.is_none() {
                *beats = None;
            }
        }
        let pongs = beats.as_mut().and_then(|beats| beats.of(side).as_mut());
        match (pongs, pulse) {
            (Some(pongs), Some(pulse)) => Ok(Self {
                from,
                pongs,
                pulse,
                side,
            }),
            (None, _) | (_, None) => Err(from),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Answers<'_, R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let space = buf.initialize_unfilled();
            let held = this.pongs.held().len();
            space[..held].copy_from_slice(this.pongs.held());
            let mut behind = ReadBuf::new(&mut space[held..]);
            ready!(Pin::new(&mut *this.from).poll_read(cx, &mut behind))?;
            let read = behind.filled().len();
            if read == 0 {
                this.pongs.forget_held(); // it passes now, and the end behind it at the next call
                buf.advance(held);
                return Poll::Ready(Ok(()));
            }
            let out = this.pongs.take_out(&mut space[..held + read]);
            if out.pongs > 0 {
                this.pulse.answered(this.side, out.pongs, out.is_last, clock::now());
            }
            if out.len == 0 && out.pongs == 0 {
                this.pulse.heard(this.side); // all of it is kept back, and no count shows it
            }
            if out.len > 0 {
                buf.advance(out.len);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Session {
    /// The watch looks at it from now on, if its route asks for that.
    pub(super) fn join_watch(&mut self) {
        let front = &self.front;
        if front.config.routes[self.route].watch.is_empty() {
            return;
        }
        let route = RouteOf::new(&front.config, self.route);
        let seed = seed_for(front.seed, self.entry.session().map_or(0, |id| id.0));
        self.pulse = Pulse::of(self.entry.record(), route, self.established, seed);
        if let Some(pulse) = &self.pulse {
            front.registry.newcomers.join(pulse);
        }
    }

    /// Tells the books what is kept, when that has changed: never, while both sides take what they get.
    #[inline]
    pub(super) fn tell_kept(&mut self) {
        let ((for_backend, _), (for_client, taken)) = (self.up.waiting(), self.down.waiting());
        let kept = [for_backend, for_client, taken];
        if kept != self.kept {
            self.keeps(kept);
        }
    }

    #[cold]
    fn keeps(&mut self, kept: [u32; 3]) {
        let [for_backend, for_client, taken] = kept;
        let [_, before, taken_before] = std::mem::replace(&mut self.kept, kept);
        self.entry.record().buffers(for_backend, for_client);
        let Some(pulse) = &self.pulse else { return };
        if for_client == 0 {
            pulse.waits(None);
        } else if before == 0 || taken != taken_before {
            pulse.waits(Some(clock::now())); // for the first time, or all that waited before has been taken
        }
    }

    /// Nothing passes any more: what was kept back of the client's last bytes is followed too, so that its Close is seen behind
    /// them. Not before greenroom's own Close to the backend, which has seen nothing of them, is written or is not.
    pub(super) fn let_go_of_beats(&mut self) {
        if let Some(pongs) = self.beats.take().and_then(|beats| beats.client) {
            self.relay.client_bytes(pongs.held());
        }
    }

    /// Does what the watch asks for. `None`: it goes on.
    pub(super) fn heed(&mut self, word: Word) -> Option<End> {
        let front = &Arc::clone(&self.front);
        let pulse = self.pulse.clone()?;
        if self.relay.cause().is_some() {
            return None; // it is ending, within limits of its own
        }
        match word {
            Word::Ping(side) => {
                self.ping(side, &pulse, front);
                None
            }
            Word::Close(over) => self.end_as(over, &pulse, front),
        }
    }

    /// Pings a side, unless something waits to be written or the client is not read yet: then it is asked for again.
    fn ping(&mut self, side: Sender, pulse: &Pulse, front: &Front) {
        let is_blocked = self.up.waiting().0 > 0 || self.down.waiting().0 > 0 || self.waits.is_some();
        if is_blocked || !self.relay.may_ping(side) {
            return;
        }
        let now = clock::now();
        let number = self.entry.record().number;
        let seed = splitmix64(seed_for(front.seed, number) ^ now.as_nanos());
        let relay = &self.relay;
        let pongs = self.beats.get_or_insert_default().of(side);
        let payload = pongs.get_or_insert_with(|| relay.pongs_of(side, seed)).ping();
        match side {
            Sender::Client => self.down.insert(&ping_frame(&payload, None)),
            Sender::Backend => self.up.insert(&ping_frame(&payload, Some(mask(seed)))),
        }
        pulse.pinged(side, now);
    }

    fn end_as(&mut self, over: Over, pulse: &Pulse, front: &Front) -> Option<End> {
        let rule = pulse.rule();
        let hint = || {
            let id = self.entry.session().unwrap_or(SessionId(0));
            format!("retry-after-ms={}", front.retry_after_ms(self.route, id))
        };
        let (cause, code, reason, detail) = match over {
            Over::Dead(Sender::Client) => {
                if has_unread(&self.client) {
                    return None;
                }
                let detail = format!("no pong for {}", show(rule.ping?.timeout));
                let (cause, code) = (CloseCause::ClientLost, CloseCode::GOING_AWAY);
                (cause, code, "no pong".to_owned(), Some(detail))
            }
            Over::Dead(Sender::Backend) => {
                if has_unread(&self.backend) {
                    return None;
                }
                return Some(self.lose_backend(format!("no pong for {}", show(rule.ping?.timeout))));
            }
            Over::Idle { moving } => {
                if moving && self.relay.is_mid_message() {
                    return None;
                }
                let detail = format!("no message for {}", show(rule.idle?));
                (CloseCause::Idle, CloseCode::GOING_AWAY, "idle".to_owned(), Some(detail))
            }
            Over::Lifetime => (CloseCause::Lifetime, CloseCode::GOING_AWAY, hint(), None),
            Over::Slow => {
                let (slow, (kept, _)) = (rule.slow?, self.down.waiting());
                let waits = kept as usize + undelivered(&self.client);
                if kept == 0 || waits < slow.bytes {
                    return None;
                }
                let detail = format!("{} waited for it for {}", count(waits, "byte"), show(slow.after));
                (CloseCause::Slow, CloseCode::TRY_LATER, hint(), Some(detail))
            }
        };
        self.told_to_end(Close {
            cause,
            refusal: Refusal::ByHand, // a relay has its 101
            code,
            reason: reason.into(),
            detail: detail.map(Into::into),
        })
    }

    /// The backend's connection is over as if it had been reset.
    fn lose_backend(&mut self, why: String) -> End {
        let then = self.relay.backend_ended(Ended::Reset);
        if matches!(then, Then::Lost { mid_frame: false, .. }) {
            self.entry.ends_with(CloseCause::BackendLost, why);
        }
        End::Then(then)
    }
}

/// Whether something lies in the socket that was not read, its end included.
fn has_unread(socket: &impl AsFd) -> bool {
    let looked = rustix::net::recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    looked != Err(Errno::AGAIN)
}

/// Bytes that the kernel has for the other end and that were not acknowledged.
fn undelivered(socket: &impl AsFd) -> usize {
    // SAFETY: TIOCOUTQ (tcp(7), SIOCOUTQ) writes one int and nothing else.
    let bytes: io::Result<c_int> = unsafe {
        let asked = rustix::ioctl::Getter::<{ libc::TIOCOUTQ as rustix::ioctl::Opcode }, c_int>::new();
        rustix::ioctl::ioctl(socket, asked).map_err(Into::into)
    };
    bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
