//! Drains: many connections are closed at a pace that core has planned.
//!
//! ```text
//!  a stop ────────▶ stop ───┐ one task; looks again for those who were just let in
//!                           ├─▶ core's plan ─▶ a notice in the mailbox of each, at its instant
//!  POST /v1/drain ▶ course ─┘ one task for each drain
//! ```
//!
//! No connection has a timer of its own for it: a relay finds the notice at its next turn, and is woken for it.
//! The connection's own task closes both sides and names the cause.
//!
//! Bounded by `DRAINS_MAX` drains by command, and `DRAINS_KEPT` that are over and still told of.

mod course;
mod stop;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::drain::{close_reason, retry_after_ms, seed_for};
use greenroom_core::event::{CloseCause, Refusal};
use greenroom_core::limits::{DRAINS_KEPT, DRAINS_MAX, RETRY_AFTER_SECONDS};

use crate::config::Manner;
use crate::registry::{Close, Notice, Record, Registry};
use crate::telemetry::Log;

pub(crate) use course::{Ask, Course};
pub(crate) use stop::Stop;

/// All drains of the house by command.
#[derive(Debug)]
pub struct Drains {
    registry: Arc<Registry>,
    log: Log,
    /// Mixed with the number of each drain, so that no two close in the same order.
    seed: u64,
    last: AtomicU64,
    /// The oldest first.
    all: Mutex<Vec<Arc<Course>>>,
}

/// As many drains as may be are under way.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Drains {
    /// None yet.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, log: &Log, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            log: log.clone(),
            seed,
            last: AtomicU64::new(0),
            all: Mutex::default(),
        })
    }

    /// Begins one, of those of the open connections that `takes` accepts; or gives the one that is under way and
    /// was asked for in the same words (`false`).
    pub(crate) fn begin(
        self: &Arc<Self>,
        ask: Ask,
        takes: impl Fn(&Record) -> bool,
    ) -> Result<(Arc<Course>, bool), TooMany> {
        if let Some(same) = Self::same_or_place(&self.all(), &ask)? {
            return Ok((same, false));
        }
        // Nobody waits for a plan, so it is made before it is known whether somebody asks for the same meanwhile.
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (course, plan) = Course::plan(id, seed_for(self.seed, id), ask, &self.registry, takes);
        let mut all = self.all();
        if let Some(same) = Self::same_or_place(&all, &course.ask)? {
            return Ok((same, false));
        }
        let over = all.iter().filter(|course| !course.is_under_way()).count();
        if over >= DRAINS_KEPT
            && let Some(oldest) = all.iter().position(|course| !course.is_under_way())
        {
            all.remove(oldest);
        }
        let place = all.iter().position(|other| other.id > id).unwrap_or(all.len());
        all.insert(place, Arc::clone(&course));
        drop(all);
        course.hand_gates(course.ask.new); // now, so that whoever asks a gate behind this is told of it
        tokio::spawn(Arc::clone(&course).run(plan, self.log.clone()));
        Ok((course, true))
    }

    /// The drain under way that was asked for in the same words; `None`: there is a place for another.
    fn same_or_place(all: &[Arc<Course>], ask: &Ask) -> Result<Option<Arc<Course>>, TooMany> {
        let under_way = || all.iter().filter(|course| course.is_under_way());
        if let Some(same) = under_way().find(|course| course.ask == *ask) {
            return Ok(Some(Arc::clone(same)));
        }
        if under_way().count() >= DRAINS_MAX {
            return Err(TooMany);
        }
        Ok(None)
    }

    /// All that are under way, and the last that were; the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Course>> {
        self.all().clone()
    }

    /// The one of this number.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Course>> {
        self.all().iter().find(|course| course.id == id).cloned()
    }

    /// greenroom stops, and closes all by itself: none goes on.
    pub(crate) fn end_all(&self) {
        for course in self.list() {
            course.cancel();
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Course>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the notice. Nobody takes it where the connection is over, and only there.
fn close(record: &Record, manner: &Manner, seed: u64, detail: Option<&str>) {
    let hint = retry_after_ms(seed_for(seed, record.number), RETRY_AFTER_SECONDS);
    let notice = Notice::Close(Close {
        cause: CloseCause::Drained,
        refusal: Refusal::Draining,
        code: manner.code,
        reason: close_reason(&manner.reason, hint).into(),
        detail: detail.map(Into::into),
    });
    let _ = record.mailbox.tell(notice);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_core::drain::Pace;
    use greenroom_core::gate::Hand;
    use greenroom_core::wire::CloseCode;

    use super::*;
    use crate::admin::client::Filter;
    use crate::config::{DrainKind, Limits};
    use crate::telemetry::Format;

    fn ask(of: u64) -> Ask {
        Ask {
            of: format!("older_than={of}s"),
            filter: Filter {
                older_than: Some(format!("{of}s")),
                ..Filter::default()
            },
            kind: DrainKind::Deploy,
            manner: Manner {
                pace: Pace::Window(Duration::ZERO),
                code: CloseCode::RESTART,
                reason: String::new(),
            },
            percent: 100,
            new: Hand::Auto,
            gates: Vec::new(),
        }
    }

    /// Whoever waits for the end of one learns it, although many others have ended since.
    #[tokio::test]
    async fn one_that_is_over_is_told_of_until_as_many_others_are_as_are_kept() {
        let log = Log::start(Format::Json);
        let registry = Registry::new(log.clone(), 64, &Limits::default());
        let drains = Drains::new(&registry, &log, 7);
        for of in 0..DRAINS_KEPT as u64 {
            let (course, is_new) = drains.begin(ask(of), |_| true).unwrap();
            assert!(is_new, "{of}");
            while course.is_under_way() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(drains.find(1).unwrap().progress().word(), "drained");
        drains.begin(ask(0), |_| true).unwrap();
        assert!(drains.find(1).is_none() && drains.find(2).is_some());
    }
}
