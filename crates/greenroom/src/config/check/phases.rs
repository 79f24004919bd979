//! The phases of a backend, and how long each may take.

use greenroom_core::limits::{PHASE_NAME_MAX, PHASE_TIMEOUT_MAX, PHASE_TIMEOUT_MIN, PHASES_MAX};
use greenroom_core::phase::{RESERVED_PHASES, Rule, is_name};

use super::super::problem::Problem;
use super::super::suggest::{closest, listed};
use super::super::units;
use super::super::written::{Field, Named, Phase, Texts, join};
use super::Checker;

impl Checker<'_> {
    /// The phases in order, each with its timeout.
    pub(super) fn phases(&mut self, path: &str, list: Field<Texts>, table: Field<Named<Phase>>) -> Vec<Rule> {
        let list_is_wrong = list.is_wrong();
        let mut rules = self.phase_list(&join(path, "phases"), list);
        let path = join(path, "phase");
        let mut named = table.present().map(|written| written.value.0).unwrap_or_default();
        self.at_most(&format!("tables in `{path}`"), &mut named, PHASES_MAX, |(key, _)| {
            Some(key.place.clone())
        });
        for (key, phase) in named {
            let path = join(&path, &key.name);
            if phase.timeout.is_absent() && rules.iter().any(|rule| *rule.name == *key.name) {
                continue; // as if it were not there
            }
            let read = |text: &str| units::duration_in(text, PHASE_TIMEOUT_MIN, PHASE_TIMEOUT_MAX);
            let timeout = self.text(&join(&path, "timeout"), phase.timeout, read);
            match rules.iter_mut().find(|rule| *rule.name == *key.name) {
                Some(rule) => rule.timeout = timeout.map(|timeout| timeout.value),
                None if list_is_wrong => {} // nobody knows which there are
                None => {
                    let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
                    let problem = Problem::new(format!("`{path}`: there is no such phase")).at(&key.place);
                    self.problems.add(match closest(&key.name, names.iter().copied()) {
                        Some(meant) => problem.label(format!("did you mean `{meant}`?")),
                        None => problem.help(format!(
                            "the phases of this backend are {}; others are named in its `phases`",
                            listed("and", names)
                        )),
                    });
                }
            }
        }
        rules
    }

    fn phase_list(&mut self, key: &str, list: Field<Texts>) -> Vec<Rule> {
        let defaults = Rule::defaults();
        let Some(written) = list.present() else {
            let names: Vec<&str> = defaults.iter().map(|rule| &*rule.name).collect();
            self.note(key, names.join(", "), None);
            return defaults;
        };
        let mut names = written.value.0;
        if names.is_empty() {
            let problem = Problem::new(format!("`{key}` is empty: a start has at least one phase")).at(&written.place);
            self.problems.add(problem.help("leave it out for the usual ones"));
            return defaults;
        }
        self.at_most(&format!("phases in `{key}`"), &mut names, PHASES_MAX, |name| {
            Some(name.place.clone())
        });
        let shown: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        self.note(key, shown.join(", "), Some(&written.place));
        let mut rules: Vec<Rule> = Vec::new();
        for name in names {
            let text = name.value.as_str();
            let problem = if RESERVED_PHASES.contains(&text) {
                Some((
                    format!("`{key}`: \"{text}\" cannot be the name of a phase, as it means something by itself"),
                    format!("{} are reserved: use another word", listed("and", RESERVED_PHASES)),
                ))
            } else if !is_name(text.as_bytes()) {
                Some((
                    format!("`{key}`: {text:?} cannot be the name of a phase"),
                    format!("use letters, digits, -, _ and ., at most {PHASE_NAME_MAX} of them"),
                ))
            } else if rules.iter().any(|rule| *rule.name == *text) {
                Some((
                    format!("`{key}`: \"{text}\" stands there twice"),
                    "a start goes through each phase once: give them different names".into(),
                ))
            } else {
                None
            };
            match problem {
                Some((title, help)) => self.problems.add(Problem::new(title).at(&name.place).help(help)),
                None => rules.push(Rule {
                    name: text.into(),
                    timeout: None,
                }),
            }
        }
        rules
    }
}
