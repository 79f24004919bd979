//! The log as a story: sentences on a terminal.
//!
//! Hundreds of clients that come, wait and go in at once are one sentence each
//! ("200 clients wait"), not hundreds: who waits is told when the count has
//! doubled, who was let in when the crowd is through or something else happens.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::Event;

/// One story for each backend, where there are several, and one for the house.
#[derive(Debug, Default)]
pub(super) struct Stories(BTreeMap<Option<Arc<str>>, Story>);

impl Stories {
    /// Adds the sentence for an event of a backend, if it deserves one.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>, at: f64, backend: Option<&Arc<str>>, event: &Event) {
        let story = self.0.entry(backend.cloned()).or_default();
        story.tell(&mut Line { out, at, backend }, event);
    }

    /// Tells how many were let in since it was told last.
    pub(super) fn pause(&mut self, out: &mut Vec<u8>, at: f64) {
        for (backend, story) in &mut self.0 {
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
                    let (clients, wait) = if *count == 1 {
                        ("client", "waits")
                    } else {
                        ("clients", "wait")
                    };
                    line.write(&format!("{count} {clients} {wait} at the gate"));
                }
            }
            Event::Released { held_ms, .. } => {
                self.released += 1;
                self.longest_ms = self.longest_ms.max(*held_ms);
                self.held_told = 0;
            }
            Event::Closed { detail, cause, .. } => {
                if let Some(detail) = detail {
                    line.write(&format!("a connection was closed ({cause}): {detail}"));
                }
            }
            Event::Requeued { .. } => {}
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
        let clients = if n == 1 { "client" } else { "clients" };
        line.write(&format!(
            "{n} {clients} let in (longest hold {:.1} s)",
            ms as f64 / 1000.0
        ));
    }
}

fn sentence(event: &Event) -> Option<String> {
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
        Event::Refused {
            refusal,
            status,
            detail: Some(detail),
            ..
        } => {
            format!("refused a client with {status} ({refusal}): {detail}")
        }
        Event::Refused {
            refusal,
            status,
            detail: None,
            ..
        } => format!("refused a client with {status} ({refusal})"),
        Event::Exited {
            code,
            restart_ms: Some(ms),
            ..
        } => {
            format!("the backend ended with code {code}; it is started again in {ms} ms, clients wait")
        }
        Event::Exited {
            code, restart_ms: None, ..
        } => format!("the backend ended with code {code}"),
        Event::Warning { message } => message.clone(),
        Event::Fatal { code, message } => format!("{message} (exit code {code})"),
        Event::Stopping { signal, held, relayed } => {
            format!("stopping on {signal}: {held} waiting are refused, {relayed} relayed are closed with 1001")
        }
        Event::Stopped { code, accepted, .. } => format!("stopped with code {code} after {accepted} connections"),
        Event::Held { .. } | Event::Released { .. } | Event::Closed { .. } | Event::Requeued { .. } => return None,
    })
}

/// How far the backend's start has come, and what it lacks.
fn of_readiness(event: &Event) -> Option<String> {
    Some(match event {
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
