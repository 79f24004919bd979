//! Any valid configuration survives print and parse.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use greenroom::config::{
    Address, Admin, Backend, Config, Flags, HeaderEdits, HostPattern, HttpMode, Limits, Listener, LogFormat, Process,
    Purpose, Ready, Route, Secrets, Shed, Tracing, load_bytes, to_toml,
};
use greenroom_core::backoff::RestartPolicy;
use greenroom_core::readiness::Need;
use proptest::prelude::*;

use super::holding;
use super::parts::{self, Wish};
use super::{check, layers, watch};

/// Text with what TOML must escape.
pub(crate) fn text() -> impl Strategy<Value = String> {
    "[a-z \"\\\\\n\t\u{1}\u{7f}é{}=#\\[\\]']{0,12}"
}

pub(crate) fn milliseconds(min: u64, max: u64) -> impl Strategy<Value = Duration> {
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
        "([a-z][a-z.]{0,8})?".prop_map(Ready::Grpc),
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
        (
            restart,
            prop::option::of((100_u64..3_600_000).prop_map(Duration::from_millis)),
        ),
    )
        .prop_map(
            |((program, words), env, cwd, user, group, (restart, watchdog))| Process {
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
                watchdog,
            },
        )
}

/// A name that no other has.
pub(crate) fn name(index: usize) -> impl Strategy<Value = String> {
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
        (parts::phases(), parts::checks(), holding::fairness()),
    )
        .prop_map(
            |(name, address, ready, process, (held_max, http_held_max, dials_max), (phases, checks, fairness))| {
                let (fair, held_per_address, held_per_key, release_rate) = fairness;
                let address: Option<Address> = match (&process, address) {
                    (None, None) => Some("127.0.0.1:1999".parse().unwrap()),
                    (_, address) => address.map(|text| text.parse().unwrap()),
                };
                parts::fitted(Backend {
                    name,
                    address,
                    ready,
                    phases,
                    checks,
                    needs: vec![Need::default()],
                    held_max,
                    http_held_max,
                    dials_max,
                    release_rate,
                    fair,
                    held_per_address,
                    held_per_key,
                    process,
                })
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

pub(crate) fn host() -> impl Strategy<Value = HostPattern> {
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
        (holds, http) in (holding::holds(),
            prop_oneof![Just(HttpMode::Hold), Just(HttpMode::Refuse), Just(HttpMode::Pass)]),
        hold_timeout in milliseconds(1, 3_600_000),
        http_hold in milliseconds(1, 3_600_000),
        waiting_page in any::<bool>(),
        (request_headers, response_headers) in (edits(), edits()),
        (rewrite, body_max) in (prop::option::of(path()), prop::option::of(0..=1_u64 << 40)),
        (message_max, message_rate) in (prop::option::of(1..=1_u64 << 40), prop::option::of(1..=100_000_usize)),
        (shed, tell_clients) in (prop_oneof![Just(Shed::Late), Just(Shed::Early)], parts::tell_clients()),
        (wish, known_by, watch) in (parts::wish(), holding::known_by(), watch::rule()),
    ) -> (Route, Wish) {
        let (hold, accept_after, subprotocols, forward_after, waiting_message, origins) = holds;
        let route = Route {
            name: name.unwrap_or_default(),
            host, path,
            listeners: some.map(|some| some.into_iter().collect()),
            backend, hold, accept_after, hold_timeout, subprotocols, forward_after, watch, waiting_message, origins, known_by, http, http_hold, waiting_page, request_headers, response_headers, rewrite, body_max,
            message_max, message_rate,
            need: 0,
            shed, tell_clients,
        };
        (route, wish)
    }
}

fn config() -> impl Strategy<Value = Config> {
    (1..4_usize, 1..4_usize, 0..6_usize).prop_flat_map(|(listeners, backends, routes)| {
        let named: Vec<_> = (0..listeners).map(|index| (name(index), holding::hosts())).collect();
        let backend: Vec<_> = (0..backends).map(backend).collect();
        let route: Vec<_> = (0..routes).map(|index| route(index, backends, listeners)).collect();
        let log = prop_oneof![Just(LogFormat::Auto), Just(LogFormat::Text), Just(LogFormat::Json)];
        let profile = prop_oneof![
            2 => Just(None),
            1 => Just(Some("development")),
            1 => Just(Some("production"))
        ];
        let top = (
            milliseconds(0, 3_600_000),
            log,
            parts::admin(),
            prop::option::of("/?[a-z \"]{1,8}"),
            profile,
            holding::limits(),
            parts::tracing(),
        );
        (named, backend, route, top).prop_map(assemble)
    })
}

/// What stands at the top of a configuration.
type Top = (
    Duration,
    LogFormat,
    Admin,
    Option<String>,
    Option<&'static str>,
    Limits,
    Tracing,
);

/// The names of listeners with their hosts, backends, routes each with its wish, and the top.
type Parts = (
    Vec<(String, Option<Vec<HostPattern>>)>,
    Vec<Backend>,
    Vec<(Route, Wish)>,
    Top,
);

/// Makes of the parts a configuration that is valid: routes for different clients, and one that
/// leads to each backend from each listener.
fn assemble(parts: Parts) -> Config {
    let (names, mut backends, mut routes, (grace, log_format, admin, state_dir, profile, mut limits, tracing)) = parts;
    let listeners: Vec<Listener> = names
        .into_iter()
        .enumerate()
        .map(|(index, (name, hosts))| Listener {
            name,
            hosts,
            address: format!("127.0.0.1:{}", 1_000 + index).parse().unwrap(),
        })
        .collect();
    for index in 0..backends.len() {
        let route = Route {
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
        };
        routes.push((route, Wish::default()));
    }
    let mut seen = BTreeSet::new();
    routes.retain(|(route, _)| seen.insert((route.host.to_string(), route.path.clone())));
    if routes.iter().all(|(route, _)| route.known_by.user.is_none()) {
        limits.user = None; // it would limit nobody
    }
    for (route, _) in routes.iter_mut().filter(|(route, _)| route.name.is_empty()) {
        let some: Vec<_> = route
            .listeners
            .iter()
            .flatten()
            .map(|&index| listeners[index].name.as_str())
            .collect();
        let at = if some.is_empty() { "" } else { "@" };
        route.name = format!("{}{}{at}{}", route.host, route.path, some.join(","));
    }
    for (route, wish) in &mut routes {
        let need = parts::need(wish, &backends[route.backend]);
        let needs = &mut backends[route.backend].needs;
        route.need = needs.iter().position(|known| *known == need).unwrap_or(needs.len());
        if route.need == needs.len() {
            needs.push(need);
        }
    }
    let starts = backends.iter().any(|backend| backend.process.is_some());
    Config {
        listeners,
        backends,
        routes: routes.into_iter().map(|(route, _)| route).collect(),
        grace,
        log_format,
        admin,
        state_dir: state_dir.map(Into::into),
        reload_on_change: grace.as_millis() % 2 == 1,
        profile: profile.map(Into::into),
        limits,
        tracing,
        drain: super::draining::drain(grace, starts),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is printed reads as what was printed, the routes in the order in which they are tried; and from then
    /// on printing changes nothing at all.
    #[test]
    fn any_valid_configuration_survives_print_and_parse(config in config()) {
        let printed = to_toml(&config, Secrets::Shown);
        let flags = Flags { profile: config.profile.clone(), ..Flags::default() };
        let layers = layers(&[], flags, Purpose::Check);
        let read = match load_bytes("printed.toml", printed.clone().into_bytes(), &layers) {
            Ok(loaded) => loaded.config,
            Err(invalid) => return Err(TestCaseError::fail(format!("{}\n{printed}", invalid.render(false)))),
        };
        for backend in &read.backends {
            prop_assert_eq!(&backend.needs[0], &Need::default());
            prop_assert_eq!(backend.needs.iter().collect::<HashSet<_>>().len(), backend.needs.len());
        }
        prop_assert_eq!(by_place(read.clone()), by_place(config));
        let again = to_toml(&read, Secrets::Shown);
        prop_assert_eq!(load_bytes("again.toml", again.into_bytes(), &layers).unwrap().config, read);
    }
}

/// The configuration with its routes, and by them the needs, in one order, whatever theirs was.
fn by_place(mut config: Config) -> Config {
    config
        .routes
        .sort_by_key(|route| (route.host.to_string(), route.path.clone()));
    for (index, backend) in config.backends.iter_mut().enumerate() {
        let old = std::mem::replace(&mut backend.needs, vec![Need::default()]);
        for route in config.routes.iter_mut().filter(|route| route.backend == index) {
            let need = &old[route.need];
            route.need = backend.needs.iter().position(|known| known == need).unwrap_or_else(|| {
                backend.needs.push(need.clone());
                backend.needs.len() - 1
            });
        }
        assert_eq!(old.len(), backend.needs.len(), "a need that no route has");
    }
    config
}
