//! The kinds of values, and how each is read: what it may be written as, and what is
//! said when it is something else.
//!
//! A layer that is text only (environment, command line) may write a number or
//! a word without more ado, and an array or a table as TOML.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::problem::{Problem, Problems};
use super::super::source::{Place, Sources};
use super::super::tree::{Node, Value};
use super::super::units::{show, show_size};

/// What a duration looks like, for editors.
const DURATION: &str = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
/// What a size looks like, for editors.
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

/// A range of durations, for a person.
pub(super) fn range_of(min: Duration, max: Duration) -> String {
    format!("`{}` to `{}`", show(min), show(max))
}

/// A range of sizes, for a person.
pub(super) fn sizes((min, max): (u64, u64)) -> String {
    format!("`{}` to `{}`", show_size(min), show_size(max))
}

/// A key below another.
pub(in crate::config) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Reads trees into written values; gathers what is wrong.
#[derive(Debug)]
pub(in crate::config) struct Reader<'a> {
    pub(in crate::config) sources: &'a mut Sources,
    pub(in crate::config) problems: &'a mut Problems,
}

impl Reader<'_> {
    /// Something of another kind stands there.
    pub(super) fn expected(&mut self, path: &str, expected: &str, found: &Node, help: Option<String>) {
        let problem = Problem::new(format!("`{path}` must be {expected}, found {}", found.value.what()))
            .at(&found.place)
            .label(format!("expected {expected}"));
        self.problems.add(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(in crate::config) struct Written<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) place: Place,
}

/// What can be below a key, for whoever finds a value by its path.
#[derive(Debug)]
pub(in crate::config) enum Shape {
    /// Nothing: it is a value.
    Value,
    /// Strings under any name.
    Free,
    /// These keys.
    Table(&'static [(&'static str, &'static Shape)]),
    /// Tables by name.
    Named(&'static Shape),
    /// Tables in a row.
    Many(&'static Shape),
}

/// A kind of value.
pub(in crate::config) trait Read: Sized {
    /// What can be below it.
    const SHAPE: &'static Shape = &Shape::Value;

    /// Reads it; `None` when it is something else, which is then among the problems.
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self>;
}

/// The value of a key, if it was written.
#[derive(Clone, Debug)]
pub(in crate::config) struct Field<T>(pub(in crate::config) State<T>);

/// Whether a value was written.
#[derive(Clone, Debug)]
pub(in crate::config) enum State<T> {
    Absent,
    /// What was written is not of the right kind: there is a problem already.
    Wrong,
    Present(Written<T>),
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(State::Absent)
    }
}

impl<T: Read> Field<T> {
    pub(super) fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Self {
        let place = node.place.clone();
        Self(match T::read(node, path, reader) {
            Some(value) => State::Present(Written { value, place }),
            None => State::Wrong,
        })
    }
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub(in crate::config) fn present(self) -> Option<Written<T>> {
        match self.0 {
            State::Present(written) => Some(written),
            State::Absent | State::Wrong => None,
        }
    }

    /// The value, if there is one, to be looked at.
    pub(in crate::config) fn get(&self) -> Option<&Written<T>> {
        match &self.0 {
            State::Present(written) => Some(written),
            State::Absent | State::Wrong => None,
        }
    }

    /// Where the value is, if there is one.
    pub(in crate::config) fn place(&self) -> Option<&Place> {
        self.get().map(|written| &written.place)
    }

    /// Whether nothing at all was written.
    pub(in crate::config) fn is_absent(&self) -> bool {
        matches!(self.0, State::Absent)
    }

    /// Makes of nothing something wrong: there is a problem already.
    pub(super) fn or_wrong(&mut self) {
        if self.is_absent() {
            self.0 = State::Wrong;
        }
    }

    /// Whether something was written that is not of the right kind.
    pub(in crate::config) fn is_wrong(&self) -> bool {
        matches!(self.0, State::Wrong)
    }
}

/// An absent field is an absent key: no schema of it but that of its value.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl Read for String {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let help = match &node.value {
            Value::Text(text) => return Some(text.clone()),
            Value::Integer(number) if path.ends_with(".address") => {
                Some(format!("write host:port in quotes, such as \"127.0.0.1:{number}\""))
            }
            Value::Integer(_) | Value::Bool(_) | Value::Other(_) => {
                Some(format!("write it in quotes: \"{}\"", reader.sources.text(&node.place)))
            }
            _ => None,
        };
        reader.expected(path, "a string", &node, help);
        None
    }
}

