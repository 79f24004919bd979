//! Asks the checks of a backend, each on a grid of its own, and tells the owner task.
//!
//! A task for each check, for ever: what a ready backend depends on may be lost at any time.
//! They run side by side, and none overlaps itself. What the verdicts mean is decided in core.

use std::sync::Arc;

use greenroom_core::readiness::Input;
use tokio::sync::{Notify, watch};

use super::lives::Lives;
use crate::config::{Address, Check, ProbeKind};
use crate::driver::{Inbox, LastVerdict, Message};
use crate::probe::{self, Look, Of, Probe, Verdict};
use crate::telemetry::Log;

/// One check of a backend.
pub(super) struct Checker {
    /// Its place among the backend's checks.
    pub(super) index: usize,
    pub(super) check: Check,
    /// Where the backend itself listens.
    pub(super) address: Address,
    pub(super) of: Of,
    /// Of a `log` check: whether its line was seen in the present life.
    pub(super) line: Option<watch::Receiver<bool>>,
    pub(super) lives: Arc<Lives>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) log: Log,
}

impl Checker {
    /// Asks for ever.
    pub(super) async fn run(self) {
        let Some(probe) = self.probe() else {
            return; // the configuration has no `log` check without a process
        };
        match probe::watch(probe, self.check.interval, &Notify::new(), |look| self.report(look)).await {}
    }

    fn probe(&self) -> Option<Probe> {
        match (&self.check.probe, &self.line) {
            (ProbeKind::Log { .. }, line) => line.clone().map(Probe::log),
            (_, _) => Probe::for_check(&self.check, &self.address, self.of.clone()),
        }
    }

    fn report(&self, look: Look) {
        let name = &self.check.rule.name;
        if let Some(note) = look.note {
            self.log.warn(format!("the check {name}: {note}"));
        }
        let generation = self.lives.of(look.began);
        if let Some(phase) = look.phase {
            self.inbox
                .tell(Message::Backend(Input::Phase(generation, phase), "check"));
        }
        let (good, reason) = match look.verdict {
            Verdict::Up => (true, None),
            Verdict::Down(why) => (false, Some(why.to_string())),
        };
        let verdict = LastVerdict::of(good, reason, look.took);
        let input = Input::Check {
            index: self.index,
            generation,
            good,
        };
        self.inbox.tell(Message::Checked(input, verdict));
    }
}
