//! Turns by key, and how many of one address and of one key may wait.

use super::*;
use crate::limits::HTTP_ALONE;
use crate::readiness::Needs;

fn of_key(key: u64) -> Who {
    Who { key, ..Who::default() }
}

/// Shut, with turns by key.
fn fair(dials_max: usize) -> Bench {
    Bench::new(GateLimits {
        fair: true,
        dials_max,
        ..GateLimits::default()
    })
}

impl Bench {
    /// Clients 1, 2, … of these keys.
    fn crowd(&mut self, keys: &[u64]) {
        for (id, &key) in (1..).zip(keys) {
            self.arrive_as(id, 0, Accept::Never, of_key(key));
        }
    }

    /// Each that is let in is answered, until nobody is left.
    fn order(&mut self, said: &[Output]) -> Vec<u64> {
        let (mut order, mut next) = (dialled(said), 0);
        while next < order.len() {
            let said = self.answer(order[next], Answer::Switched);
            order.extend(dialled(&said));
            next += 1;
        }
        order
    }
}

#[test]
fn keys_take_turns_and_those_of_one_key_go_in_the_order_of_their_arrival() {
    let mut bench = fair(1);
    bench.crowd(&[7, 7, 7, 7, 8, 9, 9]);
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(bench.order(&said), [1, 5, 6, 2, 7, 3, 4]);
}

#[test]
fn the_line_is_told_in_the_order_in_which_it_will_go() {
    let mut bench = fair(1);
    bench.crowd(&[1, 1, 1, 2, 3, 3, 1, 2, 1]);
    let said = bench.tell(Input::Ready(Trust::Pushed));
    let line: Vec<u64> = bench.gate.line().map(|id| id.0).collect();
    assert_eq!(bench.order(&said)[1..], line);
    assert_eq!(line.len(), 8);
}

#[test]
fn without_fair_the_same_crowd_goes_in_the_order_of_arrival() {
    let mut bench = Bench::small(100, 1);
    bench.crowd(&[7, 7, 7, 7, 8, 9, 9]);
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(bench.order(&said), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn one_with_a_thousand_connections_keeps_the_others_waiting_for_one_round() {
    let mut bench = fair(1);
    bench.crowd(&[1; 1_000]);
    bench.tell(Input::Ready(Trust::Pushed));
    bench.answer(1, Answer::Switched);
    for id in 1_001..=1_010 {
        bench.arrive_as(id, 0, Accept::Never, of_key(id));
    }
    let said = bench.answer(2, Answer::Switched);
    let order = bench.order(&said);
    assert_eq!(
        order[..11],
        [3, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010]
    );
    assert!(order[11..].is_sorted() && order.len() == 1_008);
}

#[test]
fn who_had_turns_while_it_was_alone_owes_nobody_any() {
    let mut bench = fair(1);
    bench.tell(Input::Ready(Trust::Pushed));
    for id in 1..=50 {
        assert_eq!(dialled(&bench.arrive_as(id, 0, Accept::Never, of_key(1))), [id]);
        bench.answer(id, Answer::Switched);
    }
    bench.arrive_as(100, 0, Accept::Never, of_key(3));
    for (id, key) in [(101, 1), (102, 2), (103, 1), (104, 2)] {
        bench.arrive_as(id, 0, Accept::Never, of_key(key));
    }
    let said = bench.answer(100, Answer::Switched);
    assert_eq!(bench.order(&said), [101, 102, 103, 104]);
}

#[test]
fn those_of_a_key_who_waited_and_left_cost_the_others_of_it_no_turn() {
    let mut bench = fair(1);
    bench.crowd(&[1; 100]);
    for id in 101..=103 {
        bench.arrive_as(id, 0, Accept::Never, of_key(2));
    }
    for id in 1..100 {
        bench.tell(Input::Left(SessionId(id)));
    }
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(bench.order(&said), [100, 101, 102, 103]);
}

#[test]
fn keys_that_keep_coming_starve_nobody() {
    let mut bench = fair(1);
    bench.crowd(&[1, 1, 1]);
    let mut said = bench.tell(Input::Ready(Trust::Pushed));
    let mut order = Vec::new();
    for id in 10..30 {
        bench.arrive_as(id, 0, Accept::Never, of_key(id));
        order.extend(dialled(&said));
        said = bench.answer(*order.last().unwrap(), Answer::Switched);
    }
    assert_eq!(order[..6], [1, 2, 10, 3, 11, 12]);
}

#[test]
fn a_session_that_is_sent_back_has_its_old_place_before_the_next_of_its_key_and_of_others() {
    let mut bench = fair(2);
    bench.crowd(&[1, 1, 2, 2, 3]);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1, 3]);
    assert_eq!(bench.gate.place(SessionId(1)), Place::of(Some(1), SessionId(1)));
    bench.answer(3, Answer::Refused);
    bench.answer(1, Answer::Refused);
    bench.tell(Input::NotReady);
    let said = bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(bench.order(&said), [1, 3, 5, 2, 4]);
}

