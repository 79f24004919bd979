//! Decides where a body ends, a client's or a backend's.
//!
//! The body is passed on verbatim, chunk by chunk as it comes; a [`BodyReader`]
//! only counts along, so that it is known when a message is complete, and nothing
//! that is written after it is taken for a part of it. For a client of HTTP/1.0,
//! which knows no chunks, [`BodyReader::run`] tells the data from what frames it.
//!
//! ```text
//!  Size ──CR──▶ SizeEnd ──LF──▶ Data ──n bytes──▶ DataCr ──▶ DataLf ──▶ Size
//!   │ ;                    │ n = 0
//!   └▶ Extension ──CR──▶   └──────▶ Line ──CR──▶ LastLf ──LF──▶ done
//!                                    │  ▲ LF
//!                                    ▼  └───── NameLf ◀─CR─ Value ◀─:─ Name
//! ```
//!
//! Bounds: 16 hexadecimal digits of a size, [`CHUNK_LINE_MAX`] bytes of its line,
//! [`TRAILER_MAX`] bytes of trailer fields. State: two numbers, no buffer.

use super::fields::is_token_byte;
use greenroom_core::limits::{CHUNK_LINE_MAX, TRAILER_MAX};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and its trailer fields.
    Chunked,
    /// When the backend ends its side.
    UntilClose,
}

/// What a piece of a body was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// So many bytes of the piece belong to the body and are passed on; the rest is dropped.
    pub bytes: usize,
    /// The body is complete.
    pub done: bool,
}

/// Bytes at the beginning of a piece that are all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// So many bytes; 0 when the body is complete, or the piece empty.
    pub bytes: usize,
    /// The message's own data, and not sizes, line ends or trailer fields.
    pub is_data: bool,
}

/// A chunked body that is none: the message is cut, as nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The size is no hexadecimal number, or too large to be one.
    #[error("the body has a chunk without a legal size")]
    Size,
    /// The size's line is too long.
    #[error("the body has a chunk whose size line is longer than {CHUNK_LINE_MAX} bytes")]
    LineTooLong,
    /// A line or a chunk does not end with CR LF.
    #[error("the body has a chunk that does not end with CR LF")]
    LineEnd,
    /// A trailer field that is none.
    #[error("the body has a malformed trailer field")]
    Trailer,
    /// A trailer field of a request that a server could take for one of its head.
    #[error("the body has a trailer field that may only stand in the head")]
    TrailerField,
    /// The trailer fields are too long.
    #[error("the body has trailer fields of more than {TRAILER_MAX} bytes")]
    TrailerTooLong,
}

/// Follows one body.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    /// It is a client's: its trailer fields are judged by their names.
    is_request: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Chunk { at: Chunk, size: u64, line: u16 },
}

/// Where in a chunked body. The `size` beside it is of the current chunk, or what is made of a trailer field's name
/// so far; `line` counts a line or the trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Line,
    Name,
    Value,
    NameLf,
    LastLf,
    End,
}

impl BodyReader {
    /// A reader for a body that ends as `framing` says.
    #[must_use]
    pub fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Chunk {
                at: Chunk::Size,
                size: 0,
                line: 0,
            },
            BodyFraming::UntilClose => State::UntilClose,
        };
        let is_request = false;
        Self { state, is_request }
    }

    /// The same for the body of a client: a trailer field that only the head may have, or only greenroom say, is a
    /// fault. Servers are in use that put trailer fields among those of the head (lighttpd's CVE-2025-12642).
    #[must_use]
    pub fn of_request(framing: BodyFraming) -> Self {
        let is_request = true;
        Self {
            is_request,
            ..Self::new(framing)
        }
    }

    /// Whether the body is complete. Ask before the first read: a body may be empty.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the backend may end its side now; else the body was cut short.
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// So many of the next bytes belong to the body for sure; 0 while that depends on them.
    #[must_use]
    pub fn sure_bytes(&self) -> usize {
        let sure = match self.state {
            State::Length(left) => left,
            State::Chunk {
                at: Chunk::Data, size, ..
            } => size,
            State::UntilClose => u64::MAX,
            State::Done | State::Chunk { .. } => 0,
        };
        usize::try_from(sure).unwrap_or(usize::MAX)
    }

    /// Takes the next piece of the body. After a fault the reader takes nothing more.
    pub fn take(&mut self, piece: &[u8]) -> Result<Taken, BodyFault> {
        let mut bytes = 0;
        loop {
            let run = self.run(&piece[bytes..])?;
            bytes += run.bytes;
            if run.bytes == 0 || bytes == piece.len() {
                let done = self.is_done();
                return Ok(Taken { bytes, done });
            }
        }
    }

    /// Takes what stands at the beginning of `piece` and is of one kind.
    pub fn run(&mut self, piece: &[u8]) -> Result<Run, BodyFault> {
        let there = piece.len() as u64;
        let (bytes, is_data) = match self.state {
            State::Done => (0, false),
            State::UntilClose => (piece.len(), true),
            State::Length(left) => {
                let taken = left.min(there);
                self.state = if taken == left {
                    State::Done
                } else {
                    State::Length(left - taken)
                };
                (usize::try_from(taken).unwrap_or(piece.len()), true)
            }
            State::Chunk {
                at: Chunk::Data, size, ..
            } => {
                let (state, taken) = data(size, piece.len());
                self.state = state;
                (taken, true)
            }
            State::Chunk { .. } => (self.framing(piece)?, false),
        };
        Ok(Run { bytes, is_data })
    }

    /// Takes what frames the data, up to the next data or the end.
    fn framing(&mut self, piece: &[u8]) -> Result<usize, BodyFault> {
        for (taken, &byte) in piece.iter().enumerate() {
            match self.state {
                State::Chunk { at: Chunk::Data, .. } | State::Done => return Ok(taken),
                State::Chunk { at, size, line } => self.state = self.step(at, size, line, byte)?,
                State::Length(_) | State::UntilClose => return Ok(taken), // never in a chunked body
            }
        }
        Ok(piece.len())
    }

    fn step(&mut self, at: Chunk, size: u64, line: u16, byte: u8) -> Result<State, BodyFault> {
        let mut next = step(at, size, line, byte);
        if self.is_request && next.is_ok_and(|next| is_for_the_head(at, size, byte, next)) {
            next = Err(BodyFault::TrailerField);
        }
        if next.is_err() {
            self.state = State::Done;
        }
        next
    }
}

