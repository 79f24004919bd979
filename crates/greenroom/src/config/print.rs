//! Writes a configuration as TOML that reads back as the same: `greenroom check --toml`.
//!
//! Every value is written out, defaults too, so that nothing changes when a later
//! greenroom has others. A value that may be a secret is left out unless it is asked for, and a
//! comment stands in its place: a file that lacks it says so, where a wrong value would pass for right.

use std::ffi::OsStr;
use std::fmt::{Display, Write as _};

use greenroom_core::drain::Pace;
use greenroom_core::readiness::Item;
use greenroom_core::watch;

use super::check::derived_name;
use super::explain::Secrets;
use super::model::{Backend, Config, ForwardAfter, HeaderEdits, Hold, Limits, Process, Route};
use super::units::{show, show_size};
use super::words::{OnSlow, Readyz, Tell, Word};
use super::{Address, Admin, Check, Drain, DrainKind, Manner, ProbeKind, Secret, TellClients};

/// The configuration as one file. What is not UTF-8 (only a command line can hold it) is written with
/// U+FFFD in its place.
#[must_use]
pub fn to_toml(config: &Config, secrets: Secrets) -> String {
    let mut page = Page {
        text: String::new(),
        secrets,
        hidden: 0,
    };
    page.line("grace", quoted(&show(config.grace)));
    page.line("log_format", quoted(config.log_format.word()));
    if let Some(folder) = &config.state_dir {
        page.line("state_dir", text(folder.as_os_str()));
    }
    page.line("reload_on_change", config.reload_on_change);
    page.drain(&config.drain);
    page.limits(&config.limits);
    page.admin(&config.admin);
    page.tracing(&config.tracing);
    for listener in &config.listeners {
        page.header(&format!("[listener.{}]", key(&listener.name)));
        page.line("address", quoted(&listener.address.to_string()));
        if let Some(hosts) = &listener.hosts {
            page.line("hosts", array(hosts.iter().map(|host| quoted(&host.to_string()))));
        }
    }
    for backend in &config.backends {
        page.backend(backend);
    }
    let listeners: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    for route in &config.routes {
        page.route(route, config, &listeners);
    }
    match page.hidden {
        0 => page.text,
        1 => format!(
            "# 1 value is left out, as it may be a secret: --show-secrets writes it\n{}",
            page.text
        ),
        count => format!(
            "# {count} values are left out, as they may be secrets: --show-secrets writes them\n{}",
            page.text
        ),
    }
}

