//! `GET /metrics`: all that greenroom counts, for Prometheus and whoever reads its formats (docs/metrics.md).
//!
//! Gathered anew for each scrape from the owner tasks, the books and the kernel: nothing keeps a copy, and nothing on
//! the way of a connection counts twice. No label comes from a client: they are names of the configuration and words
//! of greenroom's own, so their number is bounded by the configuration. A scrape takes no lock that a relay takes; it
//! holds a part of the books for as long as it takes to add that part up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use greenroom_core::event::State;

use super::Asked;
use super::counted::{Here, Seen};
use super::exposition::{Format, Kind, Page};
use super::process;
use crate::config;
use crate::driver::{Gateway, Measured, WaitEnd};
use crate::registry::Registry;
use crate::trace::Tracer;

/// Requests at the doors of the admin API, by door and class of the answer's status.
#[derive(Debug, Default)]
pub struct Requests([[AtomicU64; 5]; 2]);

/// A door of the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Socket,
    Address,
}

const DOORS: [(Door, &str); 2] = [(Door::Socket, "socket"), (Door::Address, "address")];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts each answer at this door.
pub(super) fn counted(router: Router, asked: &Arc<Asked>, door: Door) -> Router {
    let asked = Arc::clone(asked);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let asked = Arc::clone(&asked);
        async move {
            let answer = next.run(request).await;
            let class = usize::from(answer.status().as_u16() / 100).saturating_sub(1);
            if let Some(count) = asked.requests.0[door as usize].get(class) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            answer
        }
    }))
}

/// The text of a scrape.
pub(super) async fn text(asked: &Asked, format: Format) -> String {
    let (house, seen) = Seen::all(asked).await;
    let mut page = Page::new(format);
    of_greenroom(&mut page, asked);
    of_connections(&mut page, &asked.registry, &house.config);
    of_readiness(&mut page, &seen);
    of_checks(&mut page, &seen);
    of_starts(&mut page, &seen);
    of_the_gate(&mut page, &seen, &house.config);
    of_dials(&mut page, &seen);
    of_traffic(&mut page, &seen);
    process::write(&mut page);
    page.end()
}

/// Those that are in the configuration, and how each stands.
fn standing(seen: &[Seen]) -> impl Iterator<Item = (&str, &Measured)> {
    let all = seen.iter();
    all.filter_map(|each| Some((&*each.name, each.standing.as_deref()?)))
}

/// Who is there, by the names of their backends, old ones too.
fn here(seen: &[Seen]) -> impl Iterator<Item = (&str, &Here)> {
    let all = seen.iter();
    all.filter_map(|each| Some((&*each.name, each.here.as_ref()?)))
}

fn of_greenroom(page: &mut Page, asked: &Asked) {
    page.family(Kind::Info, "greenroom_build", "Which greenroom this is")
        .is(&[("version", env!("CARGO_PKG_VERSION"))], true);
    page.family(Kind::Gauge, "greenroom_stopping", "1 while greenroom stops")
        .is(&[], asked.drain.borrow().is_some());
    let help = "Requests at the admin socket and address, by class of the status that they got";
    let mut requests = page.family(Kind::Counter, "greenroom_admin_requests", help);
    for (door, name) in DOORS {
        for (class, count) in CLASSES.iter().zip(&asked.requests.0[door as usize]) {
            requests.is(&[("door", name), ("class", class)], count.load(Ordering::Relaxed));
        }
    }
    let help = "Spans of traces, by what became of them";
    let mut spans = page.family(Kind::Counter, "greenroom_trace_spans", help);
    let traced = asked.registry.tracer().map(Tracer::counts);
    for (outcome, count) in traced.unwrap_or(Tracer::NO_COUNTS) {
        spans.is(&[("outcome", outcome)], count);
    }
    let help = "Log lines that were dropped because standard error was too slow";
    page.family(Kind::Counter, "greenroom_log_lines_dropped", help)
        .is(&[], asked.log.dropped());
}