/// Takes what is there of a chunk's data.
fn data(size: u64, there: usize) -> (State, usize) {
    let taken = there.min(usize::try_from(size).unwrap_or(usize::MAX));
    let size = size - taken as u64;
    let at = if size == 0 { Chunk::DataCr } else { Chunk::Data };
    (State::Chunk { at, size, line: 0 }, taken)
}

/// Takes one byte outside a chunk's data.
fn step(at: Chunk, size: u64, line: u16, byte: u8) -> Result<State, BodyFault> {
    let line = line.saturating_add(1);
    let (bound, over) = match at {
        Chunk::Size | Chunk::Extension | Chunk::SizeLf => (CHUNK_LINE_MAX, BodyFault::LineTooLong),
        Chunk::Data | Chunk::DataCr | Chunk::DataLf | Chunk::End => (usize::MAX, BodyFault::LineEnd),
        Chunk::Line | Chunk::Name | Chunk::Value | Chunk::NameLf | Chunk::LastLf => {
            (TRAILER_MAX, BodyFault::TrailerTooLong)
        }
    };
    if usize::from(line) > bound {
        return Err(over);
    }
    let text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let (next, size) = match (at, byte) {
        (Chunk::Size, b'\r') if line > 1 => (Chunk::SizeLf, size),
        (Chunk::Size, b';') if line > 1 => (Chunk::Extension, size),
        (Chunk::Size, digit) => {
            let digit = char::from(digit).to_digit(16).ok_or(BodyFault::Size)?;
            // Leading zeros count as digits too: nobody needs more than 16.
            if line > 16 {
                return Err(BodyFault::Size);
            }
            (Chunk::Size, size << 4 | u64::from(digit))
        }
        (Chunk::Extension, b'\r') => (Chunk::SizeLf, size),
        (Chunk::Extension, _) if text => (Chunk::Extension, size),
        (Chunk::SizeLf, b'\n') if size == 0 => (Chunk::Line, 0),
        (Chunk::SizeLf, b'\n') => (Chunk::Data, size),
        (Chunk::DataCr, b'\r') => (Chunk::DataLf, 0),
        (Chunk::DataLf, b'\n') => (Chunk::Size, 0),
        (Chunk::Line, b'\r') => (Chunk::LastLf, 0),
        (Chunk::Line, byte) if is_token_byte(byte) => (Chunk::Name, mixed(MIX_BEGIN, byte)),
        (Chunk::Name, byte) if is_token_byte(byte) => (Chunk::Name, mixed(size, byte)),
        (Chunk::Name, b':') => (Chunk::Value, 0),
        (Chunk::Value, b'\r') => (Chunk::NameLf, 0),
        (Chunk::Value, _) if text => (Chunk::Value, 0),
        (Chunk::NameLf, b'\n') => (Chunk::Line, 0),
        (Chunk::LastLf, b'\n') => (Chunk::End, 0),
        (Chunk::Line | Chunk::Name | Chunk::Value, _) => return Err(BodyFault::Trailer),
        (
            Chunk::Extension
            | Chunk::SizeLf
            | Chunk::Data
            | Chunk::DataCr
            | Chunk::DataLf
            | Chunk::NameLf
            | Chunk::LastLf
            | Chunk::End,
            _,
        ) => return Err(BodyFault::LineEnd),
    };
    let line = match (at, next) {
        // A new line of sizes, or the beginning of the trailer.
        (Chunk::SizeLf | Chunk::DataLf, _) => 0,
        _ => line,
    };
    Ok(match next {
        Chunk::End => State::Done,
        at => State::Chunk { at, size, line },
    })
}

