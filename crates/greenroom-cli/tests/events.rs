//! The event stream of the real program: ids and resume, filters, readers that are slow, dead or too many, changes
//! from outside that are said, and `greenroom events` on top of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use common::{
    process::until,
    raw::{Raw, SOON, Stub, nobody, switching},
    rig::Rig,
};
use greenroom_core::limits::{ADMIN_CONNECTIONS_MAX, EVENT_STREAMS_MAX, EVENTS_KEPT};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn behind(stub: &Stub, more: &str) -> Rig {
    let address = stub.address();
    Rig::start(
        "serve",
        &format!("[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n{more}\n"),
    )
}

/// A reader of the stream at the socket.
struct Tail {
    reader: BufReader<UnixStream>,
}

impl Tail {
    fn open(rig: &Rig, query: &str, fields: &str) -> Self {
        let mut stream = UnixStream::connect(rig.socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(
            stream,
            "GET /v1/events?{query} HTTP/1.1\r\nHost: greenroom\r\n{fields}\r\n"
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        while line != "retry: 1000\n" {
            line.clear();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "it begins with when to come again"
            );
        }
        Self { reader }
    }

    /// The next event; `None` at the end of the stream.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.reader.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            if line == "0\r\n" {
                return None; // the last chunk
            }
            line.clear();
        }
        None
    }

    /// The next event of this name.
    fn until(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().expect("the stream goes on");
            if event["event"] == name {
                return event;
            }
        }
    }
}

