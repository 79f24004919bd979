//! Starts that fail, through the real program: who waits hears it with phase and reason, or keeps waiting for the next life.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{
    Clients, fixture, one_at_a_time,
    process::until,
    python,
    raw::{SOON, Stub, field, nobody, switching},
    rig::Rig,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// `lives.py` behind `greenroom run`; `more` are keys of its process and further tables.
fn lives(first: &str, more: &str) -> Rig {
    let config = format!(
        "[backend.app]\nphases = [\"init\", \"database\"]\nready = \"notify\"\n\n[backend.app.process]\n\
         command = [\"{}\", \"{}\"]\n{more}\n",
        python("python"),
        fixture("lives.py")
    );
    Rig::with(
        "run",
        &config,
        |_| {},
        |command| {
            command.env("FIRST", first);
        },
    )
}

fn refused(answer: &(String, String), reason: &str) {
    let (head, body) = answer;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(head, "greenroom-refusal").unwrap(), "start_failed", "{head}");
    let seconds: u32 = field(head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{head}");
    assert_eq!(
        *body,
        format!("the server could not start: {reason}; try again later\n")
    );
}

const OVERRUNS: &str = "[backend.app.phase.init]\ntimeout = \"1500ms\"\n";

#[test]
fn who_waits_for_a_start_that_overruns_for_good_hears_its_phase_and_reason() {
    let mut rig = lives("overrun", &format!("restart = \"never\"\n{OVERRUNS}"));
    let (mut socket, mut request) = (rig.knock("/ws"), rig.get("/"));
    rig.held(2);
    let reason = "phase init: not finished within 1.5s";
    refused(&socket.answer(), reason);
    refused(&request.answer(), reason);
    let failed = rig.greenroom.wait_for_event("start_failed", SOON);
    assert_eq!(failed["phase"], "init");
    assert_eq!(failed["reason"], "not finished within 1.5s");
    // Python ends by the TERM; there is nothing left to serve.
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 143, "{}", rig.greenroom.stderr());
}

#[test]
fn who_waits_for_a_start_that_overruns_stays_and_gets_in_with_the_next_life() {
    let _alone = one_at_a_time();
    let rig = lives("overrun", &format!("restart = \"on-failure\"\n{OVERRUNS}"));
    let mut request = rig.get("/");
    let mut clients = Clients::start(&rig.address, 20, 1.0, &[]);
    clients.all_right(PATIENCE);
    let (head, body) = request.answer();
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "hello\n", "{head}{body}");
    let status = rig.status();
    assert_eq!(
        (&status["generation"], &status["condition"]),
        (&2.into(), &"ready".into())
    );
    assert_eq!(status.get("failure"), None, "{status}");
    assert_eq!(rig.ledger.inversions(), 0);
    let exited = rig.greenroom.wait_for_event("exited", SOON);
    assert_eq!(exited["reason"], "not finished within 1.5s");
    assert!(!rig.greenroom.events().iter().any(|event| event["event"] == "refused"));
}

#[test]
fn an_error_number_fails_the_start_at_once() {
    let mut rig = lives("errno", "restart = \"never\"");
    let mut socket = rig.knock("/ws");
    refused(&socket.answer(), "phase database: the server reported error number 5");
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 143);

    let rig = lives("errno", "restart = \"on-failure\"");
    let mut socket = rig.knock("/ws");
    assert!(socket.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(rig.status()["generation"], 2);
}

#[test]
fn a_server_that_hangs_is_ended_by_its_watchdog_and_the_next_life_serves() {
    let rig = lives("hang", "watchdog = \"1s\"");
    let mut first = rig.knock("/ws");
    assert!(first.head().starts_with("HTTP/1.1 101 "));
    let exited = rig.greenroom.wait_for_event("exited", SOON);
    assert_eq!((&exited["generation"], &exited["code"]), (&1.into(), &134.into()));
    assert_eq!(exited["reason"], "no sign of life for 1s");
    let (code, reason) = first.close_frame();
    assert_eq!(code, 1012, "{reason}");
    let mut second = rig.knock("/ws");
    assert!(second.head().starts_with("HTTP/1.1 101 "));
    // It gives its signs of life: three of its times later it is still the second one.
    assert!(second.silent_for(Duration::from_secs(3)));
    assert_eq!(rig.status()["generation"], 2);
    rig.greenroom.signal(Signal::TERM);
}

#[test]
fn a_deploy_script_fails_a_start_with_words_of_its_own_and_takes_it_back() {
    let place = nobody();
    let rig = Rig::start(
        "serve",
        &format!("[backend.app]\naddress = \"{place}\"\nready = \"listen\"\nphases = [\"migrations\", \"warm\"]\n"),
    );
    let mut held = rig.knock("/ws");
    rig.held(1);
    rig.tell(&["phase", "migrations"]);
    rig.tell(&["phase", "failed", "--reason", "no license"]);
    refused(&held.answer(), "phase warm: no license");
    refused(&rig.knock("/ws").answer(), "phase warm: no license");
    refused(&rig.get("/").answer(), "phase warm: no license");
    let status = rig.status();
    assert_eq!(status["condition"], "failed");
    assert_eq!(status["failure"], "phase warm: no license");
    assert_eq!(status["gate"], "failed");

    // It tries again: who comes now waits, and gets in when it listens.
    rig.tell(&["phase", "migrations"]);
    assert_eq!(rig.status()["condition"], "starting");
    let mut late = rig.knock("/ws");
    rig.held(1);
    assert!(!late.has_bytes());
    let stub = Stub::at(&place);
    rig.until("it listens, and has not said its last phase", |status| {
        status["phases"][1]["state"] == "current"
    });
    assert!(!late.has_bytes());
    rig.tell(&["phase", "warm"]);
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert!(late.head().starts_with("HTTP/1.1 101 "));
}

