//! Decides whether what was written makes sense, and turns it into a [`Config`].
//!
//! Everything is looked at, whatever else is wrong: each value against its range
//! first, then all of them against one another. A value that is wrong is replaced
//! by its default meanwhile, and takes no part in what is compared, so that one
//! mistake is one problem.

mod addresses;
mod admin;
mod backends;
mod checks;
mod drain;
mod headers;
mod holding;
mod known;
mod limits;
mod needs;
mod phases;
mod probes;
mod routes;
mod tracing;
mod watch;

pub(crate) use drain::{too_long, words_fit};
pub(super) use routes::derived_name;
pub(super) use watch::doubts;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_core::limits::{CONFIG_NAME_MAX, GRACE, GRACE_MAX};

use super::explain::Effective;
use super::layers::as_variable;
use super::model::{Backend, Config, HostPattern, Listener, LogFormat};
use super::problem::{Problem, Problems};
use super::source::{Origin, Place, Sources};
use super::suggest::{closest, listed};
use super::tree::Key;
use super::words::Word;
use super::written::{Field, Number, Profiles, Root, Span, Written};
use super::{Address, units};

/// What the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be looked at.
    Check,
    /// `greenroom run`: at least one process is started.
    Run,
    /// `greenroom serve`: no process is started.
    Serve,
}

/// What the checks need to know besides what was written.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) purpose: Purpose,
    /// The folder of the file, from where relative paths are seen.
    pub(super) folder: Option<PathBuf>,
    /// PORT of the environment.
    pub(super) port: Option<OsString>,
    /// The profile in effect, and where it was asked for.
    pub(super) profile: Option<(String, Place)>,
}

/// Checks all of it. The configuration is of use only if there is no problem.
pub(super) fn check(
    root: Root,
    around: &Around,
    sources: &mut Sources,
    problems: &mut Problems,
) -> (Config, Vec<Effective>) {
    let mut checker = Checker {
        around,
        sources,
        problems,
        effective: Vec::new(),
    };
    let config = checker.root(root);
    (config, checker.effective)
}

/// Something that was checked, and where it was written.
#[derive(Clone, Debug)]
struct Placed<T> {
    value: T,
    place: Option<Place>,
}

/// A listener while not all is checked.
#[derive(Clone, Debug)]
struct Door {
    name: String,
    place: Place,
    /// `None` if it was wrong.
    address: Option<Placed<Address>>,
    hosts: Option<Vec<HostPattern>>,
}

struct Checker<'a> {
    around: &'a Around,
    sources: &'a mut Sources,
    problems: &'a mut Problems,
    effective: Vec<Effective>,
}

