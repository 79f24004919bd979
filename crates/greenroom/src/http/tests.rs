//! One exchange by hand, with real sockets and a clock that goes by itself where nothing else happens.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greenroom_core::limits::HTTP_ANSWER;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::exchange::{Exchange, Outcome};
use super::flow::{Download, Upload};
use super::{Connection, Request};
use crate::config::{Flags, Layers, Purpose, load_bytes};
use crate::driver::{Driver, Parts};
use crate::front::Front;
use crate::head::{BodyFraming, BodyReader, parse_head};
use crate::opening::Watched;
use crate::registry::Registry;
use crate::resolve::Names;
use crate::stream::Stream;
use crate::telemetry::{Format, Log};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (theirs, listener.accept().await.unwrap().0)
}

/// What stands behind a listener: one backend and one route. Its owner task does not run.
pub(crate) fn front() -> Front {
    let layers = Layers {
        file: None,
        variables: Vec::new(),
        flags: Flags::default(),
        purpose: Purpose::Serve,
    };
    let text = b"[backend.test]\naddress = \"127.0.0.1:1\"\n".to_vec();
    let config = Arc::new(load_bytes("test.toml", text, &layers).unwrap().config);
    let log = Log::start(Format::Json);
    let registry = Registry::new(log.clone(), 1024, &crate::config::Limits::default());
    let address: crate::config::Address = "127.0.0.1:1".parse().unwrap();
    let (_driver, backend, _wants) = Driver::new(Parts {
        config: Arc::clone(&config),
        backend: 0,
        names: Names::new(&address, log.clone()),
        address,
        plan: greenroom_core::readiness::Plan::plain(greenroom_core::backend::Source::Notify, false),
        starts: greenroom_core::starts::Starts::default(),
        registry: Arc::clone(&registry),
        log,
    });
    Front {
        registry,
        config,
        backends: [Arc::new(backend)].into(),
        listener: 0,
        hash: std::hash::RandomState::new(),
        seed: 1,
        drain: watch::channel(None).1,
    }
}

/// What comes of a request with a body of three bytes, of which one comes now and one each `HTTP_ANSWER` × 2/3, of
/// which the backend waits for so many.
async fn uploaded(waits_for: usize) -> Outcome {
    let front = front();
    let (mut client, ours) = pair().await;
    let (mut backend, stream) = pair().await;
    let request = Request {
        front: &front,
        backend: front.backend(0),
        route: &front.config.routes[0],
        route_index: 0,
        peer: [127, 0, 0, 1].into(),
        kind: Arc::new(parse_head(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").unwrap()),
        client: Watched::new(ours),
        record: Arc::clone(front.registry.accept([127, 0, 0, 1].into()).unwrap().record()),
    };
    let connection = Connection {
        stream: Stream::Tcp(stream),
        descriptor: front.registry.descriptor(),
        is_reused: false,
        era: 0,
    };
    let exchange = Exchange::new(&request, connection, Vec::new());
    let sends = async {
        client.write_all(b"a").await.unwrap();
        for byte in [b"b", b"c"] {
            tokio::time::sleep(HTTP_ANSWER * 2 / 3).await; // tidy: allow-sleep the clock goes by itself here
            client.write_all(byte).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let answers = async {
        backend.read_exact(&mut vec![0; waits_for]).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        backend.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = exchange.run(None) => outcome,
        () = sends => unreachable!(),
        () = answers => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_for_an_answer_begins_when_the_request_is_whole() {
    assert!(matches!(uploaded(3).await, Outcome::Answered { persists: true }));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_a_whole_request_in_time_is_given_up() {
    let begun = tokio::time::Instant::now();
    let late = uploaded(4).await;
    assert!(matches!(
        late,
        Outcome::Refused(greenroom_core::event::Refusal::Unanswered, _)
    ));
    assert!(begun.elapsed() >= HTTP_ANSWER * 7 / 3, "{:?}", begun.elapsed());
}

/// The most that a client takes between two turns of somebody else on the thread that carries a large answer, or,
/// the other way round, that a backend takes of a large request.
async fn most_in_one_turn(up: bool) -> u64 {
    const LENGTH: usize = 512 << 20;
    let (far_client, client) = pair().await;
    let (far_backend, backend) = pair().await;
    let backend = Stream::Tcp(backend);
    let (mut from, mut to) = (far_backend.into_std().unwrap(), far_client.into_std().unwrap());
    if up {
        std::mem::swap(&mut from, &mut to);
    }
    from.set_nonblocking(false).unwrap();
    to.set_nonblocking(false).unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let sends = std::thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        (0..LENGTH >> 20).for_each(|_| from.write_all(&piece).unwrap());
        from
    });
    let takes = std::thread::spawn(move || {
        let mut piece = vec![0; 1 << 20];
        while count.load(Ordering::SeqCst) < LENGTH as u64 {
            count.fetch_add(to.read(&mut piece).unwrap() as u64, Ordering::SeqCst);
        }
        to
    });
    let reader = BodyReader::new(BodyFraming::Length(LENGTH as u64));
    let carries = async {
        if up {
            let mut upload = Upload {
                unsent: Vec::new(),
                reader,
                left: None,
                patience: HTTP_ANSWER,
                is_untouched: true,
                is_polled: false,
            };
            upload.run(&client, &backend).await
        } else {
            let (dechunk, has_surplus) = (false, false);
            let mut download = Download {
                reader,
                dechunk,
                has_surplus,
            };
            download.run(&backend, &client).await
        }
    };
    let others = async {
        let (mut most, mut before) = (0, 0);
        while before < LENGTH as u64 {
            tokio::task::yield_now().await;
            let now = taken.load(Ordering::SeqCst);
            most = most.max(now - before);
            before = now;
        }
        most
    };
    let (carried, most) = tokio::join!(carries, others);
    carried.unwrap();
    drop((sends.join().unwrap(), takes.join().unwrap()));
    most
}

/// What the sockets hold beside what is carried in a turn is a few MiB.
#[tokio::test]
async fn a_large_body_leaves_turns_to_the_others_of_its_thread() {
    for up in [false, true] {
        let most = most_in_one_turn(up).await;
        assert!(most < 32 << 20, "{} MiB in one turn, up: {up}", most >> 20);
    }
}
