//! What is written by the program itself: documentation that is checked in, and manual pages and
//! completions for whoever packages greenroom.
//!
//! The program that writes is built for this machine, so this works when the package is for another.
//! That the documentation is current is a test of the crate `greenroom`.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    root,
    steps::{cargo, run},
    target_dir,
};

/// What is written into `docs/`, and the command that prints it.
const DOCS: [(&str, &str); 3] = [
    ("configuration.md", "reference"),
    ("greenroom.schema.json", "schema"),
    ("openapi.json", "openapi"),
];

/// The shells, each with the name that its completions are installed under.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "greenroom"),
    ("zsh", "_greenroom"),
    ("fish", "greenroom.fish"),
    ("elvish", "greenroom.elv"),
    ("powershell", "_greenroom.ps1"),
];

/// `cargo xtask docs`.
pub(crate) fn docs() -> Result<(), String> {
    for (file, command) in DOCS {
        write(&root().join("docs").join(file), &printed(&[command])?)?;
    }
    Ok(())
}

/// `cargo xtask man`.
pub(crate) fn man() -> Result<(), String> {
    let (pages, completions) = (target_dir().join("man"), target_dir().join("completions"));
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    run(greenroom(&["man"]).arg(&pages))?;
    for (shell, file) in SHELLS {
        write(&completions.join(file), &printed(&["completions", shell])?)?;
    }
    println!("    {}", pages.display());
    println!("    {}", completions.display());
    Ok(())
}

fn greenroom(args: &[&str]) -> Command {
    let program = ["run", "--locked", "--quiet", "-p", "greenroom-cli", "--"];
    cargo(program.iter().chain(args))
}

fn printed(args: &[&str]) -> Result<Vec<u8>, String> {
    let output = greenroom(args)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`greenroom {}` ended with {}", args.join(" "), output.status));
    }
    Ok(output.stdout)
}

fn write(path: &Path, text: &[u8]) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
