//! What is wrong with a server's start, in a sentence; what to do is in [`super::advice`]. Pure.
//!
//! A [`Finding`] is claimed only from what was seen for certain (a client that a listener took and failed), or
//! from a share whose 99.99 % interval leaves no other reading. Clients that are `unknown` count for nothing.

use serde::{Deserialize, Serialize};

use super::crowd::{Crowd, is_load};
use super::edges::Zone;
use super::judge::Outcome;
use super::record::Cause;
use super::rejected::Rejected;
use super::side::{Edge, LateHandler, Settle, Side};
use super::stats::Share;
use crate::limits;

/// Something that is wrong with how a server starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It takes clients before it is ready, and fails them.
    AcceptsEarly {
        /// From listening to ready.
        lead: Edge,
        /// What became of them.
        outcomes: Vec<(Outcome, u64)>,
        /// Of all that came in that time.
        failed: Share,
        /// How long after the 101, where there was one.
        settle: Option<Settle>,
    },
    /// It opens WebSockets before it is ready and loses what is said meanwhile.
    LosesEarly {
        /// From listening to ready.
        lead: Edge,
        /// Clients that lost their first message.
        lost: Share,
    },
    /// It attaches its handler late: what comes at once after the opening is lost.
    HandlerLate {
        /// How late.
        handler: LateHandler,
    },
    /// It loses first messages now and then.
    LosesMessages {
        /// First messages lost.
        first: Share,
        /// Messages lost.
        all: Share,
    },
    /// It answers messages twice.
    Doubles {
        /// Clients.
        clients: Share,
    },
    /// It answers messages in another order.
    Reorders {
        /// Clients.
        clients: Share,
    },
    /// It fails clients although it had answered one.
    FailsWhenReady {
        /// What became of them.
        outcomes: Vec<(Outcome, u64)>,
        /// Clients.
        failed: Share,
        /// How long after the first answer the last of them came.
        last_ns: u64,
        /// Whether it stops, and whether it is a matter of how many are connected.
        #[serde(default)]
        rejected: Option<Rejected>,
    },
    /// It leaves clients unanswered when many wait at once, and answers them when few do.
    Overrun {
        /// What became of them.
        outcomes: Vec<(Outcome, u64)>,
        /// Of all that somebody took.
        failed: Share,
        /// How many others waited.
        crowd: Crowd,
    },
    /// It becomes ready when nobody comes early, and does not when somebody does.
    HangsWhenMet {
        /// Starts that never became ready.
        never: u64,
        /// Starts with clients.
        runs: u64,
        /// What its clients saw.
        outcomes: Vec<(Outcome, u64)>,
    },
    /// It takes clients and never answers anybody, not even their handshake, whether they come early or late.
    NeverAnswers {
        /// Clients that it took.
        clients: u64,
        /// What became of them.
        outcomes: Vec<(Outcome, u64)>,
    },
    /// Some of its starts fail.
    StartsFail {
        /// Starts that failed.
        failed: u64,
        /// Starts.
        runs: u64,
        /// How the last of them ended.
        how: String,
    },
}

/// The name of each finding ([`Finding::code`]), and what it is about.
pub const CODES: &[(&str, &str)] = &[
    (
        "accepts-early",
        "Clients are taken before the server is ready, and failed",
    ),
    ("loses-early", "Messages that come before the server is ready are lost"),
    ("handler-late", "Messages that come right after the opening are lost"),
    ("loses-messages", "Messages are lost now and then"),
    ("doubles", "Messages are answered twice"),
    ("reorders", "Messages are answered in another order"),
    ("fails-when-ready", "Clients are failed although others were answered"),
    ("overrun", "Clients are left unanswered when many wait at once"),
    (
        "hangs-when-met",
        "The server does not become ready when clients come early",
    ),
    ("never-answers", "Clients are taken and nobody is ever answered"),
    ("starts-fail", "The server ends by itself while clients come"),
];

