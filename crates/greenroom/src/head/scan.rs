//! Decides where a head ends, and refuses at once what can be no head.
//!
//! The caller keeps what has arrived in one buffer and says how much of it an
//! earlier call has seen, so that a head which arrives a byte at a time costs
//! one look at each byte. Only a complete head goes to the parser.
//!
//! This is also where line ends are strict: `httparse` takes a bare LF for the
//! end of a line, and two parsers that disagree on line ends are how requests
//! are smuggled. Each byte is judged by the three before it and by nothing after it, so
//! the verdict does not depend on how the bytes were cut.

use super::fault::{Fault, Nonsense};
use super::fields::is_token_byte;
use greenroom_core::limits::BACKEND_HEAD_MAX;

/// How an answer begins.
const ANSWER_BEGIN: &[u8] = b"HTTP/1.";

/// The length of the request head at the start of `bytes`, its empty line
/// included, or `None` while more must be read.
///
/// `from` is how many of these bytes an earlier call has seen; 0 is always right. A head has at most `max` bytes.
pub fn head_end(bytes: &[u8], from: usize, max: usize) -> Result<Option<usize>, Fault> {
    if bytes.first().is_some_and(|&first| !is_token_byte(first)) {
        return Err(Fault::FirstByte);
    }
    lines(bytes, from, max)
}

/// The same for the head of a backend's answer.
pub fn answer_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Nonsense> {
    if !bytes.iter().zip(ANSWER_BEGIN).all(|(a, b)| a == b) {
        return Err(Nonsense::StatusLine);
    }
    lines(bytes, from, BACKEND_HEAD_MAX).map_err(|fault| match fault {
        Fault::TooLong => Nonsense::TooLong,
        _ => Nonsense::Malformed,
    })
}

fn lines(bytes: &[u8], from: usize, max: usize) -> Result<Option<usize>, Fault> {
    let window = &bytes[..bytes.len().min(max)];
    for (at, &byte) in window.iter().enumerate().skip(from) {
        let before = &window[..at];
        match byte {
            b'\n' if before.ends_with(b"\r\n\r") => return Ok(Some(at + 1)),
            b'\n' if before.ends_with(b"\r") => {}
            b'\n' => return Err(Fault::LineEnd),
            _ if before.ends_with(b"\r") => return Err(Fault::LineEnd),
            b' ' | b'\t' if before.ends_with(b"\n") => return Err(Fault::Folded),
            b'\r' | b'\t' => {}
            0..0x20 | 0x7f => return Err(Fault::ControlByte),
            _ => {}
        }
    }
    if bytes.len() >= max {
        return Err(Fault::TooLong);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_core::limits::HEAD_MAX;

    fn head_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Fault> {
        super::head_end(bytes, from, HEAD_MAX)
    }

    #[test]
    fn the_end_is_the_first_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(head_end(head, 0), Ok(Some(head.len())));
        let mut more = head.to_vec();
        more.extend_from_slice(b"\x81\x00\r\n\r\n");
        assert_eq!(
            head_end(&more, 0),
            Ok(Some(head.len())),
            "what follows is not looked at"
        );
        for cut in 0..head.len() {
            assert_eq!(head_end(&head[..cut], 0), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_byte_at_a_time_gives_the_same_verdict_at_the_earliest_byte() {
        for (bytes, verdict, at) in [
            (&b"GET / HTTP/1.1\r\n\r\nrest"[..], Ok(Some(18)), 18),
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(Fault::LineEnd), 15),
            (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Err(Fault::LineEnd), 16),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Err(Fault::Folded), 23),
            (b"GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", Err(Fault::Folded), 23),
            (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", Err(Fault::Folded), 17),
            (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", Err(Fault::ControlByte), 20),
            (b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", Err(Fault::ControlByte), 20),
            (b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n", Err(Fault::LineEnd), 21),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", Err(Fault::LineEnd), 23),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\r\n", Err(Fault::LineEnd), 24),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", Err(Fault::FirstByte), 1),
            (b"\nGET / HTTP/1.1\r\n\r\n", Err(Fault::FirstByte), 1),
            (b"\x16\x03\x01\x02\x00", Err(Fault::FirstByte), 1),
        ] {
            assert_eq!(head_end(bytes, 0), verdict, "{:?}", bytes.escape_ascii().to_string());
            for seen in 1..at {
                assert_eq!(head_end(&bytes[..seen], seen - 1), Ok(None), "{seen}");
            }
            assert_eq!(head_end(&bytes[..at], at - 1), verdict, "at its byte");
        }
    }

    #[test]
    fn a_head_of_exactly_the_bound_passes_and_one_more_does_not() {
        let head = |length: usize| {
            let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
            head.resize(length - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(head_end(&head(HEAD_MAX), 0), Ok(Some(HEAD_MAX)));
        assert_eq!(head_end(&head(HEAD_MAX + 1), 0), Err(Fault::TooLong));
        assert_eq!(head_end(&head(HEAD_MAX)[..HEAD_MAX - 1], 0), Ok(None));
    }

    #[test]
    fn an_answer_that_is_no_http_is_known_at_its_first_wrong_byte() {
        assert_eq!(answer_end(b"", 0), Ok(None));
        assert_eq!(answer_end(b"HTTP/1", 0), Ok(None));
        assert_eq!(answer_end(b"HTTQ", 0), Err(Nonsense::StatusLine));
        assert_eq!(answer_end(b"HTTP/2 200\r\n\r\n", 0), Err(Nonsense::StatusLine));
        assert_eq!(answer_end(b"SSH-2.0-OpenSSH", 0), Err(Nonsense::StatusLine));
        assert_eq!(answer_end(b"HTTP/1.1 200 OK\nA: b\n\n", 0), Err(Nonsense::Malformed));
        let long = [b"HTTP/1.1 200 ", &b"x".repeat(BACKEND_HEAD_MAX)[..]].concat();
        assert_eq!(answer_end(&long, 0), Err(Nonsense::TooLong));
    }
}
