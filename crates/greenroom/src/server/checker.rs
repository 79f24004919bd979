//! Asks the checks of a backend, each on a grid of its own, and tells the owner task.
//!
//! A task for each check, for ever: what a ready backend depends on may be lost at any time.
//! They run side by side, and none overlaps itself. What the verdicts mean is decided in core.

use std::sync::Arc;

use greenroom_core::event::Generation;
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
    /// Told when a look is wanted out of turn, for each check of the backend.
    pub(super) now: Arc<[Notify]>,
    pub(super) lives: Arc<Lives>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) log: Log,
}

impl Checker {
    /// Asks for ever, on its grid and whenever it is told to.
    pub(super) async fn run(self) {
        let Some(probe) = self.probe() else {
            return; // the configuration has no `log` check without a process
        };
        let mut told = None;
        let now = &self.now[self.index];
        let report = |look| self.report(look, &mut told);
        match probe::watch(probe, self.check.interval, now, report).await {}
    }

    fn probe(&self) -> Option<Probe> {
        match (&self.check.probe, &self.line) {
            (ProbeKind::Log { .. }, line) => line.clone().map(Probe::log),
            (_, _) => Probe::for_check(&self.check, &self.address, self.of.clone()),
        }
    }

    /// `told`: the phase that was told last, and of which life. A page says the same each time that it is asked, and
    /// to say `ready`, `stopping` or a strange name again is no news.
    fn report(&self, look: Look, told: &mut Option<(Generation, Box<str>)>) {
        let name = &self.check.rule.name;
        if let Some(note) = look.note {
            self.log.warn(format!("the check {name}: {note}"));
        }
        let generation = self.lives.of(look.began);
        let said = look.phase.map(|phase| (generation, phase));
        if *told != said {
            told.clone_from(&said);
            if let Some((generation, phase)) = said {
                self.inbox
                    .tell(Message::Backend(Input::Phase(generation, phase), "check"));
            }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use greenroom_core::check::Rule;

    use super::*;
    use crate::telemetry::Format;

    #[test]
    fn a_phase_is_told_when_it_changes_and_again_in_the_next_life() {
        let rule = Rule {
            name: "page".into(),
            rise: 1,
            fall: 1,
            phase: None,
            critical: true,
            weight: 1,
        };
        let checker = Checker {
            index: 0,
            check: Check {
                rule,
                probe: ProbeKind::File { path: PathBuf::new() },
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            },
            address: "127.0.0.1:1".parse().unwrap(),
            of: Of::Anyone,
            line: None,
            now: [Notify::new()].into(),
            lives: Arc::default(),
            inbox: Arc::default(),
            log: Log::start(Format::Json),
        };
        let mut told = None;
        let mut phases = |phase: Option<&str>| {
            let look = Look {
                verdict: Verdict::Up,
                phase: phase.map(Into::into),
                began: Instant::now(),
                took: Duration::ZERO,
                note: None,
            };
            checker.report(look, &mut told);
            let mut messages = Vec::new();
            checker.inbox.take(&mut messages);
            messages.len() - 1 // the verdict is always told
        };
        let page = [None, Some("stopping"), Some("stopping"), Some("init"), Some("init")];
        assert_eq!(page.map(&mut phases), [0, 1, 0, 1, 0]);
        checker.lives.begin(Generation(1));
        let page = [Some("init"), Some("init"), None, Some("init")];
        assert_eq!(page.map(&mut phases), [1, 0, 0, 1], "whoever was away says it again");
    }
}
