//! The log as a story: sentences on a terminal.
//!
//! Hundreds of clients that come, wait and go in at once are one sentence each
//! ("200 clients wait"), not hundreds: who waits is told when the count has
//! doubled, who was let in when the crowd is through or something else happens.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use greenroom_core::event::CloseCause;

use super::Event;
use crate::config::units::count as counted;

/// One story for each backend, where there are several, and one for the house.
#[derive(Debug, Default)]
pub(super) struct Stories {
    of: BTreeMap<Option<Arc<str>>, Story>,
    /// greenroom ends for a reason that was told: what follows from it need not be.
    fatal: bool,
}

impl Stories {
    /// Adds the sentence for an event of a backend, if it deserves one.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>, at: f64, backend: Option<&Arc<str>>, event: &Event) {
        let follows = matches!(
            event,
            Event::Stopping { .. } | Event::Gate { .. } | Event::StartFailed { .. } | Event::Exited { .. }
        );
        if self.fatal && follows {
            return;
        }
        self.fatal |= matches!(event, Event::Fatal { .. });
        let story = self.of.entry(backend.cloned()).or_default();
        story.tell(&mut Line { out, at, backend }, event);
    }

    /// Tells how many were let in since it was told last.
    pub(super) fn pause(&mut self, out: &mut Vec<u8>, at: f64) {
        for (backend, story) in &mut self.of {
            let backend = backend.as_ref();
            story.pause(&mut Line { out, at, backend });
        }
    }
}

/// Where the next sentence goes.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    at: f64,
    backend: Option<&'a Arc<str>>,
}

impl Line<'_> {
    fn write(&mut self, sentence: &str) {
        // Writing to a Vec cannot fail.
        let _ = match self.backend {
            Some(backend) => writeln!(self.out, "greenroom {:8.3}s  {backend}: {sentence}", self.at),
            None => writeln!(self.out, "greenroom {:8.3}s  {sentence}", self.at),
        };
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Story {
    /// The count of waiting clients that was told last.
    held_told: usize,
    released: u64,
    longest_ms: u64,
}

impl Story {
    /// Adds the sentence for an event, if it deserves one.
    fn tell(&mut self, line: &mut Line<'_>, event: &Event) {
        match event {
            Event::Held { count, .. } => {
                if *count == 1 || *count >= self.held_told.saturating_mul(2) {
                    self.held_told = *count;
                    let wait = if *count == 1 { "waits" } else { "wait" };
                    line.write(&format!("{} {wait} at the gate", counted(*count, "client")));
                }
            }
            Event::Released { held_ms, waited, .. } => {
                self.released += u64::from(*waited);
                self.longest_ms = self.longest_ms.max(*held_ms);
                self.held_told = 0;
            }
            // Lost backends are told of once for all of their clients.
            Event::Closed {
                detail,
                cause,
                connection,
                ..
            } if *cause != CloseCause::BackendLost.word() => {
                if let Some(detail) = detail {
                    line.write(&format!("connection {connection} was closed ({cause}): {detail}"));
                }
            }
            Event::Closed { .. } => {}
            Event::Requeued { .. } | Event::Opened { .. } | Event::Relaying { .. } | Event::Missed { .. } => {}
            other => {
                self.pause(line);
                if let Some(sentence) = sentence(other) {
                    line.write(&sentence);
                }
            }
        }
    }

    /// Tells how many were let in since it was told last.
    fn pause(&mut self, line: &mut Line<'_>) {
        if self.released > 0 {
            self.tell_released(line);
        }
        self.released = 0;
        self.longest_ms = 0;
    }

    fn tell_released(&self, line: &mut Line<'_>) {
        let (n, ms) = (self.released, self.longest_ms);
        let clients = counted(n, "client");
        line.write(&format!("{clients} let in (longest hold {:.1} s)", ms as f64 / 1000.0));
    }
}

pub(super) fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::Listening {
            address,
            backend,
            held_max,
            relayed_max,
        } => format!(
            "listening on {address} for the backend {backend}; up to {held_max} clients can wait and {relayed_max} be relayed"
        ),
        Event::Started { pid, generation: 1 } => format!("started the backend (process {pid})"),
        Event::Started { pid, generation } => format!("started the backend again (process {pid}, life {generation})"),
        Event::Phase { .. }
        | Event::StartFailed { .. }
        | Event::Check { .. }
        | Event::Degraded { .. }
        | Event::Probe { .. }
        | Event::Ready { .. } => return of_readiness(event),
        Event::Gate { gate, why, .. } => format!("the gate is {gate}: {why}"),
        Event::Refused { .. } => refused(event)?,
        Event::Exited {
            code,
            signal,
            restart_ms,
            ..
        } => {
            let how = match signal {
                Some(signal) => format!("the backend was killed by signal {}", named(*signal)),
                None => format!("the backend ended with code {code}"),
            };
            match restart_ms {
                Some(ms) => format!("{how}; it is started again in {ms} ms"),
                None => how,
            }
        }
        Event::RelaysLost { count: 1 } => "a relayed client has lost the backend: it is closed with 1012".into(),
        Event::RelaysLost { count } => {
            format!("{count} relayed clients have lost the backend: they are closed with 1012")
        }
        Event::Admin { .. } => administered(event)?,
        Event::Warning { message } => message.clone(),
        Event::Fatal { code, message } => format!("{message} (exit code {code})"),
        Event::Stopping { .. } => stopping(event)?,
        Event::Draining { .. } | Event::Drained { .. } => return of_drain(event),
        Event::Stopped { code, accepted, .. } => {
            format!("stopped with code {code} after {}", counted(*accepted, "connection"))
        }
        Event::Reloaded(reloaded) => reloaded.sentence(),
        Event::ReloadFailed(failed) => failed.sentence(),
        Event::Opened { .. }
        | Event::Relaying { .. }
        | Event::Missed { .. }
        | Event::Held { .. }
        | Event::Accepted { .. }
        | Event::Released { .. }
        | Event::Closed { .. }
        | Event::Requeued { .. } => return None,
    })
}

