//! Defaults, file, environment and flags: the later one wins, each value knows where it
//! is from, and what cannot be meant is told with the key to set.

use greenroom::config::{Flags, Hold, Loaded, Purpose, Secrets, load, load_bytes};

use super::layers;

const FILE: &str = r#"
grace = "20s"

[listener.main]
address = "127.0.0.1:8080"

[backend.app]
ready = "tcp"

[backend.app.process]
command = ["node", "server.js"]
env = { TOKEN = "of the file" }

[backend.two-words]
address = "127.0.0.1:9000"

[[route]]
backend = "app"

[[route]]
name = "second"
path = "/second"
backend = "two-words"

[route.request_headers]
set = { Authorization = "Bearer of the file" }
"#;

fn origin(loaded: &Loaded, key: &str) -> String {
    let found = loaded.effective.iter().find(|effective| effective.key == key);
    found
        .map(|effective| format!("{} ({})", effective.value, effective.origin))
        .unwrap()
}

fn flags(grace: &str) -> Flags {
    Flags {
        grace: Some(grace.into()),
        ..Flags::default()
    }
}

#[test]
fn the_later_layer_wins_and_each_value_keeps_its_origin() {
    let grace = |file: &str, variables: &[(&str, &str)], flags: Flags| {
        let layers = layers(variables, flags, Purpose::Check);
        origin(&load_bytes("a.toml", file.into(), &layers).unwrap(), "grace")
    };
    let variable = [("GREENROOM__GRACE", "30s")];
    let without = FILE.replace("grace", "# grace");
    assert_eq!(grace(&without, &[], Flags::default()), "10s (default)");
    assert_eq!(grace(FILE, &[], Flags::default()), "20s (a.toml:2:9)");
    assert_eq!(
        grace(FILE, &variable, Flags::default()),
        "30s (environment GREENROOM__GRACE)"
    );
    assert_eq!(grace(FILE, &variable, flags("40s")), "40s (--grace)");
}

