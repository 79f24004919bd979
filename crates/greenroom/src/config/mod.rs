//! What the user asked for, checked: to have one of these values is proof that
//! it is valid.
//!
//! [`units`] is the one parser of durations, [`Address`] of backend and listen
//! addresses, [`Ready`] of `--ready`, and [`Config`] is all of it together. Every
//! error names the value, the range and what to write instead.

mod address;
mod model;
mod ready;
mod route;
pub mod units;

pub use address::{Address, AddressError};
pub use model::{Backend, Config, HeaderEdits, Hold, HostPattern, HttpMode, Listener, LogFormat, Process, Route};
pub use ready::{Ready, ReadyError};
