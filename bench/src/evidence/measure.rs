//! Runs all that is measured for the page, one part after another.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use greenroom_audit::audit::edges::Zone;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::report::{Machine, Report, Said};
use greenroom_audit::audit::side::Side;
use greenroom_audit::clock;

use super::crowd::{self, Scene};
use super::data::{Audited, Budget, Crowd, Evidence, Registry, SCHEMA, Script, Sides, Wait, Way, What};
use super::origin::{self, Revision};
use super::parts::{Note, Watch};
use super::suite::Suite;
use super::{Arguments, rounded};
use crate::Failure;
use crate::polls::{self, Poll};
use crate::waits::{self, Quantiles};

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
/// From its start to the begin of its last phase, and to the end of that, in milliseconds; and an hour, for one that never is ready.
const SERVICES: u64 = 1_500;
const READY: u64 = 3_000;
const NEVER: u64 = 3_600_000;

/// The four versions: two of them are the same algorithm.
const VERSIONS: [(Way, Poll); 4] = [
    (Way::A, Poll::Fixed),
    (Way::B, Poll::Stepped),
    (Way::C, Poll::Growing),
    (Way::D, Poll::Fixed),
];

/// Everything.
pub(crate) fn all(arguments: &Arguments, began_busy: Option<f64>, suite: &Suite) -> Result<Evidence, Failure> {
    let (began, machine) = (Instant::now(), Machine::here());
    let revision = Revision::of(&arguments.root);
    let mut watch = Watch::start()?;
    let waits = watch.part(What::Waits, |note| waits(arguments, note))?;
    let script = watch.part(What::Script, |_| script(arguments.quick))?;
    let Scenes {
        gate,
        queue,
        away,
        registry,
    } = scenes(arguments, &mut watch)?;
    let (version, audit) = watch.part(What::Audit, |note| audit(arguments, note))?;
    let tests = watch.part(What::Tests, |note| suite.run(note))?;
    Ok(Evidence {
        schema: SCHEMA,
        quick: arguments.quick,
        revision,
        built: arguments.built.clone(),
        programs: origin::programs(&arguments.greenroom)?,
        version,
        seed: arguments.seed,
        began_busy: began_busy.map(rounded),
        parts: watch.into_parts(),
        waits,
        script,
        log_lines: SHARES.map(budget).to_vec(),
        gate,
        queue,
        away,
        registry,
        audit,
        tests,
        load_after: Machine::here().load,
        machine,
        took_s: rounded(began.elapsed().as_secs_f64()),
    })
}

/// Clients of the reference and of greenroom.
struct Scenes {
    gate: Sides<Crowd>,
    queue: Sides<Crowd>,
    away: Sides<Crowd>,
    registry: Registry,
}

fn scenes(arguments: &Arguments, watch: &mut Watch) -> Result<Scenes, Failure> {
    let program = &arguments.greenroom;
    let scene = Scene {
        budget: WAIT,
        services: SERVICES,
        ready: READY,
        over: 3_200,
        clients: if arguments.quick { 12 } else { 60 },
        hold_timeout: None,
    };
    let gate = watch.part(What::Gate, |note| crowd::both(program, scene, note))?;
    let at_once = Scene { over: 0, ..scene };
    let (queue, registry) = watch.part(What::Queue, |note| {
        let reference = crowd::alone(at_once, note)?;
        let (greenroom, registry) = crowd::behind(program, at_once, note)?;
        Ok((Sides { reference, greenroom }, registry))
    })?;
    let never = Scene {
        services: NEVER,
        ready: NEVER,
        hold_timeout: Some(WAIT),
        ..at_once
    };
    let away = watch.part(What::Away, |note| crowd::both(program, never, note))?;
    Ok(Scenes {
        gate,
        queue,
        away,
        registry,
    })
}

fn budget(share_percent: f64) -> Budget {
    Budget {
        share_percent,
        seconds: rounded(BUDGET.iter().product::<f64>() * share_percent / 100.0),
    }
}

fn waits(arguments: &Arguments, note: &mut Note) -> Result<Vec<Wait>, Failure> {
    let mut times = waits::ready_times(arguments.seed, if arguments.quick { 8 } else { TIMES });
    if arguments.quick {
        times.iter_mut().for_each(|time| *time /= 4);
    }
    let mut all = Vec::new();
    for (way, poll) in VERSIONS {
        let began = clock::now();
        let waited = polls::run(poll, &times)?;
        note.measured(began, clock::now());
        all.push(wait(way, waited.delays, waited.late));
    }
    for (way, ready, by) in [
        (Way::GreenroomHttp, "http:/ready", "http"),
        (Way::GreenroomPushed, "notify", "notify"),
    ] {
        let program = &arguments.greenroom;
        note.runs(&waits::command(program, ready, by)?);
        let measured = waits::held(program, ready, by, &times, AT_ONCE)?;
        for (from, to) in measured.windows {
            note.measured(from, to);
        }
        all.push(wait(way, measured.delays, measured.late));
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
fn audit(arguments: &Arguments, note: &mut Note) -> Result<(String, Sides<Audited>), Failure> {
    let (runs, clients) = if arguments.quick { (1, 20) } else { (4, 60) };
    let mut command = Command::new(&arguments.greenroom);
    command.env("GREENROOM__BACKEND__APP__READY", "notify");
    command.args(["audit", "--compare", "--format", "json"]);
    for (name, value) in [("runs", runs), ("clients", clients), ("seed", arguments.seed)] {
        command.args([format!("--{name}"), value.to_string()]);
    }
    command
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(["reference", "--forever"]);
    for (name, value) in [("budget", WAIT), ("services", SERVICES), ("ready", READY)] {
        command.args([format!("--{name}"), value.to_string()]);
    }
    note.runs(&command);
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
