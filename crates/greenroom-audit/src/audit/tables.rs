//! The tables of a report, once: each format writes them with its own lines. Pure.
//!
//! A [`Table`] has a head, and rows of as many cells; the first cell of a row is its label and stands left, the others are
//! figures and stand right. Labels carry code between backticks ([`super::text::parts`]). What has no row is no table.

use super::edges::Zone;
use super::judge::Outcome;
use super::launcher::Way;
use super::report::Report;
use super::side::{Edge, Side};
use super::stats::Quantiles;
use super::strategy::Waited;
use super::text::{about, grouped, span};

/// Rows under a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Over each column; nothing over labels that need none.
    pub head: Vec<&'static str>,
    /// As many cells each.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn of(head: &[&'static str], rows: Vec<Vec<String>>) -> Option<Self> {
        let head = head.to_vec();
        (!rows.is_empty()).then_some(Self { head, rows })
    }
}

/// The sides that were measured, with their names.
#[must_use]
pub fn sides(report: &Report) -> Vec<(Way, &Side)> {
    let mut sides = vec![(Way::Plain, &report.plain)];
    sides.extend(report.greenroom.as_ref().map(|side| (Way::Greenroom, side)));
    sides
}

/// What a side is called, behind "the server".
#[must_use]
pub const fn side_name(way: Way) -> &'static str {
    match way {
        Way::Plain => "by itself",
        Way::Greenroom => "behind greenroom",
    }
}

/// What a zone is called: when a client came. Behind greenroom it is greenroom that listens, and whether the server is
/// ready cannot be seen from outside.
#[must_use]
pub const fn zone_name(way: Way, zone: Zone) -> &'static str {
    match (way, zone) {
        (Way::Plain, Zone::Cold) => "nobody listened",
        (Way::Plain, Zone::Race) => "it was not ready",
        (Way::Plain, Zone::Ready) => "it was ready",
        (Way::Greenroom, Zone::Cold) => "nobody listened",
        (Way::Greenroom, Zone::Race) => "nobody was in yet",
        (Way::Greenroom, Zone::Ready) => "somebody was in",
    }
}

/// An outcome, in a table.
#[must_use]
pub fn named(outcome: Outcome) -> String {
    match outcome {
        Outcome::Closed(code) => format!("closed with {code}"),
        Outcome::Cut => "cut (1006)".into(),
        Outcome::Lost => "a message lost".into(),
        Outcome::Unanswered => "no message answered".into(),
        other => other.name(),
    }
}

/// The outcomes that a side has, in their order.
#[must_use]
pub fn outcomes(side: &Side) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = side.counts.iter().map(|count| count.outcome).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    outcomes
}

/// When it listened and was ready.
#[must_use]
pub fn edges(way: Way, side: &Side) -> Option<Table> {
    let edges: &[(&str, Option<Edge>)] = &match way {
        Way::Plain => vec![
            ("listens, after exec", side.listen),
            ("ready, after exec", side.ready),
            ("from listening to ready", side.lead),
        ],
        Way::Greenroom => vec![("greenroom listens", side.listen), ("first answer", side.answered)],
    };
    let row = |&(label, edge): &(&str, Option<Edge>)| {
        let edge = edge?;
        Some(vec![
            label.to_owned(),
            about(edge.typical),
            span(edge.least_ns),
            span(edge.most_ns),
            edge.runs.to_string(),
        ])
    };
    let head = match way {
        Way::Plain => "",
        Way::Greenroom => "after exec",
    };
    Table::of(
        &[head, "typical", "least", "most", "starts"],
        edges.iter().filter_map(row).collect(),
    )
}

/// What became of clients, by when they came.
#[must_use]
pub fn counts(way: Way, side: &Side) -> Option<Table> {
    let zones = [Zone::Cold, Zone::Race, Zone::Ready];
    let row = |outcome: Outcome| {
        let of = |zone| match side.count(zone, |other| other == outcome) {
            0 => "–".to_owned(),
            clients => grouped(clients),
        };
        std::iter::once(named(outcome)).chain(zones.map(of)).collect()
    };
    let [cold, race, ready] = zones.map(|zone| zone_name(way, zone));
    Table::of(
        &["clients that came when", cold, race, ready],
        outcomes(side).into_iter().map(row).collect(),
    )
}

/// How long clients waited.
#[must_use]
pub fn waits(side: &Side) -> Option<Table> {
    let rows = [(CONNECT, side.open), (ANSWER, side.after_ready)];
    let row = |(label, times): &(&str, Quantiles)| {
        let times = [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(span);
        std::iter::once((*label).to_owned()).chain(times).collect()
    };
    let rows = rows.iter().filter(|(_, times)| times.count > 0).map(row).collect();
    Table::of(&["", "p50", "p90", "p99", "max"], rows)
}

/// From a client's connect to its 101.
const CONNECT: &str = "connect to 101";
/// From when the server could answer, and was asked, to the answer.
const ANSWER: &str = "ready to first answer";

/// How late each way of waiting lets clients in.
#[must_use]
pub fn strategies(waits: &[Waited]) -> Option<Table> {
    let row = |waited: &Waited| {
        let late = waited.late;
        let times = [late.p50_ns, late.p90_ns, late.p99_ns, late.max_ns, waited.spread_ns].map(span);
        std::iter::once(format!("`{}`", waited.strategy)).chain(times).collect()
    };
    Table::of(
        &["", "p50", "p90", "p99", "max", "spread"],
        waits.iter().map(row).collect(),
    )
}

/// Both sides, side by side.
#[must_use]
pub fn compared(report: &Report) -> Option<Table> {
    type Cell = fn(&Side) -> String;
    let behind = report.greenroom.as_ref().filter(|side| !side.runs.is_empty())?;
    let cells: [(&str, Cell); 11] = [
        ("starts", |side| side.runs.len().to_string()),
        ("clients", |side| grouped(side.clients)),
        ("answered", |side| {
            let good = side.counts.iter().filter(|count| count.outcome.is_good());
            grouped(good.map(|count| count.clients).sum())
        }),
        ("refused: nobody listened", |side| {
            grouped(side.count(Zone::Cold, |outcome| outcome == Outcome::Refused))
        }),
        ("came before it was ready, and failed", |side| failed(side, Zone::Race)),
        ("came when it was ready, and failed", |side| failed(side, Zone::Ready)),
        ("came before, first message lost", |side| lost(side.early_first_lost)),
        ("came when ready, first message lost", |side| lost(side.first_lost)),
        ("connect to 101, p99", |side| waited(side.open, side.open.p99_ns)),
        ("ready to first answer, p50", |side| {
            waited(side.after_ready, side.after_ready.p50_ns)
        }),
        ("ready to first answer, p99", |side| {
            waited(side.after_ready, side.after_ready.p99_ns)
        }),
    ];
    let row = |(label, cell): (&str, Cell)| vec![label.to_owned(), cell(&report.plain), cell(behind)];
    Table::of(
        &["", side_name(Way::Plain), side_name(Way::Greenroom)],
        cells.into_iter().map(row).collect(),
    )
}

fn failed(side: &Side, zone: Zone) -> String {
    grouped(side.count(zone, |outcome| !outcome.is_good() && outcome != Outcome::Unknown))
}

/// Where nobody was served, nobody's wait is known.
fn waited(times: super::stats::Quantiles, quantile_ns: u64) -> String {
    match times.count {
        0 => "–".to_owned(),
        _ => span(quantile_ns),
    }
}

fn lost(share: super::stats::Share) -> String {
    format!("{} of {}", grouped(share.hits), grouped(share.of))
}
