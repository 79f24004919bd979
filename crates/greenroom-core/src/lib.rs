//! The decisions of greenroom, as pure state machines.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or waits.
//! Each machine takes an input and the [`time::Time`] at which it came, and says
//! what to do; the shell (the crate `greenroom`) does it. So a test can live an
//! hour in a millisecond, and the simulator in `sim/` can replay any trace from
//! its seed.
//!
//! | module | decides |
//! |---|---|
//! | [`time`] | what time is here: nanoseconds since the process started |
//! | [`limits`] | every bound and default, each with its reason |
//! | [`event`] | the words for what happened: states, causes, refusals |
//! | [`readiness`] | for whom a backend is ready: signal, phases and checks put together |
//! | [`backend`] | whether a backend signals that it is ready, and how far that is believed |
//! | [`phase`] | how far one start of a backend has come |
//! | [`check`] | what a probe's verdicts mean, and how much is missing |
//! | [`starts`] | what past starts tell of the present one |
//! | [`gate`] | who waits, who is dialled next, who is sent away |
//! | [`look`] | when a probe looks once more before a hold ends |
//! | [`buffer`] | what is kept of a client that was accepted before its backend is ready |
//! | [`wire`] | where WebSocket frames begin and end |
//! | [`addresses`] | what one address may have: connections, handshakes |
//! | [`guesses`] | whether an address that brought wrong tokens may try another |
//! | [`users`] | what one user may have: WebSockets, and which gives way |
//! | [`session`] | what an answer of the backend means to a waiting client, and how a relay ends |
//! | [`backoff`] | when a dead child is started again |
//! | [`drain`] | when each of many connections is closed |
#![forbid(unsafe_code)]

pub mod addresses;
pub mod backend;
pub mod backoff;
mod bucket;
pub mod buffer;
pub mod check;
pub mod drain;
pub mod event;
pub mod gate;
pub mod guesses;
pub mod limits;
pub mod look;
pub mod phase;
pub mod readiness;
pub mod session;
pub mod starts;
pub mod time;
pub mod users;
pub mod wire;
