//! Whether what is lost at the beginning of a connection is a matter of time, of place, or of chance. Pure.
//!
//! A handler that is attached late loses what is *said early*; a protocol whose first message is not answered, a log-in
//! for example, loses what is *said first*, whenever that is; chance loses one message as well as another. Most clients
//! say their first message at once, so early and first are the same for them. Some [hesitate](hesitates): they say it
//! when any handler is there. The shares of first messages that were lost, by when they were said,
//! and of later ones, tell the three apart, where their 99.99 % intervals do not meet.

use serde::{Deserialize, Serialize};

use super::plan::nanos;
use super::record::{ClientRecord, Interval};
use super::side::LateHandler;
use super::stats::Share;
use crate::limits;

/// Shares of messages lost, of clients that were answered something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// First messages that were said early: before the moment that best parts lost from kept ones.
    pub early: Share,
    /// First messages that were said later than that.
    pub later: Share,
    /// First messages that were said when others had their first answer already.
    pub hesitant: Share,
    /// Messages behind the first that was answered.
    pub after: Share,
}

impl Lateness {
    /// Of these clients, which typically had their first answer within `attached` of their opening.
    #[must_use]
    pub fn of(clients: &[&ClientRecord], attached: Interval) -> Self {
        let mut firsts: Vec<(u64, bool)> = clients.iter().filter_map(|client| first(client)).collect();
        firsts.sort_unstable();
        let (early, later) = firsts.split_at(best_part(&firsts));
        let from = firsts.partition_point(|&(after, _)| after <= attached.high_ns);
        let (mut lost, mut of) = (0, 0);
        for client in clients {
            let behind = client
                .messages
                .iter()
                .skip_while(|sent| sent.answered_at.is_none())
                .skip(1);
            of += behind.clone().count() as u64;
            lost += behind.filter(|sent| sent.answered_at.is_none()).count() as u64;
        }
        Self {
            early: share(early),
            later: share(later),
            hesitant: share(&firsts[from..]),
            after: Share::new(lost, of),
        }
    }

    /// What is said early is lost, and neither what is said late nor what comes behind an answer.
    #[must_use]
    pub fn is_of_time(&self) -> bool {
        self.early.low > self.later.high && self.early.low > self.after.high
    }

    /// What is said first is lost, whenever that is.
    #[must_use]
    pub fn is_of_place(&self) -> bool {
        let all = self.early.and(self.later);
        !self.is_of_time()
            && all.low > limits::AUDIT_OFTEN
            && all.low > self.after.high
            && self.hesitant.low > self.after.high
    }
}

/// How late a handler is attached, of clients that were answered something: from what they lost before their first answer.
/// Those that said their first message when others had been answered are no witnesses.
#[must_use]
pub fn late_handler(clients: &[&ClientRecord]) -> Option<LateHandler> {
    let brackets: Vec<Interval> = clients.iter().filter_map(|client| bracket(client)).collect();
    let attached = Interval::new(
        median(&brackets, |one| one.low_ns)?,
        median(&brackets, |one| one.high_ns)?,
    );
    let witnesses = clients
        .iter()
        .filter(|client| first(client).is_some_and(|(after, _)| after <= attached.high_ns));
    let (mut of, mut lost, mut several, mut within) = (0, 0, 0, 0);
    for client in witnesses {
        of += 1;
        if let Some(bracket) = bracket(client) {
            lost += 1;
            several += u64::from(lost_first(client) > 1);
            within = bracket.low_ns.max(within);
        }
    }
    (lost > 0).then(|| LateHandler {
        clients: Share::new(lost, of),
        several: Share::new(several, lost),
        attached,
        lost_within_ns: within,
    })
}

/// Between the last that it lost before its first answer and that answer, from its opening on.
fn bracket(client: &ClientRecord) -> Option<Interval> {
    let (opened, prefix) = (client.opened_at?, lost_first(client));
    let last_lost = client.messages.get(prefix.checked_sub(1)?)?.at;
    let first_kept = client.messages.get(prefix)?.answered_at?;
    Some(Interval::new(
        last_lost.saturating_sub(opened),
        first_kept.saturating_sub(opened),
    ))
}

