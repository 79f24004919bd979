//! The report as one HTML file that needs nothing else: no script, no font, nothing from the network. Pure.
//!
//! Light and dark follow the reader's setting. Text of CMD and of servers is escaped.

use std::fmt::Write as _;

use super::edges::Zone;
use super::judge::Outcome;
use super::junit::escaped;
use super::report::{Report, Said, Verdict, title};
use super::side::{Edge, Side};
use super::stage::Way;
use super::stats::Quantiles;
use super::svg;
use super::terminal::{grouped, named, rows, sound};
use super::text::{about, span};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #ffffff; --card: #f4f6f8; --line: #d5dbe1;
  --good: #2d8a4e; --late: #2f81b7; --cold: #b9c0c8; --bad: #c9302c; --status: #d9822b; --hung: #7d3cb5; --lost: #b3238a; --unknown: #e3d9b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --soft: #9aa5b1; --paper: #14181d; --card: #1d232a; --line: #333c46;
  --good: #4cbb74; --late: #5aa9dc; --cold: #56606b; --bad: #f0625d; --status: #eda04f; --hung: #b07ce0; --lost: #e066bd; --unknown: #7d744d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
code, pre { font: .9em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; } pre { white-space: pre-wrap; background: var(--card); padding: 1rem; border-radius: .5rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.verdict { border-left: .4rem solid var(--good); background: var(--card); padding: .9rem 1.1rem; border-radius: .4rem; margin: 1rem 0; }
.verdict.wrong { border-color: var(--bad); } .verdict.none { border-color: var(--status); } .verdict strong { font-size: 1.1rem; }
.verdict ul { margin: .5rem 0 0; padding-left: 1.2rem; } .verdict li { margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; width: 100%; }
th { font-weight: 600; color: var(--soft); }
svg { width: 100%; height: auto; display: block; margin: .5rem 0; } svg text { fill: var(--soft); font-size: 13px; }
.grid { stroke: var(--line); } .edge { stroke: var(--ink); }
.good { fill: var(--good); } .late { fill: var(--late); } .cold { fill: var(--cold); } .bad { fill: var(--bad); } .status { fill: var(--status); } .hung { fill: var(--hung); }
.lost { fill: var(--lost); } .unknown { fill: var(--unknown); } circle { opacity: .75; } circle.side0 { fill: var(--status); } circle.side1 { fill: var(--good); } circle.failed { fill: var(--bad); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .25rem 0; list-style: none; font-size: .9rem; }
.legend svg { display: inline; width: .8rem; height: .8rem; margin: 0 .35rem 0 0; vertical-align: -.05rem; }
";

/// The whole file.
#[must_use]
pub fn render(report: &Report) -> String {
    let command = escaped(&report.command.join(" "));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Start-up audit: {command}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Start-up audit</h1>\n<p><code>{command}</code></p>\n"
    );
    verdict(&mut page, report);
    if !report.plain.runs.is_empty() {
        figures(&mut page, report);
    }
    measured(&mut page, report);
    page.push_str("</body>\n</html>\n");
    page
}

fn verdict(page: &mut String, report: &Report) {
    match &report.verdict {
        Verdict::Sound => card(
            page,
            "",
            "No race",
            &format!("<p>{}</p>", escaped(&sound(&report.plain))),
        ),
        Verdict::Race => card(page, "wrong", title(&report.findings), &said(&report.findings)),
        Verdict::NotMeasured(why) => card(
            page,
            "none",
            "Not measured",
            &format!("<pre>{}</pre>", escaped(why).replace("&#10;", "\n")),
        ),
    }
    match &report.greenroom_verdict {
        None => {}
        Some(Verdict::Sound) => card(page, "", "Behind greenroom: no race", ""),
        Some(Verdict::Race) => card(page, "wrong", "Behind greenroom", &said(&report.greenroom_findings)),
        Some(Verdict::NotMeasured(why)) => card(
            page,
            "none",
            "Behind greenroom: not measured",
            &format!("<p>{}</p>", escaped(why)),
        ),
    }
    for why in &report.not_done {
        card(
            page,
            "none",
            "Not all was measured",
            &format!("<p>{}</p>", escaped(why)),
        );
    }
    for condition in &report.failed_by {
        let _ = writeln!(page, "<p class=\"soft\">Fails by {}.</p>", escaped(condition));
    }
}

fn card(page: &mut String, class: &str, title: &str, inside: &str) {
    let _ = writeln!(
        page,
        "<div class=\"verdict {class}\"><strong>{title}</strong>{inside}</div>"
    );
}

fn said(findings: &[Said]) -> String {
    let item = |said: &Said| {
        format!(
            "<li>It {}.<br><span class=\"soft\">What to do: {}.</span></li>",
            escaped(&said.sentence),
            escaped(&said.advice)
        )
    };
    format!("<ul>{}</ul>", findings.iter().map(item).collect::<String>())
}

