//! `greenroom demo`.
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct BackendArgs {}

pub(crate) fn run() -> u8 {
    0
}

pub(crate) fn backend(_: BackendArgs) -> u8 {
    0
}
