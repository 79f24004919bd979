//! What a report says in words, once: titles, what a sound server did, why the exit code is what it is, how it was
//! measured. Pure.
//!
//! Every format takes its sentences from here and from [`super::finding`], so that no two of them say different things.
//! Code stands between backticks ([`super::text::parts`]); text of CMD and of the user is put there by [`quoted`].

use std::fmt::Write as _;

use super::condition::{Condition, Kind, Place};
use super::control::{Control, Failure};
use super::edges::Zone;
use super::finding::Finding;
use super::judge::Outcome;
use super::launcher::Way;
use super::plan::{self, nanos};
use super::record::{Cause, Interval};
use super::report::{Report, Said, Verdict};
use super::restarted::RestartReport;
use super::side::Side;
use super::tables::side_name;
use super::text::{about, count, grouped, quoted, signed, span};
use crate::limits;

/// How a title is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing is wrong.
    Good,
    /// Something is.
    Bad,
    /// It is not known.
    Unsure,
}

/// The verdict on the server by itself, as a title.
#[must_use]
pub fn title(report: &Report) -> (Tone, String) {
    let (tone, title) = match &report.verdict {
        Verdict::Sound => (Tone::Good, "No race"),
        Verdict::Race => (Tone::Bad, of_findings(&report.findings)),
        Verdict::NotMeasured(_) => (Tone::Unsure, "Not measured"),
    };
    let title = match (report.interrupted, &report.verdict) {
        (true, Verdict::Sound) => format!("{title} so far: stopped before the end"),
        _ => title.to_owned(),
    };
    (tone, title)
}

/// The same of the server behind greenroom, where that was asked for.
#[must_use]
pub fn title_behind(report: &Report) -> Option<(Tone, String)> {
    report.greenroom.as_ref()?;
    let name = match &report.settings.greenroom[..] {
        [] => "Behind greenroom".to_owned(),
        flags => format!("Behind greenroom ({})", quoted(&flags.join(" "))),
    };
    let (tone, what) = match &report.greenroom_verdict {
        None | Some(Verdict::NotMeasured(_)) => (Tone::Unsure, "not measured"),
        Some(Verdict::Sound) => (Tone::Good, "no race"),
        Some(Verdict::Race) => (Tone::Bad, of_findings(&report.greenroom_findings)),
    };
    let what = what.to_lowercase();
    Some((tone, format!("{name}: {what}")))
}

/// What is wrong at any time is no race, and is not called one; nor is load.
fn of_findings(findings: &[Said]) -> &'static str {
    let overrun = |said: &Said| matches!(said.finding, Finding::Overrun { .. });
    if findings.iter().any(|said| said.finding.is_of_the_start()) {
        "Race"
    } else if findings.iter().all(overrun) {
        "Overrun"
    } else {
        "Wrong, and not only at the start"
    }
}

/// What is said where nothing is wrong.
#[must_use]
pub fn sound(side: &Side) -> String {
    let refused = side.count(Zone::Cold, |outcome| outcome == Outcome::Refused);
    let listen = side.listen.map_or_else(|| "?".to_owned(), |edge| about(edge.typical));
    let taken = side.count(Zone::Race, Outcome::is_good) + side.count(Zone::Ready, Outcome::is_good);
    let before = if refused > 0 {
        format!(
            "It refuses clients until it listens, {listen} after exec ({} were), and ",
            grouped(refused)
        )
    } else {
        format!("It listens {listen} after exec, and ")
    };
    let unknown = match side.unknown {
        0 => String::new(),
        unknown => format!(
            " and of whom anything is known; {} are unknown, as this machine stood still",
            grouped(unknown)
        ),
    };
    let mut text = format!(
        "{before}answered every one of the {} clients that it took{unknown}.",
        grouped(taken)
    );
    let late = side.count(Zone::Race, |one| one == Outcome::Late) + side.count(Zone::Ready, |one| one == Outcome::Late);
    if late > 0 {
        let most = span(side.after_ready.max_ns);
        let _ = write!(
            text,
            " {} of them waited for their first answer longer than {}, up to {most} after it was ready.",
            grouped(late),
            span(nanos(limits::AUDIT_LATE))
        );
    }
    let early = side.early_open;
    if early.max_ns >= nanos(limits::AUDIT_WAIT_TOLD) {
        let _ = write!(
            text,
            " {} came when it listened and was not ready: they waited for their 101, up to {}.",
            grouped(early.count),
            span(early.max_ns)
        );
    }
    text
}

