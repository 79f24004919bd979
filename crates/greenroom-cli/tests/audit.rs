//! `greenroom audit` on real servers: uvicorn good and with a late handler, Node `ws` that closes with 1011 or answers 503
//! until it is ready, and the same behind greenroom. Each gets its known verdict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Greenroom, Ledger, fixture, one_at_a_time, python};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program with these words, its exit code, and the JSON that it wrote.
fn audit(flags: &[&str], env: &[(&str, &str)], cmd: &[&str]) -> (i32, Value) {
    let (code, out) = print(&[flags, &["--format", "json"]].concat(), env, cmd);
    let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}:\n{out}"));
    (code, report)
}

fn print(flags: &[&str], env: &[(&str, &str)], cmd: &[&str]) -> (i32, String) {
    let output = command(flags, env, cmd).output().unwrap();
    let code = output.status.code().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    let out = String::from_utf8(out).unwrap();
    let progress = |line: &str| line.starts_with("greenroom audit: ");
    assert!(
        err.lines().all(progress) || code == 2,
        "nothing but how far it is is said beside the report: {err}\n{out}"
    );
    (code, if out.is_empty() { err } else { out })
}

fn command(flags: &[&str], env: &[(&str, &str)], cmd: &[&str]) -> Command {
    // The environment of the other tests, without the flag for events that an audit does not write.
    let template: Command = Greenroom::command(&["run"]);
    let mut command = Command::new(template.get_program());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.arg("audit").args(flags).arg("--").args(cmd);
    command.envs(env.iter().copied()).stdin(Stdio::null());
    command
}

/// The codes of all findings.
fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|said| said["code"].as_str().unwrap()).collect()
}

fn uvicorn(app: &'static str) -> Vec<String> {
    let words = ["-m", "uvicorn", "--app-dir", &fixture(""), app, "--port", "{port}"].map(String::from);
    [vec![python("python")], words.to_vec()].concat()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

const SHORT: [&str; 4] = ["--runs", "3", "--clients", "60"];
const WS: [&str; 2] = ["--url", "ws://127.0.0.1:{port}/ws"];

#[test]
fn uvicorn_has_no_race_and_is_refused_only_while_nobody_listens() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_app:app");
    let flags = [&SHORT[..], &WS].concat();
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "1")], &words(&command));
    assert_eq!((code, report["verdict"].as_str()), (0, Some("sound")), "{report:#}");
    let ready = report["plain"]["ready"]["typical"]["low_ns"].as_u64().unwrap();
    assert!(
        ready > 1_000_000_000,
        "it is not ready before its start-up is over: {ready}"
    );
    // Cold counts where it is asked for.
    let (code, report) = audit(
        &[&flags[..], &["--fail-on", "cold,lost"]].concat(),
        &[("STARTUP_SECONDS", "0.5")],
        &words(&command),
    );
    assert_eq!(code, 1, "{report:#}");
    assert!(
        report["failed_by"][0].as_str().unwrap().starts_with("cold"),
        "{report:#}"
    );
}

#[test]
fn a_uvicorn_app_that_drops_what_comes_before_its_handler_loses_messages() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_late_handler:app");
    let flags = [&SHORT[..], &WS].concat();
    let env = [("STARTUP_SECONDS", "0.5"), ("HANDLER_AFTER_MS", "30")];
    let (code, report) = audit(&flags, &env, &words(&command));
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["handler-late"]),
        "{:#}",
        report["findings"]
    );
    let handler = &report["findings"][0]["finding"]["handler"];
    assert!(
        handler["attached"]["high_ns"].as_u64().unwrap() >= 30_000_000,
        "{handler}"
    );
}

#[test]
fn a_node_server_that_closes_with_1011_until_it_is_ready_has_a_race_and_none_behind_greenroom() {
    let _alone = one_at_a_time();
    let server = fixture("node_1011.js");
    let flags = [&SHORT[..], &["--compare"]].concat();
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "1")], &["node", &server]);
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["accepts-early"]),
        "{:#}",
        report["findings"]
    );
    let sentence = report["findings"][0]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("before it is ready") && sentence.contains("1011"),
        "{sentence}"
    );
    let lead = report["plain"]["lead"]["typical"]["high_ns"].as_u64().unwrap();
    assert!((300_000_000..1_300_000_000).contains(&lead), "{lead}");
    assert_eq!(report["greenroom"]["runs"].as_array().unwrap().len(), 3);
    let behind = report["greenroom_findings"].as_array().unwrap();
    assert!(behind.is_empty(), "{behind:#?}");
}

