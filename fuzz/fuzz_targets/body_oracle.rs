//! Is a body that greenroom takes for whole also whole to hyper, with the same data and the same end?
//!
//! The first byte says how the body is cut into pieces, the rest is a chunked body and whatever follows it. What
//! greenroom takes is given to a hyper server with another request behind it: that one must be found there.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use greenroom::head::{BodyFraming, BodyReader};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The data of the body and its length with its frames, if it is whole.
fn taken(bytes: &[u8], size: usize) -> Option<(Vec<u8>, usize)> {
    let mut reader = BodyReader::new(BodyFraming::Chunked);
    let (mut data, mut length) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut at = 0;
        while at < piece.len() {
            let run = reader.run(&piece[at..]).ok()?;
            if run.bytes == 0 {
                break;
            }
            if run.is_data {
                data.extend_from_slice(&piece[at..at + run.bytes]);
            }
            at += run.bytes;
        }
        length += at;
        if reader.is_done() {
            return Some((data, length));
        }
    }
    None
}

/// What a hyper server found: path and body of each request.
async fn heard(bytes: Vec<u8>) -> Vec<(String, Option<Vec<u8>>)> {
    let (mut client, server) = tokio::io::duplex(bytes.len() + 4096);
    let found = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let found = Rc::clone(&found);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            found.borrow_mut().push((path, body.ok().map(|body| body.to_bytes().to_vec())));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
        }
    });
    let sends = async {
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let serves = http1::Builder::new()
        .half_close(true)
        .max_headers(4096)
        .serve_connection(hyper_util::rt::TokioIo::new(server), service);
    let _ = tokio::join!(sends, serves);
    found.take()
}

fuzz_target!(|data: &[u8]| {
    let [size, bytes @ ..] = data else { return };
    let whole = taken(bytes, bytes.len().max(1));
    assert_eq!(taken(bytes, usize::from(*size).max(1)), whole, "the cuts matter");
    let Some((data, length)) = whole else { return };
    let mut all = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    all.extend_from_slice(&bytes[..length]);
    all.extend_from_slice(b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let heard = runtime.block_on(heard(all));
    let expected = [("/body".to_owned(), Some(data)), ("/behind".to_owned(), Some(Vec::new()))];
    assert_eq!(heard, expected);
});
