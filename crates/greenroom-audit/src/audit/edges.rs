//! When a server listened and when it was ready, from what its clients saw; and where in its start each client came. Pure.
//!
//! *Listen* was after every look that found nobody and every refused connect had begun, and before
//! the first look that found somebody and the first connection was made.
//!
//! *Ready* was, at the latest, when the first client had its first right answer. It was not yet when a client
//! began to connect that came before that and was rejected, or opened and never answered: whoever fails it decides after it came.
//!
//! Both intervals are certain, not likely: each end is a moment at which the one or the other was seen.
//! One thing is presumed of the server: that it does not reject when it is ready. Where it does, *ready* may be given too late.

use serde::{Deserialize, Serialize};

use super::judge::Outcome;
use super::record::{Interval, RunRecord};

/// Where in a start a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Nobody listened.
    Cold,
    /// A listener took it, and nobody had been answered yet.
    Race,
    /// Somebody had been answered before it came.
    Ready,
}

/// The edges of one start; moments of [`crate::clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges {
    /// When CMD was executed.
    pub exec: Interval,
    /// When somebody listened first.
    pub listen: Option<Interval>,
    /// When it was ready.
    pub ready: Option<Interval>,
}

/// The edges that a run shows; `outcomes` are those of its clients. Where no answer is expected, an
/// opened client counts as answered.
#[must_use]
pub fn edges(run: &RunRecord, outcomes: &[Outcome], answers: bool) -> Edges {
    let clients = || run.clients.iter().zip(outcomes);
    let answered = clients().filter_map(|(client, outcome)| {
        if answers {
            client.first_answer()
        } else {
            client.opened_at.filter(|_| outcome.is_good())
        }
    });
    let ready_high = answered.min();

    let connected = clients().filter_map(|(client, _)| client.connected_at).min();
    let looked = run.listen.map(|listen| listen.high_ns);
    let listen_high = [connected, looked, ready_high].into_iter().flatten().min();
    let listen = listen_high.map(|high| {
        let refused = clients()
            .filter(|(client, outcome)| **outcome == Outcome::Refused && client.started_at < high)
            .map(|(client, _)| client.started_at);
        let looked = run.listen.map(|listen| listen.low_ns);
        let low = refused.chain(looked).chain([run.exec.low_ns]).max().unwrap_or(0);
        Interval::new(low.min(high), high)
    });

    let ready = ready_high.map(|high| {
        let rejected = clients()
            .filter(|(client, outcome)| outcome.is_failure() && client.started_at < high)
            .map(|(client, _)| client.started_at);
        let listening = listen.map(|listen| listen.low_ns);
        let low = rejected.chain(listening).max().unwrap_or(run.exec.low_ns);
        Interval::new(low.min(high), high)
    });
    Edges {
        exec: run.exec,
        listen,
        ready,
    }
}

impl Edges {
    /// Where a client came that began at `started_at`. Who was refused before anybody was answered met nobody.
    #[must_use]
    pub fn zone(&self, started_at: u64, outcome: Outcome) -> Zone {
        match self.ready {
            Some(ready) if started_at >= ready.high_ns => Zone::Ready,
            Some(_) | None if outcome == Outcome::Refused => Zone::Cold,
            Some(_) | None => Zone::Race,
        }
    }

    /// From listening to being ready.
    #[must_use]
    pub fn lead(&self) -> Option<Interval> {
        Some(self.listen?.until(self.ready?))
    }

    /// From exec to listening.
    #[must_use]
    pub fn listen_after(&self) -> Option<Interval> {
        Some(self.exec.until(self.listen?))
    }