/// Everything that is wrong with this side. `quiet_ready`: a start with hardly any clients became ready.
#[must_use]
pub fn findings(side: &Side, quiet_ready: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let never = side.runs.iter().filter(|run| run.cause == Cause::NeverReady).count() as u64;
    let runs = side.runs.len() as u64;
    if never > 0 && (quiet_ready || never < runs) {
        let outcomes = side.most(Zone::Race, |outcome| !outcome.is_good() && outcome != Outcome::Unknown);
        found.push(Finding::HangsWhenMet { never, runs, outcomes });
    }
    if !quiet_ready && never_answers(side) {
        found.push(Finding::NeverAnswers {
            clients: side.count(Zone::Race, |_| true),
            outcomes: side.most(Zone::Race, |outcome| outcome != Outcome::Unknown),
        });
    }
    starts(side, &mut found);
    let overrun = overrun(side);
    let is_overrun = overrun.is_some();
    found.extend(overrun);
    if let Some(lead) = side.lead {
        early(side, lead, is_overrun, &mut found);
    }
    messages(side, is_overrun, &mut found);
    let rejected = |outcome: Outcome| outcome.is_rejection() || outcome == Outcome::Refused;
    let failed = side.count(Zone::Ready, rejected);
    let known = side.count(Zone::Ready, |outcome| outcome != Outcome::Unknown);
    let is_told = is_overrun && failed == side.count(Zone::Ready, |outcome| rejected(outcome) && is_load(outcome));
    if failed > 0 && !is_told {
        found.push(Finding::FailsWhenReady {
            outcomes: side.most(Zone::Ready, rejected),
            failed: Share::new(failed, known),
            last_ns: side.last_rejected_ns.unwrap_or(0),
            rejected: side.rejected.clone(),
        });
    }
    found
}

/// Whether all starts had a listener, and nobody who met it had even an answer to the handshake. Whoever has one may have
/// asked for the wrong path, or expects the wrong message: that says nothing of the server.
#[must_use]
pub fn never_answers(side: &Side) -> bool {
    let silent = |outcome| matches!(outcome, Outcome::Hung | Outcome::Cut | Outcome::Reset);
    let all_never = side.runs.iter().all(|run| run.cause == Cause::NeverReady);
    let taken = side.count(Zone::Race, |outcome| outcome != Outcome::Unknown);
    all_never && side.opened == 0 && taken > 0 && side.count(Zone::Race, silent) == taken
}

fn starts(side: &Side, found: &mut Vec<Finding>) {
    let ended = side.runs.iter().filter_map(|run| match &run.cause {
        Cause::Ended(how) => Some(how),
        Cause::Finished | Cause::NeverReady | Cause::Interrupted => None,
    });
    let ended: Vec<_> = ended.collect();
    if let Some(how) = ended.last() {
        found.push(Finding::StartsFail {
            failed: ended.len() as u64,
            runs: side.runs.len() as u64,
            how: (*how).clone(),
        });
    }
}

/// Who is left unanswered when many wait at once, whether it came early or late.
fn overrun(side: &Side) -> Option<Finding> {
    let crowd = side.crowd.filter(Crowd::is_overrun)?;
    let mut outcomes = side.most(Zone::Ready, is_load);
    for (outcome, clients) in side.most(Zone::Race, is_load) {
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += clients,
            None => outcomes.push((outcome, clients)),
        }
    }
    let known = |zone| side.count(zone, |outcome| outcome != Outcome::Unknown);
    Some(Finding::Overrun {
        failed: Share::new(crowd.failed, known(Zone::Race) + known(Zone::Ready)),
        outcomes,
        crowd,
    })
}

fn early(side: &Side, lead: Edge, is_overrun: bool, found: &mut Vec<Finding>) {
    let outcomes = side.most(Zone::Race, Outcome::is_rejection);
    let failed: u64 = outcomes.iter().map(|&(_, clients)| clients).sum();
    let of_load = |outcome: Outcome| outcome.is_rejection() && is_load(outcome);
    let is_told = is_overrun && failed == side.count(Zone::Race, of_load);
    if failed > 0 && !is_told {
        let all = side.count(Zone::Race, |outcome| outcome != Outcome::Unknown);
        found.push(Finding::AcceptsEarly {
            lead,
            outcomes,
            failed: Share::new(failed, all),
            settle: side.settle,
        });
    }
    // Of one that is overrun it may be late.
    if lost_early(side) && !is_overrun {
        found.push(Finding::LosesEarly {
            lead,
            lost: side.early_first_lost,
        });
    }
}

