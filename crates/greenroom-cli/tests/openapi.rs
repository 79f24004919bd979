//! The OpenAPI document against the API that runs: schemathesis makes requests from the document, right and wrong ones,
//! and looks whether each answer is one that the document tells of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::{
    fixture, python,
    raw::{Raw, Stub, nobody, switching},
    rig::Rig,
};
use serde_json::Value;

const TOKEN: &str = "0123456789abcdef";

#[test]
fn every_answer_is_one_that_the_document_tells_of() {
    let (stub, door) = (Stub::listen(), nobody());
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\nphases = [\"database\"]\n\
         check.database.probe = \"file:{{folder}}/database\"\n\
         [[route]]\nname = \"all\"\n[admin]\naddress = \"{door}\"\ntoken = \"{TOKEN}\"\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    // One that waits, one that was refused, one that is relayed; and one that ended.
    let mut waits = rig.knock("/ws?a=b");
    rig.held(1);
    rig.create("database");
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    waits.head();
    rig.until("it is ready", |status| status["condition"] == "ready");
    let mut page = rig.get("/page");
    stub.request().0.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    page.rest();

    // As it is served, which is as it stands in docs/.
    let served = rig.ask("/v1/openapi.json");
    let (_, served) = served.split_once("\r\n\r\n").unwrap();
    assert_eq!(served, include_str!("../../../docs/openapi.json"));
    let document: Value = serde_json::from_str(served).unwrap();
    let file = rig.folder.join("openapi.json");
    std::fs::write(&file, served).unwrap();

    let report = rig.folder.join("report.json");
    let mut schemathesis = Command::new(python("schemathesis"));
    schemathesis
        .args(["--config-file", &fixture("schemathesis.toml"), "run"])
        .arg(&file)
        .args(["--url", &format!("http://{door}")])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--seed", "1"])
        .args(["--request-timeout", "10", "--continue-on-failure", "--warnings", "off"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .current_dir(&rig.folder) // it keeps a database of examples where it is started
        .env("NO_COLOR", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = schemathesis.output().expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let operations = document["paths"].as_object().unwrap().values();
    let operations: usize = operations.map(|path| path.as_object().unwrap().len()).sum();
    assert!(
        said.contains(&format!("Tested: {operations}\n")),
        "each operation is tried: {said}"
    );

    // It is as well as before, and each change is told of.
    assert_eq!(rig.status()["backend"], "app");
    let changes = rig.streamed("last=4096&event=admin");
    assert!(
        changes.iter().any(|change| change["result"] == "done"),
        "a phase was pushed: {said}"
    );
    assert!(changes.iter().any(|change| change["result"] == "refused"), "{said}");
    drop((waits, backend));
}

#[test]
fn a_page_of_another_site_gets_nothing_done_and_nothing_to_read() {
    let (stub, door) = (Stub::listen(), nobody());
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[admin]\naddress = \"{door}\"\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    rig.until("it is ready", |status| status["condition"] == "ready"); // both doors are open then
    let body = r#"{"phase": "failed"}"#;
    let post = |fields: &str| {
        let mut client = Raw::connect(&door);
        let length = body.len();
        client.send(format!(
            "POST /v1/backends/app/phases HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ));
        client.answer().0
    };
    let host = format!("Host: {door}\r\n");
    for (fields, status) in [
        // What a form or a simple request may send (Fetch §4.8).
        (format!("{host}Content-Type: text/plain\r\n"), 415),
        (
            format!("{host}Content-Type: application/x-www-form-urlencoded\r\n"),
            415,
        ),
        (host.clone(), 415),
        (format!("{host}Content-Type: application/json\r\nOrigin: null\r\n"), 403),
        (
            format!("{host}Content-Type: application/json\r\nSec-Fetch-Site: none\r\n"),
            403,
        ),
        ("Host: evil.test\r\nContent-Type: application/json\r\n".into(), 403),
    ] {
        let head = post(&fields);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {head}");
        assert!(
            !head.to_ascii_lowercase().contains("access-control-"),
            "{fields}: {head}"
        );
    }
    for path in [
        "/v1/events",
        "/v1/openapi.json",
        "/v1/build",
        "/v1/limits",
        "/v1/connections",
    ] {
        let mut client = Raw::connect(&door);
        client.send(format!(
            "GET {path} HTTP/1.1\r\n{host}Origin: http://{door}\r\nConnection: close\r\n\r\n"
        ));
        assert!(client.answer().0.starts_with("HTTP/1.1 403 "), "{path}");
    }
    let told = rig.streamed("last=4096&event=admin");
    assert!(
        told.iter().all(|event| event["result"] == "refused"),
        "nothing was done: {told:?}"
    );
    // At the socket a browser cannot be; whatever Host is said is as good as another.
    let build = rig.ask("/v1/build");
    let features = if cfg!(feature = "otlp") {
        r#""features":["otlp"]"#
    } else {
        r#""features":[]"#
    };
    assert!(
        build.starts_with("HTTP/1.1 200 ") && build.contains(features),
        "{build}"
    );
}
