//! Whether what one client said was answered to another: the gravest thing that a server can do with messages. Pure.
//!
//! Only messages that name their sender show it (`{n}` in the message, and an echo expected). A server that sends what it hears
//! to all, as a chat does, is no such server: there the sender has it too. So a message *went astray* when
//!
//! - its sender never had it, though its connection stood;
//! - another client had it;
//! - and no more than half of the clients that were open when it was sent: what most of them hear is for all.
//!
//! Of a start in which one client heard more than [`crate::limits::AUDIT_FOREIGN`] messages of others nothing is said, as nobody knows any more who
//! had a message.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::{ClientRecord, Ending, RunRecord, Stage};
use super::stats::Share;
use super::target::{NUMBER, Words};

/// Messages that went to the wrong client.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crosstalk {
    /// Messages that went astray, of all that were sent.
    pub messages: Share,
    /// Clients that heard one, of all that were open.
    pub clients: Share,
}

impl Crosstalk {
    /// Of these starts; `None`: there was none.
    #[must_use]
    pub fn of(runs: &[RunRecord]) -> Option<Self> {
        let (mut astray, mut heard, mut sent, mut open) = (0, 0, 0, 0);
        for run in runs {
            let (messages, clients) = strays(&run.clients);
            astray += messages;
            heard += clients;
            sent += run
                .clients
                .iter()
                .map(|client| client.messages.len() as u64)
                .sum::<u64>();
            open += run.clients.iter().filter(|client| client.opened_at.is_some()).count() as u64;
        }
        (astray > 0).then(|| Self {
            messages: Share::new(astray, sent),
            clients: Share::new(heard, open),
        })
    }
}

/// Of one start: messages that went astray, and clients that heard one.
fn strays(clients: &[ClientRecord]) -> (u64, u64) {
    if clients.iter().any(|client| client.foreign_more) {
        return (0, 0);
    }
    let by_number: BTreeMap<u32, &ClientRecord> = clients.iter().map(|client| (client.client, client)).collect();
    let mut hearers: BTreeMap<(u32, u32), BTreeSet<u32>> = BTreeMap::new();
    for client in clients {
        for foreign in &client.foreign {
            let message = (foreign.client, foreign.message);
            hearers.entry(message).or_default().insert(client.client);
        }
    }
    let mut heard = BTreeSet::new();
    let mut astray = 0;
    for ((sender, message), hearers) in hearers {
        let Some(sender) = by_number.get(&sender) else { continue };
        if is_astray(sender, message, hearers.len(), clients) {
            astray += 1;
            heard.extend(hearers);
        }
    }
    (astray, heard.len() as u64)
}

fn is_astray(sender: &ClientRecord, message: u32, hearers: usize, clients: &[ClientRecord]) -> bool {
    let stood = matches!(sender.ending, Ending::Done | Ending::TimedOut(Stage::Open));
    let sent = usize::try_from(message)
        .ok()
        .and_then(|index| sender.messages.get(index));
    let Some(sent) = sent.filter(|sent| stood && sent.answered_at.is_none()) else {
        return false;
    };
    let open = |other: &&ClientRecord| {
        other.client != sender.client && other.opened_at.is_some_and(|at| at <= sent.at) && other.ended_at >= sent.at
    };
    hearers * 2 <= clients.iter().filter(open).count()
}

/// Whose message this is, where it is one of these words in this run: the client, and its message.
#[must_use]
pub fn whose(words: &Words, run: u32, payload: &[u8]) -> Option<(u32, u32)> {
    let Words::Text(text) = words else { return None };
    let rest = payload.get(text.find(NUMBER)?..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.');
    let name = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok()?;
    // A full stop behind the number belongs to the words: what comes after the third part is not looked at here.
    let mut parts = name.split('.');
    let mut part = || parts.next()?.parse::<u32>().ok();
    let (_, client, message) = (part().filter(|&of| of == run)?, part()?, part()?);
    let filled = words.filled(run, client, usize::try_from(message).ok()?);
    (filled.bytes() == payload).then_some((client, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Foreign, Sent};

    const MS: u64 = 1_000_000;

    /// Clients that are all there together, each with one message, answered but for `silent`.
    fn clients(count: u32, silent: &[u32]) -> Vec<ClientRecord> {
        let one = |number: u32| {
            let at = u64::from(number) * MS;
            ClientRecord {
                opened_at: Some(at),
                ended_at: 900 * MS,
                messages: vec![Sent {
                    at: 100 * MS + at,
                    answered_at: (!silent.contains(&number)).then_some(101 * MS + at),
                    copies: 1,
                }],
                ..ClientRecord::new(number, at)
            }
        };
        (0..count).map(one).collect()
    }

    fn hears(clients: &mut [ClientRecord], who: u32, whose: u32) {
        clients[who as usize].foreign.push(Foreign {
            client: whose,
            message: 0,
            at: 150 * MS,
        });
    }

    fn of(clients: Vec<ClientRecord>) -> Option<(u64, u64)> {
        let run = crate::audit::sample::run(0, clients);
        Crosstalk::of(&[run]).map(|found| (found.messages.hits, found.clients.hits))
    }

    #[test]
    fn what_another_had_and_its_sender_had_not_went_astray() {
        let mut all = clients(9, &[2, 3]);
        assert_eq!(of(all.clone()), None, "lost is not astray");
        hears(&mut all, 5, 2);
        assert_eq!(of(all.clone()), Some((1, 1)));
        hears(&mut all, 5, 3);
        assert_eq!(of(all), Some((2, 1)));
    }

    #[test]
    fn a_chat_is_no_crosstalk_nor_is_what_a_sender_missed_that_had_left_or_came_late() {
        let mut chat = clients(9, &[]);
        for who in 1..9 {
            hears(&mut chat, who, 0);
        }
        assert_eq!(of(chat), None);
        // A copy for one other: its sender has it too.
        let mut copied = clients(9, &[]);
        hears(&mut copied, 5, 2);
        assert_eq!(of(copied), None);
        // All had it but the one who said it.
        let mut late = clients(9, &[0]);
        for who in 1..8 {
            hears(&mut late, who, 0);
        }
        assert_eq!(of(late), None);
        let mut left = clients(9, &[2]);
        hears(&mut left, 5, 2);
        left[2].ending = Ending::Cut(Stage::Open);
        assert_eq!(of(left.clone()), None);
        left[2].ending = Ending::TimedOut(Stage::Open);
        assert_eq!(of(left.clone()), Some((1, 1)));
        left[7].foreign_more = true;
        assert_eq!(of(left), None, "who had what is not known any more");
        // With one other client, all others had it.
        let mut two = clients(2, &[0]);
        hears(&mut two, 1, 0);
        assert_eq!(of(two), None);
    }

    #[test]
    fn a_message_names_its_sender_wherever_the_number_stands() {
        for text in ["greenroom-audit {n}", "{n}", "a {n} b", "[{n}, {n}]", "{n}."] {
            let words = Words::Text(text.into());
            let payload = words.filled(3, 17, 8);
            assert_eq!(whose(&words, 3, payload.bytes()), Some((17, 8)), "{text}");
            assert_eq!(whose(&words, 4, payload.bytes()), None, "{text}: of another start");
            assert_eq!(whose(&words, 3, b"welcome"), None);
            assert_eq!(whose(&words, 3, b""), None);
        }
        assert_eq!(whose(&Words::Binary(vec![1]), 3, &[1]), None);
    }
}
