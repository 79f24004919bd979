//! Which checks must pass before a change lands, in which order: the quick ones first.
//!
//! Meant to stay below 30 minutes on two cores. `cargo test` and nothing else runs
//! the tests: it is there on every machine that has Rust.

use crate::{
    generated, root, setup,
    steps::{Steps, cargo, output, run},
    target_dir, tidy,
};

/// `cargo xtask ci`.
pub(crate) fn ci() -> Result<(), String> {
    let mut steps = Steps::default();
    steps.step("toolchain", toolchain)?;
    steps.step("format", || run(&mut cargo(["fmt", "--all", "--check"])))?;
    steps.step("tidy", || tidy::tidy(&root()))?;
    steps.step("clippy", || {
        run(&mut cargo([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    // Alone, so that nobody else turns its features on.
    steps.step("clippy without traces", || {
        let alone = ["clippy", "--locked", "-p", "greenroom-cli", "--no-default-features"];
        run(&mut cargo(alone.into_iter().chain(["--", "-D", "warnings"])))
    })?;
    steps.step("doc", || {
        run(cargo(["doc", "--locked", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("setup", setup::setup)?;
    steps.step("test", || {
        run(&mut cargo(["test", "--locked", "--workspace", "--no-fail-fast"]))
    })?;
    // What the tests built is measured; its figures mean nothing, and are thrown away.
    steps.step("evidence, in short", || {
        let (greenroom, out) = (
            target_dir().join("debug/greenroom"),
            target_dir().join("evidence-quick"),
        );
        let evidence = ["run", "--locked", "--quiet", "-p", "bench", "--", "evidence", "--quick"];
        run(cargo(evidence)
            .arg("--greenroom")
            .arg(greenroom)
            .arg("--root")
            .arg(root())
            .arg("--out")
            .arg(out))
    })?;
    steps.step("manual pages", generated::man)?;
    steps.step("fuzz targets", || {
        run(&mut cargo(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"]))
    })?;
    print!("{}", steps.summary());
    Ok(())
}

/// What builds the programs that are measured, and the one that measures them.
const MEASURED: [&str; 8] = [
    "build",
    "--locked",
    "--release",
    "-p",
    "greenroom-cli",
    "-p",
    "bench",
    "--bins",
];

/// `cargo xtask bench ARGS`: the program first, so that its build is not part of what is measured.
pub(crate) fn bench(args: &[String]) -> Result<(), String> {
    let mut steps = Steps::default();
    steps.step("build", || run(&mut cargo(MEASURED)))?;
    let bench = ["run", "--locked", "--quiet", "-p", "bench", "--release", "--"].into_iter();
    steps.step("bench", || {
        run(&mut cargo(bench.chain(args.iter().map(String::as_str))))
    })?;
    print!("{}", steps.summary());
    Ok(())
}

/// `cargo xtask evidence ARGS`: a part of the benchmark, which writes `docs/evidence`. Its line is the last.
pub(crate) fn evidence(args: &[String]) -> Result<(), String> {
    let mut steps = Steps::default();
    steps.step("setup", setup::setup)?;
    steps.step("build", || run(&mut cargo(MEASURED)))?;
    print!("{}", steps.summary());
    // What was built, and not what cargo would build again.
    let programs = target_dir().join("release");
    let mut bench = std::process::Command::new(programs.join("bench"));
    bench.arg("evidence").arg("--greenroom").arg(programs.join("greenroom"));
    bench
        .arg("--root")
        .arg(root())
        .args(["--built", &format!("cargo {}", MEASURED.join(" "))]);
    if !args
        .iter()
        .any(|arg| arg == "--out" || arg.starts_with("--out=") || arg == "--quick")
    {
        bench.arg("--out").arg(root().join("docs/evidence"));
    }
    bench
        .args(args)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir());
    run(&mut bench)
}

/// `cargo xtask audit-truth ARGS`: what `cargo test` does in short, in the long form, as a page of `docs/evidence`. With `--short` it is
/// the short form, in `target`, to see that everything works. The page is written when the test fails, too.
pub(crate) fn audit_truth(args: &[String]) -> Result<(), String> {
    let short = match args {
        [] => false,
        [short] if short == "--short" => true,
        [argument, ..] => {
            return Err(format!(
                "`audit-truth` takes --short and nothing else, found `{argument}`"
            ));
        }
    };
    let (form, folder, command) = if short {
        (
            "short",
            target_dir().join("audit-truth"),
            "cargo xtask audit-truth --short",
        )
    } else {
        ("long", root().join("docs/evidence"), "cargo xtask audit-truth")
    };
    let results = target_dir().join("audit-truth.jsonl");
    if let Err(error) = std::fs::remove_file(&results)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(format!("cannot remove {}: {error}", results.display()));
    }
    let test = ["test", "--locked", "-p", "greenroom-audit", "--test", "audit"];
    let tested = run(cargo(test)
        .env("GREENROOM_AUDIT_TRUTH", form)
        .env("GREENROOM_AUDIT_TRUTH_RESULTS", &results));
    let page = [
        "run",
        "--locked",
        "--quiet",
        "-p",
        "bench",
        "--",
        "truth",
        "--command",
        command,
    ];
    let written = run(cargo(page)
        .arg("--results")
        .arg(&results)
        .arg("--root")
        .arg(root())
        .arg("--out")
        .arg(folder));
    tested.and(written)
}

/// A minimal toolchain has neither rustfmt nor clippy: they are added where rustup can.
fn toolchain() -> Result<(), String> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if output(&mut cargo([subcommand, "--version"])).is_some() {
            continue;
        }
        let mut rustup = std::process::Command::new("rustup");
        rustup.args(["component", "add", component]).current_dir(root());
        run(&mut rustup).map_err(|why| format!("`cargo {subcommand}` is missing; install {component} ({why})"))?;
    }
    Ok(())
}
