//! `ps`, `show`, `why` and what is behind them: every connection is told of, once, by all who tell of connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    fixture,
    process::until,
    python,
    raw::{Raw, Stub, masked, switching, upgrade},
    rig::Rig,
};
use greenroom_core::drain::splitmix64;
use serde_json::Value;

/// What the program says as JSON.
fn told(rig: &Rig, args: &[&str]) -> Value {
    let said = rig.say(&[args, &["--json"]].concat());
    assert!(said.status.success(), "{args:?}: {said:?}");
    serde_json::from_slice(&said.stdout).unwrap()
}

fn said(rig: &Rig, args: &[&str]) -> String {
    let said = rig.say(args);
    assert!(said.status.success(), "{args:?}: {said:?}");
    String::from_utf8(said.stdout).unwrap()
}

fn behind(stub: &Stub, more: &str) -> Rig {
    Rig::start(
        "serve",
        &format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n{more}\n",
            stub.address()
        ),
    )
}

#[test]
fn a_connection_is_shown_where_it_is_and_told_why_when_it_is_over() {
    let stub = Stub::listen();
    let rig = behind(&stub, "");
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut client = rig.knock("/chat?token=hidden");
    let (mut backend, request) = stub.request();
    assert!(request.contains("token=hidden"));
    backend.send(switching(""));
    client.head();
    client.send(masked(0x81, b"hello"));
    assert_eq!(backend.frame().1.len(), 5);
    until("it is relayed", || {
        told(&rig, &["ps", "--state", "relaying"])["total"] == 1
    });
    let one = &told(&rig, &["ps", "--backend", "app"])["connections"][0];
    let number = one["number"].to_string();
    assert_eq!(
        (
            &one["session"],
            &one["path"],
            &one["dials"],
            &one["messages_up"],
            &one["bytes_up"]
        ),
        (&1.into(), &"/chat".into(), &1.into(), &1.into(), &11.into()),
        "{one}"
    );
    assert!(
        said(&rig, &["why", &number]).contains("is relaying for"),
        "a number is enough"
    );
    assert!(said(&rig, &["show", "--session", "1"]).contains("messages"));
    client.fin();
    assert!(backend.rest().is_empty(), "its end is passed on");
    drop((client, backend));
    until("it is over", || told(&rig, &["ps"])["total"] == 0);
    let why = said(&rig, &["why", "--session", "1"]);
    assert!(why.contains("as relaying: the client ended it (client"), "{why}");
    let all = ["ps", "show", "why"].map(|verb| match verb {
        "ps" => said(&rig, &["ps", "--closed"]),
        verb => said(&rig, &[verb, &number]),
    });
    assert!(!all.concat().contains("hidden"), "a query may be a secret: {all:?}");
    for (args, help) in [
        (&["why", "77777"][..], "/v1/closed"),
        (&["ps", "--state", "waiting"], "relaying"),
        (&["ps", "--backend", "other"], "app"),
        (&["ps", "--older-than", "5"], "30s"),
    ] {
        let refused = rig.say(args);
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(help), "{args:?}: {error}");
    }
}

#[test]
fn a_refusal_is_told_with_its_name() {
    let rig = Rig::start(
        "serve",
        "[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\npath = \"/ws\"\nhold = \"refuse\"\n",
    );
    let mut client = rig.knock("/ws");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    until("it is over", || {
        told(&rig, &["ps", "--closed", "--cause", "refused"])["total"] == 1
    });
    let why = said(&rig, &["why", "--session", "1"]);
    assert!(why.contains("greenroom refused it (refused, not_ready)"), "{why}");
}

/// What list, metrics and status say, each added up.
fn sums(rig: &Rig) -> [u64; 4] {
    let list = told(rig, &["ps"]);
    let metrics = rig.ask("/metrics");
    let sum = |name: &str| -> u64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    };
    let open = list["total"].as_u64().unwrap();
    [
        open,
        sum("greenroom_connections{"),
        sum("greenroom_accepted_total"),
        sum("greenroom_closed_total{"),
    ]
}

/// Each connection was of its user, and when all have gone each user may have again what it may have.
fn no_place_of_a_user_is_lost(rig: &Rig, came: u64) {
    let refused = told(rig, &["ps", "--closed", "--cause", "connections_of_user"]);
    assert!(
        refused["total"].as_u64() > Some(0),
        "some user had all that it may have"
    );
    let users: Vec<_> = (0..4).map(|user| format!("user-{user}")).collect();
    let of_user = |user: &String| told(rig, &["ps", "--closed", "--limit", "1", "--user", user])["total"].as_u64();
    let plain = told(rig, &["ps", "--closed", "--cause", "served"])["total"].as_u64();
    let of_users: u64 = users.iter().filter_map(of_user).sum();
    assert!(
        of_users + plain.unwrap() <= came && of_users > came / 2,
        "each is of its user"
    );
    let mut clients = Vec::new();
    for user in &users {
        for _ in 0..12 {
            let mut client = Raw::connect(&rig.address);
            client.send(upgrade(&format!("X-User: {user}\r\n")));
            assert!(
                client.head().starts_with("HTTP/1.1 101 "),
                "no place of a user's was lost"
            );
            clients.push(client);
        }
    }
}

/// Counts by word.
type Words = BTreeMap<String, u64>;

