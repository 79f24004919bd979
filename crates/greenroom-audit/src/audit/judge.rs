//! What became of a client, from what it saw. Pure.
//!
//! One client has one [`Outcome`]. Where more than one would fit, the first of this order is taken:
//! how the connection ended, then messages lost, doubled, reordered, late. Who was opened and is answered
//! nothing until its patience ends is unanswered; who was not even opened is hung. A client whose own machine stood
//! still for [`limits::AUDIT_STALLED`] of the time that it waited in vain is `Unknown`: nothing is concluded from it.

use serde::{Deserialize, Serialize};

use super::record::{ClientRecord, Ending, Stage};
use super::unanswered;
use crate::limits;

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Outcome {
    /// All that it sent was answered as expected, in order, in time.
    Answered,
    /// The same, but the first answer came more than a second after the client did, without what it itself waited before it spoke.
    Late,
    /// Nobody listened.
    Refused,
    /// Reset.
    Reset,
    /// The connection ended without a Close (what browsers call 1006).
    Cut,
    /// Connected, and no answer to its handshake came until its patience ended.
    Hung,
    /// An HTTP answer other than 101.
    Status(u16),
    /// Closed with this code before all was answered; 1005 is a Close without one.
    Closed(u16),
    /// Opened; a message was never answered, and another was, though the connection stood.
    Lost,
    /// Opened; no message was answered until its patience ended, though the connection stood.
    Unanswered,
    /// A message was answered twice.
    Doubled,
    /// Answers came in another order than messages.
    Reordered,
    /// The protocol was broken.
    Broken,
    /// Not known: the machine stood still, or the client could not connect for reasons of its own.
    Unknown,
}

impl Outcome {
    /// Its name in reports and in `--fail-on`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Answered => "answered".into(),
            Self::Late => "late".into(),
            Self::Refused => "refused".into(),
            Self::Reset => "reset".into(),
            Self::Cut => "1006".into(),
            Self::Hung => "hung".into(),
            Self::Status(status) => format!("HTTP {status}"),
            Self::Closed(code) => code.to_string(),
            Self::Lost => "lost".into(),
            Self::Unanswered => "unanswered".into(),
            Self::Doubled => "doubled".into(),
            Self::Reordered => "reordered".into(),
            Self::Broken => "broken".into(),
            Self::Unknown => "unknown".into(),
        }
    }

    /// Whether the client got what it came for.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Answered | Self::Late)
    }

    /// Whether a server took the client and then failed it as a whole, as one does that is not ready.
    #[must_use]
    pub const fn is_rejection(self) -> bool {
        match self {
            Self::Reset | Self::Cut | Self::Hung | Self::Status(_) | Self::Closed(_) | Self::Broken => true,
            Self::Answered
            | Self::Late
            | Self::Refused
            | Self::Lost
            | Self::Unanswered
            | Self::Doubled
            | Self::Reordered
            | Self::Unknown => false,
        }
    }

    /// Whether it lost a message, or all.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::Lost | Self::Unanswered)
    }

    /// Whether the server failed this client as a whole, as one does that is not ready: it rejected it, or never answered it
    /// anything.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.is_rejection() || matches!(self, Self::Unanswered)
    }
}

impl From<Outcome> for String {
    fn from(outcome: Outcome) -> Self {
        outcome.name()
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or(name)
    }
}

impl Outcome {
    /// What a name means: one of [`Outcome::name`], `HTTP-503`, or a number, which is a status below 1000 and a close code above.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let plain = [
            Self::Answered,
            Self::Late,
            Self::Refused,
            Self::Reset,
            Self::Cut,
            Self::Hung,
            Self::Lost,
            Self::Unanswered,
            Self::Doubled,
            Self::Reordered,
            Self::Broken,
            Self::Unknown,
        ];
        if let Some(found) = plain.into_iter().find(|outcome| outcome.name() == lower) {
            return Some(found);
        }
        let number = lower.strip_prefix("http").unwrap_or(&lower);
        match number.trim_start_matches(['-', ' ', '_']).parse().ok()? {
            status @ 100..=999 => Some(Self::Status(status)),
            code @ 1000..=4999 => Some(Self::Closed(code)),
            _ => None,
        }
    }
}

/// The times that an outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// What a client waits for its 101 and its first answer, in nanoseconds.
    pub whole_ns: u64,
    /// What it waits for a missing answer when others have come.
    pub answer_ns: u64,
    /// A first answer that comes later than this after the client is late.
    pub late_ns: u64,
    /// Whether messages are to be answered at all.
    pub answers: bool,
}

