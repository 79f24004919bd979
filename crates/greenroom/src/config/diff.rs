//! What another configuration changes: which keys, from what to what, and what follows from it.
//!
//! Both are written as `check --toml` writes them, and compared key by key, so whatever is written there is compared;
//! values that may be secrets are compared and not shown. Listeners, backends and routes are known by their names, and one
//! that comes or goes is one change. What a change does is decided by its key: a key that is not known here needs a
//! restart, which is always safe. Pure. At most `RELOAD_CHANGES_MAX` changes are kept, but all that need a restart count.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_core::limits::{CONFIG_MESSAGE_MAX, NEEDS_MAX, RELOAD_CHANGES_MAX};
use greenroom_core::readiness::Need;
use serde::{Deserialize, Serialize};

use super::explain::{HIDDEN, Secrets};
use super::model::{Backend, Config};
use super::print::{key, to_toml};
use crate::telemetry::printable;

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// At once, for all.
    Now,
    /// For clients that come, and requests that begin, from now on.
    NewClients,
    /// Not before greenroom is started again.
    Restart,
}

impl Effect {
    /// For a person.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Now => "at once",
            Self::NewClients => "for new clients",
            Self::Restart => "needs a restart",
        }
    }
}

/// One key that is another now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// The key, such as `backend.app.held_max`; or the table that comes or goes, such as `route."*/ws"`.
    pub key: String,
    /// What it was; `None`: it was not there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<String>,
    /// What it is; `None`: it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new: Option<String>,
    /// When that takes effect.
    pub effect: Effect,
}

/// All changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// In the order in which `check --toml` writes the keys.
    pub changes: Vec<Change>,
    /// So many more there are.
    pub left_out: usize,
    /// The keys of those that need a restart.
    pub restart: Vec<String>,
}

impl Diff {
    /// Whether nothing is another.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn add(&mut self, change: Change) {
        if change.effect == Effect::Restart {
            self.restart.push(change.key.clone());
        }
        if self.changes.len() < RELOAD_CHANGES_MAX {
            self.changes.push(change);
        } else {
            self.left_out += 1;
        }
    }
}

/// What `new` changes of `old`.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let (before, after) = (Page::of(old), Page::of(new));
    let mut diff = Diff::default();
    let tables: Vec<&String> = (after.order.iter())
        .chain(before.order.iter().filter(|table| !after.tables.contains_key(*table)))
        .collect();
    let mut whole = BTreeSet::new();
    for table in tables {
        let object = object(table);
        let (was, is) = (before.has(object), after.has(object));
        if was != is {
            if whole.insert(object) {
                diff.add(Change {
                    key: object.to_owned(),
                    old: was.then(|| before.summary(object)),
                    new: is.then(|| after.summary(object)),
                    effect: effect_of_table(object, if was { old } else { new }),
                });
            }
            continue;
        }
        let empty = Table::default();
        let was = before.tables.get(table).unwrap_or(&empty);
        let is = after.tables.get(table).unwrap_or(&empty);
        let gone = was.iter().filter(|line| !is.iter().any(|other| other.key == line.key));
        for line in is.iter().chain(gone) {
            let old_value = was.iter().find(|other| other.key == line.key);
            let new_value = is.iter().find(|other| other.key == line.key);
            let is_other = old_value.map(|line| &line.value) != new_value.map(|line| &line.value);
            if is_other && !is_from_stop(table, &line.key, [&before, &after]) {
                diff.add(Change {
                    key: full(table, &line.key),
                    old: old_value.map(Line::shown),
                    new: new_value.map(Line::shown),
                    effect: effect(table, &line.key, (old, new)),
                });
            }
        }
    }
    if old.admin.token != new.admin.token
        && old.admin.token_file.is_some()
        && old.admin.token_file == new.admin.token_file
    {
        // The file is the same, and what is in it is another.
        diff.add(Change {
            key: "admin.token_file".into(),
            old: Some(HIDDEN.into()),
            new: Some(HIDDEN.into()),
            effect: Effect::Now,
        });
    }
    diff
}

