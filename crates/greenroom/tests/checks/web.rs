//! `http` and `websocket` against uvicorn and Node.

use std::process::{Command, Stdio};
use std::time::Duration;

use greenroom::config::{Address, HttpProbe, Pattern};
use greenroom::probe::{Probe, Verdict, Why};

use crate::servers::{Folder, Server, UP, becomes, e2e, fixture};

fn uvicorn(folder: &Folder) -> Server {
    let mut uvicorn = Command::new(e2e("venv/bin/python"));
    uvicorn
        .args(["-m", "uvicorn", "--log-level", "warning", "checks_app:app", "--app-dir"])
        .arg(fixture(""));
    uvicorn
        .arg("--uds")
        .arg(folder.path("app.sock"))
        .env("PHASES", folder.path("phases"));
    Server::start(uvicorn.env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn node(folder: &Folder, pongs: &str) -> Server {
    let mut node = Command::new("node");
    node.arg(fixture("checks_node.js"))
        .env("NODE_PATH", e2e("node/node_modules"));
    node.env("SOCKET", folder.path("app.sock")).env("PONGS", pongs);
    Server::start(node.stdout(Stdio::null()))
}

fn expect(path: &str) -> HttpProbe {
    HttpProbe {
        address: None,
        path: path.into(),
        host: None,
        status: (200, 399),
        body: None,
        pointer: None,
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    Some(Pattern(regex::Regex::new(text).unwrap()))
}

fn pointer(path: &str, pointer: &str) -> HttpProbe {
    HttpProbe {
        pointer: Some(pointer.into()),
        ..expect(path)
    }
}

async fn asked(address: &Address, expected: HttpProbe) -> Verdict {
    Probe::http_as(address, &expected).once().await
}

#[tokio::test]
async fn uvicorn_is_asked_for_its_phase_and_a_websocket() {
    let folder = Folder::new();
    let address = folder.socket("app.sock");
    let finished = |phase: &str| std::fs::write(folder.path("phases"), phase).unwrap();
    finished("");
    let server = uvicorn(&folder);
    becomes(Probe::http(&address, "/plain", None), UP).await;

    let mut startup = Probe::http_as(&address, &pointer("/startup", "/start/finished"));
    for (phase, verdict) in [
        ("", Verdict::Down(Why::Status(503))),
        ("database", Verdict::Down(Why::Status(503))),
        ("complete", UP),
    ] {
        finished(phase);
        let look = startup.look().await;
        assert_eq!(look.verdict, verdict, "{phase}");
        assert_eq!(
            look.phase.as_deref().unwrap_or_default(),
            phase,
            "told also beside a 503"
        );
    }
    assert_eq!(
        asked(&address, pointer("/startup", "/start")).await,
        Verdict::Down(Why::NoPhase)
    );
    let no_json = asked(&address, pointer("/plain", "/start")).await;
    assert_eq!(no_json, Verdict::Down(Why::Nonsense("its body is not JSON")));

    let mut websocket = Probe::websocket_ping(&address, "/ws", None);
    assert_eq!(websocket.once().await, UP);
    let nowhere = Probe::websocket(&address, "/none", None).once().await;
    assert_eq!(nowhere, Verdict::Down(Why::Status(403)), "uvicorn's own answer");
    server.end();
    assert_eq!(websocket.once().await, Verdict::Down(Why::Refused), "gone");
}

#[tokio::test]
async fn uvicorn_is_asked_for_status_and_body() {
    let folder = Folder::new();
    let address = folder.socket("app.sock");
    std::fs::write(folder.path("phases"), "complete").unwrap();
    let _server = uvicorn(&folder);
    becomes(Probe::http(&address, "/plain", None), UP).await;
    let body = |path: &str, text: &str| HttpProbe {
        body: pattern(text),
        ..expect(path)
    };
    assert_eq!(
        asked(&address, body("/plain", "^finished: complete$")).await,
        UP,
        "in two chunks"
    );
    assert_eq!(
        asked(&address, body("/plain", "^finished: cache$")).await,
        Verdict::Down(Why::NoMatch)
    );
    assert_eq!(asked(&address, body("/endless", "^x+$")).await, UP, "in what was read");
    assert_eq!(
        asked(&address, body("/endless", "y")).await,
        Verdict::Down(Why::NoMatch)
    );
    assert_eq!(
        asked(&address, pointer("/endless", "")).await,
        Verdict::Down(Why::TooLong)
    );

    let status = |path: &str, status: (u16, u16)| HttpProbe { status, ..expect(path) };
    assert_eq!(
        asked(&address, status("/moved", (200, 399))).await,
        UP,
        "and not followed"
    );
    assert_eq!(
        asked(&address, status("/moved", (200, 299))).await,
        Verdict::Down(Why::Status(307))
    );
    assert_eq!(asked(&address, status("/none", (404, 404))).await, UP);
}

#[tokio::test]
async fn node_is_asked_by_its_host_and_answers_pings() {
    let folder = Folder::new();
    let address = folder.socket("app.sock");
    let server = node(&folder, "yes");
    becomes(Probe::http(&address, "/", None), UP).await;
    let named = HttpProbe {
        host: Some("app.example".into()),
        body: pattern(r#""host": "app\.example""#),
        ..pointer("/", "/steps/0/name")
    };
    let look = Probe::http_as(&address, &named).look().await;
    assert_eq!((look.verdict, look.phase.as_deref()), (UP, Some("cache")));
    let mut websocket = Probe::websocket_ping(&address, "/", None);
    assert_eq!(websocket.once().await, UP, "behind a greeting of 20 kB");
    server.end();
    assert_eq!(websocket.once().await, Verdict::Down(Why::Refused), "gone");
}

#[tokio::test]
async fn a_node_that_answers_no_ping_is_down_only_for_who_asks() {
    let folder = Folder::new();
    let address = folder.socket("app.sock");
    let _server = node(&folder, "no");
    becomes(Probe::websocket(&address, "/", None), UP).await;
    let short = Duration::from_millis(500);
    let mut pinged = Probe::websocket_ping(&address, "/", None).with_timeout(short);
    assert_eq!(pinged.once().await, Verdict::Down(Why::TimedOut));
}
