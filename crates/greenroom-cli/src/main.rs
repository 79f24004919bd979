//! The program `greenroom`: arguments in, an exit code out.
//!
//! Nothing is decided here but what the words on the command line mean. Each
//! value is checked while it is read, so that a bad one never starts anything.

mod args;
mod demo;

use std::process::ExitCode;

use clap::Parser;

/// Says what went wrong, with its causes; gives the exit code.
fn fail(error: &dyn std::error::Error) -> u8 {
    use std::io::Write;
    let mut out = std::io::stderr();
    let _ = write!(out, "error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(out, ": {cause}");
        source = cause.source();
    }
    let _ = writeln!(out);
    1
}

fn main() -> ExitCode {
    // Before all else: it is no command, and reads no arguments.
    if let Some(code) = greenroom::supervise::warden::main_if_called() {
        return ExitCode::from(code);
    }
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { args::USAGE } else { 0 });
        }
    };
    let code = match cli.command {
        args::Command::Run(run) => match run.settings() {
            Ok(settings) => greenroom::server::run(settings),
            Err(error) => args::complain(&error),
        },
        args::Command::Serve(serve) => match serve.settings() {
            Ok(settings) => greenroom::server::run(settings),
            Err(error) => args::complain(&error),
        },
        args::Command::Demo => demo::run(),
        args::Command::DemoBackend(backend) => demo::backend(&backend),
    };
    ExitCode::from(code)
}
