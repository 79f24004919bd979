//! What pages in a browser of this machine can do to the admin address: nothing. Twelve attacks in a real Chromium, as A15 to A17 of
//! the catalogue have them, each against everything that the API has (what `/v1/openapi.json` lists, where it is there), at an address
//! without a token, where nothing but these guards stands between a page and the API.
//!
//! | | attack | held off by |
//! |---|---|---|
//! | 1 | DNS rebinding: a page of `evil.test`, which now leads here, reads | `Host` |
//! | 2 | DNS rebinding: the same page writes, with the right content type | `Origin`, `Host` |
//! | 3 | a page elsewhere sends what needs no preflight (`text/plain`, `no-cors`) | `Origin`, `Sec-Fetch-Site` |
//! | 4 | a page elsewhere reads, with cookies and credentials | no CORS field in any answer |
//! | 5 | a page elsewhere sends JSON and a guessed token, and asks for leave (preflight) | OPTIONS gives no leave |
//! | 6 | a form of a page elsewhere, sent as `text/plain` | `Origin`, `Sec-Fetch-Site` |
//! | 7 | images, scripts and styles | `Sec-Fetch-Site`, `nosniff`, `Cross-Origin-Resource-Policy` |
//! | 8 | a frame, for clicks that the person means for something else | `frame-ancestors`, `X-Frame-Options` |
//! | 9 | a sandboxed frame, and a `data:` page: `Origin: null` | any `Origin` is refused |
//! | 10 | a WebSocket and an event stream from a page elsewhere | `Origin` |
//! | 11 | a page at another port of `localhost`: the same site | `Sec-Fetch-Site: same-site` is refused too |
//! | 12 | a navigation, a window, a beacon and a service worker | a GET changes nothing, `Origin`, `Sec-Fetch-Site` |
//!
//! Each is a script that gives back what it could read. After each the house is as before, and no change was audited. That the
//! attacks reach the address and could succeed is seen with the guards taken away: then all twelve are told as successful.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread,
};

use common::{
    browser::{Browser, Page},
    process::until,
    raw::{Raw, SOON, Stub, field, nobody},
    rig::Rig,
};
use serde_json::{Value, json};

/// Something of the API that a page may want.
struct Target {
    method: String,
    path: String,
}

/// All that the API has, as its own description lists it; else what is known to be there.
fn targets(rig: &Rig) -> Vec<Target> {
    let listed = body(&rig.ask("/v1/openapi.json"));
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    let known = |method: &str, path: &str| Target {
        method: method.to_ascii_uppercase(),
        path: path
            .replace("{name}", "app")
            .replace("{number}", "1")
            .replace("{id}", "1"),
    };
    let mut all = vec![
        known("GET", "/v1/status"),
        known("GET", "/v1/connections"),
        known("GET", "/metrics"),
        known("POST", "/v1/backends/app/phases"),
    ];
    for (path, item) in listed["paths"].as_object().into_iter().flatten() {
        // Health is told to everybody, and stays so.
        if !["/livez", "/readyz", "/startupz"].contains(&path.as_str()) {
            let methods = item.as_object().into_iter().flatten();
            let methods =
                methods.filter(|(method, _)| ["get", "post", "put", "delete", "patch"].contains(&method.as_str()));
            all.extend(methods.map(|(method, _)| known(method, path)));
        }
    }
    all
}

fn body(answer: &str) -> String {
    answer
        .split_once("\r\n\r\n")
        .map_or_else(String::new, |(_, body)| body.to_owned())
}

/// A server of somebody else's: an empty page at each path, and a service worker.
fn elsewhere(worker: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the test.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let worker = worker.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
                let (kind, body) = if line.starts_with("GET /worker.js ") {
                    ("text/javascript", worker.as_str())
                } else {
                    ("text/html", "<!doctype html><title>elsewhere</title><body>")
                };
                let length = body.len();
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            });
        }
    });
    port
}

