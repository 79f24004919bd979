//! A relay that is told by the watch what was true when it looked, and sees for itself before it acts.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream as Peer};
use std::sync::Arc;

use greenroom_core::backend::Source;
use greenroom_core::event::{CloseCause, State};
use greenroom_core::gate::Trust;
use greenroom_core::readiness::Plan;
use greenroom_core::starts::Starts;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::driver::{Driver, Parts};
use crate::opening::Switched101;
use crate::relay::{begin, pipe::Pipe};
use crate::resolve::Names;
use crate::stream::Stream;

/// A relay that nobody polls, and the other ends of its connections.
struct Relayed {
    session: Box<Session>,
    client: Peer,
    backend: Peer,
    registry: Arc<Registry>,
}

/// Two ends of a connection: the peer's, and greenroom's.
fn connection() -> (Peer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (peer, TcpStream::from_std(ours).unwrap())
}

/// By a route with these keys.
fn relayed(route: &str) -> Relayed {
    let text = format!("[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\n{route}\n");
    let layers = Layers {
        purpose: Purpose::Check,
        variables: Vec::new(),
        flags: Flags::default(),
        file: None,
    };
    let config = Arc::new(load_bytes("test", text.into(), &layers).unwrap().config);
    let log = Log::start(Format::Json);
    let registry = Registry::new(log.clone(), 1024, &config.limits);
    let address: crate::config::Address = "127.0.0.1:1".parse().unwrap();
    let (_driver, at, _) = Driver::new(Parts {
        config: Arc::clone(&config),
        backend: 0,
        names: Names::new(&address, log.clone()),
        address,
        plan: Plan::plain(Source::Probe(Trust::Pushed), false),
        starts: Starts::default(),
        registry: Arc::clone(&registry),
        log,
    });
    let front = Arc::new(Front {
        registry: Arc::clone(&registry),
        config,
        backends: [Arc::new(at)].into(),
        listener: 0,
        hash: std::hash::RandomState::new(),
        seed: 1,
        drain: watch::channel(None).1,
    });
    let ((client, of_client), (backend, of_backend)) = (connection(), connection());
    let mut entry = registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    for state in [State::Held, State::Dialing, State::Relaying] {
        entry.enter(state);
    }
    let switched = Switched101 {
        stream: Stream::Tcp(of_backend),
        descriptor: registry.descriptor(),
        rsv1: false,
        early: Vec::new(),
        since: clock::now(),
    };
    Relayed {
        session: begin(front, 0, of_client, (switched, None), entry),
        client,
        backend,
        registry,
    }
}

impl Relayed {
    fn peer(&mut self, side: Sender) -> &mut Peer {
        match side {
            Sender::Client => &mut self.client,
            Sender::Backend => &mut self.backend,
        }
    }

    /// Waits until there is something to read.
    async fn has_come(&self, side: Sender) {
        let Stream::Tcp(backend) = &self.session.backend else {
            panic!("it is TCP");
        };
        let socket = match side {
            Sender::Client => &self.session.client,
            Sender::Backend => backend,
        };
        socket.readable().await.unwrap();
    }

    fn is_pinged(&mut self, side: Sender) -> bool {
        assert!(self.session.heed(Word::Ping(side)).is_none());
        let seen = self.session.pulse.as_ref().unwrap().seen();
        match side {
            Sender::Client => seen.client.pinged.is_some(),
            Sender::Backend => seen.backend.pinged.is_some(),
        }
    }
}

const PINGED: &str = "ping_interval = \"1s\"\nping_timeout = \"1s\"\nping_backend = \"close\"";

/// What it has sent lies there because greenroom did not read it: that is no silence of its own. Its end is told as one.
#[tokio::test]
async fn who_has_left_something_to_read_is_not_dead() {
    for side in [Sender::Client, Sender::Backend] {
        let dead = Word::Close(Over::Dead(side));
        let mut speaks = relayed(PINGED);
        speaks.peer(side).write_all(b"\x8a\x00").unwrap();
        speaks.has_come(side).await;
        assert!(speaks.session.heed(dead).is_none(), "{side:?} has answered");

        let mut ends = relayed(PINGED);
        ends.peer(side).shutdown(std::net::Shutdown::Write).unwrap();
        ends.has_come(side).await;
        assert!(ends.session.heed(dead).is_none(), "{side:?} has ended by itself");

        let mut silent = relayed(PINGED);
        assert!(silent.session.heed(dead).is_some());
    }
}

