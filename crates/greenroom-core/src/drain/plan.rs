//! When each of many connections is closed that greenroom itself chooses to close: a stop, or a drain by command.
//!
//! The closes are in a seeded order, and each has a slot of its own: the first of `n` in the first `n`th of the
//! window, the second in the second, at a drawn instant within it. So as many are closed in each part of the window, and
//! nobody can tell when it is whose turn. Who is in its [`limits::FIRST_SECOND`] waits for a later slot, unless
//! the deadline says otherwise.
//!
//! Pure: time and seed are arguments. Linear in the connections but for one sort; nothing is kept here.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{seed_for, splitmix64, spread_of, up_to};
use crate::limits;
use crate::time::Time;

/// How fast the closes follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// All within this time, evenly.
    Window(Duration),
    /// So many in a second.
    Rate(u32),
    /// A little for each of them, and no longer than this in all: see [`spread_of`].
    Spread(Duration),
}

impl Pace {
    /// Over how long `count` closes are spread.
    #[must_use]
    pub fn window(self, count: usize) -> Duration {
        match self {
            Self::Window(window) => window,
            Self::Spread(most) => spread_of(count, most),
            Self::Rate(rate) => {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                let nanos = u128::from(count) * 1_000_000_000 / u128::from(rate.max(1));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

/// One connection that may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its number, which tells it apart.
    pub number: u64,
    /// Since when its client is let in: its first second begins then.
    pub since: Time,
}

/// How many of `count` are closed where so many percent are to be: at least one, if there is one.
#[must_use]
pub fn share(count: usize, percent: u8) -> usize {
    if percent >= 100 {
        return count;
    }
    let exact = count as u128 * u128::from(percent);
    usize::try_from(exact.div_ceil(100)).unwrap_or(count)
}

/// Which of them are closed, and when: in the order of their instants.
///
/// * `percent` of them, drawn by the seed.
/// * Evenly over [`Pace::window`] of those, from `now` on.
/// * None before its first second is over, and none after `deadline`, which wins.
#[must_use]
pub fn plan(
    now: Time,
    seed: u64,
    subjects: &[Subject],
    (pace, percent): (Pace, u8),
    deadline: Option<Time>,
) -> Vec<(Time, u64)> {
    let mut chosen = subjects.to_vec();
    shuffle(seed, &mut chosen);
    chosen.truncate(share(chosen.len(), percent));
    let deadline = deadline.map(|deadline| deadline.max(now));
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.since(now));
    let window = pace.window(chosen.len()).min(left);
    let slots = Slots {
        now,
        seed,
        count: chosen.len(),
        window,
    };
    let mut closes = slots.fill(&chosen, deadline);
    closes.sort_unstable();
    closes
}

/// The slots of one plan.
struct Slots {
    now: Time,
    seed: u64,
    count: usize,
    window: Duration,
}

impl Slots {
    /// An instant in the part `index` of `of` that the time from `begin` has.
    fn instant(&self, begin: Time, room: Duration, (index, of): (usize, usize)) -> Time {
        let of = of.max(1) as u128;
        let part = |index: usize| room.as_nanos().saturating_mul(index as u128) / of;
        let (from, to) = (part(index), part(index.saturating_add(1)));
        let width = u64::try_from(to.saturating_sub(from)).unwrap_or(u64::MAX);
        let within = up_to(seed_for(self.seed, index as u64), width.saturating_sub(1));
        let from = u64::try_from(from).unwrap_or(u64::MAX);
        begin + Duration::from_nanos(from.saturating_add(within))
    }

    /// Each slot goes to the first in the drawn order who may be closed then; who is too young for
    /// all of them is spread over what is left.
    fn fill(&self, chosen: &[Subject], deadline: Option<Time>) -> Vec<(Time, u64)> {
        let mut closes = Vec::with_capacity(chosen.len());
        // Those who may be closed, in the drawn order; and those who may not yet, by when they may.
        let mut able = BTreeSet::new();
        let mut young: Vec<(Time, usize)> = Vec::new();
        for (place, subject) in chosen.iter().enumerate() {
            let free = subject.since + limits::FIRST_SECOND;
            if free <= self.now {
                able.insert(place);
            } else {
                young.push((free, place));
            }
        }
        young.sort_unstable_by(|a, b| b.cmp(a)); // the oldest is taken from the end
        for slot in 0..self.count {
            let at = self.instant(self.now, self.window, (slot, self.count));
            while let Some((_, place)) = young.pop_if(|(free, _)| *free <= at) {
                able.insert(place);
            }
            if let Some(place) = able.pop_first() {
                closes.push((at, chosen[place].number));
            }
        }
        let young = young.into_iter().map(|(_, place)| place);
        let rest: Vec<Subject> = able.into_iter().chain(young).map(|place| chosen[place]).collect();
        closes.extend(self.late(&rest, deadline));
        closes
    }

    /// Those for whom no slot was left: from when they may be closed, over what is then left of the window, or as long as so many
    /// take, if that is more; and before the deadline.
    fn late(&self, rest: &[Subject], deadline: Option<Time>) -> Vec<(Time, u64)> {
        let spread = spread_of(rest.len(), limits::SPREAD_MAX);
        let one = |(index, subject): (usize, &Subject)| {
            let free = self.now.max(subject.since + limits::FIRST_SECOND);
            let begin = match deadline {
                // The deadline wins: as late as the spread allows.
                Some(deadline) if free + spread > deadline => {
                    let room = spread.min(deadline.since(self.now));
                    self.now + deadline.since(self.now).saturating_sub(room)
                }
                Some(_) | None => free,
            };
            let room = spread.max((self.now + self.window).since(begin));
            let room = deadline.map_or(room, |deadline| room.min(deadline.since(begin)));
            (self.instant(begin, room, (index, rest.len())), subject.number)
        };
        rest.iter().enumerate().map(one).collect()
    }
}

/// Fisher and Yates, by the seed.
fn shuffle(seed: u64, all: &mut [Subject]) {
    // By number first: the same connections are in the same order, however they were gathered.
    all.sort_unstable_by_key(|subject| subject.number);
    for last in (1..all.len()).rev() {
        let drawn = up_to(splitmix64(seed ^ splitmix64(last as u64)), last as u64);
        all.swap(last, usize::try_from(drawn).unwrap_or(last)); // it is no more than `last`
    }
}

/// What a Close says: the words, and when to come back, in at most [`limits::CLOSE_REASON_MAX`] bytes. Words that do not fit are cut.
#[must_use]
pub fn close_reason(words: &str, retry_after_ms: u32) -> String {
    let hint = format!("retry-after-ms={retry_after_ms}");
    if words.is_empty() {
        return hint;
    }
    let mut end = words.len().min(limits::CLOSE_REASON_MAX - hint.len() - 1);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} {hint}", &words[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_millis(600_000);

    fn old(count: u64) -> Vec<Subject> {
        (0..count)
            .map(|number| Subject {
                number,
                since: Time::ZERO,
            })
            .collect()
    }

    fn tenths(closes: &[(Time, u64)], window: Duration) -> [usize; 10] {
        let mut tenths = [0; 10];
        for (at, _) in closes {
            let part = at.since(NOW).as_nanos() * 10 / window.as_nanos().max(1);
            tenths[usize::try_from(part).unwrap().min(9)] += 1;
        }
        tenths
    }

    #[test]
    fn in_each_tenth_of_the_window_a_tenth_is_closed() {
        let window = Duration::from_secs(5);
        for seed in 0..20 {
            let closes = plan(NOW, seed, &old(1_000), (Pace::Window(window), 100), None);
            assert_eq!(tenths(&closes, window), [100; 10], "seed {seed}");
        }
    }

    #[test]
    fn the_order_is_drawn_and_the_seed_alone_decides_it() {
        let order = |seed| -> Vec<u64> {
            let closes = plan(NOW, seed, &old(100), (Pace::Rate(10), 100), None);
            closes.into_iter().map(|(_, number)| number).collect()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        assert_ne!(order(7), (0..100).collect::<Vec<_>>());
        let first: BTreeSet<u64> = (0..200).map(|seed| order(seed)[0]).collect();
        assert!(first.len() > 60, "anybody may be the first: {}", first.len());
    }

    #[test]
    fn a_rate_is_kept_in_every_second() {
        let closes = plan(NOW, 3, &old(95), (Pace::Rate(10), 100), None);
        assert_eq!(tenths(&closes, Duration::from_secs(10))[..9], [10; 9]);
        assert_eq!(closes.len(), 95);
    }

    #[test]
    fn a_share_is_drawn_from_all_of_them_and_is_never_nobody() {
        assert_eq!(
            (share(0, 10), share(1, 1), share(10, 25), share(1_000, 10)),
            (0, 1, 3, 100)
        );
        let some = |seed| -> BTreeSet<u64> {
            let closes = plan(NOW, seed, &old(1_000), (Pace::Window(Duration::ZERO), 10), None);
            closes.into_iter().map(|(_, number)| number).collect()
        };
        assert_eq!(some(1).len(), 100);
        assert_ne!(some(1), some(2));
        assert!(*some(1).last().unwrap() > 500);
    }

    #[test]
    fn young_ones_take_later_slots_and_leave_no_gap() {
        let window = Duration::from_secs(5);
        let mut all = old(500);
        all.extend((500..1_000).map(|number| Subject { number, since: NOW }));
        let closes = plan(NOW, 9, &all, (Pace::Window(window), 100), None);
        assert_eq!(
            tenths(&closes, window),
            [100; 10],
            "the old ones are enough for the first second"
        );
        for (at, number) in closes {
            assert!(number < 500 || at >= NOW + limits::FIRST_SECOND, "{number} at {at}");
        }
    }

    #[test]
    fn where_all_are_young_they_are_spread_over_what_their_first_second_leaves_of_the_window() {
        let window = Duration::from_secs(5);
        let all: Vec<Subject> = (0..1_000).map(|number| Subject { number, since: NOW }).collect();
        let closes = plan(NOW, 4, &all, (Pace::Window(window), 100), Some(NOW + window));
        let tenths = tenths(&closes, window);
        assert_eq!(tenths[..2], [0, 0]);
        assert!(
            tenths[2..].iter().all(|count| (120..=130).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn a_deadline_within_the_first_second_is_kept_and_the_closes_stay_spread() {
        let all: Vec<Subject> = (0..100).map(|number| Subject { number, since: NOW }).collect();
        let deadline = NOW + Duration::from_millis(500);
        let closes = plan(
            NOW,
            1,
            &all,
            (Pace::Window(Duration::from_secs(5)), 100),
            Some(deadline),
        );
        let times: BTreeSet<Time> = closes.iter().map(|&(at, _)| at).collect();
        assert!(times.len() > 90 && *times.last().unwrap() <= deadline, "{times:?}");
        assert!(
            *times.first().unwrap() >= NOW + Duration::from_millis(300),
            "as late as the spread allows"
        );
    }

    #[test]
    fn a_reason_has_the_hint_whatever_the_words_are() {
        assert_eq!(close_reason("", 1_500), "retry-after-ms=1500");
        assert_eq!(close_reason("deploy of 14:00", 7), "deploy of 14:00 retry-after-ms=7");
        let long = close_reason(&"ö".repeat(100), u32::MAX);
        assert!(
            long.len() <= limits::CLOSE_REASON_MAX && long.ends_with(" retry-after-ms=4294967295"),
            "{long}"
        );
        assert_eq!(
            close_reason(&"w".repeat(limits::DRAIN_REASON_MAX), u32::MAX).len(),
            limits::CLOSE_REASON_MAX
        );
    }

    proptest! {
        #[test]
        fn everybody_chosen_is_closed_once_in_time_and_not_before_it_may_be(
            seed: u64,
            ages in proptest::collection::vec(0_u64..2_000, 0..200),
            window_ms in 0_u64..20_000,
            rate in proptest::option::of(1_u32..1_000),
            percent in 1_u8..=100,
            grace_ms in proptest::option::of(0_u64..20_000),
        ) {
            let subjects: Vec<Subject> = ages.iter().enumerate().map(|(number, age)| Subject {
                number: number as u64,
                since: Time::from_nanos(NOW.as_nanos() - age * 1_000_000),
            }).collect();
            let pace = rate.map_or(Pace::Window(Duration::from_millis(window_ms)), Pace::Rate);
            let deadline = grace_ms.map(|ms| NOW + Duration::from_millis(ms));
            let closes = plan(NOW, seed, &subjects, (pace, percent), deadline);
            let chosen = share(subjects.len(), percent);
            prop_assert_eq!(closes.len(), chosen);
            let numbers: BTreeSet<u64> = closes.iter().map(|&(_, number)| number).collect();
            prop_assert_eq!(numbers.len(), chosen, "nobody is closed twice");
            prop_assert!(closes.is_sorted());
            let over = NOW + pace.window(chosen);
            for (at, number) in closes {
                let free = subjects[usize::try_from(number).unwrap()].since + limits::FIRST_SECOND;
                prop_assert!(at >= NOW);
                prop_assert!(at <= over.max(free) + spread_of(chosen, limits::SPREAD_MAX), "{} at {}", number, at);
                match deadline {
                    Some(deadline) => {
                        prop_assert!(at <= deadline);
                        let late = spread_of(chosen, limits::SPREAD_MAX);
                        prop_assert!(at >= free || free + late > deadline, "{} at {}, free at {}", number, at, free);
                    }
                    None => prop_assert!(at >= free, "{} at {}, free at {}", number, at, free),
                }
            }
        }

        #[test]
        fn nothing_overflows_at_the_ends_of_time(seed: u64, now: u64, since: u64, rate in 1_u32.., window: u64) {
            let subjects = [Subject { number: 1, since: Time::from_nanos(since) }];
            for pace in [Pace::Rate(rate), Pace::Window(Duration::from_nanos(window)), Pace::Spread(Duration::MAX)] {
                let closes = plan(Time::from_nanos(now), seed, &subjects, (pace, 100), None);
                prop_assert!(closes[0].0 >= Time::from_nanos(now));
            }
        }
    }
}
