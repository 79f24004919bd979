//! When a client that waits is given a 101 of greenroom's own, and who is not.

use super::*;
use crate::limits::DIAL_PATIENCE;
use crate::readiness::Needs;

const AFTER: Duration = Duration::from_secs(4);
const NOBODY: Who = Who {
    address: 0,
    key: 0,
    is_browser: false,
};

fn browser(address: u64) -> Who {
    Who {
        address,
        is_browser: true,
        ..NOBODY
    }
}

fn accepted(said: &[Output]) -> Vec<u64> {
    let accept = |o: &Output| if let Output::Accept(id) = o { Some(id.0) } else { None };
    said.iter().filter_map(accept).collect()
}

impl Bench {
    fn auto(&mut self, id: u64) -> Vec<u64> {
        accepted(&self.arrive_as(id, 0, Accept::After(AFTER), NOBODY))
    }

    fn met(&mut self, met: u64) -> Vec<u64> {
        accepted(&self.tell(Input::Needs {
            met: Needs(met),
            refused: Needs(0),
        }))
    }

    /// The backend goes away.
    fn goes(&mut self) -> Vec<u64> {
        accepted(&self.tell(Input::NotReady))
    }
}

#[test]
fn whoever_waits_is_accepted_so_long_after_the_beginning_of_the_hold_period_and_not_after_its_own() {
    let mut bench = Bench::shut();
    assert_eq!(bench.auto(1), []);
    assert_eq!(accepted(&bench.pass(AFTER - MS)), []);
    assert_eq!(bench.auto(2), []);
    assert_eq!(accepted(&bench.pass(MS)), [1, 2]);
    assert_eq!(bench.auto(3), [3], "whoever comes later is accepted at once");
}

#[test]
fn a_gate_that_is_made_late_begins_its_hold_period_then() {
    let mut bench = Bench::shut();
    bench.now = Time::ZERO + HOUR;
    bench.gate = Gate::new(GateLimits::default(), bench.now);
    assert_eq!(bench.auto(1), []);
    assert_eq!(accepted(&bench.pass(AFTER)), [1]);
}

#[test]
fn some_are_accepted_at_once_and_some_never() {
    let mut bench = Bench::shut();
    assert_eq!(
        bench.arrive_as(1, 0, Accept::AtOnce, NOBODY),
        [Output::Held(SessionId(1), 1), Output::Accept(SessionId(1))]
    );
    bench.arrive_as(2, 0, Accept::Never, NOBODY);
    assert_eq!(accepted(&bench.pass(HOUR / 2)), []);
}

#[test]
fn nobody_is_accepted_at_an_open_gate_and_whoever_still_waits_when_it_shuts_is_asked_again() {
    let mut bench = Bench::open(1);
    bench.tell(Input::Spare(0)); // so that somebody waits
    assert_eq!(accepted(&bench.arrive_as(2, 0, Accept::AtOnce, NOBODY)), []);
    assert_eq!(bench.auto(3), []);
    assert_eq!(accepted(&bench.pass(2 * AFTER)), []);
    let shut = bench.now;
    assert_eq!(bench.goes(), [2]);
    assert_eq!(bench.gate.poll_timeout(), Some(shut + AFTER));
    assert_eq!(accepted(&bench.pass(AFTER - MS)), [], "a new hold period");
    assert_eq!(accepted(&bench.pass(MS)), [3]);
}

#[test]
fn a_trial_that_fails_begins_no_hold_period() {
    let mut bench = Bench::small(10, 1);
    bench.auto(1);
    bench.auto(2);
    bench.pass(AFTER - MS);
    bench.tell(Input::Ready(Trust::Pushed));
    bench.pass(MS); // it is time, at an open gate
    let said = bench.answer(1, Answer::Status(503));
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
    assert_eq!(
        accepted(&said),
        [1, 2],
        "who came back, and who was passed over in line"
    );
    bench.goes();
    assert_eq!(bench.auto(3), [3], "the same period");
}

