//! Clients that come to the reference, alone and behind greenroom, and what becomes of them.
//!
//! A thread each: it connects at its moment, sends its head, and, if it is let in, one message. What the server counted is asked of the
//! server. Bounded by the clients of a scene and by [`PATIENCE`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use greenroom_audit::clock;
use serde_json::Value;

use super::data::{Crowd, Registry, Sides};
use super::parts::Note;
use super::rounded;
use crate::frames::{client_frame, is_101, request, server_frame};
use crate::process::{Process, Stream};
use crate::rivals::Files;
use crate::site::{PATIENCE, address, greenroom_command};
use crate::stub::{read_head, sleep_until};
use crate::{Failure, admin};

/// How long a client waits for its answer, and again for its echo.
const CLIENT: Duration = Duration::from_secs(10);
/// Bytes of its message.
const MESSAGE: usize = 16;
/// A client's thread needs little.
const STACK: usize = 128 * 1024;

/// One start of the reference, and the clients that come to it; milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// How long the gate, or greenroom, lets a client wait.
    pub(crate) budget: u64,
    /// From the server's start to the begin of its last phase, and to the end of that.
    pub(crate) services: u64,
    pub(crate) ready: u64,
    /// They come evenly over this.
    pub(crate) over: u64,
    pub(crate) clients: usize,
    /// How long greenroom lets them wait, if not for its default of a minute.
    pub(crate) hold_timeout: Option<u64>,
}

/// What one client saw.
struct Client {
    status: Option<u16>,
    retry_after: bool,
    answered: bool,
    took: u64,
    /// Kept until all have been counted.
    stream: Option<TcpStream>,
}

/// The same scene with both.
pub(crate) fn both(program: &Path, scene: Scene, note: &mut Note) -> Result<Sides<Crowd>, Failure> {
    Ok(Sides {
        reference: alone(scene, note)?,
        greenroom: behind(program, scene, note)?.0,
    })
}

pub(crate) fn alone(scene: Scene, note: &mut Note) -> Result<Crowd, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words(scene));
    note.runs(&command);
    let mut server = Process::start("the reference", command)?;
    let listening = server.event(Stream::Out, "listening", PATIENCE)?;
    let clients = come(scene, address(&listening)?, || Ok(()))?;
    let report = report(scene, &mut server)?;
    Ok(counted(scene, scene.budget, &clients, &report))
}

/// Behind greenroom, with what its registry had of them meanwhile.
pub(crate) fn behind(program: &Path, scene: Scene, note: &mut Note) -> Result<(Crowd, Registry), Failure> {
    let files = Files::new(&format!("evidence-{}", scene.clients))?;
    let socket = files.path("admin");
    let mut settings = vec![("ADMIN__SOCKET", socket.display().to_string())];
    let timeout = scene.hold_timeout.map(|millis| format!("{millis}ms"));
    settings.extend(timeout.map(|timeout| ("ROUTE__0__HOLD_TIMEOUT", timeout)));
    let command = greenroom_command(program, "notify", &words(scene), &settings)?;
    note.runs(&command);
    let mut greenroom = Process::start("greenroom", command)?;
    let listening = greenroom.event(Stream::Err, "listening", PATIENCE)?;
    greenroom.event(Stream::Out, "listening", PATIENCE)?;
    let mut held = 0;
    let clients = come(scene, address(&listening)?, || {
        if scene.over == 0 && scene.hold_timeout.is_none() {
            held = listed(&socket, "held", scene.clients)?;
        }
        Ok(())
    })?;
    let report = report(scene, &mut greenroom)?;
    let in_it = clients.iter().filter(|client| client.stream.is_some()).count();
    let relayed = listed(&socket, "relaying", in_it)?;
    let crowd = counted(scene, scene.hold_timeout.unwrap_or(60_000), &clients, &report);
    drop(clients);
    let registry = Registry {
        clients: scene.clients as u64,
        held,
        at_the_server: report["openings"].as_u64().unwrap_or(0),
        relayed,
        afterwards: admin::emptied(&socket, PATIENCE).map_or_else(|_| listed(&socket, "", 0), |_| Ok(0))?,
    };
    Ok((crowd, registry))
}

