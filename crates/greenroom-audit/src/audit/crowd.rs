//! Whether a server fails clients because many are there at once, and not because it is not ready. Pure.
//!
//! A client *meets* those of its start that came before it and wait when it comes: the server, or greenroom in front of it, has
//! taken them, and they are neither answered nor gone. Where a server is overrun, those that it leaves unanswered
//! met more than those that it answers. Where it is not ready, they met fewer, as they came first; where it fails some at
//! random, as many. Which of these it is says the rank test of Mann and Whitney, over all starts together.
//!
//! One thing looks the same: a server that stops answering for good, as those who wait then only become more. What
//! tells them apart is another audit, with fewer clients or more patience.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::record::ClientRecord;

/// How many others waited when clients came, of those that were answered and of those that were not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// Clients that were answered.
    pub answered: u64,
    /// What half of them met at the most.
    pub answered_met: u64,
    /// Clients that were left unanswered.
    pub failed: u64,
    /// What half of them met at the most.
    pub failed_met: u64,
    /// How often one that failed met more than one that was answered, of all pairs; 0.5: no difference.
    pub above: f64,
    /// How many standard deviations that is from no difference.
    pub deviations: f64,
}

/// The rank test's bound: one-sided, 99.99 %.
const DEVIATIONS: f64 = 3.719;
/// How often one that failed must have met more: a difference that is certain may still be small.
const ABOVE: f64 = 0.75;

/// Whether a server that cannot keep up does this to a client: it, or what stands in front of it, has no answer in time, to
/// the handshake or to what was said.
#[must_use]
pub const fn is_load(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Hung | Outcome::Unanswered | Outcome::Status(503 | 504)
    )
}

impl Crowd {
    /// Of what the clients met: those answered, those not. `None`: there are not both.
    #[must_use]
    pub fn of(mut answered: Vec<u64>, mut failed: Vec<u64>) -> Option<Self> {
        answered.sort_unstable();
        failed.sort_unstable();
        let median = |of: &[u64]| of.get((of.len().max(1) - 1) / 2).copied();
        let (answered_met, failed_met) = (median(&answered)?, median(&failed)?);
        // For each that failed: the answered ones that met fewer, and half of those that met as many.
        let beaten = |met: &u64| {
            let fewer = answered.partition_point(|other| other < met);
            let equal = answered.partition_point(|other| other <= met) - fewer;
            fewer as f64 + equal as f64 / 2.0
        };
        let wins: f64 = failed.iter().map(beaten).sum();
        let (m, n) = (answered.len() as f64, failed.len() as f64);
        // Ties make it smaller: without them it claims less.
        let deviation = (m * n * (m + n + 1.0) / 12.0).sqrt();
        Some(Self {
            answered: answered.len() as u64,
            answered_met,
            failed: failed.len() as u64,
            failed_met,
            above: wins / (m * n),
            deviations: (wins - m * n / 2.0) / deviation,
        })
    }

    /// Whether the server is overrun.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.above >= ABOVE && self.deviations >= DEVIATIONS
    }
}

