//! Decides whether an address that brought wrong tokens may try another one now.
//!
//! So many wrong ones in a window, and for the rest of it nobody of that address is listened to, the right token included: else a
//! guess would still tell whether it was right. Who brings none guesses nothing.
//!
//! Bounded by `GUESSERS_MAX` addresses; for one more the one whose window began first is forgotten.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::limits::{GUESS_WINDOW, GUESSERS_MAX, GUESSES_MAX};
use crate::time::Time;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Guesses {
    known: BTreeMap<IpAddr, (Time, u32)>,
}

impl Guesses {
    /// For how long nobody of this address is listened to; `None`: it may try.
    #[must_use]
    pub fn shut(&self, now: Time, address: IpAddr) -> Option<Duration> {
        let &(since, count) = self.known.get(&address)?;
        let left = GUESS_WINDOW.checked_sub(now.since(since))?;
        (count >= GUESSES_MAX && !left.is_zero()).then_some(left)
    }

    /// It brought a wrong one. True: that was the last for now.
    pub fn wrong(&mut self, now: Time, address: IpAddr) -> bool {
        if !self.known.contains_key(&address) && self.known.len() >= GUESSERS_MAX {
            let first = self.known.iter().min_by_key(|(_, (since, _))| *since);
            if let Some((&first, _)) = first {
                self.known.remove(&first);
            }
        }
        let (since, count) = self.known.entry(address).or_insert((now, 0));
        if now.since(*since) >= GUESS_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count == GUESSES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(last.into())
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn after_so_many_wrong_ones_an_address_waits_for_the_end_of_the_window() {
        let mut guesses = Guesses::default();
        for guess in 1..GUESSES_MAX {
            assert!(!guesses.wrong(at(u64::from(guess)), address(1)));
            assert_eq!(guesses.shut(at(u64::from(guess)), address(1)), None);
        }
        assert!(guesses.wrong(at(100), address(1)));
        assert_eq!(
            guesses.shut(at(101), address(1)),
            Some(GUESS_WINDOW - Duration::from_millis(100))
        );
        assert_eq!(guesses.shut(at(101), address(2)), None, "another address");
        let over = u64::try_from(GUESS_WINDOW.as_millis()).unwrap() + 1;
        assert!(guesses.shut(at(over - 1), address(1)).is_some());
        assert_eq!(guesses.shut(at(over), address(1)), None);
        assert!(!guesses.wrong(at(over), address(1)), "a new window");
        assert_eq!(guesses.shut(at(over), address(1)), None);
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let mut guesses = Guesses::default();
        for last in 0..u32::try_from(2 * GUESSERS_MAX).unwrap() {
            guesses.wrong(at(u64::from(last)), address(last));
            assert!(guesses.known.len() <= GUESSERS_MAX);
        }
        assert!(!guesses.known.contains_key(&address(0)));
    }
}