#[test]
fn the_places_that_the_shell_is_told_are_in_the_order_of_the_gate() {
    let mut bench = fair(64);
    bench.crowd(&[1, 1, 1, 2, 2, 3]);
    let order = dialled(&bench.tell(Input::Ready(Trust::Pushed)));
    assert_eq!(order, [1, 4, 6, 2, 5, 3]);
    let places: Vec<_> = order.iter().map(|&id| bench.gate.place(SessionId(id))).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(places.iter().map(|place| place.id.0).collect::<Vec<_>>(), order);
}

#[test]
fn who_waits_aside_blocks_nobody_of_its_key_and_leaves_it_the_turn() {
    let mut bench = fair(1);
    let only = |need: usize| Needs(0).with(need);
    bench.tell(Input::Needs {
        met: Needs::ALL,
        refused: Needs(0),
    });
    for (id, need, key) in [(1, 1, 1), (2, 0, 1), (3, 0, 2), (4, 0, 1)] {
        bench.arrive_as(id, need, Accept::Never, of_key(key));
    }
    bench.tell(Input::Needs {
        met: only(0),
        refused: Needs(0),
    });
    assert_eq!(
        dialled(&bench.tell(Input::Ready(Trust::Pushed))),
        [2],
        "in the turn of the first"
    );
    assert_eq!(dialled(&bench.answer(2, Answer::Switched)), [3]);
    bench.tell(Input::Needs {
        met: Needs::ALL,
        refused: Needs(0),
    });
    assert_eq!(
        dialled(&bench.answer(3, Answer::Switched)),
        [1],
        "before those of its key that came later"
    );
}

#[test]
fn canaries_go_in_the_order_of_places_and_begin_again_at_the_front() {
    let mut bench = fair(4);
    bench.crowd(&[1, 1, 1, 2, 3]);
    let mut tried = dialled(&bench.tell(Input::Ready(Trust::Inferred)));
    for _ in 0..7 {
        bench.answer(*tried.last().unwrap(), Answer::Refused);
        tried.extend(dialled(&bench.pass(CANARY_EVERY)));
    }
    assert_eq!(tried, [1, 4, 5, 2, 3, 1, 4, 5]);
}

#[test]
fn a_canary_is_found_behind_one_of_its_key_that_cannot_be_repeated() {
    let mut bench = fair(4);
    let deadline = bench.now + HOUR;
    for (id, class) in [(1, Class::Http { is_safe: false }), (2, Class::WebSocket)] {
        bench.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait: true,
            class,
            need: 0,
            accept: Accept::Never,
            who: of_key(1),
        });
    }
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), [2]);
    assert_eq!(requeued(&bench.answer(2, Answer::Refused)), [2]);
    bench.tell(Input::Left(SessionId(2)));
    assert_eq!(dialled(&bench.pass(HTTP_ALONE)), [1]);
}

