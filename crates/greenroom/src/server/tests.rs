//! The house put together by hand, with real sockets, where a test has to hold one of its parts:
//! a resolver that hangs, a probe with a slow interval.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_core::backend::{Input, Source};
use greenroom_core::event::{Generation, State};
use greenroom_core::gate::Trust;
use greenroom_core::limits::{READY_DOUBT, RESOLVE_TIMEOUT};
use greenroom_core::readiness::Plan;
use greenroom_core::starts::Starts;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::prober::Prober;
use crate::config::{Address, Config, Flags, Layers, Purpose, load_bytes};
use crate::driver::{Driver, Gateway, Inbox, Message, Parts, Wants};
use crate::front::{Backend, Front};
use crate::listener;
use crate::probe::Of;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::telemetry::{Format, Log};
use crate::threads::Threads;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(20);
/// The key and the answer of RFC 6455 §1.3.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A backend whose name is looked up like this, in front of which clients are held for so long at the most.
struct Parted {
    driver: Driver,
    backend: Backend,
    wants: Wants,
    config: Arc<Config>,
    registry: Arc<Registry>,
}

fn parted<F>(hold_timeout: &str, look_up: impl Fn() -> F + Send + 'static) -> Parted
where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    parted_of(
        Registry::new(Log::start(Format::Json), 1024, &crate::config::Limits::default()),
        hold_timeout,
        look_up,
    )
}

/// The same, with books that others keep too, or with few descriptors.
fn parted_of<F>(registry: Arc<Registry>, hold_timeout: &str, look_up: impl Fn() -> F + Send + 'static) -> Parted
where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let text = format!(
        "[backend.test]\naddress = \"backend.test:1\"\nready = \"http:/\"\n[[route]]\nhold_timeout = \"{hold_timeout}\"\n"
    );
    let layers = Layers {
        file: None,
        variables: Vec::new(),
        flags: Flags::default(),
        purpose: Purpose::Serve,
    };
    let config = Arc::new(load_bytes("test.toml", text.into_bytes(), &layers).unwrap().config);
    let log = Log::start(Format::Json);
    let (driver, backend, wants) = Driver::new(Parts {
        config: Arc::clone(&config),
        backend: 0,
        address: "backend.test:1".parse().unwrap(),
        names: Names::looked_up("backend.test".into(), log.clone(), look_up),
        plan: Plan::plain(Source::Probe(Trust::Pushed), false),
        starts: Starts::default(),
        registry: Arc::clone(&registry),
        log,
    });
    Parted {
        driver,
        backend,
        wants,
        config,
        registry,
    }
}

impl Parted {
    /// Runs it behind a listener; says where, where to tell the driver things, and what tells the prober.
    async fn run(self) -> (SocketAddr, Arc<Inbox>, Wants) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(None);
        std::mem::forget(drain); // nobody drains; its end would not be that
        let inbox = Arc::clone(&self.backend.inbox);
        let front = Arc::new(Front {
            registry: self.registry,
            config: self.config,
            backends: [Arc::new(self.backend)].into(),
            listener: 0,
            hash: std::hash::RandomState::new(),
            seed: 1,
            drain: draining,
        });
        tokio::spawn(self.driver.run());
        tokio::spawn(listener::accept(
            listener,
            Arc::new(Threads::here()),
            listener::Door::new(front),
            Log::start(Format::Json),
        ));
        (address, inbox, self.wants)
    }
}

/// A client that has knocked.
async fn knock(at: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    client
}

/// A head, read to its end.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(SOON, reading).await.unwrap();
    String::from_utf8(head).unwrap()
}

fn ready() -> Message {
    Message::signal(Input::Verdict(Generation(0), true), "test")
}

