//! Readiness: what is told, one input after the other, and for whom the backend is ready then.
//! The table of the backend's own signal is in `backend`, that of the phases in `phase`.

use super::*;
use crate::limits::{FALL, RISE};

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);
const SECOND: Duration = Duration::from_secs(1);

/// A readiness with its clock, and what it said.
struct Bench {
    readiness: Readiness,
    now: Time,
}

fn check(name: &str, critical: bool, phase: Option<usize>) -> check::Rule {
    check::Rule {
        name: name.into(),
        rise: RISE,
        fall: FALL,
        phase,
        critical,
        weight: 1,
    }
}

/// Checks: 0 `database` critical, 1 `cache` optional, 2 `search` optional, 3 `own` critical, proves phase 2.
fn plan(source: Source, is_ours: bool, checks: usize, needs: Vec<Need>) -> Plan {
    let mut all = vec![
        check("database", true, None),
        check("cache", false, None),
        check("search", false, None),
        check("own", true, Some(2)),
    ];
    all.truncate(checks);
    Plan {
        checks: all.into(),
        needs: needs.into(),
        ..Plan::plain(source, is_ours)
    }
}

impl Bench {
    fn new(plan: Plan) -> Self {
        let mut bench = Self {
            readiness: Readiness::new(plan, Time::ZERO),
            now: Time::ZERO,
        };
        if bench.readiness.plan.is_ours {
            bench.signal(backend::Input::Started(G1));
        }
        bench
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.readiness.handle(self.now, input);
        std::iter::from_fn(|| self.readiness.poll_output()).collect()
    }

    fn signal(&mut self, input: backend::Input) -> Vec<Output> {
        self.tell(Input::Backend(input))
    }

    fn phase(&mut self, name: &str) -> Vec<Output> {
        let generation = self.readiness.generation();
        self.tell(Input::Phase(generation, name.into()))
    }

    fn verdict(&mut self, index: usize, good: bool) -> Vec<Output> {
        let generation = self.readiness.generation();
        self.tell(Input::Check {
            index,
            generation,
            good,
        })
    }

    fn fails(&mut self, index: usize) -> Vec<Output> {
        (0..FALL).flat_map(|_| self.verdict(index, false)).collect()
    }
}

/// Whether the gate was told, last of all, that the backend is ready; and `None` if it was told nothing.
fn told(said: &[Output]) -> Option<bool> {
    said.iter().rev().find_map(|output| match output {
        Output::Ready(_) => Some(true),
        Output::NotReady | Output::Failed => Some(false),
        _ => None,
    })
}

fn met(said: &[Output]) -> Option<Needs> {
    said.iter().rev().find_map(|output| match output {
        Output::Needs { met, .. } => Some(*met),
        _ => None,
    })
}

#[test]
fn it_is_ready_when_it_says_so_and_all_critical_checks_are_good() {
    let mut bench = Bench::new(plan(Source::Notify, true, 4, vec![Need::default()]));
    assert_eq!(told(&bench.signal(backend::Input::NotifiedReady(G1))), None);
    assert_eq!(told(&bench.verdict(0, true)), None);
    assert_eq!(
        told(&bench.verdict(3, true)),
        Some(true),
        "the optional ones are not waited for"
    );
    assert_eq!(told(&bench.fails(0)), Some(false));
    assert_eq!(told(&bench.verdict(0, true)), Some(true), "it comes back by itself");
    assert_eq!(told(&bench.fails(1)), None, "nobody waits for an optional one");
}

#[test]
fn one_slow_answer_of_a_database_holds_nobody() {
    let mut bench = Bench::new(plan(Source::Notify, true, 1, vec![Need::default()]));
    bench.verdict(0, true);
    bench.signal(backend::Input::NotifiedReady(G1));
    for _ in 0..100 {
        for _ in 1..FALL {
            assert_eq!(bench.verdict(0, false), []);
        }
        assert_eq!(bench.verdict(0, true), []);
    }
}

