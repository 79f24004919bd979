//! What to do about each [`Finding`], for a server by itself and for one that is behind greenroom already. Pure.

use std::fmt::Write as _;

use greenroom_core::limits::{SETTLE_FACTOR, SETTLE_MAX, SETTLE_WARNED};

use super::finding::Finding;
use super::judge::Outcome;
use super::launcher::Way;
use super::plan::nanos;
use super::rejected::Rejected;
use super::side::Settle;
use super::text::span;

/// Behind greenroom, for whatever it does to clients before it is ready: greenroom believes it.
const SAY_READY: &str = "greenroom took it for ready too early. Have it say when its start-up is over, and run greenroom with what it says: `--ready notify` for READY=1 by sd_notify, `--ready http:/path` for a path that is answered with 200 only then; where it was run like that, it says so too early";

/// With which greenroom in front is the cure where a 101 and silence prove nothing.
const TOLD: &str = "or let it say when that is, and put greenroom in front with what it says: `greenroom run --ready notify --` for READY=1 by sd_notify, `greenroom run --ready http:/path --` for a path that is answered with 200 only then. With `--ready auto` and without such a word greenroom would believe its 101";

/// Behind greenroom, for clients whose handshake was not answered: they were held, as it should be, and gave up.
const HELD_LONG: &str = "greenroom held them until their patience ended: where a start takes longer than that, give more --patience; where it does not, see in its log why they were not let in. For clients that are really so impatient, `--hold accept` lets them in with a 101 of greenroom's own and keeps what they send";

impl Finding {
    /// What to do, where it was met this way.
    #[must_use]
    pub fn advice(&self, way: Way) -> String {
        match way {
            Way::Plain => self.by_itself(),
            Way::Greenroom => match self {
                Self::AcceptsEarly { outcomes, .. } if outcomes.iter().all(|(one, _)| *one == Outcome::Hung) => {
                    HELD_LONG.to_owned()
                }
                Self::AcceptsEarly { .. } | Self::LosesEarly { .. } | Self::HangsWhenMet { .. } => SAY_READY.to_owned(),
                Self::LeavesUnanswered { when: Some(when), .. } if when.stops() => SAY_READY.to_owned(),
                Self::FailsWhenReady { rejected, few_too, .. } => match rejected {
                    Some(rejected) if rejected.stops() => format!("{WORKERS}. {}", capital(SAY_READY)),
                    Some(_) | None => fails(rejected.as_ref(), *few_too),
                },
                Self::Overrun { .. } => format!(
                    "{OVERRUN}. Whom greenroom held it lets in together; a `release_rate` spreads them, and helps only where it is below what the server can do: measure it with and without"
                ),
                Self::WrongClient { .. }
                | Self::HandlerLate { .. }
                | Self::FirstUnanswered { .. }
                | Self::LosesMessages { .. }
                | Self::LeavesUnanswered { .. }
                | Self::StartsNeverReady { .. }
                | Self::NobodyAnswered { .. }
                | Self::Doubles { .. }
                | Self::Reorders { .. }
                | Self::NeverAnswers { .. }
                | Self::StartsFail { .. } => self.by_itself(),
            },
        }
    }

    fn by_itself(&self) -> String {
        match self {
            Self::WrongClient { .. } => "look at once for what connections share: a variable of the module for the connection, a buffer that is used again, a number that two have; whatever they say may be heard by others".to_owned(),
            Self::AcceptsEarly { settle, .. } => {
                let mut advice = "listen only when start-up is over, or put `greenroom run --` in front: it holds clients until the server is ready".to_owned();
                if let Some(settle) = settle {
                    let _ = write!(advice, ". {}", settle_advice(settle));
                }
                advice
            }
            Self::LosesEarly { .. } => format!("send the 101 only when start-up is over; {TOLD}"),
            Self::HandlerLate { .. } => "attach the message handler before anything is awaited, or read messages from a queue that begins with the opening".to_owned(),
            Self::FirstUnanswered { .. } => "if that is its protocol (the first message is a log-in), give a --message and an --expect that it answers, and the rest is measured as it is; if not, look for what takes the first message".to_owned(),
            Self::LosesMessages { first, .. } if first.hits == 0 => "it answers the first message and not all that follow: look for what ends while the connection stands, such as a handler that is done, a task that died, or a queue with a bound; look at the plot whether it stops at some moment".to_owned(),
            Self::LosesMessages { .. } => "look for what may run between the 101 and the handler: an await, a second worker, a queue with a bound".to_owned(),
            Self::LeavesUnanswered { when: Some(when), .. } if when.stops() => format!("{WORKERS}; {TOLD}"),
            Self::LeavesUnanswered { .. } => "it answered others in the same starts, so look into its log for what became of these: a handler that waits for something, a queue with a bound, a worker that takes no more; with more --patience you see whether they are answered later".to_owned(),
            Self::Doubles { .. } => "look for a handler that is attached twice, or a message that is sent on again after a retry".to_owned(),
            Self::Reorders { .. } => "handle the messages of one connection one after the other".to_owned(),
            Self::Overrun { .. } => format!("{OVERRUN}. `greenroom run --` in front is no cure: it makes nothing faster, and lets in those too whom nobody would have taken"),
            Self::FailsWhenReady { rejected, few_too, .. } => fails(rejected.as_ref(), *few_too),
            Self::HangsWhenMet { .. } => format!("start-up waits for something that a client has taken: begin to accept when it is over; {TOLD}"),
            Self::StartsNeverReady { .. } => "see what differs in these starts, first of all the last lines of its output in the report; if they only take longer, raise --start-timeout".to_owned(),
            Self::NobodyAnswered { .. } => "look at what it sees of a client behind greenroom: a Host or an Origin that names greenroom's address and not its own, or an address that it does not trust; run `greenroom run -- CMD` by hand and ask it".to_owned(),
            Self::NeverAnswers { .. } => "look for what its start-up waits for: a lock, a connection, or a client that waits for it; if it only takes longer, raise --start-timeout".to_owned(),
            Self::StartsFail { .. } => "see the last lines that it wrote, in the report; greenroom starts it again and keeps its clients meanwhile".to_owned(),
        }
    }
}

