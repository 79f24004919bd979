//! The promises of `greenroom_core::wire`, tested from outside: by hand-made frames,
//! by every first byte, under random splits, and against another implementation.
//!
//! `wire/split.rs` and `wire/oracle.rs` are also what the fuzz targets run.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod wire {
    mod oracle;
    mod property;
    mod split;
    mod table;
    mod unit;
}
