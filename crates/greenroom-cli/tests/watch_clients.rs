//! Real clients that say nothing and answer pings by themselves, and a greenroom that does not run for a while.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{BufRead as _, Write as _},
    time::{Duration, Instant},
};

use common::{
    browser::Browser,
    e2e, fixture,
    process::until,
    python,
    raw::{Raw, Stub, masked, switching},
    rig::Rig,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// The payload of greenroom's next ping.
fn pinged(peer: &mut Raw) -> Vec<u8> {
    let (first, payload) = peer.frame();
    assert_eq!((first, payload.len()), (0x89, 8), "a ping of greenroom's own");
    payload
}

/// A client of a real library that says nothing by itself.
struct Quiet {
    child: std::process::Child,
    said: std::io::BufReader<std::process::ChildStdout>,
}

impl Quiet {
    fn start(program: &str, script: &str, address: &str) -> Self {
        let mut command = std::process::Command::new(program);
        command
            .arg(fixture(script))
            .arg(format!("ws://{address}/ws?name={script}"))
            .env("NODE_PATH", e2e().join("node/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let said = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn hears(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn says(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{text}\n").as_bytes()).unwrap();
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python `websockets`, Node `ws` and a page in Chromium answer by themselves, so they stay; and their server, which
/// would tell of a pong, is never bothered.
#[test]
fn real_clients_answer_and_stay() {
    let config = format!(
        "[backend.app.process]\ncommand = [\"node\", \"{}\"]\n\
         [[route]]\nping_interval = \"1s\"\nping_timeout = \"1s\"\nping_backend = \"close\"\n",
        fixture("early_server.js")
    );
    let rig = Rig::with(
        "run",
        &config,
        |_| {},
        |command| {
            command
                .env("STARTUP_SECONDS", "0")
                .env("NODE_PATH", e2e().join("node/node_modules"));
        },
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut clients = [
        Quiet::start(&python("python"), "quiet_client.py", &rig.address),
        Quiet::start("node", "quiet_client.js", &rig.address),
    ];
    let browser = Browser::start();
    let page = browser.page();
    page.eval(&format!(
        "new Promise((open) => {{ window.heard = []; window.ws = new WebSocket('ws://{}/ws?name=page'); \
         ws.onmessage = (event) => heard.push(event.data); ws.onclose = (event) => heard.push(event.code); \
         ws.onopen = () => open(1); }})",
        rig.address
    ));
    for client in &mut clients {
        assert_eq!(client.hears()["event"], "opened");
    }
    let all = || -> Vec<Value> {
        let said = rig.say(&["ps", "--state", "relaying", "--json"]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        said["connections"].as_array().unwrap().clone()
    };
    let began = Instant::now();
    until("each has been silent for a while and was pinged", || {
        let all = all();
        assert_eq!(all.len(), 3, "{all:?}");
        began.elapsed() > 5 * SECOND && all.iter().all(|one| one["ping_ms"].is_number())
    });
    for client in &mut clients {
        client.says("hello");
        assert_eq!(client.hears(), json!({"event": "echo", "text": "hello"}));
        drop(client.child.stdin.take());
        assert_eq!(client.hears(), json!({"event": "result", "code": 1000}));
    }
    page.eval("ws.send('hello')");
    page.until("heard.length === 1");
    assert_eq!(page.eval("heard"), json!(["hello"]));
    let pongs = rig.ledger.of("pong");
    assert!(pongs.is_empty(), "{pongs:?}");
    let shown = rig.say(&["show", &all()[0]["number"].to_string()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("answered by the client after"), "{shown}");
}

/// While greenroom itself is stopped nobody is silent to it: a client that answers when it can stays.
#[test]
fn a_greenroom_that_did_not_run_calls_nobody_dead() {
    let stub = Stub::listen();
    let config = format!(
        "[backend.app]\naddress = \"{}\"\n[[route]]\nping_interval = \"1s\"\nping_timeout = \"1s\"\nidle_timeout = \"5s\"\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut client = rig.knock("/ws");
    let mut backend = loop {
        let (mut backend, _) = stub.request(); // a probe says nothing and is none
        backend.send(switching(""));
        if client.head().starts_with("HTTP/1.1 101 ") {
            break backend;
        }
    };
    let payload = pinged(&mut client);
    rig.greenroom.signal(Signal::STOP);
    assert!(
        client.silent_for(6 * SECOND),
        "it is stopped, for longer than anybody may be silent or idle"
    );
    rig.greenroom.signal(Signal::CONT);
    assert!(client.silent_for(SECOND / 2), "its times begin anew");
    client.send(masked(0x8a, &payload));
    let payload = pinged(&mut client);
    client.send([masked(0x8a, &payload), masked(0x81, b"here")].concat());
    assert_eq!(backend.frame(), (0x81, b"here".to_vec()));
}
