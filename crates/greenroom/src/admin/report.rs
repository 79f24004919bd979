//! `greenroom status` as text: one screen that answers "why is my client waiting?".
//!
//! It is printed without control characters and direction marks: no words chosen by a backend drive the terminal.

mod acts;
mod lines;

use std::fmt::Write as _;

use super::api::Report;
use crate::config::units::count;
use crate::driver::{CheckStatus, PhaseStatus, Status};
use crate::telemetry::is_safe;

pub use acts::{closing, sending};
pub use lines::{connection, reason, table};

/// The screen.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let own = &report.greenroom;
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "greenroom {}, process {}, up {}",
        own.version,
        own.pid,
        spoken(own.uptime_ms)
    );
    if own.stopping {
        out.push_str(", STOPPING");
    }
    if let Some(stop) = &own.stop {
        let _ = write!(
            out,
            ": {} left; the last is told to close in {}, and cut off in {} at the latest",
            count(stop.clients, "client"),
            spoken(stop.closes_ms),
            spoken(stop.left_ms)
        );
    }
    let _ = writeln!(out, "\nlistens on {}", own.listeners.join(", "));
    for (what, place) in [("socket", &own.admin_socket), ("address", &own.admin_address)] {
        if let Some(place) = place {
            let _ = writeln!(out, "admin {what} {}", plain(place));
        }
    }
    for (what, value) in [("profile", &own.profile), ("platform", &own.platform)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{what} {}", plain(value));
        }
    }
    for each in &own.orphaned {
        let (name, route) = (plain(&each.backend), plain(&each.route));
        let count = each.connections;
        let _ = writeln!(
            out,
            "orphaned {count} of backend {name}, route {route}, which a reload took away; `greenroom ps --backend {name}` lists them"
        );
    }
    for status in &report.backends {
        out.push('\n');
        backend(&mut out, status, "");
    }
    for status in &report.old {
        let is_there = report.backends.iter().any(|there| there.backend == status.backend);
        let past = match is_there {
            true => " (as it was before a reload, for those who came then)",
            false => " (taken away by a reload, for those who came before)",
        };
        out.push('\n');
        backend(&mut out, status, past);
    }
    harmless(&out)
}

/// How the gate of a backend stands now: a line.
#[must_use]
pub fn gate(status: &Status) -> String {
    let mut line = format!("{}: gate {}", status.backend, status.gate);
    by_hand(&mut line, status);
    let _ = write!(line, "; {}", why(status));
    let waiting = status.held.websocket + status.held.http;
    if waiting > 0 {
        let wait = if waiting == 1 { "waits" } else { "wait" };
        let _ = write!(line, "; {} {wait}", count(waiting, "client"));
    }
    safe_line(&line)
}

fn by_hand(out: &mut String, status: &Status) {
    let Some(hand) = &status.by_hand else {
        return;
    };
    let _ = write!(
        out,
        ", by hand: {} for {} by {}",
        hand.gate,
        spoken(hand.since_ms),
        hand.by
    );
    if let Some(left) = hand.left_ms {
        let _ = write!(out, ", {} left", spoken(left));
    }
}

/// Lines without control characters and direction marks: whatever answered may be no greenroom at all.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().filter(|&c| c == '\n' || is_safe(c)).collect()
}

/// A line for a terminal, without what could drive it.
#[must_use]
pub fn safe_line(text: &str) -> String {
    let mut line: String = text.chars().filter(|&c| is_safe(c)).collect();
    line.push('\n');
    line
}

