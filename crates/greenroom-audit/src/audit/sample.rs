//! Small reports for tests of the formats: made from clients' records by the real way, so that no figure in them is made up.

use super::condition::{self, FailOn, Measured};
use super::finding;
use super::judge::Patience;
use super::launcher::Way;
use super::record::{Cause, ClientRecord, Ending, Interval, RunRecord, Sent};
use super::report::{Machine, Report, SCHEMA, Said, Settings, Verdict};
use super::side::Side;
use super::strategy::{self, Strategy};

/// A millisecond.
pub(super) const MS: u64 = 1_000_000;

/// Ten seconds, and a second for what is missing.
pub(super) const PATIENCE: Patience = Patience {
    whole_ns: 10_000 * MS,
    answer_ns: 1_000 * MS,
    late_ns: 1_000 * MS,
    answers: true,
};

/// A client that came at `at` ms, was opened at `opened`, spoke at `sent` and was answered half a millisecond later.
pub(super) fn client(number: u32, at: u64, opened: u64, sent: u64) -> ClientRecord {
    let message = Sent {
        at: sent * MS,
        answered_at: Some(sent * MS + MS / 2),
        copies: 1,
    };
    ClientRecord {
        connected_at: Some(at * MS + MS / 10),
        opened_at: Some(opened * MS),
        ended_at: (sent + 400) * MS,
        messages: vec![message],
        ..ClientRecord::new(number, at * MS)
    }
}

/// One that came at `at` ms and ended at once, like this.
pub(super) fn ended(number: u32, at: u64, ending: Ending) -> ClientRecord {
    let opened = matches!(ending, Ending::Closed { .. });
    ClientRecord {
        connected_at: (ending != Ending::Refused).then_some(at * MS + MS / 10),
        opened_at: opened.then_some(at * MS + MS),
        ended_at: at * MS + 3 * MS,
        ending,
        ..ClientRecord::new(number, at * MS)
    }
}

/// A Close with this code.
pub(super) fn closed(code: u16) -> Ending {
    Ending::Closed {
        code: Some(code),
        reason: String::new(),
    }
}

/// A start with these clients.
pub(super) fn run(number: u32, clients: Vec<ClientRecord>) -> RunRecord {
    RunRecord {
        run: number,
        exec: Interval::new(0, MS / 10),
        listen: Some(Interval::new(199 * MS, 200 * MS)),
        notified_at: None,
        clients,
        stalls: Vec::new(),
        cause: Cause::Finished,
        output: Vec::new(),
        killed: 0,
        elsewhere: None,
    }
}

/// Listens 200 ms after exec, and closes with 1011 until 900 ms after it.
pub(super) fn early(number: u32) -> RunRecord {
    let at = |n: u32| 100 + 20 * u64::from(n);
    let of = |n: u32| match at(n) {
        at @ ..200 => ended(n, at, Ending::Refused),
        at @ 200..900 => ended(n, at, closed(1011)),
        at => client(n, at, at + 1, at + 1),
    };
    run(number, (0..70).map(of).collect())
}

/// The same server behind greenroom: who comes early is opened when it is ready.
pub(super) fn held(number: u32) -> RunRecord {
    let of = |n: u32| {
        let at = 20 + 20 * u64::from(n);
        let opened = at.max(900 + u64::from(n) / 10) + 1;
        client(n, at, opened, opened)
    };
    let mut run = run(number, (0..70).map(of).collect());
    run.listen = Some(Interval::new(14 * MS, 15 * MS));
    run
}

/// A report on these starts.
pub(super) fn report(plain: &[RunRecord], behind: Option<&[RunRecord]>) -> Report {
    let side = Side::of(plain, PATIENCE);
    let findings = Said::all(finding::findings(&side, false, None), Way::Plain);
    let greenroom = behind.map(|runs| Side::of(runs, PATIENCE));
    let behind = greenroom.as_ref().map(|side| finding::findings(side, false, None));
    let behind = Said::all(behind.unwrap_or_default(), Way::Greenroom);
    let mut sides = vec![(Way::Plain, &side, findings.len())];
    sides.extend(greenroom.as_ref().map(|side| (Way::Greenroom, side, behind.len())));
    let measured = Measured {
        sides: &sides,
        restarts: &[],
    };
    let conditions = condition::met(&[FailOn::Race], &[], measured);
    let ways = ["event", "poll=100ms"].map(|text| Strategy::parse(text).unwrap());
    Report {
        schema: SCHEMA,
        version: "0.1.0".into(),
        command: ["node", "server.js"].map(String::from).to_vec(),
        machine: Machine {
            kernel: "Linux 6.1".into(),
            processor: "AMD EPYC".into(),
            processors: 2,
            load: "0.50".into(),
            date: "2026-11-26T12:14:59Z".into(),
            seconds: 1_795_695_299,
        },
        settings: Settings {
            runs: u32::try_from(plain.len()).unwrap(),
            clients: 60,
            url: "ws://127.0.0.1:{port}/".into(),
            message: "greenroom-audit {n}".into(),
            expect: "^a|b$".into(),
            patience_ns: PATIENCE.whole_ns,
            seed: 7,
            fail_on: vec!["race".into()],
            greenroom: Vec::new(),
        },
        verdict: Verdict::of(&side, findings.len(), None),
        greenroom_verdict: greenroom.as_ref().map(|side| Verdict::of(side, behind.len(), None)),
        failed_by: conditions.iter().map(|met| met.reason.clone()).collect(),
        conditions,
        not_done: Vec::new(),
        quiet: None,
        control: None,
        greenroom_control: None,
        findings,
        waits: strategy::compare(&side.runs, &ways),
        plain: side,
        greenroom_findings: behind,
        greenroom,
        restarts: Vec::new(),
        interrupted: false,
        took_ns: 12_300 * MS,
    }
}