/// Whether losing messages is a matter of coming early: more of the early ones lost their first than the
/// intervals of both can explain. What is lost as often when it is ready is another matter, and so is what is seen too seldom.
fn lost_early(side: &Side) -> bool {
    side.lead.is_some() && side.early_first_lost.low > side.first_lost.high
}

fn messages(side: &Side, is_overrun: bool, found: &mut Vec<Finding>) {
    // What is told as lost early is told once.
    let (first, all) = match lost_early(side) {
        true => (side.first_lost, side.lost),
        false => (
            side.first_lost.and(side.early_first_lost),
            side.lost.and(side.early_lost),
        ),
    };
    match side.late_handler {
        Some(handler) if is_late(handler) => found.push(Finding::HandlerLate { handler }),
        Some(_) | None if all.hits > 0 && !is_overrun => found.push(Finding::LosesMessages { first, all }),
        Some(_) | None => {}
    }
    let all = side.count(Zone::Ready, |outcome| outcome != Outcome::Unknown)
        + side.count(Zone::Race, |outcome| outcome != Outcome::Unknown);
    let of = |wanted: Outcome| {
        let hits =
            side.count(Zone::Ready, |outcome| outcome == wanted) + side.count(Zone::Race, |outcome| outcome == wanted);
        (hits > 0).then(|| Share::new(hits, all))
    };
    found.extend(of(Outcome::Doubled).map(|clients| Finding::Doubles { clients }));
    found.extend(of(Outcome::Reordered).map(|clients| Finding::Reorders { clients }));
}

/// More often than not, or not seldom and then several in a row: it is the server's way, and not an accident.
fn is_late(handler: LateHandler) -> bool {
    let often = limits::AUDIT_OFTEN;
    let in_a_row = handler.clients.low > limits::AUDIT_SELDOM && handler.several.seen() > often;
    handler.clients.low > often || in_a_row
}

impl Finding {
    /// A stable name, for rules of other tools.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AcceptsEarly { .. } => "accepts-early",
            Self::LosesEarly { .. } => "loses-early",
            Self::HandlerLate { .. } => "handler-late",
            Self::LosesMessages { .. } => "loses-messages",
            Self::Doubles { .. } => "doubles",
            Self::Reorders { .. } => "reorders",
            Self::FailsWhenReady { .. } => "fails-when-ready",
            Self::Overrun { .. } => "overrun",
            Self::HangsWhenMet { .. } => "hangs-when-met",
            Self::NeverAnswers { .. } => "never-answers",
            Self::StartsFail { .. } => "starts-fail",
        }
    }

    /// Whether it is a matter of the start, and not of any time.
    #[must_use]
    pub fn is_of_the_start(&self) -> bool {
        match self {
            Self::AcceptsEarly { .. }
            | Self::LosesEarly { .. }
            | Self::HangsWhenMet { .. }
            | Self::NeverAnswers { .. }
            | Self::StartsFail { .. } => true,
            Self::HandlerLate { .. }
            | Self::LosesMessages { .. }
            | Self::Doubles { .. }
            | Self::Reorders { .. }
            | Self::Overrun { .. } => false,
            Self::FailsWhenReady { rejected, .. } => rejected.as_ref().is_some_and(Rejected::stops),
        }
    }
}

