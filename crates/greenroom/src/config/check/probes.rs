//! What each kind of probe asks, from the keys that are its own.

use greenroom_core::limits::{CHECK_TEXT_MAX, PATTERN_MEMORY_MAX};
use regex::RegexBuilder;

use super::super::problem::Problem;
use super::super::ready::{grpc_service, request_path};
use super::super::source::Place;
use super::super::words::Kind;
use super::super::written::{self, Field, Numbers, Words, Written, join};
use super::super::{Address, HttpProbe, Pattern, ProbeKind, Secret};
use super::backends::backend_address;
use super::checks::{About, Asked};
use super::{Checker, Placed};

/// The statuses that can be good: an interim answer is no answer.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

impl Checker<'_> {
    /// What a check asks. `None`: there is a problem.
    pub(super) fn probe(
        &mut self,
        path: &str,
        asked: Asked,
        check: written::Check,
        table: &Place,
        about: About<'_>,
    ) -> Option<ProbeKind> {
        let Asked { kind, short } = asked;
        match kind {
            Kind::Listen => self.listen(path, check.address, table, about),
            Kind::Tcp => Some(ProbeKind::Tcp(self.own_address(path, check.address)?)),
            Kind::Http => self.http(path, short, check, table),
            Kind::WebSocket => {
                let address = self.own_address(path, check.address);
                let target = self.target(path, short, check.path, table, "websocket:/ws");
                let host = self.optional(&join(path, "host"), check.host, "the address", host);
                let ping = self.flag(&join(path, "ping"), check.ping, false);
                let (address, path, host) = (address?, target?, host?);
                Some(ProbeKind::WebSocket {
                    address,
                    path,
                    host,
                    ping,
                })
            }
            Kind::Grpc => {
                let address = self.own_address(path, check.address);
                let key = join(path, "service");
                let service = self.either(&key, short, check.service)?;
                let service = match service {
                    Some(service) => self.read(&key, &service, grpc_service),
                    None => {
                        self.note(&key, "the whole server", None);
                        Some(String::new())
                    }
                };
                let (address, service) = (address?, service?);
                Some(ProbeKind::Grpc { address, service })
            }
            Kind::Postgres => self.postgres(path, check, table),
            Kind::Redis => {
                let address = self.its_address(path, check.address, table, "127.0.0.1:6379");
                let password = self.password(&join(path, "password"), check.password);
                let (address, password) = (address?, password?);
                Some(ProbeKind::Redis { address, password })
            }
            Kind::Nats => self.nats(path, check, table),
            Kind::Exec => self.exec(&join(path, "command"), check.command, table),
            Kind::Log => self.log(path, check.line, table, about),
            Kind::File => {
                let key = join(path, "file");
                let Some(file) = self.either(&key, short, check.file)? else {
                    self.missing(&key, Some(table), "say which, such as probe = \"file:/run/app/ready\"");
                    return None;
                };
                if file.value.is_empty() || file.value.contains('\0') {
                    let problem =
                        Problem::new(format!("`{key}` is {:?}, which is no path", file.value)).at(&file.place);
                    self.problems
                        .add(problem.help("write one such as probe = \"file:/run/app/ready\""));
                    return None;
                }
                let path = self.path(&file);
                self.note(&key, path.display(), Some(&file.place));
                Some(ProbeKind::File { path })
            }
        }
    }

    fn listen(&mut self, path: &str, field: Field<String>, table: &Place, about: About<'_>) -> Option<ProbeKind> {
        let place = field.place().cloned();
        let address = self.own_address(path, field)?;
        let looked_at = match (&address, about.address) {
            (Some(address), _) => Some((address, place.as_ref())),
            (None, Some(own)) => Some((&own.value, own.place.as_ref())),
            (None, None) => None,
        };
        match looked_at {
            Some((address, place)) if !about.has_process && !address.is_local() => {
                let problem = Problem::new(format!(
                    "`{path}` is `listen`, which looks into this machine's socket table, and {address} is not on it for sure"
                ));
                let problem = problem.at(table).related(place, "this is where it would look");
                self.problems
                    .add(problem.help("use \"tcp\", \"http:/path\" or \"websocket:/path\""));
                None
            }
            _ => Some(ProbeKind::Listen(address)),
        }
    }

    fn http(
        &mut self,
        path: &str,
        short: Option<Written<String>>,
        check: written::Check,
        table: &Place,
    ) -> Option<ProbeKind> {
        let address = self.own_address(path, check.address);
        let target = self.target(path, short, check.path, table, "http:/health");
        let host = self.optional(&join(path, "host"), check.host, "the address", host);
        let status_key = join(path, "status");
        if check.status.is_absent() {
            self.note(&status_key, "200-399", None);
        }
        let status_is_absent = check.status.is_absent();
        let status = self.text::<Numbers, _, _>(&status_key, check.status, statuses);
        let status = match status {
            Some(status) => Some(status.value),
            None if status_is_absent => Some((200, 399)),
            None => None,
        };
        let body = self.optional(&join(path, "body"), check.body, "any", pattern);
        let pointer = self.optional(&join(path, "pointer"), check.pointer, "none", pointer);
        Some(ProbeKind::Http(HttpProbe {
            address: address?,
            path: target?,
            host: host?,
            status: status?,
            body: body?,
            pointer: pointer?,
        }))
    }

    fn postgres(&mut self, path: &str, check: written::Check, table: &Place) -> Option<ProbeKind> {
        let address = self.its_address(path, check.address, table, "127.0.0.1:5432");
        let user = self.optional(&join(path, "user"), check.user, "postgres", word);
        let database = self.optional(&join(path, "database"), check.database, "the user's name", word);
        let password = self.password(&join(path, "password"), check.password);
        let recovery = self.flag(&join(path, "recovery"), check.recovery, false);
        let user = user?.unwrap_or_else(|| "postgres".into());
        Some(ProbeKind::Postgres {
            address: address?,
            database: database?.unwrap_or_else(|| user.clone()),
            user,
            password: password?,
            recovery,
        })
    }

    fn nats(&mut self, path: &str, check: written::Check, table: &Place) -> Option<ProbeKind> {
        let address = self.its_address(path, check.address, table, "127.0.0.1:4222");
        let places = (check.user.place().cloned(), check.password.place().cloned());
        let user = self.optional(&join(path, "user"), check.user, "none", word);
        let password = self.password(&join(path, "password"), check.password);
        let half = match places {
            (Some(place), None) => Some((place, "user", "password")),
            (None, Some(place)) => Some((place, "password", "user")),
            _ => None,
        };
        if let Some((place, there, missing)) = half {
            let problem = Problem::new(format!(
                "`{path}` has a `{there}` and no `{missing}`: NATS takes both or none"
            ));
            self.problems.add(
                problem
                    .at(&place)
                    .help(format!("add `{missing}`, or take `{there}` away")),
            );
            return None;
        }
        let login = user?.zip(password?);
        Some(ProbeKind::Nats {
            address: address?,
            login,
        })
    }

    fn exec(&mut self, key: &str, command: Field<Words>, table: &Place) -> Option<ProbeKind> {
        if command.is_absent() {
            let help = "say what to start, one string for each word, such as command = [\"./migrated\", \"--check\"]";
            self.missing(key, Some(table), help);
        }
        let command = command.present()?;
        self.command_line(key, &command);
        for word in &command.value.0 {
            if word.value.to_string_lossy().contains("{port}") {
                let problem = Problem::new(format!(
                    "`{key}` has {{port}}, which is put into the command of a process only"
                ));
                let help = "give the backend an `address`, and write its port here";
                self.problems.add(problem.at(&word.place).help(help));
            }
        }
        let command = command.value.0.into_iter().map(|word| word.value).collect();
        Some(ProbeKind::Exec { command })
    }

    fn log(&mut self, path: &str, line: Field<String>, table: &Place, about: About<'_>) -> Option<ProbeKind> {
        let key = join(path, "line");
        if !about.has_process {
            let problem = Problem::new(format!(
                "`{path}` is `log`, and greenroom reads only the output of a process that it starts"
            ));
            let help = "let greenroom start the server ([backend.NAME.process]), or ask it: \"tcp\", \"http:/path\" or \"websocket:/path\"";
            self.problems.add(problem.at(table).help(help));
            return None;
        }
        if line.is_absent() {
            let help = "say which line shows it, such as line = \"Application startup complete\"";
            self.missing(&key, Some(table), help);
        }
        let line = self.text(&key, line, pattern)?.value;
        Some(ProbeKind::Log { line })
    }

    /// Where to ask; `None` in it: the backend's own address.
    #[expect(clippy::option_option, reason = "wrong and none are two things")]
    fn own_address(&mut self, path: &str, field: Field<String>) -> Option<Option<Address>> {
        self.optional(&join(path, "address"), field, "the backend's own", backend_address)
    }

    /// Where something else is.
    fn its_address(&mut self, path: &str, field: Field<String>, table: &Place, usual: &str) -> Option<Address> {
        let key = join(path, "address");
        if field.is_absent() {
            let help = format!("say where it listens, such as address = {usual:?}");
            self.missing(&key, Some(table), &help);
        }
        self.text(&key, field, backend_address).map(|placed| placed.value)
    }

    /// The path of a request: behind the colon of `probe`, or in `path`.
    fn target(
        &mut self,
        path: &str,
        short: Option<Written<String>>,
        field: Field<String>,
        table: &Place,
        example: &str,
    ) -> Option<String> {
        let key = join(path, "path");
        let Some(written) = self.either(&key, short, field)? else {
            self.missing(
                &key,
                Some(table),
                &format!("say which path is asked for, such as probe = {example:?}"),
            );
            return None;
        };
        self.read(&key, &written, request_path)
    }

    /// What is said behind the colon of `probe` or under a key, and not twice. The outer `None`: it was wrong.
    #[expect(clippy::option_option, reason = "wrong and none are two things")]
    fn either(
        &mut self,
        key: &str,
        short: Option<Written<String>>,
        field: Field<String>,
    ) -> Option<Option<Written<String>>> {
        let is_wrong = field.is_wrong();
        match (short, field.present()) {
            (Some(short), Some(long)) => {
                self.problems.add(
                    Problem::new(format!("`{key}` is said already behind the colon of `probe`"))
                        .at(&long.place)
                        .related(Some(&short.place), "said here")
                        .help("take one of them away"),
                );
                None
            }
            (short, long) => (!is_wrong).then(|| short.or(long)),
        }
    }

    fn read<V, E: std::fmt::Display>(
        &mut self,
        key: &str,
        written: &Written<String>,
        read: impl FnOnce(&str) -> Result<V, E>,
    ) -> Option<V> {
        let field = Field(written::State::Present(written.clone()));
        self.text(key, field, read).map(|placed| placed.value)
    }

    /// A text that may be left out. The outer `None`: it was wrong.
    #[expect(clippy::option_option, reason = "wrong and none are two things")]
    fn optional<V, E: std::fmt::Display>(
        &mut self,
        key: &str,
        field: Field<String>,
        default: &str,
        read: impl FnOnce(&str) -> Result<V, E>,
    ) -> Option<Option<V>> {
        if field.is_absent() {
            self.note(key, default, None);
            return Some(None);
        }
        self.text(key, field, read).map(|placed: Placed<V>| Some(placed.value))
    }

    #[expect(clippy::option_option, reason = "wrong and none are two things")]
    fn password(&mut self, key: &str, field: Field<written::Hidden>) -> Option<Option<Secret>> {
        if field.is_absent() {
            self.note(key, "none", None);
            return Some(None);
        }
        let written = field.present()?;
        let text = written.value.0;
        if text.is_empty() || text.len() > CHECK_TEXT_MAX || text.contains(char::is_control) {
            let problem = Problem::new(format!(
                "`{key}` cannot be a password: it must have 1 to {CHECK_TEXT_MAX} bytes, and no control character"
            ));
            self.problems
                .add(problem.at(&written.place).help("leave it out if there is none"));
            return None;
        }
        self.note_secret(key, &text, &written.place);
        Some(Some(Secret(text)))
    }
}