/// Trailer fields that a request must not have: framing, routing, who asks (RFC 9110 §6.5.1), and what ends at this hop.
const HEADS_OWN: [u64; 19] = [
    whole("connection"),
    whole("keep-alive"),
    whole("proxy-connection"),
    whole("proxy-authorization"),
    whole("te"),
    whole("trailer"),
    whole("transfer-encoding"),
    whole("upgrade"),
    whole("http2-settings"),
    whole("content-length"),
    whole("host"),
    whole("origin"),
    whole("authorization"),
    whole("cookie"),
    whole("expect"),
    whole("proxy"),
    whole("forwarded"),
    whole("x-forwarded"),
    whole("x-real-ip"),
];
/// How the names of others begin.
const BEGINS: [u64; 2] = [whole("greenroom-"), whole("x-forwarded-")];

/// Whether `byte` makes a trailer field's name one of those. An underscore becomes the same CGI variable as a dash.
fn is_for_the_head(at: Chunk, name: u64, byte: u8, next: State) -> bool {
    match (at, next) {
        (
            Chunk::Line | Chunk::Name,
            State::Chunk {
                at: Chunk::Name, size, ..
            },
        ) => byte == b'_' || byte == b'-' && BEGINS.contains(&size),
        (Chunk::Name, _) => HEADS_OWN.contains(&name),
        _ => false,
    }
}

/// A name as one number, without case, so that no buffer is needed (FNV-1a). Two names with one number
/// exist; who finds one has his own request refused.
const fn whole(name: &str) -> u64 {
    let (mut number, mut at) = (MIX_BEGIN, 0);
    while at < name.len() {
        number = mixed(number, name.as_bytes()[at]);
        at += 1;
    }
    number
}

const MIX_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

