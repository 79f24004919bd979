//! Settling, what the gate learns of it, and the last look.

use super::*;
use crate::limits::{SETTLE_MAX, SETTLE_WARNED};

/// Later than half of what a warned gate waits anyway; what a look at one that settles for longer may find.
const SLOW: Duration = Duration::from_millis(80);

fn looked_at(said: &[Output]) -> Vec<u64> {
    let look = |o: &Output| if let Output::Look(id) = o { Some(id.0) } else { None };
    said.iter().filter_map(look).collect()
}

/// A limited gate whose canary, the only session, is lost so long after its 101.
fn lost_after(delay: Duration) -> Bench {
    let mut bench = Bench::limited(&[1]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    bench.pass(delay);
    assert_eq!(requeued(&bench.answer(1, Answer::LostEarly)), [1]);
    bench.calm = true;
    bench
}

/// How long the canary that goes next has to stand.
fn settles_for(bench: &mut Bench) -> Duration {
    bench.pass(CANARY_EVERY);
    bench.answer(1, Answer::Switched);
    let since = bench.now;
    let at = bench.gate.poll_timeout().expect("it settles");
    assert_eq!(forwarded(&bench.pass(at.since(since))), [1]);
    at.since(since)
}

#[test]
fn a_backend_that_was_seen_to_close_late_is_given_a_multiple_of_that() {
    assert_eq!(settles_for(&mut lost_after(SLOW)), SLOW * SETTLE_FACTOR);
    // Told late, as greenroom had no processor.
    assert_eq!(settles_for(&mut lost_after(SETTLE_MAX)), SETTLE_MAX, "in bounds");
}

#[test]
fn a_backend_that_was_seen_to_close_is_not_trusted_for_having_been_quick() {
    assert_eq!(settles_for(&mut lost_after(5 * MS)), SETTLE_WARNED);
    let mut at_once = Bench::limited(&[1]);
    assert_eq!(
        requeued(&at_once.answer(1, Answer::LostEarly)),
        [1],
        "in one piece with its 101"
    );
    assert_eq!(settles_for(&mut at_once), SETTLE_WARNED);
}

#[test]
fn only_a_loss_after_a_101_teaches() {
    for answer in [Answer::Status(503), Answer::Refused, Answer::Dropped] {
        let mut bench = Bench::limited(&[1]);
        bench.pass(SETTLE - MS);
        bench.answer(1, answer);
        assert_eq!(settles_for(&mut bench), CANARY_SETTLE, "{answer:?}");
        assert_eq!(bench.gate.settle_time(), SETTLE, "{answer:?}");
    }
}

#[test]
fn a_lesson_lasts_over_a_restart_and_is_forgotten_when_the_next_trial_does_not_repeat_it() {
    let mut bench = lost_after(SLOW);
    for expected in [SLOW * SETTLE_FACTOR, SLOW * SETTLE_FACTOR, CANARY_SETTLE] {
        bench.tell(Input::NotReady);
        bench.tell(Input::Left(SessionId(1)));
        bench.arrive(1);
        bench.tell(Input::Ready(Trust::Inferred));
        assert_eq!(settles_for(&mut bench), expected);
        assert_eq!(bench.pass(PROVE_FOR), [Output::Changed(Change::Trusted)]);
    }
}

/// Open, on trial by a canary that spoke, with these let in and their 101 there.
fn proving(ids: &[u64]) -> Bench {
    let mut bench = Bench::limited(&[1]);
    bench.answer(1, Answer::Spoke);
    for &id in ids {
        bench.arrive(id);
        bench.answer(id, Answer::Switched);
    }
    bench
}

#[test]
fn a_lesson_counts_for_those_who_settle_already() {
    let mut bench = proving(&[2, 3]);
    bench.pass(SETTLE - MS);
    bench.answer(2, Answer::LostEarly);
    assert_eq!(forwarded(&bench.pass(SETTLE_WARNED - MS)), []);
    assert_eq!(forwarded(&bench.pass(MS)), [3]);
}

#[test]
fn a_canary_stands_longer_than_those_behind_it_and_a_rejection_does_not_shorten_that() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.pass(CANARY_PATIENCE); // the first hangs, the second goes too
    bench.answer(2, Answer::Switched);
    bench.answer(1, Answer::Status(503));
    assert_eq!(forwarded(&bench.pass(CANARY_SETTLE - MS)), []);
    assert_eq!(forwarded(&bench.pass(MS)), [2]);
    bench.arrive(3);
    bench.answer(3, Answer::Switched);
    assert_eq!(forwarded(&bench.pass(SETTLE)), [3]);
}