/// What every script has: the targets, and ways to try and to wait with a bound.
fn prelude(door: &str, targets: &[Target]) -> String {
    let all: Vec<_> = targets
        .iter()
        .map(|t| json!({"method": t.method, "path": t.path}))
        .collect();
    format!(
        "const admin = 'http://{door}', all = {}, read = [];
         const reads = all.filter(t => t.method == 'GET'), writes = all.filter(t => t.method != 'GET');
         const change = '{{\"phase\":\"failed\",\"reason\":\"a page\"}}';
         const soon = promise => Promise.race([promise, new Promise(done => setTimeout(done, 3000))]).catch(() => {{}});
         const get = (url, how) => soon(fetch(url, how).then(async answer => {{
             const text = await answer.text(); if (answer.ok && text) read.push(url + ': ' + text.slice(0, 60)); }}));
         const send = (url, how) => soon(fetch(url, {{ method: 'POST', body: change, ...how }}).then(async answer => {{
             const text = await answer.text(); if (answer.ok && text) read.push(url + ': ' + text.slice(0, 60)); }}));
        ",
        Value::from(all)
    )
}

/// An attack: its name, the page that makes it, and what it does.
struct Attack {
    name: &'static str,
    from: Place,
    script: &'static str,
}

enum Place {
    /// The name of somebody else's that leads to the admin address.
    Rebound,
    /// Another site.
    Elsewhere,
    /// `localhost`, at another port than the admin address.
    NextDoor,
}

const ATTACKS: [Attack; 12] = [
    Attack {
        name: "1 rebinding, reading",
        from: Place::Rebound,
        script: "for (const t of reads) await get(t.path);",
    },
    Attack {
        name: "2 rebinding, writing",
        from: Place::Rebound,
        script: "for (const t of writes) await send(t.path, { method: t.method, headers: { 'Content-Type': 'application/json' } });",
    },
    Attack {
        name: "3 a request without preflight",
        from: Place::Elsewhere,
        script: "for (const t of writes) await send(admin + t.path, { mode: 'no-cors', headers: { 'Content-Type': 'text/plain' } });",
    },
    Attack {
        name: "4 reading across sites",
        from: Place::Elsewhere,
        script: "for (const t of reads) { await get(admin + t.path); await get(admin + t.path, { credentials: 'include' }); }",
    },
    Attack {
        name: "5 a preflight",
        from: Place::Elsewhere,
        script: "const headers = { 'Content-Type': 'application/json', Authorization: 'Bearer 0123456789abcdef' };
                 for (const t of writes) await send(admin + t.path, { method: t.method, headers });
                 for (const t of reads) await get(admin + t.path, { headers, credentials: 'include' });",
    },
    Attack {
        name: "6 a form",
        from: Place::Elsewhere,
        script: "for (const t of writes) {
                     const frame = document.createElement('iframe'); frame.name = 'f' + Math.random(); document.body.append(frame);
                     const form = document.createElement('form'), field = document.createElement('input');
                     Object.assign(form, { method: 'POST', action: admin + t.path, enctype: 'text/plain', target: frame.name });
                     field.name = '{\"phase\":\"failed\",\"reason\":\"'; field.value = '\"}'; form.append(field); document.body.append(form);
                     const over = new Promise(done => frame.onload = done); form.submit(); await soon(over); }",
    },
    Attack {
        name: "7 images, scripts and styles",
        from: Place::Elsewhere,
        script: "for (const t of reads) for (const tag of ['img', 'script', 'link']) {
                     const e = document.createElement(tag); e.rel = 'stylesheet'; e[tag == 'link' ? 'href' : 'src'] = admin + t.path;
                     const over = new Promise(done => { e.onload = () => done(read.push(tag + ' ' + t.path)); e.onerror = () => done(); });
                     document.body.append(e); await soon(over); }",
    },
    Attack {
        name: "8 a frame",
        from: Place::Elsewhere,
        script: "for (const t of reads) {
                     const frame = document.createElement('iframe'); frame.src = admin + t.path;
                     const over = new Promise(done => frame.onload = done); document.body.append(frame); await soon(over); }",
    },
    Attack {
        name: "9 Origin: null",
        from: Place::Elsewhere,
        script: "const inner = '<script>(async () => {' + prelude
                     + 'for (const t of reads) await get(admin + t.path);'
                     + 'for (const t of writes) await send(admin + t.path, { mode: \"no-cors\" });'
                     + 'parent.postMessage(read, \"*\"); })()</scr' + 'ipt>';
                 for (const set of [f => { f.sandbox = 'allow-scripts'; f.srcdoc = inner; }, f => f.src = 'data:text/html,' + encodeURIComponent(inner)]) {
                     const frame = document.createElement('iframe'); set(frame);
                     const over = new Promise(done => window.onmessage = said => done(read.push(...said.data)));
                     document.body.append(frame); await soon(over); }",
    },
    Attack {
        name: "10 a WebSocket and an event stream",
        from: Place::Elsewhere,
        script: "const url = new URL(admin);
                 for (const t of reads) {
                     const socket = new WebSocket('ws://' + url.host + t.path);
                     await soon(new Promise(done => { socket.onopen = () => done(read.push('socket ' + t.path)); socket.onerror = done; }));
                     const stream = new EventSource(admin + t.path);
                     await soon(new Promise(done => { stream.onopen = stream.onmessage = () => done(read.push('stream ' + t.path)); stream.onerror = done; }));
                     socket.close(); stream.close();
                     await get(admin + t.path, { headers: { Accept: 'text/event-stream' } }); }",
    },
    Attack {
        name: "11 another port of this host",
        from: Place::NextDoor,
        script: "const near = admin.replace('127.0.0.1', 'localhost');
                 for (const t of reads) await get(near + t.path, { credentials: 'include' });
                 for (const t of writes) await send(near + t.path, { mode: 'no-cors' });",
    },
    Attack {
        name: "12 a navigation, a beacon and a worker",
        from: Place::NextDoor,
        script: "for (const t of writes) {
                     navigator.sendBeacon(admin + t.path, change);
                     const frame = document.createElement('iframe'); frame.src = admin + t.path + '?phase=failed';
                     const over = new Promise(done => frame.onload = done); document.body.append(frame); await soon(over); }
                 const seen = new Promise(done => navigator.serviceWorker.onmessage = said => done(read.push(...said.data)));
                 await soon(navigator.serviceWorker.register('/worker.js').then(it => {
                     const worker = it.installing || it.waiting || it.active; worker.postMessage('go'); }));
                 await soon(seen);",
    },
];

