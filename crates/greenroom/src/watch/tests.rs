//! The watch at its grid, its end, and its cost.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;
use crate::config::{Flags, Layers, Purpose, load_bytes};
use crate::registry::Entry;
use crate::telemetry::{Format, Log};

struct Rig {
    registry: Arc<Registry>,
    route: RouteOf,
}

impl Rig {
    fn new(route: &str) -> Self {
        let text = format!("[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\n{route}\n");
        let layers = Layers {
            purpose: Purpose::Check,
            variables: Vec::new(),
            flags: Flags::default(),
            file: None,
        };
        let config = Arc::new(load_bytes("test", text.into(), &layers).unwrap().config);
        let registry = Registry::new(Log::start(Format::Json), 1 << 20, &config.limits);
        let route = RouteOf::new(&config, 0);
        Self { registry, route }
    }

    /// A connection that is relayed and watched.
    fn relayed(&self) -> (Entry, Arc<Pulse>) {
        let mut entry = self.registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        for state in [State::Held, State::Dialing, State::Relaying] {
            entry.enter(state);
        }
        let seed = entry.record().number;
        let pulse = Pulse::of(entry.record(), self.route.clone(), clock::now(), seed).unwrap();
        self.registry.newcomers.join(&pulse);
        (entry, pulse)
    }
}

