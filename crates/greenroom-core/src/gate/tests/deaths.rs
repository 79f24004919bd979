//! The backend dies: whose request it was, and what becomes of that one and of everybody else.

use super::*;
use crate::limits::DEATHS_MAX;

const GET: Class = Class::Http { is_safe: true };
const GONE: [Output; 0] = [];

impl Bench {
    /// The backend died; its gate heard first that it is away.
    fn dies(&mut self) -> Vec<Output> {
        let mut said = self.tell(Input::NotReady);
        said.extend(self.tell(Input::Died));
        said
    }

    /// Session 1 goes first, and the backend drops it and dies.
    fn crashed_by_1(&mut self) -> Vec<Output> {
        self.pass(CANARY_EVERY);
        assert_eq!(dialled(&self.tell(Input::Ready(Trust::Inferred))), [1]);
        assert_eq!(requeued(&self.answer(1, Answer::Dropped)), [1]);
        self.dies()
    }
}

#[test]
fn who_was_alone_at_two_deaths_is_refused_and_those_behind_it_go_in() {
    let mut bench = Bench::shut();
    (1..=3).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(refused(&bench.crashed_by_1()), []);
    assert_eq!(refused(&bench.crashed_by_1()), [(1, Refusal::BadAnswer)]);
    bench.pass(CANARY_EVERY);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), [2]);
    bench.answer(2, Answer::Spoke);
    assert_eq!(bench.gate.dialing(), 1, "3 follows");
}

#[test]
fn the_death_may_be_heard_before_the_drop() {
    let mut bench = Bench::shut();
    bench.arrive(1);
    for death in 1..=DEATHS_MAX {
        bench.pass(CANARY_EVERY);
        assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), [1]);
        assert_eq!(refused(&bench.dies()), [], "its answer may be on the way");
        let expected: &[_] = if death < DEATHS_MAX {
            &[]
        } else {
            &[(1, Refusal::BadAnswer)]
        };
        assert_eq!(refused(&bench.answer(1, Answer::Dropped)), expected, "death {death}");
    }
    let mut answered = Bench::shut();
    answered.arrive(1);
    for _ in 0..DEATHS_MAX {
        answered.pass(CANARY_EVERY);
        answered.tell(Input::Ready(Trust::Inferred));
        answered.dies();
        answered.answer(1, Answer::Recalled);
    }
    assert_eq!(answered.gate.held(), 0, "that it went so far is enough");
}

#[test]
fn a_backend_that_drops_and_lives_is_waited_for() {
    let mut bench = Bench::shut();
    bench.arrive(1);
    bench.tell(Input::Ready(Trust::Inferred));
    for _ in 0..20 {
        assert_eq!(refused(&bench.answer(1, Answer::Dropped)), []);
        bench.pass(CANARY_EVERY);
    }
    assert_eq!(refused(&bench.dies()), [], "and one death is no proof");
}

#[test]
fn a_death_among_several_is_nobodys_and_makes_the_gate_wary() {
    for dropped in [&[1, 2][..], &[2, 1], &[]] {
        let mut bench = Bench::shut();
        (1..=2).for_each(|id| drop(bench.arrive(id)));
        let mut said = Vec::new();
        for _ in 0..1 + DEATHS_MAX {
            bench.pass(HOUR / 1000);
            assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))).first(), Some(&1));
            for &id in dropped {
                said.extend(bench.answer(id, Answer::Dropped));
            }
            said.extend(bench.dies());
            for id in 1..=2 {
                said.extend(bench.answer(id, Answer::Dropped));
            }
        }
        // The first time both went; from then on 1 goes alone, though the backend says that it is ready.
        assert_eq!(refused(&said), [(1, Refusal::BadAnswer)], "{dropped:?}");
        bench.pass(HOUR / 1000);
        let said = bench.tell(Input::Ready(Trust::Pushed));
        assert_eq!(dialled(&said), [2]);
    }
}

#[test]
fn a_wary_gate_is_so_until_somebody_came_through() {
    let mut bench = Bench::shut();
    (1..=3).for_each(|id| drop(bench.arrive(id)));
    bench.tell(Input::Ready(Trust::Pushed));
    bench.dies();
    (1..=3).for_each(|id| drop(bench.answer(id, Answer::Dropped)));
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert!(said.contains(&Output::Changed(Change::Wary)), "{said:?}");
    assert_eq!(dialled(&said), [1]);
    assert_eq!(
        bench.tell(Input::Ready(Trust::Pushed)),
        GONE,
        "a repeated word changes nothing"
    );
    assert_eq!(dialled(&bench.answer(1, Answer::Spoke)), [2, 3]);
    bench.tell(Input::NotReady);
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert!(said.contains(&Output::Changed(Change::Opened)), "{said:?}");
}

#[test]
fn whoever_is_answered_after_the_drop_is_no_suspect() {
    let mut bench = Bench::open(4);
    bench.arrive(1);
    bench.answer(1, Answer::Dropped); // and is dialled again at once
    bench.arrive(2);
    bench.answer(1, Answer::Switched);
    bench.answer(2, Answer::Switched);
    bench.dies();
    // Neither of them has the death on its account, nor is anybody suspected.
    assert_eq!((bench.gate.suspect, bench.gate.wary), (Suspect::Nobody, false));
}

#[test]
fn a_request_that_was_dropped_past_the_gate_counts() {
    let mut bench = Bench::open(4);
    let arrive = |bench: &mut Bench, id| {
        let deadline = bench.now + HOUR;
        let may_wait = true;
        let mut said = bench.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait,
            class: GET,
            need: 0,
            accept: Accept::Never,
            who: Who::default(),
        });
        said.extend(bench.tell(Input::DroppedPast(SessionId(id))));
        said
    };
    assert_eq!(dialled(&arrive(&mut bench, 1)), [1], "once more, at once");
    bench.answer(1, Answer::Refused);
    assert_eq!(refused(&bench.dies()), []);
    assert_eq!(refused(&bench.crashed_by_1()), [(1, Refusal::BadAnswer)]);

    let mut two = Bench::open(4);
    (1..=2).for_each(|id| drop(arrive(&mut two, id)));
    (1..=2).for_each(|id| drop(two.answer(id, Answer::Refused)));
    two.dies();
    assert_eq!(
        refused(&two.crashed_by_1()),
        [],
        "of the first death nobody is to blame"
    );
}

#[test]
fn whoever_left_is_nobody() {
    let mut bench = Bench::shut();
    (1..=2).for_each(|id| drop(bench.arrive(id)));
    bench.tell(Input::Ready(Trust::Inferred));
    bench.answer(1, Answer::Dropped);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(refused(&bench.dies()), []);
}
