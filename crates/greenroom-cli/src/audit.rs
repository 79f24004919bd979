//! `greenroom audit -- CMD`: words of the command line in, a report and an exit code out.
//!
//! The report goes to standard output, the progress ([`bar`]) to standard error. The first Ctrl-C (or TERM, or
//! HUP) ends CMD and reports what there is, another one ends at once; CMD's warden kills CMD then. Two that come within
//! [`limits::AUDIT_SAME_SIGNAL`] are one: `timeout` signals a process, and then its group.
//! What can be seen to be wrong with `--out` and `--message` is seen before CMD is started.

mod bar;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use greenroom::config::units::duration_in;
use greenroom::config::{HOLDS, Ready};
use greenroom::supervise::Signal;
use greenroom_audit::audit::condition::{Budget, FailOn};
use greenroom_audit::audit::plan;
use greenroom_audit::audit::report::Report;
use greenroom_audit::audit::run::Manner;
use greenroom_audit::audit::strategy::Strategy;
use greenroom_audit::audit::target::{Expect, Target, Words};
use greenroom_audit::audit::{self, Audited, Options, Purpose, html, junit, markdown, sarif, terminal};
use greenroom_audit::limits;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::USAGE;
use bar::shown;

/// How long a start may take, where nothing else is said.
const START_TIMEOUT: &str = "1m";
/// Exit code where nothing could be measured.
const COULD_NOT_RUN: u8 = 2;
/// Exit code where a second signal ended it.
const INTERRUPTED: i32 = limits::AUDIT_STOPPED as i32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and plots for a terminal
    Terminal,
    /// Everything, an interface: docs/audit.md
    Json,
    /// For a file or an issue
    Markdown,
    /// For a comment on GitHub
    Github,
    /// JUnit XML, for the test pages of CI systems
    Junit,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// One file with plots, for a browser
    Html,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartBy {
    Term,
    Kill,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How often CMD is started
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::AUDIT_RUNS)))]
    runs: u32,
    /// How many clients come in each start
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=i64::from(limits::AUDIT_CLIENTS)))]
    clients: u32,
    /// Where they go; {port} is the port that CMD gets
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:{port}/")]
    url: String,
    /// A header field of their handshake, such as 'Origin: https://example.org' or 'Sec-WebSocket-Protocol: chat'; may be given more than once
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// What each sends as soon as it is open, or @FILE; an n between curly brackets becomes a number that no other message has [default: greenroom-audit and that number]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// Which answer is right: the same message (echo), any, none, or one that a regular expression matches
    #[arg(long, value_name = "WHAT", default_value = "echo")]
    expect: String,
    /// Do the same behind `greenroom run`, and show both side by side
    #[arg(long)]
    compare: bool,
    /// There: how greenroom learns that CMD is ready, as `greenroom run` has it: auto, notify, listen, tcp, http:/path, websocket:/path or grpc:service [default: auto]
    #[arg(long, value_name = "SPEC", requires = "compare")]
    ready: Option<String>,
    /// There: what it does with clients that come too early, as `greenroom run` has it [default: auto]
    #[arg(long, value_name = "MODE", requires = "compare", value_parser = PossibleValuesParser::new(HOLDS))]
    hold: Option<String>,
    /// Then restart the running server with this signal, clients connected
    #[arg(long, value_name = "SIGNAL", value_enum)]
    restart: Option<RestartBy>,
    /// How long a client waits for its 101, and then for its first answer (100ms to 10m)
    #[arg(long, value_name = "DUR", default_value = "10s")]
    patience: String,
    /// How long a start may take (1s to 1h) [default: 1m; but a start in which everybody gets the same HTTP answer below 500 is given up after 3 s]
    #[arg(long, value_name = "DUR")]
    start_timeout: Option<String>,
    /// How to write the report [default: terminal]
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Terminal)]
    format: Format,
    /// Write the report in every format, and what each client saw (clients.jsonl), into this folder too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// End with code 1 if a client had one of these: race (any finding; at a restart, clients that never come back, and messages lost on connections that stand), cold (refused as nobody listened), lost, late, hung, reset, 1006, 1011 or another close code, 503 or another status; separated by commas. With --compare behind greenroom too, with --restart at the restart too; each reason names its place
    #[arg(long, value_name = "LIST", default_value = "race", value_delimiter = ',')]
    fail_on: Vec<String>,
    /// End with code 1 if a wait is longer, or nobody had it, such as p99-open=500ms: p50, p90, p99 or max, then open (connect to 101) or answer (ready to first answer), of clients that were not failed; with --compare, behind greenroom too
    #[arg(long, value_name = "BUDGET", value_delimiter = ',')]
    budget: Vec<String>,
    /// Show how late ways of waiting would let clients in, for these starts: event (told), poll=100ms (a look each so often), backoff or backoff=50ms (each sleep twice as long as the one before, up to 1 m); separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', require_equals = true, num_args = 0.., default_missing_value = "event,poll=100ms,poll=1s,backoff")]
    strategy: Vec<String>,
    /// Repeat what is random: the seed of an earlier report
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The server's command line; {port} in it becomes the port to listen on, as PORT in its environment
    #[arg(value_name = "CMD", num_args = 1.., trailing_var_arg = true, required = true)]
    cmd: Vec<OsString>,
}

