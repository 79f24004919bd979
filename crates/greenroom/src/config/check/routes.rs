//! Routes: which client goes to which backend. Their order, and what of them can
//! never be.

use std::collections::BTreeMap;

use greenroom_core::limits::{
    BODY_MAX_MOST, HOLD_TIMEOUT, HOLD_TIMEOUT_MAX, HOLD_TIMEOUT_MIN, HTTP_HOLD, MESSAGE_MAX_RANGE, MESSAGE_RATE_MAX,
    ROUTE_PATH_MAX, ROUTES_MAX,
};
use greenroom_core::readiness::Need;

use super::super::Shed;
use super::super::host::host_pattern;
use super::super::model::{Backend, HostPattern, HttpMode, Route};
use super::super::problem::Problem;
use super::super::source::Place;
use super::super::suggest::{closest, listed};
use super::super::units;
use super::super::written::{self, Field, Many, Names, Number, Size, Written, join};
use super::holding::Holds;
use super::{Checker, Door, Placed};

/// What routes can lead from and to.
#[derive(Clone, Copy)]
struct Ends<'a> {
    listeners: &'a [&'a str],
    backends: &'a [Placed<Backend>],
}

impl Checker<'_> {
    pub(super) fn routes(
        &mut self,
        field: Field<Many<written::Route>>,
        doors: &[Door],
        backends: &mut [Placed<Backend>],
        backends_are_known: bool,
    ) -> Vec<Route> {
        let routes_are_known = !field.is_wrong();
        let mut many = field.present().map(|written| written.value.0).unwrap_or_default();
        let are_all = many.len() <= ROUTES_MAX;
        self.at_most("routes", &mut many, ROUTES_MAX, |route| route.place.clone());
        let names: Vec<&str> = doors.iter().map(|door| door.name.as_str()).collect();
        let ends = Ends {
            listeners: &names,
            backends,
        };
        let (mut routes, mut needs) = (Vec::new(), Vec::new());
        let mut complete = backends_are_known && routes_are_known && are_all;
        for (index, route) in many.into_iter().enumerate() {
            match self.route(&format!("route[{index}]"), route, ends) {
                Some((route, need)) => {
                    routes.push(route);
                    needs.push(need);
                }
                None => complete = false,
            }
        }
        self.twice(&routes);
        self.names_of(&routes);
        if complete {
            self.unreached(&routes, doors, backends);
        }
        // In the order in which they are tried, so that the needs of a backend have one order too.
        let mut routes: Vec<_> = routes.into_iter().zip(needs).collect();
        routes.sort_by(|(a, _), (b, _)| super::super::route::order(&a.value, &b.value));
        self.gather(routes, backends)
    }

    /// One route; `None` if it is not known what it is for or where it leads.
    fn route(&mut self, path: &str, route: written::Route, ends: Ends<'_>) -> Option<(Placed<Route>, Need)> {
        let table = route.place.clone();
        let given = self.given_name(&join(path, "name"), route.name);
        let host = self.host(&join(path, "host"), route.host);
        let prefix = self.prefix(&join(path, "path"), route.path);
        let listeners = self.listeners_of(&join(path, "listener"), route.listener, ends.listeners);
        let backend = self.backend_of(&join(path, "backend"), route.backend, ends.backends, table.as_ref());
        let holding = self.holding(
            path,
            Holds {
                hold: route.hold,
                accept_after: route.accept_after,
                subprotocols: route.subprotocols,
                waiting_message: route.waiting_message,
            },
        );
        let forward_after = self.forward_after(&join(path, "forward_after"), route.forward_after);
        let origins = self.origins(&join(path, "origins"), route.origins);
        let known_by = self.known_by(path, route.user, route.tags);
        let (min, max) = (HOLD_TIMEOUT_MIN, HOLD_TIMEOUT_MAX);
        let hold_timeout = self.duration(&join(path, "hold_timeout"), route.hold_timeout, HOLD_TIMEOUT, min, max);
        let http = self.word(&join(path, "http"), route.http, HttpMode::default());
        let http_hold = self.duration(&join(path, "http_hold"), route.http_hold, HTTP_HOLD, min, max);
        let waiting_page = self.flag(&join(path, "waiting_page"), route.waiting_page, true);
        let request_headers = self.headers(&join(path, "request_headers"), route.request_headers);
        let response_headers = self.headers(&join(path, "response_headers"), route.response_headers);
        let rewrite = self.rewrite(&join(path, "rewrite"), route.rewrite);
        let body_max = self.body_max(&join(path, "body_max"), route.body_max);
        let (message_max, message_rate) = self.messages(path, route.message_max, route.message_rate);
        let leads_to = backend
            .and_then(|index| ends.backends.get(index))
            .map(|backend| &backend.value);
        let need = self.need(path, route.require, route.degraded, leads_to);
        let shed = self.word(&join(path, "shed"), route.shed, Shed::default());
        let tell_clients = self.tell_clients(path, route.tell_clients, route.degraded_message);
        let mut value = Route {
            name: String::new(),
            host: host?,
            path: prefix?,
            listeners: listeners?,
            backend: backend?,
            hold: holding.hold,
            accept_after: holding.accept_after,
            hold_timeout,
            subprotocols: holding.subprotocols,
            forward_after,
            waiting_message: holding.waiting_message,
            origins,
            known_by,
            http,
            http_hold,
            waiting_page,
            request_headers,
            response_headers,
            rewrite,
            body_max,
            message_max,
            message_rate,
            need: 0,
            shed,
            tell_clients,
        };
        value.name = given.unwrap_or_else(|| derived_name(&value, ends.listeners));
        Some((Placed { value, place: table }, need))
    }

    fn given_name(&mut self, key: &str, field: Field<String>) -> Option<String> {
        let written = field.present()?;
        self.name("route", &written.value, Some(&written.place));
        self.note(key, &written.value, Some(&written.place));
        Some(written.value)
    }

    fn host(&mut self, key: &str, field: Field<String>) -> Option<HostPattern> {
        if field.is_absent() {
            self.note(key, HostPattern::Any, None);
            return Some(HostPattern::Any);
        }
        self.text(key, field, host_pattern).map(|placed| placed.value)
    }

    fn prefix(&mut self, key: &str, field: Field<String>) -> Option<String> {
        if field.is_absent() {
            self.note(key, "/", None);
            return Some("/".into());
        }
        self.text(key, field, plain_path).map(|placed| placed.value)
    }

    /// `None`: wrong. `Some(None)`: all.
    #[expect(clippy::option_option, reason = "wrong and all are two things")]
    fn listeners_of(&mut self, key: &str, field: Field<Names>, known: &[&str]) -> Option<Option<Vec<usize>>> {
        if field.is_absent() {
            self.note(key, "all", None);
            return Some(None);
        }
        let written = field.present()?;
        let names: Vec<Written<String>> = written.value.0;
        if names.is_empty() {
            let problem = Problem::new(format!("`{key}` is empty: no client would take this route")).at(&written.place);
            self.problems.add(problem.help("leave it out for all listeners"));
            return None;
        }
        let found: Vec<Option<usize>> = names
            .iter()
            .map(|name| self.index_of("listener", key, name, known))
            .collect();
        let mut indices = found.into_iter().collect::<Option<Vec<usize>>>()?;
        indices.sort_unstable();
        indices.dedup();
        let shown: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        self.note(key, shown.join(", "), Some(&written.place));
        Some(Some(indices))
    }

    fn backend_of(
        &mut self,
        key: &str,
        field: Field<String>,
        backends: &[Placed<Backend>],
        table: Option<&Place>,
    ) -> Option<usize> {
        let names: Vec<&str> = backends.iter().map(|backend| backend.value.name.as_str()).collect();
        if field.is_absent() {
            match names.as_slice() {
                [] => return None, // told once, for all routes
                [only] => {
                    self.note(key, only, None);
                    return Some(0);
                }
                _ if table.is_none() => {
                    let problem = format!(
                        "there are {} backends, and no route says which client goes where",
                        names.len()
                    );
                    let help = "add a [[route]] for each, with backend = \"NAME\" and a host or a path";
                    self.problems.add(Problem::new(problem).help(help));
                    return None;
                }
                _ => {
                    let help = format!("there are several backends: write {}", quoted("or", &names));
                    self.missing(key, table, &help);
                    return None;
                }
            }
        }
        let written = field.present()?;
        let index = self.index_of("backend", key, &written, &names)?;
        self.note(key, &written.value, Some(&written.place));
        Some(index)
    }

    /// The index of a name.
    fn index_of(&mut self, kind: &str, key: &str, name: &Written<String>, known: &[&str]) -> Option<usize> {
        let found = known.iter().position(|known| *known == name.value);
        if found.is_none() {
            let problem =
                Problem::new(format!("`{key}` is {:?}, and there is no such {kind}", name.value)).at(&name.place);
            self.problems.add(match closest(&name.value, known.iter().copied()) {
                Some(meant) => problem.label(format!("did you mean \"{meant}\"?")),
                None if known.is_empty() => problem,
                None => problem.help(format!("the configuration has {}", quoted("and", known))),
            });
        }
        found
    }

    fn rewrite(&mut self, key: &str, field: Field<String>) -> Option<String> {
        if field.is_absent() {
            self.note(key, "no", None);
        }
        self.text(key, field, plain_path).map(|placed| placed.value)
    }

    fn body_max(&mut self, key: &str, field: Field<Size>) -> Option<u64> {
        if field.is_absent() {
            self.note(key, "no limit", None);
        }
        let read = |text: &str| units::size_in(text, 0, BODY_MAX_MOST);
        self.text(key, field, read).map(|placed| placed.value)
    }

    /// What clients' messages keep to: how large they are, and how many in a second.
    fn messages(&mut self, path: &str, max: Field<Size>, rate: Field<Number>) -> (Option<u64>, Option<usize>) {
        let key = join(path, "message_max");
        if max.is_absent() {
            self.note(&key, "no limit", None);
        }
        let read = |text: &str| units::size_in(text, MESSAGE_MAX_RANGE.0, MESSAGE_MAX_RANGE.1);
        let max = self.text(&key, max, read).map(|placed| placed.value);
        let rate = self.at_will(&join(path, "message_rate"), rate, "no limit", MESSAGE_RATE_MAX);
        (max, rate)
    }

    /// Two routes for the same clients: which one would they take?
    fn twice(&mut self, routes: &[Placed<Route>]) {
        let mut seen: BTreeMap<(String, &str), Vec<&Placed<Route>>> = BTreeMap::new();
        for route in routes {
            let same = seen
                .entry((route.value.host.to_string(), route.value.path.as_str()))
                .or_default();
            if let Some(other) = same
                .iter()
                .find(|other| share(&other.value.listeners, &route.value.listeners))
            {
                self.problems.add(
                    Problem::new(format!(
                        "two routes are for the same clients: host {:?}, path {:?}",
                        route.value.host.to_string(),
                        route.value.path
                    ))
                    .near(route.place.as_ref())
                    .label("and this is the second")
                    .related(other.place.as_ref(), "this is the first")
                    .help("give them different hosts, paths or listeners, or take one away"),
                );
            }
            same.push(route);
        }
    }

    fn names_of(&mut self, routes: &[Placed<Route>]) {
        let mut seen: BTreeMap<&str, &Placed<Route>> = BTreeMap::new();
        for route in routes {
            // A derived name has a slash in it, so it is nobody's given name; twins are told by `twice`.
            if let (Some(other), false) = (seen.get(route.value.name.as_str()), route.value.name.contains('/')) {
                self.problems.add(
                    Problem::new(format!("two routes have the name `{}`", route.value.name))
                        .near(route.place.as_ref())
                        .related(other.place.as_ref(), "the other is here")
                        .help("give one of them another name, or none"),
                );
            }
            seen.insert(route.value.name.as_str(), route);
        }
    }

    /// What no client ever comes to, or can never go on from.
    fn unreached(&mut self, routes: &[Placed<Route>], doors: &[Door], backends: &[Placed<Backend>]) {
        for (index, backend) in backends.iter().enumerate() {
            if !routes.iter().any(|route| route.value.backend == index) {
                let name = &backend.value.name;
                self.problems.add(
                    Problem::new(format!(
                        "no route leads to backend `{name}`: no client would ever reach it"
                    ))
                    .near(backend.place.as_ref())
                    .help(format!(
                        "add a [[route]] with backend = {name:?}, or take the backend away"
                    )),
                );
            }
        }
        for (index, door) in doors.iter().enumerate() {
            let name = &door.name;
            let here = |route: &Placed<Route>| route.value.listeners.as_ref().is_none_or(|some| some.contains(&index));
            if !routes.iter().any(here) {
                self.problems.add(
                    Problem::new(format!(
                        "no route is for listener `{name}`: its clients would go nowhere"
                    ))
                    .at(&door.place)
                    .help(format!(
                        "add a [[route]] with listener = {name:?}, or take the listener away"
                    )),
                );
            }
        }
    }
}

