//! Reload: the ways to ask for one, what is shown and refused, and what becomes of doors, orphans and those who wait for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    fs,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use common::{
    Greenroom,
    process::until,
    raw::{Raw, SOON, Stub, masked, switching, upgrade},
    reloading::{LISTENER, Named, get, outcome, own, reload, write},
    rig::Rig,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn small(more: &str) -> String {
    format!("[backend.app]\naddress = \"127.0.0.1:1\"\nready = \"listen\"\n{more}")
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let rig = Rig::start("serve", &small("[[route]]\nhold = \"refuse\"\nhttp = \"refuse\"\n"));
    assert_eq!(outcome(&rig, &[]), "unchanged");
    write(
        &rig,
        &small(
            "[[route]]\npath = \"/only\"\nhttp = \"refuse\"\n[route.request_headers]\nset = { x-key = \"planted\" }\n",
        ),
    );
    for flags in [&["--dry-run"][..], &["--dry-run"]] {
        let (answer, code) = reload(&rig, flags);
        assert_eq!(
            (answer["outcome"].as_str(), code),
            (Some("would_reload"), 0),
            "{answer}"
        );
        assert!(!answer.to_string().contains("planted"), "{answer}");
        assert_eq!(get(&rig.address, "/").0, "503", "the route is as it was");
    }
    let said = rig.say(&["reload"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.contains("route.\"*/only\"") && text.contains("for new clients") && text.ends_with("reloaded\n"),
        "{text}"
    );
    assert_eq!(get(&rig.address, "/").0, "404");
    assert_eq!(get(&rig.address, "/only").0, "503");
    let file = fs::read_to_string(rig.folder.join("greenroom.toml")).unwrap();
    fs::write(
        rig.folder.join("greenroom.toml"),
        file.replace("planted", "planted anew"),
    )
    .unwrap();
    let said = rig.say(&["reload"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.contains("[hidden] -> [hidden]") && !text.contains("planted"),
        "{text}"
    );
    assert!(!rig.greenroom.stderr().contains("planted"));
}

#[test]
fn a_connection_that_is_kept_alive_goes_by_the_new_routes_with_its_next_request() {
    let one = Named::start("one");
    let text = |path: &str| {
        format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[[route]]\npath = \"{path}\"\n",
            one.address
        )
    };
    let rig = Rig::start("serve", &text("/old"));
    let mut client = Raw::connect(&rig.address);
    let ask = |client: &mut Raw, path: &str| client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    ask(&mut client, "/old");
    assert_eq!(client.answer_with_length().1, "one");
    write(&rig, &text("/new"));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    ask(&mut client, "/new");
    assert_eq!(client.answer_with_length().1, "one");
    ask(&mut client, "/old");
    assert!(client.head().starts_with("HTTP/1.1 404"));
}

#[test]
fn what_needs_a_restart_is_refused_as_a_whole_and_named() {
    let rig = Rig::start(
        "run",
        "[backend.app.process]\ncommand = [\"sleep\", \"1000\"]\n[[route]]\nhttp = \"refuse\"\n",
    );
    write(
        &rig,
        "grace = \"1s\"\n[backend.app]\nready = \"tcp\"\n[backend.app.process]\ncommand = [\"sleep\", \"2000\"]\n[[route]]\npath = \"/x\"\n",
    );
    let said = rig.say(&["reload"]);
    let (out, err) = (
        String::from_utf8(said.stdout).unwrap(),
        String::from_utf8(said.stderr).unwrap(),
    );
    assert_eq!(said.status.code(), Some(1));
    assert!(out.contains("needs a restart"), "{out}");
    for key in [
        "backend.app.ready",
        "backend.app.process.command",
        "restart greenroom for these",
    ] {
        assert!(err.contains(key), "{err}");
    }
    assert_eq!(get(&rig.address, "/").0, "503", "nothing of it is taken");
    let failed = rig.greenroom.wait_for_event("reload_failed", SOON);
    assert_eq!(failed["restart_needed"].as_array().unwrap().len(), 2, "{failed}");
    // What its process does not depend on can be changed, and its child lives on.
    write(
        &rig,
        "[backend.app]\nheld_max = 7\n[backend.app.process]\ncommand = [\"sleep\", \"1000\"]\n[[route]]\npath = \"/x\"\n",
    );
    assert_eq!(outcome(&rig, &[]), "reloaded");
    assert_eq!(get(&rig.address, "/").0, "404");
    assert_eq!(
        rig.greenroom
            .events()
            .iter()
            .filter(|event| event["event"] == "started")
            .count(),
        1
    );
}

#[test]
fn without_a_file_it_says_so_kindly_and_a_bad_file_is_told_with_all_its_problems() {
    let rig = Rig::start("serve", &small(""));
    write(&rig, &small("[[route]]\nhold = \"refus\"\nhold_timeout = \"5\"\n"));
    let said = rig.say(&["reload"]);
    let err = String::from_utf8(said.stderr).unwrap();
    assert!(
        err.contains("2 errors") && err.contains("did you mean \"refuse\"?") && err.contains("goes on as it was"),
        "{err}"
    );
    let failed = rig.greenroom.wait_for_event("reload_failed", SOON);
    assert!(
        failed["problems"].as_str().unwrap().contains("did you mean"),
        "{failed}"
    );
    let told = rig.say(&["events", "--last", "9", "--event", "reload_failed"]);
    let told = String::from_utf8(told.stdout).unwrap();
    let picture: Vec<_> = failed["problems"].as_str().unwrap().trim_end().lines().collect();
    let shown: Vec<_> = told
        .lines()
        .skip(1)
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    assert_eq!(shown, picture, "line by line, as it is: {told}");
    fs::remove_file(rig.folder.join("greenroom.toml")).unwrap();
    assert_eq!(reload(&rig, &["--dry-run"]).1, 1);

    let folder = rig.folder.join("other");
    fs::create_dir(&folder).unwrap();
    let mut command = Greenroom::command(&["serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0"]);
    command.env("XDG_RUNTIME_DIR", &folder);
    let other = Greenroom::spawn(&mut command);
    other.address();
    let socket = folder.join(format!("greenroom/{}.sock", other.pid()));
    let said = rig.say(&["reload", "--admin", socket.to_str().unwrap()]);
    let err = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.code() == Some(1) && err.contains("--config FILE"), "{err}");
}