#[cfg(test)]
mod losing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::judge::Patience;
    use crate::audit::record::{ClientRecord, Ending, Interval, RunRecord, Sent};
    use proptest::prelude::*;

    pub(super) const PATIENCE: Patience = Patience {
        whole_ns: 10_000_000_000,
        answer_ns: 1_000_000_000,
        late_ns: 1_000_000_000,
        answers: true,
    };
    pub(super) const MS: u64 = 1_000_000;

    /// A client that came at `at`, was opened a millisecond later, and lost the messages that `lost` names.
    pub(super) fn client(number: u32, at: u64, sends: &[u64], lost: impl Fn(usize) -> bool) -> ClientRecord {
        let opened = at + MS;
        let message = |(index, delay): (usize, &u64)| Sent {
            at: opened + delay * MS,
            answered_at: (!lost(index)).then_some(opened + delay * MS + MS / 2),
            copies: u16::from(!lost(index)),
        };
        ClientRecord {
            connected_at: Some(at + MS / 2),
            opened_at: Some(opened),
            ended_at: opened + 400 * MS,
            messages: sends.iter().enumerate().map(message).collect(),
            ..ClientRecord::new(number, at)
        }
    }

    pub(super) fn run(clients: Vec<ClientRecord>) -> RunRecord {
        RunRecord {
            run: 0,
            exec: Interval::new(0, 1),
            listen: None,
            notified_at: None,
            clients,
            stalls: Vec::new(),
            cause: Cause::Finished,
            output: Vec::new(),
            killed: 0,
            elsewhere: None,
        }
    }

    pub(super) fn codes(clients: Vec<ClientRecord>) -> Vec<&'static str> {
        let side = Side::of(&[run(clients)], PATIENCE);
        findings(&side, false).iter().map(Finding::code).collect()
    }

    pub(super) const SENDS: [u64; 6] = [0, 1, 2, 4, 8, 16];

    #[test]
    fn one_client_in_the_race_window_is_a_finding_and_one_that_is_unknown_is_none() {
        let mut clients: Vec<_> = (1..40)
            .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
            .collect();
        let mut early = client(0, 300 * MS, &[], |_| false);
        early.ending = Ending::Closed {
            code: Some(1011),
            reason: String::new(),
        };
        clients.insert(0, early.clone());
        assert_eq!(codes(clients.clone()), ["accepts-early"]);
        clients[0].ending = Ending::TimedOut(crate::audit::record::Stage::Opening);
        clients[0].stalled_ns = PATIENCE.whole_ns;
        assert!(codes(clients.clone()).is_empty());
        clients[0].ending = Ending::Refused;
        clients[0].connected_at = None;
        assert!(codes(clients).is_empty(), "cold is no race");
    }

    #[test]
    fn a_message_that_was_missed_while_the_machine_stood_still_is_no_loss() {
        let mut clients: Vec<_> = (0..40)
            .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
            .collect();
        clients.push(client(40, 600 * MS, &SENDS, |index| index < 3));
        assert_eq!(codes(clients.clone()), ["loses-messages"]);
        clients[40].stalled_ns = PATIENCE.answer_ns / 2;
        assert!(codes(clients).is_empty());
    }

    #[test]
    fn one_that_fails_when_others_were_answered_is_told_with_how_late_that_was() {
        let mut clients: Vec<_> = (0..40)
            .map(|n| client(n, 500 * MS + u64::from(n) * MS, &SENDS, |_| false))
            .collect();
        clients[30].ending = Ending::Status(502);
        let side = Side::of(&[run(clients)], PATIENCE);
        let found = findings(&side, false);
        let [Finding::FailsWhenReady { failed, last_ns, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (failed.hits, failed.of),
            (1, 38),
            "two of the forty came before the first answer"
        );
        assert!((20 * MS..30 * MS).contains(last_ns), "{last_ns}");
    }

    proptest! {
        /// Good clients, wherever they come, are never a finding.
        #[test]
        fn nothing_is_found_where_nothing_is_wrong(starts in prop::collection::vec(1_u64..2_000, 1..80)) {
            let mut starts = starts;
            starts.sort_unstable();
            let clients = starts.iter().zip(0..).map(|(&at, n)| client(n, at * MS, &SENDS, |_| false)).collect();
            prop_assert!(codes(clients).is_empty());
        }

        /// A handler that is attached after `late` ms, for all or for many, is one; now and then a first message, is a loss.
        #[test]
        fn late_and_lossy_are_told_apart(late in 1_u64..16, many in 0.4..1.0_f64, seed: u64) {
            let mut dice = crate::audit::plan::Dice::new(seed, 3);
            let mut clients = vec![client(0, 10 * MS, &SENDS, |_| false)];
            clients.extend((1..200).map(|n| {
                let is_late = dice.unit() < many;
                client(n, 100 * MS + u64::from(n) * MS, &SENDS, |index| is_late && SENDS[index] < late)
            }));
            // With one message lost and hardly more than half of the clients, both readings fit.
            if late > 1 || many > 0.8 {
                prop_assert_eq!(codes(clients), ["handler-late"]);
            }
            for each in [50, 8] {
                let mut clients = vec![client(0, 10 * MS, &SENDS, |_| false)];
                clients.extend((1..300).map(|n| {
                    client(n, 100 * MS + u64::from(n) * MS, &SENDS, |index| index == 0 && n % each == 7)
                }));
                prop_assert_eq!(codes(clients), ["loses-messages"]);
            }
        }
    }
}
