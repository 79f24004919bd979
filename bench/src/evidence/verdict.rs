//! Whether a claim holds, by rules over measured numbers. Pure.
//!
//! The rules say what the words of a claim promise, and nothing of who is measured: the reference and greenroom go through the
//! same ones. What is not a number, or was not measured, never holds.

use super::claims::About;
use super::data::{Crowd, Evidence, Registry, Way};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    InPart,
    DoesNotHold,
    /// For this reason.
    CannotBeTested(&'static str),
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "holds in part",
            Self::DoesNotHold => "does not hold",
            Self::CannotBeTested(_) => "cannot be tested here",
        }
    }
}

/// The verdicts about the reference and about greenroom.
pub(crate) type Both = [Verdict; 2];

/// *Variance* of the claim, in milliseconds, and the improvement that it states.
const VARIANCE: f64 = 3.0;
const IMPROVEMENT: f64 = 0.999;
/// The claimed interval, with what a machine adds to a sleep, in milliseconds.
const INTERVAL: f64 = 105.0;
/// The limit of the report's own test, in milliseconds.
pub(crate) const SCRIPT_LIMIT: f64 = 200.0;
/// From which part of all on a connectivity is reliable in part.
const NEARLY_ALL: f64 = 0.99;

const NOT_MEASURED: Verdict = Verdict::CannotBeTested("it was not measured in this run");
const SOURCE: Verdict =
    Verdict::CannotBeTested("it is about the source of another service, which is no part of this repository");
const DOCUMENT: Verdict =
    Verdict::CannotBeTested("it is about a document of another service, which is no part of this repository");
const SERVICE: Verdict = Verdict::CannotBeTested(
    "it is about a service in production and its business; no measurement of either is given, and none can be made here",
);

pub(crate) fn judge(about: About, evidence: &Evidence) -> Both {
    let (gate, queue, away) = (&evidence.gate, &evidence.queue, &evidence.away);
    match about {
        About::Variance => {
            let spread = |way| evidence.wait(way).map_or(f64::NAN, super::data::Wait::spread);
            [Way::D, Way::GreenroomPushed].map(|after| variance(spread(Way::C), spread(after)))
        }
        About::Interval => {
            let p99 = |way| evidence.wait(way).map_or(f64::NAN, |wait| wait.p99);
            [
                interval(p99(Way::D), &gate.reference),
                interval(p99(Way::GreenroomHttp), &gate.greenroom),
            ]
        }
        About::Queueing => [queueing(&queue.reference), queueing(&queue.greenroom)],
        About::Degradation => [degradation(&away.reference), degradation(&away.greenroom)],
        About::OneManager => [SOURCE, one_manager(&evidence.registry)],
        About::NoFallback => [SOURCE, no_fallback(&gate.greenroom)],
        About::Tests => {
            let found = [&evidence.audit.reference, &evidence.audit.greenroom].map(|side| side.findings.is_empty());
            let spread = evidence.wait(Way::C).map_or(f64::NAN, super::data::Wait::spread);
            let scored = evidence.scripted(Way::C).map_or(f64::NAN, |script| script.spread);
            [tells_apart(scored, spread), covered(evidence.tests.values(), found)]
        }
        About::Reliability => {
            [&evidence.audit.reference, &evidence.audit.greenroom].map(|side| reliable(side.answered, side.known()))
        }
        About::Diagrams => [DOCUMENT, drawn(super::diagrams::all(evidence).len())],
        About::Production => [SERVICE, SERVICE],
    }
}

/// 99.9 % less, and not more than 3 ms.
fn variance(before: f64, after: f64) -> Verdict {
    let improvement = 1.0 - after / before;
    match improvement {
        nothing if !nothing.is_finite() => NOT_MEASURED,
        _ if improvement >= IMPROVEMENT && after <= VARIANCE => Verdict::Holds,
        _ if improvement >= 0.5 => Verdict::InPart,
        _ => Verdict::DoesNotHold,
    }
}

/// The interval is what it is said to be, and the race is gone: nobody refused, nobody let in before it is ready.
fn interval(p99: f64, gate: &Crowd) -> Verdict {
    if gate.clients == 0 || !p99.is_finite() {
        return NOT_MEASURED;
    }
    let gone = gate.refused() == 0 && gate.early == 0 && gate.answered == gate.clients;
    match (p99 <= INTERVAL, gone) {
        (true, true) => Verdict::Holds,
        (true, false) | (false, true) => Verdict::InPart,
        (false, false) => Verdict::DoesNotHold,
    }
}

