//! What happens later than a first start: servers that end, that hang when they are met, that are gone, or are restarted.

use std::time::Duration;

use greenroom_audit::audit::condition::{Budget, FailOn};
use greenroom_audit::audit::finding::Finding;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::report::Verdict;
use greenroom_audit::audit::target::Expect;
use greenroom_audit::audit::{Progress, html, junit, markdown, sarif, terminal};
use greenroom_audit::planted::{Early, Planted};
use rustix::process::Signal;

use crate::{Folder, MS, only, options, play, play_all};

pub(crate) fn starts_fail() {
    let server = Planted {
        ends_after: Some(200 * MS),
        ..Planted::good(100 * MS)
    };
    let report = play(options(&server, 2, 40));
    let named = report.findings.iter().find(|said| said.code == "starts-fail");
    let sentence = &named.unwrap_or_else(|| panic!("{:#?}", report.findings)).sentence;
    assert!(
        sentence.contains("with exit code 3") && sentence.contains("2 of 2 starts"),
        "{sentence}"
    );
    assert_eq!(report.exit_code(), 1);
}

/// Nobody's connection stands, with or without answers: it becomes ready alone, and not when it is met.
pub(crate) fn deadlock_unanswered() {
    let server = Planted {
        listen_after: 40 * MS,
        early: Early::Deadlock,
        ..Planted::good(240 * MS)
    };
    let mut options = options(&server, 5, 40);
    options.manner.expect = Expect::Nothing;
    options.manner.patience = 500 * MS;
    options.manner.start_timeout = Duration::from_secs(2);
    let told = std::sync::Mutex::new(Vec::new());
    let show = |progress| match progress {
        Progress::Run { number, of, .. } => told.lock().unwrap().push(format!("{} of {of}", number + 1)),
        Progress::Quiet { .. } => told.lock().unwrap().push("quiet".into()),
        Progress::Control { .. } => told.lock().unwrap().push("control".into()),
        Progress::Client(..) | Progress::Restart { .. } => {}
    };
    let audited = play_all(options, &show);
    assert!(matches!(only(&audited.report), Finding::HangsWhenMet { .. }));
    // The start with hardly any clients is told as what it is, and what was seen of it is kept.
    assert_eq!(*told.lock().unwrap(), ["1 of 5", "quiet", "2 of 5", "3 of 5"]);
    let quiet: Vec<_> = audited
        .runs
        .iter()
        .filter(|played| played.purpose == greenroom_audit::audit::Purpose::Quiet)
        .collect();
    assert!(quiet.len() == 1 && !quiet[0].run.clients.is_empty());
    assert!(audited.report.quiet.unwrap().edges.ready.is_some());
}

/// Neither a server that is gone after two starts nor a restart that cannot be made takes what was measured.
pub(crate) fn fails_later() {
    let folder = Folder::new();
    let program = folder.0.join("server");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    let mut options = options(&Planted::good(60 * MS), 4, 40);
    options.command[0] = program.clone().into();
    options.restart = Some(Signal::TERM);
    options.budgets = vec![Budget::parse("p99-open=1m").unwrap()];
    let show = |progress| {
        if let Progress::Run { number: 2, .. } = progress {
            std::fs::remove_file(&program).unwrap();
        }
    };
    let report = play_all(options, &show).report;
    assert_eq!((report.plain.runs.len(), &report.verdict), (2, &Verdict::Sound));
    let [starts, restart] = &report.not_done[..] else {
        panic!("{:?}", report.not_done)
    };
    assert!(
        starts.contains("not all starts") && starts.contains("cannot start"),
        "{starts}"
    );
    assert!(restart.contains("cannot start"), "{restart}");
    assert_eq!(report.exit_code(), 0, "{:?}", report.failed_by);
    for text in [
        terminal::render(&report, 200, false),
        markdown::render(&report),
        markdown::comment(&report),
        html::render(&report),
        junit::render(&report),
        sarif::render(&report),
    ] {
        assert!(text.contains("not all starts could be made"), "{text}");
    }
}

pub(crate) fn restart_unanswered() {
    let mut options = options(&Planted::good(100 * MS), 1, 12);
    options.manner.expect = Expect::Nothing;
    options.restart = Some(Signal::KILL);
    options.fail_on = vec![
        FailOn::Race,
        FailOn::Outcome(Outcome::Cut),
        FailOn::Outcome(Outcome::Reset),
    ];
    let steps = std::sync::Mutex::new(Vec::new());
    let show = |progress| {
        if let Progress::Restart {
            step,
            spent,
            expected,
            of,
            ..
        } = progress
        {
            assert!(of == 12 && expected >= Duration::from_secs(2) && spent < Duration::from_secs(60));
            steps.lock().unwrap().push(step);
        }
    };
    let audited = play_all(options, &show);
    let report = &audited.report;
    assert!(report.not_done.is_empty(), "{:?}", report.not_done);
    let restart = &report.restarts[0];
    assert_eq!((restart.dropped.hits, restart.dropped.of), (12, 12), "{restart:?}");
    assert!(restart.last_back_ns.is_some() && !restart.answers, "{restart:?}");
    assert_eq!((restart.lost.of, restart.never_back.len()), (0, 0));
    // It was asked for, so it is the reason; by itself it is no race.
    assert_eq!((report.exit_code(), &report.verdict), (1, &Verdict::Sound));
    assert!(
        report
            .failed_by
            .iter()
            .all(|why| why.starts_with("at the restart: ") && !why.contains("race")),
        "{:?}",
        report.failed_by
    );
    assert_eq!(audited.restarts[0].lives.len(), 12);
    let mut steps = steps.into_inner().unwrap();
    steps.dedup();
    assert!(steps.len() >= 3, "{steps:?}");
}
