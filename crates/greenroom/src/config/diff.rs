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
            if old_value.map(|line| &line.value) != new_value.map(|line| &line.value) {
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
mod tests {
    use super::*;
    use crate::config::{Flags, Layers, Purpose, load_bytes};

    fn config(text: &str) -> Config {
        let layers = Layers {
            file: None,
            variables: Vec::new(),
            flags: Flags::default(),
            purpose: Purpose::Check,
        };
        let loaded = load_bytes("test.toml", text.as_bytes().to_vec(), &layers);
        loaded.map_err(|invalid| invalid.render(false)).unwrap().config
    }

    const BEFORE: &str = "grace = \"5s\"\n[admin]\naddress = \"127.0.0.1:9\"\ntoken = \"0123456789abcdef0\"\n\
        [listener.main]\naddress = \"127.0.0.1:80\"\n\
        [backend.app]\naddress = \"127.0.0.1:1\"\n[backend.app.check.db]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n\
        [backend.own.process]\ncommand = [\"x\"]\nenv = { KEY = \"planted\" }\n\
        [[route]]\nbackend = \"app\"\n[[route]]\npath = \"/own\"\nbackend = \"own\"\n\
        [route.request_headers]\nset = { authorization = \"planted\" }\n";

    fn changes(edits: &[(&str, &str)]) -> Vec<(String, Option<String>, Option<String>, Effect)> {
        let mut text = BEFORE.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let diff = diff(&config(BEFORE), &config(&text));
        assert_eq!(diff.left_out, 0);
        let restart = diff.changes.iter().filter(|change| change.effect == Effect::Restart);
        assert_eq!(
            restart.map(|change| change.key.clone()).collect::<Vec<_>>(),
            diff.restart
        );
        let all = diff.changes.into_iter();
        all.map(|change| (change.key, change.old, change.new, change.effect))
            .collect()
    }

    fn one(edits: &[(&str, &str)]) -> (String, Effect) {
        let mut all = changes(edits);
        assert_eq!(all.len(), 1, "{all:?}");
        let (key, _, _, effect) = all.remove(0);
        (key, effect)
    }

    #[test]
    fn the_same_again_is_no_change_whatever_the_order_in_which_it_is_written() {
        assert_eq!(changes(&[]), []);
        let (one, other) = (
            "[[route]]\nbackend = \"app\"\n",
            "[[route]]\npath = \"/own\"\nbackend = \"own\"\n",
        );
        assert_eq!(changes(&[(one, ""), (other, &format!("{one}{other}"))]), []);
    }

    #[test]
    fn what_a_key_does_is_told_with_it() {
        for (from, to, key, effect) in [
            ("grace = \"5s\"", "grace = \"6s\"", "grace", Effect::Now),
            ("grace", "state_dir = \"/var\"\ngrace", "state_dir", Effect::Restart),
            ("[admin]", "[admin]\nreadyz = \"backends\"", "admin.readyz", Effect::Now),
            ("127.0.0.1:9\"", "127.0.0.1:8\"", "admin.address", Effect::Restart),
            ("0123456789abcdef0", "0123456789abcdef1", "admin.token", Effect::Now),
            ("127.0.0.1:80\"", "127.0.0.1:81\"", "listener.main.address", Effect::Now),
            (
                "80\"\n",
                "80\"\nhosts = [\"a.test\"]\n",
                "listener.main.hosts",
                Effect::NewClients,
            ),
            (
                "127.0.0.1:1\"",
                "127.0.0.1:2\"",
                "backend.app.address",
                Effect::NewClients,
            ),
            (
                "127.0.0.1:1\"",
                "127.0.0.1:1\"\nheld_max = 7",
                "backend.app.held_max",
                Effect::Now,
            ),
            (
                "127.0.0.1:5\"",
                "127.0.0.1:6\"",
                "backend.app.check.db.address",
                Effect::NewClients,
            ),
            ("[\"x\"]", "[\"y\"]", "backend.own.process.command", Effect::Restart),
            (
                "[backend.own.process]",
                "[backend.own]\nready = \"notify\"\n[backend.own.process]",
                "backend.own.ready",
                Effect::Restart,
            ),
            (
                "[backend.own.process]",
                "[backend.own]\ndials_max = 3\n[backend.own.process]",
                "backend.own.dials_max",
                Effect::Now,
            ),
            (
                "path = \"/own\"",
                "path = \"/own\"\nhold = \"refuse\"",
                "route.\"*/own\".hold",
                Effect::NewClients,
            ),
        ] {
            let all = changes(&[(from, to)]);
            assert!(
                all.iter().any(|(found, _, _, does)| found == key && *does == effect),
                "{key}: {all:?}"
            );
        }
    }

    #[test]
    fn a_table_that_comes_or_goes_is_one_change() {
        let (main, own) = ("[listener.main]", "[backend.own.process]");
        let led = "[[route]]\npath = \"/n\"\nbackend = \"new\"\n[[route]]\n";
        let all = |from: &str, to: &str| changes(&[("[[route]]\n", led), (from, to)]);
        for (from, to, key, effect) in [
            (
                own,
                "[backend.new]\naddress = \"127.0.0.1:3\"\n[backend.own.process]",
                "backend.new",
                Effect::NewClients,
            ),
            (
                own,
                "[backend.new.process]\ncommand = [\"z\"]\n[backend.own.process]",
                "backend.new",
                Effect::Restart,
            ),
        ] {
            let all: Vec<_> = all(from, to)
                .into_iter()
                .map(|(key, old, _, effect)| (key, old, effect))
                .collect();
            let route = ("route.\"*/n\"".to_owned(), None, Effect::NewClients);
            assert_eq!(all, [(key.to_owned(), None, effect), route]);
        }
        let other = "[listener.other]\naddress = \"127.0.0.1:82\"\n[listener.main]";
        assert_eq!(one(&[(main, other)]), ("listener.other".into(), Effect::Now));
        let check = "[backend.app.check.db]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n";
        assert!(
            changes(&[(check, "")])
                .iter()
                .all(|(_, _, new, effect)| new.is_none() && *effect == Effect::NewClients)
        );
        let gone = changes(&[(
            "[[route]]\npath = \"/own\"\nbackend = \"own\"\n[route.request_headers]\nset = { authorization = \"planted\" }\n",
            "[[route]]\npath = \"/else\"\nbackend = \"own\"\n",
        )]);
        assert_eq!(gone.len(), 2, "{gone:?}");
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let all = changes(&[
            ("KEY = \"planted\"", "KEY = \"planted2\""),
            ("authorization = \"planted\"", "authorization = \"planted3\""),
            ("0123456789abcdef0", "planted-0123456789"),
        ]);
        assert_eq!(all.len(), 3, "{all:?}");
        for (key, old, new, _) in all {
            assert_eq!((old.as_deref(), new.as_deref()), (Some(HIDDEN), Some(HIDDEN)), "{key}");
        }
    }

    #[test]
    fn what_is_needed_keeps_its_place() {
        let needing = |wishes: &[&str]| {
            let mut text = "[backend.app]\naddress = \"127.0.0.1:1\"\n".to_owned();
            for number in 0..wishes.len() {
                text += &format!("[backend.app.check.c{number}]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n");
            }
            for (number, wish) in wishes.iter().enumerate() {
                text += &format!("[[route]]\npath = \"/{number}\"\nrequire = {wish}\n");
            }
            config(&text)
        };
        let old = needing(&["[\"c0\"]", "[\"c1\"]", "[]"]);
        let mut new = needing(&["[]", "[\"c0\", \"c1\"]", "[\"c1\"]"]);
        let wants: Vec<Need> = new
            .routes
            .iter()
            .map(|route| new.backends[0].needs[route.need].clone())
            .collect();
        assert!(carry_needs(&old, &mut new).is_empty());
        assert!(new.backends[0].needs.starts_with(&old.backends[0].needs));
        let has: Vec<Need> = new
            .routes
            .iter()
            .map(|route| new.backends[0].needs[route.need].clone())
            .collect();
        assert_eq!(wants, has);
        assert_eq!(fate(&old.backends[0], &new.backends[0]), Fate::Stays);
        new.backends[0].checks.clear();
        assert_eq!(fate(&old.backends[0], &new.backends[0]), Fate::IsReplaced);
    }
}