#[test]
fn a_node_server_that_answers_503_until_it_is_ready_has_a_race() {
    let _alone = one_at_a_time();
    let server = fixture("node_503.js");
    let env = [("STARTUP_SECONDS", "1")];
    let (code, report) = audit(&SHORT, &env, &["node", &server]);
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["accepts-early"]),
        "{:#}",
        report["findings"]
    );
    assert!(report["findings"][0]["sentence"].as_str().unwrap().contains("HTTP 503"));
    // A condition that is not met is no failure.
    let (code, _) = audit(
        &[&SHORT[..], &["--fail-on", "lost,1011"]].concat(),
        &env,
        &["node", &server],
    );
    assert_eq!(code, 0);
}

#[test]
fn a_node_server_with_a_late_handler_and_words_that_cannot_be_told_apart_is_seen_through() {
    let _alone = one_at_a_time();
    let server = fixture("node_late_handler.js");
    let flags = [
        "--runs",
        "3",
        "--clients",
        "80",
        "--message",
        "hello",
        "--expect",
        "^hello$",
    ];
    let (code, report) = audit(&flags, &[("HANDLER_AFTER_MS", "40")], &["node", &server]);
    assert_eq!(code, 1, "{:#}", report["findings"]);
    assert!(
        codes(&report)
            .iter()
            .all(|code| ["handler-late", "loses-messages"].contains(code)),
        "{:#}",
        report["findings"]
    );
}

#[test]
fn a_restart_drops_everybody_by_itself() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_app:app");
    let flags = [&["--runs", "1", "--clients", "20", "--restart", "kill"][..], &WS].concat();
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "0.5")], &words(&command));
    assert_eq!(code, 0, "{report:#}");
    let restart = &report["restarts"][0];
    assert_eq!(
        (&restart["dropped"]["hits"], &restart["dropped"]["of"]),
        (&20.into(), &20.into()),
        "{restart:#}"
    );
    let back = restart["last_back_ns"].as_u64().expect("all came back");
    assert!((500_000_000..30_000_000_000).contains(&back), "{back}");
    assert!(restart["never_back"].as_array().unwrap().is_empty(), "{restart:#}");
    assert!(
        restart["away"]["count"] == 20 && restart["lost"]["of"].as_u64() > Some(0),
        "{restart:#}"
    );
}

/// Whoever asks for what a restart does gets it as a reason, on each side by its name.
#[test]
fn a_restart_is_compared_and_judged_on_both_sides() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_app:app");
    let asked = ["--runs", "1", "--clients", "20", "--compare", "--restart", "kill"];
    let flags = [&asked[..], &["--fail-on", "race,1006,reset,1001,1012,1013"], &WS].concat();
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "0.5")], &words(&command));
    assert!(
        report["not_done"].as_array().unwrap().is_empty(),
        "{:#}",
        report["not_done"]
    );
    let restarts = report["restarts"].as_array().unwrap();
    let ways: Vec<_> = restarts
        .iter()
        .map(|restart| restart["way"].as_str().unwrap())
        .collect();
    assert_eq!(ways, ["plain", "greenroom"]);
    for restart in restarts {
        assert_eq!(restart["dropped"]["hits"], 20, "{restart:#}");
        assert!(restart["last_back_ns"].is_u64(), "{restart:#}");
    }
    let reasons: Vec<_> = report["failed_by"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason.as_str().unwrap())
        .collect();
    let names = |place: &str| reasons.iter().any(|reason| reason.starts_with(place));
    assert!(
        names("at the restart: ") && names("at the restart behind greenroom: "),
        "{reasons:?}"
    );
    assert!(!reasons.iter().any(|reason| reason.contains("race")), "{reasons:?}");
    assert_eq!((code, report["verdict"].as_str()), (1, Some("sound")));
    let condition = &report["conditions"][0];
    assert!(condition["place"]["restart"].is_string(), "{condition}");
}

