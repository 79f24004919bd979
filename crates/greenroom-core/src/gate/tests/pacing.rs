//! How many dials are out, and how many begin in a second.

use super::*;
use crate::limits::{DIAL_PATIENCE, DIALS_MIN, DIALS_START, SLOW_HANDSHAKE};

/// Open without doubt, and 64 of 1,000 who wait are on their way.
fn busy() -> Bench {
    let mut bench = Bench::open(64);
    (1..=1_000).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(bench.gate.dialing(), 64);
    bench
}

impl Bench {
    /// As many as may be out once all that are out now are answered so.
    fn window_after(&mut self, answer: impl Fn(u64) -> Option<Answer>) -> usize {
        let out: Vec<u64> = self.gate.dialing.keys().map(|id| id.0).collect();
        for id in out {
            match answer(id) {
                Some(answer) => drop(self.answer(id, answer)),
                None => drop(self.tell(Input::Left(SessionId(id)))),
            }
        }
        self.gate.dialing()
    }
}

#[test]
fn dials_that_fail_together_halve_the_window_once_and_the_next_round_halves_it_again_down_to_its_least() {
    let mut bench = busy();
    for expected in [32, 16, DIALS_MIN, DIALS_MIN] {
        assert_eq!(bench.window_after(|_| Some(Answer::Status(503))), expected);
    }
}

#[test]
fn each_answer_widens_the_window_by_one_so_that_it_doubles_with_each_round() {
    let mut bench = busy();
    for expected in [32, 16, DIALS_MIN] {
        bench.window_after(|_| Some(Answer::Status(503)));
        assert_eq!(bench.gate.dialing(), expected);
    }
    for expected in [2 * DIALS_MIN, 4 * DIALS_MIN, 64, 64] {
        assert_eq!(
            bench.window_after(|_| Some(Answer::Switched)),
            expected,
            "and not past its most"
        );
    }
}

#[test]
fn a_handshake_that_is_answered_late_halves_the_window_once_for_all_that_were_dialled_before() {
    let mut bench = busy();
    bench.pass(SLOW_HANDSHAKE - MS);
    assert_eq!(bench.window_after(|_| Some(Answer::Switched)), 64, "just in time");
    bench.pass(SLOW_HANDSHAKE);
    assert_eq!(
        bench.window_after(|_| Some(Answer::Switched)),
        32,
        "and none of them widens it"
    );
    bench.pass(SLOW_HANDSHAKE);
    assert_eq!(bench.window_after(|_| Some(Answer::Status(404))), 16);
}

#[test]
fn one_late_answer_among_many_costs_half_and_the_others_bring_it_back() {
    let mut bench = Bench::open(64);
    bench.arrive(1);
    bench.pass(SLOW_HANDSHAKE);
    (2..=1_000).for_each(|id| drop(bench.arrive(id)));
    bench.answer(1, Answer::Switched);
    assert_eq!(bench.gate.pace.window, 32);
    for id in 2..=10 {
        bench.answer(id, Answer::Switched);
    }
    assert_eq!(bench.gate.pace.window, 41);
}

#[test]
fn a_plain_answer_that_takes_long_slows_nobody_down() {
    for answer in [Answer::Served, Answer::Status(404)] {
        let mut bench = Bench::shut();
        bench.tell(Input::Ready(Trust::Pushed));
        let deadline = bench.now + HOUR;
        bench.tell(Input::Arrived {
            id: SessionId(1),
            deadline,
            may_wait: true,
            class: Class::Http { is_safe: true },
            need: 0,
            accept: Accept::Never,
            who: Who::default(),
        });
        bench.answer(1, Answer::Sent);
        bench.pass(SLOW_HANDSHAKE);
        bench.answer(1, answer);
        assert_eq!(bench.gate.pace.window, 64);
    }
}

#[test]
fn a_handshake_that_waited_beyond_its_slot_is_late_too() {
    let mut bench = Bench::open(16);
    bench.arrive(1);
    bench.pass(DIAL_PATIENCE);
    bench.answer(1, Answer::Switched);
    assert_eq!(bench.gate.pace.window, 8);
}

#[test]
fn a_gate_that_opens_for_the_first_time_has_its_whole_window_and_after_a_restart_it_begins_small() {
    let mut bench = Bench::small(1_000, 64);
    (1..=500).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))).len(), 64);
    bench.tell(Input::NotReady);
    bench.window_after(|_| None);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))).len(), DIALS_START);
    for expected in [2 * DIALS_START, 4 * DIALS_START, 64] {
        assert_eq!(
            bench.window_after(|_| Some(Answer::Switched)),
            expected,
            "it doubles with each round"
        );
    }
}

