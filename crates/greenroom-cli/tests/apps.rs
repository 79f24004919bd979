//! Real applications behind `greenroom run`, unchanged, with their own clients and in Chromium.
//!
//! Each is started with a slow start, and its clients come at once, through the start
//! and after it: plain HTTP and WebSocket on one port, held at one gate. None of them
//! tries a second time. See `tests/e2e/README.md` for the applications.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, io::Write as _, path::PathBuf, process::Command, time::Duration};

use common::{
    Greenroom,
    browser::{Browser, Page},
    e2e, fixture, one_at_a_time, process, python,
    script::Script,
};
use serde_json::json;

/// For all that one application's clients do, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn run(cmd: &[&str]) -> (Greenroom, String) {
    let args = [&["run", "--listen", "127.0.0.1:0", "--"], cmd].concat();
    let mut command: Command = Greenroom::command(&args);
    command.env("STARTUP_SECONDS", "1.5");
    let greenroom = Greenroom::spawn(&mut command);
    let url = format!("http://{}", greenroom.address());
    (greenroom, url)
}

fn fastapi() -> (Greenroom, String) {
    let (python, folder) = (python("python"), fixture(""));
    let words = [&python, "-m", "uvicorn", "--app-dir", &folder, "fastapi_site:app"];
    run(&[&words[..], &["--port", "{port}", "--log-level", "warning"]].concat())
}

fn django() -> (Greenroom, String) {
    let (gunicorn, folder) = (python("gunicorn"), fixture(""));
    let words = [&gunicorn, "-k", "gthread", "--threads", "40", "-b", "127.0.0.1:{port}"];
    let rest = ["--no-control-socket", "--chdir", &folder, "django_site:application"];
    run(&[&words[..], &rest].concat())
}

/// Twenty that come over three seconds, and so before, while and after the server becomes ready.
fn through_the_start(scenario: &str, url: &str) -> Script {
    Script::start(scenario, url, 20, 3.0)
}

/// Nobody was sent away, in whichever way.
fn nobody_was_refused(greenroom: &Greenroom) {
    let events = greenroom.events();
    let refused: Vec<_> = events.iter().filter(|event| event["event"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:?}\n{}", greenroom.stderr());
}

#[test]
fn fastapi_serves_pages_events_and_websockets_on_one_port_from_its_first_moment() {
    let _alone = one_at_a_time();
    let (greenroom, url) = fastapi();
    let scripts = [
        through_the_start("get", &format!("{url}/openapi.json")),
        through_the_start("get", &format!("{url}/docs")),
        through_the_start("events", &url),
        through_the_start("websocket", &url),
    ];
    let [api, docs, events, sockets] = scripts.map(|script| script.all_right(PATIENCE));
    for answer in api {
        assert_eq!(answer["status"], 200, "{answer}");
        assert!(answer["body"].as_str().unwrap().contains("/upload"), "{answer}");
    }
    for answer in docs {
        assert!(answer["body"].as_str().unwrap().contains("swagger-ui"), "{answer}");
    }
    for stream in events {
        assert_eq!(stream["pieces"], 5, "{stream}");
        assert!(
            stream["type"].as_str().unwrap().starts_with("text/event-stream"),
            "{stream}"
        );
    }
    assert!(sockets.iter().all(|socket| socket["code"] == 1000), "{sockets:?}");
    nobody_was_refused(&greenroom);
}

/// The most memory that a process ever had resident.
fn peak(greenroom: &Greenroom) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", greenroom.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn uploads_of_100_mb_arrive_whole_and_are_never_kept() {
    let _alone = one_at_a_time();
    let (greenroom, url) = fastapi();
    let before = peak(&greenroom);
    // The first comes while nobody listens: its body waits where it is.
    let uploads = Script::start("upload", &url, 2, 3.0).all_right(PATIENCE);
    for upload in &uploads {
        assert_eq!(upload["bytes"], 100 << 20, "{upload}");
    }
    let growth = peak(&greenroom) - before;
    println!("resident memory grew by {} KiB at its peak", growth / 1024);
    assert!(growth < 64 << 20, "grew by {growth} bytes");
    nobody_was_refused(&greenroom);
}

