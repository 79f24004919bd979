//! One start of the server, with clients all through it.
//!
//! ```text
//!  exec ───────── listen ───────────── ready ──────────── end of the plan, or ready + tail
//!    │ refused …    │ taken, failed? …   │ answered …        │ wait for the last client, stop CMD
//! ```
//!
//! Bounds: [`limits::AUDIT_CLIENTS`] clients of one run, each with its patience; the time for a start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greenroom::supervise::notify::NotifySocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Visit, visit};
use super::judge::{Outcome, Patience, is_served, judge};
use super::lateness;
use super::observe;
use super::plan::{self, Dice};
use super::process::{Program, Running, StartError};
use super::record::{Cause, ClientRecord, Interval, RunRecord};
use super::stall::{StallWatch, overlap};
use super::target::{Expect, Target, Words};
use super::unmeasured::is_final;
use crate::{clock, limits};

/// What all runs have in common.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Where the clients go.
    pub target: Target,
    /// What they say.
    pub words: Words,
    /// What they expect.
    pub expect: Expect,
    /// What a client waits for its 101, and then for its first answer.
    pub patience: Duration,
    /// What a start may take.
    pub start_timeout: Duration,
    /// What ending CMD may take before it is killed.
    pub grace: Duration,
    /// Whether a start is given up in which everybody has the same answer of a kind that is about the request.
    pub gives_up: bool,
}

impl Manner {
    /// The times on which outcomes depend.
    #[must_use]
    pub fn judged_by(&self) -> Patience {
        Patience {
            whole_ns: plan::nanos(self.patience),
            answer_ns: plan::nanos(limits::AUDIT_ANSWER_WAIT),
            late_ns: plan::nanos(limits::AUDIT_LATE),
            answers: !matches!(self.expect, Expect::Nothing),
        }
    }

    /// Whether a message can be told from all others by its echo.
    #[must_use]
    pub fn numbered(&self) -> bool {
        matches!(self.expect, Expect::Echo) && self.words.is_numbered()
    }
}

/// Which clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Nothing is known: evenly, until it is ready and some time more.
    Coarse,
    /// At these offsets from exec, in nanoseconds, and then coarsely if it is not ready by then.
    At(Vec<u64>),
    /// Hardly any, and late: whether the server becomes ready when nobody comes early.
    Quiet,
}

/// One run.
#[derive(Debug)]
pub struct Run<'a> {
    /// Its number.
    pub number: u32,
    /// How many clients a start has: how close together they come where nothing is known.
    pub clients: u32,
    /// What is started.
    pub program: Program,
    /// Where it will listen.
    pub port: u16,
    /// Whether what is started is given a NOTIFY_SOCKET.
    pub notify: bool,
    /// Which clients come.
    pub arrivals: Arrivals,
    /// Where a handler was seen to be attached late, after the opening.
    pub late: Option<Interval>,
    /// For everything random.
    pub dice: Dice,
    /// What all runs have in common.
    pub manner: &'a Manner,
}

/// Tells the progress of a run.
pub type Tell<'a> = &'a (dyn Fn(Outcome) + Send + Sync);

