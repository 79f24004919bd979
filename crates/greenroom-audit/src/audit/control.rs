//! Whether a server fails clients because many come at once, and not because of its start. Pure.
//!
//! A client that hears nothing, or loses something, until its patience ends may have met a server that is not ready, that loses
//! messages, or that has too much to do. Looking at it does not tell these apart; an experiment does. So where enough clients were
//! failed like that, *control starts* follow, the same in everything but that a tenth as many clients come. What fails
//! these as well is no matter of how many they are. What fails clearly fewer of them (the 99.99 % intervals of both shares
//! lie apart) is: the server is *overrun*. They come later than the others, and a server may be better by then, as what it reads
//! is in a cache: so in the end as many as at first come once more, and must be failed again.
//!
//! Each way in which clients of a zone were failed is looked at by itself first, as a server may be not ready and overrun: what
//! happens in the control starts too is left out. Bounds: [`limits::AUDIT_CONTROL_STARTS`], and none where they could not tell.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::side::Side;
use super::stats::Share;
use crate::limits;

/// Clients that were failed, of all of which something is known: with as many as were asked for, and with few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Clients of each of them.
    pub each: u64,
    /// What load may have done in the starts of the audit.
    pub failures: Vec<Failure>,
    /// After the control starts, with as many clients as in the others: those that were failed in the ways that are open.
    #[serde(default)]
    pub again: Option<Share>,
}

/// Whether a server that cannot keep up does this to a client: it, or what stands in front of it, has no answer in time, to
/// the handshake, to what was said, or to a part of it.
#[must_use]
pub const fn is_load(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Hung | Outcome::Unanswered | Outcome::Lost | Outcome::Status(503 | 504)
    )
}

/// How many clients a control start has, of one with `clients`; `None`: they are few already.
#[must_use]
pub fn clients_of(clients: u32) -> Option<u32> {
    let each = (clients / limits::AUDIT_CONTROL_PART).max(limits::AUDIT_CONTROL_LEAST);
    (each <= clients / 2).then_some(each)
}

impl Compared {
    /// Fewer of the few are failed than of the many, and it is no chance.
    fn is_apart(&self) -> bool {
        self.few.high < self.many.low
    }
}

impl Failure {
    /// Nothing speaks against the number of clients being why.
    fn is_open(&self) -> bool {
        self.clients.few.hits < limits::AUDIT_CONTROL_FAILED || self.clients.is_apart()
    }
}

impl Control {
    /// Of the starts of a side, and of its control starts with `each` clients, if there were any yet.
    #[must_use]
    pub fn of(many: &Side, few: &Side, each: u32) -> Self {
        let mut failures = Vec::new();
        for zone in [Zone::Ready, Zone::Race] {
            let [in_many, in_few] = [in_zone(many, zone), in_zone(few, zone)];
            for &(outcome, _) in in_many.iter().filter(|(outcome, _)| is_load(*outcome)) {
                let clients = Compared {
                    many: share(&in_many, |one| one == outcome),
                    few: share(&in_few, |one| one == outcome),
                };
                failures.push(Failure { zone, outcome, clients });
            }
        }
        Self {
            starts: few.runs.len() as u64,
            each: u64::from(each),
            failures,
            again: None,
        }
    }

    /// With what a last start showed, in which as many clients came as before.
    #[must_use]
    pub fn and_again(self, last: &Side) -> Self {
        let (mut hits, mut of) = (0, 0);
        for zone in [Zone::Ready, Zone::Race] {
            let of_zone = in_zone(last, zone);
            let is_open = |one: &Failure| one.zone == zone && one.is_open();
            let open: Vec<_> = self.failures.iter().filter(|one| is_open(one)).collect();
            if !open.is_empty() {
                let failed = share(&of_zone, |outcome| open.iter().any(|one| one.outcome == outcome));
                (hits, of) = (hits + failed.hits, of + failed.of);
            }
        }
        Self {
            again: Some(Share::new(hits, of)),
            ..self
        }
    }

    /// All failures against which nothing speaks, as one.
    #[must_use]
    pub fn open(&self) -> Compared {
        let open = || self.failures.iter().filter(|failure| failure.is_open());
        let together = |pick: fn(&Compared) -> Share| {
            let zones = [Zone::Ready, Zone::Race].into_iter();
            let of = zones.filter_map(|zone| open().find(|failure| failure.zone == zone));
            let hits = open().map(|failure| pick(&failure.clients).hits);
            Share::new(hits.sum(), of.map(|failure| pick(&failure.clients).of).sum())
        };
        Compared {
            many: together(|clients| clients.many),
            few: together(|clients| clients.few),
        }
    }