#[tokio::test]
async fn a_hold_ends_in_time_while_the_look_up_of_the_backends_name_hangs() {
    let (at, inbox, _wants) = parted("50ms", pending).run().await;
    inbox.tell(ready());
    let began = Instant::now();
    let mut client = knock(at).await;
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("hold_timeout"),
        "the backend left nothing unanswered: {answer}"
    );
    assert!(
        began.elapsed() < RESOLVE_TIMEOUT,
        "it did not wait for the resolver: {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn who_comes_before_the_name_is_looked_up_is_held_and_let_in_when_it_is() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = backend.local_addr().unwrap();
    let answers = Arc::new(Notify::new());
    let asked = Arc::clone(&answers);
    let parted = parted("20s", move || {
        let asked = Arc::clone(&asked);
        async move {
            asked.notified().await;
            Ok(vec![found])
        }
    });
    let registry = Arc::clone(&parted.registry);
    let (at, inbox, _wants) = parted.run().await;
    inbox.tell(ready());
    let mut client = knock(at).await;
    // The resolver answers when the dial is ordered: the tasks of this one thread have had their turns by then.
    while registry.count(State::Held) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    answers.notify_one();
    let (mut dialled, _) = tokio::time::timeout(SOON, backend.accept()).await.unwrap().unwrap();
    assert!(head(&mut dialled).await.contains("Greenroom-Attempt: 1"));
    dialled.write_all(SWITCHING.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
}

/// Waits for what other tasks of this thread bring about.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, waited).await.expect(what);
}

/// A backend that takes one connection beside those that it has accepted: the next hangs in the kernel.
fn narrow() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// Lets one client in, until the gate is sure; then fills the backend's queue, so that no further dial is answered.
async fn sure_and_full(at: SocketAddr, inbox: &Inbox, backend: &TcpListener) -> Vec<TcpStream> {
    inbox.tell(ready());
    let mut first = knock(at).await;
    let (mut dialled, _) = tokio::time::timeout(SOON, backend.accept()).await.unwrap().unwrap();
    head(&mut dialled).await;
    dialled.write_all(SWITCHING.as_bytes()).await.unwrap();
    assert!(head(&mut first).await.starts_with("HTTP/1.1 101 "));
    until("the gate is sure", || inbox.is_free(0)).await;
    let mut kept = vec![first, dialled];
    let found = backend.local_addr().unwrap();
    while let Ok(other) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(found)).await {
        kept.push(other.unwrap());
    }
    kept
}

#[tokio::test]
async fn a_plain_request_does_not_overtake_a_session_that_is_let_in_and_whose_head_is_not_written() {
    let backend = narrow();
    let found = backend.local_addr().unwrap();
    let parted = parted("20s", move || async move { Ok(vec![found]) });
    let standing = parted.backend.standing.clone();
    let (at, inbox, _wants) = parted.run().await;
    let _kept = sure_and_full(at, &inbox, &backend).await;
    let _second = knock(at).await;
    until("somebody is on the way", || !inbox.is_free(0)).await;
    assert_eq!(
        standing.borrow().gate,
        Gateway::Open,
        "and the gate did not shut for it"
    );
}

/// Else a far backend would never see a kept connection again after one opening handshake: while one request is
/// dialled another comes, and is dialled too.
#[tokio::test]
async fn a_plain_request_that_is_dialled_keeps_no_other_from_the_pool() {
    let backend = narrow();
    let found = backend.local_addr().unwrap();
    let parted = parted("20s", move || async move { Ok(vec![found]) });
    let (standing, registry) = (parted.backend.standing.clone(), Arc::clone(&parted.registry));
    let (at, inbox, _wants) = parted.run().await;
    let _kept = sure_and_full(at, &inbox, &backend).await;
    let websocket = knock(at).await;
    until("it is on its way", || !inbox.is_free(0)).await;
    let mut page = TcpStream::connect(at).await.unwrap();
    page.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until("so is the page, behind it", || registry.count(State::Held) == 2).await;
    drop(websocket);
    until("the next may go past the page", || inbox.is_free(0)).await;
    assert_eq!(
        (standing.borrow().gate, registry.count(State::Held)),
        (Gateway::Open, 1),
        "which still waits for its connection"
    );
}