/// What stands in the service worker of the page next door.
const WORKER: &str = "onmessage = async said => {
    for (const t of reads) await get(admin + t.path);
    for (const t of writes) await send(admin + t.path, { mode: 'no-cors' });
    said.source.postMessage(read); };";

/// The house as an admin sees it, without what time alone changes; and how often somebody changed something.
fn state(rig: &Rig) -> (Value, u64, usize) {
    let status = rig.status();
    let keys = [
        "condition",
        "gate",
        "generation",
        "phases",
        "failure",
        "says",
        "level",
        "held",
    ];
    let mut seen: Value = keys
        .iter()
        .map(|key| ((*key).to_owned(), status[*key].clone()))
        .collect();
    if let Some(held) = seen["held"].as_object_mut() {
        held.remove("oldest_ms");
    }
    if let Some(phases) = seen["phases"].as_array_mut() {
        for phase in phases.iter_mut().filter_map(Value::as_object_mut) {
            phase.remove("since_ms");
        }
    }
    let open = rig.say(&["ps", "--json"]);
    let open: Value = serde_json::from_slice(&open.stdout).unwrap();
    let changes = rig
        .greenroom
        .events()
        .iter()
        .filter(|event| event["event"] == "admin")
        .count();
    (seen, open["total"].as_u64().unwrap(), changes)
}

/// A frame of the admin's was shown: none of the words that a browser says when it does not.
fn framed(page: &Page<'_>, mark: usize, door: &str) -> bool {
    let events = page.events_from(mark);
    let asked = |event: &&Value| {
        event["method"] == "Network.requestWillBeSent"
            && event["params"]["type"] == "Document"
            && event["params"]["request"]["url"]
                .as_str()
                .is_some_and(|url| url.contains(door))
    };
    let asked: Vec<_> = events
        .iter()
        .filter(asked)
        .map(|event| event["params"]["requestId"].clone())
        .collect();
    assert!(!asked.is_empty(), "no frame was asked for");
    let blocked = |id: &Value| {
        events.iter().any(|event| {
            event["method"] == "Network.loadingFailed"
                && event["params"]["requestId"] == *id
                && event["params"]["errorText"]
                    .as_str()
                    .is_some_and(|text| text.contains("BLOCKED_BY_RESPONSE"))
        })
    };
    !asked.iter().all(blocked)
}

