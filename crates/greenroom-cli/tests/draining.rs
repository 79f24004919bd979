//! How many clients are closed at a pace: at a stop, in a hurry, and by command; and the gate by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{io::Read as _, time::Duration};

use common::{
    Ledger, fixture, one_at_a_time,
    process::{MARK, mark, marked, until},
    python,
    raw::{KEY, Raw, SOON, Stub, close, masked, switching},
    rig::Rig,
};
use greenroom_core::limits::DRAINS_MAX;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a client saw of its end.
#[derive(Debug)]
struct Seen {
    code: u16,
    reason: String,
}

impl Seen {
    fn retry_after_ms(&self) -> u64 {
        let hint = self.reason.rsplit(' ').next().unwrap();
        let hint = hint.strip_prefix("retry-after-ms=");
        hint.unwrap_or_else(|| panic!("no hint: {}", self.reason))
            .parse()
            .unwrap()
    }
}

/// A client with its 101.
async fn relayed(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    client
}

/// Waits for the Close, answers it, and waits for the end.
async fn seen(mut client: TcpStream) -> Seen {
    let start = [client.read_u8().await.unwrap(), client.read_u8().await.unwrap()];
    assert_eq!(start[0], 0x88, "a Close");
    let mut payload = vec![0; start[1].into()];
    client.read_exact(&mut payload).await.unwrap();
    client.write_all(&masked(0x88, &payload)).await.unwrap();
    let _ = client.read_to_end(&mut Vec::new()).await; // a FIN, or a reset once greenroom is gone
    Seen {
        code: u16::from_be_bytes([payload[0], payload[1]]),
        reason: String::from_utf8(payload[2..].to_vec()).unwrap(),
    }
}

/// How many of those closed by a drain, by greenroom's own word, fall into each fifth of the time after its beginning.
fn fifths(events: &[Value], window: Duration) -> [usize; 5] {
    let at = |event: &Value| event["at"].as_f64().unwrap();
    let since = at(events.iter().find(|event| event["event"] == "stopping").unwrap());
    let mut fifths = [0; 5];
    for event in events {
        if event["event"] == "closed" && event["cause"] == "drained" {
            let part = (at(event) - since) / window.as_secs_f64() * 5.0;
            fifths[(part as usize).min(4)] += 1;
        }
    }
    fifths
}

/// Done-when 3 of the drain: 1,000 relayed clients, `window = "5s"`.
#[test]
fn at_term_a_thousand_clients_are_closed_evenly_over_the_window_each_with_code_and_hint() {
    const CLIENTS: usize = 1_000;
    const WINDOW: Duration = Duration::from_secs(5);
    let _alone = one_at_a_time();
    let mark = mark();
    let (python, server) = (python("python"), fixture("notifier.py"));
    let config = format!(
        "grace = \"20s\"\n[drain]\nwindow = \"5s\"\ncode = 1012\nreason = \"a new version is coming\"\n\
         [backend.app]\nready = \"notify\"\n[backend.app.process]\ncommand = [\"{python}\", \"{server}\"]\n"
    );
    let mut rig = Rig::with(
        "run",
        &config,
        |_| {},
        |command| {
            command.env(MARK, &mark).env("READY", "now");
        },
    );
    rig.greenroom.wait_for_event("ready", SOON);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS / 50 {
            let some: Vec<_> = (0..50)
                .map(|_| {
                    tokio::spawn({
                        let address = rig.address.clone();
                        async move { relayed(&address).await }
                    })
                })
                .collect();
            for one in some {
                clients.push(one.await.unwrap());
            }
        }
        // Nobody is closed in its first second: who is younger would stand in the later fifths.
        until("all have had their first second", || {
            rig.told(&["ps", "--older-than", "1500ms", "--limit", "1"])["total"] == CLIENTS
        });
        rig.greenroom.signal(Signal::TERM);
        let closes: Vec<_> = clients.into_iter().map(|client| tokio::spawn(seen(client))).collect();
        let mut all = Vec::new();
        for close in closes {
            all.push(close.await.unwrap());
        }
        all
    });
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0, "{}", rig.greenroom.stderr());
    let stopped = rig.greenroom.wait_for_event("stopped", SOON);
    let fifths = fifths(&rig.greenroom.events(), WINDOW);
    println!("closes in each fifth of the window: {fifths:?}");
    assert_eq!(fifths.iter().sum::<usize>(), CLIENTS, "each has its line: {fifths:?}");
    assert!(fifths.iter().all(|count| (170..=230).contains(count)), "{fifths:?}");
    assert!(
        all.iter()
            .all(|seen| seen.code == 1012 && seen.reason.starts_with("a new version is coming "))
    );
    let mut hints: Vec<u64> = all.iter().map(Seen::retry_after_ms).collect();
    assert!(hints.iter().all(|hint| (1_000..=5_000).contains(hint)));
    hints.sort_unstable();
    hints.dedup();
    assert!(hints.len() > 700, "each its own time to come back: {}", hints.len());
    assert_eq!(stopped["closed"]["drained"], CLIENTS, "{stopped}");
    assert_eq!(stopped["closed"]["internal"], Value::Null, "{stopped}");
    assert_eq!(marked(&mark), [], "no process is left");
    let socket = rig.folder.join(format!("greenroom/{}.sock", rig.greenroom.pid()));
    assert!(!socket.exists(), "no socket file is left");
}

