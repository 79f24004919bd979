//! The program with a configuration of the test's own, and its admin socket.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

use super::{
    Greenroom, Ledger,
    process::until,
    raw::{Raw, SOON, Stub, switching, upgrade},
};

/// See the module's head. Its folder is gone when dropped.
pub struct Rig {
    pub greenroom: Greenroom,
    pub address: String,
    /// What a backend of `tests/e2e` saw; its folder is that of all files.
    pub ledger: Ledger,
    /// Where the files are.
    pub folder: PathBuf,
}

impl Rig {
    /// `greenroom VERB --config` with this text; `{folder}` in it is a folder of its own. Say what comes before
    /// tables first: `[listener.main]` is put behind.
    pub fn start(verb: &str, config: &str) -> Self {
        Self::with(verb, config, |_| {}, |_| {})
    }

    /// `greenroom serve` before a backend of which is only known whether it listens, with one route.
    pub fn before(backend: &str, route: &str) -> Self {
        let backend = format!("[backend.app]\naddress = \"{backend}\"\nready = \"listen\"\n");
        Self::start("serve", &format!("{backend}[[route]]\n{route}\n"))
    }

    /// `greenroom serve` before this backend once it is known to listen; what comes first in the file, and behind its table.
    pub fn ready(stub: &Stub, top: &str, more: &str) -> Self {
        let address = stub.address();
        let rig = Self::start(
            "serve",
            &format!("{top}\n[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n{more}\n"),
        );
        rig.until("it is ready", |status| status["condition"] == "ready");
        rig
    }

    /// So many relayed clients, each with its backend's end.
    pub fn crowd(&self, stub: &Stub, count: usize) -> Vec<(Raw, Raw)> {
        (0..count).map(|_| self.relayed(stub)).collect()
    }

    /// One relayed client, with its backend's end.
    pub fn relayed(&self, stub: &Stub) -> (Raw, Raw) {
        let mut client = self.knock("/ws");
        let (mut backend, _) = stub.request();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        (client, backend)
    }

    /// The same, with files that are there before and more of an environment.
    pub fn with(
        verb: &str,
        config: &str,
        files: impl FnOnce(&std::path::Path),
        environment: impl FnOnce(&mut Command),
    ) -> Self {
        let ledger = Ledger::new();
        let folder = ledger.beside("");
        files(&folder);
        let listener = "\n[listener.main]\naddress = \"127.0.0.1:0\"\n";
        let config = config.replace("{folder}", folder.to_str().unwrap().trim_end_matches('/'));
        fs::write(folder.join("greenroom.toml"), config + listener).unwrap();
        let file = folder.join("greenroom.toml");
        let mut command = Greenroom::command(&[verb, "--config", file.to_str().unwrap()]);
        // A folder of its own for the socket too: no other greenroom is found there.
        command
            .env("XDG_RUNTIME_DIR", &folder)
            .env("LOG", ledger.path())
            .env("LIVES", folder.join("lives"));
        environment(&mut command);
        let greenroom = Greenroom::spawn(&mut command);
        let address = greenroom.address();
        Self {
            greenroom,
            address,
            ledger,
            folder,
        }
    }

    /// `greenroom ARGS` as somebody at a shell would say it.
    pub fn say(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(args)
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env_remove("GREENROOM_ADMIN")
            .env_remove("GREENROOM_BACKEND");
        command.output().unwrap()
    }

    /// The same, and it must work.
    pub fn tell(&self, args: &[&str]) {
        let said = self.say(args);
        assert!(said.status.success(), "{args:?}: {said:?}");
    }

    /// `greenroom status --json` of the only backend.
    pub fn status(&self) -> Value {
        let said = self.say(&["status", "--json"]);
        assert!(said.status.success(), "{said:?}");
        let report: Value = serde_json::from_slice(&said.stdout).unwrap();
        report["backends"][0].clone()
    }

    /// What the admin socket answers to a GET.
    pub fn ask(&self, path: &str) -> String {
        self.request("GET", path, "")
    }

    /// What it answers to a POST: its status, and its JSON.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request("POST", path, &body.to_string());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")),
        )
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Where its admin socket is.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("greenroom/{}.sock", self.greenroom.pid()))
    }

    /// What the event stream tells at once for this query: of all that is kept, or behind an id.
    pub fn streamed(&self, query: &str) -> Vec<Value> {
        let answer = self.ask(&format!("/v1/events?follow=false&{query}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let data = answer.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// `greenroom ARGS --json`, which must work.
    pub fn told(&self, args: &[&str]) -> Value {
        let said = self.say(&[args, &["--json"]].concat());
        assert!(said.status.success(), "{args:?}: {said:?}");
        serde_json::from_slice(&said.stdout).unwrap()
    }

    /// How the last has ended that did, as the ledger tells; it is waited for.
    pub fn last_end(&self) -> Value {
        let closed = || self.told(&["ps", "--closed", "--limit", "1"]);
        until("one has ended", || closed()["total"] != 0);
        closed()["connections"][0]["end"].clone()
    }

    /// Waits until so many are in a state, as `ps` tells.
    pub fn are(&self, count: usize, state: &str) {
        until(&format!("{count} {state}"), || {
            self.told(&["ps", "--state", state])["total"] == count
        });
    }

    /// Waits until the status is so.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        until(what, || holds(&self.status()));
    }

    /// A file that a check looks for comes.
    pub fn create(&self, name: &str) {
        fs::write(self.folder.join(name), "").unwrap();
    }

    /// It goes.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.folder.join(name)).unwrap();
    }

    /// A client that has sent its opening handshake for a path.
    pub fn knock(&self, path: &str) -> Raw {
        self.sent(&upgrade("").replacen("/ws", path, 1))
    }

    /// A client that has sent a plain request for a path.
    pub fn get(&self, path: &str) -> Raw {
        self.sent(&format!(
            "GET {path} HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n"
        ))
    }

    fn sent(&self, text: &str) -> Raw {
        let mut client = Raw::connect(&self.address);
        client.send(text);
        client
    }

    /// Waits until so many are held, as the log tells.
    pub fn held(&self, count: usize) {
        self.greenroom
            .wait_for(|event| event["event"] == "held" && event["count"] == count, SOON);
    }
}
