//! What the audit must not say, and what it must: servers that are easily taken for something else.

use std::time::Duration;

use greenroom_audit::audit::Options;
use greenroom_audit::audit::condition::Budget;
use greenroom_audit::audit::finding::Finding;
use greenroom_audit::audit::judge::Outcome;
use greenroom_audit::audit::report::{Report, Verdict};
use greenroom_audit::audit::target::{Expect, Words};
use greenroom_audit::misdeeds::Misdeed;
use greenroom_audit::planted::{Early, Planted};

use crate::{Folder, MS, only, options, play};

fn does(misdeed: Misdeed) -> Planted {
    Planted {
        misdeed: Some(misdeed),
        ..Planted::good(60 * MS)
    }
}

fn unnumbered(mut options: Options) -> Options {
    options.manner.words = Words::new(b"hello".to_vec());
    options
}

fn is_sound(report: &Report) {
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    assert_eq!(report.exit_code(), 0);
}

/// A server that stands still once, for longer than a client waits for an overtaken message, loses nothing.
pub(crate) fn stands_still() {
    let server = does(Misdeed::StandsStill(150 * MS, 1_300 * MS));
    let report = play(options(&server, 2, 40));
    is_sound(&report);
    assert_eq!((report.plain.lost.hits, report.plain.early_lost.hits), (0, 0));
    let late = report
        .plain
        .counts
        .iter()
        .filter(|count| count.outcome == Outcome::Late);
    assert!(
        late.map(|count| count.clients).sum::<u64>() > 0,
        "{:?}",
        report.plain.counts
    );
}

pub(crate) fn wrong_client() {
    let report = play(options(&does(Misdeed::WrongClient(0.3)), 2, 40));
    let Finding::WrongClient { strays } = only(&report) else {
        panic!("{:#?}", report.findings)
    };
    assert!(strays.messages.low < 0.3 && strays.messages.high > 0.15, "{strays:?}");
}

/// A server that sends what it hears to all does what a chat does, whether messages can be told apart or not.
pub(crate) fn chat() {
    is_sound(&play(options(&does(Misdeed::Chat), 2, 20)));
    is_sound(&play(unnumbered(options(&does(Misdeed::Chat), 2, 20))));
}

pub(crate) fn log_in() {
    let report = play(options(&does(Misdeed::LogIn), 3, 40));
    let Finding::FirstUnanswered { clients, hesitant } = only(&report) else {
        panic!("{:#?}", report.findings)
    };
    assert!(clients.low > 0.5 && clients.hits == clients.of, "{clients:?}");
    assert!(hesitant.hits > 0 && hesitant.hits == hesitant.of, "{hesitant:?}");
}

pub(crate) fn random_loss() {
    let mut options = options(&does(Misdeed::Loses(0.6)), 2, 60);
    options.manner.patience = Duration::from_secs(2);
    let report = play(options);
    let Finding::LosesMessages { all, .. } = only(&report) else {
        panic!("{:#?}", report.findings)
    };
    // A client that asks once more may lose that too.
    assert!(all.low < 0.6 && 0.6 < all.high, "{all:?}");
}

pub(crate) fn first_loses_later() {
    let mut options = options(&does(Misdeed::FirstLosesLater), 2, 40);
    options.manner.patience = Duration::from_secs(2);
    let report = play(options);
    let Finding::LosesMessages { first, all } = only(&report) else {
        panic!("{:#?}", report.findings)
    };
    assert!(first.hits == 0 && all.hits > 0, "{first:?} {all:?}");
}

pub(crate) fn one_start_is_never_ready() {
    let folder = Folder::new();
    let server = Planted {
        early: Early::Status(503),
        never_ready: Some(2),
        stamps: Some(folder.file()),
        ..Planted::good(60 * MS)
    };
    let mut options = options(&server, 3, 40);
    options.manner.start_timeout = Duration::from_secs(2);
    options.manner.patience = Duration::from_secs(1);
    options.budgets = vec![Budget::parse("p99-open=500ms").unwrap()];
    let report = play(options);
    let Finding::StartsNeverReady { never, runs, outcomes } = only(&report) else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!((never, runs, outcomes[0].0), (1, 3, Outcome::Status(503)));
    // Who was rejected for ever is in the budget.
    assert!(
        report
            .failed_by
            .iter()
            .any(|why| why.contains("p99-open is at least 1.00 s")),
        "{:?}",
        report.failed_by
    );
}

pub(crate) fn good_bye() {
    for code in [1000, 1001] {
        is_sound(&play(options(&does(Misdeed::GoodBye(code)), 2, 40)));
    }
}

/// Messages that cannot be told apart, to a server that needs longer for each than a client waits before it asks again.
pub(crate) fn slow_and_unnumbered() {
    let mut options = unnumbered(options(&does(Misdeed::Slow(1_300 * MS)), 2, 20));
    options.manner.expect = Expect::Any;
    is_sound(&play(options));
}