#[test]
fn variables_and_flags_are_put_over_the_new_file_as_at_the_start() {
    let rig = Rig::with(
        "serve",
        &small("[[route]]\nhttp = \"refuse\"\n"),
        |_| {},
        |command| {
            command.env("GREENROOM__BACKEND__APP__HELD_MAX", "7");
        },
    );
    write(&rig, &small("held_max = 9\n[[route]]\nhttp = \"refuse\"\n"));
    assert_eq!(outcome(&rig, &[]), "unchanged", "the variable wins over the file");
}

#[test]
fn a_hangup_reloads_a_server_without_a_child_and_systemd_hears_of_it() {
    let socket = std::env::temp_dir().join(format!("greenroom-reload-{}.sock", std::process::id()));
    let _ = fs::remove_file(&socket);
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let rig = Rig::with(
        "serve",
        &small("[[route]]\nhttp = \"refuse\"\n"),
        |_| {},
        |command| {
            command.env("NOTIFY_SOCKET", &socket);
        },
    );
    let hear = || {
        let mut buffer = [0; 200];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    write(&rig, &small("[[route]]\npath = \"/x\"\nhttp = \"refuse\"\n"));
    rig.greenroom.signal(Signal::HUP);
    let told = rig.greenroom.wait_for_event("reloaded", SOON);
    assert_eq!(told["by"], "signal");
    let said = rig.greenroom.wait_for_event("admin", SOON);
    assert_eq!(
        (&said["action"], &said["by"], &said["result"]),
        (&"reload".into(), &"signal HUP".into(), &"done".into()),
        "{said}"
    );
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear(), "READY=1");
    assert_eq!(get(&rig.address, "/").0, "404");
    // A bad one is told too, and READY=1 follows all the same.
    write(&rig, "what is this");
    rig.greenroom.signal(Signal::HUP);
    rig.greenroom.wait_for_event("reload_failed", SOON);
    let said = rig.greenroom.wait_for(|event| event["result"] == "refused", SOON);
    assert_eq!(
        (&said["action"], &said["by"]),
        (&"reload".into(), &"signal HUP".into()),
        "{said}"
    );
    assert!(hear().starts_with("RELOADING=1") && hear() == "READY=1");
    let _ = fs::remove_file(socket);
}