/// Audits. 0: no condition of --fail-on is met; 1: one is; 2: it could not be measured; 130: it was stopped, and none was met by then.
pub(crate) fn run(args: &Audit) -> u8 {
    let options = match options(args) {
        Ok(options) => options,
        Err(message) => {
            let _ = writeln!(io::stderr(), "error: {message}\n\nFor more information, try '--help'.");
            return USAGE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::fail(&error);
            return COULD_NOT_RUN;
        }
    };
    if let Some(folder) = &args.out
        && let Err(error) = prepare(folder)
    {
        return cannot_write(folder, &error);
    }
    let (shown, ended) = shown(&options);
    let audited = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(interrupts(stop));
        audit::audit(options, stopped, &|progress| shown.show(progress)).await
    });
    drop(shown);
    ended.wait();
    let audited = match audited {
        Ok(audited) => audited,
        Err(error) => {
            super::fail(&error);
            return COULD_NOT_RUN;
        }
    };
    let report = &audited.report;
    let mut code = report.exit_code();
    let text = match args.format {
        Format::Terminal => terminal::render(report, width(), colour()),
        Format::Json => json(report),
        Format::Markdown => markdown::render(report),
        Format::Github => markdown::comment(report),
        Format::Junit => junit::render(report),
        Format::Sarif => sarif::render(report),
        Format::Html => html::render(report),
    };
    if let Err(error) = io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        let _ = writeln!(
            io::stderr(),
            "error: cannot write the report to standard output: {error}"
        );
        code = COULD_NOT_RUN; // nobody has read it
    }
    match &args.out {
        None => code,
        Some(folder) => match write(folder, &audited) {
            Ok(()) => code,
            Err(error) => cannot_write(folder, &error),
        },
    }
}

fn cannot_write(folder: &Path, error: &io::Error) -> u8 {
    let folder = folder.display();
    let _ = writeln!(
        io::stderr(),
        "error: --out: cannot write the report into {folder}: {error}; give it a folder that can be written to"
    );
    COULD_NOT_RUN
}