    /// Whether this became of clients of this zone because many came.
    #[must_use]
    pub fn is_overrun(&self, zone: Zone, outcome: Outcome) -> bool {
        let failures = self.failures.iter();
        let mut these = failures.filter(|failure| (failure.zone, failure.outcome) == (zone, outcome));
        these.any(Failure::is_open) && self.is_apart() && self.is_again()
    }

    /// Whether few were failed clearly less often than many: then it is worth a look whether many still are.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.open().is_apart()
    }

    /// Whether as many clients as before were failed as before.
    fn is_again(&self) -> bool {
        let before = self.open().many;
        let again = self.again;
        again.is_some_and(|again| again.hits > 0 && again.high >= before.low)
    }

    /// Whether another control start may still tell something.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        let left = limits::AUDIT_CONTROL_STARTS.saturating_sub(self.starts);
        let open = self.open();
        let at_best = Share::new(open.few.hits, open.few.of + left * self.each);
        left > 0 && !open.is_apart() && at_best.high < open.many.low
    }
}

/// How many of all of which something is known had an outcome that fits.
fn share(outcomes: &[(Outcome, u64)], fits: impl Fn(Outcome) -> bool) -> Share {
    let (mut hits, mut of) = (0, 0);
    for &(outcome, clients) in outcomes.iter().filter(|(outcome, _)| *outcome != Outcome::Unknown) {
        of += clients;
        hits += if fits(outcome) { clients } else { 0 };
    }
    Share::new(hits, of)
}

