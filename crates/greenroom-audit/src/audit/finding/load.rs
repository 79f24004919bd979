//! Tests of what is claimed where control starts show that clients are failed because many come.

use super::tests::{MS, PATIENCE, SENDS, client, run};
use super::*;
use crate::audit::control::Compared;
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

/// None of `of` clients is failed in control starts.
fn none_of(side: &Side, of: u64) -> Control {
    let mut control = Control::of(side, &Side::of(&[], PATIENCE), 10);
    control.starts = 5;
    control.again = Some(control.open().many);
    for failure in &mut control.failures {
        failure.clients = Compared {
            few: Share::new(0, of),
            ..failure.clients
        };
    }
    control
}

fn codes(found: &[Finding]) -> Vec<&'static str> {
    found.iter().map(Finding::code).collect()
}

#[test]
fn what_load_does_is_one_finding_and_without_control_starts_each_thing_is_told_as_it_was_seen() {
    let side = Side::of(&[start()], PATIENCE);
    let seen = [
        "accepts-early",
        "leaves-unanswered",
        "loses-messages",
        "fails-when-ready",
    ];
    assert_eq!(codes(&findings(&side, false, None)), seen);
    assert_eq!(codes(&findings(&side, false, Some(&none_of(&side, 0)))), seen);
    let told = findings(&side, false, Some(&none_of(&side, 60)));
    let [
        Finding::Overrun {
            outcomes, failed, few, ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        outcomes[..],
        [Outcome::Hung, Outcome::Lost, Outcome::Unanswered].map(|outcome| (outcome, 40))
    );
    assert_eq!((failed.hits, failed.of, few.hits), (120, 160, 0));
}

#[test]
fn what_happens_to_few_as_well_is_told_as_it_was_seen() {
    let side = Side::of(&[start()], PATIENCE);
    for (few_too, told) in [
        (
            Outcome::Hung,
            ["overrun", "accepts-early", "fails-when-ready"].as_slice(),
        ),
        (Outcome::Unanswered, &["overrun", "leaves-unanswered"]),
        (Outcome::Lost, &["overrun", "loses-messages"]),
    ] {
        let mut control = none_of(&side, 60);
        for failure in control.failures.iter_mut().filter(|failure| failure.outcome == few_too) {
            failure.clients.few = Share::new(20, 60);
        }
        assert_eq!(codes(&findings(&side, false, Some(&control))), told, "{few_too:?}");
    }
}

#[test]
fn behind_greenroom_nobody_of_many_may_be_answered_and_all_of_few() {
    let mut silent = start();
    silent.clients.retain(|client| client.first_answer().is_none());
    let side = Side::of(&[silent], PATIENCE);
    assert_eq!(codes(&behind(&side, None))[0], "nobody-answered");
    assert_eq!(codes(&behind(&side, Some(&none_of(&side, 60)))), ["overrun"]);
}
