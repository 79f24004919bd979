//! The report as one HTML file that needs nothing else: no script, no font, nothing from the network. Pure.
//!
//! Light and dark follow the reader's setting. Text of CMD and of servers is escaped.

use std::fmt::Write as _;

use super::launcher::Way;
use super::report::{Report, Said, Verdict};
use super::side::Side;
use super::strategy;
use super::svg;
use super::tables::{self, Table, named, side_name};
use super::text::escaped;
use super::text::parts;
use super::words::{self, Tone};

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

/// Words with their code as such.
fn rich(text: &str) -> String {
    let piece = |(code, piece): (bool, &str)| {
        let safe = escaped(piece).replace("&#10;", "\n");
        if code { format!("<code>{safe}</code>") } else { safe }
    };
    parts(text).map(piece).collect()
}

fn verdict(page: &mut String, report: &Report) {
    if let Some(stopped) = words::stopped(report) {
        let _ = writeln!(page, "<p><strong>{}.</strong></p>", rich(&stopped));
    }
    let inside = match &report.verdict {
        Verdict::Sound => format!("<p>{}</p>", rich(&words::sound(&report.plain))),
        Verdict::Race => said(&report.findings),
        Verdict::NotMeasured(why) => format!("<pre>{}</pre>", preformatted(why)),
    };
    card(page, &words::title(report), &inside);
    if let Some(title) = words::title_behind(report) {
        let why = match &report.greenroom_verdict {
            Some(Verdict::NotMeasured(why)) => format!("<pre>{}</pre>", preformatted(why)),
            Some(Verdict::Sound | Verdict::Race) | None => said(&report.greenroom_findings),
        };
        card(page, &title, &why);
    }
    for why in &report.not_done {
        let title = (Tone::Unsure, words::NOT_DONE.to_owned());
        card(page, &title, &format!("<pre>{}</pre>", preformatted(why)));
    }
    if let Some(exit) = words::exit(report) {
        let _ = writeln!(page, "<p class=\"soft\">{}.</p>", rich(&exit));
    }
}

fn preformatted(text: &str) -> String {
    escaped(text).replace("&#10;", "\n")
}

fn card(page: &mut String, (tone, title): &(Tone, String), inside: &str) {
    let class = match tone {
        Tone::Good => "",
        Tone::Bad => "wrong",
        Tone::Unsure => "none",
    };
    let title = rich(title);
    let _ = writeln!(
        page,
        "<div class=\"verdict {class}\"><strong>{title}</strong>{inside}</div>"
    );
}

fn said(findings: &[Said]) -> String {
    let item = |said: &Said| {
        format!(
            "<li>It {}.<br><span class=\"soft\">What to do: {}.</span></li>",
            rich(&said.sentence),
            rich(&said.advice)
        )
    };
    match findings {
        [] => String::new(),
        found => format!("<ul>{}</ul>", found.iter().map(item).collect::<String>()),
    }
}

fn figures(page: &mut String, report: &Report) {
    let sides = tables::sides(report);
    if let Some(compared) = tables::compared(report) {
        page.push_str("<h2>Side by side</h2>\n");
        table(page, Some(compared));
    }
    if sides.iter().any(|(_, side)| side.opened > 0) {
        page.push_str("<h2>Time to open</h2>\n<p class=\"soft\">From a client's connect to its 101, over when it came after exec. Times on both axes; the upright one goes by tens.</p>\n");
        page.push_str(&svg::opening(&sides));
        page.push_str("<ul class=\"legend\">");
        for (index, (way, _)) in sides.iter().enumerate() {
            key(page, &format!("side{index}"), side_name(*way));
        }
        let failed = |(_, side): &(Way, &Side)| {
            let points = side.points.iter();
            points
                .filter(|point| point.opened_ns.is_some())
                .any(|point| !point.outcome.is_good())
        };
        if sides.iter().any(failed) {
            key(page, "failed", "opened, and failed later");
        }
        page.push_str("</ul>\n");
    }
    for (way, side) in &sides {
        self::side(page, report, *way, side);
    }
    if let Some(strategies) = tables::strategies(&report.waits) {
        let _ = writeln!(
            page,
            "<h2>Ways of waiting</h2>\n<p class=\"soft\">{}.</p>",
            escaped(&strategy::told(&report.plain))
        );
        table(page, Some(strategies));
    }
    for restart in &report.restarts {
        let (title, text) = (words::restart_title(restart), restart.sentence());
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", rich(&title), rich(&text));
    }
}