#[test]
fn a_change_of_the_file_is_taken_when_it_is_told_so_and_a_burst_is_one_reload() {
    let text = |path: &str| {
        format!(
            "reload_on_change = true\n{}",
            small(&format!("[[route]]\npath = \"{path}\"\nhttp = \"refuse\"\n"))
        )
    };
    let rig = Rig::start("serve", &text("/a"));
    let count = |name: &str| {
        rig.greenroom
            .events()
            .iter()
            .filter(|event| event["event"] == name)
            .count()
    };
    assert_eq!(get(&rig.address, "/b").0, "404");
    // In place, half-written in between.
    let whole = text("/b") + LISTENER;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for end in (10..whole.len()).step_by(20).chain([whole.len()]) {
        fs::write(rig.folder.join("greenroom.toml"), &whole[..end]).unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        // tidy: allow-sleep a writer that takes its time
        thread::sleep(Duration::from_millis(10));
    }
    rig.greenroom.wait_for_event("reloaded", SOON);
    assert_eq!(get(&rig.address, "/b").0, "503");
    // A machine that stops for so long makes two of one burst.
    let is_burst = longest < greenroom_core::limits::RELOAD_QUIET / 2;
    assert!(!is_burst || (count("reloaded"), count("reload_failed")) == (1, 0));
    let failed = count("reload_failed");
    // By rename; and another file in the folder is nothing to it.
    fs::write(rig.folder.join("neighbour"), "x").unwrap();
    write(&rig, &text("/c"));
    until("it is taken", || get(&rig.address, "/c").0 == "503");
    until("it is told", || count("reloaded") == 2);
    // Through a link that is replaced, as Kubernetes does.
    let (first, second) = (rig.folder.join("first.toml"), rig.folder.join("second.toml"));
    fs::write(&first, text("/d") + LISTENER).unwrap();
    fs::write(&second, text("/e") + LISTENER).unwrap();
    for (target, path) in [(&first, "/d"), (&second, "/e")] {
        let link = rig.folder.join("link");
        std::os::unix::fs::symlink(target, &link).unwrap();
        fs::rename(&link, rig.folder.join("greenroom.toml")).unwrap();
        until("the link's target is taken", || get(&rig.address, path).0 == "503");
    }
    // A bad one changes nothing and does not end it.
    fs::write(rig.folder.join("second.toml"), "nonsense").unwrap();
    until("it is refused", || count("reload_failed") == failed + 1);
    assert_eq!(get(&rig.address, "/e").0, "503");
    // Told otherwise, it looks no more.
    write(&rig, &text("/f").replace("true", "false"));
    until("it is taken", || get(&rig.address, "/f").0 == "503");
    until("it is told", || count("reloaded") == 5);
    write(&rig, &text("/g"));
    // tidy: allow-sleep nothing is to happen in this time
    thread::sleep(3 * greenroom_core::limits::RELOAD_QUIET);
    assert_eq!(outcome(&rig, &["--dry-run"]), "would_reload");
    assert_eq!((get(&rig.address, "/g").0.as_str(), count("reloaded")), ("404", 5));
}

