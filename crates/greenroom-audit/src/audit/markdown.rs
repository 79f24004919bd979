//! The report as Markdown: for a file, and, shorter, for a comment in an issue or a pull request.
//!
//! Pure. Both have a table of before and after where both sides were measured, and Mermaid sequence diagrams of what
//! happened to one typical client and of the cure. Text of CMD is put in code, with its backticks taken out.

use std::fmt::Write as _;

use super::edges::Zone;
use super::finding::Finding;
use super::judge::Outcome;
use super::report::{Report, Said, Verdict};
use super::side::{Edge, Side};
use super::stage::Way;
use super::stats::Quantiles;
use super::strategy;
use super::terminal::{grouped, named, rows, sound};
use super::text::{about, span};

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Start-up audit\n\n");
    let _ = writeln!(text, "`{}`\n", code(&report.command.join(" ")));
    verdict(&mut text, report);
    if report.plain.runs.is_empty() {
        return text;
    }
    before_and_after(&mut text, report);
    diagrams(&mut text, report);
    for (name, side) in sides(report) {
        let _ = writeln!(text, "## The server {name}\n");
        edges(&mut text, side);
        counts(&mut text, side);
        waits(&mut text, side);
    }
    strategies(&mut text, report);
    restarts(&mut text, report);
    text.push_str("## How it was measured\n\n");
    let _ = writeln!(text, "{}\n", measured(report));
    text
}

/// A comment: the verdict, the table, the diagrams, and the rest folded away.
#[must_use]
pub fn comment(report: &Report) -> String {
    let mut text = String::from("### greenroom audit\n\n");
    let _ = writeln!(text, "`{}`\n", code(&report.command.join(" ")));
    verdict(&mut text, report);
    if report.plain.runs.is_empty() {
        return text;
    }
    before_and_after(&mut text, report);
    strategies(&mut text, report);
    restarts(&mut text, report);
    text.push_str("<details><summary>What happened, and the cure</summary>\n\n");
    diagrams(&mut text, report);
    text.push_str("</details>\n\n<details><summary>Figures</summary>\n\n");
    for (name, side) in sides(report) {
        let _ = writeln!(text, "**The server {name}**\n");
        edges(&mut text, side);
        counts(&mut text, side);
        waits(&mut text, side);
    }
    let _ = writeln!(text, "{}\n\n</details>", measured(report));
    text
}

fn sides(report: &Report) -> Vec<(&'static str, &Side)> {
    let mut sides = vec![("by itself", &report.plain)];
    sides.extend(report.greenroom.as_ref().map(|side| ("behind greenroom", side)));
    sides
}

/// What may stand between backticks, or in a line of a table.
fn code(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| *c != '`')
        .collect()
}

fn verdict(text: &mut String, report: &Report) {
    match &report.verdict {
        Verdict::Sound => {
            let _ = writeln!(text, "**No race.** {}\n", sound(&report.plain));
        }
        Verdict::Race => {
            text.push_str("**Race.** This server:\n\n");
            said(text, &report.findings);
        }
        Verdict::NotMeasured(why) => {
            text.push_str("**Not measured.**\n\n```text\n");
            let _ = writeln!(text, "{}\n```\n", why.lines().map(code).collect::<Vec<_>>().join("\n"));
        }
    }
    match &report.greenroom_verdict {
        None => {}
        Some(Verdict::Sound) => text.push_str("**Behind greenroom: no race.**\n\n"),
        Some(Verdict::Race) => {
            text.push_str("**Behind greenroom** it:\n\n");
            said(text, &report.greenroom_findings);
        }
        Some(Verdict::NotMeasured(why)) => {
            let _ = writeln!(text, "**Behind greenroom: not measured.** {}\n", code(why));
        }
    }
    for why in &report.not_done {
        let _ = writeln!(text, "**Not all was measured:** {}\n", code(why));
    }
    if !report.failed_by.is_empty() {
        let _ = writeln!(text, "Fails by {}.\n", code(&report.failed_by.join("; ")));
    }
}

fn said(text: &mut String, findings: &[Said]) {
    for said in findings {
        let _ = writeln!(text, "- {}.\n  *What to do:* {}.", said.sentence, said.advice);
    }
    text.push('\n');
}

fn before_and_after(text: &mut String, report: &Report) {
    let Some(behind) = &report.greenroom else { return };
    text.push_str("| | by itself | behind greenroom |\n|---|---:|---:|\n");
    for (label, one, other) in rows(&report.plain, behind) {
        let _ = writeln!(text, "| {label} | {one} | {other} |");
    }
    text.push('\n');
}

fn edges(text: &mut String, side: &Side) {
    let rows: Vec<(&str, Edge)> = [
        ("listens, after exec", side.listen),
        ("ready, after exec", side.ready),
        ("from listening to ready", side.lead),
    ]
    .into_iter()
    .filter_map(|(label, edge)| Some((label, edge?)))
    .collect();
    if rows.is_empty() {
        return;
    }
    text.push_str("| | typical | least | most | starts |\n|---|---:|---:|---:|---:|\n");
    for (label, edge) in rows {
        let _ = writeln!(
            text,
            "| {label} | {} | {} | {} | {} |",
            about(edge.typical),
            span(edge.least_ns),
            span(edge.most_ns),
            edge.runs
        );
    }
    text.push('\n');
}

fn counts(text: &mut String, side: &Side) {
    text.push_str(
        "| clients that came when | nobody listened | it was not ready | it was ready |\n|---|---:|---:|---:|\n",
    );
    let mut outcomes: Vec<Outcome> = side.counts.iter().map(|count| count.outcome).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    for outcome in outcomes {
        let of = |zone| grouped(side.count(zone, |other| other == outcome));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            named(outcome),
            of(Zone::Cold),
            of(Zone::Race),
            of(Zone::Ready)
        );
    }
    text.push('\n');
}

