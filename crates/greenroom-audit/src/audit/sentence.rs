//! What is wrong, in a sentence whose subject is the server: each [`Finding`] in words, with its figures. Pure.
//!
//! Nothing is said that the figures do not show: a cause is named where the data leave no other.

use super::crosstalk::Crosstalk;
use super::finding::Finding;
use super::judge::Outcome;
use super::launcher::Way;
use super::rejected::Rejected;
use super::side::{Edge, LateHandler};
use super::stats::Share;
use super::text::{about, between, count, grouped, list, percent, span};

impl Finding {
    /// What is wrong, for a server that was met this way. Behind greenroom nobody sees when the server itself listens.
    #[must_use]
    pub fn sentence_for(&self, way: Way) -> String {
        match (way, self) {
            (Way::Greenroom, Self::AcceptsEarly { outcomes, failed, .. }) => format!(
                "fails clients before anybody is answered: it {} ({} of {} clients that came until then)",
                ways(outcomes),
                failed.hits,
                failed.of
            ),
            (Way::Greenroom, Self::LosesEarly { lost, unanswered, .. }) => format!(
                "opens WebSockets before it is ready, and {} what is sent meanwhile ({} of {} clients that came before anybody was answered)",
                loses(lost.hits - unanswered.min(&lost.hits), *unanswered),
                lost.hits,
                lost.of
            ),
            (Way::Plain | Way::Greenroom, _) => self.sentence(),
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::WrongClient { strays } => astray(*strays),
            Self::AcceptsEarly {
                lead, outcomes, failed, ..
            } => format!(
                "accepts connections {} before it is ready, and {} ({} of {} clients in that time)",
                of_edge(*lead),
                ways(outcomes),
                failed.hits,
                failed.of
            ),
            Self::LosesEarly { lead, lost, unanswered } => format!(
                "opens WebSockets {} before it is ready, and {} what is sent meanwhile ({} of {} clients)",
                of_edge(*lead),
                loses(lost.hits - unanswered.min(&lost.hits), *unanswered),
                lost.hits,
                lost.of
            ),
            Self::HandlerLate { handler } => late(*handler),
            Self::FirstUnanswered { clients, hesitant } => first_unanswered(*clients, *hesitant),
            Self::LosesMessages { first, all } => losing(*first, *all),
            Self::LeavesUnanswered { clients, when } => unanswered(*clients, when.as_ref()),
            Self::Doubles { clients } => format!("answers messages twice ({})", of(*clients)),
            Self::Reorders { clients } => format!(
                "answers messages in another order than they were sent ({})",
                of(*clients)
            ),
            Self::FailsWhenReady {
                outcomes,
                failed,
                last_ns,
                rejected,
                ..
            } => format!(
                "fails clients although it has answered others: it {} ({}), {}",
                ways(outcomes),
                of(*failed),
                when(*last_ns, rejected.as_ref())
            ),
            Self::Overrun {
                outcomes,
                failed,
                few,
                starts,
                each,
            } => {
                let few = with_few(*few, *starts, *each);
                format!(
                    "is overrun when many come: it {} ({}); {few}",
                    ways(outcomes),
                    of(*failed)
                )
            }
            Self::HangsWhenMet { never, runs, outcomes } => hanging(*never, *runs, outcomes),
            Self::StartsNeverReady { never, runs, outcomes } => never_ready(*never, *runs, outcomes),
            Self::NobodyAnswered {
                runs,
                clients,
                outcomes,
            } => nobody(*runs, *clients, outcomes),
            Self::NeverAnswers { clients, outcomes } => format!(
                "takes clients and never answers anybody, whether they come early or late: it {} ({clients} clients)",
                ways(outcomes)
            ),
            Self::StartsFail { failed, runs, how } => {
                format!("ends by itself, {how}, while clients come ({failed} of {runs} starts)")
            }
        }
    }
}

fn astray(strays: Crosstalk) -> String {
    format!(
        "answers to the wrong client: {} of {}, which their senders never had, came to others ({} of {} heard one)",
        grouped(strays.messages.hits),
        count(strays.messages.of, "message"),
        grouped(strays.clients.hits),
        count(strays.clients.of, "client")
    )
}