#[test]
fn as_many_of_one_address_wait_as_may_and_the_next_is_refused() {
    let mut bench = Bench::new(GateLimits {
        held_per_address: Some(3),
        ..GateLimits::default()
    });
    let who = |address| Who {
        address,
        ..Who::default()
    };
    let at_limit: Vec<_> = (1..=3)
        .flat_map(|id| bench.arrive_as(id, 0, Accept::Never, who(9)))
        .collect();
    assert_eq!(refused(&at_limit), []);
    let past = bench.arrive_as(4, 0, Accept::Never, who(9));
    assert_eq!(refused(&past), [(4, Refusal::HeldOfAddress)]);
    assert_eq!(refused(&bench.arrive_as(5, 0, Accept::Never, who(8))), []);
    bench.tell(Input::Left(SessionId(2)));
    assert_eq!(
        refused(&bench.arrive_as(6, 0, Accept::Never, who(9))),
        [],
        "its place is free"
    );
    assert_eq!(bench.gate.held(), 4);
}

#[test]
fn as_many_of_one_key_wait_as_may_and_who_is_sent_back_is_not_refused() {
    let mut bench = Bench::new(GateLimits {
        held_per_key: Some(2),
        fair: true,
        dials_max: 1,
        ..GateLimits::default()
    });
    bench.crowd(&[1, 1]);
    assert_eq!(
        refused(&bench.arrive_as(3, 0, Accept::Never, of_key(1))),
        [(3, Refusal::HeldOfKey)]
    );
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1]);
    assert_eq!(refused(&bench.arrive_as(4, 0, Accept::Never, of_key(1))), []);
    let said = bench.answer(1, Answer::Refused);
    assert_eq!((requeued(&said), bench.gate.held()), (vec![1], 3));
    assert_eq!(
        refused(&bench.arrive_as(5, 0, Accept::Never, of_key(1))),
        [(5, Refusal::HeldOfKey)]
    );
    for id in [1, 2, 4] {
        bench.tell(Input::Left(SessionId(id)));
    }
    assert_eq!(
        refused(&bench.arrive_as(6, 0, Accept::Never, of_key(1))),
        [],
        "nothing stays counted"
    );
}

#[test]
fn plain_requests_are_not_counted_among_those_of_an_address() {
    let mut bench = Bench::new(GateLimits {
        held_per_address: Some(1),
        ..GateLimits::default()
    });
    let deadline = bench.now + HOUR;
    assert_eq!(refused(&bench.arrive(1)), []);
    for id in 2..=5 {
        let said = bench.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait: true,
            class: Class::Http { is_safe: true },
            need: 0,
            accept: Accept::Never,
            who: Who::default(),
        });
        assert_eq!(refused(&said), []);
    }
    assert_eq!(refused(&bench.arrive(6)), [(6, Refusal::HeldOfAddress)]);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(refused(&bench.arrive(7)), [], "those who wait take no place of it");
}

/// Also a question of time: a look at everybody who waits, at each of these steps, would take minutes.
#[test]
fn ten_thousand_of_a_hundred_addresses_arrive_come_back_and_go_in_turn() {
    let mut bench = Bench::new(GateLimits {
        fair: true,
        held_per_address: Some(100),
        held_per_key: Some(100),
        ..GateLimits::default()
    });
    let who = |id: u64| Who {
        address: id / 100,
        key: id / 100,
        is_browser: false,
    };
    let came: Vec<_> = (0..10_000)
        .flat_map(|id| bench.arrive_as(id, 0, Accept::AtOnce, who(id)))
        .collect();
    assert_eq!(refused(&came), []);
    let first = dialled(&bench.tell(Input::Ready(Trust::Pushed)));
    bench.tell(Input::NotReady);
    for &id in first.iter().rev() {
        bench.answer(id, Answer::Refused);
    }
    let said = bench.tell(Input::Ready(Trust::Pushed));
    let in_turn: Vec<u64> = (0..100)
        .flat_map(|nth| (0..100).map(move |key| key * 100 + nth))
        .collect();
    assert_eq!(bench.order(&said), in_turn);
}

