//! The set-ups of docs/readiness.md, as they stand there: each that can run here runs behind the real program, with
//! clients that come too early; each configuration is checked, each other file parsed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{Clients, Greenroom, Ledger, e2e, one_at_a_time, python, rig::Rig, script::Script};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

/// A fenced block of the document.
struct Block {
    /// The heading that it stands below.
    section: String,
    language: String,
    /// What its first line says: `# app.py`, `// server.js`; empty where that is no name.
    name: String,
    text: String,
}

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(name)).unwrap()
}

fn blocks(document: &str) -> Vec<Block> {
    let (mut found, mut section) = (Vec::new(), String::new());
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("##") {
            section = heading.trim_start_matches(['#', ' ']).into();
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let first = body.first().copied().unwrap_or_default();
        let name = first.strip_prefix("# ").or_else(|| first.strip_prefix("// "));
        found.push(Block {
            section: section.clone(),
            language: language.into(),
            name: name.filter(|name| !name.contains(' ')).unwrap_or_default().into(),
            text: body.join("\n") + "\n",
        });
    }
    found
}

/// The files of one set-up, by name.
fn files(section: &str) -> BTreeMap<String, String> {
    let all = blocks(&document("docs/readiness.md"));
    let of = all
        .into_iter()
        .filter(|block| block.section == section && !block.name.is_empty());
    let files: BTreeMap<_, _> = of.map(|block| (block.name, block.text)).collect();
    assert!(!files.is_empty(), "docs/readiness.md has no set-up {section:?}");
    files
}

