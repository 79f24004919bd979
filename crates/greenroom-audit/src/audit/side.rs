//! What all runs of one side show together: edges, counts by zone, loss, late handlers, early closes, waits. Pure.
//!
//! A *side* is the server by itself, or the server behind greenroom. Everything that is reckoned from its records
//! is in a [`Side`]; formats only choose, and write it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::censored::Waits;
use super::control::is_load;
use super::crosstalk::Crosstalk;
use super::edges::{Edges, Zone, edges};
use super::judge::{Outcome, Patience, judge};
use super::lateness::{self, Lateness};
use super::losses::{Losses, Unanswered, is_counted};
use super::plan;
use super::record::{Cause, ClientRecord, Interval, RunRecord};
use super::rejected::{Rejected, is_rejected};
use super::stall::longest;
use super::stats::{Quantiles, Share, above_the_greatest};
use crate::limits;

/// An edge, or a time between two, over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// In the run in the middle.
    pub typical: Interval,
    /// The earliest that it may have been in any run.
    pub least_ns: u64,
    /// The latest.
    pub most_ns: u64,
    /// In how many runs it was seen.
    pub runs: u64,
}

impl Edge {
    /// Of these, if there are any.
    #[must_use]
    pub fn of(mut all: Vec<Interval>) -> Option<Self> {
        all.sort_unstable_by_key(|interval| interval.middle());
        Some(Self {
            typical: *all.get(all.len() / 2)?,
            least_ns: all.iter().map(|interval| interval.low_ns).min()?,
            most_ns: all.iter().map(|interval| interval.high_ns).max()?,
            runs: all.len() as u64,
        })
    }
}

/// One run, for a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number.
    pub run: u32,
    /// Its edges, as moments of the monotonic clock.
    pub edges: Edges,
    /// When READY=1 came by sd_notify.
    pub notified_at: Option<u64>,
    /// Clients.
    pub clients: u64,
    /// How it ended.
    pub cause: Cause,
    /// The longest time in which the machine did not run us.
    pub longest_stall_ns: u64,
    /// Processes that had to be killed.
    pub killed: u32,
    /// The last lines of CMD, where the run did not come to its end.
    pub output: Vec<String>,
}

/// How often something became of a client in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Where it came.
    pub zone: Zone,
    /// What became of it.
    pub outcome: Outcome,
    /// How many.
    pub clients: u64,
}

/// A handler that is attached late: what comes before it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateHandler {
    /// Clients that lost what they sent first, of those that were answered later.
    pub clients: Share,
    /// Of these, how many lost more than one in a row: what is lost by accident is one.
    pub several: Share,
    /// After how long from the opening the handler was there, typically: the medians of the last lost and the first answered.
    pub attached: Interval,
    /// The longest after an opening that a message was sent and lost.
    pub lost_within_ns: u64,
}

/// How long after its 101 a server closes whom it should not have taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    /// From the 101 to the end.
    pub took: Quantiles,
    /// With at most this probability the next one takes longer than the longest seen.
    pub longer: f64,
}

/// What became of clients at one place of the start, for plots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its zone.
    pub zone: Zone,
    /// From this part of the zone.
    pub from: f64,
    /// To this.
    pub to: f64,
    /// Clients by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
}

/// One client, for plots; nanoseconds after exec.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its run.
    pub run: u32,
    /// Where it came.
    pub zone: Zone,
    /// What became of it.
    pub outcome: Outcome,
    /// When it began.
    pub started_ns: u64,
    /// When it had its 101.
    pub opened_ns: Option<u64>,
    /// When it had its first answer.
    pub answered_ns: Option<u64>,
}

