//! A relay that was told to end while a frame of its backend cuts through.
//!
//! Its Close can stand nowhere before the end of that frame, and there is no fault on either side: so it goes on relaying and
//! acts on it right behind the frame, in the same read. Core says that it has to wait. Bounded by `CLOSE_HANDSHAKE`, a timer
//! that exists only meanwhile; then the client is cut, without a Close and without waiting for an answer to one.
//! The first that says so counts. Messages of greenroom's own are refused from then on.

use std::pin::Pin;
use std::task::{Context, Poll};

use greenroom_core::event::{CloseCause, Unsent};
use greenroom_core::limits::CLOSE_HANDSHAKE;
use greenroom_core::session::relay::Then;
use greenroom_core::wire::Sender;
use tokio::time::Sleep;

use super::beat::Answers;
use super::pipe::{Input, Pipe};
use super::{End, Session};
use tokio::net::TcpStream;

use crate::config::units::show;
use crate::registry::{Close, OwnMessage};

/// How it is to end, and by when at the latest; `None`: nobody has said so, as nearly always.
pub(super) type Told = Option<Box<Waits>>;

/// See [`Told`].
pub(super) struct Waits {
    close: Close,
    limit: Pin<Box<Sleep>>,
}

impl Session {
    /// It is to end. `None`: not here.
    pub(super) fn told_to_end(&mut self, close: Close) -> Option<End> {
        if !self.relay.close_waits() {
            return Some(End::Close(close));
        }
        if self.told.is_none() {
            self.refuse_own();
            let limit = Box::pin(tokio::time::sleep(CLOSE_HANDSHAKE));
            self.told = Some(Box::new(Waits { close, limit }));
        }
        None
    }

    /// A message for the client: none follows what it was told.
    pub(super) fn send_unless_told(&mut self, message: OwnMessage) {
        match self.told {
            None => self.send(message),
            Some(_) => message.refuse(Unsent::NotRelaying),
        }
    }

    /// What it was told, if it can end now, or has to.
    pub(super) fn end_as_told(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let told = self.told.as_mut()?;
        let waits = self.relay.close_waits();
        let is_late = waits && told.limit.as_mut().poll(cx).is_ready();
        if waits && !is_late {
            return None;
        }
        let close = self.told.take()?.close;
        Some(if is_late { End::Cut(close) } else { End::Close(close) })
    }

    /// Backend to client, up to the end of the frame.
    #[cold]
    pub(super) fn poll_down_to_frame_end(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        let Self {
            relay,
            down,
            entry,
            backend,
            client,
            beats,
            pulse,
            ..
        } = self;
        let count = &entry.record().down;
        let ask = |pipe: &mut Pipe, _: &mut Context<'_>, _: &mut TcpStream, input: Input<'_>| {
            let bytes = match input {
                Input::Ok(bytes) => bytes,
                Input::Err(ended) => return relay.backend_ended(ended),
            };
            let rest = &bytes[..relay.rest_of_frame(bytes)]; // nothing follows the Close that stands behind it
            let pass = relay.backend_bytes(rest);
            count.add(rest.len(), relay.messages());
            pipe.add(rest, &pass);
            pass.then
        };
        match Answers::of(Sender::Backend, backend, beats, pulse.as_deref()) {
            Ok(mut answers) => down.poll_once(cx, &mut answers, client, ask),
            Err(backend) => down.poll_once(cx, backend, client, ask),
        }
    }
}

/// Why a client was cut inside a frame, for the ledger: it is to blame for that itself where it was to end as it takes
/// nothing.
pub(super) fn why_cut(close: &Close) -> (CloseCause, Option<String>) {
    if matches!(close.cause, CloseCause::ClientLost | CloseCause::Slow) {
        return (close.cause, close.detail.as_deref().map(String::from));
    }
    let told = close.detail.as_deref().map(|detail| format!(", {detail}"));
    let detail = format!(
        "told to end ({}{}) inside a frame that had no end within {}",
        close.cause.word(),
        told.unwrap_or_default(),
        show(CLOSE_HANDSHAKE)
    );
    (CloseCause::LostMidFrame, Some(detail))
}
