//! What routes need of their backend, how it is told and asked, and who may: through the real program, with backends
//! of which the test writes every byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Instant};

use common::{
    process,
    raw::{Raw, SOON, Stub, field, frame, masked, nobody, switching},
    rig::Rig,
};
use rustix::process::Signal;

/// Two checks of files: without `database` it is not ready, without `cache` or `bus` it is degraded.
fn backend(stub: &Stub) -> String {
    format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n\
         [backend.app.check.database]\nprobe = \"file:{{folder}}/database\"\ninterval = \"20ms\"\n\n\
         [backend.app.check.cache]\nprobe = \"file:{{folder}}/cache\"\ninterval = \"20ms\"\ncritical = false\nweight = 3\nfall = 1\n\n\
         [backend.app.check.bus]\nprobe = \"file:{{folder}}/bus\"\ninterval = \"20ms\"\ncritical = false\nfall = 1\n\n",
        stub.address()
    )
}

/// Which files are there before greenroom starts.
fn with(stub: &Stub, more: &str, files: &[&str]) -> Rig {
    let create = |folder: &std::path::Path| {
        for file in files {
            fs::write(folder.join(file), "").unwrap();
        }
    };
    Rig::with("serve", &format!("{}{more}", backend(stub)), create, |_| {})
}

/// The next client at the backend: its connection, its number, its head.
fn next(stub: &Stub) -> (Raw, u64, String) {
    let (raw, head) = stub.request();
    let session = field(&head, "greenroom-session").unwrap().parse().unwrap();
    (raw, session, head)
}

fn opened(client: &mut Raw, backend: &mut Raw) -> String {
    backend.send(switching(""));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    head
}

#[test]
fn a_route_that_requires_less_lets_in_earlier_and_the_order_of_the_others_stays() {
    let stub = Stub::listen();
    let routes =
        "[[route]]\nname = \"prices\"\npath = \"/prices\"\nrequire = [\"cache\"]\n\n[[route]]\nname = \"all\"\n";
    let rig = with(&stub, routes, &[]);
    let mut first = rig.knock("/ws");
    rig.held(1);
    let mut prices = rig.knock("/prices/live");
    rig.held(2);
    let mut third = rig.knock("/ws");
    rig.held(3);
    assert!(stub.nobody_came());

    rig.create("cache");
    let (mut backend, session, head) = next(&stub);
    assert_eq!(session, 2, "{head}");
    assert!(head.starts_with("GET /prices/live "), "{head}");
    opened(&mut prices, &mut backend);
    let status = rig.status();
    assert_eq!(status["held"]["websocket"], 2, "{status}");
    assert_eq!(status["held"]["aside"], 2, "{status}");
    assert_eq!(status["condition"], "starting", "open for some is not ready: {status}");
    let health = rig.ask("/startupz");
    assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
    assert!(health.ends_with("app is not ready without database\n"), "{health}");
    let is_ready = |event: &serde_json::Value| event["event"] == "ready";
    assert!(!rig.greenroom.events().iter().any(is_ready));
    assert!(!first.has_bytes() && !third.has_bytes() && stub.nobody_came());

    rig.create("database");
    for (client, number) in [(&mut first, 1), (&mut third, 3)] {
        let (mut backend, session, _) = next(&stub);
        assert_eq!(session, number);
        opened(client, &mut backend);
    }
    rig.until("nobody waits", |status| status["held"]["websocket"] == 0);
    assert_eq!(rig.status()["condition"], "ready");
    assert!(rig.greenroom.events().iter().any(is_ready));
}

