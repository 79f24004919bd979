//! When clients come, and when they speak: swept and random, dense where something changes. Pure.
//!
//! The first run knows nothing: clients come every 10 ms, later at every fiftieth of the time that has passed, so
//! that any start-up is seen at about 2 %. Who asks for few clients has a server that many are a load for: then they
//! come as many times further apart. Each run after it spends a fifth of its clients around the moment
//! where the last ones saw the server listen, and a fifth where they saw it ready. Half of these come where the edge may be
//! by all of the last runs at once: that is one slice of what the run before had cut in many, so it shrinks by as much with
//! each run. It does until one start differs from the next by more: then no moment fits all of them, nothing is left
//! to be cut, and all of these are spread over what any of the last runs leaves open.
//! The rest is spread over the whole start-up and the time after it, one in each equal slice.
//!
//! Everything comes from a seed: the same seed, the same offsets, where the server does the same.

use std::time::Duration;

use super::record::Interval;
use crate::limits;

/// SplitMix64: small, and good for any seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed, for one purpose.
    #[must_use]
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What earlier runs showed of the start-up, from exec on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Within this it began to listen, in each of them.
    pub listen: Interval,
    /// Within this it was ready.
    pub ready: Interval,
    /// Where it may have begun to listen by all of them at once; `None`: they differ by more than is known of one.
    pub listen_core: Option<Interval>,
    /// The same of ready.
    pub ready_core: Option<Interval>,
}

impl Scale {
    /// What holds all of these, and what all of these hold.
    #[must_use]
    pub fn of(runs: &[(Interval, Interval)]) -> Option<Self> {
        let hull = |pick: fn(&(Interval, Interval)) -> Interval| {
            let low = runs.iter().map(|run| pick(run).low_ns).min()?;
            let high = runs.iter().map(|run| pick(run).high_ns).max()?;
            Some(Interval::new(low, high))
        };
        let core = |pick: fn(&(Interval, Interval)) -> Interval| {
            let low = runs.iter().map(|run| pick(run).low_ns).max()?;
            let high = runs.iter().map(|run| pick(run).high_ns).min()?;
            (low <= high).then(|| Interval::new(low, high))
        };
        Some(Self {
            listen: hull(|run| run.0)?,
            ready: hull(|run| run.1)?,
            listen_core: core(|run| run.0),
            ready_core: core(|run| run.1),
        })
    }

    /// How long clients still come after it is ready.
    #[must_use]
    pub fn tail(self) -> u64 {
        tail(self.ready.high_ns)
    }
}

/// How long clients still come after a start-up of this length: a quarter of it, within bounds.
#[must_use]
pub fn tail(ready_ns: u64) -> u64 {
    (ready_ns / 4).clamp(nanos(limits::AUDIT_TAIL_MIN), nanos(limits::AUDIT_TAIL_MAX))
}

/// Offset of the next client of the first run, where each start has `clients`.
#[must_use]
pub fn coarse_after(offset_ns: u64, clients: u32) -> u64 {
    let few = limits::AUDIT_COARSE_CLIENTS;
    let sparse = u64::from(few / clients.clamp(limits::AUDIT_COARSE_LEAST, few));
    offset_ns + sparse * (offset_ns / 50).max(nanos(limits::AUDIT_COARSE))
}

/// Offsets from exec of `clients` clients, in order.
#[must_use]
pub fn offsets(clients: usize, scale: Scale, dice: &mut Dice) -> Vec<u64> {
    let fifth = clients / limits::AUDIT_AT_EDGE;
    let after = clients * limits::AUDIT_AFTER_IN_20 / 20;
    let end = scale.ready.high_ns + scale.tail();
    let parts = [
        (fifth / 2, closely(scale.listen_core, scale.listen)),
        (fifth - fifth / 2, around(scale.listen)),
        (fifth / 2, closely(scale.ready_core, scale.ready)),
        (fifth - fifth / 2, around(scale.ready)),
        (after, Interval::new(scale.ready.high_ns, end)),
        (clients - 2 * fifth - after, Interval::new(0, scale.ready.high_ns)),
    ];
    let mut all: Vec<u64> = parts
        .into_iter()
        .flat_map(|(count, window)| sweep(count, window, dice))
        .collect();
    all.sort_unstable();
    all
}

/// An edge's window with what the next start may differ.
fn around(edge: Interval) -> Interval {
    let margin = (edge.high_ns - edge.low_ns).max(nanos(limits::AUDIT_EDGE_MARGIN));
    Interval::new(edge.low_ns.saturating_sub(margin), edge.high_ns + margin)
}

