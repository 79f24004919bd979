//! Settling, what the gate learns of it, and the last look.

use super::*;
use crate::limits::{SETTLE_FACTOR, SETTLE_MAX};

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
    let slow = SETTLE - MS;
    assert_eq!(settles_for(&mut lost_after(slow)), slow * SETTLE_FACTOR);
}

#[test]
fn a_quick_close_does_not_shorten_the_settle_and_the_slowest_does_not_lengthen_it_past_its_bound() {
    assert_eq!(settles_for(&mut lost_after(5 * MS)), SETTLE);
    // Told late, as greenroom had no processor: the look itself was made late.
    assert_eq!(settles_for(&mut lost_after(SETTLE_MAX)), SETTLE_MAX);
}

#[test]
fn only_a_loss_after_a_101_teaches() {
    for answer in [Answer::Status(503), Answer::Refused, Answer::Dropped] {
        let mut bench = Bench::limited(&[1]);
        bench.pass(SETTLE - MS);
        bench.answer(1, answer);
        assert_eq!(settles_for(&mut bench), SETTLE, "{answer:?}");
    }
}

#[test]
fn a_lesson_lasts_over_a_restart_and_is_forgotten_when_the_next_trial_does_not_repeat_it() {
    let slow = SETTLE - MS;
    let mut bench = lost_after(slow);
    for expected in [slow * SETTLE_FACTOR, slow * SETTLE_FACTOR, SETTLE] {
        bench.tell(Input::NotReady);
        bench.tell(Input::Left(SessionId(1)));
        bench.arrive(1);
        bench.tell(Input::Ready(Trust::Inferred));
        assert_eq!(settles_for(&mut bench), expected);
        assert_eq!(bench.pass(PROVE_FOR), [Output::Changed(Change::Trusted)]);
    }
}

#[test]
fn a_lesson_counts_for_those_who_settle_already() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.answer(1, Answer::Spoke);
    bench.answer(2, Answer::Switched);
    bench.pass(MS);
    bench.arrive(3);
    bench.answer(3, Answer::Switched);
    bench.pass(SETTLE - 2 * MS);
    bench.answer(2, Answer::LostEarly);
    let learned = SETTLE_FACTOR * (SETTLE - MS);
    assert_eq!(forwarded(&bench.pass(learned - MS)), []);
    assert_eq!(forwarded(&bench.pass(MS)), [3]);
}

#[test]
fn a_session_lost_after_its_101_was_passed_on_saves_those_that_settle() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.answer(1, Answer::Switched);
    assert_eq!(dialled(&bench.pass(SETTLE)), [2]);
    bench.answer(2, Answer::Switched);
    let delay = SETTLE + 5 * MS;
    bench.pass(5 * MS);
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
    assert_eq!(looked_at(&bench.pass(SETTLE)), [1]);
    assert_eq!(bench.pass(SETTLE), [], "nothing goes on without the look");
    let said = bench.answer(1, Answer::Stood);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![1], vec![2]));
}

#[test]
fn a_close_that_the_last_look_finds_sends_the_session_back_to_its_place() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    bench.pass(SETTLE);
    assert_eq!(requeued(&bench.answer(1, Answer::LostEarly)), [1]);
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
}

#[test]
fn the_look_of_one_that_settles_once_more_does_not_count() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.answer(1, Answer::Spoke);
    bench.arrive(3);
    bench.calm = false;
    bench.answer(2, Answer::Switched);
    bench.answer(3, Answer::Switched);
    assert_eq!(looked_at(&bench.pass(SETTLE)), [2, 3]);
    bench.answer(2, Answer::LostEarly);
    assert_eq!(
        bench.answer(3, Answer::Stood),
        [],
        "its silence proves less than it did"
    );
    let learned = SETTLE * SETTLE_FACTOR;
    assert_eq!(looked_at(&bench.pass(learned)), [3]);
    assert_eq!(forwarded(&bench.answer(3, Answer::Stood)), [3]);
}

#[test]
fn who_leaves_while_it_is_looked_at_frees_its_place() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.calm = false;
    bench.answer(1, Answer::Switched);
    bench.pass(SETTLE);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(bench.answer(1, Answer::Stood), []);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [2]);
}

#[test]
fn a_rejection_on_trial_makes_those_who_settle_wait_once_more() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.arrive(3);
    bench.answer(1, Answer::Switched);
    assert_eq!(
        forwarded(&bench.pass(SETTLE)),
        [1],
        "the canary kept silent for its settle"
    );
    // The crowd: both are let in; the backend closes one, and would close the other a moment later.
    bench.answer(2, Answer::Switched);
    bench.answer(3, Answer::Switched);
    bench.pass(5 * MS);
    bench.answer(2, Answer::LostEarly);
    assert_eq!(
        forwarded(&bench.pass(SETTLE - MS)),
        [],
        "its silence proves nothing yet"
    );
    assert_eq!(forwarded(&bench.pass(MS)), [3]);
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
    assert_eq!(bench.pass(SETTLE - MS), []);
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
