//! The page of `docs/evidence/`, from what was measured. Pure: the same evidence gives the same text.
//!
//! Every figure and date in it comes from the [`Evidence`]; words are here and in `sections`, quotes in `claims`, verdicts in `verdict`.

use std::fmt::Write as _;

use super::claims::{CLAIMS, Claim};
use super::data::{Crowd, Evidence, Part};
use super::parts::QUIET;
use super::sections;
use super::verdict::{STALL, STALL_OF_WAITS, Verdict, disturbed, is_disturbed, judge};

/// The page, which is also the index of the folder.
pub(crate) fn page(evidence: &Evidence) -> String {
    let mut text = String::from(
        "# Evidence\n\nWhat the founding report claims, what we measured of it, and whether it holds. Written by `cargo xtask evidence` from\n\
         [evidence.json](evidence.json); nothing here is typed by hand, and a test fails when this page is not what the program makes of that file.\n\
         How the audit itself stands against planted faults: [truth.md](truth.md). What servers of others do: [field.md](field.md), and what we think of\n\
         that: [field-notes.md](field-notes.md).\n\n",
    );
    if evidence.quick {
        text.push_str("**A quick run: it shows that everything works, and its figures mean nothing.**\n\n");
    }
    run(&mut text, evidence);
    parts(&mut text, evidence);
    index(&mut text, evidence);
    for (number, claim) in (1..).zip(&CLAIMS) {
        section(&mut text, number, claim, evidence);
    }
    text
}

/// The whole in a line, for whoever started it.
pub(crate) fn summary(evidence: &Evidence) -> String {
    let verdicts = CLAIMS.iter().map(|claim| judge(claim.about, evidence));
    let [mut reference, mut greenroom] = [[0_usize; 4]; 2];
    for both in verdicts {
        for (count, verdict) in [&mut reference, &mut greenroom].into_iter().zip(both) {
            count[verdict.rank()] += 1;
        }
    }
    let told = |[holds, in_part, not, cannot]: [usize; 4]| {
        format!("{holds} hold, {in_part} in part, {not} do not, {cannot} cannot be measured")
    };
    let touched: Vec<&str> = evidence
        .parts
        .iter()
        .filter(|part| is_disturbed(part))
        .map(|part| part.what.name())
        .collect();
    let machine = if touched.is_empty() {
        "the machine was quiet".to_owned()
    } else {
        format!("DISTURBED: {}; measure again where it is quieter", touched.join(", "))
    };
    format!(
        "of {} claims, of the reference {}, of greenroom {}; {:.0} s; {machine}",
        CLAIMS.len(),
        told(reference),
        told(greenroom),
        evidence.took_s
    )
}

fn run(text: &mut String, evidence: &Evidence) {
    let machine = &evidence.machine;
    let program = if evidence.built.is_some() {
        "cargo xtask"
    } else {
        "bench"
    };
    let quick = if evidence.quick { " --quick" } else { "" };
    let busy = if evidence.began_busy.is_some() { " --busy" } else { "" };
    text.push_str("| | |\n|---|---|\n");
    let mut rows = vec![
        (
            "command",
            format!("`{program} evidence{quick}{busy} --seed {}`", evidence.seed),
        ),
        ("date", machine.date.clone()),
        ("revision", evidence.revision.told()),
        (
            "built by",
            evidence
                .built
                .as_ref()
                .map_or_else(|| "not for this run".to_owned(), |built| format!("`{built}`")),
        ),
    ];
    for program in &evidence.programs {
        let name = if program.name == "greenroom" {
            format!("`greenroom` {}", evidence.version)
        } else {
            format!("`{}`, which measures", program.name)
        };
        let sha1 = program.sha1.as_ref().map(|sha1| format!(", SHA-1 {sha1}"));
        let sha1 = sha1.unwrap_or_default();
        rows.push(("program", format!("{name}: profile {}{sha1}", program.profile)));
    }
    rows.extend([
        (
            "machine",
            format!("{} × {}, {}", machine.processors, machine.processor, machine.kernel),
        ),
        (
            "load average of a minute",
            format!("{} at the beginning, {} at the end", machine.load, evidence.load_after),
        ),
        ("took", format!("{:.0} s", evidence.took_s)),
    ]);
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str(
        "\nThe *reference* is our own re-implementation of the service that the report is about, by what was measured of the original: the waits of its four\n\
         versions, A to D in the order of their making (`bench/src/polls.rs`; the report is about C and D), and its gate and queue (`bench/src/evidence/reference.rs`). Where the original could\n\
         not be measured, it is kind. `greenroom` and `bench` in the commands below are the programs above, both in one folder of `target`; files are shown without their folders.\n\n",
    );
}