/// What waits for nobody's handler loses messages behind a gate that cannot know of it, and that is a reason too.
#[test]
fn conditions_and_budgets_are_judged_behind_greenroom_too() {
    let _alone = one_at_a_time();
    let server = fixture("node_late_handler.js");
    let flags = [
        &SHORT[..],
        &["--compare", "--fail-on", "lost", "--budget", "p50-open=0s"],
    ]
    .concat();
    let (code, report) = audit(&flags, &[("HANDLER_AFTER_MS", "40")], &["node", &server]);
    assert_eq!(code, 1, "{report:#}");
    let reasons = report["failed_by"].as_array().unwrap();
    let starts: Vec<_> = reasons
        .iter()
        .map(|reason| {
            reason
                .as_str()
                .unwrap()
                .split(|c: char| c.is_ascii_digit())
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(
        starts,
        ["lost: ", "behind greenroom: lost: ", "p", "behind greenroom: p"],
        "{reasons:#?}"
    );
    assert_eq!(report["greenroom_verdict"], "race");
}

/// Where no answer is expected, a connection that stands is one: no start takes all the time that it may.
#[test]
fn a_server_that_is_expected_to_say_nothing_is_ready_when_its_connections_stand() {
    let _alone = one_at_a_time();
    let server = fixture("node_1011.js");
    let flags = [
        "--runs",
        "2",
        "--clients",
        "40",
        "--expect",
        "none",
        "--start-timeout",
        "10m",
    ];
    let began = Instant::now();
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "0.6")], &["node", &server]);
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["accepts-early"]),
        "{:#}",
        report["findings"]
    );
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "it waited for an answer: {:?}",
        began.elapsed()
    );
}

#[test]
fn what_cannot_run_says_so_with_code_2() {
    for (flags, cmd, said) in [
        (&["--url", "http://x"][..], &["true"][..], "ws://"),
        (&["--fail-on", "nonsense"], &["true"], "--fail-on"),
        (&["--fail-on", "answered"], &["true"], "--fail-on"),
        (&["--fail-on", "unknown"], &["true"], "--fail-on"),
        (&["--compare", "--ready", "soon"], &["true"], "--ready"),
        (&["--ready", "notify"], &["true"], "--compare"),
        (&["--strategy"], &["poll=1s", "true"], "--strategy=poll=1s"),
        (&["--out", "/proc/none"], &["/no/such/server"], "--out"),
        (&["--strategy=nonsense"], &["true"], "--strategy has \"nonsense\""),
        (&["--budget", "fast"], &["true"], "p99-open=500ms"),
        (
            &["--runs", "1000", "--clients", "5000"],
            &["true"],
            "--runs 1000 with --clients 5000 are 5000000 clients",
        ),
        (&["--message", "@/dev"], &["true"], "is not a file"),
        (&[], &["/no/such/server"], "/no/such/server"),
        (&[], &["false"], "Not measured"),
    ] {
        let (code, text) = print(flags, &[], cmd);
        assert!(code == 2 && text.contains(said), "{flags:?} {cmd:?}: {code}\n{text}");
    }
}