/// Whom a stop meets.
fn stopping(event: &Event) -> Option<String> {
    let Event::Stopping { signal, held, relayed } = event else {
        return None;
    };
    let are = |count: usize, what: &str, end: &str| {
        let is = if count == 1 { "is" } else { "are" };
        format!("{} {is} {end}", counted(count, what))
    };
    let (held, relayed) = (
        are(*held, "waiting client", "refused"),
        are(*relayed, "relayed client", "closed"),
    );
    Some(format!("stopping on {signal}: {held}, {relayed}"))
}

/// How a drain by command begins and ends.
fn of_drain(event: &Event) -> Option<String> {
    Some(match event {
        Event::Draining {
            drain,
            kind,
            of,
            connections,
            within,
        } => {
            let are = if *connections == 1 { "is" } else { "are" };
            let connections = counted(*connections, "connection");
            format!("drain {drain} ({kind}) of {of}: {connections} {are} closed within {within:.1} s")
        }
        Event::Drained {
            drain,
            kind,
            told,
            closed,
            cancelled,
        } => {
            let how = if *cancelled { "was ended early" } else { "is over" };
            format!("drain {drain} ({kind}) {how}: {told} were told to close, {closed} are closed")
        }
        _ => return None,
    })
}

/// Who was sent away, what it asked for, and why.
fn refused(event: &Event) -> Option<String> {
    let Event::Refused {
        session,
        refusal,
        status,
        code,
        host,
        path,
        detail,
        ..
    } = event
    else {
        return None;
    };
    let who = session.map_or_else(|| "a client".into(), |session| format!("session {session}"));
    let with = match (status, code) {
        (_, Some(code)) => format!("Close {code}"),
        (Some(status), None) => status.to_string(),
        (None, None) => "no word".to_owned(),
    };
    let mut sentence = format!("refused {who} with {with} ({refusal})");
    let (host, path) = (host.as_deref().unwrap_or(""), path.as_deref().unwrap_or(""));
    if !(host.is_empty() && path.is_empty()) {
        sentence.push_str(&format!(" at {host}{path}"));
    }
    if let Some(detail) = detail {
        sentence.push_str(&format!(": {detail}"));
    }
    Some(sentence)
}