#[test]
fn a_route_that_needs_only_the_cache_opens_earlier() {
    let cache = Need {
        require: Some(vec![Item::Check(1)]),
        ..Need::default()
    };
    let mut bench = Bench::new(plan(
        Source::Probe(Trust::Inferred),
        true,
        2,
        vec![Need::default(), cache],
    ));
    assert_eq!(told(&bench.verdict(1, true)), None, "nobody listens yet");
    let said = bench.signal(backend::Input::Verdict(G1, true));
    assert_eq!((told(&said), met(&said)), (Some(true), Some(Needs(0b10))));
    let said = bench.verdict(0, true);
    assert_eq!((told(&said), met(&said)), (None, Some(Needs(0b11))));
    let said = bench.fails(1);
    assert_eq!((told(&said), met(&said)), (None, Some(Needs(0b01))));
}

#[test]
fn a_route_that_needs_a_phase_opens_when_that_is_past_whatever_comes_later() {
    let cache = Need {
        require: Some(vec![Item::Phase(3)]),
        ..Need::default()
    };
    let mut bench = Bench::new(plan(Source::Auto, true, 0, vec![Need::default(), cache]));
    assert_eq!(told(&bench.phase("database")), None);
    let said = bench.phase("cache");
    assert_eq!((told(&said), met(&said)), (Some(true), Some(Needs(0b10))));
    assert!(said.contains(&Output::Ready(Trust::Pushed)));
    let said = bench.signal(backend::Input::NotifiedReady(G1));
    assert_eq!(met(&said), Some(Needs(0b11)));
    let said = bench.signal(backend::Input::Started(G2));
    assert_eq!(told(&said), Some(false), "the next life goes through them again");
    assert!(said.contains(&Output::Begun));
}

#[test]
fn the_last_phase_of_a_child_that_speaks_for_itself_is_its_ready() {
    let mut bench = Bench::new(plan(Source::Auto, true, 0, vec![Need::default()]));
    assert_eq!(told(&bench.signal(backend::Input::Verdict(G1, true))), Some(true));
    assert_eq!(
        told(&bench.phase("database")),
        Some(false),
        "it listens, and is not finished"
    );
    assert_eq!(told(&bench.signal(backend::Input::Verdict(G1, true))), None);
    assert_eq!(told(&bench.phase("finalize")), Some(true));
    for word in ["ready", "complete"] {
        let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
        assert_eq!(told(&bench.phase(word)), Some(true), "{word}");
    }
}

#[test]
fn what_listens_while_it_reports_phases_is_not_ready_before_the_last() {
    let mut bench = Bench::new(plan(Source::Probe(Trust::Inferred), false, 0, vec![Need::default()]));
    bench.phase("init");
    let generation = bench.readiness.generation();
    assert_eq!(told(&bench.signal(backend::Input::Verdict(generation, true))), None);
    assert_eq!(told(&bench.phase("finalize")), Some(true));
}

#[test]
fn a_phase_that_overruns_ends_a_child_and_fails_a_start_that_is_not_ours() {
    for is_ours in [true, false] {
        let mut plan = plan(Source::Auto, is_ours, 0, vec![Need::default()]);
        let mut rules = phase::Rule::defaults();
        rules[2].timeout = Some(SECOND);
        plan.phases = rules.into();
        let mut bench = Bench::new(plan);
        bench.phase("dependencies");
        let at = bench.readiness.poll_timeout().unwrap();
        assert_eq!(at, bench.now + SECOND);
        bench.readiness.handle_timeout(at.before(Duration::from_nanos(1)));
        assert_eq!(bench.readiness.poll_output(), None);
        bench.readiness.handle_timeout(at);
        let said: Vec<_> = std::iter::from_fn(|| bench.readiness.poll_output()).collect();
        let failure = Failure {
            phase: Some("database".into()),
            reason: Reason::Overran(SECOND),
        };
        let then = if is_ours { Output::EndProcess } else { Output::Failed };
        assert_eq!(said, [Output::StartFailed(failure), then]);
        assert_eq!(bench.readiness.poll_timeout(), None);
        let anew = (!is_ours).then_some(false); // who comes may wait for it
        assert_eq!(told(&bench.phase("services")), anew, "too late, or a start anew");
    }
}