#[test]
fn what_is_missing_is_told_to_the_backend_and_to_clients_that_ask() {
    let stub = Stub::listen();
    let routes = "[[route]]\npath = \"/head\"\ntell_clients = \"header\"\n\n[[route]]\npath = \"/message\"\n\
        tell_clients = \"message\"\ndegraded_message = '{\"missing\":\"{missing}\",\"level\":\"{level}\"}'\n\n[[route]]\n";
    let rig = with(&stub, routes, &["database", "cache"]);
    let missing = "minimal;missing=\"bus\"";
    let degraded = rig.greenroom.wait_for(
        |event| event["event"] == "degraded" && event["missing"] == serde_json::json!(["bus"]),
        SOON,
    );
    assert_eq!(degraded["level"], "minimal");
    let open = |path: &str, told: Option<&str>| {
        let mut client = rig.knock(path);
        let (mut backend, _, head) = next(&stub);
        assert_eq!(field(&head, "greenroom-degraded").as_deref(), told, "{head}");
        let head = opened(&mut client, &mut backend);
        (client, backend, head)
    };

    let (_client, _backend, head) = open("/ws", Some(missing));
    assert_eq!(field(&head, "greenroom-degraded"), None, "{head}");
    let (_client, _backend, head) = open("/head", Some(missing));
    assert_eq!(field(&head, "greenroom-degraded").unwrap(), missing, "{head}");
    rig.remove("cache");
    rig.until("both are missing", |status| status["level"] == "emergency");
    let (mut client, mut backend, head) = open("/message", Some("emergency;missing=\"cache bus\""));
    assert_eq!(field(&head, "greenroom-degraded"), None, "{head}");
    backend.send(frame(0x81, b"hello"));
    let said = br#"{"missing":"cache,bus","level":"emergency"}"#.to_vec();
    assert_eq!(client.frame(), (0x81, said), "before anything of the backend's");
    assert_eq!(client.frame(), (0x81, b"hello".to_vec()));
    client.send(masked(0x81, b"and back"));
    assert_eq!(backend.frame(), (0x81, b"and back".to_vec()));

    // Plain requests: the field in the answer, and no way for a client to say it itself.
    let mut client = Raw::connect(&rig.address);
    client.send("GET /head HTTP/1.1\r\nHost: example.test\r\nGreenroom-Degraded: none\r\nConnection: close\r\n\r\n");
    let (mut backend, head) = stub.request();
    let missing = "emergency;missing=\"cache bus\"";
    assert_eq!(field(&head, "greenroom-degraded").unwrap(), missing);
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (head, body) = client.answer_with_length();
    assert_eq!(field(&head, "greenroom-degraded").unwrap(), missing);
    assert_eq!(body, "ok");

    rig.create("cache");
    rig.create("bus");
    rig.until("all is there", |status| status["level"] == "none");
    let (_client, _backend, head) = open("/head", None);
    assert_eq!(field(&head, "greenroom-degraded"), None, "{head}");
    let (mut client, mut backend, _) = open("/message", None);
    backend.send(frame(0x81, b"hello"));
    assert_eq!(client.frame(), (0x81, b"hello".to_vec()));
}

#[test]
fn what_was_never_answered_is_missing_from_the_first_client_on() {
    let stub = Stub::listen();
    let slow = "[backend.app.check.slow]\nprobe = \"exec\"\ncommand = [\"sleep\", \"60\"]\ntimeout = \"60s\"\n\
                critical = false\n\n";
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n{slow}",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    let _client = rig.knock("/ws");
    let (_backend, _, head) = next(&stub);
    assert_eq!(
        field(&head, "greenroom-degraded").as_deref(),
        Some("emergency;missing=\"slow\"")
    );
}

#[test]
fn a_route_refuses_or_holds_while_something_is_missing() {
    let stub = Stub::listen();
    let routes = "[[route]]\npath = \"/strict\"\ndegraded = \"refuse\"\n\n[[route]]\npath = \"/patient\"\n\
        degraded = \"hold\"\n\n[[route]]\n";
    let rig = with(&stub, routes, &["database", "cache"]);
    rig.until("it is ready, and degraded", |status| {
        status["level"] == "minimal" && status["condition"] == "ready" && status["checks"][2]["state"] == "bad"
    });
    for mut client in [rig.knock("/strict"), rig.get("/strict")] {
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(field(&head, "greenroom-refusal").unwrap(), "degraded");
        assert!(field(&head, "retry-after").is_some(), "{head}");
        assert_eq!(
            body,
            "the server runs without a part that is needed here; try again later\n"
        );
    }
    let mut patient = rig.knock("/patient");
    rig.held(1);
    let mut other = rig.knock("/ws");
    let (mut backend, _, head) = next(&stub);
    assert!(head.starts_with("GET /ws "), "the others are served: {head}");
    opened(&mut other, &mut backend);
    rig.create("bus");
    let (mut backend, _, head) = next(&stub);
    assert!(head.starts_with("GET /patient "), "{head}");
    opened(&mut patient, &mut backend);
    let mut strict = rig.knock("/strict");
    let (mut backend, _, _) = next(&stub);
    opened(&mut strict, &mut backend);
}