fn words(scene: Scene) -> Vec<String> {
    let mut words = vec!["reference".to_owned()];
    for (name, value) in [
        ("budget", scene.budget),
        ("services", scene.services),
        ("ready", scene.ready),
    ] {
        words.extend([format!("--{name}"), value.to_string()]);
    }
    words
}

/// What the server counted until it was ready, or, if it never will be, until its clients had their answers.
fn report(scene: Scene, server: &mut Process) -> Result<Value, Failure> {
    if scene.hold_timeout.is_none() {
        server.event(Stream::Out, "ready", PATIENCE)?;
    }
    server.tell("report")?;
    server.event(Stream::Out, "report", PATIENCE)
}

/// Connections that greenroom lists in a state, or in all; waits a moment until they are as many as expected.
fn listed(socket: &Path, state: &str, expected: usize) -> Result<u64, Failure> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let samples = admin::metrics(socket)?;
        let of_state = |name: &str| {
            name.starts_with("greenroom_connections{")
                && (state.is_empty() || name.contains(&format!("state=\"{state}\"")))
        };
        let sum: f64 = samples
            .iter()
            .filter(|(name, _)| of_state(name))
            .map(|(_, value)| value)
            .sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
        let sum = sum as u64;
        if sum == expected as u64 || Instant::now() > deadline {
            return Ok(sum);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All come; `meanwhile` is done when the last of them is on its way.
fn come(scene: Scene, to: SocketAddr, meanwhile: impl FnOnce() -> Result<(), Failure>) -> Result<Vec<Client>, Failure> {
    let start = clock::now();
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(scene.clients);
        for number in 0..scene.clients {
            let moment = start + scene.over * 1_000_000 * number as u64 / scene.clients as u64;
            let thread = std::thread::Builder::new().stack_size(STACK);
            threads.push(thread.spawn_scoped(scope, move || client(to, moment))?);
        }
        meanwhile()?;
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|client| client.map_err(|_| Failure::from("a client panicked")))
            .collect()
    })
}

fn client(to: SocketAddr, moment: u64) -> Client {
    sleep_until(moment);
    let began = clock::now();
    let mut client = Client {
        status: None,
        retry_after: false,
        answered: false,
        took: 0,
        stream: None,
    };
    // Whatever fails is no answer, which is what the client saw.
    client.talk(to).ok();
    client.took = clock::now().saturating_sub(began);
    client
}

impl Client {
    fn talk(&mut self, to: SocketAddr) -> Result<(), Failure> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CLIENT))?;
        stream.write_all(&request(&to.to_string()))?;
        let head = read_head(&mut stream)?;
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        self.status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        self.retry_after = text.contains("\r\nretry-after:");
        if is_101(&head) {
            stream.write_all(&client_frame(MESSAGE))?;
            let mut echo = server_frame(MESSAGE);
            stream.read_exact(&mut echo)?;
            self.answered = echo == server_frame(MESSAGE);
            self.stream = Some(stream);
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)]
fn counted(scene: Scene, budget: u64, clients: &[Client], report: &Value) -> Crowd {
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let those = |what: fn(&&Client) -> bool| clients.iter().filter(what).count() as u64;
    let mut crowd = Crowd {
        clients: scene.clients as u64,
        over_ms: scene.over as f64,
        budget_ms: budget as f64,
        retry_after: those(|client| client.retry_after && client.status != Some(101)),
        answered: those(|client| client.answered),
        early: count("early"),
        early_ms: rounded(count("early_ns") as f64 / 1e6),
        queued: count("queued"),
        alive: count("alive"),
        inversions: count("inversions"),
        answer_ms: rounded(clients.iter().map(|client| client.took).max().unwrap_or(0) as f64 / 1e6),
        ..Crowd::default()
    };
    for client in clients {
        let name = client
            .status
            .map_or_else(|| "none".to_owned(), |status| status.to_string());
        *crowd.statuses.entry(name).or_default() += 1;
    }
    crowd
}