#[test]
fn a_session_lost_after_its_101_was_passed_on_saves_those_that_settle() {
    let mut bench = proving(&[2]);
    let delay = SETTLE_WARNED;
    assert_eq!(
        bench.tell(Input::LostEarly(delay)),
        [Output::Changed(Change::Lagging)],
        "the first was lost; it settled for too short a time"
    );
    assert_eq!(forwarded(&bench.pass(SETTLE_FACTOR * delay - MS)), []);
    assert_eq!(forwarded(&bench.pass(MS)), [2]);
}

#[test]
fn a_101_that_has_settled_is_looked_at_once_more_and_passed_on_only_when_it_stood() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    assert_eq!(looked_at(&bench.pass(CANARY_SETTLE)), [1]);
    assert_eq!(bench.pass(SETTLE), [], "nothing goes on without the look");
    let said = bench.answer(1, Answer::Stood);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![1], vec![2]));
}

#[test]
fn a_close_that_the_last_look_finds_sends_the_session_back_to_its_place() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    assert_eq!(looked_at(&bench.pass(CANARY_SETTLE)), [1]);
    assert_eq!(requeued(&bench.answer(1, Answer::LostEarly)), [1]);
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
}

#[test]
fn the_look_of_one_that_settles_once_more_does_not_count() {
    let mut bench = proving(&[2, 3]);
    bench.calm = false;
    assert_eq!(looked_at(&bench.pass(SETTLE)), [2, 3]);
    bench.answer(2, Answer::LostEarly);
    assert_eq!(
        bench.answer(3, Answer::Stood),
        [],
        "its silence proves less than it did"
    );
    assert_eq!(looked_at(&bench.pass(SETTLE_WARNED)), [3]);
    assert_eq!(forwarded(&bench.answer(3, Answer::Stood)), [3]);
}

#[test]
fn who_leaves_while_it_is_looked_at_frees_its_place() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    assert_eq!(looked_at(&bench.pass(CANARY_SETTLE)), [1]);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(bench.answer(1, Answer::Stood), []);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [2]);
}

#[test]
fn a_rejection_on_trial_makes_those_who_settle_wait_once_more() {
    // The crowd: both are let in; the backend rejects one, and would reject the other a moment later.
    let mut bench = proving(&[2]);
    bench.arrive(3);
    bench.pass(SETTLE / 2);
    bench.answer(3, Answer::Status(503));
    assert_eq!(
        forwarded(&bench.pass(SETTLE - MS)),
        [],
        "its silence proves nothing yet"
    );
    assert_eq!(forwarded(&bench.pass(MS)), [2]);
}

#[test]
fn a_101_that_settled_when_the_trial_ended_is_not_shown_and_then_lost() {
    let mut bench = Bench::limited(&[1]);
    bench.answer(1, Answer::Spoke);
    bench.pass(PROVE_FOR - MS);
    bench.arrive(2);
    bench.answer(2, Answer::Switched);
    bench.pass(MS);
    assert_eq!(bench.gate.stage(), Stage::Open(Trial::Over));
    let said = bench.answer(2, Answer::LostEarly);
    assert_eq!((requeued(&said), dialled(&said)), (vec![2], vec![2]));
    bench.answer(2, Answer::Switched);

    let mut failed = Bench::limited(&[1]);
    failed.answer(1, Answer::Switched);
    failed.tell(Input::Failed);
    assert_eq!(
        refused(&failed.answer(1, Answer::LostEarly)),
        [(1, Refusal::StartFailed)]
    );
}

#[test]
fn a_canary_is_passed_on_when_it_kept_its_101_for_settle_and_not_before() {
    let mut bench = Bench::limited(&[1, 2]);
    assert_eq!(bench.answer(1, Answer::Switched), []);
    assert_eq!(bench.pass(CANARY_SETTLE - MS), []);
    let said = bench.pass(MS);
    assert_eq!(
        said[..2],
        [
            Output::Forward(SessionId(1)),
            Output::Changed(Change::Proved(SessionId(1)))
        ]
    );
    assert_eq!(dialled(&said), [2]);
    // The way is open, and the other workers may lag: this one settles too.
    assert_eq!(bench.answer(2, Answer::Switched), []);
    assert_eq!(requeued(&bench.answer(2, Answer::LostEarly)), [2]);
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
}

#[test]
fn who_is_lost_while_settling_past_its_deadline_is_refused_and_not_dialled_again() {
    let mut bench = Bench::limited(&[]);
    bench.arrive_for(1, 10 * MS, true);
    bench.answer(1, Answer::Switched);
    assert_eq!(bench.pass(SETTLE - MS), [], "its answer came in time");
    let said = bench.answer(1, Answer::LostEarly);
    assert_eq!(
        (refused(&said), dialled(&said)),
        (vec![(1, Refusal::HoldTimeout)], vec![])
    );
}
