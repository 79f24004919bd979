//! Nothing that can stand in a file, the environment or on the command line makes it panic.

use greenroom::config::{Flags, Purpose, Secrets, load_bytes, to_toml};
use proptest::prelude::*;

use super::{check, layers};

/// A file with everything in it, to be damaged.
const WHOLE: &str = include_str!("whole.toml");

/// Whatever the bytes are, they are a configuration that prints as itself, or there are problems to show.
fn look(bytes: &[u8]) {
    match check("any.toml", bytes) {
        Ok(loaded) => {
            let _ = loaded.explain(Secrets::Hidden);
            let printed = to_toml(&loaded.config, Secrets::Shown);
            assert_eq!(check("printed.toml", printed.as_bytes()).unwrap().config, loaded.config);
        }
        Err(invalid) => {
            assert!(invalid.count() > 0);
            let _ = (invalid.render(false), invalid.render(true));
        }
    }
}

#[test]
fn the_whole_file_is_valid_and_has_every_key() {
    look(WHOLE.as_bytes());
    assert!(check("whole.toml", WHOLE.as_bytes()).is_ok());
    let schema: serde_json::Value = serde_json::from_str(&greenroom::config::schema()).unwrap();
    let mut keys = Vec::new();
    properties(&schema, &mut keys);
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(WHOLE.contains(&key), "whole.toml has no `{key}`");
    }
}

fn properties(value: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = value["properties"].as_object() {
        keys.extend(properties.keys().cloned());
    }
    match value {
        serde_json::Value::Object(object) => object.values().for_each(|value| properties(value, keys)),
        serde_json::Value::Array(array) => array.iter().for_each(|value| properties(value, keys)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look(&bytes);
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[\\[\\]{}\"'=.,#\n a1é\0]{0,3}"), 1..4),
    ) {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, length, instead) in cuts {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, instead.chars());
        }
        look(text.into_iter().collect::<String>().as_bytes());
    }

    #[test]
    fn any_line_may_be_missing_or_twice(lines in prop::collection::vec(0..3_u8, 80)) {
        let text: String = WHOLE.lines().zip(lines.iter().cycle()).flat_map(|(line, count)| {
            std::iter::repeat_n(format!("{line}\n"), usize::from(*count))
        }).collect();
        look(text.as_bytes());
    }

    #[test]
    fn any_variable_and_any_flag_is_taken_or_refused(
        names in prop::collection::vec((
            "GREENROOM__(GRACE|LISTENER|BACKEND|ROUTE|ADMIN|PROFILE|[a-z]{1,3})(__(APP|MAIN|0|1|é|[A-Z_]{0,4})){0,2}(__(PROCESS|READY|ENV|HOLD|SET|COMMAND|REQUEST_HEADERS|HELD_MAX|PHASE|INIT|CHECK|TIMEOUT|TOKEN|REQUIRE)){0,3}",
            "(\\[\"?[a-z]{0,3}\"?\\]?|\\{ ?a ?= ?\"b\" ?\\}?|[0-9]{0,40}|[a-zé\0\n:/]{0,6})",
        ), 0..6),
        flag in prop::option::of("[a-z0-9:é\n]{0,8}"),
        command in prop::collection::vec("[a-z{}é ]{0,8}", 0..3),
    ) {
        let variables: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let flags = Flags {
            listen: flag.clone(), backend: flag.clone(), ready: flag.clone(), hold: flag.clone(), hold_timeout: flag.clone(),
            restart: flag.clone(), grace: flag.clone(), log_format: flag.clone(), profile: flag,
            command: command.into_iter().map(Into::into).collect(),
        };
        for purpose in [Purpose::Check, Purpose::Run, Purpose::Serve] {
            let layers = layers(&variables, flags.clone(), purpose);
            if let Err(invalid) = load_bytes("any.toml", b"[backend.app]\naddress = \"h:1\"".to_vec(), &layers) {
                let _ = invalid.render(true);
            }
            if let Err(invalid) = greenroom::config::load(&layers) {
                let _ = invalid.render(false);
            }
        }
    }
}