const fn mixed(number: u64, byte: u8) -> u64 {
    (number ^ byte.to_ascii_lowercase() as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `bytes` in pieces of `size`: what was taken, whether done, or the fault.
    fn read(framing: BodyFraming, bytes: &[u8], size: usize) -> Result<(usize, bool), BodyFault> {
        let mut reader = BodyReader::new(framing);
        let mut sum = 0;
        for piece in bytes.chunks(size) {
            let taken = reader.take(piece)?;
            assert_eq!(taken.done, reader.is_done());
            sum += taken.bytes;
        }
        Ok((sum, reader.is_done()))
    }

    #[test]
    fn a_body_ends_where_its_head_said() {
        for size in [1, 2, 100] {
            assert_eq!(read(BodyFraming::None, b"abc", size), Ok((0, true)));
            assert_eq!(read(BodyFraming::Length(0), b"abc", size), Ok((0, true)));
            assert_eq!(read(BodyFraming::Length(2), b"abc", size), Ok((2, true)));
            assert_eq!(read(BodyFraming::Length(4), b"abc", size), Ok((3, false)));
            assert_eq!(read(BodyFraming::Length(u64::MAX), b"abc", size), Ok((3, false)));
            assert_eq!(read(BodyFraming::UntilClose, b"abc", size), Ok((3, false)));
        }
        assert!(BodyReader::new(BodyFraming::UntilClose).may_end() && !BodyReader::new(BodyFraming::Chunked).may_end());
    }

    #[test]
    fn chunks_end_with_the_empty_line_after_the_last() {
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A;x=\"y\"\r\n0123456789\r\n00;z\r\nT: a\r\nU:\r\n\r\n",
            "1\r\n0\r\n1\r\n\r\r\n0\r\n\r\n",
        ] {
            for size in 1..body.len() + 9 {
                let with_rest = format!("{body}HTTP/1.1");
                assert_eq!(
                    read(BodyFraming::Chunked, with_rest.as_bytes(), size),
                    Ok((body.len(), true)),
                    "{body:?}"
                );
            }
            for cut in 0..body.len() {
                assert_eq!(
                    read(BodyFraming::Chunked, &body.as_bytes()[..cut], 3),
                    Ok((cut, false)),
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn chunks_that_could_be_read_in_two_ways_are_faults() {
        for (body, fault) in [
            ("\r\n", BodyFault::Size),
            (";x\r\n", BodyFault::Size),
            ("g\r\n", BodyFault::Size),
            ("+5\r\n", BodyFault::Size),
            ("-0\r\n", BodyFault::Size),
            ("0x5\r\n", BodyFault::Size),
            ("5 \r\n", BodyFault::Size),
            (" 5\r\n", BodyFault::Size),
            ("5\n", BodyFault::Size),
            ("00000000000000001\r\n", BodyFault::Size),
            ("5\rx", BodyFault::LineEnd),
            ("5;a\n", BodyFault::LineEnd),
            ("5;a\0", BodyFault::LineEnd),
            ("1\r\nab", BodyFault::LineEnd),
            ("1\r\na\n", BodyFault::LineEnd),
            ("1\r\na\r\r", BodyFault::LineEnd),
            ("0\r\n\n", BodyFault::Trailer),
            ("0\r\n\rx", BodyFault::LineEnd),
            ("0\r\nT a\r\n", BodyFault::Trailer),
            ("0\r\n: a\r\n", BodyFault::Trailer),
            ("0\r\nT : a\r\n", BodyFault::Trailer),
            ("0\r\nT: a\n", BodyFault::Trailer),
            ("0\r\nT: a\r\n b\r\n", BodyFault::Trailer),
            ("0\r\nT: \0", BodyFault::Trailer),
        ] {
            for size in 1..=body.len() {
                assert_eq!(
                    read(BodyFraming::Chunked, body.as_bytes(), size),
                    Err(fault),
                    "{body:?}"
                );
            }
        }
    }

    /// A14 and A11, for those servers that put trailer fields among those of the head.
    #[test]
    fn a_client_says_nothing_in_a_trailer_that_it_must_not_say_in_the_head() {
        let read = |name: &str, size: usize| {
            let body = format!("3\r\nabc\r\n0\r\nX-Sum: 1\r\n{name}: 6.6.6.6\r\n\r\n");
            let mut reader = BodyReader::of_request(BodyFraming::Chunked);
            for piece in body.as_bytes().chunks(size) {
                reader.take(piece)?;
            }
            Ok(reader.is_done())
        };
        for size in [1, 7, 100] {
            for name in [
                "X-Forwarded-For",
                "x-forwarded-anything",
                "X-Forwarded",
                "Forwarded",
                "X-Real-IP",
                "Greenroom-Session",
                "GREENROOM-x",
                "X_Forwarded_For",
                "Content-Length",
                "transfer-encoding",
                "Host",
                "Cookie",
                "Authorization",
                "Connection",
                "Proxy",
                "TE",
            ] {
                assert_eq!(read(name, size), Err(BodyFault::TrailerField), "{name}");
            }
            for name in [
                "X-Sum",
                "Digest",
                "Hosts",
                "xforwarded-for",
                "X-Greenroom-x",
                "Grpc-Status",
                "t",
            ] {
                assert_eq!(read(name, size), Ok(true), "{name}");
            }
        }
        let answer = b"0\r\nSet_Cookie: x\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(
            super::BodyReader::new(BodyFraming::Chunked)
                .take(answer)
                .map(|taken| taken.done),
            Ok(true)
        );
    }

    #[test]
    fn lines_and_trailers_are_bounded() {
        let line = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 4));
        assert!(read(BodyFraming::Chunked, line(CHUNK_LINE_MAX).as_bytes(), 7).is_ok_and(|(_, done)| done));
        assert_eq!(
            read(BodyFraming::Chunked, line(CHUNK_LINE_MAX + 1).as_bytes(), 7),
            Err(BodyFault::LineTooLong)
        );
        let trailer = |length: usize| format!("0\r\nT:{}\r\n\r\n", "x".repeat(length - 6));
        assert!(read(BodyFraming::Chunked, trailer(TRAILER_MAX).as_bytes(), 7).is_ok_and(|(_, done)| done));
        let over = trailer(TRAILER_MAX + 1);
        assert_eq!(
            read(BodyFraming::Chunked, over.as_bytes(), 7),
            Err(BodyFault::TrailerTooLong)
        );
        let many = format!("0\r\n{}\r\n", "T: a\r\n".repeat(TRAILER_MAX / 6 + 1));
        assert_eq!(
            read(BodyFraming::Chunked, many.as_bytes(), 7),
            Err(BodyFault::TrailerTooLong)
        );
    }

    #[test]
    fn after_a_fault_nothing_more_is_taken() {
        let mut reader = BodyReader::new(BodyFraming::Chunked);
        assert_eq!(reader.take(b"x"), Err(BodyFault::Size));
        assert_eq!(reader.take(b"5\r\nhello"), Ok(Taken { bytes: 0, done: true }));
    }

    #[test]
    fn the_largest_size_is_a_size() {
        let body = b"FFFFFFFFFFFFFFFF\r\nabc";
        assert_eq!(read(BodyFraming::Chunked, body, 100), Ok((body.len(), false)));
    }
}
