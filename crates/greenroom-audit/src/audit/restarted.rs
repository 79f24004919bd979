//! What a restart did to its clients, from what each of them went through. Pure.
//!
//! A [`Life`] is one client: every connection that it had, with every message and its answer, and what came of its
//! attempts to connect. Four things are read from it:
//!
//! - *Dropped*: a connection that had been answered was ended by the other side at the signal or after it.
//! - *Lost*: a message that was under way at the signal, or was sent after it, and never answered, whether
//!   its connection ended or stood. One that was sent to a connection that stood, less than the time for an answer before
//!   the end, is not decided and not counted.
//! - *Back*: the first answer after the last time that it was dropped. Only who was dropped can be back, or never be.
//! - *Away*: from its last answer before it was dropped until it was back.
//!
//! Where no answer is expected, a connection that stood for [`limits::AUDIT_LINGER`] stands for one, with its opening as the
//! answer, and no message can be lost.
//!
//! Bounds: [`limits::AUDIT_RESTART_CLIENTS`] lives, each with [`limits::AUDIT_RESTART_CONNECTIONS`] connections,
//! as many rows of attempts, and the last [`limits::AUDIT_RESTART_MESSAGES`] messages of each connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judge::{Outcome, Patience, of_ending};
use super::launcher::Way;
use super::plan::nanos;
use super::record::{Ending, Sent};
use super::stats::{Quantiles, Share};
use super::text::{grouped, list, span};
use crate::limits;

/// One connection that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// When it had its 101.
    pub opened_at: u64,
    /// What was sent over it, in order; the last [`limits::AUDIT_RESTART_MESSAGES`].
    pub messages: Vec<Sent>,
    /// When and how it ended; `None`: it stood when all was over.
    pub ended: Option<(u64, Ending)>,
}

/// Attempts to connect that failed one after the other in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// How.
    pub how: Outcome,
    /// When the last of them began.
    pub last_at: u64,
    /// How many.
    pub count: u64,
}

/// What one client went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its number.
    pub client: u32,
    /// Its connections, in order.
    pub connections: Vec<Connection>,
    /// What came of its other attempts, in order.
    pub failed: Vec<Failed>,
}

impl Life {
    /// Writes down an attempt that failed. Where there are too many rows, it is counted in the last one of its kind.
    pub fn add_failed(&mut self, began_at: u64, how: Outcome) {
        let is_full = self.failed.len() >= limits::AUDIT_RESTART_CONNECTIONS;
        let rows = if is_full { self.failed.len() } else { 1 };
        let row = self.failed.iter_mut().rev().take(rows).find(|row| row.how == how);
        if let Some(row) = row {
            (row.count, row.last_at) = (row.count.saturating_add(1), began_at);
            return;
        }
        if is_full {
            self.failed.remove(0);
        }
        let (last_at, count) = (began_at, 1);
        self.failed.push(Failed { how, last_at, count });
    }

    /// Writes down a new connection. Where there are too many, the one before it goes: the first says who
    /// was dropped, the last who is back.
    pub fn add(&mut self, connection: Connection) {
        if self.connections.len() == limits::AUDIT_RESTART_CONNECTIONS {
            self.connections.pop();
        }
        self.connections.push(connection);
    }
}

impl Connection {
    /// Writes down a message. Where there are too many, the oldest goes that was answered, or else the oldest.
    pub fn add(&mut self, sent: Sent) {
        if self.messages.len() == limits::AUDIT_RESTART_MESSAGES {
            let answered = self.messages.iter().position(|sent| sent.answered_at.is_some());
            self.messages.remove(answered.unwrap_or(0));
        }
        self.messages.push(sent);
    }

    /// When it was answered, or what stands for that.
    fn answers(&self, patience: Patience, over_at: u64) -> Vec<u64> {
        if patience.answers {
            return self.messages.iter().filter_map(|sent| sent.answered_at).collect();
        }
        let until = self.ended.as_ref().map_or(over_at, |ended| ended.0);
        let stood = until.saturating_sub(self.opened_at) >= nanos(limits::AUDIT_LINGER);
        stood.then_some(self.opened_at).into_iter().collect()
    }
}