/// What became of the client.
#[must_use]
pub fn judge(record: &ClientRecord, patience: Patience) -> Outcome {
    let stalled = |waited: u64| record.stalled_ns as f64 >= waited as f64 * limits::AUDIT_STALLED;
    let lost = patience.answers && missing(record) > 0;
    match &record.ending {
        Ending::TimedOut(_) if stalled(patience.whole_ns) => Outcome::Unknown,
        Ending::TimedOut(Stage::Open) if lost => of_messages(record, patience),
        // A server may say good-bye when it has answered.
        Ending::Closed {
            code: Some(1000 | 1001),
            ..
        } if patience.answers && !record.messages.is_empty() && !lost => of_messages(record, patience),
        Ending::Done if lost && stalled(in_vain(record, patience)) => Outcome::Unknown,
        Ending::Done if lost && !unanswered::is_decided(record, patience.whole_ns) => Outcome::Unknown,
        Ending::Done => of_messages(record, patience),
        ending => of_ending(ending),
    }
}

/// What an end is by itself.
#[must_use]
pub const fn of_ending(ending: &Ending) -> Outcome {
    match ending {
        Ending::Done => Outcome::Answered,
        Ending::Refused => Outcome::Refused,
        Ending::Reset(_) => Outcome::Reset,
        Ending::Cut(_) => Outcome::Cut,
        Ending::Status(status) => Outcome::Status(*status),
        Ending::Broken(_) => Outcome::Broken,
        Ending::Failed(_) => Outcome::Unknown,
        Ending::TimedOut(_) => Outcome::Hung,
        Ending::Closed { code: Some(code), .. } => Outcome::Closed(*code),
        Ending::Closed { code: None, .. } => Outcome::Closed(1005),
    }
}

/// Whether a client had an answer, or, where none is expected, a connection that stood: the server was ready for it.
#[must_use]
pub fn is_served(record: &ClientRecord, patience: Patience) -> bool {
    if patience.answers {
        record.first_answer().is_some()
    } else {
        record.opened_at.is_some() && judge(record, patience).is_good()
    }
}

/// Messages that were never answered and should have been.
#[must_use]
pub fn missing(record: &ClientRecord) -> usize {
    unanswered::lost(record).count()
}

/// What a client waited for a missing answer: at the least as long as for any, at the most its patience.
fn in_vain(record: &ClientRecord, patience: Patience) -> u64 {
    let waited = unanswered::waited(record).min(patience.whole_ns);
    waited.max(patience.answer_ns)
}

