//! The one truth about connections: how many there are in each state, and why
//! the closed ones ended.
//!
//! Every accepted connection has one [`Entry`], from accept to close. An entry
//! moves from state to state and ends with exactly one cause; dropping it
//! without one is counted as a fault of greenroom. So
//! `accepted = opening + http + held + dialing + relaying + parked + closing + closed`
//! holds at every moment, by construction. Descriptors are counted here too, as
//! a free one is a condition of release; what each address has, where that is
//! limited; and what each user has, where a route says who that is.

mod entry;
mod notice;
mod own;
mod record;
mod table;
mod traffic;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use greenroom_core::drain::Ahead;
use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{
    CROWD_LEAST, CROWDED_SHARE, DESCRIPTOR_RESERVE, DIALS_MAX, HELD_MAX, TARPIT_MAX, TURNED_AWAY_MAX,
};
use tokio::sync::{Notify, Semaphore};

use crate::addresses::AddressBook;
use crate::clock;
use crate::config::Limits;
use crate::early::EarlyRoom;
use crate::memory::Crowd;
use crate::telemetry::{Event, Log};
use crate::trace::Tracer;
use crate::users::UserBook;
use crate::watch::Newcomers;

pub use entry::Entry;
pub(crate) use notice::{Close, Notice};
pub(crate) use own::{Outcome, OwnMessage};
pub use record::{Asked, Record, Traffic};
use table::Table;
pub use table::{Closed, Names};
pub(crate) use traffic::GONE;
pub use traffic::{Sum, Sums};

/// See the module's head.
#[derive(Debug)]
pub struct Registry {
    log: Log,
    /// A line for each connection.
    table: Table,
    accepted: AtomicU64,
    states: [AtomicU64; State::ALL.len()],
    /// Connections that are neither closed nor without a request: one number, as a sum of several is none
    /// while connections go from state to state.
    engaged: AtomicU64,
    causes: [AtomicU64; CloseCause::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    /// Cookies of backends that their clients never saw, as they had their 101 before.
    cookies_lost: AtomicU64,
    /// What clients sent that went to nobody, as their backend was lost or their end had begun: bytes, messages.
    dropped: [AtomicU64; 2],
    /// Clients of lost backends that are closed ahead of their time.
    ahead: Mutex<Ahead>,
    /// Connections of clients that are open: one number, as with `engaged`.
    open: AtomicUsize,
    /// How many there were, so that their memory is given back when they have gone.
    crowd: Crowd,
    /// Told when a crowd has gone.
    pub(crate) crowd_gone: Arc<Notify>,
    /// Descriptors of clients and backends in use.
    descriptors: AtomicUsize,
    /// Descriptors that sessions may use.
    budget: usize,
    /// Connections of clients that may be open, whatever descriptors there are.
    connections_max: AtomicUsize,
    /// What each address has of them.
    pub(crate) addresses: Arc<AddressBook>,
    /// What each user has of them.
    pub(crate) users: Arc<UserBook>,
    /// The house ends: whoever is still there is cut.
    is_over: AtomicBool,
    /// Somebody waits for a descriptor.
    starved: AtomicBool,
    /// Clients' connections that wait for another request: the first to go where descriptors are few.
    idle: AtomicUsize,
    /// Tells the one that waits longest to go.
    go: Notify,
    /// Told when a descriptor came free while somebody waited for one, and when no connection is engaged any more.
    pub(crate) changed: Notify,
    /// Places for browsers whose refusal is kept back.
    pub(crate) tarpit: Semaphore,
    /// Places of clients beyond a limit that are given the time to read their refusal.
    pub(crate) turned_away: Arc<Semaphore>,
    /// What accepted clients have sent before their backends were ready.
    pub early: Arc<EarlyRoom>,
    /// Connections that are to be watched.
    pub(crate) newcomers: Newcomers,
    /// Where spans go, if anything is traced.
    tracer: OnceLock<Tracer>,
}

impl Registry {
    /// For a process that may open `descriptors` files.
    #[must_use]
    pub fn new(log: Log, descriptors: usize, limits: &Limits) -> Arc<Self> {
        let crowd_gone = Arc::new(Notify::new());
        Arc::new(Self {
            log,
            table: Table::new(),
            accepted: AtomicU64::new(0),
            states: [const { AtomicU64::new(0) }; State::ALL.len()],
            engaged: AtomicU64::new(0),
            causes: [const { AtomicU64::new(0) }; CloseCause::ALL.len()],
            refusals: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            cookies_lost: AtomicU64::new(0),
            dropped: Default::default(),
            ahead: Mutex::default(),
            open: AtomicUsize::new(0),
            crowd: Crowd::new(CROWD_LEAST, &crowd_gone),
            descriptors: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(limits.connections_max.unwrap_or(usize::MAX)),
            addresses: AddressBook::new(limits, descriptors),
            users: Arc::default(),
            budget: descriptors.saturating_sub(DESCRIPTOR_RESERVE.min(descriptors / 2)),
            is_over: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            idle: AtomicUsize::new(0),
            go: Notify::new(),
            changed: Notify::new(),
            tarpit: Semaphore::new(TARPIT_MAX),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            early: EarlyRoom::new(limits.early_budget, &crowd_gone),
            newcomers: Newcomers::default(),
            crowd_gone,
            tracer: OnceLock::new(),
        })
    }