/// One restart, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRecord {
    /// Which side.
    pub way: Way,
    /// With which signal.
    pub signal: String,
    /// When it was sent.
    pub at: u64,
    /// When it was seen enough.
    pub over_at: u64,
    /// The clients.
    pub lives: Vec<Life>,
}

/// What the restart of one side did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartReport {
    /// Which side.
    pub way: Way,
    /// With which signal.
    pub signal: String,
    /// Clients that were in at the signal, and how many of them were dropped.
    pub dropped: Share,
    /// Messages that were never answered, of all that were under way at the signal or sent after it.
    pub lost: Share,
    /// By which codes they were closed; `None`: without a Close.
    pub codes: Vec<(Option<u16>, u64)>,
    /// From a dropped client's last answer before it was dropped until it was back; only of those that came back.
    pub away: Quantiles,
    /// From the signal until the last dropped client was back; `None`: not all came back, or nobody was dropped.
    pub last_back_ns: Option<u64>,
    /// Dropped clients that never came back.
    #[serde(default)]
    pub never_back: Vec<u32>,
    /// Messages of [`RestartReport::lost`] whose connection stood: nobody told the client.
    #[serde(default)]
    pub lost_silently: u64,
    /// How answered connections ended.
    #[serde(default)]
    pub endings: Vec<(Outcome, u64)>,
    /// What came of attempts to come back that failed.
    #[serde(default)]
    pub attempts: Vec<(Outcome, u64)>,
    /// Whether answers were expected; else an opening counts as one.
    #[serde(default = "yes")]
    pub answers: bool,
}

const fn yes() -> bool {
    true
}

/// One client's part of the report.
#[derive(Default)]
struct Sum {
    /// In at the signal.
    was_in: bool,
    /// Its connections that ended after it, in order.
    drops: Vec<(u64, Ending)>,
    back_at: Option<u64>,
    away: Option<u64>,
    lost: u64,
    lost_silently: u64,
    sent: u64,
}

impl RestartReport {
    /// What this restart did.
    #[must_use]
    pub fn of(record: &RestartRecord, patience: Patience) -> Self {
        let sums: Vec<Sum> = record.lives.iter().map(|life| sum(life, record, patience)).collect();
        let all = |count: fn(&Sum) -> u64| sums.iter().map(count).sum::<u64>();
        let (mut endings, mut attempts) = (BTreeMap::new(), BTreeMap::new());
        let mut codes: Vec<(Option<u16>, u64)> = Vec::new();
        for (_, ending) in sums.iter().flat_map(|sum| &sum.drops) {
            *endings.entry(of_ending(ending)).or_default() += 1;
            let code = match ending {
                Ending::TimedOut(_) => continue, // it was the client that left
                Ending::Closed { code, .. } => Some(code.unwrap_or(1005)),
                _ => None,
            };
            match codes.iter_mut().find(|known| known.0 == code) {
                Some(known) => known.1 += 1,
                None => codes.push((code, 1)),
            }
        }
        let after = |failed: &&Failed| failed.last_at >= record.at;
        for failed in record.lives.iter().flat_map(|life| &life.failed).filter(after) {
            *attempts.entry(failed.how).or_default() += failed.count;
        }
        let pairs = || record.lives.iter().zip(&sums);
        let never = pairs().filter(|(_, sum)| !sum.drops.is_empty() && sum.back_at.is_none());
        let never_back: Vec<u32> = never.map(|(life, _)| life.client).collect();
        let last_back = sums.iter().filter_map(|sum| sum.back_at).max();
        Self {
            way: record.way,
            signal: record.signal.clone(),
            dropped: Share::new(
                all(|sum| u64::from(sum.was_in && !sum.drops.is_empty())),
                all(|sum| u64::from(sum.was_in)),
            ),
            lost: Share::new(all(|sum| sum.lost), all(|sum| sum.sent)),
            codes,
            away: Quantiles::of(sums.iter().filter_map(|sum| sum.away).collect()),
            last_back_ns: last_back
                .filter(|_| never_back.is_empty())
                .map(|last| last.saturating_sub(record.at)),
            never_back,
            lost_silently: all(|sum| sum.lost_silently),
            endings: endings.into_iter().collect(),
            attempts: attempts.into_iter().collect(),
            answers: patience.answers,
        }
    }

