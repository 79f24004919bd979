//! Which profile is in effect, and how it is put over the file: below variables and flags.
//!
//! A profile sets keys of what is there, as every layer above the file does: it makes no
//! backend, check or route of its own, so that a slip in a name is an error. The phases of a
//! backend are there by their names. The profile itself stays in the tree, where the reader looks
//! at it whether it is in effect or not.

use std::ffi::OsString;

use super::layers::{Flags, Layer, phases_of};
use super::problem::{Problem, Problems};
use super::source::{Place, Sources};
use super::suggest::{closest, listed};
use super::tree::{Key, Node, Table, Value};
use super::words::PROFILES;
use super::written::{Profile, Read, Reader, Shape, join};

/// The variable that chooses one; `--profile` wins over it.
pub(super) const VARIABLE: &str = "GREENROOM_PROFILE";

/// A profile, and where it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) place: Place,
}

/// The profile that was asked for. An empty variable asks for none.
pub(super) fn asked(
    flags: &Flags,
    variables: &[(OsString, OsString)],
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Asked> {
    let (wanted, place) = if let Some(wanted) = &flags.profile {
        (wanted.clone(), sources.flag("--profile", wanted))
    } else {
        let (_, value) = variables.iter().find(|(name, _)| name == VARIABLE)?;
        let value = value.to_string_lossy().into_owned();
        if value.is_empty() {
            return None;
        }
        let place = sources.variable(VARIABLE, &value);
        (value, place)
    };
    if let Some(name) = PROFILES.into_iter().find(|name| *name == wanted) {
        return Some(Asked { name, place });
    }
    let problem = Problem::new(format!("there is no profile {wanted:?}")).at(&place);
    problems.add(match closest(&wanted, PROFILES) {
        Some(meant) => problem.label(format!("did you mean \"{meant}\"?")),
        None => problem.help(format!("the profiles are {}", listed("and", PROFILES))),
    });
    None
}

/// The profile of this name, if the file has it.
pub(super) fn find<'a>(tree: &'a Table, name: &str) -> Option<&'a Node> {
    match tree.get("profile").map(|node| &node.value) {
        Some(Value::Table(profiles)) => profiles.get(name),
        _ => None,
    }
}

impl Layer<'_> {
    /// Puts a profile over the tree. One that cannot be read is left alone: the reader says why.
    pub(super) fn profile(&mut self, name: &'static str) {
        let Some(node) = find(self.tree, name).cloned() else {
            return;
        };
        let mut unread = Problems::default();
        let mut reader = Reader {
            sources: self.sources,
            problems: &mut unread,
        };
        let read = Profile::read(node.clone(), "", &mut reader);
        if let (Value::Table(over), true, false) = (&node.value, unread.is_empty(), read.is_none()) {
            let mut merge = Merge {
                name,
                sources: self.sources,
                problems: self.problems,
            };
            merge.table(Profile::SHAPE, self.tree, over, "");
        }
    }
}

struct Merge<'a> {
    name: &'static str,
    sources: &'a mut Sources,
    problems: &'a mut Problems,
}