/// A name that is sent to a server: not empty, bounded, and without what could end it.
fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > CHECK_TEXT_MAX || text.contains(char::is_control) {
        return Err(format!(
            "{text:?} is no name: it must have 1 to {CHECK_TEXT_MAX} bytes, and no control character"
        ));
    }
    Ok(text.to_owned())
}

/// A Host, with or without port.
fn host(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(legal) {
        return Err(format!("{text:?} is no host: write one such as \"app.example.org\""));
    }
    Ok(text.to_owned())
}

/// One status, or the first and the last.
fn statuses(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u16 = text.parse().ok()?;
        (is_number && STATUSES.contains(&number)).then_some(number)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => Err(format!("{text:?} goes down: write \"{last}-{first}\"")),
        _ => Err(format!(
            "{text:?} is no status: write one from {} to {}, or the first and the last, such as \"200-299\"",
            STATUSES.start(),
            STATUSES.end()
        )),
    }
}

/// A regular expression of bounded size.
fn pattern(text: &str) -> Result<Pattern, String> {
    if text.is_empty() || text.len() > CHECK_TEXT_MAX {
        return Err(format!(
            "has {} bytes; a regular expression must have 1 to {CHECK_TEXT_MAX}",
            text.len()
        ));
    }
    let built = RegexBuilder::new(text)
        .size_limit(PATTERN_MEMORY_MAX)
        .dfa_size_limit(PATTERN_MEMORY_MAX)
        .build();
    built.map(Pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("{text:?} is too large once it is compiled: make it simpler"),
        // What it prints are several lines with the text and a mark below; the last says what is wrong.
        error => {
            let whole = error.to_string();
            let last = whole.lines().last().unwrap_or_default();
            let what = last.strip_prefix("error: ").unwrap_or(last);
            format!("{text:?} is no regular expression: {what}; write \\\\ before a character that is meant as it is")
        }
    })
}

