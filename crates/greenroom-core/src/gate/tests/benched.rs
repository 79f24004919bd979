//! Sessions that were rejected too often: when they go, and what they may not do to others.

use super::*;
use crate::limits::SETTLE_WARNED;

/// A gate on trial with these, each rejected so often that nobody's canary waits for it.
fn with_rejected(ids: &[u64]) -> Bench {
    let mut bench = Bench::limited(ids);
    for _ in 0..3 {
        for &id in ids {
            assert_eq!(requeued(&bench.answer(id, Answer::Status(503))), [id]);
            bench.pass(CANARY_EVERY);
        }
    }
    // The first is tried once more, as somebody has to find out: that makes it no worse.
    assert_eq!(requeued(&bench.answer(ids[0], Answer::Status(503))), [ids[0]]);
    bench
}

#[test]
fn three_times_rejected_is_no_canary_while_others_are_there_and_goes_in_its_turn_when_one_has_proved_the_gate() {
    let mut bench = with_rejected(&[1, 2]);
    bench.arrive(3);
    bench.arrive(4);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [3]);
    bench.answer(3, Answer::Switched);
    let said = bench.pass(CANARY_SETTLE);
    assert_eq!(
        (forwarded(&said), dialled(&said)),
        (vec![3], vec![1, 2, 4]),
        "at once, and in order"
    );
    for id in [1, 2, 4] {
        bench.answer(id, Answer::Switched);
    }
    assert_eq!(forwarded(&bench.pass(SETTLE)), [1, 2, 4]);
}

#[test]
fn one_that_is_poisoned_keeps_nobody_waiting_and_in_the_end_hears_what_the_backend_says() {
    let mut bench = with_rejected(&[1]);
    bench.arrive(2);
    bench.pass(CANARY_EVERY);
    bench.answer(2, Answer::Switched);
    assert_eq!(dialled(&bench.pass(CANARY_SETTLE)), [1]);
    assert_eq!(requeued(&bench.answer(1, Answer::LostEarly)), [1]);
    assert!(
        matches!(bench.gate.stage(), Stage::Open(Trial::Proving { .. })),
        "it is excused"
    );
    assert_eq!(dialled(&bench.arrive(3)), [3]);
    bench.answer(3, Answer::Switched);
    let said = bench.pass(PROVE_FOR);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![3], vec![1]));
    assert_eq!(forwarded(&bench.answer(1, Answer::Status(503))), [1]);
}

#[test]
fn two_that_are_rejected_once_more_make_a_doubt_and_not_for_ever() {
    let mut bench = with_rejected(&[1, 2]);
    for round in 0..3 {
        let canary = 10 + round;
        bench.arrive(canary);
        bench.pass(CANARY_EVERY);
        bench.answer(canary, Answer::Switched);
        let said = bench.pass(SETTLE_WARNED * 3);
        assert_eq!(dialled(&said), [1, 2], "round {round}");
        bench.answer(1, Answer::LostEarly);
        assert!(matches!(bench.gate.stage(), Stage::Open(_)));
        bench.answer(2, Answer::LostEarly);
        assert!(matches!(bench.gate.stage(), Stage::Limited { .. }), "round {round}");
    }
    bench.arrive(20);
    bench.pass(CANARY_EVERY);
    bench.answer(20, Answer::Switched);
    assert_eq!(
        dialled(&bench.pass(SETTLE_WARNED * 3)),
        [],
        "they had turns enough: it is their own fault"
    );
    assert_eq!(dialled(&bench.pass(PROVE_FOR)), [1, 2]);
}

#[test]
fn one_that_waits_aside_is_let_in_when_the_backend_says_ready_and_nobody_else_is_there() {
    let mut bench = Bench::limited(&[1]);
    for _ in 0..3 {
        bench.answer(1, Answer::LostEarly);
        bench.tell(Input::NotReady);
        bench.pass(CANARY_EVERY);
        bench.tell(Input::Ready(Trust::Inferred));
    }
    bench.answer(1, Answer::LostEarly);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1]);
    assert_eq!(forwarded(&bench.answer(1, Answer::Switched)), [1]);
}
