//! Puts the layers over one another: the file, then a profile of it (`profile`), then
//! `GREENROOM__A__B` of the environment, then the flags of the command line. What none of them says is left
//! to `check`, which knows the defaults.
//!
//! A layer above the file sets keys of what is there: it makes no listener, backend or
//! route of its own, so that a slip in a name is an error and no second server. The
//! exceptions are those that are always there: without any listener there is `main`,
//! without any route one for all, and for a CMD or `--backend` without any backend
//! there is `app`.

use std::ffi::OsString;

use greenroom_core::limits::PHASES_MAX;
use greenroom_core::phase::DEFAULT_PHASES;

use super::problem::{Problem, Problems};
use super::profile;
use super::source::{Place, Sources};
use super::suggest::{closest, listed};
use super::tree::{Node, Table, Value};
use super::written::{Read, Root, Shape, is_secret};

/// What begins the names of variables that are settings.
pub(super) const PREFIX: &str = "GREENROOM__";

/// The flags of the command line that are settings, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--backend`
    pub backend: Option<String>,
    /// `--ready`
    pub ready: Option<String>,
    /// `--hold`
    pub hold: Option<String>,
    /// `--hold-timeout`
    pub hold_timeout: Option<String>,
    /// `--restart`
    pub restart: Option<String>,
    /// `--grace`
    pub grace: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--profile`
    pub profile: Option<String>,
    /// The words of CMD.
    pub command: Vec<OsString>,
}

/// The names of a backend's phases, as far as they can be read: they are there without a table for each.
pub(super) fn phases_of(backend: &Table) -> Vec<String> {
    match backend.get("phases").map(|node| &node.value) {
        None => DEFAULT_PHASES.map(str::to_owned).into(),
        Some(Value::List(list)) => {
            let text = |node: &Node| match &node.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            };
            list.iter().filter_map(text).take(PHASES_MAX).collect()
        }
        Some(_) => Vec::new(),
    }
}

/// One layer being put over the tree.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) tree: &'a mut Table,
    pub(super) sources: &'a mut Sources,
    pub(super) problems: &'a mut Problems,
}

/// Adds what is there without being written.
pub(super) fn imply(tree: &mut Table, flags: &Flags) {
    if is_empty(tree.get("backend")) && (!flags.command.is_empty() || flags.backend.is_some()) {
        imply_named(tree, "backend", "app");
    }
    if is_empty(tree.get("listener")) {
        imply_named(tree, "listener", "main");
    }
    if is_empty(tree.get("route")) {
        let nowhere = |value| Node { value, place: NOWHERE };
        let route = nowhere(Value::Table(Table::implied()));
        tree.set("route", nowhere(Value::List(vec![route])));
    }
}

/// The place of what nobody wrote: no source has this number.
const NOWHERE: Place = Place {
    source: usize::MAX,
    range: 0..0,
};

fn is_empty(node: Option<&Node>) -> bool {
    match node.map(|node| &node.value) {
        None => true,
        Some(Value::Table(table)) => table.entries.is_empty(),
        Some(Value::List(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn imply_named(tree: &mut Table, kind: &str, name: &str) {
    let nowhere = |value| Node { value, place: NOWHERE };
    let mut named = Table::implied();
    named.set(name, nowhere(Value::Table(Table::implied())));
    tree.set(kind, nowhere(Value::Table(named)));
}

/// A name as it stands in a variable's name.
pub(super) fn as_variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

impl Layer<'_> {
    /// The variables whose name begins with [`PREFIX`].
    pub(super) fn variables(&mut self, variables: &[(OsString, OsString)]) {
        let mut ours: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let place = self.sources.variable(name, &value.to_string_lossy());
            let node = match value.to_str() {
                Some(text) => Node::text(text, place.clone()),
                None => Node {
                    value: Value::Raw(value.clone()),
                    place: place.clone(),
                },
            };
            let segments: Vec<&str> = name[PREFIX.len()..].split("__").collect();
            if segments.iter().any(|segment| is_secret(segment)) {
                self.sources.hide(&place);
            }
            let mut way = Way {
                variable: name,
                value: place,
                sources: self.sources,
                problems: self.problems,
            };
            if segments
                .first()
                .is_some_and(|first| first.eq_ignore_ascii_case("profile"))
            {
                let help = format!(
                    "choose one by {}=NAME; a variable for a key is put over every profile",
                    profile::VARIABLE
                );
                way.refuse(
                    format!("`{name}` is no setting: profiles are written in the file"),
                    Some(help),
                );
                continue;
            }
            way.put(Root::SHAPE, self.tree, &segments, node, PREFIX);
        }
    }

    /// The flags.
    pub(super) fn flags(&mut self, flags: &Flags) {
        for (flag, key, value) in [
            ("--grace", "grace", &flags.grace),
            ("--log-format", "log_format", &flags.log_format),
        ] {
            if let Some(value) = value {
                let place = self.sources.flag(flag, value);
                self.tree.set(key, Node::text(value, place));
            }
        }
        for (flag, kind, key, value) in [
            ("--listen", "listener", "address", &flags.listen),
            ("--backend", "backend", "address", &flags.backend),
            ("--ready", "backend", "ready", &flags.ready),
        ] {
            if let Some(value) = value {
                let place = self.sources.flag(flag, value);
                if let Some(table) = self.only(flag, kind, key, &place) {
                    table.set(key, Node::text(value, place));
                }
            }
        }
        for (flag, key, value) in [
            ("--hold", "hold", &flags.hold),
            ("--hold-timeout", "hold_timeout", &flags.hold_timeout),
        ] {
            if let Some(value) = value {
                let place = self.sources.flag(flag, value);
                self.each_route(|route| route.set(key, Node::text(value, place.clone())));
            }
        }
        if !flags.command.is_empty() {
            self.command(&flags.command);
        }
        if let Some(value) = &flags.restart {
            let place = self.sources.flag("--restart", value);
            self.restart(value, &place);
        }
    }

    /// The only table of a kind; a problem when there are several.
    fn only(&mut self, flag: &str, kind: &str, key: &str, place: &Place) -> Option<&mut Table> {
        let Some(Value::Table(named)) = self.tree.get_mut(kind).map(|node| &mut node.value) else {
            return None; // not there, or no table: that is told elsewhere
        };
        if named.entries.len() > 1 {
            let keys = named
                .entries
                .iter()
                .map(|(name, _)| format!("{kind}.{}.{key}", name.name));
            self.problems
                .add(ambiguous(flag, kind, &keys.collect::<Vec<_>>(), place));
            return None;
        }
        match named.entries.first_mut().map(|(_, node)| &mut node.value) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    fn each_route(&mut self, mut change: impl FnMut(&mut Table)) {
        if let Some(Value::List(routes)) = self.tree.get_mut("route").map(|node| &mut node.value) {
            for route in routes {
                if let Value::Table(table) = &mut route.value {
                    change(table);
                }
            }
        }
    }

    /// CMD is the process of the only backend.
    fn command(&mut self, command: &[OsString]) {
        let shown: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let (whole, places) = self.sources.command(&shown);
        let words = command.iter().zip(places).map(|(word, place)| Node {
            value: word
                .to_str()
                .map_or_else(|| Value::Raw(word.clone()), |text| Value::Text(text.into())),
            place,
        });
        let words = Node {
            value: Value::List(words.collect()),
            place: whole.clone(),
        };
        if let Some((name, process)) = self.processes().into_iter().next() {
            self.problems.add(
                Problem::new("there are two commands: CMD, and the one of the configuration")
                    .at(&whole)
                    .related(Some(&process), format!("what `{name}` starts"))
                    .help(format!("leave CMD out, or take [backend.{name}.process] away")),
            );
            return;
        }
        if let Some(backend) = self.only("CMD", "backend", "process.command", &whole)
            && let Some(process) = backend.table_mut("process", &whole)
        {
            process.set("command", words);
        }
    }

    /// The backends that have a process.
    fn processes(&self) -> Vec<(String, Place)> {
        let Some(Value::Table(named)) = self.tree.get("backend").map(|node| &node.value) else {
            return Vec::new();
        };
        let process = |node: &Node| match &node.value {
            Value::Table(table) => table.get("process").map(|process| process.place.clone()),
            _ => None,
        };
        let found = named.entries.iter();
        found
            .filter_map(|(key, node)| Some((key.name.clone(), process(node)?)))
            .collect()
    }

    fn restart(&mut self, value: &str, place: &Place) {
        let processes = self.processes();
        let [(name, _)] = processes.as_slice() else {
            let keys = processes
                .iter()
                .map(|(name, _)| format!("backend.{name}.process.restart"));
            let problem = match keys.collect::<Vec<_>>() {
                keys if keys.is_empty() => {
                    Problem::new("`--restart` is for a process, and no backend has one").at(place)
                }
                keys => ambiguous("--restart", "process", &keys, place),
            };
            return self.problems.add(problem);
        };
        let process = self
            .tree
            .table_mut("backend", place)
            .and_then(|named| named.table_mut(name, place))
            .and_then(|backend| backend.table_mut("process", place));
        if let Some(process) = process {
            process.set("restart", Node::text(value, place.clone()));
        }
    }
}

fn ambiguous(flag: &str, kind: &str, keys: &[String], place: &Place) -> Problem {
    Problem::new(format!("`{flag}` could mean any of {} {kind}s", keys.len()))
        .at(place)
        .help(format!(
            "set the key instead: {}",
            listed("or", keys.iter().map(String::as_str))
        ))
}

/// The way of one variable through the tree, by its name.
struct Way<'a> {
    variable: &'a str,
    value: Place,
    sources: &'a mut Sources,
    problems: &'a mut Problems,
}

impl Way<'_> {
    /// Sets what the segments lead to; `so_far` is the part of the name before them.
    fn put(&mut self, shape: &Shape, table: &mut Table, segments: &[&str], node: Node, so_far: &str) {
        let Shape::Table(keys) = shape else { return };
        let Some((first, rest)) = segments.split_first() else {
            let names = keys.iter().map(|(name, _)| format!("{so_far}{}", as_variable(name)));
            let names: Vec<_> = names.collect();
            let help = format!("name a key of it: {}", listed("or", names.iter().map(String::as_str)));
            return self.refuse(format!("`{}` is a table, not a value", self.variable), Some(help));
        };
        let lower = first.to_lowercase().replace('-', "_");
        let known = || keys.iter().map(|(key, _)| *key).filter(|key| *key != "profile");
        let Some((key, below)) = keys.iter().find(|(key, _)| key.replace('-', "_") == lower) else {
            let meant = closest(first, known());
            let help = match meant {
                Some(meant) => format!("did you mean `{so_far}{}`?", as_variable(meant)),
                None => format!("here may be {}", listed("or", known())),
            };
            return self.refuse(
                format!("`{}` is no setting: `{first}` is unknown", self.variable),
                Some(help),
            );
        };
        let next = format!("{so_far}{}__", as_variable(key));
        match below {
            Shape::Value if rest.is_empty() => table.set(key, node),
            Shape::Value => self.refuse(
                format!(
                    "`{}` is no setting: `{key}` is a value, and nothing is below it",
                    self.variable
                ),
                Some(format!("write `{}`", next.trim_end_matches('_'))),
            ),
            Shape::Free if rest.is_empty() => table.set(key, node),
            Shape::Free => {
                if let Some(free) = table.table_mut(key, &node.place) {
                    free.set(&rest.join("__"), node);
                }
            }
            Shape::Table(_) => {
                if let (false, Some(table)) = (rest.is_empty(), table.table_mut(key, &node.place)) {
                    self.put(below, table, rest, node, &next);
                } else {
                    self.put(below, &mut Table::implied(), rest, node, &next);
                }
            }
            Shape::Named(one) => self.named(one, key, table, rest, node, &next),
            Shape::Many(one) => self.many(one, key, table, rest, node, &next),
        }
    }

    fn named(&mut self, one: &Shape, key: &str, table: &mut Table, segments: &[&str], node: Node, so_far: &str) {
        let phases = if key == "phase" { phases_of(table) } else { Vec::new() };
        let mut none = Table::implied();
        let named = match (table.get(key).is_some() || !phases.is_empty(), &node.place) {
            (true, place) => table.table_mut(key, place).unwrap_or(&mut none),
            (false, _) => &mut none,
        };
        let mut names: Vec<String> = named.entries.iter().map(|(name, _)| name.name.clone()).collect();
        let others = phases.into_iter().filter(|phase| named.get(phase).is_none());
        names.extend(others);
        let Some(name) = self
            .pick(key, &names, segments, so_far)
            .and_then(|index| names.get(index))
        else {
            return;
        };
        if let Some(table) = named.table_mut(name, &node.place) {
            let next = format!("{so_far}{}__", segments[0]);
            self.put(one, table, &segments[1..], node, &next);
        }
    }

    fn many(&mut self, one: &Shape, key: &str, table: &mut Table, segments: &[&str], node: Node, so_far: &str) {
        let mut none = Vec::new();
        let many = match table.get_mut(key).map(|node| &mut node.value) {
            Some(Value::List(many)) => many,
            _ => &mut none,
        };
        // A route is found by its name, or by its number in the file.
        let name = |(index, node): (usize, &Node)| match &node.value {
            Value::Table(table) => match table.get("name").map(|name| &name.value) {
                Some(Value::Text(name)) => name.clone(),
                _ => index.to_string(),
            },
            _ => index.to_string(),
        };
        let names: Vec<String> = many.iter().enumerate().map(name).collect();
        let number = segments.first().and_then(|first| first.parse::<usize>().ok());
        let index = match number.filter(|&index| index < many.len()) {
            Some(index) => Some(index),
            None => self.pick(key, &names, segments, so_far),
        };
        if let Some(Value::Table(table)) = index.and_then(|i| many.get_mut(i)).map(|node| &mut node.value) {
            let next = format!("{so_far}{}__", segments[0]);
            self.put(one, table, &segments[1..], node, &next);
        }
    }

    /// The one of `names` that the first segment means.
    fn pick(&mut self, kind: &str, names: &[String], segments: &[&str], so_far: &str) -> Option<usize> {
        let wanted = segments.first().copied().unwrap_or("");
        let fits = |name: &String| as_variable(name) == as_variable(wanted);
        let mut found = names.iter().enumerate().filter(|(_, name)| fits(name));
        match (found.next(), found.next()) {
            (Some((index, _)), None) => return Some(index),
            (Some((_, one)), Some((_, other))) => self.refuse(
                format!("`{}` could mean the {kind} `{one}` or `{other}`", self.variable),
                Some("give them names that differ in more than case, - and _".into()),
            ),
            (None, _) => {
                let is_number = wanted.parse::<usize>().is_ok();
                let meant = closest(wanted, names.iter().map(String::as_str)).filter(|_| !is_number);
                let help = match meant {
                    Some(meant) => {
                        let rest = segments.get(1..).unwrap_or_default().join("__");
                        format!(
                            "did you mean `{so_far}{}{}{rest}`?",
                            as_variable(meant),
                            if rest.is_empty() { "" } else { "__" }
                        )
                    }
                    None if names.is_empty() => format!("there is no {kind}: name one in the configuration file"),
                    None => format!("the {kind}s are {}", listed("and", names.iter().map(String::as_str))),
                };
                self.refuse(
                    format!("`{}` is no setting: there is no {kind} `{wanted}`", self.variable),
                    Some(help),
                );
            }
        }
        None
    }

    /// A name that leads nowhere. What it was to be set to may be a secret.
    fn refuse(&mut self, title: String, help: Option<String>) {
        self.sources.hide(&self.value);
        let name = Place {
            source: self.value.source,
            range: 0..self.variable.len(),
        };
        let problem = Problem::new(title).at(&name);
        self.problems.add(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
}
