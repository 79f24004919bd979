//! `cargo xtask evidence`: what the founding report claims, held against measurements of the reference algorithm and of greenroom.
//!
//! Measures (`measure`, `crowd`, `reference`), writes what it measured (`data`) to `evidence.json`, judges by rules (`verdict`), and
//! renders the page (`render`, `diagrams`, `claims`). Nothing in `docs/evidence/README.md` is typed by hand: a test here compares
//! it with what the committed figures give.

mod claims;
mod crowd;
mod data;
mod diagrams;
mod measure;
pub(crate) mod reference;
mod render;
mod verdict;

use std::path::PathBuf;

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
    /// Only shows that everything works, in half a minute.
    #[arg(long)]
    pub(crate) quick: bool,
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
    let evidence = measure::all(arguments)?;
    std::fs::create_dir_all(out)?;
    let mut figures = serde_json::to_string_pretty(&evidence)?;
    figures.push('\n');
    std::fs::write(out.join(FIGURES), figures)?;
    std::fs::write(out.join(PAGE), render::page(&evidence))?;
    println!("{}", out.join(PAGE).display());
    Ok(())
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
    fn what_is_committed_is_a_whole_run_of_this_form_and_names_no_machine() {
        let evidence = committed();
        assert!(!evidence.quick && evidence.schema == data::SCHEMA);
        let figures = read(FIGURES);
        let folder = ["\"/", "/tmp/", "/target/"]
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
}
