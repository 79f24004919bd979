//! What each key does when it is another.

use super::*;
use crate::config::{Flags, Layers, Purpose, load_bytes};

fn config(text: &str) -> Config {
    let layers = Layers {
        file: None,
        variables: Vec::new(),
        flags: Flags::default(),
        purpose: Purpose::Check,
    };
    let loaded = load_bytes("test.toml", text.as_bytes().to_vec(), &layers);
    loaded.map_err(|invalid| invalid.render(false)).unwrap().config
}

const BEFORE: &str = "grace = \"5s\"\n[admin]\naddress = \"127.0.0.1:9\"\ntoken = \"0123456789abcdef0\"\n\
    [listener.main]\naddress = \"127.0.0.1:80\"\n\
    [backend.app]\naddress = \"127.0.0.1:1\"\n[backend.app.check.db]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n\
    [backend.own.process]\ncommand = [\"x\"]\nenv = { KEY = \"planted\" }\n\
    [[route]]\nbackend = \"app\"\n[[route]]\npath = \"/own\"\nbackend = \"own\"\n\
    [route.request_headers]\nset = { authorization = \"planted\" }\n";

fn changes(edits: &[(&str, &str)]) -> Vec<(String, Option<String>, Option<String>, Effect)> {
    let mut text = BEFORE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let diff = diff(&config(BEFORE), &config(&text));
    assert_eq!(diff.left_out, 0);
    let restart = diff.changes.iter().filter(|change| change.effect == Effect::Restart);
    assert_eq!(
        restart.map(|change| change.key.clone()).collect::<Vec<_>>(),
        diff.restart
    );
    let all = diff.changes.into_iter();
    all.map(|change| (change.key, change.old, change.new, change.effect))
        .collect()
}

fn one(edits: &[(&str, &str)]) -> (String, Effect) {
    let mut all = changes(edits);
    assert_eq!(all.len(), 1, "{all:?}");
    let (key, _, _, effect) = all.remove(0);
    (key, effect)
}

#[test]
fn the_same_again_is_no_change_whatever_the_order_in_which_it_is_written() {
    assert_eq!(changes(&[]), []);
    let (one, other) = (
        "[[route]]\nbackend = \"app\"\n",
        "[[route]]\npath = \"/own\"\nbackend = \"own\"\n",
    );
    assert_eq!(changes(&[(one, ""), (other, &format!("{one}{other}"))]), []);
}

#[test]
fn what_a_key_does_is_told_with_it() {
    for (from, to, key, effect) in [
        ("grace = \"5s\"", "grace = \"6s\"", "grace", Effect::Now),
        ("grace", "state_dir = \"/var\"\ngrace", "state_dir", Effect::Restart),
        ("[admin]", "[admin]\nreadyz = \"backends\"", "admin.readyz", Effect::Now),
        ("127.0.0.1:9\"", "127.0.0.1:8\"", "admin.address", Effect::Restart),
        ("0123456789abcdef0", "0123456789abcdef1", "admin.token", Effect::Now),
        ("127.0.0.1:80\"", "127.0.0.1:81\"", "listener.main.address", Effect::Now),
        (
            "80\"\n",
            "80\"\nhosts = [\"a.test\"]\n",
            "listener.main.hosts",
            Effect::NewClients,
        ),
        (
            "127.0.0.1:1\"",
            "127.0.0.1:2\"",
            "backend.app.address",
            Effect::NewClients,
        ),
        (
            "127.0.0.1:1\"",
            "127.0.0.1:1\"\nheld_max = 7",
            "backend.app.held_max",
            Effect::Now,
        ),
        (
            "127.0.0.1:5\"",
            "127.0.0.1:6\"",
            "backend.app.check.db.address",
            Effect::NewClients,
        ),
        ("[\"x\"]", "[\"y\"]", "backend.own.process.command", Effect::Restart),
        (
            "[backend.own.process]",
            "[backend.own]\nready = \"notify\"\n[backend.own.process]",
            "backend.own.ready",
            Effect::Restart,
        ),
        (
            "[backend.own.process]",
            "[backend.own]\ndials_max = 3\n[backend.own.process]",
            "backend.own.dials_max",
            Effect::Now,
        ),
        (
            "path = \"/own\"",
            "path = \"/own\"\nhold = \"refuse\"",
            "route.\"*/own\".hold",
            Effect::NewClients,
        ),
    ] {
        let all = changes(&[(from, to)]);
        assert!(
            all.iter().any(|(found, _, _, does)| found == key && *does == effect),
            "{key}: {all:?}"
        );
    }
}

