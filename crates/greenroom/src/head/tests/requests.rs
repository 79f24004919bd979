//! Which requests are upgrades, which are plain, and which are refused, and why.

use super::{Is, crlf, is, upgrade, valid_and, valid_but};
use crate::head::Fault;
use greenroom_core::event::Refusal;
use greenroom_core::limits::{HEADERS_MAX, TOKENS_MAX};

fn check(table: &[(Vec<u8>, Is)]) {
    for (bytes, verdict) in table {
        assert_eq!(is(bytes), *verdict, "{}", bytes.escape_ascii());
    }
}

fn bad(fault: Fault) -> Is {
    assert_eq!(Refusal::from(fault).status(), 400, "{fault}");
    Is::Bad(fault)
}

/// A3.
#[test]
fn another_version_is_426_and_no_version_is_400() {
    let version = |value: &str| valid_but("Sec-WebSocket-Version: 13\n", value);
    for other in ["8", "7", "0", "12", "14", "255"] {
        let head = version(&format!("Sec-WebSocket-Version: {other}\n"));
        assert_eq!(is(&head), Is::Bad(Fault::Version), "{other}");
    }
    assert_eq!(Fault::Version.refusal(), Refusal::Version);
    check(&[
        (version(""), bad(Fault::VersionIllegal)),
        (version("Sec-WebSocket-Version:\n"), bad(Fault::VersionIllegal)),
        (version("Sec-WebSocket-Version: 13, 8\n"), bad(Fault::VersionIllegal)),
        (version("Sec-WebSocket-Version: +13\n"), bad(Fault::VersionIllegal)),
        (version("Sec-WebSocket-Version: 1300\n"), bad(Fault::VersionIllegal)),
        (valid_and("Sec-WebSocket-Version: 13\n"), bad(Fault::VersionIllegal)),
        (
            version("Sec-WebSocket-Version: 8\nContent-Length: 5\n"),
            bad(Fault::UpgradeBody),
        ),
    ]);
}

/// A6.
#[test]
fn an_upgrade_to_anything_else_is_plain_http() {
    let head = "GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nHTTP2-Settings: AAMAAABk\nUpgrade: ";
    check(&[
        (crlf(&format!("{head}h2c\n")), Is::Http),
        (crlf(&format!("{head}TLS/1.0, h2c\n")), Is::Http),
        (crlf(&format!("{head}\n")), Is::Http),
        (crlf(&format!("{head}h2 c\n")), bad(Fault::List)),
        (crlf(&format!("{head}a/b/c\n")), bad(Fault::List)),
        (crlf(&format!("{head}\"websocket\"\n")), bad(Fault::List)),
    ]);
}

/// A7.
#[test]
fn websocket_must_stand_alone_in_upgrade() {
    let with = |value: &str| valid_but("Upgrade: websocket\n", value);
    check(&[
        (with("Upgrade: WebSocket\n"), Is::Upgrade),
        (with("UPGRADE:\tWEBSOCKET \t\n"), Is::Upgrade),
        (with("Upgrade: websocket,\n"), Is::Upgrade),
        (with("Upgrade: websocket, h2c\n"), bad(Fault::UpgradeOther)),
        (with("Upgrade: h2c, websocket\n"), bad(Fault::UpgradeOther)),
        (with("Upgrade: websocket, websocket\n"), bad(Fault::UpgradeOther)),
        (with("Upgrade: h2c\nUpgrade: websocket\n"), bad(Fault::UpgradeOther)),
        (with("Upgrade: websocket/13\n"), bad(Fault::UpgradeOther)),
        (
            with("Upgrade: websocket\nUpgrade: websocket\n"),
            bad(Fault::UpgradeOther),
        ),
        (with("Upgrade: websockets\n"), Is::Http),
        (with(""), Is::Http),
    ]);
    let http10 = String::from_utf8(valid_and(""))
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    check(&[(http10.into_bytes(), bad(Fault::UpgradeHttp10))]);
}

#[test]
fn connection_must_hold_upgrade_among_other_tokens() {
    let with = |value: &str| valid_but("Connection: Upgrade\n", value);
    check(&[
        (with("Connection: keep-alive, Upgrade\n"), Is::Upgrade),
        (with("connection: upgrade\n"), Is::Upgrade),
        (with("Connection: keep-alive\nConnection: ,UPGRADE ,\n"), Is::Upgrade),
        (with("Connection: keep-alive\n"), bad(Fault::UpgradeConnection)),
        (with("Connection: upgraded\n"), bad(Fault::UpgradeConnection)),
        (with(""), bad(Fault::UpgradeConnection)),
        (with("Connection: Upgrade;\n"), bad(Fault::List)),
        (with("Connection: keep alive, Upgrade\n"), bad(Fault::List)),
    ]);
    let many = format!("Connection: {}Upgrade\n", "a,".repeat(TOKENS_MAX));
    assert_eq!(is(&with(&many)), Is::Bad(Fault::TooManyTokens));
}

