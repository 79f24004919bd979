//! The audit held against the truth: servers with planted faults that stamp them.
//!
//! This test is its own server (`planted`) and its own load (`burn`), so it decides by itself what to do with its arguments.
//! `GREENROOM_AUDIT_TRUTH=long` (`cargo xtask audit-truth`) makes it what the figures are quoted from: 50 starts for the edges, 100
//! for false alarms; without it, in `cargo test`, each is shorter and none is left out. What came out is appended to the file that
//! `GREENROOM_AUDIT_TRUTH_RESULTS` names, a line of JSON for each thing, before it is held against what it should be: `docs/evidence/truth.md` is
//! made of that.

#![allow(clippy::unwrap_used, clippy::panic)] // a harness of its own, which clippy does not know as a test

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use greenroom_audit::audit::condition::FailOn;
use greenroom_audit::audit::finding::Finding;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::record::Interval;
use greenroom_audit::audit::report::{Report, Verdict};
use greenroom_audit::audit::run::Manner;
use greenroom_audit::audit::target::{Expect, Target, Words};
use greenroom_audit::audit::text::span;
use greenroom_audit::audit::{Audited, Options, Progress, audit, html, junit, markdown, sarif, terminal};
use greenroom_audit::planted::{Early, Planted, Stamp, planted_main};
use tokio::sync::watch;

mod truth;

use truth::claims::{
    chat, first_loses_later, good_bye, log_in, one_start_is_never_ready, random_loss, slow_and_unnumbered,
    stands_still, wrong_client,
};
use truth::harness::{chosen, wanted};
use truth::later::{deadlock_unanswered, fails_later, restart_unanswered, starts_fail};
use truth::load::{overrun, overrun_and_not_ready, stops_answering, warms_up};
use truth::results::{all, record};

const MS: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    if let Some(code) = greenroom::supervise::warden::main_if_called() {
        return ExitCode::from(code);
    }
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map_or("", String::as_str) {
        "planted" => planted_main(&arguments[2]).unwrap(),
        "burn" => loop {
            std::hint::spin_loop();
        },
        // What `cargo test` and its friends pass to a harness.
        "--list" => {}
        _ => return tests(&arguments[1..]),
    }
    ExitCode::SUCCESS
}

