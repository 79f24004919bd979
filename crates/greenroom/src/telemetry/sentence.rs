//! The log as a story: sentences on a terminal.
//!
//! Hundreds of clients that come, wait and go in at once are one sentence each
//! ("200 clients wait"), not hundreds: who waits is told when the count has
//! doubled, who was let in when the crowd is through or something else happens.

use std::io::Write;

use super::Event;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The count of waiting clients that was told last.
    held_told: usize,
    released: u64,
    longest_ms: u64,
}

impl Story {
    /// Adds the sentence for an event, if it deserves one.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>, at: f64, event: &Event) {
        match event {
            Event::Held { count, .. } => {
                if *count == 1 || *count >= self.held_told.saturating_mul(2) {
                    self.held_told = *count;
                    let (clients, wait) = if *count == 1 {
                        ("client", "waits")
                    } else {
                        ("clients", "wait")
                    };
                    line(out, at, &format!("{count} {clients} {wait} at the gate"));
                }
            }
            Event::Released { held_ms, .. } => {
                self.released += 1;
                self.longest_ms = self.longest_ms.max(*held_ms);
                self.held_told = 0;
            }
            Event::Closed { detail, cause, .. } => {
                if let Some(detail) = detail {
                    line(out, at, &format!("a connection was closed ({cause}): {detail}"));
                }
            }
            Event::Requeued { .. } => {}
            other => {
                self.pause(out, at);
                if let Some(sentence) = sentence(other) {
                    line(out, at, &sentence);
                }
            }
        }
    }

    /// Tells how many were let in since it was told last.
    pub(super) fn pause(&mut self, out: &mut Vec<u8>, at: f64) {
        if self.released > 0 {
            self.tell_released(out, at);
        }
        self.released = 0;
        self.longest_ms = 0;
    }

    fn tell_released(&self, out: &mut Vec<u8>, at: f64) {
        let (n, ms) = (self.released, self.longest_ms);
        let clients = if n == 1 { "client" } else { "clients" };
        line(
            out,
            at,
            &format!("{n} {clients} let in (longest hold {:.1} s)", ms as f64 / 1000.0),
        );
    }
}

fn line(out: &mut Vec<u8>, at: f64, sentence: &str) {
    let _ = writeln!(out, "greenroom {at:8.3}s  {sentence}");
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
        Event::Phase {
            phase,
            status: Some(status),
        } => format!("the backend is {phase}: {status}"),
        Event::Phase { phase, status: None } => format!("the backend is {phase}"),
        Event::Ready { by, held: 0, after } => format!("the backend is ready after {after:.3} s ({by})"),
        Event::Ready { by, held, after } => {
            format!("the backend is ready after {after:.3} s ({by}); {held} waiting are let in, in order")
        }
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
