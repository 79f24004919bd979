//! Holds WebSocket clients while a server starts, and lets them in, in order,
//! the moment it is ready.
//!
//! This crate is the shell: it owns sockets, processes and clocks, and does what
//! the machines of `greenroom-core` decide. ARCHITECTURE.md draws the way of a
//! connection through these modules.

mod addresses;
pub mod admin;
pub mod clock;
pub mod config;
pub mod dial;
pub mod drains;
pub mod driver;
pub mod early;
pub mod front;
pub mod head;
mod histogram;
mod http;
pub mod known;
pub mod listener;
mod memory;
pub mod opening;
pub mod probe;
pub mod registry;
pub mod relay;
pub mod resolve;
mod scratch;
pub mod server;
pub mod stream;
pub mod supervise;
pub mod telemetry;
pub mod threads;
pub mod trace;
mod users;
mod visitors;
pub mod watch;