/// How many of its messages were lost before the first that was answered.
fn lost_first(client: &ClientRecord) -> usize {
    let lost = client.messages.iter().take_while(|sent| sent.answered_at.is_none());
    lost.count()
}

fn median(all: &[Interval], pick: fn(&Interval) -> u64) -> Option<u64> {
    let mut all: Vec<u64> = all.iter().map(pick).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// How long after its opening a client said its first message, and whether that was lost.
fn first(client: &ClientRecord) -> Option<(u64, bool)> {
    let sent = client.messages.first()?;
    Some((sent.at.saturating_sub(client.opened_at?), sent.answered_at.is_none()))
}

fn share(firsts: &[(u64, bool)]) -> Share {
    let lost = firsts.iter().filter(|(_, lost)| *lost).count();
    Share::new(lost as u64, firsts.len() as u64)
}

/// Where lost and kept ones part best: most lost before it, most kept from it on.
fn best_part(firsts: &[(u64, bool)]) -> usize {
    let kept = firsts.iter().filter(|(_, lost)| !lost).count();
    let (mut best, mut part, mut fit) = (kept, 0, kept);
    for (index, &(_, lost)) in firsts.iter().enumerate() {
        fit = if lost { fit + 1 } else { fit - 1 };
        if fit > best {
            (best, part) = (fit, index + 1);
        }
    }
    part
}

/// Whether this client says its first message only when any handler is there. `late`: where one was seen to be attached late.
#[must_use]
pub const fn hesitates(client: u32, late: Option<Interval>) -> bool {
    match late {
        None => client % limits::AUDIT_HESITATES_EACH == limits::AUDIT_HESITATES_EACH / 2,
        Some(_) => client % limits::AUDIT_HESITATES_EACH_LATE == limits::AUDIT_HESITATES_EACH_LATE / 2,
    }
}

/// How long after its opening such a client says it.
#[must_use]
pub fn hesitation(late: Option<Interval>) -> u64 {
    match late {
        None => nanos(limits::AUDIT_HESITATES),
        Some(edge) => edge
            .high_ns
            .saturating_mul(2)
            .saturating_add(nanos(limits::AUDIT_SEND_UNIT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::plan::Dice;
    use crate::audit::record::Sent;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const SENDS: [u64; 6] = [0, 1, 2, 4, 8, 16];

    /// One in eight hesitates; `loses` says what is lost, by its number and by when it was said.
    fn lateness(count: u32, mut loses: impl FnMut(usize, u64) -> bool) -> Lateness {
        let client = |n: u32| {
            let wait = if hesitates(n, None) { hesitation(None) } else { 0 };
            let messages = SENDS.iter().enumerate().map(|(index, delay)| {
                let at = wait + delay * MS;
                let lost = loses(index, at / MS);
                Sent {
                    at,
                    answered_at: (!lost).then_some(at + MS / 2),
                    copies: u16::from(!lost),
                }
            });
            ClientRecord {
                opened_at: Some(0),
                messages: messages.collect(),
                ..ClientRecord::new(n, 0)
            }
        };
        let clients: Vec<_> = (0..count).map(client).collect();
        let answered: Vec<_> = clients
            .iter()
            .filter(|client| client.first_answer().is_some())
            .collect();
        Lateness::of(&answered, Interval::new(0, 20 * MS))
    }

    #[test]
    fn a_late_handler_is_of_time_and_a_log_in_is_of_place() {
        for late in 1..16 {
            let found = lateness(80, |_, at| at < late);
            assert!(found.is_of_time() && !found.is_of_place(), "{late} ms: {found:?}");
        }
        let found = lateness(80, |index, _| index == 0);
        assert!(found.is_of_place() && !found.is_of_time(), "{found:?}");
    }

    #[test]
    fn with_nobody_who_hesitated_neither_is_claimed() {
        let found = lateness(4, |index, _| index == 0);
        assert!(!found.is_of_place() && !found.is_of_time(), "{found:?}");
    }

    proptest! {
        #[test]
        fn chance_is_neither(seed: u64, share in 0.0..0.9_f64) {
            let mut dice = Dice::new(seed, 9);
            let found = lateness(400, |_, _| dice.unit() < share);
            prop_assert!(!found.is_of_time() && !found.is_of_place(), "{found:?}");
        }
    }
}