/// READY was long ago, and who comes first finds nobody: for those who come the backend is away from now on.
#[test]
fn a_doubt_of_hours_that_fails_begins_a_hold_period_and_one_of_a_trials_length_does_not() {
    for (open_for, is_new) in [(HOUR, true), (PROVE_FOR + MS, true), (PROVE_FOR, false)] {
        let mut bench = Bench::small(1000, 20);
        bench.arrive_as(1, 0, Accept::AtOnce, browser(7));
        bench.pass(AFTER);
        bench.tell(Input::Left(SessionId(1)));
        bench.tell(Input::Ready(Trust::Pushed));
        bench.pass(open_for);
        bench.auto(2);
        let mut said = bench.answer(2, Answer::Refused);
        assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
        bench.tell(Input::Spare(0)); // so that nobody is let in
        said.extend(bench.arrive_as(3, 0, Accept::After(AFTER), browser(7)));
        let at_once = accepted(&said);
        if !is_new {
            assert_eq!(at_once, [2, 3], "the same period");
            continue;
        }
        assert_eq!(at_once, []);
        assert_eq!(accepted(&bench.pass(AFTER - MS)), []);
        assert_eq!(accepted(&bench.pass(MS)), [2, 3]);
        // It comes back as after a restart.
        for id in 4..=23 {
            bench.arrive(id);
        }
        bench.goes();
        bench.tell(Input::Spare(100));
        let said = bench.tell(Input::Ready(Trust::Pushed));
        assert_eq!(dialled(&said).len(), crate::limits::DIALS_START);
    }
}

#[test]
fn a_start_that_failed_at_an_open_gate_begins_a_hold_period_too() {
    let mut bench = Bench::open(1);
    bench.pass(2 * AFTER);
    bench.tell(Input::Failed);
    bench.goes(); // it is started again after all
    assert_eq!(bench.auto(1), []);
    assert_eq!(accepted(&bench.pass(AFTER)), [1]);
}

#[test]
fn a_client_is_accepted_once_however_often_it_comes_back_to_its_place() {
    let mut bench = Bench::shut();
    bench.arrive_as(1, 0, Accept::AtOnce, NOBODY);
    bench.tell(Input::Ready(Trust::Pushed));
    let mut said = bench.answer(1, Answer::Refused);
    for _ in 0..5 {
        said.extend(bench.tell(Input::NotReady));
        said.extend(bench.pass(AFTER));
        said.extend(bench.tell(Input::Ready(Trust::Inferred)));
        said.extend(bench.answer(1, Answer::LostEarly));
    }
    assert_eq!(accepted(&said), []);
}

#[test]
fn whoever_is_on_its_way_is_not_accepted_and_at_its_place_again_it_is() {
    let mut bench = Bench::limited(&[]);
    bench.auto(1);
    assert_eq!(bench.gate.dialing(), 1);
    assert_eq!(accepted(&bench.pass(AFTER - MS)), []);
    bench.goes();
    assert_eq!(accepted(&bench.answer(1, Answer::Refused)), []);
    assert_eq!(accepted(&bench.pass(MS)), [1]);
}

#[test]
fn whoever_leaves_or_is_refused_is_not_accepted() {
    let mut bench = Bench::shut();
    bench.auto(1);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(bench.gate.poll_timeout(), None);
    assert_eq!(accepted(&bench.pass(AFTER)), []);
}

#[test]
fn whoever_waits_aside_at_an_open_gate_is_accepted() {
    let mut bench = Bench::open(1);
    bench.met(0b01);
    let said = bench.arrive_as(1, 1, Accept::AtOnce, NOBODY);
    assert_eq!(accepted(&said), [1]);
}

