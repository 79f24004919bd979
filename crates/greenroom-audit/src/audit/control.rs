//! Whether a server fails clients because many come at once, and not because of its start. Pure.
//!
//! A client that hears nothing, or loses something, until its patience ends may have met a server that is not ready, that loses
//! messages, or that has too much to do. Looking at it does not tell these apart; an experiment does. So where enough clients were
//! failed like that, *control starts* follow, the same in everything but that a tenth as many clients come. What fails
//! these as well is no matter of how many they are; where it fails clearly fewer of them, the server is *overrun*.
//!
//! Clearly means three things, as three things may look like it. The 99.99 % intervals of both shares lie apart: it is no chance that
//! these clients were failed. Most starts with many failed them, and taken as wholes they differ from starts with few: it is not that
//! some starts fail everybody and others nobody. And in the end as many as at first come once more, and are failed again: it is not
//! that all later starts are better, as what they read is in a cache.
//!
//! Each zone, and each way in which clients were failed there, is looked at by itself first, as a server may be not ready and overrun:
//! what becomes of few too is left out. Bounds: [`limits::AUDIT_CONTROL_STARTS`], and none where they could not tell.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::{Outcome, Patience};
use super::record::RunRecord;
use super::side::{Count, Side};
use super::stats::{Share, by_chance};
use crate::limits;

/// Clients that were failed, of all of which something is known: with as many as were asked for, and with few.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// In the starts of the audit.
    pub many: Share,
    /// In the control starts.
    pub few: Share,
}

/// One way in which clients of one zone were failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Where they came.
    pub zone: Zone,
    /// What became of them.
    pub outcome: Outcome,
    /// Of all that came there.
    pub clients: Compared,
}

/// What the control starts of a side show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// How many there were.
    pub starts: u64,
    /// Clients of each of them, on average.
    pub each: u64,
    /// What load may have done, to many or to few.
    pub failures: Vec<Failure>,
    /// Where few were failed more than many, in some way: there the number of clients explains nothing.
    pub turned_round: Vec<Zone>,
    /// The part of the starts of the audit in which more than half of the usual share was failed.
    pub starts_failed: f64,
    /// With what probability starts, each taken as a whole, would differ like that by chance.
    pub chance: f64,
    /// The same if all control starts that may still come fail nobody.
    pub chance_at_best: f64,
    /// After the control starts, with as many clients as in the others: those that were failed like that.
    pub again: Option<Share>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another control start.
    Few,
    /// A last start, with as many clients as in the others.
    Again,
    /// Nothing: it is known, or will not be.
    Over,
}

/// What a server that cannot keep up does to a client: it, or what stands in front of it, has no answer in time, to the handshake, to
/// what was said, or to a part of it.
const LOAD: [Outcome; 5] = [
    Outcome::Hung,
    Outcome::Unanswered,
    Outcome::Lost,
    Outcome::Status(503),
    Outcome::Status(504),
];

/// Whether load may have done this.
pub(super) fn is_load(outcome: Outcome) -> bool {
    LOAD.contains(&outcome)
}

/// How many clients a control start has, where the others have `clients` at the least; `None`: they are few already.
pub(super) fn clients_of(clients: u32) -> Option<u32> {
    let each = (clients / limits::AUDIT_CONTROL_PART).max(limits::AUDIT_CONTROL_LEAST);
    (each <= clients / 2).then_some(each)
}

/// What became of the clients of each start.
#[derive(Debug, Default)]
pub(super) struct Starts(Vec<Vec<Count>>);

impl Starts {
    /// Of the starts with many: of those that never became ready nothing is concluded where others did, as they may fail
    /// everybody whatever their number.
    pub(super) fn with_many(runs: &[RunRecord], patience: Patience) -> Self {
        let all: Vec<Side> = runs
            .iter()
            .map(|run| Side::of(std::slice::from_ref(run), patience))
            .collect();
        let some_ready = all.iter().any(|side| side.ready.is_some());
        let these = all.into_iter().filter(|side| side.ready.is_some() || !some_ready);
        Self(these.map(|side| side.counts).collect())
    }

    /// Of control starts, every one of them: each is a witness.
    pub(super) fn with_few(runs: &[RunRecord], patience: Patience) -> Self {
        let all = runs
            .iter()
            .map(|run| Side::of(std::slice::from_ref(run), patience).counts);
        Self(all.collect())
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        self.0.iter().flatten()
    }

    /// Starts in which a larger share than `share` was failed in ways that fit, and those in which anybody may have been.
    fn failed(&self, share: f64, zones: &[Zone], fits: Fits<'_>) -> (u64, u64) {
        let of_start = |start: &Vec<Count>| {
            let told = of(start.iter(), zones, fits);
            (told.of > 0).then(|| told.seen() > share)
        };
        let told: Vec<bool> = self.0.iter().filter_map(of_start).collect();
        (told.iter().filter(|failed| **failed).count() as u64, told.len() as u64)
    }
}

