//! Judges the two acts of the demo and puts them side by side. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::screen::{GREEN, RED, paint};
use crate::audit::record::ClientRecord;
use crate::check::{Loss, Summary, inversions, loss};
use crate::journal::Record;
use crate::limits;

/// What was measured in one act.
#[derive(Clone, Debug)]
pub struct Act {
    /// How many clients were to come.
    pub expected: u32,
    /// What they saw.
    pub clients: Vec<ClientRecord>,
    /// What the backend saw.
    pub records: Vec<Record>,
    /// By how much a timer of this machine was late meanwhile, at the most.
    pub late: Duration,
}

impl Act {
    fn ready_at(&self) -> Option<u64> {
        let ready = |record: &Record| {
            if let Record::Ready { at } = record {
                Some(*at)
            } else {
                None
            }
        };
        self.records.iter().find_map(ready)
    }

    fn openings(&self) -> impl Iterator<Item = (Option<u64>, &str)> {
        self.records.iter().filter_map(|record| {
            if let Record::Opening { session, target, .. } = record {
                Some((*session, target.as_str()))
            } else {
                None
            }
        })
    }

    /// Inversions by the order in which the clients began to connect.
    fn inversions_by_client(&self) -> usize {
        let client = |target: &str| target.rsplit_once("client=")?.1.parse().ok();
        let order: Vec<u64> = self.openings().filter_map(|(_, target)| client(target)).collect();
        inversions(&order).len()
    }

    /// Inversions by `Greenroom-Session`; nothing if an opening came without one.
    fn inversions_by_session(&self) -> Option<usize> {
        let order: Option<Vec<u64>> = self.openings().map(|(session, _)| session).collect();
        order.map(|order| inversions(&order).len())
    }
}

/// A promise of greenroom, and whether it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// What was measured.
    pub measured: String,
    /// Whether it held.
    pub held: bool,
}

/// Both acts, judged.
#[derive(Clone, Debug)]
pub struct Report {
    without: Column,
    with: Column,
    promises: Vec<Promise>,
}

#[derive(Clone, Debug)]
struct Column {
    expected: u32,
    summary: Summary,
    loss: Loss,
    order: String,
}

impl Column {
    fn new(act: &Act, order: String) -> Self {
        let summary = Summary::of(&act.clients, act.ready_at());
        Self {
            expected: act.expected,
            summary,
            loss: loss(&act.clients, act.expected),
            order,
        }
    }

    fn failed_otherwise(&self) -> usize {
        (self.expected as usize).saturating_sub(self.summary.in_at_once + self.summary.refused)
    }

    fn longest(&self) -> String {
        if self.summary.after_ready.count == 0 {
            "nobody was in".into()
        } else {
            ms(longest(&self.summary))
        }
    }
}

fn longest(summary: &Summary) -> Duration {
    Duration::from_nanos(summary.after_ready.max_ns)
}

impl Report {
    /// Judges.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // the acts are over
    pub fn new(without: Act, with: Act) -> Self {
        let by_session = with.inversions_by_session();
        let order = by_session.map_or("unknown".into(), |count| count.to_string());
        let promises = promises(&with, by_session);
        let without = Column::new(&without, without.inversions_by_client().to_string());
        Self {
            without,
            with: Column::new(&with, order),
            promises,
        }
    }

    /// The promises, each with what was measured.
    #[must_use]
    pub fn promises(&self) -> &[Promise] {
        &self.promises
    }

    /// Whether all of them held.
    #[must_use]
    pub fn all_held(&self) -> bool {
        self.promises.iter().all(|promise| promise.held)
    }

    /// For people.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let of = |column: &Column| format!("{} of {}", column.summary.in_at_once, column.expected);
        let rows = [
            ("in at the first attempt", of(&self.without), of(&self.with)),
            (
                "connection refused",
                self.without.summary.refused.to_string(),
                self.with.summary.refused.to_string(),
            ),
            (
                "cut off, or another failure",
                self.without.failed_otherwise().to_string(),
                self.with.failed_otherwise().to_string(),
            ),
            (
                "messages lost",
                self.without.loss.messages().to_string(),
                self.with.loss.messages().to_string(),
            ),
            (
                "overtaken by a later client",
                self.without.order.clone(),
                self.with.order.clone(),
            ),
            ("longest wait after ready", self.without.longest(), self.with.longest()),
        ];
        let mut text = format!("  {:<29} {:<15} {}\n", "", "without", "with greenroom");
        for (name, without, with) in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<29} {without:<15} {with}");
        }
        text.push('\n');
        for Promise { name, measured, held } in &self.promises {
            let mark = if *held {
                paint(colour, GREEN, "✓")
            } else {
                paint(colour, RED, "✗")
            };
            let _ = writeln!(text, "  {mark} {name}: {measured}");
        }
        text.push_str(if self.all_held() {
            "\nEvery promise held."
        } else {
            "\nNot every promise held."
        });
        text
    }
}