fn backend(out: &mut String, status: &Status, past: &str) {
    let _ = write!(out, "{}{past}  {}  ", status.backend, status.address);
    if status.gate == "draining" {
        out.push_str("STOPPING");
    } else {
        let _ = write!(
            out,
            "{} for {}",
            status.condition.to_uppercase(),
            spoken(status.since_ms)
        );
    }
    if status.generation > 0 {
        let _ = write!(out, ", life {}", status.generation);
    }
    if status.level != "none" {
        let _ = write!(out, ", degraded ({})", status.level);
    }
    out.push('\n');
    let _ = writeln!(out, "  why      {}", why(status));
    let trial = if status.on_trial { ", on trial" } else { "" };
    let _ = write!(out, "  gate     {}{trial}", status.gate);
    by_hand(out, status);
    out.push('\n');
    let held = &status.held;
    let _ = write!(out, "  held     {} WebSocket, {} HTTP", held.websocket, held.http);
    if let Some(oldest) = held.oldest_ms {
        let _ = write!(out, "; the first for {}", spoken(oldest));
    }
    if held.aside > 0 {
        let _ = write!(out, "; {} for what only their route needs", held.aside);
    }
    out.push('\n');
    if let Some(starts) = &status.starts {
        let _ = writeln!(
            out,
            "  starts   usually {}, nine of ten within {} (of {})",
            spoken(starts.p50_ms),
            spoken(starts.p90_ms),
            starts.count
        );
    }
    if !status.phases.is_empty() {
        let shown: Vec<_> = status.phases.iter().map(phase).collect();
        let _ = writeln!(out, "  phases   {}", shown.join(" · "));
    }
    for each in &status.checks {
        let _ = writeln!(out, "  check    {}", check(each));
    }
}

