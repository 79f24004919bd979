//! What is started: program, arguments, and what of our environment it sees.
//!
//! A child inherits our environment but for what was meant for us alone: the
//! protocols of an outer service manager ([`WITHHELD`]), and everything named
//! `GREENROOM_…`, as settings may be secrets. Pure.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use std::time::Duration;

use regex::Regex;
use rustix::process::Rlimit;

/// Variables that a service manager meant for greenroom, not for its child: a
/// child that answered to them would speak in our name.
pub const WITHHELD: &[&str] = &[
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "MAINPID",
    "MAINPIDFDID",
    "MANAGERPID",
    "MANAGERPIDFDID",
];

/// Its value is the child's own number, which nobody knows before it is there.
pub(super) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What the supervisor starts, once per generation.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Looked for in PATH unless it holds a slash.
    pub program: OsString,
    /// Its arguments, `{port}` already replaced ([`fill_port`]).
    pub args: Vec<OsString>,
    /// Added to the environment, e.g. `PORT`; wins over what is inherited, and over
    /// what [`Command::user`] sets.
    pub env: Vec<(OsString, OsString)>,
    /// Taken from the environment, besides [`WITHHELD`] and `GREENROOM_…`.
    pub remove_env: Vec<OsString>,
    /// The descriptor limit that the child gets: the one we had before we raised ours.
    pub nofile: Option<Rlimit>,
    /// Whether it gets a NOTIFY_SOCKET.
    pub notify: bool,
    /// Where it runs; `None`: where greenroom does. A relative [`Command::program`]
    /// with a slash in it is looked for from here.
    pub cwd: Option<PathBuf>,
    /// The user that it runs as, a name or a number, looked up at each start. Its
    /// groups come with it, and USER, LOGNAME and HOME are set. Needs root, or
    /// CAP_SETUID and CAP_SETGID, unless it is our own.
    pub user: Option<String>,
    /// The group that it runs as, a name or a number; `None`: the user's own.
    pub group: Option<String>,
    /// How long it may be silent once it is ready (systemd's `WatchdogSec=`): told to it as
    /// WATCHDOG_USEC, with WATCHDOG_PID. Without [`Command::notify`] it has no effect.
    pub watchdog: Option<Duration>,
    /// What is looked for in the lines of its stdout and stderr. If there is anything, both
    /// come through greenroom, which passes them on byte for byte; else they are our own.
    /// Each is told once in a life, by its place in this list ([`super::What::Line`]).
    pub watch_output: Vec<Regex>,
}

impl Command {
    /// `program` without arguments, with a NOTIFY_SOCKET.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            notify: true,
            ..Self::default()
        }
    }

    /// The whole environment of the child, out of `ours`.
    pub(super) fn environment(
        &self,
        ours: impl Iterator<Item = (OsString, OsString)>,
        account: &[(OsString, OsString)],
        notify: Option<&Path>,
    ) -> Vec<(OsString, OsString)> {
        let mut all: BTreeMap<_, _> = ours.filter(|(name, _)| !self.withholds(name)).collect();
        all.extend(account.iter().cloned());
        all.extend(self.env.iter().cloned());
        all.extend(notify.map(|path| (OsString::from("NOTIFY_SOCKET"), path.as_os_str().to_owned())));
        if let (Some(_), Some(interval)) = (notify, self.watchdog) {
            all.insert("WATCHDOG_USEC".into(), interval.as_micros().to_string().into());
            all.insert(WATCHDOG_PID.into(), OsString::new()); // known when it is forked
        }
        all.into_iter().collect()
    }

    /// Whether the child must not see this variable of ours.
    fn withholds(&self, name: &OsStr) -> bool {
        is_withheld(name) || self.remove_env.iter().any(|removed| removed == name)
    }
}

/// Whether this variable of ours was meant for us alone.
pub(super) fn is_withheld(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"GREENROOM_") || WITHHELD.iter().any(|withheld| OsStr::new(withheld) == name)
}

/// Replaces each `{port}` in each argument.
#[must_use]
pub fn fill_port(args: &[OsString], port: u16) -> Vec<OsString> {
    const MARK: &[u8] = b"{port}";
    let port = port.to_string();
    let fill = |arg: &OsString| {
        let (mut rest, mut filled) = (arg.as_bytes(), Vec::with_capacity(arg.len()));
        while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
            filled.extend_from_slice(&rest[..at]);
            filled.extend_from_slice(port.as_bytes());
            rest = &rest[at + MARK.len()..];
        }
        filled.extend_from_slice(rest);
        OsString::from_vec(filled)
    };
    args.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_mark_is_replaced_and_nothing_else_is_touched() {
        let args = [
            "--port={port}",
            "{port}{port}",
            "{ port }",
            "{port",
            "",
            "\u{fc}{port}}",
        ]
        .map(OsString::from);
        let filled = ["--port=8081", "80818081", "{ port }", "{port", "", "\u{fc}8081}"].map(OsString::from);
        assert_eq!(fill_port(&args, 8081), filled);
        let not_utf8 = OsString::from_vec(b"\xff{port}".to_vec());
        assert_eq!(fill_port(&[not_utf8], 1), [OsString::from_vec(b"\xff1".to_vec())]);
    }

    #[test]
    fn what_was_meant_for_us_alone_is_withheld_and_what_is_added_wins() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let names = [
            "PATH",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "GREENROOM_TOKEN",
            "GREENROOMY",
            "MINE",
            "HOME",
            "PORT",
        ];
        let command = Command {
            remove_env: vec!["MINE".into()],
            env: vec![pair("PORT", "4711"), pair("USER", "chosen")],
            ..Command::new("x")
        };
        let account = [pair("HOME", "/srv/app"), pair("USER", "app")];
        let ours = names.map(|name| pair(name, "ours"));
        let seen = command.environment(ours.into_iter(), &account, Some(Path::new("/run/x/notify")));
        let expected = [
            pair("GREENROOMY", "ours"),
            pair("HOME", "/srv/app"),
            pair("NOTIFY_SOCKET", "/run/x/notify"),
            pair("PATH", "ours"),
            pair("PORT", "4711"),
            pair("USER", "chosen"),
        ];
        assert_eq!(seen, expected);
        assert!(command.environment(std::iter::empty(), &[], None).len() == 2);
    }

    #[test]
    fn a_watchdog_is_told_in_microseconds_and_only_to_who_can_answer_it() {
        let command = Command {
            watchdog: Some(Duration::from_millis(1500)),
            ..Command::new("x")
        };
        let seen = command.environment(std::iter::empty(), &[], Some(Path::new("/run/x/notify")));
        assert!(seen.contains(&("WATCHDOG_USEC".into(), "1500000".into())), "{seen:?}");
        assert!(seen.contains(&("WATCHDOG_PID".into(), "".into())), "{seen:?}");
        assert_eq!(command.environment(std::iter::empty(), &[], None), []);
    }
}