#[tokio::test]
async fn who_waits_for_a_descriptor_gets_the_next_though_another_backends_owner_waits_for_none() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = backend.local_addr().unwrap();
    let registry = Registry::new(Log::start(Format::Json), 4, &crate::config::Limits::default());
    let parted = parted_of(Arc::clone(&registry), "20s", move || async move { Ok(vec![found]) });
    let other = parted_of(Arc::clone(&registry), "20s", pending);
    let quiet = Arc::clone(&other.backend.inbox);
    tokio::spawn(other.driver.run());
    let (at, inbox, _wants) = parted.run().await;
    inbox.tell(ready());
    let used: Vec<_> = (0..registry.spare() - 1).map(|_| registry.descriptor()).collect();
    let mut client = knock(at).await;
    until("it is held for want of a descriptor", || {
        registry.count(State::Held) == 1 && registry.spare() == 0
    })
    .await;
    for _ in 0..100 {
        quiet.tell(Message::Said("this owner has its turns too".into()));
        tokio::task::yield_now().await;
    }
    drop(used);
    let (mut dialled, _) = tokio::time::timeout(SOON / 4, backend.accept())
        .await
        .expect("it is let in")
        .unwrap();
    head(&mut dialled).await;
    dialled.write_all(SWITCHING.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn an_owner_that_waits_for_a_name_and_for_descriptors_lets_others_run() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = backend.local_addr().unwrap();
    let answers = Arc::new(Notify::new());
    let asked = Arc::clone(&answers);
    let registry = Registry::new(Log::start(Format::Json), 8, &crate::config::Limits::default());
    let parted = parted_of(Arc::clone(&registry), "20s", move || {
        let asked = Arc::clone(&asked);
        async move {
            asked.notified().await;
            Ok(vec![found])
        }
    });
    let (at, inbox, _wants) = parted.run().await;
    let (_first, _second) = (knock(at).await, knock(at).await);
    until("both are held", || registry.count(State::Held) == 2).await;
    // Room for one dial: it is ordered, and waits for the name; the other waits for a descriptor.
    let _used: Vec<_> = (0..registry.spare() - 1).map(|_| registry.descriptor()).collect();
    inbox.tell(ready());
    let began = Instant::now();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let took = began.elapsed();
    assert!(
        took < READY_DOUBT / 2,
        "it kept this thread until the gate doubted its READY: {took:?}"
    );
    answers.notify_one();
    let (mut dialled, _) = tokio::time::timeout(SOON, backend.accept()).await.unwrap().unwrap();
    head(&mut dialled).await;
}

#[tokio::test]
async fn a_probe_looks_once_more_before_a_hold_ends_and_the_client_is_let_in() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = backend.local_addr().unwrap().to_string().parse().unwrap();
    let found = backend.local_addr().unwrap();
    let mut parted = parted("3s", move || async move { Ok(vec![found]) });
    // It would look once an hour. The hold is long and the look is early, so that a busy machine makes no difference.
    parted.driver.look_ahead(Duration::from_millis(2500));
    let (at, inbox, wants) = parted.run().await;
    let prober = Prober {
        ready: "http:/ready".parse().unwrap(),
        address,
        of: Of::Anyone,
        lives: Arc::default(),
        inbox,
        log: Log::start(Format::Json),
    };
    tokio::spawn(prober.run_every(Some(Duration::from_secs(3600)), wants));
    let mut looks = 0;
    let mut client = None;
    let served = async {
        loop {
            let (mut stream, _) = backend.accept().await.unwrap();
            if !head(&mut stream).await.starts_with("GET /ready ") {
                stream.write_all(SWITCHING.as_bytes()).await.unwrap();
                return stream;
            }
            looks += 1;
            // Not ready at the one look of the grid; the client comes behind it.
            let status = if looks == 1 { "503 Not yet" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if client.is_none() {
                client = Some(knock(at).await);
            }
        }
    };
    let _backend = tokio::time::timeout(SOON, served)
        .await
        .expect("it is looked at again, and the client let in");
    assert_eq!(looks, 2, "one look of the grid, and the last look");
    assert!(head(&mut client.unwrap()).await.starts_with("HTTP/1.1 101 "));
}
