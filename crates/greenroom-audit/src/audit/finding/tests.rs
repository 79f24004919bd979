//! What is found of hand-made records, and what is not.

use super::*;
use crate::audit::judge::Patience;
use crate::audit::lateness;
use crate::audit::record::{ClientRecord, Ending, Foreign, Interval, RunRecord, Sent, Stage};
use proptest::prelude::*;

pub(super) const PATIENCE: Patience = Patience {
    whole_ns: 10_000_000_000,
    answer_ns: 1_000_000_000,
    late_ns: 1_000_000_000,
    answers: true,
};
pub(super) const MS: u64 = 1_000_000;

/// A client that came at `at`, was opened a millisecond later, and lost the messages that `lost` names.
pub(super) fn client(number: u32, at: u64, sends: &[u64], lost: impl Fn(usize) -> bool) -> ClientRecord {
    let opened = at + MS;
    let message = |(index, delay): (usize, &u64)| Sent {
        at: opened + delay * MS,
        answered_at: (!lost(index)).then_some(opened + delay * MS + MS / 2),
        copies: u16::from(!lost(index)),
    };
    ClientRecord {
        connected_at: Some(at + MS / 2),
        opened_at: Some(opened),
        // Who misses its last answer waits for its whole patience.
        ended_at: opened
            + if sends.len().checked_sub(1).is_some_and(&lost) {
                11_000 * MS
            } else {
                400 * MS
            },
        messages: sends.iter().enumerate().map(message).collect(),
        ..ClientRecord::new(number, at)
    }
}

pub(super) fn run(clients: Vec<ClientRecord>) -> RunRecord {
    RunRecord {
        exec: Interval::new(0, 1),
        listen: None,
        ..crate::audit::sample::run(0, clients)
    }
}

pub(super) fn codes(clients: Vec<ClientRecord>) -> Vec<&'static str> {
    let side = Side::of(&[run(clients)], PATIENCE);
    findings(&side, false, None).iter().map(Finding::code).collect()
}

pub(super) const SENDS: [u64; 6] = [0, 1, 2, 4, 8, 16];

/// When this client speaks: some hesitate.
pub(super) fn sends_of(number: u32) -> [u64; 6] {
    let wait = if lateness::hesitates(number, None) { 128 } else { 0 };
    SENDS.map(|after| after + wait)
}

#[test]
fn one_client_in_the_race_window_is_a_finding_and_one_that_is_unknown_is_none() {
    let mut clients: Vec<_> = (1..40)
        .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
        .collect();
    let mut early = client(0, 300 * MS, &[], |_| false);
    early.ending = Ending::Closed {
        code: Some(1011),
        reason: String::new(),
    };
    clients.insert(0, early.clone());
    assert_eq!(codes(clients.clone()), ["accepts-early"]);
    clients[0].ending = Ending::TimedOut(crate::audit::record::Stage::Opening);
    clients[0].stalled_ns = PATIENCE.whole_ns;
    assert!(codes(clients.clone()).is_empty());
    clients[0].ending = Ending::Refused;
    clients[0].connected_at = None;
    assert!(codes(clients).is_empty(), "cold is no race");
}

#[test]
fn a_message_that_was_missed_while_the_machine_stood_still_is_no_loss() {
    let mut clients: Vec<_> = (0..40)
        .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
        .collect();
    clients.push(client(40, 600 * MS, &SENDS, |index| index < 3));
    assert_eq!(codes(clients.clone()), ["loses-messages"]);
    clients[40].stalled_ns = PATIENCE.answer_ns / 2;
    assert!(codes(clients).is_empty());
}