/// Where the edge may be by all runs, with the least that the next start may differ; else all of its window.
fn closely(core: Option<Interval>, edge: Interval) -> Interval {
    let margin = nanos(limits::AUDIT_EDGE_MARGIN);
    core.map_or_else(
        || around(edge),
        |core| Interval::new(core.low_ns.saturating_sub(margin), core.high_ns + margin),
    )
}

/// One at a random moment of each equal slice.
fn sweep(count: usize, window: Interval, dice: &mut Dice) -> Vec<u64> {
    let slice = (window.high_ns - window.low_ns) as f64 / count.max(1) as f64;
    let at = |index: usize| window.low_ns + ((index as f64 + dice.unit()) * slice) as u64;
    (0..count).map(at).collect()
}

/// After how long from its opening a client sends each of its messages. The first is sent at once
/// where messages can be told apart. `late` is where a handler was seen to be attached: there they come densely.
#[must_use]
pub fn sends(numbered: bool, late: Option<Interval>, dice: &mut Dice) -> Vec<u64> {
    let unit = nanos(limits::AUDIT_SEND_UNIT);
    if !numbered {
        // One message at a time: two of three clients send at once, the others later, as far as 2^9 units.
        let at_once = dice.unit() < 2.0 / 3.0;
        let later = (unit as f64 * (dice.unit() * 9.0).exp2()) as u64;
        return vec![if at_once { 0 } else { later }];
    }
    let rest = limits::AUDIT_MESSAGES - 1;
    let mut delays = vec![0];
    match late {
        None => {
            let stretch = 0.75 + 0.75 * dice.unit();
            delays.extend((0..rest).map(|power| (unit as f64 * stretch * f64::from(1_u32 << power)) as u64));
        }
        Some(edge) => {
            let window = Interval::new(edge.low_ns / 2, edge.high_ns + edge.high_ns / 2 + unit);
            delays.extend(sweep(rest - 1, window, dice));
            delays.push(2 * window.high_ns + unit);
        }
    }
    delays.sort_unstable();
    delays
}

/// More clients than can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--runs {runs} with --clients {clients}{} are {all} clients, whose records stay in memory; at most {} are possible: take fewer of one of them, or audit twice with another --seed",
    if *.sides > 1 { " and --compare" } else { "" },
    limits::AUDIT_RECORDS
)]
pub struct TooMany {
    runs: u32,
    clients: u32,
    sides: u32,
    all: u64,
}

/// Whether the records of so many clients can be kept.
///
/// # Errors
/// When they are more than [`limits::AUDIT_RECORDS`].
pub fn fits(runs: u32, clients: u32, compare: bool) -> Result<(), TooMany> {
    let sides = 1 + u32::from(compare);
    let all = u64::from(runs) * u64::from(clients) * u64::from(sides);
    match all <= limits::AUDIT_RECORDS {
        true => Ok(()),
        false => Err(TooMany {
            runs,
            clients,
            sides,
            all,
        }),
    }
}

