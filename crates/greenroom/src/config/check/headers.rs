//! Which header fields a route may change, and to what.
//!
//! Not those that greenroom sets itself or decides by: a route that changed them
//! would make one side believe what the other never said.

use std::collections::BTreeSet;

use greenroom_core::limits::{HEADER_EDITS_MAX, HEADER_VALUE_MAX};

use super::super::model;
use super::super::problem::Problem;
use super::super::written::{Field, HeaderEdits, join};
use super::Checker;
use crate::head::{is_hop_by_hop, is_token};

/// Fields beyond those of one connection, and whose they are.
const KEPT: [(&str, &str); 8] = [
    (
        "host",
        "decides the route, and the backend gets it as the client sent it",
    ),
    ("content-length", "says where the message ends, and greenroom checks it"),
    ("expect", "is answered by whoever takes the body"),
    ("via", "is set by greenroom"),
    ("forwarded", "says who the client is, and is set by greenroom"),
    ("x-real-ip", "says who the client is, and is set by greenroom"),
    (
        "sec-websocket-",
        "belongs to the WebSocket handshake, which client and server agree on",
    ),
    ("x-forwarded-", "says who the client is, and is set by greenroom"),
];

impl Checker<'_> {
    pub(super) fn headers(&mut self, path: &str, field: Field<HeaderEdits>) -> model::HeaderEdits {
        let Some(written) = field.present() else {
            return model::HeaderEdits::default();
        };
        let (set, remove) = (written.value.set.present(), written.value.remove.present());
        let mut set = set.map(|set| set.value.0).unwrap_or_default();
        let mut remove = remove.map(|remove| remove.value.0).unwrap_or_default();
        let (set_path, remove_path) = (join(path, "set"), join(path, "remove"));
        self.at_most(
            &format!("fields in `{set_path}`"),
            &mut set,
            HEADER_EDITS_MAX,
            |(key, _)| Some(key.place.clone()),
        );
        self.at_most(
            &format!("names in `{remove_path}`"),
            &mut remove,
            HEADER_EDITS_MAX,
            |name| Some(name.place.clone()),
        );
        let mut seen = BTreeSet::new();
        let mut edits = model::HeaderEdits::default();
        for (key, value) in set {
            let path = join(&set_path, &key.name);
            let name = key.name.to_ascii_lowercase();
            let error = fault_of_name(&name, &mut seen);
            let text = value.value.to_str();
            if let Some(error) = error {
                self.problems
                    .add(Problem::new(format!("`{path}`: {error}")).at(&key.place));
            } else if let Some(error) = fault_of_value(text) {
                self.problems
                    .add(Problem::new(format!("`{path}`: {error}")).at(&value.place));
            } else {
                let text = text.unwrap_or_default();
                self.note_secret(&path, text, &value.place);
                edits.set.push((name, text.to_owned()));
            }
        }
        let path = remove_path;
        for written in remove {
            let name = written.value.to_ascii_lowercase();
            match fault_of_name(&name, &mut seen) {
                Some(error) => self
                    .problems
                    .add(Problem::new(format!("`{path}`: {error}")).at(&written.place)),
                None => {
                    self.note(&path, &written.value, Some(&written.place));
                    edits.remove.push(name);
                }
            }
        }
        edits
    }
}

/// Why a field with this name, in lower case, cannot be changed.
fn fault_of_name(name: &str, seen: &mut BTreeSet<String>) -> Option<String> {
    if !is_token(name.as_bytes()) {
        return Some(format!(
            "{name:?} is no name of a header field: use letters, digits and -"
        ));
    }
    if name.contains('_') {
        let other = name.replace('_', "-");
        return Some(format!(
            "`{name}` has an underscore, which many servers take for -: write {other:?}"
        ));
    }
    let own = |begin: &str| name == begin || begin.ends_with('-') && name.starts_with(begin);
    let why = if is_hop_by_hop(name) {
        Some("is about one connection, and greenroom has one with each side")
    } else if own("greenroom-") {
        Some("is greenroom's own")
    } else {
        KEPT.iter().find(|(kept, _)| own(kept)).map(|(_, why)| *why)
    };
    if let Some(why) = why {
        return Some(format!("`{name}` cannot be changed: it {why}"));
    }
    (!seen.insert(name.to_owned())).then(|| format!("`{name}` is changed twice; upper and lower case are the same"))
}

/// Why a field cannot have this value.
fn fault_of_value(text: Option<&str>) -> Option<String> {
    let Some(text) = text else {
        return Some("the value is not UTF-8".into());
    };
    let legal = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    if text.len() > HEADER_VALUE_MAX {
        Some(format!(
            "the value has {} bytes; at most {HEADER_VALUE_MAX} may be",
            text.len()
        ))
    } else if !text.bytes().all(legal) {
        Some("the value may hold visible ASCII characters, spaces and tabs only, and no line break".into())
    } else if text.trim_matches([' ', '\t']).len() != text.len() {
        Some("the value begins or ends with a space, which would be lost on the way: take it away".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_can_change_what_greenroom_sets_or_decides_by() {
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy-connection",
            "host",
            "content-length",
            "via",
            "expect",
            "forwarded",
            "x-real-ip",
            "sec-websocket-key",
            "sec-websocket-protocol",
            "x-forwarded-for",
            "x-forwarded-anything",
            "greenroom-session",
            "x_y",
            "",
            "a b",
            "a:b",
            "é",
        ] {
            assert!(fault_of_name(name, &mut BTreeSet::new()).is_some(), "{name}");
        }
        for name in [
            "x-a",
            "authorization",
            "cookie",
            "set-cookie",
            "origin",
            "hosts",
            "sec-fetch-site",
            "server",
        ] {
            assert_eq!(fault_of_name(name, &mut BTreeSet::new()), None, "{name}");
        }
    }

    #[test]
    fn a_field_is_changed_once() {
        let mut seen = BTreeSet::new();
        assert_eq!(fault_of_name("x-a", &mut seen), None);
        assert!(fault_of_name("x-a", &mut seen).unwrap().contains("twice"));
    }

    #[test]
    fn no_value_can_break_a_head() {
        for text in ["a\r\nb", "a\nb", "a\0", "é", " a", "a\t", "\u{7f}"] {
            assert!(fault_of_value(Some(text)).is_some(), "{text:?}");
        }
        assert!(fault_of_value(Some(&"a".repeat(HEADER_VALUE_MAX))).is_none());
        assert!(fault_of_value(Some(&"a".repeat(HEADER_VALUE_MAX + 1))).is_some());
        for text in ["", "a b\tc", "max-age=1; x=\"y\""] {
            assert_eq!(fault_of_value(Some(text)), None, "{text}");
        }
    }
}
