//! `greenroom ps`, `show` and `why` as text.

use std::fmt::Write as _;

use super::super::connections::{Connection, Connections, End};
use super::{plain, spoken};
use crate::config::units::count;

/// Columns of the list, and which of them is left out where nobody has a user.
const COLUMNS: usize = 10;
const USER: usize = 6;

/// The list: one line for each connection, in columns as wide as what stands in them.
#[must_use]
pub fn table(found: &Connections) -> String {
    let closed = found.connections.iter().any(|one| one.end.is_some());
    let head = [
        "NUMBER",
        "SESSION",
        "ADDRESS",
        if closed { "ENDED" } else { "STATE" },
        "FOR",
        "BACKEND",
        "USER",
        "UP",
        "DOWN",
        "PATH",
    ];
    let rows: Vec<[String; COLUMNS]> = found.connections.iter().map(row).collect();
    let mut widths = head.map(str::len);
    if found.connections.iter().all(|one| one.user.is_none()) {
        widths[USER] = 0; // no column for what no route asks for
    }
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            if *width > 0 {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    let mut out = String::new();
    line(&mut out, &head.map(String::from), &widths);
    for row in &rows {
        line(&mut out, row, &widths);
    }
    if found.total > rows.len() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} of {}; see --limit and --after", rows.len(), found.total);
    }
    out
}

fn row(one: &Connection) -> [String; COLUMNS] {
    let none = || "-".to_owned();
    let state = match &one.end {
        Some(end) => end.refusal.clone().unwrap_or_else(|| end.cause.clone()),
        None if is_accepted(one) => format!("{} (accepted)", one.state),
        None => one.state.clone(),
    };
    [
        one.number.to_string(),
        one.session.map_or_else(none, |session| session.to_string()),
        one.address.to_string(),
        plain(&state),
        spoken(if one.end.is_some() { one.age_ms } else { one.since_ms }),
        one.backend.as_deref().map_or_else(none, plain),
        one.user.as_deref().map_or_else(none, plain),
        bytes(one.bytes_up),
        bytes(one.bytes_down),
        one.path.as_deref().map_or_else(none, plain),
    ]
}

fn line(out: &mut String, cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths).filter(|(_, width)| **width > 0) {
        let _ = write!(line, "{cell:width$}  ");
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// Bytes as people say them.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

/// One connection, a fact a line.
#[must_use]
pub fn connection(one: &Connection) -> String {
    let mut out = String::new();
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(out, "{name:12}{value}");
    };
    fact("number", one.number.to_string());
    if let Some(session) = one.session {
        fact("session", session.to_string());
    }
    fact("address", one.address.to_string());
    fact("state", format!("{} for {}", one.state, spoken(one.since_ms)));
    fact(
        "connected",
        format!(
            "{} {}",
            spoken(one.age_ms),
            if one.end.is_some() { "before its end" } else { "ago" }
        ),
    );
    if let Some(accepted) = one.accepted_ms {
        let before = if one.end.is_some() { "before its end" } else { "ago" };
        fact(
            "accepted",
            format!("{} {before}, with a 101 of greenroom's own", spoken(accepted)),
        );
    }
    for (name, value) in [
        ("backend", &one.backend),
        ("route", &one.route),
        ("path", &one.path),
        ("user", &one.user),
    ] {
        if let Some(value) = value {
            fact(name, plain(value));
        }
    }
    if !one.tags.is_empty() {
        fact("tags", plain(&one.tags.join(", ")));
    }
    if one.dials > 0 {
        let life = if one.generation > 0 {
            format!(", last in life {}", one.generation)
        } else {
            String::new()
        };
        fact("dials", format!("{}{life}", one.dials));
    }
    for (name, size, messages) in [
        ("up", one.bytes_up, one.messages_up),
        ("down", one.bytes_down, one.messages_down),
    ] {
        fact(name, format!("{}, {}", bytes(size), count(messages, "message")));
    }
    if one.messages_own > 0 {
        let size = bytes(one.bytes_own);
        fact(
            "sent",
            format!(
                "{size}, {} that greenroom was told to send",
                count(one.messages_own, "message")
            ),
        );
    }
    kept_and_pinged(one, &mut fact);
    if let Some(end) = &one.end {
        fact("ended", format!("{} ago: {}", spoken(end.ago_ms), ended(end)));
    }
    out
}

/// What waits for one of its sides, and what became of pings.
fn kept_and_pinged(one: &Connection, fact: &mut impl FnMut(&str, String)) {
    for (name, kept, whom) in [
        ("kept up", one.buffered_up, "backend"),
        ("kept down", one.buffered_down, "client"),
    ] {
        if kept > 0 {
            fact(name, format!("{}, which the {whom} does not take yet", bytes(kept)));
        }
    }
    if let Some(ping) = one.ping_ms {
        fact("ping", format!("answered by the client after {ping} ms"));
    }
    if one.pongs_missed > 0 {
        fact(
            "pongs",
            format!("the backend left {} pings unanswered", one.pongs_missed),
        );
    }
}

/// Why a connection is where it is, or how and why it ended: a sentence.
#[must_use]
pub fn reason(one: &Connection) -> String {
    let which = match one.session {
        Some(session) => format!("connection {} (session {session})", one.number),
        None => format!("connection {}", one.number),
    };
    let to = one
        .backend
        .as_deref()
        .map_or_else(String::new, |backend| format!(" for backend {}", plain(backend)));
    match &one.end {
        Some(end) => format!(
            "{which}{to} ended {} ago, after {} as {}: {}\n",
            spoken(end.ago_ms),
            spoken(end.after_ms),
            end.from,
            ended(end)
        ),
        None => format!(
            "{which}{to} is {} for {}: {}\n",
            one.state,
            spoken(one.since_ms),
            state(one)
        ),
    }
}

