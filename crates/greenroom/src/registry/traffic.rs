//! What went over connections, by backend: that of the open ones and that of those that are over.
//!
//! A connection's own task writes its figures by load and store, and nobody else counts them: whoever wants a sum reads
//! them all. Bounded by the backends of the configuration and those that somebody is with still: others go into one ([`GONE`]).

use std::collections::HashMap;

use super::record::Record;

/// In the place of a name that no backend has any more, and that no client is with. No backend can be called so.
pub(crate) const GONE: &str = "(gone)";

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

    /// Puts together what went to and from all of whom nobody knows the name any more.
    pub(crate) fn fold(&mut self, is_known: impl Fn(&str) -> bool) {
        let mut gone = Sum::default();
        self.0.retain(|name, sum| {
            let stays = is_known(name);
            if !stays {
                gone.add(*sum);
            }
            stays
        });
        if gone != Sum::default() {
            self.add_to(GONE, gone);
        }
    }

    /// What there is, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Sum)> {
        self.0.iter().map(|(name, &sum)| (&**name, sum))
    }

    /// What went to and from this backend.
    #[must_use]
    pub fn get(&self, backend: &str) -> Sum {
        self.0.get(backend).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use greenroom_core::event::CloseCause;

    use super::*;
    use crate::config::{Flags, Layers, Limits, Purpose, RouteOf, load_bytes};
    use crate::registry::{Asked, Registry};
    use crate::telemetry::{Format, Log};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Whoever adds up while connections write, close and open sees each byte once: the sum never falls, is never more
    /// than was written, and is exact in the end.
    #[test]
    fn what_went_over_connections_is_summed_once_and_never_falls_while_they_close() {
        let (connections, writes) = (50_000_u64, 1_u64);
        let registry = Registry::new(Log::start(Format::Json), 1 << 16, &Limits::default());
        let layers = Layers {
            file: None,
            variables: Vec::new(),
            flags: Flags::default(),
            purpose: Purpose::Serve,
        };
        let text = b"[backend.app]\naddress = \"127.0.0.1:1\"\n".to_vec();
        let config = Arc::new(load_bytes("test.toml", text, &layers).unwrap().config);
        let one = || {
            for _ in 0..connections {
                let mut entry = registry.accept(HERE).unwrap();
                let route = RouteOf::new(&config, 0);
                entry.record().asks(Some(Asked {
                    route,
                    path: "/".into(),
                    known: None,
                }));
                for _ in 0..writes {
                    entry.record().up.add(10, 1);
                    entry.record().down.add(100, 2);
                }
                entry.ends(CloseCause::Silent); // of which the log says nothing
            }
        };
        let (mut last, mut looks) = (Sum::default(), 0);
        std::thread::scope(|scope| {
            let writers = [scope.spawn(one), scope.spawn(one), scope.spawn(one)];
            while !writers.iter().all(|writer| writer.is_finished()) {
                let sum = registry.traffic().get("app");
                assert!(sum.up >= last.up && sum.down >= last.down, "{last:?}, then {sum:?}");
                assert!(sum.up.0 <= 3 * connections * writes * 10, "{sum:?}");
                (last, looks) = (sum, looks + 1);
            }
        });
        let all = 3 * connections * writes;
        let sum = registry.traffic().get("app");
        assert_eq!(
            (sum.up, sum.down),
            ((all * 10, all), (all * 100, all * 2)),
            "{looks} looks"
        );
        assert!(looks > 10, "{looks} looks");
    }
}
