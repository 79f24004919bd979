//! Looks a backend's name up, beside its owner task.
//!
//! An owner task that waited for a resolver would keep deadlines and refusals
//! waiting with it. So a task of its own asks, when it is wanted to: one look-up at
//! a time, at most every `RESOLVE_EVERY`; one that takes longer than
//! `RESOLVE_TIMEOUT` counts as failed, and is waited for all the same. The owner
//! takes what was found last, which may be old: a name that cannot be looked up now
//! is no reason to forget where it led. A failure is told once, until a look-up
//! succeeds again.
//!
//! Numbers and Unix paths are known from the start: no task, no wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use greenroom_core::limits::{RESOLVE_EVERY, RESOLVE_TIMEOUT};
use greenroom_core::time::Time;
use socket2::SockAddr;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::clock;
use crate::config::Address;
use crate::telemetry::Log;

/// What is known of a backend's addresses.
#[derive(Clone, Debug, Default)]
struct Found {
    /// As found by the last look-up that found any.
    addresses: Arc<[SockAddr]>,
    /// When the last look-up ended, well or not.
    answered: Option<Time>,
}

impl Found {
    fn is_old(&self) -> bool {
        self.answered.is_none_or(|at| clock::now() >= at + RESOLVE_EVERY)
    }
}

/// The addresses of one backend. See the module's head.
#[derive(Clone, Debug)]
pub struct Names {
    found: watch::Receiver<Found>,
    /// Tells the task; none where there is nothing to look up.
    wanted: Option<Arc<Notify>>,
}

impl Names {
    /// Of this address. A name is looked up at once; needs a runtime then.
    #[must_use]
    pub fn new(address: &Address, log: Log) -> Self {
        let numbers = address.numbers();
        let fixed: Vec<SockAddr> = match address {
            Address::Unix(path) => SockAddr::unix(path).into_iter().collect(),
            Address::Tcp { .. } if !numbers.is_empty() => numbers.into_iter().map(SockAddr::from).collect(),
            Address::Tcp { host, port } => {
                let (name, port) = (host.clone(), *port);
                return Self::looked_up(host.clone(), log, move || {
                    let name = name.clone();
                    async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }
                });
            }
        };
        let found = Found {
            addresses: fixed.into(),
            answered: None,
        };
        Self {
            found: watch::channel(found).1,
            wanted: None,
        }
    }

    /// Of a name, with a way to look it up.
    pub(crate) fn looked_up<F>(name: String, log: Log, look_up: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let (sender, found) = watch::channel(Found::default());
        let wanted = Arc::new(Notify::new());
        wanted.notify_one(); // so that an answer is there when the first dial comes
        let task = Resolver {
            name,
            log,
            failing: false,
            found: sender,
        };
        tokio::spawn(task.run(Arc::clone(&wanted), look_up));
        Self {
            found,
            wanted: Some(wanted),
        }
    }

    /// The addresses as they are known now, and asks for newer ones if these are old. `None`: the
    /// resolver has not answered yet; [`Names::changed`] ends when it has.
    pub fn get(&self) -> Option<Arc<[SockAddr]>> {
        let found = self.found.borrow();
        let Some(wanted) = &self.wanted else {
            return Some(Arc::clone(&found.addresses));
        };
        let old = found.is_old();
        if old {
            wanted.notify_one();
        }
        (!found.addresses.is_empty() || !old).then(|| Arc::clone(&found.addresses))
    }

    /// Waits until a look-up has ended.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending::<()>().await; // nothing to look up
        }
    }
}

/// The task that asks.
struct Resolver {
    name: String,
    log: Log,
    /// It was told that it fails.
    failing: bool,
    found: watch::Sender<Found>,
}

impl Resolver {
    async fn run<F>(mut self, wanted: Arc<Notify>, look_up: impl Fn() -> F)
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut flight = None;
        loop {
            tokio::select! {
                () = wanted.notified() => {}
                () = self.found.closed() => return, // the owner task is gone
            }
            if flight.is_none() && !self.found.borrow().is_old() {
                continue; // it was asked for again while the answer was on its way
            }
            let landing = flight.get_or_insert_with(|| tokio::spawn(look_up()));
            match timeout(RESOLVE_TIMEOUT, &mut *landing).await {
                Ok(landed) => {
                    flight = None;
                    match landed {
                        Ok(Ok(found)) if !found.is_empty() => self.succeeded(found),
                        Ok(Ok(_)) => self.failed("it has no address"),
                        Ok(Err(error)) => self.failed(&error.to_string()),
                        Err(fault) => self.failed(&fault.to_string()),
                    }
                }
                Err(_) => self.failed(&format!("no answer within {RESOLVE_TIMEOUT:?}")),
            }
        }
    }

    fn succeeded(&mut self, found: Vec<SocketAddr>) {
        self.failing = false;
        let addresses = found.into_iter().map(SockAddr::from).collect();
        let answered = Some(clock::now());
        self.found.send_replace(Found { addresses, answered });
    }

    fn failed(&mut self, why: &str) {
        self.found.send_modify(|found| found.answered = Some(clock::now()));
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        let meanwhile = if self.found.borrow().addresses.is_empty() {
            "clients wait"
        } else {
            "the addresses that were found last are used"
        };
        self.log.warn(format!(
            "cannot look up {:?}, the host of --backend: {why}; {meanwhile}. Check the name and the \
             resolver of this machine (/etc/resolv.conf), or give an IP address",
            self.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::telemetry::Format;

    const AT: ([u8; 4], u16) = ([127, 0, 0, 1], 7);

    fn names<F>(look_up: impl Fn() -> F + Send + 'static) -> Names
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Names::looked_up("backend.test".into(), Log::start(Format::Json), look_up)
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once_while_its_answer_is_fresh() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let mut names = names(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(vec![AT.into()]) }
        });
        assert!(names.get().is_none(), "nobody waits for it here");
        names.changed().await;
        for _ in 0..100 {
            assert_eq!(names.get().unwrap().len(), 1);
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_counts_as_failed_is_not_doubled_and_is_taken_when_it_ends() {
        let asked = Arc::new(AtomicU32::new(0));
        let (count, gate) = (Arc::clone(&asked), Arc::new(Notify::new()));
        let ends = Arc::clone(&gate);
        let mut names = names(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let ends = Arc::clone(&ends);
            async move {
                ends.notified().await;
                Ok(vec![AT.into()])
            }
        });
        names.changed().await;
        assert_eq!(names.get().map(|found| found.len()), Some(0), "no route, for now");
        names.wanted.as_ref().unwrap().notify_one();
        gate.notify_one();
        names.changed().await;
        assert_eq!(names.get().map(|found| found.len()), Some(1));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_addresses_found_last_are_used_while_look_ups_fail() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let mut names = names(move || {
            let good = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if good {
                    Ok(vec![AT.into()])
                } else {
                    Err(io::Error::other("the resolver is gone"))
                }
            }
        });
        names.changed().await;
        while asked.load(Ordering::SeqCst) < 2 {
            assert_eq!(names.get().unwrap().len(), 1);
            let _ = timeout(RESOLVE_EVERY / 10, names.changed()).await; // old enough to be asked for again
        }
        assert_eq!(names.get().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn numbers_and_paths_are_known_at_once() {
        for (address, count) in [("127.0.0.1:7", 1), ("localhost:7", 2), ("[::1]:7", 1), ("unix:/x", 1)] {
            let names = Names::new(&address.parse().unwrap(), Log::start(Format::Json));
            assert_eq!(names.get().map(|found| found.len()), Some(count), "{address}");
        }
    }
}
