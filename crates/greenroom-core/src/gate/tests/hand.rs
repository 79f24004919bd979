//! The gate by hand: whatever readiness says, and until somebody takes the hand back.

use super::*;
use crate::readiness::Needs;

impl Bench {
    fn hand(&mut self, hand: Hand) -> Vec<Output> {
        self.tell(Input::Hand(hand, None))
    }
}

#[test]
fn nobody_is_let_in_while_the_gate_is_held_by_hand_and_all_are_in_order_when_it_is_not() {
    let mut bench = Bench::open(64);
    assert_eq!(bench.hand(Hand::Hold), [Output::Changed(Change::Held)]);
    assert!(!bench.is_free(), "nor do plain requests go past it");
    for id in 1..=5 {
        assert_eq!(bench.arrive(id), [Output::Held(SessionId(id), id as usize)]);
    }
    for input in [
        Input::Ready(Trust::Pushed),
        Input::NotReady,
        Input::Ready(Trust::Inferred),
        Input::Needs {
            met: Needs::ALL,
            refused: Needs::default(),
        },
        Input::Failed,
        Input::NotReady,
        Input::Ready(Trust::Pushed),
    ] {
        assert_eq!(bench.tell(input), [], "{input:?}");
    }
    assert_eq!(dialled(&bench.pass(HOUR / 2)), []);
    assert_eq!(dialled(&bench.hand(Hand::Auto)), [1, 2, 3, 4, 5]);
    assert!(
        matches!(bench.gate.stage(), Stage::Open(Trial::Doubt { .. })),
        "on trial, as with any opening"
    );
}

#[test]
fn a_hold_by_hand_is_no_longer_than_the_clients_own_time() {
    let mut bench = Bench::open(64);
    bench.hand(Hand::Hold);
    bench.arrive_for(1, MS * 500, true);
    assert_eq!(
        refused(&bench.arrive_for(2, HOUR, false)),
        [(2, Refusal::NotReady)],
        "who may not wait"
    );
    assert_eq!(refused(&bench.pass(MS * 500)), [(1, Refusal::HoldTimeout)]);
}

#[test]
fn a_gate_that_is_held_by_hand_holds_also_where_the_start_has_failed() {
    let mut bench = Bench::shut();
    bench.hand(Hand::Hold);
    bench.arrive(1);
    assert_eq!(bench.tell(Input::Failed), []);
    assert_eq!(refused(&bench.arrive(2)), []);
    let told = [(1, Refusal::StartFailed), (2, Refusal::StartFailed)];
    assert_eq!(
        refused(&bench.hand(Hand::Auto)),
        told,
        "and hears of it when nobody holds it"
    );
    assert_eq!(bench.hand(Hand::Hold), []);
    assert_eq!(refused(&bench.arrive(3)), [], "also who comes after that");
}

#[test]
fn by_hand_all_are_let_in_whatever_readiness_says() {
    let mut bench = Bench::shut();
    bench.tell(Input::Needs {
        met: Needs::default().with(0),
        refused: Needs::default().with(1),
    });
    bench.arrive(1);
    bench.arrive_as(2, 2, Accept::Never, Who::default());
    assert_eq!(dialled(&bench.hand(Hand::Open)), [1, 2], "for all needs");
    assert_eq!(dialled(&bench.arrive_as(3, 1, Accept::Never, Who::default())), [3]);
    for input in [Input::NotReady, Input::Failed, Input::Ready(Trust::Inferred)] {
        assert_eq!(bench.tell(input), [], "{input:?}");
    }
    bench.tell(Input::NotReady);
    assert_eq!(bench.hand(Hand::Auto), [Output::Changed(Change::Shut)]);
    assert_eq!(
        refused(&bench.arrive_as(4, 1, Accept::Never, Who::default())),
        [(4, Refusal::Degraded)]
    );
}

