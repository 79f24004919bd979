//! Measures what WebSocket clients see while a server starts.
//!
//! - [`backend`]: a built-in server that is slow to start, and bad at it in the
//!   ways real servers are;
//! - [`clients`]: clients that come over a span of time, each connecting once;
//! - [`check`]: what may be concluded from both records: order, loss, waits;
//! - [`audit`]: `greenroom audit`: what clients of any server see while it starts;
//! - [`planted`], [`misdeeds`]: a server with faults that are known, to hold the audit against;
//! - [`demo`]: the story of `greenroom demo`, told from these measurements.
//!
//! Nothing here decides anything for greenroom, and nothing here is a number
//! that was not measured. Times are nanoseconds on the machine's monotonic
//! clock ([`clock`]), so that records of several processes can be compared.

pub mod audit;
pub mod backend;
pub mod check;
pub mod clients;
pub mod clock;
pub mod demo;
pub mod journal;
pub mod limits;
pub mod misdeeds;
pub mod notify;
pub mod planted;