/// That it was stopped, and what there is.
#[must_use]
pub fn stopped(report: &Report) -> Option<String> {
    let of = |side: &Side| {
        let ended = side.runs.iter().filter(|run| run.cause != Cause::Interrupted).count();
        ended as u64
    };
    let behind = report
        .greenroom
        .as_ref()
        .map_or_else(String::new, |side| format!(" and {} behind greenroom", of(side)));
    report.interrupted.then(|| {
        if of(&report.plain) == 0 {
            let starts = count(u64::from(report.settings.runs), "start");
            return format!("Stopped in the first of {starts}: all that is said is of that one, as far as it came");
        }
        let all = report.plain.runs.len() as u64 == u64::from(report.settings.runs);
        if all
            && report
                .greenroom
                .as_ref()
                .is_none_or(|side| side.runs.len() == report.plain.runs.len())
        {
            return "Stopped after all starts, in what was to follow them: all that is said is of what there is"
                .to_owned();
        }
        format!(
            "Stopped after {} of {}{behind}: all that is said is of these",
            of(&report.plain),
            count(u64::from(report.settings.runs), "start"),
        )
    })
}

/// Why the exit code is not what the title makes one expect, or which conditions made it 1.
#[must_use]
pub fn exit(report: &Report) -> Option<String> {
    let asked = report.settings.fail_on.join(",");
    if !report.failed_by.is_empty() {
        return Some(format!("Exit code 1, by {}", report.failed_by.join("; ")));
    }
    let counted = quoted(&format!("--fail-on {asked}"));
    let found = !report.findings.is_empty() || !report.greenroom_findings.is_empty();
    match report.exit_code() {
        0 if found => Some(format!("Exit code 0: none of this is counted by {counted}")),
        code if report.interrupted => Some(format!("Exit code {code}, as it was stopped before the end")),
        _ => None,
    }
}

/// Whether each finding of this side makes the exit code 1.
#[must_use]
pub fn counts_findings(report: &Report, way: Way) -> bool {
    let of_starts = |met: &Condition| met.kind == Kind::Race && met.place == Place::Starts(way);
    report.conditions.iter().any(of_starts)
}

/// What was asked for and is not there: that it was stopped, and what failed; for the machines that read a report.
#[must_use]
pub fn incomplete(report: &Report) -> Vec<String> {
    let behind = match &report.greenroom_verdict {
        Some(Verdict::NotMeasured(why)) => Some(format!("behind greenroom: {why}")),
        Some(Verdict::Sound | Verdict::Race) | None => None,
    };
    let stopped = stopped(report).into_iter();
    stopped.chain(behind).chain(report.not_done.iter().cloned()).collect()
}

/// When READY=1 came.
#[must_use]
pub fn notified(side: &Side) -> Option<String> {
    let (least, most) = side.notified_before_ready?;
    Some(format!("READY=1 came {} before the first answer", signed(least, most)))
}

/// Whether the order was kept.
#[must_use]
pub fn overtaken(side: &Side) -> Option<String> {
    let overtaken = side.overtaken;
    (overtaken.hits > 0).then(|| {
        format!(
            "{} of {} were opened after one that had come later, further apart than wake-ups explain",
            grouped(overtaken.hits),
            count(overtaken.of, "client")
        )
    })
}

/// That starts did not come to their end, and what CMD wrote last in the last of them.
#[must_use]
pub fn ended<'a>(report: &Report, side: &'a Side) -> Option<(String, &'a [String])> {
    if matches!(report.verdict, Verdict::NotMeasured(_)) {
        return None; // it stands in the reason
    }
    let bad = || {
        let causes = side.runs.iter();
        causes.filter(|run| !matches!(run.cause, Cause::Finished | Cause::Interrupted))
    };
    let last = bad().next_back()?;
    let starts = count(bad().count() as u64, "start");
    let which = if last.output.is_empty() {
        "; CMD wrote nothing in the last of them"
    } else {
        "; the last lines that CMD wrote in the last of them"
    };
    Some((format!("{starts} did not come to the end{which}"), &last.output))
}

