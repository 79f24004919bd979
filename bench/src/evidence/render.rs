//! The page of `docs/evidence/`, from what was measured. Pure: the same evidence gives the same text.
//!
//! Every figure and date in it comes from the [`Evidence`]; words are here, quotes in `claims`, verdicts in `verdict`.

use std::fmt::Write as _;

use super::claims::{About, CLAIMS, Claim};
use super::data::{Audited, Crowd, Evidence, Way};
use super::diagrams;
use super::verdict::{SCRIPT_LIMIT, Verdict, judge};

/// The page, which is also the index of the folder.
pub(crate) fn page(evidence: &Evidence) -> String {
    let mut text = String::from(
        "# Evidence\n\nWhat the founding report claims, what we measured of it, and whether it holds. Written by `cargo xtask evidence` from\n\
         [evidence.json](evidence.json); nothing here is typed by hand, and a test fails when this page is not what the program makes of that file.\n\
         What servers of others do: [field.md](field.md).\n\n",
    );
    if evidence.quick {
        text.push_str("**A quick run: it shows that everything works, and its figures mean nothing.**\n\n");
    }
    run(&mut text, evidence);
    index(&mut text, evidence);
    for (number, claim) in (1..).zip(&CLAIMS) {
        section(&mut text, number, claim, evidence);
    }
    text
}

fn run(text: &mut String, evidence: &Evidence) {
    let machine = &evidence.machine;
    let built = if evidence.release { "release" } else { "debug" };
    let quick = if evidence.quick { " --quick" } else { "" };
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in [
        (
            "command",
            format!("`cargo xtask evidence{quick} --seed {}`", evidence.seed),
        ),
        ("date", machine.date.clone()),
        (
            "machine",
            format!("{} × {}, {}", machine.processors, machine.processor, machine.kernel),
        ),
        (
            "load average of a minute",
            format!("{} at the beginning, {} at the end", machine.load, evidence.load_after),
        ),
        ("took", format!("{:.0} s", evidence.took_s)),
        ("greenroom", evidence.version.clone()),
        ("the measuring program", format!("a {built} build")),
    ] {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str(
        "\nThe *reference* is our own re-implementation of the service that the report is about, by what was measured of the original: the waits of its four\n\
         versions, A to D in the order of their making (`bench/src/polls.rs`; the report is about C and D), and its gate and queue (`bench/src/evidence/reference.rs`). Where the original could\n\
         not be measured, it is kind. The machine was not idle, so ratios and spreads say more than single times.\n\n",
    );
}

fn index(text: &mut String, evidence: &Evidence) {
    text.push_str("| | claim | of the reference | of greenroom |\n|---:|---|---|---|\n");
    for (number, claim) in (1..).zip(&CLAIMS) {
        let [reference, greenroom] = judge(claim.about, evidence).map(Verdict::name);
        let _ = writeln!(text, "| {number} | {} | {reference} | {greenroom} |", claim.title);
    }
    text.push('\n');
}

fn section(text: &mut String, number: usize, claim: &Claim, evidence: &Evidence) {
    let _ = writeln!(text, "## {number}. {}\n", claim.title);
    for quote in claim.quotes {
        let _ = writeln!(text, "> {quote}\n");
    }
    let body = match claim.about {
        About::Variance => variance(evidence),
        About::Interval => interval(evidence),
        About::Queueing => queueing(evidence),
        About::Degradation => degradation(evidence),
        About::OneManager => one_manager(evidence),
        About::NoFallback => no_fallback(evidence),
        About::Tests => tests(evidence),
        About::Reliability => reliability(evidence),
        About::Diagrams => drawn(evidence),
        About::Production => String::new(),
    };
    text.push_str(&body);
    for (who, verdict) in ["reference", "greenroom"].into_iter().zip(judge(claim.about, evidence)) {
        let why = match verdict {
            Verdict::CannotBeTested(why) => format!(": {why}"),
            Verdict::Holds | Verdict::InPart | Verdict::DoesNotHold => String::new(),
        };
        let _ = writeln!(
            text,
            "- Of {who}{}: **{}**{why}.",
            if who == "reference" { " algorithm" } else { "" },
            verdict.name()
        );
    }
    text.push('\n');
}

const fn named(way: Way) -> &'static str {
    match way {
        Way::A => "reference A: 0.1 s",
        Way::B => "reference B: 0.05 to 1 s",
        Way::C => "reference C: 0.05 to 2 s (*before*)",
        Way::D => "reference D: 0.1 s (*after*)",
        Way::GreenroomHttp => "greenroom, asks each 100 ms",
        Way::GreenroomPushed => "greenroom, told (READY=1)",
    }
}

