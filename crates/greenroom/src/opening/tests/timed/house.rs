//! A house whose only clock is tokio's, its clients, and what is said of their times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use greenroom_core::backend::Source;
use greenroom_core::event::State;
use greenroom_core::gate::Trust;
use greenroom_core::limits::{CLOSE_HANDSHAKE, WATCH_EVERY};
use greenroom_core::readiness::Plan;
use greenroom_core::starts::Starts;
use greenroom_core::time::Time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock;
use crate::config::{Flags, Layers, Purpose, load_bytes};
use crate::driver::{Driver, Inbox, Parts};
use crate::front::Front;
use crate::listener;
use crate::registry::Registry;
use crate::relay::Drain;
use crate::resolve::Names;
use crate::telemetry::{Format, Log};
use crate::threads::Threads;

pub(super) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// Timers count in milliseconds: what is due at one fires at the next.
pub(super) const A_TICK: Duration = Duration::from_millis(3);

/// Everything behind a door, before a backend that never listens.
pub(super) struct House {
    pub(super) address: SocketAddr,
    pub(super) registry: Arc<Registry>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) drain: watch::Sender<Option<Drain>>,
}

impl House {
    /// With these keys of the only route, which accepts its clients unless it says otherwise, and of `[limits]`.
    pub(super) async fn new(route: &str, limits: &str) -> Self {
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
    pub(super) async fn knock(&self) -> Client {
        self.knock_with(UPGRADE).await
    }

    pub(super) async fn knock_with(&self, request: &str) -> Client {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Client { stream }
    }

    /// A client with its 101, and the moment.
    pub(super) async fn accepted(&self) -> (Client, Time) {
        let mut client = self.knock().await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        (client, clock::now())
    }

    /// Nobody is in the books any more, and nothing is kept of anybody.
    pub(super) async fn is_empty(&self) {
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

    pub(super) fn closed(&self, cause: &str) -> u64 {
        self.registry.closed().find(|&(word, _)| word == cause).unwrap().1
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
}

impl Client {
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.unwrap();
    }

    /// The next frame, and the moment.
    pub(super) async fn frame(&mut self) -> (u8, Vec<u8>, Time) {
        let first = self.stream.read_u8().await.unwrap();
        let len = usize::from(self.stream.read_u8().await.unwrap());
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.unwrap();
        (first, payload, clock::now())
    }

    /// The Close behind pings and pongs: its code, its reason, and the moment.
    pub(super) async fn close(&mut self) -> (u16, String, Time) {
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
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
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

pub(super) fn is_at(at: Time, from: Time, after: Duration) {
    let due = from + after;
    assert!(at + A_TICK >= due && at <= due + A_TICK, "{at}, not {due}");
}

/// What the watch does, it does at its next look.
pub(super) fn is_looked_at(at: Time, from: Time, after: Duration) {
    let due = from + after;
    assert!(
        at + A_TICK >= due && at <= due + WATCH_EVERY + A_TICK,
        "{at}, not {due}"
    );
}

pub(super) fn retry_after_ms(reason: &str) -> u64 {
    let ms = reason
        .strip_prefix("retry-after-ms=")
        .unwrap_or_else(|| panic!("{reason}"));
    let ms = ms.parse().unwrap();
    assert!((1000..=5000).contains(&ms), "{reason}");
    ms
}