/// All that one side showed. See the module's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// Clients in all.
    pub clients: u64,
    /// Of these, how many nothing is concluded from.
    pub unknown: u64,
    /// Clients that had a 101.
    pub opened: u64,
    /// From exec to listening.
    pub listen: Option<Edge>,
    /// From exec to ready.
    pub ready: Option<Edge>,
    /// From listening to ready.
    pub lead: Option<Edge>,
    /// From exec to the first answer, which is a moment.
    #[serde(default)]
    pub answered: Option<Edge>,
    /// From READY=1 to the first answer, in nanoseconds; below zero: READY came later.
    pub notified_before_ready: Option<(i64, i64)>,
    /// Clients by zone and outcome.
    pub counts: Vec<Count>,
    /// Of the starts that became ready: what became of those that came before that, the most frequent first.
    #[serde(default)]
    pub early: Vec<(Outcome, u64)>,
    /// Of the starts that never became ready: what became of those whom a listener took, the most frequent first.
    #[serde(default)]
    pub of_never_ready: Vec<(Outcome, u64)>,
    /// Messages that went to the wrong client.
    #[serde(default)]
    pub strays: Option<Crosstalk>,
    /// First messages lost, of clients that came when it was ready and were opened.
    pub first_lost: Share,
    /// Messages lost of the same clients.
    pub lost: Share,
    /// First messages lost of clients that came before it was ready and were opened.
    pub early_first_lost: Share,
    /// Messages lost of the same clients.
    #[serde(default)]
    pub early_lost: Share,
    /// Of the first, those that were never answered anything.
    #[serde(default)]
    pub unanswered: Unanswered,
    /// The same of clients that came before it was ready.
    #[serde(default)]
    pub early_unanswered: Unanswered,
    /// Whether a handler is attached late.
    pub late_handler: Option<LateHandler>,
    /// What that is a matter of.
    #[serde(default)]
    pub lateness: Option<Lateness>,
    /// How long it takes to close whom it should not have taken.
    pub settle: Option<Settle>,
    /// How long after it was ready a client that came then was still rejected.
    pub last_rejected_ns: Option<u64>,
    /// What else is known of those.
    #[serde(default)]
    pub rejected: Option<Rejected>,
    /// The same without those whom load may have failed.
    #[serde(default)]
    pub rejected_otherwise: Option<Rejected>,
    /// The same of those that were opened and never answered anything.
    #[serde(default)]
    pub silent: Option<Rejected>,
    /// From a client's connect to its 101, of those that somebody took and answered.
    pub open: Quantiles,
    /// From when somebody had been answered, and the client was there, to its own first answer, of the same; without
    /// what the client itself waited, between its 101 and its first message.
    pub after_ready: Quantiles,
    /// From a client's start to its 101, of those that came before it was ready and were answered all the same: they waited.
    pub early_open: Quantiles,
    /// The waits of all, also of those that waited in vain: what budgets are held against.
    #[serde(default)]
    pub all_waits: Waits,
    /// Clients that were opened after one that had come later, beyond what clocks and wake-ups explain.
    pub overtaken: Share,
    /// For plots: shares.
    pub columns: Vec<Column>,
    /// For plots: single clients, of the last runs, in bounds.
    pub points: Vec<Point>,
}

/// How many columns each zone has.
pub const COLUMNS: usize = 24;

/// One client in its run.
pub(super) struct Seen<'a> {
    pub(super) run: u32,
    pub(super) client: &'a ClientRecord,
    pub(super) outcome: Outcome,
    pub(super) zone: Zone,
    pub(super) edges: Edges,
}

