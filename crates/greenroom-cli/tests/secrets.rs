//! What greenroom tells, and how much of it: no secret that a client, a backend or the configuration holds is in any output (A48), and
//! nothing that clients choose makes its metrics or its memory grow (A49).
//!
//! A secret of the test begins with `sparrow`. They are planted wherever one may be: cookies, credentials, queries, a login
//! in a URL, subprotocols, messages of both sides, close reasons, environments, header fields and tokens of the configuration; in requests that
//! pass, that wait, that are refused and that are no requests. Then everything that can be asked is asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use common::{
    Greenroom,
    process::{remove_folder, until},
    raw::{Raw, SOON, Stub, close, frame, masked, nobody, switching, upgrade},
    rig::Rig,
};
use serde_json::Value;

/// Where all secrets of a house are planted.
const CONFIG: &str = r#"
reload_on_change = false
[listener.main]
address = "{listen}"
[admin]
socket = "{folder}/admin.sock"
address = "{door}"
token = "sparrow-admin-token-0123"
[backend.app]
address = "{app}"
ready = "listen"
[backend.app.check.cache]
probe = "redis"
address = "{redis}"
password = "sparrow-redis-password"
critical = false
interval = "10ms"
[backend.job]
address = "127.0.0.1:1"
ready = "notify"
[backend.job.process]
command = ["sh", "-c", "exec sleep 1000", "sparrow-no"]
env = { DATABASE_URL = "postgres://app:sparrow-environment@db/app", API_KEY = "sparrow-key" }
[[route]]
backend = "app"
user = "header:X-User"
tags = ["header:X-Tenant"]
[route.request_headers]
set = { X-Backend-Key = "sparrow-header-set" }
[route.response_headers]
set = { X-Answer-Key = "sparrow-answer-set" }
[[route]]
path = "/refuse"
http = "refuse"
backend = "job"
hold = "refuse"
[[route]]
path = "/wait"
backend = "job"
hold = "accept"
"#;

/// One greenroom with secrets everywhere.
struct House {
    greenroom: Greenroom,
    folder: PathBuf,
    listen: String,
    door: String,
    stub: Stub,
    /// What clients have read of greenroom's own answers.
    answers: Vec<String>,
}

impl House {
    fn start(format: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("greenroom-secrets-{}-{format}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (stub, listen, door) = (Stub::listen(), nobody(), nobody());
        let config = CONFIG
            .replace("{folder}", folder.to_str().unwrap())
            .replace("{listen}", &listen)
            .replace("{door}", &door)
            .replace("{app}", &stub.address())
            .replace("{redis}", &rude_redis())
            .replace(", \"sparrow-no\"", ""); // the words of a command are no secret: `ps` shows them
        let file = folder.join("greenroom.toml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(["run", "--log-format", format, "--config"])
            .arg(&file)
            .env("XDG_RUNTIME_DIR", &folder)
            .env("GREENROOM_OTHER_SECRET", "sparrow-own-environment")
            .env_remove("NOTIFY_SOCKET");
        let house = Self {
            greenroom: Greenroom::spawn(&mut command),
            folder,
            listen,
            door,
            stub,
            answers: Vec::new(),
        };
        until("app is ready", || {
            let status: Value = serde_json::from_str(&house.say(&["status", "--json"])).unwrap_or_default();
            status["backends"][0]["condition"] == "ready" && status["backends"][0]["checks"][0]["state"] == "bad"
        });
        house
    }

    /// What the program says, to both sides.
    fn say(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(args)
            .env("GREENROOM_ADMIN", self.folder.join("admin.sock"));
        let said = command.output().unwrap();
        // Standard error first: what is JSON stands alone where nothing went wrong.
        String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap()
    }

    /// What the admin socket answers, or begins to answer: a stream has no end.
    fn ask(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn client(&self, request: impl AsRef<[u8]>) -> Raw {
        let mut client = Raw::connect(&self.listen);
        client.send(request);
        client
    }

    /// A client that is refused; what it reads is greenroom's own.
    fn refused(&mut self, request: impl AsRef<[u8]>) {
        let mut client = self.client(request);
        self.answers
            .push(String::from_utf8_lossy(&client.rest_or_reset()).into_owned());
    }
}

/// A server that says everything back that it is told, as an error.
fn rude_redis() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut said = [0; 512];
            let read = stream.read(&mut said).unwrap_or(0);
            let text = String::from_utf8_lossy(&said[..read]).replace("\r\n", " ");
            let _ = write!(stream, "-ERR what is {text}\r\n");
        }
    });
    address
}

