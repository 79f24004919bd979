//! `http:/path` and `websocket:/path`: asks as a client would.
//!
//! Only the head of an answer is read, and at most
//! [`limits::BACKEND_HEAD_MAX`] of it. No redirect is followed. A WebSocket that
//! was opened is watched for [`limits::SETTLE`], then closed politely beside the
//! verdict, for at most [`limits::PROBE_CLOSE`], one at a time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_core::limits;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Why;
use super::dial::{Connection, Dialer, why};
use crate::config::Address;

const USER_AGENT: &str = "greenroom-probe";
/// RFC 6455 §1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The probe `http`.
#[derive(Debug)]
pub(super) struct Http {
    dialer: Dialer,
    request: String,
}

impl Http {
    pub(super) fn new(address: &Address, path: &str, host: Option<&str>) -> Self {
        let host = host_of(address, host);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        Self {
            dialer: Dialer::new(address),
            request,
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let mut stream = self.dialer.connection().await?;
        let answer = ask(&mut stream, &self.request).await?;
        match answer.status {
            200..=399 => Ok(()),
            status => Err(Why::Status(status)),
        }
    }
}

/// The probe `websocket`.
#[derive(Debug)]
pub(super) struct WebSocket {
    dialer: Dialer,
    path: String,
    host: String,
    /// The WebSocket of the last look, while it is being closed; ends with the probe.
    closing: JoinSet<()>,
}

impl WebSocket {
    pub(super) fn new(address: &Address, path: &str, host: Option<&str>) -> Self {
        Self {
            dialer: Dialer::new(address),
            path: path.to_owned(),
            host: host_of(address, host),
            closing: JoinSet::new(),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        self.closing.abort_all();
        while self.closing.join_next().await.is_some() {}
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|_| Why::Failed(std::io::ErrorKind::Other))?;
        let (key, mask) = random.split_at(16);
        let key = BASE64.encode(key);
        let (path, host) = (&self.path, &self.host);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let mut stream = self.dialer.connection().await?;
        let answer = ask(&mut stream, &request).await?;
        answer.check_upgrade(&key)?;
        let mut bytes = answer.rest;
        let settled = timeout(limits::SETTLE, settle(&mut stream, &mut bytes)).await;
        settled.unwrap_or(Ok(()))?; // quiet for so long: that is what was hoped for
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        self.closing.spawn(async move {
            let _ = timeout(limits::PROBE_CLOSE, say_goodbye(stream, mask)).await;
        });
        Ok(())
    }
}

/// The Host of a request: without a name for it, `localhost` on a Unix socket.
fn host_of(address: &Address, given: Option<&str>) -> String {
    match (given, address) {
        (Some(host), _) => host.to_owned(),
        (None, Address::Tcp { .. }) => address.to_string(),
        (None, Address::Unix(_)) => "localhost".to_owned(),
    }
}

/// The final answer to a request, and what came behind its head.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    rest: Vec<u8>,
}

impl Answer {
    /// Whether it is the 101 to an opening handshake with this key (RFC 6455 §4.1).
    fn check_upgrade(&self, key: &str) -> Result<(), Why> {
        if self.status != 101 {
            return Err(Why::Status(self.status));
        }
        let mut hash = Sha1::new();
        hash.update(key.as_bytes());
        hash.update(ACCEPT_GUID);
        let accept = BASE64.encode(hash.finalize());
        if !self
            .only("upgrade")
            .is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"))
        {
            return Err(Why::Nonsense("a 101 without Upgrade: websocket"));
        }
        let tokens = self.all("connection").flat_map(|value| value.split(|&b| b == b','));
        if !tokens
            .map(<[u8]>::trim_ascii)
            .any(|t| t.eq_ignore_ascii_case(b"upgrade"))
        {
            return Err(Why::Nonsense("a 101 without Connection: Upgrade"));
        }
        if self.only("sec-websocket-accept") != Some(accept.as_bytes()) {
            return Err(Why::Nonsense("a 101 with a wrong Sec-WebSocket-Accept"));
        }
        if self
            .all("sec-websocket-extensions")
            .chain(self.all("sec-websocket-protocol"))
            .next()
            .is_some()
        {
            return Err(Why::Nonsense(
                "a 101 with an extension or subprotocol that was not offered",
            ));
        }
        Ok(())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .fields
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim_ascii())
    }

    fn only<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }
}

/// Sends a request and reads the head of its final answer.
///
/// To be merged with the parser of backend heads in [`crate::head`]: this is the one place to change.
async fn ask(stream: &mut Box<dyn Connection>, request: &str) -> Result<Answer, Why> {
    stream.write_all(request.as_bytes()).await.map_err(|e| lost(&e))?;
    let mut bytes = Vec::new();
    let mut interim = 0;
    loop {
        // What came is looked at before more is read: interim answers come together with the final one.
        while let Some(answer) = read_head(&bytes)? {
            if answer.status >= 200 || answer.status == 101 {
                return Ok(answer);
            }
            interim += 1;
            if interim > limits::INTERIM_MAX {
                return Err(Why::Nonsense("too many interim answers"));
            }
            bytes = answer.rest;
        }
        if bytes.len() >= limits::BACKEND_HEAD_MAX {
            return Err(Why::Nonsense("the head is too long"));
        }
        let room = limits::BACKEND_HEAD_MAX - bytes.len();
        let mut limited = (&mut *stream).take(room as u64);
        if limited.read_buf(&mut bytes).await.map_err(|e| lost(&e))? == 0 {
            return Err(Why::NoAnswer);
        }
    }
}

