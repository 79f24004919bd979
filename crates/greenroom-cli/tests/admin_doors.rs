//! The doors of the admin API, without a browser: what stands in each answer at the address, who is not listened to, when greenroom does not
//! start, and that the socket is its owner's alone (A19, A20, A24). What pages try is in `admin_attacks.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    api::{Target, targets},
    process::until,
    raw::{Raw, SOON, Stub, field, nobody},
    rig::Rig,
};
use greenroom_core::limits::ADMIN_CONNECTIONS_MAX;
use serde_json::Value;

/// No answer at the address, whatever was asked in which way, gives a page leave to anything.
#[test]
fn each_answer_at_the_admin_address_is_fenced() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::start(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\ntoken = \"0123456789abcdef\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            stub.address()
        ),
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let ask = |method: &str, path: &str, fields: &str| {
        let mut client = Raw::connect(&door);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n"
        ));
        client.head()
    };
    let token = "Authorization: Bearer 0123456789abcdef\r\n";
    let mut all = targets(&rig);
    all.extend(["/nothing", "/livez", "/readyz", "/startupz"].map(|path| Target {
        method: "GET".into(),
        path: path.into(),
        body: ("", ""),
    }));
    let mut statuses = std::collections::BTreeSet::new();
    for Target { method, path, .. } in &all {
        for fields in [
            format!("Host: {door}\r\n{token}"),
            format!("Host: {door}\r\n"),
            format!("Host: {door}\r\n{token}Origin: http://{door}\r\n"),
            format!("Host: {door}\r\n{token}Sec-Fetch-Site: same-origin\r\n"),
            format!("Host: evil.test\r\n{token}"),
        ] {
            let asks_leave = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\
                 Access-Control-Request-Private-Network: true\r\nOrigin: http://evil.test\r\n";
            // A stream has no end; its head is enough. What changes something is not asked with the right to.
            let is_allowed = fields.contains(&door)
                && fields.contains(token)
                && !fields.contains("Origin")
                && !fields.contains("Sec-");
            let mut heads = vec![
                ask("OPTIONS", path, &format!("{fields}{asks_leave}")),
                ask("HEAD", path, &fields),
            ];
            if method == "GET" || !is_allowed {
                heads.push(ask(method, path, &fields));
            }
            for head in heads {
                statuses.insert(head.split(' ').nth(1).unwrap().to_owned());
                for (name, value) in [
                    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
                    ("x-frame-options", "DENY"),
                    ("x-content-type-options", "nosniff"),
                    ("cross-origin-resource-policy", "same-origin"),
                    ("cache-control", "no-store"),
                ] {
                    assert_eq!(
                        field(&head, name).as_deref(),
                        Some(value),
                        "{method} {path} {fields}: {head}"
                    );
                }
                assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
            }
        }
    }
    let expected = ["200", "401", "403", "404", "405"];
    assert!(expected.iter().all(|status| statuses.contains(*status)), "{statuses:?}");
}

