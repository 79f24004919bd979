//! When a message without an answer is lost, and how long its client waits before that is said. Pure.
//!
//! A message may also be late: the server may stand still, or work at something else. So a client says *lost* only
//!
//! - of a message that was overtaken: a later one of the same connection was answered, and the server had long enough
//!   after that, a second, or four times what its slowest answer took;
//! - or at the end of its whole patience.
//!
//! Whether the last messages are overtaken shows only when there is a later one. So a client that has waited a second for
//! them asks once more. Messages that cannot be told apart are answered in order as far as anybody can know: there, fewer
//! answers than messages are waited for as if the missing one were overtaken.
//!
//! Whoever is closed with 1000 or 1001 after an answer is told good-bye: what it said shortly before is not lost, the
//! server had ended the talk.

use super::plan::nanos;
use super::record::{ClientRecord, Ending, Sent};
use crate::limits;

/// A client that has sent all it was to send; moments of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// What it sent, with the answers so far.
    pub messages: &'a [Sent],
    /// Where messages cannot be told apart: when answers came.
    pub answers: Option<&'a [u64]>,
    /// When it was opened.
    pub opened: u64,
    /// Whether it has asked once more.
    pub asked: bool,
    /// Its patience.
    pub patience_ns: u64,
}

/// What it does next, if nothing comes until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It asks once more.
    Ask(u64),
    /// There is nothing more to wait for.
    Done(u64),
}

impl Waiting<'_> {
    /// What it does next.
    #[must_use]
    pub fn next(&self) -> Next {
        let heard = self.heard();
        if heard >= self.messages.len() {
            return Next::Done(self.opened);
        }
        let last = self.last();
        let is_overtaken = match self.answers {
            Some(_) => heard > 0 && (self.asked || self.messages.len() > 1),
            None => self.messages.last().is_some_and(|sent| sent.answered_at.is_some()),
        };
        if is_overtaken {
            return Next::Done(last.saturating_add(self.grace()));
        }
        let since = if heard == 0 { self.opened } else { last };
        let over = since.saturating_add(self.patience_ns);
        let ask = last.saturating_add(nanos(limits::AUDIT_ANSWER_WAIT));
        if self.asked || ask >= over {
            Next::Done(over)
        } else {
            Next::Ask(ask)
        }
    }

    fn heard(&self) -> usize {
        match self.answers {
            Some(answers) => answers.len(),
            None => self.messages.iter().filter(|sent| sent.answered_at.is_some()).count(),
        }
    }

    /// When something was sent or answered last.
    fn last(&self) -> u64 {
        let numbered = self.messages.iter().filter_map(|sent| sent.answered_at);
        let alike = self.answers.into_iter().flatten().copied();
        let sent = self.messages.iter().map(|sent| sent.at);
        numbered.chain(alike).chain(sent).max().unwrap_or(self.opened)
    }

    /// How long an overtaken message is still waited for.
    fn grace(&self) -> u64 {
        let slowest = match (self.answers, self.messages.first()) {
            (Some(answers), Some(first)) => answers.first().map_or(0, |at| at.saturating_sub(first.at)),
            _ => slowest(self.messages),
        };
        let least = nanos(limits::AUDIT_ANSWER_WAIT).min(self.patience_ns);
        (slowest.saturating_mul(limits::AUDIT_ANSWER_FACTOR)).clamp(least, self.patience_ns)
    }
}

fn slowest(messages: &[Sent]) -> u64 {
    let took = |sent: &Sent| Some(sent.answered_at?.saturating_sub(sent.at));
    messages.iter().filter_map(took).max().unwrap_or(0)
}

/// Which messages were never answered and are lost: all that have no answer, but for those that a good-bye overtook.
pub fn lost(record: &ClientRecord) -> impl Iterator<Item = usize> + '_ {
    let told = said_goodbye(record);
    let unanswered = (0..record.messages.len()).filter(|&index| record.messages[index].answered_at.is_none());
    unanswered.filter(move |&index| told.is_none_or(|from| index < from))
}

/// From which message on nothing is lost, as the server had said good-bye.
fn said_goodbye(record: &ClientRecord) -> Option<usize> {
    let Ending::Closed {
        code: Some(1000 | 1001),
        ..
    } = record.ending
    else {
        return None;
    };
    let answered = record.messages.iter().rposition(|sent| sent.answered_at.is_some())?;
    let way = slowest(&record.messages)
        .saturating_mul(limits::AUDIT_ANSWER_FACTOR)
        .max(nanos(limits::AUDIT_GOODBYE));
    let shortly = |sent: &Sent| record.ended_at.saturating_sub(sent.at) <= way;
    let from = answered + 1;
    record.messages[from..].iter().all(shortly).then_some(from)
}

/// Whether a message without an answer is lost for certain: a later one was answered, or the whole patience is over. What
/// ends a client earlier (a bound of ours) says nothing.
#[must_use]
pub fn is_decided(record: &ClientRecord, patience_ns: u64) -> bool {
    let is_overtaken = record.messages.last().is_none_or(|sent| sent.answered_at.is_some());
    is_overtaken || waited(record) >= patience_ns
}

