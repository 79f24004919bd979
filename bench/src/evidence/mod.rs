//! `cargo xtask evidence`: what the founding report claims, held against measurements of the reference algorithm and of greenroom.
//!
//! Measures (`measure`, `crowd`, `reference`, `suite`, and beside them `parts` what the machine did), writes what it measured (`data`,
//! `origin`) to `evidence.json`, judges by rules (`verdict`), and renders the page (`render`, `sections`, `diagrams`, `claims`). Nothing in
//! `docs/evidence/README.md` is typed by hand: a test here compares it with what the committed figures give. `truth` does the same for
//! what the audit's own test has found.

mod claims;
mod crowd;
mod data;
mod diagrams;
mod measure;
mod origin;
mod parts;
pub(crate) mod reference;
mod render;
mod sections;
mod suite;
pub(crate) mod truth;
mod verdict;

use std::path::{Path, PathBuf};

use crate::Failure;

/// The figures, and the page of them.
const FIGURES: &str = "evidence.json";
const PAGE: &str = "README.md";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program to measure.
    #[arg(long, default_value = "target/release/greenroom")]
    pub(crate) greenroom: PathBuf,
    /// The folder of this repository.
    #[arg(long, default_value = ".")]
    pub(crate) root: PathBuf,
    /// Where the page and its figures go; with --quick there is no default.
    #[arg(
        long,
        default_value = "docs/evidence",
        default_value_if("quick", "true", None),
        required_if_eq("quick", "true")
    )]
    out: Option<PathBuf>,
    /// Only shows that everything works, in a minute.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measures on a busy machine too; every verdict that this touches says so.
    #[arg(long)]
    busy: bool,
    /// (internal) The command that has just built both programs.
    #[arg(long, hide = true)]
    pub(crate) built: Option<String>,
    /// Seed of all that is random.
    #[arg(long, default_value_t = 1_171)]
    pub(crate) seed: u64,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    if !arguments.greenroom.is_file() {
        let path = arguments.greenroom.display();
        return Err(
            format!("{path} is not there: build it with `cargo build --release`, or give --greenroom PATH").into(),
        );
    }
    let out = arguments.out.as_ref().ok_or("no --out")?;
    if !arguments.quick {
        released(arguments)?;
    }
    let suite = suite::build(&arguments.root)?;
    let busy = if arguments.quick {
        None
    } else {
        settled(arguments.busy)?
    };
    let evidence = measure::all(arguments, busy, &suite)?;
    write(out, FIGURES, PAGE, &evidence, &render::page(&evidence))?;
    println!("evidence: {}; {}", out.join(PAGE).display(), render::summary(&evidence));
    Ok(())
}

/// What a whole run says is said of the programs that users have.
fn released(arguments: &Arguments) -> Result<(), Failure> {
    let programs = origin::programs(&arguments.greenroom)?;
    match programs.iter().find(|program| program.profile != origin::RELEASE) {
        None => Ok(()),
        Some(program) => Err(format!(
            "{} is a build of profile {}, and a whole run measures release builds of one folder: use `cargo xtask evidence`, or \
             --quick --out FOLDER to see that everything works",
            program.name, program.profile
        )
        .into()),
    }
}

/// What others use of the processors, where the machine does not become quiet and that is allowed.
fn settled(busy_is_allowed: bool) -> Result<Option<f64>, Failure> {
    eprintln!("evidence: waits for a quiet machine");
    match parts::settle()? {
        Some(others) if !busy_is_allowed => Err(format!(
            "others use {others:.0} % of the processors, and figures of a machine that is not quiet (below {:.0} % for three seconds) mean \
             little: end what else runs (`top` shows it) and start this again, or give --busy, and each verdict that this touches says so",
            parts::QUIET
        )
        .into()),
        others => Ok(others),
    }
}

/// Figures, and the page of them.
fn write(out: &Path, figures: &str, page: &str, of: &impl serde::Serialize, text: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(out)?;
    let mut json = serde_json::to_string_pretty(of)?;
    json.push('\n');
    std::fs::write(out.join(figures), json)?;
    Ok(std::fs::write(out.join(page), text)?)
}

/// To three digits behind the point.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// What is committed.
#[cfg(test)]
fn committed() -> data::Evidence {
    serde_json::from_str(&tests::read(FIGURES)).expect("evidence.json is what `cargo xtask evidence` wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn read(name: &str) -> String {
        let path = format!("{}/../docs/evidence/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn the_page_is_what_the_committed_figures_give() {
        assert!(
            read(PAGE) == render::page(&committed()),
            "docs/evidence/README.md was edited, or the program that writes it was: run `cargo xtask evidence`"
        );
    }

    #[test]
    fn what_is_committed_is_a_whole_run_of_release_builds_of_a_known_source_and_names_no_machine() {
        let evidence = committed();
        assert!(!evidence.quick && evidence.schema == data::SCHEMA);
        assert!(evidence.revision.is_known() && !evidence.revision.dirty && evidence.built.is_some());
        assert!(evidence.programs.len() == 2);
        assert!(
            evidence
                .programs
                .iter()
                .all(|program| program.profile == origin::RELEASE && program.sha1.is_some())
        );
        let figures = read(FIGURES);
        let folder = ["\"/", " /", "/tmp/", "=/"]
            .into_iter()
            .find(|path| figures.contains(path));
        assert_eq!(folder, None, "a path in evidence.json");
    }

    #[test]
    fn figures_survive_being_written_and_read() {
        let evidence = committed();
        let again: data::Evidence = serde_json::from_str(&serde_json::to_string(&evidence).unwrap()).unwrap();
        assert_eq!(again, evidence);
    }

    #[test]
    fn the_field_report_has_the_head_of_its_script_and_its_sections_in_order() {
        let (script, report) = (read("field.sh"), read("field.md"));
        let (_, rest) = script.split_once("<<'HEAD'\n").unwrap();
        let (head, rest) = rest.split_once("\nHEAD\n").unwrap();
        assert!(
            report.starts_with(head),
            "field.md is what field.sh writes: run it, all of it"
        );
        let titles: Vec<&str> = rest
            .lines()
            .filter_map(|line| line.split_once("audit '")?.1.strip_suffix("' \\"))
            .collect();
        let sections: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert!(titles.len() > 3 && titles == sections, "{titles:?} {sections:?}");
    }
}
