//! The gate's promises, each a test, and the table of stage by answer.
//!
//! `Bench` drives one gate by hand: each step gives what the gate said.

mod accept;
mod benched;
mod bounds;
mod deaths;
mod fair;
mod hand;
mod needs;
mod pacing;
mod plain;
mod settling;
mod slots;

use std::collections::BTreeSet;

use super::*;
use crate::limits::{
    CANARY_EVERY, CANARY_PATIENCE, PROVE_FOR, READY_DOUBT, SETTLE as PROMISED, SETTLE_FACTOR, SETTLE_SLACK,
};
use core::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

struct Bench {
    gate: Gate,
    now: Time,
    /// Each last look shows nothing, and is answered at once.
    calm: bool,
}

impl Bench {
    fn new(limits: GateLimits) -> Self {
        let now = Time::from_millis(1);
        let gate = Gate::new(limits, now);
        Self { gate, now, calm: true }
    }

    fn shut() -> Self {
        Self::new(GateLimits::default())
    }

    fn small(held_max: usize, dials_max: usize) -> Self {
        Self::new(GateLimits {
            held_max,
            dials_max,
            ..GateLimits::default()
        })
    }

    /// Open without doubt, nobody there.
    fn open(dials_max: usize) -> Self {
        let mut bench = Self::small(1000, dials_max);
        bench.tell(Input::Ready(Trust::Pushed));
        bench.arrive(0);
        bench.answer(0, Answer::Switched);
        bench.pass(SETTLE);
        assert_eq!(bench.gate.stage(), Stage::Open(Trial::Over));
        bench
    }

    /// Limited, with these held.
    fn limited(ids: &[u64]) -> Self {
        let mut bench = Self::shut();
        for &id in ids {
            bench.arrive(id);
        }
        bench.tell(Input::Ready(Trust::Inferred));
        bench
    }

    fn drain(&mut self) -> Vec<Output> {
        let mut said = Vec::new();
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Look(id) if self.calm => self.gate.handle(self.now, Input::Answered(id, Answer::Stood)),
                other => said.push(other),
            }
        }
        said
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.gate.handle(self.now, input);
        self.drain()
    }

    fn arrive(&mut self, id: u64) -> Vec<Output> {
        self.arrive_for(id, HOUR, true)
    }

    fn arrive_for(&mut self, id: u64, hold: Duration, may_wait: bool) -> Vec<Output> {
        let deadline = self.now + hold;
        self.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait,
            class: Class::WebSocket,
            need: 0,
            accept: Accept::Never,
            who: Who::default(),
        })
    }

    /// A WebSocket client with more to tell.
    fn arrive_as(&mut self, id: u64, need: u8, accept: Accept, who: Who) -> Vec<Output> {
        let deadline = self.now + HOUR;
        self.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait: true,
            class: Class::WebSocket,
            need,
            accept,
            who,
        })
    }

    fn is_free(&self) -> bool {
        self.gate.free().has(0)
    }

    fn answer(&mut self, id: u64, answer: Answer) -> Vec<Output> {
        self.tell(Input::Answered(SessionId(id), answer))
    }

    /// Lets time go by, waking the gate when it asked for it and not else.
    fn pass(&mut self, by: Duration) -> Vec<Output> {
        let (end, mut said) = (self.now + by, Vec::new());
        while let Some(at) = self.gate.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.gate.handle_timeout(self.now);
            said.extend(self.drain());
            assert!(
                self.gate.poll_timeout() > Some(self.now) || self.gate.poll_timeout().is_none(),
                "a busy loop"
            );
        }
        self.now = end;
        said
    }
}

fn dialled(said: &[Output]) -> Vec<u64> {
    let dial = |o: &Output| {
        if let Output::Dial { id, .. } = o {
            Some(id.0)
        } else {
            None
        }
    };
    said.iter().filter_map(dial).collect()
}

fn forwarded(said: &[Output]) -> Vec<u64> {
    let forward = |o: &Output| if let Output::Forward(id) = o { Some(id.0) } else { None };
    said.iter().filter_map(forward).collect()
}

fn requeued(said: &[Output]) -> Vec<u64> {
    let requeue = |o: &Output| {
        if let Output::Requeue(id, _) = o {
            Some(id.0)
        } else {
            None
        }
    };
    said.iter().filter_map(requeue).collect()
}

fn refused(said: &[Output]) -> Vec<(u64, Refusal)> {
    let refuse = |o: &Output| {
        if let Output::Refuse(id, why) = o {
            Some((id.0, *why))
        } else {
            None
        }
    };
    said.iter().filter_map(refuse).collect()
}

