//! Decides which route a request takes: the first that matches, in the order that
//! [`order`] gives them.
//!
//! The host is taken as the head has it: any case, with or without a port or the
//! root's dot. The path is taken as it is, with or without a query: a head whose
//! path would mean something else when normalised is refused before. Pure, and
//! without allocation; the time is linear in the number of routes (`ROUTES_MAX`).

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::ops::Deref;
use std::sync::Arc;

use super::host::bare;
use super::model::{Backend, Config, HostPattern, Route};

impl Config {
    /// The index of the route for a request with this Host (empty: none was given) and this path.
    #[must_use]
    pub fn route(&self, listener: usize, host: &str, path: &str) -> Option<usize> {
        let host = bare(host);
        self.routes.iter().position(|route| {
            let here = route.listeners.as_ref().is_none_or(|some| some.contains(&listener));
            here && route.host.is_for(host) && rest(&route.path, path).is_some()
        })
    }
}

/// A route, with the configuration that it is of: after a reload there are others, and who came before goes by this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOf {
    config: Arc<Config>,
    index: usize,
}

impl RouteOf {
    /// The route of this index, which is one of the configuration's.
    #[must_use]
    pub fn new(config: &Arc<Config>, index: usize) -> Self {
        debug_assert!(index < config.routes.len());
        let config = Arc::clone(config);
        Self { config, index }
    }

    /// The backend that it leads to.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.config.backends[self.backend]
    }

    /// The configuration that it is of.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

impl Deref for RouteOf {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.config.routes[self.index]
    }
}

impl Route {
    /// The path towards the backend: the matched prefix replaced by `rewrite`, with one slash between
    /// it and the rest. A path that the route is not for stays as it is.
    #[must_use]
    pub fn target<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        let (Some(rewrite), Some(rest)) = (&self.rewrite, rest(&self.path, path)) else {
            return Cow::Borrowed(path);
        };
        if !path.starts_with('/') {
            return Cow::Borrowed(path); // `*` of OPTIONS is no path
        }
        let joined = match (rewrite.ends_with('/'), rest.strip_prefix('/')) {
            (true, Some(rest)) => format!("{rewrite}{rest}"),
            (false, None) if !rest.is_empty() && !rest.starts_with('?') => format!("{rewrite}/{rest}"),
            (true | false, _) => format!("{rewrite}{rest}"),
        };
        Cow::Owned(joined)
    }
}

