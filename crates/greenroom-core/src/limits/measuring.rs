//! Bounds of what is measured and traced. Part of `limits`, where all others are.

use core::time::Duration;

/// Bounds of the histogram of waits, in milliseconds: from a head that is written at once to the longest hold that is usual.
pub const WAIT_BUCKETS_MS: &[u64] = &[
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000,
];
/// The same of start-ups: from a server that listens at once to one that loads a model.
pub const START_BUCKETS_MS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
];

/// Of so many handshakes a share can be traced: all, unless it is said.
pub const TRACE_SAMPLE: usize = 1_000;
/// Spans that wait to be sent, some 1 KiB each; more are dropped and counted.
pub const TRACE_QUEUE: usize = 4_096;
/// Spans that are sent together, as OpenTelemetry's own exporters have it.
pub const TRACE_BATCH: usize = 512;
/// How long the first of them waits for others.
pub const TRACE_GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch; what it has not taken then is lost.
pub const TRACE_EXPORT: Duration = Duration::from_secs(10);
/// How long greenroom's end waits for the last of them.
pub const TRACE_FLUSH: Duration = Duration::from_secs(1);
/// Bytes of a collector's answer.
pub const TRACE_ANSWER_MAX: usize = 64 << 10;
