//! Decides whether a backend is ready, and how far that is believed.
//!
//! A [`Backend`] takes what is known of one backend, whatever its source: its
//! child's notifications, the verdicts of a probe, exits, and what dials and
//! relays met. It says to the gate: ready, not ready, failed.
//!
//! ```text
//!   Started ──▶ Starting ──READY / verdict up──▶ Ready
//!                  ▲                              │
//!                  └──STOPPING, down, unreachable─┤
//!   Exited, started again ◀───────────────────────┤
//!   Exited for good, start failed ──▶ Failed ◀────┘
//! ```
//!
//! Nothing is one-way: a backend can fail and come back any number of times. Only one
//! whose process is over for good stays failed until it is started again.
//! What an earlier generation says is ignored. Pushed beats polled: a child that
//! has notified once is believed from then on, over any verdict, until a dial
//! finds nobody there; then the next good verdict counts again, as an inference.

use crate::event::Generation;
use crate::gate::Trust;

/// Where readiness is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A child that may notify; until it does, a verdict is an inference.
    Auto,
    /// A child that must notify.
    Notify,
    /// A probe, believed so far.
    Probe(Trust),
}

/// What the backend machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A child was started.
    Started(Generation),
    /// The child said `READY=1`.
    NotifiedReady(Generation),
    /// The backend said `STOPPING=1` or `RELOADING=1`.
    NotifiedStopping(Generation),
    /// It said how far its start has come.
    NotifiedPhase(Generation),
    /// Its start has failed, and its process is not ours: it may try again.
    StartFailed(Generation),
    /// A probe's verdict: up or down.
    Verdict(Generation, bool),
    /// The child ended, and is started again or not.
    Exited {
        /// Which life of it.
        generation: Generation,
        /// Whether it is started again.
        restarts: bool,
        /// Its exit code, 128 + n for signal n.
        code: u8,
    },
    /// A dial at the open gate did not reach it.
    Unreachable,
    /// A relay was lost without a Close: it may be gone.
    RelayLost,
    /// A relay was closed with 1012: it says that it restarts.
    Restarting,
}

/// What the gate is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is ready, believed so far.
    Ready(Trust),
    /// It is not ready, or no longer.
    NotReady,
    /// It is gone for good.
    Failed,
}

/// Where a backend is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Not ready yet, or no longer.
    Starting,
    /// Ready.
    Ready,
    /// Gone for good.
    Failed,
}

/// One backend's readiness. See the module's head.
#[derive(Debug, Clone)]
pub struct Backend {
    source: Source,
    generation: Generation,
    condition: Condition,
    /// The child notified at least once: its word counts.
    notifies: bool,
    /// Its word did not hold: a good verdict counts again.
    doubted: bool,
    /// A relay was lost: one verdict is wanted although it is ready.
    looking: bool,
    /// As far as it was believed when it became ready.
    trust: Trust,
    /// Its process is over: nothing of it counts any more until the next one is started.
    over: bool,
    /// It failed, and was not seen to be away since: a good verdict is the old one.
    stale: bool,
}

