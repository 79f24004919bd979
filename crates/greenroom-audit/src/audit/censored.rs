//! Waits of all whom a listener took, also of those that waited in vain: what a budget is held against. Pure.
//!
//! Who was failed has no wait, and to leave it out would make a server the faster the more it fails. It counts as
//! having waited its whole patience at the least. Who is unknown, and who met nobody, is not in it.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::{Outcome, Patience};
use super::record::{ClientRecord, Interval};
use super::stats::Quantiles;

/// Waits, some of which are known only to be longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Censored {
    /// All, those in vain with the least that they can be.
    pub times: Quantiles,
    /// How many were in vain.
    pub in_vain: u64,
    /// The least of these, in nanoseconds.
    pub vain_from_ns: u64,
}

/// The waits of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// From a client's start to its 101, of those that were served after it.
    pub open: Censored,
    /// From when somebody had been answered, and the client was there and had spoken, to its own first answer.
    pub answer: Censored,
}

impl Censored {
    fn of(known: Vec<u64>, in_vain: &[u64]) -> Self {
        let mut all = known;
        all.extend_from_slice(in_vain);
        Self {
            times: Quantiles::of(all),
            in_vain: in_vain.len() as u64,
            vain_from_ns: in_vain.iter().copied().min().unwrap_or(0),
        }
    }

    /// Whether this quantile is only known to be as long at the least.
    #[must_use]
    pub const fn is_at_least(&self, quantile_ns: u64) -> bool {
        self.in_vain > 0 && quantile_ns >= self.vain_from_ns
    }
}

/// A client, what became of it, where it came, and when its start was ready, if it ever was.
pub type Waiter<'a> = (&'a ClientRecord, Outcome, Zone, Option<Interval>);

impl Waits {
    /// Of these clients.
    #[must_use]
    pub fn of<'a>(clients: impl Iterator<Item = Waiter<'a>>, patience: Patience) -> Self {
        let (mut open, mut answer, mut vain) = (Vec::new(), Vec::new(), Vec::new());
        for (client, outcome, zone, ready) in clients {
            if zone == Zone::Cold || outcome == Outcome::Unknown {
                continue;
            }
            match wait(client, outcome, ready, patience) {
                Some((opened, answered)) => {
                    open.push(opened);
                    answer.push(answered);
                }
                None => vain.push(patience.whole_ns.max(client.ended_at.saturating_sub(client.started_at))),
            }
        }
        Self {
            open: Censored::of(open, &vain),
            answer: Censored::of(answer, &vain),
        }
    }
}

/// From connect to 101, and from when it could have been answered to the first answer. What the client itself waited before it
/// spoke is no wait of the server's: it is left out. `None`: it was failed.
#[must_use]
pub fn wait(
    client: &ClientRecord,
    outcome: Outcome,
    ready: Option<Interval>,
    patience: Patience,
) -> Option<(u64, u64)> {
    let opened = client.opened_at?;
    if outcome.is_rejection() || outcome == Outcome::Refused {
        return None;
    }
    let answer = match client.first_answer() {
        Some(at) => at,
        None if patience.answers => return None,
        None => opened,
    };
    let could = client.started_at.max(ready?.high_ns);
    let asked = client.messages.first().map_or(opened, |sent| sent.at).max(could);
    let waited = opened.saturating_sub(could) + answer.saturating_sub(asked);
    Some((opened.saturating_sub(client.started_at), waited))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Ending, Sent, Stage};

    const MS: u64 = 1_000_000;
    const PATIENCE: Patience = Patience {
        whole_ns: 1_000 * MS,
        answer_ns: 1_000 * MS,
        late_ns: 1_000 * MS,
        answers: true,
    };

    fn served(started: u64) -> ClientRecord {
        ClientRecord {
            opened_at: Some((started + 1) * MS),
            ended_at: (started + 400) * MS,
            messages: vec![Sent {
                at: (started + 51) * MS,
                answered_at: Some((started + 53) * MS),
                copies: 1,
            }],
            ..ClientRecord::new(0, started * MS)
        }
    }

    fn hung(started: u64) -> ClientRecord {
        ClientRecord {
            ended_at: (started + 1_000) * MS,
            ending: Ending::TimedOut(Stage::Opening),
            ..ClientRecord::new(0, started * MS)
        }
    }

    #[test]
    fn who_waited_in_vain_has_waited_its_patience_at_the_least() {
        let (served, hung) = (served(500), hung(100));
        let ready = Some(Interval::new(200 * MS, 300 * MS));
        let clients = |vain: usize, known: usize| {
            let vain = std::iter::repeat_n((&hung, Outcome::Hung, Zone::Race, ready), vain);
            vain.chain(std::iter::repeat_n(
                (&served, Outcome::Answered, Zone::Ready, ready),
                known,
            ))
        };
        let waits = Waits::of(clients(98, 21), PATIENCE);
        assert_eq!((waits.open.times.count, waits.open.in_vain), (119, 98));
        assert!(waits.open.times.p99_ns >= PATIENCE.whole_ns && waits.open.is_at_least(waits.open.times.p99_ns));
        let waits = Waits::of(clients(1, 999), PATIENCE);
        assert_eq!(waits.open.times.p99_ns, MS);
        assert!(!waits.open.is_at_least(waits.open.times.p99_ns) && waits.open.is_at_least(waits.open.times.max_ns));
        // It spoke 50 ms after it was open: that is its own affair.
        assert_eq!(waits.answer.times.p50_ns, 3 * MS);
    }

    #[test]
    fn who_met_nobody_or_is_unknown_is_not_in_it_and_who_was_rejected_is() {
        let (served, hung) = (served(500), hung(100));
        let ready = Some(Interval::new(200 * MS, 300 * MS));
        let clients = [
            (&hung, Outcome::Refused, Zone::Cold, ready),
            (&hung, Outcome::Unknown, Zone::Race, ready),
            (&served, Outcome::Answered, Zone::Ready, ready),
            (&served, Outcome::Closed(1011), Zone::Race, ready),
            (&hung, Outcome::Status(503), Zone::Race, None),
        ];
        let waits = Waits::of(clients.into_iter(), PATIENCE);
        assert_eq!((waits.open.times.count, waits.open.in_vain), (3, 2));
    }
}
