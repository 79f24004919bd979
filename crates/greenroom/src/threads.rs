//! The threads that clients live on.
//!
//! One for each core, each with a runtime and an epoll set of its own. A client
//! stays where it was put at its accept, for all its life: a message wakes the one
//! thread that carries it, and its sockets' memory stays with one core. In a
//! runtime that all threads share one of them asks the kernel for all, and the
//! others are woken, or steal.
//!
//! What is not a client's own (accepting, the gate and its dials, probes, signals)
//! runs on the house's runtime, so that a relay under load does not make those wait
//! who are let in, nor a crowd that is let in those who are relayed.
//!
//! A client is put where the fewest are. A connection that goes from one thread to
//! another, accepted or dialled, goes unwatched, and is watched where it arrives.

use std::io;

use greenroom_core::limits::CUT_MAX;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::time::timeout;

/// See the module's head.
#[derive(Debug)]
pub struct Threads {
    all: Box<[Handle]>,
    /// Says that they end. Each hears it, until it has ended.
    end: watch::Sender<bool>,
}

impl Threads {
    /// Starts them. They end when they are told to, or with this.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let end = watch::Sender::new(false);
        let all = (0..cores).map(|number| start(number, end.subscribe()));
        let all = all.collect::<io::Result<_>>()?;
        Ok(Self { all, end })
    }

    /// Starts none: clients live on the runtime that this is called in, and end with it.
    #[must_use]
    pub fn here() -> Self {
        Self {
            all: [Handle::current()].into(),
            end: watch::Sender::new(false),
        }
    }

    /// Ends them: every client's task is dropped where it stands, and with it its connections and its entry in the
    /// books. Whoever comes later is dropped at once. Waits for it no longer than `CUT_MAX`.
    pub async fn end(&self) {
        self.end.send_replace(true);
        let _ = timeout(CUT_MAX, self.end.closed()).await; // a thread that does not come to it ends with the process
    }

    /// Ends when whatever clients' tasks were doing when this was called has come to its next wait: each thread does one
    /// thing after the other.
    pub async fn settle(&self) {
        let turns: Vec<_> = self.all.iter().map(|thread| thread.spawn(async {})).collect();
        for turn in turns {
            let _ = turn.await; // a thread that is gone does nothing any more
        }
    }

    /// Runs a client's task where the fewest are.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(least) = self.all.iter().min_by_key(|thread| thread.metrics().num_alive_tasks()) {
            least.spawn(task);
        }
    }
}

fn start(number: usize, mut end: watch::Receiver<bool>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("clients-{number}"))
        .spawn(move || {
            let _ = runtime.block_on(end.wait_for(|is_over| *is_over)); // else nobody is left who could spawn here
            runtime.shutdown_background(); // drops the tasks, here; no look-up of a name is waited for
            drop(end); // only now it has ended
        })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_client_is_put_where_the_fewest_are() {
        let threads = Threads::start().unwrap();
        let alive = || -> Vec<usize> { threads.all.iter().map(|t| t.metrics().num_alive_tasks()).collect() };
        for _ in 0..2 * threads.all.len() {
            threads.spawn(std::future::pending());
        }
        assert!(alive().iter().all(|&clients| clients == 2), "{:?}", alive());
        threads.all[0].spawn(std::future::pending::<()>());
        for _ in 1..threads.all.len() {
            threads.spawn(std::future::pending());
        }
        assert!(alive().iter().all(|&clients| clients == 3), "{:?}", alive());
    }

    #[tokio::test]
    async fn at_the_end_every_task_is_dropped_and_who_comes_later_too() {
        struct Task<'t>(&'t AtomicUsize);
        impl Drop for Task<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        static LEFT: AtomicUsize = AtomicUsize::new(0);
        let threads = Threads::start().unwrap();
        let spawn = || {
            LEFT.fetch_add(1, Ordering::SeqCst);
            let task = Task(&LEFT);
            threads.spawn(async move {
                let _task = task;
                std::future::pending::<()>().await;
            });
        };
        (0..100).for_each(|_| spawn());
        threads.settle().await;
        assert_eq!(LEFT.load(Ordering::SeqCst), 100);
        threads.end().await;
        assert_eq!(LEFT.load(Ordering::SeqCst), 0);
        spawn();
        assert_eq!(LEFT.load(Ordering::SeqCst), 0);
    }
}