    /// From exec to being ready.
    #[must_use]
    pub fn ready_after(&self) -> Option<Interval> {
        Some(self.exec.until(self.ready?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::judge::{Patience, judge};
    use crate::audit::record::{ClientRecord, Ending, Sent};
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience {
        whole_ns: 1_000_000,
        answer_ns: 1_000,
        late_ns: 1_000_000,
        answers: true,
    };

    /// What a client sees of a server that listens at `listen` and is ready at `ready`: each step takes its time.
    fn client(number: u32, started_at: u64, steps: [u64; 3], listen: u64, ready: u64) -> ClientRecord {
        let mut record = ClientRecord::new(number, started_at);
        let [to_connect, to_decide, to_answer] = steps;
        let arrived = started_at + to_connect;
        record.ended_at = arrived + to_decide + to_answer;
        if arrived < listen {
            record.ending = Ending::Refused;
            record.ended_at = arrived;
            return record;
        }
        record.connected_at = Some(arrived);
        if arrived + to_decide < ready {
            record.ending = Ending::Status(503);
            return record;
        }
        record.opened_at = Some(arrived + to_decide);
        record.messages = vec![Sent {
            at: arrived + to_decide,
            answered_at: Some(record.ended_at),
            copies: 1,
        }];
        record
    }

    fn run(clients: Vec<ClientRecord>, listen: Option<Interval>) -> RunRecord {
        RunRecord {
            exec: Interval::new(0, 3),
            listen,
            ..crate::audit::sample::run(0, clients)
        }
    }

    proptest! {
        /// Whatever the offsets and however slow each step: the true edges lie in the intervals, and a zone is never wrong.
        #[test]
        fn the_true_edges_lie_in_the_intervals(
            starts in prop::collection::vec((0_u64..2_000, [0_u64..40, 0..40, 0..40]), 1..60),
            listen in 5_u64..900, lead in 0_u64..900, looks in any::<bool>(), look in 0_u64..30,
        ) {
            let ready = listen + lead;
            let mut starts = starts;
            starts.push((2_500, [1, 1, 1])); // somebody comes when it is ready
            starts.sort_unstable();
            let clients: Vec<_> = starts.iter().enumerate()
                .map(|(number, &(at, steps))| client(u32::try_from(number).unwrap(), at, steps, listen, ready))
                .collect();
            let looked = looks.then(|| Interval::new(listen - listen.min(look), listen + look));
            let run = run(clients, looked);
            let outcomes: Vec<_> = run.clients.iter().map(|client| judge(client, PATIENCE)).collect();
            let edges = edges(&run, &outcomes, true);
            prop_assert!(edges.listen.unwrap().holds(listen), "{:?} {listen}", edges.listen);
            prop_assert!(edges.ready.unwrap().holds(ready), "{:?} {ready}", edges.ready);
            let planted_lead = edges.lead().unwrap();
            prop_assert!(planted_lead.holds(ready - listen), "{planted_lead:?}");
            for (client, outcome) in run.clients.iter().zip(&outcomes) {
                match edges.zone(client.started_at, *outcome) {
                    Zone::Cold => prop_assert!(client.started_at < listen),
                    Zone::Race => prop_assert!(*outcome != Outcome::Refused),
                    Zone::Ready => prop_assert!(client.started_at >= ready && outcome.is_good()),
                }
            }
        }
    }

    #[test]
    fn who_is_refused_when_the_server_is_gone_again_moves_no_edge() {
        let mut clients = vec![client(0, 10, [1, 1, 1], 100, 100), client(1, 120, [1, 1, 1], 100, 100)];
        let before = edges(
            &run(clients.clone(), None),
            &[Outcome::Refused, Outcome::Answered],
            true,
        );
        clients.push(client(2, 900, [1, 1, 1], 1_000, 1_000));
        let outcomes = [Outcome::Refused, Outcome::Answered, Outcome::Refused];
        let after = edges(&run(clients, None), &outcomes, true);
        assert_eq!(before, after);
        assert_eq!(after.zone(900, Outcome::Refused), Zone::Ready);
    }

    #[test]
    fn a_start_that_nobody_got_through_has_no_ready_edge() {
        let refused = client(0, 1, [1, 1, 1], 100, 100);
        let run = run(vec![refused], None);
        let edges = edges(&run, &[Outcome::Refused], true);
        assert_eq!((edges.listen, edges.ready), (None, None));
        assert_eq!(edges.zone(1, Outcome::Refused), Zone::Cold);
    }
}
