//! Clients that come long before their server is there, with the program's defaults: real libraries and browsers, as
//! processes of their own.
//!
//! They start when the server has just been started and needs 12 s, longer than some of them wait for a 101. Each
//! sends three messages as soon as it is open. The server writes into its ledger what came of whom; what is promised
//! is that all of it came, once and in order, and that nobody saw an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{
    Greenroom, Ledger,
    browser::Browser,
    early::{Early, Helper},
    firefox::Firefox,
    fixture, one_at_a_time, process,
    rig::Rig,
};
use serde_json::{Value, json};

const LIBRARIES: [&str; 5] = ["websockets", "aiohttp", "httpx-ws", "ws", "undici"];
/// Sockets of one page, and how soon the last of them is open after the first.
const SOCKETS: usize = 5;
const SPREAD: Duration = Duration::from_secs(5);

/// What each client sends, and is to get back.
fn messages(name: &str) -> Value {
    json!([
        {"text": format!("{name} 1"), "binary": false},
        {"text": format!("{name} 2"), "binary": true},
        {"text": format!("{name} 3: größer {}", ".".repeat(300)), "binary": false},
    ])
}

/// Nothing is missing, changed or doubled, neither at the client nor at the server, and the only end was its own.
fn came_through(ledger: &Ledger, result: &Value) {
    let name = result["name"].as_str().expect("a name");
    assert_eq!(result["error"], Value::Null, "{result}");
    assert_eq!(result["code"], 1000, "{result}");
    assert_eq!(result["echoes"], messages(name), "{name}");
    let of = |event: &str| -> Vec<Value> {
        let lines = ledger.of(event).into_iter();
        lines.filter(|line| line["client"] == name).collect()
    };
    process::until("its close at the server", || !of("close").is_empty());
    let came: Vec<_> = of("message")
        .iter()
        .map(|line| json!({"text": line["text"], "binary": line["binary"]}))
        .collect();
    assert_eq!(Value::from(came), messages(name), "at the server, of {name}");
    assert_eq!(of("open").len(), 1, "{name} is one session at the server");
    let closes = of("close");
    assert!(closes.len() == 1 && closes[0]["code"] == 1000, "{name}: {closes:?}");
}

fn nobody_was_refused(greenroom: &Greenroom, ledger: &Ledger) {
    let is_bad = |event: &Value| match event["event"].as_str() {
        Some("closed") => event["cause"] != "client",
        event => event == Some("refused"),
    };
    let bad: Vec<_> = greenroom.events().into_iter().filter(is_bad).collect();
    let at_the_server = ledger.of("error");
    assert!(
        bad.is_empty() && at_the_server.is_empty(),
        "{bad:?} {at_the_server:?}\n{}",
        greenroom.stderr()
    );
}

/// All sockets of a page, which opened within a time of each other, browsers open them one after the other.
fn opened_soon(results: &[Value]) {
    assert_eq!(results.len(), SOCKETS, "{results:?}");
    let opened = results.iter().map(|result| result["opened_ms"].as_f64().expect("open"));
    let (first, last) = opened.fold((f64::MAX, 0.0_f64), |(first, last), at| (first.min(at), last.max(at)));
    let spread = Duration::from_secs_f64((last - first) / 1000.0);
    println!("a page's sockets opened within {spread:?}");
    assert!(spread < SPREAD, "{spread:?} from the first to the last: {results:#?}");
}