/// What follows the prefix in `path`, if the prefix ends on a segment's boundary there.
fn rest<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    if prefix == "/" && !path.starts_with('/') {
        return Some(path); // `*` of OPTIONS
    }
    let rest = path.strip_prefix(prefix)?;
    (prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

/// Which of two routes is tried first: the one for fewer hosts, then fewer paths, then fewer listeners.
pub(super) fn order(a: &Route, b: &Route) -> Ordering {
    let key = |route: &Route| {
        let host = match &route.host {
            HostPattern::Exact(_) => (0, Reverse(0)),
            HostPattern::Wildcard(end) => (1, Reverse(end.len())),
            HostPattern::Any => (2, Reverse(0)),
        };
        (host, Reverse(route.path.len()), route.listeners.is_none())
    };
    // The rest makes the order the same whatever order they were written in.
    key(a).cmp(&key(b)).then_with(|| {
        let tie = |route: &Route| (route.host.to_string(), route.path.clone(), route.listeners.clone());
        tie(a).cmp(&tie(b))
    })
}

#[cfg(test)]
mod tests {
    use super::super::model::{HeaderEdits, Hold, HttpMode, KnownBy, Limits, LogFormat};
    use super::super::{Admin, Shed, TellClients};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn route(host: HostPattern, path: &str, listeners: Option<Vec<usize>>) -> Route {
        Route {
            name: String::new(),
            host,
            path: path.into(),
            listeners,
            backend: 0,
            hold: Hold::Handshake,
            accept_after: Duration::ZERO,
            subprotocols: Vec::new(),
            forward_after: None,
            watch: greenroom_core::watch::Rule::default(),
            waiting_message: None,
            origins: None,
            known_by: KnownBy::default(),
            hold_timeout: Duration::ZERO,
            http: HttpMode::Hold,
            http_hold: Duration::ZERO,
            waiting_page: true,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: None,
            body_max: None,
            message_max: None,
            message_rate: None,
            need: 0,
            shed: Shed::Late,
            tell_clients: TellClients::No,
        }
    }

    fn config(mut routes: Vec<Route>) -> Config {
        routes.sort_by(order);
        Config {
            listeners: Vec::new(),
            backends: Vec::new(),
            routes,
            grace: Duration::ZERO,
            log_format: LogFormat::Auto,
            tracing: Default::default(),
            admin: Admin::default(),
            state_dir: None,
            reload_on_change: false,
            profile: None,
            limits: Limits::default(),
            drain: super::super::Drain::default(),
        }
    }

    #[test]
    fn a_prefix_ends_on_a_segments_boundary() {
        for (prefix, path, expected) in [
            ("/ws", "/ws", Some("")),
            ("/ws", "/ws/x", Some("/x")),
            ("/ws", "/ws?x", Some("?x")),
            ("/ws", "/wsx", None),
            ("/ws", "/WS", None),
            ("/ws", "/", None),
            ("/ws/", "/ws/x", Some("x")),
            ("/ws/", "/ws", None),
            ("/", "/anything?x", Some("anything?x")),
            ("/", "*", Some("*")),
        ] {
            assert_eq!(rest(prefix, path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn a_rewrite_replaces_the_prefix_and_leaves_one_slash() {
        for (prefix, rewrite, path, expected) in [
            ("/api", "/v1", "/api/users?x", "/v1/users?x"),
            ("/api", "/", "/api/users", "/users"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api?x", "/?x"),
            ("/api/", "/v1", "/api/users", "/v1/users"),
            ("/api/", "/v1", "/api/", "/v1"),
            ("/", "/v1", "/users", "/v1/users"),
            ("/", "/v1", "/", "/v1"),
            ("/", "/v1/", "/?x", "/v1/?x"),
            ("/", "/v1", "*", "*"),
        ] {
            let mut route = route(HostPattern::Any, prefix, None);
            route.rewrite = Some(rewrite.into());
            assert_eq!(route.target(path), expected, "{prefix} {rewrite} {path}");
        }
    }

    #[test]
    fn a_route_for_one_listener_is_tried_before_the_same_for_all() {
        let config = config(vec![
            route(HostPattern::Any, "/", None),
            route(HostPattern::Any, "/", Some(vec![1])),
        ]);
        assert_eq!(config.route(1, "x", "/"), Some(0));
        assert_eq!(config.route(0, "x", "/"), Some(1));
    }

    #[test]
    fn the_closest_host_is_tried_first_then_the_longest_path() {
        let wild = |end: &str| HostPattern::Wildcard(end.into());
        let exact = HostPattern::Exact("x.a.b".into());
        let expected = [
            (exact.clone(), "/long"),
            (exact, "/"),
            (wild(".a.b"), "/"),
            (wild(".b"), "/long"),
            (wild(".b"), "/"),
            (HostPattern::Any, "/longer"),
            (HostPattern::Any, "/"),
        ];
        let routes = expected
            .iter()
            .rev()
            .map(|(host, path)| route(host.clone(), path, None));
        let found = config(routes.collect())
            .routes
            .into_iter()
            .map(|route| (route.host, route.path));
        let expected = expected.into_iter().map(|(host, path)| (host, path.to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    fn pattern() -> impl Strategy<Value = HostPattern> {
        let name = "[ab](\\.[ab]){0,2}";
        prop_oneof![
            Just(HostPattern::Any),
            name.prop_map(HostPattern::Exact),
            name.prop_map(|name| HostPattern::Wildcard(format!(".{name}"))),
        ]
    }

    /// Few different parts, so that several routes often match the same request.
    fn any_route() -> impl Strategy<Value = Route> {
        let listeners = prop_oneof![
            3 => Just(None),
            1 => prop::collection::btree_set(0..3_usize, 1..3).prop_map(Some),
        ];
        let path = prop_oneof![Just("/".to_owned()), "(/[ab]){1,2}/?"];
        (pattern(), path, listeners)
            .prop_map(|(host, path, listeners)| route(host, &path, listeners.map(|some| some.into_iter().collect())))
    }

    /// The model: segments and labels compared one by one, the best of all that match.
    fn naive(config: &Config, listener: usize, host: &str, path: &str) -> Option<(u8, usize, usize, bool)> {
        let host = host.to_lowercase();
        let name = host.split(':').next().unwrap_or("");
        let labels: Vec<_> = name.split('.').collect();
        let path = path.split('?').next().unwrap_or("");
        let matches = |route: &&Route| {
            let host = match &route.host {
                HostPattern::Any => true,
                HostPattern::Exact(exact) => exact.split('.').collect::<Vec<_>>() == labels,
                HostPattern::Wildcard(end) => {
                    let end: Vec<_> = end.split('.').skip(1).collect();
                    labels.len() > end.len() && labels.ends_with(&end)
                }
            };
            let wanted: Vec<_> = route.path.split('/').collect();
            let found: Vec<_> = path.split('/').collect();
            // "/a/" is wanted as ["", "a", ""]: a segment, be it empty, must follow.
            let path = match wanted.split_last() {
                Some((&"", begin)) => found.len() > begin.len() && found.starts_with(begin),
                _ => found.starts_with(&wanted),
            };
            let listener = route.listeners.iter().flatten().any(|&l| l == listener) || route.listeners.is_none();
            host && path && listener
        };
        let rank = |route: &Route| {
            let host = match &route.host {
                HostPattern::Exact(_) => (0, 0),
                HostPattern::Wildcard(end) => (1, usize::MAX - end.len()),
                HostPattern::Any => (2, 0),
            };
            (host.0, host.1, usize::MAX - route.path.len(), route.listeners.is_none())
        };
        config.routes.iter().filter(matches).map(rank).min()
    }

    proptest! {
        #[test]
        fn the_first_that_matches_is_the_closest_of_all_that_match(
            routes in prop::collection::vec(any_route(), 0..12),
            listener in 0..3_usize,
            host in "[abAB](\\.[abAB]){0,3}(:80)?",
            path in "(/[ab]{0,2}){1,4}(\\?/a)?",
        ) {
            let config = config(routes);
            let found = config.route(listener, &host, &path).map(|index| &config.routes[index]);
            let only = found.map(|route| {
                let one = Config { routes: vec![route.clone()], ..config.clone() };
                naive(&one, listener, &host, &path)
            });
            prop_assert_eq!(only, naive(&config, listener, &host, &path).map(Some));
        }

        #[test]
        fn the_order_does_not_depend_on_how_they_were_written(
            routes in prop::collection::vec(any_route(), 0..8),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut turned = routes.clone();
            if !turned.is_empty() {
                let at = seed.index(turned.len());
                turned.rotate_left(at);
            }
            prop_assert_eq!(config(routes).routes, config(turned).routes);
        }

        #[test]
        fn no_host_and_no_path_makes_it_panic(host in any::<String>(), path in any::<String>()) {
            let config = config(vec![
                route(HostPattern::Wildcard(".b".into()), "/", None),
                route(HostPattern::Exact("a".into()), "/a", None),
            ]);
            let _ = config.route(0, &host, &path);
            for mut route in config.routes {
                route.rewrite = Some("/x".into());
                let _ = route.target(&path);
            }
        }
    }
}