    /// What it did, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let told = |&(code, clients): &(Option<u16>, u64)| match code {
            Some(code) => format!("{clients} with {code}"),
            None => format!("{clients} without a Close"),
        };
        let codes: Vec<String> = self.codes.iter().map(told).collect();
        let how = match codes.is_empty() {
            true => String::new(),
            false => format!(" ({})", list(&codes)),
        };
        let mut parts = vec![format!(
            "{} of {} clients that were connected at the signal were dropped{how}",
            self.dropped.hits, self.dropped.of
        )];
        if self.answers {
            parts.push(format!(
                "{} of {} messages that were under way at the signal, or sent after it, were never answered",
                grouped(self.lost.hits),
                grouped(self.lost.of)
            ));
        }
        if self.lost_silently > 0 {
            parts.push(format!(
                "{} of these on connections that stood",
                grouped(self.lost_silently)
            ));
        }
        let (without, again) = match self.answers {
            true => ("without answers", "answered"),
            false => ("without a connection", "connected"),
        };
        if self.away.count > 0 {
            parts.push(format!(
                "a dropped client was {without} for {} at the median, {} at the most",
                span(self.away.p50_ns),
                span(self.away.max_ns)
            ));
        }
        if let Some(last) = self.last_back_ns {
            parts.push(format!(
                "the last of them was {again} again {} after the signal",
                span(last)
            ));
        }
        if !self.never_back.is_empty() {
            parts.push(format!(
                "{} never came back ({})",
                self.never_back.len(),
                named(&self.never_back)
            ));
        }
        format!("{}.", parts.join("; "))
    }
}

/// Clients by their numbers, as many as are read.
fn named(clients: &[u32]) -> String {
    let mut names: Vec<String> = clients.iter().take(5).map(ToString::to_string).collect();
    if clients.len() > names.len() {
        names.push(format!("{} more", clients.len() - names.len()));
    }
    format!("client {}", list(&names))
}

fn sum(life: &Life, record: &RestartRecord, patience: Patience) -> Sum {
    let answers = |connection: &Connection| connection.answers(patience, record.over_at);
    let mut sum = Sum::default();
    for connection in &life.connections {
        messages(connection, record, patience, &mut sum);
        if answers(connection).is_empty() {
            continue; // it was never in by this one
        }
        let ended_after = connection.ended.as_ref().is_none_or(|ended| ended.0 >= record.at);
        sum.was_in |= connection.opened_at <= record.at && ended_after;
        sum.drops.extend(connection.ended.clone().filter(|_| ended_after));
    }
    let (Some(first), Some(last)) = (sum.drops.first(), sum.drops.last()) else {
        return sum;
    };
    let all: Vec<u64> = life.connections.iter().flat_map(answers).collect();
    sum.back_at = all.iter().copied().filter(|&at| at > last.0).min();
    // Without answers, a connection is there until it ends.
    let last_answer = all.iter().copied().filter(|&at| at <= first.0).max();
    let from = if patience.answers { last_answer } else { Some(first.0) };
    sum.away = Some(sum.back_at)
        .flatten()
        .zip(from)
        .map(|(back, from)| back.saturating_sub(from));
    sum
}

