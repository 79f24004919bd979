//! What the backend gets.

use super::{crlf, forward, to_backend, upgrade, valid_and, valid_but};
use crate::config::HeaderEdits;
use crate::head::Forward;
use crate::trace::{Context, Sent};
use std::net::{IpAddr, Ipv6Addr};

const OWN: &str = "X-Forwarded-For: 192.0.2.7\nX-Forwarded-Proto: http\nX-Forwarded-Host: example.org\n\
    Via: 1.1 greenroom\nGreenroom-Session: 42\nGreenroom-Attempt: 1\nConnection: Upgrade\nUpgrade: websocket\n";
const KEPT: &str = "Host: example.org\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n";

fn expect(lines: &str) -> String {
    String::from_utf8(crlf(lines)).unwrap()
}

#[test]
fn what_is_the_clients_is_kept_as_it_came_and_in_its_order() {
    let head = crlf(
        "GET /ws?a=%20b HTTP/1.1\nUser-Agent:  x  y \nhOST: example.org\nUpgrade: WebSocket\nCookie: a=1\n\
         Connection: keep-alive, Upgrade\nCookie: b=2\nOrigin: https://example.org\nContent-Length: 0\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\nSec-WebSocket-Protocol: a,b\n",
    );
    assert_eq!(
        to_backend(&upgrade(&head), &forward()),
        expect(&format!(
            "GET /ws?a=%20b HTTP/1.1\nUser-Agent: x  y\nhOST: example.org\nCookie: a=1\nCookie: b=2\n\
             Origin: https://example.org\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n\
             Sec-WebSocket-Protocol: a,b\n{OWN}"
        ))
    );
}

/// A11, A12, A13, A14 and the hop-by-hop fields: nothing of them arrives.
#[test]
fn what_a_client_must_not_say_never_arrives() {
    let plain = expect(&format!("GET / HTTP/1.1\n{KEPT}{OWN}"));
    for said in [
        "Keep-Alive: 5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: x",
        "Proxy-Authenticate: x",
        "TE: trailers",
        "Trailer: x",
        "HTTP2-Settings: AAMAAABk",
        "Proxy: evil",
        "X-Forwarded-For: 10.0.0.1",
        "x-forwarded-for: 10.0.0.1\nX-Forwarded-For: 10.0.0.2",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Prefix: /admin",
        "X-Forwarded: for=1",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "X_Forwarded_For: 10.0.0.1",
        "X_Real-IP: 10.0.0.1",
        "any_name: x",
        "Greenroom-Session: 1",
        "GREENROOM-ATTEMPT: 9",
        "greenroom-anything: x",
        "Greenroom_Session: 1",
    ] {
        assert_eq!(
            to_backend(&upgrade(&valid_and(&format!("{said}\n"))), &forward()),
            plain,
            "{said}"
        );
    }
    let nominating = "Connection: Upgrade, X-Forwarded-For, X-Real-Auth, Greenroom-Session, close\nX-Real-Auth: x\n";
    let head = valid_but("Connection: Upgrade\n", nominating);
    assert_eq!(
        to_backend(&upgrade(&head), &forward()),
        plain,
        "own fields cannot be nominated away"
    );
}

#[test]
fn the_backend_hears_of_one_place_in_a_trace_and_of_ours_where_there_is_one() {
    let said =
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nTracestate: a=1\nTraceParent: x\n";
    let context = Context {
        trace: [0x11; 16],
        span: [0x22; 8],
        flags: 1,
    };
    let own = "traceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\n";
    let all = |head: &str| -> Vec<String> {
        let lines = head.split_inclusive("\r\n");
        lines
            .filter(|line| line.to_lowercase().starts_with("trace"))
            .map(str::to_owned)
            .collect()
    };
    let sent = |is_root| Forward {
        trace: Some(Sent { context, is_root }),
        ..forward()
    };
    let nominating = valid_but(
        "Connection: Upgrade\n",
        &format!("Connection: Upgrade, traceparent\n{said}"),
    );
    for head in [valid_and(said), nominating] {
        assert_eq!(
            all(&to_backend(&upgrade(&head), &sent(false))),
            ["Tracestate: a=1\r\n", own]
        );
        assert_eq!(all(&to_backend(&upgrade(&head), &sent(true))), [own], "a new trace");
    }
    assert_eq!(
        all(&to_backend(&upgrade(&valid_and(said)), &forward())).len(),
        3,
        "as they came"
    );
    let edits = HeaderEdits {
        set: Vec::new(),
        remove: vec!["traceparent".into()],
    };
    let without = Forward {
        edits: &edits,
        ..sent(true)
    };
    assert_eq!(
        all(&to_backend(&upgrade(&valid_and(said)), &without)),
        [""; 0],
        "the route has its way"
    );
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let trusted = Forward {
        trusted_peer: true,
        ..forward()
    };
    let head = valid_and(
        "X-Forwarded-For: 10.0.0.1, 10.0.0.2\nForwarded: for=10.0.0.1\nX-Real-IP: 10.0.0.1\nX-Forwarded-Proto: https\n\
         X-Forwarded-For: 10.0.0.3\nX_Forwarded_For: 6.6.6.6\nGreenroom-Session: 1\n",
    );
    assert_eq!(
        to_backend(&upgrade(&head), &trusted),
        expect(&format!(
            "GET / HTTP/1.1\n{KEPT}Forwarded: for=10.0.0.1\nX-Real-IP: 10.0.0.1\nX-Forwarded-Proto: https\n\
             X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7\nX-Forwarded-Host: example.org\n\
             Via: 1.1 greenroom\nGreenroom-Session: 42\nGreenroom-Attempt: 1\nConnection: Upgrade\nUpgrade: websocket\n"
        ))
    );
    let silent = to_backend(&upgrade(&valid_and("")), &trusted);
    assert_eq!(
        silent,
        expect(&format!("GET / HTTP/1.1\n{KEPT}{OWN}")),
        "one that says nothing is spoken for"
    );
}

#[test]
fn an_absolute_target_goes_out_as_its_path() {
    let head = crlf(&format!("GET ws://example.org/a?b HTTP/1.1\n{}", super::VALID));
    assert!(to_backend(&upgrade(&head), &forward()).starts_with("GET /a?b HTTP/1.1\r\nHost: example.org\r\n"));
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_is_an_ipv4_client() {
    let line = |peer: &str| {
        let peer = IpAddr::V6(peer.parse::<Ipv6Addr>().unwrap());
        let head = to_backend(&upgrade(&valid_and("")), &Forward { peer, ..forward() });
        head.lines()
            .find(|line| line.starts_with("X-Forwarded-For"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("::ffff:192.0.2.9"), "X-Forwarded-For: 192.0.2.9");
    assert_eq!(line("2001:db8::1"), "X-Forwarded-For: 2001:db8::1");
}