#[test]
fn no_page_in_a_browser_reads_or_changes_anything_at_the_admin_address() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::start(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\
             [backend.app.check.never]\nprobe = \"file:{{folder}}/never\"\n",
            stub.address()
        ),
    );
    let held = rig.knock("/ws");
    rig.held(1);
    let targets = targets(&rig);
    let prelude = prelude(&door, &targets);
    let port = elsewhere(format!("{prelude}{WORKER}"));
    let at = door.rsplit_once(':').unwrap().1;
    let browser = Browser::start_with(&[
        "--host-resolver-rules=MAP evil.test 127.0.0.1",
        // What the browser itself keeps from pages would hide what greenroom does not.
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
    ]);
    let mut successful = Vec::new();
    for attack in ATTACKS {
        let before = state(&rig);
        let page = browser.page();
        let from = match attack.from {
            Place::Rebound => format!("http://evil.test:{at}/livez"),
            Place::Elsewhere => format!("http://evil.test:{port}/"),
            Place::NextDoor => format!("http://localhost:{port}/"),
        };
        if matches!(attack.from, Place::Rebound) {
            // It came from somebody else's server before the name led here: greenroom's policy is not its own.
            page.call("Page.setBypassCSP", &json!({"enabled": true}));
        }
        page.goto(&from);
        page.until("document.readyState == 'complete'");
        let mark = page.mark();
        let quoted = Value::from(prelude.as_str());
        let read = page.eval(&format!(
            "(async () => {{ const prelude = {quoted}; {prelude} {}; return read; }})()",
            attack.script
        ));
        let sent = page
            .events_from(mark)
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .count();
        assert!(sent > 0, "{}: nothing was asked of the address", attack.name);
        let mut what = Vec::new();
        if read.as_array().unwrap().iter().any(|_| true) {
            what.push(format!("read {read}"));
        }
        if attack.name.starts_with('8') && framed(&page, mark, &door) {
            what.push("was shown in a frame".to_owned());
        }
        let after = state(&rig);
        if before != after {
            what.push(format!("changed {before:?} to {after:?}"));
        }
        if !what.is_empty() {
            successful.push(format!("{}: {}", attack.name, what.join("; ")));
        }
    }
    assert!(
        successful.is_empty(),
        "{} succeeded:\n{}",
        successful.len(),
        successful.join("\n")
    );
    drop(held);
}

/// No answer at the address, whatever was asked in which way, gives a page leave to anything.
#[test]
fn each_answer_at_the_admin_address_is_fenced() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::start(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\ntoken = \"0123456789abcdef\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            stub.address()
        ),
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let ask = |method: &str, path: &str, fields: &str| {
        let mut client = Raw::connect(&door);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n"
        ));
        client.head()
    };
    let token = "Authorization: Bearer 0123456789abcdef\r\n";
    let mut all = targets(&rig);
    all.extend(["/nothing", "/livez", "/readyz", "/startupz"].map(|path| Target {
        method: "GET".into(),
        path: path.into(),
    }));
    let mut statuses = std::collections::BTreeSet::new();
    for Target { method, path } in &all {
        for fields in [
            format!("Host: {door}\r\n{token}"),
            format!("Host: {door}\r\n"),
            format!("Host: {door}\r\n{token}Origin: http://{door}\r\n"),
            format!("Host: {door}\r\n{token}Sec-Fetch-Site: same-origin\r\n"),
            format!("Host: evil.test\r\n{token}"),
        ] {
            let asks_leave = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\
                 Access-Control-Request-Private-Network: true\r\nOrigin: http://evil.test\r\n";
            // A stream has no end; its head is enough. What changes something is not asked with the right to.
            let is_allowed = fields.contains(&door)
                && fields.contains(token)
                && !fields.contains("Origin")
                && !fields.contains("Sec-");
            let mut heads = vec![
                ask("OPTIONS", path, &format!("{fields}{asks_leave}")),
                ask("HEAD", path, &fields),
            ];
            if method == "GET" || !is_allowed {
                heads.push(ask(method, path, &fields));
            }
            for head in heads {
                statuses.insert(head.split(' ').nth(1).unwrap().to_owned());
                for (name, value) in [
                    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
                    ("x-frame-options", "DENY"),
                    ("x-content-type-options", "nosniff"),
                    ("cross-origin-resource-policy", "same-origin"),
                    ("cache-control", "no-store"),
                ] {
                    assert_eq!(
                        field(&head, name).as_deref(),
                        Some(value),
                        "{method} {path} {fields}: {head}"
                    );
                }
                assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
            }
        }
    }
    let expected = ["200", "401", "403", "404", "405"];
    assert!(expected.iter().all(|status| statuses.contains(*status)), "{statuses:?}");
}

