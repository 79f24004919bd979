//! Dials that are answered late, or never: they hold up the others for `dial_patience` and no longer.

use super::*;
use crate::limits::{DIAL_PATIENCE, DIALS_MIN};

#[test]
fn requests_that_are_never_answered_hold_up_the_others_for_their_patience_and_no_longer() {
    let mut bench = Bench::open(DIALS_MIN);
    let hang = 1..=u64::try_from(DIALS_MIN).unwrap();
    for id in hang.clone() {
        assert_eq!(dialled(&bench.arrive(id)), [id]);
    }
    assert_eq!(dialled(&bench.arrive(90)), [], "no slot");
    assert_eq!(dialled(&bench.pass(DIAL_PATIENCE - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [90]);
    bench.answer(90, Answer::Switched);
    // They wait on, each on its connection: an answer is theirs, however late.
    assert_eq!(bench.gate.dialing(), DIALS_MIN);
    for id in hang {
        assert_eq!(forwarded(&bench.answer(id, Answer::Status(200))), [id]);
    }
}

#[test]
fn a_slot_that_was_given_up_is_one_slot() {
    let mut bench = Bench::open(2);
    for id in 1..=6 {
        bench.arrive(id);
    }
    assert_eq!(dialled(&bench.pass(DIAL_PATIENCE)), [3, 4], "two slots, as before");
    bench.tell(Input::Left(SessionId(1)));
    bench.answer(2, Answer::Switched);
    assert_eq!(bench.gate.held(), 2, "their slots were free already");
    assert_eq!(dialled(&bench.answer(3, Answer::Switched)), [5]);
}

#[test]
fn requests_that_are_never_answered_do_not_keep_canaries_from_trying() {
    let mut bench = Bench::open(2);
    bench.arrive(1);
    bench.arrive(2);
    bench.pass(DIAL_PATIENCE);
    bench.tell(Input::NotReady);
    bench.tell(Input::Ready(Trust::Inferred));
    assert_eq!(dialled(&bench.arrive(3)), [3]);
}

#[test]
fn who_is_never_answered_is_refused_at_its_deadline_also_without_a_slot() {
    let mut bench = Bench::open(1);
    bench.arrive_for(1, DIAL_PATIENCE * 3, true);
    bench.arrive(2);
    assert_eq!(dialled(&bench.pass(DIAL_PATIENCE)), [2]);
    let said = bench.pass(DIAL_PATIENCE * 2);
    assert_eq!(said, [Output::Refuse(SessionId(1), Refusal::Unanswered)]);
}

/// Before a backend that answers nothing as many go in each patience as the window allows, and no more.
#[test]
fn by_silence_the_window_does_not_grow() {
    let mut bench = Bench::limited(&[1]);
    assert_eq!(
        dialled(&bench.tell(Input::Answered(SessionId(1), Answer::Spoke))),
        [0; 0]
    );
    bench.pass(PROVE_FOR);
    for id in 2..=200 {
        bench.arrive(id);
    }
    let window = bench.gate.dialing();
    assert!((1..=DIALS_MIN + 1).contains(&window), "small after a canary: {window}");
    for _ in 0..5 {
        assert_eq!(dialled(&bench.pass(DIAL_PATIENCE - MS)), []);
        assert_eq!(dialled(&bench.pass(MS)).len(), window);
    }
    // Answers widen it as ever.
    let next = 2 + 5 * u64::try_from(window).unwrap();
    assert_eq!(dialled(&bench.answer(next, Answer::Switched)).len(), 2);
}
