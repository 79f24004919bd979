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
    api::{Target, targets},
    browser::{Browser, Page},
    raw::{Stub, nobody},
    rig::Rig,
};
use serde_json::{Value, json};

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
        .map(|t| json!({"method": t.method, "path": t.path, "before": t.body.0, "after": t.body.1}))
        .collect();
    format!(
        "const admin = 'http://{door}', all = {}, read = [];
         const reads = all.filter(t => t.method == 'GET'), writes = all.filter(t => t.method != 'GET');
         const soon = promise => Promise.race([promise, new Promise(done => setTimeout(done, 3000))]).catch(() => {{}});
         const get = (url, how) => soon(fetch(url, how).then(async answer => {{
             const text = await answer.text(); if (answer.ok && text) read.push(url + ': ' + text.slice(0, 60)); }}));
         const body = t => t.before + 'a page' + t.after;
         const send = (url, t, how) => soon(fetch(url, {{ method: 'POST', body: body(t), ...how }}).then(async answer => {{
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
        script: "for (const t of writes) await send(t.path, t, { method: t.method, headers: { 'Content-Type': 'application/json' } });",
    },
    Attack {
        name: "3 a request without preflight",
        from: Place::Elsewhere,
        script: "for (const t of writes) await send(admin + t.path, t, { mode: 'no-cors', headers: { 'Content-Type': 'text/plain' } });",
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
                 for (const t of writes) await send(admin + t.path, t, { method: t.method, headers });
                 for (const t of reads) await get(admin + t.path, { headers, credentials: 'include' });",
    },
    Attack {
        name: "6 a form",
        from: Place::Elsewhere,
        script: "for (const t of writes) {
                     const frame = document.createElement('iframe'); frame.name = 'f' + Math.random(); document.body.append(frame);
                     const form = document.createElement('form'), field = document.createElement('input');
                     Object.assign(form, { method: 'POST', action: admin + t.path, enctype: 'text/plain', target: frame.name });
                     field.name = t.before; field.value = t.after; form.append(field); document.body.append(form);
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
                     + 'for (const t of writes) await send(admin + t.path, t, { mode: \"no-cors\" });'
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
                 for (const t of writes) await send(near + t.path, t, { mode: 'no-cors' });",
    },
    Attack {
        name: "12 a navigation, a beacon and a worker",
        from: Place::NextDoor,
        script: "for (const t of writes) {
                     navigator.sendBeacon(admin + t.path, body(t));
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
    for (const t of writes) await send(admin + t.path, t, { mode: 'no-cors' });
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

/// What an attack has achieved.
fn attempt(attack: &Attack, browser: &Browser, rig: &Rig, door: &str, (prelude, port): (&str, u16)) -> Vec<String> {
    let before = state(rig);
    let page = browser.page();
    let at = door.rsplit_once(':').unwrap().1;
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
    let quoted = Value::from(prelude);
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
    if attack.name.starts_with('8') && framed(&page, mark, door) {
        what.push("was shown in a frame".to_owned());
    }
    let after = state(rig);
    if before != after {
        what.push(format!("changed {before:?} to {after:?}"));
    }
    what
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
    let browser = Browser::start_with(&[
        "--host-resolver-rules=MAP evil.test 127.0.0.1",
        // What the browser itself keeps from pages would hide what greenroom does not.
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
    ]);
    let mut successful = Vec::new();
    for attack in ATTACKS {
        let what = attempt(&attack, &browser, &rig, &door, (&prelude, port));
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
