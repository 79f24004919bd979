//! `websocket:/path`: opens a WebSocket as a client would.
//!
//! It is watched for [`limits::SETTLE`], with a ping until its pong is there, then closed
//! politely beside the verdict, for at most [`limits::PROBE_CLOSE`], one at a time. Of what
//! the server sends meanwhile [`limits::CHECK_BODY_MAX`] bytes are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_core::limits;
use greenroom_core::wire::{CloseCode, Scanner, Sender, Stop, close_frame, ping_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::Why;
use super::dial::{Connection, Dialer};
use super::http::{self, USER_AGENT, host_of};
use super::talk::Talk;
use crate::config::Address;

/// Bytes of a ping's payload: nobody sends the same in a pong of his own accord.
const PAYLOAD: usize = 8;

/// The probe `websocket`.
#[derive(Debug)]
pub(super) struct WebSocket {
    dialer: Dialer,
    path: String,
    host: String,
    ping: bool,
    /// The WebSocket of the last look, while it is being closed; ends with the probe.
    closing: JoinSet<()>,
}

impl WebSocket {
    pub(super) fn new(address: &Address, path: &str, host: Option<&str>, ping: bool) -> Self {
        Self {
            dialer: Dialer::new(address),
            path: path.to_owned(),
            host: host_of(address, host),
            ping,
            closing: JoinSet::new(),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        self.closing.abort_all();
        while self.closing.join_next().await.is_some() {}
        let (key, mask, payload): ([u8; 16], [u8; 4], [u8; PAYLOAD]) = (random()?, random()?, random()?);
        let key = BASE64.encode(key);
        let (path, host) = (&self.path, &self.host);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let asked = http::asked(&request)?;
        let mut talk = Talk::new(self.dialer.connection().await?);
        talk.send(request.as_bytes()).await?;
        match http::answer(&mut talk, &asked).await?.status {
            101 => {}
            status => return Err(Why::Status(status)),
        }
        if self.ping {
            talk.send(&ping_frame(&payload, Some(mask))).await?;
        }
        settle(&mut talk, self.ping.then_some(payload)).await?;
        self.closing.spawn(async move {
            let _ = timeout(limits::PROBE_CLOSE, say_goodbye(talk.into_stream(), mask)).await;
        });
        Ok(())
    }
}

fn random<const N: usize>() -> Result<[u8; N], Why> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Why::Failed(std::io::ErrorKind::Other))?;
    Ok(bytes)
}

/// Watches a WebSocket just opened until it shows what it is worth; the caller bounds the time.
async fn settle(talk: &mut Talk, pinged: Option<[u8; PAYLOAD]>) -> Result<(), Why> {
    let until = Instant::now() + limits::SETTLE;
    let mut signs = Signs::new(pinged);
    loop {
        match signs.take(talk.there()) {
            Some(end) => return end,
            None => talk.take(talk.there().len()),
        }
        let read = if signs.is_answered() {
            match timeout_at(until, talk.more()).await {
                Ok(read) => read,
                Err(_) => return Ok(()), // quiet for so long: that is what was hoped for
            }
        } else {
            talk.more().await
        };
        match read {
            Ok(true) => {}
            Err(Why::TooLong) if signs.is_answered() => return Ok(()), // so many pings: it lives
            Err(Why::TooLong) => return Err(Why::TooLong),
            Ok(false) | Err(_) => return Err(Why::LostEarly),
        }
    }
}

/// What the first frames of a backend say.
struct Signs {
    scanner: Scanner,
    /// The pong that is waited for, as it comes over the wire.
    pong: Option<Vec<u8>>,
    /// The last bytes before those that come next.
    tail: Vec<u8>,
    spoke: bool,
}

impl Signs {
    fn new(pinged: Option<[u8; PAYLOAD]>) -> Self {
        let pong = pinged.map(|payload| [&[0x8a, PAYLOAD as u8][..], &payload].concat()); // 8 fits
        Self {
            scanner: Scanner::new(Sender::Backend, false),
            pong,
            tail: Vec::new(),
            spoke: false,
        }
    }

