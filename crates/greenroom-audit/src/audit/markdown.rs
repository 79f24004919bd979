//! The report as Markdown: for a file, and, shorter, for a comment in an issue or a pull request.
//!
//! Pure. Both have a table of before and after where both sides were measured, and diagrams of what
//! happened and of the cure ([`super::diagram`]). Text of CMD is put in code, with its backticks taken out.

use std::fmt::Write as _;

use super::diagram;
use super::launcher::Way;
use super::report::{Report, Said, Verdict};
use super::side::Side;
use super::strategy;
use super::tables::{self, Table, side_name};
use super::text::{plain, quoted};
use super::words;

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Start-up audit\n\n");
    verdict(&mut text, report);
    if report.plain.runs.is_empty() {
        return text;
    }
    table(&mut text, tables::compared(report));
    text.push_str(&diagram::render(report));
    for (way, side) in tables::sides(report) {
        let _ = writeln!(text, "## The server {}\n", side_name(way));
        figures(&mut text, report, way, side);
    }
    strategies(&mut text, report);
    restarts(&mut text, report);
    text.push_str("## How it was measured\n\n");
    let _ = writeln!(
        text,
        "{}\n\n{} {}\n",
        words::measured(report),
        words::EDGES,
        words::WAITS
    );
    text
}

/// A comment: the verdict, the table, the diagrams, and the rest folded away.
#[must_use]
pub fn comment(report: &Report) -> String {
    let mut text = String::from("### greenroom audit\n\n");
    verdict(&mut text, report);
    if report.plain.runs.is_empty() {
        return text;
    }
    table(&mut text, tables::compared(report));
    strategies(&mut text, report);
    restarts(&mut text, report);
    let diagrams = diagram::render(report);
    if !diagrams.is_empty() {
        folded(&mut text, "What happened, in a diagram", &diagrams);
    }
    let mut inside = String::new();
    for (way, side) in tables::sides(report) {
        let _ = writeln!(inside, "**The server {}**\n", side_name(way));
        figures(&mut inside, report, way, side);
    }
    let _ = writeln!(
        inside,
        "{}\n\n{} {}\n",
        words::measured(report),
        words::EDGES,
        words::WAITS
    );
    folded(&mut text, "Figures, and how they were measured", &inside);
    text
}

fn folded(text: &mut String, title: &str, inside: &str) {
    let _ = writeln!(text, "<details><summary>{title}</summary>\n\n{inside}</details>\n");
}

fn verdict(text: &mut String, report: &Report) {
    let _ = writeln!(text, "{}\n", quoted(&report.command.join(" ")));
    if let Some(stopped) = words::stopped(report) {
        let _ = writeln!(text, "**{stopped}.**\n");
    }
    let (_, title) = words::title(report);
    match &report.verdict {
        Verdict::Sound => {
            let _ = writeln!(text, "**{title}.** {}\n", words::sound(&report.plain));
        }
        Verdict::Race => {
            let _ = writeln!(text, "**{title}.** This server:\n");
            said(text, &report.findings);
        }
        Verdict::NotMeasured(why) => {
            let _ = writeln!(text, "**{title}.**\n");
            preformatted(text, why.lines());
        }
    }
    if let Some((_, title)) = words::title_behind(report) {
        let _ = writeln!(text, "**{title}.**\n");
        said(text, &report.greenroom_findings);
        if let Some(Verdict::NotMeasured(why)) = &report.greenroom_verdict {
            preformatted(text, why.lines());
        }
    }
    for why in &report.not_done {
        let _ = writeln!(text, "**{}:**\n", words::NOT_DONE);
        preformatted(text, why.lines());
    }
    if let Some(exit) = words::exit(report) {
        let _ = writeln!(text, "{exit}.\n");
    }
}

fn said(text: &mut String, findings: &[Said]) {
    for said in findings {
        let _ = writeln!(text, "- {}.\n  *What to do:* {}.", said.sentence, said.advice);
    }
    if !findings.is_empty() {
        text.push('\n');
    }
}

/// Lines of CMD, as they are; what could end the block is taken out.
fn preformatted<'a>(text: &mut String, lines: impl Iterator<Item = &'a str>) {
    text.push_str("```text\n");
    for line in lines {
        let line: String = line.chars().filter(|c| *c != '`' && !c.is_control()).collect();
        let _ = writeln!(text, "{line}");
    }
    text.push_str("```\n\n");
}

fn table(text: &mut String, table: Option<Table>) {
    let Some(table) = table else { return };
    let head = table.head.iter().map(|cell| match *cell {
        "" => " |".to_owned(),
        cell => format!(" {cell} |"),
    });
    let _ = writeln!(text, "|{}", head.collect::<String>());
    let _ = writeln!(text, "|---|{}", "---:|".repeat(table.head.len().saturating_sub(1)));
    for row in &table.rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
}

/// All figures of one side.
fn figures(text: &mut String, report: &Report, way: Way, side: &Side) {
    table(text, tables::edges(way, side));
    table(text, tables::counts(way, side));
    table(text, tables::waits(side));
    for line in [words::notified(side), words::overtaken(side)].into_iter().flatten() {
        let _ = writeln!(text, "{line}.\n");
    }
    if let Some((ended, lines)) = words::ended(report, side) {
        let end = if lines.is_empty() { '.' } else { ':' };
        let _ = writeln!(text, "{ended}{end}\n");
        if !lines.is_empty() {
            preformatted(text, lines.iter().map(String::as_str));
        }
    }
}

fn strategies(text: &mut String, report: &Report) {
    if let Some(strategies) = tables::strategies(&report.waits) {
        let _ = writeln!(text, "{}.\n", strategy::told(&report.plain));
        table(text, Some(strategies));
    }
}

fn restarts(text: &mut String, report: &Report) {
    for restart in &report.restarts {
        let _ = writeln!(
            text,
            "**{}:** {}\n",
            words::restart_title(restart),
            plain(&restart.sentence())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Cause;
    use crate::audit::sample::{early, held, report};

    #[test]
    fn they_read_like_this() {
        let report = report(&[early(0), early(1)], Some(&[held(0), held(1)]));
        insta::assert_snapshot!("markdown", render(&report));
        insta::assert_snapshot!("comment", comment(&report));
    }

    #[test]
    fn a_sound_server_has_no_empty_fold_and_a_failed_check_says_why() {
        let sound = comment(&report(&[held(0)], None));
        assert_eq!(sound.matches("<details>").count(), 1, "{sound}");
        let failed = report(&[early(0)], None);
        for text in [render(&failed), comment(&failed)] {
            assert!(text.contains("Exit code 1, by race"), "{text}");
            assert!(
                text.contains("expects `^a|b$`"),
                "a regular expression is no Markdown: {text}"
            );
        }
    }

    #[test]
    fn an_interrupted_audit_and_the_last_words_of_a_server_are_in_it() {
        let mut last = early(1);
        last.cause = Cause::Ended("with exit code 7".into());
        last.output = vec!["no ```database```".into()];
        let mut report = report(&[early(0), last], None);
        report.interrupted = true;
        report.settings.runs = 5;
        for text in [render(&report), comment(&report)] {
            assert!(text.contains("**Stopped after 2 of 5 starts: all"), "{text}");
            assert!(
                text.contains("1 start did not come to the end; the last lines"),
                "{text}"
            );
            assert!(text.contains("\nno database\n"), "{text}");
            assert!(text.contains("2 of 5 starts with 60 clients each"), "{text}");
        }
    }
}