/// A JSON pointer (RFC 6901 §3).
fn pointer(text: &str) -> Result<String, String> {
    let escapes = text.split('~').skip(1).all(|part| part.starts_with(['0', '1']));
    if !text.starts_with('/') && !text.is_empty() {
        return Err(format!(
            "{text:?} is no JSON pointer (RFC 6901): it begins with /, such as {:?}",
            format!(
                "/{}",
                text.trim_start_matches('$').trim_start_matches('.').replace('.', "/")
            )
        ));
    }
    if text.len() > CHECK_TEXT_MAX || !escapes {
        return Err(format!(
            "{text:?} is no JSON pointer (RFC 6901): at most {CHECK_TEXT_MAX} bytes, and ~ is written ~0, a / in a name ~1"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_or_a_range() {
        for (text, expected) in [("200", (200, 200)), ("200-399", (200, 399)), ("599-599", (599, 599))] {
            assert_eq!(statuses(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2xx",
            "200-",
            "-200",
            "100",
            "199-200",
            "600",
            "+200",
            "200 - 299",
            "0200",
            "300-200",
            "200-299-399",
        ] {
            assert!(statuses(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_bounded_before_and_after_it_is_compiled() {
        for text in ["ready", "^\\d{1,3}$", "(?i)Ünicode", "\\w{10}"] {
            assert!(pattern(text).is_ok(), "{text}");
        }
        assert!(pattern("").is_err() && pattern("(a").is_err());
        assert!(pattern(&"a".repeat(CHECK_TEXT_MAX + 1)).is_err());
        let trap = pattern("(\\w{1000}){1000}").unwrap_err();
        assert!(trap.contains("too large"), "{trap}");
    }

    #[test]
    fn a_pointer_is_as_rfc_6901_has_it() {
        for text in ["", "/", "/a/0", "/a~0b~1c", "/ "] {
            assert!(pointer(text).is_ok(), "{text}");
        }
        for text in ["a", "#/a", "/a~", "/a~2", "$.a"] {
            assert!(pointer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_name_can_end_what_it_is_sent_in() {
        for text in ["", "a\0b", "a\nb", "a\r"] {
            assert!(
                word(text).is_err() && host(text).is_err() && grpc_service(text).is_err(),
                "{text:?}"
            );
        }
        assert!(word("app user").is_ok() && host("[::1]:80").is_ok() && grpc_service("chat.v1.Chat").is_ok());
        assert!(host("a/b").is_err() && host("a b").is_err() && grpc_service("a b").is_err());
    }
}
