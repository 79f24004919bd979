//! The plain side of the backend: `GET /N` is answered with N bytes, and again on the same connection.
//!
//! An answer is made once for each size, so that what a request costs is the reading
//! of its head and one write.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{HEAD_MAX, read};
use crate::frames::head_end;

/// Bytes of an answer's body at the most.
const BODY_MAX: usize = 64 * 1024 * 1024;

/// By the size of their body, and whether they close.
type Answers = HashMap<(usize, bool), Rc<[u8]>>;

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

/// Serves a connection of which the first head, and what followed it, is read already.
pub(crate) async fn serve(mut stream: TcpStream, mut bytes: Vec<u8>) -> io::Result<()> {
    loop {
        let Some(end) = head_end(&bytes) else {
            if read(&mut stream, |more| bytes.extend_from_slice(more)).await? == 0 || bytes.len() > HEAD_MAX {
                return Ok(());
            }
            continue;
        };
        let (size, closes) = asked(&bytes[..end]).ok_or_else(|| io::Error::other("no GET /N"))?;
        bytes.drain(..end);
        if bytes.is_empty() {
            bytes = Vec::new(); // a connection that waits keeps none
        }
        stream.write_all(&answer(size, closes)).await?;
        if closes {
            return Ok(());
        }
    }
}

/// How many bytes a head asks for, and whether it wants the connection closed.
fn asked(head: &[u8]) -> Option<(usize, bool)> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(head).ok()?;
    let size = request
        .path?
        .strip_prefix('/')?
        .parse()
        .ok()
        .filter(|size| *size <= BODY_MAX)?;
    let closes = request
        .headers
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("connection") && field.value.eq_ignore_ascii_case(b"close"));
    Some((size, closes))
}

fn answer(size: usize, closes: bool) -> Rc<[u8]> {
    let make = || {
        let connection = if closes { "Connection: close\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n{connection}\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + size, b'x');
        answer.into()
    };
    ANSWERS.with_borrow_mut(|answers| Rc::clone(answers.entry((size, closes)).or_insert_with(make)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_asks_for_a_size_and_for_a_close() {
        assert_eq!(asked(b"GET /1024 HTTP/1.1\r\nHost: x\r\n\r\n"), Some((1024, false)));
        assert_eq!(asked(b"GET /0 HTTP/1.1\r\nconnection: Close\r\n\r\n"), Some((0, true)));
        assert_eq!(asked(b"GET /x HTTP/1.1\r\n\r\n"), None);
        assert!(answer(3, false).ends_with(b"Content-Length: 3\r\n\r\nxxx"));
    }
}
