//! What is wrong with a server's start, in a sentence, and what to do. Pure.
//!
//! A [`Finding`] is claimed only from what was seen for certain (a client that a listener took and failed), or
//! from a share whose 99.99 % interval leaves no other reading. Clients that are `unknown` count for nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::edges::Zone;
use super::judge::Outcome;
use super::record::{Cause, Interval};
use super::side::{Edge, LateHandler, Settle, Side};
use super::stats::Share;
use super::text::{between, list, percent, span};
use crate::audit::plan::nanos;
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
    if let Some(lead) = side.lead {
        early(side, lead, &mut found);
    }
    messages(side, &mut found);
    let rejected = |outcome: Outcome| outcome.is_rejection() || outcome == Outcome::Refused;
    let failed = side.count(Zone::Ready, rejected);
    let known = side.count(Zone::Ready, |outcome| outcome != Outcome::Unknown);
    if failed > 0 {
        found.push(Finding::FailsWhenReady {
            outcomes: side.most(Zone::Ready, rejected),
            failed: Share::new(failed, known),
            last_ns: side.last_rejected_ns.unwrap_or(0),
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

fn early(side: &Side, lead: Edge, found: &mut Vec<Finding>) {
    let outcomes = side.most(Zone::Race, Outcome::is_rejection);
    let failed: u64 = outcomes.iter().map(|&(_, clients)| clients).sum();
    if failed > 0 {
        let all = side.count(Zone::Race, |outcome| outcome != Outcome::Unknown);
        found.push(Finding::AcceptsEarly {
            lead,
            outcomes,
            failed: Share::new(failed, all),
            settle: side.settle,
        });
    }
    if lost_early(side) {
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

fn messages(side: &Side, found: &mut Vec<Finding>) {
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
        Some(_) | None if all.hits > 0 => found.push(Finding::LosesMessages { first, all }),
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
            Self::HangsWhenMet { .. } => "hangs-when-met",
            Self::NeverAnswers { .. } => "never-answers",
            Self::StartsFail { .. } => "starts-fail",
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::AcceptsEarly {
                lead, outcomes, failed, ..
            } => format!(
                "accepts connections {} before it is ready, and {} ({} of {} clients in that time)",
                of_edge(*lead),
                ways(outcomes),
                failed.hits,
                failed.of
            ),
            Self::LosesEarly { lead, lost } => format!(
                "opens WebSockets {} before it is ready, and loses what is sent meanwhile ({} of {} clients)",
                of_edge(*lead),
                lost.hits,
                lost.of
            ),
            Self::HandlerLate { handler } => late(*handler),
            Self::LosesMessages { first, all } => format!(
                "loses messages: the first one of {} of {} clients ({}), {} of {} messages in all",
                first.hits,
                first.of,
                percent(*first),
                all.hits,
                all.of
            ),
            Self::Doubles { clients } => {
                format!(
                    "answers messages twice ({} of {} clients, {})",
                    clients.hits,
                    clients.of,
                    percent(*clients)
                )
            }
            Self::Reorders { clients } => format!(
                "answers messages in another order than they were sent ({} of {} clients, {})",
                clients.hits,
                clients.of,
                percent(*clients)
            ),
            Self::FailsWhenReady {
                outcomes,
                failed,
                last_ns,
            } => format!(
                "fails clients although it has answered others: it {} ({} of {} clients, {}), the last of them {} after its first answer",
                ways(outcomes),
                failed.hits,
                failed.of,
                percent(*failed),
                span(*last_ns)
            ),
            Self::HangsWhenMet { never, runs, outcomes } => format!(
                "does not become ready when clients come while it starts ({never} of {runs} starts; alone it does): it {}",
                ways(outcomes)
            ),
            Self::NeverAnswers { clients, outcomes } => format!(
                "takes clients and never answers anybody, whether they come early or late: it {} ({clients} clients)",
                ways(outcomes)
            ),
            Self::StartsFail { failed, runs, how } => {
                format!("ends by itself, {how}, while clients come ({failed} of {runs} starts)")
            }
        }
    }

    /// What to do.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::AcceptsEarly { settle, .. } => {
                let mut advice = "listen only when start-up is over, or put `greenroom run --` in front: it holds clients until the server is ready".to_owned();
                if let Some(settle) = settle {
                    let _ = write!(advice, ". {}", settle_advice(settle));
                }
                advice
            }
            Self::LosesEarly { .. } => "send the 101 only when start-up is over; or have the server say READY=1 by sd_notify (or answer a readiness check) and put `greenroom run --` in front".to_owned(),
            Self::HandlerLate { .. } => "attach the message handler before anything is awaited, or read messages from a queue that begins with the opening".to_owned(),
            Self::LosesMessages { .. } => "look for what may run between the 101 and the handler: an await, a second worker, a queue with a bound".to_owned(),
            Self::Doubles { .. } => "look for a handler that is attached twice, or a message that is sent on again after a retry".to_owned(),
            Self::Reorders { .. } => "handle the messages of one connection one after the other".to_owned(),
            Self::FailsWhenReady { .. } => "not all of it is ready when the first part is: let every worker be ready before one listens, or put `greenroom run --` in front, which proves each connection for a while".to_owned(),
            Self::HangsWhenMet { .. } => "start-up waits for something that a client has taken: begin to accept when it is over, or put `greenroom run --` in front, which lets nobody in before".to_owned(),
            Self::NeverAnswers { .. } => "look for what its start-up waits for: a lock, a connection, or a client that waits for it; if it only takes longer, raise --start-timeout".to_owned(),
            Self::StartsFail { .. } => "see the last lines of its output in the report; greenroom starts it again and keeps its clients meanwhile".to_owned(),
        }
    }
}

