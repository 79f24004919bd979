//! The start race: 200 clients come while a real server starts, and nobody sees an error.
//!
//! Each test starts `greenroom run` in front of a real package (uvicorn, gunicorn,
//! Node `ws`), lets 200 clients of the `websockets` library come all through its
//! start-up, and looks at both ends: what the clients saw, and in which order the
//! backend met them, by `Greenroom-Session`.
//!
//! Order is counted over all openings where the backend never says "not ready".
//! Where it does, a session on trial (a canary) goes alone before the others; the
//! one that proves the backend is by nature in before those that were tried before
//! it and sent back, and is left out of the count. Nobody else is, but where one of
//! two workers is late: there those that it sent back go once more, while others are
//! let in by the other worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::{BTreeSet, HashSet},
    process::Command,
    time::{Duration, Instant},
};

use common::{Clients, Greenroom, Ledger, fixture, one_at_a_time, python};
use greenroom_core::limits::{SETTLE, SETTLE_FACTOR, SETTLE_MAX, SETTLE_WARNED};
use serde_json::Value;

const COUNT: u32 = 200;
/// Far more than any start here takes; the clients' own patience is 10 s each.
const PATIENCE: Duration = Duration::from_secs(40);

/// Who is counted when the order at the backend is judged.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// Every opening.
    OfAll,
    /// Every opening but that of a session that went first, on trial.
    WithoutCanaries,
    /// Every opening of a session that was let in at its first dial.
    OfFirstDials,
}

/// `greenroom run --listen 127.0.0.1:0 -- CMD`, with no other flag.
fn run(cmd: &[&str], ledger: &Ledger, env: &[(&str, &str)]) -> Greenroom {
    run_with(&[], cmd, ledger, env)
}

fn run_with(flags: &[&str], cmd: &[&str], ledger: &Ledger, env: &[(&str, &str)]) -> Greenroom {
    let args = [&["run", "--listen", "127.0.0.1:0"], flags, &["--"], cmd].concat();
    let mut command: Command = Greenroom::command(&args);
    command.env("LOG", ledger.path()).envs(env.iter().copied());
    Greenroom::spawn(&mut command)
}

/// The sessions that the backend never opened: each was closed with 1011 after its client had its 101.
///
/// Nobody may be among them whom the gate has promised to keep: who is closed within `settle`, a canary within
/// `SETTLE_FACTOR` times that, and whoever is let in when the server was seen to close, within `SETTLE_WARNED` and
/// within `SETTLE_FACTOR` times the longest that it had needed by then. Only the server's own stamp excuses it.
fn lost(greenroom: &Greenroom, ledger: &Ledger) -> BTreeSet<u64> {
    let open: BTreeSet<u64> = ledger.of("open").iter().map(|line| number(line, "session")).collect();
    let lost: BTreeSet<u64> = (1..=u64::from(COUNT)).filter(|id| !open.contains(id)).collect();
    let (closings, rejects) = (ledger.of("closing"), ledger.of("reject"));
    let canaries = canaries(&greenroom.events());
    for id in &lost {
        let last = |lines: &[Value]| {
            let found = lines.iter().rfind(|line| number(line, "session") == *id).cloned();
            found.unwrap_or_else(|| {
                panic!(
                    "session {id} is lost, and the server did not close it\n{}",
                    greenroom.stderr()
                )
            })
        };
        let (closing, reject) = (last(&closings), last(&rejects));
        let is_canary = canaries.contains(&(*id, number(&reject, "attempt")));
        let took = |line: &Value| Duration::from_secs_f64(line["after_ms"].as_f64().unwrap() / 1e3);
        let seen = closings
            .iter()
            .filter(|line| line["at"].as_u64() < reject["at"].as_u64());
        let promised = match seen.map(took).max() {
            Some(longest) => (longest * SETTLE_FACTOR).clamp(SETTLE_WARNED, SETTLE_MAX),
            None if is_canary => SETTLE * SETTLE_FACTOR,
            None => SETTLE,
        };
        let late = took(&closing);
        assert!(
            late > promised,
            "session {id} is lost: it was closed after {late:?}, and {promised:?} were promised"
        );
        println!("the machine is busy: session {id} was closed after {late:?}, later than the {promised:?} promised");
    }
    // The messages of the others have waited until the server had proved itself.
    let wasted = ledger.of("wasted").into_iter();
    let wasted: Vec<_> = wasted.filter(|line| !lost.contains(&number(line, "session"))).collect();
    assert!(wasted.is_empty(), "to a server that was not ready: {wasted:?}");
    lost
}

