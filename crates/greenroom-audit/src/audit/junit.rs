//! The report as JUnit XML, for the test pages of CI systems: a suite for each side, with a case for each thing that can be
//! wrong, for each condition of `--fail-on` and `--budget` that is met, and for each restart. Pure.
//!
//! A case fails where the exit code is 1 by it, and only there: what `--fail-on` does not count is a skipped case that says so.

use std::fmt::Write as _;

use super::condition::{Condition, Kind, Place};
use super::finding::CODES;
use super::launcher::Way;
use super::report::{Report, Said, Verdict};
use super::tables::side_name;
use super::text::{escaped, plain};
use super::words;

/// The whole document.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut suites = by_itself(report).render(report);
    if report.greenroom.is_some() {
        suites += &behind(report).render(report);
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n")
}

/// What became of a case, where it did not just pass.
enum Case<'a> {
    /// It is why the exit code is 1.
    Failure(&'a str, &'a str),
    /// Nothing was measured.
    Error(&'a str, &'a str),
    /// It is not counted.
    Skipped(String),
    /// It is told, and nothing more.
    Told(String),
}

/// The cases of one side.
struct Suite {
    name: String,
    way: Way,
    cases: String,
    tests: u32,
    failures: u32,
    errors: u32,
    skipped: u32,
}

impl Suite {
    fn new(report: &Report, way: Way) -> Self {
        Self {
            name: format!("greenroom audit, {}: {}", side_name(way), report.command.join(" ")),
            way,
            cases: String::new(),
            tests: 0,
            failures: 0,
            errors: 0,
            skipped: 0,
        }
    }

    fn add(&mut self, name: &str, case: Option<Case<'_>>) {
        self.tests += 1;
        let long = |element: &str, message: &str, text: &str| {
            let (message, text) = (escaped(&plain(message)), escaped(&plain(text)));
            format!("<{element} message=\"{message}\">{text}</{element}>")
        };
        let inside = match case {
            None => None,
            Some(Case::Failure(message, text)) => {
                self.failures += 1;
                Some(long("failure", message, text))
            }
            Some(Case::Error(message, text)) => {
                self.errors += 1;
                Some(long("error", message, text))
            }
            Some(Case::Skipped(message)) => {
                self.skipped += 1;
                Some(format!("<skipped message=\"{}\"/>", escaped(&plain(&message))))
            }
            Some(Case::Told(text)) => Some(format!("<system-out>{}</system-out>", escaped(&plain(&text)))),
        };
        let class = match self.way {
            Way::Plain => "greenroom.audit",
            Way::Greenroom => "greenroom.audit.behind",
        };
        let head = format!("<testcase classname=\"{class}\" name=\"{}\"", escaped(name));
        let _ = match inside {
            None => writeln!(self.cases, "    {head}/>"),
            Some(inside) => writeln!(self.cases, "    {head}>\n      {inside}\n    </testcase>"),
        };
    }

    /// A case for each thing that can be wrong.
    fn findings(&mut self, report: &Report, found: &[Said]) {
        let counted = words::counts_findings(report, self.way);
        let asked = report.settings.fail_on.join(",");
        for (code, _) in CODES {
            let said = found.iter().find(|said| said.code == *code);
            let case = said.map(|said| match counted {
                true => Case::Failure(&said.sentence, &said.advice),
                false => Case::Skipped(format!(
                    "{}. {}. Not counted by --fail-on {asked}.",
                    said.sentence, said.advice
                )),
            });
            self.add(code, case);
        }
    }

    /// Conditions that are met; what is failed by `race` at the starts stands among the findings.
    fn conditions(&mut self, report: &Report) {
        let way = self.way;
        let here = |met: &&Condition| match met.place {
            Place::Starts(of) => of == way && met.kind != Kind::Race,
            Place::Restart(of) => of == way,
        };
        for met in report.conditions.iter().filter(here) {
            let text = "a condition of --fail-on or --budget; docs/audit.md, \"Exit codes and CI\"";
            self.add(&met.reason, Some(Case::Failure(&met.reason, text)));
        }
    }

    fn restarts(&mut self, report: &Report) {
        let way = self.way;
        for restart in report.restarts.iter().filter(|restart| restart.way == way) {
            self.add(&words::restart_title(restart), Some(Case::Told(restart.sentence())));
        }
    }

    fn render(&self, report: &Report) -> String {
        format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\" timestamp=\"{}\">\n{}{}  </testsuite>\n",
            escaped(&self.name),
            self.tests,
            self.failures,
            self.errors,
            self.skipped,
            report.took_ns as f64 / 1e9,
            escaped(report.machine.date.trim_end_matches('Z')),
            properties(report),
            self.cases
        )
    }
}

fn by_itself(report: &Report) -> Suite {
    let mut suite = Suite::new(report, Way::Plain);
    match &report.verdict {
        Verdict::NotMeasured(why) => suite.add("measured", Some(Case::Error("not measured", why))),
        Verdict::Sound | Verdict::Race => {
            suite.findings(report, &report.findings);
            suite.conditions(report);
        }
    }
    for why in words::incomplete(report) {
        suite.add("complete", Some(Case::Error("not all was measured", &why)));
    }
    suite.restarts(report);
    suite
}

fn behind(report: &Report) -> Suite {
    let mut suite = Suite::new(report, Way::Greenroom);
    suite.findings(report, &report.greenroom_findings);
    suite.conditions(report);
    suite.restarts(report);
    suite
}

/// With what it was measured, and what it computed beside.
fn properties(report: &Report) -> String {
    let settings = &report.settings;
    let mut all = vec![
        ("greenroom".to_owned(), report.version.clone()),
        ("seed".to_owned(), settings.seed.to_string()),
        ("url".to_owned(), settings.url.clone()),
        ("message".to_owned(), settings.message.clone()),
        ("expect".to_owned(), settings.expect.clone()),
    ];
    for waited in &report.waits {
        let p99 = super::text::span(waited.late.p99_ns);
        all.push((format!("waits p99 {}", waited.strategy), p99));
    }
    let line = |(name, value): (String, String)| {
        format!(
            "      <property name=\"{}\" value=\"{}\"/>\n",
            escaped(&name),
            escaped(&value)
        )
    };
    let lines: String = all.into_iter().map(line).collect();
    format!("    <properties>\n{lines}    </properties>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{early, held, report};

    #[test]
    fn it_fails_where_the_exit_code_does() {
        let mut report = report(&[early(0)], Some(&[early(0)]));
        insta::assert_snapshot!("junit", render(&report));
        report.settings.fail_on = vec!["lost".into()];
        report.failed_by.clear();
        report.conditions.clear();
        let text = render(&report);
        assert!(
            !text.contains("<failure") && text.contains("Not counted by --fail-on lost"),
            "{text}"
        );
        assert!(text.contains("failures=\"0\" errors=\"0\" skipped=\"1\""), "{text}");
        assert_eq!(text.matches("<skipped").count(), 2, "{text}");
    }

    #[test]
    fn what_was_stopped_is_an_error() {
        let mut report = report(&[held(0)], None);
        assert!(!render(&report).contains("<error"));
        (report.interrupted, report.settings.runs) = (true, 5);
        let text = render(&report);
        assert!(
            text.contains("errors=\"1\"") && text.contains("Stopped after 1 of 5 starts"),
            "{text}"
        );
    }
}