/// A8.
#[test]
fn an_upgrade_is_a_get_without_a_body() {
    let with = |from: &str, to: &str| String::from_utf8(valid_and("")).unwrap().replace(from, to).into_bytes();
    check(&[
        (with("GET /", "POST /"), bad(Fault::UpgradeMethod)),
        (with("GET /", "HEAD /"), bad(Fault::UpgradeMethod)),
        (with("GET /", "get /"), bad(Fault::UpgradeMethod)),
        (valid_and("Content-Length: 0\n"), Is::Upgrade),
        (valid_and("Content-Length: 5\n"), bad(Fault::UpgradeBody)),
        (valid_and("Transfer-Encoding: chunked\n"), bad(Fault::UpgradeBody)),
        (
            valid_and("Content-Length: 0\nTransfer-Encoding: chunked\n"),
            bad(Fault::TransferEncoding),
        ),
    ]);
}

/// A9. Each row is what `httparse` or another server would take, or what two servers read in two ways.
#[test]
fn what_can_be_read_in_two_ways_is_400() {
    let valid = String::from_utf8(valid_and("")).unwrap();
    let with = |from: &str, to: &str| valid.replacen(from, to, 1).into_bytes();
    check(&[
        (with("HTTP/1.1\r\n", "HTTP/1.1\n"), bad(Fault::LineEnd)),
        (with("org\r\n", "org\n"), bad(Fault::LineEnd)),
        (with("\r\n\r\n", "\n\n"), bad(Fault::LineEnd)),
        (with("\r\n\r\n", "\r\n\n"), bad(Fault::LineEnd)),
        (with("org\r\n", "org\r"), bad(Fault::LineEnd)),
        (with("org\r\n", "org\r\r\n"), bad(Fault::LineEnd)),
        (with("org\r\n", "org\r\n x\r\n"), bad(Fault::Folded)),
        (with("org\r\n", "org\r\n\tx\r\n"), bad(Fault::Folded)),
        (with("Host:", " Host:"), bad(Fault::Folded)),
        (with("Host:", "Host :"), bad(Fault::Field)),
        (with("Host:", "Host\t:"), bad(Fault::Field)),
        (with("Host:", ": x\r\nHost:"), bad(Fault::Field)),
        (with("Host:", "nonsense\r\nHost:"), bad(Fault::Field)),
        (with("Host:", "A\u{e4}: x\r\nHost:"), bad(Fault::Field)),
        (with("Host:", "A(b): x\r\nHost:"), bad(Fault::Field)),
        (with("org", "o\0rg"), bad(Fault::ControlByte)),
        (with("org", "o\x0brg"), bad(Fault::ControlByte)),
        (with("org", "o\x7frg"), bad(Fault::ControlByte)),
        (with("GET", "\r\nGET"), bad(Fault::FirstByte)),
        (with("GET", " GET"), bad(Fault::FirstByte)),
        (with("GET /", "GET  /"), bad(Fault::RequestLine)),
        (with("GET /", "GET\t/"), bad(Fault::RequestLine)),
        (with("/ HTTP", "/  HTTP"), bad(Fault::HttpVersion)),
        (with("/ HTTP/1.1", "/"), bad(Fault::RequestLine)),
        (with("HTTP/1.1", "HTTP/1.1 "), bad(Fault::RequestLine)),
        (with("HTTP/1.1", "HTTP/1.2"), bad(Fault::HttpVersion)),
        (with("HTTP/1.1", "HTTP/2.0"), bad(Fault::HttpVersion)),
        (with("HTTP/1.1", "http/1.1"), bad(Fault::HttpVersion)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), bad(Fault::HttpVersion)),
    ]);
    // Bytes over 0x7f in values pass: no parser takes them for a delimiter.
    let cookie = with("Host:", "Cookie: n=\u{e4}\r\nHost:");
    assert_eq!(is(&cookie), Is::Upgrade);
}

