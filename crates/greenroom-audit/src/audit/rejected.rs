//! Clients that were rejected though the server had answered others: whether that stops, and whether it is a matter of how
//! many were connected. Pure.
//!
//! A server whose workers become ready one after the other stops rejecting; one with a limit rejects when many are
//! connected; one that fails now and then does neither. What is claimed is what the exact intervals of two shares leave no other
//! reading of.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::side::{Seen, Settle};
use super::stats::Share;

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
    pub crowd: Crowd,
    /// How long after the 101, where there was one.
    pub settle: Option<Settle>,
}

/// How many connections, others than its own, a client met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
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
    /// Of the clients of one side that came when it was ready.
    #[must_use]
    pub(super) fn of(seen: &[Seen<'_>]) -> Option<Self> {
        let known = |one: &&Seen<'_>| one.zone == Zone::Ready && one.outcome != Outcome::Unknown;
        let all: Vec<&Seen<'_>> = seen.iter().filter(known).collect();
        let after = |one: &Seen<'_>| Some(one.client.started_at.saturating_sub(one.edges.ready?.high_ns));
        let bad = || all.iter().filter(|one| is_rejected(one.outcome));
        let last_ns = bad().filter_map(|one| after(one)).max()?;
        let until_then = all.iter().filter(|one| after(one) <= Some(last_ns)).count() as u64;
        Some(Self {
            last_ns,
            until_then: Share::new(bad().count() as u64, until_then),
            since_then: all.len() as u64 - until_then,
            crowd: crowd(seen, &all)?,
            settle: Settle::of(seen, Zone::Ready),
        })
    }

    /// Whether it stops: later clients would have been rejected too, if they were as often as the earlier ones.
    #[must_use]
    pub fn stops(&self) -> bool {
        Share::new(0, self.since_then).high < self.until_then.low
    }

    /// Whether it is those who meet many connections.
    #[must_use]
    pub fn is_of_a_crowd(&self) -> bool {
        Share::new(0, self.crowd.below).high < self.crowd.from_there.low
    }
}

/// Whether a client that came when it was ready should have been served, and was not.
#[must_use]
pub(super) fn is_rejected(outcome: Outcome) -> bool {
    outcome.is_rejection() || outcome == Outcome::Refused
}

/// Sweeps over the openings and ends of each run.
fn crowd(seen: &[Seen<'_>], all: &[&Seen<'_>]) -> Option<Crowd> {
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
            met.push((there, is_rejected(one.outcome)));
        }
    }
    let of_rejected = || met.iter().filter(|(_, rejected)| *rejected).map(|(there, _)| *there);
    let (least, most) = (of_rejected().min()?, of_rejected().max()?);
    let from_there = met.iter().filter(|(there, _)| *there >= least).count() as u64;
    Some(Crowd {
        least,
        most,
        from_there: Share::new(of_rejected().count() as u64, from_there),
        below: met.len() as u64 - from_there,
    })
}