fn key(page: &mut String, class: &str, name: &str) {
    let _ = write!(
        page,
        "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle class=\"{class}\" cx=\"5\" cy=\"5\" r=\"5\"/></svg>{}</li>",
        escaped(name)
    );
}

fn side(page: &mut String, report: &Report, way: Way, side: &Side) {
    let _ = writeln!(page, "<h2>The server {}</h2>", side_name(way));
    if !side.columns.is_empty() {
        let _ = writeln!(
            page,
            "<h3>What became of clients, by when they came</h3>\n<p class=\"soft\">{}</p>",
            rich(words::ZONES)
        );
        page.push_str(&svg::outcomes(way, side));
        page.push_str("<ul class=\"legend\">");
        for outcome in tables::outcomes(side) {
            key(page, svg::class(outcome), &named(outcome));
        }
        page.push_str("</ul>\n");
    }
    table(page, tables::counts(way, side));
    table(page, tables::edges(way, side));
    table(page, tables::waits(side));
    if let Some(notified) = words::notified(side) {
        let _ = writeln!(page, "<p class=\"soft\">{}.</p>", rich(&notified));
    }
    order(page, side);
    if let Some((ended, lines)) = words::ended(report, side) {
        let _ = writeln!(page, "<h3>{}</h3>", rich(&ended));
        if !lines.is_empty() {
            let _ = writeln!(page, "<pre>{}</pre>", preformatted(&lines.join("\n")));
        }
    }
}

fn order(page: &mut String, side: &Side) {
    if let Some(order) = svg::order(side) {
        page.push_str("<h3>Order of release</h3>\n<p class=\"soft\">In which order clients were opened, over the order in which they came, in the start in which most had waited. A straight line is first come, first served.</p>\n");
        page.push_str(&order.drawing);
        page.push_str("<ul class=\"legend\">");
        for outcome in order.outcomes {
            key(page, svg::class(outcome), &named(outcome));
        }
        page.push_str("</ul>\n");
    }
    if let Some(overtaken) = words::overtaken(side) {
        let _ = writeln!(page, "<p class=\"soft\">{}.</p>", rich(&overtaken));
    }
}

fn table(page: &mut String, table: Option<Table>) {
    let Some(table) = table else { return };
    page.push_str("<table>\n<thead><tr>");
    for cell in &table.head {
        let _ = write!(page, "<th scope=\"col\">{}</th>", rich(cell));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", rich(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
}

fn measured(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "<h2>How it was measured</h2>\n<p class=\"soft\">{}</p>\n<p class=\"soft\">{} {}</p>",
        rich(&words::measured(report)),
        rich(words::EDGES),
        rich(words::WAITS)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{early, held, report};

    #[test]
    fn it_has_all_that_the_others_have_and_code_is_code() {
        let mut report = report(&[early(0)], Some(&[held(0)]));
        report.settings.message = "`<b>`".into();
        let page = render(&report);
        for part in [
            "<h2>Side by side</h2>",
            "<h2>Ways of waiting</h2>",
            "<td><code>poll=100ms</code></td>",
            "ms long</text>",
            "<h3>Order of release</h3>",
            "<code>greenroom run",
            "<code>&lt;b&gt;</code>",
            "Exit code 1, by race",
        ] {
            assert!(page.contains(part), "{part}:\n{page}");
        }
        assert!(!page.contains('`'), "{page}");
        let tags = |name: &str| page.matches(&format!("<{name}")).count();
        for name in ["table", "svg", "code", "ul"] {
            assert_eq!(tags(name), page.matches(&format!("</{name}>")).count(), "{name}");
        }
    }

    #[test]
    fn where_nothing_was_measured_there_is_no_empty_table() {
        let mut report = report(&[], None);
        report.verdict = Verdict::NotMeasured("nobody listened".into());
        assert!(!render(&report).contains("<table"));
    }
}