/// Whether a kind of drain only says the same as the stop, before and after: then the stop's key is what has changed.
fn is_from_stop(table: &str, name: &str, pages: [&Page; 2]) -> bool {
    let value = |page: &Page, table: &str| {
        let lines = page.tables.get(table)?;
        let line = lines.iter().find(|line| line.key == name)?;
        Some(line.value.clone())
    };
    table.starts_with("drain.") && name != "code" && pages.iter().all(|page| value(page, table) == value(page, "drain"))
}

/// The listener, backend or route that a table belongs to; else the table itself.
fn object(table: &str) -> &str {
    for kind in ["listener.", "backend.", "route."] {
        if let Some(rest) = table.strip_prefix(kind) {
            let name = match rest.strip_prefix('"') {
                Some(quoted) => quoted.find("\"").map_or(rest.len(), |end| end + 2),
                None => rest.find('.').unwrap_or(rest.len()),
            };
            return &table[..kind.len() + name];
        }
    }
    table
}

fn full(table: &str, key: &str) -> String {
    match table {
        "" => key.to_owned(),
        table => format!("{table}.{key}"),
    }
}

/// What a key does that is another now.
fn effect(table: &str, name: &str, configs: (&Config, &Config)) -> Effect {
    let object = object(table);
    match (object, name) {
        ("", "grace" | "log_format" | "reload_on_change") => Effect::Now,
        (
            "limits",
            "connections_max"
            | "connections_per_address"
            | "handshakes_per_address"
            | "address_bits_v4"
            | "address_bits_v6"
            | "early_budget",
        ) => Effect::Now,
        ("limits", "head_max" | "head_timeout" | "early_max" | "max_connections_per_user" | "on_user_limit") => {
            Effect::NewClients
        }
        ("admin", "health_prefix" | "readyz" | "token" | "token_file") => Effect::Now,
        (drain, _) if drain == "drain" || drain.starts_with("drain.") => Effect::Now,
        (listener, "address") if listener.starts_with("listener.") => Effect::Now,
        (listener, "hosts") if listener.starts_with("listener.") => Effect::NewClients,
        (route, _) if route.starts_with("route.") => Effect::NewClients,
        (backend, name) if backend.starts_with("backend.") => {
            if backend == table && BOUNDS.contains(&name) {
                Effect::Now
            } else {
                of_backend(backend, &[configs.0, configs.1])
            }
        }
        _ => Effect::Restart,
    }
}

/// Keys of a backend that its gate takes while it is at work.
const BOUNDS: [&str; 7] = [
    "held_max",
    "http_held_max",
    "dials_max",
    "release_rate",
    "fair",
    "held_per_address",
    "held_per_key",
];

/// What a table does that comes or goes.
fn effect_of_table(object: &str, there: &Config) -> Effect {
    if object.starts_with("listener.") {
        Effect::Now
    } else if object.starts_with("route.") {
        Effect::NewClients
    } else if object.starts_with("backend.") {
        of_backend(object, &[there])
    } else {
        Effect::Restart
    }
}

/// A backend whose process greenroom starts stays what it is.
fn of_backend(object: &str, configs: &[&Config]) -> Effect {
    let name = object.trim_start_matches("backend.").trim_matches('"');
    let mut those = configs
        .iter()
        .filter_map(|config| config.backends.iter().find(|backend| backend.name == name));
    if those.any(|backend| backend.process.is_some()) {
        Effect::Restart
    } else {
        Effect::NewClients
    }
}

/// What is written, by table.
#[derive(Debug, Default)]
struct Page {
    tables: BTreeMap<String, Table>,
    order: Vec<String>,
    objects: BTreeSet<String>,
}

type Table = Vec<Line>;

#[derive(Clone, Debug)]
struct Line {
    key: String,
    value: String,
    is_secret: bool,
}

impl Line {
    fn shown(&self) -> String {
        if self.is_secret {
            HIDDEN.to_owned()
        } else {
            printable(&self.value, CONFIG_MESSAGE_MAX)
        }
    }
}