/// The one sentence that says why a client waits, or that it need not.
pub(super) fn why(status: &Status) -> String {
    if status.gate == "draining" {
        return "greenroom stops: nobody is let in any more".into();
    }
    match status.by_hand.as_ref().map(|hand| hand.gate.as_str()) {
        Some("hold") => return "it is held by hand; `greenroom open` takes that back".into(),
        Some("refuse") => return "clients are refused by hand; `greenroom open` takes that back".into(),
        Some("open") => return "clients are let in by hand, whatever its readiness says".into(),
        Some(_) | None => {}
    }
    if let Some(failure) = &status.failure {
        return format!("its start has failed: {}", plain(failure));
    }
    let bad: Vec<_> = status
        .checks
        .iter()
        .filter(|check| check.critical && check.state != "good")
        .collect();
    let names = |checks: &[&CheckStatus]| {
        checks
            .iter()
            .map(|check| check.check.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (status.condition.as_str(), bad.as_slice()) {
        ("ready", []) if status.gate == "open" => "clients are let in".into(),
        ("ready", []) => "it listens; one client at a time goes first to see whether it answers".into(),
        ("ready", bad) => format!("clients are let in, though it lacks {}", names(bad)),
        (_, bad) if matches!(status.gate.as_str(), "open" | "limited") => {
            let lacks = match bad {
                [] => "its word that it is ready".into(),
                bad => names(bad),
            };
            format!("clients are let in where their route does without {lacks}; the others wait for that")
        }
        (_, []) => match (
            &status.says,
            status.phases.iter().find(|phase| phase.state == "current"),
        ) {
            (_, Some(phase)) => format!(
                "it is starting: phase {}{}{}",
                phase.phase,
                phase
                    .since_ms
                    .map_or_else(String::new, |ms| format!(" for {}", spoken(ms))),
                also(status)
            ),
            (Some(words), None) => format!("it is starting: {}{}", plain(words), also(status)),
            (None, None) => match &status.reason {
                Some(reason) => format!("it is starting: {}", plain(reason)),
                None => "it is starting: nothing has said that it is ready".into(),
            },
        },
        (_, bad) => {
            let each = bad.iter().map(|check| match &check.reason {
                Some(reason) => format!("{} ({})", check.check, plain(reason)),
                None => check.check.clone(),
            });
            format!("it is not ready without {}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What its probe found, beside what it says itself.
fn also(status: &Status) -> String {
    let reason = status.reason.as_deref();
    reason.map_or_else(String::new, |reason| format!("; {}", plain(reason)))
}

fn phase(phase: &PhaseStatus) -> String {
    let mark = match phase.state.as_str() {
        "finished" => "✓",
        "skipped" => "-",
        "current" => "▶",
        "failed" => "✗",
        _ => " ",
    };
    let mut shown = format!("{mark} {}", phase.phase);
    if let Some(since) = phase.since_ms {
        let _ = write!(shown, " {}", spoken(since));
    }
    if let Some(left) = phase.left_ms {
        let _ = write!(shown, " ({} left)", spoken(left));
    }
    shown
}

fn check(check: &CheckStatus) -> String {
    let kind = if check.critical { "critical" } else { "optional" };
    let mut shown = format!("{:8} {:16} {kind}  {}", check.state, check.check, plain(&check.probe));
    if let (Some(ago), Some(took)) = (check.ago_ms, check.took_ms) {
        let _ = write!(shown, "  {} ago, took {took:.1} ms", spoken(ago));
    }
    if let Some(reason) = &check.reason {
        let _ = write!(shown, ": {}", plain(reason));
    }
    shown
}

fn plain(text: &str) -> String {
    text.chars().filter(|&c| is_safe(c)).collect()
}

/// Milliseconds as people say them.
fn spoken(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::Own;
    use super::*;
    use crate::driver::{HeldStatus, StartsStatus};

    fn status(condition: &str) -> Status {
        Status {
            backend: "app".into(),
            address: "127.0.0.1:8000".into(),
            condition: condition.into(),
            since_ms: 12_345,
            generation: 2,
            gate: if condition == "ready" { "open" } else { "shut" }.into(),
            by_hand: None,
            on_trial: false,
            says: None,
            reason: None,
            phases: Vec::new(),
            failure: None,
            level: "none".into(),
            checks: Vec::new(),
            held: HeldStatus {
                websocket: 3,
                http: 1,
                aside: 0,
                oldest_ms: Some(9_100),
            },
            dialing: 0,
            starts: Some(StartsStatus {
                count: 9,
                p50_ms: 12_000,
                p90_ms: 75_000,
            }),
        }
    }

    fn check(state: &str, critical: bool) -> CheckStatus {
        CheckStatus {
            check: "database".into(),
            probe: "postgres 127.0.0.1:5432".into(),
            state: state.into(),
            critical,
            weight: 1,
            phase: None,
            last_good: Some(state == "good"),
            reason: (state == "bad").then(|| "the database system is starting up\u{1b}[2J".into()),
            ago_ms: Some(80),
            took_ms: Some(1.25),
        }
    }

    fn shown(status: Status) -> String {
        text(&Report {
            greenroom: Own {
                version: "0.1.0".into(),
                pid: 7,
                uptime_ms: 3_700_000,
                listeners: vec!["127.0.0.1:8080".into()],
                profile: Some("staging".into()),
                platform: None,
                configurations: 1,
                stopping: false,
                stop: None,
                admin_socket: Some("/run/greenroom.sock".into()),
                admin_address: None,
                orphaned: Vec::new(),
            },
            backends: vec![status],
            old: Vec::new(),
        })
    }

    #[test]
    fn one_screen_says_why_a_client_waits() {
        let mut waiting = status("starting");
        waiting.checks = vec![check("bad", true), check("unknown", false)];
        waiting.phases = vec![
            PhaseStatus {
                phase: "init".into(),
                state: "finished".into(),
                since_ms: None,
                left_ms: None,
                took_ms: Some(310),
            },
            PhaseStatus {
                phase: "database".into(),
                state: "current".into(),
                since_ms: Some(4_200),
                left_ms: Some(25_800),
                took_ms: None,
            },
        ];
        insta::assert_snapshot!(shown(waiting));
    }

    #[test]
    fn nothing_that_answers_drives_the_terminal() {
        let mut fake = status("ready\u{9b}31m");
        fake.backend = "\u{1b}]0;app\u{7}\u{202e}".into();
        let screen = shown(fake);
        assert!(screen.contains("\n]0;app  "), "{screen}");
        assert!(screen.chars().all(|c| c == '\n' || is_safe(c)), "{screen:?}");
    }

    #[test]
    fn the_reason_is_the_first_that_holds() {
        let of = |status: &Status| why(status);
        assert_eq!(of(&status("ready")), "clients are let in");
        let mut failed = status("failed");
        failed.failure = Some("phase database: not finished within 30s".into());
        assert_eq!(
            of(&failed),
            "its start has failed: phase database: not finished within 30s"
        );
        let mut says = status("starting");
        says.says = Some("loading models".into());
        assert_eq!(of(&says), "it is starting: loading models");
        let asked = "GET /nope is answered with status 404 (200 to 399 is ready)";
        says.reason = Some(asked.into());
        assert_eq!(of(&says), format!("it is starting: loading models; {asked}"));
        says.says = None;
        assert_eq!(of(&says), format!("it is starting: {asked}"));
        assert_eq!(
            of(&status("starting")),
            "it is starting: nothing has said that it is ready"
        );
        let mut partly = status("starting");
        partly.gate = "open".into();
        partly.checks = vec![check("bad", true)];
        assert_eq!(
            of(&partly),
            "clients are let in where their route does without database; the others wait for that"
        );
    }
}
