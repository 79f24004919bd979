//! The report as JUnit XML, for the test pages of CI systems: one case for each thing that can be wrong, and one for
//! each condition of `--fail-on` and `--budget` that is met. Pure.

use std::fmt::Write as _;

use super::condition::{Condition, Kind, Place};
use super::finding::CODES;
use super::report::{Report, Verdict};
use super::stage::Way;

/// The whole document.
#[must_use]
pub fn render(report: &Report) -> String {
    let seconds = report.took_ns as f64 / 1e9;
    let mut cases = String::new();
    let (mut failures, mut errors, mut tests) = (0, 0, 0);
    let mut case = |name: &str, inside: Option<(&str, &str, &str)>| {
        tests += 1;
        match inside {
            None => {
                let _ = writeln!(
                    cases,
                    "    <testcase classname=\"greenroom.audit\" name=\"{}\"/>",
                    escaped(name)
                );
            }
            Some((element, message, text)) => {
                let _ = writeln!(
                    cases,
                    "    <testcase classname=\"greenroom.audit\" name=\"{}\">\n      <{element} message=\"{}\">{}</{element}>\n    </testcase>",
                    escaped(name),
                    escaped(message),
                    escaped(text)
                );
            }
        }
    };
    if let Verdict::NotMeasured(why) = &report.verdict {
        case("measured", Some(("error", "not measured", why)));
        errors = 1;
    } else {
        for (code, _) in CODES {
            let said = report.findings.iter().find(|said| said.code == *code);
            failures += u32::from(said.is_some());
            case(
                code,
                said.map(|said| ("failure", said.sentence.as_str(), said.advice.as_str())),
            );
        }
        // A race of the server by itself stands above.
        let above =
            |condition: &&Condition| condition.kind == Kind::Race && condition.place == Place::Starts(Way::Plain);
        for condition in report.conditions.iter().filter(|condition| !above(condition)) {
            failures += 1;
            case(
                &condition.reason,
                Some((
                    "failure",
                    &condition.reason,
                    "a condition of --fail-on or --budget; docs/audit.md, \"Exit codes and CI\"",
                )),
            );
        }
        for why in &report.not_done {
            errors += 1;
            case("what was asked for", Some(("error", "not measured", why)));
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"greenroom audit: {}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds:.3}\" timestamp=\"{}\">\n{cases}  </testsuite>\n</testsuites>\n",
        escaped(&report.command.join(" ")),
        escaped(report.machine.date.trim_end_matches('Z'))
    )
}

/// Text that may stand in XML, attributes included; what XML 1.0 has no place for becomes a blank.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