#[test]
fn a_table_that_comes_or_goes_is_one_change() {
    let (main, own) = ("[listener.main]", "[backend.own.process]");
    let led = "[[route]]\npath = \"/n\"\nbackend = \"new\"\n[[route]]\n";
    let all = |from: &str, to: &str| changes(&[("[[route]]\n", led), (from, to)]);
    for (from, to, key, effect) in [
        (
            own,
            "[backend.new]\naddress = \"127.0.0.1:3\"\n[backend.own.process]",
            "backend.new",
            Effect::NewClients,
        ),
        (
            own,
            "[backend.new.process]\ncommand = [\"z\"]\n[backend.own.process]",
            "backend.new",
            Effect::Restart,
        ),
    ] {
        let all: Vec<_> = all(from, to)
            .into_iter()
            .map(|(key, old, _, effect)| (key, old, effect))
            .collect();
        let route = ("route.\"*/n\"".to_owned(), None, Effect::NewClients);
        assert_eq!(all, [(key.to_owned(), None, effect), route]);
    }
    let other = "[listener.other]\naddress = \"127.0.0.1:82\"\n[listener.main]";
    assert_eq!(one(&[(main, other)]), ("listener.other".into(), Effect::Now));
    let check = "[backend.app.check.db]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n";
    assert!(
        changes(&[(check, "")])
            .iter()
            .all(|(_, _, new, effect)| new.is_none() && *effect == Effect::NewClients)
    );
    let gone = changes(&[(
        "[[route]]\npath = \"/own\"\nbackend = \"own\"\n[route.request_headers]\nset = { authorization = \"planted\" }\n",
        "[[route]]\npath = \"/else\"\nbackend = \"own\"\n",
    )]);
    assert_eq!(gone.len(), 2, "{gone:?}");
}

#[test]
fn secrets_are_compared_and_not_shown() {
    let all = changes(&[
        ("KEY = \"planted\"", "KEY = \"planted2\""),
        ("authorization = \"planted\"", "authorization = \"planted3\""),
        ("0123456789abcdef0", "planted-0123456789"),
    ]);
    assert_eq!(all.len(), 3, "{all:?}");
    for (key, old, new, _) in all {
        assert_eq!((old.as_deref(), new.as_deref()), (Some(HIDDEN), Some(HIDDEN)), "{key}");
    }
}

#[test]
fn what_is_needed_keeps_its_place() {
    let needing = |wishes: &[&str]| {
        let mut text = "[backend.app]\naddress = \"127.0.0.1:1\"\n".to_owned();
        for number in 0..wishes.len() {
            text += &format!("[backend.app.check.c{number}]\nprobe = \"tcp\"\naddress = \"127.0.0.1:5\"\n");
        }
        for (number, wish) in wishes.iter().enumerate() {
            text += &format!("[[route]]\npath = \"/{number}\"\nrequire = {wish}\n");
        }
        config(&text)
    };
    let old = needing(&["[\"c0\"]", "[\"c1\"]", "[]"]);
    let mut new = needing(&["[]", "[\"c0\", \"c1\"]", "[\"c1\"]"]);
    let wants: Vec<Need> = new
        .routes
        .iter()
        .map(|route| new.backends[0].needs[route.need].clone())
        .collect();
    assert!(carry_needs(&old, &mut new).is_empty());
    assert!(new.backends[0].needs.starts_with(&old.backends[0].needs));
    let has: Vec<Need> = new
        .routes
        .iter()
        .map(|route| new.backends[0].needs[route.need].clone())
        .collect();
    assert_eq!(wants, has);
    assert_eq!(fate(&old.backends[0], &new.backends[0]), Fate::Stays);
    new.backends[0].checks.clear();
    assert_eq!(fate(&old.backends[0], &new.backends[0]), Fate::IsReplaced);
}

/// A kind of drain that says nothing has what the stop has: who changes that has changed one thing.
#[test]
fn what_the_kinds_of_a_drain_take_over_is_told_once() {
    let of_stop = ("[admin]", "[drain]\nreason = \"a new one\"\nwindow = \"4s\"\n[admin]");
    let mut keys: Vec<_> = changes(&[of_stop]).into_iter().map(|(key, ..)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["drain.reason", "drain.window"]);
    let of_one = (
        "[admin]",
        "[drain.scale-down]\nreason = \"fewer\"\ncode = 1012\n[admin]",
    );
    let keys: Vec<_> = changes(&[of_one]).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(keys, ["drain.scale-down.code", "drain.scale-down.reason"]);
}