#[test]
fn whoever_was_passed_over_in_line_and_has_to_go_aside_is_accepted_there() {
    let mut bench = Bench::open(1);
    bench.met(0b11);
    bench.arrive(1); // takes the only slot
    assert_eq!(accepted(&bench.arrive_as(2, 1, Accept::AtOnce, NOBODY)), []);
    assert_eq!(bench.met(0b01), [2]);
}

#[test]
fn a_browser_whose_address_was_accepted_in_this_period_is_accepted_at_once_and_others_wait() {
    let mut bench = Bench::shut();
    bench.arrive_as(1, 0, Accept::AtOnce, browser(7));
    let auto = |bench: &mut Bench, id, who| accepted(&bench.arrive_as(id, 0, Accept::After(AFTER), who));
    assert_eq!(auto(&mut bench, 2, browser(7)), [2]);
    assert_eq!(auto(&mut bench, 3, browser(8)), [], "another address");
    let other = Who {
        is_browser: false,
        ..browser(7)
    };
    assert_eq!(auto(&mut bench, 4, other), [], "no browser");
    assert_eq!(accepted(&bench.arrive_as(5, 0, Accept::Never, browser(7))), []);
}

#[test]
fn a_browser_that_followed_in_one_period_waits_its_time_in_the_next() {
    let mut bench = Bench::small(100, 1);
    bench.arrive_as(1, 0, Accept::AtOnce, browser(7));
    bench.tell(Input::Ready(Trust::Pushed));
    bench.answer(1, Answer::Switched);
    bench.pass(SETTLE);
    // It is let in at the open gate, and its dial fails.
    let said = bench.arrive_as(2, 0, Accept::After(AFTER), browser(7));
    assert_eq!(dialled(&said), [2]);
    let said = bench.answer(2, Answer::Refused);
    assert_eq!((requeued(&said), accepted(&said)), (vec![2], vec![]));
    assert_eq!(accepted(&bench.pass(AFTER - MS)), []);
    assert_eq!(accepted(&bench.pass(MS)), [2]);
}

#[test]
fn acceptance_costs_no_place() {
    let mut bench = Bench::shut();
    for (id, accept) in [(1, Accept::Never), (2, Accept::AtOnce), (3, Accept::Never)] {
        bench.arrive_as(id, 0, accept, NOBODY);
    }
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1, 2, 3]);
}