fn promises(with: &Act, inversions: Option<usize>) -> Vec<Promise> {
    let summary = Summary::of(&with.clients, with.ready_at());
    let loss = loss(&with.clients, with.expected);
    let openings = with.openings().count();
    let longest = longest(&summary);
    let early = with
        .clients
        .iter()
        .filter(|client| with.ready_at().is_some_and(|ready| client.started_at < ready));
    let early = early.count();
    vec![
        Promise {
            name: "start",
            measured: format!(
                "{} of {} clients got in at the first attempt; {early} of them came before the server was ready",
                summary.in_at_once, with.expected
            ),
            held: summary.in_at_once == with.expected as usize,
        },
        Promise {
            name: "order",
            measured: match inversions {
                Some(count) => format!("{count} of {openings} were overtaken, by Greenroom-Session at the server"),
                None => "unknown: the server saw clients without Greenroom-Session".into(),
            },
            held: inversions == Some(0) && openings == with.expected as usize,
        },
        Promise {
            name: "promptness",
            measured: format!("the longest wait after READY was {} ({})", ms(longest), most(with.late)),
            held: summary.after_ready.count == u64::from(with.expected) && longest <= prompt(with.late),
        },
        Promise {
            name: "no loss",
            measured: format!("{} of {} messages came back", loss.echoed, loss.sent),
            held: loss.is_none() && loss.sent >= with.expected as usize,
        },
    ]
}

/// How long the last may wait after READY. Where the machine itself is late, nobody on it can be prompt.
fn prompt(late: Duration) -> Duration {
    limits::DEMO_PROMPT.max(late * limits::DEMO_LATE_FACTOR)
}

fn most(late: Duration) -> String {
    let most = ms(prompt(late));
    if prompt(late) > limits::DEMO_PROMPT {
        format!(
            "at most {most}: this machine is busy, its timers were {} late",
            ms(late)
        )
    } else {
        format!("at most {most}")
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Ending, Sent, Stage};

    const MS: u64 = 1_000_000;

    /// Three clients, two before READY at 100 ms, all in.
    fn act() -> Act {
        let client = |client: u32, started: u64, opened: u64| ClientRecord {
            opened_at: Some(opened * MS),
            messages: vec![Sent {
                at: opened * MS,
                answered_at: Some(opened * MS + 1),
                copies: 1,
            }],
            ..ClientRecord::new(client, started * MS)
        };
        let opening = |session| Record::Opening {
            at: 101 * MS,
            session: Some(session),
            attempt: Some(1),
            target: format!("/?client={}", session - 1),
        };
        Act {
            expected: 3,
            clients: vec![client(0, 10, 101), client(1, 20, 102), client(2, 150, 151)],
            records: vec![Record::Ready { at: 100 * MS }, opening(1), opening(2), opening(3)],
            late: Duration::from_millis(2),
        }
    }

    fn broken(with: Act) -> Vec<&'static str> {
        let report = Report::new(act(), with);
        let broken: Vec<_> = report.promises().iter().filter(|p| !p.held).map(|p| p.name).collect();
        assert_eq!(report.all_held(), broken.is_empty());
        broken
    }

    #[test]
    fn a_good_act_holds_every_promise() {
        assert!(broken(act()).is_empty());
        let text = Report::new(act(), act()).text(false);
        assert!(
            text.contains("3 of 3") && text.contains("2.0 ms") && !text.contains('\x1b'),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn each_broken_promise_is_named() {
        let mut cut = act();
        cut.clients[1].ending = Ending::Cut(Stage::Open);
        assert_eq!(broken(cut), ["start", "promptness"]);

        let mut overtaken = act();
        overtaken.records.swap(1, 2);
        assert_eq!(broken(overtaken), ["order"]);

        let mut unnumbered = act();
        if let Record::Opening { session, .. } = &mut unnumbered.records[2] {
            *session = None;
        }
        assert_eq!(broken(unnumbered), ["order"]);

        let mut unseen = act();
        unseen.records.pop();
        assert_eq!(broken(unseen), ["order"]);

        let mut late = act();
        late.clients[0].opened_at = Some(201 * MS);
        assert_eq!(broken(late.clone()), ["promptness"]);

        // 101 ms after READY: where timers are as late, that is prompt.
        late.late = Duration::from_millis(30);
        assert!(broken(late.clone()).is_empty());
        let text = Report::new(act(), late).text(false);
        assert!(
            text.contains("this machine is busy, its timers were 30.0 ms late"),
            "{text}"
        );

        let mut lost = act();
        lost.clients[2].messages[0].answered_at = None;
        assert_eq!(broken(lost), ["no loss"]);

        let mut missing = act();
        missing.clients.pop();
        assert_eq!(broken(missing), ["start", "promptness", "no loss"]);

        let mut never_ready = act();
        never_ready.records.remove(0);
        assert_eq!(broken(never_ready), ["promptness"]);
    }
}