/// How long the zones of a plot are, as they are drawn: a server's cold and race zone, and what came after it was ready.
#[must_use]
pub fn zone_length(side: &Side, zone: Zone) -> Option<Interval> {
    match zone {
        Zone::Cold => Some(side.listen?.typical),
        Zone::Race => Some(side.lead?.typical),
        Zone::Ready => {
            let tail = plan::tail(side.ready?.typical.high_ns);
            Some(Interval::new(tail, tail))
        }
    }
}

/// What a zone begins with.
#[must_use]
pub const fn zone_begin(way: Way, zone: Zone) -> &'static str {
    match (way, zone) {
        (_, Zone::Cold) => "exec",
        (Way::Plain, Zone::Race) => "listens",
        (Way::Plain, Zone::Ready) => "ready",
        (Way::Greenroom, Zone::Race) => "greenroom",
        (Way::Greenroom, Zone::Ready) => "first answer",
    }
}

/// What is not said by the plot of outcomes itself.
pub const ZONES: &str = "The parts of the start are drawn as wide as each other; how long each is stands under it.";

/// The title over what was asked for and could not be measured.
pub const NOT_DONE: &str = "Not all was measured";

/// What the words of the table of edges mean.
pub const EDGES: &str = "Typical: the start in the middle. ±: the moment is no further from that, for certain; `at most`: hardly more than its end is known. Least, most: over all starts.";

/// What the times of the table of waits are.
pub const WAITS: &str = "Ready to first answer: from when somebody had been answered, and the client had come, without what the client itself waited before it sent.";

/// The title of a restart.
#[must_use]
pub fn restart_title(restart: &RestartReport) -> String {
    format!("A restart with SIG{}, {}", restart.signal, side_name(restart.way))
}

/// How it was measured, in sentences.
#[must_use]
pub fn measured(report: &Report) -> String {
    let settings = &report.settings;
    let first = report.plain.runs.first().map_or(0, |run| run.clients);
    let coarse = match first {
        first if first > u64::from(settings.clients) => {
            format!(
                " (the first, in which nothing is known of the server yet, {})",
                grouped(first)
            )
        }
        _ => String::new(),
    };
    let runs = report.plain.runs.len() as u64;
    let of = match u64::from(settings.runs) {
        asked if asked == runs => count(runs, "start"),
        asked => format!("{} of {}", runs, count(asked, "start")),
    };
    let controls: String = [&report.control, &report.greenroom_control]
        .into_iter()
        .zip(["of the server by itself", "behind greenroom"])
        .filter_map(|(control, whose)| Some(controlled(control.as_ref()?, whose)))
        .collect();
    let behind = match (&report.greenroom, &settings.greenroom[..]) {
        (None, _) => String::new(),
        (Some(_), []) => {
            " Behind greenroom: the same with `greenroom run` in front, start by start in turn.".to_owned()
        }
        (Some(_), flags) => format!(
            " Behind greenroom: the same with {} in front, start by start in turn.",
            quoted(&format!("greenroom run {}", flags.join(" ")))
        ),
    };
    format!(
        "{of} with {} each{coarse}, at swept and random offsets from exec; each client connects once, to {}, sends {} as soon as it is open, and expects {}; {} are unknown.{behind}{controls} greenroom {}, {}, {}; seed {}; took {}. Edges are intervals that certainly hold the moment; shares have 99.99 % (Clopper-Pearson) intervals.",
        count(u64::from(settings.clients), "client"),
        quoted(&settings.url),
        quoted(&settings.message),
        quoted(&settings.expect),
        report.plain.unknown,
        report.version,
        machine(report),
        report.machine.date,
        settings.seed,
        span(report.took_ns),
    )
}

/// Which starts were made to tell load from everything else, and what they told.
fn controlled(control: &Control, whose: &str) -> String {
    let again = match control.again {
        Some(_) => ", and then one with as many as before",
        None => "",
    };
    let is_overrun = |failure: &Failure| control.is_overrun(failure.zone, failure.outcome);
    let told = if control.failures.iter().any(is_overrun) {
        "they were"
    } else if [Zone::Race, Zone::Ready]
        .into_iter()
        .any(|zone| control.fails_few(zone))
    {
        "they were not, as few were too"
    } else {
        "that is not known"
    };
    format!(
        " {} {whose}, with {} each{again}, were made to tell whether clients were failed because many came: {told}.",
        count(control.starts, "control start"),
        count(control.each, "client")
    )
}