fn variance(evidence: &Evidence) -> String {
    let mut text = String::new();
    let times = evidence.waits.first().map_or(0, |wait| wait.times);
    let _ = writeln!(
        text,
        "From *ready* to *released*, for the same {times} random ready times:\n\n\
         | | min | p50 | p99 | max | max − min | machine late, at most |\n|---|---:|---:|---:|---:|---:|---:|"
    );
    for wait in &evidence.waits {
        let [min, p50, p99, max, spread, late] =
            [wait.min, wait.p50, wait.p99, wait.max, wait.spread(), wait.late_max].map(ms);
        let _ = writeln!(
            text,
            "| {} | {min} | {p50} | {p99} | {max} | {spread} | {late} |",
            named(wait.way)
        );
    }
    text.push_str("\nThe report's own measurement, a few waits one after another where ready comes always at the same moment, of all four versions:\n\n| | runs | ready at | mean | max − min |\n|---|---:|---:|---:|---:|\n");
    for script in &evidence.script {
        let [at, mean, spread] = [script.ready_at, script.mean, script.spread].map(ms);
        let _ = writeln!(
            text,
            "| {} | {} | {at} | {mean} | {spread} |",
            named(script.way),
            script.runs
        );
    }
    let of = |way| evidence.wait(way).map(super::data::Wait::spread);
    if let (Some(a), Some(c), Some(d), Some(pushed)) = (of(Way::A), of(Way::C), of(Way::D), of(Way::GreenroomPushed)) {
        let _ = writeln!(
            text,
            "\nC to D is {} → {}, {} less; A, which came before both, has {}. greenroom that is told has {}, {} less than C.",
            ms(c),
            ms(d),
            percent_less(c, d),
            ms(a),
            ms(pushed),
            percent_less(c, pushed),
        );
    }
    let lines = evidence.log_lines.iter();
    let lines: Vec<String> = lines
        .map(|line| {
            format!(
                "{:.3} s where the phase gets {:.0} % of it",
                line.seconds, line.share_percent
            )
        })
        .collect();
    let _ = writeln!(
        text,
        "The 2.8 s of the claim are no spread: the reference's formula for the longest wait gives {}, whatever a start does.\n",
        lines.join(", ")
    );
    text
}

fn interval(evidence: &Evidence) -> String {
    let mut text = String::new();
    if let (Some(fixed), Some(asks)) = (evidence.wait(Way::D), evidence.wait(Way::GreenroomHttp)) {
        let _ = writeln!(
            text,
            "The interval is fixed: D releases {} at the median and {} at the 99th percentile after ready, greenroom that asks each 100 ms {} and {}.\n\
             Whether the race is gone, clients that come all through a start tell, whose last phase takes a while:\n",
            ms(fixed.p50),
            ms(fixed.p99),
            ms(asks.p50),
            ms(asks.p99)
        );
    }
    text.push_str(&crowds(&evidence.gate.reference, &evidence.gate.greenroom));
    text.push_str("The gate of the reference waits for the beginning of that phase, which no interval mends.\n\n");
    text
}

fn queueing(evidence: &Evidence) -> String {
    format!(
        "All clients come at once, early in the start:\n\n{}",
        crowds(&evidence.queue.reference, &evidence.queue.greenroom)
    )
}

fn degradation(evidence: &Evidence) -> String {
    format!(
        "The server never becomes ready. What clients hear who have waited for so long as the reference, or the route, has it:\n\n{}",
        crowds(&evidence.away.reference, &evidence.away.greenroom)
    )
}

fn one_manager(evidence: &Evidence) -> String {
    let registry = &evidence.registry;
    format!(
        "{} clients, of whom greenroom's registry lists {} while they wait and {} when they are in, the server has seen {}, and {} are listed when all have gone.\n\n",
        registry.clients, registry.held, registry.relayed, registry.at_the_server, registry.afterwards
    )
}

fn no_fallback(evidence: &Evidence) -> String {
    let [reference, greenroom] = [&evidence.gate.reference, &evidence.gate.greenroom];
    format!(
        "A way past the gate would show as clients whom the server gets before it is ready: {} of {} behind greenroom. (With the reference {} of {}, by its gate itself; the way past it \
         that its source has is not in our re-implementation.)\n\n",
        greenroom.early, greenroom.clients, reference.early, reference.clients
    )
}

