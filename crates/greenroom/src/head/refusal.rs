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
use greenroom_core::limits::REASON_MAX;
use std::io::Write as _;

/// What is said with a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct With<'a> {
    /// When to come back, in seconds: written where the refusal has such a field.
    pub retry_after_seconds: Option<u32>,
    /// Its number, by which the log knows it too.
    pub session: Option<SessionId>,
    /// What exactly is wrong, in words that the client may read.
    pub detail: Option<&'a str>,
    /// It answers HEAD, so its body is not written.
    pub is_head: bool,
}

/// Appends the answer for `refusal` to `out`.
pub fn refusal(refusal: Refusal, with: With<'_>, out: &mut Vec<u8>) {
    write(refusal, with, out);
}

/// Appends the answer for a faulty head to `out`; its line says what is wrong.
pub fn fault(fault: Fault, out: &mut Vec<u8>) {
    let said = fault.to_string();
    let with = With {
        detail: Some(&said),
        ..With::default()
    };
    write(fault.refusal(), with, out);
}

fn write(refusal: Refusal, with: With<'_>, out: &mut Vec<u8>) {
    let status = refusal.status();
    let body = match with.detail {
        Some(detail) => match refusal.sentence().split_once("; ") {
            Some((what, then)) => format!("{what}: {}; {then}\n", plain(detail)),
            None => format!("{}: {}\n", refusal.sentence(), plain(detail)),
        },
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
    if let Some(session) = with.session {
        let _ = write!(out, "Greenroom-Session: {session}\r\n");
    }
    if let Some(seconds) = with.retry_after_seconds.filter(|_| refusal.retry_after()) {
        let _ = write!(out, "Retry-After: {seconds}\r\n");
    }
    let end: &[u8] = match refusal {
        Refusal::Version => b"Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        _ => b"Connection: close\r\n\r\n",
    };
    out.extend_from_slice(end);
    if !with.is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Cut to `REASON_MAX`, and without what is no visible character: a backend may have chosen the words.
fn plain(detail: &str) -> String {
    detail.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

/// The reason phrase, which nobody reads but people with curl.
const fn reason(refusal: Refusal) -> &'static str {
    match refusal.status() {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
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
            let with = With {
                retry_after_seconds: Some(3),
                ..With::default()
            };
            let answer = text(|out| refusal(each, with, out));
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
            assert_eq!(head.contains("\r\nRetry-After: 3\r\n"), each.retry_after(), "{head}");
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
            let with = With { is_head: true, ..with };
            let to_head = text(|out| refusal(each, with, out));
            assert_eq!(to_head, format!("{head}\r\n\r\n"), "HEAD has the same head and no body");
        }
    }

    fn retry(seconds: u32) -> With<'static> {
        With {
            retry_after_seconds: Some(seconds),
            ..With::default()
        }
    }

    #[test]
    fn a_failed_start_says_its_phase_and_reason_and_nothing_that_could_break_a_line() {
        let with = With {
            detail: Some("phase database: no\r\nlicense"),
            ..With::default()
        };
        let answer = text(|out| refusal(Refusal::StartFailed, with, out));
        assert!(
            answer.ends_with("\r\n\r\nthe server could not start: phase database: nolicense; try again later\n"),
            "{answer}"
        );
    }

    #[test]
    fn the_bytes_of_a_refusal() {
        assert_eq!(
            text(|out| refusal(Refusal::NotReady, retry(2), out)),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 40\r\n\
             Cache-Control: no-store\r\nGreenroom-Refusal: not_ready\r\nRetry-After: 2\r\nConnection: close\r\n\r\n\
             the server is starting; try again later\n"
        );
        let without = text(|out| refusal(Refusal::NotReady, With::default(), out));
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
