//! Sessions whose routes need different things of one backend.

use super::*;
use crate::readiness::Needs;

const NOBODY: Needs = Needs(0);

fn only(need: usize) -> Needs {
    NOBODY.with(need)
}

impl Bench {
    fn arrive_needing(&mut self, id: u64, need: u8, may_wait: bool) -> Vec<Output> {
        let deadline = self.now + HOUR;
        self.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait,
            class: Class::WebSocket,
            need,
            accept: Accept::Never,
            who: Who::default(),
        })
    }

    fn needs(&mut self, met: Needs, refused: Needs) -> Vec<u64> {
        dialled(&self.tell(Input::Needs { met, refused }))
    }
}

fn dialled(said: &[Output]) -> Vec<u64> {
    said.iter()
        .filter_map(|output| match output {
            Output::Dial { id, .. } => Some(id.0),
            _ => None,
        })
        .collect()
}

#[test]
fn who_needs_less_goes_first_and_who_needs_more_keeps_its_place() {
    let mut bench = Bench::shut();
    bench.needs(only(1), NOBODY);
    for id in 1..=6 {
        bench.arrive_needing(id, u8::from(id % 2 == 0), true);
    }
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [2, 4, 6]);
    assert_eq!(bench.gate.held(), 3);
    bench.arrive_needing(7, 0, true);
    assert_eq!(
        bench.needs(only(0).with(1), NOBODY),
        [1, 3, 5, 7],
        "in the order of arrival"
    );
    assert_eq!(bench.gate.held(), 0);
}

#[test]
fn flapping_reorders_and_drops_nobody() {
    let mut bench = Bench::shut();
    for id in 1..=100 {
        bench.arrive_needing(id, u8::try_from(id % 3).unwrap(), true);
    }
    for flap in 0..50 {
        bench.needs(Needs(flap % 8), NOBODY);
        assert_eq!(bench.gate.held(), 100);
    }
    bench.needs(NOBODY, NOBODY);
    bench.tell(Input::Ready(Trust::Pushed));
    let mut order = bench.needs(Needs::ALL, NOBODY);
    for _ in 0..200 {
        for id in order.clone() {
            order.extend(dialled(&bench.answer(id, Answer::Switched)));
        }
    }
    order.dedup();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, (1..=100).collect::<Vec<_>>());
    assert_eq!(order[..64], sorted[..64], "the first of them all went in order");
}

#[test]
fn who_waits_aside_is_no_canary_and_holds_nobody_up() {
    let mut bench = Bench::shut();
    bench.needs(only(1), NOBODY);
    bench.arrive_needing(1, 0, true);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), []);
    assert_eq!(
        bench.gate.poll_timeout(),
        Some(bench.now + HOUR),
        "nothing but its deadline is awaited"
    );
    assert_eq!(dialled(&bench.arrive_needing(2, 1, true)), [2]);
}

#[test]
fn a_degraded_backend_refuses_whom_its_route_refuses_and_no_other() {
    let mut bench = Bench::shut();
    bench.tell(Input::Ready(Trust::Pushed));
    bench.needs(only(0), NOBODY);
    bench.arrive_needing(1, 1, true);
    let said = bench.tell(Input::Needs {
        met: only(0),
        refused: only(1),
    });
    assert_eq!(said, [Output::Refuse(SessionId(1), Refusal::Degraded)]);
    let said = bench.arrive_needing(2, 1, true);
    assert_eq!(said, [Output::Refuse(SessionId(2), Refusal::Degraded)]);
    let said = bench.arrive_needing(3, 2, false);
    assert_eq!(
        said,
        [Output::Refuse(SessionId(3), Refusal::NotReady)],
        "it may not wait"
    );
    assert_eq!(dialled(&bench.arrive_needing(4, 0, true)), [4]);
    assert_eq!(bench.gate.held(), 0);
}

#[test]
fn who_comes_back_from_a_dial_waits_aside_if_its_need_is_gone_by_then() {
    let mut bench = Bench::shut();
    bench.tell(Input::Ready(Trust::Pushed));
    bench.arrive_needing(1, 1, true);
    bench.needs(only(0), NOBODY);
    bench.answer(1, Answer::Dropped);
    assert_eq!(bench.gate.held(), 1);
    bench.pass(HOUR / 2);
    assert_eq!(bench.needs(NOBODY, NOBODY), []);
    assert!(bench.tell(Input::Left(SessionId(1))).is_empty());
    assert_eq!(bench.gate.held(), 0);
}

#[test]
fn a_free_gate_is_free_for_those_whose_need_is_there() {
    let mut bench = Bench::shut();
    bench.tell(Input::Ready(Trust::Pushed));
    bench.arrive_needing(1, 0, true);
    bench.answer(1, Answer::Switched);
    bench.pass(HOUR / 2);
    bench.needs(only(0), NOBODY);
    bench.arrive_needing(2, 1, true);
    assert!(bench.gate.free().has(0), "who waits aside is in nobody's way");
    assert!(!bench.gate.free().has(1));
    assert!(bench.gate.is_open_for(0) && !bench.gate.is_open_for(1));
}