fn of_messages(record: &ClientRecord, patience: Patience) -> Outcome {
    let first = record.first_answer();
    // What the client itself waited before it spoke is nobody's lateness.
    let spoke = record.messages.first().map_or(0, |sent| sent.at);
    let own = record.opened_at.map_or(0, |opened| spoke.saturating_sub(opened));
    let after = |at: u64| at.saturating_sub(record.started_at);
    let took = match first {
        Some(answered) => Some(after(answered).saturating_sub(own)),
        None => record.opened_at.map(after), // no answer is expected
    };
    if patience.answers && missing(record) > 0 {
        first.map_or(Outcome::Unanswered, |_| Outcome::Lost)
    } else if record.messages.iter().any(|sent| sent.copies > 1) {
        Outcome::Doubled
    } else if record.reordered {
        Outcome::Reordered
    } else if took.is_some_and(|took| took > patience.late_ns) {
        Outcome::Late
    } else {
        Outcome::Answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Sent;

    const SECOND: u64 = 1_000_000_000;
    const PATIENCE: Patience = Patience {
        whole_ns: 10 * SECOND,
        answer_ns: SECOND,
        late_ns: SECOND,
        answers: true,
    };

    fn open(ending: Ending, answers: &[Option<u64>]) -> ClientRecord {
        let message = |&answered_at: &Option<u64>| Sent {
            at: 10,
            answered_at,
            copies: u16::from(answered_at.is_some()),
        };
        ClientRecord {
            opened_at: Some(5),
            ending,
            messages: answers.iter().map(message).collect(),
            ..ClientRecord::new(0, 0)
        }
    }

    #[test]
    fn each_way_to_end_has_its_outcome() {
        let closed = |code: Option<u16>| Ending::Closed {
            code,
            reason: String::new(),
        };
        let (yes, no) = (Some(20), None);
        for (record, expected) in [
            (open(Ending::Done, &[yes, yes]), Outcome::Answered),
            (open(Ending::Done, &[no, yes]), Outcome::Lost),
            (open(Ending::Done, &[Some(2 * SECOND)]), Outcome::Late),
            (open(Ending::Refused, &[]), Outcome::Refused),
            (open(Ending::Reset(Stage::Open), &[yes]), Outcome::Reset),
            (open(Ending::Cut(Stage::Opening), &[]), Outcome::Cut),
            (open(Ending::Status(503), &[]), Outcome::Status(503)),
            (open(closed(Some(1011)), &[no]), Outcome::Closed(1011)),
            (open(closed(None), &[no]), Outcome::Closed(1005)),
            (open(closed(Some(1000)), &[no]), Outcome::Closed(1000)),
            (open(closed(Some(1000)), &[yes]), Outcome::Answered),
            (open(closed(Some(1000)), &[]), Outcome::Closed(1000)),
            (open(Ending::TimedOut(Stage::Opening), &[]), Outcome::Hung),
            (open(Ending::TimedOut(Stage::Open), &[no, no]), Outcome::Unanswered),
            (open(Ending::TimedOut(Stage::Open), &[no, yes]), Outcome::Lost),
            (open(Ending::TimedOut(Stage::Open), &[yes]), Outcome::Hung),
            (open(Ending::Broken("x".into()), &[]), Outcome::Broken),
            (open(Ending::Failed("x".into()), &[]), Outcome::Unknown),
        ] {
            assert_eq!(judge(&record, PATIENCE), expected, "{record:?}");
        }
        let mut twice = open(Ending::Done, &[yes]);
        twice.messages[0].copies = 2;
        assert_eq!(judge(&twice, PATIENCE), Outcome::Doubled);
        let mut turned = open(Ending::Done, &[yes, yes]);
        turned.reordered = true;
        assert_eq!(judge(&turned, PATIENCE), Outcome::Reordered);
    }

    #[test]
    fn who_waited_in_vain_while_the_machine_stood_still_is_unknown_and_nobody_else() {
        let (mut hung, mut lost) = (
            open(Ending::TimedOut(Stage::Opening), &[None]),
            open(Ending::Done, &[None, Some(9)]),
        );
        for (record, waited, failed) in [
            (&mut hung, PATIENCE.whole_ns, Outcome::Hung),
            (&mut lost, PATIENCE.answer_ns, Outcome::Lost),
        ] {
            record.stalled_ns = waited / 4 - 1;
            assert_eq!(judge(record, PATIENCE), failed);
            record.stalled_ns = waited / 4;
            assert_eq!(judge(record, PATIENCE), Outcome::Unknown);
        }
        // What came all the same is known.
        let mut closed = open(Ending::Status(503), &[]);
        closed.stalled_ns = PATIENCE.whole_ns;
        assert_eq!(judge(&closed, PATIENCE), Outcome::Status(503));
    }

    #[test]
    fn what_a_client_itself_waited_before_it_spoke_is_not_late() {
        let mut slow = open(Ending::Done, &[Some(SECOND + 100)]);
        assert_eq!(judge(&slow, PATIENCE), Outcome::Late);
        slow.messages[0].at = SECOND / 2;
        assert_eq!(judge(&slow, PATIENCE), Outcome::Answered);
        // Nor is it where no answer is expected: there the 101 is the answer.
        (slow.messages[0].answered_at, slow.opened_at) = (None, Some(SECOND + SECOND / 10));
        slow.messages[0].at = 2 * SECOND;
        let silent = Patience {
            answers: false,
            ..PATIENCE
        };
        assert_eq!(judge(&slow, silent), Outcome::Late);
        slow.opened_at = Some(SECOND / 2);
        assert_eq!(judge(&slow, silent), Outcome::Answered);
    }

    #[test]
    fn who_ended_before_its_patience_with_nothing_overtaken_is_unknown() {
        let mut ended = open(Ending::Done, &[Some(20), None]);
        ended.ended_at = 20 + PATIENCE.whole_ns - 1;
        assert_eq!(judge(&ended, PATIENCE), Outcome::Unknown);
        ended.ended_at += 1;
        assert_eq!(judge(&ended, PATIENCE), Outcome::Lost);
    }

    #[test]
    fn every_name_is_read_back() {
        use Outcome::{
            Broken, Closed, Cut, Doubled, Hung, Late, Lost, Refused, Reordered, Reset, Status, Unanswered, Unknown,
        };
        for outcome in [
            Late,
            Refused,
            Reset,
            Cut,
            Hung,
            Status(503),
            Closed(1011),
            Lost,
            Unanswered,
            Doubled,
            Reordered,
            Broken,
            Unknown,
        ] {
            assert_eq!(Outcome::parse(&outcome.name()), Some(outcome), "{outcome:?}");
        }
        assert_eq!(Outcome::parse("http-503"), Some(Status(503)));
        assert_eq!(Outcome::parse("99"), None);
        assert_eq!(Outcome::parse("nonsense"), None);
    }

    #[test]
    fn where_no_answer_is_expected_none_is_missing() {
        let silent = Patience {
            answers: false,
            ..PATIENCE
        };
        let stood = open(Ending::Done, &[None]);
        assert_eq!(judge(&stood, silent), Outcome::Answered);
        assert!(is_served(&stood, silent) && !is_served(&stood, PATIENCE));
        assert!(!is_served(&open(Ending::Cut(Stage::Open), &[None]), silent));
        let never = open(Ending::TimedOut(Stage::Opening), &[]);
        assert_eq!(
            (judge(&never, silent), is_served(&never, silent)),
            (Outcome::Hung, false)
        );
    }
}
