//! What the page says beneath each claim: what was run, and what was found. Pure, as `render`, which puts it together.

use std::fmt::Write as _;

use super::claims::About;
use super::data::{Audited, Crowd, Ended, Evidence, Way, What};
use super::diagrams;
use super::render::{ms, percent_less, statuses};
use super::verdict::{SCRIPT_LIMIT, against};

/// Beneath the quotes, above the verdicts.
pub(crate) fn body(about: About, evidence: &Evidence) -> String {
    match about {
        About::Variance => variance(evidence),
        About::Interval => interval(evidence),
        About::Queueing => queueing(evidence),
        About::Degradation => degradation(evidence),
        About::OneManager => one_manager(evidence),
        About::NoFallback => no_fallback(evidence),
        About::Tests => tests(evidence),
        About::Reliability => reliability(evidence),
        About::Diagrams => drawn(evidence),
        About::Resolved => resolved(evidence),
        About::Documentation => documentation(evidence),
        About::NothingLeft => left(evidence),
        About::Production | About::GoldenPath | About::Example => String::new(),
    }
}

/// What was started for a part, as one types it.
fn ran(evidence: &Evidence, what: What) -> String {
    let commands = evidence.part(what).map_or(&[][..], |part| &part.commands);
    if commands.is_empty() {
        return String::new();
    }
    format!("Run for this:\n\n```sh\n{}\n```\n\n", commands.join("\n"))
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
    let _ = write!(
        text,
        "The reference's formula for its longest wait, which has nothing of a start in it, gives {}.",
        lines.join(" and ")
    );
    let claimed = |seconds: f64| format!("{seconds:.1}") == "2.8";
    if evidence.log_lines.iter().any(|line| claimed(line.seconds)) {
        text.push_str(" So the 2.8 s of the claim are a limit, and no spread.");
    }
    text.push_str("\n\n");
    text.push_str(&ran(evidence, What::Waits));
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
    let (gate, fixed) = (&evidence.gate.reference, evidence.wait(Way::D));
    if let Some(fixed) = fixed.filter(|fixed| gate.early_ms > fixed.max) {
        let _ = writeln!(
            text,
            "The first whom the reference let in was {} before it was ready. D is never later than {}, so it is not the interval that lets them in too early.\n",
            ms(gate.early_ms),
            ms(fixed.max)
        );
    }
    text.push_str(&ran(evidence, What::Gate));
    text
}

fn queueing(evidence: &Evidence) -> String {
    format!(
        "All clients come at once, early in the start:\n\n{}{}",
        crowds(&evidence.queue.reference, &evidence.queue.greenroom),
        ran(evidence, What::Queue)
    )
}

fn degradation(evidence: &Evidence) -> String {
    format!(
        "The server never becomes ready. What clients hear who have waited for so long as the reference, or the route, has it:\n\n{}{}",
        crowds(&evidence.away.reference, &evidence.away.greenroom),
        ran(evidence, What::Away)
    )
}

fn one_manager(evidence: &Evidence) -> String {
    let registry = &evidence.registry;
    format!(
        "{} clients, of whom greenroom's registry lists {} while they wait and {} when they are in, the server has seen {}, and {} are listed when all have gone. They are the clients of 3.\n\n",
        registry.clients, registry.held, registry.relayed, registry.at_the_server, registry.afterwards
    )
}

fn no_fallback(evidence: &Evidence) -> String {
    let [reference, greenroom] = [&evidence.gate.reference, &evidence.gate.greenroom];
    format!(
        "A way past the gate would show as clients whom the server gets before it is ready: {} of {} behind greenroom. (With the reference {} of {}, by its gate itself; the way past it \
         that its source has is not in our re-implementation.) They are the clients of 2.\n\n",
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
    text.push_str(
        "Tests of greenroom, by the phase of a start that they are about. Each was run by itself: its program with `--exact` and its name.\n\n\
         | phase | where | test | | took |\n|---|---|---|---|---:|\n",
    );
    for test in &evidence.tests {
        let ended = match test.ended {
            Ended::Passed => "passed",
            Ended::Failed => "**failed**",
            Ended::NotFound => "**not found**",
        };
        let _ = writeln!(
            text,
            "| {} | `{}` | `{}` | {ended} | {} |",
            test.phase,
            test.place,
            test.test,
            ms(test.took_s * 1e3)
        );
    }
    text.push('\n');
    text.push_str(&ran(evidence, What::Tests));
    let _ = writeln!(
        text,
        "The audit of 8 is a test, too: of the reference it finds {}, of the same server behind greenroom {}.\n",
        found(&evidence.audit.reference),
        found(&evidence.audit.greenroom)
    );
    text
}

/// The codes of an audit's findings.
fn found(side: &Audited) -> String {
    let codes: Vec<String> = side.findings.iter().map(|code| format!("`{code}`")).collect();
    if codes.is_empty() {
        "nothing".to_owned()
    } else {
        codes.join(", ")
    }
}

fn reliability(evidence: &Evidence) -> String {
    let mut text = String::from(
        "`greenroom audit --compare` of the reference: clients at swept and random offsets, whom a listener took.\n\n\
         | | starts | clients | answered | of these late | otherwise | unknown |\n|---|---:|---:|---:|---:|---|---:|\n",
    );
    for (name, side) in [
        ("by itself", &evidence.audit.reference),
        ("behind greenroom", &evidence.audit.greenroom),
    ] {
        let outcome = |name: &str| side.outcomes.get(name).copied().unwrap_or(0);
        let others = side
            .outcomes
            .iter()
            .filter(|(name, _)| !["answered", "late", "unknown"].contains(&name.as_str()));
        let others: Vec<String> = others.map(|(name, count)| format!("{name}: {count}")).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            side.starts,
            side.known() + side.unknown,
            side.answered,
            outcome("late"),
            if others.is_empty() {
                "–".to_owned()
            } else {
                others.join(", ")
            },
            side.unknown
        );
    }
    text.push_str(
        "\n*Late* is a client that had all that it came for, its first answer more than 1 s after it came. The server is not ready for longer than that, so that who waits for it is late,\n\
         whether in the server or in front of it: waiting is what a gate is for, and it is not counted as a failure here.\n\n",
    );
    text.push_str(&ran(evidence, What::Audit));
    text
}

fn resolved(evidence: &Evidence) -> String {
    format!(
        "The audit of 8 finds {} about the reference, which has the fixed interval and the queue of the report, and {} about the same server behind greenroom.\n\n",
        found(&evidence.audit.reference),
        found(&evidence.audit.greenroom)
    )
}

fn documentation(evidence: &Evidence) -> String {
    let source = if evidence.revision.is_known() && !evidence.revision.dirty {
        "with the revision that they are of"
    } else {
        "but not the revision that they are of"
    };
    format!(
        "Of greenroom this page is what has metrics of before and after: those of 1, with {} commands, the machine and the date, {source}.\n\n",
        evidence.part(What::Waits).map_or(0, |part| part.commands.len())
    )
}

fn left(evidence: &Evidence) -> String {
    let told = against(evidence).map(|numbers| {
        if numbers.is_empty() {
            return "none".to_owned();
        }
        numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    });
    format!(
        "Of the other claims those that do not hold, or only in part: of the reference {}, of greenroom {}.\n\n",
        told[0], told[1]
    )
}

fn drawn(evidence: &Evidence) -> String {
    let mut text = String::from("From the figures of 1, 2 and 3.\n\n");
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
    row("come", &|crowd| match crowd.over_ms {
        over if over > 0.0 => format!("evenly over {}", ms(over)),
        _ => "at once".to_owned(),
    });
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
