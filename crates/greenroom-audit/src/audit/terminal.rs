//! The report for a terminal, or for a log: a verdict in sentences, tables and three rows of a plot.
//!
//! Pure: a width and whether colours may be used come in, text goes out. Nothing of a server's or user's text can
//! do anything to the terminal: control characters have been taken out where it was read, and are again here.

use std::fmt::Write as _;

use super::edges::Zone;
use super::judge::Outcome;
use super::plan::nanos;
use super::record::Cause;
use super::report::{Report, Said, Verdict};
use super::restarted::RestartReport;
use super::side::{Column, Edge, Side};
use super::stage::Way;
use super::stats::Quantiles;
use super::strategy;
use super::text::{about, span};
use crate::limits;

/// Narrower than this nothing fits; wider is hard to read.
const NARROW: usize = 60;
const WIDE: usize = 160;
/// Before a row of a plot.
const LABEL: usize = 11;

/// The whole report in lines of at most `width`.
#[must_use]
pub fn render(report: &Report, width: usize, colour: bool) -> String {
    let mut page = Page {
        text: String::new(),
        width: width.clamp(NARROW, WIDE),
        colour,
    };
    page.head(report);
    page.verdict(report);
    if report.plain.runs.is_empty() {
        return page.text;
    }
    match &report.greenroom {
        None => page.side(&report.plain, "by itself"),
        Some(behind) => {
            page.side(&report.plain, "by itself");
            page.side(behind, "behind greenroom");
            page.compared(&report.plain, behind);
        }
    }
    page.strategies(report);
    for restart in &report.restarts {
        page.restart(restart);
    }
    if !report.failed_by.is_empty() {
        page.line("");
        page.wrapped(&format!("Fails by {}", report.failed_by.join("; ")), 0);
    }
    page.text
}

