//! What the tests of reload share: another file in place of the one that is read, what came of it, a backend that answers
//! with its name, and what the program holds.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::Value;

use super::{raw::Raw, rig::Rig};

pub const LISTENER: &str = "\n[listener.main]\naddress = \"127.0.0.1:0\"\n";

/// Writes another file, as an editor does: beside it, and then in its place.
pub fn write(rig: &Rig, text: &str) {
    let (beside, file) = (rig.folder.join("greenroom.toml.new"), rig.folder.join("greenroom.toml"));
    fs::write(&beside, format!("{text}{LISTENER}")).unwrap();
    fs::rename(beside, file).unwrap();
}

/// `greenroom reload --json` with these flags: what came of it, and the exit code.
pub fn reload(rig: &Rig, flags: &[&str]) -> (Value, i32) {
    let said = rig.say(&[&["reload", "--json"], flags].concat());
    let answer = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    (answer, said.status.code().unwrap())
}

pub fn outcome(rig: &Rig, flags: &[&str]) -> String {
    reload(rig, flags).0["outcome"].as_str().unwrap().to_owned()
}

/// What `status` says of greenroom itself.
pub fn own(rig: &Rig) -> Value {
    let said = rig.say(&["status", "--json"]);
    serde_json::from_slice::<Value>(&said.stdout).unwrap()["greenroom"].clone()
}

/// A server that answers each plain request with its name, and drops connections that are not for that.
pub struct Named {
    pub address: String,
    over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Named {
    pub fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let serving = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || answer(client, name));
            }
        });
        Self {
            address,
            over,
            serving: Some(serving),
        }
    }
}

pub fn answer(client: TcpStream, name: &str) {
    let mut client = Raw::new(client);
    while client.has_bytes() || client.0.peek(&mut [0]).is_ok_and(|bytes| bytes > 0) {
        if client.0.peek(&mut [0]).is_ok_and(|bytes| bytes == 0) {
            return;
        }
        client.head();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        if !client.try_send(answer) {
            return;
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

/// What a new client gets at a path: the status, and the body.
pub fn get(address: &str, path: &str) -> (String, String) {
    let mut client = Raw::connect(address);
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n"
    ));
    let (head, body) = client.answer();
    (head[9..12].to_owned(), body)
}

/// Open descriptors, and threads.
pub fn holdings(rig: &Rig) -> (usize, usize) {
    let of = |what: &str| {
        fs::read_dir(format!("/proc/{}/{what}", rig.greenroom.pid()))
            .unwrap()
            .count()
    };
    (of("fd"), of("task"))
}

pub fn kib_in_memory(rig: &Rig) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.greenroom.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