    /// Keeps to other bounds from now on. Nobody who is there is sent away for them.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        let most = limits.connections_max.unwrap_or(usize::MAX);
        self.connections_max.store(most, Ordering::Relaxed);
        self.addresses.set_limits(limits);
        self.early.set_max(limits.early_budget);
    }

    /// Handshakes are traced from now on. Said once, at the start.
    pub fn trace_to(&self, tracer: Option<Tracer>) {
        if let Some(tracer) = tracer {
            let _ = self.tracer.set(tracer);
        }
    }

    /// Where spans go, if anything is traced.
    #[must_use]
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// Takes a client's connection into the books; a refusal, which is counted, when there is no room for it. Some
    /// descriptors are kept for dials, as else nobody could ever be let in.
    pub fn accept(self: &Arc<Self>, peer: IpAddr) -> Result<Entry, Refusal> {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Arc::new(Record::new(number, peer, clock::now()));
        self.table.open(&record);
        self.states[State::Opening as usize].fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.crowd.grows(open);
        let mut entry = Entry::new(self, record);
        let (used, most) = (self.descriptors.load(Ordering::Relaxed), self.descriptors_of_clients());
        if is_crowded(used, most) || is_crowded(open, self.connections_max().unwrap_or(usize::MAX)) {
            self.send_idle_away();
        }
        let counted = if used > most {
            Err(Refusal::Descriptors)
        } else if open > self.connections_max().unwrap_or(usize::MAX) {
            Err(Refusal::Connections)
        } else {
            self.addresses.open(peer)
        };
        match counted {
            Ok(counted) => {
                entry.count(counted);
                Ok(entry)
            }
            Err(refusal) => {
                let detail = (refusal == Refusal::ConnectionsOfAddress).then(|| self.addresses.name(peer));
                entry.refused(refusal, detail);
                Err(refusal)
            }
        }
    }

    /// One connection that only waits for another request makes room. Whose turn it is: the one that waits longest.
    fn send_idle_away(&self) {
        if self.idle.load(Ordering::Relaxed) > 0 {
            self.go.notify_one();
        }
    }

    /// Ends when descriptors are few and the connection that waits for this has waited longest of all that do.
    pub async fn sent_away(&self) {
        let _one = Idle::of(&self.idle);
        self.go.notified().await;
    }