impl Checker<'_> {
    fn root(&mut self, root: Root) -> Config {
        let grace = self.duration("grace", root.grace, GRACE, Duration::ZERO, GRACE_MAX);
        let log_format = self.word("log_format", root.log_format, LogFormat::default());
        let state_dir = self.state_dir(root.state_dir);
        let reload_on_change = self.flag("reload_on_change", root.reload_on_change, false);
        let profile = self.profile(root.profile);
        let user_limit = known::place_of_limit(&root.limits);
        let limits = self.limits(root.limits);
        let tracing = self.tracing(root.tracing);
        let (admin, places) = self.admin(root.admin);
        let doors = self.listeners(root.listener);
        let backends_are_known = !root.backend.is_wrong();
        let mut backends = self.backends(root.backend);
        let routes = self.routes(root.route, &doors, &mut backends, backends_are_known);
        self.somebody_is_known(user_limit.as_ref(), &routes);
        let drain = self.drain(root.drain, grace, &backends);
        self.neighbours(&doors, &backends);
        self.admin_neighbours(&admin, &places, &doors, &backends);
        self.purpose(&backends, backends_are_known);
        let listeners = doors.into_iter().filter_map(|door| {
            let address = door.address?.value;
            Some(Listener {
                name: door.name,
                address,
                hosts: door.hosts,
            })
        });
        Config {
            listeners: listeners.collect(),
            backends: backends.into_iter().map(|backend| backend.value).collect(),
            routes,
            grace,
            log_format,
            admin,
            state_dir,
            reload_on_change,
            profile,
            limits,
            tracing,
            drain,
        }
    }

    /// The profile in effect. What the others say is looked at by the reader only.
    fn profile(&mut self, field: Field<Profiles>) -> Option<String> {
        let profiles = field.present().map(|written| written.value).unwrap_or_default();
        let there = [
            ("development", profiles.development.place()),
            ("staging", profiles.staging.place()),
            ("production", profiles.production.place()),
        ];
        let there = there.iter().filter_map(|(name, place)| place.map(|_| *name));
        match self.around.profile.clone() {
            Some((name, place)) => {
                self.note("profile", &name, Some(&place));
                Some(name)
            }
            None => {
                let there: Vec<&str> = there.collect();
                match there.as_slice() {
                    [] => self.note("profile", "none", None),
                    there => {
                        let there = listed("and", there.iter().copied());
                        self.note("profile", format!("none (the file has {there})"), None);
                    }
                }
                None
            }
        }
    }

    /// Whether `run` has something to start, and `serve` has not.
    fn purpose(&mut self, backends: &[Placed<Backend>], are_known: bool) {
        let with_process = backends.iter().find(|backend| backend.value.process.is_some());
        match (self.around.purpose, with_process) {
            (Purpose::Run, None) if are_known && !backends.is_empty() => self.problems.add(
                Problem::new("there is nothing to run: no backend has a process").help(
                    "give a CMD after `--`, or a backend a [backend.NAME.process], or use `greenroom serve --config FILE`",
                ),
            ),
            (Purpose::Serve, Some(backend)) => self.problems.add(
                Problem::new(format!(
                    "backend `{}` has a process, and `greenroom serve` starts none",
                    backend.value.name
                ))
                .near(backend.place.as_ref())
                .help("use `greenroom run --config FILE`"),
            ),
            _ => {}
        }
    }

    /// Remembers a value for `check --explain`.
    fn note(&mut self, key: &str, value: impl Display, place: Option<&Place>) {
        let origin = place.map_or(Origin::Default, |place| self.sources.origin(place));
        self.effective.push(Effective::new(key, value.to_string(), origin));
    }

    /// Remembers a value that may be a secret.
    fn note_secret(&mut self, key: &str, value: impl Display, place: &Place) {
        let origin = self.sources.origin(place);
        self.effective
            .push(Effective::new(key, value.to_string(), origin).secret());
    }

    /// A value read from a text, or its default.
    fn text<T: Into<String>, V, E: Display>(
        &mut self,
        key: &str,
        field: Field<T>,
        read: impl FnOnce(&str) -> Result<V, E>,
    ) -> Option<Placed<V>> {
        let Written { value, place } = field.present()?;
        let text: String = value.into();
        match read(&text) {
            Ok(value) => {
                self.note(key, &text, Some(&place));
                let place = Some(place);
                Some(Placed { value, place })
            }
            Err(error) => {
                let error = self.without_login(&text, &place, error.to_string());
                self.problems.add(Problem::new(format!("`{key}`: {error}")).at(&place));
                None
            }
        }
    }

    /// What is said of a URL, without the user and the password that may stand in it; and it is not shown.
    fn without_login(&mut self, url: &str, place: &Place, said: String) -> String {
        let login = url
            .split_once("://")
            .and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
        let Some(login) = login.filter(|login| !login.is_empty()) else {
            return said;
        };
        self.sources.hide(place);
        let escaped = format!("{login:?}");
        said.replace(escaped.trim_matches('"'), "***").replace(login, "***")
    }

    fn duration(&mut self, key: &str, field: Field<Span>, default: Duration, min: Duration, max: Duration) -> Duration {
        if field.is_absent() {
            self.note(key, units::show(default), None);
        }
        self.text(key, field, |text| units::duration_in(text, min, max))
            .map_or(default, |placed| placed.value)
    }

    fn word<W: Word>(&mut self, key: &str, field: Field<String>, default: W) -> W {
        if field.is_absent() {
            self.note(key, default.word(), None);
        }
        let Some(written) = field.present() else { return default };
        if let Some(value) = W::of(&written.value) {
            self.note(key, value.word(), Some(&written.place));
            return value;
        }
        let words = W::WORDS.iter().copied();
        let problem = Problem::new(format!(
            "`{key}` is {:?}; it must be {}",
            written.value,
            listed("or", words.clone())
        ))
        .at(&written.place);
        self.problems.add(match closest(&written.value, words) {
            Some(meant) => problem.label(format!("did you mean \"{meant}\"?")),
            None => problem,
        });
        default
    }

    fn number(&mut self, key: &str, field: Field<Number>, default: usize, max: usize) -> usize {
        if field.is_absent() {
            self.note(key, default, None);
        }
        let Some(written) = field.present() else { return default };
        let number = usize::try_from(written.value.0).ok();
        if let Some(number) = number.filter(|number| (1..=max).contains(number)) {
            self.note(key, number, Some(&written.place));
            return number;
        }
        let found = self.sources.text(&written.place);
        let problem = Problem::new(format!("`{key}` is {found}; it must be from 1 to {max}")).at(&written.place);
        self.problems.add(problem);
        default
    }

    fn flag(&mut self, key: &str, field: Field<bool>, default: bool) -> bool {
        if field.is_absent() {
            self.note(key, default, None);
        }
        let Some(written) = field.present() else { return default };
        self.note(key, written.value, Some(&written.place));
        written.value
    }

    /// A name that can stand in logs, labels, and the name of a variable.
    fn name(&mut self, kind: &str, name: &str, place: Option<&Place>) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > CONFIG_NAME_MAX || !name.bytes().all(legal) {
            self.problems.add(
                Problem::new(format!("{name:?} cannot be the name of a {kind}"))
                    .near(place)
                    .help(format!(
                        "use letters, digits, - and _, at most {CONFIG_NAME_MAX} of them"
                    )),
            );
        }
    }

    /// Names that a variable could not tell apart.
    fn alike<'k>(&mut self, kind: &str, keys: impl Iterator<Item = &'k Key>) {
        let mut seen: BTreeMap<String, &Key> = BTreeMap::new();
        for key in keys {
            if let Some(other) = seen.insert(as_variable(&key.name), key) {
                self.problems.add(
                    Problem::new(format!(
                        "the {kind}s `{}` and `{}` differ in case, - and _ only: a variable GREENROOM__… could mean either",
                        other.name, key.name
                    ))
                    .at(&key.place)
                    .related(Some(&other.place), "the other is here")
                    .help("give one of them another name"),
                );
            }
        }
    }

    /// Leaves at most `max` of something: it takes no time to look at more.
    fn at_most<T>(&mut self, what: &str, list: &mut Vec<T>, max: usize, place: impl Fn(&T) -> Option<Place>) {
        if let Some(first) = list.get(max) {
            let count = list.len();
            let problem =
                Problem::new(format!("there are {count} {what}; at most {max} may be")).near(place(first).as_ref());
            self.problems.add(problem.label("the first one too many"));
            list.truncate(max);
        }
    }

    /// A required key that is not there.
    fn missing(&mut self, key: &str, table: Option<&Place>, help: &str) {
        self.problems
            .add(Problem::new(format!("`{key}` is missing")).near(table).help(help));
    }

    /// A relative path, seen from the folder of the file if it is written there.
    fn path(&self, written: &Written<String>) -> PathBuf {
        let path = Path::new(&written.value);
        match (&self.around.folder, self.sources.is_in_file(&written.place)) {
            (Some(folder), true) => folder.join(path),
            _ => path.to_owned(),
        }
    }
}
