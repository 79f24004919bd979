//! What the user asked for, checked: to have one of these values is proof that
//! it is valid.
//!
//! ```text
//! file ──▶ tree ──┐
//! profile of it ──┤
//! environment ────┼─ layers ─▶ tree ─ written ─▶ typed, with places ─ check ─▶ Config
//! command line ───┘                     │                               │
//!                            schema, reference                    problem: all at once
//! ```
//!
//! [`load`] goes this way. [`units`] is the one parser of durations and sizes,
//! [`Address`] of backend and listen addresses, [`Ready`] of readiness. Every error
//! names the key, the value, the range and what to write instead. Bounds are in
//! `limits.rs`, section Configuration.

mod address;
mod check;
mod diff;
mod drain;
mod explain;
mod host;
mod layers;
mod load;
mod mark;
mod model;
mod notes;
mod origin;
mod print;
mod problem;
mod profile;
mod readiness;
mod ready;
mod reference;
mod route;
mod source;
mod suggest;
mod tracing;
mod tree;
pub mod units;
mod words;
mod written;

pub use address::{Address, AddressError};
pub use check::Purpose;
pub(crate) use check::{too_long, words_fit};
pub use diff::{Change, Diff, Effect, Fate, carry_needs, diff, fate};
pub use drain::{Drain, DrainKind, Manner};
pub use explain::{Effective, Secrets, explain, summary};
pub(crate) use host::bare as bare_host;
pub use layers::Flags;
pub use load::{Layers, Loaded, Recipe, load, load_bytes};
pub use mark::Mark;
pub use model::{
    AllowedOrigin, Backend, Config, Fair, ForwardAfter, HeaderEdits, Hold, HostPattern, HttpMode, KnownBy, Limits,
    Listener, LogFormat, NO_EDITS, Process, Route, Tag,
};
pub(crate) use origin::is_allowed;
pub use print::to_toml;
pub use problem::Invalid;
pub use readiness::{Admin, Check, HttpProbe, Pattern, ProbeKind, Secret, Shed, TellClients};
pub use ready::{Ready, ReadyError};
pub use reference::{reference, schema};
pub use route::RouteOf;
pub use source::Origin;
pub use tracing::Tracing;

/// The words that `hold` may be.
pub const HOLDS: [&str; 4] = words::HOLDS;
/// The words that `log_format` may be.
pub const LOG_FORMATS: [&str; 3] = words::LOG_FORMATS;
/// The profiles that a file may have.
pub const PROFILES: [&str; 3] = words::PROFILES;
/// The words that `restart` may be.
pub const RESTARTS: [&str; 3] = words::RESTARTS;
