//! The program `greenroom`: arguments in, an exit code out.
//!
//! Nothing is decided here but what the words on the command line mean. All of the
//! configuration is checked before anything is started.

mod act;
mod args;
mod ask;
mod audit;
mod configure;
mod connections;
mod demo;
mod drain;
mod events;
mod reload;
mod which;

use std::process::ExitCode;

use clap::Parser;
use greenroom::config::{Layers, Recipe};

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
    if let Some(lacks) = cli.lacks() {
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "error: {lacks}\n\nFor more information, try '--help'."
        );
        return ExitCode::from(args::USAGE);
    }
    let code = match &cli.command {
        args::Command::Run(run) => start(&run.layers()),
        args::Command::Serve(serve) => start(&serve.layers()),
        args::Command::Check(check) => configure::check(check),
        args::Command::Status(asked) => ask::status(asked),
        args::Command::Ps(asked) => connections::ps(asked),
        args::Command::Show(asked) => connections::show(asked),
        args::Command::Why(asked) => connections::why(asked),
        args::Command::Close(said) => act::close(said),
        args::Command::Send(said) => act::send(said),
        args::Command::Events(asked) => events::events(asked),
        args::Command::Phase(said) => ask::phase(said),
        args::Command::Drain(asked) => drain::drain(asked),
        args::Command::Hold(asked) => drain::hold(asked),
        args::Command::Refuse(asked) => drain::refuse(asked),
        args::Command::Open(asked) => drain::open(asked),
        args::Command::Reload(asked) => reload::reload(asked),
        args::Command::Audit(args) => audit::run(args),
        args::Command::Demo => demo::run(),
        args::Command::Schema => configure::print_schema(),
        args::Command::Completions { shell } => configure::completions(*shell),
        args::Command::Man { folder } => configure::man(folder),
        args::Command::Openapi => configure::print(greenroom::admin::openapi::document()),
        args::Command::Reference => configure::print_reference(),
        args::Command::DemoBackend(backend) => demo::backend(backend),
    };
    ExitCode::from(code)
}

/// Starts the server, if all of its configuration is right.
fn start(layers: &Layers<'_>) -> u8 {
    match configure::loaded(layers) {
        Ok(loaded) => greenroom::server::run(loaded, Recipe::of(layers)),
        Err(code) => code,
    }
}
