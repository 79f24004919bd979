//! Everything about one backend at one moment, for `greenroom status` and the admin API.
//!
//! Gathered by the owner task when it is asked, so it is one truth: nothing keeps a copy. The
//! names of the fields are an interface (`docs/readiness.md`). Bounded by the phases and
//! checks of the configuration.

use std::time::Duration;

use greenroom_core::backend::Condition;
use greenroom_core::check::State;
use greenroom_core::gate::{Stage, Trial};
use greenroom_core::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Driver, Gateway, HandStatus, Tally};
use crate::clock;

/// See the module's head.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct Status {
    /// Its name in the configuration.
    pub backend: String,
    /// Where it listens.
    pub address: String,
    /// `starting`, `ready` or `failed`: whether anybody is let in.
    pub condition: String,
    /// Milliseconds since that is so.
    pub since_ms: u64,
    /// Which life of its process; 0 where greenroom does not start it.
    pub generation: u64,
    /// `open`, `limited`, `shut`, `failed`, `refusing` by hand, or `draining` while greenroom stops.
    pub gate: String,
    /// Who has set the gate by hand, if it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by_hand: Option<HandStatus>,
    /// Whether the gate is still on trial.
    pub on_trial: bool,
    /// What it said last of its start-up, or its current phase.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub says: Option<String>,
    /// While it is not ready: what its own probe found last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The phases, in order, if any was reported or has a timeout.
    pub phases: Vec<PhaseStatus>,
    /// Why its last start failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
    /// `none`, `minimal`, `moderate`, `severe` or `emergency`.
    pub level: String,
    /// All checks.
    pub checks: Vec<CheckStatus>,
    /// Who waits.
    pub held: HeldStatus,
    /// Dials without an answer.
    pub dialing: usize,
    /// What past starts tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub starts: Option<StartsStatus>,
}

/// One phase.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct PhaseStatus {
    /// Its name.
    pub phase: String,
    /// `coming`, `current`, `finished`, `skipped` or `failed`.
    pub state: String,
    /// Milliseconds since it is the current one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_ms: Option<u64>,
    /// Milliseconds until it overruns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_ms: Option<u64>,
    /// Milliseconds that it took when it was reported last, in this start or an earlier one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<u64>,
}

/// One check.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct CheckStatus {
    /// Its name.
    pub check: String,
    /// What it asks: `postgres 127.0.0.1:5432`.
    pub probe: String,
    /// `good`, `bad` or `unknown`.
    pub state: String,
    /// Whether the backend is not ready without it.
    pub critical: bool,
    /// How heavy it is among the optional ones.
    pub weight: u32,
    /// The phase that it proves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<String>,
    /// The last verdict: whether it was good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_good: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Milliseconds since then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ago_ms: Option<u64>,
    /// How long the look took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<f64>,
}

/// Who waits.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct HeldStatus {
    /// WebSocket clients.
    pub websocket: usize,
    /// Plain requests.
    pub http: usize,
    /// Of these, how many wait for what their route needs while others may go.
    pub aside: usize,
    /// For how long the first of them waits, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_ms: Option<u64>,
}

/// What past starts tell.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct StartsStatus {
    /// How many are remembered.
    pub count: usize,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: u64,
    /// Nine of ten took no longer, in milliseconds.
    pub p90_ms: u64,
}

