//! The configuration as its users meet it: what is wrong is said so that they can mend
//! it, what is right survives print and parse, and nothing makes it panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

mod any_bytes;
mod current;
mod draining;
mod examples;
mod holding;
mod layers;
mod parts;
mod profiles;
mod round_trip;
mod wrong;

use std::ffi::OsString;

use greenroom::config::{Flags, Invalid, Layers, Loaded, Purpose, load_bytes};

/// Layers without a file, with these variables.
fn layers(variables: &[(&str, &str)], flags: Flags, purpose: Purpose) -> Layers<'static> {
    let variables = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Layers {
        file: None,
        variables: variables.collect(),
        flags,
        purpose,
    }
}

/// A file alone, to be looked at.
fn check(path: &str, bytes: &[u8]) -> Result<Loaded, Invalid> {
    load_bytes(path, bytes.into(), &layers(&[], Flags::default(), Purpose::Check))
}