/// The machine, in a few words; the number of its processors is not torn from its name.
#[must_use]
pub fn machine(report: &Report) -> String {
    let machine = &report.machine;
    format!(
        "{}, {}\u{a0}×\u{a0}{}, load\u{a0}{}",
        machine.kernel, machine.processors, machine.processor, machine.load
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{self, PATIENCE, client, closed, early, held};
    use crate::audit::stats::Share;

    #[test]
    fn it_is_told_that_early_clients_waited_where_they_did() {
        let of = |first: u64| {
            let clients = vec![
                client(0, 100, first, first),
                client(1, first + 100, first + 101, first + 101),
            ];
            let mut run = sample::run(0, clients);
            run.listen = None;
            sound(&Side::of(&[run], PATIENCE))
        };
        let waited = of(900);
        assert!(
            waited.contains("1 came when it listened and was not ready") && waited.contains("up to 800 ms"),
            "{waited}"
        );
        assert!(!of(300).contains("waited"), "200 ms are an accept queue");
    }

    #[test]
    fn what_is_wrong_at_any_time_is_not_called_a_race() {
        assert_eq!(title(&sample::report(&[early(0)], None)).1, "Race");
        let clients = (0..100).map(|n| {
            let at = 300 + 10 * u64::from(n);
            match n % 9 {
                5 => sample::ended(n, at, closed(1011)),
                _ => client(n, at, at + 1, at + 1),
            }
        });
        let report = sample::report(&[sample::run(0, clients.collect())], None);
        assert_eq!(report.findings[0].code, "fails-when-ready");
        assert_eq!(title(&report).1, "Wrong, and not only at the start");
    }

    #[test]
    fn nobody_is_called_answered_of_whom_nothing_is_known() {
        let mut side = Side::of(&[], PATIENCE);
        assert!(!sound(&side).contains("unknown"));
        side.unknown = 1_234;
        let said = sound(&side);
        assert!(said.contains("of whom anything is known; 1,234 are unknown"), "{said}");
    }

    #[test]
    fn a_server_that_is_only_overrun_has_no_race() {
        let failed = Share::new(3, 9);
        let overrun = Finding::Overrun {
            outcomes: vec![(Outcome::Hung, 3)],
            failed,
            few: Share::new(0, 30),
            starts: 3,
            each: 10,
        };
        let doubles = Finding::Doubles { clients: failed };
        let of = |findings| of_findings(&Said::all(findings, Way::Plain));
        assert_eq!(of(vec![overrun.clone()]), "Overrun");
        assert_eq!(of(vec![overrun, doubles]), "Wrong, and not only at the start");
    }

    #[test]
    fn a_title_never_hides_that_it_was_stopped_or_that_nothing_was_seen_behind_greenroom() {
        let mut report = sample::report(&[held(0)], Some(&[]));
        report.settings.runs = 5;
        assert_eq!(title(&report), (Tone::Good, "No race".into()));
        assert_eq!(stopped(&report), None);
        report.interrupted = true;
        assert!(title(&report).1.contains("stopped before the end"));
        assert!(
            stopped(&report)
                .unwrap()
                .starts_with("Stopped after 1 of 5 starts and 0 behind greenroom")
        );
        assert_eq!(
            title_behind(&report).unwrap(),
            (Tone::Unsure, "Behind greenroom: not measured".into())
        );
        report.settings.greenroom = ["--ready", "notify"].map(String::from).to_vec();
        assert!(title_behind(&report).unwrap().1.contains("`--ready notify`"));
    }

    #[test]
    fn the_exit_code_is_explained_where_it_is_not_what_the_title_makes_one_expect() {
        let mut report = sample::report(&[early(0)], None);
        assert!(exit(&report).unwrap().starts_with("Exit code 1, by race"));
        report.failed_by.clear();
        report.settings.fail_on = vec!["lost".into(), "1006".into()];
        assert_eq!(
            exit(&report).unwrap(),
            "Exit code 0: none of this is counted by `--fail-on lost,1006`"
        );
        assert_eq!(exit(&sample::report(&[held(0)], None)), None);
    }
}