/// What the clients of one start met: `(answered, failed)`. Only of those that came when it was ready: before that,
/// that it is not explains all, also where those who came first had given up already and met fewer.
#[must_use]
pub fn met(clients: &[(&ClientRecord, Outcome, Zone)]) -> (Vec<u64>, Vec<u64>) {
    let taken = || (clients.iter()).filter(|(_, outcome, zone)| *zone != Zone::Cold && *outcome != Outcome::Refused);
    let gone = |client: &ClientRecord, outcome: Outcome| match client.first_answer() {
        Some(at) => at,
        None if outcome.is_good() => client.opened_at.unwrap_or(client.ended_at), // none is expected
        None => client.ended_at,
    };
    let mut starts: Vec<u64> = taken().map(|(client, ..)| client.started_at).collect();
    let mut ends: Vec<u64> = taken().map(|(client, outcome, _)| gone(client, *outcome)).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let of = |fits: fn(Outcome) -> bool| {
        let those = taken().filter(|(.., zone)| *zone == Zone::Ready);
        let those = those.filter(|(_, outcome, _)| fits(*outcome));
        let waiting = |at: u64| {
            let came = starts.partition_point(|&start| start < at);
            came.saturating_sub(ends.partition_point(|&end| end <= at)) as u64
        };
        those.map(|(client, ..)| waiting(client.started_at)).collect()
    };
    (of(Outcome::is_good), of(is_load))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::plan::Dice;
    use crate::audit::record::{Ending, Sent, Stage};
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const PATIENCE: u64 = 10_000 * MS;

    /// One each 10 ms; `answer` says after how long each is answered, if it is.
    fn start(count: u64, mut answer: impl FnMut(u64) -> Option<u64>) -> Crowd {
        let client = |n: u64, after: Option<u64>| {
            let mut client = ClientRecord::new(u32::try_from(n).unwrap(), n * 10 * MS);
            let at = client.started_at;
            client.messages.push(Sent {
                at,
                answered_at: after.map(|after| at + after),
                copies: 1,
            });
            client.ended_at = at + after.unwrap_or(PATIENCE);
            if after.is_none() {
                client.ending = Ending::TimedOut(Stage::Open);
            }
            client
        };
        let records: Vec<_> = (0..count)
            .map(|n| {
                let after = answer(n).filter(|&after| after < PATIENCE);
                let outcome = after.map_or(Outcome::Hung, |_| Outcome::Answered);
                (client(n, after), outcome)
            })
            .collect();
        let seen: Vec<_> = records.iter().map(|(client, o)| (client, *o, Zone::Ready)).collect();
        let (answered, failed) = met(&seen);
        Crowd::of(answered, failed).unwrap()
    }

    #[test]
    fn a_server_that_takes_its_time_for_each_is_overrun_by_more_than_it_can_do() {
        // 200 ms for each, one after the other: the queue grows until the patience of the last ends.
        let crowd = start(120, |n| Some((n + 1) * 200 * MS - n * 10 * MS));
        assert!(crowd.is_overrun(), "{crowd:?}");
        assert!(crowd.failed_met > crowd.answered_met, "{crowd:?}");
    }

    #[test]
    fn a_server_that_is_not_ready_is_not() {
        // The first 40 are never answered and wait on; those who come later are answered at once.
        let crowd = start(120, |n| (n >= 40).then_some(2 * MS));
        assert!(!crowd.is_overrun() && crowd.above < 0.1, "{crowd:?}");
    }

    #[test]
    fn who_gave_up_before_it_was_ready_says_nothing_of_a_crowd() {
        // A backlog that nobody looks at: they wait for their whole patience, so later ones meet more.
        let failed: Vec<_> = (0..100).map(|n| ClientRecord::new(n, u64::from(n) * 10 * MS)).collect();
        let seen: Vec<_> = failed
            .iter()
            .map(|client| (client, Outcome::Hung, Zone::Race))
            .collect();
        assert_eq!(met(&seen), (Vec::new(), Vec::new()));
    }

    #[test]
    fn where_there_are_not_both_nothing_is_said() {
        assert_eq!(Crowd::of(vec![1, 2], Vec::new()), None);
        assert_eq!(Crowd::of(Vec::new(), vec![1, 2]), None);
        let few = Crowd::of(vec![0, 1], vec![8, 9]).unwrap();
        assert!(few.above == 1.0 && !few.is_overrun(), "two say nothing: {few:?}");
    }

    #[test]
    fn who_was_refused_waits_for_nobody() {
        let mut refused = ClientRecord::new(0, 0);
        refused.ended_at = 100 * MS;
        let late = ClientRecord::new(1, 50 * MS);
        let seen = [
            (&refused, Outcome::Refused, Zone::Cold),
            (&late, Outcome::Answered, Zone::Ready),
        ];
        assert_eq!(met(&seen), (vec![0], Vec::new()));
    }

    #[test]
    fn who_was_answered_or_has_gone_is_met_no_more() {
        let client = |number, at: u64, ended: u64, answered: Option<u64>| {
            let mut client = ClientRecord::new(number, at * MS);
            client.ended_at = ended * MS;
            client.messages.extend(answered.map(|answered| Sent {
                at: at * MS,
                answered_at: Some(answered * MS),
                copies: 1,
            }));
            client
        };
        let (quick, slow) = (client(0, 0, 400, Some(5)), client(1, 10, 400, Some(60)));
        let (hung, last) = (client(2, 20, 40, None), client(3, 50, 450, Some(51)));
        let seen = [
            (&quick, Outcome::Answered, Zone::Ready),
            (&slow, Outcome::Answered, Zone::Ready),
            (&hung, Outcome::Hung, Zone::Ready),
            (&last, Outcome::Answered, Zone::Ready),
        ];
        assert_eq!(
            met(&seen),
            (vec![0, 0, 1], vec![1]),
            "the last meets the slow one alone"
        );
    }

    proptest! {
        /// Who is failed at random met as many as the others.
        #[test]
        fn a_server_that_fails_some_at_random_is_not(seed: u64, share in 0.1..0.9_f64) {
            let mut dice = Dice::new(seed, 5);
            let crowd = start(300, |n| (n == 0 || (n > 1 && dice.unit() > share)).then_some(2 * MS));
            prop_assert!(!crowd.is_overrun(), "{crowd:?}");
        }
    }
}
