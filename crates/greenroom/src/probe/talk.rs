//! One conversation with a server: sends, and reads in bounds.
//!
//! At most [`limits::CHECK_BODY_MAX`] bytes are read in a look, whatever the server sends;
//! the time is bounded by the caller.

use greenroom_core::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Why;
use super::dial::{Connection, why};

/// What an error while talking means: a reset is no answer.
pub(super) fn lost(error: &std::io::Error) -> Why {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Why::NoAnswer,
        _ => why(error),
    }
}

/// A connection and what came over it.
pub(super) struct Talk {
    stream: Box<dyn Connection>,
    bytes: Vec<u8>,
    /// So many of them were taken.
    taken: usize,
}

impl Talk {
    pub(super) fn new(stream: Box<dyn Connection>) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            taken: 0,
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Why> {
        self.stream.write_all(bytes).await.map_err(|error| lost(&error))
    }

    /// What came and was not taken yet.
    pub(super) fn there(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes the first `count` bytes of what is there.
    pub(super) fn take(&mut self, count: usize) {
        self.taken = self.bytes.len().min(self.taken + count);
    }

    /// Reads more; false at the end of what the server sends.
    pub(super) async fn more(&mut self) -> Result<bool, Why> {
        let room = limits::CHECK_BODY_MAX.saturating_sub(self.bytes.len());
        if room == 0 {
            return Err(Why::TooLong);
        }
        let mut limited = (&mut self.stream).take(room as u64);
        let read = limited.read_buf(&mut self.bytes).await.map_err(|error| lost(&error))?;
        Ok(read > 0)
    }

    /// Reads more, and must get it.
    pub(super) async fn must_get_more(&mut self) -> Result<(), Why> {
        if self.more().await? { Ok(()) } else { Err(Why::NoAnswer) }
    }

    /// The next line, without its CR LF.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, Why> {
        loop {
            if let Some(at) = self.there().windows(2).position(|two| two == b"\r\n") {
                let line = self.there().get(..at).unwrap_or_default().to_vec();
                self.take(at + 2);
                return Ok(line);
            }
            self.must_get_more().await?;
        }
    }

    /// The next `count` bytes.
    pub(super) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Why> {
        loop {
            if let Some(bytes) = self.there().get(..count) {
                let bytes = bytes.to_vec();
                self.take(count);
                return Ok(bytes);
            }
            self.must_get_more().await?;
        }
    }

    /// The connection again; what came and was not taken is dropped.
    pub(super) fn into_stream(self) -> Box<dyn Connection> {
        self.stream
    }
}
