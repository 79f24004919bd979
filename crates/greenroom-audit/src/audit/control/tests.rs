//! What starts with many and starts with few must show for the number of clients to be why.

use super::*;
use crate::audit::plan::Dice;
use crate::audit::sample::{self, PATIENCE, client, closed, ended};

use Outcome::{Answered, Hung, Status, Unanswered};
use Zone::{Race, Ready};

/// One start: so many clients of these zones had these outcomes.
type Start<'a> = &'a [(Zone, Outcome, u64)];

fn start(counts: Start<'_>) -> Vec<Count> {
    let count = |&(zone, outcome, clients): &(Zone, Outcome, u64)| Count { zone, outcome, clients };
    counts.iter().map(count).collect()
}

/// The same in so many starts.
fn starts(number: usize, counts: Start<'_>) -> Starts {
    Starts(vec![start(counts); number])
}

/// What they show, where as many come again with the same.
fn told(many: &Starts, few: &Starts) -> Control {
    Control::of(many, few).and_again(many)
}

fn is_overrun(control: &Control) -> [bool; 2] {
    [Race, Ready].map(|zone| control.is_overrun(zone, Unanswered))
}

/// Streamlit behind greenroom, with a hundred clients a start.
const BUSY: Start<'_> = &[(Race, Answered, 25), (Race, Unanswered, 26), (Ready, Unanswered, 47)];
const WELL: Start<'_> = &[(Race, Answered, 5), (Ready, Answered, 5)];

#[test]
fn who_answers_all_of_few_and_not_of_many_is_overrun_in_both_zones() {
    let many = starts(6, BUSY);
    let asked = Control::of(&many, &Starts::default());
    assert_eq!((asked.next(10), is_overrun(&asked)), (Next::Few, [false; 2]));
    assert_eq!(Control::of(&many, &starts(1, WELL)).next(10), Next::Few);
    // The clients tell soon; that it is the starts and not chance takes some more.
    assert_eq!(Control::of(&many, &starts(3, WELL)).next(10), Next::Few);
    let few = Control::of(&many, &starts(5, WELL));
    assert_eq!((few.next(10), is_overrun(&few)), (Next::Again, [false; 2]), "{few:?}");
    let told = told(&many, &starts(5, WELL));
    assert_eq!((told.next(10), is_overrun(&told)), (Next::Over, [true; 2]));
    assert_eq!((told.each, told.starts), (10, 5));
    assert!(!told.is_overrun(Zone::Cold, Unanswered) && !told.is_overrun(Ready, Hung));
}

#[test]
fn who_fails_few_as_well_is_not_ready_and_one_start_tells() {
    let many = starts(6, &[(Race, Unanswered, 20), (Ready, Answered, 50)]);
    let few = starts(1, &[(Race, Unanswered, 4), (Ready, Answered, 6)]);
    let told = Control::of(&many, &few);
    assert_eq!((told.next(10), is_overrun(&told)), (Next::Over, [false; 2]));
    assert!(told.fails_few(Race) && !told.fails_few(Ready));
}

#[test]
fn a_server_may_be_not_ready_and_overrun() {
    // Early ones have 503, and those of them that come last wait in vain as all later ones do.
    let busy = Status(503);
    let many = starts(
        6,
        &[
            (Race, busy, 20),
            (Race, Unanswered, 4),
            (Ready, Unanswered, 25),
            (Ready, Answered, 25),
        ],
    );
    let few = starts(6, &[(Race, busy, 4), (Race, Answered, 1), (Ready, Answered, 5)]);
    let told = told(&many, &few);
    assert!(!told.is_overrun(Race, busy));
    assert_eq!(is_overrun(&told), [true; 2], "{told:?}");
}

