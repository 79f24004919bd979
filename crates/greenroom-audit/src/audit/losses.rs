//! How many messages clients lost, in one zone of the start, and which of these clients were never answered anything. Pure.
//!
//! Two things look alike in a count of lost messages, and are not: a message that was overtaken by a later one is lost for certain;
//! of a client that hears nothing at all until its patience ends, nobody knows what became of what it said. They are counted
//! together, as all that was said in vain, and the latter by themselves.

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::{Outcome, Patience};
use super::side::{Seen, Side};
use super::stats::Share;
use super::unanswered;

/// Clients that were opened and never answered anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// How many.
    pub clients: u64,
    /// What they said.
    pub messages: u64,
}

/// What clients of one zone, or of both, lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    /// First messages lost, of clients.
    pub(super) first: Share,
    /// Messages lost, of all.
    pub(super) all: Share,
    pub(super) unanswered: Unanswered,
}

impl Losses {
    /// Of nobody.
    pub(super) fn none() -> Self {
        Self {
            first: Share::new(0, 0),
            all: Share::new(0, 0),
            unanswered: Unanswered::default(),
        }
    }

    /// Of clients that came in this zone of a start that became ready.
    pub(super) fn of(seen: &[Seen<'_>], zone: Zone, patience: Patience) -> Self {
        let (mut first, mut lost, mut of_first, mut of_all) = (0, 0, 0, 0);
        let mut unanswered = Unanswered::default();
        let here = seen.iter().filter(|one| one.zone == zone && one.edges.ready.is_some());
        for one in here.filter(|one| is_counted(one) && patience.answers) {
            let missing: Vec<usize> = unanswered::lost(one.client).collect();
            let messages = one.client.messages.len() as u64;
            first += u64::from(missing.first() == Some(&0));
            of_first += 1;
            lost += missing.len() as u64;
            of_all += messages;
            if one.outcome == Outcome::Unanswered {
                unanswered.clients += 1;
                unanswered.messages += messages;
            }
        }
        Self {
            first: Share::new(first, of_first),
            all: Share::new(lost, of_all),
            unanswered,
        }
    }

    /// What a side has of clients that came in this zone, without what is told as something else: `is_told` of these outcomes.
    pub(super) fn in_zone(side: &Side, zone: Zone, is_told: impl Fn(Outcome) -> bool) -> Self {
        let losses = match zone {
            Zone::Cold => Self::none(),
            Zone::Race => Self {
                first: side.early_first_lost,
                all: side.early_lost,
                unanswered: side.early_unanswered,
            },
            Zone::Ready => Self {
                first: side.first_lost,
                all: side.lost,
                unanswered: side.unanswered,
            },
        };
        let silent = losses.unanswered;
        let [first, all] = losses.of_answered();
        match (is_told(Outcome::Lost), is_told(Outcome::Unanswered)) {
            (false, false) => losses,
            (false, true) => Self {
                first,
                all,
                unanswered: Unanswered::default(),
            },
            (true, false) => Self {
                first: Share::new(silent.clients, losses.first.of),
                all: Share::new(silent.messages, losses.all.of),
                unanswered: silent,
            },
            (true, true) => Self::none(),
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

    /// Whether whoever was never answered anything may have lost one message after the other, by the chance that loses first ones.
    /// It presumes that each message is lost by itself, and takes all who lost everything to have said as much.
    pub(super) fn is_chance(&self) -> bool {
        let [_, of_answered] = self.of_answered();
        let each = self.unanswered.messages as f64 / self.unanswered.clients.max(1) as f64;
        // Everybody says a first message, and whoever had an answer may say no more: so of those who lost it.
        let lost_all = Share::new(self.unanswered.clients, self.first.hits);
        of_answered.hits > 0 && lost_all.low <= self.first.high.powf(each - 1.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 400 clients with two messages each: so many were never answered, and so many of the others lost one.
    fn losses(silent: u64, others: u64) -> Losses {
        Losses {
            first: Share::new(silent + others, 400),
            all: Share::new(2 * silent + others, 800),
            unanswered: Unanswered {
                clients: silent,
                messages: 2 * silent,
            },
        }
    }

    #[test]
    fn who_lost_all_by_the_chance_that_loses_one_is_no_matter_of_its_own() {
        // One message in two is lost: of one client in four both are.
        assert!(losses(100, 100).is_chance());
        // Whoever has an answer says no more: of 3,600 with one message in five answered, 64 % lose both.
        let alike = Losses {
            first: Share::new(2_880, 3_600),
            all: Share::new(2 * 2_304 + 576, 720 + 2 * 2_880),
            unanswered: Unanswered {
                clients: 2_304,
                messages: 2 * 2_304,
            },
        };
        assert!(alike.is_chance());
        assert!(!losses(300, 10).is_chance());
        assert!(!losses(237, 0).is_chance(), "nobody else lost anything");
        assert!(losses(0, 3).is_chance(), "there is nobody to explain");
    }

    #[test]
    fn what_those_lost_that_were_answered_something_is_without_the_others() {
        let [first, all] = losses(100, 20).of_answered();
        assert_eq!((first.hits, first.of), (20, 300));
        assert_eq!((all.hits, all.of), (20, 600));
        let both = losses(100, 20).and(losses(1, 2));
        assert_eq!((both.unanswered().hits, both.unanswered().of), (101, 800));
        let nobody = Losses::none().first;
        assert_eq!((nobody.low, nobody.high), (0.0, 1.0), "of nobody nothing is known");
    }
}
