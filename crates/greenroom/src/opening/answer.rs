//! The backend's answer to a dial: read it, judge it, and give it to the client
//! when the gate says so.

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{ANSWER_PIECE, ANSWER_TIMEOUT, CLOSE_HANDSHAKE, INTERIM_MAX, RELAY_BUFFER};
use greenroom_core::session::{Answer, relay};
use greenroom_core::time::Time;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::accepted::Gone;
use super::guest::Guest;
use super::hold::Place;
use super::refuse;
use crate::clock;
use crate::dial::Dialled;
use crate::driver::{Message, Order, Orders};
use crate::head::{self, After, Asked, BodyFraming, BodyReader, Edits, With};
use crate::registry::{Descriptor, Entry, Record};
use crate::scratch::with_scratch;
use crate::stream::Stream;

/// A backend connection whose 101 was validated: the only key to the relay.
#[derive(Debug)]
pub(crate) struct Switched101 {
    pub(crate) stream: Stream,
    pub(crate) descriptor: Descriptor,
    /// permessage-deflate, or an extension of which nothing is known, was agreed.
    pub(crate) rsv1: bool,
    /// What the backend sent behind its 101.
    pub(crate) early: Vec<u8>,
    /// When the backend gave it.
    pub(crate) since: Time,
}

/// What became of a dial.
pub(super) enum Outcome {
    Forward(Received),
    Requeued,
    Refused(Refusal, usize),
    Left(Gone),
}

/// An answer that the client may have.
pub(super) enum Received {
    /// A 101, as the client gets it.
    Switched {
        head: Vec<u8>,
        said: Said,
        switched: Switched101,
    },
    /// Any other answer.
    Status {
        status: u16,
        head: Vec<u8>,
        body: BodyFraming,
        begun: Vec<u8>,
        stream: Stream,
        descriptor: Descriptor,
    },
    /// None, or none that makes sense.
    Nothing(String),
}

/// What a 101 says that matters to who has one already, or will have one before the server's.
pub(super) struct Said {
    pub(super) protocol: Option<Box<str>>,
    pub(super) sets_cookie: bool,
}

/// Reads the backend's answer, tells the gate, and waits for its word.
pub(super) async fn receive(
    (place, orders): (&Place, &mut Orders),
    (client, record): (&mut Guest, &Record),
    asked: Asked<'_>,
    edits: Edits<'_>,
    dialled: Dialled,
) -> Outcome {
    let Dialled {
        stream,
        rest,
        descriptor,
        ..
    } = dialled;
    let Ok(mut stream) = stream.watched() else {
        // The kernel has no memory for it: as if there were no descriptor.
        place.tell(Message::Answered(place.id, Answer::NoDescriptor));
        return outcome(orders.next().await, None);
    };
    let (answer, parsed) = tokio::select! {
        biased;
        word = orders.next() => return outcome(word, None),
        gone = client.gone(record) => return Outcome::Left(gone),
        read = read_answer(&mut stream, &rest, asked, edits) => read,
    };
    let mut told = judged(&parsed);
    // A Close that came with the 101 is the answer: nobody need see that 101 on trial.
    place.tell(Message::Answered(place.id, told.unwrap_or(answer)));
    let mut received = received(parsed, stream, descriptor);
    loop {
        let settling = async {
            match &mut received {
                Received::Switched { switched, .. } => settle(place, switched, &mut told).await,
                Received::Status { .. } | Received::Nothing(_) => std::future::pending().await,
            }
        };
        let word = tokio::select! {
            biased;
            word = orders.next() => word,
            gone = client.gone(record) => return Outcome::Left(gone),
            () = settling => return Outcome::Left(Gone::Left), // never: it does not end
        };
        match (word, &mut received) {
            (Some(Order::Look), Received::Switched { switched, .. }) => look(place, switched, &mut told),
            (word, _) => return outcome(word, Some(received)),
        }
    }
}

/// What already lies behind a 101 that was just read, if it proves anything.
fn judged(parsed: &Parsed) -> Option<Answer> {
    match parsed {
        Parsed::Switched { rsv1, early, .. } => relay::settling(early, *rsv1),
        Parsed::Status { .. } | Parsed::Nothing(_) => None,
    }
}

