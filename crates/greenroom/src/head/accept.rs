//! Writes greenroom's own 101, for a client that is accepted before its backend is ready.
//!
//! It switches and proves that the key was read (RFC 6455 §4.2.2); it agrees on no extension, and on a subprotocol
//! only if it is told one that the client offers. Bounded by the route's fields and some 200 bytes.

use super::fields;
use super::request::Upgrade;
use super::switched::Edits;

impl Upgrade {
    /// The subprotocols that the client offers, in its order.
    #[must_use]
    pub fn protocols(&self) -> Vec<String> {
        if !self.offers_protocols() {
            return Vec::new(); // most have none: no second look at the head
        }
        let mut slots = fields::slots();
        let all = self.parts(&mut slots).1;
        let offers = fields::elements(all, "sec-websocket-protocol");
        offers
            .map(|offer| String::from_utf8_lossy(offer).into_owned())
            .collect() // tokens: ASCII
    }

    /// Appends a 101 for this client to `out`, with this subprotocol.
    pub fn accept(&self, protocol: Option<&str>, edits: Edits<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
        fields::write(out, "Sec-WebSocket-Accept", &self.expected_accept());
        if let Some(protocol) = protocol {
            fields::write(out, "Sec-WebSocket-Protocol", protocol.as_bytes());
        }
        if let Some(degraded) = edits.degraded {
            fields::write(out, "Greenroom-Degraded", degraded.as_bytes());
        }
        for (name, value) in &edits.route.set {
            fields::write(out, name, value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Kind, UNCHANGED, parse_head, parse_response};

    #[test]
    fn it_is_a_101_that_any_client_takes() {
        let head = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, v2.chat\r\n\
            Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let Kind::Upgrade(upgrade) = parse_head(head).unwrap() else {
            panic!("an upgrade");
        };
        assert_eq!(upgrade.protocols(), ["chat", "v2.chat"]);
        let mut out = Vec::new();
        upgrade.accept(Some("v2.chat"), UNCHANGED, &mut out);
        let Answer::Switched(switched) = parse_response(&out, &upgrade) else {
            panic!("{}", String::from_utf8_lossy(&out));
        };
        assert!(!switched.deflate() && !switched.other_extension());
        assert_eq!(switched.protocol(), Some("v2.chat"));
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
    }
}