/// Clients of these zones that were failed in ways that fit, of all of which something is known.
fn of<'a>(counts: impl Iterator<Item = &'a Count>, zones: &[Zone], fits: Fits<'_>) -> Share {
    let (mut hits, mut of) = (0, 0);
    let known = |count: &&Count| zones.contains(&count.zone) && count.outcome != Outcome::Unknown;
    for count in counts.filter(known) {
        of += count.clients;
        if fits(count.zone, count.outcome) {
            hits += count.clients;
        }
    }
    Share::new(hits, of)
}

/// Of a zone and an outcome.
type Fits<'a> = &'a dyn Fn(Zone, Outcome) -> bool;

/// Whether a client was failed, whatever may have done it.
const fn is_bad(outcome: Outcome) -> bool {
    outcome.is_failure() || outcome.is_loss()
}

impl Compared {
    fn of(many: &Starts, few: &Starts, zone: Zone, outcome: Outcome) -> Self {
        let share = |starts: &Starts| of(starts.counts(), &[zone], &|_, one| one == outcome);
        Self {
            many: share(many),
            few: share(few),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            many: self.many.and(other.many),
            few: self.few.and(other.few),
        }
    }

    /// Fewer of the few are failed than of the many, and it is no chance.
    fn is_apart(&self) -> bool {
        self.few.high < self.many.low
    }

    /// None of the few is failed, where some would be if they were as often as the many.
    fn is_silent(&self, few: u64) -> bool {
        self.few.hits == 0 && few as f64 * self.many.seen() >= limits::AUDIT_CONTROL_FAILED as f64
    }

    /// Whether both would be apart with so many more of the few, none of them failed.
    fn may_be_apart(&self, more: u64) -> bool {
        Share::new(self.few.hits, self.few.of + more).high < self.many.low
    }
}

impl Failure {
    /// It became of some of the few too, and that is no accident.
    fn is_contrary(&self) -> bool {
        self.clients.few.hits >= limits::AUDIT_CONTROL_FAILED && !self.clients.is_apart()
    }
}

impl Control {
    /// Of the starts of a side, and of its control starts.
    pub(super) fn of(many: &Starts, few: &Starts) -> Self {
        let mut failures = Vec::new();
        for zone in [Zone::Ready, Zone::Race] {
            for outcome in LOAD {
                let clients = Compared::of(many, few, zone, outcome);
                if clients.many.hits + clients.few.hits > 0 {
                    failures.push(Failure { zone, outcome, clients });
                }
            }
        }
        let bad: BTreeSet<(Zone, Outcome)> = (few.counts())
            .filter(|count| count.zone != Zone::Cold && is_bad(count.outcome))
            .map(|count| (count.zone, count.outcome))
            .collect();
        let is_worse = |&&(zone, outcome): &&(Zone, Outcome)| {
            let clients = Compared::of(many, few, zone, outcome);
            clients.few.low > clients.many.high
        };
        let mut turned_round: Vec<Zone> = bad.iter().filter(is_worse).map(|one| one.0).collect();
        turned_round.dedup();
        let starts = few.0.len() as u64;
        let came: u64 = few.counts().map(|count| count.clients).sum();
        let mut control = Self {
            starts,
            each: (came + starts / 2) / starts.max(1),
            failures,
            turned_round,
            starts_failed: 0.0,
            chance: 1.0,
            chance_at_best: 1.0,
            again: None,
        };
        let told = control.told();
        if told.many.hits > 0 {
            let (zones, half) = (control.told_zones(), told.many.seen() / 2.0);
            let fits = |zone, outcome| control.is_told(zone, outcome);
            let (a, b) = (many.failed(half, &zones, &fits), few.failed(half, &zones, &fits));
            control.starts_failed = a.0 as f64 / a.1.max(1) as f64;
            control.chance = by_chance(a, b);
            control.chance_at_best = by_chance(a, (b.0, b.1 + control.left()));
        }
        control
    }

    /// With what a last start showed, in which as many clients came as before.
    #[must_use]
    pub(super) fn and_again(self, last: &Starts) -> Self {
        let fits = |zone, outcome| self.is_told(zone, outcome);
        let again = of(last.counts(), &self.told_zones(), &fits);
        Self {
            again: Some(again),
            ..self
        }
    }

    /// What is open of this zone: all ways of failing against which nothing speaks. `None`: there is none.
    fn open(&self, zone: Zone) -> Option<Compared> {
        let here = || self.failures.iter().filter(|failure| failure.zone == zone);
        if self.turned_round.contains(&zone) {
            return None;
        }
        let open = here()
            .filter(|failure| !failure.is_contrary())
            .map(|failure| failure.clients);
        // They are of the same clients: what they are of is not added.
        let sum = |one: Share, other: Share| Share::new(one.hits + other.hits, one.of);
        let open = open.reduce(|one, other| Compared {
            many: sum(one.many, other.many),
            few: sum(one.few, other.few),
        });
        open.filter(|open| open.many.hits > 0)
    }

