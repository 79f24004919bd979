//! What can be said on the command line, and what it means.
//!
//! Settings stay the text that was typed: `greenroom::config` reads them, as it reads
//! the file and the environment, and says what is wrong with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use greenroom::config::{Flags, HOLDS, LOG_FORMATS, Layers, PROFILES, Purpose, RESTARTS};

use crate::which::Which;

/// Exit code for arguments or a configuration that cannot be used.
pub(crate) const USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes of run:
  0        stopped by a signal, and CMD ended within the grace
  1        CMD had to be killed
  CMD's    CMD ended and is not started again (128 + n when signal n ended it)
  2        the arguments or the configuration cannot be used
  69       cannot listen
  70       a fault of greenroom itself
  126/127  CMD cannot be executed / was not found";

const EVENTS_END: &str = "\
It ends with code 0 on Ctrl-C, when greenroom has stopped, and when nobody reads what it prints. With --admin it waits
for the next greenroom at that socket instead, says so, and goes on behind the last event: what is not kept any more,
or was of another life of greenroom, is told as `missed`.";

const AUDIT_EXIT_CODES: &str = "\
Exit codes of audit:
  0        none of --fail-on and --budget is met
  1        one is: by default, something is wrong with the start of CMD, by itself or, with
           --compare, behind greenroom, or a restart left a client behind
  2        nothing could be measured; what could not be is told in the report else
  130      it was stopped by a signal, and no condition was met by then";

/// Holds WebSocket clients while a server starts, and lets them in, in order, the moment it is ready.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start CMD, or the processes of a file, and stand in front of them
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Stand in front of servers that something else starts
    Serve(Serve),
    /// Say what is wrong with a configuration file, all at once
    Check(Check),
    /// Say why clients wait: phases, checks, who is held, of a greenroom that runs
    Status(Status),
    /// List the connections of a greenroom that runs, or the last that ended
    Ps(Ps),
    /// Show one connection: where it is, what it asks for, what went over it
    Show(One),
    /// Say in a sentence why a connection is where it is, or how and why it ended
    Why(One),
    /// Close connections of a greenroom that runs: by number, those that fit a filter, or all
    Close(crate::act::Close),
    /// Send a message to WebSocket clients of a greenroom that runs, between two messages of their server
    Send(crate::act::Send),
    /// Tell what happens in a greenroom that runs, as it happens
    #[command(after_help = EVENTS_END)]
    Events(Events),
    /// Tell a greenroom that runs how far a backend's start has come, from a shell or a deploy script
    Phase(Phase),
    /// Close the connections of a greenroom that runs at a pace: before a deploy, to move clients elsewhere
    Drain(crate::drain::DrainArgs),
    /// Hold all clients of a backend, though it is ready, until `open`
    Hold(crate::drain::HoldArgs),
    /// Refuse all clients of a backend, those who wait too, until `open`
    Refuse(crate::drain::HoldArgs),
    /// Let the backend's readiness decide again; with --force let all in, whatever it says
    Open(crate::drain::OpenArgs),
    /// Take the configuration file again without a restart: show what changes, and change it as a whole or not at all
    Reload(Reload),
    /// Start CMD again and again with clients all through its start: what they see, what is wrong, what to do
    #[command(after_help = AUDIT_EXIT_CODES)]
    Audit(crate::audit::Audit),
    /// See it happen: a slow server and clients that come too early, without and with greenroom
    Demo,
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it is made if it is not there
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print docs/openapi.json
    #[command(hide = true)]
    Openapi,
    /// Print docs/configuration.md
    #[command(hide = true)]
    Reference,
    /// The demo's own slow server
    #[command(hide = true)]
    DemoBackend(crate::demo::BackendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Front {
    /// The configuration file; what is said by flags and by variables GREENROOM__A__B wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The profile of the file that is put over it [default: what GREENROOM_PROFILE says, else none]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROFILES))]
    profile: Option<String>,
    /// Where clients come to [default: 0.0.0.0:$PORT if PORT is set, else 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// How to learn that the server is ready: auto, notify, listen, tcp, http:/path, websocket:/path or grpc:service [default: auto]
    #[arg(long, value_name = "SPEC")]
    ready: Option<String>,
    /// What to do with WebSocket clients that come too early: let them wait for the server's 101 (handshake), let them in with one of greenroom's own and keep what they send (accept), the one for 4 s and then the other (auto), or refuse them with 503. Plain requests wait in any case; the key `http` of a route is theirs [default: auto]
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(HOLDS))]
    hold: Option<String>,
    /// How long a client waits at the most, such as 30s (from 1ms to 1h) [default: 1m]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true)]
    hold_timeout: Option<String>,
    /// How long stopping may take (0s to 1h): for closing clients, and again between TERM and KILL [default: 10s]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true)]
    grace: Option<String>,
    /// How to write the log: auto is text on a terminal and json otherwise [default: auto]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LOG_FORMATS))]
    log_format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    front: Front,
    /// Where CMD listens: host:port or unix:/path [default: a free port, given to CMD as PORT and for {port}]
    #[arg(long, value_name = "ADDR")]
    backend: Option<String>,
    /// Whether CMD is started again when it ends [default: on-failure]
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(RESTARTS))]
    restart: Option<String>,
    /// The server's command line; {port} in it becomes the port to listen on. Not needed with --config
    #[arg(value_name = "CMD", num_args = 1.., trailing_var_arg = true)]
    cmd: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    front: Front,
    /// Where the server listens: host:port or unix:/path. Not needed with --config
    #[arg(long, value_name = "ADDR")]
    backend: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// This backend only
    #[arg(value_name = "BACKEND")]
    pub(crate) backend: Option<String>,
    /// As JSON, an interface: docs/readiness.md
    #[arg(long)]
    pub(crate) json: bool,
    /// End with code 3 unless all that is shown is ready
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those in this state only: opening, http, held, dialing, relaying, parked, closing
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The last that ended, instead of those that are open
    #[arg(long)]
    pub(crate) closed: bool,
    /// Of those, the ones that ended for this cause, or were refused by this name
    #[arg(long, value_name = "CAUSE", requires = "closed")]
    pub(crate) cause: Option<String>,
    /// At most so many; with --after NUMBER for the next
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Those behind this number only
    #[arg(long, value_name = "NUMBER", conflicts_with = "closed")]
    pub(crate) after: Option<u64>,
    /// As JSON, an interface: docs/connections.md
    #[arg(long)]
    pub(crate) json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, args = ["number", "session"])]
