//! What an owner task has counted since it began: waits, dials, what came of them, starts.
//!
//! Only for metrics: nothing is decided by it. The owner task alone adds to it, and gives a copy to whoever asks, so
//! there is no lock and no atomic. Each session that arrives is observed once in `waits`, when the gate's care for it
//! ends; each dial that the gate orders is counted once in `dials`, by the first that is known of its end. So
//! sessions that arrived = observed waits + those in the gate's care. Bounded by the words of greenroom's own.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::event::SessionId;
use greenroom_core::gate::Input;
use greenroom_core::limits::{START_BUCKETS_MS, WAIT_BUCKETS_MS};
use greenroom_core::session::Answer;
use greenroom_core::time::Time;

use super::Driver;
use crate::histogram::Histogram;

/// How a wait at the gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// Let in, and given what the backend said.
    LetIn,
    /// Refused.
    Refused,
    /// Its client left.
    Left,
}

impl WaitEnd {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LetIn, Self::Refused, Self::Left];

    /// The word for it as a label.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LetIn => "let_in",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// Answers that may be the first that is known of a dial.
const DIALS: [Answer; 13] = [
    Answer::Switched,
    Answer::Status(0),
    Answer::Nonsense,
    Answer::Refused,
    Answer::ConnectTimeout,
    Answer::NoRoute,
    Answer::Dropped,
    Answer::NoDescriptor,
    Answer::Recalled,
    Answer::GivenUp,
    Answer::Sent,
    Answer::Spoke,
    Answer::LostEarly,
];

/// For which a session goes back to its place.
const REQUEUES: [Answer; 9] = [
    Answer::Status(0),
    Answer::Refused,
    Answer::ConnectTimeout,
    Answer::NoRoute,
    Answer::Dropped,
    Answer::NoDescriptor,
    Answer::Recalled,
    Answer::GivenUp,
    Answer::LostEarly,
];

/// The word for a dial of which nothing was heard: its client left, or was refused before.
const NOTHING: &str = "none";

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Sessions that had to wait.
    pub holds: u64,
    /// Heads written to the backend.
    pub releases: u64,
    /// Those among them that went alone, on trial.
    pub canaries: u64,
    /// Dials, by the first that is known of their end.
    pub dials: BTreeMap<&'static str, u64>,
    /// Sessions that went back to their places, by why.
    pub requeues: BTreeMap<&'static str, u64>,
    /// How long sessions waited from their arrival to their last release, or to their end if there was none.
    waits: [Histogram; 3],
    /// What whole starts took.
    pub starts: Histogram,
    /// Starts that failed.
    pub start_failures: u64,
}

/// What is remembered of one session for this.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stay {
    /// A dial is ordered, and nothing is known of its end.
    is_out: bool,
    /// When its head was written last.
    let_in: Option<Time>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let words = |answers: &[Answer]| answers.iter().map(|answer| (answer.word(), 0)).collect();
        let mut dials: BTreeMap<_, _> = words(&DIALS);
        dials.insert(NOTHING, 0);
        Self {
            holds: 0,
            releases: 0,
            canaries: 0,
            dials,
            requeues: words(&REQUEUES),
            waits: [(); 3].map(|()| Histogram::new(WAIT_BUCKETS_MS)),
            starts: Histogram::new(START_BUCKETS_MS),
            start_failures: 0,
        }
    }

    /// With what another owner task has counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            holds,
            releases,
            canaries,
            dials,
            requeues,
            waits,
            starts,
            start_failures,
        } = other;
        self.holds += holds;
        self.releases += releases;
        self.canaries += canaries;
        for (sum, more) in [(&mut self.dials, dials), (&mut self.requeues, requeues)] {
            for (word, count) in more {
                *sum.entry(word).or_default() += count;
            }
        }
        for (sum, more) in self.waits.iter_mut().zip(waits) {
            sum.add(more);
        }
        self.starts.add(starts);
        self.start_failures += start_failures;
    }

    /// How long those waited whose wait ended so.
    #[must_use]
    pub fn waits(&self, end: WaitEnd) -> &Histogram {
        &self.waits[end as usize]
    }

    /// A dial is ordered.
    pub(super) fn ordered(stay: &mut Stay) {
        stay.is_out = true;
    }

    /// Something is known of what came of a session's dial. Only the first counts: what a 101 comes to is no dial of its own.
    pub(super) fn answered(&mut self, stay: &mut Stay, answer: Answer) {
        if std::mem::take(&mut stay.is_out) {
            *self.dials.entry(answer.word()).or_default() += 1;
        }
    }

    /// Its head is written.
    pub(super) fn released(&mut self, stay: &mut Stay, now: Time, is_canary: bool) {
        stay.let_in = Some(now);
        self.releases += 1;
        self.canaries += u64::from(is_canary);
    }

    /// Back to its place.
    pub(super) fn requeued(&mut self, answer: Answer) {
        *self.requeues.entry(answer.word()).or_default() += 1;
    }

    /// The gate has no care for it any more.
    pub(super) fn over(&mut self, stay: Stay, arrived: Time, now: Time, end: WaitEnd) {
        if stay.is_out {
            *self.dials.entry(NOTHING).or_default() += 1;
        }
        let until = match end {
            WaitEnd::LetIn => stay.let_in.unwrap_or(now),
            WaitEnd::Refused | WaitEnd::Left => now,
        };
        self.waits[end as usize].observe(until.since(arrived));
    }

    /// A start is over, and took so long.
    pub(super) fn started(&mut self, took: Duration) {
        self.starts.observe(took);
    }
}

impl Driver {
    /// Tells the gate what came of a dial.
    pub(super) fn answered(&mut self, now: Time, id: SessionId, answer: Answer) {
        if let Some(client) = self.clients.get_mut(&id) {
            self.tally.answered(&mut client.stay, answer);
        }
        self.gate.handle(now, Input::Answered(id, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dial_counts_once_and_each_session_once() {
        let at = Time::from_millis;
        let (mut tally, mut stay) = (Tally::new(), Stay::default());
        for answer in [Answer::LostEarly, Answer::Switched] {
            Tally::ordered(&mut stay);
            tally.released(&mut stay, at(if answer == Answer::Switched { 40 } else { 10 }), true);
            tally.answered(&mut stay, answer);
            tally.answered(&mut stay, Answer::Spoke);
        }
        tally.over(stay, at(5), at(90), WaitEnd::LetIn);
        assert_eq!(
            (tally.dials["switched"], tally.dials["lost_early"], tally.dials["spoke"]),
            (1, 1, 0)
        );
        assert_eq!((tally.releases, tally.canaries), (2, 2));
        let waits = tally.waits(WaitEnd::LetIn);
        assert_eq!(
            (waits.count(), waits.sum()),
            (1, Duration::from_millis(35)),
            "until it was let in last"
        );

        let mut stay = Stay::default();
        Tally::ordered(&mut stay);
        tally.over(stay, at(5), at(90), WaitEnd::Left);
        assert_eq!(tally.dials[NOTHING], 1);
        assert_eq!(tally.waits(WaitEnd::Left).sum(), Duration::from_millis(85));
    }
}