/// How long a client has waited in vain at its end.
#[must_use]
pub fn waited(record: &ClientRecord) -> u64 {
    let moments = record
        .messages
        .iter()
        .flat_map(|sent| [Some(sent.at), sent.answered_at]);
    let last = moments.flatten().max().unwrap_or(record.started_at);
    record.ended_at.saturating_sub(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    fn sent(all: &[(u64, Option<u64>)]) -> Vec<Sent> {
        let one = |&(at, answered_at): &(u64, Option<u64>)| Sent {
            at: at * MS,
            answered_at: answered_at.map(|at| at * MS),
            copies: u16::from(answered_at.is_some()),
        };
        all.iter().map(one).collect()
    }

    fn next(messages: &[Sent], answers: Option<&[u64]>, asked: bool) -> Next {
        let waiting = Waiting {
            messages,
            answers,
            opened: 0,
            asked,
            patience_ns: 10 * SECOND,
        };
        waiting.next()
    }

    #[test]
    fn who_has_all_answers_is_done_at_once() {
        let all = sent(&[(0, Some(1)), (1, Some(2))]);
        assert_eq!(next(&all, None, false), Next::Done(0));
        assert_eq!(next(&sent(&[(0, None)]), Some(&[5]), false), Next::Done(0));
    }

    #[test]
    fn the_last_messages_are_asked_after_and_then_waited_for_with_the_whole_patience() {
        // A server that stood still from the second on: none of the rest is overtaken.
        let still = sent(&[(0, Some(1)), (1, None), (2, None)]);
        assert_eq!(next(&still, None, false), Next::Ask(2 * MS + SECOND));
        let asked = sent(&[(0, Some(1)), (1, None), (2, None), (1_002, None)]);
        assert_eq!(next(&asked, None, true), Next::Done(1_002 * MS + 10 * SECOND));
        // Who was never answered waits from its opening on.
        let never = sent(&[(0, None), (1, None)]);
        assert_eq!(next(&never, None, false), Next::Ask(MS + SECOND));
        assert_eq!(next(&never, None, true), Next::Done(10 * SECOND));
    }

    #[test]
    fn who_has_less_patience_than_a_second_does_not_ask() {
        let never = sent(&[(0, None), (1, None)]);
        let impatient = Waiting {
            messages: &never,
            answers: None,
            opened: 0,
            asked: false,
            patience_ns: 700 * MS,
        };
        assert_eq!(impatient.next(), Next::Done(700 * MS));
    }

    #[test]
    fn an_overtaken_message_has_a_second_more_or_four_times_what_the_slowest_answer_took() {
        let quick = sent(&[(0, None), (1, Some(2))]);
        assert_eq!(next(&quick, None, false), Next::Done(2 * MS + SECOND));
        let slow = sent(&[(0, None), (1, Some(801))]);
        assert_eq!(next(&slow, None, true), Next::Done(801 * MS + 3_200 * MS));
        let slower = sent(&[(0, None), (1, Some(5_001))]);
        assert_eq!(next(&slower, None, true), Next::Done(5_001 * MS + 10 * SECOND));
    }

    #[test]
    fn of_messages_that_are_alike_the_second_answer_has_four_times_what_the_first_took() {
        let one = sent(&[(0, None)]);
        assert_eq!(next(&one, Some(&[]), false), Next::Ask(SECOND));
        let two = sent(&[(0, None), (1_000, None)]);
        // A server that needs 1.5 s for each answers the second at 3 s.
        assert_eq!(
            next(&two, Some(&[1_500 * MS]), true),
            Next::Done(1_500 * MS + 6 * SECOND)
        );
        assert_eq!(next(&two, Some(&[1_500 * MS, 3_000 * MS]), true), Next::Done(0));
        assert_eq!(next(&two, Some(&[]), true), Next::Done(10 * SECOND));
    }

    fn closed(code: u16, ended: u64, all: &[(u64, Option<u64>)]) -> Vec<usize> {
        let record = ClientRecord {
            opened_at: Some(0),
            ended_at: ended * MS,
            ending: Ending::Closed {
                code: Some(code),
                reason: String::new(),
            },
            messages: sent(all),
            ..ClientRecord::new(0, 0)
        };
        lost(&record).collect()
    }

    #[test]
    fn what_is_said_into_a_good_bye_is_not_lost() {
        let talk = [(0, Some(2)), (1, None), (2, None)];
        assert!(closed(1000, 3, &talk).is_empty() && closed(1001, 90, &talk).is_empty());
        // Any other close, a close without an answer before it, one that came long after, and what was overtaken, is a loss.
        assert_eq!(closed(1011, 3, &talk), [1, 2]);
        assert_eq!(closed(1000, 3, &[(0, None)]), [0]);
        assert_eq!(closed(1000, 700, &talk), [1, 2]);
        assert_eq!(closed(1000, 3, &[(0, None), (1, Some(2)), (2, None)]), [0]);
    }
}
