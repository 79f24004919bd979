//! Tests of greenroom for the phases of a start, run by name: whether they pass, and in how long.
//!
//! They are built as `cargo test --workspace` builds them, so where that has run there is nothing to build. Each runs by itself, and
//! is ended after [`PATIENCE`]. A name that no test has is told as such: no test passes by being absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::data::{Ended, Tested};
use super::parts::Note;
use super::rounded;
use crate::Failure;

/// How long one test may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What of a start they are about, the file or crate that they are in, and their names. Few, and quick ones.
const PHASES: [(&str, &str, &[&str]); 10] = [
    (
        "before the first: clients are held, in order",
        "readiness",
        &["a_route_that_requires_less_lets_in_earlier_and_the_order_of_the_others_stays"],
    ),
    (
        "each of the seven, and complete: all that can happen in it",
        "greenroom_core",
        &["phase::tests::every_phase_and_what_can_happen_to_it"],
    ),
    (
        "a phase that ends by its log",
        "start_fails",
        &["a_line_of_the_log_finishes_its_phase_and_lets_clients_in"],
    ),
    (
        "a phase that takes too long",
        "greenroom_core",
        &[
            "phase::tests::a_phase_overruns_at_its_timeout_and_not_a_moment_before",
            "phase::tests::an_extension_lengthens_the_current_phase_only_and_never_shortens",
        ],
    ),
    (
        "a phase that takes too long",
        "start_fails",
        &["who_waits_for_a_start_that_overruns_for_good_hears_its_phase_and_reason"],
    ),
    (
        "a phase that fails",
        "start_fails",
        &[
            "an_error_number_fails_the_start_at_once",
            "a_deploy_script_fails_a_start_with_words_of_its_own_and_takes_it_back",
        ],
    ),
    (
        "ready, said before its phases are over",
        "start_fails",
        &["a_ready_that_nobody_asked_for_opens_no_gate"],
    ),
    (
        "the next life begins again with the first",
        "start_fails",
        &["who_waits_for_a_start_that_overruns_stays_and_gets_in_with_the_next_life"],
    ),
    (
        "complete, with a handler that is attached late",
        "handler_ready",
        &["no_first_message_is_lost_at_a_server_whose_handler_comes_5_ms_late"],
    ),
    (
        "the end",
        "stopping",
        &["at_term_the_held_hear_503_at_once_the_relayed_1001_and_nothing_is_left"],
    ),
];

/// Where the tests are: by the name of their crate or file, the program and the folder that it runs in.
pub(crate) struct Suite {
    build: Command,
    programs: BTreeMap<String, (PathBuf, PathBuf)>,
}

/// Builds them.
pub(crate) fn build(root: &Path) -> Result<Suite, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root);
    build.args(["test", "--locked", "--quiet", "--workspace", "--no-run"]);
    build.args(["--message-format", "json-render-diagnostics", "--lib"]);
    let mut places: Vec<&str> = PHASES.iter().map(|(_, place, _)| *place).collect();
    places.sort_unstable();
    places.dedup();
    for place in places.iter().filter(|place| **place != "greenroom_core") {
        build.args(["--test", place]);
    }
    let output = build.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the tests could not be built: cargo ended with {}", output.status).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Suite {
        programs: text.lines().filter_map(artifact).collect(),
        build,
    })
}

/// A test program, in a line of cargo's.
fn artifact(line: &str) -> Option<(String, (PathBuf, PathBuf))> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["profile"]["test"] != true {
        return None;
    }
    let folder = Path::new(line["manifest_path"].as_str()?).parent()?.to_path_buf();
    let program = PathBuf::from(line["executable"].as_str()?);
    Some((line["target"]["name"].as_str()?.to_owned(), (program, folder)))
}

impl Suite {
    /// Runs them, one after another.
    pub(crate) fn run(&self, note: &mut Note) -> Result<Vec<Tested>, Failure> {
        note.runs(&self.build);
        let mut all = Vec::new();
        for (phase, place, tests) in PHASES {
            for test in tests {
                let (program, folder) = self.programs.get(place).ok_or_else(|| format!("no tests of {place}"))?;
                let began = Instant::now();
                let ended = test_of(Command::new(program).current_dir(folder), test)?;
                all.push(Tested {
                    phase: phase.to_owned(),
                    place: place.to_owned(),
                    test: (*test).to_owned(),
                    ended,
                    took_s: rounded(began.elapsed().as_secs_f64()),
                });
            }
        }
        Ok(all)
    }
}

fn test_of(program: &mut Command, test: &str) -> Result<Ended, Failure> {
    let mut child = program
        .args(["--exact", test])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let out = std::thread::spawn(move || read(out.as_mut()));
    // Read, so that it is never full, and left unsaid: whoever wants to know why a test fails runs it.
    std::thread::spawn(move || read(err.as_mut()));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                return Ok(Ended::Failed);
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let said = out.join().unwrap_or_default();
    Ok(ended(status.success(), &said))
}

fn read(from: Option<&mut impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What came before it broke counts.
        from.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Of one test, by the harness's last line.
fn ended(success: bool, said: &str) -> Ended {
    match (success, said.contains("result: ok. 1 passed;")) {
        (true, true) => Ended::Passed,
        (true, false) => Ended::NotFound,
        (false, _) => Ended::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_not_there_does_not_pass() {
        let this = || Command::new(std::env::current_exe().unwrap());
        let name = "frames::tests::";
        assert_eq!(test_of(&mut this(), name).unwrap(), Ended::NotFound);
        let quick = "evidence::suite::tests::what_cargo_says_of_a_test_is_understood";
        assert_eq!(test_of(&mut this(), quick).unwrap(), Ended::Passed);
        assert_eq!(test_of(&mut Command::new("false"), quick).unwrap(), Ended::Failed);
    }

    #[test]
    fn what_cargo_says_of_a_test_is_understood() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","target":{"kind":["test"],"name":"start_fails"},
            "profile":{"test":true},"executable":"/t/deps/start_fails-1"}"#;
        let (name, (program, folder)) = artifact(line).unwrap();
        assert_eq!(
            (name.as_str(), program, folder),
            ("start_fails", "/t/deps/start_fails-1".into(), "/r/a".into())
        );
        assert!(artifact(&line.replace("true", "false")).is_none() && artifact("no JSON").is_none());
        assert_eq!(ended(false, "test result: ok. 1 passed; 0 failed"), Ended::Failed);
    }

    #[test]
    fn each_test_is_named_once() {
        let mut names: Vec<&str> = PHASES.iter().flat_map(|(_, _, tests)| *tests).copied().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
