//! What is load, and what looks like it.

use std::time::Duration;

use greenroom_audit::audit::finding::Finding;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::report::{Report, Verdict};
use greenroom_audit::misdeeds::Misdeed;
use greenroom_audit::planted::{Early, Planted};

use crate::{Folder, MS, only, options, play};

/// Clients that soon have enough of it.
fn asked(server: &Planted, clients: u32) -> Report {
    let mut options = options(server, 4, clients);
    options.manner.patience = 700 * MS;
    play(options)
}

fn codes(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|said| said.code.as_str()).collect()
}

/// 17 clients a second are all that it can do: it fails many of those that come at 100 a second, and nobody where few are asked for.
pub(crate) fn overrun() {
    let server = Planted {
        works: 60 * MS,
        ..Planted::good(60 * MS)
    };
    let many = asked(&server, 60);
    let Finding::Overrun { failed, few, .. } = only(&many) else {
        panic!("{:#?}", many.findings)
    };
    assert!(failed.hits > 60 && few.high < failed.low, "{failed:?} {few:?}");
    let control = many.control.unwrap();
    assert!(control.starts > 0 && (5..20).contains(&control.each), "{control:?}");
    let again = control.again.unwrap();
    assert!(again.hits > 5 && again.of > 20, "{again:?}");
    let told = &many.findings[0];
    assert!(
        told.sentence.contains(" a start it failed none of the"),
        "{}",
        told.sentence
    );
    // Nobody is told that messages are lost of which nobody knows that.
    assert!(many.plain.unanswered.clients > 0, "{:?}", many.plain.counts);
    let alone = asked(&server, 6);
    assert_eq!(alone.verdict, Verdict::Sound, "{:#?}", alone.findings);
    assert_eq!(alone.control, None, "there is nothing to be told");
}

/// The number of those who wait grows as it does where it is overrun; but few are failed as well.
pub(crate) fn stops_answering() {
    let server = Planted {
        misdeed: Some(Misdeed::StandsStill(250 * MS, Duration::from_secs(3_600))),
        ..Planted::good(60 * MS)
    };
    let report = asked(&server, 60);
    assert!(
        !report.findings.is_empty() && !codes(&report).contains(&"overrun"),
        "{:#?}",
        report.findings
    );
    let control = report.control.unwrap();
    let few = control.failures.iter().map(|failure| failure.clients.few.hits);
    assert!(few.sum::<u64>() > 2, "{control:?}");
}

/// It fails many, and no few; but the control starts come later, and it fails nobody by then.
pub(crate) fn warms_up() {
    let folder = Folder::new();
    let server = Planted {
        works: 60 * MS,
        warm_after: Some(4),
        stamps: Some(folder.file()),
        ..Planted::good(60 * MS)
    };
    let report = asked(&server, 60);
    let control = report.control.as_ref().unwrap();
    assert!(control.is_apart() && control.again.unwrap().hits == 0, "{control:?}");
    assert!(
        !report.findings.is_empty() && !codes(&report).contains(&"overrun"),
        "{:#?}",
        report.findings
    );
}

/// Early ones have 503, however few they are; later ones are too many.
pub(crate) fn overrun_and_not_ready() {
    let server = Planted {
        listen_after: 40 * MS,
        early: Early::Status(503),
        works: 60 * MS,
        ..Planted::good(240 * MS)
    };
    let report = asked(&server, 60);
    assert_eq!(codes(&report), ["overrun", "accepts-early"], "{:#?}", report.findings);
    let Finding::Overrun { outcomes, .. } = &report.findings[0].finding else {
        panic!("{:#?}", report.findings)
    };
    let early = |(outcome, _): &(Outcome, u64)| *outcome == Outcome::Status(503);
    assert!(!outcomes.iter().any(early), "{outcomes:?}");
}
