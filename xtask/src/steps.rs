//! Runs the steps of a command one after the other: name before, time after, stop at the first that fails.
//!
//! Bounded by nothing: a step that hangs is stopped by whoever started the command.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use crate::{root, target_dir};

/// What has been run so far, for the summary.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step. Its name is printed first, so that a hanging step can be named too.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        println!("==> {name}");
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        match result {
            Ok(()) => {
                println!("==> {name}: done in {:.1} s", took.as_secs_f64());
                self.done.push((name.to_owned(), took));
                Ok(())
            }
            Err(why) => {
                print!("{}", self.summary());
                Err(format!("step `{name}` failed after {:.1} s: {why}", took.as_secs_f64()))
            }
        }
    }

    /// One line per finished step, and the sum.
    pub(crate) fn summary(&self) -> String {
        let width = self
            .done
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0)
            .max("total".len());
        let mut text = String::from("\nsteps, in seconds\n");
        for (name, took) in &self.done {
            let _ = writeln!(text, "  {name:<width$} {:>8.1}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|&(_, took)| took).sum();
        let _ = writeln!(text, "  {:<width$} {:>8.1}", "total", total.as_secs_f64());
        text
    }
}

/// The cargo that runs us, in the workspace's root, building where we were built.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A relative CARGO_TARGET_DIR would mean another folder from the root.
    command
        .args(args)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir());
    command
}

/// Runs a command with our own input and output; any exit but 0 is an error that repeats the command.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let line = shown(command);
    println!("    {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` could not be started: {error}")),
    }
}

/// What a command prints, if it starts and succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    // The path of the toolchain says nothing to the reader.
    if let Some(rest) = line.strip_prefix(&*command.get_program().to_string_lossy()) {
        let program = std::path::Path::new(command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        line = format!("{name}{rest}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_stops_and_names_itself() {
        let mut steps = Steps::default();
        steps.step("one", || Ok(())).unwrap();
        let error = steps.step("two", || run(&mut Command::new("false"))).unwrap_err();
        assert!(
            error.contains("step `two` failed") && error.contains("`false` ended with"),
            "{error}"
        );
        assert!(steps.summary().contains("  one") && !steps.summary().contains("  two"));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.contains("`no-such-program-here` could not be started"), "{error}");
    }
}