#[test]
fn a_failed_start_of_a_child_refuses_nobody_before_it_is_known_whether_a_life_follows() {
    let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
    let said = bench.tell(Input::Failed(G1, Reason::Errno(2)));
    assert!(said.contains(&Output::EndProcess) && told(&said).is_none(), "{said:?}");
    let exited = |restarts| backend::Input::Exited {
        generation: G1,
        restarts,
        code: 143,
    };
    assert_eq!(told(&bench.signal(exited(true))), None);
    bench.signal(backend::Input::Started(G2));
    assert!(bench.readiness.phases().failure().is_none());

    let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
    bench.tell(Input::Failed(G1, Reason::Errno(2)));
    assert_eq!(told(&bench.signal(exited(false))), Some(false));
    let failure = bench.readiness.phases().failure().unwrap();
    assert_eq!(failure.reason, Reason::Errno(2), "the first reason is the reason");
}

#[test]
fn a_child_whose_start_has_failed_is_ready_for_nobody_whatever_it_says_and_its_next_life_is_judged_as_before() {
    let mut bench = Bench::new(plan(Source::Auto, true, 0, vec![Need::default()]));
    bench.tell(Input::Failed(G1, Reason::Errno(2)));
    assert_eq!(told(&bench.signal(backend::Input::Verdict(G1, true))), None);
    assert_eq!(told(&bench.signal(backend::Input::NotifiedReady(G1))), None);
    assert_eq!(bench.tell(Input::Failed(G1, Reason::Errno(3))), [], "it fails once");

    let mut bench = Bench::new(plan(Source::Auto, true, 0, vec![Need::default()]));
    bench.tell(Input::Failed(G1, Reason::Errno(2)));
    bench.signal(backend::Input::Started(G2));
    assert_eq!(
        told(&bench.signal(backend::Input::Verdict(G2, true))),
        Some(true),
        "it has never notified: that it listens counts"
    );
}

#[test]
fn what_somebody_else_starts_may_try_again_after_a_failed_start() {
    let mut bench = Bench::new(plan(Source::Probe(Trust::Inferred), false, 0, vec![Need::default()]));
    let generation = bench.readiness.generation();
    bench.phase("database");
    let said = bench.tell(Input::Failed(generation, Reason::Said("no license".into())));
    assert_eq!(told(&said), Some(false));
    assert_eq!(
        told(&bench.signal(backend::Input::Verdict(generation, true))),
        None,
        "it was there all the time"
    );
    let said = bench.phase("init");
    assert!(said.contains(&Output::Begun), "{said:?}");
    assert!(bench.readiness.phases().failure().is_none());
    assert_eq!(told(&bench.phase("ready")), Some(true));
}

#[test]
fn who_says_that_it_stops_is_not_found_ready_before_it_was_away() {
    let stopped = || {
        let mut bench = Bench::new(plan(Source::Probe(Trust::Pushed), false, 0, vec![Need::default()]));
        let generation = bench.readiness.generation();
        bench.signal(backend::Input::Verdict(generation, true));
        assert_eq!(told(&bench.phase("stopping")), Some(false));
        assert_eq!(
            told(&bench.signal(backend::Input::Verdict(generation, true))),
            None,
            "it still answers"
        );
        (bench, generation)
    };
    let (mut bench, generation) = stopped();
    bench.signal(backend::Input::Verdict(generation, false));
    assert_eq!(
        told(&bench.signal(backend::Input::Verdict(generation, true))),
        Some(true)
    );

    let (mut bench, _) = stopped();
    assert_eq!(told(&bench.phase("ready")), Some(true), "its word is enough");

    let (mut bench, generation) = stopped();
    bench.now = bench.now + STOPPING_MAX;
    let said = bench.signal(backend::Input::Verdict(generation, true));
    assert_eq!(told(&said), Some(true), "somebody else's listener is never away");
}

