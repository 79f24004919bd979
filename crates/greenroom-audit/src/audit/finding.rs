//! What is wrong with a server's start. In words it is in [`super::sentence`], what to do in [`super::advice`]. Pure.
//!
//! A [`Finding`] is claimed only from what was seen for certain (a client that a listener took and failed), or
//! from a share whose 99.99 % interval leaves no other reading. Clients that are `unknown` count for nothing.

use serde::{Deserialize, Serialize};

use super::control::{Control, is_load};
use super::crosstalk::Crosstalk;
use super::edges::Zone;
use super::judge::Outcome;
use super::lateness::Lateness;
use super::losses::Losses;
use super::record::Cause;
use super::rejected::{Rejected, is_rejected};
use super::side::{Edge, LateHandler, Settle, Side};
use super::stats::Share;
use crate::limits;

/// Something that is wrong with how a server starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It answers what one client said to another.
    WrongClient {
        /// What went astray.
        strays: Crosstalk,
    },
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
        /// Clients that lost their first message, or were never answered anything.
        lost: Share,
        /// Of them, those that were never answered anything.
        #[serde(default)]
        unanswered: u64,
    },
    /// It attaches its handler late: what comes at once after the opening is lost.
    HandlerLate {
        /// How late.
        handler: LateHandler,
    },
    /// It does not answer the first message of a connection, whenever that is sent.
    FirstUnanswered {
        /// Clients.
        clients: Share,
        /// Of these, those that spoke when others had been answered already.
        hesitant: Share,
    },
    /// It loses messages of clients that it answers others.
    LosesMessages {
        /// First messages lost.
        first: Share,
        /// Messages lost.
        all: Share,
    },
    /// It opens clients and answers them nothing at all.
    LeavesUnanswered {
        /// Of all that it opened.
        clients: Share,
        /// Whether that stops, of those that came when it was ready.
        when: Option<Rejected>,
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
        /// Whether it fails few as well.
        #[serde(default)]
        few_too: bool,
    },
    /// It fails clients when many come, and does not, or far fewer of them, when few do.
    Overrun {
        /// What became of them.
        outcomes: Vec<(Outcome, u64)>,
        /// Of all that somebody took.
        failed: Share,
        /// The same of those that came in control starts.
        few: Share,
        /// Control starts.
        starts: u64,
        /// Clients of each of them.
        each: u64,
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
    /// Some of its starts become ready, and some never do.
    StartsNeverReady {
        /// Starts that never became ready.
        never: u64,
        /// Starts.
        runs: u64,
        /// What the clients of these saw.
        outcomes: Vec<(Outcome, u64)>,
    },
    /// Behind greenroom: nobody was answered, though by itself it answers.
    NobodyAnswered {
        /// Starts.
        runs: u64,
        /// Clients that came.
        clients: u64,
        /// What became of them.
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
    ("wrong-client", "What one client said is answered to another"),
    (
        "accepts-early",
        "Clients are taken before the server is ready, and failed",
    ),
    ("loses-early", "Messages that come before the server is ready are lost"),
    ("handler-late", "Messages that come right after the opening are lost"),
    (
        "first-unanswered",
        "The first message of a connection is not answered, whenever it is sent",
    ),
    ("loses-messages", "Messages are lost now and then"),
    (
        "leaves-unanswered",
        "Clients are opened, and nothing that they say is ever answered",
    ),
    ("doubles", "Messages are answered twice"),
    ("reorders", "Messages are answered in another order"),
    ("fails-when-ready", "Clients are failed although others were answered"),
    ("overrun", "Clients are failed when many come, and not when few do"),
    (
        "hangs-when-met",
        "The server does not become ready when clients come early",
    ),
    ("starts-never-ready", "Some starts never become ready"),
    ("nobody-answered", "Nobody is answered behind greenroom"),
    ("never-answers", "Clients are taken and nobody is ever answered"),
    ("starts-fail", "The server ends by itself while clients come"),
];

/// Everything that is wrong with this side. `quiet_ready`: a start with hardly any clients became ready; `control`: what its
/// control starts showed.
#[must_use]
pub(super) fn findings(side: &Side, quiet_ready: bool, control: Option<&Control>) -> Vec<Finding> {
    let mut found: Vec<Finding> = side
        .strays
        .map(|strays| Finding::WrongClient { strays })
        .into_iter()
        .collect();
    never_ready(side, quiet_ready, &mut found);
    if !quiet_ready && never_answers(side) {
        found.push(Finding::NeverAnswers {
            clients: side.count(Zone::Race, |_| true),
            outcomes: side.most(Zone::Race, |outcome| outcome != Outcome::Unknown),
        });
    }
    starts(side, &mut found);
    // A limit on connections is told as what it is, where it rejects everybody beyond it, or says so with a status.
    let limit = side.rejected.as_ref().filter(|rejected| rejected.is_of_a_limit());
    let is_overrun = |zone, outcome: Outcome| {
        let is_of_limit = outcome.is_rejection()
            && limit.is_some_and(|limit| matches!(outcome, Outcome::Status(_)) || limit.is_of_all());
        !is_of_limit && control.is_some_and(|control| control.is_overrun(zone, outcome))
    };
    found.extend(control.and_then(|control| overrun(control, &is_overrun)));
    if let Some(lead) = side.lead {
        early(side, lead, &is_overrun, &mut found);
    }
    messages(side, &is_overrun, &mut found);
    when_ready(side, control, &is_overrun, &mut found);
    found
}

/// The same of the side behind greenroom, of a server that answers by itself.
#[must_use]
pub(super) fn behind(side: &Side, control: Option<&Control>) -> Vec<Finding> {
    let mut found = findings(side, false, control);
    // It answers by itself.
    found.retain(|finding| !matches!(finding, Finding::NeverAnswers { .. }));
    let is_told = found.iter().any(|finding| matches!(finding, Finding::Overrun { .. }));
    if side.ready.is_none() && !side.runs.is_empty() && !is_told {
        let known = |outcome: Outcome| outcome != Outcome::Unknown;
        let [mut outcomes, cold] = [Zone::Race, Zone::Cold].map(|zone| side.most(zone, known));
        outcomes.extend(cold);
        let nobody = Finding::NobodyAnswered {
            runs: side.runs.len() as u64,
            clients: side.clients,
            outcomes,
        };
        found.insert(0, nobody);
    }
    found
}

/// Starts that never became ready: all where clients come, and not the one without them; or only some.
fn never_ready(side: &Side, quiet_ready: bool, found: &mut Vec<Finding>) {
    let never = side.runs.iter().filter(|run| run.cause == Cause::NeverReady).count() as u64;
    let runs = side.runs.len() as u64;
    let outcomes = || side.of_never_ready.clone();
    if never == 0 {
        return;
    }
    if never < runs {
        let outcomes = outcomes();
        found.push(Finding::StartsNeverReady { never, runs, outcomes });
    } else if quiet_ready {
        let outcomes = outcomes();
        found.push(Finding::HangsWhenMet { never, runs, outcomes });
    }
}

/// Whether all starts had a listener, and nobody who met it had even an answer to the handshake. Whoever has one may have
/// asked for the wrong path, or expects the wrong message: that says nothing of the server.
#[must_use]
pub(super) fn never_answers(side: &Side) -> bool {
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

/// Whom it fails because many come, early or late.
fn overrun(control: &Control, is_overrun: IsOverrun<'_>) -> Option<Finding> {
    let told = control.told_where(is_overrun);
    let mut outcomes: Vec<(Outcome, u64)> = Vec::new();
    let failures = control.failures.iter();
    for failure in failures.filter(|failure| is_overrun(failure.zone, failure.outcome)) {
        let clients = failure.clients.many.hits;
        match outcomes.iter_mut().find(|(known, _)| *known == failure.outcome) {
            Some((_, count)) => *count += clients,
            None => outcomes.push((failure.outcome, clients)),
        }
    }
    outcomes.retain(|&(_, clients)| clients > 0);
    outcomes.sort_by_key(|&(_, clients)| std::cmp::Reverse(clients));
    (!outcomes.is_empty()).then_some(Finding::Overrun {
        outcomes,
        failed: told.many,
        few: told.few,
        starts: control.starts,
        each: control.each,
    })
}

/// Whom it fails though it had answered others, but for those who are too many.
fn when_ready(side: &Side, control: Option<&Control>, is_overrun: IsOverrun<'_>, found: &mut Vec<Finding>) {
    let rejected = |outcome: Outcome| is_rejected(outcome) && !is_overrun(Zone::Ready, outcome);
    let outcomes = side.most(Zone::Ready, rejected);
    if outcomes.is_empty() {
        return;
    }
    let known = side.count(Zone::Ready, |outcome| outcome != Outcome::Unknown);
    let is_without_load = side.most(Zone::Ready, is_rejected) != outcomes;
    let rejected = if is_without_load && !outcomes.iter().any(|&(outcome, _)| is_load(outcome)) {
        &side.rejected_otherwise
    } else {
        &side.rejected
    };
    let last_ns = rejected.as_ref().map(|rejected| rejected.last_ns);
    found.push(Finding::FailsWhenReady {
        failed: Share::new(outcomes.iter().map(|&(_, clients)| clients).sum(), known),
        outcomes,
        last_ns: last_ns.or(side.last_rejected_ns).unwrap_or(0),
        rejected: rejected.clone(),
        few_too: control.is_some_and(|control| control.fails_few(Zone::Ready)),
    });
}

/// Whether something became of clients of a zone because many came.
type IsOverrun<'a> = &'a dyn Fn(Zone, Outcome) -> bool;

fn early(side: &Side, lead: Edge, is_overrun: IsOverrun<'_>, found: &mut Vec<Finding>) {
    // Of the starts that have this lead, and of no others.
    let of = |fits: &dyn Fn(Outcome) -> bool| {
        let fitting = side.early.iter().copied().filter(|&(outcome, _)| fits(outcome));
        fitting.collect::<Vec<_>>()
    };
    let sum = |all: &[(Outcome, u64)]| all.iter().map(|&(_, clients)| clients).sum::<u64>();
    let all = sum(&of(&|outcome| outcome != Outcome::Unknown));
    let ready = side.count(Zone::Ready, |outcome| outcome != Outcome::Unknown);
    // What becomes of as many later is no matter of coming early: it is told as that.
    let is_early = |outcome: Outcome| {
        let early = Share::new(sum(&of(&|one| one == outcome)), all);
        // What load does later says nothing of those that came early.
        let is_later = |one: Outcome| one == outcome && !is_overrun(Zone::Ready, one);
        let later = Share::new(side.count(Zone::Ready, is_later), ready);
        later.hits == 0 || early.low > later.high
    };
    let fits = |outcome: Outcome| outcome.is_rejection() && is_early(outcome) && !is_overrun(Zone::Race, outcome);
    let outcomes = of(&fits);
    let failed = sum(&outcomes);
    if failed > 0 {
        found.push(Finding::AcceptsEarly {
            lead,
            outcomes,
            failed: Share::new(failed, all),
            settle: side.settle,
        });
    }
    if loses_early(side, is_overrun) {
        let losses = losses(side, Zone::Race, is_overrun);
        found.push(Finding::LosesEarly {
            lead,
            lost: losses.first,
            unanswered: losses.unanswered.clients,
        });
    }
}

/// What clients of this zone lost, but for those who are too many.
fn losses(side: &Side, zone: Zone, is_overrun: IsOverrun<'_>) -> Losses {
    Losses::in_zone(side, zone, |outcome| is_overrun(zone, outcome))
}

/// Whether losing messages is a matter of coming early: more of the early ones lost their first than the
/// intervals of both can explain. What is lost as often when it is ready is another matter, and so is what is seen too seldom.
fn loses_early(side: &Side, is_overrun: IsOverrun<'_>) -> bool {
    let [early, later] = [Zone::Race, Zone::Ready].map(|zone| losses(side, zone, is_overrun).first);
    side.lead.is_some() && early.low > later.high
}

fn messages(side: &Side, is_overrun: IsOverrun<'_>, found: &mut Vec<Finding>) {
    // What is told as lost early is told once.
    let early = !loses_early(side, is_overrun);
    let zones = [(early, Zone::Race), (true, Zone::Ready)];
    let told = zones.into_iter().filter(|&(is_told, _)| is_told);
    let losses = told.fold(Losses::none(), |all, (_, zone)| all.and(losses(side, zone, is_overrun)));
    losing(side, losses, is_overrun(Zone::Ready, Outcome::Lost), found);
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

/// Which way it loses messages. What went to the wrong client may be any of them.
fn losing(side: &Side, losses: Losses, is_overrun: bool, found: &mut Vec<Finding>) {
    if side.strays.is_some() {
        return;
    }
    let unanswered = losses.unanswered();
    if unanswered.hits > 0 && !losses.is_chance() {
        found.push(Finding::LeavesUnanswered {
            clients: unanswered,
            when: side.silent.clone(),
        });
    }
    let lateness = side.lateness.filter(|_| !is_overrun);
    let handler = side.late_handler.filter(|handler| is_often(*handler));
    if let Some(handler) = handler.filter(|_| lateness.is_some_and(|lateness| lateness.is_of_time())) {
        found.push(Finding::HandlerLate { handler });
        return;
    }
    let of_place = lateness.filter(Lateness::is_of_place);
    if let Some(lateness) = of_place {
        found.push(Finding::FirstUnanswered {
            clients: lateness.early.and(lateness.later),
            hesitant: lateness.hesitant,
        });
    }
    let is_told = of_place.is_some_and(|lateness| lateness.after.hits == 0);
    let [first, all] = if losses.is_chance() {
        [losses.first, losses.all]
    } else {
        losses.of_answered()
    };
    if all.hits > 0 && !is_told {
        found.push(Finding::LosesMessages { first, all });
    }
}

/// More often than not, or not seldom and then several in a row: it is the server's way, and not an accident.
fn is_often(handler: LateHandler) -> bool {
    let often = limits::AUDIT_OFTEN;
    let in_a_row = handler.clients.low > limits::AUDIT_SELDOM && handler.several.seen() > often;
    handler.clients.low > often || in_a_row
}

impl Finding {
    /// A stable name, for rules of other tools.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongClient { .. } => "wrong-client",
            Self::AcceptsEarly { .. } => "accepts-early",
            Self::LosesEarly { .. } => "loses-early",
            Self::HandlerLate { .. } => "handler-late",
            Self::FirstUnanswered { .. } => "first-unanswered",
            Self::LosesMessages { .. } => "loses-messages",
            Self::LeavesUnanswered { .. } => "leaves-unanswered",
            Self::Doubles { .. } => "doubles",
            Self::Reorders { .. } => "reorders",
            Self::FailsWhenReady { .. } => "fails-when-ready",
            Self::Overrun { .. } => "overrun",
            Self::HangsWhenMet { .. } => "hangs-when-met",
            Self::StartsNeverReady { .. } => "starts-never-ready",
            Self::NobodyAnswered { .. } => "nobody-answered",
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
            | Self::StartsNeverReady { .. }
            | Self::NobodyAnswered { .. }
            | Self::NeverAnswers { .. }
            | Self::StartsFail { .. } => true,
            Self::WrongClient { .. }
            | Self::HandlerLate { .. }
            | Self::FirstUnanswered { .. }
            | Self::LosesMessages { .. }
            | Self::Doubles { .. }
            | Self::Reorders { .. }
            | Self::Overrun { .. } => false,
            Self::FailsWhenReady { rejected: when, .. } | Self::LeavesUnanswered { when, .. } => {
                when.as_ref().is_some_and(Rejected::stops)
            }
        }
    }
}

#[cfg(test)]
mod load;
#[cfg(test)]
mod losing;
#[cfg(test)]
mod tests;