/// What became of those that came in this zone. Of starts that never became ready nothing is concluded where others did.
fn in_zone(side: &Side, zone: Zone) -> Vec<(Outcome, u64)> {
    match zone {
        Zone::Race if side.ready.is_some() => side.early.clone(),
        _ => side.most(zone, |_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::plan::Dice;
    use proptest::prelude::*;

    type Counts = (u64, u64);

    fn failure(zone: Zone, outcome: Outcome, many: Counts, few: Counts) -> Failure {
        let clients = Compared {
            many: Share::new(many.0, many.1),
            few: Share::new(few.0, few.1),
        };
        Failure { zone, outcome, clients }
    }

    fn control(starts: u64, failures: &[Failure]) -> Control {
        Control {
            starts,
            each: 10,
            failures: failures.to_vec(),
            again: Some(Share::new(60, 100)),
        }
    }

    /// Clients that were never answered, early ones and later ones.
    fn unanswered(starts: u64, race: [Counts; 2], ready: [Counts; 2]) -> Control {
        let of = |zone, counts: [Counts; 2]| failure(zone, Outcome::Unanswered, counts[0], counts[1]);
        let failures = [of(Zone::Race, race), of(Zone::Ready, ready)];
        let seen = failures.into_iter().filter(|failure| failure.clients.many.hits > 0);
        let told = control(starts, &seen.collect::<Vec<_>>());
        let again = Some(told.open().many);
        Control { again, ..told }
    }

    fn is_overrun(control: &Control) -> [bool; 2] {
        [Zone::Race, Zone::Ready].map(|zone| control.is_overrun(zone, Outcome::Unanswered))
    }

    #[test]
    fn who_answers_all_of_few_and_not_of_many_is_overrun_in_both_zones() {
        // Streamlit behind greenroom, with a hundred clients a start.
        let (race, ready) = ((154, 304), (283, 283));
        let asked = unanswered(0, [race, (0, 0)], [ready, (0, 0)]);
        assert!(
            asked.goes_on() && is_overrun(&asked) == [false; 2],
            "nothing is known yet"
        );
        let told = unanswered(4, [race, (0, 20)], [ready, (0, 20)]);
        assert!(is_overrun(&told) == [true; 2] && !told.goes_on());
        assert!(!told.is_overrun(Zone::Cold, Outcome::Unanswered) && !told.is_overrun(Zone::Ready, Outcome::Hung));
        // Nobody at all may come early in the control starts, as in the others: who does is failed by the same.
        assert_eq!(
            is_overrun(&unanswered(9, [(3, 9), (0, 0)], [(80, 200), (0, 90)])),
            [true; 2]
        );
    }

    #[test]
    fn who_fails_few_as_well_is_not_ready_and_one_start_tells() {
        let told = unanswered(1, [(120, 120), (4, 4)], [(0, 300), (0, 6)]);
        assert!(is_overrun(&told) == [false; 2] && !told.goes_on());
    }

    #[test]
    fn a_server_may_be_not_ready_and_overrun() {
        // Early ones have 503, and those of them that come last wait in vain as all later ones do.
        let busy = Outcome::Status(503);
        let told = control(
            3,
            &[
                failure(Zone::Race, busy, (120, 150), (12, 14)),
                failure(Zone::Race, Outcome::Unanswered, (20, 150), (0, 14)),
                failure(Zone::Ready, Outcome::Unanswered, (150, 300), (0, 30)),
            ],
        );
        assert!(!told.is_overrun(Zone::Race, busy));
        assert_eq!(is_overrun(&told), [true; 2]);
        assert_eq!((told.open().many.hits, told.open().many.of), (170, 450));
    }

    #[test]
    fn some_of_few_may_be_failed_where_nearly_all_of_many_are() {
        assert!(is_overrun(&unanswered(5, [(0, 0), (0, 0)], [(290, 300), (8, 50)]))[1]);
    }

    #[test]
    fn a_server_that_is_better_by_then_is_not_overrun() {
        // The first start reads all from a disk; those behind it are quick, with few and with many.
        let warm = |again| Control {
            again,
            ..unanswered(5, [(0, 0), (0, 0)], [(90, 300), (0, 50)])
        };
        assert!(is_overrun(&warm(Some(Share::new(30, 100))))[1]);
        assert!(
            is_overrun(&warm(Some(Share::new(9, 100))))[1],
            "it may be chance that they are fewer"
        );
        for not in [
            None,
            Some(Share::new(0, 100)),
            Some(Share::new(1, 100)),
            Some(Share::new(0, 0)),
        ] {
            assert!(!is_overrun(&warm(not))[1], "{not:?}");
        }
    }

    #[test]
    fn there_is_no_control_start_that_could_tell_nothing() {
        let ready = |starts, many, few| unanswered(starts, [(0, 0), (0, 0)], [many, few]);
        let seldom = ready(0, (1, 284), (0, 0));
        assert!(!seldom.goes_on() && is_overrun(&seldom) == [false; 2]);
        assert!(!ready(0, (0, 284), (0, 0)).goes_on());
        let over = ready(limits::AUDIT_CONTROL_STARTS, (60, 284), (2, 60));
        assert!(!over.goes_on(), "there is an end to it");
        assert_eq!([9, 10, 60, 200].map(clients_of), [None, Some(5), Some(6), Some(20)]);
    }

    #[test]
    fn only_what_load_does_counts_and_nobody_of_whom_nothing_is_known() {
        use crate::audit::sample::{self, PATIENCE, client, closed, ended};
        let clients = (0..40).map(|n| {
            let at = 300 + 10 * u64::from(n);
            match n {
                10..=13 => ended(n, at, crate::audit::record::Ending::Status(503)),
                14..=19 => ended(n, at, closed(1011)),
                20 => ended(n, at, crate::audit::record::Ending::Failed("no port".into())),
                _ => client(n, at, at + 1, at + 1),
            }
        });
        let side = Side::of(&[sample::run(0, clients.collect())], PATIENCE);
        let told = Control::of(&side, &Side::of(&[], PATIENCE), 5);
        let busy = failure(Zone::Ready, Outcome::Status(503), (4, 38), (0, 0));
        assert_eq!(told.failures, [busy], "two came before the first answer or are unknown");
    }

    proptest! {
        /// Whom it fails at random, whatever their number, it fails in control starts too.
        #[test]
        fn a_server_that_fails_some_at_random_is_not_overrun(seed: u64, part in 0.02..1.0_f64) {
            let mut dice = Dice::new(seed, 6);
            let mut failed = |of: u64| (0..of).filter(|_| dice.unit() < part).count() as u64;
            let many = [(failed(200), 200), (failed(400), 400)];
            let (mut race, mut ready) = ((0, 0), (0, 0));
            let mut starts = 0;
            loop {
                let told = unanswered(starts, [many[0], race], [many[1], ready]);
                prop_assert!(is_overrun(&told) == [false; 2], "{told:?}");
                if !told.goes_on() {
                    break;
                }
                starts += 1;
                race = (race.0 + failed(4), race.1 + 4);
                ready = (ready.0 + failed(6), ready.1 + 6);
            }
        }
    }
}
