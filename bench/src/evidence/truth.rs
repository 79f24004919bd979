//! `cargo xtask audit-truth`: the audit held against planted faults, as a page and its figures.
//!
//! What happened is written by the test itself (`crates/greenroom-audit/tests/audit.rs`), a line of JSON for each thing; this reads them,
//! adds of which source they are, and renders the page. Nothing in `docs/evidence/truth.md` is typed by hand: a test here compares it with
//! what the committed figures give.

use std::fmt::Write as _;
use std::path::PathBuf;

use greenroom_audit::audit::report::Machine;
use serde::{Deserialize, Serialize};

use super::origin::Revision;
use super::render::ms;
use super::write;
use crate::Failure;

/// The figures, and the page of them.
const FIGURES: &str = "truth.json";
const PAGE: &str = "truth.md";
/// The version of this form.
const SCHEMA: u32 = 1;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the test has written.
    #[arg(long)]
    results: PathBuf,
    /// The folder of this repository.
    #[arg(long)]
    root: PathBuf,
    /// Where the page and its figures go.
    #[arg(long)]
    out: PathBuf,
    /// What was typed to run the test.
    #[arg(long)]
    command: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Truth {
    schema: u32,
    command: String,
    revision: Revision,
    lines: Vec<Line>,
}

/// One thing that happened, in the order of happening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
enum Line {
    Begin {
        machine: Machine,
        /// How the test was built.
        profile: String,
        /// The form that figures are quoted from.
        long: bool,
    },
    /// Planted edges, and how many of them lie in the reported interval; its width, median and greatest.
    Edges {
        edge: String,
        starts: u64,
        within: u64,
        width_p50_ns: u64,
        width_max_ns: u64,
    },
    /// A handler that is attached late: when in fact, at the median, and what is reported.
    LateHandler {
        starts: u64,
        truth_ns: [u64; 2],
        found_ns: [u64; 2],
    },
    /// A planted loss of first messages.
    Loss {
        starts: u64,
        planted_percent: f64,
        lost: u64,
        of: u64,
        low_percent: f64,
        high_percent: f64,
        server_lost: u64,
        early_lost: u64,
    },
    /// Good servers while processes keep all processors busy.
    Alarms {
        starts: u64,
        findings: Vec<String>,
        clients: u64,
        unknown: u64,
        busy: u64,
        processors: u64,
    },
    /// A test, and whether it passed.
    Test {
        name: String,
        passed: bool,
        took_s: f64,
    },
    End {
        load: String,
        took_s: f64,
    },
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let results = &arguments.results;
    let text =
        std::fs::read_to_string(results).map_err(|error| format!("cannot read {}: {error}", results.display()))?;
    let lines: Result<Vec<Line>, _> = text.lines().map(serde_json::from_str).collect();
    let truth = Truth {
        schema: SCHEMA,
        command: arguments.command.clone(),
        revision: Revision::of(&arguments.root),
        lines: lines.map_err(|error| format!("{}: {error}", results.display()))?,
    };
    write(&arguments.out, FIGURES, PAGE, &truth, &page(&truth))?;
    println!(
        "audit-truth: {}; {}",
        arguments.out.join(PAGE).display(),
        summary(&truth)
    );
    Ok(())
}

/// How many tests passed, and of how many.
fn passed(truth: &Truth) -> (usize, usize) {
    let of = |wanted: bool| {
        let is = |line: &&Line| matches!(line, Line::Test { passed, .. } if *passed == wanted);
        truth.lines.iter().filter(is).count()
    };
    (of(true), of(true) + of(false))
}

fn is_whole(truth: &Truth) -> bool {
    matches!(truth.lines.last(), Some(Line::End { .. }))
}

fn summary(truth: &Truth) -> String {
    let (passed, of) = passed(truth);
    let end = if is_whole(truth) {
        ""
    } else {
        "; IT DID NOT COME TO ITS END"
    };
    let failed = if passed == of { "" } else { ": SOME FAILED" };
    format!("{passed} of {of} tests passed{failed}{end}")
}

fn page(truth: &Truth) -> String {
    let mut text = String::from(
        "# The audit against the truth\n\nWhat `greenroom audit` says of servers with planted faults, which stamp these themselves with CLOCK_MONOTONIC. Written by `cargo xtask audit-truth` from\n\
         [truth.json](truth.json), which has what the test `crates/greenroom-audit/tests/audit.rs` wrote; nothing here is typed by hand, and a test fails when this page is not what\n\
         the program makes of that file. The index: [README.md](README.md).\n\n",
    );
    if truth
        .lines
        .iter()
        .any(|line| matches!(line, Line::Begin { long: false, .. }))
    {
        text.push_str("**A short run: it shows that everything works. Figures to quote need the long one, `cargo xtask audit-truth`.**\n\n");
    }
    text.push_str("| | |\n|---|---|\n");
    let _ = writeln!(
        text,
        "| command | `{}` |\n| revision | {} |",
        truth.command,
        truth.revision.told()
    );
    for line in &truth.lines {
        head(&mut text, line);
    }
    let _ = writeln!(text, "| result | {} |\n", summary(truth));
    text.push_str("| planted | what is told of it |\n|---|---|\n");
    for line in &truth.lines {
        told(&mut text, line);
    }
    text.push_str("\n| test | | took |\n|---|---|---:|\n");
    for line in &truth.lines {
        if let Line::Test { name, passed, took_s } = line {
            let ended = if *passed { "passed" } else { "**failed**" };
            let _ = writeln!(text, "| `{name}` | {ended} | {} |", ms(took_s * 1e3));
        }
    }
    text
}