/// Writes the files of a set-up and runs it as its document says; only where clients come to is another place.
fn run(section: &str, before: impl FnOnce(&Path)) -> Rig {
    let ledger = Ledger::new();
    let folder = ledger.beside("");
    before(&folder);
    for (name, text) in files(section) {
        fs::write(folder.join(name), text).unwrap();
    }
    let mut command = Greenroom::command(&["run", "--config", "greenroom.toml", "--listen", "127.0.0.1:0"]);
    let own = Path::new(env!("CARGO_BIN_EXE_greenroom")).parent().unwrap();
    let path = std::env::join_paths(
        [own.to_owned(), e2e().join("venv/bin")]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    command
        .current_dir(&folder)
        .env("PATH", path.unwrap())
        .env("XDG_RUNTIME_DIR", &folder)
        .env("HOME", &folder); // gunicorn has a socket there, one for all gunicorns
    let greenroom = Greenroom::spawn(&mut command);
    let address = greenroom.address();
    Rig {
        greenroom,
        address,
        ledger,
        folder,
    }
}

/// The states of the phases in `greenroom status --json`.
fn phases(status: &Value) -> Vec<(&str, &str)> {
    let phases = status["phases"].as_array().unwrap();
    phases
        .iter()
        .map(|phase| (phase["phase"].as_str().unwrap(), phase["state"].as_str().unwrap()))
        .collect()
}

/// Nobody was sent away, and who was let in came in the order of arrival.
fn all_in_in_order(rig: &Rig) {
    let events = rig.greenroom.events();
    assert!(
        !events.iter().any(|event| event["event"] == "refused"),
        "{}",
        rig.greenroom.stderr()
    );
    let released = events.iter().filter(|event| event["event"] == "released");
    let sessions: Vec<_> = released.map(|event| event["session"].as_u64().unwrap()).collect();
    assert!(sessions.len() >= 5, "they came early: {sessions:?}");
    assert!(sessions.is_sorted(), "{sessions:?}");
}

#[test]
fn fastapi_under_uvicorn_takes_early_clients_and_shows_its_phases() {
    let _alone = one_at_a_time();
    let rig = run("FastAPI, uvicorn", |_| {});
    let clients = Script::start("websocket", &format!("http://{}", rig.address), 20, 3.0);
    let pages = Script::start("get", &format!("http://{}/health", rig.address), 10, 3.0);
    rig.until("the models are loaded", |status| {
        phases(status) == [("database", "finished"), ("models", "current")]
    });
    let sockets = clients.all_right(PATIENCE);
    assert!(sockets.iter().all(|socket| socket["code"] == 1000), "{sockets:?}");
    for page in pages.all_right(PATIENCE) {
        assert_eq!(page["body"], "{\"ready\":true}", "{page}");
    }
    let status = rig.status();
    assert_eq!(phases(&status), [("database", "finished"), ("models", "finished")]);
    all_in_in_order(&rig);
}

#[test]
fn django_under_gunicorn_takes_early_clients_and_shows_its_phases() {
    let _alone = one_at_a_time();
    let rig = run("Django, gunicorn", |folder| {
        let made = Command::new(python("django-admin"))
            .args(["startproject", "mysite", "."])
            .current_dir(folder)
            .status();
        assert!(made.unwrap().success());
    });
    let pages = Script::start("get", &format!("http://{}/healthz", rig.address), 20, 2.0);
    rig.until("it is migrated", |status| {
        phases(status).first() == Some(&("migrations", "finished"))
    });
    for page in pages.all_right(PATIENCE) {
        assert_eq!((&page["status"], &page["body"]), (&json!(200), &json!("ok\n")));
    }
    assert!(rig.folder.join("db.sqlite3").exists(), "its database was made");
    let status = rig.status();
    assert_eq!(phases(&status), [("migrations", "finished"), ("workers", "skipped")]);
    all_in_in_order(&rig);
}

#[test]
fn node_takes_early_clients_and_shows_its_phases() {
    let _alone = one_at_a_time();
    let rig = run("Node", |_| {});
    let mut clients = Clients::start(&rig.address, 20, 3.0, &[]);
    let pages = Script::start("get", &format!("http://{}/", rig.address), 10, 3.0);
    rig.until("the cache is warmed", |status| {
        phases(status) == [("database", "finished"), ("cache", "current"), ("listening", "coming")]
    });
    clients.all_right(PATIENCE);
    for page in pages.all_right(PATIENCE) {
        assert_eq!(page["body"], "hello\n", "{page}");
    }
    let status = rig.status();
    let finished = ["database", "cache", "listening"].map(|phase| (phase, "finished"));
    assert_eq!(phases(&status), finished);
    let ready = rig.greenroom.wait_for_event("ready", PATIENCE);
    assert_eq!(ready["by"], "admin");
    all_in_in_order(&rig);
}

/// A folder for files of a test; gone when dropped.
fn place() -> (Ledger, PathBuf) {
    let ledger = Ledger::new();
    let folder = ledger.beside("");
    (ledger, folder)
}

/// Whether `greenroom check` has nothing to say against a configuration.
fn is_sound(name: &str, text: &str) {
    let (_ledger, folder) = place();
    let file = folder.join("greenroom.toml");
    fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    let said = check.arg("check").arg(&file).output().unwrap();
    assert!(
        said.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn every_configuration_of_the_documents_is_sound() {
    let mut count = 0;
    for name in ["docs/readiness.md", "README.md"] {
        let is_toml = |block: &Block| block.language == "toml";
        for block in blocks(&document(name)).into_iter().filter(is_toml) {
            is_sound(&format!("{name}, {}", block.section), &block.text);
            count += 1;
        }
    }
    assert!(count >= 11, "they were found: {count}");
}

/// The documents of a YAML file, as JSON.
fn yaml(text: &str) -> Vec<Value> {
    let (_ledger, folder) = place();
    let file = folder.join("file.yaml");
    fs::write(&file, text).unwrap();
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let parsed = Command::new(python("python"))
        .args(["-c", script])
        .arg(&file)
        .output()
        .unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    serde_json::from_slice(&parsed.stdout).unwrap()
}

/// Whether the probes of a container ask greenroom, below its prefix, at its port.
fn asks_greenroom(container: &Value, prefix: &str, probes: &[&str]) {
    for probe in probes {
        let get = &container[format!("{probe}Probe")]["httpGet"];
        assert_eq!(get["port"], container["ports"][0]["containerPort"], "{container}");
        let path = get["path"].as_str().unwrap().strip_prefix(prefix).unwrap();
        assert!(["/livez", "/readyz", "/startupz"].contains(&path), "{path}");
    }
}

#[test]
fn kubernetes_gets_objects_that_fit_together() {
    let objects = yaml(&files("Kubernetes")["chat.yaml"]);
    let [map, deployment, service] = objects.as_slice() else {
        panic!("three objects: {objects:?}")
    };
    let config = map["data"]["greenroom.toml"].as_str().unwrap();
    is_sound("Kubernetes", config);
    assert!(config.contains("health_prefix = \"/-/greenroom\"") && config.contains("grace = \"10s\""));
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    asks_greenroom(container, "/-/greenroom", &["readiness", "liveness"]);
    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert!(config.contains(&format!("address = \"0.0.0.0:{port}\"")));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port);
    for labels in [&pod["metadata"]["labels"], &service["spec"]["selector"]] {
        assert_eq!(*labels, deployment["spec"]["selector"]["matchLabels"]);
    }
    let volume = &pod["spec"]["volumes"][0];
    assert_eq!(volume["configMap"]["name"], map["metadata"]["name"]);
    assert_eq!(volume["name"], container["volumeMounts"][0]["name"]);
    let folder = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert_eq!(container["command"][3], format!("{folder}/greenroom.toml"));
    assert!(pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() > 2 * 10);
}

#[test]
fn cloud_run_gets_a_service_whose_probe_asks_greenroom() {
    let files = files("Cloud Run");
    let services = yaml(&files["service.yaml"]);
    let container = &services[0]["spec"]["template"]["spec"]["containers"][0];
    assert!(files["greenroom.toml"].contains("health_prefix = \"/-/greenroom\""));
    assert!(!files["greenroom.toml"].contains("[listener"), "PORT decides");
    asks_greenroom(container, "/-/greenroom", &["startup"]);
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let files = files("systemd");
    let (unit, config) = (
        &files["/etc/systemd/system/chat.service"],
        &files["/etc/greenroom/chat.toml"],
    );
    for (line, needs) in [
        ("RuntimeDirectory=greenroom", "socket = \"/run/greenroom/"),
        ("StateDirectory=greenroom", "state_dir = \"/var/lib/greenroom\""),
        ("--config /etc/greenroom/chat.toml", ""),
        ("TimeoutStopSec=25", "grace = \"10s\""),
    ] {
        assert!(unit.contains(line) && config.contains(needs), "{line}: {needs}");
    }
    let (_ledger, folder) = place();
    let file = folder.join("chat.service");
    // Where it is installed it is executable; here that is asked of the program under test.
    let here = unit.replace("/usr/local/bin/greenroom", env!("CARGO_BIN_EXE_greenroom"));
    fs::write(&file, here).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(said) => {
            let words = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success() && !words.contains("chat.service"), "{words}");
        }
        // No part of the packages of these tests: a machine without systemd has it not.
        Err(error) => println!("systemd-analyze cannot be run ({error}): the unit was only read"),
    }
}
