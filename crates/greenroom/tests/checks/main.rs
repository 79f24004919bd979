//! Each kind of check against the real thing, in each state that matters, and against servers
//! that hang, lie, or are gone.
//!
//! The real things come with `cargo xtask setup`; one that is missing is a failure and
//! never a skipped test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of it is a test, the functions between the tests too"
)]

mod exec;
mod grpc;
mod liars;
mod nats;
mod postgres;
mod redis;
mod servers;
mod web;
