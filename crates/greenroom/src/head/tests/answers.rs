//! What a backend's answer is, and what the client gets of it.

use super::{ACCEPT, crlf, upgrade, valid_and};
use crate::head::UNCHANGED;
use crate::head::{After, Answer, BodyFraming, Nonsense, parse_response};

/// A valid 101 for the plain valid upgrade, with more lines.
fn switching(more: &str) -> Vec<u8> {
    let lines = format!("Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: {ACCEPT}\n{more}");
    crlf(&format!("HTTP/1.1 101 Switching Protocols\n{lines}"))
}

fn nonsense(answer: &[u8]) -> Option<Nonsense> {
    let request = upgrade(&valid_and(
        "Sec-WebSocket-Protocol: a\nSec-WebSocket-Extensions: permessage-deflate\n",
    ));
    match parse_response(answer, &request) {
        Answer::Nonsense(nonsense) => Some(nonsense),
        Answer::Partial | Answer::Interim { .. } | Answer::Switched(_) | Answer::Status(_) => None,
    }
}

/// The head that the client gets, and how the body ends.
fn passed_on(answer: &[u8]) -> (String, Option<BodyFraming>) {
    let request = upgrade(&valid_and(
        "Sec-WebSocket-Protocol: a\nSec-WebSocket-Extensions: permessage-deflate\n",
    ));
    let mut out = Vec::new();
    let body = match parse_response(answer, &request) {
        Answer::Switched(switched) => {
            assert_eq!(switched.head_len(), answer.len());
            switched.to_client(UNCHANGED, &mut out);
            None
        }
        Answer::Status(status) => {
            assert_eq!(status.head_len(), answer.len());
            status.to_client(UNCHANGED, After::Close, false, &mut out);
            Some(status.body())
        }
        other => panic!("{other:?}: {}", answer.escape_ascii()),
    };
    (String::from_utf8_lossy(&out).replace("\r\n", "\n"), body)
}

/// A4.
#[test]
fn a_101_must_prove_that_it_is_one() {
    let valid = String::from_utf8(switching("")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(valid.contains(from), "{from}");
        valid.replacen(from, to, 1).into_bytes()
    };
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    assert_eq!(nonsense(valid.as_bytes()), None);
    assert_eq!(nonsense(&with("Connection: Upgrade", "connection: x, UPGRADE")), None);
    assert_eq!(nonsense(&with("websocket", "WebSocket")), None);
    for (answer, why) in [
        (with(&accept, ""), Nonsense::Accept),
        (with(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), Nonsense::Accept),
        (with(ACCEPT, &ACCEPT.to_lowercase()), Nonsense::Accept),
        (with(ACCEPT, ""), Nonsense::Accept),
        (with(&accept, &accept.repeat(2)), Nonsense::Accept),
        (with("Upgrade: websocket\r\n", ""), Nonsense::NotSwitched),
        (with("websocket", "h2c"), Nonsense::NotSwitched),
        (with("websocket", "websocket, h2c"), Nonsense::NotSwitched),
        (with("Connection: Upgrade\r\n", ""), Nonsense::NotSwitched),
        (with("Connection: Upgrade", "Connection: close"), Nonsense::NotSwitched),
        (with("HTTP/1.1", "HTTP/1.0"), Nonsense::NotSwitched),
        (
            with("Connection: Upgrade", "Connection: Upgrade, Sec-WebSocket-Accept"),
            Nonsense::Connection,
        ),
        (
            with("Connection: Upgrade", "Connection: Upgrade;"),
            Nonsense::Connection,
        ),
    ] {
        assert_eq!(nonsense(&answer), Some(why), "{}", answer.escape_ascii());
    }
}

/// A30, and the length of a 101.
#[test]
fn a_101_agrees_on_nothing_that_was_not_offered_and_has_no_body() {
    for (more, why) in [
        ("Sec-WebSocket-Protocol: a\n", None),
        ("Sec-WebSocket-Protocol: b\n", Some(Nonsense::Protocol)),
        (
            "Sec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: a\n",
            Some(Nonsense::Protocol),
        ),
        ("Sec-WebSocket-Extensions: permessage-deflate\n", None),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\n",
            None,
        ),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7\n",
            Some(Nonsense::Extensions),
        ),
        ("Sec-WebSocket-Extensions: x-other\n", Some(Nonsense::Extensions)),
        ("Content-Length: 0\n", None),
        ("Content-Length: 1\n", Some(Nonsense::Framing)),
        ("Transfer-Encoding: chunked\n", Some(Nonsense::Framing)),
    ] {
        assert_eq!(nonsense(&switching(more)), why, "{more}");
    }
}

#[test]
fn a_101_says_whether_deflate_was_agreed() {
    let request = upgrade(&valid_and("Sec-WebSocket-Extensions: permessage-deflate, x-other\n"));
    for (more, deflate, other) in [
        ("", false, false),
        ("Sec-WebSocket-Extensions: permessage-deflate\n", true, false),
        ("Sec-WebSocket-Extensions: x-other; a=b\n", false, true),
    ] {
        match parse_response(&switching(more), &request) {
            Answer::Switched(switched) => {
                assert_eq!(
                    (switched.deflate(), switched.other_extension()),
                    (deflate, other),
                    "{more}"
                );
            }
            answer => panic!("{answer:?}"),
        }
    }
}

