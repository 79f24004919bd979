//! Who may depend on whom: cli → audit → greenroom → core, and nobody on what measures or checks them.
//!
//! Reads the manifests line by line; dependencies of every kind count, those of tests too.

use super::{Complaint, File};

/// Each member of the workspace with the members it may use. A new one is refused until it stands here.
const MAY_USE: &[(&str, &[&str])] = &[
    ("greenroom-core", &[]),
    ("greenroom", &["greenroom-core"]),
    ("greenroom-audit", &["greenroom", "greenroom-core"]),
    ("greenroom-cli", &["greenroom-audit", "greenroom", "greenroom-core"]),
    ("sim", &["greenroom-core", "greenroom"]),
    (
        "bench",
        &["greenroom-core", "greenroom", "greenroom-audit", "greenroom-cli"],
    ),
    ("greenroom-fuzz", &["greenroom-core", "greenroom"]),
    ("xtask", &[]),
];

/// What would bring sockets, clocks or tasks into the core.
const NOT_IN_CORE: &[&str] = &["tokio", "mio", "hyper", "rustix", "libc", "socket2", "getrandom"];

/// All complaints about all manifests.
pub(crate) fn check(files: &[File]) -> Vec<Complaint> {
    let is_manifest = |file: &&File| file.path.ends_with("/Cargo.toml");
    files.iter().filter(is_manifest).flat_map(manifest).collect()
}

fn manifest(file: &File) -> Vec<Complaint> {
    let Some(package) = package_name(&file.text) else {
        return vec![Complaint::new(file, 1, "the manifest has no package name")];
    };
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
        let what = format!("`{package}` is new: say in xtask/src/tidy/crates.rs what it may depend on");
        return vec![Complaint::new(file, 1, what)];
    };
    let mut complaints = Vec::new();
    for (line, used) in dependencies(&file.text) {
        let is_member = MAY_USE.iter().any(|(name, _)| *name == used);
        if is_member && !may_use.contains(&used.as_str()) {
            let what = format!("`{package}` may not depend on `{used}`: it would turn the direction round");
            complaints.push(Complaint::new(file, line, what));
        }
        if package == "greenroom-core" && NOT_IN_CORE.contains(&used.as_str()) {
            complaints.push(Complaint::new(
                file,
                line,
                format!("the core decides and does not act: no `{used}` in it"),
            ));
        }
    }
    complaints
}

fn package_name(text: &str) -> Option<&str> {
    let (_, package) = text.split_once("[package]")?;
    let line = package.lines().find(|line| line.trim_start().starts_with("name"))?;
    line.split('"').nth(1)
}

/// Each dependency with its line (from 1), by its real name if it is renamed.
fn dependencies(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_table = section.ends_with("dependencies");
            // [dependencies.tokio], [target.'cfg(unix)'.dev-dependencies.tokio]
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                found.push((index + 1, name.trim_matches('"').to_owned()));
            }
            continue;
        }
        let is_entry = line.starts_with(|c: char| c.is_alphanumeric() || c == '"');
        if in_table && is_entry {
            let key = line.split(['=', '.', ' ']).next().unwrap_or(line).trim_matches('"');
            let renamed = line.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            found.push((index + 1, renamed.unwrap_or(key).to_owned()));
        } else if !in_table && line.starts_with("package") {
            // In a table of its own, [dependencies.x] package = "tokio".
            found.extend(line.split('"').nth(1).map(|name| (index + 1, name.to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn lines(package: &str, dependencies: &str) -> Vec<usize> {
        let manifest = file(
            "crates/x/Cargo.toml",
            &format!("[package]\nname = \"{package}\"\n{dependencies}"),
        );
        check(&[manifest]).into_iter().map(|complaint| complaint.line).collect()
    }

    #[test]
    fn the_right_direction_is_allowed() {
        assert_eq!(
            lines(
                "greenroom",
                "[dependencies]\ngreenroom-core.workspace = true\ntokio.workspace = true\n"
            ),
            []
        );
        assert_eq!(
            lines("sim", "[dependencies]\ngreenroom-core = { path = \"../core\" }\n"),
            []
        );
    }

    #[test]
    fn the_core_uses_no_member_and_no_runtime() {
        assert_eq!(
            lines("greenroom-core", "[dependencies]\ngreenroom.workspace = true\n"),
            [4]
        );
        assert_eq!(lines("greenroom-core", "[dependencies]\ntokio.workspace = true\n"), [4]);
        assert_eq!(lines("greenroom-core", "[dev-dependencies]\ntokio = \"1\"\n"), [4]);
        assert_eq!(
            lines(
                "greenroom-core",
                "[target.'cfg(unix)'.dependencies.tokio]\nversion = \"1\"\n"
            ),
            [3]
        );
        assert_eq!(
            lines(
                "greenroom-core",
                "[dependencies]\nrt = { package = \"tokio\", version = \"1\" }\n"
            ),
            [4]
        );
        assert_eq!(lines("greenroom-core", "[dependencies.rt]\npackage = \"tokio\"\n"), [4]);
    }

    #[test]
    fn nobody_uses_what_measures_or_starts_it() {
        assert_eq!(
            lines("greenroom", "[dependencies]\ngreenroom-audit.workspace = true\n"),
            [4]
        );
        assert_eq!(
            lines(
                "greenroom-audit",
                "[dev-dependencies]\ngreenroom-cli.workspace = true\n"
            ),
            [4]
        );
        assert_eq!(
            lines(
                "greenroom-cli",
                "[dependencies]\nsim.workspace = true\nbench.workspace = true\n"
            ),
            [4, 5]
        );
    }

    #[test]
    fn a_new_crate_must_be_decided_on() {
        assert_eq!(lines("greenroom-new", ""), [1]);
    }
}
