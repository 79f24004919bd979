//! Holds WebSocket clients while a server starts, and lets them in, in order,
//! the moment it is ready.
//!
//! This crate is the shell: it owns sockets, processes and clocks, and does what
//! the machines of `greenroom-core` decide. ARCHITECTURE.md draws the way of a
//! connection through these modules.

pub mod config;
pub mod head;
pub mod probe;
pub mod supervise;