#[test]
fn the_time_of_a_phase_does_not_run_while_the_old_server_stops() {
    let mut plan = plan(Source::Probe(Trust::Pushed), false, 0, vec![Need::default()]);
    let mut rules = phase::Rule::defaults();
    rules[0].timeout = Some(SECOND);
    plan.phases = rules.into();
    let mut bench = Bench::new(plan);
    let generation = bench.readiness.generation();
    bench.signal(backend::Input::Verdict(generation, true));
    bench.phase("stopping");
    assert_eq!(bench.readiness.poll_timeout(), None);
    bench.now = bench.now + 30 * SECOND;
    bench.readiness.handle_timeout(bench.now);
    assert_eq!(bench.readiness.poll_output(), None);
    bench.signal(backend::Input::Verdict(generation, false));
    assert_eq!(
        bench.readiness.poll_timeout(),
        Some(bench.now + SECOND),
        "it is away: now it starts"
    );
}

#[test]
fn ready_for_some_is_not_ready() {
    let cache = Need {
        require: Some(vec![Item::Check(1)]),
        ..Need::default()
    };
    let mut bench = Bench::new(plan(Source::Notify, true, 2, vec![Need::default(), cache]));
    bench.signal(backend::Input::NotifiedReady(G1));
    bench.verdict(1, true);
    assert!(bench.readiness.is_ready() && !bench.readiness.is_whole());
    bench.verdict(0, true);
    assert!(bench.readiness.is_whole());
    bench.fails(0);
    assert!(bench.readiness.is_ready() && !bench.readiness.is_whole());
}

#[test]
fn a_check_that_proves_a_phase_proves_it_anew_in_each_life() {
    let mut bench = Bench::new(plan(Source::Notify, true, 4, vec![Need::default()]));
    bench.verdict(0, true);
    let said = bench.verdict(3, true);
    let step = Step::Forward { skipped: 2 };
    assert!(said.contains(&Output::Phase { index: 2, step }), "{said:?}");
    bench.signal(backend::Input::NotifiedReady(G1));
    bench.signal(backend::Input::Started(G2));
    assert!(!bench.readiness.phases().is_past(2));
    let old = Input::Check {
        index: 3,
        generation: G1,
        good: true,
    };
    assert_eq!(bench.tell(old), [], "a look that began in the life before");
    bench.signal(backend::Input::NotifiedReady(G2));
    assert!(!bench.readiness.is_ready());
    assert_eq!(told(&bench.verdict(3, true)), Some(true));
}

#[test]
fn a_degraded_backend_is_served_held_or_refused_as_the_route_says() {
    let need = |degraded| Need {
        require: None,
        degraded,
    };
    let needs = vec![
        need(WhenDegraded::Serve),
        need(WhenDegraded::Hold),
        need(WhenDegraded::Refuse),
    ];
    let mut bench = Bench::new(plan(Source::Notify, true, 3, needs));
    bench.verdict(0, true);
    let said = bench.signal(backend::Input::NotifiedReady(G1));
    let needs = |met, refused| Output::Needs {
        met: Needs(met),
        refused: Needs(refused),
    };
    assert!(
        said.contains(&needs(0b001, 0)),
        "nothing is known of the optional ones: {said:?}"
    );
    bench.verdict(1, true);
    let said = bench.verdict(2, false);
    assert_eq!(bench.readiness.level(), Level::Moderate);
    assert!(said.contains(&needs(0b001, 0b100)), "{said:?}");
    let said = bench.verdict(2, true);
    assert!(said.contains(&needs(0b111, 0)) && said.contains(&Output::Level(Level::None)));
}

