//! What went over connections, by backend: that of the open ones and that of those that are over.
//!
//! A connection's own task writes its figures by load and store, and nobody else counts them: whoever wants a sum reads
//! them all. Bounded by the backends that configurations have named.

use std::collections::HashMap;

use super::record::Record;

/// What went over some connections, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes and whole messages from clients.
    pub up: (u64, u64),
    /// The same from backends.
    pub down: (u64, u64),
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Sums(HashMap<Box<str>, Sum>);

impl Sum {
    fn add(&mut self, other: Self) {
        self.up = (self.up.0 + other.up.0, self.up.1 + other.up.1);
        self.down = (self.down.0 + other.down.0, self.down.1 + other.down.1);
    }
}

impl Sums {
    /// With what went over this connection.
    pub(super) fn add(&mut self, record: &Record) {
        let (up, down) = (record.up.get(), record.down.get());
        let sum = Sum { up, down };
        if sum == Sum::default() {
            return; // no relay, or none that has said a word
        }
        // Nothing passes without a route.
        record.with_route(|route| self.add_to(&route.backend().name, sum));
    }

    /// With what others have added up.
    pub(super) fn extend(&mut self, others: &Self) {
        for (backend, &sum) in &others.0 {
            self.add_to(backend, sum);
        }
    }

    fn add_to(&mut self, backend: &str, sum: Sum) {
        match self.0.get_mut(backend) {
            Some(known) => known.add(sum),
            None => drop(self.0.insert(backend.into(), sum)),
        }
    }

    /// What went to and from this backend.
    #[must_use]
    pub fn get(&self, backend: &str) -> Sum {
        self.0.get(backend).copied().unwrap_or_default()
    }
}