/// How long greenroom's gate has to watch a 101, and whether it does.
#[must_use]
pub fn settle_advice(settle: &Settle) -> String {
    let longest = settle.took.max_ns;
    let known = nanos(greenroom_core::limits::SETTLE_MAX);
    let needed = format!(
        "It closes within {} of its 101 ({} seen; one that takes longer has a probability of at most {:.2} %), so a gate must watch each 101 for {}",
        span(longest),
        settle.took.count,
        settle.longer * 100.0,
        span(longest.saturating_mul(2))
    );
    if longest <= known {
        format!("{needed}: greenroom learns that by itself")
    } else {
        format!(
            "{needed}: greenroom watches for {} at the most, so this server needs a pushed READY or a readiness check",
            span(known)
        )
    }
}

fn late(handler: LateHandler) -> String {
    format!(
        "loses messages sent within {} of opening: the handler is attached late ({} of {} clients; typically {} after the opening)",
        span(handler.lost_within_ns),
        handler.clients.hits,
        handler.clients.of,
        between(handler.attached)
    )
}

fn of_edge(edge: Edge) -> String {
    let Interval { low_ns, high_ns } = edge.typical;
    let middle = span(low_ns.midpoint(high_ns));
    if edge.runs > 1 {
        format!(
            "{middle} ({} to {} in {} starts)",
            span(edge.least_ns),
            span(edge.most_ns),
            edge.runs
        )
    } else {
        format!("{middle} (± {})", span(edge.typical.half()))
    }
}

/// What it does to clients, in words.
fn ways(outcomes: &[(Outcome, u64)]) -> String {
    let mut words: Vec<String> = outcomes.iter().take(3).map(|&(outcome, _)| way(outcome)).collect();
    let more: u64 = outcomes.iter().skip(3).map(|&(_, clients)| clients).sum();
    if more > 0 {
        words.push(format!("fails {more} more in other ways"));
    }
    list(&words)
}

fn way(outcome: Outcome) -> String {
    match outcome {
        Outcome::Closed(1005) => "closes them without a code".into(),
        Outcome::Closed(code) => format!("closes them with {code}"),
        Outcome::Status(status) => format!("answers with HTTP {status}"),
        Outcome::Reset => "resets them".into(),
        Outcome::Cut => "cuts them off without a Close".into(),
        Outcome::Hung => "never answers them".into(),
        Outcome::Refused => "refuses them".into(),
        Outcome::Broken => "breaks the protocol".into(),
        Outcome::Lost => "loses messages".into(),
        Outcome::Unanswered => "opens them and never answers a message".into(),
        Outcome::Doubled => "answers twice".into(),
        Outcome::Reordered => "changes their order".into(),
        Outcome::Late => "answers late".into(),
        Outcome::Answered => "answers".into(),
        Outcome::Unknown => "does what is not known".into(),
    }
}

#[cfg(test)]
mod losing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::judge::Patience;
    use crate::audit::record::{ClientRecord, Ending, RunRecord, Sent};
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

    #[test]
    fn settle_is_told_with_what_greenroom_can_do_about_it() {
        let settle = |max_ns| Settle {
            took: crate::audit::stats::Quantiles {
                count: 9,
                max_ns,
                ..Default::default()
            },
            longer: 0.1,
        };
        assert!(settle_advice(&settle(7 * MS)).contains("learns that by itself"));
        assert!(settle_advice(&settle(400 * MS)).contains("needs a pushed READY"));
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