#[test]
fn words_of_an_earlier_life_change_nothing() {
    let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
    bench.signal(backend::Input::Started(G2));
    for input in [
        Input::Phase(G1, "database".into()),
        Input::Phase(G1, "ready".into()),
        Input::Failed(G1, Reason::Errno(1)),
        Input::Extend(G1, SECOND),
    ] {
        assert_eq!(bench.tell(input.clone()), [], "{input:?}");
    }
    assert!(bench.readiness.phases().failure().is_none());
}

#[test]
fn an_unknown_phase_is_told_and_counts_for_nothing() {
    let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
    assert_eq!(bench.phase("warmup"), [Output::NoSuchPhase("warmup".into())]);
    assert!(!bench.readiness.phases().is_reported());
}

fn exited(restarts: bool) -> backend::Input {
    backend::Input::Exited {
        generation: G1,
        restarts,
        code: 1,
    }
}

/// Need 1: phase 3, `cache`.
fn needs_the_cache() -> Vec<Need> {
    let cache = Need {
        require: Some(vec![Item::Phase(3)]),
        ..Need::default()
    };
    vec![Need::default(), cache]
}

#[test]
fn a_phase_that_was_reached_lets_nobody_in_while_the_process_is_away_or_stops() {
    for away in [
        exited(true),
        backend::Input::NotifiedStopping(G1),
        backend::Input::Unreachable,
    ] {
        let mut bench = Bench::new(plan(Source::Notify, true, 0, needs_the_cache()));
        assert_eq!(told(&bench.phase("cache")), Some(true));
        assert_eq!(told(&bench.signal(away)), Some(false), "{away:?}");
    }
}

#[test]
fn a_phase_whose_word_did_not_hold_counts_again_when_somebody_listens() {
    let mut bench = Bench::new(plan(Source::Notify, true, 0, needs_the_cache()));
    bench.phase("cache");
    bench.signal(backend::Input::Unreachable);
    assert!(bench.readiness.wants_verdict());
    let said = bench.signal(backend::Input::Verdict(G1, true));
    assert_eq!((told(&said), met(&said)), (Some(true), None), "for the same as before");
}

#[test]
fn a_child_whose_start_failed_is_not_made_ready_by_what_comes_before_its_end() {
    for source in [
        Source::Auto,
        Source::Probe(Trust::Inferred),
        Source::Probe(Trust::Pushed),
    ] {
        let mut bench = Bench::new(plan(source, true, 0, vec![Need::default()]));
        bench.tell(Input::Failed(G1, Reason::Errno(2)));
        assert!(!bench.readiness.wants_verdict(), "{source:?}");
        assert_eq!(bench.signal(backend::Input::Verdict(G1, true)), [], "{source:?}");
        assert_eq!(bench.signal(backend::Input::NotifiedReady(G1)), [], "{source:?}");
        assert_eq!(
            bench.tell(Input::Failed(G1, Reason::Errno(3))),
            [],
            "{source:?}: it fails once"
        );
    }
}

#[test]
fn a_child_that_never_speaks_is_found_again_after_a_start_of_it_has_failed() {
    let mut bench = Bench::new(plan(Source::Auto, true, 0, vec![Need::default()]));
    bench.tell(Input::Failed(G1, Reason::Overran(SECOND)));
    bench.signal(exited(true));
    bench.signal(backend::Input::Started(G2));
    assert!(bench.readiness.wants_verdict());
    assert_eq!(told(&bench.signal(backend::Input::Verdict(G2, true))), Some(true));
}

