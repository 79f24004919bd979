//! What a scrape says, how it is written, and that dashboard, alerts and docs speak of nothing else.
//!
//! The pages are read by parsers that are not greenroom's: Prometheus' own for Python, and `promtool`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{
    e2e, fixture,
    process::until,
    python,
    raw::{Raw, SOON, Stub, frame, masked, switching},
    rig::Rig,
    scraping::{scrape, text, value},
};
use serde_json::Value;

/// What Prometheus sends; what VictoriaMetrics does.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const VICTORIA: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// A backend with phases and a check, and one that is never ready; neither listens, as the test is the first one's server.
fn world(stub: &Stub) -> Rig {
    let process =
        |backend: &str| format!("[backend.{backend}.process]\ncommand = [\"tail\", \"-f\", \"/dev/null\"]\n\n");
    let (app, other, address) = (process("app"), process("other"), stub.address());
    let config = format!(
        "[backend.app]\naddress = \"{address}\"\nready = \"notify\"\nphases = [\"database\", \"warm\"]\n\n{app}\
         [backend.app.check.cache]\nprobe = \"file:{{folder}}/cache\"\ninterval = \"20ms\"\ncritical = false\n\n\
         [backend.other]\naddress = \"127.0.0.1:1\"\nready = \"notify\"\n\n{other}\
         [[route]]\npath = \"/other\"\nbackend = \"other\"\nhold = \"accept\"\n\n\
         [[route]]\npath = \"/short\"\nbackend = \"other\"\nhold_timeout = \"200ms\"\n\n\
         [[route]]\nbackend = \"app\"\n\n"
    );
    let rig = Rig::start("run", &config);
    for backend in ["app", "other"] {
        let is_started = |event: &Value| event["event"] == "started" && event["backend"] == backend;
        rig.greenroom.wait_for(is_started, SOON); // what is said of no life counts for none
    }
    rig
}