#[test]
fn who_will_not_make_it_is_refused_at_once_with_the_time_that_starts_take() {
    let config = format!(
        "state_dir = \"{{folder}}\"\n\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n\
         [[route]]\npath = \"/early\"\nshed = \"early\"\nhold_timeout = \"30s\"\nhttp_hold = \"30s\"\n\n\
         [[route]]\npath = \"/long\"\nshed = \"early\"\nhold_timeout = \"2m\"\n\n[[route]]\n",
        nobody()
    );
    let times = |folder: &std::path::Path| fs::write(folder.join("starts-app"), "60000\n61000\n62000\n").unwrap();
    let rig = Rig::with("serve", &config, times, |_| {});
    let status = rig.status();
    assert_eq!(
        status["starts"],
        serde_json::json!({"count": 3, "p50_ms": 61000, "p90_ms": 62000})
    );
    let began = Instant::now();
    for mut client in [rig.knock("/early"), rig.get("/early")] {
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(field(&head, "greenroom-refusal").unwrap(), "shed");
        // When nine of ten starts are over, and up to a quarter of that later: not all at once.
        let seconds: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
        let passed = u32::try_from(began.elapsed().as_secs()).unwrap() + 2;
        assert!((62 - passed..=62 + 15).contains(&seconds), "{head}");
    }
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "not at the end of its hold"
    );
    let (long, late) = (rig.knock("/long"), rig.knock("/ws"));
    rig.held(2);
    assert!(
        !long.has_bytes() && !late.has_bytes(),
        "they may make it, or wait to the end"
    );
}

fn health(address: &str, path: &str) -> (u16, String) {
    let mut client = Raw::connect(address);
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    ));
    let (head, body) = client.answer();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[test]
fn health_is_told_at_the_admin_address_and_below_the_prefix_of_a_listener() {
    for (waits, readyz) in [("listening", 200), ("backends", 503)] {
        let (stub, door) = (Stub::listen(), nobody());
        let admin = format!(
            "[admin]\naddress = \"{door}\"\nhealth_prefix = \"/-/greenroom\"\nreadyz = \"{waits}\"\n\
             token = \"0123456789abcdef\"\n"
        );
        let rig = with(&stub, &admin, &[]);
        rig.until("its database is looked for", |status| {
            status["checks"][0]["state"] == "bad"
        });
        for (address, prefix) in [(&door, ""), (&rig.address, "/-/greenroom")] {
            let ask = |path: &str| health(address, &format!("{prefix}/{path}"));
            assert_eq!(ask("livez"), (200, "live\n".into()));
            assert_eq!(ask("readyz").0, readyz, "{waits}");
            let (status, body) = ask("startupz");
            assert_eq!(status, 503);
            assert!(body.starts_with("app is not ready"), "{body}");
        }
        rig.create("database");
        rig.until("it is ready", |status| status["condition"] == "ready");
        for (address, prefix) in [(&door, ""), (&rig.address, "/-/greenroom")] {
            for path in ["livez", "readyz", "startupz"] {
                assert_eq!(health(address, &format!("{prefix}/{path}")).0, 200, "{path}");
            }
        }
        assert!(stub.nobody_came(), "no backend sees them");
    }
}

