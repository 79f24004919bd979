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
