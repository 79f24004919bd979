//! The project's own commands: `cargo xtask help`.
//!
//! Needs nothing but Rust: `setup` brings what the end-to-end tests need. Depends
//! on no crate, so that it builds in a second on a fresh machine.

mod ci;
mod generated;
mod setup;
mod steps;
mod tidy;

use std::{env, path::PathBuf, process::ExitCode};

const HELP: &str = "\
cargo xtask ci             everything that must hold before a change lands, in one go
cargo xtask setup          installs what the end-to-end tests need, below target/e2e (again: instant)
cargo xtask tidy           the rules that no compiler checks: sizes, words, paths, who depends on whom
cargo xtask docs           writes docs/configuration.md and docs/greenroom.schema.json from the program
cargo xtask man            builds, and writes manual pages and completions to target/man and target/completions
cargo xtask bench [ARGS]   builds in release mode and measures; ARGS go to the benchmark
cargo xtask evidence [ARGS] builds in release mode, waits for a quiet machine, measures the founding report's claims, and writes docs/evidence
                           (how long that took: docs/evidence/README.md; --quick --out FOLDER: in short; --busy: on a busy machine too)
cargo xtask audit-truth    holds `greenroom audit` against planted faults, in the long form that figures are quoted from, and writes
                           docs/evidence/truth.md (--short: in short, to target/audit-truth)
cargo xtask help           this text
";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = args.collect();
    if !rest.is_empty() && !["bench", "evidence", "audit-truth"].contains(&command.as_str()) {
        return fail(&format!(
            "`{command}` takes no arguments, found `{}`\n\n{HELP}",
            rest.join(" ")
        ));
    }
    let result = match command.as_str() {
        "ci" => ci::ci(),
        "setup" => setup::setup(),
        "tidy" => tidy::tidy(&root()),
        "docs" => generated::docs(),
        "man" => generated::man(),
        "bench" => ci::bench(&rest),
        "evidence" => ci::evidence(&rest),
        "audit-truth" => ci::audit_truth(&rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => Err(format!("no command `{unknown}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("xtask: {message}");
    ExitCode::FAILURE
}

/// The workspace's root: the folder above this package.
fn root() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or(package.clone(), PathBuf::from)
}

/// Where cargo builds, absolute: `CARGO_TARGET_DIR`, or `target` in the workspace.
fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        // Relative to the caller's folder, as cargo itself takes it.
        Some(path) => env::current_dir().map_or_else(|_| PathBuf::from(&path), |here| here.join(&path)),
        None => root().join("target"),
    }
}
