//! How long a connection to an admin door may stay: `ADMIN_IDLE`, but an event stream as long as it is read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use greenroom_core::limits::ADMIN_IDLE;
use tokio::sync::Notify;

use crate::telemetry::ring::Watching;

/// See the module's head. In a handler it is an argument.
#[derive(Clone, Debug, Default)]
pub(super) struct Stay(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The places of the streams on this connection: theirs until all is written to it.
    places: Mutex<Vec<Watching>>,
    over: Notify,
}

impl<S: Sync> FromRequestParts<S> for Stay {
    type Rejection = Infallible;

    /// What the door has put there with the connection.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl Stay {
    /// A stream begins.
    pub(super) fn streams(&self, place: Watching) {
        self.places().push(place);
    }

    /// Whether a stream is open.
    pub(super) fn is_streaming(&self) -> bool {
        !self.places().is_empty()
    }

    /// Its streams' places are free again when what is returned is dropped, with the connection.
    pub(super) fn until_dropped(&self) -> Places {
        Places(self.clone())
    }

    fn places(&self) -> MutexGuard<'_, Vec<Watching>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its connection is to be closed: who reads it is dead.
    pub(super) fn end(&self) {
        self.0.over.notify_one();
    }

    /// Ends when the connection has stayed as long as it may.
    pub(super) async fn over(&self) {
        loop {
            tokio::select! {
                () = self.0.over.notified() => return,
                () = tokio::time::sleep(ADMIN_IDLE) => {}
            }
            if !self.is_streaming() {
                return;
            }
        }
    }
}

/// See [`Stay::until_dropped`].
pub(super) struct Places(Stay);

impl Drop for Places {
    fn drop(&mut self) {
        let places = std::mem::take(&mut *self.0.places());
        drop(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Format, Log};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_connection_stays_its_time_and_with_a_stream_until_its_reader_is_dead() {
        let began = Instant::now();
        Stay::default().over().await;
        assert_eq!(began.elapsed(), ADMIN_IDLE);

        let (stay, log) = (Stay::default(), Log::start(Format::Json));
        stay.streams(log.ring().watch().unwrap());
        let places = stay.until_dropped();
        let long = tokio::time::timeout(100 * ADMIN_IDLE, stay.over());
        assert!(long.await.is_err(), "it is read");
        stay.end();
        let began = Instant::now();
        stay.over().await;
        assert!(began.elapsed().is_zero());
        drop(places);
        assert!(!stay.is_streaming());
    }
}