#[test]
fn a_second_signal_closes_the_rest_at_once_each_still_with_its_code_and_its_line_in_the_ledger() {
    let stub = Stub::listen();
    let mut rig = Rig::ready(&stub, "grace = \"1h\"", "[drain]\nwindow = \"1h\"");
    let mut clients = rig.crowd(&stub, 50);
    rig.greenroom.signal(Signal::TERM);
    rig.greenroom.wait_for_event("stopping", SOON);
    rig.greenroom.signal(Signal::TERM);
    for (client, _) in &mut clients {
        let (code, reason) = client.close_frame();
        assert!(code == 1001 && reason.starts_with("retry-after-ms="), "{code} {reason}");
        client.send(masked(0x88, &close(code, "")));
    }
    for (client, _) in &mut clients {
        client.rest_or_reset();
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
    let stopped = rig.greenroom.wait_for_event("stopped", SOON);
    assert_eq!(stopped["closed"]["drained"], 50, "{stopped}");
}

/// Who has not answered its Close when the time is over, or has said nothing at all, is cut, and that is told of as well.
#[test]
fn who_does_not_answer_its_close_has_its_line_in_the_ledger_all_the_same() {
    for (grace, signals) in [("1s", 1), ("1h", 2)] {
        let stub = Stub::listen();
        let mut rig = Rig::ready(&stub, &format!("grace = \"{grace}\""), "[drain]\nwindow = \"0s\"");
        let mut clients = rig.crowd(&stub, 20);
        let _says_nothing = Raw::connect(&rig.address);
        until("it is there", || rig.told(&["ps", "--state", "opening"])["total"] == 1);
        for _ in 0..signals {
            rig.greenroom.signal(Signal::TERM);
            rig.greenroom.wait_for_event("stopping", SOON);
        }
        for (client, _) in &mut clients {
            assert_eq!(client.close_frame().0, 1001);
        }
        assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
        let stopped = rig.greenroom.wait_for_event("stopped", SOON);
        assert_eq!(stopped["closed"]["drained"], 21, "{stopped}");
        let sum: u64 = (stopped["closed"].as_object().unwrap().values())
            .map(|n| n.as_u64().unwrap())
            .sum();
        assert_eq!(stopped["accepted"], sum, "{stopped}");
        let events = rig.greenroom.events();
        let lines = events
            .iter()
            .filter(|event| event["event"] == "closed" && event["cause"] == "drained");
        assert_eq!(lines.count(), 21);
    }
}

#[test]
fn a_third_signal_ends_all_also_a_child_that_takes_its_time() {
    let mark = mark();
    let stub = Stub::listen();
    let config = format!(
        "grace = \"1h\"\n[drain]\nwindow = \"1h\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\
         [backend.slow]\naddress = \"127.0.0.1:1\"\n[backend.slow.process]\n\
         command = [\"sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 100; done\"]\n\
         [[route]]\nbackend = \"app\"\n[[route]]\npath = \"/slow\"\nbackend = \"slow\"\n",
        stub.address()
    );
    let config = config.replace("ready = \"listen\"", "ready = \"tcp\"");
    let mut rig = Rig::with(
        "run",
        &config,
        |_| {},
        |command| {
            command.env(MARK, &mark);
        },
    );
    until("the child is up", || rig.greenroom.stdout().contains("up"));
    let mut client = rig.knock("/ws");
    // The gate looks whether somebody listens by connections of its own.
    let mut backend = std::iter::from_fn(|| Some(stub.accept()))
        .find_map(|one| one.0.peek(&mut [0]).is_ok_and(|n| n > 0).then_some(one))
        .unwrap();
    backend.head();
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    for count in 1..=3 {
        rig.greenroom.signal(Signal::TERM);
        if count < 3 {
            until("it has heard that", || {
                let events = rig.greenroom.events();
                events.iter().filter(|event| event["event"] == "stopping").count() == count
            });
        }
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 1, "the child had to be killed");
    assert_eq!(marked(&mark), []);
    let mut rest = Vec::new();
    let _ = client.0.read_to_end(&mut rest); // it never answered its Close
    assert_eq!(rest[0], 0x88);
}

#[test]
fn a_share_is_drained_by_command_and_the_others_stay() {
    let stub = Stub::listen();
    let rig = Rig::ready(&stub, "", "[drain.evict]\nreason = \"elsewhere\"");
    let mut clients = rig.crowd(&stub, 40);
    let mut closed = 0;
    let drain = std::thread::scope(|scope| {
        let drain = scope.spawn(|| {
            rig.told(&[
                "drain",
                "--all",
                "--kind",
                "evict",
                "--percent",
                "25",
                "--window",
                "500ms",
                "--wait",
            ])
        });
        until("ten are closed", || {
            for (client, _) in &mut clients {
                if client.has_bytes() && client.0.peek(&mut [0]).is_ok_and(|count| count > 0) {
                    let (code, reason) = client.close_frame();
                    assert!(
                        code == 1012 && reason.starts_with("elsewhere retry-after-ms="),
                        "{code} {reason}"
                    );
                    client.send(masked(0x88, &close(code, "")));
                    closed += 1;
                }
            }
            closed == 10
        });
        drain.join().unwrap()
    });
    assert_eq!(
        (
            &drain["state"],
            &drain["matching"],
            &drain["connections"],
            &drain["told"],
            &drain["closed"]
        ),
        (&"drained".into(), &40.into(), &10.into(), &10.into(), &10.into()),
        "{drain}"
    );
    assert_eq!(rig.told(&["ps", "--state", "relaying"])["total"], 30);
    let ended = rig.told(&["ps", "--closed", "--cause", "drained"]);
    assert_eq!(ended["total"], 10);
    assert_eq!(ended["connections"][0]["end"]["detail"], "drain 1 (evict)");
    let event = rig.greenroom.wait_for_event("drained", SOON);
    assert_eq!(
        (&event["told"], &event["closed"], &event["cancelled"]),
        (&10.into(), &10.into(), &false.into())
    );
}

#[test]
fn while_a_drain_lasts_new_clients_are_held_and_the_end_of_it_lets_them_in() {
    let stub = Stub::listen();
    let rig = Rig::ready(&stub, "", "");
    let clients = rig.crowd(&stub, 4);
    let args = ["drain", "--backend", "app", "--window", "1h", "--new", "hold"];
    let drain = rig.told(&args);
    assert_eq!(
        (&drain["state"], &drain["id"]),
        (&"draining".into(), &1.into()),
        "{drain}"
    );
    assert_eq!(rig.told(&args)["id"], 1, "the same again is the same");
    assert_eq!(rig.told(&["drain", "--list"])["drains"].as_array().unwrap().len(), 1);
    rig.until("its gate is held", |status| {
        status["by_hand"]["gate"] == "hold" && status["by_hand"]["by"] == "drain 1"
    });
    let mut late = rig.knock("/ws");
    rig.held(1);
    let cancelled = rig.told(&["drain", "--cancel", "1"]);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert!(late.head().starts_with("HTTP/1.1 101 "));
    let there = rig.told(&["ps", "--state", "relaying"])["total"].as_u64().unwrap();
    let closing = clients.iter().filter(|(client, _)| client.has_bytes()).count() as u64;
    assert_eq!(there + closing, 5, "who was not told stays");
    assert!(rig.status()["by_hand"].is_null());
    for (args, help) in [
        (&["drain", "--all", "--percent", "0"][..], "1 to 100"),
        (&["drain", "--backend", "other"], "app"),
        (&["drain", "--all", "--kind", "whim"], "scale-down"),
        (&["drain", "--route", "*/", "--new", "hold"], "`backend`"),
        (&["drain", "--all", "--code", "1005"], "1012"),
        (&["drain", "--all", "--window", "5"], "30s"),
        (&["drain", "--cancel", "77"], "/v1/drains"),
        (&["hold", "--for", "0s"], "10m"),
        (&["hold", "other"], "app"),
    ] {
        let refused = rig.say(args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(help), "{args:?}: {error}");
    }
}

#[test]
fn a_gate_holds_refuses_and_opens_by_hand_by_one_word_each() {
    let stub = Stub::listen();
    let rig = Rig::ready(&stub, "", "");
    rig.tell(&["hold", "--for", "1h"]);
    let gate = rig
        .greenroom
        .wait_for(|event| event["event"] == "gate" && event["why"] == "held by hand", SOON);
    assert_eq!(gate["gate"], "shut", "{gate}");
    let status = rig.status();
    assert_eq!(
        (&status["condition"], &status["gate"]),
        (&"ready".into(), &"shut".into())
    );
    assert!(status["by_hand"]["left_ms"].as_u64().unwrap() > 3_000_000, "{status}");
    assert!(
        status["by_hand"]["by"].as_str().unwrap().starts_with("socket uid="),
        "{status}"
    );
    let mut waiting: Vec<Raw> = (1..=3)
        .map(|count| {
            let client = rig.knock("/ws");
            rig.held(count);
            client
        })
        .collect();
    let text = String::from_utf8(rig.say(&["status"]).stdout).unwrap();
    assert!(text.contains("held by hand") && text.contains("3 WebSocket"), "{text}");

    rig.tell(&["open"]);
    for (number, client) in waiting.iter_mut().enumerate() {
        let (mut backend, head) = stub.request();
        assert!(head.contains(&format!("Greenroom-Session: {}", number + 1)), "{head}");
        backend.send(switching(""));
        backend.send([0x81, 1, b'x']); // it proves itself
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.frame();
    }

    rig.tell(&["refuse"]);
    rig.until("it refuses", |status| status["gate"] == "refusing");
    let gate = (rig.greenroom).wait_for(
        |event| event["event"] == "gate" && event["why"] == "clients are refused by hand",
        SOON,
    );
    assert_eq!(gate["gate"], "refusing", "the log has the word of `status`");
    let mut refused = rig.knock("/ws");
    let head = refused.head();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("greenroom-refusal: by_hand"),
        "{head}"
    );
    let mut page = rig.get("/");
    assert!(page.head().starts_with("HTTP/1.1 503 "));
    rig.tell(&["open", "app"]);
    rig.until("it is as before", |status| {
        status["by_hand"].is_null() && status["gate"] != "refusing"
    });
}

