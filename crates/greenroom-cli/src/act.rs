//! The commands that change connections of a greenroom that runs: `close`, `send`.
//!
//! Whoever names nobody means nobody: all are meant only by `--all`. Before more than one is closed, somebody at a terminal is
//! asked.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use greenroom::admin::client::{Client, ClientError, CloseThese, Closing, Filter, SendThese};
use greenroom::admin::report::{closing, sending};
use greenroom::config::units;
use greenroom_core::limits::SEND_MAX;

use crate::args::USAGE;
use crate::ask::json;
use crate::which::Which;
use crate::{configure, fail};

/// Exit code when somebody said no, or some of it was refused.
const NOT_DONE: u8 = 1;

/// Which connections are meant.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("meant").required(true).multiple(true).args([
    "numbers", "state", "backend", "route", "user", "tag", "address", "older_than", "all",
])))]
pub(crate) struct Meant {
    /// Their numbers, as `ps` shows them
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// Those in this state: opening, http, held, dialing, relaying, parked
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Of those, the ones behind this number: where one request did not reach all
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// All
    #[arg(long, conflicts_with_all = ["numbers", "state", "backend", "route", "user", "tag", "address", "older_than"])]
    all: bool,
}

impl Meant {
    fn filter(&self) -> Filter {
        Filter {
            state: self.state.clone(),
            after: self.after,
            ..self.which.filter()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Close {
    #[command(flatten)]
    meant: Meant,
    /// The close code: 1000 to 1003, 1007 to 1014, or 3000 to 4999 for your own. Who has no 101 yet gets 503 [default: 1001]
    #[arg(long, value_name = "N")]
    code: Option<u16>,
    /// The reason beside it, of at most 123 bytes
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say how many are meant
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// As JSON, an interface: docs/connections.md
    #[arg(long)]
    json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    #[command(flatten)]
    meant: Meant,
    /// The message
    #[arg(long, value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A file that holds the message; - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send it as a binary message; without it, it is text in UTF-8
    #[arg(long)]
    binary: bool,
    /// Only say how many are meant
    #[arg(long)]
    dry_run: bool,
    /// As JSON, an interface: docs/connections.md
    #[arg(long)]
    json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// `greenroom close`.
pub(crate) fn close(said: &Close) -> u8 {
    match try_close(said) {
        Ok(None) => {
            let _ = writeln!(io::stderr(), "nothing was closed");
            NOT_DONE
        }
        Ok(Some(done)) => print(said.json, &done, closing(&done), !done.refused.is_empty()),
        Err(error) => fail(&error),
    }
}

/// `None`: somebody said no.
fn try_close(said: &Close) -> Result<Option<Closing>, ClientError> {
    let client = Client::find(said.admin.as_deref())?;
    let these = CloseThese {
        numbers: said.meant.numbers.clone(),
        filter: said.meant.filter(),
        all: said.meant.all,
        code: said.code,
        reason: said.reason.clone(),
        dry_run: true,
    };
    let asks = !said.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
    if said.dry_run || asks {
        let meant = client.close(&these)?;
        if said.dry_run {
            return Ok(Some(meant));
        }
        if meant.matched > 1 && !agrees(meant.matched + meant.left) {
            return Ok(None);
        }
    }
    let dry_run = false;
    client.close(&CloseThese { dry_run, ..these }).map(Some)
}

/// Asks whoever sits at the terminal.
fn agrees(count: usize) -> bool {
    let mut out = io::stderr();
    let _ = write!(out, "close {}? [y/N] ", units::count(count, "connection"));
    let _ = out.flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// `greenroom send`.
pub(crate) fn send(said: &Send) -> u8 {
    let mut these = SendThese {
        numbers: said.meant.numbers.clone(),
        filter: said.meant.filter(),
        all: said.meant.all,
        dry_run: said.dry_run,
        ..SendThese::default()
    };
    let bytes = match (&said.file, &said.text) {
        (Some(file), _) => match read(file) {
            Ok(bytes) => bytes,
            Err(error) => return complain(&format!("cannot read {}: {error}", file.display())),
        },
        (None, text) => text.clone().unwrap_or_default().into_bytes(),
    };
    if said.binary {
        these = these.binary(&bytes);
    } else {
        let Ok(text) = String::from_utf8(bytes) else {
            let file = said.file.as_deref().unwrap_or(Path::new("-")).display();
            return complain(&format!("{file} is no UTF-8, as a text must be: send it with --binary"));
        };
        these.text = Some(text);
    }
    match Client::find(said.admin.as_deref()).and_then(|client| client.send(&these)) {
        Ok(done) => print(said.json, &done, sending(&done), !done.refused.is_empty()),
        Err(error) => fail(&error),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let most = SEND_MAX as u64 + 1; // by one more it is refused as too large
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn complain(error: &str) -> u8 {
    let _ = writeln!(io::stderr(), "error: {error}");
    USAGE
}

fn print(as_json: bool, done: &impl serde::Serialize, text: String, is_refused: bool) -> u8 {
    let printed = configure::print(&if as_json { json(done) } else { text });
    if printed == 0 && is_refused { NOT_DONE } else { printed }
}