/// A9, A10: also for what is not an upgrade.
#[test]
fn the_length_of_a_plain_request_is_one_plain_number_or_chunked() {
    let post = |more: &str| crlf(&format!("POST / HTTP/1.1\nHost: a\n{more}"));
    check(&[
        (post(""), Is::Http),
        (post("Content-Length: 5\n"), Is::Http),
        (post("Transfer-Encoding: Chunked\n"), Is::Http),
        (post("Content-Length: +5\n"), bad(Fault::ContentLength)),
        (post("Content-Length: -5\n"), bad(Fault::ContentLength)),
        (post("Content-Length: 0x5\n"), bad(Fault::ContentLength)),
        (post("Content-Length: 5 5\n"), bad(Fault::ContentLength)),
        (post("Content-Length:\n"), bad(Fault::ContentLength)),
        (post("Content-Length: 5, 5\n"), bad(Fault::ContentLength)),
        (
            post("Content-Length: 99999999999999999999\n"),
            bad(Fault::ContentLength),
        ),
        (
            post("Content-Length: 5\nContent-Length: 6\n"),
            bad(Fault::ContentLength),
        ),
        (
            post("Content-Length: 5\ncontent-length: 5\n"),
            bad(Fault::ContentLength),
        ),
        (
            post("Content-Length: 5\nTransfer-Encoding: chunked\n"),
            bad(Fault::TransferEncoding),
        ),
        (post("Transfer-Encoding: gzip, chunked\n"), bad(Fault::TransferEncoding)),
        (post("Transfer-Encoding: identity\n"), bad(Fault::TransferEncoding)),
        (
            post("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n"),
            bad(Fault::TransferEncoding),
        ),
        (post("Transfer-Encoding: \x0cchunked\n"), bad(Fault::ControlByte)),
        (post("Transfer-Encoding : chunked\n"), bad(Fault::Field)),
        (
            crlf("POST / HTTP/1.0\nTransfer-Encoding: chunked\n"),
            bad(Fault::TransferEncoding),
        ),
    ]);
}

/// A10.
#[test]
fn one_authority_decides_where_a_request_goes() {
    let host = |value: &str| valid_but("Host: example.org\n", value);
    let target = |target: &str| {
        let valid = String::from_utf8(valid_and("")).unwrap();
        valid.replace("GET /", &format!("GET {target}")).into_bytes()
    };
    check(&[
        (host(""), bad(Fault::HostMissing)),
        (host("Host:\n"), bad(Fault::HostIllegal)),
        (host("Host: a\nHost: a\n"), bad(Fault::HostTwice)),
        (host("Host: a\nhost: b\n"), bad(Fault::HostTwice)),
        (host("Host: a, b\n"), bad(Fault::HostIllegal)),
        (host("Host: user@a\n"), bad(Fault::HostIllegal)),
        (host("Host: a:80:80\n"), bad(Fault::HostIllegal)),
        (host("Host: a:99999\n"), bad(Fault::HostIllegal)),
        (host("Host: a/b\n"), bad(Fault::HostIllegal)),
        (host("Host: [::1]:8080\n"), Is::Upgrade),
        (target("http://example.org/x"), Is::Upgrade),
        (target("ws://EXAMPLE.org/x"), Is::Upgrade),
        (target("http://example.org:80/x"), bad(Fault::OtherHost)),
        (target("http://other/x"), bad(Fault::OtherHost)),
        (target("http://user@example.org/x"), bad(Fault::Target)),
        (target("http://example.org"), bad(Fault::Target)),
        (target("*"), bad(Fault::Target)),
        (target("x"), bad(Fault::Target)),
        (target("/x#y"), bad(Fault::Target)),
        (target("/\u{e4}"), bad(Fault::Target)),
        (crlf("GET / HTTP/1.1\n"), bad(Fault::HostMissing)),
        (crlf("GET / HTTP/1.0\n"), Is::Http),
        (crlf("GET / HTTP/1.0\nHost: a\nHost: a\n"), bad(Fault::HostTwice)),
        (crlf("GET http://b/ HTTP/1.1\nHost: a\n"), bad(Fault::OtherHost)),
        (crlf("OPTIONS * HTTP/1.1\nHost: a\n"), Is::Http),
        (crlf("CONNECT a:80 HTTP/1.1\nHost: a:80\n"), Is::Bad(Fault::Connect)),
    ]);
}

/// A11: what is meant for the server cannot be nominated away.
#[test]
fn connection_must_not_name_what_is_meant_for_the_server() {
    for name in [
        "Host",
        "ORIGIN",
        "cookie",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-",
    ] {
        let by = format!("Connection: Upgrade, {name}\n");
        assert_eq!(
            is(&valid_but("Connection: Upgrade\n", &by)),
            bad(Fault::Nominated),
            "{name}"
        );
        let plain = crlf(&format!("GET / HTTP/1.1\nHost: a\nConnection: {name}\n"));
        assert_eq!(is(&plain), bad(Fault::Nominated), "{name}");
    }
}

#[test]
fn there_is_exactly_one_key() {
    let with = |value: &str| valid_but("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n", value);
    check(&[
        (with(""), bad(Fault::Key)),
        (with("Sec-WebSocket-Key:\n"), bad(Fault::Key)),
        (with("Sec-WebSocket-Key: short\n"), bad(Fault::Key)),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\n"), bad(Fault::Key)),
        (
            valid_and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"),
            bad(Fault::Key),
        ),
    ]);
}