fn first_unanswered(clients: Share, hesitant: Share) -> String {
    format!(
        "does not answer the first message of a connection, whenever it is sent ({} of {}; of those that sent it when others had been answered already, {} of {})",
        grouped(clients.hits),
        count(clients.of, "client"),
        grouped(hesitant.hits),
        grouped(hesitant.of)
    )
}

/// What is seen to be lost is called so, and what may only be late is not.
const fn loses(lost: u64, unanswered: u64) -> &'static str {
    match (lost, unanswered) {
        (_, 0) => "loses",
        (0, _) => "answers nothing of",
        _ => "loses, or does not answer,",
    }
}

fn hanging(never: u64, runs: u64, outcomes: &[(Outcome, u64)]) -> String {
    format!(
        "does not become ready when clients come while it starts ({never} of {runs} starts; the one start with hardly any did): it {}",
        ways(outcomes)
    )
}

fn never_ready(never: u64, runs: u64, outcomes: &[(Outcome, u64)]) -> String {
    format!(
        "never became ready in {never} of {runs} starts, and did in the others: in these it {}",
        ways(outcomes)
    )
}

fn unanswered(clients: Share, rejected: Option<&Rejected>) -> String {
    let stops = rejected.filter(|rejected| rejected.stops());
    let when = stops.map_or_else(String::new, |rejected| format!(", {}", when(rejected.last_ns, stops)));
    format!(
        "leaves clients unanswered: it opened them, and answered nothing that they said until their patience ended ({}){when}",
        of(clients)
    )
}

fn losing(first: Share, all: Share) -> String {
    if first.hits == 0 {
        return format!(
            "loses messages: {} of {}, none of them the first of its connection",
            all.hits, all.of
        );
    }
    format!(
        "loses messages: the first one of {} of {} clients ({}), {} of {} messages in all",
        first.hits,
        first.of,
        percent(first),
        all.hits,
        all.of
    )
}

fn nobody(runs: u64, clients: u64, outcomes: &[(Outcome, u64)]) -> String {
    format!(
        "answered nobody, in {} with {}: it {}",
        count(runs, "start"),
        count(clients, "client"),
        ways(outcomes)
    )
}

/// A share of clients, with its interval.
fn of(share: Share) -> String {
    format!(
        "{} of {}, {}",
        grouped(share.hits),
        count(share.of, "client"),
        percent(share)
    )
}

/// What became of those that came in control starts.
fn with_few(few: Share, starts: u64, each: u64) -> String {
    let failed = match few.hits {
        0 => "none".to_owned(),
        some => format!("only {}", grouped(some)),
    };
    format!(
        "with {} a start it failed {failed} of the {} that it took, in {}",
        grouped(each),
        grouped(few.of),
        count(starts, "start")
    )
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

/// When it fails those who come although others were answered, as far as that is known.
fn when(last_ns: u64, rejected: Option<&Rejected>) -> String {
    let last = span(last_ns);
    match rejected {
        None => format!("the last of them {last} after its first answer"),
        Some(rejected) if rejected.is_of_a_limit() => format!(
            "all of them when {} or more others were connected; none of the {} that met fewer was failed",
            rejected.connected.least,
            grouped(rejected.connected.below)
        ),
        Some(rejected) if rejected.stops() => format!(
            "the last of them {last} after its first answer, and none of the {} that came later",
            grouped(rejected.since_then)
        ),
        Some(rejected) => format!(
            "up to {last} after its first answer, with {} to {} others connected",
            rejected.connected.least, rejected.connected.most
        ),
    }
}

fn of_edge(edge: Edge) -> String {
    let told = about(edge.typical);
    if edge.runs <= 1 {
        return told;
    }
    let range = format!(
        "{} to {} in {} starts",
        span(edge.least_ns),
        span(edge.most_ns),
        edge.runs
    );
    match told.strip_suffix(')') {
        Some(open) => format!("{open}; {range})"),
        None => format!("{told} ({range})"),
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
        Outcome::Hung => "does not answer their handshake in time".into(),
        Outcome::Refused => "refuses them".into(),
        Outcome::Broken => "breaks the protocol".into(),
        Outcome::Lost => "loses messages".into(),
        Outcome::Unanswered => "opens them and answers nothing that they say in time".into(),
        Outcome::Doubled => "answers twice".into(),
        Outcome::Reordered => "changes their order".into(),
        Outcome::Late => "answers late".into(),
        Outcome::Answered => "answers".into(),
        Outcome::Unknown => "does what is not known".into(),
    }
}
