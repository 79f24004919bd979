//! As much of WebSocket as a load generator and an echo need: no codec, so that
//! what is measured is the gateway and not its neighbours.
//!
//! The load masks with a key of zeros, which is legal and costs nothing; the
//! echo takes any key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Bytes of a frame header at the most, with its key.
const HEADER_MAX: usize = 14;
/// The first byte of a final binary frame.
pub(crate) const BINARY: u8 = 0x82;

/// A client's Close without a code.
pub(crate) const CLIENT_CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

/// A masked binary frame of `size` bytes of payload, as a client sends it.
pub(crate) fn client_frame(size: usize) -> Vec<u8> {
    let mut frame = server_frame(size);
    let header = frame.len() - size;
    frame[1] |= 0x80;
    frame.splice(header..header, [0; 4]);
    frame
}

/// The same, unmasked: its echo.
pub(crate) fn server_frame(size: usize) -> Vec<u8> {
    let mut frame = vec![BINARY];
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(size @ ..126), _) => frame.push(size),
        (_, Ok(size)) => {
            frame.push(126);
            frame.extend(size.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend((0..size).map(|index| b'a' + u8::try_from(index % 26).unwrap_or(0)));
    frame
}

/// The opening request.
pub(crate) fn request(host: &str) -> Vec<u8> {
    request_for("/bench", host)
}

/// The opening request for a path.
pub(crate) fn request_for(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to an opening request with this key.
pub(crate) fn answer(key: &[u8]) -> Vec<u8> {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(hash.finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Where a head ends in `bytes`, if it does.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Whether these bytes begin with a 101.
pub(crate) fn is_101(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 101 ")
}

/// Turns a stream of client frames into the stream of their echoes, at any split.
#[derive(Default)]
pub(crate) struct Echo {
    header: Vec<u8>,
    left: u64,
    key: [u8; 4],
    turn: usize,
}

impl Echo {
    /// Takes bytes as they came, appends what goes back. False if this is no client's stream.
    #[must_use]
    pub(crate) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> bool {
        while !input.is_empty() {
            if self.left > 0 {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                let (payload, rest) = input.split_at(take);
                if self.key == [0; 4] {
                    out.extend_from_slice(payload);
                } else {
                    let key = self.key.iter().cycle().skip(self.turn);
                    out.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
                    self.turn = (self.turn + take) % 4;
                }
                self.left -= take as u64;
                input = rest;
                continue;
            }
            self.header.push(input[0]);
            input = &input[1..];
            let Some(&second) = self.header.get(1) else { continue };
            if second & 0x80 == 0 || self.header.len() > HEADER_MAX {
                return false;
            }
            let size_bytes = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if self.header.len() < 2 + size_bytes + 4 {
                continue;
            }
            let (size, key) = self.header[2..].split_at(size_bytes);
            self.left = match size_bytes {
                0 => u64::from(second & 0x7f),
                _ => size.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            };
            self.key.copy_from_slice(key);
            self.turn = 0;
            // A Ping is answered with a Pong, everything else with itself.
            let first = if self.header[0] & 0x0f == 9 {
                self.header[0] + 1
            } else {
                self.header[0]
            };
            out.extend([first, second & 0x7f]);
            out.extend_from_slice(size);
            self.header.clear();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_one_of_the_rfc() {
        let answer = String::from_utf8(answer(b"dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }

    #[test]
    fn an_echo_is_the_server_frame_at_any_split() {
        for size in [0, 1, 125, 126, 16_384, 70_000] {
            let frames = client_frame(size).repeat(2);
            for step in [1, 2, 3, 7, 1_000, frames.len()] {
                let (mut echo, mut out) = (Echo::default(), Vec::new());
                assert!(frames.chunks(step).all(|chunk| echo.feed(chunk, &mut out)));
                assert!(out == server_frame(size).repeat(2), "{size} bytes in steps of {step}");
            }
        }
    }

    #[test]
    fn a_key_is_taken_off_at_any_split() {
        let key = [1, 2, 3, 4];
        let payload = b"masked with care";
        let mut frame = vec![BINARY, 0x80 | 16];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        for step in 1..frame.len() {
            let (mut echo, mut out) = (Echo::default(), Vec::new());
            assert!(frame.chunks(step).all(|chunk| echo.feed(chunk, &mut out)));
            assert_eq!(&out[2..], payload, "steps of {step}");
        }
    }

    #[test]
    fn a_ping_gets_a_pong_and_an_unmasked_frame_is_refused() {
        let (mut echo, mut out) = (Echo::default(), Vec::new());
        assert!(echo.feed(&[0x89, 0x81, 0, 0, 0, 0, b'x'], &mut out));
        assert_eq!(out, [0x8a, 1, b'x']);
        assert!(!Echo::default().feed(&[BINARY, 1, b'x'], &mut out));
    }
}
