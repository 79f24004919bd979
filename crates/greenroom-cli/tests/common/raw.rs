//! Peers that say exactly what a test tells them to: raw clients, and backends in the test's own process.
//!
//! Nothing here knows the protocol better than the byte strings of a test: a
//! [`Stub`] accepts, a [`Raw`] reads and writes, and all reading has a deadline.
//! [`Front`] is `greenroom serve` before such a stub.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::Greenroom;

/// How long anything that must come may take, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// The key of RFC 6455 §1.3, and what answers it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An opening request; `extra` are whole lines with their CR LF.
pub fn upgrade(extra: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: example.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

/// The answer to it; `extra` as for [`upgrade`].
pub fn switching(extra: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{extra}\r\n"
    )
}

/// The value of a field in a head, `None` if it is not there; panics if it is there twice.
pub fn field(head: &str, name: &str) -> Option<String> {
    let mut found = head.split("\r\n").skip(1).filter_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    let first = found.next();
    assert_eq!(found.next(), None, "{name} is there twice:\n{head}");
    first
}

/// A frame of a backend; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    framed(first, payload, None)
}

/// A frame of a client.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    framed(first, payload, Some([0x37, 0xfa, 0x21, 0x3d]))
}

fn framed(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = header(first, payload.len() as u64, mask.is_some());
    out.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The first bytes of a frame with such a length, up to where a mask would stand.
pub fn header(first: u8, length: u64, masked: bool) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => out.push(bit | short),
        (_, Ok(middle)) => {
            out.push(bit | 126);
            out.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(bit | 127);
            out.extend(length.to_be_bytes());
        }
    }
    out
}

/// The payload of a Close.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// One end of a connection.
#[derive(Debug)]
pub struct Raw(pub TcpStream);

impl Raw {
    /// As it comes from `accept` or `connect`.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self(stream)
    }

    /// A client.
    pub fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// A client from another address of this machine: 127.0.0.`last`.
    pub fn connect_from(last: u8, address: &str) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let own = SocketAddr::from(([127, 0, 0, last], 0));
        socket.bind(&own.into()).unwrap();
        socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        Self::new(TcpStream::from(socket))
    }

    /// Writes all of it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes what the other end will take; it may have had enough.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// Writes each byte by itself.
    pub fn send_by_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Ends this direction.
    pub fn fin(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// So many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0
            .read_exact(&mut bytes)
            .unwrap_or_else(|error| panic!("{count} bytes were to come: {error}"));
        bytes
    }

    /// A head, up to its empty line and not a byte further.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = self.0.read(&mut byte);
            assert!(
                matches!(read, Ok(1)),
                "{read:?} within a head: {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// A frame: its first byte and its payload as it came (an own mask is taken off).
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let start = self.exactly(2);
        let length = match start[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(self.exactly(2).try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.exactly(8).try_into().unwrap())).unwrap(),
            short => usize::from(short),
        };
        let mask = if start[1] & 0x80 == 0 { vec![0] } else { self.exactly(4) };
        let payload = self.exactly(length);
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
        (start[0], payload.collect())
    }

    /// A Close: its code (1005 for none) and reason.
    pub fn close_frame(&mut self) -> (u16, String) {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "not a Close: {payload:?}");
        match payload.split_at_checked(2) {
            Some((code, reason)) => (
                u16::from_be_bytes(code.try_into().unwrap()),
                String::from_utf8(reason.to_vec()).unwrap(),
            ),
            None => (1005, String::new()),
        }
    }

    /// All that still comes up to a FIN; a reset is a failure.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = self.0.read_to_end(&mut bytes);
        assert!(
            read.is_ok(),
            "{read:?} after {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(400)])
        );
        bytes
    }

    /// All that still comes, up to a FIN or a reset.
    pub fn rest_or_reset(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        bytes
    }

    /// Whether nothing has come for `time`. This is no wait for a condition: it looks for what must not be.
    pub fn silent_for(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let read = self.0.peek(&mut [0]);
        self.0.set_read_timeout(Some(SOON)).unwrap();
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Whether something to read is there, an end included.
    pub fn has_bytes(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until the other end is closed, by a FIN or a reset; nothing may come before it.
    pub fn closed(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.rest_or_reset()), "");
    }

    /// An answer with a length: its head and its body. The connection may go on.
    pub fn answer_with_length(&mut self) -> (String, String) {
        let head = self.head();
        let length = field(&head, "content-length").unwrap_or_else(|| panic!("no length: {head}"));
        let body = self.exactly(length.parse().unwrap());
        (head, String::from_utf8(body).unwrap())
    }

    /// A whole answer: its head, and what follows up to the FIN.
    pub fn answer(&mut self) -> (String, String) {
        let head = self.head();
        (head, String::from_utf8(self.rest()).unwrap())
    }
}

