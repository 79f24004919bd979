//! Tests of what is claimed of lost messages: early, late, both, and all of them.

use super::tests::{MS, PATIENCE, SENDS, client, codes, run};
use super::*;
use crate::audit::record::{ClientRecord, Ending, Stage};

/// `early` of 76 that came before it was ready lost their first message, and `late` of 100 that came when it was.
fn losing(early: u32, late: u32) -> Vec<ClientRecord> {
    let first = |lost: bool| move |index: usize| lost && index == 0;
    let mut clients: Vec<_> = (0..76)
        .map(|n| {
            let mut one = client(n, 300 * MS + u64::from(n) * MS, &SENDS, first(n < early));
            // It is answered late: what comes early waits in its backlog.
            for sent in &mut one.messages {
                sent.answered_at = sent.answered_at.map(|_| 500 * MS + u64::from(n));
            }
            one
        })
        .collect();
    clients.extend((76..176).map(|n| client(n, 501 * MS + u64::from(n) * MS, &SENDS, first(n < 76 + late))));
    clients
}

#[test]
fn losing_early_is_claimed_only_where_it_is_more_than_chance_and_every_loss_is_told() {
    assert!(codes(losing(0, 0)).is_empty());
    assert_eq!(codes(losing(60, 0)), ["loses-early"]);
    // One of 76 is no more than 0 of 100: it is a loss, and no habit of early ones.
    let found = |early, late| findings(&Side::of(&[run(losing(early, late))], PATIENCE), false, None);
    let told = found(1, 0);
    let [Finding::LosesMessages { first, all }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first.hits, first.of, all.hits, all.of), (1, 176, 1, 176 * 6));
    // Later losses are not hidden behind early ones, nor early ones behind them.
    let told = found(70, 3);
    let [Finding::LosesEarly { lost, .. }, Finding::LosesMessages { first, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(((lost.hits, lost.of), (first.hits, first.of)), ((70, 76), (3, 100)));
    assert_eq!(codes(losing(8, 10)), ["loses-messages"]);
}

#[test]
fn who_is_opened_and_never_answered_has_lost_what_it_said_and_that_is_one_finding() {
    let mut clients = losing(0, 0);
    for deaf in &mut clients[..60] {
        deaf.ending = Ending::TimedOut(Stage::Open);
        for sent in &mut deaf.messages {
            sent.answered_at = None;
        }
    }
    let side = Side::of(&[run(clients.clone())], PATIENCE);
    assert_eq!(side.count(Zone::Race, |outcome| outcome == Outcome::Unanswered), 60);
    // Who was failed like that came before it was ready.
    assert!(side.runs[0].edges.ready.unwrap().low_ns >= clients[59].started_at);
    assert_eq!(codes(clients), ["loses-early"]);
}

#[test]
fn silence_that_stops_is_a_matter_of_the_start_and_silence_that_goes_on_is_not() {
    use crate::audit::launcher::Way;
    let found = |silent: &dyn Fn(u32) -> bool| {
        let one = |n: u32| {
            let mut one = client(n, 300 * MS + u64::from(n) * 4 * MS, &SENDS, |_| silent(n));
            if silent(n) {
                one.ending = Ending::TimedOut(Stage::Open);
            }
            one
        };
        let told = findings(&Side::of(&[run((0..200).map(one).collect())], PATIENCE), false, None);
        let [said @ Finding::LeavesUnanswered { .. }] = &told[..] else {
            panic!("{told:?}")
        };
        said.clone()
    };
    let stops = found(&|n| n > 0 && n < 80 && n % 2 == 0);
    assert!(
        stops.is_of_the_start() && stops.sentence().contains("and none of the 121 that came later"),
        "{}",
        stops.sentence()
    );
    assert!(stops.advice(Way::Plain).contains("worker") && stops.advice(Way::Greenroom).contains("too early"));
    let goes_on = found(&|n| n % 7 == 3);
    assert!(
        !goes_on.is_of_the_start() && !goes_on.sentence().contains("came later"),
        "{}",
        goes_on.sentence()
    );
}