impl Side {
    /// Of these runs.
    #[must_use]
    pub fn of(runs: &[RunRecord], patience: Patience) -> Self {
        let outcomes: Vec<Vec<Outcome>> = runs
            .iter()
            .map(|run| run.clients.iter().map(|client| judge(client, patience)).collect())
            .collect();
        let all_edges: Vec<Edges> = runs
            .iter()
            .zip(&outcomes)
            .map(|(run, outcomes)| edges(run, outcomes, patience.answers))
            .collect();
        let seen = see(runs, &outcomes, &all_edges);
        let waits = waits(&seen);
        let moments = all_edges.iter().filter_map(Edges::ready_after);
        let moments = moments.map(|ready| Interval::new(ready.high_ns, ready.high_ns));
        let losses = Losses::of(&seen, Zone::Ready, patience);
        let early_losses = Losses::of(&seen, Zone::Race, patience);
        let rejected = Rejected::of(&seen, is_rejected);
        let talks = answered_something(&seen);
        let late_handler = lateness::late_handler(&talks);
        let waiters = seen
            .iter()
            .map(|one| (one.client, one.outcome, one.zone, one.edges.ready));
        Self {
            runs: runs
                .iter()
                .zip(&all_edges)
                .map(|(run, edges)| summary(run, *edges))
                .collect(),
            clients: seen.len() as u64,
            unknown: seen.iter().filter(|seen| seen.outcome == Outcome::Unknown).count() as u64,
            opened: seen.iter().filter(|seen| seen.client.opened_at.is_some()).count() as u64,
            listen: Edge::of(all_edges.iter().filter_map(Edges::listen_after).collect()),
            ready: Edge::of(all_edges.iter().filter_map(Edges::ready_after).collect()),
            lead: Edge::of(all_edges.iter().filter_map(Edges::lead).collect()),
            answered: Edge::of(moments.collect()),
            notified_before_ready: notified(runs, &all_edges),
            counts: counts(&seen),
            early: sorted(
                seen.iter()
                    .filter(|one| one.zone == Zone::Race && one.edges.ready.is_some()),
            ),
            of_never_ready: sorted(
                seen.iter().filter(|one| {
                    one.edges.ready.is_none() && one.zone == Zone::Race && one.outcome != Outcome::Unknown
                }),
            ),
            strays: Crosstalk::of(runs),
            first_lost: losses.first,
            lost: losses.all,
            early_first_lost: early_losses.first,
            early_lost: early_losses.all,
            unanswered: losses.unanswered,
            early_unanswered: early_losses.unanswered,
            late_handler,
            lateness: late_handler.map(|late| Lateness::of(&talks, late.attached)),
            settle: Settle::of(&seen, Zone::Race),
            last_rejected_ns: rejected.as_ref().map(|rejected| rejected.last_ns),
            rejected,
            silent: Rejected::of(&seen, |outcome| outcome == Outcome::Unanswered),
            rejected_otherwise: Rejected::of(&seen, |outcome| is_rejected(outcome) && !is_load(outcome)),
            open: Quantiles::of(waits.iter().map(|waits| waits.0).collect()),
            after_ready: Quantiles::of(waits.iter().map(|waits| waits.1).collect()),
            early_open: Quantiles::of(early_waits(&seen)),
            all_waits: Waits::of(waiters, patience),
            overtaken: overtaken(runs, &outcomes),
            columns: columns(&seen),
            points: points(runs, &outcomes, &all_edges),
        }
    }

    /// Whether so many clients are unknown that nothing found is no proof of nothing wrong.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.unknown as f64 > self.clients as f64 * limits::AUDIT_UNKNOWN
    }

    /// How many clients of a zone had an outcome that fits.
    #[must_use]
    pub fn count(&self, zone: Zone, fits: impl Fn(Outcome) -> bool) -> u64 {
        let of_zone = self
            .counts
            .iter()
            .filter(|count| count.zone == zone && fits(count.outcome));
        of_zone.map(|count| count.clients).sum()
    }

    /// The outcomes of a zone that fit, the most frequent first.
    #[must_use]
    pub fn most(&self, zone: Zone, fits: impl Fn(Outcome) -> bool) -> Vec<(Outcome, u64)> {
        let of_zone = self
            .counts
            .iter()
            .filter(|count| count.zone == zone && fits(count.outcome));
        let mut found: Vec<_> = of_zone.map(|count| (count.outcome, count.clients)).collect();
        found.sort_by_key(|&(_, clients)| std::cmp::Reverse(clients));
        found
    }
}

/// Each client in its run.
fn see<'a>(runs: &'a [RunRecord], outcomes: &[Vec<Outcome>], all_edges: &[Edges]) -> Vec<Seen<'a>> {
    let all = runs.iter().zip(outcomes).zip(all_edges);
    all.flat_map(|((run, outcomes), edges)| {
        run.clients.iter().zip(outcomes).map(|(client, &outcome)| Seen {
            run: run.run,
            client,
            outcome,
            zone: edges.zone(client.started_at, outcome),
            edges: *edges,
        })
    })
    .collect()
}

fn summary(run: &RunRecord, edges: Edges) -> RunSummary {
    RunSummary {
        run: run.run,
        edges,
        notified_at: run.notified_at,
        clients: run.clients.len() as u64,
        cause: run.cause.clone(),
        longest_stall_ns: plan::nanos(longest(&run.stalls)),
        killed: run.killed,
        output: if run.cause == Cause::Finished {
            Vec::new()
        } else {
            run.output.clone()
        },
    }
}

