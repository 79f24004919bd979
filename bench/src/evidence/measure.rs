//! Runs all that is measured for the pages, one after another: some four minutes, or one when it is quick.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use greenroom_audit::audit::edges::Zone;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::report::{Machine, Report, Said};
use greenroom_audit::audit::side::Side;

use super::crowd::{self, Scene};
use super::data::{Audited, Budget, Evidence, SCHEMA, Script, Sides, Wait, Way};
use super::{Arguments, rounded};
use crate::Failure;
use crate::polls::{self, Poll};
use crate::waits::{self, Measured, Quantiles};

/// Random ready times of each way to wait.
const TIMES: u16 = 100;
/// greenrooms that wait at once.
const AT_ONCE: usize = 50;
/// The report's own measurement has so many runs, in which it is ready after this, in milliseconds.
const SCRIPT_RUNS: usize = 5;
const SCRIPT_READY: u64 = 300;
/// The reference's longest wait for a phase: base, multiplier and margin of the settings in which its two log lines were written.
const BUDGET: [f64; 3] = [6.0, 1.05, 1.1];
/// The share of it that the phase gets: before a change of the constant, and after.
const SHARES: [f64; 2] = [30.0, 40.0];
/// The budget of its wait in the settings without a floor, in milliseconds.
const WAIT: u64 = 890;

/// The four versions: two of them are the same algorithm.
const VERSIONS: [(Way, Poll); 4] = [
    (Way::A, Poll::Fixed),
    (Way::B, Poll::Stepped),
    (Way::C, Poll::Growing),
    (Way::D, Poll::Fixed),
];

/// What a test is about, and the files of this repository that hold those tests.
const TESTS: [(&str, &[&str]); 6] = [
    (
        "clients that come too early",
        &[
            "crates/greenroom-cli/tests/start_race.rs",
            "crates/greenroom-cli/tests/clients.rs",
        ],
    ),
    ("starts that fail", &["crates/greenroom-cli/tests/start_fails.rs"]),
    (
        "when a server is ready",
        &[
            "crates/greenroom-cli/tests/readiness.rs",
            "crates/greenroom-cli/tests/trial.rs",
        ],
    ),
    (
        "handlers that are attached late",
        &["crates/greenroom-cli/tests/handler_ready.rs"],
    ),
    ("restarts", &["crates/greenroom-cli/tests/restart.rs"]),
    (
        "the end",
        &[
            "crates/greenroom-cli/tests/stopping.rs",
            "crates/greenroom-cli/tests/draining.rs",
        ],
    ),
];

/// Everything.
pub(crate) fn all(arguments: &Arguments) -> Result<Evidence, Failure> {
    let (began, machine) = (Instant::now(), Machine::here());
    let program = &arguments.greenroom;
    say("waits, of the reference and of greenroom");
    let waits = waits(arguments)?;
    say("the report's own measurement");
    let script = script(arguments.quick)?;
    say("clients during a start");
    let clients = if arguments.quick { 12 } else { 60 };
    let scene = Scene {
        budget: WAIT,
        services: 1_500,
        ready: 3_000,
        over: 3_200,
        clients,
        hold_timeout: None,
    };
    let gate = crowd::both(program, scene)?;
    let crowd = Scene { over: 0, ..scene };
    let (held, registry) = crowd::behind(program, crowd)?;
    let queue = Sides {
        reference: crowd::alone(crowd)?,
        greenroom: held,
    };
    let never = Scene {
        services: 3_600_000,
        ready: 3_600_000,
        hold_timeout: Some(WAIT),
        ..crowd
    };
    let away = crowd::both(program, never)?;
    say("`greenroom audit --compare` of the reference");
    let (version, audit) = audit(arguments)?;
    Ok(Evidence {
        schema: SCHEMA,
        quick: arguments.quick,
        release: !cfg!(debug_assertions),
        version,
        seed: arguments.seed,
        waits,
        script,
        log_lines: SHARES.map(budget).to_vec(),
        gate,
        queue,
        away,
        registry,
        audit,
        tests: tests(&arguments.root)?,
        load_after: Machine::here().load,
        machine,
        took_s: rounded(began.elapsed().as_secs_f64()),
    })
}

fn say(what: &str) {
    eprintln!("evidence: {what}");
}

fn budget(share_percent: f64) -> Budget {
    Budget {
        share_percent,
        seconds: rounded(BUDGET.iter().product::<f64>() * share_percent / 100.0),
    }
}

