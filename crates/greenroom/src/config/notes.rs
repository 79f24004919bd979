//! What is right as a configuration and yet may not be what was meant.
//!
//! None of it stops anything: `check` shows these beside what it says, and `run` and `serve` as warnings. Bounded by
//! the configuration and the environment; the file system is asked by `check` only, for one folder of each process.

use std::ffi::OsStr;

use super::layers::PREFIX;
use super::load::Layers;
use super::model::{Backend, Config, Hold, Limits, Process, Route};
use super::suggest::closest;
use super::units::show_size;
use super::written::{Read, Root, Shape};
use super::{Address, Purpose};

/// Variables of one underscore that are greenroom's own.
const OWN: [&str; 3] = ["GREENROOM_ADMIN", "GREENROOM_BACKEND", "GREENROOM_PROFILE"];

pub(super) fn notes(config: &Config, layers: &Layers<'_>) -> Vec<String> {
    let mut notes: Vec<String> = layers
        .variables
        .iter()
        .filter_map(|(name, _)| underscores(name))
        .collect();
    notes.sort();
    for backend in &config.backends {
        if let Some(process) = &backend.process {
            of_process(backend, process, layers.purpose, &mut notes);
        }
    }
    if layers.purpose == Purpose::Check {
        slashes(config, &mut notes);
        useless(config, &mut notes);
    }
    notes
}

/// `GREENROOM_GRACE`, where `GREENROOM__GRACE` is meant.
fn underscores(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    let rest = name.strip_prefix("GREENROOM_").filter(|rest| !rest.starts_with('_'))?;
    let Shape::Table(keys) = Root::SHAPE else { return None };
    let lower = rest.to_lowercase();
    let is_key = |key: &str| lower == key || lower.strip_prefix(key).is_some_and(|below| below.starts_with('_'));
    let is_meant = !OWN.contains(&name) && keys.iter().any(|(key, _)| *key != "profile" && is_key(key));
    is_meant.then(|| {
        format!("the variable {name} is no setting: those begin with {PREFIX}, and have two underscores between keys")
    })
}

fn of_process(backend: &Backend, process: &Process, purpose: Purpose, notes: &mut Vec<String>) {
    let name = &backend.name;
    let words = || process.command.iter().filter_map(|word| word.to_str());
    if backend.address.is_none() {
        for word in words() {
            if let Some(found) = misspelt(word) {
                notes.push(format!(
                    "backend.{name}.process.command: {{{found}}} is given to the program as it stands: did you mean {{port}}?"
                ));
            }
        }
        if let (false, Some(own)) = (
            words().any(|word| word.contains("{port}")),
            words().find(|word| is_port(word)),
        ) {
            notes.push(format!(
                "backend.{name}.process.command: {own:?} chooses a port, and so does greenroom: write {{port}} there, or set backend.{name}.address"
            ));
        }
    }
    if let (Purpose::Check, Some(cwd)) = (purpose, &process.cwd)
        && !cwd.is_dir()
    {
        notes.push(format!(
            "backend.{name}.process.cwd: {} is no folder on this machine",
            cwd.display()
        ));
    }
}

/// Whether the word says where to listen.
fn is_port(word: &str) -> bool {
    let flag = word.split('=').next().unwrap_or(word);
    let is_address = matches!(word.parse(), Ok(Address::Tcp { port, .. }) if port > 0);
    is_address || matches!(flag, "--port" | "--bind" | "--listen" | "--http-port")
}

/// A word in braces that looks like `{port}` and is not.
fn misspelt(word: &str) -> Option<&str> {
    let pieces = word.split('{').skip(1).filter_map(|piece| piece.split_once('}'));
    let mut inner = pieces.map(|(inner, _)| inner.trim_start_matches('{'));
    inner.find(|inner| *inner != "port" && closest(inner, ["port"]).is_some())
}

/// `/ws/` beside `/ws`: both are right, and few know which one takes what.
fn slashes(config: &Config, notes: &mut Vec<String>) {
    for route in &config.routes {
        let bare = route.path.strip_suffix('/').filter(|bare| !bare.is_empty());
        let beside = |other: &&super::model::Route| Some(other.path.as_str()) == bare && other.host == route.host;
        if let Some(other) = config.routes.iter().find(beside) {
            let (path, bare) = (&route.path, &other.path);
            notes.push(format!(
                "routes for {path:?} and {bare:?}: the first takes what is below {path}, the second {bare} alone"
            ));
        }
    }
}