    /// Zones in which the number tells, and what is open of them. It tells by itself, or with the other zone: where none of the few is
    /// failed here, and clearly fewer of the many than there, nothing is left for the start to explain.
    fn zones(&self) -> impl Iterator<Item = (Zone, Compared)> {
        let open = [Zone::Ready, Zone::Race].map(|zone| Some((zone, self.open(zone)?)));
        let tells = |open: &Compared| open.is_apart() || open.is_silent(open.few.of);
        let told = move |&(_, one): &(Zone, Compared)| {
            let others = open.into_iter().flatten().filter(|(_, other)| other.is_apart());
            let is_well = one.few.hits == 0 && one.few.of > 0;
            let is_less = |other: &Compared| is_well && one.many.high < other.many.low;
            tells(&one) || others.map(|(_, other)| other).any(|other| is_less(&other))
        };
        open.into_iter().flatten().filter(told)
    }

    fn told_zones(&self) -> Vec<Zone> {
        self.zones().map(|(zone, _)| zone).collect()
    }

    /// All of these zones together.
    #[must_use]
    fn told(&self) -> Compared {
        let none = Share::new(0, 0);
        let zones = self.zones().map(|(_, open)| open);
        zones
            .reduce(Compared::and)
            .unwrap_or(Compared { many: none, few: none })
    }

    /// Those of them that fit, of all clients of these zones.
    pub(super) fn told_where(&self, fits: Fits<'_>) -> Compared {
        let of = |pick: fn(&Compared) -> Share| {
            let these = || self.failures.iter().filter(|one| fits(one.zone, one.outcome));
            let hits = these().map(|one| pick(&one.clients).hits).sum();
            let zones = [Zone::Ready, Zone::Race].into_iter();
            let zones = zones.filter_map(|zone| these().find(|one| one.zone == zone));
            Share::new(hits, zones.map(|one| pick(&one.clients).of).sum())
        };
        Compared {
            many: of(|clients| clients.many),
            few: of(|clients| clients.few),
        }
    }

    /// Whether this is one of the failures of [`Self::told`].
    fn is_told(&self, zone: Zone, outcome: Outcome) -> bool {
        let mut these = self
            .failures
            .iter()
            .filter(|one| (one.zone, one.outcome) == (zone, outcome));
        these.any(|failure| !failure.is_contrary()) && self.told_zones().contains(&zone)
    }

    /// Whether few were failed clearly less often than many.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.are_clients_apart() && self.is_in_most() && self.chance <= limits::AUDIT_CONTROL_CHANCE
    }

    /// Whether the clients tell, each taken by itself.
    fn are_clients_apart(&self) -> bool {
        self.told().is_apart() || self.zones().any(|(_, open)| open.is_apart())
    }

    /// Whether most starts of the audit failed clients like that.
    fn is_in_most(&self) -> bool {
        self.starts_failed >= limits::AUDIT_CONTROL_MOST
    }

    /// Whether as many clients as before were failed as before.
    fn is_again(&self) -> bool {
        let before = self.told().many;
        self.again
            .is_some_and(|again| again.hits > 0 && again.high >= before.low)
    }

    /// Whether this became of clients of this zone because many came.
    #[must_use]
    pub fn is_overrun(&self, zone: Zone, outcome: Outcome) -> bool {
        self.is_told(zone, outcome) && self.is_apart() && self.is_again()
    }

    /// Whether clients are failed whatever their number: as many of few, in some way.
    #[must_use]
    pub fn fails_few(&self, zone: Zone) -> bool {
        let mut here = self.failures.iter().filter(|failure| failure.zone == zone);
        here.any(Failure::is_contrary)
    }

    fn left(&self) -> u64 {
        limits::AUDIT_CONTROL_STARTS.saturating_sub(self.starts)
    }

    /// What is to be done next, where a control start has so many clients.
    pub(super) fn next(&self, each: u32) -> Next {
        let more = self.left() * u64::from(each);
        let tells = |zone| self.told_zones().contains(&zone);
        let is_missing = |zone| {
            let may = |open: Compared| {
                let with_other = !tells(zone) && open.is_silent(open.few.of + more);
                with_other || (!self.are_clients_apart() && open.may_be_apart(more))
            };
            self.open(zone).is_some_and(may)
        };
        let by_starts = self.are_clients_apart()
            && self.is_in_most()
            && self.chance > limits::AUDIT_CONTROL_CHANCE
            && self.chance_at_best <= limits::AUDIT_CONTROL_CHANCE;
        if self.left() > 0 && (by_starts || [Zone::Ready, Zone::Race].into_iter().any(is_missing)) {
            Next::Few
        } else if self.is_apart() && self.again.is_none() {
            Next::Again
        } else {
            Next::Over
        }
    }
}

#[cfg(test)]
mod tests;