#[test]
fn one_that_fails_when_others_were_answered_is_told_with_how_late_that_was() {
    let mut clients: Vec<_> = (0..40)
        .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
        .collect();
    clients[30].ending = Ending::Status(502);
    let side = Side::of(&[run(clients)], PATIENCE);
    let found = findings(&side, false, None);
    let [Finding::FailsWhenReady { failed, last_ns, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (failed.hits, failed.of),
        (1, 38),
        "two of the forty came before the first answer"
    );
    assert!((20 * MS..30 * MS).contains(last_ns), "{last_ns}");
}

/// Ready from 10 ms on; each loses what `lost` says, by its own number and that of its message.
fn side_losing(count: u32, mut lost: impl FnMut(u32, usize) -> bool) -> Side {
    let mut clients = vec![client(0, 10 * MS, &SENDS, |_| false)];
    for n in 1..count {
        let lost: Vec<bool> = (0..SENDS.len()).map(|index| lost(n, index)).collect();
        clients.push(client(n, 100 * MS + u64::from(n) * MS, &sends_of(n), |index| {
            lost[index]
        }));
    }
    Side::of(&[run(clients)], PATIENCE)
}

#[test]
fn a_log_in_that_is_not_repeated_and_a_random_loss_are_no_late_handler() {
    let told = findings(&side_losing(100, |_, index| index == 0), false, None);
    let [Finding::FirstUnanswered { clients, hesitant }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((clients.hits, hesitant.hits), (99, hesitant.of));
    let mut dice = crate::audit::plan::Dice::new(1, 4);
    let told = findings(&side_losing(100, |_, _| dice.unit() < 0.6), false, None);
    assert!(matches!(&told[..], [Finding::LosesMessages { .. }]), "{told:?}");
}

#[test]
fn what_the_first_client_of_a_start_loses_later_is_told() {
    let mut clients = vec![client(0, 10 * MS, &SENDS, |index| index > 0)];
    clients.extend((1..60).map(|n| client(n, 100 * MS + u64::from(n) * MS, &SENDS, |_| false)));
    let told = findings(&Side::of(&[run(clients)], PATIENCE), false, None);
    let [said @ Finding::LosesMessages { first, all }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first.hits, all.hits, all.of), (0, 5, 360));
    assert!(
        said.sentence().contains("none of them the first"),
        "{}",
        said.sentence()
    );
}

/// Whatever else it may be called: where one client was not served, something is found.
#[test]
fn no_client_that_was_failed_is_passed_over_in_silence() {
    let closed = |code| Ending::Closed {
        code: Some(code),
        reason: String::new(),
    };
    let stages = [Stage::Connecting, Stage::Opening, Stage::Open];
    let mut endings = vec![
        Ending::Status(503),
        Ending::Broken("x".into()),
        closed(1011),
        closed(1000),
    ];
    for stage in stages {
        endings.extend([Ending::Reset(stage), Ending::Cut(stage), Ending::TimedOut(stage)]);
    }
    for ending in endings {
        for at in [5, 300] {
            let good = |n: u32| client(n, 100 * MS + u64::from(n) * MS, &SENDS, |_| false);
            let mut clients: Vec<_> = (1..60).map(good).collect();
            let mut failed = client(60, at * MS, &SENDS, |_| true);
            failed.ending = ending.clone();
            clients.push(failed);
            assert!(!codes(clients.clone()).is_empty(), "{ending:?} at {at}");
            clients[59] = client(60, at * MS, &SENDS, |index| index == 3);
            assert!(!codes(clients.clone()).is_empty(), "one lost at {at}");
        }
    }
}

#[test]
fn messages_that_went_to_another_are_the_gravest_and_are_not_called_lost() {
    let mut clients: Vec<_> = (0..60)
        .map(|n| client(n, 10 * MS + u64::from(n) * MS / 4, &SENDS, |index| n > 20 && index < 2))
        .collect();
    clients[7].foreign = vec![Foreign {
        client: 30,
        message: 1,
        at: 30 * MS,
    }];
    assert_eq!(codes(clients), ["wrong-client"]);
}

fn never_ready(number: u32) -> RunRecord {
    let mut rejected: Vec<_> = (0..30)
        .map(|n| client(n, u64::from(n) * 10 * MS, &[], |_| false))
        .collect();
    for client in &mut rejected {
        client.ending = Ending::Status(503);
        client.opened_at = None;
    }
    RunRecord {
        run: number,
        cause: Cause::NeverReady,
        ..run(rejected)
    }
}

#[test]
fn some_starts_that_are_never_ready_say_nothing_of_clients_and_nothing_of_the_lead_of_others() {
    let good = || {
        run((0..40)
            .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
            .collect())
    };
    let some = Side::of(&[good(), good(), never_ready(2)], PATIENCE);
    for quiet_ready in [false, true] {
        let told = findings(&some, quiet_ready, None);
        let [Finding::StartsNeverReady { never, runs, outcomes }] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(
            (*never, *runs, &outcomes[..]),
            (1, 3, &[(Outcome::Status(503), 30)][..])
        );
    }
    let all = Side::of(&[never_ready(0), never_ready(1)], PATIENCE);
    assert!(matches!(
        &findings(&all, true, None)[..],
        [Finding::HangsWhenMet { never: 2, .. }]
    ));
}

#[test]
fn behind_greenroom_nobody_answered_is_a_finding() {
    let told = behind(&Side::of(&[never_ready(0), never_ready(1)], PATIENCE), None);
    let [
        Finding::NobodyAnswered {
            runs,
            clients,
            outcomes,
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((*runs, *clients, outcomes[0]), (2, 60, (Outcome::Status(503), 60)));
    assert!(
        behind(&Side::of(&[], PATIENCE), None).is_empty(),
        "nothing was measured"
    );
}

#[test]
fn a_good_bye_after_an_answer_is_no_failure() {
    let mut clients: Vec<_> = (0..60)
        .map(|n| client(n, 10 * MS + u64::from(n) * MS, &SENDS, |index| index > 0))
        .collect();
    for client in &mut clients {
        client.messages.truncate(3);
        client.ended_at = client.messages[2].at + MS;
        client.ending = Ending::Closed {
            code: Some(1000),
            reason: String::new(),
        };
    }
    assert!(codes(clients.clone()).is_empty());
    clients[40].ending = Ending::Closed {
        code: Some(1011),
        reason: String::new(),
    };
    assert_eq!(codes(clients), ["fails-when-ready"]);
}

proptest! {
    /// Good clients, wherever they come, are never a finding.
    #[test]
    fn nothing_is_found_where_nothing_is_wrong(starts in prop::collection::vec(1_u64..2_000, 1..80)) {
        let mut starts = starts;
        starts.sort_unstable();
        let clients = starts.iter().zip(0..).map(|(&at, n)| client(n, at * MS, &SENDS, |_| false)).collect();
        prop_assert!(codes(clients).is_empty());
    }

    /// A handler that is attached after `late` ms, for all or for many, is one; now and then a first message, is a loss.
    #[test]
    fn late_and_lossy_are_told_apart(late in 1_u64..16, many in 0.6..1.0_f64, seed: u64) {
        let mut dice = crate::audit::plan::Dice::new(seed, 3);
        let mut clients = vec![client(0, 10 * MS, &SENDS, |_| false)];
        clients.extend((1..400).map(|n| {
            let is_late = dice.unit() < many;
            let sends = sends_of(n);
            client(n, 100 * MS + u64::from(n) * MS, &sends, |index| is_late && sends[index] < late)
        }));
        // With one message lost and hardly more than half of the clients, it is no habit for certain.
        if late > 1 || many > 0.8 {
            prop_assert_eq!(codes(clients), ["handler-late"]);
        }
        for each in [50, 8] {
            let mut clients = vec![client(0, 10 * MS, &SENDS, |_| false)];
            clients.extend((1..300).map(|n| {
                client(n, 100 * MS + u64::from(n) * MS, &sends_of(n), |index| index == 0 && n % each == 7)
            }));
            prop_assert_eq!(codes(clients), ["loses-messages"]);
        }
    }
}