#[test]
fn held_clients_are_let_in_in_the_order_of_their_arrival() {
    let mut bench = Bench::shut();
    for id in 1..=64 {
        assert_eq!(bench.arrive(id), [Output::Held(SessionId(id), id as usize)]);
    }
    assert_eq!(
        dialled(&bench.tell(Input::Ready(Trust::Pushed))),
        (1..=64).collect::<Vec<_>>()
    );
}

#[test]
fn no_more_dials_than_the_window_and_each_answer_lets_one_in() {
    let mut bench = Bench::open(3);
    let said: Vec<_> = (1..=6).flat_map(|id| bench.arrive(id)).collect();
    assert_eq!(dialled(&said), [1, 2, 3]);
    assert_eq!(dialled(&bench.answer(2, Answer::Switched)), [4]);
    assert_eq!(dialled(&bench.tell(Input::Left(SessionId(1)))), [5]);
    assert_eq!(dialled(&bench.answer(3, Answer::Status(404))), [6]);
}

#[test]
fn a_canary_goes_alone_and_the_next_at_least_canary_every_later() {
    let mut bench = Bench::shut();
    (1..=3).for_each(|id| drop(bench.arrive(id)));
    let said = bench.tell(Input::Ready(Trust::Inferred));
    assert_eq!(dialled(&said), [1]);
    assert!(matches!(
        said[1],
        Output::Dial {
            canary: true,
            attempt: 1,
            ..
        }
    ));
    assert_eq!(dialled(&bench.pass(CANARY_EVERY / 2)), []);
    assert_eq!(requeued(&bench.answer(1, Answer::Refused)), [1]);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY / 2 - MS)), []);
    assert_eq!(
        dialled(&bench.pass(MS)),
        [2],
        "the next in the round, not the same one again"
    );
    // A gate that shuts and is limited again within the pause does not shorten it.
    bench.answer(2, Answer::Refused);
    bench.tell(Input::NotReady);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Inferred))), []);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [1], "a new round begins at the front");
}

#[test]
fn a_canary_that_hangs_delays_the_next_by_its_patience_and_no_more() {
    let mut bench = Bench::limited(&[1, 2]);
    assert_eq!(dialled(&bench.pass(CANARY_PATIENCE - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [2]);
    bench.answer(2, Answer::Switched);
    assert_eq!(forwarded(&bench.pass(CANARY_SETTLE)), [2]);
    assert_eq!(bench.gate.dialing(), 1, "the other still waits for its answer");
}

#[test]
fn a_data_frame_of_the_canary_is_a_proof_at_once() {
    let mut bench = Bench::limited(&[1, 2]);
    bench.answer(1, Answer::Switched);
    let said = bench.answer(1, Answer::Spoke);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![1], vec![2]));
}

#[test]
fn a_session_that_is_sent_back_is_in_its_old_place() {
    let mut bench = Bench::open(2);
    (1..=5).for_each(|id| drop(bench.arrive(id)));
    assert_eq!(requeued(&bench.answer(2, Answer::Refused)), [2]);
    assert_eq!(requeued(&bench.answer(1, Answer::ConnectTimeout)), [1]);
    assert_eq!((bench.gate.stage(), bench.gate.held()), (Stage::Shut, 5));
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1, 2]);
}

#[test]
fn a_ready_that_came_too_early_is_doubted_and_nobody_sees_it() {
    for answer in [
        Answer::Refused,
        Answer::Dropped,
        Answer::Status(503),
        Answer::ConnectTimeout,
    ] {
        let mut bench = Bench::shut();
        (1..=3).for_each(|id| drop(bench.arrive(id)));
        bench.tell(Input::Ready(Trust::Pushed));
        let said = bench.answer(1, answer);
        assert_eq!(requeued(&said), [1], "{answer:?}");
        assert!(said.contains(&Output::Changed(Change::Doubted)), "{answer:?}");
        assert_eq!(requeued(&bench.answer(2, answer)), [2], "{answer:?}");
    }
    let mut silent = Bench::shut();
    silent.arrive(1);
    silent.tell(Input::Ready(Trust::Pushed));
    assert_eq!(silent.pass(READY_DOUBT - MS), []);
    assert_eq!(silent.pass(MS), [Output::Changed(Change::Doubted)]);
    let mut lost = Bench::shut();
    lost.arrive(1);
    lost.tell(Input::Ready(Trust::Pushed));
    assert_eq!(forwarded(&lost.answer(1, Answer::Switched)), [1], "its word is taken");
    lost.pass(SETTLE - MS);
    assert_eq!(
        lost.tell(Input::LostEarly(SETTLE - MS)),
        [Output::Changed(Change::Doubted)]
    );
}

