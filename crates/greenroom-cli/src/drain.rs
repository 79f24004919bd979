//! The commands that close and keep out the clients of a greenroom that runs: `drain`, `hold`, `refuse`, `open`.
//!
//! Bounded: `drain --wait` asks every `DRAIN_LOOK` how far it has come, until it is over.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use greenroom::admin::client::{Client, ClientError, DrainOrder, DrainReport, GateOrder, Status};
use greenroom::admin::report;
use greenroom::config::units::count;
use greenroom_core::limits::DRAIN_LOOK;

use crate::ask::json;
use crate::which::Which;
use crate::{configure, fail};

/// Exit code where a drain was ended early, by somebody or by a stop.
const CANCELLED: u8 = 3;

#[derive(Debug, Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("whose").required(true).multiple(true).args([
    "all", "backend", "route", "user", "tag", "address", "older_than", "cancel", "list",
])))]
pub(crate) struct DrainArgs {
    /// All connections
    #[arg(long, conflicts_with_all = ["backend", "route", "user", "tag", "address", "older_than"])]
    all: bool,
    #[command(flatten)]
    which: Which,
    /// What it is for: deploy, reload, scale-down or evict; [drain.KIND] of the configuration says how [default: deploy]
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Over how long the closes are spread, such as 30s
    #[arg(long, value_name = "DUR")]
    window: Option<String>,
    /// So many closes in a second, instead
    #[arg(long, value_name = "N", conflicts_with = "window")]
    rate: Option<u32>,
    /// Only so many hundredths of them; who is drawn
    #[arg(long, value_name = "P")]
    percent: Option<u8>,
    /// The close code [default: 1001 for scale-down, else 1012]
    #[arg(long, value_name = "CODE")]
    code: Option<u16>,
    /// Words in the Close, before the hint when to come back
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What becomes of those who come meanwhile: serve, hold or refuse; the last two with --all or --backend [default: serve]
    #[arg(long, value_name = "WHAT")]
    new: Option<String>,
    /// Wait until it is over; end with code 3 if it was ended early, or greenroom has stopped
    #[arg(long)]
    wait: bool,
    /// End the drain of this number, instead: who was not told to close stays
    #[arg(long, value_name = "ID", conflicts_with_all = ["all", "backend", "route", "user", "tag", "address", "older_than"])]
    cancel: Option<u64>,
    /// List those under way, and the last that were, instead
    #[arg(long, conflicts_with_all = ["all", "backend", "route", "user", "tag", "address", "older_than", "cancel"])]
    list: bool,
    /// As JSON, an interface: docs/operations.md
    #[arg(long)]
    json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The backend [default: the only one]
    #[arg(value_name = "BACKEND")]
    backend: Option<String>,
    /// For how long, such as 10m; then its readiness decides again [default: until `greenroom open`]
    #[arg(long = "for", value_name = "DUR")]
    lasts: Option<String>,
    /// The backend as JSON, as `status` has it
    #[arg(long)]
    json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The backend [default: the only one]
    #[arg(value_name = "BACKEND")]
    backend: Option<String>,
    /// Let all in whatever its readiness says
    #[arg(long)]
    force: bool,
    /// With --force: for how long, such as 10m [default: until `greenroom open`]
    #[arg(long = "for", value_name = "DUR", requires = "force")]
    lasts: Option<String>,
    /// The backend as JSON, as `status` has it
    #[arg(long)]
    json: bool,
    /// The admin socket [default: $GREENROOM_ADMIN, else that of the only greenroom of this user]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// `greenroom drain`.
pub(crate) fn drain(asked: &DrainArgs) -> u8 {
    match try_drain(asked) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn try_drain(asked: &DrainArgs) -> Result<u8, ClientError> {
    let client = Client::find(asked.admin.as_deref())?;
    if asked.list {
        let all = client.drains()?;
        let lines = all.drains.iter().map(line).collect::<String>();
        return Ok(configure::print(&if asked.json { json(&all) } else { lines }));
    }
    let mut found = match asked.cancel {
        Some(id) => client.cancel_drain(id)?,
        None => client.drain(&order(asked))?,
    };
    while asked.wait && found.state == "draining" {
        std::thread::sleep(DRAIN_LOOK);
        found = match client.drain_report(found.id) {
            Err(ClientError::Unreachable(..)) => return Ok(stopped(&found)),
            found => found?,
        };
    }
    let printed = configure::print(&if asked.json { json(&found) } else { line(&found) });
    let was_cut_short = asked.wait && found.state == "cancelled";
    Ok(if printed == 0 && was_cut_short {
        CANCELLED
    } else {
        printed
    })
}

/// greenroom has ended while the drain was waited for: no connection is left, but none was closed at the drain's pace any more.
fn stopped(last: &DrainReport) -> u8 {
    let _ = writeln!(
        std::io::stderr(),
        "error: greenroom has stopped before drain {} was over, and closed all connections by itself; when it was asked last, {} of {} were closed",
        last.id,
        last.closed,
        last.connections
    );
    CANCELLED
}

fn order(asked: &DrainArgs) -> DrainOrder {
    DrainOrder {
        filter: asked.which.filter(),
        all: asked.all,
        kind: asked.kind.clone(),
        window: asked.window.clone(),
        rate: asked.rate,
        percent: asked.percent,
        code: asked.code,
        reason: asked.reason.clone(),
        new: asked.new.clone(),
    }
}

/// One drain in a line.
fn line(drain: &DrainReport) -> String {
    let left = match drain.left_ms {
        0 => String::new(),
        left => format!(", the last is told in {:.1} s", left as f64 / 1000.0),
    };
    let alone = match &*drain.left_alone {
        [] => String::new(),
        names => format!("; set by hand, and left as it is: the gate of {}", names.join(", ")),
    };
    report::safe_line(&format!(
        "drain {} ({}) of {}: {}; of {} {} {} chosen, {} told to close, {} closed{left}{alone}",
        drain.id,
        drain.kind,
        drain.of,
        drain.state,
        count(drain.matching, "connection"),
        drain.connections,
        if drain.connections == 1 { "is" } else { "are" },
        drain.told,
        drain.closed,
    ))
}

/// `greenroom hold`.
pub(crate) fn hold(asked: &HoldArgs) -> u8 {
    by_hand(asked, "hold")
}

/// `greenroom refuse`.
pub(crate) fn refuse(asked: &HoldArgs) -> u8 {
    by_hand(asked, "refuse")
}

fn by_hand(asked: &HoldArgs, gate: &str) -> u8 {
    let order = GateOrder {
        gate: gate.into(),
        force: false,
        lasts: asked.lasts.clone(),
    };
    let client = Client::find(asked.admin.as_deref());
    let told = client.and_then(|client| client.gate(asked.backend.as_deref(), &order));
    tell(told, asked.json)
}

/// `greenroom open`.
pub(crate) fn open(asked: &OpenArgs) -> u8 {
    let order = GateOrder {
        gate: "open".into(),
        force: asked.force,
        lasts: asked.lasts.clone(),
    };
    let client = Client::find(asked.admin.as_deref());
    let told = client.and_then(|client| client.gate(asked.backend.as_deref(), &order));
    tell(told, asked.json)
}

fn tell(told: Result<Status, ClientError>, as_json: bool) -> u8 {
    match told {
        Ok(status) if as_json => configure::print(&json(&status)),
        Ok(status) => configure::print(&report::gate(&status)),
        Err(error) => fail(&error),
    }
}
