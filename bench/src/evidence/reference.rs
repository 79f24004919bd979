//! The reference algorithm as a server: a phase, a gate that polls it, and a queue that holds nothing.
//!
//! Our own words for what was measured of the original. It listens from the start. A client's handshake waits, at the
//! fixed 0.1 s, until the phase *services* has begun, and is then let in; *ready* it is only when that phase
//! has ended. Whose budget is over before goes to the queue: 50 weak references, while the handler returns, which the server
//! answers with HTTP 500. Where the original was worse than could be measured, this is kind: who is let in early waits,
//! and loses nothing; and nobody pays its pause of 0.5 s for each connection.
//!
//! Heads are read where connections are accepted, so the order that it reports is exact. Ends with its standard
//! input. Bounded: [`OPENINGS_MAX`].

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use greenroom_audit::check::inversions;
use greenroom_audit::{clock, notify::Notifier};
use serde_json::{Value, json};

use crate::frames::{Echo, answer};
use crate::stub::{read_head, sleep_until};
use crate::{Failure, any_port};

/// Between two looks at the phase: what the founding report calls fixed interval timing.
const INTERVAL: Duration = Duration::from_millis(100);
/// Places of its queue.
const QUEUE: usize = 50;
/// Handshakes that are taken at the most.
const OPENINGS_MAX: usize = 10_000;
/// How long a head may take: a client that says nothing would stop the others.
const HEAD: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long a handshake waits for the phase, in milliseconds.
    #[arg(long)]
    budget: u64,
    /// From the start to the begin of the phase, in milliseconds.
    #[arg(long)]
    services: u64,
    /// From the start to its end, in milliseconds.
    #[arg(long)]
    ready: u64,
    /// Does not end with its standard input.
    #[arg(long)]
    forever: bool,
}

/// What happened, as all threads see it.
#[derive(Default)]
struct Seen {
    queue: Vec<Weak<TcpStream>>,
    queued: u64,
    early: u64,
    early_ns: u64,
    openings: usize,
    sessions: Vec<u64>,
}

struct Server {
    services: u64,
    ready: u64,
    budget: Duration,
    seen: Mutex<Seen>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let began = clock::now();
    let after = |millis: u64| began + millis * 1_000_000;
    let server = Arc::new(Server {
        services: after(arguments.services),
        ready: after(arguments.ready),
        budget: Duration::from_millis(arguments.budget),
        seen: Mutex::default(),
    });
    let port = std::env::var("PORT").map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(SocketAddr::from((any_port().ip(), port)))?;
    say(&json!({"event": "listening", "address": listener.local_addr()?.to_string(), "began": began}));
    let notifier = Notifier::from_env()?;
    let (accepting, telling) = (Arc::clone(&server), Arc::clone(&server));
    std::thread::spawn(move || accept(&listener, &accepting));
    std::thread::spawn(move || {
        sleep_until(telling.ready);
        // Who does not hear it, does not wait for it.
        let told = notifier.map_or(Ok(()), |notifier| notifier.send("READY=1"));
        say(&json!({"event": "ready", "at": clock::now(), "told": told.is_ok()}));
    });
    if arguments.forever {
        loop {
            std::thread::park(); // until it is killed
        }
    }
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "report" => say(&server.report()),
            other => return Err(format!("{other:?} is nothing this server can do").into()),
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, server: &Arc<Server>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        stream.set_read_timeout(Some(HEAD)).ok();
        let Ok(head) = read_head(&mut stream) else { continue };
        let Some(key) = server.takes(&head) else { continue };
        let server = Arc::clone(server);
        std::thread::spawn(move || server.serve(&Arc::new(stream), &key).ok());
    }
}

