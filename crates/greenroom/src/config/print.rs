//! Writes a configuration as TOML that reads back as the same: `greenroom check --toml`.
//!
//! Every value is written out, defaults too, so that nothing changes when a later
//! greenroom has others.

use std::ffi::OsStr;
use std::fmt::{Display, Write as _};

use super::check::derived_name;
use super::explain::{HIDDEN, Secrets};
use super::model::{Backend, Config, HeaderEdits, Process, Route};
use super::units::{show, show_size};
use super::words::Word;

/// The configuration as one file. What is not UTF-8 (only a command line can hold it) is written with
/// U+FFFD in its place.
#[must_use]
pub fn to_toml(config: &Config, secrets: Secrets) -> String {
    let mut page = Page {
        text: String::new(),
        secrets,
    };
    page.line("grace", quoted(&show(config.grace)));
    page.line("log_format", quoted(config.log_format.word()));
    for listener in &config.listeners {
        page.header(&format!("[listener.{}]", key(&listener.name)));
        page.line("address", quoted(&listener.address.to_string()));
    }
    for backend in &config.backends {
        page.backend(backend);
    }
    let listeners: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    for route in &config.routes {
        page.route(route, config, &listeners);
    }
    page.text
}

struct Page {
    text: String,
    secrets: Secrets,
}

impl Page {
    fn header(&mut self, header: &str) {
        let _ = writeln!(self.text, "\n{header}");
    }

    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn backend(&mut self, backend: &Backend) {
        let name = key(&backend.name);
        self.header(&format!("[backend.{name}]"));
        if let Some(address) = &backend.address {
            self.line("address", quoted(&address.to_string()));
        }
        self.line("ready", quoted(&backend.ready.to_string()));
        self.line("held_max", backend.held_max);
        self.line("http_held_max", backend.http_held_max);
        self.line("dials_max", backend.dials_max);
        if let Some(process) = &backend.process {
            self.header(&format!("[backend.{name}.process]"));
            self.process(process);
        }
    }

    fn process(&mut self, process: &Process) {
        let words = process.command.iter().map(|word| text(word));
        self.line("command", array(words));
        if !process.env.is_empty() {
            let pairs = process
                .env
                .iter()
                .map(|(name, value)| (name.to_string_lossy(), text(value)));
            let table = self.secret_table(pairs);
            self.line("env", table);
        }
        if let Some(cwd) = &process.cwd {
            self.line("cwd", text(cwd.as_os_str()));
        }
        for (key, account) in [("user", &process.user), ("group", &process.group)] {
            if let Some(account) = account {
                self.line(key, quoted(account));
            }
        }
        self.line("restart", quoted(process.restart.word()));
    }

    fn route(&mut self, route: &Route, config: &Config, listeners: &[&str]) {
        self.header("[[route]]");
        if route.name != derived_name(route, listeners) {
            self.line("name", quoted(&route.name));
        }
        self.line("host", quoted(&route.host.to_string()));
        self.line("path", quoted(&route.path));
        if let Some(some) = &route.listeners {
            let names = some.iter().filter_map(|index| listeners.get(*index));
            self.line("listener", array(names.map(|name| quoted(name))));
        }
        if let Some(backend) = config.backends.get(route.backend) {
            self.line("backend", quoted(&backend.name));
        }
        self.line("hold", quoted(route.hold.word()));
        self.line("hold_timeout", quoted(&show(route.hold_timeout)));
        self.line("http", quoted(route.http.word()));
        self.line("http_hold", quoted(&show(route.http_hold)));
        self.line("waiting_page", route.waiting_page);
        if let Some(rewrite) = &route.rewrite {
            self.line("rewrite", quoted(rewrite));
        }
        if let Some(body_max) = route.body_max {
            self.line("body_max", quoted(&show_size(body_max)));
        }
        self.edits("request_headers", &route.request_headers);
        self.edits("response_headers", &route.response_headers);
    }

    fn edits(&mut self, key: &str, edits: &HeaderEdits) {
        if *edits == HeaderEdits::default() {
            return;
        }
        self.header(&format!("[route.{key}]"));
        let pairs = edits
            .set
            .iter()
            .map(|(name, value)| (name.as_str().into(), quoted(value)));
        let table = self.secret_table(pairs);
        self.line("set", table);
        self.line("remove", array(edits.remove.iter().map(|name| quoted(name))));
    }

    fn secret_table<'a>(&self, pairs: impl Iterator<Item = (std::borrow::Cow<'a, str>, String)>) -> String {
        let pairs: Vec<String> = pairs
            .map(|(name, value)| match self.secrets {
                Secrets::Shown => format!("{} = {value}", key(&name)),
                Secrets::Hidden => format!("{} = {}", key(&name), quoted(HIDDEN)),
            })
            .collect();
        if pairs.is_empty() {
            "{}".into()
        } else {
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn text(text: &OsStr) -> String {
    quoted(&text.to_string_lossy())
}

/// A key, bare where it can be.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