/// What the metrics count under a name, without zeros.
fn counted(rig: &Rig, name: &str) -> Words {
    let metrics = rig.ask("/metrics");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .map(|line| {
            let word = line.split('"').nth(1).unwrap().to_owned();
            (word, line.rsplit(' ').next().unwrap().parse().unwrap())
        })
        .filter(|&(_, count)| count > 0)
        .collect()
}

/// What a stream of events has told so far, added up.
#[derive(Default)]
struct Heard {
    last: Option<String>,
    closed: Words,
    refused: Words,
    opened: BTreeSet<u64>,
    over: BTreeSet<u64>,
}

impl Heard {
    /// Goes on behind what was heard.
    fn listen(&mut self, rig: &Rig) {
        let after = self
            .last
            .as_ref()
            .map_or("last=4096".into(), |id| format!("after={id}"));
        for event in rig.streamed(&after) {
            self.last = event["id"].as_str().map(str::to_owned);
            let connection = event["connection"].as_u64();
            let count = |words: &mut Words, field: &str| {
                *words.entry(event[field].as_str().unwrap().to_owned()).or_default() += 1;
            };
            match event["event"].as_str().unwrap() {
                "missed" => panic!("{event}"),
                "opened" => assert!(self.opened.insert(connection.unwrap()), "once: {event}"),
                "refused" => count(&mut self.refused, "refusal"),
                "closed" => {
                    count(&mut self.closed, "cause");
                    assert!(self.over.insert(connection.unwrap()), "once: {event}");
                }
                _ => {}
            }
        }
    }
}

impl Heard {
    /// It has told of the end of each that came, once, and why.
    fn has_told_all(&mut self, rig: &Rig, came: u64) {
        self.listen(rig);
        assert_eq!(ledger(rig), (self.closed.clone(), self.refused.clone()));
        let all: BTreeSet<_> = (1..=came).collect();
        assert_eq!(self.over, all, "the stream has told of the end of each");
        assert!(self.opened.is_subset(&all) && self.opened.len() > all.len() / 2);
    }
}

/// What the ledger's lines say, added up.
fn ledger(rig: &Rig) -> (Words, Words) {
    let (mut closed, mut refused) = <(Words, Words)>::default();
    let ended = told(rig, &["ps", "--closed", "--limit", "10000"]);
    for one in ended["connections"].as_array().unwrap() {
        *closed
            .entry(one["end"]["cause"].as_str().unwrap().to_owned())
            .or_default() += 1;
        if let Some(refusal) = one["end"]["refusal"].as_str() {
            *refused.entry(refusal.to_owned()).or_default() += 1;
        }
    }
    (closed, refused)
}

/// Promise 9, on real sockets: whatever clients do, each of them is in one state, or closed for one cause.
#[test]
fn after_every_batch_of_comings_and_goings_all_tell_the_same() {
    let (python, folder) = (python("python"), fixture(""));
    let config = format!(
        "[backend.app.process]\ncommand = [\"{python}\", \"-m\", \"uvicorn\", \"--app-dir\", \"{folder}\", \"fastapi_app:app\", \"--port\", \"{{port}}\"]\n\
         [limits]\nmax_connections_per_user = 12\n\
         [[route]]\nhold = \"accept\"\nuser = \"header:X-User\"\n"
    );
    let rig = Rig::start("run", &config);
    let (mut clients, mut heard): (Vec<Raw>, _) = (Vec::new(), Heard::default());
    let mut seed = 7;
    let mut draw = |most: usize| {
        seed = splitmix64(seed);
        usize::try_from(seed % most as u64).unwrap()
    };
    let mut came = 0;
    for batch in 0..12 {
        for _ in 0..40 {
            match draw(6) {
                0..=2 => {
                    let mut client = Raw::connect(&rig.address);
                    client.send(upgrade(&format!("X-User: user-{}\r\n", draw(4))));
                    clients.push(client);
                    came += 1;
                }
                3 => {
                    clients.push(rig.get("/nothing"));
                    came += 1;
                }
                4 if !clients.is_empty() => {
                    let index = draw(clients.len());
                    clients.swap_remove(index).reset();
                }
                _ if !clients.is_empty() => {
                    let index = draw(clients.len());
                    clients.swap_remove(index).fin();
                }
                _ => {}
            }
        }
        if batch == 5 {
            rig.until("it is ready", |status| status["condition"] == "ready");
        }
        let mut last = [0; 4];
        let mut told = (Words::new(), Words::new());
        until(&format!("all agree after batch {batch}"), || {
            last = sums(&rig);
            let [open, states, accepted, closed] = last;
            heard.listen(&rig);
            told = ledger(&rig);
            let counted = (
                counted(&rig, "greenroom_closed_total{"),
                counted(&rig, "greenroom_refused_total{"),
            );
            open == states
                && accepted == states + closed
                && accepted == came
                && told == counted
                && told.0 == heard.closed
                && told.1 == heard.refused
        });
    }
    drop(clients);
    until("nobody is left", || sums(&rig)[..2] == [0, 0]);
    let [_, _, accepted, closed] = sums(&rig);
    assert_eq!((accepted, closed), (came, came));
    let ended = told(&rig, &["ps", "--closed", "--limit", "10000"]);
    assert_eq!(ended["total"], came, "each has a line among the closed");
    heard.has_told_all(&rig, came);
    no_place_of_a_user_is_lost(&rig, came);
}