    /// Clients that may be connected at one time.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.descriptors_of_clients()
            .min(self.connections_max().unwrap_or(usize::MAX))
    }

    /// Descriptors that clients may have.
    fn descriptors_of_clients(&self) -> usize {
        self.budget.saturating_sub(DIALS_MAX.min(self.budget / 4)).max(1)
    }

    /// Clients that can be held, and sessions that can be relayed.
    #[must_use]
    pub fn capacity(&self) -> (usize, usize) {
        (HELD_MAX.min(self.clients_max()), self.budget / 2)
    }

    /// Descriptors that sessions may use.
    #[must_use]
    pub fn descriptors_max(&self) -> usize {
        self.budget
    }

    /// Connections of clients that may be open, whatever descriptors there are; `None`: as many as there are descriptors for.
    #[must_use]
    pub fn connections_max(&self) -> Option<usize> {
        Some(self.connections_max.load(Ordering::Relaxed)).filter(|&max| max < usize::MAX)
    }

    /// Counts one descriptor as used until the value is dropped.
    pub fn descriptor(self: &Arc<Self>) -> Descriptor {
        self.descriptors.fetch_add(1, Ordering::Relaxed);
        Descriptor(Arc::clone(self))
    }

    /// How many descriptors are free for dials.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.budget.saturating_sub(self.descriptors.load(Ordering::SeqCst))
    }

    /// Asks to be told through `changed` when a descriptor comes free. Nobody takes that back:
    /// several backends' owners may wait, and a word too many costs one of them a look.
    pub fn want_descriptor(&self) {
        self.starved.store(true, Ordering::SeqCst);
    }

    /// All connections, in the order of their numbers.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.table.all()
    }

    /// The open connection of this number.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<Arc<Record>> {
        self.table.find(number)
    }

    /// The last connections that ended, the latest first; without those that never said a byte or were turned away at the door.
    #[must_use]
    pub fn last_closed(&self) -> Vec<Arc<Closed>> {
        self.table.all_closed()
    }

    /// What went over relays since greenroom began, by backend.
    #[must_use]
    pub fn traffic(&self) -> Sums {
        self.table.traffic()
    }

    /// What went over relays that are over is kept for these backends, and for all others together.
    pub(crate) fn fold_traffic(&self, is_known: impl Fn(&str) -> bool) {
        self.table.fold_traffic(is_known);
    }

    /// How many connections are in a state now.
    #[must_use]
    pub fn count(&self, state: State) -> u64 {
        self.states[state as usize].load(Ordering::SeqCst)
    }

    /// Whether no connection is left but those that have said nothing yet.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.engaged.load(Ordering::SeqCst) == 0
    }

    fn disengage(&self) {
        if self.engaged.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// From now on who ends for no reason of its own was cut at the end of greenroom, and that is no fault.
    pub(crate) fn set_over(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Why a connection ended whose task was dropped before it had named a cause.
    fn cause_of_dropped(&self) -> CloseCause {
        if self.is_over.load(Ordering::SeqCst) {
            CloseCause::Drained
        } else {
            CloseCause::Internal
        }
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// What clients sent that went to nobody, as their backend was lost or their end had begun: bytes, messages.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        let [bytes, messages] = &self.dropped;
        (bytes.load(Ordering::Relaxed), messages.load(Ordering::Relaxed))
    }

    /// Clients of lost backends that are closed ahead of their time.
    pub(crate) fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many cookies were lost, as their clients had been accepted before.
    #[must_use]
    pub fn cookies_lost(&self) -> u64 {
        self.cookies_lost.load(Ordering::Relaxed)
    }

    /// How many were closed, by cause.
    pub fn closed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |c: &CloseCause| (c.word(), self.causes[*c as usize].load(Ordering::Relaxed));
        CloseCause::ALL.iter().map(count)
    }

    /// How many were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |r: &Refusal| (r.word(), self.refusals[*r as usize].load(Ordering::Relaxed));
        Refusal::ALL.iter().map(count)
    }

    /// The close ledger, for the last line of the log.
    #[must_use]
    pub fn ledger(&self, code: u8) -> Event {
        let some = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| -> BTreeMap<&'static str, u64> {
            counts.filter(|&(_, n)| n > 0).collect()
        };
        Event::Stopped {
            code,
            accepted: self.accepted(),
            closed: some(&mut self.closed()),
            refused: some(&mut self.refused()),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether so few places are left that who only waits for another request has to go.
fn is_crowded(used: usize, most: usize) -> bool {
    used > most - most / CROWDED_SHARE
}

/// Whether a connection in this state has a request, and is not closed.
fn is_engaged(state: State) -> bool {
    match state {
        State::Opening | State::Closed => false,
        State::Http | State::Held | State::Dialing | State::Relaying | State::Parked | State::Closing => true,
    }
}

/// Counted as waiting for another request until it is dropped.
struct Idle<'r>(&'r AtomicUsize);

impl<'r> Idle<'r> {
    fn of(count: &'r AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One descriptor in use.
#[derive(Debug)]
pub struct Descriptor(Arc<Registry>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.descriptors.fetch_sub(1, Ordering::SeqCst);
        if self.0.starved.swap(false, Ordering::SeqCst) {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Format;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_descriptor_that_comes_free_is_told_to_whoever_waits_for_one() {
        let registry = Registry::new(Log::start(Format::Json), 16, &crate::config::Limits::default());
        let used = registry.descriptor();
        let mut freed = std::pin::pin!(registry.changed.notified());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(freed.as_mut().poll(&mut cx).is_pending());
        registry.want_descriptor();
        drop(used);
        assert!(freed.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_relay_is_never_overlooked_while_others_come_and_go() {
        let registry = Registry::new(Log::start(Format::Json), 1024, &crate::config::Limits::default());
        let mut relay = registry.accept(HERE).unwrap();
        for state in [State::Held, State::Dialing, State::Relaying] {
            relay.enter(state);
        }
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                for _ in 0..200_000 {
                    let mut other = registry.accept(HERE).unwrap();
                    other.ends(CloseCause::Silent);
                }
            });
            while !others.is_finished() {
                assert!(!registry.is_idle());
            }
        });
        relay.ends(CloseCause::Client);
        drop(relay);
        assert!(registry.is_idle());
    }
}
