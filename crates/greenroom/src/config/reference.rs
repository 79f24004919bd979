//! What the keys of a configuration are, for editors and for people: the JSON Schema
//! and the reference in Markdown. Both come from the declarations in `written`.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::written::{Keys, Read, Root, Shape};

/// The JSON Schema, with a newline at its end.
#[must_use]
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema_value()).unwrap_or_default();
    text.push('\n');
    text
}

fn schema_value() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    generator.into_root_schema_for::<Root>().to_value()
}

/// The reference of all keys, below a text that says how they come together.
#[must_use]
pub fn reference() -> String {
    let schema = schema_value();
    let mut page = Page {
        schema: &schema,
        text: include_str!("introduction.md").to_owned(),
    };
    page.table("The top level", &schema, Root::KEYS);
    page.below("", &schema, Root::SHAPE);
    page.text
}

struct Page<'a> {
    schema: &'a Value,
    text: String,
}

impl Page<'_> {
    /// The tables below one, in the order in which they are declared.
    fn below(&mut self, path: &str, schema: &Value, shape: &Shape) {
        let Shape::Table(keys) = shape else { return };
        for (key, below) in *keys {
            let property = &schema["properties"][key];
            if let ("profile", Shape::Table(profiles)) = (*key, below) {
                self.profiles(property, profiles);
                continue;
            }
            let (header, one, keys) = match below {
                Shape::Value | Shape::Free => continue,
                Shape::Table(keys) => (dotted(path, key), property, *keys),
                Shape::Named(Shape::Table(keys)) => (
                    dotted(path, &format!("{key}.NAME")),
                    &property["additionalProperties"],
                    *keys,
                ),
                Shape::Many(Shape::Table(keys)) => (dotted(path, key), &property["items"], *keys),
                Shape::Named(_) | Shape::Many(_) => continue,
            };
            let one = self.followed(one).clone();
            let title = if matches!(below, Shape::Many(_)) {
                format!("`[[{header}]]`")
            } else {
                format!("`[{header}]`")
            };
            self.table(&title, &one, keys);
            self.below(&header, &one, &Shape::Table(keys));
        }
    }

    /// All profiles are alike, and what is below one is explained where it stands without it.
    fn profiles(&mut self, schema: &Value, profiles: &[(&str, &Shape)]) {
        let headers: Vec<_> = profiles.iter().map(|(name, _)| format!("`[profile.{name}]`")).collect();
        let Some((first, Shape::Table(keys))) = profiles.first() else {
            return;
        };
        let one = self.followed(&self.followed(schema)["properties"][first]).clone();
        self.table(&headers.join(", "), &one, keys);
    }

    /// One table: what it is, and its keys.
    fn table(&mut self, title: &str, schema: &Value, keys: &[(&str, &Shape)]) {
        let about = schema["description"].as_str().unwrap_or("");
        let _ = write!(self.text, "\n## {title}\n\n{}\n\n", prose(about));
        self.text
            .push_str("| key | value | default | means |\n|---|---|---|---|\n");
        for (key, shape) in keys {
            let property = &schema["properties"][key];
            let required = schema["required"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == key));
            let _ = writeln!(
                self.text,
                "| `{key}` | {} | {} | {} |",
                self.values(property, shape),
                if required { "required".into() } else { default(property) },
                prose(property["description"].as_str().unwrap_or("")),
            );
        }
    }

    /// What a key may be.
    fn values(&self, property: &Value, shape: &Shape) -> String {
        match shape {
            Shape::Named(_) => return "tables by name".into(),
            Shape::Many(_) => return "tables in a row".into(),
            Shape::Table(_) => return "table".into(),
            Shape::Free => return "table of strings".into(),
            Shape::Value => {}
        }
        let property = self.followed(property);
        if let Some(values) = property["x-values"].as_str() {
            return values.into();
        }
        if let Some(words) = property["enum"].as_array() {
            let words: Vec<_> = words.iter().map(code).collect();
            return words.join(", ");
        }
        match property["type"].as_str() {
            Some("integer") => format!("{} to {}", property["minimum"], property["maximum"]),
            Some("boolean") => "`true`, `false`".into(),
            Some("array") => "array of strings".into(),
            Some("string") => "string".into(),
            _ => "string, or array of strings".into(),
        }
    }

    /// What a reference in the schema leads to.
    fn followed<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let pointer = schema["$ref"]
            .as_str()
            .and_then(|reference| reference.strip_prefix('#'));
        let inner = schema["allOf"][0]["$ref"]
            .as_str()
            .and_then(|reference| reference.strip_prefix('#'));
        pointer
            .or(inner)
            .and_then(|pointer| self.schema.pointer(pointer))
            .unwrap_or(schema)
    }
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

fn default(property: &Value) -> String {
    if let Some(text) = property["x-default"].as_str() {
        return text.into();
    }
    match &property["default"] {
        Value::Null => String::new(),
        value => code(value),
    }
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(Value::to_string).collect();
            format!("`[{}]`", list.join(", "))
        }
        value => format!("`{value}`"),
    }
}

/// A description in one paragraph, fit for a cell of a table.
fn prose(text: &str) -> String {
    text.replace("\n\n", " ").replace('\n', " ").replace('|', "\\|")
}
