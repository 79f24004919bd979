//! Plain requests at the gate: among the WebSocket clients, first on trial or not, and never twice.

use super::*;
use crate::limits::HTTP_ALONE;

const GET: Class = Class::Http { is_safe: true };
const POST: Class = Class::Http { is_safe: false };

impl Bench {
    fn request(&mut self, id: u64, class: Class) -> Vec<Output> {
        self.request_for(id, class, HOUR, true)
    }

    fn request_for(&mut self, id: u64, class: Class, hold: Duration, may_wait: bool) -> Vec<Output> {
        let deadline = self.now + hold;
        self.tell(Input::Arrived {
            id: SessionId(id),
            deadline,
            may_wait,
            class,
            need: 0,
            accept: Accept::Never,
            who: Who::default(),
        })
    }

    /// Its head is written.
    fn sent(&mut self, id: u64) -> Vec<Output> {
        self.answer(id, Answer::Sent)
    }
}

/// A shut gate with these waiting, of any class.
fn waiting(classes: &[Class]) -> Bench {
    let mut bench = Bench::shut();
    for (id, &class) in (1..).zip(classes) {
        assert_eq!(bench.request(id, class), [Output::Held(SessionId(id), id as usize)]);
    }
    bench
}

fn limited(classes: &[Class]) -> (Bench, Vec<u64>) {
    let mut bench = waiting(classes);
    let said = bench.tell(Input::Ready(Trust::Inferred));
    (bench, dialled(&said))
}

#[test]
fn all_classes_stand_in_one_line() {
    let mut bench = waiting(&[GET, Class::WebSocket, POST, GET, POST, Class::WebSocket]);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_poisoned_request_on_the_bench_keeps_no_request_waiting_that_cannot_be_repeated() {
    let (mut bench, first) = limited(&[GET]);
    assert_eq!(first, [1]);
    bench.sent(1);
    bench.answer(1, Answer::Status(503));
    for _ in 0..2 {
        assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [1]);
        bench.sent(1);
        bench.answer(1, Answer::Status(503));
    }
    bench.request(2, POST);
    let mut tried = Vec::new();
    for _ in 0..2 * HTTP_ALONE.as_millis() / CANARY_EVERY.as_millis() {
        for id in dialled(&bench.pass(CANARY_EVERY)) {
            tried.push(id);
            if id == 1 {
                bench.sent(1);
                bench.answer(1, Answer::Status(503));
            }
        }
        if tried.last() == Some(&2) {
            break;
        }
    }
    assert_eq!(tried.last(), Some(&2), "{tried:?}");
    assert!(tried.len() > 3, "not before `http_alone` is over: {tried:?}");
}

#[test]
fn each_class_has_its_own_bound() {
    let mut bench = Bench::new(GateLimits {
        held_max: 2,
        http_held_max: 1,
        dials_max: 4,
        ..GateLimits::default()
    });
    let full = |id| vec![Output::Refuse(SessionId(id), Refusal::HeldFull)];
    assert_eq!(bench.request(1, POST), [Output::Held(SessionId(1), 1)]);
    assert_eq!(bench.request(2, GET), full(2));
    assert_eq!(bench.arrive(3), [Output::Held(SessionId(3), 2)]);
    assert_eq!(bench.arrive(4), [Output::Held(SessionId(4), 3)]);
    assert_eq!(bench.arrive(5), full(5));
    bench.tell(Input::Left(SessionId(1)));
    assert_eq!(bench.request(6, GET), [Output::Held(SessionId(6), 3)]);
}

#[test]
fn those_on_their_way_count_towards_the_bound_as_they_may_come_back() {
    let mut bench = Bench::new(GateLimits {
        http_held_max: 1,
        dials_max: 2,
        ..GateLimits::default()
    });
    bench.tell(Input::Ready(Trust::Pushed));
    assert_eq!(dialled(&bench.request(1, GET)), [1]);
    assert_eq!(dialled(&bench.request(2, GET)), [2]);
    bench.request(3, GET);
    assert_eq!(refused(&bench.request(4, GET)), [(4, Refusal::HeldFull)]);
    bench.sent(1);
    bench.answer(1, Answer::Served);
    assert_eq!(refused(&bench.request(5, GET)), []);
}

#[test]
fn a_get_may_be_the_canary_and_its_answer_is_the_proof() {
    let (mut bench, first) = limited(&[POST, GET, GET, Class::WebSocket]);
    assert_eq!(first, [2], "the POST waits for a proof, in its place");
    bench.sent(2);
    assert_eq!(requeued(&bench.answer(2, Answer::Status(503))), [2]);
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [3], "the next in the round");
    bench.sent(3);
    let said = bench.answer(3, Answer::Served);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![3], vec![1, 2, 4]));
    assert!(matches!(bench.gate.stage(), Stage::Open(Trial::Proving { .. })));
}