impl Server {
    /// The key of a handshake, which is counted; nothing else is served.
    fn takes(&self, head: &[u8]) -> Option<Vec<u8>> {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(head).ok()?;
        let field = |name: &str| {
            let field = request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            field.map(|field| field.value)
        };
        let key = field("sec-websocket-key")?.to_vec();
        let mut seen = self.seen();
        if seen.openings == OPENINGS_MAX {
            return None;
        }
        seen.openings += 1;
        let session: Option<u64> =
            field("greenroom-session").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        seen.sessions.extend(session);
        Some(key)
    }

    fn serve(&self, stream: &Arc<TcpStream>, key: &[u8]) -> io::Result<()> {
        let mut socket = stream.as_ref();
        if !self.phase_reached() {
            self.queue(stream);
            // The handler returns without an answer, and the server under it gives this one.
            return socket
                .write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let now = clock::now();
        if now < self.ready {
            let mut seen = self.seen();
            seen.early += 1;
            seen.early_ns = seen.early_ns.max(self.ready - now);
        }
        socket.set_read_timeout(None)?;
        socket.write_all(&answer(key))?;
        let (mut echo, mut chunk) = (Echo::default(), [0; 4096]);
        loop {
            let mut out = Vec::new();
            let len = socket.read(&mut chunk)?;
            if len == 0 || !echo.feed(&chunk[..len], &mut out) {
                return Ok(());
            }
            sleep_until(self.ready);
            socket.write_all(&out)?;
        }
    }

    /// The wait of the reference: a look, then a sleep, until the budget is over. There is no last look.
    fn phase_reached(&self) -> bool {
        let began = clock::now();
        loop {
            let now = clock::now();
            if now >= self.services {
                return true;
            }
            if clock::between(began, now) > self.budget {
                return false;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Queues a client whom nobody else keeps.
    fn queue(&self, stream: &Arc<TcpStream>) {
        let mut seen = self.seen();
        if seen.queue.len() < QUEUE {
            seen.queue.push(Arc::downgrade(stream));
            seen.queued += 1;
        }
    }

    fn report(&self) -> Value {
        let seen = self.seen();
        let alive = seen.queue.iter().filter(|client| client.strong_count() > 0).count();
        json!({
            "event": "report", "openings": seen.openings, "early": seen.early, "early_ns": seen.early_ns,
            "queued": seen.queued, "alive": alive, "inversions": inversions(&seen.sessions).len(),
        })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(event: &Value) {
    println!("{event}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{client_frame, is_101, request, server_frame};

    /// A server whose phase comes and ends after so many milliseconds, and where it listens.
    fn server(budget: u64, services: u64, ready: u64) -> (Arc<Server>, SocketAddr) {
        let now = clock::now();
        let server = Arc::new(Server {
            services: now + services * 1_000_000,
            ready: now + ready * 1_000_000,
            budget: Duration::from_millis(budget),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&server);
        std::thread::spawn(move || accept(&listener, &accepting));
        (server, address)
    }

    fn came(address: SocketAddr) -> (TcpStream, Vec<u8>) {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(&request("a")).unwrap();
        let head = read_head(&mut client).unwrap();
        (client, head)
    }

    #[test]
    fn who_is_queued_gets_a_500_and_is_not_kept() {
        let (server, address) = server(0, 600_000, 600_000);
        let (mut client, head) = came(address);
        assert!(
            head.starts_with(b"HTTP/1.1 500 "),
            "{:?}",
            String::from_utf8_lossy(&head)
        );
        // The end of the connection: whoever served it has let go of it.
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let report = server.report();
        assert_eq!(
            (&report["queued"], &report["alive"]),
            (&json!(1), &json!(0)),
            "{report}"
        );
    }

    #[test]
    fn the_gate_opens_when_the_phase_begins_and_not_when_it_ends() {
        let (server, address) = server(10_000, 0, 300);
        let (mut client, head) = came(address);
        assert!(is_101(&head));
        client.write_all(&client_frame(5)).unwrap();
        let mut echo = server_frame(5);
        client.read_exact(&mut echo).unwrap();
        assert!(echo == server_frame(5) && clock::now() >= server.ready);
        assert_eq!(server.report()["early"], 1);
    }
}
