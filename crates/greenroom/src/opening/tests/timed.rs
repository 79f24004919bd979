//! What only time makes of an accepted client, from accept to close, with real sockets: the clock is tokio's, and
//! goes by itself where nothing else happens, so that half a minute takes no time and ends at its millisecond.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::backend::{Input, Source};
use greenroom_core::drain::{close_at, refuse_at, seed_for};
use greenroom_core::event::{CloseCause, Generation, Refusal, State};
use greenroom_core::gate::Trust;
use greenroom_core::limits::{
    CLOSE_HANDSHAKE, EARLY_PATIENCE, FIRST_SECOND, HOLD_PING_EVERY, HOLD_PINGS_MISSED, SPREAD_EACH, TARPIT, TARPIT_MAX,
    WATCH_EVERY,
};
use greenroom_core::readiness::Plan;
use greenroom_core::starts::Starts;
use greenroom_core::time::Time;
use greenroom_core::wire::CloseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock;
use crate::config::{Flags, Layers, Purpose, load_bytes};
use crate::driver::{Driver, Inbox, Message, Parts};
use crate::front::Front;
use crate::listener;
use crate::registry::{Close, Notice, Registry};
use crate::relay::Drain;
use crate::resolve::Names;
use crate::telemetry::{Format, Log};
use crate::threads::Threads;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// Timers count in milliseconds: what is due at one fires at the next.
const A_TICK: Duration = Duration::from_millis(3);

/// Everything behind a door, before a backend that never listens.
struct House {
    address: SocketAddr,
    registry: Arc<Registry>,
    inbox: Arc<Inbox>,
    drain: watch::Sender<Option<Drain>>,
}

impl House {
    /// With these keys of the only route, which accepts its clients unless it says otherwise, and of `[limits]`.
    async fn new(route: &str, limits: &str) -> Self {
        let hold = if route.contains("hold = ") {
            ""
        } else {
            "hold = \"accept\""
        };
        let text = format!(
            "[limits]\n{limits}\n[backend.test]\naddress = \"127.0.0.1:1\"\nready = \"http:/\"\n\
             [[route]]\n{hold}\n{route}\n"
        );
        let layers = Layers {
            file: None,
            variables: Vec::new(),
            flags: Flags::default(),
            purpose: Purpose::Serve,
        };
        let config = Arc::new(load_bytes("test.toml", text.into_bytes(), &layers).unwrap().config);
        let log = Log::start(Format::Json);
        let registry = Registry::new(log.clone(), 4096, &config.limits);
        let place: crate::config::Address = "127.0.0.1:1".parse().unwrap();
        let (driver, backend, _wants) = Driver::new(Parts {
            config: Arc::clone(&config),
            backend: 0,
            names: Names::new(&place, log.clone()),
            address: place,
            plan: Plan::plain(Source::Probe(Trust::Pushed), false),
            starts: Starts::default(),
            registry: Arc::clone(&registry),
            log: log.clone(),
        });
        let inbox = Arc::clone(&backend.inbox);
        let (drain, draining) = watch::channel(None);
        let front = Arc::new(Front {
            registry: Arc::clone(&registry),
            config,
            backends: [Arc::new(backend)].into(),
            listener: 0,
            hash: std::hash::RandomState::new(),
            seed: 1,
            drain: draining,
        });
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = door.local_addr().unwrap();
        tokio::spawn(driver.run());
        tokio::spawn(crate::watch::run(Arc::clone(&registry)));
        tokio::spawn(listener::accept(
            door,
            Arc::new(Threads::here()),
            listener::Door::new(front),
            log,
        ));
        Self {
            address,
            registry,
            inbox,
            drain,
        }
    }

    /// A client that has sent its request.
    async fn knock(&self) -> Client {
        self.knock_with(UPGRADE).await
    }

    async fn knock_with(&self, request: &str) -> Client {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Client { stream }
    }

    /// A client with its 101, and the moment.
    async fn accepted(&self) -> (Client, Time) {
        let mut client = self.knock().await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        (client, clock::now())
    }

    /// Nobody is in the books any more, and nothing is kept of anybody.
    async fn is_empty(&self) {
        // By far more than any Close or answer is waited for.
        let _ = tokio::time::timeout(CLOSE_HANDSHAKE * 4, async {
            while !self.registry.is_idle() {
                tokio::time::sleep(A_TICK).await; // tidy: allow-sleep the clock goes by itself here
            }
        })
        .await;
        for &state in State::ALL {
            assert!(state == State::Closed || self.registry.count(state) == 0, "{state}");
        }
        assert_eq!(self.registry.early.used(), 0);
    }

