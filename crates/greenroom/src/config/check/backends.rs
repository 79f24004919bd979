//! Backends and their processes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use greenroom_core::backoff::RestartPolicy;
use greenroom_core::limits::{
    BACKENDS_MAX, DIALS_MAX, DIALS_MAX_MOST, HELD_MAX, HELD_MAX_MOST, HTTP_HELD_MAX, WATCHDOG_MAX, WATCHDOG_MIN,
};
use greenroom_core::readiness::Need;

use super::super::problem::Problem;
use super::super::source::Place;
use super::super::tree::Key;
use super::super::written::{Backend, Field, Named, Process, TextTable, Words, Written, join};
use super::super::{Address, AddressError, Ready};
use super::super::{model, units};
use super::checks::About;
use super::holding::Turns;
use super::{Checker, Placed, Purpose};

/// The longest name of a user or a group (useradd's own limit).
const USER_MAX: usize = 32;

impl Checker<'_> {
    pub(super) fn backends(&mut self, field: Field<Named<Backend>>) -> Vec<Placed<model::Backend>> {
        let absent = field.is_absent();
        let mut named = field.present().map(|written| written.value.0).unwrap_or_default();
        if absent {
            self.no_backend();
        }
        self.at_most("backends", &mut named, BACKENDS_MAX, |(key, _)| Some(key.place.clone()));
        self.alike("backend", named.iter().map(|(key, _)| key));
        named
            .into_iter()
            .map(|(key, backend)| self.backend(key, backend))
            .collect()
    }

    fn no_backend(&mut self) {
        let help = match self.around.purpose {
            Purpose::Serve => {
                "name the server: --backend ADDR, or in the file [backend.app] with address = \"127.0.0.1:8000\""
            }
            Purpose::Run | Purpose::Check => {
                "add [backend.app] with address = \"127.0.0.1:8000\", or [backend.app.process] with command = [\"…\"]"
            }
        };
        self.problems
            .add(Problem::new("there is no backend: greenroom needs a server to stand in front of").help(help));
    }

    fn backend(&mut self, key: Key, backend: Backend) -> Placed<model::Backend> {
        let path = format!("backend.{}", key.name);
        self.name("backend", &key.name, Some(&key.place));
        let table = backend.place.clone().unwrap_or(key.place);
        let has_process = !backend.process.is_absent();
        let address_is_absent = backend.address.is_absent();
        let address = self.address_of(&path, backend.address, has_process, &key.name, &table);
        let ready_key = join(&path, "ready");
        if backend.ready.is_absent() {
            self.note(&ready_key, Ready::Auto, None);
        }
        let ready = self.text(&ready_key, backend.ready, str::parse::<Ready>);
        if let Some(ready) = &ready {
            self.ready(&ready_key, ready, address.as_ref(), has_process);
        }
        let phases = self.phases(&path, backend.phases, backend.phase);
        let about = About {
            address: address.as_ref(),
            has_process,
            phases: &phases,
        };
        let checks = self.checks(&path, backend.check, about);
        let number =
            |checker: &mut Self, key, field, default, most| checker.number(&join(&path, key), field, default, most);
        let held_max = number(self, "held_max", backend.held_max, HELD_MAX, HELD_MAX_MOST);
        let http_held_max = number(
            self,
            "http_held_max",
            backend.http_held_max,
            HTTP_HELD_MAX,
            HELD_MAX_MOST,
        );
        let dials_max = number(self, "dials_max", backend.dials_max, DIALS_MAX, DIALS_MAX_MOST);
        let turns = Turns {
            fair: backend.fair,
            held_per_address: backend.held_per_address,
            held_per_key: backend.held_per_key,
            release_rate: backend.release_rate,
        };
        let turns = self.turns(&path, turns);
        let process = backend.process.present().map(|process| {
            let path = join(&path, "process");
            let place = process.value.place.clone().unwrap_or(process.place);
            let fixed = address.as_ref().and_then(|address| address.place.clone());
            self.process(&path, process.value, &place, fixed.as_ref(), address_is_absent)
        });
        let place = address.as_ref().and_then(|address| address.place.clone());
        Placed {
            place: Some(place.unwrap_or(table)),
            value: model::Backend {
                name: key.name,
                address: address.map(|address| address.value),
                ready: ready.map_or(Ready::Auto, |ready| ready.value),
                phases,
                checks,
                needs: vec![Need::default()],
                held_max,
                http_held_max,
                dials_max,
                release_rate: turns.release_rate,
                fair: turns.fair,
                held_per_address: turns.held_per_address,
                held_per_key: turns.held_per_key,
                process,
            },
        }
    }

    /// Where a backend listens. It need not be said of one that greenroom starts.
    fn address_of(
        &mut self,
        path: &str,
        field: Field<String>,
        has_process: bool,
        name: &str,
        table: &Place,
    ) -> Option<Placed<Address>> {
        let key = join(path, "address");
        if field.is_absent() && has_process {
            self.note(&key, "a free port", None);
        } else if field.is_absent() {
            let help = "say where the server listens, such as address = \"127.0.0.1:8000\", or what to start for it: [backend.NAME.process]";
            self.missing(&key, Some(table), &help.replace("NAME", name));
        }
        self.text(&key, field, backend_address)
    }

    /// Whether readiness can be learned in this way from such a backend.
    fn ready(&mut self, key: &str, ready: &Placed<Ready>, address: Option<&Placed<Address>>, has_process: bool) {
        let problem = match (&ready.value, address) {
            (Ready::Notify, _) if !has_process => Problem::new(format!(
                "`{key}` is \"notify\", and only a process that greenroom starts can notify it"
            ))
            .help("use \"tcp\", \"http:/path\" or \"websocket:/path\", or let greenroom start the server"),
            (Ready::Listen, Some(address)) if !has_process && !address.value.is_local() => Problem::new(format!(
                "`{key}` is \"listen\", which looks into this machine's socket table, and {} is not on it for sure",
                address.value
            ))
            .related(address.place.as_ref(), "the server is here")
            .help("use \"tcp\", \"http:/path\" or \"websocket:/path\""),
            _ => return,
        };
        self.problems.add(problem.near(ready.place.as_ref()));
    }

    /// `fixed` is where the address is written, if it is.
    fn process(
        &mut self,
        path: &str,
        process: Process,
        table: &Place,
        fixed: Option<&Place>,
        port_is_ours: bool,
    ) -> model::Process {
        let key = join(path, "command");
        if process.command.is_absent() {
            let help = "say what to start, one string for each word, such as command = [\"uvicorn\", \"app:app\", \"--port\", \"{port}\"]";
            self.missing(&key, Some(table), help);
        }
        let command = process
            .command
            .present()
            .map(|command| self.command(&key, command, fixed))
            .unwrap_or_default();
        let env = process.env.present().map(|env| env.value).unwrap_or_default();
        let env = self.env(&join(path, "env"), env, port_is_ours);
        let cwd_key = join(path, "cwd");
        if process.cwd.is_absent() {
            self.note(&cwd_key, "greenroom's own", None);
        }
        let cwd = process.cwd.present().and_then(|written| {
            if written.value.is_empty() || written.value.contains('\0') {
                let problem = Problem::new(format!("`{cwd_key}` is {:?}, which is no folder", written.value));
                self.problems.add(
                    problem
                        .at(&written.place)
                        .help("leave it out for greenroom's own folder"),
                );
                return None;
            }
            let cwd = self.path(&written);
            self.note(&cwd_key, cwd.display(), Some(&written.place));
            Some(cwd)
        });
        let user = self.account(&join(path, "user"), process.user);
        let group = self.account(&join(path, "group"), process.group);
        let watchdog_key = join(path, "watchdog");
        if process.watchdog.is_absent() {
            self.note(&watchdog_key, "none", None);
        }
        let in_range = |text: &str| units::duration_in(text, WATCHDOG_MIN, WATCHDOG_MAX);
        let watchdog = self.text(&watchdog_key, process.watchdog, in_range);
        let restart = self.word(&join(path, "restart"), process.restart, RestartPolicy::OnFailure);
        model::Process {
            watchdog: watchdog.map(|watchdog| watchdog.value),
            command,
            env,
            cwd,
            user,
            group,
            restart,
        }
    }

    fn command(&mut self, key: &str, command: Written<Words>, fixed: Option<&Place>) -> Vec<OsString> {
        self.command_line(key, &command);
        for word in &command.value.0 {
            if let (true, Some(fixed)) = (word.value.to_string_lossy().contains("{port}"), fixed) {
                self.problems.add(
                    Problem::new(format!("`{key}` has {{port}}, and the backend has an address"))
                        .at(&word.place)
                        .related(Some(fixed), "the port is given here")
                        .help(
                            "take the address away, and greenroom chooses a port; or write the port in place of {port}",
                        ),
                );
            }
        }
        command.value.0.into_iter().map(|word| word.value).collect()
    }

    /// Whether it can be started at all.
    pub(super) fn command_line(&mut self, key: &str, command: &Written<Words>) {
        let words = &command.value.0;
        if words.first().is_none_or(|program| program.value.is_empty()) {
            let problem = Problem::new(format!("`{key}` names no program")).at(&command.place);
            self.problems
                .add(problem.help("its first string is the program, such as [\"uvicorn\", \"app:app\"]"));
        }
        for word in words.iter().filter(|word| word.value.as_bytes().contains(&0)) {
            let problem = Problem::new(format!("`{key}`: a word cannot hold the character U+0000")).at(&word.place);
            self.problems.add(problem);
        }
        let shown: Vec<_> = words.iter().map(|word| format!("{:?}", word.value)).collect();
        self.note(key, format!("[{}]", shown.join(", ")), Some(&command.place));
    }

    fn env(&mut self, path: &str, table: TextTable, port_is_ours: bool) -> Vec<(OsString, OsString)> {
        let mut env = Vec::new();
        for (key, written) in table.0 {
            let name = key.name;
            let problem = if name.is_empty() || name.contains(['=', '\0']) {
                Some(format!(
                    "{name:?} in `{path}` is no name of a variable: it must be some text without ="
                ))
            } else if written.value.as_bytes().contains(&0) {
                Some(format!("`{path}.{name}` cannot hold the character U+0000"))
            } else if name == "NOTIFY_SOCKET" {
                Some(format!(
                    "`{path}.{name}` is greenroom's own: the process notifies it there"
                ))
            } else if name == "PORT" && port_is_ours {
                Some(format!(
                    "`{path}.PORT` is greenroom's own, as the backend has no address: give the backend that port as its address"
                ))
            } else {
                None
            };
            if let Some(problem) = problem {
                self.problems.add(Problem::new(problem).at(&key.place));
                continue;
            }
            self.note_secret(&join(path, &name), written.value.to_string_lossy(), &written.place);
            env.push((name.into(), written.value));
        }
        env
    }

    /// A user or a group.
    fn account(&mut self, key: &str, field: Field<String>) -> Option<String> {
        if field.is_absent() {
            self.note(key, "greenroom's own", None);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'$');
        let read = |text: &str| {
            if text.is_empty() || text.len() > USER_MAX || text.starts_with('-') || !text.bytes().all(legal) {
                return Err(format!(
                    "{text:?} is no name: write one as in /etc/passwd or /etc/group, or a number"
                ));
            }
            Ok(text.to_owned())
        };
        self.text(key, field, read).map(|placed| placed.value)
    }
}

/// An address that a server can be at.
pub(super) fn backend_address(text: &str) -> Result<Address, String> {
    match text.parse().map_err(|error: AddressError| error.to_string())? {
        Address::Tcp { port: 0, .. } => Err(format!(
            "{text:?} has port 0, and nobody can be reached there: give the server's port"
        )),
        address => Ok(address),
    }
}