struct Page {
    text: String,
    width: usize,
    colour: bool,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Breaks at blanks; each line begins with `indent` blanks.
    fn wrapped(&mut self, text: &str, indent: usize) {
        let safe: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = String::new();
        for word in safe.split_whitespace() {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > self.width {
                let full = std::mem::take(&mut line);
                self.line(&format!("{:indent$}{full}", ""));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("{:indent$}{line}", ""));
    }

    /// How late each way of waiting lets clients in.
    fn strategies(&mut self, report: &Report) {
        if report.waits.is_empty() {
            return;
        }
        self.line("");
        self.wrapped(&format!("{}:", strategy::told(&report.plain)), 0);
        self.line(&format!(
            "{:16}{:>10}{:>10}{:>10}{:>10}",
            "", "p50", "p99", "max", "spread"
        ));
        for waited in &report.waits {
            let [p50, p99, max, spread] = [
                waited.late.p50_ns,
                waited.late.p99_ns,
                waited.late.max_ns,
                waited.spread_ns,
            ]
            .map(span);
            self.line(&format!(
                "  {:14}{p50:>10}{p99:>10}{max:>10}{spread:>10}",
                waited.strategy
            ));
        }
    }

    fn head(&mut self, report: &Report) {
        let command = report.command.join(" ");
        self.wrapped(&format!("greenroom audit: {command}"), 0);
        let machine = &report.machine;
        let side = &report.plain;
        self.wrapped(
            &format!(
                "{} starts, {} clients, {} unknown; message {:?}, expect {}; {} × {}, {}, load {}; seed {}; took {}{}",
                side.runs.len(),
                grouped(side.clients),
                side.unknown,
                report.settings.message,
                report.settings.expect,
                machine.processors,
                machine.processor,
                machine.kernel,
                machine.load,
                report.settings.seed,
                span(report.took_ns),
                if report.interrupted { "; interrupted" } else { "" }
            ),
            0,
        );
        self.line("");
    }

    fn verdict(&mut self, report: &Report) {
        match &report.verdict {
            Verdict::Sound => {
                let title = self.paint("1;32", "✓ No race");
                self.line(&title);
                self.wrapped(&sound(&report.plain), 2);
            }
            Verdict::Race => {
                let title = self.paint("1;31", "✗ Race");
                self.line(&title);
                self.said(&report.findings, "It");
            }
            Verdict::NotMeasured(why) => {
                let title = self.paint("1;33", "? Not measured");
                self.line(&title);
                for line in why.lines() {
                    self.wrapped(line, 2);
                }
            }
        }
        match &report.greenroom_verdict {
            None => {}
            Some(Verdict::Sound) => {
                let title = self.paint("1;32", "✓ Behind greenroom: no race");
                self.line(&title);
            }
            Some(Verdict::Race) => {
                let title = self.paint("1;31", "✗ Behind greenroom");
                self.line(&title);
                self.said(&report.greenroom_findings, "It");
            }
            Some(Verdict::NotMeasured(why)) => {
                let title = self.paint("1;33", "? Behind greenroom: not measured");
                self.line(&title);
                self.wrapped(why, 2);
            }
        }
        for why in &report.not_done {
            let title = self.paint("1;33", "? Not all was measured");
            self.line(&title);
            self.wrapped(why, 2);
        }
    }

    fn said(&mut self, findings: &[Said], subject: &str) {
        for said in findings {
            self.wrapped(&format!("{subject} {}.", said.sentence), 2);
            self.wrapped(&format!("→ {}.", said.advice), 4);
        }
    }

    fn side(&mut self, side: &Side, name: &str) {
        self.line("");
        let title = self.paint("1", &format!("The server {name}"));
        self.line(&title);
        self.line(&format!(
            "  {:<24}{:>20}{:>12}{:>12}{:>9}",
            "", "typical", "least", "most", "starts"
        ));
        for (label, edge) in [
            ("listens, after exec", side.listen),
            ("ready, after exec", side.ready),
            ("from listening to ready", side.lead),
        ] {
            if let Some(edge) = edge {
                self.edge(label, edge);
            }
        }
        if let Some((least, most)) = side.notified_before_ready {
            self.line(&format!(
                "  READY=1 came {} before the first answer",
                signed(least, most)
            ));
        }
        self.line("");
        self.plot(side);
        self.counts(side);
        self.waits(side);
        let bad: Vec<_> = side.runs.iter().filter(|run| run.cause != Cause::Finished).collect();
        if let Some(run) = bad.last() {
            self.line(&format!(
                "  {} starts did not come to their end; the last lines of the last:",
                bad.len()
            ));
            for line in &run.output {
                self.wrapped(line, 4);
            }
        }
    }

    fn edge(&mut self, label: &str, edge: Edge) {
        let typical = about(edge.typical);
        let line = format!(
            "  {label:<24}{typical:>20}{:>12}{:>12}{:>9}",
            span(edge.least_ns),
            span(edge.most_ns),
            edge.runs
        );
        self.line(&line);
    }

    /// Three rows: who was answered, failed, refused; the height of a column is their share in it.
    fn plot(&mut self, side: &Side) {
        let zones: Vec<(Zone, &str)> = [(Zone::Cold, "exec"), (Zone::Race, "listens"), (Zone::Ready, "ready")]
            .into_iter()
            .filter(|(zone, _)| side.columns.iter().any(|column| column.zone == *zone))
            .collect();
        if zones.is_empty() {
            return;
        }
        let cells = ((self.width - LABEL - zones.len() - 1) / zones.len()).min(super::side::COLUMNS * 2);
        type Row = (&'static str, &'static str, fn(Outcome) -> bool);
        let rows: [Row; 3] = [
            ("answered", "32", Outcome::is_good),
            ("failed", "31", |outcome| {
                !outcome.is_good() && !matches!(outcome, Outcome::Refused | Outcome::Unknown)
            }),
            ("refused", "33", |outcome| outcome == Outcome::Refused),
        ];
        for (label, code, fits) in rows {
            let mut row = format!("  {label:<width$}", width = LABEL - 2);
            for (zone, _) in &zones {
                let bars: String = (0..cells).map(|cell| bar(side, *zone, cell, cells, fits)).collect();
                row.push('│');
                row.push_str(&self.paint(code, &bars));
            }
            self.line(&row);
        }
        let mut axis = format!("{:LABEL$}", "");
        for (_, name) in &zones {
            let _ = write!(axis, "{name:<width$}", width = cells + 1);
        }
        self.line(&axis);
        self.line("");
    }

    fn counts(&mut self, side: &Side) {
        self.line(&format!(
            "  {:<22}{:>18}{:>19}{:>16}",
            "clients that came when", "nobody listened", "it was not ready", "it was ready"
        ));
        let mut outcomes: Vec<Outcome> = side.counts.iter().map(|count| count.outcome).collect();
        outcomes.sort_unstable();
        outcomes.dedup();
        for outcome in outcomes {
            let of = |zone| match side.count(zone, |other| other == outcome) {
                0 => "–".to_owned(),
                clients => grouped(clients),
            };
            let line = format!(
                "  {:<22}{:>18}{:>19}{:>16}",
                named(outcome),
                of(Zone::Cold),
                of(Zone::Race),
                of(Zone::Ready)
            );
            self.line(&line);
        }
        self.line("");
    }

    fn waits(&mut self, side: &Side) {
        let row = |label: &str, times: Quantiles| {
            format!(
                "  {label:<26}{:>11}{:>11}{:>11}{:>11}",
                span(times.p50_ns),
                span(times.p90_ns),
                span(times.p99_ns),
                span(times.max_ns)
            )
        };
        if side.open.count == 0 {
            return;
        }
        self.line(&format!(
            "  {:<26}{:>11}{:>11}{:>11}{:>11}",
            "", "p50", "p90", "p99", "max"
        ));
        self.line(&row("start to 101", side.open));
        self.line(&row("ready to first answer", side.after_ready));
        let overtaken = side.overtaken;
        if overtaken.hits > 0 {
            self.line(&format!(
                "  {} of {} clients were opened after one that had come later",
                overtaken.hits, overtaken.of
            ));
        }
    }

    fn compared(&mut self, plain: &Side, behind: &Side) {
        self.line("");
        let title = self.paint("1", "Side by side");
        self.line(&title);
        self.line(&format!("  {:<34}{:>18}{:>20}", "", "by itself", "behind greenroom"));
        for (label, one, other) in rows(plain, behind) {
            self.line(&format!("  {label:<34}{one:>18}{other:>20}"));
        }
    }

    fn restart(&mut self, restart: &RestartReport) {
        self.line("");
        let name = match restart.way {
            Way::Plain => "by itself",
            Way::Greenroom => "behind greenroom",
        };
        let title = self.paint("1", &format!("A restart with SIG{}, {name}", restart.signal));
        self.line(&title);
        self.wrapped(&restart.sentence(), 2);
    }
}

/// What is said where nothing is wrong.
#[must_use]
pub fn sound(side: &Side) -> String {
    let refused = side.count(Zone::Cold, |outcome| outcome == Outcome::Refused);
    let listen = side
        .listen
        .map_or_else(|| "?".to_owned(), |edge| span(edge.typical.middle()));
    let taken = side.count(Zone::Race, Outcome::is_good) + side.count(Zone::Ready, Outcome::is_good);
    let before = if refused > 0 {
        format!(
            "It refuses clients until it listens, {listen} after exec ({} were), and ",
            grouped(refused)
        )
    } else {
        format!("It listens {listen} after exec, and ")
    };
    let mut text = format!(
        "{before}answered every one of the {} clients that it took{}.",
        grouped(taken),
        match side.unknown {
            0 => String::new(),
            unknown => format!(
                " and of whom anything is known; {} are unknown, as this machine stood still",
                grouped(unknown)
            ),
        }
    );
    let early = side.early_open;
    if early.max_ns >= nanos(limits::AUDIT_WAIT_TOLD) {
        let _ = write!(
            text,
            " {} came when it listened and was not ready: they waited for their 101, up to {}.",
            grouped(early.count),
            span(early.max_ns)
        );
    }
    text
}

/// The rows of a table of both sides: label, by itself, behind greenroom.
#[must_use]
pub fn rows(plain: &Side, behind: &Side) -> Vec<(&'static str, String, String)> {
    type Cell = fn(&Side) -> String;
    let cells: [(&str, Cell); 10] = [
        ("starts", |side| side.runs.len().to_string()),
        ("clients", |side| grouped(side.clients)),
        ("answered", |side| {
            grouped(
                side.counts
                    .iter()
                    .filter(|c| c.outcome.is_good())
                    .map(|c| c.clients)
                    .sum(),
            )
        }),
        ("refused: nobody listened", |side| {
            grouped(side.count(Zone::Cold, |outcome| outcome == Outcome::Refused))
        }),
        ("taken too early, and failed", |side| {
            grouped(side.count(Zone::Race, |outcome| !outcome.is_good() && outcome != Outcome::Unknown))
        }),
        ("failed when it was ready", |side| {
            grouped(side.count(Zone::Ready, |outcome| !outcome.is_good() && outcome != Outcome::Unknown))
        }),
        ("first messages lost", |side| {
            format!("{} of {}", side.first_lost.hits, grouped(side.first_lost.of))
        }),
        ("start to 101, p99", |side| span(side.open.p99_ns)),
        ("ready to first answer, p50", |side| span(side.after_ready.p50_ns)),
        ("ready to first answer, p99", |side| span(side.after_ready.p99_ns)),
    ];
    cells
        .into_iter()
        .map(|(label, cell)| (label, cell(plain), cell(behind)))
        .collect()
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

/// 12345 as `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn signed(least: i64, most: i64) -> String {
    let one = |ns: i64| format!("{}{}", if ns < 0 { "−" } else { "" }, span(ns.unsigned_abs()));
    if least == most {
        one(least)
    } else {
        format!("{} to {}", one(least), one(most))
    }
}

/// One cell of a row: the share of those that fit, as an eighth of a block.
fn bar(side: &Side, zone: Zone, cell: usize, cells: usize, fits: fn(Outcome) -> bool) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (from, to) = (cell as f64 / cells as f64, (cell + 1) as f64 / cells as f64);
    let here = |column: &&Column| column.zone == zone && column.from < to - 1e-9 && column.to > from + 1e-9;
    let (mut fit, mut all) = (0, 0);
    for (outcome, clients) in side.columns.iter().filter(here).flat_map(|column| &column.outcomes) {
        all += clients;
        fit += if fits(*outcome) { *clients } else { 0 };
    }
    if all == 0 {
        return if fits(Outcome::Answered) { '·' } else { ' ' }; // nobody came
    }
    let eighths = (fit as f64 / all as f64 * 8.0).ceil() as usize;
    BARS[eighths.min(8)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::judge::Patience;
    use crate::audit::record::{ClientRecord, Interval, RunRecord, Sent};

    const MS: u64 = 1_000_000;

    /// A client that came at `at`, and was opened and answered at `opened`, in milliseconds.
    fn client(number: u32, at: u64, opened: u64) -> ClientRecord {
        let sent = Sent {
            at: opened * MS,
            answered_at: Some(opened * MS + 1),
            copies: 1,
        };
        ClientRecord {
            connected_at: Some(at * MS + 1),
            opened_at: Some(opened * MS),
            ended_at: (opened + 400) * MS,
            messages: vec![sent],
            ..ClientRecord::new(number, at * MS)
        }
    }

    #[test]
    fn it_is_told_that_early_clients_waited_where_they_did() {
        let of = |first: u64| {
            let run = RunRecord {
                run: 0,
                exec: Interval::new(0, 1),
                listen: None,
                notified_at: None,
                clients: vec![client(0, 100, first), client(1, first + 100, first + 101)],
                stalls: Vec::new(),
                cause: Cause::Finished,
                output: Vec::new(),
                killed: 0,
            };
            let patience = Patience {
                whole_ns: 10_000 * MS,
                answer_ns: 1_000 * MS,
                late_ns: 1_000 * MS,
                answers: true,
            };
            sound(&Side::of(&[run], patience))
        };
        let waited = of(900);
        assert!(
            waited.contains("1 came when it listened and was not ready") && waited.contains("up to 800 ms"),
            "{waited}"
        );
        assert!(!of(300).contains("waited"), "200 ms are an accept queue");
    }

    #[test]
    fn nobody_is_called_answered_of_whom_nothing_is_known() {
        let patience = Patience {
            whole_ns: 1,
            answer_ns: 1,
            late_ns: 1,
            answers: true,
        };
        let mut side = Side::of(&[], patience);
        assert!(!sound(&side).contains("unknown"));
        side.unknown = 1_234;
        let said = sound(&side);
        assert!(said.contains("of whom anything is known; 1,234 are unknown"), "{said}");
    }
}