#[test]
fn the_docs_page_events_and_an_upload_work_in_chromium() {
    let _alone = one_at_a_time();
    let (_greenroom, url) = fastapi();
    let browser = Browser::start();
    let page = browser.page();
    opens(
        &page,
        &format!("{url}/docs"),
        "!!document.querySelector('.opblock-post')",
    );
    let seen = page.eval(
        "new Promise((done, failed) => {
            const source = new EventSource('/events?who=chromium'), numbers = [];
            source.onmessage = ({data}) => {
                numbers.push(JSON.parse(data).number);
                fetch('/seen?who=chromium', {method: 'POST'});
            };
            source.addEventListener('over', () => { source.close(); done(numbers); });
            source.onerror = failed;
        })",
    );
    assert_eq!(seen, json!([0, 1, 2, 3, 4]));
    let same = page.eval(
        "(async () => {
            const bytes = new Uint8Array(3 << 20).map((_, at) => at * 31 >> 8);
            const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
            const form = new FormData();
            form.append('file', new Blob([bytes]), 'a.bin');
            const told = await (await fetch('/upload', {method: 'POST', body: form})).json();
            return told.sha256 === Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
        })()",
    );
    assert_eq!(same, true);
    let echo = page.eval(
        "new Promise((done, failed) => {
            const socket = new WebSocket(`ws://${location.host}/ws`);
            socket.onopen = () => socket.send('hello');
            socket.onmessage = ({data}) => done(data);
            socket.onerror = failed;
        })",
    );
    assert_eq!(echo, "hello");
    assert_eq!(page.problems_from(0).len(), 0, "{:#?}", page.problems_from(0));
}

/// Opens a page of an application that has started, and waits until `holds`; nothing goes wrong on it.
fn opens(page: &Page<'_>, url: &str, holds: &str) {
    // The first look finds the start over: what a person sees meanwhile is another test's.
    Script::start("get", url, 1, 0.0).all_right(PATIENCE);
    page.goto(url);
    page.until(&format!("document.readyState === 'complete' && ({holds})"));
    assert_eq!(page.problems_from(0).len(), 0, "{:#?}", page.problems_from(0));
}

#[test]
fn django_pages_forms_redirects_and_files_work() {
    let _alone = one_at_a_time();
    let (greenroom, url) = django();
    let scripts = [
        through_the_start("get", &format!("{url}/")),
        through_the_start("lines", &url),
        through_the_start("unmodified", &format!("{url}/static/site.css")),
    ];
    let [pages, lines, files] = scripts.map(|script| script.all_right(PATIENCE));
    assert!(pages.iter().all(|page| page["status"] == 200), "{pages:?}");
    assert!(lines.iter().all(|stream| stream["pieces"] == 5), "{lines:?}");
    for file in files {
        assert_eq!(file["status"], 304, "{file}");
        assert_eq!(file["body"], "");
    }
    nobody_was_refused(&greenroom);

    let browser = Browser::start();
    let page = browser.page();
    opens(
        &page,
        &format!("{url}/"),
        "getComputedStyle(document.querySelector('h1')).color === 'rgb(1, 2, 3)'",
    );
    for note in ["one", "two <b>"] {
        page.eval(&format!("document.querySelector('[name=text]').value = '{note}'"));
        // The form of a person: its answer is a redirect, and the next page.
        page.eval("setTimeout(() => document.querySelector('button').click())");
        page.until(&format!(
            "[...document.querySelectorAll('li')].some((li) => li.textContent === '{note}')"
        ));
        assert_eq!(page.eval("location.pathname"), "/");
    }
    assert_eq!(page.problems_from(0).len(), 0, "{:#?}", page.problems_from(0));
    let stolen =
        page.eval("fetch('/add', {method: 'POST', body: new URLSearchParams({text: 'three'})}).then((a) => a.status)");
    assert_eq!(stolen, 403, "without its token a form is refused, by Django");
}

/// A copy of `vite_site` that may be edited; gone when dropped.
struct Site(PathBuf);

impl Site {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("vite-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(fixture("vite_site")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        Self(folder)
    }

