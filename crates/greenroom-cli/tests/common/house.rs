//! greenroom inside of the test's own process: one backend, whose readiness the test itself tells, and a
//! configuration of which the test changes what it is about.
//!
//! The program with its flags is tested elsewhere; here it is the same listener, owner task and books,
//! with bounds that a test can reach.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    config::{self, Config},
    driver::{Driver, Inbox, Message, Parts},
    front::Front,
    listener,
    registry::Registry,
    relay::Drain,
    resolve::Names,
    telemetry::{Format, Log},
    threads::Threads,
};
use greenroom_core::{
    backend::{Input, Source},
    event::{Generation, State},
    gate::Trust,
    limits,
    readiness::Plan,
    starts::Starts,
};
use tokio::sync::watch;

use super::raw::{Raw, SOON, Stub};

/// See the module's head.
pub struct House {
    /// The backend: it listens from the beginning, and is not known to work.
    pub stub: Stub,
    /// Where clients come to.
    pub address: String,
    /// The books.
    pub registry: Arc<Registry>,
    inbox: Arc<Inbox>,
    drain: watch::Sender<Option<Drain>>,
    trust: Trust,
    /// Its threads end with it.
    _runtime: tokio::runtime::Runtime,
}

impl House {
    /// Before a backend that says itself when it is ready.
    pub fn pushed(edit: impl FnOnce(&mut Config)) -> Self {
        Self::new(Trust::Pushed, edit)
    }

    /// Before a backend of which only is known that it listens.
    pub fn inferred(edit: impl FnOnce(&mut Config)) -> Self {
        Self::new(Trust::Inferred, edit)
    }

    /// As [`House::pushed`], before another place than its stub.
    pub fn before(place: &str, edit: impl FnOnce(&mut Config)) -> Self {
        Self::at(Stub::listen(), place, Trust::Pushed, Starts::default(), edit)
    }

    /// As [`House::pushed`], before a backend whose starts are known to take so long.
    pub fn slow(start: Duration, edit: impl FnOnce(&mut Config)) -> Self {
        let stub = Stub::listen();
        let (place, starts) = (stub.address(), Starts::known([start; limits::STARTS_NEEDED]));
        Self::at(stub, &place, Trust::Pushed, starts, edit)
    }

    fn new(trust: Trust, edit: impl FnOnce(&mut Config)) -> Self {
        let stub = Stub::listen();
        let place = stub.address();
        Self::at(stub, &place, trust, Starts::default(), edit)
    }

