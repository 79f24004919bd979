//! What routes need of their backend to let somebody in, and what their clients hear of it.

use greenroom_core::limits::{DEGRADED_MESSAGE_MAX, NEEDS_MAX};
use greenroom_core::phase::RESERVED_PHASES;
use greenroom_core::readiness::{Item, Need, WhenDegraded};

use super::super::TellClients;
use super::super::model::{Backend, Route};
use super::super::problem::Problem;
use super::super::suggest::{closest, listed};
use super::super::words::{Tell, Word};
use super::super::written::{Field, Texts, Written, join};
use super::{Checker, Placed};

impl Checker<'_> {
    /// What a route needs. Without a backend nothing can be said of it.
    pub(super) fn need(
        &mut self,
        path: &str,
        require: Field<Texts>,
        degraded: Field<String>,
        backend: Option<&Backend>,
    ) -> Need {
        let key = join(path, "require");
        if require.is_absent() {
            self.note(&key, "ready and critical checks", None);
        }
        let require = match (require.present(), backend) {
            (Some(written), Some(backend)) => Some(self.items(&key, &written, backend)),
            _ => None,
        };
        let degraded = self.word(&join(path, "degraded"), degraded, WhenDegraded::default());
        Need { require, degraded }
    }

    /// The checks and phases of these names, each once, in one order whatever order they were written in.
    fn items(&mut self, key: &str, written: &Written<Texts>, backend: &Backend) -> Vec<Item> {
        let mut items = Vec::new();
        let mut shown = Vec::new();
        for name in &written.value.0 {
            let text = name.value.as_str();
            let check = backend.checks.iter().position(|check| *check.rule.name == *text);
            let phase = backend.phases.iter().position(|phase| *phase.name == *text);
            let (item, what) = match (check, phase) {
                (Some(index), None) => (Item::Check(index), "check"),
                (Some(index), Some(_)) => (Item::Check(index), "the check, not the phase of this name"),
                (None, Some(index)) => (Item::Phase(index), "phase"),
                (None, None) => {
                    self.no_item(key, name, backend);
                    continue;
                }
            };
            shown.push(format!("{text} ({what})"));
            items.push(item);
        }
        let shown = if written.value.0.is_empty() {
            "ready alone".into()
        } else {
            shown.join(", ")
        };
        self.note(key, shown, Some(&written.place));
        items.sort_unstable_by_key(|item| match *item {
            Item::Check(index) => (0, index),
            Item::Phase(index) => (1, index),
        });
        items.dedup();
        items
    }

    fn no_item(&mut self, key: &str, name: &Written<String>, backend: &Backend) {
        let text = name.value.as_str();
        let checks: Vec<&str> = backend.checks.iter().map(|check| &*check.rule.name).collect();
        let phases: Vec<&str> = backend.phases.iter().map(|phase| &*phase.name).collect();
        let problem = Problem::new(format!(
            "`{key}`: backend `{}` has no check and no phase {text:?}",
            backend.name
        ))
        .at(&name.place);
        let known = checks.iter().chain(&phases).copied();
        self.problems.add(if RESERVED_PHASES.contains(&text) {
            problem.help("leave `require` out: then the backend must be ready; `[]` is that alone, without its checks")
        } else if let Some(meant) = closest(text, known) {
            problem.label(format!("did you mean \"{meant}\"?"))
        } else {
            problem.help(format!(
                "its checks: {}; its phases: {}",
                listed("and", checks),
                listed("and", phases)
            ))
        });
    }

    pub(super) fn tell_clients(&mut self, path: &str, how: Field<String>, message: Field<String>) -> TellClients {
        let (how_key, key) = (join(path, "tell_clients"), join(path, "degraded_message"));
        let is_known = how.is_absent() || how.get().is_some_and(|how| Tell::of(&how.value).is_some());
        let how_place = how.place().cloned();
        let how = self.word(&how_key, how, Tell::No);
        let (is_absent, place) = (message.is_absent(), message.place().cloned());
        let message = self.text(&key, message, message_of);
        match (how, message) {
            (Tell::Message, Some(message)) => return TellClients::Message(message.value),
            (Tell::Message, None) if is_absent => {
                let help = "say what is sent, in a form that the clients know, such as degraded_message = \"degraded: {level} ({missing})\"";
                self.missing(&key, how_place.as_ref(), help);
            }
            (Tell::No | Tell::Header, Some(_))
                if is_known && self.sources.in_one_layer(how_place.as_ref(), place.as_ref()) =>
            {
                self.problems.add(
                    Problem::new(format!(
                        "`{key}` is for `tell_clients = \"message\"`, and `{how_key}` is \"{}\"",
                        how.word()
                    ))
                    .near(place.as_ref())
                    .related(how_place.as_ref(), "said here")
                    .help("write tell_clients = \"message\", or take the message away"),
                );
            }
            _ => {}
        }
        match how {
            Tell::Header => TellClients::Header,
            Tell::No | Tell::Message => TellClients::No,
        }
    }

    /// Gives each backend the different needs of its routes, and each route the number of its own.
    pub(super) fn gather(
        &mut self,
        routes: Vec<(Placed<Route>, Need)>,
        backends: &mut [Placed<Backend>],
    ) -> Vec<Route> {
        let mut gathered = Vec::new();
        for (mut route, need) in routes {
            if let Some(backend) = backends.get_mut(route.value.backend) {
                let needs = &mut backend.value.needs;
                let known = needs.iter().position(|known| *known == need);
                if known.is_none() && needs.len() >= NEEDS_MAX {
                    self.problems.add(
                        Problem::new(format!(
                            "the routes to backend `{}` need more than {NEEDS_MAX} different things of it",
                            backend.value.name
                        ))
                        .near(route.place.as_ref())
                        .label("the first one too many")
                        .help("let several routes have the same `require` and `degraded`"),
                    );
                    break;
                }
                route.value.need = known.unwrap_or(needs.len());
                if known.is_none() {
                    needs.push(need);
                }
            }
            gathered.push(route.value);
        }
        gathered
    }
}