/// A backend of which the test writes every byte.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Stub {
    /// Listens from now on.
    pub fn listen() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Listens there from now on.
    pub fn at(place: &str) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = channel();
        // Ends with the test's process: a stub lives as long as its test.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The next connection.
    pub fn accept(&self) -> Raw {
        Raw::new(self.accepted.recv_timeout(SOON).expect("a connection to the backend"))
    }

    /// The next connection, its opening request read.
    pub fn request(&self) -> (Raw, String) {
        let mut raw = self.accept();
        let head = raw.head();
        (raw, head)
    }

    /// Serves each connection on a thread of its own, for as long as the test's process lives.
    pub fn serve(self, serve: impl Fn(Raw) + Send + Sync + 'static) {
        let serve = std::sync::Arc::new(serve);
        thread::spawn(move || {
            for stream in self.accepted {
                let serve = std::sync::Arc::clone(&serve);
                thread::spawn(move || serve(Raw::new(stream)));
            }
        });
    }

    /// The next connection, if it is there already.
    pub fn try_accept(&self) -> Option<Raw> {
        self.accepted.try_recv().ok().map(Raw::new)
    }

    /// Nobody came but those accepted. Call it after an event behind which nobody can come.
    pub fn nobody_came(&self) -> bool {
        matches!(self.accepted.try_recv(), Err(TryRecvError::Empty))
    }
}

/// An address of this machine on which nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// `greenroom serve` before a [`Stub`].
pub struct Front {
    /// The program.
    pub greenroom: Greenroom,
    /// The backend.
    pub stub: Stub,
    /// Where clients come to.
    pub address: String,
}

impl Front {
    /// With a backend that listens, and is not known to work.
    pub fn new(flags: &[&str]) -> Self {
        let stub = Stub::listen();
        let greenroom = serve(&stub.address(), flags);
        let address = greenroom.address();
        Self {
            greenroom,
            stub,
            address,
        }
    }

    /// With the gate open: a first client came through.
    pub fn open() -> Self {
        let front = Self::new(&[]);
        front.relayed("", "");
        front
    }

    /// A client.
    pub fn client(&self) -> Raw {
        Raw::connect(&self.address)
    }

    /// A client that has sent this.
    pub fn client_with(&self, bytes: impl AsRef<[u8]>) -> Raw {
        let mut client = self.client();
        client.send(bytes);
        client
    }

    /// A client and its backend, both past their 101; the extras are lines for request and answer.
    pub fn relayed(&self, request: &str, answer: &str) -> (Raw, Raw) {
        let mut client = self.client_with(upgrade(request));
        let (mut backend, _) = self.stub.request();
        backend.send(switching(answer));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, backend)
    }

    /// The event `closed` with this cause.
    pub fn closed(&self, cause: &str) -> Value {
        self.greenroom
            .wait_for(|event| event["event"] == "closed" && event["cause"] == cause, SOON)
    }
}

/// `greenroom serve` before an address.
pub fn serve(backend: &str, flags: &[&str]) -> Greenroom {
    let base = ["serve", "--listen", "127.0.0.1:0", "--backend", backend];
    Greenroom::start(&[&base, flags].concat())
}
