//! The promises of a good parent, with real children.
//!
//! A supervisor waits for *all* children of its process, so each test starts a
//! process of its own for it: this very binary, told by its environment to be a
//! [`helper`]. The children are `/bin/sh`, or this binary once more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of it is a test, the functions between the tests too"
)]

mod checks;
mod children;
mod helper;
mod notify;
mod output;
mod several;
mod spoof;
mod terminal;
mod watchdog;
