//! Where figures come from: which source, built how, by which programs. Asked of git and of the files, not of the user.
//!
//! What cannot be found out is `unknown`, and nothing in the way of a measurement; a whole run refuses what it must not be made of.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::Failure;

/// What is not known.
pub(crate) const UNKNOWN: &str = "unknown";
/// The profile of a committed measurement.
pub(crate) const RELEASE: &str = "release";
/// What is written by a measurement, and so is no change of what is measured.
const WRITTEN: &str = ":(exclude)docs/evidence";

/// The source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    /// Of git.
    pub(crate) commit: String,
    /// Something was changed that is not in it, other than in `docs/evidence`.
    pub(crate) dirty: bool,
}

/// A program that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// Cargo's name for how it was built: `release` or `debug`.
    pub(crate) profile: String,
    /// SHA-1 of its file; a debug build is not worth the time that one takes for it.
    pub(crate) sha1: Option<String>,
}

impl Revision {
    /// Of the folder `root`.
    pub(crate) fn of(root: &Path) -> Self {
        let git = |words: &[&str]| {
            let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then_some(text)
        };
        Self {
            commit: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| UNKNOWN.to_owned()),
            dirty: git(&["status", "--porcelain", "--", ".", WRITTEN]).is_none_or(|changes| !changes.is_empty()),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.commit != UNKNOWN
    }

    pub(crate) fn told(&self) -> String {
        let dirty = if self.dirty {
            ", with changes that are in no revision"
        } else {
            ""
        };
        format!("{}{dirty}", self.commit)
    }
}

/// How this program was built.
pub(crate) const fn own_profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { RELEASE }
}

/// The measuring program, and the one that it measures. Cargo puts all programs of one profile into one folder: so what lies
/// beside this program was built as it was, and of what lies elsewhere nothing is known.
pub(crate) fn programs(greenroom: &Path) -> Result<Vec<Program>, Failure> {
    let this = std::env::current_exe()?;
    let folder = |path: &Path| std::fs::canonicalize(path).ok()?.parent().map(Path::to_path_buf);
    let beside = folder(greenroom).is_some() && folder(greenroom) == folder(&this);
    let program = |name: &str, path: &Path, profile: &str| {
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let sha1 = (profile == RELEASE).then(|| Sha1::digest(bytes));
        Ok::<Program, Failure>(Program {
            name: name.to_owned(),
            profile: profile.to_owned(),
            sha1: sha1.map(|sha1| sha1.iter().map(|byte| format!("{byte:02x}")).collect()),
        })
    };
    Ok(vec![
        program("bench", &this, own_profile())?,
        program("greenroom", greenroom, if beside { own_profile() } else { UNKNOWN })?,
    ])
}

/// A command as one types it, programs and absolute files without their folders.
pub(crate) fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set =
        set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(&bare(&value.to_string_lossy()))));
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = command.get_args().map(|word| quoted(&bare(&word.to_string_lossy())));
    set.chain([program.to_string_lossy().into_owned()])
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without the folders of an absolute path.
fn bare(word: &str) -> String {
    let path = Path::new(word);
    let name = path.file_name().filter(|_| path.is_absolute());
    name.map_or_else(|| word.to_owned(), |name| name.to_string_lossy().into_owned())
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,{}@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_with_its_variables_and_without_folders() {
        let mut command = Command::new("target/release/greenroom");
        command
            .env("GREENROOM__ADMIN__SOCKET", "/tmp/x/admin")
            .env_remove("PORT");
        command.args(["audit", "--expect", "it's (right)", "--", "/somewhere/bench", ""]);
        assert_eq!(
            shown(&command),
            r"GREENROOM__ADMIN__SOCKET=admin greenroom audit --expect 'it'\''s (right)' -- bench ''"
        );
    }

    #[test]
    fn only_what_lies_beside_this_program_was_built_as_it_was() {
        let this = std::env::current_exe().unwrap();
        let profiles = |path: &Path| {
            let programs = programs(path).unwrap();
            [programs[0].profile.clone(), programs[1].profile.clone()]
        };
        assert_eq!(profiles(&this), [own_profile(), own_profile()]);
        assert_eq!(profiles(Path::new("/bin/sh")), [own_profile(), UNKNOWN]);
    }

    #[test]
    fn where_git_knows_nothing_nothing_is_known() {
        let nowhere = Revision::of(Path::new("/proc"));
        assert!(!nowhere.is_known() && nowhere.dirty, "{nowhere:?}");
    }
}
