//! What `greenroom close` and `greenroom send` say that they have done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::act::{Closing, One, Sending};
use super::plain;
use crate::config::units::count;

/// What came of closing.
#[must_use]
pub fn closing(closing: &Closing) -> String {
    let mut out = if closing.dry_run {
        format!("would close {}", count(closing.matched, "connection"))
    } else {
        format!("closed {}", count(closing.closed, "connection"))
    };
    if closing.already > 0 {
        let (already, were) = (closing.already, if closing.already == 1 { "was" } else { "were" });
        let _ = write!(out, "; {already} {were} closing or closed already"); // writing to a String cannot fail
    }
    rest(&mut out, &closing.refused, &closing.outcomes);
    if closing.left > 0 {
        let _ = writeln!(
            out,
            "{} more are meant than one request may close: say it again",
            closing.left
        );
    }
    out
}

/// What came of sending.
#[must_use]
pub fn sending(sending: &Sending) -> String {
    let mut out = if sending.dry_run {
        format!("would send it to {}", count(sending.matched, "connection"))
    } else {
        format!(
            "sent it to {} of {}",
            sending.sent,
            count(sending.matched, "connection")
        )
    };
    rest(&mut out, &sending.refused, &sending.outcomes);
    if let Some(after) = sending.after {
        let _ = writeln!(
            out,
            "{} more are meant than one request may reach: say it again with --after {after}",
            sending.left
        );
    }
    out
}

/// How many were refused, by name, and each of them.
fn rest(out: &mut String, refused: &BTreeMap<String, usize>, outcomes: &[One]) {
    if !refused.is_empty() {
        let names = refused.iter().map(|(name, count)| format!("{count} {}", plain(name)));
        let _ = write!(out, "; refused: {}", names.collect::<Vec<_>>().join(", "));
    }
    out.push('\n');
    for One { number, outcome } in outcomes {
        let _ = writeln!(out, "  {number}  {}", plain(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u64, outcome: &str) -> One {
        let outcome = outcome.into();
        One { number, outcome }
    }

    #[test]
    fn what_came_of_it_is_a_line_and_who_was_refused_is_named() {
        let mut done = Closing {
            matched: 4,
            closed: 1,
            already: 2,
            refused: [("busy".into(), 1)].into(),
            outcomes: vec![one(7, "already"), one(9, "busy\u{1b}[2J")],
            ..Closing::default()
        };
        assert_eq!(
            closing(&done),
            "closed 1 connection; 2 were closing or closed already; refused: 1 busy\n  7  already\n  9  busy[2J\n"
        );
        done = Closing {
            matched: 3,
            dry_run: true,
            ..Closing::default()
        };
        assert_eq!(closing(&done), "would close 3 connections\n");
        let sent = Sending {
            matched: 10_000,
            sent: 9_999,
            refused: [("slow".into(), 1)].into(),
            left: 5,
            after: Some(10_000),
            ..Sending::default()
        };
        assert_eq!(
            sending(&sent),
            "sent it to 9999 of 10000 connections; refused: 1 slow\n\
             5 more are meant than one request may reach: say it again with --after 10000\n"
        );
    }
}