#[test]
fn a_gate_whose_first_ready_signals_came_too_early_was_not_open_before() {
    let mut bench = Bench::small(1_000, 64);
    (1..=200).for_each(|id| drop(bench.arrive(id)));
    bench.tell(Input::Ready(Trust::Pushed));
    bench.window_after(|_| Some(Answer::Refused));
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))).len(), 64);
}

#[test]
fn what_was_dialled_before_a_restart_does_not_slow_down_what_comes_after_it() {
    let mut bench = Bench::open(64);
    bench.arrive(1);
    bench.tell(Input::NotReady);
    bench.pass(SLOW_HANDSHAKE);
    bench.tell(Input::Ready(Trust::Pushed));
    for id in 2..=10 {
        bench.arrive(id);
        bench.answer(id, Answer::Switched);
    }
    let window = bench.gate.pace.window;
    bench.answer(1, Answer::Switched);
    assert_eq!(bench.gate.pace.window, window);
}

/// At this rate, shut.
fn at_rate(per_second: usize) -> Bench {
    Bench::new(GateLimits {
        release_rate: Some(per_second),
        ..GateLimits::default()
    })
}

/// When each of the first `count` is let in, each answered at once, woken when the gate asks for it and not else.
fn let_in_at(bench: &mut Bench, count: usize) -> Vec<Time> {
    let mut said = bench.tell(Input::Ready(Trust::Pushed));
    let mut times = Vec::new();
    while times.len() < count {
        for id in dialled(&said) {
            times.push(bench.now);
            bench.answer(id, Answer::Switched);
        }
        let at = bench.gate.poll_timeout().expect("somebody waits");
        said = bench.pass(at.since(bench.now));
    }
    times
}

#[test]
fn nobody_is_let_in_faster_than_release_rate_and_it_is_exact_over_any_time() {
    for rate in [1, 3, 7, 30] {
        let mut bench = at_rate(rate);
        (1..=1_000).for_each(|id| drop(bench.arrive(id)));
        let burst = (rate / 10).max(1);
        let times = let_in_at(&mut bench, 200);
        for (nth, at) in times.iter().enumerate() {
            // The burst goes at once; from then on each at its own instant, to the nanosecond: no drift.
            let due = (nth + 1).saturating_sub(burst) as u64;
            let exact = (due * 1_000_000_000).div_ceil(rate as u64);
            assert_eq!(at.since(times[0]).as_nanos() as u64, exact, "{nth} at {rate} a second");
        }
    }
}

#[test]
fn what_a_rate_did_not_use_is_kept_for_a_burst_and_no_more() {
    let mut bench = at_rate(100);
    bench.tell(Input::Ready(Trust::Pushed));
    bench.arrive(1);
    bench.answer(1, Answer::Switched);
    bench.pass(HOUR / 2);
    let said: Vec<u64> = (2..=100).flat_map(|id| dialled(&bench.arrive(id))).collect();
    assert_eq!(said, (2..=11).collect::<Vec<_>>());
    assert_eq!(dialled(&bench.pass(10 * MS - Duration::from_nanos(1))), []);
    assert_eq!(dialled(&bench.pass(Duration::from_nanos(1))), [12]);
}

#[test]
fn canaries_keep_to_the_rate_too() {
    let mut bench = at_rate(1);
    (1..=3).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), [1]);
    bench.answer(1, Answer::Refused);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY * 2)), []);
    assert_eq!(dialled(&bench.arrive(4)), [], "whatever wakes the gate");
    assert_eq!(dialled(&bench.pass(Duration::from_secs(1) - CANARY_EVERY * 2 - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [2]);
}

#[test]
fn without_a_rate_or_without_anybody_there_the_gate_asks_for_no_timer() {
    for rate in [None, Some(5)] {
        let mut bench = Bench::new(GateLimits {
            release_rate: rate,
            ..GateLimits::default()
        });
        bench.tell(Input::Ready(Trust::Pushed));
        bench.arrive(1);
        bench.answer(1, Answer::Switched);
        bench.pass(SETTLE);
        assert_eq!(
            (bench.gate.stage(), bench.gate.poll_timeout()),
            (Stage::Open(Trial::Over), None)
        );
    }
}

#[test]
fn a_full_window_waits_for_its_answers_and_not_for_the_rate() {
    let mut bench = Bench::new(GateLimits {
        release_rate: Some(1_000),
        dials_max: 1,
        ..GateLimits::default()
    });
    bench.tell(Input::Ready(Trust::Pushed));
    bench.arrive(1);
    bench.answer(1, Answer::Switched);
    bench.pass(SETTLE);
    bench.arrive(2);
    bench.arrive(3);
    assert_eq!(bench.gate.poll_timeout(), Some(bench.now + DIAL_PATIENCE));
}