/// Nanoseconds of a duration; what does not fit is as good as for ever.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn scale(listen: u64, ready: u64, spread: u64) -> Scale {
        Scale {
            listen: Interval::new(listen, listen + spread),
            ready: Interval::new(ready, ready + spread),
            listen_core: None,
            ready_core: None,
        }
    }

    #[test]
    fn the_first_run_sees_any_start_up_at_two_percent_with_few_clients() {
        let offsets = coarse(60, 60_000);
        assert!(offsets.len() < 320, "{}", offsets.len());
        for pair in offsets.windows(2) {
            assert!(pair[1] - pair[0] <= (pair[1] / 49).max(10 * MS));
        }
        assert_eq!(offsets, coarse(200, 60_000), "more than enough changes nothing");
    }

    fn coarse(clients: u32, until_ms: u64) -> Vec<u64> {
        let mut offsets = vec![0];
        while offsets[offsets.len() - 1] < until_ms * MS {
            offsets.push(coarse_after(offsets[offsets.len() - 1], clients));
        }
        offsets
    }

    #[test]
    fn who_asks_for_few_clients_has_few_in_the_first_run_too() {
        let (many, few) = (coarse(100, 2_500).len(), coarse(10, 2_500).len());
        assert!(many > 120 && few < 30, "{many} and {few} in 2.5 s");
        assert_eq!(coarse(1, 2_500), coarse(3, 2_500), "there is an end to that");
    }

    #[test]
    fn more_clients_than_can_be_kept_are_refused_with_what_to_do() {
        assert_eq!(fits(20, 200, true), Ok(()));
        assert_eq!(fits(100, 5_000, false), Ok(()));
        let why = fits(100, 5_000, true).unwrap_err().to_string();
        assert!(
            why.contains("--runs 100 with --clients 5000 and --compare are 1000000") && why.contains("500000"),
            "{why}"
        );
        assert!(
            fits(1_000, 5_000, false)
                .unwrap_err()
                .to_string()
                .contains("take fewer")
        );
    }

    #[test]
    fn all_that_is_known_of_earlier_runs_is_in_the_scale() {
        assert_eq!(Scale::of(&[]), None);
        let runs = [
            (Interval::new(10, 20), Interval::new(100, 120)),
            (Interval::new(5, 12), Interval::new(110, 130)),
        ];
        let scale = Scale::of(&runs).unwrap();
        assert_eq!(
            (scale.listen, scale.ready),
            (Interval::new(5, 20), Interval::new(100, 130))
        );
        assert_eq!(
            (scale.listen_core, scale.ready_core),
            (Some(Interval::new(10, 12)), Some(Interval::new(110, 120)))
        );
        let differ = Scale::of(&[
            (Interval::new(1, 2), Interval::new(9, 9)),
            (Interval::new(3, 4), Interval::new(9, 9)),
        ]);
        assert_eq!(differ.unwrap().listen_core, None);
    }

    /// A server that is ready at the same moment in each start: what is known of it is what lies between two clients.
    #[test]
    fn the_window_of_an_edge_shrinks_until_one_start_differs_from_the_next_by_more() {
        let width = |jitter: u64, runs: u64| {
            let mut seen = vec![(Interval::new(90 * MS, 100 * MS), Interval::new(900 * MS, 1_000 * MS))];
            for run in 0..runs {
                let ready = 950 * MS + run * 7 % 5 * jitter;
                let from = seen.len().saturating_sub(limits::AUDIT_SCALE_RUNS);
                let scale = Scale::of(&seen[from..]).unwrap();
                let offsets = offsets(200, scale, &mut Dice::new(7, run));
                let after = offsets.partition_point(|&at| at < ready);
                seen.push((
                    Interval::new(90 * MS, 100 * MS),
                    Interval::new(offsets[after - 1], offsets[after]),
                ));
            }
            let last = seen[seen.len() - 1].1;
            last.high_ns - last.low_ns
        };
        assert!(width(0, 1) > 2 * MS, "one start leaves {} open", width(0, 1));
        assert!(width(0, 8) < MS / 2, "eight leave {} open", width(0, 8));
        // Starts that differ by up to 40 ms: half of the clients of the edge are spread over all of that, as they are all without it.
        assert!(width(10 * MS, 8) < 15 * MS, "{}", width(10 * MS, 8));
    }

    proptest! {
        #[test]
        fn every_client_comes_in_order_and_a_fifth_at_each_edge(
            clients in 20_usize..500, listen in 0_u64..5_000, more in 0_u64..5_000, spread in 0_u64..50, seed: u64,
        ) {
            let scale = scale(listen * MS, (listen + more) * MS, spread * MS);
            let offsets = offsets(clients, scale, &mut Dice::new(seed, 1));
            prop_assert_eq!(offsets.len(), clients);
            prop_assert!(offsets.is_sorted());
            prop_assert!(offsets[clients - 1] <= scale.ready.high_ns + scale.tail().max(around(scale.ready).high_ns - scale.ready.high_ns));
            for edge in [scale.listen, scale.ready] {
                let window = around(edge);
                let here = offsets.iter().filter(|&&at| window.holds(at)).count();
                prop_assert!(here >= clients / 5, "{here} of {clients}");
            }
            let after = offsets.iter().filter(|&&at| at >= scale.ready.high_ns).count();
            prop_assert!(after >= clients * 7 / 20, "{after} after it is ready");
        }

        #[test]
        fn messages_are_sent_in_order_the_first_at_once_and_densely_where_it_matters(seed: u64, low in 0_u64..100, width in 0_u64..100) {
            let mut dice = Dice::new(seed, 2);
            let plain = sends(true, None, &mut dice);
            prop_assert!(plain.len() == limits::AUDIT_MESSAGES && plain[0] == 0 && plain.is_sorted());
            let edge = Interval::new(low * MS, (low + width) * MS);
            let dense = sends(true, Some(edge), &mut dice);
            prop_assert!(dense.len() == limits::AUDIT_MESSAGES && dense[0] == 0 && dense.is_sorted());
            prop_assert!(dense[dense.len() - 1] > edge.high_ns, "one comes when the handler is there for sure");
            prop_assert!(sends(false, None, &mut dice).len() == 1);
        }
    }
}