fn waits(text: &mut String, side: &Side) {
    if side.open.count == 0 {
        return;
    }
    text.push_str("| | p50 | p90 | p99 | max |\n|---|---:|---:|---:|---:|\n");
    let mut row = |label: &str, times: Quantiles| {
        let [p50, p90, p99, max] = [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(span);
        let _ = writeln!(text, "| {label} | {p50} | {p90} | {p99} | {max} |");
    };
    row("start to 101", side.open);
    row("ready to first answer", side.after_ready);
    text.push('\n');
}

/// How late each way of waiting lets clients in.
fn strategies(text: &mut String, report: &Report) {
    if report.waits.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "{}; of clients that begin to wait at any time of the start.\n",
        strategy::told(&report.plain)
    );
    text.push_str("| | p50 | p90 | p99 | max | spread |\n|---|---:|---:|---:|---:|---:|\n");
    for waited in &report.waits {
        let late = waited.late;
        let [p50, p90, p99, max, spread] =
            [late.p50_ns, late.p90_ns, late.p99_ns, late.max_ns, waited.spread_ns].map(span);
        let _ = writeln!(
            text,
            "| `{}` | {p50} | {p90} | {p99} | {max} | {spread} |",
            waited.strategy
        );
    }
    text.push('\n');
}

fn restarts(text: &mut String, report: &Report) {
    for restart in &report.restarts {
        let name = match restart.way {
            Way::Plain => "by itself",
            Way::Greenroom => "behind greenroom",
        };
        let _ = writeln!(
            text,
            "**A restart with SIG{}, {name}:** {}\n",
            restart.signal,
            code(&restart.sentence())
        );
    }
}

/// What happened to a client that came too early, and what happens to it behind greenroom.
fn diagrams(text: &mut String, report: &Report) {
    let Some(steps) = report.findings.iter().find_map(|said| happened(&said.finding)) else {
        return;
    };
    text.push_str(
        "What happened:\n\n```mermaid\nsequenceDiagram\n    participant C as client\n    participant S as server\n",
    );
    text.push_str(&steps);
    text.push_str("```\n\n");
    let early = |said: &Said| {
        matches!(
            said.finding,
            Finding::AcceptsEarly { .. } | Finding::HangsWhenMet { .. }
        )
    };
    if !report.findings.iter().any(early) {
        return; // greenroom in front changes nothing about it
    }
    let ready = report.plain.ready.map_or_else(String::new, |edge| {
        format!(", {} after exec", span(edge.typical.middle()))
    });
    text.push_str("The cure:\n\n```mermaid\nsequenceDiagram\n    participant C as client\n    participant G as greenroom\n    participant S as server\n");
    let _ = write!(
        text,
        "    C->>G: GET, Upgrade: websocket\n    Note over G: holds it\n    Note over S: starts\n    S-->>G: ready{ready}\n    G->>S: GET, Upgrade: websocket\n    S-->>G: 101\n    G-->>C: 101\n    C->>S: first message\n    S-->>C: answer\n"
    );
    text.push_str("```\n\n");
}

fn happened(finding: &Finding) -> Option<String> {
    let open = "    C->>S: GET, Upgrade: websocket\n    S-->>C: 101\n";
    match finding {
        Finding::AcceptsEarly { lead, outcomes, .. } => {
            let lead = span(lead.typical.middle());
            let end = match outcomes.first()?.0 {
                Outcome::Closed(code) => format!("    S-->>C: 101\n    C->>S: first message\n    S--xC: Close {code}\n"),
                Outcome::Status(status) => format!("    S--xC: HTTP {status}\n"),
                Outcome::Hung => "    Note over C: no answer until its patience ends\n".into(),
                _ => "    S--xC: the connection ends\n".into(),
            };
            Some(format!(
                "    Note over S: listens, and is not ready\n    C->>S: GET, Upgrade: websocket\n{end}    Note over S: ready {lead} after it listened\n"
            ))
        }
        Finding::HandlerLate { handler } => Some(format!(
            "{open}    C-xS: first message, lost\n    Note over S: handler attached {} after the opening\n    C->>S: a later message\n    S-->>C: answer\n",
            super::text::between(handler.attached)
        )),
        Finding::LosesEarly { lead, .. } => Some(format!(
            "{open}    C-xS: first message, lost\n    Note over S: ready {} after it listened\n",
            span(lead.typical.middle())
        )),
        Finding::HangsWhenMet { .. } | Finding::NeverAnswers { .. } => Some(
            "    Note over S: starts\n    C->>S: GET, Upgrade: websocket\n    Note over S: never becomes ready\n    Note over C: no answer until its patience ends\n"
                .into(),
        ),
        Finding::LosesMessages { .. }
        | Finding::Doubles { .. }
        | Finding::Reorders { .. }
        | Finding::FailsWhenReady { .. }
        | Finding::StartsFail { .. } => None,
    }
}

/// How it was measured, in sentences.
#[must_use]
pub fn measured(report: &Report) -> String {
    let (machine, settings) = (&report.machine, &report.settings);
    format!(
        "{} starts with up to {} clients each, at swept and random offsets from exec; each client connects once, sends `{}` as soon as it is open, and expects {}. greenroom {}, {}, {} × {}, load {}, {}; seed {}; took {}{}. Edges are intervals that certainly hold the moment; shares have 99.99 % (Clopper-Pearson) intervals.",
        settings.runs,
        settings.clients,
        code(&settings.message),
        code(&settings.expect),
        report.version,
        machine.kernel,
        machine.processors,
        machine.processor,
        machine.load,
        machine.date,
        settings.seed,
        span(report.took_ns),
        if report.interrupted { "; interrupted" } else { "" }
    )
}
