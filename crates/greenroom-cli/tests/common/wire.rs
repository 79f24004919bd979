//! A client of which each byte is the test's own: for leaving, for resets, for looking at closes.
//!
//! It knows what these tests need: the opening handshake, unmasked frames under
//! 64 KiB from the server, masked ones to it. Every read has a deadline.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// A read that takes longer fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// One client's connection.
pub struct Wire(pub TcpStream);

impl Wire {
    /// Connects and sends the opening handshake; does not wait for the answer.
    pub fn knock(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self(stream)
    }

    /// The head of the answer, read to its end and not further.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
            head.extend(byte);
        }
        String::from_utf8(head).unwrap()
    }

    /// The status of the answer.
    pub fn status(&mut self) -> u16 {
        self.head().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The next frame: opcode and payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut start = [0; 2];
        self.0.read_exact(&mut start).expect("a frame");
        let mut len = usize::from(start[1]);
        assert!(len < 127, "masked or too long: {start:?}");
        if len == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).unwrap();
            len = usize::from(u16::from_be_bytes(long));
        }
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).unwrap();
        (start[0] & 0x0f, payload)
    }

    /// A masked frame (the mask is zero: nothing of it is tested here).
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        assert!(payload.len() < 126);
        frame.extend(payload);
        self.0.write_all(&frame).unwrap();
    }

    /// Says something and expects it back.
    pub fn echo(&mut self, text: &str) {
        self.send(1, text.as_bytes());
        assert_eq!(self.frame(), (1, text.as_bytes().to_vec()));
    }

    /// The next Close, answered: its code and reason.
    pub fn closed(&mut self) -> (u16, String) {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 8, "a Close, not {payload:?}");
        self.send(8, &payload);
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        (code, String::from_utf8(payload[2..].to_vec()).unwrap())
    }
}
