//! All that tell of connections, each added up by itself: the lists, the metrics, the stream of events, the lines of those that
//! are over.
//!
//! Two things have no line among the closed, as docs/connections.md says: clients without a byte (`silent`, of which the
//! stream says nothing either), and clients that are refused before anything is read (`connections` here).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rig::Rig;

/// Counts by word, without zeros.
pub type Words = BTreeMap<String, u64>;

/// One more of this word, or some more.
pub fn more(words: &mut Words, word: &str, count: u64) {
    if count > 0 {
        *words.entry(word.to_owned()).or_default() += count;
    }
}

/// The samples of a scrape: name with labels, and value.
pub fn samples(rig: &Rig) -> Vec<(String, f64)> {
    let page = rig.ask("/metrics");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Open connections by state, as the metrics tell.
pub fn open_by_state(rig: &Rig) -> Words {
    let mut states = Words::new();
    for (name, value) in samples(rig) {
        if name.starts_with("greenroom_connections{") {
            more(&mut states, &label(&name), value as u64);
        }
    }
    states
}

/// The value of its only label.
fn label(name: &str) -> String {
    name.split('"').nth(1).unwrap().to_owned()
}

/// The names of all gauges that the page declares.
pub fn gauges(rig: &Rig) -> BTreeSet<String> {
    let page = rig.ask("/metrics");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.strip_suffix(" gauge").map(str::to_owned))
        .collect()
}

/// What each tells at about the same time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Open connections by state: of the list, and of the metrics.
    pub listed: Words,
    pub gauged: Words,
    pub accepted: u64,
    /// Ends by cause, and refusals by name, of the metrics.
    pub closed: Words,
    pub refused: Words,
    /// The same of the lines of the closed.
    pub lines: (Words, Words),
    /// Bytes and whole messages: from clients, from backends.
    pub up: (u64, u64),
    pub down: (u64, u64),
    /// The same, added up over the lists of open and closed ones.
    pub lists: [(u64, u64); 2],
}

impl Told {
    /// Asks all but the stream.
    pub fn now(rig: &Rig) -> Self {
        let mut told = Self::default();
        for (name, value) in samples(rig) {
            let count = value as u64;
            match name.split('{').next().unwrap() {
                "greenroom_connections" => more(&mut told.gauged, &label(&name), count),
                "greenroom_accepted_total" => told.accepted = count,
                "greenroom_closed_total" => more(&mut told.closed, &label(&name), count),
                "greenroom_refused_total" => more(&mut told.refused, &label(&name), count),
                "greenroom_relayed_bytes_total" if name.contains("\"client\"") => told.up.0 += count,
                "greenroom_relayed_bytes_total" => told.down.0 += count,
                "greenroom_relayed_messages_total" if name.contains("\"client\"") => told.up.1 += count,
                "greenroom_relayed_messages_total" => told.down.1 += count,
                _ => {}
            }
        }
        for one in list(rig, "/v1/connections?limit=10000") {
            more(&mut told.listed, one["state"].as_str().unwrap(), 1);
            told.adds(&one);
        }
        for one in list(rig, "/v1/closed?limit=10000") {
            more(&mut told.lines.0, one["end"]["cause"].as_str().unwrap(), 1);
            if let Some(refusal) = one["end"]["refusal"].as_str() {
                more(&mut told.lines.1, refusal, 1);
            }
            told.adds(&one);
        }
        told
    }

    fn adds(&mut self, one: &Value) {
        for (sum, way) in self.lists.iter_mut().zip(["up", "down"]) {
            sum.0 += one[format!("bytes_{way}")].as_u64().unwrap();
            sum.1 += one[format!("messages_{way}")].as_u64().unwrap();
        }
    }

    /// How many are open, and how many are over.
    pub fn sums(&self) -> (u64, u64) {
        (self.gauged.values().sum(), self.closed.values().sum())
    }

    /// What differs between those who tell of the same, in words; empty: they agree.
    pub fn differences(&self, heard: &Heard) -> Vec<String> {
        let mut all = Vec::new();
        let mut same = |what: &str, is: bool, values: String| {
            if !is {
                all.push(format!("{what}: {values}"));
            }
        };
        let (open, over) = self.sums();
        let counts = (self.accepted, open, over);
        same(
            "accepted = open + closed",
            self.accepted == open + over,
            format!("{counts:?}"),
        );
        let states = (&self.listed, &self.gauged);
        same(
            "open by state, list and metrics",
            states.0 == states.1,
            format!("{states:?}"),
        );
        let without = |words: &Words, word: &str, count: u64| {
            let mut words = words.clone();
            if let Some(there) = words.get_mut(word) {
                *there = there.saturating_sub(count);
            }
            words.retain(|_, count| *count > 0);
            words
        };
        let silent = self.closed.get("silent").copied().unwrap_or(0);
        let at_the_door = self.refused.get("connections").copied().unwrap_or(0);
        let told = without(&self.closed, "silent", silent);
        let causes = (&heard.closed, &told);
        same(
            "causes, stream and metrics",
            causes.0 == causes.1,
            format!("{causes:?}"),
        );
        let kept = without(&told, "refused", at_the_door);
        let causes = (&self.lines.0, &kept);
        same("causes, lines and metrics", causes.0 == causes.1, format!("{causes:?}"));
        let names = (&heard.refused, &self.refused);
        same("refusals, stream and metrics", names.0 == names.1, format!("{names:?}"));
        let kept = without(&self.refused, "connections", at_the_door);
        let names = (&self.lines.1, &kept);
        same("refusals, lines and metrics", names.0 == names.1, format!("{names:?}"));
        let traffic = (self.lists, [self.up, self.down]);
        same(
            "traffic, lists and metrics",
            traffic.0 == traffic.1,
            format!("{traffic:?}"),
        );
        let there = heard.opened.len() + heard.over.len();
        let ended: u64 = heard.closed.values().sum();
        same(
            "each ends once",
            heard.over.len() as u64 == ended,
            format!("{there} {ended}"),
        );
        all
    }
}

fn list(rig: &Rig, path: &str) -> Vec<Value> {
    let answer = rig.ask(path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let list: Value = serde_json::from_str(body).unwrap();
    let all = list["connections"].as_array().unwrap().clone();
    assert_eq!(list["total"], all.len(), "all are listed");
    all
}

/// What the stream of events has told so far, added up. It is gone on with behind the last id that was heard.
#[derive(Default)]
pub struct Heard {
    last: Option<String>,
    pub closed: Words,
    pub refused: Words,
    pub opened: BTreeSet<u64>,
    pub over: BTreeSet<u64>,
}

impl Heard {
    /// Goes on behind what was heard.
    pub fn listen(&mut self, rig: &Rig) {
        let after = self
            .last
            .as_ref()
            .map_or("last=4096".into(), |id| format!("after={id}"));
        for event in rig.streamed(&after) {
            self.last = event["id"].as_str().map(str::to_owned);
            let connection = event["connection"].as_u64();
            let word = |field: &str| event[field].as_str().unwrap().to_owned();
            match event["event"].as_str().unwrap() {
                "missed" => panic!("{event}"),
                "opened" => assert!(self.opened.insert(connection.unwrap()), "once: {event}"),
                "refused" => more(&mut self.refused, &word("refusal"), 1),
                "closed" => {
                    more(&mut self.closed, &word("cause"), 1);
                    assert!(self.over.insert(connection.unwrap()), "once: {event}");
                }
                _ => {}
            }
        }
    }
}
