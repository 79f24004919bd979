//! `greenroom demo`: the story of `greenroom-audit`, told with this very program.

use clap::Args;
use greenroom_audit::backend::backend_main;
use greenroom_audit::demo::{self, DemoError, Options, launch::Launch};

/// Exit code when the demo was interrupted (128 + SIGINT).
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// What it is to be, as JSON: written by the demo.
    config: String,
}

/// Plays the demo. 0 when all promises held.
pub(crate) fn run() -> u8 {
    match play() {
        Ok(held) => u8::from(!held),
        Err(DemoError::Interrupted) => INTERRUPTED,
        Err(error) => super::fail(&error),
    }
}

fn play() -> Result<bool, DemoError> {
    let launch = Launch::this_program()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo::demo(Options::new(launch)))
}

/// Is the demo's slow server.
pub(crate) fn backend(args: &BackendArgs) -> u8 {
    match backend_main(&args.config) {
        Ok(()) => 0,
        Err(error) => super::fail(&error),
    }
}
