//! Whether a claim holds, by rules over measured numbers. Pure.
//!
//! The rules say what the words of a claim promise, and nothing of who is measured: the reference and greenroom go through the
//! same ones. What is not a number, or was not measured, never holds. So is whether the machine let it be measured: what a disturbed part
//! has to say is told with that.

use super::claims::{About, CLAIMS};
use super::data::{Audited, Crowd, Ended, Evidence, Part, Registry, Tested, Way, What};
use super::parts::QUIET;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    InPart,
    DoesNotHold,
    /// For this reason.
    CannotBeMeasured(&'static str),
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "holds in part",
            Self::DoesNotHold => "does not hold",
            Self::CannotBeMeasured(_) => "cannot be measured",
        }
    }
}

impl Verdict {
    /// The better, the less.
    pub(crate) const fn rank(self) -> usize {
        match self {
            Self::Holds => 0,
            Self::InPart => 1,
            Self::DoesNotHold => 2,
            Self::CannotBeMeasured(_) => 3,
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

const NOT_MEASURED: Verdict = Verdict::CannotBeMeasured("it was not measured in this run");
const SOURCE: Verdict =
    Verdict::CannotBeMeasured("it is about the source of another service, which is no part of this repository");
const DOCUMENT: Verdict =
    Verdict::CannotBeMeasured("it is about a document of another service, which is no part of this repository");
const SERVICE: Verdict = Verdict::CannotBeMeasured(
    "it is about a service in production and its business; no measurement of either is given, and none can be made here",
);
const ITS_PATH: Verdict = Verdict::CannotBeMeasured(
    "it is about how the other parts of a service behave in production, which are no part of this repository",
);
const JUDGEMENT: Verdict = Verdict::CannotBeMeasured("it is praise; what can be measured of its parts stands above");
const NOTHING_AGAINST_IT: Verdict = Verdict::CannotBeMeasured(
    "no measurement shows that nothing is left to do; none of the verdicts above speaks against it",
);

/// From when on a stall touches what is measured, in milliseconds: waits are judged by milliseconds, all else by who got in and who
/// did not, with a patience of seconds.
pub(crate) const STALL_OF_WAITS: f64 = 20.0;
pub(crate) const STALL: f64 = 250.0;

/// The parts that the verdicts about a claim rest on.
const fn rests_on(about: About) -> &'static [What] {
    match about {
        About::Variance => &[What::Waits, What::Script],
        About::Interval => &[What::Waits, What::Gate],
        About::Queueing | About::OneManager => &[What::Queue],
        About::Degradation => &[What::Away],
        About::NoFallback => &[What::Gate],
        About::Tests => &[What::Waits, What::Script, What::Audit, What::Tests],
        About::Reliability | About::Resolved => &[What::Audit],
        About::Diagrams => &[What::Waits, What::Gate, What::Queue],
        About::Documentation => &[What::Waits],
        About::NothingLeft => &[
            What::Waits,
            What::Script,
            What::Gate,
            What::Queue,
            What::Away,
            What::Audit,
            What::Tests,
        ],
        About::Production | About::GoldenPath | About::Example => &[],
    }
}

/// Others used the processors meanwhile, or the machine stood still.
pub(crate) fn is_disturbed(part: &Part) -> bool {
    let most = if matches!(part.what, What::Waits | What::Script) {
        STALL_OF_WAITS
    } else {
        STALL
    };
    part.others_percent >= QUIET || part.longest_stall_ms >= most
}

/// The disturbed parts that a claim's verdicts rest on.
pub(crate) fn disturbed(about: About, evidence: &Evidence) -> Vec<&Part> {
    let of = |part: &&Part| rests_on(about).contains(&part.what) && is_disturbed(part);
    evidence.parts.iter().filter(of).collect()
}

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
            [tells_apart(scored, spread), covered(&evidence.tests, found)]
        }
        About::Reliability => {
            [&evidence.audit.reference, &evidence.audit.greenroom].map(|side| reliable(side.answered, side.known()))
        }
        About::Diagrams => [DOCUMENT, drawn(super::diagrams::all(evidence).len())],
        About::Production => [SERVICE, SERVICE],
        About::Resolved => {
            let of = |side: &Audited| resolved(side.findings.len(), side.known());
            [of(&evidence.audit.reference), of(&evidence.audit.greenroom)]
        }
        About::Documentation => [DOCUMENT, documented(evidence)],
        About::GoldenPath => [ITS_PATH, ITS_PATH],
        About::NothingLeft => against(evidence).map(|against| nothing_left(against.len())),
        About::Example => [JUDGEMENT, JUDGEMENT],
    }
}