fn of_connections(page: &mut Page, books: &Registry, config: &config::Config) {
    let mut connections = page.family(
        Kind::Gauge,
        "greenroom_connections",
        "Open connections of clients, by state",
    );
    for state in State::ALL.iter().filter(|state| **state != State::Closed) {
        connections.is(&[("state", state.word())], books.count(*state));
    }
    let help = "Connections of clients that may be open at one time, by configuration and descriptors";
    page.family(Kind::Gauge, "greenroom_connections_limit", help)
        .is(&[], books.clients_max());
    page.family(
        Kind::Counter,
        "greenroom_accepted",
        "Connections of clients that were taken",
    )
    .is(&[], books.accepted());
    let mut closed = page.family(
        Kind::Counter,
        "greenroom_closed",
        "Connections of clients that are over, by cause",
    );
    for (cause, count) in books.closed() {
        closed.is(&[("cause", cause)], count);
    }
    let mut refused = page.family(
        Kind::Counter,
        "greenroom_refused",
        "Clients and requests that were refused, by why",
    );
    for (refusal, count) in books.refused() {
        refused.is(&[("refusal", refusal)], count);
    }
    let (bytes, messages) = books.dropped();
    let help =
        "Bytes of messages that relayed clients sent to nobody, as their backend was lost or their end had begun";
    page.family(Kind::Counter, "greenroom_dropped_bytes", help)
        .is(&[], bytes);
    let help = "Messages that relayed clients sent to nobody, as their backend was lost or their end had begun";
    page.family(Kind::Counter, "greenroom_dropped_messages", help)
        .is(&[], messages);
    let help = "Memory for what accepted clients have sent before their backends were ready";
    page.family(Kind::Gauge, "greenroom_early_bytes", help)
        .is(&[], books.early.used());
    page.family(
        Kind::Gauge,
        "greenroom_early_limit_bytes",
        "Memory that what accepted clients send before their backends are ready may take",
    )
    .is(&[], config.limits.early_budget);
    let help = "Cookies of 101 answers that clients never saw, as they had an earlier one of greenroom";
    page.family(Kind::Counter, "greenroom_cookies_lost", help)
        .is(&[], books.cookies_lost());
}

fn of_readiness(page: &mut Page, seen: &[Seen]) {
    let help = "1 while clients without a wish of their own are let in to the backend";
    let mut ready = page.family(Kind::Gauge, "greenroom_backend_ready", help);
    for (name, each) in standing(seen) {
        ready.is(&[("backend", name)], each.lets_in);
    }
    let help = "1 for the state that the gate of the backend is in, 0 for the others";
    let mut gate = page.family(Kind::Gauge, "greenroom_gate", help);
    for (name, each) in standing(seen) {
        for state in Gateway::ALL {
            let labels = [("backend", name), ("state", state.word())];
            gate.is(&labels, each.status.gate == state.word());
        }
    }
    let help = "1 while the gate of the backend is set by hand, by somebody or by a drain";
    let mut by_hand = page.family(Kind::Gauge, "greenroom_gate_by_hand", help);
    for (name, each) in standing(seen) {
        by_hand.is(&[("backend", name)], each.status.by_hand.is_some());
    }
    let help = "How much is missing of its optional checks, from 0 (none) over 1 (minimal), 2 (moderate) and 3 (severe) to 4 (emergency)";
    let mut level = page.family(Kind::Gauge, "greenroom_backend_degraded_level", help);
    let levels = ["none", "minimal", "moderate", "severe", "emergency"];
    for (name, each) in standing(seen) {
        let place = levels.iter().position(|level| *level == each.status.level);
        level.is(&[("backend", name)], place.unwrap_or(0));
    }
    let help = "Which life of the backend's process this is, 0 where greenroom starts none";
    let mut generation = page.family(Kind::Gauge, "greenroom_backend_generation", help);
    for (name, each) in standing(seen) {
        generation.is(&[("backend", name)], each.status.generation);
    }
    let help = "How often greenroom has started the backend's process again";
    let mut restarts = page.family(Kind::Counter, "greenroom_backend_restarts", help);
    for (name, each) in standing(seen) {
        let lives = each.status.generation;
        restarts.is(&[("backend", name)], lives.saturating_sub(1));
    }
}

fn of_checks(page: &mut Page, seen: &[Seen]) {
    let mut good = page.family(Kind::Gauge, "greenroom_check_good", "1 while the check is good");
    for (name, each) in standing(seen) {
        for check in &each.status.checks {
            let critical = if check.critical { "true" } else { "false" };
            let labels = [
                ("backend", name),
                ("check", check.check.as_str()),
                ("critical", critical),
            ];
            good.is(&labels, check.state == "good");
        }
    }
}

fn of_starts(page: &mut Page, seen: &[Seen]) {
    let help = "How long the current phase of the backend's start has lasted";
    let mut current = page.family(Kind::Gauge, "greenroom_phase_current_seconds", help);
    for (name, each) in standing(seen) {
        let is_current = |phase: &&crate::driver::PhaseStatus| phase.state == "current";
        for phase in each.status.phases.iter().filter(is_current) {
            let labels = [("backend", name), ("phase", phase.phase.as_str())];
            current.is(&labels, seconds(phase.since_ms.unwrap_or(0)));
        }
    }
    let help = "How long the phase took when it was reported last";
    let mut last = page.family(Kind::Gauge, "greenroom_phase_last_seconds", help);
    for (name, each) in standing(seen) {
        for phase in &each.status.phases {
            let labels = [("backend", name), ("phase", phase.phase.as_str())];
            if let Some(ms) = phase.took_ms {
                last.is(&labels, seconds(ms));
            }
        }
    }
    let help = "How long the starts of the backend took that greenroom has seen, until it was ready";
    let mut starts = page.family(Kind::Histogram, "greenroom_start_seconds", help);
    for each in seen {
        starts.observed(&[("backend", &*each.name)], &each.tally.starts);
    }
    let help = "What is usual by the last starts, also of earlier lives of greenroom, by percentile";
    let mut usual = page.family(Kind::Gauge, "greenroom_start_usual_seconds", help);
    for (name, each) in standing(seen) {
        if let Some(known) = &each.status.starts {
            for (percentile, ms) in [("50", known.p50_ms), ("90", known.p90_ms)] {
                usual.is(&[("backend", name), ("percentile", percentile)], seconds(ms));
            }
        }
    }
    let help = "Starts of the backend that have failed";
    let mut failures = page.family(Kind::Counter, "greenroom_start_failures", help);
    for each in seen {
        failures.is(&[("backend", &*each.name)], each.tally.start_failures);
    }
}