    fn closed(&self, cause: &str) -> u64 {
        self.registry.closed().find(|&(word, _)| word == cause).unwrap().1
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.unwrap();
    }

    /// The next frame, and the moment.
    async fn frame(&mut self) -> (u8, Vec<u8>, Time) {
        let first = self.stream.read_u8().await.unwrap();
        let len = usize::from(self.stream.read_u8().await.unwrap());
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.unwrap();
        (first, payload, clock::now())
    }

    /// The Close behind pings and pongs: its code, its reason, and the moment.
    async fn close(&mut self) -> (u16, String, Time) {
        loop {
            let (first, payload, at) = self.frame().await;
            if first == 0x88 {
                let (code, reason) = payload.split_at(2);
                let code = u16::from_be_bytes(code.try_into().unwrap());
                return (code, String::from_utf8(reason.to_vec()).unwrap(), at);
            }
            assert!(matches!(first, 0x89 | 0x8a), "{payload:?}");
        }
    }
}

/// A masked frame of up to 64 KiB.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ ..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            out.push(0xfe);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

fn is_at(at: Time, from: Time, after: Duration) {
    let due = from + after;
    assert!(at + A_TICK >= due && at <= due + A_TICK, "{at}, not {due}");
}

/// What the watch does, it does at its next look.
fn is_looked_at(at: Time, from: Time, after: Duration) {
    let due = from + after;
    assert!(
        at + A_TICK >= due && at <= due + WATCH_EVERY + A_TICK,
        "{at}, not {due}"
    );
}

fn retry_after_ms(reason: &str) -> u64 {
    let ms = reason
        .strip_prefix("retry-after-ms=")
        .unwrap_or_else(|| panic!("{reason}"));
    let ms = ms.parse().unwrap();
    assert!((1000..=5000).contains(&ms), "{reason}");
    ms
}

/// Deadlines that fall together are told one after the other; a browser's is kept back, as it tries again at once.
#[tokio::test(start_paused = true)]
async fn before_the_101_a_refusal_is_told_at_its_seeded_instant_and_to_a_browser_later() {
    const CLIENTS: usize = 100;
    let house = House::new("hold = \"handshake\"\nhold_timeout = \"2s\"", "").await;
    let page = UPGRADE.replace("\r\n\r\n", "\r\nOrigin: https://page.test\r\n\r\n");
    let since = clock::now();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let is_browser = number % 2 == 1;
        let client = house.knock_with(if is_browser { &page } else { UPGRADE }).await;
        while house.registry.count(State::Held) <= number as u64 {
            tokio::task::yield_now().await;
        }
        clients.push((number as u64 + 1, is_browser, client));
    }
    assert_eq!(clock::now(), since, "all in one moment");
    let told = clients.into_iter().map(|(id, is_browser, mut client)| {
        tokio::spawn(async move {
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            let over = since + Duration::from_secs(2);
            let at = refuse_at(over, seed_for(1, id), CLIENTS, is_browser);
            let least = if is_browser { TARPIT.0 } else { Duration::ZERO };
            let most = if is_browser {
                TARPIT.1
            } else {
                SPREAD_EACH * CLIENTS as u32
            };
            assert!(at >= over + least && at <= over + most, "{at}");
            is_at(clock::now(), at, Duration::ZERO);
            at
        })
    });
    let mut instants = BTreeSet::new();
    for told in told.collect::<Vec<_>>() {
        instants.insert(told.await.unwrap());
    }
    assert_eq!(instants.len(), CLIENTS);
    house.is_empty().await;
}

/// A stop keeps nobody back.
#[tokio::test(start_paused = true)]
async fn a_browser_that_is_kept_back_is_let_go_when_greenroom_stops() {
    let house = House::new("hold = \"handshake\"\nhold_timeout = \"1s\"", "").await;
    let page = UPGRADE.replace("\r\n\r\n", "\r\nOrigin: https://page.test\r\n\r\n");
    let since = clock::now();
    let mut client = house.knock_with(&page).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // tidy: allow-sleep the clock goes by itself here
    let plan = Drain {
        spread: Duration::ZERO,
        deadline: clock::now(),
        ends: clock::now(),
        code: greenroom_core::wire::CloseCode::GOING_AWAY,
    };
    house.drain.send_replace(Some(plan));
    assert!(client.head().await.starts_with("HTTP/1.1 503 "));
    is_at(clock::now(), since, Duration::from_millis(1100));
    drop(client);
    house.is_empty().await;
}

