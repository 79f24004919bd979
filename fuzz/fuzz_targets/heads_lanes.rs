//! Do both lanes write one head?
//!
//! The input is what stands between the handshake's fields, line ends and all. With and without
//! the handshake's own two lines it must be faulty in the same way, or reach the backend with the same head.
#![no_main]

use std::net::Ipv4Addr;

use greenroom::config::NO_EDITS;
use greenroom::head::{Forward, Kind, Request, parse_request};
use greenroom_core::event::SessionId;
use libfuzzer_sys::fuzz_target;

const FIELDS: &[u8] = b"Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const OWN: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";

fn to_backend(kind: &Kind) -> Vec<u8> {
    let forward = Forward {
        peer: Ipv4Addr::LOCALHOST.into(),
        proto: "http",
        session: SessionId(1),
        attempt: 1,
        trusted_peer: false,
        edits: &NO_EDITS,
        is_accepted: false,
        degraded: None,
        trace: None,
        target: None,
        authority: "b",
    };
    let mut out = Vec::new();
    kind.to_backend(&forward, &mut out);
    out
}

/// The lines that both must have: an upgrade says no length of the body that it has not.
fn lines(head: &[u8]) -> Vec<u8> {
    let own = |line: &&[u8]| {
        let lower = line.to_ascii_lowercase();
        let length = lower.starts_with(b"content-length:");
        !length && *line != b"Connection: Upgrade\r\n" && *line != b"Upgrade: websocket\r\n"
    };
    head.split_inclusive(|&byte| byte == b'\n').filter(own).flatten().copied().collect()
}

fuzz_target!(|data: &[u8]| {
    let head = |own: &[u8]| [b"GET /x HTTP/1.1\r\n", FIELDS, data, own, b"\r\n"].concat();
    let (with, without) = (head(OWN), head(b""));
    match (parse_request(&with), parse_request(&without)) {
        // The plain lane asks nothing that the other does not ask first, but for bounds on two lines less.
        (upgrade, Request::Bad(fault)) => {
            let asks = data.to_ascii_lowercase().windows(9).any(|bytes| bytes == b"websocket");
            let same = matches!(upgrade, Request::Bad(other) if other == fault);
            assert!(asks || same, "only plain: {fault}");
        }
        (
            Request::Complete { kind: upgrade @ Kind::Upgrade(_), len },
            Request::Complete { kind: plain @ Kind::Http(_), .. },
        ) if len == with.len() => {
            assert_eq!(lines(&to_backend(&upgrade)), lines(&to_backend(&plain)));
        }
        _ => {}
    }
});