fn messages(connection: &Connection, record: &RestartRecord, patience: Patience, sum: &mut Sum) {
    let ended = connection.ended.as_ref().map(|ended| ended.0);
    if !patience.answers || ended.is_some_and(|ended| ended < record.at) {
        return;
    }
    for sent in &connection.messages {
        match sent.answered_at {
            Some(answered) if answered < record.at => {}
            Some(_) => sum.sent += 1,
            None if ended.is_some() => (sum.lost, sum.sent) = (sum.lost + 1, sum.sent + 1),
            None if sent.at.saturating_add(patience.answer_ns) <= record.over_at => {
                (sum.lost, sum.sent) = (sum.lost + 1, sum.sent + 1);
                sum.lost_silently += 1;
            }
            None => {} // its answer may be on its way
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Stage;

    const MS: u64 = 1_000_000;
    const PATIENCE: Patience = Patience {
        whole_ns: 10_000 * MS,
        answer_ns: 1_000 * MS,
        late_ns: 1_000 * MS,
        answers: true,
    };

    fn closed(code: u16) -> Ending {
        Ending::Closed {
            code: Some(code),
            reason: String::new(),
        }
    }

    /// A connection; messages as (sent, answered), all in milliseconds, 0: never.
    fn connection(opened: u64, messages: &[(u64, u64)], ended: Option<(u64, Ending)>) -> Connection {
        let sent = |&(at, answered): &(u64, u64)| Sent {
            at: at * MS,
            answered_at: (answered > 0).then_some(answered * MS),
            copies: u16::from(answered > 0),
        };
        Connection {
            opened_at: opened * MS,
            messages: messages.iter().map(sent).collect(),
            ended: ended.map(|(at, how)| (at * MS, how)),
        }
    }

    /// Of a signal at one second, seen until five.
    fn report(lives: Vec<Vec<Connection>>, patience: Patience) -> RestartReport {
        let life = |(client, connections): (u32, Vec<Connection>)| Life {
            client,
            connections,
            failed: Vec::new(),
        };
        let record = RestartRecord {
            way: Way::Plain,
            signal: "TERM".into(),
            at: 1_000 * MS,
            over_at: 5_000 * MS,
            lives: (0..).zip(lives).map(life).collect(),
        };
        RestartReport::of(&record, patience)
    }

    /// A client that is answered each 50 ms, all the time.
    fn kept() -> Vec<Connection> {
        let messages: Vec<(u64, u64)> = (0..90).map(|n| (500 + n * 50, 501 + n * 50)).collect();
        vec![connection(400, &messages, None)]
    }

    fn dropped(back: u64) -> Vec<Connection> {
        vec![
            connection(5, &[(6, 0)], Some((10, closed(1011)))), // before the signal: of no interest
            connection(
                20,
                &[(900, 901), (950, 951), (990, 0), (1_000, 0)],
                Some((1_001, closed(1012))),
            ),
            connection(back - 1, &[(back - 1, back), (back + 50, back + 51)], None),
        ]
    }

    #[test]
    fn the_last_is_back_when_the_last_that_was_dropped_is_answered_and_who_was_kept_is_never_away() {
        let report = report(vec![kept(), dropped(1_900)], PATIENCE);
        assert_eq!((report.dropped.hits, report.dropped.of), (1, 2));
        assert_eq!(report.codes, [(Some(1012), 1)]);
        assert_eq!(report.endings, [(Outcome::Closed(1012), 1)]);
        assert_eq!(report.last_back_ns, Some(900 * MS));
        assert_eq!((report.away.count, report.away.max_ns), (1, 949 * MS));
        assert!(report.never_back.is_empty());
        // Nobody dropped: nobody is back.
        let quiet = self::report(vec![kept()], PATIENCE);
        assert_eq!((quiet.dropped.hits, quiet.last_back_ns, quiet.away.count), (0, None, 0));
    }

    #[test]
    fn who_never_comes_back_is_counted_and_named() {
        let gone = vec![connection(20, &[(950, 951)], Some((1_000, Ending::Cut(Stage::Open))))];
        let report = report(vec![dropped(1_900), kept(), gone], PATIENCE);
        assert_eq!((report.dropped.hits, &report.never_back[..]), (2, &[2][..]));
        assert_eq!((report.last_back_ns, report.away.count), (None, 1));
        let sentence = report.sentence();
        assert!(sentence.contains("1 never came back (client 2)"), "{sentence}");
    }

    #[test]
    fn who_is_dropped_again_is_back_only_after_the_last_time() {
        let mut twice = dropped(1_500);
        twice[2].ended = Some((2_000 * MS, Ending::Reset(Stage::Open)));
        twice.push(connection(2_999, &[(2_999, 3_000)], None));
        let report = report(vec![twice], PATIENCE);
        assert_eq!(report.last_back_ns, Some(2_000 * MS));
        assert_eq!((report.away.max_ns, report.dropped.hits), (2_049 * MS, 1));
        let endings = [(Outcome::Reset, 1), (Outcome::Closed(1012), 1)];
        assert_eq!(
            (&report.endings[..], &report.codes[..]),
            (&endings[..], &[(Some(1012), 1), (None, 1)][..])
        );
    }

    #[test]
    fn a_message_is_lost_whether_its_connection_ended_or_stood_and_only_what_the_restart_met_is_counted() {
        // Under way at the signal: two. Sent after it: two that were answered.
        let report = report(vec![dropped(1_900)], PATIENCE);
        assert_eq!((report.lost.hits, report.lost.of, report.lost_silently), (2, 4, 0));
        // One that stood lost one, and has sent another so lately that nobody can know.
        let stood = vec![connection(
            20,
            &[(900, 901), (950, 0), (1_000, 1_001), (1_050, 0), (4_800, 0)],
            None,
        )];
        let report = self::report(vec![stood], PATIENCE);
        assert_eq!((report.lost.hits, report.lost.of, report.lost_silently), (2, 3, 2));
        assert_eq!(report.dropped.hits, 0);
        let sentence = report.sentence();
        let told = "2 of 3 messages that were under way at the signal, or sent after it, were never answered";
        assert!(sentence.contains(told), "{sentence}");
    }

    #[test]
    fn where_nothing_is_expected_openings_count() {
        let silent = Patience {
            answers: false,
            ..PATIENCE
        };
        let lives = vec![
            vec![connection(100, &[(101, 0)], None)],
            vec![
                connection(100, &[(101, 0)], Some((1_001, closed(1012)))),
                connection(1_500, &[], Some((1_510, closed(1013)))), // taken, and closed at once: not back
                connection(2_500, &[(2_501, 0)], None),
            ],
        ];
        let report = report(lives, silent);
        assert_eq!((report.dropped.hits, report.dropped.of), (1, 2));
        assert_eq!(
            (report.last_back_ns, report.away.max_ns),
            (Some(1_500 * MS), 1_499 * MS)
        );
        assert_eq!((report.lost.hits, report.lost.of), (0, 0));
        let sentence = report.sentence();
        assert!(
            !sentence.contains("messages") && sentence.contains("connected again 1.50 s"),
            "{sentence}"
        );
    }

    #[test]
    fn attempts_after_the_signal_are_told_and_the_lists_have_their_bounds() {
        let mut life = Life::default();
        life.add_failed(5, Outcome::Refused);
        life.connections = dropped(1_900);
        life.add_failed(1_100 * MS, Outcome::Status(503));
        life.add_failed(1_200 * MS, Outcome::Status(503));
        let record = RestartRecord {
            way: Way::Plain,
            signal: "KILL".into(),
            at: 1_000 * MS,
            over_at: 5_000 * MS,
            lives: vec![life.clone()],
        };
        assert_eq!(
            RestartReport::of(&record, PATIENCE).attempts,
            [(Outcome::Status(503), 2)]
        );
        for n in 0..3 * limits::AUDIT_RESTART_CONNECTIONS as u64 {
            let how = if n % 2 == 0 { Outcome::Hung } else { Outcome::Reset };
            life.add_failed(n, how);
            life.add(connection(n, &[], None));
        }
        let most = limits::AUDIT_RESTART_CONNECTIONS;
        assert_eq!((life.failed.len(), life.connections.len()), (most, most));
        let last = 3 * most as u64 - 1;
        assert_eq!(life.connections[most - 1].opened_at, last * MS);
        let mut one = connection(1, &[(1, 2), (3, 0)], None);
        for n in 0..limits::AUDIT_RESTART_MESSAGES as u64 {
            one.add(Sent {
                at: n,
                answered_at: None,
                copies: 0,
            });
        }
        assert_eq!(one.messages.len(), limits::AUDIT_RESTART_MESSAGES);
        assert!(
            one.messages.iter().all(|sent| sent.answered_at.is_none()),
            "the answered one goes first"
        );
    }
}