fn of_the_gate(page: &mut Page, seen: &[Seen], config: &config::Config) {
    let mut held = page.family(Kind::Gauge, "greenroom_held", "Clients that wait at the gate");
    for (name, here) in here(seen) {
        for (kind, count) in [("websocket", here.websocket), ("http", here.http)] {
            held.is(&[("backend", name), ("kind", kind)], count);
        }
    }
    let mut limit = page.family(Kind::Gauge, "greenroom_held_limit", "How many may wait at the gate");
    for backend in &config.backends {
        for (kind, most) in [("websocket", backend.held_max), ("http", backend.http_held_max)] {
            limit.is(&[("backend", backend.name.as_str()), ("kind", kind)], most);
        }
    }
    let help = "For how long the first of those who wait has waited";
    let mut oldest = page.family(Kind::Gauge, "greenroom_held_oldest_seconds", help);
    for (name, here) in here(seen) {
        oldest.is(&[("backend", name)], seconds(here.oldest_ms));
    }
    let help = "Sessions that had to wait at the gate";
    let mut holds = page.family(Kind::Counter, "greenroom_holds", help);
    for each in seen {
        holds.is(&[("backend", &*each.name)], each.tally.holds);
    }
    let help =
        "How long each session was at the gate, from its arrival until it was let in, was refused, or its client left";
    let mut waits = page.family(Kind::Histogram, "greenroom_wait_seconds", help);
    for each in seen {
        for end in WaitEnd::ALL {
            let labels = [("backend", &*each.name), ("outcome", end.word())];
            waits.observed(&labels, each.tally.waits(end));
        }
    }
    let help = "Memory for what accepted clients of the backend have sent before it was ready";
    let mut early = page.family(Kind::Gauge, "greenroom_backend_early_bytes", help);
    for (name, here) in here(seen) {
        early.is(&[("backend", name)], here.early);
    }
}

fn of_dials(page: &mut Page, seen: &[Seen]) {
    let help = "Sessions whose head was written to the backend, each time that it was";
    let mut releases = page.family(Kind::Counter, "greenroom_releases", help);
    for each in seen {
        releases.is(&[("backend", &*each.name)], each.tally.releases);
    }
    let help = "Sessions whose head was written to the backend alone, to try the way";
    let mut canaries = page.family(Kind::Counter, "greenroom_canaries", help);
    for each in seen {
        canaries.is(&[("backend", &*each.name)], each.tally.canaries);
    }
    let help = "Connections to the backend that the gate has ordered, by the first that is known of their end";
    let mut dials = page.family(Kind::Counter, "greenroom_dials", help);
    for each in seen {
        for (answer, count) in &each.tally.dials {
            dials.is(&[("backend", &*each.name), ("answer", answer)], *count);
        }
    }
    let help = "Sessions that went back to their places unseen by their clients, by what the backend did";
    let mut requeues = page.family(Kind::Counter, "greenroom_requeues", help);
    for each in seen {
        for (answer, count) in &each.tally.requeues {
            requeues.is(&[("backend", &*each.name), ("answer", answer)], *count);
        }
    }
    let mut dialing = page.family(
        Kind::Gauge,
        "greenroom_dialing",
        "Sessions that are dialled and not let go of yet",
    );
    for (name, here) in here(seen) {
        dialing.is(&[("backend", name)], here.dialing);
    }
    let help = "Dials that may be out without an answer, as the backend bears them";
    let mut window = page.family(Kind::Gauge, "greenroom_dial_window", help);
    for (name, each) in standing(seen) {
        window.is(&[("backend", name)], each.dial_window);
    }
}

fn of_traffic(page: &mut Page, seen: &[Seen]) {
    let help = "Bytes of WebSocket connections, as they were on the wire, by who sent them";
    let mut bytes = page.family(Kind::Counter, "greenroom_relayed_bytes", help);
    for each in seen {
        let sum = &each.traffic;
        for (from, count) in [("client", sum.up.0), ("backend", sum.down.0)] {
            bytes.is(&[("backend", &*each.name), ("from", from)], count);
        }
    }
    let help = "Whole messages of WebSocket connections, by who sent them";
    let mut messages = page.family(Kind::Counter, "greenroom_relayed_messages", help);
    for each in seen {
        let sum = &each.traffic;
        for (from, count) in [("client", sum.up.1), ("backend", sum.down.1)] {
            messages.is(&[("backend", &*each.name), ("from", from)], count);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
