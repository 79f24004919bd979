//! The backend of `signal` and `waits`: ready at a given moment, takes one client, and ends with it.
//!
//! It stamps CLOCK_MONOTONIC just before it does what makes it ready (READY=1,
//! `listen`, a 200 in place of 503), and again when the client's whole head has
//! been read. Between the stamps lies the whole way: how greenroom learns of it,
//! the dial, the head, and the waking of this process. So it is an upper bound of
//! *ready → released*.
//!
//! Bounded: one connection at a time, one client in all, a head of at most [`HEAD_MAX`].

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greenroom_audit::{clock, notify::Notifier};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde_json::{Value, json};

use crate::Failure;
use crate::backend::HEAD_MAX;
use crate::frames::{answer, head_end};

/// How long a client or the stub waits for the other to write.
pub(crate) const SOCKET_PATIENCE: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted: the probe's and the client's.
const BACKLOG: i32 = 16;
/// What the `http` probe asks for.
pub(crate) const READY_PATH: &str = "/ready";

/// How it becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// It listens from the start, and sends READY=1.
    Notify,
    /// It begins to listen.
    Listen,
    /// It listens from the start, and answers `GET /ready` with 200 in place of 503.
    Http,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What makes it ready.
    #[arg(long, default_value = "notify")]
    by: By,
    /// From its start to ready, in microseconds; else it reads the moment (nanoseconds of the
    /// monotonic clock) as a line of its standard input.
    #[arg(long)]
    ready_after: Option<u64>,
}

/// When it became ready; 0 before. Only the `http` answers read it.
static READY: AtomicU64 = AtomicU64::new(0);

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let socket = bound()?;
    if arguments.by != By::Listen {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let listener = TcpListener::from(socket);
    say(&json!({"event": "begun", "pid": std::process::id()}));
    let planned = planned(arguments.ready_after)?;
    let (head, mut client) = match arguments.by {
        By::Notify => {
            let notifier = Notifier::from_env()?.ok_or("NOTIFY_SOCKET is not set: the stub runs under greenroom")?;
            sleep_until(planned);
            READY.store(clock::now(), Ordering::SeqCst);
            notifier.send("READY=1")?;
            client(&listener)?
        }
        By::Listen => {
            sleep_until(planned);
            READY.store(clock::now(), Ordering::SeqCst);
            rustix::net::listen(&listener, BACKLOG)?;
            client(&listener)?
        }
        By::Http => {
            std::thread::spawn(move || {
                sleep_until(planned);
                READY.store(clock::now(), Ordering::SeqCst);
            });
            client(&listener)?
        }
    };
    let arrived = clock::now();
    client.write_all(&answer(&key(&head)?))?;
    let ready = READY.load(Ordering::SeqCst);
    say(&json!({"event": "stub", "planned": planned, "ready": ready, "head": arrived}));
    let mut rest = Vec::new();
    client.set_read_timeout(None)?;
    client.read_to_end(&mut rest).ok();
    Ok(())
}

/// A socket at the port that greenroom gave, which does not listen yet.
fn bound() -> Result<OwnedFd, Failure> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Beside greenroom's reservation of the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    let mut address = crate::any_port();
    address.set_port(port);
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

fn planned(ready_after: Option<u64>) -> Result<u64, Failure> {
    if let Some(micros) = ready_after {
        return Ok(clock::now() + micros * 1_000);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let moment = line.trim().parse();
    moment.map_err(|_| format!("{line:?} is no moment to be ready at").into())
}

pub(crate) fn sleep_until(moment: u64) {
    std::thread::sleep(clock::between(clock::now(), moment));
}

/// The first WebSocket client, and its head. Probes are answered on the way.
fn client(listener: &TcpListener) -> Result<(Vec<u8>, TcpStream), Failure> {
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOCKET_PATIENCE))?;
        // A look that is broken off, as one is when its verdict is no longer wanted, says nothing.
        let Ok(head) = read_head(&mut stream) else { continue };
        if !head.starts_with(format!("GET {READY_PATH} ").as_bytes()) {
            return Ok((head, stream));
        }
        let status = match READY.load(Ordering::SeqCst) {
            0 => "503 Service Unavailable",
            _ => "200 OK",
        };
        // A probe that went away asks again.
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .ok();
    }
}

fn key(head: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(head)?;
    let key = parsed
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("sec-websocket-key"));
    Ok(key.ok_or("no Sec-WebSocket-Key in a client's head")?.value.to_vec())
}

fn say(event: &Value) {
    println!("{event}");
}

/// Reads until a head is whole.
pub(crate) fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while head_end(&head).is_none() {
        match stream.read(&mut chunk)? {
            0 => return Err("the connection ended before a whole head".into()),
            len => head.extend_from_slice(&chunk[..len]),
        }
        if head.len() > HEAD_MAX {
            return Err(format!("a head of more than {HEAD_MAX} bytes").into());
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_answered_and_broken_ones_stepped_over_until_a_client_comes() {
        let listener = TcpListener::bind(crate::any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(TcpStream::connect(address).unwrap());
        let mut look = TcpStream::connect(address).unwrap();
        write!(look, "GET {READY_PATH} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut comes = TcpStream::connect(address).unwrap();
        comes.write_all(&crate::frames::request("a")).unwrap();
        let (head, _client) = client(&listener).unwrap();
        assert_eq!(key(&head).unwrap(), b"dGhlIHNhbXBsZSBub25jZQ==");
        let mut answer = String::new();
        look.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
