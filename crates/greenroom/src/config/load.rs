//! From a file, the environment and the command line to a checked [`Config`], with
//! where each value comes from; or to everything that is wrong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::check::{self, Around, Purpose};
use super::explain::{Effective, Secrets, explain};
use super::layers::{Flags, Layer, imply};
use super::mark::Mark;
use super::model::Config;
use super::notes::notes;
use super::problem::{Invalid, Problem, Problems};
use super::profile::{self, Asked};
use super::source::{self, Sources};
use super::tree::{self, Table};
use super::words::PROFILES;
use super::written::{Keys, Reader, Root, is_secret};

/// What a configuration is made of.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// The file, if there is one.
    pub file: Option<&'a Path>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// The command line.
    pub flags: Flags,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a configuration was made of, kept so that it can be made again.
#[derive(Clone, Debug)]
pub struct Recipe {
    file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    flags: Flags,
    purpose: Purpose,
}

impl Recipe {
    /// Of these layers.
    #[must_use]
    pub fn of(layers: &Layers<'_>) -> Self {
        Self {
            file: layers.file.map(Path::to_owned),
            variables: layers.variables.clone(),
            flags: layers.flags.clone(),
            purpose: layers.purpose,
        }
    }

    /// The file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file once more, and puts the same variables and flags over it.
    pub fn load(&self) -> Result<Loaded, Invalid> {
        load(&Layers {
            file: self.file(),
            variables: self.variables.clone(),
            flags: self.flags.clone(),
            purpose: self.purpose,
        })
    }
}

/// A checked configuration, and where it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Each value in effect.
    pub effective: Vec<Effective>,
    /// What is right and may not be meant: one sentence each.
    pub notes: Vec<String>,
    /// Which file was read, if one was.
    pub mark: Option<Mark>,
}

impl Loaded {
    /// See [`explain`].
    #[must_use]
    pub fn explain(&self, secrets: Secrets) -> String {
        explain(&self.config, &self.effective, secrets)
    }
}

/// Reads and checks all layers.
pub fn load(layers: &Layers<'_>) -> Result<Loaded, Invalid> {
    let Some(path) = layers.file else {
        return load_text(None, layers);
    };
    match source::read_file(path) {
        Ok((text, mark)) => Ok(Loaded {
            mark: Some(mark),
            ..load_text(Some((&path.display().to_string(), &text)), layers)?
        }),
        Err(error) => {
            let mut problems = Problems::default();
            problems.add(Problem::new(error.to_string()));
            Err(Invalid::new(Sources::default(), problems))
        }
    }
}

/// Reads and checks all layers, with the bytes of the file already there under the name `path`.
pub fn load_bytes(path: &str, bytes: Vec<u8>, layers: &Layers<'_>) -> Result<Loaded, Invalid> {
    match source::text_of(path, bytes) {
        Ok(text) => load_text(Some((path, &text)), layers),
        Err(error) => {
            let mut problems = Problems::default();
            problems.add(Problem::new(error.to_string()));
            Err(Invalid::new(Sources::default(), problems))
        }
    }
}

fn load_text(file: Option<(&str, &str)>, layers: &Layers<'_>) -> Result<Loaded, Invalid> {
    let (mut sources, mut problems) = (Sources::default(), Problems::default());
    let tree = match file {
        None => Some(Table::implied()),
        Some((path, text)) => {
            let source = sources.file(path, text);
            let tree = tree::parse(source, text, &mut problems);
            if tree.is_none() {
                sources.hide_lines(source, is_secret);
            }
            tree
        }
    };
    let Some(mut tree) = tree else {
        return Err(Invalid::new(sources, problems));
    };
    imply(&mut tree, &layers.flags);
    let asked = profile::asked(&layers.flags, &layers.variables, &mut sources, &mut problems);
    let (config, effective) = stacked(tree.clone(), asked.as_ref(), layers, &mut sources, &mut problems);
    if layers.purpose == Purpose::Check {
        others(&tree, asked.as_ref(), layers, &mut sources, &mut problems);
    }
    if problems.is_empty() {
        let notes = notes(&config, layers);
        Ok(Loaded {
            config,
            effective,
            notes,
            mark: None,
        })
    } else {
        Err(Invalid::new(sources, problems))
    }
}

/// The layers over one another, read and checked.
fn stacked(
    mut tree: Table,
    asked: Option<&Asked>,
    layers: &Layers<'_>,
    sources: &mut Sources,
    problems: &mut Problems,
) -> (Config, Vec<Effective>) {
    let mut layer = Layer {
        tree: &mut tree,
        sources,
        problems,
    };
    if let Some(asked) = asked {
        layer.profile(asked.name);
    }
    layer.variables(&layers.variables);
    layer.flags(&layers.flags);
    let mut reader = Reader { sources, problems };
    let root = Root::read_table(tree, "", &mut reader);
    let around = Around {
        purpose: layers.purpose,
        folder: layers.file.and_then(folder),
        port: variable(&layers.variables, "PORT"),
        profile: asked.map(|asked| (asked.name.to_owned(), asked.place.clone())),
    };
    check::check(root, &around, sources, problems)
}

/// Whoever checks a file wants to know of each profile, before it is in effect. While something else is wrong
/// it would be told again for each, so that comes first.
fn others(tree: &Table, asked: Option<&Asked>, layers: &Layers<'_>, sources: &mut Sources, problems: &mut Problems) {
    for name in PROFILES {
        let is_asked = asked.is_some_and(|asked| asked.name == name);
        let (false, Some(node), true) = (is_asked, profile::find(tree, name), problems.is_empty()) else {
            continue;
        };
        let place = node.place.clone();
        let asked = Asked { name, place };
        let _ = stacked(tree.clone(), Some(&asked), layers, sources, problems);
        problems.add_help(&format!("this is so with the profile `{name}`"));
    }
}

/// The folder of a file, absolute, so that it stays the same wherever what is printed of it is read.
fn folder(file: &Path) -> Option<std::path::PathBuf> {
    let absolute = std::path::absolute(file).ok()?;
    absolute.parent().map(Path::to_owned)
}

fn variable(variables: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    let found = variables.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.clone())
}
