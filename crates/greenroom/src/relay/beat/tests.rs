//! What is read while an answer is missing, and what a socket tells.

mod relayed;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use greenroom_core::watch::Seen;
use greenroom_core::wire::{Scanner, pong_frame};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::config::{Flags, Layers, Purpose, load_bytes};
use crate::registry::Registry;
use crate::telemetry::{Format, Log};

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// Gives one piece with each read, and a FIN behind the last.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0.pop_front() {
            Some(piece) if piece.is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            piece => {
                buf.put_slice(&piece.unwrap_or_default());
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// A connection that is watched.
fn pulse() -> Arc<Pulse> {
    let text = "[backend.app]\naddress = \"127.0.0.1:1\"\n[[route]]\nping_interval = \"1s\"\n";
    let layers = Layers {
        purpose: Purpose::Check,
        variables: Vec::new(),
        flags: Flags::default(),
        file: None,
    };
    let config = Arc::new(load_bytes("test", text.into(), &layers).unwrap().config);
    let registry = Registry::new(Log::start(Format::Json), 1024, &config.limits);
    let entry = registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    Pulse::of(entry.record(), RouteOf::new(&config, 0), clock::now(), 7).unwrap()
}

#[tokio::test]
async fn own_pongs_are_no_end_of_the_stream_and_what_only_begins_as_one_passes_at_its_end() {
    let pulse = pulse();
    let mut own = OwnPongs::new(Scanner::new(Sender::Client, false), Sender::Client, 7);
    let payload = own.ping();
    pulse.pinged(Sender::Client, clock::now());
    let pong = pong_frame(&payload, KEY).unwrap().to_vec();
    let text = b"\x81\x81\0\0\0\0a".to_vec();
    let later = own.ping(); // unanswered to the end
    let half = pong_frame(&later, KEY).unwrap()[..9].to_vec();
    let pieces = [
        pong[..5].to_vec(),
        Vec::new(),
        pong[5..].to_vec(),
        Vec::new(),
        text.clone(),
        half.clone(),
    ];
    let mut beats = Some(Box::new(Beats {
        client: Some(own),
        backend: None,
    }));
    let mut from = Pieces(pieces.into());
    let Ok(mut answers) = Answers::of(Sender::Client, &mut from, &mut beats, Some(&pulse)) else {
        panic!("an answer is missing");
    };
    let mut seen = Vec::new();
    answers.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, [text, half].concat());
    let told: Seen = pulse.seen();
    assert_eq!(
        told.client.pongs, 3,
        "one answer, and two pieces that were kept back: any byte is a sign of life"
    );
    assert!(told.client.pinged.is_some(), "the last is unanswered");
}

#[tokio::test]
async fn who_waits_for_no_answer_reads_as_it_is() {
    let pulse = pulse();
    let mut own = OwnPongs::new(Scanner::new(Sender::Client, false), Sender::Client, 7);
    let payload = own.ping();
    pulse.pinged(Sender::Client, clock::now());
    let mut beats = Some(Box::new(Beats {
        client: Some(own),
        backend: None,
    }));
    let mut backend = Pieces(VecDeque::new());
    assert!(
        Answers::of(Sender::Backend, &mut backend, &mut beats, Some(&pulse)).is_err(),
        "it was not pinged"
    );
    let mut from = Pieces([pong_frame(&payload, KEY).unwrap().to_vec()].into());
    if let Ok(mut answers) = Answers::of(Sender::Client, &mut from, &mut beats, Some(&pulse)) {
        assert_eq!(answers.read(&mut [0; 100]).await.unwrap(), 0);
    }
    assert_eq!((pulse.seen().client.pinged, pulse.seen().client.pongs), (None, 1));
    assert!(Answers::of(Sender::Client, &mut from, &mut beats, Some(&pulse)).is_err());
    assert!(beats.is_none(), "nothing is kept of it");
}

#[tokio::test]
async fn what_lies_unread_in_a_socket_is_seen_and_an_end_too() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    assert!(!has_unread(&socket));
    client.write_all(b"x").unwrap();
    socket.peek(&mut [0]).unwrap(); // it has arrived
    assert!(has_unread(&socket));
    let (there, mut here) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(!has_unread(&there));
    here.write_all(b"x").unwrap();
    assert!(has_unread(&there));
    let mut socket = socket;
    std::io::Read::read_exact(&mut socket, &mut [0]).unwrap();
    assert!(!has_unread(&socket));
    drop(client);
    socket.peek(&mut [0]).unwrap(); // its end has come
    assert!(has_unread(&socket));
}

#[test]
fn what_the_other_end_has_not_acknowledged_is_counted() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    assert_eq!(undelivered(&socket), 0);
    socket.set_nonblocking(true).unwrap();
    let piece = [0; 60_000];
    let mut written = 0;
    while let Ok(more) = socket.write(&piece) {
        written += more;
    }
    let waits = undelivered(&socket);
    assert!(waits > 10_000 && waits <= written, "{waits} of {written}");
    drop(client);
}