/// The numbers of the other claims that do not hold, or only in part.
pub(crate) fn against(evidence: &Evidence) -> [Vec<usize>; 2] {
    let others = (1..)
        .zip(&CLAIMS)
        .filter(|(_, claim)| claim.about != About::NothingLeft);
    let verdicts: Vec<(usize, Both)> = others
        .map(|(number, claim)| (number, judge(claim.about, evidence)))
        .collect();
    [0, 1].map(|side| {
        let fails = |both: &Both| matches!(both[side], Verdict::InPart | Verdict::DoesNotHold);
        let failing = verdicts.iter().filter(|(_, both)| fails(both));
        failing.map(|(number, _)| *number).collect()
    })
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

/// All tests of the phases pass, and the audit finds the fault where there is one, and only there.
fn covered(tests: &[Tested], without_findings: [bool; 2]) -> Verdict {
    if tests.is_empty() {
        return NOT_MEASURED;
    }
    let pass = tests.iter().all(|test| test.ended == Ended::Passed);
    match (pass, without_findings == [false, true]) {
        (true, true) => Verdict::Holds,
        (true, false) | (false, true) => Verdict::InPart,
        (false, false) => Verdict::DoesNotHold,
    }
}

/// The audit finds nothing.
fn resolved(findings: usize, known: u64) -> Verdict {
    match (known, findings) {
        (0, _) => NOT_MEASURED,
        (_, 0) => Verdict::Holds,
        _ => Verdict::DoesNotHold,
    }
}

/// There are metrics of before and after, with the command and the source that they are of.
fn documented(evidence: &Evidence) -> Verdict {
    let measured = |way| evidence.wait(way).is_some_and(|wait| wait.spread().is_finite());
    let metrics = measured(Way::C) && measured(Way::GreenroomPushed);
    let commands = evidence.part(What::Waits).is_some_and(|part| !part.commands.is_empty());
    let source = evidence.revision.is_known() && !evidence.revision.dirty;
    match (metrics, commands && source) {
        (true, true) => Verdict::Holds,
        (true, false) => Verdict::InPart,
        (false, _) => NOT_MEASURED,
    }
}

/// Nothing that was measured speaks against it.
fn nothing_left(against: usize) -> Verdict {
    if against == 0 {
        NOTHING_AGAINST_IT
    } else {
        Verdict::DoesNotHold
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
    use crate::evidence::committed;

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
        let tests = |ends: &[Ended]| -> Vec<Tested> {
            let test = |&ended| Tested {
                phase: String::new(),
                place: String::new(),
                test: String::new(),
                ended,
                took_s: 1.0,
            };
            ends.iter().map(test).collect()
        };
        let (pass, fail) = ([Ended::Passed; 2], [Ended::Passed, Ended::Failed]);
        assert_eq!(covered(&tests(&pass), [false, true]), Holds);
        assert_eq!(covered(&tests(&fail), [false, true]), InPart);
        assert_eq!(covered(&tests(&[Ended::NotFound]), [false, true]), InPart);
        assert_eq!(covered(&tests(&pass), [true, true]), InPart);
        assert_eq!(covered(&tests(&fail), [false, false]), DoesNotHold);
        assert_eq!(covered(&[], [false, true]), NOT_MEASURED);
        assert_eq!(
            [(0, 9), (1, 9), (0, 0)].map(|(found, known)| resolved(found, known)),
            [Holds, DoesNotHold, NOT_MEASURED]
        );
        assert_eq!([nothing_left(0), nothing_left(1)], [NOTHING_AGAINST_IT, DoesNotHold]);
        assert_eq!(reliable(1_000, 1_000), Holds);
        assert_eq!(reliable(999, 1_000), InPart);
        assert_eq!(reliable(989, 1_000), DoesNotHold);
        assert_eq!(reliable(0, 0), NOT_MEASURED);
        assert_eq!([0, 1, 2].map(drawn), [DoesNotHold, InPart, Holds]);
    }
    #[test]
    fn metrics_without_their_source_are_half_a_documentation() {
        let mut evidence = committed();
        evidence.revision.dirty = false;
        assert_eq!(documented(&evidence), Holds);
        evidence.revision.dirty = true;
        assert_eq!(documented(&evidence), InPart);
        evidence.waits.retain(|wait| wait.way != Way::C);
        assert_eq!(documented(&evidence), NOT_MEASURED);
    }

    #[test]
    fn a_busy_machine_and_a_stall_touch_the_verdicts_that_rest_on_them_and_no_other() {
        let mut evidence = committed();
        for part in &mut evidence.parts {
            (part.others_percent, part.longest_stall_ms) = (QUIET - 0.001, STALL_OF_WAITS - 0.001);
        }
        let touched = |evidence: &Evidence| -> Vec<About> {
            let claims = CLAIMS.iter().map(|claim| claim.about);
            claims.filter(|&about| !disturbed(about, evidence).is_empty()).collect()
        };
        assert_eq!(touched(&evidence), []);
        let of = |what: What, others: f64, stall: f64| {
            let mut evidence = evidence.clone();
            let part = evidence.parts.iter_mut().find(|part| part.what == what).unwrap();
            (part.others_percent, part.longest_stall_ms) = (others, stall);
            touched(&evidence)
        };
        let queue = [About::Queueing, About::OneManager, About::Diagrams, About::NothingLeft];
        assert_eq!(of(What::Queue, QUIET, 0.0), queue);
        assert_eq!(of(What::Queue, 0.0, STALL), queue);
        assert_eq!(of(What::Queue, 0.0, STALL - 1.0), []);
        let script = [About::Variance, About::Tests, About::NothingLeft];
        assert_eq!(of(What::Script, 0.0, STALL_OF_WAITS), script);
    }

    #[test]
    fn something_is_left_as_long_as_one_claim_does_not_hold() {
        let mut evidence = committed();
        let [reference, before] = against(&evidence);
        assert!(
            reference.contains(&3),
            "the reference's queue holds nothing: {reference:?}"
        );
        evidence.gate.greenroom.early = 1;
        let [_, after] = against(&evidence);
        assert!(after.contains(&6) && !before.contains(&6), "{before:?} {after:?}");
        assert_eq!(judge(About::NothingLeft, &evidence)[1], DoesNotHold);
    }
}
