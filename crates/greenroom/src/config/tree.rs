//! A configuration as it was written, before anything is known of its keys: a tree
//! whose every key and value knows its [`Place`].
//!
//! The parser of TOML bounds its depth, `CONFIG_MAX` its size.

use std::ffi::OsString;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::source::{Place, Sources};

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What can be written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// A word of the command line or the environment that is not UTF-8.
    Raw(OsString),
    /// In decimal; it may be larger than any number.
    Integer(String),
    Bool(bool),
    /// A number with a fraction, or a date: nothing here is either.
    Other(&'static str),
    List(Vec<Node>),
    Table(Table),
}

/// A key with its place.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Keys and values, in the order in which they were written.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<(Key, Node)>,
    /// Its header, or all of it when it is written inline; `None` when nobody wrote it.
    pub(super) place: Option<Place>,
}

impl Value {
    /// What it is, for a person.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Raw(_) => "a word that is not UTF-8",
            Self::Integer(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Other(what) => what,
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// Text at a place.
    pub(super) fn text(text: &str, place: Place) -> Self {
        Self {
            value: Value::Text(text.into()),
            place,
        }
    }

    /// A text that did not come from a file and looks like an array or a table of TOML, read as that.
    pub(super) fn unfolded(self, sources: &Sources, problems: &mut Problems) -> Option<Self> {
        let Value::Text(text) = &self.value else {
            return Some(self);
        };
        if sources.is_in_file(&self.place) || !text.starts_with(['[', '{']) {
            return Some(self);
        }
        let offset = |range: Range<usize>| Place {
            source: self.place.source,
            range: self.place.range.start + range.start..self.place.range.start + range.end,
        };
        let (value, errors) = DeValue::parse_recoverable(text);
        for error in &errors {
            let place = offset(error.span().unwrap_or(0..text.len()));
            problems.add(Problem::new(format!("not TOML: {}", error.message())).at(&place));
        }
        errors.is_empty().then(|| node(value.get_ref(), value.span(), &offset))
    }
}

impl Table {
    /// One that nobody wrote.
    pub(super) fn implied() -> Self {
        Self {
            entries: Vec::new(),
            place: None,
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// The value of a key, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.entries
            .iter_mut()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// Sets a key, whatever was there.
    pub(super) fn set(&mut self, name: &str, node: Node) {
        match self.get_mut(name) {
            Some(old) => *old = node,
            None => {
                let key = Key {
                    name: name.into(),
                    place: node.place.clone(),
                };
                self.entries.push((key, node));
            }
        }
    }

    /// The table under a key; made if nothing is there, `None` if something else is.
    pub(super) fn table_mut(&mut self, name: &str, place: &Place) -> Option<&mut Table> {
        if self.get(name).is_none() {
            let node = Node {
                value: Value::Table(Table::implied()),
                place: place.clone(),
            };
            self.set(name, node);
        }
        match &mut self.get_mut(name)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// Reads the file's text. On a syntax error every one of them is a problem, and nothing else is looked at:
/// what stands behind a missing quote is not what was meant.
pub(super) fn parse(source: usize, text: &str, problems: &mut Problems) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let mut range = error.span().unwrap_or(0..0);
        if range.is_empty() && text[..range.start.min(text.len())].ends_with('\n') {
            range = range.start.saturating_sub(1)..range.start; // the end of the line before, where it is missing
        }
        let problem = Problem::new(format!("not TOML: {}", error.message())).at(&Place { source, range });
        problems.add(match hint(error.message()) {
            Some(hint) => problem.help(hint),
            None => problem,
        });
    }
    let place = |range| Place { source, range };
    errors
        .is_empty()
        .then(|| self::table(table.get_ref(), Some(table.span()), &place))
}

/// What to do about a syntax error, where its own words do not say.
fn hint(message: &str) -> Option<&'static str> {
    let number = ["float", "integer", "number", "date", "time"];
    if message.contains("must be quoted") || number.iter().any(|what| message.contains(what)) {
        Some("put text, addresses, durations and sizes in quotes, such as \"60s\"")
    } else if message.contains("duplicate key") {
        Some("a key or a table stands in a file once; [[route]] with two brackets may be repeated")
    } else if message.contains("basic string") {
        Some("close the string with \" on its line; inside of it write \\\" for \" and \\\\ for \\")
    } else {
        None
    }
}

fn table(table: &DeTable<'_>, span: Option<Range<usize>>, place: &impl Fn(Range<usize>) -> Place) -> Table {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let key = Key {
                name: key.get_ref().to_string(),
                place: place(key.span()),
            };
            (key, node(value.get_ref(), value.span(), place))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.place.range.start);
    Table {
        entries,
        place: span.map(place),
    }
}

fn node(value: &DeValue<'_>, span: Range<usize>, place: &impl Fn(Range<usize>) -> Place) -> Node {
    let read = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(
            i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |n| n.to_string()),
        ),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|item| node(item.get_ref(), item.span(), place))
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(table(inner, Some(span.clone()), place)),
    };
    Node {
        value: read,
        place: place(span),
    }
}