fn waits(arguments: &Arguments) -> Result<Vec<Wait>, Failure> {
    let mut times = waits::ready_times(arguments.seed, if arguments.quick { 8 } else { TIMES });
    if arguments.quick {
        times.iter_mut().for_each(|time| *time /= 4);
    }
    let mut all = Vec::new();
    for (way, poll) in VERSIONS {
        let waited = polls::run(poll, &times)?;
        all.push(wait(way, waited.delays, waited.late));
    }
    for (way, ready, by) in [
        (Way::GreenroomHttp, "http:/ready", "http"),
        (Way::GreenroomPushed, "notify", "notify"),
    ] {
        let Measured { delays, late, .. } = waits::held(&arguments.greenroom, ready, by, &times, AT_ONCE)?;
        all.push(wait(way, delays, late));
    }
    Ok(all)
}

fn wait(way: Way, delays: Vec<u64>, late: Vec<u64>) -> Wait {
    let times = delays.len();
    let of = Quantiles::of(delays);
    Wait {
        way,
        times,
        min: rounded(of.min),
        p50: rounded(of.p50),
        p99: rounded(of.p99),
        max: rounded(of.max),
        late_max: rounded(Quantiles::of(late).max),
    }
}

/// One wait after another, ready always at the same moment, as the report measured.
#[allow(clippy::cast_precision_loss)]
fn script(quick: bool) -> Result<Vec<Script>, Failure> {
    let runs = if quick { 2 } else { SCRIPT_RUNS };
    let mut all = Vec::new();
    for (way, poll) in VERSIONS {
        let mut totals = Vec::with_capacity(runs);
        for _ in 0..runs {
            let waited = polls::run(poll, &[SCRIPT_READY * 1_000_000])?;
            let beyond = waited.delays.iter().chain(&waited.late).sum::<u64>();
            totals.push(SCRIPT_READY as f64 + beyond as f64 / 1e6);
        }
        let most = totals.iter().copied().fold(f64::MIN, f64::max);
        let least = totals.iter().copied().fold(f64::MAX, f64::min);
        all.push(Script {
            way,
            runs,
            ready_at: SCRIPT_READY as f64,
            mean: rounded(totals.iter().sum::<f64>() / runs as f64),
            spread: rounded(most - least),
        });
    }
    Ok(all)
}

/// The reference, and the same behind greenroom that is told when it is ready; by the program that users have.
fn audit(arguments: &Arguments) -> Result<(String, Sides<Audited>), Failure> {
    let (runs, clients) = if arguments.quick { ("1", "20") } else { ("4", "60") };
    let reference = std::env::current_exe()?;
    let mut command = Command::new(&arguments.greenroom);
    command.env("GREENROOM__BACKEND__APP__READY", "notify");
    command.args([
        "audit",
        "--compare",
        "--format",
        "json",
        "--runs",
        runs,
        "--clients",
        clients,
    ]);
    command
        .args(["--seed", &arguments.seed.to_string(), "--"])
        .arg(reference);
    let (wait, services, ready) = (WAIT.to_string(), "1500", "3000");
    command.args([
        "reference",
        "--forever",
        "--budget",
        &wait,
        "--services",
        services,
        "--ready",
        ready,
    ]);
    let output = command.output()?;
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|error| {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("`greenroom audit` wrote no report ({error}): {words}")
    })?;
    let behind = report
        .greenroom
        .as_ref()
        .ok_or("the audit has nothing behind greenroom")?;
    let sides = Sides {
        reference: audited(&report.plain, &report.findings),
        greenroom: audited(behind, &report.greenroom_findings),
    };
    Ok((report.version, sides))
}

fn audited(side: &Side, findings: &[Said]) -> Audited {
    let mut audited = Audited {
        starts: side.runs.len() as u64,
        findings: findings.iter().map(|said| said.code.clone()).collect(),
        outcomes: BTreeMap::new(),
        answered: 0,
        unknown: 0,
        cold: 0,
    };
    for count in &side.counts {
        if count.zone == Zone::Cold {
            audited.cold += count.clients;
            continue;
        }
        *audited.outcomes.entry(count.outcome.name()).or_default() += count.clients;
        if count.outcome.is_good() {
            audited.answered += count.clients;
        }
        if count.outcome == Outcome::Unknown {
            audited.unknown += count.clients;
        }
    }
    audited
}

/// Tests in these files, by their attribute.
fn tests(root: &Path) -> Result<BTreeMap<String, u64>, Failure> {
    let count = |file: &&str| {
        let path: PathBuf = root.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {file}: {error}"))?;
        let is_test = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        Ok::<u64, Failure>(text.lines().map(str::trim_start).filter(is_test).count() as u64)
    };
    let topic = |(about, files): &(&str, &[&str])| {
        let counts: Result<Vec<u64>, Failure> = files.iter().map(count).collect();
        Ok(((*about).to_owned(), counts?.iter().sum()))
    };
    TESTS.iter().map(topic).collect()
}
