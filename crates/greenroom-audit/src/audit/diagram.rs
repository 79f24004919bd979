//! Mermaid sequence diagrams: what happened to one typical client, and what became of it behind greenroom. Pure.
//!
//! The cure is drawn as one, with its figures, only where the server was measured behind greenroom and nobody was failed there.
//! Where it was not measured, the heading says so; where it was and did not help, there is nothing to draw.

use std::fmt::Write as _;

use super::finding::Finding;
use super::judge::Outcome;
use super::report::{Report, Said};
use super::side::Side;
use super::text::{about, between, count, span};

const BEGIN: &str = "```mermaid\nsequenceDiagram\n    participant C as client\n";
const SERVER: &str = "    participant S as server\n";
const END: &str = "```\n\n";

/// What there is to draw; nothing where nothing was found that has a course in time.
#[must_use]
pub fn render(report: &Report) -> String {
    let Some(steps) = report.findings.iter().find_map(|said| happened(&said.finding)) else {
        return String::new();
    };
    let mut text = format!("What happened:\n\n{BEGIN}{SERVER}{steps}{END}");
    if report.findings.iter().any(|said| is_early(&said.finding)) {
        text += &cure(report);
    }
    text
}

/// Whether holding clients can be a cure.
const fn is_early(finding: &Finding) -> bool {
    matches!(
        finding,
        Finding::AcceptsEarly { .. } | Finding::LosesEarly { .. } | Finding::HangsWhenMet { .. }
    )
}

fn cure(report: &Report) -> String {
    let head = match (&report.greenroom, &report.greenroom_findings[..]) {
        (Some(side), []) if side.ready.is_some() => {
            let behind = format!(
                "{} behind greenroom, {}, nobody failed; connect to 101 {} at the 99th percentile",
                count(side.runs.len() as u64, "start"),
                count(side.clients, "client"),
                span(side.open.p99_ns)
            );
            format!("The cure, as it was measured ({behind}):\n\n")
        }
        (Some(_), found) => {
            let codes: Vec<&str> = found.iter().map(|said: &Said| said.code.as_str()).collect();
            let what = if codes.is_empty() { "not measured" } else { "no cure" };
            return match codes.as_slice() {
                [] => format!("Behind greenroom: {what}.\n\n"),
                codes => format!(
                    "Behind greenroom, as it was run here: {what} ({}).\n\n",
                    codes.join(", ")
                ),
            };
        }
        (None, _) => {
            "What greenroom in front is to do. It was not measured here; `--compare` does that:\n\n".to_owned()
        }
    };
    let ready = report.greenroom.as_ref().and_then(first_answer);
    let ready = ready.map_or_else(
        || "ready".to_owned(),
        |after| format!("ready, first answer {after} after exec"),
    );
    format!(
        "{head}{BEGIN}    participant G as greenroom\n{SERVER}    C->>G: GET, Upgrade: websocket\n    Note over G: holds it\n    Note over S: starts\n    S-->>G: {ready}\n    G->>S: GET, Upgrade: websocket\n    S-->>G: 101\n    G-->>C: 101\n    C->>S: first message\n    S-->>C: answer\n{END}"
    )
}

fn first_answer(side: &Side) -> Option<String> {
    Some(span(side.ready?.typical.high_ns))
}

fn happened(finding: &Finding) -> Option<String> {
    let open = "    C->>S: GET, Upgrade: websocket\n    S-->>C: 101\n";
    match finding {
        Finding::AcceptsEarly { lead, outcomes, .. } => {
            let mut steps = "    Note over S: listens, and is not ready\n    C->>S: GET, Upgrade: websocket\n".to_owned();
            steps += &match outcomes.first()?.0 {
                Outcome::Closed(code) => format!("    S-->>C: 101\n    C->>S: first message\n    S--xC: Close {code}\n"),
                Outcome::Status(status) => format!("    S--xC: HTTP {status}\n"),
                Outcome::Hung => "    Note over C: no answer until its patience ends\n".into(),
                _ => "    S--xC: the connection ends\n".into(),
            };
            let _ = writeln!(steps, "    Note over S: ready {} after it listened", about(lead.typical));
            Some(steps)
        }
        Finding::HandlerLate { handler } => Some(format!(
            "{open}    C-xS: first message, lost\n    Note over S: handler attached {} after the opening\n    C->>S: a later message\n    S-->>C: answer\n",
            between(handler.attached)
        )),
        Finding::LosesEarly { lead, .. } => Some(format!(
            "    Note over S: listens, and is not ready\n{open}    C-xS: first message, lost\n    Note over S: ready {} after it listened\n",
            about(lead.typical)
        )),
        Finding::HangsWhenMet { .. } | Finding::NeverAnswers { .. } => Some(
            "    Note over S: starts\n    C->>S: GET, Upgrade: websocket\n    Note over S: never becomes ready\n    Note over C: no answer until its patience ends\n"
                .into(),
        ),
        Finding::WrongClient { .. }
        | Finding::FirstUnanswered { .. }
        | Finding::LosesMessages { .. }
        | Finding::LeavesUnanswered { .. }
        | Finding::StartsNeverReady { .. }
        | Finding::NobodyAnswered { .. }
        | Finding::Doubles { .. }
        | Finding::Reorders { .. }
        | Finding::FailsWhenReady { .. }
        | Finding::Overrun { .. }
        | Finding::StartsFail { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{early, held, report};

    #[test]
    fn the_cure_is_drawn_as_one_only_where_it_was_measured_and_nobody_was_failed() {
        let cured = render(&report(&[early(0)], Some(&[held(0)])));
        assert!(
            cured.contains("The cure, as it was measured (1 start behind greenroom, 70 clients, nobody failed"),
            "{cured}"
        );
        assert_eq!(cured.matches("```mermaid").count(), 2);
        let failed = render(&report(&[early(0)], Some(&[early(0)])));
        assert!(
            failed.contains("no cure (accepts-early)") && failed.matches("```mermaid").count() == 1,
            "{failed}"
        );
        let unmeasured = render(&report(&[early(0)], None));
        assert!(
            unmeasured.contains("It was not measured here") && !unmeasured.contains("The cure"),
            "{unmeasured}"
        );
        assert!(render(&report(&[early(0)], Some(&[]))).contains("Behind greenroom: not measured."));
        assert_eq!(render(&report(&[held(0)], None)), "");
    }
}
