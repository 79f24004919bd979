//! Clients that were rejected, or never answered, though the server had answered others: whether that stops, and whether it is a
//! matter of how many were connected. Pure.
//!
//! A server whose workers become ready one after the other stops rejecting; one with a limit rejects when many are
//! connected; one that fails now and then does neither. What is claimed is what the exact intervals of two shares leave no other
//! reading of.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::side::{Seen, Settle};
use super::stats::Share;
use crate::limits;

/// What is known of the rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// How long after it was ready the last of them came.
    pub last_ns: u64,
    /// Rejected clients, of all that came when it was ready and no later than the last of them.
    pub until_then: Share,
    /// Clients that came later than that; none of them was rejected.
    pub since_then: u64,
    /// How many were connected.
    pub connected: Connected,
    /// How long after the 101, where there was one.
    pub settle: Option<Settle>,
}

/// How many connections, others than its own, a client met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connected {
    /// The fewest that a rejected client met.
    pub least: u64,
    /// The most.
    pub most: u64,
    /// Rejected clients, of all that met as many as the first of these or more.
    pub from_there: Share,
    /// Clients that met fewer; none of them was rejected.
    pub below: u64,
}

impl Rejected {
    /// Of the clients of one side that came when it was ready; those with an outcome that `is_bad`, among all who were not
    /// rejected otherwise.
    #[must_use]
    pub(super) fn of(seen: &[Seen<'_>], is_bad: fn(Outcome) -> bool) -> Option<Self> {
        let known = |one: &&Seen<'_>| {
            let is_other = is_rejected(one.outcome) && !is_bad(one.outcome);
            one.zone == Zone::Ready && one.outcome != Outcome::Unknown && !is_other
        };
        let all: Vec<&Seen<'_>> = seen.iter().filter(known).collect();
        let after = |one: &Seen<'_>| Some(one.client.started_at.saturating_sub(one.edges.ready?.high_ns));
        let bad = || all.iter().filter(|one| is_bad(one.outcome));
        let last_ns = bad().filter_map(|one| after(one)).max()?;
        let until_then = all.iter().filter(|one| after(one) <= Some(last_ns)).count() as u64;
        Some(Self {
            last_ns,
            until_then: Share::new(bad().count() as u64, until_then),
            since_then: all.len() as u64 - until_then,
            connected: connected(seen, &all, is_bad)?,
            settle: Settle::of(seen, Zone::Ready),
        })
    }

    /// Whether it stops: later clients would have been rejected too, if they were as often as the earlier ones.
    #[must_use]
    pub fn stops(&self) -> bool {
        !self.is_of_a_limit() && Share::new(0, self.since_then).high < self.until_then.low
    }

    /// Whether nearly everybody was rejected who met as many connections: where a limit is, it is a cliff, and where a server has too much to
    /// do, a slope.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.connected.from_there.seen() >= limits::AUDIT_NEARLY_ALL
    }

    /// Whether it is those who meet many connections: a limit, then. It looks as if it stopped where fewer come at the end.
    #[must_use]
    pub fn is_of_a_limit(&self) -> bool {
        Share::new(0, self.connected.below).high < self.connected.from_there.low
    }
}

/// Whether a client that came when it was ready should have been served, and was not.
#[must_use]
pub(super) fn is_rejected(outcome: Outcome) -> bool {
    outcome.is_rejection() || outcome == Outcome::Refused
}

/// Sweeps over the openings and ends of each run.
fn connected(seen: &[Seen<'_>], all: &[&Seen<'_>], is_bad: fn(Outcome) -> bool) -> Option<Connected> {
    let mut met = Vec::new();
    let mut runs: Vec<u32> = all.iter().map(|one| one.run).collect();
    runs.sort_unstable();
    runs.dedup();
    for run in runs {
        let of_run = || seen.iter().filter(move |one| one.run == run);
        let mut opened: Vec<u64> = of_run().filter_map(|one| one.client.opened_at).collect();
        let ended = of_run().filter(|one| one.client.opened_at.is_some());
        let mut ended: Vec<u64> = ended.map(|one| one.client.ended_at).collect();
        opened.sort_unstable();
        ended.sort_unstable();
        let before = |times: &[u64], at: u64| times.partition_point(|&time| time < at) as u64;
        for one in all.iter().filter(|one| one.run == run) {
            let client = one.client;
            let at = client.opened_at.or(client.connected_at).unwrap_or(client.started_at);
            let there = before(&opened, at).saturating_sub(before(&ended, at));
            met.push((there, is_bad(one.outcome)));
        }
    }
    let of_rejected = || met.iter().filter(|(_, rejected)| *rejected).map(|(there, _)| *there);
    let (least, most) = (of_rejected().min()?, of_rejected().max()?);
    let from_there = met.iter().filter(|(there, _)| *there >= least).count() as u64;
    Some(Connected {
        least,
        most,
        from_there: Share::new(of_rejected().count() as u64, from_there),
        below: met.len() as u64 - from_there,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::finding::{Finding, findings};
    use crate::audit::launcher::Way;
    use crate::audit::record::ClientRecord;
    use crate::audit::sample::{PATIENCE, client, closed, ended, run};
    use crate::audit::side::Side;

    /// One each 10 ms from 300 ms on, with a pause behind every 60 and the last ones further apart, connected for 400 ms; `is_rejected` is asked with its number and how many it meets.
    fn found(count: u32, is_rejected: impl Fn(u32, usize) -> bool) -> (Rejected, Finding) {
        let mut clients: Vec<ClientRecord> = Vec::new();
        for n in 0..count {
            let at = 300 + 10 * u64::from(n) + 600 * u64::from(n / 60) + 100 * u64::from(n.saturating_sub(300));
            let meets = clients.iter().filter(|one| one.ended_at > at * 1_000_000).count();
            clients.push(match is_rejected(n, meets) {
                true => ended(n, at, closed(1013)),
                false => client(n, at, at + 1, at + 1),
            });
        }
        let side = Side::of(&[run(0, clients)], PATIENCE);
        let finding = findings(&side, false, None).pop().unwrap();
        (side.rejected.unwrap(), finding)
    }

    #[test]
    fn a_limit_is_told_from_a_start_and_both_from_chance() {
        // It looks as if it stopped, as few come at the end.
        let (limit, finding) = found(350, |_, meets| meets >= 20);
        assert!(
            limit.is_of_a_limit() && !limit.stops() && limit.connected.least >= 18,
            "{limit:?}"
        );
        assert!(
            finding.sentence().contains("others were connected; none of the"),
            "{}",
            finding.sentence()
        );
        assert!(finding.advice(Way::Plain).contains("a limit on connections"));
        assert!(!finding.is_of_the_start());

        let (worker, finding) = found(300, |n, _| n < 60 && n % 2 == 1);
        assert!(worker.stops() && !worker.is_of_a_limit(), "{worker:?}");
        assert!(finding.sentence().contains("and none of the") && finding.is_of_the_start());
        assert!(finding.advice(Way::Plain).contains("every worker"));

        let (chance, finding) = found(300, |n, _| n % 7 == 3);
        assert!(!chance.stops() && !chance.is_of_a_limit(), "{chance:?}");
        for way in [Way::Plain, Way::Greenroom] {
            let advice = finding.advice(way);
            assert!(
                !advice.contains("worker") && !advice.contains("limit on"),
                "no cause is made up: {advice}"
            );
        }
    }
}