/// The number in an id.
fn number(event: &Value) -> u64 {
    let id = event["id"].as_str().unwrap();
    id.rsplit('-').next().unwrap().parse().unwrap()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn ids_of_another_life_are_missed(rig: &Rig) {
    // Of another life: that is said first, then all that is kept is told.
    let all = rig.streamed("after=0-7");
    assert_eq!(names(&all)[..2], ["missed", "listening"], "{all:?}");
    assert!(all[0]["after"] == "0-7" && all[0]["count"].is_null(), "{}", all[0]);

    let no_text = Tail::open(rig, "last=0&follow=false", "Last-Event-ID: \u{e9}\r\n")
        .next()
        .unwrap();
    assert_eq!(
        (&no_text["event"], &no_text["after"]),
        (&"missed".into(), &"\u{e9}".into())
    );
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end_and_a_reader_goes_on_where_it_was() {
    let stub = Stub::listen();
    let rig = behind(&stub, "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut tail = Tail::open(&rig, "", "");
    let mut client = rig.knock("/chat?token=hidden");
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    client.head();
    let relaying = tail.until("relaying");
    client.fin();
    backend.rest();
    drop((client, backend));
    let closed = tail.until("closed");
    assert_eq!(
        (&closed["cause"], &closed["connection"]),
        (&"client".into(), &relaying["connection"])
    );

    let connection = relaying["connection"].as_u64().unwrap();
    let all = rig.streamed(&format!("last={EVENTS_KEPT}&connection={connection}"));
    assert_eq!(names(&all), ["opened", "released", "relaying", "closed"]);
    let path = (&all[0]["path"], &all[0]["kind"], &all[0]["address"]);
    assert_eq!(path, (&"/chat".into(), &"websocket".into(), &"127.0.0.1".into()));
    assert!(!format!("{all:?}").contains("hidden"), "a query may be a secret");
    assert!(
        all.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])),
        "{all:?}"
    );
    let session = all[1]["session"].to_string();
    let of_session = rig.streamed(&format!("last={EVENTS_KEPT}&session={session}"));
    assert_eq!(
        names(&of_session),
        ["released", "relaying", "closed"],
        "it had no session before"
    );
    let of_backend = rig.streamed(&format!("last={EVENTS_KEPT}&backend=app&event=opened,closed,listening"));
    assert_eq!(names(&of_backend), ["opened", "closed"], "listening is about the house");

    // Behind an id, by the query and by the header, which wins.
    let id = relaying["id"].as_str().unwrap();
    for (query, fields) in [
        (format!("after={id}&connection={connection}"), String::new()),
        (
            format!("connection={connection}&after={}", all[0]["id"].as_str().unwrap()),
            format!("Last-Event-ID: {id}\r\n"),
        ),
    ] {
        let mut tail = Tail::open(&rig, &query, &fields);
        assert_eq!(tail.next().unwrap()["id"], closed["id"], "{query} {fields}");
    }
    ids_of_another_life_are_missed(&rig);

    // The log has the same ends, and not a line more for it.
    let logged = rig.greenroom.events();
    assert!(
        names(&logged)
            .iter()
            .all(|name| !["opened", "relaying", "missed"].contains(name))
    );
    let line = logged.iter().find(|event| event["event"] == "closed").unwrap();
    assert_eq!(
        (&line["connection"], &line["id"]),
        (&closed["connection"], &Value::Null)
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let rig = behind(&Stub::listen(), "");
    for (query, says) in [
        ("event=closed,opnd", "relaying"),
        ("backend=ap", "the backends are app"),
        ("form=xml", "json and text"),
        ("last=99999", "are kept"),
        ("session=x", "session"),
        ("nothing=1", "connection"),
    ] {
        let answer = rig.ask(&format!("/v1/events?{query}"));
        assert!(
            answer.starts_with("HTTP/1.1 422 ") && answer.contains(says),
            "{query}: {answer}"
        );
    }
}

#[test]
fn a_change_is_said_with_who_made_it_at_the_socket_and_at_the_address() {
    let (stub, door) = (Stub::listen(), nobody());
    let admin = format!("phases = [\"database\"]\n[admin]\naddress = \"{door}\"\ntoken = \"0123456789abcdef\"\n");
    let rig = behind(&stub, &admin);
    let mut tail = Tail::open(&rig, "event=admin", "");
    rig.tell(&["phase", "database"]);
    let event = tail.next().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let by = event["by"].as_str().unwrap();
    assert!(
        by.starts_with(&format!("socket uid={uid} pid=")) && !by.ends_with("pid=0"),
        "{event}"
    );
    assert_eq!(
        (&event["action"], &event["what"], &event["result"], &event["detail"]),
        (
            &"phase".into(),
            &"backend app".into(),
            &"done".into(),
            &"database".into()
        )
    );
    let mut client = Raw::connect(&door);
    let body = r#"{"phase": "nothing"}"#;
    client.send(format!(
        "POST /v1/backends/app/phases HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: Bearer 0123456789abcdef\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(client.answer().0.starts_with("HTTP/1.1 422 "));
    let event = tail.next().unwrap();
    assert!(
        event["by"].as_str().unwrap().starts_with("address 127.0.0.1:"),
        "{event}"
    );
    assert_eq!(event["result"], "refused");
    assert!(event["detail"].as_str().unwrap().contains("no phase"), "{event}");
    let logged = rig.greenroom.wait_for(|line| line["result"] == "refused", SOON);
    assert_eq!(logged["by"], event["by"], "the log says it too");
}

/// Tells greenroom so many things that make no sense, each of which is an event.
fn chatter(rig: &Rig, count: usize) {
    let mut stream = UnixStream::connect(rig.socket()).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
    let body = r#"{"phase": "nothing"}"#;
    let request = |rest: &str| {
        format!(
            "POST /v1/backends/app/phases HTTP/1.1\r\nHost: greenroom\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{rest}\r\n{body}",
            body.len()
        )
    };
    for _ in 1..count {
        stream.write_all(request("").as_bytes()).unwrap();
    }
    stream.write_all(request("Connection: close\r\n").as_bytes()).unwrap();
    reading.join().unwrap();
}

#[test]
fn a_reader_that_takes_nothing_holds_up_nobody_and_hears_what_it_has_missed() {
    let stub = Stub::listen();
    let rig = behind(&stub, "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut slow = Tail::open(&rig, "", "");
    let mut quick = Tail::open(&rig, "event=closed", "");
    // More than is kept, and than the kernel keeps for a reader.
    chatter(&rig, 3 * EVENTS_KEPT);
    let mut client = rig.get("/");
    stub.request().0.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.rest();
    assert_eq!(quick.until("closed")["cause"], "served", "others hear at once");

    let (mut at, mut missed) = (None, 0);
    loop {
        let event = slow.next().unwrap();
        let is_over = event["event"] == "closed";
        let number = number(&event);
        let count = event["count"].as_u64().unwrap_or(0);
        if let Some(before) = at {
            let expected = if event["event"] == "missed" {
                before + count
            } else {
                before + 1
            };
            assert_eq!(number, expected, "all is told, or told to be missing: {event}");
        }
        if event["event"] == "missed" {
            missed += count;
        }
        at = Some(number);
        if is_over {
            break;
        }
    }
    assert!(missed > 0, "it fell behind");
}

#[test]
fn streams_are_bounded_stay_open_among_a_crowd_and_hear_the_last_word() {
    let stub = Stub::listen();
    let mut rig = behind(&stub, "");
    let mut tails: Vec<_> = (0..EVENT_STREAMS_MAX)
        .map(|_| Tail::open(&rig, "event=stopped", ""))
        .collect();
    let refused = rig.ask("/v1/events");
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("follow=false"),
        "{refused}"
    );
    // Who holds connections and asks nothing gives way; streams do not.
    let _crowd: Vec<_> = (0..2 * ADMIN_CONNECTIONS_MAX)
        .map(|_| UnixStream::connect(rig.socket()).unwrap())
        .collect();
    assert_eq!(rig.status()["backend"], "app");
    drop(tails.pop());
    until("a place is free again", || {
        rig.ask("/v1/events?follow=false&last=1").starts_with("HTTP/1.1 200 ")
    });
    rig.greenroom.signal(Signal::TERM);
    for tail in &mut tails {
        assert_eq!(tail.next().unwrap()["event"], "stopped");
        assert!(tail.next().is_none(), "it ends with greenroom");
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
}

/// `greenroom events ARGS`, running.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(rig: &Rig, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .arg("events")
            .args(args)
            .env("XDG_RUNTIME_DIR", &rig.folder)
            .env_remove("GREENROOM_ADMIN")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break; // the pipe is closed with this
                }
            }
        });
        Self { child, lines }
    }

    /// The next line.
    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("another line")
    }

    /// The next line of which this is a part.
    fn says(&self, part: &str) {
        while !self.line().contains(part) {}
    }

    /// The next line, as JSON.
    fn event(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, and what it said on standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        drop(std::mem::replace(&mut self.lines, std::sync::mpsc::channel().1));
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), errors)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_prints_sentences_or_json_and_ends_as_is_meet() {
    let stub = Stub::listen();
    let mut rig = behind(&stub, "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let said = rig.say(&["events", "--last", "20"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.status.success() && text.contains("listening on 127.0.0.1:"),
        "{text}"
    );
    let said = rig.say(&["events", "--last", "20", "--json", "--event", "listening,gate"]);
    let lines = String::from_utf8(said.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        names(&events).contains(&"gate") && events[0]["id"].is_string(),
        "{lines}"
    );
    let said = rig.say(&["events", "--event", "opnd"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        String::from_utf8(said.stderr)
            .unwrap()
            .contains("there is no event \"opnd\"")
    );

    // It follows; each event is told by itself.
    let follows = Following::start(&rig, &["--last", "9", "--follow", "--backend", "app"]);
    follows.line();
    let mut client = rig.get("/page");
    stub.request().0.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.rest();
    follows.says("of 127.0.0.1 asks for /page (http)");
    follows.says("is closed (served) after");
    follows.signal(Signal::INT);
    assert_eq!(follows.ended(), (Some(0), String::new()), "Ctrl-C");

    // Nobody reads any more: it ends with an event, quietly.
    let mut follows = Following::start(&rig, &["--last", "1", "--follow", "--json"]);
    follows.event();
    follows.lines = std::sync::mpsc::channel().1;
    until("it has ended", || {
        let _ = rig.say(&["phase", "nothing"]);
        follows.child.try_wait().unwrap().is_some()
    });
    assert_eq!(follows.ended(), (Some(0), String::new()), "a closed pipe");

    let all = Following::start(&rig, &["--last", "1", "--follow"]);
    all.line();
    // The last word is for everybody: whoever asks for something else does not hear that the stream broke off.
    let number = rig.streamed("last=4096&event=opened")[0]["connection"].to_string();
    let some = [["--event", "opened"], ["--connection", &number], ["--backend", "app"]].map(|choice| {
        let follows = Following::start(&rig, &[&["--last", "4096", "--follow"], &choice[..]].concat());
        follows.line();
        follows
    });
    rig.greenroom.signal(Signal::TERM);
    for follows in [all].into_iter().chain(some) {
        follows.says("stopped with code 0");
        assert_eq!(follows.ended(), (Some(0), String::new()), "it has stopped, as it said");
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
}

#[test]
fn with_a_named_socket_the_next_greenroom_there_is_waited_for() {
    let stub = Stub::listen();
    let mut rig = behind(&stub, "[admin]\nsocket = \"{folder}/admin.sock\"\n");
    let socket = rig.folder.join("admin.sock");
    let socket = socket.to_str().unwrap();
    let follows = Following::start(&rig, &["--admin", socket, "--json", "--last", "1", "--follow"]);
    let first = follows.event();
    rig.greenroom.signal(Signal::TERM);
    let mut stopped = follows.event();
    while stopped["event"] != "stopped" {
        stopped = follows.event();
    }
    rig.greenroom.wait_exit(SOON);
    let file = rig.folder.join("greenroom.toml");
    let mut command = common::Greenroom::command(&["serve", "--config", file.to_str().unwrap()]);
    command.env("XDG_RUNTIME_DIR", &rig.folder);
    rig.greenroom = common::Greenroom::spawn(&mut command);
    let missed = follows.event();
    assert_eq!((&missed["event"], &missed["after"]), (&"missed".into(), &stopped["id"]));
    let next = follows.event();
    assert_eq!((&next["event"], number(&next)), (&"listening".into(), 1));
    let life = |event: &Value| event["id"].as_str().unwrap().split('-').next().unwrap().to_owned();
    assert_ne!(life(&first), life(&next));
    follows.signal(Signal::INT);
    let (code, errors) = follows.ended();
    assert_eq!(code, Some(0));
    assert!(
        errors.contains("waiting for a greenroom at the same socket"),
        "{errors}"
    );
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_stream() {
    let stub = Stub::listen();
    let address = stub.address();
    let folder = std::env::temp_dir().join(format!("greenroom-stuck-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let socket = folder.join("admin.sock");
    let config = format!(
        "[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n[admin]\nsocket = \"{}\"\n[listener.main]\naddress = \"127.0.0.1:0\"\n",
        socket.display()
    );
    std::fs::write(folder.join("greenroom.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command
        .args(["serve", "--log-format", "json", "--config"])
        .arg(folder.join("greenroom.toml"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap(); // nobody reads it, until the end
    until("it answers", || UnixStream::connect(&socket).is_ok());
    let ask = |path: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // A pipe holds 64 KiB, some 400 of these lines.
    let body = r#"{"phase": "nothing"}"#;
    for _ in 0..2_000 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        write!(
            stream,
            "POST /v1/backends/app/phases HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let told = ask("/v1/events?last=4096&event=admin&follow=false");
    assert_eq!(told.matches("event: admin\n").count(), 2_000, "the stream has them all");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    let mut written = Vec::new();
    pipe.read_to_end(&mut written).unwrap();
    assert!(written.len() <= 128 * 1024, "the log was stuck: {}", written.len());
    child.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_reader_that_leaves_gives_its_place_back() {
    let rig = behind(&Stub::listen(), "");
    for _ in 0..3 * EVENT_STREAMS_MAX {
        until("there is a place", || {
            let answer = rig.ask("/v1/events?follow=false&last=1");
            answer.starts_with("HTTP/1.1 200 ")
        });
        drop(Tail::open(&rig, "", ""));
    }
    let tail = Tail::open(&rig, "", "");
    assert!(tail.reader.get_ref().read_timeout().unwrap().unwrap() > Duration::ZERO);
}
