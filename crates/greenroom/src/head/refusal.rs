//! The bytes of greenroom's own answers before the 101.
//!
//! A refusal is one complete HTTP/1.1 response that ends the connection. It
//! says in one line why, in `Greenroom-Refusal` by its word, and, where coming
//! back makes sense, when. Never internals: a [`Fault`] only names what the
//! client itself did.
//!
//! A 426 carries `Sec-WebSocket-Version` (RFC 6455 §4.4) and Upgrade, which RFC
//! 9110 §15.5.22 asks for; Upgrade must be named in Connection (§7.8). Parsers
//! switch on 101 only, so `Upgrade, close` is safe.

use super::fault::Fault;
use greenroom_core::event::{Refusal, SessionId};
use std::io::Write as _;

/// Appends the answer for `refusal` to `out`. `retry_after_seconds` is written where the refusal has such a field.
pub fn refusal(refusal: Refusal, retry_after_seconds: Option<u32>, out: &mut Vec<u8>) {
    refusal_of(refusal, retry_after_seconds, None, true, out);
}

/// The same for a request that has a number, by which the log knows it too; without the body for HEAD.
pub fn refusal_of(
    refusal: Refusal,
    retry_after_seconds: Option<u32>,
    session: Option<SessionId>,
    with_body: bool,
    out: &mut Vec<u8>,
) {
    write(refusal, None, retry_after_seconds, session, with_body, out);
}

/// Appends the answer for a faulty head to `out`; its line says what is wrong.
pub fn fault(fault: Fault, out: &mut Vec<u8>) {
    write(fault.refusal(), Some(fault), None, None, true, out);
}

fn write(
    refusal: Refusal,
    fault: Option<Fault>,
    retry_after_seconds: Option<u32>,
    session: Option<SessionId>,
    with_body: bool,
    out: &mut Vec<u8>,
) {
    let status = refusal.status();
    let body = match fault {
        Some(fault) => format!("{}: {fault}\n", refusal.sentence()),
        None => format!("{}\n", refusal.sentence()),
    };
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nGreenroom-Refusal: {}\r\n",
        reason(refusal),
        body.len(),
        refusal.word(),
    );
    if let Some(session) = session {
        let _ = write!(out, "Greenroom-Session: {session}\r\n");
    }
    if let Some(seconds) = retry_after_seconds.filter(|_| refusal.retry_after()) {
        let _ = write!(out, "Retry-After: {seconds}\r\n");
    }
    let end: &[u8] = match refusal {
        Refusal::Version => b"Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        _ => b"Connection: close\r\n\r\n",
    };
    out.extend_from_slice(end);
    if with_body {
        out.extend_from_slice(body.as_bytes());
    }
}

/// The reason phrase, which nobody reads but people with curl.
const fn reason(refusal: Refusal) -> &'static str {
    match refusal.status() {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_refusal_is_one_complete_answer_that_closes() {
        for &each in Refusal::ALL {
            let answer = text(|out| refusal(each, Some(3), out));
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", each.status())), "{head}");
            assert!(!head.contains(" Refused"), "a status without its phrase: {head}");
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{head}"
            );
            assert!(
                head.contains(&format!("\r\nGreenroom-Refusal: {}\r\n", each.word())),
                "{head}"
            );
            assert_eq!(body, format!("{}\n", each.sentence()));
            assert_eq!(head.contains("\r\nRetry-After: 3\r\n"), each.status() == 503, "{head}");
            assert_eq!(
                head.contains("\r\nSec-WebSocket-Version: 13\r\n"),
                each.status() == 426,
                "{head}"
            );
            let connection = if each.status() == 426 {
                "Upgrade, close"
            } else {
                "close"
            };
            assert!(head.ends_with(&format!("\r\nConnection: {connection}")), "{head}");
            let to_head = text(|out| refusal_of(each, Some(3), None, false, out));
            assert_eq!(to_head, format!("{head}\r\n\r\n"), "HEAD has the same head and no body");
        }
    }

    #[test]
    fn the_bytes_of_a_refusal() {
        assert_eq!(
            text(|out| refusal(Refusal::NotReady, Some(2), out)),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 40\r\n\
             Cache-Control: no-store\r\nGreenroom-Refusal: not_ready\r\nRetry-After: 2\r\nConnection: close\r\n\r\n\
             the server is starting; try again later\n"
        );
        let without = text(|out| refusal(Refusal::NotReady, None, out));
        assert!(!without.contains("Retry-After"), "nothing is made up");
    }

    #[test]
    fn a_faulty_request_is_told_its_fault() {
        let answer = text(|out| fault(Fault::HostTwice, out));
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nthe request is malformed: Host is there twice\n"),
            "{answer}"
        );
        assert!(text(|out| fault(Fault::Version, out)).starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(text(|out| fault(Fault::TooManyFields, out)).starts_with("HTTP/1.1 431 "));
    }
}
