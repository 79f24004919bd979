//! What may be concluded from the records: order, loss, waits. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::clients::{ClientRecord, Outcome};
use crate::clock;

/// Somebody who was let in after one who had come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inversion {
    /// Place in the order of the openings, from 0.
    pub place: usize,
    /// The one who was overtaken.
    pub session: u64,
    /// The latest comer that was in before.
    pub behind: u64,
}

impl fmt::Display for Inversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, session, behind } = self;
        write!(f, "{session} came in at place {place}, behind {behind}")
    }
}

/// Everybody who was overtaken: `order` holds numbers given on arrival, in the
/// order of the openings. A number that comes again (a further attempt of the
/// same session right after) is no inversion.
#[must_use]
pub fn inversions(order: &[u64]) -> Vec<Inversion> {
    let mut latest = None;
    let mut found = Vec::new();
    for (place, &session) in order.iter().enumerate() {
        match latest {
            Some(behind) if session < behind => found.push(Inversion { place, session, behind }),
            Some(_) | None => latest = Some(session),
        }
    }
    found
}

/// Messages that were sent and never came back, and clients without a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Messages sent.
    pub sent: usize,
    /// Messages that came back right.
    pub echoed: usize,
    /// Clients that lost at least one.
    pub clients: Vec<usize>,
    /// Clients that were to come and have no record.
    pub missing: Vec<usize>,
}

impl Loss {
    /// Messages lost.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.sent.saturating_sub(self.echoed)
    }

    /// Whether nothing and nobody was lost.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.messages() == 0 && self.missing.is_empty()
    }
}

/// Counts what was lost among `expected` clients.
#[must_use]
pub fn loss(records: &[ClientRecord], expected: usize) -> Loss {
    let seen: BTreeSet<_> = records.iter().map(|record| record.client).collect();
    Loss {
        sent: records.iter().map(|record| record.sent).sum(),
        echoed: records.iter().map(|record| record.echoed).sum(),
        clients: records
            .iter()
            .filter(|record| record.echoed < record.sent)
            .map(|record| record.client)
            .collect(),
        missing: (0..expected).filter(|client| !seen.contains(client)).collect(),
    }
}

/// How a set of durations is spread: exact, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The least.
    pub min: Duration,
    /// Half are at most this.
    pub p50: Duration,
    /// 90 of 100 are at most this.
    pub p90: Duration,
    /// 99 of 100 are at most this.
    pub p99: Duration,
    /// The greatest.
    pub max: Duration,
}

impl Spread {
    /// The spread of `durations`; all zero when there are none.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let rank = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1) - 1;
            durations.get(rank).copied().unwrap_or_default()
        };
        let max = durations.last().copied().unwrap_or_default();
        Self {
            count: durations.len(),
            min: rank(0),
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            max,
        }
    }
}

/// What the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Clients with a record.
    pub clients: usize,
    /// In at the first attempt, echo right.
    pub in_at_once: usize,
    /// Connection refused.
    pub refused: usize,
    /// An HTTP answer other than 101.
    pub answered: usize,
    /// Closed or cut before the echo.
    pub cut: usize,
    /// Patience ended.
    pub timed_out: usize,
    /// A wrong echo, or the protocol broken.
    pub wrong: usize,
    /// From its start to its 101, of those who got one and their echo.
    pub wait: Spread,
    /// From the moment when it could have been in (ready, and it was there) to its 101, of the same.
    pub after_ready: Spread,
}

