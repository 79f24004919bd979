//! What a scrape sees of each backend: of its name, whoever has or had it.
//!
//! A reload may give a name to another backend, or to none. What was counted under a name stays counted there as long as the
//! configuration has it or somebody is with one that had it; then it goes to what all such names have in common ([`GONE`]). So
//! no counter falls and none is lost, and a name for each deploy does not grow for ever. Bounded by the configuration, and by
//! the connections that keep old backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Asked, Standing};
use crate::driver::{Measured, Tally};
use crate::front::Backend;
use crate::registry::{GONE, Sum, Sums};

/// Looks at backends of which one has ended meanwhile, before it is left out.
const LOOKS: usize = 5;

/// What owner tasks that are over have counted, by the names of their backends.
#[derive(Clone, Debug, Default)]
pub struct Ended(BTreeMap<Box<str>, Tally>);

impl Ended {
    /// With what one has counted that ends now.
    pub(crate) fn add(&mut self, name: &str, tally: &Tally) {
        self.0.entry(name.into()).or_insert_with(Tally::new).add(tally);
    }

    /// Puts together what was counted of all of whom nobody knows the name any more.
    pub(crate) fn fold(&mut self, is_known: impl Fn(&str) -> bool) {
        for (name, tally) in std::mem::take(&mut self.0) {
            self.add(if is_known(&name) { &name } else { GONE }, &tally);
        }
    }
}

/// What is seen of all that have had one name.
pub(super) struct Seen {
    pub(super) name: Box<str>,
    /// How the backend stands that has it, if the configuration has it.
    pub(super) standing: Option<Box<Measured>>,
    /// Who is there, if anybody can be.
    pub(super) here: Option<Here>,
    pub(super) tally: Tally,
    pub(super) traffic: Sum,
}

/// Who is with backends of one name, old ones too.
#[derive(Default)]
pub(super) struct Here {
    pub(super) websocket: usize,
    pub(super) http: usize,
    pub(super) oldest_ms: u64,
    pub(super) dialing: usize,
    pub(super) early: usize,
}

impl Seen {
    /// All of them, and the house as it stood then.
    pub(super) async fn all(asked: &Asked) -> (Arc<Standing>, Vec<Self>) {
        // Before the house: so a name that it knows has all that was counted under it, and none is counted twice.
        let mut traffic = asked.registry.traffic();
        let mut looks = 1;
        let (house, backends) = loop {
            let house = asked.house();
            let backends = measured(&house).await;
            let all = house.backends.len() + house.old.len();
            if backends.len() == all || looks == LOOKS {
                break (house, backends);
            }
            looks += 1; // one has ended: what it has counted is in the house that stands now
        };
        traffic.fold(|name| house.knows(name));
        let seen = gathered(&house, backends, &traffic);
        (house, seen)
    }

    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            standing: None,
            here: None,
            tally: Tally::new(),
            traffic: Sum::default(),
        }
    }

    fn add(&mut self, backend: &Backend, measured: &Measured) {
        self.tally.add(&measured.tally);
        let (here, held) = (self.here.get_or_insert_default(), &measured.status.held);
        here.websocket += held.websocket;
        here.http += held.http;
        here.oldest_ms = here.oldest_ms.max(held.oldest_ms.unwrap_or(0));
        here.dialing += measured.status.dialing;
        here.early += backend.early.used_here();
    }
}

type Measure = (Arc<Backend>, Box<Measured>);

/// Each backend that answers, in the order of the configuration, old ones last.
async fn measured(house: &Standing) -> Vec<Measure> {
    let mut all = Vec::new();
    for backend in house.backends.iter().chain(&house.old) {
        let measured = backend.inbox.measured().await;
        all.extend(measured.map(|measured| (Arc::clone(backend), measured)));
    }
    all
}

/// What there is under each name, in the order of the configuration.
fn gathered(house: &Standing, backends: Vec<Measure>, traffic: &Sums) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let place = |all: &mut Vec<Seen>, name: &str| {
        let known = all.iter().position(|seen| *seen.name == *name);
        known.unwrap_or_else(|| {
            all.push(Seen::new(name));
            all.len() - 1
        })
    };
    for (backend, measured) in backends {
        let index = place(&mut all, &backend.name);
        all[index].add(&backend, &measured);
        if house.backends.iter().any(|there| Arc::ptr_eq(there, &backend)) {
            all[index].standing = Some(measured);
        }
    }
    for (name, tally) in &house.ended.0 {
        let index = place(&mut all, name);
        all[index].tally.add(tally);
    }
    for (name, sum) in traffic.iter() {
        let index = place(&mut all, name);
        all[index].traffic = sum;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_under_names_that_are_gone_is_kept_together_and_what_was_under_others_is_kept_apart() {
        let mut tally = Tally::new();
        tally.holds = 1;
        let mut ended = Ended::default();
        for deploy in 0..1_000 {
            ended.add("app", &tally);
            ended.add(&format!("app-{deploy}"), &tally);
            ended.fold(|name| name == "app");
            assert!(ended.0.len() <= 2, "{}", ended.0.len());
        }
        assert_eq!((ended.0["app"].holds, ended.0[GONE].holds), (1_000, 1_000));
    }
}
