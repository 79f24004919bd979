//! Both lanes write one head: who compares what a backend gets of a WebSocket and of a plain request sees
//! the handshake's own two fields, and no other difference.

use super::any_bytes::line;
use super::{crlf, forward, to_backend, upgrade};
use crate::config::HeaderEdits;
use crate::head::{Fault, Forward, Http, Kind, Request, parse_request};
use proptest::collection::vec;
use proptest::prelude::*;

/// The handshake's own two lines.
const OWN: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

fn http(bytes: &[u8]) -> Result<Http, Option<Fault>> {
    match parse_request(bytes) {
        Request::Complete {
            kind: Kind::Http(http), ..
        } => Ok(http),
        Request::Bad(fault) => Err(Some(fault)),
        Request::Partial | Request::Complete { .. } => Err(None),
    }
}

fn plain_to_backend(http: &Http, forward: &Forward<'_>) -> String {
    let mut out = Vec::new();
    http.to_backend(forward, &mut out);
    String::from_utf8(out).unwrap()
}

/// One request as a WebSocket and as a plain one: the same lines, but for the handshake's own.
fn both(before: &[String], after: &[String]) -> (Vec<u8>, Vec<u8>) {
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let fields = "Host: example.org\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n";
    let (before, after) = (lines(before), lines(after));
    let plain = format!("GET /x?y HTTP/1.1\n{before}{fields}{after}");
    let own = OWN.replace("\r\n", "\n");
    (crlf(&format!("{plain}{own}")), crlf(&plain))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn both_lanes_write_the_same_head(
        before in vec(line(), 0..6),
        after in vec(line(), 0..6),
        trusted_peer in any::<bool>(),
        edited in any::<bool>(),
    ) {
        let asks = |line: &String| line.to_ascii_lowercase().starts_with("upgrade: websocket");
        prop_assume!(!before.iter().chain(&after).any(asks)); // then there is no plain one
        let (websocket, plain) = both(&before, &after);
        let plain = http(&plain);
        if let Err(Some(fault)) = plain {
            let same = matches!(parse_request(&websocket), Request::Bad(other) if other == fault);
            prop_assert!(same, "{} is a fault of the plain lane only", fault);
        }
        prop_assume!(plain.is_ok() && super::is(&websocket) == super::Is::Upgrade);
        let edits = HeaderEdits {
            set: vec![("x-set".into(), "1".into()), ("cookie".into(), "route=1".into())],
            remove: vec!["origin".into()],
        };
        let forward = Forward { trusted_peer, edits: if edited { &edits } else { forward().edits }, ..forward() };
        let websocket = to_backend(&upgrade(&websocket), &forward);
        // An upgrade has no body, and says no length of it; a plain request may say 0.
        let plain = plain_to_backend(&plain.unwrap(), &forward);
        let lengths = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length:");
        let plain: Vec<_> = plain.split_inclusive("\r\n").filter(lengths).collect();
        prop_assert_eq!(websocket.replacen(OWN, "", 1), plain.concat());
    }
}

#[test]
fn the_two_heads_of_one_request() {
    let (websocket, plain) = both(&["Cookie: a=1".into()], &["X-Real-IP: 6.6.6.6".into()]);
    let websocket = to_backend(&upgrade(&websocket), &forward());
    let plain = plain_to_backend(&http(&plain).unwrap(), &forward());
    assert!(websocket.ends_with(&format!("{OWN}\r\n")) && plain.starts_with("GET /x?y HTTP/1.1\r\nCookie: a=1\r\n"));
    assert_eq!(websocket.replace(OWN, ""), plain);
}
