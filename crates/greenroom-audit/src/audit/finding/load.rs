//! Tests of what is claimed where control starts show that clients are failed because many come.

use super::tests::{MS, PATIENCE, SENDS, client, run, sends_of};
use super::*;
use crate::audit::control::Starts;
use crate::audit::record::{ClientRecord, Ending, RunRecord, Stage};

/// Every third client is hung, every third never answered, and the rest answered but for their second message; the last are answered.
fn start() -> RunRecord {
    let one = |n: u32| {
        let at = 300 * MS + u64::from(n) * 5 * MS;
        let mut client = match n {
            0..120 => client(n, at, &SENDS, |index| n % 3 < 2 || index == 1),
            _ => client(n, at, &SENDS, |_| false),
        };
        if n < 120 && n.is_multiple_of(3) {
            (client.opened_at, client.messages) = (None, Vec::new());
            client.ending = Ending::TimedOut(Stage::Opening);
        } else if n < 120 && n % 3 == 1 {
            client.ending = Ending::TimedOut(Stage::Open);
        }
        client
    };
    let mut clients: Vec<ClientRecord> = (0..160).map(one).collect();
    // Those of the first tenth of a second came before anybody was answered.
    for early in clients.iter_mut().take(20) {
        for sent in &mut early.messages {
            sent.answered_at = sent.answered_at.map(|at| at.max(400 * MS + 1));
        }
    }
    run(clients)
}

/// What six such starts, eight with few, and one more with many show. Of the few, two of five that come when it is ready have
/// what `few` makes of them.
fn control(run: &RunRecord, few: impl Fn(&mut ClientRecord)) -> Control {
    let came = |n: u32| {
        let mut one = client(n, 300 * MS + u64::from(n) * 30 * MS, &SENDS, |_| false);
        for sent in one.messages.iter_mut().filter(|_| n < 4) {
            sent.answered_at = sent.answered_at.map(|at| at.max(400 * MS + 1));
        }
        if n == 5 || n == 8 {
            few(&mut one);
        }
        one
    };
    let few = RunRecord {
        clients: (0..10).map(came).collect(),
        ..run.clone()
    };
    let many = Starts::with_many(&vec![run.clone(); 6], PATIENCE);
    Control::of(&many, &Starts::with_few(&vec![few; 8], PATIENCE)).and_again(&many)
}

fn well(_: &mut ClientRecord) {}

fn hung(client: &mut ClientRecord) {
    (client.opened_at, client.messages) = (None, Vec::new());
    client.ending = Ending::TimedOut(Stage::Opening);
}

fn unanswered(client: &mut ClientRecord) {
    client.ending = Ending::TimedOut(Stage::Open);
    for sent in &mut client.messages {
        (sent.answered_at, sent.copies) = (None, 0);
    }
}

fn codes(found: &[Finding]) -> Vec<&'static str> {
    found.iter().map(Finding::code).collect()
}