#[test]
fn a_listener_under_another_name_keeps_its_socket_and_one_that_is_gone_says_so() {
    let one = Named::start("one");
    let app = format!("[backend.app]\naddress = \"{}\"\nready = \"listen\"\n", one.address);
    let rig = Rig::start("serve", &format!("{app}[listener.extra]\naddress = \"127.0.0.1:0\"\n"));
    // The first that is told of is the first that is written.
    let extra = rig.address.clone();
    let is_main = |event: &Value| event["event"] == "listening" && event["address"] != extra.as_str();
    let main = rig.greenroom.wait_for(is_main, SOON)["address"]
        .as_str()
        .unwrap()
        .to_owned();
    // An idle connection and one that has not said anything yet, at the door that goes.
    let mut idle = Raw::connect(&extra);
    idle.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(idle.answer_with_length().1, "one");
    let mut silent = Raw::connect(&extra);
    silent.send("GET / HT");
    until("both are in the books", || {
        own(&rig)["listeners"].as_array().unwrap().len() == 2
    });
    write(&rig, &app);
    assert_eq!(outcome(&rig, &[]), "reloaded");
    idle.closed();
    silent.send("TP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(silent.head().starts_with("HTTP/1.1 503"));
    until("nobody listens there", || TcpStream::connect(&extra).is_err());
    // The one that stays is called otherwise and bound to what it is bound to already.
    let file = format!(
        "{app}[listener.renamed]\naddress = \"{}\"\nhosts = [\"example.test\"]\n",
        main
    );
    fs::write(rig.folder.join("greenroom.toml"), file).unwrap();
    let mut queued = Raw::connect(&main);
    assert_eq!(outcome(&rig, &[]), "reloaded");
    queued.send("GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n");
    assert!(queued.answer().0.starts_with("HTTP/1.1 200"));
    let mut stranger = Raw::connect(&main);
    stranger.send("GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    assert!(stranger.answer().0.starts_with("HTTP/1.1 403"));
}

#[test]
fn those_whose_backend_is_gone_stay_and_are_counted() {
    let app = Stub::listen();
    let one = Named::start("one");
    let with = |more: &str| {
        format!(
            "[backend.main]\naddress = \"{}\"\nready = \"listen\"\n{more}[[route]]\nbackend = \"main\"\n",
            one.address
        )
    };
    let gone = format!(
        "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[[route]]\nname = \"sockets\"\npath = \"/ws\"\nbackend = \"app\"\n",
        app.address()
    );
    let rig = Rig::start("serve", &with(&gone));
    let mut client = Raw::connect(&rig.address);
    client.send(upgrade(""));
    let (mut backend, _) = app.request();
    backend.send(switching(""));
    client.head();
    write(&rig, &with(""));
    let (answer, _) = reload(&rig, &[]);
    assert_eq!(answer["orphaned"], 1, "{answer}");
    client.send(masked(0x81, b"still here"));
    assert_eq!(backend.frame().1.len(), 10);
    assert_eq!(own(&rig)["configurations"], 2);
    // By the names under which it came it is told of, found, streamed, drained.
    let filter = json!({"backend": "app"});
    for names in ["backend=app", "route=sockets"] {
        let listed = rig.ask(&format!("/v1/connections?{names}"));
        assert!(listed.contains("\"total\":1"), "{names}: {listed}");
    }
    let sent = json!({"filter": filter, "text": "still there?"});
    assert_eq!(rig.post("/v1/connections/send", &sent).1["sent"], 1);
    assert_eq!(client.frame().1, b"still there?");
    let gate = rig.post("/v1/drain", &json!({"filter": filter, "new": "hold"}));
    assert!(gate.0 == 422 && gate.1.to_string().contains("no gate"), "{gate:?}");
    rig.tell(&["drain", "--backend", "app", "--window", "0s"]);
    assert_eq!(client.close_frame().0, 1012);
    client.send(masked(0x88, &common::raw::close(1012, "")));
    backend.close_frame();
    drop((client, backend));
    until("its end is told of", || {
        rig.streamed("last=4096&backend=app&event=closed").len() == 1
    });
    assert_eq!(rig.streamed("last=4096&backend=main&event=closed"), [] as [Value; 0]);
    assert!(rig.ask("/v1/closed?backend=app").contains("\"total\":1"));
    let nobody = rig.ask("/v1/connections?backend=ap");
    assert!(
        nobody.starts_with("HTTP/1.1 422 ") && nobody.contains("the backends are main"),
        "{nobody}"
    );
    until("its backend is ended with it", || own(&rig)["configurations"] == 1);
}

/// The limit is for who comes: those who are there stay until then, and then the oldest go, as many as it takes.
#[test]
fn a_lowered_limit_of_a_user_closes_its_oldest_when_the_next_one_is_let_in() {
    let app = Stub::listen();
    let with = |most: usize| {
        format!(
            "[limits]\nmax_connections_per_user = {most}\non_user_limit = \"close-oldest\"\n\
             [backend.app]\naddress = \"{}\"\nready = \"listen\"\n[[route]]\nuser = \"header:X-User\"\n",
            app.address()
        )
    };
    let rig = Rig::start("serve", &with(5));
    rig.until("it is ready", |status| status["condition"] == "ready");
    let come = |user: &str| {
        let mut client = Raw::connect(&rig.address);
        client.send(upgrade(&format!("X-User: {user}\r\n")));
        let (mut backend, _) = app.request();
        backend.send(switching(""));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        (client, backend)
    };
    let mut all: Vec<_> = (0..5).map(|_| come("ann")).collect();
    let mut other = come("bob");
    let since = Instant::now();
    write(&rig, &with(2));
    assert_eq!(outcome(&rig, &[]), "reloaded");
    until("nobody is in the first second any more", || {
        since.elapsed() > Duration::from_secs(1)
    });
    let are_open = |pairs: &mut [(Raw, Raw)]| {
        for (client, backend) in pairs {
            client.send(masked(0x81, b"here"));
            assert_eq!(backend.frame(), (0x81, b"here".to_vec()));
        }
    };
    are_open(&mut all); // and the reload alone has closed nobody
    all.push(come("ann"));
    for (client, backend) in &mut all[..4] {
        assert_eq!(
            client.close_frame(),
            (1008, "another connection of this user took its place".into())
        );
        assert_eq!(backend.close_frame().0, 1001);
        client.send(masked(0x88, &common::raw::close(1008, "")));
    }
    until("those are gone", || rig.told(&["ps"])["total"] == 3);
    are_open(&mut all[4..]);
    are_open(std::slice::from_mut(&mut other));
    let closed = rig.told(&["ps", "--closed"]);
    let causes: Vec<_> = closed["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["end"]["cause"])
        .collect();
    assert_eq!(causes, ["replaced"; 4], "{closed}");
}

/// A second reload waits for the first; a third is told so. Each that is answered did what it says.
#[test]
fn one_reload_is_under_way_one_waits_and_more_are_told_so() {
    let one = Named::start("one");
    let text = |path: &str| {
        format!(
            "[backend.app]\naddress = \"{}\"\nready = \"listen\"\n[[route]]\npath = \"{path}\"\n",
            one.address
        )
    };
    let rig = Rig::start("serve", &text("/"));
    write(&rig, &text("/x"));
    let outcomes: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| rig.say(&["reload", "--json"]))).collect();
        let said = asking.into_iter().map(|one| one.join().unwrap());
        said.map(|said| match serde_json::from_slice::<Value>(&said.stdout) {
            Ok(answer) => answer["outcome"].as_str().unwrap().to_owned(),
            Err(_) => String::from_utf8(said.stderr).unwrap(),
        })
        .collect()
    });
    let count = |word: &str| outcomes.iter().filter(|outcome| *outcome == word).count();
    assert_eq!(count("reloaded"), 1, "{outcomes:?}");
    let busy = outcomes
        .iter()
        .filter(|outcome| outcome.contains("another reload is under way"))
        .count();
    assert_eq!(count("unchanged") + busy, 7, "{outcomes:?}");
}
