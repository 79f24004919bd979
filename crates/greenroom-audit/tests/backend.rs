//! The built-in backend and the clients, against each other: what each kind of
//! start does to clients that come too early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::sync::Arc;
use std::time::Duration;

use greenroom_audit::audit::record::{ClientRecord, Ending};
use greenroom_audit::backend::{SlowBackend, SlowListen, bind, serve};
use greenroom_audit::check::{Summary, inversions, loss};
use greenroom_audit::clients::{Plan, Stage, arrive, is_in};
use greenroom_audit::journal::{Journal, Record};

const PATIENCE: Duration = Duration::from_secs(10);

/// A backend with a start of 300 ms, and 30 clients over 600 ms.
async fn meet(listen: SlowListen) -> (Vec<ClientRecord>, Arc<Journal>) {
    let phases = [
        ("database", Duration::from_millis(100)),
        ("cache", Duration::from_millis(200)),
    ];
    let config = SlowBackend::new(listen, &phases, false);
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let plan = plan(socket.local_addr().unwrap().port());
    let journal = Arc::new(Journal::default());
    let serving = serve(&config, socket, Arc::clone(&journal));
    let records = tokio::select! {
        records = arrive(&plan, |_, _| {}) => records,
        ended = serving => panic!("the backend ended: {ended:?}"),
    };
    (records, journal)
}

fn plan(port: u16) -> Plan {
    let over = Duration::from_millis(600);
    Plan {
        port,
        count: 30,
        over,
        messages: 3,
        patience: PATIENCE,
        seed: 7,
    }
}

fn ready_at(journal: &Journal) -> u64 {
    let ready = |record| {
        if let Record::Ready { at } = record {
            Some(at)
        } else {
            None
        }
    };
    journal
        .records()
        .into_iter()
        .find_map(ready)
        .expect("the backend became ready")
}

/// Everybody who came well before READY saw `early`, everybody well after got in.
fn check(records: &[ClientRecord], journal: &Journal, early: impl Fn(&Ending) -> bool) {
    let (ready, margin) = (ready_at(journal), 100_000_000);
    assert_eq!(records.len(), 30);
    let mut counts = (0, 0);
    for record in records {
        if record.started_at + margin < ready {
            counts.0 += 1;
            assert!(early(&record.ending), "client {}: {:?}", record.client, record.ending);
        } else if record.started_at > ready + margin {
            counts.1 += 1;
            assert!(is_in(record) && record.messages.len() == 3, "{record:?}");
        }
    }
    assert!(counts.0 >= 5 && counts.1 >= 5, "{counts:?}");
}

#[tokio::test]
async fn a_server_that_listens_only_when_ready_refuses_who_comes_early() {
    let (records, journal) = meet(SlowListen::OnlyWhenReady).await;
    check(&records, &journal, |ending| *ending == Ending::Refused);
    assert!(loss(&records, 30).is_none());
}

#[tokio::test]
async fn a_server_that_answers_503_says_so_to_who_comes_early() {
    let (records, journal) = meet(SlowListen::at_once_503()).await;
    check(&records, &journal, |ending| *ending == Ending::Status(503));
}

#[tokio::test]
async fn a_server_that_accepts_too_early_cuts_who_comes_early_with_1011() {
    let (records, journal) = meet(SlowListen::at_once_1011(Duration::from_millis(5))).await;
    check(&records, &journal, |ending| {
        matches!(ending, Ending::Closed { code: Some(1011), .. })
    });
    assert!(!loss(&records, 30).is_none(), "what the cut clients had sent is lost");
}

#[tokio::test]
async fn the_journal_tells_phases_in_order_and_one_opening_for_each_who_got_in() {
    let (records, journal) = meet(SlowListen::OnlyWhenReady).await;
    let told = journal.records();
    let phases: Vec<_> = told
        .iter()
        .filter_map(|record| {
            if let Record::Phase { name, .. } = record {
                Some(name.as_str())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(phases, ["database", "cache"]);
    let openings = journal.sessions();
    assert_eq!(
        openings.len(),
        Summary::of(&records, Some(ready_at(&journal))).in_at_once
    );
    assert!(
        openings.iter().all(Option::is_none),
        "nobody stands in front, so nobody gives a session"
    );
    let targets: Vec<u64> = told
        .iter()
        .filter_map(|record| {
            if let Record::Opening { target, .. } = record {
                Some(target)
            } else {
                None
            }
        })
        .map(|target| target.strip_prefix("/?client=").unwrap().parse().unwrap())
        .collect();
    assert!(inversions(&targets).is_empty(), "{targets:?}");
}

#[tokio::test]
async fn each_client_is_told_of_in_stages() {
    let stages = Arc::new(std::sync::Mutex::new(Vec::new()));
    let config = SlowBackend::new(SlowListen::OnlyWhenReady, &[], false);
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let plan = Plan {
        count: 1,
        over: Duration::ZERO,
        ..plan(socket.local_addr().unwrap().port())
    };
    let journal = Arc::new(Journal::default());
    let seen = Arc::clone(&stages);
    let clients = async {
        let listening = |records: &[Record]| records.iter().any(|r| matches!(r, Record::Listening { .. }));
        assert!(journal.wait_for(PATIENCE, listening).await);
        arrive(&plan, move |_, stage| seen.lock().unwrap().push(stage)).await
    };
    tokio::select! {
        _ = clients => {}
        ended = serve(&config, socket, Arc::clone(&journal)) => panic!("the backend ended: {ended:?}"),
    }
    assert_eq!(*stages.lock().unwrap(), [Stage::Waiting, Stage::In]);
}