#[test]
fn a_zone_that_tells_nothing_by_itself_goes_with_the_other_only_where_few_came_there_and_were_well() {
    let many = starts(
        6,
        &[
            (Race, Unanswered, 3),
            (Race, Answered, 6),
            (Ready, Unanswered, 45),
            (Ready, Answered, 2),
        ],
    );
    let few = |early: Start<'_>| {
        let start = [early, &[(Ready, Answered, 9)]].concat();
        is_overrun(&told(&many, &starts(6, &start)))
    };
    assert_eq!(few(&[(Race, Answered, 2)]), [true; 2]);
    assert_eq!(
        few(&[(Race, Answered, 1)]),
        [true; 2],
        "clearly fewer are failed early than later"
    );
    assert_eq!(few(&[]), [false, true], "nobody of few came early");
    let mut one = starts(6, &[(Race, Answered, 2), (Ready, Answered, 9)]);
    one.0[0][0].outcome = Unanswered;
    assert_eq!(
        is_overrun(&told(&many, &one)),
        [false, true],
        "some of them were failed there"
    );
}

#[test]
fn an_early_race_is_not_hidden_behind_load_where_nobody_of_few_came_early() {
    let many = starts(
        6,
        &[
            (Race, Unanswered, 40),
            (Race, Answered, 1),
            (Ready, Unanswered, 45),
            (Ready, Answered, 2),
        ],
    );
    let told = told(&many, &starts(6, &[(Ready, Answered, 9)]));
    assert_eq!(
        is_overrun(&told),
        [false, true],
        "nobody of few came early: nothing is known of it"
    );
}

#[test]
fn some_of_few_may_be_failed_where_nearly_all_of_many_are() {
    let many = starts(6, &[(Ready, Hung, 48), (Ready, Answered, 2)]);
    let few = starts(6, &[(Ready, Hung, 1), (Ready, Answered, 9)]);
    assert!(told(&many, &few).is_overrun(Ready, Hung));
}

#[test]
fn where_more_of_few_are_failed_in_another_way_load_explains_nothing() {
    let many = starts(6, &[(Ready, Unanswered, 48), (Ready, Answered, 2)]);
    for other in [Hung, Outcome::Closed(1011)] {
        let few = starts(6, &[(Ready, other, 9), (Ready, Answered, 1)]);
        let told = told(&many, &few);
        assert_eq!(
            (is_overrun(&told), told.next(10)),
            ([false; 2], Next::Over),
            "{other:?}"
        );
    }
}

#[test]
fn starts_that_fail_everybody_among_others_that_fail_nobody_are_not_load() {
    let of = |bad: usize, good: usize| {
        let mut many = starts(bad, &[(Ready, Unanswered, 50)]);
        many.0.extend(starts(good, &[(Ready, Answered, 50)]).0);
        Control::of(&many, &starts(4, &[(Ready, Answered, 10)]))
    };
    let half = of(10, 10);
    assert!(
        half.told().is_apart() && !half.is_apart() && half.next(10) == Next::Over,
        "{half:?}"
    );
    // Where most do, four that are well are not enough, though 40 clients of 40 were.
    let most = of(8, 2);
    assert!(
        most.told().is_apart() && !most.is_apart() && most.next(10) == Next::Few,
        "{most:?}"
    );
    assert!(of(19, 1).is_apart());
    // Two of three do, and ten that are well are no chance: but what happens in some starts only is not their number.
    let mut many = starts(13, &[(Ready, Unanswered, 50)]);
    many.0.extend(starts(7, &[(Ready, Answered, 50)]).0);
    let some = Control::of(&many, &starts(10, &[(Ready, Answered, 10)]));
    assert!(
        some.chance < limits::AUDIT_CONTROL_CHANCE && !some.is_apart(),
        "{some:?}"
    );
}

#[test]
fn a_server_that_is_better_by_then_is_not_overrun() {
    let many = starts(6, &[(Ready, Unanswered, 15), (Ready, Answered, 35)]);
    let few = Control::of(&many, &starts(9, &[(Ready, Answered, 10)]));
    let again = |failed| {
        few.clone().and_again(&starts(
            1,
            &[(Ready, Unanswered, failed), (Ready, Answered, 100 - failed)],
        ))
    };
    assert!(is_overrun(&again(30))[1]);
    assert!(is_overrun(&again(9))[1], "it may be chance that they are fewer");
    for failed in [0, 1] {
        assert!(!is_overrun(&again(failed))[1], "{failed}");
    }
    assert!(!is_overrun(&few)[1] && few.next(10) == Next::Again);
    assert!(!is_overrun(&few.clone().and_again(&Starts::default()))[1]);
}

