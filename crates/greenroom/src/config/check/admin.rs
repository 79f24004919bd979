//! Where greenroom itself is asked and told things, and where it keeps what it has learned.
//!
//! Who reaches the admin address can end every wait, so a network address needs a
//! token, and none is ever that of a listener or of a backend.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use greenroom_core::limits::{ADMIN_TOKEN, TOKEN_FILE_MAX};

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

/// Where the admin's addresses are written.
pub(super) struct Places {
    socket: Option<Place>,
    address: Option<Place>,
}

impl Checker<'_> {
    /// The settings, and where the address and the socket are written, for [`Checker::admin_neighbours`].
    pub(super) fn admin(&mut self, field: Field<written::Admin>) -> (Admin, Places) {
        let admin = field.present().map(|written| written.value).unwrap_or_default();
        let has_address = !admin.address.is_absent();
        let places = Places {
            socket: admin.socket.place().cloned(),
            address: admin.address.place().cloned(),
        };
        let socket = self.admin_socket(admin.socket);
        if !has_address {
            self.note("admin.address", "none", None);
        }
        let address = self.text("admin.address", admin.address, listen_address);
        let token_is_absent = admin.token.is_absent() && admin.token_file.is_absent();
        let token_place = admin.token.place().or(admin.token_file.place()).cloned();
        if let (Some(token), Some(file)) = (admin.token.place(), admin.token_file.place()) {
            let problem =
                Problem::new("`admin.token` and `admin.token_file` are both given, and only one can be in effect");
            self.problems.add(
                problem
                    .at(file)
                    .related(Some(token), "the token")
                    .help("take one of them away"),
            );
        }
        let (token, token_file) = self.tokens(admin.token, admin.token_file);
        if let (false, Some(place)) = (has_address, &token_place) {
            let help = "give the address too, such as address = \"127.0.0.1:9090\"; the socket is its owner's alone and needs no token";
            let problem = Problem::new("`admin.token` is for `admin.address`, and there is none");
            self.problems.add(problem.at(place).help(help));
        }
        if let Some(address) = address.as_ref().filter(|address| !address.value.is_local())
            && token_is_absent
        {
            let help = "add token = \"…\", 16 random letters or more, such as `openssl rand -hex 16` prints; better not in this file but in one that only greenroom can read, as token_file = \"PATH\", or as GREENROOM__ADMIN__TOKEN; or use 127.0.0.1";
            let problem = format!(
                "`admin.address` is {}, which others than this machine may reach, and `admin.token` is missing",
                address.value
            );
            self.problems
                .add(Problem::new(problem).near(address.place.as_ref()).help(help));
        }
        if admin.health_prefix.is_absent() {
            self.note("admin.health_prefix", "none", None);
        }
        let health_prefix = self.text("admin.health_prefix", admin.health_prefix, health_prefix);
        let readyz = self.word("admin.readyz", admin.readyz, Readyz::Listening);
        let admin = Admin {
            socket,
            address: address.map(|address| address.value),
            token,
            token_file,
            health_prefix: health_prefix.map(|prefix| prefix.value),
            readyz_waits: readyz == Readyz::Backends,
        };
        (admin, places)
    }

    fn admin_socket(&mut self, field: Field<String>) -> Option<PathBuf> {
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
        self.token_text(key, written.value.0, &written.place)
    }

    /// The token, from where it stands, and the file, if that is where.
    fn tokens(&mut self, token: Field<Hidden>, file: Field<String>) -> (Option<Secret>, Option<PathBuf>) {
        let key = "admin.token_file";
        if file.is_absent() {
            self.note(key, "none", None);
        }
        let Some(written) = file.present() else {
            return (self.token(token), None);
        };
        let path = self.path(&written);
        match secret_file(&path) {
            Ok(text) => {
                self.note(key, path.display(), Some(&written.place));
                let token = self.token_text("admin.token", text, &written.place);
                (token, Some(path))
            }
            Err((title, help)) => {
                let title = format!("`{key}`: {} {title}", path.display());
                self.problems.add(Problem::new(title).at(&written.place).help(help));
                (None, None)
            }
        }
    }

    fn token_text(&mut self, key: &str, text: String, place: &Place) -> Option<Secret> {
        let (least, most) = ADMIN_TOKEN;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let title = if !text.bytes().all(legal) {
            format!("`{key}` holds a character that a token cannot have: use letters, digits and -._~+/=")
        } else if text.len() < least || text.len() > most {
            format!(
                "`{key}` has {} characters; it must have {least} to {most}, so that nobody guesses it",
                text.len()
            )
        } else {
            self.note_secret(key, &text, place);
            return Some(Secret(text));
        };
        let help = "`openssl rand -hex 16` prints a good one";
        self.problems.add(Problem::new(title).at(place).help(help));
        None
    }

    /// Where clients come to, nobody may give orders.
    pub(super) fn admin_neighbours(
        &mut self,
        admin: &Admin,
        places: &Places,
        doors: &[Door],
        backends: &[Placed<Backend>],
    ) {
        for backend in backends {
            let name = &backend.value.name;
            let Some(behind) = &backend.value.address else { continue };
            let at = backend.place.as_ref();
            if matches!((&admin.socket, behind), (Some(socket), Address::Unix(taken)) if socket == taken) {
                self.admin_conflict("socket", places.socket.as_ref(), &format!("backend `{name}`"), at);
            }
            if admin.address.as_ref().is_some_and(|address| leads_to(address, behind)) {
                self.admin_conflict("address", places.address.as_ref(), &format!("backend `{name}`"), at);
            }
        }
        for door in doors {
            let (Some(address), Some(taken)) = (&admin.address, &door.address) else {
                continue;
            };
            if overlap(&taken.value, address) {
                let with = format!("listener `{}`", door.name);
                self.admin_conflict("address", places.address.as_ref(), &with, taken.place.as_ref());
            }
        }
    }

    fn admin_conflict(&mut self, key: &str, place: Option<&Place>, with: &str, other: Option<&Place>) {
        let help = match key {
            "socket" => "give greenroom another one, or leave it out",
            _ => {
                "give it a port of its own, such as 127.0.0.1:9090; `health_prefix` is there for a platform that knows one port only"
            }
        };
        self.problems.add(
            Problem::new(format!("`admin.{key}` is where {with} is: both cannot listen there"))
                .near(place)
                .related(other, format!("the address of {with}"))
                .help(help),
        );
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

/// What a file holds that must be nobody else's: its text without the end of its line. Else what is wrong, and what to do.
fn secret_file(path: &Path) -> Result<String, (String, String)> {
    let again = || "say where the file is, and let greenroom's user read it".to_owned();
    let unread = |error: std::io::Error| (format!("cannot be read: {error}"), again());
    let mut options = fs::OpenOptions::new();
    // A FIFO without a writer would let greenroom wait for ever.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path).map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    let shown = path.display();
    if !about.is_file() {
        return Err(("is no file".into(), again()));
    }
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != own && about.uid() != 0 {
        let title = format!("belongs to user {}, who can change it", about.uid());
        return Err((
            title,
            format!("chown {own} {shown}; it must be greenroom's own user's, or root's"),
        ));
    }
    let mode = about.mode() & 0o777;
    if mode & 0o027 != 0 {
        let title =
            format!("can be read or written by others than its owner and its group's readers (mode {mode:03o})");
        return Err((
            title,
            format!("chmod 600 {shown}; and make another token, as this one may be known"),
        ));
    }
    let mut text = String::new();
    file.take(TOKEN_FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unread)?;
    if text.len() as u64 > TOKEN_FILE_MAX {
        return Err((
            format!("has more than {TOKEN_FILE_MAX} bytes"),
            "write the token into it, and nothing else".into(),
        ));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
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