#[test]
fn between_two_lives_nothing_overruns_fails_or_is_proved() {
    let mut plan = plan(Source::Notify, true, 4, needs_the_cache());
    let mut rules = phase::Rule::defaults();
    rules[0].timeout = Some(SECOND);
    plan.phases = rules.into();
    let mut before = Readiness::new(plan.clone(), Time::ZERO);
    assert_eq!(before.poll_timeout(), None, "nothing is started yet");
    before.handle_timeout(Time::ZERO + 2 * SECOND);
    assert_eq!(before.poll_output(), None);
    let mut bench = Bench::new(plan);
    bench.signal(exited(true));
    assert_eq!(bench.readiness.poll_timeout(), None);
    bench.readiness.handle_timeout(bench.now + 2 * SECOND);
    assert_eq!(bench.readiness.poll_output(), None);
    assert_eq!(bench.tell(Input::Failed(G1, Reason::Errno(2))), []);
    assert_eq!(bench.phase("cache"), []);
    assert_eq!(bench.verdict(3, true), [], "a look at a process that is gone");
}

#[test]
fn the_gate_of_a_failed_start_is_told_when_it_is_tried_again_ready_or_not() {
    let mut bench = Bench::new(plan(Source::Notify, true, 0, vec![Need::default()]));
    assert_eq!(bench.signal(exited(false)).last(), Some(&Output::Failed));
    let said = bench.signal(backend::Input::Started(G2));
    assert_eq!(told(&said), Some(false), "{said:?}");

    let mut bench = Bench::new(plan(Source::Probe(Trust::Inferred), false, 1, vec![Need::default()]));
    let generation = bench.readiness.generation();
    bench.tell(Input::Failed(generation, Reason::Errno(2)));
    bench.signal(backend::Input::Verdict(generation, false));
    let said = bench.signal(backend::Input::Verdict(generation, true));
    assert!(
        said.contains(&Output::NotReady),
        "it is there, and its database is not: {said:?}"
    );
}

#[test]
fn an_optional_check_that_a_new_life_has_to_pass_anew_is_missing_until_then() {
    let mut plan = plan(
        Source::Notify,
        true,
        0,
        vec![Need {
            require: None,
            degraded: WhenDegraded::Hold,
        }],
    );
    plan.checks = vec![check("warm", false, Some(2))].into();
    let mut bench = Bench::new(plan);
    bench.verdict(0, true);
    assert_eq!(told(&bench.signal(backend::Input::NotifiedReady(G1))), Some(true));
    let said = bench.signal(backend::Input::Started(G2));
    assert!(said.contains(&Output::Level(Level::Emergency)), "{said:?}");
    assert_eq!(told(&bench.signal(backend::Input::NotifiedReady(G2))), None);
    assert_eq!(told(&bench.verdict(0, true)), Some(true));
}

#[test]
fn what_seemed_finished_is_taken_back_by_a_report_and_what_a_check_proved_is_not() {
    for source in [Source::Auto, Source::Probe(Trust::Inferred)] {
        let mut bench = Bench::new(plan(source, true, 4, needs_the_cache()));
        bench.verdict(0, true);
        bench.verdict(3, true);
        assert_eq!(
            told(&bench.signal(backend::Input::Verdict(G1, true))),
            Some(true),
            "{source:?}"
        );
        assert_eq!(
            told(&bench.phase("init")),
            Some(false),
            "{source:?}: it has just begun, as it says"
        );
        assert!(bench.readiness.phases().is_past(2), "{source:?}");
        assert!(!bench.readiness.phases().is_past(3), "{source:?}");
        assert_eq!(told(&bench.phase("finalize")), Some(true), "{source:?}");
    }
}

#[test]
fn the_last_phase_is_its_ready_also_where_a_check_had_found_it_finished() {
    let mut plan = plan(Source::Notify, true, 0, vec![Need::default()]);
    plan.checks = vec![check("warm", true, Some(phase::DEFAULT_PHASES.len() - 1))].into();
    let mut bench = Bench::new(plan);
    assert_eq!(told(&bench.verdict(0, true)), None, "it speaks for itself");
    assert_eq!(told(&bench.phase("finalize")), Some(true));
    bench.signal(backend::Input::NotifiedStopping(G1));
    assert_eq!(told(&bench.phase("finalize")), None, "said before that it stops");
}