    fn at(stub: Stub, place: &str, trust: Trust, starts: Starts, edit: impl FnOnce(&mut Config)) -> Self {
        let mut config = plain(place);
        edit(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let log = Log::start(Format::Json);
        let registry = Registry::new(log.clone(), 4096, &config.limits);
        let config = Arc::new(config);
        let (driver, backend, _) = Driver::new(Parts {
            config: Arc::clone(&config),
            backend: 0,
            names: Names::new(&place.parse().unwrap(), log.clone()),
            address: place.parse().unwrap(),
            plan: Plan::plain(Source::Probe(trust), false),
            starts,
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
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        door.set_nonblocking(true).unwrap();
        let address = door.local_addr().unwrap().to_string();
        let door = tokio::net::TcpListener::from_std(door).unwrap();
        tokio::spawn(driver.run());
        tokio::spawn(greenroom::watch::run(Arc::clone(&registry)));
        tokio::spawn(listener::accept(
            door,
            Arc::new(Threads::here()),
            listener::Door::new(front),
            log,
        ));
        drop(_inside);
        Self {
            stub,
            address,
            registry,
            inbox,
            drain,
            trust,
            _runtime: runtime,
        }
    }

    /// The backend is ready, or listens.
    pub fn ready(&self) {
        self.tell(Input::Verdict(Generation(0), true));
    }

    /// What the owner task learns of the backend.
    pub fn tell(&self, input: Input) {
        self.inbox.tell(Message::signal(input, "test"));
    }

    /// What the backend says of its start-up.
    pub fn phase(&self, phase: &str) {
        self.inbox.tell(Message::Said(phase.to_owned()));
    }

    /// greenroom stops: nobody is let in any more.
    pub fn stop(&self) {
        self.inbox.tell(Message::Drain);
        self.drain.send_replace(Some(Drain {
            spread: Duration::ZERO,
            deadline: greenroom::clock::now(),
            ends: greenroom::clock::now(),
            code: greenroom_core::wire::CloseCode::GOING_AWAY,
        }));
    }

    /// A client.
    pub fn client(&self) -> Raw {
        Raw::connect(&self.address)
    }

    /// A client that has sent this.
    pub fn client_with(&self, bytes: impl AsRef<[u8]>) -> Raw {
        let mut client = self.client();
        client.send(bytes);
        client
    }

    /// How often this refusal was counted.
    pub fn refused(&self, refusal: &str) -> u64 {
        let mut counts = self.registry.refused();
        counts.find(|(word, _)| *word == refusal).expect("a refusal").1
    }

    /// Waits until so many connections are in a state.
    pub fn wait_for(&self, state: State, count: u64) {
        let deadline = Instant::now() + SOON;
        while self.registry.count(state) != count {
            assert!(
                Instant::now() < deadline,
                "{} are {state}, not {count}",
                self.registry.count(state)
            );
            std::thread::yield_now();
        }
    }

    /// Waits until so many are held by the books of the gate itself: whoever is held has its place.
    pub fn wait_for_places(&self, count: usize) {
        let deadline = Instant::now() + SOON;
        loop {
            let (asked, told) = tokio::sync::oneshot::channel();
            self.inbox.tell(Message::Ask(asked));
            let held = told.blocking_recv().expect("the owner task runs").held;
            if held.websocket + held.http == count {
                return;
            }
            assert!(Instant::now() < deadline, "{held:?} are at the gate, not {count}");
        }
    }

    /// Makes the gate sure: a plain request went past it, on a connection that carried one before.
    /// That client and that backend connection, both idle.
    pub fn sure(&self) -> (Raw, Raw) {
        self.ready();
        let mut client = self.client();
        let mut before: Option<Raw> = None;
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            client.send("GET /warm HTTP/1.1\r\nHost: example.test\r\n\r\n");
            let (mut backend, is_reused) = self.next_of(before.take());
            backend.head();
            backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let (head, _) = client.answer_with_length();
            assert_eq!(super::raw::field(&head, "connection"), None, "{head}");
            if is_reused {
                return (client, backend);
            }
            before = Some(backend);
        }
        panic!("the gate is never sure ({:?})", self.trust);
    }

    /// Where the next request comes: on a connection that is there, or on a new one.
    fn next_of(&self, before: Option<Raw>) -> (Raw, bool) {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(new) = self.stub.try_accept() {
                return (new, false);
            }
            // One that is closed instead was not wanted any more: a new one comes.
            let speaks = |raw: &Raw| raw.has_bytes() && raw.0.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
            if before.as_ref().is_some_and(speaks) {
                return (before.expect("it is there"), true);
            }
            std::thread::yield_now();
        }
        panic!("no request came to the backend");
    }
}

/// One route to one backend, with the program's own bounds.
fn plain(backend: &str) -> Config {
    let address: config::Address = backend.parse().unwrap();
    Config {
        listeners: vec![config::Listener {
            name: "main".into(),
            address: "127.0.0.1:0".parse().unwrap(),
            hosts: None,
        }],
        admin: config::Admin::default(),
        state_dir: None,
        reload_on_change: false,
        profile: None,
        backends: vec![config::Backend {
            phases: greenroom_core::phase::Rule::defaults(),
            checks: Vec::new(),
            needs: vec![greenroom_core::readiness::Need::default()],
            name: "app".into(),
            address: Some(address),
            ready: config::Ready::Auto,
            held_max: limits::HELD_MAX,
            http_held_max: limits::HTTP_HELD_MAX,
            dials_max: limits::DIALS_MAX,
            release_rate: None,
            fair: config::Fair::No,
            held_per_address: None,
            held_per_key: None,
            process: None,
        }],
        routes: vec![config::Route {
            need: 0,
            shed: config::Shed::default(),
            tell_clients: config::TellClients::default(),
            name: "/".into(),
            host: config::HostPattern::Any,
            path: "/".into(),
            listeners: None,
            backend: 0,
            hold: config::Hold::Handshake,
            accept_after: limits::ACCEPT_AFTER,
            subprotocols: Vec::new(),
            forward_after: None,
            watch: greenroom_core::watch::Rule::default(),
            waiting_message: None,
            origins: None,
            known_by: config::KnownBy::default(),
            hold_timeout: limits::HOLD_TIMEOUT,
            http: config::HttpMode::Hold,
            http_hold: limits::HTTP_HOLD,
            waiting_page: true,
            request_headers: config::HeaderEdits::default(),
            response_headers: config::HeaderEdits::default(),
            rewrite: None,
            body_max: None,
            message_max: None,
            message_rate: None,
        }],
        grace: limits::GRACE,
        log_format: config::LogFormat::Json,
        tracing: config::Tracing::default(),
        limits: config::Limits::default(),
        drain: config::Drain::default(),
    }
}