#[test]
fn status_answers_with_a_screen_or_json_and_with_3_if_it_is_asked_for_its_code() {
    let stub = Stub::listen();
    let rig = with(&stub, "", &["cache", "bus"]);
    let _held = rig.knock("/ws");
    rig.held(1);
    rig.until("its database is looked for", |status| {
        status["checks"][0]["state"] == "bad"
    });
    let code = |args: &[&str]| rig.say(args).status.code().unwrap();
    assert_eq!(code(&["status"]), 0, "it is an answer, whatever it says");
    assert_eq!(code(&["status", "--exit-code"]), 3);
    assert_eq!(code(&["status", "app", "--json", "--exit-code"]), 3);
    assert_eq!(code(&["status", "nobody"]), 1);
    let screen = String::from_utf8(rig.say(&["status"]).stdout).unwrap();
    assert!(
        screen.contains("  why      it is not ready without database (the file is not there)\n"),
        "{screen}"
    );
    assert!(
        screen.contains("  held     1 WebSocket, 0 HTTP; the first for "),
        "{screen}"
    );
    rig.create("database");
    let (mut backend, _, _) = next(&stub);
    backend.send(switching(""));
    rig.until("it is ready", |status| status["gate"] == "open");
    assert_eq!(code(&["status", "--exit-code"]), 0);
    let unknown = rig.say(&["phase", "cache"]);
    assert_eq!(unknown.status.code(), Some(0), "one of the default phases");
    let unknown = rig.say(&["phase", "cash"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        said.contains("\"cash\" is no phase of the backend app; its phases are init, "),
        "{said}"
    );
    let stale = rig.say(&["phase", "ready", "--generation", "7"]);
    assert_eq!(stale.status.code(), Some(1));
    let nobody = rig.say(&["status", "--admin", "/nonexistent/admin.sock"]);
    assert_eq!(nobody.status.code(), Some(1));
}

/// As another user (nobody): connects to a Unix socket, asks for the status, and prints what comes back.
fn as_nobody(socket: &str) -> String {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        try:\n    s.connect(sys.argv[1])\n    s.sendall(b'GET /v1/status HTTP/1.0\\r\\n\\r\\n')\n    print('got', s.recv(100))\n\
        except OSError as error:\n    print(type(error).__name__)";
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "python3",
            "-c",
            script,
            socket,
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); // whose interpreter he may enter
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn the_admin_socket_is_for_its_own_user_whatever_its_mode() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it comes as another user (nobody)"
    );
    let stub = Stub::listen();
    let rig = with(&stub, "[admin]\nsocket = \"{folder}/admin.sock\"\n", &[]);
    let socket = rig.folder.join("admin.sock");
    let place = socket.to_str().unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(as_nobody(place), "PermissionError\n");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let said = as_nobody(place);
    assert!(!said.contains("HTTP"), "{said}");
    let refused = |event: &serde_json::Value| {
        let message = event["message"].as_str().unwrap_or_default();
        message.contains("another user at the admin socket")
    };
    rig.greenroom.wait_for(refused, SOON);
    let own = rig.say(&["status", "--admin", place]);
    assert!(own.status.success(), "{own:?}");
}

#[test]
fn commands_of_checks_end_with_greenroom() {
    let stub = Stub::listen();
    let check = |number| {
        format!(
            "[backend.app.check.c{number}]\nprobe = \"exec\"\ntimeout = \"60s\"\n\
             command = [\"sh\", \"-c\", \"sleep 1000 & sleep 1000\"]\n\n"
        )
    };
    let checks: String = (0..8).map(check).collect();
    let config = format!("[backend.app]\naddress = \"{}\"\n\n{checks}", stub.address());
    let mark = process::mark();
    let marked = |command: &mut Command| {
        command.env(process::MARK, &mark);
    };
    let mut rig = Rig::with("serve", &config, |_| {}, marked);
    process::until("all run", || process::marked(&mark).len() == 1 + 3 * 8);
    rig.greenroom.signal(Signal::TERM);
    assert_eq!(rig.greenroom.wait_exit_code(SOON), 0);
    process::until("none is left", || process::marked(&mark).is_empty());
}

#[test]
fn who_holds_connections_to_the_admin_door_and_asks_nothing_keeps_nobody_out() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = with(&stub, &format!("[admin]\naddress = \"{door}\"\n"), &["database"]);
    rig.until("it is asked", |status| status["backend"] == "app");
    let slow = |_| {
        let mut client = Raw::connect(&door);
        client.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n");
        client
    };
    let began = Instant::now();
    let mut crowd: Vec<Raw> = (0..200).map(slow).collect();
    assert_eq!(health(&door, "/livez").0, 200);
    crowd[0].closed();
    assert!(
        began.elapsed() < greenroom_core::limits::HEAD_TIMEOUT,
        "it gave way, and was not given up"
    );
    assert_eq!(rig.status()["backend"], "app");
}