/// The text of a duration or a size: a bare number is told about units.
macro_rules! with_unit {
    ($(#[$meta:meta])* $name:ident, $pattern:expr, $unit:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub(in crate::config) struct $name(pub(in crate::config) String);

        impl Read for $name {
            fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
                let help = match &node.value {
                    Value::Text(text) => return Some(Self(text.clone())),
                    Value::Integer(number) => Some(format!(concat!("give it a unit, in quotes: \"{}", $unit, "\""), number)),
                    _ => None,
                };
                reader.expected(path, "a string with a unit", &node, help);
                None
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}

with_unit!(
    /// A duration, such as `10s`.
    Span,
    DURATION,
    "s"
);
with_unit!(
    /// A size, such as `10MiB`.
    Size,
    SIZE,
    "B"
);

impl Read for bool {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let is_text_only = !reader.sources.is_in_file(&node.place);
        let help = match &node.value {
            Value::Bool(value) => return Some(*value),
            Value::Text(text) if text == "true" || text == "false" => {
                if is_text_only {
                    return Some(text == "true");
                }
                Some(format!("write {text} without quotes"))
            }
            _ => None,
        };
        reader.expected(path, "true or false", &node, help);
        None
    }
}

/// A whole number. One beyond all ranges is the largest or the smallest.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Number(pub(in crate::config) i128);

impl Read for Number {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let is_text_only = !reader.sources.is_in_file(&node.place);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let help = match &node.value {
            Value::Integer(number) => {
                let beyond = if number.starts_with('-') { i128::MIN } else { i128::MAX };
                return Some(Self(number.parse().unwrap_or(beyond)));
            }
            Value::Text(text) if digits(text) && is_text_only => return Some(Self(text.parse().unwrap_or(i128::MAX))),
            Value::Text(text) if digits(text) => Some(format!("write {text} without quotes")),
            _ => None,
        };
        reader.expected(path, "a whole number", &node, help);
        None
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer" })
    }
}

/// A text as the system takes it: of the file always UTF-8, of the command line anything.
pub(super) fn raw(node: &Node) -> Option<OsString> {
    match &node.value {
        Value::Text(text) => Some(text.into()),
        Value::Raw(raw) => Some(raw.clone()),
        _ => None,
    }
}

/// The words of a command line.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Words(pub(in crate::config) Vec<Written<OsString>>);

impl Read for Words {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let node = node.unfolded(reader.sources, reader.problems)?;
        let help = match &node.value {
            Value::List(list) => {
                let mut words = Vec::new();
                for item in list {
                    let Some(value) = raw(item) else {
                        let text = reader.sources.text(&item.place);
                        let help = format!("write it in quotes: \"{}\"", text.trim_matches('"'));
                        reader.expected(path, "an array of strings", item, Some(help));
                        return None;
                    };
                    let place = item.place.clone();
                    words.push(Written { value, place });
                }
                return Some(Self(words));
            }
            Value::Text(text) => {
                let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
                Some(format!("write one string for each word: [{}]", words.join(", ")))
            }
            _ => None,
        };
        reader.expected(path, "an array of strings", &node, help);
        None
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
    }
}

/// An array of strings.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Texts(pub(in crate::config) Vec<Written<String>>);

impl Read for Texts {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let node = node.unfolded(reader.sources, reader.problems)?;
        let Value::List(list) = node.value else {
            let help = matches!(node.value, Value::Text(_))
                .then(|| format!("write it in brackets: [{}]", reader.sources.text(&node.place)));
            reader.expected(path, "an array of strings", &node, help);
            return None;
        };
        let read = |item: Node| {
            let place = item.place.clone();
            String::read(item, path, reader).map(|value| Written { value, place })
        };
        list.into_iter().map(read).collect::<Option<_>>().map(Self)
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string" } })
    }
}

/// One string, or an array of them.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Names(pub(in crate::config) Vec<Written<String>>);

impl Read for Names {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let node = node.unfolded(reader.sources, reader.problems)?;
        match node.value {
            Value::Text(value) => {
                let place = node.place;
                Some(Self(vec![Written { value, place }]))
            }
            Value::List(_) => Texts::read(node, path, reader).map(|texts| Self(texts.0)),
            _ => {
                reader.expected(path, "a string or an array of strings", &node, None);
                None
            }
        }
    }
}

impl JsonSchema for Names {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 })
    }
}

/// A text that is never shown, be it of the wrong kind.
#[derive(Clone)]
pub(in crate::config) struct Hidden(pub(in crate::config) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Read for Hidden {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        hide(&node, reader.sources);
        if let Value::Text(text) = node.value {
            return Some(Self(text));
        }
        reader.expected(path, "a string", &node, Some("write it in quotes".into()));
        None
    }
}

impl JsonSchema for Hidden {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hidden".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Keeps a value and all below it from being shown: the place of a dotted table is its key only.
pub(super) fn hide(node: &Node, sources: &mut Sources) {
    match &node.value {
        Value::Table(table) => table.entries.iter().for_each(|(_, node)| hide(node, sources)),
        _ => sources.hide(&node.place),
    }
}

/// A number, or two with a dash between them, as text: `200` and `"200-399"`.
#[derive(Clone, Debug)]
pub(in crate::config) struct Numbers(pub(in crate::config) String);

impl Read for Numbers {
    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Text(text) | Value::Integer(text) => Some(Self(text)),
            _ => {
                reader.expected(path, "a number, or a string such as \"200-399\"", &node, None);
                None
            }
        }
    }
}

impl JsonSchema for Numbers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Numbers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

impl From<Numbers> for String {
    fn from(numbers: Numbers) -> Self {
        numbers.0
    }
}