/// Bounds that another one keeps from ever mattering.
fn useless(config: &Config, notes: &mut Vec<String>) {
    for Route { name, .. } in
        (config.routes.iter()).filter(|route| route.hold == Hold::Auto && route.accept_after >= route.hold_timeout)
    {
        notes.push(format!(
            "route {name:?}: nobody is accepted, as `hold_timeout` ends before `accept_after`: let it be longer, or write hold = \"handshake\""
        ));
    }
    for backend in &config.backends {
        let per = [
            ("held_per_address", backend.held_per_address),
            ("held_per_key", backend.held_per_key),
        ];
        for (key, max) in per.into_iter().filter_map(|(key, max)| Some((key, max?))) {
            if max >= backend.held_max {
                notes.push(format!(
                    "backend.{}.{key} is {max}, and no more than {} wait in all (`held_max`): it never keeps anybody out",
                    backend.name, backend.held_max
                ));
            }
        }
    }
    let Limits {
        early_max,
        early_budget,
        ..
    } = config.limits;
    if early_budget < early_max.saturating_mul(2) {
        notes.push(format!(
            "limits.early_budget is {} and one client may have {} of it (`early_max`): a single one can keep all others from being accepted",
            show_size(early_budget as u64),
            show_size(early_max as u64)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_underscore_is_noticed_where_a_setting_is_meant() {
        let noticed = |name: &str| underscores(OsStr::new(name)).is_some();
        for name in [
            "GREENROOM_GRACE",
            "GREENROOM_LOG_FORMAT",
            "GREENROOM_BACKEND_APP_READY",
            "GREENROOM_ROUTE_0_HOLD",
        ] {
            assert!(noticed(name), "{name}");
        }
        for name in [
            "GREENROOM__GRACE",
            "GREENROOM_PROFILE",
            "GREENROOM_ADMIN",
            "GREENROOM_BACKEND",
            "GREENROOM_E2E",
            "GRACE",
        ] {
            assert!(!noticed(name), "{name}");
        }
    }

    #[test]
    fn a_bound_that_can_never_be_met_is_noticed() {
        let noticed = |text: &str| {
            let layers = Layers {
                file: None,
                variables: Vec::new(),
                flags: crate::config::Flags::default(),
                purpose: Purpose::Check,
            };
            let text = format!("[backend.app]\naddress = \"127.0.0.1:1\"\n{text}");
            let loaded = crate::config::load_bytes("test.toml", text.into_bytes(), &layers).unwrap();
            loaded.notes.join("\n")
        };
        assert_eq!(noticed(""), "");
        let early = noticed("[limits]\nearly_max = \"64KiB\"\nearly_budget = \"64KiB\"\n");
        assert!(early.contains("early_budget"), "{early}");
        let line = noticed("held_max = 10\nheld_per_address = 10\n");
        assert!(line.contains("backend.app.held_per_address"), "{line}");
        let route = noticed("[[route]]\nhold_timeout = \"2s\"\n");
        assert!(route.contains("nobody is accepted"), "{route}");
        assert_eq!(noticed("[[route]]\nhold_timeout = \"2s\"\nhold = \"handshake\"\n"), "");
    }

    #[test]
    fn a_word_that_chooses_a_port_is_known() {
        for word in ["--port", "--port=80", "--bind", "127.0.0.1:8000", "0.0.0.0:80"] {
            assert!(is_port(word), "{word}");
        }
        for word in ["app:app", "--reload", "app:0", "-p", "http://x:1", "8000"] {
            assert!(!is_port(word), "{word}");
        }
    }

    #[test]
    fn a_slip_in_the_braces_is_found() {
        for (word, found) in [
            ("--port={prot}", Some("prot")),
            ("{PORT}", Some("PORT")),
            ("{{port}}", None),
            ("127.0.0.1:{port}", None),
            ("{\"a\":1}", None),
            ("{host}", None),
        ] {
            assert_eq!(misspelt(word), found, "{word}");
        }
    }
}
