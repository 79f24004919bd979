//! What the user asked for, checked: to have one of these values is proof that
//! it is valid.
//!
//! [`units`] is the one parser of durations, [`Address`] of backend and listen
//! addresses, [`Ready`] of `--ready`. Every error names the value, the range and
//! what to write instead.

mod address;
mod ready;
pub mod units;

pub use address::{Address, AddressError};
pub use ready::{Ready, ReadyError};