/// The clients come over 3 s, and every one of them gets through on its first attempt.
fn all_get_in(greenroom: &Greenroom, ledger: &Ledger, order: Order) {
    let began = Instant::now();
    let mut clients = Clients::start(&greenroom.address(), COUNT, 3.0, &[]);
    let result = clients.result(PATIENCE);
    let events = greenroom.events();
    assert_eq!(result["opened"], COUNT, "{result}\n{}", greenroom.stderr());
    let lost = lost(greenroom, ledger).len() as u64;
    assert_eq!(result["close_codes"]["1000"], u64::from(COUNT) - lost, "{result}");
    let refused: Vec<_> = named(&events, "refused");
    assert!(refused.is_empty(), "{refused:?}");
    let canaries = canaries(&events);
    // A close that came too late opened the gate to a crowd that was sent back: only first dials tell the order then.
    let order = if lost > 0 { Order::OfFirstDials } else { order };
    let counted = ledger.inversions_among(|line| {
        let on_trial = canaries.contains(&(number(line, "session"), number(line, "attempt")));
        match order {
            Order::OfAll => true,
            Order::WithoutCanaries => !on_trial,
            Order::OfFirstDials => !on_trial && number(line, "attempt") == 1,
        }
    });
    assert_eq!(counted, 0, "order at the backend\n{}", greenroom.stderr());
    let openings = ledger.of("open").len() as u64;
    assert_eq!(
        openings,
        u64::from(COUNT) - lost,
        "each client opened once at the backend"
    );
    println!(
        "{openings} of {COUNT} in {:.1} s; held at most {}; {} canaries",
        began.elapsed().as_secs_f64(),
        named(&events, "held")
            .iter()
            .filter_map(|e| e["count"].as_u64())
            .max()
            .unwrap_or(0),
        canaries.len()
    );
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// A field of a ledger line, which holds header values: text.
fn number(line: &Value, field: &str) -> u64 {
    line[field]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{field} in {line}"))
}

/// Session and attempt of each dial that went alone, on trial.
fn canaries(events: &[Value]) -> HashSet<(u64, u64)> {
    named(events, "released")
        .into_iter()
        .filter(|event| event["canary"] == true)
        .map(|event| (event["session"].as_u64().unwrap(), event["attempt"].as_u64().unwrap()))
        .collect()
}

/// How many sessions were tried at the backend and sent back, unseen by their clients.
fn sent_back(greenroom: &Greenroom) -> usize {
    named(&greenroom.events(), "requeued").len()
}

fn uvicorn<'a>(python: &'a str, folder: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let words = [python, "-m", "uvicorn", "--app-dir", folder, "fastapi_app:app"];
    [&words[..], rest].concat()
}

#[test]
fn two_hundred_clients_of_a_fastapi_app_on_uvicorn_all_get_in_at_first_in_order() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let (python, folder) = (python("python"), fixture(""));
    let greenroom = run(&uvicorn(&python, &folder, &["--port", "{port}"]), &ledger, &[]);
    all_get_in(&greenroom, &ledger, Order::OfAll);
    assert_eq!(sent_back(&greenroom), 0, "uvicorn listens when it is ready");
}

#[test]
fn one_client_whose_own_path_always_gives_500_delays_nobody() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let (python, folder) = (python("python"), fixture(""));
    let greenroom = run(&uvicorn(&python, &folder, &["--port", "{port}"]), &ledger, &[]);
    let address = greenroom.address();
    // The poisoned one is first in line: it is the canary.
    let mut poisoned = Clients::start(&address, 1, 0.0, &["--paths", "/always500"]);
    greenroom.wait_for(|event| event["event"] == "held" && event["session"] == 1, PATIENCE);
    let mut clients = Clients::start(&address, COUNT, 3.0, &[]);
    let result = clients.all_right(PATIENCE);
    assert_eq!(result["opened"], COUNT, "{result}");
    let refused = poisoned.result(PATIENCE);
    assert_eq!(refused["statuses"]["500"], 1, "it gets its own answer: {refused}");
    // The sessions behind it, in order; the next canary is 100 ms later at the most.
    let canaries = canaries(&greenroom.events());
    assert_eq!(ledger.inversions_among(|_| true), 0, "{canaries:?}");
    let events = greenroom.events();
    let at = |fits: &dyn Fn(&Value) -> bool| events.iter().find(|e| fits(e)).and_then(|e| e["at"].as_f64()).unwrap();
    let ready = at(&|e| e["event"] == "ready");
    let open = at(&|e| e["event"] == "gate" && e["gate"] == "open");
    println!(
        "ready to open: {:.0} ms, with a poisoned canary in front",
        (open - ready) * 1e3
    );
    assert!(
        canaries.len() <= 3,
        "a 500 proves nothing and is not tried again: {canaries:?}"
    );
}

#[test]
fn a_backend_on_a_unix_socket_gets_all_in_order() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let (python, folder) = (python("python"), fixture(""));
    let socket = ledger.beside("app.sock");
    let socket = socket.to_str().unwrap();
    let backend = format!("unix:{socket}");
    let cmd = uvicorn(&python, &folder, &["--uds", socket]);
    let greenroom = run_with(&["--backend", &backend], &cmd, &ledger, &[]);
    all_get_in(&greenroom, &ledger, Order::OfAll);
}

#[test]
fn a_node_server_that_closes_with_1011_after_5_ms_until_it_is_ready_loses_nobody() {
    closes_with_1011_after("5", &[]);
}