fn counts(seen: &[Seen<'_>]) -> Vec<Count> {
    let mut counts: BTreeMap<(Zone, Outcome), u64> = BTreeMap::new();
    for one in seen {
        *counts.entry((one.zone, one.outcome)).or_default() += 1;
    }
    let count = |((zone, outcome), clients)| Count { zone, outcome, clients };
    counts.into_iter().map(count).collect()
}

/// How many of these had which outcome, the most frequent first.
fn sorted<'a>(seen: impl Iterator<Item = &'a Seen<'a>>) -> Vec<(Outcome, u64)> {
    let mut counts: BTreeMap<Outcome, u64> = BTreeMap::new();
    for one in seen {
        *counts.entry(one.outcome).or_default() += 1;
    }
    let mut found: Vec<_> = counts.into_iter().collect();
    found.sort_by_key(|&(_, clients)| std::cmp::Reverse(clients));
    found
}

/// Clients that came when it was ready, had an answer, and can be counted.
fn answered_something<'a>(seen: &'a [Seen<'_>]) -> Vec<&'a ClientRecord> {
    let talk = |one: &&Seen<'_>| one.zone == Zone::Ready && is_counted(one) && one.client.first_answer().is_some();
    seen.iter().filter(talk).map(|one| one.client).collect()
}

impl Settle {
    /// Of clients that came in this zone, had a 101, and were closed or cut.
    pub(super) fn of(seen: &[Seen<'_>], zone: Zone) -> Option<Self> {
        let here = seen.iter().filter(|one| one.zone == zone && one.edges.ready.is_some());
        let closed = here.filter(|one| matches!(one.outcome, Outcome::Closed(_) | Outcome::Cut | Outcome::Reset));
        let took: Vec<u64> = closed
            .filter_map(|one| Some(one.client.ended_at.saturating_sub(one.client.opened_at?)))
            .collect();
        (!took.is_empty()).then(|| Self {
            longer: above_the_greatest(took.len() as u64),
            took: Quantiles::of(took),
        })
    }
}

/// From connect to 101, and from when it could have been answered to the first answer. What the client itself waited before it
/// spoke is no wait of the server's: it is left out.
fn waits(seen: &[Seen<'_>]) -> Vec<(u64, u64)> {
    let good = seen.iter().filter(|one| one.outcome.is_good());
    good.filter_map(|one| {
        let (opened, ready) = (one.client.opened_at?, one.edges.ready?);
        let could = one.client.started_at.max(ready.high_ns);
        let asked = one.client.messages.first().map_or(opened, |sent| sent.at).max(could);
        let answer = one.client.first_answer().unwrap_or(opened);
        let waited = opened.saturating_sub(could) + answer.saturating_sub(asked);
        Some((opened - one.client.started_at, waited))
    })
    .collect()
}

/// From connect to 101 of those that came early and lost nothing by it but time.
fn early_waits(seen: &[Seen<'_>]) -> Vec<u64> {
    let early = seen
        .iter()
        .filter(|one| one.zone == Zone::Race && one.outcome.is_good());
    early
        .filter_map(|one| Some(one.client.opened_at?.saturating_sub(one.client.started_at)))
        .collect()
}

fn notified(runs: &[RunRecord], edges: &[Edges]) -> Option<(i64, i64)> {
    let before = runs
        .iter()
        .zip(edges)
        .filter_map(|(run, edges)| {
            let (ready, notified) = (edges.ready?.high_ns, run.notified_at?);
            Some(i64::try_from(i128::from(ready) - i128::from(notified)).unwrap_or(i64::MAX))
        })
        .collect::<Vec<_>>();
    Some((*before.iter().min()?, *before.iter().max()?))
}

/// Clients whose 101 came later than that of one that had begun later, both by more than the slack.
fn overtaken(runs: &[RunRecord], outcomes: &[Vec<Outcome>]) -> Share {
    let (mut overtaken, mut of) = (0, 0);
    for (run, outcomes) in runs.iter().zip(outcomes) {
        // Where wake-ups are late, moments that they took are no order.
        let slack = plan::nanos(limits::AUDIT_ORDER_SLACK.max(longest(&run.stalls) * 2));
        let good = run
            .clients
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| outcome.is_good());
        let mut opened: Vec<(u64, u64)> = good.filter_map(|(c, _)| Some((c.opened_at?, c.started_at))).collect();
        opened.sort_unstable();
        // The latest start among those who were in at least the slack earlier.
        let (mut latest, mut behind) = (0, 0);
        for &(at, started) in &opened {
            while opened[behind].0 + slack < at {
                latest = latest.max(opened[behind].1);
                behind += 1;
            }
            overtaken += u64::from(started + slack < latest);
            of += 1;
        }
    }
    Share::new(overtaken, of)
}

/// Whole runs, the last first, as long as there is room; in the order of the runs.
fn points(runs: &[RunRecord], outcomes: &[Vec<Outcome>], edges: &[Edges]) -> Vec<Point> {
    let mut found: Vec<Vec<Point>> = Vec::new();
    let mut room = limits::AUDIT_POINTS;
    for ((run, outcomes), edges) in runs.iter().zip(outcomes).zip(edges).rev() {
        let after = |at: u64| at.saturating_sub(run.exec.low_ns);
        let of_run = run.clients.iter().zip(outcomes).map(|(client, &outcome)| Point {
            run: run.run,
            zone: edges.zone(client.started_at, outcome),
            outcome,
            started_ns: after(client.started_at),
            opened_ns: client.opened_at.map(after),
            answered_ns: client.first_answer().map(after),
        });
        let of_run: Vec<Point> = of_run.take(room).collect();
        room -= of_run.len();
        found.push(of_run);
        if room == 0 {
            break;
        }
    }
    found.into_iter().rev().flatten().collect()
}

fn columns(seen: &[Seen<'_>]) -> Vec<Column> {
    let mut found: BTreeMap<(Zone, usize), BTreeMap<Outcome, u64>> = BTreeMap::new();
    for one in seen {
        let (Some(listen), Some(ready)) = (one.edges.listen, one.edges.ready) else {
            continue;
        };
        let (from, to) = match one.zone {
            Zone::Cold => (one.edges.exec.low_ns, listen.high_ns),
            Zone::Race => (listen.low_ns, ready.high_ns),
            Zone::Ready => {
                let start = ready.high_ns - one.edges.exec.low_ns;
                (ready.high_ns, ready.high_ns + plan::tail(start))
            }
        };
        let part = (one.client.started_at.saturating_sub(from)) as f64 / to.saturating_sub(from).max(1) as f64;
        let index = ((part * COLUMNS as f64) as usize).min(COLUMNS - 1);
        *found
            .entry((one.zone, index))
            .or_default()
            .entry(one.outcome)
            .or_default() += 1;
    }
    let column = |((zone, index), outcomes): ((Zone, usize), _)| Column {
        zone,
        from: index as f64 / COLUMNS as f64,
        to: (index + 1) as f64 / COLUMNS as f64,
        outcomes,
    };
    found.into_iter().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{MS, PATIENCE, client, run};

    #[test]
    fn what_a_client_waits_before_it_speaks_is_no_wait_of_the_servers() {
        // Answered half a millisecond after each sends: the first shows that it is ready.
        let mut clients = vec![client(0, 300, 301, 301)];
        // One is held until it is ready and speaks 480 ms after that; one comes later, and speaks 200 ms after its 101.
        clients.insert(0, client(1, 250, 302, 782));
        clients.push(client(2, 400, 401, 601));
        let side = Side::of(&[run(0, clients)], PATIENCE);
        assert!(side.after_ready.max_ns < 2 * MS, "{:?}", side.after_ready);
        assert_eq!(side.open.max_ns, 52 * MS);
        // One that was opened at once and spoke at once was answered as late as the server was ready.
        let mut early = client(3, 210, 211, 211);
        early.messages[0].answered_at = Some(310 * MS);
        let side = Side::of(&[run(0, vec![early, client(0, 300, 301, 301)])], PATIENCE);
        assert!(
            (8 * MS..9 * MS).contains(&side.after_ready.max_ns),
            "{:?}",
            side.after_ready
        );
    }
}