/// What may hold secrets in a head.
const FIELDS: &str = "Cookie: session=sparrow-cookie\r\nAuthorization: Bearer sparrow-authorization\r\n\
    Proxy-Authorization: Basic sparrow-proxy\r\nX-Api-Key: sparrow-api-key\r\nReferer: http://h/?t=sparrow-referer\r\n\
    Sec-WebSocket-Protocol: chat, sparrow-protocol\r\n";

/// Requests that pass, wait, are refused, and are no requests; and what is said over them.
fn scenario(house: &mut House) {
    let opening = |path: &str| upgrade(FIELDS).replacen("/ws", path, 1);
    // Relayed: messages of both sides, and a close with a reason.
    let mut client = house.client(opening("/ws?token=sparrow-query"));
    let mut backend = house.stub.accept();
    let request = backend.head();
    for secret in [
        "sparrow-cookie",
        "sparrow-authorization",
        "sparrow-query",
        "sparrow-protocol",
        "sparrow-header-set",
    ] {
        assert!(request.contains(secret), "the backend is told: {request}");
    }
    backend.send(switching(
        "Set-Cookie: a=sparrow-set-cookie\r\nSec-WebSocket-Protocol: sparrow-protocol\r\n",
    ));
    client.head();
    client.send(masked(0x81, b"sparrow-message"));
    backend.frame();
    backend.send(frame(0x81, b"sparrow-answer"));
    client.frame();
    backend.send(close(4_000, "sparrow-reason"));
    client.close_frame();
    client.send(masked(0x88, &4_000_u16.to_be_bytes()));
    drop((client, backend));
    // Who breaks the protocol, on either side.
    let mut client = house.client(opening("/ws?token=sparrow-query"));
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    client.head();
    client.send(frame(0x81, b"sparrow-unmasked"));
    client.close_frame();
    drop((client, backend));
    let mut client = house.client(opening("/ws"));
    let (mut backend, _) = house.stub.request();
    backend.send(switching(""));
    client.head();
    backend.send(masked(0x81, b"sparrow-masked"));
    client.close_frame();
    drop((client, backend));
    // A backend that answers nonsense, and one that refuses.
    for answer in [
        "sparrow-nonsense\r\n\r\n",
        "HTTP/1.1 101 sparrow-phrase\r\nX: sparrow-field\r\n\r\n",
    ] {
        let mut client = house.client(opening("/ws?token=sparrow-query"));
        let (mut backend, _) = house.stub.request();
        backend.send(answer);
        drop(backend);
        house
            .answers
            .push(String::from_utf8_lossy(&client.rest_or_reset()).into_owned());
    }
    // Accepted while it waits: what it has said is kept, and thrown away with it.
    let mut client =
        house.client(upgrade("Cookie: session=sparrow-cookie\r\n").replacen("/ws", "/wait?token=sparrow-query", 1));
    house.answers.push(client.head());
    client.send(masked(0x81, b"sparrow-early"));
    client.send(masked(0x88, b"\x03\xe8sparrow-leaves"));
    house
        .answers
        .push(String::from_utf8_lossy(&client.rest_or_reset()).into_owned());
    // Refused: no gate, no route that fits, what is not sure, what is malformed.
    house.refused(opening("/refuse?token=sparrow-query"));
    house.refused(opening("/ws#sparrow-fragment"));
    house.refused(opening("/refuse").replacen("HTTP/1.1", "HTTP/1.0", 1));
    house.refused(upgrade(&format!(
        "{FIELDS}X-User: sparrow-user\r\nX-User: sparrow-other\r\n"
    )));
    house.refused(upgrade(&format!("X-User: sparrow-{}\r\n", "u".repeat(200))));
    house.refused(upgrade("Cookie : session=sparrow-cookie\r\n"));
    house.refused(upgrade("Cookie: session=sparrow\0cookie\r\n"));
    house.refused(upgrade(&format!("Cookie: sparrow-{}\r\n", "c".repeat(20_000))));
    house.refused(upgrade("Sec-WebSocket-Protocol: sparrow-one, sparrow-one\r\n"));
    house.refused(upgrade("Sec-WebSocket-Extensions: sparrow-extension; =\r\n"));
    house.refused("GET http://app:sparrow-login@h/ws HTTP/1.1\r\nHost: h\r\n\r\n");
    house.refused("GET /ws HTTP/1.1\r\nHost: app:sparrow-login@h\r\n\r\n");
    house.refused("sparrow-no-http-at-all\r\n\r\n");
    house.refused("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nProxy-Authorization: sparrow-proxy\r\n\r\n");
    house.refused(format!(
        "GET /refuse?q=sparrow-query HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{FIELDS}\r\n"
    ));
    let mut plain = house.client(format!("POST /form?q=sparrow-query HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 11\r\n{FIELDS}\r\nsparrow-form"));
    let (mut backend, _) = house.stub.request();
    backend.exactly(11);
    backend.send("HTTP/1.1 500 sparrow-phrase\r\nContent-Length: 12\r\nSet-Cookie: a=sparrow-set\r\n\r\nsparrow-error");
    plain.rest();
    // The admin address, with what is no token of ours.
    for fields in [
        "Authorization: Bearer sparrow-wrong-token\r\n",
        "Authorization: Basic sparrow-basic\r\n",
        "Cookie: sparrow-admin-cookie\r\n",
    ] {
        let mut client = Raw::connect(&house.door);
        client.send(format!(
            "GET /v1/status?token=sparrow-admin-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
        ));
        house.answers.push(String::from_utf8_lossy(&client.rest()).into_owned());
    }
    for guess in 0..12 {
        let mut client = Raw::connect_from(9, &house.door);
        client.send(format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer sparrow-guess-{guess}\r\n\r\n"));
        house.answers.push(String::from_utf8_lossy(&client.rest()).into_owned());
    }
}

/// Everything that can be asked, with what it says.
fn outputs(house: &House) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let file = house.folder.join("greenroom.toml");
    let file = file.to_str().unwrap();
    let broken = house.folder.join("broken.toml");
    let text = fs::read_to_string(file).unwrap();
    let text = text
        .replace("interval = \"10ms\"", "intervall = 5")
        .replace("env = {", "env = { BAD = 5,");
    fs::write(&broken, text.replacen("token = ", "tokenn = ", 1)).unwrap();
    let unquoted = house.folder.join("unquoted.toml");
    fs::write(&unquoted, "[admin]\ntoken = sparrow-unquoted\n").unwrap();
    let mut commands: Vec<Vec<String>> = [
        &["status"][..],
        &["status", "--json"],
        &["ps"],
        &["ps", "--json"],
        &["ps", "--closed"],
        &["ps", "--closed", "--json"],
        &["check", file],
        &["check", file, "--explain"],
        &["check", file, "--toml"],
        &["check", broken.to_str().unwrap()],
        &["check", unquoted.to_str().unwrap()],
        &["reload"],
        &["reload", "--dry-run"],
    ]
    .iter()
    .map(|words| words.iter().map(|&word| word.to_owned()).collect())
    .collect();
    let closed: Value = serde_json::from_str(&house.say(&["ps", "--closed", "--json"])).unwrap();
    let numbers = closed["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["number"].to_string());
    for number in numbers {
        commands.extend(["show", "why"].map(|verb| vec![verb.to_owned(), number.clone()]));
    }
    for words in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        all.push((words.join(" "), house.say(&words)));
    }
    let mut paths = vec![
        "/v1/status".to_owned(),
        "/v1/connections".into(),
        "/v1/closed".into(),
        "/metrics".into(),
        "/v1/backends/app".into(),
    ];
    let listed = house.ask("/v1/openapi.json");
    let listed: Value = listed
        .split_once("\r\n\r\n")
        .and_then(|(_, body)| serde_json::from_str(body).ok())
        .unwrap_or_default();
    let more = listed["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, item)| item["get"].is_object());
    paths.extend(more.map(|(path, _)| {
        path.replace("{name}", "app")
            .replace("{number}", "1")
            .replace("{id}", "1")
    }));
    paths.extend(
        [
            "/livez",
            "/readyz",
            "/startupz",
            "/v1/openapi.json",
            "/v1/events?after=0",
            "/v1/config",
            "/nothing",
        ]
        .map(String::from),
    );
    for path in paths {
        let answer = house.ask(&path);
        all.push((path, answer));
    }
    all.push(("answers to clients".into(), house.answers.join("\n")));
    all.push(("the log".into(), house.greenroom.stderr()));
    all.push(("standard output".into(), house.greenroom.stdout()));
    all
}

/// A48.
#[test]
fn no_secret_of_a_client_a_backend_or_the_configuration_is_in_any_output() {
    for format in ["json", "text"] {
        let mut house = House::start(format);
        scenario(&mut house);
        until("all are over", || house.say(&["ps"]).lines().count() == 1);
        let mut all = outputs(&house);
        house.greenroom.signal(rustix::process::Signal::TERM);
        house.greenroom.wait_exit(SOON);
        all.push(("the whole log".into(), house.greenroom.stderr()));
        let leaks: Vec<_> = all
            .iter()
            .filter_map(|(what, text)| {
                let at = text.find("sparrow")?;
                let around: String = text[at..].chars().take(60).collect();
                Some(format!("{what}: {around}"))
            })
            .collect();
        assert!(leaks.is_empty(), "{format}: secrets are told:\n{}", leaks.join("\n"));
        let whole = &all.last().unwrap().1;
        for word in ["bad_request", "not_ready", "bad_answer", "head_too_large"] {
            let told = if format == "json" {
                word.to_owned()
            } else {
                String::new()
            };
            assert!(whole.contains(&told), "the scenario happened: {word}: {whole}");
        }
        assert!(all.len() > 60 && all.iter().filter(|(_, text)| !text.is_empty()).count() > 60);
        remove_folder(&house.folder);
    }
}

/// The metrics without their values.
fn series(rig: &Rig) -> Vec<String> {
    let metrics = rig.ask("/metrics");
    let lines = metrics.lines().filter(|line| line.starts_with("greenroom_"));
    let mut names: Vec<_> = lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
    names.sort_unstable();
    names
}

/// What the process has in memory, in KiB.
fn resident(rig: &Rig) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.greenroom.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A49. What clients choose (paths, hosts, origins, users, tags, subprotocols, close codes and reasons) is a label of nothing, and is kept of the
/// last 10,000 only.
#[test]
fn whatever_clients_choose_metrics_and_memory_stay_as_they_are() {
    let stub = Stub::listen();
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[backend.away]\naddress = \"127.0.0.1:1\"\n\
             [limits]\nmax_connections_per_user = 1000\n\
             [[route]]\nbackend = \"app\"\npath = \"/ws\"\n\
             [[route]]\nbackend = \"away\"\nhold = \"refuse\"\nuser = \"header:X-User\"\ntags = [\"header:X-Tenant\"]\n",
            stub.address()
        ),
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let refused = |range: std::ops::Range<u32>| {
        for n in range {
            let fields =
                format!("X-User: user-{n}\r\nX-Tenant: tenant-{n}\r\nSec-WebSocket-Protocol: protocol-{n}\r\n");
            let request = upgrade(&fields)
                .replacen("/ws", &format!("/path-{n}?q={n}"), 1)
                .replace("example.test", &format!("host-{n}.test"));
            let mut client = Raw::connect(&rig.address);
            client.send(request);
            assert!(client.head().starts_with("HTTP/1.1 503 "));
        }
    };
    let relayed = |range: std::ops::Range<u16>| {
        for n in range {
            let mut client = rig.knock(&format!("/ws/{n}"));
            let (mut backend, _) = stub.request();
            backend.send(switching(&format!("X-Own-{n}: {n}\r\n")));
            client.head();
            backend.send(close(4_000 + n, &format!("reason {n}")));
            client.close_frame();
            client.send(masked(0x88, &(4_000 + n).to_be_bytes()));
            client.fin();
        }
    };
    // The ledger is full before memory is looked at.
    refused(0..11_000);
    relayed(0..10);
    until("all are over", || {
        rig.say(&["ps"]).stdout.iter().filter(|&&byte| byte == b'\n').count() == 1
    });
    let (names, before) = (series(&rig), resident(&rig));
    refused(11_000..31_000);
    relayed(10..300);
    until("all are over", || {
        rig.say(&["ps"]).stdout.iter().filter(|&&byte| byte == b'\n').count() == 1
    });
    let after = resident(&rig);
    assert_eq!(series(&rig), names);
    assert!(
        names
            .iter()
            .all(|name| !name.contains("path-") && !name.contains("user-") && !name.contains("host-")),
        "{names:?}"
    );
    assert!(after <= before + 4_096, "{before} KiB became {after} KiB");
}
