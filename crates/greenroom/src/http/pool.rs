//! Connections to one backend that wait for another plain request.
//!
//! Last in, first out: the youngest is the likeliest to be alive, and a quiet
//! backend gets rid of the others. A connection waits for `POOL_IDLE` at the most,
//! which is less than the servers in use keep one, so that a request hardly ever
//! meets a connection that its backend closes at that moment. Each is looked at
//! once more when it is taken: a backend that said something unasked, or ended its
//! side, is not asked again on it.
//!
//! A connection is watched by the thread that gave it. Whoever takes one prefers those of
//! its own thread; another's is watched anew, so that each answer wakes who waits for it.
//!
//! Bounded by `POOL_MAX` idle connections; those in use are bounded by their clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use greenroom_core::limits::{POOL_IDLE, POOL_MAX};
use greenroom_core::time::Time;

use crate::clock;
use crate::registry::Descriptor;
use crate::stream::{Fresh, Stream};

/// A connection that has carried a request, or may carry one.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) stream: Stream,
    pub(crate) descriptor: Descriptor,
    until: Time,
    /// The thread that watches it.
    home: ThreadId,
}

#[derive(Debug, Default)]
struct Stack {
    idle: Vec<Idle>,
    /// Counts the generations of the backend: what was taken before is not given back after.
    era: u64,
    /// Somebody comes to close what has waited long enough.
    is_swept: bool,
}

impl Stack {
    /// The youngest that is watched here; else the youngest.
    fn pop(&mut self, here: ThreadId) -> Option<Idle> {
        match self.idle.iter().rposition(|idle| idle.home == here) {
            Some(at) => Some(self.idle.remove(at)),
            None => self.idle.pop(),
        }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Stack>);

impl Pool {
    fn stack(&self) -> std::sync::MutexGuard<'_, Stack> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which life of the backend we are: to be given back with a connection.
    pub(crate) fn era(&self) -> u64 {
        self.stack().era
    }

    /// The youngest connection that still lives, and the life of the backend that it belongs to: as far as
    /// the poller has told, or, for a request that cannot be sent again, as far as the kernel knows.
    pub(crate) fn take(&self, may_repeat: bool) -> Option<(Stream, Descriptor, u64)> {
        let (now, here) = (clock::now(), thread::current().id());
        loop {
            let (idle, era) = {
                let mut stack = self.stack();
                (stack.pop(here)?, stack.era)
            };
            let is_quiet = if may_repeat {
                idle.stream.is_quiet()
            } else {
                idle.stream.is_silent()
            };
            if idle.until <= now || !is_quiet {
                continue;
            }
            if idle.home == here {
                return Some((idle.stream, idle.descriptor, era));
            }
            if let Ok(stream) = idle.stream.unwatched().and_then(Fresh::watched) {
                return Some((stream, idle.descriptor, era));
            }
        }
    }

    /// Keeps a connection for another request, if there is room and its backend still lives the same life.
    pub(crate) fn give(self: &Arc<Self>, stream: Stream, descriptor: Descriptor, era: u64) {
        let mut stack = self.stack();
        if stack.era != era || stack.idle.len() >= POOL_MAX {
            return;
        }
        let until = clock::now() + POOL_IDLE;
        stack.idle.push(Idle {
            stream,
            descriptor,
            until,
            home: thread::current().id(),
        });
        if !std::mem::replace(&mut stack.is_swept, true) {
            tokio::spawn(sweep(Arc::clone(self)));
        }
    }

    /// The backend is gone, or another: nothing is kept.
    pub(crate) fn clear(&self) {
        let old = {
            let mut stack = self.stack();
            stack.era += 1;
            std::mem::take(&mut stack.idle)
        };
        drop(old); // closed outside of the lock
    }