impl Run<'_> {
    /// Starts CMD, lets the clients come, ends CMD.
    ///
    /// # Errors
    /// When CMD cannot be executed.
    pub async fn play(
        mut self,
        stalls: &StallWatch,
        stop: &mut watch::Receiver<bool>,
        tell: Tell<'_>,
    ) -> Result<RunRecord, StartError> {
        let address = self.manner.target.address(self.port);
        // Without one, READY is not heard, and that is all. greenroom's own means only that it listens.
        let mut notify = NotifySocket::new().ok().filter(|_| self.notify);
        let socket = notify.as_mut().and_then(NotifySocket::take);
        let mut running = Running::start_with(&self.program, notify.as_ref())?;
        let exec = running.exec();
        let listening = tokio::spawn(observe::listens(address, exec.low_ns));
        let notified = tokio::spawn(async move {
            match socket {
                Some(socket) => Some(observe::ready(socket).await),
                None => None,
            }
        });
        let (clients, mut cause) = self.clients(&mut running, exec, stop, tell).await;
        let patience = self.manner.judged_by();
        if cause == Cause::Finished && !clients.iter().any(|client| is_served(client, patience)) {
            cause = Cause::NeverReady;
        }
        let (listen, notified) = (seen(listening).await, seen(notified).await.flatten());
        let output = running.output();
        let elsewhere = match listen {
            None if cause == Cause::NeverReady || cause == Cause::Finished => {
                Some(observe::elsewhere(address, running.pid()).await)
            }
            Some(_) | None => None,
        };
        let killed = running.stop(self.manner.grace).await;
        let stalled = stalls.since(exec.low_ns);
        let mut record = RunRecord {
            run: self.number,
            exec,
            listen,
            notified_at: notified,
            clients,
            stalls: stalled,
            cause,
            output,
            killed,
            elsewhere,
        };
        for client in &mut record.clients {
            client.stalled_ns = overlap(&record.stalls, client.started_at, client.ended_at);
        }
        Ok(record)
    }

    /// Lets all clients come, and waits for them.
    async fn clients(
        &mut self,
        running: &mut Running,
        exec: Interval,
        stop: &mut watch::Receiver<bool>,
        tell: Tell<'_>,
    ) -> (Vec<ClientRecord>, Cause) {
        let ready = Arc::new(Ready::new());
        let began = Instant::now() - clock::between(exec.low_ns, clock::now());
        let from = exec.low_ns;
        let mut set = JoinSet::new();
        let mut records = Vec::new();
        let patience = self.manner.judged_by();
        let mut same = Same::default();
        let mut keep = |record: ClientRecord| {
            let outcome = judge(&record, patience);
            tell(outcome);
            same.add(outcome, record.started_at);
            records.push(record);
            same.is_hopeless()
        };
        let mut next = self.after(None, &ready);
        let mut count = 0;
        let cause = loop {
            let Some(offset) = next.filter(|_| count < limits::AUDIT_CLIENTS) else {
                break Cause::Finished;
            };
            if Duration::from_nanos(offset) > self.manner.start_timeout && ready.after().is_none() {
                break Cause::Finished; // nobody was answered in the time for a start
            }
            tokio::select! {
                biased;
                () = sleep_until(began + Duration::from_nanos(offset)) => {
                    let visitor = self.visitor(count, offset);
                    let (client, heard) = (count, Arc::clone(&ready));
                    set.spawn(async move { visit(&visitor, client, |at| heard.answered(at.saturating_sub(from))).await });
                    count += 1;
                    next = self.after(Some((count, offset)), &ready);
                }
                how = running.ended() => break Cause::Ended(how),
                _ = stop.wait_for(|stop| *stop) => break Cause::Interrupted,
                Some(joined) = set.join_next() => {
                    let hopeless = joined.is_ok_and(&mut keep);
                    if hopeless && self.manner.gives_up {
                        break Cause::NeverReady;
                    }
                }
            }
        };
        if cause == Cause::Interrupted {
            return (records, cause); // those that are on their way go with the set
        }
        let left = async {
            while let Some(joined) = set.join_next().await {
                let _hopeless = joined.is_ok_and(&mut keep);
            }
        };
        let mut cause = cause;
        tokio::select! {
            biased;
            () = left => {}
            // What is still on its way has nobody to answer it any more.
            how = running.ended(), if cause == Cause::Finished => cause = Cause::Ended(how),
            _ = stop.wait_for(|stop| *stop) => cause = Cause::Interrupted,
        }
        records.sort_by_key(|record: &ClientRecord| record.client);
        (records, cause)
    }

    /// When the next client comes, if one does.
    fn after(&self, last: Option<(u32, u64)>, ready: &Ready) -> Option<u64> {
        let answered = ready.after();
        let tail = |ready: u64| ready + plan::tail(ready);
        match (&self.arrivals, last) {
            (Arrivals::At(offsets), None) => Some(offsets.first().copied().unwrap_or(0)),
            (Arrivals::At(offsets), Some((count, offset))) => match offsets.get(count as usize) {
                Some(&next) => Some(next),
                // It is slower than all before it: the plan goes on until it is ready.
                None if answered.is_none_or(|ready| offset < tail(ready)) => {
                    Some(plan::coarse_after(offset, self.clients))
                }
                None => None,
            },
            (Arrivals::Coarse, None) => Some(0),
            (Arrivals::Coarse, Some((_, offset))) => answered
                .is_none_or(|ready| offset < tail(ready))
                .then(|| plan::coarse_after(offset, self.clients)),
            (Arrivals::Quiet, None) => Some(self.quiet()),
            (Arrivals::Quiet, Some((_, offset))) => answered.is_none().then(|| offset + self.quiet()),
        }
    }

    /// Of a quiet run: when the first client comes, and how long after it the next.
    fn quiet(&self) -> u64 {
        plan::nanos(limits::AUDIT_QUIET.min(self.manner.start_timeout / 2))
    }

    fn visitor(&mut self, client: u32, offset: u64) -> Visit {
        let manner = self.manner;
        let mut sends = plan::sends(manner.numbered(), self.late, &mut self.dice);
        if manner.numbered() && lateness::hesitates(client, self.late) {
            let late = lateness::hesitation(self.late);
            sends = plan::sends(true, None, &mut self.dice)
                .iter()
                .map(|after| after + late)
                .collect();
        }
        // Most stay as short as they can; some long enough to see a Close that comes late. The last do not, so that
        // the run need not wait for them.
        let planned = match &self.arrivals {
            Arrivals::At(offsets) => offsets.last().copied().unwrap_or(0),
            Arrivals::Coarse | Arrivals::Quiet => u64::MAX,
        };
        let long = client.is_multiple_of(limits::AUDIT_LONG_EACH)
            && offset.saturating_add(plan::nanos(limits::AUDIT_LINGER_LONG)) <= planned;
        Visit {
            target: manner.target.clone(),
            port: self.port,
            words: manner.words.clone(),
            expect: manner.expect.clone(),
            run: self.number,
            sends: sends.into_iter().map(Duration::from_nanos).collect(),
            patience: manner.patience,
            linger: if long {
                limits::AUDIT_LINGER_LONG
            } else {
                limits::AUDIT_LINGER
            },
        }
    }
}