impl Backend {
    /// A backend of which nothing is known yet.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            generation: Generation(0),
            condition: Condition::Starting,
            notifies: source == Source::Notify,
            doubted: false,
            looking: false,
            trust: Trust::Inferred,
            over: false,
            stale: false,
        }
    }

    /// Takes one input; says what the gate is to be told, if anything.
    pub fn handle(&mut self, input: Input) -> Option<Output> {
        match (input, self.condition) {
            (Input::Started(generation), _) => self.started(generation),

            // An earlier life: ignored.
            (
                Input::NotifiedReady(generation)
                | Input::NotifiedStopping(generation)
                | Input::NotifiedPhase(generation)
                | Input::StartFailed(generation)
                | Input::Verdict(generation, _)
                | Input::Exited { generation, .. },
                _,
            ) if generation != self.generation => None,

            (Input::Exited { restarts, .. }, condition) => {
                self.over = true;
                match (restarts, condition) {
                    (true, _) => self.lose(),
                    (false, Condition::Starting | Condition::Ready) => self.fail(),
                    (false, Condition::Failed) => None,
                }
            }
            // Only a start changes that: what is read or seen so late is of a process that is not there.
            (_, _) if self.over => None,
            (Input::StartFailed(_), Condition::Starting | Condition::Ready) => self.fail(),
            (Input::StartFailed(_), Condition::Failed) => None,

            // It may have been inferred until now, or failed, or it repeats itself: the gate knows which matters.
            (Input::NotifiedReady(_), Condition::Starting | Condition::Ready | Condition::Failed) => {
                self.believe();
                self.become_ready(Trust::Pushed)
            }
            (Input::NotifiedStopping(_), Condition::Starting | Condition::Ready | Condition::Failed) => {
                self.believe();
                self.lose()
            }
            // Who speaks of phases says READY too: what still starts was taken for ready because it listens.
            (Input::NotifiedPhase(_), Condition::Ready) if self.listens_to_it() && self.trust == Trust::Inferred => {
                self.notifies = true;
                self.lose()
            }
            (Input::NotifiedPhase(_), Condition::Starting | Condition::Ready) => {
                self.notifies |= self.listens_to_it();
                None
            }
            // It tries again.
            (Input::NotifiedPhase(_), Condition::Failed) => self.lose(),

            (Input::Verdict(_, good), Condition::Starting | Condition::Ready | Condition::Failed) => self.verdict(good),

            (Input::Unreachable, Condition::Starting | Condition::Ready) | (Input::Restarting, Condition::Ready) => {
                self.doubt()
            }
            // Known. A child that said STOPPING, and now closes its relays, is not to be doubted
            // for that: it still listens, and the next verdict would open the gate to it.
            (Input::Restarting | Input::RelayLost, Condition::Starting) => None,
            (Input::RelayLost, Condition::Ready) => {
                self.looking = true;
                None
            }
            (Input::Unreachable | Input::RelayLost | Input::Restarting, Condition::Failed) => {
                self.stale = false;
                None
            }
        }
    }

    fn verdict(&mut self, good: bool) -> Option<Output> {
        match (self.condition, good) {
            (Condition::Starting, true) => self.verdict_trust().and_then(|trust| self.become_ready(trust)),
            (Condition::Starting, false) => None,
            (Condition::Ready, true) => {
                self.looking = false;
                None
            }
            (Condition::Ready, false) => {
                let counts = self.looking || self.verdict_trust().is_some();
                self.looking = false;
                if counts { self.doubt() } else { None }
            }
            (Condition::Failed, false) => {
                self.stale = false;
                None
            }
            (Condition::Failed, true) if self.stale => None,
            (Condition::Failed, true) => self.verdict_trust().and_then(|trust| self.become_ready(trust)),
        }
    }

    /// Whether a probe's verdict is wanted now. While a backend is ready nothing
    /// is asked of it, unless a relay was lost.
    #[must_use]
    pub fn wants_verdict(&self) -> bool {
        match self.condition {
            _ if self.over => false,
            Condition::Starting | Condition::Failed => self.verdict_trust().is_some(),
            Condition::Ready => self.looking,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Which life of it.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether its process has ended, as far as we know of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the child's own word counts.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.notifies
    }

    fn started(&mut self, generation: Generation) -> Option<Output> {
        if generation <= self.generation {
            return None;
        }
        self.generation = generation;
        self.doubted = false;
        self.over = false;
        self.lose()
    }

    /// Whether its own word is what makes it ready.
    fn listens_to_it(&self) -> bool {
        match self.source {
            Source::Auto | Source::Notify => true,
            Source::Probe(_) => false,
        }
    }

    /// It speaks: from now on its word counts.
    fn believe(&mut self) {
        self.notifies = true;
        self.doubted = false;
    }

    /// What a good verdict is worth now; `None` when only the child's word counts.
    fn verdict_trust(&self) -> Option<Trust> {
        match self.source {
            Source::Probe(_) if self.doubted => Some(Trust::Inferred),
            Source::Probe(trust) => Some(trust),
            Source::Auto | Source::Notify if self.notifies && !self.doubted => None,
            Source::Auto | Source::Notify => Some(Trust::Inferred),
        }
    }

    fn become_ready(&mut self, trust: Trust) -> Option<Output> {
        self.condition = Condition::Ready;
        self.looking = false;
        self.trust = trust;
        Some(Output::Ready(trust))
    }

    /// Not ready, and its word did not hold.
    fn doubt(&mut self) -> Option<Output> {
        self.doubted = true;
        self.lose()
    }

    fn fail(&mut self) -> Option<Output> {
        self.condition = Condition::Failed;
        self.stale = true;
        Some(Output::Failed)
    }

    fn lose(&mut self) -> Option<Output> {
        self.condition = Condition::Starting;
        self.looking = false;
        Some(Output::NotReady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G1: Generation = Generation(1);
    const G2: Generation = Generation(2);

    fn started(source: Source) -> Backend {
        let mut backend = Backend::new(source);
        backend.handle(Input::Started(G1));
        backend
    }

    #[test]
    fn a_child_that_notifies_is_believed_from_then_on() {
        let mut backend = started(Source::Auto);
        assert!(backend.wants_verdict());
        assert_eq!(
            backend.handle(Input::Verdict(G1, true)),
            Some(Output::Ready(Trust::Inferred))
        );
        assert_eq!(
            backend.handle(Input::NotifiedReady(G1)),
            Some(Output::Ready(Trust::Pushed))
        );
        assert_eq!(backend.handle(Input::NotifiedStopping(G1)), Some(Output::NotReady));
        assert!(!backend.wants_verdict(), "its word counts, not the socket table");
        assert_eq!(backend.handle(Input::Verdict(G1, true)), None);
        backend.handle(Input::Started(G2));
        assert_eq!(
            backend.handle(Input::Verdict(G2, true)),
            None,
            "the same command notifies again"
        );
        assert_eq!(
            backend.handle(Input::NotifiedReady(G2)),
            Some(Output::Ready(Trust::Pushed))
        );
    }

    #[test]
    fn a_ready_of_an_earlier_generation_is_ignored() {
        let mut backend = started(Source::Notify);
        backend.handle(Input::Exited {
            generation: G1,
            restarts: true,
            code: 1,
        });
        backend.handle(Input::Started(G2));
        assert_eq!(backend.handle(Input::NotifiedReady(G1)), None);
        assert_eq!(backend.condition(), Condition::Starting);
        assert_eq!(
            backend.handle(Input::Exited {
                generation: G1,
                restarts: false,
                code: 1,
            }),
            None
        );
    }

    #[test]
    fn what_is_read_or_seen_of_a_process_that_has_ended_makes_nothing_ready() {
        for source in [Source::Auto, Source::Notify, Source::Probe(Trust::Pushed)] {
            let mut backend = started(source);
            backend.handle(Input::Exited {
                generation: G1,
                restarts: true,
                code: 1,
            });
            assert!(!backend.wants_verdict(), "{source:?}");
            assert_eq!(backend.handle(Input::NotifiedReady(G1)), None, "{source:?}");
            assert_eq!(backend.handle(Input::Verdict(G1, true)), None, "{source:?}");
            assert_eq!(backend.condition(), Condition::Starting, "{source:?}");
        }
    }

    #[test]
    fn a_word_that_did_not_hold_makes_the_next_verdict_count_as_an_inference() {
        for source in [Source::Auto, Source::Notify, Source::Probe(Trust::Pushed)] {
            let mut backend = started(source);
            backend.handle(Input::NotifiedReady(G1));
            assert_eq!(backend.handle(Input::Unreachable), Some(Output::NotReady), "{source:?}");
            assert!(
                backend.wants_verdict(),
                "{source:?}: nothing else would ever open the gate again"
            );
            assert_eq!(
                backend.handle(Input::Verdict(G1, true)),
                Some(Output::Ready(Trust::Inferred)),
                "{source:?}"
            );
        }
    }

    #[test]
    fn a_child_that_stops_and_closes_its_relays_is_not_found_ready_because_it_still_listens() {
        let mut backend = started(Source::Auto);
        backend.handle(Input::NotifiedReady(G1));
        backend.handle(Input::NotifiedStopping(G1));
        assert_eq!(backend.handle(Input::Restarting), None);
        assert!(!backend.wants_verdict());
        assert_eq!(backend.handle(Input::Verdict(G1, true)), None);
    }

    #[test]
    fn a_lost_relay_is_a_reason_to_look_and_not_yet_a_verdict() {
        let mut backend = started(Source::Probe(Trust::Inferred));
        backend.handle(Input::Verdict(G1, true));
        assert!(!backend.wants_verdict());
        assert_eq!(backend.handle(Input::RelayLost), None);
        assert!(backend.wants_verdict());
        assert_eq!(backend.handle(Input::Verdict(G1, true)), None);
        assert!(!backend.wants_verdict());
        backend.handle(Input::RelayLost);
        assert_eq!(backend.handle(Input::Verdict(G1, false)), Some(Output::NotReady));
    }

    #[test]
    fn every_input_in_every_condition() {
        let inputs = [
            Input::Started(G2),
            Input::NotifiedReady(G1),
            Input::NotifiedStopping(G1),
            Input::NotifiedPhase(G1),
            Input::StartFailed(G1),
            Input::Verdict(G1, true),
            Input::Verdict(G1, false),
            Input::Exited {
                generation: G1,
                restarts: true,
                code: 1,
            },
            Input::Exited {
                generation: G1,
                restarts: false,
                code: 1,
            },
            Input::Unreachable,
            Input::RelayLost,
            Input::Restarting,
        ];
        let mut table = String::new();
        for source in [
            Source::Auto,
            Source::Notify,
            Source::Probe(Trust::Inferred),
            Source::Probe(Trust::Pushed),
        ] {
            for (condition, over) in [
                (Condition::Starting, false),
                (Condition::Ready, false),
                (Condition::Failed, false),
                (Condition::Failed, true),
                (Condition::Starting, true),
            ] {
                for input in inputs {
                    let mut backend = started(source);
                    backend.condition = condition;
                    (backend.over, backend.stale) = (over, condition == Condition::Failed);
                    let output = backend.handle(input);
                    let said = output.map_or_else(|| "-".into(), |o| format!("{o:?}"));
                    let there = match (condition, over) {
                        (Condition::Starting, true) => "Between".into(),
                        (_, true) => "Over".into(),
                        (_, false) => format!("{condition:?}"),
                    };
                    table.push_str(&format!(
                        "{:16} {there:8} {:42} → {:8} {said}\n",
                        format!("{source:?}"),
                        format!("{input:?}"),
                        format!("{:?}", backend.condition)
                    ));
                }
            }
        }
        insta::assert_snapshot!(table);
    }
}
