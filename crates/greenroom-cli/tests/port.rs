//! The port that greenroom chooses, and servers that do not take it, or are not ready behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    Greenroom, fixture, python,
    raw::{Raw, SOON},
};
use serde_json::Value;

fn run(flags: &[&str], server: &str) -> Greenroom {
    let (python, server) = (python("python"), fixture(server));
    let args = [&["run", "--listen", "127.0.0.1:0"], flags, &["--", &python, &server]].concat();
    Greenroom::start(&args)
}

fn warnings(greenroom: &Greenroom) -> Vec<String> {
    let events = greenroom.events();
    let warnings = events.iter().filter(|event| event["event"] == "warning");
    warnings
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

fn has(word: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["message"].as_str().is_some_and(|message| message.contains(word))
}

#[test]
fn a_server_without_so_reuseaddr_gets_its_port_in_its_second_life() {
    let greenroom = run(&[], "no_reuse.py");
    let mut client = Raw::connect(&greenroom.address());
    client.send("GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n");
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{}", greenroom.stderr());
    let started = greenroom.events().iter().filter(|e| e["event"] == "started").count();
    assert_eq!(started, 2, "{}", greenroom.stderr());
    let told = warnings(&greenroom);
    let told: Vec<_> = told.iter().filter(|text| text.contains("SO_REUSEADDR")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn where_it_has_one_life_only_the_user_is_told_what_to_do() {
    let mut greenroom = run(&["--restart", "never"], "no_reuse.py");
    let told = greenroom.wait_for(has("is not started again"), SOON);
    let told = told["message"].as_str().unwrap();
    assert!(
        told.contains("without SO_REUSEADDR") && told.contains("--backend"),
        "{told}"
    );
    greenroom.wait_exit(SOON);
}

/// What the probe is said to have found.
fn found(greenroom: &Greenroom) -> String {
    let event = greenroom.wait_for_event("probe", SOON);
    event["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_probe_that_is_not_good_is_explained_and_no_other_place_is_suspected() {
    let greenroom = run(&["--ready", "http:/nope"], "not_found.py");
    assert_eq!(
        found(&greenroom),
        "GET /nope is answered with status 404 (200 to 399 is ready)"
    );
    let told = warnings(&greenroom);
    assert!(!told.iter().any(|text| text.contains("CMD listens on")), "{told:?}");
}

#[test]
fn who_listens_and_does_not_say_that_it_is_ready_is_told_of() {
    let greenroom = run(&["--ready", "notify"], "not_found.py");
    assert_eq!(found(&greenroom), "CMD listens, and has not said READY=1");
}

#[test]
fn that_nobody_listens_is_told_where_nothing_is_started() {
    let nobody = common::raw::nobody();
    let greenroom = Greenroom::start(&["serve", "--listen", "127.0.0.1:0", "--backend", &nobody]);
    assert_eq!(found(&greenroom), format!("{nobody}: nobody listens there"));
}
