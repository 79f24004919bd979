//! The bounds of the measuring side. Those of greenroom itself are in
//! `greenroom_core::limits`.

use std::time::Duration;

/// Connections that the built-in backend serves at one time; more wait in the kernel's backlog.
pub const BACKEND_CONNECTIONS: usize = 16_384;
/// Backlog of the built-in backend.
pub const BACKEND_BACKLOG: u32 = 4_096;
/// Entries that a journal keeps; later ones are counted, and written out if it is written, but not kept.
pub const JOURNAL_MAX: usize = 262_144;
/// How long the built-in backend waits for the rest of a head.
pub const BACKEND_HEAD: Duration = Duration::from_secs(10);
/// How long either side waits for the answer to its Close.
pub const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Bytes of one message at the most.
pub const MESSAGE_MAX: usize = 1024 * 1024;

/// Clients of the demo: as many as fit into one line.
pub const DEMO_CLIENTS: usize = 24;
/// They come over this span, so that some come after the start-up.
pub const DEMO_OVER: Duration = Duration::from_millis(2_500);
/// What a client of the demo waits for, all in all: shorter than real clients do, longer than the start-up.
pub const DEMO_PATIENCE: Duration = Duration::from_secs(4);
/// How long the demo waits for a process to say that it is there, and to end.
pub const DEMO_PROCESS: Duration = Duration::from_secs(3);
/// How long records still on their way are waited for after the last client.
pub const DEMO_RECORDS: Duration = Duration::from_secs(1);
/// *Prompt*, for the demo: no held client waits longer after READY. The budget
/// is 1 ms; this is what a busy machine with two dozen clients never reaches,
/// and what polling proxies do.
pub const DEMO_PROMPT: Duration = Duration::from_millis(100);
/// Where timers of the machine are late in the same run, the demo allows so many times that instead: a release
/// is a handful of wake-ups, in three processes.
pub const DEMO_LATE_FACTOR: u32 = 4;
/// How often the demo looks how late a timer is.
pub const DEMO_PULSE: Duration = Duration::from_millis(5);
/// Lines of greenroom's log that are kept to explain why it ended.
pub const DEMO_LOG_LINES: usize = 20;
/// Bytes of one line that a child writes.
pub const LINE_MAX: usize = 64 * 1024;