/// Both pages, read by a parser that is not ours.
fn linted(rig: &Rig) -> Value {
    let (plain, open) = (rig.folder.join("text"), rig.folder.join("open"));
    let accept = |what: &str| format!("Accept: {what}\r\n");
    fs::write(&plain, scrape(rig, &accept(VICTORIA)).1).unwrap();
    fs::write(&open, scrape(rig, &accept(PROMETHEUS)).1).unwrap();
    let mut lint = Command::new(python("python"));
    let said = lint
        .arg(fixture("metrics_lint.py"))
        .args([&plain, &open])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

/// `promtool`, as `cargo xtask setup` left it: the machine's, or one of its own.
fn promtool() -> Command {
    let own = e2e().join("promtool");
    Command::new(if own.is_file() { own } else { PathBuf::from("promtool") })
}

fn promtool_agrees(args: &[&str], input: &str) {
    let mut child = promtool()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: run `cargo xtask setup`");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    let is_wrong = !said.status.success() || (args == ["check", "metrics"] && !words.trim().is_empty());
    assert!(!is_wrong, "promtool {args:?}: {words}");
}

/// Brings about one of all that is counted.
fn lived(stub: &Stub, rig: &Rig) -> (Raw, Raw) {
    let mut client = rig.knock("/ws");
    rig.held(1);
    for phase in ["database", "warm", "ready"] {
        rig.tell(&["phase", "--backend", "app", phase]);
    }
    let (mut backend, _) = stub.request();
    backend.send(switching(""));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    (client, backend)
}

#[test]
fn both_formats_are_read_by_others_without_a_complaint() {
    let stub = Stub::listen();
    let rig = world(&stub);
    let relayed = lived(&stub, &rig);
    let mut accepted = rig.knock("/other");
    assert!(accepted.head().starts_with("HTTP/1.1 101 "));
    let told = linted(&rig);
    assert_eq!(told["wrong"], serde_json::json!([]));
    let families = told["families"].as_object().unwrap();
    assert!(families.len() > 40, "{}", families.len());
    promtool_agrees(&["check", "metrics"], &text(&rig));
    drop(relayed);
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let stub = Stub::listen();
    let rig = world(&stub);
    for (accept, kind, is_open) in [
        (
            format!("Accept: {PROMETHEUS}\r\n"),
            "application/openmetrics-text; version=1.0.0",
            true,
        ),
        (format!("Accept: {VICTORIA}\r\n"), "text/plain; version=0.0.4", false),
        ("Accept: */*\r\n".into(), "text/plain; version=0.0.4", false),
        (String::new(), "text/plain; version=0.0.4", false),
    ] {
        let (head, body) = scrape(&rig, &accept);
        let expected = format!("content-type: {kind}; charset=utf-8");
        assert!(head.to_lowercase().contains(&expected), "{accept}{head}");
        assert_eq!(body.ends_with("# EOF\n"), is_open, "{accept}");
        let counter = if is_open {
            "# TYPE greenroom_holds counter"
        } else {
            "# TYPE greenroom_holds_total counter"
        };
        assert!(body.lines().any(|line| line == counter), "{accept}");
    }
}

/// What a scrape says when one client was held, let in, and has gone.
const ONCE: &[(&str, f64)] = &[
    ("greenroom_holds_total{backend=\"app\"}", 1.0),
    ("greenroom_releases_total{backend=\"app\"}", 1.0),
    ("greenroom_dials_total{backend=\"app\",answer=\"switched\"}", 1.0),
    ("greenroom_dials_total{backend=\"other\",answer=\"switched\"}", 0.0),
    ("greenroom_accepted_total", 1.0),
    ("greenroom_gate{backend=\"other\",state=\"shut\"}", 1.0),
    ("greenroom_backend_degraded_level{backend=\"app\"}", 4.0),
    ("greenroom_admin_requests_total{door=\"socket\",class=\"4xx\"}", 0.0),
    ("greenroom_start_failures_total{backend=\"app\"}", 0.0),
    ("greenroom_log_lines_dropped_total", 0.0),
];

#[test]
fn what_happened_is_counted_once_by_its_name() {
    let stub = Stub::listen();
    let rig = world(&stub);
    let (mut client, mut backend) = lived(&stub, &rig);
    for length in [5, 6] {
        client.send(masked(0x81, &vec![b'a'; length]));
        assert_eq!(backend.frame().1.len(), length);
    }
    backend.send(frame(0x82, &[7; 100]));
    assert_eq!(client.frame().1.len(), 100);
    let traffic = |page: &str| {
        ["bytes", "messages"].map(|what| {
            ["client", "backend"].map(|from| {
                value(
                    page,
                    &format!("greenroom_relayed_{what}_total{{backend=\"app\",from=\"{from}\"}}"),
                )
            })
        })
    };
    // A frame of 5 and one of 6 with 6 bytes of head each; one of 100 with 2.
    let expected = [[23.0, 102.0], [2.0, 1.0]];
    until("it is counted", || traffic(&text(&rig)) == expected);
    let page = text(&rig);
    for (state, expected) in [("open", 1.0), ("shut", 0.0), ("limited", 0.0), ("failed", 0.0)] {
        let sample = format!("greenroom_gate{{backend=\"app\",state=\"{state}\"}}");
        assert_eq!(value(&page, &sample), expected, "{sample}");
    }
    drop((client, backend));
    until("it is over", || {
        value(&text(&rig), "greenroom_connections{state=\"relaying\"}") == 0.0
    });
    let page = text(&rig);
    assert_eq!(traffic(&page), expected, "what is over stays counted");
    let waits = |outcome: &str| {
        let labels = format!("{{backend=\"app\",outcome=\"{outcome}\"}}");
        value(&page, &format!("greenroom_wait_seconds_count{labels}"))
    };
    assert_eq!([waits("let_in"), waits("refused"), waits("left")], [1.0, 0.0, 0.0]);
    for (sample, expected) in ONCE {
        assert_eq!(value(&page, sample), *expected, "{sample}");
    }
    for phase in ["database", "warm"] {
        let took = value(
            &page,
            &format!("greenroom_phase_last_seconds{{backend=\"app\",phase=\"{phase}\"}}"),
        );
        assert!((0.0..20.0).contains(&took));
    }
    rig.ask("/nothing");
    assert_eq!(
        value(
            &text(&rig),
            "greenroom_admin_requests_total{door=\"socket\",class=\"4xx\"}"
        ),
        1.0
    );
    rig.tell(&["phase", "--backend", "app", "failed"]);
    until("it has failed", || {
        value(&text(&rig), "greenroom_start_failures_total{backend=\"app\"}") == 1.0
    });
}

#[test]
fn who_is_refused_or_leaves_has_waited_too_and_early_bytes_are_of_their_backend() {
    let stub = Stub::listen();
    let rig = world(&stub);
    let mut accepted = rig.knock("/other");
    assert!(accepted.head().starts_with("HTTP/1.1 101 "));
    accepted.send(masked(0x82, &[7; 5_000]));
    let early =
        |page: &str, backend: &str| value(page, &format!("greenroom_backend_early_bytes{{backend=\"{backend}\"}}"));
    until("it is kept", || early(&text(&rig), "other") >= 5_000.0);
    let page = text(&rig);
    assert_eq!(early(&page, "app"), 0.0);
    assert_eq!(early(&page, "other"), value(&page, "greenroom_early_bytes"));
    assert_eq!(
        value(&page, "greenroom_held{backend=\"other\",kind=\"websocket\"}"),
        1.0
    );
    accepted.reset();
    until("it has left", || {
        let left = "greenroom_wait_seconds_count{backend=\"other\",outcome=\"left\"}";
        value(&text(&rig), left) == 1.0
    });
    until("its memory is free", || early(&text(&rig), "other") == 0.0);
    let mut refused = rig.knock("/short");
    assert!(refused.head().starts_with("HTTP/1.1 503 "));
    let waited = |what: &str| format!("greenroom_wait_seconds_{what}{{backend=\"other\",outcome=\"refused\"");
    until("it was refused", || value(&text(&rig), &(waited("count") + "}")) == 1.0);
    let page = text(&rig);
    let sum = value(&page, &(waited("sum") + "}"));
    assert!((0.2..20.0).contains(&sum), "{sum}");
    assert_eq!(value(&page, &(waited("bucket") + ",le=\"0.1\"}")), 0.0);
    assert_eq!(value(&page, &(waited("bucket") + ",le=\"+Inf\"}")), 1.0);
    assert_eq!(
        value(&text(&rig), "greenroom_refused_total{refusal=\"hold_timeout\"}"),
        1.0
    );
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Names that a query may use, with the labels that there are beside `le`.
fn queried(families: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut names = BTreeMap::new();
    for (name, family) in families.as_object().unwrap() {
        let labels = family["labels"].as_array().unwrap().iter();
        let labels: BTreeSet<String> = labels.map(|label| label.as_str().unwrap().to_owned()).collect();
        let suffixes: &[&str] = match family["type"].as_str().unwrap() {
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for suffix in suffixes {
            names.insert(format!("{name}{suffix}"), labels.clone());
        }
    }
    names
}

/// The names of greenroom's metrics, and of its process, that a text speaks of.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !word(c));
    let ours = |word: &&str| word.starts_with("greenroom_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// Each `label=`, `by (label` and so on that is none of a metric that there is would find nothing.
fn labels_are_known(expression: &str, names: &BTreeMap<String, BTreeSet<String>>) {
    for (name, labels) in names {
        for (at, _) in expression.match_indices(&format!("{name}{{")) {
            let selector = &expression[at + name.len() + 1..];
            let selector = &selector[..selector.find('}').unwrap()];
            for pair in selector.split(",").filter(|pair| pair.contains('=')) {
                let label = pair.split(['=', '!']).next().unwrap().trim();
                let is_known = labels.contains(label) || ["instance", "job"].contains(&label);
                assert!(is_known, "{name} has no label {label}: {expression}");
            }
        }
    }
}

/// All queries of the dashboard, by the panel's title.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap().to_owned();
            all.push((title, target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for note in dashboard["annotations"]["list"].as_array().unwrap() {
        all.push((
            note["name"].as_str().unwrap().into(),
            note["expr"].as_str().unwrap().into(),
        ));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").unwrap();
            all.push((
                variable["name"].as_str().unwrap().into(),
                inner.rsplit_once(',').unwrap().0.into(),
            ));
        }
    }
    all
}

#[test]
fn dashboard_alerts_and_docs_speak_of_metrics_that_there_are() {
    let stub = Stub::listen();
    let rig = world(&stub);
    let relayed = lived(&stub, &rig);
    let mut other = rig.knock("/other");
    assert!(other.head().starts_with("HTTP/1.1 101 "));
    let told = linted(&rig);
    let mut families = told["families"].clone();
    // What has no sample now has labels all the same.
    families["greenroom_phase_current_seconds"]["labels"] = serde_json::json!(["backend", "phase"]);
    families["greenroom_start_usual_seconds"]["labels"] = serde_json::json!(["backend", "percentile"]);
    let names = queried(&families);
    let read = |name: &str| fs::read_to_string(docs().join(name)).unwrap();

    for file in [
        "alerts.yml",
        "metrics.md",
        "grafana/greenroom.json",
        "readiness.md",
        "connections.md",
    ] {
        for word in spoken_of(&read(file)) {
            let is_there = names.contains_key(&word) || families.get(&word).is_some();
            assert!(is_there, "docs/{file} speaks of {word}, which no scrape has");
        }
    }
    let dashboard: Value = serde_json::from_str(&read("grafana/greenroom.json")).unwrap();
    for (title, query) in queries(&dashboard) {
        for word in spoken_of(&query) {
            assert!(names.contains_key(&word), "{title}: {word} is in no scrape");
        }
        labels_are_known(&query, &names);
    }
    for line in read("alerts.yml").lines() {
        labels_are_known(line, &names);
    }
    is_table(&families);
    drop((relayed, other));
}

/// The table of docs/metrics.md names each family, its labels and its help, and nothing else.
fn is_table(families: &Value) {
    let mut table = String::from("\n| metric | type | labels | is |\n|---|---|---|---|\n");
    for (name, family) in families.as_object().unwrap() {
        let kind = family["type"].as_str().unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = family["labels"].as_array().unwrap().iter();
        let labels: Vec<String> = labels.map(|label| format!("`{}`", label.as_str().unwrap())).collect();
        let labels = if labels.is_empty() {
            "–".into()
        } else {
            labels.join(", ")
        };
        let help = family["help"].as_str().unwrap().trim_end_matches('.');
        writeln!(table, "| `{name}{suffix}` | {kind} | {labels} | {help} |").unwrap();
    }
    table.push('\n');
    let path = docs().join("metrics.md");
    let page = fs::read_to_string(&path).unwrap();
    let begin = page.find("UPDATE_DOCS=1 writes it -->\n").unwrap() + "UPDATE_DOCS=1 writes it -->\n".len();
    let end = page.find("<!-- end of the table -->").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{}{table}{}", &page[..begin], &page[end..])).unwrap();
        return;
    }
    assert!(
        page[begin..end] == table,
        "docs/metrics.md is not up to date: UPDATE_DOCS=1 cargo test -p greenroom-cli --test metrics"
    );
}

#[test]
fn the_dashboard_is_whole_and_its_queries_are_promql() {
    let text = fs::read_to_string(docs().join("grafana/greenroom.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let kinds = ["row", "timeseries", "stat", "bargauge", "heatmap"];
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(kinds.contains(&panel["type"].as_str().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is outside of the grid");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} lies over another panel at {place:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(
            panel["datasource"]["uid"], "${datasource}",
            "{title}: the data source is a variable"
        );
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let refs: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && refs.len() == targets.len(), "{title}");
    }
    // As rules, with what Grafana puts in: so promtool reads each.
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (index, (_, query)) in queries(&dashboard).iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h");
        let query = query.replace("$instance", ".*").replace("$backend", ".*");
        assert!(!query.contains('$'), "{query}");
        writeln!(
            rules,
            "      - record: dashboard:query:{index}\n        expr: {}",
            serde_json::to_string(&query).unwrap()
        )
        .unwrap();
    }
    let folder = common::Ledger::new();
    let file = folder.beside("dashboard.yml");
    fs::write(&file, rules).unwrap();
    promtool_agrees(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn the_alert_rules_are_rules_and_fire_when_they_should() {
    let rules = docs().join("alerts.yml");
    promtool_agrees(&["check", "rules", rules.to_str().unwrap()], "");
    let test = fs::read_to_string(fixture("alerts_test.yml")).unwrap();
    let folder = common::Ledger::new();
    let file = folder.beside("alerts_test.yml");
    fs::write(&file, test.replace("RULES", rules.to_str().unwrap())).unwrap();
    promtool_agrees(&["test", "rules", file.to_str().unwrap()], "");
    let text = fs::read_to_string(rules).unwrap();
    let count = |what: &str| text.matches(what).count();
    let alerts = count("- alert:");
    for each in ["severity:", "summary:", "description:", "expr:"] {
        assert_eq!(count(each), alerts, "each rule has its {each}");
    }
}