/// Makes the folder, and writes and removes a file in it, before all that takes minutes. What is there already is let alone.
fn prepare(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!(".greenroom-audit-{}", std::process::id()));
    let written = std::fs::write(&path, vec![0; limits::AUDIT_OUT_PROBE]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// What `--message @FILE` names: a file, and no longer than a message may be. Nothing else is opened, so that nothing waits
/// for whoever writes into a pipe.
fn message_file(path: &str) -> Result<Vec<u8>, String> {
    let unread = |error: io::Error| format!("--message: cannot read {path:?}: {error}");
    let most = u64::try_from(limits::MESSAGE_MAX).unwrap_or(u64::MAX);
    let too_long = |bytes: u64| format!("--message: {path:?} has {bytes} bytes; a message has at most {most}");
    let about = std::fs::metadata(path).map_err(unread)?;
    if !about.is_file() {
        return Err(format!("--message: {path:?} is not a file; give @ and the path of one"));
    }
    if about.len() > most {
        return Err(too_long(about.len()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unread)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unread)?; // it may grow meanwhile
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= most => Ok(bytes),
        Ok(_) | Err(_) => Err(too_long(most + 1)),
    }
}

/// What `greenroom run` is given beside CMD with --compare; what it would not take is refused here.
fn run_flags(args: &Audit) -> Result<Vec<String>, String> {
    let mut flags = Vec::new();
    if let Some(ready) = &args.ready {
        ready.parse::<Ready>().map_err(|error| format!("--ready: {error}"))?;
        flags.extend(["--ready".to_owned(), ready.clone()]);
    }
    if let Some(hold) = &args.hold {
        flags.extend(["--hold".to_owned(), hold.clone()]);
    }
    Ok(flags)
}

/// A list behind `--strategy` and a blank is taken for CMD: its list stands behind an equals sign.
fn is_strategies(args: &Audit) -> Option<&str> {
    let first = args.cmd.first()?.to_str()?;
    let all = first.split(',').all(|text| Strategy::parse(text).is_some());
    (all && !args.strategy.is_empty()).then_some(first)
}

/// What clients say, checked.
fn words(message: Option<&str>) -> Result<Words, String> {
    let words = match message {
        None => Words::default(),
        Some(text) => match text.strip_prefix('@') {
            None => Words::new(text.as_bytes().to_vec()),
            Some(path) => Words::new(message_file(path)?),
        },
    };
    words.check().map_err(|error| error.to_string())?;
    Ok(words)
}

fn options(args: &Audit) -> Result<Options, String> {
    if let Some(list) = is_strategies(args) {
        return Err(format!(
            "{list:?} was taken for CMD: write --strategy={list}, and CMD behind --"
        ));
    }
    plan::fits(args.runs, args.clients, args.compare).map_err(|error| error.to_string())?;
    let say = |error: &dyn std::error::Error| error.to_string();
    let mut target = Target::parse(&args.url).map_err(|error| say(&error))?;
    for header in &args.header {
        target.add_header(header).map_err(|error| say(&error))?;
    }
    let words = words(args.message.as_deref())?;
    let shown = String::from_utf8_lossy(words.bytes()).chars().take(80).collect();
    let time =
        |name: &str, text: &str, min, max| duration_in(text, min, max).map_err(|error| format!("--{name}: {error}"));
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let fail_on = args.fail_on.iter().map(|name| {
        FailOn::parse(name).ok_or_else(|| {
            format!("--fail-on is {name:?}: neither race, cold, an outcome that one does not want, such as lost or hung, a close code nor an HTTP status")
        })
    });
    let budgets = args.budget.iter().map(|text| {
        Budget::parse(text).ok_or_else(|| {
            format!("--budget is {text:?}: write it as p99-open=500ms (p50, p90, p99, max; open, answer)")
        })
    });
    let strategies = args.strategy.iter().map(|text| {
        Strategy::parse(text).ok_or_else(|| {
            format!("--strategy has {text:?}: write event, poll=100ms (1ms to 60s), backoff or backoff=100ms")
        })
    });
    Ok(Options {
        command: args.cmd.clone(),
        runs: args.runs,
        clients: args.clients,
        manner: Manner {
            target,
            words,
            expect: Expect::parse(&args.expect).map_err(|error| say(&error))?,
            patience: time("patience", &args.patience, second / 10, hour / 6)?,
            start_timeout: time(
                "start-timeout",
                args.start_timeout.as_deref().unwrap_or(START_TIMEOUT),
                second,
                hour,
            )?,
            grace: greenroom_core::limits::GRACE,
            gives_up: args.start_timeout.is_none(),
        },
        compare: args.compare,
        restart: args.restart.map(|by| match by {
            RestartBy::Term => Signal::TERM,
            RestartBy::Kill => Signal::KILL,
        }),
        greenroom: run_flags(args)?,
        gateway: std::env::current_exe().map_err(|error| format!("cannot tell where greenroom itself is: {error}"))?,
        seed: args.seed.unwrap_or_else(|| greenroom_audit::clock::now() % 1_000_000),
        fail_on: fail_on.collect::<Result<_, _>>()?,
        budgets: budgets.collect::<Result<_, _>>()?,
        strategies: strategies.collect::<Result<_, _>>()?,
        told: [args.url.clone(), shown, args.expect.clone()],
    })
}

/// The first one stops the audit, another one, that is not the same once more, ends the program.
async fn interrupts(stop: watch::Sender<bool>) {
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    let mut hup = if is_hup_ignored() {
        None
    } else {
        signal(SignalKind::hangup()).ok()
    };
    let mut first: Option<Instant> = None;
    loop {
        let hung_up = async {
            match &mut hup {
                Some(hup) => hup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hung_up => {}
        }
        match first {
            None => {
                first = Some(Instant::now());
                stop.send_replace(true);
            }
            Some(first) if first.elapsed() < limits::AUDIT_SAME_SIGNAL => {}
            Some(_) => std::process::exit(INTERRUPTED), // the kernel tells CMD's warden, which kills it
        }
    }
}

/// Whether HUP was ignored when we were started: `nohup` says so, and means it.
fn is_hup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

fn json(report: &Report) -> String {
    // Only maps with keys that are no text could fail, and there are none.
    serde_json::to_string_pretty(report).map_or_else(
        |error| format!("{{\"error\": {:?}}}\n", error.to_string()),
        |mut text| {
            text.push('\n');
            text
        },
    )
}

/// All formats, and what each client saw.
fn write(folder: &Path, audited: &Audited) -> io::Result<()> {
    let report = &audited.report;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), json(report))?;
    std::fs::write(folder.join("report.txt"), terminal::render(report, 100, false))?;
    std::fs::write(folder.join("report.md"), markdown::render(report))?;
    std::fs::write(folder.join("comment.md"), markdown::comment(report))?;
    std::fs::write(folder.join("report.xml"), junit::render(report))?;
    std::fs::write(folder.join("report.sarif"), sarif::render(report))?;
    std::fs::write(folder.join("report.html"), html::render(report))?;
    let mut clients = io::BufWriter::new(std::fs::File::create(folder.join("clients.jsonl"))?);
    for played in &audited.runs {
        let run = &played.run;
        for client in &run.clients {
            let line = serde_json::json!({
                "way": played.way, "quiet": played.purpose == Purpose::Quiet, "control": played.purpose == Purpose::Control, "run": run.run, "exec": run.exec, "client": client,
            });
            writeln!(clients, "{line}")?;
        }
    }
    clients.flush()?;
    if audited.restarts.is_empty() {
        return Ok(());
    }
    let mut clients = io::BufWriter::new(std::fs::File::create(folder.join("restart.jsonl"))?);
    for restart in &audited.restarts {
        for life in &restart.lives {
            let line = serde_json::json!({
                "way": restart.way, "signal": restart.signal, "at": restart.at, "over_at": restart.over_at, "client": life,
            });
            writeln!(clients, "{line}")?;
        }
    }
    clients.flush()
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(80, |size| usize::from(size.ws_col).max(1))
}

fn colour() -> bool {
    let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !set && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_from_a_file_that_is_one_and_not_too_long() {
        let folder = std::env::temp_dir().join(format!("greenroom-audit-message-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        std::fs::write(path("good"), "hello {n}").unwrap();
        assert_eq!(message_file(&path("good")).unwrap(), b"hello {n}");
        // As large as a file can be said to be, and nothing of it is read.
        let long = std::fs::File::create(path("long")).unwrap();
        long.set_len(1 << 40).unwrap();
        let why = message_file(&path("long")).unwrap_err();
        assert!(why.contains("1099511627776 bytes") && why.contains("1048576"), "{why}");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for none in [path("pipe"), folder.to_str().unwrap().to_owned()] {
            let why = message_file(&none).unwrap_err();
            assert!(why.contains("is not a file") && why.contains(&none), "{why}");
        }
        assert!(message_file(&path("nothing")).unwrap_err().contains("cannot read"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