/// A platform asks for health by what name it likes; who rebinds a name learns that greenroom is there, and no word more.
#[test]
fn to_a_strange_name_health_says_yes_or_no_and_nothing_else() {
    let door = nobody();
    let rig = Rig::start(
        "serve",
        &format!("[admin]\naddress = \"{door}\"\n[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"listen\"\n"),
    );
    let ask = |fields: &str| {
        let mut client = Raw::connect(&door);
        client.send(format!("GET /startupz HTTP/1.1\r\nConnection: close\r\n{fields}\r\n"));
        let (head, body) = client.answer();
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    };
    let (status, words) = ask(&format!("Host: {door}\r\n"));
    assert!(status == "503" && words.contains("app"), "{status} {words}");
    assert_eq!(ask("Host: greenroom.internal\r\n"), ("503".into(), String::new()));
    assert_eq!(
        ask(&format!("Host: {door}\r\nSec-Fetch-Site: none\r\n")).0,
        "503",
        "a person looks"
    );
    for fields in [
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(ask(&format!("Host: {door}\r\n{fields}")).0, "403", "{fields}");
    }
    drop(rig);
}

/// A20. Ten wrong tokens, and for a while nobody of that address is listened to; it is said once.
#[test]
fn who_guesses_tokens_is_sent_away_for_a_while_and_nobody_else_is() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::with(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\ntoken_file = \"token\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            stub.address()
        ),
        |folder| {
            use std::os::unix::fs::OpenOptionsExt as _;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.join("token"))
                .unwrap();
            file.write_all(b"0123456789abcdef\n").unwrap();
        },
        |_| {},
    );
    let ask = |last: u8, token: &str| {
        let mut client = Raw::connect_from(last, &door);
        client.send(format!(
            "GET /v1/status HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n{token}\r\n"
        ));
        let (head, _) = client.answer();
        (head.split(' ').nth(1).unwrap().to_owned(), field(&head, "retry-after"))
    };
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(ask(2, right).0, "200", "the token of the file");
    for guess in 0..10 {
        assert_eq!(
            ask(2, &format!("Authorization: Bearer 0123456789abcd{guess:02}\r\n")).0,
            "401"
        );
        assert_eq!(ask(2, "").0, "401", "who brings none guesses nothing");
    }
    let (status, after) = ask(2, right);
    assert_eq!(status, "429");
    assert!((1..=11).contains(&after.unwrap().parse::<u32>().unwrap()));
    assert_eq!(ask(3, right).0, "200", "another address");
    let said = |event: &Value| {
        event["message"]
            .as_str()
            .is_some_and(|text| text.contains("many wrong tokens came from 127.0.0.2"))
    };
    rig.greenroom.wait_for(said, SOON);
    until("the window is over", || ask(2, right).0 == "200");
    assert_eq!(rig.greenroom.events().iter().filter(|event| said(event)).count(), 1);
}