/// Reads a head, if it is complete.
fn read_head(bytes: &[u8]) -> Result<Option<Answer>, Why> {
    let mut fields = [httparse::EMPTY_HEADER; limits::HEADERS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Why::Nonsense("not an HTTP/1 answer")),
    };
    Ok(Some(Answer {
        status: head.code.unwrap_or(0),
        fields: head
            .headers
            .iter()
            .map(|field| (field.name.to_owned(), field.value.to_vec()))
            .collect(),
        rest: bytes.get(length..).unwrap_or_default().to_vec(),
    }))
}

/// What an error while asking means: a reset is no answer.
fn lost(error: &std::io::Error) -> Why {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Why::NoAnswer,
        _ => why(error),
    }
}

/// Watches a WebSocket just opened until it shows what it is worth; the caller bounds the time.
async fn settle(stream: &mut Box<dyn Connection>, bytes: &mut Vec<u8>) -> Result<(), Why> {
    loop {
        match first_sign(bytes) {
            Sign::Good => return Ok(()),
            Sign::Closed(code) => return Err(Why::ClosedEarly(code)),
            Sign::Bad => return Err(Why::Nonsense("not a WebSocket frame")),
            Sign::None if bytes.len() >= limits::PROBE_FRAMES_MAX => return Ok(()), // so many pings: it lives
            Sign::None => {}
        }
        let room = limits::PROBE_FRAMES_MAX - bytes.len();
        let mut limited = (&mut *stream).take(room as u64);
        match limited.read_buf(bytes).await {
            Ok(0) | Err(_) => return Err(Why::LostEarly),
            Ok(_) => {}
        }
    }
}

/// What the first frames of a backend say.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// Nothing yet, or only pings.
    None,
    /// A data frame, or a Close by the application.
    Good,
    /// A Close that says: not ready.
    Closed(u16),
    /// No frame that a server may send.
    Bad,
}

fn first_sign(mut bytes: &[u8]) -> Sign {
    loop {
        let &[first, second, ref rest @ ..] = bytes else {
            return Sign::None;
        };
        let length = usize::from(second & 0x7f);
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return Sign::Bad; // masked, or an extension that was not offered
        }
        match first {
            0x01 | 0x02 | 0x81 | 0x82 => return Sign::Good,
            0x88..=0x8a if length > 125 => return Sign::Bad,
            0x88..=0x8a => {}
            _ => return Sign::Bad,
        }
        let Some(payload) = rest.get(..length) else {
            return Sign::None;
        };
        if first == 0x88 {
            return match payload {
                [] => Sign::Good,
                [_] => Sign::Bad,
                &[high, low, ..] => match u16::from_be_bytes([high, low]) {
                    code @ 1011..=1013 => Sign::Closed(code),
                    _ => Sign::Good,
                },
            };
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
}

/// Sends a Close and waits until the backend has closed.
async fn say_goodbye(mut stream: Box<dyn Connection>, mask: [u8; 4]) {
    let [high, low] = 1000_u16.to_be_bytes();
    let [m0, m1, m2, m3] = mask;
    if stream
        .write_all(&[0x88, 0x82, m0, m1, m2, m3, high ^ m0, low ^ m1])
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

    /// The example of RFC 6455 §1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";

    fn check(text: &str) -> Result<(), Why> {
        read_head(text.as_bytes()).unwrap().unwrap().check_upgrade(KEY)
    }

    #[test]
    fn only_the_right_101_is_an_upgrade() {
        assert_eq!(check(GOOD), Ok(()));
        assert_eq!(read_head(GOOD.as_bytes()).unwrap().unwrap().rest, b"rest");
        for (from, to) in [
            ("s3pP", "S3pP"),
            ("Upgrade: WebSocket\r\n", ""),
            ("Upgrade: WebSocket", "Upgrade: h2c"),
            ("Upgrade: WebSocket", "Upgrade: websocket\r\nUpgrade: websocket"),
            ("keep-alive, upgrade", "keep-alive"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        ] {
            assert!(
                matches!(check(&GOOD.replace(from, to)), Err(Why::Nonsense(_))),
                "{from} -> {to}"
            );
        }
        assert_eq!(check(&GOOD.replace("101", "200")), Err(Why::Status(200)));
    }

    #[test]
    fn the_first_frames_are_read_as_they_come() {
        assert_eq!(first_sign(&[]), Sign::None);
        assert_eq!(first_sign(&[0x88]), Sign::None);
        assert_eq!(first_sign(&[0x88, 2, 0x03]), Sign::None);
        assert_eq!(first_sign(&[0x88, 2, 0x03, 0xf3]), Sign::Closed(1011));
        assert_eq!(first_sign(&[0x89, 1, b'x', 0x88, 2, 0x03, 0xf5]), Sign::Closed(1013));
        assert_eq!(first_sign(&[0x88, 2, 0x03, 0xf0]), Sign::Good);
        assert_eq!(first_sign(&[0x88, 0]), Sign::Good);
        assert_eq!(first_sign(&[0x81, 126]), Sign::Good);
        for bad in [
            [0x88, 1, 3],
            [0x88, 0x82, 3],
            [0xc1, 1, 3],
            [0x83, 1, 3],
            [0x89, 126, 0],
            [0x80, 1, 3],
        ] {
            assert_eq!(first_sign(&bad), Sign::Bad, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
            let _ = first_sign(&bytes);
            let _ = read_head(&bytes);
        }
    }
}