/// Rows of the first table.
fn head(text: &mut String, line: &Line) {
    let _ = match line {
        Line::Begin { machine, profile, .. } => writeln!(
            text,
            "| date | {} |\n| machine | {} × {}, {} |\n| load average of a minute, at the beginning | {} |\n| build of the test | {profile} |",
            machine.date, machine.processors, machine.processor, machine.kernel, machine.load
        ),
        Line::End { load, took_s } => writeln!(
            text,
            "| load average of a minute, at the end | {load} |\n| took | {took_s:.0} s |"
        ),
        Line::Edges { .. } | Line::LateHandler { .. } | Line::Loss { .. } | Line::Alarms { .. } | Line::Test { .. } => {
            Ok(())
        }
    };
}

/// A row of the second.
fn told(text: &mut String, line: &Line) {
    #[allow(clippy::cast_precision_loss)]
    let span = |nanos: u64| ms(nanos as f64 / 1e6);
    let _ = match line {
        Line::Edges {
            edge,
            starts,
            within,
            width_p50_ns,
            width_max_ns,
        } => writeln!(
            text,
            "| *{edge}*, in each of {starts} starts | {within} of {starts} lie in the reported interval, which is {} wide at the median and {} at the most |",
            span(*width_p50_ns),
            span(*width_max_ns)
        ),
        Line::LateHandler {
            starts,
            truth_ns,
            found_ns,
        } => writeln!(
            text,
            "| a handler that is attached {} to {} after the opening (of {starts} starts, the typical one) | attached {} to {} after it |",
            span(truth_ns[0]),
            span(truth_ns[1]),
            span(found_ns[0]),
            span(found_ns[1])
        ),
        Line::Loss {
            starts,
            planted_percent,
            lost,
            of,
            low_percent,
            high_percent,
            server_lost,
            early_lost,
        } => writeln!(
            text,
            "| a loss of {planted_percent} % of first messages, in {starts} starts; the server lost {server_lost} | {lost} of {of}, 99.99 % interval {low_percent:.2} to {high_percent:.2} %: {}; {early_lost} more of clients that came before it was ready |",
            if (*low_percent..=*high_percent).contains(planted_percent) {
                "the planted share lies in it"
            } else {
                "**the planted share does not lie in it**"
            }
        ),
        Line::Alarms {
            starts,
            findings,
            clients,
            unknown,
            busy,
            processors,
        } => writeln!(
            text,
            "| nothing: good servers in {starts} starts, beside {busy} processes that keep {processors} processors busy | {} found, of {clients} clients; {unknown} of these unknown |",
            if findings.is_empty() {
                "nothing".to_owned()
            } else {
                format!("**{}**", findings.join(", "))
            }
        ),
        Line::Begin { .. } | Line::Test { .. } | Line::End { .. } => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tests::read;

    fn committed() -> Truth {
        serde_json::from_str(&read(FIGURES)).expect("truth.json is what `cargo xtask audit-truth` wrote")
    }

    #[test]
    fn the_page_is_what_the_committed_figures_give() {
        assert!(
            read(PAGE) == page(&committed()),
            "docs/evidence/truth.md was edited, or the program that writes it was: run `cargo xtask audit-truth`"
        );
    }

    #[test]
    fn what_is_committed_came_to_its_end_is_of_a_known_source_and_has_all_its_parts() {
        let truth = committed();
        assert!(truth.schema == SCHEMA && is_whole(&truth) && truth.revision.is_known());
        let has = |is: fn(&Line) -> bool| truth.lines.iter().filter(|line| is(line)).count();
        assert_eq!(has(|line| matches!(line, Line::Edges { .. })), 2);
        assert_eq!(has(|line| matches!(line, Line::LateHandler { .. })), 1);
        assert_eq!(has(|line| matches!(line, Line::Loss { .. })), 1);
        assert_eq!(has(|line| matches!(line, Line::Alarms { .. })), 1);
    }

    #[test]
    fn what_fails_is_said() {
        let mut truth = committed();
        truth.lines.retain(|line| !matches!(line, Line::End { .. }));
        for line in &mut truth.lines {
            match line {
                Line::Edges { within, .. } => *within = 0,
                Line::Loss { low_percent, .. } => *low_percent = 2.001,
                Line::Alarms { findings, .. } => findings.push("accepts-early".to_owned()),
                Line::Test { passed, .. } => *passed = false,
                Line::Begin { .. } | Line::LateHandler { .. } | Line::End { .. } => {}
            }
        }
        let page = page(&truth);
        for said in [
            "0 of ",
            "**the planted share does not lie in it**",
            "**accepts-early** found",
            "**failed**",
            "SOME FAILED; IT DID NOT COME TO ITS END",
        ] {
            assert!(page.contains(said), "{said}: {page}");
        }
    }
}