fn figures(page: &mut String, report: &Report) {
    let mut sides = vec![("by itself", &report.plain)];
    sides.extend(report.greenroom.as_ref().map(|side| ("behind greenroom", side)));
    if let Some(behind) = &report.greenroom {
        page.push_str("<h2>Side by side</h2>\n");
        let body = rows(&report.plain, behind)
            .into_iter()
            .map(|(label, one, other)| vec![label.to_owned(), one, other]);
        table(page, &["", "by itself", "behind greenroom"], body);
    }
    page.push_str("<h2>Time to open</h2>\n<p class=\"soft\">From a client's start to its 101, over when it came after exec.</p>\n");
    page.push_str(&svg::opening(&sides));
    page.push_str("<ul class=\"legend\">");
    for (index, (name, _)) in sides.iter().enumerate() {
        key(page, &format!("side{index}"), name);
    }
    key(page, "failed", "opened, and failed later");
    page.push_str("</ul>\n");
    for (name, side) in &sides {
        self::side(page, name, side);
    }
    for restart in &report.restarts {
        let name = match restart.way {
            Way::Plain => "by itself",
            Way::Greenroom => "behind greenroom",
        };
        let _ = writeln!(
            page,
            "<h2>A restart with SIG{}, {name}</h2>\n<p>{}</p>",
            escaped(&restart.signal),
            escaped(&restart.sentence())
        );
    }
}

fn key(page: &mut String, class: &str, name: &str) {
    let _ = write!(
        page,
        "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle class=\"{class}\" cx=\"5\" cy=\"5\" r=\"5\"/></svg>{}</li>",
        escaped(name)
    );
}

fn side(page: &mut String, name: &str, side: &Side) {
    let _ = writeln!(
        page,
        "<h2>The server {name}</h2>\n<h3>What became of clients, by when they came</h3>"
    );
    page.push_str(&svg::outcomes(side));
    let mut outcomes: Vec<Outcome> = side.counts.iter().map(|count| count.outcome).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    page.push_str("<ul class=\"legend\">");
    for outcome in &outcomes {
        key(page, svg::class(*outcome), &named(*outcome));
    }
    page.push_str("</ul>\n");
    let counts = outcomes.into_iter().map(|outcome| {
        let of = |zone| grouped(side.count(zone, |other| other == outcome));
        vec![named(outcome), of(Zone::Cold), of(Zone::Race), of(Zone::Ready)]
    });
    table(
        page,
        &[
            "clients that came when",
            "nobody listened",
            "it was not ready",
            "it was ready",
        ],
        counts,
    );
    let edges = [
        ("listens, after exec", side.listen),
        ("ready, after exec", side.ready),
        ("from listening to ready", side.lead),
    ];
    let edges = edges
        .into_iter()
        .filter_map(|(label, edge)| Some(self::edge(label, edge?)));
    table(page, &["", "typical", "least", "most", "starts"], edges);
    let waits = [("start to 101", side.open), ("ready to first answer", side.after_ready)];
    table(
        page,
        &["", "p50", "p90", "p99", "max"],
        waits.into_iter().map(|(label, times)| wait(label, times)),
    );
    if let Some(order) = svg::order(side) {
        page.push_str("<h3>Order of release</h3>\n<p class=\"soft\">In which order clients were opened, over the order in which they came, in the start in which most had waited. A straight line is first come, first served.</p>\n");
        page.push_str(&order);
        let overtaken = side.overtaken;
        let _ = writeln!(
            page,
            "<p class=\"soft\">{} of {} clients were opened after one that had come later, further apart than wake-ups explain.</p>",
            overtaken.hits, overtaken.of
        );
    }
}

fn edge(label: &str, edge: Edge) -> Vec<String> {
    vec![
        label.to_owned(),
        about(edge.typical),
        span(edge.least_ns),
        span(edge.most_ns),
        edge.runs.to_string(),
    ]
}

fn wait(label: &str, times: Quantiles) -> Vec<String> {
    let times = [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(span);
    std::iter::once(label.to_owned()).chain(times).collect()
}

fn table(page: &mut String, head: &[&str], body: impl Iterator<Item = Vec<String>>) {
    page.push_str("<table>\n<thead><tr>");
    for cell in head {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escaped(cell));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in body {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
}

fn measured(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "<h2>How it was measured</h2>\n<p class=\"soft\">{}</p>",
        escaped(&super::markdown::measured(report))
    );
    let ended: Vec<_> = report.plain.runs.iter().filter(|run| !run.output.is_empty()).collect();
    if let Some(run) = ended.last() {
        let _ = writeln!(
            page,
            "<h3>Last lines of the server</h3>\n<pre>{}</pre>",
            escaped(&run.output.join("\n")).replace("&#10;", "\n")
        );
    }
}
