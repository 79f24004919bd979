//! The rules that no compiler checks, so that nobody has to remember them.
//!
//! [`rust`] looks at Rust source, [`text`] at every text file, [`crates`] at who
//! depends on whom. Each rule is a function from a file to complaints, with a test
//! that it bites. The scanner in [`source`] knows comments, strings and braces and
//! no more: where it would be wrong, write the code more simply. An exception is a
//! comment on the line or the line above, with its reason:
//!
//! ```text
//! // tidy: allow-sleep the backend's slow start is what is tested
//! ```

mod crates;
mod rust;
mod source;
mod text;

use std::{fs, path::Path};

/// Folders that are no part of the source.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "__pycache__", "corpus", "artifacts"];

/// One text file of the project.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// Something to be put right: `path:line: what, and what to do`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Complaint {
    path: String,
    line: usize,
    what: String,
}

impl Complaint {
    /// `line` counts from 1.
    pub(crate) fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            what: what.into(),
        }
    }
}

/// `cargo xtask tidy`: prints every complaint, and fails if there is one.
pub(crate) fn tidy(root: &Path) -> Result<(), String> {
    let files = files(root)?;
    let mut complaints: Vec<_> = files
        .iter()
        .flat_map(|file| [rust::check(file), text::check(file)])
        .flatten()
        .collect();
    complaints.extend(crates::check(&files));
    complaints.sort();
    for Complaint { path, line, what } in &complaints {
        eprintln!("{path}:{line}: {what}");
    }
    match complaints.len() {
        0 => {
            println!("    {} files are tidy", files.len());
            Ok(())
        }
        count => Err(format!("{count} complaints of tidy")),
    }
}

/// Every text file below `root`, walked and not asked from git, so that a copy without history can be checked.
fn files(root: &Path) -> Result<Vec<File>, String> {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let failed = |e| format!("cannot read {}: {e}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.extend(read(root, &entry.path())?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The file, or nothing if it is not text.
fn read(root: &Path, path: &Path) -> Result<Option<File>, String> {
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    Ok(String::from_utf8(bytes).ok().map(|text| File { path, text }))
}

/// Whether line `index` (from 0), or the comment just above it, carries `tidy: allow-NAME REASON`.
pub(crate) fn allowed(lines: &[&str], index: usize, name: &str) -> bool {
    let marker = format!("tidy: allow-{name} ");
    let has = |line: &str| {
        line.split_once(&marker)
            .is_some_and(|(_, reason)| reason.trim().len() > 5)
    };
    let above = index
        .checked_sub(1)
        .and_then(|above| lines.get(above))
        .map(|line| line.trim_start());
    let is_comment = |line: &str| ["//", "#", "--", "<!--"].iter().any(|start| line.starts_with(start));
    lines.get(index).is_some_and(|line| has(line)) || above.is_some_and(|line| is_comment(line) && has(line))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn an_exception_needs_a_reason() {
        let allowed = |text: &str, index| allowed(&text.lines().collect::<Vec<_>>(), index, "sleep");
        assert!(allowed("x // tidy: allow-sleep it is the thing tested", 0));
        assert!(allowed("  // tidy: allow-sleep it is the thing tested\nx", 1));
        assert!(!allowed("x // tidy: allow-sleep", 0));
        assert!(!allowed("x // tidy: allow-word it is the thing tested", 0));
        assert!(
            !allowed("y // tidy: allow-sleep it is the thing tested\nx", 1),
            "it is y's, not x's"
        );
    }

    #[test]
    fn every_file_of_this_workspace_is_found_and_no_build_product() {
        let files = files(&crate::root()).unwrap();
        let has = |path: &str| files.iter().any(|file| file.path == path);
        assert!(has("xtask/src/tidy/mod.rs") && has("Cargo.lock") && has("tests/e2e/clients.py") && has(".ci/run"));
        assert!(
            !files
                .iter()
                .any(|file| file.path.starts_with("target/") || file.path.starts_with(".git/"))
        );
    }
}