#[test]
fn at_the_address_nothing_but_health_is_told_without_the_token_nor_to_a_page_of_another_site() {
    let (stub, door) = (Stub::listen(), nobody());
    let admin = format!("[admin]\naddress = \"{door}\"\ntoken = \"0123456789abcdef\"\n");
    let rig = with(&stub, &admin, &["database"]);
    rig.until("it is ready", |status| status["condition"] == "ready");
    let asked = |method: &str, path: &str, fields: &str, body: &str| {
        let mut client = Raw::connect(&door);
        let length = body.len();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{fields}\r\n{body}"
        ));
        let (head, body) = client.answer();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default(),
        )
    };
    let token = "Authorization: Bearer 0123456789abcdef\r\n";
    let failed = r#"{"phase": "failed"}"#;
    for path in ["/v1/status", "/v1/backends/app", "/nothing"] {
        assert_eq!(asked("GET", path, "", "").0, 401, "{path}");
        let origin = format!("{token}Origin: http://{door}\r\n");
        assert_eq!(asked("GET", path, &origin, "").0, 403, "{path}");
    }
    for fields in ["", "Authorization: Bearer 0123456789abcdeX\r\n"] {
        let (status, problem) = asked("POST", "/v1/backends/app/phases", fields, failed);
        assert_eq!(status, 401, "{problem}");
        assert!(problem["help"].as_str().unwrap().contains("admin.token"), "{problem}");
    }
    assert_eq!(rig.status()["condition"], "ready", "nobody has failed it");
    let (status, report) = asked("GET", "/v1/status", token, "");
    assert_eq!((status, &report["backends"][0]["backend"]), (200, &"app".into()));
    assert_eq!(asked("GET", "/nothing", token, "").0, 404);
    let (status, problem) = asked("DELETE", "/v1/status", token, "");
    assert_eq!(status, 405);
    assert!(problem["help"].is_string(), "every refusal says what to do: {problem}");
    let (status, problem) = asked("POST", "/v1/backends/app/phases", token, r#"{"phase": "x", "fase": 1}"#);
    assert_eq!(status, 422, "{problem}");
    let (status, answer) = asked("POST", "/v1/backends/app/phases", token, failed);
    assert_eq!((status, &answer["condition"]), (200, &"failed".into()));
    assert_eq!(asked("GET", "/livez", "", "").0, 200);
}

#[test]
fn a_check_looks_once_more_before_a_hold_ends() {
    let stub = Stub::listen();
    // Between its first look, which finds nothing, and the next one of its grid a minute lies.
    let config = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n\n\
         [backend.app.check.database]\nprobe = \"file:{{folder}}/database\"\ninterval = \"1m\"\n\n\
         [[route]]\nhold_timeout = \"3s\"\n",
        stub.address()
    );
    let rig = Rig::start("serve", &config);
    rig.greenroom
        .wait_for(|event| event["event"] == "check" && event["state"] == "bad", SOON);
    let mut client = rig.knock("/ws");
    rig.held(1);
    rig.create("database");
    let (mut backend, _, _) = next(&stub);
    opened(&mut client, &mut backend);
}

#[test]
fn metrics_tell_the_same_as_status_and_every_label_is_a_name_of_the_configuration() {
    let stub = Stub::listen();
    let rig = with(&stub, "", &["cache"]);
    let _held = rig.knock("/ws?x=secret");
    rig.held(1);
    rig.until("the level is known", |status| status["level"] == "minimal");
    let mut page = Raw::connect(&rig.address);
    page.send("NONSENSE\r\n\r\n");
    assert!(page.head().starts_with("HTTP/1.1 400 "));
    let scrape = rig.ask("/metrics");
    for line in [
        "greenroom_backend_ready{backend=\"app\"} 0",
        "greenroom_backend_degraded_level{backend=\"app\"} 1",
        "greenroom_check_good{backend=\"app\",check=\"cache\",critical=\"false\"} 1",
        "greenroom_check_good{backend=\"app\",check=\"database\",critical=\"true\"} 0",
        "greenroom_held{backend=\"app\",kind=\"websocket\"} 1",
        "greenroom_connections{state=\"held\"} 1",
        "greenroom_refused_total{refusal=\"bad_request\"} 1",
    ] {
        assert!(scrape.lines().any(|each| each == line), "{line}\n{scrape}");
    }
    assert!(!scrape.contains("secret"), "{scrape}");
}