/// What somebody has changed, and who it was.
fn administered(event: &Event) -> Option<String> {
    let Event::Admin {
        action,
        by,
        what,
        count,
        result,
        detail,
    } = event
    else {
        return None;
    };
    let mut sentence = format!("admin: {action} {what}");
    if let Some(count) = count {
        sentence.push_str(&format!(" ({count})"));
    }
    sentence.push_str(&format!(" {result}, by {by}"));
    if let Some(detail) = detail {
        sentence.push_str(&format!(": {detail}"));
    }
    Some(sentence)
}

/// A signal by its number, and its name where it has one that people know.
fn named(signal: i32) -> String {
    let name = match signal {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        15 => "TERM",
        24 => "XCPU",
        31 => "SYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

/// How far the backend's start has come, and what it lacks.
fn of_readiness(event: &Event) -> Option<String> {
    Some(match event {
        Event::Phase {
            phase,
            status: Some(status),
        } if phase == "status" => format!("the backend says: {status}"),
        Event::Phase {
            phase,
            status: Some(status),
        } => format!("the backend is {phase}: {status}"),
        Event::Phase { phase, status: None } if matches!(phase.as_str(), "stopping" | "reloading") => {
            format!("the backend is {phase}")
        }
        Event::Phase { phase, status: None } => format!("phase {phase} is finished"),
        Event::StartFailed {
            phase: Some(phase),
            reason,
        } => format!("the start has failed in the phase {phase}: {reason}"),
        Event::StartFailed { phase: None, reason } => format!("the start has failed: {reason}"),
        Event::Check {
            check,
            state,
            reason: Some(reason),
            ..
        } => format!("the check {check} is {state}: {reason}"),
        Event::Check {
            check,
            state,
            reason: None,
            ..
        } => format!("the check {check} is {state}"),
        Event::Degraded { level: "none", .. } => "nothing is missing of the backend any more".into(),
        Event::Degraded { level, missing } => {
            format!("the backend is degraded ({level}): {} missing", missing.join(", "))
        }
        Event::Probe { reason, .. } => format!("not ready yet: {reason}"),
        Event::Ready { by, held: 0, after } => format!("the backend is ready after {after:.3} s ({by})"),
        Event::Ready { by, held, after } => {
            format!("the backend is ready after {after:.3} s ({by}); {held} waiting are let in, in order")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[Event]) -> Vec<String> {
        let (mut stories, mut out) = (Stories::default(), Vec::new());
        for event in events {
            stories.tell(&mut out, 1.0, None, event);
        }
        stories.pause(&mut out, 1.0);
        let text = String::from_utf8(out).unwrap();
        let sentence = |line: &str| line.split_once("s  ").unwrap().1.to_owned();
        text.lines().map(sentence).collect()
    }

    fn released(waited: bool) -> Event {
        Event::Released {
            connection: 1,
            session: 1,
            attempt: 1,
            held_ms: 3,
            canary: false,
            waited,
        }
    }

    fn exited(code: i32, signal: Option<i32>, restart_ms: Option<u64>) -> Event {
        Event::Exited {
            generation: 1,
            code,
            signal,
            reason: None,
            restart_ms,
        }
    }

    #[test]
    fn who_did_not_have_to_wait_is_not_told_of() {
        assert!(told(&[released(false), released(false)]).is_empty());
        assert_eq!(
            told(&[released(false), released(true)]),
            ["1 client let in (longest hold 0.0 s)"]
        );
    }

    #[test]
    fn an_end_by_a_signal_names_it() {
        let ends = [
            exited(137, Some(9), Some(500)),
            exited(3, None, None),
            exited(190, Some(62), None),
        ];
        assert_eq!(
            told(&ends),
            [
                "the backend was killed by signal 9 (KILL); it is started again in 500 ms",
                "the backend ended with code 3",
                "the backend was killed by signal 62",
            ]
        );
    }

    #[test]
    fn a_refusal_says_who_what_and_why() {
        let refused = |session, host: Option<&str>, detail: Option<&str>| Event::Refused {
            connection: 9,
            session,
            refusal: "no_route",
            status: Some(404),
            code: None,
            host: host.map(str::to_owned),
            path: host.map(|_| "/ws".to_owned()),
            detail: detail.map(str::to_owned),
        };
        assert_eq!(
            told(&[
                refused(Some(7), Some("example.test"), Some("why")),
                refused(None, Some("example.test"), None),
                refused(None, None, None),
            ]),
            [
                "refused session 7 with 404 (no_route) at example.test/ws: why",
                "refused a client with 404 (no_route) at example.test/ws",
                "refused a client with 404 (no_route)",
            ]
        );
    }

    #[test]
    fn a_change_says_what_to_what_and_by_whom() {
        let change = |count, result, detail: Option<&str>| Event::Admin {
            action: "close",
            by: "socket uid=1000 pid=7".into(),
            what: "backend=app".into(),
            count,
            result,
            detail: detail.map(str::to_owned),
        };
        assert_eq!(
            told(&[
                change(Some(3), "done", Some("code 1001")),
                change(None, "refused", Some("there is no backend \"ap\"")),
            ]),
            [
                "admin: close backend=app (3) done, by socket uid=1000 pid=7: code 1001",
                "admin: close backend=app refused, by socket uid=1000 pid=7: there is no backend \"ap\"",
            ]
        );
    }

    #[test]
    fn after_a_fatal_line_nothing_is_told_that_follows_from_it() {
        let fatal = Event::Fatal {
            code: 127,
            message: "cannot start `x`".into(),
        };
        let stopping = Event::Stopping {
            signal: "the child's end",
            held: 0,
            relayed: 0,
        };
        let gate = Event::Gate {
            gate: "shut",
            why: "greenroom stops",
            held: 0,
        };
        assert_eq!(
            told(&[fatal, exited(127, None, None), gate, stopping]),
            ["cannot start `x` (exit code 127)"]
        );
    }

    #[test]
    fn a_close_with_more_to_say_names_its_connection_and_those_of_a_lost_backend_are_told_once() {
        let closed = |cause: CloseCause| Event::Closed {
            connection: 17,
            session: None,
            cause: cause.word(),
            detail: Some("why".into()),
            lasted_ms: 9,
        };
        let told = told(&[closed(CloseCause::Limit), closed(CloseCause::BackendLost)]);
        assert_eq!(told, ["connection 17 was closed (limit): why"]);
    }

    #[test]
    fn one_of_something_is_no_plural() {
        let one = told(&[
            Event::Stopping {
                signal: "TERM",
                held: 1,
                relayed: 1,
            },
            Event::Draining {
                drain: 3,
                kind: "evict",
                of: "all".into(),
                connections: 1,
                within: 2.0,
            },
        ]);
        assert_eq!(
            one,
            [
                "stopping on TERM: 1 waiting client is refused, 1 relayed client is closed",
                "drain 3 (evict) of all: 1 connection is closed within 2.0 s",
            ]
        );
    }

    #[test]
    fn lost_relays_are_one_sentence() {
        assert_eq!(
            told(&[Event::RelaysLost { count: 3 }]),
            ["3 relayed clients have lost the backend: they are closed with 1012"]
        );
    }
}