fn received(parsed: Parsed, stream: Stream, descriptor: Descriptor) -> Received {
    match parsed {
        Parsed::Switched {
            head,
            said,
            rsv1,
            early,
        } => Received::Switched {
            head,
            said,
            switched: Switched101 {
                stream,
                descriptor,
                rsv1,
                early,
                since: clock::now(),
            },
        },
        Parsed::Status {
            status,
            head,
            body,
            begun,
        } => Received::Status {
            status,
            head,
            body,
            begun,
            stream,
            descriptor,
        },
        Parsed::Nothing(why) => Received::Nothing(why),
    }
}

fn outcome(word: Option<Order>, received: Option<Received>) -> Outcome {
    match word {
        Some(Order::Forward) => Outcome::Forward(received.unwrap_or_else(|| Received::Nothing("no answer".into()))),
        Some(Order::Requeued) => Outcome::Requeued,
        Some(Order::Refuse(refusal, together)) => Outcome::Refused(refusal, together),
        // Never: not while a dial is under way, and not without a 101.
        Some(Order::Dialled(_) | Order::Look | Order::Accept | Order::Tell { .. }) => Outcome::Requeued,
        None => Outcome::Refused(Refusal::Draining, 1),
    }
}

/// Watches what a backend says behind its 101 while the gate makes up its mind,
/// and tells the gate the first thing that proves anything. Never ends by itself.
async fn settle(place: &Place, switched: &mut Switched101, told: &mut Option<Answer>) {
    while told.is_none() && switched.early.len() < RELAY_BUFFER {
        let ended = matches!(switched.stream.read_buf(&mut switched.early).await, Ok(0) | Err(_));
        judge(place, switched, ended, told);
    }
    std::future::pending::<()>().await; // enough is known; the rest stays in the kernel
}

/// The last look, when the settle is over: past tokio's readiness, as a Close may lie in the
/// socket of which the poller has not told yet, where greenroom itself was kept from running.
fn look(place: &Place, switched: &mut Switched101, told: &mut Option<Answer>) {
    if told.is_some() {
        return; // it is on its way to the gate
    }
    let mut ended = false;
    while told.is_none() && !ended && switched.early.len() < RELAY_BUFFER {
        let read = with_scratch(|scratch| {
            let (read, _) = rustix::net::recv(&switched.stream, &mut *scratch, RecvFlags::DONTWAIT)?;
            switched.early.extend_from_slice(&scratch[..read]);
            Ok(read)
        });
        match read {
            Err(Errno::AGAIN | Errno::INTR) => break,
            Ok(0) | Err(_) => ended = true,
            Ok(_) => {}
        }
        judge(place, switched, ended, told);
    }
    if told.is_none() {
        place.tell(Message::Answered(place.id, Answer::Stood));
    }
}

/// Tells the gate the first thing that proves anything.
fn judge(place: &Place, switched: &Switched101, ended: bool, told: &mut Option<Answer>) {
    let lost = ended.then_some(Answer::LostEarly);
    *told = relay::settling(&switched.early, switched.rsv1).or(lost);
    if let Some(answer) = *told {
        place.tell(Message::Answered(place.id, answer));
    }
}

enum Parsed {
    Switched {
        head: Vec<u8>,
        said: Said,
        rsv1: bool,
        early: Vec<u8>,
    },
    Status {
        status: u16,
        head: Vec<u8>,
        body: BodyFraming,
        begun: Vec<u8>,
    },
    Nothing(String),
}

