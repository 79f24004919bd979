//! What may be concluded from the records: order, loss, waits. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::audit::record::{ClientRecord, Ending};
use crate::audit::stats::Quantiles;
use crate::clients::is_in;

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
    pub clients: Vec<u32>,
    /// Clients that were to come and have no record.
    pub missing: Vec<u32>,
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
pub fn loss(records: &[ClientRecord], expected: u32) -> Loss {
    let seen: BTreeSet<_> = records.iter().map(|record| record.client).collect();
    let lost = |record: &ClientRecord| record.messages.iter().filter(|sent| sent.answered_at.is_none()).count();
    let sent = records.iter().map(|record| record.messages.len()).sum();
    Loss {
        sent,
        echoed: sent - records.iter().map(lost).sum::<usize>(),
        clients: records
            .iter()
            .filter(|record| lost(record) > 0)
            .map(|record| record.client)
            .collect(),
        missing: (0..expected).filter(|client| !seen.contains(client)).collect(),
    }
}

/// What the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// In at the first attempt, echo right.
    pub in_at_once: usize,
    /// Connection refused.
    pub refused: usize,
    /// From the moment when it could have been in (ready, and it was there) to its 101, of those who are in.
    pub after_ready: Quantiles,
}

impl Summary {
    /// Sums up `records` of clients whose backend was ready at `ready_at` (unknown: nobody got in).
    #[must_use]
    pub fn of(records: &[ClientRecord], ready_at: Option<u64>) -> Self {
        let waited = |record: &ClientRecord| Some(record.opened_at?.saturating_sub(record.started_at.max(ready_at?)));
        let is_refused = |record: &&ClientRecord| record.ending == Ending::Refused;
        Self {
            in_at_once: records.iter().filter(|record| is_in(record)).count(),
            refused: records.iter().filter(is_refused).count(),
            after_ready: Quantiles::of(
                records
                    .iter()
                    .filter(|record| is_in(record))
                    .filter_map(waited)
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Sent, Stage};

    fn record(client: u32, started_at: u64, opened_at: Option<u64>, ending: Ending) -> ClientRecord {
        let answered_at = opened_at.filter(|_| ending == Ending::Done);
        let message = |at| Sent {
            at,
            answered_at,
            copies: answered_at.is_some().into(),
        };
        ClientRecord {
            opened_at,
            messages: opened_at.map(message).into_iter().collect(),
            ending,
            ..ClientRecord::new(client, started_at)
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
        let mut records: Vec<_> = (0..4).map(|client| record(client, 0, Some(1), Ending::Done)).collect();
        assert!(loss(&records, 4).is_none());
        records[2].messages[0].answered_at = None;
        records.remove(1);
        let found = loss(&records, 4);
        assert_eq!(
            (found.messages(), &found.clients[..], &found.missing[..]),
            (1, &[2][..], &[1][..])
        );
        assert!(!found.is_none());
    }

    #[test]
    fn a_summary_counts_who_is_in_and_waits_from_when_it_could_be_in() {
        let ms = |n: u64| n * 1_000_000;
        let mut records = [
            record(0, ms(10), Some(ms(105)), Ending::Done),  // held: ready at 100
            record(1, ms(200), Some(ms(201)), Ending::Done), // came later
            record(2, ms(20), None, Ending::Refused),
            record(3, ms(30), None, Ending::Status(503)),
            record(4, ms(60), Some(ms(161)), Ending::TimedOut(Stage::Open)),
            record(5, ms(60), Some(ms(161)), Ending::Done),
            record(6, ms(60), Some(ms(161)), Ending::Done),
        ];
        records[5].others = 1; // something else than its echo
        records[6].messages[0].copies = 2;
        let summary = Summary::of(&records, Some(ms(100)));
        let waits = summary.after_ready;
        assert_eq!((summary.in_at_once, summary.refused, waits.count), (2, 1, 2));
        assert_eq!((waits.min_ns, waits.max_ns), (ms(1), ms(5)));
        assert_eq!(Summary::of(&records, None).after_ready.count, 0);
    }
}
