//! How many messages clients lost, in one zone of the start, and which of these clients were never answered anything. Pure.
//!
//! Two things look alike in a count of lost messages, and are not: a message that was overtaken by a later one is lost for certain;
//! of a client that hears nothing at all until its patience ends, nobody knows what became of what it said. They are counted
//! together, as all that was said in vain, and the latter by themselves.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::{Outcome, Patience};
use super::side::{Seen, Side};
use super::stats::{Share, solve};
use super::unanswered;

/// Clients that were opened and never answered anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// How many.
    pub clients: u64,
    /// What they said.
    pub messages: u64,
}

/// What clients of some zones lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// First messages lost, of clients.
    first: Share,
    /// Messages lost, of all.
    all: Share,
    unanswered: Unanswered,
}

impl Losses {
    /// Of clients that came in this zone.
    pub(super) const fn in_zone(side: &Side, zone: Zone) -> Self {
        match zone {
            Zone::Cold | Zone::Race => Self {
                first: side.early_first_lost,
                all: side.early_lost,
                unanswered: side.early_unanswered,
            },
            Zone::Ready => Self {
                first: side.first_lost,
                all: side.lost,
                unanswered: side.unanswered,
            },
        }
    }

    /// Without those that were answered something, and without those that were not, where they are told as something else.
    pub(super) fn without(self, answered: bool, unanswered: bool) -> Self {
        let [first, all] = self.of_answered();
        match (answered, unanswered) {
            (false, false) => self,
            (false, true) => Self {
                first,
                all,
                unanswered: Unanswered::default(),
            },
            (true, false) => Self {
                first: Share::new(self.unanswered.clients, self.first.of),
                all: Share::new(self.unanswered.messages, self.all.of),
                unanswered: self.unanswered,
            },
            (true, true) => Self::default(),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            first: self.first.and(other.first),
            all: self.all.and(other.all),
            unanswered: Unanswered {
                clients: self.unanswered.clients + other.unanswered.clients,
                messages: self.unanswered.messages + other.unanswered.messages,
            },
        }
    }

    /// Clients that were never answered anything, of all that were opened.
    pub(super) fn unanswered(&self) -> Share {
        Share::new(self.unanswered.clients, self.first.of)
    }

    /// Whether whoever was never answered anything may have lost one message after the other, by the chance that loses messages of
    /// the others.
    pub(super) fn is_chance(&self) -> bool {
        let [_, of_answered] = self.of_answered();
        let each = self.unanswered.messages as f64 / self.unanswered.clients.max(1) as f64;
        // With the probability p for a message, all of them are lost with p^each; who lost all is not among the answered, whose
        // share of lost ones is therefore (p - p^each) / (1 - p^each).
        let greatest = solve(|p| (p - p.powf(each)) / (1.0 - p.powf(each)) - of_answered.high);
        of_answered.hits > 0 && self.unanswered().low <= greatest.powf(each)
    }

    /// First messages lost, and messages lost, of all.
    pub(super) const fn in_all(&self) -> [Share; 2] {
        [self.first, self.all]
    }

    /// First messages lost, and messages lost, of clients that were answered something.
    pub(super) fn of_answered(&self) -> [Share; 2] {
        let without = |share: Share, silent: u64| {
            // Who was never answered anything lost its first message, and all.
            Share::new(share.hits.saturating_sub(silent), share.of.saturating_sub(silent))
        };
        [
            without(self.first, self.unanswered.clients),
            without(self.all, self.unanswered.messages),
        ]
    }
}

/// Whether what this client lost and got can be counted: it was opened and could speak to its end, and nothing is doubtful.
pub(super) fn is_counted(seen: &Seen<'_>) -> bool {
    use Outcome::{Answered, Doubled, Late, Reordered};
    seen.outcome.is_loss() || matches!(seen.outcome, Answered | Late | Doubled | Reordered)
}

/// First messages lost and messages lost of clients that came in this zone of a start that became ready, and those that were never
/// answered anything.
pub(super) fn of(seen: &[Seen<'_>], zone: Zone, patience: Patience) -> (Share, Share, Unanswered) {
    let (mut first, mut lost, mut of_first, mut of_all) = (0, 0, 0, 0);
    let mut silent = Unanswered::default();
    let counted = (seen.iter())
        .filter(|one| one.zone == zone && is_counted(one) && patience.answers && one.edges.ready.is_some());
    for one in counted {
        let missing: Vec<usize> = unanswered::lost(one.client).collect();
        let messages = one.client.messages.len() as u64;
        first += u64::from(missing.first() == Some(&0));
        of_first += 1;
        lost += missing.len() as u64;
        of_all += messages;
        if one.outcome == Outcome::Unanswered {
            silent.clients += 1;
            silent.messages += messages;
        }
    }
    (Share::new(first, of_first), Share::new(lost, of_all), silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 400 clients with two messages each: so many were never answered, and the others lost so many.
    fn losses(clients: u64, others: u64) -> Losses {
        Losses {
            first: Share::new(clients + others, 400),
            all: Share::new(2 * clients + others, 800),
            unanswered: Unanswered {
                clients,
                messages: 2 * clients,
            },
        }
    }

    #[test]
    fn who_lost_all_by_the_chance_that_loses_one_is_no_matter_of_its_own() {
        // One message in two is lost: of one client in four both are.
        assert!(losses(100, 200).is_chance());
        assert!(!losses(300, 10).is_chance());
        assert!(!losses(437, 0).is_chance(), "nobody else lost anything");
        assert!(losses(0, 3).is_chance(), "there is nobody to explain");
    }

    #[test]
    fn what_those_lost_that_were_answered_something_is_without_the_others() {
        let [first, all] = losses(100, 20).of_answered();
        assert_eq!((first.hits, first.of), (20, 300));
        assert_eq!((all.hits, all.of), (20, 600));
        let both = losses(100, 20).and(losses(1, 2));
        assert_eq!((both.unanswered().hits, both.unanswered().of), (101, 800));
    }
}
