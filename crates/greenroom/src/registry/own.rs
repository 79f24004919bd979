//! A message of the house's own on its way to one client.
//!
//! Whoever asks keeps the other end: it hears what became of the message, and by letting go of it takes the message back,
//! so that a connection needs no timer for it. [`OwnMessage::commit`] is the moment that decides: either the asker hears
//! that it is sent, and it is written next, or it was taken back before, and is not.

use std::sync::Arc;

use greenroom_core::event::Unsent;
use tokio::sync::oneshot;

/// What becomes of a message.
pub(crate) type Outcome = Result<(), Unsent>;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct OwnMessage {
    /// A whole frame; one for all clients that get it.
    frame: Arc<[u8]>,
    asker: oneshot::Sender<Outcome>,
}

impl OwnMessage {
    /// A message, and where its asker hears of it.
    pub(crate) fn new(frame: &Arc<[u8]>) -> (Self, oneshot::Receiver<Outcome>) {
        let (asker, hears) = oneshot::channel();
        let frame = Arc::clone(frame);
        (Self { frame, asker }, hears)
    }

    /// Bytes of its frame.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// Nobody waits for it any more.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.asker.is_closed()
    }

    /// It is not sent.
    pub(crate) fn refuse(self, why: Unsent) {
        let _ = self.asker.send(Err(why)); // the asker may have given up
    }

    /// The frame, which must be written next; `None` if it was taken back.
    pub(crate) fn commit(self) -> Option<Arc<[u8]>> {
        self.asker.send(Ok(())).is_ok().then_some(self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_it_is_sent_and_its_asker_hears_so_or_it_was_taken_back() {
        let frame: Arc<[u8]> = b"\x81\x00".as_slice().into();
        let (message, mut hears) = OwnMessage::new(&frame);
        assert_eq!(message.commit(), Some(Arc::clone(&frame)));
        hears.close(); // too late
        assert_eq!(hears.try_recv(), Ok(Ok(())));
        let (message, mut hears) = OwnMessage::new(&frame);
        hears.close();
        assert!(message.is_withdrawn());
        assert_eq!(message.commit(), None);
        assert!(hears.try_recv().is_err());
    }
}