#[test]
fn every_client_is_open_long_before_its_server_is_and_loses_nothing_with_the_defaults() {
    let _alone = one_at_a_time();
    // All of them are there before: what is measured is no start of a browser.
    let pages = [Helper::start(), Helper::start()];
    let (firefox, chromium) = (Firefox::open(&pages[0].url), Browser::start());
    let page = chromium.page();
    page.goto(&pages[1].url);
    let mut clients = LIBRARIES.map(Early::start);
    // It wants a subprotocol that nobody has said that this server has.
    let mut asking = Early::start("ws");
    clients.iter().chain([&asking]).for_each(Early::ready);
    page.until("document.readyState === 'complete'");
    pages[1].ready();
    ready_or(&pages[0], &firefox);

    let ledger = Ledger::new();
    let mut command = Greenroom::command(&[
        "run",
        "--listen",
        "127.0.0.1:0",
        "--",
        "node",
        &fixture("early_server.js"),
    ]);
    command.env("LOG", ledger.path()).env("STARTUP_SECONDS", "12");
    let greenroom = Greenroom::spawn(&mut command);
    let address = greenroom.address();
    for client in &mut clients {
        let name = client.library.clone();
        client.go(&address, &name, &[]);
    }
    asking.go(&address, "asking", &["chat.v9", "chat.v1"]);
    pages[0].go(&address, "firefox", &[], SOCKETS);
    pages[1].go(&address, "chromium", &[], SOCKETS);

    clients.iter().for_each(Early::opened);
    pages.iter().for_each(|page| page.opened(SOCKETS));
    assert!(
        ledger.of("listening").is_empty(),
        "who is open at the server only was not accepted: {}",
        greenroom.stderr()
    );
    assert!(!asking.is_open(), "a subprotocol is not guessed");

    let results: Vec<_> = clients.iter().map(Early::result).collect();
    let asked = asking.result();
    let of_pages = pages.map(|page| page.results());
    of_pages.iter().for_each(|results| opened_soon(results));
    for result in results.iter().chain(of_pages.iter().flatten()).chain([&asked]) {
        came_through(&ledger, result);
    }
    assert_eq!(asked["protocol"], "chat.v1", "the server's own choice: {asked}");
    assert_eq!(asked["extensions"], "permessage-deflate", "and its own 101: {asked}");
    assert_eq!(ledger.inversions(), 0);
    assert_eq!(page.problems_from(0), Vec::<String>::new());
    nobody_was_refused(&greenroom, &ledger);
}

/// A browser that shows no page says at most on its output why.
fn ready_or(page: &Helper, firefox: &Firefox) {
    let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page.ready()));
    assert!(ready.is_ok(), "Firefox shows no page:\n{}", firefox.output());
}

#[test]
fn clients_with_a_subprotocol_that_is_known_are_open_early_with_it_and_others_wait_for_the_servers_own() {
    let _alone = one_at_a_time();
    let (page, chromium) = (Helper::start(), Browser::start());
    chromium.page().goto(&page.url);
    let mut clients = LIBRARIES.map(Early::start);
    let mut unknown = Early::start("ws");
    clients.iter().chain([&unknown]).for_each(Early::ready);
    page.ready();

    let config = format!(
        "[backend.app]\nready = \"notify\"\n\n\
         [backend.app.process]\ncommand = [\"node\", \"{}\"]\nenv = {{ STARTUP_SECONDS = \"0\" }}\n\n\
         [[route]]\naccept_after = \"50ms\"\nsubprotocols = [\"chat.v1\"]\n",
        fixture("early_server.js")
    );
    let rig = Rig::start("run", &config);
    process::until("the server listens", || !rig.ledger.of("listening").is_empty());
    unknown.go(&rig.address, "unknown", &["chat.v2"]);
    for client in &mut clients {
        let name = client.library.clone();
        client.go(&rig.address, &name, &["chat.v9", "chat.v1"]);
    }
    page.go(&rig.address, "chromium", &["chat.v9", "chat.v1"], 2);
    clients.iter().for_each(Early::opened);
    page.opened(2);
    assert!(rig.ledger.of("open").is_empty(), "before any was let in");
    assert!(!unknown.is_open(), "a subprotocol is not guessed");

    rig.tell(&["phase", "ready"]);
    let (of_page, other) = (page.results(), unknown.result());
    for result in clients.iter().map(Early::result).chain(of_page) {
        assert_eq!(result["protocol"], "chat.v1", "{result}");
        came_through(&rig.ledger, &result);
    }
    assert_eq!(other["protocol"], "chat.v2", "{other}");
    came_through(&rig.ledger, &other);
    nobody_was_refused(&rig.greenroom, &rig.ledger);
}
