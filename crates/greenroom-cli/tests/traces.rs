//! Traces: one span for handshake, hold and dial, of the client's trace, of which the backend hears.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Instant;

use common::{
    collector::Collector,
    process::until,
    raw::{Raw, SOON, Stub, field, nobody, switching, upgrade},
    rig::Rig,
};
use rustix::process::Signal;
use serde_json::Value;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn brings(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: theirs=1\r\n")
}

/// A backend that is ready as soon as it listens, before which some wait.
fn config(address: &str, endpoint: &str) -> String {
    format!(
        "[tracing]\nendpoint = \"{endpoint}\"\n\n[backend.app]\naddress = \"{address}\"\nready = \"listen\"\n\n\
         [[route]]\nname = \"chat\"\npath = \"/ws\"\n\n\
         [[route]]\nname = \"short\"\npath = \"/short\"\nhold_timeout = \"100ms\"\nbackend = \"app\"\n\n"
    )
}

fn knock(rig: &Rig, extra: &str) -> Raw {
    let mut client = Raw::connect(&rig.address);
    let secrets = "Cookie: session=planted-cookie\r\nAuthorization: Bearer planted-token\r\nX-Own: planted-field\r\n";
    client.send(upgrade(&format!("{secrets}{extra}")).replacen("/ws", "/ws?key=planted-query", 1));
    client
}

/// The trace and the span of a `traceparent`, and its flags.
fn place(head: &str) -> (String, String, String) {
    let value = field(head, "traceparent").unwrap_or_else(|| panic!("no traceparent:\n{head}"));
    let parts: Vec<&str> = value.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{value}");
    (parts[1].into(), parts[2].into(), parts[3].into())
}

fn spans(rig: &Rig, outcome: &str) -> f64 {
    let page = rig.ask("/metrics");
    let sample = format!("greenroom_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&sample));
    line.unwrap_or_else(|| panic!("{page}")).trim().parse().unwrap()
}

#[test]
fn a_client_that_brings_a_trace_gets_its_span_in_it_and_the_backend_hears_of_that_span() {
    let (stub, collector) = (Stub::listen(), Collector::start("take"));
    let rig = Rig::start("serve", &config(&stub.address(), &collector.endpoint));
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut client = knock(&rig, &brings("01"));
    let (mut backend, head) = stub.request();
    let (trace, ours, flags) = place(&head);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"), "{head}");
    assert_ne!(ours, PARENT);
    assert_eq!(field(&head, "tracestate").as_deref(), Some("theirs=1"), "{head}");
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));

    let span = collector.got("span", |_| true);
    assert_eq!(
        (&span["trace"], &span["span"], &span["parent"]),
        (&TRACE.into(), &ours.as_str().into(), &PARENT.into()),
        "{span}"
    );
    assert_eq!(
        (&span["name"], &span["kind"], &span["error"]),
        (&"websocket /ws".into(), &2.into(), &false.into())
    );
    let attributes = &span["attributes"];
    let session: i64 = field(&head, "greenroom-session").unwrap().parse().unwrap();
    for (name, value) in [
        ("http.request.method", Value::from("GET")),
        ("http.route", "/ws".into()),
        ("http.response.status_code", 101.into()),
        ("greenroom.route", "chat".into()),
        ("greenroom.backend", "app".into()),
        ("greenroom.session", session.into()),
        ("greenroom.attempts", 1.into()),
        ("greenroom.outcome", "let_in".into()),
        ("greenroom.accepted", false.into()),
    ] {
        assert_eq!(attributes[name], value, "{name}: {span}");
    }
    let (held, whole) = (
        attributes["greenroom.held_ms"].as_f64().unwrap(),
        span["ms"].as_f64().unwrap(),
    );
    assert!(held <= whole && whole < 20_000.0, "{span}");
    let request = collector.got("request", |_| true);
    assert_eq!(
        (&request["path"], &request["type"]),
        (&"/v1/traces".into(), &"application/x-protobuf".into())
    );
    assert_eq!(request["resource"]["service.name"], "greenroom", "{request}");
    assert!(!collector.all().contains("planted"), "{}", collector.all());
    until("it is counted", || spans(&rig, "exported") == 1.0);
}

#[test]
fn who_brings_none_begins_a_trace_and_who_is_not_sampled_keeps_its_own() {
    let (stub, collector) = (Stub::listen(), Collector::start("take"));
    let rig = Rig::start("serve", &config(&stub.address(), &collector.endpoint));
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut unsampled = knock(&rig, &brings("00"));
    let (mut backend, head) = stub.request();
    assert_eq!(place(&head), (TRACE.into(), PARENT.into(), "00".into()), "untouched");
    backend.send(switching(""));
    unsampled.head();

    let mut client = knock(&rig, "traceparent: nonsense\r\ntracestate: stale=1\r\n");
    let (mut backend, head) = stub.request();
    let (trace, ours, flags) = place(&head);
    assert!(trace.len() == 32 && trace != TRACE && flags == "03", "{head}");
    assert_eq!(field(&head, "tracestate"), None, "it is of no trace: {head}");
    backend.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 403 "));
    let span = collector.got("span", |_| true);
    assert_eq!(
        (&span["trace"], &span["span"], &span["parent"]),
        (&trace.into(), &ours.into(), &"".into()),
        "the first is that of the second client: {span}"
    );
    assert_eq!(
        (&span["attributes"]["greenroom.outcome"], &span["error"]),
        (&"passed_on".into(), &false.into())
    );
    assert_eq!(span["attributes"]["http.response.status_code"], 403, "{span}");
}