impl Page {
    fn of(config: &Config) -> Self {
        let lines = |secrets| -> Vec<(String, String, String)> { lines(config, &to_toml(config, secrets)) };
        let known: BTreeSet<(String, String)> = lines(Secrets::Hidden)
            .into_iter()
            .map(|(table, key, _)| (table, key))
            .collect();
        let mut page = Self::default();
        for (table, key, value) in lines(Secrets::Shown) {
            if !page.tables.contains_key(&table) {
                page.order.push(table.clone());
                page.objects.insert(object(&table).to_owned());
            }
            let lines = page.tables.entry(table.clone()).or_default();
            if key.is_empty() || (table.starts_with("route.") && key == "name") {
                continue; // the table itself, or what it is known by
            }
            let is_secret = !known.contains(&(table, key.clone()));
            lines.push(Line { key, value, is_secret });
        }
        page
    }

    fn has(&self, object: &str) -> bool {
        self.objects.contains(object)
    }

    /// A table in a few words.
    fn summary(&self, object: &str) -> String {
        let of = |key: &str| {
            let table = self.tables.get(object)?;
            table.iter().find(|line| line.key == key).map(Line::shown)
        };
        let parts = ["address", "host", "path", "backend"].map(|key| Some(format!("{key} = {}", of(key)?)));
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            "there".into()
        } else {
            parts.join(", ")
        }
    }
}

/// Tables, keys and values of what [`to_toml`] has written; a line without a key for each table.
fn lines(config: &Config, text: &str) -> Vec<(String, String, String)> {
    let mut routes = config.routes.iter();
    let (mut table, mut route) = (String::new(), String::new());
    let mut all = Vec::new();
    for line in text.lines() {
        if line == "[[route]]" {
            let name = routes.next().map_or("", |route| route.name.as_str());
            route = format!("route.{}", key(name));
            table.clone_from(&route);
        } else if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = match header.strip_prefix("route.") {
                Some(below) => format!("{route}.{below}"),
                None => header.to_owned(),
            };
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            all.push((table.clone(), key.to_owned(), value.to_owned()));
            continue;
        } else {
            continue;
        }
        all.push((table.clone(), String::new(), String::new()));
    }
    all
}

/// What becomes of a backend that is there before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays; its gate may have other bounds.
    Stays,
    /// Another one takes its place: it is asked elsewhere, or otherwise whether it is ready.
    IsReplaced,
}

/// See [`Fate`].
#[must_use]
pub fn fate(old: &Backend, new: &Backend) -> Fate {
    let same = Backend {
        needs: new.needs.clone(),
        held_max: new.held_max,
        http_held_max: new.http_held_max,
        dials_max: new.dials_max,
        release_rate: new.release_rate,
        fair: new.fair.clone(),
        held_per_address: new.held_per_address,
        held_per_key: new.held_per_key,
        ..old.clone()
    };
    if same == *new { Fate::Stays } else { Fate::IsReplaced }
}

/// Gives what the routes of `new` need the places that it has in `old`, with what is new behind: whoever waits at a backend that
/// stays is known there by such a place. Gives the names of backends of which routes would need more than `NEEDS_MAX` things.
pub fn carry_needs(old: &Config, new: &mut Config) -> Vec<String> {
    let mut too_many = Vec::new();
    for index in 0..new.backends.len() {
        let Some(before) = old.backends.iter().find(|old| old.name == new.backends[index].name) else {
            continue;
        };
        if fate(before, &new.backends[index]) == Fate::IsReplaced {
            continue;
        }
        let mut needs: Vec<Need> = before.needs.clone();
        let wanted = std::mem::take(&mut new.backends[index].needs);
        let mut places = Vec::new();
        for need in wanted {
            let place = needs.iter().position(|known| *known == need);
            places.push(place.unwrap_or(needs.len()));
            if place.is_none() {
                needs.push(need);
            }
        }
        if needs.len() > NEEDS_MAX {
            too_many.push(new.backends[index].name.clone());
        }
        new.backends[index].needs = needs;
        for route in new.routes.iter_mut().filter(|route| route.backend == index) {
            route.need = places.get(route.need).copied().unwrap_or_default(); // each has its place
        }
    }
    too_many
}

#[cfg(test)]
mod tests;
