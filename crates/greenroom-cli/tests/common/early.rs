//! Clients that come long before their server: processes of `tests/e2e/early_client.py` and `.js`, and what a page's helper serves.
//!
//! Each is started ahead of time, says `ready`, and is let [`go`](Early::go) with its task. The page of
//! [`Helper`] does the same in any browser, which needs no driver for it: it fetches its task and posts what it saw.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Lines, e2e, fixture, python, raw::SOON};

/// For a browser's start, and for what follows after a server that takes 12 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// One process with one client of a library.
pub struct Early {
    pub library: String,
    child: Child,
    task: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Early {
    /// `websockets`, `aiohttp`, `httpx-ws`, `ws` or `undici`.
    pub fn start(library: &str) -> Self {
        let is_node = matches!(library, "ws" | "undici");
        let mut command = Command::new(if is_node { "node".to_owned() } else { python("python") });
        command
            .arg(fixture(if is_node { "early_client.js" } else { "early_client.py" }))
            .arg(library)
            .env("NODE_PATH", e2e().join("node/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        Self {
            library: library.to_owned(),
            task: child.stdin.take(),
            stdout: Lines::of(child.stdout.take().unwrap()),
            stderr: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Waits until it could connect.
    pub fn ready(&self) {
        self.event("ready", PATIENCE);
    }

    /// It connects now, to `ws://ADDRESS/ws?name=NAME`.
    pub fn go(&mut self, address: &str, name: &str, protocols: &[&str]) {
        let url = format!("ws://{address}/ws?name={name}");
        let task = json!({"url": url, "name": name, "protocols": protocols});
        let mut stdin = self.task.take().expect("it goes once");
        stdin.write_all(format!("{task}\n").as_bytes()).unwrap();
    }

    /// Waits until it is open. A result without that is a failure.
    pub fn opened(&self) {
        let first = (self.stdout).wait_for(0, PATIENCE, |event| event["event"] != "ready");
        assert_eq!(first["event"], "opened", "{}: {first}", self.library);
    }

    /// Whether it has been open.
    pub fn is_open(&self) -> bool {
        self.stdout.events().iter().any(|event| event["event"] == "opened")
    }

    /// What became of it.
    pub fn result(&self) -> Value {
        self.event("result", PATIENCE)
    }

    fn event(&self, name: &str, within: Duration) -> Value {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.stdout.wait_for(0, within, |event| event["event"] == name)
        }));
        let (library, said) = (&self.library, || self.stderr.all());
        waited.unwrap_or_else(|_| panic!("{library}: no `{name}`; it says:\n{}", said()))
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves `early_page.html` to one browser, and hears what it says.
#[derive(Clone)]
pub struct Helper {
    /// Where the page is.
    pub url: String,
    shared: Arc<(Mutex<Told>, Condvar)>,
}

#[derive(Default)]
struct Told {
    task: Option<Value>,
    said: Vec<Value>,
}

impl Helper {
    /// Serves from now on, to the end of the test's process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let helper = Self {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            shared: Arc::default(),
        };
        let serving = helper.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let helper = serving.clone();
                // Each by itself: the request for the task waits. A browser also opens connections that it does not use.
                thread::spawn(move || helper.serve(&stream));
            }
        });
        helper
    }

    /// Waits until the page is there.
    pub fn ready(&self) {
        self.wait_for("ready", |said| said.iter().any(|event| event["event"] == "ready"));
    }

    /// The page opens so many sockets now, to `ws://ADDRESS/ws?name=NAME-NUMBER`.
    pub fn go(&self, address: &str, name: &str, protocols: &[&str], sockets: usize) {
        let (told, changed) = &*self.shared;
        let url = format!("ws://{address}/ws?name=");
        let task = json!({"url": url, "name": name, "protocols": protocols, "sockets": sockets});
        told.lock().unwrap().task = Some(task);
        changed.notify_all();
    }

    /// Waits until so many of its sockets are open.
    pub fn opened(&self, count: usize) {
        let is_open = |event: &&Value| event["event"] == "opened";
        self.wait_for("opened", |said| said.iter().filter(is_open).count() == count);
    }

    /// What became of each socket.
    pub fn results(&self) -> Vec<Value> {
        let is_result = |event: &&Value| event["event"] == "result";
        let said = self.wait_for("result", |said| said.iter().any(|event| is_result(&event)));
        let result = said.iter().find(is_result).expect("waited for");
        result["results"].as_array().expect("results").clone()
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let (told, changed) = &*self.shared;
        let deadline = Instant::now() + PATIENCE;
        let mut told = told.lock().unwrap();
        loop {
            let failed = told.said.iter().find(|event| event["event"] == "failed").cloned();
            if failed.is_none() && holds(&told.said) {
                return told.said.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if failed.is_some() || left.is_zero() {
                let said = told.said.clone();
                drop(told); // a poisoned lock would hide the message from the next who looks
                panic!("the page did not come to `{what}`; it said {said:#?}");
            }
            told = changed.wait_timeout(told, left).unwrap().0;
        }
    }

    /// One request; what is no request is left alone.
    fn serve(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 && line != "\r\n" => lines.push(line.to_lowercase()),
                Ok(read) if read > 0 => break,
                _ => return,
            }
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let path = lines
            .first()
            .and_then(|line| line.split(' ').nth(1))
            .unwrap_or_default();
        let read = |name| std::fs::read(fixture(name)).unwrap();
        let (kind, answer) = match path {
            "/" => ("text/html", read("early_page.html")),
            "/early_socket.js" => ("text/javascript", read("early_socket.js")),
            "/task" => ("application/json", self.task().to_string().into_bytes()),
            "/say" => {
                let (told, changed) = &*self.shared;
                told.lock().unwrap().said.push(serde_json::from_slice(&body).unwrap());
                changed.notify_all();
                ("text/plain", Vec::new())
            }
            _ => ("text/plain", b"nothing here".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            answer.len()
        );
        // A page that is gone wants no answer.
        let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
    }

    /// The task, once it is told. Nobody tells it to a test that has failed: then the page hears that it has none.
    fn task(&self) -> Value {
        let (told, changed) = &*self.shared;
        let waited = changed.wait_timeout_while(told.lock().unwrap(), PATIENCE + SOON, |told| told.task.is_none());
        waited.unwrap().0.task.clone().unwrap_or_default()
    }
}
