//! What one address has of greenroom, counted where clients come in.
//!
//! The book of `greenroom_core::addresses` behind one short lock: it is taken when a connection begins, when it ends,
//! and for the head of a handshake, never while a client waits or is relayed; and not at all while no limit is
//! configured. A connection is in the book as long as its [`Counted`] lives. Bounded by `ADDRESSES_MAX`, or by the
//! connections that there can be, so that nobody is refused for want of a line in it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use greenroom_core::addresses::{Addresses, Denied, Rules};
use greenroom_core::event::Refusal;
use greenroom_core::limits::ADDRESSES_MAX;

use crate::clock;
use crate::config::Limits;
use crate::front::address_prefix;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct AddressBook {
    kept: ArcSwap<Kept>,
    /// Addresses that are remembered.
    most: usize,
    book: Mutex<Addresses>,
}

/// What is kept to.
#[derive(Debug)]
struct Kept {
    rules: Rules,
    bits: (u8, u8),
}

impl Kept {
    fn of(limits: &Limits, most: usize) -> Self {
        let rules = Rules {
            connections: limits.connections_per_address,
            handshakes: limits.handshakes_per_address,
            most,
        };
        let bits = limits.address_bits;
        Self { rules, bits }
    }
}

impl AddressBook {
    /// For a process that can have `connections` at one time.
    pub(crate) fn new(limits: &Limits, connections: usize) -> Arc<Self> {
        let most = ADDRESSES_MAX.max(connections);
        let kept = Kept::of(limits, most);
        Arc::new(Self {
            book: Mutex::new(Addresses::new(kept.rules)),
            kept: ArcSwap::from_pointee(kept),
            most,
        })
    }

    /// Keeps to other limits from now on. Connections that were not counted, as there was no limit, stay uncounted.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        let kept = Kept::of(limits, self.most);
        self.lock().set_rules(clock::now(), kept.rules);
        self.kept.store(Arc::new(kept));
    }

    /// A connection from there begins. `None`: nobody counts them.
    pub(crate) fn open(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Box<Counted>>, Refusal> {
        let kept = self.kept.load();
        if kept.rules.connections.is_none() {
            return Ok(None);
        }
        let address = address_prefix(peer, kept.bits);
        self.lock().open(clock::now(), address).map_err(refusal)?;
        Ok(Some(Box::new(Counted {
            book: Arc::clone(self),
            address,
        })))
    }

    /// A handshake from there begins.
    pub(crate) fn handshake(&self, peer: IpAddr) -> Result<(), Refusal> {
        let kept = self.kept.load();
        if kept.rules.handshakes.is_none() {
            return Ok(());
        }
        let address = address_prefix(peer, kept.bits);
        self.lock().handshake(clock::now(), address).map_err(refusal)
    }

    /// How the log calls the address of a peer: as it is counted.
    pub(crate) fn name(&self, peer: IpAddr) -> String {
        let (v4, v6) = self.kept.load().bits;
        let address = address_prefix(peer, (v4, v6));
        let bits = if address.is_ipv4() { v4 } else { v6 };
        format!("the address is {address}/{bits}")
    }

    fn lock(&self) -> MutexGuard<'_, Addresses> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(denied: Denied) -> Refusal {
    match denied {
        Denied::Connections => Refusal::ConnectionsOfAddress,
        Denied::Handshakes => Refusal::HandshakeRate,
        Denied::Room => Refusal::Connections,
    }
}

/// One connection of an address, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    book: Arc<AddressBook>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.book.lock().close(clock::now(), self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_counted_is_so_until_its_end_and_a_network_counts_as_one() {
        let limits = Limits {
            connections_per_address: Some(2),
            address_bits: (24, 64),
            ..Limits::default()
        };
        let book = AddressBook::new(&limits, 8);
        let open = |text: &str| book.open(text.parse().unwrap());
        let (first, second) = (open("10.0.0.1").unwrap(), open("10.0.0.2").unwrap());
        assert!(first.is_some() && second.is_some());
        assert_eq!(open("10.0.0.3").err(), Some(Refusal::ConnectionsOfAddress));
        assert_eq!(open("::ffff:10.0.0.3").err(), Some(Refusal::ConnectionsOfAddress));
        assert!(open("10.0.1.1").is_ok());
        assert_eq!(book.name("10.0.0.3".parse().unwrap()), "the address is 10.0.0.0/24");
        drop(first);
        assert!(open("10.0.0.3").is_ok());
        drop(second);
        assert_eq!(book.lock().count(), 0);
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let book = AddressBook::new(&Limits::default(), 8);
        let peer = "10.0.0.1".parse().unwrap();
        assert!(book.open(peer).unwrap().is_none());
        assert!((0..100_000).all(|_| book.handshake(peer).is_ok()));
        assert_eq!(book.lock().count(), 0);
    }
}