#[test]
fn a_status_that_proves_nothing_is_passed_on_and_the_next_goes_first() {
    let (mut bench, _) = limited(&[GET, GET]);
    bench.sent(1);
    assert_eq!(forwarded(&bench.answer(1, Answer::Status(404))), [1]);
    assert!(matches!(bench.gate.stage(), Stage::Limited { .. }));
    assert_eq!(dialled(&bench.pass(CANARY_EVERY)), [2]);
}

#[test]
fn requests_that_cannot_repeat_go_alone_after_a_second_and_only_if_nobody_else_waits() {
    let (mut bench, first) = limited(&[POST, POST]);
    assert_eq!(first, []);
    assert_eq!(dialled(&bench.pass(HTTP_ALONE - MS)), []);
    assert_eq!(dialled(&bench.pass(MS)), [1]);
    bench.sent(1);
    assert_eq!(dialled(&bench.pass(CANARY_PATIENCE - MS)), [], "one at a time");
    let said = bench.answer(1, Answer::Served);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![1], vec![2]));

    let (mut bench, _) = limited(&[POST, POST]);
    bench.pass(HTTP_ALONE / 2);
    assert_eq!(dialled(&bench.request(3, GET)), [3], "it goes at once, and first");
    assert_eq!(dialled(&bench.pass(HTTP_ALONE / 2)), [], "somebody is on the way");
}

#[test]
fn nobody_waits_for_ever_behind_a_request_without_an_answer_at_the_limited_gate() {
    let (mut bench, _) = limited(&[POST, POST, POST]);
    let mut let_in = Vec::new();
    for _ in 0..3 {
        let said = bench.pass(HTTP_ALONE.max(CANARY_PATIENCE));
        dialled(&said).iter().for_each(|&id| drop(bench.sent(id)));
        let_in.extend(dialled(&said));
    }
    assert_eq!(let_in, [1, 2, 3]);
}

#[test]
fn what_the_backend_may_have_acted_on_is_never_dialled_again() {
    for answer in [
        Answer::Status(502),
        Answer::Status(503),
        Answer::Status(504),
        Answer::Dropped,
    ] {
        for trust in [Trust::Inferred, Trust::Pushed] {
            let mut bench = waiting(&[POST]);
            bench.tell(Input::Ready(trust));
            bench.pass(HTTP_ALONE);
            bench.sent(1);
            assert_eq!(forwarded(&bench.answer(1, answer)), [1], "{answer:?} {trust:?}");
            assert_eq!(bench.gate.held() + bench.gate.dialing(), 0);
            assert_ne!(bench.gate.stage(), Stage::Open(Trial::Over), "and it is no proof");
        }
    }
}

#[test]
fn what_the_backend_has_not_seen_is_dialled_again_whatever_it_is() {
    for answer in [
        Answer::Refused,
        Answer::ConnectTimeout,
        Answer::NoDescriptor,
        Answer::Recalled,
    ] {
        let mut bench = waiting(&[POST]);
        bench.tell(Input::Ready(Trust::Pushed));
        assert_eq!(requeued(&bench.answer(1, answer)), [1], "{answer:?}");
    }
}

#[test]
fn the_sure_gate_waits_for_no_answer_of_a_plain_request() {
    let mut bench = Bench::open(1);
    for id in 1..=3 {
        assert_eq!(dialled(&bench.request(id, POST)), [id]);
        assert_eq!(forwarded(&bench.sent(id)), [id]);
    }
    assert!(bench.is_free());
}

#[test]
fn only_a_sure_gate_where_nobody_waits_is_free() {
    let mut bench = Bench::open(1);
    bench.arrive(1);
    bench.arrive(2);
    assert!(!bench.is_free(), "2 waits for a slot");
    bench.answer(1, Answer::Switched);
    bench.answer(2, Answer::Switched);
    assert!(bench.is_free());
    bench.tell(Input::Unreached);
    assert!(!bench.is_free() && bench.gate.stage() == Stage::Shut);
    assert!(!Bench::shut().is_free() && !limited(&[]).0.is_free());
}

#[test]
fn the_first_plain_answer_ends_a_doubt_also_where_no_request_can_repeat() {
    for class in [GET, POST] {
        let mut bench = waiting(&[class]);
        bench.tell(Input::Ready(Trust::Pushed));
        assert_eq!(forwarded(&bench.sent(1)), [], "its answer matters");
        assert_eq!(
            bench.pass(READY_DOUBT + MS),
            [],
            "the first answers after a start are slow"
        );
        assert_eq!(forwarded(&bench.answer(1, Answer::Served)), [1]);
        assert_eq!(bench.pass(SETTLE), [Output::Changed(Change::Trusted)]);
        assert!(bench.is_free());
    }
}

#[test]
fn a_post_that_is_told_not_ready_shows_that_ready_came_too_early() {
    let mut bench = waiting(&[POST]);
    bench.tell(Input::Ready(Trust::Pushed));
    bench.sent(1);
    let said = bench.answer(1, Answer::Status(503));
    assert_eq!(said, [Output::Forward(SessionId(1)), Output::Changed(Change::Doubted)]);
}