#[test]
fn a_stop_that_does_not_fit_into_the_time_there_is_is_said_before_it_comes() {
    let ledger = Ledger::new();
    let file = ledger.beside("greenroom.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
        let out = command.arg("check").arg(&file).output().unwrap();
        String::from_utf8(out.stderr).unwrap() + &String::from_utf8(out.stdout).unwrap()
    };
    let backend = "[backend.app.process]\ncommand = [\"x\"]\n";
    let said = check(&format!(
        "grace = \"20s\"\n[drain]\nwindow = \"15s\"\nwithin = \"30s\"\n{backend}"
    ));
    assert!(said.contains("35s in all, and there are 30s"), "{said}");
    let said = check(&format!("grace = \"10s\"\n[drain]\nwindow = \"15s\"\n{backend}"));
    assert!(said.contains("`drain.window` is 15s") && said.contains("10s"), "{said}");
    let said = check(&format!("[drain]\nwindow = \"1s\"\nrate = 5\n{backend}"));
    assert!(said.contains("both say how fast"), "{said}");
    let said = check(&format!("[drain]\ncode = 1006\n{backend}"));
    assert!(said.contains("1006, which no Close may say"), "{said}");
    let said = check(&format!("[drain]\nreason = \"{}\"\n{backend}", "w".repeat(98)));
    assert!(said.contains("98 bytes"), "{said}");

    let stub = Stub::listen();
    let config = format!(
        "grace = \"31s\"\n[drain]\nrate = 1\n[backend.app]\naddress = \"{}\"\n",
        stub.address()
    );
    let rig = Rig::with(
        "serve",
        &config,
        |_| {},
        |command| {
            command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        },
    );
    let message = rig.greenroom.warns("Kubernetes", SOON);
    assert!(message.contains("30s") && message.contains("31s"), "{message}");

    let file = rig.folder.join("greenroom.toml");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
    let command = command
        .arg("check")
        .arg(file)
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains(&message), "`check` says what the start says: {said}");
}