struct Page {
    text: String,
    secrets: Secrets,
    /// Values that were left out.
    hidden: usize,
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
        self.address(backend.address.as_ref());
        self.line("ready", quoted(&backend.ready.to_string()));
        self.line("held_max", backend.held_max);
        self.line("http_held_max", backend.http_held_max);
        self.line("dials_max", backend.dials_max);
        self.line("fair", quoted(&backend.fair.to_string()));
        self.number("held_per_address", backend.held_per_address);
        self.number("held_per_key", backend.held_per_key);
        self.number("release_rate", backend.release_rate);
        self.line("phases", array(backend.phases.iter().map(|phase| quoted(&phase.name))));
        for phase in &backend.phases {
            if let Some(timeout) = phase.timeout {
                self.header(&format!("[backend.{name}.phase.{}]", key(&phase.name)));
                self.line("timeout", quoted(&show(timeout)));
            }
        }
        for check in &backend.checks {
            self.header(&format!("[backend.{name}.check.{}]", key(&check.rule.name)));
            self.check(check, backend);
        }
        if let Some(process) = &backend.process {
            self.header(&format!("[backend.{name}.process]"));
            self.process(process);
        }
    }

    fn drain(&mut self, drain: &Drain) {
        self.header("[drain]");
        self.manner(&drain.stop);
        if let Some(within) = drain.within {
            self.line("within", quoted(&show(within)));
        }
        for kind in DrainKind::ALL {
            self.header(&format!("[drain.{}]", kind.word()));
            self.manner(drain.of(kind));
        }
    }

    fn manner(&mut self, manner: &Manner) {
        match manner.pace {
            Pace::Window(window) => self.line("window", quoted(&show(window))),
            Pace::Rate(rate) => self.line("rate", rate),
            Pace::Spread(_) => {} // what follows from `grace` and the number of clients
        }
        self.line("code", manner.code);
        self.line("reason", quoted(&manner.reason)); // an empty one too: a kind has the stop's otherwise
    }

    fn limits(&mut self, limits: &Limits) {
        self.header("[limits]");
        self.number("connections_max", limits.connections_max);
        self.number("connections_per_address", limits.connections_per_address);
        self.number("handshakes_per_address", limits.handshakes_per_address);
        self.line("address_bits_v4", limits.address_bits.0);
        self.line("address_bits_v6", limits.address_bits.1);
        self.line("head_max", quoted(&show_size(limits.head_max as u64)));
        self.line("head_timeout", quoted(&show(limits.head_timeout)));
        self.line("early_max", quoted(&show_size(limits.early_max as u64)));
        self.line("early_budget", quoted(&show_size(limits.early_budget as u64)));
        if let Some(rule) = limits.user {
            self.line("max_connections_per_user", rule.most);
            self.line("on_user_limit", quoted(rule.on_limit.word()));
        }
    }

    /// A number that may be left out.
    fn number(&mut self, key: &str, number: Option<usize>) {
        if let Some(number) = number {
            self.line(key, number);
        }
    }

    fn tracing(&mut self, tracing: &super::Tracing) {
        self.header("[tracing]");
        if let Some(endpoint) = &tracing.endpoint {
            self.line("endpoint", quoted(endpoint));
        }
        self.line("sample_per_mille", tracing.sample_per_mille);
    }

    fn admin(&mut self, admin: &Admin) {
        self.header("[admin]");
        if let Some(socket) = &admin.socket {
            self.line("socket", text(socket.as_os_str()));
        }
        self.address(admin.address.as_ref());
        match &admin.token_file {
            Some(file) => self.line("token_file", text(file.as_os_str())),
            None => self.secret("token", admin.token.as_ref()),
        }
        if let Some(prefix) = &admin.health_prefix {
            self.line("health_prefix", quoted(prefix));
        }
        let readyz = if admin.readyz_waits {
            Readyz::Backends
        } else {
            Readyz::Listening
        };
        self.line("readyz", quoted(readyz.word()));
    }

    fn check(&mut self, check: &Check, backend: &Backend) {
        self.line("probe", quoted(check.probe.word()));
        self.probe(&check.probe);
        if let Some(phase) = check.rule.phase.and_then(|index| backend.phases.get(index)) {
            self.line("phase", quoted(&phase.name));
        }
        self.line("critical", check.rule.critical);
        if !check.rule.critical {
            self.line("weight", check.rule.weight);
        }
        if !matches!(check.probe, ProbeKind::Log { .. }) {
            self.line("rise", check.rule.rise);
            self.line("fall", check.rule.fall);
            self.line("interval", quoted(&show(check.interval)));
            self.line("timeout", quoted(&show(check.timeout)));
        }
    }

    fn probe(&mut self, probe: &ProbeKind) {
        match probe {
            ProbeKind::Listen(address) | ProbeKind::Tcp(address) => self.address(address.as_ref()),
            ProbeKind::Http(http) => {
                self.address(http.address.as_ref());
                self.line("path", quoted(&http.path));
                let (first, last) = http.status;
                self.line("status", quoted(&format!("{first}-{last}")));
                let body = http.body.as_ref().map(|body| body.0.as_str());
                for (key, value) in [
                    ("host", http.host.as_deref()),
                    ("body", body),
                    ("pointer", http.pointer.as_deref()),
                ] {
                    if let Some(value) = value {
                        self.line(key, quoted(value));
                    }
                }
            }
            ProbeKind::WebSocket {
                address,
                path,
                host,
                ping,
            } => {
                self.address(address.as_ref());
                self.line("path", quoted(path));
                if let Some(host) = host {
                    self.line("host", quoted(host));
                }
                self.line("ping", ping);
            }
            ProbeKind::Grpc { address, service } => {
                self.address(address.as_ref());
                if !service.is_empty() {
                    self.line("service", quoted(service));
                }
            }
            ProbeKind::Postgres {
                address,
                user,
                database,
                password,
                recovery,
            } => {
                self.address(Some(address));
                self.line("user", quoted(user));
                self.line("database", quoted(database));
                self.secret("password", password.as_ref());
                self.line("recovery", recovery);
            }
            ProbeKind::Redis { address, password } => {
                self.address(Some(address));
                self.secret("password", password.as_ref());
            }
            ProbeKind::Nats { address, login } => {
                self.address(Some(address));
                if let Some((user, password)) = login {
                    self.line("user", quoted(user));
                    self.secret("password", Some(password));
                }
            }
            ProbeKind::Exec { command } => self.line("command", array(command.iter().map(|word| text(word)))),
            ProbeKind::Log { line } => self.line("line", quoted(line.0.as_str())),
            ProbeKind::File { path } => self.line("file", text(path.as_os_str())),
        }
    }

    fn address(&mut self, address: Option<&Address>) {
        if let Some(address) = address {
            self.line("address", quoted(&address.to_string()));
        }
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) {
        match (secret, self.secrets) {
            (Some(secret), Secrets::Shown) => self.line(key, quoted(&secret.0)),
            (Some(_), Secrets::Hidden) => self.leave_out(key),
            (None, _) => {}
        }
    }

    fn leave_out(&mut self, key: &str) {
        self.hidden += 1;
        let _ = writeln!(self.text, "# {key} = (hidden: --show-secrets)");
    }

    fn process(&mut self, process: &Process) {
        let words = process.command.iter().map(|word| text(word));
        self.line("command", array(words));
        if !process.env.is_empty() {
            let pairs = process
                .env
                .iter()
                .map(|(name, value)| (name.to_string_lossy(), text(value)));
            self.secret_table("env", pairs);
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
        if let Some(watchdog) = process.watchdog {
            self.line("watchdog", quoted(&show(watchdog)));
        }
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
        self.holding(route);
        self.watch(&route.watch);
        self.line("hold_timeout", quoted(&show(route.hold_timeout)));
        if let Some(origins) = &route.origins {
            self.line(
                "origins",
                array(origins.iter().map(|origin| quoted(&origin.to_string()))),
            );
        }
        if let Some(name) = &route.known_by.user {
            self.line("user", quoted(&format!("header:{name}")));
        }
        if !route.known_by.tags.is_empty() {
            let tags = route.known_by.tags.iter();
            self.line("tags", array(tags.map(|tag| quoted(&tag.to_string()))));
        }
        self.line("http", quoted(route.http.word()));
        self.line("http_hold", quoted(&show(route.http_hold)));
        self.line("waiting_page", route.waiting_page);
        if let Some(rewrite) = &route.rewrite {
            self.line("rewrite", quoted(rewrite));
        }
        if let Some(body_max) = route.body_max {
            self.line("body_max", quoted(&show_size(body_max)));
        }
        if let Some(message_max) = route.message_max {
            self.line("message_max", quoted(&show_size(message_max)));
        }
        if let Some(message_rate) = route.message_rate {
            self.line("message_rate", message_rate);
        }
        self.needs(route, config);
        self.edits("request_headers", &route.request_headers);
        self.edits("response_headers", &route.response_headers);
    }

    fn holding(&mut self, route: &Route) {
        self.line("hold", quoted(route.hold.word()));
        if route.hold == Hold::Auto {
            self.line("accept_after", quoted(&show(route.accept_after)));
        }
        if !route.subprotocols.is_empty() {
            self.line(
                "subprotocols",
                array(route.subprotocols.iter().map(|name| quoted(name))),
            );
        }
        if let Some(forward_after) = route.forward_after {
            let written = match forward_after {
                ForwardAfter::Handshake => "handshake".into(),
                ForwardAfter::FirstFrame => "first-frame".into(),
                ForwardAfter::Time(time) => show(time),
            };
            self.line("forward_after", quoted(&written));
        }
        if let Some(message) = &route.waiting_message {
            self.line("waiting_message", quoted(message));
        }
    }

    fn watch(&mut self, rule: &watch::Rule) {
        if let Some(ping) = rule.ping {
            self.line("ping_interval", quoted(&show(ping.interval)));
            self.line("ping_timeout", quoted(&show(ping.timeout)));
            self.line("ping_backend", quoted(ping.backend.word()));
        }
        if let Some(idle) = rule.idle {
            self.line("idle_timeout", quoted(&show(idle)));
        }
        if let Some(lifetime) = rule.lifetime {
            self.line("max_lifetime", quoted(&show(lifetime)));
        }
        match rule.slow {
            None => self.line("slow", quoted(OnSlow::Wait.word())),
            Some(slow) => {
                self.line("slow", quoted(OnSlow::Close.word()));
                self.line("slow_after", quoted(&show(slow.after)));
                self.line("slow_bytes", quoted(&show_size(slow.bytes as u64)));
            }
        }
    }

    fn needs(&mut self, route: &Route, config: &Config) {
        let backend = config.backends.get(route.backend);
        if let Some((backend, need)) = backend.and_then(|backend| Some((backend, backend.needs.get(route.need)?))) {
            if let Some(items) = &need.require {
                let name = |item: &Item| match *item {
                    Item::Check(index) => backend.checks.get(index).map(|check| quoted(&check.rule.name)),
                    Item::Phase(index) => backend.phases.get(index).map(|phase| quoted(&phase.name)),
                };
                self.line("require", array(items.iter().filter_map(name)));
            }
            self.line("degraded", quoted(need.degraded.word()));
        }
        self.line("shed", quoted(route.shed.word()));
        let (how, message) = match &route.tell_clients {
            TellClients::No => (Tell::No, None),
            TellClients::Header => (Tell::Header, None),
            TellClients::Message(message) => (Tell::Message, Some(message)),
        };
        self.line("tell_clients", quoted(how.word()));
        if let Some(message) = message {
            self.line("degraded_message", quoted(message));
        }
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
        self.secret_table("set", pairs);
        self.line("remove", array(edits.remove.iter().map(|name| quoted(name))));
    }

    fn secret_table<'a>(&mut self, of: &str, pairs: impl Iterator<Item = (std::borrow::Cow<'a, str>, String)>) {
        match self.secrets {
            Secrets::Shown => {
                let pairs: Vec<String> = pairs.map(|(name, value)| format!("{} = {value}", key(&name))).collect();
                let table = if pairs.is_empty() {
                    "{}".into()
                } else {
                    format!("{{ {} }}", pairs.join(", "))
                };
                self.line(of, table);
            }
            Secrets::Hidden => {
                for (name, _) in pairs {
                    self.leave_out(&format!("{of}.{}", key(&name)));
                }
            }
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
pub(super) fn key(name: &str) -> String {
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