/// Long polls answer when they like: they may not keep the others out.
#[test]
fn plain_requests_without_an_answer_give_their_dials_back() {
    let mut bench = Bench::small(1000, 2);
    for id in 1..=2 {
        bench.request(id, GET);
    }
    bench.arrive(3);
    assert_eq!(dialled(&bench.tell(Input::Ready(Trust::Pushed))), [1, 2]);
    bench.sent(1);
    bench.sent(2);
    assert_eq!(bench.pass(CANARY_PATIENCE - MS), []);
    let said = bench.pass(MS);
    assert_eq!((forwarded(&said), dialled(&said)), (vec![1, 2], vec![3]));
}

#[test]
fn a_stop_lets_what_was_sent_come_to_its_end_and_refuses_the_others() {
    for class in [GET, POST] {
        let mut bench = Bench::small(10, 1);
        bench.tell(Input::Ready(Trust::Inferred));
        bench.request(1, class);
        bench.pass(HTTP_ALONE);
        bench.sent(1);
        bench.request(2, class);
        let said = bench.tell(Input::Drain);
        assert_eq!(
            (forwarded(&said), refused(&said)),
            (vec![1], vec![(2, Refusal::Draining)])
        );
    }
}

#[test]
fn a_request_has_its_own_deadline_while_it_waits_and_none_once_it_is_let_in() {
    let mut bench = Bench::shut();
    bench.request_for(1, POST, 10 * MS, true);
    bench.request_for(2, GET, 20 * MS, true);
    assert_eq!(refused(&bench.pass(10 * MS)), [(1, Refusal::HoldTimeout)]);
    bench.tell(Input::Ready(Trust::Inferred));
    bench.sent(2);
    assert_eq!(
        refused(&bench.pass(HOUR)),
        [],
        "how long its answer takes is nothing to the gate"
    );
    bench.tell(Input::NotReady);
    assert_eq!(
        refused(&bench.request_for(3, GET, HOUR, false)),
        [(3, Refusal::NotReady)]
    );
}

/// The table of `stage_by_answer` for plain requests whose head is written.
#[test]
fn stage_by_answer_of_a_plain_request() {
    let answers = [
        Answer::Served,
        Answer::Status(403),
        Answer::Status(503),
        Answer::Nonsense,
        Answer::Dropped,
    ];
    let mut table = String::new();
    for class in [GET, POST] {
        for stage in ["shut", "limited", "doubt", "proving", "sure", "failed", "draining"] {
            let word = if class == GET { "GET" } else { "POST" };
            let mut bench = start(stage, class);
            let sent = bench.sent(2);
            table.push_str(&format!("{word:4} {stage:9} {:12} → {sent:?}\n", "Sent"));
            if !sent.is_empty() {
                continue; // the gate waits for no answer
            }
            for answer in answers {
                let mut bench = start(stage, class);
                bench.sent(2);
                let said = bench.answer(2, answer);
                let after = bench.gate.stage();
                table.push_str(&format!(
                    "{word:4} {stage:9} {:12} → {after:?}: {said:?}\n",
                    format!("{answer:?}")
                ));
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// A gate at this stage, with request 2 dialled before the stage came, where it could.
fn start(stage: &str, class: Class) -> Bench {
    let mut bench = Bench::small(10, 4);
    match stage {
        "doubt" => drop(bench.tell(Input::Ready(Trust::Pushed))),
        "proving" | "sure" => {
            bench.tell(Input::Ready(Trust::Inferred));
            bench.request(1, GET);
            bench.sent(1);
            bench.answer(1, Answer::Served);
        }
        _ => drop(bench.tell(Input::Ready(Trust::Inferred))),
    }
    bench.request(2, class);
    match stage {
        "proving" => {}
        "sure" => drop(bench.pass(PROVE_FOR)),
        _ => drop(bench.pass(HTTP_ALONE)),
    }
    match stage {
        "shut" => drop(bench.tell(Input::NotReady)),
        "failed" => drop(bench.tell(Input::Failed)),
        "draining" => {
            bench.sent(2);
            bench.tell(Input::Drain);
        }
        _ => {}
    }
    bench
}

#[test]
fn what_cannot_repeat_and_was_written_is_not_sent_again_whatever_lack_ended_it() {
    let (mut bench, _) = limited(&[POST, POST]);
    assert_eq!(dialled(&bench.pass(HTTP_ALONE)), [1]);
    bench.sent(1);
    let said = bench.answer(1, Answer::NoDescriptor);
    assert_eq!((forwarded(&said), requeued(&said)), (vec![1], vec![]));

    let (mut bench, _) = limited(&[POST, POST]);
    assert_eq!(dialled(&bench.pass(HTTP_ALONE)), [1]);
    assert_eq!(
        requeued(&bench.answer(1, Answer::NoDescriptor)),
        [1],
        "nothing was written"
    );
}