#[test]
fn who_is_refused_after_its_hold_has_a_span_that_says_so_and_the_last_ones_are_sent_before_the_end() {
    let collector = Collector::start("take");
    let mut rig = Rig::start("serve", &config(&nobody(), &collector.endpoint));
    let mut client = Raw::connect(&rig.address);
    client.send(upgrade(&brings("01")).replacen("/ws", "/short", 1));
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    let mut held = knock(&rig, "");
    rig.held(1);
    rig.greenroom.signal(Signal::TERM);
    assert!(held.head().starts_with("HTTP/1.1 503 "));
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
    let of = |refusal: &'static str| move |span: &Value| span["attributes"]["greenroom.refusal"] == refusal;
    let span = collector.got("span", of("hold_timeout"));
    assert_eq!(
        (&span["error"], &span["name"]),
        (&true.into(), &"websocket /short".into()),
        "{span}"
    );
    let attributes = &span["attributes"];
    assert_eq!(
        (&attributes["greenroom.outcome"], &attributes["greenroom.attempts"]),
        (&"refused".into(), &0.into())
    );
    assert_eq!(attributes["http.response.status_code"], 503, "{span}");
    assert!(attributes["greenroom.held_ms"].as_i64().unwrap() >= 100, "{span}");
    collector.got("span", of("draining"));
}

/// Nobody waits for a collector that is away, answers nothing or refuses; what it does not take is counted and said once.
#[test]
fn a_dead_collector_holds_nobody_up() {
    let (refuses, hangs) = (Collector::start("refuse"), Collector::start("hang"));
    for (endpoint, is_answered) in [
        (format!("http://{}", nobody()), true),
        (refuses.endpoint.clone(), true),
        (hangs.endpoint.clone(), false),
    ] {
        let stub = Stub::listen();
        let mut rig = Rig::start("serve", &config(&stub.address(), &endpoint));
        rig.until("it is ready", |status| status["condition"] == "ready");
        let mut relayed = Vec::new();
        for round in 0..20 {
            let mut client = knock(&rig, &brings("01"));
            let (mut backend, _) = stub.request();
            backend.send(switching(""));
            assert!(client.head().starts_with("HTTP/1.1 101 "), "{endpoint}: {round}");
            relayed.push((client, backend)); // a backend that drops them would be one that is not ready
        }
        if is_answered {
            until("they are lost", || spans(&rig, "failed") == 20.0);
            let told = || {
                let events = rig.greenroom.events();
                let lost = |event: &&Value| {
                    event["message"]
                        .as_str()
                        .is_some_and(|text| text.contains("traces are lost"))
                };
                events.iter().filter(lost).count()
            };
            until("it is said", || told() == 1);
        } else {
            hangs.got("request", |_| true);
        }
        assert_eq!(spans(&rig, "exported"), 0.0);
        drop(relayed);
        let began = Instant::now();
        rig.greenroom.signal(Signal::TERM);
        rig.greenroom.wait_exit_code(SOON);
        assert!(
            began.elapsed() < SOON / 2,
            "{endpoint}: its end takes {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn the_standard_variables_say_where_too_and_without_any_all_passes_untouched() {
    let (stub, collector) = (Stub::listen(), Collector::start("take"));
    let text = config(&stub.address(), "http://a:1");
    let (_, without) = text.split_once("\n\n").unwrap();
    let rig = Rig::with(
        "serve",
        without,
        |_| {},
        |command| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
            command.env("OTEL_SERVICE_NAME", "the-door");
        },
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let _client = knock(&rig, &brings("01"));
    let (mut backend, head) = stub.request();
    let (_, ours, _) = place(&head);
    backend.send(switching(""));
    assert_eq!(collector.got("span", |_| true)["span"], ours);
    assert_eq!(
        collector.got("request", |_| true)["resource"]["service.name"],
        "the-door"
    );

    let stub = Stub::listen();
    let (_, without) = config(&stub.address(), "http://a:1")
        .split_once("\n\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let rig = Rig::with(
        "serve",
        &without,
        |_| {},
        |command| {
            command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        },
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let _client = knock(&rig, &brings("01"));
    let (_backend, head) = stub.request();
    assert_eq!(place(&head), (TRACE.into(), PARENT.into(), "01".into()));
    assert_eq!(field(&head, "tracestate").as_deref(), Some("theirs=1"), "{head}");
}