#[test]
fn one_poisoned_request_blocks_nobody() {
    let poisons = [
        Some(Answer::Status(500)),
        Some(Answer::Status(503)),
        Some(Answer::Dropped),
        None,
    ];
    for poison in poisons {
        for trust in [Trust::Pushed, Trust::Inferred] {
            let mut bench = Bench::shut();
            (1..=20).for_each(|id| drop(bench.arrive(id)));
            let (mut open, mut said, mut through) = (BTreeSet::new(), bench.tell(Input::Ready(trust)), Vec::new());
            for _ in 0..400 {
                open.extend(dialled(&said));
                through.extend(forwarded(&said));
                said = match (open.pop_first(), poison) {
                    (Some(1), Some(answer)) => bench.answer(1, answer),
                    (Some(1), None) | (None, _) => bench.pass(10 * MS),
                    (Some(id), _) => bench.answer(id, Answer::Switched),
                };
                if said.contains(&Output::Changed(Change::Unreachable)) {
                    said.extend(bench.tell(Input::Ready(Trust::Inferred)));
                }
            }
            through.sort_unstable();
            through.dedup();
            let others: Vec<u64> = (2..=20).collect();
            assert!(through.ends_with(&others), "{poison:?} {trust:?}: {through:?}");
        }
    }
}

#[test]
fn a_dropped_dial_at_the_sure_gate_is_tried_again_and_two_of_them_shut_it() {
    let mut lone = Bench::open(4);
    lone.arrive(1);
    for _ in 0..3 {
        let said = lone.answer(1, Answer::Dropped);
        assert_eq!((requeued(&said), dialled(&said)), (vec![1], vec![1]));
    }
    assert_eq!(
        forwarded(&lone.answer(1, Answer::Dropped)),
        [1],
        "it is this request: its client hears so"
    );
    let mut two = Bench::open(4);
    two.arrive(1);
    two.arrive(2);
    two.answer(2, Answer::Dropped);
    assert!(
        two.answer(1, Answer::Dropped)
            .contains(&Output::Changed(Change::Unreachable))
    );
    assert_eq!(
        (two.gate.held(), two.gate.dialing()),
        (1, 1),
        "the second dial of 2 is out"
    );
}

#[test]
fn nobody_waits_past_the_deadline_held_or_dialled() {
    let mut bench = Bench::shut();
    bench.arrive_for(1, 50 * MS, true);
    bench.arrive_for(2, 40 * MS, true);
    assert_eq!(bench.pass(40 * MS - MS), []);
    assert_eq!(refused(&bench.pass(MS)), [(2, Refusal::HoldTimeout)]);
    bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(refused(&bench.pass(10 * MS)), [(1, Refusal::Unanswered)]);
    assert_eq!(
        (bench.gate.held(), bench.gate.dialing(), bench.gate.poll_timeout()),
        (0, 0, None)
    );
    assert_eq!(
        bench.answer(1, Answer::Switched),
        [],
        "an answer that comes after it is nobody's"
    );
}

#[test]
fn a_session_keeps_its_deadline_over_any_number_of_dials() {
    let mut bench = Bench::shut();
    bench.arrive_for(1, 950 * MS, true);
    bench.tell(Input::Ready(Trust::Inferred));
    let mut said = Vec::new();
    for _ in 0..10 {
        bench.answer(1, Answer::Refused);
        said.extend(bench.pass(CANARY_EVERY));
    }
    assert_eq!(refused(&said), [(1, Refusal::HoldTimeout)]);
}

#[test]
fn who_may_not_wait_is_refused_unless_the_gate_is_open() {
    let not_ready = |id| vec![Output::Refuse(SessionId(id), Refusal::NotReady)];
    let mut bench = Bench::small(10, 1);
    assert_eq!(bench.arrive_for(1, HOUR, false), not_ready(1));
    bench.tell(Input::Ready(Trust::Inferred));
    assert_eq!(
        dialled(&bench.arrive_for(2, HOUR, false)),
        [2],
        "somebody has to find out"
    );
    assert_eq!(bench.arrive_for(3, HOUR, false), not_ready(3));
    assert_eq!(bench.answer(2, Answer::Status(503)), not_ready(2));
    bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(dialled(&bench.arrive_for(4, HOUR, false)), [4]);
    assert_eq!(
        bench.arrive_for(5, HOUR, false),
        [Output::Held(SessionId(5), 1)],
        "an open gate has a queue"
    );
    assert_eq!(refused(&bench.tell(Input::NotReady)), [(5, Refusal::NotReady)]);
}

#[test]
fn more_than_held_max_are_refused_and_each_place_is_free_again() {
    let mut bench = Bench::small(2, 1);
    bench.arrive(1);
    bench.arrive(2);
    assert_eq!(bench.arrive(3), [Output::Refuse(SessionId(3), Refusal::HeldFull)]);
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(bench.arrive(4), [Output::Held(SessionId(4), 2)]);
}