/// How it was measured, and whether the machine let it be.
fn parts(text: &mut String, evidence: &Evidence) {
    text.push_str(
        "| part | took | load, before and after | others, of all processors | stalls | longest | tries | |\n|---|---:|---|---:|---:|---:|---:|---|\n",
    );
    for part in &evidence.parts {
        let _ = writeln!(
            text,
            "| {} | {:.0} s | {}, {} | {:.1} % | {} | {} | {} | {} |",
            part.what.name(),
            part.took_s,
            part.load,
            part.load_after,
            part.others_percent,
            part.stalls,
            ms(part.longest_stall_ms),
            part.tries,
            if is_disturbed(part) { "**disturbed**" } else { "" }
        );
    }
    let _ = write!(
        text,
        "\n*Others* is the CPU time that neither the measuring program used nor what it started; stalls are counted from 20 ms on, while something was measured. *Disturbed* is a part in which\n\
         others used {QUIET:.0} % or more, or the machine stood still for {STALL_OF_WAITS:.0} ms (waits) or {STALL:.0} ms (all else); every verdict that rests on such a part says so.\n\n"
    );
    if let Some(others) = evidence.began_busy {
        let _ = writeln!(
            text,
            "**It was begun although others used {others:.0} % of the processors.**\n"
        );
    }
}

fn index(text: &mut String, evidence: &Evidence) {
    text.push_str("| | claim | of the reference | of greenroom |\n|---:|---|---|---|\n");
    for (number, claim) in (1..).zip(&CLAIMS) {
        let is_touched = !disturbed(claim.about, evidence).is_empty();
        let [reference, greenroom] = judge(claim.about, evidence).map(|verdict| match verdict {
            Verdict::CannotBeMeasured(_) => verdict.name().to_owned(),
            _ if is_touched => format!("{}, **disturbed**", verdict.name()),
            _ => verdict.name().to_owned(),
        });
        let _ = writeln!(text, "| {number} | {} | {reference} | {greenroom} |", claim.title);
    }
    text.push('\n');
}

fn section(text: &mut String, number: usize, claim: &Claim, evidence: &Evidence) {
    let _ = writeln!(text, "## {number}. {}\n", claim.title);
    for quote in claim.quotes {
        let _ = writeln!(text, "> {quote}\n");
    }
    text.push_str(&sections::body(claim.about, evidence));
    let touched = disturbed(claim.about, evidence);
    for (who, verdict) in ["reference", "greenroom"].into_iter().zip(judge(claim.about, evidence)) {
        let why = match verdict {
            Verdict::CannotBeMeasured(why) => format!(", because {why}"),
            Verdict::Holds | Verdict::InPart | Verdict::DoesNotHold => disturbance(&touched),
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

/// What a verdict of disturbed parts says of that.
fn disturbance(touched: &[&Part]) -> String {
    if touched.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = touched.iter().map(|part| part.what.name()).collect();
    format!(
        " – **measured while the machine was disturbed** ({}): it may be otherwise where it is quiet",
        names.join("; ")
    )
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
pub(crate) fn percent_less(before: f64, after: f64) -> String {
    format!("{:.2} %", (1.0 - after / before) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::claims::About;
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
            other.contains("| 6 | No legacy fallback | cannot be measured | does not hold"),
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
        assert!(page.contains("cannot be measured**, because ") && !page.contains("cannot be measured**."));
    }

    #[test]
    fn a_disturbed_run_says_so_in_its_table_in_each_verdict_that_it_touches_and_in_its_last_line() {
        let mut evidence = committed();
        for part in &mut evidence.parts {
            (part.others_percent, part.longest_stall_ms) = (0.0, 0.0);
        }
        let quiet = page(&evidence);
        assert!(
            !quiet.contains("**disturbed**") && !quiet.contains("was disturbed**"),
            "{quiet}"
        );
        assert!(
            summary(&evidence).ends_with("the machine was quiet"),
            "{}",
            summary(&evidence)
        );
        evidence.parts[0].others_percent = 43.21;
        evidence.began_busy = Some(55.4);
        let busy = page(&evidence);
        assert!(busy.contains("| 43.2 % |") && busy.contains("others used 55 %") && busy.contains(" --busy "));
        for (number, claim) in (1..).zip(&CLAIMS) {
            let row = format!("| {number} | {} | ", claim.title);
            let row = busy.lines().find(|line| line.starts_with(&row)).unwrap();
            let is_touched = row.contains("**disturbed**");
            let rests = [
                About::Variance,
                About::Interval,
                About::Tests,
                About::Diagrams,
                About::Documentation,
                About::NothingLeft,
            ];
            assert_eq!(is_touched, rests.contains(&claim.about), "{row}");
        }
        assert!(
            busy.contains("was disturbed** (waits for random ready times): "),
            "{busy}"
        );
        let last = summary(&evidence);
        assert!(
            last.contains("DISTURBED: waits for random ready times; measure again"),
            "{last}"
        );
    }
}