#[test]
fn what_load_does_is_one_finding_and_without_control_starts_each_thing_is_told_as_it_was_seen() {
    let (start, side) = (start(), Side::of(&[start()], PATIENCE));
    // As many are hung when it is ready: that is no matter of coming early.
    let seen = ["leaves-unanswered", "loses-messages", "fails-when-ready"];
    assert_eq!(codes(&findings(&side, false, None)), seen);
    let mut not_again = control(&start, well);
    not_again.again = None;
    assert_eq!(codes(&findings(&side, false, Some(&not_again))), seen);
    let told = findings(&side, false, Some(&control(&start, well)));
    let [
        Finding::Overrun {
            outcomes, failed, few, ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    let forty = |outcome| (outcome, 6 * 40);
    let mut outcomes = outcomes.clone();
    outcomes.sort();
    assert_eq!(outcomes, [Outcome::Hung, Outcome::Lost, Outcome::Unanswered].map(forty));
    assert_eq!((failed.hits, failed.of, few.hits, few.of), (720, 960, 0, 80));
}

#[test]
fn what_becomes_of_few_too_is_told_as_it_was_seen() {
    let (start, side) = (start(), Side::of(&[start()], PATIENCE));
    let told = |few: fn(&mut ClientRecord)| codes(&findings(&side, false, Some(&control(&start, few))));
    // Those that came early are still failed by load.
    assert_eq!(told(unanswered), ["overrun", "leaves-unanswered"]);
    let found = findings(&side, false, Some(&control(&start, hung)));
    assert_eq!(codes(&found), ["overrun", "fails-when-ready"]);
    let [_, fails @ Finding::FailsWhenReady { few_too: true, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(
        fails
            .advice(crate::audit::launcher::Way::Plain)
            .contains("not their number")
    );
}

#[test]
fn an_early_failure_is_not_hidden_behind_load_where_nobody_of_few_came_early() {
    let (start, side) = (start(), Side::of(&[start()], PATIENCE));
    let mut told = control(&start, well);
    for failure in told.failures.iter_mut().filter(|failure| failure.zone == Zone::Race) {
        failure.clients.few = Share::new(0, 0);
    }
    let found = codes(&findings(&side, false, Some(&told)));
    assert_eq!(found, ["overrun", "accepts-early", "loses-messages"]);
}

#[test]
fn a_handler_that_is_late_only_where_many_come_is_told_once() {
    let late = |n: u32| {
        let sends = sends_of(n);
        client(n, 300 * MS + u64::from(n) * 5 * MS, &sends, |index| {
            n > 0 && sends[index] < 5
        })
    };
    let start = run((0..160).map(late).collect());
    let side = Side::of(std::slice::from_ref(&start), PATIENCE);
    assert_eq!(codes(&findings(&side, false, None)), ["handler-late"]);
    assert_eq!(
        codes(&findings(&side, false, Some(&control(&start, well)))),
        ["overrun"]
    );
}

#[test]
fn who_is_rejected_among_those_who_are_too_many_is_told_without_them() {
    let mut start = start();
    for n in [140, 142, 144] {
        start.clients[n].ending = Ending::Status(500);
    }
    let side = Side::of(&[start.clone()], PATIENCE);
    let found = findings(&side, false, Some(&control(&start, well)));
    let [
        Finding::Overrun { .. },
        Finding::FailsWhenReady {
            outcomes,
            last_ns,
            rejected,
            ..
        },
    ] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!(outcomes[..], [(Outcome::Status(500), 3)]);
    assert_eq!(rejected.as_ref().unwrap().until_then.hits, 3);
    assert_eq!(*last_ns, 300 * MS + 144 * 5 * MS - (400 * MS + 1));
}

#[test]
fn a_limit_that_answers_503_is_told_as_a_limit() {
    let mut start = start();
    for (client, n) in start.clients.iter_mut().zip(0_u64..) {
        *client = super::tests::client(client.client, 300 * MS + n * 5 * MS, &SENDS, |_| false);
        // Connections last: who comes behind the first forty meets as many as may be there.
        client.ended_at = 5_000 * MS;
        if n >= 40 {
            (client.opened_at, client.messages, client.ended_at) = (None, Vec::new(), client.started_at + MS);
            client.ending = Ending::Status(503);
        }
    }
    let side = Side::of(&[start.clone()], PATIENCE);
    let control = control(&start, well);
    assert!(control.is_overrun(Zone::Ready, Outcome::Status(503)), "{control:?}");
    let found = findings(&side, false, Some(&control));
    assert_eq!(codes(&found), ["fails-when-ready"]);
    assert!(
        found[0]
            .advice(crate::audit::launcher::Way::Plain)
            .contains("limit on connections")
    );
}

#[test]
fn what_is_lost_early_stays_so_where_later_ones_are_too_many() {
    let mut start = start();
    for (client, n) in start.clients.iter_mut().zip(0_u64..) {
        *client = super::tests::client(client.client, 300 * MS + n * 5 * MS, &SENDS, |_| false);
        if n < 20 || (n > 20 && n % 2 == 0) {
            unanswered(client);
            client.ended_at = client.started_at + 11_000 * MS;
        }
    }
    let side = Side::of(&[start.clone()], PATIENCE);
    // Few are answered nothing either, where they come early.
    let mut told = control(&start, well);
    let early = |one: &&mut crate::audit::control::Failure| one.zone == Zone::Race;
    for failure in told.failures.iter_mut().filter(early) {
        failure.clients.few = Share::new(failure.clients.few.of, failure.clients.few.of);
    }
    let found = findings(&side, false, Some(&told));
    assert_eq!(codes(&found), ["overrun", "loses-early"]);
    assert!(
        found[1]
            .sentence()
            .contains("answers nothing of what is sent meanwhile"),
        "{}",
        found[1].sentence()
    );
}

#[test]
fn behind_greenroom_nobody_of_many_may_be_answered_and_all_of_few() {
    let mut silent = start();
    silent.cause = Cause::NeverReady;
    silent.clients.truncate(120);
    silent.clients.iter_mut().for_each(hung);
    let side = Side::of(&[silent.clone()], PATIENCE);
    assert_eq!(codes(&behind(&side, None)), ["nobody-answered"]);
    assert_eq!(codes(&behind(&side, Some(&control(&silent, well)))), ["overrun"]);
}
