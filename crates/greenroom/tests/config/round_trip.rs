//! Any valid configuration survives print and parse.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom::config::{
    Address, Backend, Config, HeaderEdits, Hold, HostPattern, HttpMode, Listener, LogFormat, Process, Ready, Route,
    Secrets, to_toml,
};
use greenroom_core::backoff::RestartPolicy;
use proptest::prelude::*;

use super::check;

/// Text with what TOML must escape.
fn text() -> impl Strategy<Value = String> {
    "[a-z \"\\\\\n\t\u{1}\u{7f}é{}=#\\[\\]']{0,12}"
}

fn milliseconds(min: u64, max: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![
        (min..=max).prop_map(Duration::from_millis),
        (min.div_ceil(1_000)..=max / 1_000).prop_map(Duration::from_secs),
    ]
}

fn ready() -> impl Strategy<Value = Ready> {
    prop_oneof![
        Just(Ready::Auto),
        Just(Ready::Tcp),
        "/[a-z?=&\"]{0,8}".prop_map(Ready::Http),
        "/[a-z]{0,8}".prop_map(Ready::WebSocket),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let words = ("[a-z./\"]{1,8}", prop::collection::vec(text(), 0..4));
    let env = prop::collection::btree_map("[A-Z_. \"é]{1,8}", text(), 0..4);
    let restart = prop_oneof![
        Just(RestartPolicy::Never),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Always)
    ];
    let account = || prop::option::of("[a-z0-9][a-z0-9_.-]{0,8}");
    (
        words,
        env,
        prop::option::of("/?[a-z \"]{1,8}"),
        account(),
        account(),
        restart,
    )
        .prop_map(|((program, words), env, cwd, user, group, restart)| Process {
            command: std::iter::once(program)
                .chain(words)
                .map(|word| word.replace("{port}", "").into())
                .collect(),
            env: env
                .into_iter()
                .filter(|(name, _)| name != "PORT")
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            cwd: cwd.map(Into::into),
            user,
            group,
            restart,
        })
}

/// A name that no other has.
fn name(index: usize) -> impl Strategy<Value = String> {
    "[a-zA-Z_-]{0,4}".prop_map(move |begin| format!("{begin}{index}"))
}

/// A backend at a port of its own: the listeners have those below 2000.
fn backend(index: usize) -> impl Strategy<Value = Backend> {
    let address = prop_oneof![
        Just(format!("127.0.0.1:{}", 2_000 + index)),
        Just(format!("[::1]:{}", 2_000 + index)),
        Just(format!("app-{index}.example:80")),
        Just(format!("unix:/run/a b\"{index}.sock")),
    ];
    let maxima = (1..=1_000_000_usize, 1..=1_000_000_usize, 1..=10_000_usize);
    (
        name(index),
        prop::option::of(address),
        ready(),
        prop::option::of(process()),
        maxima,
    )
        .prop_map(
            |(name, address, ready, process, (held_max, http_held_max, dials_max))| {
                let address: Option<Address> = match (&process, address) {
                    (None, None) => Some("127.0.0.1:1999".parse().unwrap()),
                    (_, address) => address.map(|text| text.parse().unwrap()),
                };
                Backend {
                    name,
                    address,
                    ready,
                    held_max,
                    http_held_max,
                    dials_max,
                    process,
                }
            },
        )
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let value = "([!-~]([ -~]{0,8}[!-~])?)?";
    let set = prop::collection::btree_map("x-s-[a-z0-9!#]{0,6}", value, 0..3);
    let remove = prop::collection::btree_set("x-r-[a-z]{0,6}", 0..3);
    (set, remove).prop_map(|(set, remove)| HeaderEdits {
        set: set.into_iter().collect(),
        remove: remove.into_iter().collect(),
    })
}

fn host() -> impl Strategy<Value = HostPattern> {
    let name = "[a-z0-9_-]{1,4}(\\.[a-z]{1,4}){0,2}";
    prop_oneof![
        Just(HostPattern::Any),
        Just(HostPattern::Exact("[::1]".into())),
        name.prop_map(HostPattern::Exact),
        name.prop_map(|name| HostPattern::Wildcard(format!(".{name}"))),
    ]
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-z0-9._~;=\"-]{1,5}|/%C3%BC){0,3}/?".prop_map(|path| {
        let dots = path.split('/').any(|segment| segment == "." || segment == "..");
        if path.is_empty() || dots || path.contains("//") {
            "/".into()
        } else {
            path
        }
    })
}