/// Who comes too early is kept, and served in order.
fn queueing(queue: &Crowd) -> Verdict {
    if queue.clients == 0 {
        return NOT_MEASURED;
    }
    match queue.answered {
        all if all == queue.clients && queue.inversions == 0 && queue.alive == queue.queued => Verdict::Holds,
        0 => Verdict::DoesNotHold,
        _ => Verdict::InPart,
    }
}

/// Whoever cannot be served hears so in a way that says what to do: when to come again.
fn degradation(away: &Crowd) -> Verdict {
    match (away.refused(), away.retry_after) {
        (0, _) => NOT_MEASURED,
        (refused, told) if told == refused && !away.statuses.contains_key("none") => Verdict::Holds,
        (_, 0) => Verdict::DoesNotHold,
        _ => Verdict::InPart,
    }
}

/// One account of all clients, which agrees with theirs and the server's at every moment.
fn one_manager(registry: &Registry) -> Verdict {
    if registry.clients == 0 {
        return NOT_MEASURED;
    }
    let agree = [registry.held, registry.at_the_server, registry.relayed]
        .iter()
        .all(|&count| count == registry.clients);
    if agree && registry.afterwards == 0 {
        Verdict::Holds
    } else {
        Verdict::DoesNotHold
    }
}

/// There is no way past the gate.
fn no_fallback(gate: &Crowd) -> Verdict {
    match (gate.clients, gate.early) {
        (0, _) => NOT_MEASURED,
        (_, 0) => Verdict::Holds,
        _ => Verdict::DoesNotHold,
    }
}

/// A test of the spread fails a routine whose spread is beyond its limit.
fn tells_apart(scored: f64, spread: f64) -> Verdict {
    if !scored.is_finite() || !spread.is_finite() || spread <= SCRIPT_LIMIT {
        return NOT_MEASURED;
    }
    if scored > SCRIPT_LIMIT {
        Verdict::Holds
    } else {
        Verdict::DoesNotHold
    }
}

/// All topics have tests, and the audit finds the fault where there is one, and only there.
fn covered<'a>(mut tests: impl ExactSizeIterator<Item = &'a u64>, without_findings: [bool; 2]) -> Verdict {
    if tests.len() == 0 {
        return NOT_MEASURED;
    }
    match (tests.all(|&count| count > 0), without_findings == [false, true]) {
        (true, true) => Verdict::Holds,
        (true, false) | (false, true) => Verdict::InPart,
        (false, false) => Verdict::DoesNotHold,
    }
}

#[allow(clippy::cast_precision_loss)]
fn reliable(answered: u64, known: u64) -> Verdict {
    match known {
        0 => NOT_MEASURED,
        _ if answered == known => Verdict::Holds,
        _ if answered as f64 >= known as f64 * NEARLY_ALL => Verdict::InPart,
        _ => Verdict::DoesNotHold,
    }
}

