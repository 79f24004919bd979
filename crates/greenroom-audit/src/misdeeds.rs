//! What a [`planted`](crate::planted) server does to messages, where that is not a matter of its start. An echo otherwise.
//!
//! Bounded: as many connections as the planted server has, [`limits::AUDIT_MESSAGES`] answers under way to each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_websockets::{CloseCode, Error, Message, WebSocketStream};

use crate::audit::plan::Dice;
use crate::limits;

/// A misdeed, or what may be taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// So long after it became ready all of it stands still, for so long: everybody is late, and nobody loses anything.
    StandsStill(Duration, Duration),
    /// Each answer takes so long, one after the other: no loss.
    Slow(Duration),
    /// With this probability an answer goes to another connection.
    WrongClient(f64),
    /// What one says is sent to all: no misdeed, a chat.
    Chat,
    /// The first message of a connection is taken, and not answered: a log-in.
    LogIn,
    /// With this probability a message is lost, whichever it is.
    Loses(f64),
    /// The first connection has one answer, and loses what it says after it.
    FirstLosesLater,
    /// One answer, and a Close with this code: no misdeed either.
    GoodBye(u16),
}

/// What connections share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    others: Mutex<Vec<(u64, Sender<Message>)>>,
    is_first_gone: AtomicBool,
}

impl Shared {
    fn open(&self, own: u64) -> Receiver<Message> {
        let (sender, receiver) = mpsc::channel(limits::AUDIT_MESSAGES * limits::AUDIT_FOREIGN);
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|(_, other)| !other.is_closed());
        others.push((own, sender));
        receiver
    }

    /// Sends to all that are open.
    fn all(&self, message: &Message) {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, other) in &*others {
            other.try_send(message.clone()).ok(); // whoever has gone misses it
        }
    }

    /// Sends to one that is open, and is not this one. False: there is none.
    fn other(&self, own: u64, message: &Message, dice: &mut Dice) -> bool {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = others
            .iter()
            .filter(|(id, other)| *id != own && !other.is_closed())
            .collect();
        let index = (dice.unit() * open.len() as f64) as usize;
        open.get(index)
            .is_some_and(|(_, other)| other.try_send(message.clone()).is_ok())
    }
}

/// Handles one connection.
pub(crate) async fn attend(
    misdeed: Misdeed,
    shared: &Shared,
    mut socket: WebSocketStream<TcpStream>,
    mut dice: Dice,
) -> Result<(), Error> {
    let own = dice.next_u64();
    let mut inbox = shared.open(own);
    let is_first = !shared.is_first_gone.swap(true, Ordering::Relaxed);
    let mut number = 0_u64;
    loop {
        let message = tokio::select! {
            message = socket.next() => match message {
                Some(message) => message?,
                None => return Ok(()),
            },
            Some(message) = inbox.recv() => {
                socket.send(message).await?;
                continue;
            }
        };
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        number += 1;
        let is_taken = match misdeed {
            Misdeed::StandsStill(..) | Misdeed::GoodBye(_) => false,
            Misdeed::Slow(long) => {
                tokio::time::sleep(long).await;
                false
            }
            Misdeed::WrongClient(often) => dice.unit() < often && shared.other(own, &message, &mut dice),
            Misdeed::Chat => {
                shared.all(&message);
                true
            }
            Misdeed::LogIn => number == 1,
            Misdeed::Loses(often) => dice.unit() < often,
            Misdeed::FirstLosesLater => is_first && number > 1,
        };
        if !is_taken {
            socket.send(message).await?;
        }
        if let Misdeed::GoodBye(code) = misdeed {
            let code = CloseCode::try_from(code).unwrap_or(CloseCode::NORMAL_CLOSURE);
            socket.send(Message::close(Some(code), "")).await?;
            let draining = async { while let Some(Ok(_)) = socket.next().await {} };
            tokio::time::timeout(limits::CLOSE_WAIT, draining).await.ok();
            return Ok(());
        }
    }
}