    /// Closes what has waited long enough. Says when to come again.
    fn expire(&self) -> Option<Time> {
        let now = clock::now();
        let mut stack = self.stack();
        let over = stack.idle.partition_point(|idle| idle.until <= now);
        let old: Vec<Idle> = stack.idle.drain(..over).collect();
        let next = stack.idle.first().map(|idle| idle.until);
        if next.is_none() {
            stack.is_swept = false;
            stack.idle.shrink_to_fit();
        }
        drop(stack);
        drop(old);
        next
    }
}

async fn sweep(pool: Arc<Pool>) {
    let mut next = Some(clock::now() + POOL_IDLE);
    while next.is_some() {
        clock::until(next).await;
        next = pool.expire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use crate::telemetry::{Format, Log};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    fn descriptor() -> Descriptor {
        Registry::new(Log::start(Format::Json), 1024, &crate::config::Limits::default()).descriptor()
    }

    /// Keeps one connection; its other end.
    fn kept(pool: &Arc<Pool>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        pool.give(Stream::Unix(ours), descriptor(), pool.era());
        theirs
    }

    #[tokio::test]
    async fn the_youngest_is_taken_first_and_each_once() {
        let pool = Arc::new(Pool::default());
        let (_old, mut young) = (kept(&pool), kept(&pool));
        let (taken, _descriptor, _era) = pool.take(true).unwrap();
        young.write_all(b"x").await.unwrap();
        taken.readable().await.unwrap();
        assert_eq!(taken.try_read(&mut [0; 9]).unwrap(), 1);
        assert!(pool.take(false).is_some() && pool.take(true).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_or_said_something_is_not_taken() {
        let pool = Arc::new(Pool::default());
        drop(kept(&pool));
        assert!(
            pool.take(false).is_none(),
            "the kernel knows, be the poller told or not"
        );
        let mut theirs = kept(&pool);
        theirs.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        assert!(pool.take(false).is_none());
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        ours.readable().await.unwrap(); // the poller has told
        pool.give(Stream::Unix(ours), descriptor(), pool.era());
        assert!(pool.take(true).is_none());
    }

    #[tokio::test]
    async fn those_of_the_own_thread_are_taken_first_and_anothers_wakes_whoever_took_it() {
        let pool = Arc::new(Pool::default());
        let mut first = kept(&pool);
        let theirs = Arc::clone(&pool);
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let other = runtime.block_on(async { kept(&theirs).into_std().unwrap() });
            (other, runtime) // which nobody drives any more
        });
        let (other, asleep) = elsewhere.join().unwrap();
        let mut other = UnixStream::from_std(other).unwrap();
        for theirs in [&mut first, &mut other] {
            let (taken, _descriptor, _era) = pool.take(false).unwrap();
            theirs.write_all(b"x").await.unwrap();
            let readable = tokio::time::timeout(std::time::Duration::from_secs(10), taken.readable());
            readable.await.unwrap().unwrap();
            assert_eq!(taken.try_read(&mut [0; 9]).unwrap(), 1);
        }
        asleep.shutdown_background();
    }

    #[tokio::test]
    async fn so_many_are_kept_and_no_more() {
        let pool = Arc::new(Pool::default());
        let others: Vec<_> = (0..=POOL_MAX).map(|_| kept(&pool)).collect();
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(true)).collect();
        assert_eq!((others.len(), taken.len()), (POOL_MAX + 1, POOL_MAX));
    }

    #[tokio::test]
    async fn nothing_of_a_backends_earlier_life_is_kept() {
        let pool = Arc::new(Pool::default());
        let (_theirs, era) = (kept(&pool), pool.era());
        pool.clear();
        assert!(pool.take(true).is_none());
        let (ours, _other) = UnixStream::pair().unwrap();
        pool.give(Stream::Unix(ours), descriptor(), era);
        assert!(pool.take(true).is_none(), "it was dialled before");
    }

    #[tokio::test]
    async fn what_has_waited_too_long_is_not_taken_and_is_swept() {
        let pool = Arc::new(Pool::default());
        let _theirs = kept(&pool);
        pool.stack().idle[0].until = Time::ZERO;
        assert!(pool.take(true).is_none());
        let _theirs = (kept(&pool), kept(&pool));
        pool.stack().idle[0].until = Time::ZERO;
        let next = pool.expire();
        assert_eq!(pool.stack().idle.len(), 1);
        assert_eq!(next, Some(pool.stack().idle[0].until));
        pool.stack().idle[0].until = Time::ZERO;
        assert_eq!(pool.expire(), None);
        assert!(!pool.stack().is_swept, "the next that is kept calls the sweeper again");
    }
}