/// What a page may send without leave (Fetch §4.8) is no JSON. An old browser, or a proxy between, may leave out the fields by which it is
/// known else.
#[test]
fn at_the_address_each_post_must_be_json_also_one_without_a_body() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::start(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            stub.address()
        ),
    );
    rig.until("it is ready", |status| status["condition"] == "ready");
    let ask = |path: &str, fields: &str, body: &str| {
        let mut client = Raw::connect(&door);
        let length = body.len();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ));
        client.answer().0.split(' ').nth(1).unwrap().to_owned()
    };
    for Target { path, body, .. } in targets(&rig).iter().filter(|target| target.method == "POST") {
        for kind in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: text/plain;application/json\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: multipart/form-data; boundary=application/json\r\n",
            "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        ] {
            for body in ["", "{}", &format!("{}x{}", body.0, body.1)] {
                assert_eq!(ask(path, kind, body), "415", "{path} {kind} {body}");
            }
        }
    }
    let told = rig.streamed("last=4096&event=admin");
    assert!(
        told.iter().all(|event| event["result"] == "refused"),
        "nothing was done: {told:?}"
    );
    // Said to be JSON, a body may be left out where it may; at the socket, which no page reaches, nothing need be said.
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        assert_eq!(ask("/v1/reload", &format!("Content-Type: {kind}\r\n"), ""), "200");
        assert_eq!(
            ask("/v1/connections/close", &format!("Content-Type: {kind}\r\n"), ""),
            "422"
        );
    }
    let mut client = std::os::unix::net::UnixStream::connect(rig.socket()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
        .write_all(b"POST /v1/reload HTTP/1.1\r\nHost: greenroom\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A platform asks for health by what name it likes; who rebinds a name learns that greenroom is there, and no word more.
#[test]
fn to_a_strange_name_health_says_yes_or_no_and_nothing_else() {
    let door = nobody();
    let rig = Rig::start(
        "serve",
        &format!("[admin]\naddress = \"{door}\"\n[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"listen\"\n"),
    );
    rig.until("it is asked at all its doors", |status| status["backend"] == "app");
    let ask = |fields: &str| {
        let mut client = Raw::connect(&door);
        client.send(format!("GET /startupz HTTP/1.1\r\nConnection: close\r\n{fields}\r\n"));
        let (head, body) = client.answer();
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    };
    let (status, words) = ask(&format!("Host: {door}\r\n"));
    assert!(status == "503" && words.contains("app"), "{status} {words}");
    assert_eq!(ask("Host: greenroom.internal\r\n"), ("503".into(), String::new()));
    assert_eq!(
        ask(&format!("Host: {door}\r\nSec-Fetch-Site: none\r\n")).0,
        "503",
        "a person looks"
    );
    for fields in [
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(ask(&format!("Host: {door}\r\n{fields}")).0, "403", "{fields}");
    }
    drop(rig);
}

/// A20. Ten wrong tokens, and for a while nobody of that address is listened to; it is said once.
#[test]
fn who_guesses_tokens_is_sent_away_for_a_while_and_nobody_else_is() {
    let (stub, door) = (Stub::listen(), nobody());
    let rig = Rig::with(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\ntoken_file = \"token\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            stub.address()
        ),
        |folder| {
            use std::os::unix::fs::OpenOptionsExt as _;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.join("token"))
                .unwrap();
            file.write_all(b"0123456789abcdef\n").unwrap();
        },
        |_| {},
    );
    rig.until("it is asked at all its doors", |status| status["backend"] == "app");
    let ask = |last: u8, token: &str| {
        let mut client = Raw::connect_from(last, &door);
        client.send(format!(
            "GET /v1/status HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n{token}\r\n"
        ));
        let (head, _) = client.answer();
        (head.split(' ').nth(1).unwrap().to_owned(), field(&head, "retry-after"))
    };
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(ask(2, right).0, "200", "the token of the file");
    for guess in 0..10 {
        assert_eq!(
            ask(2, &format!("Authorization: Bearer 0123456789abcd{guess:02}\r\n")).0,
            "401"
        );
        assert_eq!(ask(2, "").0, "401", "who brings none guesses nothing");
    }
    let (status, after) = ask(2, right);
    assert_eq!(status, "429");
    assert!((1..=11).contains(&after.unwrap().parse::<u32>().unwrap()));
    assert_eq!(ask(3, right).0, "200", "another address");
    let said = |event: &Value| {
        event["message"]
            .as_str()
            .is_some_and(|text| text.contains("many wrong tokens came from 127.0.0.2"))
    };
    rig.greenroom.wait_for(said, SOON);
    until("the window is over", || ask(2, right).0 == "200");
    assert_eq!(rig.greenroom.events().iter().filter(|event| said(event)).count(), 1);
}