mod any_order {
    //! The turns against the plainest thing that does the same: all sessions of a key, all turns of it, both sorted.

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use crate::event::SessionId;
    use crate::gate::fair::Turns;

    /// Per key: who is in line, and which turns it has. The first of the ones have the others, in order.
    #[derive(Default)]
    struct Plain {
        last: u64,
        keys: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)>,
    }

    impl Plain {
        fn turn_of(&self, id: u64, key: u64) -> Option<u64> {
            let (ids, turns) = self.keys.get(&key)?;
            ids.iter()
                .zip(turns)
                .find(|&(&other, _)| other == id)
                .map(|(_, &turn)| turn)
        }

        fn join(&mut self, id: u64, key: u64, carried: Option<u64>) {
            let (ids, turns) = self.keys.entry(key).or_default();
            let turn = carried.or_else(|| {
                ids.is_empty().then(|| {
                    self.last += 1;
                    self.last
                })
            });
            ids.insert(id);
            turns.extend(turn);
        }

        fn part(&mut self, id: u64, key: u64, is_let_in: bool) -> Option<u64> {
            let turn = self.turn_of(id, key);
            let (ids, turns) = self.keys.get_mut(&key).expect("it is in line");
            ids.remove(&id);
            let is_only = turns.len() == 1;
            let stays = turn.is_some() && is_only && !ids.is_empty();
            if let Some(turn) = turn
                && (is_let_in || !stays)
            {
                turns.remove(&turn);
            }
            if is_let_in && stays {
                self.last += 1;
                turns.insert(self.last);
            }
            turn.filter(|_| is_let_in || !stays)
        }

        fn order(&self) -> Vec<u64> {
            let turned = self.keys.values().flat_map(|(ids, turns)| turns.iter().zip(ids));
            turned.collect::<BTreeMap<_, _>>().into_values().copied().collect()
        }
    }

    proptest! {
        #[test]
        fn whoever_comes_goes_or_comes_back_the_first_of_each_key_have_its_turns(
            steps in prop::collection::vec((0_u8..4, any::<u16>(), 0_u64..4), 1..200),
        ) {
            let (mut turns, mut plain) = (Turns::new(true), Plain::default());
            // In line, and away with the turn that each carries.
            let (mut line, mut away) = (Vec::new(), Vec::new());
            let mut next_id = 0;
            for (what, pick, key) in steps {
                match what {
                    0 => {
                        next_id += 1;
                        turns.join(SessionId(next_id), key, None);
                        plain.join(next_id, key, None);
                        line.push((next_id, key));
                    }
                    1 if !away.is_empty() => {
                        let (id, key, turn) = away.remove(usize::from(pick) % away.len());
                        turns.join(SessionId(id), key, turn);
                        plain.join(id, key, turn);
                        line.push((id, key));
                    }
                    _ if !line.is_empty() => {
                        let (id, key) = line.remove(usize::from(pick) % line.len());
                        let is_let_in = what == 2;
                        let turn = if is_let_in {
                            turns.let_in(SessionId(id), key)
                        } else {
                            turns.leave(SessionId(id), key)
                        };
                        prop_assert_eq!(turn, plain.part(id, key, is_let_in));
                        away.push((id, key, turn));
                    }
                    _ => {}
                }
                turns.check(line.len());
                prop_assert_eq!(turns.in_order().map(|id| id.0).collect::<Vec<_>>(), plain.order());
                for &(id, key) in &line {
                    prop_assert_eq!(turns.turn_of(SessionId(id), key), plain.turn_of(id, key));
                }
            }
        }
    }
}
