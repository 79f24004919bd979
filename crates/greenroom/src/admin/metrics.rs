//! `GET /metrics`: the same truth as `status`, and the close ledger, as OpenMetrics text.
//!
//! Gathered anew for each scrape from the owner tasks and the books: nothing keeps a copy, and
//! nothing on the way of a connection counts twice. No label comes from a client: they are names
//! of the configuration and words of greenroom's own, so their number is bounded by the configuration.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use greenroom_core::event::State;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::api::Report;
use crate::driver::Status;
use crate::registry;

type Number = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    backend: String,
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCheck {
    backend: String,
    check: String,
    critical: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    backend: String,
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuantile {
    backend: String,
    quantile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Word {
    word: String,
}

/// The text of a scrape.
#[must_use]
pub(super) fn text(report: &Report, books: &registry::Registry) -> String {
    let mut registry = Registry::with_prefix("greenroom");
    of_backends(&mut registry, &report.backends);
    of_starts(&mut registry, &report.backends);
    of_connections(&mut registry, books);
    let mut out = String::new();
    if let Err(error) = encode(&mut out, &registry) {
        // Writing to a String cannot fail.
        let _ = write!(out, "# {error}\n# EOF\n");
    }
    out
}

fn of_backends(registry: &mut Registry, backends: &[Status]) {
    let (ready, level, generation) = <(Family<Of, Gauge>, Family<Of, Gauge>, Family<Of, Gauge>)>::default();
    let (checks, held, oldest) = <(Family<OfCheck, Gauge>, Family<OfKind, Gauge>, Family<Of, Number>)>::default();
    for status in backends {
        let of = Of {
            backend: status.backend.clone(),
        };
        ready.get_or_create(&of).set((status.condition == "ready").into());
        let levels = ["none", "minimal", "moderate", "severe", "emergency"];
        let place = levels.iter().position(|level| *level == status.level).unwrap_or(0);
        level.get_or_create(&of).set(i64::try_from(place).unwrap_or(0));
        let life = i64::try_from(status.generation).unwrap_or(i64::MAX);
        generation.get_or_create(&of).set(life);
        for check in &status.checks {
            let of = OfCheck {
                backend: status.backend.clone(),
                check: check.check.clone(),
                critical: check.critical.to_string(),
            };
            checks.get_or_create(&of).set((check.state == "good").into());
        }
        for (kind, count) in [("websocket", status.held.websocket), ("http", status.held.http)] {
            let of = OfKind {
                backend: status.backend.clone(),
                kind: kind.into(),
            };
            held.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        oldest
            .get_or_create(&of)
            .set(seconds(status.held.oldest_ms.unwrap_or(0)));
    }
    registry.register("backend_ready", "1 while somebody may be let in to the backend", ready);
    let help = "How much is missing of its optional checks: 0 none, 1 minimal, 2 moderate, 3 severe, 4 emergency";
    registry.register("backend_degraded_level", help, level);
    registry.register(
        "backend_generation",
        "Which life of its process; 0 where greenroom starts none",
        generation,
    );
    registry.register("check_good", "1 while the check is good", checks);
    registry.register("held", "Clients that wait at the gate", held);
    let help = "For how long the first of them waits";
    registry.register_with_unit("held_oldest", help, Unit::Seconds, oldest);
}

fn of_starts(registry: &mut Registry, backends: &[Status]) {
    let (phase, starts) = <(Family<OfPhase, Number>, Family<OfQuantile, Number>)>::default();
    for status in backends {
        for current in status.phases.iter().filter(|phase| phase.state == "current") {
            let of = OfPhase {
                backend: status.backend.clone(),
                phase: current.phase.clone(),
            };
            phase.get_or_create(&of).set(seconds(current.since_ms.unwrap_or(0)));
        }
        for (quantile, ms) in status
            .starts
            .iter()
            .flat_map(|s| [("0.5", s.p50_ms), ("0.9", s.p90_ms)])
        {
            let of = OfQuantile {
                backend: status.backend.clone(),
                quantile: quantile.into(),
            };
            starts.get_or_create(&of).set(seconds(ms));
        }
    }
    registry.register_with_unit(
        "phase_current",
        "How long the current phase lasts",
        Unit::Seconds,
        phase,
    );
    registry.register_with_unit("start", "What past starts took, by quantile", Unit::Seconds, starts);
}

fn of_connections(registry: &mut Registry, books: &registry::Registry) {
    let connections = Family::<Word, Gauge>::default();
    for state in State::ALL.iter().filter(|state| **state != State::Closed) {
        let word = state.word().into();
        let count = i64::try_from(books.count(*state)).unwrap_or(i64::MAX);
        connections.get_or_create(&Word { word }).set(count);
    }
    let accepted = Counter::<u64>::default();
    accepted.inc_by(books.accepted());
    let (closed, refused) = <(Family<Word, Counter>, Family<Word, Counter>)>::default();
    for (word, count) in books.closed() {
        closed.get_or_create(&Word { word: word.into() }).inc_by(count);
    }
    for (word, count) in books.refused() {
        refused.get_or_create(&Word { word: word.into() }).inc_by(count);
    }
    registry.register("connections", "Connections by state", connections);
    registry.register("accepted", "Connections accepted", accepted);
    registry.register("closed", "Connections closed, by cause", closed);
    registry.register("refused", "Clients refused, by reason", refused);
    let early = Gauge::<i64>::default();
    early.set(i64::try_from(books.early.used()).unwrap_or(i64::MAX));
    let help = "What accepted clients have sent before their backends were ready, as memory";
    registry.register_with_unit("early", help, Unit::Bytes, early);
    let cookies = Counter::<u64>::default();
    cookies.inc_by(books.cookies_lost());
    let help = "Cookies of backends' 101s that clients never saw, as they had a 101 before";
    registry.register("cookies_lost", help, cookies);
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