/// How things stand, and what was counted until then: of one moment.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How things stand.
    pub status: Status,
    /// What was counted.
    pub tally: Tally,
    /// Dials that may be out without an answer.
    pub dial_window: usize,
    /// Whether clients without a wish of their own are let in.
    pub lets_in: bool,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Driver {
    /// How things stand, all of it.
    pub(super) fn status(&self) -> Status {
        let now = clock::now();
        let standing = self.standing.borrow();
        let condition = match (self.is_whole, self.readiness.condition()) {
            (true, _) => "ready",
            (false, Condition::Failed) => "failed",
            (false, Condition::Starting | Condition::Ready) => "starting",
        };
        let stage = self.gate.stage();
        Status {
            backend: self.settings().name.clone(),
            address: self.authority.clone(),
            condition: condition.into(),
            since_ms: ms(now.since(if self.is_whole {
                self.ready_since
            } else {
                self.away_since
            })),
            generation: self.readiness.generation().0,
            gate: Gateway::from(stage).word().into(),
            by_hand: self.hand_status(),
            on_trial: matches!(
                stage,
                Stage::Limited { .. } | Stage::Open(Trial::Doubt { .. } | Trial::Proving { .. })
            ),
            says: standing.phase.as_deref().map(str::to_owned),
            reason: self.unready.clone().filter(|_| !self.is_whole),
            phases: self.phases_status(now),
            failure: standing.failure.as_deref().map(str::to_owned),
            level: self.readiness.level().word().into(),
            checks: self.checks_status(now),
            held: self.held_status(now),
            dialing: self.gate.dialing(),
            starts: self.starts.borrow().usual().map(|usual| StartsStatus {
                count: usual.of,
                p50_ms: ms(usual.p50),
                p90_ms: ms(usual.p90),
            }),
        }
    }

    /// The same, and what was counted until now.
    pub(super) fn measured(&self) -> Measured {
        Measured {
            status: self.status(),
            tally: self.tally.clone(),
            dial_window: self.gate.window(),
            lets_in: self.lets_in().1.has(0),
        }
    }

    /// Nothing, where nobody speaks of phases: that all were skipped would tell nobody anything.
    fn phases_status(&self, now: Time) -> Vec<PhaseStatus> {
        let phases = self.readiness.phases();
        let proves = self.readiness.checks().any(|(rule, _)| rule.phase.is_some());
        let is_told = phases.is_reported() || proves || phases.deadline().is_some() || phases.failure().is_some();
        if !is_told {
            return Vec::new();
        }
        let current = phases.current().map(|rule| &*rule.name);
        let one = |((name, mark), took): ((&str, greenroom_core::phase::Mark), Option<Duration>)| {
            let is_current = current == Some(name) && phases.failure().is_none();
            PhaseStatus {
                phase: name.into(),
                state: mark.word().into(),
                since_ms: is_current.then(|| ms(now.since(phases.since()))),
                left_ms: phases.deadline().filter(|_| is_current).map(|at| ms(at.since(now))),
                took_ms: took.map(ms),
            }
        };
        phases.marks().zip(phases.took()).map(one).collect()
    }

    fn checks_status(&self, now: Time) -> Vec<CheckStatus> {
        let settings = self.settings();
        let names: Vec<&str> = settings.phases.iter().map(|rule| &*rule.name).collect();
        let all = self.readiness.checks().zip(&settings.checks).zip(&self.verdicts);
        let one = |(((rule, check), setting), last): (
            (
                (&greenroom_core::check::Rule, &greenroom_core::check::Check),
                &crate::config::Check,
            ),
            &Option<super::standing::LastVerdict>,
        )| CheckStatus {
            check: rule.name.as_ref().into(),
            probe: setting.probe.to_string(),
            state: check.state().word().into(),
            critical: rule.critical,
            weight: rule.weight,
            phase: rule.phase.and_then(|index| names.get(index)).map(|&name| name.into()),
            last_good: last.as_ref().map(|last| last.good),
            reason: (last.as_ref())
                .filter(|_| check.state() != State::Unknown || last.is_some())
                .and_then(|last| last.reason.clone()),
            ago_ms: last.as_ref().map(|last| ms(now.since(last.at))),
            took_ms: last.as_ref().map(|last| last.took.as_secs_f64() * 1000.0),
        };
        all.map(one).collect()
    }

    fn held_status(&self, now: Time) -> HeldStatus {
        let held = self.gate.held_by_class();
        let oldest = self.gate.first_held().and_then(|id| self.clients.get(&id));
        HeldStatus {
            websocket: held.websocket,
            http: held.http,
            aside: held.aside,
            oldest_ms: oldest.map(|client| ms(now.since(client.arrived))),
        }
    }
}