/// Browsers that are kept back are bounded in number: for one more there is no place, and it hears at once.
#[tokio::test(start_paused = true)]
async fn where_as_many_browsers_as_may_be_are_kept_back_one_more_hears_at_once() {
    let house = House::new("hold = \"handshake\"\nhold_timeout = \"1s\"", "").await;
    let places = u32::try_from(TARPIT_MAX).unwrap();
    let _others = house.registry.tarpit.acquire_many(places).await.unwrap();
    let page = UPGRADE.replace("\r\n\r\n", "\r\nOrigin: https://page.test\r\n\r\n");
    let since = clock::now();
    let mut client = house.knock_with(&page).await;
    assert!(client.head().await.starts_with("HTTP/1.1 503 "));
    is_at(clock::now(), since, Duration::from_secs(1));
    drop(client);
    house.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_over_is_1013_at_its_time_and_never_within_the_first_second() {
    for (hold, after) in [("300ms", FIRST_SECOND), ("7s", Duration::from_secs(7))] {
        let house = House::new(&format!("hold_timeout = \"{hold}\""), "").await;
        let (mut client, since) = house.accepted().await;
        let (code, reason, at) = client.close().await;
        assert_eq!(code, 1013);
        retry_after_ms(&reason);
        is_at(at, since, after);
        client.send(&frame(0x88, &1013_u16.to_be_bytes())).await;
        assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0);
        drop(client);
        house.is_empty().await;
        assert_eq!(house.closed("refused"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_more_than_is_kept_is_left_unread_for_its_patience_and_then_1009() {
    let house = House::new("", "early_max = \"1KiB\"").await;
    let (mut over, since) = house.accepted().await;
    let (mut fits, _) = house.accepted().await;
    over.send(&frame(0x82, &[7; 1024 - 7])).await; // one byte more than there is room for
    fits.send(&frame(0x82, &[7; 1024 - 8])).await;
    let (code, reason, at) = over.close().await;
    assert_eq!(
        (code, &reason[..]),
        (1009, "more was sent than is kept until the server is ready")
    );
    is_at(at, since, EARLY_PATIENCE);
    // Who kept to it is held to the end of its time, and answers Pings as all do.
    let (code, at) = loop {
        let (first, payload, at) = fits.frame().await;
        match first {
            0x89 => fits.send(&frame(0x8a, &payload)).await,
            _ => break (u16::from_be_bytes([payload[0], payload[1]]), at),
        }
    };
    assert_eq!(code, 1013);
    is_at(at, since, Duration::from_secs(60));
    drop((over, fits));
    house.is_empty().await;
}

/// A42. A peer that is gone without a word frees its place; one that answers keeps it.
#[tokio::test(start_paused = true)]
async fn a42_a_client_that_answers_no_ping_is_gone_and_its_place_is_free() {
    let house = House::new("hold_timeout = \"10m\"", "").await;
    let (half_open, since) = house.accepted().await;
    let (mut alive, _) = house.accepted().await;
    let mut pings = 0;
    while house.registry.count(State::Held) == 2 {
        let (first, payload, at) = alive.frame().await;
        pings += 1;
        assert_eq!(first, 0x89);
        is_looked_at(at, since, HOLD_PING_EVERY * pings);
        alive.send(&frame(0x8a, &payload)).await;
        tokio::task::yield_now().await;
    }
    is_looked_at(clock::now(), since, HOLD_PING_EVERY * (HOLD_PINGS_MISSED + 1));
    assert_eq!(house.closed("left_held"), 1);
    for _ in 0..3 {
        let (first, payload, _) = alive.frame().await;
        assert_eq!(first, 0x89);
        alive.send(&frame(0x8a, &payload)).await;
    }
    assert_eq!(house.registry.count(State::Held), 1, "who answers stays");
    drop((half_open, alive));
    house.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_to_be_closed_and_says_close_first_is_answered_at_once() {
    let house = House::new("hold_timeout = \"100ms\"", "").await;
    let (mut client, since) = house.accepted().await;
    tokio::time::sleep(Duration::from_millis(500)).await; // tidy: allow-sleep the clock goes by itself here
    assert_eq!(house.registry.count(State::Closing), 1, "it waits for its first second");
    client.send(&frame(0x88, &4001_u16.to_be_bytes())).await;
    let (code, _, at) = client.close().await;
    assert_eq!(code, 4001);
    is_at(at, since, Duration::from_millis(500));
    drop(client);
    house.is_empty().await;
}

/// A36. The thousand-and-first ping of a second is 1008, and a flood that goes on ends it no sooner.
#[tokio::test(start_paused = true)]
async fn a36_a_flood_of_pings_is_1008_after_the_first_second() {
    let house = House::new("", "").await;
    let (mut client, since) = house.accepted().await;
    client.send(&frame(0x89, b"x").repeat(1001)).await;
    while house.registry.count(State::Closing) == 0 {
        tokio::task::yield_now().await;
    }
    client.send(&frame(0x89, b"x").repeat(100)).await;
    let (code, reason, at) = client.close().await;
    assert_eq!((code, &reason[..]), (1008, "too many pings"));
    is_at(at, since, FIRST_SECOND);
    drop(client);
    house.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_the_accepted_with_1001_each_at_its_seeded_instant() {
    const CLIENTS: u32 = 200;
    let house = House::new("", "").await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(house.accepted().await);
    }
    let now = clock::now();
    let spread = Duration::from_secs(5);
    let plan = Drain {
        spread,
        deadline: now + spread,
        ends: now + spread,
        code: greenroom_core::wire::CloseCode::GOING_AWAY,
    };
    house.drain.send_replace(Some(plan));
    house.inbox.tell(Message::Drain);
    let mut late = house.knock().await;
    assert!(
        late.head().await.starts_with("HTTP/1.1 503 "),
        "who comes now waits for nothing"
    );
    let closes = clients.into_iter().enumerate().map(|(number, (mut client, since))| {
        tokio::spawn(async move {
            let (code, reason, at) = client.close().await;
            assert_eq!(code, 1001);
            retry_after_ms(&reason);
            let seed = seed_for(1, number as u64 + 1);
            let expected = close_at(now, since, seed, CLIENTS as usize, spread, Some(plan.deadline));
            is_at(at, expected, Duration::ZERO);
            at.since(now).as_millis()
        })
    });
    let mut instants = BTreeSet::new();
    for close in closes.collect::<Vec<_>>() {
        instants.insert(close.await.unwrap());
    }
    assert!(instants.len() > 100, "{} instants", instants.len());
    let last = Duration::from_millis(u64::try_from(*instants.last().unwrap()).unwrap());
    assert!(
        last >= FIRST_SECOND && last <= FIRST_SECOND + SPREAD_EACH * CLIENTS + A_TICK,
        "{last:?}"
    );
    house.is_empty().await;
    assert_eq!(
        house
            .registry
            .refused()
            .find(|&(word, _)| word == "draining")
            .unwrap()
            .1,
        201
    );
}

#[tokio::test(start_paused = true)]
async fn a_grace_that_is_shorter_than_the_first_second_is_kept() {
    let house = House::new("", "").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(house.accepted().await.0);
    }
    let now = clock::now();
    let spread = Duration::from_millis(400);
    house.drain.send_replace(Some(Drain {
        spread,
        deadline: now + spread,
        ends: now + spread,
        code: greenroom_core::wire::CloseCode::GOING_AWAY,
    }));
    house.inbox.tell(Message::Drain);
    for client in &mut clients {
        let (code, _, at) = client.close().await;
        assert_eq!(code, 1001);
        assert!(at.since(now) <= spread + A_TICK, "{:?}", at.since(now));
    }
    drop(clients);
    house.is_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_closes_the_accepted_with_1013_spread_and_not_before_their_first_second() {
    let house = House::new("", "").await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(house.accepted().await);
    }
    house
        .inbox
        .tell(Message::signal(Input::StartFailed(Generation(0)), "test"));
    let mut instants = BTreeSet::new();
    let mut hints = BTreeSet::new();
    let closes = clients.into_iter().map(|(mut client, since)| {
        tokio::spawn(async move {
            let (code, reason, at) = client.close().await;
            (code, reason, at.since(since))
        })
    });
    for close in closes.collect::<Vec<_>>() {
        let (code, reason, after) = close.await.unwrap();
        assert_eq!(code, 1013);
        assert!(
            after + A_TICK >= FIRST_SECOND && after <= FIRST_SECOND + SPREAD_EACH * 100 + A_TICK,
            "{after:?}"
        );
        instants.insert(after.as_millis());
        hints.insert(retry_after_ms(&reason));
    }
    assert!(instants.len() > 50, "{} instants", instants.len());
    assert!(hints.len() > 90, "each its own time to come back: {}", hints.len());
    house.is_empty().await;
}

/// A stop brings the closes nearer of those who wait for their instant already, and none into its first second.
#[tokio::test(start_paused = true)]
async fn a_stop_amid_a_spread_of_closes_keeps_each_first_second() {
    let house = House::new("", "").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(house.accepted().await);
    }
    house
        .inbox
        .tell(Message::signal(Input::StartFailed(Generation(0)), "test"));
    let closes = clients.into_iter().map(|(mut client, since)| {
        tokio::spawn(async move {
            let (code, _, at) = client.close().await;
            (code, at.since(since))
        })
    });
    let closes = closes.collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_millis(100)).await; // tidy: allow-sleep the clock goes by itself here
    house.drain.send_replace(Some(Drain {
        spread: Duration::ZERO,
        deadline: clock::now() + Duration::from_secs(10),
        ends: clock::now() + Duration::from_secs(10),
        code: greenroom_core::wire::CloseCode::GOING_AWAY,
    }));
    for close in closes {
        let (code, after) = close.await.unwrap();
        assert_eq!(code, 1013);
        assert!(
            after + A_TICK >= FIRST_SECOND && after <= FIRST_SECOND + A_TICK,
            "{after:?}"
        );
    }
    house.is_empty().await;
}

/// A client that does not answer the Close has had its time; nothing of what it sent is kept in it.
#[tokio::test(start_paused = true)]
async fn who_does_not_answer_its_close_is_cut_and_its_bytes_are_free_before() {
    let house = House::new("hold_timeout = \"2s\"", "").await;
    let (mut client, since) = house.accepted().await;
    client.send(&frame(0x82, &[7; 30_000])).await;
    let (code, _, at) = client.close().await;
    assert_eq!(code, 1013);
    is_at(at, since, Duration::from_secs(2));
    assert_eq!(house.registry.early.used(), 0);
    assert_eq!(house.registry.count(State::Closing), 1);
    let cut = client.stream.read(&mut [0]).await;
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    is_at(clock::now(), at, CLOSE_HANDSHAKE);
    house.is_empty().await;
}

/// Whoever closes by hand decides when: nobody's first second is waited for, and no browser is kept back.
#[tokio::test(start_paused = true)]
async fn who_is_closed_by_hand_is_closed_at_once() {
    let by_hand = || {
        Notice::Close(Close {
            cause: CloseCause::Admin,
            refusal: Refusal::ByHand,
            code: CloseCode::GOING_AWAY,
            reason: "bye".into(),
            detail: None,
        })
    };
    let house = House::new("", "").await;
    let (mut client, accepted) = house.accepted().await;
    house.registry.find(1).unwrap().mailbox.tell(by_hand()).unwrap();
    let (code, reason, at) = client.close().await;
    assert_eq!((code, reason.as_str()), (1001, "bye"));
    is_at(at, accepted, Duration::ZERO);
    client.send(&frame(0x88, &1001_u16.to_be_bytes())).await;
    drop(client);
    house.is_empty().await;
    assert_eq!(house.closed("admin"), 1);

    let house = House::new("hold = \"handshake\"", "").await;
    let mut browser = house
        .knock_with(&UPGRADE.replacen("Host", "Origin: http://test\r\nHost", 1))
        .await;
    while house.registry.count(State::Held) == 0 {
        tokio::task::yield_now().await;
    }
    let held = clock::now();
    house.registry.find(1).unwrap().mailbox.tell(by_hand()).unwrap();
    assert!(browser.head().await.starts_with("HTTP/1.1 503 "));
    is_at(clock::now(), held, Duration::ZERO);
    drop(browser);
    house.is_empty().await;
    assert_eq!(house.closed("refused"), 1);
}