/// A19 and A20, where it starts: an address for others needs a token, a token must be long, and a file of it nobody else's.
#[test]
fn greenroom_does_not_start_with_an_admin_address_that_others_can_use() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = std::env::temp_dir().join(format!("greenroom-token-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (config, token) = (folder.join("greenroom.toml"), folder.join("token"));
    let start = |admin: &str| {
        std::fs::write(
            &config,
            format!("[admin]\n{admin}\n[listener.main]\naddress = \"127.0.0.1:0\"\n[backend.app]\naddress = \"127.0.0.1:1\"\n"),
        )
        .unwrap();
        let mut greenroom = common::Greenroom::spawn(&mut common::Greenroom::command(&[
            "serve",
            "--config",
            config.to_str().unwrap(),
        ]));
        assert_eq!(greenroom.wait_exit_code(SOON), 2, "{admin}");
        greenroom.stderr()
    };
    let said = start("address = \"0.0.0.0:0\"");
    assert!(
        said.contains("admin.token` is missing") && said.contains("token_file"),
        "{said}"
    );
    let said = start("address = \"0.0.0.0:0\"\ntoken = \"0123456789abcde\"");
    assert!(
        said.contains("15 characters") && !said.contains("0123456789abcde"),
        "{said}"
    );
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    for mode in [0o644, 0o604, 0o602, 0o620, 0o660] {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"");
        assert!(
            said.contains("chmod 600") && !said.contains("0123456789abcdef"),
            "{mode:o}: {said}"
        );
    }
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"\ntoken = \"0123456789abcdef\"");
    assert!(said.contains("both given"), "{said}");
    assert!(start("address = \"0.0.0.0:0\"\ntoken_file = \"nothing\"").contains("cannot be read"));
    std::fs::write(&token, "x".repeat(4_096)).unwrap();
    assert!(start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"").contains("more than 2048 bytes"));
    std::os::unix::fs::chown(&token, Some(65_534), None).unwrap(); // this test runs as root, as the one below
    assert!(start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"").contains("belongs to user 65534"));
    std::fs::remove_file(&token).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&token).status().unwrap();
    assert!(made.success());
    let said = start("address = \"0.0.0.0:0\"\ntoken_file = \"token\"");
    assert!(
        said.contains("is no file"),
        "a pipe that nobody writes to is not waited for: {said}"
    );
    common::process::remove_folder(&folder);
}

/// A24. The socket is its owner's alone, the folder too, and the kernel's word about who comes is asked once more.
#[test]
fn another_user_neither_enters_the_folder_of_the_socket_nor_is_served_at_it() {
    use std::os::unix::fs::PermissionsExt as _;
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it comes as another user (nobody)"
    );
    let rig = Rig::start(
        "serve",
        "[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"listen\"\n",
    );
    let folder = rig.folder.join("greenroom");
    let socket = folder.join(format!("{}.sock", rig.greenroom.pid()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&socket)), (0o700, 0o600));
    let connect = || {
        let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10)\n\
            try:\n s.connect(sys.argv[1]); s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096))\n\
            except OSError as e: print(type(e).__name__)";
        let mut command = std::process::Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "python3",
                "-c",
                script,
            ])
            .arg(&socket)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let open =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&rig.folder, 0o755);
    assert_eq!(connect(), "PermissionError\n");
    open(&folder, 0o755);
    assert_eq!(connect(), "PermissionError\n", "the socket's own mode");
    open(&socket, 0o666);
    let said = connect();
    assert!(!said.contains("HTTP") && said != "PermissionError\n", "{said}");
    rig.greenroom.wait_for(
        |event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains("another user at the admin socket"))
        },
        SOON,
    );
}

/// A platform takes an answer that does not come for a death. Whoever holds connections, and however many more come from there, a
/// probe from elsewhere keeps its place.
#[test]
fn a_flood_at_the_admin_address_pushes_out_no_probe() {
    let door = nobody();
    let rig = Rig::start(
        "serve",
        &format!(
            "[admin]\naddress = \"{door}\"\ntoken = \"0123456789abcdef\"\n[backend.app]\naddress = \"{}\"\nready = \"listen\"\n",
            nobody()
        ),
    );
    rig.until("it is there", |status| status["backend"] == "app");
    let ask = |probe: &mut Raw| {
        probe.send(format!("GET /livez HTTP/1.1\r\nHost: {door}\r\n\r\n"));
        assert_eq!(probe.answer_with_length().1, "live\n");
    };
    let mut slow = Raw::connect_from(2, &door); // it has not asked yet
    let mut held: Vec<_> = (0..3 * ADMIN_CONNECTIONS_MAX).map(|_| Raw::connect(&door)).collect();
    held[0].closed(); // its place was needed
    ask(&mut slow);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(
                    (0..ADMIN_CONNECTIONS_MAX)
                        .map(|_| Raw::connect(&door))
                        .collect::<Vec<_>>(),
                );
            }
        });
        for _ in 0..5 {
            ask(&mut slow); // a connection that is kept
            ask(&mut Raw::connect_from(3, &door));
        }
        stop.store(true, Ordering::Relaxed);
    });
}
