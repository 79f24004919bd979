//! What to do about each [`Finding`], for a server by itself and for one that is behind greenroom already. Pure.

use std::fmt::Write as _;

use super::finding::Finding;
use super::plan::nanos;
use super::side::Settle;
use super::stage::Way;
use super::text::span;

/// Behind greenroom, for whatever it does to clients before it is ready: greenroom believes it.
const SAY_READY: &str = "greenroom took it for ready too early: have it say READY=1 by sd_notify when start-up is over, or give greenroom a readiness check that asks for what clients need (`--ready http:/path`)";

impl Finding {
    /// What to do, where it was met this way.
    #[must_use]
    pub fn advice(&self, way: Way) -> String {
        match way {
            Way::Plain => self.by_itself(),
            Way::Greenroom => match self {
                Self::AcceptsEarly { .. } | Self::LosesEarly { .. } | Self::HangsWhenMet { .. } => SAY_READY.to_owned(),
                Self::FailsWhenReady { .. } => {
                    format!(
                        "not all of it is ready when the first part is: let every worker be ready before one listens. {}",
                        capital(SAY_READY)
                    )
                }
                Self::Overrun { .. } => format!(
                    "{OVERRUN}. Whom greenroom held it lets in together; a `release_rate` spreads them, and helps only where it is below what the server can do: measure it with and without"
                ),
                Self::WrongClient { .. }
                | Self::HandlerLate { .. }
                | Self::FirstUnanswered { .. }
                | Self::LosesMessages { .. }
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
            Self::LosesEarly { .. } => "send the 101 only when start-up is over; or have the server say READY=1 by sd_notify (or answer a readiness check) and put `greenroom run --` in front".to_owned(),
            Self::HandlerLate { .. } => "attach the message handler before anything is awaited, or read messages from a queue that begins with the opening".to_owned(),
            Self::FirstUnanswered { .. } => "if that is its protocol (the first message is a log-in), give a --message and an --expect that it answers, and the rest is measured as it is; if not, look for what takes the first message".to_owned(),
            Self::LosesMessages { .. } => "look for what may run between the 101 and the handler: an await, a second worker, a queue with a bound".to_owned(),
            Self::Doubles { .. } => "look for a handler that is attached twice, or a message that is sent on again after a retry".to_owned(),
            Self::Reorders { .. } => "handle the messages of one connection one after the other".to_owned(),
            Self::Overrun { .. } => format!("{OVERRUN}. `greenroom run --` in front is no cure: it makes nothing faster, and lets in those too whom nobody would have taken"),
            Self::FailsWhenReady { .. } => "not all of it is ready when the first part is: let every worker be ready before one listens, or put `greenroom run --` in front, which proves each connection for a while".to_owned(),
            Self::HangsWhenMet { .. } => "start-up waits for something that a client has taken: begin to accept when it is over, or put `greenroom run --` in front, which lets nobody in before".to_owned(),
            Self::StartsNeverReady { .. } => "see what differs in these starts, first of all the last lines of its output in the report; if they only take longer, raise --start-timeout".to_owned(),
            Self::NobodyAnswered { .. } => "look at what it sees of a client behind greenroom: a Host or an Origin that names greenroom's address and not its own, or an address that it does not trust; run `greenroom run -- CMD` by hand and ask it".to_owned(),
            Self::NeverAnswers { .. } => "look for what its start-up waits for: a lock, a connection, or a client that waits for it; if it only takes longer, raise --start-timeout".to_owned(),
            Self::StartsFail { .. } => "see the last lines of its output in the report; greenroom starts it again and keeps its clients meanwhile".to_owned(),
        }
    }
}

/// A server that stops answering for good looks the same: so the first step is to find out.
const OVERRUN: &str = "audit it again with fewer --clients, or more --patience: if all are answered then, it is load and not its start, so make what it does for a new client cheaper, or run more of it; if not, it stops answering for good";

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::crowd::Crowd;
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
        assert!(settle_advice(&settle(7 * MS)).contains("learns that by itself"));
        assert!(settle_advice(&settle(400 * MS)).contains("needs a pushed READY"));
    }

    #[test]
    fn nobody_is_told_to_put_greenroom_where_it_is_already() {
        let failed = Share::new(3, 9);
        let crowd = Crowd::of(vec![0, 1], vec![7, 8]).unwrap();
        let outcomes = Vec::new();
        let fails = Finding::FailsWhenReady {
            outcomes: outcomes.clone(),
            failed,
            last_ns: MS,
        };
        let overrun = Finding::Overrun {
            outcomes: outcomes.clone(),
            failed,
            crowd,
        };
        let hangs = Finding::HangsWhenMet {
            never: 1,
            runs: 2,
            outcomes,
        };
        for finding in [&fails, &hangs] {
            assert!(finding.advice(Way::Plain).contains("in front"), "{finding:?}");
            let behind = finding.advice(Way::Greenroom);
            assert!(!behind.contains("in front") && behind.contains("READY=1"), "{behind}");
        }
        assert!(overrun.advice(Way::Plain).contains("in front is no cure"));
        assert!(overrun.advice(Way::Greenroom).contains("release_rate"));
    }
}