impl Merge<'_> {
    fn table(&mut self, shape: &Shape, base: &mut Table, over: &Table, path: &str) {
        let Shape::Table(keys) = shape else { return };
        for (key, node) in &over.entries {
            let Some((_, below)) = keys.iter().find(|(known, _)| *known == key.name) else {
                continue;
            };
            let path = join(path, &key.name);
            match (below, &node.value) {
                (Shape::Free, Value::Table(over)) => {
                    if let Some(free) = base.table_mut(&key.name, &node.place) {
                        for (key, node) in &over.entries {
                            self.set(free, key, node);
                        }
                    }
                }
                (Shape::Value | Shape::Free, _) => self.set(base, key, node),
                (Shape::Table(_), Value::Table(over)) => {
                    if let Some(table) = base.table_mut(&key.name, &node.place) {
                        self.table(below, table, over, &path);
                    }
                }
                (Shape::Named(one), Value::Table(over)) => self.named(one, base, key, over, &path),
                (Shape::Many(one), Value::List(over)) => {
                    if let Some(Value::List(many)) = base.get_mut(&key.name).map(|node| &mut node.value) {
                        self.many(one, many, over, &path);
                    }
                }
                (Shape::Table(_) | Shape::Named(_) | Shape::Many(_), _) => {} // told by the reader
            }
        }
    }

    fn set(&mut self, base: &mut Table, key: &Key, node: &Node) {
        self.sources.of_profile(&node.place, self.name);
        base.set(&key.name, node.clone());
    }

    fn named(&mut self, one: &Shape, base: &mut Table, key: &Key, over: &Table, path: &str) {
        let phases = if key.name == "phase" {
            phases_of(base)
        } else {
            Vec::new()
        };
        let mut none = Table::implied();
        let named = if phases.is_empty() {
            match base.get_mut(&key.name).map(|node| &mut node.value) {
                Some(Value::Table(named)) => named,
                _ => &mut none,
            }
        } else {
            let place = over.place.as_ref().unwrap_or(&key.place);
            base.table_mut(&key.name, place).unwrap_or(&mut none)
        };
        for (name, node) in &over.entries {
            let Value::Table(over) = &node.value else { continue };
            let path = join(path, &name.name);
            if named.get(&name.name).is_none() && phases.contains(&name.name) {
                let table = Node {
                    value: Value::Table(Table::implied()),
                    place: node.place.clone(),
                };
                named.entries.push((name.clone(), table));
            }
            match named.get_mut(&name.name).map(|node| &mut node.value) {
                Some(Value::Table(table)) => self.table(one, table, over, &path),
                Some(_) => {} // told by the reader
                None => {
                    let known = named.entries.iter().map(|(name, _)| name.name.as_str());
                    let known: Vec<&str> = known.chain(phases.iter().map(String::as_str)).collect();
                    self.nothing_there(&path, &key.name, name, &known);
                }
            }
        }
    }

    fn nothing_there(&mut self, path: &str, kind: &str, name: &Key, known: &[&str]) {
        let problem = Problem::new(format!(
            "`{path}`: there is no {kind} of this name outside of the profile"
        ));
        let problem = problem.at(&name.place);
        self.problems.add(match closest(&name.name, known.iter().copied()) {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.help(format!(
                "a profile changes what is there: add [{path}] to the file, or use {}",
                listed("or", known.iter().copied())
            )),
        });
    }

    /// Routes are found by their names; the only one needs none.
    fn many(&mut self, one: &Shape, base: &mut [Node], over: &[Node], path: &str) {
        let name_of = |node: &Node| match &node.value {
            Value::Table(table) => match table.get("name").map(|name| &name.value) {
                Some(Value::Text(name)) => Some(name.clone()),
                _ => None,
            },
            _ => None,
        };
        let known: Vec<Option<String>> = base.iter().map(name_of).collect();
        for node in over {
            let Value::Table(over) = &node.value else { continue };
            let wanted = name_of(node);
            let index = match &wanted {
                Some(_) => known.iter().position(|name| *name == wanted),
                None => (base.len() == 1).then_some(0),
            };
            if let Some(Value::Table(table)) = index.and_then(|index| base.get_mut(index)).map(|node| &mut node.value) {
                // By its name it was found: that is the file's word.
                let mut over = over.clone();
                over.entries.retain(|(key, _)| key.name != "name");
                self.table(one, table, &over, path);
                continue;
            }
            let names: Vec<&str> = known.iter().flatten().map(String::as_str).collect();
            let place = over.get("name").map_or(&node.place, |name| &name.place);
            let problem = match &wanted {
                Some(name) => Problem::new(format!(
                    "there is no route with the name {name:?} outside of the profile"
                )),
                None => Problem::new("nobody knows which route is meant: this one has no `name`"),
            };
            self.problems.add(
                match wanted.as_deref().and_then(|name| closest(name, names.iter().copied())) {
                    Some(meant) => problem.at(place).label(format!("did you mean \"{meant}\"?")),
                    None => problem.at(place).help(format!(
                        "give the route of the file a `name`, and the same here; there {}",
                        match names.as_slice() {
                            [] => "is none with a name".to_owned(),
                            [only] => format!("is \"{only}\""),
                            names => format!("are {}", listed("and", names.iter().copied())),
                        }
                    )),
                },
            );
        }
    }
}
