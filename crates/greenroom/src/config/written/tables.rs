//! The kinds of values that hold others by name or in a row, and how each is read.
//!
//! Their number is bounded by `check`, and before that by `CONFIG_MAX`.

use std::borrow::Cow;
use std::ffi::OsString;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::tree::{Key, Node, Table, Value};
use super::kinds::{Read, Reader, Shape, Written, hide, join, raw};

/// Strings by name, whose values may be secrets.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct TextTable(pub(in crate::config) Vec<(Key, Written<OsString>)>);

impl Read for TextTable {
    const SHAPE: &'static Shape = &Shape::Free;

    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let node = node.unfolded(reader.sources, reader.problems)?;
        let Value::Table(table) = node.value else {
            reader.sources.hide(&node.place);
            let help = "write it as a table: { NAME = \"value\" }".to_owned();
            reader.expected(path, "a table", &node, Some(help));
            return None;
        };
        let mut texts = Vec::new();
        for (key, item) in table.entries {
            hide(&item, reader.sources);
            match raw(&item) {
                Some(value) => {
                    let place = item.place;
                    texts.push((key, Written { value, place }));
                }
                None => {
                    let help = Some("write the value in quotes".to_owned());
                    reader.expected(&join(path, &key.name), "a string", &item, help);
                }
            }
        }
        Some(Self(texts))
    }
}

impl JsonSchema for TextTable {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TextTable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// A table with known keys.
pub(in crate::config) trait Keys: Sized {
    /// The keys, in the order in which they are explained, each with what can be below it.
    const KEYS: &'static [(&'static str, &'static Shape)];

    /// Reads all of it that can be read.
    fn read_table(table: Table, path: &str, reader: &mut Reader<'_>) -> Self;
}

impl<T: Keys> Read for T {
    const SHAPE: &'static Shape = &Shape::Table(T::KEYS);

    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let node = node.unfolded(reader.sources, reader.problems)?;
        match node.value {
            Value::Table(table) => Some(T::read_table(table, path, reader)),
            _ => {
                reader.expected(
                    path,
                    "a table",
                    &node,
                    Some(format!("write [{}] and its keys below it", header(path))),
                );
                None
            }
        }
    }
}

/// A path as the header of a table: TOML counts `[[route]]` by itself.
fn header(path: &str) -> String {
    match (path.find('['), path.find(']')) {
        (Some(begin), Some(end)) if begin < end => format!("{}{}", &path[..begin], &path[end + 1..]),
        _ => path.to_owned(),
    }
}

/// Tables by name.
#[derive(Debug)]
pub(in crate::config) struct Named<T>(pub(in crate::config) Vec<(Key, T)>);

impl<T: Keys> Read for Named<T> {
    const SHAPE: &'static Shape = &Shape::Named(T::SHAPE);

    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let help = format!("write [{path}.NAME] with a name of your choice, and its keys below it");
        let Value::Table(table) = node.value else {
            reader.expected(path, "a table of tables", &node, Some(help));
            return None;
        };
        let mut named = Vec::new();
        for (key, node) in table.entries {
            let path = join(path, &key.name);
            match node.value {
                Value::Table(table) => named.push((key, T::read_table(table, &path, reader))),
                _ => reader.expected(&path, "a table", &node, Some(help.clone())),
            }
        }
        Some(Self(named))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": one })
    }
}

/// Tables in a row.
#[derive(Debug)]
pub(in crate::config) struct Many<T>(pub(in crate::config) Vec<T>);

impl<T: Keys> Read for Many<T> {
    const SHAPE: &'static Shape = &Shape::Many(T::SHAPE);

    fn read(node: Node, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let help = format!("write [[{path}]], with two brackets, and its keys below it");
        let Value::List(list) = node.value else {
            reader.expected(path, "an array of tables", &node, Some(help));
            return None;
        };
        let mut many = Vec::new();
        for (index, node) in list.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match node.value {
                Value::Table(table) => many.push(T::read_table(table, &path, reader)),
                _ => reader.expected(&path, "a table", &node, Some(help.clone())),
            }
        }
        Some(Self(many))
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Many{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "type": "array", "items": one })
    }
}