impl Summary {
    /// Sums up `records` of clients whose backend was ready at `ready_at` (unknown: nobody got in).
    #[must_use]
    pub fn of(records: &[ClientRecord], ready_at: Option<u64>) -> Self {
        let mut summary = Self {
            clients: records.len(),
            ..Self::default()
        };
        let (mut waits, mut after_ready) = (Vec::new(), Vec::new());
        for record in records {
            *match record.outcome {
                Outcome::Echoed => &mut summary.in_at_once,
                Outcome::Refused(_) => &mut summary.refused,
                Outcome::Status(_) => &mut summary.answered,
                Outcome::ClosedEarly(_) => &mut summary.cut,
                Outcome::TimedOut => &mut summary.timed_out,
                Outcome::WrongEcho | Outcome::Broken(_) => &mut summary.wrong,
            } += 1;
            if let (Outcome::Echoed, Some(opened)) = (&record.outcome, record.opened_at) {
                waits.push(clock::between(record.started_at, opened));
                if let Some(ready) = ready_at {
                    after_ready.push(clock::between(record.started_at.max(ready), opened));
                }
            }
        }
        summary.wait = Spread::of(waits);
        summary.after_ready = Spread::of(after_ready);
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(client: usize, started_at: u64, opened_at: Option<u64>, outcome: Outcome) -> ClientRecord {
        let echoed = usize::from(outcome == Outcome::Echoed);
        let sent = usize::from(opened_at.is_some());
        ClientRecord {
            client,
            started_at,
            opened_at,
            echoed_at: opened_at,
            sent,
            echoed,
            outcome,
            close_code: None,
        }
    }

    #[test]
    fn a_row_in_order_has_no_inversion() {
        assert!(inversions(&[]).is_empty());
        assert!(inversions(&[1, 2, 5, 9]).is_empty());
        assert!(inversions(&[1, 2, 2, 3]).is_empty());
    }

    #[test]
    fn each_planted_inversion_is_found_where_it_is() {
        let found = inversions(&[1, 4, 2, 3, 5, 9, 8]);
        let expected = [(2, 2, 4), (3, 3, 4), (6, 8, 9)];
        assert_eq!(
            found.iter().map(|i| (i.place, i.session, i.behind)).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn any_swap_in_a_long_row_is_found() {
        for (a, b) in [(0, 1), (0, 199), (57, 58), (198, 199), (3, 150)] {
            let mut row: Vec<u64> = (0..200).collect();
            row.swap(a, b);
            assert!(!inversions(&row).is_empty(), "{a} and {b}");
        }
    }

    #[test]
    fn planted_losses_are_found() {
        let mut records: Vec<_> = (0..4)
            .map(|client| record(client, 0, Some(1), Outcome::Echoed))
            .collect();
        assert!(loss(&records, 4).is_none());
        records[2].echoed = 0;
        records.remove(1);
        let found = loss(&records, 4);
        assert_eq!(
            (found.messages(), &found.clients[..], &found.missing[..]),
            (1, &[2][..], &[1][..])
        );
        assert!(!found.is_none());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis).collect());
        let ms = |duration: Duration| duration.as_millis();
        assert_eq!(
            (
                ms(spread.min),
                ms(spread.p50),
                ms(spread.p90),
                ms(spread.p99),
                ms(spread.max)
            ),
            (1, 100, 180, 198, 200)
        );
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn a_summary_counts_each_client_once_and_waits_from_when_it_could_be_in() {
        let ms = |n: u64| n * 1_000_000;
        let records = [
            record(0, ms(10), Some(ms(105)), Outcome::Echoed), // held: ready at 100
            record(1, ms(200), Some(ms(201)), Outcome::Echoed), // came later
            record(2, ms(20), None, Outcome::Refused("connection refused".into())),
            record(3, ms(30), None, Outcome::Status(503)),
            record(4, ms(40), Some(ms(41)), Outcome::ClosedEarly(Some(1011))),
            record(5, ms(50), None, Outcome::TimedOut),
            record(6, ms(60), Some(ms(61)), Outcome::WrongEcho),
        ];
        let summary = Summary::of(&records, Some(ms(100)));
        let counts = [
            summary.in_at_once,
            summary.refused,
            summary.answered,
            summary.cut,
            summary.timed_out,
            summary.wrong,
        ];
        assert_eq!(counts, [2, 1, 1, 1, 1, 1]);
        assert_eq!(summary.wait.max, Duration::from_millis(95));
        assert_eq!(summary.after_ready.max, Duration::from_millis(5));
    }
}
