//! How much of a client's messages goes to nobody: what it sends after its backend was lost, or after greenroom's own
//! Close is on its way. Nothing of that passes; it is read to see the client's Close go by, and so that it can be counted.

use super::Relay;
use crate::wire::{Begins, Head, Opcode};

/// So much was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Bytes of data frames, with their headers. Control frames are nothing that anybody loses.
    pub bytes: u64,
    /// Messages that ended in them: also one of which the backend had the beginning.
    pub messages: u64,
}

impl Dropped {
    /// So much more.
    pub fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.messages = self.messages.saturating_add(more.messages);
    }

    /// Whether it was anything.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Adds up the data frames that begin.
#[derive(Default)]
struct Data(u64);

impl Begins for Data {
    fn may_begin(&mut self, head: &Head) -> bool {
        match head.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.0 = self.0.saturating_add(head.len()),
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        true
    }
}

impl Relay {
    /// Takes what one read from the client gave, where nothing passes any more. Its Close still counts.
    pub fn client_dropped(&mut self, bytes: &[u8]) -> Dropped {
        if self.client.closed {
            return Dropped::default();
        }
        let mut begun = Data::default();
        let before = self.data_to_come();
        let scan = self.from_client.scan_with(bytes, &mut begun);
        let to_come = self.data_to_come();
        self.client_scanned(&scan);
        Dropped {
            bytes: (before.saturating_add(begun.0)).saturating_sub(to_come),
            messages: scan.messages.into(),
        }
    }

    /// Bytes that are to come of the client's data frame in progress.
    fn data_to_come(&self) -> u64 {
        let is_control = [Opcode::Close, Opcode::Ping, Opcode::Pong].map(|opcode| self.from_client.is_in(opcode));
        if is_control.contains(&true) {
            0
        } else {
            self.from_client.frame_left()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\x81\x82\0\0\0\0hi";
    const PING: &[u8] = b"\x89\x81\0\0\0\0p";
    const CLOSE: &[u8] = b"\x88\x80\0\0\0\0";

    #[test]
    fn what_is_dropped_is_the_same_at_any_split_and_control_frames_are_not_in_it() {
        let all = [
            TEXT,
            PING,
            TEXT,
            b"\x02\x81\0\0\0\0a",
            PING,
            b"\x80\x81\0\0\0\0b",
            CLOSE,
            TEXT,
        ]
        .concat();
        let whole = Dropped {
            bytes: 2 * 8 + 2 * 7,
            messages: 3,
        };
        for size in 1..=all.len() {
            let (mut relay, mut dropped) = (Relay::new(false), Dropped::default());
            all.chunks(size)
                .for_each(|piece| dropped.add(relay.client_dropped(piece)));
            assert_eq!(dropped, whole, "in pieces of {size}");
            assert!(relay.client_has_closed());
        }
    }

    #[test]
    fn of_a_message_that_had_begun_the_rest_is_dropped_and_it_counts() {
        let mut relay = Relay::new(false);
        relay.client_bytes(&TEXT[..7]);
        let rest = relay.client_dropped(&TEXT[7..]);
        assert_eq!(rest, Dropped { bytes: 1, messages: 1 });
        let begun = relay.client_dropped(&TEXT[..7]);
        assert_eq!(begun, Dropped { bytes: 7, messages: 0 });
    }
}