#[test]
fn a_node_server_that_closes_with_1011_after_24_ms_until_it_is_ready_loses_nobody() {
    closes_with_1011_after("24", &[]);
}

#[test]
fn nobody_who_was_accepted_meets_a_node_server_that_closes_with_1011_until_it_is_ready() {
    closes_with_1011_after("5", &["--hold", "accept"]);
}

fn closes_with_1011_after(ms: &str, flags: &[&str]) {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let server = fixture("node_1011.js");
    let greenroom = run_with(flags, &["node", &server], &ledger, &[("CLOSE_AFTER_MS", ms)]);
    all_get_in(&greenroom, &ledger, Order::WithoutCanaries);
    assert!(
        sent_back(&greenroom) > 0,
        "the server was too early, and no client saw it"
    );
}

/// Three clients, so that each of them goes first and is sent back again and again: nobody else is there to find out.
#[test]
fn few_who_were_sent_back_again_and_again_are_in_before_whoever_comes_when_the_gate_is_open() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let server = fixture("node_1011.js");
    let greenroom = run(&["node", &server], &ledger, &[("STARTUP_SECONDS", "2.5")]);
    let mut early = Clients::start(&greenroom.address(), 3, 0.1, &["--until-stdin-closes"]);
    greenroom.wait_for(|event| event["event"] == "gate" && event["gate"] == "open", PATIENCE);
    let mut later = Clients::start(&greenroom.address(), 1, 0.0, &[]);
    assert_eq!(later.result(PATIENCE)["opened"], 1, "{}", greenroom.stderr());
    assert_eq!(early.result(PATIENCE)["opened"], 3, "{}", greenroom.stderr());
    let sent_back = |session: u64| {
        let events = greenroom.events();
        named(&events, "requeued")
            .iter()
            .filter(|event| event["session"] == session)
            .count()
    };
    assert!((1..=3).all(|session| sent_back(session) > 3), "{}", greenroom.stderr());
    let open: Vec<u64> = ledger.of("open").iter().map(|line| number(line, "session")).collect();
    assert_eq!(open.last(), Some(&4), "{open:?}\n{}", greenroom.stderr());
    // One went first and proved it; the other two are in order.
    assert!(open[1] < open[2], "{open:?}");
}

#[test]
fn a_node_server_that_answers_503_until_it_is_ready_loses_nobody() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let server = fixture("node_503.js");
    let greenroom = run(&["node", &server], &ledger, &[]);
    all_get_in(&greenroom, &ledger, Order::WithoutCanaries);
    assert!(
        sent_back(&greenroom) > 0,
        "the server was too early, and no client saw it"
    );
}

#[test]
fn of_two_workers_one_is_late_and_nobody_is_lost() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let server = fixture("two_workers.js");
    let greenroom = run(
        &["node", &server],
        &ledger,
        &[("STARTUP_SECONDS", "1"), ("LATE_SECONDS", "1.5")],
    );
    all_get_in(&greenroom, &ledger, Order::OfFirstDials);
    assert!(
        sent_back(&greenroom) > 0,
        "the late worker was met, and no client saw it"
    );
}

fn gunicorn(rest: &[&str]) -> Vec<String> {
    let (gunicorn, folder) = (python("gunicorn"), fixture(""));
    let words = [
        &gunicorn,
        "-k",
        "uvicorn_worker.UvicornWorker",
        "-w",
        "2",
        "-b",
        "127.0.0.1:{port}",
        "--no-control-socket",
        "--chdir",
        &folder,
    ];
    let words = words.iter().chain(rest).chain(&["fastapi_app:app"]);
    words.map(|&word| word.to_owned()).collect()
}

fn gunicorn_says_ready_too_early(rest: &[&str]) {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let cmd = gunicorn(rest);
    let cmd: Vec<&str> = cmd.iter().map(String::as_str).collect();
    let greenroom = run(&cmd, &ledger, &[]);
    all_get_in(&greenroom, &ledger, Order::OfAll);
    let events = greenroom.events();
    // It may be seen to listen a moment before its READY; it is READY that opens the gate, and is doubted.
    let doubted = named(&events, "gate")
        .into_iter()
        .find(|event| event["why"].as_str().unwrap().starts_with("READY came too early"));
    assert!(
        doubted.is_some(),
        "the log says that READY came too early:\n{}",
        greenroom.stderr()
    );
}

#[test]
fn gunicorn_says_ready_before_its_workers_are_and_nobody_is_lost() {
    gunicorn_says_ready_too_early(&[]);
}

#[test]
fn gunicorn_whose_workers_are_another_user_is_heard_and_nobody_is_lost() {
    // Only root can become somebody else; anybody can become himself.
    let own = rustix::process::geteuid();
    let user = if own.is_root() {
        "nobody".to_owned()
    } else {
        own.as_raw().to_string()
    };
    gunicorn_says_ready_too_early(&["--user", &user, "--preload"]);
}
