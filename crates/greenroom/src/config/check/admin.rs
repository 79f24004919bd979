//! Where greenroom itself is asked and told things, and where it keeps what it has learned.
//!
//! Who reaches the admin address can end every wait, so a network address needs a
//! token, and none is ever that of a listener or of a backend.

use std::path::PathBuf;

use greenroom_core::limits::ADMIN_TOKEN;

use super::super::model::Backend;
use super::super::problem::Problem;
use super::super::source::Place;
use super::super::words::Readyz;
use super::super::written::{self, Field, Hidden};
use super::super::{Address, Admin, Secret};
use super::addresses::{leads_to, listen_address, overlap};
use super::routes::plain_path;
use super::{Checker, Door, Placed};

/// The longest path of a Unix socket (`sun_path`, with its closing NUL).
const UNIX_PATH_MAX: usize = 107;

impl Checker<'_> {
    pub(super) fn admin(
        &mut self,
        field: Field<written::Admin>,
        doors: &[Door],
        backends: &[Placed<Backend>],
    ) -> Admin {
        let admin = field.present().map(|written| written.value).unwrap_or_default();
        let has_address = !admin.address.is_absent();
        let socket = self.admin_socket(admin.socket, backends);
        if !has_address {
            self.note("admin.address", "none", None);
        }
        let address = self.text("admin.address", admin.address, listen_address);
        let token_is_absent = admin.token.is_absent();
        let token_place = admin.token.place().cloned();
        let token = self.token(admin.token);
        if let (false, Some(place)) = (has_address, &token_place) {
            let help = "give the address too, such as address = \"127.0.0.1:9090\"; the socket is its owner's alone and needs no token";
            let problem = Problem::new("`admin.token` is for `admin.address`, and there is none");
            self.problems.add(problem.at(place).help(help));
        }
        if let Some(address) = &address {
            self.admin_neighbours(address, doors, backends);
            if token_is_absent && !address.value.is_local() {
                let help = "add token = \"…\", 16 random letters or more, such as `openssl rand -hex 16` prints; better not in the file but as GREENROOM__ADMIN__TOKEN; or use 127.0.0.1";
                let problem = format!(
                    "`admin.address` is {}, which others than this machine may reach, and `admin.token` is missing",
                    address.value
                );
                self.problems
                    .add(Problem::new(problem).near(address.place.as_ref()).help(help));
            }
        }
        if admin.health_prefix.is_absent() {
            self.note("admin.health_prefix", "none", None);
        }
        let health_prefix = self.text("admin.health_prefix", admin.health_prefix, health_prefix);
        let readyz = self.word("admin.readyz", admin.readyz, Readyz::Listening);
        Admin {
            socket,
            address: address.map(|address| address.value),
            token,
            health_prefix: health_prefix.map(|prefix| prefix.value),
            readyz_waits: readyz == Readyz::Backends,
        }
    }

    fn admin_socket(&mut self, field: Field<String>, backends: &[Placed<Backend>]) -> Option<PathBuf> {
        let key = "admin.socket";
        if field.is_absent() {
            self.note(key, "one of its own", None);
        }
        let written = field.present()?;
        let text = &written.value;
        let wrong = if let Some(path) = text.strip_prefix("unix:") {
            Some((
                format!("`{key}` is {text:?}"),
                format!("it is always a Unix socket: write {path:?}"),
            ))
        } else if text.is_empty() || text.ends_with('/') || text.contains('\0') {
            Some((
                format!("`{key}` is {text:?}, which is no path of a file"),
                "write one such as \"/run/greenroom/admin.sock\", or leave it out".into(),
            ))
        } else {
            None
        };
        let path = self.path(&written);
        let length = path.as_os_str().len();
        let wrong = wrong.or_else(|| {
            (length > UNIX_PATH_MAX).then(|| {
                (
                    format!("`{key}` has {length} bytes with its folder; the path of a Unix socket has at most {UNIX_PATH_MAX}"),
                    "use a shorter one, such as \"/run/greenroom/admin.sock\"".into(),
                )
            })
        });
        if let Some((title, help)) = wrong {
            self.problems.add(Problem::new(title).at(&written.place).help(help));
            return None;
        }
        let same =
            |backend: &&Placed<Backend>| matches!(&backend.value.address, Some(Address::Unix(taken)) if *taken == path);
        if let Some(backend) = backends.iter().find(same) {
            self.problems.add(
                Problem::new(format!(
                    "`{key}` is the socket of backend `{}`: both cannot listen there",
                    backend.value.name
                ))
                .at(&written.place)
                .related(backend.place.as_ref(), "the server is here")
                .help("give greenroom another one, or leave it out"),
            );
        }
        self.note(key, path.display(), Some(&written.place));
        Some(path)
    }

    /// What stands in `Authorization: Bearer`, as RFC 6750 §2.1 has it.
    fn token(&mut self, field: Field<Hidden>) -> Option<Secret> {
        let key = "admin.token";
        if field.is_absent() {
            self.note(key, "none", None);
        }
        let written = field.present()?;
        let (least, most) = ADMIN_TOKEN;
        let text = written.value.0;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let title = if !text.bytes().all(legal) {
            format!("`{key}` holds a character that a token cannot have: use letters, digits and -._~+/=")
        } else if text.len() < least || text.len() > most {
            format!(
                "`{key}` has {} characters; it must have {least} to {most}, so that nobody guesses it",
                text.len()
            )
        } else {
            self.note_secret(key, &text, &written.place);
            return Some(Secret(text));
        };
        let help = "`openssl rand -hex 16` prints a good one";
        self.problems.add(Problem::new(title).at(&written.place).help(help));
        None
    }

    /// Where clients come to, nobody may give orders.
    fn admin_neighbours(&mut self, address: &Placed<Address>, doors: &[Door], backends: &[Placed<Backend>]) {
        let mut refuse = |with: String, other: Option<&Place>, label: &str| {
            self.problems.add(
                Problem::new(format!("`admin.address` is {}, and so is {with}", address.value))
                    .near(address.place.as_ref())
                    .related(other, label)
                    .help("give it a port of its own, such as 127.0.0.1:9090; `health_prefix` is there for a platform that knows one port only"),
            );
        };
        for door in doors {
            if let Some(taken) = door
                .address
                .as_ref()
                .filter(|taken| overlap(&taken.value, &address.value))
            {
                refuse(
                    format!("listener `{}`", door.name),
                    taken.place.as_ref(),
                    "clients come here",
                );
            }
        }
        for backend in backends {
            let behind = backend.value.address.as_ref();
            if behind.is_some_and(|behind| leads_to(&address.value, behind)) {
                refuse(
                    format!("backend `{}`", backend.value.name),
                    backend.place.as_ref(),
                    "the server is here",
                );
            }
        }
    }

    pub(super) fn state_dir(&mut self, field: Field<String>) -> Option<PathBuf> {
        let key = "state_dir";
        if field.is_absent() {
            self.note(key, "none", None);
        }
        let written = field.present()?;
        if written.value.is_empty() || written.value.contains('\0') {
            let problem = Problem::new(format!("`{key}` is {:?}, which is no folder", written.value));
            let help = "write one such as \"/var/lib/greenroom\", or leave it out: then start-up times are forgotten";
            self.problems.add(problem.at(&written.place).help(help));
            return None;
        }
        let path = self.path(&written);
        self.note(key, path.display(), Some(&written.place));
        Some(path)
    }
}

/// A prefix that leaves the paths of the application alone.
fn health_prefix(text: &str) -> Result<String, String> {
    let path = plain_path(text)?;
    match path.strip_suffix('/') {
        Some("") => Err(
            "\"/\" would take /livez, /readyz and /startupz away from every application: write one such as \"/-/greenroom\""
                .into(),
        ),
        Some(bare) => Err(format!("{text:?} ends with /: write {bare:?}")),
        None => Ok(path),
    }
}