pub(crate) struct One {
    /// The connection's number, as `ps` shows it
    #[arg(value_name = "NUMBER")]
    pub(crate) number: Option<u64>,
    /// The session's number instead, as the log and Greenroom-Session have it; where there are several backends, with --backend
    #[arg(long, value_name = "NUMBER")]
    pub(crate) session: Option<u64>,
    /// The session's backend
    #[arg(long, value_name = "NAME", requires = "session")]
    pub(crate) backend: Option<String>,
    /// As JSON, an interface: docs/connections.md
    #[arg(long)]
    pub(crate) json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// First the last N that are kept; then end, unless --follow is said
    #[arg(long, value_name = "N", conflicts_with = "after")]
    pub(crate) last: Option<usize>,
    /// Go on with what happens from now on [default, unless --last is said]
    #[arg(long)]
    pub(crate) follow: bool,
    /// Go on behind the event of this id, as --json shows it
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// These events only, with commas between them: closed,refused. docs/events.md lists them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) event: Vec<String>,
    /// What is about this backend only
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// What is about this session only, as the log and Greenroom-Session have it
    #[arg(long, value_name = "NUMBER")]
    pub(crate) session: Option<u64>,
    /// What is about this connection only, as `ps` shows it
    #[arg(long, value_name = "NUMBER")]
    pub(crate) connection: Option<u64>,
    /// As JSON, an object a line, an interface: docs/events.md
    #[arg(long)]
    pub(crate) json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Phase {
    /// The phase that is finished; or ready, failed or stopping
    #[arg(value_name = "PHASE")]
    pub(crate) phase: String,
    /// Why it has failed; held clients are told
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The backend [default: $GREENROOM_BACKEND, else the only one]
    #[arg(long, value_name = "NAME", env = "GREENROOM_BACKEND")]
    pub(crate) backend: Option<String>,
    /// Which life of its process is meant; of another one nothing is changed [default: the present one]
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u64>,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Only show what would change, and what is wrong
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As JSON, an interface: docs/reload.md
    #[arg(long)]
    pub(crate) json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The profile that is put over it; all of the file are looked at [default: what GREENROOM_PROFILE says, else none]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROFILES))]
    profile: Option<String>,
    /// Show each value in effect, and where it comes from
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write the effective configuration as one file, instead
    #[arg(long, conflicts_with = "explain")]
    pub(crate) toml: bool,
    /// Show the values of variables and header fields too
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

impl Front {
    fn layers(&self, flags: Flags, purpose: Purpose) -> Layers<'_> {
        Layers {
            file: self.config.as_deref(),
            variables: std::env::vars_os().collect(),
            flags: Flags {
                profile: self.profile.clone(),
                listen: self.listen.clone(),
                ready: self.ready.clone(),
                hold: self.hold.clone(),
                hold_timeout: self.hold_timeout.clone(),
                grace: self.grace.clone(),
                log_format: self.log_format.clone(),
                ..flags
            },
            purpose,
        }
    }
}

