//! Says why a backend is not ready yet, when that lasts.
//!
//! A start-up of less than [`limits::UNREADY_AFTER`] is nobody's worry. After that one sentence tells what the
//! last look showed, and another when it shows something else, at most one in [`limits::UNREADY_EVERY`].

use greenroom_core::limits;
use greenroom_core::time::Time;

use super::Why;
use crate::config::{Address, Ready};

/// Decides when to say why. `W` is a cause: anything that can be compared.
#[derive(Debug)]
pub struct Unready<W> {
    /// Since when it is not ready.
    since: Option<Time>,
    /// What was told last, and when.
    told: Option<(W, Time)>,
}

impl<W> Default for Unready<W> {
    fn default() -> Self {
        Self {
            since: None,
            told: None,
        }
    }
}

impl<W: PartialEq + Copy> Unready<W> {
    /// Takes what a look showed; `None`: nothing that is bad. Answers whether it is to be told now.
    pub fn observe(&mut self, now: Time, why: Option<W>) -> bool {
        let Some(why) = why else {
            *self = Self::default();
            return false;
        };
        let since = *self.since.get_or_insert(now);
        let due = match &self.told {
            None => since + limits::UNREADY_AFTER,
            Some((told, _)) if *told == why => return false,
            Some((_, at)) => *at + limits::UNREADY_EVERY,
        };
        let is_due = now >= due;
        if is_due {
            self.told = Some((why, now));
        }
        is_due
    }
}

/// What the probe of `ready` asks, and what it got, in words for a person.
#[must_use]
pub fn reason(ready: &Ready, address: &Address, why: Why) -> String {
    match (ready, why) {
        (Ready::Http(path), Why::Status(status)) => {
            format!("GET {path} is answered with status {status} (200 to 399 is ready)")
        }
        (Ready::Http(path), why) => format!("GET {path} at {address}: {why}"),
        (Ready::WebSocket(path), Why::Status(status)) => {
            format!("the opening handshake for {path} is answered with status {status} (101 is ready)")
        }
        (Ready::WebSocket(path), why) => format!("the opening handshake for {path} at {address}: {why}"),
        (Ready::Auto | Ready::Notify | Ready::Listen | Ready::Tcp | Ready::Grpc(_), why) => {
            format!("{address}: {why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_core::limits::{UNREADY_AFTER, UNREADY_EVERY};
    use std::time::Duration;

    const START: Time = Time::from_millis(500);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_told_when_it_lasts_and_when_it_changes_and_not_more_often() {
        let mut unready = Unready::default();
        let (refused, status) = (Some(Why::Refused), Some(Why::Status(503)));
        assert!(!unready.observe(START, refused));
        assert!(
            !unready.observe(START + (UNREADY_AFTER - MS), status),
            "a millisecond early"
        );
        let told = START + UNREADY_AFTER;
        assert!(unready.observe(told, refused));
        assert!(!unready.observe(told + UNREADY_EVERY * 9, refused), "the same");
        assert!(unready.observe(told + UNREADY_EVERY * 9 + MS, status));
        let again = told + UNREADY_EVERY * 9 + MS;
        assert!(!unready.observe(again + (UNREADY_EVERY - MS), refused), "too soon");
        assert!(unready.observe(again + UNREADY_EVERY, refused));
    }

    #[test]
    fn a_good_look_begins_anew() {
        let mut unready = Unready::default();
        unready.observe(START, Some(Why::Refused));
        assert!(!unready.observe(START + UNREADY_AFTER, None));
        assert!(!unready.observe(START + UNREADY_AFTER, Some(Why::Refused)));
        assert!(unready.observe(START + UNREADY_AFTER * 2, Some(Why::Refused)));
    }

    #[test]
    fn the_reason_says_what_was_asked() {
        let address = "127.0.0.1:9000".parse().unwrap();
        let of = |ready: &str, why| reason(&ready.parse().unwrap(), &address, why);
        assert_eq!(
            of("http:/nope", Why::Status(404)),
            "GET /nope is answered with status 404 (200 to 399 is ready)"
        );
        assert_eq!(
            of("http:/nope", Why::Refused),
            "GET /nope at 127.0.0.1:9000: the connection was refused"
        );
        assert_eq!(
            of("websocket:/ws", Why::Status(403)),
            "the opening handshake for /ws is answered with status 403 (101 is ready)"
        );
        assert_eq!(of("auto", Why::NobodyListens), "127.0.0.1:9000: nobody listens there");
    }
}
