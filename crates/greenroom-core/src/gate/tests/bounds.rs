//! Other bounds while clients wait and are on their way.

use super::*;
use proptest::prelude::*;

impl Bench {
    fn bounds(&mut self, change: impl FnOnce(&mut GateLimits)) -> Vec<Output> {
        let mut limits = self.gate.limits;
        change(&mut limits);
        self.gate.set_limits(self.now, limits);
        self.drain()
    }
}

fn of(key: u64) -> Who {
    Who {
        address: key,
        key,
        is_browser: false,
    }
}

#[test]
fn nobody_is_thrown_out_by_lower_bounds_and_nobody_more_comes_in_until_it_is_less() {
    let mut bench = Bench::small(10, 4);
    (1..=10).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(bench.bounds(|limits| limits.held_max = 3), []);
    assert_eq!(bench.gate.held(), 10);
    assert_eq!(refused(&bench.arrive(11)), [(11, Refusal::HeldFull)]);
    (1..=8).for_each(|id| drop(bench.tell(Input::Left(SessionId(id)))));
    assert_eq!(bench.arrive(12), [Output::Held(SessionId(12), 3)]);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [9, 10, 12]);
}

#[test]
fn a_wider_window_lets_in_more_at_once_and_a_narrower_one_nobody_until_answers_came() {
    let mut bench = Bench::open(2);
    (1..=9).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(dialled(&bench.bounds(|limits| limits.dials_max = 5)), [3, 4, 5]);
    assert_eq!(bench.bounds(|limits| limits.dials_max = 1), []);
    for id in 1..=4 {
        assert_eq!(dialled(&bench.answer(id, Answer::Switched)), [0; 0], "{id}");
    }
    assert_eq!(dialled(&bench.answer(5, Answer::Switched)), [6]);
}

#[test]
fn a_window_that_has_shrunk_stays_so() {
    let mut bench = Bench::open(64);
    (1..=200).for_each(|id| drop(bench.arrive(id)));
    (1..=64).for_each(|id| drop(bench.answer(id, Answer::Status(503))));
    assert_eq!(bench.gate.dialing(), 32);
    assert_eq!(bench.bounds(|limits| limits.dials_max = 100), []);
}

#[test]
fn another_rate_begins_where_the_old_one_was() {
    let mut bench = Bench::open(64);
    bench.bounds(|limits| limits.release_rate = Some(10));
    (1..=9).for_each(|id| drop(bench.arrive(id)));
    let held = bench.gate.held();
    assert!(held >= 7, "{held} wait");
    assert_eq!(dialled(&bench.bounds(|limits| limits.release_rate = Some(20))), [0; 0]);
    assert_eq!(
        dialled(&bench.pass(50 * MS)).len(),
        1,
        "the debt is halved with the time that each takes"
    );
    assert_eq!(
        dialled(&bench.bounds(|limits| limits.release_rate = None)).len(),
        held - 1
    );
}

#[test]
fn who_waited_before_turns_were_shared_goes_before_who_came_later() {
    let mut bench = Bench::small(100, 1);
    (1..=6).for_each(|id| drop(bench.arrive_as(id, 0, Accept::Never, of(0))));
    bench.bounds(|limits| limits.fair = true);
    (7..=9).for_each(|id| drop(bench.arrive_as(id, 0, Accept::Never, of(id))));
    let line: Vec<u64> = bench.gate.line().map(|id| id.0).collect();
    assert_eq!(line, (1..=9).collect::<Vec<_>>());
    bench.tell(Input::Ready(Trust::Pushed));
    for id in 1..=8 {
        assert_eq!(dialled(&bench.answer(id, Answer::Switched)), [id + 1]);
    }
}