#[test]
fn a_start_error_is_told_once_and_help_has_no_torn_words() {
    let (code, text) = print(&[], &[], &["/no/such/server"]);
    assert_eq!((code, text.matches("no such file").count()), (2, 1), "{text}");
    let template = Greenroom::command(&["run"]);
    let help = Command::new(template.get_program())
        .args(["audit", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words: Vec<&str> = help.split_whitespace().collect();
    let help = words.join(" ");
    assert!(
        help.contains("an n between curly brackets becomes a number that no other message has"),
        "{help}"
    );
    assert!(
        help.contains("--ready <SPEC>") && help.contains("130 it was stopped"),
        "{help}"
    );
}

/// FastAPI answers 403 to a path that it does not have: two minutes of that would say no more than three seconds.
#[test]
fn a_wrong_path_is_told_within_seconds_and_with_what_to_change() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_app:app");
    let began = Instant::now();
    let flags = ["--url", "ws://127.0.0.1:{port}/nowhere"];
    let (code, report) = audit(&flags, &[("STARTUP_SECONDS", "0.2")], &words(&command));
    let why = report["verdict"]["not_measured"].as_str().unwrap();
    assert!(
        code == 2 && why.contains("HTTP 403") && why.contains("path in --url"),
        "{why}"
    );
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    // 503 says that it is not ready, and is waited for: see above.
}

/// The server listens at 127.0.0.1 and the clients look for it at ::1: both are named, and what to write.
#[test]
fn who_listens_at_another_address_is_named() {
    let _alone = one_at_a_time();
    let command = [&python("python"), "-m", "http.server", "{port}", "--bind", "127.0.0.1"];
    let flags = ["--url", "ws://[::1]:{port}/ws", "--start-timeout", "6s"];
    let (code, report) = audit(&flags, &[], &command);
    let why = report["verdict"]["not_measured"].as_str().unwrap();
    assert!(code == 2 && why.contains("nobody listened at [::1]:"), "{why}");
    assert!(
        why.contains("CMD listens at 127.0.0.1:") && why.contains("--url ws://127.0.0.1:{port}/"),
        "{why}"
    );
}

/// A server that opens at once, is deaf for a while, and then says READY=1: by its 101 greenroom would believe it, by its word it does not.
#[test]
fn the_cure_is_measured_with_the_readiness_that_was_asked_for() {
    let _alone = one_at_a_time();
    let command = uvicorn("fastapi_deaf:app");
    let flags = [
        &WS[..],
        &["--runs", "2", "--clients", "40", "--compare", "--ready", "notify"],
    ]
    .concat();
    let folder = std::env::temp_dir().join(format!("greenroom-audit-cure-{}", std::process::id()));
    let out = folder.to_str().unwrap();
    let (code, report) = audit(
        &[&flags[..], &["--out", out]].concat(),
        &[("STARTUP_SECONDS", "1")],
        &words(&command),
    );
    assert_eq!(
        (code, codes(&report)),
        (1, vec!["loses-early"]),
        "{:#}",
        report["findings"]
    );
    let advice = report["findings"][0]["advice"].as_str().unwrap();
    assert!(advice.contains("`greenroom run --ready notify --`"), "{advice}");
    assert_eq!(
        report["greenroom_verdict"], "sound",
        "{:#}",
        report["greenroom_findings"]
    );
    assert_eq!(
        report["settings"]["greenroom"],
        serde_json::json!(["--ready", "notify"])
    );
    let comment = std::fs::read_to_string(folder.join("comment.md")).unwrap();
    assert!(
        comment.contains("The cure, as it was measured (2 starts behind greenroom"),
        "{comment}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn ctrl_c_ends_the_server_and_reports_what_there_is() {
    let _alone = one_at_a_time();
    let ledger = Ledger::new();
    let (server, log) = (fixture("node_503.js"), ledger.path());
    let env = [("STARTUP_SECONDS", "0.3"), ("LOG", log.to_str().unwrap())];
    let flags = ["--runs", "100", "--clients", "30", "--format", "json"];
    let mut audit = command(&flags, &env, &["node", &server]);
    let audit = audit.stdout(Stdio::piped()).spawn().unwrap();
    // Two servers have had clients: the first start is over.
    let pids = || {
        let lines = ledger.of("open");
        lines
            .iter()
            .map(|line| line["pid"].as_u64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while pids().len() < 2 {
        assert!(Instant::now() < deadline, "no second start");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&audit), Signal::INT).unwrap();
    let output = audit.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert_eq!(
        output.status.code(),
        Some(1),
        "what was found is found: {:#}",
        report["findings"]
    );
    assert!(!report["plain"]["runs"].as_array().unwrap().is_empty());
    for pid in pids() {
        let gone = std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |words| words.is_empty());
        assert!(gone, "server {pid} is left behind");
    }
}

#[test]
fn every_format_is_written_and_fits_its_width() {
    let _alone = one_at_a_time();
    let server = fixture("node_1011.js");
    let folder = std::env::temp_dir().join(format!("greenroom-audit-out-{}", std::process::id()));
    let out = folder.to_str().unwrap();
    let flags = ["--runs", "2", "--clients", "40", "--strategy", "--out", out];
    let (code, text) = print(&flags, &[("STARTUP_SECONDS", "0.6")], &["node", &server]);
    assert_eq!(code, 1, "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report["schema"], 1);
    let waits = report["waits"].as_array().unwrap();
    let ways: Vec<_> = waits
        .iter()
        .map(|waited| waited["strategy"].as_str().unwrap())
        .collect();
    assert_eq!(ways, ["event", "poll=100ms", "poll=1s", "backoff=100ms"]);
    let spread = |way: usize| waits[way]["spread_ns"].as_u64().unwrap();
    assert!(
        spread(0) == 0 && (90_000_000..100_000_000).contains(&spread(1)),
        "{waits:#?}"
    );
    assert!(
        read("report.md").contains("| `poll=100ms` |") && text.contains("Ways of waiting"),
        "{text}"
    );
    assert!(read("report.md").contains("```mermaid") && read("report.txt").contains("✗ Race"));
    let sarif: Value = serde_json::from_str(&read("report.sarif")).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "accepts-early", "{sarif:#}");
    assert!(read("report.xml").contains("failures=\"1\" errors=\"0\""));
    assert!(read("report.html").ends_with("</html>\n") && read("comment.md").contains("<details>"));
    let clients = read("clients.jsonl");
    assert!(!folder.join("restart.jsonl").exists());
    assert_eq!(
        clients.lines().count() as u64,
        report["plain"]["clients"].as_u64().unwrap()
    );
    std::fs::remove_dir_all(folder).unwrap();
}