/// At each stage, in line and aside: who is accepted on arrival, who `AFTER` later, and who is not.
#[test]
fn who_is_accepted_at_which_stage() {
    let stages = ["shut", "limited", "doubt", "proving", "sure", "failed", "draining"];
    let wishes = [Accept::Never, Accept::AtOnce, Accept::After(AFTER)];
    let mut table = String::new();
    for stage in stages {
        for (need, place) in [(0, "in line"), (1, "aside")] {
            for wish in wishes {
                let mut bench = Bench::small(10, 1);
                bench.met(0b01);
                match stage {
                    "shut" => {}
                    "doubt" => drop(bench.tell(Input::Ready(Trust::Pushed))),
                    "failed" => drop(bench.tell(Input::Failed)),
                    "draining" => drop(bench.tell(Input::Drain)),
                    _ => drop(bench.tell(Input::Ready(Trust::Inferred))),
                }
                if matches!(stage, "proving" | "sure") {
                    bench.arrive(1);
                    bench.answer(1, Answer::Spoke);
                }
                if stage == "sure" {
                    bench.pass(PROVE_FOR);
                }
                bench.tell(Input::Spare(0)); // so that nobody is let in
                let now = accepted(&bench.arrive_as(2, need, wish, NOBODY));
                let is_held = bench.gate.held() == 1;
                let later = accepted(&bench.pass(AFTER));
                let then = match (is_held, now.len(), later.len()) {
                    (false, 0, 0) => "not held",
                    (true, 1, 0) => "at once",
                    (true, 0, 1) => "at its time",
                    (true, 0, 0) => "not",
                    other => panic!("{stage} {place} {wish:?}: {other:?}"),
                };
                table.push_str(&format!("{stage:9} {place:7} {:12} → {then}\n", format!("{wish:?}")));
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// The house's budget for what accepted clients say is used up for a while.
#[test]
fn nobody_is_accepted_while_there_is_no_room_for_words_and_whoever_could_wait_is_when_there_is() {
    let mut bench = Bench::shut();
    bench.tell(Input::Room(false));
    assert_eq!(bench.auto(1), []);
    let said = bench.arrive_as(2, 0, Accept::AtOnce, NOBODY);
    assert!(
        said.contains(&Output::Refuse(SessionId(2), Refusal::EarlyBudget)),
        "{said:?}"
    );
    assert_eq!(accepted(&bench.pass(AFTER)), []);
    assert_eq!(accepted(&bench.arrive_as(3, 0, Accept::After(AFTER), browser(7))), []);
    assert_eq!(bench.gate.held(), 2, "who would wait before the 101 goes on so");
    assert_eq!(accepted(&bench.tell(Input::Room(true))), [1, 3]);
    // It outlives the hold period.
    bench.tell(Input::Room(false));
    bench.tell(Input::Ready(Trust::Pushed));
    bench.goes();
    assert_eq!(bench.auto(4), []);
    assert_eq!(accepted(&bench.pass(AFTER)), []);
}

/// A server that took the connection and says nothing may be busy starting: its client's patience ends meanwhile.
#[test]
fn whoever_is_dialled_and_unanswered_when_it_is_to_be_accepted_goes_back_for_that_once() {
    let mut bench = Bench::shut();
    bench.auto(1);
    bench.tell(Input::Ready(Trust::Inferred));
    let said = bench.pass(AFTER);
    assert!(
        said.contains(&Output::Requeue(SessionId(1), Answer::GivenUp)),
        "{said:?}"
    );
    assert_eq!(accepted(&said), [1]);
    assert_eq!(
        dialled(&said),
        [1],
        "again, as one that is accepted, and now the answer is waited for"
    );
    let said = bench.pass(HOUR / 2);
    assert!(!said.iter().any(|o| matches!(o, Output::Requeue(..))), "{said:?}");
    assert!(bench.answer(1, Answer::Spoke).contains(&Output::Forward(SessionId(1))));
}

#[test]
fn no_dial_is_given_up_before_it_was_unanswered_for_its_patience_nor_at_an_open_gate() {
    let mut bench = Bench::shut();
    bench.tell(Input::Ready(Trust::Inferred));
    bench.pass(AFTER);
    let said = bench.arrive_as(1, 0, Accept::AtOnce, NOBODY);
    assert_eq!(dialled(&said), [1], "the canary");
    assert_eq!(accepted(&bench.pass(DIAL_PATIENCE - MS)), []);
    assert_eq!(accepted(&bench.pass(MS)), [1]);

    let mut open = Bench::shut();
    open.tell(Input::Ready(Trust::Pushed));
    open.auto(1);
    open.answer(1, Answer::Switched);
    open.pass(HOUR / 4);
    open.auto(2);
    let said = open.pass(HOUR / 4);
    assert!(
        !said
            .iter()
            .any(|o| matches!(o, Output::Requeue(..) | Output::Accept(_))),
        "{said:?}"
    );
}

/// A server that has listened for hours, and whose first client comes now: nobody is accepted for that.
#[test]
fn who_comes_to_a_limited_gate_at_which_nobody_is_begins_the_hold_period() {
    let mut bench = Bench::shut();
    bench.tell(Input::Ready(Trust::Inferred));
    bench.pass(10 * AFTER);
    assert_eq!(bench.auto(1), [], "it is dialled");
    assert_eq!(bench.auto(2), [], "and the next waits behind it, without a 101");
    assert_eq!(accepted(&bench.pass(AFTER / 2)), []);
    assert_eq!(bench.auto(3), [], "which begins nothing anew");
    assert_eq!(accepted(&bench.pass(AFTER / 2)), [1, 2, 3]);
}