/// Only what the program prints is asked for: the line comes when its test lets it.
#[test]
fn a_line_of_the_log_finishes_its_phase_and_lets_clients_in() {
    let script = "\"$PY\" \"$APP\" & read line < \"$PIPE\"; echo \"14:00:01 INFO Server is up (worker 1)\"; wait";
    let config = format!(
        "[backend.app]\nphases = [\"boot\"]\nready = \"listen\"\n\n[backend.app.process]\n\
         command = [\"sh\", \"-c\", '{script}']\nenv = {{ PY = \"{}\", APP = \"{}\", PIPE = \"{{folder}}/pipe\" }}\n\n\
         [backend.app.check.boot]\nprobe = \"log\"\nline = 'Server is up \\(worker \\d+\\)'\nphase = \"boot\"\n",
        python("python"),
        fixture("lives.py")
    );
    let pipe = |folder: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
        assert!(made.unwrap().success());
    };
    let rig = Rig::with("run", &config, pipe, |command| {
        command.env("FIRST", "well");
    });
    let mut client = rig.knock("/ws");
    rig.until("it listens, and that is not enough", |status| {
        status["checks"][0]["state"] != "good"
            && rig.ledger.beside("lives").exists()
            && status["held"]["websocket"] == 1
    });
    assert!(!client.has_bytes());
    std::fs::write(rig.folder.join("pipe"), "go\n").unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let status = rig.status();
    assert_eq!(status["checks"][0]["state"], "good", "{status}");
    assert_eq!(status["phases"][0]["state"], "finished", "{status}");
    assert!(
        rig.greenroom.stdout().contains("Server is up (worker 1)"),
        "it is passed on"
    );
}

/// The first life prints its line before anything else, quicker than its start is told; the second listens long before.
#[test]
fn a_line_of_the_log_counts_for_its_own_life_however_early_it_comes() {
    let script = "if [ ! -e \"$AGAIN\" ]; then echo up; touch \"$AGAIN\"; read line < \"$PIPE\"; exit; fi; \
                  \"$PY\" \"$APP\" & read line < \"$PIPE\"; echo up; wait";
    let config = format!(
        "[backend.app]\nphases = [\"boot\"]\nready = \"listen\"\n\n[backend.app.process]\nrestart = \"always\"\n\
         command = [\"sh\", \"-c\", '{script}']\n\
         env = {{ PY = \"{}\", APP = \"{}\", PIPE = \"{{folder}}/pipe\", AGAIN = \"{{folder}}/again\" }}\n\n\
         [backend.app.check.up]\nprobe = \"log\"\nline = 'up'\n",
        python("python"),
        fixture("lives.py")
    );
    let pipe = |folder: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
        assert!(made.unwrap().success());
    };
    let rig = Rig::with("run", &config, pipe, |command| {
        command.env("FIRST", "well");
    });
    let is_good = |event: &Value| event["event"] == "check" && event["state"] == "good";
    rig.greenroom.wait_for(is_good, SOON);
    std::fs::write(rig.folder.join("pipe"), "go\n").unwrap();
    let began = |event: &Value| event["event"] == "started" && event["generation"] == 2;
    rig.greenroom.wait_for(began, SOON);
    rig.until("it listens", |_| rig.ledger.beside("lives").exists());
    let mut client = rig.knock("/ws");
    rig.held(1);
    std::fs::write(rig.folder.join("pipe"), "go\n").unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let mut events = rig.greenroom.events().into_iter().skip_while(|event| !began(event));
    let first = events
        .find(|event| is_good(event) || event["event"] == "ready")
        .unwrap();
    assert!(is_good(&first), "ready by the line of the life before: {first}");
}

/// gunicorn, Puma and others say READY=1 whenever there is somebody to say it to. Where `ready` asks for more, more counts.
#[test]
fn a_ready_that_nobody_asked_for_opens_no_gate() {
    let stub = Stub::listen();
    let script = "import os, signal, sdnotify\nsay = sdnotify.SystemdNotifier().notify\n\
        say(\"X_GREENROOM_PHASE=init\")\nsay(\"READY=1\")\nsay(\"STATUS=said\")\nsignal.pause()";
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"http:/health\"\nphases = [\"init\", \"rest\"]\n\n[backend.app.process]\n\
         command = [\"{}\", \"-c\", '''{script}''']\n",
        stub.address(),
        python("python")
    );
    let rig = Rig::start("run", &config);
    rig.greenroom.wait_for(|event| event["status"] == "said", SOON);
    let status = rig.status();
    assert_eq!(status["condition"], "starting", "{status}");
    assert_eq!(status["phases"][0]["state"], "finished", "its phases count: {status}");
    let mut answered = Vec::new();
    until("a good answer at /health makes it ready", || {
        if let Some(mut probe) = stub.try_accept() {
            assert!(probe.head().starts_with("GET /health "));
            probe.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            answered.push(probe);
        }
        rig.greenroom.events().iter().any(|event| event["event"] == "ready")
    });
    let ready = rig.greenroom.wait_for_event("ready", SOON);
    assert_eq!(ready["by"], "http");
}