/// A28.
#[test]
fn too_many_fields_are_431() {
    let with = |count: usize| valid_and(&"A: b\n".repeat(count - 5));
    assert_eq!(is(&with(HEADERS_MAX)), Is::Upgrade);
    assert_eq!(is(&with(HEADERS_MAX + 1)), Is::Bad(Fault::TooManyFields));
    assert_eq!(is(&with(2_000)), Is::Bad(Fault::TooManyFields));
    assert_eq!(is(&with(20_000)), Is::Bad(Fault::TooLong));
    assert_eq!(Refusal::from(Fault::TooManyFields), Refusal::HeadTooLarge);
    assert_eq!(Refusal::from(Fault::TooLong), Refusal::HeadTooLarge);
}

/// A29, A30.
#[test]
fn what_is_negotiated_is_bounded_and_legal() {
    let many = (0..TOKENS_MAX + 1)
        .map(|n| format!("p{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    let deflate = |params: &str| valid_and(&format!("Sec-WebSocket-Extensions: permessage-deflate{params}\n"));
    check(&[
        (
            valid_and("Sec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: b\n"),
            Is::Upgrade,
        ),
        (
            valid_and("Sec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: a\n"),
            bad(Fault::Protocols),
        ),
        (
            valid_and(&format!("Sec-WebSocket-Protocol: {many}\n")),
            Is::Bad(Fault::TooManyTokens),
        ),
        (
            valid_and(&format!("Sec-WebSocket-Protocol: {}\n", "p".repeat(5_000))),
            Is::Bad(Fault::NegotiationTooLong),
        ),
        (deflate("; client_max_window_bits"), Is::Upgrade),
        (deflate("; server_max_window_bits=16"), bad(Fault::Extensions)),
        (deflate(&" ".repeat(4_000)), Is::Upgrade),
        (deflate(&";a=b".repeat(TOKENS_MAX)), Is::Bad(Fault::TooManyTokens)),
    ]);
}

/// A29. Eight times as long is about eight times the work, for all that made parsers of others quadratic: a
/// quadratic one takes 64 times as long. Of each the quickest of many is compared, in time of this thread alone.
#[test]
fn a29_the_work_grows_with_the_length_and_no_faster() {
    let time = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    };
    let work = |head: &[u8]| {
        let of_some = (0..10).map(|_| {
            let begun = time();
            for _ in 0..10 {
                std::hint::black_box(is(std::hint::black_box(head)));
            }
            time() - begun
        });
        of_some.min().unwrap_or_default()
    };
    type Shape = fn(usize) -> String;
    let shapes: [(&str, Shape); 6] = [
        ("spaces", |len| {
            format!("Sec-WebSocket-Protocol: a,{}b\n", " ".repeat(len))
        }),
        ("empty elements", |len| {
            format!("Sec-WebSocket-Protocol: a{}\n", ",".repeat(len))
        }),
        ("spaces behind", |len| {
            format!("Sec-WebSocket-Extensions: x;{}a\n", " ".repeat(len))
        }),
        ("escapes", |len| {
            format!("Sec-WebSocket-Extensions: x; a=\"{}\"\n", "\\a".repeat(len / 2))
        }),
        ("no end", |len| {
            format!("Sec-WebSocket-Extensions: x; a=\"{}\n", "\\\\".repeat(len / 2))
        }),
        ("semicolons", |len| {
            format!("Sec-WebSocket-Extensions: x{}\n", "; ".repeat(len / 2))
        }),
    ];
    for (what, shape) in shapes {
        let (short, long) = (valid_and(&shape(480)), valid_and(&shape(8 * 480)));
        let (short, long) = (work(&short), work(&long));
        assert!(long < 24 * short.max(1), "{what}: {short} ns, {long} ns");
    }
}

#[test]
fn an_incomplete_head_is_partial_at_every_byte() {
    let head = valid_and("Origin: https://a\n");
    for cut in 0..head.len() {
        assert_eq!(is(&head[..cut]), Is::Partial, "{cut}");
    }
    assert_eq!(is(&head), Is::Upgrade);
}

#[test]
fn an_upgrade_knows_its_parts_and_its_debug_text_hides_them() {
    let head = crlf(&format!(
        "GET http://example.org/ws/room?token=hush HTTP/1.1\n{}Cookie: hush\n",
        super::VALID
    ));
    let upgrade = upgrade(&head);
    assert_eq!(upgrade.head(), head);
    assert_eq!(
        (upgrade.target(), upgrade.path(), upgrade.host()),
        ("/ws/room?token=hush", "/ws/room", "example.org")
    );
    assert!(!upgrade.has_origin());
    assert!(!format!("{upgrade:?}").contains("hush"));
    assert!(super::upgrade(&valid_and("Origin: null\n")).has_origin());
}
