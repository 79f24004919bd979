//! The plots of the HTML report, as SVG: outcome over offset, time to open, release order. Pure.
//!
//! Colours are classes of the page's style sheet, so that one drawing is right in light and dark. Each mark has a
//! title, which browsers show when it is pointed at. Bounded by the columns and points of a [`Side`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::edges::Zone;
use super::judge::Outcome;
use super::launcher::Way;
use super::side::{COLUMNS, Point, Side};
use super::tables::named;
use super::text::escaped;
use super::text::{about, span};
use super::words;

/// The drawing's own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const INNER: f64 = WIDTH - LEFT - RIGHT;

/// The class that colours an outcome.
#[must_use]
pub const fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "good",
        Outcome::Late => "late",
        Outcome::Refused => "cold",
        Outcome::Unknown => "unknown",
        Outcome::Lost | Outcome::Unanswered | Outcome::Doubled | Outcome::Reordered => "lost",
        Outcome::Status(_) => "status",
        Outcome::Closed(_) | Outcome::Cut | Outcome::Reset | Outcome::Broken => "bad",
        Outcome::Hung => "hung",
    }
}

fn open(height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(label)
    )
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
        escaped(words)
    )
}

/// What became of clients, by where in the start they came: a column's parts are shares of its clients. Each zone is
/// as wide as the others; when it begins, how long it is and half of that stand under it.
#[must_use]
pub fn outcomes(way: Way, side: &Side) -> String {
    const HEIGHT: f64 = 180.0;
    let mut svg = open(HEIGHT + 52.0, "share of outcomes by where in the start a client came");
    let zones: Vec<Zone> = [Zone::Cold, Zone::Race, Zone::Ready]
        .into_iter()
        .filter(|zone| side.columns.iter().any(|column| column.zone == *zone))
        .collect();
    let wide = INNER / zones.len().max(1) as f64;
    for share in [0.0, 0.5, 1.0] {
        let y = HEIGHT - share * (HEIGHT - 8.0);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
            WIDTH - RIGHT
        );
        svg.push_str(&text(LEFT - 8.0, y + 4.0, "end", &format!("{:.0} %", share * 100.0)));
    }
    for column in &side.columns {
        let Some(place) = zones.iter().position(|zone| *zone == column.zone) else {
            continue;
        };
        let x = LEFT + wide * (place as f64 + column.from);
        let all: u64 = column.outcomes.values().sum();
        let mut y = HEIGHT;
        for (outcome, clients) in &column.outcomes {
            let height = *clients as f64 / all.max(1) as f64 * (HEIGHT - 8.0);
            y -= height;
            let _ = writeln!(
                svg,
                "<rect class=\"{}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {clients} of {all}</title></rect>",
                class(*outcome),
                x + 0.5,
                wide / COLUMNS as f64 - 1.0,
                escaped(&named(*outcome))
            );
        }
    }
    for (place, zone) in zones.iter().enumerate() {
        svg.push_str(&zone_axis(way, side, *zone, LEFT + wide * place as f64, wide, HEIGHT));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Under one zone: what it begins with, how long it is, and a mark at half of that.
fn zone_axis(way: Way, side: &Side, zone: Zone, x: f64, wide: f64, bottom: f64) -> String {
    let mark = |x: f64, top: f64, class: &str| {
        let end = bottom + 6.0;
        format!("<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{end}\"/>\n")
    };
    let mut axis = mark(x, 0.0, "edge");
    axis += &text(x + 4.0, bottom + 22.0, "start", words::zone_begin(way, zone));
    if let Some(length) = words::zone_length(side, zone) {
        axis += &mark(x + wide / 2.0, bottom, "edge");
        let half = format!("+ {}", span(length.high_ns / 2));
        axis += &text(x + wide / 2.0, bottom + 22.0, "middle", &half);
        axis += &text(x + 4.0, bottom + 42.0, "start", &format!("{} long", about(length)));
    }
    axis
}

/// Time to open over when a client came, on a scale of tens; one class of marks for each side.
#[must_use]
pub fn opening(sides: &[(Way, &Side)]) -> String {
    const HEIGHT: f64 = 220.0;
    const LEAST: f64 = 1e5; // 100 µs
    let points: Vec<(usize, &Point, u64)> = sides
        .iter()
        .enumerate()
        .flat_map(|(index, (_, side))| side.points.iter().map(move |point| (index, point)))
        .filter_map(|(index, point)| Some((index, point, point.opened_ns?.saturating_sub(point.started_ns))))
        .collect();
    let most_x = points
        .iter()
        .map(|(_, point, _)| point.started_ns)
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let most_y = points.iter().map(|(.., took)| *took).max().unwrap_or(1) as f64;
    let decades = (most_y.max(LEAST * 10.0) / LEAST).log10().ceil();
    let y_of = |ns: f64| HEIGHT - (ns.max(LEAST) / LEAST).log10() / decades * (HEIGHT - 10.0);
    let mut svg = open(
        HEIGHT + 34.0,
        "time from a client's start to its 101, over when it came",
    );
    for decade in 0..=decades as i32 {
        let ns = LEAST * 10_f64.powi(decade);
        let y = y_of(ns);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        );
        svg.push_str(&text(LEFT - 8.0, y + 4.0, "end", &short(ns as u64)));
    }
    for (index, point, took) in points {
        let _ = writeln!(
            svg,
            "<circle class=\"side{index} {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"><title>{}: came {} after exec, open after {}</title></circle>",
            if point.outcome.is_good() { "kept" } else { "failed" },
            LEFT + point.started_ns as f64 / most_x * INNER,
            y_of(took as f64),
            escaped(&named(point.outcome)),
            span(point.started_ns),
            span(took)
        );
    }
    for part in 0..=4 {
        let ns = most_x * f64::from(part) / 4.0;
        let anchor = if part == 4 { "end" } else { "middle" };
        svg.push_str(&text(
            LEFT + INNER * f64::from(part) / 4.0,
            HEIGHT + 22.0,
            anchor,
            &span(ns as u64),
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// A plot with the outcomes that its marks are coloured by.
#[derive(Debug)]
pub struct Order {
    /// The SVG.
    pub drawing: String,
    /// For a legend.
    pub outcomes: Vec<Outcome>,
}

/// The order in which clients were opened against that in which they came, of the run with the most who waited: a
/// straight line is first come, first served.
#[must_use]
pub fn order(side: &Side) -> Option<Order> {
    const SIZE: f64 = 220.0;
    let mut runs: BTreeMap<u32, Vec<&Point>> = BTreeMap::new();
    for point in side
        .points
        .iter()
        .filter(|point| point.opened_ns.is_some() && point.zone != Zone::Cold)
    {
        runs.entry(point.run).or_default().push(point);
    }
    let waited = |points: &&Vec<&Point>| {
        points
            .iter()
            .filter(|point| point.zone == Zone::Race && point.outcome.is_good())
            .count()
    };
    let mut points = runs.into_values().max_by_key(|points| waited(&points))?;
    points.sort_by_key(|point| point.started_ns);
    let mut opened: Vec<u64> = points.iter().filter_map(|point| point.opened_ns).collect();
    opened.sort_unstable();
    let most = points.len().max(2) as f64 - 1.0;
    let mut svg = open(SIZE + 34.0, "order of opening against order of arrival");
    let _ = writeln!(
        svg,
        "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{SIZE}\" x2=\"{}\" y2=\"8\"/>",
        LEFT + INNER
    );
    for (rank, point) in points.iter().enumerate() {
        let place = opened.partition_point(|&at| Some(at) < point.opened_ns);
        let _ = writeln!(
            svg,
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"><title>came as {}, open as {}</title></circle>",
            class(point.outcome),
            LEFT + rank as f64 / most * INNER,
            SIZE - place as f64 / most * (SIZE - 8.0),
            rank + 1,
            place + 1
        );
    }
    svg.push_str(&text(LEFT, SIZE + 22.0, "start", "first to come"));
    svg.push_str(&text(
        WIDTH - RIGHT,
        SIZE + 22.0,
        "end",
        &format!("last of {}", points.len()),
    ));
    svg.push_str(&text(LEFT - 8.0, SIZE + 2.0, "end", "first"));
    svg.push_str(&text(LEFT - 8.0, 14.0, "end", "last in"));
    svg.push_str("</svg>\n");
    let mut outcomes: Vec<Outcome> = points.iter().map(|point| point.outcome).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    Some(Order { drawing: svg, outcomes })
}

/// A round time for an axis.
fn short(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000.. => format!("{} s", ns / 1_000_000_000),
    }
}