/// Of the problem, and of the cure.
fn drawn(diagrams: usize) -> Verdict {
    match diagrams {
        0 => Verdict::DoesNotHold,
        1 => Verdict::InPart,
        _ => Verdict::Holds,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{DoesNotHold, Holds, InPart};
    use super::*;

    /// So many clients, of whom so many got a 101, an answer, or went in early.
    fn crowd(clients: u64, opened: u64, answered: u64, early: u64) -> Crowd {
        let statuses = [("101", opened), ("500", clients - opened)];
        Crowd {
            clients,
            answered,
            early,
            statuses: statuses.map(|(status, count)| (status.to_owned(), count)).into(),
            ..Crowd::default()
        }
    }

    #[test]
    fn variance_holds_only_with_both_of_its_numbers() {
        for (before, after, verdict) in [
            (2_800.0, 2.8, Holds),
            (2_800.0, 2.9, InPart), // less than 99.9 % better
            (9_000.0, 3.1, InPart), // more than 3 ms
            (2_000.0, 100.0, InPart),
            (100.0, 100.0, DoesNotHold),
            (100.0, 200.0, DoesNotHold),
            (f64::NAN, 1.0, NOT_MEASURED),
            (2_800.0, f64::NAN, NOT_MEASURED),
            (0.0, 0.0, NOT_MEASURED),
        ] {
            assert_eq!(variance(before, after), verdict, "{before} → {after}");
        }
    }

    #[test]
    fn an_interval_that_leaves_a_race_does_not_hold() {
        let gone = crowd(9, 9, 9, 0);
        for (p99, gate, verdict) in [
            (100.0, &gone, Holds),
            (500.0, &gone, InPart),
            (100.0, &crowd(9, 9, 9, 1), InPart),
            (100.0, &crowd(9, 8, 8, 0), InPart),
            (100.0, &crowd(9, 9, 8, 0), InPart),
            (500.0, &crowd(9, 8, 8, 1), DoesNotHold),
            (f64::NAN, &gone, NOT_MEASURED),
            (100.0, &Crowd::default(), NOT_MEASURED),
        ] {
            assert_eq!(interval(p99, gate), verdict, "{p99} {gate:?}");
        }
    }

    #[test]
    fn a_queue_holds_when_it_keeps_and_serves_all_in_order() {
        let with = |change: fn(&mut Crowd)| {
            let mut crowd = crowd(9, 9, 9, 0);
            change(&mut crowd);
            crowd
        };
        assert_eq!(queueing(&with(|_| ())), Holds);
        assert_eq!(queueing(&with(|crowd| crowd.inversions = 1)), InPart);
        assert_eq!(queueing(&with(|crowd| crowd.queued = 1)), InPart);
        assert_eq!(queueing(&with(|crowd| crowd.answered = 8)), InPart);
        assert_eq!(queueing(&with(|crowd| crowd.answered = 0)), DoesNotHold);
        assert_eq!(queueing(&Crowd::default()), NOT_MEASURED);
    }

    #[test]
    fn a_refusal_is_graceful_when_it_says_when_to_come_again() {
        for (opened, retry_after, verdict) in [(0, 9, Holds), (0, 8, InPart), (0, 0, DoesNotHold), (9, 0, NOT_MEASURED)]
        {
            let mut crowd = crowd(9, opened, 0, 0);
            crowd.retry_after = retry_after;
            assert_eq!(degradation(&crowd), verdict, "{crowd:?}");
        }
    }

    #[test]
    fn accounts_that_differ_are_not_one() {
        let same = |count| Registry {
            clients: count,
            held: count,
            at_the_server: count,
            relayed: count,
            afterwards: 0,
        };
        assert_eq!(one_manager(&same(9)), Holds);
        assert_eq!(one_manager(&same(0)), NOT_MEASURED);
        for change in [
            |registry: &mut Registry| registry.held = 8,
            |registry: &mut Registry| registry.at_the_server = 10,
            |registry: &mut Registry| registry.relayed = 8,
            |registry: &mut Registry| registry.afterwards = 1,
        ] {
            let mut registry = same(9);
            change(&mut registry);
            assert_eq!(one_manager(&registry), DoesNotHold, "{registry:?}");
        }
    }

    #[test]
    fn the_small_rules_hold_only_with_what_they_promise() {
        assert_eq!(no_fallback(&crowd(9, 9, 9, 0)), Holds);
        assert_eq!(no_fallback(&crowd(9, 9, 9, 1)), DoesNotHold);
        assert_eq!(no_fallback(&Crowd::default()), NOT_MEASURED);
        assert_eq!(tells_apart(2_000.0, 2_000.0), Holds);
        assert_eq!(tells_apart(5.0, 2_000.0), DoesNotHold);
        assert_eq!(tells_apart(5.0, 100.0), NOT_MEASURED);
        assert_eq!(tells_apart(f64::NAN, 2_000.0), NOT_MEASURED);
        assert_eq!(covered([1, 2].iter(), [false, true]), Holds);
        assert_eq!(covered([1, 0].iter(), [false, true]), InPart);
        assert_eq!(covered([1, 2].iter(), [true, true]), InPart);
        assert_eq!(covered([1, 0].iter(), [false, false]), DoesNotHold);
        assert_eq!(covered([].iter(), [false, true]), NOT_MEASURED);
        assert_eq!(reliable(1_000, 1_000), Holds);
        assert_eq!(reliable(999, 1_000), InPart);
        assert_eq!(reliable(989, 1_000), DoesNotHold);
        assert_eq!(reliable(0, 0), NOT_MEASURED);
        assert_eq!([0, 1, 2].map(drawn), [DoesNotHold, InPart, Holds]);
    }
}