#[tokio::test]
async fn nobody_is_pinged_while_something_waits_to_be_written_or_the_client_is_not_read_yet() {
    for side in [Sender::Client, Sender::Backend] {
        assert!(relayed(PINGED).is_pinged(side));
        let mut up = relayed(PINGED);
        up.session.up.append(b"x");
        assert!(!up.is_pinged(side), "something waits for the backend");
        let mut down = relayed(PINGED);
        down.session.down.append(b"x");
        assert!(!down.is_pinged(side), "something waits for the client");
        let mut unread = relayed(&format!("{PINGED}\nforward_after = \"1s\""));
        assert!(!unread.is_pinged(side), "an answer of the client's would lie unread");
    }
}

/// How long the client takes to answer is told of it, and not how long its backend does.
#[tokio::test]
async fn an_answer_of_the_backends_is_no_round_trip_of_the_client() {
    let mut relayed = relayed(PINGED);
    for (side, is_told) in [(Sender::Backend, false), (Sender::Client, true)] {
        assert!(relayed.is_pinged(side));
        let pulse = relayed.session.pulse.clone().unwrap();
        pulse.answered(side, 1, true, clock::now());
        assert_eq!(relayed.session.entry.record().ping().is_some(), is_told);
        relayed.session.down = Pipe::default(); // the ping is written
        relayed.session.up = Pipe::default();
    }
}

const SLOW: &str = "slow = \"close\"\nslow_bytes = \"16KiB\"";

#[tokio::test]
async fn who_has_taken_all_that_greenroom_kept_or_for_whom_little_waits_is_not_slow() {
    let slow = Word::Close(Over::Slow);
    let mut little = relayed(SLOW);
    little.session.down.append(b"x");
    assert!(little.session.heed(slow).is_none());

    let mut taken = relayed(SLOW);
    let piece = [0; 60_000];
    taken.session.client.writable().await.unwrap();
    while taken.session.client.try_write(&piece).is_ok() {}
    assert!(taken.session.heed(slow).is_none(), "all is the kernel's by now");
    taken.session.down.append(b"x");
    assert!(taken.session.heed(slow).is_some());
}

#[tokio::test]
async fn what_waits_for_a_client_is_told_when_it_begins_to_and_when_it_is_taken() {
    let mut relayed = relayed(SLOW);
    let since = |session: &Session| session.pulse.as_ref().unwrap().seen().waits_since;
    relayed.session.tell_kept();
    assert_eq!(since(&relayed.session), None);
    relayed.session.down.append(b"x");
    relayed.session.tell_kept();
    assert!(since(&relayed.session).is_some());
    relayed.session.down = Pipe::default();
    relayed.session.tell_kept();
    assert_eq!(since(&relayed.session), None);
}

/// A backend that falls silent inside of a frame has cut its client off, and that is told as such.
#[tokio::test]
async fn a_dead_backend_is_named_as_the_cause_only_between_frames() {
    for (frame, cause) in [
        (&b"\x82\x01x"[..], Some(CloseCause::BackendLost)),
        (b"\x82\x7f\0\0\0\0\x01\0\0\0x", None),
    ] {
        let mut relayed = relayed(PINGED);
        relayed.session.relay.backend_bytes(frame);
        assert!(relayed.session.heed(Word::Close(Over::Dead(Sender::Backend))).is_some());
        relayed.session.entry.ends(CloseCause::LostMidFrame); // as the relay's end does
        let registry = Arc::clone(&relayed.registry);
        drop(relayed);
        let closed = registry.last_closed();
        assert_eq!(closed[0].cause, cause.unwrap_or(CloseCause::LostMidFrame));
    }
}