/// Whether everybody whom a listener took had the same final answer to the handshake, and for how long.
#[derive(Debug, Default)]
struct Same {
    status: Option<u16>,
    clients: u64,
    /// When the first and the last of them came.
    came: Interval,
    /// Somebody had another.
    differs: bool,
}

impl Same {
    fn add(&mut self, outcome: Outcome, started_at: u64) {
        match outcome {
            Outcome::Refused => {}
            Outcome::Status(status) if is_final(status) && self.status.is_none_or(|known| known == status) => {
                if self.status.is_none() {
                    self.came = Interval::new(started_at, started_at);
                }
                self.status = Some(status);
                self.clients += 1;
                self.came.high_ns = self.came.high_ns.max(started_at);
            }
            _ => self.differs = true,
        }
    }

    fn is_hopeless(&self) -> bool {
        let long = self.came.high_ns.saturating_sub(self.came.low_ns) >= plan::nanos(limits::AUDIT_SAME_FOR);
        !self.differs && self.clients >= limits::AUDIT_SAME_ANSWERS && long
    }
}

/// How long after exec the first client was answered, in nanoseconds; the greatest number: nobody was yet.
#[derive(Debug)]
struct Ready(AtomicU64);

impl Ready {
    const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// The first answer is the one that counts; its client may report later than another.
    fn answered(&self, after: u64) {
        self.0.fetch_min(after, Ordering::Relaxed);
    }

    fn after(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&after| after != u64::MAX)
    }
}

/// What a watching task has seen by now, if it has.
async fn seen<T>(task: tokio::task::JoinHandle<T>) -> Option<T> {
    let abort = task.abort_handle();
    let seen = timeout(limits::AUDIT_LOOK * 4, task).await;
    abort.abort();
    seen.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_final_answer_to_everybody_for_long_enough_is_hopeless_and_nothing_else_is() {
        let step = plan::nanos(limits::AUDIT_SAME_FOR) / limits::AUDIT_SAME_ANSWERS;
        let of = |outcomes: &dyn Fn(u64) -> Outcome| {
            let mut same = Same::default();
            let mut when = None;
            for number in 0..=3 * limits::AUDIT_SAME_ANSWERS {
                same.add(outcomes(number), number * step);
                when = when.or(same.is_hopeless().then_some(number));
            }
            (same.is_hopeless(), when)
        };
        let (hopeless, when) = of(&|_| Outcome::Status(403));
        assert!(hopeless && when == Some(limits::AUDIT_SAME_ANSWERS), "{when:?}");
        assert!(of(&|n| if n < 3 { Outcome::Refused } else { Outcome::Status(404) }).0);
        assert!(!of(&|_| Outcome::Status(503)).0, "not ready is no refusal");
        assert!(
            !of(&|n| if n == 0 {
                Outcome::Answered
            } else {
                Outcome::Status(404)
            })
            .0
        );
        assert!(!of(&|n| Outcome::Status(400 + u16::try_from(n % 2).unwrap())).0);
        assert!(!of(&|_| Outcome::Refused).0);
    }
}