/// Why a command line without a server is refused.
const NOTHING_TO_RUN: &str = "there is nothing to run: give the server's command, as in `greenroom run -- CMD…`, or a file of servers, as in `greenroom run --config FILE`";
const NOTHING_TO_SERVE: &str = "there is nothing to stand in front of: say where the server listens, as in `greenroom serve --backend 127.0.0.1:9000`, or give a file of servers, as in `greenroom serve --config FILE`";

impl Cli {
    /// What is missing on the command line, if something is.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        match &self.command {
            Command::Run(run) => (run.cmd.is_empty() && run.front.config.is_none()).then_some(NOTHING_TO_RUN),
            Command::Serve(serve) => {
                (serve.backend.is_none() && serve.front.config.is_none()).then_some(NOTHING_TO_SERVE)
            }
            _ => None,
        }
    }
}

impl Run {
    /// All that the configuration is made of.
    pub(crate) fn layers(&self) -> Layers<'_> {
        let flags = Flags {
            backend: self.backend.clone(),
            restart: self.restart.clone(),
            command: self.cmd.clone(),
            ..Flags::default()
        };
        self.front.layers(flags, Purpose::Run)
    }
}

impl Serve {
    /// All that the configuration is made of.
    pub(crate) fn layers(&self) -> Layers<'_> {
        let flags = Flags {
            backend: self.backend.clone(),
            ..Flags::default()
        };
        self.front.layers(flags, Purpose::Serve)
    }
}

impl Check {
    /// All that the configuration is made of.
    pub(crate) fn layers(&self) -> Layers<'_> {
        Layers {
            file: Some(Path::new(&self.file)),
            variables: std::env::vars_os().collect(),
            flags: Flags {
                profile: self.profile.clone(),
                ..Flags::default()
            },
            purpose: Purpose::Check,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use greenroom::config::load;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn whatever_follows_the_command_is_the_commands() {
        let cli = Cli::try_parse_from(["greenroom", "run", "--", "uvicorn", "app:app", "--port", "{port}"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("run") };
        assert_eq!(run.cmd.len(), 4);
    }

    #[test]
    fn the_defaults_that_help_names_are_those_that_take_effect() {
        let cli = Cli::try_parse_from(["greenroom", "run", "--", "x"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("run") };
        let mut layers = run.layers();
        layers.variables.clear();
        let loaded = load(&layers).unwrap();
        let help = Cli::command()
            .find_subcommand_mut("run")
            .unwrap()
            .render_long_help()
            .to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (key, flag) in [
            ("backend.app.ready", "ready"),
            ("route[0].hold", "hold"),
            ("route[0].hold_timeout", "hold-timeout"),
            ("grace", "grace"),
            ("log_format", "log-format"),
            ("backend.app.process.restart", "restart"),
            ("listener.main.address", "listen"),
        ] {
            let found = loaded.effective.iter().find(|effective| effective.key == key).unwrap();
            let about = help.split(&format!("--{flag} <")).nth(1).unwrap();
            let default = about.split("[default: ").nth(1).unwrap().split(']').next().unwrap();
            assert!(default.ends_with(&found.value), "{flag}: {default} {}", found.value);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |words: &[&str]| {
            let parsed = Cli::try_parse_from(std::iter::once(&"greenroom").chain(words));
            if let Some(lacks) = parsed.as_ref().ok().and_then(Cli::lacks) {
                return lacks.to_owned();
            }
            match parsed.map(|cli| cli.command) {
                Err(error) => error.to_string(),
                Ok(Command::Run(run)) => load(&run.layers()).unwrap_err().render(false),
                Ok(Command::Serve(serve)) => load(&serve.layers()).unwrap_err().render(false),
                Ok(other) => panic!("{other:?}"),
            }
        };
        assert!(refused(&["run"]).contains("CMD") && refused(&["run"]).contains("--config FILE"));
        let serve = refused(&["serve"]);
        assert!(serve.contains("--backend") && serve.contains("--config FILE"));
        assert!(refused(&["serve", "--backend", "h:1", "--ready", "notify"]).contains("process"));
        assert!(refused(&["serve", "--backend", "h:1", "--ready", "listen"]).contains("socket table"));
        assert!(refused(&["serve", "--backend", "h:1", "--listen", "unix:/x"]).contains("TCP"));
        assert!(refused(&["serve", "--backend", "h:1", "--hold-timeout", "-5s"]).contains("not a duration"));
        assert!(refused(&["serve", "--listen", "h:1", "--backend", "h:1"]).contains("call itself"));
        assert!(refused(&["run", "--backend", "h:1", "--", "x", "{port}"]).contains("{port}"));
        assert!(refused(&["run", "--hold-timeout", "5", "--", "x"]).contains("no unit"));
        assert!(refused(&["run", "--hold-timeout", "2h", "--", "x"]).contains("out of range"));
        assert!(refused(&["run", "--hold", "refus", "--", "x"]).contains("refuse"));
    }
}
