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
pub const DEMO_CLIENTS: u32 = 24;
/// They come over this span, so that some come after the start-up.
pub const DEMO_OVER: Duration = Duration::from_millis(2_500);
/// What a client of the demo waits for its 101, and then for its echo: shorter than real clients do, longer than the start-up.
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

/// Messages that one client of the audit sends: they come 1, 2, 4 … 128 units after its opening.
pub const AUDIT_MESSAGES: usize = 9;
/// The unit of these.
pub const AUDIT_SEND_UNIT: Duration = Duration::from_millis(1);
/// Characters of a close reason that are kept.
pub const AUDIT_REASON: usize = 123;
/// Messages, control frames included, that come to one client of the audit: 1,000 clients of a chat of the audit's own.
pub const AUDIT_CAME: usize = 100_000;
/// Bytes that come to one client of the audit.
pub const AUDIT_BYTES: usize = 64 << 20;
/// Bytes of one message that comes to a client of the audit: its own longest one comes back, and a server may greet with a
/// picture of all that it has.
pub const AUDIT_ANSWER_MAX: usize = 4 << 20;
/// Bytes of an answer at which `--expect REGEX` looks, from its beginning.
pub const AUDIT_REGEX_BYTES: usize = 8 << 10;
/// What a compiled `--expect REGEX` takes at the most; with [`AUDIT_REGEX_BYTES`] this bounds the time of one look.
pub const AUDIT_REGEX_SIZE: usize = 256 << 10;
/// A signal that comes so soon after the first is the same: `timeout` sends it to the process and to its group.
pub const AUDIT_SAME_SIGNAL: Duration = Duration::from_secs(1);
/// What is written into the folder of `--out`, and removed, before the audit begins: about what a report takes.
pub const AUDIT_OUT_PROBE: usize = 64 << 10;
/// Clients of one run: what `--clients` may be, and what a start that takes very long may come to.
pub const AUDIT_CLIENTS: u32 = 5_000;
/// Runs of one audit.
pub const AUDIT_RUNS: u32 = 1_000;
/// How close together clients come when nothing is known of the start: few servers start faster.
pub const AUDIT_COARSE: Duration = Duration::from_millis(10);
/// Who asks for fewer clients than this has them further apart than [`AUDIT_COARSE`], as many times.
pub const AUDIT_COARSE_CLIENTS: u32 = 60;
/// Fewer than so many are no further apart: the first start still has to show where to look.
pub const AUDIT_COARSE_LEAST: u32 = 3;
/// Clients still come so long after the server is ready, at the least and at the most.
pub const AUDIT_TAIL_MIN: Duration = Duration::from_millis(500);
/// See [`AUDIT_TAIL_MIN`].
pub const AUDIT_TAIL_MAX: Duration = Duration::from_secs(3);
/// What is looked at beside an edge at the least: a start is never the same to the millisecond.
pub const AUDIT_EDGE_MARGIN: Duration = Duration::from_millis(2);
/// What a client waits for a missing answer when others have come: a live connection answers within milliseconds.
pub const AUDIT_ANSWER_WAIT: Duration = Duration::from_secs(1);
/// An overtaken message is waited for so many times as long as the slowest answer of its connection took, if that is longer.
pub const AUDIT_ANSWER_FACTOR: u64 = 4;
/// Whoever is told good-bye so soon after it spoke was not heard any more: a loaded machine is slow between an answer and a Close.
pub const AUDIT_GOODBYE: Duration = Duration::from_millis(500);
/// Messages of other clients of which one client remembers whose they were.
pub const AUDIT_FOREIGN: usize = 256;
/// Every so-manieth client sends its first message only when any handler is there: what it loses even so is no matter of time.
pub const AUDIT_HESITATES_EACH: u32 = 8;
/// The same once a handler was seen to be late.
pub const AUDIT_HESITATES_EACH_LATE: u32 = 3;
/// How long after its opening such a client speaks, where nothing is known of a late handler.
pub const AUDIT_HESITATES: Duration = Duration::from_millis(128);
/// A first answer that comes later than this is called late.
pub const AUDIT_LATE: Duration = Duration::from_secs(1);
/// What an early client waited for its 101 is told from here on: less is an accept queue, and no habit of the server.
pub const AUDIT_WAIT_TOLD: Duration = Duration::from_millis(250);
/// How long a client stays open at the least: beyond what greenroom's gate waits for an early Close.
pub const AUDIT_LINGER: Duration = Duration::from_millis(400);
/// How long every so-manieth client stays, to see a Close that comes later still.
pub const AUDIT_LINGER_LONG: Duration = Duration::from_millis(2_500);
/// See [`AUDIT_LINGER_LONG`].
pub const AUDIT_LONG_EACH: u32 = 8;
/// How often the socket table is looked at: the uncertainty of *listen* where no client tells more.
pub const AUDIT_LOOK: Duration = Duration::from_millis(1);
/// In a quiet run the first client comes after this, and then one each: longer than most starts take.
pub const AUDIT_QUIET: Duration = Duration::from_secs(5);
/// How often it is looked whether the machine runs us.
pub const AUDIT_PULSE: Duration = Duration::from_millis(5);
/// From when on a late wake-up is a stall: timers of an idle machine are 1 ms late.
pub const AUDIT_STALL: Duration = Duration::from_millis(20);
/// How often the host's share is looked at; the kernel counts it in steps of 10 ms.
pub const AUDIT_STEAL_EVERY: Duration = Duration::from_millis(100);
/// Stalls that are kept; where there are more, the two oldest become one that holds both.
pub const AUDIT_STALLS: usize = 100_000;
/// Whose machine stood still for this part of the time that it waited in vain is *unknown*.
pub const AUDIT_STALLED: f64 = 0.25;
/// Where a larger part of the clients is *unknown*, and nothing was found, that is no proof: it is *not measured*.
pub const AUDIT_UNKNOWN: f64 = 0.2;
/// A late handler is claimed where more than this part of the clients is met by it for certain …
pub const AUDIT_OFTEN: f64 = 0.5;
/// … or more than this, and of them more than [`AUDIT_OFTEN`] lost several messages in a row.
pub const AUDIT_SELDOM: f64 = 0.05;
/// Of the clients of a start one in so many comes around *listen*, and as many around *ready*.
pub const AUDIT_AT_EDGE: usize = 5;
/// So many in 20 come when it is ready.
pub const AUDIT_AFTER_IN_20: usize = 7;
/// Records of clients of one audit that are kept in memory, some 500 bytes each.
pub const AUDIT_RECORDS: u64 = 500_000;
/// What the kernel may take to end a process that was killed.
pub const AUDIT_KILL: Duration = Duration::from_secs(2);
/// How often it is looked whether the processes of a run are gone.
pub const AUDIT_SWEEP: Duration = Duration::from_millis(10);
/// Last lines of CMD that are kept.
pub const AUDIT_OUTPUT_LINES: usize = 20;
/// Characters of such a line.
pub const AUDIT_LINE: usize = 400;
/// *Overtaken*, for the audit: both clients began, and both were opened, further apart than this. Nearer than that a
/// client cannot tell from its own wake-ups.
pub const AUDIT_ORDER_SLACK: Duration = Duration::from_millis(10);
/// Runs of a server that hangs when it is met: each takes the whole time for a start.
pub const AUDIT_HANGING_RUNS: u32 = 3;
/// A start in which so many clients had the same answer to their handshake, and nobody another one …
pub const AUDIT_SAME_ANSWERS: u64 = 20;
/// … over so long a time is given up, where the answer is about the request (below 500): a path or a header field is wrong.
pub const AUDIT_SAME_FOR: Duration = Duration::from_secs(3);
/// Of all who met as many connections, where a limit rejects them: some have their place when another goes.
pub const AUDIT_NEARLY_ALL: f64 = 0.95;
/// There are control starts where there were so many others: two starts that fail, and ten that do not, may be chance.
pub const AUDIT_CONTROL_RUNS: usize = 3;
/// A control start has one client for so many of the others.
pub const AUDIT_CONTROL_PART: u32 = 10;
/// It has so many at the least.
pub const AUDIT_CONTROL_LEAST: u32 = 5;
/// Control starts of each side at the most, beside a last one with as many clients as before. With 20 clients each they tell 7 % that are failed from
/// none, with 5 a quarter.
pub const AUDIT_CONTROL_STARTS: u64 = 10;
/// Where so many clients are failed in control starts too, it is no accident; where none is, and so many would be, neither.
pub const AUDIT_CONTROL_FAILED: u64 = 3;
/// With what probability, at the most, control starts differ from the others by chance, each start taken as a whole: three starts
/// and ten control starts reach it.
pub const AUDIT_CONTROL_CHANCE: f64 = 0.004;
/// In this part of the starts, at the least, load fails clients: whatever it is that happens in some starts only, it is not their number.
pub const AUDIT_CONTROL_MOST: f64 = 0.8;
/// The exit code of an audit that was stopped by a signal, as shells have it for Ctrl-C.
pub const AUDIT_STOPPED: u8 = 130;
/// The last so many runs say where to look in the next.
pub const AUDIT_SCALE_RUNS: usize = 5;
/// How often a client of a restart sends, and how often it tries to come back.
pub const AUDIT_RESTART_EVERY: Duration = Duration::from_millis(50);
/// How long all is quiet before a restart, and after it before it is asked who is back.
pub const AUDIT_RESTART_STEADY: Duration = Duration::from_secs(1);
/// Clients of a restart at the most: each sends 20 messages a second, all the time.
pub const AUDIT_RESTART_CLIENTS: u32 = 100;
/// Connections of one client of a restart that are kept, and rows of attempts that failed.
pub const AUDIT_RESTART_CONNECTIONS: usize = 500;
/// Messages of one of its connections that are kept: those of some eight minutes.
pub const AUDIT_RESTART_MESSAGES: usize = 10_000;
/// Progress that waits to be shown, where nobody reads it: what does not fit is not shown.
pub const AUDIT_UNSHOWN: usize = 1_024;
/// What the last of it may take to be shown.
pub const AUDIT_SHOWN: Duration = Duration::from_millis(200);
/// How often the progress of an audit is told where there is no terminal for its bar: a log of an hour has some 360 lines of it.
pub const AUDIT_TOLD_EVERY: Duration = Duration::from_secs(10);
/// How often the progress of a restart is told.
pub const AUDIT_RESTART_SHOWN: Duration = Duration::from_millis(250);
/// What a client of a restart takes to send its Close.
pub const AUDIT_RESTART_PARTING: Duration = Duration::from_millis(100);
/// Waiters of each start that `--strategy` computes for each way of waiting.
pub const AUDIT_WAITERS: u64 = 500;
/// The longest time between two looks that `--strategy` takes.
pub const AUDIT_POLL_MAX: Duration = Duration::from_secs(60);
/// A back-off's first sleep, where nothing else is said.
pub const AUDIT_BACKOFF: Duration = Duration::from_millis(100);
/// Its longest.
pub const AUDIT_BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Single clients in a report, of each side: enough for a plot, and some 300 KB of JSON.
pub const AUDIT_POINTS: usize = 2_000;