#[test]
fn a_gate_that_is_open_by_hand_goes_on_trying_where_it_meets_nobody() {
    let mut bench = Bench::open(64);
    bench.hand(Hand::Open);
    bench.tell(Input::NotReady);
    bench.arrive(1);
    bench.arrive(2);
    let said = bench.answer(1, Answer::Refused);
    assert!(said.contains(&Output::Changed(Change::Unreachable)), "{said:?}");
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
    bench.answer(2, Answer::Refused);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [1], "one at a time");
    bench.answer(1, Answer::Refused);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [2]);
    bench.answer(2, Answer::Spoke);
    assert!(matches!(bench.gate.stage(), Stage::Open(Trial::Proving { .. })));
}

#[test]
fn by_hand_all_are_refused_those_who_wait_too_and_who_is_on_its_way_is_not() {
    let mut bench = Bench::open(1);
    bench.arrive(1);
    bench.arrive(2);
    assert_eq!(refused(&bench.hand(Hand::Refuse)), [(2, Refusal::ByHand)]);
    assert_eq!(refused(&bench.arrive(3)), [(3, Refusal::ByHand)]);
    assert_eq!(refused(&bench.tell(Input::Failed)), []);
    assert_eq!(refused(&bench.arrive(4)), [(4, Refusal::ByHand)]);
    assert_eq!(
        forwarded(&bench.answer(1, Answer::Switched)),
        Vec::<u64>::new(),
        "it settles, as at any shut gate"
    );
    assert_eq!(forwarded(&bench.pass(SETTLE)), [1]);
    bench.tell(Input::NotReady);
    assert_eq!(bench.hand(Hand::Hold), []);
    assert_eq!(refused(&bench.arrive(5)), []);
}

#[test]
fn a_hand_has_its_end_and_the_same_once_more_changes_that_alone() {
    let mut bench = Bench::open(64);
    let until = |bench: &Bench, ms: u32| Some(bench.now + MS * ms);
    let first = until(&bench, 100);
    assert_eq!(bench.tell(Input::Hand(Hand::Hold, first)).len(), 1);
    bench.arrive(1);
    let second = until(&bench, 300);
    assert_eq!(bench.tell(Input::Hand(Hand::Hold, second)), []);
    assert_eq!(dialled(&bench.pass(MS * 299)), []);
    assert_eq!(dialled(&bench.pass(MS)), [1]);
    assert_eq!(bench.gate.hand(), (Hand::Auto, None));
}

#[test]
fn no_hand_opens_a_gate_that_drains() {
    for hand in Hand::ALL {
        let mut bench = Bench::open(64);
        bench.tell(Input::Drain);
        assert_eq!(bench.hand(hand), []);
        assert_eq!(refused(&bench.arrive(1)), [(1, Refusal::Draining)]);
    }
}

/// Whatever comes before, a hand and its end leave the gate as it would have been, or on trial where it would be sure.
#[test]
fn hand_by_stage() {
    let mut table = String::new();
    for stage in ["shut", "limited", "doubt", "proving", "sure", "failed", "draining"] {
        for hand in Hand::ALL {
            let mut bench = table_start(stage, Answer::Refused);
            let said = bench.hand(hand);
            let by_hand = bench.gate.stage();
            let after = bench.hand(Hand::Auto);
            let word = |stage: Stage| match stage {
                Stage::Shut => "shut",
                Stage::Limited { .. } => "limited",
                Stage::Open(Trial::Over) => "sure",
                Stage::Open(Trial::Doubt { .. }) => "doubt",
                Stage::Open(Trial::Proving { .. }) => "proving",
                Stage::Failed => "failed",
                Stage::Refusing => "refusing",
                Stage::Draining => "draining",
            };
            table.push_str(&format!(
                "{stage:9} {:7} → {}: {said:?}; back → {}: {after:?}\n",
                hand.word(),
                word(by_hand),
                word(bench.gate.stage()),
            ));
        }
    }
    insta::assert_snapshot!(table);
}
