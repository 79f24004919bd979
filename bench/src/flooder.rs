//! Clients that send as much as they may, and come back when they are sent away.
//!
//! Prints `open` when each of them has had a first answer. At a line of its standard input all send at once, at another it
//! prints `result`, and all go. Each connects, takes a 101 of greenroom's own, and writes messages for as long as its socket takes them.
//! A refusal or a Close sends it away for [`AWAY`]; then it comes again. Its own send buffers are small, as
//! flooders are elsewhere: what counts is what the gateway's side keeps. One thread. Bounded by `--connections`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::clients::connect;
use crate::frames::{client_frame, head_end, is_101, request_for};
use crate::load::{CONNECTS, lines};

/// How long one who was sent away stays away.
const AWAY: Duration = Duration::from_secs(1);
/// Bytes that the kernel keeps of what a flooder sends.
const SEND_BUFFER: usize = 16 * 1024;
/// Bytes of an answer's head at the most.
const HEAD_MAX: usize = 16 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to.
    #[arg(long)]
    addr: SocketAddr,
    /// Where they are held.
    #[arg(long)]
    path: String,
    /// Clients.
    #[arg(long)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 4_096)]
    size: usize,
    /// They leave with a reset. Without it their FIN stays behind what greenroom does not read, where it cannot see it.
    #[arg(long)]
    reset: bool,
}

/// What all flooders share.
struct Shared {
    address: SocketAddr,
    head: Vec<u8>,
    /// The same frame twice, so that any unsent part is one slice.
    frames: Vec<u8>,
    frame: usize,
    reset: bool,
    connects: Semaphore,
    /// Clients that have had a first answer.
    answered: Cell<usize>,
    told: Notify,
    /// Closed until all send.
    may_send: Semaphore,
    /// Accepted, refused by their status, closed by their code, cut, and what else happened.
    ends: RefCell<BTreeMap<String, u64>>,
    bytes: Cell<u64>,
    /// Accepted and not sent away.
    inside: Cell<usize>,
}

impl Shared {
    fn count(&self, what: impl Into<String>) {
        *self.ends.borrow_mut().entry(what.into()).or_default() += 1;
    }
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    let mut lines = lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let frame = client_frame(arguments.size);
    let shared = Rc::new(Shared {
        address: arguments.addr,
        head: request_for(&arguments.path, &arguments.addr.to_string()),
        frame: frame.len(),
        frames: frame.repeat(2),
        reset: arguments.reset,
        connects: Semaphore::new(CONNECTS),
        answered: Cell::new(0),
        told: Notify::new(),
        may_send: Semaphore::new(0),
        ends: RefCell::default(),
        bytes: Cell::new(0),
        inside: Cell::new(0),
    });
    LocalSet::new().block_on(&runtime, async {
        let mut flood = JoinSet::new();
        for number in 0..arguments.connections {
            flood.spawn_local(again_and_again(Rc::clone(&shared), number));
        }
        while shared.answered.get() < arguments.connections {
            shared.told.notified().await;
        }
        println!("{}", json!({"event": "open", "ends": *shared.ends.borrow()}));
        lines.recv().await;
        shared.may_send.add_permits(arguments.connections);
        lines.recv().await;
        println!(
            "{}",
            json!({
                "event": "result", "ends": *shared.ends.borrow(), "bytes": shared.bytes.get(),
                "inside": shared.inside.get(),
            })
        );
        flood.shutdown().await;
        lines.recv().await;
        Ok(())
    })
}

/// One client, for ever.
async fn again_and_again(shared: Rc<Shared>, number: usize) {
    let mut first = true;
    loop {
        let opened = open(&shared, number).await;
        if std::mem::take(&mut first) {
            shared.answered.set(shared.answered.get() + 1);
            shared.told.notify_one();
        }
        let end = match opened {
            Ok(Ok(stream)) => {
                shared.count("accepted");
                shared.inside.set(shared.inside.get() + 1);
                let end = send(&shared, &stream).await;
                shared.inside.set(shared.inside.get() - 1);
                end.map_or_else(
                    |error| format!("cut: {:?}", error.kind()),
                    |code| format!("closed {code}"),
                )
            }
            Ok(Err(status)) => format!("refused {status}"),
            Err(error) => format!("no answer: {:?}", error.kind()),
        };
        shared.count(end);
        tokio::time::sleep(AWAY).await;
    }
}

/// Connects and shakes hands; the status of another answer than 101.
async fn open(shared: &Shared, number: usize) -> io::Result<Result<TcpStream, String>> {
    let _connect = shared.connects.acquire().await.map_err(io::Error::other)?;
    let mut stream = connect(shared.address, number).await?;
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER)?;
    if shared.reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    tokio::io::AsyncWriteExt::write_all(&mut stream, &shared.head).await?;
    let mut head = Vec::new();
    while head_end(&head).is_none() {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if is_101(&head) {
        return Ok(Ok(stream));
    }
    let status = head.get(9..12).unwrap_or_default();
    Ok(Err(String::from_utf8_lossy(status).into_owned()))
}

/// Writes for as long as it may; the code of the Close that ends it.
async fn send(shared: &Shared, stream: &TcpStream) -> io::Result<u16> {
    drop(shared.may_send.acquire().await.map_err(io::Error::other)?);
    let mut offset = 0;
    let mut from = [0; 256];
    loop {
        tokio::select! {
            biased;
            readable = stream.readable() => {
                readable?;
                match stream.try_read(&mut from) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // A Ping of 25 s is the only other frame, and a flooder does not answer.
                    Ok(len) => if let Some(code) = close_code(&from[..len]) {
                        return Ok(code);
                    },
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            writable = stream.writable() => {
                writable?;
                match stream.try_write(&shared.frames[offset..offset + shared.frame]) {
                    Ok(written) => {
                        offset = (offset + written) % shared.frame;
                        shared.bytes.set(shared.bytes.get() + written as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// The code of a Close among whole server frames of less than 126 bytes.
fn close_code(mut bytes: &[u8]) -> Option<u16> {
    while let [first, len, rest @ ..] = bytes {
        if *first == 0x88 {
            return Some(rest.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
        }
        bytes = rest.get(usize::from(*len)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_behind_other_frames() {
        assert_eq!(close_code(&[0x89, 1, b'x', 0x88, 3, 0x03, 0xf5, b'r']), Some(1013));
        assert_eq!(close_code(&[0x88, 0]), Some(1005));
        assert_eq!(close_code(&[0x89, 1, b'x']), None);
    }
}