#[test]
fn the_client_gets_the_101_with_what_the_backend_said() {
    let (head, body) = passed_on(&switching(
        "Server: x\nSet-Cookie: a=1\nSet-Cookie: b=2\nSec-WebSocket-Protocol: a\nKeep-Alive: 5\nGreenroom-Session: 1\n\
         Content-Length: 0\n",
    ));
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 101 Switching Protocols\nSec-WebSocket-Accept: {ACCEPT}\nServer: x\nSet-Cookie: a=1\nSet-Cookie: b=2\n\
             Sec-WebSocket-Protocol: a\nConnection: Upgrade\nUpgrade: websocket\n\n"
        )
    );
    assert_eq!(body, None);
}

/// A1: whatever is no 101 ends the connection.
#[test]
fn any_other_answer_is_passed_on_and_closes() {
    use BodyFraming::{Chunked, Length, None as Nothing, UntilClose};
    for (answer, passed, body) in [
        (
            "403 Forbidden\nContent-Length: 5\nConnection: keep-alive\n",
            "403 Forbidden\nContent-Length: 5\nConnection: close\n",
            Length(5),
        ),
        (
            "200 OK\nUpgrade: websocket\nConnection: Upgrade\n",
            "200 OK\nConnection: close\n",
            UntilClose,
        ),
        (
            "200 OK\nTransfer-Encoding: chunked\nTrailer: x\n",
            "200 OK\nTransfer-Encoding: chunked\nConnection: close\n",
            Chunked,
        ),
        ("500\n", "500 \nConnection: close\n", UntilClose),
        (
            "503 \u{fffd}\nRetry-After: 1\n",
            "503 \u{fffd}\nRetry-After: 1\nConnection: close\n",
            UntilClose,
        ),
        (
            "200 OK\nContent-Length: 3\nContent-Length: 3\n",
            "200 OK\nContent-Length: 3\nConnection: close\n",
            Length(3),
        ),
        (
            "204 No Content\nContent-Length: 0\n",
            "204 No Content\nConnection: close\n",
            Nothing,
        ),
        (
            "304 Not Modified\nContent-Length: 9\n",
            "304 Not Modified\nContent-Length: 9\nConnection: close\n",
            Nothing,
        ),
        (
            "401 No\nConnection: close, X-Hop\nX-Hop: 1\nX-End: 1\n",
            "401 No\nX-End: 1\nConnection: close\n",
            UntilClose,
        ),
        (
            "302 Found\nLocation: /x\nGreenroom-Refusal: not_ready\n",
            "302 Found\nLocation: /x\nConnection: close\n",
            UntilClose,
        ),
        (
            "426 U\nUpgrade: websocket\nSec-WebSocket-Version: 13\n",
            "426 U\nSec-WebSocket-Version: 13\nUpgrade: websocket\nConnection: Upgrade, close\n",
            UntilClose,
        ),
        ("999 Odd\n", "999 Odd\nConnection: close\n", UntilClose),
    ] {
        let head = passed_on(&crlf(&format!("HTTP/1.1 {answer}")));
        assert_eq!(head, (format!("HTTP/1.1 {passed}\n"), Some(body)), "{answer}");
    }
    let old = passed_on(&crlf("HTTP/1.0 404 Not Found\n"));
    assert_eq!(
        old.0, "HTTP/1.1 404 Not Found\nConnection: close\n\n",
        "greenroom speaks for itself"
    );
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_nonsense() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            Nonsense::Framing,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", Nonsense::Framing),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", Nonsense::Framing),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Nonsense::Framing,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Nonsense::Framing,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Nonsense::Framing,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Nonsense::Framing,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\n\r\n",
            Nonsense::Connection,
        ),
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", Nonsense::Malformed),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Nonsense::Malformed),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Nonsense::Malformed),
        ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Nonsense::Malformed),
        ("HTTP/1.1 099 x\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/1.1 20 x\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/1.1  200 x\r\n\r\n", Nonsense::StatusLine),
        ("HTTP/1.2 200 x\r\n\r\n", Nonsense::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Nonsense::StatusLine),
        ("hello", Nonsense::StatusLine),
    ] {
        assert_eq!(nonsense(answer.as_bytes()), Some(why), "{answer:?}");
    }
    let many = crlf(&format!("HTTP/1.1 200 OK\n{}", "A: b\n".repeat(101)));
    assert_eq!(nonsense(&many), Some(Nonsense::TooManyFields));
}

#[test]
fn interim_answers_are_stepped_over() {
    let request = upgrade(&valid_and(""));
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let mut both = interim.to_vec();
    both.extend(switching(""));
    let Answer::Interim(first) = parse_response(&both, &request) else {
        panic!("not an interim answer");
    };
    let mut out = Vec::new();
    first.to_client(&mut out);
    assert_eq!(out, interim, "who asked plainly may have it");
    assert!(matches!(
        parse_response(&both[interim.len()..], &request),
        Answer::Switched(_)
    ));
    for cut in 0..interim.len() {
        assert_eq!(parse_response(&interim[..cut], &request), Answer::Partial);
    }
}

#[test]
fn what_follows_a_101_is_not_its_heads() {
    let request = upgrade(&valid_and(""));
    let mut bytes = switching("");
    let len = bytes.len();
    bytes.extend_from_slice(b"\x81\x02hi\n\0");
    match parse_response(&bytes, &request) {
        Answer::Switched(switched) => assert_eq!(switched.head_len(), len),
        answer => panic!("{answer:?}"),
    }
}
