//! Clients that come over a span of time while a server starts.
//!
//! Each is a [`visit`] of the audit: it connects once, sends messages that only it sends, and checks the echo. None tries again:
//! what is measured is the first attempt. Arrival times come from a seed, one client per equal slice of the span, so
//! that client `n` always starts before client `n + 1`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::audit::client::{Visit, visit};
use crate::audit::plan::Dice;
use crate::audit::record::{ClientRecord, Ending};
use crate::audit::target::{Expect, Target, Words};

/// Who comes, when, and to do what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// To which port of 127.0.0.1; `/?client=N` is asked for.
    pub port: u16,
    /// How many.
    pub count: u32,
    /// Over which span they come.
    pub over: Duration,
    /// Messages that each sends.
    pub messages: usize,
    /// What each waits for its 101, and then for its first echo.
    pub patience: Duration,
    /// Chooses the moments of arrival.
    pub seed: u64,
}

/// How far a client is, for who draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has begun to connect. A 101 alone is no service: the server may still cut it.
    Waiting,
    /// It is done, and was in.
    In,
    /// It is done, and was failed.
    Failed,
}

/// Whether a client was in: every echo came, once, and nothing else did.
#[must_use]
pub fn is_in(record: &ClientRecord) -> bool {
    record.ending == Ending::Done && record.others == 0 && record.messages.iter().all(|sent| sent.copies == 1)
}

/// Runs the plan to its end; `progress` is called with each client's number and
/// stage as it comes. Records are in order of the clients.
pub async fn arrive(plan: &Plan, progress: impl Fn(u32, Stage) + Send + Sync + 'static) -> Vec<ClientRecord> {
    let progress = Arc::new(progress);
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (client, after) in (0..).zip(arrivals(plan.count, plan.over, plan.seed)) {
        let progress = Arc::clone(&progress);
        let visitor = Visit {
            target: Target::default().for_client(client),
            port: plan.port,
            words: Words::default(),
            expect: Expect::Echo,
            run: 0,
            sends: vec![Duration::ZERO; plan.messages],
            patience: plan.patience,
            linger: Duration::ZERO,
        };
        running.spawn(async move {
            sleep_until(began + after).await;
            progress(client, Stage::Waiting);
            let record = visit(&visitor, client, |_| {}).await;
            progress(client, if is_in(&record) { Stage::In } else { Stage::Failed });
            record
        });
    }
    // A task that panicked is a client without a record: the checks count who is missing.
    let mut records = Vec::new();
    while let Some(joined) = running.join_next().await {
        records.extend(joined);
    }
    records.sort_by_key(|record: &ClientRecord| record.client);
    records
}

/// When each client comes: one in each equal slice of the span.
fn arrivals(count: u32, over: Duration, seed: u64) -> Vec<Duration> {
    let slice = over / count.max(1);
    let mut dice = Dice::new(seed, 0);
    let at = |index| {
        let within = dice.next_u64() % u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX).max(1);
        slice * index + Duration::from_nanos(within)
    };
    (0..count).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_order_and_the_span() {
        for seed in 0..50 {
            let times = arrivals(24, Duration::from_millis(2_500), seed);
            assert_eq!(times.len(), 24);
            assert!(times.is_sorted(), "seed {seed}");
            assert!(times[23] < Duration::from_millis(2_500), "seed {seed}");
        }
        assert_ne!(
            arrivals(5, Duration::from_secs(1), 1),
            arrivals(5, Duration::from_secs(1), 2)
        );
    }

    #[test]
    fn nobody_and_no_span_are_no_trouble() {
        assert!(arrivals(0, Duration::from_secs(1), 1).is_empty());
        assert_eq!(arrivals(2, Duration::ZERO, 1), [Duration::ZERO; 2]);
    }
}
