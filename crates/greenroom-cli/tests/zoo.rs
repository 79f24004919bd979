//! The zoo: `greenroom audit` says of each of the servers in `examples/zoo` what `zoo.toml` says of it, and nothing else.
//!
//! Nothing is tried again: it must be right each time. Few starts with few clients are enough, as what a server does
//! it does to each client; the one that does it to one in 50 has flags of its own. Two audits run side by side: most
//! of their time is spent on waiting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use common::{Greenroom, python};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// Starts and clients, where a server's own flags say nothing else.
const RUNS: &str = "2";
const CLIENTS: &str = "60";
/// Audits at a time.
const SIDE_BY_SIDE: usize = 2;

/// One entry of `zoo.toml`.
struct Animal {
    name: String,
    command: Vec<String>,
    flags: Vec<String>,
    verdict: String,
    findings: Vec<String>,
    says: Option<String>,
    waited: bool,
}

impl Animal {
    fn read(name: &str, table: &DeTable<'_>) -> Self {
        let text = |key: &str| table.get(key).map(|value| value.get_ref().as_str().unwrap().to_owned());
        let list = |key: &str| match table.get(key).map(|value| value.get_ref()) {
            None => Vec::new(),
            Some(DeValue::Array(words)) => words
                .iter()
                .map(|word| word.get_ref().as_str().unwrap().to_owned())
                .collect(),
            Some(other) => panic!("{name}.{key} is no list: {other:?}"),
        };
        let known = ["command", "flags", "verdict", "findings", "says", "waited"];
        for key in table.keys() {
            assert!(
                known.contains(&key.get_ref().as_ref()),
                "{name} has a key {:?}",
                key.get_ref()
            );
        }
        Self {
            name: name.to_owned(),
            command: list("command"),
            flags: list("flags"),
            verdict: text("verdict").unwrap_or_else(|| panic!("{name} has no verdict")),
            findings: list("findings"),
            says: text("says"),
            waited: table
                .get("waited")
                .is_some_and(|value| value.get_ref().as_bool().unwrap()),
        }
    }

    /// What the audit says of it that `zoo.toml` does not; nothing if it is right.
    fn audit(&self, out: &Path) -> Result<(), String> {
        let output = self.command(out).output().unwrap();
        let (text, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let report: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {said}{text}"))?;
        let mut wrong = String::new();
        let mut check = |what: &str, found: &dyn std::fmt::Debug, right: bool| {
            if !right {
                let _ = write!(wrong, "\n  {what}: {found:?}");
            }
        };
        let race = self.verdict == "race";
        check("verdict", &report["verdict"], report["verdict"] == *self.verdict);
        check(
            "exit code",
            &output.status,
            output.status.code() == Some(i32::from(race)),
        );
        let findings = report["findings"].as_array().unwrap();
        let of = |key: &str| {
            findings
                .iter()
                .map(|said| said[key].as_str().unwrap())
                .collect::<Vec<_>>()
        };
        check("findings", &of("code"), of("code") == self.findings);
        if let Some(says) = &self.says {
            let first = of("sentence").first().copied().unwrap_or_default().to_owned();
            check("sentence", &first, first.contains(says));
        }
        if self.waited {
            let told = std::fs::read_to_string(out.join("report.md")).unwrap();
            let waited = told.contains("they waited for their 101");
            check("what is told of waiting", &told.lines().nth(4), waited);
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let counts = &report["plain"]["counts"];
        let runs = &report["plain"]["runs"];
        Err(format!(
            "{wrong}\n  clients: {counts}\n  starts: {runs}\n  {:?}",
            of("sentence")
        ))
    }

    fn command(&self, out: &Path) -> Command {
        // The environment of the other tests, without their flag for events.
        let template = Greenroom::command(&["run"]);
        let mut command = Command::new(template.get_program());
        for (name, value) in template.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let folders = [python(""), built().into_os_string().into_string().unwrap()];
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{}:{path}", folders[0], folders[1]));
        command
            .current_dir(top())
            .args(["audit", "--format", "json", "--out"])
            .arg(out);
        for (flag, value) in [("--runs", RUNS), ("--clients", CLIENTS)] {
            if !self.flags.iter().any(|own| own == flag) {
                command.args([flag, value]);
            }
        }
        command.args(&self.flags).arg("--").args(&self.command);
        command
    }
}

/// The top folder of the repository.
fn top() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    folder.canonicalize().unwrap()
}

/// Where cargo puts examples: beside the program under test.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_greenroom")).with_file_name("examples")
}

fn zoo() -> Vec<Animal> {
    let text = std::fs::read_to_string(top().join("examples/zoo/zoo.toml")).unwrap();
    let tree = DeTable::parse(&text).unwrap();
    let animal = |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        Animal::read(
            name.get_ref(),
            value.get_ref().as_table().expect("a table for each server"),
        )
    };
    tree.get_ref().iter().map(animal).collect()
}

#[test]
fn the_audit_says_of_each_server_of_the_zoo_what_is_known_of_it() {
    let zoo = zoo();
    assert!(zoo.len() >= 12, "a zoo has at least twelve: {}", zoo.len());
    let axum = built().join("axum_early");
    let build = "run `cargo build -p greenroom-audit --example axum_early` first (`cargo test --workspace` does)";
    assert!(axum.is_file(), "{} is not there: {build}", axum.display());
    let out = std::env::temp_dir().join(format!("greenroom-zoo-{}", std::process::id()));
    // The longest are the last in the file.
    let waiting = Mutex::new(zoo.iter().collect::<Vec<_>>());
    let wrong = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(animal) = next else { return };
                    if let Err(why) = animal.audit(&out.join(&animal.name)) {
                        let _ = writeln!(wrong.lock().unwrap(), "{}: {why}", animal.name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "not as known:\n{wrong}\nsee {}", out.display());
    std::fs::remove_dir_all(out).unwrap();
}

/// Each file of the zoo is in the list, and each kind of finding that a start can have at these servers.
#[test]
fn every_server_of_the_zoo_has_a_known_verdict() {
    let zoo = zoo();
    let listed: String = zoo
        .iter()
        .flat_map(|animal| &animal.command)
        .map(|word| format!(" {word}"))
        .collect();
    for file in std::fs::read_dir(top().join("examples/zoo")).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_server = path
            .extension()
            .is_some_and(|end| ["py", "js", "rs"].iter().any(|known| end == *known));
        assert!(
            !is_server || listed.contains(&stem),
            "{} is not in zoo.toml",
            path.display()
        );
    }
    let found: BTreeSet<&str> = zoo
        .iter()
        .flat_map(|animal| &animal.findings)
        .map(String::as_str)
        .collect();
    for code in [
        "accepts-early",
        "loses-early",
        "handler-late",
        "loses-messages",
        "never-answers",
    ] {
        assert!(found.contains(code), "no server of the zoo has {code}");
    }
    for animal in &zoo {
        assert_eq!(animal.findings.is_empty(), animal.verdict == "sound", "{}", animal.name);
    }
}