/// Writes what is left of the head and reads the answer's head, interim answers left out.
async fn read_answer(stream: &mut Stream, rest: &[u8], asked: Asked<'_>, edits: Edits<'_>) -> (Answer, Parsed) {
    let mut bytes = Vec::new();
    if !rest.is_empty() && stream.write_all(rest).await.is_err() {
        return (
            Answer::Dropped,
            Parsed::Nothing("the backend closed the connection before the request was whole".into()),
        );
    }
    for interim in 0.. {
        match next_head(stream, &mut bytes, interim == 0).await {
            Ok(len) => {
                let behind = bytes.split_off(len);
                if let Some(result) = parsed(&head::parse_answer(&bytes, asked), edits, &behind) {
                    return result;
                }
                bytes = behind;
            }
            Err(NoHead::Dropped) => {
                return (
                    Answer::Dropped,
                    Parsed::Nothing("the backend closed the connection without an answer".into()),
                );
            }
            Err(NoHead::Nonsense(why)) => return nonsense(why),
        }
        if interim == INTERIM_MAX {
            break;
        }
    }
    nonsense(format!("the backend gave more than {INTERIM_MAX} interim answers"))
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The connection ended before a byte of an answer.
    Dropped,
    /// It is no head, or ended within one.
    Nonsense(String),
}

/// Reads until `bytes` begin with a complete head of an answer, and gives its length.
pub(crate) async fn next_head(stream: &Stream, bytes: &mut Vec<u8>, is_first: bool) -> Result<usize, NoHead> {
    let mut scanned = 0;
    loop {
        match head::answer_end(bytes, scanned) {
            Ok(Some(len)) => return Ok(len),
            Ok(None) => scanned = bytes.len(),
            Err(why) => return Err(NoHead::Nonsense(why.to_string())),
        }
        let read = async {
            stream.readable().await?;
            with_scratch(|scratch| {
                let room = scratch.len().min(ANSWER_PIECE);
                let read = stream.try_read(&mut scratch[..room])?;
                bytes.extend_from_slice(&scratch[..read]);
                Ok(read)
            })
        };
        match read.await {
            Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) if bytes.is_empty() && is_first => return Err(NoHead::Dropped),
            Ok(0) | Err(_) => {
                return Err(NoHead::Nonsense(
                    "the backend closed the connection within the head of its answer".into(),
                ));
            }
            Ok(_) => {}
        }
    }
}

/// A whole head, made into what the client may have of it; `None` when it is an
/// interim one. `behind` is what came after it.
fn parsed(answer: &head::Answer<'_>, edits: Edits<'_>, behind: &[u8]) -> Option<(Answer, Parsed)> {
    let mut head = Vec::new();
    let begun = behind.to_vec();
    Some(match answer {
        head::Answer::Switched(switched) => {
            switched.to_client(edits, &mut head);
            let rsv1 = switched.deflate() || switched.other_extension();
            (
                Answer::Switched,
                Parsed::Switched {
                    head,
                    said: Said {
                        protocol: switched.protocol().map(Into::into),
                        sets_cookie: switched.sets_cookie(),
                    },
                    rsv1,
                    early: begun,
                },
            )
        }
        head::Answer::Status(status) => {
            status.to_client(edits, After::Close, false, &mut head);
            (
                Answer::Status(status.status()),
                Parsed::Status {
                    status: status.status(),
                    head,
                    body: status.body(),
                    begun,
                },
            )
        }
        head::Answer::Nonsense(why) => nonsense(why.to_string()),
        head::Answer::Partial => nonsense("the backend's answer has a head without an end".into()),
        head::Answer::Interim(_) => return None,
    })
}

fn nonsense(why: String) -> (Answer, Parsed) {
    (Answer::Nonsense, Parsed::Nothing(why))
}

/// Gives the client what the backend said. A 101 leads to the relay; anything
/// else is passed on as plain HTTP, and nothing of the client is read any more.
pub(super) async fn pass_on(
    mut client: TcpStream,
    received: Received,
    entry: &mut Entry,
) -> Option<(TcpStream, Switched101)> {
    match received {
        Received::Switched { head, switched, .. } => {
            let written = tokio::time::timeout(CLOSE_HANDSHAKE, client.write_all(&head)).await;
            if matches!(written, Ok(Ok(()))) {
                return Some((client, switched));
            }
            entry.ends(CloseCause::ClientLost);
            None
        }
        Received::Status {
            head,
            body,
            begun,
            stream,
            descriptor,
            ..
        } => {
            entry.enter(State::Closing);
            let passing = pass_body(&mut client, &head, body, &begun, stream);
            match tokio::time::timeout(ANSWER_TIMEOUT, passing).await {
                Ok(Ok(())) => {
                    entry.ends(CloseCause::PassedOn);
                    refuse::linger(&mut client).await;
                }
                Ok(Err(error)) => entry.ends_with(CloseCause::PassedOn, format!("not to its end: {error}")),
                Err(_) => entry.ends(CloseCause::TimedOut),
            }
            drop(descriptor);
            None
        }
        Received::Nothing(why) => {
            entry.refused(Refusal::BadAnswer, Some(why));
            entry.enter(State::Closing);
            refuse::plain(client, Refusal::BadAnswer, With::default()).await;
            None
        }
    }
}