    fn words(&self) -> [String; 8] {
        let vite = e2e().join("node/node_modules/vite/bin/vite.js");
        [
            "node".into(),
            vite.to_str().unwrap().into(),
            self.0.to_str().unwrap().into(),
            "--host".into(),
            "127.0.0.1".into(),
            "--port".into(),
            "{port}".into(),
            "--strictPort".into(),
        ]
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_edit_of_a_vite_site_shows_in_chromium_without_a_reload() {
    let _alone = one_at_a_time();
    let site = Site::new("edit");
    let words = site.words();
    let (greenroom, url) = run(&words.each_ref().map(String::as_str));
    let pages = through_the_start("get", &format!("{url}/")).all_right(PATIENCE);
    assert!(pages.iter().all(|page| page["status"] == 200), "{pages:?}");
    let browser = Browser::start();
    let page = browser.page();
    opens(
        &page,
        &format!("{url}/"),
        "document.querySelector('h1').textContent === 'first'",
    );
    // The page falls back to Vite's own port where its socket does not get through: here it does.
    let opened = page.events_from(0).into_iter();
    let sockets: Vec<_> = opened
        .filter(|event| event["method"] == "Network.webSocketCreated")
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    let socket = sockets[0]["params"]["url"].as_str().unwrap().to_owned();
    assert!(socket.starts_with(&url.replace("http", "ws")), "{socket}");

    page.eval("window.mark = 'as it was loaded'");
    fs::write(site.0.join("greeting.js"), "export const greeting = 'second';\n").unwrap();
    page.until("document.querySelector('h1').textContent === 'second'");
    fs::write(site.0.join("style.css"), "h1 { color: rgb(4, 5, 6) }\n").unwrap();
    page.until("getComputedStyle(document.querySelector('h1')).color === 'rgb(4, 5, 6)'");
    assert_eq!(
        page.eval("window.mark"),
        "as it was loaded",
        "the page was never reloaded"
    );
    assert_eq!(page.problems_from(0).len(), 0, "{:#?}", page.problems_from(0));
    nobody_was_refused(&greenroom);
}

#[test]
fn vite_reads_its_terminal_through_greenroom() {
    let _alone = one_at_a_time();
    let site = Site::new("terminal");
    let words = site.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = Greenroom::command(&[&["run", "--listen", "127.0.0.1:0", "--"], &words[..]].concat());
    command.env("STARTUP_SECONDS", "1.5").env("NO_COLOR", "1");
    command.env_remove("CI"); // where it is set Vite reads no keys
    let (mut greenroom, mut keyboard) = Greenroom::spawn_at_terminal(&command);
    for (seen, typed) in [("show help", "h\n"), ("to quit", "q\n")] {
        process::until(seen, || greenroom.stdout().contains(seen));
        keyboard.write_all(typed.as_bytes()).unwrap();
    }
    assert_eq!(greenroom.wait_exit_code(PATIENCE), 0, "{}", greenroom.stdout());
}

#[test]
fn socket_io_polls_upgrades_and_echoes_with_each_of_its_transports() {
    let _alone = one_at_a_time();
    let (greenroom, url) = run(&["node", &fixture("socketio_server.js")]);
    let scripts =
        ["socketio", "socketio_polling", "socketio_websocket"].map(|scenario| through_the_start(scenario, &url));
    let [both, polling, websocket] = scripts.map(|script| script.all_right(PATIENCE));
    let as_told = |results: &[serde_json::Value], first: &str, upgraded: bool, last: &str| {
        let told = json!({"first": first, "upgraded": upgraded, "last": last});
        assert!(results.iter().all(|result| *result == told), "{told}: {results:?}");
    };
    as_told(&both, "polling", true, "websocket");
    as_told(&polling, "polling", false, "polling");
    as_told(&websocket, "websocket", false, "websocket");
    nobody_was_refused(&greenroom);
}

#[test]
fn json_rpc_over_websocket_calls_fails_and_notifies() {
    let _alone = one_at_a_time();
    let (greenroom, url) = run(&["node", &fixture("jsonrpc_server.js")]);
    let results = through_the_start("jsonrpc", &url).all_right(PATIENCE);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["sum"], index + 2);
        assert_eq!(result["code"], 1000, "{result}");
    }
    nobody_was_refused(&greenroom);
}
