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

use tokio::runtime::{Builder, Handle};

/// See the module's head.
#[derive(Debug)]
pub struct Threads(Box<[Handle]>);

impl Threads {
    /// Starts them. They end with the process.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Starts none: clients live on the runtime that this is called in, and end with it.
    #[must_use]
    pub fn here() -> Self {
        Self([Handle::current()].into())
    }

    /// Ends when whatever clients' tasks were doing when this was called has come to its next wait: each thread does one
    /// thing after the other.
    pub async fn settle(&self) {
        let turns: Vec<_> = self.0.iter().map(|thread| thread.spawn(async {})).collect();
        for turn in turns {
            let _ = turn.await; // a thread that is gone does nothing any more
        }
    }

    /// Runs a client's task where the fewest are.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(least) = self.0.iter().min_by_key(|thread| thread.metrics().num_alive_tasks()) {
            least.spawn(task);
        }
    }
}

fn start(number: usize) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("clients-{number}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_put_where_the_fewest_are() {
        let threads = Threads::start().unwrap();
        let alive = || -> Vec<usize> { threads.0.iter().map(|t| t.metrics().num_alive_tasks()).collect() };
        for _ in 0..2 * threads.0.len() {
            threads.spawn(std::future::pending());
        }
        assert!(alive().iter().all(|&clients| clients == 2), "{:?}", alive());
        threads.0[0].spawn(std::future::pending::<()>());
        for _ in 1..threads.0.len() {
            threads.spawn(std::future::pending());
        }
        assert!(alive().iter().all(|&clients| clients == 3), "{:?}", alive());
    }
}
