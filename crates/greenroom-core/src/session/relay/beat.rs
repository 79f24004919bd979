//! Where greenroom's own Pings may stand in a relay, and whether a message is under way.

use super::Relay;
use crate::wire::{OwnPongs, Sender};

impl Relay {
    /// Whether an own Ping to this side may be written behind what has passed: at a frame boundary, and before
    /// anybody has begun to end it.
    #[must_use]
    pub fn may_ping(&self, side: Sender) -> bool {
        let is_boundary = match side {
            Sender::Client => self.may_close_client(),
            Sender::Backend => self.may_close_backend(),
        };
        is_boundary && self.cause.is_none()
    }

    /// What finds this side's answers to such Pings among what is read from it from now on.
    #[must_use]
    pub fn pongs_of(&self, side: Sender, seed: u64) -> OwnPongs {
        let scanner = match side {
            Sender::Client => &self.from_client,
            Sender::Backend => &self.from_backend,
        };
        OwnPongs::new(scanner.clone(), side, seed)
    }

    /// Whether one of the two has begun a message and not ended it.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        !self.from_client.at_message_boundary() || !self.from_backend.at_message_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RELAY_BUFFER;
    use crate::session::relay::Ended;

    fn may(relay: &Relay) -> (bool, bool) {
        (relay.may_ping(Sender::Client), relay.may_ping(Sender::Backend))
    }

    #[test]
    fn a_ping_stands_at_frame_boundaries_of_what_has_passed() {
        let mut relay = Relay::new(false);
        assert_eq!(may(&relay), (true, true));
        relay.client_bytes(b"\x81\x82\0\0\0\0a"); // has passed, and has no end yet
        relay.backend_bytes(b"\x81\x02a"); // is kept, so that nothing of it has passed
        assert_eq!(may(&relay), (true, false));
        relay.client_bytes(b"b");
        let over = [&[0x82, 127][..], &(RELAY_BUFFER as u64).to_be_bytes()].concat();
        relay.backend_bytes(b"b");
        relay.backend_bytes(&over);
        assert_eq!(may(&relay), (false, true), "a large frame cuts through");
    }

    #[test]
    fn nobody_is_pinged_once_somebody_has_begun_to_end_it() {
        let mut relay = Relay::new(false);
        relay.client_bytes(b"\x88\x80\0\0\0\0");
        assert_eq!(may(&relay), (false, false));
        let mut relay = Relay::new(false);
        relay.backend_bytes(b"\x88\x00");
        assert_eq!(may(&relay), (false, false));
        let mut relay = Relay::new(false);
        relay.client_ended(Ended::Fin);
        assert_eq!(may(&relay), (false, false), "it could not answer");
    }

    #[test]
    fn a_message_is_under_way_from_its_first_byte_to_its_last() {
        let mut relay = Relay::new(false);
        assert!(!relay.is_mid_message());
        relay.backend_bytes(b"\x01\x01a");
        assert!(relay.is_mid_message(), "a fragment");
        relay.backend_bytes(b"\x80\x00");
        assert!(!relay.is_mid_message());
        relay.client_bytes(b"\x81");
        assert!(relay.is_mid_message());
        relay.client_bytes(b"\x80\0\0\0\0\x89\x80\0\0\0\0");
        assert!(!relay.is_mid_message());
    }
}