/// Names in quotes, as a list for a sentence.
fn quoted(and: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    listed(and, names.iter().map(String::as_str))
}

/// Whether clients of one listener could take both. One for all listeners and one for some go together:
/// the latter is tried first.
fn share(a: &Option<Vec<usize>>, b: &Option<Vec<usize>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.iter().any(|index| b.contains(index)),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The name of a route that has none: its host and path, and its listeners where it has some. It holds
/// a slash, so no given name is like it.
pub(in crate::config) fn derived_name(route: &Route, listeners: &[&str]) -> String {
    let mut name = format!("{}{}", route.host, route.path);
    for (count, index) in route.listeners.iter().flatten().enumerate() {
        name.push(if count == 0 { '@' } else { ',' });
        name.push_str(listeners.get(*index).copied().unwrap_or("?"));
    }
    name
}

/// Reads a path that is the beginning of others, and the only way to write them.
pub(super) fn plain_path(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('*').trim_end_matches('/');
    let error = if !text.starts_with('/') {
        format!("must begin with /: write {:?}", format!("/{text}"))
    } else if text.len() > ROUTE_PATH_MAX {
        format!("is too long: at most {ROUTE_PATH_MAX} bytes")
    } else if text.ends_with('*') {
        let bare = if bare.is_empty() { "/" } else { bare };
        format!("is the beginning of paths already: write {bare:?}, without *")
    } else if text.contains(['?', '#']) {
        "must be a path alone, without ? or #".into()
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        "may hold visible ASCII characters only: write others as clients send them, such as %C3%BC".into()
    } else if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        "must not hold //, /./ or /../: such a path is another way to write a shorter one".into()
    } else if !escapes_are_plain(text) {
        "may hold % only before two hexadecimal digits in upper case, and only for what cannot be written without it"
            .into()
    } else {
        return Ok(text.to_owned());
    };
    Err(format!("{text:?} {error}"))
}

/// Whether each escape is the one way to write its byte.
fn escapes_are_plain(text: &str) -> bool {
    let mut parts = text.split('%');
    let _ = parts.next();
    parts.all(|part| {
        let Some(digits) = part.get(..2) else { return false };
        let upper = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        let byte = u8::from_str_radix(digits, 16).unwrap_or(b'/');
        let written_plainly =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | 0);
        upper && !written_plainly
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_way_to_be_written() {
        for text in ["/", "/ws", "/ws/", "/a/b.c", "/%C3%BC", "/a;b=c", "/.well-known"] {
            assert_eq!(plain_path(text), Ok(text.to_owned()));
        }
        let long = format!("/{}", "a".repeat(ROUTE_PATH_MAX));
        for text in [
            "", "ws", "/ws/*", "/a?b", "/a#b", "/a b", "/ü", "//a", "/a//", "/./a", "/a/..", "/%", "/%c3", "/%2F",
            "/%41", "/%C", &long,
        ] {
            assert!(plain_path(text).is_err(), "{text}");
        }
        assert!(plain_path("/ws/*").unwrap_err().contains("write \"/ws\""));
        assert!(plain_path("*").unwrap_err().contains("begin with /"));
    }
}
