//! When each of many connections is closed, and when each client is told to
//! come back: spread out, so that they do not all come at once.
//!
//! A backend that is lost cuts off all of its clients, and some of them come
//! back without any delay. So each close has its own instant, drawn from a seed
//! (this crate has no randomness: the shell draws one seed and mixes it with the
//! session's number by [`seed_for`]), within [`limits::SPREAD_MAX`] or
//! [`limits::SPREAD_EACH`] per client, whichever is less. What greenroom itself
//! chooses to close is not closed before its [`limits::FIRST_SECOND`].
//!
//! Pure functions: nothing is kept here, nothing grows. Closes of many that greenroom itself chooses are planned
//! together: see `plan`.

mod plan;

pub use plan::{Pace, Subject, close_reason, plan, share};

use core::time::Duration;

use crate::limits;
use crate::time::Time;

/// Mixes a number into one that looks random: Vigna's SplitMix64, one step.
///
/// Small and well studied, a bijection, and good enough to spread closes. Not
/// for anything that must not be guessed.
#[must_use]
pub const fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of one connection: `base` is drawn once by the shell, `number` tells connections apart.
#[must_use]
pub const fn seed_for(base: u64, number: u64) -> u64 {
    splitmix64(base ^ splitmix64(number))
}

/// A number from 0 to `most`, both included, each about as likely.
pub(crate) const fn up_to(seed: u64, most: u64) -> u64 {
    // The high half of a 128-bit product: no division, and a bias below 2^-40 for our ranges.
    let product = splitmix64(seed) as u128 * (most as u128 + 1);
    (product >> 64) as u64
}

/// Over how long the closes of `count` connections are spread: [`limits::SPREAD_EACH`] for each, `most` in all.
#[must_use]
pub fn spread_of(count: usize, most: Duration) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    limits::SPREAD_EACH.saturating_mul(count).min(most)
}

/// When one of `count` connections that are all to be closed is closed.
///
/// * Not before `now`, and not before its [`limits::FIRST_SECOND`] is over.
/// * From then on within [`spread_of`]`(count, most)`: `most` is [`limits::SPREAD_MAX`]
///   when a backend was lost, the grace when greenroom drains.
/// * Never after `deadline`, if there is one. A connection whose first second
///   ends later than that is closed in the last part before the deadline, still spread.
#[must_use]
pub fn close_at(
    now: Time,
    established_at: Time,
    seed: u64,
    count: usize,
    most: Duration,
    deadline: Option<Time>,
) -> Time {
    let spread = spread_of(count, most);
    let mut earliest = now.max(established_at + limits::FIRST_SECOND);
    let mut latest = earliest + spread;
    if let Some(deadline) = deadline {
        let deadline = deadline.max(now); // one that is over means at once
        latest = latest.min(deadline);
        if earliest >= deadline {
            let room = deadline.since(now).min(spread);
            earliest = now + (deadline.since(now) - room);
        }
    }
    let room = latest.as_nanos().saturating_sub(earliest.as_nanos());
    Time::from_nanos(earliest.as_nanos().saturating_add(up_to(seed, room)))
}

/// Closes ahead of their time, of clients that say something after their backend was lost: what they say is for nobody, and
/// who hears so loses no more. Those that are silent lose nothing by waiting.
///
/// As many go ahead in a second as are closed in a second anyway, so where all talk they are spread as if all were silent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Before this nobody else goes ahead.
    free_at: Time,
}

impl Ahead {
    /// When one of `count` is closed that has said something by `now`, and else would be closed at `own`. Its
    /// [`limits::FIRST_SECOND`] must be over.
    pub fn close_at(&mut self, now: Time, own: Time, count: usize) -> Time {
        let at = self.free_at.max(now);
        if at >= own {
            return own; // its own time is no later, so it takes nobody's
        }
        let each = spread_of(count, limits::SPREAD_MAX) / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        self.free_at = at + each;
        at
    }
}

/// Counts refusals that fall together: those of clients that had to wait, within [`limits::EXPIRY_SPREAD`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Together {
    since: Time,
    count: usize,
}

