//! The demo from its first line to its verdict, with real processes.
//!
//! This test is its own backend (`demo-backend`) and its own front: `run` is a
//! stand-in that holds and lets in, in order, with nothing of greenroom's care;
//! `run-backwards` lets in the latest first, `run-refuse` holds nobody, and
//! `run-silent` never listens. So the demo's verdict is seen to hold and to fail.

#![allow(clippy::unwrap_used, clippy::panic)] // a harness of its own, which clippy does not know as a test

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenroom_audit::backend::{SlowBackend, SlowListen, backend_main, bind};
use greenroom_audit::demo::launch::{Launch, LaunchError};
use greenroom_audit::demo::{DemoError, Options, demo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::runtime::Runtime;

/// Marks every process of a test, so that one left behind is found.
const MARK: &str = "GREENROOM_DEMO_TEST";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let word = arguments.get(1).map_or("", String::as_str);
    match word {
        "demo-backend" => backend_main(&arguments[2]).unwrap(),
        "run" | "run-backwards" | "run-refuse" | "run-silent" => {
            let command = arguments
                .iter()
                .position(|a| a == "--")
                .map_or(&[][..], |at| &arguments[at + 1..]);
            runtime().block_on(stand_in(word, command));
        }
        "tell" => {
            let told = runtime().block_on(demo(options("run", Box::new(io::stdout()))));
            assert!(matches!(told, Err(DemoError::Interrupted)), "{told:?}");
            return ExitCode::from(130);
        }
        // What `cargo test` and its friends pass to a harness.
        "--list" => {}
        _ => tests(),
    }
    ExitCode::SUCCESS
}

fn tests() {
    let tests: [(&str, fn()); 5] = [
        (
            "behind_a_front_that_keeps_its_promises_the_verdict_is_true",
            true_verdict,
        ),
        ("a_front_that_lets_in_backwards_breaks_order_only", backwards),
        ("a_front_that_holds_nobody_breaks_the_start", refusing),
        ("a_front_that_never_listens_is_an_error_with_its_last_words", silent),
        ("ctrl_c_ends_the_demo_and_leaves_no_process", ctrl_c),
    ];
    println!("running {} tests", tests.len());
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

// ── The tests ──────────────────────────────────────────────────────────────

fn true_verdict() {
    let began = Instant::now();
    let (told, text) = tell("run");
    assert!(told.unwrap(), "{text}");
    assert!(began.elapsed() < Duration::from_secs(12));
    assert!(
        text.contains("12 of 12") && text.contains("Every promise held."),
        "{text}"
    );
    assert!(
        text.contains("database") && text.contains('✗'),
        "without greenroom somebody fails:\n{text}"
    );
    assert!(!text.contains('\x1b'), "no escapes where there is no terminal");
}

fn backwards() {
    let (told, text) = tell("run-backwards");
    assert!(!told.unwrap(), "{text}");
    assert!(
        text.contains("✗ order") && text.contains("✓ start") && text.contains("✓ no loss"),
        "{text}"
    );
}

fn refusing() {
    let (told, text) = tell("run-refuse");
    assert!(!told.unwrap(), "{text}");
    assert!(text.contains("✗ start") && text.contains("✗ promptness"), "{text}");
}

fn silent() {
    let (told, text) = tell("run-silent");
    let Err(DemoError::Launch(LaunchError::NotListening { what, log })) = told else {
        panic!("{told:?}\n{text}")
    };
    assert_eq!(what, "ended");
    assert!(log.contains("no address for me"), "{log}");
}

fn ctrl_c() {
    let mark = format!("{}", std::process::id());
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command
        .arg("tell")
        .env(MARK, &mark)
        .stdout(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first_phase = lines.map_while(Result::ok).find(|line| line.contains("database"));
    assert!(first_phase.is_some(), "the demo told of a phase");
    assert!(marked(&mark) >= 2, "the demo and a backend are there");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // To the demo alone: what ends its children must be the demo itself.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let deadline = Instant::now() + Duration::from_secs(5);
    while marked(&mark) > 0 {
        assert!(Instant::now() < deadline, "a process is left behind");
        std::thread::yield_now();
    }
}

/// Running processes whose environment carries the mark.
fn marked(mark: &str) -> usize {
    let mark = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|environ| environ.split(|&b| b == 0).any(|variable| variable == mark.as_bytes()))
        .count()
}

// ── What they need ─────────────────────────────────────────────────────────

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Tells the demo with a front of this kind: a start of 500 ms, 12 clients over 700 ms.
fn options(front: &str, out: Box<dyn Write + Send>) -> Options {
    let launch = Launch {
        program: std::env::current_exe().unwrap(),
        backend: vec!["demo-backend".into()],
        greenroom: vec![front.into(), "--listen".into(), "127.0.0.1:0".into()],
    };
    let ms = Duration::from_millis;
    let listen = SlowListen::Close1011 {
        listen_after: ms(200),
        close_after: ms(5),
    };
    let phases = [("database", ms(200)), ("cache", ms(300))];
    let mut options = Options::new(launch);
    options.backend = SlowBackend::new(listen, &phases, true);
    (options.clients, options.over) = (12, ms(700));
    (options.terminal, options.colour) = (false, false);
    options.out = out;
    options
}

fn tell(front: &str) -> (Result<bool, DemoError>, String) {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let out = Shared::default();
    let told = runtime().block_on(demo(options(front, Box::new(out.clone()))));
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    (told, text)
}

// ── The stand-in ───────────────────────────────────────────────────────────

async fn stand_in(kind: &str, command: &[String]) {
    if kind == "run-silent" {
        eprintln!("no address for me");
        return;
    }
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap().listen(4096).unwrap();
    eprintln!(
        r#"{{"event":"listening","address":"{}"}}"#,
        listener.local_addr().unwrap()
    );
    let reserved = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let backend = reserved.local_addr().unwrap();
    let path = std::env::temp_dir().join(format!("greenroom-stand-in-{}", std::process::id()));
    let notify = UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(&command[0]);
    child
        .args(&command[1..])
        .env("PORT", backend.port().to_string())
        .env("NOTIFY_SOCKET", &path);
    let mut child = child.spawn().unwrap();
    std::thread::spawn(move || std::process::exit(child.wait().unwrap().code().unwrap_or(1)));

    let mut held = Vec::new();
    let mut session = 0_u64;
    let mut state = [0; 4096];
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut client, _) = accepted.unwrap();
                if kind == "run-refuse" {
                    continue;
                }
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && client.read_buf(&mut head).await.unwrap_or(0) > 0 {}
                session += 1;
                held.push((client, head, session));
            }
            len = notify.recv(&mut state) => {
                if state[..len.unwrap()].split(|&b| b == b'\n').any(|line| line == b"READY=1") {
                    break;
                }
            }
        }
    }
    std::fs::remove_file(&path).ok();
    if kind == "run-backwards" {
        held.reverse();
    }
    loop {
        for (client, head, session) in held.drain(..) {
            let_in(client, &head, session, backend).await;
        }
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && client.read_buf(&mut head).await.unwrap_or(0) > 0 {}
        session += 1;
        held.push((client, head, session));
    }
}

async fn let_in(mut client: TcpStream, head: &[u8], session: u64, backend: std::net::SocketAddr) {
    let mut to = TcpStream::connect(backend).await.unwrap();
    client.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let mut whole = head[..head.len() - 2].to_vec();
    whole.extend(format!("Greenroom-Session: {session}\r\nGreenroom-Attempt: 1\r\n\r\n").bytes());
    to.write_all(&whole).await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut client, &mut to).await.ok() });
}