type Test = (&'static str, fn());

const TESTS: [Test; 28] = [
    ("a_harness_runs_what_is_wanted_and_nothing_else", wanted),
    ("planted_edges_lie_in_the_reported_intervals", edges),
    ("a_planted_late_handler_lies_in_the_reported_interval", late_handler),
    ("a_planted_loss_lies_in_its_interval", loss),
    ("good_servers_under_load_raise_no_alarm", no_false_alarm),
    ("each_planted_fault_is_named", faults),
    ("a_server_that_many_overrun_is_told_from_one_that_is_not_ready", overrun),
    ("a_server_that_stops_answering_for_good_is_not_overrun", stops_answering),
    ("a_server_may_be_overrun_and_not_ready", overrun_and_not_ready),
    ("a_server_that_warms_up_is_not_overrun", warms_up),
    ("a_server_that_ends_while_clients_come_is_named", starts_fail),
    (
        "a_deadlock_is_named_where_no_answer_is_expected_too",
        deadlock_unanswered,
    ),
    ("a_server_that_is_deaf_until_it_is_ready_loses_early", deaf),
    ("a_server_that_never_answers_is_not_measured", never),
    ("a_server_that_ends_is_not_measured_and_its_words_are_told", ends),
    ("an_interrupted_audit_reports_what_there_is", interrupted),
    ("what_fails_after_the_first_start_leaves_the_report", fails_later),
    (
        "a_restart_is_measured_where_no_answer_is_expected_too",
        restart_unanswered,
    ),
    ("a_server_that_stands_still_once_loses_nothing", stands_still),
    ("answers_to_the_wrong_client_are_named", wrong_client),
    ("a_chat_is_sound", chat),
    ("a_log_in_is_no_late_handler", log_in),
    ("a_random_loss_is_no_late_handler", random_loss),
    ("what_the_first_client_loses_later_is_named", first_loses_later),
    (
        "one_start_that_is_never_ready_is_told_as_that",
        one_start_is_never_ready,
    ),
    ("a_good_bye_after_an_answer_is_sound", good_bye),
    ("slow_answers_that_are_alike_are_not_lost", slow_and_unnumbered),
    ("no_format_lets_text_of_others_through_or_is_too_wide", formats),
];

fn tests(arguments: &[String]) -> ExitCode {
    if all(chosen(arguments)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// So many in the long form, so many else.
fn either(long: u32, short: u32) -> u32 {
    match std::env::var("GREENROOM_AUDIT_TRUTH").as_deref() {
        Ok("long") => long,
        Ok(_) | Err(_) => short,
    }
}

// ── The tests ──────────────────────────────────────────────────────────────

fn edges() {
    let folder = Folder::new();
    let server = Planted {
        listen_after: 120 * MS,
        early: Early::Close(1011, 5 * MS),
        stamps: Some(folder.file()),
        ..Planted::good(320 * MS)
    };
    let runs = either(50, 4);
    let report = play(options(&server, runs, 100));
    assert_eq!(report.plain.runs.len(), runs as usize);
    let stamps = stamps(&folder.file());
    let of = |pick: fn(&Stamp) -> Option<Interval>| stamps.iter().filter_map(pick).collect::<Vec<_>>();
    let listening = of(|stamp| {
        if let Stamp::Listening(at) = stamp {
            Some(*at)
        } else {
            None
        }
    });
    let ready = of(|stamp| if let Stamp::Ready(at) = stamp { Some(*at) } else { None });
    assert_eq!((listening.len(), ready.len()), (runs as usize, runs as usize));
    let in_order = |edge: &str,
                    pick: fn(&greenroom_audit::audit::edges::Edges) -> Option<Interval>,
                    truth: Vec<Interval>| {
        let found = report.plain.runs.iter().map(|run| pick(&run.edges).unwrap());
        let pairs: Vec<(Interval, Interval)> = found.zip(truth).collect();
        let holds =
            |(found, truth): &&(Interval, Interval)| found.low_ns <= truth.high_ns && truth.low_ns <= found.high_ns;
        // An interval that is as wide as the start would hold the truth as well.
        let mut widths: Vec<u64> = pairs.iter().map(|(found, _)| found.high_ns - found.low_ns).collect();
        widths.sort_unstable();
        let (median, greatest) = (widths[widths.len() / 2], widths[widths.len() - 1]);
        let within = pairs.iter().filter(holds).count();
        println!(
            "edges: {within} of {runs} planted {edge} lie in their intervals; widths {} and {}",
            span(median),
            span(greatest)
        );
        record(&serde_json::json!({
            "part": "edges", "edge": edge, "starts": runs, "within": within, "width_p50_ns": median, "width_max_ns": greatest,
        }));
        let missed = pairs.iter().find(|pair| !holds(pair));
        assert!(missed.is_none(), "{edge}: found and truth: {missed:?}");
        median
    };
    let listen = in_order("listen", |edges| edges.listen, listening);
    let ready = in_order("ready", |edges| edges.ready, ready);
    // Half of what they tell of: a busy machine makes them wider, and no interval is the start itself.
    assert!(listen < 60_000_000 && ready < 160_000_000, "{listen:?} {ready:?}");
    let Finding::AcceptsEarly { outcomes, settle, .. } = only(&report) else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(outcomes[0].0, Outcome::Closed(1011));
    // Seen by the client, whose own wake-up at the 101 may be late.
    assert!(settle.unwrap().took.p50_ns >= 3_000_000, "{settle:?}");
}

fn late_handler() {
    let folder = Folder::new();
    let server = Planted {
        handler_after: 12 * MS,
        stamps: Some(folder.file()),
        ..Planted::good(100 * MS)
    };
    let runs = either(10, 3);
    let report = play(options(&server, runs, 80));
    let Finding::HandlerLate { handler } = only(&report) else {
        panic!("{:?}", report.findings)
    };
    let pick = |stamp: &Stamp| {
        if let Stamp::Handler(after) = stamp {
            Some(*after)
        } else {
            None
        }
    };
    let mut truth: Vec<Interval> = stamps(&folder.file()).iter().filter_map(pick).collect();
    truth.sort_unstable_by_key(|after| after.low_ns);
    let typical = truth[truth.len() / 2];
    let found = handler.attached;
    println!(
        "late handler: planted 12 ms, in fact {} at the median; reported {} to {}, lost within {}",
        span(typical.low_ns),
        span(found.low_ns),
        span(found.high_ns),
        span(handler.lost_within_ns)
    );
    record(&serde_json::json!({
        "part": "late_handler", "starts": runs, "truth_ns": [typical.low_ns, typical.high_ns], "found_ns": [found.low_ns, found.high_ns],
    }));
    assert!(
        found.low_ns <= typical.high_ns && typical.low_ns <= found.high_ns,
        "{found:?} {typical:?}"
    );
    assert!(
        handler.lost_within_ns >= 6_000_000 && handler.clients.seen() > 0.9,
        "{handler:?}"
    );
}

fn loss() {
    let folder = Folder::new();
    let server = Planted {
        loses_first: 0.02,
        stamps: Some(folder.file()),
        ..Planted::good(60 * MS)
    };
    let runs = either(20, 6);
    let report = play(options(&server, runs, 200));
    let share = report.plain.first_lost;
    let stamps = stamps(&folder.file());
    let lost = stamps.iter().filter(|stamp| **stamp == Stamp::Lost).count();
    println!(
        "loss: planted 2 %; {} of {} first messages were lost, 99.99 % interval {:.2} to {:.2} %; the server lost {lost} in all",
        share.hits,
        share.of,
        share.low * 100.0,
        share.high * 100.0
    );
    record(&serde_json::json!({
        "part": "loss", "starts": runs, "planted_percent": server.loses_first * 100.0, "lost": share.hits, "of": share.of,
        "low_percent": share.low * 100.0, "high_percent": share.high * 100.0, "server_lost": lost,
        "early_lost": report.plain.early_first_lost.hits,
    }));
    assert!(share.low <= 0.02 && 0.02 <= share.high, "{share:?}");
    assert!(share.of >= 400 && share.high - share.low < 0.12, "{share:?}");
    // Every loss that was planted was seen: there are a few among clients that came before it was ready for sure.
    let early = report.plain.early_first_lost.hits;
    // Of a client whose machine stood still nobody can tell.
    let (seen, unknown) = (share.hits + early, report.plain.unknown);
    assert!(
        seen <= lost as u64 && lost as u64 <= seen + unknown,
        "{seen} of {lost} seen, {unknown} unknown"
    );
    // A loss is told whenever it was, and as what it is: no habit of early clients.
    assert_ne!(share.hits + early, 0, "of {} none", share.of);
    let Finding::LosesMessages { first, .. } = only(&report) else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(first.hits, share.hits + early);
}

fn no_false_alarm() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let burning: Vec<Burning> = (0..2 * processors).map(|_| Burning::start()).collect();
    let waits = Planted {
        listen_after: 50 * MS,
        ..Planted::good(250 * MS)
    };
    let (mut runs, mut clients, mut unknown) = (0, 0, 0);
    let (mut alarms, mut verdicts) = (Vec::new(), Vec::new());
    for server in [Planted::good(150 * MS), waits] {
        let report = play(options(&server, either(50, 3), 80));
        runs += report.plain.runs.len();
        clients += report.plain.clients;
        unknown += report.plain.unknown;
        alarms.extend(report.findings);
        verdicts.push(report.verdict);
    }
    let codes: Vec<&str> = alarms.iter().map(|said| said.code.as_str()).collect();
    record(&serde_json::json!({
        "part": "alarms", "starts": runs, "findings": codes, "clients": clients, "unknown": unknown, "busy": burning.len(),
        "processors": processors,
    }));
    assert_eq!(verdicts, [Verdict::Sound, Verdict::Sound], "{alarms:#?}");
    println!(
        "no false alarm: {runs} starts of good servers, {clients} clients, {unknown} unknown, with {} busy processes on {processors} processors",
        burning.len()
    );
}

fn faults() {
    let early = |early| Planted {
        listen_after: 40 * MS,
        early,
        ..Planted::good(240 * MS)
    };
    let doubling = Planted {
        doubles: 0.5,
        ..Planted::good(60 * MS)
    };
    let reordering = Planted {
        reorders: 0.5,
        ..Planted::good(60 * MS)
    };
    let failing = Planted {
        fails: 0.2,
        ..Planted::good(60 * MS)
    };
    let mut impatient = options(&early(Early::Silence), 2, 40);
    impatient.manner.patience = 400 * MS;
    let mut deadlock = options(&early(Early::Deadlock), 5, 40);
    deadlock.manner.patience = 500 * MS;
    deadlock.manner.start_timeout = Duration::from_secs(2);
    let silent = Planted {
        ready_after: Duration::from_secs(3_600),
        ..early(Early::Silence)
    };
    let mut dead = options(&silent, 5, 40);
    dead.manner.patience = 500 * MS;
    dead.manner.start_timeout = Duration::from_secs(2);
    for (options, code, outcome) in [
        (
            options(&early(Early::Status(503)), 2, 40),
            "accepts-early",
            Outcome::Status(503),
        ),
        (options(&early(Early::Cut), 2, 40), "accepts-early", Outcome::Cut),
        (impatient, "accepts-early", Outcome::Hung),
        (deadlock, "hangs-when-met", Outcome::Hung),
        (dead, "never-answers", Outcome::Hung),
        (options(&early(Early::Reset), 2, 40), "accepts-early", Outcome::Reset),
        (options(&doubling, 2, 40), "doubles", Outcome::Doubled),
        (options(&reordering, 2, 40), "reorders", Outcome::Reordered),
        (options(&failing, 3, 60), "fails-when-ready", Outcome::Status(502)),
    ] {
        let report = play(options);
        let codes: Vec<&str> = report.findings.iter().map(|said| said.code.as_str()).collect();
        assert_eq!(codes, [code], "{outcome:?}: {:#?}", report.findings);
        assert!(
            report.plain.counts.iter().any(|count| count.outcome == outcome),
            "{outcome:?}"
        );
        assert_eq!(report.exit_code(), 1);
    }
}

fn deaf() {
    let server = Planted {
        listen_after: 40 * MS,
        early: Early::Deaf,
        ..Planted::good(240 * MS)
    };
    let mut options = options(&server, 3, 60);
    options.manner.patience = Duration::from_secs(1);
    let report = play(options);
    // Who said all before it was ready, and was never answered, is no finding of its own.
    assert!(
        matches!(only(&report), Finding::LosesEarly { .. }),
        "{:#?}",
        report.findings
    );
}

fn never() {
    let server = Planted {
        listen_after: Duration::ZERO,
        early: Early::Status(404),
        ..Planted::good(Duration::from_secs(3_600))
    };
    let mut options = options(&server, 2, 40);
    options.manner.start_timeout = 600 * MS;
    options.manner.patience = 500 * MS;
    let report = play(options);
    let Verdict::NotMeasured(why) = &report.verdict else {
        panic!("{:?}", report.verdict)
    };
    assert!(why.contains("HTTP 404"), "{why}");
    assert_eq!(report.exit_code(), 2);
}

fn ends() {
    let mut options = options(&Planted::good(MS), 2, 40);
    options.command = ["sh", "-c", "echo no database; exit 7"].map(OsString::from).to_vec();
    let report = play(options);
    let Verdict::NotMeasured(why) = &report.verdict else {
        panic!("{:?}", report.verdict)
    };
    assert!(why.contains("exit code 7") && why.contains("no database"), "{why}");
}

fn interrupted() {
    let (stop, stopped) = watch::channel(false);
    let mark = std::sync::atomic::AtomicU32::new(0);
    let show = |progress| {
        // In the third run, once clients come.
        if let Progress::Run { number, .. } = progress {
            mark.store(number, std::sync::atomic::Ordering::Relaxed);
        } else if mark.load(std::sync::atomic::Ordering::Relaxed) == 2 {
            stop.send_replace(true);
        }
    };
    let options = options(&Planted::good(100 * MS), 50, 40);
    let began = Instant::now();
    let report = runtime().block_on(audit(options, stopped, &show)).unwrap().report;
    assert!(
        report.interrupted && report.plain.runs.len() == 2,
        "{}",
        report.plain.runs.len()
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(report.verdict, Verdict::Sound);
}

/// CMD's own words are the text of others: whoever shares a report shares them.
fn formats() {
    let server = Planted {
        listen_after: 40 * MS,
        early: Early::Close(1011, MS),
        ..Planted::good(160 * MS)
    };
    let mut report = play(options(&server, 2, 40));
    report.greenroom = Some(report.plain.clone());
    report.greenroom_findings = report.findings.clone();
    report.greenroom_verdict = Some(report.verdict.clone());
    let nasty = "<script>alert(1)</script> `x` \u{1b}[2J\n\"'&|";
    report.command = vec![nasty.to_owned()];
    report.settings.message = nasty.to_owned();
    for width in [1, 60, 79, 80, 120, 160, 500] {
        let text = terminal::render(&report, width, false);
        let most = width.clamp(60, 160);
        for line in text.lines() {
            // A table is as wide as it is; everything else breaks.
            assert!(line.chars().count() <= most.max(80), "{width}: {line}");
        }
        assert!(!text.contains('\u{1b}') && text.contains("Race"), "{text:?}");
        assert!(terminal::render(&report, width, true).contains("\u{1b}[1;31m"));
    }
    let html = html::render(&report);
    assert!(
        !html.contains("<script") && !html.contains('\u{1b}') && html.contains("<svg"),
        "{html}"
    );
    for markdown in [markdown::render(&report), markdown::comment(&report)] {
        assert!(!markdown.contains("`x`") && !markdown.contains('\u{1b}'), "{markdown}");
        assert_eq!(markdown.matches("```").count() % 2, 0, "{markdown}");
        assert!(markdown.contains("| | by itself | behind greenroom |"));
    }
    let junit = junit::render(&report);
    assert!(
        !junit.contains("<script") && !junit.contains('\u{1b}') && junit.contains("failures=\"1\""),
        "{junit}"
    );
    let sarif: serde_json::Value = serde_json::from_str(&sarif::render(&report)).unwrap();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 2, "both sides");
    // The report is an interface: what is written is read back (numbers with a point to the last digit but one).
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert!(read.plain.points == report.plain.points && read.plain.counts == report.plain.counts);
    assert!(read.command == report.command && read.findings.len() == report.findings.len());
}

// ── What they need ─────────────────────────────────────────────────────────

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn options(server: &Planted, runs: u32, clients: u32) -> Options {
    let program = std::env::current_exe().unwrap();
    let description = serde_json::to_string(server).unwrap();
    Options {
        command: vec![program.clone().into(), "planted".into(), description.into()],
        runs,
        clients,
        manner: Manner {
            target: Target::default(),
            words: Words::default(),
            expect: Expect::Echo,
            patience: Duration::from_secs(10),
            start_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(5),
            gives_up: true,
        },
        compare: false,
        restart: None,
        gateway: program,
        greenroom: Vec::new(),
        seed: 7,
        fail_on: vec![FailOn::Race],
        budgets: Vec::new(),
        strategies: Vec::new(),
        told: ["ws://127.0.0.1:{port}/", "greenroom-audit {n}", "echo"].map(String::from),
    }
}

fn play(options: Options) -> Report {
    play_all(options, &|_| {}).report
}

fn play_all(options: Options, show: &(dyn Fn(Progress) + Send + Sync)) -> Audited {
    let (_stop, stopped) = watch::channel(false);
    runtime().block_on(audit(options, stopped, show)).unwrap()
}

/// The one thing that is found.
fn only(report: &Report) -> Finding {
    let [said] = &report.findings[..] else {
        panic!("{:#?}", report.findings)
    };
    said.finding.clone()
}

fn stamps(path: &Path) -> Vec<Stamp> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("greenroom-audit-truth-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("stamps")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A process that does nothing but keep a processor busy.
struct Burning(Child);

impl Burning {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self(command.arg("burn").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