async fn pass_body(
    client: &mut TcpStream,
    head: &[u8],
    body: BodyFraming,
    begun: &[u8],
    mut stream: Stream,
) -> std::io::Result<()> {
    let mut reader = BodyReader::new(body);
    client.write_all(head).await?;
    let mut piece = begun.to_vec();
    while !reader.is_done() {
        if piece.is_empty() {
            piece.reserve(8192);
            if stream.read_buf(&mut piece).await? == 0 {
                if reader.may_end() {
                    break;
                }
                return Err(std::io::Error::other("the backend ended its answer too early"));
            }
        }
        let taken = reader.take(&piece).map_err(std::io::Error::other)?;
        client.write_all(&piece[..taken.bytes]).await?;
        piece.clear();
    }
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::driver::Inbox;
    use crate::registry::Registry;
    use crate::telemetry::{Format, Log};

    /// A 101 that has settled, and the backend's end of it.
    fn settled(inbox: &Arc<Inbox>) -> (Place, Switched101, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (own, _) = listener.accept().unwrap();
        own.set_nonblocking(true).unwrap();
        let switched = Switched101 {
            stream: Stream::Tcp(TcpStream::from_std(own).unwrap()),
            descriptor: Registry::new(Log::start(Format::Json), 1024, &crate::config::Limits::default()).descriptor(),
            rsv1: false,
            early: Vec::new(),
            since: clock::now(),
        };
        (Place::of(inbox), switched, backend)
    }

    /// What the gate is told by a last look, with this in the socket and no turn of the poller in between.
    fn told_of(bytes: &[u8], ends: bool) -> Answer {
        let inbox = Arc::new(Inbox::default());
        let (place, mut switched, mut backend) = settled(&inbox);
        backend.write_all(bytes).unwrap();
        if ends {
            backend.shutdown(std::net::Shutdown::Write).unwrap();
        }
        look(&place, &mut switched, &mut None);
        let mut messages = Vec::new();
        inbox.take(&mut messages);
        match messages[..] {
            [Message::Answered(_, answer)] => answer,
            _ => panic!("one answer, not {messages:?}"),
        }
    }

    #[tokio::test]
    async fn a_last_look_sees_what_lies_in_the_socket_before_the_poller_has_told_of_it() {
        let close = [0x88, 2, 0x03, 0xf3];
        assert_eq!(told_of(&close, false), Answer::LostEarly);
        assert_eq!(told_of(&[&[0x89, 0][..], &close].concat(), false), Answer::LostEarly);
        assert_eq!(told_of(b"", true), Answer::LostEarly);
        assert_eq!(
            told_of(&[0x89, 0], true),
            Answer::LostEarly,
            "a ping, and its end behind it"
        );
        assert_eq!(told_of(&[0x81, 1, b'x'], false), Answer::Spoke);
        assert_eq!(told_of(&[0x89, 0], false), Answer::Stood, "a ping says nothing");
        assert_eq!(told_of(b"", false), Answer::Stood);
    }

    #[tokio::test]
    async fn what_was_told_already_is_not_told_again() {
        let inbox = Arc::new(Inbox::default());
        let (place, mut switched, _backend) = settled(&inbox);
        look(&place, &mut switched, &mut Some(Answer::LostEarly));
        let mut messages = Vec::new();
        inbox.take(&mut messages);
        assert!(messages.is_empty(), "{messages:?}");
    }
}
