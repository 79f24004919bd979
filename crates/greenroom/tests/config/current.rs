//! What is written from the program is as the program writes it today, and agrees with it.

use greenroom::config::{Flags, Purpose, load, reference, schema};
use serde_json::Value;

use super::layers;

#[test]
fn the_schema_is_current() {
    let file = include_str!("../../../../docs/greenroom.schema.json");
    assert!(
        file == schema(),
        "docs/greenroom.schema.json is old: run `cargo xtask docs`"
    );
}

#[test]
fn the_reference_is_current() {
    let file = include_str!("../../../../docs/configuration.md");
    assert!(
        file == reference(),
        "docs/configuration.md is old: run `cargo xtask docs`"
    );
}

/// Each default of the schema is the one that takes effect when nobody says anything.
#[test]
fn the_defaults_of_the_schema_are_those_that_take_effect() {
    let flags = Flags {
        command: vec!["x".into()],
        ..Flags::default()
    };
    let loaded = load(&layers(&[], flags, Purpose::Run)).unwrap();
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut compared = 0;
    for effective in &loaded.effective {
        let (table, key) = effective.key.rsplit_once('.').unwrap_or(("", &effective.key));
        let definition = match table {
            "" => &schema,
            "route[0]" => &schema["definitions"]["Route"],
            "backend.app" => &schema["definitions"]["Backend"],
            "backend.app.process" => &schema["definitions"]["Process"],
            "limits" => &schema["definitions"]["Limits"],
            "drain" => &schema["definitions"]["Drain"],
            below if below.starts_with("drain.") => &schema["definitions"]["Manner"],
            "admin" => &schema["definitions"]["Admin"],
            "tracing" => &schema["definitions"]["Tracing"],
            "listener.main" => &schema["definitions"]["Listener"],
            other => panic!("{other}"),
        };
        let property = &definition["properties"][key];
        assert!(property.is_object(), "{} is not in the schema", effective.key);
        if let default @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) = &property["default"] {
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            assert_eq!(default, effective.value, "{}", effective.key);
            compared += 1;
        }
    }
    assert!(compared >= 17, "{compared}");
}

/// No table takes a key that the schema does not know, and none is said to be null.
#[test]
fn the_schema_is_as_strict_as_the_reader() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut tables: Vec<&Value> = schema["definitions"].as_object().unwrap().values().collect();
    tables.push(&schema);
    for table in tables {
        assert_eq!(table["additionalProperties"], Value::Bool(false), "{table}");
        let text = table.to_string();
        assert!(!text.contains("\"null\"") && !text.contains(":null"), "{table}");
        for (key, property) in table["properties"].as_object().unwrap() {
            let described = property["description"]
                .as_str()
                .or(property["allOf"][0]["description"].as_str());
            assert!(
                described.is_some_and(|text| !text.is_empty()),
                "{key} is not explained: {property}"
            );
        }
    }
}