/// A19 and A20, where it starts: an address for others needs a token, a token must be long, and a file of it nobody else's.
#[test]
fn greenroom_does_not_start_with_an_admin_address_that_others_can_use() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = std::env::temp_dir().join(format!("greenroom-token-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (config, token) = (folder.join("greenroom.toml"), folder.join("token"));
    let start = |admin: &str| {
        std::fs::write(
            &config,
            format!("[admin]\n{admin}\n[listener.main]\naddress = \"127.0.0.1:0\"\n[backend.app]\naddress = \"127.0.0.1:1\"\n"),
        )
        .unwrap();
        let mut greenroom = common::Greenroom::spawn(&mut common::Greenroom::command(&[
            "serve",
            "--config",
            config.to_str().unwrap(),
        ]));
        assert_eq!(greenroom.wait_exit_code(SOON), 2, "{admin}");
        greenroom.stderr()
    };
    let said = start("address = \"0.0.0.0:0\"");
    assert!(
        said.contains("admin.token` is missing") && said.contains("token_file"),
        "{said}"
    );
    let said = start("address = \"0.0.0.0:0\"\ntoken = \"0123456789abcde\"");
    assert!(
        said.contains("15 characters") && !said.contains("0123456789abcde"),
        "{said}"
    );
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    for mode in [0o644, 0o604, 0o602, 0o620, 0o660] {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"");
        assert!(
            said.contains("chmod 600") && !said.contains("0123456789abcdef"),
            "{mode:o}: {said}"
        );
    }
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"\ntoken = \"0123456789abcdef\"");
    assert!(said.contains("both given"), "{said}");
    assert!(start("address = \"0.0.0.0:0\"\ntoken_file = \"nothing\"").contains("cannot be read"));
    std::fs::write(&token, "x".repeat(4_096)).unwrap();
    assert!(start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"").contains("more than 2048 bytes"));
    common::process::remove_folder(&folder);
}

/// A24. The socket is its owner's alone, the folder too, and the kernel's word about who comes is asked once more.
#[test]
fn another_user_neither_enters_the_folder_of_the_socket_nor_is_served_at_it() {
    use std::os::unix::fs::PermissionsExt as _;
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it comes as another user (nobody)"
    );
    let rig = Rig::start(
        "serve",
        "[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"listen\"\n",
    );
    let folder = rig.folder.join("greenroom");
    let socket = folder.join(format!("{}.sock", rig.greenroom.pid()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&socket)), (0o700, 0o600));
    let connect = || {
        let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10)\n\
            try:\n s.connect(sys.argv[1]); s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096))\n\
            except OSError as e: print(type(e).__name__)";
        let mut command = std::process::Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "python3",
                "-c",
                script,
            ])
            .arg(&socket)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let open =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&rig.folder, 0o755);
    assert_eq!(connect(), "PermissionError\n");
    open(&folder, 0o755);
    assert_eq!(connect(), "PermissionError\n", "the socket's own mode");
    open(&socket, 0o666);
    let said = connect();
    assert!(!said.contains("HTTP") && said != "PermissionError\n", "{said}");
    rig.greenroom.wait_for(
        |event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains("another user at the admin socket"))
        },
        SOON,
    );
}

/// A15. A page elsewhere, and one without an origin, opens no WebSocket to the application: it is refused before it takes a place, and
/// the page that may comes in.
#[test]
fn a_page_of_another_site_opens_no_websocket_through_greenroom() {
    let port = elsewhere(String::new());
    let rig = Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\norigins = [\"http://localhost:{port}\"]\nhold = \"accept\"\n"
        ),
    );
    let browser = Browser::start_with(&["--host-resolver-rules=MAP evil.test 127.0.0.1"]);
    let open = format!(
        "new Promise(done => {{ const socket = new WebSocket('ws://{}/ws');
            socket.onopen = () => done('open'); socket.onerror = () => done('error'); }})",
        rig.address
    );
    let evil = browser.page();
    evil.goto(&format!("http://evil.test:{port}/"));
    evil.until("document.readyState == 'complete'");
    assert_eq!(evil.eval(&open), "error");
    let sandboxed = format!(
        "new Promise(done => {{ const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';
            frame.srcdoc = '<script>' + {} + '.then(word => parent.postMessage(word, \"*\"))</scr' + 'ipt>';
            window.onmessage = said => done(said.data); document.body.append(frame); }})",
        Value::from(open.as_str())
    );
    let page = browser.page();
    page.goto(&format!("http://localhost:{port}/"));
    page.until("document.readyState == 'complete'");
    assert_eq!(page.eval(&sandboxed), "error", "null is no origin that is listed");
    let refused = rig
        .greenroom
        .events()
        .into_iter()
        .filter(|event| event["event"] == "refused")
        .collect::<Vec<_>>();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|event| event["refusal"] == "origin" && event["session"].is_null()),
        "{refused:?}"
    );
    assert_eq!(rig.status()["held"]["websocket"], 0, "nobody took a place");
    assert_eq!(page.eval(&open), "open", "the page that may");
    rig.held(1);
}