#[test]
fn there_is_no_control_start_that_could_tell_nothing() {
    let next = |failed, few: usize, failed_few| {
        let many = starts(6, &[(Ready, Hung, failed), (Ready, Answered, 50 - failed)]);
        let mut few = starts(few, &[(Ready, Answered, 10)]);
        few.0
            .extend(starts(failed_few, &[(Ready, Hung, 1), (Ready, Answered, 9)]).0);
        Control::of(&many, &few).next(10)
    };
    assert_eq!(next(0, 0, 0), Next::Over);
    assert_eq!(next(1, 0, 0), Next::Over, "2 % are too few to tell");
    assert_eq!(next(10, 0, 0), Next::Few);
    assert_eq!(
        next(20, 1, 0),
        Next::Few,
        "some of them would be failed, and that may still be chance"
    );
    let most = usize::try_from(limits::AUDIT_CONTROL_STARTS).unwrap();
    assert_eq!(next(10, most - 2, 2), Next::Over, "there is an end to it");
    assert_eq!([9, 10, 60, 200].map(clients_of), [None, Some(5), Some(6), Some(20)]);
}

#[test]
fn only_what_load_does_counts_and_nobody_of_whom_nothing_is_known() {
    let clients = (0..40).map(|n| {
        let at = 300 + 10 * u64::from(n);
        match n {
            10..=13 => ended(n, at, crate::audit::record::Ending::Status(503)),
            14..=19 => ended(n, at, closed(1011)),
            20 => ended(n, at, crate::audit::record::Ending::Failed("no port".into())),
            _ => client(n, at, at + 1, at + 1),
        }
    });
    let run = sample::run(0, clients.collect());
    let told = Control::of(&Starts::with_many(&[run], PATIENCE), &Starts::default());
    let [failure] = &told.failures[..] else {
        panic!("{told:?}")
    };
    assert_eq!((failure.zone, failure.outcome), (Ready, Status(503)));
    let many = failure.clients.many;
    assert_eq!(
        (many.hits, many.of),
        (4, 38),
        "one came before the first answer, one is unknown"
    );
    assert!(!is_load(Outcome::Closed(1011)));
}

/// Whether it is called overrun, with 20 starts and `part` of each start, or of the starts, failed, whatever the number of clients.
fn by_mistake(seed: u64, part: f64, wholes: bool) -> bool {
    let mut dice = Dice::new(seed, 6);
    let mut play = |clients: u64| {
        let bad = f64::from(u8::from(dice.unit() < part));
        let mut failed = |of: u64| {
            (0..of)
                .filter(|_| dice.unit() < if wholes { bad } else { part })
                .count() as u64
        };
        let (early, late) = (failed(clients / 3), failed(clients - clients / 3));
        start(&[
            (Race, Unanswered, early),
            (Race, Answered, clients / 3 - early),
            (Ready, Unanswered, late),
            (Ready, Answered, clients - clients / 3 - late),
        ])
    };
    let many = Starts((0..20).map(|_| play(200)).collect());
    let mut few = Starts::default();
    let mut told = Control::of(&many, &few);
    while told.next(20) == Next::Few {
        few.0.push(play(20));
        told = Control::of(&many, &few);
    }
    if told.next(20) == Next::Again {
        told = told.and_again(&Starts(vec![play(200)]));
    }
    is_overrun(&told) != [false; 2]
}

/// Whom it fails at random, it fails in control starts too; so it is with whole starts, but for one time in a thousand.
#[test]
fn a_server_that_fails_some_or_some_starts_at_random_is_not_overrun() {
    let parts = [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95];
    let count = |wholes: bool| {
        let all = parts
            .into_iter()
            .flat_map(|part| (0..100).map(move |seed| (seed, part)));
        all.filter(|&(seed, part)| by_mistake(seed, part, wholes)).count()
    };
    assert_eq!(count(false), 0);
    let wholes = count(true);
    assert!(wholes <= 2, "{wholes} of {}", 100 * parts.len());
}