#[test]
fn a_variable_reaches_every_key_of_what_the_file_names() {
    let variables = [
        ("GREENROOM__BACKEND__APP__READY", "http:/health"),
        ("GREENROOM__BACKEND__TWO_WORDS__HELD_MAX", "7"),
        ("GREENROOM__BACKEND__APP__PROCESS__ENV__My__Name", "x"),
        ("GREENROOM__BACKEND__APP__PROCESS__COMMAND", r#"["python", "app.py"]"#),
        ("GREENROOM__ROUTE__0__HOLD", "refuse"),
        ("GREENROOM__ROUTE__SECOND__WAITING_PAGE", "false"),
        ("GREENROOM__ROUTE__1__LISTENER", "main"),
        ("GREENROOM__ROUTE__0__RESPONSE_HEADERS__REMOVE", r#"["Server"]"#),
        ("greenroom__grace", "1s"),
        ("GREENROOM_SEED", "1"),
    ];
    let layers = layers(&variables, Flags::default(), Purpose::Run);
    let config = load_bytes("a.toml", FILE.into(), &layers).unwrap().config;
    let app = &config.backends[0];
    assert_eq!(app.ready.to_string(), "http:/health");
    let process = app.process.as_ref().unwrap();
    assert_eq!(process.command, ["python", "app.py"]);
    assert_eq!(process.env[1], ("My__Name".into(), "x".into()));
    assert_eq!(config.backends[1].held_max, 7);
    let route = |path: &str| config.routes.iter().find(|route| route.path == path).unwrap();
    assert_eq!(route("/").hold, Hold::Refuse);
    assert_eq!(route("/").response_headers.remove, ["server"]);
    assert!(!route("/second").waiting_page);
    assert_eq!(route("/second").listeners, Some(vec![0]));
    assert_eq!(config.grace.as_secs(), 20, "another case is another program's");
}

#[test]
fn a_variable_that_sets_nothing_is_told_and_its_value_is_not_shown() {
    let variables = [
        ("GREENROOM__BACKEND__AP__PROCESS__ENV__TOKEN", "hunter2"),
        ("GREENROOM__BACKEND__APP__READI", "hunter2"),
        ("GREENROOM__BACKEND__APP", "hunter2"),
        ("GREENROOM__ROUTE__7__HOLD", "hunter2"),
        ("GREENROOM__GRACE__MS", "hunter2"),
        ("GREENROOM__", "hunter2"),
        ("GREENROOM__HOLD", "hunter2"),
        ("GREENROOM__ROUTE__0__BODY_MAX", "10"),
        ("GREENROOM__ROUTE__0__LISTENER", "[main]"),
    ];
    let layers = layers(&variables, Flags::default(), Purpose::Check);
    let text = load_bytes("a.toml", FILE.into(), &layers).unwrap_err().render(false);
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!("variables_that_set_nothing", text);
}

#[test]
fn a_flag_that_could_mean_several_things_names_the_keys() {
    let flags = Flags {
        listen: Some("127.0.0.1:1".into()),
        backend: Some("127.0.0.1:2".into()),
        ready: Some("tcp".into()),
        restart: Some("never".into()),
        command: vec!["x".into()],
        ..Flags::default()
    };
    let two = format!("{FILE}\n[listener.other]\naddress = \"127.0.0.1:8081\"\n");
    let layers = layers(&[], flags, Purpose::Run);
    let text = load_bytes("a.toml", two.into(), &layers).unwrap_err().render(false);
    insta::assert_snapshot!("flags_that_could_mean_several_things", text);
}

#[test]
fn a_flag_applies_to_all_routes() {
    let flags = Flags {
        hold: Some("refuse".into()),
        hold_timeout: Some("3s".into()),
        ..Flags::default()
    };
    let config = load_bytes("a.toml", FILE.into(), &layers(&[], flags, Purpose::Run))
        .unwrap()
        .config;
    for route in &config.routes {
        assert_eq!((route.hold, route.hold_timeout.as_secs()), (Hold::Refuse, 3));
    }
}

#[test]
fn a_command_alone_is_one_listener_one_backend_and_one_route() {
    let flags = Flags {
        command: vec!["uvicorn".into(), "app:app".into(), "--port".into(), "{port}".into()],
        ..Flags::default()
    };
    let loaded = load(&layers(&[], flags.clone(), Purpose::Run)).unwrap();
    insta::assert_snapshot!("explained_command", loaded.explain(Secrets::Hidden));
    let port = load(&layers(&[("PORT", "5000")], flags.clone(), Purpose::Run)).unwrap();
    assert_eq!(
        origin(&port, "listener.main.address"),
        "0.0.0.0:5000 (environment PORT)"
    );
    let bad = load(&layers(&[("PORT", "http")], flags, Purpose::Run)).unwrap_err();
    assert!(bad.render(false).contains("PORT is \"http\" in the environment"));
}

#[test]
fn explain_shows_where_each_value_is_from_and_no_secret() {
    let variables = [("GREENROOM__BACKEND__APP__READY", "http:/health")];
    let layers = layers(&variables, flags("40s"), Purpose::Check);
    let loaded = load_bytes("a.toml", FILE.into(), &layers).unwrap();
    let text = loaded.explain(Secrets::Hidden);
    assert!(!text.contains("of the file"), "{text}");
    assert!(!greenroom::config::to_toml(&loaded.config, Secrets::Hidden).contains("of the file"));
    assert!(!format!("{:?}", loaded.config.backends).contains("of the file"));
    assert!(loaded.explain(Secrets::Shown).contains("Bearer of the file"));
    insta::assert_snapshot!("explained_file", text);
}

#[test]
fn run_needs_a_process_and_serve_has_none() {
    let text = |file: &str, purpose| {
        let layers = layers(&[], Flags::default(), purpose);
        load_bytes("a.toml", file.into(), &layers).unwrap_err().render(false)
    };
    let without = "[backend.app]\naddress = \"127.0.0.1:8000\"\n";
    insta::assert_snapshot!("run_without_a_process", text(without, Purpose::Run));
    insta::assert_snapshot!("serve_with_a_process", text(FILE, Purpose::Serve));
    let with_command = Flags {
        command: vec!["x".into()],
        ..Flags::default()
    };
    let layers = layers(&[], with_command, Purpose::Run);
    let config = load_bytes("a.toml", without.into(), &layers).unwrap().config;
    assert!(config.backends[0].process.is_some());
}

#[test]
fn a_command_that_is_not_utf8_is_kept_as_it_is() {
    use std::os::unix::ffi::OsStringExt;
    let word = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let flags = Flags {
        command: vec!["x".into(), word.clone()],
        ..Flags::default()
    };
    let config = load(&layers(&[], flags, Purpose::Run)).unwrap().config;
    assert_eq!(config.backends[0].process.as_ref().unwrap().command[1], word);
}
