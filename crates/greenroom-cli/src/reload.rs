//! `greenroom reload`: what another configuration changes, whether it was taken, and if not, why.

use std::fmt::Write as _;
use std::io::Write as _;

use greenroom::admin::client::{Client, Outcome, Reload};
use greenroom::config::units::count;

use crate::args;
use crate::ask::json;
use crate::{configure, fail};

/// Exit code of a reload that was refused.
const REFUSED: u8 = 1;

/// `greenroom reload`.
pub(crate) fn reload(asked: &args::Reload) -> u8 {
    let answer = match Client::find(asked.admin.as_deref()).and_then(|client| client.reload(asked.dry_run)) {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    let is_refused = answer.outcome == Outcome::Refused;
    let printed = configure::print(&if asked.json { json(&answer) } else { told(&answer) });
    if is_refused && !asked.json {
        let (error, help) = (answer.error.unwrap_or_default(), answer.help.unwrap_or_default());
        let problems = answer.problems.unwrap_or_default();
        let text = format!("{problems}error: {error}; {help}\n");
        let _ = std::io::stderr().write_all(harmless(&text).as_bytes());
    }
    if is_refused { REFUSED } else { printed }
}

/// What changes, one line for each key, and what came of it.
fn told(answer: &Reload) -> String {
    let mut out = String::new();
    let widest = |text: fn(&greenroom::config::Change) -> usize| answer.changes.iter().map(text).max().unwrap_or(0);
    let width = widest(|change| change.key.chars().count()).min(60);
    for change in &answer.changes {
        let (key, effect) = (&change.key, change.effect.word());
        let what = match (&change.old, &change.new) {
            (Some(old), Some(new)) => format!("{old} -> {new}"),
            (None, Some(new)) => format!("added: {new}"),
            (Some(old), None) => format!("gone: {old}"),
            (None, None) => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key:<width$}  {what}  ({effect})");
    }
    if answer.left_out > 0 {
        let _ = writeln!(out, "and {} more", answer.left_out);
    }
    for note in &answer.notes {
        let _ = writeln!(out, "note: {note}");
    }
    match answer.outcome {
        Outcome::Reloaded => out.push_str("reloaded\n"),
        Outcome::Unchanged => out.push_str("nothing changed\n"),
        Outcome::WouldReload => out.push_str("this would be taken (--dry-run)\n"),
        Outcome::Refused => {}
    }
    if answer.orphaned > 0 {
        let stay = if answer.orphaned == 1 { "stays" } else { "stay" };
        let connections = count(answer.orphaned, "connection");
        let _ = writeln!(out, "{connections} {stay} whose route or backend is gone");
    }
    harmless(&out)
}

/// Without control characters: whatever answered may be no greenroom at all.
fn harmless(text: &str) -> String {
    greenroom::admin::report::harmless(text)
}