prop_compose! {
    fn route(index: usize, backends: usize, listeners: usize)(
        (name, host, path) in (prop::option::of(name(index)), host(), path()),
        some in prop::option::of(prop::collection::btree_set(0..listeners, 1..=listeners)),
        backend in 0..backends,
        (hold, http) in (prop_oneof![Just(Hold::Handshake), Just(Hold::Refuse)],
            prop_oneof![Just(HttpMode::Hold), Just(HttpMode::Refuse), Just(HttpMode::Pass)]),
        hold_timeout in milliseconds(1, 3_600_000),
        http_hold in milliseconds(1, 3_600_000),
        waiting_page in any::<bool>(),
        (request_headers, response_headers) in (edits(), edits()),
        (rewrite, body_max) in (prop::option::of(path()), prop::option::of(0..=1_u64 << 40)),
    ) -> Route {
        Route {
            name: name.unwrap_or_default(),
            host, path,
            listeners: some.map(|some| some.into_iter().collect()),
            backend, hold, hold_timeout, http, http_hold, waiting_page, request_headers, response_headers, rewrite, body_max,
        }
    }
}

fn config() -> impl Strategy<Value = Config> {
    (1..4_usize, 1..4_usize, 0..6_usize).prop_flat_map(|(listeners, backends, routes)| {
        let named: Vec<_> = (0..listeners).map(name).collect();
        let backend: Vec<_> = (0..backends).map(backend).collect();
        let route: Vec<_> = (0..routes).map(|index| route(index, backends, listeners)).collect();
        let log = prop_oneof![Just(LogFormat::Auto), Just(LogFormat::Text), Just(LogFormat::Json)];
        (named, backend, route, milliseconds(0, 3_600_000), log).prop_map(assemble)
    })
}

/// Makes of the parts a configuration that is valid: routes for different clients, and one that
/// leads to each backend from each listener.
fn assemble(parts: (Vec<String>, Vec<Backend>, Vec<Route>, Duration, LogFormat)) -> Config {
    let (names, backends, mut routes, grace, log_format) = parts;
    let listeners: Vec<Listener> = names
        .into_iter()
        .enumerate()
        .map(|(index, name)| Listener {
            name,
            address: format!("127.0.0.1:{}", 1_000 + index).parse().unwrap(),
        })
        .collect();
    for index in 0..backends.len() {
        routes.push(Route {
            name: String::new(),
            host: HostPattern::Exact(format!("reach-{index}.example")),
            path: "/".into(),
            listeners: None,
            backend: index,
            ..check("plain.toml", b"[backend.a]\naddress = \"h:1\"")
                .unwrap()
                .config
                .routes[0]
                .clone()
        });
    }
    let mut seen = BTreeSet::new();
    routes.retain(|route| seen.insert((route.host.to_string(), route.path.clone())));
    for route in routes.iter_mut().filter(|route| route.name.is_empty()) {
        let some: Vec<_> = route
            .listeners
            .iter()
            .flatten()
            .map(|&index| listeners[index].name.as_str())
            .collect();
        let at = if some.is_empty() { "" } else { "@" };
        route.name = format!("{}{}{at}{}", route.host, route.path, some.join(","));
    }
    Config {
        listeners,
        backends,
        routes,
        grace,
        log_format,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is printed reads as what was printed, the routes in the order in which they are tried; and from then
    /// on printing changes nothing at all.
    #[test]
    fn any_valid_configuration_survives_print_and_parse(config in config()) {
        let printed = to_toml(&config, Secrets::Shown);
        let read = match check("printed.toml", printed.as_bytes()) {
            Ok(loaded) => loaded.config,
            Err(invalid) => return Err(TestCaseError::fail(format!("{}\n{printed}", invalid.render(false)))),
        };
        let by_place = |mut config: Config| {
            config.routes.sort_by_key(|route| (route.host.to_string(), route.path.clone()));
            config
        };
        prop_assert_eq!(by_place(read.clone()), by_place(config));
        let again = to_toml(&read, Secrets::Shown);
        prop_assert_eq!(check("again.toml", again.as_bytes()).unwrap().config, read);
    }
}
