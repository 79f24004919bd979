//! Many who wait, and a server that dies under them: all get in, in order.
//!
//! 10,000 held at once, a child killed while 100 are held, and `greenroom serve`
//! in front of a server that comes late, goes away and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Clients, Greenroom, Ledger, fixture, one_at_a_time, python, wire::Wire};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(40);

fn uvicorn(port: &str) -> [String; 8] {
    let words = [
        python("python").as_str(),
        "-m",
        "uvicorn",
        "--app-dir",
        &fixture(""),
        "fastapi_app:app",
    ]
    .map(str::to_owned);
    let [a, b, c, d, e, f] = words;
    [a, b, c, d, e, f, "--port".into(), port.into()]
}

#[test]
fn ten_thousand_held_at_once_all_get_in_in_order() {
    const COUNT: u32 = 10_000;
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let flags = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--ready",
        "notify",
        "--hold-timeout",
        "5m",
        "--",
    ];
    let cmd = [python("python"), fixture("notifier.py")];
    let args: Vec<&str> = flags.into_iter().chain(cmd.iter().map(String::as_str)).collect();
    let greenroom = Greenroom::spawn(
        Greenroom::command(&args)
            .env("LOG", ledger.path())
            .env("READY", "later"),
    );
    let listening = greenroom.wait_for_event("listening", PATIENCE);
    assert!(
        listening["held_max"].as_u64() >= Some(COUNT.into()),
        "descriptors (ulimit -n): {listening}"
    );
    greenroom.wait_for_event("started", PATIENCE);
    let flags = ["--raw", "--close-after-echo", "--open-timeout", "240"];
    let mut clients = Clients::start(&greenroom.address(), COUNT, 0.0, &flags);
    greenroom.wait_for(
        |e| e["event"] == "held" && e["count"] == COUNT,
        Duration::from_secs(120),
    );
    let ready = Instant::now();
    greenroom.signal(Signal::USR2); // handed on to the child, which says READY=1
    let result = clients.all_right(Duration::from_secs(240));
    assert_eq!(result["opened"], COUNT);
    assert_eq!(result["close_codes"]["1000"], COUNT, "{}", result["close_codes"]);
    assert_eq!(ledger.of("open").len(), COUNT as usize);
    assert_eq!(ledger.inversions(), 0);
    println!(
        "{COUNT} held, all through {:.1} s after READY",
        ready.elapsed().as_secs_f64()
    );
}

#[test]
fn a_child_killed_while_100_are_held_is_started_again_and_all_get_in() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let flags = ["run", "--listen", "127.0.0.1:0", "--"].map(str::to_owned);
    let args: Vec<String> = flags.into_iter().chain(uvicorn("{port}")).collect();
    let greenroom = Greenroom::spawn(Greenroom::command(&args).env("LOG", ledger.path()));
    let mut clients = Clients::start(&greenroom.address(), 100, 0.5, &[]);
    let started = greenroom.wait_for_event("started", PATIENCE);
    greenroom.wait_for(|e| e["event"] == "held" && e["count"] == 100, PATIENCE);
    kill(started["pid"].as_i64().unwrap());
    let exited = greenroom.wait_for_event("exited", PATIENCE);
    assert_eq!(exited["code"], 137, "{exited}");
    assert!(exited["restart_ms"].is_u64(), "it is started again: {exited}");
    let result = clients.all_right(PATIENCE);
    assert_eq!(result["opened"], 100);
    assert_eq!(ledger.inversions(), 0);
    assert_eq!(ledger.of("open").len(), 100);
    let refused: Vec<_> = greenroom
        .events()
        .into_iter()
        .filter(|e| e["event"] == "refused")
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

fn kill(pid: i64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// A server that the test itself starts, beside `greenroom serve`.
struct Server(Child);

impl Server {
    fn start(port: u16, ledger: &Ledger) -> Self {
        let words = uvicorn(&port.to_string());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("LOG", ledger.path())
            .env("STARTUP_SECONDS", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free: bound, not listened on, and kept so that nobody else gets it.
fn reserve() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[test]
fn serve_holds_until_the_server_comes_and_again_when_it_comes_back() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let (_reserved, port) = reserve();
    let backend = format!("127.0.0.1:{port}");
    let greenroom = Greenroom::start(&["serve", "--listen", "127.0.0.1:0", "--backend", &backend]);
    let address = greenroom.address();

    let mut early = Clients::start(&address, 20, 0.1, &[]);
    greenroom.wait_for(|e| e["event"] == "held" && e["count"] == 20, PATIENCE);
    let server = Server::start(port, &ledger);
    assert_eq!(early.all_right(PATIENCE)["opened"], 20);

    let mut relayed: Vec<Wire> = (0..5).map(|_| Wire::knock(&address)).collect();
    for client in &mut relayed {
        assert_eq!(client.status(), 101);
        client.echo("before");
    }
    let seen = greenroom.events().len();
    server.kill();
    for client in &mut relayed {
        let (code, reason) = client.closed();
        assert_eq!(code, 1012, "the server was lost");
        let after = reason
            .strip_prefix("retry-after-ms=")
            .and_then(|ms| ms.parse::<u32>().ok());
        assert!(after.is_some_and(|ms| (1..=5000).contains(&ms)), "{reason}");
    }
    greenroom.wait_for_from(seen, |e| e["event"] == "gate" && e["gate"] == "shut", PATIENCE);

    let mut late = Clients::start(&address, 20, 0.1, &[]);
    greenroom.wait_for_from(seen, |e| e["event"] == "held" && e["count"] == 20, PATIENCE);
    let _server = Server::start(port, &ledger);
    assert_eq!(late.all_right(PATIENCE)["opened"], 20);
    assert_eq!(ledger.inversions(), 0);
}