fn tests(evidence: &Evidence) -> String {
    let mut text = String::new();
    if let (Some(script), Some(wait)) = (evidence.scripted(Way::C), evidence.wait(Way::C)) {
        let _ = writeln!(
            text,
            "The report's test of the spread has a limit of {}. C, whose spread is {}, scores {}.\n",
            ms(SCRIPT_LIMIT),
            ms(wait.spread()),
            ms(script.spread)
        );
    }
    text.push_str("Tests of greenroom against its own program, each with a real server, by what they are about:\n\n| about | tests |\n|---|---:|\n");
    for (about, count) in &evidence.tests {
        let _ = writeln!(text, "| {about} | {count} |");
    }
    let said = |side: &Audited| match side.findings.as_slice() {
        [] => "nothing".to_owned(),
        findings => findings
            .iter()
            .map(|code| format!("`{code}`"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let _ = writeln!(
        text,
        "\n`greenroom audit` of the reference finds {}, of the same server behind greenroom {}.\n",
        said(&evidence.audit.reference),
        said(&evidence.audit.greenroom)
    );
    text
}

fn reliability(evidence: &Evidence) -> String {
    let mut text = String::from(
        "`greenroom audit --compare` of the reference: clients at swept and random offsets, whom a listener took.\n\n\
         | | starts | clients | answered | otherwise | unknown |\n|---|---:|---:|---:|---|---:|\n",
    );
    for (name, side) in [
        ("by itself", &evidence.audit.reference),
        ("behind greenroom", &evidence.audit.greenroom),
    ] {
        let others = side
            .outcomes
            .iter()
            .filter(|(name, _)| !["answered", "late", "unknown"].contains(&name.as_str()));
        let others: Vec<String> = others.map(|(name, count)| format!("{name}: {count}")).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            side.starts,
            side.known() + side.unknown,
            side.answered,
            if others.is_empty() {
                "–".to_owned()
            } else {
                others.join(", ")
            },
            side.unknown
        );
    }
    text.push('\n');
    text
}

fn drawn(evidence: &Evidence) -> String {
    let mut text = String::new();
    for diagram in diagrams::all(evidence) {
        let _ = writeln!(text, "{}:\n\n```mermaid\n{}```\n", diagram.title, diagram.text);
    }
    text
}

/// What became of the same clients with both.
fn crowds(reference: &Crowd, greenroom: &Crowd) -> String {
    let mut text = String::from("| | reference | greenroom |\n|---|---:|---:|\n");
    let mut row = |name: &str, of: &dyn Fn(&Crowd) -> String| {
        let _ = writeln!(text, "| {name} | {} | {} |", of(reference), of(greenroom));
    };
    row("clients", &|crowd| crowd.clients.to_string());
    row("may wait for", &|crowd| ms(crowd.budget_ms));
    row("answers to the handshake", &statuses);
    row("… of refusals with Retry-After", &|crowd| {
        crowd.retry_after.to_string()
    });
    row("messages answered", &|crowd| crowd.answered.to_string());
    row("let in before it was ready", &|crowd| match crowd.early {
        0 => "0".to_owned(),
        early => format!("{early}, by up to {}", ms(crowd.early_ms)),
    });
    row("in the server's own queue, alive at the end", &|crowd| {
        format!("{}, {}", crowd.queued, crowd.alive)
    });
    row("overtaken", &|crowd| crowd.inversions.to_string());
    row("longest time to an answer", &|crowd| ms(crowd.answer_ms));
    text.push('\n');
    text
}

/// `57 × 500, 3 × 101`.
pub(crate) fn statuses(crowd: &Crowd) -> String {
    let each = crowd
        .statuses
        .iter()
        .map(|(status, count)| format!("{count} × {status}"));
    each.collect::<Vec<_>>().join(", ")
}

/// A time of so many milliseconds, with three digits that count.
pub(crate) fn ms(millis: f64) -> String {
    match millis {
        unknown if !unknown.is_finite() => "unknown".to_owned(),
        second if second >= 999.5 => format!("{:.2} s", second / 1e3),
        tens if tens >= 99.95 => format!("{tens:.0} ms"),
        ones if ones >= 9.995 => format!("{ones:.1} ms"),
        small => format!("{small:.2} ms"),
    }
}

/// By how much the second is less, such as `95.0 %`.
fn percent_less(before: f64, after: f64) -> String {
    format!("{:.2} %", (1.0 - after / before) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::committed;

    #[test]
    fn a_time_has_three_digits_that_count() {
        let times = [f64::NAN, 0.376, 9.994, 10.04, 99.94, 100.4, 999.4, 999.6, 2_772.0];
        let told = [
            "unknown", "0.38 ms", "9.99 ms", "10.0 ms", "99.9 ms", "100 ms", "999 ms", "1.00 s", "2.77 s",
        ];
        assert_eq!(times.map(ms), told);
        assert_eq!(percent_less(2_000.0, 100.0), "95.00 %");
    }

    #[test]
    fn a_page_says_what_was_measured_and_nothing_else() {
        let mut evidence = committed();
        let page_of = page(&evidence);
        evidence.gate.greenroom.early = 7_777;
        evidence.machine.date = "a date of its own".into();
        let other = page(&evidence);
        assert_ne!(page_of, other);
        assert!(other.contains("7777") && other.contains("a date of its own"));
        assert_eq!(judge(About::NoFallback, &evidence)[1], Verdict::DoesNotHold);
        assert!(
            other.contains("| 6 | No legacy fallback | cannot be tested here | does not hold |"),
            "{other}"
        );
    }

    #[test]
    fn all_that_is_claimed_is_quoted_and_judged_and_a_reason_is_given_where_it_cannot_be() {
        let page = page(&committed());
        for claim in &CLAIMS {
            assert!(
                claim.quotes.iter().all(|quote| page.contains(&format!("> {quote}\n"))),
                "{}",
                claim.title
            );
        }
        assert_eq!(page.matches("\n- Of reference algorithm: **").count(), CLAIMS.len());
        assert_eq!(page.matches("\n- Of greenroom: **").count(), CLAIMS.len());
        assert!(!page.contains("cannot be tested here**."));
    }
}