#[test]
fn drains_are_bounded_leave_a_gate_by_hand_alone_and_a_stop_takes_over_what_they_have_left() {
    let stub = Stub::listen();
    let mut rig = Rig::ready(&stub, "", "");
    let mut clients = rig.crowd(&stub, 2);
    rig.tell(&["hold"]);
    let drain = |percent: u64, more: &[&str]| {
        let percent = percent.to_string();
        rig.say(&[&["drain", "--all", "--window", "1h", "--percent", &percent], more].concat())
    };
    for percent in 1..=DRAINS_MAX as u64 {
        let new: &[&str] = if percent == 1 { &["--new", "refuse"] } else { &[] };
        assert!(drain(percent, new).status.success());
    }
    let one_more = drain(99, &[]);
    assert_eq!(one_more.status.code(), Some(1));
    let error = String::from_utf8(one_more.stderr).unwrap();
    assert!(
        error.contains("16 drains are under way") && error.contains("/v1/drains"),
        "{error}"
    );
    assert!(drain(2, &[]).status.success(), "the same as one under way is none more");
    assert_eq!(rig.status()["by_hand"]["gate"], "hold", "somebody has set it");
    let first = rig.told(&["drain", "--list"])["drains"][0].clone();
    assert_eq!(
        first["left_alone"],
        serde_json::json!(["app"]),
        "and the drain says so: {first}"
    );
    rig.tell(&["drain", "--cancel", "1"]);
    rig.greenroom
        .wait_for(|event| event["event"] == "drained" && event["cancelled"] == true, SOON);
    assert_eq!(rig.status()["by_hand"]["gate"], "hold", "it was never the drain's");
    assert!(drain(99, &[]).status.success(), "there is room again");

    let mut held = rig.knock("/ws");
    rig.held(1);
    rig.greenroom.signal(Signal::TERM);
    let head = held.head();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("greenroom-refusal: draining"),
        "{head}"
    );
    for (client, _) in &mut clients {
        let (code, _) = client.close_frame();
        assert_eq!(code, 1001, "of the stop, and not of a drain");
        client.send(masked(0x88, &close(code, "")));
        client.rest_or_reset();
    }
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
    let stopped = rig.greenroom.wait_for_event("stopped", SOON);
    assert_eq!(stopped["closed"]["drained"], 2, "{stopped}");
}
