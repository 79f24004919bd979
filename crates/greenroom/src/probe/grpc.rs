//! `grpc`: `grpc.health.v1.Health/Check` says SERVING.
//!
//! One call over HTTP/2 in the clear (prior knowledge, as gRPC does it). Its two messages
//! have one field each and are written and read here by hand. Good is only what ends
//! with status OK. Bounds: [`limits::CHECK_BODY_MAX`] for the answer, and for its fields.

use bytes::Bytes;
use greenroom_core::limits;
use h2::{RecvStream, client};
use http::{HeaderMap, Request};

use super::Why;
use super::dial::Dialer;
use super::http::{USER_AGENT, host_of};
use crate::config::Address;

/// A message's length may not be longer than its own prefix says: 1 byte of flags, 4 of length.
const PREFIX: usize = 5;

/// The probe `grpc`.
#[derive(Debug)]
pub(super) struct Grpc {
    dialer: Dialer,
    uri: String,
    message: Bytes,
}

impl Grpc {
    pub(super) fn new(address: &Address, service: &str) -> Self {
        let host = host_of(address, None);
        Self {
            dialer: Dialer::new(address),
            uri: format!("http://{host}/grpc.health.v1.Health/Check"),
            message: request(service),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let stream = self.dialer.connection().await?;
        let most = limits::CHECK_BODY_MAX as u32; // 64 KiB
        let mut settings = client::Builder::new();
        settings
            .enable_push(false)
            .initial_window_size(most)
            .initial_connection_window_size(most)
            .max_header_list_size(most);
        let (mut calls, connection) = settings.handshake(stream).await.map_err(|error| why(&error))?;
        let call = async {
            let request = Request::post(&self.uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("user-agent", USER_AGENT)
                .body(())
                .map_err(|_| Why::Unaskable)?;
            std::future::poll_fn(|cx| calls.poll_ready(cx))
                .await
                .map_err(|error| why(&error))?;
            let (answer, mut sending) = calls.send_request(request, false).map_err(|error| why(&error))?;
            sending
                .send_data(self.message.clone(), true)
                .map_err(|error| why(&error))?;
            let (head, body) = answer.await.map_err(|error| why(&error))?.into_parts();
            judge(head.status.as_u16(), &head.headers, body).await
        };
        tokio::select! {
            biased; // what was answered counts, also when the connection ends with it
            called = call => called,
            // Ends only with the connection, and so before the answer.
            ended = connection => Err(ended.map_or_else(|error| why(&error), |()| Why::NoAnswer)),
        }
    }
}

async fn judge(status: u16, fields: &HeaderMap, mut body: RecvStream) -> Result<(), Why> {
    if status != 200 {
        return Err(Why::Status(status));
    }
    let kind = fields.get("content-type").map_or(&b""[..], |value| value.as_bytes());
    if !kind.starts_with(b"application/grpc") {
        return Err(Why::Nonsense("an HTTP/2 server, but not one of gRPC"));
    }
    if let Some(status) = fields.get("grpc-status") {
        grpc_status(status.as_bytes())?; // an answer of trailers only
    }
    let mut message = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| why(&error))?;
        if message.len() + piece.len() > limits::CHECK_BODY_MAX {
            return Err(Why::TooLong);
        }
        message.extend_from_slice(&piece);
        let _ = body.flow_control().release_capacity(piece.len()); // fails only for more than was given
    }
    let trailers = body.trailers().await.map_err(|error| why(&error))?;
    let ended = trailers.as_ref().and_then(|fields| fields.get("grpc-status"));
    grpc_status(ended.ok_or(Why::NoAnswer)?.as_bytes())?;
    match serving_status(&message) {
        Some(1) => Ok(()),
        Some(0) => Err(Why::Health("UNKNOWN")),
        Some(2) => Err(Why::Health("NOT_SERVING")),
        Some(3) => Err(Why::Health("SERVICE_UNKNOWN")),
        Some(_) | None => Err(Why::Nonsense("not a HealthCheckResponse")),
    }
}

fn grpc_status(text: &[u8]) -> Result<(), Why> {
    match std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        Some(0) => Ok(()),
        Some(5) => Err(Why::UnknownService),
        Some(12) => Err(Why::NoHealthService),
        Some(other) => Err(Why::GrpcStatus(other)),
        None => Err(Why::Nonsense("its grpc-status is no number")),
    }
}

/// What an error of HTTP/2 means.
fn why(error: &h2::Error) -> Why {
    match error.get_io() {
        Some(error) => match super::talk::lost(error) {
            // `Other` is what the codec says of an end within a frame.
            Why::Failed(std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::Other) => Why::NoAnswer,
            // What does not begin with HTTP/2's own first frame.
            Why::Failed(std::io::ErrorKind::InvalidData) => Why::Nonsense("not HTTP/2"),
            other => other,
        },
        None if error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR) => {
            Why::NoAnswer
        }
        None => Why::Nonsense("not HTTP/2, or it ended the call"),
    }
}

/// `HealthCheckRequest { service }`, with its prefix.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, of a length
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX); // a configuration is far shorter
    [&[0][..], &length.to_be_bytes(), &message].concat().into()
}

fn varint(to: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80); // its lower seven bits
        value >>= 7;
    }
    to.push(value as u8);
}

/// The status in a `HealthCheckResponse` with its prefix. Fields that are not known are passed over.
fn serving_status(bytes: &[u8]) -> Option<u64> {
    let (prefix, mut message) = bytes.split_at_checked(PREFIX)?;
    let &[0, a, b, c, d] = prefix else { return None }; // 1: compressed, which nobody asked for
    if usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()? != message.len() {
        return None;
    }
    let mut status = 0; // what is not written has its default
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = read_varint(&mut message)?,
            (1, _) => return None,
            (_, 0) => drop(read_varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 5) => message = message.get(4..)?,
            (_, 2) => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_as_protobuf_has_them() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = request(&"x".repeat(200));
        assert_eq!(
            (&long[..5], &long[5..8]),
            (&[0, 0, 0, 0, 203][..], &[0x0a, 0xc8, 0x01][..])
        );
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0), "the default is not written");
        let unknown = [0, 0, 0, 0, 9, 0x12, 1, b'x', 0x1d, 0, 0, 0, 0, 0x10];
        assert_eq!(serving_status(&unknown), None, "cut off");
        let unknown = [0, 0, 0, 0, 10, 0x12, 1, b'x', 0x1d, 0, 0, 0, 0, 8, 2];
        assert_eq!(serving_status(&unknown), Some(2));
        for bad in [
            &[0, 0, 0, 0, 3, 8, 1][..],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 2, 10, 1],
            b"HTTP",
            &[0, 0, 0, 0, 1, 8],
        ] {
            assert_eq!(serving_status(bad), None, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = serving_status(&bytes);
        }
    }
}