    /// Whether no pong is waited for (any more).
    fn is_answered(&self) -> bool {
        self.pong.is_none()
    }

    /// Takes the next bytes; says how it ends as soon as that is clear.
    fn take(&mut self, bytes: &[u8]) -> Option<Result<(), Why>> {
        let scan = self.scanner.scan(bytes);
        self.spoke |= scan.data;
        if let Some(pong) = &self.pong {
            self.tail.extend_from_slice(bytes);
            if self.tail.windows(pong.len()).any(|window| window == pong.as_slice()) {
                self.pong = None;
            }
            let old = self.tail.len().saturating_sub(2 + PAYLOAD);
            self.tail.drain(..old);
        }
        match scan.stop {
            Some(Stop::Violation(_)) => Some(Err(Why::Nonsense("not a WebSocket frame"))),
            Some(Stop::Close(seen)) => Some(match seen.code.map(CloseCode::get) {
                Some(code @ 1011..=1013) => Err(Why::ClosedEarly(code)),
                Some(_) | None if self.is_answered() => Ok(()),
                Some(_) | None => Err(Why::LostEarly),
            }),
            None if self.spoke && self.is_answered() => Some(Ok(())),
            None => None,
        }
    }
}

/// Sends a Close and waits until the backend has closed.
async fn say_goodbye(mut stream: Box<dyn Connection>, mask: [u8; 4]) {
    if stream
        .write_all(&close_frame(CloseCode::NORMAL, "", Some(mask)))
        .await
        .is_err()
    {
        return;
    }
    let mut scratch = [0; 512];
    while matches!(stream.read(&mut scratch).await, Ok(read) if read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sign(bytes: &[u8], pinged: Option<[u8; PAYLOAD]>) -> Option<Result<(), Why>> {
        // In one piece and byte by byte: frames come as the network likes.
        let whole = Signs::new(pinged).take(bytes);
        let mut signs = Signs::new(pinged);
        let pieces = bytes.iter().find_map(|byte| signs.take(&[*byte]));
        assert_eq!(whole, pieces, "{bytes:x?}");
        whole
    }

    #[test]
    fn the_first_frames_are_read_as_they_come() {
        let nothing_yet: [&[u8]; 4] = [&[], &[0x88], &[0x88, 2, 0x03], &[0x89, 1, b'x']];
        for bytes in nothing_yet {
            assert_eq!(sign(bytes, None), None, "{bytes:x?}");
        }
        assert_eq!(sign(&[0x88, 2, 0x03, 0xf3], None), Some(Err(Why::ClosedEarly(1011))));
        let pinged_before = [0x89, 1, b'x', 0x88, 2, 0x03, 0xf5];
        assert_eq!(sign(&pinged_before, None), Some(Err(Why::ClosedEarly(1013))));
        let good: [&[u8]; 3] = [&[0x88, 2, 0x03, 0xf0], &[0x88, 0], &[0x81, 0]];
        for bytes in good {
            assert_eq!(sign(bytes, None), Some(Ok(())), "{bytes:x?}");
        }
        let bad: [&[u8]; 5] = [&[0x88, 1, 3], &[0x88, 0x82, 3], &[0xc1, 1], &[0x83, 1], &[0x80, 1]];
        for bytes in bad {
            assert_eq!(
                sign(bytes, None),
                Some(Err(Why::Nonsense("not a WebSocket frame"))),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn only_the_pong_to_this_ping_is_its_answer() {
        let pinged = Some(*b"12345678");
        assert_eq!(sign(b"\x8a\x08abcdefgh\x8a\x00\x81\x02hi", pinged), None);
        assert_eq!(sign(b"\x81\x02hi\x8a\x0812345678", pinged), Some(Ok(())));
        assert_eq!(sign(b"\x88\x02\x03\xe8", pinged), Some(Err(Why::LostEarly)));
        let mut signs = Signs::new(pinged);
        assert!(
            signs.take(b"\x8a\x0812345678").is_none() && signs.is_answered(),
            "then it settles"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, ping: bool) {
            let _ = Signs::new(ping.then_some([7; PAYLOAD])).take(&bytes);
        }
    }
}