/// A message whose fields are known.
fn message_of(text: &str) -> Result<String, String> {
    template(text, &["level", "missing"], DEGRADED_MESSAGE_MAX)
}

/// A text with fields in braces, each at most once. Other braces are the text's own: it may be JSON.
pub(super) fn template(text: &str, fields: &[&'static str], max: usize) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty: nothing would be said".into());
    }
    if text.len() > max {
        return Err(format!("has {} bytes; at most {max} may be", text.len()));
    }
    let mut seen = Vec::new();
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else {
            continue;
        };
        if fields.contains(&name) {
            if seen.contains(&name) {
                return Err(format!("has {{{name}}} twice: it is put in once"));
            }
            seen.push(name);
        } else if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            return Err(match closest(name, fields.iter().copied()) {
                Some(meant) => format!("{{{name}}} is no field: did you mean {{{meant}}}?"),
                None => {
                    let known: Vec<String> = fields.iter().map(|field| format!("{{{field}}}")).collect();
                    format!(
                        "{{{name}}} is no field: there are {}",
                        listed("and", known.iter().map(String::as_str))
                    )
                }
            });
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_own_braces_and_has_each_field_once() {
        for text in [
            "x",
            "{level}",
            "{\"a\":{\"b\":\"{level}\"},\"c\":\"{missing}\"}",
            "{}",
            "{",
            "{ level }",
        ] {
            assert_eq!(message_of(text), Ok(text.to_owned()));
        }
        for text in ["", "{lvel}", "{levels}", "{Missing}", "{phase}", "{level} {level}"] {
            assert!(message_of(text).is_err(), "{text}");
        }
        assert!(message_of(&"a".repeat(DEGRADED_MESSAGE_MAX)).is_ok());
        assert!(message_of(&"a".repeat(DEGRADED_MESSAGE_MAX + 1)).is_err());
    }
}