/// Whether it waits with a 101 of greenroom's own.
fn is_accepted(one: &Connection) -> bool {
    one.accepted_ms.is_some() && matches!(one.state.as_str(), "held" | "dialing")
}

fn state(one: &Connection) -> String {
    let what = match one.state.as_str() {
        "opening" => "the head of its next request is not complete",
        "http" => "its plain request is being served",
        "held" => {
            if let Some(why) = &one.waits_for {
                let accepted = if is_accepted(one) {
                    ", with a 101 of greenroom's own"
                } else {
                    ""
                };
                return format!("it waits for its backend{accepted}: {}", plain(why));
            }
            return format!(
                "it waits for its backend{}, `greenroom status{}` says for what",
                if is_accepted(one) {
                    ", with a 101 of greenroom's own"
                } else {
                    ""
                },
                one.backend
                    .as_deref()
                    .map_or_else(String::new, |backend| format!(" {}", plain(backend)))
            );
        }
        "dialing" => "its request is with the backend, which has not answered, or whose answer is still on trial",
        "relaying" => "both sides are open",
        "parked" => "its backend is lost, and it waits for the next",
        "closing" => "a Close or a refusal is on its way",
        _ => "nothing is known of such a state",
    };
    what.to_owned()
}

fn ended(end: &End) -> String {
    let who = match end.cause.as_str() {
        "left_opening" => "the client left before its request was whole",
        "left_held" => "the client left while it waited",
        "refused" => "greenroom refused it",
        "served" => "its plain requests were answered",
        "passed_on" => "the backend answered with something else than a WebSocket",
        "client" => "the client ended it",
        "client_lost" => "the client's connection was lost",
        "backend" => "the backend ended it",
        "backend_refused" => "the backend refused the handshake, after greenroom had accepted the client",
        "backend_lost" => "the backend was lost",
        "lost_mid_frame" => "it was cut inside a large frame, where no Close can stand",
        "client_violation" => "the client broke the protocol",
        "backend_violation" => "the backend broke the protocol",
        "drained" => "it was drained, as greenroom was stopping or somebody asked for it",
        "admin" => "somebody closed it through the admin API",
        "idle" => "nothing went to or fro for too long",
        "lifetime" => "it was open as long as one may be",
        "slow" => "the client took too little of what was sent to it",
        "limit" => "the client sent more than it may",
        "replaced" => "a newer connection of its user took its place",
        "timed_out" => "a limit of time was reached",
        _ => "a fault of greenroom itself; please report it",
    };
    let mut said = format!("{who} ({}", end.cause);
    if let Some(refusal) = &end.refusal {
        let _ = write!(said, ", {}", plain(refusal));
    }
    said.push(')');
    if let Some(detail) = &end.detail {
        let _ = write!(said, ": {}", plain(detail));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Connection {
        Connection {
            number: 12,
            session: Some(7),
            address: [10, 0, 0, 1].into(),
            state: "held".into(),
            since_ms: 1_500,
            age_ms: 2_000,
            accepted_ms: None,
            backend: Some("app".into()),
            route: Some("/".into()),
            path: Some("/ws\u{1b}[2J".into()),
            user: None,
            tags: Vec::new(),
            dials: 1,
            generation: 2,
            bytes_up: 1_536,
            messages_up: 3,
            bytes_down: 0,
            messages_down: 0,
            bytes_own: 0,
            messages_own: 0,
            buffered_up: 0,
            buffered_down: 70_000,
            ping_ms: Some(12),
            pongs_missed: 2,
            waits_for: None,
            end: None,
        }
    }

    #[test]
    fn a_line_and_a_screen_and_a_sentence() {
        let found = Connections {
            connections: vec![one()],
            total: 3,
        };
        insta::assert_snapshot!(table(&found));
        insta::assert_snapshot!(connection(&one()));
        let mut known = one();
        (known.user, known.tags) = (Some("ann".into()), vec!["plan=free".into(), "x-tenant=acme".into()]);
        let of_ann = Connections {
            connections: vec![known.clone(), one()],
            total: 2,
        };
        insta::assert_snapshot!(table(&of_ann));
        let screen = connection(&known);
        assert!(screen.contains("user        ann\n"), "{screen}");
        assert!(screen.contains("tags        plan=free, x-tenant=acme\n"), "{screen}");
        assert_eq!(
            reason(&one()),
            "connection 12 (session 7) for backend app is held for 1.5 s: it waits for its backend, `greenroom status app` says for what\n"
        );
    }

    #[test]
    fn every_cause_and_every_state_has_its_sentence() {
        use greenroom_core::event::{CloseCause, State};
        for cause in CloseCause::ALL.iter().filter(|cause| **cause != CloseCause::Silent) {
            let mut over = one();
            over.end = Some(End {
                cause: cause.word().into(),
                refusal: None,
                detail: Some("why".into()),
                from: "relaying".into(),
                after_ms: 10,
                ago_ms: 20,
            });
            let said = reason(&over);
            assert_eq!(
                said.contains("please report it"),
                *cause == CloseCause::Internal,
                "{said}"
            );
            assert!(said.ends_with(&format!("({cause}): why\n")), "{said}");
        }
        for state in State::ALL.iter().filter(|state| **state != State::Closed) {
            let mut here = one();
            here.state = state.word().into();
            assert!(!reason(&here).contains("nothing is known"), "{state}");
        }
    }
}
