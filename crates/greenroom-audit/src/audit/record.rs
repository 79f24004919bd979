//! What one client saw, as it happened, and what became of one start of the server. Data only.
//!
//! Moments are nanoseconds of [`crate::clock`]. A [`ClientRecord`] holds no judgement: [`super::judge`] says
//! what it means. Bounds: [`crate::limits::AUDIT_MESSAGES`] messages a client, reasons of
//! [`crate::limits::AUDIT_REASON`] bytes.

use serde::{Deserialize, Serialize};

/// A moment that is known to lie between two others, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Not before this.
    pub low_ns: u64,
    /// Not after this.
    pub high_ns: u64,
}

impl Interval {
    /// Between these two.
    #[must_use]
    pub const fn new(low_ns: u64, high_ns: u64) -> Self {
        Self { low_ns, high_ns }
    }

    /// Half way.
    #[must_use]
    pub const fn middle(self) -> u64 {
        self.low_ns.midpoint(self.high_ns)
    }

    /// Half of its length: the uncertainty, as ±.
    #[must_use]
    pub const fn half(self) -> u64 {
        self.high_ns.saturating_sub(self.low_ns) / 2
    }

    /// Whether the moment may lie at `at`.
    #[must_use]
    pub const fn holds(self, at: u64) -> bool {
        self.low_ns <= at && at <= self.high_ns
    }

    /// From `self` to `later`; never below zero.
    #[must_use]
    pub const fn until(self, later: Self) -> Self {
        Self {
            low_ns: later.low_ns.saturating_sub(self.high_ns),
            high_ns: later.high_ns.saturating_sub(self.low_ns),
        }
    }
}

/// How far a client had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No connection yet.
    Connecting,
    /// Connected; the handshake is sent and not answered.
    Opening,
    /// It had its 101.
    Open,
}

/// How a client's connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The client had seen enough and closed.
    Done,
    /// Nobody listens (ECONNREFUSED).
    Refused,
    /// Reset by the other side.
    Reset(Stage),
    /// The connection ended without a Close and without a reset.
    Cut(Stage),
    /// An HTTP answer other than 101.
    Status(u16),
    /// A Close frame of the other side.
    Closed {
        /// Its code; `None`: it has none (1005).
        code: Option<u16>,
        /// Its reason, cut.
        reason: String,
    },
    /// The client's patience ended.
    TimedOut(Stage),
    /// The other side broke the protocol.
    Broken(String),
    /// The client's own machine failed it (descriptors, addresses): nothing is learned.
    Failed(String),
}

/// One message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When, before it was written.
    pub at: u64,
    /// When its answer was read first.
    pub answered_at: Option<u64>,
    /// How often it was answered.
    pub copies: u16,
}

/// A message of another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Whose it was.
    pub client: u32,
    /// Its number.
    pub message: u32,
    /// When it was read.
    pub at: u64,
}

/// What one client saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Its number in its run, in the order in which they came.
    pub client: u32,
    /// When it began to connect.
    pub started_at: u64,
    /// When it was connected.
    pub connected_at: Option<u64>,
    /// When it had its 101.
    pub opened_at: Option<u64>,
    /// When it ended.
    pub ended_at: u64,
    /// How.
    pub ending: Ending,
    /// Its messages, in the order of sending.
    pub messages: Vec<Sent>,
    /// Whether an answer came behind that to a later message.
    pub reordered: bool,
    /// Messages of the server that answered nothing.
    pub others: u32,
    /// Those of them that are messages of other clients of this start, the first [`crate::limits::AUDIT_FOREIGN`].
    #[serde(default)]
    pub foreign: Vec<Foreign>,
    /// Whether there were more.
    #[serde(default)]
    pub foreign_more: bool,
    /// How long the machine kept us from running while this client waited.
    pub stalled_ns: u64,
}

impl ClientRecord {
    /// One that has just begun.
    #[must_use]
    pub const fn new(client: u32, started_at: u64) -> Self {
        Self {
            client,
            started_at,
            connected_at: None,
            opened_at: None,
            ended_at: started_at,
            ending: Ending::Done,
            messages: Vec::new(),
            reordered: false,
            others: 0,
            foreign: Vec::new(),
            foreign_more: false,
            stalled_ns: 0,
        }
    }

    /// When its first answer came.
    #[must_use]
    pub fn first_answer(&self) -> Option<u64> {
        self.messages.iter().filter_map(|sent| sent.answered_at).min()
    }
}

/// A time in which this process was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// From.
    pub from: u64,
    /// To.
    pub to: u64,
}

/// Why a run ended, where it did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It came to its end.
    Finished,
    /// CMD ended first, like this.
    Ended(String),
    /// Nobody was answered within the time for a start.
    NeverReady,
    /// Somebody wanted it to stop.
    Interrupted,
}

/// One start of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its number, from 0.
    pub run: u32,
    /// When CMD was executed.
    pub exec: Interval,
    /// When somebody listened, as the kernel's socket table told.
    pub listen: Option<Interval>,
    /// When READY=1 came by sd_notify.
    pub notified_at: Option<u64>,
    /// The clients, in the order in which they came.
    pub clients: Vec<ClientRecord>,
    /// When the machine did not run us.
    pub stalls: Vec<Stall>,
    /// How it ended.
    pub cause: Cause,
    /// The last lines that CMD wrote.
    pub output: Vec<String>,
    /// Processes that had to be killed, or that are there even so.
    pub killed: u32,
    /// Where CMD listened, where nobody did at the place that was looked at.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
}

/// Where somebody was expected to listen, and where CMD does; addresses as people write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// What was looked at.
    pub wanted: String,
    /// Where CMD and what it started listen.
    pub places: Vec<String>,
}