/// The next that a connection is told, and how long after `began`.
async fn told(entry: &Entry, began: Time) -> (Word, Duration) {
    match std::future::poll_fn(|cx| entry.record().mailbox.poll_next(cx)).await {
        Notice::Watch(word) => (word, clock::now().since(began)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_told_on_the_grid_what_there_is_to_do() {
    let rig = Rig::new("ping_interval = \"25s\"\nping_timeout = \"10s\"");
    let watching = tokio::spawn(run(Arc::clone(&rig.registry)));
    let (entry, pulse) = rig.relayed();
    let began = clock::now();
    let (word, at) = told(&entry, began).await;
    assert_eq!(word, Word::Ping(Sender::Client));
    let most = Duration::from_secs(25) + 2 * WATCH_EVERY;
    assert!(at >= Duration::from_secs(25) && at <= most, "{at:?}");
    pulse.pinged(Sender::Client, clock::now());
    let began = clock::now();
    let (word, at) = told(&entry, began).await;
    assert_eq!(word, Word::Close(Over::Dead(Sender::Client)));
    assert!(at >= Duration::from_secs(10) && at <= Duration::from_secs(11), "{at:?}");
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn whose_relay_is_over_is_looked_at_no_more_and_the_task_sleeps_until_another_comes() {
    let rig = Rig::new("idle_timeout = \"10s\"");
    let watching = tokio::spawn(run(Arc::clone(&rig.registry)));
    for _ in 0..2 {
        let all: Vec<_> = (0..3_000).map(|_| rig.relayed()).collect();
        let (last, pulse) = all.last().unwrap();
        assert_eq!(
            told(last, clock::now()).await.0,
            Word::Close(Over::Idle { moving: false })
        );
        assert_eq!(Arc::strong_count(pulse), 2, "ours, and the watch's");
        let pulses: Vec<_> = all.into_iter().map(|(_, pulse)| pulse).collect();
        tokio::time::sleep(2 * WATCH_EVERY).await; // tidy: allow-sleep the clock of the test stands
        assert!(pulses.iter().all(|pulse| Arc::strong_count(pulse) == 1));
    }
    watching.abort();
}

/// The grid begins anew with whoever comes when nobody was watched: a task that ticks on would look at it sooner.
#[tokio::test(start_paused = true)]
async fn while_nobody_is_watched_the_task_sleeps() {
    let rig = Rig::new("idle_timeout = \"10s\"");
    let watching = tokio::spawn(run(Arc::clone(&rig.registry)));
    drop(rig.relayed());
    tokio::time::sleep(3 * WATCH_EVERY + WATCH_EVERY / 2).await; // tidy: allow-sleep the clock of the test stands
    let (entry, _pulse) = rig.relayed();
    let (_, at) = told(&entry, clock::now()).await;
    assert_eq!(at, WATCH_EVERY + Duration::from_secs(10));
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn looks_that_were_missed_are_not_made_up_for() {
    let rig = Rig::new("ping_interval = \"1s\"");
    let watching = tokio::spawn(run(Arc::clone(&rig.registry)));
    let (entry, _pulse) = rig.relayed();
    assert_eq!(told(&entry, clock::now()).await.0, Word::Ping(Sender::Client));
    tokio::time::advance(20 * WATCH_EVERY).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let words = std::iter::from_fn(|| entry.record().mailbox.take()).count();
    assert_eq!(words, 1, "it is asked for at each look, and that was one");
    watching.abort();
}

#[tokio::test]
async fn between_the_pieces_of_a_look_others_have_their_turn_and_no_room_is_kept_for_a_crowd() {
    let rig = Rig::new("idle_timeout = \"10s\"");
    let entries: Vec<_> = (0..3 * WATCH_PIECE).map(|_| rig.relayed().0).collect();
    let (pulses, _) = rig.registry.newcomers.take();
    let mut lines: Vec<Line> = pulses.into_iter().map(|pulse| Line::new(pulse, clock::now())).collect();
    let mut turns = 0;
    {
        let mut looking = std::pin::pin!(look(&mut lines, Line::look));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while looking.as_mut().poll(&mut cx).is_pending() {
            turns += 1;
        }
    }
    assert_eq!(turns, 3);
    drop(entries);
    look(&mut lines, Line::look).await;
    assert_eq!((lines.len(), lines.capacity()), (0, 0));
}

/// Those who have come together do not all go together.
#[tokio::test]
async fn each_connection_has_a_lifetime_of_its_own() {
    let rig = Rig::new("max_lifetime = \"10m\"");
    let began = clock::now();
    let all: Vec<_> = (0..100).map(|_| rig.relayed()).collect();
    let mut ends: Vec<_> = all.iter().map(|(_, pulse)| pulse.ends.since(began)).collect();
    ends.sort_unstable();
    assert!(ends[99] - ends[0] > Duration::from_secs(30), "{ends:?}");
    assert!(ends[0] >= Duration::from_secs(540), "{ends:?}");
}

/// How long one look at many takes, for `docs/measurements.md`: `cargo test --release -p greenroom --lib -- cost_of_a_look --nocapture`.
#[tokio::test]
async fn the_cost_of_a_look_is_some_nanoseconds_for_each() {
    const COUNT: usize = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    let rig = Rig::new("ping_interval = \"25s\"\nidle_timeout = \"1h\"\nmax_lifetime = \"12h\"\nslow = \"close\"");
    let entries: Vec<_> = (0..COUNT).map(|_| rig.relayed().0).collect();
    let (pulses, _) = rig.registry.newcomers.take();
    let mut lines: Vec<Line> = pulses.into_iter().map(|pulse| Line::new(pulse, clock::now())).collect();
    look(&mut lines, Line::look).await;
    let began = std::time::Instant::now();
    look(&mut lines, Line::look).await;
    let took = began.elapsed();
    println!(
        "a look at {COUNT} connections takes {took:?}; each has a line of {} bytes and a pulse of {}",
        size_of::<Line>(),
        size_of::<Pulse>()
    );
    assert_eq!(lines.len(), COUNT);
    assert!(took < WATCH_EVERY, "{took:?}");
    drop(entries);
    look(&mut lines, Line::look).await;
    assert!(lines.is_empty());
}

/// Who comes and goes fast is not kept until its ping is due.
#[tokio::test(start_paused = true)]
async fn who_is_held_no_more_is_dropped_at_the_next_look_and_hears_no_ping() {
    let rig = Rig::new("hold = \"accept\"");
    let held = || {
        let mut entry = rig.registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        entry.enter(State::Held);
        entry.accepted();
        entry
    };
    let (stays, mut let_in, leaves) = (held(), held(), held());
    let (_, mut lines) = rig.registry.newcomers.take();
    look(&mut lines, Held::look).await;
    assert_eq!(lines.len(), 3);
    let_in.enter(State::Dialing);
    look(&mut lines, Held::look).await;
    assert_eq!(lines.len(), 3, "it may come back to its place");
    let_in.enter(State::Relaying);
    drop(leaves);
    look(&mut lines, Held::look).await;
    assert_eq!(lines.len(), 1);
    let began = clock::now();
    tokio::time::advance(greenroom_core::limits::HOLD_PING_EVERY).await;
    look(&mut lines, Held::look).await;
    assert_eq!(told(&stays, began).await.0, Word::Ping(Sender::Client));
    assert!(let_in.record().mailbox.take().is_none());
}
