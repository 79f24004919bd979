//! Messages of greenroom's own to the client of a relay: between two messages of the backend, in the order in which
//! they were given, among each other and with the backend's.
//!
//! Core says where one may stand. Where a message of the backend is not complete they wait here, and what comes from
//! the backend is looked at for the end of its message, read by read; whoever asked holds the time-out. A client that
//! takes too little gets none, so what is kept does not grow by them beyond `RELAY_BUFFER`. Bounded by `NOTICES_MAX`
//! that wait. A relay to which nobody sends anything carries a null pointer for all of it.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use greenroom_core::event::Unsent;
use greenroom_core::limits::NOTICES_MAX;
use greenroom_core::session::relay::{MaySend, Relay, Then};
use greenroom_core::wire::Sender;
use tokio::net::TcpStream;

use super::Session;
use super::beat::Answers;
use super::pipe::{Input, Pipe};
use crate::registry::{OwnMessage, Traffic};

/// Messages that wait, the first first; `None`: none, as nearly always.
pub(super) type Waiting = Option<Box<VecDeque<OwnMessage>>>;

impl Session {
    /// Another message is to be sent.
    pub(super) fn send(&mut self, message: OwnMessage) {
        let waiting = self.own.get_or_insert_default();
        if waiting.len() >= NOTICES_MAX {
            return message.refuse(Unsent::UnfinishedMessage);
        }
        waiting.push_back(message);
    }

    /// None of them is sent any more: the relay ends.
    pub(super) fn refuse_own(&mut self) {
        for message in self.own.take().into_iter().flat_map(|waiting| *waiting) {
            message.refuse(Unsent::NotRelaying);
        }
    }

    /// Backend to client, while messages of greenroom's own wait.
    #[cold]
    pub(super) fn poll_down_between(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        let Self {
            relay,
            own,
            down,
            entry,
            backend,
            client,
            beats,
            pulse,
            ..
        } = self;
        let (count, count_own) = (&entry.record().down, &entry.record().own);
        place(own, relay, down, count_own, cx, client);
        let ask = |pipe: &mut Pipe, cx: &mut Context<'_>, client: &mut TcpStream, input: Input<'_>| {
            let bytes = match input {
                Input::Ok(bytes) => bytes,
                Input::Err(ended) => return relay.backend_ended(ended),
            };
            let (whole, behind) = bytes.split_at(relay.message_end(bytes).unwrap_or(0));
            let mut then = Then::Continue;
            for piece in [whole, behind].into_iter().filter(|piece| !piece.is_empty()) {
                let pass = relay.backend_bytes(piece);
                count.add(piece.len(), relay.messages());
                pipe.add(piece, &pass);
                then = pass.then;
                place(own, relay, pipe, count_own, cx, client);
            }
            then
        };
        match Answers::of(Sender::Backend, backend, beats, pulse.as_deref()) {
            Ok(mut answers) => down.poll_once(cx, &mut answers, client, ask),
            Err(backend) => down.poll_once(cx, backend, client, ask),
        }
    }
}

/// Sends those that may stand here. What was just read is no backlog: whether the client takes it shows when it is written.
fn place(
    own: &mut Waiting,
    relay: &Relay,
    pipe: &mut Pipe,
    count: &Traffic,
    cx: &mut Context<'_>,
    client: &mut TcpStream,
) {
    let Some(waiting) = own else { return };
    waiting.retain(|message| !message.is_withdrawn());
    let mut was_tried = false;
    while let Some(message) = waiting.pop_front() {
        match relay.may_send(message.len(), pipe.unwritten()) {
            MaySend::Now => {
                if let Some(frame) = message.commit() {
                    count.add(frame.len(), 1);
                    pipe.insert(&frame);
                }
            }
            MaySend::Later => {
                waiting.push_front(message);
                return;
            }
            MaySend::Never(Unsent::Slow) if !was_tried => {
                was_tried = true;
                pipe.write_ready(cx, client);
                waiting.push_front(message);
            }
            MaySend::Never(why) => message.refuse(why),
        }
    }
    *own = None;
}