#[test]
fn a_failed_start_sends_the_held_away_and_a_new_start_holds_again() {
    let mut bench = Bench::shut();
    bench.arrive(1);
    assert_eq!(refused(&bench.tell(Input::Failed)), [(1, Refusal::StartFailed)]);
    assert_eq!(refused(&bench.arrive(2)), [(2, Refusal::StartFailed)]);
    bench.tell(Input::NotReady);
    assert_eq!(refused(&bench.arrive(3)), []);
}

#[test]
fn draining_refuses_held_and_dialled_for_good() {
    let mut bench = Bench::open(1);
    bench.arrive(1);
    bench.arrive(2);
    let all = [(1, Refusal::Draining), (2, Refusal::Draining)];
    assert_eq!(refused(&bench.tell(Input::Drain)), all);
    for input in [
        Input::Ready(Trust::Pushed),
        Input::NotReady,
        Input::Failed,
        Input::Ready(Trust::Inferred),
    ] {
        assert_eq!(bench.tell(input), []);
    }
    assert_eq!(refused(&bench.arrive(3)), [(3, Refusal::Draining)]);
    assert_eq!((bench.gate.held(), bench.gate.dialing()), (0, 0));
}

#[test]
fn a_spare_descriptor_is_a_condition_of_release() {
    let mut bench = Bench::open(10);
    bench.tell(Input::Spare(1));
    assert_eq!(dialled(&bench.arrive(1)), [1]);
    assert_eq!(bench.arrive(2), [Output::Held(SessionId(2), 1)]);
    assert!(bench.gate.starved());
    assert_eq!(dialled(&bench.tell(Input::Spare(1))), [2]);
    assert_eq!(requeued(&bench.answer(2, Answer::NoDescriptor)), [2]);
    assert_eq!(
        bench.gate.stage(),
        Stage::Open(Trial::Over),
        "nothing is wrong with the backend"
    );
    assert_eq!(dialled(&bench.pass(HOUR / 2)), []);
    assert_eq!(dialled(&bench.tell(Input::Spare(5))), [2]);
}

#[test]
fn stage_by_answer() {
    let answers = [
        Answer::Switched,
        Answer::Stood,
        Answer::Spoke,
        Answer::Status(403),
        Answer::Status(503),
        Answer::Nonsense,
        Answer::Refused,
        Answer::Dropped,
        Answer::NoDescriptor,
        Answer::LostEarly,
    ];
    let mut table = String::new();
    for stage in [
        "shut", "limited", "doubt", "proving", "sure", "failed", "refusing", "draining",
    ] {
        for answer in answers {
            let mut bench = table_start(stage, answer);
            let said = bench.answer(2, answer);
            let said: Vec<_> = said.iter().map(|o| format!("{o:?}")).collect();
            let mut after = format!("{:?}", bench.gate.stage());
            if bench.gate.settle_time() > SETTLE {
                after += &format!(", settle {:?}", bench.gate.settle_time());
            }
            table.push_str(&format!(
                "{stage:9} {:12} → {after}: {}\n",
                format!("{answer:?}"),
                said.join(", ")
            ));
        }
    }
    insta::assert_snapshot!(table);
}

/// What the gate waits, and with a canary.
const SETTLE: Duration = PROMISED.saturating_add(SETTLE_SLACK);
const CANARY_SETTLE: Duration = SETTLE.saturating_mul(SETTLE_FACTOR);

/// A gate at this stage, with session 2 on its way (settling, for the answers that only come then) and 3 held.
fn table_start(stage: &str, answer: Answer) -> Bench {
    let mut bench = Bench::small(10, 1);
    match stage {
        "limited" | "shut" | "failed" | "refusing" => drop(bench.tell(Input::Ready(Trust::Inferred))),
        "doubt" | "draining" => drop(bench.tell(Input::Ready(Trust::Pushed))),
        "proving" | "sure" => {
            bench.tell(Input::Ready(Trust::Inferred));
            bench.arrive(1);
            bench.answer(1, Answer::Spoke);
            bench.pass(PROVE_FOR - MS);
        }
        other => panic!("{other}"),
    }
    bench.arrive(2);
    bench.calm = false;
    if matches!(answer, Answer::Stood | Answer::Spoke | Answer::LostEarly) && stage != "doubt" {
        bench.answer(2, Answer::Switched);
    } else {
        bench.arrive(3);
    }
    match stage {
        "shut" => drop(bench.tell(Input::NotReady)),
        "failed" => drop(bench.tell(Input::Failed)),
        "refusing" => drop(bench.tell(Input::Hand(Hand::Refuse, None))),
        "draining" => drop(bench.tell(Input::Drain)),
        "sure" => drop(bench.pass(MS)),
        _ => {}
    }
    match answer {
        Answer::Stood => drop(bench.pass(CANARY_SETTLE)), // only a look is answered so
        Answer::LostEarly if !matches!(stage, "doubt" | "proving") => drop(bench.pass(SETTLE - MS)),
        _ => {}
    }
    bench
}