#[test]
fn who_is_on_its_way_when_turns_begin_to_be_shared_keeps_its_place() {
    let mut bench = Bench::small(100, 1);
    bench.tell(Input::Ready(Trust::Pushed));
    (1..=4).for_each(|id| drop(bench.arrive_as(id, 0, Accept::Never, of(0))));
    bench.bounds(|limits| limits.fair = true);
    bench.arrive_as(5, 0, Accept::Never, of(5));
    assert_eq!(requeued(&bench.answer(1, Answer::Refused)), [1]);
    let line: Vec<u64> = bench.gate.line().map(|id| id.0).collect();
    assert_eq!(line, [1, 2, 3, 4, 5]);
    bench.bounds(|limits| limits.fair = false);
    let line: Vec<u64> = bench.gate.line().map(|id| id.0).collect();
    assert_eq!(line, [1, 2, 3, 4, 5]);
}

#[test]
fn those_of_one_address_are_counted_anew_where_there_is_a_limit_from_now_on() {
    let mut bench = Bench::shut();
    (1..=3).for_each(|id| drop(bench.arrive_as(id, 0, Accept::Never, of(7))));
    bench.bounds(|limits| limits.held_per_address = Some(3));
    let said = bench.arrive_as(4, 0, Accept::Never, of(7));
    assert_eq!(refused(&said), [(4, Refusal::HeldOfAddress)]);
    bench.tell(Input::Left(SessionId(2)));
    assert_eq!(refused(&bench.arrive_as(5, 0, Accept::Never, of(7))), []);
    bench.bounds(|limits| limits.held_per_address = None);
    assert_eq!(refused(&bench.arrive_as(6, 0, Accept::Never, of(7))), []);
}

proptest! {
    /// The invariants are asserted at each step; here: who is held stays, in order, whatever the bounds do.
    #[test]
    fn whatever_the_bounds_do_nobody_is_lost(steps in prop::collection::vec((0u8..8, 0u64..40, 1usize..6), 1..200)) {
        let mut bench = Bench::small(6, 2);
        let (mut next, mut there) = (1, BTreeSet::new());
        let settle = |there: &mut BTreeSet<u64>, said: &[Output]| {
            for (id, why) in refused(said) {
                prop_assert!(matches!(why, Refusal::HeldFull | Refusal::HeldOfAddress | Refusal::HeldOfKey | Refusal::NotReady), "{id} {why:?}");
                there.remove(&id);
            }
            for id in forwarded(said) {
                there.remove(&id);
            }
            Ok(())
        };
        for (what, who, number) in steps {
            let said = match what {
                0 | 1 => {
                    there.insert(next);
                    next += 1;
                    bench.arrive_as(next - 1, 0, Accept::Never, of(who % 3))
                }
                2 => {
                    there.remove(&who);
                    bench.tell(Input::Left(SessionId(who)))
                }
                3 => bench.answer(who, if number % 2 == 0 { Answer::Switched } else { Answer::Status(503) }),
                4 => bench.tell(Input::Ready(if number % 2 == 0 { Trust::Pushed } else { Trust::Inferred })),
                5 => bench.tell(Input::NotReady),
                6 => bench.pass(MS * u32::try_from(who * 7).unwrap()),
                _ => {
                    let before: Vec<_> = bench.gate.line().collect();
                    let was_fair = bench.gate.limits.fair;
                    let said = bench.bounds(|limits| match who % 6 {
                        0 => limits.held_max = number,
                        1 => limits.dials_max = number,
                        2 => limits.fair = number > 2,
                        3 => limits.held_per_address = Some(number).filter(|n| *n < 4),
                        4 => limits.held_per_key = Some(number).filter(|n| *n < 4),
                        _ => limits.release_rate = Some(number).filter(|n| *n < 4),
                    });
                    prop_assert!(refused(&said).is_empty());
                    if was_fair == bench.gate.limits.fair {
                        let gone = dialled(&said);
                        let before: Vec<_> = before.into_iter().filter(|id| !gone.contains(&id.0)).collect();
                        prop_assert_eq!(before, bench.gate.line().collect::<Vec<_>>());
                    }
                    said
                }
            };
            settle(&mut there, &said)?;
            let here: BTreeSet<u64> = bench.gate.line().map(|id| id.0).chain(bench.gate.dialing.keys().map(|id| id.0)).collect();
            prop_assert_eq!(&here, &there);
        }
    }
}
