//! The report for a terminal, or for a log: a verdict in sentences, tables and three rows of a plot.
//!
//! Pure: a width and whether colours may be used come in, text goes out. Nothing of a server's or user's text can
//! do anything to the terminal: control characters have been taken out where it was read, and are again here.

use super::edges::Zone;
use super::judge::Outcome;
use super::launcher::Way;
use super::report::{Report, Said, Verdict};
use super::side::{Column, Side};
use super::strategy;
use super::tables::{self, Table, side_name};
use super::text::{about, count, grouped, plain, quoted, span};
use super::words::{self, Tone};

/// Narrower than this nothing fits; wider is hard to read.
const NARROW: usize = 60;
const WIDE: usize = 160;
/// Before a row of a plot.
const LABEL: usize = 11;
/// The least width of a table's first column: tables stand below each other.
const FIRST: usize = 24;
/// Between two columns.
const GAP: usize = 2;

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
    for (way, side) in tables::sides(report) {
        page.side(report, way, side);
    }
    if let Some(table) = tables::compared(report) {
        page.title("Side by side");
        page.table(&table);
    }
    if let Some(table) = tables::strategies(&report.waits) {
        page.line("");
        page.wrapped(&format!("{}:", strategy::told(&report.plain)), 0);
        page.table(&table);
    }
    for restart in &report.restarts {
        page.title(&words::restart_title(restart));
        page.wrapped(&restart.sentence(), 2);
    }
    if report.plain.ready.is_some() {
        page.line("");
        page.wrapped(words::EDGES, 0);
        page.wrapped(words::WAITS, 0);
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

    /// Breaks at blanks, but not at those that do not break; each line begins with `indent` blanks.
    fn wrapped(&mut self, text: &str, indent: usize) {
        let text = plain(text);
        let safe: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = String::new();
        for word in safe.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > self.width {
                let full = std::mem::take(&mut line);
                self.line(&format!("{:indent$}{full}", ""));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word.replace('\u{a0}', " "));
        }
        self.line(&format!("{:indent$}{line}", ""));
    }

    /// A title behind an empty line.
    fn title(&mut self, title: &str) {
        self.line("");
        let title = self.paint("1", title);
        self.line(&title);
    }

    fn table(&mut self, table: &Table) {
        let of = |column: usize| {
            let cells = table.rows.iter().filter_map(move |row| row.get(column));
            let cells = cells.map(|cell| plain(cell).chars().count());
            cells
                .chain(table.head.get(column).map(|head| head.chars().count()))
                .max()
        };
        let widths: Vec<usize> = (0..table.head.len()).filter_map(of).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (column, (cell, width)) in cells.zip(&widths).enumerate() {
                let cell = plain(cell);
                line += &match column {
                    0 => format!("  {cell:<width$}", width = *width.max(&FIRST)),
                    _ => format!("{cell:>width$}", width = width + GAP),
                };
            }
            line
        };
        self.line(&line(&mut table.head.iter().copied()));
        for row in &table.rows {
            self.line(&line(&mut row.iter().map(String::as_str)));
        }
    }

    fn head(&mut self, report: &Report) {
        self.wrapped(&format!("greenroom audit: {}", quoted(&report.command.join(" "))), 0);
        let side = &report.plain;
        self.wrapped(
            &format!(
                "{}, {}, {} unknown; message {}, expect {}; {}; seed\u{a0}{}; took {}",
                count(side.runs.len() as u64, "start"),
                count(side.clients, "client"),
                grouped(side.unknown),
                quoted(&report.settings.message),
                quoted(&report.settings.expect),
                words::machine(report),
                report.settings.seed,
                span(report.took_ns),
            ),
            0,
        );
        if let Some(stopped) = words::stopped(report) {
            self.wrapped(&format!("{stopped}."), 0);
        }
        self.line("");
    }

    fn verdict(&mut self, report: &Report) {
        self.verdict_title(&words::title(report));
        match &report.verdict {
            Verdict::Sound => self.wrapped(&words::sound(&report.plain), 2),
            Verdict::Race => self.said(&report.findings),
            Verdict::NotMeasured(why) => {
                for line in why.lines() {
                    self.wrapped(line, 2);
                }
            }
        }
        if let Some(title) = words::title_behind(report) {
            self.verdict_title(&title);
            self.said(&report.greenroom_findings);
            if let Some(Verdict::NotMeasured(why)) = &report.greenroom_verdict {
                self.wrapped(&format!("{why}."), 2);
            }
        }
        for why in &report.not_done {
            self.verdict_title(&(Tone::Unsure, words::NOT_DONE.to_owned()));
            self.wrapped(&format!("{why}."), 2);
        }
        if let Some(exit) = words::exit(report) {
            self.wrapped(&format!("{exit}."), 0);
        }
    }

    fn verdict_title(&mut self, (tone, title): &(Tone, String)) {
        let (code, mark) = match tone {
            Tone::Good => ("1;32", '✓'),
            Tone::Bad => ("1;31", '✗'),
            Tone::Unsure => ("1;33", '?'),
        };
        let title = self.paint(code, &format!("{mark} {}", plain(title)));
        self.line(&title);
    }

    fn said(&mut self, findings: &[Said]) {
        for said in findings {
            self.wrapped(&format!("It {}.", said.sentence), 2);
            self.wrapped(&format!("→ {}.", said.advice), 4);
        }
    }

    fn side(&mut self, report: &Report, way: Way, side: &Side) {
        self.title(&format!("The server {}", side_name(way)));
        if let Some(table) = tables::edges(way, side) {
            self.table(&table);
        }
        if let Some(notified) = words::notified(side) {
            self.wrapped(&format!("{notified}."), 2);
        }
        self.line("");
        self.plot(way, side);
        if let Some(table) = tables::counts(way, side) {
            self.table(&table);
            self.line("");
        }
        if let Some(table) = tables::waits(side) {
            self.table(&table);
        }
        if let Some(overtaken) = words::overtaken(side) {
            self.wrapped(&format!("{overtaken}."), 2);
        }
        if let Some((ended, lines)) = words::ended(report, side) {
            let end = if lines.is_empty() { '.' } else { ':' };
            self.wrapped(&format!("{ended}{end}"), 2);
            for line in lines {
                self.wrapped(line, 4);
            }
        }
    }

    /// Three rows: who was answered, failed, refused; the height of a column is their share in it.
    fn plot(&mut self, way: Way, side: &Side) {
        let zones: Vec<Zone> = [Zone::Cold, Zone::Race, Zone::Ready]
            .into_iter()
            .filter(|zone| side.columns.iter().any(|column| column.zone == *zone))
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
            for zone in &zones {
                let bars: String = (0..cells).map(|cell| bar(side, *zone, cell, cells, fits)).collect();
                row.push('│');
                row.push_str(&self.paint(code, &bars));
            }
            self.line(&row);
        }
        let (mut begins, mut lengths) = (format!("{:LABEL$}", ""), format!("  {:<w$}", "lasts", w = LABEL - 2));
        for zone in &zones {
            begins += &format!("{:<width$}", words::zone_begin(way, *zone), width = cells + 1);
            let length = words::zone_length(side, *zone).map_or_else(String::new, about);
            lengths += &format!("{length:<width$}", width = cells + 1);
        }
        self.line(&begins);
        self.line(&lengths);
        self.line("");
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
        return ' '; // nobody came
    }
    let eighths = (fit as f64 / all as f64 * 8.0).ceil() as usize;
    BARS[eighths.min(8)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{early, held, report};

    #[test]
    fn it_reads_like_this() {
        let report = report(&[early(0), early(1)], Some(&[held(0), held(1)]));
        let text = render(&report, 80, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!("terminal", text);
    }

    #[test]
    fn where_nobody_came_nothing_is_drawn_and_what_must_not_be_torn_is_not() {
        let text = render(&report(&[early(0)], None), 80, true);
        assert!(!text.contains('·') && !text.contains('`'), "{text}");
        assert!(text.contains("2 × AMD"), "{text}");
    }
}