impl Together {
    /// So many more now; how many that makes.
    pub fn add(&mut self, now: Time, more: usize) -> usize {
        if now.since(self.since) > limits::EXPIRY_SPREAD {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(more);
        self.count
    }
}

/// When a refused client is told so that had to wait, one of `together` that are refused in one go.
///
/// * A browser between [`limits::TARPIT`]`.0` and `.1` later, also if it is alone: it may try again at once, and hears
///   as late the next time.
/// * Any other: alone at once, else within [`spread_of`]`(together, `[`limits::EXPIRY_SPREAD`]`)`.
///
/// Its place is free at once in any case.
#[must_use]
pub fn refuse_at(now: Time, seed: u64, together: usize, is_browser: bool) -> Time {
    let (least, room) = if is_browser {
        let (least, most) = limits::TARPIT;
        (least, most.saturating_sub(least))
    } else if together > 1 {
        (Duration::ZERO, spread_of(together, limits::EXPIRY_SPREAD))
    } else {
        (Duration::ZERO, Duration::ZERO)
    };
    let room = u64::try_from(room.as_nanos()).unwrap_or(u64::MAX);
    now + least + Duration::from_nanos(up_to(seed, room))
}

/// The Retry-After of one client, in seconds: any whole number of `range`, as likely as the others.
///
/// `range` is [`limits::RETRY_AFTER_SECONDS`] until start-up times are known.
#[must_use]
pub fn retry_after(seed: u64, range: (u32, u32)) -> u32 {
    let width = range.1.saturating_sub(range.0);
    let extra = u32::try_from(up_to(seed, u64::from(width))).unwrap_or(width);
    range.0.saturating_add(extra)
}

/// The `N` of a close reason's `retry-after-ms=N` for one client: like [`retry_after`], to the millisecond.
#[must_use]
pub fn retry_after_ms(seed: u64, range: (u32, u32)) -> u32 {
    retry_after(seed, (range.0.saturating_mul(1000), range.1.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FIRST_SECOND, RETRY_AFTER_SECONDS, SPREAD_EACH, SPREAD_MAX};
    use proptest::prelude::*;

    /// The reference values of SplitMix64 seeded with 1234567 (its author's test vector).
    #[test]
    fn the_generator_is_splitmix64() {
        let gamma = 0x9E37_79B9_7F4A_7C15_u64;
        let drawn: Vec<u64> = (0..3)
            .map(|n| splitmix64(1_234_567_u64.wrapping_add(gamma.wrapping_mul(n))))
            .collect();
        assert_eq!(drawn, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn a_thousand_closes_are_spread_evenly_over_two_seconds() {
        let now = Time::from_millis(60_000);
        let mut tenths = [0; 10];
        for session in 0..1_000 {
            let at = close_at(now, Time::ZERO, seed_for(7, session), 1_000, SPREAD_MAX, None);
            let ms = at.since(now).as_millis() as usize;
            tenths[(ms / 200).min(9)] += 1;
        }
        assert!(tenths.iter().all(|&n| (60..=140).contains(&n)), "{tenths:?}");
    }

    #[test]
    fn a_client_alone_is_closed_almost_at_once() {
        let now = Time::from_millis(60_000);
        let at = close_at(now, Time::ZERO, 3, 1, SPREAD_MAX, None);
        assert!(at.since(now) <= SPREAD_EACH);
    }

    #[test]
    fn young_clients_are_spread_after_their_first_second_too() {
        let now = Time::from_millis(60_000);
        let times: std::collections::BTreeSet<Time> = (0..100)
            .map(|n| close_at(now, now, seed_for(1, n), 100, SPREAD_MAX, None))
            .collect();
        assert!(times.len() > 90 && times.iter().all(|&t| t >= now + FIRST_SECOND));
    }

    #[test]
    fn a_deadline_within_the_first_second_is_kept_and_the_closes_stay_spread() {
        let now = Time::from_millis(60_000);
        let deadline = now + Duration::from_millis(500);
        let times: std::collections::BTreeSet<Time> = (0..100)
            .map(|n| close_at(now, now, seed_for(1, n), 100, SPREAD_MAX, Some(deadline)))
            .collect();
        let (first, last) = (times.first().copied().unwrap(), times.last().copied().unwrap());
        assert!(times.len() > 90 && last <= deadline, "{first} to {last}");
        assert!(
            first >= now + Duration::from_millis(300),
            "as late as the spread allows, not {first}"
        );
    }

    #[test]
    fn who_talks_goes_ahead_and_where_all_talk_they_are_spread_no_less() {
        let now = Time::from_millis(60_000);
        let own = |n| close_at(now, Time::ZERO, seed_for(7, n), 1_000, SPREAD_MAX, None);
        let late = now + Duration::from_millis(1_900);
        let mut ahead = Ahead::default();
        assert_eq!(ahead.close_at(now, late, 1_000), now, "alone it goes at once");
        assert_eq!(ahead.close_at(now, late, 1_000), now + SPREAD_EACH);
        let mut all: Vec<Time> = (0..1_000).map(|n| ahead.close_at(now, own(n), 1_000)).collect();
        assert!(all.iter().zip(0..).all(|(&at, n)| at <= own(n)), "nobody goes later");
        all.sort_unstable();
        let first_tenth = all.iter().filter(|&&at| at < now + SPREAD_MAX / 25).count();
        assert!(
            first_tenth <= 200,
            "{first_tenth} of 1,000 in a tenth of the time: no more than twice their share"
        );
        let later = late + SPREAD_MAX;
        assert_eq!(
            ahead.close_at(later, later + SPREAD_EACH, 1_000),
            later,
            "nothing is left of the last loss"
        );
        let crowd = 100_000;
        assert_eq!(ahead.close_at(later, later + SPREAD_MAX, crowd), later + SPREAD_EACH);
        assert_eq!(
            ahead.close_at(later, later + SPREAD_MAX, crowd),
            later + SPREAD_EACH + SPREAD_MAX / 100_000,
            "a crowd has no more than the longest spread"
        );
    }

    #[test]
    fn refusals_a_millisecond_apart_fall_together_and_those_of_another_second_do_not() {
        let mut together = Together::default();
        let at = Time::from_millis;
        assert_eq!(together.add(at(60_000), 1), 1);
        assert_eq!(together.add(at(60_001), 3), 4);
        assert_eq!(together.add(at(61_000), 1), 5);
        assert_eq!(together.add(at(61_001), 2), 2);
    }

    #[test]
    fn a_refusal_alone_is_told_at_once_and_those_that_fall_together_are_spread() {
        let now = Time::from_millis(60_000);
        assert_eq!(refuse_at(now, 3, 1, false), now);
        let told = |together: usize| -> Vec<u128> {
            let at = |n| refuse_at(now, seed_for(9, n), together, false).since(now).as_millis();
            (0..together as u64).map(at).collect()
        };
        let few = told(20);
        assert!(
            few.iter().all(|&ms| ms <= 40) && few.iter().any(|&ms| ms > 20),
            "{few:?}"
        );
        let mut tenths = [0; 10];
        for ms in told(5_000) {
            tenths[(ms as usize / 100).min(9)] += 1;
        }
        assert!(
            tenths.iter().all(|&n| (400..=600).contains(&n)),
            "over a second, evenly: {tenths:?}"
        );
    }

    #[test]
    fn a_browser_hears_that_it_is_refused_a_while_later_also_alone() {
        let now = Time::from_millis(60_000);
        let mut ms: Vec<u128> = (0..1_000)
            .map(|n| refuse_at(now, seed_for(2, n), if n % 2 == 0 { 1 } else { 1_000 }, true))
            .map(|at| at.since(now).as_millis())
            .collect();
        ms.sort_unstable();
        let (first, last) = (ms[0], ms[999]);
        assert!(
            (200..220).contains(&first) && (980..=1_000).contains(&last),
            "{first} to {last}"
        );
    }

    #[test]
    fn every_whole_second_of_the_range_is_drawn() {
        let drawn: std::collections::BTreeSet<u32> = (0..200).map(|s| retry_after(s, RETRY_AFTER_SECONDS)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn no_close_is_early_late_or_past_the_deadline(
            now in 0_u64..1 << 50, age in 0_u64..3_000_000_000, seed: u64, count in 0_usize..20_000,
            most_ms in 0_u64..20_000, grace_ms in proptest::option::of(0_u64..20_000),
        ) {
            let (now, established) = (Time::from_nanos(now), Time::from_nanos(now.saturating_sub(age)));
            let most = Duration::from_millis(most_ms);
            let deadline = grace_ms.map(|ms| now + Duration::from_millis(ms));
            let at = close_at(now, established, seed, count, most, deadline);
            let free = now.max(established + FIRST_SECOND);
            prop_assert!(at >= now);
            prop_assert!(at <= free + spread_of(count, most));
            match deadline {
                Some(deadline) => {
                    prop_assert!(at <= deadline);
                    prop_assert!(at >= free || free >= deadline, "{at} is before {free}");
                }
                None => prop_assert!(at >= free),
            }
            prop_assert_eq!(at, close_at(now, established, seed, count, most, deadline), "the seed alone decides");
        }

        #[test]
        fn no_refusal_is_told_early_or_later_than_its_spread(
            now in 0_u64..1 << 50, seed: u64, together in 0_usize..100_000, is_browser: bool,
        ) {
            let now = Time::from_nanos(now);
            let at = refuse_at(now, seed, together, is_browser);
            let (least, most) = match (is_browser, together) {
                (true, _) => limits::TARPIT,
                (false, 0 | 1) => (Duration::ZERO, Duration::ZERO),
                (false, _) => (Duration::ZERO, spread_of(together, limits::EXPIRY_SPREAD)),
            };
            prop_assert!(at >= now + least && at <= now + most, "{at}, {least:?} to {most:?} after {now}");
            prop_assert_eq!(at, refuse_at(now, seed, together, is_browser), "the seed alone decides");
        }

        #[test]
        fn retry_after_stays_in_its_range(seed: u64, low in 0_u32..100, width in 0_u32..100) {
            let range = (low, low + width);
            prop_assert!((range.0..=range.1).contains(&retry_after(seed, range)));
            prop_assert!((range.0 * 1000..=range.1 * 1000).contains(&retry_after_ms(seed, range)));
        }

        #[test]
        fn nothing_overflows_at_the_ends_of_time(seed: u64, now: u64, established: u64, count: usize) {
            let at = close_at(Time::from_nanos(now), Time::from_nanos(established), seed, count, SPREAD_MAX, None);
            prop_assert!(at >= Time::from_nanos(now));
        }
    }
}
