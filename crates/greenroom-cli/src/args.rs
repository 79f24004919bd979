//! What can be said on the command line, and what it means.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use greenroom::config::{Address, AddressError, Ready, units};
use greenroom::server::{Child, Settings};
use greenroom::telemetry::Format;
use greenroom_core::backoff::RestartPolicy;
use greenroom_core::limits::{GRACE_MAX, HOLD_TIMEOUT_MAX, HOLD_TIMEOUT_MIN};

/// Exit code for arguments that cannot be used.
pub(crate) const USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes of run:
  0        stopped by a signal, and CMD ended within the grace
  1        CMD had to be killed
  CMD's    CMD ended and is not started again (128 + n when signal n ended it)
  2        the arguments cannot be used
  69       cannot listen
  70       a fault of greenroom itself
  126/127  CMD cannot be executed / was not found";

/// Holds WebSocket clients while a server starts, and lets them in, in order, the moment it is ready.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start CMD and stand in front of it
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Stand in front of a server that something else starts
    Serve(Serve),
    /// See it happen: a slow server and clients that come too early, without and with greenroom
    Demo,
    /// The demo's own slow server
    #[command(hide = true)]
    DemoBackend(crate::demo::BackendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Front {
    /// Where clients come to [default: 0.0.0.0:$PORT if PORT is set, else 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<Address>,
    /// How to learn that the server is ready: auto, notify, listen, tcp, http:/path or websocket:/path
    #[arg(long, value_name = "SPEC", default_value = "auto")]
    ready: Ready,
    /// What to do with clients that come too early: let them wait, or refuse them with 503
    #[arg(long, value_name = "MODE", default_value = "handshake")]
    hold: Hold,
    /// How long a client waits at the most, such as 30s (from 1ms to 1h)
    #[arg(long, value_name = "DUR", value_parser = hold_timeout, allow_hyphen_values = true, default_value = "60s")]
    hold_timeout: Duration,
    /// How long stopping may take (0s to 1h): for closing clients, and again between TERM and KILL
    #[arg(long, value_name = "DUR", value_parser = grace, allow_hyphen_values = true, default_value = "10s")]
    grace: Duration,
    /// How to write the log: auto is text on a terminal and json otherwise
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    front: Front,
    /// Where CMD listens: host:port or unix:/path [default: a free port, given to CMD as PORT and for {port}]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    backend: Option<Address>,
    /// Whether CMD is started again when it ends: never, on-failure or always
    #[arg(long, value_name = "WHEN", default_value = "on-failure", value_parser = restart)]
    restart: RestartPolicy,
    /// The server's command line; {port} in it becomes the port to listen on
    #[arg(value_name = "CMD", required = true, num_args = 1.., trailing_var_arg = true)]
    cmd: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    front: Front,
    /// Where the server listens: host:port or unix:/path
    #[arg(long, value_name = "ADDR", value_parser = address)]
    backend: Address,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hold {
    /// They wait; the 101 comes from the server, when it is ready
    Handshake,
    /// 503 at once
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Auto,
    Text,
    Json,
}

fn address(text: &str) -> Result<Address, AddressError> {
    text.parse()
}

fn restart(text: &str) -> Result<RestartPolicy, String> {
    text.parse()
        .map_err(|error: greenroom_core::backoff::UnknownPolicy| error.to_string())
}

fn hold_timeout(text: &str) -> Result<Duration, units::DurationError> {
    units::duration_in(text, HOLD_TIMEOUT_MIN, HOLD_TIMEOUT_MAX)
}

fn grace(text: &str) -> Result<Duration, units::DurationError> {
    units::duration_in(text, Duration::ZERO, GRACE_MAX)
}

/// What is wrong with arguments that are each right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misuse(String);

/// Says it, and gives the exit code.
pub(crate) fn complain(error: &Misuse) -> u8 {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "error: {}", error.0);
    USAGE
}

impl Front {
    fn settings(self, backend: Option<Address>, child: Option<Child>) -> Result<Settings, Misuse> {
        let listen = match self.listen {
            Some(listen) => listen,
            None => default_listen(std::env::var_os("PORT"))?,
        };
        if let Address::Unix(_) = &listen {
            return Err(Misuse(format!(
                "--listen is {listen}: clients come over TCP; use host:port"
            )));
        }
        if backend.as_ref() == Some(&listen) && !matches!(&listen, Address::Tcp { port: 0, .. }) {
            return Err(Misuse(format!(
                "--listen and --backend are both {listen}: greenroom would call itself; let the server listen elsewhere"
            )));
        }
        Ok(Settings {
            listen,
            backend,
            ready: self.ready,
            may_wait: matches!(self.hold, Hold::Handshake),
            hold_timeout: self.hold_timeout,
            child,
            grace: self.grace,
            format: match self.log_format {
                LogFormat::Auto => Format::auto(),
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            },
        })
    }
}

/// PORT is how Cloud Run, Heroku and Fly say where to listen: on all addresses.
fn default_listen(port: Option<OsString>) -> Result<Address, Misuse> {
    let Some(port) = port else {
        return Ok(Address::Tcp {
            host: "127.0.0.1".into(),
            port: 8080,
        });
    };
    let number = port
        .to_str()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    number
        .map(|port| Address::Tcp {
            host: "0.0.0.0".into(),
            port,
        })
        .ok_or_else(|| {
            Misuse(format!(
                "PORT is {port:?} in the environment; it must be a number from 0 to 65535, or use --listen"
            ))
        })
}

impl Run {
    pub(crate) fn settings(self) -> Result<Settings, Misuse> {
        let names_port = self.cmd.iter().any(|word| word.to_string_lossy().contains("{port}"));
        if let (true, Some(backend)) = (names_port, &self.backend) {
            return Err(Misuse(format!(
                "CMD has {{port}} and --backend is {backend}: give one of them; {{port}} is the port that greenroom chooses"
            )));
        }
        let child = Child {
            command: self.cmd,
            restart: self.restart,
        };
        self.front.settings(self.backend, Some(child))
    }
}

impl Serve {
    pub(crate) fn settings(self) -> Result<Settings, Misuse> {
        if self.front.ready == Ready::Notify {
            return Err(Misuse(
                "--ready notify needs a child that notifies: use greenroom run, or listen, tcp, http:/path, websocket:/path".into(),
            ));
        }
        if self.front.ready == Ready::Listen && !self.backend.is_local() {
            return Err(Misuse(format!(
                "--ready listen looks into this machine's socket table, and {} is not on it for sure: use tcp, http:/path or websocket:/path",
                self.backend
            )));
        }
        self.front.settings(Some(self.backend), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use greenroom_core::limits::{GRACE, HOLD_TIMEOUT};

    #[test]
    fn the_definition_is_sound_and_its_defaults_are_those_of_the_limits() {
        Cli::command().debug_assert();
        assert_eq!(hold_timeout("60s"), Ok(HOLD_TIMEOUT));
        assert_eq!(grace("10s"), Ok(GRACE));
    }

    #[test]
    fn port_is_the_contract_of_the_platforms() {
        assert_eq!(default_listen(None).unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(default_listen(Some("5000".into())).unwrap().to_string(), "0.0.0.0:5000");
        for bad in ["", "http", "-1", "70000", "+80"] {
            assert!(default_listen(Some(bad.into())).is_err(), "{bad}");
        }
    }

    #[test]
    fn whatever_follows_the_command_is_the_commands() {
        let cli = Cli::try_parse_from(["greenroom", "run", "--", "uvicorn", "app:app", "--port", "{port}"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("run") };
        assert_eq!(run.cmd.len(), 4);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |words: &[&str]| {
            let parsed = Cli::try_parse_from(std::iter::once(&"greenroom").chain(words));
            match parsed.map(|cli| cli.command) {
                Err(error) => error.to_string(),
                Ok(Command::Run(run)) => run.settings().unwrap_err().0,
                Ok(Command::Serve(serve)) => serve.settings().unwrap_err().0,
                Ok(other) => panic!("{other:?}"),
            }
        };
        assert!(refused(&["run"]).contains("CMD"));
        assert!(refused(&["serve"]).contains("--backend"));
        assert!(refused(&["serve", "--backend", "h:1", "--ready", "notify"]).contains("child"));
        assert!(refused(&["serve", "--backend", "h:1", "--ready", "listen"]).contains("socket table"));
        assert!(refused(&["serve", "--backend", "h:1", "--listen", "unix:/x"]).contains("TCP"));
        assert!(refused(&["serve", "--backend", "h:1", "--hold-timeout", "-5s"]).contains("not a duration"));
        assert!(refused(&["serve", "--listen", "h:1", "--backend", "h:1"]).contains("call itself"));
        assert!(refused(&["run", "--backend", "h:1", "--", "x", "{port}"]).contains("{port}"));
        assert!(refused(&["run", "--hold-timeout", "5", "--", "x"]).contains("no unit"));
        assert!(refused(&["run", "--hold-timeout", "2h", "--", "x"]).contains("out of range"));
    }
}