/// What the control starts leave open is whether those are answered later.
const OVERRUN: &str = "it is how many come, and not its start: make what it does for a new client cheaper, or run more of it; with more --patience you see what of it is only late. Where it takes a certain number and no more, that is a limit, or a pool to which nothing is given back";

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What several workers need.
const WORKERS: &str = "not all of it is ready when the first part is: let every worker be ready before one listens";

/// What to do about clients that are failed when others were answered: only what the data say.
fn fails(rejected: Option<&Rejected>, few_too: bool) -> String {
    match rejected {
        Some(rejected) if rejected.is_of_a_limit() => "this looks like a limit on connections, and not like its start: raise the limit, or audit it with fewer --clients; where the limit is wanted, nothing is wrong".to_owned(),
        Some(rejected) if rejected.stops() => {
            let settle = rejected.settle.as_ref().map(|settle| format!(". {}", settle_advice(settle)));
            format!(
                "{WORKERS}, or put `greenroom run --` in front, which proves each connection for a while{}",
                settle.unwrap_or_default()
            )
        }
        Some(_) | None if few_too => "it did so until the last clients came, and to few of them as well: its start may have nothing to do with it, and it is not their number; look into its log for what fails them".to_owned(),
        Some(_) | None => "it did so until the last clients came, so its start may have nothing to do with it: look into its log for what fails them, and audit it again with fewer --clients to see whether it is their number".to_owned(),
    }
}

/// How long greenroom's gate has to watch a 101, and whether it does. There is no option for it: greenroom learns it.
#[must_use]
pub fn settle_advice(settle: &Settle) -> String {
    let longest = settle.took.max_ns;
    let needed = longest.saturating_mul(u64::from(SETTLE_FACTOR));
    let (least, most) = (nanos(SETTLE_WARNED), nanos(SETTLE_MAX));
    let seen = format!(
        "It closes up to {} after its 101 ({} seen; the next takes longer with a probability of {:.1} % at the most), so whoever stands in front must watch each 101 for {SETTLE_FACTOR} times that, {}",
        span(longest),
        settle.took.count,
        settle.longer * 100.0,
        span(needed)
    );
    let max = span(most);
    let does = if needed <= least {
        format!(
            "greenroom learns that by itself, and watches such a server for {} at the least: so much later a client has its 101, until the start is over",
            span(least)
        )
    } else if needed <= most {
        "greenroom learns that by itself, and a client has its 101 as much later, until the start is over".to_owned()
    } else if longest <= most {
        format!(
            "greenroom watches for {max} at the most, which is longer than any that was seen and shorter than that: `--ready notify` or `--ready http:/path` makes it sure"
        )
    } else {
        format!(
            "greenroom watches for {max} at the most, so this server needs `--ready notify` or `--ready http:/path`"
        )
    };
    format!("{seen}: {does}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::stats::Share;

    const MS: u64 = 1_000_000;

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
        // Below its least, between its least and its most, beyond its most when doubled, and beyond it by itself.
        for (longest, said) in [
            (
                7,
                "for 2 times that, 14.0 ms: greenroom learns that by itself, and watches such a server for 100 ms at the least",
            ),
            (50, "100 ms at the least"),
            (
                51,
                "102 ms: greenroom learns that by itself, and a client has its 101 as much later",
            ),
            (125, "250 ms: greenroom learns that by itself"),
            (
                126,
                "for 250 ms at the most, which is longer than any that was seen and shorter than that: `--ready notify`",
            ),
            (250, "longer than any that was seen"),
            (251, "so this server needs `--ready notify` or `--ready http:/path`"),
        ] {
            let text = settle_advice(&settle(longest * MS));
            assert!(text.contains(said), "{longest} ms: {text}");
        }
    }

    #[test]
    fn nobody_is_told_to_put_greenroom_where_it_is_already() {
        let failed = Share::new(3, 9);
        let outcomes = Vec::new();
        let fails = Finding::FailsWhenReady {
            outcomes: outcomes.clone(),
            failed,
            last_ns: MS,
            rejected: None,
            few_too: false,
        };
        let overrun = Finding::Overrun {
            outcomes: outcomes.clone(),
            failed,
            few: Share::new(0, 30),
            starts: 3,
            each: 10,
        };
        let hangs = Finding::HangsWhenMet {
            never: 1,
            runs: 2,
            outcomes,
        };
        assert!(!fails.advice(Way::Greenroom).contains("in front"));
        let hung = Finding::AcceptsEarly {
            lead: crate::audit::side::Edge::of(vec![Default::default()]).unwrap(),
            outcomes: vec![(Outcome::Hung, 2)],
            failed,
            settle: None,
        };
        assert!(hung.advice(Way::Greenroom).contains("--patience"));
        assert!(hangs.advice(Way::Plain).contains("in front") && hangs.advice(Way::Plain).contains("--ready notify"));
        let behind = hangs.advice(Way::Greenroom);
        assert!(!behind.contains("in front") && behind.contains("READY=1"), "{behind}");
        assert!(overrun.advice(Way::Plain).contains("in front is no cure"));
        assert!(overrun.advice(Way::Greenroom).contains("release_rate"));
    }
}
