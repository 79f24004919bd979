//! Decides what one address may have of greenroom: connections that are open, and handshakes that it begins.
//!
//! An address is a prefix of one (`address_bits_v4`, `address_bits_v6`): who has a whole network counts as one client.
//! Handshakes are a bucket of tokens, with those of `HANDSHAKE_BURST` at the most.
//!
//! Bounded by `most` addresses. What is remembered of an address without connections is no more than how full its
//! bucket is, and after `HANDSHAKE_BURST` that is nothing: then it is forgotten. For one address too many the one that
//! was idle longest is forgotten before its time. One that has connections never is; if all have, the new one is refused.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use crate::bucket::Bucket;
use crate::limits::{ADDRESSES_FORGOTTEN, HANDSHAKE_BURST};
use crate::time::Time;

/// What one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Connections at one time; `None`: any number.
    pub connections: Option<usize>,
    /// Handshakes in a second; `None`: any number.
    pub handshakes: Option<usize>,
    /// Addresses that are remembered.
    pub most: usize,
}

/// Why an address gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has as many connections as it may have.
    Connections,
    /// It has begun as many handshakes as it may.
    Handshakes,
    /// No other address can be remembered: all that are have connections.
    Room,
}

/// What is remembered of each address.
#[derive(Debug)]
pub struct Addresses {
    rules: Rules,
    known: BTreeMap<IpAddr, Known>,
    /// Those without connections, by when they were last heard of.
    idle: BTreeSet<(Time, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    open: usize,
    /// Its handshakes, where they are counted.
    bucket: Option<Bucket>,
    /// Since when it is idle, if it is: its place there.
    idle: Option<Time>,
}

impl Addresses {
    /// Of nobody yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            known: BTreeMap::new(),
            idle: BTreeSet::new(),
        }
    }

    /// Other rules from now on. Nobody loses what it has; a bucket where there was none is full.
    pub fn set_rules(&mut self, now: Time, rules: Rules) {
        let had_none = self.rules.handshakes.is_none();
        self.rules = rules;
        if let (true, Some(rate)) = (had_none, rules.handshakes) {
            for known in self.known.values_mut() {
                known.bucket = Some(Bucket::full(now, rate));
            }
        }
    }

    /// A connection of this address begins. Where this is not denied, its end is told by [`Addresses::close`].
    pub fn open(&mut self, now: Time, address: IpAddr) -> Result<(), Denied> {
        let most = self.rules.connections.unwrap_or(usize::MAX);
        let known = self.entry(now, address)?;
        if known.open >= most {
            return Err(Denied::Connections);
        }
        known.open += 1;
        self.settle(now, address);
        Ok(())
    }

    /// A connection of this address has ended.
    pub fn close(&mut self, now: Time, address: IpAddr) {
        if let Some(known) = self.known.get_mut(&address) {
            known.open = known.open.saturating_sub(1);
            self.settle(now, address);
        }
    }

    /// A handshake of this address begins.
    pub fn handshake(&mut self, now: Time, address: IpAddr) -> Result<(), Denied> {
        let Some(rate) = self.rules.handshakes else {
            return Ok(());
        };
        let known = self.entry(now, address)?;
        let takes = known.bucket.as_mut().is_none_or(|bucket| bucket.take(now, rate));
        self.settle(now, address);
        takes.then_some(()).ok_or(Denied::Handshakes)
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// What is known of an address, from now on.
    fn entry(&mut self, now: Time, address: IpAddr) -> Result<&mut Known, Denied> {
        for _ in 0..ADDRESSES_FORGOTTEN {
            let over = |&&(since, _): &&(Time, IpAddr)| now.since(since) >= HANDSHAKE_BURST;
            let Some(&(_, other)) = self.idle.first().filter(over) else {
                break;
            };
            self.forget(other);
        }
        if !self.known.contains_key(&address) && self.known.len() >= self.rules.most {
            let Some(&(_, longest)) = self.idle.first() else {
                return Err(Denied::Room);
            };
            self.forget(longest);
        }
        Ok(self.known.entry(address).or_insert(Known {
            open: 0,
            bucket: self.rules.handshakes.map(|rate| Bucket::full(now, rate)),
            idle: None,
        }))
    }

    /// Puts an address where it belongs, after something was heard of it.
    fn settle(&mut self, now: Time, address: IpAddr) {
        let Some(known) = self.known.get_mut(&address) else {
            return;
        };
        if let Some(since) = known.idle.take() {
            self.idle.remove(&(since, address));
        }
        if known.open > 0 {
            return;
        }
        let counted = known.bucket.zip(self.rules.handshakes);
        if counted.is_none_or(|(bucket, rate)| bucket.is_full(now, rate)) {
            self.known.remove(&address);
        } else {
            known.idle = Some(now);
            self.idle.insert((now, address));
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(since) = self.known.remove(&address).and_then(|known| known.idle) {
            self.idle.remove(&(since, address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use core::time::Duration;
    use proptest::prelude::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
    }

    fn book(connections: Option<usize>, handshakes: Option<usize>, most: usize) -> Addresses {
        Addresses::new(Rules {
            connections,
            handshakes,
            most,
        })
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_a_freed_one_again() {
        let mut book = book(Some(2), None, 9);
        let (now, one) = (Time::ZERO, address(1));
        assert_eq!((book.open(now, one), book.open(now, one)), (Ok(()), Ok(())));
        assert_eq!(book.open(now, one), Err(Denied::Connections));
        assert_eq!(book.open(now, address(2)), Ok(()), "another has its own");
        book.close(now, one);
        assert_eq!(book.open(now, one), Ok(()));
        assert_eq!(book.open(now, one), Err(Denied::Connections));
        for of in [one, one, address(2)] {
            book.close(now, of);
        }
        assert_eq!(book.count(), 0, "nothing is kept of who has nothing");
    }

    #[test]
    fn other_rules_take_nothing_from_anybody_and_a_new_bucket_is_full() {
        let mut book = book(Some(3), None, 9);
        let (now, one) = (Time::ZERO, address(1));
        (0..3).for_each(|_| book.open(now, one).unwrap());
        let rules = |connections, handshakes| Rules {
            connections,
            handshakes,
            most: 9,
        };
        book.set_rules(now, rules(Some(1), Some(1)));
        assert_eq!((book.handshake(now, one), book.handshake(now, one)), (Ok(()), Ok(())));
        assert_eq!(book.handshake(now, one), Err(Denied::Handshakes));
        book.close(now, one);
        book.close(now, one);
        assert_eq!(book.open(now, one), Err(Denied::Connections), "one is there");
        book.close(now, one);
        assert_eq!(book.open(now, one), Ok(()));
        book.set_rules(now, rules(None, None));
        book.close(now, one);
        assert_eq!(book.open(now + HANDSHAKE_BURST, address(2)), Ok(()));
        book.close(now + HANDSHAKE_BURST, address(2));
        assert_eq!(book.count(), 0);
    }

    #[test]
    fn handshakes_of_two_seconds_come_at_once_and_then_at_the_rate() {
        let mut book = book(None, Some(3), 9);
        let one = address(1);
        for _ in 0..6 {
            assert_eq!(book.handshake(Time::ZERO, one), Ok(()));
        }
        assert_eq!(book.handshake(Time::ZERO, one), Err(Denied::Handshakes));
        assert_eq!(
            book.handshake(Time::from_nanos(333_333_333), one),
            Err(Denied::Handshakes)
        );
        assert_eq!(book.handshake(Time::from_nanos(333_333_334), one), Ok(()));
        assert_eq!(
            book.handshake(Time::from_nanos(333_333_335), one),
            Err(Denied::Handshakes)
        );
        assert_eq!(book.handshake(Time::from_millis(1_000), one), Ok(()));
        assert_eq!(book.handshake(Time::from_millis(1_000), one), Ok(()));
        assert_eq!(book.handshake(Time::from_millis(1_000), one), Err(Denied::Handshakes));
    }

    #[test]
    fn the_one_that_was_idle_longest_is_forgotten_and_nobody_with_connections() {
        let mut book = book(Some(5), Some(1), 2);
        let at = Time::from_millis;
        assert_eq!(book.open(at(0), address(1)), Ok(()));
        assert_eq!(book.handshake(at(1), address(2)), Ok(()));
        assert_eq!(book.handshake(at(2), address(3)), Ok(()), "in the place of 2");
        assert_eq!(book.count(), 2);
        assert_eq!(book.open(at(3), address(4)), Ok(()), "in the place of 3");
        assert_eq!(book.open(at(4), address(5)), Err(Denied::Room));
        assert_eq!(book.handshake(at(4), address(5)), Err(Denied::Room));
        assert_eq!(book.open(at(5), address(1)), Ok(()), "who is known has room");
        book.close(at(6), address(4));
        assert_eq!(book.open(at(7), address(5)), Ok(()));
        assert_eq!(book.count(), 2);
    }

    #[test]
    fn of_two_that_are_idle_the_later_is_remembered() {
        let mut book = book(None, Some(1), 2);
        let at = Time::from_millis;
        for (time, number) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
            assert_eq!(book.handshake(at(time), address(number)), Ok(()));
        }
        assert_eq!(book.handshake(at(4), address(3)), Ok(()), "in the place of 1");
        assert_eq!(book.handshake(at(5), address(2)), Err(Denied::Handshakes));
        assert_eq!(
            book.handshake(at(6), address(1)),
            Ok(()),
            "in the place of 3: 2 was heard of later"
        );
        assert_eq!(book.handshake(at(7), address(2)), Err(Denied::Handshakes));
    }

    #[test]
    fn an_address_is_forgotten_when_its_bucket_is_full_again() {
        let mut book = book(None, Some(1), 100);
        for number in 0..50 {
            assert_eq!(book.handshake(Time::ZERO, address(number)), Ok(()));
        }
        assert_eq!(book.count(), 50);
        let later = Time::ZERO + HANDSHAKE_BURST;
        for _ in 0..30 {
            let _ = book.handshake(later, address(99));
        }
        assert_eq!(book.count(), 1);
    }

    /// The same without order, sets or forgetting that nobody sees: everything is looked for.
    struct Naive {
        rules: Rules,
        all: Vec<(IpAddr, usize, Vec<Time>, Time)>,
    }

    impl Naive {
        /// Whether one more handshake is allowed: no span of time that ends now has had more than its rate and the burst.
        fn allows(&self, now: Time, begun: &[Time]) -> bool {
            let Some(rate) = self.rules.handshakes else { return true };
            (0..begun.len()).chain([begun.len()]).all(|from| {
                let first = begun.get(from).copied().unwrap_or(now);
                let span = u128::from(now.as_nanos() - first.as_nanos());
                let (count, rate) = ((begun.len() - from + 1) as u128, rate as u128);
                count * 1_000_000_000 <= rate * (span + HANDSHAKE_BURST.as_nanos())
            })
        }

        fn place(&mut self, now: Time, address: IpAddr) -> Result<usize, Denied> {
            if let Some(index) = self.all.iter().position(|known| known.0 == address) {
                return Ok(index);
            }
            // Who is idle for so long that nobody could tell is not there.
            self.all
                .retain(|(_, open, _, heard)| *open > 0 || now.since(*heard) < HANDSHAKE_BURST);
            if self.all.len() >= self.rules.most {
                let idle = self.all.iter().filter(|known| known.1 == 0);
                let longest = idle.map(|known| (known.3, known.0)).min().ok_or(Denied::Room)?;
                self.all.retain(|known| known.0 != longest.1);
            }
            self.all.push((address, 0, Vec::new(), now));
            Ok(self.all.len() - 1)
        }

        fn open(&mut self, now: Time, address: IpAddr) -> Result<(), Denied> {
            let index = self.place(now, address)?;
            if self.rules.connections.is_some_and(|most| self.all[index].1 >= most) {
                return Err(Denied::Connections);
            }
            self.all[index].1 += 1;
            Ok(())
        }

        fn close(&mut self, now: Time, address: IpAddr) {
            let Some(index) = self.all.iter().position(|known| known.0 == address) else {
                return;
            };
            self.all[index].1 -= 1;
            self.all[index].3 = now;
            if self.all[index].1 == 0 && self.is_full(now, index) {
                self.all.remove(index);
            }
        }

        fn handshake(&mut self, now: Time, address: IpAddr) -> Result<(), Denied> {
            if self.rules.handshakes.is_none() {
                return Ok(());
            }
            let index = self.place(now, address)?;
            self.all[index].3 = now;
            let allowed = self.allows(now, &self.all[index].2);
            if allowed {
                self.all[index].2.push(now);
            }
            allowed.then_some(()).ok_or(Denied::Handshakes)
        }

        /// Whether the whole burst is there: as many handshakes as it holds could come now.
        fn is_full(&self, now: Time, index: usize) -> bool {
            let Some(rate) = self.rules.handshakes else { return true };
            let mut begun = self.all[index].2.clone();
            (0..rate * 2).all(|_| {
                let allowed = self.allows(now, &begun);
                begun.push(now);
                allowed
            }) && self.all[index].2.iter().all(|time| {
                let count = self.all[index].2.iter().filter(|other| *other >= time).count() as u128;
                count * 1_000_000_000 <= rate as u128 * u128::from(now.as_nanos() - time.as_nanos())
            })
        }
    }

    proptest! {
        /// Whatever comes in whatever order, nobody gets more or less than by the plain rules.
        #[test]
        fn it_is_what_the_plain_rules_say(
            rules in (prop::option::of(1..4_usize), prop::option::of(1..4_usize), 1..5_usize),
            // Crowded, so that every limit is met: mostly handshakes, mostly at once.
            steps in prop::collection::vec(
                (0..6_u8, 0..5_u8, prop_oneof![6 => Just(0), 3 => 1..60_u64, 1 => 1..900_u64]),
                1..120,
            ),
        ) {
            let rules = Rules { connections: rules.0, handshakes: rules.1, most: rules.2 };
            let (mut book, mut naive) = (Addresses::new(rules), Naive { rules, all: Vec::new() });
            let mut open: Vec<IpAddr> = Vec::new();
            let mut now = Time::ZERO;
            for (kind, number, pause) in steps {
                now = now + Duration::from_millis(pause);
                match kind {
                    0 | 1 => {
                        let (found, expected) = (book.open(now, address(number)), naive.open(now, address(number)));
                        prop_assert_eq!(found, expected);
                        open.extend(found.ok().map(|()| address(number)));
                    }
                    2..=4 => prop_assert_eq!(book.handshake(now, address(number)), naive.handshake(now, address(number))),
                    _ if open.is_empty() => {}
                    _ => {
                        let address = open.swap_remove(usize::from(number) % open.len());
                        book.close(now, address);
                        naive.close(now, address);
                    }
                }
                prop_assert!(book.count() <= rules.most);
            }
            for address in open.drain(..) {
                book.close(now, address);
            }
            let later = now + HANDSHAKE_BURST;
            for number in 0..6 {
                let _ = book.handshake(later, address(number));
                let _ = book.handshake(later, address(number));
            }
            prop_assert!(rules.handshakes.is_some() || book.count() == 0, "nobody is remembered");
        }
    }
}
